/*
 * One directive: text to value and back, with Redis's checks and messages. Callers hold c->lock (or are the only thread).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "server/config_priv.h"

static _Thread_local char why[512];

int directive_find(struct slice name) {
    for (int i = 0; i < n_directives; i++)
        if (slice_ieq(name, directives[i].name) || (directives[i].alias && slice_ieq(name, directives[i].alias))) return i;
    return -1;
}

static cfg_int *int_field(const struct config *c, const struct directive *d) {
    return (cfg_int *)(void *)((char *)(uintptr_t)c + d->off);
}

static char **str_field(const struct config *c, const struct directive *d) {
    return (char **)(void *)((char *)(uintptr_t)c + d->off);
}

static void replace(char **slot, struct slice v, bool secret) {
    if (*slot && secret) mem_wipe(*slot, strlen(*slot));
    mem_free(*slot);
    *slot = mem_memdup0(v.ptr, v.len);
}

/* ---- get ---- */

static const char *enum_name(const struct directive *d, int64_t v) {
    for (const struct dir_enum *e = d->names; e->name; e++)
        if (e->value == v) return e->name;
    return "";
}

static void get_obuf_limits(const struct config *c, struct buf *out) {
    static const char *const classes[] = { "normal", "slave", "pubsub" };
    for (int i = 0; i < OBL_CLASSES; i++)
        buf_printf(out, "%s%s %lld %lld %lld", i ? " " : "", classes[i], (long long)cfg_get(&c->obuf_limit[i].hard),
                   (long long)cfg_get(&c->obuf_limit[i].soft), (long long)cfg_get(&c->obuf_limit[i].soft_seconds));
}

static void get_number(const struct config *c, const struct directive *d, struct buf *out) {
    int64_t v = cfg_get(int_field(c, d));
    switch (d->kind) {
    case DIR_BOOL:
        buf_append_cstr(out, v ? "yes" : "no");
        break;
    case DIR_ENUM:
        buf_append_cstr(out, enum_name(d, v));
        break;
    case DIR_EVENTS:
        config_events_text(v, out);
        break;
    case DIR_OCTAL:
        buf_printf(out, "%llo", (unsigned long long)v);
        break;
    default:
        if ((d->flags & DIR_PERCENT) && v < 0) {
            buf_printf(out, "%lld%%", (long long)-v);
        } else {
            buf_printf(out, "%lld", (long long)v);
        }
        break;
    }
}

static void get_save(const struct config *c, struct buf *out) {
    for (int k = 0; k < (int)cfg_get(&c->n_save); k++)
        buf_printf(out, "%s%lld %lld", k ? " " : "", (long long)c->save[k].seconds, (long long)c->save[k].changes);
}

void directive_get(const struct config *c, int i, struct buf *out) {
    const struct directive *d = &directives[i];
    if (d->kind == DIR_BIND) {
        for (int b = 0; b < c->n_bind; b++) buf_printf(out, "%s%s", b ? " " : "", c->bind[b]);
    } else if (d->kind == DIR_OBUF_LIMIT) {
        get_obuf_limits(c, out);
    } else if (d->kind == DIR_SAVE) {
        get_save(c, out);
    } else if (d->kind == DIR_PERCENTILES) {
        for (int k = 0; k < c->n_latency_percentiles; k++) buf_printf(out, "%s%.10g", k ? " " : "", c->latency_percentiles[k]);
    } else if (d->off == NO_FIELD) {
        if (c->other[i]) buf_append_cstr(out, c->other[i]);
    } else if (d->kind == DIR_STR) {
        const char *s = *str_field(c, d);
        if (s) buf_append_cstr(out, s);
    } else {
        get_number(c, d, out);
    }
}

/* ---- set ---- */

static const char *parse_int(const struct directive *d, struct slice v, int64_t *ret) {
    char text[64], *end;
    if (v.len == 0 || v.len >= sizeof text) return "argument couldn't be parsed into an integer";
    memcpy(text, v.ptr, v.len);
    text[v.len] = 0;
    if (d->kind == DIR_MEM) {
        bool bad;
        if ((d->flags & DIR_PERCENT) && text[v.len - 1] == '%') {
            errno = 0;
            long long p = strtoll(text, &end, 10);
            if (errno || end != text + v.len - 1 || p < 0 || p > 100) return "argument must be a memory or percent value";
            *ret = -p;
            return NULL;
        }
        uint64_t m = str_to_mem(text, &bad);
        if (bad || m > INT64_MAX)
            return d->flags & DIR_PERCENT ? "argument must be a memory or percent value" : "argument must be a memory value";
        *ret = (int64_t)m;
    } else if (d->kind == DIR_OCTAL) {
        errno = 0;
        *ret = strtoll(text, &end, 8);
        if (errno || *end) return "argument couldn't be parsed as an octal number";
    } else if (!str_to_ll(v, ret)) {
        return "argument couldn't be parsed into an integer";
    }
    if (*ret >= d->min && *ret <= d->max) return NULL;
    if (d->kind == DIR_OCTAL) {
        snprintf(why, sizeof why, "argument must be between %llo and %llo inclusive", (unsigned long long)d->min,
                 (unsigned long long)d->max);
    } else {
        snprintf(why, sizeof why, "argument must be between %lld and %lld inclusive", (long long)d->min, (long long)d->max);
    }
    return why;
}

static const char *parse_enum(const struct directive *d, struct slice v, int64_t *ret) {
    for (const struct dir_enum *e = d->names; e->name; e++) {
        if (!slice_ieq(v, e->name)) continue;
        *ret = e->value;
        return NULL;
    }
    size_t n = (size_t)snprintf(why, sizeof why, "argument(s) must be one of the following: ");
    for (const struct dir_enum *e = d->names; e->name; e++)
        n += (size_t)snprintf(why + n, sizeof why - n, "%s%s", e == d->names ? "" : ", ", e->name);
    return why;
}

static const char *parse_number(const struct directive *d, struct slice v, int64_t *ret) {
    if (d->kind == DIR_ENUM) return parse_enum(d, v, ret);
    if (d->kind == DIR_EVENTS) return config_events_parse(v, ret);
    if (d->kind != DIR_BOOL) return parse_int(d, v, ret);
    if (!slice_ieq(v, "yes") && !slice_ieq(v, "no")) return "argument must be 'yes' or 'no'";
    *ret = slice_ieq(v, "yes");
    return NULL;
}

static const char *set_bind(struct config *c, int n, const struct slice *words) {
    if (n == 1 && words[0].len == 0) n = 0;
    if (n > CONFIG_MAX_BIND) return "Too many bind addresses specified.";
    char *fresh[CONFIG_MAX_BIND] = { 0 };
    for (int i = 0; i < n; i++) fresh[i] = mem_memdup0(words[i].ptr, words[i].len);
    for (int i = 0; i < c->n_bind; i++) mem_free(c->bind[i]);
    memcpy(c->bind, fresh, sizeof(fresh[0]) * (size_t)n);
    c->n_bind = n;
    return NULL;
}

static int obuf_class(struct slice v) {
    if (slice_ieq(v, "normal")) return OBL_NORMAL;
    if (slice_ieq(v, "slave") || slice_ieq(v, "replica")) return OBL_REPLICA;
    if (slice_ieq(v, "pubsub")) return OBL_PUBSUB;
    return -1;
}

static const char *set_obuf_limits(struct config *c, int n, const struct slice *words) {
    if (n == 0 || n % 4) return "Wrong number of arguments in buffer limit configuration.";
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < n; i += 4) {
            bool bad_hard, bad_soft;
            int64_t seconds;
            char hard[32], soft[32];
            int class = obuf_class(words[i]);
            if (class < 0) return "Invalid client class specified in buffer limit configuration.";
            snprintf(hard, sizeof hard, "%.*s", (int)words[i + 1].len, words[i + 1].ptr);
            snprintf(soft, sizeof soft, "%.*s", (int)words[i + 2].len, words[i + 2].ptr);
            uint64_t h = str_to_mem(hard, &bad_hard), s = str_to_mem(soft, &bad_soft);
            if (bad_hard || bad_soft || !str_to_ll(words[i + 3], &seconds) || seconds < 0)
                return "Error in hard, soft or soft_seconds setting in buffer limit configuration.";
            if (pass == 0) continue;
            atomic_store(&c->obuf_limit[class].hard, (int64_t)h);
            atomic_store(&c->obuf_limit[class].soft, (int64_t)s);
            atomic_store(&c->obuf_limit[class].soft_seconds, seconds);
        }
    }
    return NULL;
}

static const char *set_percentiles(struct config *c, int n, const struct slice *words) {
    double p[16];
    if (n == 1 && words[0].len == 0) n = 0;
    if (n > 16) return "too many latency percentiles";
    for (int i = 0; i < n; i++)
        if (!str_to_double(words[i], &p[i]) || p[i] < 0 || p[i] > 100)
            return "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]";
    if (n) memcpy(c->latency_percentiles, p, sizeof(p[0]) * (size_t)n);
    c->n_latency_percentiles = n;
    return NULL;
}

static const char *set_save(struct config *c, int n, const struct slice *words, bool first) {
    int had = first ? 0 : (int)cfg_get(&c->n_save);
    if (n == 1 && words[0].len == 0) n = had = 0;
    if (n % 2) return "Invalid save parameters";
    for (int k = 0; k < n; k += 2) {
        int64_t seconds, changes;
        if (!str_to_ll(words[k], &seconds) || !str_to_ll(words[k + 1], &changes) || seconds < 1 || changes < 0)
            return "Invalid save parameters";
    }
    if (had + n / 2 > CONFIG_MAX_SAVE) return "too many save points";
    for (int k = 0; k < n; k += 2) {
        str_to_ll(words[k], &c->save[had].seconds);
        str_to_ll(words[k + 1], &c->save[had++].changes);
    }
    atomic_store_explicit(&c->n_save, had, memory_order_relaxed);
    return NULL;
}

/* One word, "", empties the list. Words are quoted, so that paths with spaces come back as they were. */
static const char *set_list(struct config *c, int i, int n, const struct slice *words, bool first) {
    struct buf text = { 0 };
    int per_item = (int)directives[i].min;
    if (n == 1 && words[0].len == 0) n = 0;
    if (n % per_item) {
        snprintf(why, sizeof why, "wrong number of arguments: %d for each entry", per_item);
        return why;
    }
    for (int k = 0; k < n; k++)
        if (words[k].len == 0 || memchr(words[k].ptr, 0, words[k].len)) return "an argument is empty or contains a NUL byte";
    if (n && !first && c->other[i]) buf_append_cstr(&text, c->other[i]);
    for (int k = 0; k < n; k++) {
        bool plain = true;
        for (size_t at = 0; at < words[k].len; at++) plain &= words[k].ptr[at] > ' ' && !strchr("\"'\\#\x7f", words[k].ptr[at]);
        if (text.len) buf_append_char(&text, ' ');
        if (plain) {
            buf_append(&text, words[k].ptr, words[k].len);
        } else {
            str_quote(&text, words[k]);
        }
    }
    mem_free(c->other[i]);
    c->other[i] = buf_steal(&text, NULL);
    return NULL;
}

static const char *add_rename(struct config *c, int n, const struct slice *words) {
    if (n != 2) return "wrong number of arguments";
    c->renames = mem_realloc(c->renames, sizeof(*c->renames) * (size_t)(c->n_renames + 1));
    c->renames[c->n_renames].from = mem_memdup0(words[0].ptr, words[0].len);
    c->renames[c->n_renames++].to = mem_memdup0(words[1].ptr, words[1].len);
    return NULL;
}

static const char *set_words(char **slot, int n, const struct slice *words, bool secret) {
    struct buf text = { 0 };
    for (int k = 0; k < n; k++) {
        if (memchr(words[k].ptr, 0, words[k].len)) return "argument contains a NUL byte";
        if (k) buf_append_char(&text, ' ');
        buf_append(&text, words[k].ptr, words[k].len);
    }
    replace(slot, (struct slice){ text.data ? text.data : "", text.len }, secret);
    buf_done(&text);
    return NULL;
}

static const char *set_text(struct config *c, int i, int n, const struct slice *words) {
    const struct directive *d = &directives[i];
    const char *err = directive_check(d->name, n, words);
    if (err) return err;
    return set_words(d->off == NO_FIELD ? &c->other[i] : str_field(c, d), n, words, d->flags & DIR_SECRET);
}

static const char *set_number(struct config *c, int i, struct slice v) {
    const struct directive *d = &directives[i];
    int64_t parsed = 0;
    const char *err = parse_number(d, v, &parsed);
    if (err) return err;
    if (d->off != NO_FIELD) {
        atomic_store_explicit(int_field(c, d), parsed, memory_order_relaxed);
        return NULL;
    }
    char text[32];
    if (d->kind == DIR_BOOL) {
        snprintf(text, sizeof text, "%s", parsed ? "yes" : "no");
    } else if (d->kind == DIR_ENUM) {
        snprintf(text, sizeof text, "%s", enum_name(d, parsed));
    } else {
        str_from_ll(text, parsed);
    }
    replace(&c->other[i], slice_cstr(text), false);
    return NULL;
}

const char *directive_set(struct config *c, int i, int n, const struct slice *words, bool first) {
    const struct directive *d = &directives[i];
    switch (d->kind) {
    case DIR_BIND:
        return set_bind(c, n, words);
    case DIR_OBUF_LIMIT:
        return set_obuf_limits(c, n, words);
    case DIR_PERCENTILES:
        return set_percentiles(c, n, words);
    case DIR_SAVE:
        return set_save(c, n, words, first);
    case DIR_LIST:
        return set_list(c, i, n, words, first);
    case DIR_RENAME:
        return add_rename(c, n, words);
    case DIR_WORDS:
    case DIR_STR:
        return set_text(c, i, n, words);
    default:
        return set_number(c, i, words[0]);
    }
}
