/*
 * Gathering effects. See effects.h. On the thread of the slot.
 *
 * One buffer a thread has the bytes of all operations of a unit, one behind the other, so that a unit can be copied into a log in
 * one piece. It is kept from unit to unit: a command costs no allocation.
 */
#include "cmd/effects.h"

#include <string.h>

#include "base/alloc.h"
#include "base/str.h"

#define KEEP_BYTES ((size_t)256 << 10) /* what a thread keeps for the next unit; a large value's memory is given back */
#define KEEP_OPS 4096
#define LENGTH_MAX 24 /* a type, a number, CRLF, and the NUL str_from_ull writes */

static __thread unsigned own_slot;

void effects_thread(unsigned slot) {
    own_slot = slot;
}

/* ---- encoding ---- */

/* "$3\r\n" */
static inline char *put_length(char *p, char type, uint64_t v) {
    *p++ = type;
    if (v < 10) {
        *p++ = (char)('0' + v);
    } else {
        p += str_from_ull(p, v);
    }
    *p++ = '\r';
    *p++ = '\n';
    return p;
}

static char *put_words(char *p, int n, const struct slice *words) {
    for (int i = 0; i < n; i++) {
        p = put_length(p, '$', words[i].len);
        if (words[i].len) memcpy(p, words[i].ptr, words[i].len);
        p += words[i].len;
        *p++ = '\r';
        *p++ = '\n';
    }
    return p;
}

/* At most. */
static size_t words_size(int n, const struct slice *words) {
    size_t size = (size_t)n * (LENGTH_MAX + 2);
    for (int i = 0; i < n; i++) size += words[i].len;
    return size;
}

static void encode(struct buf *b, int argc, const struct slice *argv, int n_more, const struct slice *more) {
    buf_reserve(b, LENGTH_MAX + words_size(argc, argv) + words_size(n_more, more));
    char *p = put_length(b->data + b->len, '*', (uint64_t)argc + (uint64_t)n_more);
    p = put_words(p, argc, argv);
    p = put_words(p, n_more, more);
    b->len = (size_t)(p - b->data);
}

void effects_encode(struct buf *b, int argc, const struct slice *argv) {
    encode(b, argc, argv, 0, NULL);
}

static struct effect *new_op(struct effects *ef) {
    if (ef->n == ef->cap) {
        ef->cap = ef->cap ? ef->cap * 2 : 8;
        ef->ops = mem_realloc(ef->ops, (size_t)ef->cap * sizeof *ef->ops);
    }
    return &ef->ops[ef->n++];
}

void effects_add(struct engine *e, unsigned slot, unsigned to, int db, int argc, const struct slice *argv, int n_more,
                 const struct slice *more) {
    struct effects *ef = &e->effects[slot];
    size_t at = ef->bytes.len;
    encode(&ef->bytes, argc, argv, n_more, more);
    *new_op(ef) = (struct effect){ .db = db, .to = to, .at = at, .len = ef->bytes.len - at };
}

/* ---- what is no command's doing ---- */

static unsigned wanted(const struct engine *e) {
    return atomic_load_explicit(&e->propagate_to, memory_order_relaxed);
}

void effects_deleted(struct engine *e, int db, struct slice key, bool lazy) {
    const struct slice argv[] = { lazy ? SLICE_LIT("UNLINK") : SLICE_LIT("DEL"), key };
    if (wanted(e)) effects_add(e, own_slot, wanted(e), db, 2, argv, 0, NULL);
}

void effects_fields_deleted(struct engine *e, int db, struct slice key, int n, const struct slice *fields) {
    const struct slice argv[] = { SLICE_LIT("HDEL"), key };
    if (wanted(e)) effects_add(e, own_slot, wanted(e), db, 2, argv, n, fields);
}

/* ---- units ---- */

void effects_hand_over(struct engine *e, unsigned slot, struct session *s, bool is_whole) {
    struct effects *ef = &e->effects[slot];
    struct effects_unit u = { .n = ef->n, .ops = ef->ops, .bytes = ef->bytes.data, .is_whole = is_whole, .session = s };
    if (e->hooks.propagate_unit) e->hooks.propagate_unit(e->hooks.arg, &u);
    ef->n = 0;
    ef->bytes.len = 0;
    if (ef->cap > KEEP_OPS || ef->bytes.cap > KEEP_BYTES) effects_clear(ef);
}

void effects_swap(struct engine *e, unsigned slot, struct effects *aside) {
    struct effects of_slot = e->effects[slot];
    e->effects[slot] = *aside;
    *aside = of_slot;
}

void effects_clear(struct effects *ef) {
    mem_free(ef->ops);
    buf_done(&ef->bytes);
    memset(ef, 0, sizeof *ef);
}
