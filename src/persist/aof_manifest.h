/* The manifest of the append-only file: which files, in which order, make up the data set (Redis 7's multi-part layout).
 *
 *   file appendonly.aof.2.base.rdb seq 2 type b     the base: a snapshot, or commands; at most one
 *   file appendonly.aof.1.incr.aof seq 1 type h     history: replaced by the base, to be deleted
 *   file appendonly.aof.2.incr.aof seq 2 type i     increments, in this order, after the base
 *
 * It is replaced as a whole (temporary file, rename, directory synced), so that a crash leaves the old one or the new one; a file
 * that it does not name does not count. The text is not trusted. One thread at a time; no locks, no log. */
#ifndef KETTLE_PERSIST_AOF_MANIFEST_H
#define KETTLE_PERSIST_AOF_MANIFEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/slice.h"

#define AOF_MANIFEST_SUFFIX ".manifest"
#define AOF_TEMP_PREFIX "temp-"
#define AOF_MANIFEST_LINE_MAX 1024  /* bytes, the newline included */
#define AOF_MANIFEST_MAX (16 << 20) /* bytes of a manifest that is read */

enum aof_part { AOF_PART_BASE = 'b', AOF_PART_HISTORY = 'h', AOF_PART_INCR = 'i' };

struct aof_info {
    char *name; /* owned; a plain name, in the manifest's directory */
    int64_t seq;
    enum aof_part part;
};

struct aof_manifest {
    struct aof_info *base; /* NULL: none */
    struct aof_info **history, **incr;
    int n_history, n_incr;
    int64_t base_seq, incr_seq; /* the highest so far */
};

/* What is wrong with a manifest, where. */
struct aof_manifest_error {
    const char *why; /* static text, Redis's */
    int line;        /* from 1 */
    char text[128];  /* the line, cut; "" when there is none */
};

struct aof_manifest *aof_manifest_new(void); /* of no file */
struct aof_manifest *aof_manifest_free(struct aof_manifest *m);
struct aof_manifest *aof_manifest_dup(const struct aof_manifest *m);
/* 0, or -EINVAL and *err (and *ret untouched). Unknown keys are passed over, as Redis does for what later versions may add. */
int aof_manifest_parse(struct slice text, struct aof_manifest **ret, struct aof_manifest_error *err);
void aof_manifest_format(const struct aof_manifest *m, struct buf *out);
/* Reads dir/name. -ENOENT: there is none (or no directory); else as parse, or another -errno with err->why NULL. */
int aof_manifest_load(const char *dir, const char *name, struct aof_manifest **ret, struct aof_manifest_error *err);
/* Replaces dir/name. 0 or -errno: the old one is still there then; *ret_what (may be NULL): which step failed, static text. */
int aof_manifest_save(const struct aof_manifest *m, const char *dir, const char *name, const char **ret_what);

/* The next base (its old one and nothing else becomes history), the next increment: added to m. Names are m's. */
const char *aof_manifest_next_base(struct aof_manifest *m, const char *filename, bool rdb);
const char *aof_manifest_next_incr(struct aof_manifest *m, const char *filename);
const char *aof_manifest_last_incr(const struct aof_manifest *m);     /* NULL: none */
void aof_manifest_set_base(struct aof_manifest *m, const char *name); /* of an upgrade: an old-style file, sequence 1 */
/* After a rewrite: all increments but the last `keep` are history. */
void aof_manifest_retire_incr(struct aof_manifest *m, int keep);
void aof_manifest_forget_history(struct aof_manifest *m); /* they have been deleted */
/* The files to be loaded, in order: the base, then the increments. */
int aof_manifest_count(const struct aof_manifest *m);
const struct aof_info *aof_manifest_at(const struct aof_manifest *m, int i);

char *aof_path(const char *dir, const char *name); /* dir/name; the caller frees it */
bool aof_name_is_plain(const char *name);          /* no '/' and no '\\' in it */

#endif
