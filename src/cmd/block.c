/*
 * Commands that wait for keys. See cmd.h ("blocking").
 */
#include <limits.h>
#include <math.h>

#include "base/clock.h"
#include "base/str.h"
#include "cmd/dispatch.h"

bool cmd_can_block(const struct cmd_ctx *c) {
    return !c->in_exec && !c->deny_blocking;
}

void cmd_block_on_keys(struct cmd_ctx *c, const struct cmd_block *b) {
    b->timed_out(c->r);
}

/* Milliseconds from now to a deadline, with the limits redis-server has: by the wall clock. */
static bool deadline_in(struct cmd_ctx *c, int64_t ms, int64_t *ret_deadline_us) {
    if (ms < 0) {
        reply_error(c->r, "ERR timeout is negative");
        return false;
    }
    if (ms > INT64_MAX - c->now_ms) {
        reply_error(c->r, "ERR timeout is out of range");
        return false;
    }
    int64_t now_us = clock_mono_us();
    *ret_deadline_us = ms == 0 ? 0 : ms > (INT64_MAX - now_us) / 1000 ? INT64_MAX : now_us + ms * 1000;
    return true;
}

bool cmd_arg_timeout(struct cmd_ctx *c, struct slice a, enum cmd_timeout_unit unit, int64_t *ret_deadline_us) {
    int64_t ms;
    long double v;
    if (unit == CMD_TIMEOUT_MS) {
        return cmd_arg_ll(c, a, &ms, "ERR timeout is not an integer or out of range") && deadline_in(c, ms, ret_deadline_us);
    }
    if (!str_to_long_double(a, &v)) {
        reply_error(c->r, "ERR timeout is not a float or out of range");
        return false;
    }
    v = ceill(v * 1000);
    if (v >= 9223372036854775807.0L) {
        reply_error(c->r, "ERR timeout is out of range");
        return false;
    }
    return deadline_in(c, v < 0 ? -1 : (int64_t)v, ret_deadline_us);
}

void cmd_signal_ready(struct cmd_ctx *c, int db, struct slice key) {
    (void)c;
    (void)db;
    (void)key;
}
