/*
 * Known holes of kernel TLS, and whether a kernel has them.
 *
 * Place in the flow: at start-up, before the policy is chosen; and ktls-probe. Any thread; no state. Nothing here refuses
 * anything: the caller warns, and decides.
 *
 * Ranges are those of the kernel.org CVE records, per stable branch. A distribution's kernel is of an older branch with fixes
 * ported to it, so its version alone says too much: where the changelog of its package can be read, and it names the CVE or the
 * fix (commit title), at or below the entry of the version that runs, the hole counts as closed. (A newer package may be
 * installed than the one that was booted.)
 *
 * What a hole means here is said by `peer`: 1 when the bytes of whoever is connected are enough to corrupt the kernel's memory.
 * Then not using kernel TLS closes it, for what this process serves. Holes that need a process on the machine are as open without
 * us; those that need a race in the kernel, or an asynchronous crypto driver, are told and weigh less.
 */
#include "ktls_internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ktls_gunzip.h"

#define CHANGELOG_MAX (8u << 20)       /* packed */
#define CHANGELOG_TEXT_MAX (64u << 20) /* unpacked */
#define BRANCHES_MAX 8

struct version {
    int major, minor, patch;
};

/* In the branch major.minor: open from patch `from` on, closed by patch `fixed` (0: never). */
struct branch {
    int major, minor, from, fixed;
};

struct hole {
    const char *cve, *title, *effect;
    int peer;
    int since[2];                         /* first mainline release that has it; */
    int fixed[2];                         /* first that has not */
    struct branch branches[BRANCHES_MAX]; /* branches that differ from that; ends with major 0 */
};

/* Sources: the CVE records of kernel.org's CNA (cvelistV5); for CVE-2023-0461 the list of linux_kernel_cves; 6.1.185 for
 * CVE-2025-38616 from Debian's changelog of 6.1.187-1, which the record does not have yet. */
static const struct hole holes[] = {
    { "CVE-2025-39682",
      "tls: fix handling of zero-length records on the rx_list",
      "a peer can corrupt kernel memory with zero-length records",
      1,
      { 6, 0 },
      { 6, 17 },
      { { 6, 1, 0, 149 }, { 6, 6, 0, 103 }, { 6, 12, 0, 44 }, { 6, 16, 0, 4 } } },
    { "CVE-2025-39946",
      "tls: make sure to abort the stream if headers are bogus",
      "a peer can write past a kernel buffer with bogus record headers",
      1,
      { 6, 0 },
      { 6, 17 },
      { { 6, 1, 0, 154 }, { 6, 6, 0, 108 }, { 6, 12, 0, 49 }, { 6, 16, 0, 9 } } },
    { "CVE-2025-38616",
      "tls: handle data disappearing from under the TLS ULP",
      "a local process can use freed kernel memory by reading a socket beside TLS",
      0,
      { 6, 0 },
      { 6, 17 },
      { { 6, 1, 0, 185 }, { 6, 6, 0, 103 }, { 6, 12, 0, 43 }, { 6, 15, 0, 11 }, { 6, 16, 0, 2 } } },
    { "CVE-2026-23240",
      "tls: Fix race condition in tls_sw_cancel_work_tx()",
      "a race between close and a late acknowledgement can use freed kernel memory",
      0,
      { 5, 3 },
      { 7, 0 },
      { { 6, 12, 0, 75 }, { 6, 18, 0, 16 }, { 6, 19, 0, 6 } } },
    { "CVE-2026-23414",
      "tls: Purge async_hold in tls_decrypt_async_wait()",
      "kernel memory leaks where decryption is asynchronous and memory is short",
      0,
      { 6, 18 },
      { 7, 0 },
      { { 6, 1, 158, 168 }, { 6, 6, 114, 131 }, { 6, 12, 55, 80 }, { 6, 17, 5, 0 }, { 6, 18, 0, 21 }, { 6, 19, 0, 11 } } },
    { "CVE-2023-0461",
      "net/ulp: prevent ULP without clone op from entering the LISTEN status",
      "a local process can use freed kernel memory through a TLS socket that listens",
      0,
      { 4, 13 },
      { 6, 2 },
      { { 4, 14, 0, 303 }, { 4, 19, 0, 270 }, { 5, 4, 0, 229 }, { 5, 10, 0, 163 }, { 5, 15, 0, 88 }, { 6, 1, 0, 5 } } },
};

/* ---- Versions ---- */

/* "6.1.192-2": the numbers at the start. False: there are not at least two. */
static bool parse_version(const char *s, struct version *ret) {
    int n = sscanf(s, "%4d.%4d.%5d", &ret->major, &ret->minor, &ret->patch);
    if (n < 2 || ret->major < 0 || ret->minor < 0) return false;
    if (n < 3 || ret->patch < 0) ret->patch = 0;
    return true;
}

/* The version of the distribution's package ("6.1.192-2", "6.8.0-45.45") out of uname's version or Ubuntu's version signature; ""
 * when there is none. *ret_upstream: where the upstream version stands. */
static void package_version(const char *text, char *ret, size_t cap, const char **ret_upstream) {
    static const char debian[] = "Debian ", ubuntu[] = "Ubuntu ";
    const char *p = text ? strstr(text, debian) : NULL;
    ret[0] = 0;
    *ret_upstream = NULL;
    if (p) {
        p += sizeof debian - 1;
        *ret_upstream = p;
        snprintf(ret, cap, "%.*s", (int)strcspn(p, " \n"), p);
    } else if (text && strncmp(text, ubuntu, sizeof ubuntu - 1) == 0) {
        p = text + sizeof ubuntu - 1;
        size_t len = strcspn(p, " \n");
        *ret_upstream = p[len] == ' ' ? p + len + 1 : NULL;
        snprintf(ret, cap, "%.*s", (int)len, p);
        char *dash = strrchr(ret, '-'); /* "-generic" */
        if (dash && isalpha((unsigned char)dash[1])) *dash = 0;
    }
}

static const struct branch *branch_of(const struct hole *h, struct version v) {
    for (int i = 0; i < BRANCHES_MAX && h->branches[i].major; i++)
        if (h->branches[i].major == v.major && h->branches[i].minor == v.minor) return &h->branches[i];
    return NULL;
}

static bool before(struct version v, const int limit[2]) {
    return v.major != limit[0] ? v.major < limit[0] : v.minor < limit[1];
}

static bool has_hole(const struct hole *h, struct version v) {
    const struct branch *b = branch_of(h, v);
    if (b) return v.patch >= b->from && (b->fixed == 0 || v.patch < b->fixed);
    return !before(v, h->since) && before(v, h->fixed);
}

/* ---- The distribution's changelog ---- */

/* A whole file, plain or gzipped, as text. NULL: cannot be read. */
static char *read_text(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    struct stat st;
    uint8_t *raw = NULL, *text = NULL;
    size_t len = 0, text_len;
    if (fd < 0) return NULL;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size < CHANGELOG_MAX) raw = malloc((size_t)st.st_size + 1);
    while (raw && len < (size_t)st.st_size) {
        ssize_t n = read(fd, raw + len, (size_t)st.st_size - len);
        if (n <= 0) break;
        len += (size_t)n;
    }
    close(fd);
    if (!raw) return NULL;
    raw[len] = 0;
    if (len < 2 || raw[0] != 0x1f || raw[1] != 0x8b) return (char *)raw;
    int r = ktls_gunzip(raw, len, CHANGELOG_TEXT_MAX, &text, &text_len);
    free(raw);
    return r == 0 ? (char *)text : NULL;
}

/* Where the entry of the package version begins. NULL: it is not there. Signed packages write 6.1.192+2 for 6.1.192-2. */
static const char *entry_of(const char *text, const char *package) {
    char wanted[80];
    snprintf(wanted, sizeof wanted, "(%s)", package);
    const char *p = strstr(text, wanted);
    if (p) return p;
    char *dash = strchr(wanted, '-');
    if (!dash) return NULL;
    *dash = '+';
    return strstr(text, wanted);
}

static char *find_changelog(const char *release) {
    static const char *const names[] = { "/usr/share/doc/linux-image-%s/changelog.gz",
                                         "/usr/share/doc/linux-image-%s/changelog.Debian.gz",
                                         "/usr/share/doc/linux-image-unsigned-%s/changelog.Debian.gz" };
    char path[160];
    if (strchr(release, '/') || strlen(release) > 64) return NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *at = strstr(names[i], "%s");
        snprintf(path, sizeof path, "%.*s%s%s", (int)(at - names[i]), names[i], release, at + 2);
        char *text = read_text(path);
        if (text) return text;
    }
    return NULL;
}

/* ---- The answer ---- */

static void describe(const struct hole *h, struct version v, struct ktls_advisory *ret) {
    const struct branch *b = branch_of(h, v);
    *ret = (struct ktls_advisory){ .cve = h->cve, .effect = h->effect, .peer = h->peer };
    if (b && b->fixed) snprintf(ret->fixed_in, sizeof ret->fixed_in, "%d.%d.%d", b->major, b->minor, b->fixed);
}

static int collect(struct version v, const char *changelog, struct ktls_advisory *ret, int cap) {
    int n = 0;
    for (size_t i = 0; i < sizeof holes / sizeof holes[0]; i++) {
        const struct hole *h = &holes[i];
        if (!has_hole(h, v)) continue;
        if (changelog && (strstr(changelog, h->cve) || strstr(changelog, h->title))) continue;
        if (n < cap) describe(h, v, &ret[n]);
        n++;
    }
    return n;
}

int ktls_kernel_advisories(const char *release, const char *version, const char *changelog, struct ktls_advisory *ret, int cap) {
    struct utsname uts;
    char package[64];
    const char *upstream;
    struct version v;
    char *signature = NULL, *text = NULL;
    bool running = release == NULL;
    if (running) {
        if (uname(&uts) < 0) return -errno;
        release = uts.release;
        signature = version ? NULL : read_text("/proc/version_signature"); /* Ubuntu */
        if (!version) version = signature && *signature ? signature : uts.version;
    }
    package_version(version, package, sizeof package, &upstream);
    int n = -EINVAL;
    if ((upstream && parse_version(upstream, &v)) || parse_version(release, &v)) {
        n = collect(v, NULL, ret, cap);
        if (n > 0) text = changelog ? read_text(changelog) : running ? find_changelog(release) : NULL;
        const char *from = text && *package ? entry_of(text, package) : text;
        if (from) n = collect(v, from, ret, cap);
    }
    free(text);
    free(signature);
    return n;
}
