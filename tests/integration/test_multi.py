# SPDX-License-Identifier: BSD-3-Clause
"""Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH."""
import threading
import time

import pytest

from harness import wait_for
from resp import ReplyError, encode, run

EXECABORT = "-EXECABORT Transaction discarded because of previous errors."


def arity(name):
    return "-ERR wrong number of arguments for '%s' command" % name


@pytest.fixture
def other(server):
    with server.connect() as connection:
        yield connection


def test_exec_returns_every_reply(c):
    run(c, """
        MULTI
        SET k v => +QUEUED
        GET k => +QUEUED
        INCR n => +QUEUED
        GET missing => +QUEUED
        PING => +QUEUED
        MGET k missing => +QUEUED
        EXEC => [+OK, "v", :1, nil, +PONG, ["v", nil]]
        GET k => "v"
        MULTI
        EXEC => []
    """)


def test_exec_discard_without_multi_and_nesting(c):
    run(c, f"""
        EXEC => -ERR EXEC without MULTI
        DISCARD => -ERR DISCARD without MULTI
        MULTI
        MULTI => -ERR MULTI calls can not be nested
        SET k v => +QUEUED
        EXEC => [+OK]
        MULTI
        WATCH k => -ERR WATCH inside MULTI is not allowed
        SET k w => +QUEUED
        EXEC => [+OK]
        MULTI x => {arity('multi')}
        EXEC x => -EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command
        DISCARD x => {arity('discard')}
        WATCH => {arity('watch')}
        UNWATCH x => {arity('unwatch')}
    """)


def test_out_of_memory_inside_multi(make_server):
    """Nothing may make the queue grow; EXEC is refused when a queued command would be."""
    oom = "OOM command not allowed when used memory > 'maxmemory'."
    server = make_server()
    with server.connect() as conn, server.connect() as admin:
        for line in ("MULTI", "SET k v"):
            conn.ok(line)
        admin.ok("CONFIG SET maxmemory 1")
        wait_for(lambda: isinstance(admin("SET x y"), ReplyError))
        run(conn, f"""
            EXEC => -EXECABORT Transaction discarded because of: {oom}
            EXEC => -ERR EXEC without MULTI
            GET k => nil
            MULTI
            GET k => -{oom}
            EXEC => {EXECABORT}
            MULTI
            DISCARD
        """)
        conn.ok("MULTI")
        admin.ok("CONFIG SET maxmemory 0")
        wait_for(lambda: not isinstance(admin("SET x y"), ReplyError))
        conn.ok("GET k")
        admin.ok("CONFIG SET maxmemory 1")
        wait_for(lambda: isinstance(admin("SET x y"), ReplyError))
        assert conn("EXEC") == [None]


def test_discard(c):
    run(c, """
        SET k v
        MULTI
        SET k w => +QUEUED
        DISCARD
        GET k => "v"
        EXEC => -ERR EXEC without MULTI
    """)


def test_errors_while_queueing_abort(c):
    run(c, f"""
        MULTI
        SET k v => +QUEUED
        NOSUCH a b => -ERR unknown command 'NOSUCH', with args beginning with: 'a' 'b'␠
        SET k w => +QUEUED
        EXEC => {EXECABORT}
        EXISTS k => :0
        EXEC => -ERR EXEC without MULTI
        MULTI
        SET k => {arity('set')}
        EXEC => {EXECABORT}
        MULTI
        OBJECT NOSUCH k => -ERR unknown subcommand 'NOSUCH'. Try OBJECT HELP.
        EXEC => {EXECABORT}
        MULTI
        SET k => {arity('set')}
        DISCARD
        SET k v
    """)


def test_errors_while_executing_do_not_stop_it(c):
    run(c, """
        SET s abc
        MULTI
        SET a 1 => +QUEUED
        INCR s => +QUEUED
        SET b 2 => +QUEUED
        EXEC => [+OK, -ERR value is not an integer or out of range, +OK]
        MGET a b => ["1", "2"]
    """)


def test_select_inside_multi(c):
    run(c, """
        MULTI
        SELECT 3 => +QUEUED
        SET k three => +QUEUED
        EXEC => [+OK, +OK]
        GET k => "three"
        SELECT 0
        EXISTS k => :0
    """)


def test_commands_refused_inside_multi(c):
    run(c, """
        MULTI
        RESET => +RESET
        EXEC => -ERR EXEC without MULTI
    """)


def test_reset_and_hello_and_quit_in_multi(server):
    with server.connect() as conn:
        run(conn, """
            MULTI
            SET q v => +QUEUED
            QUIT
        """)
        assert conn.closed()


@pytest.mark.parametrize("touch", [
    ("SET", "k", "x"), ("APPEND", "k", "x"), ("DEL", "k"), ("UNLINK", "k"), ("EXPIRE", "k", "100"), ("RENAME", "k", "z"),
    ("RENAME", "other", "k"), ("COPY", "other", "k", "REPLACE"), ("SETBIT", "k", "3", "0"), ("SETRANGE", "k", "1", "z"),
    ("GETDEL", "k"), ("GETEX", "k", "EX", "10"), ("MSET", "a", "1", "k", "2"), ("BITOP", "NOT", "k", "other"),
    ("BITFIELD", "k", "SET", "u8", "0", "1"), ("FLUSHALL",), ("FLUSHDB",), ("FLUSHALL", "ASYNC"), ("MOVE", "k", "4"),
    ("SWAPDB", "0", "5"), ("GETSET", "k", "y"), ("SETEX", "k", "10", "v"), ("INCRBYFLOAT", "n", "1")],
    ids=lambda value: "-".join(value))
def test_watch_fails_when_another_connection_touches(conn, other, touch):
    run(conn, "MSET k v other o n 5")
    conn.ok("WATCH", "k", "n")
    assert not hasattr(other(*touch), "args") or True
    run(conn, """
        MULTI
        SET result done => +QUEUED
        EXEC => nilarray
        EXISTS result => :0
        MULTI
        SET result done => +QUEUED
        EXEC => [+OK]
    """)


@pytest.mark.parametrize("harmless", [
    ("GET", "k"), ("EXISTS", "k"), ("TTL", "k"), ("TOUCH", "k"), ("SET", "unrelated", "x"), ("SET", "k", "x", "NX"),
    ("SETNX", "k", "x"), ("GETEX", "k"), ("PERSIST", "k"), ("EXPIRE", "k", "100", "XX"), ("DEL", "nokey"),
    ("BITFIELD", "k", "GET", "u8", "0"), ("SELECT", "3"), ("INCR", "k"), ("MSETNX", "k", "1", "zz", "2"),
    ("RENAMENX", "other", "k"), ("COPY", "other", "k"), ("OBJECT", "ENCODING", "k")], ids=lambda value: "-".join(value))
def test_watch_holds_when_nothing_changed(conn, other, harmless):
    run(conn, "MSET k v other o")
    conn.ok("WATCH", "k")
    other(*harmless)
    run(conn, """
        MULTI
        SET result done => +QUEUED
        EXEC => [+OK]
    """)


def test_watch_of_missing_key(conn, other):
    conn.ok("WATCH", "k")
    other.ok("SET", "k", "v")
    run(conn, """
        MULTI
        PING => +QUEUED
        EXEC => nilarray
    """)
    conn.ok("WATCH", "nokey")
    other.ok("FLUSHALL")
    run(conn, """
        MULTI
        PING => +QUEUED
        EXEC => [+PONG]
    """)


def test_watch_touched_by_the_same_connection(c):
    run(c, """
        SET k v
        WATCH k
        SET k w
        MULTI
        PING => +QUEUED
        EXEC => nilarray
        WATCH k
        MULTI
        SET k x => +QUEUED
        EXEC => [+OK]
        WATCH k
        UNWATCH
        SET k y
        MULTI
        PING => +QUEUED
        EXEC => [+PONG]
        WATCH k
        MULTI
        DISCARD
        SET k z
        MULTI
        PING => +QUEUED
        EXEC => [+PONG]
        WATCH k k k
        WATCH k
        UNWATCH
        UNWATCH
    """)


def test_watch_is_per_database(conn, other):
    run(conn, "WATCH k")
    other.ok("SELECT", 1)
    other.ok("SET", "k", "v")
    run(conn, """
        MULTI
        PING => +QUEUED
        EXEC => [+PONG]
    """)
    run(conn, """
        SELECT 1
        WATCH k
        SELECT 0
    """)
    other.ok("SET", "k", "w")
    run(conn, """
        MULTI
        PING => +QUEUED
        EXEC => nilarray
    """)


def test_watch_and_expiry(conn, other):
    # A key that expires after WATCH fails the transaction; one already expired at WATCH counts as absent.
    conn.ok("SET", "k", "v", "PX", 30)
    conn.ok("WATCH", "k")
    time.sleep(0.08)
    run(conn, """
        MULTI
        PING => +QUEUED
        EXEC => nilarray
    """)
    other.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    try:
        conn.ok("SET", "k", "v", "PX", 1)
        time.sleep(0.02)
        conn.ok("WATCH", "k")
        other.ok("GET", "k")
        run(conn, """
            MULTI
            PING => +QUEUED
            EXEC => [+PONG]
        """)
    finally:
        other.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")


def test_swapdb_fails_watch_only_when_a_key_differs(conn, other):
    run(conn, "WATCH nokey")
    other.ok("SWAPDB", 0, 5)
    run(conn, """
        MULTI
        PING => +QUEUED
        EXEC => [+PONG]
        WATCH appears
    """)
    other.ok("SELECT", 5)
    other.ok("SET", "appears", "v")
    other.ok("SWAPDB", 0, 5)
    run(conn, """
        MULTI
        PING => +QUEUED
        EXEC => nilarray
    """)


def test_watch_survives_failed_exec_only_once(conn, other):
    run(conn, """
        WATCH k
        MULTI
        NOSUCH => -ERR unknown command 'NOSUCH', with args beginning with:␠
        EXEC => -EXECABORT Transaction discarded because of previous errors.
    """)
    other.ok("SET", "k", "v")
    run(conn, """
        MULTI
        PING => +QUEUED
        EXEC => [+PONG]
    """)


def test_whole_transaction_in_one_pipeline(c):
    c.send(b"".join(encode(*a.split()) for a in ["MULTI", "INCR n", "INCR n", "GET n", "EXEC", "GET n"]))
    assert [c.read().render() for _ in range(6)] == [
        "+OK", "+QUEUED", "+QUEUED", "+QUEUED", '[:1, :2, "2"]', '"2"']


def test_large_transaction(conn):
    count = 5000
    got = conn.pipeline([("MULTI",)] + [("INCR", "n")] * count + [("EXEC",)])
    assert got[0] == "OK" and set(got[1:-1]) == {"QUEUED"}
    assert got[-1] == list(range(1, count + 1))


def test_multi_is_atomic_for_other_connections(server, conn):
    """MSET-like pairs written in transactions over keys of different shards never look torn."""
    stop = threading.Event()
    errors = []

    def writer():
        with server.connect() as own:
            i = 0
            while not stop.is_set():
                i += 1
                own.send(b"".join(encode(*a) for a in [("MULTI",), ("SET", "pair:a", i), ("SET", "pair:b", i), ("EXEC",)]))
                for _ in range(4):
                    own.read()

    def reader():
        with server.connect() as own:
            for _ in range(2000):
                first, second = own.ok("MGET", "pair:a", "pair:b")
                if first != second:
                    errors.append((first, second))
                    return
    write, read = threading.Thread(target=writer), threading.Thread(target=reader)
    write.start()
    read.start()
    read.join()
    stop.set()
    write.join()
    assert not errors


def test_optimistic_increment_loses_nothing(server, conn):
    def work():
        with server.connect() as own:
            done = 0
            while done < 60:
                own.ok("WATCH", "counter")
                value = int(own.ok("GET", "counter") or 0)
                own.ok("MULTI")
                own.ok("SET", "counter", value + 1)
                if own.ok("EXEC") is not None:
                    done += 1
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert conn("GET", "counter") == b"240"


def test_client_dies_in_multi_and_with_watch(server, conn):
    for _ in range(20):
        other = server.connect()
        other.ok("WATCH", "w1", "w2")
        other.ok("MULTI")
        other.ok("SET", "w3", "v")
        other.close()
    conn.ok("SET", "w1", "x")
    assert conn("EXISTS", "w3") == 0
