/* MONITOR, SLOWLOG, LATENCY: what the table (cmd_observe_spec.c) takes from cmd_observe.c and cmd_latency.c. */
#ifndef KETTLE_SERVER_CMD_OBSERVE_H
#define KETTLE_SERVER_CMD_OBSERVE_H

#include "cmd/cmd.h"
#include "cmd/dispatch.h"

void monitor_command(struct cmd_ctx *c);
void slowlog_get_command(struct cmd_ctx *c);
void slowlog_len_command(struct cmd_ctx *c);
void slowlog_reset_command(struct cmd_ctx *c);
void slowlog_help_command(struct cmd_ctx *c);
void latency_doctor_command(struct cmd_ctx *c);
void latency_graph_command(struct cmd_ctx *c);
void latency_help_command(struct cmd_ctx *c);
void latency_histogram_command(struct cmd_ctx *c);
void latency_history_command(struct cmd_ctx *c);
void latency_latest_command(struct cmd_ctx *c);
void latency_reset_command(struct cmd_ctx *c);

#endif
