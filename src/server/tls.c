/*
 * TLS contexts and their figures. New connections take a reference to the context of the moment; CONFIG SET puts a new one in its
 * place, and the old one lives until its last connection ends its handshake.
 */
#include "server/tls.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/alloc.h"
#include "base/log.h"

int tls_init(struct tls_state *t) {
    memset(t, 0, sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    t->handshake_us = hist_new();
    return ktls_probe(&t->probe);
}

void tls_done(struct tls_state *t) {
    t->ctx = ktls_ctx_unref(t->ctx);
    tls_tickets_use(t, NULL, NULL, 0, 0);
    hist_free(t->handshake_us);
    t->handshake_us = NULL;
    pthread_mutex_destroy(&t->lock);
}

int tls_parse_protocols(const char *text) {
    static const struct {
        const char *name;
        unsigned bit;
    } known[] = {
        { "TLSv1", KTLS_PROTO_TLS1 },
        { "TLSv1.1", KTLS_PROTO_TLS1_1 },
        { "TLSv1.2", KTLS_PROTO_TLS1_2 },
        { "TLSv1.3", KTLS_PROTO_TLS1_3 },
    };
    unsigned bits = 0;
    while (text && *text) {
        size_t n = strcspn(text, " \t,"), i;
        for (i = 0; n && i < sizeof known / sizeof *known; i++)
            if (strlen(known[i].name) == n && strncasecmp(text, known[i].name, n) == 0) break;
        if (n && i == sizeof known / sizeof *known) return -1;
        if (n) bits |= known[i].bit;
        text += n + strspn(text + n, " \t,");
    }
    return (int)bits;
}

static enum ktls_policy policy_of(const struct tls_state *t, int64_t mode) {
    if (mode == CFG_KTLS_NO) return KTLS_POLICY_OFF;
    if (mode == CFG_KTLS_YES && t->probe.usable) return KTLS_POLICY_REQUIRE;
    return KTLS_POLICY_AUTO;
}

int tls_load(struct tls_state *t, struct config *cfg, char *err, size_t errlen) {
    static const enum ktls_verify verify[] = { KTLS_VERIFY_NONE, KTLS_VERIFY_REQUIRE, KTLS_VERIFY_OPTIONAL };
    struct ktls_ctx *fresh = NULL;
    struct ktls_tickets *ring = NULL;
    int rotation_s = (int)cfg_get(&cfg->tls_session_ticket_rotation), lifetime_s = (int)cfg_get(&cfg->tls_session_cache_timeout);
    pthread_mutex_lock(&cfg->lock);
    int protocols = tls_parse_protocols(cfg->tls_protocols);
    struct ktls_ctx_opts o = {
        .size = sizeof o,
        .role = KTLS_SERVER,
        .policy = policy_of(t, cfg_get(&cfg->tls_ktls)),
        .verify = verify[cfg_get(&cfg->tls_auth_clients)],
        .protocols = protocols > 0 ? (unsigned)protocols : 0,
        .cert_file = cfg->tls_cert_file,
        .key_file = cfg->tls_key_file,
        .key_pass = cfg->tls_key_file_pass,
        .ca_file = cfg->tls_ca_cert_file,
        .ca_dir = cfg->tls_ca_cert_dir,
        .dh_params_file = cfg->tls_dh_params_file,
        .ciphers = cfg->tls_ciphers,
        .ciphersuites = cfg->tls_ciphersuites,
        .prefer_server_ciphers = (int)cfg_get(&cfg->tls_prefer_server_ciphers),
        .no_session_cache = !cfg_get(&cfg->tls_session_caching),
        .session_cache_size = (int)cfg_get(&cfg->tls_session_cache_size),
        .session_cache_timeout_s = (int)cfg_get(&cfg->tls_session_cache_timeout),
        .num_tickets = (int)cfg_get(&cfg->tls_session_tickets),
    };
    bool no_ca = (!o.ca_file || !*o.ca_file) && (!o.ca_dir || !*o.ca_dir);
    struct ktls_ctx_opts link = o; /* what this server is as a client of others */
    link.role = KTLS_CLIENT;
    link.verify = KTLS_VERIFY_NONE; /* only the files are tried here */
    link.cert_file = cfg->tls_client_cert_file;
    link.key_file = cfg->tls_client_key_file;
    link.key_pass = cfg->tls_client_key_file_pass;
    bool has_client_cert = link.cert_file && *link.cert_file;
    int r;
    if (protocols < 0) {
        snprintf(err, errlen, "Invalid tls-protocols specified. Use a combination of TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3.");
        r = -EINVAL;
    } else if (!o.cert_file || !*o.cert_file) {
        snprintf(err, errlen, "No tls-cert-file configured!");
        r = -EINVAL;
    } else if (!o.key_file || !*o.key_file) {
        snprintf(err, errlen, "No tls-key-file configured!");
        r = -EINVAL;
    } else if (no_ca && o.verify != KTLS_VERIFY_NONE) {
        snprintf(err, errlen,
                 "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, tls-replication or "
                 "tls-auth-clients are enabled!");
        r = -EINVAL;
    } else {
        struct ktls_ctx *tried = NULL;
        r = has_client_cert ? ktls_ctx_new(&link, &tried, err, errlen) : 0;
        ktls_ctx_unref(tried);
        if (!r) r = tls_tickets_get(t, cfg->tls_session_ticket_keys, rotation_s, lifetime_s, &ring, err, errlen);
        o.tickets = ring;
        if (!r) r = ktls_ctx_new(&o, &fresh, err, errlen);
        if (!r)
            tls_tickets_use(t, ring, cfg->tls_session_ticket_keys, rotation_s, lifetime_s);
        else
            ktls_tickets_unref(ring);
    }
    pthread_mutex_unlock(&cfg->lock);
    if (r) return r;
    pthread_mutex_lock(&t->lock);
    struct ktls_ctx *old = t->ctx;
    t->ctx = fresh;
    pthread_mutex_unlock(&t->lock);
    ktls_ctx_unref(old);
    return 0;
}

struct ktls_ctx *tls_ctx_get(struct tls_state *t) {
    pthread_mutex_lock(&t->lock);
    struct ktls_ctx *ctx = t->ctx ? ktls_ctx_ref(t->ctx) : NULL;
    pthread_mutex_unlock(&t->lock);
    return ctx;
}

void tls_count_open(struct tls_state *t, const struct ktls_conn_info *info) {
    hist_add(t->handshake_us, info->handshake_us);
    atomic_fetch_add_explicit(info->mode == KTLS_MODE_KERNEL ? &t->live_ktls : &t->live_user, 1, memory_order_relaxed);
    pthread_mutex_lock(&t->lock);
    int i = 0;
    while (i < t->n_ciphers && strcmp(t->ciphers[i].name, info->cipher) != 0) i++;
    if (i == t->n_ciphers && i < TLS_MAX_CIPHER_NAMES)
        snprintf(t->ciphers[t->n_ciphers++].name, sizeof t->ciphers[0].name, "%s", info->cipher);
    if (i < t->n_ciphers) t->ciphers[i].count++;
    pthread_mutex_unlock(&t->lock);
    if (info->mode == KTLS_MODE_USER && info->reason != KTLS_REASON_POLICY && !atomic_exchange(&t->reason_logged, true))
        log_notice("A TLS connection is served in userspace: %s (%s %s). %s", ktls_reason_name(info->reason), info->version,
                   info->cipher, ktls_reason_remedy(info->reason));
}

void tls_count_close(struct tls_state *t, enum ktls_mode mode) {
    atomic_fetch_sub_explicit(mode == KTLS_MODE_KERNEL ? &t->live_ktls : &t->live_user, 1, memory_order_relaxed);
}
