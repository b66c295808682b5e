/*
 * Fuzz target of the control-record parser (src/ktls/ktls_record.c).
 *
 * Input: byte 0 holds the role and the version; then records: content type, length (1 byte), that many bytes. Checked beside
 * memory errors: the reader never holds more than one bounded message, an event's bytes lie in the record or in the reader, a
 * record always comes to its end, and within a message nothing else is put up with.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "ktls_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int claim) {
    if (!claim) abort();
}

/* 1: go on with the next record. */
static int one_record(struct ktls_record_reader *r, uint8_t type, const uint8_t *p, size_t len) {
    struct ktls_event ev;
    unsigned sum = 0, events = 0;
    int more, was_half = ktls_record_is_half(r);
    ktls_record_begin(r, type, p, len);
    while ((more = ktls_record_next(r, &ev)) == 1) {
        check(++events <= len + 1);
        check(r->have <= KTLS_HS_MESSAGE_MAX);
        for (size_t i = 0; i < ev.body_len; i++) sum += ev.body[i]; /* every byte is readable */
        if (ev.kind == KTLS_EV_VIOLATION) check(ev.why != NULL && ev.alert > 0);
        if (ev.kind == KTLS_EV_KEY_UPDATE) check(r->is_tls13 && r->len == 0);
        if (ev.kind == KTLS_EV_TICKET) check(r->is_tls13 && r->is_client && ev.body_len >= 14);
        if (ev.kind == KTLS_EV_WARNING_ALERT) check(!was_half);
        if (ev.kind == KTLS_EV_VIOLATION || ev.kind == KTLS_EV_FATAL_ALERT || ev.kind == KTLS_EV_CLOSE_NOTIFY) return 0;
    }
    check(more == 0 && r->len == 0);
    return sum != 0xdeadbeef;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    struct ktls_record_reader r = { .is_client = data[0] & 1, .is_tls13 = (data[0] & 2) != 0 };
    size_t at = 1;
    while (at + 2 <= size) {
        size_t len = data[at + 1];
        if (len > size - at - 2) len = size - at - 2;
        if (!one_record(&r, data[at], data + at + 2, len)) break;
        at += 2 + len;
    }
    ktls_record_done(&r);
    return 0;
}
