/* An ordered set of short texts, each with a tag and in a group: what rules consist of. Order is that of insertion; adding,
 * finding and removing take constant time however many there are, since a user's rules come from outside. One thread, or read
 * only. */
#ifndef KETTLE_CMD_ACL_SET_H
#define KETTLE_CMD_ACL_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

struct acl_item {
    char *text; /* NUL behind it; NULL: removed */
    size_t len;
    unsigned tag;
    int group;  /* -1: none */
    int before; /* the item before in its group, -1 */
};

struct acl_set {           /* zeroed: empty */
    struct acl_item *item; /* with holes: acl_set_next */
    int n, cap, live;
    int *slot; /* open addressing; -1 empty. NULL while there are few */
    int n_slots;
    int *last; /* of each group, -1 none; while the set is being changed */
    int n_groups;
};

/* The item with this text in this group, or NULL. */
struct acl_item *acl_set_find(const struct acl_set *s, struct slice text, int group);
/* At the end; the caller has seen that it is not there. */
void acl_set_add(struct acl_set *s, struct slice text, unsigned tag, int group);
void acl_set_remove(struct acl_set *s, struct acl_item *it);
void acl_set_remove_group(struct acl_set *s, int group);
/* for (it = NULL; (it = acl_set_next(s, it));) */
const struct acl_item *acl_set_next(const struct acl_set *s, const struct acl_item *it);
void acl_set_clear(struct acl_set *s); /* wipes the texts: they may be digests */
void acl_set_copy(struct acl_set *to /* zeroed */, const struct acl_set *from);
void acl_set_finish(struct acl_set *s); /* closes the holes, gives back what only changes need */

static inline struct slice acl_item_text(const struct acl_item *it) {
    return (struct slice){ it->text, it->len };
}

#endif
