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
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#define SESSIONS_FROM_OTHERS 2 /* tickets taken of each connection this server makes: what most servers send */

int tls_init(struct tls_state *t) {
    memset(t, 0, sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    t->handshake_us = hist_new();
    t->n_advisories = -1;
    return ktls_probe(&t->probe);
}

void tls_done(struct tls_state *t) {
    t->ctx = ktls_ctx_unref(t->ctx);
    t->client_ctx = ktls_ctx_unref(t->client_ctx);
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

/* ---- Known holes of the kernel ---- */

static void find_advisories(struct tls_state *t) {
    struct ktls_advisory found[TLS_MAX_ADVISORIES];
    pthread_mutex_lock(&t->lock);
    bool known = t->n_advisories >= 0;
    pthread_mutex_unlock(&t->lock);
    if (known) return;
    int n = ktls_kernel_advisories(NULL, NULL, NULL, found, TLS_MAX_ADVISORIES); /* may read a changelog: not under the lock */
    if (n > TLS_MAX_ADVISORIES) n = TLS_MAX_ADVISORIES;
    pthread_mutex_lock(&t->lock);
    t->n_advisories = n > 0 ? n : 0;
    if (n > 0) memcpy(t->advisories, found, (size_t)n * sizeof found[0]);
    pthread_mutex_unlock(&t->lock);
}

bool tls_held_back(struct tls_state *t, struct config *cfg) {
    bool peer = false;
    if (cfg_get(&cfg->tls_ktls) != CFG_KTLS_AUTO || cfg_get(&cfg->tls_ktls_accept_advisories) || !t->probe.usable) return false;
    pthread_mutex_lock(&t->lock);
    for (int i = 0; i < t->n_advisories; i++) peer |= t->advisories[i].peer != 0;
    pthread_mutex_unlock(&t->lock);
    return peer;
}

void tls_advisory_names(struct tls_state *t, char *ret, size_t cap) {
    size_t at = 0;
    ret[0] = 0;
    pthread_mutex_lock(&t->lock);
    for (int i = 0; i < t->n_advisories && at < cap; i++)
        at += (size_t)snprintf(ret + at, cap - at, "%s%s", i ? "," : "", t->advisories[i].cve);
    pthread_mutex_unlock(&t->lock);
}

/* Once, and only where kernel TLS could be used: the hole, what it means, what helps. */
static void warn_of_advisories(struct tls_state *t, struct config *cfg) {
    if (cfg_get(&cfg->tls_ktls) == CFG_KTLS_NO || !t->probe.usable || t->advisories_logged) return;
    t->advisories_logged = true;
    for (int i = 0; i < t->n_advisories; i++) {
        const struct ktls_advisory *a = &t->advisories[i];
        log_warning(
            "WARNING: this kernel (%s) has %s in its TLS, as far as its version and its package's changelog tell: %s. %s%s.",
            t->probe.kernel, a->cve, a->effect,
            *a->fixed_in ? "Fixed in Linux " : "Its stable branch has no fix; a distribution's kernel may", a->fixed_in);
    }
    if (tls_held_back(t, cfg))
        log_warning(
            "WARNING: a peer could use one of these, so tls-ktls auto serves TLS in userspace. Install the kernel update; or "
            "say 'tls-ktls-accept-advisories yes' when this kernel has the fix.");
}

bool tls_kernel_sends(const struct ktls_probe *p) {
    for (int v = 0; v < KTLS_N_VERSIONS; v++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++)
            if (p->result[v][c][KTLS_TX] == 0) return true;
    return false;
}

static enum ktls_policy policy_of(const struct tls_state *t, int64_t mode) {
    if (mode == CFG_KTLS_NO) return KTLS_POLICY_OFF;
    if (mode == CFG_KTLS_TX) return KTLS_POLICY_TX;
    if (mode == CFG_KTLS_YES && t->probe.usable) return KTLS_POLICY_REQUIRE;
    return KTLS_POLICY_AUTO;
}

const char *tls_refusal(const struct tls_state *t, struct config *cfg) {
    static _Thread_local char text[512];
    const struct ktls_probe *p = &t->probe;
    if (cfg_get(&cfg->tls_ktls) != CFG_KTLS_YES) return NULL;
    if (!p->usable) {
        snprintf(text, sizeof text, "kernel TLS is not available here: %s", ktls_reason_name(p->reason));
        return text;
    }
    if (p->rekey == 0 || cfg_get(&cfg->tls_ktls_on_old_kernel) == KTLS_OLD_KERNEL_OFFLOAD) return NULL;
    snprintf(
        text, sizeof text,
        "tls-ktls yes and tls-ktls-on-old-kernel userspace contradict each other on this kernel (%s), which cannot change keys",
        p->kernel);
    return text;
}

static void warn_of_key_log(struct config *cfg) {
    char *path = config_str_dup(cfg, &cfg->tls_key_log_file);
    if (path)
        log_warning(
            "WARNING: tls-key-log-file: the keys of all TLS connections are written to %s; whoever reads it can decrypt them. "
            "For debugging only.",
            path);
    mem_free(path);
}

/* The words of a DIR_LIST directive; free with str_split_free. */
static struct buf *list_words(struct config *cfg, const char *name, int *ret_n) {
    char *text = config_other_dup(cfg, name);
    struct buf *words = str_split_args(slice_cstr(text ? text : ""), ret_n);
    mem_free(text);
    if (!words) *ret_n = 0;
    return words;
}

/* The certificates by name and the OCSP files of the configuration, as the library takes them. */
struct cert_lists {
    struct buf *sni_words, *ocsp_words;
    int n_sni_words, n_ocsp_words;
    struct ktls_sni_cert *sni;
    const char **ocsp;
    struct ktls_keypair alt;
};

static void lists_init(struct cert_lists *l, struct config *cfg, struct ktls_ctx_opts *o) {
    l->sni_words = list_words(cfg, "tls-sni-cert", &l->n_sni_words);
    l->ocsp_words = list_words(cfg, "tls-ocsp-file", &l->n_ocsp_words);
    o->n_sni_certs = l->n_sni_words / 3;
    o->n_ocsp_files = l->n_ocsp_words;
    o->sni_certs = l->sni = mem_calloc((size_t)o->n_sni_certs + 1, sizeof *l->sni);
    o->ocsp_files = l->ocsp = mem_calloc((size_t)o->n_ocsp_files + 1, sizeof *l->ocsp);
    for (int i = 0; i < o->n_sni_certs; i++) {
        struct buf *w = l->sni_words + (ptrdiff_t)i * 3;
        l->sni[i] = (struct ktls_sni_cert){ buf_cstr(&w[0]), { buf_cstr(&w[1]), buf_cstr(&w[2]), cfg->tls_key_file_pass } };
    }
    for (int i = 0; i < o->n_ocsp_files; i++) l->ocsp[i] = buf_cstr(&l->ocsp_words[i]);
    l->alt = (struct ktls_keypair){ cfg->tls_alt_cert_file, cfg->tls_alt_key_file, cfg->tls_alt_key_file_pass };
    o->more_certs = &l->alt;
    o->n_more_certs = (l->alt.cert_file && *l->alt.cert_file) || (l->alt.key_file && *l->alt.key_file);
}

static void lists_done(struct cert_lists *l) {
    mem_free(l->sni);
    mem_free(l->ocsp);
    str_split_free(l->sni_words, l->n_sni_words);
    str_split_free(l->ocsp_words, l->n_ocsp_words);
}

/* What this server is to its clients, and what it is as a client of others: NULL without CAs to check those by. */
struct tls_pair {
    struct ktls_ctx *server, *client;
};

static void pair_unref(struct tls_pair p) {
    ktls_ctx_unref(p.server);
    ktls_ctx_unref(p.client);
}

/* The same options but for the certificate, if there is one for this; the server's else. */
static int make_client_ctx(const struct ktls_ctx_opts *server, struct config *cfg, bool no_ca, struct ktls_ctx **ret, char *err,
                           size_t errlen) {
    struct ktls_ctx_opts o = *server;
    o.role = KTLS_CLIENT;
    o.keylog_file = NULL;
    o.verify = no_ca ? KTLS_VERIFY_NONE : KTLS_VERIFY_REQUIRE;
    o.session_reuse = o.no_session_cache ? 0 : SESSIONS_FROM_OTHERS;
    bool has_cert = cfg->tls_client_cert_file && *cfg->tls_client_cert_file;
    if (has_cert) {
        o.cert_file = cfg->tls_client_cert_file;
        o.key_file = cfg->tls_client_key_file;
        o.key_pass = cfg->tls_client_key_file_pass;
    } else if (no_ca) {
        return 0;
    }
    int r = ktls_ctx_new(&o, ret, err, errlen);
    if (r == 0 && no_ca) *ret = ktls_ctx_unref(*ret); /* only the files were to be tried */
    return r;
}

/* The caller keeps CONFIG SET out, so the strings stay as they are and cfg->lock need not be held while files are read. */
static int make_ctx(struct tls_state *t, struct config *cfg, struct tls_pair *ret, char *err, size_t errlen) {
    static const enum ktls_verify verify[] = { KTLS_VERIFY_NONE, KTLS_VERIFY_REQUIRE, KTLS_VERIFY_OPTIONAL };
    struct ktls_tickets *ring = NULL;
    int rotation_s = (int)cfg_get(&cfg->tls_session_ticket_rotation), lifetime_s = (int)cfg_get(&cfg->tls_session_cache_timeout);
    find_advisories(t);
    bool held = tls_held_back(t, cfg);
    int protocols = tls_parse_protocols(cfg->tls_protocols);
    struct ktls_ctx_opts o = {
        .size = sizeof o,
        .role = KTLS_SERVER,
        .policy = held ? KTLS_POLICY_OFF : policy_of(t, cfg_get(&cfg->tls_ktls)),
        .off_reason = held ? KTLS_REASON_ADVISORY : KTLS_REASON_POLICY,
        .keylog_file = cfg->tls_key_log_file,
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
        .crl_file = cfg->tls_crl_file,
        .groups = cfg->tls_groups,
        .chacha = (enum ktls_chacha)cfg_get(&cfg->tls_prefer_chacha),
        .peer_user = (enum ktls_peer_user)cfg_get(&cfg->tls_auth_clients_user),
        .rekey_after_records = (uint64_t)cfg_get(&cfg->ktls_rekey_after_records),
        .on_old_kernel = (enum ktls_old_kernel)cfg_get(&cfg->tls_ktls_on_old_kernel),
    };
    bool no_ca = (!o.ca_file || !*o.ca_file) && (!o.ca_dir || !*o.ca_dir);
    bool to_others = cfg_get(&cfg->tls_replication) || cfg_get(&cfg->tls_cluster);
    struct ktls_ctx_opts plain = o; /* without the lists and tickets of a server */
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
    } else if (no_ca && (o.verify != KTLS_VERIFY_NONE || to_others)) {
        snprintf(err, errlen,
                 "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, tls-replication or "
                 "tls-auth-clients are enabled!");
        r = -EINVAL;
    } else {
        struct cert_lists lists;
        lists_init(&lists, cfg, &o);
        r = make_client_ctx(&plain, cfg, no_ca, &ret->client, err, errlen);
        if (!r) r = tls_tickets_get(t, cfg->tls_session_ticket_keys, rotation_s, lifetime_s, &ring, err, errlen);
        o.tickets = ring;
        if (!r) r = ktls_ctx_new(&o, &ret->server, err, errlen);
        if (!r)
            tls_tickets_use(t, ring, cfg->tls_session_ticket_keys, rotation_s, lifetime_s);
        else
            ktls_tickets_unref(ring);
        lists_done(&lists);
    }
    if (r) ret->client = ktls_ctx_unref(ret->client);
    return r;
}

static void put_in_place(struct tls_state *t, struct config *cfg, struct tls_pair fresh) {
    const char *line;
    for (int i = 0; (line = ktls_ctx_warning(fresh.server, i)); i++) log_warning("TLS: %s", line);
    atomic_fetch_add_explicit(&t->generation, 1, memory_order_relaxed);
    pthread_mutex_lock(&t->lock);
    struct tls_pair old = { t->ctx, t->client_ctx };
    t->ctx = fresh.server;
    t->client_ctx = fresh.client;
    pthread_mutex_unlock(&t->lock);
    warn_of_advisories(t, cfg);
    warn_of_key_log(cfg);
    pair_unref(old);
}

void tls_files_state(const struct ktls_ctx *server, const struct ktls_ctx *client, struct ktls_files_state *ret) {
    struct ktls_files_state more;
    ktls_ctx_files(server, ret);
    if (!client) return;
    ktls_ctx_files(client, &more);
    if (ret->now == ret->loaded) memcpy(ret->changed, more.changed, sizeof ret->changed);
    ret->now = ret->now * 31 + more.now;
    ret->loaded = ret->loaded * 31 + more.loaded;
}

int tls_load(struct tls_state *t, struct config *cfg, char *err, size_t errlen) {
    struct tls_pair fresh = { 0 };
    int r = make_ctx(t, cfg, &fresh, err, errlen);
    if (r == 0) put_in_place(t, cfg, fresh);
    return r;
}

int tls_reload(struct tls_state *t, struct config *cfg, const char *why, char *err, size_t errlen) {
    struct tls_pair fresh = { 0 };
    struct ktls_files_state st = { 0 };
    int r = make_ctx(t, cfg, &fresh, err, errlen);
    if (r == 0) tls_files_state(fresh.server, fresh.client, &st);
    if (st.loaded != st.now && why) { /* a writer is still at it; the next look finds out how it ended */
        pair_unref(fresh);
        return -EAGAIN;
    }
    if (r == 0) put_in_place(t, cfg, fresh);
    pthread_mutex_lock(&t->lock);
    ++*(r == 0 ? &t->reloads.ok : &t->reloads.failed);
    t->reloads.last_s = clock_wall_ms() / 1000;
    snprintf(t->reloads.error, sizeof t->reloads.error, "%s", r == 0 ? "" : err);
    pthread_mutex_unlock(&t->lock);
    if (r == 0 && why) log_notice("TLS files reloaded: %s changed", why);
    if (r != 0 && why) log_warning("TLS files not reloaded, those in use stay: %s (%s changed)", err, why);
    return r;
}

struct ktls_ctx *tls_ctx_get(struct tls_state *t) {
    pthread_mutex_lock(&t->lock);
    struct ktls_ctx *ctx = t->ctx ? ktls_ctx_ref(t->ctx) : NULL;
    pthread_mutex_unlock(&t->lock);
    return ctx;
}

struct ktls_ctx *tls_client_ctx_get(struct tls_state *t) {
    pthread_mutex_lock(&t->lock);
    struct ktls_ctx *ctx = t->client_ctx ? ktls_ctx_ref(t->client_ctx) : NULL;
    pthread_mutex_unlock(&t->lock);
    return ctx;
}

static void count_live(struct tls_state *t, enum ktls_mode mode, int by) {
    _Atomic int64_t *live = mode == KTLS_MODE_KERNEL ? &t->live_ktls : mode == KTLS_MODE_TX ? &t->live_ktls_tx : &t->live_user;
    atomic_fetch_add_explicit(live, by, memory_order_relaxed);
}

void tls_count_open(struct tls_state *t, const struct ktls_conn_info *info) {
    hist_add(t->handshake_us, info->handshake_us);
    count_live(t, info->mode, 1);
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
    count_live(t, mode, -1);
}
