/* Fuzzes values in RDB format: the first byte is the type. No crash, no over-read, no memory that was not paid for by bytes; what
 * is accepted can be saved, and read back as the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "data/rdb.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct obj *load(const unsigned char *p, size_t len) {
    struct rdb_in in = { .p = p + 1, .end = p + len };
    struct obj *o = rdb_load_value(&in, p[0], 0);
    if ((o == NULL) != (in.err != NULL)) abort();
    return o;
}

static struct buf save(const struct obj *o, enum rdb_forms forms) {
    struct rdb_out out = { .compress = true };
    enum rdb_type type = rdb_type_of(o, forms);
    rdb_put_u8(&out, (uint8_t)type);
    rdb_save_value(&out, o, type);
    return out.buf;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static bool is_ready;
    if (!is_ready) hash_seed_init();
    is_ready = true;
    if (size == 0) return 0;
    unsigned char *exact = mem_alloc(size);
    memcpy(exact, data, size);
    struct obj *o = load(exact, size);
    mem_free(exact);
    if (!o) return 0;
    for (int forms = RDB_FORMS_FILE; forms <= RDB_FORMS_DUMP; forms++) {
        struct buf first = save(o, (enum rdb_forms)forms);
        struct obj *copy = load((unsigned char *)first.data, first.len), *dup = obj_dup(o);
        if (!copy || copy->type != o->type) abort();
        obj_unref(copy);
        struct buf second = save(dup, (enum rdb_forms)forms);
        if (second.len != first.len && o->enc != OBJ_ENC_HASHTABLE)
            abort(); /* tables have no order, LZF then packs differently */
        obj_unref(dup);
        buf_done(&first);
        buf_done(&second);
    }
    obj_unref(o);
    return 0;
}
