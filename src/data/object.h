/* Values. An object is owned by the entry that holds it; a string is counted when a reply still refers to its bytes. Fields are
 * changed only under the lock of the key's shard; obj_ref/obj_unref are atomic, because a reply is released by its connection's
 * thread without that lock. A string with more than one reference is never changed in place: obj_string_own copies first.
 *
 * The other types hang a structure of their own on u.ptr (listpack, dict, ...), which its encoding names; only one reference to
 * them ever exists, so they are changed in place. What all types must be able to do is in struct obj_ops.
 *
 * A small string lies in one allocation with its key (entry.h). To readers it is an object like others, but it is its entry's
 * alone and ends with it: it has no count, and obj_ref and obj_unref are not for it (they stop the process). */
#ifndef KETTLE_DATA_OBJECT_H
#define KETTLE_DATA_OBJECT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/str.h"

enum obj_type { OBJ_STRING = 0, OBJ_LIST, OBJ_SET, OBJ_ZSET, OBJ_HASH, OBJ_STREAM, OBJ_N_TYPES };
/* OBJECT ENCODING's names: see obj_encoding_name. */
enum obj_enc {
    OBJ_ENC_INT = 0,
    OBJ_ENC_EMBSTR,
    OBJ_ENC_RAW,
    OBJ_ENC_LISTPACK,    /* list, hash, set, zset */
    OBJ_ENC_LISTPACK_EX, /* hash with times of its fields */
    OBJ_ENC_QUICKLIST,   /* list */
    OBJ_ENC_INTSET,      /* set */
    OBJ_ENC_HASHTABLE,   /* set, hash */
    OBJ_ENC_SKIPLIST,    /* zset */
    OBJ_ENC_STREAM,
    OBJ_N_ENCS
};

#define OBJ_INT_CHARS_MAX 20 /* as redis-server's tryObjectEncoding */
#define OBJ_EMBSTR_MAX 44    /* bytes; OBJECT ENCODING says embstr up to here, as redis-server does */
#define OBJ_INLINE_MAX 1024  /* bytes; a new string up to here lies in one allocation with its header, whatever its name */

#define OBJ_IN_ENTRY 0xc0000000u /* refs of one that lies in its entry: any of these bits; the others are the entry's */

/* Aligned to 4 bytes only: those within entries are, others lie on 8. */
struct obj {
    _Atomic uint32_t refs;
    uint8_t type : 4;    /* enum obj_type */
    uint8_t enc : 4;     /* enum obj_enc */
    uint8_t key_len;     /* within an entry: its key's, which stands before an embstr's bytes and behind an int; else 0 */
    uint16_t emb_len;    /* OBJ_ENC_EMBSTR: up to OBJ_INLINE_MAX bytes, at obj_emb() */
    union {              /* an embstr's bytes begin here */
        int64_t integer; /* OBJ_ENC_INT */
        struct {
            char *data;
            size_t len;
            size_t cap;
        } raw;     /* OBJ_ENC_RAW; data NULL when cap is 0 */
        void *ptr; /* every type but strings: what the encoding says */
    } u;
} __attribute__((packed, aligned(4)));

/* What a type other than string provides; each in its own file, listed in object.c. */
struct obj_ops {
    void (*destroy)(struct obj *o);    /* frees what hangs on u.ptr, not o. May run on the lazyfree thread */
    void *(*dup)(const struct obj *o); /* deep copy of it, of the same encoding */
    size_t (*mem)(const struct obj *o,
                  size_t samples);         /* its bytes; of larger ones about `samples` items are looked at, 0: all */
    size_t (*effort)(const struct obj *o); /* how many allocations freeing it takes, roughly: decides who frees it */
};

/* String, copied; becomes int when it is a canonical 64-bit integer of at most 20 characters, embstr up to 44 bytes, else raw. */
struct obj *obj_string_new(const void *p, size_t len);
struct obj *obj_string_new_text(const void *p,
                                size_t len); /* the same, but never int: INCRBYFLOAT's results, as in redis-server */
struct obj *obj_string_new_raw(size_t len);  /* raw encoding, zero-filled: to be filled by the caller */
struct obj *obj_string_from_raw_take(char *data_take, size_t len, size_t cap); /* data from mem_alloc */
struct obj *obj_string_from_ll(int64_t v);
/* A value of another type: ptr_take as the encoding wants it. 16 bytes of its own. */
struct obj *obj_new(enum obj_type type, enum obj_enc enc, void *ptr_take);
struct obj *obj_ref(struct obj *o);
struct obj *obj_unref(struct obj *o);     /* frees at zero; NULL is fine; always NULL */
void obj_unref_cb(void *o);               /* obj_unref as a release callback */
struct obj *obj_dup(const struct obj *o); /* deep copy, one reference; of one within an entry: an object by itself */
uint32_t obj_refs(const struct obj *o);   /* 1 for one within an entry */
static inline bool obj_is_in_entry(const struct obj *o) {
    return atomic_load_explicit(&o->refs, memory_order_relaxed) & OBJ_IN_ENTRY;
}
/* Frees large values off the calling thread (UNLINK): hands to a background thread when worth it. */
void obj_unref_lazy(struct obj *o);

/* The bytes; an int is written into tmp (>= STR_LL_MAX). Valid while the object is. */
struct slice obj_string_bytes(const struct obj *o, char *tmp);
size_t obj_string_len(const struct obj *o);
bool obj_string_to_ll(const struct obj *o, int64_t *ret);
static inline char *obj_emb(const struct obj *o) {
    return (char *)(uintptr_t)&o->u + o->key_len;
}
/* A copy, raw and of one reference, with room to grow; at least min_len bytes long, those behind o's zero. */
struct obj *obj_string_new_raw_of(const struct obj *o, size_t min_len);
/* Makes *slot a raw string of one reference that may be changed in place (replacing *slot when it must be copied or
 * re-encoded), of at least min_len bytes, new bytes zero. Returns its data pointer; len is obj_string_len(*slot). A slot is never
 * an object within an entry: ks_string_own. */
char *obj_string_own(struct obj **slot, size_t min_len);

const char *obj_type_name(const struct obj *o);            /* "string"; static */
const char *obj_encoding_name(const struct obj *o);        /* "int", "embstr", "raw"; static */
size_t obj_mem_usage(const struct obj *o, size_t samples); /* bytes allocated for the value; see obj_ops.mem */
size_t obj_free_effort(const struct obj *o);               /* allocations; 1 for small or flat values */

#endif
