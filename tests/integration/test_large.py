# SPDX-License-Identifier: BSD-3-Clause
"""Large values: sent from the object itself however slowly they are read, valid although overwritten meanwhile, set without copies
beyond the second, and within the limits. The figures for 64 MiB are perf/large-values.py's."""
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


@pytest.mark.parametrize("how", sorted(CHANGES))
def test_value_stays_valid_while_it_is_sent(server, how):
    value = os.urandom(MIB) * 8
    with server.connect(timeout=60) as conn:
        conn.ok("FLUSHALL")
        conn.ok("SET", "big", value)
        readers = slow_readers(server, 3)
        for reader in readers:
            reader.send(encode("GET", "big") + encode("GET", "big") + encode("GETRANGE", "big", 1, 100))
        time.sleep(0.1)
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


def test_set_of_a_large_value_is_held_twice_at_most(make_server, env):
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
            assert memory(server, "VmHWM") - before < 2.5 * size  # the buffer, the value, and what the allocator has not given back
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
