/* Between the files of access control: how rules are kept. */
#ifndef KETTLE_CMD_ACL_PRIV_H
#define KETTLE_CMD_ACL_PRIV_H

#include <pthread.h>
#include <stdatomic.h>

#include "cmd/acl.h"
#include "cmd/acl_set.h"

enum acl_perm { ACL_READ = 1, ACL_WRITE = 2 };

struct acl_selector {
    bool all_keys, all_channels;
    bool all_commands; /* +@all and nothing taken away since */
    bool from_all;     /* the description begins with +@all */
    uint64_t *bits;    /* commands allowed, by id */
    struct acl_set keys /* tag: enum acl_perm */, channels;
    struct acl_set rules;      /* of commands, as written. tag: 1 allowed; group: the (parent's) command id, -1 a category */
    struct acl_set first_args; /* +select|0: commands allowed with this first argument. group: command id */
};

struct acl_user {
    _Atomic unsigned refs;
    bool on, nopass, skip_sanitize;
    bool unrestricted;        /* one of the selectors allows everything */
    int n_words;              /* of a selector's bits */
    struct acl_set passwords; /* digests */
    struct acl_selector *sel;
    int n_sel, cap_sel;
};

struct acl_account {
    _Atomic unsigned refs;
    const struct acl_user *rules; /* under acl.lock; NULL once the user is deleted */
    size_t name_len;
    char name[];
};

/* acl.change_lock before acl.lock; both behind shard locks. */
struct acl {
    pthread_mutex_t change_lock; /* who changes users */
    pthread_mutex_t lock;        /* the list and every account's rules; held for a few instructions */
    struct acl_account **list;   /* sorted by name; owns a reference each */
    int n, cap;
    struct acl_account *root; /* the default user: in the list too */
    struct engine *eng;
    _Atomic bool all_channels;
    _Atomic uint64_t denied[ACL_VERDICTS];
};

/* acl_user.c */
void acl_selector_init(struct acl_selector *s, int n_words, bool all_channels);
void acl_selector_done(struct acl_selector *s);
struct acl_selector *acl_user_add_selector(struct acl_user *u); /* zeroed: the caller fills it */
void acl_user_finish(struct acl_user *u);                       /* before others see it */
/* acl_password.c */
void acl_digest(struct slice password, unsigned char out[ACL_DIGEST_LEN]);
bool acl_digest_from_hex(struct slice hex, unsigned char out[ACL_DIGEST_LEN]);
bool acl_user_has_password(const struct acl_user *u, const unsigned char digest[ACL_DIGEST_LEN]);
/* acl_store.c */
struct acl_account *acl_account_new(struct slice name);
struct acl_account *acl_account_unref(struct acl_account *a); /* NULL is fine; always NULL */
int acl_name_cmp(const struct acl_account *a, struct slice name);
const struct acl_user *acl_find(struct acl *a, struct slice name, struct acl_account **ret_account); /* references, or NULL */
/* Everybody in `fresh` (sorted; taken) and nobody else. change_lock held. */
void acl_replace_all(struct acl *a, struct acl_entry *fresh_take, int n);

#endif
