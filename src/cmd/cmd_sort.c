/*
 * SORT, SORT_RO.
 *
 * ALPHA without STORE is in the order of the locale (locale-collate), as in redis-server: each weight is turned into the form
 * whose bytes have that order (strxfrm(3)), once. What is stored is in the order of bytes: it must be the same on every server
 * that runs the command again, whatever its locale.
 *
 * The elements are copied out first (their texts one after the other in one buffer), then weighed, then ordered, then given.
 * Where nothing is to be ordered only the elements of LIMIT are copied.
 */
#include "cmd/cmd_sort.h"

#include <assert.h>
#include <errno.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "cmd/acl.h"
#include "data/hash.h"
#include "data/list.h"
#include "data/set.h"
#include "data/zset.h"

struct sort_args {
    bool desc, alpha, dont_sort;
    int64_t offset, count; /* count below 0: all */
    struct slice by;       /* ptr NULL: by the elements themselves */
    int get[64], n_get;    /* argv positions of patterns; more are counted in `gets` */
    int *gets;             /* owned; NULL while get is enough */
    int gets_cap;
    struct slice store; /* ptr NULL: reply */
};

struct sort_item {
    size_t off, len; /* the element's text */
    double score;
    size_t weight_off, weight_len; /* BY with ALPHA: its weight's text */
    bool has_weight;
};

struct sort {
    struct cmd_ctx *c;
    struct sort_args a;
    struct buf text;
    struct sort_item *items;
    size_t n, cap;
    size_t skip, take; /* of the source's elements, when nothing is to be ordered */
    size_t seen;
    locale_t locale; /* of ALPHA's order; 0: that of bytes */
};

/* ---- the locale ---- */

/* Locales are kept once they were wanted: a SORT on another thread may be using one, and there are few. */
struct known_locale {
    struct known_locale *next;
    locale_t locale; /* 0: its order is that of bytes */
    char name[];
};

static struct known_locale *known_locales; /* the one caller's */
static _Atomic(locale_t) order;            /* of texts */

static locale_t load_locale(const char *name, bool *ret_ok) {
    locale_t l = newlocale(LC_COLLATE_MASK, name, (locale_t)0);
    *ret_ok = l != (locale_t)0;
    if (!l) return l;
    const char *real = nl_langinfo_l(_NL_LOCALE_NAME(LC_COLLATE), l);
    if (strcmp(real, "C") != 0 && strcmp(real, "POSIX") != 0 && strncmp(real, "C.", 2) != 0) return l;
    freelocale(l); /* the order of code points is that of their bytes, C.UTF-8's, too */
    return (locale_t)0;
}

bool sort_set_locale(const char *name) {
    struct known_locale *k = known_locales;
    while (k && strcmp(k->name, name) != 0) k = k->next;
    if (!k) {
        bool ok;
        locale_t l = load_locale(name, &ok);
        if (!ok) return false;
        k = mem_alloc(sizeof *k + strlen(name) + 1);
        memcpy(k->name, name, strlen(name) + 1);
        k->locale = l;
        k->next = known_locales;
        known_locales = k;
    }
    atomic_store(&order, k->locale);
    return true;
}

/* ---- arguments ---- */

static const int *get_positions(const struct sort_args *a) {
    return a->gets ? a->gets : a->get;
}

static void add_get(struct sort_args *a, int pos) {
    int room = a->gets ? a->gets_cap : (int)(sizeof a->get / sizeof *a->get);
    if (a->n_get == room) {
        a->gets_cap = room * 2;
        int *more = mem_calloc((size_t)a->gets_cap, sizeof *more);
        memcpy(more, get_positions(a), (size_t)a->n_get * sizeof *more);
        mem_free(a->gets);
        a->gets = more;
    }
    (a->gets ? a->gets : a->get)[a->n_get++] = pos;
}

static bool may_read_patterns(struct cmd_ctx *c, const char *option) {
    if (acl_session_reads_every_key(c->eng, c->s, c->cmd, c->argc, c->argv)) return true;
    reply_errorf(c->r, "ERR %s option of SORT denied due to insufficient ACL permissions.", option);
    return false;
}

static bool arg_limit(struct cmd_ctx *c, struct sort_args *a, int *i) {
    if (!cmd_arg_ll(c, c->argv[*i + 1], &a->offset, NULL) || !cmd_arg_ll(c, c->argv[*i + 2], &a->count, NULL)) return false;
    *i += 2;
    return true;
}

static bool arg_option(struct cmd_ctx *c, struct sort_args *a, bool may_store, int *i) {
    struct slice opt = c->argv[*i];
    int more = c->argc - *i - 1;
    if (slice_ieq(opt, "asc") || slice_ieq(opt, "desc")) {
        a->desc = opt.len == 4;
    } else if (slice_ieq(opt, "alpha")) {
        a->alpha = true;
    } else if (slice_ieq(opt, "limit") && more >= 2) {
        return arg_limit(c, a, i);
    } else if (may_store && slice_ieq(opt, "store") && more >= 1) {
        a->store = c->argv[++*i];
    } else if (slice_ieq(opt, "by") && more >= 1) {
        a->by = c->argv[++*i];
        bool is_constant = a->by.len == 0 || !memchr(a->by.ptr, '*', a->by.len);
        a->dont_sort |= is_constant; /* a later BY does not change that */
        return is_constant || may_read_patterns(c, "BY");
    } else if (slice_ieq(opt, "get") && more >= 1) {
        add_get(a, ++*i);
        return may_read_patterns(c, "GET");
    } else {
        cmd_syntax_error(c);
        return false;
    }
    return true;
}

static bool parse_args(struct cmd_ctx *c, struct sort_args *a, bool may_store) {
    a->count = -1;
    for (int i = 2; i < c->argc; i++)
        if (!arg_option(c, a, may_store, &i)) return false;
    return true;
}

/* Of the pairs and words behind the key, STORE's argument; the last one counts. */
static int store_pos(int argc, const struct slice *argv) {
    int store = 0;
    for (int i = 2; i < argc; i++) {
        if (slice_ieq(argv[i], "limit")) {
            i += 2;
        } else if (slice_ieq(argv[i], "get") || slice_ieq(argv[i], "by")) {
            i++;
        } else if (slice_ieq(argv[i], "store") && i + 1 < argc) {
            store = ++i;
        }
    }
    return store;
}

static int put_key(int *pos, unsigned *flags, int cap, int n, int at, unsigned f) {
    if (n < cap) {
        pos[n] = at;
        if (flags) flags[n] = f;
    }
    return n + 1;
}

int sort_ro_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap) {
    (void)argc;
    (void)argv;
    return put_key(pos, flags, cap, 0, 1, KEY_RO | KEY_ACCESS);
}

int sort_keys(int argc, const struct slice *argv, int *pos, unsigned *flags, int cap) {
    int n = sort_ro_keys(argc, argv, pos, flags, cap), store = store_pos(argc, argv);
    return store ? put_key(pos, flags, cap, n, store, KEY_OW | KEY_UPDATE) : n;
}

/* ---- the elements ---- */

static struct slice item_text(const struct sort *s, const struct sort_item *it) {
    assert(it);
    return (struct slice){ s->text.data + it->off, it->len };
}

/* False: enough. */
static bool add_item(struct sort *s, struct slice text) {
    if (s->seen++ < s->skip) return true;
    if (s->n == s->take) return false;
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 16;
        s->items = mem_realloc(s->items, s->cap * sizeof *s->items);
    }
    s->items[s->n++] = (struct sort_item){ .off = s->text.len, .len = text.len };
    buf_append(&s->text, text.ptr, text.len);
    return true;
}

static bool add_member(void *arg, const struct set_member *m) {
    char tmp[STR_LL_MAX];
    return add_item(arg, set_member_text(m, tmp));
}

static uint64_t length_of(const struct obj *o) {
    return o->type == OBJ_LIST ? list_len(o) : o->type == OBJ_SET ? set_len(o) : zset_len(o);
}

/* Where nothing is to be ordered, DESC still means: from the end. */
static uint64_t first_index(const struct sort *s, const struct obj *o, bool *ret_backwards) {
    *ret_backwards = s->a.dont_sort && s->a.desc;
    return *ret_backwards ? length_of(o) - 1 - s->skip : s->skip;
}

static void add_list(struct sort *s, const struct obj *o) {
    struct list_iter it;
    struct list_elem e;
    char tmp[STR_LL_MAX];
    bool backwards;
    uint64_t first = first_index(s, o, &backwards);
    list_iter_init(&it, o, first, backwards);
    s->skip = 0;
    while (list_iter_next(&it, &e) && add_item(s, list_elem_text(&e, tmp))) {
    }
    list_iter_done(&it);
}

static void add_zset(struct sort *s, const struct obj *o) {
    struct zset_iter it;
    struct zset_item item;
    bool backwards;
    uint64_t first = first_index(s, o, &backwards);
    zset_iter_init(&it, o, first, backwards);
    s->skip = 0;
    while (zset_iter_next(&it, &item) && add_item(s, item.member)) {
    }
}

static void add_elements(struct sort *s, const struct obj *o) {
    if (s->skip >= length_of(o)) return;
    if (o->type == OBJ_LIST)
        add_list(s, o);
    else if (o->type == OBJ_SET)
        set_each(o, add_member, s);
    else
        add_zset(s, o);
}

/* ---- BY and GET ---- */

struct lookup {
    struct buf key;
    char tmp[STR_LL_MAX];
    struct hash_pair pair;
};

/* What a pattern means for an element: '*' stands for it; behind "->" is a field of a hash. False: there is no such thing. */
static bool look_up(struct sort *s, struct slice pattern, struct slice element, struct lookup *l, struct slice *ret) {
    if (pattern.len == 1 && *pattern.ptr == '#') {
        *ret = element;
        return true;
    }
    const char *star = pattern.len ? memchr(pattern.ptr, '*', pattern.len) : NULL, *end = pattern.ptr + pattern.len;
    if (!star) return false;
    const char *arrow = memmem(star + 1, (size_t)(end - star - 1), "->", 2);
    struct slice field = { NULL, 0 };
    if (arrow && arrow + 2 < end) {
        field = (struct slice){ arrow + 2, (size_t)(end - arrow - 2) };
        end = arrow;
    }
    buf_clear(&l->key);
    buf_append(&l->key, pattern.ptr, (size_t)(star - pattern.ptr));
    buf_append(&l->key, element.ptr, element.len);
    buf_append(&l->key, star + 1, (size_t)(end - star - 1));
    struct entry *e = cmd_find_read(s->c, buf_slice(&l->key));
    const struct obj *o = e ? entry_value(e) : NULL;
    if (!o || o->type != (field.ptr ? OBJ_HASH : OBJ_STRING)) return false;
    if (!field.ptr) {
        *ret = obj_string_bytes(o, l->tmp);
        return true;
    }
    if (!hash_get(o, field, s->c->now_ms, &l->pair)) return false;
    *ret = l->pair.value;
    return true;
}

/* As strtod(3) reads it: that is what redis-server does with weights. */
static bool to_score(struct slice text, double *ret) {
    char local[64], *p = text.len < sizeof local ? local : mem_alloc(text.len + 1), *end;
    if (text.len) memcpy(p, text.ptr, text.len);
    p[text.len] = 0;
    errno = 0;
    *ret = strtod(p, &end);
    bool ok = *end == 0 && errno != ERANGE && !isnan(*ret);
    if (p != local) mem_free(p);
    return ok;
}

/* The weight in the form whose bytes have the locale's order. Like strcoll(3) in redis-server, it ends at a NUL. */
static void add_collated(struct sort *s, struct sort_item *it, struct slice weight, struct buf *tmp) {
    buf_clear(tmp); /* weight may be in s->text, which moves */
    buf_append(tmp, weight.ptr, weight.len);
    const char *text = buf_cstr(tmp);
    size_t room = weight.len * 4 + 32, len;
    for (;; room = len + 1) {
        buf_reserve(&s->text, room);
        len = strxfrm_l(s->text.data + s->text.len, text, room, s->locale);
        if (len < room) break;
    }
    it->weight_off = s->text.len;
    it->weight_len = len;
    s->text.len += len;
}

/* The weight of each element. False: one is no number. */
static bool weigh(struct sort *s) {
    struct lookup l = { .key = { 0 } };
    struct buf tmp = { 0 };
    bool ok = true;
    for (size_t i = 0; i < s->n && ok; i++) {
        struct sort_item *it = &s->items[i];
        struct slice weight = item_text(s, it);
        it->has_weight = !s->a.by.ptr || look_up(s, s->a.by, weight, &l, &weight);
        if (!it->has_weight) continue; /* a score of 0, and before every text */
        if (!s->a.alpha) {
            ok = to_score(weight, &it->score);
        } else if (s->locale) {
            add_collated(s, it, weight, &tmp);
        } else if (s->a.by.ptr) {
            it->weight_off = s->text.len;
            it->weight_len = weight.len;
            buf_append(&s->text, weight.ptr, weight.len);
        }
    }
    buf_done(&l.key);
    buf_done(&tmp);
    return ok;
}

/* ---- order ---- */

static struct slice weight_text(const struct sort *s, const struct sort_item *it) {
    return s->a.by.ptr || s->locale ? (struct slice){ s->text.data + it->weight_off, it->weight_len } : item_text(s, it);
}

static int item_cmp(const void *pa, const void *pb, void *arg) {
    const struct sort *s = arg;
    const struct sort_item *a = pa, *b = pb;
    int d;
    if (s->a.alpha) {
        d = a->has_weight - b->has_weight;
        if (d == 0 && a->has_weight) d = slice_cmp(weight_text(s, a), weight_text(s, b));
    } else {
        d = (a->score > b->score) - (a->score < b->score);
    }
    if (d == 0) d = slice_cmp(item_text(s, a), item_text(s, b)); /* so that the order is always the same */
    return s->a.desc ? -d : d;
}

/* LIMIT as a range of n elements. */
static void limit_range(const struct sort_args *a, uint64_t n, size_t *ret_first, size_t *ret_n) {
    uint64_t first = a->offset < 0 ? 0 : (uint64_t)a->offset;
    if (first > n) first = n;
    uint64_t left = n - first;
    *ret_first = (size_t)first;
    *ret_n = (size_t)(a->count < 0 || (uint64_t)a->count > left ? left : (uint64_t)a->count);
}

/* ---- giving ---- */

static void reply_items(struct sort *s, size_t first, size_t n) {
    const int *get = get_positions(&s->a);
    struct lookup l = { .key = { 0 } };
    struct slice v;
    reply_array(s->c->r, n * (size_t)(s->a.n_get ? s->a.n_get : 1));
    for (size_t i = first; i < first + n; i++) {
        struct slice element = item_text(s, &s->items[i]);
        if (s->a.n_get == 0) reply_bulk_slice(s->c->r, element);
        for (int g = 0; g < s->a.n_get; g++) {
            if (look_up(s, s->c->argv[get[g]], element, &l, &v))
                reply_bulk_slice(s->c->r, v);
            else
                reply_null(s->c->r);
        }
    }
    buf_done(&l.key);
}

static void push(struct obj *list, struct slice text) {
    struct list_value v = { .text = text };
    list_grow(list, 1, text.len);
    if (list_wants_object(list, text.len)) {
        v.str = obj_string_new_raw(text.len);
        memcpy(v.str->u.raw.data, text.ptr, text.len);
        v.text = (struct slice){ v.str->u.raw.data, text.len };
    }
    list_push(list, LIST_TAIL, v);
}

static struct obj *list_of_items(struct sort *s, size_t first, size_t n) {
    const int *get = get_positions(&s->a);
    struct lookup l = { .key = { 0 } };
    struct obj *list = list_new();
    for (size_t i = first; i < first + n; i++) {
        struct slice element = item_text(s, &s->items[i]), v;
        if (s->a.n_get == 0) push(list, element);
        for (int g = 0; g < s->a.n_get; g++) push(list, look_up(s, s->c->argv[get[g]], element, &l, &v) ? v : SLICE_LIT(""));
    }
    buf_done(&l.key);
    return list;
}

static void store_items(struct sort *s, size_t first, size_t n) {
    struct cmd_ctx *c = s->c;
    struct slice key = s->a.store;
    struct obj *list = list_of_items(s, first, n);
    uint64_t len = list_len(list);
    struct entry *old = cmd_find_write(c, key);
    if (len == 0) {
        obj_unref(list);
        if (old) {
            ks_delete(c->ks, c->db, key, atomic_load_explicit(&c->eng->lazy_server_del, memory_order_relaxed));
            cmd_modified(c, c->db, key);
            cmd_notify(c, 'g', "del", c->db, key);
        }
    } else {
        generic_put(c, c->db, key, old, list, false);
        cmd_modified(c, c->db, key);
        cmd_dirty(c, len - 1);
        cmd_notify(c, 'l', "sortstore", c->db, key);
    }
    reply_int(c->r, (int64_t)len);
}

static void sort_value(struct sort *s, const struct obj *o) {
    struct sort_args *a = &s->a;
    size_t first, n;
    /* A set has no order of its own: what is stored must be the same wherever the command is replayed. */
    if (a->dont_sort && o && o->type == OBJ_SET && (a->store.ptr || s->c->deny_blocking)) {
        a->dont_sort = false;
        a->alpha = true;
        a->by = (struct slice){ NULL, 0 };
    }
    if (a->alpha && !a->store.ptr) s->locale = atomic_load_explicit(&order, memory_order_relaxed);
    limit_range(a, o ? length_of(o) : 0, &first, &n);
    s->skip = a->dont_sort ? first : 0;
    s->take = a->dont_sort ? n : SIZE_MAX;
    if (o) add_elements(s, o);
    if (!a->dont_sort) {
        if (!weigh(s)) {
            reply_error(s->c->r, "ERR One or more scores can't be converted into double");
            return;
        }
        if (s->n > 1) qsort_r(s->items, s->n, sizeof *s->items, item_cmp, s);
    } else {
        first = 0;
    }
    if (a->store.ptr)
        store_items(s, first, n);
    else
        reply_items(s, first, n);
}

static void sort(struct cmd_ctx *c, bool may_store) {
    struct sort s = { .c = c };
    if (parse_args(c, &s.a, may_store)) {
        struct entry *e = cmd_find_read(c, c->argv[1]);
        const struct obj *o = e ? entry_value(e) : NULL;
        if (o && o->type != OBJ_LIST && o->type != OBJ_SET && o->type != OBJ_ZSET)
            cmd_wrongtype(c);
        else
            sort_value(&s, o);
    }
    mem_free(s.items);
    mem_free(s.a.gets);
    buf_done(&s.text);
}

void sort_sort_command(struct cmd_ctx *c) {
    sort(c, true);
}

void sort_sort_ro_command(struct cmd_ctx *c) {
    sort(c, false);
}
