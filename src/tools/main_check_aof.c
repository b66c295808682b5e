/* kettle-check-aof: checks append-only files, and repairs their end. The work is persist/aof_check.c's. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "persist/aof_check.h"
#include "tools/tool_opts.h"

static void say(void *arg, const char *text) {
    (void)arg;
    puts(text);
    fflush(stdout);
}

static bool confirm(void *arg) {
    char answer[16];
    (void)arg;
    fputs("Continue? [y/N]: ", stdout);
    fflush(stdout);
    return fgets(answer, sizeof answer, stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}

static int usage(const char *name) {
    printf("Usage: %s [--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>\n", name);
    return 1;
}

int main(int argc, char **argv) {
    struct aof_check_opts o = { .say = say, .confirm = confirm };
    mem_thread_begin();
    hash_seed_init();
    clock_init();
    if (argc == 2 && (!strcmp(argv[1], "-v") || !strcmp(argv[1], "--version"))) {
        printf("kettle-check-aof %s\n", TOOL_VERSION);
        return 0;
    }
    if (argc == 3 && !strcmp(argv[1], "--fix")) {
        o.fix = true;
    } else if (argc == 4 && !strcmp(argv[1], "--truncate-to-timestamp")) {
        char *end;
        errno = 0;
        o.to_timestamp = strtoll(argv[2], &end, 10);
        if (errno || *end || end == argv[2] || o.to_timestamp <= 0) {
            puts("Invalid timestamp, aborting...");
            return 1;
        }
    } else if (argc != 2 || argv[1][0] == '-') {
        return usage(argv[0]);
    }
    return aof_check(argv[argc - 1], &o);
}
