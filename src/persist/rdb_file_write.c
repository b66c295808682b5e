/* Writing RDB files. See rdb_file.h. Place in the flow: SAVE, BGSAVE's child, the rewrite of the append-only file, full
 * synchronisations. Thread: the caller's, which has the data set to itself. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "cmd/script/script.h"
#include "persist/rdb_file.h"
#include "persist/rdb_opcode.h"

#define PROGRESS_KEYS 1024
#define RING 16    /* keys between the table's walk and the file, a power of two: */
#define TO_OBJ 4   /* steps after which an entry's object is asked for, */
#define TO_DATA 8  /* what the object points to, */
#define TO_FILE 12 /* and it is written: by then all of it is in the cache */

struct writer {
    struct rdb_out *out;
    struct keyspace *ks;
    const struct rdb_file_info *info;
    const struct rdb_progress *p;
    enum rdb_forms forms;
    uint64_t keys;
    struct entry *ring[RING];
    unsigned at, written; /* entries that have come, and gone */
};

static void put_aux(struct rdb_out *out, const char *name, struct slice value) {
    rdb_put_u8(out, RDB_OP_AUX);
    rdb_put_string(out, slice_cstr(name));
    rdb_put_string(out, value);
}

static void put_aux_int(struct rdb_out *out, const char *name, int64_t v) {
    char text[STR_LL_MAX];
    put_aux(out, name, (struct slice){ text, str_from_ll(text, v) });
}

static void put_facts(struct rdb_out *out, const struct rdb_file_info *info) {
    put_aux(out, "redis-ver", slice_cstr(info->redis_ver));
    put_aux_int(out, "redis-bits", (int64_t)sizeof(void *) * 8);
    put_aux_int(out, "ctime", info->ctime_s);
    put_aux_int(out, "used-mem", info->used_mem);
    if (info->repl_id) {
        put_aux_int(out, "repl-stream-db", info->repl_stream_db);
        put_aux(out, "repl-id", slice_cstr(info->repl_id));
        put_aux_int(out, "repl-offset", info->repl_offset);
    }
    put_aux_int(out, "aof-base", info->aof_base);
}

static void put_library(void *arg, struct slice code) {
    struct rdb_out *out = arg;
    rdb_put_u8(out, RDB_OP_FUNCTION2);
    rdb_put_blob(out, code.ptr, code.len);
}

static void note_key(struct writer *w) {
    w->keys++;
    if (!w->p) return;
    if (w->p->delay_us) usleep((useconds_t)w->p->delay_us);
    if (w->p->keys && (w->keys % PROGRESS_KEYS == 0 || w->p->delay_us)) w->p->keys(w->p->arg, w->keys);
}

static void put_key(struct writer *w, struct entry *e) {
    struct rdb_out *out = w->out;
    const struct obj *o = entry_value(e);
    int64_t expire_ms = entry_expire_ms(e);
    if (expire_ms != KS_NO_EXPIRE) {
        rdb_put_u8(out, RDB_OP_EXPIRETIME_MS);
        rdb_put_u64(out, (uint64_t)expire_ms);
    }
    if (w->info->access == RDB_ACCESS_IDLE) {
        rdb_put_u8(out, RDB_OP_IDLE);
        rdb_put_len(out, entry_idle_s(e, w->info->now_ms));
    } else if (w->info->access == RDB_ACCESS_FREQ) {
        rdb_put_u8(out, RDB_OP_FREQ);
        rdb_put_u8(out, entry_lfu(e, w->info->now_ms));
    }
    enum rdb_type type = rdb_type_of(o, w->forms);
    rdb_put_u8(out, (uint8_t)type);
    rdb_put_string(out, entry_key(e));
    rdb_save_value(out, o, type);
    note_key(w);
}

static struct entry *ring_at(const struct writer *w, unsigned ago) {
    return w->ring[(w->at - ago) & (RING - 1)];
}

static void ask_for_data(const struct entry *e) {
    const struct obj *o = entry_value(e);
    if (o->type != OBJ_STRING)
        __builtin_prefetch(o->u.ptr);
    else if (o->enc == OBJ_ENC_RAW)
        __builtin_prefetch(o->u.raw.data);
}

/* A walk over a large data set waits for memory most of the time: for entry, object and bytes of each key. Here several keys' are
 * asked for at once. */
static bool take_key(void *arg, struct entry *e) {
    struct writer *w = arg;
    w->ring[w->at++ & (RING - 1)] = e;
    if (w->at - w->written > TO_OBJ) __builtin_prefetch(entry_value(ring_at(w, TO_OBJ)));
    if (w->at - w->written > TO_DATA) ask_for_data(ring_at(w, TO_DATA));
    if (w->at - w->written > TO_FILE) put_key(w, w->ring[w->written++ & (RING - 1)]);
    return !w->out->err;
}

static void put_rest(struct writer *w) {
    while (w->written != w->at) put_key(w, w->ring[w->written++ & (RING - 1)]);
}

/* Every key, due or not: who loads it decides. */
static bool put_db(struct writer *w, int db) {
    uint64_t keys = ks_size(w->ks, db);
    if (keys == 0) return true;
    rdb_put_u8(w->out, RDB_OP_SELECTDB);
    rdb_put_len(w->out, (uint64_t)db);
    rdb_put_u8(w->out, RDB_OP_RESIZEDB);
    rdb_put_len(w->out, keys);
    rdb_put_len(w->out, ks_expires(w->ks, db));
    for (int shard = 0; shard < ks_n_shards(w->ks); shard++)
        if (!ks_each(w->ks, db, shard, INT64_MIN, take_key, w)) return false;
    put_rest(w);
    return !w->out->err;
}

int rdb_file_write(struct rdb_out *out, struct keyspace *ks, const struct scripts *functions, const struct rdb_file_info *info,
                   const struct rdb_progress *p) {
    struct writer w = {
        .out = out, .ks = ks, .info = info, .p = p, .forms = info->version == 10 ? RDB_FORMS_DUMP : RDB_FORMS_FILE
    };
    char magic[RDB_HEADER_BYTES + 1];
    snprintf(magic, sizeof magic, RDB_MAGIC "%04d", info->version ? info->version : RDB_VERSION);
    rdb_put(out, magic, RDB_HEADER_BYTES);
    put_facts(out, info);
    if (functions && !info->no_functions) scripts_each_library(functions, put_library, out);
    for (int db = 0; !info->functions_only && db < ks_n_dbs(ks) && put_db(&w, db); db++) {
    }
    if (p && p->keys) p->keys(p->arg, w.keys);
    rdb_put_u8(out, RDB_OP_EOF);
    rdb_flush(out); /* the checksum is of what has gone to the sink */
    rdb_put_u64(out, out->checksum ? out->crc : 0);
    return rdb_flush(out);
}
