// SPDX-License-Identifier: BSD-3-Clause
/*
 * hiredis as a client of the server, for tests/integration/test_hiredis.py: what programs do with it, one case a run.
 *
 *     hiredis-client CASE PORT      on 127.0.0.1; ends with 0, or with 1 after a line that says what was not as expected
 *
 * The hiredis of Debian 12 (0.14) knows neither TLS nor RESP3: the test puts a relay before a TLS port, as its users do. The
 * asynchronous cases drive it with poll(2), in place of one of the event libraries it has adapters for. One thread.
 */
#include <errno.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST "127.0.0.1"
#define WAIT_MS 20000

#define WANT(cond)                                                                                                               \
    do {                                                                                                                         \
        if (!(cond)) {                                                                                                           \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond);                                                   \
            exit(1);                                                                                                             \
        }                                                                                                                        \
    } while (0)

static int port;

static redisContext *sync_new(void) {
    struct timeval limit = { .tv_sec = WAIT_MS / 1000 };
    redisContext *c = redisConnectWithTimeout(HOST, port, limit);

    WANT(c && !c->err && redisSetTimeout(c, limit) == REDIS_OK);
    return c;
}

static bool text_is(const redisReply *r, int type, const char *text) {
    return r && r->type == type && r->len == strlen(text) && !memcmp(r->str, text, r->len);
}

#define WANT_TEXT(call, kind, text)                                                                                              \
    do {                                                                                                                         \
        redisReply *text_reply = (call);                                                                                         \
        WANT(text_is(text_reply, kind, text));                                                                                   \
        freeReplyObject(text_reply);                                                                                             \
    } while (0)
#define WANT_INT(call, number)                                                                                                   \
    do {                                                                                                                         \
        redisReply *int_reply = (call);                                                                                          \
        WANT(int_reply && int_reply->type == REDIS_REPLY_INTEGER && int_reply->integer == (number));                             \
        freeReplyObject(int_reply);                                                                                              \
    } while (0)

static void case_commands(void) {
    redisContext *c = sync_new();
    const char binary[] = "a\0\r\n\xff";
    size_t big = 5 << 20;
    char *large = malloc(big);
    redisReply *r;

    WANT_TEXT(redisCommand(c, "SET %b %b", "k\0ey", (size_t)4, binary, sizeof(binary)), REDIS_REPLY_STATUS, "OK");
    r = redisCommand(c, "GET %b", "k\0ey", (size_t)4);
    WANT(r && r->type == REDIS_REPLY_STRING && r->len == sizeof(binary) && !memcmp(r->str, binary, r->len));
    freeReplyObject(r);
    r = redisCommand(c, "GET missing");
    WANT(r && r->type == REDIS_REPLY_NIL);
    freeReplyObject(r);
    WANT_INT(redisCommand(c, "RPUSH list %d %s %f", 7, "two words", 1.5), 3);
    r = redisCommand(c, "LRANGE list 0 -1");
    WANT(r && r->type == REDIS_REPLY_ARRAY && r->elements == 3 && text_is(r->element[1], REDIS_REPLY_STRING, "two words"));
    freeReplyObject(r);
    WANT_TEXT(redisCommand(c, "INCR list"), REDIS_REPLY_ERROR,
              "WRONGTYPE Operation against a key holding the wrong kind of value");
    WANT_TEXT(redisCommand(c, "XADD s 1-1 f v"), REDIS_REPLY_STRING, "1-1");
    r = redisCommand(c, "XREAD STREAMS s 0");
    WANT(r && r->elements == 1 && r->element[0]->elements == 2 && r->element[0]->element[1]->elements == 1);
    WANT(text_is(r->element[0]->element[1]->element[0]->element[1]->element[1], REDIS_REPLY_STRING, "v"));
    freeReplyObject(r);
    WANT_INT(redisCommand(c, "EVAL %s 1 key 40", "return redis.call('INCRBY', KEYS[1], ARGV[1]) + 2"), 42);
    WANT(large);
    memset(large, 'x', big);
    WANT_TEXT(redisCommand(c, "SET large %b", large, big), REDIS_REPLY_STATUS, "OK");
    r = redisCommand(c, "GET large");
    WANT(r && r->len == big && !memcmp(r->str, large, big));
    freeReplyObject(r);
    free(large);
    redisFree(c);
}

static void case_pipeline(void) {
    redisContext *c = sync_new();
    redisReply *r;
    const char *argv[] = { "MSET", "a", "1", "b", "2" };

    for (int i = 0; i < 10000; i++)
        WANT(redisAppendCommand(c, "SET key:%d %d", i, i) == REDIS_OK && redisAppendCommand(c, "GET key:%d", i) == REDIS_OK);
    for (int i = 0; i < 10000; i++) {
        char text[16];

        snprintf(text, sizeof(text), "%d", i);
        WANT(redisGetReply(c, (void **)&r) == REDIS_OK && text_is(r, REDIS_REPLY_STATUS, "OK"));
        freeReplyObject(r);
        WANT(redisGetReply(c, (void **)&r) == REDIS_OK && text_is(r, REDIS_REPLY_STRING, text));
        freeReplyObject(r);
    }
    WANT_TEXT(redisCommandArgv(c, 5, argv, NULL), REDIS_REPLY_STATUS, "OK");
    for (const char **s = (const char *[]){ "MULTI", "INCR a", "GET b", "INCR a", "EXEC", NULL }; *s; s++)
        WANT(redisAppendCommand(c, *s) == REDIS_OK);
    for (int i = 0; i < 5; i++) {
        WANT(redisGetReply(c, (void **)&r) == REDIS_OK);
        if (i == 4)
            WANT(r->type == REDIS_REPLY_ARRAY && r->elements == 3 && r->element[2]->integer == 3);
        else
            WANT(text_is(r, REDIS_REPLY_STATUS, i ? "QUEUED" : "OK"));
        freeReplyObject(r);
    }
    redisFree(c);
}

/* A client that gives up waiting, and one whose connection the server ends. */
static void case_timeout(void) {
    redisContext *c = sync_new(), *other = sync_new();
    redisReply *r;
    struct timeval shortly = { .tv_usec = 100000 }, limit = { .tv_sec = WAIT_MS / 1000 };

    WANT(redisSetTimeout(c, shortly) == REDIS_OK);
    WANT(!redisCommand(c, "BLPOP nothing 0") && c->err == REDIS_ERR_IO && errno == EAGAIN);
    WANT(redisReconnect(c) == REDIS_OK && redisSetTimeout(c, limit) == REDIS_OK);
    WANT_TEXT(redisCommand(c, "PING"), REDIS_REPLY_STATUS, "PONG");
    r = redisCommand(c, "BLPOP nothing 0.05");
    WANT(r && r->type == REDIS_REPLY_NIL);
    freeReplyObject(r);
    r = redisCommand(c, "CLIENT ID");
    WANT(r && r->type == REDIS_REPLY_INTEGER);
    WANT_INT(redisCommand(other, "CLIENT KILL ID %lld", r->integer), 1);
    freeReplyObject(r);
    WANT(!redisCommand(c, "PING") && c->err);
    WANT(redisReconnect(c) == REDIS_OK);
    WANT_TEXT(redisCommand(c, "PING"), REDIS_REPLY_STATUS, "PONG");
    redisFree(c);
    redisFree(other);
}

/* ---- asynchronous: hiredis says what it waits for, poll tells it ---- */

struct loop {
    redisAsyncContext *ac;
    short events;
    bool gone;
};

static void want_read(void *p) {
    ((struct loop *)p)->events |= POLLIN;
}
static void no_read(void *p) {
    ((struct loop *)p)->events &= (short)~POLLIN;
}
static void want_write(void *p) {
    ((struct loop *)p)->events |= POLLOUT;
}
static void no_write(void *p) {
    ((struct loop *)p)->events &= (short)~POLLOUT;
}
static void gone(void *p) {
    ((struct loop *)p)->gone = true;
}

static int connected, disconnected;
static void on_connect(const redisAsyncContext *ac, int status) {
    (void)ac;
    WANT(status == REDIS_OK);
    connected++;
}
static void on_disconnect(const redisAsyncContext *ac, int status) {
    (void)ac;
    disconnected += status == REDIS_OK ? 1 : 100;
}

static void loop_start(struct loop *l) {
    redisAsyncContext *ac = redisAsyncConnect(HOST, port);

    WANT(ac && !ac->err);
    *l = (struct loop){ .ac = ac };
    ac->ev.data = l;
    ac->ev.addRead = want_read;
    ac->ev.delRead = no_read;
    ac->ev.addWrite = want_write;
    ac->ev.delWrite = no_write;
    ac->ev.cleanup = gone;
    WANT(redisAsyncSetConnectCallback(ac, on_connect) == REDIS_OK);
    WANT(redisAsyncSetDisconnectCallback(ac, on_disconnect) == REDIS_OK);
}

static void loop_turn(struct loop *l) {
    struct pollfd fd = { .fd = l->ac->c.fd, .events = l->events };

    WANT(poll(&fd, 1, WAIT_MS) == 1);
    if (fd.revents & (POLLIN | POLLHUP | POLLERR)) redisAsyncHandleRead(l->ac);
    if (!l->gone && fd.revents & POLLOUT) redisAsyncHandleWrite(l->ac);
}

static long long counted;
static void on_count(redisAsyncContext *ac, void *reply, void *data) {
    const redisReply *r = reply;

    (void)ac;
    WANT(r && r->type == REDIS_REPLY_INTEGER && r->integer == counted + 1 && data == &counted);
    counted++;
}

static void case_async(void) {
    struct loop l;

    loop_start(&l);
    for (int i = 0; i < 5000; i++) WANT(redisAsyncCommand(l.ac, on_count, &counted, "INCR counter") == REDIS_OK);
    while (counted < 5000) loop_turn(&l);
    WANT(redisAsyncCommand(l.ac, on_count, &counted, "INCR counter") == REDIS_OK);
    redisAsyncDisconnect(l.ac); /* once what is under way has been answered */
    while (!l.gone) loop_turn(&l);
    WANT(counted == 5001 && connected == 1 && disconnected == 1);
}

static int subscribed, messages, patterns;
static void on_message(redisAsyncContext *ac, void *reply, void *data) {
    const redisReply *r = reply;

    (void)data;
    if (!r) return;
    WANT(r->type == REDIS_REPLY_ARRAY && r->elements >= 3);
    if (text_is(r->element[0], REDIS_REPLY_STRING, "message")) {
        char text[16];

        snprintf(text, sizeof(text), "%d", messages++);
        WANT(text_is(r->element[1], REDIS_REPLY_STRING, "news") && text_is(r->element[2], REDIS_REPLY_STRING, text));
    } else if (text_is(r->element[0], REDIS_REPLY_STRING, "pmessage")) {
        WANT(text_is(r->element[1], REDIS_REPLY_STRING, "n?w*") && text_is(r->element[2], REDIS_REPLY_STRING, "news"));
        if (++patterns == 100) {
            WANT(redisAsyncCommand(ac, NULL, NULL, "UNSUBSCRIBE") == REDIS_OK);
            WANT(redisAsyncCommand(ac, NULL, NULL, "PUNSUBSCRIBE") == REDIS_OK);
        }
    } else if (strstr(r->element[0]->str, "unsubscribe")) {
        subscribed--;
    } else {
        subscribed++;
    }
}

static void case_pubsub(void) {
    redisContext *c = sync_new();
    struct loop l;

    loop_start(&l);
    WANT(redisAsyncCommand(l.ac, on_message, NULL, "SUBSCRIBE news") == REDIS_OK);
    WANT(redisAsyncCommand(l.ac, on_message, NULL, "PSUBSCRIBE n?w*") == REDIS_OK);
    while (subscribed < 2) loop_turn(&l);
    for (int i = 0; i < 100; i++) WANT_INT(redisCommand(c, "PUBLISH news %d", i), 2);
    while (subscribed) loop_turn(&l);
    WANT(messages == 100 && patterns == 100);
    WANT_INT(redisCommand(c, "PUBLISH news x"), 0);
    WANT(redisAsyncCommand(l.ac, on_count, &counted, "INCR counter") == REDIS_OK); /* an ordinary connection again */
    while (!counted) loop_turn(&l);
    redisAsyncFree(l.ac);
    redisFree(c);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = { { "commands", case_commands },
                  { "pipeline", case_pipeline },
                  { "timeout", case_timeout },
                  { "async", case_async },
                  { "pubsub", case_pubsub } };

    if (argc != 3) return 2;
    port = (int)strtol(argv[2], NULL, 10);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        if (!strcmp(cases[i].name, argv[1])) {
            cases[i].run();
            return 0;
        }
    return 2;
}
