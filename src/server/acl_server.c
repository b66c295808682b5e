/*
 * Access control and the rest of the server: users of the configuration and of the ACL file, what a deleted user's clients
 * undergo, what the log remembers. Start-up: main thread. Later: any I/O thread; files are read and written under
 * config_set_lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/client.h"
#include "server/pubsub.h"

#define ACL_FILE_MAX (256u << 20) /* a larger one is a mistake (a device, a log) */

/* ---- hook: a refusal ---- */

void server_access_denied(void *arg, struct session *s, const struct acl_denial *d) {
    struct server *srv = arg;
    struct buf info = { 0 };
    client_format(client_of(s), &info); /* its own thread: nobody else changes its strings */
    acl_log_add(&srv->acl_log, d, buf_cstr(&info), clock_wall_ms(), (size_t)cfg_get(&srv->cfg->acllog_max_len));
    buf_done(&info);
}

/* ---- clients that must not go on ---- */

static bool may_listen(void *arg, enum pubsub_kind kind, struct slice name) {
    return acl_user_allows_channel(arg, name, kind == PUBSUB_PATTERN);
}

/* Its user is deleted, or may not listen any more to what it listens to. */
static bool is_outlawed(struct client *c) {
    const struct acl_user *u = acl_session_rules(&c->srv->eng, &c->s);
    return !u || (pubsub_is_listening(c) && !pubsub_every(c, may_listen, (void *)(uintptr_t)u));
}

static void sweep_posted(struct io_thread *th, void *arg) {
    (void)arg;
    list_for_each_safe(n, tmp, &th->clients) {
        struct client *c = list_entry(n, struct client, node);
        if (c->conn.state == CONN_OPEN && is_outlawed(c)) conn_close(&c->conn, CONN_END_LOCAL, "");
    }
}

void server_users_changed(struct server *srv, struct session *me, bool deleted) {
    if (!deleted && atomic_load_explicit(&srv->pubsub->clients, memory_order_relaxed) == 0) return;
    if (is_outlawed(client_of(me))) me->close_after_reply = true;
    for (int t = 0; t < srv->n_threads; t++) io_thread_post(&srv->threads[t], sweep_posted, NULL);
}

/* ---- files ---- */

static int read_file(const char *path, struct buf *out) {
    char chunk[16384];
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    while ((n = read(fd, chunk, sizeof chunk)) > 0 && out->len <= ACL_FILE_MAX) buf_append(out, chunk, (size_t)n);
    int r = n < 0 ? -errno : n > 0 ? -EFBIG : 0;
    close(fd);
    mem_wipe(chunk, sizeof chunk);
    return r;
}

bool server_acl_load(struct server *srv, struct buf *err) {
    struct buf text = { 0 };
    char *path = config_str_dup(srv->cfg, &srv->cfg->aclfile);
    int r = read_file(path, &text);
    bool ok = r == 0;
    if (r < 0) {
        buf_printf(err, "Error loading ACLs, opening file '%s': %s", path, strerror(-r));
    } else {
        ok = acl_load_text(srv->eng.acl, path, (struct slice){ text.data ? text.data : "", text.len }, err);
    }
    if (text.data) mem_wipe(text.data, text.cap);
    buf_done(&text);
    mem_free(path);
    return ok;
}

int server_acl_save(struct server *srv) {
    struct buf text = { 0 };
    char *path = config_str_dup(srv->cfg, &srv->cfg->aclfile);
    acl_save_text(srv->eng.acl, &text, false);
    int r = config_replace_file(path, &text, 0600);
    if (r < 0) log_warning("Cannot write the ACL file %s: %s", path, strerror(-r));
    mem_wipe(text.data, text.cap);
    buf_done(&text);
    mem_free(path);
    return r;
}

/* ---- start ---- */

static int add_configured(struct server *srv, const struct cfg_user *cu) {
    struct acl *a = srv->eng.acl;
    struct acl_env env = acl_env(a);
    struct acl_user *u = acl_user_new(&env);
    int r = 0;
    for (int i = 0; i < cu->n_rules && r == 0; i++) {
        r = acl_user_apply(u, &env, buf_slice(&cu->rules[i]));
        if (r < 0)
            log_warning("Error loading ACL rule '%s' for the user named '%s': %s", buf_cstr(&cu->rules[i]), cu->name,
                        acl_rule_error(r));
    }
    if (r == 0) {
        acl_put(a, slice_cstr(cu->name), u);
    } else {
        acl_user_unref(u);
        log_warning("Critical error while loading ACLs. Exiting.");
    }
    return r;
}

int server_acl_start(struct server *srv) {
    struct config *cfg = srv->cfg;
    struct buf err = { 0 };
    acl_set_all_channels(srv->eng.acl, cfg_get(&cfg->acl_pubsub_default));
    auth_set_password(srv, cfg->requirepass);
    if (cfg->n_users && cfg->aclfile && *cfg->aclfile) {
        log_warning(
            "Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is invalid. This "
            "setup is very likely to lead to configuration errors and security holes, please define either an ACL file "
            "or declare users directly in your redis.conf, but not both.");
        return -EINVAL;
    }
    for (int i = 0; i < cfg->n_users; i++)
        if (add_configured(srv, &cfg->users[i]) < 0) return -EINVAL;
    config_drop_users(cfg);
    if (!cfg->aclfile || !*cfg->aclfile || server_acl_load(srv, &err)) return 0;
    log_warning("Aborting Redis startup because of ACL errors: %s", buf_cstr(&err));
    buf_done(&err);
    return -EINVAL;
}
