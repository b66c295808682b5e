/*
 * ktls-probe: tells whether this kernel can do TLS, what of it, and what to do where it cannot.
 * Exit status: 0 the kernel can (at least one suite, both directions), 1 it cannot, 2 wrong usage.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ktls.h"

static const char *const version_name[KTLS_N_VERSIONS] = { "TLSv1.2", "TLSv1.3" };
static const char *const cipher_name[KTLS_N_CIPHERS] = { "AES-128-GCM", "AES-256-GCM", "CHACHA20-POLY1305", "AES-128-CCM" };

static const char usage[] = "Usage: ktls-probe [--json]\n"
                            "\n"
                            "Finds out, by sending and receiving data over the loopback interface, which TLS versions and\n"
                            "ciphers this kernel encrypts (TX) and decrypts (RX) on a socket; and names the known holes of its\n"
                            "TLS that its version, and its package's changelog, leave open.\n"
                            "\n"
                            "  --json   the result as one JSON object\n"
                            "  --help   this text\n"
                            "\n"
                            "Exit status: 0 kernel TLS works, 1 it does not, 2 wrong usage.\n";

/* "yes", or the name of the errno. */
static const char *answer(int err) {
    return err == 0 ? "yes" : ktls_strerror(-err);
}

static void print_table(const struct ktls_probe *p) {
    printf("kernel %s\n\n%-8s %-18s %-12s %s\n", p->kernel, "version", "cipher", "TX", "RX");
    for (int v = 0; v < KTLS_N_VERSIONS; v++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++)
            printf("%-8s %-18s %-12s %s\n", version_name[v], cipher_name[c], answer(p->result[v][c][KTLS_TX]),
                   answer(p->result[v][c][KTLS_RX]));
    printf("\nrekey (KeyUpdate)      %s\nTLS_RX_EXPECT_NO_PAD   %s\nrecord numbers told    %s\n\n", answer(p->rekey),
           answer(p->expect_no_pad), answer(p->read_seq));
}

/* What each kind of "no" in the table means. */
static void print_reasons(const struct ktls_probe *p) {
    if (!p->usable) {
        printf("Kernel TLS does not work here: %s (%s).\n%s\n", ktls_reason_name(p->reason), ktls_strerror(-p->err),
               ktls_reason_remedy(p->reason));
        return;
    }
    printf("Kernel TLS works.\n");
    for (int v = 0; v < KTLS_N_VERSIONS; v++)
        for (int c = 0; c < KTLS_N_CIPHERS; c++)
            if (p->result[v][c][KTLS_TX] || p->result[v][c][KTLS_RX])
                printf("%s %s: connections that negotiate it are served in userspace. %s\n", version_name[v], cipher_name[c],
                       ktls_reason_remedy(KTLS_REASON_CIPHER));
    if (p->rekey)
        printf("A connection whose peer sends KeyUpdate is closed in order: changing keys needs Linux 6.14 or later.\n");
    if (p->expect_no_pad == EBADMSG)
        printf("TLS_RX_EXPECT_NO_PAD is not used: this kernel garbles padded records with it.\n");
    else if (p->expect_no_pad)
        printf("TLS_RX_EXPECT_NO_PAD needs Linux 6.0 or later.\n");
}

#define ADVISORIES_MAX 16

/* Known holes of this kernel; at most ADVISORIES_MAX. */
static int advisories(struct ktls_advisory *a) {
    int n = ktls_kernel_advisories(NULL, NULL, NULL, a, ADVISORIES_MAX);
    return n > ADVISORIES_MAX ? ADVISORIES_MAX : n;
}

static void print_advisories(void) {
    struct ktls_advisory a[ADVISORIES_MAX];
    int n = advisories(a);
    if (n < 0) printf("The kernel's version is not understood: known holes cannot be told.\n");
    for (int i = 0; i < n; i++)
        printf("%s: %s%s. %s%s.\n", a[i].cve, a[i].effect, a[i].peer ? " (a peer alone can)" : "",
               *a[i].fixed_in ? "Fixed in Linux " : "This kernel's stable branch has no fix; a distribution's kernel may",
               a[i].fixed_in);
}

static void print_advisories_json(void) {
    struct ktls_advisory a[ADVISORIES_MAX];
    int n = advisories(a);
    printf(",\"advisories\":[");
    for (int i = 0; i < n; i++)
        printf("%s{\"cve\":\"%s\",\"effect\":\"%s\",\"peer\":%s,\"fixed_in\":\"%s\"}", i ? "," : "", a[i].cve, a[i].effect,
               a[i].peer ? "true" : "false", a[i].fixed_in);
    putchar(']');
}

static void print_result_json(const char *key, int err) {
    printf("\"%s\":{\"ok\":%s,\"errno\":\"%s\"}", key, err ? "false" : "true", err ? ktls_strerror(-err) : "");
}

static void print_json(const struct ktls_probe *p) {
    /* uname release: letters, digits, dots, dashes; anything else is left out rather than escaped */
    printf("{\"kernel\":\"");
    for (const char *s = p->kernel; *s; s++)
        if (*s >= ' ' && *s != '"' && *s != '\\') putchar(*s);
    printf("\",\"usable\":%s,\"reason\":\"%s\",\"errno\":\"%s\",\"remedy\":\"%s\",\"suites\":[", p->usable ? "true" : "false",
           ktls_reason_name(p->reason), p->err ? ktls_strerror(-p->err) : "", p->usable ? "" : ktls_reason_remedy(p->reason));
    for (int v = 0; v < KTLS_N_VERSIONS; v++) {
        for (int c = 0; c < KTLS_N_CIPHERS; c++) {
            printf("%s{\"version\":\"%s\",\"cipher\":\"%s\",", v + c ? "," : "", version_name[v], cipher_name[c]);
            print_result_json("tx", p->result[v][c][KTLS_TX]);
            putchar(',');
            print_result_json("rx", p->result[v][c][KTLS_RX]);
            putchar('}');
        }
    }
    printf("],");
    print_result_json("rekey", p->rekey);
    putchar(',');
    print_result_json("expect_no_pad", p->expect_no_pad);
    print_advisories_json();
    putchar(',');
    print_result_json("read_seq", p->read_seq);
    printf("}\n");
}

int main(int argc, char **argv) {
    int json = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            json = 1;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            fputs(usage, stdout);
            return 0;
        } else {
            fputs(usage, stderr);
            return 2;
        }
    }
    struct ktls_probe p;
    int r = ktls_probe(&p);
    if (r < 0) fprintf(stderr, "ktls-probe: no TCP connection over the loopback interface: %s\n", ktls_strerror(r));
    if (json) {
        print_json(&p);
    } else {
        print_table(&p);
        print_reasons(&p);
        print_advisories();
    }
    return p.usable ? 0 : 1;
}
