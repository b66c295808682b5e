/*
 * Ticket keys from files: reading them, and telling cheaply whether they have changed.
 *
 * Place in the flow: called by the ring (ktls_tickets.c) under its lock. The files are the operator's, made with
 * `openssl rand 80 > FILE` and carried to every node; what is wrong with one is said, and nothing of it is used.
 */
#include "ktls_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_LEN 108                                     /* 80 bytes in base64 */
#define FILE_MAX (KTLS_TICKET_KEYS_MAX * (LINE_LEN + 2)) /* CRLF */
#define FILES_MAX 1024                                   /* of a directory */
#define FRESH_NS 2000000000                              /* a time stamp younger than this may still stand for two contents */

static int say(char *err, size_t errlen, const char *path, const char *why) {
    if (err && errlen) snprintf(err, errlen, "ticket keys '%s': %s", path, why);
    return KTLS_ECONFIG;
}

/* ---- Bytes ---- */

static const char *add_key(struct ktls_ticket_set *set, const uint8_t *raw) {
    static const struct ktls_ticket_key none;
    if (set->n == KTLS_TICKET_KEYS_MAX) return "more than 64 keys";
    for (int i = 0; i < set->n; i++)
        if (memcmp(set->key[i].name, raw, KTLS_TICKET_NAME) == 0) return "two keys of the same name";
    struct ktls_ticket_key *k = &set->key[set->n];
    memset(k, 0, sizeof *k);
    memcpy(k->name, raw, sizeof k->name);
    memcpy(k->hmac, raw + 16, sizeof k->hmac);
    memcpy(k->aes, raw + 48, sizeof k->aes);
    if (memcmp(k->hmac, none.hmac, sizeof none.hmac) == 0 || memcmp(k->aes, none.aes, sizeof none.aes) == 0)
        return "a key of zeros";
    set->n++;
    return NULL;
}

static bool is_text(const uint8_t *data, size_t len) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n";
    for (size_t i = 0; i < len; i++)
        if (data[i] == 0 || !strchr(alphabet, data[i])) return false;
    return true;
}

static const char *parse_line(const uint8_t *line, size_t len, struct ktls_ticket_set *set) {
    uint8_t raw[LINE_LEN / 4 * 3];
    if (len > 0 && line[len - 1] == '\r') len--;
    if (len == 0) return NULL;
    if (len != LINE_LEN || line[len - 1] != '=' || line[len - 2] == '=') return "a line that is not 80 bytes in base64";
    const char *why = "a line that is not base64";
    if (EVP_DecodeBlock(raw, line, LINE_LEN) == sizeof raw) why = add_key(set, raw);
    OPENSSL_cleanse(raw, sizeof raw);
    return why;
}

int ktls_ticket_parse(const uint8_t *data, size_t len, struct ktls_ticket_set *ret, const char **ret_why) {
    const char *why = NULL;
    int before = ret->n;
    if (is_text(data, len)) {
        for (size_t at = 0; at < len && !why;) {
            const uint8_t *nl = memchr(data + at, '\n', len - at);
            size_t n = nl ? (size_t)(nl - data) - at : len - at;
            why = parse_line(data + at, n, ret);
            at += n + 1;
        }
    } else if (len % KTLS_TICKET_FILE_KEY != 0) {
        why = "its length is not 80 bytes per key";
    } else {
        for (size_t at = 0; at < len && !why; at += KTLS_TICKET_FILE_KEY) why = add_key(ret, data + at);
    }
    if (!why && ret->n == before) why = "no key in it";
    if (why) *ret_why = why;
    return why ? KTLS_ECONFIG : 0;
}

/* ---- Files ---- */

static int load_file(const char *path, struct ktls_ticket_set *ret, char *err, size_t errlen) {
    uint8_t *data = malloc(FILE_MAX + 1);
    if (!data) return -ENOMEM;
    const char *why = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r = KTLS_ECONFIG;
    ssize_t n = 0;
    size_t len = 0;
    if (fd >= 0)
        while (len <= FILE_MAX && (n = read(fd, data + len, FILE_MAX + 1 - len)) > 0) len += (size_t)n;
    if (fd < 0 || n < 0)
        why = strerrordesc_np(errno);
    else if (len > FILE_MAX)
        why = "too long for 64 keys";
    else
        r = ktls_ticket_parse(data, len, ret, &why);
    if (fd >= 0) close(fd);
    OPENSSL_cleanse(data, FILE_MAX + 1);
    free(data);
    return r < 0 ? say(err, errlen, path, why ? why : "cannot be read") : 0;
}

/* ---- Directories ---- */

struct entry {
    char *path;
    int64_t mtime_ns, ctime_ns;
    uint64_t mark; /* of everything that changes when the file does */
};

static uint64_t mix(uint64_t h, uint64_t v) {
    h ^= v;
    h *= 0x9e3779b97f4a7c15u;
    return h ^ h >> 29;
}

static uint64_t mark_of(const struct stat *st) {
    uint64_t h = mix(1, (uint64_t)st->st_ino);
    h = mix(h, (uint64_t)st->st_size);
    h = mix(h, (uint64_t)st->st_dev);
    h = mix(h, (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec);
    return mix(h, (uint64_t)st->st_ctim.tv_sec * 1000000000u + (uint64_t)st->st_ctim.tv_nsec);
}

static int64_t mtime_ns(const struct stat *st) {
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static int64_t ctime_ns(const struct stat *st) {
    return (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;
}

static int newest_first(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->mtime_ns != y->mtime_ns) return x->mtime_ns < y->mtime_ns ? 1 : -1;
    return strcmp(y->path, x->path);
}

static void free_entries(struct entry *e, size_t n) {
    for (size_t i = 0; i < n; i++) free(e[i].path);
    free(e);
}

/* The plain files of a directory. 0, -errno. */
static int list_dir(const char *dir, struct entry **ret, size_t *ret_n) {
    DIR *h = opendir(dir);
    if (!h) return -errno;
    struct entry *list = calloc(FILES_MAX, sizeof *list);
    size_t n = 0;
    int r = list ? 0 : -ENOMEM;
    for (struct dirent *e; r == 0 && (e = readdir(h));) {
        struct stat st;
        if (e->d_name[0] == '.' || fstatat(dirfd(h), e->d_name, &st, 0) != 0 || !S_ISREG(st.st_mode)) continue;
        if (n == FILES_MAX) r = -E2BIG;
        if (r == 0 && asprintf(&list[n].path, "%s/%s", dir, e->d_name) < 0) {
            list[n].path = NULL;
            r = -ENOMEM;
        }
        if (r < 0) break;
        list[n].mtime_ns = mtime_ns(&st);
        list[n].ctime_ns = ctime_ns(&st);
        list[n++].mark = mark_of(&st);
    }
    closedir(h);
    if (r < 0) {
        free_entries(list, n);
        return r;
    }
    if (n > 1) qsort(list, n, sizeof *list, newest_first);
    *ret = list;
    *ret_n = n;
    return 0;
}

static int load_dir(const char *dir, struct ktls_ticket_set *ret, char *err, size_t errlen) {
    struct entry *list = NULL;
    size_t n = 0;
    int r = list_dir(dir, &list, &n);
    if (r == -ENOMEM) return r;
    if (r < 0) return say(err, errlen, dir, strerrordesc_np(-r));
    for (size_t i = 0; r == 0 && i < n; i++) r = load_file(list[i].path, ret, err, errlen);
    if (r == 0 && n == 0) r = say(err, errlen, dir, "no file in the directory");
    free_entries(list, n);
    return r;
}

int ktls_ticket_files_load(const char *path, struct ktls_ticket_set *ret, char *err, size_t errlen) {
    struct stat st;
    if (stat(path, &st) != 0) return say(err, errlen, path, strerrordesc_np(errno));
    if (S_ISDIR(st.st_mode)) return load_dir(path, ret, err, errlen);
    return S_ISREG(st.st_mode) ? load_file(path, ret, err, errlen) : say(err, errlen, path, "neither a file nor a directory");
}

static uint64_t stamp_dir(const char *dir, int64_t fresh_ns) {
    struct entry *list = NULL;
    size_t n = 0;
    uint64_t h = 1;
    bool young = false;
    int r = list_dir(dir, &list, &n);
    if (r < 0) return mix(h, (uint64_t)-r) | 1;
    for (size_t i = 0; i < n; i++) {
        h = mix(h, list[i].mark);
        for (const char *p = list[i].path; *p; p++) h = mix(h, (uint8_t)*p);
        if (list[i].ctime_ns > fresh_ns) young = true;
    }
    free_entries(list, n);
    return young ? 0 : h | 1;
}

uint64_t ktls_ticket_files_stamp(const char *path) {
    struct stat st;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t fresh_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - FRESH_NS;
    if (stat(path, &st) != 0) return mix(1, (uint64_t)errno) | 1;
    if (S_ISDIR(st.st_mode)) return stamp_dir(path, fresh_ns);
    return ctime_ns(&st) > fresh_ns ? 0 : mark_of(&st) | 1;
}
