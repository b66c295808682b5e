/*
 * Known holes of kernel TLS by kernel version, what a distribution's changelog closes, and the unpacking of that changelog
 * (checked against gzip(1)).
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ktls.h"
#include "ktls_gunzip.h"

/* ---- Versions ---- */

static bool has(const char *release, const char *version, const char *changelog, const char *cve) {
    struct ktls_advisory a[16];
    int n = ktls_kernel_advisories(release, version, changelog, a, 16);
    assert_true(n >= 0 && n <= 16);
    for (int i = 0; i < n; i++) {
        assert_true(strncmp(a[i].cve, "CVE-", 4) == 0 && strlen(a[i].effect) > 10);
        if (strcmp(a[i].cve, cve) == 0) return true;
    }
    return false;
}

/* The last release of each branch that has the hole, and the first that has not. */
static void test_floor_every_limit(void **state) {
    (void)state;
    static const struct {
        const char *cve, *open, *closed;
    } limits[] = {
        { "CVE-2025-39682", "6.0.0", "5.19.17" },   { "CVE-2025-39682", "6.1.148", "6.1.149" },
        { "CVE-2025-39682", "6.6.102", "6.6.103" }, { "CVE-2025-39682", "6.12.43", "6.12.44" },
        { "CVE-2025-39682", "6.16.3", "6.16.4" },   { "CVE-2025-39682", "6.15.99", "6.17.0" },
        { "CVE-2025-39946", "6.1.153", "6.1.154" }, { "CVE-2025-39946", "6.6.107", "6.6.108" },
        { "CVE-2025-39946", "6.12.48", "6.12.49" }, { "CVE-2025-39946", "6.16.8", "6.16.9" },
        { "CVE-2025-38616", "6.1.184", "6.1.185" }, { "CVE-2025-38616", "6.6.102", "6.6.103" },
        { "CVE-2025-38616", "6.12.42", "6.12.43" }, { "CVE-2025-38616", "6.15.10", "6.15.11" },
        { "CVE-2026-23240", "5.3.0", "5.2.21" },    { "CVE-2026-23240", "6.12.74", "6.12.75" },
        { "CVE-2026-23240", "6.18.15", "6.18.16" }, { "CVE-2026-23240", "6.19.5", "6.19.6" },
        { "CVE-2026-23240", "6.1.999", "7.0.0" },   { "CVE-2026-23414", "6.1.158", "6.1.157" },
        { "CVE-2026-23414", "6.1.167", "6.1.168" }, { "CVE-2026-23414", "6.17.5", "6.17.4" },
        { "CVE-2026-23414", "6.18.0", "6.18.21" },  { "CVE-2026-23414", "6.19.10", "6.19.11" },
        { "CVE-2026-23414", "6.12.79", "6.12.80" }, { "CVE-2023-0461", "6.1.4", "6.1.5" },
        { "CVE-2023-0461", "5.15.87", "5.15.88" },  { "CVE-2023-0461", "5.10.162", "5.10.163" },
        { "CVE-2023-0461", "4.13", "4.12.14" },     { "CVE-2023-0461", "5.4.228", "6.2" },
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        if (!has(limits[i].open, NULL, "", limits[i].cve)) fail_msg("%s does not have %s", limits[i].open, limits[i].cve);
        if (has(limits[i].closed, NULL, "", limits[i].cve)) fail_msg("%s has %s", limits[i].closed, limits[i].cve);
    }
}

static void test_floor_describes(void **state) {
    (void)state;
    struct ktls_advisory a[16];
    assert_int_equal(ktls_kernel_advisories("6.1.140", NULL, "", a, 16), 4);
    assert_string_equal(a[0].cve, "CVE-2025-39682");
    assert_int_equal(a[0].peer, 1);
    assert_string_equal(a[0].fixed_in, "6.1.149");
    assert_string_equal(a[3].cve, "CVE-2026-23240");
    assert_int_equal(a[3].peer, 0);
    assert_string_equal(a[3].fixed_in, ""); /* that branch has no fix */
    /* More than there is room for: counted, not written. */
    memset(a, 0, sizeof a);
    assert_int_equal(ktls_kernel_advisories("6.1.140", NULL, "", a, 1), 4);
    assert_null(a[1].cve);
    assert_int_equal(ktls_kernel_advisories("7.2.7", NULL, "", a, 16), 0);
}

static void test_floor_reads_the_upstream_version(void **state) {
    (void)state;
    static const char debian[] = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)";
    static const char old[] = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.99-1 (2024-07-15)";
    static const char ubuntu[] = "Ubuntu 6.8.0-45.45-generic 6.8.12\n";
    assert_false(has("6.1.0-56-amd64", debian, "", "CVE-2025-39682"));
    assert_true(has("6.1.0-56-amd64", old, "", "CVE-2025-39682"));
    assert_true(has("6.1.0-56-amd64", NULL, "", "CVE-2025-39682")); /* as written: 6.1.0 */
    assert_true(has("6.8.0-45-generic", ubuntu, "", "CVE-2025-39682"));
    assert_false(has("6.8.0-45-generic", ubuntu, "", "CVE-2023-0461"));
}

static void test_floor_release_that_is_none(void **state) {
    (void)state;
    static const char *const bad[] = { "", "x", "6", "six.one", "-6.1.2" };
    struct ktls_advisory a[4];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(ktls_kernel_advisories(bad[i], NULL, "", a, 4), -EINVAL);
    assert_true(ktls_kernel_advisories("99999999999.1.1", NULL, "", a, 4) <= 4);
}

static void test_floor_running_kernel(void **state) {
    (void)state;
    struct ktls_advisory a[16];
    struct utsname uts;
    uname(&uts);
    int n = ktls_kernel_advisories(NULL, NULL, NULL, a, 16);
    assert_true(n >= 0);
    print_message("%s: %d open\n", uts.release, n);
    for (int i = 0; i < n; i++) print_message("  %s\n", a[i].cve);
}

/* ---- Changelogs ---- */

static char path[] = "/tmp/ktls-floor-XXXXXX";

static void write_changelog(const char *text, bool packed) {
    char command[200];
    snprintf(command, sizeof command, packed ? "gzip -9n > %s" : "cat > %s", path);
    FILE *f = popen(command, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(pclose(f), 0);
}

static const char changelog[] = "linux-signed-amd64 (6.1.150+1) bookworm-security; urgency=high\n"
                                "  * Fixes CVE-2026-23240.\n"
                                "linux (6.1.140-1) bookworm-security; urgency=high\n"
                                "    - tls: make sure to abort the stream if headers are bogus\n"
                                "    - tls: handle data disappearing from under the TLS ULP (CVE-2025-38616)\n";

static void test_floor_changelog_closes(void **state) {
    (void)state;
    static const char newest[] = "#1 SMP Debian 6.1.150-1 (2025-09-01)", older[] = "#1 SMP Debian 6.1.140-1 (2025-06-01)",
                      absent[] = "#1 SMP Debian 6.1.130-1 (2025-03-01)";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    for (int packed = 0; packed < 2; packed++) {
        write_changelog(changelog, packed);
        /* By its name and by the title of the fix. */
        assert_false(has("6.1.0-1-amd64", newest, path, "CVE-2026-23240"));
        assert_false(has("6.1.0-1-amd64", older, path, "CVE-2025-39946"));
        assert_false(has("6.1.0-1-amd64", older, path, "CVE-2025-38616"));
        /* Not named. */
        assert_true(has("6.1.0-1-amd64", older, path, "CVE-2025-39682"));
        /* Installed, not booted: an entry above the running version says nothing. */
        assert_true(has("6.1.0-1-amd64", older, path, "CVE-2026-23240"));
        /* The running version is not in it at all. */
        assert_true(has("6.1.0-1-amd64", absent, path, "CVE-2025-39946"));
        /* No package version known: the whole text counts. */
        assert_false(has("6.1.140", NULL, path, "CVE-2026-23240"));
    }
    write_changelog("\x1f\x8bgarbage", false);
    assert_true(has("6.1.140", NULL, path, "CVE-2026-23240"));
    assert_true(has("6.1.140", NULL, "/nonexistent", "CVE-2026-23240"));
    unlink(path);
}

/* ---- gunzip ---- */

/* What gzip(1) makes of data. */
static size_t gzip(const uint8_t *data, size_t len, const char *options, uint8_t *out, size_t cap) {
    char file[] = "/tmp/ktls-gzip-XXXXXX", command[200];
    int fd = mkstemp(file);
    assert_true(fd >= 0);
    for (size_t at = 0; at < len;) {
        ssize_t w = write(fd, data + at, len - at);
        assert_true(w > 0);
        at += (size_t)w;
    }
    close(fd);
    snprintf(command, sizeof command, "gzip %s -c %s", options, file);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(out, 1, cap, f);
    assert_int_equal(pclose(f), 0);
    unlink(file);
    assert_true(n < cap);
    return n;
}

static void round_trip(const uint8_t *data, size_t len, const char *options) {
    size_t cap = len + len / 8 + 1000, got_len = 0;
    uint8_t *packed = malloc(cap), *got = NULL;
    size_t n = gzip(data, len, options, packed, cap);
    assert_int_equal(ktls_gunzip(packed, n, len, &got, &got_len), 0);
    assert_int_equal(got_len, len);
    assert_memory_equal(got, data, len);
    assert_int_equal(got[len], 0);
    free(got);
    got = NULL;
    if (len > 0) assert_int_equal(ktls_gunzip(packed, n, len - 1, &got, &got_len), -EFBIG);
    assert_null(got);
    free(packed);
}

static void test_gunzip_is_gzips_inverse(void **state) {
    (void)state;
    enum { LEN = 300000 };
    uint8_t *data = malloc(LEN);
    static const char *const options[] = { "-1", "-6 -n", "-9" };
    for (int kind = 0; kind < 4; kind++) {
        uint32_t x = 12345;
        for (size_t i = 0; i < LEN; i++) {
            x = x * 1664525 + 1013904223;
            if (kind == 0) data[i] = (uint8_t)(x >> 24);                     /* stored blocks */
            if (kind == 1) data[i] = (uint8_t)("tls: fix "[(x >> 20) % 9]);  /* short codes */
            if (kind == 2) data[i] = (uint8_t)(i / 1000 + ((x >> 28) == 0)); /* far and long repetitions */
            if (kind == 3) data[i] = 'a';
        }
        for (int o = 0; o < 3; o++) {
            round_trip(data, LEN, options[o]);
            round_trip(data, 40, options[o]); /* fixed codes */
            round_trip(data, 0, options[o]);
        }
    }
    free(data);
}

static void test_gunzip_damage_is_refused(void **state) {
    (void)state;
    uint8_t data[3000], packed[4000], *got = NULL;
    size_t got_len;
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * i / 7);
    size_t n = gzip(data, sizeof data, "-9", packed, sizeof packed);
    for (size_t len = 0; len < n; len++) {
        uint8_t *exact = malloc(len ? len : 1);
        memcpy(exact, packed, len);
        assert_int_equal(ktls_gunzip(exact, len, 1 << 20, &got, &got_len), -EBADMSG);
        free(exact);
    }
    packed[n - 1] ^= 1; /* the length at the end */
    assert_int_equal(ktls_gunzip(packed, n, 1 << 20, &got, &got_len), -EBADMSG);
    assert_null(got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_floor_every_limit),
        cmocka_unit_test(test_floor_describes),
        cmocka_unit_test(test_floor_reads_the_upstream_version),
        cmocka_unit_test(test_floor_release_that_is_none),
        cmocka_unit_test(test_floor_running_kernel),
        cmocka_unit_test(test_floor_changelog_closes),
        cmocka_unit_test(test_gunzip_is_gzips_inverse),
        cmocka_unit_test(test_gunzip_damage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
