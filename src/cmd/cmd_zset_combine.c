/*
 * Sorted sets, several at once: ZUNION, ZINTER, ZDIFF, the forms that store, ZINTERCARD. A source may be a plain set: its members
 * have score 1.
 *
 * The result is collected in a builder (a table of members), sorted once at the end, and replied or stored. Sources are gone
 * through from the smallest to the largest, as redis-server does: what sums of floating-point scores come to depends on it.
 */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "cmd/cmd_zset.h"
#include "data/set.h"

enum combine_op { OP_UNION, OP_INTER, OP_DIFF };
enum aggregate { AGG_SUM, AGG_MIN, AGG_MAX };

struct source {
    const struct obj *o; /* NULL: the key is absent */
    uint64_t len;
    double weight;
    struct lp_index *index; /* of one that is looked up in often, or NULL */
};

struct combine {
    enum combine_op op;
    bool is_store, card_only, with_scores;
    enum aggregate aggregate;
    uint64_t limit; /* ZINTERCARD; 0: none */
    struct source *sources;
    int n_sources;
};

/* ---- sources ---- */

typedef bool item_fn(void *arg, const struct zset_item *item);

struct set_walk {
    item_fn *fn;
    void *arg;
};

static bool set_walk_visit(void *arg, const struct set_member *m) {
    const struct set_walk *w = arg;
    char tmp[STR_LL_MAX];
    struct zset_item item = { 1, set_member_text(m, tmp) };
    return w->fn(w->arg, &item);
}

/* Every member until fn gives false; of a sorted set from the highest downwards. */
static void source_each(const struct source *s, item_fn *fn, void *arg) {
    struct zset_iter it;
    struct zset_item item;
    if (!s->o) return;
    if (s->o->type == OBJ_SET) {
        struct set_walk w = { fn, arg };
        set_each(s->o, set_walk_visit, &w);
        return;
    }
    zset_iter_init(&it, s->o, s->len - 1, true);
    while (zset_iter_next(&it, &item) && fn(arg, &item)) {
    }
}

static bool source_score(const struct source *s, struct slice member, double *ret) {
    if (!s->o) return false;
    if (s->o->type == OBJ_ZSET) return s->index ? zset_index_score(s->index, s->o, member, ret) : zset_score(s->o, member, ret);
    *ret = 1;
    if (s->index) return lp_index_find(s->index, member, 0) != NULL;
    return set_has(s->o, member);
}

/* Before the members of the first source are looked up in the others. */
static void index_others(const struct combine *m) {
    for (int i = 1; i < m->n_sources; i++) {
        struct source *s = &m->sources[i];
        if (!s->o || s->o == m->sources[0].o) continue;
        uint64_t n = m->sources[0].len;
        s->index = s->o->type == OBJ_ZSET ? zset_index_new(s->o, n) : set_index_new(s->o, n);
    }
}

static void sources_free(struct combine *m) {
    for (int i = 0; i < m->n_sources; i++) lp_index_free(m->sources[i].index);
    mem_free(m->sources);
}

/* ---- arithmetic ---- */

static double weighted(double score, double weight) {
    double v = score * weight;
    return isnan(v) ? 0 : v; /* 0 times infinity */
}

static double aggregated(double a, double b, enum aggregate how) {
    if (how == AGG_MIN) return b < a ? b : a;
    if (how == AGG_MAX) return b > a ? b : a;
    double sum = a + b;
    return isnan(sum) ? 0 : sum; /* inf and -inf */
}

/* ---- the three operations ---- */

struct run {
    const struct combine *m;
    const struct source *from; /* being gone through */
    struct zset_builder *b;    /* NULL: members are counted only */
    uint64_t n;
};

static bool unite_item(void *arg, const struct zset_item *item) {
    struct run *r = arg;
    bool is_new;
    double *at = zset_builder_at(r->b, item->member, &is_new), v = weighted(item->score, r->from->weight);
    *at = is_new ? v : aggregated(*at, v, r->m->aggregate);
    return true;
}

static void unite(struct run *r) {
    for (int i = 0; i < r->m->n_sources; i++) {
        r->from = &r->m->sources[i];
        source_each(r->from, unite_item, r);
    }
}

/* Whether the member is in all sources but the first; *score is aggregated over all. */
static bool in_others(const struct combine *m, const struct zset_item *item, double *score) {
    *score = weighted(item->score, m->sources[0].weight);
    for (int i = 1; i < m->n_sources; i++) {
        const struct source *s = &m->sources[i];
        double other = item->score;
        if (s->o != m->sources[0].o && !source_score(s, item->member, &other)) return false;
        /* Here a product that is not a number is added as it is, in redis-server too: the sum is 0 then. */
        *score = aggregated(*score, other * s->weight, m->aggregate);
    }
    return true;
}

static bool intersect_item(void *arg, const struct zset_item *item) {
    struct run *r = arg;
    double score;
    bool is_new;
    if (!in_others(r->m, item, &score)) return true;
    r->n++;
    if (r->b) *zset_builder_at(r->b, item->member, &is_new) = score;
    return r->b || r->n != r->m->limit;
}

static void intersect(struct run *r) {
    index_others(r->m);
    source_each(&r->m->sources[0], intersect_item, r);
}

static bool subtract_item(void *arg, const struct zset_item *item) {
    struct run *r = arg;
    const struct combine *m = r->m;
    bool found = false, is_new;
    double other;
    for (int i = 1; !found && i < m->n_sources; i++)
        found = m->sources[i].o == m->sources[0].o || source_score(&m->sources[i], item->member, &other);
    if (!found) *zset_builder_at(r->b, item->member, &is_new) = item->score;
    return true;
}

static bool take_item(void *arg, const struct zset_item *item) {
    struct run *r = arg;
    bool is_new;
    *zset_builder_at(r->b, item->member, &is_new) = item->score;
    return true;
}

static bool remove_item(void *arg, const struct zset_item *item) {
    struct run *r = arg;
    zset_builder_remove(r->b, item->member);
    return zset_builder_len(r->b) > 0;
}

/* Either looks each member of the first source up in the others, or takes all of the first and then each member of the others
 * away. */
static void subtract(struct run *r) {
    const struct combine *m = r->m;
    double looking = (double)m->sources[0].len * (m->n_sources - 1), removing = 0;
    for (int i = 0; i < m->n_sources; i++) removing += (double)m->sources[i].len;
    if (looking / 2 <= removing) { /* it stops at the first source that has the member */
        index_others(r->m);
        source_each(&m->sources[0], subtract_item, r);
        return;
    }
    source_each(&m->sources[0], take_item, r);
    for (int i = 1; i < m->n_sources && zset_builder_len(r->b); i++) source_each(&m->sources[i], remove_item, r);
}

/* ---- arguments ---- */

static bool find_sources(struct cmd_ctx *c, struct combine *m, int first) {
    for (int i = 0; i < m->n_sources; i++) {
        struct entry *e = cmd_find_read(c, c->argv[first + i]);
        m->sources[i].weight = 1;
        if (!e) continue;
        const struct obj *o = entry_value(e);
        if (o->type != OBJ_ZSET && o->type != OBJ_SET) {
            cmd_wrongtype(c);
            return false;
        }
        m->sources[i].o = o;
        m->sources[i].len = o->type == OBJ_SET ? set_len(o) : zset_len(o);
    }
    return true;
}

static bool weights_option(struct cmd_ctx *c, struct combine *m, int *at) {
    for (int i = 0; i < m->n_sources; i++)
        if (!cmd_arg_double(c, c->argv[++*at], &m->sources[i].weight, "ERR weight value is not a float")) return false;
    return true;
}

static bool aggregate_option(struct cmd_ctx *c, struct combine *m, struct slice word) {
    if (slice_ieq(word, "sum"))
        m->aggregate = AGG_SUM;
    else if (slice_ieq(word, "min"))
        m->aggregate = AGG_MIN;
    else if (slice_ieq(word, "max"))
        m->aggregate = AGG_MAX;
    else {
        cmd_syntax_error(c);
        return false;
    }
    return true;
}

static bool limit_option(struct cmd_ctx *c, struct combine *m, struct slice a) {
    int64_t v;
    if (!cmd_arg_ll_range(c, a, 0, INT64_MAX, &v, "ERR LIMIT can't be negative")) return false;
    m->limit = (uint64_t)v;
    return true;
}

static bool combine_options(struct cmd_ctx *c, struct combine *m, int first) {
    bool has_scores = m->op != OP_DIFF && !m->card_only;
    for (int i = first; i < c->argc; i++) {
        struct slice a = c->argv[i];
        int after = c->argc - i - 1;
        if (has_scores && after >= m->n_sources && slice_ieq(a, "weights")) {
            if (!weights_option(c, m, &i)) return false;
        } else if (has_scores && after >= 1 && slice_ieq(a, "aggregate")) {
            if (!aggregate_option(c, m, c->argv[++i])) return false;
        } else if (!m->is_store && !m->card_only && slice_ieq(a, "withscores")) {
            m->with_scores = true;
        } else if (m->card_only && after >= 1 && slice_ieq(a, "limit")) {
            if (!limit_option(c, m, c->argv[++i])) return false;
        } else {
            cmd_syntax_error(c);
            return false;
        }
    }
    return true;
}

static int source_cmp(const void *a, const void *b) {
    const struct source *x = a, *y = b;
    return (x->len > y->len) - (x->len < y->len);
}

/* Stable: sources of the same size stay in the order they were given in. */
static void sort_sources(struct combine *m) {
    bool in_order = true;
    for (int i = 1; i < m->n_sources; i++) in_order = in_order && source_cmp(&m->sources[i - 1], &m->sources[i]) <= 0;
    if (!in_order) qsort(m->sources, (size_t)m->n_sources, sizeof(*m->sources), source_cmp);
}

/* ---- the commands ---- */

struct result_reply {
    struct cmd_ctx *c;
    bool with_scores;
};

static void reply_result_item(void *arg, const struct zset_item *item) {
    const struct result_reply *r = arg;
    zset_reply_item(r->c, item, r->with_scores);
}

static void reply_result(struct cmd_ctx *c, const struct zset_builder *b, bool with_scores) {
    struct result_reply r = { c, with_scores };
    zset_reply_begin(c, zset_builder_len(b), with_scores);
    zset_builder_each(b, reply_result_item, &r);
}

static void run(struct cmd_ctx *c, struct combine *m) {
    static const char *const events[] = { "zunionstore", "zinterstore", "zdiffstore" };
    struct run r = { .m = m, .b = m->card_only ? NULL : zset_builder_new() };
    if (m->op != OP_DIFF) sort_sources(m);
    if (m->op == OP_UNION)
        unite(&r);
    else if (m->op == OP_INTER)
        intersect(&r);
    else
        subtract(&r);
    if (m->card_only) {
        reply_int(c->r, (int64_t)r.n);
    } else if (m->is_store) {
        zset_store(c, c->argv[1], zset_builder_finish(r.b), events[m->op]);
    } else {
        reply_result(c, r.b, m->with_scores);
        zset_builder_free(r.b);
    }
}

/* numkeys is argv[at]. */
static void combine(struct cmd_ctx *c, struct combine m, int at) {
    int64_t n;
    if (!cmd_arg_ll(c, c->argv[at], &n, NULL)) return;
    if (n < 1) {
        reply_errorf(c->r, "ERR at least 1 input key is needed for '%s' command", c->cmd->full_name);
        return;
    }
    if (n > c->argc - at - 1) {
        cmd_syntax_error(c);
        return;
    }
    m.n_sources = (int)n;
    m.sources = mem_calloc((size_t)n, sizeof(*m.sources));
    if (find_sources(c, &m, at + 1) && combine_options(c, &m, at + 1 + m.n_sources)) run(c, &m);
    sources_free(&m);
}

void zset_zunion_command(struct cmd_ctx *c) {
    combine(c, (struct combine){ .op = OP_UNION }, 1);
}

void zset_zinter_command(struct cmd_ctx *c) {
    combine(c, (struct combine){ .op = OP_INTER }, 1);
}

void zset_zdiff_command(struct cmd_ctx *c) {
    combine(c, (struct combine){ .op = OP_DIFF }, 1);
}

void zset_zunionstore_command(struct cmd_ctx *c) {
    combine(c, (struct combine){ .op = OP_UNION, .is_store = true }, 2);
}

void zset_zinterstore_command(struct cmd_ctx *c) {
    combine(c, (struct combine){ .op = OP_INTER, .is_store = true }, 2);
}

void zset_zdiffstore_command(struct cmd_ctx *c) {
    combine(c, (struct combine){ .op = OP_DIFF, .is_store = true }, 2);
}

void zset_zintercard_command(struct cmd_ctx *c) {
    combine(c, (struct combine){ .op = OP_INTER, .card_only = true }, 1);
}
