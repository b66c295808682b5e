/* Connection options shared by the tools.
 *
 * Flow: main() of a tool walks argv and offers each word here first; what is not a connection option is the tool's own. The
 * result, a struct tool_target, is handed to tool_conn.c for every connection made later.
 * Threads: the main thread, before others exist. */
#include "tools/tool_opts.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

static bool pass_given;

void tool_target_init(struct tool_target *t) {
    *t = (struct tool_target){ .host = "127.0.0.1", .port = 6379 };
}

bool tool_pass_on_command_line(void) {
    return pass_given;
}

char *tool_keep(char *ptr_take) {
    static char **kept; /* reachable at exit, so leak checkers see what it is */
    static size_t n;
    if (ptr_take) {
        kept = mem_realloc(kept, (n + 1) * sizeof(*kept));
        kept[n++] = ptr_take;
    }
    return ptr_take;
}

int tool_int(const char *s) {
    long v = strtol(s, NULL, 10);
    if (v > INT_MAX) return INT_MAX;
    return v < INT_MIN ? INT_MIN : (int)v;
}

void tool_target_text(const struct tool_target *t, char *out, unsigned cap) {
    if (t->unix_path)
        snprintf(out, cap, "%s", t->unix_path);
    else
        snprintf(out, cap, strchr(t->host, ':') ? "[%s]:%d" : "%s:%d", t->host, t->port);
}

/* ---- URI ---- */

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* RFC 3986 2.1; a '%' without two hex digits stands for itself. Kept until exit. */
static char *percent_decode(const char *s, size_t len) {
    char *out = mem_alloc(len + 1);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '%' && len - i > 2 && hex_digit(s[i + 1]) >= 0 && hex_digit(s[i + 2]) >= 0) {
            out[n++] = (char)(hex_digit(s[i + 1]) * 16 + hex_digit(s[i + 2]));
            i += 2;
        } else {
            out[n++] = s[i];
        }
    }
    out[n] = '\0';
    return tool_keep(out);
}

static bool uri_scheme(struct tool_target *t, const char **p) {
    static const struct {
        const char *text;
        bool tls;
    } schemes[] = { { "redis://", false }, { "rediss://", true }, { "kettle://", false }, { "kettles://", true } };

    for (size_t i = 0; i < sizeof(schemes) / sizeof(*schemes); i++) {
        size_t n = strlen(schemes[i].text);
        if (strncasecmp(*p, schemes[i].text, n) == 0) {
            *p += n;
            t->tls.enabled = t->tls.enabled || schemes[i].tls;
            return true;
        }
    }
    return false;
}

/* host, host:port, [v6], [v6]:port; an empty host leaves the default. */
static void uri_authority(struct tool_target *t, const char *p, const char *end) {
    const char *host_end = end, *colon;
    if (p < end && *p == '[' && (colon = memchr(p, ']', (size_t)(end - p)))) {
        p++;
        host_end = colon;
        colon = colon + 1 < end && colon[1] == ':' ? colon + 1 : NULL;
    } else {
        colon = memchr(p, ':', (size_t)(end - p));
        if (colon) host_end = colon;
    }
    if (colon) t->port = tool_int(colon + 1);
    if (host_end > p) t->host = percent_decode(p, (size_t)(host_end - p));
}

int tool_uri_parse(struct tool_target *t, const char *uri) {
    const char *p = uri;
    if (!uri_scheme(t, &p)) return -EINVAL;

    const char *end = p + strcspn(p, "/?#");
    const char *at = memchr(p, '@', (size_t)(end - p));
    if (at) {
        const char *colon = memchr(p, ':', (size_t)(at - p));
        if (colon) {
            if (colon > p) t->user = percent_decode(p, (size_t)(colon - p));
            p = colon + 1;
        }
        t->pass = percent_decode(p, (size_t)(at - p));
        pass_given = true;
        p = at + 1;
    }
    uri_authority(t, p, end);
    if (*end == '/' && end[1]) t->db = tool_int(end + 1);
    return 0;
}

/* ---- options ---- */

static void take_secret(const char **dst, char *word) {
    *dst = tool_keep(mem_strdup(word));
    memset(word, '*', strlen(word));
    pass_given = true;
}

static void take_uri(struct tool_target *t, char *word) {
    if (tool_uri_parse(t, word) != 0) {
        fprintf(stderr, "Invalid URI scheme\n");
        exit(1);
    }
    if (t->pass) memset(word, '*', strlen(word));
}

/* Options followed by a word that is simply stored. */
static const char **string_option(struct tool_target *t, const char *opt) {
    const struct {
        const char *name;
        const char **dst;
    } table[] = {
        { "-h", &t->host },
        { "-s", &t->unix_path },
        { "--user", &t->user },
        { "--sni", &t->tls.sni },
        { "--cacert", &t->tls.ca_file },
        { "--cacertdir", &t->tls.ca_dir },
        { "--cert", &t->tls.cert_file },
        { "--key", &t->tls.key_file },
        { "--tls-ciphers", &t->tls.ciphers },
        { "--tls-ciphersuites", &t->tls.ciphersuites },
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(*table); i++)
        if (strcmp(opt, table[i].name) == 0) return table[i].dst;
    return NULL;
}

static bool flag_option(struct tool_target *t, const char *opt) {
    if (strcmp(opt, "--tls") == 0)
        t->tls.enabled = true;
    else if (strcmp(opt, "--insecure") == 0)
        t->tls.insecure = true;
    else if (strcmp(opt, "--no-verify-name") == 0)
        t->tls.no_verify_name = true;
    else if (strcmp(opt, "--no-resume") == 0)
        t->tls.no_resume = true;
    else
        return false;
    return true;
}

int tool_opt_parse(struct tool_target *t, int argc, char **argv, int *i) {
    assert(t);
    const char *opt = argv[*i];
    if (flag_option(t, opt)) return 1;
    if (*i + 1 >= argc) return 0;

    char *word = argv[*i + 1];
    const char **dst = string_option(t, opt);
    if (dst)
        *dst = word;
    else if (strcmp(opt, "-p") == 0)
        t->port = tool_int(word);
    else if (strcmp(opt, "-a") == 0 || strcmp(opt, "--pass") == 0)
        take_secret(&t->pass, word);
    else if (strcmp(opt, "-u") == 0)
        take_uri(t, word);
    else
        return 0;
    ++*i;
    return 1;
}

void tool_tls_usage(const char *indent) {
    static const char *const lines[] = {
        "--tls              Establish a secure TLS connection: by the kernel where it can, else in userspace.",
        "--sni <host>       Server name for TLS, sent and checked instead of the host given with -h.",
        "--cacert <file>    CA Certificate file to verify with.",
        "--cacertdir <dir>  Directory where trusted CA certificates are stored.",
        "                   If neither cacert nor cacertdir are specified, the default",
        "                   system-wide trusted root certs configuration will apply.",
        "--no-verify-name   Verify the certificate's chain, but not that it was issued for this host",
        "                   (what redis-cli does). By default both are verified.",
        "--insecure         Allow insecure TLS connection by skipping cert validation.",
        "--cert <file>      Client certificate to authenticate with.",
        "--key <file>       Private key file to authenticate with.",
        "--tls-ciphers <list> Sets the list of preferred ciphers (TLSv1.2 and below)",
        "                   in order of preference from highest to lowest separated by colon (\":\").",
        "--tls-ciphersuites <list> Sets the list of preferred ciphersuites (TLSv1.3), likewise.",
        "--no-resume        Do every TLS handshake in full. By default a reconnect resumes the session.",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(*lines); i++) printf("%s%s\n", indent, lines[i]);
}
