/* ACL LOG's entries. See acl_log.h. Nothing is computed under the lock that could take long: texts are made by the caller. */
#include "server/acl_log.h"

#include "base/alloc.h"

#define MERGE_MS 60000 /* equal refusals further apart are two entries */
#define MERGE_LOOK 10  /* so many of the newest are looked at for an equal one */
#define TEXT_MAX 1024  /* of a key, channel or name: whoever is refused must not fill the memory */

struct entry_of_log {
    struct list node;
    enum acl_verdict reason;
    enum acl_context context;
    uint64_t id, count;
    char *object, *user, *info;
    size_t object_len, user_len;
    int64_t created_ms, updated_ms;
};

void acl_log_init(struct acl_log *l) {
    pthread_mutex_init(&l->lock, NULL);
    list_init(&l->entries);
    l->n = 0;
    l->next_id = 0;
}

static void entry_free(struct entry_of_log *en) {
    mem_free(en->object);
    mem_free(en->user);
    mem_free(en->info);
    mem_free(en);
}

/* Lock held. */
static void trim(struct acl_log *l, size_t max) {
    while (l->n > max) {
        struct entry_of_log *en = list_entry(l->entries.prev, struct entry_of_log, node);
        list_remove(&en->node);
        entry_free(en);
        l->n--;
    }
}

void acl_log_reset(struct acl_log *l) {
    pthread_mutex_lock(&l->lock);
    trim(l, 0);
    pthread_mutex_unlock(&l->lock);
}

void acl_log_done(struct acl_log *l) {
    trim(l, 0);
    pthread_mutex_destroy(&l->lock);
}

static bool is_same(const struct entry_of_log *en, const struct acl_denial *d, int64_t now_ms) {
    int64_t apart = now_ms - en->updated_ms;
    return en->reason == d->verdict && en->context == d->context && apart <= MERGE_MS && apart >= -MERGE_MS &&
           slice_eq((struct slice){ en->object, en->object_len }, d->object) &&
           slice_eq((struct slice){ en->user, en->user_len }, d->user);
}

static struct entry_of_log *find_same(struct acl_log *l, const struct acl_denial *d, int64_t now_ms) {
    int left = MERGE_LOOK;
    list_for_each(n, &l->entries) {
        struct entry_of_log *en = list_entry(n, struct entry_of_log, node);
        if (left-- == 0) break;
        if (is_same(en, d, now_ms)) return en;
    }
    return NULL;
}

static struct entry_of_log *entry_new(const struct acl_denial *d, int64_t now_ms) {
    struct entry_of_log *en = mem_zalloc(sizeof *en);
    list_init(&en->node);
    en->reason = d->verdict;
    en->context = d->context;
    en->object = mem_memdup0(d->object.ptr, d->object.len);
    en->object_len = d->object.len;
    en->user = mem_memdup0(d->user.ptr, d->user.len);
    en->user_len = d->user.len;
    en->created_ms = now_ms;
    return en;
}

static struct slice cut(struct slice text) {
    if (text.len > TEXT_MAX) text.len = TEXT_MAX;
    return text;
}

void acl_log_add(struct acl_log *l, const struct acl_denial *denial, const char *info, int64_t now_ms, size_t max) {
    struct acl_denial d = *denial;
    d.object = cut(d.object);
    d.user = cut(d.user);
    pthread_mutex_lock(&l->lock);
    struct entry_of_log *en = max ? find_same(l, &d, now_ms) : NULL;
    if (!en && max) {
        en = entry_new(&d, now_ms);
        en->id = l->next_id++;
        l->n++;
    }
    if (en) {
        list_remove(&en->node);
        list_push_front(&l->entries, &en->node);
        en->count++;
        en->updated_ms = now_ms;
        mem_free(en->info);
        en->info = mem_strdup(info);
    }
    trim(l, max);
    pthread_mutex_unlock(&l->lock);
}

static void reply_entry(struct reply *r, const struct entry_of_log *en, int64_t now_ms) {
    static const char *const reasons[ACL_VERDICTS] = { [ACL_DENIED_CMD] = "command",
                                                       [ACL_DENIED_KEY] = "key",
                                                       [ACL_DENIED_CHANNEL] = "channel",
                                                       [ACL_DENIED_AUTH] = "auth",
                                                       [ACL_DENIED_CERT] = "tls-cert" };
    static const char *const contexts[] = { [ACL_TOPLEVEL] = "toplevel", [ACL_MULTI] = "multi", [ACL_LUA] = "lua" };
    reply_map(r, 10);
    reply_bulk_cstr(r, "count");
    reply_int(r, (int64_t)en->count);
    reply_bulk_cstr(r, "reason");
    reply_bulk_cstr(r, reasons[en->reason]);
    reply_bulk_cstr(r, "context");
    reply_bulk_cstr(r, contexts[en->context]);
    reply_bulk_cstr(r, "object");
    reply_bulk(r, en->object, en->object_len);
    reply_bulk_cstr(r, "username");
    reply_bulk(r, en->user, en->user_len);
    reply_bulk_cstr(r, "age-seconds");
    reply_double(r, (double)(now_ms - en->updated_ms) / 1000);
    reply_bulk_cstr(r, "client-info");
    reply_bulk_cstr(r, en->info);
    reply_bulk_cstr(r, "entry-id");
    reply_int(r, (int64_t)en->id);
    reply_bulk_cstr(r, "timestamp-created");
    reply_int(r, en->created_ms);
    reply_bulk_cstr(r, "timestamp-last-updated");
    reply_int(r, en->updated_ms);
}

void acl_log_reply(struct acl_log *l, struct reply *r, size_t count, int64_t now_ms) {
    pthread_mutex_lock(&l->lock);
    size_t n = count < l->n ? count : l->n;
    reply_array(r, n);
    list_for_each(node, &l->entries) {
        if (n-- == 0) break;
        reply_entry(r, list_entry(node, struct entry_of_log, node), now_ms);
    }
    pthread_mutex_unlock(&l->lock);
}
