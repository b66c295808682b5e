# SPDX-License-Identifier: BSD-3-Clause
"""Keyspace notifications: classes, order, the configuration's spelling."""
import shutil
import time

import pytest

import events
import harness
from resp import encode, run, split_args


class Listener:
    def __init__(self, server, *patterns):
        self.conn = server.connect(proto=3)
        for pattern in patterns or ("__key*@*__:*",):
            self.conn.node("PSUBSCRIBE", pattern)

    def take(self):
        """What has been heard up to now, as 'channel message'."""
        self.conn.send(encode("PING"))
        heard = []
        while True:
            node = self.conn.read()
            if node.kind == "+":
                return heard
            heard.append("%s %s" % (node.py[2].decode(), node.py[3].decode()))

    def wait(self):
        node = self.conn.read()
        return "%s %s" % (node.py[2].decode(), node.py[3].decode())


@pytest.fixture
def listener(server):
    made = Listener(server)
    yield made
    made.conn.close()


@pytest.fixture(name="events")
def events_fixture(conn):
    yield lambda flags: conn.ok("CONFIG", "SET", "notify-keyspace-events", flags)
    conn.ok("CONFIG", "SET", "notify-keyspace-events", "")


def test_spelling_of_the_directive(c):
    try:
        for given, shown in (("KEA", "AKE"), ("nKE", "nKE"), ("KEn", "nKE"), ("AKEn", "AKE"), ("mnA", "Am"), ("g$lshzxetd", "A"),
                             ("dtexzhsl$g", "A"), ("Kx", "xK"), ("zsE", "szE"), ("K", "K"), ("", ""), ("KKgg", "gK")):
            assert c("CONFIG", "SET", "notify-keyspace-events", given) == "OK"
            got = c("CONFIG", "GET", "notify-keyspace-events")
            assert (got[b"notify-keyspace-events"] if c.proto == 3 else got[1]) == shown.encode(), given
        run(c, """
            CONFIG SET notify-keyspace-events KQ => -ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Invalid event class character. Use 'Ag$lshzxeKEtmdn'.
        """)
    finally:
        c("CONFIG", "SET", "notify-keyspace-events", "")


def test_both_channels(conn, listener, events):
    events("KEA")
    conn.ok("SET", "k", "v")
    conn.ok("EXPIRE", "k", "100")
    conn.ok("SELECT", "3")
    conn.ok("SET", "other key", "v")
    conn.ok("DEL", "other key")
    conn.ok("SELECT", "0")
    assert listener.take() == ["__keyspace@0__:k set", "__keyevent@0__:set k", "__keyspace@0__:k expire", "__keyevent@0__:expire k",
                               "__keyspace@3__:other key set", "__keyevent@3__:set other key", "__keyspace@3__:other key del",
                               "__keyevent@3__:del other key"]
    events("Eg")
    conn.ok("SET", "k", "v")
    conn.ok("DEL", "k")
    assert listener.take() == ["__keyevent@0__:del k"]
    events("K$")
    conn.ok("APPEND", "k", "v")
    conn.ok("DEL", "k")
    assert listener.take() == ["__keyspace@0__:k append"]
    events("Ag")
    conn.ok("SET", "k", "v")
    events("KE")
    conn.ok("SET", "k", "v")
    events("")
    conn.ok("SET", "k", "v")
    assert listener.take() == []


def test_new_and_missing_keys(conn, listener, events):
    events("En$gm")
    conn.ok("SET", "k", "v")
    conn.ok("SET", "k", "w")
    conn("GET", "none")
    conn.ok("INCR", "n")
    conn.ok("COPY", "k", "copy")
    conn.ok("RENAME", "copy", "renamed")
    assert listener.take() == [
        "__keyevent@0__:" + e for e in ("new k", "set k", "set k", "keymiss none", "new n", "incrby n", "new copy", "copy_to copy",
                                        "new renamed", "rename_from copy", "rename_to renamed")]
    events("AE")
    conn("GET", "none")
    conn.ok("SET", "fresh", "1")
    assert listener.take() == ["__keyevent@0__:set fresh"]


def test_expiry_of_a_key_asked_for(conn, listener, events):
    events("Ex")
    conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    conn.ok("SET", "k", "v", "PX", "20")
    time.sleep(0.1)
    assert listener.take() == []
    assert conn("GET", "k") is None
    assert listener.take() == ["__keyevent@0__:expired k"]
    conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")


def test_expiry_of_a_key_nobody_asks_for(conn, listener, events):
    events("KEx")
    conn.ok("SET", "k", "v", "PX", "20")
    assert listener.wait() == "__keyspace@0__:k expired" and listener.wait() == "__keyevent@0__:expired k"


def test_transaction(conn, listener, events):
    events("E$g")
    conn.send(b"".join(encode(*args) for args in (("MULTI",), ("SET", "a", "1"), ("INCR", "a"), ("DEL", "a"), ("EXEC",))))
    assert [conn.read().py for _ in range(5)][-1] == ["OK", 2, 1]
    assert listener.take() == ["__keyevent@0__:set a", "__keyevent@0__:incrby a", "__keyevent@0__:del a"]


def heard_of(server, commands):
    """(command, reply, events) of each command; all classes, missing and new keys too."""
    out = []
    with server.connect() as conn:
        conn.ok("FLUSHALL")
        conn.ok("CONFIG", "SET", "notify-keyspace-events", "AEnm")
        conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        listener = Listener(server, "__keyevent@*__:*")
        for command in commands:
            if command == "SLEEP":
                time.sleep(0.02)
                continue
            reply = conn.node(*split_args(command)).render()
            out.append((command, reply, listener.take()))
        conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")
        conn.ok("CONFIG", "SET", "notify-keyspace-events", "")
        listener.conn.close()
    return out


def test_events_of_all_commands(env, server):
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server to compare with")
    commands = events.COMMANDS.strip().splitlines()
    reference = harness.Server(harness.Env("redis-server", False, env.certs), "tcp")
    try:
        want = heard_of(reference, commands)
    finally:
        reference.stop()
    got = heard_of(server, commands)
    wrong = [(w, g) for w, g in zip(want, got) if w[2] != g[2] and "unknown command" not in g[1]]
    assert not wrong, "%d differ:\n%s" % (len(wrong), "\n".join("%s\n  %s\n  %s" % (w[0], w[1:], g[1:]) for w, g in wrong[:20]))


def test_order_for_each_key(make_server):
    """Several writers of one key, on several threads: its events come in the order of its values."""
    server = make_server(directives={"io-threads": "4", "notify-keyspace-events": "K$g"})
    listener = Listener(server, "__keyspace@0__:counter")
    writers = [server.connect() for _ in range(6)]
    for _ in range(40):
        for conn in writers:
            conn.send(encode("INCR", "counter") * 3 + encode("DEL", "counter"))
        for conn in writers:
            for _ in range(4):
                conn.read()
    heard = [line.split()[1] for line in listener.take()]
    assert heard.count("incrby") == 40 * 6 * 3
    value, dels = 0, 0
    for event in heard:
        if event == "del":
            assert value > 0
            value, dels = 0, dels + 1
        else:
            value += 1
    assert dels <= 240
    for conn in writers + [listener.conn]:
        conn.close()
