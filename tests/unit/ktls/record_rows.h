/*
 * What the peer sends, row by row of the record table (test_record_table.c). Each function queues records and, where the order of
 * sending and reading matters, sends and reads; the caller sends what is left in the queue.
 *
 *     data()    the next bytes of the stream, to be delivered if the connection goes on
 *     mark()    behind the data that is delivered even if what follows ends the connection
 *     junk()    data that must never be delivered
 */
#ifndef RECORD_ROWS_H
#define RECORD_ROWS_H

#include "record_run.h"

/* ---- What the peer sends ---- */

static void alert(struct run *t, uint8_t level, uint8_t description) {
    const uint8_t msg[2] = { level, description };
    raw_record(&t->raw, KTLS_CT_ALERT, msg, 2);
}

static void handshake(struct run *t, const void *msg, size_t len) {
    raw_record(&t->raw, KTLS_CT_HANDSHAKE, msg, len);
}

/* A record that must end the connection, between data. */
static void bad(struct run *t, uint8_t type, const void *content, size_t len) {
    data(t, 5);
    mark(t);
    raw_record(&t->raw, type, content, len);
    junk(t);
}

/* A header without (most of) its record. */
static void bad_header(struct run *t, uint8_t type, unsigned version, size_t len) {
    uint8_t bytes[64] = { type, (uint8_t)(version >> 8), (uint8_t)version, (uint8_t)(len >> 8), (uint8_t)len };
    data(t, 5);
    mark(t);
    raw_bytes(&t->raw, bytes, sizeof bytes);
}

static void empty_data(struct run *t) {
    data(t, 5);
    data(t, 0);
    data(t, 3);
    for (int i = 0; i < 30; i++) data(t, 0);
    data(t, 4);
    data(t, 0);
}

static void empty_data_alone(struct run *t) {
    data(t, 0);
    flush(t);
    take(t);
    data(t, 0);
    data(t, 0);
    alert(t, 1, KTLS_ALERT_USER_CANCELED);
    data(t, 0);
    flush(t);
    take(t);
}

static void empty_data_1000(struct run *t) {
    data(t, 5);
    mark(t);
    for (int i = 0; i < 1000; i++) data(t, 0);
    data(t, 7);
}

static void only_padding(struct run *t) {
    data(t, 5);
    data_padded(t, 0, 1);
    data_padded(t, 0, 16384);
    data(t, 5);
}

static void padded(struct run *t) {
    static const size_t padding[] = { 1, 15, 16, 17, 300, 4096 };
    for (size_t i = 0; i < sizeof padding / sizeof padding[0]; i++) data_padded(t, 1 + 40 * i, padding[i]);
    data_padded(t, 1, 16383);
    data_padded(t, 16000, 384);
    data(t, 5);
}

static void padded_control(struct run *t) {
    const uint8_t canceled[2] = { 1, KTLS_ALERT_USER_CANCELED };
    data_padded(t, 5, 100);
    raw_padded(&t->raw, KTLS_CT_ALERT, canceled, 2, 1000);
    data_padded(t, 5, 100);
}

static void padded_too_long(struct run *t) {
    data(t, 5);
    mark(t);
    data_padded(t, 100, 16384 - 100 + 1); /* inner plaintext of 2^14 + 2 */
}

static void padded_to_16640(struct run *t) {
    data(t, 5);
    mark(t);
    data_padded(t, 100, 16384 + 256 - 16 - 101); /* ciphertext of 2^14 + 256 */
}

static void no_type(struct run *t) {
    static const uint8_t zeros[33];
    data(t, 5);
    mark(t);
    raw_text(&t->raw, KTLS_CT_DATA, 0x303, zeros, sizeof zeros);
    junk(t);
}

static void type_0(struct run *t) {
    bad(t, 0, "content", 7);
}

static void largest(struct run *t) {
    data(t, 16384);
    data(t, 1);
    data(t, 16384);
    data(t, 16383);
}

static void too_long(struct run *t) {
    static uint8_t text[16385];
    bad(t, KTLS_CT_DATA, text, sizeof text);
}

static void ciphertext_too_long(struct run *t) {
    bad_header(t, KTLS_CT_DATA, 0x303, 16384 + (t->raw.version == KTLS_TLS13 ? 256 : 2048) + 1);
}

static void ciphertext_65535(struct run *t) {
    bad_header(t, KTLS_CT_DATA, 0x303, 65535);
}

static void one_byte_3000(struct run *t) {
    for (int i = 0; i < 3000; i++) data(t, 1);
}

/* Data, an alert that is to be ignored, data. */
static void data_alert_data(struct run *t) {
    data(t, 10);
    alert(t, 1, KTLS_ALERT_USER_CANCELED);
    data(t, 7);
}

static void cut_everywhere(struct run *t) {
    size_t len = 2;
    for (size_t cut = 1; cut < len && t->end == -EAGAIN; cut++) {
        uint8_t rest[1024];
        data_alert_data(t);
        len = t->raw.out_len;
        memcpy(rest, t->raw.out + cut, len - cut);
        t->raw.out_len = cut;
        flush(t);
        take(t);
        raw_bytes(&t->raw, rest, len - cut);
        settle(t, true);
    }
}

static void byte_by_byte(struct run *t) {
    uint8_t all[2048];
    data_alert_data(t);
    data(t, 0);
    data_padded(t, 300, 40);
    size_t len = t->raw.out_len;
    memcpy(all, t->raw.out, len);
    t->raw.out_len = 0;
    for (size_t i = 0; i < len; i++) {
        raw_bytes(&t->raw, all + i, 1);
        flush(t);
        take(t);
    }
}

/* ---- Alerts ---- */

static void other_warning(struct run *t) {
    data(t, 5);
    mark(t);
    alert(t, 1, 41); /* no_certificate */
    data(t, 5);
}

static void unknown_warning(struct run *t) {
    data(t, 5);
    mark(t);
    alert(t, 1, 200);
    data(t, 5);
}

static void warning_no_renegotiation(struct run *t) {
    data(t, 5);
    mark(t);
    alert(t, 1, KTLS_ALERT_NO_RENEGOTIATION);
    data(t, 5);
}

static void unknown_fatal(struct run *t) {
    bad(t, KTLS_CT_ALERT, "\2\310", 2);
}

static void fatal_internal_error(struct run *t) {
    bad(t, KTLS_CT_ALERT, "\2\120", 2);
}

static void alert_bad_level(struct run *t) {
    bad(t, KTLS_CT_ALERT, "\7\50", 2);
}

static void alert_in_two(struct run *t) {
    data(t, 5);
    mark(t);
    raw_record(&t->raw, KTLS_CT_ALERT, "\1", 1);
    raw_record(&t->raw, KTLS_CT_ALERT, "\132", 1);
    junk(t);
}

static void alerts_in_one(struct run *t) {
    bad(t, KTLS_CT_ALERT, "\1\132\1\0", 4);
}

static void alert_empty(struct run *t) {
    bad(t, KTLS_CT_ALERT, "", 0);
}

static void alert_in_clear(struct run *t) {
    data(t, 5);
    mark(t);
    raw_bytes(&t->raw, "\25\3\3\0\2\2\50", 7);
    junk(t);
}

static void user_canceled_5(struct run *t) {
    data(t, 5);
    mark(t);
    for (int i = 0; i < 5; i++) alert(t, 1, KTLS_ALERT_USER_CANCELED);
    data(t, 5);
}

static void user_canceled_300(struct run *t) {
    data(t, 5);
    mark(t);
    for (int i = 0; i < 300; i++) alert(t, 1, KTLS_ALERT_USER_CANCELED);
    data(t, 5);
}

static void user_canceled_close(struct run *t) {
    data(t, 5);
    alert(t, 1, KTLS_ALERT_USER_CANCELED);
    alert(t, 1, KTLS_ALERT_CLOSE_NOTIFY);
}

/* ---- Ends ---- */

static void close_then_data(struct run *t) {
    data(t, 5);
    alert(t, 1, KTLS_ALERT_CLOSE_NOTIFY);
    junk(t);
}

static void close_then_fin(struct run *t) {
    data(t, 5);
    alert(t, 1, KTLS_ALERT_CLOSE_NOTIFY);
    flush(t);
    shutdown(t->s.fd[0], SHUT_WR);
}

static void close_fatal(struct run *t) {
    data(t, 5);
    alert(t, 2, KTLS_ALERT_CLOSE_NOTIFY);
    junk(t);
}

static void fin(struct run *t) {
    data(t, 5);
    flush(t);
    shutdown(t->s.fd[0], SHUT_WR);
}

static void fin_within(struct run *t, size_t missing) {
    data(t, 5);
    flush(t);
    junk(t);
    t->raw.out_len -= missing;
    flush(t);
    shutdown(t->s.fd[0], SHUT_WR);
}

static void fin_in_record(struct run *t) {
    fin_within(t, 3);
}

static void fin_in_header(struct run *t) {
    junk(t);
    size_t len = t->raw.out_len;
    t->raw.out_len = 0;
    t->raw.seq[KTLS_TX]--;
    fin_within(t, len - 3);
}

static void rst(struct run *t) {
    struct linger now = { .l_onoff = 1, .l_linger = 0 };
    data(t, 5);
    settle(t, true);
    setsockopt(t->s.fd[0], SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(t->s.fd[0]);
    t->s.fd[0] = -1;
    t->is_gone = true;
}

/* ---- Records that fail ---- */

static void changed_byte(struct run *t, size_t from_end) {
    data(t, 5);
    mark(t);
    raw_record(&t->raw, KTLS_CT_DATA, "1234567890", 10);
    t->raw.out[t->raw.out_len - from_end] ^= 1;
    junk(t);
}

static void bad_tag(struct run *t) {
    changed_byte(t, 1);
}

static void warning_bad_tag(struct run *t) {
    alert(t, 1, KTLS_ALERT_USER_CANCELED);
    changed_byte(t, 1);
}

static void bad_ciphertext(struct run *t) {
    changed_byte(t, 20);
}

static void replayed(struct run *t) {
    data(t, 5);
    mark(t);
    t->raw.seq[KTLS_TX]--;
    junk(t);
}

static void shorter_than_tag(struct run *t) {
    data(t, 5);
    mark(t);
    raw_bytes(&t->raw, "\27\3\3\0\12abcdefghij", 15);
    junk(t);
}

static void sealed_as(struct run *t, uint8_t outer_type, unsigned version) {
    data(t, 5);
    mark(t);
    size_t len = 5 + (t->raw.version == KTLS_TLS13);
    uint8_t text[6];
    for (size_t i = 0; i < 5; i++) text[i] = stream_byte(t->good + i);
    text[5] = KTLS_CT_DATA;
    t->good += 5;
    raw_text(&t->raw, outer_type, version, text, len);
}

static void version_0302(struct run *t) {
    sealed_as(t, KTLS_CT_DATA, 0x302);
}

static void version_0304(struct run *t) {
    sealed_as(t, KTLS_CT_DATA, 0x304);
}

static void version_0503(struct run *t) {
    sealed_as(t, KTLS_CT_DATA, 0x503);
}

static void outer_type_22(struct run *t) {
    sealed_as(t, KTLS_CT_HANDSHAKE, 0x303);
}

static void heartbeat(struct run *t) {
    bad(t, 24, "\1\0\4ping0123456789abcdef", 23);
}

static void type_99(struct run *t) {
    bad(t, 99, "content", 7);
}

static void type_99_empty(struct run *t) {
    bad(t, 99, "", 0);
}

static void ccs(struct run *t) {
    bad(t, KTLS_CT_CHANGE_CIPHER_SPEC, "\1", 1);
}

static void ccs_in_clear(struct run *t) {
    data(t, 5);
    mark(t);
    raw_bytes(&t->raw, "\24\3\3\0\1\1", 6);
    junk(t);
}

/* ---- Handshake messages ---- */

#define TICKET TICKET_LEN(8)

/* The message in two records at most; `between` stands between them. */
static void ticket_cut(struct run *t, size_t cut, void (*between)(struct run *t)) {
    uint8_t msg[TICKET];
    put_ticket(msg, 8);
    handshake(t, msg, cut);
    if (between) between(t);
    if (cut < sizeof msg) handshake(t, msg + cut, sizeof msg - cut);
}

static void four_bytes(struct run *t) {
    data(t, 4);
}

static void canceled(struct run *t) {
    alert(t, 1, KTLS_ALERT_USER_CANCELED);
}

static void ticket_in_stream(struct run *t) {
    data(t, 5);
    mark(t);
    ticket_cut(t, TICKET, NULL);
    data(t, 7);
}

static void ticket_in_two(struct run *t) {
    data(t, 5);
    ticket_cut(t, 9, NULL);
    data(t, 7);
}

static void tickets_in_one(struct run *t) {
    uint8_t both[2 * TICKET];
    put_ticket(both, 8);
    put_ticket(both + TICKET, 8);
    data(t, 5);
    handshake(t, both, sizeof both);
    data(t, 7);
}

static void ticket_data_between(struct run *t) {
    data(t, 5);
    mark(t);
    ticket_cut(t, 9, four_bytes);
    junk(t);
}

static void ticket_warning_between(struct run *t) {
    data(t, 5);
    mark(t);
    ticket_cut(t, 9, canceled);
    data(t, 5);
}

static void ticket_malformed(struct run *t) {
    uint8_t msg[TICKET];
    put_ticket(msg, 8);
    msg[12] = 200; /* a nonce longer than the message */
    bad(t, KTLS_CT_HANDSHAKE, msg, sizeof msg);
}

static void key_update_record(struct run *t, bool asks) {
    handshake(t, asks ? "\30\0\0\1\1" : "\30\0\0\1\0", 5);
    if (t->raw.version == KTLS_TLS13) raw_next_key(&t->raw, KTLS_TX);
}

static void key_update(struct run *t) {
    data(t, 5);
    mark(t);
    key_update_record(t, false);
    data(t, 7);
    key_update_record(t, false);
    key_update_record(t, false);
    data(t, 9);
}

static void key_update_asking(struct run *t) {
    data(t, 5);
    mark(t);
    key_update_record(t, true);
    data(t, 7);
    key_update_record(t, true);
    data(t, 9);
}

static void key_update_in_pieces(struct run *t) {
    data(t, 5);
    mark(t);
    handshake(t, "\30\0", 2);
    handshake(t, "\0\1\0", 3);
    raw_next_key(&t->raw, KTLS_TX);
    data(t, 7);
}

static void key_update_old_key(struct run *t) {
    data(t, 5);
    mark(t);
    handshake(t, "\30\0\0\1\0", 5);
    junk(t);
}

static void key_update_value_2(struct run *t) {
    bad(t, KTLS_CT_HANDSHAKE, "\30\0\0\1\2", 5);
}

static void key_update_long(struct run *t) {
    bad(t, KTLS_CT_HANDSHAKE, "\30\0\0\2\0\0", 6);
}

static void key_update_empty(struct run *t) {
    bad(t, KTLS_CT_HANDSHAKE, "\30\0\0\0", 4);
}

static void key_update_not_last(struct run *t) {
    bad(t, KTLS_CT_HANDSHAKE, "\30\0\0\1\0\30\0\0\1\0", 10);
}

static void empty_handshake(struct run *t) {
    data(t, 5);
    mark(t);
    handshake(t, "", 0);
    data(t, 5);
}

static void finished_again(struct run *t) {
    uint8_t msg[4 + 32] = { 20, 0, 0, 32 };
    bad(t, KTLS_CT_HANDSHAKE, msg, sizeof msg);
}

static void certificate_request(struct run *t) {
    static const uint8_t msg[] = { 13, 0, 0, 11, 0, 0, 8, 0, 13, 0, 4, 0, 2, 4, 3 };
    bad(t, KTLS_CT_HANDSHAKE, msg, sizeof msg);
}

/* TLS 1.2, one suite, no extensions. */
static void client_hello(struct run *t) {
    uint8_t msg[4 + 2 + 32 + 1 + 2 + 2 + 2] = { 1, 0, 0, sizeof msg - 4, 3, 3 };
    uint8_t *p = msg + 4 + 2 + 32 + 1;
    memcpy(p, "\0\2\300\53\1\0", 6);
    bad(t, KTLS_CT_HANDSHAKE, msg, sizeof msg);
}

static void client_hello_in_two(struct run *t) {
    uint8_t msg[4 + 2 + 32 + 1 + 2 + 2 + 2] = { 1, 0, 0, sizeof msg - 4, 3, 3 };
    memcpy(msg + 4 + 2 + 32 + 1, "\0\2\300\53\1\0", 6);
    data(t, 5);
    mark(t);
    handshake(t, msg, 20);
    handshake(t, msg + 20, sizeof msg - 20);
    junk(t);
}

static void hello_request(struct run *t) {
    bad(t, KTLS_CT_HANDSHAKE, "\0\0\0\0", 4);
}

/* ---- Behind a record of length zero, which recv may take for the end ---- */

static void empty_then_close(struct run *t) {
    data(t, 0);
    alert(t, 1, KTLS_ALERT_CLOSE_NOTIFY);
    junk(t);
    flush(t);
    shutdown(t->s.fd[0], SHUT_WR);
}

static void empty_then_fatal(struct run *t) {
    data(t, 0);
    data(t, 0);
    alert(t, 2, 80);
}

static void empty_then_fin(struct run *t) {
    data(t, 5);
    data(t, 0);
    flush(t);
    shutdown(t->s.fd[0], SHUT_WR);
}

static void empty_then_key_update(struct run *t) {
    data(t, 5);
    mark(t);
    flush(t);
    take(t);
    data(t, 0);
    key_update_record(t, false);
    data(t, 0);
    key_update_record(t, true);
    data(t, 5);
}

static void empty_then_bad_tag(struct run *t) {
    data(t, 0);
    changed_byte(t, 1);
}

#endif
