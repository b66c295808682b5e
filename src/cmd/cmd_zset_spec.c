/* The table of the zset family: what COMMAND tells about it and the dispatcher enforces. */
#include "cmd/cmd.h"

const struct cmd_spec cmd_specs_zset[] = {
    { 0 },
};
