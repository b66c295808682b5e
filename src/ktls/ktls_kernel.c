/*
 * Every system call that concerns kernel TLS: attaching it, giving it keys, control records in and out.
 * (Documentation/networking/tls.rst; net/tls/tls_main.c, tls_sw.c.)
 *
 * Place in the flow: called by the handshake at its end, by ktls_control.c afterwards, and by the probe. No state of its own; the
 * thread is the caller's. Nothing here blocks (MSG_DONTWAIT) and nothing raises SIGPIPE.
 */
#include "ktls_internal.h"

#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TLS_RX_EXPECT_NO_PAD
#define TLS_RX_EXPECT_NO_PAD 4
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

bool ktls_kernel_is_tcp(int fd) {
    int protocol = 0;
    socklen_t len = sizeof protocol;
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 && protocol == IPPROTO_TCP;
}

int ktls_kernel_attach(int fd) {
    if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") == 0 || errno == EEXIST) return 0;
    return -errno;
}

union crypto_info {
    struct tls_crypto_info info;
    struct tls12_crypto_info_aes_gcm_128 gcm128;
    struct tls12_crypto_info_aes_gcm_256 gcm256;
    struct tls12_crypto_info_aes_ccm_128 ccm128;
    struct tls12_crypto_info_chacha20_poly1305 chacha;
};

/* GCM and CCM: the nonce base is salt (4) and iv (8). TLS 1.3 has both from the key schedule; in TLS 1.2 the 8 bytes are the
 * explicit nonce the kernel writes next and counts up, which starts at the sequence number. */
#define FILL(s, id)                                                                                                              \
    do {                                                                                                                         \
        (s)->info.cipher_type = (id);                                                                                            \
        memcpy((s)->key, keys->key, sizeof(s)->key);                                                                             \
        memcpy((s)->salt, keys->iv, 4);                                                                                          \
        memcpy((s)->iv, version == KTLS_TLS13 ? keys->iv + 4 : rec_seq, 8);                                                      \
        memcpy((s)->rec_seq, rec_seq, 8);                                                                                        \
        return sizeof *(s);                                                                                                      \
    } while (0)

static socklen_t fill_info(union crypto_info *u, enum ktls_version version, enum ktls_cipher cipher, const struct ktls_keys *keys,
                           uint64_t seq) {
    uint8_t rec_seq[8];
    for (int i = 0; i < 8; i++) rec_seq[i] = (uint8_t)(seq >> (56 - 8 * i));
    memset(u, 0, sizeof *u);
    u->info.version = version == KTLS_TLS13 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
    switch (cipher) {
    case KTLS_AES_128_GCM:
        FILL(&u->gcm128, TLS_CIPHER_AES_GCM_128);
    case KTLS_AES_256_GCM:
        FILL(&u->gcm256, TLS_CIPHER_AES_GCM_256);
    case KTLS_AES_128_CCM:
        FILL(&u->ccm128, TLS_CIPHER_AES_CCM_128);
    case KTLS_CHACHA20_POLY1305:
        u->chacha.info.cipher_type = TLS_CIPHER_CHACHA20_POLY1305;
        memcpy(u->chacha.key, keys->key, sizeof u->chacha.key);
        memcpy(u->chacha.iv, keys->iv, sizeof u->chacha.iv); /* the whole nonce base, in both versions (RFC 7905 2) */
        memcpy(u->chacha.rec_seq, rec_seq, 8);
        return sizeof u->chacha;
    default:
        return 0;
    }
}

int ktls_kernel_set_key(int fd, enum ktls_dir dir, enum ktls_version version, enum ktls_cipher cipher,
                        const struct ktls_keys *keys, uint64_t seq) {
    union crypto_info u;
    socklen_t len = fill_info(&u, version, cipher, keys, seq);
    int r = 0;
    if (len == 0)
        r = -EINVAL;
    else if (setsockopt(fd, SOL_TLS, dir == KTLS_TX ? TLS_TX : TLS_RX, &u, len) < 0)
        r = -errno;
    OPENSSL_cleanse(&u, sizeof u);
    return r;
}

int ktls_kernel_expect_no_padding(int fd) {
    int one = 1;
    return setsockopt(fd, SOL_TLS, TLS_RX_EXPECT_NO_PAD, &one, sizeof one) < 0 ? -errno : 0;
}

static int cipher_type(enum ktls_cipher cipher) {
    union crypto_info u;
    static const struct ktls_keys none;
    return fill_info(&u, KTLS_TLS13, cipher, &none, 0) ? u.info.cipher_type : 0;
}

int ktls_kernel_check_key(int fd, enum ktls_dir dir, enum ktls_version version, enum ktls_cipher cipher) {
    char ulp[16] = "";
    struct tls_crypto_info info = { 0 };
    socklen_t len = sizeof ulp - 1;
    if (getsockopt(fd, IPPROTO_TCP, TCP_ULP, ulp, &len) < 0) return errno == EBADF ? -EBADF : -EPROTO;
    if (strcmp(ulp, "tls") != 0) return -EPROTO;
    len = sizeof info; /* only version and cipher: the key stays in the kernel */
    if (getsockopt(fd, SOL_TLS, dir == KTLS_TX ? TLS_TX : TLS_RX, &info, &len) < 0)
        return errno == ENOPROTOOPT ? 0 : -EPROTO; /* ENOPROTOOPT: a kernel that does not tell about this direction */
    int want = version == KTLS_TLS13 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
    return info.version == want && info.cipher_type == cipher_type(cipher) ? 0 : -EPROTO;
}

static const uint8_t *info_seq(const union crypto_info *u, enum ktls_cipher cipher, socklen_t *ret_len) {
    switch (cipher) {
    case KTLS_AES_128_GCM:
        *ret_len = sizeof u->gcm128;
        return u->gcm128.rec_seq;
    case KTLS_AES_256_GCM:
        *ret_len = sizeof u->gcm256;
        return u->gcm256.rec_seq;
    case KTLS_AES_128_CCM:
        *ret_len = sizeof u->ccm128;
        return u->ccm128.rec_seq;
    default:
        *ret_len = sizeof u->chacha;
        return u->chacha.rec_seq;
    }
}

/* The answer holds the key as well. */
int ktls_kernel_get_seq(int fd, enum ktls_dir dir, enum ktls_version version, enum ktls_cipher cipher, uint64_t *ret_seq) {
    union crypto_info u;
    socklen_t len, got;
    memset(&u, 0, sizeof u);
    const uint8_t *seq = info_seq(&u, cipher, &len);
    u.info.version = version == KTLS_TLS13 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
    got = len;
    int r = getsockopt(fd, SOL_TLS, dir == KTLS_TX ? TLS_TX : TLS_RX, &u, &got) < 0 ? -errno : 0;
    if (r == 0 && got != len) r = -EOPNOTSUPP;
    if (r == 0) {
        *ret_seq = 0;
        for (int i = 0; i < 8; i++) *ret_seq = *ret_seq << 8 | seq[i];
    }
    OPENSSL_cleanse(&u, sizeof u);
    return r;
}

/* A record that fails leaves its error on the socket, for sending too: the alert that tells the peer about it could not go out.
 */
void ktls_kernel_clear_error(int fd) {
    int err = 0;
    socklen_t len = sizeof err;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
}

int ktls_kernel_peek_control(int fd) {
    char byte;
    ssize_t n;
    do n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0 || errno == EAGAIN) return 0;
    return errno == EIO ? 1 : -errno; /* EIO: a record whose type has nowhere to go, since there is no control buffer */
}

/* The kernel's recv is over when the type of record changes, and then says 0 if the data records before were all of length zero:
 * the other record waits. */
int ktls_kernel_at_end(int fd) {
    char byte;
    ssize_t n;
    do n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n == 0) return 1;
    return n > 0 || errno == EAGAIN || errno == EIO ? 0 : -errno;
}

ssize_t ktls_kernel_recv_control(int fd, uint8_t *buf, size_t cap, uint8_t *ret_type) {
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(uint8_t))];
    } control;
    struct iovec iov = { buf, cap };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    ssize_t n;
    do n = recvmsg(fd, &msg, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (!c || c->cmsg_level != SOL_TLS || c->cmsg_type != TLS_GET_RECORD_TYPE) return n == 0 ? -ECONNRESET : -EIO;
    *ret_type = *CMSG_DATA(c);
    return n;
}

int ktls_kernel_send_control(int fd, uint8_t type, const uint8_t *data, size_t len) {
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(uint8_t))];
    } control;
    union {
        const uint8_t *in;
        void *out;
    } cast = { .in = data }; /* sendmsg does not write to it */
    struct iovec iov = { cast.out, len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_TLS;
    c->cmsg_type = TLS_SET_RECORD_TYPE;
    c->cmsg_len = CMSG_LEN(sizeof(uint8_t));
    *CMSG_DATA(c) = type;
    ssize_t n;
    do n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0) return -errno;
    return (size_t)n == len ? 0 : -EIO;
}
