/*
 * Publish and subscribe: who listens, and the way of a message.
 *
 *   PUBLISH (any thread)    topics: which threads, which patterns -> one struct event for all of them -> mail to each thread
 *   receiving thread        its own tables: which clients -> their output queues
 *
 * The receiver's tables need no lock, and no pointer to a client ever leaves its thread. Since a thread is entered into the
 * topics before SUBSCRIBE is answered, no message published after that answer is missed; since mail is delivered between commands
 * only, none comes before it. What is on its way when a client unsubscribes finds it no longer in the table.
 *
 * A client that CLIENT KILL has marked counts no more from that moment, on whichever thread that was: the killer takes it out of
 * the topics' counts, and its own thread out of the tables, later. So what a client listens to, and that with the topics' counts,
 * changes under its thread's registry_lock.
 *
 * An event is made once and counted. Small ones are copied into the output queues (a reference costs more than they do); of those
 * of REF_MIN bytes and more the queues hold references.
 *
 *   event.bytes:   3 CRLF $7 CRLF message CRLF $n CRLF channel CRLF | $m CRLF payload CRLF | patterns
 *                  `head`: all but the type byte                      `tail`, the same for pmessage
 *
 * Two publishers that send to two threads at once may be seen in different orders there; one publisher's messages never are.
 */
#include "server/pubsub.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "data/dict.h"
#include "server/client.h"
#include "server/topics.h"

#define REF_MIN 4096 /* bytes of a message's tail from which on it is not copied */

/* ---- who listens, on one thread ---- */

struct hall { /* one channel or pattern and this thread's clients that listen to it */
    struct list subs;
    size_t n;
    size_t len;
    char name[];
};

struct subscription {
    struct list in_hall, in_client;
    struct hall *hall;
    struct client *client;
};

struct subscriptions {
    struct dict halls[PUBSUB_KINDS]; /* by name */
};

struct client_subs {
    struct dict by_name[PUBSUB_KINDS];
    struct list all[PUBSUB_KINDS]; /* oldest first; changed under the registry_lock */
};

static struct slice hall_name(const void *item) {
    const struct hall *h = item;
    return (struct slice){ h->name, h->len };
}

static struct slice subscription_name(const void *item) {
    return hall_name(((const struct subscription *)item)->hall);
}

static struct dict_type hall_type = { .key = hall_name }, subscription_type = { .key = subscription_name };

struct pubsub *pubsub_new(void) {
    struct pubsub *p = mem_zalloc(sizeof *p);
    for (int k = 0; k < PUBSUB_KINDS; k++) p->topics[k] = topics_new(k == PUBSUB_PATTERN);
    return p;
}

struct pubsub *pubsub_free(struct pubsub *p) {
    if (!p) return NULL;
    for (int k = 0; k < PUBSUB_KINDS; k++) topics_free(p->topics[k]);
    mem_free(p);
    return NULL;
}

struct subscriptions *subscriptions_new(void) {
    struct subscriptions *s = mem_zalloc(sizeof *s);
    for (int k = 0; k < PUBSUB_KINDS; k++) dict_init(&s->halls[k], &hall_type);
    return s;
}

struct subscriptions *subscriptions_free(struct subscriptions *s) {
    if (!s) return NULL;
    for (int k = 0; k < PUBSUB_KINDS; k++) dict_clear(&s->halls[k], mem_free);
    mem_free(s);
    return NULL;
}

static struct client_subs *subs_of(struct client *c) {
    if (c->subs) return c->subs;
    struct client_subs *subs = mem_zalloc(sizeof *subs);
    for (int k = 0; k < PUBSUB_KINDS; k++) {
        dict_init(&subs->by_name[k], &subscription_type);
        list_init(&subs->all[k]);
    }
    pthread_mutex_lock(&c->th->registry_lock);
    c->subs = subs;
    pthread_mutex_unlock(&c->th->registry_lock);
    return subs;
}

unsigned pubsub_count(struct client *c, enum pubsub_kind kind) {
    return atomic_load_explicit(&c->sub_count[kind], memory_order_relaxed);
}

bool pubsub_is_listening(struct client *c) {
    return atomic_load_explicit(&c->flags, memory_order_relaxed) & CLIENT_PUBSUB;
}

/* Under the registry_lock. */
static void set_count(struct client *c, enum pubsub_kind kind) {
    atomic_store_explicit(&c->sub_count[kind], (unsigned)dict_size(&c->subs->by_name[kind]), memory_order_relaxed);
    unsigned sum = 0;
    for (int k = 0; k < PUBSUB_KINDS; k++) sum += pubsub_count(c, (enum pubsub_kind)k);
    bool was = pubsub_is_listening(c);
    if ((sum > 0) == was || client_is_killed(c)) return;
    if (was) {
        atomic_fetch_and(&c->flags, ~(unsigned)CLIENT_PUBSUB);
    } else {
        atomic_fetch_or(&c->flags, CLIENT_PUBSUB);
    }
    atomic_fetch_add_explicit(&c->srv->pubsub->clients, was ? -1 : 1, memory_order_relaxed);
}

/* By the client's thread, which has one as its first for this name. */
static void enter(struct client *c, enum pubsub_kind kind, struct subscription *one, bool is_first) {
    struct topics *t = c->srv->pubsub->topics[kind];
    pthread_mutex_lock(&c->th->registry_lock);
    list_push_back(&c->subs->all[kind], &one->in_client);
    if (!client_is_killed(c))
        topics_add(t, hall_name(one->hall), c->th->index, is_first);
    else if (is_first)
        topics_mark(t, hall_name(one->hall), c->th->index, true);
    set_count(c, kind);
    pthread_mutex_unlock(&c->th->registry_lock);
}

static void leave(struct client *c, enum pubsub_kind kind, struct subscription *one, bool is_last) {
    struct topics *t = c->srv->pubsub->topics[kind];
    pthread_mutex_lock(&c->th->registry_lock);
    list_remove(&one->in_client);
    if (!client_is_killed(c))
        topics_remove(t, hall_name(one->hall), c->th->index, is_last);
    else if (is_last)
        topics_mark(t, hall_name(one->hall), c->th->index, false);
    set_count(c, kind);
    pthread_mutex_unlock(&c->th->registry_lock);
}

void pubsub_discount(struct client *c) {
    for (int k = 0; c->subs && k < PUBSUB_KINDS; k++)
        list_for_each(n, &c->subs->all[k])
            topics_discount(c->srv->pubsub->topics[k], hall_name(list_entry(n, struct subscription, in_client)->hall));
    if (pubsub_is_listening(c)) atomic_fetch_sub_explicit(&c->srv->pubsub->clients, 1, memory_order_relaxed);
}

bool pubsub_subscribe(struct client *c, enum pubsub_kind kind, struct slice name) {
    struct client_subs *subs = subs_of(c);
    uint64_t hash = dict_hash(name);
    if (dict_find(&subs->by_name[kind], hash, name)) return false;
    struct dict *halls = &c->th->subscriptions->halls[kind];
    struct hall *h = dict_find(halls, hash, name);
    if (!h) {
        h = mem_zalloc(sizeof *h + name.len);
        list_init(&h->subs);
        h->len = name.len;
        if (name.len) memcpy(h->name, name.ptr, name.len);
        dict_insert(halls, hash, h);
    }
    struct subscription *one = mem_zalloc(sizeof *one);
    one->hall = h;
    one->client = c;
    list_push_back(&h->subs, &one->in_hall);
    dict_insert(&subs->by_name[kind], hash, one);
    enter(c, kind, one, h->n++ == 0);
    return true;
}

/* name may be the hall's own: it is not used after the hall is gone. */
static bool unsubscribe(struct client *c, enum pubsub_kind kind, uint64_t hash, struct slice name) {
    struct subscription *one = dict_remove(&c->subs->by_name[kind], hash, name);
    if (!one) return false;
    struct hall *h = one->hall;
    list_remove(&one->in_hall);
    leave(c, kind, one, --h->n == 0);
    mem_free(one);
    if (h->n == 0) {
        dict_remove(&c->th->subscriptions->halls[kind], hash, name);
        mem_free(h);
    }
    return true;
}

bool pubsub_unsubscribe(struct client *c, enum pubsub_kind kind, struct slice name) {
    return c->subs && unsubscribe(c, kind, dict_hash(name), name);
}

void pubsub_unsubscribe_all(struct client *c, enum pubsub_kind kind, void (*fn)(void *arg, struct slice name), void *arg) {
    while (c->subs && !list_empty(&c->subs->all[kind])) {
        const struct subscription *one = list_entry(c->subs->all[kind].next, struct subscription, in_client);
        struct slice name = hall_name(one->hall);
        char *copy = mem_memdup0(name.ptr, name.len);
        unsubscribe(c, kind, dict_hash(name), name);
        if (fn) fn(arg, (struct slice){ copy, name.len });
        mem_free(copy);
    }
}

bool pubsub_every(struct client *c, bool (*fn)(void *arg, enum pubsub_kind kind, struct slice name), void *arg) {
    for (int k = 0; c->subs && k < PUBSUB_KINDS; k++)
        list_for_each(n, &c->subs->all[k]) if (!fn(arg, (enum pubsub_kind)k,
                                                   hall_name(list_entry(n, struct subscription, in_client)->hall))) return false;
    return true;
}

void pubsub_forget(struct client *c) {
    if (!c->subs) return;
    for (int k = 0; k < PUBSUB_KINDS; k++) {
        pubsub_unsubscribe_all(c, (enum pubsub_kind)k, NULL, NULL);
        dict_clear(&c->subs->by_name[k], NULL);
    }
    struct client_subs *subs = c->subs;
    pthread_mutex_lock(&c->th->registry_lock);
    c->subs = NULL;
    pthread_mutex_unlock(&c->th->registry_lock);
    mem_free(subs);
}

/* ---- messages ---- */

struct event;

struct event_mail { /* one for each receiving thread, in the event's own memory */
    struct mail mail;
    struct event *event;
};

struct event {
    _Atomic unsigned refs;
    enum pubsub_kind kind;
    unsigned n_mails;
    struct slice channel, head, tail;
    struct slice patterns; /* each a size_t and so many bytes */
    struct event_mail mails[];
    /* bytes */
};

static void event_unref(void *arg) {
    struct event *e = arg;
    if (atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1) mem_free(e);
}

static void append_tail(struct client *c, struct event *e) {
    struct obuf *out = &c->conn.out;
    if (e->tail.len < REF_MIN) {
        obuf_append(out, e->tail.ptr, e->tail.len);
        return;
    }
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    obuf_append_ref(out, e->tail.ptr, e->tail.len, event_unref, e);
}

static void send_to(struct client *c, struct event *e, struct slice head) {
    if (!client_takes_pushes(c)) return;
    obuf_append(&c->conn.out, c->s.reply.resp >= 3 ? ">" : "*", 1);
    obuf_append(&c->conn.out, head.ptr, head.len);
    append_tail(c, e);
    client_pushed(c);
}

static void send_to_hall(struct io_thread *th, enum pubsub_kind kind, struct slice name, struct event *e, struct slice head) {
    const struct hall *h = dict_find(&th->subscriptions->halls[kind], dict_hash(name), name);
    if (!h) return;
    list_for_each(n, &h->subs) send_to(list_entry(n, struct subscription, in_hall)->client, e, head);
}

static void send_to_patterns(struct io_thread *th, struct event *e) {
    struct buf head = { 0 };
    for (size_t at = 0; at < e->patterns.len;) {
        struct slice p = { e->patterns.ptr + at + sizeof(size_t), 0 };
        memcpy(&p.len, e->patterns.ptr + at, sizeof p.len);
        at += sizeof(size_t) + p.len;
        buf_clear(&head);
        buf_printf(&head, "4\r\n$8\r\npmessage\r\n$%zu\r\n", p.len);
        buf_append(&head, p.ptr, p.len);
        buf_printf(&head, "\r\n$%zu\r\n", e->channel.len);
        buf_append(&head, e->channel.ptr, e->channel.len);
        buf_append(&head, "\r\n", 2);
        send_to_hall(th, PUBSUB_PATTERN, p, e, buf_slice(&head));
    }
    buf_done(&head);
}

static void event_arrived(struct inbox_msg *msg, void *owner) {
    struct event *e = list_entry(list_entry(msg, struct mail, msg), struct event_mail, mail)->event;
    send_to_hall(owner, e->kind, e->channel, e, e->head);
    if (e->patterns.len) send_to_patterns(owner, e);
    event_unref(e);
}

/* ---- publishing ---- */

struct audience {
    uint64_t listeners, threads;
    struct buf patterns;
};

static void add_pattern(void *arg, struct slice pattern, uint64_t listeners, uint64_t threads) {
    struct audience *a = arg;
    a->listeners += listeners;
    a->threads |= threads;
    buf_append(&a->patterns, &pattern.len, sizeof pattern.len);
    buf_append(&a->patterns, pattern.ptr, pattern.len);
}

static char *put(char *p, const void *bytes, size_t n) {
    if (n) memcpy(p, bytes, n);
    return p + n;
}

static struct event *event_new(enum pubsub_kind kind, struct slice channel, struct slice payload, struct slice patterns,
                               unsigned n_mails) {
    char start[64], size[32];
    const char *word = kind == PUBSUB_SHARD ? "smessage" : "message";
    size_t start_len = (size_t)snprintf(start, sizeof start, "3\r\n$%zu\r\n%s\r\n$%zu\r\n", strlen(word), word, channel.len);
    size_t size_len = (size_t)snprintf(size, sizeof size, "$%zu\r\n", payload.len);
    size_t mails = n_mails * sizeof(struct event_mail);
    struct event *e = mem_alloc(sizeof *e + mails + start_len + channel.len + 2 + size_len + payload.len + 2 + patterns.len);
    *e = (struct event){ .kind = kind, .n_mails = n_mails };
    atomic_init(&e->refs, n_mails);
    char *p = (char *)&e->mails[n_mails];
    e->head = (struct slice){ p, start_len + channel.len + 2 };
    p = put(p, start, start_len);
    e->channel = (struct slice){ p, channel.len };
    p = put(put(p, channel.ptr, channel.len), "\r\n", 2);
    e->tail = (struct slice){ p, size_len + payload.len + 2 };
    p = put(put(put(p, size, size_len), payload.ptr, payload.len), "\r\n", 2);
    e->patterns = (struct slice){ p, patterns.len };
    put(p, patterns.ptr, patterns.len);
    return e;
}

uint64_t pubsub_publish(struct server *srv, enum pubsub_kind kind, struct slice channel, struct slice payload) {
    struct audience a = { 0 };
    a.listeners = topics_find(srv->pubsub->topics[kind], channel, &a.threads);
    if (kind == PUBSUB_CHANNEL) topics_match(srv->pubsub->topics[PUBSUB_PATTERN], channel, add_pattern, &a);
    if (a.threads) {
        unsigned n = (unsigned)__builtin_popcountll(a.threads), i = 0;
        struct event *e = event_new(kind, channel, payload, buf_slice(&a.patterns), n);
        size_t size = sizeof *e + (e->head.len + e->tail.len + e->patterns.len) / n;
        for (uint64_t m = a.threads; m; m &= m - 1, i++) {
            e->mails[i] = (struct event_mail){ { { .run = event_arrived }, size }, e };
            mail_post(&srv->threads[__builtin_ctzll(m)], &e->mails[i].mail);
        }
    }
    buf_done(&a.patterns);
    return a.listeners;
}

const char *pubsub_refusal(struct client *c, const struct cmd *cmd) {
    static const char *const allowed[] = { "ping",       "subscribe",    "unsubscribe", "psubscribe", "punsubscribe",
                                           "ssubscribe", "sunsubscribe", "quit",        "reset" };
    static _Thread_local char text[256];
    if (c->s.reply.resp >= 3 || !pubsub_is_listening(c)) return NULL;
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (strcmp(cmd->spec->name, allowed[i]) == 0 && !cmd->parent) return NULL;
    snprintf(text, sizeof text,
             "ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
             cmd->full_name);
    return text;
}
