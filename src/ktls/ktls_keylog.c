/*
 * The key log file, in the format that NSS began and others read (SSLKEYLOGFILE): whoever has it and a capture can decrypt it.
 *
 * Place in the flow: ktls_ctx_new() opens it when the caller named one; OpenSSL's keylog callback gives each line during the
 * handshake, in both modes, since it is always OpenSSL that shakes hands. TLS 1.3: handshake and first application secrets of
 * both sides; TLS 1.2: CLIENT_RANDOM and the master secret. Generations after a KeyUpdate are derived from these by the reader.
 *
 * Any thread: each line is one write(2) to a descriptor in append mode, so lines of several threads and processes do not mix.
 */
#include "ktls_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_MAX_LEN 512 /* the longest line of OpenSSL's is some 200 */

int ktls_keylog_open(const char *path) {
    struct stat st;
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
    if (fd < 0) return -errno;
    int err = 0;
    if (fstat(fd, &st) < 0)
        err = errno;
    else if (!S_ISREG(st.st_mode))
        err = ENOTSUP;
    else if (st.st_mode & 077) /* it was there before, and others may read it */
        err = EPERM;
    if (!err) return fd;
    close(fd);
    return -err;
}

void ktls_keylog_line(int fd, const char *line) {
    char text[LINE_MAX_LEN + 1];
    size_t len = strnlen(line, LINE_MAX_LEN);
    ssize_t n;
    memcpy(text, line, len);
    text[len++] = '\n';
    do n = write(fd, text, len);
    while (n < 0 && errno == EINTR);
    OPENSSL_cleanse(text, sizeof text);
    if (n == (ssize_t)len) KTLS_COUNT(keylog_lines);
}
