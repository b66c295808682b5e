/* Certificates: two kinds at once, chains, by name, revoked ones, stapled responses, users, files that change. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

#include <openssl/ocsp.h>
#include <sys/stat.h>

#include "ktls_ctx_priv.h"

static char paths[64][128];
static int n_paths;

/* A file of the test's, removed at the end. */
static char *path_of(const char *name) {
    for (int i = 0; i < n_paths; i++)
        if (strcmp(strrchr(paths[i], '/') + 1, name) == 0) return paths[i];
    assert_true(n_paths < 64);
    snprintf(paths[n_paths], sizeof paths[0], "%s/%s", pki.dir, name);
    return paths[n_paths++];
}

static int teardown(void **state) {
    for (int i = 0; i < n_paths; i++) unlink(paths[i]);
    return teardown_pki(state);
}

static EVP_PKEY *new_key(const char *kind) {
    return strcmp(kind, "RSA") == 0 ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
}

/* NAME.crt and NAME.key, signed by the CA (or by `ca`, whose certificate then goes behind it). */
static struct ktls_keypair issue(const char *name, const char *kind, const char *san, X509 *ca, EVP_PKEY *ca_key, X509 **ret) {
    char file[64];
    EVP_PKEY *k = new_key(kind);
    X509 *x = make_cert(k, ca ? ca : pki.ca, ca ? ca_key : pki.ca_key, name, san, -3600, 86400);
    struct ktls_keypair p = { 0 };
    snprintf(file, sizeof file, "%s.crt", name);
    p.cert_file = path_of(file);
    snprintf(file, sizeof file, "%s.key", name);
    p.key_file = path_of(file);
    FILE *f = fopen(p.cert_file, "w");
    PEM_write_X509(f, x);
    if (ca) PEM_write_X509(f, ca);
    fclose(f);
    write_pem(p.key_file, NULL, k, NULL);
    EVP_PKEY_free(k);
    if (ret)
        *ret = x;
    else
        X509_free(x);
    return p;
}

static void expect_refused(const struct ktls_ctx_opts *o, const char *word) {
    struct ktls_ctx *ctx = (void *)1;
    char err[512];
    assert_int_equal(ktls_ctx_new(o, &ctx, err, sizeof err), KTLS_ECONFIG);
    if (!strstr(err, word)) print_message("wanted '%s' in: %s\n", word, err);
    assert_non_null(strstr(err, word));
}

/* A handshake of a context with an OpenSSL client; the session is the caller's to end. Ends with the library's result. */
static int shake(struct session *s, const struct ktls_ctx_opts *o, SSL_CTX *pc, const char *sni) {
    session_start(s, o, pc, TLS1_3_VERSION, NULL);
    if (sni) SSL_set_tlsext_host_name(s->peer.ssl, sni);
    SSL_set_tlsext_status_type(s->peer.ssl, TLSEXT_STATUSTYPE_ocsp);
    return drive(s->conn, &s->peer);
}

/* Common name of the certificate the peer was given. */
static const char *got_cn(struct session *s) {
    static char cn[64];
    X509 *x = SSL_get0_peer_certificate(s->peer.ssl);
    assert_non_null(x);
    X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, cn, sizeof cn);
    return cn;
}

/* ---- Kinds and chains ---- */

static void test_cert_two_kinds_peer_chooses(void **state) {
    (void)state;
    struct ktls_keypair rsa = issue("alt-rsa", "RSA", "DNS:server.test", NULL, NULL, NULL);
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.more_certs = &rsa, o.n_more_certs = 1;
    static const struct {
        int version;
        const char *sigalgs, *cn;
    } want[] = { { TLS1_3_VERSION, "ecdsa_secp256r1_sha256", "server" },
                 { TLS1_3_VERSION, "rsa_pss_rsae_sha256", "alt-rsa" },
                 { TLS1_2_VERSION, "ECDSA+SHA256", "server" },
                 { TLS1_2_VERSION, "RSA-PSS+SHA256:RSA+SHA256", "alt-rsa" } };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        SSL_CTX *pc = peer_ctx(false, want[i].version, NULL);
        SSL_CTX_set1_sigalgs_list(pc, want[i].sigalgs);
        struct session s;
        assert_int_equal(shake(&s, &o, pc, NULL), KTLS_DONE);
        assert_string_equal(got_cn(&s), want[i].cn);
        uint8_t out[1000], in[1000];
        pattern(out, sizeof out, 7);
        peer_write(&s.peer, out, sizeof out);
        assert_int_equal(lib_read(s.conn, in, sizeof in), 0);
        assert_memory_equal(in, out, sizeof in);
        session_end(&s);
        SSL_CTX_free(pc);
    }
    struct ktls_ctx *ctx = new_ctx(&o);
    struct ktls_cert_facts f;
    assert_int_equal(ktls_ctx_cert_at(ctx, 1, &f), 0);
    assert_string_equal(f.key_type, "RSA");
    assert_string_equal(f.info.subject, "CN=alt-rsa,O=libktls test");
    assert_string_equal(f.file, rsa.cert_file);
    assert_int_equal(f.ocsp, KTLS_OCSP_NONE);
    assert_int_equal(ktls_ctx_cert_at(ctx, 2, &f), -ENOENT);
    ktls_ctx_unref(ctx);
}

static void test_cert_alternative_is_checked(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    struct ktls_keypair same = issue("same-kind", "EC", NULL, NULL, NULL, NULL), bad = same;
    o.more_certs = &bad, o.n_more_certs = 1;
    expect_refused(&o, "are both of type EC");
    bad.key_file = pki.server_key;
    expect_refused(&o, "does not belong to certificate");
    bad.key_file = NULL;
    expect_refused(&o, "without a key file");
    o.cert_file = o.key_file = NULL;
    expect_refused(&o, "a server needs a certificate");
}

static X509 *intermediate(EVP_PKEY **ret_key) {
    *ret_key = EVP_EC_gen("P-256");
    X509 *x = make_cert(*ret_key, pki.ca, pki.ca_key, "Intermediate", NULL, -3600, 86400);
    add_ext(x, pki.ca, NID_basic_constraints, "critical,CA:TRUE");
    assert_true(X509_sign(x, pki.ca_key, EVP_sha256()) > 0);
    return x;
}

static void test_cert_chain_is_sent(void **state) {
    (void)state;
    EVP_PKEY *ik;
    X509 *inter = intermediate(&ik);
    struct ktls_keypair p = issue("chained", "EC", "DNS:server.test", inter, ik, NULL);
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.cert_file = p.cert_file, o.key_file = p.key_file;
    SSL_CTX *pc = peer_ctx(false, TLS1_3_VERSION, NULL);
    SSL_CTX_load_verify_file(pc, pki.ca_file);
    SSL_CTX_set_verify(pc, SSL_VERIFY_PEER, NULL);
    struct session s;
    assert_int_equal(shake(&s, &o, pc, NULL), KTLS_DONE);
    assert_int_equal(SSL_get_verify_result(s.peer.ssl), X509_V_OK);
    assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(s.peer.ssl)), 2);
    assert_null(ktls_ctx_warning(s.ctx, 0));
    session_end(&s);
    /* the wrong order is told */
    FILE *f = fopen(p.cert_file, "a");
    PEM_write_X509(f, inter);
    fclose(f);
    struct ktls_ctx *ctx = new_ctx(&o);
    assert_non_null(strstr(ktls_ctx_warning(ctx, 0), "is broken: certificate 3 did not issue"));
    ktls_ctx_unref(ctx);
    SSL_CTX_free(pc);
    X509_free(inter);
    EVP_PKEY_free(ik);
}

/* Every cut of a chain file and of a key file: an error, or at the boundary between two certificates the shorter chain. */
static void test_cert_file_cut_anywhere(void **state) {
    (void)state;
    EVP_PKEY *ik;
    X509 *inter = intermediate(&ik);
    struct ktls_keypair p = issue("cut", "EC", "DNS:server.test", inter, ik, NULL), cut = p;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    uint8_t *text;
    size_t len, made = 0;
    for (int key = 0; key < 2; key++) {
        assert_int_equal(ktls_read_file(key ? p.key_file : p.cert_file, 65536, &text, &len), 0);
        *(key ? &cut.key_file : &cut.cert_file) = path_of("cut.part");
        o.cert_file = cut.cert_file, o.key_file = cut.key_file;
        for (size_t n = 0; n < len; n += 1 + (n % 7)) {
            FILE *f = fopen(path_of("cut.part"), "w");
            fwrite(text, 1, n, f);
            fclose(f);
            struct ktls_ctx *ctx;
            int r = ktls_ctx_new(&o, &ctx, NULL, 0);
            if (r == 0) {
                made++;
                ktls_ctx_unref(ctx);
            } else {
                assert_int_equal(r, KTLS_ECONFIG);
            }
        }
        free(text);
        cut = p;
    }
    assert_true(made < 50); /* the newline behind END, and where one certificate ends */
    X509_free(inter);
    EVP_PKEY_free(ik);
}

static void test_cert_expired_is_a_warning(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    o.cert_file = pki.expired_cert, o.key_file = pki.expired_key;
    struct ktls_ctx *ctx = new_ctx(&o);
    assert_non_null(strstr(ktls_ctx_warning(ctx, 0), "has expired"));
    assert_null(ktls_ctx_warning(ctx, 1));
    assert_null(ktls_ctx_warning(ctx, -1));
    ktls_ctx_unref(ctx);
}

/* ---- By name ---- */

static void test_sni_names(void **state) {
    (void)state;
    char out[256], longest[300];
    assert_true(ktls_sni_name("Example.ORG.", false, out));
    assert_string_equal(out, "example.org");
    assert_true(ktls_sni_name("*.example.org", true, out));
    assert_true(ktls_sni_name("localhost", false, out));
    assert_false(ktls_sni_name("*.example.org", false, out));
    static const char *const bad[] = { "",    ".",   "..",  "a..b",        ".a", "*", "*.", "*.*.a", "a.*.b", "f*.example.org",
                                       "a b", "a/b", "a\n", "\xc3\xa9.org" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(ktls_sni_name(bad[i], true, out));
    memset(longest, 'a', sizeof longest);
    longest[254] = 0;
    assert_false(ktls_sni_name(longest, false, out));
    longest[253] = 0;
    assert_true(ktls_sni_name(longest, false, out));
}

static void test_sni_chooses_certificate(void **state) {
    (void)state;
    struct ktls_sni_cert sni[] = {
        { "www.example.org", issue("www", "EC", "DNS:www.example.org", NULL, NULL, NULL) },
        { "*.example.org", issue("wild", "EC", "DNS:*.example.org", NULL, NULL, NULL) },
        { "Both.example.net", issue("both-ec", "EC", "DNS:both.example.net", NULL, NULL, NULL) },
        { "both.example.NET.", issue("both-rsa", "RSA", "DNS:both.example.net", NULL, NULL, NULL) },
    };
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    struct ktls_keypair rsa = issue("default-rsa", "RSA", NULL, NULL, NULL, NULL);
    o.more_certs = &rsa, o.n_more_certs = 1;
    o.sni_certs = sni, o.n_sni_certs = 4;
    static const struct {
        const char *sni, *sigalgs, *cn;
    } want[] = {
        { "www.example.org", NULL, "www" },
        { "WWW.Example.Org", NULL, "www" },
        { "a.example.org", NULL, "wild" },
        { "example.org", NULL, "server" },
        { "a.b.example.org", NULL, "server" },
        { "xexample.org", NULL, "server" },
        { "unknown.test", NULL, "server" },
        { NULL, NULL, "server" },
        { "both.example.net", "ecdsa_secp256r1_sha256", "both-ec" },
        { "both.example.net", "rsa_pss_rsae_sha256", "both-rsa" },
        { "unknown.test", "rsa_pss_rsae_sha256", "default-rsa" },
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        SSL_CTX *pc = peer_ctx(false, TLS1_3_VERSION, NULL);
        if (want[i].sigalgs) SSL_CTX_set1_sigalgs_list(pc, want[i].sigalgs);
        struct session s;
        assert_int_equal(shake(&s, &o, pc, want[i].sni), KTLS_DONE);
        assert_string_equal(got_cn(&s), want[i].cn);
        assert_null(ktls_ctx_warning(s.ctx, 0));
        session_end(&s);
        SSL_CTX_free(pc);
    }
    /* A name whose certificate is ECDSA only is not served with the default's RSA one. */
    SSL_CTX *pc = peer_ctx(false, TLS1_3_VERSION, NULL);
    SSL_CTX_set1_sigalgs_list(pc, "rsa_pss_rsae_sha256");
    struct session s;
    assert_int_equal(shake(&s, &o, pc, "www.example.org"), KTLS_EPROTOCOL);
    session_end(&s);
    SSL_CTX_free(pc);
}

/* TLS 1.2, session resumed under its name: no certificate is needed, the name is still known. */
static void test_sni_resumption(void **state) {
    (void)state;
    struct ktls_sni_cert sni = { "www.example.org", issue("www", "EC", "DNS:www.example.org", NULL, NULL, NULL) };
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.sni_certs = &sni, o.n_sni_certs = 1;
    struct ktls_ctx *ctx = new_ctx(&o);
    SSL_SESSION *saved = NULL;
    for (int round = 0; round < 2; round++) {
        SSL_CTX *pc = peer_ctx(false, TLS1_2_VERSION, NULL);
        struct session s = { .ctx = ktls_ctx_ref(ctx) };
        tcp_pair(s.fd);
        assert_int_equal(ktls_conn_new(ctx, s.fd[1], NULL, &s.conn), 0);
        peer_init(&s.peer, pc, false, s.fd[0]);
        SSL_set_tlsext_host_name(s.peer.ssl, "www.example.org");
        if (saved) SSL_set_session(s.peer.ssl, saved);
        assert_int_equal(drive(s.conn, &s.peer), KTLS_DONE);
        struct ktls_conn_info info;
        ktls_conn_info(s.conn, &info);
        assert_string_equal(info.server_name, "www.example.org");
        assert_int_equal(info.resumed, round);
        if (!saved) saved = SSL_get1_session(s.peer.ssl);
        session_end(&s);
        SSL_CTX_free(pc);
    }
    SSL_SESSION_free(saved);
    ktls_ctx_unref(ctx);
}

static void test_sni_bad_entries(void **state) {
    (void)state;
    struct ktls_sni_cert sni[2] = { { "a*.example.org", { pki.server_cert, pki.server_key, NULL } } };
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    o.sni_certs = sni, o.n_sni_certs = 1;
    expect_refused(&o, "is not a DNS name");
    sni[0].name = NULL;
    expect_refused(&o, "is not a DNS name");
    sni[0].name = "example.org";
    struct ktls_ctx *ctx = new_ctx(&o);
    assert_non_null(strstr(ktls_ctx_warning(ctx, 0), "is not valid for that name"));
    ktls_ctx_unref(ctx);
    sni[1] = (struct ktls_sni_cert){ "EXAMPLE.org", { pki.client_cert, pki.client_key, NULL } };
    o.n_sni_certs = 2;
    expect_refused(&o, "are both of type EC");
    o.n_sni_certs = 1;
    sni[0].pair.key_file = pki.client_key;
    expect_refused(&o, "does not belong to certificate");
    struct ktls_ctx_opts c = client_opts(KTLS_POLICY_OFF);
    c.sni_certs = sni, c.n_sni_certs = 1;
    expect_refused(&c, "for servers");
}

/* ---- Revocation ---- */

static void write_crl(const char *path, X509 *ca, EVP_PKEY *ca_key, EVP_PKEY *sign_key, X509 *revoked, long until_s) {
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *t = X509_gmtime_adj(NULL, -7200);
    X509_CRL_set_version(crl, 1);
    X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca));
    X509_CRL_set1_lastUpdate(crl, t);
    X509_gmtime_adj(t, until_s);
    X509_CRL_set1_nextUpdate(crl, t);
    if (revoked) {
        X509_REVOKED *r = X509_REVOKED_new();
        X509_gmtime_adj(t, -60);
        X509_REVOKED_set_serialNumber(r, X509_get_serialNumber(revoked));
        X509_REVOKED_set_revocationDate(r, t);
        X509_CRL_add0_revoked(crl, r);
    }
    assert_true(X509_CRL_sign(crl, sign_key ? sign_key : ca_key, EVP_sha256()) > 0);
    FILE *f = fopen(path, "w");
    PEM_write_X509_CRL(f, crl);
    fclose(f);
    ASN1_TIME_free(t);
    X509_CRL_free(crl);
}

static SSL_CTX *client_with(const struct ktls_keypair *p, int version) {
    SSL_CTX *pc = peer_ctx(false, version, NULL);
    assert_int_equal(SSL_CTX_use_certificate_chain_file(pc, p->cert_file), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey_file(pc, p->key_file, SSL_FILETYPE_PEM), 1);
    return pc;
}

static void test_crl_revoked_client_is_refused(void **state) {
    (void)state;
    X509 *x;
    struct ktls_keypair bad = issue("revoked", "EC", NULL, NULL, NULL, &x), good = { pki.client_cert, pki.client_key, NULL };
    write_crl(path_of("crl.pem"), pki.ca, pki.ca_key, NULL, x, 3600);
    X509_free(x);
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.verify = KTLS_VERIFY_REQUIRE, o.crl_file = path_of("crl.pem");
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        struct session s;
        SSL_CTX *pc = client_with(&bad, v);
        assert_int_equal(shake(&s, &o, pc, NULL), KTLS_EVERIFY);
        const struct ktls_error *e = ktls_conn_error(s.conn);
        assert_int_equal(e->alert, SSL_AD_CERTIFICATE_REVOKED);
        assert_int_equal(e->alert_sent, 1);
        assert_non_null(strstr(e->text, "certificate revoked (CN=revoked,O=libktls test, serial "));
        assert_int_equal(peer_read_error(&s.peer), SSL_ERROR_SSL);
        assert_int_equal(ERR_GET_REASON(ERR_peek_error()), SSL_AD_REASON_OFFSET + SSL_AD_CERTIFICATE_REVOKED);
        ERR_clear_error();
        session_end(&s);
        SSL_CTX_free(pc);
        pc = client_with(&good, v);
        assert_int_equal(shake(&s, &o, pc, NULL), KTLS_DONE);
        session_end(&s);
        SSL_CTX_free(pc);
    }
}

static void test_crl_bad_ones(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.verify = KTLS_VERIFY_REQUIRE;
    o.crl_file = "/nonexistent/crl.pem";
    expect_refused(&o, "cannot load CRLs from '/nonexistent/crl.pem': No such file");
    o.crl_file = pki.server_cert;
    expect_refused(&o, "cannot load CRLs");
    o.crl_file = path_of("crl.pem");
    EVP_PKEY *k = EVP_EC_gen("P-256");
    write_crl(o.crl_file, pki.ca, pki.ca_key, k, NULL, 3600);
    EVP_PKEY_free(k);
    expect_refused(&o, "is not signed by that CA");
    /* out of date: told, and nobody is let in by it */
    write_crl(o.crl_file, pki.ca, pki.ca_key, NULL, NULL, -60);
    struct ktls_keypair good = { pki.client_cert, pki.client_key, NULL };
    SSL_CTX *pc = client_with(&good, TLS1_3_VERSION);
    struct session s;
    assert_int_equal(shake(&s, &o, pc, NULL), KTLS_EVERIFY);
    assert_non_null(strstr(ktls_conn_error(s.conn)->text, "CRL has expired"));
    assert_non_null(strstr(ktls_ctx_warning(s.ctx, 0), "is out of date"));
    assert_in_range(ktls_ctx_crl_until(s.ctx), time(NULL) - 120, time(NULL));
    session_end(&s);
    SSL_CTX_free(pc);
}

/* What may be resumed: a session made under one CRL is not resumed under another, even with the same ticket keys. */
static void test_crl_ends_resumption(void **state) {
    (void)state;
    X509 *x;
    struct ktls_keypair p = issue("soon-revoked", "EC", NULL, NULL, NULL, &x);
    struct ktls_tickets_opts ring = { .size = sizeof ring };
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    assert_int_equal(ktls_tickets_new(&ring, &o.tickets, NULL, 0), 0);
    o.verify = KTLS_VERIFY_REQUIRE, o.crl_file = path_of("crl.pem");
    write_crl(o.crl_file, pki.ca, pki.ca_key, NULL, NULL, 3600);
    struct ktls_ctx *before = new_ctx(&o), *same = new_ctx(&o);
    write_crl(o.crl_file, pki.ca, pki.ca_key, NULL, x, 3600);
    X509_free(x);
    struct ktls_ctx *after = new_ctx(&o), *order[] = { before, same, after };
    SSL_SESSION *saved = NULL;
    for (int i = 0; i < 3; i++) {
        SSL_CTX *pc = client_with(&p, TLS1_2_VERSION);
        struct session s = { .ctx = ktls_ctx_ref(order[i]) };
        tcp_pair(s.fd);
        assert_int_equal(ktls_conn_new(order[i], s.fd[1], NULL, &s.conn), 0);
        peer_init(&s.peer, pc, false, s.fd[0]);
        if (saved) SSL_set_session(s.peer.ssl, saved);
        assert_int_equal(drive(s.conn, &s.peer), i < 2 ? KTLS_DONE : KTLS_EVERIFY);
        struct ktls_conn_info info;
        ktls_conn_info(s.conn, &info);
        assert_int_equal(info.resumed, i == 1);
        if (!saved) saved = SSL_get1_session(s.peer.ssl);
        session_end(&s);
        SSL_CTX_free(pc);
        ktls_ctx_unref(order[i]);
    }
    ktls_tickets_unref(o.tickets);
    SSL_SESSION_free(saved);
}

/* ---- OCSP ---- */

static void write_response(const char *path, OCSP_RESPONSE *r) {
    uint8_t *der = NULL;
    int len = i2d_OCSP_RESPONSE(r, &der);
    FILE *f = fopen(path, "wb");
    assert_true(len > 0 && fwrite(der, 1, (size_t)len, f) == (size_t)len);
    fclose(f);
    OPENSSL_free(der);
}

static void write_ocsp(const char *path, X509 *x, X509 *issuer, X509 *signer, EVP_PKEY *key, int status, long from_s,
                       long until_s) {
    OCSP_BASICRESP *b = OCSP_BASICRESP_new();
    OCSP_CERTID *id = OCSP_cert_to_id(EVP_sha1(), x, issuer);
    ASN1_TIME *from = X509_gmtime_adj(NULL, from_s), *until = X509_gmtime_adj(NULL, until_s), *rev = X509_gmtime_adj(NULL, -60);
    assert_non_null(
        OCSP_basic_add1_status(b, id, status, 0, status == V_OCSP_CERTSTATUS_REVOKED ? rev : NULL, from, until_s ? until : NULL));
    assert_int_equal(OCSP_basic_sign(b, signer, key, EVP_sha256(), NULL, 0), 1);
    OCSP_RESPONSE *r = OCSP_response_create(OCSP_RESPONSE_STATUS_SUCCESSFUL, b);
    write_response(path, r);
    OCSP_RESPONSE_free(r);
    OCSP_BASICRESP_free(b);
    OCSP_CERTID_free(id);
    ASN1_TIME_free(from);
    ASN1_TIME_free(until);
    ASN1_TIME_free(rev);
}

/* The length of what was stapled, -1: nothing. */
static long stapled(struct session *s) {
    const unsigned char *p;
    return SSL_get_tlsext_status_ocsp_resp(s->peer.ssl, &p);
}

static void test_ocsp_stapled_to_its_certificate(void **state) {
    (void)state;
    X509 *x1, *x2;
    struct ktls_keypair first = issue("stapled", "EC", "DNS:server.test", NULL, NULL, &x1);
    struct ktls_sni_cert sni[] = { { "named.test", issue("named", "EC", "DNS:named.test", NULL, NULL, &x2) },
                                   { "bare.test", issue("bare", "EC", "DNS:bare.test", NULL, NULL, NULL) } };
    const char *files[] = { path_of("a.ocsp"), path_of("b.ocsp") };
    write_ocsp(files[0], x1, pki.ca, pki.ca, pki.ca_key, V_OCSP_CERTSTATUS_GOOD, -60, 3600);
    write_ocsp(files[1], x2, pki.ca, pki.ca, pki.ca_key, V_OCSP_CERTSTATUS_GOOD, -60, 0);
    X509_free(x1);
    X509_free(x2);
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.cert_file = first.cert_file, o.key_file = first.key_file;
    o.sni_certs = sni, o.n_sni_certs = 2;
    o.ocsp_files = files, o.n_ocsp_files = 2;
    for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++) {
        static const struct {
            const char *sni;
            int file;
        } want[] = { { NULL, 0 }, { "named.test", 1 }, { "bare.test", -1 } };
        for (size_t i = 0; i < 3; i++) {
            struct session s;
            struct stat st;
            SSL_CTX *pc = peer_ctx(false, v, NULL);
            assert_int_equal(shake(&s, &o, pc, want[i].sni), KTLS_DONE);
            if (want[i].file >= 0) stat(files[want[i].file], &st);
            assert_int_equal(stapled(&s), want[i].file >= 0 ? st.st_size : -1);
            assert_null(ktls_ctx_warning(s.ctx, 0));
            session_end(&s);
            SSL_CTX_free(pc);
        }
    }
}

static void test_ocsp_out_of_date_is_not_stapled(void **state) {
    (void)state;
    X509 *x;
    struct ktls_keypair p = issue("stale", "EC", "DNS:server.test", NULL, NULL, &x);
    const char *file = path_of("c.ocsp");
    static const long times[][2] = { { -7200, -3600 }, { 3600, 7200 } };
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.cert_file = p.cert_file, o.key_file = p.key_file, o.ocsp_files = &file, o.n_ocsp_files = 1;
    for (int i = 0; i < 2; i++) {
        struct session s;
        struct ktls_cert_facts f;
        write_ocsp(file, x, pki.ca, pki.ca, pki.ca_key, V_OCSP_CERTSTATUS_GOOD, times[i][0], times[i][1]);
        assert_int_equal(shake(&s, &o, NULL, NULL), KTLS_DONE);
        assert_int_equal(stapled(&s), -1);
        assert_non_null(strstr(ktls_ctx_warning(s.ctx, 0), "is out of date and is not stapled"));
        assert_int_equal(ktls_ctx_cert_at(s.ctx, 0, &f), 0);
        assert_int_equal(f.ocsp, KTLS_OCSP_STALE);
        assert_true(f.ocsp_until != 0);
        session_end(&s);
    }
    /* in date now, out of date a second later, without a reload */
    struct session s;
    write_ocsp(file, x, pki.ca, pki.ca, pki.ca_key, V_OCSP_CERTSTATUS_GOOD, -60, 2);
    struct ktls_ctx *ctx = new_ctx(&o);
    struct ktls_cert_facts f;
    ktls_ctx_cert_at(ctx, 0, &f);
    assert_int_equal(f.ocsp, KTLS_OCSP_STAPLED);
    sleep(3);
    ktls_ctx_cert_at(ctx, 0, &f);
    assert_int_equal(f.ocsp, KTLS_OCSP_STALE);
    ktls_ctx_unref(ctx);
    /* what the responder says is stapled as it is, and told */
    write_ocsp(file, x, pki.ca, pki.ca, pki.ca_key, V_OCSP_CERTSTATUS_REVOKED, -60, 3600);
    assert_int_equal(shake(&s, &o, NULL, NULL), KTLS_DONE);
    assert_true(stapled(&s) > 0);
    assert_non_null(strstr(ktls_ctx_warning(s.ctx, 0), "revoked"));
    session_end(&s);
    X509_free(x);
}

static void test_ocsp_wrong_responses_are_refused(void **state) {
    (void)state;
    X509 *x;
    struct ktls_keypair p = issue("stale", "EC", "DNS:server.test", NULL, NULL, &x);
    const char *file = "/nonexistent.ocsp", *twice[2];
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.cert_file = p.cert_file, o.key_file = p.key_file, o.ocsp_files = &file, o.n_ocsp_files = 1;
    expect_refused(&o, "cannot read OCSP response '/nonexistent.ocsp': No such file");
    file = pki.server_cert;
    expect_refused(&o, "is not an OCSP response in DER");
    file = path_of("d.ocsp");
    OCSP_RESPONSE *r = OCSP_response_create(OCSP_RESPONSE_STATUS_TRYLATER, NULL);
    write_response(file, r);
    FILE *f;
    OCSP_RESPONSE_free(r);
    expect_refused(&o, "is an error of the responder: trylater");
    /* of another certificate; signed by somebody else; twice; a byte behind it; all cut */
    EVP_PKEY *k = EVP_EC_gen("P-256");
    X509 *other = make_cert(k, NULL, NULL, "Test CA", NULL, -60, 3600);
    write_ocsp(file, other, pki.ca, pki.ca, pki.ca_key, V_OCSP_CERTSTATUS_GOOD, -60, 3600);
    expect_refused(&o, "is about none of the certificates");
    write_ocsp(file, x, other, other, k, V_OCSP_CERTSTATUS_GOOD, -60, 3600);
    expect_refused(&o, "is about none of the certificates"); /* same issuer name, another key */
    write_ocsp(file, x, pki.ca, other, k, V_OCSP_CERTSTATUS_GOOD, -60, 3600);
    expect_refused(&o, "is not signed by the issuer");
    write_ocsp(file, x, pki.ca, pki.ca, pki.ca_key, V_OCSP_CERTSTATUS_GOOD, -60, 3600);
    twice[0] = twice[1] = file;
    o.ocsp_files = twice, o.n_ocsp_files = 2;
    expect_refused(&o, "two OCSP responses");
    o.n_ocsp_files = 1;
    uint8_t *der;
    size_t len;
    assert_int_equal(ktls_read_file(file, 65536, &der, &len), 0);
    for (size_t n = 0; n < len; n += 13) {
        f = fopen(file, "wb");
        fwrite(der, 1, n, f);
        fclose(f);
        expect_refused(&o, "is not an OCSP response in DER");
    }
    f = fopen(file, "wb");
    fwrite(der, 1, len, f);
    fputc(0, f);
    fclose(f);
    expect_refused(&o, "is not an OCSP response in DER");
    f = fopen(file, "wb");
    assert_int_equal(ftruncate(fileno(f), 70000), 0);
    fclose(f);
    expect_refused(&o, "cannot read OCSP response");
    free(der);
    X509_free(other);
    EVP_PKEY_free(k);
    X509_free(x);
}

/* A responder with a certificate of its own from the issuer, and an issuer that nobody knows. */
static void test_ocsp_delegated_and_unknown_issuer(void **state) {
    (void)state;
    X509 *x;
    struct ktls_keypair p = issue("stale", "EC", "DNS:server.test", NULL, NULL, &x);
    const char *file = path_of("e.ocsp");
    EVP_PKEY *k = EVP_EC_gen("P-256");
    X509 *responder = make_cert(k, pki.ca, pki.ca_key, "Responder", NULL, -60, 3600);
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.cert_file = p.cert_file, o.key_file = p.key_file, o.ocsp_files = &file, o.n_ocsp_files = 1;
    write_ocsp(file, x, pki.ca, responder, k, V_OCSP_CERTSTATUS_GOOD, -60, 3600);
    expect_refused(&o, "is not signed by the issuer"); /* from the issuer, but not for this */
    add_ext(responder, pki.ca, NID_ext_key_usage, "OCSPSigning");
    assert_true(X509_sign(responder, pki.ca_key, EVP_sha256()) > 0);
    write_ocsp(file, x, pki.ca, responder, k, V_OCSP_CERTSTATUS_GOOD, -60, 3600);
    struct ktls_ctx *ctx = new_ctx(&o);
    assert_null(ktls_ctx_warning(ctx, 0));
    ktls_ctx_unref(ctx);
    o.ca_file = pki.other_ca_file;
    ctx = new_ctx(&o);
    assert_non_null(strstr(ktls_ctx_warning(ctx, 0), "cannot be checked"));
    ktls_ctx_unref(ctx);
    X509_free(responder);
    EVP_PKEY_free(k);
    X509_free(x);
}

/* ---- User names ---- */

static void expect_users(const struct ktls_keypair *p, enum ktls_peer_user kind, int n, const char *const *names) {
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.verify = KTLS_VERIFY_OPTIONAL, o.peer_user = kind;
    SSL_CTX *pc = p ? client_with(p, TLS1_3_VERSION) : NULL;
    struct session s;
    assert_int_equal(shake(&s, &o, pc, NULL), KTLS_DONE);
    for (int i = 0; i < n; i++) assert_string_equal(ktls_conn_peer_user(s.conn, i), names[i]);
    assert_null(ktls_conn_peer_user(s.conn, n));
    assert_null(ktls_conn_peer_user(s.conn, -1));
    struct ktls_conn_info info;
    assert_int_equal(ktls_conn_info(s.conn, &info), 0);
    assert_string_equal(info.peer_user, n ? names[0] : "");
    session_end(&s);
    SSL_CTX_free(pc);
}

static void test_peer_user(void **state) {
    (void)state;
    struct ktls_keypair p = issue("alice", "EC", "DNS:a.test,URI:urn:one,email:a@b.c,URI:spiffe://x/two", NULL, NULL, NULL);
    struct ktls_keypair plain = { pki.client_cert, pki.client_key, NULL };
    expect_users(&p, KTLS_PEER_USER_CN, 1, (const char *[]){ "alice" });
    expect_users(&p, KTLS_PEER_USER_URI, 2, (const char *[]){ "urn:one", "spiffe://x/two" });
    expect_users(&p, KTLS_PEER_USER_OFF, 0, NULL);
    expect_users(&plain, KTLS_PEER_USER_URI, 0, NULL);
    expect_users(NULL, KTLS_PEER_USER_CN, 0, NULL);
}

/* Names that must not become users: with NUL bytes, empty, too long, two at once. */
static char *peer_users(X509 *x, enum ktls_peer_user kind) {
    char *names = NULL;
    assert_int_equal(ktls_peer_users(x, kind, &names), 0);
    return names;
}

static void test_peer_user_hostile_names(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int len, type;
        bool twice;
    } bad[] = { { "root\0.evil", 10, MBSTRING_UTF8, false }, { "root", 4, MBSTRING_ASC, true } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        X509 *x = X509_new();
        for (int n = 0; n < 1 + bad[i].twice; n++)
            X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", bad[i].type, (const unsigned char *)bad[i].text,
                                       bad[i].len, -1, 0);
        assert_null(peer_users(x, KTLS_PEER_USER_CN));
        X509_free(x);
    }
    X509 *x = X509_new();
    assert_null(peer_users(x, KTLS_PEER_USER_CN));
    assert_null(peer_users(x, KTLS_PEER_USER_URI));
    GENERAL_NAMES *all = sk_GENERAL_NAME_new_null();
    char uri[400];
    for (int i = 0; i < 40; i++) {
        GENERAL_NAME *g = GENERAL_NAME_new();
        ASN1_IA5STRING *s = ASN1_IA5STRING_new();
        memset(uri, 'u', sizeof uri);
        ASN1_STRING_set(s, i == 0 ? "a\0b" : uri, i == 0 ? 3 : i == 1 ? 256 : i == 2 ? 0 : 255);
        GENERAL_NAME_set0_value(g, GEN_URI, s);
        sk_GENERAL_NAME_push(all, g);
    }
    X509_add1_ext_i2d(x, NID_subject_alt_name, all, 0, 0);
    char *names = peer_users(x, KTLS_PEER_USER_URI), *p = names;
    int n = 0;
    for (; *p; p += strlen(p) + 1, n++) assert_int_equal(strlen(p), 255);
    assert_int_equal(n, 16);
    free(names);
    GENERAL_NAMES_free(all);
    X509_free(x);
}

/* ---- Suites and groups ---- */

static const char *negotiated(const struct ktls_ctx_opts *o, const char *client_suites, int version, const char *groups) {
    static struct ktls_conn_info info;
    SSL_CTX *pc = peer_ctx(false, version, client_suites);
    if (groups) SSL_CTX_set1_groups_list(pc, groups);
    struct session s;
    assert_int_equal(shake(&s, o, pc, NULL), KTLS_DONE);
    assert_int_equal(ktls_conn_info(s.conn, &info), 0);
    session_end(&s);
    SSL_CTX_free(pc);
    return groups ? info.group : info.cipher;
}

#define AES13 "TLS_AES_256_GCM_SHA384"
#define CHA13 "TLS_CHACHA20_POLY1305_SHA256"
#define AES12 "ECDHE-ECDSA-AES256-GCM-SHA384"
#define CHA12 "ECDHE-ECDSA-CHACHA20-POLY1305"

static void test_suite_chacha_order(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    if (ktls_cpu_has_aes()) { /* the client's wish is followed */
        o.prefer_server_ciphers = 1;
        assert_string_equal(negotiated(&o, CHA13 ":" AES13, TLS1_3_VERSION, NULL), CHA13);
        assert_string_equal(negotiated(&o, AES13 ":" CHA13, TLS1_3_VERSION, NULL), AES13);
        assert_string_equal(negotiated(&o, CHA12 ":" AES12, TLS1_2_VERSION, NULL), CHA12);
    }
    o.chacha = KTLS_CHACHA_LISTED, o.prefer_server_ciphers = 1;
    o.ciphersuites = AES13 ":" CHA13;
    assert_string_equal(negotiated(&o, CHA13 ":" AES13, TLS1_3_VERSION, NULL), AES13);
    o.ciphersuites = NULL;
    o.chacha = KTLS_CHACHA_FIRST, o.prefer_server_ciphers = 0;
    assert_string_equal(negotiated(&o, AES13 ":" CHA13, TLS1_3_VERSION, NULL), CHA13);
    assert_string_equal(negotiated(&o, AES12 ":" CHA12, TLS1_2_VERSION, NULL), CHA12);
    assert_string_equal(negotiated(&o, AES13, TLS1_3_VERSION, NULL), AES13); /* nothing was lost */
    o.ciphers = AES12, o.ciphersuites = AES13;
    assert_string_equal(negotiated(&o, AES12 ":" CHA12, TLS1_2_VERSION, NULL), AES12); /* nothing was added */
}

static void test_suite_cpu(void **state) {
    (void)state;
#if defined(__x86_64__)
    char line[16384];
    bool aes = false, clmul = false;
    FILE *f = fopen("/proc/cpuinfo", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        aes |= strncmp(line, "flags", 5) == 0 && strstr(line, " aes ");
        clmul |= strncmp(line, "flags", 5) == 0 && strstr(line, " pclmulqdq ");
    }
    fclose(f);
    if (!strstr(getenv("KETTLE_VM") ? getenv("KETTLE_VM") : "", "uml") && (aes || !ktls_cpu_has_aes()))
        assert_int_equal(ktls_cpu_has_aes(), aes && clmul);
#else
    (void)ktls_cpu_has_aes();
#endif
}

static void test_groups(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    o.groups = "P-384:X25519";
    assert_string_equal(negotiated(&o, NULL, TLS1_3_VERSION, "P-384"), "secp384r1");
    assert_string_equal(negotiated(&o, NULL, TLS1_3_VERSION, "X25519"), "x25519");
    assert_string_equal(negotiated(&o, NULL, TLS1_2_VERSION, "X25519:P-256"), "x25519");
    o.groups = "X25519";
    SSL_CTX *pc = peer_ctx(false, TLS1_3_VERSION, NULL);
    SSL_CTX_set1_groups_list(pc, "P-256");
    struct session s;
    assert_int_equal(shake(&s, &o, pc, NULL), KTLS_EPROTOCOL);
    session_end(&s);
    SSL_CTX_free(pc);
    o.groups = "X25519:NoSuchGroup:P-256";
    expect_refused(&o, "key exchange group 'NoSuchGroup' is not known to 3.");
    o.groups = "?NoSuchGroup:X25519";
    assert_string_equal(negotiated(&o, NULL, TLS1_3_VERSION, "X25519"), "x25519");
    o.groups = "?NoSuchGroup:?Other";
    expect_refused(&o, "no usable key exchange group");
    o.groups = "X25519::P-256";
    expect_refused(&o, "key exchange group ''");
    o.groups = "?";
    expect_refused(&o, "no usable key exchange group");
}

/* Post-quantum, where OpenSSL has it (3.5): the hybrid group is taken before the classical one, ML-DSA goes beside ECDSA. */
static void test_post_quantum(void **state) {
    (void)state;
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_AUTO);
    SSL_CTX *probe = SSL_CTX_new(TLS_method());
    bool known = SSL_CTX_set1_groups_list(probe, "X25519MLKEM768") == 1;
    SSL_CTX_free(probe);
    ERR_clear_error();
    o.groups = "X25519MLKEM768:X25519";
    if (!known) {
        expect_refused(&o, "'X25519MLKEM768' is not known");
        o.groups = "?X25519MLKEM768:X25519";
        assert_string_equal(negotiated(&o, NULL, TLS1_3_VERSION, "X25519"), "x25519");
        print_message("skipped: %s has no X25519MLKEM768\n", OpenSSL_version(OPENSSL_VERSION));
        skip();
    }
    assert_string_equal(negotiated(&o, NULL, TLS1_3_VERSION, "X25519MLKEM768:X25519"), "X25519MLKEM768");
    assert_string_equal(negotiated(&o, NULL, TLS1_3_VERSION, "X25519"), "x25519");
    o.groups = NULL;
    assert_string_equal(negotiated(&o, NULL, TLS1_3_VERSION, "X25519MLKEM768:X25519"), "X25519MLKEM768");
    EVP_PKEY *k = EVP_PKEY_Q_keygen(NULL, NULL, "ML-DSA-65");
    assert_non_null(k);
    X509 *x = make_cert(k, pki.ca, pki.ca_key, "mldsa", "DNS:server.test", -60, 3600);
    struct ktls_keypair p = { path_of("mldsa.crt"), path_of("mldsa.key"), NULL };
    write_pem(p.cert_file, x, NULL, NULL);
    write_pem(p.key_file, NULL, k, NULL);
    X509_free(x);
    EVP_PKEY_free(k);
    o.more_certs = &p, o.n_more_certs = 1;
    static const char *const want[][2] = { { "mldsa65", "mldsa" }, { "ecdsa_secp256r1_sha256", "server" } };
    for (int i = 0; i < 2; i++) {
        SSL_CTX *pc = peer_ctx(false, TLS1_3_VERSION, NULL);
        assert_int_equal(SSL_CTX_set1_sigalgs_list(pc, want[i][0]), 1);
        struct session s;
        assert_int_equal(shake(&s, &o, pc, NULL), KTLS_DONE);
        assert_string_equal(got_cn(&s), want[i][1]);
        session_end(&s);
        SSL_CTX_free(pc);
    }
}

/* ---- Files that change ---- */

static bool changed(const struct ktls_ctx *ctx, const char *file) {
    struct ktls_files_state st;
    ktls_ctx_files(ctx, &st);
    assert_string_equal(st.changed, file);
    assert_int_equal(st.loaded != st.now, *file != 0);
    return st.loaded != st.now;
}

static void test_files_changes_are_seen(void **state) {
    (void)state;
    struct ktls_keypair p = issue("watched", "EC", NULL, NULL, NULL, NULL);
    struct ktls_ctx_opts o = server_opts(KTLS_POLICY_OFF);
    char dir[128];
    snprintf(dir, sizeof dir, "%s/cas", pki.dir);
    mkdir(dir, 0700);
    o.cert_file = p.cert_file, o.key_file = p.key_file, o.ca_dir = dir;
    struct ktls_ctx *ctx = new_ctx(&o);
    struct ktls_files_state before, after;
    assert_false(changed(ctx, ""));
    struct timespec times[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
    utimensat(AT_FDCWD, p.key_file, times, 0); /* the time alone */
    assert_true(changed(ctx, p.key_file));
    ktls_ctx_files(ctx, &before);
    unlink(p.cert_file); /* gone */
    assert_true(changed(ctx, p.cert_file));
    ktls_ctx_files(ctx, &after);
    assert_true(before.now != after.now && before.loaded == after.loaded);
    ktls_ctx_unref(ctx);
    p = issue("watched", "EC", NULL, NULL, NULL, NULL);
    ctx = new_ctx(&o);
    assert_false(changed(ctx, ""));
    char inside[160];
    snprintf(inside, sizeof inside, "%s/0a1b2c3d.0", dir);
    FILE *f = fopen(inside, "w");
    fclose(f);
    assert_true(changed(ctx, dir)); /* a new entry */
    ktls_ctx_unref(ctx);
    ctx = new_ctx(&o);
    assert_false(changed(ctx, ""));
    f = fopen(inside, "w");
    fputs("changed", f);
    fclose(f);
    assert_true(changed(ctx, dir)); /* an entry rewritten: the folder itself is as before */
    ktls_ctx_unref(ctx);
    unlink(inside);
    rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cert_two_kinds_peer_chooses),
        cmocka_unit_test(test_cert_alternative_is_checked),
        cmocka_unit_test(test_cert_chain_is_sent),
        cmocka_unit_test(test_cert_file_cut_anywhere),
        cmocka_unit_test(test_cert_expired_is_a_warning),
        cmocka_unit_test(test_sni_names),
        cmocka_unit_test(test_sni_chooses_certificate),
        cmocka_unit_test(test_sni_resumption),
        cmocka_unit_test(test_sni_bad_entries),
        cmocka_unit_test(test_crl_revoked_client_is_refused),
        cmocka_unit_test(test_crl_bad_ones),
        cmocka_unit_test(test_crl_ends_resumption),
        cmocka_unit_test(test_ocsp_stapled_to_its_certificate),
        cmocka_unit_test(test_ocsp_out_of_date_is_not_stapled),
        cmocka_unit_test(test_ocsp_wrong_responses_are_refused),
        cmocka_unit_test(test_ocsp_delegated_and_unknown_issuer),
        cmocka_unit_test(test_peer_user),
        cmocka_unit_test(test_peer_user_hostile_names),
        cmocka_unit_test(test_suite_chacha_order),
        cmocka_unit_test(test_suite_cpu),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_post_quantum),
        cmocka_unit_test(test_files_changes_are_seen),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown);
}
