/* See gap.h. Growing doubles the array and gives the new room to the end that asked for it, so that n insertions at an end move
 * O(n) slots in all. An array that has room, but at the other end only, moves over by half of it. */
#include "data/gap.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "base/alloc.h"

#define MIN_CAP 2

static void move(struct gap *g, uint32_t to, uint32_t from, uint32_t n) {
    memmove(g->slots + to, g->slots + from, n * sizeof(*g->slots));
}

/* The same slots in an array of `cap`, `first` from its beginning. */
static void resize(struct gap *g, uint32_t cap, uint32_t first) {
    struct gap_slot *fresh = mem_alloc(cap * sizeof(*fresh));
    if (g->n) memcpy(fresh + first, gap_at(g, 0), g->n * sizeof(*fresh));
    mem_free(g->slots);
    g->slots = fresh;
    g->cap = cap;
    g->first = first;
}

/* Room for one more slot on the left of the used ones (else on the right). */
static void make_room(struct gap *g, bool left) {
    uint32_t left_room = g->first, right_room = g->cap - g->first - g->n;
    if (left ? left_room : right_room) return;
    if (g->n == g->cap) {
        assert(g->cap <= UINT32_MAX / 2);
        uint32_t cap = g->cap ? g->cap * 2 : MIN_CAP;
        resize(g, cap, left ? cap - g->n : 0);
        return;
    }
    uint32_t by = ((left ? right_room : left_room) + 1) / 2, to = left ? g->first + by : g->first - by;
    move(g, to, g->first, g->n);
    g->first = to;
}

void gap_insert(struct gap *g, uint32_t i, struct gap_slot s) {
    bool left = i < g->n - i;
    if (i > 0 && i < g->n) { /* in the middle, any room will do */
        if (left && g->first == 0 && g->n < g->cap) left = false;
        if (!left && g->first + g->n == g->cap && g->first > 0) left = true;
    }
    make_room(g, left);
    if (left) {
        move(g, g->first - 1, g->first, i);
        g->first--;
    } else {
        move(g, g->first + i + 1, g->first + i, g->n - i);
    }
    g->n++;
    *gap_at(g, i) = s;
}

static void shrink(struct gap *g) {
    if (g->n == 0) {
        gap_done(g);
    } else if (g->cap > MIN_CAP && g->n <= g->cap / 4) {
        resize(g, g->cap / 2, g->cap / 8);
    }
}

void gap_remove(struct gap *g, uint32_t i, uint32_t n) {
    uint32_t after = g->n - i - n;
    if (i < after) {
        move(g, g->first + n, g->first, i);
        g->first += n;
    } else {
        move(g, g->first + i, g->first + i + n, after);
    }
    g->n -= n;
    shrink(g);
}

void gap_split(struct gap *g, uint32_t i, struct gap *ret) {
    uint32_t n = g->n - i;
    *ret = (struct gap){ .slots = mem_alloc(g->cap * sizeof(*ret->slots)), .n = n, .cap = g->cap };
    memcpy(ret->slots, gap_at(g, i), n * sizeof(*ret->slots));
    g->n = i;
}

void gap_join(struct gap *g, struct gap *after) {
    if (g->cap - g->first - g->n < after->n) {
        uint32_t need = g->n + after->n;
        resize(g, g->cap > need ? g->cap : need, 0);
    }
    memcpy(gap_at(g, g->n), gap_at(after, 0), after->n * sizeof(*g->slots));
    g->n += after->n;
    gap_done(after);
}

void gap_done(struct gap *g) {
    mem_free(g->slots);
    *g = (struct gap){ 0 };
}
