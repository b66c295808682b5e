/*
 * All users: accounts sorted by name, each with its rules as of now. Any thread. acl.lock is held while a reference is taken or
 * rules are swapped, never while anything is computed; who changes users holds change_lock from reading a user to putting him
 * back.
 *
 * A change becomes visible with engine.acl_version, moved while acl.lock is held: a session that sees the new version finds the
 * new rules, and one that fetched the new rules has the new version.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "cmd/acl_priv.h"

/* ---- accounts ---- */

struct acl_account *acl_account_new(struct slice name) {
    struct acl_account *a = mem_zalloc(sizeof *a + name.len + 1);
    atomic_store_explicit(&a->refs, 1, memory_order_relaxed);
    a->name_len = name.len;
    if (name.len) memcpy(a->name, name.ptr, name.len);
    return a;
}

struct acl_account *acl_account_unref(struct acl_account *a) {
    if (!a || atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1) return NULL;
    acl_user_unref(a->rules);
    mem_free(a);
    return NULL;
}

static struct acl_account *account_ref(struct acl_account *a) {
    atomic_fetch_add_explicit(&a->refs, 1, memory_order_relaxed);
    return a;
}

const char *acl_account_name(const struct acl_account *a) {
    return a->name;
}

int acl_name_cmp(const struct acl_account *a, struct slice name) {
    return slice_cmp((struct slice){ a->name, a->name_len }, name);
}

/* Where the name is (true) or belongs. acl.lock held. */
static bool locate(const struct acl *a, struct slice name, int *ret_at) {
    int low = 0, high = a->n;
    while (low < high) {
        int mid = low + (high - low) / 2, d = acl_name_cmp(a->list[mid], name);
        if (d == 0) {
            *ret_at = mid;
            return true;
        }
        if (d < 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    *ret_at = low;
    return false;
}

static struct acl_account *insert(struct acl *a, int at, struct slice name) {
    if (a->n == a->cap) {
        a->cap = a->cap ? a->cap * 2 : 8;
        a->list = mem_realloc(a->list, sizeof(*a->list) * (size_t)a->cap);
    }
    memmove(a->list + at + 1, a->list + at, sizeof(*a->list) * (size_t)(a->n - at));
    a->n++;
    return a->list[at] = acl_account_new(name);
}

/* acl.lock held. */
static void moved(struct acl *a) {
    const struct acl_user *root = a->root->rules;
    atomic_store(&a->eng->auth_required, !(root->on && root->nopass));
    atomic_fetch_add_explicit(&a->eng->acl_version, 1, memory_order_release);
}

/* ---- life ---- */

void acl_init(struct engine *e) {
    struct acl *a = mem_zalloc(sizeof *a);
    a->eng = e;
    pthread_mutex_init(&a->lock, NULL);
    pthread_mutex_init(&a->change_lock, NULL);
    a->root = insert(a, 0, SLICE_LIT(ACL_DEFAULT_USER));
    e->acl = a;
    struct acl_env env = acl_env(a);
    acl_put(a, SLICE_LIT(ACL_DEFAULT_USER), acl_user_new_root(&env));
}

void acl_done(struct engine *e) {
    struct acl *a = e->acl;
    if (!a) return;
    for (int i = 0; i < a->n; i++) acl_account_unref(a->list[i]);
    mem_free(a->list);
    pthread_mutex_destroy(&a->lock);
    pthread_mutex_destroy(&a->change_lock);
    mem_free(a);
    e->acl = NULL;
}

struct acl_env acl_env(const struct acl *a) {
    return (struct acl_env){ a->eng->table, atomic_load_explicit(&a->all_channels, memory_order_relaxed) };
}

void acl_set_all_channels(struct acl *a, bool on) {
    atomic_store_explicit(&a->all_channels, on, memory_order_relaxed);
}

uint64_t acl_n_denied(const struct acl *a, enum acl_verdict v) {
    return atomic_load_explicit(&a->denied[v], memory_order_relaxed);
}

void acl_reset_denied(struct acl *a) {
    for (int v = 0; v < ACL_VERDICTS; v++) atomic_store_explicit(&a->denied[v], 0, memory_order_relaxed);
}

/* ---- reading and changing ---- */

const struct acl_user *acl_find(struct acl *a, struct slice name, struct acl_account **ret_account) {
    const struct acl_user *u = NULL;
    int at;
    pthread_mutex_lock(&a->lock);
    if (locate(a, name, &at)) {
        u = acl_user_ref(a->list[at]->rules);
        if (ret_account) *ret_account = account_ref(a->list[at]);
    }
    pthread_mutex_unlock(&a->lock);
    return u;
}

const struct acl_user *acl_get(struct acl *a, struct slice name) {
    return acl_find(a, name, NULL);
}

void acl_change_begin(struct acl *a) {
    pthread_mutex_lock(&a->change_lock);
}

void acl_change_end(struct acl *a) {
    pthread_mutex_unlock(&a->change_lock);
}

void acl_put(struct acl *a, struct slice name, struct acl_user *u_take) {
    const struct acl_user *old;
    int at;
    acl_user_finish(u_take);
    pthread_mutex_lock(&a->lock);
    if (!locate(a, name, &at)) insert(a, at, name);
    old = a->list[at]->rules;
    a->list[at]->rules = u_take;
    moved(a);
    pthread_mutex_unlock(&a->lock);
    acl_user_unref(old);
}

bool acl_remove(struct acl *a, struct slice name) {
    const struct acl_user *rules = NULL;
    struct acl_account *gone = NULL;
    int at;
    pthread_mutex_lock(&a->lock);
    if (locate(a, name, &at)) {
        gone = a->list[at];
        rules = gone->rules;
        gone->rules = NULL;
        memmove(a->list + at, a->list + at + 1, sizeof(*a->list) * (size_t)(--a->n - at));
        moved(a);
    }
    pthread_mutex_unlock(&a->lock);
    acl_user_unref(rules);
    acl_account_unref(gone);
    return gone != NULL;
}

struct acl_entry *acl_list(struct acl *a, int *ret_n) {
    pthread_mutex_lock(&a->lock);
    struct acl_entry *list = mem_calloc((size_t)a->n, sizeof *list);
    for (int i = 0; i < a->n; i++) list[i] = (struct acl_entry){ account_ref(a->list[i]), acl_user_ref(a->list[i]->rules) };
    *ret_n = a->n;
    pthread_mutex_unlock(&a->lock);
    return list;
}

void acl_list_free(struct acl_entry *list, int n) {
    for (int i = 0; i < n; i++) {
        acl_user_unref(list[i].rules);
        acl_account_unref(list[i].account);
    }
    mem_free(list);
}

/* Everybody in `fresh` (sorted; references taken) and nobody else. Accounts of names that stay are kept, for those logged in. */
void acl_replace_all(struct acl *a, struct acl_entry *fresh, int n) {
    struct acl_account **old_list = NULL, **list = mem_calloc((size_t)n, sizeof *list);
    int old_n, at = 0;
    pthread_mutex_lock(&a->lock);
    for (int i = 0; i < n; i++) {
        struct acl_account *f = fresh[i].account;
        while (at < a->n && acl_name_cmp(a->list[at], (struct slice){ f->name, f->name_len }) < 0) at++;
        bool stays = at < a->n && acl_name_cmp(a->list[at], (struct slice){ f->name, f->name_len }) == 0;
        list[i] = account_ref(stays ? a->list[at] : f);
        const struct acl_user *was = list[i]->rules;
        list[i]->rules = fresh[i].rules;
        fresh[i].rules = was;
    }
    for (int i = 0, k = 0; i < a->n; i++) { /* whoever is not in the new list; both are sorted */
        while (k < n && acl_name_cmp(list[k], (struct slice){ a->list[i]->name, a->list[i]->name_len }) < 0) k++;
        if (k < n && list[k] == a->list[i]) continue;
        acl_user_unref(a->list[i]->rules);
        a->list[i]->rules = NULL;
    }
    old_list = a->list;
    old_n = a->n;
    a->list = list;
    a->n = a->cap = n;
    moved(a);
    pthread_mutex_unlock(&a->lock);
    for (int i = 0; i < old_n; i++) acl_account_unref(old_list[i]);
    mem_free(old_list);
    acl_list_free(fresh, n);
}
