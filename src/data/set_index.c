/* An index of a listpack's members, made for one command and thrown away after it. See set.h. Place in the flow: SINTER, SDIFF
 * and the like. Thread: the holder of the shard's lock.
 *
 * Searching a listpack of n members for each of m takes n * m steps; to put n into a table first and look m up takes n + m. The
 * hash is a quick one without a key: members chosen to collide bring back the n * m steps, which the limits of the encoding
 * bound. */
#include <string.h>

#include "base/alloc.h"
#include "data/listpack.h"
#include "data/set.h"

#define MIN_LEN 12     /* below, a search is as quick */
#define MIN_LOOKUPS 12 /* the index costs about as much as two of these a member */

struct place {
    uint32_t hash, offset; /* of the element in the listpack; 0: free (a header is there) */
};

struct set_index {
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
static uint32_t hash_member(const struct set_member *m, int64_t *ret_num, bool *ret_is_int) {
    *ret_num = m->num;
    *ret_is_int = !m->text.ptr || (m->text.len < STR_LL_MAX && str_to_ll(m->text, ret_num));
    return *ret_is_int ? (uint32_t)mix(1, (uint64_t)*ret_num) : hash_text(m->text);
}

static void member_of(const unsigned char *p, struct set_member *ret) {
    if (lp_get_int(p, &ret->num, &ret->text)) ret->text = (struct slice){ NULL, 0 };
}

struct set_index *set_index_new(const struct obj *o, uint64_t n_lookups) {
    if (o->enc != OBJ_ENC_LISTPACK || n_lookups < MIN_LOOKUPS) return NULL;
    size_t n = set_len(o), n_places = 2;
    if (n < MIN_LEN) return NULL;
    while (n_places < 2 * n) n_places *= 2;
    struct set_index *x = mem_zalloc(sizeof(*x) + n_places * sizeof(x->place[0]));
    x->lp = o->u.ptr;
    x->mask = (uint32_t)(n_places - 1);
    for (const unsigned char *p = lp_first(x->lp); p; p = lp_next(x->lp, p)) {
        struct set_member m = { .num = 0 };
        int64_t num;
        bool is_int;
        member_of(p, &m);
        uint32_t hash = hash_member(&m, &num, &is_int), i = hash & x->mask;
        while (x->place[i].offset) i = (i + 1) & x->mask;
        x->place[i] = (struct place){ hash, (uint32_t)(p - x->lp) };
    }
    return x;
}

struct set_index *set_index_free(struct set_index *x) {
    mem_free(x);
    return NULL;
}

bool set_index_has(const struct set_index *x, const struct set_member *m) {
    int64_t num, other;
    bool is_int;
    uint32_t hash = hash_member(m, &num, &is_int);
    for (uint32_t i = hash & x->mask; x->place[i].offset; i = (i + 1) & x->mask) {
        struct slice text;
        if (x->place[i].hash != hash) continue;
        bool is_same =
            lp_get_int(x->lp + x->place[i].offset, &other, &text) ? is_int && other == num : !is_int && slice_eq(text, m->text);
        if (is_same) return true;
    }
    return false;
}
