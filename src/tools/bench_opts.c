/* kettle-benchmark's command line and --help.
 *
 * Flow: main_benchmark.c calls bench_opts_parse() first; what is left after the options is a command to measure.
 * Threads: the main thread, before others exist. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/bench.h"

static const char *const usage_head =
    "Usage: kettle-benchmark [OPTIONS] [COMMAND ARGS...]\n"
    "\n"
    "Options:\n"
    " -h <hostname>      Server hostname (default 127.0.0.1)\n"
    " -p <port>          Server port (default 6379)\n"
    " -s <socket>        Server socket (overrides host and port)\n"
    " -a <password>      Password for Auth (KETTLECLI_AUTH and REDISCLI_AUTH too)\n"
    " --user <username>  Used to send ACL style 'AUTH username pass'. Needs -a.\n"
    " -u <uri>           Server URI: redis://, rediss:// (TLS) or kettle://[user:pass@]host[:port][/db].\n"
    " -c <clients>       Number of parallel connections (default 50)\n"
    " -n <requests>      Total number of requests (default 100000)\n"
    " -d <size>          Data size of SET/GET value in bytes (default 3)\n"
    " --dbnum <db>       SELECT the specified db number (default 0)\n"
    " -3                 Start session in RESP3 protocol mode.\n"
    " --threads <num>    Enable multi-thread mode.\n"
    " --enable-tracking  Send CLIENT TRACKING on before starting benchmark.\n"
    " -k <boolean>       1=keep alive 0=reconnect (default 1)\n"
    " -r <keyspacelen>   Use random keys for SET/GET/INCR, random values for SADD,\n"
    "                    random members and scores for ZADD.\n"
    "                    Using this option the benchmark will expand the string\n"
    "                    __rand_int__ inside an argument with a 12 digits number in\n"
    "                    the specified range from 0 to keyspacelen-1. The\n"
    "                    substitution changes every time a command is executed.\n"
    "                    Note: If -r is omitted, all commands in a benchmark will\n"
    "                    use the same key.\n"
    " --seed <num>       Seed of the random numbers (default: a new one each time).\n"
    " -P <numreq>        Pipeline <numreq> requests. Default 1 (no pipeline).\n"
    " --cpu-of <pid>     Report the CPU time, too, that this process (the server, on this machine) uses meanwhile.\n"
    " --rps <num>        Send at most so many requests a second, evenly spaced (default 0: as many as go).\n"
    " -q                 Quiet. Just show query/sec values\n"
    " --precision <n>    Number of decimal places to display in latency output (default 3)\n"
    " --csv              Output in CSV format\n"
    " -l                 Loop. Run the tests forever\n"
    " -t <tests>         Only run the comma separated list of tests: ping_inline, ping_mbulk, ping, set,\n"
    "                    get, incr, lpush, rpush, lpop, rpop, sadd, hset, spop, zadd, zpopmin, lrange,\n"
    "                    lrange_100, lrange_300, lrange_500, lrange_600, mset.\n"
    " -I                 Idle mode. Just open N idle connections and wait.\n"
    " -e                 Show errors of the server as they come, one a second at most.\n"
    "                    They are counted without it too.\n"
    " -x                 Read last argument from STDIN.\n";

static const char *const usage_tail =
    " --help             Output this help and exit.\n"
    " --version          Output version and exit.\n"
    "\n"
    "Exit status: 0; 1 when the server answered a request with an error, or a connection failed.\n"
    "\n"
    "Examples:\n"
    "\n"
    " Use 20 parallel clients, for a total of 100k requests, against 192.168.1.1:\n"
    "   $ kettle-benchmark -h 192.168.1.1 -p 6379 -n 100000 -c 20\n"
    "\n"
    " Fill 127.0.0.1:6379 with about 1 million keys only using the SET test:\n"
    "   $ kettle-benchmark -t set -n 1000000 -r 100000000\n"
    "\n"
    " What TLS costs, a request at a time and in pipelines of 16:\n"
    "   $ kettle-benchmark --tls --cacert ca.crt -t set,get -q\n"
    "   $ kettle-benchmark --tls --cacert ca.crt -t set,get -q -P 16\n"
    "\n"
    " Handshakes: a new connection for each request:\n"
    "   $ kettle-benchmark --tls --cacert ca.crt -t ping_mbulk -k 0 -n 2000\n"
    "\n"
    " Fill a list with 10000 random elements:\n"
    "   $ kettle-benchmark -r 10000 -n 10000 lpush mylist __rand_int__\n";

void bench_usage(void) {
    printf("kettle-benchmark %s\n\n", TOOL_VERSION);
    fputs(usage_head, stdout);
    tool_tls_usage(" ");
    fputs(usage_tail, stdout);
}

static long at_least(const char *word, long min) {
    long v = strtol(word, NULL, 10);
    return v < min ? min : v;
}

static bool is(const char *word, const char *opt) {
    return strcmp(word, opt) == 0;
}

static bool flag_option(struct bench_cfg *cfg, const char *opt) {
    const struct {
        const char *name;
        bool *dst;
    } table[] = { { "-q", &cfg->quiet },       { "--csv", &cfg->csv },
                  { "-l", &cfg->loop },        { "-I", &cfg->idle },
                  { "-e", &cfg->show_errors }, { "-x", &cfg->stdin_last },
                  { "-3", &cfg->resp3 },       { "--enable-tracking", &cfg->tracking } };
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++) {
        if (is(opt, table[i].name)) {
            *table[i].dst = true;
            return true;
        }
    }
    if (is(opt, "--help")) {
        bench_usage();
        exit(0);
    }
    if (is(opt, "-v") || is(opt, "--version")) {
        printf("kettle-benchmark %s\n", TOOL_VERSION);
        exit(0);
    }
    return false;
}

static void take_tests(struct bench_cfg *cfg, const char *word) {
    cfg->tests = word;
    for (const char *p = word; *p;) {
        size_t n = strcspn(p, ",");
        if (n > 0 && !bench_is_test_name(p, n)) {
            fprintf(stderr, "Unknown test '%.*s' (see --help)\n", (int)n, p);
            exit(1);
        }
        p += n + (p[n] == ',');
    }
}

static bool value_option(struct bench_cfg *cfg, const char *opt, const char *word) {
    if (is(opt, "-c"))
        cfg->clients = at_least(word, 1);
    else if (is(opt, "-n"))
        cfg->requests = at_least(word, 1);
    else if (is(opt, "-d"))
        cfg->data_len = at_least(word, 1);
    else if (is(opt, "-P"))
        cfg->pipeline = at_least(word, 1);
    else if (is(opt, "-k"))
        cfg->keep_alive = tool_int(word) != 0;
    else if (is(opt, "-r")) {
        cfg->random_keys = true;
        cfg->keyspace = (uint64_t)at_least(word, 0);
    } else if (is(opt, "-t"))
        take_tests(cfg, word);
    else if (is(opt, "--threads"))
        cfg->threads = at_least(word, 1);
    else if (is(opt, "--dbnum"))
        cfg->target.db = tool_int(word);
    else if (is(opt, "--seed"))
        cfg->seed = strtoull(word, NULL, 10);
    else if (is(opt, "--cpu-of"))
        cfg->cpu_of = at_least(word, 0);
    else if (is(opt, "--rps"))
        cfg->rps = at_least(word, 0);
    else if (is(opt, "--precision"))
        cfg->precision = (int)at_least(word, 0);
    else
        return false;
    return true;
}

static void limit(struct bench_cfg *cfg) {
    if (cfg->data_len > 1024L * 1024 * 1024) cfg->data_len = 1024L * 1024 * 1024;
    if (cfg->threads > 500) cfg->threads = 500;
    if (cfg->precision > 6) cfg->precision = 6;
    if (cfg->clients > 1000000) cfg->clients = 1000000;
}

void bench_opts_parse(struct bench_cfg *cfg, int argc, char **argv) {
    *cfg =
        (struct bench_cfg){ .clients = 50, .requests = 100000, .data_len = 3, .pipeline = 1, .keep_alive = true, .precision = 3 };
    tool_target_init(&cfg->target);
    const char *pass = getenv("KETTLECLI_AUTH");
    if (!pass) pass = getenv("REDISCLI_AUTH");
    if (pass && *pass) cfg->target.pass = pass;

    int i;
    for (i = 1; i < argc; i++) {
        if (tool_opt_parse(&cfg->target, argc, argv, &i) || flag_option(cfg, argv[i])) continue;
        if (i + 1 < argc && value_option(cfg, argv[i], argv[i + 1])) {
            i++;
            continue;
        }
        if (argv[i][0] == '-') {
            fprintf(stderr, "Invalid option \"%s\" or option argument missing\n\nTry kettle-benchmark --help\n", argv[i]);
            exit(1);
        }
        break;
    }
    cfg->argc = argc - i;
    cfg->argv = argv + i;
    limit(cfg);
}
