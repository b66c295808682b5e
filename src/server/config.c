/*
 * Configuration: life, loading from files, standard input and the command line, CONFIG GET and SET. Text in, values out; what a
 * value means is decided by its readers.
 */
#include "server/config.h"

#include <errno.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/str.h"
#include "cmd/acl.h"
#include "server/config_priv.h"

#define INCLUDE_DEPTH 8
#define CONFIG_MAX_BYTES (16 << 20) /* a configuration larger than this is a mistake (a device, a log) */

static const char fatal_version[] = "7.2.4";

struct loader {
    struct config *c;
    bool seen[512]; /* directives met in this load: the first line of a multi-line one resets its default */
    bool trusted;   /* it may name files and directories */
    int depth;
    int line_no;
    char err[512];
    char line[512];
};

/* ---- life ---- */

struct config *config_new(void) {
    struct config *c = mem_zalloc(sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    c->other = mem_calloc((size_t)n_directives, sizeof *c->other);
    for (int i = 0; i < n_directives; i++) {
        if (!directives[i].def) continue;
        int argc;
        struct buf *argv = str_split_args(slice_cstr(directives[i].def), &argc);
        struct slice words[32];
        bool split = directives[i].flags & DIR_MULTI_ARG;
        for (int k = 0; k < argc && k < 32; k++) words[k] = buf_slice(&argv[k]);
        if (!split || argc == 0) words[0] = slice_cstr(directives[i].def);
        directive_set(c, i, split && argc ? argc : 1, words, true);
        str_split_free(argv, argc);
    }
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    atomic_store(&c->io_threads, cores < 1 ? 1 : cores > 8 ? 8 : cores);
    char cwd[PATH_MAX];
    if (getcwd(cwd, sizeof cwd)) c->dir = mem_strdup(cwd);
    return c;
}

void config_drop_users(struct config *c) {
    for (int i = 0; i < c->n_users; i++) {
        mem_free(c->users[i].name);
        acl_rules_free(c->users[i].rules, c->users[i].n_rules);
    }
    mem_free(c->users);
    c->users = NULL;
    c->n_users = 0;
}

struct config *config_free(struct config *c) {
    if (!c) return NULL;
    config_drop_users(c);
    for (int i = 0; i < n_directives; i++) {
        char **slot = directives[i].kind == DIR_STR && directives[i].off != NO_FIELD
                          ? (char **)(void *)((char *)c + directives[i].off)
                          : &c->other[i];
        if (*slot && (directives[i].flags & DIR_SECRET)) mem_wipe(*slot, strlen(*slot));
        mem_free(*slot);
        *slot = NULL;
    }
    for (int i = 0; i < c->n_bind; i++) mem_free(c->bind[i]);
    for (int i = 0; i < c->n_renames; i++) {
        mem_free(c->renames[i].from);
        mem_free(c->renames[i].to);
    }
    mem_free(c->renames);
    mem_free(c->other);
    mem_free(c->config_file);
    mem_free(c->executable);
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
    return NULL;
}

char *config_str_dup(struct config *c, char *const *field) {
    pthread_mutex_lock(&c->lock);
    char *copy = *field && **field ? mem_strdup(*field) : NULL;
    pthread_mutex_unlock(&c->lock);
    return copy;
}

char *config_other_dup(struct config *c, const char *name) {
    int i = directive_find(slice_cstr(name));
    return i < 0 || directives[i].off != NO_FIELD ? NULL : config_str_dup(c, &c->other[i]);
}

void config_other_set(struct config *c, const char *name, const char *text) {
    int i = directive_find(slice_cstr(name));
    char *fresh = mem_strdup(text), *old;
    pthread_mutex_lock(&c->lock);
    old = c->other[i];
    c->other[i] = fresh;
    pthread_mutex_unlock(&c->lock);
    mem_free(old);
}

/* ---- files ---- */

static int load_text(struct loader *l, const char *text, size_t len);

static int read_all(FILE *f, struct buf *out) {
    char chunk[4096];
    size_t n;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0) {
        buf_append(out, chunk, n);
        if (out->len > CONFIG_MAX_BYTES) return -EFBIG;
    }
    return ferror(f) ? -EIO : 0;
}

static int read_path(const char *path, struct buf *out) {
    FILE *f = fopen(path, "re");
    if (!f) return -errno;
    int r = read_all(f, out);
    fclose(f);
    return r;
}

static int include(struct loader *l, const char *pattern) {
    glob_t g;
    int r = 0;
    if (++l->depth > INCLUDE_DEPTH) {
        snprintf(l->err, sizeof l->err, "too many nested includes");
        return -EINVAL;
    }
    bool is_pattern = strpbrk(pattern, "*?[") != NULL;
    int found = glob(pattern, 0, NULL, &g);
    if (found != 0 && !is_pattern) {
        snprintf(l->err, sizeof l->err, "Can't open config file '%.256s': %s", pattern, strerror(ENOENT));
        r = -EINVAL;
    }
    int line_no = l->line_no;
    for (size_t i = 0; found == 0 && r == 0 && i < g.gl_pathc; i++) {
        struct buf text = { 0 };
        r = read_path(g.gl_pathv[i], &text);
        if (r < 0) {
            snprintf(l->err, sizeof l->err, "Can't open config file '%.256s': %s", g.gl_pathv[i], strerror(-r));
        } else {
            r = load_text(l, text.data, text.len);
        }
        buf_done(&text);
    }
    if (r == 0) l->line_no = line_no;
    if (found == 0) globfree(&g);
    l->depth--;
    return r;
}

/* `dir` takes effect at once, as in redis-server: paths that follow it may be relative to it. Shown absolute from then on. */
static const char *enter_dir(struct config *c) {
    char cwd[PATH_MAX];
    if (!c->dir || chdir(c->dir) != 0) return strerror(c->dir ? errno : EINVAL);
    if (!getcwd(cwd, sizeof cwd)) return strerror(errno);
    mem_free(c->dir);
    c->dir = mem_strdup(cwd);
    return NULL;
}

static const char *set_words_of_line(struct loader *l, int i, int n, const struct slice *words) {
    const char *err = directive_set(l->c, i, n, words, !l->seen[i]);
    l->seen[i] = true;
    return !err && l->trusted && strcmp(directives[i].name, "dir") == 0 ? enter_dir(l->c) : err;
}

/* A directive of several words takes them in one pair of quotes too: save "900 1 300 10". */
static const char *set_quoted_words(struct loader *l, int i, struct slice text) {
    int argc = 0;
    struct buf *argv = str_split_args(text, &argc);
    struct slice words[64] = { text };
    for (int k = 0; k < argc && k < 64; k++) words[k] = buf_slice(&argv[k]);
    const char *err = argc > 64 ? "wrong number of arguments" : set_words_of_line(l, i, argc ? argc : 1, words);
    str_split_free(argv, argc);
    return err;
}

/* Everything about a user's rules that can be checked without knowing the commands, of which there is no table yet. */
static int check_user(struct config *c, const struct cfg_user *u) {
    const struct acl_env env = { 0 };
    int r = acl_name_is_valid(slice_cstr(u->name)) ? 0 : -EINVAL;
    for (int i = 0; i < c->n_users; i++)
        if (strcmp(c->users[i].name, u->name) == 0) r = -EALREADY;
    struct acl_user *fake = acl_user_new(&env);
    for (int i = 0; i < u->n_rules && r == 0; i++) {
        r = acl_user_apply(fake, &env, (struct slice){ u->rules[i].data, u->rules[i].len });
        if (r == -ENOENT) r = 0;
    }
    acl_user_unref(fake);
    return r;
}

/* "user NAME rule ...": kept until the server has its commands. */
static int add_user(struct loader *l, int argc, const struct buf *argv) {
    struct config *c = l->c;
    if (argc < 2) {
        snprintf(l->err, sizeof l->err, "wrong number of arguments");
        return -EINVAL;
    }
    struct slice *words = mem_calloc((size_t)argc, sizeof *words);
    for (int i = 0; i < argc; i++) words[i] = (struct slice){ argv[i].data ? argv[i].data : "", argv[i].len };
    struct cfg_user u = { .name = mem_memdup0(words[1].ptr, words[1].len) };
    u.rules = acl_rules_merge(argc - 2, words + 2, &u.n_rules, NULL);
    int r = u.rules ? check_user(c, &u) : -EBADF;
    mem_free(words);
    c->users = mem_realloc(c->users, sizeof(*c->users) * (size_t)(c->n_users + 1));
    c->users[c->n_users++] = u;
    if (r == 0) return 0;
    snprintf(l->err, sizeof l->err, "Error in user declaration '%.128s': %s", u.name, acl_rule_error(r));
    return -EINVAL;
}

static int apply_line(struct loader *l, int argc, struct buf *argv) {
    struct slice words[64];
    str_to_lower(argv[0].data, argv[0].len);
    if (slice_ieq(buf_slice(&argv[0]), "include")) {
        if (argc == 2) return include(l, buf_cstr(&argv[1]));
        snprintf(l->err, sizeof l->err, "wrong number of arguments");
        return -EINVAL;
    }
    if (slice_ieq(buf_slice(&argv[0]), "user")) return add_user(l, argc, argv);
    int i = directive_find(buf_slice(&argv[0]));
    const char *err = NULL;
    if (i < 0) {
        err = "Bad directive or wrong number of arguments";
    } else if (argc < 2 || argc > 64 || (argc > 2 && !(directives[i].flags & DIR_MULTI_ARG))) {
        err = "wrong number of arguments";
    } else {
        for (int k = 1; k < argc; k++) words[k - 1] = (struct slice){ argv[k].data ? argv[k].data : "", argv[k].len };
        bool quoted = argc == 2 && (directives[i].flags & DIR_MULTI_ARG) && memchr(words[0].ptr, ' ', words[0].len);
        err = quoted ? set_quoted_words(l, i, words[0]) : set_words_of_line(l, i, argc - 1, words);
    }
    if (!err) return 0;
    snprintf(l->err, sizeof l->err, "%s", err);
    return -EINVAL;
}

static int load_line(struct loader *l, struct slice line) {
    while (line.len && strchr(" \t\r", line.ptr[0])) line = (struct slice){ line.ptr + 1, line.len - 1 };
    while (line.len && strchr(" \t\r\n", line.ptr[line.len - 1])) line.len--;
    if (line.len == 0 || line.ptr[0] == '#') return 0;
    int argc;
    snprintf(l->line, sizeof l->line, "%.*s", (int)(line.len < 400 ? line.len : 400), line.ptr);
    struct buf *argv = str_split_args(line, &argc);
    if (!argv) {
        snprintf(l->err, sizeof l->err, "Unbalanced quotes in configuration line");
        return -EINVAL;
    }
    int r = argc ? apply_line(l, argc, argv) : 0;
    str_split_free(argv, argc);
    return r;
}

static int load_text(struct loader *l, const char *text, size_t len) {
    const char *p = text, *end = text + len;
    for (l->line_no = 1; p < end; l->line_no++) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p);
        if (memchr(p, 0, n)) {
            snprintf(l->err, sizeof l->err, "NUL byte in the configuration");
            return -EINVAL;
        }
        int r = load_line(l, (struct slice){ p, n });
        if (r < 0) return r;
        p += n + 1;
    }
    return 0;
}

int config_load_text(struct config *c, const char *text, size_t len, char *err, size_t errlen) {
    struct loader l = { .c = c, .depth = INCLUDE_DEPTH }; /* no includes: the text is not trusted to name files */
    int r = len ? load_text(&l, text, len) : 0;
    if (r < 0) snprintf(err, errlen, "line %d: %s", l.line_no, l.err);
    return r;
}

/* ---- command line ---- */

static void fatal(const struct loader *l) {
    fprintf(stderr, "\n*** FATAL CONFIG FILE ERROR (Redis %s) ***\n", fatal_version);
    fprintf(stderr, "Reading the configuration file, at line %d\n>>> '%s'\n%s\n", l->line_no, l->line, l->err);
}

/* "--port 7777 --save ''" to lines: every word that begins with -- opens one, unless the directive before it has had no value
 * yet and needs one; --save needs none. */
static void args_to_lines(int argc, char **argv, int from, struct buf *out) {
    bool has_value = true;
    for (int i = from; i < argc; i++) {
        const char *a = argv[i];
        if (a[0] == '-' && a[1] == '-' && has_value) {
            bool is_last = i + 1 >= argc;
            buf_append_char(out, '\n');
            buf_append_cstr(out, a + 2);
            has_value = !strcasecmp(a + 2, "save") && (is_last || !strncmp(argv[i + 1], "--", 2));
            if (has_value) buf_append_cstr(out, " \"\"");
        } else {
            buf_append_char(out, ' ');
            str_quote(out, slice_cstr(a));
            has_value = true;
        }
    }
    buf_append_char(out, '\n');
}

static int load_config_file(struct config *c, const char *path, struct buf *text) {
    char absolute[PATH_MAX];
    if (!realpath(path, absolute)) {
        fprintf(stderr, "Fatal error, can't open config file '%s': %s\n", path, strerror(errno));
        return -errno;
    }
    c->config_file = mem_strdup(absolute);
    int r = read_path(absolute, text);
    if (r < 0) fprintf(stderr, "Fatal error, can't open config file '%s': %s\n", absolute, strerror(-r));
    return r;
}

int config_load_args(struct config *c, int argc, char **argv) {
    struct buf text = { 0 };
    struct loader *l = mem_zalloc(sizeof *l);
    int at = 1, r = 0;
    l->c = c;
    l->trusted = true;
    if (argc > at && argv[at][0] != '-') r = load_config_file(c, argv[at++], &text);
    if (r == 0 && text.len && text.data[text.len - 1] != '\n') buf_append_char(&text, '\n');
    for (int i = at; r == 0 && i < argc; i++) {
        if (strcmp(argv[i], "-") != 0) continue;
        r = read_all(stdin, &text);
        buf_append_char(&text, '\n');
        for (int k = i; k < argc - 1; k++) argv[k] = argv[k + 1];
        argc--;
        break;
    }
    if (r == 0) args_to_lines(argc, argv, at, &text);
    if (r == 0 && (r = load_text(l, text.data, text.len)) < 0) fatal(l);
    buf_done(&text);
    mem_free(l);
    return r;
}

/* ---- CONFIG GET ---- */

struct found {
    char name[64];
    int index;
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct found *)a)->name, ((const struct found *)b)->name);
}

static bool is_literal(struct slice pattern) {
    return !memchr(pattern.ptr, '*', pattern.len) && !memchr(pattern.ptr, '?', pattern.len) &&
           !memchr(pattern.ptr, '[', pattern.len);
}

/* Adds a name that was asked for, once. A literal one is answered in the asker's own spelling, as redis-server does. */
static size_t collect_name(struct found *out, const char *name, int index, int n, const struct slice *patterns) {
    for (int k = 0; k < n; k++) {
        bool literal = is_literal(patterns[k]);
        if (literal ? !slice_ieq(patterns[k], name) : !str_glob(patterns[k], slice_cstr(name), true)) continue;
        out->index = index;
        snprintf(out->name, sizeof out->name, "%.*s", literal ? (int)patterns[k].len : 64, literal ? patterns[k].ptr : name);
        return 1;
    }
    return 0;
}

void config_get(struct config *c, int n, const struct slice *patterns,
                void (*fn)(void *arg, const char *name, struct slice value), void *arg) {
    struct found *f = mem_calloc((size_t)n_directives * 2, sizeof *f);
    size_t count = 0;
    for (int i = 0; i < n_directives; i++) {
        if (directives[i].flags & DIR_HIDDEN) continue;
        count += collect_name(f + count, directives[i].name, i, n, patterns);
        if (directives[i].alias) count += collect_name(f + count, directives[i].alias, i, n, patterns);
    }
    qsort(f, count, sizeof *f, by_name);
    for (size_t k = 0; k < count; k++) {
        struct buf value = { 0 };
        pthread_mutex_lock(&c->lock);
        directive_get(c, f[k].index, &value);
        pthread_mutex_unlock(&c->lock);
        fn(arg, f[k].name, (struct slice){ value.data ? value.data : "", value.len });
        if (value.data) mem_wipe(value.data, value.cap);
        buf_done(&value);
    }
    mem_free(f);
}

/* ---- CONFIG SET ---- */

struct change {
    int index;
    struct slice value;
    char *old;
};

static const char *set_one(struct config *c, int i, struct slice value) {
    int argc = 0;
    struct slice one = { 0 }, *words = &one;
    struct buf *argv = NULL;
    const char *err;
    if (directives[i].flags & DIR_MULTI_ARG) {
        argv = str_split_args(value, &argc);
        if (!argv || (argc > 64 && directives[i].kind != DIR_LIST)) {
            str_split_free(argv, argc);
            return "wrong number of arguments";
        }
        if (argc) words = mem_calloc((size_t)argc, sizeof *words);
        for (int k = 0; k < argc; k++) words[k] = (struct slice){ argv[k].data ? argv[k].data : "", argv[k].len };
    }
    if (argc == 0) words[0] = value.len ? value : SLICE_LIT("");
    pthread_mutex_lock(&c->lock);
    err = directive_set(c, i, argc ? argc : 1, words, true);
    pthread_mutex_unlock(&c->lock);
    if (words != &one) mem_free(words);
    str_split_free(argv, argc);
    return err;
}

static char *current(struct config *c, int i) {
    struct buf value = { 0 };
    pthread_mutex_lock(&c->lock);
    directive_get(c, i, &value);
    pthread_mutex_unlock(&c->lock);
    return buf_steal(&value, NULL);
}

static const char *dir_change(struct config *c, int i) {
    if (strcmp(directives[i].name, "dir") != 0) return NULL;
    pthread_mutex_lock(&c->lock);
    const char *err = enter_dir(c);
    pthread_mutex_unlock(&c->lock);
    return err;
}

/* Checks that do not need the new value: unknown, immutable, protected, twice in one call. */
static int check_names(struct config *c, int n, const struct slice *pairs, struct change *ch, char *err, size_t errlen) {
    for (int k = 0; k < n; k++) {
        struct slice name = pairs[2 * k];
        int i = directive_find(name);
        const char *why = NULL;
        if (i < 0 || (directives[i].flags & DIR_HIDDEN)) {
            snprintf(err, errlen, "Unknown option or number of arguments for CONFIG SET - '%.*s'",
                     (int)(name.len < 128 ? name.len : 128), name.ptr);
            return -EINVAL;
        }
        if (directives[i].flags & DIR_IMMUTABLE) why = "can't set immutable config";
        if ((directives[i].flags & DIR_PROTECTED) && cfg_get(&c->enable_protected_configs) == 0)
            why = "can't set protected config";
        for (int j = 0; j < k; j++)
            if (ch[j].index == i) why = "duplicate parameter";
        if (why) {
            snprintf(err, errlen, "CONFIG SET failed (possibly related to argument '%.*s') - %s",
                     (int)(name.len < 128 ? name.len : 128), name.ptr, why);
            return -EINVAL;
        }
        ch[k] = (struct change){ .index = i, .value = pairs[2 * k + 1] };
    }
    return 0;
}

static void put_back(struct config *c, struct change *ch, int n) {
    for (int k = n - 1; k >= 0; k--) {
        set_one(c, ch[k].index, slice_cstr(ch[k].old));
        dir_change(c, ch[k].index);
    }
}

int config_set(struct config *c, int n, const struct slice *pairs, const struct config_apply *apply, char *err, size_t errlen) {
    struct change *ch = mem_calloc((size_t)n, sizeof *ch);
    const char **names = mem_calloc((size_t)n, sizeof *names), *why = NULL;
    int done = 0, r = check_names(c, n, pairs, ch, err, errlen);
    while (r == 0 && !why && done < n) {
        struct change *one = &ch[done];
        one->old = current(c, one->index);
        names[done] = directives[one->index].name;
        why = set_one(c, one->index, one->value);
        if (!why) why = dir_change(c, one->index);
        done++;
    }
    struct slice blamed = done ? pairs[2 * (done - 1)] : pairs[0];
    const char *about = NULL;
    bool applied = r == 0 && !why && apply;
    if (applied) why = apply->apply(apply->arg, names, n, &about);
    if (why) {
        for (int k = 0; about && k < n; k++)
            if (strcmp(about, names[k]) == 0) blamed = pairs[2 * k];
        snprintf(err, errlen, "CONFIG SET failed (possibly related to argument '%.*s') - %s",
                 (int)(blamed.len < 128 ? blamed.len : 128), blamed.ptr, why);
        put_back(c, ch, done);
        if (applied) apply->apply(apply->arg, names, n, &about);
        r = -EINVAL;
    }
    for (int k = 0; k < n; k++) {
        if (ch[k].old) mem_wipe(ch[k].old, strlen(ch[k].old));
        mem_free(ch[k].old);
    }
    mem_free(ch);
    mem_free(names);
    return r;
}
