/*
 * Mailboxes of the I/O threads. See mail.h.
 *
 * When mail is delivered (always by the receiver's thread):
 * - before it looks at bytes that a client has sent: whatever was posted before the client sent them is written before their
 *   replies. So a client that knows that something was published (somebody was told so) finds it before the reply to its next
 *   command, as with a server of one thread;
 * - after each command: what the command posted to its own thread is written behind its reply;
 * - before it sleeps.
 *
 * A receiver slower than its senders must not gather mail without end: above BACKLOG_MAX bytes it counts as backed up, and the
 * commands that could send it more are put off (client_before_command) until it has caught up, which it does in its next turn.
 */
#include "server/mail.h"

#include "server/server.h"

#define BACKLOG_MAX (1 << 20)

static void wake_posted(struct io_thread *th, void *arg) {
    (void)arg;
    mail_deliver(th);
}

void mail_post(struct io_thread *to, struct mail *m) {
    size_t before = atomic_fetch_add_explicit(&to->mail.bytes, m->size, memory_order_relaxed);
    if (before < BACKLOG_MAX && before + m->size >= BACKLOG_MAX)
        atomic_fetch_add_explicit(&to->srv->n_backed_up, 1, memory_order_relaxed);
    if (inbox_push(&to->mail.box, &m->msg) && to != io_thread_self()) io_thread_post(to, wake_posted, NULL);
}

void mail_deliver(struct io_thread *th) {
    struct inbox_msg *m;
    if (th->mail.is_delivering) return;
    ks_let_go();
    th->mail.is_delivering = true;
    while ((m = inbox_take_all(&th->mail.box))) {
        size_t sum = 0;
        while (m) {
            struct inbox_msg *next = m->next;
            sum += list_entry(m, struct mail, msg)->size;
            m->run(m, th);
            m = next;
        }
        size_t before = atomic_fetch_sub_explicit(&th->mail.bytes, sum, memory_order_relaxed);
        if (before >= BACKLOG_MAX && before - sum < BACKLOG_MAX)
            atomic_fetch_sub_explicit(&th->srv->n_backed_up, 1, memory_order_relaxed);
    }
    th->mail.is_delivering = false;
}

void mail_done(struct io_thread *th) {
    mail_deliver(th);
}

bool mail_is_backed_up(struct io_thread *th) {
    int n = atomic_load_explicit(&th->srv->n_backed_up, memory_order_relaxed);
    if (__builtin_expect(n <= 0, 1)) return false;
    bool me = atomic_load_explicit(&th->mail.bytes, memory_order_relaxed) >= BACKLOG_MAX;
    return n > me;
}
