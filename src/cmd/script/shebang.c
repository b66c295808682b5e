/* The first line of a script: "#!lua flags=no-writes,allow-oom" of EVAL's, "#!lua name=mylib" of a library. Peers' bytes. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "cmd/script/script_priv.h"

const struct script_flag_name script_flag_names[] = {
    { SCRIPT_NO_WRITES, "no-writes" },
    { SCRIPT_ALLOW_OOM, "allow-oom" },
    { SCRIPT_ALLOW_STALE, "allow-stale" },
    { SCRIPT_NO_CLUSTER, "no-cluster" },
    { SCRIPT_CROSS_SLOT, "allow-cross-slot-keys" },
    { 0, NULL },
};

unsigned script_flag_find(struct slice name) {
    for (const struct script_flag_name *f = script_flag_names; f->name; f++)
        if (slice_eq(name, slice_cstr(f->name))) return f->flag;
    return 0;
}

static bool has_prefix(struct slice s, const char *prefix) {
    size_t n = strlen(prefix);
    return s.len >= n && memcmp(s.ptr, prefix, n) == 0;
}

/* The line without its newline. False: there is no newline. */
static bool first_line(struct slice code, struct slice *ret) {
    const char *nl = memchr(code.ptr, '\n', code.len);
    if (!nl) return false;
    *ret = (struct slice){ code.ptr, (size_t)(nl - code.ptr) };
    return true;
}

/* Comma-separated names; nothing at all is none. */
static bool parse_flags(struct cmd_ctx *c, struct slice list, unsigned *flags) {
    while (list.len > 0) {
        const char *comma = memchr(list.ptr, ',', list.len);
        struct slice name = { list.ptr, comma ? (size_t)(comma - list.ptr) : list.len };
        unsigned flag = script_flag_find(name);
        if (!flag) {
            reply_errorf(c->r, "ERR Unexpected flag in script shebang: %.*s", (int)(name.len < 256 ? name.len : 256), name.ptr);
            return false;
        }
        *flags |= flag;
        if (!comma) return true;
        list.len -= name.len + 1;
        list.ptr = comma + 1;
        if (list.len == 0) {
            reply_error(c->r, "ERR Unexpected flag in script shebang: ");
            return false;
        }
    }
    return true;
}

static bool parse_words(struct cmd_ctx *c, const struct buf *words, int n, unsigned *flags) {
    if (!words || n == 0) {
        reply_error(c->r, "ERR Invalid engine in script shebang");
        return false;
    }
    struct slice engine = buf_slice(&words[0]);
    if (!slice_eq(engine, SLICE_LIT("#!lua"))) {
        reply_errorf(c->r, "ERR Unexpected engine in script shebang: %.*s", (int)(engine.len < 256 ? engine.len : 256),
                     engine.ptr);
        return false;
    }
    for (int i = 1; i < n; i++) {
        struct slice w = buf_slice(&words[i]);
        if (!has_prefix(w, "flags=")) {
            reply_errorf(c->r, "ERR Unknown lua shebang option: %.*s", (int)(w.len < 256 ? w.len : 256), w.len ? w.ptr : "");
            return false;
        }
        if (!parse_flags(c, (struct slice){ w.ptr + 6, w.len - 6 }, flags)) return false;
    }
    return true;
}

bool shebang_flags(struct cmd_ctx *c, struct slice body, unsigned *ret_flags, size_t *ret_skip) {
    struct slice line;
    *ret_skip = 0;
    *ret_flags = SCRIPT_COMPAT;
    if (!has_prefix(body, "#!")) return true;
    if (!first_line(body, &line)) {
        reply_error(c->r, "ERR Invalid script shebang");
        return false;
    }
    int n = 0;
    *ret_flags = 0;
    *ret_skip = line.len; /* the newline stays, so that lines are counted right */
    struct buf *words = str_split_args(line, &n);
    bool ok = parse_words(c, words, n, ret_flags);
    str_split_free(words, n);
    return ok;
}

/* ---- libraries ---- */

bool shebang_name_ok(struct slice name) {
    for (size_t i = 0; i < name.len; i++) {
        char ch = name.ptr[i];
        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || ch == '_')) return false;
    }
    return name.len > 0;
}

/* What is wrong with the words, or NULL and the name. */
static char *library_words(const struct buf *words, int n, char **ret_name) {
    if (!words || n == 0) return mem_strdup("ERR Invalid library metadata");
    for (int i = 1; i < n; i++) {
        struct slice w = buf_slice(&words[i]);
        if (w.len < 5 || strncasecmp(w.ptr, "name=", 5) != 0)
            return mem_asprintf("ERR Invalid metadata value given: %.*s", (int)(w.len < 256 ? w.len : 256), w.len ? w.ptr : "");
        if (*ret_name) return mem_strdup("ERR Invalid metadata value, name argument was given multiple times");
        *ret_name = mem_memdup0(w.ptr + 5, w.len - 5);
        if (!shebang_name_ok((struct slice){ w.ptr + 5, w.len - 5 })) (*ret_name)[0] = 0;
    }
    if (!*ret_name) return mem_strdup("ERR Library name was not given");
    if (!**ret_name)
        return mem_strdup(
            "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character "
            "long");
    struct slice engine = { words[0].data + 2, words[0].len - 2 };
    if (slice_ieq(engine, "lua")) return NULL;
    return mem_asprintf("ERR Engine '%.*s' not found", (int)(engine.len < 256 ? engine.len : 256), engine.ptr);
}

bool shebang_library(struct slice code, char **ret_name, size_t *ret_skip, char **ret_error) {
    struct slice line;
    char *name = NULL;
    int n = 0;
    if (!has_prefix(code, "#!")) {
        *ret_error = mem_strdup("ERR Missing library metadata");
        return false;
    }
    if (!first_line(code, &line)) {
        *ret_error = mem_strdup("ERR Invalid library metadata");
        return false;
    }
    struct buf *words = str_split_args(line, &n);
    *ret_error = library_words(words, n, &name);
    str_split_free(words, n);
    *ret_skip = line.len;
    if (*ret_error) {
        mem_free(name);
        return false;
    }
    *ret_name = name;
    return true;
}
