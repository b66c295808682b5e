/* An ordered map from stream IDs to pointers: the nodes of a stream, and who has what pending. Made for keys that mostly arrive
 * in ascending order and leave from the front: chunks of up to 64 sorted entries, and an array of the chunks, both searched by
 * halving. Inserting moves at most a chunk's worth of entries and, once in 32 insertions, the array's tail.
 *
 * No locking: the owner serialises. An iterator is valid until the next change of its map. */
#ifndef KETTLE_DATA_IDMAP_H
#define KETTLE_DATA_IDMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stream_id {
    uint64_t ms, seq;
};

#define STREAM_ID_MIN ((struct stream_id){ 0, 0 })
#define STREAM_ID_MAX ((struct stream_id){ UINT64_MAX, UINT64_MAX })

static inline int stream_id_cmp(struct stream_id a, struct stream_id b) {
    if (a.ms != b.ms) return a.ms < b.ms ? -1 : 1;
    return a.seq == b.seq ? 0 : a.seq < b.seq ? -1 : 1;
}

struct idmap_chunk;

struct idmap {                   /* zeroed: empty */
    struct idmap_chunk **chunks; /* those in use: [first, first + n) */
    size_t first, n, cap;
    size_t used; /* entries */
};

void idmap_done(struct idmap *m, void (*free_value)(void *value)); /* free_value may be NULL; m is empty then */
static inline size_t idmap_size(const struct idmap *m) {
    return m->used;
}
size_t idmap_mem(const struct idmap *m); /* bytes, values not counted */

/* The value's place, NULL when the ID is absent. */
void **idmap_get(const struct idmap *m, struct stream_id id);
/* The value's place, new (and NULL) when *ret_new. Valid until the next change. */
void **idmap_put(struct idmap *m, struct stream_id id, bool *ret_new);
void *idmap_remove(struct idmap *m, struct stream_id id); /* its value, NULL when absent */

struct idmap_it {
    const struct idmap *map;
    size_t chunk; /* index from map->first */
    unsigned at;
};
/* Each puts `it` on an entry and gives true, or false when there is none. */
bool idmap_first(const struct idmap *m, struct idmap_it *it);
bool idmap_last(const struct idmap *m, struct idmap_it *it);
bool idmap_seek_ge(const struct idmap *m, struct idmap_it *it, struct stream_id id); /* the first not before id */
bool idmap_seek_le(const struct idmap *m, struct idmap_it *it, struct stream_id id); /* the last not after id */
bool idmap_next(struct idmap_it *it);
bool idmap_prev(struct idmap_it *it);
struct stream_id idmap_it_id(const struct idmap_it *it);
void *idmap_it_value(const struct idmap_it *it);

#endif
