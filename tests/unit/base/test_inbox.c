/* Inbox: order, the wake-up flag, many producers. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include "base/alloc.h"
#include "base/inbox.h"

#define PRODUCERS 4
#define PER_PRODUCER 20000

struct note {
    struct inbox_msg msg;
    int producer, number;
};

static void test_inbox_empty_take_gives_nothing(void **state) {
    (void)state;
    struct inbox box;
    inbox_init(&box);
    assert_null(inbox_take_all(&box));
    assert_null(inbox_take_all(&box));
}

static void test_inbox_push_only_first_of_batch_asks_for_wakeup(void **state) {
    (void)state;
    struct inbox box;
    struct note n[3] = { 0 };
    inbox_init(&box);
    for (int round = 0; round < 3; round++) {
        assert_true(inbox_push(&box, &n[0].msg));
        assert_false(inbox_push(&box, &n[1].msg));
        assert_false(inbox_push(&box, &n[2].msg));
        struct inbox_msg *at = inbox_take_all(&box);
        for (int i = 0; i < 3; i++, at = at->next) assert_ptr_equal(at, &n[i].msg);
        assert_null(at);
        assert_null(inbox_take_all(&box));
    }
}

static void count_run(struct inbox_msg *msg, void *owner) {
    struct note *n = (struct note *)(void *)msg;
    *(int *)owner = *(int *)owner * 10 + n->number;
}

static void test_inbox_run_is_called_oldest_first(void **state) {
    (void)state;
    struct inbox box;
    struct note n[3];
    int seen = 0;
    inbox_init(&box);
    for (int i = 0; i < 3; i++) {
        n[i] = (struct note){ .msg.run = count_run, .number = i + 1 };
        inbox_push(&box, &n[i].msg);
    }
    for (struct inbox_msg *at = inbox_take_all(&box), *next; at; at = next) {
        next = at->next;
        at->run(at, &seen);
    }
    assert_int_equal(seen, 123);
}

struct shared {
    struct inbox box;
    sem_t wake;
    pthread_barrier_t start;
    _Atomic int wakeups;
};

struct producer {
    struct shared *sh;
    int id;
};

static void *produce(void *arg) {
    struct producer *p = arg;
    pthread_barrier_wait(&p->sh->start);
    for (int i = 0; i < PER_PRODUCER; i++) {
        struct note *n = mem_alloc(sizeof *n);
        n->producer = p->id;
        n->number = i;
        if (inbox_push(&p->sh->box, &n->msg)) {
            atomic_fetch_add(&p->sh->wakeups, 1);
            sem_post(&p->sh->wake);
        }
        if (i % 1000 == 0) sched_yield();
    }
    return NULL;
}

/* The consumer sleeps before every batch: a wake-up that is lost would hang the test, one too many would show as an empty batch.
 */
static void test_inbox_four_producers_keep_order_and_lose_nothing(void **state) {
    (void)state;
    struct shared sh;
    struct producer p[PRODUCERS];
    pthread_t thread[PRODUCERS];
    int next[PRODUCERS] = { 0 }, total = 0, batches = 0;
    inbox_init(&sh.box);
    atomic_init(&sh.wakeups, 0);
    sem_init(&sh.wake, 0, 0);
    pthread_barrier_init(&sh.start, NULL, PRODUCERS);
    for (int i = 0; i < PRODUCERS; i++) {
        p[i] = (struct producer){ &sh, i };
        assert_int_equal(pthread_create(&thread[i], NULL, produce, &p[i]), 0);
    }
    while (total < PRODUCERS * PER_PRODUCER) {
        while (sem_wait(&sh.wake) != 0) {
        }
        struct inbox_msg *at = inbox_take_all(&sh.box);
        assert_non_null(at);
        batches++;
        while (at) {
            struct note *n = (struct note *)(void *)at;
            at = at->next;
            assert_int_equal(n->number, next[n->producer]++);
            total++;
            mem_free(n);
        }
    }
    for (int i = 0; i < PRODUCERS; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < PRODUCERS; i++) assert_int_equal(next[i], PER_PRODUCER);
    assert_int_equal(atomic_load(&sh.wakeups), batches);
    assert_null(inbox_take_all(&sh.box));
    sem_destroy(&sh.wake);
    pthread_barrier_destroy(&sh.start);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inbox_empty_take_gives_nothing),
        cmocka_unit_test(test_inbox_push_only_first_of_batch_asks_for_wakeup),
        cmocka_unit_test(test_inbox_run_is_called_oldest_first),
        cmocka_unit_test(test_inbox_four_producers_keep_order_and_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
