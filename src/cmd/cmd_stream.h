/* What the files of the stream family share: IDs as arguments, entries as replies, and the commands that cmd_stream_spec.c lists.
 * All of it runs on the dispatching thread with the shards of the named keys locked. */
#ifndef KETTLE_CMD_CMD_STREAM_H
#define KETTLE_CMD_CMD_STREAM_H

#include "cmd/cmd_generic.h"
#include "data/stream.h"

/* An ID: "ms-seq", or "ms" with `missing_seq` for its second half; "-" and "+" the smallest and the largest. False: replied the
 * error. */
bool stream_arg_id(struct cmd_ctx *c, struct slice a, uint64_t missing_seq, struct stream_id *ret);
/* The same without "-" and "+". */
bool stream_arg_id_strict(struct cmd_ctx *c, struct slice a, uint64_t missing_seq, struct stream_id *ret);
/* The same, replying nothing. ret_auto_seq (may be NULL: not allowed): "ms-*" was given. */
bool stream_parse_id_strict(struct slice a, uint64_t missing_seq, struct stream_id *ret, bool *ret_auto_seq);
/* The ends of an interval, "(" in front of one that is not part of it; *ret is inside. */
bool stream_arg_start(struct cmd_ctx *c, struct slice a, struct stream_id *ret);
bool stream_arg_end(struct cmd_ctx *c, struct slice a, struct stream_id *ret);

/* The stream of a key. NULL with *ret_err false: no such key; with true: replied WRONGTYPE. */
struct stream *stream_find(struct cmd_ctx *c, struct slice key, bool for_write, bool *ret_err);
/* The group, or NULL after NOGROUP (or WRONGTYPE); *ret_stream. */
struct stream_group *stream_arg_group(struct cmd_ctx *c, struct slice key, struct slice group, struct stream **ret_stream);

void stream_reply_id(struct reply *r, struct stream_id id);
void stream_reply_entry(struct reply *r, struct stream_it *it); /* [id, [field, value, ...]] */
/* The entry of that ID, as above. False: it is not there, nothing is replied. */
bool stream_reply_entry_at(struct reply *r, struct stream *s, struct stream_id id);
struct slice stream_id_slice(char *buf, struct stream_id id); /* buf: STREAM_ID_CHARS */

/* An event of class 't', and the key counted as changed. */
void stream_changed(struct cmd_ctx *c, struct slice key, const char *event);
/* The same for what is about the stream's groups or figures: neither watchers nor caches have to know, as in redis-server. */
void stream_meta_changed(struct cmd_ctx *c, struct slice key, const char *event);
/* XCLAIM for replicas: entry `id` as it is pending now. */
void stream_propagate_claim(struct cmd_ctx *c, struct slice key, struct slice group, const struct stream_group *g,
                            struct stream_id id, const struct stream_nack *n, struct slice consumer);
void stream_propagate_group_id(struct cmd_ctx *c, struct slice key, struct slice group, const struct stream_group *g);
/* The consumer, made when there is none (then said and propagated); it has been seen now. */
struct stream_consumer *stream_use_consumer(struct cmd_ctx *c, struct slice key, struct slice group, struct stream_group *g,
                                            struct slice name);

void stream_xadd_command(struct cmd_ctx *c);
void stream_xlen_command(struct cmd_ctx *c);
void stream_xrange_command(struct cmd_ctx *c);
void stream_xrevrange_command(struct cmd_ctx *c);
void stream_xdel_command(struct cmd_ctx *c);
void stream_xtrim_command(struct cmd_ctx *c);
void stream_xsetid_command(struct cmd_ctx *c);

void stream_xread_command(struct cmd_ctx *c);
void stream_xreadgroup_command(struct cmd_ctx *c);

void stream_xack_command(struct cmd_ctx *c);
void stream_xpending_command(struct cmd_ctx *c);
void stream_xclaim_command(struct cmd_ctx *c);
void stream_xautoclaim_command(struct cmd_ctx *c);

void stream_xgroup_create_command(struct cmd_ctx *c);
void stream_xgroup_setid_command(struct cmd_ctx *c);
void stream_xgroup_destroy_command(struct cmd_ctx *c);
void stream_xgroup_createconsumer_command(struct cmd_ctx *c);
void stream_xgroup_delconsumer_command(struct cmd_ctx *c);
void stream_xgroup_help_command(struct cmd_ctx *c);

void stream_xinfo_stream_command(struct cmd_ctx *c);
void stream_xinfo_groups_command(struct cmd_ctx *c);
void stream_xinfo_consumers_command(struct cmd_ctx *c);
void stream_xinfo_help_command(struct cmd_ctx *c);

#endif
