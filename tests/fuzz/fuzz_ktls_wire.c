/* Fuzzes what a server reads before it knows its peer: the record reader below OpenSSL and the handshake on top of it. The input
 * is what a client sends; its first byte says in what pieces. Nothing may crash, spin or take memory without bound, and the
 * outcome is either "more" or an error with a text. */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ktls.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct ktls_ctx *ctx;

static void check(bool ok) {
    if (!ok) abort();
}

static void write_pem(const char *path, EVP_PKEY *key) {
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600 * 24 * 365);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)"fuzz", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    check(X509_sign(cert, key, EVP_sha256()) > 0);
    FILE *f = fopen(path, "w");
    check(f && PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1 && PEM_write_X509(f, cert) == 1);
    fclose(f);
    X509_free(cert);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    char path[] = "/tmp/fuzz_ktls_wire.XXXXXX", err[256];
    int fd = mkstemp(path);
    check(fd >= 0);
    close(fd);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    write_pem(path, key);
    EVP_PKEY_free(key);
    const struct ktls_ctx_opts opts = {
        .size = sizeof opts, .role = KTLS_SERVER, .policy = KTLS_POLICY_OFF, .cert_file = path, .key_file = path, .num_tickets = 2
    };
    check(ktls_ctx_new(&opts, &ctx, err, sizeof err) == 0);
    unlink(path);
    return 0;
}

/* 0: the handshake goes on. */
static int step(struct ktls_conn *conn) {
    int r = ktls_handshake(conn);
    check(r == KTLS_WANT_READ || r < 0);
    if (r < 0) check(ktls_conn_error(conn)->text[0] != 0);
    return r < 0;
}

static void drain(int fd) {
    char sink[4096];
    while (recv(fd, sink, sizeof sink, MSG_DONTWAIT) > 0) {
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int fds[2];
    struct ktls_conn *conn;
    if (size < 1 || size > 32768) return 0;
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    check(ktls_conn_new(ctx, fds[0], NULL, &conn) == 0);
    size_t piece = data[0] ? data[0] : size;
    bool ended = false;
    for (size_t off = 1; off < size && !ended; off += piece) {
        size_t n = size - off < piece ? size - off : piece;
        check(send(fds[1], data + off, n, MSG_NOSIGNAL) == (ssize_t)n);
        ended = step(conn);
        drain(fds[1]);
    }
    shutdown(fds[1], SHUT_WR);
    if (!ended) check(step(conn) == 1); /* the end of the stream in a handshake is an error */
    ktls_conn_free(conn);
    close(fds[0]);
    close(fds[1]);
    return 0;
}
