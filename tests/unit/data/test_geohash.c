/* Geohashes: known places and distances, every cell cover against all points, scores that stand for no place. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <string.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/rand.h"
#include "data/geohash.h"

static const struct geo_point palermo = { 13.361389, 38.115556 }, catania = { 15.087269, 37.502669 };

static void test_geo_known_places(void **state) {
    (void)state;
    char text[GEO_TEXT_LEN];
    assert_true(geo_score(palermo) == 3479099956230698.0);
    assert_true(geo_score(catania) == 3479447370796909.0);
    struct geo_point p = geo_of_score(3479099956230698.0);
    assert_true(p.lon == 13.36138933897018433 && p.lat == 38.11555639549629859);
    geo_text(p, text);
    assert_memory_equal(text, "sqc8b49rny0", GEO_TEXT_LEN);
    assert_true(fabs(geo_distance(p, geo_of_score(3479447370796909.0)) - 166274.1516) < 0.0001);
    assert_true(geo_distance(p, p) == 0);
}

static double between(double low, double high) {
    return low + (high - low) * ((double)rand_below(1ULL << 53) / 0x1p53);
}

static struct geo_point any_point(void) {
    return (struct geo_point){ between(-180, 180), between(-GEO_LAT_MAX, GEO_LAT_MAX) };
}

static void test_geo_score_and_back_is_near(void **state) {
    (void)state;
    for (int i = 0; i < 100000; i++) {
        struct geo_point p = any_point(), q = geo_of_score(geo_score(p));
        assert_true(fabs(p.lon - q.lon) < 3e-6 && fabs(p.lat - q.lat) < 2e-6);
        assert_true(geo_distance(p, q) < 0.6);
        assert_true(geo_score(q) == geo_score(p));
    }
}

static void test_geo_any_score_is_a_point(void **state) {
    (void)state;
    static const double odd[] = { -1, 0, 0x1p52, 0x1p53, 0x1p63, 0x1p64, 1e300, -1e300, INFINITY, -INFINITY, 0.5, -0x1p63 };
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct geo_point p = geo_of_score(odd[i]);
        assert_true(fabs(p.lon) <= GEO_LON_MAX && fabs(p.lat) <= GEO_LAT_MAX);
    }
}

static bool is_in_cells(const struct geo_cell *cells, unsigned n, double score) {
    for (unsigned i = 0; i < n; i++) {
        double min, end;
        geo_cell_scores(cells[i], &min, &end);
        if (score >= min && score < end) return true;
    }
    return false;
}

/* Whatever lies within a shape that does not reach over the poles or around the earth lies in its cells. */
static void test_geo_cells_cover_the_shape(void **state) {
    (void)state;
    unsigned inside = 0;
    for (int i = 0; i < 3000; i++) {
        struct geo_shape s = { .center = { between(-150, 150), between(-60, 60) }, .is_box = rand_below(2) };
        double size = pow(10, between(1, 6));
        s.radius = s.is_box ? 0 : size;
        s.width = s.is_box ? size * between(0.1, 2) : 0;
        s.height = s.is_box ? size * between(0.1, 2) : 0;
        struct geo_cell cells[GEO_CELLS_MAX];
        unsigned n = geo_cells(&s, cells);
        assert_in_range(n, 1, GEO_CELLS_MAX);
        for (int k = 0; k < 100; k++) {
            double spread = size / 80000, distance;
            struct geo_point p = { s.center.lon + between(-spread, spread), s.center.lat + between(-spread, spread) };
            if (fabs(p.lon) > GEO_LON_MAX || fabs(p.lat) > GEO_LAT_MAX) continue;
            double score = geo_score(p);
            if (!geo_is_within(&s, geo_of_score(score), &distance)) continue;
            inside++;
            assert_true(is_in_cells(cells, n, score));
        }
    }
    assert_true(inside > 20000);
}

static void test_geo_cells_of_any_shape_are_few(void **state) {
    (void)state;
    static const double sizes[] = { 0, 1e-300, 1, 1e4, 1e7, 1e8, 1e300, INFINITY };
    static const struct geo_point edges[] = { { 180, 0 }, { -180, 0 },          { 0, GEO_LAT_MAX },    { 0, -GEO_LAT_MAX },
                                              { 0, 0 },   { 180, GEO_LAT_MAX }, { -180, -GEO_LAT_MAX } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < sizeof edges / sizeof *edges; k++)
            for (int box = 0; box < 2; box++) {
                struct geo_cell cells[GEO_CELLS_MAX];
                struct geo_shape s = { edges[k], box, sizes[i], sizes[i], sizes[i] };
                unsigned n = geo_cells(&s, cells);
                assert_in_range(n, 1, GEO_CELLS_MAX);
                for (unsigned c = 0; c < n; c++) assert_in_range(cells[c].step, 1, GEO_STEP_MAX);
            }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_geo_known_places),
        cmocka_unit_test(test_geo_score_and_back_is_near),
        cmocka_unit_test(test_geo_any_score_is_a_point),
        cmocka_unit_test(test_geo_cells_cover_the_shape),
        cmocka_unit_test(test_geo_cells_of_any_shape_are_few),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
