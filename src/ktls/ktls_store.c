/*
 * The sessions a client may resume, by peer. In memory only.
 *
 * Place in the flow: filled by ktls_resume.c as tickets arrive, asked at the beginning of a handshake. Shared by all connections
 * of a context: any thread, one mutex.
 *
 * Bounded both ways: the peer used longest ago goes when a new one comes, a peer's oldest session when there are enough.
 * SSL_SESSION_free() wipes the secrets of what goes. Peers are in a list, most recently used first, searched by hash: they are
 * few.
 */
#include "ktls_internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct item {
    SSL_SESSION *session;
    int64_t expires_s;
};

struct peer {
    struct peer *next, *prev; /* a ring through the store's head */
    uint32_t hash;
    char *key;
    int n;
    struct item item[]; /* per_peer_max of them; oldest first */
};

struct ktls_store {
    pthread_mutex_t lock;
    struct peer *first, *last;
    int n_peers, peers_max, per_peer_max;
};

static uint32_t hash_text(const char *s) {
    uint32_t h = 2166136261u; /* FNV-1a: the keys are our own caller's, nobody chooses them to collide */
    for (; *s; s++) h = (h ^ (uint8_t)*s) * 16777619u;
    return h;
}

/* ---- The list of peers, under the lock ---- */

static void unlink_peer(struct ktls_store *st, struct peer *p) {
    if (p->prev)
        p->prev->next = p->next;
    else
        st->first = p->next;
    if (p->next)
        p->next->prev = p->prev;
    else
        st->last = p->prev;
    st->n_peers--;
}

static void link_first(struct ktls_store *st, struct peer *p) {
    p->prev = NULL;
    p->next = st->first;
    if (st->first)
        st->first->prev = p;
    else
        st->last = p;
    st->first = p;
    st->n_peers++;
}

static void free_peer(struct ktls_store *st, struct peer *p) {
    unlink_peer(st, p);
    for (int i = 0; i < p->n; i++) SSL_SESSION_free(p->item[i].session);
    free(p->key);
    free(p);
}

static struct peer *find_peer(struct ktls_store *st, const char *key) {
    uint32_t hash = hash_text(key);
    struct peer *p = st->first;
    while (p && (p->hash != hash || strcmp(p->key, key) != 0)) p = p->next;
    return p;
}

static struct peer *add_peer(struct ktls_store *st, const char *key) {
    struct peer *p = calloc(1, sizeof *p + (size_t)st->per_peer_max * sizeof p->item[0]);
    if (p) p->key = strdup(key);
    if (!p || !p->key) {
        free(p);
        return NULL;
    }
    p->hash = hash_text(key);
    if (st->n_peers == st->peers_max) free_peer(st, st->last);
    link_first(st, p);
    return p;
}

/* ---- The sessions of a peer, under the lock ---- */

static SSL_SESSION *remove_item(struct peer *p, int i) {
    SSL_SESSION *s = p->item[i].session;
    p->n--;
    memmove(&p->item[i], &p->item[i + 1], (size_t)(p->n - i) * sizeof p->item[0]);
    return s;
}

static bool single_use(const SSL_SESSION *s) {
    return SSL_SESSION_get_protocol_version(s) == TLS1_3_VERSION;
}

static void make_room(struct ktls_store *st, struct peer *p, const SSL_SESSION *coming) {
    if (!single_use(coming))
        for (int i = p->n - 1; i >= 0; i--)
            if (!single_use(p->item[i].session)) SSL_SESSION_free(remove_item(p, i));
    if (p->n == st->per_peer_max) SSL_SESSION_free(remove_item(p, 0));
}

/* ---- Calls ---- */

struct ktls_store *ktls_store_new(int peers_max, int per_peer_max) {
    struct ktls_store *st = calloc(1, sizeof *st);
    if (!st) return NULL;
    pthread_mutex_init(&st->lock, NULL);
    st->peers_max = peers_max;
    st->per_peer_max = per_peer_max;
    return st;
}

struct ktls_store *ktls_store_free(struct ktls_store *st) {
    if (!st) return NULL;
    while (st->first) free_peer(st, st->first);
    pthread_mutex_destroy(&st->lock);
    free(st);
    return NULL;
}

void ktls_store_put(struct ktls_store *st, const char *key, SSL_SESSION *session_take, int64_t expires_s) {
    pthread_mutex_lock(&st->lock);
    struct peer *p = find_peer(st, key);
    if (!p) p = add_peer(st, key);
    if (p) {
        make_room(st, p, session_take);
        p->item[p->n++] = (struct item){ session_take, expires_s };
        KTLS_COUNT(sessions_kept);
    }
    pthread_mutex_unlock(&st->lock);
    if (!p) SSL_SESSION_free(session_take);
}

SSL_SESSION *ktls_store_take(struct ktls_store *st, const char *key, int64_t now_s) {
    SSL_SESSION *found = NULL;
    pthread_mutex_lock(&st->lock);
    struct peer *p = find_peer(st, key);
    for (int i = p ? p->n - 1 : -1; i >= 0 && !found; i--) {
        SSL_SESSION *s = p->item[i].session;
        if (p->item[i].expires_s <= now_s || !SSL_SESSION_is_resumable(s))
            SSL_SESSION_free(remove_item(p, i));
        else if (single_use(s))
            found = remove_item(p, i);
        else if (SSL_SESSION_up_ref(s) == 1)
            found = s;
    }
    if (p) {
        unlink_peer(st, p);
        link_first(st, p);
    }
    pthread_mutex_unlock(&st->lock);
    return found;
}

void ktls_store_drop(struct ktls_store *st, const char *key, bool prefix) {
    size_t len = key ? strlen(key) + !prefix : 0; /* the NUL included: the whole key */
    pthread_mutex_lock(&st->lock);
    for (struct peer *p = st->first, *next; p; p = next) {
        next = p->next;
        if (strncmp(p->key, key ? key : "", len) == 0) free_peer(st, p);
    }
    pthread_mutex_unlock(&st->lock);
}

int ktls_store_count(struct ktls_store *st, const char *key) {
    int n = 0;
    pthread_mutex_lock(&st->lock);
    for (const struct peer *p = st->first; p; p = p->next)
        if (!key || strcmp(p->key, key) == 0) n += p->n;
    pthread_mutex_unlock(&st->lock);
    return n;
}
