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

int tls_init(struct tls_state *t) {
    memset(t, 0, sizeof *t);
    pthread_mutex_init(&t->lock, NULL);
    t->handshake_us = hist_new();
    t->n_advisories = -1;
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

/* The caller keeps CONFIG SET out, so the strings stay as they are and cfg->lock need not be held while files are read. */
static int make_ctx(struct tls_state *t, struct config *cfg, struct ktls_ctx **ret, char *err, size_t errlen) {
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
    struct ktls_ctx_opts link = o; /* what this server is as a client of others */
    link.role = KTLS_CLIENT;
    link.keylog_file = NULL;
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
        struct cert_lists lists;
        lists_init(&lists, cfg, &o);
        r = has_client_cert ? ktls_ctx_new(&link, &tried, err, errlen) : 0;
        ktls_ctx_unref(tried);
        if (!r) r = tls_tickets_get(t, cfg->tls_session_ticket_keys, rotation_s, lifetime_s, &ring, err, errlen);
        o.tickets = ring;
        if (!r) r = ktls_ctx_new(&o, ret, err, errlen);
        if (!r)
            tls_tickets_use(t, ring, cfg->tls_session_ticket_keys, rotation_s, lifetime_s);
        else
            ktls_tickets_unref(ring);
        lists_done(&lists);
    }
    return r;
}

static void put_in_place(struct tls_state *t, struct config *cfg, struct ktls_ctx *fresh) {
    const char *line;
    for (int i = 0; (line = ktls_ctx_warning(fresh, i)); i++) log_warning("TLS: %s", line);
    atomic_fetch_add_explicit(&t->generation, 1, memory_order_relaxed);
    pthread_mutex_lock(&t->lock);
    struct ktls_ctx *old = t->ctx;
    t->ctx = fresh;
    pthread_mutex_unlock(&t->lock);
    warn_of_advisories(t, cfg);
    warn_of_key_log(cfg);
    ktls_ctx_unref(old);
}

int tls_load(struct tls_state *t, struct config *cfg, char *err, size_t errlen) {
    struct ktls_ctx *fresh;
    int r = make_ctx(t, cfg, &fresh, err, errlen);
    if (r == 0) put_in_place(t, cfg, fresh);
    return r;
}

int tls_reload(struct tls_state *t, struct config *cfg, const char *why, char *err, size_t errlen) {
    struct ktls_ctx *fresh = NULL;
    struct ktls_files_state st = { 0 };
    int r = make_ctx(t, cfg, &fresh, err, errlen);
    if (r == 0) ktls_ctx_files(fresh, &st);
    if (st.loaded != st.now && why) { /* a writer is still at it; the next look finds out how it ended */
        ktls_ctx_unref(fresh);
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
