/*
 * CLUSTER, READONLY, READWRITE, ASKING on a server that is no node of a cluster. Clients that find out by CLUSTER INFO or
 * CLUSTER SLOTS whether there is one go by this error; "unknown command" would say that the server cannot be told. Place in the
 * flow: run by the dispatcher, which has checked subcommand and arity. Thread: the session's.
 */
#include "cluster/cluster.h"

void cluster_disabled_command(struct cmd_ctx *c) {
    reply_error(c->r, "ERR This instance has cluster support disabled");
}
