/*
 * Connections with a fault in each: memory that runs out at the n-th allocation, socket calls that fail or come up short, peers
 * that go away in the middle of anything. fault_inject.h makes the faults, fault_cycle.h is one connection and what must be true
 * of it; here is which of them are run, and what must not be left behind: memory, descriptors, keys, harm to the next one.
 *
 *   KTLS_FAULT_CYCLES=10000   so many (default 600); half of them systematic: the fault moved through a set of connections, call
 *                             by call, in strides that fit the number; the others made up at random
 *   KTLS_FAULT_SEED=7         other random ones and other offsets (default 1); "random" for one that is made up and printed
 *   KTLS_FAULT_ONLY=123       one cycle of these again
 *   KTLS_FAULT_TRACE=1        stacks of what is left behind, from the first run on
 *   KTLS_FAULT_NO_SEARCH=1    freed memory is not searched for secrets: for valgrind, which needs
 *                             --soname-synonyms=somalloc=nouserintercepts too
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "fault_cycle.h"

#include <dirent.h>
#include <signal.h>
#include <sys/random.h>
#include <sys/wait.h>

#define BATCH 50 /* cycles between two looks for what was left behind */

static uint64_t seed = 1;
static unsigned n_cycles = 600;
static long only = -1;

/* ---- Faults ---- */

static const int setsockopt_errors[] = { ENOPROTOOPT, EBUSY, ENOMEM, EPERM, EINVAL, ENOENT };
static const int getsockopt_errors[] = { ENOPROTOOPT, ENOMEM, EINVAL };
static const int recv_errors[] = {
    EINTR, FAULT_SHORT, EAGAIN, ECONNRESET, ETIMEDOUT, EIO, EBADMSG, EMSGSIZE, EINVAL, EKEYEXPIRED
};
static const int send_errors[] = { EINTR, FAULT_SHORT, EAGAIN, ECONNRESET, EPIPE, ENOBUFS };
static const int recvmsg_errors[] = { EINTR, EAGAIN, ECONNRESET, EBADMSG, ENOMEM, EKEYEXPIRED };
static const int no_errors[] = { ENOMEM };
static const int peer_ends[] = { PEER_FIN, PEER_RST, PEER_HALF };

#define LIST(a)                                                                                                                  \
    { a, sizeof a / sizeof a[0] }
static const struct {
    const int *err;
    size_t n;
} errors[FAULT_N_KINDS] = { [FAULT_ALLOC] = LIST(no_errors),
                            [FAULT_OWN_ALLOC] = LIST(no_errors),
                            [FAULT_SETSOCKOPT] = LIST(setsockopt_errors),
                            [FAULT_GETSOCKOPT] = LIST(getsockopt_errors),
                            [FAULT_RECV] = LIST(recv_errors),
                            [FAULT_SEND] = LIST(send_errors),
                            [FAULT_RECVMSG] = LIST(recvmsg_errors),
                            [FAULT_SENDMSG] = LIST(send_errors),
                            [FAULT_PEER] = LIST(peer_ends) };

static void describe(const struct cycle *c, char *out, size_t cap) {
    static const char *const ends[] = { "FIN", "RST", "half a flight, FIN" };
    static const char *const policies[] = { "auto", "require", "user", "tx" };
    const char *err = c->fault.kind == FAULT_PEER   ? ends[c->fault.err]
                      : c->fault.err == FAULT_SHORT ? "short"
                                                    : ktls_strerror(-c->fault.err);
    snprintf(out, cap, "%s %s %s%s%s%s ops %u, %zu up %zu down; fault: %s %u, %u times, %s",
             c->role == KTLS_SERVER ? "server" : "client", c->version == TLS1_3_VERSION ? "1.3" : "1.2", policies[c->policy],
             c->resume ? " resumed" : "", c->fresh_ctx ? " own context" : "",
             c->trust == TRUST_BAD    ? " not trusted"
             : c->trust == TRUST_CERT ? " certificate"
                                      : "",
             c->ops, c->up, c->down, fault_kind_name[c->fault.kind], c->fault.at, c->fault.times, c->fault.kind ? err : "-");
}

/* ---- Contexts ---- */

static struct ktls_ctx *shared[2][KTLS_POLICY_TX + 1][2][N_TRUST]; /* by role, policy, resumption, trust */
static char ring_file[96], keylog_file[96];

static struct ktls_ctx_opts cycle_opts(const struct cycle *c) {
    struct ktls_ctx_opts o = c->role == KTLS_SERVER ? server_opts(c->policy) : client_opts(c->policy);
    if (c->role == KTLS_SERVER && c->trust != TRUST_PLAIN) {
        o.verify = KTLS_VERIFY_REQUIRE;
        o.peer_user = KTLS_PEER_USER_CN;
    }
    if (c->role == KTLS_CLIENT && c->resume) o.session_reuse = 2;
    if (c->ops & OP_LIMIT) o.rekey_after_records = 8;
    return o;
}

static int new_own_ctx(const struct cycle *c, struct ktls_ctx **ret, char *err, size_t errlen) {
    struct ktls_ctx_opts o = cycle_opts(c);
    const struct ktls_sni_cert named[] = { { "other.test", { pki.client_cert, pki.client_key, NULL } } };
    struct ktls_tickets_opts t = { .size = sizeof t, .path = ring_file };
    use_suite(&o, c->version, c->cipher);
    o.groups = "?X25519MLKEM768:X25519:P-256";
    o.chacha = c->up % 2 ? KTLS_CHACHA_FIRST : KTLS_CHACHA_AUTO;
    o.ca_dir = pki.dir;
    o.keylog_file = keylog_file;
    if (c->role == KTLS_CLIENT) {
        o.cert_file = pki.client_cert;
        o.key_file = pki.client_key;
        return LIB(ktls_ctx_new(&o, ret, err, errlen));
    }
    o.sni_certs = named;
    o.n_sni_certs = 1;
    int r = LIB(ktls_tickets_new(&t, &o.tickets, err, errlen));
    if (r == 0) r = LIB(ktls_ctx_new(&o, ret, err, errlen));
    LIB(ktls_tickets_unref(o.tickets));
    return r;
}

static struct ktls_ctx *shared_ctx(const struct cycle *c) {
    struct ktls_ctx **place = &shared[c->role][c->policy][c->resume][c->trust];
    struct ktls_ctx_opts o = cycle_opts(c);
    if (!*place) *place = LIB(new_ctx(&o));
    return *place;
}

static void free_shared(void) {
    struct ktls_ctx **all = &shared[0][0][0][0];
    for (size_t i = 0; i < sizeof shared / sizeof *all; i++) all[i] = LIB(ktls_ctx_unref(all[i]));
}

/* ---- One cycle ---- */

static int count_fds(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

/* What may come out of it. */
static void check_outcome(struct cycle *c) {
    int r = c->result, err = c->fault.err;
    bool hit = fault_hits > 0, noticed = hit && err != EINTR && err != FAULT_SHORT;
    bool is_alloc = c->fault.kind == FAULT_ALLOC || c->fault.kind == FAULT_OWN_ALLOC;
    if (c->fault.kind == FAULT_PEER) noticed = hit;
    if (c->done && r < 0) WRONG(c, "%s gave %s, and the connection came to its good end", c->step, ktls_strerror(r));
    if (c->trust == TRUST_BAD && r >= 0) WRONG(c, "a peer that is not to be trusted was no error");
    if (r >= 0 || c->wrong[0]) return;
    if (c->trust == TRUST_BAD && r == KTLS_EVERIFY) return;
    if (c->version == TLS1_2_VERSION || kernel.rekey) { /* keys cannot be changed */
        if (c->ops & OP_LIMIT && r == KTLS_ERECORDLIMIT) return;
        if (c->ops & (OP_PEER_KEY_UPDATE | OP_LIMIT) && r == KTLS_EKEYUPDATE) return;
    }
    if (!noticed) WRONG(c, "%s gave %s without a cause", c->step, ktls_strerror(r));
    /* OpenSSL does not say it, and has looked into the directory of CAs since: errno is the directory's. */
    if (noticed && is_alloc && c->fresh_ctx && (r == KTLS_ECONFIG || r == KTLS_EPROTOCOL || r == KTLS_EVERIFY)) return;
    if (noticed && is_alloc && r != -ENOMEM) WRONG(c, "no memory, and %s gave %s", c->step, ktls_strerror(r));
    if (noticed && err == EAGAIN && r != -EIO) WRONG(c, "EAGAIN, and %s gave %s", c->step, ktls_strerror(r));
}

static void run_cycle(struct cycle *c) {
    char err[256] = "";
    int fds = count_fds();
    forget_needles();
    secrets_freed = 0;
    alarm(120);
    c->ctx = c->fresh_ctx ? NULL : shared_ctx(c);
    fault_arm(c->fault);
    if (c->fresh_ctx) {
        int r = took(c, "ktls_ctx_new", new_own_ctx(c, &c->ctx, err, sizeof err));
        if (r < 0 && c->ctx) WRONG(c, "ktls_ctx_new failed and gave a context");
        if (r == KTLS_ECONFIG && !err[0]) WRONG(c, "ktls_ctx_new does not say what is wrong");
        /* Rarely OpenSSL makes a key without the memory for all of it, and finds it too small when errno is another's. */
        if (r == KTLS_ECONFIG && !strstr(err, "key too small")) WRONG(c, "ktls_ctx_new: %s", err);
    }
    if (c->ctx) run_connection(c);
    if (c->fresh_ctx) LIB(ktls_ctx_unref(c->ctx));
    fault.kind = FAULT_NONE;
    alarm(0);
    check_outcome(c);
    if (secrets_freed) WRONG(c, "%s in freed memory, at %zu of %zu bytes", secret_name, secret_at, secret_block);
    if (count_fds() != fds) WRONG(c, "%d descriptors more than before", count_fds() - fds);
}

/* ---- Which cycles: moved through, call by call ---- */

static const struct cycle bases[] = {
    { .up = 300, .down = 700 },
    { .up = 300, .down = 701, .resume = true },
    { .up = 20001, .down = 17000, .fresh_ctx = true },
    { .up = 301, .down = 700, .ops = OP_KEY_UPDATE | OP_HANDOFF },
    { .up = 300, .down = 701, .ops = OP_PEER_KEY_UPDATE | OP_KEY_UPDATE | OP_HANDOFF, .resume = true },
    { .up = 20000, .down = 300, .policy = KTLS_POLICY_OFF, .ops = OP_MEM | OP_WRITEV | OP_KEY_UPDATE },
    { .up = 40000, .down = 40000, .policy = KTLS_POLICY_OFF, .ops = OP_WRITEV | OP_PEER_KEY_UPDATE },
    { .up = 300, .down = 301, .trust = TRUST_CERT },
    { .up = 300, .down = 300, .trust = TRUST_BAD },
    { .up = 45000, .down = 30000, .fresh_ctx = true, .ops = OP_LIMIT | OP_WRITEV },
    /* Half offload; where the kernel cannot, it would be userspace again. */
    { .up = 20000, .down = 17001, .policy = KTLS_POLICY_TX, .ops = OP_WRITEV },
    { .up = 301, .down = 700, .policy = KTLS_POLICY_TX, .ops = OP_KEY_UPDATE | OP_PEER_KEY_UPDATE, .resume = true },
    { .up = 300, .down = 20000, .policy = KTLS_POLICY_TX, .ops = OP_MEM | OP_KEY_UPDATE | OP_PEER_KEY_UPDATE },
    { .up = 300, .down = 301, .policy = KTLS_POLICY_TX, .trust = TRUST_CERT, .fresh_ctx = true },
    { .up = 45000, .down = 30000, .policy = KTLS_POLICY_TX, .fresh_ctx = true, .ops = OP_LIMIT | OP_MEM },
};
#define N_BASES (sizeof bases / sizeof bases[0] * 4)
#define N_BASES_TX (5u * 4)

static unsigned n_bases = N_BASES;
static unsigned base_calls[N_BASES][FAULT_N_KINDS]; /* in the connection without a fault */

static struct cycle base(unsigned i) {
    struct cycle c = bases[i / 4];
    c.role = i & 1 ? KTLS_CLIENT : KTLS_SERVER;
    c.version = i & 2 ? TLS1_2_VERSION : TLS1_3_VERSION;
    return c;
}

static uint64_t random_at(uint64_t n) { /* SplitMix64 */
    uint64_t z = (seed << 32) + n * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* The points of one kind of fault in all bases, one after the other. */
static uint64_t n_points(enum fault_kind kind) {
    uint64_t n = 0;
    for (unsigned i = 0; i < n_bases; i++) n += base_calls[i][kind] * errors[kind].n;
    return n;
}

static struct cycle point(enum fault_kind kind, uint64_t n) {
    unsigned i = 0;
    while (n >= base_calls[i][kind] * errors[kind].n) n -= base_calls[i++][kind] * errors[kind].n;
    struct cycle c = base(i);
    c.fault = (struct fault){ kind, (unsigned)(n / errors[kind].n) + 1, 1, errors[kind].err[n % errors[kind].n] };
    return c;
}

/* ---- Which cycles: at random ---- */

static struct cycle random_cycle(unsigned index) {
    uint64_t at = (uint64_t)index << 8;
#define PICK(n) (random_at(at++) % (n))
    unsigned i = (unsigned)PICK(n_bases);
    struct cycle c = base(i);
    c.cipher = (int)PICK(KTLS_N_CIPHERS);
    c.ops ^= PICK(3) == 0 ? 1u << PICK(6) : 0;
    if (c.ops & OP_LIMIT) c.fresh_ctx = true;
    if (c.ops & OP_MEM && c.policy != KTLS_POLICY_TX) c.policy = KTLS_POLICY_OFF;
    if (PICK(4) == 0) c.up = PICK(DATA_MAX) + 1;
    if (PICK(4) == 0) c.down = PICK(DATA_MAX) + 1;
    if (PICK(8) == 0) return c; /* none: what the others left must not harm it */
    c.fault.kind = (enum fault_kind)(1 + PICK(FAULT_N_KINDS - 1));
    unsigned calls = base_calls[i][c.fault.kind];
    c.fault.at = 1 + (unsigned)PICK(calls + calls / 4 + 2);
    c.fault.times = PICK(3) ? 1 : PICK(2) ? 2 + (unsigned)PICK(3) : UINT32_MAX;
    c.fault.err = errors[c.fault.kind].err[PICK(errors[c.fault.kind].n)];
    if (c.fault.err == EINTR || c.fault.err == EAGAIN || c.fault.err == EIO)
        c.fault.times = c.fault.times > 4 ? 4 : c.fault.times; /* for ever would be a socket that never works */
    return c;
#undef PICK
}

/* ---- The plan ---- */

static const enum fault_kind rare[] = { FAULT_OWN_ALLOC, FAULT_SETSOCKOPT, FAULT_GETSOCKOPT, FAULT_RECV,
                                        FAULT_SEND,      FAULT_RECVMSG,    FAULT_SENDMSG,    FAULT_PEER };

/* Cycle number index of n_cycles: a quarter moves through the rare calls, a quarter through the allocations. */
static struct cycle plan(unsigned index) {
    unsigned quarter = n_cycles / 4;
    if (index >= 2 * quarter) return random_cycle(index);
    uint64_t all = 0, offset = random_at(index < quarter);
    if (index >= quarter) {
        all = n_points(FAULT_ALLOC);
        return point(FAULT_ALLOC, ((uint64_t)(index - quarter) * all / quarter + offset % (all / quarter + 1)) % all);
    }
    for (size_t k = 0; k < sizeof rare / sizeof rare[0]; k++) all += n_points(rare[k]);
    uint64_t n = ((uint64_t)index * all / quarter + offset % (all / quarter + 1)) % all;
    size_t k = 0;
    while (n >= n_points(rare[k])) n -= n_points(rare[k++]);
    return point(rare[k], n);
}

/* ---- Running them ---- */

static unsigned n_half; /* cycles in mode TX */
static struct tally { unsigned cycles, hit, good, failed, wrong; } tally[FAULT_N_KINDS];

static void count_cycle(const struct cycle *c) {
    struct tally *t = &tally[c->fault.kind];
    n_half += c->mode == KTLS_MODE_TX;
    t->cycles++;
    t->hit += fault_hits > 0;
    t->good += c->done;
    t->failed += c->result < 0;
    t->wrong += c->wrong[0] != 0;
}

static void tell_wrong(const struct cycle *c, unsigned index) {
    char text[300];
    describe(c, text, sizeof text);
    print_message(
        "cycle %u: %s\n    %s (%s gave %s: %s)\n    again: KTLS_FAULT_CYCLES=%u KTLS_FAULT_SEED=%llu KTLS_FAULT_ONLY=%u\n", index,
        c->wrong, text, c->step ? c->step : "nothing", ktls_strerror(c->result), c->text, n_cycles, (unsigned long long)seed,
        index);
    if (secrets_freed) print_trace(secret_trace, secret_depth);
}

/* Returns how many blocks more than before the library has afterwards. */
static unsigned run_batch(unsigned from, unsigned to, bool counts) {
    uint64_t number = n_allocated;
    unsigned before = n_blocks;
    for (unsigned i = from; i < to; i++) {
        struct cycle c = plan(i);
        run_cycle(&c);
        if (!counts) continue;
        count_cycle(&c);
        if (c.wrong[0]) tell_wrong(&c, i);
    }
    free_shared();
    OPENSSL_thread_stop(); /* texts of errors, in the thread's queue */
    ERR_clear_error();
    unsigned left = n_blocks > before ? n_blocks - before : 0;
    if (left > 0 && fault_trace) print_blocks_since(number, 8);
    return left;
}

/* What OpenSSL makes once and keeps is left behind once, or a few times: it empties its caches now and then. What is left behind
 * each time is lost. */
static unsigned run_checked(unsigned from, unsigned to) {
    unsigned lost = run_batch(from, to, true);
    for (int again = 0; again < 3 && lost > 0; again++) lost = run_batch(from, to, false);
    if (lost == 0) return 0;
    bool trace = fault_trace;
    trace_blocks();
    lost = run_batch(from, to, false);
    fault_trace = trace;
    if (lost > 0) print_message("cycles %u to %u leave %u blocks behind each time they are run\n", from, to - 1, lost);
    return lost;
}

/* Without faults: counts the calls, and fills what is filled once. */
static void calibrate(void) {
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < n_bases; i++) {
            struct cycle c = base(i);
            run_cycle(&c);
            if (c.wrong[0] && round > 0) tell_wrong(&c, 0);
            if (round > 0) assert_int_equal(c.wrong[0], 0);
            if (c.policy == KTLS_POLICY_TX) assert_int_equal(c.mode, KTLS_MODE_TX);
            memcpy(base_calls[i], fault_calls, sizeof fault_calls);
        }
    }
    free_shared();
    OPENSSL_thread_stop();
    ERR_clear_error();
}

static void print_tally(void) {
    print_message("%-10s %8s %8s %8s %8s %8s\n", "fault", "cycles", "hit", "good end", "error", "wrong");
    for (int k = 0; k < FAULT_N_KINDS; k++)
        if (tally[k].cycles)
            print_message("%-10s %8u %8u %8u %8u %8u\n", fault_kind_name[k], tally[k].cycles, tally[k].hit, tally[k].good,
                          tally[k].failed, tally[k].wrong);
    print_message("%u of them reached half offload\n", n_half);
}

static void test_faults_cycles(void **state) {
    (void)state;
    SKIP_IF_OFF();
    unsigned lost = 0, wrong = 0, from = 0, to = n_cycles;
    calibrate();
    uint64_t all = 0;
    for (int k = 1; k < FAULT_N_KINDS; k++) all += n_points((enum fault_kind)k);
    print_message("seed %llu, %u cycles; %u connections have %llu points of failure; kernel TLS: %s\n", (unsigned long long)seed,
                  n_cycles, n_bases, (unsigned long long)all, kernel.usable ? "yes" : "no");
    if (only >= 0) {
        from = (unsigned)only;
        to = from + 1;
    }
    for (; from < to; from += BATCH) lost += run_checked(from, from + BATCH < to ? from + BATCH : to);
    print_tally();
    for (int k = 0; k < FAULT_N_KINDS; k++) wrong += tally[k].wrong;
    assert_int_equal(wrong, 0);
    assert_int_equal(lost, 0);
}

/* ---- The first connection of a process ---- */

/* In a process of its own: 0 all is well, 1 it is not, 2 there is no n-th allocation. */
static int first_connection(unsigned n) {
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    struct ktls_ctx *ctx = new_ctx(&o);
    struct ktls_conn *conn = NULL;
    int fd[2];
    tcp_pair(fd);
    fault_arm((struct fault){ FAULT_ALLOC, n, 1, ENOMEM });
    LIB(ktls_conn_new(ctx, fd[1], NULL, &conn));
    conn = ktls_conn_free(conn);
    bool hit = fault_hits > 0;
    int r = ktls_conn_new(ctx, fd[1], NULL, &conn);
    ktls_conn_free(conn);
    ktls_ctx_unref(ctx);
    return !hit ? 2 : r < 0 ? 1 : 0;
}

/* What is made once, with the first connection, is made with the second if there was no memory for it. */
static void test_faults_first_connection(void **state) {
    int status = 0;
    (void)state;
    SKIP_IF_OFF();
    BIO_get_new_index(); /* OpenSSL's own "once" is never tried again */
    for (unsigned n = 1; WEXITSTATUS(status) == 0; n++) {
        assert_true(n < 1000);
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) _exit(first_connection(n));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 1)
            print_message("after allocation %u failed in the first connection, no other can be made\n", n);
        assert_int_not_equal(WEXITSTATUS(status), 1);
    }
}

static void on_alarm(int sig) {
    static const char text[] = "test_faults: a cycle hangs\n";
    (void)sig;
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    abort();
}

static void read_environment(void) {
    const char *e = getenv("KTLS_FAULT_CYCLES");
    if (e && atoi(e) >= 4) n_cycles = (unsigned)atoi(e);
    if ((e = getenv("KTLS_FAULT_SEED"))) seed = strtoull(e, NULL, 10);
    if (e && strcmp(e, "random") == 0 && getrandom(&seed, 4, 0) != 4) seed = 1;
    if ((e = getenv("KTLS_FAULT_ONLY"))) only = atol(e);
    if (getenv("KTLS_FAULT_TRACE")) trace_blocks();
    search_freed = getenv("KTLS_FAULT_NO_SEARCH") == NULL;
}

static int setup(void **state) {
    uint8_t key[80];
    setup_pki(state);
    signal(SIGALRM, on_alarm);
    snprintf(ring_file, sizeof ring_file, "%s/ring", pki.dir);
    snprintf(keylog_file, sizeof keylog_file, "%s/keylog", pki.dir);
    FILE *f = fopen(ring_file, "w");
    assert_int_equal(getrandom(key, sizeof key, 0), sizeof key);
    fwrite(key, 1, sizeof key, f);
    fclose(f);
    ktls_probe(&kernel);
    if (!kernel.usable) n_bases -= N_BASES_TX;
    return 0;
}

static int teardown(void **state) {
    free_peer_contexts();
    unlink(ring_file);
    unlink(keylog_file);
    return teardown_pki(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_faults_first_connection), /* before there was another */
        cmocka_unit_test(test_faults_cycles),
    };
    fault_setup();
    read_environment();
    return cmocka_run_group_tests(tests, setup, teardown);
}
