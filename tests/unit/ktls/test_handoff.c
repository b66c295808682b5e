/*
 * A live TLS connection changes its owner in the middle of a stream: to a child process that gets the descriptor by SCM_RIGHTS,
 * and to a program that was exec'd and inherits it. The peer is OpenSSL and notices nothing.
 *
 * The new owner does not share memory with the test (the child is forked before the connection is made, and exec leaves nothing),
 * so all it knows came through the state. It reports by its exit status and, when something was wrong, the line of this file on
 * standard error.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

#include <sys/mman.h>
#include <sys/wait.h>

#include "ktls_handoff.h"

#define STREAM (192 * 1024) /* bytes each way */
#define HALF (STREAM / 2)   /* until the hand-off */

/* ---- The new owner ---- */

#define MUST(claim)                                                                                                              \
    do {                                                                                                                         \
        if (!(claim)) _exit_line(__LINE__);                                                                                      \
    } while (0)

static void _exit_line(int line) {
    fprintf(stderr, "the new owner stopped at line %d\n", line);
    _exit(1);
}

struct job {
    int role, mode, rekey; /* rekey: KeyUpdate both ways after the take-over */
    char cert[96], key[96], ca[96];
};

static struct ktls_ctx *owner_ctx(const struct job *j) {
    struct ktls_ctx *ctx = NULL;
    struct ktls_ctx_opts o = { .size = sizeof o, .role = (enum ktls_role)j->role, .policy = KTLS_POLICY_AUTO, .ca_file = j->ca };
    if (j->role == KTLS_SERVER) {
        o.cert_file = j->cert;
        o.key_file = j->key;
    }
    MUST(ktls_ctx_new(&o, &ctx, NULL, 0) == 0);
    return ctx;
}

static void owner_write(struct ktls_conn *conn, const uint8_t *p, size_t len) {
    while (len > 0) {
        ssize_t n = ktls_write(conn, p, len < 5000 ? len : 5000);
        if (n == -EAGAIN) {
            MUST(wait_fd(conn->fd, POLLOUT, 5000));
            continue;
        }
        MUST(n > 0);
        p += n;
        len -= (size_t)n;
    }
}

/* The second half of both streams, the KeyUpdates, the end. */
static void own(const struct job *j, int fd, const uint8_t *state, size_t len) {
    static uint8_t in[STREAM], out[STREAM], got[STREAM];
    struct ktls_ctx *ctx = owner_ctx(j);
    struct ktls_conn *conn = NULL;
    struct ktls_conn_info info;
    char word[5];
    MUST(ktls_import(ctx, fd, state, len, &conn) == 0);
    MUST(ktls_conn_info(conn, &info) == 0);
    MUST((int)info.mode == j->mode && (strncmp(info.cipher, "TLS_", 4) == 0) == (info.ver_id == KTLS_TLS13));
    pattern(in, sizeof in, 1);
    pattern(out, sizeof out, 2);
    MUST(lib_read(conn, got + HALF, HALF) == 0);
    MUST(memcmp(in + HALF, got + HALF, HALF) == 0);
    owner_write(conn, out + HALF, HALF);
    if (j->rekey) {
        /* Ours first, which asks for the peer's; then one that the peer begins, which asks for ours. */
        MUST(ktls_key_update(conn, 1) == KTLS_DONE);
        owner_write(conn, (const uint8_t *)"first", 5);
        MUST(lib_read(conn, word, 5) == 0 && memcmp(word, "reply", 5) == 0);
        MUST(lib_read(conn, word, 5) == 0 && memcmp(word, "under", 5) == 0);
        owner_write(conn, (const uint8_t *)"again", 5);
        ktls_conn_info(conn, &info);
        MUST(info.key_updates_in == 2 && info.key_updates_out == 2);
    }
    MUST(ktls_shutdown(conn) == KTLS_DONE);
    ktls_conn_free(conn);
    ktls_ctx_unref(ctx);
    close(fd);
    _exit(0);
}

/* ---- SCM_RIGHTS ---- */

struct parcel {
    struct job job;
    size_t len;
    uint8_t state[4096];
};

static void send_parcel(int sock, int fd, const struct parcel *p) {
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec iov = { (void *)(uintptr_t)p, sizeof *p };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    assert_int_equal(sendmsg(sock, &msg, 0), sizeof *p);
}

static void child_by_rights(int sock) {
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    static struct parcel p;
    int fd = -1;
    struct iovec iov = { &p, sizeof p };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    MUST(recvmsg(sock, &msg, MSG_WAITALL) == sizeof p);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    MUST(c && c->cmsg_type == SCM_RIGHTS);
    memcpy(&fd, CMSG_DATA(c), sizeof fd);
    own(&p.job, fd, p.state, p.len);
}

/* ---- exec ---- */

/* This program again: --own FD STATE_FD; STATE_FD is a memfd with a struct parcel. */
static int main_owner(char **argv) {
    static struct parcel p;
    int fd = atoi(argv[2]), state = atoi(argv[3]);
    MUST(pread(state, &p, sizeof p, 0) == sizeof p);
    own(&p.job, fd, p.state, p.len);
    return 3;
}

static pid_t exec_owner(int fd, const struct parcel *p) {
    int memfd = memfd_create("state", MFD_CLOEXEC);
    assert_int_equal(write(memfd, p, sizeof *p), sizeof *p);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0) {
        close(memfd);
        return pid;
    }
    char a[2][16];
    int fds[2] = { fd, memfd };
    for (int i = 0; i < 2; i++) {
        fcntl(fds[i], F_SETFD, 0);
        snprintf(a[i], sizeof a[i], "%d", fds[i]);
    }
    execl("/proc/self/exe", "test_handoff", "--own", a[0], a[1], (char *)NULL);
    _exit(127);
}

/* ---- The peer's side of both ---- */

static void expect_good_end(pid_t pid) {
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* What the test's side does while the new owner runs. */
static void drive_peer(struct session *s, bool rekey) {
    static uint8_t in[STREAM], out[STREAM], got[STREAM];
    char word[5];
    pattern(in, sizeof in, 2);
    pattern(out, sizeof out, 1);
    peer_write(&s->peer, out + HALF + 1000, HALF - 1000); /* the first 1000 were sent before the hand-off */
    peer_read(&s->peer, got + HALF, HALF);
    assert_memory_equal(got + HALF, in + HALF, HALF);
    if (rekey) {
        peer_read(&s->peer, word, 5);
        assert_memory_equal(word, "first", 5);
        peer_write(&s->peer, "reply", 5); /* behind the KeyUpdate that was asked for */
        assert_int_equal(SSL_key_update(s->peer.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
        peer_write(&s->peer, "under", 5);
        peer_read(&s->peer, word, 5);
        assert_memory_equal(word, "again", 5);
    }
    assert_int_equal(peer_read_error(&s->peer), SSL_ERROR_ZERO_RETURN); /* close_notify of the new owner */
}

/* The old owner's half: streams, and data that waits unread in the socket at the hand-off. */
static void first_half(struct session *s) {
    static uint8_t in[STREAM], out[STREAM], got[STREAM];
    pattern(in, sizeof in, 1);
    pattern(out, sizeof out, 2);
    for (size_t at = 0; at < HALF; at += 4096) {
        peer_write(&s->peer, in + at, 4096);
        assert_int_equal(lib_read(s->conn, got + at, 4096), 0);
        assert_int_equal(ktls_write(s->conn, out + at, 4096), 4096);
        peer_read(&s->peer, got, 4096);
        assert_memory_equal(got, out + at, 4096);
    }
    peer_write(&s->peer, in + HALF, 1000);
}

static void make_parcel(struct session *s, enum ktls_role role, bool rekey, struct parcel *p) {
    memset(p, 0, sizeof *p);
    p->job.role = role;
    p->job.mode = ktls_conn_mode(s->conn);
    p->job.rekey = rekey;
    snprintf(p->job.cert, sizeof p->job.cert, "%s", pki.server_cert);
    snprintf(p->job.key, sizeof p->job.key, "%s", pki.server_key);
    snprintf(p->job.ca, sizeof p->job.ca, "%s", pki.ca_file);
    ssize_t need = ktls_export(s->conn, NULL, 0);
    ssize_t n = ktls_export(s->conn, p->state, sizeof p->state);
    assert_true(n > 0 && n == need && n <= KTLS_EXPORT_MAX);
    p->len = (size_t)n;
}

/* The old owner lets go of everything; nothing of that may reach the peer. */
static void let_go(struct session *s) {
    assert_int_equal(ktls_shutdown(s->conn), KTLS_DONE);
    s->conn = ktls_conn_free(s->conn);
    close(s->fd[1]);
    s->fd[1] = -1;
}

static void end(struct session *s) {
    s->ctx = ktls_ctx_unref(s->ctx);
    peer_done(&s->peer);
    close(s->fd[0]);
}

static void hand_off_as(enum ktls_policy policy, enum ktls_role role, int version, int cipher, bool by_exec, bool rekey) {
    int sock[2];
    struct session s;
    struct parcel p;
    pid_t pid = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock), 0);
    if (!by_exec && (pid = fork()) == 0) {
        close(sock[0]);
        child_by_rights(sock[1]);
    }
    struct ktls_ctx_opts o = role == KTLS_SERVER ? server_opts(policy) : client_opts(policy);
    use_suite(&o, version, cipher);
    session_open(&s, &o, version, suite_name(version, cipher));
    first_half(&s);
    make_parcel(&s, role, rekey, &p);
    if (by_exec)
        pid = exec_owner(s.fd[1], &p);
    else
        send_parcel(sock[0], s.fd[1], &p);
    ktls_wipe(&p, sizeof p);
    let_go(&s);
    drive_peer(&s, rekey);
    expect_good_end(pid);
    close(sock[0]);
    close(sock[1]);
    end(&s);
}

static void hand_off(enum ktls_role role, int version, int cipher, bool by_exec, bool rekey) {
    hand_off_as(KTLS_POLICY_REQUIRE, role, version, cipher, by_exec, rekey);
}

static void check_every_suite(enum ktls_policy policy, bool rekey) {
    for (int cipher = 0; cipher < KTLS_N_CIPHERS; cipher++)
        for (int role = KTLS_SERVER; role <= KTLS_CLIENT; role++) {
            hand_off_as(policy, (enum ktls_role)role, TLS1_3_VERSION, cipher, false, rekey);
            hand_off_as(policy, (enum ktls_role)role, TLS1_2_VERSION, cipher, true, false);
        }
}

static void test_handoff_user_mode_every_suite(void **state) {
    (void)state;
    check_every_suite(KTLS_POLICY_OFF, true);
}

static void test_handoff_half_offload_every_suite(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    check_every_suite(KTLS_POLICY_TX, can_rekey());
}

static void test_handoff_by_rights_every_suite(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    for (int cipher = 0; cipher < KTLS_N_CIPHERS; cipher++) {
        hand_off(KTLS_SERVER, TLS1_3_VERSION, cipher, false, false);
        hand_off(KTLS_SERVER, TLS1_2_VERSION, cipher, false, false);
    }
    hand_off(KTLS_CLIENT, TLS1_3_VERSION, KTLS_AES_256_GCM, false, false);
    hand_off(KTLS_CLIENT, TLS1_2_VERSION, KTLS_AES_128_GCM, false, false);
}

static void test_handoff_by_exec(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    hand_off(KTLS_SERVER, TLS1_3_VERSION, KTLS_AES_128_GCM, true, false);
    hand_off(KTLS_CLIENT, TLS1_2_VERSION, KTLS_CHACHA20_POLY1305, true, false);
}

static void test_handoff_key_update_after_take_over(void **state) {
    (void)state;
    NEED_REKEY();
    for (int cipher = 0; cipher < KTLS_N_CIPHERS; cipher++) hand_off(KTLS_SERVER, TLS1_3_VERSION, cipher, false, true);
    hand_off(KTLS_CLIENT, TLS1_3_VERSION, KTLS_AES_256_GCM, true, true);
}

/* ---- The old owner ---- */

static void test_export_gives_the_connection_away(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    struct ktls_stats before, after;
    uint8_t buf[KTLS_EXPORT_MAX];
    char word[8];
    ktls_stats(&before);
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    assert_int_equal(ktls_export(s.conn, buf, 10), -ENOBUFS);
    assert_int_equal(ktls_write(s.conn, "x", 1), 1); /* a refused export changes nothing */
    ssize_t n = ktls_export(s.conn, buf, sizeof buf);
    assert_true(n > 0 && n < 512);
    assert_int_equal(ktls_export(s.conn, buf + n, sizeof buf - (size_t)n), -ESTALE);
    assert_int_equal(ktls_write(s.conn, "y", 1), -ESTALE);
    assert_int_equal(ktls_read(s.conn, word, 1), -ESTALE);
    assert_int_equal(ktls_control(s.conn), -ESTALE);
    assert_int_equal(ktls_io_error(s.conn, 0), -ESTALE);
    assert_int_equal(ktls_io_error(s.conn, EBADMSG), -ESTALE);
    assert_true(ktls_key_update(s.conn, 0) < 0);
    assert_int_equal(ktls_flush(s.conn), KTLS_DONE);
    assert_int_equal(ktls_shutdown(s.conn), KTLS_DONE);
    for (int dir = 0; dir < KTLS_N_DIRS; dir++)
        for (int i = 0; i < KTLS_SECRET_MAX; i++) assert_int_equal(s.conn->secret[dir][i], 0);
    peer_read(&s.peer, word, 1);
    assert_int_equal(word[0], 'x');
    assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_WANT_READ); /* nothing else came */

    /* The new owner, here in the same process, has the stream. */
    struct ktls_conn *fresh = NULL;
    assert_int_equal(ktls_import(s.ctx, s.fd[1], buf, (size_t)n, &fresh), 0);
    assert_int_equal(ktls_write(fresh, "z", 1), 1);
    peer_read(&s.peer, word, 1);
    assert_int_equal(word[0], 'z');
    ktls_stats(&after);
    assert_int_equal(after.handoffs_out - before.handoffs_out, 1);
    assert_int_equal(after.handoffs_in - before.handoffs_in, 1);
    assert_int_equal(after.truncated, before.truncated);
    ktls_conn_free(fresh);
    session_end(&s);
}

static void test_export_refused_before_the_end_and_of_openssls_records(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    struct session s;
    uint8_t buf[1024];
    o.ciphers = "ECDHE-ECDSA-AES128-SHA256"; /* CBC */
    session_start(&s, &o, NULL, TLS1_2_VERSION, o.ciphers);
    assert_int_equal(ktls_export(s.conn, buf, sizeof buf), -ENOTCONN);
    assert_int_equal(drive(s.conn, &s.peer), KTLS_DONE);
    assert_int_equal(ktls_export(s.conn, buf, sizeof buf), -EOPNOTSUPP);
    session_end(&s);
}

/* User mode: what is on its way in or out must be taken first; a record in part goes along. */
static void test_export_user_mode_in_the_middle_of_a_record(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    struct session s;
    struct ktls_conn *fresh = NULL;
    static uint8_t buf[KTLS_EXPORT_MAX], rec[20000], got[16000], want[16000];
    pattern(want, sizeof want, 6);
    for (int mem = 0; mem < 2; mem++) {
        session_open(&s, &o, TLS1_3_VERSION, NULL);
        if (mem) assert_int_equal(ktls_mem_start(s.conn), 0);
        assert_int_equal(SSL_write(s.peer.ssl, want, sizeof want), sizeof want);
        size_t len = peer_take(&s.peer, rec, sizeof rec);
        send_all(s.fd[0], rec, len - 1);
        wait_fd(s.fd[1], POLLIN, 1000);
        if (mem) assert_int_equal(ktls_mem_input(s.conn, rec, len - 1), 0);
        assert_int_equal(ktls_read(s.conn, got, 10), -EAGAIN);
        ssize_t n = ktls_export(s.conn, NULL, 0);
        assert_in_range(n, len, len + 400);
        assert_int_equal(ktls_export(s.conn, buf, sizeof buf), n);
        assert_int_equal(ktls_import(s.ctx, s.fd[1], buf, (size_t)n, &fresh), 0);
        assert_int_equal(ktls_read(s.conn, got, 10), -ESTALE);
        if (mem) assert_int_equal(ktls_mem_start(fresh), 0);
        if (mem)
            assert_int_equal(ktls_mem_input(fresh, rec + len - 1, 1), 0);
        else
            send_all(s.fd[0], rec + len - 1, 1);
        assert_int_equal(lib_read(fresh, got, 10), 0);
        assert_int_equal(ktls_export(fresh, buf, sizeof buf), -EAGAIN); /* decrypted, and not read */
        assert_int_equal(lib_read(fresh, got + 10, sizeof got - 10), 0);
        assert_memory_equal(got, want, sizeof got);
        if (mem) {
            const void *out;
            assert_int_equal(ktls_write(fresh, "x", 1), 1);
            assert_int_equal(ktls_export(fresh, buf, sizeof buf), -EAGAIN); /* not sent */
            ktls_mem_sent(fresh, ktls_mem_output(fresh, &out));
        }
        assert_true(ktls_export(fresh, NULL, 0) < 512);
        ktls_conn_free(fresh);
        session_end(&s);
    }
}

static void test_export_refused_while_an_answer_is_due(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_REQUIRE);
    struct session s;
    uint8_t buf[1024];
    session_open(&s, &o, TLS1_3_VERSION, NULL);
    s.conn->due = KTLS_DUE_KEY_UPDATE;
    assert_int_equal(ktls_export(s.conn, buf, sizeof buf), -EAGAIN);
    s.conn->due = KTLS_DUE_CLOSE;
    assert_int_equal(ktls_export(s.conn, buf, sizeof buf), -EAGAIN);
    s.conn->due = 0;
    assert_true(ktls_export(s.conn, buf, sizeof buf) > 0);
    session_end(&s);
}

/* ---- The state ---- */

/* A connection as it is after the hand-over, without a socket: the state itself needs no kernel. */
static struct ktls_conn *made_conn(struct ktls_ctx *ctx) {
    struct ktls_conn *c = calloc(1, sizeof *c);
    c->ctx = ktls_ctx_ref(ctx);
    c->fd = -1;
    c->mode = KTLS_MODE_KERNEL;
    c->state = KTLS_STATE_OPEN;
    c->version = KTLS_TLS13;
    c->cipher = KTLS_AES_256_GCM;
    c->suite = 0x1302;
    c->alert_in = c->alert_out = -1;
    c->reader.is_client = ctx->role == KTLS_CLIENT;
    c->reader.is_tls13 = true;
    c->secret_len[0] = c->secret_len[1] = 48;
    memset(c->secret[0], 0x11, 48);
    memset(c->secret[1], 0x22, 48);
    c->seq[KTLS_RX] = 3;
    c->seq[KTLS_TX] = 0x0102030405060708;
    c->control_records = 9;
    c->key_updates_in = 4;
    c->key_updates_out = 5;
    c->handshake_us = 1234;
    c->resumed = true;
    c->peer_cert = true;
    c->name = strdup("server.test");
    c->peer_subject = strdup("CN=client");
    return c;
}

static size_t made_state(struct ktls_ctx *ctx, const uint8_t *half, size_t half_len, uint8_t *buf, size_t cap) {
    struct ktls_conn *c = made_conn(ctx);
    struct ktls_event ev;
    if (half_len > 0) {
        ktls_record_begin(&c->reader, KTLS_CT_HANDSHAKE, half, half_len);
        assert_int_equal(ktls_record_next(&c->reader, &ev), 0);
    }
    ssize_t n = ktls_export(c, buf, cap);
    assert_true(n > 0);
    ktls_conn_free(c);
    return (size_t)n;
}

static int take(struct ktls_ctx *ctx, const uint8_t *buf, size_t len, struct ktls_conn **ret) {
    struct ktls_handoff s;
    int r = ktls_state_parse(buf, len, &s);
    return r < 0 ? r : ktls_conn_of_state(ctx, 0, &s, ret);
}

static void test_state_round_trip_keeps_every_field(void **state) {
    (void)state;
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_OFF);
    struct ktls_ctx *ctx = new_ctx(&o);
    uint8_t buf[KTLS_EXPORT_MAX], ticket[20000] = { KTLS_HS_NEW_SESSION_TICKET, 0, 0x75, 0x30 }; /* 30,000 bytes announced */
    for (size_t half = 0; half <= sizeof ticket; half += half < 6 ? 1 : 6665) {
        struct ktls_conn *c = NULL;
        struct ktls_conn_info info;
        size_t n = made_state(ctx, ticket, half, buf, sizeof buf);
        assert_int_equal(take(ctx, buf, n, &c), 0);
        assert_int_equal(ktls_conn_info(c, &info), 0);
        assert_string_equal(info.version, "TLSv1.3");
        assert_string_equal(info.cipher, "TLS_AES_256_GCM_SHA384");
        assert_int_equal(info.cipher_id, KTLS_AES_256_GCM);
        assert_string_equal(info.peer_subject, "CN=client");
        assert_int_equal(info.rx_seq0, 3);
        assert_true(info.tx_seq0 == 0x0102030405060708);
        assert_int_equal(info.control_records, 9);
        assert_int_equal(info.key_updates_in, 4);
        assert_int_equal(info.key_updates_out, 5);
        assert_int_equal(info.handshake_us, 1234);
        assert_true(info.resumed && info.peer_cert);
        assert_int_equal(c->alert_in, -1);
        assert_int_equal(c->secret[KTLS_TX][47], 0x11);
        assert_int_equal(c->secret[KTLS_RX][47], 0x22);
        assert_int_equal(c->reader.have, half);
        /* What it would write is what it was made of. */
        uint8_t again[KTLS_EXPORT_MAX];
        assert_int_equal(ktls_export(c, again, sizeof again), n);
        assert_memory_equal(again, buf, n);
        ktls_conn_free(c);
    }
    ktls_ctx_unref(ctx);
}

static void test_state_largest_fits_the_documented_size(void **state) {
    (void)state;
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_OFF);
    struct ktls_ctx *ctx = new_ctx(&o);
    struct ktls_conn *c = made_conn(ctx);
    struct ktls_event ev;
    static uint8_t ticket[KTLS_HS_MESSAGE_MAX - 1] = { KTLS_HS_NEW_SESSION_TICKET, 0, 0x7f, 0xfc };
    char text[300];
    memset(text, 'x', sizeof text);
    text[299] = 0;
    free(c->name);
    free(c->peer_subject);
    c->name = strdup(text);
    c->peer_subject = strdup(text);
    ktls_record_begin(&c->reader, KTLS_CT_HANDSHAKE, ticket, sizeof ticket);
    assert_int_equal(ktls_record_next(&c->reader, &ev), 0);
    assert_true(ktls_export(c, NULL, 0) + KTLS_WIRE_BUF + 64 <= KTLS_EXPORT_MAX); /* and a record in part */
    ktls_conn_free(c);
    ktls_ctx_unref(ctx);
}

static void test_state_every_truncation_is_refused(void **state) {
    (void)state;
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_OFF);
    struct ktls_ctx *ctx = new_ctx(&o);
    uint8_t buf[1024];
    struct ktls_conn *c = NULL;
    size_t n = made_state(ctx, NULL, 0, buf, sizeof buf);
    for (size_t len = 0; len < n; len++) {
        uint8_t *exact = malloc(len ? len : 1); /* AddressSanitizer sees a read past it */
        memcpy(exact, buf, len);
        assert_true(take(ctx, exact, len, &c) < 0);
        if (len >= 10) { /* the same with the length made to agree */
            exact[6] = exact[7] = 0;
            exact[8] = (uint8_t)(len >> 8);
            exact[9] = (uint8_t)len;
            assert_int_equal(take(ctx, exact, len, &c), -EINVAL);
        }
        free(exact);
    }
    buf[n] = 0;
    assert_int_equal(take(ctx, buf, n + 1, &c), -EINVAL);
    assert_null(c);
    ktls_ctx_unref(ctx);
}

static void test_state_wrong_fields_are_refused(void **state) {
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        int want;
    } cases[] = {
        { 0, 'k', -EINVAL },   { 5, 3, -EPROTONOSUPPORT }, { 9, 1, -EINVAL },  { 10, KTLS_SERVER, -EINVAL },
        { 10, 2, -EINVAL },    { 12, 2, -EINVAL },         { 12, 3, -EINVAL }, { 13, 0xc0, -EINVAL },
        { 14, 0x01, -EINVAL },                                                                    /* SHA-256: 32 bytes */
        { 14, 0x77, -EINVAL }, { 15, 0x1f, -EINVAL },      { 18, 5, -EINVAL }, { 5, 2, -EINVAL }, /* more would follow */
    };
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_OFF);
    struct ktls_ctx *ctx = new_ctx(&o);
    struct ktls_conn *c = NULL;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t buf[1024];
        size_t n = made_state(ctx, NULL, 0, buf, sizeof buf);
        buf[cases[i].at] = cases[i].value;
        assert_int_equal(take(ctx, buf, n, &c), cases[i].want);
    }
    /* A name with a NUL; a half-read message that no peer may send, and one that is whole. */
    uint8_t buf[1024], *hit;
    size_t n = made_state(ctx, NULL, 0, buf, sizeof buf);
    hit = memmem(buf, n, "server.test", 11);
    assert_non_null(hit);
    hit[3] = 0;
    assert_int_equal(take(ctx, buf, n, &c), -EINVAL);
    static const uint8_t part[5] = { KTLS_HS_NEW_SESSION_TICKET, 0, 0, 9, 1 };
    n = made_state(ctx, part, sizeof part, buf, sizeof buf);
    buf[n - 5] = KTLS_HS_CLIENT_HELLO;
    assert_int_equal(take(ctx, buf, n, &c), -EINVAL);
    buf[n - 5] = KTLS_HS_NEW_SESSION_TICKET;
    buf[n - 2] = 1;
    assert_int_equal(take(ctx, buf, n, &c), -EINVAL);
    assert_null(c);
    ktls_ctx_unref(ctx);
}

/* ---- The socket ---- */

static void test_import_refuses_a_socket_without_keys(void **state) {
    (void)state;
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_OFF);
    struct ktls_ctx *ctx = new_ctx(&o);
    struct ktls_conn *c = NULL;
    uint8_t buf[1024];
    int fd[2];
    size_t n = made_state(ctx, NULL, 0, buf, sizeof buf);
    tcp_pair(fd);
    assert_int_equal(ktls_import(ctx, fd[1], buf, n, &c), -EPROTO);
    assert_int_equal(ktls_import(ctx, -1, buf, n, &c), -EINVAL);
    assert_int_equal(ktls_import(ctx, 1000000, buf, n, &c), -EBADF);
    if (ktls_kernel_attach(fd[1]) == 0) assert_int_equal(ktls_import(ctx, fd[1], buf, n, &c), -EPROTO);
    assert_null(c);
    close(fd[0]);
    close(fd[1]);
    ktls_ctx_unref(ctx);
}

static void test_import_refuses_a_socket_with_another_cipher(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    struct ktls_ctx_opts o = client_opts(KTLS_POLICY_REQUIRE), plain = client_opts(KTLS_POLICY_OFF);
    struct ktls_ctx *ctx = new_ctx(&plain);
    struct ktls_conn *c = NULL;
    struct session s;
    uint8_t buf[1024];
    size_t n = made_state(ctx, NULL, 0, buf, sizeof buf); /* AES-256-GCM, TLS 1.3 */
    use_suite(&o, TLS1_3_VERSION, KTLS_AES_128_GCM);
    session_open(&s, &o, TLS1_3_VERSION, tls13_suites[KTLS_AES_128_GCM]);
    assert_int_equal(ktls_import(ctx, s.fd[1], buf, n, &c), -EPROTO);
    session_end(&s);
    o = client_opts(KTLS_POLICY_REQUIRE);
    use_suite(&o, TLS1_2_VERSION, KTLS_AES_256_GCM);
    session_open(&s, &o, TLS1_2_VERSION, tls12_suites[KTLS_AES_256_GCM]);
    assert_int_equal(ktls_import(ctx, s.fd[1], buf, n, &c), -EPROTO);
    assert_null(c);
    session_end(&s);
    ktls_ctx_unref(ctx);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "--own") == 0) return main_owner(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handoff_by_rights_every_suite),
        cmocka_unit_test(test_handoff_by_exec),
        cmocka_unit_test(test_handoff_key_update_after_take_over),
        cmocka_unit_test(test_export_gives_the_connection_away),
        cmocka_unit_test(test_handoff_user_mode_every_suite),
        cmocka_unit_test(test_handoff_half_offload_every_suite),
        cmocka_unit_test(test_export_refused_before_the_end_and_of_openssls_records),
        cmocka_unit_test(test_export_user_mode_in_the_middle_of_a_record),
        cmocka_unit_test(test_export_refused_while_an_answer_is_due),
        cmocka_unit_test(test_state_round_trip_keeps_every_field),
        cmocka_unit_test(test_state_largest_fits_the_documented_size),
        cmocka_unit_test(test_state_every_truncation_is_refused),
        cmocka_unit_test(test_state_wrong_fields_are_refused),
        cmocka_unit_test(test_import_refuses_a_socket_without_keys),
        cmocka_unit_test(test_import_refuses_a_socket_with_another_cipher),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
