/*
 * A server's tickets: keys in memory and from files, rotation, sharing, renewal, and what a resumption must not get round.
 * Every check runs with the kernel where there is one, else in userspace (KTLS_POLICY_AUTO): tickets are made in the handshake.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "resume_test.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

static char keys_path[160];

static void write_bytes(const char *path, const void *data, size_t len) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
}

/* A function, so that the search for a key needs no copy of it. */
static uint8_t key_byte(unsigned seed, unsigned i) {
    unsigned v = (seed * 2654435761u) ^ (i * 40503u);
    return (uint8_t)((v * 2246822519u) >> 23 | 1);
}

static void fill_key(uint8_t *key, unsigned seed) {
    for (unsigned i = 0; i < 80; i++) key[i] = key_byte(seed, i);
    key[0] = (uint8_t)seed;
    key[1] = 0xff; /* never text */
}

/* A file of the keys with these seeds. */
static void write_keys(const char *path, const unsigned *seed, int n) {
    uint8_t raw[8 * 80];
    for (int i = 0; i < n; i++) fill_key(raw + 80 * i, seed[i]);
    write_bytes(path, raw, (size_t)n * 80);
}

static struct ktls_tickets *new_ring(const char *path, int rotation_s, int lifetime_s) {
    struct ktls_tickets_opts o = { .size = sizeof o, .path = path, .rotation_s = rotation_s, .lifetime_s = lifetime_s };
    struct ktls_tickets *t = NULL;
    char err[256];
    int r = ktls_tickets_new(&o, &t, err, sizeof err);
    if (r != 0) print_message("ktls_tickets_new: %s\n", err);
    assert_int_equal(r, 0);
    return t;
}

static struct ktls_ctx *ring_ctx(struct ktls_tickets *ring) {
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.tickets = ring;
    return new_ctx(&o);
}

static void ticket_name(const SSL_SESSION *s, uint8_t name[16]) {
    const unsigned char *tick;
    size_t len;
    SSL_SESSION_get0_ticket(s, &tick, &len);
    assert_true(len > 16);
    memcpy(name, tick, 16);
}

static bool resumes(struct ktls_ctx *ctx, SSL_CTX *pc, SSL_SESSION *s) {
    struct ktls_conn_info info;
    assert_int_equal(visit(ctx, pc, s, &info), KTLS_DONE);
    return info.resumed;
}

/* A full handshake; its session. */
static SSL_SESSION *fresh_session(struct ktls_ctx *ctx, SSL_CTX *pc) {
    assert_false(resumes(ctx, pc, NULL));
    assert_non_null(latest);
    return take_latest();
}

static int64_t mono_s(void) {
    return (int64_t)(ktls_now_ns() / 1000000000u);
}

/* ---- Rotation ---- */

static void test_rotation_old_key_opens_and_ticket_is_renewed(void **state) {
    (void)state;
    for (size_t v = 0; v < 2; v++) {
        struct ktls_tickets *ring = new_ring(NULL, 0, 0);
        struct ktls_ctx *ctx = ring_ctx(ring);
        SSL_CTX *pc = client_ctx(versions[v], NULL, NULL);
        SSL_SESSION *a = fresh_session(ctx, pc);
        uint8_t old[16], renewed[16];
        ticket_name(a, old);
        assert_int_equal(ktls_tickets_reload(ring, NULL, 0), 0);
        assert_int_equal(ktls_tickets_count(ring), 2);
        assert_int_equal(ktls_tickets_poll(ring, NULL, 0), 1);
        assert_int_equal(ktls_tickets_poll(ring, NULL, 0), 0);
        struct ktls_conn_info info;
        SSL_CTX_sess_set_new_cb(pc, on_new);
        int fd[2];
        struct ktls_conn *conn;
        struct peer p;
        char buf[4];
        tcp_pair(fd);
        assert_int_equal(ktls_conn_new(ctx, fd[1], NULL, &conn), 0);
        peer_init(&p, pc, false, fd[0]);
        SSL_set_session(p.ssl, a);
        assert_int_equal(drive(conn, &p), KTLS_DONE);
        ktls_conn_info(conn, &info);
        assert_int_equal(info.resumed, 1);
        assert_int_equal(ktls_write(conn, "pong", 4), 4);
        peer_read(&p, buf, 4);
        /* TLS 1.2 tells a client of a renewed ticket in the handshake, without calling back. */
        ticket_name(versions[v] == TLS1_3_VERSION ? latest : SSL_get0_session(p.ssl), renewed);
        assert_memory_not_equal(renewed, old, 16);
        ktls_conn_free(conn);
        peer_done(&p);
        close(fd[0]);
        close(fd[1]);
        SSL_SESSION_free(a);
        forget_latest();
        SSL_CTX_free(pc);
        ktls_ctx_unref(ctx);
        ktls_tickets_unref(ring);
    }
}

static void test_rotation_schedule_adds_and_drops(void **state) {
    (void)state;
    struct ktls_tickets *ring = new_ring(NULL, 100, 250);
    struct ktls_ctx *ctx = ring_ctx(ring);
    SSL_CTX *pc = client_ctx(TLS1_3_VERSION, NULL, NULL);
    SSL_SESSION *a = fresh_session(ctx, pc);
    struct ktls_stats before, after;
    int64_t t0 = mono_s();
    ktls_tickets_tick(ring, t0 + 50);
    assert_int_equal(ktls_tickets_count(ring), 1);
    ktls_tickets_tick(ring, t0 + 101);
    assert_int_equal(ktls_tickets_count(ring), 2);
    ktls_tickets_tick(ring, t0 + 202);
    ktls_tickets_tick(ring, t0 + 303);
    assert_int_equal(ktls_tickets_count(ring), 4); /* the first retired at 101 and may be wanted until 351 */
    assert_true(resumes(ctx, pc, a));
    forget_latest();
    ktls_tickets_tick(ring, t0 + 352);
    assert_int_equal(ktls_tickets_count(ring), 3);
    ktls_stats(&before);
    assert_false(resumes(ctx, pc, a));
    ktls_stats(&after);
    assert_int_equal(after.tickets_unknown - before.tickets_unknown, 1);
    for (int i = 1; i < 200; i++) ktls_tickets_tick(ring, t0 + 1000 + i * 100000); /* a schedule slower than the lifetime */
    assert_int_equal(ktls_tickets_count(ring), 2);
    ktls_tickets_set_times(ring, 1, 1000);
    for (int i = 1; i < 200; i++) ktls_tickets_tick(ring, t0 + 90000000 + i); /* bounded */
    assert_int_equal(ktls_tickets_count(ring), KTLS_TICKET_KEYS_MAX);
    forget_latest();
    SSL_SESSION_free(a);
    SSL_CTX_free(pc);
    ktls_ctx_unref(ctx);
    ktls_tickets_unref(ring);
}

/* ---- Sharing ---- */

static void test_ring_shared_by_contexts_survives_a_new_certificate(void **state) {
    (void)state;
    char cert[96], key[96];
    leaf(&pki, cert, key, "second", "DNS:server.test", -3600, 86400);
    for (size_t v = 0; v < 2; v++) {
        struct ktls_tickets *ring = new_ring(NULL, 0, 0);
        struct ktls_ctx *one = ring_ctx(ring);
        struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
        o.tickets = ring;
        o.cert_file = cert;
        o.key_file = key;
        struct ktls_ctx *two = new_ctx(&o);
        ktls_tickets_unref(ring); /* the contexts have theirs */
        SSL_CTX *pc = client_ctx(versions[v], NULL, NULL);
        SSL_SESSION *a = fresh_session(one, pc);
        one = ktls_ctx_unref(one);
        assert_true(resumes(two, pc, a));
        struct ktls_ctx_opts other = server_opts(KTLS_POLICY_AUTO);
        struct ktls_ctx *three = new_ctx(&other); /* a ring of its own */
        assert_false(resumes(three, pc, a));
        forget_latest();
        SSL_SESSION_free(a);
        SSL_CTX_free(pc);
        ktls_ctx_unref(two);
        ktls_ctx_unref(three);
    }
    unlink(cert);
    unlink(key);
}

/* Another process with the same key file serves the second connection. */
static int child_serves(int fd) {
    struct ktls_tickets *ring = new_ring(keys_path, 0, 0);
    struct ktls_ctx *ctx = ring_ctx(ring);
    struct ktls_conn *conn;
    struct ktls_conn_info info;
    int r;
    if (ktls_conn_new(ctx, fd, NULL, &conn) != 0) return 2;
    while ((r = ktls_handshake(conn)) > 0)
        if (!wait_fd(fd, r == KTLS_WANT_WRITE ? POLLOUT : POLLIN, 5000)) return 3;
    ktls_conn_info(conn, &info);
    return r == KTLS_DONE && ktls_write(conn, "pong", 4) == 4 && info.resumed ? 0 : 4;
}

static void test_key_file_shared_by_processes(void **state) {
    (void)state;
    static const unsigned seeds[] = { 5 };
    for (size_t v = 0; v < 2; v++) {
        write_keys(keys_path, seeds, 1);
        struct ktls_tickets *ring = new_ring(keys_path, 0, 0);
        struct ktls_ctx *ctx = ring_ctx(ring);
        SSL_CTX *pc = client_ctx(versions[v], NULL, NULL);
        SSL_SESSION *a = fresh_session(ctx, pc);
        struct peer p;
        int fd[2], status = -1;
        char buf[4];
        tcp_pair(fd);
        pid_t pid = fork();
        if (pid == 0) _exit(child_serves(fd[1]));
        peer_init(&p, pc, false, fd[0]);
        SSL_set_session(p.ssl, a);
        while (!peer_handshake(&p)) assert_true(wait_fd(fd[0], POLLIN, 5000));
        assert_int_equal(SSL_session_reused(p.ssl), 1);
        peer_read(&p, buf, 4);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(WEXITSTATUS(status), 0);
        peer_done(&p);
        close(fd[0]);
        close(fd[1]);
        forget_latest();
        SSL_SESSION_free(a);
        SSL_CTX_free(pc);
        ktls_ctx_unref(ctx);
        ktls_tickets_unref(ring);
    }
    unlink(keys_path);
}

/* ---- Files ---- */

static void check_seals_with(struct ktls_tickets *ring, unsigned seed) {
    struct ktls_ctx *ctx = ring_ctx(ring);
    SSL_CTX *pc = client_ctx(TLS1_3_VERSION, NULL, NULL);
    SSL_SESSION *s = fresh_session(ctx, pc);
    uint8_t name[16], key[80];
    ticket_name(s, name);
    fill_key(key, seed);
    assert_memory_equal(name, key, 16);
    SSL_SESSION_free(s);
    SSL_CTX_free(pc);
    ktls_ctx_unref(ctx);
}

static void test_file_changed_is_taken_in(void **state) {
    (void)state;
    static const unsigned first[] = { 1 }, both[] = { 2, 1 }, second[] = { 2 };
    write_keys(keys_path, first, 1);
    struct ktls_tickets *ring = new_ring(keys_path, 0, 0);
    struct ktls_ctx *ctx = ring_ctx(ring);
    SSL_CTX *pc = client_ctx(TLS1_3_VERSION, NULL, NULL);
    SSL_SESSION *a = fresh_session(ctx, pc);
    int64_t now = mono_s() + 10;
    check_seals_with(ring, 1);
    write_keys(keys_path, both, 2);
    ktls_tickets_tick(ring, now++);
    assert_int_equal(ktls_tickets_poll(ring, NULL, 0), 1);
    assert_int_equal(ktls_tickets_count(ring), 2);
    check_seals_with(ring, 2);
    assert_true(resumes(ctx, pc, a));
    write_keys(keys_path, second, 1);
    assert_int_equal(ktls_tickets_reload(ring, NULL, 0), 0);
    assert_false(resumes(ctx, pc, a)); /* dropped with its line */
    ktls_tickets_tick(ring, now++);
    assert_int_equal(ktls_tickets_poll(ring, NULL, 0), 1);
    ktls_tickets_tick(ring, now++);
    assert_int_equal(ktls_tickets_poll(ring, NULL, 0), 0); /* read again, because the file is young; the same */
    forget_latest();
    SSL_SESSION_free(a);
    SSL_CTX_free(pc);
    ktls_ctx_unref(ctx);
    ktls_tickets_unref(ring);
    unlink(keys_path);
}

static void set_age(const char *path, int seconds) {
    struct timespec t[2];
    clock_gettime(CLOCK_REALTIME, &t[0]);
    t[0].tv_sec -= seconds;
    t[1] = t[0];
    assert_int_equal(utimensat(AT_FDCWD, path, t, 0), 0);
}

static void test_directory_newest_file_seals(void **state) {
    (void)state;
    char dir[128], file[3][160];
    static const unsigned seeds[3][1] = { { 11 }, { 12 }, { 13 } };
    snprintf(dir, sizeof dir, "%s/tickets", pki.dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    for (int i = 0; i < 3; i++) {
        snprintf(file[i], sizeof file[i], "%s/%c.key", dir, 'a' + i);
        write_keys(file[i], seeds[i], 1);
        set_age(file[i], 100 + i * 100);
    }
    snprintf(keys_path, sizeof keys_path, "%s/.hidden", dir);
    write_bytes(keys_path, "no key", 6);
    struct ktls_tickets *ring = new_ring(dir, 0, 0);
    assert_int_equal(ktls_tickets_count(ring), 3);
    check_seals_with(ring, 11);
    set_age(file[2], 5); /* the stamp shows it */
    ktls_tickets_tick(ring, mono_s() + 10);
    check_seals_with(ring, 13);
    set_age(file[0], 5);
    set_age(file[1], 5);
    struct timespec same[2] = { { 1700000000, 0 }, { 1700000000, 0 } };
    for (int i = 0; i < 3; i++) utimensat(AT_FDCWD, file[i], same, 0);
    assert_int_equal(ktls_tickets_reload(ring, NULL, 0), 0);
    check_seals_with(ring, 13); /* all of one age: the greater name */
    unlink(file[2]);
    assert_int_equal(ktls_tickets_reload(ring, NULL, 0), 0);
    assert_int_equal(ktls_tickets_count(ring), 2);
    check_seals_with(ring, 12);
    unlink(keys_path);
    unlink(file[0]);
    unlink(file[1]);
    char err[256];
    assert_int_equal(ktls_tickets_reload(ring, err, sizeof err), KTLS_ECONFIG);
    assert_non_null(strstr(err, "no file"));
    assert_int_equal(ktls_tickets_count(ring), 2);
    rmdir(dir);
    ktls_tickets_unref(ring);
    snprintf(keys_path, sizeof keys_path, "%s/keys", pki.dir);
}

static void test_file_in_base64_is_the_same_as_raw(void **state) {
    (void)state;
    uint8_t raw[2][80];
    char text[2][112], file[256];
    for (unsigned i = 0; i < 2; i++) {
        fill_key(raw[i], 21 + i);
        EVP_EncodeBlock((unsigned char *)text[i], raw[i], 80);
    }
    int n = snprintf(file, sizeof file, "%s\r\n%s\n\n", text[0], text[1]);
    write_bytes(keys_path, file, (size_t)n);
    struct ktls_tickets *ring = new_ring(keys_path, 0, 0);
    assert_int_equal(ktls_tickets_count(ring), 2);
    check_seals_with(ring, 21);
    ktls_tickets_unref(ring);
    unlink(keys_path);
}

static void test_bad_file_changes_nothing_and_says_why(void **state) {
    (void)state;
    static const unsigned good[] = { 31 }, twice[] = { 32, 33, 32 };
    static const struct {
        const char *data;
        size_t len;
        const char *why;
    } bad[] = { { "", 0, "no key" },
                { "\xff\x01short", 7, "not 80 bytes" },
                { "QUJD\n", 5, "base64" },
                { "not base64!\n", 12, "not 80 bytes" } };
    uint8_t zeros[80] = { 1, 2, 3 }, *many = malloc(65 * 80);
    char err[256];
    write_keys(keys_path, good, 1);
    struct ktls_tickets *ring = new_ring(keys_path, 0, 0), *none = NULL;
    int64_t now = mono_s() + 10;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_bytes(keys_path, bad[i].data, bad[i].len);
        ktls_tickets_tick(ring, now++);
        err[0] = 0;
        assert_int_equal(ktls_tickets_poll(ring, err, sizeof err), KTLS_ECONFIG);
        assert_non_null(strstr(err, bad[i].why));
        assert_non_null(strstr(err, keys_path));
        ktls_tickets_tick(ring, now++);
        assert_int_equal(ktls_tickets_poll(ring, err, sizeof err), 0); /* told once */
        check_seals_with(ring, 31);
    }
    write_keys(keys_path, twice, 3);
    assert_int_equal(ktls_tickets_reload(ring, err, sizeof err), KTLS_ECONFIG);
    assert_non_null(strstr(err, "same name"));
    write_bytes(keys_path, zeros, sizeof zeros);
    assert_int_equal(ktls_tickets_reload(ring, err, sizeof err), KTLS_ECONFIG);
    assert_non_null(strstr(err, "zeros"));
    for (unsigned i = 0; i < 65; i++) fill_key(many + i * 80, i);
    write_bytes(keys_path, many, 65 * 80);
    assert_int_equal(ktls_tickets_reload(ring, err, sizeof err), KTLS_ECONFIG);
    assert_non_null(strstr(err, "64"));
    write_bytes(keys_path, many, 64 * 80);
    assert_int_equal(ktls_tickets_reload(ring, err, sizeof err), 0);
    unlink(keys_path);
    assert_int_equal(ktls_tickets_reload(ring, err, sizeof err), KTLS_ECONFIG);
    assert_int_equal(ktls_tickets_count(ring), 64);
    struct ktls_tickets_opts o = { .size = sizeof o, .path = keys_path };
    assert_int_equal(ktls_tickets_new(&o, &none, err, sizeof err), KTLS_ECONFIG);
    assert_null(none);
    free(many);
    ktls_tickets_unref(ring);
}

/* ---- Wiped ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#else
#define SANITIZED 0
#endif

static uint8_t window[65536 + 32];

/* How often the HMAC key of that seed stands in writable memory, the window itself left out. */
static int count_key(unsigned seed) {
    FILE *maps = fopen("/proc/self/maps", "r");
    int mem = open("/proc/self/mem", O_RDONLY), found = 0;
    char line[512];
    while (fgets(line, sizeof line, maps)) {
        uintptr_t from, to;
        char perm[8];
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s", &from, &to, perm) != 3 || perm[1] != 'w') continue;
        for (uintptr_t at = from; at < to; at += sizeof window - 32) {
            size_t len = to - at < sizeof window ? to - at : sizeof window;
            ssize_t n = pread(mem, window, len, (off_t)at);
            for (ssize_t i = 0; i + 32 <= n; i++) {
                unsigned k = 0;
                uintptr_t where = at + (uintptr_t)i;
                while (k < 32 && window[i + k] == key_byte(seed, 16 + k)) k++;
                if (k == 32 && (where < (uintptr_t)window || where >= (uintptr_t)window + sizeof window)) found++;
            }
            memset(window, 0, sizeof window);
        }
    }
    close(mem);
    fclose(maps);
    return found;
}

static void test_dropped_keys_are_wiped(void **state) {
    (void)state;
    static const unsigned both[] = { 201, 202 }, second[] = { 202 };
    if (SANITIZED) {
        print_message("skipped: sanitizers keep freed memory and map too much\n");
        skip();
    }
    pid_t pid = fork(); /* the file is written by another process, whose memory does not count */
    if (pid == 0) {
        write_keys(keys_path, both, 2);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    struct ktls_tickets *ring = new_ring(keys_path, 0, 0);
    struct ktls_ctx *ctx = ring_ctx(ring);
    SSL_CTX *pc = client_ctx(TLS1_3_VERSION, NULL, NULL);
    SSL_SESSION *a = fresh_session(ctx, pc);
    assert_true(resumes(ctx, pc, a));
    assert_int_equal(count_key(201), 1);
    assert_int_equal(count_key(202), 1);
    pid = fork();
    if (pid == 0) {
        write_keys(keys_path, second, 1);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    assert_int_equal(ktls_tickets_reload(ring, NULL, 0), 0);
    assert_int_equal(count_key(201), 0);
    assert_int_equal(count_key(202), 1);
    ktls_ctx_unref(ctx);
    ktls_tickets_unref(ring);
    assert_int_equal(count_key(202), 0);
    forget_latest();
    SSL_SESSION_free(a);
    SSL_CTX_free(pc);
    unlink(keys_path);
}

/* ---- What a resumption must not get round ---- */

static struct ktls_ctx *mutual_ctx(struct ktls_tickets *ring, enum ktls_verify verify, const char *ca, int timeout_s) {
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.tickets = ring;
    o.verify = verify;
    o.ca_file = ca;
    o.session_cache_timeout_s = timeout_s;
    return new_ctx(&o);
}

static void test_mutual_tls_resumes_with_the_same_identity(void **state) {
    (void)state;
    for (size_t v = 0; v < 2; v++)
        for (int tickets = 0; tickets < 2; tickets++) {
            struct ktls_conn_info info;
            struct ktls_ctx *ctx = mutual_ctx(NULL, KTLS_VERIFY_REQUIRE, pki.ca_file, 0);
            SSL_CTX *pc = client_ctx(versions[v], pki.client_cert, pki.client_key);
            SSL_CTX *anonymous = client_ctx(versions[v], NULL, NULL);
            if (!tickets && versions[v] == TLS1_2_VERSION) SSL_CTX_set_options(pc, SSL_OP_NO_TICKET);
            SSL_SESSION *a = fresh_session(ctx, pc);
            assert_int_equal(visit(ctx, pc, a, &info), KTLS_DONE);
            assert_int_equal(info.resumed, 1);
            assert_int_equal(info.peer_cert, 1);
            assert_string_equal(info.peer_subject, "CN=client,O=libktls test");
            assert_int_equal(visit(ctx, anonymous, NULL, &info), KTLS_EVERIFY); /* no session, no certificate */
            forget_latest();
            SSL_SESSION_free(a);
            SSL_CTX_free(pc);
            SSL_CTX_free(anonymous);
            ktls_ctx_unref(ctx);
        }
}

/* The same ring, another trust: a full handshake, which then refuses. */
static void check_not_carried_over(enum ktls_verify from, const char *from_ca, enum ktls_verify to, const char *to_ca,
                                   bool with_cert, int want) {
    for (size_t v = 0; v < 2; v++) {
        struct ktls_conn_info info;
        struct ktls_tickets *ring = new_ring(NULL, 0, 0);
        struct ktls_ctx *one = mutual_ctx(ring, from, from_ca, 0), *two = mutual_ctx(ring, to, to_ca, 0);
        SSL_CTX *pc = client_ctx(versions[v], with_cert ? pki.client_cert : NULL, pki.client_key);
        SSL_SESSION *a = fresh_session(one, pc);
        assert_true(resumes(one, pc, a));
        assert_int_equal(visit(two, pc, a, &info), want);
        assert_int_equal(info.resumed, 0);
        forget_latest();
        SSL_SESSION_free(a);
        SSL_CTX_free(pc);
        ktls_ctx_unref(one);
        ktls_ctx_unref(two);
        ktls_tickets_unref(ring);
    }
}

static void test_session_of_another_trust_is_not_resumed(void **state) {
    (void)state;
    check_not_carried_over(KTLS_VERIFY_REQUIRE, pki.ca_file, KTLS_VERIFY_REQUIRE, pki.other_ca_file, true, KTLS_EVERIFY);
    check_not_carried_over(KTLS_VERIFY_NONE, pki.ca_file, KTLS_VERIFY_REQUIRE, pki.ca_file, false, KTLS_EVERIFY);
    check_not_carried_over(KTLS_VERIFY_OPTIONAL, pki.ca_file, KTLS_VERIFY_REQUIRE, pki.ca_file, false, KTLS_EVERIFY);
    check_not_carried_over(KTLS_VERIFY_REQUIRE, pki.ca_file, KTLS_VERIFY_OPTIONAL, pki.ca_file, true, KTLS_DONE);
}

static void test_same_trust_in_another_order_is_resumed(void **state) {
    (void)state;
    char ab[160], ba[160], a[8192], b[8192];
    FILE *f = fopen(pki.ca_file, "r"), *g = fopen(pki.other_ca_file, "r");
    size_t na = fread(a, 1, sizeof a, f), nb = fread(b, 1, sizeof b, g);
    fclose(f);
    fclose(g);
    snprintf(ab, sizeof ab, "%s/ab", pki.dir);
    snprintf(ba, sizeof ba, "%s/ba", pki.dir);
    f = fopen(ab, "w");
    g = fopen(ba, "w");
    fwrite(a, 1, na, f);
    fwrite(b, 1, nb, f);
    fwrite(b, 1, nb, g);
    fwrite(a, 1, na, g);
    fclose(f);
    fclose(g);
    struct ktls_tickets *ring = new_ring(NULL, 0, 0);
    struct ktls_ctx *one = mutual_ctx(ring, KTLS_VERIFY_REQUIRE, ab, 0), *two = mutual_ctx(ring, KTLS_VERIFY_REQUIRE, ba, 0);
    SSL_CTX *pc = client_ctx(TLS1_3_VERSION, pki.client_cert, pki.client_key);
    SSL_SESSION *s = fresh_session(one, pc);
    assert_true(resumes(two, pc, s));
    forget_latest();
    SSL_SESSION_free(s);
    SSL_CTX_free(pc);
    ktls_ctx_unref(one);
    ktls_ctx_unref(two);
    ktls_tickets_unref(ring);
    unlink(ab);
    unlink(ba);
}

/* The file of the CA directory changes: the same path, another trust. */
static void test_ca_directory_counts_by_its_content(void **state) {
    (void)state;
    char dir[128], file[160];
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    struct ktls_tickets *ring = new_ring(NULL, 0, 0);
    SSL_CTX *pc = client_ctx(TLS1_3_VERSION, pki.client_cert, pki.client_key);
    struct ktls_conn_info info;
    snprintf(dir, sizeof dir, "%s/ca.d", pki.dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    snprintf(file, sizeof file, "%s/%08lx.0", dir, X509_subject_name_hash(pki.ca));
    assert_int_equal(symlink(pki.ca_file, file), 0);
    o.tickets = ring;
    o.verify = KTLS_VERIFY_REQUIRE;
    o.ca_file = NULL;
    o.ca_dir = dir;
    struct ktls_ctx *one = new_ctx(&o), *two = new_ctx(&o);
    SSL_SESSION *a = fresh_session(one, pc);
    assert_true(resumes(two, pc, a));
    unlink(file);
    assert_int_equal(symlink(pki.other_ca_file, file), 0);
    struct ktls_ctx *three = new_ctx(&o);
    assert_int_equal(visit(three, pc, a, &info), KTLS_EVERIFY);
    unlink(file);
    rmdir(dir);
    forget_latest();
    SSL_SESSION_free(a);
    SSL_CTX_free(pc);
    ktls_ctx_unref(one);
    ktls_ctx_unref(two);
    ktls_ctx_unref(three);
    ktls_tickets_unref(ring);
}

static void test_session_ends_with_the_client_certificate(void **state) {
    (void)state;
    char cert[2][96], key[2][96];
    for (int way = 0; way < 3; way++) { /* TLS 1.2 cache, TLS 1.2 ticket, TLS 1.3 */
        struct ktls_conn_info info;
        struct ktls_ctx *ctx = mutual_ctx(NULL, KTLS_VERIFY_REQUIRE, pki.ca_file, 0);
        leaf(&pki, cert[0], key[0], "brief", NULL, -3600, 3);
        SSL_CTX *pc = client_ctx(way == 2 ? TLS1_3_VERSION : TLS1_2_VERSION, cert[0], key[0]);
        if (way == 0) SSL_CTX_set_options(pc, SSL_OP_NO_TICKET);
        SSL_SESSION *a = fresh_session(ctx, pc);
        assert_true(resumes(ctx, pc, a));
        usleep(4200000);
        int r = visit(ctx, pc, a, &info);
        if (r != KTLS_EVERIFY) print_message("way %d: %s\n", way, ktls_strerror(r));
        assert_int_equal(r, KTLS_EVERIFY);
        forget_latest();
        SSL_SESSION_free(a);
        SSL_CTX_free(pc);
        ktls_ctx_unref(ctx);
        unlink(cert[0]);
        unlink(key[0]);
    }
}

static void test_renewal_does_not_prolong_a_session(void **state) {
    (void)state;
    struct ktls_ctx *ctx = mutual_ctx(NULL, KTLS_VERIFY_NONE, pki.ca_file, 3);
    SSL_CTX *pc = client_ctx(TLS1_3_VERSION, NULL, NULL);
    SSL_SESSION *s = fresh_session(ctx, pc);
    struct ktls_stats before, after;
    ktls_stats(&before);
    assert_in_range(SSL_SESSION_get_ticket_lifetime_hint(s), 1, 3);
    int resumed = 0;
    for (int i = 0; i < 6; i++) { /* a visit each 0.7 s, each with the ticket of the one before */
        usleep(700000);
        resumed += resumes(ctx, pc, s);
        assert_in_range(SSL_SESSION_get_ticket_lifetime_hint(latest), 1, 3);
        SSL_SESSION_free(s);
        s = take_latest();
    }
    ktls_stats(&after);
    assert_in_range(resumed, 1, 5);
    print_message("%d of 6 resumed, %d refused as too old\n", resumed, (int)(after.tickets_refused - before.tickets_refused));
    SSL_SESSION_free(s);
    SSL_CTX_free(pc);
    ktls_ctx_unref(ctx);
}

static void test_no_tickets_leaves_the_tls12_cache(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    struct ktls_conn_info info;
    o.num_tickets = 0;
    struct ktls_ctx *ctx = new_ctx(&o);
    SSL_CTX *pc = client_ctx(TLS1_3_VERSION, NULL, NULL);
    assert_int_equal(visit(ctx, pc, NULL, &info), KTLS_DONE);
    assert_int_equal(n_new, 0);
    SSL_CTX_free(pc);
    pc = client_ctx(TLS1_2_VERSION, NULL, NULL);
    SSL_SESSION *a = fresh_session(ctx, pc);
    assert_int_equal(SSL_SESSION_has_ticket(a), 0);
    assert_true(resumes(ctx, pc, a));
    forget_latest();
    SSL_SESSION_free(a);
    SSL_CTX_free(pc);
    ktls_ctx_unref(ctx);
}

static int setup(void **state) {
    setup_pki(state);
    snprintf(keys_path, sizeof keys_path, "%s/keys", pki.dir);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rotation_old_key_opens_and_ticket_is_renewed),
        cmocka_unit_test(test_rotation_schedule_adds_and_drops),
        cmocka_unit_test(test_ring_shared_by_contexts_survives_a_new_certificate),
        cmocka_unit_test(test_key_file_shared_by_processes),
        cmocka_unit_test(test_file_changed_is_taken_in),
        cmocka_unit_test(test_directory_newest_file_seals),
        cmocka_unit_test(test_file_in_base64_is_the_same_as_raw),
        cmocka_unit_test(test_bad_file_changes_nothing_and_says_why),
        cmocka_unit_test(test_dropped_keys_are_wiped),
        cmocka_unit_test(test_mutual_tls_resumes_with_the_same_identity),
        cmocka_unit_test(test_session_of_another_trust_is_not_resumed),
        cmocka_unit_test(test_same_trust_in_another_order_is_resumed),
        cmocka_unit_test(test_ca_directory_counts_by_its_content),
        cmocka_unit_test(test_session_ends_with_the_client_certificate),
        cmocka_unit_test(test_renewal_does_not_prolong_a_session),
        cmocka_unit_test(test_no_tickets_leaves_the_tls12_cache),
    };
    return cmocka_run_group_tests(tests, setup, teardown_pki);
}
