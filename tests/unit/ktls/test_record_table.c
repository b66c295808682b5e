/*
 * The table of the record layer: what a peer may do to a connection after the handshake, what the application then sees and
 * what alert goes out, as RFC 8446, 9846 (TLS 1.3) and 5246 (TLS 1.2) want it. One source for kernel and userspace mode: every
 * row runs over both, in both ways in which each is used (record_run.h), in both roles and versions where it makes sense, with
 * every suite.
 *
 * Where a mode differs, the row says so, with the reason; the list of these in docs/KTLS.md is compared with the table here.
 *
 *     test_record_table                  runs it
 *     test_record_table --differences    prints that list
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "record_rows.h"
#include "rekey_peer.h"

#include <limits.h>

/* ---- The table ---- */

#define ALERT_UNEXPECTED KTLS_ALERT_UNEXPECTED_MESSAGE
#define CLOSE RAW_WARNING(KTLS_ALERT_CLOSE_NOTIFY)
#define WIRE_MAX 3

/* What the application sees, and every alert on the wire, that of its own ktls_shutdown() afterwards included. */
struct want {
    int end;   /* -EAGAIN: goes on; 0: end of stream; the error */
    int alert; /* ktls_conn_error()'s, with an error */
    uint16_t wire[WIRE_MAX];
    size_t more; /* bytes read beyond those that mark() makes sure of */
};

/* clang-format off */
#define GOES_ON { .end = -EAGAIN, .alert = -1, .wire = { CLOSE } }
#define END { .end = 0, .alert = -1, .wire = { CLOSE } }
#define REFUSED(a) { .end = KTLS_EPROTOCOL, .alert = (a), .wire = { RAW_FATAL(a) } }
#define REFUSED_LATE(a, n) { .end = KTLS_EPROTOCOL, .alert = (a), .wire = { RAW_FATAL(a) }, .more = (n) }
#define NO_RENEGOTIATION { .end = KTLS_EPROTOCOL, .alert = 100, .wire = { RAW_WARNING(100), CLOSE } }
#define PEER_ALERT(a) { .end = KTLS_EALERT, .alert = (a) }
#define TRUNCATED { .end = KTLS_ETRUNCATED, .alert = -1, .wire = { CLOSE } }
#define SAME { { 0 } } /* in both modes */
#define RESET { .end = -ECONNRESET, .alert = -1 }
#define NO_REKEY { .end = KTLS_EKEYUPDATE, .alert = KTLS_ALERT_CLOSE_NOTIFY, .wire = { CLOSE } }
/* clang-format on */

/* Where a row holds, and where it differs. */
#define V12 1u
#define V13 2u
#define SERVER 4u /* the library is the server */
#define CLIENT 8u
#define KERNEL 16u
#define USER 32u
#define OLD 64u     /* kernel mode, a kernel that cannot change keys */
#define REKEYS 128u /* kernel mode, one that can */
#define RECV 256u   /* kernel mode, by plain recv */
#define ALL (V12 | V13 | SERVER | CLIENT)
#define TLS12 (V12 | SERVER | CLIENT)
#define TLS13 (V13 | SERVER | CLIENT)

#define DIFFERS_MAX 2

struct row {
    const char *name;
    unsigned where;
    void (*send)(struct run *t);
    struct want want;
    struct {
        unsigned when; /* 0: no more */
        struct want want;
        const char *why;
    } differs[DIFFERS_MAX];
};

static const char no_type_seen[] = "the kernel says EBADMSG, as for a bad tag";
static const char tag_first[] = "the kernel looks at the length before the type and says EBADMSG, as for a bad tag";
static const char cannot_rekey[] = "before Linux 6.14 the kernel cannot take a second key";

/* clang-format off */
static const struct row table[] = {
    /* Lengths: RFC 8446 5.1, 5.2; RFC 5246 6.2.1, 6.2.3 */
    { "records of length zero among data", ALL, empty_data, GOES_ON, SAME },
    { "records of length zero before anything else, and around an alert", ALL, empty_data_alone, GOES_ON, SAME },
    { "a record of length zero, then close_notify and FIN", ALL, empty_then_close, END, SAME },
    { "a record of length zero, then a fatal alert", ALL, empty_then_fatal, PEER_ALERT(80), SAME },
    { "a record of length zero, then FIN", ALL, empty_then_fin, TRUNCATED, SAME },
    { "a record of length zero, then KeyUpdate", TLS13, empty_then_key_update, GOES_ON, { { OLD, NO_REKEY, cannot_rekey } } },
    { "a record of length zero, then a bad tag", ALL, empty_then_bad_tag, REFUSED(KTLS_ALERT_BAD_RECORD_MAC), SAME },
    { "1000 records of length zero", ALL, empty_data_1000, GOES_ON, SAME },
    { "3000 records of one byte", ALL, one_byte_3000, GOES_ON, SAME },
    { "records of 2^14 bytes", ALL, largest, GOES_ON, SAME },
    { "a record of 2^14 + 1 bytes", ALL, too_long, REFUSED(KTLS_ALERT_RECORD_OVERFLOW), SAME },
    { "a ciphertext longer than 2^14 + 2048 (TLS 1.3: 256)", ALL, ciphertext_too_long, REFUSED(KTLS_ALERT_RECORD_OVERFLOW), SAME },
    { "a header that claims 65535 bytes", ALL, ciphertext_65535, REFUSED(KTLS_ALERT_RECORD_OVERFLOW), SAME },
    { "three records cut in two at every byte", ALL, cut_everywhere, GOES_ON, SAME },
    { "records that come byte by byte", ALL, byte_by_byte, GOES_ON, SAME },

    /* Padding: RFC 8446 5.4 */
    { "padded data", TLS13, padded, GOES_ON, SAME },
    { "a padded alert among padded data", TLS13, padded_control, GOES_ON, SAME },
    { "data records of padding alone", TLS13, only_padding, GOES_ON, SAME },
    { "a record of zeros: no content type", TLS13, no_type, REFUSED(ALERT_UNEXPECTED),
      { { KERNEL, REFUSED(KTLS_ALERT_BAD_RECORD_MAC), no_type_seen } } },
    { "padding beyond 2^14 + 1 bytes in all", TLS13, padded_too_long, REFUSED(KTLS_ALERT_RECORD_OVERFLOW), SAME },
    { "padding to a ciphertext of 2^14 + 256", TLS13, padded_to_16640, REFUSED(KTLS_ALERT_RECORD_OVERFLOW), SAME },

    /* Alerts: RFC 8446 5.1, 6; RFC 5246 7.2 */
    { "data, user_canceled as a warning, data", ALL, data_alert_data, GOES_ON, SAME },
    { "another warning", TLS12, other_warning, GOES_ON, SAME },
    { "another alert at warning level", TLS13, other_warning, PEER_ALERT(41), SAME },
    { "an unknown warning", TLS12, unknown_warning, GOES_ON, SAME },
    { "an unknown alert at warning level", TLS13, unknown_warning, PEER_ALERT(200), SAME },
    { "an unknown fatal alert", ALL, unknown_fatal, PEER_ALERT(200), SAME },
    { "a fatal alert", ALL, fatal_internal_error, PEER_ALERT(80), SAME },
    { "no_renegotiation as a warning, unasked", TLS12, warning_no_renegotiation, GOES_ON, SAME },
    { "an alert of unknown level", TLS12, alert_bad_level, REFUSED(KTLS_ALERT_ILLEGAL_PARAMETER), SAME },
    { "an alert of unknown level, its description known", TLS13, alert_bad_level, PEER_ALERT(40), SAME },
    { "an alert in two records", ALL, alert_in_two, REFUSED(ALERT_UNEXPECTED), SAME },
    { "two alerts in one record", ALL, alerts_in_one, REFUSED(ALERT_UNEXPECTED), SAME },
    { "an empty alert record", ALL, alert_empty, REFUSED(ALERT_UNEXPECTED), SAME },
    { "an alert in the clear", TLS13, alert_in_clear, REFUSED(ALERT_UNEXPECTED),
      { { KERNEL, REFUSED(KTLS_ALERT_BAD_RECORD_MAC), tag_first } } },
    { "5 ignored alerts in a row", ALL, user_canceled_5, GOES_ON, SAME },
    { "300 ignored alerts in a row", ALL, user_canceled_300, REFUSED(ALERT_UNEXPECTED),
      { { RECV, GOES_ON, "ktls_control() takes 32 a call; how many calls without data are too many is its caller's to say" } } },

    /* Ends: RFC 8446 6.1; RFC 5246 7.2.1 */
    { "close_notify, then data", ALL, close_then_data, END, SAME },
    { "close_notify, then FIN", ALL, close_then_fin, END, SAME },
    { "close_notify at fatal level", ALL, close_fatal, END, SAME },
    { "user_canceled, close_notify", ALL, user_canceled_close, END, SAME },
    { "FIN without close_notify", ALL, fin, TRUNCATED, SAME },
    { "FIN within a record", ALL, fin_in_record, TRUNCATED, SAME },
    { "FIN within a record's header", ALL, fin_in_header, TRUNCATED, SAME },
    { "RST", ALL, rst, RESET, SAME },

    /* Records that fail: RFC 8446 5, 5.2, 6.2; RFC 5246 6, 7.2.2 */
    { "a bad tag", ALL, bad_tag, REFUSED(KTLS_ALERT_BAD_RECORD_MAC), SAME },
    { "a bad tag behind an ignored alert", ALL, warning_bad_tag, REFUSED(KTLS_ALERT_BAD_RECORD_MAC), SAME },
    { "a changed ciphertext", ALL, bad_ciphertext, REFUSED(KTLS_ALERT_BAD_RECORD_MAC), SAME },
    { "a sequence number used before", ALL, replayed, REFUSED(KTLS_ALERT_BAD_RECORD_MAC), SAME },
    { "a record shorter than its tag", ALL, shorter_than_tag, REFUSED(KTLS_ALERT_BAD_RECORD_MAC), SAME },
    { "record version 3.2", TLS12, version_0302, REFUSED(KTLS_ALERT_PROTOCOL_VERSION), SAME },
    { "record version 3.4", TLS12, version_0304, REFUSED(KTLS_ALERT_PROTOCOL_VERSION), SAME },
    { "record version 5.3", TLS12, version_0503, REFUSED(KTLS_ALERT_PROTOCOL_VERSION), SAME },
    { "record version 3.2", TLS13, version_0302, REFUSED(KTLS_ALERT_DECODE_ERROR), SAME },
    { "record version 3.4", TLS13, version_0304, REFUSED(KTLS_ALERT_DECODE_ERROR), SAME },
    { "record version 5.3", TLS13, version_0503, REFUSED(KTLS_ALERT_DECODE_ERROR), SAME },
    { "a record of unknown type", ALL, type_99, REFUSED(ALERT_UNEXPECTED), SAME },
    { "an empty record of unknown type", ALL, type_99_empty, REFUSED(ALERT_UNEXPECTED), SAME },
    { "a record of type 0", TLS12, type_0, REFUSED(ALERT_UNEXPECTED),
      { { KERNEL, REFUSED(KTLS_ALERT_BAD_RECORD_MAC), no_type_seen } } },
    { "a heartbeat", ALL, heartbeat, REFUSED(ALERT_UNEXPECTED), SAME },
    { "data in a record of outer type 22", TLS13, outer_type_22, REFUSED(ALERT_UNEXPECTED),
      { { KERNEL, REFUSED(KTLS_ALERT_BAD_RECORD_MAC), "the kernel authenticates a header with type 23 and says EBADMSG" } } },
    { "ChangeCipherSpec", ALL, ccs, REFUSED(ALERT_UNEXPECTED), SAME },
    { "ChangeCipherSpec in the clear", TLS13, ccs_in_clear, REFUSED(ALERT_UNEXPECTED),
      { { KERNEL, REFUSED(KTLS_ALERT_BAD_RECORD_MAC), tag_first } } },

    /* Handshake messages: RFC 8446 4, 4.1.2, 4.6, 5.1; RFC 9846 4.7.3; RFC 5246 7.2.2, 7.4.1.1 */
    { "an empty handshake record", ALL, empty_handshake, REFUSED(ALERT_UNEXPECTED), SAME },
    { "NewSessionTicket among data", V13 | CLIENT, ticket_in_stream, GOES_ON, SAME },
    { "NewSessionTicket in two records", V13 | CLIENT, ticket_in_two, GOES_ON, SAME },
    { "two NewSessionTickets in one record", V13 | CLIENT, tickets_in_one, GOES_ON, SAME },
    { "NewSessionTicket in two records, data between", V13 | CLIENT, ticket_data_between, REFUSED(ALERT_UNEXPECTED),
      { { RECV, REFUSED_LATE(ALERT_UNEXPECTED, 4), "recv gives the data before ktls_control() sees the other half" } } },
    { "NewSessionTicket in two records, user_canceled between", V13 | CLIENT, ticket_warning_between, REFUSED(ALERT_UNEXPECTED), SAME },
    { "a malformed NewSessionTicket", V13 | CLIENT, ticket_malformed, REFUSED(KTLS_ALERT_DECODE_ERROR), SAME },
    { "NewSessionTicket to a server", V13 | SERVER, ticket_in_stream, REFUSED(ALERT_UNEXPECTED), SAME },
    { "NewSessionTicket", TLS12, ticket_in_stream, REFUSED(ALERT_UNEXPECTED), SAME },
    { "KeyUpdate among data, several", TLS13, key_update, GOES_ON, { { OLD, NO_REKEY, cannot_rekey } } },
    { "KeyUpdate that asks for ours, twice", TLS13, key_update_asking, GOES_ON, { { OLD, NO_REKEY, cannot_rekey } } },
    { "KeyUpdate in two records", TLS13, key_update_in_pieces, GOES_ON,
      { { OLD, NO_REKEY, cannot_rekey },
        { REKEYS, REFUSED(ALERT_UNEXPECTED), "the kernel stops at the first piece and waits for the key" } } },
    { "KeyUpdate, then data under the old key", TLS13, key_update_old_key, REFUSED(KTLS_ALERT_BAD_RECORD_MAC),
      { { OLD, NO_REKEY, cannot_rekey } } },
    { "KeyUpdate that neither asks nor not asks", TLS13, key_update_value_2, REFUSED(KTLS_ALERT_ILLEGAL_PARAMETER), SAME },
    { "KeyUpdate of two bytes", TLS13, key_update_long, REFUSED(KTLS_ALERT_DECODE_ERROR), SAME },
    { "KeyUpdate of no bytes", TLS13, key_update_empty, REFUSED(KTLS_ALERT_DECODE_ERROR), SAME },
    { "KeyUpdate that is not last in its record", TLS13, key_update_not_last, REFUSED(ALERT_UNEXPECTED), SAME },
    { "KeyUpdate", TLS12, key_update_old_key, REFUSED(ALERT_UNEXPECTED), SAME },
    { "ClientHello", V12 | SERVER, client_hello, NO_RENEGOTIATION, SAME },
    { "ClientHello in two records", V12 | SERVER, client_hello_in_two, NO_RENEGOTIATION, SAME },
    { "HelloRequest", V12 | CLIENT, hello_request, NO_RENEGOTIATION, SAME },
    { "ClientHello to a client", V12 | CLIENT, client_hello, REFUSED(ALERT_UNEXPECTED), SAME },
    { "HelloRequest to a server", V12 | SERVER, hello_request, REFUSED(ALERT_UNEXPECTED), SAME },
    { "ClientHello", TLS13, client_hello, REFUSED(ALERT_UNEXPECTED), SAME },
    { "HelloRequest", TLS13, hello_request, REFUSED(ALERT_UNEXPECTED), SAME },
    { "Finished once more", ALL, finished_again, REFUSED(ALERT_UNEXPECTED), SAME },
    { "CertificateRequest, not agreed upon", TLS13, certificate_request, REFUSED(ALERT_UNEXPECTED), SAME },
};
/* clang-format on */

#define N_ROWS (sizeof table / sizeof table[0])

/* ---- In words ---- */

static size_t say_wire(char *out, size_t cap, const uint16_t *wire, int n) {
    size_t at = 0;
    out[0] = 0;
    for (int i = 0; i < n && wire[i]; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%s%s", at ? ", " : "",
                               wire[i] == CLOSE || wire[i] >> 8 == 2 ? "" : "warning ", ktls_alert_name(wire[i] & 0xff));
    return at;
}

static const char *say(const struct want *w) {
    static char text[160];
    char wire[80];
    say_wire(wire, sizeof wire, w->wire, WIRE_MAX);
    if (w->end == -EAGAIN) return "goes on";
    if (w->end == 0)
        snprintf(text, sizeof text, "end of stream, %s sent back", wire[0] ? wire : "nothing");
    else if (w->end == KTLS_EALERT)
        snprintf(text, sizeof text, "KTLS_EALERT (%d)", w->alert);
    else
        snprintf(text, sizeof text, "%s, sends %s", ktls_strerror(w->end), wire[0] ? wire : "nothing");
    return text;
}

/* ---- Running it ---- */

static const struct want *wanted(const struct row *row, int version, enum way way) {
    unsigned here = is_kernel(way) ? KERNEL | (can_rekey() ? REKEYS : OLD) : USER;
    if (way == KERNEL_RECV) here |= RECV;
    for (int i = 0; i < DIFFERS_MAX; i++) {
        unsigned versions = row->differs[i].when & (V12 | V13);
        if (versions && !(versions & (version == TLS1_3_VERSION ? V13 : V12))) continue;
        if (row->differs[i].when & here) return &row->differs[i].want;
    }
    return &row->want;
}

static int wire_len(const struct want *w) {
    int n = 0;
    while (n < WIRE_MAX && w->wire[n]) n++;
    return n;
}

/* NULL: as wanted. */
static const char *judge(const struct run *t, const struct want *w) {
    static char text[400];
    const struct ktls_error *e = ktls_conn_error(t->s.conn);
    bool goes_on = w->end == -EAGAIN;
    size_t data_wanted = goes_on || !t->is_marked ? t->good : t->sure + w->more;
    char wire[80];
    if (t->wrong) return t->wrong;
    if (t->end != w->end) {
        snprintf(text, sizeof text, "%s (%s)", t->end == -EAGAIN ? "goes on" : ktls_strerror(t->end), e->text);
        return text;
    }
    if (t->got != data_wanted) {
        snprintf(text, sizeof text, "%zu bytes read instead of %zu", t->got, data_wanted);
        return text;
    }
    if (t->end < 0 && !goes_on && t->end != -ECONNRESET && e->alert != w->alert) {
        snprintf(text, sizeof text, "the error names alert %s: %s", ktls_alert_name(e->alert), e->text);
        return text;
    }
    if (t->end == KTLS_EPROTOCOL && !e->alert_sent) return "the error does not say that an alert was sent";
    if (t->is_gone) return NULL;
    if (t->raw.n_alerts == wire_len(w) && memcmp(t->raw.alert, w->wire, sizeof(uint16_t) * (size_t)t->raw.n_alerts) == 0)
        return NULL;
    say_wire(wire, sizeof wire, t->raw.alert, t->raw.n_alerts);
    snprintf(text, sizeof text, "on the wire: %s", wire[0] ? wire : "no alert");
    return text;
}

/* True: as wanted. */
static bool run_row(const struct row *row, int version, int role, enum way way, enum ktls_cipher cipher) {
    static struct run t;
    const struct want *w = wanted(row, version, way);
    run_start(&t, version, role, way, cipher);
    row->send(&t);
    settle(&t, w->end == -EAGAIN);
    if (t.end == -EAGAIN && w->end == -EAGAIN) exchange(&t);
    run_close(&t, wire_len(w));
    const char *why_not = judge(&t, w);
    if (why_not)
        print_message("%s: %s, %s, %s, %s: wanted: %s; came: %s\n", row->name, version == TLS1_3_VERSION ? "TLS 1.3" : "TLS 1.2",
                      role == KTLS_SERVER ? "server" : "client", way_name(way), suite_name(version, (int)cipher), say(w),
                      why_not);
    session_end(&t.s);
    return !why_not;
}

/* Under a sanitizer it is the rows that count, and a virtual machine is slow. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SUITES 1
#define RUSH 701
#else
#define SUITES KTLS_N_CIPHERS
#define RUSH 3000 /* messages each way while keys change; no multiple of 7: the last thing sent is no KeyUpdate */
#endif

static void run_table(enum way way) {
    int runs = 0, failed = 0;
    for (int cipher = 0; cipher < SUITES; cipher++)
        for (int v = TLS1_2_VERSION; v <= TLS1_3_VERSION; v++)
            for (int role = KTLS_SERVER; role <= KTLS_CLIENT; role++)
                for (size_t i = 0; i < N_ROWS; i++) {
                    unsigned here = (v == TLS1_3_VERSION ? V13 : V12);
                    if (!(table[i].where & here) || !(table[i].where & (role == KTLS_SERVER ? SERVER : CLIENT))) continue;
                    runs++;
                    failed += !run_row(&table[i], v, role, way, (enum ktls_cipher)cipher);
                }
    print_message("%s: %d runs, %d not as the table says\n", way_name(way), runs, failed);
    assert_int_equal(failed, 0);
}

static void test_table_userspace(void **state) {
    (void)state;
    run_table(USER_READ);
}

static void test_table_userspace_in_memory(void **state) {
    (void)state;
    run_table(USER_MEM);
}

static void test_table_kernel(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    run_table(KERNEL_READ);
}

static void test_table_kernel_plain_recv(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    run_table(KERNEL_RECV);
}

/* ---- KeyUpdate while both sides send as fast as they can ---- */

struct rush {
    struct run run;
    struct peer_thread peer;
    struct checker in;
    uint32_t messages, sent; /* of ours */
    uint8_t msg[MSG_MAX];
    size_t len, off;
};

/* Writes what there is room for. True: something was written. */
static bool rush_write(struct rush *r) {
    const void *out;
    if (r->off == r->len && r->sent < r->messages) {
        r->len = make_msg(r->msg, 0, r->sent++);
        r->off = 0;
    }
    if (r->off == r->len || (r->run.way == USER_MEM && ktls_mem_output(r->run.s.conn, &out) > 262144)) return false;
    ssize_t n = app_write(&r->run, r->msg + r->off, r->len - r->off);
    if (n < 0 && n != -EAGAIN && !(r->run.way == KERNEL_RECV && errno == EAGAIN)) r->run.wrong = "writing";
    if (n > 0) r->off += (size_t)n;
    return n > 0;
}

static void rush_run(struct rush *r) {
    static uint8_t buf[16384];
    int64_t deadline = now_ms() + 120000;
    while (!r->run.wrong && !r->in.wrong && now_ms() < deadline) {
        bool moved = rush_write(r);
        ssize_t n = app_read(&r->run, buf, sizeof buf);
        if (n > 0) check_bytes(&r->in, buf, (size_t)n);
        if (n <= 0 && n != -EAGAIN) {
            r->run.end = (int)n;
            return;
        }
        if (r->run.way == USER_MEM) mem_to_socket(&r->run);
        const void *out;
        bool all_out = r->sent == r->messages && r->off == r->len;
        if (r->run.way == USER_MEM) all_out = all_out && ktls_mem_output(r->run.s.conn, &out) == 0;
        if (all_out && r->in.messages == r->messages) return;
        if (!moved && n <= 0) wait_fd(r->run.s.fd[1], all_out ? POLLIN : POLLIN | POLLOUT, 10);
    }
}

/* The peer changes its key every so many messages, and asks for ours every second time. */
static void rush(enum way way, int role, uint32_t messages, unsigned rekey_every) {
    enum ktls_policy policy = is_kernel(way) ? KTLS_POLICY_REQUIRE : KTLS_POLICY_OFF;
    struct ktls_ctx_opts o = role == KTLS_SERVER ? server_opts(policy) : client_opts(policy);
    struct rush *r = calloc(1, sizeof *r);
    struct ktls_conn_info info;
    o.max_key_updates_per_s = 1000000;
    session_open(&r->run.s, &o, TLS1_3_VERSION, NULL);
    if (way == USER_MEM) assert_int_equal(ktls_mem_start(r->run.s.conn), 0);
    r->run.way = way;
    r->run.end = -EAGAIN;
    r->messages = r->in.per_writer = r->peer.to_send = messages;
    r->peer.rekey_every = rekey_every;
    peer_thread_start(&r->peer, &r->run.s, 1, messages, false);
    rush_run(r);
    ktls_conn_info(r->run.s.conn, &info);
    print_message("%s, %s: %u of %u messages in, %u out, %d KeyUpdates in, %d out%s%s\n", way_name(way),
                  role == KTLS_SERVER ? "server" : "client", r->in.messages, messages, r->sent, (int)info.key_updates_in,
                  (int)info.key_updates_out, r->run.end == -EAGAIN ? "" : ": ",
                  r->run.end == -EAGAIN ? "" : ktls_conn_error(r->run.s.conn)->text);
    assert_null(r->run.wrong);
    assert_null(r->in.wrong);
    if (is_kernel(way) && !can_rekey()) { /* all that was sent before the KeyUpdate is here, and the peer sees an end in order */
        assert_int_equal(r->run.end, KTLS_EKEYUPDATE);
        assert_true(r->in.messages == rekey_every || r->in.messages == rekey_every - 1);
        app_shutdown(&r->run);
        pthread_join(r->peer.id, NULL);
        assert_string_equal(r->peer.wrong, "an early end");
    } else {
        assert_int_equal(r->run.end, -EAGAIN);
        assert_int_equal(r->in.messages, messages);
        peer_thread_join(&r->peer);
        assert_int_equal(info.key_updates_in, messages / rekey_every);
        assert_in_range(info.key_updates_out, 1, info.key_updates_in);
    }
    session_end(&r->run.s);
    free(r);
}

static void test_key_updates_at_full_speed_userspace(void **state) {
    (void)state;
    for (int way = USER_READ; way <= USER_MEM; way++)
        for (int role = KTLS_SERVER; role <= KTLS_CLIENT; role++) rush((enum way)way, role, RUSH, 7);
}

static void test_key_updates_at_full_speed_kernel(void **state) {
    (void)state;
    NEED_KERNEL_TLS();
    for (int way = KERNEL_READ; way <= KERNEL_RECV; way++)
        for (int role = KTLS_SERVER; role <= KTLS_CLIENT; role++) rush((enum way)way, role, RUSH, 7);
}

/* ---- The list of differences ---- */

#define LIST_BEGIN "<!-- differences: build/unit/ktls/test_record_table --differences -->\n"
#define LIST_END "<!-- end of differences -->\n"

static const char *say_where(unsigned when) {
    if (when & RECV) return "kernel, plain recv";
    if (when & OLD) return "kernel before 6.14";
    if (when & REKEYS) return "kernel from 6.14";
    return when & KERNEL ? "kernel" : "userspace";
}

static const char *say_versions(unsigned where) {
    if ((where & (V12 | V13)) == V12) return "1.2";
    return (where & (V12 | V13)) == V13 ? "1.3" : "1.2, 1.3";
}

static void write_differences(FILE *f) {
    fputs("| The peer sends | TLS | The RFCs, and the other mode | Where it differs | There | Why |\n|---|---|---|---|---|---|\n",
          f);
    for (size_t i = 0; i < N_ROWS; i++)
        for (int k = 0; k < DIFFERS_MAX && table[i].differs[k].when; k++) {
            unsigned when = table[i].differs[k].when;
            fprintf(f, "| %s | %s | %s |", table[i].name, say_versions(when & (V12 | V13) ? when : table[i].where),
                    say(&table[i].want));
            fprintf(f, " %s | %s | %s |\n", say_where(when), say(&table[i].differs[k].want), table[i].differs[k].why);
        }
}

/* docs/KTLS.md of the tree in which this program was built: some folders above it. */
static char *read_documentation(void) {
    static char text[262144];
    char path[PATH_MAX + 16];
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX);
    if (n <= 0) return NULL;
    path[n] = 0;
    for (char *slash; (slash = strrchr(path, '/')) != NULL; *slash = 0) {
        strcpy(slash, "/docs/KTLS.md");
        FILE *f = fopen(path, "r");
        *slash = 0;
        if (!f) continue;
        size_t len = fread(text, 1, sizeof text - 1, f);
        fclose(f);
        text[len] = 0;
        return text;
    }
    return NULL;
}

static void test_differences_are_those_of_the_documentation(void **state) {
    (void)state;
    char *text = read_documentation();
    if (!text) {
        print_message("skipped: no docs/KTLS.md above this program\n");
        skip();
    }
    char *list = NULL, *from = strstr(text, LIST_BEGIN), *to = strstr(text, LIST_END);
    size_t len;
    FILE *f = open_memstream(&list, &len);
    write_differences(f);
    fclose(f);
    assert_non_null(from);
    assert_non_null(to);
    *to = 0;
    assert_string_equal(from + strlen(LIST_BEGIN), list);
    free(list);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "--differences") == 0) {
        write_differences(stdout);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_userspace),
        cmocka_unit_test(test_table_userspace_in_memory),
        cmocka_unit_test(test_table_kernel),
        cmocka_unit_test(test_table_kernel_plain_recv),
        cmocka_unit_test(test_key_updates_at_full_speed_userspace),
        cmocka_unit_test(test_key_updates_at_full_speed_kernel),
        cmocka_unit_test(test_differences_are_those_of_the_documentation),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
