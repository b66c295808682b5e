/*
 * A user's rules as an object: made, copied, counted. While it is being changed one thread has it; from acl_put on it is read
 * only and anybody's. See acl.h.
 */
#include <string.h>

#include "base/alloc.h"
#include "cmd/acl_priv.h"

void acl_selector_init(struct acl_selector *s, int n_words, bool all_channels) {
    memset(s, 0, sizeof *s);
    s->all_channels = all_channels;
    s->bits = mem_calloc((size_t)n_words + 1, sizeof *s->bits);
}

void acl_selector_done(struct acl_selector *s) {
    mem_free(s->bits);
    acl_set_clear(&s->keys);
    acl_set_clear(&s->channels);
    acl_set_clear(&s->rules);
    acl_set_clear(&s->first_args);
}

struct acl_selector *acl_user_add_selector(struct acl_user *u) {
    if (u->n_sel == u->cap_sel) {
        u->cap_sel = u->cap_sel ? u->cap_sel * 2 : 1;
        u->sel = mem_realloc(u->sel, sizeof(*u->sel) * (size_t)u->cap_sel);
    }
    struct acl_selector *s = &u->sel[u->n_sel++];
    memset(s, 0, sizeof *s);
    return s;
}

struct acl_user *acl_user_new(const struct acl_env *env) {
    struct acl_user *u = mem_zalloc(sizeof *u);
    atomic_store_explicit(&u->refs, 1, memory_order_relaxed);
    u->n_words = env->table ? (cmd_ids(env->table) + 63) / 64 : 0;
    acl_selector_init(acl_user_add_selector(u), u->n_words, env->all_channels);
    return u;
}

struct acl_user *acl_user_new_root(const struct acl_env *env) {
    static const char *const rules[] = { "on", "nopass", "~*", "&*", "+@all" };
    struct acl_user *u = acl_user_new(env);
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) acl_user_apply(u, env, slice_cstr(rules[i]));
    return u;
}

static void selector_copy(struct acl_selector *to, const struct acl_selector *from, int n_words) {
    acl_selector_init(to, n_words, from->all_channels);
    memcpy(to->bits, from->bits, sizeof(*to->bits) * (size_t)n_words);
    to->all_keys = from->all_keys;
    to->all_commands = from->all_commands;
    to->from_all = from->from_all;
    acl_set_copy(&to->keys, &from->keys);
    acl_set_copy(&to->channels, &from->channels);
    acl_set_copy(&to->rules, &from->rules);
    acl_set_copy(&to->first_args, &from->first_args);
}

struct acl_user *acl_user_dup(const struct acl_user *u) {
    struct acl_user *d = mem_zalloc(sizeof *d);
    atomic_store_explicit(&d->refs, 1, memory_order_relaxed);
    d->on = u->on;
    d->nopass = u->nopass;
    d->skip_sanitize = u->skip_sanitize;
    d->n_words = u->n_words;
    acl_set_copy(&d->passwords, &u->passwords);
    for (int i = 0; i < u->n_sel; i++) selector_copy(acl_user_add_selector(d), &u->sel[i], u->n_words);
    return d;
}

const struct acl_user *acl_user_ref(const struct acl_user *u) {
    struct acl_user *counted = (struct acl_user *)(uintptr_t)u;
    atomic_fetch_add_explicit(&counted->refs, 1, memory_order_relaxed);
    return u;
}

void acl_user_unref(const struct acl_user *u) {
    struct acl_user *last = (struct acl_user *)(uintptr_t)u;
    if (!last || atomic_fetch_sub_explicit(&last->refs, 1, memory_order_acq_rel) != 1) return;
    for (int i = 0; i < last->n_sel; i++) acl_selector_done(&last->sel[i]);
    mem_free(last->sel);
    acl_set_clear(&last->passwords);
    mem_free(last);
}

void acl_user_finish(struct acl_user *u) {
    acl_set_finish(&u->passwords);
    u->unrestricted = false;
    for (int i = 0; i < u->n_sel; i++) {
        struct acl_selector *s = &u->sel[i];
        acl_set_finish(&s->keys);
        acl_set_finish(&s->channels);
        acl_set_finish(&s->rules);
        acl_set_finish(&s->first_args);
        u->unrestricted |= s->all_keys && s->all_channels && s->all_commands;
    }
}

bool acl_user_is_on(const struct acl_user *u) {
    return u->on;
}

bool acl_user_has_nopass(const struct acl_user *u) {
    return u->nopass;
}

bool acl_user_skips_sanitizing(const struct acl_user *u) {
    return u->skip_sanitize;
}
