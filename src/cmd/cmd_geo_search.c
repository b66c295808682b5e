/*
 * Places around a place: GEOSEARCH, GEOSEARCHSTORE, and GEORADIUS with its relatives, which are the same search in older words.
 *
 * Flow: arguments -> shape -> the cells that cover it (geo_cells) -> the places of each cell, which are a range of scores of the
 * set -> those within the shape -> sorted by distance, cut to COUNT -> replied or stored. Members are copied on the way: those of
 * the small encoding are not all there at once.
 */
#include "cmd/cmd_geo.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/psort.h"
#include "cmd/cmd_zset.h"

enum geo_sort { UNSORTED, ASCENDING, DESCENDING };
enum from { FROM_NOTHING, FROM_MEMBER, FROM_POINT };
enum by { BY_NOTHING, BY_RADIUS, BY_BOX };

struct geo_search {
    bool is_search;           /* GEOSEARCH's words, else GEORADIUS's */
    bool may_store, to_first; /* GEORADIUS: STORE and STOREDIST are options; GEOSEARCHSTORE: argv[1] is where to */
    const struct obj *o;      /* NULL: the key is absent */
    struct geo_shape shape;
    double unit; /* metres */
    enum from from;
    enum by by;
    bool with_dist, with_hash, with_coord, any;
    enum geo_sort sort;
    int64_t count;             /* 0: all */
    const struct slice *store; /* NULL: replied */
    bool store_dist;
};

/* ---- arguments ---- */

static bool not_negative(struct cmd_ctx *c, double v, const char *msg) {
    if (v < 0) reply_error(c->r, msg);
    return v >= 0;
}

/* radius unit */
static bool radius_args(struct cmd_ctx *c, int at, struct geo_search *g) {
    double radius;
    if (!cmd_arg_double(c, c->argv[at], &radius, "ERR need numeric radius") ||
        !not_negative(c, radius, "ERR radius cannot be negative") || !geo_arg_unit(c, c->argv[at + 1], &g->unit))
        return false;
    g->shape.is_box = false;
    g->shape.radius = radius * g->unit;
    g->by = BY_RADIUS;
    return true;
}

/* width height unit */
static bool box_args(struct cmd_ctx *c, int at, struct geo_search *g) {
    double width, height;
    if (!cmd_arg_double(c, c->argv[at], &width, "ERR need numeric width") ||
        !cmd_arg_double(c, c->argv[at + 1], &height, "ERR need numeric height") ||
        !not_negative(c, width < height ? width : height, "ERR height or width cannot be negative") ||
        !geo_arg_unit(c, c->argv[at + 2], &g->unit))
        return false;
    g->shape.is_box = true;
    g->shape.width = width * g->unit;
    g->shape.height = height * g->unit;
    g->by = BY_BOX;
    return true;
}

/* A member of a set that is absent is not looked for: the result is empty, whatever the other arguments are. */
static bool member_arg(struct cmd_ctx *c, struct slice member, struct geo_search *g) {
    double score;
    g->from = FROM_MEMBER;
    if (!g->o) return true;
    if (!zset_score(g->o, member, &score)) {
        reply_error(c->r, "ERR could not decode requested zset member");
        return false;
    }
    g->shape.center = geo_of_score(score);
    return true;
}

static bool point_args(struct cmd_ctx *c, int at, struct geo_search *g) {
    g->from = FROM_POINT;
    return geo_arg_point(c, at, &g->shape.center);
}

static bool count_arg(struct cmd_ctx *c, struct slice a, int64_t *ret) {
    if (!cmd_arg_ll(c, a, ret, NULL)) return false;
    if (*ret > 0) return true;
    reply_error(c->r, "ERR COUNT must be > 0");
    return false;
}

/* The words without arguments, the same in all commands. */
static bool plain_option(struct geo_search *g, struct slice a) {
    if (slice_ieq(a, "withdist"))
        g->with_dist = true;
    else if (slice_ieq(a, "withhash"))
        g->with_hash = true;
    else if (slice_ieq(a, "withcoord"))
        g->with_coord = true;
    else if (slice_ieq(a, "any"))
        g->any = true;
    else if (slice_ieq(a, "asc"))
        g->sort = ASCENDING;
    else if (slice_ieq(a, "desc"))
        g->sort = DESCENDING;
    else
        return false;
    return true;
}

/* GEORADIUS's STORE key and STOREDIST key, GEOSEARCHSTORE's STOREDIST. */
static bool store_option(struct cmd_ctx *c, struct geo_search *g, int *at) {
    struct slice a = c->argv[*at];
    if (g->to_first && slice_ieq(a, "storedist")) {
        g->store_dist = true;
        return true;
    }
    bool dist = slice_ieq(a, "storedist");
    if (!g->may_store || *at + 1 >= c->argc || (!dist && !slice_ieq(a, "store"))) return false;
    g->store = &c->argv[++*at];
    g->store_dist = dist;
    return true;
}

/* FROMMEMBER, FROMLONLAT, BYRADIUS and BYBOX: 1 taken, 0 another word, -1 an error was replied. *at: the last argument taken. */
static int shape_option(struct cmd_ctx *c, struct geo_search *g, int *at) {
    struct slice a = c->argv[*at];
    int first = *at + 1, n = c->argc - first;
    bool ok;
    if (slice_ieq(a, "frommember") && n >= 1 && g->from != FROM_POINT) {
        ok = member_arg(c, c->argv[first], g);
        *at += 1;
    } else if (slice_ieq(a, "fromlonlat") && n >= 2 && g->from != FROM_MEMBER) {
        ok = point_args(c, first, g);
        *at += 2;
    } else if (slice_ieq(a, "byradius") && n >= 2 && g->by != BY_BOX) {
        ok = radius_args(c, first, g);
        *at += 2;
    } else if (slice_ieq(a, "bybox") && n >= 3 && g->by != BY_RADIUS) {
        ok = box_args(c, first, g);
        *at += 3;
    } else {
        return 0;
    }
    return ok ? 1 : -1;
}

static bool search_options(struct cmd_ctx *c, struct geo_search *g, int first) {
    for (int i = first; i < c->argc; i++) {
        if (plain_option(g, c->argv[i])) continue;
        if (slice_ieq(c->argv[i], "count") && i + 1 < c->argc) {
            if (!count_arg(c, c->argv[++i], &g->count)) return false;
            continue;
        }
        if (store_option(c, g, &i)) continue;
        int taken = g->is_search ? shape_option(c, g, &i) : 0;
        if (taken == 0) cmd_syntax_error(c);
        if (taken <= 0) return false;
    }
    return true;
}

/* What does not go together. */
static bool check_options(struct cmd_ctx *c, const struct geo_search *g) {
    int len = c->argv[0].len < 128 ? (int)c->argv[0].len : 128;
    if (g->store && (g->with_dist || g->with_hash || g->with_coord))
        reply_errorf(c->r, "ERR %s is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
                     g->to_first ? "GEOSEARCHSTORE" : "STORE option in GEORADIUS");
    else if (g->is_search && g->from == FROM_NOTHING)
        reply_errorf(c->r, "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for %.*s", len, c->argv[0].ptr);
    else if (g->is_search && g->by == BY_NOTHING)
        reply_errorf(c->r, "ERR exactly one of BYRADIUS and BYBOX can be specified for %.*s", len, c->argv[0].ptr);
    else if (g->any && !g->count)
        reply_error(c->r, "ERR the ANY argument requires COUNT argument");
    else
        return true;
    return false;
}

/* ---- searching ---- */

struct found {
    double dist; /* metres */
    double score;
    size_t at, len; /* the member, in found_list.members */
};

struct found_list {
    struct found *items;
    size_t n, cap;
    struct buf members;
};

static void found_add(struct found_list *f, const struct zset_item *item, double dist) {
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 32;
        f->items = mem_realloc(f->items, f->cap * sizeof(*f->items));
    }
    f->items[f->n++] = (struct found){ dist, item->score, f->members.len, item->member.len };
    buf_append(&f->members, item->member.ptr, item->member.len);
}

static struct slice found_member(const struct found_list *f, const struct found *p) {
    return p->len ? (struct slice){ f->members.data + p->at, p->len } : (struct slice){ "", 0 };
}

/* ANY: enough is enough. */
static bool is_enough(const struct geo_search *g, const struct found_list *f) {
    return g->any && f->n >= (uint64_t)g->count;
}

static void search_cell(const struct geo_search *g, struct geo_cell cell, struct found_list *f) {
    struct zset_score_range r = { .max_ex = true };
    struct zset_iter it;
    struct zset_item item;
    double dist;
    geo_cell_scores(cell, &r.min, &r.max);
    struct zset_ranks ranks = zset_score_range(g->o, &r);
    if (ranks.n == 0) return;
    zset_iter_init(&it, g->o, ranks.first, false);
    for (uint64_t i = 0; i < ranks.n && zset_iter_next(&it, &item); i++) {
        if (geo_is_within(&g->shape, geo_of_score(item.score), &dist)) found_add(f, &item, dist);
        if (is_enough(g, f)) return;
    }
}

static int nearer(const void *a, const void *b) {
    const struct found *x = a, *y = b;
    return (x->dist > y->dist) - (x->dist < y->dist);
}

static int farther(const void *a, const void *b) {
    return nearer(b, a);
}

/* The order of equal distances is redis-server's: it sorts all of a result by a stable method, and a part by another. */
static void sort_found(const struct geo_search *g, struct found_list *f, size_t wanted) {
    int (*cmp)(const void *, const void *) = g->sort == DESCENDING ? farther : nearer;
    bool is_unsorted = g->sort == UNSORTED && (g->any || !g->count);
    if (is_unsorted || wanted == 0) return;
    if (wanted == f->n)
        qsort(f->items, f->n, sizeof(*f->items), cmp);
    else
        psort(f->items, f->n, sizeof(*f->items), cmp, 0, wanted - 1);
}

/* ---- results ---- */

static void reply_found(struct cmd_ctx *c, const struct geo_search *g, const struct found_list *f, size_t n) {
    size_t extras = (size_t)g->with_dist + g->with_hash + g->with_coord;
    reply_array(c->r, n);
    for (size_t i = 0; i < n; i++) {
        const struct found *p = &f->items[i];
        if (extras) reply_array(c->r, extras + 1);
        reply_bulk_slice(c->r, found_member(f, p));
        if (g->with_dist) geo_reply_distance(c, p->dist / g->unit);
        if (g->with_hash) reply_int(c->r, (int64_t)p->score);
        if (g->with_coord) geo_reply_point(c, geo_of_score(p->score));
    }
}

static void store_found(struct cmd_ctx *c, const struct geo_search *g, const struct found_list *f, size_t n) {
    struct zset_builder *b = zset_builder_new();
    bool is_new;
    for (size_t i = 0; i < n; i++) {
        const struct found *p = &f->items[i];
        *zset_builder_at(b, found_member(f, p), &is_new) = g->store_dist ? p->dist / g->unit : p->score;
    }
    zset_store(c, *g->store, zset_builder_finish(b), g->is_search ? "geosearchstore" : "georadiusstore");
    if (n) cmd_dirty(c, n - 1);
}

static void search(struct cmd_ctx *c, const struct geo_search *g) {
    struct found_list f = { 0 };
    struct geo_cell cells[GEO_CELLS_MAX];
    unsigned n_cells = g->o ? geo_cells(&g->shape, cells) : 0;
    for (unsigned i = 0; i < n_cells && !is_enough(g, &f); i++) search_cell(g, cells[i], &f);
    size_t n = g->count && (uint64_t)g->count < f.n ? (size_t)g->count : f.n;
    sort_found(g, &f, n);
    if (g->store)
        store_found(c, g, &f, n);
    else
        reply_found(c, g, &f, n);
    mem_free(f.items);
    buf_done(&f.members);
}

/* ---- the commands ---- */

static bool find_source(struct cmd_ctx *c, struct slice key, struct geo_search *g) {
    bool err;
    struct entry *e = cmd_find_typed(c, key, OBJ_ZSET, false, &err);
    g->o = e ? entry_value(e) : NULL;
    return !err;
}

static void georadius(struct cmd_ctx *c, bool may_store) {
    struct geo_search g = { .may_store = may_store };
    if (!find_source(c, c->argv[1], &g) || !point_args(c, 2, &g) || !radius_args(c, 4, &g)) return;
    if (search_options(c, &g, 6) && check_options(c, &g)) search(c, &g);
}

static void georadiusbymember(struct cmd_ctx *c, bool may_store) {
    struct geo_search g = { .may_store = may_store };
    if (!find_source(c, c->argv[1], &g)) return;
    if (g.o && (!member_arg(c, c->argv[2], &g) || !radius_args(c, 3, &g))) return;
    if (search_options(c, &g, 5) && check_options(c, &g)) search(c, &g);
}

void geo_georadius_command(struct cmd_ctx *c) {
    georadius(c, true);
}

void geo_georadius_ro_command(struct cmd_ctx *c) {
    georadius(c, false);
}

void geo_georadiusbymember_command(struct cmd_ctx *c) {
    georadiusbymember(c, true);
}

void geo_georadiusbymember_ro_command(struct cmd_ctx *c) {
    georadiusbymember(c, false);
}

void geo_geosearch_command(struct cmd_ctx *c) {
    struct geo_search g = { .is_search = true };
    if (find_source(c, c->argv[1], &g) && search_options(c, &g, 2) && check_options(c, &g)) search(c, &g);
}

void geo_geosearchstore_command(struct cmd_ctx *c) {
    struct geo_search g = { .is_search = true, .to_first = true, .store = &c->argv[1] };
    if (find_source(c, c->argv[2], &g) && search_options(c, &g, 3) && check_options(c, &g)) search(c, &g);
}

/* ---- keys ---- */

static int first_after(int argc, const struct slice *argv, int from, const char *word) {
    for (int i = from; i + 1 < argc; i++)
        if (slice_ieq(argv[i], word)) return i + 1;
    return 0;
}

static int last_store(int argc, const struct slice *argv, int from) {
    int at = 0;
    for (int i = from; i + 1 < argc; i++)
        if (slice_ieq(argv[i], "store") || slice_ieq(argv[i], "storedist")) at = ++i;
    return at;
}

static int keys_of(int argc, const struct slice *argv, int from, int *pos, unsigned *flags, int cap) {
    int found[] = { 1, first_after(argc, argv, from, "store"), first_after(argc, argv, from, "storedist"),
                    last_store(argc, argv, from) };
    int n = 0;
    if (found[3] == found[1] || found[3] == found[2]) found[3] = 0;
    for (int i = 0; i < 4; i++) {
        if (!found[i]) continue;
        if (n < cap) {
            pos[n] = found[i];
            if (flags) flags[n] = i ? KEY_OW | KEY_UPDATE : KEY_RO | KEY_ACCESS;
        }
        n++;
    }
    return n;
}

int geo_radius_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap) {
    return keys_of(argc, argv, 6, pos, flags, cap);
}

int geo_radiusbymember_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap) {
    return keys_of(argc, argv, 5, pos, flags, cap);
}
