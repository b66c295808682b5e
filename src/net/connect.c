/* A connection to another server, up to the end of the TLS handshake.
 *
 * Place in the flow: replica link, MIGRATE and tools come here first, then net/syncio moves their bytes, or an event loop does.
 * Thread: the caller's, which waits; never an I/O thread's, but for those that may wait. */
#include "net/connect.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/listen.h"

void net_error_text(const struct syncio *s, int rc, char *err, size_t cap) {
    const char *text = NULL;
    if (s->tls && (rc <= -5000 || rc == -EIO)) text = ktls_conn_error(s->tls)->text;
    if (!text) text = rc <= -5000 ? ktls_strerror(rc) : strerrordesc_np(-rc);
    snprintf(err, cap, "%s", text ? text : "unknown error");
}

/* Errors with a name every script knows; others (name resolution, binding) are told by who met them. */
static bool is_plain(int e) {
    static const int plain[] = { ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EHOSTUNREACH, ENOENT, EACCES, ECONNRESET };
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++)
        if (e == plain[i]) return true;
    return false;
}

/* why: the words of net/listen.h, which begin with the host where that could not be resolved. */
static void note_reason(const struct net_connect_opts *o, int rc, const char *why, char *err, size_t cap) {
    size_t n = o->unix_path ? 0 : strlen(o->host);
    if (n > 0 && strncmp(why, o->host, n) == 0 && strncmp(why + n, ": ", 2) == 0) why += n + 2;
    const char *plain = is_plain(-rc) || !*why ? strerrordesc_np(-rc) : why;
    snprintf(err, cap, "%s", plain ? plain : "unknown error");
}

static int open_socket(struct syncio *s, const struct net_connect_opts *o, int64_t deadline_us, char *err, size_t cap) {
    char why[256] = "";
    int fd = o->unix_path ? sock_connect_unix(o->unix_path, why, sizeof(why))
                          : sock_connect_tcp(o->host, o->port, o->source, deadline_us, why, sizeof(why));
    if (fd < 0) {
        note_reason(o, fd, why, err, cap);
        return fd;
    }
    s->fd = fd;
    if (!o->unix_path) sock_tune(fd, o->keepalive_s);
    return 0;
}

static int make_tls(struct syncio *s, const struct net_connect_opts *o) {
    const char *name = o->server_name ? o->server_name : o->unix_path ? NULL : o->host;
    int rc = ktls_conn_new(o->tls, s->fd, name, &s->tls);
    if (rc != 0) return rc;
    if (o->no_name_check) ktls_conn_set_no_name_check(s->tls);
    char peer[300];
    if (o->unix_path)
        snprintf(peer, sizeof(peer), "%s", o->unix_path);
    else
        snprintf(peer, sizeof(peer), strchr(o->host, ':') ? "[%s]:%d" : "%s:%d", o->host, o->port);
    return ktls_conn_set_peer(s->tls, peer);
}

/* Closes without a word: there is nobody to say it to. */
static int give_up(struct syncio *s, int rc, char *err, size_t cap) {
    net_error_text(s, rc, err, cap);
    syncio_close(s, 0);
    return rc;
}

int net_connect_start(struct syncio *s, const struct net_connect_opts *o, int64_t deadline_us, char *err, size_t cap) {
    *s = (struct syncio){ .fd = -1 };
    int rc = open_socket(s, o, deadline_us, err, cap);
    if (rc == 0 && o->tls && (rc = make_tls(s, o)) != 0) return give_up(s, rc, err, cap);
    return rc;
}

int net_connect(struct syncio *s, const struct net_connect_opts *o, int64_t deadline_us, char *err, size_t cap) {
    int rc = net_connect_start(s, o, deadline_us, err, cap);
    if (rc == 0 && (rc = syncio_handshake(s, deadline_us)) != 0) return give_up(s, rc, err, cap);
    return rc;
}
