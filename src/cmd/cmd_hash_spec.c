/* The table of the hash family: what COMMAND tells about it and the dispatcher enforces. */
#include "cmd/cmd.h"

const struct cmd_spec cmd_specs_hash[] = {
    { 0 },
};
