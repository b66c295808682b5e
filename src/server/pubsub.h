/* Publish and subscribe. struct pubsub says which threads listen to what (topics.h) and is shared; struct subscriptions says
 * which clients of one thread do, and is that thread's. A message goes from the publisher's thread by mail to each listening
 * thread. */
#ifndef KETTLE_SERVER_PUBSUB_H
#define KETTLE_SERVER_PUBSUB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "proto/reply.h"

struct client;
struct cmd;
struct server;
struct topics;

enum pubsub_kind { PUBSUB_CHANNEL = 0, PUBSUB_PATTERN, PUBSUB_SHARD, PUBSUB_KINDS };

struct pubsub {
    struct topics *topics[PUBSUB_KINDS];
    _Atomic int64_t clients; /* that listen to anything */
};

struct pubsub *pubsub_new(void);
struct pubsub *pubsub_free(struct pubsub *p); /* NULL is fine; always NULL */
struct subscriptions *subscriptions_new(void);
struct subscriptions *subscriptions_free(struct subscriptions *s); /* its clients are gone. NULL is fine; always NULL */

/* The client's thread. False: it did already (or did not). */
bool pubsub_subscribe(struct client *c, enum pubsub_kind kind, struct slice name);
bool pubsub_unsubscribe(struct client *c, enum pubsub_kind kind, struct slice name);
/* Everything of that kind, in the order of subscription; fn (may be NULL) after each. */
void pubsub_unsubscribe_all(struct client *c, enum pubsub_kind kind, void (*fn)(void *arg, struct slice name), void *arg);
/* Whether fn is true of everything that the client listens to. */
bool pubsub_every(struct client *c, bool (*fn)(void *arg, enum pubsub_kind kind, struct slice name), void *arg);
void pubsub_forget(struct client *c); /* RESET and close: all kinds, nothing is said */
/* CLIENT KILL has set CLIENT_KILLED: it counts no more. Any thread, under the registry_lock of the client's. */
void pubsub_discount(struct client *c);
bool pubsub_is_listening(struct client *c);                     /* to anything */
unsigned pubsub_count(struct client *c, enum pubsub_kind kind); /* any thread */

/* To all that listen; returns how many there are. Any thread; shard locks may be held. kind: PUBSUB_CHANNEL (patterns are matched
 * too) or PUBSUB_SHARD. */
uint64_t pubsub_publish(struct server *srv, enum pubsub_kind kind, struct slice channel, struct slice payload);
/* A client that listens and speaks RESP2 can do little else: the refusal, or NULL. Thread-local text. */
const char *pubsub_refusal(struct client *c, const struct cmd *cmd);

#endif
