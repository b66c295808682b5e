/*
 * Logging in: what a client proves becomes its session's user. Passwords are compared by access control (cmd/acl_password.c), as
 * digests and in constant time. The client's I/O thread; auth_set_password: whoever changes requirepass.
 */
#include "base/alloc.h"
#include "base/log.h"
#include "server/client.h"

/* requirepass is the default user's password, and nothing else: his other rules stay. */
void auth_set_password(struct server *srv, const char *pass) {
    struct acl *a = srv->eng.acl;
    struct acl_env env = acl_env(a);
    acl_change_begin(a);
    const struct acl_user *old = acl_get(a, SLICE_LIT(ACL_DEFAULT_USER));
    struct acl_user *u = acl_user_dup(old);
    acl_user_unref(old);
    acl_user_apply(u, &env, SLICE_LIT("resetpass"));
    if (pass && *pass) {
        char *rule = mem_asprintf(">%s", pass);
        acl_user_apply(u, &env, slice_cstr(rule));
        mem_wipe(rule, strlen(rule));
        mem_free(rule);
    } else {
        acl_user_apply(u, &env, SLICE_LIT("nopass"));
    }
    acl_put(a, SLICE_LIT(ACL_DEFAULT_USER), u);
    acl_change_end(a);
}

static void logged_in(struct client *c, struct slice user) {
    c->s.authenticated = true;
    client_set_string(c, &c->s.user, user);
}

bool auth_login(struct client *c, struct slice user, struct slice pass, struct slice command) {
    struct engine *e = &c->srv->eng;
    if (acl_login(e, &c->s, user, &pass)) {
        logged_in(c, user);
        return true;
    }
    acl_note(
        e, &c->s,
        &(struct acl_denial){
            .verdict = ACL_DENIED_AUTH, .context = c->s.in_multi ? ACL_MULTI : ACL_TOPLEVEL, .user = user, .object = command });
    return false;
}

void auth_by_certificate(struct client *c, struct slice user) {
    struct engine *e = &c->srv->eng;
    if (acl_login(e, &c->s, user, NULL)) {
        logged_in(c, user);
        return;
    }
    log_verbose("TLS: no user that is on has the name in the client's certificate (addr=%s)", c->addr);
    acl_note(e, &c->s, &(struct acl_denial){ .verdict = ACL_DENIED_CERT, .user = user, .object = SLICE_LIT("") });
}

void auth_forget(struct client *c) {
    acl_logout(&c->s);
    client_set_string(c, &c->s.user, SLICE_LIT(ACL_DEFAULT_USER));
    c->s.authenticated = !atomic_load(&c->srv->eng.auth_required);
}
