/* DEBUG's parts. */
#ifndef KETTLE_SERVER_DEBUG_H
#define KETTLE_SERVER_DEBUG_H

#include "server/server.h"

#define DEBUG_DIGEST_BYTES 20

void debug_command(struct cmd_ctx *c);
void debug_reload(struct cmd_ctx *c); /* cmd_snapshot.c */
/* debug_digest.c: digests as redis-server's DEBUG DIGEST defines them; equal data gives equal digests on both. Locks held. */
void debug_digest_value(const struct entry *e, int64_t now_ms, unsigned char digest[DEBUG_DIGEST_BYTES]);
void debug_digest_all(struct keyspace *ks, int64_t now_ms, unsigned char digest[DEBUG_DIGEST_BYTES]);

#endif
