/*
 * Keys that change while io_uring sends are in flight: begin at submission, end at completion.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include "rekey_peer.h"

#include <liburing.h>

#define DEPTH 16

static unsigned unfinished; /* sends that were not over when io_uring_submit() returned */

struct slot {
    uint8_t msg[MSG_MAX];
    size_t len;
    bool busy;
};

/* Takes in one completion. */
static void reap(struct io_uring *ring, struct session *s, struct slot *slots, unsigned *in_flight) {
    struct io_uring_cqe *cqe;
    if (*in_flight == 0) return;
    assert_int_equal(io_uring_wait_cqe(ring, &cqe), 0);
    struct slot *slot = &slots[cqe->user_data];
    assert_int_equal(cqe->res, slot->len);
    int r = ktls_tx_end(s->conn, (size_t)cqe->res);
    assert_true(r == KTLS_DONE || r == KTLS_WANT_WRITE);
    slot->busy = false;
    io_uring_cqe_seen(ring, cqe);
    --*in_flight;
}

static void submit(struct io_uring *ring, struct session *s, struct slot *slots, uint32_t number) {
    unsigned i = 0;
    while (slots[i].busy) i++;
    slots[i].busy = true;
    slots[i].len = make_msg(slots[i].msg, 0, number);
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    io_uring_prep_send(sqe, s->fd[1], slots[i].msg, slots[i].len, MSG_NOSIGNAL);
    sqe->user_data = i;
    assert_int_equal(io_uring_submit(ring), 1);
    unfinished += io_uring_cq_ready(ring) == 0;
}

/* What a loop does when the gate is shut: take in completions; the last one sends the KeyUpdate. */
static unsigned send_all_messages(struct io_uring *ring, struct session *s, uint32_t messages, unsigned *ret_deepest) {
    struct slot *slots = calloc(DEPTH, sizeof *slots);
    unsigned in_flight = 0, shut = 0;
    *ret_deepest = 0;
    for (uint32_t i = 0; i < messages;) {
        int r = in_flight < DEPTH ? ktls_tx_begin(s->conn) : -EAGAIN;
        if (r == 0) {
            submit(ring, s, slots, i++);
            if (++in_flight > *ret_deepest) *ret_deepest = in_flight;
            continue;
        }
        assert_int_equal(r, -EAGAIN);
        shut += in_flight < DEPTH;
        if (in_flight == 0) wait_fd(s->fd[1], POLLOUT, 10);
        reap(ring, s, slots, &in_flight);
    }
    while (in_flight > 0) reap(ring, s, slots, &in_flight);
    free(slots);
    return shut;
}

static void check_uring(uint32_t messages, uint64_t records, int cipher) {
    struct session s;
    struct io_uring ring;
    struct peer_thread *p = calloc(1, sizeof *p);
    unsigned deepest;
    int small = 65536;
    open_busy(&s, KTLS_POLICY_REQUIRE, records, cipher);
    setsockopt(s.fd[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof small); /* so that sends have to wait */
    unfinished = 0;
    assert_int_equal(io_uring_queue_init(DEPTH, &ring, 0), 0);
    peer_thread_start(p, &s, 1, messages, true);
    unsigned shut = send_all_messages(&ring, &s, messages, &deepest);
    peer_thread_join(p);
    struct ktls_conn_info info;
    ktls_conn_info(s.conn, &info);
    print_message(
        "%u io_uring sends, at most %u in flight, %u waiting in the kernel: %d KeyUpdates; %u tries found the gate shut\n",
        messages, deepest, unfinished, (int)info.key_updates_out, shut);
    assert_true(shut > 0);
    assert_true(info.key_updates_out >= messages / records / 4);
    io_uring_queue_exit(&ring);
    free(p);
    session_end(&s);
}

static bool have_uring(void) {
    struct io_uring ring;
    int r = io_uring_queue_init(2, &ring, 0);
    if (r == 0) io_uring_queue_exit(&ring);
    if (r < 0) print_message("skipped: no io_uring here: %s\n", strerror(-r));
    return r == 0;
}

static void test_uring_sends_in_flight(void **state) {
    (void)state;
    NEED_REKEY();
    if (!have_uring()) skip();
    check_uring(3000, 100, KTLS_AES_128_GCM);
    check_uring(2000, 5, KTLS_AES_256_GCM);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uring_sends_in_flight),
    };
    return cmocka_run_group_tests(tests, setup_pki, teardown_pki);
}
