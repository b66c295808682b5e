/* Reading RDB files. See rdb_file.h. Place in the flow: start-up, DEBUG RELOAD, the base of an append-only file, full
 * synchronisations. Thread: the loader's.
 *
 * With several threads (rdb_load_opts.n_threads) the caller's looks only for the ends of keys (data/rdb_skip.h) and gives the
 * bytes between, whole keys in chunks of CHUNK_BYTES, to the others (rdb_split.h). A chunk is loaded as a file is, by a loader of
 * its own. Its outcome comes back in the order of the file, so the first error is the first in the file. What is no key is read
 * when everything before it is done. A key that the caller cannot find the end of, or that is very long, it reads again, the
 * usual way: so there is one decoder, and one text for each error. With few threads short keys
 * stay with the caller, too.
 *
 * The source's pieces pass through here to be summed up before they are given back for new ones: so the checksum costs one pass
 * over warm bytes, and whatever follows the file (commands, behind the preamble of an append-only file) stays in the source. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/crc64.h"
#include "base/str.h"
#include "cmd/script/script.h"
#include "data/rdb_skip.h"
#include "persist/rdb_file.h"
#include "persist/rdb_opcode.h"
#include "persist/rdb_split.h"

#define KEY_BYTES_MIN 3       /* of a file, for one key: type, and two empty strings */
#define UNKNOWN_RESERVE 65536 /* keys, when nobody knows how long the file is */
#define EMPTY_NOTED 10        /* empty keys that get a line of the log each */

#define TEXT_MAX 256            /* a longer name or string has memory of its own */
#define ARENA_BYTES (32u << 10) /* for the names and small strings of a batch */
#define BATCH_ALONE 64          /* keys; several threads take more, which fall to few of the shards at a time */

#define CHUNK_BYTES (128u << 10) /* and the rest of a key */
#define RECORD_MAX (16u << 20)   /* bytes of a key for a chunk */
#define SHORT_KEY 64             /* bytes with its value: decoding takes no longer than giving it away */
#define MANY_THREADS 4           /* from so many on it is done all the same */
#define ALONE_KEYS 65536         /* after a chunk of short ones, before the next is looked at */

/* Keys that have been read and are not in the keyspace yet: their look-ups overlap. All of one database. */
struct batch {
    struct ks_load_item items[KS_LOAD_MAX];
    char *owned[KS_LOAD_MAX]; /* a name too long for the arena */
    unsigned n;
    size_t used; /* of arena */
    char arena[ARENA_BYTES];
};

struct loader {
    struct rdb_in in; /* the caller's, with our `more` */
    struct rdb_in *source;
    const unsigned char *summed; /* bytes of the piece before this one are in crc */
    uint64_t before;             /* bytes of the pieces before this one */
    const unsigned char *piece;  /* its start */
    uint64_t crc;
    struct keyspace *ks;
    bool locked;
    struct scripts *functions;
    const struct rdb_load_opts *o;
    struct rdb_file_found *found;
    int db;
    /* of the next key */
    int64_t expire_ms, idle_s, freq; /* KS_NO_EXPIRE, -1, -1: not said */
    char *err;
    size_t cap;
    int result; /* 0: go on */
    struct batch *b;
    struct ks_gates *gates; /* NULL: no other thread is putting in keys at the time */
    /* of who gives keys to others: */
    struct rdb_split *split;      /* NULL: nobody */
    struct ks_gates *split_gates; /* theirs */
    struct rdb_chunk *chunk;      /* being filled; NULL: none */
    const unsigned char *mark;    /* from here to in.p the bytes are the chunk's, and not in it yet; NULL: no such */
    size_t record;                /* bytes of the chunk before the last key */
    unsigned char *again;         /* a piece that was made of what is to be read again; owned */
    uint64_t in_chunk;            /* keys */
    bool is_direct;               /* the next key is not given away; and so many more */
    uint64_t alone;
    bool has_ended;       /* the source */
    uint64_t n_keys_read; /* here */
    /* of who loads a chunk: */
    struct buf *empty; /* names of empty keys, to be noted by the caller's loader; NULL: noted here */
};

/* ---- the source ---- */

static void sum_up(struct loader *l) {
    if (l->in.p > l->summed) l->crc = crc64(l->crc, l->summed, (size_t)(l->in.p - l->summed));
    l->summed = l->in.p;
}

static uint64_t bytes_read(const struct loader *l) {
    return l->before + (uint64_t)(l->in.p - l->piece);
}

static bool tell_progress(struct loader *l) {
    if (!l->o->progress || l->result || l->o->progress(l->o->arg, bytes_read(l), l->found->keys)) return true;
    l->result = -ECANCELED;
    snprintf(l->err, l->cap, "Loading was cancelled");
    return false;
}

/* What has been passed over, before it goes. */
static void fill_chunk(struct loader *l) {
    if (!l->mark) return;
    buf_append(&l->chunk->bytes, l->mark, (size_t)(l->in.p - l->mark));
    l->mark = l->in.p;
}

static bool next_piece(struct rdb_in *in) {
    struct loader *l = in->arg;
    in->p = in->end;
    fill_chunk(l);
    if (l->mark && l->chunk->bytes.len - l->record > RECORD_MAX) return false;
    sum_up(l);
    l->before += (uint64_t)(in->end - l->piece);
    l->piece = l->summed = in->end;
    if (!tell_progress(l)) return rdb_fail(in, "cancelled");
    struct rdb_in *src = l->source;
    src->p = src->end;
    l->has_ended = l->has_ended || !src->more || !src->more(src);
    if (l->has_ended) return false;
    if (l->mark) l->mark = src->p;
    in->p = l->piece = l->summed = src->p;
    in->end = src->end;
    return true;
}

static void attach(struct loader *l, struct rdb_in *source) {
    l->source = source;
    l->in = *source;
    l->in.more = next_piece;
    l->in.arg = l;
    l->in.err = NULL;
    l->piece = l->summed = source->p;
}

/* What has not been read stays the source's. The end of a piece is the end of the source's. */
static void detach(struct loader *l) {
    if (!l->in.err) l->source->p = l->source->end - (l->in.end - l->in.p);
}

/* From the last key of the chunk on, which leaves it: a piece is made of what has been read of it and the rest of this one. */
static void read_again(struct loader *l) {
    struct rdb_in *in = &l->in;
    struct buf *b = &l->chunk->bytes;
    fill_chunk(l);
    size_t n = b->len - l->record, rest = (size_t)(in->end - in->p);
    uint64_t at = l->chunk->at + l->record, summed_at = l->before + (uint64_t)(l->summed - l->piece);
    if (summed_at < at) { /* then it began in this piece */
        l->crc = crc64(l->crc, l->summed, (size_t)(at - summed_at));
        summed_at = at;
    }
    unsigned char *again = mem_alloc(n + rest);
    memcpy(again, b->data + l->record, n);
    if (rest) memcpy(again + n, in->p, rest);
    b->len = l->record;
    mem_free(l->again);
    l->again = again;
    l->before = at;
    l->summed = again + (summed_at - at);
    l->mark = NULL;
    in->p = l->piece = again;
    in->end = again + n + rest;
    in->more = next_piece;
    in->err = NULL;
}

/* ---- texts ---- */

static int fail(struct loader *l, int result, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int fail(struct loader *l, int result, const char *fmt, ...) {
    va_list ap;
    if (l->result) return l->result; /* the first reason stays */
    l->result = result;
    va_start(ap, fmt);
    vsnprintf(l->err, l->cap, fmt, ap);
    va_end(ap);
    return result;
}

/* What the reader stumbled over, if it did. */
static int check(struct loader *l, const char *what) {
    if (!l->in.err || l->result) return l->result;
    if (strcmp(l->in.err, "the data ends too early") == 0)
        return fail(l, -EINVAL, "Short read or OOM loading DB. Unrecoverable error, aborting now. (%s at offset %llu)", what,
                    (unsigned long long)l->found->bytes);
    return fail(l, -EINVAL, "Internal error in RDB reading offset %llu, %s: %s", (unsigned long long)l->found->bytes, what,
                l->in.err);
}

static void note(struct loader *l, enum log_level level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void note(struct loader *l, enum log_level level, const char *fmt, ...) {
    char text[1024];
    va_list ap;
    if (!l->o->note) return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    l->o->note(l->o->arg, level, text);
}

static int shown(size_t len) { /* of names from the file, in texts */
    return len < 128 ? (int)len : 128;
}

/* ---- facts ---- */

static int64_t number_of(struct slice s) {
    int64_t v;
    return str_to_ll(s, &v) ? v : 0;
}

static void take_fact(struct loader *l, struct slice name, struct slice value) {
    struct rdb_file_found *f = l->found;
    f->bytes = bytes_read(l);
    if (l->o->visit && l->o->visit->aux) l->o->visit->aux(l->o->arg, name, value);
    if (slice_ieq(name, "repl-stream-db")) {
        f->repl_stream_db = (int)number_of(value);
    } else if (slice_ieq(name, "repl-id")) {
        f->has_repl = value.len == sizeof f->repl_id - 1;
        if (f->has_repl) memcpy(f->repl_id, value.ptr, value.len);
    } else if (slice_ieq(name, "repl-offset")) {
        f->repl_offset = number_of(value);
    } else if (slice_ieq(name, "redis-ver") || slice_ieq(name, "valkey-ver")) {
        snprintf(f->redis_ver, sizeof f->redis_ver, "%.*s", shown(value.len), value.ptr);
        note(l, LOG_LEVEL_NOTICE, "Loading RDB produced by version %s", f->redis_ver);
    } else if (slice_ieq(name, "ctime")) {
        f->ctime_s = number_of(value);
        int64_t age = l->o->now_ms / 1000 - f->ctime_s;
        note(l, LOG_LEVEL_NOTICE, "RDB age %lld seconds", (long long)(age > 0 ? age : 0));
    } else if (slice_ieq(name, "used-mem")) {
        f->used_mem = number_of(value);
        note(l, LOG_LEVEL_NOTICE, "RDB memory usage when created %.2f Mb", (double)f->used_mem / (1024 * 1024));
    } else if (slice_ieq(name, "aof-preamble")) {
        f->aof_base = number_of(value) != 0;
        if (f->aof_base) note(l, LOG_LEVEL_NOTICE, "RDB has an AOF tail");
    } else if (slice_ieq(name, "aof-base")) {
        f->aof_base = number_of(value) != 0;
        if (f->aof_base) note(l, LOG_LEVEL_NOTICE, "RDB is base AOF");
    } else if (name.len > 0 && name.ptr[0] == '%') {
        note(l, LOG_LEVEL_NOTICE, "RDB '%.*s': %.*s", shown(name.len), name.ptr, shown(value.len), value.ptr);
    } else if (!slice_ieq(name, "redis-bits") && !slice_ieq(name, "lua")) {
        note(l, LOG_LEVEL_DEBUG, "Unrecognized RDB AUX field: '%.*s'", shown(name.len), name.ptr);
    }
}

static void load_aux(struct loader *l) {
    char *name = NULL, *value = NULL;
    size_t name_len, value_len;
    if (rdb_get_string(&l->in, &name, &name_len) && rdb_get_string(&l->in, &value, &value_len))
        take_fact(l, (struct slice){ name, name_len }, (struct slice){ value, value_len });
    mem_free(name);
    mem_free(value);
    check(l, "auxiliary field");
}

static void refuse_module(struct loader *l) {
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint64_t id = rdb_get_len(&l->in, NULL);
    char name[10] = { 0 };
    if (check(l, "module's data")) return;
    id >>= 10; /* its encoding version */
    for (int i = 8; i >= 0; i--, id >>= 6) name[i] = set[id & 63];
    fail(l, -ENOTSUP, "The RDB file contains AUX module data I can't load: no matching module '%s'", name);
}

static void load_function(struct loader *l) {
    char *code, *why = NULL;
    size_t len;
    if (!rdb_get_string(&l->in, &code, &len)) {
        check(l, "a library");
        return;
    }
    l->found->functions++;
    if (l->o->library && !l->o->library(l->o->arg, (struct slice){ code, len }, &why))
        fail(l, -EINVAL, "Failed creating function library: %s", why);
    if (l->functions && !l->o->library && !l->o->no_functions &&
        scripts_add_library(l->functions, (struct slice){ code, len }, l->o->allow_dup, &why) < 0)
        fail(l, -EINVAL, "Failed creating function library: %s", why);
    mem_free(why);
    mem_free(code);
}

static void put_batch(struct loader *l);

/* ---- databases ---- */

static void select_db(struct loader *l) {
    put_batch(l);
    uint64_t db = rdb_get_len(&l->in, NULL);
    if (check(l, "database number")) return;
    l->found->bytes = bytes_read(l);
    if (l->o->visit && l->o->visit->db) l->o->visit->db(l->o->arg, db);
    int n_dbs = l->ks ? ks_n_dbs(l->ks) : INT32_MAX;
    if (db >= (uint64_t)n_dbs)
        fail(l, -ENOTSUP, "FATAL: Data file was created with a Redis server configured to handle more than %d databases. Exiting",
             n_dbs);
    else
        l->db = (int)db;
}

/* The file may claim anything: there cannot be more keys than its bytes have room for. */
static void reserve(struct loader *l) {
    uint64_t keys = rdb_get_len(&l->in, NULL);
    rdb_get_len(&l->in, NULL); /* how many of them expire */
    if (check(l, "size of a database")) return;
    uint64_t read = bytes_read(l), most = l->o->size > read ? (l->o->size - read) / KEY_BYTES_MIN : UNKNOWN_RESERVE;
    if (keys > most) keys = most;
    if (l->ks) ks_reserve(l->ks, l->db, keys, l->locked);
}

static void load_slot_info(struct loader *l) {
    for (int i = 0; i < 3; i++) rdb_get_len(&l->in, NULL);
    check(l, "slot information");
}

/* ---- keys ---- */

static bool is_gone(const struct loader *l) {
    return !l->o->keep_expired && l->expire_ms != KS_NO_EXPIRE && l->expire_ms < l->o->now_ms;
}

static void show_key(struct loader *l, unsigned type, struct slice key, const struct obj *o) {
    const struct rdb_visited v = { .db = l->db, .type = type, .key = key, .value = o, .expire_ms = l->expire_ms };
    if (l->o->visit && l->o->visit->key) l->o->visit->key(l->o->arg, &v);
}

/* ---- the batch ---- */

static struct batch *batch_new(void) {
    struct batch *b = mem_alloc(sizeof *b);
    b->n = 0;
    b->used = 0;
    return b;
}

static void put_batch(struct loader *l) {
    struct batch *b = l->b;
    unsigned n = b->n;
    const struct ks_load_how how = { .now_ms = l->o->now_ms, .replace = l->o->allow_dup, .locked = l->locked, .gates = l->gates };
    if (n == 0) return;
    ks_load(l->ks, l->db, b->items, n, &how);
    for (unsigned i = 0; i < n; i++) {
        struct ks_load_item *it = &b->items[i];
        if (it->is_dup) {
            obj_unref(it->value);
            fail(l, -EINVAL, "RDB has duplicated key '%.*s' in DB %d", shown(it->key.len), it->key.ptr, l->db);
        } else {
            l->found->keys++;
        }
        mem_free(b->owned[i]);
    }
    l->found->last_db = l->db;
    b->n = 0;
    b->used = 0;
}

static bool has_room(const struct batch *b, size_t n) {
    return n <= ARENA_BYTES - b->used;
}

static struct slice keep(struct batch *b, struct slice s) {
    char *at = b->arena + b->used;
    if (s.len) memcpy(at, s.ptr, s.len);
    b->used += s.len;
    return (struct slice){ at, s.len };
}

/* Of the key that is being read: valid until it has been put in. */
static bool read_name(struct loader *l, struct slice *ret) {
    char tmp[RDB_PEEK_TMP], *owned;
    struct batch *b = l->b;
    struct slice s = { NULL, 0 };
    size_t len;
    if (b->n == (l->gates ? KS_LOAD_MAX : BATCH_ALONE) || !has_room(b, 2 * TEXT_MAX)) put_batch(l);
    b->owned[b->n] = NULL;
    if (rdb_take_string(&l->in, tmp, &s) && s.len <= TEXT_MAX) {
        *ret = keep(b, s);
        return true;
    }
    if (s.ptr) { /* taken, and too long */
        b->owned[b->n] = mem_memdup0(s.ptr, s.len);
        *ret = (struct slice){ b->owned[b->n], s.len };
        return true;
    }
    if (!rdb_get_string(&l->in, &owned, &len)) return false;
    b->owned[b->n] = owned;
    *ret = (struct slice){ owned, len };
    return true;
}

static void add(struct loader *l, struct slice key, struct obj *value_take, struct slice text) {
    struct batch *b = l->b;
    b->items[b->n++] = (struct ks_load_item){
        .key = key, .value = value_take, .text = text, .expire_ms = l->expire_ms, .idle_s = l->idle_s, .freq = l->freq
    };
}

static void drop_name(struct loader *l) {
    mem_free(l->b->owned[l->b->n]);
    l->b->owned[l->b->n] = NULL;
}

/* A small string that is there now needs no object. */
static bool add_small(struct loader *l, unsigned type, struct slice key) {
    char tmp[RDB_PEEK_TMP];
    struct slice s;
    struct rdb_in before = l->in;
    if (type != RDB_STRING || !l->ks || is_gone(l) || !rdb_take_string(&l->in, tmp, &s)) return false;
    if (s.len <= TEXT_MAX) {
        add(l, key, NULL, keep(l->b, s));
        return true;
    }
    l->in.p = before.p;
    return false;
}

static void note_empty(struct loader *l, struct slice key) {
    if (l->empty) {
        if (l->found->empty++ < EMPTY_NOTED) buf_printf(l->empty, "%.*s%c", shown(key.len), key.ptr, 0);
        return;
    }
    if (l->found->empty++ < EMPTY_NOTED)
        note(l, LOG_LEVEL_NOTICE, "rdbLoadObject skipping empty key: %.*s", shown(key.len), key.ptr);
    if (l->found->empty == EMPTY_NOTED)
        note(l, LOG_LEVEL_NOTICE, "rdbLoadObject skipping empty keys, (10 logged, the rest are not)");
}

static void load_value(struct loader *l, unsigned type, struct slice key) {
    struct obj *o = rdb_load_value(&l->in, type, l->o->keep_expired ? 0 : l->o->now_ms);
    if (o && is_gone(l)) {
        obj_unref(o);
        l->found->expired++;
    } else if (o && l->ks) {
        add(l, key, o, (struct slice){ NULL, 0 });
        return;
    } else if (o) {
        show_key(l, type, key, o);
        obj_unref(o);
        l->found->keys++;
    } else if (l->in.err == rdb_empty) {
        l->in.err = NULL;
        note_empty(l, key);
    } else {
        char what[192];
        snprintf(what, sizeof what, "key '%.*s'", shown(key.len), key.ptr);
        check(l, what);
    }
    drop_name(l);
}

static void note_name(struct rdb_file_found *f, struct slice key) {
    f->has_key = true;
    snprintf(f->key, sizeof f->key, "%.*s", shown(key.len), key.len ? key.ptr : "");
}

static void wait_a_little(struct loader *l) {
    put_batch(l);
    usleep((useconds_t)l->o->key_delay_us);
    if (!l->result) tell_progress(l);
}

static void load_key(struct loader *l, unsigned type) {
    struct slice key;
    l->n_keys_read++;
    l->found->bytes = bytes_read(l);
    l->found->type = (int)type;
    l->found->doing = "read-key";
    if (read_name(l, &key)) {
        l->found->doing = "read-object-value";
        if (!l->ks) note_name(l->found, key);
        if (!add_small(l, type, key)) load_value(l, type, key);
    } else {
        check(l, "a key");
    }
    l->expire_ms = KS_NO_EXPIRE;
    l->idle_s = l->freq = -1;
    if (!l->result) {
        l->found->has_key = false;
        l->found->type = -1;
    }
    if (l->o->key_delay_us > 0) wait_a_little(l);
}

/* ---- all ---- */

static void load_expire_s(struct loader *l) {
    unsigned char b[4];
    if (rdb_get(&l->in, b, 4)) /* little endian, signed */
        l->expire_ms =
            (int64_t)(int32_t)((uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24) * 1000;
    check(l, "a time");
}

static const char *doing_of(unsigned op) {
    switch (op) {
    case RDB_OP_EXPIRETIME_MS:
    case RDB_OP_EXPIRETIME:
        return "read-expire";
    case RDB_OP_AUX:
        return "read-aux";
    case RDB_OP_MODULE_AUX:
        return "read-module-aux";
    case RDB_OP_FUNCTION2:
    case RDB_OP_FUNCTION_PRE_GA:
        return "read-function";
    default:
        return "read-len";
    }
}

static void load_item(struct loader *l, unsigned op) {
    l->found->doing = doing_of(op);
    l->found->bytes = bytes_read(l);
    switch (op) {
    case RDB_OP_EXPIRETIME_MS:
        l->expire_ms = (int64_t)rdb_get_u64(&l->in);
        check(l, "a time");
        break;
    case RDB_OP_EXPIRETIME:
        load_expire_s(l);
        break;
    case RDB_OP_FREQ:
        l->freq = rdb_get_u8(&l->in);
        check(l, "a counter");
        break;
    case RDB_OP_IDLE:
        l->idle_s = (int64_t)(rdb_get_len(&l->in, NULL) & INT64_MAX);
        check(l, "an idle time");
        break;
    case RDB_OP_SELECTDB:
        select_db(l);
        break;
    case RDB_OP_RESIZEDB:
        reserve(l);
        break;
    case RDB_OP_SLOT_INFO:
        load_slot_info(l);
        break;
    case RDB_OP_AUX:
        load_aux(l);
        break;
    case RDB_OP_MODULE_AUX:
        refuse_module(l);
        break;
    case RDB_OP_FUNCTION2:
        load_function(l);
        break;
    case RDB_OP_FUNCTION_PRE_GA:
        fail(l, -ENOTSUP, "Pre-release function format not supported.");
        break;
    default:
        load_key(l, op);
    }
}

/* ---- several threads ---- */

/* In any of them. */
static void load_chunk(void *arg, struct rdb_chunk *c) {
    const struct loader *from = arg;
    struct rdb_load_opts o = *from->o;
    struct loader l = {
        .ks = from->ks, .locked = from->locked, .gates = from->split_gates, .o = &o, .found = &c->found, .db = c->db
    };
    o.progress = NULL;
    o.note = NULL;
    o.visit = NULL;
    l.err = c->err;
    l.cap = sizeof c->err;
    l.empty = &c->empty;
    l.expire_ms = KS_NO_EXPIRE;
    l.idle_s = l.freq = -1;
    l.in.p = l.piece = l.summed = (const unsigned char *)c->bytes.data;
    l.in.end = l.in.p + c->bytes.len;
    l.in.max_string = from->in.max_string;
    l.before = c->at;
    l.b = batch_new();
    while (!l.result && l.in.p < l.in.end) load_item(&l, rdb_get_u8(&l.in));
    put_batch(&l);
    mem_free(l.b);
    c->result = l.result;
}

static void take_outcome(struct loader *l, const struct rdb_chunk *c) {
    struct rdb_file_found *f = l->found;
    uint64_t empty = f->empty + c->found.empty;
    f->keys += c->found.keys;
    f->expired += c->found.expired;
    if (c->found.keys) f->last_db = c->db;
    for (size_t at = 0; at < c->empty.len && f->empty < EMPTY_NOTED; at += strlen(c->empty.data + at) + 1)
        note_empty(l, slice_cstr(c->empty.data + at));
    f->empty = empty;
    if (!c->result || l->result) return;
    fail(l, c->result, "%s", c->err);
    rdb_split_stop(l->split);
}

static bool retire_one(struct loader *l) {
    const struct rdb_chunk *c = rdb_split_wait(l->split);
    if (!c) return false;
    take_outcome(l, c);
    rdb_split_retire(l->split);
    return true;
}

static void give_chunk(struct loader *l, bool is_last) {
    struct rdb_chunk *c = l->chunk;
    fill_chunk(l);
    l->chunk = NULL;
    l->mark = NULL;
    if (!c || c->bytes.len == 0) return;
    c->db = l->db;
    c->found = (struct rdb_file_found){ .type = -1, .doing = "start" };
    bool are_short = l->o->n_threads < MANY_THREADS && c->bytes.len < l->in_chunk * SHORT_KEY;
    rdb_split_put(l->split, is_last || are_short);
    while (rdb_split_is_full(l->split)) retire_one(l);
    l->in_chunk = 0;
    if (is_last || !are_short) return;
    l->is_direct = true;
    l->alone = ALONE_KEYS;
}

/* Afterwards all that was given away is in the keyspace, or l->result says why not. */
static void drain(struct loader *l) {
    if (!l->split) return;
    if (l->result) rdb_split_stop(l->split);
    give_chunk(l, true);
    while (retire_one(l)) {
    }
}

static bool is_of_key(unsigned op) {
    switch (op) {
    case RDB_OP_EOF:
    case RDB_OP_SELECTDB:
    case RDB_OP_RESIZEDB:
    case RDB_OP_SLOT_INFO:
    case RDB_OP_AUX:
    case RDB_OP_MODULE_AUX:
    case RDB_OP_FUNCTION2:
    case RDB_OP_FUNCTION_PRE_GA:
        return false;
    default:
        return true;
    }
}

/* What stands before a type; false: nothing of the kind, or an error. */
static bool pass_attribute(struct rdb_in *in, unsigned op) {
    unsigned char b[4];
    switch (op) {
    case RDB_OP_EXPIRETIME_MS:
        rdb_get_u64(in);
        break;
    case RDB_OP_EXPIRETIME:
        rdb_get(in, b, sizeof b);
        break;
    case RDB_OP_FREQ:
        rdb_get_u8(in);
        break;
    case RDB_OP_IDLE:
        rdb_get_len(in, NULL);
        break;
    default:
        return false;
    }
    return !in->err;
}

static bool pass_key(struct rdb_in *in, unsigned op) {
    while (pass_attribute(in, op)) op = rdb_get_u8(in);
    if (!in->err) rdb_skip_string(in);
    return !in->err && rdb_skip_value(in, op);
}

/* op has just been read. */
static void give_key(struct loader *l, unsigned op) {
    if (!l->chunk) {
        l->chunk = rdb_split_take(l->split);
        l->chunk->at = bytes_read(l) - 1;
    }
    if (!l->mark) l->mark = l->in.p - 1;
    l->record = l->chunk->bytes.len + (size_t)(l->in.p - 1 - l->mark);
    if (pass_key(&l->in, op)) {
        l->in_chunk++;
        if (l->chunk->bytes.len + (size_t)(l->in.p - l->mark) >= CHUNK_BYTES) give_chunk(l, false);
        return;
    }
    if (l->result) return;
    read_again(l);
    drain(l);
    l->is_direct = true;
}

/* The byte that has just been read is not the chunk's. */
static void drain_before(struct loader *l) {
    if (l->mark) {
        l->in.p--;
        fill_chunk(l);
        l->in.p++;
        l->mark = NULL;
    }
    drain(l);
}

static void load_or_give(struct loader *l, unsigned op) {
    if (!l->split) {
        load_item(l, op);
    } else if (is_of_key(op) && !l->is_direct) {
        give_key(l, op);
    } else {
        drain_before(l);
        if (l->result) return;
        uint64_t seen = l->n_keys_read;
        load_item(l, op);
        if (l->n_keys_read == seen || (l->alone > 0 && --l->alone > 0)) return;
        l->is_direct = false;
        put_batch(l);
    }
}

static void start_threads(struct loader *l) {
    const struct rdb_load_opts *o = l->o;
    if (o->n_threads < 2 || !l->ks || o->allow_dup || o->key_delay_us > 0 || (o->visit && o->visit->key)) return;
    l->split_gates = ks_gates_new();
    l->split = rdb_split_new(o->n_threads, load_chunk, l);
}

static void end_threads(struct loader *l) {
    drain(l);
    l->split = rdb_split_free(l->split);
    l->split_gates = ks_gates_free(l->split_gates);
}

static void load_header(struct loader *l) {
    char head[RDB_HEADER_BYTES + 1] = { 0 };
    if (!rdb_get(&l->in, head, RDB_HEADER_BYTES)) {
        check(l, "its first bytes");
        return;
    }
    int64_t version;
    if (memcmp(head, RDB_MAGIC, 5) != 0) {
        fail(l, -EINVAL, "Wrong signature trying to load DB from file");
    } else if (!str_to_ll((struct slice){ head + 5 + strspn(head + 5, "0"), strlen(head + 5) - strspn(head + 5, "0") },
                          &version) ||
               version < 1 || version > RDB_VERSION_READ) {
        fail(l, -ENOTSUP, "Can't handle RDB format version %d", (int)strtol(head + 5, NULL, 10));
    } else {
        l->found->version = (int)version;
    }
}

static void load_checksum(struct loader *l) {
    l->found->doing = "check-sum";
    if (l->found->version < RDB_CHECKSUM_SINCE) return;
    sum_up(l);
    uint64_t have = l->crc, want = rdb_get_u64(&l->in);
    if (check(l, "its checksum")) return;
    l->found->has_checksum = want != 0;
    if (want == 0)
        note(l, LOG_LEVEL_NOTICE, "RDB file was saved with checksum disabled: no check performed.");
    else if (want != have)
        fail(l, -EINVAL, "Wrong RDB checksum expected: (%llx) but got (%llx). Aborting now.", (unsigned long long)want,
             (unsigned long long)have);
}

int rdb_file_load(struct rdb_in *in, struct keyspace *ks, bool locked, struct scripts *functions, const struct rdb_load_opts *o,
                  struct rdb_file_found *ret, char *err, size_t cap) {
    struct loader l = { .ks = ks, .locked = locked, .functions = functions, .o = o, .found = ret, .err = err, .cap = cap };
    *ret = (struct rdb_file_found){ .repl_stream_db = -1, .type = -1, .doing = "start" };
    l.expire_ms = KS_NO_EXPIRE;
    l.idle_s = l.freq = -1;
    if (cap) err[0] = 0;
    l.b = batch_new();
    attach(&l, in);
    start_threads(&l);
    mem_fill_ahead(true);
    load_header(&l);
    while (!l.result) {
        ret->doing = "read-type";
        ret->bytes = bytes_read(&l);
        unsigned op = rdb_get_u8(&l.in);
        if (l.in.err) drain(&l);
        if (op == RDB_OP_EOF) drain_before(&l);
        if (check(&l, "what follows a key") || op == RDB_OP_EOF) break;
        load_or_give(&l, op);
    }
    put_batch(&l);
    end_threads(&l);
    mem_fill_ahead(false);
    if (!l.result) load_checksum(&l);
    mem_free(l.b);
    ret->bytes = bytes_read(&l);
    tell_progress(&l);
    detach(&l);
    mem_free(l.again);
    if (l.result) in->err = l.in.err ? l.in.err : "see text";
    return l.result;
}
