/* Figures of commands, by thread.
 *
 * Place in the flow: the dispatcher notes each command that ran; INFO reads. Thread: a slot is written by its own thread only,
 * with plain (relaxed) loads and stores.
 *
 * A reset must not race with a writer's load and store, and no lock is wanted: the reader of CONFIG RESETSTAT moves `epoch`. A
 * slot that is behind counts as zeros, and its owner clears it before it writes the next time. */
#include "cmd/figures.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/counter.h"

struct cmd_figures {
    _Atomic uint64_t calls, usec;
    _Atomic(struct hist *) latency; /* made at the first call */
};

struct slot {
    char apart[64]; /* from whatever the allocator put before it */
    _Atomic unsigned epoch;
    _Atomic uint64_t commands, ticks, dirty;
    struct cmd_figures cmds[];
};

struct figures {
    int n_cmds;
    _Atomic bool no_latency; /* latency-tracking no */
    _Atomic unsigned epoch;
    _Atomic(struct slot *) slots[FIGURES_SLOTS]; /* NULL: that thread has run nothing yet */
};

struct figures *figures_new(int n_cmds) {
    struct figures *f = mem_zalloc(sizeof *f);
    f->n_cmds = n_cmds;
    return f;
}

struct figures *figures_free(struct figures *f) {
    if (!f) return NULL;
    for (int i = 0; i < FIGURES_SLOTS; i++) {
        struct slot *s = atomic_load(&f->slots[i]);
        for (int c = 0; s && c < f->n_cmds; c++) hist_free(atomic_load(&s->cmds[c].latency));
        mem_free(s);
    }
    mem_free(f);
    return NULL;
}

static struct slot *slot_make(struct figures *f, unsigned slot) {
    struct slot *s = mem_zalloc(sizeof *s + (size_t)f->n_cmds * sizeof s->cmds[0]);
    atomic_store_explicit(&s->epoch, atomic_load(&f->epoch), memory_order_relaxed);
    atomic_store_explicit(&f->slots[slot], s, memory_order_release);
    return s;
}

static void slot_clear(struct figures *f, struct slot *s, unsigned epoch) {
    atomic_store_explicit(&s->commands, 0, memory_order_relaxed);
    atomic_store_explicit(&s->ticks, 0, memory_order_relaxed);
    for (int i = 0; i < f->n_cmds; i++) {
        atomic_store_explicit(&s->cmds[i].calls, 0, memory_order_relaxed);
        atomic_store_explicit(&s->cmds[i].usec, 0, memory_order_relaxed);
        struct hist *h = atomic_load_explicit(&s->cmds[i].latency, memory_order_relaxed);
        if (h) hist_reset(h);
    }
    atomic_store_explicit(&s->epoch, epoch, memory_order_release);
}

/* The caller's slot, up to date. */
static inline struct slot *slot_of(struct figures *f, unsigned slot) {
    struct slot *s = atomic_load_explicit(&f->slots[slot], memory_order_relaxed);
    if (__builtin_expect(!s, 0)) s = slot_make(f, slot);
    unsigned epoch = atomic_load_explicit(&f->epoch, memory_order_relaxed);
    if (__builtin_expect(atomic_load_explicit(&s->epoch, memory_order_relaxed) != epoch, 0)) slot_clear(f, s, epoch);
    return s;
}

void figures_note(struct figures *f, unsigned slot, const struct cmd *cmd, uint64_t usec) {
    struct cmd_figures *c = &slot_of(f, slot)->cmds[cmd->id];
    counter_add(&c->calls, 1);
    counter_add(&c->usec, usec);
    if (__builtin_expect(atomic_load_explicit(&f->no_latency, memory_order_relaxed), 0)) return;
    struct hist *h = atomic_load_explicit(&c->latency, memory_order_relaxed);
    if (__builtin_expect(!h, 0)) {
        h = hist_new();
        atomic_store_explicit(&c->latency, h, memory_order_release);
    }
    hist_add_own(h, usec);
}

void figures_keep_latency(struct figures *f, bool on) {
    atomic_store_explicit(&f->no_latency, !on, memory_order_relaxed);
}

void figures_count(struct figures *f, unsigned slot, uint64_t ticks) {
    struct slot *s = slot_of(f, slot);
    counter_add(&s->commands, 1);
    counter_add(&s->ticks, ticks);
}

void figures_add_dirty(struct figures *f, unsigned slot, uint64_t n) {
    counter_add(&slot_of(f, slot)->dirty, n);
}

uint64_t figures_dirty_of(const struct figures *f, unsigned slot) {
    struct slot *s = atomic_load_explicit(&f->slots[slot], memory_order_relaxed);
    return s ? atomic_load_explicit(&s->dirty, memory_order_relaxed) : 0;
}

/* Not a statistic: a reset leaves it alone. */
uint64_t figures_dirty(const struct figures *f) {
    uint64_t n = 0;
    for (int i = 0; i < FIGURES_SLOTS; i++) {
        const struct slot *s = atomic_load_explicit(&f->slots[i], memory_order_acquire);
        if (s) n += counter_get(&s->dirty);
    }
    return n;
}

/* The slot if it counts: used, and not from before the last reset. */
static const struct slot *readable(const struct figures *f, int i) {
    const struct slot *s = atomic_load_explicit(&f->slots[i], memory_order_acquire);
    if (!s || atomic_load_explicit(&s->epoch, memory_order_acquire) != atomic_load(&f->epoch)) return NULL;
    return s;
}

void figures_of(const struct figures *f, const struct cmd *cmd, uint64_t *ret_calls, uint64_t *ret_usec) {
    *ret_calls = *ret_usec = 0;
    for (int i = 0; i < FIGURES_SLOTS; i++) {
        const struct slot *s = readable(f, i);
        if (!s) continue;
        *ret_calls += counter_get(&s->cmds[cmd->id].calls);
        *ret_usec += counter_get(&s->cmds[cmd->id].usec);
    }
}

void figures_latency(const struct figures *f, const struct cmd *cmd, struct hist *into) {
    for (int i = 0; i < FIGURES_SLOTS; i++) {
        const struct slot *s = readable(f, i);
        const struct hist *h = s ? atomic_load_explicit(&s->cmds[cmd->id].latency, memory_order_acquire) : NULL;
        if (h) hist_merge(into, h);
    }
}

uint64_t figures_commands(const struct figures *f) {
    uint64_t n = 0;
    for (int i = 0; i < FIGURES_SLOTS; i++) {
        const struct slot *s = readable(f, i);
        if (s) n += counter_get(&s->commands);
    }
    return n;
}

uint64_t figures_usec(const struct figures *f) {
    uint64_t ticks = 0;
    for (int i = 0; i < FIGURES_SLOTS; i++) {
        const struct slot *s = readable(f, i);
        if (s) ticks += counter_get(&s->ticks);
    }
    return clock_ticks_us(ticks);
}

void figures_reset(struct figures *f) {
    atomic_fetch_add(&f->epoch, 1);
}
