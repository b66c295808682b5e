/*
 * Fuzz target of the state that one process hands to another beside a kernel-TLS socket (src/ktls/ktls_handoff.c).
 *
 * Input: byte 0 is the role of the importing context, the rest the state. Checked beside memory errors: what is accepted stands
 * for one connection only, that is, exporting it again gives the same bytes; and it is within the documented size.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ktls/ktls_handoff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int claim) {
    if (!claim) abort();
}

static struct ktls_ctx *context(enum ktls_role role) {
    static struct ktls_ctx *ctx[2];
    if (!ctx[role]) { /* a context without a certificate: ktls_ctx_new() would want one of a server */
        struct ktls_ctx_opts o = { .size = sizeof o, .role = KTLS_CLIENT, .policy = KTLS_POLICY_OFF };
        check(ktls_ctx_new(&o, &ctx[role], NULL, 0) == 0);
        ctx[role]->role = role;
    }
    return ctx[role];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t again[KTLS_EXPORT_MAX];
    struct ktls_handoff s;
    struct ktls_conn *conn = NULL;
    if (size < 1) return 0;
    enum ktls_role role = data[0] & 1 ? KTLS_CLIENT : KTLS_SERVER;
    if (ktls_state_parse(data + 1, size - 1, &s) < 0) return 0;
    if (ktls_conn_of_state(context(role), 0, &s, &conn) < 0) {
        check(conn == NULL);
        return 0;
    }
    check(conn->reader.have < KTLS_HS_MESSAGE_MAX);
    check(ktls_export(conn, again, sizeof again) == (ssize_t)(size - 1));
    check(memcmp(again, data + 1, size - 1) == 0);
    ktls_conn_free(conn);
    return 0;
}
