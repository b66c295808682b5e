/*
 * CLUSTER, READONLY, READWRITE, ASKING: the table. Arity, flags, tips and argument trees are those that redis-server 7.2
 * publishes: clients and users' rules (ACL SETUSER ... +cluster|info) name these commands whether there is a cluster or not.
 */
#include "cluster/cluster.h"

static const struct cmd_arg slots_args[] = { { .name = "slot", .type = ARG_INTEGER, .flags = ARG_MULTIPLE }, { 0 } };
static const struct cmd_arg range_pair[] = {
    { .name = "start-slot", .type = ARG_INTEGER },
    { .name = "end-slot", .type = ARG_INTEGER },
    { 0 },
};
static const struct cmd_arg ranges_args[] = { { .name = "range", .type = ARG_BLOCK, .flags = ARG_MULTIPLE, .sub = range_pair },
                                              { 0 } };
static const struct cmd_arg node_args[] = { { .name = "node-id", .type = ARG_STRING }, { 0 } };
static const struct cmd_arg slot_args[] = { { .name = "slot", .type = ARG_INTEGER }, { 0 } };
static const struct cmd_arg keys_args[] = {
    { .name = "slot", .type = ARG_INTEGER },
    { .name = "count", .type = ARG_INTEGER },
    { 0 },
};
static const struct cmd_arg key_args[] = { { .name = "key", .type = ARG_STRING }, { 0 } };
static const struct cmd_arg failover_how[] = {
    { .name = "force", .type = ARG_PURE_TOKEN, .token = "FORCE" },
    { .name = "takeover", .type = ARG_PURE_TOKEN, .token = "TAKEOVER" },
    { 0 },
};
static const struct cmd_arg failover_args[] = {
    { .name = "options", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = failover_how }, { 0 }
};
static const struct cmd_arg meet_args[] = {
    { .name = "ip", .type = ARG_STRING },
    { .name = "port", .type = ARG_INTEGER },
    { .name = "cluster-bus-port", .type = ARG_INTEGER, .since = "4.0.0", .flags = ARG_OPTIONAL },
    { 0 },
};
static const struct cmd_arg reset_how[] = {
    { .name = "hard", .type = ARG_PURE_TOKEN, .token = "HARD" },
    { .name = "soft", .type = ARG_PURE_TOKEN, .token = "SOFT" },
    { 0 },
};
static const struct cmd_arg reset_args[] = { { .name = "reset-type", .type = ARG_ONEOF, .flags = ARG_OPTIONAL, .sub = reset_how },
                                             { 0 } };
static const struct cmd_arg epoch_args[] = { { .name = "config-epoch", .type = ARG_INTEGER }, { 0 } };
static const struct cmd_arg setslot_how[] = {
    { .name = "importing", .type = ARG_STRING, .token = "IMPORTING", .display = "node-id" },
    { .name = "migrating", .type = ARG_STRING, .token = "MIGRATING", .display = "node-id" },
    { .name = "node", .type = ARG_STRING, .token = "NODE", .display = "node-id" },
    { .name = "stable", .type = ARG_PURE_TOKEN, .token = "STABLE" },
    { 0 },
};
static const struct cmd_arg setslot_args[] = {
    { .name = "slot", .type = ARG_INTEGER },
    { .name = "subcommand", .type = ARG_ONEOF, .sub = setslot_how },
    { 0 },
};
static const struct cmd_history meet_history[] = { { "4.0.0", "Takes the port of the cluster bus, too." }, { 0 } };
static const struct cmd_history slots_history[] = {
    { "4.0.0", "Shows nodes' ids." },
    { "7.0.0", "Shows more of nodes' networks." },
    { 0 },
};
static const char *const nondet_tips[] = { "nondeterministic_output", NULL };

#define CHANGES (CMD_ADMIN | CMD_STALE | CMD_NO_ASYNC_LOADING)
/* Name, arity, flags, summary, since, complexity; then what else there is. */
#define CMD(n, ar, fl, sum, snc, cx, ...)                                                                                        \
    {                                                                                                                            \
        .name = n, .run = cluster_disabled_command, .arity = ar, .flags = fl, .summary = sum, .since = snc, .complexity = cx,    \
        .group = "cluster", __VA_ARGS__                                                                                          \
    }

static const struct cmd_spec cluster_subs[] = {
    CMD("addslots", -3, CHANGES, "Gives slots to this node.", "3.0.0", "O(N), N the number of slots", .args = slots_args),
    CMD("addslotsrange", -4, CHANGES, "Gives ranges of slots to this node.", "7.0.0", "O(N), N the number of slots",
        .args = ranges_args),
    CMD("bumpepoch", 2, CHANGES, "Moves the node's configuration epoch on.", "3.0.0", "O(1)", .tips = nondet_tips),
    CMD("count-failure-reports", 3, CMD_ADMIN | CMD_STALE, "How many nodes say that a node has failed.", "3.0.0",
        "O(N), N the number of reports", .args = node_args, .tips = nondet_tips),
    CMD("countkeysinslot", 3, CMD_STALE, "How many keys a slot has.", "3.0.0", "O(1)", .args = slot_args),
    CMD("delslots", -3, CHANGES, "Takes slots from their node, as this one sees it.", "3.0.0", "O(N), N the number of slots",
        .args = slots_args),
    CMD("delslotsrange", -4, CHANGES, "Takes ranges of slots from their node, as this one sees it.", "7.0.0",
        "O(N), N the number of slots", .args = ranges_args),
    CMD("failover", -2, CHANGES, "Has this replica take the place of its primary.", "3.0.0", "O(1)", .args = failover_args),
    CMD("flushslots", 2, CHANGES, "Forgets all slots of this node.", "3.0.0", "O(1)", .args = NULL),
    CMD("forget", 3, CHANGES, "Takes a node out of the table of nodes.", "3.0.0", "O(1)", .args = node_args),
    CMD("getkeysinslot", 4, CMD_STALE, "Keys of a slot.", "3.0.0", "O(N), N the number of keys asked for", .args = keys_args,
        .tips = nondet_tips),
    CMD("help", 2, CMD_LOADING | CMD_STALE, "Lists the subcommands.", "5.0.0", "O(1)", .args = NULL),
    CMD("info", 2, CMD_STALE, "The state of the cluster, as this node sees it.", "3.0.0", "O(1)", .tips = nondet_tips),
    CMD("keyslot", 3, CMD_STALE, "The slot of a key.", "3.0.0", "O(N), N the number of bytes of the key", .args = key_args),
    CMD("links", 2, CMD_STALE, "Connections with other nodes.", "7.0.0", "O(N), N the number of nodes", .tips = nondet_tips),
    CMD("meet", -4, CHANGES, "Makes another node known to this one.", "3.0.0", "O(1)", .args = meet_args,
        .history = meet_history),
    CMD("myid", 2, CMD_STALE, "The node's id.", "3.0.0", "O(1)", .args = NULL),
    CMD("myshardid", 2, CMD_STALE, "The id of the node's shard.", "7.2.0", "O(1)", .tips = nondet_tips),
    CMD("nodes", 2, CMD_STALE, "The table of nodes, as this one sees it.", "3.0.0", "O(N), N the number of nodes",
        .tips = nondet_tips),
    CMD("replicas", 3, CMD_ADMIN | CMD_STALE, "The replicas of a node.", "5.0.0", "O(N), N the number of replicas",
        .args = node_args, .tips = nondet_tips),
    CMD("replicate", 3, CHANGES, "Makes this node a replica of another one.", "3.0.0", "O(1)", .args = node_args),
    CMD("reset", -2, CMD_ADMIN | CMD_STALE | CMD_NOSCRIPT, "Makes the node one that knows no others.", "3.0.0",
        "O(N), N the number of nodes known; and that of FLUSHALL", .args = reset_args),
    CMD("saveconfig", 2, CHANGES, "Writes the table of nodes to its file.", "3.0.0", "O(1)", .args = NULL),
    CMD("set-config-epoch", 3, CHANGES, "Sets the configuration epoch of a new node.", "3.0.0", "O(1)", .args = epoch_args),
    CMD("setslot", -4, CHANGES, "Says whose a slot is, or is to become.", "3.0.0", "O(1)", .args = setslot_args),
    CMD("shards", 2, CMD_STALE, "Which shard has which slots.", "7.0.0", "O(N), N the number of nodes", .tips = nondet_tips),
    CMD("slaves", 3, CMD_ADMIN | CMD_STALE, "The replicas of a node.", "3.0.0", "O(N), N the number of replicas",
        .deprecated_since = "5.0.0", .replaced_by = "`CLUSTER REPLICAS`", .args = node_args, .tips = nondet_tips),
    CMD("slots", 2, CMD_STALE, "Which node has which slots.", "3.0.0", "O(N), N the number of nodes", .deprecated_since = "7.0.0",
        .replaced_by = "`CLUSTER SHARDS`", .tips = nondet_tips, .history = slots_history),
    { 0 },
};

const struct cmd_spec cmd_specs_cluster[] = {
    CMD("asking", 1, CMD_FAST, "The next command follows an -ASK.", "3.0.0", "O(1)", .cats = CAT_CONNECTION),
    { .name = "cluster",
      .arity = -2,
      .subs = cluster_subs,
      .summary = "Commands about the cluster.",
      .since = "3.0.0",
      .complexity = "Depends on subcommand.",
      .group = "cluster" },
    CMD("readonly", 1, CMD_LOADING | CMD_STALE | CMD_FAST, "Lets the connection read from a replica of a cluster.", "3.0.0",
        "O(1)", .cats = CAT_CONNECTION),
    CMD("readwrite", 1, CMD_LOADING | CMD_STALE | CMD_FAST, "Ends what READONLY began.", "3.0.0", "O(1)", .cats = CAT_CONNECTION),
    { 0 },
};
