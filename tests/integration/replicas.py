# SPDX-License-Identifier: BSD-3-Clause
"""Replicas for the tests of replication: redis-server and valkey-server as replicas of the server under test, over its transport,
and load for it."""
import os
import random
import shutil
import socket
import sys
import threading
import time

import harness
from harness import digest
from resp import ReplyError, encode

sys.path.append(os.path.join(harness.ROOT, "perf"))
from bench import peers  # noqa: E402


def program(name):
    """The path of redis-server or valkey-server, or None."""
    return shutil.which(name) or (peers.unpacked(name)[0] if name == "valkey-server" else None)


class Replica(harness.Server):
    """A peer that replicates from `primary` (a harness.Server, or (host, port) in plaintext) over the primary's transport. Tests
    speak to it in plaintext."""

    def __init__(self, env, name, primary, directives=None, start=True):
        wanted = {"replicaof": ["127.0.0.1", str(self.port_of(primary))], "repl-timeout": "20"}
        if getattr(primary, "use_tls", False):
            wanted.update({"tls-replication": "yes", "tls-cert-file": env.cert("client.crt"), "tls-key-file": env.cert("client.key"),
                           "tls-ca-cert-file": env.cert("ca.crt")})
        wanted.update(directives or {})
        super().__init__(harness.Env(program(name), env.sanitizer, env.certs), "tcp", directives=wanted, start=start)

    @staticmethod
    def port_of(primary):
        return primary[1] if isinstance(primary, tuple) else primary.any_port()

    def link(self):
        with self.connect() as conn:
            return conn.info("replication")

    def wait_online(self, timeout=60):
        harness.wait_for(lambda: self.link().get("master_link_status") == "up", self.env.timeout(timeout), 0.05, "replica's link up")

    def dataset(self):
        with self.connect(timeout=60) as conn:
            return conn.ok("DEBUG", "DIGEST")


def differences(primary, replica, limit=5):
    """Keys whose values differ, with both sides' types: what an assertion shows."""
    out = []
    with primary.connect(timeout=60) as ours, replica.connect(timeout=60) as theirs:
        for db in range(16):
            for conn in (ours, theirs):
                conn.ok("SELECT", str(db))
            keys = sorted(set(map(str, ours.ok("KEYS", "*"))) | set(map(str, theirs.ok("KEYS", "*"))))
            for key in keys:
                values = [conn("DEBUG", "DIGEST-VALUE", key) for conn in (ours, theirs)]
                if values[0] != values[1]:
                    out.append((db, key, [(conn("TYPE", key), conn("PTTL", key), conn("DUMP", key)[:200] if conn("DUMP", key) else None)
                                          for conn in (ours, theirs)]))
    return len(out), out[:limit]


def offset_of(primary):
    with primary.connect(timeout=60) as conn:
        return int(conn.info("replication")["master_repl_offset"])


def wait_same(primary, replicas, timeout=60):
    """All of the stream has arrived, and the data sets are the same. Keys may still run out meanwhile: so it looks more than once."""
    deadline = None
    while True:
        offset = offset_of(primary)
        for replica in replicas:
            harness.wait_for(lambda: int(replica.link().get("slave_repl_offset", -1)) >= offset, primary.env.timeout(timeout), 0.05,
                             "offset %d at the replica" % offset)
        deadline = deadline or time.monotonic() + primary.env.timeout(timeout)
        want = digest(primary)
        different = [replica for replica in replicas if replica.dataset() != want]
        if not different:
            return
        assert time.monotonic() < deadline, differences(primary, different[0])
        time.sleep(0.5)


SCRIPT = "redis.call('INCRBY', KEYS[1], ARGV[1]) redis.call('RPUSH', KEYS[2], ARGV[1]) return redis.call('SPOP', KEYS[3])"


class Load:
    """Writes of many kinds to a server, on threads of its own, until it is stopped."""

    def __init__(self, server, threads=2, seed=1, large=False):
        self.server, self.large = server, large
        self.stopping = threading.Event()
        self.errors, self.count = [], 0
        self.threads = [threading.Thread(target=self.run, args=(seed * 100 + i,), daemon=True) for i in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.stop()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
        assert not self.errors, self.errors[:3]

    def command(self, rng):
        key = "load:%d" % rng.randrange(300)
        return rng.choice([
            lambda: [("SET", key + ":s", "x" * rng.randrange(100)), ("APPEND", key + ":s", "y")],
            lambda: [("SET", key + ":t", "v", "PX", str(rng.randrange(1, 3000)))],
            lambda: [("INCR", key + ":n"), ("INCRBYFLOAT", key + ":f", "0.1")],
            lambda: [("RPUSH", key + ":l", "a", "b", str(rng.random())), ("LPOP", key + ":l")],
            lambda: [("SADD", key + ":set", *[str(rng.randrange(1000)) for _ in range(3)]), ("SPOP", key + ":set")],
            lambda: [("HSET", key + ":h", "f%d" % rng.randrange(20), "v"), ("HINCRBYFLOAT", key + ":h", "n", "1.5")],
            lambda: [("ZADD", key + ":z", str(rng.random()), "m%d" % rng.randrange(50)), ("ZPOPMIN", key + ":z")],
            lambda: [("XADD", key + ":x", "MAXLEN", "~", "50", "*", "f", "v")],
            lambda: [("MULTI",), ("SET", key + ":m1", "1"), ("LPUSH", key + ":m2", "2"), ("EXPIRE", key + ":m1", "100"), ("EXEC",)],
            lambda: [("EVAL", SCRIPT, "3", key + ":n", key + ":sl", key + ":set", "7")],
            lambda: [("SELECT", str(rng.randrange(4)))],
            lambda: [("DEL", key + ":l", key + ":z")],
            lambda: [("SET", key + ":big", "z" * 100000)] if self.large else [("GETEX", key + ":s", "EX", "1000")],
            lambda: [("COPY", key + ":s", key + ":copy", "REPLACE"), ("RENAME", key + ":copy", key + ":s2")],
        ])()

    def run(self, seed):
        rng = random.Random(seed)
        try:
            with self.server.connect(timeout=60) as conn:
                while not self.stopping.is_set():
                    batch = [command for _ in range(20) for command in self.command(rng)]
                    conn.send(b"".join(encode(*command) for command in batch))
                    for _ in batch:
                        reply = conn.read().py
                        if isinstance(reply, ReplyError) and not str(reply).startswith(("ERR no such key", "NOREPLICAS", "OOM")):
                            self.errors.append(str(reply))
                    self.count += len(batch)
        except Exception as exc:  # shown by stop()
            if not self.stopping.is_set():
                self.errors.append(repr(exc))


class Proxy:
    """Carries bytes between a port of its own and a server's, until it is cut."""

    def __init__(self, port):
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pairs, self.refuses = [], False
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                here, _ = self.listener.accept()
            except OSError:
                return
            if self.refuses:
                here.close()
                continue
            there = socket.create_connection(("127.0.0.1", self.target))
            self.pairs.append((here, there))
            for a, b in ((here, there), (there, here)):
                threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    @staticmethod
    def pump(source, target):
        try:
            while True:
                data = source.recv(65536)
                if not data:
                    break
                target.sendall(data)
        except OSError:
            pass
        for sock in (source, target):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def cut(self):
        pairs, self.pairs = self.pairs, []
        for pair in pairs:
            for sock in pair:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # ends accept()
        self.listener.close()
        self.cut()
