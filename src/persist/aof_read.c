/* Reading an append-only file. See the header. Arguments are offsets into the buffer while a command is incomplete, since that
 * may move; pointers once it is whole. */
#include "persist/aof_read.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/str.h"

#define CHUNK 65536
#define HEADER_MAX 128 /* bytes of a line with a length */

void aof_reader_init(struct aof_reader *r, ssize_t (*source)(void *arg, void *p, size_t n), void *arg) {
    *r = (struct aof_reader){ .source = source, .arg = arg };
}

void aof_reader_done(struct aof_reader *r) {
    buf_done(&r->buf);
    mem_free(r->argv);
    r->argv = NULL;
    r->argv_cap = r->argc = 0;
}

ssize_t aof_read_fd(void *arg, void *p, size_t n) {
    for (;;) {
        ssize_t got = read(*(int *)arg, p, n);
        if (got >= 0 || errno != EINTR) return got < 0 ? -errno : got;
    }
}

/* At least one byte more in buf. False: there is none, or err_no. */
static bool more(struct aof_reader *r) {
    if (r->at_end || r->err_no) return false;
    size_t want = r->buf.len > CHUNK ? r->buf.len : CHUNK; /* a large argument: as much again as has come */
    buf_reserve(&r->buf, want);
    ssize_t n = r->source(r->arg, r->buf.data + r->buf.len, want);
    if (n < 0) r->err_no = (int)-n;
    if (n == 0) r->at_end = true;
    if (n > 0) r->buf.len += (size_t)n;
    return n > 0;
}

/* n bytes at pos. */
static bool have(struct aof_reader *r, size_t n) {
    while (r->buf.len - r->pos < n)
        if (!more(r)) return false;
    return true;
}

static enum aof_read ended(const struct aof_reader *r) {
    return r->err_no ? AOF_READ_ERROR : AOF_READ_TRUNCATED;
}

static int64_t at(const struct aof_reader *r, size_t pos) {
    return r->offset + (int64_t)(pos - r->begun);
}

static enum aof_read bad(struct aof_reader *r, size_t pos, const char *text) {
    snprintf(r->err, sizeof r->err, "%s", text);
    r->err_at = at(r, pos);
    return AOF_READ_BAD;
}

/* A line up to "\n", of at most max bytes; *ret without it. COMMAND: fine. */
static enum aof_read take_line(struct aof_reader *r, size_t max, struct slice *ret) {
    size_t seen = 0;
    for (;;) {
        size_t n = r->buf.len - r->pos;
        const char *nl = n > seen ? memchr(r->buf.data + r->pos + seen, '\n', n - seen) : NULL;
        if (nl) {
            *ret = (struct slice){ r->buf.data + r->pos, (size_t)(nl - r->buf.data) - r->pos };
            if (ret->len >= max) return bad(r, r->pos, "Line too long");
            r->pos += ret->len + 1;
            return AOF_READ_COMMAND;
        }
        if (n >= max) return bad(r, r->pos, "Line too long");
        seen = n;
        if (!more(r)) return ended(r);
    }
}

static char printable(char c) {
    return c >= ' ' && c < 0x7f ? c : '?';
}

/* "*3\r\n", "$12\r\n". */
static enum aof_read take_length(struct aof_reader *r, char prefix, int64_t *ret) {
    char text[sizeof r->err];
    size_t begin = r->pos;
    if (!have(r, 1)) return ended(r);
    if (r->buf.data[r->pos] != prefix) {
        snprintf(text, sizeof text, "Expected prefix '%c', got: '%c'", prefix, printable(r->buf.data[r->pos]));
        return bad(r, begin, text);
    }
    struct slice line = { NULL, 0 };
    enum aof_read e = take_line(r, HEADER_MAX, &line);
    if (e != AOF_READ_COMMAND) return e;
    r->lines++;
    if (line.len < 2 || line.ptr[line.len - 1] != '\r') {
        unsigned char c = line.len ? (unsigned char)line.ptr[line.len - 1] : 0;
        snprintf(text, sizeof text, "Expected \\r\\n, got: %02x%02x", c, '\n');
        return bad(r, begin, text);
    }
    if (!str_to_ll((struct slice){ line.ptr + 1, line.len - 2 }, ret)) return bad(r, begin, "Invalid length");
    return AOF_READ_COMMAND;
}

static void push_arg(struct aof_reader *r, size_t pos, size_t len) {
    if (r->argc == r->argv_cap) {
        r->argv_cap = r->argv_cap ? r->argv_cap * 2 : 16;
        r->argv = mem_realloc(r->argv, sizeof(*r->argv) * (size_t)r->argv_cap);
    }
    r->argv[r->argc++] = (struct slice){ (const char *)(uintptr_t)pos, len };
}

static enum aof_read take_arg(struct aof_reader *r) {
    int64_t len;
    enum aof_read e = take_length(r, '$', &len);
    if (e != AOF_READ_COMMAND) return e;
    if (len < 0 || len > INT64_MAX - 2) return bad(r, r->pos, "Invalid length");
    char text[sizeof r->err];
    if (!have(r, (size_t)len + 2)) {
        snprintf(text, sizeof text, "Expected to read %lld bytes, got %lld bytes", (long long)len + 2,
                 (long long)(r->buf.len - r->pos));
        bad(r, r->pos, text);
        return ended(r);
    }
    const char *end = r->buf.data + r->pos + len;
    if (end[0] != '\r' || end[1] != '\n') {
        snprintf(text, sizeof text, "Expected \\r\\n, got: %02x%02x", (unsigned char)end[0], (unsigned char)end[1]);
        return bad(r, r->pos, text);
    }
    push_arg(r, r->pos, (size_t)len);
    r->pos += (size_t)len + 2;
    r->lines++;
    return AOF_READ_COMMAND;
}

static enum aof_read take_command(struct aof_reader *r) {
    int64_t argc;
    enum aof_read e = take_length(r, '*', &argc);
    if (e != AOF_READ_COMMAND) return e;
    if (argc < 1 || argc > INT32_MAX) return bad(r, r->begun, "Invalid number of arguments");
    for (int64_t i = 0; i < argc; i++)
        if ((e = take_arg(r)) != AOF_READ_COMMAND) return e;
    for (int i = 0; i < r->argc; i++) r->argv[i].ptr = r->buf.data + (size_t)(uintptr_t)r->argv[i].ptr;
    return AOF_READ_COMMAND;
}

static enum aof_read take_note(struct aof_reader *r) {
    struct slice line = { NULL, 0 };
    enum aof_read e = take_line(r, AOF_ANNOTATION_MAX, &line);
    if (e != AOF_READ_COMMAND) return e;
    if (line.len && line.ptr[line.len - 1] == '\r') line.len--;
    push_arg(r, 0, line.len);
    r->argv[0] = line;
    return AOF_READ_NOTE;
}

/* What was given out is over. */
static void begin(struct aof_reader *r) {
    r->argc = 0;
    r->err[0] = 0;
    if (r->pos == r->buf.len) {
        buf_clear(&r->buf);
        if (r->buf.cap > 16 * CHUNK) buf_done(&r->buf);
        r->pos = 0;
    } else if (r->pos >= CHUNK && r->pos > r->buf.len / 2) {
        buf_consume(&r->buf, r->pos);
        r->pos = 0;
    }
    r->begun = r->pos;
}

enum aof_read aof_reader_next(struct aof_reader *r) {
    begin(r);
    if (!have(r, 1)) return r->err_no ? AOF_READ_ERROR : AOF_READ_END;
    enum aof_read e = r->buf.data[r->pos] == '#' ? take_note(r) : take_command(r);
    if (e == AOF_READ_COMMAND || e == AOF_READ_NOTE) r->offset += (int64_t)(r->pos - r->begun);
    return e;
}

size_t aof_reader_peek(struct aof_reader *r, size_t n, const char **ret) {
    begin(r);
    have(r, n);
    size_t got = r->buf.len - r->pos;
    *ret = r->buf.data ? r->buf.data + r->pos : "";
    return got < n ? got : n;
}

ssize_t aof_reader_take(struct aof_reader *r, void *p, size_t n) {
    begin(r);
    if (!have(r, 1)) return r->err_no ? -r->err_no : 0;
    size_t got = r->buf.len - r->pos;
    if (got > n) got = n;
    memcpy(p, r->buf.data + r->pos, got);
    r->pos += got;
    r->offset += (int64_t)got;
    return (ssize_t)got;
}

bool aof_note_timestamp(struct slice note, int64_t *ret_s) {
    if (note.len < 5 || memcmp(note.ptr, "#TS:", 4) != 0) return false;
    return str_to_ll((struct slice){ note.ptr + 4, note.len - 4 }, ret_s);
}
