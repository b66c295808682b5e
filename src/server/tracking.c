/*
 * Client-side caching: from the change of a key to the clients that must forget it.
 *
 *   a tracked client reads (its shards locked)     table: key -> tracker
 *   a key changes (its shard locked)               out of the table; mail to the threads of those who had read it
 *     and a BCAST prefix matches                   remembered by the changing thread until its turn ends, then one push each
 *   FLUSHALL, FLUSHDB                              every tracked client is told to forget everything
 *
 * A reader is entered while it holds the shard's lock, and its reply is in its output queue before its thread looks at mail
 * again: so a change that comes after the read is never told before the read's reply, and none is missed.
 *
 * Mail is addressed by client id; the receiving thread looks whether the client is still there and still wants it. With REDIRECT
 * it goes straight to the other client's thread; when that client is gone, word goes back to the tracker's own.
 */
#include "server/tracking.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "server/client.h"
#include "server/tracking_table.h"

#define THREAD_OF(address) ((int)((address)&63))
#define ID_OF(address) ((address) >> 6)

/* ---- trackers ---- */

struct tracker *tracker_ref(struct tracker *t) {
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void tracker_unref(struct tracker *t) {
    if (t && atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1) mem_free(t);
}

static unsigned flags_of(const struct tracker *t) {
    return atomic_load_explicit(&((struct tracker *)(uintptr_t)t)->flags, memory_order_acquire);
}

struct tracking *tracking_new(void) {
    struct tracking *t = mem_zalloc(sizeof *t);
    t->table = tracking_table_new();
    t->prefixes = prefixes_new();
    return t;
}

struct tracking *tracking_free(struct tracking *t) {
    if (!t) return NULL;
    tracking_table_free(t->table);
    prefixes_free(t->prefixes);
    mem_free(t);
    return NULL;
}

static struct tracker *tracker_of(struct client *c) {
    return atomic_load_explicit(&c->tracker, memory_order_acquire);
}

unsigned tracking_flags(struct client *c) {
    const struct tracker *t = tracker_of(c);
    return t ? flags_of(t) : 0;
}

uint64_t tracking_redirect(struct client *c) {
    struct tracker *t = tracker_of(c);
    return t ? ID_OF(atomic_load_explicit(&t->redirect, memory_order_relaxed)) : 0;
}

static struct tracker *tracker_make(struct client *c) {
    struct tracker *t = tracker_of(c);
    if (t) return t;
    t = mem_zalloc(sizeof *t);
    atomic_init(&t->refs, 1);
    t->id = c->s.id;
    t->thread = c->th->index;
    list_init(&t->prefixes);
    atomic_store_explicit(&c->tracker, t, memory_order_release);
    return t;
}

void tracking_enable(struct client *c, unsigned flags, uint64_t redirect, int n_prefixes, const struct slice *prefixes) {
    struct tracking *all = c->srv->tracking;
    struct tracker *t = tracker_make(c);
    if (!(flags_of(t) & TRACKING_ON)) {
        atomic_fetch_add_explicit(&all->clients, 1, memory_order_relaxed);
        list_push_back(&c->th->tracking, &c->tracking_node);
    }
    atomic_store_explicit(&t->redirect, redirect, memory_order_relaxed);
    atomic_store_explicit(&t->flags, flags | TRACKING_ON, memory_order_release);
    c->s.tracks_reads = !(flags & TRACKING_BCAST);
    if (flags & TRACKING_BCAST) {
        if (n_prefixes == 0) prefixes_add(all->prefixes, (struct slice){ 0 }, t);
        for (int i = 0; i < n_prefixes; i++) prefixes_add(all->prefixes, prefixes[i], t);
    }
}

void tracking_disable(struct client *c) {
    struct tracker *t = tracker_of(c);
    if (!t || !(flags_of(t) & TRACKING_ON)) return;
    if (flags_of(t) & TRACKING_BCAST) prefixes_remove_all(c->srv->tracking->prefixes, t);
    atomic_store_explicit(&t->flags, 0, memory_order_release);
    atomic_store_explicit(&t->redirect, 0, memory_order_relaxed);
    c->s.tracks_reads = c->s.caching = false;
    list_remove(&c->tracking_node);
    atomic_fetch_sub_explicit(&c->srv->tracking->clients, 1, memory_order_relaxed);
}

void tracking_forget(struct client *c) {
    tracking_disable(c);
    tracker_unref(tracker_of(c));
    atomic_store_explicit(&c->tracker, NULL, memory_order_relaxed);
}

/* ---- mail ---- */

struct wire { /* the keys, as they follow "invalidate"; counted */
    _Atomic unsigned refs;
    size_t len;
    char bytes[];
};

struct addressee {
    uint64_t address; /* TRACKING_ADDRESS */
    struct tracker *who;
};

struct invalidation {
    struct mail mail;
    struct wire *wire; /* NULL: everything is to be forgotten */
    unsigned n;
    struct addressee to[]; /* with a reference each */
};

static struct wire *wire_new(const struct buf *text) {
    struct wire *w = mem_alloc(sizeof *w + text->len);
    atomic_init(&w->refs, 1);
    w->len = text->len;
    memcpy(w->bytes, text->data, text->len);
    return w;
}

static void wire_unref(struct wire *w) {
    if (w && atomic_fetch_sub_explicit(&w->refs, 1, memory_order_acq_rel) == 1) mem_free(w);
}

static void push_to(struct client *c, const struct wire *w, bool redirected) {
    static const char push[] = ">2\r\n$10\r\ninvalidate\r\n",
                      message[] = "*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n";
    if (!client_takes_pushes(c)) return;
    bool resp3 = c->s.reply.resp >= 3;
    if (!resp3 && !(redirected && pubsub_is_listening(c))) return; /* RESP2 has no way to say it */
    struct obuf *out = &c->conn.out;
    if (resp3) {
        obuf_append(out, push, sizeof push - 1);
    } else {
        obuf_append(out, message, sizeof message - 1);
    }
    if (w) {
        obuf_append(out, w->bytes, w->len);
    } else {
        obuf_append(out, resp3 ? "_\r\n" : "$-1\r\n", resp3 ? 3 : 5);
    }
    client_pushed(c);
}

struct broken {
    struct mail mail;
    struct tracker *who;
    uint64_t redirect;
};

static void broken_arrived(struct inbox_msg *msg, void *owner) {
    struct broken *b = list_entry(list_entry(msg, struct mail, msg), struct broken, mail);
    struct client *c = client_by_id(owner, b->who->id);
    bool still = c && (flags_of(b->who) & TRACKING_ON) && tracking_redirect(c) == b->redirect;
    if (still) atomic_fetch_or(&b->who->flags, TRACKING_BROKEN_REDIR);
    if (still && c->s.reply.resp >= 3 && client_takes_pushes(c)) {
        char text[80];
        int n = snprintf(text, sizeof text, ">2\r\n$21\r\ntracking-redir-broken\r\n:%llu\r\n", (unsigned long long)b->redirect);
        obuf_append(&c->conn.out, text, (size_t)n);
        client_pushed(c);
    }
    tracker_unref(b->who);
    mem_free(b);
}

static void redirect_is_broken(struct server *srv, const struct addressee *to) {
    struct broken *b = mem_zalloc(sizeof *b);
    b->mail = (struct mail){ { .run = broken_arrived }, sizeof *b };
    b->who = tracker_ref(to->who);
    b->redirect = ID_OF(to->address);
    mail_post(&srv->threads[b->who->thread], &b->mail);
}

static void deliver_one(struct io_thread *th, const struct addressee *to, const struct wire *w) {
    bool redirected = ID_OF(to->address) != to->who->id;
    struct client *c = client_by_id(th, ID_OF(to->address));
    if (!(flags_of(to->who) & TRACKING_ON)) return;
    if (c) {
        push_to(c, w, redirected || tracking_redirect(c) == c->s.id);
    } else if (redirected) {
        redirect_is_broken(th->srv, to);
    }
}

static void invalidation_arrived(struct inbox_msg *msg, void *owner) {
    struct invalidation *v = list_entry(list_entry(msg, struct mail, msg), struct invalidation, mail);
    for (unsigned i = 0; i < v->n; i++) {
        deliver_one(owner, &v->to[i], v->wire);
        tracker_unref(v->to[i].who);
    }
    wire_unref(v->wire);
    mem_free(v);
}

/* ---- whom to tell ---- */

struct addressees {
    struct addressee *list;
    size_t n, cap;
    uint64_t writer; /* id of who changed the key; 0: nobody */
};

static void add(struct addressees *a, struct tracker *who) {
    if (a->n == a->cap) {
        a->cap = a->cap ? a->cap * 2 : 8;
        a->list = mem_realloc(a->list, a->cap * sizeof *a->list);
    }
    uint64_t redirect = atomic_load_explicit(&who->redirect, memory_order_relaxed);
    a->list[a->n++] = (struct addressee){ redirect ? redirect : TRACKING_ADDRESS(who->id, who->thread), who };
}

/* One mail to each thread. w may be NULL: forget everything. */
static void post_to(struct server *srv, const struct addressees *a, struct wire *w) {
    unsigned count[MAX_IO_THREADS] = { 0 };
    for (size_t i = 0; i < a->n; i++) count[THREAD_OF(a->list[i].address)]++;
    for (int t = 0; t < srv->n_threads; t++) {
        if (!count[t]) continue;
        struct invalidation *v = mem_alloc(sizeof *v + count[t] * sizeof v->to[0]);
        size_t size = sizeof *v + count[t] * sizeof v->to[0] + (w ? w->len : 0);
        *v = (struct invalidation){ .mail = { { .run = invalidation_arrived }, size }, .wire = w };
        if (w) atomic_fetch_add_explicit(&w->refs, 1, memory_order_relaxed);
        for (size_t i = 0; i < a->n; i++) {
            if (THREAD_OF(a->list[i].address) != t) continue;
            v->to[v->n] = a->list[i];
            tracker_ref(v->to[v->n++].who);
        }
        mail_post(&srv->threads[t], &v->mail);
    }
}

static void add_reader(void *arg, struct tracker *who) {
    struct addressees *a = arg;
    unsigned f = flags_of(who);
    if (!(f & TRACKING_ON) || (f & TRACKING_BCAST) || ((f & TRACKING_NOLOOP) && who->id == a->writer)) return;
    add(a, who);
}

static void tell_readers(struct server *srv, struct tracked *k_take, uint64_t writer) {
    struct addressees a = { .writer = writer };
    if (!k_take) return;
    tracked_each(k_take, add_reader, &a);
    if (a.n) {
        struct buf text = { 0 };
        struct slice key = tracked_key(k_take);
        buf_printf(&text, "*1\r\n$%zu\r\n", key.len);
        buf_append(&text, key.ptr, key.len);
        buf_append(&text, "\r\n", 2);
        struct wire *w = wire_new(&text);
        buf_done(&text);
        post_to(srv, &a, w);
        wire_unref(w);
    }
    mem_free(a.list);
    tracked_free(k_take);
}

/* ---- BCAST ---- */

struct changed {
    char *key;
    size_t len;
    uint64_t writer;
};

static void remember_change(struct slice key, uint64_t writer) {
    struct io_thread *th = io_thread_self();
    if (!th) return;
    if (th->changed_n == th->changed_cap) {
        th->changed_cap = th->changed_cap ? th->changed_cap * 2 : 16;
        th->changed = mem_realloc(th->changed, th->changed_cap * sizeof *th->changed);
    }
    th->changed[th->changed_n++] = (struct changed){ mem_memdup0(key.ptr, key.len), key.len, writer };
}

static int by_key(const struct changed *x, const struct changed *y) {
    return slice_cmp((struct slice){ x->key, x->len }, (struct slice){ y->key, y->len });
}

static int by_key_and_writer(const void *a, const void *b) {
    const struct changed *x = a, *y = b;
    int d = by_key(x, y);
    return d ? d : (x->writer > y->writer) - (x->writer < y->writer);
}

struct broadcast {
    struct server *srv;
    const struct changed *from; /* keys of this turn, sorted; for the prefix at hand: */
    size_t n, first, end;
    struct addressees all; /* who hears of all of them */
};

static bool starts_with(const struct changed *k, struct slice prefix) {
    return k->len >= prefix.len && memcmp(k->key, prefix.ptr ? prefix.ptr : "", prefix.len) == 0;
}

static void begin_prefix(void *arg, struct slice prefix) {
    struct broadcast *b = arg;
    struct changed want = { (char *)(uintptr_t)(prefix.ptr ? prefix.ptr : ""), prefix.len, 0 };
    size_t lo = 0, hi = b->n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (by_key(&b->from[mid], &want) < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    b->first = b->end = lo;
    while (b->end < b->n && starts_with(&b->from[b->end], prefix)) b->end++;
    b->all.n = 0;
}

/* The keys of the prefix at hand that somebody other than `but` has changed; NULL: there is none. */
static struct wire *wire_of(const struct broadcast *b, uint64_t but) {
    struct buf keys = { 0 }, text = { 0 };
    size_t n = 0;
    for (size_t i = b->first; i < b->end; i++) {
        const struct changed *k = &b->from[i];
        if (but && k->writer == but) continue;
        bool again = i > b->first && by_key(k, k - 1) == 0 && !(but && (k - 1)->writer == but);
        if (again) continue;
        buf_printf(&keys, "$%zu\r\n", k->len);
        buf_append(&keys, k->key, k->len);
        buf_append(&keys, "\r\n", 2);
        n++;
    }
    struct wire *w = NULL;
    if (n) {
        buf_printf(&text, "*%zu\r\n", n);
        buf_append(&text, keys.data, keys.len);
        w = wire_new(&text);
    }
    buf_done(&keys);
    buf_done(&text);
    return w;
}

static void tell_member(void *arg, struct tracker *who) {
    struct broadcast *b = arg;
    unsigned f = flags_of(who);
    bool is_writer = false;
    if (b->first == b->end || !(f & TRACKING_ON)) return;
    if (f & TRACKING_NOLOOP)
        for (size_t i = b->first; i < b->end && !is_writer; i++) is_writer = b->from[i].writer == who->id;
    if (!is_writer) {
        add(&b->all, who);
        return;
    }
    struct wire *w = wire_of(b, who->id);
    if (!w) return;
    struct addressees one = { 0 };
    add(&one, who);
    post_to(b->srv, &one, w);
    mem_free(one.list);
    wire_unref(w);
}

static void end_prefix(void *arg) {
    struct broadcast *b = arg;
    if (b->all.n == 0) return;
    struct wire *w = wire_of(b, 0);
    post_to(b->srv, &b->all, w);
    wire_unref(w);
}

void tracking_broadcast(struct io_thread *th) {
    if (th->changed_n == 0) return;
    struct broadcast b = { .srv = th->srv, .from = th->changed, .n = th->changed_n };
    qsort(th->changed, th->changed_n, sizeof *th->changed, by_key_and_writer);
    prefixes_each(th->srv->tracking->prefixes, begin_prefix, tell_member, end_prefix, &b);
    for (size_t i = 0; i < th->changed_n; i++) mem_free(th->changed[i].key);
    mem_free(th->changed);
    mem_free(b.all.list);
    th->changed = NULL;
    th->changed_n = th->changed_cap = 0;
}

/* ---- hooks ---- */

static void invalidate(struct server *srv, struct slice key, uint64_t writer) {
    struct tracking *t = srv->tracking;
    if (prefixes_count(t->prefixes) && prefixes_match(t->prefixes, key)) remember_change(key, writer);
    if (tracking_table_keys(t->table)) tell_readers(srv, tracking_table_take(t->table, key), writer);
}

void tracking_modified(void *srv, struct cmd_ctx *c, int db, struct slice key) {
    (void)db;
    if (!c->s->owner) return; /* loading */
    invalidate(srv, key, c->s->id);
}

void tracking_gone(struct server *srv, struct slice key) {
    invalidate(srv, key, 0);
}

void tracking_read(void *arg, struct cmd_ctx *c) {
    struct server *srv = arg;
    struct client *cl = client_of(c->s);
    struct tracker *t = tracker_of(cl);
    unsigned f = t ? flags_of(t) : 0;
    if (c->cmd->flags & CMD_SKIP_MONITOR) return; /* a script that only reads: what it reads comes by itself */
    if (!(f & TRACKING_ON) || ((f & TRACKING_OPTIN) && !c->s->caching) || ((f & TRACKING_OPTOUT) && c->s->caching)) return;
    int local[32], *pos = local, n = cmd_keys(c->cmd, c->argc, c->argv, pos, NULL, 32);
    if (n > 32) {
        pos = mem_calloc((size_t)n, sizeof *pos);
        n = cmd_keys(c->cmd, c->argc, c->argv, pos, NULL, n);
    }
    for (int i = 0; i < n; i++) tracking_table_add(srv->tracking->table, c->argv[pos[i]], t);
    if (pos != local) mem_free(pos);
}

void tracking_trim(struct server *srv) {
    struct tracking_table *t = srv->tracking->table;
    int64_t max = cfg_get(&srv->cfg->tracking_table_max_keys);
    while (max && tracking_table_keys(t) > (uint64_t)max) {
        struct tracked *k = tracking_table_take_random(t);
        if (!k) return;
        tell_readers(srv, k, 0);
    }
}

struct flush {
    struct mail mail;
};

static void flush_arrived(struct inbox_msg *msg, void *owner) {
    struct flush *f = list_entry(list_entry(msg, struct mail, msg), struct flush, mail);
    struct io_thread *th = owner;
    struct addressees elsewhere = { 0 };
    mem_free(f);
    list_for_each(n, &th->tracking) {
        struct client *c = list_entry(n, struct client, tracking_node);
        if (tracking_redirect(c)) {
            add(&elsewhere, tracker_of(c));
        } else {
            push_to(c, NULL, false);
        }
    }
    post_to(th->srv, &elsewhere, NULL);
    mem_free(elsewhere.list);
}

void tracking_flushed(void *arg, struct cmd_ctx *c, int db) {
    struct server *srv = arg;
    (void)c;
    (void)db;
    if (atomic_load_explicit(&srv->tracking->clients, memory_order_relaxed))
        for (int t = 0; t < srv->n_threads; t++) {
            struct flush *f = mem_zalloc(sizeof *f);
            f->mail = (struct mail){ { .run = flush_arrived }, sizeof *f };
            mail_post(&srv->threads[t], &f->mail);
        }
    tracking_table_clear(srv->tracking->table);
}
