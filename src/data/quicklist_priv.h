/* Between quicklist's files: nodes without regard to what is in them. */
#ifndef KETTLE_DATA_QUICKLIST_PRIV_H
#define KETTLE_DATA_QUICKLIST_PRIV_H

#include "data/quicklist.h"

/* Puts a node before p (p.node may be one past the segment's last); where it is. */
struct ql_pos ql_put_node(struct quicklist *q, struct ql_pos p, struct gap_slot node);
struct ql_pos ql_put_node_after(struct quicklist *q, struct ql_pos p, struct gap_slot node);
void ql_put_node_at_end(struct quicklist *q, enum list_end end, struct gap_slot node);
/* Takes a node out, which is the caller's. p is then the node behind it: one past the end when there is none. */
void ql_take_node(struct quicklist *q, struct ql_pos p);
void ql_drop_node(struct quicklist *q, struct ql_pos p);          /* and frees it */
void ql_drop_seg(struct quicklist *q, uint32_t seg);              /* a segment with all its nodes */
bool ql_is_past_end(const struct quicklist *q, struct ql_pos *p); /* brings a position one past a segment to the next */
/* Joins a segment that has become short with its neighbours. Ends the life of positions. */
void ql_tidy(struct quicklist *q, uint32_t seg);
void ql_count(struct quicklist *q, struct ql_pos p, int64_t delta); /* elements were added to a node, or deleted */
void ql_free_node(struct gap_slot *node);

/* Compression. ql_open: makes a node's content changeable. ql_close: after a change of the node. ql_fix_ends: after nodes came or
 * went. */
void ql_open(struct quicklist *q, struct ql_pos p);
void ql_close(struct quicklist *q, struct ql_pos p);
void ql_fix_ends(struct quicklist *q);
void ql_fix_end_grown(struct quicklist *q, enum list_end end); /* the same when one node came at that end */

/* Whether an element of len bytes may be added to the node. */
bool ql_node_takes(const struct quicklist *q, const struct gap_slot *node, size_t len);
struct gap_slot ql_new_node(const struct quicklist *q, struct list_value v_take);

#endif
