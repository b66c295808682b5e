/* RESP request parser (server side): RESP2/RESP3 multibulk commands and inline commands, incremental, zero copy.
 * Owned by the connection's thread. The parser remembers how far it got, so that a command arriving in n pieces costs O(bytes),
 * not O(n * bytes). argv points into the caller's buffer (inline: into the parser's own memory) and is valid until the next call
 * or until the buffer changes. Limits and error texts are Redis's. */
#ifndef KETTLE_PROTO_RESP_PARSE_H
#define KETTLE_PROTO_RESP_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct resp_limits {
    size_t max_bulk_len; /* proto-max-bulk-len */
    size_t max_inline;   /* 64 KiB, PROTO_INLINE_MAX_SIZE */
    bool authenticated;  /* false: at most 10 arguments and 16 KiB bulks, as before AUTH */
};

enum resp_result {
    RESP_NEED_MORE, /* *ret_used bytes (empty commands) are done with and must be dropped; keep the rest and append */
    RESP_COMMAND,   /* argc/argv filled; *ret_used bytes belong to it */
    RESP_ERROR      /* protocol error: parser->error is the text after "-ERR ", "Protocol error: ..." ; close after sending it */
};

struct resp_large {
    char *data;      /* owned, from mem_alloc; NULL: taken */
    size_t cap, pos; /* pos: where it would lie in the caller's buffer, from the start of the command, without those before it */
    int arg;         /* index in argv */
    void (*release)(void *kept); /* see resp_parser_keep; NULL: nothing is kept */
    void *kept;
};

struct resp_parser {
    /* progress within the current command; offsets from the start of the buffer given */
    int64_t multibulk_left; /* -1: at the start of a command */
    int64_t bulk_len;       /* -1: reading a $ header */
    size_t pos;
    size_t scan; /* a header line was looked through up to here without finding its end */
    int argc;    /* arguments complete so far */
    int argv_cap;
    struct slice *argv;      /* while incomplete, ptr holds offsets; real pointers on RESP_COMMAND */
    struct buf *inline_args; /* memory of an inline command */
    int inline_argc;
    struct resp_large *large; /* arguments of this command that lie in memory of their own */
    int n_large;
    const char *error;
    char error_buf[48];
};

/* An argv nobody uses at the moment: a thread's connections, which parse one at a time, hand one on. Zero: none. */
struct resp_argv {
    struct slice *argv;
    int cap;
};

void resp_parser_init(struct resp_parser *p);
void resp_parser_done(struct resp_parser *p);
/* buf/len: everything unconsumed, the same bytes as before plus new ones (the memory may have moved). An empty command
 * ("\r\n", "*0\r\n") is skipped. argv grows with arguments that really arrived, never by the count claimed. */
enum resp_result resp_parse(struct resp_parser *p, const struct resp_limits *lim, const char *buf, size_t len, size_t *ret_used);
/* After RESP_NEED_MORE: how many more bytes the argument being read still lacks (0: unknown). Use for reservation, bounded by the
 * caller. */
size_t resp_parser_lacks(const struct resp_parser *p, size_t len);
/* A large argument need not go through the caller's buffer, and what holds it can become the value it is meant to be.
 * resp_parser_large: after RESP_NEED_MORE, with len unconsumed bytes, the size of the argument under way and its CRLF, when that
 * is min or more and lacks bytes; else 0. The first of those bytes, if any are there, are at data[p->pos].
 * resp_parser_put_large: they have all been received, into data_take of cap bytes (from mem_alloc); the caller's buffer now ends
 * at p->pos, and goes on with what comes behind them. */
size_t resp_parser_large(const struct resp_parser *p, size_t len, size_t min);
void resp_parser_put_large(struct resp_parser *p, char *data_take, size_t cap);
/* After RESP_COMMAND: the memory of the argument whose bytes begin at ptr, *ret_cap bytes, the caller's from here (mem_free).
 * NULL: it has none of its own. argv still points to it. */
char *resp_parser_take_large(struct resp_parser *p, const char *ptr, size_t *ret_cap);
/* Whoever took an argument's memory may have to give it away before the command is over (a value that is replaced by the same
 * command's next pair), and argv is read until then, by the slow log for one. So it gives the parser something that keeps the
 * bytes alive: release(kept) is called by resp_parser_let_go, or when the next command is parsed. */
void resp_parser_keep(struct resp_parser *p, const char *ptr, void (*release)(void *kept), void *kept_take);
void resp_parser_let_go(struct resp_parser *p); /* the command is over, its argv is not read any more */
/* p takes the spare argv if it has none of its own. */
void resp_parser_borrow(struct resp_parser *p, struct resp_argv *spare);
/* Idle connections hold no memory: gives the argv to spare, which may be NULL, if that is empty, and frees everything, unless a
 * command is half-read. Ends the life of the last argv. */
void resp_parser_trim(struct resp_parser *p, struct resp_argv *spare);

#endif
