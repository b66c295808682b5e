/* The HyperLogLog family: the commands that cmd_hll_spec.c lists. Dispatching thread, shards of the keys locked. */
#ifndef KETTLE_CMD_CMD_HLL_H
#define KETTLE_CMD_CMD_HLL_H

#include "cmd/cmd_generic.h"
#include "data/hll.h"

/* The HyperLogLog under a key. NULL: absent, or (*ret_err) an error was replied: another type, or not a HyperLogLog. */
struct entry *hll_find(struct cmd_ctx *c, struct slice key, bool for_write, bool *ret_err);
void hll_corrupted(struct cmd_ctx *c); /* "INVALIDOBJ Corrupted HLL object detected" */

void hll_pfadd_command(struct cmd_ctx *c);
void hll_pfcount_command(struct cmd_ctx *c);
void hll_pfmerge_command(struct cmd_ctx *c);
void hll_pfdebug_command(struct cmd_ctx *c);
void hll_pfselftest_command(struct cmd_ctx *c);

#endif
