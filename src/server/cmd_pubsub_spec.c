/*
 * The pub/sub commands: the table. Arity, flags, key specs and argument trees are those that redis-server 7.2 publishes; the
 * commands themselves are in cmd_pubsub.c.
 *
 * Channels are no keys: only shard channels, which have a slot, appear among the key specs, as "not_key". Which arguments are
 * channels, for access control, `channels` says.
 */
#include "server/cmd_pubsub.h"
#include "server/server.h"

static const struct cmd_arg channels_args[] = { { .name = "channel", .type = ARG_STRING, .flags = ARG_MULTIPLE }, { 0 } };
static const struct cmd_arg patterns_args[] = { { .name = "pattern", .type = ARG_PATTERN, .flags = ARG_MULTIPLE }, { 0 } };
static const struct cmd_arg shardchannels_args[] = { { .name = "shardchannel", .type = ARG_STRING, .flags = ARG_MULTIPLE },
                                                     { 0 } };
static const struct cmd_arg opt_channels_args[] = {
    { .name = "channel", .type = ARG_STRING, .flags = ARG_OPTIONAL | ARG_MULTIPLE }, { 0 }
};
static const struct cmd_arg opt_patterns_args[] = {
    { .name = "pattern", .type = ARG_PATTERN, .flags = ARG_OPTIONAL | ARG_MULTIPLE }, { 0 }
};
static const struct cmd_arg opt_shardchannels_args[] = {
    { .name = "shardchannel", .type = ARG_STRING, .flags = ARG_OPTIONAL | ARG_MULTIPLE }, { 0 }
};
static const struct cmd_arg opt_pattern_args[] = { { .name = "pattern", .type = ARG_PATTERN, .flags = ARG_OPTIONAL }, { 0 } };
static const struct cmd_arg publish_args[] = { { .name = "channel", .type = ARG_STRING },
                                               { .name = "message", .type = ARG_STRING },
                                               { 0 } };
static const struct cmd_arg spublish_args[] = { { .name = "shardchannel", .type = ARG_STRING },
                                                { .name = "message", .type = ARG_STRING },
                                                { 0 } };

#define LISTEN (CMD_PUBSUB | CMD_NOSCRIPT | CMD_LOADING | CMD_STALE)
#define SPEAK (CMD_PUBSUB | CMD_LOADING | CMD_STALE | CMD_FAST | CMD_MAY_REPLICATE)
#define ASK (CMD_PUBSUB | CMD_LOADING | CMD_STALE)
#define SHARD_CHANNELS(last)                                                                                                     \
    {                                                                                                                            \
        { .flags = KEY_NOT_KEY, .begin = KEY_BEGIN_INDEX, .index = 1, .find = KEY_FIND_RANGE, .lastkey = last, .keystep = 1 }    \
    }
/* Name, function, arity, flags, summary, since, complexity, arguments; then what else there is. */
#define CMD(n, fn, ar, fl, sum, snc, cx, ...)                                                                                    \
    {                                                                                                                            \
        .name = n, .run = fn, .arity = ar, .flags = fl, .summary = sum, .since = snc, .complexity = cx, .group = "pubsub",       \
        .args = __VA_ARGS__                                                                                                      \
    }

static const struct cmd_spec pubsub_subs[] = {
    CMD("channels", pubsub_channels_command, -2, ASK, "Channels that have a subscriber.", "2.8.0",
        "O(N) where N is the number of active channels, and assuming constant time pattern matching (relatively short channels "
        "and "
        "patterns)",
        opt_pattern_args),
    CMD("help", pubsub_help_command, 2, CMD_LOADING | CMD_STALE, "Lists the subcommands.", "6.2.0", "O(1)", NULL),
    CMD("numpat", pubsub_numpat_command, 2, ASK, "Number of different patterns subscribed to.", "2.8.0", "O(1)", NULL),
    CMD("numsub", pubsub_numsub_command, -2, ASK, "Number of subscribers of channels.", "2.8.0",
        "O(N) for the NUMSUB subcommand, where N is the number of requested channels", opt_channels_args),
    CMD("shardchannels", pubsub_shardchannels_command, -2, ASK, "Shard channels that have a subscriber.", "7.0.0",
        "O(N) where N is the number of active shard channels, and assuming constant time pattern matching (relatively short "
        "shard "
        "channels).",
        opt_pattern_args),
    CMD("shardnumsub", pubsub_shardnumsub_command, -2, ASK, "Number of subscribers of shard channels.", "7.0.0",
        "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels", opt_shardchannels_args),
    { 0 },
};

const struct cmd_spec cmd_specs_pubsub[] = {
    CMD("subscribe", pubsub_subscribe_command, -2, LISTEN, "Subscribes to channels.", "2.0.0",
        "O(N) where N is the number of channels to subscribe to.", channels_args, .channels = CMD_CHANNELS_SUBSCRIBE),
    CMD("unsubscribe", pubsub_unsubscribe_command, -1, LISTEN, "Unsubscribes from channels, or from all.", "2.0.0",
        "O(N) where N is the number of channels to unsubscribe.", opt_channels_args),
    CMD("psubscribe", pubsub_psubscribe_command, -2, LISTEN, "Subscribes to all channels that match patterns.", "2.0.0",
        "O(N) where N is the number of patterns to subscribe to.", patterns_args, .channels = CMD_CHANNELS_PSUBSCRIBE),
    CMD("punsubscribe", pubsub_punsubscribe_command, -1, LISTEN, "Unsubscribes from patterns, or from all.", "2.0.0",
        "O(N) where N is the number of patterns to unsubscribe.", opt_patterns_args),
    CMD("ssubscribe", pubsub_ssubscribe_command, -2, LISTEN, "Subscribes to shard channels.", "7.0.0",
        "O(N) where N is the number of shard channels to subscribe to.", shardchannels_args, .keys = SHARD_CHANNELS(-1),
        .channels = CMD_CHANNELS_SUBSCRIBE),
    CMD("sunsubscribe", pubsub_sunsubscribe_command, -1, LISTEN, "Unsubscribes from shard channels, or from all.", "7.0.0",
        "O(N) where N is the number of shard channels to unsubscribe.", opt_shardchannels_args, .keys = SHARD_CHANNELS(-1)),
    CMD("publish", pubsub_publish_command, 3, SPEAK, "Sends a message to a channel's subscribers.", "2.0.0",
        "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of subscribed "
        "patterns (by any client).",
        publish_args, .channels = CMD_CHANNELS_PUBLISH),
    CMD("spublish", pubsub_spublish_command, 3, SPEAK, "Sends a message to a shard channel's subscribers.", "7.0.0",
        "O(N) where N is the number of clients subscribed to the receiving shard channel.", spublish_args,
        .keys = SHARD_CHANNELS(0), .channels = CMD_CHANNELS_PUBLISH),
    { .name = "pubsub",
      .arity = -2,
      .subs = pubsub_subs,
      .summary = "Commands about pub/sub.",
      .since = "2.8.0",
      .group = "pubsub",
      .complexity = "Depends on subcommand." },
    { 0 },
};
