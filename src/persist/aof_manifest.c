/* The manifest of the append-only file. See the header; used by whoever opens, rewrites, loads or checks the log. */
#include "persist/aof_manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/str.h"

#define BASE_SUFFIX ".base"
#define INCR_SUFFIX ".incr"
#define RDB_FORMAT ".rdb"
#define AOF_FORMAT ".aof"
#define SEQ_MAX (INT64_MAX / 2) /* room to count on */

char *aof_path(const char *dir, const char *name) {
    return *dir ? mem_asprintf("%s/%s", dir, name) : mem_strdup(name);
}

bool aof_name_is_plain(const char *name) {
    return !strchr(name, '/') && !strchr(name, '\\');
}

/* ---- the structure ---- */

static struct aof_info *info_new(const char *name, int64_t seq, enum aof_part part) {
    struct aof_info *i = mem_zalloc(sizeof *i);
    i->name = mem_strdup(name);
    i->seq = seq;
    i->part = part;
    return i;
}

static struct aof_info *info_free(struct aof_info *i) {
    if (!i) return NULL;
    mem_free(i->name);
    mem_free(i);
    return NULL;
}

static void push(struct aof_info ***list, int *n, struct aof_info *i) {
    *list = mem_realloc(*list, sizeof(**list) * ((size_t)*n + 1));
    (*list)[(*n)++] = i;
}

static void add(struct aof_manifest *m, struct aof_info *i) {
    if (i->part == AOF_PART_BASE) {
        m->base = i;
        m->base_seq = i->seq;
    } else if (i->part == AOF_PART_HISTORY) {
        push(&m->history, &m->n_history, i);
    } else {
        push(&m->incr, &m->n_incr, i);
        m->incr_seq = i->seq;
    }
}

struct aof_manifest *aof_manifest_new(void) {
    return mem_zalloc(sizeof(struct aof_manifest));
}

void aof_manifest_forget_history(struct aof_manifest *m) {
    for (int i = 0; i < m->n_history; i++) info_free(m->history[i]);
    mem_free(m->history);
    m->history = NULL;
    m->n_history = 0;
}

struct aof_manifest *aof_manifest_free(struct aof_manifest *m) {
    if (!m) return NULL;
    info_free(m->base);
    aof_manifest_forget_history(m);
    for (int i = 0; i < m->n_incr; i++) info_free(m->incr[i]);
    mem_free(m->incr);
    mem_free(m);
    return NULL;
}

struct aof_manifest *aof_manifest_dup(const struct aof_manifest *m) {
    struct aof_manifest *d = aof_manifest_new();
    if (m->base) add(d, info_new(m->base->name, m->base->seq, AOF_PART_BASE));
    for (int i = 0; i < m->n_history; i++) add(d, info_new(m->history[i]->name, m->history[i]->seq, AOF_PART_HISTORY));
    for (int i = 0; i < m->n_incr; i++) add(d, info_new(m->incr[i]->name, m->incr[i]->seq, AOF_PART_INCR));
    d->base_seq = m->base_seq;
    d->incr_seq = m->incr_seq;
    return d;
}

const char *aof_manifest_next_base(struct aof_manifest *m, const char *filename, bool rdb) {
    if (m->base) {
        m->base->part = AOF_PART_HISTORY;
        push(&m->history, &m->n_history, m->base);
    }
    char *name = mem_asprintf("%s.%lld" BASE_SUFFIX "%s", filename, (long long)m->base_seq + 1, rdb ? RDB_FORMAT : AOF_FORMAT);
    add(m, info_new(name, m->base_seq + 1, AOF_PART_BASE));
    mem_free(name);
    return m->base->name;
}

const char *aof_manifest_next_incr(struct aof_manifest *m, const char *filename) {
    char *name = mem_asprintf("%s.%lld" INCR_SUFFIX AOF_FORMAT, filename, (long long)m->incr_seq + 1);
    add(m, info_new(name, m->incr_seq + 1, AOF_PART_INCR));
    mem_free(name);
    return aof_manifest_last_incr(m);
}

const char *aof_manifest_last_incr(const struct aof_manifest *m) {
    return m->n_incr ? m->incr[m->n_incr - 1]->name : NULL;
}

void aof_manifest_set_base(struct aof_manifest *m, const char *name) {
    info_free(m->base);
    add(m, info_new(name, 1, AOF_PART_BASE));
}

void aof_manifest_retire_incr(struct aof_manifest *m, int keep) {
    int retired = m->n_incr > keep ? m->n_incr - keep : 0;
    for (int i = 0; i < retired; i++) {
        m->incr[i]->part = AOF_PART_HISTORY;
        push(&m->history, &m->n_history, m->incr[i]);
    }
    m->n_incr -= retired;
    if (retired) memmove(m->incr, m->incr + retired, sizeof(*m->incr) * (size_t)m->n_incr);
}

int aof_manifest_count(const struct aof_manifest *m) {
    return (m->base != NULL) + m->n_incr;
}

const struct aof_info *aof_manifest_at(const struct aof_manifest *m, int i) {
    if (m->base) return i == 0 ? m->base : m->incr[i - 1];
    return m->incr[i];
}

/* ---- text ---- */

static void format_one(struct buf *out, const struct aof_info *i) {
    bool plain = *i->name != 0;
    for (const char *p = i->name; *p; p++) plain &= *p > ' ' && *p < 0x7f && *p != '"' && *p != '\'' && *p != '\\';
    buf_append_cstr(out, "file ");
    if (plain)
        buf_append_cstr(out, i->name);
    else
        str_quote(out, slice_cstr(i->name));
    buf_printf(out, " seq %lld type %c\n", (long long)i->seq, i->part);
}

void aof_manifest_format(const struct aof_manifest *m, struct buf *out) {
    if (m->base) format_one(out, m->base);
    for (int i = 0; i < m->n_history; i++) format_one(out, m->history[i]);
    for (int i = 0; i < m->n_incr; i++) format_one(out, m->incr[i]);
}

static const char bad_format[] = "Invalid AOF manifest file format";

/* One key and its value. NULL: fine. */
static const char *take_field(struct aof_info *i, struct slice key, struct buf *value) {
    struct slice v = { value->data ? value->data : "", value->len };
    if (slice_ieq(key, "file")) {
        if (memchr(v.ptr, 0, v.len)) return bad_format;
        mem_free(i->name);
        i->name = mem_memdup0(v.ptr, v.len);
        if (!aof_name_is_plain(i->name)) return "File can't be a path, just a filename";
    } else if (slice_ieq(key, "seq")) {
        if (!str_to_ll(v, &i->seq) || i->seq <= 0 || i->seq > SEQ_MAX) return bad_format;
    } else if (slice_ieq(key, "type")) {
        i->part = v.len ? (enum aof_part)v.ptr[0] : 0;
    }
    return NULL;
}

/* Puts what a line says into its place. */
static const char *place(struct aof_manifest *m, struct aof_info *i) {
    if (!i->name || !*i->name || !i->seq || !i->part) return bad_format;
    if (i->part == AOF_PART_BASE) {
        if (m->base) return "Found duplicate base file information";
    } else if (i->part == AOF_PART_INCR) {
        if (i->seq <= m->incr_seq) return "Found a non-monotonic sequence number";
    } else if (i->part != AOF_PART_HISTORY) {
        return "Unknown AOF file type";
    }
    add(m, i);
    return NULL;
}

static const char *parse_line(struct aof_manifest *m, struct slice line) {
    int argc = 0;
    struct buf *argv = str_split_args(line, &argc);
    const char *why = argv && argc >= 6 && argc % 2 == 0 ? NULL : bad_format;
    struct aof_info *i = mem_zalloc(sizeof *i);
    for (int k = 0; !why && k < argc; k += 2) why = take_field(i, buf_slice(&argv[k]), &argv[k + 1]);
    if (!why) why = place(m, i);
    if (why) info_free(i);
    if (argv) str_split_free(argv, argc);
    return why;
}

static struct slice trim(struct slice s) {
    while (s.len && memchr(" \t\r\n", s.ptr[0], 4)) s = (struct slice){ s.ptr + 1, s.len - 1 };
    while (s.len && memchr(" \t\r\n", s.ptr[s.len - 1], 4)) s.len--;
    return s;
}

static void note_error(struct aof_manifest_error *err, const char *why, int line, struct slice text) {
    size_t n = text.len < sizeof err->text - 1 ? text.len : sizeof err->text - 1;
    err->why = why;
    err->line = line;
    if (n) memcpy(err->text, text.ptr, n);
    err->text[n] = 0;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)err->text[i] < ' ' || err->text[i] == 0x7f) err->text[i] = '?';
}

int aof_manifest_parse(struct slice text, struct aof_manifest **ret, struct aof_manifest_error *err) {
    struct aof_manifest *m = aof_manifest_new();
    const char *why = NULL, *p = text.ptr, *end = text.ptr + text.len;
    struct slice line = { "", 0 };
    int n = 0;
    while (!why && p < end) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t len = nl ? (size_t)(nl - p) + 1 : (size_t)(end - p);
        n++;
        line = trim((struct slice){ p, len });
        if (*p == '#')
            ; /* a comment */
        else if (!nl || len >= AOF_MANIFEST_LINE_MAX)
            why = "The AOF manifest file contains too long line";
        else
            why = line.len ? parse_line(m, line) : bad_format;
        p += len;
    }
    if (!why && n == 0) why = "Found an empty AOF manifest";
    if (why) {
        note_error(err, why, n, line);
        aof_manifest_free(m);
        return -EINVAL;
    }
    *ret = m;
    return 0;
}

/* ---- the file ---- */

static int read_all(int fd, struct buf *out) {
    char chunk[4096];
    for (;;) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        if (n == 0) return 0;
        if (out->len > AOF_MANIFEST_MAX) return -EFBIG;
        buf_append(out, chunk, (size_t)n);
    }
}

int aof_manifest_load(const char *dir, const char *name, struct aof_manifest **ret, struct aof_manifest_error *err) {
    *err = (struct aof_manifest_error){ 0 };
    char *path = aof_path(dir, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC), r = fd < 0 ? -errno : 0;
    mem_free(path);
    if (r == -ENOTDIR) r = -ENOENT;
    if (r) return r;
    struct buf text = { 0 };
    r = read_all(fd, &text);
    close(fd);
    if (r == 0) r = aof_manifest_parse((struct slice){ text.data ? text.data : "", text.len }, ret, err);
    buf_done(&text);
    return r;
}

static int save_text(struct slice text, const char *temp, const char *path, const char **what) {
    *what = "open";
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return -errno;
    *what = "write";
    int r = file_write_all(fd, text.ptr, text.len);
    if (r == 0) {
        *what = "fsync";
        if (fsync(fd) != 0) r = -errno;
    }
    close(fd);
    if (r == 0) {
        *what = "rename";
        if (rename(temp, path) != 0) r = -errno;
    }
    if (r) {
        unlink(temp);
        return r;
    }
    *what = "fsync of the directory";
    return file_sync_dir_of(path);
}

int aof_manifest_save(const struct aof_manifest *m, const char *dir, const char *name, const char **ret_what) {
    const char *what;
    struct buf text = { 0 };
    aof_manifest_format(m, &text);
    char *path = aof_path(dir, name), *temp_name = mem_asprintf(AOF_TEMP_PREFIX "%s", name), *temp = aof_path(dir, temp_name);
    int r = save_text((struct slice){ text.data ? text.data : "", text.len }, temp, path, &what);
    if (ret_what) *ret_what = what;
    buf_done(&text);
    mem_free(path);
    mem_free(temp_name);
    mem_free(temp);
    return r;
}
