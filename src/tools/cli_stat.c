/* --stat: a line of INFO's main numbers each interval, under a heading repeated every twenty lines.
 *
 * Flow: main() calls cli_stat_mode(), which runs until interrupted or the connection is lost; after a loss it tries again each
 * second.
 * Threads: one. */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/str.h"
#include "tools/cli.h"

/* The number after "\nname:" in INFO's text; -1: no such line. */
static long info_long(const char *info, const char *name) {
    size_t n = strlen(name);
    for (const char *p = info; (p = strstr(p, name)) != NULL; p += n)
        if ((p == info || p[-1] == '\n') && p[n] == ':') return strtol(p + n + 1, NULL, 10);
    return -1;
}

static long info_keys(const char *info) {
    long keys = 0;
    for (const char *p = info; (p = strstr(p, ":keys=")) != NULL; p += 6) keys += strtol(p + 6, NULL, 10);
    return keys;
}

static void print_line(const char *info, long *requests) {
    char text[64];
    printf("%-11ld", info_keys(info));
    long mem = info_long(info, "used_memory");
    str_from_bytes_human(text, sizeof(text), mem > 0 ? (uint64_t)mem : 0);
    printf("%-8s", text);
    printf(" %-8ld", info_long(info, "connected_clients"));
    printf("%-8ld", info_long(info, "blocked_clients"));
    long now = info_long(info, "total_commands_processed");
    snprintf(text, sizeof(text), "%ld (+%ld)", now, *requests == 0 ? 0 : now - *requests);
    *requests = now;
    printf("%-19s", text);
    printf(" %-12ld", info_long(info, "total_connections_received"));
    bool save = info_long(info, "rdb_bgsave_in_progress") == 1 || info_long(info, "bgsave_in_progress") == 1;
    bool aof = info_long(info, "aof_rewrite_in_progress") == 1;
    if (info_long(info, "loading") == 1)
        printf("LOAD");
    else if (save || aof)
        printf("%s%s%s", save ? "SAVE" : "", save && aof ? "+" : "", aof ? "AOF" : "");
    printf("\n");
    fflush(stdout);
}

int cli_stat_mode(struct cli *c) {
    int64_t interval = c->cfg.interval_us > 0 ? c->cfg.interval_us : 1000000;
    long requests = 0;
    for (unsigned line = 0;;) {
        struct resp_value *v = NULL;
        if (!c->connected && cli_connect(c, line > 0) != 0 && line == 0) return 1;
        if (!c->connected || tool_conn_callv(&c->conn, &v, TOOL_NO_DEADLINE, "INFO", NULL) != 0) {
            cli_drop(c);
            fprintf(stderr, "Reconnecting...\n");
            cli_sleep_us(1000000);
            continue;
        }
        if (cli_is_error(v)) {
            fprintf(stderr, "ERROR: %.*s\n", (int)v->str.len, v->str.ptr);
            resp_value_free(v);
            return 1;
        }
        if (line++ % 20 == 0)
            printf("------- data ------ --------------------- load -------------------- - child -\n"
                   "keys       mem      clients blocked requests            connections          \n");
        char *info = mem_memdup0(v->str.ptr, v->str.len);
        print_line(info, &requests);
        mem_free(info);
        resp_value_free(v);
        cli_sleep_us(interval);
    }
}
