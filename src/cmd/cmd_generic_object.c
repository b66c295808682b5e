/*
 * OBJECT: what the server knows about a value beside its contents. None of these moves the key's access clock, or asking for the
 * idle time would reset it.
 */
#include "cmd/cmd_generic.h"

#include <limits.h>

/* redis-server keeps one object for each of these and reports a reference count of INT_MAX for them; clients and tests know that
 * number. */
#define SHARED_INTEGERS 10000

static struct obj *object_lookup(struct cmd_ctx *c, struct entry **ret_entry) {
    struct entry *e = generic_peek(c, c->argv[2], false);
    if (e == NULL) {
        reply_null(c->r);
        return NULL;
    }
    if (ret_entry != NULL) *ret_entry = e;
    return entry_value(e);
}

void generic_object_encoding_command(struct cmd_ctx *c) {
    const struct obj *o = object_lookup(c, NULL);
    if (o != NULL) reply_bulk_cstr(c->r, obj_encoding_name(o));
}

/* Under LFU every value has a counter of its own, so redis-server shares none. */
bool generic_is_shared_integer(const struct keyspace *ks, const struct obj *o) {
    return o->type == OBJ_STRING && o->enc == OBJ_ENC_INT && o->u.integer >= 0 && o->u.integer < SHARED_INTEGERS &&
           !ks_uses_lfu(ks);
}

void generic_object_refcount_command(struct cmd_ctx *c) {
    const struct obj *o = object_lookup(c, NULL);
    if (o == NULL) return;
    /* References held by replies on their way out are no user's business. */
    reply_int(c->r, generic_is_shared_integer(c->ks, o) ? INT_MAX : 1);
}

#define POLICY_NOTE " Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust."

void generic_object_idletime_command(struct cmd_ctx *c) {
    struct entry *e;
    if (object_lookup(c, &e) == NULL) return;
    if (ks_uses_lfu(c->ks))
        reply_error(c->r, "ERR An LFU maxmemory policy is selected, idle time not tracked." POLICY_NOTE);
    else
        reply_int(c->r, entry_idle_s(e, c->now_ms));
}

void generic_object_freq_command(struct cmd_ctx *c) {
    struct entry *e;
    if (object_lookup(c, &e) == NULL) return;
    if (!ks_uses_lfu(c->ks))
        reply_error(c->r, "ERR An LFU maxmemory policy is not selected, access frequency not tracked." POLICY_NOTE);
    else
        reply_int(c->r, entry_lfu(e, c->now_ms));
}

void generic_object_help_command(struct cmd_ctx *c) {
    static const char *const lines[] = {
        "ENCODING <key>",
        "    Name of the representation that holds the value of <key> in memory.",
        "FREQ <key>",
        "    Access counter of <key>, on a logarithmic scale. Needs an LFU",
        "    maxmemory-policy.",
        "IDLETIME <key>",
        "    Seconds since <key> was last used, within the resolution of the access",
        "    clock. Needs a maxmemory-policy other than LFU.",
        "REFCOUNT <key>",
        "    How many holders the value of <key> has.",
        NULL,
    };
    cmd_help(c, lines);
}
