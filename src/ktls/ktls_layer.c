/*
 * The record layer in memory: ciphertext in, one opened record after the other out; content in, records out.
 *
 * Place in the flow: ktls_user.c lends it what came from the socket or from ktls_mem_input(), takes the records out, and sends
 * what is in the queue `out`. No socket, no connection: fuzzed by tests/fuzz/fuzz_ktls_layer.c. Run by the connection's thread.
 *
 * Bytes that came:
 *
 *      in (the layer's)                     lent (the caller's, until ktls_layer_keep())
 *     |<- plain ->|<- gap ->| records ... |  the rest of the last one, records ...
 *      ^ the head: of `in`, and of `lent` when `in` is empty
 *
 * A record is opened where it lies or, when the reader's buffer has room for its text, straight into that: what is received whole
 * and read at once is copied nowhere. `in` holds what a call leaves behind, as a rule nothing, or a record in part, which is
 * finished from `lent` with as many bytes as it lacks. Its header is looked at when its five bytes are there, so that no record
 * is waited for that is too long: of an honest or hostile peer, at most one record in part is held, beside what the caller itself
 * has put in (ktls_mem_input) and not read.
 *
 * All lengths are known before anything is opened: a text that is too long with its padding is refused by its header (RFC 8446
 * 5.2, 5.4; RFC 5246 6.2).
 */
#include "ktls_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- Headers ---- */

static int refuse(const char **ret_why, int alert, const char *why) {
    *ret_why = why;
    return alert;
}

int ktls_header_check(enum ktls_version version, size_t before, const uint8_t *header, size_t *ret_body, const char **ret_why) {
    bool is_tls13 = version == KTLS_TLS13;
    size_t body = (size_t)header[3] << 8 | header[4];
    size_t nonce_and_tag = before - KTLS_RECORD_HEADER + KTLS_TAG_LEN;
    if (is_tls13 && header[0] != KTLS_CT_DATA) /* a type below the protection, or none at all (RFC 8446 5) */
        return refuse(ret_why, KTLS_ALERT_UNEXPECTED_MESSAGE, "a record that is not protected");
    if (header[1] != 3 || header[2] != 3)
        return refuse(ret_why, is_tls13 ? KTLS_ALERT_DECODE_ERROR : KTLS_ALERT_PROTOCOL_VERSION, "a record has a wrong version");
    if (body > nonce_and_tag + KTLS_RECORD_DATA_MAX + is_tls13)
        return refuse(ret_why, KTLS_ALERT_RECORD_OVERFLOW, "a record is too long");
    if (body < nonce_and_tag) return refuse(ret_why, KTLS_ALERT_BAD_RECORD_MAC, "a record is shorter than its tag");
    *ret_body = body;
    return 0;
}

/* ---- Life ---- */

struct ktls_layer *ktls_layer_new(void) {
    return calloc(1, sizeof(struct ktls_layer));
}

void ktls_layer_clear(struct ktls_layer *l) {
    for (int dir = 0; dir < KTLS_N_DIRS; dir++) ktls_aead_done(&l->aead[dir]);
    ktls_queue_done(&l->in);
    ktls_queue_done(&l->out);
}

struct ktls_layer *ktls_layer_free(struct ktls_layer *l) {
    if (!l) return NULL;
    ktls_layer_clear(l);
    free(l);
    return NULL;
}

/* ---- Receiving ---- */

void ktls_layer_lend(struct ktls_layer *l, uint8_t *data, size_t len) {
    l->lent = data;
    l->lent_len = len;
}

int ktls_layer_keep(struct ktls_layer *l) {
    int r = ktls_queue_add(&l->in, l->lent, l->lent_len);
    l->lent = NULL;
    l->lent_len = 0;
    return r;
}

static uint8_t *head(const struct ktls_layer *l) {
    return ktls_queue_len(&l->in) > 0 ? l->in.data + l->in.off : l->lent;
}

/* What is at the head lies wholly in one of the two. */
static void advance(struct ktls_layer *l, size_t len) {
    if (ktls_queue_len(&l->in) > 0) {
        ktls_queue_drop(&l->in, len);
        return;
    }
    l->lent += len;
    l->lent_len -= len;
}

/* The bytes at the head become `want`, if there are so many: those that `in` lacks come from `lent`. How many there are now; or
 * -ENOMEM. */
static ssize_t fetch(struct ktls_layer *l, size_t want) {
    size_t have = ktls_queue_len(&l->in);
    if (have == 0) return (ssize_t)(l->lent_len < want ? l->lent_len : want);
    if (have >= want) return (ssize_t)want;
    if (l->lent_len == 0) return (ssize_t)have;
    size_t more = want - have < l->lent_len ? want - have : l->lent_len;
    if (ktls_queue_add(&l->in, l->lent, more) < 0) return -ENOMEM;
    l->lent += more;
    l->lent_len -= more;
    return (ssize_t)(have + more);
}

static int violation(struct ktls_found *ret, int alert, const char *why) {
    ret->alert = alert;
    ret->why = why;
    return -EPROTO;
}

/* The whole record at the head. 1: ret->size bytes; 0, -EPROTO, -ENOMEM. */
static int find(struct ktls_layer *l, struct ktls_found *ret) {
    size_t body;
    const char *why;
    ssize_t have = fetch(l, KTLS_RECORD_HEADER);
    if (have < KTLS_RECORD_HEADER) return have < 0 ? (int)have : 0;
    const struct ktls_aead *a = &l->aead[KTLS_RX];
    int alert = ktls_header_check(a->version, ktls_aead_before(a), head(l), &body, &why);
    if (alert) return violation(ret, alert, why);
    ret->size = KTLS_RECORD_HEADER + body;
    have = fetch(l, ret->size);
    return have < 0 ? (int)have : (size_t)have == ret->size;
}

int ktls_layer_next(struct ktls_layer *l, uint8_t *buf, size_t room, bool fit, struct ktls_found *ret) {
    int r = find(l, ret);
    if (r <= 0) return r;
    struct ktls_aead *a = &l->aead[KTLS_RX];
    size_t before = ktls_aead_before(a);
    uint8_t *rec = head(l);
    ret->direct = ret->size - before - KTLS_TAG_LEN <= room;
    if (!ret->direct && fit) return -ENOSPC;
    uint8_t *to = ret->direct ? buf : rec + before;
    ssize_t n = ktls_aead_open(a, rec, ret->size, to, &ret->type);
    if (n == -EBADMSG) return violation(ret, KTLS_ALERT_BAD_RECORD_MAC, "a record failed authentication");
    if (n == -ENOMSG) return violation(ret, KTLS_ALERT_UNEXPECTED_MESSAGE, "a record without a content type");
    if (n < 0) return (int)n;
    ret->content = to;
    ret->len = (size_t)n;
    return 1;
}

void ktls_layer_used(struct ktls_layer *l, const struct ktls_found *f, bool keep_plain) {
    if (!keep_plain || f->len == 0) {
        advance(l, f->size);
        return;
    }
    size_t before = ktls_aead_before(&l->aead[KTLS_RX]);
    advance(l, before);
    l->plain_len = f->len;
    l->plain_gap = f->size - before - f->len;
}

size_t ktls_layer_give(struct ktls_layer *l, uint8_t *buf, size_t cap) {
    size_t n = l->plain_len < cap ? l->plain_len : cap;
    memcpy(buf, head(l), n);
    l->plain_len -= n;
    advance(l, n);
    if (l->plain_len == 0) {
        advance(l, l->plain_gap);
        l->plain_gap = 0;
    }
    return n;
}

/* Between calls nothing is lent. */
size_t ktls_layer_pending(const struct ktls_layer *l) {
    size_t have = ktls_queue_len(&l->in), body;
    const char *why;
    const struct ktls_aead *a = &l->aead[KTLS_RX];
    if (l->plain_len > 0) return l->plain_len;
    if (have < KTLS_RECORD_HEADER) return 0;
    const uint8_t *p = l->in.data + l->in.off;
    if (ktls_header_check(a->version, ktls_aead_before(a), p, &body, &why)) return 1; /* an error to be read */
    if (have < KTLS_RECORD_HEADER + body) return 0;
    size_t len = KTLS_RECORD_HEADER + body - ktls_aead_before(a) - KTLS_TAG_LEN;
    return len > 1 ? len : 1;
}

/* ---- Sending ---- */

int ktls_layer_put(struct ktls_layer *l, uint8_t type, const struct iovec *iov, size_t skip, size_t len) {
    uint8_t *to = ktls_queue_room(&l->out, len + KTLS_SEAL_OVERHEAD);
    if (!to) return -ENOMEM;
    ssize_t n = ktls_aead_seal(&l->aead[KTLS_TX], type, iov, skip, len, to);
    if (n < 0) return (int)n;
    l->out.len += (size_t)n;
    return 0;
}
