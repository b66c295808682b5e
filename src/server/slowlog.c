/*
 * The slow log. Place in the flow: observe.c adds what was slow, SLOWLOG reads. An entry keeps what redis-server's does: at most
 * 32 arguments, the last of which says how many more there were, and 128 bytes of each.
 */
#include "server/slowlog.h"

#include <pthread.h>
#include <stdio.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"
#include "server/client.h"
#include "server/observe.h"

#define MAX_ARGS 32
#define MAX_BYTES 128

struct slow_entry {
    struct list node;
    int64_t id, time_s;
    uint64_t usec;
    char *addr, *name;
    int argc;
    struct slice argv[MAX_ARGS]; /* each owned */
};

struct slowlog {
    pthread_mutex_t lock;
    struct list entries; /* newest first */
    int64_t n, next_id;
};

struct slowlog *slowlog_new(void) {
    struct slowlog *l = mem_zalloc(sizeof *l);
    pthread_mutex_init(&l->lock, NULL);
    list_init(&l->entries);
    return l;
}

static void entry_done(struct slow_entry *e) {
    for (int i = 0; i < e->argc; i++) mem_free((void *)(uintptr_t)e->argv[i].ptr);
    mem_free(e->addr);
    mem_free(e->name);
    mem_free(e);
}

static void entries_free(struct list *entries) {
    list_for_each_safe(n, tmp, entries) {
        list_remove(n);
        entry_done(list_entry(n, struct slow_entry, node));
    }
}

struct slowlog *slowlog_free(struct slowlog *l) {
    if (!l) return NULL;
    entries_free(&l->entries);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
    return NULL;
}

static struct slice cut(struct slice arg) {
    if (arg.len <= MAX_BYTES) return (struct slice){ mem_memdup0(arg.ptr, arg.len), arg.len };
    char *text = mem_asprintf("%*s... (%zu more bytes)", MAX_BYTES, "", arg.len - MAX_BYTES);
    memcpy(text, arg.ptr, MAX_BYTES);
    return (struct slice){ text, MAX_BYTES + strlen(text + MAX_BYTES) }; /* the first part may have NUL bytes */
}

static struct slow_entry *entry_new(const struct cmd_ctx *c, uint64_t usec) {
    const struct client *cl = client_of(c->s);
    struct slow_entry *e = mem_zalloc(sizeof *e);
    list_init(&e->node);
    e->time_s = clock_wall_us() / 1000000;
    e->usec = usec;
    e->addr = mem_strdup(cl->addr);
    e->name = mem_strdup(cl->name ? cl->name : "");
    e->argc = c->argc < MAX_ARGS ? c->argc : MAX_ARGS;
    for (int i = 0; i < e->argc; i++) {
        if (i == MAX_ARGS - 1 && c->argc > MAX_ARGS) {
            e->argv[i] = slice_cstr(mem_asprintf("... (%d more arguments)", c->argc - MAX_ARGS + 1));
        } else {
            e->argv[i] = cut(observe_is_secret(c, i) ? SLICE_LIT(OBSERVE_REDACTED) : c->argv[i]);
        }
    }
    return e;
}

void slowlog_add(struct slowlog *l, const struct cmd_ctx *c, uint64_t usec, int64_t max) {
    struct slow_entry *e = entry_new(c, usec);
    struct list old = LIST_INIT(old);
    pthread_mutex_lock(&l->lock);
    e->id = l->next_id++;
    list_push_front(&l->entries, &e->node);
    l->n++;
    while (l->n > max) {
        struct list *last = l->entries.prev;
        list_remove(last);
        list_push_back(&old, last);
        l->n--;
    }
    pthread_mutex_unlock(&l->lock);
    entries_free(&old);
}

void slowlog_reset(struct slowlog *l) {
    struct list old = LIST_INIT(old);
    pthread_mutex_lock(&l->lock);
    list_move_all(&old, &l->entries);
    l->n = 0;
    pthread_mutex_unlock(&l->lock);
    entries_free(&old);
}

int64_t slowlog_len(struct slowlog *l) {
    pthread_mutex_lock(&l->lock);
    int64_t n = l->n;
    pthread_mutex_unlock(&l->lock);
    return n;
}

static void entry_reply(const struct slow_entry *e, struct reply *r) {
    reply_array(r, 6);
    reply_int(r, e->id);
    reply_int(r, e->time_s);
    reply_int(r, (int64_t)e->usec);
    reply_array(r, (size_t)e->argc);
    for (int i = 0; i < e->argc; i++) reply_bulk_slice(r, e->argv[i]);
    reply_bulk_cstr(r, e->addr);
    reply_bulk_cstr(r, e->name);
}

void slowlog_reply(struct slowlog *l, struct reply *r, int64_t count) {
    pthread_mutex_lock(&l->lock);
    if (count < 0 || count > l->n) count = l->n;
    reply_array(r, (size_t)count);
    for (struct list *n = l->entries.next; count > 0; n = n->next, count--)
        entry_reply(list_entry(n, struct slow_entry, node), r);
    pthread_mutex_unlock(&l->lock);
}
