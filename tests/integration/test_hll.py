# SPDX-License-Identifier: BSD-3-Clause
"""HyperLogLogs: commands, errors, the bytes of the value."""
import shutil

import pytest

import harness
from resp import run

WRONGTYPE = "-WRONGTYPE Operation against a key holding the wrong kind of value"
NOT_HLL = "-WRONGTYPE Key is not a valid HyperLogLog string value."
CORRUPTED = "-INVALIDOBJ Corrupted HLL object detected"


def test_add_and_count(c):
    run(c, f"""
        PFADD h a b c => :1
        PFADD h a b => :0
        PFADD h d => :1
        PFCOUNT h => :4
        PFCOUNT h => :4
        PFCOUNT missing => :0
        PFCOUNT missing h => :4
        PFADD new => :1
        PFADD new => :0
        PFCOUNT new => :0
        TYPE h => +string
        OBJECT ENCODING h => "raw"
        PFADD => -ERR wrong number of arguments for 'pfadd' command
        PFCOUNT => -ERR wrong number of arguments for 'pfcount' command
        RPUSH l x => :1
        PFADD l x => {WRONGTYPE}
        PFCOUNT l => {WRONGTYPE}
        PFCOUNT h l => {WRONGTYPE}
        PFMERGE l h => {WRONGTYPE}
        SET s v
        PFADD s x => {NOT_HLL}
        PFCOUNT s => {NOT_HLL}
        PFCOUNT h s => {NOT_HLL}
        PFMERGE h s => {NOT_HLL}
        SET n 12345
        PFCOUNT n => {NOT_HLL}
    """)


def test_value_is_the_bytes_of_redis(c):
    run(c, r"""
        PFADD h a b c => :1
        GET h => "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80`\xf3\x80P\xb1\x84K\xfb\x80BZ"
        PFCOUNT h => :3
        GET h => "HYLL\x01\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00`\xf3\x80P\xb1\x84K\xfb\x80BZ"
        SET copy "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80`\xf3\x80P\xb1\x84K\xfb\x80BZ"
        PFCOUNT copy => :3
        PFADD copy a => :0
        PFADD copy d => :1
        PFMERGE empty
        GET empty => "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xff"
    """)


def test_merge(c):
    run(c, """
        PFADD a 1 2 3 => :1
        PFADD b 3 4 5 => :1
        PFMERGE m a b
        PFCOUNT m => :5
        PFCOUNT a b => :5
        PFADD c 6 => :1
        PFMERGE m c
        PFCOUNT m => :6
        PFMERGE m missing
        PFCOUNT m => :6
        PFMERGE a
        PFCOUNT a => :3
        PFMERGE => -ERR wrong number of arguments for 'pfmerge' command
    """)


def test_many_elements(c):
    n = 30000
    for first in range(0, n, 1000):
        c.ok("PFADD", "h%d" % (first // 10000), *["element:%d" % i for i in range(first, first + 1000)])
        if first == 0:
            assert abs(c.ok("PFCOUNT", "h0") - 1000) < 40
    assert c.ok("STRLEN", "h0") == 12304
    assert abs(c.ok("PFCOUNT", "h0") - 10000) < 400
    total = c.ok("PFCOUNT", "h0", "h1", "h2")
    assert abs(total - n) < 1200
    c.ok("PFMERGE", "all", "h0", "h1", "h2")
    assert c.ok("PFCOUNT", "all") == total


def test_corrupted(c):
    run(c, rf"""
        SET short "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
        PFCOUNT short => {NOT_HLL}
        SET enc "HYLL\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xff"
        PFADD enc x => {NOT_HLL}
        SET dense "HYLL\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xff"
        PFADD dense x => {NOT_HLL}
        SET few "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xfe"
        PFCOUNT few => {CORRUPTED}
        PFCOUNT few few => {CORRUPTED}
        PFMERGE m few => {CORRUPTED}
        PFDEBUG TODENSE few => {CORRUPTED}
        SET none "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80"
        PFADD none x => {CORRUPTED}
        EXISTS m => :0
    """)


def test_sparse_limit(c):
    before = c.ok("CONFIG", "GET", "hll-sparse-max-bytes")
    value = before[b"hll-sparse-max-bytes"] if c.proto == 3 else before[1]
    try:
        c.ok("CONFIG", "SET", "hll-sparse-max-bytes", "30")
        c.ok("PFADD", "h", "a", "b")
        assert c.ok("PFDEBUG", "ENCODING", "h") == "sparse"
        c.ok("PFADD", "h", "c", "d", "e", "f")
        assert c.ok("PFDEBUG", "ENCODING", "h") == "dense"
        assert c.ok("PFCOUNT", "h") == 6
    finally:
        c.ok("CONFIG", "SET", "hll-sparse-max-bytes", value)


def test_debug(c):
    run(c, """
        PFADD h a b c => :1
        PFDEBUG ENCODING h => +sparse
        PFDEBUG DECODE h => "Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603"
        COPY h cut => :1
        APPEND cut "\x00\x41" => :29
        PFDEBUG DECODE cut => "Z:8436 v:1,1 Z:4274 v:2,1 Z:3068 v:1,1 Z:603 z:1 Z:257"
        DEL cut => :1
        PFDEBUG TODENSE h => :1
        PFDEBUG TODENSE h => :0
        PFDEBUG ENCODING h => +dense
        PFDEBUG DECODE h => -ERR HLL encoding is not sparse
        PFCOUNT h => :3
        PFDEBUG WHAT h => -ERR Unknown PFDEBUG subcommand 'WHAT'
        PFDEBUG WHAT missing => -ERR The specified key does not exist
    """)
    registers = c.ok("PFDEBUG", "GETREG", "h")
    assert len(registers) == 16384
    assert {i: v for i, v in enumerate(registers) if v} == {8436: 1, 12711: 2, 15780: 1}
    assert c("PFSELFTEST") == "OK"


def test_count_touches_watchers_once(c, server):
    with server.connect() as other:
        c.ok("PFADD", "h", "a")
        for expected in (None, [0]):
            c.ok("WATCH", "h")
            other.ok("PFCOUNT", "h")
            c.ok("MULTI")
            c.ok("EXISTS", "missing")
            assert c.ok("EXEC") == expected


def test_values_travel_to_redis_and_back(c, env):
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server")
    redis = harness.Server(harness.Env("redis-server", False, env.certs), "tcp")
    try:
        with redis.connect() as peer:
            for n in (3, 300, 3000):
                words = ["w%d" % i for i in range(n)]
                peer.ok("PFADD", "p%d" % n, *words)
                c.ok("PFADD", "k%d" % n, *words)
                assert peer.ok("GET", "p%d" % n) == c.ok("GET", "k%d" % n)
                c.ok("SET", "from%d" % n, peer.ok("GET", "p%d" % n))
                peer.ok("SET", "from%d" % n, c.ok("GET", "k%d" % n))
                assert c.ok("PFCOUNT", "from%d" % n) == peer.ok("PFCOUNT", "from%d" % n) == peer.ok("PFCOUNT", "p%d" % n)
            c.ok("PFMERGE", "m", "k3", "k300", "k3000")
            peer.ok("PFMERGE", "m", "p3", "p300", "p3000")
            assert c.ok("GET", "m") == peer.ok("GET", "m")
    finally:
        redis.stop()
