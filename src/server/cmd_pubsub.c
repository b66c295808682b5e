/*
 * SUBSCRIBE and its relatives, PUBLISH, PUBSUB. On the client's I/O thread. What they do is in pubsub.c; here are arguments and
 * replies.
 *
 * The replies of (UN)SUBSCRIBE are messages of their own kind: pushes in RESP3, one for each channel, and sent even when CLIENT
 * REPLY is off.
 */
#include "server/cmd_pubsub.h"

#include "server/client.h"
#include "server/pubsub.h"
#include "server/topics.h"

static struct pubsub *pubsub_of(struct cmd_ctx *c) {
    return ((struct server *)c->eng->server)->pubsub;
}

static const char *const subscribed[] = { "subscribe", "psubscribe", "ssubscribe" };
static const char *const unsubscribed[] = { "unsubscribe", "punsubscribe", "sunsubscribe" };

/* Channels and patterns are counted together, shard channels apart. */
static void acknowledge(struct cmd_ctx *c, const char *word, enum pubsub_kind kind, const struct slice *name) {
    struct client *cl = client_of(c->s);
    bool was_muted = c->r->muted;
    c->r->muted = false;
    reply_push(c->r, 3);
    reply_bulk_cstr(c->r, word);
    if (name) {
        reply_bulk_slice(c->r, *name);
    } else {
        reply_null(c->r);
    }
    reply_int(c->r, kind == PUBSUB_SHARD ? pubsub_count(cl, PUBSUB_SHARD)
                                         : pubsub_count(cl, PUBSUB_CHANNEL) + pubsub_count(cl, PUBSUB_PATTERN));
    c->r->muted = was_muted;
}

static void subscribe(struct cmd_ctx *c, enum pubsub_kind kind) {
    for (int i = 1; i < c->argc; i++) {
        pubsub_subscribe(client_of(c->s), kind, c->argv[i]);
        acknowledge(c, subscribed[kind], kind, &c->argv[i]);
    }
}

struct left {
    struct cmd_ctx *c;
    enum pubsub_kind kind;
};

static void left_one(void *arg, struct slice name) {
    const struct left *l = arg;
    acknowledge(l->c, unsubscribed[l->kind], l->kind, &name);
}

static void unsubscribe(struct cmd_ctx *c, enum pubsub_kind kind) {
    struct client *cl = client_of(c->s);
    if (c->argc == 1 && pubsub_count(cl, kind) == 0) {
        acknowledge(c, unsubscribed[kind], kind, NULL);
    } else if (c->argc == 1) {
        pubsub_unsubscribe_all(cl, kind, left_one, &(struct left){ c, kind });
    }
    for (int i = 1; i < c->argc; i++) {
        pubsub_unsubscribe(cl, kind, c->argv[i]);
        acknowledge(c, unsubscribed[kind], kind, &c->argv[i]);
    }
}

void pubsub_subscribe_command(struct cmd_ctx *c) {
    subscribe(c, PUBSUB_CHANNEL);
}

void pubsub_unsubscribe_command(struct cmd_ctx *c) {
    unsubscribe(c, PUBSUB_CHANNEL);
}

void pubsub_psubscribe_command(struct cmd_ctx *c) {
    subscribe(c, PUBSUB_PATTERN);
}

void pubsub_punsubscribe_command(struct cmd_ctx *c) {
    unsubscribe(c, PUBSUB_PATTERN);
}

/* One reply for each command is what EXEC promises. SUBSCRIBE and PSUBSCRIBE break that since before there was a rule. */
void pubsub_ssubscribe_command(struct cmd_ctx *c) {
    if (c->in_exec) {
        reply_error(c->r, "ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client");
        return;
    }
    subscribe(c, PUBSUB_SHARD);
}

void pubsub_sunsubscribe_command(struct cmd_ctx *c) {
    unsubscribe(c, PUBSUB_SHARD);
}

void pubsub_publish_command(struct cmd_ctx *c) {
    uint64_t n = pubsub_publish(c->eng->server, PUBSUB_CHANNEL, c->argv[1], c->argv[2]);
    cmd_propagate_to_replicas(c);
    reply_int(c->r, (int64_t)n);
}

void pubsub_spublish_command(struct cmd_ctx *c) {
    uint64_t n = pubsub_publish(c->eng->server, PUBSUB_SHARD, c->argv[1], c->argv[2]);
    cmd_propagate_to_replicas(c);
    reply_int(c->r, (int64_t)n);
}

/* ---- PUBSUB ---- */

struct names {
    struct reply *r;
    size_t n;
};

static void name_found(void *arg, struct slice name) {
    struct names *a = arg;
    reply_bulk_slice(a->r, name);
    a->n++;
}

static void list_names(struct cmd_ctx *c, enum pubsub_kind kind) {
    if (c->argc > 3) {
        cmd_unknown_sub(c);
        return;
    }
    struct names a = { .r = c->r };
    struct reply_deferred d = reply_deferred_begin(c->r);
    topics_each(pubsub_of(c)->topics[kind], c->argc == 3 ? c->argv[2] : (struct slice){ 0 }, name_found, &a);
    reply_deferred_array(c->r, d, a.n);
}

static void count_listeners(struct cmd_ctx *c, enum pubsub_kind kind) {
    reply_array(c->r, (size_t)(c->argc - 2) * 2);
    for (int i = 2; i < c->argc; i++) {
        reply_bulk_slice(c->r, c->argv[i]);
        reply_int(c->r, (int64_t)topics_find(pubsub_of(c)->topics[kind], c->argv[i], NULL));
    }
}

void pubsub_channels_command(struct cmd_ctx *c) {
    list_names(c, PUBSUB_CHANNEL);
}

void pubsub_shardchannels_command(struct cmd_ctx *c) {
    list_names(c, PUBSUB_SHARD);
}

void pubsub_numsub_command(struct cmd_ctx *c) {
    count_listeners(c, PUBSUB_CHANNEL);
}

void pubsub_shardnumsub_command(struct cmd_ctx *c) {
    count_listeners(c, PUBSUB_SHARD);
}

void pubsub_numpat_command(struct cmd_ctx *c) {
    reply_int(c->r, (int64_t)topics_count(pubsub_of(c)->topics[PUBSUB_PATTERN]));
}

void pubsub_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "CHANNELS [<pattern>]",
        "    Channels that have a subscriber; those that match <pattern>.",
        "NUMPAT",
        "    How many different patterns are subscribed to.",
        "NUMSUB [<channel> ...]",
        "    Subscribers of each channel, those by pattern not counted.",
        "SHARDCHANNELS [<pattern>]",
        "    Shard channels that have a subscriber; those that match <pattern>.",
        "SHARDNUMSUB [<shardchannel> ...]",
        "    Subscribers of each shard channel.",
        NULL,
    };
    cmd_help(c, lines);
}
