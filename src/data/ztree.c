/*
 * The order of a sorted set. Place in the flow: zset.c calls it for what needs order or rank. Thread: the holder of the lock of
 * the key's shard.
 *
 *     inner   | min score, min entry, count, child | ...        up to 63 children, 2 KiB
 *                  |                   |
 *     leaf    | score, entry | ... |<->| score, entry | ... |    up to 62 entries, 1 KiB; a list in both directions
 *
 * Invariants:
 *   - leaves all have the same depth; every node holds at least one thing;
 *   - for each child an inner node knows exactly how many entries are below it and which is the lowest of them. So a rank is a
 * sum taken on the way down, and a search reads the scores of a node, which lie side by side, and touches members only where
 *     scores are equal;
 *   - a node that a removal leaves less than a quarter full is merged with a neighbour under the same parent where both fit into
 *     one. Nothing is borrowed: two neighbours that do not fit into one are more than half full together;
 *   - a tree of one leaf has a leaf only as large as it needs to be.
 *
 * A leaf that is full is halved, but at the ends of the tree: there the new entry goes into a leaf of its own, so that scores
 * that only grow (time stamps) or only fall leave full leaves behind them.
 *
 * Rejected: a skip list (a cache line or two for each step of a search, and 40 bytes an entry where this takes 17 to 23); a
 * tree with one entry a node, for the same reason.
 */
#include "data/ztree.h"

#include <assert.h>

#include "base/alloc.h"

#define LEAF_MAX 62
#define LEAF_FIRST 6 /* with these the sizes are 120, 248, 504 and 1,016 bytes: what the allocator has */
#define INNER_MAX 63
#define MERGE_BELOW 16
#define HEIGHT_MAX 24

struct ztree_leaf {
    uint16_t n, cap;
    struct ztree_leaf *prev, *next;
    struct ztree_item items[];
};

struct inner {
    unsigned n;
    double score[INNER_MAX]; /* of the lowest entry below */
    struct zset_entry *low[INNER_MAX];
    uint64_t count[INNER_MAX];
    void *child[INNER_MAX];
};

/* The way from the root to a leaf: path[0] is the root. */
struct path {
    struct inner *in[HEIGHT_MAX];
    unsigned at[HEIGHT_MAX];
};

/* What is searched for. */
struct key {
    double score;
    struct slice member;
    const struct zset_entry *e; /* when it is an entry of the tree; may be NULL */
};

struct zset_entry *zset_entry_new(double score, struct slice member) {
    bool is_long = member.len >= ZSET_ENTRY_LONG;
    uint64_t len = member.len;
    struct zset_entry *e = mem_alloc(sizeof(*e) + 1 + (is_long ? sizeof(len) : 0) + member.len);
    e->score = score;
    e->data[0] = is_long ? ZSET_ENTRY_LONG : (unsigned char)len;
    if (is_long) memcpy(e->data + 1, &len, sizeof(len));
    if (len) memcpy(e->data + 1 + (is_long ? sizeof(len) : 0), member.ptr, member.len);
    return e;
}

int zset_entry_cmp(const struct zset_entry *a, const struct zset_entry *b) {
    if (a->score != b->score) return a->score < b->score ? -1 : 1;
    return slice_cmp(zset_entry_member(a), zset_entry_member(b));
}

static struct key key_of(const struct zset_entry *e) {
    return (struct key){ e->score, zset_entry_member(e), e };
}

/* An entry against the key: <0 when the entry is lower. */
static inline int cmp(double score, const struct zset_entry *e, const struct key *k) {
    if (score != k->score) return score < k->score ? -1 : 1;
    if (e == k->e) return 0;
    return slice_cmp(zset_entry_member(e), k->member);
}

/* ---- places in nodes ---- */

/* The child below which the key is, or would be put. */
static unsigned inner_find(const struct inner *in, const struct key *k) {
    unsigned lo = 0, hi = in->n; /* lows before lo are not above the key, those from hi on are */
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (cmp(in->score[mid], in->low[mid], k) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo ? lo - 1 : 0;
}

/* The first entry that is not below the key. */
static unsigned leaf_find(const struct ztree_leaf *leaf, const struct key *k) {
    unsigned lo = 0, hi = leaf->n;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (cmp(leaf->items[mid].score, leaf->items[mid].e, k) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* A leaf is read at several places at once, and they are seldom in the cache. */
static inline void leaf_prefetch(const struct ztree_leaf *leaf) {
    for (size_t line = 0; line < sizeof(struct ztree_item) * LEAF_MAX; line += 256) __builtin_prefetch((const char *)leaf + line);
}

static struct ztree_leaf *descend(const struct ztree *t, const struct key *k, struct path *p) {
    void *node = t->root;
    for (unsigned d = 0; d < t->height; d++) {
        p->in[d] = node;
        p->at[d] = inner_find(node, k);
        node = p->in[d]->child[p->at[d]];
    }
    return node;
}

/* ---- nodes ---- */

static struct ztree_leaf *leaf_new(struct ztree *t, unsigned cap) {
    struct ztree_leaf *leaf = mem_alloc(sizeof(*leaf) + cap * sizeof(leaf->items[0]));
    leaf->n = 0;
    leaf->cap = (uint16_t)cap;
    leaf->prev = leaf->next = NULL;
    t->n_leaves++;
    return leaf;
}

static struct inner *inner_new(struct ztree *t) {
    struct inner *in = mem_alloc(sizeof(*in));
    in->n = 0;
    t->n_inners++;
    return in;
}

static void leaf_link_after(struct ztree *t, struct ztree_leaf *left, struct ztree_leaf *right) {
    right->prev = left;
    right->next = left->next;
    if (left->next)
        left->next->prev = right;
    else
        t->last = right;
    left->next = right;
}

static void leaf_free(struct ztree *t, struct ztree_leaf *leaf) {
    if (leaf->prev)
        leaf->prev->next = leaf->next;
    else
        t->first = leaf->next;
    if (leaf->next)
        leaf->next->prev = leaf->prev;
    else
        t->last = leaf->prev;
    mem_free(leaf);
    t->n_leaves--;
}

static void inner_free(struct ztree *t, struct inner *in) {
    mem_free(in);
    t->n_inners--;
}

/* Children [from, from + n) of src to dst's place `to`; neither counts them yet. */
static void inner_copy(struct inner *dst, unsigned to, const struct inner *src, unsigned from, unsigned n) {
    memmove(&dst->score[to], &src->score[from], n * sizeof(dst->score[0]));
    memmove(&dst->low[to], &src->low[from], n * sizeof(dst->low[0]));
    memmove(&dst->count[to], &src->count[from], n * sizeof(dst->count[0]));
    memmove(&dst->child[to], &src->child[from], n * sizeof(dst->child[0]));
}

static uint64_t inner_count(const struct inner *in) {
    uint64_t n = 0;
    for (unsigned i = 0; i < in->n; i++) n += in->count[i];
    return n;
}

/* What a parent knows of a child. */
struct child {
    double score;
    struct zset_entry *low;
    uint64_t count;
    void *node;
};

static struct child child_of_leaf(struct ztree_leaf *leaf) {
    return (struct child){ leaf->items[0].score, leaf->items[0].e, leaf->n, leaf };
}

static struct child child_of_inner(struct inner *in) {
    return (struct child){ in->score[0], in->low[0], inner_count(in), in };
}

static void inner_set(struct inner *in, unsigned at, struct child c) {
    in->score[at] = c.score;
    in->low[at] = c.low;
    in->count[at] = c.count;
    in->child[at] = c.node;
}

static void inner_put(struct inner *in, unsigned at, struct child c) {
    inner_copy(in, at + 1, in, at, in->n - at);
    inner_set(in, at, c);
    in->n++;
}

static void inner_drop(struct inner *in, unsigned at) {
    inner_copy(in, at, in, at + 1, in->n - at - 1);
    in->n--;
}

/* The node that p->at[depth - 1] leads to has a new lowest entry. */
static void raise_low(struct path *p, unsigned depth, double score, struct zset_entry *low) {
    while (depth-- > 0) {
        p->in[depth]->score[p->at[depth]] = score;
        p->in[depth]->low[p->at[depth]] = low;
        if (p->at[depth] != 0) return;
    }
}

/* ---- insertion ---- */

static void leaf_put(struct ztree_leaf *leaf, unsigned at, double score, struct zset_entry *e) {
    memmove(&leaf->items[at + 1], &leaf->items[at], (leaf->n - at) * sizeof(leaf->items[0]));
    leaf->items[at] = (struct ztree_item){ score, e };
    leaf->n++;
}

static void grow_root(struct ztree *t, struct child right) {
    assert(t->height + 1 < HEIGHT_MAX);
    struct inner *root = inner_new(t);
    struct child left = t->height ? child_of_inner(t->root) : child_of_leaf(t->root);
    inner_put(root, 0, left);
    inner_put(root, 1, right);
    t->root = root;
    t->height++;
}

/* Where a full inner node is cut when a child goes to `at`: at the ends of the tree so that the side that is not growing stays
 * full. */
static unsigned inner_cut(const struct path *p, unsigned depth, unsigned at) {
    bool is_last = at == INNER_MAX;
    for (unsigned d = 0; d < depth; d++) is_last = is_last && p->at[d] + 1 == p->in[d]->n;
    return is_last ? INNER_MAX : INNER_MAX / 2;
}

/* The node below p->at[depth - 1] was cut in two: its right half becomes a child of its own. The counts above include it. */
static void add_child(struct ztree *t, struct path *p, unsigned depth, struct child right) {
    for (;;) {
        if (depth == 0) {
            grow_root(t, right);
            return;
        }
        struct inner *in = p->in[--depth];
        unsigned at = p->at[depth] + 1;
        in->count[at - 1] -= right.count;
        if (in->n < INNER_MAX) {
            inner_put(in, at, right);
            return;
        }
        unsigned cut = inner_cut(p, depth, at);
        struct inner *half = inner_new(t);
        inner_copy(half, 0, in, cut, INNER_MAX - cut);
        half->n = INNER_MAX - cut;
        in->n = cut;
        if (at > cut || cut == INNER_MAX)
            inner_put(half, at - cut, right);
        else
            inner_put(in, at, right);
        right = child_of_inner(half);
    }
}

static unsigned leaf_cut(const struct ztree_leaf *leaf, unsigned at) {
    if (at == leaf->n && !leaf->next) return at;
    if (at == 0 && !leaf->prev) return 1;
    return leaf->n / 2;
}

/* Cuts a full leaf in two and puts the entry into one half. */
static void split_and_put(struct ztree *t, struct path *p, struct ztree_leaf *leaf, unsigned at, struct zset_entry *e) {
    unsigned cut = leaf_cut(leaf, at);
    struct ztree_leaf *right = leaf_new(t, LEAF_MAX);
    right->n = (uint16_t)(leaf->n - cut);
    memcpy(right->items, &leaf->items[cut], right->n * sizeof(right->items[0]));
    leaf->n = (uint16_t)cut;
    leaf_link_after(t, leaf, right);
    if (at > cut || right->n == 0)
        leaf_put(right, at - cut, e->score, e);
    else
        leaf_put(leaf, at, e->score, e);
    add_child(t, p, t->height, child_of_leaf(right));
}

/* The only leaf, one size up. */
static struct ztree_leaf *widen_root(struct ztree *t, struct ztree_leaf *leaf) {
    unsigned cap = leaf->cap * 2U + 2;
    leaf = mem_realloc(leaf, sizeof(*leaf) + cap * sizeof(leaf->items[0]));
    leaf->cap = (uint16_t)cap;
    t->root = t->first = t->last = leaf;
    return leaf;
}

void ztree_insert(struct ztree *t, struct zset_entry *e) {
    struct key k = key_of(e);
    struct path p;
    if (!t->root) t->root = t->first = t->last = leaf_new(t, LEAF_FIRST);
    void *node = t->root;
    for (unsigned d = 0; d < t->height; d++) {
        struct inner *in = node;
        unsigned at = inner_find(in, &k);
        node = in->child[at];
        if (d + 1 == t->height) leaf_prefetch(node);
        if (at == 0 && cmp(in->score[0], in->low[0], &k) > 0) {
            in->score[0] = e->score;
            in->low[0] = e;
        }
        in->count[at]++;
        p.in[d] = in;
        p.at[d] = at;
    }
    struct ztree_leaf *leaf = node;
    t->n++;
    if (leaf->n == leaf->cap && leaf->cap < LEAF_MAX) leaf = widen_root(t, leaf);
    unsigned at = leaf_find(leaf, &k);
    if (leaf->n < leaf->cap)
        leaf_put(leaf, at, e->score, e);
    else
        split_and_put(t, &p, leaf, at, e);
}

/* ---- removal ---- */

static void merge_leaves(struct ztree *t, struct inner *parent, unsigned left_at) {
    struct ztree_leaf *left = parent->child[left_at], *right = parent->child[left_at + 1];
    memcpy(&left->items[left->n], right->items, right->n * sizeof(left->items[0]));
    left->n = (uint16_t)(left->n + right->n);
    parent->count[left_at] += parent->count[left_at + 1];
    leaf_free(t, right);
    inner_drop(parent, left_at + 1);
}

static void merge_inners(struct ztree *t, struct inner *parent, unsigned left_at) {
    struct inner *left = parent->child[left_at], *right = parent->child[left_at + 1];
    inner_copy(left, left->n, right, 0, right->n);
    left->n += right->n;
    parent->count[left_at] += parent->count[left_at + 1];
    inner_free(t, right);
    inner_drop(parent, left_at + 1);
}

static unsigned child_n(const struct inner *parent, unsigned at, bool is_leaf) {
    return is_leaf ? ((struct ztree_leaf *)parent->child[at])->n : ((struct inner *)parent->child[at])->n;
}

/* Child `at` of the parent has become sparse: joins it with a neighbour if they fit into one. */
static void merge_sparse(struct ztree *t, struct inner *parent, unsigned at, bool is_leaf) {
    unsigned n = child_n(parent, at, is_leaf), max = is_leaf ? LEAF_MAX : INNER_MAX;
    if (n >= MERGE_BELOW) return;
    unsigned left_at = at;
    if (at > 0 && child_n(parent, at - 1, is_leaf) + n <= max)
        left_at = at - 1;
    else if (at + 1 >= parent->n || child_n(parent, at + 1, is_leaf) + n > max)
        return;
    if (is_leaf)
        merge_leaves(t, parent, left_at);
    else
        merge_inners(t, parent, left_at);
}

/* Child `at` of p->in[depth] is gone or has changed; mends what is above it. */
static void mend_up(struct ztree *t, struct path *p, unsigned depth) {
    bool is_leaf = true;
    while (depth-- > 0) {
        struct inner *in = p->in[depth];
        unsigned at = p->at[depth];
        if (child_n(in, at, is_leaf) == 0) {
            if (is_leaf)
                leaf_free(t, in->child[at]);
            else
                inner_free(t, in->child[at]);
            inner_drop(in, at);
            if (at == 0 && in->n) raise_low(p, depth, in->score[0], in->low[0]);
        } else {
            merge_sparse(t, in, at, is_leaf);
        }
        is_leaf = false;
    }
    while (t->height && ((struct inner *)t->root)->n <= 1) {
        struct inner *root = t->root;
        void *only = root->n ? root->child[0] : NULL;
        inner_free(t, root);
        t->root = only;
        t->height = only ? t->height - 1 : 0;
    }
}

/* Takes n entries from place `at` of a leaf, all of them in it. */
static void remove_run(struct ztree *t, struct path *p, struct ztree_leaf *leaf, unsigned at, unsigned n) {
    memmove(&leaf->items[at], &leaf->items[at + n], (leaf->n - at - n) * sizeof(leaf->items[0]));
    leaf->n = (uint16_t)(leaf->n - n);
    t->n -= n;
    for (unsigned d = 0; d < t->height; d++) p->in[d]->count[p->at[d]] -= n;
    if (at == 0 && leaf->n) raise_low(p, t->height, leaf->items[0].score, leaf->items[0].e);
    if (t->height == 0) {
        if (leaf->n) return;
        leaf_free(t, leaf);
        t->root = NULL;
    } else if (leaf->n < MERGE_BELOW) {
        mend_up(t, p, t->height);
    }
}

void ztree_remove(struct ztree *t, const struct zset_entry *e) {
    struct key k = key_of(e);
    struct path p;
    struct ztree_leaf *leaf = descend(t, &k, &p);
    unsigned at = leaf_find(leaf, &k);
    assert(at < leaf->n && leaf->items[at].e == e);
    remove_run(t, &p, leaf, at, 1);
}

/* Whether an entry at this place may take the score without leaving it. */
static bool fits_here(const struct ztree_leaf *leaf, unsigned at, const struct key *k) {
    struct ztree_pos before = { (struct ztree_leaf *)(uintptr_t)leaf, at }, after = before;
    ztree_prev(&before);
    ztree_next(&after);
    const struct zset_entry *b = ztree_get(before), *a = ztree_get(after);
    return (!b || cmp(b->score, b, k) < 0) && (!a || cmp(a->score, a, k) > 0);
}

void ztree_move(struct ztree *t, struct zset_entry *e, double score) {
    struct key k = key_of(e);
    struct path p;
    struct ztree_leaf *leaf = descend(t, &k, &p);
    unsigned at = leaf_find(leaf, &k);
    assert(at < leaf->n && leaf->items[at].e == e);
    k.score = score;
    if (fits_here(leaf, at, &k)) {
        e->score = leaf->items[at].score = score;
        if (at == 0) raise_low(&p, t->height, score, e);
        return;
    }
    remove_run(t, &p, leaf, at, 1);
    e->score = score;
    ztree_insert(t, e);
}

/* The leaf of a rank, and the place in it; p may be NULL. */
static struct ztree_leaf *descend_rank(const struct ztree *t, uint64_t rank, unsigned *ret_at, struct path *p) {
    void *node = t->root;
    for (unsigned d = 0; d < t->height; d++) {
        struct inner *in = node;
        unsigned at = 0;
        while (rank >= in->count[at]) rank -= in->count[at++];
        node = in->child[at];
        if (!p) continue;
        p->in[d] = in;
        p->at[d] = at;
    }
    *ret_at = (unsigned)rank;
    return node;
}

void ztree_remove_range(struct ztree *t, uint64_t first, uint64_t n, void (*fn)(void *arg, struct zset_entry *e), void *arg) {
    assert(first + n <= t->n);
    while (n > 0) {
        struct path p;
        unsigned at;
        struct ztree_leaf *leaf = descend_rank(t, first, &at, &p);
        unsigned run = leaf->n - at < n ? leaf->n - at : (unsigned)n;
        for (unsigned i = at; i < at + run; i++) fn(arg, leaf->items[i].e);
        remove_run(t, &p, leaf, at, run);
        n -= run;
    }
}

/* ---- all at once ---- */

static void free_node(struct ztree *t, void *node, unsigned height, void (*free_entry)(void *e)) {
    if (height == 0) {
        struct ztree_leaf *leaf = node;
        for (unsigned i = 0; free_entry && i < leaf->n; i++) free_entry(leaf->items[i].e);
        mem_free(leaf);
        return;
    }
    struct inner *in = node;
    for (unsigned i = 0; i < in->n; i++) free_node(t, in->child[i], height - 1, free_entry);
    mem_free(in);
}

void ztree_clear(struct ztree *t, void (*free_entry)(void *e)) {
    if (t->root) free_node(t, t->root, t->height, free_entry);
    *t = (struct ztree){ 0 };
}

size_t ztree_mem(const struct ztree *t) {
    if (!t->root) return 0;
    if (t->height == 0) return mem_usable(t->root);
    return t->n_leaves * mem_usable(t->last) + t->n_inners * mem_usable(t->root);
}

static unsigned cap_for(uint64_t n) {
    unsigned cap = LEAF_FIRST;
    while (cap < n && cap < LEAF_MAX) cap = cap * 2 + 2;
    return cap;
}

/* A level of inner nodes over n children, evenly filled; the nodes take the children's places. Returns how many. */
static uint64_t load_level(struct ztree *t, struct child *children, uint64_t n) {
    uint64_t n_nodes = (n + INNER_MAX - 1) / INNER_MAX, from = 0;
    for (uint64_t i = 0; i < n_nodes; i++) {
        struct inner *in = inner_new(t);
        uint64_t to = n * (i + 1) / n_nodes;
        for (; from < to; from++) inner_set(in, in->n++, children[from]);
        children[i] = child_of_inner(in);
    }
    t->height++;
    return n_nodes;
}

void ztree_load(struct ztree *t, const struct ztree_item *sorted, uint64_t n) {
    assert(!t->root);
    if (n == 0) return;
    uint64_t n_nodes = (n + LEAF_MAX - 1) / LEAF_MAX, from = 0;
    struct child *children = mem_calloc(n_nodes, sizeof(*children));
    for (uint64_t i = 0; i < n_nodes; i++) {
        struct ztree_leaf *leaf = leaf_new(t, cap_for(n));
        uint64_t to = n / n_nodes * (i + 1) + n % n_nodes * (i + 1) / n_nodes;
        for (; from < to; from++) leaf->items[leaf->n++] = sorted[from];
        if (t->last)
            leaf_link_after(t, t->last, leaf);
        else
            t->first = t->last = leaf;
        children[i] = child_of_leaf(leaf);
    }
    while (n_nodes > 1) n_nodes = load_level(t, children, n_nodes);
    t->root = children[0].node;
    t->n = n;
    mem_free(children);
}

/* ---- ranks ---- */

/* How many entries are below what `is_below` draws the line at: it holds for the lower ones and for no higher one. */
static inline uint64_t count_below(const struct ztree *t,
                                   bool (*is_below)(double score, const struct zset_entry *e, const void *arg), const void *arg) {
    uint64_t rank = 0;
    void *node = t->root;
    if (!node) return 0;
    for (unsigned d = 0; d < t->height; d++) {
        const struct inner *in = node;
        unsigned lo = 0, hi = in->n;
        while (lo < hi) {
            unsigned mid = (lo + hi) / 2;
            if (is_below(in->score[mid], in->low[mid], arg))
                lo = mid + 1;
            else
                hi = mid;
        }
        if (lo == 0) return rank;
        for (unsigned i = 0; i + 1 < lo; i++) rank += in->count[i];
        node = in->child[lo - 1];
        if (d + 1 == t->height) leaf_prefetch(node);
    }
    const struct ztree_leaf *leaf = node;
    unsigned lo = 0, hi = leaf->n;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (is_below(leaf->items[mid].score, leaf->items[mid].e, arg))
            lo = mid + 1;
        else
            hi = mid;
    }
    return rank + lo;
}

static bool below_key(double score, const struct zset_entry *e, const void *arg) {
    return cmp(score, e, arg) < 0;
}

static bool below_score(double score, const struct zset_entry *e, const void *arg) {
    (void)e;
    return score < *(const double *)arg;
}

static bool to_score(double score, const struct zset_entry *e, const void *arg) {
    (void)e;
    return score <= *(const double *)arg;
}

static bool below_member(double score, const struct zset_entry *e, const void *arg) {
    (void)score;
    return slice_cmp(zset_entry_member(e), *(const struct slice *)arg) < 0;
}

static bool to_member(double score, const struct zset_entry *e, const void *arg) {
    (void)score;
    return slice_cmp(zset_entry_member(e), *(const struct slice *)arg) <= 0;
}

uint64_t ztree_rank(const struct ztree *t, const struct zset_entry *e) {
    struct key k = key_of(e);
    return count_below(t, below_key, &k);
}

uint64_t ztree_count_score(const struct ztree *t, double score, bool or_equal) {
    return or_equal ? count_below(t, to_score, &score) : count_below(t, below_score, &score);
}

uint64_t ztree_count_lex(const struct ztree *t, struct slice member, bool or_equal) {
    return or_equal ? count_below(t, to_member, &member) : count_below(t, below_member, &member);
}

/* ---- walking ---- */

/* Entries lie anywhere in memory: those of the next few steps are brought in ahead. */
#define AHEAD 8

static inline void fetch_ahead(const struct ztree_leaf *leaf, unsigned i, int step) {
    unsigned at = i + (unsigned)(step * AHEAD); /* wraps below 0 */
    if (at < leaf->n)
        __builtin_prefetch(leaf->items[at].e);
    else
        __builtin_prefetch(step > 0 ? leaf->next : leaf->prev);
}

static void fetch_first(const struct ztree_leaf *leaf, unsigned from, int step) {
    for (unsigned i = from, n = 0; n < AHEAD && i < leaf->n; n++, i += (unsigned)step) __builtin_prefetch(leaf->items[i].e);
}

struct ztree_pos ztree_at(const struct ztree *t, uint64_t rank) {
    struct ztree_pos pos;
    assert(rank < t->n);
    pos.leaf = descend_rank(t, rank, &pos.i, NULL);
    return pos;
}

struct zset_entry *ztree_get(struct ztree_pos p) {
    return p.leaf ? p.leaf->items[p.i].e : NULL;
}

void ztree_fetch(struct ztree_pos p, bool backwards) {
    fetch_first(p.leaf, p.i, backwards ? -1 : 1);
}

void ztree_next(struct ztree_pos *p) {
    fetch_ahead(p->leaf, p->i, 1);
    if (++p->i < p->leaf->n) return;
    p->leaf = p->leaf->next;
    p->i = 0;
    if (p->leaf) fetch_first(p->leaf, 0, 1);
}

void ztree_prev(struct ztree_pos *p) {
    fetch_ahead(p->leaf, p->i, -1);
    if (p->i-- > 0) return;
    p->leaf = p->leaf->prev;
    if (!p->leaf) return;
    p->i = p->leaf->n - 1U;
    fetch_first(p->leaf, p->i, -1);
}

/* ---- for tests ---- */

struct checker {
    const struct ztree_leaf *leaf; /* the next one expected */
    const struct zset_entry *last;
    uint64_t n, n_leaves, n_inners;
};

static bool check_leaf(struct checker *c, const struct ztree_leaf *leaf, const struct ztree_leaf *prev) {
    if (leaf != c->leaf || leaf->n == 0 || leaf->n > leaf->cap || leaf->prev != prev) return false;
    for (unsigned i = 0; i < leaf->n; i++) {
        const struct zset_entry *e = leaf->items[i].e;
        if (leaf->items[i].score != e->score || (c->last && zset_entry_cmp(c->last, e) >= 0)) return false;
        c->last = e;
    }
    c->n += leaf->n;
    c->n_leaves++;
    c->leaf = leaf->next;
    return true;
}

static bool check_node(struct checker *c, const void *node, unsigned height) {
    if (height == 0) return check_leaf(c, node, c->leaf ? c->leaf->prev : NULL);
    const struct inner *in = node;
    if (in->n == 0 || in->n > INNER_MAX) return false;
    for (unsigned i = 0; i < in->n; i++) {
        uint64_t before = c->n;
        if (!c->leaf || c->leaf->items[0].e != in->low[i] || in->score[i] != in->low[i]->score) return false;
        if (!check_node(c, in->child[i], height - 1) || c->n - before != in->count[i]) return false;
    }
    c->n_inners++;
    return true;
}

bool ztree_check(const struct ztree *t) {
    struct checker c = { .leaf = t->first };
    if (!t->root) return t->n == 0 && !t->first && !t->last && !t->n_leaves && !t->n_inners && !t->height;
    if (t->first->prev || t->last->next || (t->height && ((const struct inner *)t->root)->n < 2)) return false;
    return check_node(&c, t->root, t->height) && !c.leaf && c.n == t->n && c.n_leaves == t->n_leaves && c.n_inners == t->n_inners;
}
