/* An index of a listpack's elements, made for one command and thrown away after it. See lp_index.h. Place in the flow: SINTER,
 * SDIFF, ZINTER and the like. Thread: the holder of the shard's lock.
 *
 * Searching a listpack of n elements for each of m takes n * m steps; to put n into a table first and look m up takes n + m. The
 * hash is a quick one without a key: members chosen to collide bring back the n * m steps, which the limits of the encodings
 * bound. */
#include "data/lp_index.h"

#include <string.h>

#include "base/alloc.h"
#include "data/listpack.h"

#define MIN_LEN 12     /* below, a search is as quick */
#define MIN_LOOKUPS 12 /* the index costs about as much as two of these a member */

struct place {
    uint32_t hash, offset; /* of the element in the listpack; 0: free (a header is there) */
};

struct lp_index {
    const unsigned char *lp;
    uint32_t mask;
    struct place place[];
};

static uint64_t mix(uint64_t h, uint64_t word) {
    h = (h ^ word) * 0x9e3779b97f4a7c15ULL;
    return h ^ h >> 32;
}

static uint32_t hash_text(struct slice s) {
    uint64_t h = s.len, word = 0;
    const char *p = s.ptr;
    size_t left = s.len;
    for (; left >= sizeof word; left -= sizeof word, p += sizeof word) {
        memcpy(&word, p, sizeof word);
        h = mix(h, word);
    }
    if (left && s.len >= sizeof word) { /* the last eight bytes, some of them once more */
        memcpy(&word, s.ptr + s.len - sizeof word, sizeof word);
        h = mix(h, word);
    } else if (left) {
        word = 0;
        for (size_t i = 0; i < left; i++) word = word << 8 | (unsigned char)p[i];
        h = mix(h, word);
    }
    return (uint32_t)h;
}

/* Integers have one form, however they are stored. */
static uint32_t hash_of(struct slice text, int64_t *num, bool *ret_is_int) {
    *ret_is_int = !text.ptr || (text.len < STR_LL_MAX && str_to_ll(text, num));
    return *ret_is_int ? (uint32_t)mix(1, (uint64_t)*num) : hash_text(text);
}

static void index_put(struct lp_index *x, const unsigned char *p) {
    struct slice text;
    int64_t num;
    bool is_int;
    if (lp_get_int(p, &num, &text)) text = (struct slice){ NULL, 0 };
    uint32_t hash = hash_of(text, &num, &is_int), i = hash & x->mask;
    while (x->place[i].offset) i = (i + 1) & x->mask;
    x->place[i] = (struct place){ hash, (uint32_t)(p - x->lp) };
}

struct lp_index *lp_index_new(const unsigned char *lp, unsigned skip, uint64_t n_lookups) {
    size_t n = lp_count(lp) / (skip + 1), n_places = 2;
    if (n < MIN_LEN || n_lookups < MIN_LOOKUPS) return NULL;
    while (n_places < 2 * n) n_places *= 2;
    struct lp_index *x = mem_zalloc(sizeof(*x) + n_places * sizeof(x->place[0]));
    x->lp = lp;
    x->mask = (uint32_t)(n_places - 1);
    for (const unsigned char *p = lp_first(lp); p; p = lp_next(lp, p)) {
        index_put(x, p);
        for (unsigned i = 0; p && i < skip; i++) p = lp_next(lp, p);
        if (!p) break;
    }
    return x;
}

struct lp_index *lp_index_free(struct lp_index *x) {
    mem_free(x);
    return NULL;
}

const unsigned char *lp_index_find(const struct lp_index *x, struct slice text, int64_t num) {
    bool is_int;
    uint32_t hash = hash_of(text, &num, &is_int);
    for (uint32_t i = hash & x->mask; x->place[i].offset; i = (i + 1) & x->mask) {
        const unsigned char *p = x->lp + x->place[i].offset;
        struct slice other;
        int64_t other_num;
        if (x->place[i].hash != hash) continue;
        if (lp_get_int(p, &other_num, &other) ? is_int && other_num == num : !is_int && slice_eq(other, text)) return p;
    }
    return NULL;
}
