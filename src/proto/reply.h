/* Reply writer: RESP2 or RESP3 into an output queue. One per connection, its thread only. Commands write replies through
 * this and never see a socket. In RESP2 the RESP3 types take their RESP2 forms as Redis 7.2 chooses them. */
#ifndef KETTLE_PROTO_REPLY_H
#define KETTLE_PROTO_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/obuf.h"
#include "base/slice.h"

struct reply {
    struct obuf *out;
    int resp;            /* 2 or 3 */
    bool muted;          /* CLIENT REPLY OFF/SKIP: nothing is written */
    unsigned errors;     /* error replies since the caller last zeroed it */
    char last_error[80]; /* code and start of the last error, for errorstats: "WRONGTYPE Operation..." */
    bool close_after;    /* the connection closes once this is sent (QUIT, protocol error) */
};

void reply_init(struct reply *r, struct obuf *out, int resp);

void reply_simple(struct reply *r, const char *text); /* +text */
#define reply_ok(r) reply_simple((r), "OK")
/* text without '-' and CRLF; "ERR " is put before it unless it starts with a code, a word of three capitals or more (as given by
 * the caller: pass it whole, e.g. "ERR syntax error", "WRONGTYPE ..."). CR and LF inside become spaces. Counted even when muted.
 */
void reply_error(struct reply *r, const char *text);
void reply_errorf(struct reply *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void reply_int(struct reply *r, int64_t v);
void reply_bulk(struct reply *r, const void *p, size_t len);
void reply_bulk_slice(struct reply *r, struct slice s);
void reply_bulk_cstr(struct reply *r, const char *s);
void reply_bulk_ll(struct reply *r, int64_t v); /* number as a bulk string */
void reply_bulkf(struct reply *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Bulk string over memory owned elsewhere, not copied; release(arg) once, on this thread, when sent or dropped. */
void reply_bulk_ref(struct reply *r, const void *p, size_t len, void (*release)(void *), void *arg);
void reply_null(struct reply *r);       /* $-1 or _ */
void reply_null_array(struct reply *r); /* *-1 or _ */
void reply_array(struct reply *r, size_t n);
void reply_map(struct reply *r, size_t pairs);                /* RESP2: array of 2n */
void reply_set(struct reply *r, size_t n);                    /* RESP2: array */
void reply_push(struct reply *r, size_t n);                   /* RESP2: array */
void reply_attribute(struct reply *r, size_t pairs);          /* RESP3 only; the caller checks */
void reply_bool(struct reply *r, bool v);                     /* RESP2: :0 / :1 */
void reply_double(struct reply *r, double v);                 /* RESP2: bulk */
void reply_human_long_double(struct reply *r, long double v); /* bulk in both, INCRBYFLOAT form */
void reply_long_double(struct reply *r, long double v);       /* that form; RESP2: bulk, RESP3: double (GEOPOS) */
void reply_bignum(struct reply *r, struct slice digits);
void reply_verbatim(struct reply *r, const void *p, size_t len, const char ext[3]); /* RESP2: bulk */
void reply_raw(struct reply *r, const void *p, size_t len);                         /* bytes as they are */

/* Aggregate whose length is known only at the end. */
struct reply_deferred {
    struct obuf_mark mark;
    bool muted;
};
struct reply_deferred reply_deferred_begin(struct reply *r);
void reply_deferred_array(struct reply *r, struct reply_deferred d, size_t n);
void reply_deferred_map(struct reply *r, struct reply_deferred d, size_t pairs);
void reply_deferred_set(struct reply *r, struct reply_deferred d, size_t n);
/* A bulk string instead of an aggregate: a cursor that is known last. len at most REPLY_DEFERRED_BULK_MAX. */
#define REPLY_DEFERRED_BULK_MAX 56
void reply_deferred_bulk(struct reply *r, struct reply_deferred d, const void *p, size_t len);

#endif
