/* Cursors, options and table walks of the SCAN family. See scan.h. */
#include "cmd/scan.h"

#include "base/alloc.h"

bool scan_cursor(struct cmd_ctx *c, struct slice a, uint64_t *ret) {
    uint64_t v = 0;
    bool minus = a.len > 0 && a.ptr[0] == '-', bad = false;
    size_t i = a.len > 1 && (minus || a.ptr[0] == '+');
    for (; i < a.len && !bad; i++) {
        bad = a.ptr[i] < '0' || a.ptr[i] > '9' || __builtin_mul_overflow(v, (uint64_t)10, &v) ||
              __builtin_add_overflow(v, (uint64_t)(a.ptr[i] - '0'), &v);
    }
    if (bad) {
        reply_error(c->r, "ERR invalid cursor");
        return false;
    }
    *ret = minus ? 0 - v : v;
    return true;
}

static bool matches_all(struct slice pattern) {
    return pattern.len == 1 && pattern.ptr[0] == '*';
}

static bool count_option(struct cmd_ctx *c, struct slice a, int64_t *ret) {
    if (!cmd_arg_ll(c, a, ret, NULL)) return false;
    if (*ret >= 1) return true;
    cmd_syntax_error(c);
    return false;
}

bool scan_options(struct cmd_ctx *c, int first, unsigned allowed, struct scan_opts *ret) {
    *ret = (struct scan_opts){ .count = 10 };
    for (int i = first; i < c->argc; i++) {
        struct slice opt = c->argv[i];
        bool has_value = i + 1 < c->argc;
        if (slice_ieq(opt, "count") && has_value) {
            if (!count_option(c, c->argv[++i], &ret->count)) return false;
        } else if (slice_ieq(opt, "match") && has_value) {
            struct slice pattern = c->argv[++i];
            ret->pattern = matches_all(pattern) ? (struct slice){ NULL, 0 } : pattern;
        } else if ((allowed & SCAN_TYPE) && slice_ieq(opt, "type") && has_value) {
            ret->type_name = c->argv[++i];
        } else if (slice_ieq(opt, "novalues")) {
            if (!(allowed & SCAN_NOVALUES)) {
                reply_error(c->r, "ERR NOVALUES option can only be used in HSCAN");
                return false;
            }
            ret->novalues = true;
        } else {
            cmd_syntax_error(c);
            return false;
        }
    }
    return true;
}

int64_t scan_max_steps(const struct scan_opts *o) {
    int64_t steps;
    return __builtin_mul_overflow(o->count, (int64_t)10, &steps) ? INT64_MAX : steps;
}

static void found_add(void *arg, void *item) {
    struct scan_found *f = arg;
    if (f->n == f->cap) {
        f->cap = f->cap ? f->cap * 2 : 32;
        f->items = mem_realloc(f->items, f->cap * sizeof(*f->items));
    }
    f->items[f->n++] = item;
}

uint64_t scan_dict(struct dict *d, uint64_t cursor, const struct scan_opts *o, struct scan_found *ret) {
    int64_t steps_left = scan_max_steps(o);
    do {
        cursor = dict_scan(d, cursor, found_add, ret);
    } while (cursor != 0 && --steps_left > 0 && ret->n < (uint64_t)o->count);
    return cursor;
}

void scan_found_done(struct scan_found *f) {
    mem_free(f->items);
    *f = (struct scan_found){ 0 };
}

struct reply_deferred scan_reply_begin(struct cmd_ctx *c, uint64_t cursor) {
    char num[STR_LL_MAX];
    reply_array(c->r, 2);
    reply_bulk(c->r, num, str_from_ull(num, cursor));
    return reply_deferred_begin(c->r);
}

void scan_reply_empty(struct cmd_ctx *c) {
    reply_array(c->r, 2);
    reply_bulk(c->r, "0", 1);
    reply_array(c->r, 0);
}
