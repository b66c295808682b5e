/* Reply parser (client side: cli, benchmark, later replica and MIGRATE links): RESP2 and RESP3, incremental. Two faces: a tree
 * for programs that want the value, and a skipper that only finds where a reply ends (benchmark). Hostile input is bounded: depth
 * 64, memory grows with bytes that really arrived. One thread at a time. */
#ifndef KETTLE_PROTO_RESP_REPLY_H
#define KETTLE_PROTO_RESP_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define RESP_MAX_DEPTH 64

enum resp_type {
    RESP_T_STATUS = '+',
    RESP_T_ERROR = '-',
    RESP_T_INT = ':',
    RESP_T_BULK = '$',
    RESP_T_ARRAY = '*',
    RESP_T_NULL = '_',
    RESP_T_DOUBLE = ',',
    RESP_T_BOOL = '#',
    RESP_T_BLOB_ERROR = '!',
    RESP_T_VERBATIM = '=',
    RESP_T_BIGNUM = '(',
    RESP_T_MAP = '%',
    RESP_T_SET = '~',
    RESP_T_ATTR = '|',
    RESP_T_PUSH = '>'
};

struct resp_value {
    enum resp_type type; /* RESP2's $-1 and *-1 are RESP_T_NULL */
    bool null_array;     /* it was *-1 */
    int64_t integer;     /* INT, BOOL */
    double dbl;          /* DOUBLE; its text is in str */
    struct slice
        str;     /* STATUS ERROR BLOB_ERROR BULK DOUBLE BIGNUM VERBATIM (text without the "txt:" prefix); owned by the value */
    char ext[4]; /* VERBATIM */
    size_t n;    /* elements: ARRAY SET PUSH n; MAP ATTR 2 * pairs */
    struct resp_value *el;
};

/* 1: one value parsed, *ret_used bytes; 0: need more; -EPROTO: not RESP, or deeper than RESP_MAX_DEPTH. On 1 the caller owns *ret
 * (resp_value_free); else it is untouched. An attribute at the top is a value of its own, the reply it belongs to is the next
 * one; attributes inside an aggregate are left out (they do not count as elements). Memory is taken only once the whole value is
 * there. */
int resp_value_parse(const char *buf, size_t len, size_t *ret_used, struct resp_value **ret);
struct resp_value *resp_value_free(struct resp_value *v);

struct resp_skip { /* zero-initialise, again after each 1; resumes where it stopped */
    size_t pos;
    size_t scan;   /* a line was looked through up to here without finding its end */
    uint64_t todo; /* values still to be skipped */
    bool started, outer_seen;
    bool is_error; /* the outermost value was an error */
};
/* An attribute and the value it belongs to are one reply here.
 * 1: a whole reply lies in buf[0..*ret_used); 0: need more (call again with the same bytes and more); -EPROTO. */
int resp_skip(struct resp_skip *s, const char *buf, size_t len, size_t *ret_used);

/* Appends a command in multibulk form. */
struct buf;
void resp_write_command(struct buf *out, int argc, const struct slice *argv);

#endif
