/* The checker must see each kind of broken promise; else the soak test proves nothing. */
#include "ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint8_t body[LEDGER_BODY_MAX];

static uint64_t broken(struct ledger *l)
{
    struct ledger_totals t;
    ledger_totals(l, &t);
    return t.broken;
}

static bool deliver(struct ledger *l, unsigned group, unsigned producer, uint64_t number, uint64_t seq)
{
    unsigned p;
    uint64_t n;
    size_t len = ledger_body(producer, number, body, sizeof(body));
    return ledger_delivered(l, group, seq, body, len, &p, &n);
}

static void good_run(void **state)
{
    struct ledger *l = *state;
    for (uint64_t i = 0; i < 40000; i++) {
        assert_int_equal(ledger_submit(l, 1), i);
        ledger_confirmed(l, 1, i, i + 1);
        for (unsigned g = 0; g < LEDGER_GROUPS; g++) {
            assert_true(deliver(l, g, 1, i, i + 1));
            assert_true(deliver(l, g, 1, i, i + 1)); /* again: at least once */
            ledger_acked(l, g, 1, i);
        }
    }
    ledger_submit(l, 1); /* never confirmed: it may be there or not */
    ledger_close(l);
    assert_int_equal(broken(l), 0);
}

static void lost(void **state)
{
    struct ledger *l = *state;
    ledger_submit(l, 0);
    ledger_confirmed(l, 0, 0, 1);
    assert_true(deliver(l, 0, 0, 0, 1));
    ledger_close(l);
    assert_int_equal(broken(l), LEDGER_GROUPS - 1);
}

static void acked_again(void **state)
{
    struct ledger *l = *state;
    ledger_submit(l, 0);
    assert_true(deliver(l, 1, 0, 0, 1));
    ledger_acked(l, 1, 0, 0);
    assert_true(deliver(l, 0, 0, 0, 1)); /* another group */
    assert_false(deliver(l, 1, 0, 0, 1));
}

static void phantom(void **state)
{
    struct ledger *l = *state;
    unsigned p;
    uint64_t n;

    assert_true(deliver(l, 0, 0, 0, 1)); /* never submitted */
    assert_int_equal(broken(l), 1);
    ledger_submit(l, 0);
    size_t len = ledger_body(0, 0, body, sizeof(body));
    body[len - 1] ^= 1;
    ledger_delivered(l, 0, 1, body, len, &p, &n); /* other bytes */
    assert_int_equal(broken(l), 2);
    ledger_delivered(l, 0, 1, body, 3, &p, &n);
    assert_int_equal(broken(l), 3);
    ledger_refused(l, 0, 0);
    deliver(l, 0, 0, 0, 1); /* refused, yet here */
    assert_int_equal(broken(l), 4);
}

static void stored_twice(void **state)
{
    struct ledger *l = *state;
    ledger_submit(l, 0);
    ledger_confirmed(l, 0, 0, 5);
    deliver(l, 0, 0, 0, 6);
    assert_int_equal(broken(l), 1);
    ledger_confirmed(l, 0, 0, 5);
    assert_int_equal(broken(l), 2);
}

static int setup(void **state)
{
    *state = ledger_new();
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    ledger_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(good_run, setup, teardown),
        cmocka_unit_test_setup_teardown(lost, setup, teardown),
        cmocka_unit_test_setup_teardown(acked_again, setup, teardown),
        cmocka_unit_test_setup_teardown(phantom, setup, teardown),
        cmocka_unit_test_setup_teardown(stored_twice, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
