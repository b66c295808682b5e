/*
 * MONITOR, SLOWLOG, LATENCY: the table. Arity, flags, tips and argument trees are those that redis-server 7.2 publishes.
 */
#include "server/cmd_observe.h"
#include "server/server.h"

static const struct cmd_arg count_args[] = { { .name = "count", .type = ARG_INTEGER, .flags = ARG_OPTIONAL }, { 0 } };
static const struct cmd_arg event_args[] = { { .name = "event", .type = ARG_STRING }, { 0 } };
static const struct cmd_arg events_args[] = { { .name = "event", .type = ARG_STRING, .flags = ARG_OPTIONAL | ARG_MULTIPLE },
                                              { 0 } };
static const struct cmd_arg commands_args[] = { { .name = "command", .type = ARG_STRING, .flags = ARG_OPTIONAL | ARG_MULTIPLE },
                                                { 0 } };
static const struct cmd_history get_history[] = { { "4.0.0", "Entries have the client's address, port and name." }, { 0 } };
static const char *const get_tips[] = { "request_policy:all_nodes", "nondeterministic_output", NULL };
static const char *const len_tips[] = { "request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output", NULL };
static const char *const reset_tips[] = { "request_policy:all_nodes", "response_policy:all_succeeded", NULL };
static const char *const latency_tips[] = { "nondeterministic_output", "request_policy:all_nodes", "response_policy:special",
                                            NULL };
static const char *const latency_reset_tips[] = { "request_policy:all_nodes", "response_policy:agg_sum", NULL };

#define SLOW (CMD_ADMIN | CMD_LOADING | CMD_STALE)
#define LATENCY (CMD_ADMIN | CMD_NOSCRIPT | CMD_LOADING | CMD_STALE)
/* Name, function, arity, flags, summary, since, complexity; then what else there is. */
#define SUB(n, fn, ar, fl, sum, snc, cx, ...)                                                                                    \
    {                                                                                                                            \
        .name = n, .run = fn, .arity = ar, .flags = fl, .summary = sum, .since = snc, .complexity = cx, .group = "server",       \
        __VA_ARGS__                                                                                                              \
    }

static const struct cmd_spec slowlog_subs[] = {
    SUB("get", slowlog_get_command, -2, SLOW, "Entries of the slow log.", "2.2.12",
        "O(N) where N is the number of entries returned", .args = count_args, .history = get_history, .tips = get_tips),
    SUB("help", slowlog_help_command, 2, CMD_LOADING | CMD_STALE, "Lists the subcommands.", "6.2.0", "O(1)", .args = NULL),
    SUB("len", slowlog_len_command, 2, SLOW, "Number of entries of the slow log.", "2.2.12", "O(1)", .tips = len_tips),
    SUB("reset", slowlog_reset_command, 2, SLOW, "Empties the slow log.", "2.2.12",
        "O(N) where N is the number of entries in the slowlog", .tips = reset_tips),
    { 0 },
};

static const struct cmd_spec latency_subs[] = {
    SUB("doctor", latency_doctor_command, 2, LATENCY, "What latency spikes may come from, in words.", "2.8.13", "O(1)",
        .tips = latency_tips),
    SUB("graph", latency_graph_command, 3, LATENCY, "Draws the latency spikes of an event.", "2.8.13", "O(1)", .args = event_args,
        .tips = latency_tips),
    SUB("help", latency_help_command, 2, CMD_LOADING | CMD_STALE, "Lists the subcommands.", "2.8.13", "O(1)", .args = NULL),
    SUB("histogram", latency_histogram_command, -2, LATENCY, "How long commands took, as cumulative counts.", "7.0.0",
        "O(N) where N is the number of commands with latency information being retrieved.", .args = commands_args,
        .tips = latency_tips),
    SUB("history", latency_history_command, 3, LATENCY, "Latency spikes of an event.", "2.8.13", "O(1)", .args = event_args,
        .tips = latency_tips),
    SUB("latest", latency_latest_command, 2, LATENCY, "The last latency spike of each event.", "2.8.13", "O(1)",
        .tips = latency_tips),
    SUB("reset", latency_reset_command, -2, LATENCY, "Forgets latency spikes.", "2.8.13", "O(1)", .args = events_args,
        .tips = latency_reset_tips),
    { 0 },
};

const struct cmd_spec cmd_specs_observe[] = {
    SUB("monitor", monitor_command, 1, CMD_ADMIN | CMD_NOSCRIPT | CMD_LOADING | CMD_STALE,
        "Shows every command that the server carries out.", "1.0.0", NULL, .args = NULL),
    SUB("slowlog", NULL, -2, 0, "Commands about the slow log.", "2.2.12", "Depends on subcommand.", .subs = slowlog_subs),
    SUB("latency", NULL, -2, 0, "Commands about latency.", "2.8.13", "Depends on subcommand.", .subs = latency_subs),
    { 0 },
};
