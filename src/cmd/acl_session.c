/*
 * Sessions and their users: fetching rules anew after a change, logging in, what denials leave behind. A session's own thread;
 * the users' lock is held for the few instructions in which a session takes its references.
 */
#include "base/alloc.h"
#include "cmd/acl_priv.h"

static void refresh(struct engine *e, struct session *s) {
    struct acl *a = e->acl;
    const struct acl_user *old = s->acl;
    pthread_mutex_lock(&a->lock);
    if (!s->account) {
        s->account = a->root;
        atomic_fetch_add_explicit(&s->account->refs, 1, memory_order_relaxed);
    }
    s->acl_version = atomic_load_explicit(&e->acl_version, memory_order_relaxed);
    s->acl = s->account->rules ? acl_user_ref(s->account->rules) : NULL;
    pthread_mutex_unlock(&a->lock);
    acl_user_unref(old);
    s->acl_free = s->acl && s->acl->unrestricted;
}

static bool is_current(struct engine *e, const struct session *s) {
    return s->acl_version == atomic_load_explicit(&e->acl_version, memory_order_acquire);
}

const struct acl_user *acl_session_rules(struct engine *e, struct session *s) {
    if (!e->acl) return NULL;
    if (!is_current(e, s)) refresh(e, s);
    return s->acl;
}

bool acl_session_is_gone(struct engine *e, struct session *s) {
    return e->acl && !acl_session_rules(e, s);
}

enum acl_verdict acl_check_slow(struct engine *e, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv,
                                int *ret_pos) {
    *ret_pos = 0;
    if (s->applies) return ACL_OK;
    const struct acl_user *u = acl_session_rules(e, s);
    if (!e->acl || s->acl_free) return ACL_OK;
    return u ? acl_user_check(u, cmd, argc, argv, ret_pos) : ACL_GONE;
}

const char *acl_session_user(const struct session *s) {
    return s->account ? s->account->name : ACL_DEFAULT_USER;
}

void acl_note_denied(struct engine *e, struct session *s, enum acl_verdict v, enum acl_context ctx, const struct cmd *cmd,
                     const struct slice *argv, int pos) {
    struct acl_denial d = { .verdict = v, .context = ctx, .user = slice_cstr(acl_session_user(s)) };
    d.object = v == ACL_DENIED_CMD ? slice_cstr(cmd->full_name) : argv[pos];
    acl_note(e, s, &d);
}

void acl_note(struct engine *e, struct session *s, const struct acl_denial *d) {
    atomic_fetch_add_explicit(&e->acl->denied[d->verdict], 1, memory_order_relaxed);
    if (e->hooks.denied) e->hooks.denied(e->hooks.arg, s, d);
}

char *acl_script_refusal(struct engine *e, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv) {
    int pos = 0;
    enum acl_verdict v = acl_check(e, s, cmd, argc, argv, &pos);
    if (v == ACL_OK) return NULL;
    if (v != ACL_GONE) acl_note_denied(e, s, v, ACL_LUA, cmd, argv, pos);
    char *why = acl_denied_text(v, acl_session_user(s), cmd, argv[pos], false);
    char *text = mem_asprintf("ACL failure in script: %s", why);
    mem_free(why);
    return text;
}

bool acl_session_may(struct engine *e, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv) {
    int pos;
    return acl_check(e, s, cmd, argc, argv, &pos) == ACL_OK;
}

bool acl_session_reads_every_key(struct engine *e, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv) {
    const struct acl_user *u = acl_session_rules(e, s);
    if (!e->acl || s->acl_free) return true;
    return u && acl_user_reads_every_key(u, cmd, argc, argv);
}

/* ---- logging in ---- */

void acl_logout(struct session *s) {
    acl_user_unref(s->acl);
    s->acl = NULL;
    s->account = acl_account_unref(s->account);
    s->acl_version = 0; /* no version of an engine with users: the next command fetches */
    s->acl_free = true;
}

void acl_share(struct session *ghost, const struct session *s) {
    ghost->account = s->account;
    if (ghost->account) atomic_fetch_add_explicit(&ghost->account->refs, 1, memory_order_relaxed);
    ghost->acl = NULL;
    ghost->acl_version = 0;
    ghost->acl_free = true;
}

bool acl_login(struct engine *e, struct session *s, struct slice name, const struct slice *pass) {
    unsigned char given[ACL_DIGEST_LEN] = { 0 };
    struct acl_account *account = NULL;
    if (pass) acl_digest(*pass, given); /* also for a name that is nobody's: it takes the same time */
    const struct acl_user *u = acl_find(e->acl, name, &account);
    bool ok = u && u->on && (!pass || u->nopass || acl_user_has_password(u, given));
    mem_wipe(given, sizeof given);
    acl_user_unref(u);
    if (ok) {
        acl_logout(s);
        s->account = account;
        account = NULL;
    }
    acl_account_unref(account);
    return ok;
}
