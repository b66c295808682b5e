/*
 * CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO: options and replies; what they do is in tracking.c. On the client's I/O
 * thread.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "server/cmd_client.h"
#include "server/tracking.h"

static struct server *server_of(struct cmd_ctx *c) {
    return c->eng->server;
}

/* The thread of a client, -1: there is none of that id. */
static int thread_of(struct server *srv, int64_t id) {
    int found = -1;
    for (int t = 0; t < srv->n_threads && found < 0; t++) {
        struct io_thread *th = &srv->threads[t];
        pthread_mutex_lock(&th->registry_lock);
        list_for_each(n, &th->clients) if (list_entry(n, struct client, node)->s.id == (uint64_t)id) found = t;
        pthread_mutex_unlock(&th->registry_lock);
    }
    return found;
}

struct options {
    unsigned flags; /* enum tracking_flag */
    int64_t redirect;
    int redirect_thread;
    struct slice *prefixes;
    int n;
};

static bool redirect_option(struct cmd_ctx *c, struct options *o, struct slice id) {
    if (o->redirect != 0) {
        reply_error(c->r, "ERR A client can only redirect to a single other client");
        return false;
    }
    if (!cmd_arg_ll(c, id, &o->redirect, NULL)) return false;
    o->redirect_thread = thread_of(server_of(c), o->redirect);
    if (o->redirect_thread >= 0) return true;
    reply_error(c->r, "ERR The client ID you want redirect to does not exist");
    return false;
}

static bool parse_options(struct cmd_ctx *c, struct options *o) {
    for (int i = 3; i < c->argc; i++) {
        struct slice a = c->argv[i];
        bool more = i + 1 < c->argc;
        if (slice_ieq(a, "redirect") && more) {
            if (!redirect_option(c, o, c->argv[++i])) return false;
        } else if (slice_ieq(a, "bcast")) {
            o->flags |= TRACKING_BCAST;
        } else if (slice_ieq(a, "optin")) {
            o->flags |= TRACKING_OPTIN;
        } else if (slice_ieq(a, "optout")) {
            o->flags |= TRACKING_OPTOUT;
        } else if (slice_ieq(a, "noloop")) {
            o->flags |= TRACKING_NOLOOP;
        } else if (slice_ieq(a, "prefix") && more) {
            o->prefixes[o->n++] = c->argv[++i];
        } else {
            cmd_syntax_error(c);
            return false;
        }
    }
    return true;
}

static const char *bad_combination(unsigned want, unsigned now, int n_prefixes) {
    const unsigned opts = TRACKING_OPTIN | TRACKING_OPTOUT;
    if (n_prefixes && !(want & TRACKING_BCAST)) return "ERR PREFIX option requires BCAST mode to be enabled";
    if ((now & TRACKING_ON) && ((want ^ now) & TRACKING_BCAST))
        return "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a "
               "different mode.";
    if ((want & TRACKING_BCAST) && (want & opts)) return "ERR OPTIN and OPTOUT are not compatible with BCAST";
    if ((want & opts) == opts) return "ERR You can't specify both OPTIN mode and OPTOUT mode";
    if (((want & TRACKING_OPTIN) && (now & TRACKING_OPTOUT)) || ((want & TRACKING_OPTOUT) && (now & TRACKING_OPTIN)))
        return "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a "
               "different mode.";
    return NULL;
}

/* ---- overlapping prefixes ---- */

struct candidate {
    struct slice text;
    int arg; /* place among the arguments; -1: the client has it already */
};

static int by_text(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    size_t n = x->text.len < y->text.len ? x->text.len : y->text.len;
    int d = n ? memcmp(x->text.ptr, y->text.ptr, n) : 0;
    if (d || x->text.len != y->text.len) return d ? d : x->text.len > y->text.len ? 1 : -1;
    return (x->arg > y->arg) - (x->arg < y->arg);
}

struct candidates {
    struct candidate *list;
    int n, cap;
};

static void candidate_add(struct candidates *l, struct slice text, int arg) {
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 16;
        l->list = mem_realloc(l->list, sizeof(*l->list) * (size_t)l->cap);
    }
    l->list[l->n++] = (struct candidate){ text, arg };
}

/* The texts stay: only this client's own thread removes them. */
static void candidate_old(void *arg, struct slice text) {
    candidate_add(arg, text, -1);
}

static bool overlaps(struct slice a, struct slice b) {
    size_t n = a.len < b.len ? a.len : b.len;
    return n == 0 || memcmp(a.ptr, b.ptr, n) == 0;
}

/* Sorted, what overlaps with anything overlaps with what comes next: so one pass finds it. */
static bool prefixes_are_apart(struct cmd_ctx *c, const struct options *o) {
    struct client *cl = client_of(c->s);
    struct tracker *t = atomic_load(&cl->tracker);
    struct candidates l = { 0 };
    bool ok = true;
    if (t) prefixes_of(server_of(c)->tracking->prefixes, t, candidate_old, &l);
    for (int i = 0; i < o->n; i++) candidate_add(&l, o->prefixes[i], i);
    if (l.n) qsort(l.list, (size_t)l.n, sizeof *l.list, by_text);
    for (int i = 0; ok && i + 1 < l.n; i++) {
        struct candidate *a = &l.list[i], *b = a + 1;
        if ((a->arg < 0 && b->arg < 0) || !overlaps(a->text, b->text)) continue;
        if (b->arg < 0 ||
            (a->arg >= 0 && b->arg < a->arg)) { /* the later argument is blamed on the earlier, or on what is there */
            struct candidate *other = a;
            a = b;
            b = other;
        }
        bool is_old = a->arg < 0;
        const struct slice first = is_old ? b->text : a->text, second = is_old ? a->text : b->text;
        reply_errorf(c->r, "ERR Prefix '%.*s' overlaps with %s prefix '%.*s'. Prefixes for a single client must not overlap.",
                     (int)first.len, first.ptr, is_old ? "an existing" : "another provided", (int)second.len, second.ptr);
        ok = false;
    }
    mem_free(l.list);
    return ok;
}

static void tracking_on(struct cmd_ctx *c, const struct options *o) {
    struct client *cl = client_of(c->s);
    const char *err = bad_combination(o->flags, tracking_flags(cl), o->n);
    if (err) {
        reply_error(c->r, err);
    } else if (!(o->flags & TRACKING_BCAST) || prefixes_are_apart(c, o)) {
        uint64_t to = o->redirect ? TRACKING_ADDRESS(o->redirect, o->redirect_thread) : 0;
        tracking_enable(cl, o->flags, to, o->n, o->prefixes);
        reply_ok(c->r);
    }
}

void client_tracking_command(struct cmd_ctx *c) {
    struct options o = { .prefixes = mem_calloc((size_t)c->argc, sizeof *o.prefixes) };
    if (!parse_options(c, &o)) {
        /* replied */
    } else if (slice_ieq(c->argv[2], "on")) {
        tracking_on(c, &o);
    } else if (slice_ieq(c->argv[2], "off")) {
        tracking_disable(client_of(c->s));
        reply_ok(c->r);
    } else {
        cmd_syntax_error(c);
    }
    mem_free(o.prefixes);
}

void client_caching_command(struct cmd_ctx *c) {
    struct client *cl = client_of(c->s);
    unsigned f = tracking_flags(cl);
    bool yes = slice_ieq(c->argv[2], "yes");
    if (!(f & TRACKING_ON)) {
        reply_error(c->r, "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode "
                          "enabled");
    } else if (!yes && !slice_ieq(c->argv[2], "no")) {
        cmd_syntax_error(c);
    } else if (yes && !(f & TRACKING_OPTIN)) {
        reply_error(c->r, "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
    } else if (!yes && !(f & TRACKING_OPTOUT)) {
        reply_error(c->r, "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
    } else {
        c->s->caching = true;
        reply_ok(c->r);
    }
}

void client_getredir_command(struct cmd_ctx *c) {
    struct client *cl = client_of(c->s);
    reply_int(c->r, tracking_flags(cl) & TRACKING_ON ? (int64_t)tracking_redirect(cl) : -1);
}

static void info_flags(struct cmd_ctx *c, unsigned f, bool caching) {
    const struct {
        bool is_set;
        const char *name;
    } list[] = {
        { !(f & TRACKING_ON), "off" },
        { f & TRACKING_ON, "on" },
        { f & TRACKING_BCAST, "bcast" },
        { f & TRACKING_OPTIN, "optin" },
        { (f & TRACKING_OPTIN) && caching, "caching-yes" },
        { f & TRACKING_OPTOUT, "optout" },
        { (f & TRACKING_OPTOUT) && caching, "caching-no" },
        { f & TRACKING_NOLOOP, "noloop" },
        { f & TRACKING_BROKEN_REDIR, "broken_redirect" },
    };
    size_t n = 0;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) n += list[i].is_set;
    reply_set(c->r, n);
    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (list[i].is_set) reply_bulk_cstr(c->r, list[i].name);
}

void client_trackinginfo_command(struct cmd_ctx *c) {
    struct client *cl = client_of(c->s);
    struct tracker *t = atomic_load(&cl->tracker);
    struct candidates l = { 0 };
    unsigned f = tracking_flags(cl);
    reply_map(c->r, 3);
    reply_bulk_cstr(c->r, "flags");
    info_flags(c, f, c->s->caching);
    reply_bulk_cstr(c->r, "redirect");
    client_getredir_command(c);
    reply_bulk_cstr(c->r, "prefixes");
    if (t) prefixes_of(server_of(c)->tracking->prefixes, t, candidate_old, &l);
    if (l.n) qsort(l.list, (size_t)l.n, sizeof *l.list, by_text);
    reply_array(c->r, (size_t)l.n);
    for (int i = 0; i < l.n; i++) reply_bulk_slice(c->r, l.list[i].text);
    mem_free(l.list);
}
