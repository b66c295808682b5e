/* Files, what several layers need of them: writing all of something, and having a directory's entries on the disk. Any thread. */
#ifndef KETTLE_BASE_FILE_H
#define KETTLE_BASE_FILE_H

#include <stddef.h>

/* To a blocking descriptor. 0 or -errno; -EIO: it takes nothing. After an error a part may have been written. */
int file_write_all(int fd, const void *p, size_t n);
/* The directory path lies in, so that a rename there survives a crash. 0 or -errno. A file system that cannot do it has nothing
 * to do. */
int file_sync_dir_of(const char *path);

#endif
