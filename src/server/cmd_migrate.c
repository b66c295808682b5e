/* MIGRATE: keys go to another server, and are deleted here once they are there.
 *
 * Place in the flow: the command runs under the locks of its keys' shards and makes the RESTORE commands; threads of migrate.c
 * send them and hear the answers while the client is blocked and nothing is locked; migration_settle, on the client's I/O thread,
 * locks the shards again and deletes what the other server has taken.
 *
 * Nobody is kept from the keys meanwhile, so each is watched (as by WATCH): one that has changed since it was dumped is not
 * deleted but sent again, and one that is gone is deleted there. What still changes faster than that is sent a third time with
 * its shard locked, for no more than a few times what the round before took. So no change is lost, whoever made it, and as long
 * as the reply is not an error a key is on one of the two servers. After an error, as in Redis, it may be on both.
 *
 * In EXEC and in scripts everything is done at once, under the locks they have: nothing changes, and the shards wait as long as
 * the other server does, up to the timeout.
 *
 * A client that goes away meanwhile changes nothing. Only the end of the server leaves the keys where they are. */
#include "server/cmd_migrate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "cmd/block.h"
#include "cmd/effects.h"
#include "cmd/figures.h"
#include "data/rdb.h"
#include "server/client.h"
#include "server/migrate.h"
#include "server/refusal.h"
#include "server/replication.h"

#define DEFAULT_TIMEOUT_MS 1000
#define MAX_TIMEOUT_MS (365LL * 86400 * 1000)
#define FREE_ROUNDS 2         /* rounds with nothing locked */
#define HELD_MIN_US 20000     /* the locked one may take so long at least, if the timeout allows */
#define HELD_FACTOR 3         /* or so many times the slowest before it */
#define SETTLE_RETRY_US 10000 /* while writes are paused or a script has the shards */
#define FIRST_OPTION 6

struct migrate_args {
    bool copy, replace, has_auth, has_user;
    struct slice user, pass;
    int first_key, n_keys;
    int64_t db, timeout_ms, port;
};

/* ---- arguments ---- */

/* How many arguments an option has; -1: it is none. */
static int option_args(struct slice a) {
    return slice_ieq(a, "copy") || slice_ieq(a, "replace") ? 0 : slice_ieq(a, "auth") ? 1 : slice_ieq(a, "auth2") ? 2 : -1;
}

int migrate_get_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap) {
    int first = 3, n = 1;
    for (int i = FIRST_OPTION; i < argc && argv[3].len == 0; i++) {
        int more = option_args(argv[i]);
        if (more < 0 && slice_ieq(argv[i], "keys")) {
            first = i + 1;
            n = argc - first;
            break;
        }
        i += more > 0 ? more : 0;
    }
    for (int i = 0; i < n && i < cap; i++) {
        pos[i] = first + i;
        if (flags) flags[i] = KEY_RW | KEY_ACCESS | KEY_DELETE;
    }
    return n;
}

static void take_option(struct migrate_args *a, struct slice name, const struct slice *args) {
    if (slice_ieq(name, "copy")) {
        a->copy = true;
    } else if (slice_ieq(name, "replace")) {
        a->replace = true;
    } else {
        a->has_auth = true;
        a->has_user = slice_ieq(name, "auth2");
        if (a->has_user) a->user = args[0];
        a->pass = args[a->has_user];
    }
}

static bool parse_options(struct cmd_ctx *c, struct migrate_args *a) {
    for (int i = FIRST_OPTION; i < c->argc; i++) {
        int more = option_args(c->argv[i]);
        if (more >= 0 && i + more < c->argc) {
            take_option(a, c->argv[i], c->argv + i + 1);
            i += more;
        } else if (more < 0 && slice_ieq(c->argv[i], "keys")) {
            if (c->argv[3].len > 0) {
                reply_error(c->r, "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string");
                return false;
            }
            a->first_key = i + 1;
            a->n_keys = c->argc - a->first_key;
            return true;
        } else {
            cmd_syntax_error(c);
            return false;
        }
    }
    return true;
}

static bool parse(struct cmd_ctx *c, struct migrate_args *a) {
    *a = (struct migrate_args){ .first_key = 3, .n_keys = 1 };
    if (!parse_options(c, a) || !cmd_arg_ll(c, c->argv[5], &a->timeout_ms, NULL) || !cmd_arg_ll(c, c->argv[4], &a->db, NULL))
        return false;
    if (a->timeout_ms <= 0) a->timeout_ms = DEFAULT_TIMEOUT_MS;
    if (a->timeout_ms > MAX_TIMEOUT_MS) a->timeout_ms = MAX_TIMEOUT_MS;
    if (!str_to_ll(c->argv[2], &a->port) || a->port < 0 || a->port > 65535) a->port = 0; /* where nobody listens */
    return true;
}

/* ---- keys ---- */

static struct slice key_of(const struct migrate_key *k) {
    return (struct slice){ k->watch.key, k->watch.key_len };
}

static int by_name(const void *a, const void *b) {
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

/* Those that exist, each once. */
static void collect(struct cmd_ctx *c, const struct migrate_args *a, struct migration *m) {
    struct slice *found = mem_calloc((size_t)a->n_keys + 1, sizeof *found);
    int n = 0;
    for (int i = 0; i < a->n_keys; i++)
        if (cmd_find_read(c, c->argv[a->first_key + i])) found[n++] = c->argv[a->first_key + i];
    qsort(found, (size_t)n, sizeof *found, by_name);
    m->keys = mem_calloc((size_t)n + 1, sizeof *m->keys);
    for (int i = 0; i < n; i++) {
        if (i > 0 && slice_eq(found[i], found[i - 1])) continue;
        struct migrate_key *k = &m->keys[m->n_keys++];
        k->watch = (struct ks_watch){ .db = c->db, .key = mem_memdup0(found[i].ptr, found[i].len), .key_len = found[i].len };
        k->watch.dirty = &k->dirty;
        k->hash = dict_hash(found[i]);
        m->shards |= 1ULL << ks_shard_of(c->ks, found[i]);
    }
    mem_free(found);
}

static struct slice dup_slice(struct slice s) {
    return (struct slice){ mem_memdup0(s.ptr, s.len), s.len };
}

/* NULL: there is nothing to migrate. */
static struct migration *prepare(struct cmd_ctx *c, const struct migrate_args *a) {
    struct server *srv = c->eng->server;
    struct migration *m = migration_new(srv, c->s);
    collect(c, a, m);
    if (m->n_keys == 0) {
        migration_free(m);
        return NULL;
    }
    m->cmd = c->cmd;
    m->db = c->db;
    m->copy = a->copy;
    m->replace = a->replace;
    m->to = (struct migrate_target){ .host = mem_memdup0(c->argv[1].ptr, c->argv[1].len),
                                     .port = (int)a->port,
                                     .has_auth = a->has_auth,
                                     .has_user = a->has_user,
                                     .db = a->db,
                                     .timeout_us = a->timeout_ms * 1000 };
    if (a->has_auth) m->to.pass = dup_slice(a->pass);
    if (a->has_user) m->to.user = dup_slice(a->user);
    if (cfg_get(&srv->cfg->tls_replication) || cfg_get(&srv->cfg->tls_cluster)) m->to.tls = tls_client_ctx_get(&srv->tls);
    m->talk.to = &m->to;
    m->talk.done = mem_calloc((size_t)m->n_keys, 1);
    m->talk.answers = m->answers = mem_calloc((size_t)m->n_keys, 1);
    return m;
}

/* ---- rounds; the keys' shards are locked ---- */

static void add_bulk(struct buf *b, struct slice s) {
    buf_printf(b, "$%zu\r\n", s.len);
    buf_append(b, s.ptr, s.len);
    buf_append(b, "\r\n", 2);
}

static void add_restore(struct buf *b, const struct entry *e, struct slice key, int64_t now_ms, bool replace) {
    struct buf payload = { 0 };
    char num[STR_LL_MAX];
    int64_t ttl = entry_expire_ms(e) == KS_NO_EXPIRE ? 0 : entry_expire_ms(e) - now_ms;
    if (ttl < 1 && entry_expire_ms(e) != KS_NO_EXPIRE) ttl = 1;
    rdb_dump(&payload, entry_value((struct entry *)(uintptr_t)e));
    buf_printf(b, "*%d\r\n", replace ? 5 : 4);
    add_bulk(b, SLICE_LIT("RESTORE"));
    add_bulk(b, key);
    add_bulk(b, (struct slice){ num, str_from_ll(num, ttl) });
    add_bulk(b, buf_slice(&payload));
    if (replace) add_bulk(b, SLICE_LIT("REPLACE"));
    buf_done(&payload);
}

/* What the other server is to be told of one key as it is now. */
static void add_key(struct cmd_ctx *c, struct migration *m, struct migrate_key *k) {
    struct slice key = key_of(k);
    struct entry *e = ks_find(c->ks, c->db, key, c->now_ms, KS_FIND_READ | KS_FIND_NO_TOUCH | KS_FIND_NO_STATS);
    k->answer = 0;
    if (e) {
        add_restore(&m->commands, e, key, c->now_ms, m->replace || k->is_there);
        k->answer = '+';
    } else if (k->is_there) {
        buf_append_cstr(&m->commands, "*2\r\n");
        add_bulk(&m->commands, SLICE_LIT("DEL"));
        add_bulk(&m->commands, key);
        k->answer = ':';
    } else {
        k->is_over = true; /* gone before it was sent */
    }
}

/* The commands for the keys that are not over. 0: there are none. */
static int next_round(struct cmd_ctx *c, struct migration *m) {
    buf_clear(&m->commands);
    m->talk.n = 0;
    for (int i = 0; i < m->n_keys; i++) {
        struct migrate_key *k = &m->keys[i];
        if (k->is_over) continue;
        add_key(c, m, k);
        if (k->answer) m->answers[m->talk.n++] = k->answer;
    }
    memset(m->talk.done, 0, (size_t)m->n_keys);
    m->talk.commands = buf_slice(&m->commands);
    m->rounds++;
    return m->talk.n;
}

static void watch_all(struct cmd_ctx *c, struct migration *m) {
    for (int i = 0; i < m->n_keys; i++) {
        struct migrate_key *k = &m->keys[i];
        atomic_store(&k->dirty, false);
        if (k->is_over || k->is_watched || m->copy) continue;
        list_init(&k->watch.node);
        ks_watch_add(c->ks, &k->watch, c->now_ms);
        k->is_watched = true;
    }
}

static void unwatch_all(struct cmd_ctx *c, struct migration *m) {
    for (int i = 0; i < m->n_keys; i++) {
        if (m->keys[i].is_watched) ks_watch_remove(c->ks, &m->keys[i].watch);
        m->keys[i].is_watched = false;
    }
}

static void delete_here(struct cmd_ctx *c, struct migrate_key *k) {
    struct slice key = key_of(k);
    bool lazy = atomic_load_explicit(&c->eng->lazy_server_del, memory_order_relaxed);
    k->is_over = true;
    if (!cmd_find_write(c, key) || !ks_delete(c->ks, c->db, key, lazy)) return;
    cmd_modified(c, c->db, key);
    cmd_notify(c, 'g', "del", c->db, key);
    k->is_deleted = true;
}

/* What the talk has brought about. How many keys are there, but changed here since: they have to be sent again. */
static int take_answers(struct cmd_ctx *c, struct migration *m) {
    int changed = 0, at = 0;
    for (int i = 0; i < m->n_keys; i++) {
        struct migrate_key *k = &m->keys[i];
        if (k->is_over || !k->answer) continue;
        bool done = m->talk.done[at++];
        if (done && k->answer == '+') k->is_there = true;
        if (!done) continue;
        if (k->answer == ':') k->is_there = false;
        if (m->copy)
            k->is_over = true;
        else if (atomic_load(&k->dirty))
            changed++;
        else if (k->is_there)
            delete_here(c, k);
        else
            k->is_over = true; /* gone on both sides */
    }
    return changed;
}

/* As one DEL. */
static void propagate_deletions(struct cmd_ctx *c, const struct migration *m) {
    struct slice *argv = mem_calloc((size_t)m->n_keys + 1, sizeof *argv);
    int n = 0;
    argv[n++] = SLICE_LIT("DEL");
    for (int i = 0; i < m->n_keys; i++)
        if (m->keys[i].is_deleted) argv[n++] = key_of(&m->keys[i]);
    if (n > 1) cmd_propagate(c, n, argv);
    mem_free(argv);
}

static void reply_result(struct cmd_ctx *c, const struct migration *m) {
    if (m->is_in_vain) {
        reply_error(c->r, "READONLY You can't write against a read only replica.");
        return;
    }
    switch (m->failure) {
    case MIGRATE_FINE:
        reply_ok(c->r);
        break;
    case MIGRATE_CONNECTING:
        reply_error(c->r, "IOERR error or timeout connecting to the client");
        break;
    case MIGRATE_WRITING:
        reply_error(c->r, "IOERR error or timeout writing to target instance");
        break;
    case MIGRATE_READING:
        reply_error(c->r, "IOERR error or timeout reading to target instance");
        break;
    case MIGRATE_REFUSED:
        reply_errorf(c->r, "ERR Target instance replied with error: %s", m->talk.error);
        break;
    }
    if (m->failure != MIGRATE_FINE && m->failure != MIGRATE_REFUSED)
        log_verbose("MIGRATE to %s:%d: %s", m->to.host, m->to.port, m->talk.error);
}

/* ---- at once ---- */

static void migrate_at_once(struct cmd_ctx *c, struct migration *m) {
    next_round(c, m);
    migrate_talk_now(m->srv, m);
    take_answers(c, m);
    propagate_deletions(c, m);
    reply_result(c, m);
    migration_free(m);
}

/* ---- with the client blocked ---- */

static void client_went(void *arg) {
    struct migration *m = arg;
    m->waiter = NULL;
    m->s.owner = NULL;
    m->s.user = NULL;
}

static void nothing(struct reply *r) {
    (void)r;
}

static void block(struct cmd_ctx *c, struct migration *m) {
    next_round(c, m);
    watch_all(c, m);
    m->ticks = clock_ticks() - c->start;
    if (!migrate_submit(m->srv, m)) {
        snprintf(m->talk.error, sizeof m->talk.error, "too many are under way");
        m->failure = MIGRATE_CONNECTING;
        unwatch_all(c, m);
        reply_result(c, m);
        migration_free(m);
        return;
    }
    cmd_block_on_keys(c, &(struct cmd_block){ .timed_out = nothing, .job = m, .job_dropped = client_went });
    m->waiter = c->s->waiter;
}

void migrate_command(struct cmd_ctx *c) {
    struct migrate_args a;
    if (!parse(c, &a)) return;
    struct migration *m = prepare(c, &a);
    if (!m) {
        reply_simple(c->r, "NOKEY");
    } else if (!m->copy && !migrate_claim(m->srv, m)) {
        migration_free(m);
        reply_error(c->r, "TRYAGAIN Another MIGRATE of a key is under way");
    } else if (cmd_can_block(c)) {
        block(c, m);
    } else {
        migrate_at_once(c, m);
    }
}

/* ---- settling ---- */

static void settle_again(struct loop_timer *t) {
    migration_settle(list_entry(t, struct migration, timer));
}

static void settle_later(struct migration *m) {
    m->timer.fn = settle_again;
    loop_timer_set(m->home->loop, &m->timer, clock_mono_us() + SETTLE_RETRY_US);
}

/* Locks held, so that what the client is told of these keys comes behind the reply. */
static void answer(struct cmd_ctx *c, struct migration *m) {
    struct cmd_waiter *w = m->waiter;
    struct figures *f = c->eng->figures;
    m->ticks += clock_ticks() - c->start;
    uint64_t usec = clock_ticks_us(m->ticks);
    reply_result(c, m);
    if (m->s.reply.errors) {
        engine_count_error(c->eng, m->s.reply.last_error);
        atomic_fetch_add_explicit(&((struct cmd *)(uintptr_t)m->cmd)->failed, 1, memory_order_relaxed);
    }
    figures_note(f, m->s.slot, m->cmd, usec);
    figures_count(f, m->s.slot, m->ticks);
    if (!w) return;
    w->job_dropped = NULL;                                     /* the migration ends before the waiter does */
    if (block_claim(w, BLOCK_SERVED) != BLOCK_WAITING) return; /* killed, and about to be closed */
    w->usec = usec;
    w->s.repl_offset = m->s.repl_offset;
    w->s.aof_offset = m->s.aof_offset;
    obuf_splice(&w->out, &m->out);
    client_wake(m->srv, w);
}

/* Once more, with the shards locked: nothing can change. */
static void held_round(struct cmd_ctx *c, struct migration *m) {
    int64_t us = m->slowest_us * HELD_FACTOR;
    if (us < HELD_MIN_US) us = HELD_MIN_US;
    if (us < m->to.timeout_us) m->to.timeout_us = us;
    if (next_round(c, m) == 0) return;
    for (int i = 0; i < m->n_keys; i++) atomic_store(&m->keys[i].dirty, false);
    migrate_talk_now(m->srv, m);
    take_answers(c, m);
}

/* True: another round is under way. */
static bool settle_locked(struct cmd_ctx *c, struct migration *m) {
    unwatch_all(c, m);
    m->is_in_vain = !m->copy && repl_is_replica(m->srv->repl); /* since the command began */
    if (m->is_in_vain) return false;
    int changed = take_answers(c, m);
    if (changed > 0 && m->failure == MIGRATE_FINE) {
        if (m->rounds < FREE_ROUNDS && next_round(c, m) > 0) {
            watch_all(c, m);
            if (migrate_submit(m->srv, m)) return true;
            unwatch_all(c, m);
        }
        held_round(c, m);
    }
    propagate_deletions(c, m);
    return false;
}

/* The rules for writes, as of now. After the last snapshot nothing may change: migrate_free has it then. */
static bool may_not_yet(struct server *srv, const struct migration *m) {
    if (atomic_load_explicit(&srv->refusals, memory_order_relaxed) & (REFUSE_LOADING | REFUSE_ENDING)) return true;
    return !m->copy && atomic_load_explicit(&srv->pause_until_ms, memory_order_relaxed) > clock_wall_ms();
}

void migration_settle(struct migration *m) {
    struct server *srv = m->srv;
    if (m->home->stopping) return; /* migrate_free has it */
    uint64_t locked = engine_lock(&srv->eng, m->shards, false);
    if (locked && may_not_yet(srv, m)) {
        engine_unlock(&srv->eng, locked, m->s.slot);
        locked = 0;
    }
    if (!locked) {
        settle_later(m);
        return;
    }
    struct cmd_ctx c = { .eng = &srv->eng, .ks = srv->ks, .s = &m->s, .cmd = m->cmd, .r = &m->s.reply, .db = m->db };
    c.locked = locked;
    c.start = clock_ticks();
    c.now_ms = ks_now(c.ks, locked, clock_wall_ms());
    bool go_on = settle_locked(&c, m);
    effects_end(&srv->eng, m->s.slot, &m->s, true);
    if (!go_on) answer(&c, m);
    engine_unlock(&srv->eng, locked, m->s.slot);
    if (!go_on) migration_free(m);
}
