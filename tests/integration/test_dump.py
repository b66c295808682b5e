# SPDX-License-Identifier: BSD-3-Clause
"""DUMP and RESTORE: here and back, to and from redis-server; what is refused."""
import time

import pytest

from resp import run

BAD = "ERR DUMP payload version or checksum are wrong"


def value(i, large):
    return ("x%d" % i) * (40 if large and i % 7 == 0 else 1) if i % 3 else str(i * 7919 % 100000)


def make(conn, kind, n, large):
    values = [value(i, large) for i in range(n)]
    if kind == "string":
        conn.ok("SET", "k", "".join(values))
    elif kind == "list":
        conn.ok("RPUSH", "k", *values)
    elif kind == "set":
        conn.ok("SADD", "k", *values)
    elif kind == "intset":
        conn.ok("SADD", "k", *[i * i * 1000 for i in range(n)])
    elif kind == "zset":
        conn.ok("ZADD", "k", *[x for i, v in enumerate(values) for x in ((i / 3) if i % 2 else "-inf" if i == 4 else i * 10 ** 12, v)])
    elif kind == "hash":
        conn.ok("HSET", "k", *[x for i, v in enumerate(values) for x in ("f%d" % i, v)])
    else:
        conn.pipeline([("XADD", "k", "%d-1" % (i + 1), "f", v, "g%d" % (i % 2), "y") for i, v in enumerate(values)])
        conn.ok("XGROUP", "CREATE", "k", "g", "0")
        conn.ok("XREADGROUP", "GROUP", "g", "alice", "COUNT", n // 2 + 1, "STREAMS", "k", ">")
        conn.ok("XDEL", "k", "2-1")


def show(conn, kind, key):
    if kind == "stream":
        pending = [e[:2] + e[3:] for e in conn.ok("XPENDING", key, "g", "-", "+", 1000)]
        return conn.ok("XRANGE", key, "-", "+"), pending
    got = conn.ok(*{"string": ("GET", key), "list": ("LRANGE", key, 0, -1), "set": ("SMEMBERS", key), "intset": ("SMEMBERS", key),
                    "zset": ("ZRANGE", key, 0, -1, "WITHSCORES"), "hash": ("HGETALL", key)}[kind])
    if kind in ("set", "intset"):
        return sorted(got)
    if kind == "zset":  # 7.0 prints more digits of a score
        return [(member, float(score)) for member, score in zip(got[::2], got[1::2])]
    return sorted(zip(got[::2], got[1::2])) if kind == "hash" else got


KINDS = ["string", "list", "set", "intset", "zset", "hash", "stream"]


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back(server, redis_server, kind):
    with server.connect(proto=2) as ours, redis_server.connect(proto=2) as theirs:
        for n in (1, 9, 200, 1200):
            for large in (False, True):
                for source, target in ((ours, ours), (ours, theirs), (theirs, ours)):
                    source.ok("DEL", "k")
                    make(source, kind, n, large)
                    payload = source.ok("DUMP", "k")
                    assert target.ok("RESTORE", "copy", 0, payload, "REPLACE") == "OK"
                    assert show(target, kind, "copy") == show(source, kind, "k")


def test_options(c):
    run(c, """
        SET k v => +OK
        DUMP missing => nil
        RESTORE k 0 x => -BUSYKEY Target key name already exists.
        RESTORE new x x => -ERR value is not an integer or out of range
        RESTORE new -1 x => -ERR Invalid TTL value, must be >= 0
        RESTORE new 0 x => -ERR DUMP payload version or checksum are wrong
        RESTORE new 0 x BAD => -ERR syntax error
        RESTORE new 0 x IDLETIME => -ERR syntax error
        RESTORE new 0 x IDLETIME -1 => -ERR Invalid IDLETIME value, must be >= 0
        RESTORE new 0 x FREQ 256 => -ERR Invalid FREQ value, must be >= 0 and <= 255
        RESTORE new 0 x IDLETIME 1 FREQ 1 => -ERR syntax error
        RESTORE new 0 => -ERR wrong number of arguments for 'restore' command
    """)
    payload = c.ok("DUMP", "k")
    assert c.ok("RESTORE", "a", "100000", payload) == "OK" and 90000 < c.ok("PTTL", "a") <= 100000
    assert c.ok("RESTORE", "a", int(time.time() * 1000) + 50000, payload, "REPLACE", "ABSTTL") == "OK"
    assert 40000 < c.ok("PTTL", "a") <= 50000
    assert c.ok("RESTORE", "a", 1000, payload, "REPLACE", "ABSTTL") == "OK" and c.ok("EXISTS", "a") == 0
    assert c.ok("RESTORE", "a", 0, payload, "IDLETIME", 1000) == "OK" and 1000 <= c.ok("OBJECT", "IDLETIME", "a") < 1060
    assert c.ok("GET", "a") == b"v"


def test_damaged_payloads_are_refused(c):
    c.ok("RPUSH", "k", *range(300))
    payload = bytearray(c.ok("DUMP", "k"))
    for at in range(0, len(payload), 7):
        damaged = bytes(payload[:at]) + bytes([payload[at] ^ 0x41]) + bytes(payload[at + 1:])
        assert str(c.err("RESTORE", "x", 0, damaged)) == BAD
        assert str(c.err("RESTORE", "x", 0, bytes(payload[:at]))) == BAD
    assert c.ok("EXISTS", "x") == 0
