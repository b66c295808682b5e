# SPDX-License-Identifier: BSD-3-Clause
"""Large values: sent from the object itself however slowly they are read, valid although overwritten meanwhile, received
into what becomes the value, and within the limits. The figures for 64 MiB are perf/large-values.py's."""
import os
import random
import socket
import time

import pytest

from harness import wait_for
from resp import encode

MIB = 1 << 20


def memory(server, field):
    with open("/proc/%d/status" % server.proc.pid) as handle:
        return next(int(line.split()[1]) for line in handle if line.startswith(field + ":")) * 1024


def reset_peak(server):
    try:
        with open("/proc/%d/clear_refs" % server.proc.pid, "w") as handle:
            handle.write("5")
    except OSError:
        pytest.skip("no /proc/PID/clear_refs")
    return memory(server, "VmRSS")


def slow_readers(server, count):
    conns = []
    for _ in range(count):
        conns.append(server.connect(timeout=60))
        conns[-1].sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        assert conns[-1]("PING") == "PONG"
    return conns


def read_bulk(conn, size):
    """A bulk reply as bytes, without the reader's own copies."""
    head = b"$%d\r\n" % size
    out, got = bytearray(len(head) + size + 2), 0
    view = memoryview(out)
    while got < len(out):
        n = conn.sock.recv_into(view[got:], min(len(out) - got, 1 << 18))
        assert n > 0, "closed after %d bytes" % got
        got += n
    assert out.startswith(head) and out.endswith(b"\r\n")
    return bytes(out[len(head):-2])


@pytest.mark.slow
def test_memory_is_flat_while_many_read_a_large_value(make_server, env):
    count, size = (10, 2 * MIB) if env.sanitizer else (100, 8 * MIB)
    server = make_server(directives={"io-threads": "1"} if env.is_kettle else {})
    value = os.urandom(MIB) * (size // MIB)
    with server.connect(timeout=60) as conn:
        conn.ok("SET", "big", value)
        readers = slow_readers(server, count)
        before = reset_peak(server)
        for reader in readers:
            reader.send(encode("GET", "big"))
        time.sleep(1)  # every socket is full, nobody reads
        assert conn("PING") == "PONG"
        if env.is_kettle and not env.sanitizer:
            assert memory(server, "VmHWM") - before < 40 * MIB  # the replies are 800 MiB
            omem = [int(field.split(b"=")[1]) for line in conn.ok("CLIENT", "LIST").splitlines() for field in line.split()
                    if field.startswith(b"omem=")]
            assert sum(x > size for x in omem) == count  # the limits reckon with it all the same
        for reader in readers:
            assert read_bulk(reader, size) == value
        if env.is_kettle and not env.sanitizer:
            assert memory(server, "VmHWM") - before < 40 * MIB
        for reader in readers:
            assert reader("PING") == "PONG"
            reader.close()


CHANGES = {
    "overwritten": lambda conn: conn.ok("SET", "big", b"short"),
    "overwritten by a large one": lambda conn: conn.ok("SET", "big", b"y" * 9 * MIB),
    "deleted": lambda conn: conn("DEL", "big"),
    "unlinked": lambda conn: conn("UNLINK", "big"),
    "appended to": lambda conn: conn("APPEND", "big", b"z" * MIB),
    "changed in place": lambda conn: conn("SETRANGE", "big", 5, b"z" * 7 * MIB),
    "bit by bit": lambda conn: [conn("SETBIT", "big", i * 4001, 1) for i in range(1000)],
    "flushed": lambda conn: conn.ok("FLUSHALL"),
    "flushed in the background": lambda conn: conn.ok("FLUSHALL", "ASYNC"),
    "renamed over": lambda conn: (conn.ok("SET", "other", "x"), conn.ok("RENAME", "other", "big")),
    "expired": lambda conn: (conn("PEXPIRE", "big", 1), time.sleep(0.3), conn("EXISTS", "big")),
}


NOT_SLOW = ("changed in place", "deleted", "overwritten")


@pytest.mark.parametrize("how", [how if how in NOT_SLOW else pytest.param(how, marks=pytest.mark.slow) for how in sorted(CHANGES)])
def test_value_stays_valid_while_it_is_sent(server, env, how):
    value = os.urandom(MIB) * 8
    with server.connect(timeout=60) as conn:
        conn.ok("FLUSHALL")
        conn.ok("SET", "big", value)
        readers = slow_readers(server, 3)
        for reader in readers:
            reader.send(encode("GET", "big") + encode("GET", "big") + encode("GETRANGE", "big", 1, 100))
        wait_for(lambda: conn.ok("CLIENT", "LIST").count(b"cmd=getrange") == len(readers), env.timeout(10), what="the requests to be run")
        CHANGES[how](conn)
        conn.ok("SET", "filler", b"w" * 8 * MIB)  # takes the memory if it was given back
        for reader in readers:
            assert read_bulk(reader, len(value)) == value
            assert read_bulk(reader, len(value)) == value
            assert reader.read().value == value[1:101]
            reader.close()


def test_reader_that_leaves_in_the_middle(server, env):
    value = b"x" * 8 * MIB
    with server.connect(timeout=60) as conn:
        conn.ok("FLUSHALL")
        conn.ok("SET", "big", value)
        for i in range(30):
            reader = slow_readers(server, 1)[0]
            reader.send(encode("GET", "big"))
            reader.sock.recv(random.choice([1, 100000]))
            if i % 2:
                reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            reader.close()
        wait_for(lambda: len(conn.ok("CLIENT", "LIST").splitlines()) <= 2, env.timeout(10), what="the readers to be gone")
        assert conn("STRLEN", "big") == len(value)


@pytest.mark.slow
def test_set_of_a_large_value_is_held_once(make_server, env):
    server = make_server(directives={"io-threads": "1"} if env.is_kettle else {})
    size = 64 * MIB
    with server.connect(timeout=60) as conn:
        assert conn("PING") == "PONG"
        before = reset_peak(server)
        started = time.monotonic()
        conn.send(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % size)
        piece = os.urandom(MIB)
        for _ in range(size // MIB):
            conn.send(piece)
        conn.send(b"\r\n")
        assert conn.read().value == b"OK"
        if not env.sanitizer:
            assert memory(server, "VmHWM") - before < 1.75 * size  # the value, and what it grew out of
            assert time.monotonic() - started < 20
        assert conn("STRLEN", "big") == size
        assert conn("GETRANGE", "big", size - MIB, -1) == piece
        conn.send(encode("SET", "big", b"x" * size) + b"*1\r\n$4\r\nPI")  # the beginning of a command keeps no large buffer
        assert conn.read().value == b"OK"

        def held():
            with server.connect() as other:
                lines = [x for x in other.ok("CLIENT", "LIST").splitlines() if b"cmd=client" not in x]
                return sum(int(field.split(b"=")[1]) for field in lines[0].split() if field.startswith((b"qbuf=", b"qbuf-free=")))
        if env.is_kettle:
            wait_for(lambda: held() < MIB, env.timeout(5), what="the buffer to be given back")
        conn.send(b"NG\r\n")
        assert conn.read().value == b"PONG"


def test_limits_hold_for_large_values(make_server):
    server = make_server(directives={"client-query-buffer-limit": "8mb", "proto-max-bulk-len": "16mb"})
    with server.connect() as conn, server.connect() as big, server.connect() as large:
        assert big("PING") == large("PING") == "PONG"
        big.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (16 * MIB + 1))
        assert big.read_until_eof() == b"-ERR Protocol error: invalid bulk length\r\n"
        large.sock.settimeout(5)
        sent = 0
        with pytest.raises(OSError):
            large.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (16 * MIB))
            while sent < 64 * MIB:
                large.send(b"x" * MIB)
                sent += MIB
        conn.ok("SET", "k", b"x" * (7 * MIB))
        assert conn("EXISTS", "k") == 1
    server.wait_log("Closing client that reached max query buffer length")


def in_pieces(conn, data, size, pause=0.002):
    for at in range(0, len(data), size):
        conn.send(data[at:at + size])
        if at < 8 * size:
            time.sleep(pause)


@pytest.mark.parametrize("piece", [1000, 70001, 400000, 1 << 30])
def test_large_arguments_however_they_come(c, piece):
    rng = random.Random(piece)
    a, b, d = (rng.randbytes(size) for size in (65536, 1500000, 300001))
    in_pieces(c, encode("SET", "a", a) + encode("MSET", "b", b, "small", "x", "d", d) + encode("APPEND", "a", d) + encode("PING"), piece)
    assert [c.read().py for _ in range(4)] == ["OK", "OK", len(a) + len(d), "PONG"]
    assert c("GET", "a") == a + d and c("MGET", "b", "small", "d") == [b, b"x", d]
    # what lies behind the value in its memory must not show when it grows
    assert c("SETRANGE", "b", len(b) + 5, "z") == len(b) + 6
    assert c("GETRANGE", "b", -8, -1) == b[-2:] + bytes(5) + b"z"
    assert c("STRLEN", "d") == len(d) and c("OBJECT", "ENCODING", "d") == b"raw"


def test_large_arguments_of_refused_commands(c):
    value = b"v" * 200000
    c.ok("SET", "n", "1")
    in_pieces(c, encode("NOSUCH", value) + encode("SET", "k", value, "NX", "XX") + encode("INCRBY", "n", value) + encode("ECHO", value), 50000)
    replies = [c.read().py for _ in range(4)]
    assert all(reply.startswith("ERR") for reply in replies[:3])
    assert replies[3] == value
    assert c("EXISTS", "k") == 0


def test_large_arguments_in_a_transaction(c):
    value = random.Random(3).randbytes(250000)
    in_pieces(c, encode("MULTI") + encode("SET", "k", value) + encode("GET", "k") + encode("EXEC"), 30000)
    assert [c.read().py for _ in range(3)] == ["OK", "QUEUED", "QUEUED"]
    assert c.read().py == ["OK", value]


def test_large_arguments_during_a_pause(server, c):
    """The command that waits is taken apart and put together again."""
    a, b = random.Random(4).randbytes(100000), random.Random(5).randbytes(180000)
    with server.connect() as other:
        other.ok("CLIENT", "PAUSE", "100000", "WRITE")
        in_pieces(c, encode("MSET", "a", a, "mid", "m", "b", b) + encode("GET", "b"), 20000)
        time.sleep(0.3)
        assert other("EXISTS", "a") == 0
        other.ok("CLIENT", "UNPAUSE")
    assert c.read().py == "OK" and c.read().py == b
    assert c("MGET", "a", "mid") == [a, b"m"]


def test_a_claimed_length_costs_little(make_server, env):
    if not env.is_kettle:
        pytest.skip("redis-server reserves what is claimed")
    server = make_server()
    with server.connect() as conn:
        before = int(conn.info("memory")["used_memory"])
        others = [server.connect() for _ in range(20)]
        for other in others:
            other.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$500000000\r\n" + b"x" * 1000)
        time.sleep(0.3)
        assert int(conn.info("memory")["used_memory"]) - before < 20 * 500000
        for other in others:
            other.close()
        wait_for(lambda: int(conn.info("clients")["connected_clients"]) == 1, env.timeout(5), what="the clients to go")
        wait_for(lambda: int(conn.info("memory")["used_memory"]) - before < 500000, env.timeout(5), what="the memory to be given back")
