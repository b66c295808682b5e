/* Random choices for HRANDFIELD, SRANDMEMBER, SPOP and ZRANDMEMBER: fair, and in time that grows with what is asked for. Which
 * way is taken depends on how much of the collection that is:
 *
 *   - one item, or items that may repeat: each is drawn by itself (dict_random, or a random index);
 *   - up to a third of a table: drawn until enough different ones are there (pick_from_dict): a few draws too many at most;
 *   - more, or a compact encoding: references to all are collected and the first n shuffled (pick_shuffle). */
#ifndef KETTLE_CMD_PICK_H
#define KETTLE_CMD_PICK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cmd/cmd.h"
#include "data/dict.h"

/* Whether so many draws that may repeat are replied (count < 0), since a few bytes of request must not ask for all of the memory:
 * an eighth of proto-max-bulk-len, 64 million unless changed. Replies the error. */
bool pick_allows(struct cmd_ctx *c, int64_t count);

static inline bool pick_is_few(uint64_t n, uint64_t size) {
    return n < size / 3;
}

/* Makes the first n of refs a random choice among all, in random order. n <= size. */
void pick_shuffle(void **refs, size_t size, size_t n);
/* n different items, in the order drawn; pick_is_few(n, dict_size(d)). */
void pick_from_dict(struct dict *d, void **ret, size_t n);

#endif
