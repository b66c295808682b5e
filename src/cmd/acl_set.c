/*
 * Ordered sets of texts. See acl_set.h. Items stay where they were put; removal leaves a hole, and holes are closed when the set
 * is finished or copied. The index and the chains of groups come with the first change that needs them.
 */
#include "cmd/acl_set.h"

#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"

#define FEW 8 /* up to here looking at each is quicker than an index */

static bool is(const struct acl_item *it, struct slice text, int group) {
    return it->text && it->group == group && slice_eq(acl_item_text(it), text);
}

static unsigned first_slot(const struct acl_set *s, struct slice text, int group) {
    uint64_t h = hash_bytes(text.len ? text.ptr : "", text.len) + (uint64_t)(group + 1) * 0x9e3779b97f4a7c15ULL;
    return (unsigned)(h ^ h >> 32) & (unsigned)(s->n_slots - 1);
}

/* Removed items keep their slots, since a search must not end there, until others take them. */
static void index_item(struct acl_set *s, int i) {
    unsigned at = first_slot(s, acl_item_text(&s->item[i]), s->item[i].group);
    while (s->slot[at] >= 0 && s->item[s->slot[at]].text) at = (at + 1) & (unsigned)(s->n_slots - 1);
    s->slot[at] = i;
}

static void rebuild_index(struct acl_set *s) {
    mem_free(s->slot);
    s->slot = NULL;
    s->n_slots = 0;
    if (s->n <= FEW) return;
    s->n_slots = 4 * FEW;
    while (s->n_slots < 4 * s->n) s->n_slots *= 2;
    s->slot = mem_alloc(sizeof(int) * (size_t)s->n_slots);
    memset(s->slot, 0xff, sizeof(int) * (size_t)s->n_slots);
    for (int i = 0; i < s->n; i++)
        if (s->item[i].text) index_item(s, i);
}

struct acl_item *acl_set_find(const struct acl_set *s, struct slice text, int group) {
    if (!s->slot) {
        for (int i = 0; i < s->n; i++)
            if (is(&s->item[i], text, group)) return &s->item[i];
        return NULL;
    }
    for (unsigned at = first_slot(s, text, group); s->slot[at] >= 0; at = (at + 1) & (unsigned)(s->n_slots - 1)) {
        struct acl_item *it = &s->item[s->slot[at]];
        if (is(it, text, group)) return it;
    }
    return NULL;
}

static void chain(struct acl_set *s, int i) {
    int g = s->item[i].group;
    s->item[i].before = -1;
    if (g < 0) return;
    if (g >= s->n_groups) {
        int n = s->n_groups ? s->n_groups : 64;
        while (n <= g) n *= 2;
        s->last = mem_realloc(s->last, sizeof(int) * (size_t)n);
        memset(s->last + s->n_groups, 0xff, sizeof(int) * (size_t)(n - s->n_groups));
        s->n_groups = n;
    }
    s->item[i].before = s->last[g];
    s->last[g] = i;
}

static void close_holes(struct acl_set *s) {
    int n = 0;
    for (int i = 0; i < s->n; i++)
        if (s->item[i].text) s->item[n++] = s->item[i];
    s->n = n;
    mem_free(s->last);
    s->last = NULL;
    s->n_groups = 0;
    rebuild_index(s);
}

void acl_set_add(struct acl_set *s, struct slice text, unsigned tag, int group) {
    if (s->n == s->cap && s->live < s->n / 2) {
        close_holes(s);
        for (int i = 0; i < s->n; i++) chain(s, i);
    }
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 4;
        s->item = mem_realloc(s->item, sizeof(*s->item) * (size_t)s->cap);
    }
    s->item[s->n] = (struct acl_item){ mem_memdup0(text.len ? text.ptr : "", text.len), text.len, tag, group, -1 };
    chain(s, s->n++);
    s->live++;
    if (4 * s->n > 2 * s->n_slots && s->n > FEW) {
        rebuild_index(s);
    } else if (s->slot) {
        index_item(s, s->n - 1);
    }
}

static void drop(struct acl_set *s, struct acl_item *it) {
    mem_wipe(it->text, it->len);
    mem_free(it->text);
    it->text = NULL;
    s->live--;
}

void acl_set_remove(struct acl_set *s, struct acl_item *it) {
    drop(s, it);
}

void acl_set_remove_group(struct acl_set *s, int group) {
    if (group < 0 || s->live == 0) return;
    if (!s->last) /* a copy has no chains yet */
        for (int i = 0; i < s->n; i++) chain(s, i);
    if (!s->last || group >= s->n_groups) return;
    for (int i = s->last[group]; i >= 0; i = s->item[i].before)
        if (s->item[i].text) drop(s, &s->item[i]);
    s->last[group] = -1;
}

const struct acl_item *acl_set_next(const struct acl_set *s, const struct acl_item *it) {
    if (s->n == 0) return NULL;
    const struct acl_item *end = s->item + s->n;
    for (it = it ? it + 1 : s->item; it < end; it++)
        if (it->text) return it;
    return NULL;
}

void acl_set_clear(struct acl_set *s) {
    for (int i = 0; i < s->n; i++)
        if (s->item[i].text) drop(s, &s->item[i]);
    mem_free(s->item);
    mem_free(s->slot);
    mem_free(s->last);
    memset(s, 0, sizeof *s);
}

void acl_set_copy(struct acl_set *to, const struct acl_set *from) {
    if (from->live == 0) return;
    to->cap = from->live;
    to->item = mem_calloc((size_t)to->cap, sizeof *to->item);
    for (const struct acl_item *it = NULL; (it = acl_set_next(from, it));)
        to->item[to->n++] = (struct acl_item){ mem_memdup0(it->text, it->len), it->len, it->tag, it->group, -1 };
    to->live = to->n;
    for (int i = 0; i < to->n; i++) chain(to, i);
    rebuild_index(to);
}

void acl_set_finish(struct acl_set *s) {
    if (s->live == 0) {
        acl_set_clear(s);
        return;
    }
    close_holes(s);
}
