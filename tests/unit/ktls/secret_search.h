/*
 * What the tests of secrets share: a peer in a child process, so that its own copies do not count, which sends what it knows
 * masked, and a search through all writable memory of this process that unmasks byte by byte.
 */
#ifndef SECRET_SEARCH_H
#define SECRET_SEARCH_H

#include "ktls_test.h"

#include <inttypes.h>
#include <sys/wait.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

#define MASK 0xa7
#define NEEDLE_LEN 16 /* enough to be unmistakable; the beginning of each secret */

enum { CLIENT_SECRET, SERVER_SECRET, CLIENT_KEY, SERVER_KEY, N_NEEDLES };
static const char *const needle_name[N_NEEDLES] = { "client traffic secret", "server traffic secret", "client write key",
                                                    "server write key" };

struct report {
    uint8_t needle[N_NEEDLES][NEEDLE_LEN]; /* masked */
};

/* ---- The child ---- */

static struct report masked;

static void put_needle(int which, const uint8_t *p) {
    for (int i = 0; i < NEEDLE_LEN; i++) masked.needle[which][i] = p[i] ^ MASK;
}

static void on_secret_keylog(const SSL *ssl, const char *line) {
    static const char *const label[2] = { "CLIENT_TRAFFIC_SECRET_0 ", "SERVER_TRAFFIC_SECRET_0 " };
    (void)ssl;
    for (int i = 0; i < 2; i++) {
        if (strncmp(line, label[i], strlen(label[i])) != 0) continue;
        const char *hex = strrchr(line, ' ') + 1;
        uint8_t secret[KTLS_SECRET_MAX] = { 0 };
        struct ktls_keys k;
        for (size_t n = 0; hex[2 * n] && n < KTLS_SECRET_MAX; n++) {
            unsigned v;
            sscanf(hex + 2 * n, "%2x", &v);
            secret[n] = (uint8_t)v;
        }
        put_needle(CLIENT_SECRET + i, secret);
        ktls_keys_tls13(KTLS_AES_128_GCM, secret, &k);
        put_needle(CLIENT_KEY + i, k.key);
    }
}

static void tls12_keys(SSL *ssl) {
    uint8_t master[48], cr[32], sr[32];
    struct ktls_keys c, s;
    SSL_SESSION_get_master_key(SSL_get_session(ssl), master, 48);
    SSL_get_client_random(ssl, cr, 32);
    SSL_get_server_random(ssl, sr, 32);
    ktls_keys_tls12(KTLS_AES_128_GCM, master, cr, sr, &c, &s);
    put_needle(CLIENT_KEY, c.key);
    put_needle(SERVER_KEY, s.key);
}

/* A client that shakes hands, sends "ping", waits for "pong", reports what it knows, and waits to be told to go. */
MAYBE_UNUSED static void child(int fd, int report_fd, int version) {
    SSL_CTX *c = peer_ctx(false, version, suite_name(version, KTLS_AES_128_GCM));
    SSL_CTX_set_keylog_callback(c, on_secret_keylog);
    SSL *ssl = SSL_new(c);
    char buf[4];
    fcntl(fd, F_SETFL, 0);
    SSL_set_fd(ssl, fd);
    if (SSL_connect(ssl) == 1) {
        if (version == TLS1_2_VERSION) tls12_keys(ssl);
        SSL_write(ssl, "ping", 4);
        SSL_read(ssl, buf, 4);
    }
    if (write(report_fd, &masked, sizeof masked) != sizeof masked) _exit(1);
    SSL_read(ssl, buf, 4); /* until the parent closes */
    _exit(0);
}

/* A server with two tickets, likewise. */
MAYBE_UNUSED static void child_server(int fd, int report_fd) {
    SSL_CTX *c = peer_ctx(true, TLS1_3_VERSION, suite_name(TLS1_3_VERSION, KTLS_AES_128_GCM));
    SSL_CTX_set_keylog_callback(c, on_secret_keylog);
    SSL *ssl = SSL_new(c);
    char buf[4];
    fcntl(fd, F_SETFL, 0);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        SSL_write(ssl, "pong", 4);
        SSL_read(ssl, buf, 4);
    }
    if (write(report_fd, &masked, sizeof masked) != sizeof masked) _exit(1);
    SSL_read(ssl, buf, 4);
    _exit(0);
}

/* ---- The search ---- */

static struct report wanted;
static uint8_t window[65536 + NEEDLE_LEN];

static size_t last_hit; /* offset */

static int count_in(const uint8_t *p, size_t len, int which) {
    static const uint8_t unknown[NEEDLE_LEN];
    int n = 0;
    if (memcmp(wanted.needle[which], unknown, NEEDLE_LEN) == 0) return 0;
    for (size_t i = 0; i + NEEDLE_LEN <= len; i++) {
        size_t k = 0;
        while (k < NEEDLE_LEN && (p[i + k] ^ MASK) == wanted.needle[which][k]) k++;
        if (k < NEEDLE_LEN) continue;
        n++;
        last_hit = i;
    }
    return n;
}

static void search_range(int mem, uintptr_t from, uintptr_t to, int found[N_NEEDLES], bool tell) {
    for (uintptr_t at = from; at < to; at += sizeof window - NEEDLE_LEN) {
        size_t len = to - at < sizeof window ? to - at : sizeof window;
        ssize_t n = pread(mem, window, len, (off_t)at);
        if (n <= 0) continue;
        for (int i = 0; i < N_NEEDLES; i++) {
            int hits = count_in(window, (size_t)n, i);
            found[i] += hits;
            if (tell && hits)
                print_message("%s at %" PRIxPTR " (stack pointer %p)\n", needle_name[i], at + last_hit,
                              __builtin_frame_address(0));
        }
    }
    memset(window, 0, sizeof window);
}

/* All writable mappings but the window itself. */
static void search(int found[N_NEEDLES], bool tell) {
    FILE *maps = fopen("/proc/self/maps", "r");
    int mem = open("/proc/self/mem", O_RDONLY);
    char line[512];
    memset(found, 0, N_NEEDLES * sizeof *found);
    assert_non_null(maps);
    assert_true(mem >= 0);
    uintptr_t skip_from = (uintptr_t)window, skip_to = skip_from + sizeof window;
    while (fgets(line, sizeof line, maps)) {
        uintptr_t from, to;
        char perm[8];
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s", &from, &to, perm) != 3 || perm[1] != 'w') continue;
        if (from <= skip_from && skip_to <= to) {
            search_range(mem, from, skip_from, found, tell);
            search_range(mem, skip_to, to, found, tell);
        } else {
            search_range(mem, from, to, found, tell);
        }
    }
    close(mem);
    fclose(maps);
}

#endif
