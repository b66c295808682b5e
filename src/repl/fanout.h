/* One stream into several sockets at once, each at its own pace within a window: how the child of a diskless full synchronization
 * writes to the replicas. A replica that stops reading, or is gone, does not stop the others: it is given up when the window is
 * full because of it alone. One process, one thread; sockets may be blocking or not, they are never waited for one by one. */
#ifndef KETTLE_REPL_FANOUT_H
#define KETTLE_REPL_FANOUT_H

#include <stddef.h>
#include <stdint.h>

struct fanout_sink {
    int fd;        /* a socket; stays the caller's */
    uint64_t skip; /* bytes of the stream's beginning that this one does not get */
    /* kept here */
    uint64_t pos;        /* offset of the stream up to which it was written */
    uint64_t sent;       /* bytes written */
    int err;             /* errno: it is given up. ETIMEDOUT: it took nothing for too long. 0: alive */
    int64_t progress_us; /* monotonic: when it took something last */
};

struct fanout_opts {
    size_t window;      /* bytes that the fastest may be ahead of the slowest */
    int64_t stall_us;   /* a socket that takes nothing for so long while another waits for it is given up */
    int64_t timeout_us; /* the same when nobody waits for it */
};

struct fanout;
struct fanout *fanout_new(struct fanout_sink *sinks, int n, const struct fanout_opts *o); /* sinks: used, not copied */
struct fanout *fanout_free(struct fanout *f);
/* Takes all bytes: waits while the window is full. 0; -EPIPE: nobody is alive any more. arg: the fanout; the form of rdb_out's
 * sink. */
int fanout_write(void *arg, const void *p, size_t n);
int fanout_finish(struct fanout *f); /* until each has everything or is given up. As above */

#endif
