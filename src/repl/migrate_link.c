/* The network's part of MIGRATE. See migrate_link.h.
 *
 * Place in the flow: server/migrate.c gives it the bytes that cmd_migrate.c has made under the locks of the keys; it is called by
 * MIGRATE's own threads, and by I/O threads where the command may not wait for another thread (EXEC, scripts). No lock is held
 * while the network is waited for, but those the caller has.
 *
 * Only a line that begins as it should ('+' for RESTORE) counts as carried out, '-' as refused, and anything else ends the link:
 * the keys are deleted here on the strength of that answer, and whatever listens on a wrong port may answer anything. */
#include "repl/migrate_link.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/str.h"
#include "net/connect.h"

#define CHUNK 65536 /* that has the whole timeout for itself */

struct migrate_link {
    struct list node; /* of links->kept, or of links->busy */
    struct syncio io;
    char *host;
    int port;
    struct ktls_ctx *tls; /* a reference: another context, another link. NULL: plain */
    int64_t db;           /* selected there; -1: not known */
    bool is_known;        /* somebody has authenticated: not for those who do not */
    int64_t used_us;
};

struct migrate_links {
    pthread_mutex_t lock; /* of what follows; innermost */
    struct list kept;     /* used last at the end */
    struct list busy;     /* connected and taken */
    int n_kept;
    bool is_over;
};

struct migrate_links *migrate_links_new(void) {
    struct migrate_links *ls = mem_zalloc(sizeof(*ls));
    pthread_mutex_init(&ls->lock, NULL);
    list_init(&ls->kept);
    list_init(&ls->busy);
    return ls;
}

/* In no list. Closing does not wait. */
static struct migrate_link *link_free(struct migrate_link *l) {
    if (!l) return NULL;
    syncio_close(&l->io, 0);
    ktls_ctx_unref(l->tls);
    mem_free(l->host);
    mem_free(l);
    return NULL;
}

/* The first of the kept ones that pred is true of, taken out. NULL: none. */
static struct migrate_link *take_first(struct migrate_links *ls, bool (*pred)(const struct migrate_link *l, const void *arg),
                                       const void *arg) {
    struct migrate_link *found = NULL;
    pthread_mutex_lock(&ls->lock);
    list_for_each(n, &ls->kept) {
        struct migrate_link *l = list_entry(n, struct migrate_link, node);
        if (!pred(l, arg)) continue;
        found = l;
        break;
    }
    if (found) {
        list_remove(&found->node);
        ls->n_kept--;
    }
    pthread_mutex_unlock(&ls->lock);
    return found;
}

static bool is_any(const struct migrate_link *l, const void *arg) {
    (void)l, (void)arg;
    return true;
}

static bool is_idle(const struct migrate_link *l, const void *arg) {
    return *(const int64_t *)arg - l->used_us >= MIGRATE_LINK_IDLE_US;
}

static bool is_for(const struct migrate_link *l, const void *arg) {
    const struct migrate_target *to = arg;
    return l->port == to->port && l->tls == to->tls && (to->has_auth || !l->is_known) && !strcmp(l->host, to->host);
}

struct migrate_links *migrate_links_free(struct migrate_links *ls) {
    if (!ls) return NULL;
    struct migrate_link *l;
    while ((l = take_first(ls, is_any, NULL))) link_free(l);
    pthread_mutex_destroy(&ls->lock);
    mem_free(ls);
    return NULL;
}

void migrate_links_expire(struct migrate_links *ls, int64_t now_us) {
    struct migrate_link *l;
    while ((l = take_first(ls, is_idle, &now_us))) link_free(l);
}

void migrate_links_interrupt(struct migrate_links *ls) {
    pthread_mutex_lock(&ls->lock);
    ls->is_over = true;
    list_for_each(n, &ls->busy) shutdown(list_entry(n, struct migrate_link, node)->io.fd, SHUT_RDWR);
    pthread_mutex_unlock(&ls->lock);
}

int migrate_links_count(struct migrate_links *ls) {
    pthread_mutex_lock(&ls->lock);
    int n = ls->n_kept;
    pthread_mutex_unlock(&ls->lock);
    return n;
}

/* Its descriptor may be shut down by migrate_links_interrupt from here on. */
static bool go_busy(struct migrate_links *ls, struct migrate_link *l) {
    pthread_mutex_lock(&ls->lock);
    list_push_back(&ls->busy, &l->node);
    bool is_over = ls->is_over;
    pthread_mutex_unlock(&ls->lock);
    return !is_over;
}

static void leave_busy(struct migrate_links *ls, struct migrate_link *l) {
    pthread_mutex_lock(&ls->lock);
    list_remove(&l->node);
    pthread_mutex_unlock(&ls->lock);
}

void migrate_link_put(struct migrate_links *ls, struct migrate_link *l) {
    struct migrate_link *oldest = NULL;
    if (!l) return;
    l->used_us = clock_mono_us();
    pthread_mutex_lock(&ls->lock);
    list_push_back(&ls->kept, &l->node);
    if (++ls->n_kept > MIGRATE_LINKS_MAX) {
        oldest = list_entry(ls->kept.next, struct migrate_link, node);
        list_remove(&oldest->node);
        ls->n_kept--;
    }
    pthread_mutex_unlock(&ls->lock);
    link_free(oldest);
}

/* ---- connecting ---- */

/* The new link is busy. NULL: t->error says why. */
static struct migrate_link *link_open(struct migrate_links *ls, struct migrate_talk *t) {
    const struct migrate_target *to = t->to;
    int64_t deadline_us = clock_mono_us() + to->timeout_us;
    struct net_connect_opts o = { .host = to->host, .port = to->port, .tls = to->tls, .no_name_check = true };
    struct migrate_link *l = mem_zalloc(sizeof(*l));
    if (net_connect_start(&l->io, &o, deadline_us, t->error, sizeof(t->error)) != 0) {
        mem_free(l);
        return NULL;
    }
    l->host = mem_strdup(to->host);
    l->port = to->port;
    l->tls = to->tls ? ktls_ctx_ref(to->tls) : NULL;
    int rc = go_busy(ls, l) ? syncio_handshake(&l->io, deadline_us) : -ECANCELED;
    if (rc == 0) return l;
    net_error_text(&l->io, rc, t->error, sizeof(t->error));
    leave_busy(ls, l);
    return link_free(l);
}

/* ---- talking ---- */

static void add_command(struct buf *b, int argc, const struct slice *argv) {
    buf_printf(b, "*%d\r\n", argc);
    for (int i = 0; i < argc; i++) {
        buf_printf(b, "$%zu\r\n", argv[i].len);
        buf_append(b, argv[i].ptr, argv[i].len);
        buf_append(b, "\r\n", 2);
    }
}

static int write_all(struct syncio *io, struct slice bytes, int64_t timeout_us) {
    int rc = 0;
    for (size_t at = 0; at < bytes.len && rc == 0; at += CHUNK) {
        size_t n = bytes.len - at < CHUNK ? bytes.len - at : CHUNK;
        rc = syncio_write_full(io, bytes.ptr + at, n, clock_mono_us() + timeout_us);
    }
    return rc;
}

/* AUTH and SELECT, whatever of them is due. */
static int introduce(struct migrate_link *l, bool select, const struct migrate_target *to) {
    struct buf b = { 0 };
    char num[STR_LL_MAX];
    buf_reserve(&b, to->user.len + to->pass.len + 256); /* grown, it would leave the password behind */
    if (to->has_auth) {
        const struct slice argv[] = { SLICE_LIT("AUTH"), to->user, to->pass }, one[] = { SLICE_LIT("AUTH"), to->pass };
        add_command(&b, to->has_user ? 3 : 2, to->has_user ? argv : one);
    }
    if (select) add_command(&b, 2, (const struct slice[]){ SLICE_LIT("SELECT"), { num, str_from_ll(num, to->db) } });
    int rc = write_all(&l->io, buf_slice(&b), to->timeout_us);
    mem_wipe(b.data, b.cap);
    buf_done(&b);
    return rc;
}

/* 1: carried out; 0: refused, the first time into t->error; negative: nothing that could be understood. */
static int hear_line(struct syncio *io, struct migrate_talk *t, unsigned char good, bool *refused) {
    char line[MIGRATE_LINE_MAX];
    ssize_t len = syncio_read_line(io, line, sizeof(line), clock_mono_us() + t->to->timeout_us);
    if (len < 0) return (int)len;
    if (len > 0 && (unsigned char)line[0] == good) return 1;
    if (len == 0 || line[0] != '-') return -EPROTO;
    if (!*refused) snprintf(t->error, sizeof(t->error), "%s", line + 1);
    *refused = true;
    return 0;
}

enum migrate_failure migrate_hear(struct syncio *io, struct migrate_talk *t, int n, bool is_intro, struct migrate_heard *h) {
    bool refused = false;
    for (int i = 0; i < n; i++) {
        int rc = hear_line(io, t, !is_intro && t->answers ? t->answers[i] : '+', &refused);
        if (rc < 0) {
            h->rc = rc;
            return refused ? MIGRATE_REFUSED : MIGRATE_READING;
        }
        h->n++;
        if (!is_intro) t->done[i] = rc == 1;
    }
    return refused ? MIGRATE_REFUSED : MIGRATE_FINE;
}

/* The commands wait for the answers to what goes before them: refused, they would be carried out in another database. */
static enum migrate_failure talk_once(struct migrate_link *l, struct migrate_talk *t, struct migrate_heard *h) {
    enum migrate_failure f = MIGRATE_FINE;
    bool select = l->db != t->to->db;
    if (t->to->has_auth || select) {
        h->rc = introduce(l, select, t->to);
        f = h->rc ? MIGRATE_WRITING : migrate_hear(&l->io, t, t->to->has_auth + select, true, h);
    }
    if (f == MIGRATE_FINE) {
        h->rc = write_all(&l->io, t->commands, t->to->timeout_us);
        f = h->rc ? MIGRATE_WRITING : migrate_hear(&l->io, t, t->n, false, h);
    }
    if (f == MIGRATE_WRITING || f == MIGRATE_READING) net_error_text(&l->io, h->rc, t->error, sizeof(t->error));
    l->db = f == MIGRATE_FINE ? t->to->db : -1;
    l->is_known |= t->to->has_auth;
    return f;
}

/* On a link that is busy. *l: NULL afterwards if it is no longer good. */
static enum migrate_failure talk_on(struct migrate_links *ls, struct migrate_link **l, struct migrate_talk *t,
                                    struct migrate_heard *h) {
    *h = (struct migrate_heard){ 0 };
    enum migrate_failure f = talk_once(*l, t, h);
    leave_busy(ls, *l);
    if (h->rc != 0) *l = link_free(*l);
    return f;
}

enum migrate_failure migrate_talk(struct migrate_links *ls, struct migrate_link **link, struct migrate_talk *t) {
    int64_t began_us = clock_mono_us();
    struct migrate_link *l = *link ? *link : take_first(ls, is_for, t->to);
    struct migrate_heard h = { 0 };
    enum migrate_failure f = MIGRATE_CONNECTING;
    bool again = false;
    if (l) {
        if (!go_busy(ls, l)) shutdown(l->io.fd, SHUT_RDWR);
        f = talk_on(ls, &l, t, &h);
        again = h.rc != 0 && h.rc != -ETIMEDOUT && h.n == 0;
    }
    if (!l && (again || h.rc == 0)) {
        l = link_open(ls, t);
        f = l ? talk_on(ls, &l, t, &h) : MIGRATE_CONNECTING;
    }
    *link = l;
    t->took_us = clock_mono_us() - began_us;
    return f;
}
