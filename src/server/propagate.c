/*
 * Units into logs. See propagate.h. Any thread; the lock is prop->lock.
 *
 * A unit's bytes are copied into a log as they were encoded. Only where the database changes, or an operation is not for this log
 * (redis.set_repl, PUBLISH), is it cut: the pieces array says what goes where, and is kept from unit to unit.
 */
#include "server/propagate.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "server/repl_link.h"
#include "server/server.h"

#define N_LOGS 2
#define KEEP_PIECES 4096
#define NO_DB (-1)

struct log {
    struct propagate_sink sink;
    bool is_on;
    int db; /* that was selected last, or NO_DB */
};

struct select_text {
    char text[40];
    unsigned char len; /* 0: not made yet */
};

struct propagate {
    pthread_mutex_t lock;
    struct log logs[N_LOGS]; /* by log2 of enum effect_target */
    struct slice *pieces;    /* of the unit that is being appended */
    int n, cap;
    struct select_text *selects; /* by database */
    int n_selects;
};

struct propagate *propagate_new(void) {
    struct propagate *p = mem_zalloc(sizeof *p);
    pthread_mutexattr_t attr;
    pthread_mutexattr_init(&attr);
    pthread_mutexattr_settype(&attr, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&p->lock, &attr);
    pthread_mutexattr_destroy(&attr);
    return p;
}

struct propagate *propagate_free(struct propagate *p) {
    if (!p) return NULL;
    pthread_mutex_destroy(&p->lock);
    mem_free(p->pieces);
    mem_free(p->selects);
    mem_free(p);
    return NULL;
}

static struct log *log_of(struct propagate *p, unsigned which) {
    return &p->logs[which == EFFECT_REPL];
}

void propagate_set_sink(struct server *srv, enum effect_target which, const struct propagate_sink *sink) {
    struct propagate *p = srv->prop;
    pthread_mutex_lock(&p->lock);
    struct log *l = log_of(p, which);
    *l = (struct log){ .is_on = sink != NULL, .db = NO_DB };
    if (sink) l->sink = *sink;
    unsigned to = (p->logs[0].is_on ? EFFECT_AOF : 0u) | (p->logs[1].is_on ? EFFECT_REPL : 0u);
    atomic_store_explicit(&srv->eng.propagate_to, to, memory_order_relaxed);
    pthread_mutex_unlock(&p->lock);
}

void propagate_reselect(struct server *srv, unsigned which) {
    struct propagate *p = srv->prop;
    pthread_mutex_lock(&p->lock);
    if (which & EFFECT_AOF) log_of(p, EFFECT_AOF)->db = NO_DB;
    if (which & EFFECT_REPL) log_of(p, EFFECT_REPL)->db = NO_DB;
    pthread_mutex_unlock(&p->lock);
}

/* ---- pieces ---- */

static void put(struct propagate *p, struct slice s) {
    if (p->n == p->cap) {
        p->cap = p->cap ? p->cap * 2 : 16;
        p->pieces = mem_realloc(p->pieces, (size_t)p->cap * sizeof *p->pieces);
    }
    p->pieces[p->n++] = s;
}

static void more_selects(struct propagate *p, int db) {
    int n = p->n_selects ? p->n_selects : 16;
    while (n <= db) n = n > (1 << 29) ? db + 1 : n * 2;
    p->selects = mem_realloc(p->selects, (size_t)n * sizeof *p->selects);
    memset(p->selects + p->n_selects, 0, (size_t)(n - p->n_selects) * sizeof *p->selects);
    p->n_selects = n;
}

/* What select_of gives for the databases up to this one stays where it is. */
static void reserve_select(struct propagate *p, int db) {
    if (db >= p->n_selects) more_selects(p, db);
}

static struct slice select_of(struct propagate *p, int db) {
    struct select_text *t = &p->selects[db];
    if (!t->len) {
        char number[24];
        size_t n = str_from_ll(number, db);
        t->len = (unsigned char)snprintf(t->text, sizeof t->text, "*2\r\n$6\r\nSELECT\r\n$%zu\r\n%s\r\n", n, number);
    }
    return (struct slice){ t->text, t->len };
}

static void put_select(struct propagate *p, struct log *l, int db) {
    if (db == l->db || db == NO_DB) return;
    put(p, select_of(p, db));
    l->db = db;
}

/* Operations that follow each other are one piece. */
static void put_op(struct propagate *p, struct log *l, const struct effects_unit *u, const struct effect *op) {
    struct slice bytes = { u->bytes + op->at, op->len };
    put_select(p, l, op->db);
    struct slice *last = p->n ? &p->pieces[p->n - 1] : NULL;
    if (last && last->ptr + last->len == bytes.ptr)
        last->len += bytes.len;
    else
        put(p, bytes);
}

static int count_for(struct propagate *p, const struct effects_unit *u, unsigned which) {
    int n = 0;
    for (int i = 0; i < u->n; i++) {
        if (!(u->ops[i].to & which)) continue;
        reserve_select(p, u->ops[i].db);
        n++;
    }
    return n;
}

/* The lock is held. False: nothing is for this log. */
static bool append(struct propagate *p, const struct effects_unit *u, unsigned which, uint64_t *ret_offset) {
    struct log *l = log_of(p, which);
    int n = l->is_on ? count_for(p, u, which) : 0;
    bool is_transaction = n > 1 && u->is_whole;
    if (n == 0) return false;
    p->n = 0;
    if (is_transaction) put(p, SLICE_LIT("*1\r\n$5\r\nMULTI\r\n"));
    for (int i = 0; i < u->n; i++)
        if (u->ops[i].to & which) put_op(p, l, u, &u->ops[i]);
    if (is_transaction) put(p, SLICE_LIT("*1\r\n$4\r\nEXEC\r\n"));
    *ret_offset = l->sink.append(l->sink.arg, p->pieces, p->n);
    if (p->cap > KEEP_PIECES) {
        mem_free(p->pieces);
        p->pieces = NULL;
        p->cap = 0;
    }
    return true;
}

static void wake(const struct propagate_sink *sink) {
    if (sink->wake) sink->wake(sink->arg);
}

void propagate_unit(void *arg, const struct effects_unit *u) {
    struct propagate *p = ((struct server *)arg)->prop;
    struct session none = { .repl_offset = 0 }, *s = u->session ? u->session : &none;
    struct propagate_sink aof, repl;
    pthread_mutex_lock(&p->lock);
    bool to_aof = append(p, u, EFFECT_AOF, &s->aof_offset), to_repl = append(p, u, EFFECT_REPL, &s->repl_offset);
    aof = log_of(p, EFFECT_AOF)->sink;
    repl = log_of(p, EFFECT_REPL)->sink;
    pthread_mutex_unlock(&p->lock);
    if (to_aof) wake(&aof);
    if (to_repl) wake(&repl);
}

void propagate_repl_command(struct server *srv, int db, int argc, const struct slice *argv) {
    struct propagate *p = srv->prop;
    struct buf bytes = { 0 };
    effects_encode(&bytes, argc, argv);
    struct effect op = { .db = db, .to = EFFECT_REPL, .len = bytes.len };
    struct effects_unit u = { .n = 1, .ops = &op, .bytes = bytes.data };
    uint64_t offset;
    pthread_mutex_lock(&p->lock);
    bool to_repl = append(p, &u, EFFECT_REPL, &offset);
    struct propagate_sink sink = log_of(p, EFFECT_REPL)->sink;
    pthread_mutex_unlock(&p->lock);
    if (to_repl) wake(&sink);
    buf_done(&bytes);
}

void propagate_get_point(struct server *srv, struct propagate_point *ret) {
    struct propagate *p = srv->prop;
    pthread_mutex_lock(&p->lock);
    struct log *aof = log_of(p, EFFECT_AOF), *repl = log_of(p, EFFECT_REPL);
    ret->aof_offset = aof->is_on ? aof->sink.offset(aof->sink.arg) : 0;
    ret->repl_offset = repl->is_on ? repl->sink.offset(repl->sink.arg) : 0;
    ret->repl_db = repl->db;
    pthread_mutex_unlock(&p->lock);
    if (srv->repl && repl_is_replica(srv->repl)) repl_link_point(srv, &ret->repl_offset, &ret->repl_db);
}
