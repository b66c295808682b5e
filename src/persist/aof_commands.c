/* A data set as commands. See the header. Runs in a forked child, or at the start of the server.
 *
 * Every key becomes one or more commands that build it (all types have one that adds elements), then PEXPIREAT. Streams need
 * more: XADD with the IDs, XSETID for what was deleted since, XGROUP CREATE, CREATECONSUMER, and XCLAIM ... FORCE for what is
 * pending. */
#include "persist/aof_commands.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/str.h"
#include "cmd/script/script.h"
#include "data/hash.h"
#include "data/list.h"
#include "data/set.h"
#include "data/stream.h"
#include "data/zset.h"

#define FLUSH_AT 65536 /* bytes gathered before they go to the sink */
#define PROGRESS_EVERY 1024

struct writer {
    const struct aof_commands_opts *o;
    struct buf buf;
    int err;
    uint64_t keys;
    /* the key under way */
    struct slice key;
    uint64_t left; /* elements */
    unsigned in_command;
};

/* ---- RESP ---- */

static bool flush(struct writer *w, size_t from) {
    if (!w->err && w->buf.len > from) w->err = w->o->sink(w->o->arg, w->buf.data, w->buf.len);
    if (w->buf.len > from) buf_clear(&w->buf);
    return !w->err;
}

static void put_count(struct writer *w, uint64_t n) {
    char text[STR_LL_MAX];
    size_t len = str_from_ull(text, n);
    buf_append_char(&w->buf, '*');
    buf_append(&w->buf, text, len);
    buf_append(&w->buf, "\r\n", 2);
}

static void put(struct writer *w, struct slice s) {
    char text[STR_LL_MAX];
    size_t len = str_from_ull(text, s.len);
    buf_append_char(&w->buf, '$');
    buf_append(&w->buf, text, len);
    buf_append(&w->buf, "\r\n", 2);
    buf_append(&w->buf, s.ptr, s.len);
    buf_append(&w->buf, "\r\n", 2);
    flush(w, FLUSH_AT);
}

static void put_text(struct writer *w, const char *s) {
    put(w, slice_cstr(s));
}

static void put_ll(struct writer *w, int64_t v) {
    char text[STR_LL_MAX];
    put(w, (struct slice){ text, str_from_ll(text, v) });
}

static void put_id(struct writer *w, struct stream_id id) {
    char text[STREAM_ID_CHARS];
    put(w, (struct slice){ text, stream_id_text(text, id) });
}

/* ---- collections ---- */

/* In front of an element of `args` arguments: a command begins, if the one before is full. `name` and the key come first. */
static void begin_element(struct writer *w, const char *name, unsigned args) {
    if (w->in_command == 0) {
        uint64_t n = w->left < AOF_ITEMS_PER_COMMAND ? w->left : AOF_ITEMS_PER_COMMAND;
        put_count(w, 2 + n * args);
        put_text(w, name);
        put(w, w->key);
    }
    if (++w->in_command == AOF_ITEMS_PER_COMMAND) w->in_command = 0;
    w->left--;
}

static void begin_key(struct writer *w, uint64_t elements) {
    w->left = elements;
    w->in_command = 0;
}

static void write_string(struct writer *w, const struct obj *o) {
    char tmp[STR_LL_MAX];
    put_count(w, 3);
    put_text(w, "SET");
    put(w, w->key);
    put(w, obj_string_bytes(o, tmp));
}

static void write_list(struct writer *w, const struct obj *o) {
    struct list_iter it;
    struct list_elem e;
    char tmp[STR_LL_MAX];
    begin_key(w, list_len(o));
    list_iter_init(&it, o, 0, false);
    while (!w->err && list_iter_next(&it, &e)) {
        begin_element(w, "RPUSH", 1);
        put(w, list_elem_text(&e, tmp));
    }
    list_iter_done(&it);
}

static bool write_member(void *arg, const struct set_member *m) {
    struct writer *w = arg;
    char tmp[STR_LL_MAX];
    begin_element(w, "SADD", 1);
    put(w, set_member_text(m, tmp));
    return !w->err;
}

static void write_set(struct writer *w, const struct obj *o) {
    begin_key(w, set_len(o));
    set_each(o, write_member, w);
}

static void write_zset(struct writer *w, const struct obj *o) {
    struct zset_iter it;
    struct zset_item item;
    char score[ZSET_SCORE_MAX];
    begin_key(w, zset_len(o));
    zset_iter_init(&it, o, 0, false);
    while (!w->err && zset_iter_next(&it, &item)) {
        begin_element(w, "ZADD", 2);
        size_t len = str_from_double(score, item.score);
        put(w, (struct slice){ score, len });
        put(w, item.member);
    }
}

static bool write_pair(void *arg, const struct hash_pair *p) {
    struct writer *w = arg;
    begin_element(w, "HMSET", 2);
    put(w, p->field);
    put(w, p->value);
    return !w->err;
}

static bool write_field_time(void *arg, const struct hash_pair *p) {
    struct writer *w = arg;
    if (p->when_ms == HASH_NO_TIME) return true;
    put_count(w, 6);
    put_text(w, "HPEXPIREAT");
    put(w, w->key);
    put_ll(w, p->when_ms);
    put_text(w, "FIELDS");
    put_text(w, "1");
    put(w, p->field);
    return !w->err;
}

/* Fields that are due are written too: whoever loads this finds them, and takes them away. */
static void write_hash(struct writer *w, const struct obj *o) {
    begin_key(w, hash_len(o));
    hash_each(o, INT64_MIN, write_pair, w);
    if (hash_soonest(o) != HASH_NO_TIME) hash_each(o, INT64_MIN, write_field_time, w);
}

/* ---- streams ---- */

static void write_entries(struct writer *w, struct stream *s) {
    struct stream_it it;
    stream_it_init(&it, s, (struct stream_id){ 0, 0 }, (struct stream_id){ UINT64_MAX, UINT64_MAX }, false);
    while (!w->err && stream_it_next(&it)) {
        size_t n = it.n_fields;
        put_count(w, 3 + n * 2);
        put_text(w, "XADD");
        put(w, w->key);
        put_id(w, it.id);
        for (size_t i = 0; i < n; i++) {
            struct slice field, value;
            stream_it_field(&it, &field, &value);
            put(w, field);
            put(w, value);
        }
    }
}

/* There is no command that makes a stream without entries and without a group. */
static void write_empty_stream(struct writer *w) {
    put_count(w, 7);
    put_text(w, "XADD");
    put(w, w->key);
    put_text(w, "MAXLEN");
    put_text(w, "0");
    put_text(w, "0-1");
    put_text(w, "x");
    put_text(w, "y");
}

static void write_stream_state(struct writer *w, const struct stream *s) {
    put_count(w, 7);
    put_text(w, "XSETID");
    put(w, w->key);
    put_id(w, s->last_id);
    put_text(w, "ENTRIESADDED");
    put_ll(w, (int64_t)s->entries_added);
    put_text(w, "MAXDELETEDID");
    put_id(w, s->max_deleted_id);
}

static void write_pending(struct writer *w, const struct stream_group *g, const struct stream_consumer *c) {
    struct idmap_it it;
    for (bool more = idmap_first(&c->pel, &it); more && !w->err; more = idmap_next(&it)) {
        const struct stream_nack *nack = idmap_it_value(&it);
        put_count(w, 12);
        put_text(w, "XCLAIM");
        put(w, w->key);
        put(w, (struct slice){ g->name, g->name_len });
        put(w, (struct slice){ c->name, c->name_len });
        put_text(w, "0");
        put_id(w, idmap_it_id(&it));
        put_text(w, "TIME");
        put_ll(w, nack->delivery_ms);
        put_text(w, "RETRYCOUNT");
        put_ll(w, (int64_t)nack->delivery_count);
        put_text(w, "JUSTID");
        put_text(w, "FORCE");
    }
}

static void write_group(struct writer *w, const struct stream_group *g) {
    put_count(w, 7);
    put_text(w, "XGROUP");
    put_text(w, "CREATE");
    put(w, w->key);
    put(w, (struct slice){ g->name, g->name_len });
    put_id(w, g->last_id);
    put_text(w, "ENTRIESREAD");
    put_ll(w, g->entries_read);
    for (size_t i = 0; i < g->n_consumers && !w->err; i++) {
        const struct stream_consumer *c = g->consumers[i];
        put_count(w, 5);
        put_text(w, "XGROUP");
        put_text(w, "CREATECONSUMER");
        put(w, w->key);
        put(w, (struct slice){ g->name, g->name_len });
        put(w, (struct slice){ c->name, c->name_len });
        write_pending(w, g, c);
    }
}

static void write_stream(struct writer *w, const struct obj *o) {
    struct stream *s = o->u.ptr;
    if (s->length)
        write_entries(w, s);
    else
        write_empty_stream(w);
    write_stream_state(w, s);
    for (size_t i = 0; i < s->n_groups && !w->err; i++) write_group(w, s->groups[i]);
}

/* ---- keys ---- */

static void note_key(struct writer *w) {
    const struct rdb_progress *p = &w->o->progress;
    w->keys++;
    if (p->delay_us) usleep((useconds_t)p->delay_us);
    if (p->keys && (w->keys % PROGRESS_EVERY == 0 || p->delay_us)) p->keys(p->arg, w->keys);
}

static bool write_key(void *arg, struct entry *e) {
    struct writer *w = arg;
    const struct obj *o = entry_value(e);
    w->key = entry_key(e);
    switch (o->type) {
    case OBJ_STRING:
        write_string(w, o);
        break;
    case OBJ_LIST:
        write_list(w, o);
        break;
    case OBJ_SET:
        write_set(w, o);
        break;
    case OBJ_ZSET:
        write_zset(w, o);
        break;
    case OBJ_HASH:
        write_hash(w, o);
        break;
    case OBJ_STREAM:
        write_stream(w, o);
        break;
    default:
        break;
    }
    int64_t when_ms = entry_expire_ms(e);
    if (when_ms != KS_NO_EXPIRE) {
        put_count(w, 3);
        put_text(w, "PEXPIREAT");
        put(w, w->key);
        put_ll(w, when_ms);
    }
    note_key(w);
    return !w->err;
}

static bool write_db(struct writer *w, struct keyspace *ks, int db) {
    if (ks_size(ks, db) == 0) return true;
    put_count(w, 2);
    put_text(w, "SELECT");
    put_ll(w, db);
    for (int shard = 0; shard < ks_n_shards(ks); shard++)
        if (!ks_each(ks, db, shard, INT64_MIN, write_key, w)) return false;
    return true;
}

static void write_library(void *arg, struct slice code) {
    struct writer *w = arg;
    put_count(w, 3);
    put_text(w, "FUNCTION");
    put_text(w, "LOAD");
    put(w, code);
}

int aof_commands_write(struct keyspace *ks, const struct scripts *functions, const struct aof_commands_opts *o) {
    struct writer w = { .o = o };
    if (o->timestamp_s) buf_printf(&w.buf, "#TS:%lld\r\n", (long long)o->timestamp_s);
    if (functions) scripts_each_library(functions, write_library, &w);
    for (int db = 0; db < ks_n_dbs(ks) && write_db(&w, ks, db); db++) {
    }
    flush(&w, 0);
    if (o->progress.keys) o->progress.keys(o->progress.arg, w.keys);
    buf_done(&w.buf);
    return w.err;
}
