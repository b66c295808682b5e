/*
 * What this kernel can do with TLS, found by doing it.
 *
 * Place in the flow: once, when the first context is made; every connection's decision reads the cached answer. An answer that is
 * for want of memory or descriptors is not kept. Any thread; a mutex guards the cache.
 *
 * For each version and cipher a loopback TCP pair is made. One end gets test keys for both directions; the other end stays plain
 * and plays the peer with ktls_seal.c: it opens the record the kernel sent, and sends a record for the kernel to open. So a
 * kernel that accepts a setsockopt and then cannot encrypt (a missing crypto module), or encrypts wrongly, is found out.
 */
#include "ktls_internal.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define PROBE_WAIT_MS 1000 /* loopback answers at once; this only ends a probe that would hang */

/* ---- A loopback pair ---------------------------------------------------------------------------------------------------------
 */

struct pair {
    int kernel; /* the end that gets keys */
    int plain;  /* the peer */
};

static int listen_loopback(struct sockaddr_in *ret_addr) {
    socklen_t len = sizeof *ret_addr;
    *ret_addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    if (bind(fd, (struct sockaddr *)ret_addr, len) == 0 && listen(fd, 4) == 0 &&
        getsockname(fd, (struct sockaddr *)ret_addr, &len) == 0)
        return fd;
    int r = -errno;
    close(fd);
    return r;
}

static void close_pair(struct pair *p) {
    if (p->kernel >= 0) close(p->kernel);
    if (p->plain >= 0) close(p->plain);
}

/* Anybody on the host may connect to the listener: only the connection from our own port is taken. */
static int accept_own(int listener, int connecting) {
    struct sockaddr_in want = { 0 }, got = { 0 };
    socklen_t len = sizeof want;
    if (getsockname(connecting, (struct sockaddr *)&want, &len) < 0) return -errno;
    for (int tries = 0; tries < 8; tries++) {
        struct pollfd pfd = { .fd = listener, .events = POLLIN };
        if (poll(&pfd, 1, PROBE_WAIT_MS) <= 0) return -ETIMEDOUT;
        len = sizeof got;
        int fd = accept4(listener, (struct sockaddr *)&got, &len, SOCK_CLOEXEC);
        if (fd < 0) return -errno;
        if (got.sin_port == want.sin_port && got.sin_addr.s_addr == want.sin_addr.s_addr) return fd;
        close(fd);
    }
    return -ETIMEDOUT;
}

static int make_pair(int listener, const struct sockaddr_in *addr, struct pair *ret) {
    *ret = (struct pair){ -1, -1 };
    int r = 0;
    ret->kernel = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (ret->kernel < 0 || connect(ret->kernel, (const struct sockaddr *)addr, sizeof *addr) < 0) r = -errno;
    if (r == 0) {
        r = accept_own(listener, ret->kernel);
        if (r >= 0) {
            ret->plain = r;
            return 0;
        }
    }
    close_pair(ret);
    return r;
}

/* Reads exactly len bytes before the wait is over. */
static int read_full(int fd, uint8_t *buf, size_t len) {
    for (size_t got = 0; got < len;) {
        struct pollfd pfd = { .fd = fd, .events = POLLIN };
        if (poll(&pfd, 1, PROBE_WAIT_MS) <= 0) return -ETIMEDOUT;
        ssize_t n = recv(fd, buf + got, len - got, MSG_DONTWAIT);
        if (n < 0) return -errno;
        if (n == 0) return -ECONNRESET;
        got += (size_t)n;
    }
    return 0;
}

/* ---- One version, one cipher ---- */

struct suite {
    enum ktls_version version;
    enum ktls_cipher cipher;
    struct ktls_keys keys[KTLS_N_DIRS];
    uint64_t seq[KTLS_N_DIRS];
};

static const uint8_t message[] = "libktls probe: one record of data";

static void make_suite(struct suite *s, enum ktls_version version, enum ktls_cipher cipher, uint8_t salt) {
    *s = (struct suite){ .version = version, .cipher = cipher };
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) {
        size_t iv_len = version == KTLS_TLS12 && cipher != KTLS_CHACHA20_POLY1305 ? 4 : KTLS_IV_LEN;
        for (size_t i = 0; i < ktls_cipher_key_len(cipher); i++) s->keys[dir].key[i] = (uint8_t)(salt + 17 * dir + i);
        for (size_t i = 0; i < iv_len; i++) s->keys[dir].iv[i] = (uint8_t)(salt ^ (91 * dir + 5 * i));
        s->seq[dir] = salt; /* not 0, so that a sequence number that is ignored shows */
    }
}

static int set_key(const struct pair *p, const struct suite *s, enum ktls_dir dir) {
    return ktls_kernel_set_key(p->kernel, dir, s->version, s->cipher, &s->keys[dir], s->seq[dir]);
}

/* The kernel encrypts, we open. 0 or -errno. */
static int check_tx(const struct pair *p, struct suite *s) {
    uint8_t rec[sizeof message + KTLS_SEAL_OVERHEAD] = { 0 }, text[sizeof rec], type;
    ssize_t n = send(p->kernel, message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) return -errno;
    int r = read_full(p->plain, rec, KTLS_RECORD_HEADER);
    size_t body = (size_t)rec[3] << 8 | rec[4];
    if (r == 0 && body > sizeof rec - KTLS_RECORD_HEADER) r = -EBADMSG;
    if (r == 0) r = read_full(p->plain, rec + KTLS_RECORD_HEADER, body);
    if (r < 0) return r;
    n = ktls_open(s->version, s->cipher, &s->keys[KTLS_TX], s->seq[KTLS_TX]++, rec, KTLS_RECORD_HEADER + body, text, &type);
    if (n != sizeof message || type != KTLS_CT_DATA || memcmp(text, message, sizeof message) != 0) return -EBADMSG;
    return 0;
}

static int send_sealed(const struct pair *p, struct suite *s, uint8_t type, const uint8_t *data, size_t len) {
    uint8_t rec[sizeof message + 301 + KTLS_SEAL_OVERHEAD];
    ssize_t n = ktls_seal(s->version, s->cipher, &s->keys[KTLS_RX], s->seq[KTLS_RX]++, type, data, len, rec);
    if (n < 0) return (int)n;
    return send(p->plain, rec, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -EIO;
}

/* We encrypt, the kernel opens. */
static int check_rx(const struct pair *p, struct suite *s) {
    uint8_t text[sizeof message];
    int r = send_sealed(p, s, KTLS_CT_DATA, message, sizeof message);
    if (r == 0) r = read_full(p->kernel, text, sizeof text);
    if (r < 0) return r;
    return memcmp(text, message, sizeof message) == 0 ? 0 : -EBADMSG;
}

/* ---- What goes beyond ---- */

static int check_rekey_tx(const struct pair *p, struct suite *s, const struct suite *next) {
    s->keys[KTLS_TX] = next->keys[KTLS_TX];
    s->seq[KTLS_TX] = 0;
    int r = set_key(p, s, KTLS_TX);
    return r < 0 ? r : check_tx(p, s);
}

/* As on a real connection: a KeyUpdate record under the old key, then the new key, then data under it. */
static int check_rekey_rx(const struct pair *p, struct suite *s, const struct suite *next) {
    static const uint8_t key_update[5] = { KTLS_HS_KEY_UPDATE, 0, 0, 1, 0 };
    uint8_t buf[64], type = 0;
    struct pollfd pfd = { .fd = p->kernel, .events = POLLIN };
    int r = send_sealed(p, s, KTLS_CT_HANDSHAKE, key_update, sizeof key_update);
    if (r < 0) return r;
    if (poll(&pfd, 1, PROBE_WAIT_MS) <= 0) return -ETIMEDOUT;
    ssize_t n = ktls_kernel_recv_control(p->kernel, buf, sizeof buf, &type);
    if (n != sizeof key_update || type != KTLS_CT_HANDSHAKE) return n < 0 ? (int)n : -EBADMSG;
    s->keys[KTLS_RX] = next->keys[KTLS_RX];
    s->seq[KTLS_RX] = 0;
    r = set_key(p, s, KTLS_RX);
    return r < 0 ? r : check_rx(p, s);
}

/* One record went each way since the keys were set. */
static int check_read_seq(const struct pair *p, const struct suite *s) {
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) {
        uint64_t seq;
        int r = ktls_kernel_get_seq(p->kernel, (enum ktls_dir)dir, s->version, s->cipher, &seq);
        if (r < 0) return r;
        if (seq != s->seq[dir]) return -EBADMSG;
    }
    return 0;
}

/* Padded records, and what is between them, must come out right, read at once and with room for more: Linux 6.1 loses its place
 * in the reader's buffer over a padded one. */
static int check_no_padding(const struct pair *p, struct suite *s) {
    static const size_t padding[] = { 0, 1, 0, 16, 300, 0 };
    enum { N = sizeof padding / sizeof *padding };
    uint8_t text[sizeof message + 300], back[4096];
    size_t got = 0;
    int r = ktls_kernel_expect_no_padding(p->kernel);
    for (int i = 0; r == 0 && i < N; i++) {
        memset(text, 0, sizeof text);
        memcpy(text, message, sizeof message);
        if (padding[i])
            text[sizeof message] = KTLS_CT_DATA; /* the type that is put behind it all is the last byte of the padding */
        r = send_sealed(p, s, padding[i] ? 0 : KTLS_CT_DATA, text, sizeof message + padding[i]);
    }
    while (r == 0 && got < N * sizeof message) {
        struct pollfd pfd = { .fd = p->kernel, .events = POLLIN };
        if (poll(&pfd, 1, PROBE_WAIT_MS) <= 0) return -ETIMEDOUT;
        ssize_t n = recv(p->kernel, back + got, sizeof back - got, MSG_DONTWAIT);
        if (n <= 0) return n < 0 ? -errno : -EBADMSG;
        got += (size_t)n;
    }
    for (int i = 0; r == 0 && i < N; i++)
        if (memcmp(back + (size_t)i * sizeof message, message, sizeof message) != 0) r = -EBADMSG;
    return r == 0 && got != N * sizeof message ? -EBADMSG : r;
}

static void check_extras(const struct pair *p, struct suite *s, struct ktls_probe *ret) {
    ret->read_seq = -check_read_seq(p, s);
    struct suite next;
    make_suite(&next, s->version, s->cipher, 77);
    int r = check_rekey_tx(p, s, &next);
    if (r == 0) r = check_rekey_rx(p, s, &next);
    ret->rekey = -r;
    ret->expect_no_pad = -check_no_padding(p, s); /* the last one: a kernel that garbles may leave anything behind */
}

/* ---- All of it ---- */

static void probe_suite(const struct pair *p, enum ktls_version version, enum ktls_cipher cipher, struct ktls_probe *ret) {
    struct suite s;
    int *got = ret->result[version][cipher];
    make_suite(&s, version, cipher, 3);
    int rx = set_key(p, &s, KTLS_RX), tx = set_key(p, &s, KTLS_TX);
    if (tx == 0) tx = check_tx(p, &s);
    if (rx == 0) rx = check_rx(p, &s);
    got[KTLS_TX] = -tx;
    got[KTLS_RX] = -rx;
    if (tx < 0 || rx < 0) return;
    ret->usable = 1;
    if (version == KTLS_TLS13 && ret->rekey == ENOTSUP) check_extras(p, &s, ret); /* with the first that works */
}

static enum ktls_reason reason_of(int err) {
    if (err == EPERM || err == EACCES) return KTLS_REASON_PERMISSION;
    return err == ENOENT ? KTLS_REASON_NO_ULP : KTLS_REASON_SETSOCKOPT;
}

static void set_all(struct ktls_probe *ret, int err) {
    int *p = &ret->result[0][0][0];
    for (size_t i = 0; i < sizeof ret->result / sizeof *p; i++) p[i] = err;
    ret->err = ret->rekey = ret->expect_no_pad = ret->read_seq = err;
    ret->reason = reason_of(err);
    ret->usable = 0;
}

static void finish(struct ktls_probe *ret) {
    if (ret->usable) {
        ret->reason = KTLS_REASON_NONE;
        ret->err = 0;
        return;
    }
    ret->reason = KTLS_REASON_CIPHER; /* the ULP is there, and not one suite works */
    ret->err = ret->result[KTLS_TLS12][KTLS_AES_128_GCM][KTLS_RX];
    if (!ret->err) ret->err = ret->result[KTLS_TLS12][KTLS_AES_128_GCM][KTLS_TX];
}

static int probe_kernel(struct ktls_probe *ret) {
    struct sockaddr_in addr;
    struct utsname uts;
    memset(ret, 0, sizeof *ret);
    ret->rekey = ret->expect_no_pad = ret->read_seq = ENOTSUP;
    if (uname(&uts) == 0) memcpy(ret->kernel, uts.release, strnlen(uts.release, sizeof ret->kernel - 1));
    int listener = listen_loopback(&addr);
    if (listener < 0) {
        set_all(ret, -listener);
        return listener;
    }
    int r = 0;
    for (int i = 0; r == 0 && i < KTLS_N_VERSIONS * KTLS_N_CIPHERS; i++) {
        struct pair p;
        r = make_pair(listener, &addr, &p);
        if (r < 0) break;
        int attached = ktls_kernel_attach(p.kernel);
        if (attached == 0) probe_suite(&p, (enum ktls_version)(i / KTLS_N_CIPHERS), (enum ktls_cipher)(i % KTLS_N_CIPHERS), ret);
        close_pair(&p);
        if (attached < 0) {
            set_all(ret, -attached);
            close(listener);
            return 0;
        }
    }
    close(listener);
    if (r < 0)
        set_all(ret, -r);
    else
        finish(ret);
    return r;
}

/* ---- The cache ---- */

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ktls_probe cache;
static int cache_result;
static bool cached;

/* What says nothing about the kernel: this process, or this machine, was short of something at the moment. */
static bool passes(int err) {
    switch (err) {
    case ENOMEM:
    case ENOBUFS:
    case EMFILE:
    case ENFILE:
    case EINTR:
    case EAGAIN:
    case EADDRNOTAVAIL:
    case ETIMEDOUT:
    case ECONNRESET:
        return true;
    default:
        return false;
    }
}

static bool is_lasting(const struct ktls_probe *p, int r) {
    const int *one = &p->result[0][0][0];
    if (r < 0 || passes(p->rekey) || passes(p->expect_no_pad) || passes(p->read_seq)) return false;
    for (size_t i = 0; i < sizeof p->result / sizeof *one; i++)
        if (passes(one[i])) return false;
    return true;
}

/* An answer that may be another one a moment later is not kept: the next connection asks again. */
static int probe_cached(struct ktls_probe *ret, bool again) {
    pthread_mutex_lock(&cache_lock);
    if (again || !cached) {
        cache_result = probe_kernel(&cache);
        cached = is_lasting(&cache, cache_result);
    }
    *ret = cache;
    int r = cache_result;
    pthread_mutex_unlock(&cache_lock);
    return r;
}

int ktls_probe(struct ktls_probe *ret) {
    return probe_cached(ret, false);
}

int ktls_probe_again(struct ktls_probe *ret) {
    return probe_cached(ret, true);
}
