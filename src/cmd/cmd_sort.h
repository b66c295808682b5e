/* The commands that cmd_sort_spec.c lists. Dispatching thread; every shard is locked, since BY and GET name keys by what the
 * sorted value holds. */
#ifndef KETTLE_CMD_CMD_SORT_H
#define KETTLE_CMD_CMD_SORT_H

#include <stdbool.h>

#include "cmd/cmd_generic.h"

/* locale-collate, "" for what the environment says: the order of ALPHA from now on. False: there is no such locale. One caller at
 * a time. */
bool sort_set_locale(const char *name);
void sort_sort_command(struct cmd_ctx *c);
void sort_sort_ro_command(struct cmd_ctx *c);
int sort_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap);
int sort_ro_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap);

#endif
