/*
 * Replies into Lua values and Lua values into replies, by redis-server's rules (documented with EVAL: "Lua to RESP", "RESP3 to
 * Lua"). The replies are this server's own; they are parsed with bounds all the same.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/str.h"
#include "cmd/script/script_priv.h"

/* ---- replies into Lua ---- */

struct wire {
    const char *p, *end;
    lua_State *L;
};

static void push_wire(struct wire *w);

/* The line at p, without type byte and CRLF. */
static struct slice take_line(struct wire *w) {
    const char *cr = w->p < w->end ? memchr(w->p, '\r', (size_t)(w->end - w->p)) : NULL;
    if (!cr || cr + 1 >= w->end) {
        w->p = w->end;
        return (struct slice){ "", 0 };
    }
    struct slice line = { w->p + 1, (size_t)(cr - w->p - 1) };
    w->p = cr + 2;
    return line;
}

static int64_t take_int(struct wire *w) {
    int64_t v = 0;
    str_to_ll(take_line(w), &v);
    return v;
}

static struct slice take_blob(struct wire *w, int64_t len) {
    if (len < 0 || len > w->end - w->p - 2) {
        w->p = w->end;
        return (struct slice){ "", 0 };
    }
    struct slice s = { w->p, (size_t)len };
    w->p += len + 2;
    return s;
}

static void push_slice(lua_State *L, struct slice s) {
    lua_pushlstring(L, s.ptr, s.len);
}

/* {field = line} */
static void push_field(struct wire *w, const char *field) {
    struct slice line = take_line(w);
    lua_createtable(w->L, 0, 1);
    push_slice(w->L, line);
    lua_setfield(w->L, -2, field);
}

static void push_error(struct wire *w) {
    push_field(w, "err");
    lua_pushboolean(w->L, 1); /* it was counted when the command replied it */
    lua_setfield(w->L, -2, "ignore_error_stats_update");
}

static void push_double(struct wire *w) {
    double d = 0;
    struct slice line = take_line(w);
    if (slice_ieq(line, "nan")) {
        d = NAN;
    } else {
        str_to_double(line, &d);
    }
    lua_createtable(w->L, 0, 1);
    lua_pushnumber(w->L, d);
    lua_setfield(w->L, -2, "double");
}

static void push_verbatim(struct wire *w) {
    struct slice s = take_blob(w, take_int(w));
    bool has_format = s.len >= 4;
    lua_createtable(w->L, 0, 1);
    lua_createtable(w->L, 0, 2);
    push_slice(w->L, (struct slice){ s.ptr + (has_format ? 4 : 0), s.len - (has_format ? 4 : 0) });
    lua_setfield(w->L, -2, "string");
    push_slice(w->L, (struct slice){ s.ptr, has_format ? 3 : 0 });
    lua_setfield(w->L, -2, "format");
    lua_setfield(w->L, -2, "verbatim_string");
}

static void push_bulk(struct wire *w) {
    int64_t len = take_int(w);
    if (len < 0)
        lua_pushboolean(w->L, 0);
    else
        push_slice(w->L, take_blob(w, len));
}

static void push_array(struct wire *w) {
    int64_t n = take_int(w);
    if (n < 0) {
        lua_pushboolean(w->L, 0);
        return;
    }
    if (n > w->end - w->p) n = w->end - w->p; /* each takes a few bytes: a bound for the table */
    lua_createtable(w->L, (int)n, 0);
    for (int i = 1; i <= n; i++) {
        push_wire(w);
        lua_rawseti(w->L, -2, i);
    }
}

/* {map = {k = v}} or {set = {v = true}} */
static void push_keyed(struct wire *w, bool is_map) {
    int64_t n = take_int(w);
    lua_createtable(w->L, 0, 1);
    lua_newtable(w->L);
    for (int64_t i = 0; i < n && w->p < w->end; i++) {
        push_wire(w);
        if (is_map)
            push_wire(w);
        else
            lua_pushboolean(w->L, 1);
        if (lua_isnil(w->L, -2)) /* no key */
            lua_pop(w->L, 2);
        else
            lua_rawset(w->L, -3);
    }
    lua_setfield(w->L, -2, is_map ? "map" : "set");
}

static void skip_attribute(struct wire *w) {
    int64_t n = take_int(w);
    for (int64_t i = 0; i < 2 * n && w->p < w->end; i++) {
        push_wire(w);
        lua_pop(w->L, 1);
    }
    push_wire(w);
}

static void push_wire(struct wire *w) {
    lua_State *L = w->L;
    if (w->p >= w->end || !lua_checkstack(L, 6)) {
        w->p = w->end;
        lua_pushnil(L);
        return;
    }
    switch (*w->p) {
    case ':':
        lua_pushnumber(L, (lua_Number)take_int(w));
        break;
    case '$':
        push_bulk(w);
        break;
    case '+':
        push_field(w, "ok");
        break;
    case '-':
        push_error(w);
        break;
    case '*':
    case '>':
        push_array(w);
        break;
    case '%':
        push_keyed(w, true);
        break;
    case '~':
        push_keyed(w, false);
        break;
    case ',':
        push_double(w);
        break;
    case '(':
        push_field(w, "big_number");
        break;
    case '=':
        push_verbatim(w);
        break;
    case '#': {
        struct slice line = take_line(w);
        lua_pushboolean(L, line.len == 1 && line.ptr[0] == 't');
        break;
    }
    case '|':
        skip_attribute(w);
        break;
    default:
        take_line(w);
        lua_pushnil(L);
    }
}

void convert_reply(lua_State *L, const struct obuf *out, struct buf *flat, int resp) {
    struct iovec iov[2];
    struct wire w = { .L = L };
    (void)resp;
    if (obuf_iov(out, iov, 2, NULL) == 1) {
        w.p = iov[0].iov_base;
        w.end = w.p + iov[0].iov_len;
    } else {
        buf_clear(flat);
        buf_reserve(flat, out->bytes + 1);
        flat->len = obuf_copy(out, flat->data, out->bytes);
        w.p = flat->data;
        w.end = w.p + flat->len;
    }
    push_wire(&w);
    if (flat->cap > 65536) buf_done(flat);
}

/* ---- errors ---- */

void convert_error_info(lua_State *L, int idx, struct error_info *ret) {
    memset(ret, 0, sizeof *ret);
    ret->text = SLICE_LIT("ERR unknown error");
    struct slice *const into[] = { &ret->text, &ret->source, &ret->line };
    static const char *const fields[] = { "err", "source", "line" };
    for (int i = 0; i < 3; i++) {
        lua_pushstring(L, fields[i]);
        lua_rawget(L, idx);
        if (lua_isstring(L, -1)) into[i]->ptr = lua_tolstring(L, -1, &into[i]->len);
    }
    lua_pushliteral(L, "ignore_error_stats_update");
    lua_rawget(L, idx);
    ret->is_counted = lua_toboolean(L, -1);
    lua_pop(L, 1);
}

static void append_line_text(struct buf *b, struct slice s) {
    for (size_t i = 0; i < s.len; i++) buf_append_char(b, s.ptr[i] == '\r' || s.ptr[i] == '\n' ? ' ' : s.ptr[i]);
}

void convert_reply_error(struct cmd_ctx *c, struct slice text, bool is_counted) {
    struct buf b = { 0 };
    while (text.len && (text.ptr[text.len - 1] == '\n' || text.ptr[text.len - 1] == '\r')) text.len--;
    buf_append_char(&b, '-');
    append_line_text(&b, text);
    buf_append_cstr(&b, "\r\n");
    reply_raw(c->r, b.data, b.len);
    if (is_counted) {
        c->failed = true;
    } else {
        size_t n = b.len - 3 < sizeof c->r->last_error ? b.len - 3 : sizeof c->r->last_error - 1;
        memcpy(c->r->last_error, b.data + 1, n);
        c->r->last_error[n] = 0;
        c->r->errors++;
    }
    buf_done(&b);
}

/* ---- Lua into replies ---- */

struct answer {
    struct cmd_ctx *c;
    struct script_run *run;
    lua_State *L;
};

static void reply_value(struct answer *a);

static int64_t to_int64(double d) {
    return d >= -TWO_TO_63 && d < TWO_TO_63 ? (int64_t)d : INT64_MIN;
}

/* Pushes the field, or nothing when it is not of the type. */
static bool push_typed(lua_State *L, const char *field, int type) {
    lua_pushstring(L, field);
    lua_rawget(L, -2);
    if (lua_type(L, -1) == type) return true;
    lua_pop(L, 1);
    return false;
}

static struct slice string_at_top(lua_State *L) {
    struct slice s;
    s.ptr = lua_tolstring(L, -1, &s.len);
    return s;
}

static bool reply_as_error(struct answer *a) {
    if (!push_typed(a->L, "err", LUA_TSTRING)) return false;
    struct error_info info;
    lua_pop(a->L, 1);
    convert_error_info(a->L, lua_gettop(a->L), &info);
    convert_reply_error(a->c, info.text, info.is_counted);
    lua_pop(a->L, 3);
    return true;
}

static bool reply_as_status(struct answer *a) {
    if (!push_typed(a->L, "ok", LUA_TSTRING)) return false;
    struct buf b = { 0 };
    buf_append_char(&b, '+');
    append_line_text(&b, string_at_top(a->L));
    buf_append_cstr(&b, "\r\n");
    reply_raw(a->c->r, b.data, b.len);
    buf_done(&b);
    lua_pop(a->L, 1);
    return true;
}

static bool reply_as_double(struct answer *a) {
    if (!push_typed(a->L, "double", LUA_TNUMBER)) return false;
    reply_double(a->c->r, lua_tonumber(a->L, -1));
    lua_pop(a->L, 1);
    return true;
}

/* A map's pairs, a set's keys. */
static bool reply_as_keyed(struct answer *a, const char *field, bool is_map) {
    lua_State *L = a->L;
    if (!push_typed(L, field, LUA_TTABLE)) return false;
    struct reply_deferred d = reply_deferred_begin(a->c->r);
    size_t n = 0;
    for (lua_pushnil(L); lua_next(L, -2); n++) {
        lua_pushvalue(L, -2);
        reply_value(a);
        if (is_map)
            reply_value(a);
        else
            lua_pop(L, 1);
    }
    if (is_map)
        reply_deferred_map(a->c->r, d, n);
    else
        reply_deferred_set(a->c->r, d, n);
    lua_pop(L, 1);
    return true;
}

static bool reply_as_bignum(struct answer *a) {
    if (!push_typed(a->L, "big_number", LUA_TSTRING)) return false;
    struct buf b = { 0 };
    append_line_text(&b, string_at_top(a->L));
    reply_bignum(a->c->r, (struct slice){ b.data ? b.data : "", b.len });
    buf_done(&b);
    lua_pop(a->L, 1);
    return true;
}

static bool reply_as_verbatim(struct answer *a) {
    lua_State *L = a->L;
    if (!push_typed(L, "verbatim_string", LUA_TTABLE)) return false;
    if (!push_typed(L, "format", LUA_TSTRING)) {
        lua_pop(L, 1);
        return false;
    }
    char ext[4];
    struct slice format = string_at_top(L);
    lua_pop(L, 1);
    if (!push_typed(L, "string", LUA_TSTRING)) {
        lua_pop(L, 1);
        return false;
    }
    for (size_t i = 0; i < 3; i++) ext[i] = i < format.len ? format.ptr[i] : ' ';
    struct slice text = string_at_top(L);
    reply_verbatim(a->c->r, text.ptr, text.len, ext);
    lua_pop(L, 2);
    return true;
}

/* Up to the first nil. */
static void reply_as_array(struct answer *a) {
    lua_State *L = a->L;
    struct reply_deferred d = reply_deferred_begin(a->c->r);
    size_t n = 0;
    for (;; n++) {
        lua_rawgeti(L, -1, (int)n + 1);
        if (lua_isnil(L, -1)) break;
        reply_value(a);
    }
    lua_pop(L, 1);
    reply_deferred_array(a->c->r, d, n);
}

static void reply_table(struct answer *a) {
    if (reply_as_error(a) || reply_as_status(a) || reply_as_double(a) || reply_as_bignum(a) || reply_as_verbatim(a) ||
        reply_as_keyed(a, "map", true) || reply_as_keyed(a, "set", false))
        return;
    reply_as_array(a);
}

/* Replies the value at the top and pops it. */
static void reply_value(struct answer *a) {
    lua_State *L = a->L;
    struct reply *r = a->c->r;
    if (!lua_checkstack(L, 8)) {
        reply_error(r, "ERR reached lua stack limit");
        lua_pop(L, 1);
        return;
    }
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
        reply_bulk_slice(r, string_at_top(L));
        break;
    case LUA_TNUMBER:
        reply_int(r, to_int64(lua_tonumber(L, -1)));
        break;
    case LUA_TBOOLEAN:
        if (a->run->resp == 3)
            reply_bool(r, lua_toboolean(L, -1));
        else if (lua_toboolean(L, -1))
            reply_int(r, 1);
        else
            reply_null(r);
        break;
    case LUA_TTABLE:
        reply_table(a);
        break;
    default:
        reply_null(r);
        break;
    }
    lua_pop(L, 1);
}

void convert_to_reply(struct script_run *run, lua_State *L, struct cmd_ctx *c) {
    struct answer a = { c, run, L };
    reply_value(&a);
}
