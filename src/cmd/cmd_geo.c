/*
 * Places: adding, reading, measuring. Searching is in cmd_geo_search.c. GEOADD is ZADD with scores that are computed; replicas
 * get that ZADD.
 */
#include "cmd/cmd_geo.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "cmd/cmd_zset.h"

/* ---- shared ---- */

bool geo_arg_point(struct cmd_ctx *c, int at, struct geo_point *ret) {
    if (!cmd_arg_double(c, c->argv[at], &ret->lon, NULL) || !cmd_arg_double(c, c->argv[at + 1], &ret->lat, NULL)) return false;
    if (fabs(ret->lon) <= GEO_LON_MAX && fabs(ret->lat) <= GEO_LAT_MAX) return true;
    reply_errorf(c->r, "ERR invalid longitude,latitude pair %f,%f", ret->lon, ret->lat);
    return false;
}

bool geo_arg_unit(struct cmd_ctx *c, struct slice a, double *ret_metres) {
    static const struct {
        const char *name;
        double metres;
    } units[] = { { "m", 1 }, { "km", 1000 }, { "ft", 0.3048 }, { "mi", 1609.34 } };
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (!slice_ieq(a, units[i].name)) continue;
        *ret_metres = units[i].metres;
        return true;
    }
    reply_error(c->r, "ERR unsupported unit provided. please use M, KM, FT, MI");
    return false;
}

void geo_reply_distance(struct cmd_ctx *c, double distance) {
    long long v = llrint(distance * 10000);
    reply_bulkf(c->r, "%lld.%04lld", v / 10000, v % 10000);
}

void geo_reply_point(struct cmd_ctx *c, struct geo_point p) {
    reply_array(c->r, 2);
    reply_long_double(c->r, p.lon);
    reply_long_double(c->r, p.lat);
}

/* The set of argv[1]; NULL: absent, or an error was replied (*ret_err). */
static const struct obj *find_read(struct cmd_ctx *c, bool *ret_err) {
    struct entry *e = cmd_find_typed(c, c->argv[1], OBJ_ZSET, false, ret_err);
    return e ? entry_value(e) : NULL;
}

/* ---- GEOADD ---- */

struct geoadd {
    unsigned flags;
    bool ch;
    int first; /* argv position of the first longitude */
};

static void geoadd_options(struct cmd_ctx *c, struct geoadd *g) {
    for (g->first = 2; g->first < c->argc; g->first++) {
        struct slice a = c->argv[g->first];
        if (slice_ieq(a, "nx"))
            g->flags |= ZSET_NX;
        else if (slice_ieq(a, "xx"))
            g->flags |= ZSET_XX;
        else if (slice_ieq(a, "ch"))
            g->ch = true;
        else
            return;
    }
}

static bool geoadd_pairs(struct cmd_ctx *c, int first, struct zset_pair *pairs, size_t n) {
    for (size_t i = 0; i < n; i++) {
        struct geo_point p;
        int at = first + (int)i * 3;
        if (!geo_arg_point(c, at, &p)) return false;
        pairs[i] = (struct zset_pair){ geo_score(p), c->argv[at + 2] };
    }
    return true;
}

/* ZADD key [options] score member... */
static void geoadd_propagate(struct cmd_ctx *c, int first, const struct zset_pair *pairs, size_t n) {
    int argc = first + (int)n * 2;
    struct slice *argv = mem_calloc((size_t)argc, sizeof(*argv));
    char(*scores)[STR_LL_MAX] = mem_calloc(n, sizeof(*scores));
    argv[0] = SLICE_LIT("ZADD");
    for (int i = 1; i < first; i++) argv[i] = c->argv[i];
    for (size_t i = 0; i < n; i++) {
        struct slice score = { scores[i], str_from_ll(scores[i], (int64_t)pairs[i].score) };
        argv[first + (int)i * 2] = score;
        argv[first + (int)i * 2 + 1] = pairs[i].member;
    }
    cmd_propagate(c, argc, argv);
    mem_free(scores);
    mem_free(argv);
}

void geo_geoadd_command(struct cmd_ctx *c) {
    struct geoadd g = { 0 };
    struct zset_changes done;
    geoadd_options(c, &g);
    int words = c->argc - g.first;
    if (words == 0 || words % 3 || ((g.flags & ZSET_NX) && (g.flags & ZSET_XX))) {
        cmd_syntax_error(c);
        return;
    }
    size_t n = (size_t)words / 3;
    struct zset_pair *pairs = mem_calloc(n, sizeof(*pairs));
    if (geoadd_pairs(c, g.first, pairs, n) && zset_add_pairs(c, c->argv[1], pairs, n, g.flags, "zadd", &done)) {
        if (done.added + done.updated) geoadd_propagate(c, g.first, pairs, n);
        reply_int(c->r, g.ch ? done.added + done.updated : done.added);
    }
    mem_free(pairs);
}

/* ---- GEOPOS, GEOHASH, GEODIST ---- */

void geo_geopos_command(struct cmd_ctx *c) {
    bool err;
    double score;
    const struct obj *o = find_read(c, &err);
    if (err) return;
    reply_array(c->r, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++) {
        if (o && zset_score(o, c->argv[i], &score))
            geo_reply_point(c, geo_of_score(score));
        else
            reply_null_array(c->r);
    }
}

void geo_geohash_command(struct cmd_ctx *c) {
    bool err;
    double score;
    const struct obj *o = find_read(c, &err);
    if (err) return;
    reply_array(c->r, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++) {
        char text[GEO_TEXT_LEN];
        if (!o || !zset_score(o, c->argv[i], &score)) {
            reply_null(c->r);
            continue;
        }
        geo_text(geo_of_score(score), text);
        reply_bulk(c->r, text, sizeof text);
    }
}

void geo_geodist_command(struct cmd_ctx *c) {
    bool err;
    double metres = 1, a, b;
    if (c->argc > 5) {
        cmd_syntax_error(c);
        return;
    }
    if (c->argc == 5 && !geo_arg_unit(c, c->argv[4], &metres)) return;
    const struct obj *o = find_read(c, &err);
    if (err) return;
    if (o && zset_score(o, c->argv[2], &a) && zset_score(o, c->argv[3], &b))
        geo_reply_distance(c, geo_distance(geo_of_score(a), geo_of_score(b)) / metres);
    else
        reply_null(c->r);
}
