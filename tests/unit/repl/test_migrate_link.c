/* What MIGRATE says to another server and hears from it: a scripted server answers well, badly, late, not at all, or goes away.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "repl/migrate_link.h"

/* One thread serves one connection after the other. Each step: what is to come, byte by byte, and what is then said; NULL instead
 * of an answer: the connection is closed; "": nothing is said. A step with no bytes to come begins a new connection. */
struct step {
    const char *want, *say;
};

struct peer {
    pthread_t th;
    int listener;
    const struct step *steps;
    int n;
    char got[4096]; /* what did not match, for the assertion */
    _Atomic bool stop;
};

static bool receive(int fd, const char *want, struct peer *p) {
    size_t len = strlen(want), at = 0;
    while (at < len) {
        ssize_t n = recv(fd, p->got + at, len - at, 0);
        if (n <= 0) return false;
        at += (size_t)n;
        p->got[at] = '\0';
    }
    return strcmp(p->got, want) == 0;
}

static void *peer_main(void *arg) {
    struct peer *p = arg;
    int fd = -1;
    for (int i = 0; i < p->n && !p->stop; i++) {
        const struct step *st = &p->steps[i];
        if (!st->want) {
            if (fd >= 0) close(fd);
            fd = accept(p->listener, NULL, NULL);
            continue;
        }
        if (!receive(fd, st->want, p)) break;
        p->got[0] = '\0';
        if (!st->say) {
            close(fd);
            fd = -1;
        } else if (send(fd, st->say, strlen(st->say), MSG_NOSIGNAL) < 0) {
            break;
        }
    }
    while (!p->stop) usleep(2000);
    if (fd >= 0) close(fd);
    return NULL;
}

static struct peer peer;
static struct migrate_target to;
static struct migrate_talk talk;
static unsigned char done[4];

static void start(const struct step *steps, int n) {
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof(sa);
    memset(&peer, 0, sizeof(peer));
    peer.listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(peer.listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
    assert_int_equal(listen(peer.listener, 8), 0);
    assert_int_equal(getsockname(peer.listener, (struct sockaddr *)&sa, &len), 0);
    peer.steps = steps;
    peer.n = n;
    to = (struct migrate_target){ .host = "127.0.0.1", .port = ntohs(sa.sin_port), .timeout_us = 5000000 };
    assert_int_equal(pthread_create(&peer.th, NULL, peer_main, &peer), 0);
}

static void finish(void) {
    peer.stop = true;
    shutdown(peer.listener, SHUT_RDWR);
    pthread_join(peer.th, NULL);
    close(peer.listener);
    assert_string_equal(peer.got, "");
}

static enum migrate_failure say(struct migrate_links *ls, const char *commands, int n) {
    struct migrate_link *l = NULL;
    memset(done, 0, sizeof(done));
    talk = (struct migrate_talk){ .to = &to, .commands = slice_cstr(commands), .n = n, .done = done };
    enum migrate_failure f = migrate_talk(ls, &l, &talk);
    migrate_link_put(ls, l);
    return f;
}

#define STEPS(...)                                                                                                               \
    static const struct step steps[] = { __VA_ARGS__ };                                                                          \
    struct migrate_links *ls = migrate_links_new();                                                                              \
    start(steps, (int)(sizeof(steps) / sizeof(steps[0])))
#define CONNECT                                                                                                                  \
    { NULL, NULL }

static void test_a_link_is_kept_and_knows_its_database(void **state) {
    (void)state;
    STEPS(CONNECT, { "*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n", "+OK\r\n" }, { "ab", "+OK\r\n+OK\r\n" }, { "c", "+OK\r\n" },
          { "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n", "+OK\r\n" }, { "d", "+OK\r\n" });
    to.db = 3;
    assert_int_equal(say(ls, "ab", 2), MIGRATE_FINE);
    assert_true(done[0] && done[1]);
    assert_int_equal(migrate_links_count(ls), 1);
    assert_int_equal(say(ls, "c", 1), MIGRATE_FINE);
    to.db = 0;
    assert_int_equal(say(ls, "d", 1), MIGRATE_FINE);
    migrate_links_expire(ls, clock_mono_us() + MIGRATE_LINK_IDLE_US / 2);
    assert_int_equal(migrate_links_count(ls), 1);
    migrate_links_expire(ls, clock_mono_us() + MIGRATE_LINK_IDLE_US);
    assert_int_equal(migrate_links_count(ls), 0);
    migrate_links_free(ls);
    finish();
}

static void test_who_has_authenticated_is_no_secret_of_the_link(void **state) {
    (void)state;
    STEPS(CONNECT, { "*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$3\r\npwd\r\n", "+OK\r\n" }, { "a", "+OK\r\n" }, CONNECT,
          { "b", "+OK\r\n" });
    to.has_auth = to.has_user = true;
    to.user = SLICE_LIT("me");
    to.pass = SLICE_LIT("pwd");
    assert_int_equal(say(ls, "a", 1), MIGRATE_FINE);
    to.has_auth = false; /* not on that link */
    assert_int_equal(say(ls, "b", 1), MIGRATE_FINE);
    assert_int_equal(migrate_links_count(ls), 2);
    migrate_links_free(ls);
    finish();
}

static void test_wrong_password(void **state) {
    (void)state;
    STEPS(CONNECT, { "*2\r\n$4\r\nAUTH\r\n$3\r\npwd\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n",
                     "-WRONGPASS invalid\r\n-NOAUTH Authentication required.\r\n" });
    to.has_auth = true;
    to.pass = SLICE_LIT("pwd");
    to.db = 2;
    assert_int_equal(say(ls, "never sent", 1), MIGRATE_REFUSED);
    assert_string_equal(talk.error, "WRONGPASS invalid");
    migrate_links_free(ls);
    finish();
}

static void test_refusals(void **state) {
    (void)state;
    STEPS(CONNECT, { "abc", "+OK\r\n-BUSYKEY Target key name already exists.\r\n+OK\r\n" });
    assert_int_equal(say(ls, "abc", 3), MIGRATE_REFUSED);
    assert_true(done[0] && !done[1] && done[2]);
    assert_string_equal(talk.error, "BUSYKEY Target key name already exists.");
    migrate_links_free(ls);
    finish();
}

static void test_nothing_is_sent_to_the_wrong_database(void **state) {
    (void)state;
    STEPS(CONNECT, { "*2\r\n$6\r\nSELECT\r\n$2\r\n99\r\n", "-ERR DB index is out of range\r\n" },
          { "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n", "+OK\r\n" }, { "e", "+OK\r\n" });
    to.db = 99;
    assert_int_equal(say(ls, "never sent", 1), MIGRATE_REFUSED);
    assert_string_equal(talk.error, "ERR DB index is out of range");
    assert_false(done[0]);
    to.db = 0; /* it is not known where the link is */
    assert_int_equal(say(ls, "e", 1), MIGRATE_FINE);
    migrate_links_free(ls);
    finish();
}

static void test_a_stale_link_is_replaced_once(void **state) {
    (void)state;
    STEPS(CONNECT, { "a", "+OK\r\n" }, CONNECT, { "b", "+OK\r\n" }, { "c", NULL }, CONNECT, { "c", NULL });
    assert_int_equal(say(ls, "a", 1), MIGRATE_FINE);
    usleep(20000); /* the peer closes: its next step is another connection */
    assert_int_equal(say(ls, "b", 1), MIGRATE_FINE);
    assert_int_equal(say(ls, "c", 1), MIGRATE_READING);
    assert_int_equal(migrate_links_count(ls), 0);
    migrate_links_free(ls);
    finish();
}

static void test_what_is_no_answer_carries_nothing_out(void **state) {
    (void)state;
    static const char *const answers[] = { "220 mail.example ESMTP\r\n", ":1\r\n", "$2\r\nOK\r\n", "\r\n", "HTTP/1.1 400\r\n" };
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct step steps[] = { CONNECT, { "a", answers[i] } };
        struct migrate_links *ls = migrate_links_new();
        start(steps, 2);
        assert_int_equal(say(ls, "a", 1), MIGRATE_READING);
        assert_false(done[0]);
        assert_int_equal(migrate_links_count(ls), 0);
        migrate_links_free(ls);
        finish();
    }
    char longer[MIGRATE_LINE_MAX + 50];
    memset(longer, '+', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    struct step steps[] = { CONNECT, { "a", longer } };
    struct migrate_links *ls = migrate_links_new();
    start(steps, 2);
    assert_int_equal(say(ls, "a", 1), MIGRATE_READING);
    migrate_links_free(ls);
    finish();
}

static void test_other_answers_are_asked_for(void **state) {
    (void)state;
    STEPS(CONNECT, { "ab", "+OK\r\n:1\r\n" });
    struct migrate_link *l = NULL;
    memset(done, 0, sizeof(done));
    talk = (struct migrate_talk){
        .to = &to, .commands = SLICE_LIT("ab"), .n = 2, .done = done, .answers = (const unsigned char *)"+:"
    };
    assert_int_equal(migrate_talk(ls, &l, &talk), MIGRATE_FINE);
    assert_true(done[0] && done[1]);
    migrate_link_put(ls, l);
    migrate_links_free(ls);
    finish();
}

static void test_silence(void **state) {
    (void)state;
    STEPS(CONNECT, { "a", "+OK\r\n" }, { "bb", "+OK\r\n+O" });
    assert_int_equal(say(ls, "a", 1), MIGRATE_FINE);
    to.timeout_us = 80000;
    int64_t t0 = clock_mono_us();
    assert_int_equal(say(ls, "bb", 2), MIGRATE_READING); /* and is not said again on another link */
    assert_in_range(clock_mono_us() - t0, 80000, 1000000);
    assert_true(done[0] && !done[1]);
    assert_string_equal(talk.error, "Connection timed out");
    assert_int_equal(migrate_links_count(ls), 0);
    migrate_links_free(ls);
    finish();
}

static void test_nobody_listens(void **state) {
    (void)state;
    STEPS(CONNECT);
    int port = to.port;
    finish();
    to.port = port;
    assert_int_equal(say(ls, "a", 1), MIGRATE_CONNECTING);
    assert_string_equal(talk.error, "Connection refused");
    migrate_links_free(ls);
}

static void *interrupt_soon(void *arg) {
    usleep(50000);
    migrate_links_interrupt(arg);
    return NULL;
}

static void test_interrupted(void **state) {
    (void)state;
    STEPS(CONNECT, { "a", "" });
    pthread_t th;
    int64_t t0 = clock_mono_us();
    pthread_create(&th, NULL, interrupt_soon, ls);
    assert_int_equal(say(ls, "a", 1), MIGRATE_READING);
    assert_in_range(clock_mono_us() - t0, 40000, 4000000);
    pthread_join(th, NULL);
    assert_int_equal(say(ls, "a", 1), MIGRATE_CONNECTING); /* for good */
    migrate_links_free(ls);
    finish();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_link_is_kept_and_knows_its_database),
        cmocka_unit_test(test_who_has_authenticated_is_no_secret_of_the_link),
        cmocka_unit_test(test_wrong_password),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_nothing_is_sent_to_the_wrong_database),
        cmocka_unit_test(test_a_stale_link_is_replaced_once),
        cmocka_unit_test(test_what_is_no_answer_carries_nothing_out),
        cmocka_unit_test(test_other_answers_are_asked_for),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_interrupted),
    };
    signal(SIGPIPE, SIG_IGN);
    alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
