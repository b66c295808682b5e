/* The table of the sort family: what COMMAND tells about it and the dispatcher enforces. */
#include "cmd/cmd.h"

const struct cmd_spec cmd_specs_sort[] = {
    { 0 },
};
