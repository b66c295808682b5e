/* The table of the set family: what COMMAND tells about it and the dispatcher enforces. */
#include "cmd/cmd.h"

const struct cmd_spec cmd_specs_set[] = {
    { 0 },
};
