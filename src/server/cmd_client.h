/* CLIENT's subcommands: what the table (cmd_client_spec.c) takes from cmd_client.c. Each runs on the I/O thread of the client
 * that sent it. */
#ifndef KETTLE_SERVER_CMD_CLIENT_H
#define KETTLE_SERVER_CMD_CLIENT_H

#include "server/client.h"

void client_list_command(struct cmd_ctx *c);
void client_info_command(struct cmd_ctx *c);
void client_id_command(struct cmd_ctx *c);
void client_kill_command(struct cmd_ctx *c);
void client_setname_command(struct cmd_ctx *c);
void client_getname_command(struct cmd_ctx *c);
void client_setinfo_command(struct cmd_ctx *c);
void client_pause_command(struct cmd_ctx *c);
void client_unpause_command(struct cmd_ctx *c);
void client_no_evict_command(struct cmd_ctx *c);
void client_no_touch_command(struct cmd_ctx *c);
void client_reply_command(struct cmd_ctx *c);
void client_unblock_command(struct cmd_ctx *c);
void client_tracking_command(struct cmd_ctx *c);
void client_caching_command(struct cmd_ctx *c);
void client_getredir_command(struct cmd_ctx *c);
void client_trackinginfo_command(struct cmd_ctx *c);
void client_help_command(struct cmd_ctx *c);

#endif
