/* Places on the earth as 52-bit numbers, so that a sorted set can hold them: longitude and latitude are halved 26 times each and
 * the choices interleaved (geohash, G. Niemeyer), over the latitudes that the Mercator projection shows. Numbers, digits and
 * cells are those of redis-server, which stores and compares them. Pure functions. Any thread. */
#ifndef KETTLE_DATA_GEOHASH_H
#define KETTLE_DATA_GEOHASH_H

#include <stdbool.h>
#include <stdint.h>

#define GEO_LON_MAX 180.0
#define GEO_LAT_MAX 85.05112878
#define GEO_STEP_MAX 26 /* halvings: 52 bits */
#define GEO_TEXT_LEN 11

struct geo_point {
    double lon, lat; /* degrees */
};

/* A cell: step halvings of either range. step 0: none. */
struct geo_cell {
    uint64_t bits;
    unsigned step;
};

/* What is searched: everything within a distance, or within a box whose sides are parallel to the equator. */
struct geo_shape {
    struct geo_point center;
    bool is_box;
    double radius;        /* metres */
    double width, height; /* metres, of the whole box */
};

/* The score of a place; the point must be within the limits above. */
double geo_score(struct geo_point p);
/* The middle of the place that a score stands for. Any score is fine. */
struct geo_point geo_of_score(double score);
/* Standard geohash text (latitudes from -90 to 90) of a point. */
void geo_text(struct geo_point p, char ret[GEO_TEXT_LEN]);
double geo_distance(struct geo_point a, struct geo_point b); /* metres, on a sphere */
/* Whether p is in the shape; *ret_distance: from the centre, in metres. */
bool geo_is_within(const struct geo_shape *s, struct geo_point p, double *ret_distance);
/* The cells that cover a shape, in the order in which redis-server looks at them; at most 9. Returns how many. */
#define GEO_CELLS_MAX 9
unsigned geo_cells(const struct geo_shape *s, struct geo_cell ret[GEO_CELLS_MAX]);
/* The scores of the places in a cell: *ret_min up to but not including *ret_end. */
void geo_cell_scores(struct geo_cell c, double *ret_min, double *ret_end);

#endif
