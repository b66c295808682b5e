/*
 * The state that ktls_export() writes, taken apart: what the fuzz target and ktls_import() share. Pure: bytes in, fields out.
 */
#ifndef KTLS_HANDOFF_H
#define KTLS_HANDOFF_H

#include "ktls_internal.h"

#define KTLS_STATE_COUNTS 6

/* Borrowed from the buffer that was parsed. */
struct ktls_bytes {
    const uint8_t *data;
    size_t len;
};

struct ktls_handoff {
    unsigned role, tls_version, flags;
    uint16_t suite;
    uint8_t alert_in, alert_out;
    uint64_t count[KTLS_STATE_COUNTS];
    struct ktls_bytes secret[KTLS_N_DIRS];
    struct ktls_bytes name, peer_subject, half;
    /* Records that are not, or not all, the kernel's. */
    unsigned mode, reason;
    uint64_t seq[KTLS_N_DIRS];
    struct ktls_bytes part; /* of a record */
};

/* TLS 1.2 without the kernel: what stands for a secret is key and nonce base. */
#define KTLS_KEYS12_LEN (KTLS_KEY_MAX + KTLS_IV_LEN)

/* 0; -EINVAL: not such a state, or not whole; -EPROTONOSUPPORT: another format. */
int ktls_state_parse(const void *buf, size_t len, struct ktls_handoff *ret);
/* A connection of it, the socket not looked at. 0, -EINVAL (role, suite, secrets or half-read message do not fit), -ENOMEM. */
int ktls_conn_of_state(struct ktls_ctx *ctx, int fd, const struct ktls_handoff *s, struct ktls_conn **ret);

#endif
