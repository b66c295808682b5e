/*
 * Fingerprints of the files a context was made from, so that whoever reloads can see by stat(2) alone that one was replaced,
 * rewritten, or is still being written.
 *
 * Place in the flow: ktls_files_add() before each file is read; ktls_ctx_files() at any time after, any thread. A symbolic link
 * is followed: the swap of a link (as container platforms do it with whole folders) shows as another inode.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "ktls_ctx_priv.h"

#define MAX_DIR_ENTRIES 65536

struct ktls_file {
    char *path;
    uint64_t stamp;
};

/* The finalizer of SplitMix64: every bit of v reaches every bit of the result. */
static uint64_t mix(uint64_t h, uint64_t v) {
    h ^= v + 0x9e3779b97f4a7c15u;
    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebu;
    return h ^ (h >> 31);
}

static uint64_t mix_text(uint64_t h, const char *s) {
    for (; *s; s++) h = mix(h, (uint8_t)*s);
    return h;
}

/* Not the change time: backup programs that reset the access time would move it. */
static uint64_t stat_stamp(const struct stat *st) {
    uint64_t h = mix(1, st->st_dev);
    h = mix(h, st->st_ino);
    h = mix(h, (uint64_t)st->st_size);
    h = mix(h, (uint64_t)st->st_mtim.tv_sec);
    h = mix(h, (uint64_t)st->st_mtim.tv_nsec);
    return mix(mix(mix(h, st->st_mode), st->st_uid), st->st_gid);
}

/* A sum, because readdir has no order. */
static uint64_t dir_stamp(const char *path) {
    struct dirent *d;
    struct stat st;
    uint64_t sum = 0;
    DIR *dir = opendir(path);
    if (!dir) return (uint64_t)errno;
    for (int i = 0; i < MAX_DIR_ENTRIES && (d = readdir(dir)); i++)
        if (d->d_name[0] != '.' && fstatat(dirfd(dir), d->d_name, &st, 0) == 0) sum += mix_text(stat_stamp(&st), d->d_name);
    closedir(dir);
    return sum;
}

static uint64_t file_stamp(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) return mix(2, (uint64_t)errno);
    uint64_t h = stat_stamp(&st);
    return S_ISDIR(st.st_mode) ? mix(h, dir_stamp(path)) : h;
}

int ktls_files_add(struct ktls_ctx *ctx, const char *path) {
    for (int i = 0; i < ctx->n_files; i++)
        if (strcmp(ctx->files[i].path, path) == 0) return 0; /* the stamp of the first reading counts */
    struct ktls_file *more = realloc(ctx->files, sizeof *more * (size_t)(ctx->n_files + 1));
    if (!more) return -ENOMEM;
    ctx->files = more;
    struct ktls_file *f = &more[ctx->n_files];
    f->path = strdup(path);
    if (!f->path) return -ENOMEM;
    f->stamp = file_stamp(path);
    ctx->n_files++;
    return 0;
}

void ktls_files_done(struct ktls_ctx *ctx) {
    for (int i = 0; i < ctx->n_files; i++) free(ctx->files[i].path);
    free(ctx->files);
}

void ktls_ctx_files(const struct ktls_ctx *ctx, struct ktls_files_state *ret) {
    *ret = (struct ktls_files_state){ .loaded = 0 };
    for (int i = 0; i < ctx->n_files; i++) {
        uint64_t now = file_stamp(ctx->files[i].path);
        if (now != ctx->files[i].stamp && !ret->changed[0]) snprintf(ret->changed, sizeof ret->changed, "%s", ctx->files[i].path);
        ret->loaded = mix(ret->loaded, ctx->files[i].stamp);
        ret->now = mix(ret->now, now);
    }
}
