/* The parser of control records: every rule of ktls_record.c, whole, fragmented and coalesced. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ktls_test.h"

static struct ktls_record_reader reader(bool is_client, bool is_tls13) {
    return (struct ktls_record_reader){ .is_client = is_client, .is_tls13 = is_tls13 };
}

/* The first event of a record given whole. */
static struct ktls_event first(struct ktls_record_reader *r, uint8_t type, const void *data, size_t len) {
    struct ktls_event ev;
    ktls_record_begin(r, type, data, len);
    assert_int_equal(ktls_record_next(r, &ev), 1);
    return ev;
}

static void expect_violation(bool is_client, bool is_tls13, uint8_t type, const void *data, size_t len, int alert) {
    struct ktls_record_reader r = reader(is_client, is_tls13);
    struct ktls_event ev = first(&r, type, data, len);
    assert_int_equal(ev.kind, KTLS_EV_VIOLATION);
    assert_int_equal(ev.alert, alert);
    assert_non_null(ev.why);
    ktls_record_done(&r);
}

static void test_record_alerts(void **state) {
    struct ktls_record_reader r13 = reader(false, true), r12 = reader(false, false);
    struct ktls_event ev;
    (void)state;
    assert_int_equal(first(&r13, 21, "\1\0", 2).kind, KTLS_EV_CLOSE_NOTIFY);
    assert_int_equal(ktls_record_next(&r13, &ev), 0);
    ev = first(&r13, 21, "\1\60", 2); /* TLS 1.3: fatal whatever the level */
    assert_int_equal(ev.kind, KTLS_EV_FATAL_ALERT);
    assert_int_equal(ev.alert, 48);
    assert_int_equal(first(&r13, 21, "\1\132", 2).kind, KTLS_EV_WARNING_ALERT);
    assert_int_equal(first(&r12, 21, "\1\144", 2).kind, KTLS_EV_WARNING_ALERT);
    assert_int_equal(first(&r12, 21, "\2\50", 2).kind, KTLS_EV_FATAL_ALERT);
    expect_violation(false, false, 21, "\3\50", 2, KTLS_ALERT_ILLEGAL_PARAMETER);
    expect_violation(false, true, 21, "\2", 1, KTLS_ALERT_UNEXPECTED_MESSAGE);
    expect_violation(false, true, 21, "\1\0\1\0", 4, KTLS_ALERT_UNEXPECTED_MESSAGE);
    expect_violation(false, true, 21, "", 0, KTLS_ALERT_UNEXPECTED_MESSAGE);
    expect_violation(false, true, 22, "", 0, KTLS_ALERT_UNEXPECTED_MESSAGE);
    expect_violation(false, true, 20, "\1", 1, KTLS_ALERT_UNEXPECTED_MESSAGE);
    expect_violation(false, true, 24, "\1", 1, KTLS_ALERT_UNEXPECTED_MESSAGE);
}

static void test_record_key_update(void **state) {
    struct ktls_record_reader r = reader(false, true);
    struct ktls_event ev;
    (void)state;
    ev = first(&r, 22, "\30\0\0\1\0", 5);
    assert_int_equal(ev.kind, KTLS_EV_KEY_UPDATE);
    assert_false(ev.update_requested);
    ev = first(&r, 22, "\30\0\0\1\1", 5);
    assert_true(ev.update_requested);
    expect_violation(false, true, 22, "\30\0\0\1\2", 5, KTLS_ALERT_ILLEGAL_PARAMETER);
    expect_violation(false, true, 22, "\30\0\0\2\0\0", 6, KTLS_ALERT_DECODE_ERROR);
    expect_violation(false, true, 22, "\30\0\0\0", 4, KTLS_ALERT_DECODE_ERROR);
    /* must be the last message of its record */
    expect_violation(false, true, 22, "\30\0\0\1\0\30\0\0\1\0", 10, KTLS_ALERT_UNEXPECTED_MESSAGE);
    expect_violation(false, true, 22, "\30\0\0\1\0\30", 6, KTLS_ALERT_UNEXPECTED_MESSAGE);
    expect_violation(false, false, 22, "\30\0\0\1\0", 5, KTLS_ALERT_UNEXPECTED_MESSAGE); /* TLS 1.2 has none */
}

static void test_record_key_update_fragmented_at_every_byte(void **state) {
    static const uint8_t msg[] = { 24, 0, 0, 1, 1 };
    (void)state;
    for (size_t cut = 1; cut < sizeof msg; cut++) {
        struct ktls_record_reader r = reader(false, true);
        struct ktls_event ev;
        ktls_record_begin(&r, 22, msg, cut);
        assert_int_equal(ktls_record_next(&r, &ev), 0);
        ktls_record_begin(&r, 22, msg + cut, sizeof msg - cut);
        assert_int_equal(ktls_record_next(&r, &ev), 1);
        assert_int_equal(ev.kind, KTLS_EV_KEY_UPDATE);
        assert_true(ev.update_requested);
        assert_int_equal(ktls_record_next(&r, &ev), 0);
        ktls_record_done(&r);
    }
}

static void test_record_tickets_coalesced_and_fragmented(void **state) {
    struct ktls_record_reader r = reader(true, true);
    struct ktls_event ev;
    uint8_t buf[TICKET_LEN(3) + TICKET_LEN(150) + 5], *second = buf + TICKET_LEN(3);
    (void)state;
    put_ticket(buf, 3);
    put_ticket(second, 150);
    memcpy(second + TICKET_LEN(150), "\30\0\0\1\1", 5);
    ktls_record_begin(&r, 22, buf, 100); /* one whole ticket, part of another */
    assert_int_equal(ktls_record_next(&r, &ev), 1);
    assert_int_equal(ev.kind, KTLS_EV_TICKET);
    assert_int_equal(ev.body_len, TICKET_LEN(3) - 4);
    assert_memory_equal(ev.body, buf + 4, TICKET_LEN(3) - 4);
    assert_false(ktls_record_is_half(&r));
    assert_int_equal(ktls_record_next(&r, &ev), 0);
    assert_true(ktls_record_is_half(&r));
    ktls_record_begin(&r, 22, buf + 100, 50);
    assert_int_equal(ktls_record_next(&r, &ev), 0);
    ktls_record_begin(&r, 22, buf + 150, sizeof buf - 150); /* the rest of it and a KeyUpdate */
    assert_int_equal(ktls_record_next(&r, &ev), 1);
    assert_int_equal(ev.kind, KTLS_EV_TICKET);
    assert_int_equal(ev.body_len, TICKET_LEN(150) - 4);
    assert_memory_equal(ev.body, second + 4, TICKET_LEN(150) - 4);
    assert_false(ktls_record_is_half(&r));
    assert_int_equal(ktls_record_next(&r, &ev), 1);
    assert_int_equal(ev.kind, KTLS_EV_KEY_UPDATE);
    assert_int_equal(ktls_record_next(&r, &ev), 0);
    ktls_record_done(&r);
}

static void test_record_refuses_what_must_not_come(void **state) {
    (void)state;
    expect_violation(false, true, 22, "\4\0\0\1x", 5, KTLS_ALERT_UNEXPECTED_MESSAGE);  /* a ticket to a server */
    expect_violation(true, true, 22, "\4\0\377\377", 4, KTLS_ALERT_ILLEGAL_PARAMETER); /* a ticket of 64 KB */
    expect_violation(true, true, 22, "\4\377\377\377", 4, KTLS_ALERT_ILLEGAL_PARAMETER);
    expect_violation(true, true, 22, "\15\0\0\1x", 5, KTLS_ALERT_UNEXPECTED_MESSAGE); /* CertificateRequest */
    expect_violation(false, true, 22, "\1\0\0\1x", 5, KTLS_ALERT_UNEXPECTED_MESSAGE);
    expect_violation(false, false, 22, "\1\0\0\1x", 5, KTLS_ALERT_NO_RENEGOTIATION);
    expect_violation(true, false, 22, "\0\0\0\0", 4, KTLS_ALERT_NO_RENEGOTIATION);
    expect_violation(true, false, 22, "\4\0\0\1x", 5, KTLS_ALERT_UNEXPECTED_MESSAGE);
}

/* Every length of a NewSessionTicket, one byte wrong at each place that counts. */
static void test_record_refuses_malformed_tickets(void **state) {
    uint8_t msg[TICKET_LEN(9) + 1];
    (void)state;
    for (size_t len = 4; len <= sizeof msg; len++) {
        struct ktls_record_reader r = reader(true, true);
        put_ticket(msg, 9);
        msg[TICKET_LEN(9)] = 0;
        msg[3] = (uint8_t)(len - 4);
        if (len == TICKET_LEN(9))
            assert_int_equal(first(&r, 22, msg, len).kind, KTLS_EV_TICKET);
        else
            expect_violation(true, true, 22, msg, len, KTLS_ALERT_DECODE_ERROR);
        ktls_record_done(&r);
    }
    static const size_t at[] = { 12, 13, 14, TICKET_LEN(9) - 2, TICKET_LEN(9) - 1 }; /* of nonce, ticket, extensions */
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
        put_ticket(msg, 9);
        msg[at[i]] ^= 0x41;
        expect_violation(true, true, 22, msg, TICKET_LEN(9), KTLS_ALERT_DECODE_ERROR);
    }
    static const uint8_t empty[] = { 4, 0, 0, 13, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 }; /* a ticket of no bytes */
    expect_violation(true, true, 22, empty, sizeof empty, KTLS_ALERT_DECODE_ERROR);
}

/* Alerts that end the connection are taken as such, the one to be ignored is not put up with. */
static void test_record_refuses_records_within_a_message(void **state) {
    static const struct {
        uint8_t type;
        const char *content;
        enum ktls_event_kind kind;
    } between[] = { { 21, "\1\132", KTLS_EV_VIOLATION },
                    { 20, "\1\1", KTLS_EV_VIOLATION },
                    { 21, "\1\0", KTLS_EV_CLOSE_NOTIFY },
                    { 21, "\2\120", KTLS_EV_FATAL_ALERT } };
    uint8_t msg[TICKET_LEN(9)];
    (void)state;
    put_ticket(msg, 9);
    for (size_t i = 0; i < sizeof between / sizeof between[0]; i++)
        for (size_t cut = 1; cut < sizeof msg; cut++) {
            struct ktls_record_reader r = reader(true, true);
            struct ktls_event ev;
            ktls_record_begin(&r, 22, msg, cut);
            assert_int_equal(ktls_record_next(&r, &ev), 0);
            assert_int_equal(first(&r, between[i].type, between[i].content, 2).kind, between[i].kind);
            ktls_record_done(&r);
        }
}

static void test_record_refuses_bad_header_across_records(void **state) {
    struct ktls_record_reader r = reader(false, true);
    struct ktls_event ev;
    (void)state;
    ktls_record_begin(&r, 22, (const uint8_t *)"\1\0", 2);
    assert_int_equal(ktls_record_next(&r, &ev), 0);
    ktls_record_begin(&r, 22, (const uint8_t *)"\0\1x", 3);
    assert_int_equal(ktls_record_next(&r, &ev), 1);
    assert_int_equal(ev.kind, KTLS_EV_VIOLATION);
    ktls_record_done(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_alerts),
        cmocka_unit_test(test_record_key_update),
        cmocka_unit_test(test_record_key_update_fragmented_at_every_byte),
        cmocka_unit_test(test_record_tickets_coalesced_and_fragmented),
        cmocka_unit_test(test_record_refuses_what_must_not_come),
        cmocka_unit_test(test_record_refuses_bad_header_across_records),
        cmocka_unit_test(test_record_refuses_malformed_tickets),
        cmocka_unit_test(test_record_refuses_records_within_a_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
