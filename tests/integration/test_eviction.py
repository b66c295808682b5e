# SPDX-License-Identifier: BSD-3-Clause
"""maxmemory and its policies, maxmemory-clients."""
import time

import pytest

from harness import wait_for
from resp import encode, run

OOM = "OOM command not allowed when used memory > 'maxmemory'."
VALUE = "v" * 500


def used(c):
    return int(c.info("memory")["used_memory"])


def evicted(c):
    return int(c.info("stats")["evicted_keys"])


@pytest.fixture
def small(make_server, env):
    """A connection to a server whose memory a test fills; limit(bytes more than now)."""
    server = make_server(directives={"maxmemory-samples": "10", "io-threads": "2"})
    with server.connect() as conn:
        def limit(more, policy):
            conn.ok("CONFIG", "SET", "maxmemory-policy", policy)
            conn.ok("CONFIG", "SET", "maxmemory", str(used(conn) + more))
        conn.limit = limit
        conn.server_ = server
        yield conn


def fill(conn, names, *options):
    """Sets all the names, some at a time; the replies that were errors."""
    names, errors = list(names), []
    for at in range(0, len(names), 100):
        part = names[at:at + 100]
        conn.send(b"".join(encode("SET", name, VALUE, *options) for name in part))
        errors += [r for r in (conn.read().render() for _ in part) if r != "+OK"]
    return errors


def test_without_eviction_writes_are_refused(small):
    small.limit(1 << 20, "noeviction")
    errors = fill(small, range(4000))
    assert errors and set(errors) == {"-" + OOM}
    assert small.ok("GET", "0") == VALUE.encode() and str(small.err("LPUSH", "l", "x")) == OOM
    assert small.ok("DEL", *range(2000)) > 0 and evicted(small) == 0
    assert small.ok("SET", "x", "y") == "OK"


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-random",
                                    "volatile-ttl"])
def test_keys_make_room(small, policy):
    small.limit(1 << 20, policy)
    limit = int(small.ok("CONFIG", "GET", "maxmemory")[1])
    options = ("EX", "1000") if policy.startswith("volatile") else ()
    assert fill(small, ["kept%d" % i for i in range(100)]) == []
    assert fill(small, range(4000), *options) == []
    assert evicted(small) > 1000 and used(small) < limit + (1 << 20)
    before, size, after = evicted(small), small.ok("DBSIZE"), evicted(small)
    assert 4100 - after <= size <= 4100 - before
    if policy.startswith("volatile"):
        assert small.ok("EXISTS", *["kept%d" % i for i in range(100)]) == 100
        errors = fill(small, ["more%d" % i for i in range(3000)])  # nothing left that may go
        assert set(errors) == {"-" + OOM} and small.ok("EXISTS", *range(4000)) == 0


def test_least_frequently_used_goes_first(small):
    small.limit(1 << 20, "allkeys-lfu")
    hot = ["hot%d" % i for i in range(200)]
    fill(small, hot)
    for _ in range(30):
        small.ok("MGET", *hot)
    fill(small, range(4000))
    assert small.ok("EXISTS", *hot) > 150


def test_soonest_to_expire_goes_first(small):
    small.limit(1 << 20, "volatile-ttl")
    fill(small, ["late%d" % i for i in range(500)], "EX", "100000")
    fill(small, range(4000), "EX", "100")
    assert small.ok("EXISTS", *["late%d" % i for i in range(500)]) > 450


def test_eviction_is_told(small):
    with small.server_.connect(proto=2) as listener, small.server_.connect() as watcher:
        small.ok("CONFIG", "SET", "notify-keyspace-events", "Ee")
        listener.ok("SUBSCRIBE", "__keyevent@0__:evicted")
        fill(small, ["a", "b", "c"])
        watcher.ok("WATCH", "a", "b", "c")
        small.limit(-100000, "allkeys-random")
        wait_for(lambda: small.ok("DBSIZE") == 0, what="all keys evicted")
        assert {listener.read().py[2] for _ in range(3)} == {b"a", b"b", b"c"}
        small.ok("CONFIG", "SET", "maxmemory", "0")
        watcher.ok("MULTI")
        assert watcher.ok("EXEC") is None
        assert int(small.info("stats")["total_eviction_exceeded_time"]) >= 0


def test_clients_that_hold_too_much_are_closed(small):
    server = small.server_
    with server.connect() as spared, server.connect() as greedy, server.connect() as modest:
        spared.ok("CLIENT", "NO-EVICT", "on")
        small.ok("CONFIG", "SET", "maxmemory-clients", "8mb")
        small.ok("SET", "big", "x" * 100000)
        for conn in (spared, greedy):
            conn.send(encode("MGET", *["big"] * 50))  # 5 MB that nobody reads
        modest.ok("PING")
        for conn in (spared, greedy):
            try:
                conn.send(encode("SET", "y", "z" * 6000000)[:5500000])
            except OSError:
                assert conn is greedy  # closed already
        wait_for(lambda: int(small.info("stats")["evicted_clients"]) >= 1, what="a client evicted")
        wait_for(lambda: len(small.ok("CLIENT", "LIST").splitlines()) == 3, what="the greedy one gone")
        assert modest.ok("PING") == "PONG" and small.ok("PING") == "PONG"
    run(small, """
        CONFIG SET maxmemory-clients 50% => +OK
        CONFIG GET maxmemory-clients => ["maxmemory-clients", "50%"]
    """)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru"])
def test_least_recently_used_goes_first(small, policy):
    options = ("EX", "1000") if policy.startswith("volatile") else ()
    old, fresh = ["old%d" % i for i in range(1000)], ["fresh%d" % i for i in range(1000)]
    assert fill(small, old + fresh, *options) == []
    time.sleep(2.1)  # idle times are told apart by seconds
    for at in range(0, 1000, 100):
        small.ok("MGET", *fresh[at:at + 100])
    small.limit(100 << 10, policy)
    assert fill(small, ["new%d" % i for i in range(900)], *options) == []
    kept, lost = small.ok("EXISTS", *fresh), 1000 - small.ok("EXISTS", *old)
    assert lost > 400 and kept > 950, (kept, lost)


# ---- lazyfree-lazy-* ----

def big(conn, name):
    conn.ok("SADD", name, *["member%d" % i for i in range(500)])


def test_who_frees_what_is_deleted(make_server, env):
    """What lazyfreed_objects counts, by what each directive says."""
    server = make_server(directives={"io-threads": "2", "databases": "2"})
    with server.connect() as conn:
        def freed_by(*commands):
            conn.ok("CONFIG", "RESETSTAT")
            for command in commands:
                conn.ok(*command)
            wait_for(lambda: conn.info("memory")["lazyfree_pending_objects"] == "0", env.timeout(10), what="nothing pending")
            return int(conn.info("memory")["lazyfreed_objects"])

        for lazy in ("no", "yes"):
            conn.ok("CONFIG", "SET", "lazyfree-lazy-user-del", lazy, "lazyfree-lazy-server-del", lazy, "lazyfree-lazy-user-flush", lazy,
                    "lazyfree-lazy-eviction", lazy)
            wanted = int(lazy == "yes")
            big(conn, "a")
            assert freed_by(["DEL", "a"]) == wanted
            big(conn, "a")
            conn.ok("SET", "b", "x")
            assert freed_by(["RENAME", "b", "a"]) == wanted  # the server deletes what was there
            big(conn, "c")
            assert freed_by(["UNLINK", "c"]) == 1  # says so itself
            conn.ok("SET", "d", "x")
            assert freed_by(["UNLINK", "d"]) == 0  # not worth it
            for command, counted in ((["FLUSHDB"], lazy == "yes"), (["FLUSHDB", "ASYNC"], True), (["FLUSHDB", "SYNC"], False),
                                     (["FLUSHALL"], lazy == "yes")):
                conn.ok("MSET", *[x for i in range(200) for x in ("k%d" % i, "v")])
                assert (freed_by(command) > 0) == counted, (lazy, command)
            big(conn, "e")
            conn.ok("CONFIG", "RESETSTAT")
            conn.ok("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", "1")
            wait_for(lambda: conn.ok("DBSIZE") == 0, env.timeout(10), what="the key evicted")
            wait_for(lambda: int(conn.info("memory")["lazyfreed_objects"]) == wanted, env.timeout(10), what="the key freed")
            conn.ok("CONFIG", "SET", "maxmemory", "0")
            big(conn, "f")  # always in the background
            assert freed_by(["PEXPIRE", "f", "1"]) <= 1
            wait_for(lambda: int(conn.info("memory")["lazyfreed_objects"]) == 1, env.timeout(10), what="the key that ran out freed")
