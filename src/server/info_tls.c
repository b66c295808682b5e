/* INFO tls: the server's certificates, and what became of the attempts to reload them. Any I/O thread. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "server/server.h"

#define MAX_SHOWN 100 /* of many certificates by name, not all are worth an INFO of megabytes */

static void time_text(int64_t s, char out[40]) {
    struct tm tm;
    time_t t = (time_t)s;
    out[0] = 0;
    if (gmtime_r(&t, &tm)) strftime(out, 40, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static long long days_left(const struct ktls_cert_info *c) {
    return (long long)((c->not_after - clock_wall_ms() / 1000) / 86400);
}

/* The lines that a server with one certificate has, and always has had. */
static void first_certificate(const struct ktls_cert_info *c, struct buf *o) {
    char when[40];
    time_text(c->not_after, when);
    buf_printf(o,
               "tls_cert_subject:%s\r\ntls_cert_issuer:%s\r\ntls_cert_serial:%s\r\ntls_cert_not_after:%s\r\ntls_cert_days_"
               "left:%lld\r\n",
               c->subject, c->issuer, c->serial, when, days_left(c));
}

static void numbered(int i, const struct ktls_cert_facts *f, struct buf *o) {
    static const char *const ocsp[] = { "none", "stapled", "stale" };
    char when[40];
    time_text(f->info.not_after, when);
    buf_printf(o, "tls_cert%d_use:%s\r\ntls_cert%d_subject:%s\r\ntls_cert%d_key:%s\r\ntls_cert%d_not_after:%s\r\n", i,
               f->sni_name[0] ? f->sni_name
               : i            ? "alternative"
                              : "default",
               i, f->info.subject, i, f->key_type, i, when);
    buf_printf(o, "tls_cert%d_days_left:%lld\r\ntls_cert%d_chain:%d\r\ntls_cert%d_ocsp:%s\r\ntls_cert%d_file:%s\r\n", i,
               days_left(&f->info), i, f->chain_len, i, ocsp[f->ocsp], i, f->file);
}

static void certificates(struct ktls_ctx *ctx, struct buf *o) {
    struct ktls_cert_facts f;
    long long soonest = 0;
    int n = 0;
    for (; ktls_ctx_cert_at(ctx, n, &f) == 0; n++) {
        if (n == 0) first_certificate(&f.info, o);
        if (n < MAX_SHOWN) numbered(n, &f, o);
        if (n == 0 || days_left(&f.info) < soonest) soonest = days_left(&f.info);
    }
    buf_printf(o, "tls_certs:%d\r\ntls_certs_soonest_days_left:%lld\r\n", n, soonest);
    int64_t crl = ktls_ctx_crl_until(ctx);
    char when[40] = "";
    if (crl) time_text(crl, when);
    buf_printf(o, "tls_crl_next_update:%s\r\n", when);
}

void info_tls_certificates(struct server *srv, struct buf *o) {
    struct ktls_ctx *ctx = tls_ctx_get(&srv->tls);
    if (ctx) certificates(ctx, o);
    ktls_ctx_unref(ctx);
    pthread_mutex_lock(&srv->tls.lock);
    struct tls_reloads r = srv->tls.reloads;
    pthread_mutex_unlock(&srv->tls.lock);
    for (char *p = r.error; *p; p++)
        if (*p == '\r' || *p == '\n') *p = ' ';
    buf_printf(o, "tls_reloads_ok:%llu\r\ntls_reloads_failed:%llu\r\ntls_last_reload_time:%lld\r\ntls_last_reload_status:%s\r\n",
               (unsigned long long)r.ok, (unsigned long long)r.failed, (long long)r.last_s,
               r.last_s == 0 ? "none"
               : r.error[0]  ? "err"
                             : "ok");
    buf_printf(o, "tls_last_reload_error:%s\r\n", r.error);
}
