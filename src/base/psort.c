/*
 * Quicksort that leaves out the parts nobody asked for: Bentley and McIlroy, "Engineering a Sort Function" (1993), with its
 * choice of pivots and its three-way partition, which together decide where equal elements end up. A part that lies wholly
 * outside the wanted range is not sorted.
 *
 * As with every quicksort of fixed pivots there are inputs it takes quadratic time for; who can make them is who asks for the
 * sort. To bound that, a part that has been cut too often without becoming small is sorted by heap, where the order of equal
 * elements is another one.
 */
#include "base/psort.h"

#include <string.h>

#define FEW 7   /* up to here by insertion */
#define MANY 40 /* beyond this the pivot is a median of nine */

struct job {
    size_t size;
    int (*cmp)(const void *a, const void *b);
    char *from, *to; /* first and last byte wanted */
};

static void swap(char *a, char *b, size_t n) {
    char tmp[64];
    for (size_t part; n; n -= part, a += part, b += part) {
        part = n < sizeof tmp ? n : sizeof tmp;
        memcpy(tmp, a, part);
        memcpy(a, b, part);
        memcpy(b, tmp, part);
    }
}

static char *median(const struct job *j, char *a, char *b, char *c) {
    if (j->cmp(a, b) < 0) return j->cmp(b, c) < 0 ? b : j->cmp(a, c) < 0 ? c : a;
    return j->cmp(b, c) > 0 ? b : j->cmp(a, c) < 0 ? a : c;
}

static void insertion(const struct job *j, char *a, size_t n) {
    size_t size = j->size;
    for (char *m = a + size; m < a + n * size; m += size)
        for (char *l = m; l > a && j->cmp(l - size, l) > 0; l -= size) swap(l, l - size, size);
}

static char *pivot(const struct job *j, char *a, size_t n) {
    size_t size = j->size, d = n / 8 * size;
    char *low = a, *mid = a + n / 2 * size, *high = a + (n - 1) * size;
    if (n <= FEW) return mid;
    if (n > MANY) {
        low = median(j, low, low + d, low + 2 * d);
        mid = median(j, mid - d, mid, mid + d);
        high = median(j, high - 2 * d, high - d, high);
    }
    return median(j, low, mid, high);
}

static void sift_down(const struct job *j, char *a, size_t root, size_t n) {
    for (size_t child; (child = root * 2 + 1) < n; root = child) {
        if (child + 1 < n && j->cmp(a + child * j->size, a + (child + 1) * j->size) < 0) child++;
        if (j->cmp(a + root * j->size, a + child * j->size) >= 0) return;
        swap(a + root * j->size, a + child * j->size, j->size);
    }
}

static void heap_sort(const struct job *j, char *a, size_t n) {
    for (size_t i = n / 2; i > 0; i--) sift_down(j, a, i - 1, n);
    for (size_t end = n; end > 1; end--) {
        swap(a, a + (end - 1) * j->size, j->size);
        sift_down(j, a, 0, end - 1);
    }
}

struct parts {
    size_t lower, higher; /* bytes at either end; between them is what equals the pivot */
};

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* By the element at a. What equals it is gathered at both ends first, and then brought to the middle. */
static struct parts partition(const struct job *j, char *a, size_t n) {
    size_t size = j->size;
    char *equal_l = a + size, *l = equal_l, *r = a + (n - 1) * size, *equal_r = r, *end = a + n * size;
    for (;;) {
        int d;
        for (; l <= r && (d = j->cmp(l, a)) <= 0; l += size) {
            if (d) continue;
            swap(equal_l, l, size);
            equal_l += size;
        }
        for (; l <= r && (d = j->cmp(r, a)) >= 0; r -= size) {
            if (d) continue;
            swap(r, equal_r, size);
            equal_r -= size;
        }
        if (l > r) break;
        swap(l, r, size);
        l += size;
        r -= size;
    }
    size_t run = least((size_t)(equal_l - a), (size_t)(l - equal_l));
    swap(a, l - run, run);
    run = least((size_t)(equal_r - r), (size_t)(end - equal_r) - size);
    swap(l, end - run, run);
    return (struct parts){ (size_t)(l - equal_l), (size_t)(equal_r - r) };
}

static int is_wanted(const struct job *j, const char *a, size_t bytes) {
    return bytes > j->size && j->to >= a && j->from <= a + bytes - 1;
}

static void sort_part(const struct job *j, char *a, size_t n, unsigned cuts_left) {
    for (;;) {
        if (n < FEW) {
            insertion(j, a, n);
            return;
        }
        if (cuts_left-- == 0) {
            heap_sort(j, a, n);
            return;
        }
        swap(a, pivot(j, a, n), j->size);
        struct parts p = partition(j, a, n);
        char *high = a + n * j->size - p.higher;
        if (is_wanted(j, a, p.lower)) sort_part(j, a, p.lower / j->size, cuts_left);
        if (!is_wanted(j, high, p.higher)) return;
        a = high;
        n = p.higher / j->size;
    }
}

void psort(void *base, size_t n, size_t size, int (*cmp)(const void *a, const void *b), size_t from, size_t to) {
    struct job j = { size, cmp, (char *)base + from * size, (char *)base + (to + 1) * size - 1 };
    unsigned cuts = 8;
    for (size_t left = n; left; left /= 2) cuts += 4;
    if (n > 1) sort_part(&j, base, n, cuts);
}
