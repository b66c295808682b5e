/* Output queue: each operation, and random runs of all of them against a flat model. A reference is poisoned and freed by its
 * release, so that one dropped early shows in the contents (and under AddressSanitizer), one dropped twice in its count. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/obuf.h"
#include "base/rand.h"

static void count_release(void *arg) {
    ++*(int *)arg;
}

static void assert_content(const struct obuf *ob, const char *want, size_t n) {
    struct buf got = { 0 };
    buf_reserve(&got, n + 1);
    assert_int_equal(ob->bytes, n);
    assert_int_equal(obuf_copy(ob, got.data, n + 1), n);
    if (n) assert_memory_equal(got.data, want, n);
    buf_done(&got);
}

static void test_obuf_zeroed_is_an_empty_queue(void **state) {
    (void)state;
    struct obuf ob = { 0 }, other = { 0 };
    struct iovec iov[2];
    size_t sum = 9;
    obuf_append(&ob, NULL, 0);
    assert_int_equal(obuf_iov(&ob, iov, 2, &sum), 0);
    assert_int_equal(sum, 0);
    obuf_consume(&ob, 0);
    obuf_truncate(&ob, 0);
    obuf_truncate(&ob, 10);
    obuf_splice(&ob, &other);
    obuf_trim(&ob);
    obuf_clear(&ob);
    assert_null(ob.head);
    assert_int_equal(ob.bytes + ob.mem + ob.nsegs, 0);
}

static void test_obuf_append_small_pieces_share_a_chunk(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    for (int i = 0; i < 50; i++) obuf_append(&ob, "+OK\r\n", 5);
    assert_int_equal(ob.bytes, 250);
    assert_int_equal(ob.nsegs, 1);
    assert_true(ob.mem <= 1024);
    obuf_clear(&ob);
    assert_int_equal(ob.mem, 0);
}

static void test_obuf_append_large_piece_is_whole(void **state) {
    (void)state;
    static char big[100000];
    rand_secure(big, sizeof big);
    struct obuf ob = { 0 };
    obuf_append(&ob, big, 10);
    obuf_append(&ob, big + 10, sizeof big - 20);
    obuf_append(&ob, big + sizeof big - 10, 10);
    assert_content(&ob, big, sizeof big);
    obuf_clear(&ob);
}

static void test_obuf_room_is_contiguous_and_commit_takes_part(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    struct buf model = { 0 };
    for (int i = 0; i < 300; i++) {
        size_t n = rand_below(OBUF_CHUNK / 2 + 1), used = rand_below(n + 1);
        char *p = obuf_room(&ob, n);
        memset(p, 'a' + i % 26, n);
        obuf_commit(&ob, used);
        buf_append(&model, p, used);
    }
    assert_content(&ob, model.data, model.len);
    obuf_clear(&ob);
    buf_done(&model);
}

static void test_obuf_room_zero_of_empty_queue_can_be_committed(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    assert_non_null(obuf_room(&ob, 0));
    obuf_commit(&ob, 0);
    assert_int_equal(ob.bytes, 0);
    obuf_clear(&ob);
}

static void test_obuf_ref_is_released_once_when_wholly_sent(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    int released = 0;
    obuf_append(&ob, "ab", 2);
    obuf_append_ref(&ob, "0123456789", 10, count_release, &released);
    obuf_append(&ob, "yz", 2);
    assert_content(&ob, "ab0123456789yz", 14);
    obuf_consume(&ob, 2);
    obuf_consume(&ob, 9);
    assert_int_equal(released, 0);
    assert_content(&ob, "9yz", 3);
    obuf_consume(&ob, 1);
    assert_int_equal(released, 1);
    obuf_consume(&ob, 2);
    obuf_clear(&ob);
    assert_int_equal(released, 1);
}

static void test_obuf_ref_memory_is_counted_and_given_back(void **state) {
    (void)state;
    static char big[50000];
    struct obuf ob = { 0 };
    int released = 0;
    obuf_append(&ob, "x", 1);
    size_t before = ob.mem;
    obuf_append_ref(&ob, big, sizeof big, count_release, &released);
    obuf_append_ref(&ob, big, sizeof big, NULL, NULL);
    assert_in_range(ob.mem - before, 2 * sizeof big, 2 * sizeof big + 256);
    obuf_truncate(&ob, 1 + sizeof big + 10);
    assert_in_range(ob.mem - before, sizeof big + 10, sizeof big + 10 + 256);
    obuf_truncate(&ob, 1 + 20);
    assert_in_range(ob.mem - before, 20, 20 + 128);
    assert_int_equal(released, 0);
    obuf_truncate(&ob, 1);
    assert_int_equal(released, 1);
    assert_int_equal(ob.mem, before);
    assert_content(&ob, "x", 1);
    obuf_clear(&ob);
}

static void test_obuf_ref_dropped_by_clear_is_released_once(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    int released[3] = { 0 };
    for (int i = 0; i < 3; i++) obuf_append_ref(&ob, "abc", (size_t)i, count_release, &released[i]);
    assert_true(ob.nsegs >= 2);
    obuf_clear(&ob);
    obuf_clear(&ob);
    for (int i = 0; i < 3; i++) assert_int_equal(released[i], 1);
    assert_int_equal(ob.bytes + ob.mem + ob.nsegs, 0);
}

static void test_obuf_ref_of_no_bytes_is_released_at_once(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    struct iovec iov[4];
    int released = 0;
    obuf_append_ref(&ob, "", 0, count_release, &released);
    obuf_append(&ob, "a", 1);
    obuf_append_ref(&ob, "", 0, count_release, &released);
    obuf_append_ref(&ob, NULL, 0, NULL, NULL);
    assert_int_equal(released, 2);
    assert_int_equal(obuf_iov(&ob, iov, 4, NULL), 1);
    obuf_consume(&ob, 1);
    obuf_trim(&ob);
    assert_int_equal(released, 2);
    assert_int_equal(ob.mem, 0);
}

static void test_obuf_mark_patched_later_stands_in_its_place(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    char most[64];
    memset(most, '#', sizeof most);
    obuf_append(&ob, "before ", 7);
    struct obuf_mark outer = obuf_reserve_mark(&ob);
    obuf_append(&ob, " one ", 5);
    struct obuf_mark inner = obuf_reserve_mark(&ob), at_end;
    obuf_append_ref(&ob, " two ", 5, NULL, NULL);
    at_end = obuf_reserve_mark(&ob);
    assert_content(&ob, "before  one  two ", 17);
    obuf_patch(&ob, inner, "*3", 2);
    obuf_patch(&ob, at_end, "", 0);
    obuf_patch(&ob, outer, most, sizeof most);
    obuf_append(&ob, "end", 3);
    struct buf want = { 0 };
    buf_printf(&want, "before %.64s one *3 two end", most);
    assert_content(&ob, want.data, want.len);
    obuf_consume(&ob, 7 + 10);
    buf_consume(&want, 7 + 10);
    assert_content(&ob, want.data, want.len);
    obuf_clear(&ob);
    buf_done(&want);
}

static void test_obuf_mark_spliced_can_still_be_patched(void **state) {
    (void)state;
    struct obuf a = { 0 }, b = { 0 };
    obuf_append(&a, "a", 1);
    struct obuf_mark m = obuf_reserve_mark(&b);
    obuf_append(&b, "b", 1);
    obuf_splice(&a, &b);
    obuf_patch(&a, m, "--", 2);
    assert_content(&a, "a--b", 4);
    obuf_clear(&a);
}

static void test_obuf_mark_alone_spliced_can_still_be_patched(void **state) {
    (void)state;
    struct obuf a = { 0 }, b = { 0 };
    struct obuf_mark m = obuf_reserve_mark(&b);
    obuf_splice(&a, &b);
    obuf_append(&a, " after", 6);
    obuf_patch(&a, m, "mark", 4);
    assert_content(&a, "mark after", 10);
    obuf_clear(&a);
}

static void test_obuf_mark_never_patched_is_no_harm(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    obuf_append(&ob, "a", 1);
    obuf_reserve_mark(&ob);
    obuf_append(&ob, "b", 1);
    obuf_reserve_mark(&ob);
    assert_content(&ob, "ab", 2);
    obuf_consume(&ob, 2);
    obuf_append(&ob, "c", 1);
    assert_content(&ob, "c", 1);
    obuf_clear(&ob);
    assert_int_equal(ob.mem, 0);
}

static void test_obuf_mark_then_truncate_to_its_reply_keeps_it_valid(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    obuf_append(&ob, "a", 1);
    struct obuf_mark m = obuf_reserve_mark(&ob);
    obuf_append(&ob, "bcd", 3);
    obuf_append_ref(&ob, "efg", 3, NULL, NULL);
    obuf_truncate(&ob, 2);
    obuf_patch(&ob, m, "#", 1);
    assert_content(&ob, "a#b", 3);
    obuf_append(&ob, "!", 1);
    assert_content(&ob, "a#b!", 4);
    obuf_clear(&ob);
}

static void test_obuf_queued_bytes_never_move(void **state) {
    (void)state;
    struct obuf ob = { 0 }, more = { 0 };
    struct iovec before, after;
    obuf_append(&ob, "in flight", 9);
    assert_int_equal(obuf_iov(&ob, &before, 1, NULL), 1);
    for (int i = 0; i < 5000; i++) obuf_append(&ob, "0123456789", 10);
    obuf_append(&more, "x", 1);
    obuf_splice(&ob, &more);
    obuf_truncate(&ob, 20);
    assert_int_equal(obuf_iov(&ob, &after, 1, NULL), 1);
    assert_ptr_equal(before.iov_base, after.iov_base);
    assert_memory_equal(before.iov_base, "in flight", 9);
    obuf_clear(&ob);
}

static void test_obuf_iov_is_limited_to_max(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    struct iovec iov[10];
    size_t sum;
    for (int i = 0; i < 6; i++) obuf_append_ref(&ob, &"abcdef"[i], 1, NULL, NULL);
    for (int max = 0; max <= 10; max++) {
        int want = max < 6 ? max : 6;
        assert_int_equal(obuf_iov(&ob, iov, max, &sum), want);
        assert_int_equal(sum, want);
        for (int i = 0; i < want; i++) {
            assert_int_equal(*(char *)iov[i].iov_base, 'a' + i);
            assert_int_equal(iov[i].iov_len, 1);
        }
    }
    obuf_clear(&ob);
}

static void test_obuf_consume_all_keeps_one_chunk_for_the_next_reply(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    obuf_append(&ob, "hello", 5);
    size_t mem = ob.mem;
    for (int i = 0; i < 1000; i++) {
        obuf_consume(&ob, 5);
        obuf_append(&ob, "again", 5);
    }
    assert_int_equal(ob.mem, mem);
    assert_int_equal(ob.nsegs, 1);
    obuf_trim(&ob);
    assert_content(&ob, "again", 5);
    obuf_consume(&ob, 5);
    obuf_trim(&ob);
    assert_int_equal(ob.mem, 0);
    assert_null(ob.head);
}

static void test_obuf_first_chunk_is_for_as_much_as_the_time_before(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    char text[3000];
    struct iovec iov[8];
    memset(text, 'x', sizeof text);
    for (int round = 0; round < 3; round++) { /* in pieces of 100: one piece to send from the second time on */
        for (size_t at = 0; at < sizeof text; at += 100) obuf_append(&ob, text + at, 100);
        assert_int_equal(obuf_iov(&ob, iov, 8, NULL), round == 0 ? 2 : 1);
        obuf_consume(&ob, 1000); /* sent in part */
        obuf_consume(&ob, 2000);
        obuf_trim(&ob);
        assert_int_equal(ob.mem, 0);
    }
    obuf_append(&ob, text, 10);
    assert_true(ob.mem > sizeof text);
    obuf_consume(&ob, 10);
    obuf_trim(&ob);
    obuf_append(&ob, text, 10); /* and little again after little */
    assert_true(ob.mem <= 1024);
    obuf_append_ref(&ob, text, sizeof text, NULL, NULL); /* what is not the queue's own does not count */
    obuf_consume(&ob, 10 + sizeof text);
    obuf_trim(&ob);
    obuf_append(&ob, text, 10);
    assert_true(ob.mem <= 1024);
    obuf_clear(&ob);
}

/* What one queue is through with the next one gets, and no more is kept than the pool may. */
static void test_obuf_pool_hands_chunks_on(void **state) {
    (void)state;
    enum { N = 100 };
    struct obuf_pool pool = { 0 };
    static struct obuf ob[N];
    char text[2000], back[2000];
    memset(text, 'a', sizeof text);
    for (int i = 0; i < N; i++) {
        ob[i] = (struct obuf){ .pool = &pool };
        obuf_append(&ob[i], text, 100 + (size_t)i);
    }
    for (int i = 0; i < N; i++) {
        obuf_consume(&ob[i], 100 + (size_t)i);
        obuf_trim(&ob[i]);
        assert_int_equal(ob[i].mem, 0);
    }
    unsigned kept = pool.n[0];
    assert_true(kept > 0 && kept < N);
    for (int i = 0; i < N; i++) { /* in both sizes, cleared with bytes in them */
        obuf_append(&ob[i], text, 10);
        obuf_append_ref(&ob[i], text, 10, NULL, NULL);
        obuf_append(&ob[i], text, 1500);
        assert_int_equal(obuf_copy(&ob[i], back, sizeof back), 1520);
        assert_memory_equal(back, text, 1520);
        obuf_clear(&ob[i]);
    }
    assert_int_equal(pool.n[0], kept);
    obuf_pool_done(&pool);
    assert_int_equal(pool.n[0] + pool.n[1], 0);
}

static void test_obuf_truncate_after_partial_send_counts_what_is_left(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    obuf_append(&ob, "0123456789", 10);
    obuf_consume(&ob, 4);
    size_t held = ob.bytes;
    obuf_append(&ob, "-ERR", 4);
    obuf_append_ref(&ob, "more", 4, NULL, NULL);
    obuf_truncate(&ob, held);
    assert_content(&ob, "456789", 6);
    obuf_append(&ob, "!", 1);
    assert_content(&ob, "456789!", 7);
    obuf_truncate(&ob, 100);
    assert_content(&ob, "456789!", 7);
    obuf_clear(&ob);
}

static void test_obuf_copy_stops_at_cap(void **state) {
    (void)state;
    struct obuf ob = { 0 };
    char out[8] = "........";
    obuf_append(&ob, "abc", 3);
    obuf_append_ref(&ob, "def", 3, NULL, NULL);
    assert_int_equal(obuf_copy(&ob, out, 0), 0);
    assert_int_equal(obuf_copy(&ob, out, 5), 5);
    assert_memory_equal(out, "abcde...", 8);
    obuf_clear(&ob);
}

/* ---- against a model ---- */

struct ref {
    char *bytes;
    size_t len;
    struct world *world;
    bool released;
};

struct world {
    struct obuf ob[2];
    struct buf model[2];
    unsigned refs_made, refs_released;
};

static void release_ref(void *arg) {
    struct ref *r = arg;
    assert_false(r->released);
    r->released = true;
    r->world->refs_released++;
    memset(r->bytes, 0xdd, r->len);
    mem_free(r->bytes);
    mem_free(r);
}

static size_t some_size(void) {
    static const size_t most[] = { 8, 64, 1500, 20000 };
    return rand_below(most[rand_below(4)] + 1);
}

static void op_add(struct world *w, int q) {
    static char piece[20001];
    size_t n = some_size();
    rand_secure(piece, n);
    switch (rand_below(3)) {
    case 0:
        obuf_append(&w->ob[q], piece, n);
        break;
    case 1: {
        if (n > OBUF_CHUNK / 2) n = OBUF_CHUNK / 2;
        memcpy(obuf_room(&w->ob[q], n), piece, n);
        if (rand_below(2)) n = rand_below(n + 1);
        obuf_commit(&w->ob[q], n);
        break;
    }
    default: {
        struct ref *r = mem_zalloc(sizeof *r);
        *r = (struct ref){ .bytes = mem_memdup0(piece, n), .len = n, .world = w };
        obuf_append_ref(&w->ob[q], r->bytes, n, release_ref, r);
        w->refs_made++;
    }
    }
    buf_append(&w->model[q], piece, n);
}

/* A reply whose length is known at its end, perhaps with another inside it. */
static void op_marked(struct world *w, int q, int depth) {
    char header[64];
    size_t n = rand_below(65), at = w->model[q].len;
    struct obuf_mark m = obuf_reserve_mark(&w->ob[q]);
    for (uint64_t i = rand_below(4); i; i--) op_add(w, q);
    if (depth < 3 && rand_below(2)) op_marked(w, q, depth + 1);
    rand_secure(header, n);
    obuf_patch(&w->ob[q], m, header, n);
    struct buf tail = { 0 };
    buf_append(&tail, w->model[q].data + at, w->model[q].len - at);
    w->model[q].len = at;
    buf_append(&w->model[q], header, n);
    buf_append(&w->model[q], tail.data, tail.len);
    buf_done(&tail);
}

static void op_send(struct world *w, int q) {
    struct iovec iov[16];
    size_t sum, seen = 0;
    int n = obuf_iov(&w->ob[q], iov, 1 + (int)rand_below(16), &sum);
    for (int i = 0; i < n; i++) {
        assert_true(iov[i].iov_len > 0);
        assert_memory_equal(iov[i].iov_base, w->model[q].data + seen, iov[i].iov_len);
        seen += iov[i].iov_len;
    }
    assert_int_equal(seen, sum);
    if (w->model[q].len) assert_true(n > 0);
    size_t sent = rand_below(4) ? sum : rand_below(sum + 1);
    obuf_consume(&w->ob[q], sent);
    buf_consume(&w->model[q], sent);
}

static void op_truncate(struct world *w, int q) {
    size_t len = w->model[q].len, cut = some_size(),
           keep = rand_below(8) ? (cut < len ? len - cut : len + 3) : rand_below(len + 1);
    obuf_truncate(&w->ob[q], keep);
    if (keep < len) w->model[q].len = keep;
}

static void op_splice(struct world *w, int q) {
    struct obuf *dst = &w->ob[q], *src = &w->ob[!q];
    size_t mem = dst->mem + src->mem, bytes = src->bytes;
    unsigned nsegs = dst->nsegs + src->nsegs;
    obuf_splice(dst, src);
    buf_append(&w->model[q], w->model[!q].data, w->model[!q].len);
    buf_clear(&w->model[!q]);
    if (bytes) { /* of an empty queue the spare chunk may be dropped */
        assert_int_equal(dst->mem, mem);
        assert_int_equal(dst->nsegs, nsegs);
    }
    assert_int_equal(src->bytes + src->mem + src->nsegs, 0);
    assert_null(src->head);
}

static void check(const struct world *w) {
    for (int q = 0; q < 2; q++) {
        const struct obuf *ob = &w->ob[q];
        assert_content(ob, w->model[q].data, w->model[q].len);
        assert_true(ob->mem >= ob->bytes);
        assert_true(ob->mem <= (size_t)ob->nsegs * 22000);
        assert_int_equal(ob->nsegs == 0, ob->mem == 0);
        assert_int_equal(ob->head == NULL, ob->tail == NULL);
    }
    assert_true(w->refs_released <= w->refs_made);
}

/* Everything sent: at most one own chunk is left, and the account says just its size, as far as the allocator's rounding shows.
 */
static void drain(struct world *w, int q) {
    struct obuf *ob = &w->ob[q];
    while (w->model[q].len) op_send(w, q);
    obuf_consume(ob, 0);
    assert_int_equal(ob->bytes, 0);
    assert_true(ob->nsegs <= 1);
    if (ob->nsegs) {
        assert_true(ob->mem <= mem_usable(ob->head));
        assert_true(ob->mem + 64 >= mem_usable(ob->head) / 5 * 4);
    }
    obuf_trim(ob);
    assert_int_equal(ob->mem + ob->nsegs, 0);
}

static void step(struct world *w) {
    int q = (int)rand_below(2);
    uint64_t what = rand_below(w->model[q].len > 150000 ? 100 : 70);
    if (what < 35) {
        op_add(w, q);
    } else if (what < 45) {
        op_marked(w, q, 0);
    } else if (what < 52) {
        op_truncate(w, q);
    } else if (what < 54) {
        op_splice(w, q);
    } else {
        op_send(w, q);
    }
}

static void test_obuf_random_operations_equal_model(void **state) {
    (void)state;
    struct world w = { 0 };
    for (int i = 1; i <= 8000; i++) {
        step(&w);
        if (i % 8 == 0) check(&w);
        if (i % 500 == 0) {
            drain(&w, 0);
            drain(&w, 1);
            assert_int_equal(w.refs_released, w.refs_made);
        }
    }
    for (int i = 0; i < 100; i++) step(&w);
    for (int q = 0; q < 2; q++) {
        obuf_clear(&w.ob[q]);
        buf_done(&w.model[q]);
    }
    assert_true(w.refs_made > 500);
    assert_int_equal(w.refs_released, w.refs_made);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_obuf_zeroed_is_an_empty_queue),
        cmocka_unit_test(test_obuf_append_small_pieces_share_a_chunk),
        cmocka_unit_test(test_obuf_append_large_piece_is_whole),
        cmocka_unit_test(test_obuf_room_is_contiguous_and_commit_takes_part),
        cmocka_unit_test(test_obuf_room_zero_of_empty_queue_can_be_committed),
        cmocka_unit_test(test_obuf_ref_is_released_once_when_wholly_sent),
        cmocka_unit_test(test_obuf_ref_memory_is_counted_and_given_back),
        cmocka_unit_test(test_obuf_ref_dropped_by_clear_is_released_once),
        cmocka_unit_test(test_obuf_ref_of_no_bytes_is_released_at_once),
        cmocka_unit_test(test_obuf_mark_patched_later_stands_in_its_place),
        cmocka_unit_test(test_obuf_mark_spliced_can_still_be_patched),
        cmocka_unit_test(test_obuf_mark_alone_spliced_can_still_be_patched),
        cmocka_unit_test(test_obuf_mark_never_patched_is_no_harm),
        cmocka_unit_test(test_obuf_mark_then_truncate_to_its_reply_keeps_it_valid),
        cmocka_unit_test(test_obuf_queued_bytes_never_move),
        cmocka_unit_test(test_obuf_iov_is_limited_to_max),
        cmocka_unit_test(test_obuf_consume_all_keeps_one_chunk_for_the_next_reply),
        cmocka_unit_test(test_obuf_first_chunk_is_for_as_much_as_the_time_before),
        cmocka_unit_test(test_obuf_pool_hands_chunks_on),
        cmocka_unit_test(test_obuf_truncate_after_partial_send_counts_what_is_left),
        cmocka_unit_test(test_obuf_copy_stops_at_cap),
        cmocka_unit_test(test_obuf_random_operations_equal_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
