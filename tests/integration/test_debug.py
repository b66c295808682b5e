# SPDX-License-Identifier: BSD-3-Clause
"""DEBUG and MEMORY: what test suites of clients and operators use."""
import random
import re

import pytest

from harness import wait_for
from resp import encode, run


def random_writes(seed):
    rng = random.Random(seed)
    value = lambda: rng.choice([str(rng.randint(-10 ** 6, 10 ** 6)), "x" * rng.randint(0, 100)])
    for i in range(120):
        key, some = "k%d" % i, [value() for _ in range(rng.randint(1, 200))]
        yield ("SELECT", rng.choice([0, 0, 0, 1, 5]))
        yield (("SET", key, value()), ("RPUSH", key, *some), ("SADD", key, *some),
               ("ZADD", key, *[x for v in some for x in (rng.choice([rng.randint(-99, 99), rng.randint(0, 9) / 2, "inf"]), v)]),
               ("HSET", key, *[x for v in some for x in (v, value())]), ("XADD", key, "%d-1" % (i + 1), "f", value()))[i % 6]
        if i % 7 == 0:
            yield ("EXPIRE", key, 10000)


def test_equal_data_has_the_digest_of_redis(c, redis_server):
    with redis_server.connect() as reference:
        reference.ok("FLUSHALL")
        assert c.ok("DEBUG", "DIGEST") == reference.ok("DEBUG", "DIGEST") == "0" * 40
        for command in random_writes(3):
            for conn in (reference, c):
                conn.ok(*command)
        assert c.ok("DEBUG", "DIGEST") == reference.ok("DEBUG", "DIGEST") != "0" * 40
        for conn in (reference, c):
            conn.ok("SELECT", 0)
        keys = ["k%d" % i for i in range(120)] + ["missing"]
        assert c.ok("DEBUG", "DIGEST-VALUE", *keys) == reference.ok("DEBUG", "DIGEST-VALUE", *keys)


def test_subcommands(c):
    run(c, """
        DEBUG POPULATE 3 => +OK
        DEBUG POPULATE 2 p 10 => +OK
        DBSIZE => :5
        GET key:2 => "value:2"
        GET p:1 => "value:1\\x00\\x00\\x00"
        DEBUG STRINGMATCH-LEN a*c abbc => :1
        DEBUG STRINGMATCH-LEN a*c abb => :0
        DEBUG QUICKLIST-PACKED-THRESHOLD 100b => +OK
        DEBUG QUICKLIST-PACKED-THRESHOLD 5gb => -ERR argument must be a memory value bigger than 1 and smaller than 4gb
        DEBUG QUICKLIST-PACKED-THRESHOLD x => -ERR argument must be a memory value bigger than 1 and smaller than 4gb
        DEBUG QUICKLIST-PACKED-THRESHOLD 0 => +OK
        DEBUG REPLYBUFFER PEAK-RESET-TIME NEVER => +OK
        DEBUG REPLYBUFFER PEAK-RESET-TIME RESET => +OK
        DEBUG REPLYBUFFER RESIZING 0 => +OK
        DEBUG REPLYBUFFER RESIZING 1 => +OK
        DEBUG LOG hello => +OK
        DEBUG PAUSE-CRON 1 => +OK
        DEBUG PAUSE-CRON 0 => +OK
        DEBUG SET-ACTIVE-EXPIRE 1 => +OK
        DEBUG SLEEP 0.01 => +OK
        DEBUG ERROR "WHAT is this" => -WHAT is this
        DEBUG PROTOCOL integer => :12345
        DEBUG PROTOCOL string => "Hello World"
        DEBUG OBJECT missing => -ERR no such key
        DEBUG LISTPACK key:1 => -ERR Not a listpack encoded object.
        DEBUG HTSTATS 99 => -ERR Out of range database
        DEBUG HTSTATS-KEY key:1 => -ERR The value stored at the specified key is not represented using an hash table
        DEBUG NOSUCH => -ERR unknown subcommand or wrong number of arguments for 'NOSUCH'. Try DEBUG HELP.
    """)
    for kind in ("double", "null", "array", "set", "map", "verbatim", "true", "false", "bignum"):
        assert not c.node("DEBUG", "PROTOCOL", kind).render().startswith("-")
    c.ok("RPUSH", "l", *["x" * 500 for _ in range(100)])
    c.ok("SADD", "s", *["m%d" % i for i in range(300)])
    c.ok("SET", "small", "9999")
    c.ok("SET", "not", "10000")
    assert " refcount:2147483647 " in c.ok("DEBUG", "OBJECT", "small") and " refcount:1 " in c.ok("DEBUG", "OBJECT", "not")
    assert "ql_nodes:7 " in c.ok("DEBUG", "OBJECT", "l") and "encoding:quicklist" in c.ok("DEBUG", "OBJECT", "l")
    assert b"number of elements: 300" in c.ok("DEBUG", "HTSTATS-KEY", "s")
    assert b"number of elements: 9" in c.ok("DEBUG", "HTSTATS", "0")
    assert b"chain" not in c.ok("DEBUG", "HTSTATS", "0") + c.ok("DEBUG", "HTSTATS-KEY", "s")
    for text, n in ((c.ok("DEBUG", "HTSTATS", "0", "full"), 9), (c.ok("DEBUG", "HTSTATS-KEY", "s", "FULL"), 300)):
        chains = re.findall(rb"^   (\d+): (\d+) \(", text.split(b"[Expires HT]")[0], re.M)
        assert sum(int(length) * int(count) for length, count in chains) == n, text
        assert b"max chain length: %s\n" % chains[-1][0] in text or b"rehashing target" in text
    assert any("DIGEST" in str(line) for line in c.ok("DEBUG", "HELP"))


def test_protocol_push_and_attribute(c):
    """A client that leaves out pushes and attributes still gets a reply to wait for; the push comes behind it."""
    if c.proto == 2:
        run(c, """
            DEBUG PROTOCOL push => -ERR RESP2 is not supported by this command
            DEBUG PROTOCOL attrib => "Some real reply following the attribute"
            PING => +PONG
        """)
        return
    got = {node.kind: node.render() for node in (c.node("DEBUG", "PROTOCOL", "push"), c.read())}
    assert got == {"$": '"Some real reply following the push reply"', ">": '>["server-cpu-usage", :42]'}
    attribute, reply = c.node("DEBUG", "PROTOCOL", "attrib"), c.read()
    assert attribute.kind == "|" and [(k.py, v.py) for k, v in attribute.value] == [(b"key-popularity", [b"key:123", 90])]
    assert reply.py == b"Some real reply following the attribute"
    c.send(encode("DEBUG", "PROTOCOL", "push") + encode("PING"))
    kinds = [c.read().kind for _ in range(3)]
    assert kinds in (["$", ">", "+"], [">", "$", "+"])  # redis-server 7.0 pushes before the reply


def test_scripts_may_be_allowed_more(c):
    script = "return redis.call('debug', 'digest')"
    assert "not allowed from script" in str(c.err("EVAL", script, 0))
    c.ok("DEBUG", "SET-DISABLE-DENY-SCRIPTS", "1")
    assert c.ok("EVAL", "return redis.call('debug', 'digest')['ok']", 0) == b"0" * 40
    run = "return redis.call(unpack(ARGV))"
    c.ok("FUNCTION", "LOAD", "REPLACE", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
    for command in (["CONFIG", "SET", "timeout", "0"], ["CONFIG", "GET", "timeout"], ["SLOWLOG", "LEN"],
                    ["LATENCY", "RESET"], ["DEBUG", "SLEEP", "0"], ["SAVE"], ["SCRIPT", "EXISTS", "0" * 40], ["FUNCTION", "LIST"],
                    ["FUNCTION", "DUMP"]):
        c.ok("EVAL", run, 0, *command)
    for command in ("BGSAVE", "BGREWRITEAOF"):  # after the script
        assert c.ok("EVAL", run, 0, command).endswith("scheduled")
        wait_for(lambda: c.info("persistence")["rdb_bgsave_in_progress"] == c.info("persistence")["aof_rewrite_in_progress"] ==
                 c.info("persistence")["aof_rewrite_scheduled"] == "0", what="the child's end")
    for command in (["EVAL", "return 1", "0"], ["FCALL", "f", "0"], ["SCRIPT", "LOAD", "return 1"], ["FUNCTION", "FLUSH"], ["MULTI"],
                    ["EXEC"], ["WATCH", "k"], ["UNWATCH"], ["SUBSCRIBE", "x"], ["MONITOR"], ["AUTH", "x"], ["HELLO", "3"], ["RESET"],
                    ["QUIT"], ["CLIENT", "LIST"], ["CLIENT", "SETNAME", "x"], ["SHUTDOWN", "NOSAVE"], ["REPLICAOF", "NO", "ONE"],
                    ["FAILOVER"], ["SYNC"], ["PSYNC", "?", "-1"], ["REPLCONF", "ACK", "0"]):
        assert "not allowed from script" in str(c.err("EVAL", run, 0, *command)), command
    c.ok("FUNCTION", "FLUSH")
    c.ok("DEBUG", "SET-DISABLE-DENY-SCRIPTS", "0")


def test_memory(c):
    c.ok("DEBUG", "POPULATE", 1000)
    stats = c.ok("MEMORY", "STATS")
    stats = stats if isinstance(stats, dict) else dict(zip(stats[::2], stats[1::2]))
    assert stats[b"keys.count"] == 1000 and stats[b"total.allocated"] > stats[b"startup.allocated"] > 0 and b"db.0" in stats
    assert float(stats[b"dataset.percentage"]) > 0
    assert c.ok("MEMORY", "DOCTOR") and c.ok("MEMORY", "MALLOC-STATS") and c.ok("MEMORY", "PURGE") == "OK"
    c.ok("HSET", "h", *[x for i in range(5000) for x in ("f%d" % i, "v" * 50)])
    assert c.ok("MEMORY", "USAGE", "h", "SAMPLES", "0") > 5000 * 50
    assert 0.8 < c.ok("MEMORY", "USAGE", "h") / c.ok("MEMORY", "USAGE", "h", "SAMPLES", "0") < 1.2
    before = int(c.info("memory")["used_memory"])
    c.ok("SET", "big", "x" * 3000000)
    wait_for(lambda: int(c.info("memory")["used_memory"]) >= before + 3000000, what="used_memory grown")


@pytest.mark.parametrize("how", ["SEGFAULT", "PANIC", "OOM"])
def test_a_crash_is_reported(make_server, how):
    server = make_server()
    if server.env.sanitizer:
        pytest.skip("the sanitizer has its own report")
    with server.connect() as conn:
        conn.send(b"*2\r\n$5\r\nDEBUG\r\n$%d\r\n%s\r\n" % (len(how), how.encode()))
        assert conn.closed(timeout=10)
    assert server.proc.wait(timeout=10) != 0
    server.proc = None
