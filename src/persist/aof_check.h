/* kettle-check-aof: whether files of an append-only log load, and cutting off what does not; as redis-check-aof does it, and with
 * its words. Single-threaded; writes to files only where that was asked for. */
#ifndef KETTLE_PERSIST_AOF_CHECK_H
#define KETTLE_PERSIST_AOF_CHECK_H

#include <stdbool.h>
#include <stdint.h>

struct aof_check_opts {
    bool fix;                                 /* cut off what is broken at the end of the last file, once `confirm` agrees */
    int64_t to_timestamp;                     /* cut off what is later than this annotation, in the last file; 0: do not */
    void (*say)(void *arg, const char *text); /* a line, without newline */
    bool (*confirm)(void *arg);               /* the question has been asked already */
    void *arg;
};

/* A manifest and the files it names, or a single file. 0: all is well (or has been made so); 1: not, and said so. */
int aof_check(const char *path, const struct aof_check_opts *o);

#endif
