/* The pub/sub commands: what the table (cmd_pubsub_spec.c) takes from cmd_pubsub.c. Each runs on the I/O thread of the client
 * that sent it. */
#ifndef KETTLE_SERVER_CMD_PUBSUB_H
#define KETTLE_SERVER_CMD_PUBSUB_H

#include "cmd/cmd.h"

void pubsub_subscribe_command(struct cmd_ctx *c);
void pubsub_unsubscribe_command(struct cmd_ctx *c);
void pubsub_psubscribe_command(struct cmd_ctx *c);
void pubsub_punsubscribe_command(struct cmd_ctx *c);
void pubsub_ssubscribe_command(struct cmd_ctx *c);
void pubsub_sunsubscribe_command(struct cmd_ctx *c);
void pubsub_publish_command(struct cmd_ctx *c);
void pubsub_spublish_command(struct cmd_ctx *c);
void pubsub_channels_command(struct cmd_ctx *c);
void pubsub_numsub_command(struct cmd_ctx *c);
void pubsub_numpat_command(struct cmd_ctx *c);
void pubsub_shardchannels_command(struct cmd_ctx *c);
void pubsub_shardnumsub_command(struct cmd_ctx *c);
void pubsub_help_command(struct cmd_ctx *c);

#endif
