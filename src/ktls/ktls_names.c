/*
 * Names of results, alerts and reasons, what an operator can do about a reason, and the counters of the process.
 * Place in the flow: leaf; any thread. Counters are relaxed atomics: each is right, a set of them is not one moment's picture.
 */
#include "ktls_internal.h"

#include <string.h>

const char *ktls_strerror(int err) {
    switch (err) {
    case KTLS_DONE:
        return "KTLS_DONE";
    case KTLS_WANT_READ:
        return "KTLS_WANT_READ";
    case KTLS_WANT_WRITE:
        return "KTLS_WANT_WRITE";
    case KTLS_EOF:
        return "KTLS_EOF";
    case KTLS_EALERT:
        return "KTLS_EALERT";
    case KTLS_EPROTOCOL:
        return "KTLS_EPROTOCOL";
    case KTLS_EVERIFY:
        return "KTLS_EVERIFY";
    case KTLS_ENOTTLS:
        return "KTLS_ENOTTLS";
    case KTLS_ETRUNCATED:
        return "KTLS_ETRUNCATED";
    case KTLS_EKEYUPDATE:
        return "KTLS_EKEYUPDATE";
    case KTLS_ENOKTLS:
        return "KTLS_ENOKTLS";
    case KTLS_ECONFIG:
        return "KTLS_ECONFIG";
    case KTLS_ERECORDLIMIT:
        return "KTLS_ERECORDLIMIT";
    default:
        break;
    }
    const char *name = err < 0 && err > -4096 ? strerrorname_np(-err) : NULL;
    return name ? name : "unknown";
}

static const struct {
    int alert;
    const char *name;
} alerts[] = {
    { 0, "close_notify" },
    { 10, "unexpected_message" },
    { 20, "bad_record_mac" },
    { 21, "decryption_failed" },
    { 22, "record_overflow" },
    { 30, "decompression_failure" },
    { 40, "handshake_failure" },
    { 41, "no_certificate" },
    { 42, "bad_certificate" },
    { 43, "unsupported_certificate" },
    { 44, "certificate_revoked" },
    { 45, "certificate_expired" },
    { 46, "certificate_unknown" },
    { 47, "illegal_parameter" },
    { 48, "unknown_ca" },
    { 49, "access_denied" },
    { 50, "decode_error" },
    { 51, "decrypt_error" },
    { 60, "export_restriction" },
    { 70, "protocol_version" },
    { 71, "insufficient_security" },
    { 80, "internal_error" },
    { 86, "inappropriate_fallback" },
    { 90, "user_canceled" },
    { 100, "no_renegotiation" },
    { 109, "missing_extension" },
    { 110, "unsupported_extension" },
    { 111, "certificate_unobtainable" },
    { 112, "unrecognized_name" },
    { 113, "bad_certificate_status_response" },
    { 114, "bad_certificate_hash_value" },
    { 115, "unknown_psk_identity" },
    { 116, "certificate_required" },
    { 120, "no_application_protocol" },
};

const char *ktls_alert_name(int alert) {
    for (size_t i = 0; i < sizeof alerts / sizeof alerts[0]; i++)
        if (alerts[i].alert == alert) return alerts[i].name;
    return "unknown";
}

static const struct {
    const char *name, *remedy;
} reasons[KTLS_N_REASONS] = {
    [KTLS_REASON_NONE] = { "none", "" },
    [KTLS_REASON_POLICY] = { "policy", "Kernel TLS is switched off in the configuration." },
    [KTLS_REASON_NO_ULP] = { "no-ulp", "Load the module with 'modprobe tls' and make it permanent with 'echo tls > "
                                       "/etc/modules-load.d/tls.conf'; a kernel built without CONFIG_TLS cannot do it." },
    [KTLS_REASON_PERMISSION] = { "permission", "A seccomp filter or security module forbids setsockopt(TCP_ULP): allow it in the "
                                               "container's profile." },
    [KTLS_REASON_NOT_TCP] = { "not-tcp", "Kernel TLS works on TCP sockets only." },
    [KTLS_REASON_CIPHER] = { "cipher",
                             "Offer AES-GCM, ChaCha20-Poly1305 or AES-128-CCM suites, and have the kernel's modules for them "
                             "(gcm, ccm, chacha20poly1305)." },
    [KTLS_REASON_VERSION] = { "version", "Use TLS 1.2 or 1.3, and Linux 5.1 or later for TLS 1.3." },
    [KTLS_REASON_RECORD_LIMIT] = { "record-limit",
                                   "The peer asked for short records (max_fragment_length), which the kernel does not keep to." },
    [KTLS_REASON_SETSOCKOPT] = { "setsockopt",
                                 "The kernel refused this socket: see the errno; the peer may have closed already." },
    [KTLS_REASON_ADVISORY] = { "advisory", "This kernel has a known hole that a peer can use through kernel TLS: install the "
                                           "distribution's kernel update, or accept it in the configuration." },
    [KTLS_REASON_NO_REKEY] = { "no-rekey", "TLS 1.3 stays in userspace, as configured, on kernels that cannot change keys "
                                           "(before Linux 6.14)." },
};

const char *ktls_reason_name(enum ktls_reason reason) {
    return (unsigned)reason < KTLS_N_REASONS ? reasons[reason].name : "unknown";
}

const char *ktls_reason_remedy(enum ktls_reason reason) {
    return (unsigned)reason < KTLS_N_REASONS ? reasons[reason].remedy : "";
}

struct ktls_stats ktls_counters;

void ktls_stats(struct ktls_stats *ret) {
    _Static_assert(sizeof(struct ktls_stats) % sizeof(uint64_t) == 0, "all counters are uint64_t");
    const uint64_t *from = (const uint64_t *)&ktls_counters;
    uint64_t *to = (uint64_t *)ret;
    for (size_t i = 0; i < sizeof *ret / sizeof *to; i++) to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}
