/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A model of waiting, serving and unblocking (src/cmd/block.c, src/data/keyspace_block.c, src/server/client_block.c; docs/THREADS.md,
 * "Blocked clients"), for Spin: scripts/check-model runs it.
 *
 * Two shards, each with one key that holds a number of elements. Waiter 0 waits for key 0 and moves what it gets to key 1 (BLMOVE):
 * it is registered in shard 0 and needs both locks. Waiter 1 waits for key 1 and takes (BLPOP). A pusher pushes to key 0, another to key 1.
 * Each waiter has its client's thread, which blocks it, lets the deadline come at any moment, or closes, or just waits for its mail;
 * a third party sends CLIENT UNBLOCK or CLIENT KILL to one of them, at any moment.
 *
 * What is checked, in every interleaving:
 * - no deadlock: everybody ends, so nobody waits for mail that never comes (no lost wake-up);
 * - a waiter is freed once, and nobody touches it afterwards;
 * - one reply, at most, and the mail that brings it comes once;
 * - CLIENT UNBLOCK that says it has unblocked is right; nobody is served after CLIENT KILL or CLIENT UNBLOCK has replied;
 * - nothing is lost or doubled: elements pushed = left + given to a client + lost with a client that had ended;
 * - no element lies there while somebody who could take it waits, once all locks are released. */

#define WAITING 0
#define SERVING 1
#define SERVED 2
#define UNBLOCKED 3
#define TIMED_OUT 4
#define DROPPED 5
#define NONE 6 /* not made yet, or freed */

#define FREE 255

byte lock[2] = FREE;      /* who holds it */
byte elements[2];         /* of each key */
bool registered[2];       /* in the tables */
bool ready[2];            /* the shard's ready list has its key */
byte state[2] = NONE;
bool alive[2];            /* the waiter's memory */
bool orphan[2], published[2], got[2]; /* got: an element is in the waiter's output queue */
byte replies[2];
bool killed[2], unblocked[2];
byte pushed, given, lost;
byte registry = FREE;     /* one lock for both threads' registries */
chan mail[2] = [3] of { byte };

#define ME _pid
#define take(l) atomic { l == FREE -> l = ME }
#define drop(l) atomic { assert(l == ME); l = FREE }

/* The needs of a shard: waiter 0 in shard 0 needs shard 1. */
#define needs_more(m) ((m == 1) && registered[0])

inline lock_to_serve(m) { /* m: 1 shard 0, 2 shard 1, 3 both */
    do
    :: if :: (m & 1) -> take(lock[0]) :: else fi;
       if :: (m & 2) -> take(lock[1]) :: else fi;
       if
       :: needs_more(m) -> drop(lock[0]); m = 3
       :: else -> break
       fi
    od
}

inline unlock(m) {
    if :: (m & 2) -> drop(lock[1]) :: else fi;
    if :: (m & 1) -> drop(lock[0]) :: else fi
}

/* The locks of waiter w: 0 needs both. */
inline lock_of(w) {
    if :: w == 0 -> take(lock[0]) :: else fi;
    take(lock[1])
}

inline unlock_of(w) {
    drop(lock[1]);
    if :: w == 0 -> drop(lock[0]) :: else fi
}

inline post(w) {
    assert(nfull(mail[w]));
    mail[w]!w
}

/* Serves waiter w of key w, when the key has an element; mask m is locked. */
inline serve(w) {
    ready[w] = false;
    if
    :: registered[w] && elements[w] > 0 ->
        assert(alive[w]);
        assert(lock[1] == ME && (w == 1 || lock[0] == ME));
        if
        :: atomic { state[w] == WAITING -> state[w] = SERVING };
            atomic {
                assert(!killed[w] && !unblocked[w]);
                elements[w]--;
                got[w] = true;
                if :: w == 0 -> elements[1]++; ready[1] = true :: else fi;
                registered[w] = false
            };
            if
            :: atomic { state[w] == SERVING -> state[w] = SERVED };
                post(w)
            :: atomic { state[w] == DROPPED -> skip }
            fi
        :: else
        fi
    :: else
    fi
}

proctype Pusher(byte key) {
    byte m = 1 << key;
    lock_to_serve(m);
    atomic { elements[key]++; pushed++; ready[key] = true };
    do
    :: (m & 1) && ready[0] -> serve(0)
    :: (m & 2) && ready[1] -> serve(1)
    :: !((m & 1) && ready[0]) && !((m & 2) && ready[1]) -> break
    od;
    /* Strict: before the locks go, nobody who could take it is left waiting beside an element. */
    atomic {
        assert(!((m & 1) && elements[0] > 0 && registered[0] && state[0] == WAITING));
        assert(!((m & 2) && elements[1] > 0 && registered[1] && state[1] == WAITING))
    };
    unlock(m)
}

/* Under the locks: claims, when it still waits, and takes it out. */
inline take_out(w, to, was) {
    lock_of(w);
    atomic {
        was = state[w];
        assert(was != SERVING);
        if :: was == WAITING -> state[w] = to :: else fi
    };
    if :: was != SERVED -> registered[w] = false :: else fi;
    unlock_of(w)
}

inline free_waiter(w) {
    atomic {
        assert(alive[w] && !registered[w] && !published[w]);
        alive[w] = false;
        state[w] = NONE
    }
}

inline unpublish(w) {
    atomic { registry == FREE -> published[w] = false }
}

/* The reply of a waiter that is SERVED. Waiter 0 gave its element on: only waiter 1 counts it. */
inline reply(w, was) {
    atomic {
        replies[w]++;
        if :: was == SERVED && w == 1 -> given++ :: else fi;
        assert(was == SERVED || !got[w])
    }
}

proctype Client(byte w) {
    byte was;
    bool goes_on = true, patient;
    byte x;
    if :: patient = true :: patient = false fi;
    /* The command: blocks when there is nothing, under the locks of all its keys. */
    lock_of(w);
    if
    :: elements[w] > 0 ->
        elements[w]--;
        if :: w == 0 -> elements[1]++; ready[1] = true; serve(1) :: else given++ fi;
        goes_on = false
    :: else -> atomic { alive[w] = true; state[w] = WAITING; registered[w] = true }
    fi;
    unlock_of(w);
    if :: goes_on -> atomic { registry == FREE -> published[w] = true } :: else fi;
    do
    :: !goes_on -> break
    :: goes_on ->
        if
        /* mail: served, or unblocked by another */
        :: nempty(mail[w]) ->
            mail[w]?x;
            unpublish(w);
            if
            :: state[w] == SERVED -> was = SERVED
            :: else -> take_out(w, DROPPED, was)
            fi;
            assert(was == SERVED || was == UNBLOCKED);
            reply(w, was);
            free_waiter(w);
            goes_on = false
        /* the deadline; who is patient waits until nothing else can happen any more, and then has missed nothing */
        :: !patient || timeout ->
            assert(!patient || ((state[w] == WAITING || state[w] == DROPPED) && !(state[w] == WAITING && elements[w] > 0)));
            take_out(w, TIMED_OUT, was);
            if
            :: was == WAITING -> unpublish(w); reply(w, TIMED_OUT); free_waiter(w); goes_on = false
            :: was == DROPPED -> goto closes
            :: else -> nempty(mail[w]) /* it is under way */
            fi
        /* it closes */
        :: !patient ->
closes:     unpublish(w);
            if
            :: state[w] == SERVED -> was = SERVED
            :: else -> take_out(w, DROPPED, was)
            fi;
            if
            :: was == SERVED || was == UNBLOCKED ->
                orphan[w] = true;
                mail[w]?x;
                if :: was == SERVED && w == 1 -> lost++ :: else fi;
                free_waiter(w)
            :: else ->
                if :: got[w] && w == 1 -> lost++ :: else fi; /* killed while it was served */
                free_waiter(w)
            fi;
            goes_on = false
        fi
    od;
    assert(replies[w] <= 1)
}

proctype Unblocker(byte w) {
    byte was;
    do
    :: take(registry);
       was = DROPPED;
       if
       :: published[w] ->
           assert(alive[w]);
           atomic { was = state[w]; if :: was == WAITING -> state[w] = UNBLOCKED :: else fi };
           if :: was == WAITING -> unblocked[w] = true; post(w) :: else fi
       :: else
       fi;
       drop(registry);
       if :: was == SERVING :: else -> break fi
    od
}

proctype Killer(byte w) {
    take(registry);
    if
    :: published[w] ->
        assert(alive[w]);
        atomic {
            if
            :: state[w] == WAITING -> state[w] = DROPPED; killed[w] = true
            :: state[w] == SERVING -> state[w] = DROPPED
            :: else
            fi
        }
    :: else
    fi;
    drop(registry)
}

init {
    byte w;
    atomic {
        run Pusher(0);
        run Pusher(1);
        run Client(0);
        run Client(1);
        if :: w = 0 :: w = 1 fi;
        if :: run Unblocker(w) :: run Killer(w) fi
    }
    _nr_pr == 1; /* all have ended */
    assert(pushed == elements[0] + elements[1] + given + lost);
    assert(!alive[0] && !alive[1] && !registered[0] && !registered[1]);
    assert(empty(mail[0]) && empty(mail[1]))
}
