/*
 * The ring of keys under which a server's session tickets are sealed.
 *
 * Place in the flow: made once, shared by contexts (and so by reloads of the certificate); OpenSSL's callback asks it for a key
 * at each ticket, sent or received. Any thread; one mutex, held for a copy of 64 bytes, and once a second for a look at the
 * clock and the files.
 *
 * Keys in memory:   [0] seals | [1] retired at t1 | [2] retired at t2 < t1 ...   a new one goes in front every rotation_s; one
 * that retired more than lifetime_s ago can open no ticket that still lives, and goes. At most KTLS_TICKET_KEYS_MAX: with
 * rotation_s below lifetime_s / 63 the oldest go earlier, which costs their owners a full handshake.
 * Keys from files:  the set is what the files say, no more and no less.
 *
 * Format of a ticket: RFC 5077 4, made by OpenSSL: key name, iv, encrypted state, HMAC over all of it.
 */
#include "ktls_internal.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_ROTATION_S 3600
#define DEFAULT_LIFETIME_S 300

struct ktls_tickets {
    atomic_int refs;
    pthread_mutex_t lock; /* everything below but path and cipher, which do not change */
    char *path;           /* NULL: keys in memory */
    EVP_CIPHER *cipher;
    int rotation_s, lifetime_s;
    int64_t began_s;      /* when key[0] began to seal */
    int64_t looked_s;     /* last tick */
    uint64_t stamp;       /* of the files, 0: read them at the next tick */
    bool changed, failed; /* since the last poll */
    char why[256];
    struct ktls_ticket_set set;
};

static int64_t mono_s(void) {
    return (int64_t)(ktls_now_ns() / 1000000000u);
}

static void wipe_key(struct ktls_ticket_key *k) {
    OPENSSL_cleanse(k, sizeof *k);
}

/* ---- Keys in memory ---- */

static void drop_last(struct ktls_ticket_set *set) {
    wipe_key(&set->key[--set->n]);
}

static int new_key(struct ktls_tickets *t, int64_t now_s) {
    struct ktls_ticket_key k = { .retired_s = 0 };
    ktls_forget_errors();
    if (RAND_bytes(k.name, sizeof k.name) != 1 || RAND_priv_bytes(k.hmac, sizeof k.hmac) != 1 ||
        RAND_priv_bytes(k.aes, sizeof k.aes) != 1) {
        wipe_key(&k);
        return ktls_no_memory() ? -ENOMEM : -EIO;
    }
    if (t->set.n == KTLS_TICKET_KEYS_MAX) drop_last(&t->set);
    if (t->set.n > 0) t->set.key[0].retired_s = now_s;
    memmove(t->set.key + 1, t->set.key, (size_t)t->set.n * sizeof k);
    t->set.key[0] = k;
    t->set.n++;
    t->began_s = now_s;
    t->changed = true;
    wipe_key(&k);
    return 0;
}

static void rotate(struct ktls_tickets *t, int64_t now_s) {
    while (t->set.n > 1 && t->set.key[t->set.n - 1].retired_s + t->lifetime_s < now_s) {
        drop_last(&t->set);
        t->changed = true;
    }
    /* Without random bytes the present key goes on; the next tick tries again. */
    if (now_s - t->began_s >= t->rotation_s) new_key(t, now_s);
}

/* ---- Keys from files ---- */

static bool same_set(const struct ktls_ticket_set *a, const struct ktls_ticket_set *b) {
    return a->n == b->n && CRYPTO_memcmp(a->key, b->key, (size_t)a->n * sizeof a->key[0]) == 0;
}

static int read_files(struct ktls_tickets *t, char *err, size_t errlen) {
    struct ktls_ticket_set *fresh = calloc(1, sizeof *fresh);
    if (!fresh) return -ENOMEM;
    t->stamp = ktls_ticket_files_stamp(t->path); /* before reading: a change meanwhile is seen at the next look */
    int r = ktls_ticket_files_load(t->path, fresh, err, errlen);
    if (r == 0 && !same_set(fresh, &t->set)) {
        OPENSSL_cleanse(&t->set, sizeof t->set);
        memcpy(&t->set, fresh, sizeof t->set);
        t->changed = true;
    }
    OPENSSL_cleanse(fresh, sizeof *fresh);
    free(fresh);
    return r;
}

static void look_at_files(struct ktls_tickets *t) {
    char why[sizeof t->why];
    if (t->stamp != 0 && t->stamp == ktls_ticket_files_stamp(t->path)) return;
    int r = read_files(t, why, sizeof why);
    if (r == -ENOMEM) t->stamp = 0; /* not read: again at the next look */
    if (r != KTLS_ECONFIG) {
        t->why[0] = 0;
        t->failed = false;
        return;
    }
    if (strcmp(why, t->why) == 0) return; /* told already */
    memcpy(t->why, why, sizeof why);
    t->failed = true;
}

/* ---- Time ---- */

static void tick(struct ktls_tickets *t, int64_t now_s) {
    if (now_s == t->looked_s) return;
    t->looked_s = now_s;
    if (t->path)
        look_at_files(t);
    else
        rotate(t, now_s);
}

void ktls_tickets_tick(struct ktls_tickets *t, int64_t now_s) {
    pthread_mutex_lock(&t->lock);
    tick(t, now_s);
    pthread_mutex_unlock(&t->lock);
}

int ktls_tickets_poll(struct ktls_tickets *t, char *err, size_t errlen) {
    pthread_mutex_lock(&t->lock);
    tick(t, mono_s());
    int r = t->failed ? KTLS_ECONFIG : t->changed;
    if (t->failed && err && errlen) snprintf(err, errlen, "%s", t->why);
    t->failed = t->changed = false;
    pthread_mutex_unlock(&t->lock);
    return r;
}

int ktls_tickets_reload(struct ktls_tickets *t, char *err, size_t errlen) {
    pthread_mutex_lock(&t->lock);
    int r = t->path ? read_files(t, err, errlen) : new_key(t, mono_s());
    if (r == 0) t->why[0] = 0;
    pthread_mutex_unlock(&t->lock);
    if (r == -EIO && err && errlen) snprintf(err, errlen, "no random bytes for a ticket key");
    return r;
}

void ktls_tickets_set_times(struct ktls_tickets *t, int rotation_s, int lifetime_s) {
    pthread_mutex_lock(&t->lock);
    t->rotation_s = rotation_s > 0 ? rotation_s : DEFAULT_ROTATION_S;
    t->lifetime_s = lifetime_s > 0 ? lifetime_s : DEFAULT_LIFETIME_S;
    pthread_mutex_unlock(&t->lock);
}

int ktls_tickets_count(struct ktls_tickets *t) {
    pthread_mutex_lock(&t->lock);
    int n = t->set.n;
    pthread_mutex_unlock(&t->lock);
    return n;
}

/* ---- Life ---- */

int ktls_tickets_new(const struct ktls_tickets_opts *opts, struct ktls_tickets **ret, char *err, size_t errlen) {
    if (err && errlen) err[0] = 0;
    if (opts->size != sizeof *opts) {
        if (err && errlen) snprintf(err, errlen, "ktls_tickets_opts.size is not that of this library");
        return KTLS_ECONFIG;
    }
    struct ktls_tickets *t = calloc(1, sizeof *t);
    if (!t) return -ENOMEM;
    atomic_init(&t->refs, 1);
    pthread_mutex_init(&t->lock, NULL);
    ktls_tickets_set_times(t, opts->rotation_s, opts->lifetime_s);
    t->looked_s = mono_s();
    t->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    bool from_files = opts->path && *opts->path;
    if (from_files) t->path = strdup(opts->path);
    int r = !t->cipher || (from_files && !t->path) ? -ENOMEM : ktls_tickets_reload(t, err, errlen);
    t->changed = false;
    if (r < 0) {
        ktls_tickets_unref(t);
        return r;
    }
    *ret = t;
    return 0;
}

struct ktls_tickets *ktls_tickets_ref(struct ktls_tickets *t) {
    atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

struct ktls_tickets *ktls_tickets_unref(struct ktls_tickets *t) {
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1) return NULL;
    OPENSSL_cleanse(&t->set, sizeof t->set);
    EVP_CIPHER_free(t->cipher);
    pthread_mutex_destroy(&t->lock);
    free(t->path);
    free(t);
    return NULL;
}

/* ---- OpenSSL asks ---- */

/* Copies the key that seals (name NULL) or the one of that name. Its index, -1: none. */
static int find_key(struct ktls_tickets *t, const uint8_t *name, struct ktls_ticket_key *ret) {
    int i = 0;
    pthread_mutex_lock(&t->lock);
    tick(t, mono_s());
    if (name)
        while (i < t->set.n && memcmp(t->set.key[i].name, name, KTLS_TICKET_NAME) != 0) i++;
    if (i < t->set.n)
        *ret = t->set.key[i];
    else
        i = -1;
    pthread_mutex_unlock(&t->lock);
    return i;
}

static bool use_mac(EVP_MAC_CTX *mac, struct ktls_ticket_key *k) {
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, k->hmac, sizeof k->hmac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    return EVP_MAC_CTX_set_params(mac, params) == 1;
}

int ktls_on_ticket_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int enc) {
    const struct ktls_conn *conn = SSL_get_app_data(ssl);
    struct ktls_ticket_key k;
    if (!conn || !conn->ctx->tickets) return -1;
    struct ktls_tickets *t = conn->ctx->tickets;
    int r = -1, at = find_key(t, enc ? NULL : name, &k);
    if (at < 0) {
        KTLS_COUNT(tickets_unknown);
        return 0; /* a full handshake, and a ticket we know */
    }
    if (enc) {
        memcpy(name, k.name, sizeof k.name);
        if (RAND_bytes(iv, 16) == 1 && EVP_EncryptInit_ex(cipher, t->cipher, NULL, k.aes, iv) == 1 && use_mac(mac, &k)) r = 1;
    } else if (EVP_DecryptInit_ex(cipher, t->cipher, NULL, k.aes, iv) == 1 && use_mac(mac, &k)) {
        r = at == 0 ? 1 : 2; /* 2: good, and to be replaced */
    }
    wipe_key(&k);
    return r;
}
