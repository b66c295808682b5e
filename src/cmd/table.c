/*
 * The command table: registration at start-up, case-insensitive look-up, key extraction by key specs.
 * Built by the main thread before the I/O threads start; after that only the figures in struct cmd change (relaxed atomics), so
 * look-ups need no lock.
 */
#include "cmd/cmd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/str.h"

#define NAME_MAX_LEN 64  /* of a name, what is hashed */
#define TABLE_SLOTS 1024 /* power of two, several times the number of commands */

struct slot {
    char *name; /* as looked up: differs from the spec's after rename-command */
    size_t len;
    struct cmd *cmd;
};

struct cmd_table {
    struct slot slots[TABLE_SLOTS];
    struct cmd **all; /* every top-level command, renamed ones included */
    int n, cap;
    int next_id;
};

struct cmd_table *cmd_table_new(void) {
    return mem_zalloc(sizeof(struct cmd_table));
}

static void cmd_free(struct cmd *c) {
    for (int i = 0; i < c->n_subs; i++) cmd_free(c->subs[i]);
    mem_free(c->subs);
    mem_free(c->full_name);
    mem_free(c);
}

struct cmd_table *cmd_table_free(struct cmd_table *t) {
    if (!t) return NULL;
    for (int i = 0; i < TABLE_SLOTS; i++) mem_free(t->slots[i].name);
    for (int i = 0; i < t->n; i++) cmd_free(t->all[i]);
    mem_free(t->all);
    mem_free(t);
    return NULL;
}

static inline unsigned char lower(char c) {
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

/* FNV-1a. The table's names are ours: nobody can make them collide, so no keyed hash is needed. */
static unsigned slot_start(struct slice name) {
    unsigned h = 2166136261u;
    for (size_t i = 0; i < name.len && i < NAME_MAX_LEN; i++) h = (h ^ lower(name.ptr[i])) * 16777619u;
    return (h ^ h >> 15) & (TABLE_SLOTS - 1);
}

static struct slot *slot_find(const struct cmd_table *t, struct slice name) {
    for (unsigned i = slot_start(name);; i = (i + 1) & (TABLE_SLOTS - 1)) {
        const struct slot *s = &t->slots[i];
        if (!s->name) return NULL;
        if (s->cmd && s->len == name.len && strncasecmp(s->name, name.ptr, name.len) == 0) return (struct slot *)(uintptr_t)s;
    }
}

static void slot_insert(struct cmd_table *t, const char *name, struct cmd *cmd) {
    struct slice key = slice_cstr(name);
    unsigned i = slot_start(key);
    while (t->slots[i].name) i = (i + 1) & (TABLE_SLOTS - 1);
    t->slots[i] = (struct slot){ mem_strdup(name), key.len, cmd };
}

/* The categories that follow from the flags, as ACL documentation defines them. */
static unsigned implied_cats(unsigned flags, unsigned cats) {
    if (flags & CMD_WRITE) cats |= CAT_WRITE;
    if ((flags & CMD_READONLY) && !(cats & CAT_SCRIPTING)) cats |= CAT_READ;
    if (flags & CMD_ADMIN) cats |= CAT_ADMIN | CAT_DANGEROUS;
    if (flags & CMD_PUBSUB) cats |= CAT_PUBSUB;
    if (flags & CMD_BLOCKING) cats |= CAT_BLOCKING;
    if (flags & CMD_FAST) cats |= CAT_FAST;
    if (!(cats & CAT_FAST)) cats |= CAT_SLOW;
    return cats;
}

const struct cmd_bit_name cmd_cat_names[] = {
    { CAT_KEYSPACE, "@keyspace" },
    { CAT_READ, "@read" },
    { CAT_WRITE, "@write" },
    { CAT_SET, "@set" },
    { CAT_SORTEDSET, "@sortedset" },
    { CAT_LIST, "@list" },
    { CAT_HASH, "@hash" },
    { CAT_STRING, "@string" },
    { CAT_BITMAP, "@bitmap" },
    { CAT_HYPERLOGLOG, "@hyperloglog" },
    { CAT_GEO, "@geo" },
    { CAT_STREAM, "@stream" },
    { CAT_PUBSUB, "@pubsub" },
    { CAT_ADMIN, "@admin" },
    { CAT_FAST, "@fast" },
    { CAT_SLOW, "@slow" },
    { CAT_BLOCKING, "@blocking" },
    { CAT_DANGEROUS, "@dangerous" },
    { CAT_CONNECTION, "@connection" },
    { CAT_TRANSACTION, "@transaction" },
    { CAT_SCRIPTING, "@scripting" },
    { 0, NULL },
};

unsigned cmd_cat_find(struct slice name) {
    for (const struct cmd_bit_name *c = cmd_cat_names; c->name; c++)
        if (slice_ieq(name, c->name + 1)) return c->bit;
    return 0;
}

static struct cmd *cmd_new(struct cmd_table *t, const struct cmd_spec *spec, const struct cmd *parent) {
    struct cmd *c = mem_zalloc(sizeof *c);
    c->spec = spec;
    c->parent = parent;
    c->id = t->next_id++;
    c->flags = spec->flags;
    c->cats = implied_cats(spec->flags, spec->cats);
    c->full_name = parent ? mem_asprintf("%s|%s", parent->full_name, spec->name) : mem_strdup(spec->name);
    if (spec->subs) {
        int n = 0;
        while (spec->subs[n].name) n++;
        c->subs = mem_calloc((size_t)n, sizeof(struct cmd *));
        for (c->n_subs = 0; c->n_subs < n; c->n_subs++) c->subs[c->n_subs] = cmd_new(t, &spec->subs[c->n_subs], c);
    }
    return c;
}

void cmd_table_register(struct cmd_table *t, const struct cmd_spec *specs) {
    for (; specs->name; specs++) {
        if (t->n == t->cap) {
            t->cap = t->cap ? t->cap * 2 : 64;
            t->all = mem_realloc(t->all, sizeof(struct cmd *) * (size_t)t->cap);
        }
        struct cmd *c = cmd_new(t, specs, NULL);
        t->all[t->n++] = c;
        slot_insert(t, specs->name, c);
    }
}

int cmd_table_rename(struct cmd_table *t, const char *name, const char *new_name) {
    struct slot *s = slot_find(t, slice_cstr(name));
    if (!s) return -ENOENT;
    struct cmd *c = s->cmd;
    if (*new_name && slot_find(t, slice_cstr(new_name))) return -EEXIST;
    s->cmd = NULL; /* the name stays as a tombstone of the probe sequence */
    if (*new_name) slot_insert(t, new_name, c);
    return 0;
}

struct cmd *cmd_lookup(const struct cmd_table *t, struct slice name) {
    struct slot *s = slot_find(t, name);
    return s ? s->cmd : NULL;
}

struct cmd *cmd_lookup_argv(const struct cmd_table *t, int argc, const struct slice *argv) {
    struct cmd *c = cmd_lookup(t, argv[0]);
    if (!c || !c->n_subs || argc == 1) return c;
    for (int i = 0; i < c->n_subs; i++)
        if (slice_ieq(argv[1], c->subs[i]->spec->name)) return c->subs[i];
    return NULL;
}

static struct cmd *find_original(const struct cmd_table *t, struct slice name) {
    struct cmd *c = cmd_lookup(t, name);
    if (c && slice_ieq(name, c->spec->name)) return c;
    for (int i = 0; i < t->n; i++)
        if (slice_ieq(name, t->all[i]->spec->name)) return t->all[i];
    return NULL;
}

struct cmd *cmd_lookup_original(const struct cmd_table *t, struct slice name) {
    const char *bar = name.len ? memchr(name.ptr, '|', name.len) : NULL;
    if (!bar) return find_original(t, name);
    struct slice sub = { bar + 1, name.len - (size_t)(bar + 1 - name.ptr) };
    struct cmd *c = find_original(t, (struct slice){ name.ptr, (size_t)(bar - name.ptr) });
    for (int i = 0; c && i < c->n_subs; i++)
        if (slice_ieq(sub, c->subs[i]->spec->name)) return c->subs[i];
    return NULL;
}

void cmd_each_original(const struct cmd_table *t, void (*fn)(struct cmd *c, void *arg), void *arg) {
    for (int i = 0; i < t->n; i++) fn(t->all[i], arg);
}

static bool is_reachable(const struct cmd_table *t, const struct cmd *c) {
    for (int i = 0; i < TABLE_SLOTS; i++)
        if (t->slots[i].cmd == c) return true;
    return false;
}

int cmd_count(const struct cmd_table *t) {
    int n = 0;
    for (int i = 0; i < TABLE_SLOTS; i++) n += t->slots[i].cmd != NULL;
    return n;
}

static int by_name(const void *a, const void *b) {
    const struct cmd *const *x = a, *const *y = b;
    return strcmp((*x)->full_name, (*y)->full_name);
}

void cmd_each(const struct cmd_table *t, void (*fn)(struct cmd *c, void *arg), void *arg) {
    struct cmd **sorted = mem_calloc((size_t)t->n + 1, sizeof(struct cmd *));
    memcpy(sorted, t->all, sizeof(struct cmd *) * (size_t)t->n);
    qsort(sorted, (size_t)t->n, sizeof(struct cmd *), by_name);
    for (int i = 0; i < t->n; i++)
        if (is_reachable(t, sorted[i])) fn(sorted[i], arg);
    mem_free(sorted);
}

int cmd_ids(const struct cmd_table *t) {
    return t->next_id;
}

bool cmd_arity_ok(const struct cmd *c, int argc) {
    int arity = c->spec->arity;
    return arity >= 0 ? argc == arity : argc >= -arity;
}

/* ---- keys ---- */

/* Where the search of a spec begins, or -1: not there. */
static int spec_begin(const struct key_spec *ks, int argc, const struct slice *argv) {
    if (ks->begin == KEY_BEGIN_INDEX) return ks->index;
    if (ks->begin != KEY_BEGIN_KEYWORD) return -1;
    bool backwards = ks->index < 0;
    int i = backwards ? argc + ks->index : ks->index;
    for (; i > 0 && i < argc; i += backwards ? -1 : 1)
        if (slice_ieq(argv[i], ks->keyword)) return i + 1;
    return -1;
}

/* Range of one spec: first, last (inclusive), step. False: no keys by it; *ret_bad when the line is malformed. */
static bool spec_range(const struct key_spec *ks, int argc, const struct slice *argv, int *first, int *last, int *step,
                       bool *ret_bad) {
    *first = spec_begin(ks, argc, argv);
    if (*first < 0) return false;
    *step = ks->keystep > 0 ? ks->keystep : 1;
    if (ks->find == KEY_FIND_RANGE) {
        *last = *first + ks->lastkey;
        if (ks->lastkey < 0) *last = ks->limit <= 1 ? argc + ks->lastkey : *first + ((argc - *first) / ks->limit + ks->lastkey);
    } else if (ks->find == KEY_FIND_KEYNUM) {
        int64_t n;
        int at = *first + ks->keynum_idx;
        if (at >= argc || !str_to_ll(argv[at], &n) || n < 0 || n > argc) {
            *ret_bad = true;
            return false;
        }
        *first += ks->first_key;
        *last = *first + ((int)n - 1) * *step;
    } else {
        return false;
    }
    if (*last >= argc || *last < *first - 1 || *first >= argc) {
        *ret_bad = *first >= argc || *last >= argc;
        return false;
    }
    return *last >= *first;
}

int cmd_keys(const struct cmd *c, int argc, const struct slice *argv, int *pos, unsigned *flags, int cap) {
    if (c->spec->get_keys) return c->spec->get_keys(argc, argv, pos, flags, cap);
    int n = 0;
    bool bad = false;
    for (int k = 0; k < CMD_MAX_KEYSPECS && c->spec->keys[k].flags; k++) {
        const struct key_spec *ks = &c->spec->keys[k];
        int first, last, step;
        if (ks->flags & KEY_NOT_KEY) continue;
        if (!spec_range(ks, argc, argv, &first, &last, &step, &bad)) continue;
        for (int i = first; i <= last; i += step, n++) {
            if (n >= cap) continue;
            pos[n] = i;
            if (flags) flags[n] = ks->flags;
        }
    }
    return bad && n == 0 ? -1 : n;
}
