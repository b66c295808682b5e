/* The slow log: the last commands that took longer than slowlog-log-slower-than. One lock; any thread. */
#ifndef KETTLE_SERVER_SLOWLOG_H
#define KETTLE_SERVER_SLOWLOG_H

#include "cmd/cmd.h"

struct slowlog;

struct slowlog *slowlog_new(void);
struct slowlog *slowlog_free(struct slowlog *l); /* NULL is fine; always NULL */
/* The client's thread. max: entries kept, older ones go. */
void slowlog_add(struct slowlog *l, const struct cmd_ctx *c, uint64_t usec, int64_t max);
void slowlog_reset(struct slowlog *l);
int64_t slowlog_len(struct slowlog *l);
void slowlog_reply(struct slowlog *l, struct reply *r, int64_t count); /* newest first; count < 0: all */

#endif
