/* ACL's commands, between their code (cmd_acl.c) and their table (cmd_acl_spec.c). */
#ifndef KETTLE_SERVER_CMD_ACL_H
#define KETTLE_SERVER_CMD_ACL_H

#include "server/client.h"

void acl_cat_command(struct cmd_ctx *c);
void acl_deluser_command(struct cmd_ctx *c);
void acl_dryrun_command(struct cmd_ctx *c);
void acl_genpass_command(struct cmd_ctx *c);
void acl_getuser_command(struct cmd_ctx *c);
void acl_help_command(struct cmd_ctx *c);
void acl_list_command(struct cmd_ctx *c);
void acl_load_command(struct cmd_ctx *c);
void acl_log_command(struct cmd_ctx *c);
void acl_save_command(struct cmd_ctx *c);
void acl_setuser_command(struct cmd_ctx *c);
void acl_users_command(struct cmd_ctx *c);
void acl_whoami_command(struct cmd_ctx *c);

#endif
