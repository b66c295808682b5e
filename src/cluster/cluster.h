/* Redis Cluster: so far its commands as a server without cluster-enabled has them. */
#ifndef KETTLE_CLUSTER_CLUSTER_H
#define KETTLE_CLUSTER_CLUSTER_H

#include "cmd/cmd.h"

/* cmd_cluster.c: CLUSTER with all its subcommands, READONLY, READWRITE, ASKING. Session's I/O thread. */
void cluster_disabled_command(struct cmd_ctx *c);

extern const struct cmd_spec cmd_specs_cluster[];

#endif
