/* ACL LOG: the latest refusals, equal ones of a minute as one. Any thread; a lock of its own, innermost. */
#ifndef KETTLE_SERVER_ACL_LOG_H
#define KETTLE_SERVER_ACL_LOG_H

#include <pthread.h>

#include "base/list.h"
#include "cmd/acl.h"

struct acl_log {
    pthread_mutex_t lock;
    struct list entries; /* newest first */
    size_t n;
    uint64_t next_id;
};

void acl_log_init(struct acl_log *l);
void acl_log_done(struct acl_log *l);
/* Texts are cut at 1,024 bytes. info: the client's line of CLIENT LIST. max: acllog-max-len. */
void acl_log_add(struct acl_log *l, const struct acl_denial *d, const char *info, int64_t now_ms, size_t max);
void acl_log_reset(struct acl_log *l);
void acl_log_reply(struct acl_log *l, struct reply *r, size_t count, int64_t now_ms); /* the newest ones, as ACL LOG shows them */

#endif
