/* Random choices. See pick.h. */
#include "cmd/pick.h"

#include "base/alloc.h"
#include "base/rand.h"
#include "cmd/dispatch.h"

bool pick_allows(struct cmd_ctx *c, int64_t count) {
    uint64_t max = atomic_load_explicit(&c->eng->proto_max_bulk_len, memory_order_relaxed) / 8;
    if (count >= 0 || 0 - (uint64_t)count <= max) return true;
    reply_error(c->r, "ERR value is out of range");
    return false;
}

void pick_shuffle(void **refs, size_t size, size_t n) {
    for (size_t i = 0; i < n; i++) {
        size_t other = i + rand_below(size - i);
        void *ref = refs[other];
        refs[other] = refs[i];
        refs[i] = ref;
    }
}

/* What was drawn already: addresses in an open table, at most half full. */
static bool seen_add(void **seen, size_t mask, void *item) {
    size_t at = (size_t)(((uintptr_t)item >> 3) * 0x9e3779b97f4a7c15ULL >> 20) & mask;
    for (; seen[at]; at = (at + 1) & mask)
        if (seen[at] == item) return false;
    seen[at] = item;
    return true;
}

/* A draw hits a new item at least two times out of three. Where the dict cannot draw fairly any more (a table kept far too sparse
 * while a child process is active) the same items may come again and again: the rest is then taken as it stands. */
struct rest_walk {
    void **seen, **ret;
    size_t mask, at, n;
};

static bool take_rest(void *arg, void *item) {
    struct rest_walk *w = arg;
    if (w->at < w->n && seen_add(w->seen, w->mask, item)) w->ret[w->at++] = item;
    return w->at < w->n;
}

void pick_from_dict(struct dict *d, void **ret, size_t n) {
    size_t cap = 8;
    while (cap < n * 2) cap *= 2;
    struct rest_walk w = { .seen = mem_calloc(cap, sizeof(void *)), .ret = ret, .mask = cap - 1, .n = n };
    for (size_t tries = n * 8 + 64; w.at < n && tries; tries--) take_rest(&w, dict_random(d));
    if (w.at < n) dict_each(d, take_rest, &w);
    mem_free(w.seen);
}
