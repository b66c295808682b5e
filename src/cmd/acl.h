/*
 * Access control: who may run what. Users, their rules, and the check of a command line against them.
 *
 * A user is two things. The account (struct acl_account) is the name, and lives as long as somebody is logged in by it. Its rules
 * (struct acl_user) are an immutable, counted snapshot: a change makes a new one and puts it in place under acl.lock, so a check
 * needs no lock. engine.acl_version moves with every change; a session that finds it moved fetches its account's rules anew.
 * What a command costs whose user may do everything: one load and two comparisons (acl_check).
 *
 * Rules are written as in Redis (`ACL SETUSER`): acl_user_apply takes one of them at a time.
 *
 * Threads: any, for everything that takes a struct acl or an engine; a session is its own thread's.
 */
#ifndef KETTLE_CMD_ACL_H
#define KETTLE_CMD_ACL_H

#include "cmd/dispatch.h"

#define ACL_DIGEST_LEN 32
#define ACL_DEFAULT_USER "default"

struct acl;
struct acl_user;
struct acl_account;

/* The larger, the nearer a command was to being allowed: of several selectors' verdicts the largest counts. */
enum acl_verdict {
    ACL_OK = 0,
    ACL_DENIED_CMD,
    ACL_DENIED_KEY,
    ACL_DENIED_AUTH,
    ACL_DENIED_CHANNEL,
    ACL_DENIED_CERT, /* a certificate that names nobody who may log in */
    ACL_GONE,        /* the session's user was deleted: the connection ends */
    ACL_VERDICTS
};
enum acl_context { ACL_TOPLEVEL, ACL_MULTI, ACL_LUA };

struct acl_denial { /* hooks.denied */
    enum acl_verdict verdict;
    enum acl_context context;
    struct slice user, object; /* object: the command, key, channel; for a log-in the command as typed */
};

/* ---- a user's rules ---- */

/* What rules are read by. table NULL: every command is unknown (configuration files, before there is a table). */
struct acl_env {
    const struct cmd_table *table;
    bool all_channels; /* acl-pubsub-default allchannels: what a new user or selector begins with */
};
struct acl_user *acl_user_new(const struct acl_env *env);      /* off, no password, nothing allowed; one reference */
struct acl_user *acl_user_new_root(const struct acl_env *env); /* on, nopass, everything: the default user */
struct acl_user *acl_user_dup(const struct acl_user *u);       /* to be changed; one reference */
const struct acl_user *acl_user_ref(const struct acl_user *u);
void acl_user_unref(const struct acl_user *u); /* NULL is fine; wipes the digests with the last one */

/* One rule ("on", ">password", "~key*", "+@read", "(+get ~x)"...) to a user that nobody else has yet. 0, or with nothing changed
 * -EINVAL (syntax), -ENOENT (no such command or category), -EEXIST, -EISDIR (a pattern behind one that stands for all), -ENODEV
 * (no such password), -EBADMSG (no hash), -ECHILD (a first argument of a subcommand). acl_rule_error has the texts; -EALREADY is
 * for callers: a user defined twice. */
int acl_user_apply(struct acl_user *u, const struct acl_env *env, struct slice rule);
const char *acl_rule_error(int err);
/* A selector's rules may be spread over several arguments, "(+get" "~x)": puts them together. NULL when a parenthesis stays open:
 * *ret_bad is where it began. Else *ret_n rules; acl_rules_free. */
struct buf *acl_rules_merge(int argc, const struct slice *argv, int *ret_n, int *ret_bad);
void acl_rules_free(struct buf *rules, int n); /* wipes: they may be passwords */
/* No blanks, no NUL. */
bool acl_name_is_valid(struct slice name);

void acl_user_describe(const struct acl_user *u, struct buf *out); /* "on nopass ~* &* +@all" */
bool acl_user_is_on(const struct acl_user *u);
bool acl_user_has_nopass(const struct acl_user *u);
bool acl_user_skips_sanitizing(const struct acl_user *u); /* RESTORE's payloads */
/* GETUSER's fields, appended. Selector 0 is the user's own rules. */
void acl_user_each_flag(const struct acl_user *u, void (*fn)(void *arg, const char *flag), void *arg);
int acl_user_n_passwords(const struct acl_user *u);
void acl_user_password_hex(const struct acl_user *u, int i, char out[2 * ACL_DIGEST_LEN + 1]);
int acl_user_n_selectors(const struct acl_user *u);
void acl_selector_commands(const struct acl_user *u, int i, struct buf *out);
void acl_selector_keys(const struct acl_user *u, int i, struct buf *out);
void acl_selector_channels(const struct acl_user *u, int i, struct buf *out);

/* ---- checks against rules ---- */

/* Whether the user may run the command line. *ret_pos: the argument a denied key or channel is. Nothing is counted or logged. */
enum acl_verdict acl_user_check(const struct acl_user *u, const struct cmd *cmd, int argc, const struct slice *argv,
                                int *ret_pos);
/* SUBSCRIBE's and PUBLISH's permission for one channel; a pattern (PSUBSCRIBE) must stand in the rules as it is. */
bool acl_user_allows_channel(const struct acl_user *u, struct slice channel, bool is_pattern);
/* Whether it may run the command line with each and every key, read: SORT BY and GET, whose keys nobody knows beforehand. */
bool acl_user_reads_every_key(const struct acl_user *u, const struct cmd *cmd, int argc, const struct slice *argv);
/* "User bob has no permissions to run the 'get' command". verbose: names the key or channel (ACL DRYRUN). Caller frees. */
char *acl_denied_text(enum acl_verdict v, const char *user, const struct cmd *cmd, struct slice object, bool verbose);

/* ---- sessions ---- */

/* The session's user and a command line: what the dispatcher asks before a command runs or is queued. */
enum acl_verdict acl_check_slow(struct engine *e, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv,
                                int *ret_pos);
static inline enum acl_verdict acl_check(struct engine *e, struct session *s, const struct cmd *cmd, int argc,
                                         const struct slice *argv, int *ret_pos) {
    if (s->acl_free && s->acl_version == atomic_load_explicit(&e->acl_version, memory_order_acquire)) return ACL_OK;
    return acl_check_slow(e, s, cmd, argc, argv, ret_pos);
}
/* Counts a denial and tells hooks.denied. */
void acl_note(struct engine *e, struct session *s, const struct acl_denial *d);
void acl_note_denied(struct engine *e, struct session *s, enum acl_verdict v, enum acl_context ctx, const struct cmd *cmd,
                     const struct slice *argv, int pos);
const char *acl_session_user(const struct session *s); /* its name */
/* A command line that a script runs (redis.call): NULL when the session's user may, else the error's text, without a code; the
 * denial is counted and logged. Caller frees. */
char *acl_script_refusal(struct engine *e, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv);
/* The same without a trace: redis.acl_check_cmd. */
bool acl_session_may(struct engine *e, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv);
/* acl_user_reads_every_key for the session's user. */
bool acl_session_reads_every_key(struct engine *e, struct session *s, const struct cmd *cmd, int argc, const struct slice *argv);
/* The session's rules as they are now; NULL: its user is gone, or the engine has no users (then everything is allowed). Valid
 * until the next acl_* call with this session. */
const struct acl_user *acl_session_rules(struct engine *e, struct session *s);
bool acl_session_is_gone(struct engine *e, struct session *s);
/* Logs in: by name and password, or (pass NULL) by what else proved the name. False: no such user, off, or wrong; nothing
 * changed. The caller sets the session's `user`. */
bool acl_login(struct engine *e, struct session *s, struct slice name, const struct slice *pass);
void acl_logout(struct session *s); /* the default user again; session_done calls it too */
/* ghost, which has no user yet, gets the session's: until acl_logout. */
void acl_share(struct session *ghost, const struct session *s);

/* ---- all users ---- */

/* Once the engine's command table is complete. Sets engine.acl; the default user may do everything. */
void acl_init(struct engine *e);
void acl_done(struct engine *e); /* no session may be left */
struct acl_env acl_env(const struct acl *a);
void acl_set_all_channels(struct acl *a, bool on); /* acl-pubsub-default */

const struct acl_user *acl_get(struct acl *a, struct slice name); /* a reference, or NULL */
/* Read, change, put back: one thread at a time between the two. No shard lock may be taken meanwhile (holding some before is
 * fine). */
void acl_change_begin(struct acl *a);
void acl_change_end(struct acl *a);
/* Makes or replaces a user; the reference is taken. Commands of sessions logged in by it go by the new rules from now on. */
void acl_put(struct acl *a, struct slice name, struct acl_user *u_take);
bool acl_remove(struct acl *a, struct slice name); /* false: no such user. Sessions logged in by it are ACL_GONE */

struct acl_entry {
    struct acl_account *account;
    const struct acl_user *rules;
};
const char *acl_account_name(const struct acl_account *a);
/* All users, sorted by name; acl_list_free. */
struct acl_entry *acl_list(struct acl *a, int *ret_n);
void acl_list_free(struct acl_entry *list, int n);

/* A text with a user a line ("user bob on ..."), as in an ACL file. Either all of it is taken, and whoever is not in it is gone,
 * or nothing is, and err has what is wrong (path and lines named). The default user is made anew where the text has none. */
bool acl_load_text(struct acl *a, const char *path, struct slice text, struct buf *err);
/* quoted: for a configuration file, whose lines are split by other rules: words with quotes in them are quoted. */
void acl_save_text(struct acl *a, struct buf *out, bool quoted);

uint64_t acl_n_denied(const struct acl *a, enum acl_verdict v);
void acl_reset_denied(struct acl *a);

#endif
