/* Streams: entries in ascending order of their IDs, and consumer groups that read them.
 *
 * Entries lie in nodes, listpacks of Redis's layout (so RDB files and DUMP payloads hold them as they are), in an ordered map by
 * the ID of the node's first entry, the master. An entry that is deleted is marked in its node; a node without entries goes.
 *
 *     node:  entries | deleted | number of master fields | field ... | 0 | entry ...
 *     entry: flags | ms - master's | seq - master's | [number of fields] | [field] value ... | elements of the entry
 *
 * An entry with the fields of its node's master has the values only (STREAM_SAME_FIELDS).
 *
 * No locking: the holder of the shard's lock. Pointers handed out are valid until the next change of the stream. */
#ifndef KETTLE_DATA_STREAM_H
#define KETTLE_DATA_STREAM_H

#include "base/slice.h"
#include "base/str.h"
#include "data/idmap.h"
#include "data/object.h"

#define STREAM_ENTRIES_READ_UNKNOWN (-1)

struct stream {
    struct idmap nodes;              /* unsigned char *: listpacks */
    uint64_t length;                 /* entries that are there */
    struct stream_id last_id;        /* of the newest entry ever */
    struct stream_id first_id;       /* of the oldest that is there; 0-0: none */
    struct stream_id max_deleted_id; /* the largest that XDEL took out */
    uint64_t entries_added;          /* ever */
    struct stream_group **groups;    /* sorted by name, as bytes */
    size_t n_groups, groups_cap;
};

struct stream_group {
    char *name;
    size_t name_len;
    struct stream_id last_id; /* last delivered */
    int64_t entries_read;     /* how many entries from the stream's first ever up to last_id; or STREAM_ENTRIES_READ_UNKNOWN */
    struct idmap pel;         /* struct stream_nack *, owned: delivered and not acknowledged */
    struct stream_consumer **consumers; /* sorted by name */
    size_t n_consumers, consumers_cap;
};

struct stream_consumer {
    char *name;
    size_t name_len;
    int64_t seen_ms;   /* last tried to read or claim */
    int64_t active_ms; /* last got something; -1: never */
    struct idmap pel;  /* struct stream_nack *, the group's: those of this consumer */
};

struct stream_nack {
    int64_t delivery_ms;
    uint64_t delivery_count;
    struct stream_consumer *consumer;
};

extern const struct obj_ops obj_ops_stream;

struct stream *stream_new(void);
struct stream *stream_free(struct stream *s); /* NULL is fine; always NULL */
struct obj *stream_obj_new(void);             /* an object with an empty stream */

/* ---- entries ---- */
enum { STREAM_DELETED = 1, STREAM_SAME_FIELDS = 2 };

/* Appends an entry of n fields: fv has n pairs of field and value. id must be above last_id. False: too large to be stored (1
 * GiB), nothing changed. */
bool stream_append(struct stream *s, struct stream_id id, size_t n, const struct slice *fv);
/* Removes an entry; counts it as deleted by hand (max_deleted_id). False when it is not there. */
bool stream_delete(struct stream *s, struct stream_id id);
bool stream_has(const struct stream *s, struct stream_id id);
struct stream_id stream_edge_id(const struct stream *s, bool first); /* of the oldest or newest entry there; 0-0: none */

enum stream_trim_by { STREAM_TRIM_NONE, STREAM_TRIM_MAXLEN, STREAM_TRIM_MINID };
struct stream_trim {
    enum stream_trim_by by;
    bool approx; /* whole nodes only */
    uint64_t maxlen;
    struct stream_id minid;
    uint64_t limit; /* entries to look at; 0: all */
};
uint64_t stream_trim(struct stream *s, const struct stream_trim *t); /* entries removed */

/* Walks entries from start to end (both included), or from end to start. The stream must not change meanwhile, but for the
 * current entry being deleted by stream_it_delete. */
struct stream_it {
    struct stream *s;
    struct stream_id start, end;
    bool backwards;
    struct idmap_it node;
    unsigned char *lp;    /* current node; NULL: none yet */
    unsigned char *first; /* its first entry */
    unsigned char *p;     /* current entry's flags */
    struct stream_id master;
    size_t n_master;
    unsigned char *master_fields; /* the first; NULL when n_master is 0 */
    /* the current entry */
    struct stream_id id;
    size_t n_fields; /* not fetched yet */
    bool same_fields;
    unsigned char *field, *value; /* the next ones to fetch */
    char field_tmp[STR_LL_MAX], value_tmp[STR_LL_MAX];
};
void stream_it_init(struct stream_it *it, struct stream *s, struct stream_id start, struct stream_id end, bool backwards);
bool stream_it_next(struct stream_it *it); /* false: no more */
/* The current entry's next field and its value; call it n_fields times. The slices are valid until the next call. */
void stream_it_field(struct stream_it *it, struct slice *ret_field, struct slice *ret_value);

bool stream_id_incr(struct stream_id *id); /* false: it is the largest; wraps to 0-0 */
bool stream_id_decr(struct stream_id *id); /* false: it is 0-0; wraps to the largest */
/* "ms-seq" into buf of STREAM_ID_CHARS; the length. */
#define STREAM_ID_CHARS 44
size_t stream_id_text(char *buf, struct stream_id id);

/* ---- loading (RESTORE, RDB): what came from outside ---- */
/* Takes a node; false (nothing taken) when its bytes are not a sound node: every walk above is safe over what is accepted. Nodes
 * come in ascending order. *ret_entries: those not deleted. */
bool stream_node_is_valid(const unsigned char *lp, size_t len, uint64_t *ret_entries);
bool stream_load_node(struct stream *s, struct stream_id master, unsigned char *lp_take);

/* ---- groups ---- */
struct stream_group *stream_group_find(const struct stream *s, struct slice name);
/* NULL when the name is taken. */
struct stream_group *stream_group_create(struct stream *s, struct slice name, struct stream_id last_id, int64_t entries_read);
bool stream_group_destroy(struct stream *s, struct slice name);
struct stream_consumer *stream_consumer_find(const struct stream_group *g, struct slice name);
struct stream_consumer *stream_consumer_create(struct stream_group *g, struct slice name, int64_t now_ms); /* NULL: it exists */
uint64_t stream_consumer_delete(struct stream_group *g, struct slice name); /* its pending entries go too; how many */

/* The entry is delivered to the consumer: pending, with a count of 1, taken from whom had it. */
void stream_deliver(struct stream_group *g, struct stream_consumer *c, struct stream_id id, int64_t now_ms);
/* The pending entry's record; NULL: it is not pending. */
struct stream_nack *stream_nack_find(const struct stream_group *g, struct stream_id id);
struct stream_nack *stream_nack_add(struct stream_group *g, struct stream_consumer *c, struct stream_id id); /* must be new */
void stream_nack_move(struct stream_nack *n, struct stream_consumer *to, struct stream_id id);
bool stream_ack(struct stream_group *g, struct stream_id id); /* false: was not pending */

/* Whether entries between start and end may have been deleted by hand. */
bool stream_may_have_holes(const struct stream *s, struct stream_id start, struct stream_id end);
/* How many entries the stream ever had up to id; STREAM_ENTRIES_READ_UNKNOWN when that cannot be told. */
int64_t stream_entries_up_to(const struct stream *s, struct stream_id id);
/* Entries the group has not read yet; below 0 when entries_read was set too high. False: cannot be told. */
bool stream_group_lag(const struct stream *s, const struct stream_group *g, int64_t *ret);
/* last_id moves on to an entry that is read, and entries_read with it. */
void stream_group_advance(const struct stream *s, struct stream_group *g, struct stream_id id);

#endif
