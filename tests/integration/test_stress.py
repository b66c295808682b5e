# SPDX-License-Identifier: BSD-3-Clause
"""Many clients at once doing mixed commands for a while, each checking that its own data comes back.

KETTLE_STRESS_SECONDS (default 5) and KETTLE_STRESS_CLIENTS (default 200) say how long and how many. One process serves all
clients with a selector, so that the load comes from the sockets and not from Python's threads.
"""
import os
import random
import selectors
import socket
import ssl
import threading
import time

import pytest


from resp import encode

SECONDS = float(os.environ.get("KETTLE_STRESS_SECONDS", "5"))
CLIENTS = int(os.environ.get("KETTLE_STRESS_CLIENTS", "200"))


class Worker:
    """One client: a batch of commands on its own keys and on shared ones, with the replies it must get."""

    def __init__(self, number, conn, seed):
        self.number = number
        self.conn = conn
        self.rng = random.Random(seed)
        self.model = {}
        self.shared_increments = 0
        self.batches = 0
        self.outgoing = b""
        self.expect = []

    def next_batch(self):
        rng, out = self.rng, []
        self.expect = []

        def add(check, *args):
            out.append(encode(*args))
            self.expect.append((check, args))
        for _ in range(rng.choice([1, 1, 1, 4, 16, 50])):
            key = "s:%d:%d" % (self.number, rng.randint(0, 20))
            kind = rng.randint(0, 9)
            have = self.model.get(key)
            if kind <= 2:
                value = bytes(rng.getrandbits(8) for _ in range(8)) * rng.choice([1, 3, 50, 1000, 4000])
                self.model[key] = value
                add("+OK", "SET", key, value)
            elif kind <= 4:
                add(have, "GET", key)
            elif kind == 5:
                self.model.pop(key, None)
                add(0 if have is None else 1, "DEL", key)
            elif kind == 6:
                add(None if have is None else len(have), "STRLEN", key) if have is not None else add(0, "STRLEN", key)
            elif kind == 7:
                self.shared_increments += 1
                add("int", "INCR", "stress:total")
            elif kind == 8:
                other = "s:%d:%d" % (self.number, rng.randint(0, 20))
                add("+OK", "MULTI")
                add("+QUEUED", "SET", key, b"multi")
                add("+QUEUED", "GET", key)
                add("+QUEUED", "EXISTS", other)
                self.model[key] = b"multi"
                add(["OK", b"multi", 1 if other in self.model else 0], "EXEC")
            else:
                keys = ["s:%d:%d" % (self.number, i) for i in range(6)]
                add([self.model.get(k) for k in keys], "MGET", *keys)
        self.outgoing = b"".join(out)
        self.batches += 1

    def check(self):
        for wanted, args in self.expect:
            got = self.conn.read().py
            if wanted == "int":
                ok = isinstance(got, int)
            elif isinstance(wanted, str) and wanted.startswith("+"):
                ok = got == wanted[1:]
            else:
                ok = got == wanted
            assert ok, "client %d: %s -> %.200r, wanted %.200r" % (self.number, args[:2], got, wanted)


def drive(workers, deadline, errors):
    """Keeps one batch of each worker in flight until the deadline."""
    try:
        live = list(workers)
        while time.monotonic() < deadline:
            for worker in live:
                worker.next_batch()
                worker.conn.send(worker.outgoing)
            for worker in live:
                worker.check()
    except Exception as exc:
        errors.append(exc)


def test_mixed_commands(make_server, env):
    server = make_server()
    conns = [server.connect(timeout=60) for _ in range(CLIENTS)]
    workers = [Worker(i, conn, 1000 + i) for i, conn in enumerate(conns)]
    errors = []
    deadline = time.monotonic() + SECONDS
    groups = [workers[i::4] for i in range(4)]
    threads = [threading.Thread(target=drive, args=(group, deadline, errors)) for group in groups]
    for thread in threads:
        thread.start()

    # Meanwhile: connections that come and go, and one that lists and scans.
    churned = 0
    with server.connect(timeout=60) as admin:
        while time.monotonic() < deadline:
            with server.connect(timeout=60) as short:
                short.ok("PING")
                if churned % 3 == 0:
                    short.send(encode("SET", "half", "x")[:-3])
            churned += 1
            if churned % 10 == 0:
                assert len(admin.ok("CLIENT", "LIST").splitlines()) >= CLIENTS
                admin.ok("INFO", "everything")
                admin.ok("SCAN", 0, "COUNT", 100)
                admin.ok("DBSIZE")
                admin.ok("RANDOMKEY")
        for thread in threads:
            thread.join(env.timeout(60))
            assert not thread.is_alive(), "a group of clients is stuck"
        assert not errors, errors[0]
        total = sum(worker.shared_increments for worker in workers)
        assert int(admin.ok("GET", "stress:total") or 0) == total
        for worker in workers:
            keys = list(worker.model)
            if keys:
                assert admin.ok("MGET", *keys) == [worker.model[k] for k in keys]
        assert admin.info("errorstats") == {}
    assert sum(worker.batches for worker in workers) > CLIENTS
    assert churned > 0
    for conn in conns:
        conn.close()


@pytest.mark.slow
def test_flush_and_swap_under_load(make_server, env):
    """Commands that lock everything, against many that lock one shard: no deadlock, no crash."""
    server = make_server()
    stop = threading.Event()
    errors = []

    def work(number):
        rng = random.Random(number)
        try:
            with server.connect(timeout=60) as conn:
                while not stop.is_set():
                    batch = []
                    for _ in range(20):
                        keys = ["x%d" % rng.randint(0, 200) for _ in range(3)]
                        batch.append(rng.choice([
                            ("SET", keys[0], "v"), ("MGET", *keys), ("DEL", *keys), ("RENAME", keys[0], keys[1]),
                            ("MSET", keys[0], 1, keys[1], 2), ("COPY", keys[0], keys[1], "REPLACE"), ("WATCH", keys[0]),
                            ("UNWATCH",), ("BITOP", "OR", keys[0], keys[1], keys[2]), ("EXPIRE", keys[0], 1),
                            ("SET", keys[0], "v", "PX", 5), ("KEYS", "x1*"), ("DBSIZE",), ("SCAN", 0), ("RANDOMKEY",)]))
                    conn.pipeline(batch)
        except Exception as exc:
            errors.append(exc)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + min(SECONDS, 10)
    with server.connect(timeout=60) as admin:
        while time.monotonic() < deadline:
            for command in (("SWAPDB", 0, 1), ("FLUSHDB",), ("FLUSHALL", "ASYNC"), ("KEYS", "*"),
                            ("CONFIG", "SET", "hz", "20"), ("INFO", "everything"), ("CLIENT", "LIST")):
                admin.ok(*command)
            admin.pipeline([("MULTI",), ("SWAPDB", 1, 2), ("FLUSHALL",), ("SET", "a", 1), ("EXEC",)])
    stop.set()
    for thread in threads:
        thread.join(env.timeout(30))
        assert not thread.is_alive(), "a client is stuck: deadlock?"
    assert not errors, errors[0]


@pytest.mark.slow
def test_pipelines_on_shared_keys(make_server, env):
    """Rows of commands on one key, from several threads, with what comes in between: waiting clients, pauses, transactions,
    commands on everything, refusals, eviction. Nothing is lost, counted twice or stuck."""
    directives = {"maxmemory-policy": "volatile-lru"}
    if env.is_kettle:
        directives["io-threads"] = "3"
    server = make_server(directives=directives)
    stop = threading.Event()
    errors = []
    counts = [[0, 0, 0] for _ in range(6)]  # INCRs, pushes, elements that came back
    with server.connect() as admin:
        admin.ok("SET", "hot", 0)

    def row(rng):
        kind = rng.randint(0, 5)
        if kind <= 1:
            return [("INCR", "hot")] * rng.choice([2, 16, 40])
        if kind == 2:
            return [("RPUSH", "queue", "e"), ("LLEN", "queue"), ("LPOP", "queue")] * rng.choice([1, 6])
        if kind == 3:
            return [("RPUSH", "jobs", "e")] * rng.choice([1, 8])
        between = [("RANDOMKEY",), ("NOSUCH",), ("LPUSH", "hot", "x"), ("INCR",), ("SELECT", 0), ("MGET", "hot", "b", "c"),
                   ("SCAN", 0), ("WATCH", "hot"), ("CLIENT", "TRACKING", "ON"), ("CLIENT", "TRACKING", "OFF"), ("DBSIZE",)]
        return ([("INCR", "hot")] * 3 + [rng.choice(between), ("GET", "hot"), ("GET", "hot"), ("MULTI",), ("INCR", "hot"),
                                         ("INCR", "hot"), ("DISCARD",), ("INCR", "hot")])

    def work(number):
        rng = random.Random(number)
        mine = counts[number]
        try:
            with server.connect(timeout=60) as conn:
                while not stop.is_set():
                    commands = row(rng)
                    for command, reply in zip(commands, conn.pipeline(commands)):  # what is refused, or queued, does not count
                        mine[0] += command == ("INCR", "hot") and isinstance(reply, int)
                        mine[1] += command[:2] == ("RPUSH", "queue") and isinstance(reply, int)
                        mine[2] += command[0] == "LPOP" and reply == b"e"
        except Exception as exc:
            errors.append(exc)

    def wait():
        try:
            with server.connect(timeout=60) as conn:
                while not stop.is_set():
                    conn.pipeline([("BLMOVE", "jobs", "done", "LEFT", "RIGHT", "0.05"), ("LLEN", "done"), ("LTRIM", "done", 0, 10)])
        except Exception as exc:
            errors.append(exc)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)] + [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + min(SECONDS, 5)
    with server.connect(timeout=60) as admin:
        while time.monotonic() < deadline:
            pause_ends = time.monotonic() + 0.02  # before the server's does
            admin.ok("CLIENT", "PAUSE", 20, "WRITE")
            before, again = admin.ok("GET", "hot"), admin.ok("GET", "hot")
            assert before == again or time.monotonic() >= pause_ends
            time.sleep(0.05)
            admin.pipeline([("SET", "gone:%d" % i, "x" * 1000, "EX", 100) for i in range(50)])
            used = int(admin.info("memory")["used_memory"])
            admin.ok("CONFIG", "SET", "maxmemory", max(used - 20000, 0))
            time.sleep(0.01)
            admin.ok("CONFIG", "SET", "maxmemory", 0)
        stop.set()
        for thread in threads:
            thread.join(env.timeout(40))
            assert not thread.is_alive(), "a client is stuck: deadlock?"
        assert not errors, errors[0]
        assert all(mine[0] for mine in counts)
        assert admin.ok("LLEN", "queue") == sum(mine[1] for mine in counts) - sum(mine[2] for mine in counts)
        assert int(admin.info("stats")["evicted_keys"]) > 0
        assert int(admin.ok("GET", "hot")) == sum(mine[0] for mine in counts)


@pytest.mark.slow
def test_kill_clients_under_load(make_server, env):
    server = make_server()
    stop = threading.Event()
    unexpected = []

    def work():
        while not stop.is_set():
            try:
                with server.connect(timeout=30) as conn:
                    while not stop.is_set():
                        conn.pipeline([("SET", "k", "v" * 1000), ("GET", "k"), ("INCR", "n")] * 5)
            except (EOFError, ConnectionError, ssl.SSLError):
                continue
            except socket.timeout:
                unexpected.append("timeout")
                return
    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    killed = 0
    deadline = time.monotonic() + min(SECONDS, 5)
    with server.connect(timeout=60) as admin:
        while time.monotonic() < deadline:
            killed += admin.ok("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            time.sleep(0.02)
        stop.set()
        for thread in threads:
            thread.join(env.timeout(40))
            assert not thread.is_alive()
        assert admin("PING") == "PONG"
    assert killed > 5 and not unexpected


@pytest.mark.slow
def test_backpressure_of_many_slow_readers(make_server, env):
    """Clients that ask for much and read slowly must not stop the others."""
    server = make_server()
    value = os.urandom(200000)
    with server.connect() as admin:
        admin.ok("SET", "big", value)
        slow = [server.connect(timeout=60) for _ in range(20)]
        for conn in slow:
            conn.send(encode("GET", "big") * 10)
        started = time.monotonic()
        for _ in range(200):
            assert admin("PING") == "PONG"
        assert time.monotonic() - started < env.timeout(5)
        for conn in slow:
            for _ in range(10):
                assert conn.read().value == value
            conn.close()


def test_selector_client_with_partial_writes(make_server, env):
    """A non-blocking client that writes and reads whatever fits, at the same time."""
    server = make_server()
    conn = server.connect()
    sock = conn.sock
    sock.setblocking(False)
    want = 3000
    value = os.urandom(3000)
    data = memoryview(encode("ECHO", value) * want)
    total = len(b"$3000\r\n") + len(value) + 2
    got = bytearray()
    sel = selectors.DefaultSelector()
    sel.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE)
    deadline = time.monotonic() + env.timeout(60)
    sent = 0
    while len(got) < total * want:
        assert time.monotonic() < deadline, "%d of %d bytes" % (len(got), total * want)
        sel.select(0.5)
        progress = True
        while progress:
            progress = False
            if sent < len(data):
                try:
                    sent += sock.send(data[sent:sent + 16384])
                    progress = True
                except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
            try:
                part = sock.recv(262144)
                assert part, "closed"
                got += part
                progress = True
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
        if sent == len(data):
            sel.modify(sock, selectors.EVENT_READ)
    assert got == (b"$3000\r\n" + value + b"\r\n") * want
    conn.close()


class Role(threading.Thread):
    """Connects, does its part, leaves, and again."""

    def __init__(self, server, until, number):
        super().__init__()
        self.server, self.until, self.number = server, until, number
        self.rng = random.Random(number)
        self.rounds, self.errors = 0, []

    def run(self):
        while time.monotonic() < self.until:
            try:
                with self.server.connect(proto=2 + self.number % 2) as conn:
                    self.part(conn)
                self.rounds += 1
            except (EOFError, ConnectionError, ssl.SSLError) as exc:
                if not self.may_be_killed:
                    self.errors.append(exc)
            except Exception as exc:
                self.errors.append(exc)

    may_be_killed = False

    @staticmethod
    def ask(conn, *args):
        conn.send(encode(*args))
        while True:
            node = conn.read()
            if node.kind != ">":
                return node.py


class Publisher(Role):
    def part(self, conn):
        for i in range(30):
            self.ask(conn, "PUBLISH", "ch%d" % (i % 4), b"x" * self.rng.choice([1, 100, 5000]))
            self.ask(conn, "SPUBLISH", "s%d" % (i % 3), "y")


class Subscriber(Role):
    may_be_killed = True

    def part(self, conn):
        conn.send(encode("SUBSCRIBE", "ch0", "ch1") + encode("PSUBSCRIBE", "ch[23]", "__key*") + encode("SSUBSCRIBE", "s1"))
        for _ in range(self.rng.randint(5, 100)):
            conn.read()
        if self.rounds % 2:
            conn.send(encode("UNSUBSCRIBE") + encode("PUNSUBSCRIBE") + encode("SUNSUBSCRIBE") + encode("RESET"))
            while conn.read().kind != "+":
                pass


class Writer(Role):
    def part(self, conn):
        for i in range(40):
            self.ask(conn, "SET", "k%d" % self.rng.randrange(20), "v", "PX", self.rng.choice(["5", "100000"]))
            self.ask(conn, "MSET", "k1", "a", "k2", "b")
            self.ask(conn, "EVAL", "redis.call('publish', 'ch1', 'e') return redis.call('get', 'k1')", "0")
            for args in (("MULTI",), ("INCR", "n"), ("PUBLISH", "ch2", "z"), ("DEL", "k1"), ("EXEC",)):
                self.ask(conn, *args)
            self.ask(conn, "RPUSH", "list", "v")
        if self.rounds % 5 == 0:
            self.ask(conn, "FLUSHALL")


class Reader(Role):
    def part(self, conn):
        mode = self.rng.choice([(), ("NOLOOP",), ("BCAST",), ("BCAST", "PREFIX", "k1"), ("OPTOUT",)])
        self.ask(conn, "HELLO", "3")
        self.ask(conn, "CLIENT", "TRACKING", "ON", *mode)
        for i in range(30):
            self.ask(conn, "GET", "k%d" % self.rng.randrange(20))
            if i % 7 == 0:
                self.ask(conn, "SET", "k%d" % self.rng.randrange(20), "mine")
            if i % 15 == 0:
                self.ask(conn, "BLPOP", "list", "0.01")


class Watcher(Role):
    def part(self, conn):
        self.ask(conn, "MONITOR")
        for _ in range(self.rng.randint(5, 200)):
            conn.read()


class Admin(Role):
    def part(self, conn):
        for args in (("CLIENT", "LIST"), ("INFO",), ("PUBSUB", "CHANNELS"), ("PUBSUB", "NUMPAT"), ("SLOWLOG", "GET"),
                     ("LATENCY", "LATEST"), ("LATENCY", "HISTOGRAM")):
            self.ask(conn, *args)
        self.ask(conn, "CONFIG", "SET", "slowlog-log-slower-than", self.rng.choice(["0", "10000", "-1"]),
                 "latency-monitor-threshold", self.rng.choice(["0", "1"]), "tracking-table-max-keys",
                 self.rng.choice(["5", "1000"]), "notify-keyspace-events", self.rng.choice(["KEA", "", "AKEn"]))
        if self.rounds % 5 == 0:
            self.ask(conn, "CLIENT", "KILL", "TYPE", "pubsub")
        time.sleep(0.05)


def test_listeners_caches_and_monitors_come_and_go(make_server, env):
    server = make_server(directives={"io-threads": "4"})
    until = time.monotonic() + SECONDS
    roles = [(Publisher, 2), (Subscriber, 4), (Writer, 2), (Reader, 4), (Watcher, 2), (Admin, 1)]
    workers = [kind(server, until, number) for kind, count in roles for number in range(count)]
    for worker in workers:
        worker.start()
    # Subscribers wait for messages: somebody speaks until the last of them has gone.
    with server.connect() as conn:
        while any(worker.is_alive() for worker in workers):
            for channel in range(4):
                conn("PUBLISH", "ch%d" % channel, "go on")
            time.sleep(0.01)
        errors = [(type(worker).__name__, error) for worker in workers for error in worker.errors]
        assert not errors, errors[:5]
        assert all(sum(w.rounds for w in workers if isinstance(w, kind)) > 0 for kind, _ in roles)
        deadline = time.monotonic() + env.timeout(10)
        while conn.info("clients")["connected_clients"] != "1" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert conn("PUBSUB CHANNELS") == [] and conn("PUBSUB NUMPAT") == 0 and conn("PUBSUB SHARDCHANNELS") == []
        clients, stats = conn.info("clients"), conn.info("stats")
        assert clients["tracking_clients"] == "0" and clients["pubsub_clients"] == "0"
        assert stats["tracking_total_prefixes"] == "0" and int(stats["tracking_total_keys"]) <= 1000
