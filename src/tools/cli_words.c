/* What kettle-cli knows of commands by their words.
 *
 * Flow: cli_repl.c asks before it writes a line to the history, cli_send.c before it prints a reply.
 * Threads: any, nothing is kept. */
#include "tools/cli.h"

/* ---- passwords ---- */

static bool word_from(int argc, const struct slice *argv, int from, const char *word) {
    for (int i = from; i < argc; i++)
        if (slice_ieq(argv[i], word)) return true;
    return false;
}

bool cli_is_sensitive(int argc, const struct slice *argv) {
    if (argc == 0) return false;
    if (slice_ieq(argv[0], "auth")) return true;
    if (slice_ieq(argv[0], "hello")) return word_from(argc, argv, 1, "auth");
    if (slice_ieq(argv[0], "migrate")) return word_from(argc, argv, 6, "auth") || word_from(argc, argv, 6, "auth2");
    if (argc < 2) return false;
    if (slice_ieq(argv[0], "acl")) return slice_ieq(argv[1], "setuser") || slice_ieq(argv[1], "deluser");
    if (slice_ieq(argv[0], "config") && slice_ieq(argv[1], "set"))
        return word_from(argc, argv, 2, "requirepass") || word_from(argc, argv, 2, "masterauth") ||
               word_from(argc, argv, 2, "primaryauth") || word_from(argc, argv, 2, "masteruser") ||
               word_from(argc, argv, 2, "primaryuser") || word_from(argc, argv, 2, "tls-key-file-pass") ||
               word_from(argc, argv, 2, "tls-client-key-file-pass");
    return slice_ieq(argv[0], "sentinel") && word_from(argc, argv, 1, "auth-pass");
}

/* ---- replies that are texts ---------------------------------------------------------------------------------------------------
 */

bool cli_is_text_command(int argc, const struct slice *argv) {
    static const struct {
        const char *command, *sub;
        int min_argc, max_argc;
    } table[] = {
        { "info", NULL, 1, 1 << 30 },
        { "lolwut", NULL, 1, 1 << 30 },
        { "debug", "htstats", 2, 1 << 30 },
        { "debug", "htstats-key", 2, 1 << 30 },
        { "debug", "client-eviction", 2, 1 << 30 },
        { "memory", "malloc-stats", 2, 1 << 30 },
        { "memory", "doctor", 2, 1 << 30 },
        { "cluster", "nodes", 2, 2 },
        { "cluster", "info", 2, 2 },
        { "client", "list", 2, 1 << 30 },
        { "client", "info", 2, 1 << 30 },
        { "latency", "graph", 3, 3 },
        { "latency", "doctor", 2, 2 },
        { "proxy", "info", 2, 1 << 30 },
    };
    for (size_t i = 0; argc > 0 && i < sizeof(table) / sizeof(*table); i++)
        if (slice_ieq(argv[0], table[i].command) && (!table[i].sub || (argc > 1 && slice_ieq(argv[1], table[i].sub))) &&
            argc >= table[i].min_argc && argc <= table[i].max_argc)
            return true;
    return false;
}
