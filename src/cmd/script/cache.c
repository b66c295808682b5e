/* EVAL's scripts by the SHA1 of their text: compiled once, kept until SCRIPT FLUSH, as EVALSHA needs them. */
#include <pthread.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "base/alloc.h"
#include "cmd/script/script_priv.h"

/* Looked up once: OpenSSL does it for each digest otherwise, which takes longer than a short script's SHA1. */
static EVP_MD *sha1_method;

static void find_sha1(void) {
    sha1_method = EVP_MD_fetch(NULL, "SHA1", NULL);
}

static bool sha1_quick(struct slice s, unsigned char md[SHA_DIGEST_LENGTH]) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_sha1);
    return sha1_method && EVP_Digest(s.ptr, s.len, md, NULL, sha1_method, NULL) == 1;
}

void sha1_hex(struct slice s, char out[SHA1_HEX + 1]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char md[SHA_DIGEST_LENGTH];
    if (!sha1_quick(s, md)) SHA1((const unsigned char *)s.ptr, s.len, md);
    for (size_t i = 0; i < sizeof md; i++) {
        out[2 * i] = digits[md[i] >> 4];
        out[2 * i + 1] = digits[md[i] & 15];
    }
    out[SHA1_HEX] = 0;
}

struct script *cache_find(struct scripts *sc, const char *sha) {
    struct slice key = { sha, SHA1_HEX };
    return dict_find(&sc->cache, dict_hash(key), key);
}

static void note_size(struct scripts *sc, const struct script *s, bool added) {
    uint64_t bytes = s->body_len + sizeof *s;
    if (added) {
        atomic_fetch_add_explicit(&sc->n_scripts, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&sc->scripts_bytes, bytes, memory_order_relaxed);
    } else {
        atomic_fetch_sub_explicit(&sc->n_scripts, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&sc->scripts_bytes, bytes, memory_order_relaxed);
    }
}

/* Pushes the compiled function; false: replied why there is none. */
static bool compile(struct cmd_ctx *c, lua_State *L, struct slice code) {
    if (luaL_loadbuffer(L, code.ptr, code.len, "@user_script") == 0) return true;
    const char *text = lua_tostring(L, -1);
    reply_errorf(c->r, "ERR Error compiling script (new function): %s", text ? text : "");
    lua_pop(L, 1);
    return false;
}

/* The code of a script is text: compiled code, which begins with ESC, becomes a syntax error by the blank before it. */
static bool compile_text(struct cmd_ctx *c, lua_State *L, struct slice code) {
    if (code.len == 0 || code.ptr[0] != LUA_SIGNATURE[0]) return compile(c, L, code);
    struct buf text = { 0 };
    buf_append_char(&text, ' ');
    buf_append(&text, code.ptr, code.len);
    bool ok = compile(c, L, buf_slice(&text));
    buf_done(&text);
    return ok;
}

struct script *cache_add(struct cmd_ctx *c, struct slice body, const char *sha) {
    struct scripts *sc = scripts_of(c);
    lua_State *L = scripts_eval_vm(sc)->L;
    unsigned flags;
    size_t skip;
    if (!shebang_flags(c, body, &flags, &skip)) return NULL;
    if (!compile_text(c, L, (struct slice){ body.ptr + skip, body.len - skip })) return NULL;
    struct script *s = mem_zalloc(sizeof *s);
    memcpy(s->sha, sha, SHA1_HEX + 1);
    s->body = mem_memdup0(body.ptr, body.len);
    s->body_len = body.len;
    s->flags = flags;
    s->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    dict_insert(&sc->cache, dict_hash((struct slice){ s->sha, SHA1_HEX }), s);
    note_size(sc, s, true);
    return s;
}

static void script_free(void *item) {
    struct script *s = item;
    mem_free(s->body);
    mem_free(s);
}

void cache_flush(struct scripts *sc, bool async) {
    dict_clear(&sc->cache, script_free);
    atomic_store_explicit(&sc->n_scripts, 0, memory_order_relaxed);
    atomic_store_explicit(&sc->scripts_bytes, 0, memory_order_relaxed);
    if (async)
        vm_free_lazily(sc->eval);
    else
        vm_free(sc->eval);
    sc->eval = NULL;
    scripts_note_memory(sc);
}
