/*
 * PSYNC and REPLCONF: parsing and deciding. See psync.h. Place in the flow: server/cmd_replication.c asks, and acts.
 */
#include "repl/psync.h"

#include <limits.h>
#include <stdio.h>

#include "base/str.h"

/* ---- PSYNC ---- */

enum psync_verdict psync_decide(const struct psync_history *h, struct slice id, int64_t offset, uint64_t *ret_from) {
    if (!slice_ieq(id, h->id)) {
        if (slice_eq(id, SLICE_LIT("?"))) return PSYNC_FULL_ASKED;
        if (h->second_offset < 0 || !slice_ieq(id, h->id2)) return PSYNC_FULL_OTHER_ID;
        if (offset > h->second_offset) return PSYNC_FULL_PAST_ID2;
    }
    if (!h->has_backlog || offset < 1) return PSYNC_FULL_NOT_KEPT;
    uint64_t from = (uint64_t)offset - 1;
    if (from < h->start || from > h->end) return PSYNC_FULL_NOT_KEPT;
    *ret_from = from;
    return PSYNC_CONTINUE;
}

/* ---- REPLCONF ---- */

static bool fail(char *err, size_t cap, const char *text) {
    snprintf(err, cap, "%s", text);
    return false;
}

static bool parse_port(struct slice v, struct replconf *ret, char *err, size_t cap) {
    int64_t port;
    if (!str_to_ll(v, &port)) return fail(err, cap, "ERR value is not an integer or out of range");
    ret->port = port < 0 || port > INT_MAX ? 0 : (int)port;
    ret->set |= REPLCONF_PORT;
    return true;
}

static bool parse_ip(struct slice v, struct replconf *ret, char *err, size_t cap) {
    if (v.len > REPLCONF_IP_MAX) {
        snprintf(err, cap, "ERR REPLCONF ip-address provided by replica instance is too long: %zu bytes", v.len);
        return false;
    }
    ret->ip = v;
    ret->set |= REPLCONF_IP;
    return true;
}

static void parse_capa(struct slice v, struct replconf *ret) { /* unknown ones are of a later version: no error */
    if (slice_ieq(v, "eof")) ret->capa |= REPLICA_CAPA_EOF;
    if (slice_ieq(v, "psync2")) ret->capa |= REPLICA_CAPA_PSYNC2;
    ret->set |= REPLCONF_CAPA;
}

static bool parse_rdb_only(struct slice v, struct replconf *ret, char *err, size_t cap) {
    int64_t on;
    if (!str_to_ll(v, &on)) return fail(err, cap, "ERR value is not an integer or out of range");
    if (on < 0 || on > 1) return fail(err, cap, "ERR value is out of range, value must between 0 and 1");
    ret->rdb_only = on;
    ret->set |= REPLCONF_RDB_ONLY;
    return true;
}

/* Words between blanks: what IS wanted. */
static bool parse_filter(struct slice v, struct replconf *ret, char *err, size_t cap) {
    ret->filter = REPLICA_NO_DATA | REPLICA_NO_FUNCTIONS;
    ret->set |= REPLCONF_FILTER;
    for (size_t at = 0; at < v.len;) {
        size_t end = at;
        while (end < v.len && v.ptr[end] != ' ') end++;
        struct slice word = { v.ptr + at, end - at };
        if (slice_ieq(word, "functions")) {
            ret->filter &= ~(unsigned)REPLICA_NO_FUNCTIONS;
        } else if (word.len) {
            snprintf(err, cap, "ERR Unsupported rdb-filter-only option: %.*s", (int)(word.len < 128 ? word.len : 128), word.ptr);
            return false;
        }
        at = end + 1;
    }
    return true;
}

static bool parse_one(struct slice name, struct slice v, struct replconf *ret, char *err, size_t cap) {
    if (slice_ieq(name, "listening-port")) return parse_port(v, ret, err, cap);
    if (slice_ieq(name, "ip-address")) return parse_ip(v, ret, err, cap);
    if (slice_ieq(name, "capa")) {
        parse_capa(v, ret);
        return true;
    }
    if (slice_ieq(name, "rdb-only")) return parse_rdb_only(v, ret, err, cap);
    if (slice_ieq(name, "rdb-filter-only")) return parse_filter(v, ret, err, cap);
    snprintf(err, cap, "ERR Unrecognized REPLCONF option: %.*s", (int)(name.len < 128 ? name.len : 128), name.ptr);
    return false;
}

/* True: the rest is no option, and nothing is replied. */
static bool parse_silent(int argc, const struct slice *argv, int i, struct replconf *ret) {
    int64_t v;
    if (slice_ieq(argv[i], "getack")) {
        ret->set |= REPLCONF_GETACK;
        return true;
    }
    if (!slice_ieq(argv[i], "ack")) return false;
    ret->set |= REPLCONF_ACK;
    ret->ack = str_to_ll(argv[i + 1], &v) ? v : -1;
    if (argc > i + 3 && slice_ieq(argv[i + 2], "fack") && str_to_ll(argv[i + 3], &v)) {
        ret->fack = v;
        ret->set |= REPLCONF_FACK;
    }
    return true;
}

bool replconf_parse(int argc, const struct slice *argv, struct replconf *ret, char *err, size_t cap) {
    *ret = (struct replconf){ 0 };
    if (argc % 2 == 0) return fail(err, cap, "ERR syntax error");
    for (int i = 1; i + 1 < argc; i += 2) {
        if (parse_silent(argc, argv, i, ret)) return true;
        if (!parse_one(argv[i], argv[i + 1], ret, err, cap)) return false;
    }
    return true;
}
