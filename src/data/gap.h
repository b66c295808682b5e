/* An array with its free room at both ends: cheap to grow and shrink there, in the middle it moves the shorter side. What a
 * quicklist keeps its nodes in (quicklist.h). No locking: the owner serialises. Zero-initialise to start. */
#ifndef KETTLE_DATA_GAP_H
#define KETTLE_DATA_GAP_H

#include <stddef.h>
#include <stdint.h>

struct gap_slot {
    void *ptr;
    uint64_t count : 56; /* elements below it */
    uint64_t kind : 8;   /* the user's */
};

struct gap {
    struct gap_slot *slots; /* NULL when cap is 0 */
    uint32_t first, n, cap; /* the n slots from `first` on are in use */
};

static inline struct gap_slot *gap_at(const struct gap *g, uint32_t i) {
    return g->slots + g->first + i;
}

void gap_insert(struct gap *g, uint32_t i, struct gap_slot s); /* before the i-th, i <= n */
void gap_remove(struct gap *g, uint32_t i, uint32_t n);        /* n from the i-th on, which exist */
void gap_split(struct gap *g, uint32_t i, struct gap *ret);    /* what is from i on moves to ret, an empty one */
void gap_join(struct gap *g, struct gap *after);               /* what is in `after` moves to the end of g */
void gap_done(struct gap *g);                                  /* frees the array, not what is in it; g is empty again */

#endif
