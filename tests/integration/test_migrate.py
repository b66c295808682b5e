# SPDX-License-Identifier: BSD-3-Clause
"""MIGRATE: to and from redis-server, valkey-server and another Kettle; what happens to keys, clients and links meanwhile.

A target that does not answer is one that was stopped (SIGSTOP): its kernel goes on accepting. How exact the timeout is on an idle
machine is perf/deadlines.sh's to say: the bounds here are loose."""
import os
import signal
import socket
import threading
import time

import pytest

import harness
import replicas
import resp
from test_dump import KINDS, make, show

IOERR_CONNECT = "IOERR error or timeout connecting to the client"
IOERR_READ = "IOERR error or timeout reading to target instance"


find_peer = replicas.program


@pytest.fixture(scope="module")
def start(env, transport, kernel_guard):
    """start(kind, **directives): a server over the transport under test, which makes its own connections over it as well."""
    running = []

    def factory(kind="kettle", **directives):
        path = env.server if kind == "kettle" else find_peer(kind)
        if not path:
            pytest.skip("no " + kind + " to migrate to and from")
        wanted = {}
        if transport != "tcp":
            wanted = {"tls-replication": "yes", "tls-client-cert-file": env.cert("client.crt"),
                      "tls-client-key-file": env.cert("client.key")}
        if kind != "kettle" and transport != "tcp":
            wanted["tls-cluster"] = "yes"  # what MIGRATE looks at there
        wanted.update({name.replace("_", "-"): value for name, value in directives.items()})
        instance = harness.Server(env if kind == "kettle" else harness.Env(path, False, env.certs), transport, wanted,
                                  check_ktls=False)
        running.append(instance)
        return instance

    yield factory
    for instance in running:
        if instance.alive():
            os.kill(instance.proc.pid, signal.SIGCONT)
            instance.stop()


@pytest.fixture(scope="module")
def ours(start):
    return start()


@pytest.fixture(scope="module")
def target(start):
    return start("redis-server" if find_peer("redis-server") else "kettle")


@pytest.fixture
def pair(ours, target):
    """Connections to source and target, both empty."""
    with ours.connect() as a, target.connect() as b:
        a.ok("FLUSHALL")
        b.ok("FLUSHALL")
        yield a, b


def args(target, key, *more, db=0, timeout=5000):
    return ("MIGRATE", "127.0.0.1", target.any_port(), key, db, timeout) + more


class Stopped:
    """The server answers nothing meanwhile."""

    def __init__(self, server):
        self.server = server

    def __enter__(self):
        os.kill(self.server.proc.pid, signal.SIGSTOP)
        return self

    def go_on(self):
        os.kill(self.server.proc.pid, signal.SIGCONT)

    def __exit__(self, *exc):
        self.go_on()


def wait_blocked(conn, n=1):
    harness.wait_for(lambda: int(conn.info("clients")["blocked_clients"]) == n, 60, what="a client that waits for its MIGRATE")


# ---- what goes over ----

@pytest.mark.parametrize("kind", ["redis-server", "valkey-server", "kettle"])
def test_every_type_there_and_back(start, ours, kind):
    other = start(kind)
    with ours.connect() as a, other.connect() as b:
        a.ok("FLUSHALL")
        for what in KINDS:
            for n in (1, 9, 300):
                a.ok("DEL", "k")
                make(a, what, n, True)
                a.ok("PEXPIRE", "k", 500000)
                want = show(a, what, "k")
                assert a.ok(*args(other, "k", db=2)) == "OK"
                assert a.ok("EXISTS", "k") == 0
                b.ok("SELECT", 2)
                assert show(b, what, "k") == want and 400000 < b.ok("PTTL", "k") <= 500000
                b.ok("PERSIST", "k")
                assert b.ok(*args(ours, "k")) == "OK"
                assert b.ok("EXISTS", "k") == 0
                assert show(a, what, "k") == want and a.ok("PTTL", "k") == -1


def test_options(pair, target):
    a, b = pair
    a.ok("MSET", "a", 1, "b", 2, "c", 3)
    assert a.ok(*args(target, "missing")) == "NOKEY"
    assert a.ok(*args(target, "", "KEYS", "m1", "m2")) == "NOKEY"
    assert a.ok(*args(target, "a", "COPY")) == "OK" and a.ok("GET", "a") == b"1" and b.ok("GET", "a") == b"1"
    assert a.err(*args(target, "a")) == "ERR Target instance replied with error: BUSYKEY Target key name already exists."
    a.ok("SET", "a", "new")
    assert a.ok(*args(target, "a", "copy", "replace")) == "OK" and b.ok("GET", "a") == b"new"
    assert a.ok(*args(target, "a", "REPLACE")) == "OK" and a.ok("EXISTS", "a") == 0
    assert a.ok(*args(target, "", "KEYS", "b", "nokey", "c", "b")) == "OK"
    assert a.ok("DBSIZE") == 0 and b.ok("MGET", "a", "b", "c") == [b"new", b"2", b"3"]


def test_refusals(pair, target):
    a, _ = pair
    a.ok("SET", "k", 1)
    for command, text in (
            (args(target, "k", "KEYS", "k"),
             "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string"),
            (args(target, "k", "BAD"), "ERR syntax error"),
            (args(target, "k", "AUTH"), "ERR syntax error"),
            (args(target, "k", "AUTH2", "x"), "ERR syntax error"),
            (args(target, "k", db="x"), "ERR value is not an integer or out of range"),
            (args(target, "k", timeout="x"), "ERR value is not an integer or out of range"),
            (args(target, "k", db=99), "ERR Target instance replied with error: ERR DB index is out of range"),
            (("MIGRATE", "127.0.0.1", 1, "k", 0, 5000), IOERR_CONNECT),
            (("MIGRATE", "127.0.0.1", "x", "k", 0, 5000), IOERR_CONNECT),
            (("MIGRATE", "no.such.name.invalid", 1, "k", 0, 5000), IOERR_CONNECT),
            (("MIGRATE", "127.0.0.1", 1, "k", 0), "ERR wrong number of arguments for 'migrate' command")):
        assert a.err(*command) == text
    assert a.ok("GET", "k") == b"1"


def test_one_key_of_several_is_refused(pair, target):
    a, b = pair
    a.ok("MSET", "a", 1, "b", 2, "c", 3)
    b.ok("SET", "b", "theirs")
    assert a.err(*args(target, "", "KEYS", "a", "b", "c")).startswith("ERR Target instance replied with error: BUSYKEY")
    assert a.ok("MGET", "a", "b", "c") == [None, b"2", None]
    assert b.ok("MGET", "a", "b", "c") == [b"1", b"theirs", b"3"]


def test_passwords(start, pair):
    a, _ = pair
    closed = start("redis-server" if find_peer("redis-server") else "kettle", requirepass="pw")
    with closed.connect(password="pw") as b:
        b.ok("ACL", "SETUSER", "mover", "on", ">secret", "~*", "+restore", "+select")
        a.ok("MSET", "a", 1, "b", 2, "c", 3)
        assert a.err(*args(closed, "a")) == "ERR Target instance replied with error: NOAUTH Authentication required."
        assert a.err(*args(closed, "a", "AUTH", "no")).startswith("ERR Target instance replied with error: WRONGPASS")
        assert a.ok(*args(closed, "a", "AUTH", "pw")) == "OK"
        assert a.err(*args(closed, "b")).startswith("ERR Target instance replied with error: NOAUTH")  # not by the link of before
        assert a.err(*args(closed, "b", "AUTH2", "mover", "pw")).startswith("ERR Target instance replied with error: WRONGPASS")
        assert a.ok(*args(closed, "", "AUTH2", "mover", "secret", "KEYS", "b", "c")) == "OK"
        assert b.ok("MGET", "a", "b", "c") == [b"1", b"2", b"3"] and a.ok("DBSIZE") == 0


def test_a_target_that_may_not_be_written_to(start, pair):
    a, _ = pair
    replica = start("redis-server" if find_peer("redis-server") else "kettle")
    with replica.connect() as b:
        b.ok("REPLICAOF", "127.0.0.1", harness.free_port())
        a.ok("SET", "k", 1)
        assert a.err(*args(replica, "k")).startswith("ERR Target instance replied with error: READONLY")
        assert a.ok("GET", "k") == b"1"


def test_a_thousand_keys(pair, target):
    a, b = pair
    keys = ["key:%d" % i for i in range(1000)]
    a.ok("MSET", *[x for key in keys for x in (key, "value of " + key)])
    a.ok("SET", "big", b"x" * (5 << 20))
    assert a.ok(*args(target, "", "KEYS", *(keys + ["big"]), timeout=30000)) == "OK"
    assert a.ok("DBSIZE") == 0 and b.ok("DBSIZE") == 1001
    assert b.ok("GET", "key:777") == b"value of key:777" and b.ok("STRLEN", "big") == 5 << 20


def test_effects(pair, ours, target):
    a, b = pair
    with ours.connect() as watcher, ours.connect() as listener:
        listener.ok("CONFIG", "SET", "notify-keyspace-events", "KEA")
        listener.ok("SUBSCRIBE", "__keyevent@0__:del")
        a.ok("SET", "k", 1)
        watcher.ok("WATCH", "k")
        assert a.ok(*args(target, "k")) == "OK"
        assert listener.read().render() == '["message", "__keyevent@0__:del", "k"]'
        watcher.ok("MULTI")
        watcher.ok("PING")
        assert watcher.node("EXEC").render() == "nilarray"
        a.ok("CONFIG", "SET", "notify-keyspace-events", "")
    stats = a.info("commandstats")["cmdstat_migrate"]
    assert "failed_calls" in str(stats)


def test_transactions_and_scripts(pair, target):
    a, b = pair
    a.ok("MSET", "a", 1, "b", 2, "c", 3)
    a.ok("MULTI")
    a.ok("SET", "a", "changed")
    a.ok(*args(target, "a"))
    a.ok("EXISTS", "a")
    assert a.ok("EXEC") == ["OK", "OK", 0]
    script = "return redis.call('MIGRATE', ARGV[1], ARGV[2], KEYS[1], 0, 5000, 'REPLACE')"
    assert a.ok("EVAL", script, 1, "b", "127.0.0.1", target.any_port()) == "OK"
    assert a.err("EVAL", script, 1, "c", "127.0.0.1", 1).startswith("IOERR")
    assert b.ok("MGET", "a", "b", "c") == [b"changed", b"2", None] and a.ok("GET", "c") == b"3"


def test_access_control(pair, ours, target):
    a, _ = pair
    a.ok("ACL", "SETUSER", "some", "on", "nopass", "+migrate", "~mine:*")
    a.ok("MSET", "mine:a", 1, "other", 2)
    with ours.connect() as conn:
        conn.ok("AUTH", "some", "x")
        assert conn.err(*args(target, "other")).startswith("NOPERM")
        assert conn.err(*args(target, "", "AUTH", "KEYS", "KEYS", "other")).startswith("NOPERM")
        assert conn.ok(*args(target, "", "KEYS", "mine:a")) == "OK"
    assert a.ok("COMMAND", "GETKEYS", "MIGRATE", "h", 1, "", 0, 9, "AUTH", "KEYS", "KEYS", "x", "y") == [b"x", b"y"]
    assert a.ok("COMMAND", "GETKEYS", "MIGRATE", "h", 1, "KEYS", 0, 9, "COPY") == [b"KEYS"]
    a.ok("ACL", "DELUSER", "some")


# ---- links ----

def test_links_are_kept_and_replaced(start, pair):
    a, _ = pair
    kind = "redis-server" if find_peer("redis-server") else "kettle"
    other = start(kind)
    with other.connect() as b:
        before = int(b.info("stats")["total_connections_received"])
        for i in range(5):
            a.ok("SET", "k", i)
            assert a.ok(*args(other, "k", "REPLACE")) == "OK"
        assert int(b.info("stats")["total_connections_received"]) == before + 1
    assert int(a.info("stats")["migrate_cached_sockets"]) >= 1
    with other.connect() as b:
        b.send(resp.encode("SHUTDOWN", "NOSAVE"))
        other.wait_exit()
    other.spawn()  # on the same port
    other.wait_ready()
    a.ok("SET", "k", "again")
    assert a.ok(*args(other, "k")) == "OK"  # over the stale link: replaced without a word
    with other.connect() as b:
        assert b.ok("GET", "k") == b"again"


def test_what_listens_is_no_server(pair, transport):
    if transport != "tcp":
        pytest.skip("over TLS it is refused by the handshake")
    a, _ = pair
    a.ok("SET", "k", 1)
    listener = socket.create_server(("127.0.0.1", 0))

    def greet():
        conn, _ = listener.accept()
        conn.sendall(b"220 mail.example ESMTP\r\n")
        conn.recv(1000)
        conn.close()
    thread = threading.Thread(target=greet, daemon=True)
    thread.start()
    assert a.err("MIGRATE", "127.0.0.1", listener.getsockname()[1], "k", 0, 5000) == IOERR_READ
    assert a.ok("GET", "k") == b"1"
    listener.close()


# ---- a target that does not answer ----

@pytest.mark.parametrize("kept", [False, True])
def test_the_timeout_is_kept_and_others_go_on(pair, ours, target, env, kept):
    a, b = pair
    a.ok("SET", "k", "value")
    if kept:
        a.ok("SET", "warm", 1)
        assert a.ok(*args(target, "warm")) == "OK"
    with ours.connect() as other, Stopped(target):
        began = time.monotonic()
        a.send(resp.encode(*args(target, "k", timeout=2500)))
        wait_blocked(other)
        for _ in range(3):
            other.ok("APPEND", "k2", "x")
            assert other.ok("GET", "k") == b"value"
        assert other.info("clients")["blocked_clients"] == "1"  # it still waits
        reply = a.read().render()
        took = time.monotonic() - began
        assert reply in ("-" + IOERR_READ, "-" + IOERR_CONNECT), reply
        assert 2.49 <= took < env.timeout(15), took
        assert other.ok("GET", "k") == b"value" and other.ok("TYPE", "k2") == "string"
    b.ok("PING")


def test_many_wait_for_one_that_does_not_answer(start, pair, ours, target):
    a, b = pair
    asleep = start("kettle")
    a.ok("MSET", *[x for i in range(40) for x in ("k%d" % i, i)])
    a.ok("SET", "free", 1)
    conns = [ours.connect() for _ in range(40)]
    with Stopped(asleep) as stopped:
        for i, conn in enumerate(conns):
            conn.send(resp.encode(*args(asleep, "k%d" % i, timeout=120000)))
        wait_blocked(a, 40)
        assert a.ok(*args(target, "free", timeout=60000)) == "OK"  # nobody's migration waits for another's
        assert a.ok("DBSIZE") == 40
        stopped.go_on()
        for conn in conns:
            assert conn.read().render() == "+OK"
            conn.close()
    assert a.ok("DBSIZE") == 0


def test_changes_meanwhile_are_not_lost(pair, ours, target):
    a, b = pair
    a.ok("MSET", "changed", "one", "deleted", 1, "expired", 1, "left", 1)
    with ours.connect() as other, Stopped(target) as stopped:
        a.send(resp.encode(*args(target, "", "KEYS", "changed", "deleted", "expired", "left", timeout=60000)))
        wait_blocked(other)
        other.ok("APPEND", "changed", " two")
        other.ok("DEL", "deleted")
        other.ok("PEXPIRE", "expired", 1)
        harness.wait_for(lambda: other.ok("EXISTS", "expired") == 0, what="the key's end")
        stopped.go_on()
        assert a.read().render() == "+OK"
        assert other.ok("DBSIZE") == 0
    assert b.ok("GET", "changed") == b"one two" and b.ok("EXISTS", "deleted", "expired") == 0 and b.ok("GET", "left") == b"1"


def test_a_key_that_never_rests(pair, ours, target):
    """Whatever was acknowledged before the key left is there, and what came after is here."""
    a, b = pair
    counted, stop = [], threading.Event()

    def count():
        with ours.connect() as conn:
            while not stop.is_set():
                counted.append(conn.ok("INCR", "n"))
    threads = [threading.Thread(target=count) for _ in range(2)]
    a.ok("SET", "n", 0)
    for thread in threads:
        thread.start()
    moved, rounds = 0, 20
    for _ in range(rounds):
        if a.ok(*args(target, "n", "REPLACE", timeout=30000)) == "OK":
            moved += int(b.ok("GETDEL", "n"))
    stop.set()
    for thread in threads:
        thread.join()
    assert moved + int(a.ok("GET", "n") or 0) == len(counted)


def test_the_same_key_twice_at_a_time(pair, ours, target):
    a, b = pair
    a.ok("SET", "k", 1)
    with ours.connect() as other, Stopped(target) as stopped:
        a.send(resp.encode(*args(target, "k", timeout=60000)))
        wait_blocked(other)
        assert other.err(*args(target, "k", "REPLACE")) == "TRYAGAIN Another MIGRATE of a key is under way"
        stopped.go_on()
        assert a.read().render() == "+OK"
        assert other.ok(*args(target, "k")) == "NOKEY"
    assert b.ok("GET", "k") == b"1"


@pytest.mark.parametrize("how", ["close", "kill"])
def test_the_client_goes_away(pair, ours, target, how):
    a, b = pair
    a.ok("SET", "k", 1)
    other = ours.connect()
    other_id = other.ok("CLIENT", "ID")
    with Stopped(target) as stopped:
        other.send(resp.encode(*args(target, "k", timeout=60000)))
        wait_blocked(a)
        assert a.ok("CLIENT", "UNBLOCK", other_id) == 0
        if how == "kill":
            assert a.ok("CLIENT", "KILL", "ID", other_id) == 1
        other.close()
        wait_blocked(a, 0)
        assert a.ok("GET", "k") == b"1"
        stopped.go_on()
        harness.wait_for(lambda: a.ok("EXISTS", "k") == 0, 30, what="the end of a migration without its client")
    assert b.ok("GET", "k") == b"1"


def test_writes_are_paused_meanwhile(pair, ours, target):
    a, b = pair
    a.ok("SET", "k", 1)
    with ours.connect() as other:
        with Stopped(target) as stopped:
            a.send(resp.encode(*args(target, "k", timeout=60000)))
            wait_blocked(other)
            other.ok("CLIENT", "PAUSE", 60000, "WRITE")
            stopped.go_on()
            harness.wait_for(lambda: b.ok("EXISTS", "k") == 1, 30, what="the key at its target")
        assert other.ok("GET", "k") == b"1"
        other.ok("CLIENT", "UNPAUSE")
        assert a.read().render() == "+OK" and other.ok("EXISTS", "k") == 0


def test_shutdown_meanwhile(start, target, env):
    source = start("kettle")
    conn, waiting = source.connect(), source.connect()
    conn.ok("SET", "k", 1)
    with Stopped(target):
        waiting.send(resp.encode(*args(target, "k", timeout=600000)))
        wait_blocked(conn)
        began = time.monotonic()
        conn.send(resp.encode("SHUTDOWN", "NOSAVE"))
        assert source.wait_exit(30) == 0
        assert time.monotonic() - began < env.timeout(20)
    source.check_output()
    source.cleanup()
    for c in (conn, waiting):
        c.close()
