/* Where the memory is: the figures of INFO memory and MEMORY STATS, taken at one moment. Any I/O thread. */
#ifndef KETTLE_SERVER_MEMORY_H
#define KETTLE_SERVER_MEMORY_H

#include "base/alloc.h"
#include "server/server.h"

struct memory_figures {
    struct mem_stats m;  /* m.allocated: mem_used() */
    size_t by_allocator; /* bytes allocated as of the allocator's last look at the threads' caches */
    uint64_t startup;    /* when the server was up and empty */
    uint64_t peak;
    uint64_t clients;      /* connections and their buffers */
    uint64_t tables;       /* of all databases */
    uint64_t scripts;      /* cached scripts */
    uint64_t functions;    /* libraries */
    uint64_t overhead;     /* all but the data: the five above, but peak */
    uint64_t dataset, net; /* net: without startup */
    uint64_t keys;
};
void memory_figures_get(struct server *srv, struct memory_figures *ret);
/* a / b, 1 when b is 0. */
double memory_ratio(size_t a, size_t b);

extern const struct cmd_spec cmd_memory_subs[]; /* cmd_memory.c: MEMORY's */

#endif
