# SPDX-License-Identifier: BSD-3-Clause
"""kill -9 at random moments under write load, and what must be there afterwards.

Clients write plainly, in MULTI, by scripts, and through blocking pops; each notes what was acknowledged and what was sent last. After
the kill the server is started again on its files. With appendfsync always everything acknowledged must be there; with everysec
everything that was acknowledged two seconds before; transactions as a whole or not at all; nothing that was never sent.

  tests/integration/crash_aof.py [--server build/kettle-server] [--rounds 200] [--fsync always|everysec] [--rewrites] [--seed N]
"""
import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time

import harness

GRACE = 2.0  # seconds that everysec may lose


class Writer(threading.Thread):
    """Counts upwards in keys of its own. acked: [(time, n)]."""

    def __init__(self, server, name):
        super().__init__(daemon=True)
        self.server, self.name_ = server, name
        self.acked, self.sent = [], 0
        self.stop = self.began = False

    def run(self):
        try:
            with self.server.connect(timeout=30) as conn:
                self.begin(conn)
                self.began = True
                while not self.stop:
                    self.sent += 1
                    self.step(conn, self.sent)
                    self.acked.append((time.monotonic(), self.sent))
        except (OSError, EOFError, ValueError):
            pass  # the server was killed

    def begin(self, conn):
        self.sent = int(conn.ok("GET", self.name_) or 0)
        self.acked = [(0, self.sent)]

    def safe(self, killed_at, fsync):
        """The least that must be there."""
        limit = killed_at if fsync == "always" else killed_at - GRACE
        return max([n for at, n in self.acked if at <= limit] or [0])

    def check(self, conn, least):
        n = int(conn.ok("GET", self.name_) or 0)
        assert least <= n <= self.sent, "%s: %d of %d acknowledged, %d sent" % (self.name_, n, least, self.sent)
        return n


class Plain(Writer):
    def step(self, conn, n):
        conn.ok("SET", self.name_, n)


class Pipelined(Writer):
    def step(self, conn, n):
        conn.pipeline([("SET", self.name_, n), ("APPEND", self.name_ + ":log", "x")])

    def check(self, conn, least):
        n = super().check(conn, least)
        assert conn.ok("STRLEN", self.name_ + ":log") in (n, n - 1)
        conn.ok("SET", self.name_ + ":log", "x" * n)


class Multi(Writer):
    def step(self, conn, n):
        conn.pipeline([("MULTI",), ("SET", self.name_, n), ("SET", self.name_ + ":twin", n), ("EXEC",)])

    def check(self, conn, least):
        n = super().check(conn, least)
        assert int(conn.ok("GET", self.name_ + ":twin") or 0) == n, "half a transaction"


class Script(Multi):
    def step(self, conn, n):
        conn.ok("EVAL", "redis.call('SET', KEYS[1], ARGV[1]) redis.call('SET', KEYS[2], ARGV[1])", 2, self.name_, self.name_ + ":twin", n)


class Push(Writer):
    """RPUSHes its numbers; the counter is written with each."""

    def step(self, conn, n):
        conn.pipeline([("MULTI",), ("RPUSH", "jobs:" + self.name_, n), ("SET", self.name_, n), ("EXEC",)])


class Pop(Writer):
    """Takes what a Push gave, blocking."""

    def __init__(self, server, push):
        super().__init__(server, push.name_ + ":pop")
        self.push = push
        self.popped = 0

    def begin(self, conn):
        self.acked = [(0, 0)]

    def step(self, conn, n):
        reply = conn.ok("BLPOP", "jobs:" + self.push.name_, 0)
        self.popped = int(reply[1])
        self.sent = self.popped

    def check(self, conn, least):
        left = [int(x) for x in conn.ok("LRANGE", "jobs:" + self.push.name_, 0, -1)]
        pushed = int(conn.ok("GET", self.push.name_) or 0)
        assert left == list(range(left[0], left[0] + len(left))) if left else True, "a hole in the list"
        assert not left or left[-1] == pushed, "pushed %d, the list ends at %d" % (pushed, left[-1])
        assert not left or left[0] > least, "job %d was popped, and acknowledged, and is there again" % least
        conn.ok("DEL", "jobs:" + self.push.name_)


def one_round(server, rng, fsync, rewrites, number):
    pushes = [Push(server, "push%d" % i) for i in range(2)]
    writers = [k(server, "%s%d" % (k.__name__, i)) for k in (Plain, Pipelined, Multi, Script) for i in range(2)]
    writers += pushes + [Pop(server, p) for p in pushes]
    for w in writers:
        w.start()
    time.sleep(0.05 + rng.random() * (0.6 if number % 10 else 2.5))
    if rewrites:
        with server.connect(timeout=30) as conn:
            conn("BGREWRITEAOF")
        time.sleep(rng.random() * rng.choice([0.01, 0.05, 0.2]))
    killed_at = time.monotonic()
    server.proc.send_signal(signal.SIGKILL)
    server.proc.wait()
    for w in writers:
        w.stop = True
        w.join(60)
        assert not w.is_alive()
    server.start()
    with server.connect(timeout=60) as conn:
        for w in writers:
            if w.began:
                w.check(conn, w.safe(killed_at, fsync))
    return sum(len(w.acked) for w in writers)


def rounds(server, n, fsync, seed=1, rewrites=False, progress=None):
    rng = random.Random(seed)
    total = 0
    for i in range(n):
        total += one_round(server, rng, fsync, rewrites, i)
        if progress:
            progress(i + 1, total)
    return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="build/kettle-server")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--fsync", default="always")
    parser.add_argument("--rewrites", action="store_true")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--io-threads", default="2")
    parser.add_argument("--preamble", default="yes")
    args = parser.parse_args()
    env = harness.Env(args.server, False, tempfile.mkdtemp())
    server = harness.Server(env, "tcp", directives={"appendonly": "yes", "appendfsync": args.fsync, "io-threads": args.io_threads,
                                                     "aof-use-rdb-preamble": args.preamble, "auto-aof-rewrite-percentage": "0"})
    print("seed %d, %s, %s" % (args.seed, args.fsync, server.dir))

    def progress(i, total):
        if sys.stderr.isatty() or i % 20 == 0:
            sys.stderr.write("\r%d rounds, %d acknowledged writes" % (i, total))
            sys.stderr.flush()

    total = rounds(server, args.rounds, args.fsync, args.seed, args.rewrites, progress)
    print("\n%d rounds, %d acknowledged writes: nothing lost" % (args.rounds, total))
    server.kill()
    server.cleanup()
    os.rmdir(env.certs)


if __name__ == "__main__":
    main()
