/* The primitives of Redis's RDB format: lengths, strings, numbers; to a sink and from a source, in pieces of any size. Used by
 * DUMP and RESTORE, by files and by replication.
 *
 * Neither end knows what is on the other side. Errors stick: after one, writing does nothing and reading gives zeroes, so that
 * callers look once in a while and at the end. One thread at a time. */
#ifndef KETTLE_DATA_RDB_IO_H
#define KETTLE_DATA_RDB_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

/* ---- writing ---- */

struct rdb_out {
    /* 0 or -errno. NULL: everything stays in buf. */
    int (*sink)(void *arg, const void *p, size_t n);
    void *arg;
    bool compress; /* strings of more than 20 bytes by LZF, where that saves something */
    bool checksum; /* keep crc */
    /* what follows is kept here */
    struct buf buf;
    uint64_t crc;   /* of what went to the sink */
    uint64_t bytes; /* all of it */
    int err;        /* of the sink */
};

void rdb_put(struct rdb_out *out, const void *p, size_t n);
void rdb_put_u8(struct rdb_out *out, uint8_t v);
void rdb_put_u64(struct rdb_out *out, uint64_t v); /* 8 bytes, little endian: times, doubles */
void rdb_put_double(struct rdb_out *out, double v);
void rdb_put_len(struct rdb_out *out, uint64_t v);
void rdb_put_string(struct rdb_out *out, struct slice s);                /* as a number where it is one of 32 bits */
void rdb_put_blob(struct rdb_out *out, const void *p, size_t n);         /* never as a number */
void rdb_put_lzf(struct rdb_out *out, struct slice lzf, size_t raw_len); /* what is compressed already */
int rdb_flush(struct rdb_out *out);                                      /* the error so far, 0: none */
void rdb_out_done(struct rdb_out *out);                                  /* frees the buffer */

/* ---- reading ---- */

struct rdb_in {
    const unsigned char *p, *end; /* what is there now */
    /* More: sets p and end to at least one new byte; false: no more, or an error. NULL: p..end is all. */
    bool (*more)(struct rdb_in *in);
    void *arg;
    uint64_t max_string; /* bytes; a longer one is an error. 0: none but what is there */
    const char *err;     /* what is wrong; NULL: nothing so far. Static text */
};

bool rdb_fail(struct rdb_in *in, const char *why); /* false, always; the first reason stays */
/* The reason given for an aggregate without elements. It has been read to its end: who clears err can go on behind it. */
extern const char rdb_empty[];
bool rdb_get(struct rdb_in *in, void *ret, size_t n);
uint8_t rdb_get_u8(struct rdb_in *in);
uint64_t rdb_get_u64(struct rdb_in *in);
double rdb_get_double(struct rdb_in *in);
/* The length; *ret_encoded (may be NULL: then such a thing is an error): it is the kind of an encoded string instead. */
uint64_t rdb_get_len(struct rdb_in *in, bool *ret_encoded);
/* A string as plain bytes, owned (mem_alloc; never NULL unless false). *ret_len without the NUL that follows. */
bool rdb_get_string(struct rdb_in *in, char **ret, size_t *ret_len);
/* The quick way: the string, if all of it is there now and not compressed; in tmp, or where it was read, until more is read.
 * False: nothing has been read. */
#define RDB_PEEK_TMP 21
bool rdb_take_string(struct rdb_in *in, char tmp[RDB_PEEK_TMP], struct slice *ret);
double rdb_get_text_double(struct rdb_in *in); /* the old form: a length byte and decimal text */

#endif
