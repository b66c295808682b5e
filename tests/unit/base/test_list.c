/* Intrusive lists. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/list.h"

struct item {
    int value;
    struct list link;
};

static void assert_order(struct list *head, const int *want, int n) {
    int i = 0;
    list_for_each(it, head) {
        assert_true(i < n);
        assert_int_equal(list_entry(it, struct item, link)->value, want[i++]);
        assert_ptr_equal(it->next->prev, it);
        assert_ptr_equal(it->prev->next, it);
    }
    assert_int_equal(i, n);
    assert_int_equal(list_empty(head), n == 0);
}

static void test_list_static_init_is_empty(void **state) {
    (void)state;
    struct list head = LIST_INIT(head), other;
    list_init(&other);
    assert_true(list_empty(&head));
    assert_true(list_empty(&other));
    assert_order(&head, NULL, 0);
}

static void test_list_push_both_ends_keeps_order(void **state) {
    (void)state;
    struct list head = LIST_INIT(head);
    struct item it[4];
    for (int i = 0; i < 4; i++) it[i].value = i;
    list_push_back(&head, &it[1].link);
    list_push_back(&head, &it[2].link);
    list_push_front(&head, &it[0].link);
    list_push_back(&head, &it[3].link);
    assert_order(&head, (const int[]){ 0, 1, 2, 3 }, 4);
}

static void test_list_remove_any_position_closes_the_gap(void **state) {
    (void)state;
    struct list head = LIST_INIT(head);
    struct item it[4];
    for (int i = 0; i < 4; i++) {
        it[i].value = i;
        list_push_back(&head, &it[i].link);
    }
    list_remove(&it[1].link);
    assert_order(&head, (const int[]){ 0, 2, 3 }, 3);
    assert_true(list_empty(&it[1].link));
    list_remove(&it[1].link); /* in no list: nothing happens */
    assert_order(&head, (const int[]){ 0, 2, 3 }, 3);
    list_remove(&it[0].link);
    list_remove(&it[3].link);
    assert_order(&head, (const int[]){ 2 }, 1);
    list_remove(&it[2].link);
    assert_order(&head, NULL, 0);
    list_push_front(&head, &it[3].link);
    assert_order(&head, (const int[]){ 3 }, 1);
}

static void test_list_for_each_safe_survives_removal(void **state) {
    (void)state;
    struct list odd = LIST_INIT(odd), even = LIST_INIT(even);
    struct item it[6];
    for (int i = 0; i < 6; i++) {
        it[i].value = i;
        list_push_back(&odd, &it[i].link);
    }
    list_for_each_safe(at, next, &odd) {
        if (list_entry(at, struct item, link)->value % 2) continue;
        list_remove(at);
        list_push_back(&even, at);
    }
    assert_order(&odd, (const int[]){ 1, 3, 5 }, 3);
    assert_order(&even, (const int[]){ 0, 2, 4 }, 3);
}

static void test_list_move_all_appends_in_order_and_empties(void **state) {
    (void)state;
    struct list from = LIST_INIT(from), to = LIST_INIT(to);
    struct item it[4];
    for (int i = 0; i < 4; i++) {
        it[i].value = i;
        list_push_back(&from, &it[i].link);
    }
    list_move_all(&to, &from); /* to an empty list */
    assert_order(&from, NULL, 0);
    assert_order(&to, (const int[]){ 0, 1, 2, 3 }, 4);
    list_move_all(&to, &from); /* from an empty list: nothing happens */
    assert_order(&from, NULL, 0);
    assert_order(&to, (const int[]){ 0, 1, 2, 3 }, 4);
    list_remove(&it[3].link);
    list_push_back(&from, &it[3].link);
    list_move_all(&from, &to); /* behind what is there */
    assert_order(&from, (const int[]){ 3, 0, 1, 2 }, 4);
    assert_order(&to, NULL, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_static_init_is_empty),
        cmocka_unit_test(test_list_push_both_ends_keeps_order),
        cmocka_unit_test(test_list_remove_any_position_closes_the_gap),
        cmocka_unit_test(test_list_for_each_safe_survives_removal),
        cmocka_unit_test(test_list_move_all_appends_in_order_and_empties),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
