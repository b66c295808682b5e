/*
 * Geohashes. Place in the flow: the geo commands. Pure functions.
 *
 * A cell's bits: longitude's choices in the odd bits, latitude's in the even ones, the first choice highest. All places of a cell
 * have scores that follow one another, so the places of a cell are one range of a sorted set. A search takes the cell that its
 * centre is in, of such a size that this cell and its eight neighbours cover the shape, and looks at the places in those.
 *
 * Distances are great circles on a sphere (haversine). Expressions are in redis-server's order: what its results' last digits
 * depend on.
 */
#include "data/geohash.h"

#include <math.h>
#include <string.h>

#define EARTH_RADIUS 6372797.560856 /* metres */
#define MERCATOR_MAX 20037726.37    /* metres: half the projection's width */
#define EVEN_BITS 0x5555555555555555ULL
#define ODD_BITS 0xaaaaaaaaaaaaaaaaULL

struct area {
    double lon_min, lon_max, lat_min, lat_max;
};

static const struct area mercator = { -GEO_LON_MAX, GEO_LON_MAX, -GEO_LAT_MAX, GEO_LAT_MAX };
static const struct area whole = { -180, 180, -90, 90 };

static inline double radians(double degrees) {
    return degrees * (M_PI / 180.0);
}

static inline double degrees(double radians_) {
    return radians_ / (M_PI / 180.0);
}

/* ---- bits ---- */

/* The bits of v in the even places of the result. */
static uint64_t spread(uint32_t v) {
    uint64_t x = v;
    x = (x | x << 16) & 0x0000ffff0000ffffULL;
    x = (x | x << 8) & 0x00ff00ff00ff00ffULL;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fULL;
    x = (x | x << 2) & 0x3333333333333333ULL;
    return (x | x << 1) & EVEN_BITS;
}

static uint32_t gather(uint64_t x) {
    x &= EVEN_BITS;
    x = (x | x >> 1) & 0x3333333333333333ULL;
    x = (x | x >> 2) & 0x0f0f0f0f0f0f0f0fULL;
    x = (x | x >> 4) & 0x00ff00ff00ff00ffULL;
    x = (x | x >> 8) & 0x0000ffff0000ffffULL;
    return (uint32_t)(x | x >> 16);
}

/* ---- points and cells ---- */

static struct geo_cell cell_of(struct geo_point p, const struct area *range, unsigned step) {
    double lat = (p.lat - range->lat_min) / (range->lat_max - range->lat_min);
    double lon = (p.lon - range->lon_min) / (range->lon_max - range->lon_min);
    lat *= (double)(1ULL << step);
    lon *= (double)(1ULL << step);
    return (struct geo_cell){ spread((uint32_t)lat) | spread((uint32_t)lon) << 1, step };
}

static struct area area_of(struct geo_cell c) {
    uint32_t lat = gather(c.bits), lon = gather(c.bits >> 1);
    double lat_scale = mercator.lat_max - mercator.lat_min, lon_scale = mercator.lon_max - mercator.lon_min;
    double n = (double)(1ULL << c.step);
    return (struct area){
        .lat_min = mercator.lat_min + (lat * 1.0 / n) * lat_scale,
        .lat_max = mercator.lat_min + ((lat + 1) * 1.0 / n) * lat_scale,
        .lon_min = mercator.lon_min + (lon * 1.0 / n) * lon_scale,
        .lon_max = mercator.lon_min + ((lon + 1) * 1.0 / n) * lon_scale,
    };
}

static double clamp(double v, double max) {
    return v > max ? max : v < -max ? -max : v;
}

double geo_score(struct geo_point p) {
    return (double)cell_of(p, &mercator, GEO_STEP_MAX).bits;
}

/* A score that no place has, as ZADD may store, is converted as x86-64 does it, which redis-server relies on. */
static uint64_t bits_of_score(double score) {
    if (score >= 0x1p64) return 0;
    if (score >= 0x1p63) return (uint64_t)score;
    if (score >= -0x1p63) return (uint64_t)(int64_t)score;
    return 1ULL << 63;
}

struct geo_point geo_of_score(double score) {
    struct area a = area_of((struct geo_cell){ bits_of_score(score), GEO_STEP_MAX });
    return (struct geo_point){ clamp((a.lon_min + a.lon_max) / 2, GEO_LON_MAX), clamp((a.lat_min + a.lat_max) / 2, GEO_LAT_MAX) };
}

/* Five bits a character, from the top. The 52 bits end in the middle of the last character, which redis-server writes as 0. */
void geo_text(struct geo_point p, char ret[GEO_TEXT_LEN]) {
    static const char alphabet[] = "0123456789bcdefghjkmnpqrstuvwxyz";
    uint64_t bits = cell_of(p, &whole, GEO_STEP_MAX).bits;
    for (int i = 0; i < GEO_TEXT_LEN - 1; i++) ret[i] = alphabet[bits >> (52 - (i + 1) * 5) & 0x1f];
    ret[GEO_TEXT_LEN - 1] = alphabet[0];
}

void geo_cell_scores(struct geo_cell c, double *ret_min, double *ret_end) {
    unsigned shift = 52 - c.step * 2;
    *ret_min = (double)(c.bits << shift);
    *ret_end = (double)((c.bits + 1) << shift);
}

/* ---- distances ---- */

static double lat_distance(double lat1, double lat2) {
    return EARTH_RADIUS * fabs(radians(lat2) - radians(lat1));
}

double geo_distance(struct geo_point a, struct geo_point b) {
    double v = sin((radians(b.lon) - radians(a.lon)) / 2);
    if (v == 0.0) return lat_distance(a.lat, b.lat);
    double lat1 = radians(a.lat), lat2 = radians(b.lat);
    double u = sin((lat2 - lat1) / 2);
    double h = u * u + cos(lat1) * cos(lat2) * v * v;
    return 2.0 * EARTH_RADIUS * asin(sqrt(h));
}

bool geo_is_within(const struct geo_shape *s, struct geo_point p, double *ret_distance) {
    if (s->is_box) {
        if (lat_distance(p.lat, s->center.lat) > s->height / 2) return false;
        if (geo_distance(p, (struct geo_point){ s->center.lon, p.lat }) > s->width / 2) return false;
    }
    *ret_distance = geo_distance(s->center, p);
    return s->is_box || *ret_distance <= s->radius;
}

/* ---- covering a shape ---- */

/* The smallest area of straight sides around the shape. */
static struct area bounds_of(const struct geo_shape *s) {
    double height = s->is_box ? s->height / 2 : s->radius, width = s->is_box ? s->width / 2 : s->radius;
    double lat = degrees(height / EARTH_RADIUS);
    double lon_top = degrees(width / EARTH_RADIUS / cos(radians(s->center.lat + lat)));
    double lon_bottom = degrees(width / EARTH_RADIUS / cos(radians(s->center.lat - lat)));
    double lon = s->center.lat < 0 ? lon_bottom : lon_top; /* the side nearer to a pole is the wider one in degrees */
    return (struct area){ s->center.lon - lon, s->center.lon + lon, s->center.lat - lat, s->center.lat + lat };
}

/* How often to halve so that nine cells cover a circle; towards the poles cells are narrower. */
static unsigned steps_for(double radius, double lat) {
    int step = 1;
    if (radius == 0) return GEO_STEP_MAX;
    while (radius < MERCATOR_MAX) {
        radius *= 2;
        step++;
    }
    step -= 2;
    if (fabs(lat) > 66) step--;
    if (fabs(lat) > 80) step--;
    if (step < 1) step = 1;
    return step > GEO_STEP_MAX ? GEO_STEP_MAX : (unsigned)step;
}

/* The neighbour dx cells to the east and dy to the north, around the earth's edges. */
static struct geo_cell neighbour(struct geo_cell c, int dx, int dy) {
    unsigned unused = 64 - c.step * 2;
    uint64_t x = c.bits & ODD_BITS, y = c.bits & EVEN_BITS;
    uint64_t even = EVEN_BITS >> unused, odd = ODD_BITS >> unused;
    /* Added to bits that are all set between those that count, a carry goes from each to the next. The direction that is not gone
     * in stays as it is, even where it is one too large: on the very edge (longitude 180). */
    if (dx) x = (dx > 0 ? x + (even + 1) : (x | even) - (even + 1)) & odd;
    if (dy) y = (dy > 0 ? y + (odd + 1) : (y | odd) - (odd + 1)) & even;
    return (struct geo_cell){ x | y, c.step };
}

static const int around[GEO_CELLS_MAX][2] = { { 0, 0 }, { 0, 1 },  { 0, -1 }, { 1, 0 },  { -1, 0 },
                                              { 1, 1 }, { -1, 1 }, { 1, -1 }, { -1, -1 } };

/* Whether the cells around this one leave nothing of the bounds uncovered. */
static bool is_covered(struct geo_cell c, const struct area *bounds) {
    return !(area_of(neighbour(c, 0, 1)).lat_max < bounds->lat_max) &&
           !(area_of(neighbour(c, 0, -1)).lat_min > bounds->lat_min) &&
           !(area_of(neighbour(c, 1, 0)).lon_max < bounds->lon_max) && !(area_of(neighbour(c, -1, 0)).lon_min > bounds->lon_min);
}

unsigned geo_cells(const struct geo_shape *s, struct geo_cell ret[GEO_CELLS_MAX]) {
    struct area bounds = bounds_of(s);
    double radius = s->is_box ? sqrt((s->width / 2) * (s->width / 2) + (s->height / 2) * (s->height / 2)) : s->radius;
    unsigned step = steps_for(radius, s->center.lat), n = 0;
    struct geo_cell c = cell_of(s->center, &mercator, step);
    if (step > 1 && !is_covered(c, &bounds)) c = cell_of(s->center, &mercator, --step);
    struct area a = area_of(c);
    bool may_skip = step >= 2;
    for (int i = 0; i < GEO_CELLS_MAX; i++) {
        int dx = around[i][0], dy = around[i][1];
        if (may_skip && ((dy < 0 && a.lat_min < bounds.lat_min) || (dy > 0 && a.lat_max > bounds.lat_max) ||
                         (dx < 0 && a.lon_min < bounds.lon_min) || (dx > 0 && a.lon_max > bounds.lon_max)))
            continue;
        struct geo_cell next = dx || dy ? neighbour(c, dx, dy) : c;
        /* Of very large cells neighbours may be the same: the one looked at last is not looked at again. */
        if (n > 1 && ret[n - 1].bits == next.bits) continue;
        ret[n++] = next;
    }
    return n;
}
