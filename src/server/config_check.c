/*
 * Directives whose value is text with a grammar of its own. Redis's checks and messages. Callers hold c->lock (or are the only
 * thread).
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/str.h"
#include "base/thread.h"
#include "server/config_priv.h"

static const char *check_template(int n, const struct slice *words) {
    static const char *const vars[] = { "{title}",    "{listen-addr}", "{server-mode}", "{port}",
                                        "{tls-port}", "{unixsocket}",  "{config-file}" };
    struct slice t = words[0];
    (void)n;
    for (size_t i = 0; i < t.len; i++) {
        if (t.ptr[i] != '{') continue;
        bool known = false;
        for (size_t k = 0; k < sizeof vars / sizeof *vars; k++)
            known |= t.len - i >= strlen(vars[k]) && memcmp(t.ptr + i, vars[k], strlen(vars[k])) == 0;
        if (!known) return "template format is invalid or contains unknown variables";
    }
    return NULL;
}

static const char *check_oom_values(int n, const struct slice *words) {
    int64_t v[3];
    if (n != 3) return "wrong number of arguments";
    for (int i = 0; i < 3; i++)
        if (!str_to_ll(words[i], &v[i]) || v[i] < -2000 || v[i] > 2000)
            return "Invalid oom-score-adj-values, elements must be between -2000 and 2000.";
    if (v[1] < v[0] || v[2] < v[1])
        log_warning(
            "oom-score-adj-values: a replica, or a background child, is given less than what it should outlive has. Only a "
            "privileged process may lower its value.");
    return NULL;
}

static const char *check_cpulist(int n, const struct slice *words) {
    cpu_set_t set;
    (void)n;
    if (words[0].len == 0 || thread_parse_cpus(words[0], &set) == 0) return NULL;
    return "argument must be a list of processors, such as 0,2-5,8-20:2";
}

static const char *check_shutdown_on(int n, const struct slice *words) {
    static const char *const known[] = { "default", "save", "nosave", "now", "force" };
    bool save = false, nosave = false, with_default = false;
    for (int i = 0; i < n; i++) {
        size_t k = 0;
        while (k < sizeof known / sizeof *known && !slice_ieq(words[i], known[k])) k++;
        if (k == sizeof known / sizeof *known)
            return "argument(s) must be one of the following: default, save, nosave, now, force";
        with_default |= k == 0;
        save |= k == 1;
        nosave |= k == 2;
    }
    return (save && nosave) || (with_default && n > 1) ? "Invalid combination of flags" : NULL;
}

/* Bit i of the value is letter i here: what A stands for, in the order in which Redis shows them, then those it does not. */
static const char event_letters[] = "g$lshzxetdnKEm";
#define EVENTS_A 10u /* of the letters above */

unsigned config_event_bit(char letter) {
    const char *at = letter ? strchr(event_letters, letter) : NULL;
    return at ? 1u << (at - event_letters) : 0;
}

const char *config_events_parse(struct slice v, int64_t *ret) {
    unsigned on = 0;
    for (size_t i = 0; i < v.len; i++) {
        unsigned bit = v.ptr[i] == 'A' ? (1u << EVENTS_A) - 1 : config_event_bit(v.ptr[i]);
        if (!bit) return "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
        on |= bit;
    }
    *ret = on;
    return NULL;
}

/* Beside A, n is not shown: as redis-server has it. */
void config_events_text(int64_t on, struct buf *out) {
    const unsigned all = (1u << EVENTS_A) - 1;
    bool has_all = ((unsigned)on & all) == all;
    if (has_all) buf_append_char(out, 'A');
    for (unsigned i = 0; event_letters[i]; i++)
        if (((unsigned)on & 1u << i) && !(has_all && i <= EVENTS_A)) buf_append_char(out, event_letters[i]);
}

static bool is_path(struct slice s) {
    return memchr(s.ptr, '/', s.len) || memchr(s.ptr, '\\', s.len);
}

static const char *check_appendfilename(int n, const struct slice *words) {
    if (n != 1 || words[0].len == 0) return "appendfilename can't be empty";
    return is_path(words[0]) ? "appendfilename can't be a path, just a filename" : NULL;
}

static const char *check_appenddirname(int n, const struct slice *words) {
    if (n != 1 || words[0].len == 0) return "appenddirname can't be empty";
    return is_path(words[0]) ? "appenddirname can't be a path, just a dirname" : NULL;
}

const char *directive_check(const char *name, int n, const struct slice *words) {
    static const struct {
        const char *name;
        const char *(*check)(int n, const struct slice *words);
    } checks[] = {
        { "proc-title-template", check_template },   { "oom-score-adj-values", check_oom_values },
        { "shutdown-on-sigint", check_shutdown_on }, { "shutdown-on-sigterm", check_shutdown_on },
        { "appendfilename", check_appendfilename },  { "appenddirname", check_appenddirname },
        { "server-cpulist", check_cpulist },         { "bio-cpulist", check_cpulist },
        { "aof-rewrite-cpulist", check_cpulist },    { "bgsave-cpulist", check_cpulist },
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (strcmp(checks[i].name, name) == 0) return checks[i].check(n, words);
    return NULL;
}
