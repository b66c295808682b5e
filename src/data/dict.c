/* The hash table. Place in the flow: every look-up of a key ends here. Thread: whoever holds the owner's lock.
 *
 * A bucket is one cache line: 7 item pointers, one byte of the hash of each (its tag), and a byte that says how many there are.
 *
 *      byte 0        1..7           8..63
 *     +------------+--------------+------------------------------------------+
 *     | chained:1  | tag 0..6     | item 0..6                                |
 *     | count:3    |              | or items 0..5 and a child bucket         |
 *     +------------+--------------+------------------------------------------+
 *
 * A look-up reads the line, compares the 8 bytes at its head with the tag in a few instructions, and follows only pointers whose
 * tag is equal: usually one, the right one. An absent key costs one line and, once in 37 times, a wrong pointer (7/256).
 *
 * An eighth item turns the last slot into a pointer to a child bucket. Invariants of a chain:
 *   - items are packed: a bucket with a child holds 6 items, a child holds at least 2, no slot below `count` is free;
 *   - so the hole left by a removal is filled with the chain's last item, and a child left with one item is folded into its
 * parent.
 *
 * Growing and shrinking: a second table of the new size is made, and every operation moves one chain of the old one (dict_find
 * too; the cron does the rest when nobody comes by). While both exist, an item is in t[0] if its chain there has not moved, in
 * t[1] else; insertions go to t[1]. The bucket is picked by the low bits of the hash, the tag is its top byte, so the two do not
 * overlap below 2^56.
 *
 * The cursor of dict_scan counts upwards in the reversed bits of the bucket number (as in Redis, by Pieter Noordhuis): the high
 * bits of the index change first. Doubling a table splits bucket b into b and b + n, which have the same low bits and thus follow
 * one another in that order; what was visited stays visited. A chain moves, and is visited, as a whole.
 *
 * Rejected: open addressing with 16-slot groups (a cursor that survives rehash needs a home bucket for each item, and deletions
 * leave tombstones); a hash kept in each item (8 bytes a key to save work only when rehashing). */
#include "data/dict.h"

#include <endian.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rand.h"
#include "data/dict_pool.h"

#define SLOTS 7
#define CHILD_SLOT (SLOTS - 1)
#define META_CHAINED 0x80
#define META_COUNT 0x07
#define GROW_FILL 1        /* grow at one item per slot */
#define GROW_FILL_DENSE 2  /* the same of a dense table */
#define GROW_FILL_AVOID 4  /* the same while resizing is to be avoided */
#define SHRINK_DIV 8       /* shrink below one item per 8 slots */
#define SHRINK_SHIFT_MAX 4 /* by at most 16 at a time: a scan step visits that many buckets in a row */
#define SMALL_BUCKETS 8    /* tables up to this size are moved at once */
#define STEP_EMPTY_MAX 16  /* empty chains one step may skip */
#define RANDOM_TRIES 1024
#define FILL_BATCH 16 /* look-ups that overlap */
#define FILL_MIN 256  /* items that there is room for at first */

struct dict_bucket {
    uint8_t meta; /* META_CHAINED, META_COUNT */
    uint8_t tags[SLOTS];
    void *slots[SLOTS];
};
_Static_assert(sizeof(void *) != 8 || sizeof(struct dict_bucket) == DICT_LINE, "a bucket is a cache line");
_Static_assert(sizeof(struct dict_bucket) <= DICT_LINE, "it must fit a line of the pool");

/* Where an item is. */
struct dict_pos {
    struct dict_table *table;
    struct dict_bucket *parent; /* of bucket; NULL for the chain's first */
    struct dict_bucket *bucket;
    unsigned slot;
};

static inline unsigned bucket_count(const struct dict_bucket *b) {
    return b->meta & META_COUNT;
}

static inline struct dict_bucket *bucket_child(const struct dict_bucket *b) {
    return b->meta & META_CHAINED ? b->slots[CHILD_SLOT] : NULL;
}

static inline uint8_t tag_of(uint64_t hash) {
    return (uint8_t)(hash >> 56);
}

/* Bit 8*i+7 is set for each item i whose tag is equal. */
static inline uint64_t bucket_match(const struct dict_bucket *b, uint8_t tag) {
    const uint64_t low7 = 0x7f7f7f7f7f7f7f7fULL;
    uint64_t head;
    memcpy(&head, b, sizeof(head));
    uint64_t diff = le64toh(head) ^ (tag * 0x0101010101010101ULL);
    uint64_t equal = ~(((diff & low7) + low7) | diff | low7);
    return (equal >> 8) & ((1ULL << (8 * bucket_count(b))) - 1);
}

static inline uint64_t item_hash(const struct dict *d, const void *item) {
    return dict_hash(d->type->key(item));
}

static inline bool resize_avoided(const struct dict *d) {
    return atomic_load_explicit(&d->type->avoid_resize, memory_order_relaxed);
}

static inline uint64_t table_n(const struct dict_table *t) {
    return t->buckets ? t->mask + 1 : 0;
}

/* The allocator gives power-of-two sizes from 64 up on a cache line (jemalloc); with others it is slower, not wrong. */
static void table_init(struct dict_table *t, uint64_t n_buckets) {
    *t = (struct dict_table){ .buckets = mem_calloc(n_buckets, sizeof(struct dict_bucket)),
                              .mask = n_buckets - 1,
                              .pool = dict_pool_new(n_buckets) };
}

static struct dict_bucket *child_new(struct dict_table *t) {
    t->n_children++;
    return t->pool ? dict_pool_take(t->pool) : mem_zalloc(sizeof(struct dict_bucket));
}

static void child_free(struct dict_table *t, struct dict_bucket *child) {
    t->n_children--;
    if (t->pool)
        dict_pool_give(t->pool, child);
    else
        mem_free(child);
}

static void table_insert(struct dict_table *t, uint64_t hash, void *item) {
    struct dict_bucket *b = &t->buckets[hash & t->mask];
    uint64_t chain = 1;
    for (struct dict_bucket *child; (child = bucket_child(b)); b = child) chain += CHILD_SLOT;
    unsigned count = bucket_count(b);
    chain += count;
    if (count == SLOTS) {
        struct dict_bucket *child = child_new(t);
        child->tags[0] = b->tags[CHILD_SLOT];
        child->slots[0] = b->slots[CHILD_SLOT];
        child->meta = 1;
        b->slots[CHILD_SLOT] = child;
        b->meta = META_CHAINED | CHILD_SLOT;
        b = child;
        count = 1;
    }
    b->tags[count] = tag_of(hash);
    b->slots[count] = item;
    b->meta++;
    t->used++;
    if (chain > t->max_chain) t->max_chain = chain;
}

static bool table_find(const struct dict *d, struct dict_table *t, uint64_t hash, struct slice key, struct dict_pos *ret) {
    struct dict_bucket *parent = NULL;
    for (struct dict_bucket *b = &t->buckets[hash & t->mask]; b; parent = b, b = bucket_child(b)) {
        for (uint64_t m = bucket_match(b, tag_of(hash)); m; m &= m - 1) {
            unsigned slot = (unsigned)__builtin_ctzll(m) / 8;
            if (!slice_eq(d->type->key(b->slots[slot]), key)) continue;
            *ret = (struct dict_pos){ t, parent, b, slot };
            return true;
        }
    }
    return false;
}

static bool dict_locate(struct dict *d, uint64_t hash, struct slice key, struct dict_pos *ret) {
    if (!d->t[0].buckets) return false;
    bool is_rehashing = dict_is_rehashing(d);
    if (!is_rehashing || (hash & d->t[0].mask) >= d->rehash_at) {
        if (table_find(d, &d->t[0], hash, key, ret)) return true;
    }
    return is_rehashing && table_find(d, &d->t[1], hash, key, ret);
}

/* Takes the item out and closes the hole with the chain's last one. */
static void *pos_remove(struct dict_pos *pos) {
    void *item = pos->bucket->slots[pos->slot];
    struct dict_bucket *parent = pos->parent, *last = pos->bucket;
    for (struct dict_bucket *child; (child = bucket_child(last)); last = child) parent = last;
    unsigned end = bucket_count(last) - 1;
    pos->bucket->tags[pos->slot] = last->tags[end];
    pos->bucket->slots[pos->slot] = last->slots[end];
    last->meta--;
    last->slots[end] = NULL;
    if (parent && end == 1) {
        parent->tags[CHILD_SLOT] = last->tags[0];
        parent->slots[CHILD_SLOT] = last->slots[0];
        parent->meta = SLOTS;
        child_free(pos->table, last);
    }
    pos->table->used--;
    return item;
}

/* ---- rehashing ---- */

/* Smallest power of two of buckets with room for `items` at one per slot. */
static uint64_t buckets_for(uint64_t items) {
    uint64_t n = 1;
    while (n * SLOTS < items) n *= 2;
    return n;
}

static void move_chain(struct dict *d, struct dict_bucket *head) {
    for (struct dict_bucket *b = head, *child; b; b = child) {
        child = bucket_child(b);
        unsigned count = bucket_count(b);
        for (unsigned i = 0; i < count; i++) __builtin_prefetch(b->slots[i]); /* their keys are read next */
        for (unsigned i = 0; i < count; i++) table_insert(&d->t[1], item_hash(d, b->slots[i]), b->slots[i]);
        d->t[0].used -= count;
        if (b != head) child_free(&d->t[0], b);
    }
    head->meta = 0;
}

static void rehash_finish(struct dict *d) {
    mem_free(d->t[0].buckets);
    dict_pool_free(d->t[0].pool);
    d->t[0] = d->t[1];
    d->t[1] = (struct dict_table){ 0 };
    d->rehash_at = 0;
}

/* Moves one chain that is not empty, skipping some that are. */
static void rehash_step(struct dict *d) {
    for (unsigned skipped = 0; skipped < STEP_EMPTY_MAX && d->rehash_at <= d->t[0].mask; skipped++) {
        struct dict_bucket *head = &d->t[0].buckets[d->rehash_at++];
        if (!head->meta) continue;
        move_chain(d, head);
        break;
    }
    if (d->rehash_at > d->t[0].mask) rehash_finish(d);
}

static void rehash_start(struct dict *d, uint64_t n_buckets) {
    table_init(&d->t[1], n_buckets);
    d->rehash_at = 0;
    if (d->t[0].mask < SMALL_BUCKETS) {
        while (dict_is_rehashing(d)) rehash_step(d);
    }
}

static uint64_t grow_fill(const struct dict *d) {
    return d->type->dense ? GROW_FILL_DENSE : GROW_FILL;
}

static void grow_if_full(struct dict *d) {
    if (!d->t[0].buckets) {
        table_init(&d->t[0], 1);
        return;
    }
    if (d->paused || dict_is_rehashing(d)) return;
    uint64_t slots = table_n(&d->t[0]) * SLOTS;
    if (d->t[0].used < slots * (resize_avoided(d) ? GROW_FILL_AVOID : grow_fill(d))) return;
    rehash_start(d, buckets_for(d->t[0].used / grow_fill(d) + 1));
}

/* To a quarter or half full, so that the next few insertions do not grow it again. */
static void shrink_if_sparse(struct dict *d) {
    uint64_t n = table_n(&d->t[0]);
    if (n <= 1 || d->paused || dict_is_rehashing(d) || resize_avoided(d)) return;
    if (d->t[0].used * SHRINK_DIV >= n * SLOTS) return;
    uint64_t want = buckets_for(d->t[0].used * 2);
    if (want < n >> SHRINK_SHIFT_MAX) want = n >> SHRINK_SHIFT_MAX;
    if (want < n) rehash_start(d, want);
}

/* A step on the way of a look-up. Where resizing is avoided only a table overfull in spite of that goes on. */
static inline void step_if_rehashing(struct dict *d) {
    if (!dict_is_rehashing(d) || d->paused) return;
    if (resize_avoided(d) && dict_size(d) < table_n(&d->t[1]) * SLOTS * GROW_FILL_AVOID) return;
    rehash_step(d);
}

bool dict_rehash(struct dict *d, unsigned n_chains) {
    if (d->paused || resize_avoided(d)) return false;
    if (!dict_is_rehashing(d)) {
        if (d->t[0].buckets && d->t[0].used > table_n(&d->t[0]) * SLOTS * grow_fill(d)) grow_if_full(d);
        shrink_if_sparse(d);
    }
    for (unsigned i = 0; i < n_chains && dict_is_rehashing(d); i++) rehash_step(d);
    return dict_is_rehashing(d);
}

/* ---- the table as its users see it ---- */

void dict_init(struct dict *d, struct dict_type *type) {
    *d = (struct dict){ .type = type };
}

void *dict_find(struct dict *d, uint64_t hash, struct slice key) {
    step_if_rehashing(d);
    struct dict_pos pos;
    return dict_locate(d, hash, key, &pos) ? pos.bucket->slots[pos.slot] : NULL;
}

void **dict_find_slot(struct dict *d, uint64_t hash, struct slice key) {
    step_if_rehashing(d);
    struct dict_pos pos;
    return dict_locate(d, hash, key, &pos) ? &pos.bucket->slots[pos.slot] : NULL;
}

void dict_prefetch(const struct dict *d, uint64_t hash) {
    for (int i = 0; i < 2 && d->t[i].buckets; i++) __builtin_prefetch(&d->t[i].buckets[hash & d->t[i].mask]);
}

void *dict_probe(const struct dict *d, uint64_t hash) {
    for (int i = 0; i < 2 && d->t[i].buckets; i++) {
        const struct dict_bucket *b = &d->t[i].buckets[hash & d->t[i].mask];
        uint64_t match = bucket_match(b, tag_of(hash));
        if (match) return b->slots[__builtin_ctzll(match) / 8];
    }
    return NULL;
}

void dict_insert(struct dict *d, uint64_t hash, void *item) {
    step_if_rehashing(d);
    grow_if_full(d);
    table_insert(&d->t[dict_is_rehashing(d)], hash, item);
}

void dict_reserve(struct dict *d, uint64_t n) {
    uint64_t fill = grow_fill(d);
    if (!d->t[0].buckets && n > 0) table_init(&d->t[0], buckets_for((n + fill - 1) / fill));
}

/* ---- many at once ---- */

void dict_fill_add(struct dict_fill *f, void *item) {
    if (f->n == f->cap) {
        f->cap = f->cap ? 2 * f->cap : FILL_MIN;
        f->items = mem_realloc(f->items, f->cap * sizeof *f->items);
    }
    f->items[f->n++] = item;
}

void dict_fill_done(struct dict_fill *f, void (*free_item)(void *item)) {
    for (size_t i = 0; free_item && i < f->n; i++) free_item(f->items[i]);
    mem_free(f->items);
    *f = (struct dict_fill){ .items = NULL };
}

/* Up to FILL_BATCH of them. */
static bool insert_some(struct dict *d, void *const *items, size_t n) {
    uint64_t hash[FILL_BATCH];
    struct dict_pos pos;
    for (size_t i = 0; i < n; i++) {
        hash[i] = item_hash(d, items[i]);
        dict_prefetch(d, hash[i]);
    }
    for (size_t i = 0; i < n; i++) {
        if (dict_locate(d, hash[i], d->type->key(items[i]), &pos)) return false;
        dict_insert(d, hash[i], items[i]);
    }
    return true;
}

bool dict_fill_into(struct dict_fill *f, struct dict *d, void (*free_item)(void *item)) {
    bool ok = true;
    dict_reserve(d, f->n);
    for (size_t i = 0; ok && i < f->n; i += FILL_BATCH)
        ok = insert_some(d, f->items + i, f->n - i < FILL_BATCH ? f->n - i : FILL_BATCH);
    if (ok) return true;
    dict_clear(d, NULL);
    dict_fill_done(f, free_item);
    return false;
}

void *dict_remove(struct dict *d, uint64_t hash, struct slice key) {
    step_if_rehashing(d);
    struct dict_pos pos;
    if (!dict_locate(d, hash, key, &pos)) return NULL;
    void *item = pos_remove(&pos);
    shrink_if_sparse(d);
    return item;
}

static void table_free(struct dict_table *t, void (*free_item)(void *item)) {
    for (uint64_t i = 0; i < table_n(t) && (t->used || t->n_children); i++) {
        struct dict_bucket *head = &t->buckets[i];
        for (struct dict_bucket *b = head, *child; b; b = child) {
            child = bucket_child(b);
            for (unsigned k = 0; free_item && k < bucket_count(b); k++) free_item(b->slots[k]);
            t->used -= bucket_count(b);
            if (b != head) child_free(t, b);
        }
    }
    mem_free(t->buckets);
    dict_pool_free(t->pool);
    *t = (struct dict_table){ 0 };
}

void dict_clear(struct dict *d, void (*free_item)(void *item)) {
    table_free(&d->t[0], free_item);
    table_free(&d->t[1], free_item);
    d->rehash_at = 0;
}

uint64_t dict_n_buckets(const struct dict *d) {
    return table_n(&d->t[0]) + table_n(&d->t[1]);
}

size_t dict_mem(const struct dict *d) {
    size_t bytes = dict_n_buckets(d) * sizeof(struct dict_bucket);
    for (int i = 0; i < 2; i++)
        bytes += d->t[i].pool ? dict_pool_mem(d->t[i].pool) : d->t[i].n_children * sizeof(struct dict_bucket);
    return bytes;
}

/* ---- walks ---- */

/* What a walk visits after this bucket: asked for while this one's items are visited. */
static inline void prefetch_items(const struct dict_table *t, uint64_t i) {
    if (i > t->mask) return;
    const struct dict_bucket *b = &t->buckets[i];
    for (unsigned s = 0; s < bucket_count(b); s++) __builtin_prefetch(b->slots[s]);
}

bool dict_each(struct dict *d, bool (*fn)(void *arg, void *item), void *arg) {
    bool go_on = true;
    d->paused++;
    for (int k = 0; k < 2; k++) {
        for (uint64_t i = 0; go_on && i < table_n(&d->t[k]); i++) {
            for (struct dict_bucket *b = &d->t[k].buckets[i]; go_on && b; b = bucket_child(b)) {
                if (b == &d->t[k].buckets[i]) prefetch_items(&d->t[k], i + 1);
                for (unsigned s = 0; go_on && s < bucket_count(b); s++) go_on = fn(arg, b->slots[s]);
            }
        }
    }
    d->paused--;
    return go_on;
}

void dict_stats_add(const struct dict *d, int table, struct dict_stats *s) {
    const struct dict_table *t = &d->t[table];
    s->used += t->used;
    s->chains += table_n(t);
    s->places += (table_n(t) + t->n_children) * SLOTS;
    for (uint64_t i = 0; i < table_n(t); i++) {
        uint64_t len = 0;
        for (const struct dict_bucket *b = &t->buckets[i]; b; b = bucket_child(b)) len += bucket_count(b);
        if (len) s->in_use++;
        if (len > s->longest) s->longest = len;
        s->of_len[len < DICT_STATS_CHAINS ? len : DICT_STATS_CHAINS - 1]++;
    }
}

static uint64_t reverse_bits(uint64_t v) {
    v = (v >> 1 & 0x5555555555555555ULL) | (v & 0x5555555555555555ULL) << 1;
    v = (v >> 2 & 0x3333333333333333ULL) | (v & 0x3333333333333333ULL) << 2;
    v = (v >> 4 & 0x0f0f0f0f0f0f0f0fULL) | (v & 0x0f0f0f0f0f0f0f0fULL) << 4;
    return __builtin_bswap64(v);
}

/* The next bucket number of a table with this mask, in reversed-bit order; 0 after the last. */
static uint64_t cursor_next(uint64_t cursor, uint64_t mask) {
    return reverse_bits(reverse_bits(cursor | ~mask) + 1);
}

static void visit_chain(const struct dict_table *t, uint64_t cursor, void (*fn)(void *arg, void *item), void *arg) {
    for (struct dict_bucket *b = &t->buckets[cursor & t->mask]; b; b = bucket_child(b)) {
        for (unsigned i = 0; i < bucket_count(b); i++) __builtin_prefetch(b->slots[i]);
        for (unsigned i = 0; i < bucket_count(b); i++) fn(arg, b->slots[i]);
    }
}

/* While rehashing: the chain of the smaller table, then all those of the larger one it splits into. */
uint64_t dict_scan(struct dict *d, uint64_t cursor, void (*fn)(void *arg, void *item), void *arg) {
    if (!dict_size(d)) return 0;
    d->paused++;
    if (!dict_is_rehashing(d)) {
        visit_chain(&d->t[0], cursor, fn, arg);
        cursor = cursor_next(cursor, d->t[0].mask);
    } else {
        bool is_growing = d->t[0].mask <= d->t[1].mask;
        const struct dict_table *small = &d->t[is_growing ? 0 : 1], *large = &d->t[is_growing ? 1 : 0];
        visit_chain(small, cursor, fn, arg);
        do {
            visit_chain(large, cursor, fn, arg);
            cursor = cursor_next(cursor, large->mask);
        } while (cursor & (small->mask ^ large->mask));
    }
    d->paused--;
    return cursor;
}

/* ---- random picks ---- */

/* A chain among those that may hold something. */
static struct dict_bucket *random_chain(struct dict *d) {
    uint64_t first = dict_is_rehashing(d) ? d->rehash_at : 0;
    uint64_t i = first + rand_below(dict_n_buckets(d) - first);
    uint64_t n0 = table_n(&d->t[0]);
    return i < n0 ? &d->t[0].buckets[i] : &d->t[1].buckets[i - n0];
}

/* The nth item of a chain, NULL when it has fewer. */
static void *chain_nth(const struct dict_bucket *b, uint64_t nth) {
    for (; b; b = bucket_child(b)) {
        if (nth < bucket_count(b)) return b->slots[nth];
        nth -= bucket_count(b);
    }
    return NULL;
}

/* Throws a dart at a board of (chains) x (longest chain) until it hits an item: every item has one field, so all are as likely.
 * With a usual fill a handful of throws. A table emptied while it may not shrink can be so sparse that darts miss for long: then
 * the items next to a random place must do. */
void *dict_random(struct dict *d) {
    if (!dict_size(d)) return NULL;
    uint64_t height = d->t[0].max_chain > d->t[1].max_chain ? d->t[0].max_chain : d->t[1].max_chain;
    for (int i = 0; i < RANDOM_TRIES; i++) {
        void *item = chain_nth(random_chain(d), rand_below(height));
        if (item) return item;
    }
    void *near[16];
    unsigned n = dict_sample(d, near, 16);
    return near[rand_below(n)];
}

struct sampler {
    void **ret;
    unsigned n, max;
};

static void sample_chain(struct sampler *s, const struct dict_bucket *b) {
    for (; b; b = bucket_child(b)) {
        for (unsigned i = 0; i < bucket_count(b) && s->n < s->max; i++) s->ret[s->n++] = b->slots[i];
    }
}

/* All chains of both tables whose index ends in the bits of `at`, a bucket of the smaller one. */
static void sample_family(struct sampler *s, const struct dict *d, uint64_t at, uint64_t stride) {
    for (int k = 0; k < 2; k++) {
        uint64_t n = table_n(&d->t[k]);
        for (uint64_t i = at; i < n && s->n < s->max; i += stride) sample_chain(s, &d->t[k].buckets[i]);
    }
}

/* While rehashing, goes through both tables side by side, so as not to start in a stretch of the one not filled yet or emptied
 * already. Goes on until it has one item at least, then as long as the effort is reasonable. */
unsigned dict_sample(struct dict *d, void **ret, unsigned n) {
    struct sampler s = { ret, 0, n };
    if (!dict_size(d) || !n) return 0;
    uint64_t stride = table_n(&d->t[0]), effort = (uint64_t)n * 16;
    if (dict_is_rehashing(d) && table_n(&d->t[1]) < stride) stride = table_n(&d->t[1]);
    uint64_t at = rand_below(stride);
    for (uint64_t i = 0; i < stride && s.n < n && (i < effort || !s.n); i++) {
        sample_family(&s, d, at, stride);
        if (++at == stride) at = 0;
    }
    return s.n;
}
