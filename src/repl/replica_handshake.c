/* The replica's half of the replication handshake: lines in, decisions out. Place in the flow: the thread of the link reads lines
 * and bytes and asks here what they are. Thread: the caller's. */
#include "repl/replica_handshake.h"

#include <string.h>

#include "base/str.h"

void replica_put_command(struct buf *out, int argc, const struct slice *argv) {
    buf_printf(out, "*%d\r\n", argc);
    for (int i = 0; i < argc; i++) {
        buf_printf(out, "$%zu\r\n", argv[i].len);
        buf_append(out, argv[i].ptr, argv[i].len);
        buf_append(out, "\r\n", 2);
    }
}

void replica_put_psync(struct buf *out, const char *id, int64_t offset, bool failover) {
    struct buf number = { 0 };
    buf_printf(&number, "%lld", id ? (long long)offset : -1LL);
    const struct slice argv[] = { SLICE_LIT("PSYNC"), slice_cstr(id ? id : "?"), buf_slice(&number), SLICE_LIT("FAILOVER") };
    replica_put_command(out, failover ? 4 : 3, argv);
    buf_done(&number);
}

static bool begins_with(struct slice s, const char *prefix) {
    size_t n = strlen(prefix);
    return s.len >= n && memcmp(s.ptr, prefix, n) == 0;
}

bool replica_is_alive(struct slice line) {
    return begins_with(line, "+") || begins_with(line, "-NOAUTH") || begins_with(line, "-NOPERM") ||
           begins_with(line, "-ERR operation not permitted");
}

/* The word at the start of *rest, which then is what follows one space. */
static struct slice take_word(struct slice *rest) {
    const char *sp = rest->len ? memchr(rest->ptr, ' ', rest->len) : NULL;
    struct slice word = { rest->ptr, sp ? (size_t)(sp - rest->ptr) : rest->len };
    size_t skip = word.len + (sp ? 1 : 0);
    *rest = (struct slice){ rest->ptr + skip, rest->len - skip };
    return word;
}

static bool is_id(struct slice s) {
    if (s.len != REPLICA_ID_LEN) return false;
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] > '~') return false; /* redis-server looks at the length only */
    return true;
}

static bool take_id(struct slice *rest, char *ret) {
    struct slice id = take_word(rest);
    if (!is_id(id)) return false;
    memcpy(ret, id.ptr, id.len);
    ret[id.len] = '\0';
    return true;
}

void replica_parse_psync(struct slice line, struct psync_reply *ret) {
    *ret = (struct psync_reply){ .kind = ANSWER_MALFORMED };
    struct slice rest = line, word = take_word(&rest);
    if (slice_eq(word, SLICE_LIT("+FULLRESYNC"))) {
        if (take_id(&rest, ret->id) && str_to_ll(rest, &ret->offset) && ret->offset >= 0) ret->kind = ANSWER_FULL;
    } else if (slice_eq(word, SLICE_LIT("+CONTINUE"))) {
        if (rest.len == 0 || take_id(&rest, ret->id)) ret->kind = ANSWER_CONTINUE;
    } else if (slice_eq(word, SLICE_LIT("-NOMASTERLINK")) || slice_eq(word, SLICE_LIT("-LOADING"))) {
        ret->kind = ANSWER_LATER;
    } else if (begins_with(line, "-")) {
        ret->kind = ANSWER_REFUSED;
    }
}

enum rdb_announced replica_parse_announcement(struct slice line, struct rdb_framing *ret) {
    int64_t len;
    if (line.len == 0) return RDB_KEEPALIVE;
    if (line.ptr[0] == '-') return RDB_REFUSED;
    if (line.ptr[0] != '$') return RDB_MALFORMED;
    struct slice what = { line.ptr + 1, line.len - 1 };
    if (begins_with(what, "EOF:")) {
        if (what.len != 4 + REPLICA_MARK_LEN) return RDB_MALFORMED;
        *ret = (struct rdb_framing){ .by_mark = true };
        memcpy(ret->mark, what.ptr + 4, REPLICA_MARK_LEN);
        return RDB_BY_MARK;
    }
    if (!str_to_ll(what, &len) || len < 0) return RDB_MALFORMED;
    *ret = (struct rdb_framing){ .total = (uint64_t)len };
    return RDB_BY_LENGTH;
}

bool rdb_framing_is_whole(const struct rdb_framing *f) {
    if (!f->by_mark) return f->got == f->total;
    return f->got >= REPLICA_MARK_LEN && memcmp(f->mark, f->tail, REPLICA_MARK_LEN) == 0;
}

size_t rdb_framing_wants(const struct rdb_framing *f, size_t cap) {
    if (rdb_framing_is_whole(f)) return 0;
    uint64_t left = f->by_mark ? UINT64_MAX : f->total - f->got;
    return left < cap ? (size_t)left : cap;
}

void rdb_framing_took(struct rdb_framing *f, const char *p, size_t n) {
    f->got += n;
    if (!f->by_mark || n == 0) return;
    if (n >= REPLICA_MARK_LEN) {
        memcpy(f->tail, p + n - REPLICA_MARK_LEN, REPLICA_MARK_LEN);
    } else {
        memmove(f->tail, f->tail + n, REPLICA_MARK_LEN - n);
        memcpy(f->tail + REPLICA_MARK_LEN - n, p, n);
    }
}
