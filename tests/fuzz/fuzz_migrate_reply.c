/* Fuzzes what MIGRATE hears from another server: nothing but whole lines that begin as they should counts as carried out, and no
 * more of them than there are. The first byte says how many answers are waited for, the second which begin with ':'. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "repl/migrate_link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_ANSWERS = 32, MAX_INPUT = 16384 };

static void check(bool ok) {
    if (!ok) abort();
}

/* The lines of the input as they are to be understood: carried out, refused; the first that is neither ends it. */
static void expect(const char *p, size_t len, const struct migrate_talk *t, const unsigned char *done) {
    int i = 0;
    for (; i < t->n; i++) {
        const char *lf = memchr(p, '\n', len);
        if (!lf || (size_t)(lf - p) >= MIGRATE_LINE_MAX || lf == p) break;
        if ((unsigned char)*p != t->answers[i] && *p != '-') break;
        check(done[i] == ((unsigned char)*p == t->answers[i]));
        len -= (size_t)(lf + 1 - p);
        p = lf + 1;
    }
    for (; i < t->n; i++) check(!done[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned char done[MAX_ANSWERS] = { 0 }, answers[MAX_ANSWERS];
    struct migrate_target to = { .host = "", .timeout_us = 1000000 };
    struct migrate_talk t = { .to = &to, .answers = answers, .done = done };
    struct migrate_heard h = { 0 };
    int fd[2];
    if (size < 2 || size > MAX_INPUT || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) != 0) return 0;
    t.n = data[0] % (MAX_ANSWERS + 1);
    for (int i = 0; i < t.n; i++) answers[i] = data[1] >> (i % 8) & 1 ? ':' : '+';
    check(write(fd[1], data + 2, size - 2) == (ssize_t)(size - 2));
    close(fd[1]);
    struct syncio io = { .fd = fd[0] };
    enum migrate_failure f = migrate_hear(&io, &t, t.n, false, &h);
    check(h.n <= t.n && (f != MIGRATE_FINE || h.n == t.n) && memchr(t.error, '\0', sizeof(t.error)));
    check(f == MIGRATE_FINE || f == MIGRATE_READING || f == MIGRATE_REFUSED);
    expect((const char *)data + 2, size - 2, &t, done);
    syncio_close(&io, 0);
    return 0;
}
