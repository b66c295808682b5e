# SPDX-License-Identifier: BSD-3-Clause
"""Client-side caching: CLIENT TRACKING in all its modes, and what it promises when several threads change keys."""
import random
import shutil
import threading
import time

import pytest

import events
import harness
from harness import wait_for
from resp import encode, run, split_args

INVALID = '>["invalidate", %s]'


def pushes(conn):
    """What has been pushed up to now."""
    conn.send(encode("PING"))
    heard = []
    while True:
        node = conn.read()
        if node.kind == "+" or node.render() == '["pong", ""]':
            return heard
        heard.append(node.render())


@pytest.fixture
def caching(server, conn):
    """A client that caches, over RESP3."""
    with server.connect(proto=3) as made:
        yield made


def info(conn, key):
    section = "clients" if key == "tracking_clients" else "stats"
    return int(conn.info(section)[key])


def test_options_and_their_errors(c):
    run(c, """
        3| CLIENT TRACKINGINFO => {"flags": ~["off"], "redirect": :-1, "prefixes": []}
        2| CLIENT TRACKINGINFO => ["flags", ["off"], "redirect", :-1, "prefixes", []]
        CLIENT GETREDIR => :-1
        CLIENT CACHING YES => -ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled
        CLIENT TRACKING ON PREFIX foo => -ERR PREFIX option requires BCAST mode to be enabled
        CLIENT TRACKING ON BCAST OPTIN => -ERR OPTIN and OPTOUT are not compatible with BCAST
        CLIENT TRACKING ON OPTIN OPTOUT => -ERR You can't specify both OPTIN mode and OPTOUT mode
        CLIENT TRACKING ON REDIRECT 999999 => -ERR The client ID you want redirect to does not exist
        CLIENT TRACKING ON REDIRECT 0 => -ERR The client ID you want redirect to does not exist
        CLIENT TRACKING ON REDIRECT x => -ERR value is not an integer or out of range
        CLIENT TRACKING maybe => -ERR syntax error
        CLIENT TRACKING ON FOO => -ERR syntax error
        CLIENT TRACKING ON PREFIX => -ERR syntax error
        CLIENT TRACKING ON
        3| CLIENT TRACKINGINFO => {"flags": ~["on"], "redirect": :0, "prefixes": []}
        CLIENT TRACKING ON BCAST => -ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.
        CLIENT TRACKING ON OPTIN
        CLIENT CACHING NO => -ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.
        CLIENT CACHING maybe => -ERR syntax error
        CLIENT CACHING YES
        3| CLIENT TRACKINGINFO => {"flags": ~["on", "optin", "caching-yes"], "redirect": :0, "prefixes": []}
        CLIENT GETREDIR => :0
        PING => +PONG
        3| CLIENT TRACKINGINFO => {"flags": ~["on", "optin"], "redirect": :0, "prefixes": []}
        CLIENT TRACKING ON OPTOUT => -ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.
        CLIENT TRACKING OFF
        CLIENT TRACKING ON OPTOUT NOLOOP
        CLIENT CACHING YES => -ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.
        CLIENT CACHING NO
        3| CLIENT TRACKINGINFO => {"flags": ~["on", "optout", "caching-no", "noloop"], "redirect": :0, "prefixes": []}
        CLIENT TRACKING OFF OPTIN OPTOUT
        CLIENT TRACKING ON BCAST PREFIX a PREFIX ab => -ERR Prefix 'a' overlaps with another provided prefix 'ab'. Prefixes for a single client must not overlap.
        CLIENT TRACKING ON BCAST PREFIX ab PREFIX a => -ERR Prefix 'ab' overlaps with another provided prefix 'a'. Prefixes for a single client must not overlap.
        CLIENT TRACKING ON BCAST PREFIX ab PREFIX b
        3| CLIENT TRACKINGINFO => {"flags": ~["on", "bcast"], "redirect": :0, "prefixes": ["ab", "b"]}
        CLIENT TRACKING ON BCAST PREFIX a => -ERR Prefix 'a' overlaps with an existing prefix 'ab'. Prefixes for a single client must not overlap.
        CLIENT TRACKING ON BCAST PREFIX abc => -ERR Prefix 'abc' overlaps with an existing prefix 'ab'. Prefixes for a single client must not overlap.
        CLIENT TRACKING ON BCAST PREFIX c
        3| CLIENT TRACKINGINFO => {"flags": ~["on", "bcast"], "redirect": :0, "prefixes": ["ab", "b", "c"]}
        RESET => +RESET
    """)
    run(c, """
        CLIENT GETREDIR => :-1
    """)


def test_a_read_key_is_invalidated_once(caching, conn):
    run(caching, """
        CLIENT TRACKING ON
        GET k => nil
        MGET k l => [nil, nil]
    """)
    conn("MSET", "k", "1", "l", "2", "m", "3")
    assert pushes(caching) == [INVALID % '["k"]', INVALID % '["l"]']
    conn("SET", "k", "2")
    assert pushes(caching) == []
    run(caching, 'GET k => "2"')
    conn("SELECT", "5")
    conn("SET", "k", "in another database")  # redis-server does not tell databases apart
    assert pushes(caching) == [INVALID % '["k"]']
    conn("SELECT", "0")
    run(caching, 'GET k => "2"')
    conn("DEL", "nosuch")
    conn("DEL", "k")
    assert pushes(caching) == [INVALID % '["k"]']


def test_own_changes_come_after_the_reply(caching, conn):
    run(caching, """
        CLIENT TRACKING ON
        GET k => nil
    """)
    assert caching.node("SET", "k", "v").render() == "+OK"
    assert caching.read().render() == INVALID % '["k"]'
    caching.send(encode("GET", "k") + encode("MULTI") + encode("SET", "k", "w") + encode("GET", "k") + encode("EXEC"))
    got = [caching.read().render() for _ in range(6)]
    assert got == ['"v"', "+OK", "+QUEUED", "+QUEUED", '[+OK, "w"]', INVALID % '["k"]']


def test_noloop(caching, conn):
    run(caching, """
        CLIENT TRACKING ON NOLOOP
        GET k => nil
        SET k mine
        GET k => "mine"
    """)
    assert pushes(caching) == []
    conn("SET", "k", "yours")
    assert pushes(caching) == [INVALID % '["k"]']


def test_optin(caching, conn):
    run(caching, """
        CLIENT TRACKING ON OPTIN
        GET k => nil
        CLIENT CACHING YES
        GET l => nil
        GET m => nil
        CLIENT CACHING YES
        MULTI
        GET a => +QUEUED
        PING => +QUEUED
        GET b => +QUEUED
        EXEC => [nil, +PONG, nil]
        MULTI
        GET c => +QUEUED
        CLIENT CACHING YES => +QUEUED
        GET d => +QUEUED
        EXEC => [nil, +OK, nil]
        GET e => nil
    """)
    for key in "klmabcde":
        conn("SET", key, "1")
    assert pushes(caching) == [INVALID % ('["%s"]' % key) for key in "labd"]


def test_optout(caching, conn):
    run(caching, """
        CLIENT TRACKING ON OPTOUT
        GET k => nil
        CLIENT CACHING NO
        GET l => nil
        GET m => nil
    """)
    for key in "klm":
        conn("SET", key, "1")
    assert pushes(caching) == [INVALID % '["k"]', INVALID % '["m"]']


def test_bcast(caching, conn):
    run(caching, "CLIENT TRACKING ON BCAST PREFIX k: PREFIX x:")
    conn("MSET", "k:2", "a", "k:1", "b", "x:1", "c", "z", "d", "k:2", "e")
    assert pushes(caching) == [INVALID % '["k:1", "k:2"]', INVALID % '["x:1"]']
    caching.send(encode("MULTI") + encode("SET", "k:b", "1") + encode("SET", "k:a", "1") + encode("EXEC"))
    assert [caching.read().render() for _ in range(5)][-2:] == ["[+OK, +OK]", INVALID % '["k:a", "k:b"]']
    run(caching, """
        CLIENT TRACKING OFF
        CLIENT TRACKING ON BCAST NOLOOP
        SET k:1 mine
    """)
    assert pushes(caching) == []
    conn("SET", "any", "1")
    assert pushes(caching) == [INVALID % '["any"]']
    assert info(conn, "tracking_total_prefixes") == 1
    run(caching, "CLIENT TRACKING OFF")
    assert info(conn, "tracking_total_prefixes") == 0 and info(conn, "tracking_clients") == 0


def test_flush(caching, conn):
    run(caching, """
        CLIENT TRACKING ON
        GET k => nil
    """)
    conn("FLUSHDB")
    conn("FLUSHALL", "ASYNC")
    assert pushes(caching) == [INVALID % "nil"] * 2
    assert info(conn, "tracking_total_keys") == 0 and info(conn, "tracking_total_items") == 0
    assert caching.node("FLUSHALL").render() == "+OK"
    assert caching.read().render() == INVALID % "nil"


def test_scripts(caching, conn):
    run(caching, """
        CLIENT TRACKING ON
        EVAL "return redis.call('get', 'k')" 0 => nil
        EVAL_RO "return redis.call('get', 'l')" 1 m => nil
    """)
    conn("EVAL", "redis.call('mset', 'k', 1, 'l', 2, 'm', 3)", "0")
    assert pushes(caching) == [INVALID % '["k"]', INVALID % '["l"]']
    caching.send(encode("EVAL", "redis.call('get', 'k') return redis.call('set', 'k', 5)", "0"))
    assert caching.read().render() == "+OK" and caching.read().render() == INVALID % '["k"]'


def test_expiry(caching, conn):
    conn("SET", "k", "v", "PX", "50")
    run(caching, """
        CLIENT TRACKING ON
        GET k => "v"
    """)
    assert caching.read().render() == INVALID % '["k"]'
    assert conn("GET", "k") is None


def test_redirect(server, conn):
    with server.connect() as receiver, server.connect() as reader:
        ident = receiver("CLIENT ID")
        assert reader("CLIENT", "TRACKING", "ON", "REDIRECT", str(ident)) == "OK"
        assert reader("CLIENT GETREDIR") == ident
        reader("GET", "k")
        conn("SET", "k", "1")
        assert receiver("PING") == "PONG"  # not listening: there is no way to tell it
        receiver("SUBSCRIBE", "__redis__:invalidate")
        reader("GET", "k")
        conn("SET", "k", "2")
        conn("FLUSHALL")
        assert pushes(receiver) == ['["message", "__redis__:invalidate", ["k"]]', '["message", "__redis__:invalidate", nil]']
        line = [l for l in conn("CLIENT LIST").decode().splitlines() if "id=%d " % reader("CLIENT ID") in l][0]
        assert " flags=t " in line and " redir=%d " % ident in line


def test_broken_redirect(server, caching, conn):
    with server.connect(proto=3) as receiver:
        ident = receiver("CLIENT ID")
        assert caching("CLIENT", "TRACKING", "ON", "REDIRECT", str(ident)) == "OK"
        caching("GET", "k")
        conn("SET", "k", "1")
        assert pushes(receiver) == [INVALID % '["k"]']
    wait_for(lambda: b"id=%d " % ident not in conn("CLIENT LIST"), what="the receiver to be gone")
    caching("GET", "k")
    conn("SET", "k", "2")
    assert caching.read().render() == '>["tracking-redir-broken", :%d]' % ident
    assert "broken_redirect" in caching.node("CLIENT", "TRACKINGINFO").render()
    line = [l for l in conn("CLIENT LIST").decode().splitlines() if "id=%d " % caching("CLIENT ID") in l][0]
    assert " flags=tR " in line
    assert caching("CLIENT TRACKING ON") == "OK"
    assert "broken_redirect" not in caching.node("CLIENT", "TRACKINGINFO").render()


def test_switched_off_and_gone(server, caching, conn):
    run(caching, """
        CLIENT TRACKING ON
        GET k => nil
        CLIENT TRACKING OFF
    """)
    conn("SET", "k", "1")
    assert pushes(caching) == []
    with server.connect(proto=3) as other:
        run(other, """
            CLIENT TRACKING ON
            GET k => "1"
        """)
        assert info(conn, "tracking_clients") == 1 and info(conn, "tracking_total_items") == 1
    wait_for(lambda: info(conn, "tracking_clients") == 0, what="the caching client to be gone")
    conn("SET", "k", "2")
    assert info(conn, "tracking_total_items") == 0


def test_table_is_limited(caching, conn):
    conn("CONFIG", "SET", "tracking-table-max-keys", "20")
    try:
        run(caching, "CLIENT TRACKING ON")
        caching.send(b"".join(encode("GET", "key:%d" % i) for i in range(100)))
        wait_for(lambda: info(conn, "tracking_total_keys") == 20, what="the table to shrink")
        heard, replies = [], 0
        while replies < 100 or len(heard) < 80:
            node = caching.read()
            if node.kind == ">":
                heard.append(node.py[1][0])
            else:
                replies += 1
        assert len(set(heard)) == 80 and pushes(caching) == []
        conn("MSET", *[x for i in range(100) for x in ("key:%d" % i, "v")])
        assert len(pushes(caching)) == 20
    finally:
        conn("CONFIG", "SET", "tracking-table-max-keys", "1000000")


def test_client_reply_off(caching, conn):
    run(caching, """
        CLIENT TRACKING ON
        GET k => nil
    """)
    caching.send(encode("CLIENT", "REPLY", "OFF"))
    conn("SET", "k", "v")
    assert caching.read().render() == INVALID % '["k"]'


class Cache(threading.Thread):
    """Keeps what it reads until told that it changed; at the end its cache must be what the server has."""

    def __init__(self, server, keys, mode, seed):
        super().__init__()
        self.conn = server.connect(proto=3)
        self.keys, self.bcast = keys, "BCAST" in mode
        self.random = random.Random(seed)
        self.cache, self.error, self.told = {}, None, 0
        assert self.conn("CLIENT", "TRACKING", "ON", *mode) == "OK"

    def note(self, node):
        """True when it was a push."""
        if node.kind != ">":
            return False
        self.told += 1
        if node.py[1] is None:
            self.cache.clear()
        for key in node.py[1] or []:
            self.cache.pop(key.decode(), None)
        return True

    def ask(self, keys):
        self.conn.send(b"".join(encode("GET", key) for key in keys))
        for key in keys:
            node = self.conn.read()
            while self.note(node):
                node = self.conn.read()
            self.cache[key] = node.py

    def run(self):
        try:
            for _ in range(150):
                wanted = [key for key in self.random.sample(self.keys, 8) if key not in self.cache]
                self.ask(wanted)
        except Exception as exc:
            self.error = exc

    def settle(self):
        self.conn.send(encode("PING"))
        while self.note(self.conn.read()):
            pass


@pytest.mark.parametrize("mode", [(), ("NOLOOP",), ("BCAST",), ("BCAST", "PREFIX", "k")], ids=lambda m: "-".join(m) or "default")
def test_caches_of_several_threads_are_never_stale(make_server, mode):
    server = make_server(directives={"io-threads": "4"})
    keys = ["k%d" % i for i in range(40)]
    caches = [Cache(server, keys, mode, seed) for seed in range(6)]
    errors = []

    def write(seed):
        try:
            rng = random.Random(seed)
            with server.connect() as conn:
                for i in range(60):
                    conn.send(b"".join(encode("SET", rng.choice(keys), "%d:%d:%d" % (seed, i, j)) for j in range(10)))
                    if i % 20 == 7:
                        conn.send(encode("FLUSHALL"))
                    for _ in range(11 if i % 20 == 7 else 10):
                        conn.read()
        except Exception as exc:
            errors.append(exc)
    threads = caches + [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and not [c.error for c in caches if c.error]
    with server.connect() as conn:
        for cache in caches:
            cache.settle()
            assert cache.told > 0
            for key, value in cache.cache.items():
                assert conn("GET", key) == value, key
            cache.conn.close()
        wait_for(lambda: info(conn, "tracking_clients") == 0, what="the caches to be gone")


def test_told_before_the_next_reply(make_server):
    """The writer has its answer, so the invalidation is there before whatever the reader asks for next."""
    server = make_server(directives={"io-threads": "4"})
    readers = [server.connect(proto=3) for _ in range(8)]
    for i, reader in enumerate(readers):
        reader("CLIENT", "TRACKING", "ON", *(["BCAST"] if i % 2 else []))
    with server.connect() as writer:
        for i in range(50):
            for reader in readers[::2]:
                reader("GET", "k")
            writer("SET", "k", str(i))
            for reader in readers:
                assert pushes(reader) == [INVALID % '["k"]']
    for reader in readers:
        reader.close()


def told_of(server, commands):
    """(command, reply, keys) of each command, as a BCAST client is told."""
    out = []
    with server.connect() as conn, server.connect(proto=3) as caching:
        conn.ok("FLUSHALL")
        conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        caching.ok("CLIENT", "TRACKING", "ON", "BCAST")
        for command in commands:
            if command == "SLEEP":
                time.sleep(0.02)
                continue
            reply = conn.node(*split_args(command)).render()
            out.append((command, reply, pushes(caching)))
        conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")
    return out


def test_changes_of_all_commands(env, server):
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server to compare with")
    commands = events.COMMANDS.strip().splitlines()
    reference = harness.Server(harness.Env("redis-server", False, env.certs), "tcp")
    try:
        want = told_of(reference, commands)
    finally:
        reference.stop()
    got = told_of(server, commands)
    wrong = [(w, g) for w, g in zip(want, got) if w[2] != g[2] and "unknown command" not in g[1]]
    assert not wrong, "%d differ:\n%s" % (len(wrong), "\n".join("%s\n  %s\n  %s" % (w[0], w[1:], g[1:]) for w, g in wrong[:20]))
