/* The table of the stream family: what COMMAND tells about it and the dispatcher enforces. */
#include "cmd/cmd.h"

const struct cmd_spec cmd_specs_stream[] = {
    { 0 },
};
