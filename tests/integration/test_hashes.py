# SPDX-License-Identifier: BSD-3-Clause
"""Hashes: every command, option and error of Redis 7.2. Times of fields are in test_hash_expiry.py."""
import os

import pytest

from resp import encode, run

WRONGTYPE = "-WRONGTYPE Operation against a key holding the wrong kind of value"
NOTINT = "-ERR value is not an integer or out of range"
SYNTAX = "-ERR syntax error"


def arity(name):
    return "-ERR wrong number of arguments for '%s' command" % name


def flat(reply):
    """HGETALL as a dict, over either protocol."""
    return dict(reply) if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2]))


def test_set_and_get(c):
    run(c, f"""
        HSET h a 1 => :1
        HSET h a 2 b 3 => :1
        HGET h a => "2"
        HGET h x => nil
        HGET none x => nil
        HMGET h a x b a => ["2", nil, "3", "2"]
        HMGET none a b => [nil, nil]
        HLEN h => :2
        HLEN none => :0
        HSTRLEN h a => :1
        HSTRLEN h x => :0
        HSTRLEN none x => :0
        HEXISTS h a => :1
        HEXISTS h x => :0
        HEXISTS none x => :0
        HSET h "" "" => :1
        HGET h "" => ""
        HSET h "a\\x00\\r\\n" "\\xff\\x00" => :1
        HGET h "a\\x00\\r\\n" => "\\xff\\x00"
        HSET h => {arity('hset')}
        HSET h a => {arity('hset')}
        HSET h a 1 b => {arity('hset')}
        HGET h => {arity('hget')}
        HGET h a b => {arity('hget')}
        HMGET h => {arity('hmget')}
        TYPE h => +hash
    """)


def test_hmset_and_hsetnx(c):
    run(c, f"""
        HMSET h a 1 b 2
        HMSET h a 3
        HGET h a => "3"
        HMSET h a => {arity('hmset')}
        HMSET h a 1 b => {arity('hmset')}
        HSETNX h a 9 => :0
        HSETNX h c 9 => :1
        HSETNX new c 9 => :1
        HGET h a => "3"
        HGET new c => "9"
        HSETNX h a => {arity('hsetnx')}
    """)


def test_delete_takes_the_key_along(c):
    run(c, f"""
        HSET h a 1 b 2 c 3 => :3
        HDEL h a a x => :1
        HDEL h b c d => :2
        EXISTS h => :0
        HDEL h a => :0
        HDEL h => {arity('hdel')}
    """)


def test_whole_hash_shapes(c):
    run(c, """
        HSET h a 1 b 2 => :2
        2|HGETALL h => ["a", "1", "b", "2"]
        3|HGETALL h => {"a": "1", "b": "2"}
        HKEYS h => ["a", "b"]
        HVALS h => ["1", "2"]
        2|HGETALL none => []
        3|HGETALL none => {}
        HKEYS none => []
        HVALS none => []
    """)


def test_integers(c):
    run(c, f"""
        HINCRBY h n 5 => :5
        HINCRBY h n -7 => :-2
        HGET h n => "-2"
        HSET h max 9223372036854775807 min -9223372036854775808 t text sp " 1" f 1.5 => :5
        HINCRBY h max 1 => -ERR increment or decrement would overflow
        HINCRBY h min -1 => -ERR increment or decrement would overflow
        HINCRBY h t 1 => -ERR hash value is not an integer
        HINCRBY h sp 1 => -ERR hash value is not an integer
        HINCRBY h f 1 => -ERR hash value is not an integer
        HINCRBY h n x => {NOTINT}
        HINCRBY h n 1.0 => {NOTINT}
        HINCRBY none n x => {NOTINT}
        EXISTS none => :0
        HINCRBY h n => {arity('hincrby')}
    """)


def test_floats(c):
    run(c, f"""
        HSET h n 10.50 e 5.0e3 t text => :3
        HINCRBYFLOAT h n 0.1 => "10.6"
        HINCRBYFLOAT h e 2.0e2 => "5200"
        HINCRBYFLOAT h n -10.6 => "0"
        HINCRBYFLOAT h new 1.25 => "1.25"
        HINCRBYFLOAT h t 1 => -ERR hash value is not a float
        HINCRBYFLOAT h n x => -ERR value is not a valid float
        HINCRBYFLOAT h n "" => -ERR value is not a valid float
        HINCRBYFLOAT h n inf => -ERR value is NaN or Infinity
        HINCRBYFLOAT h n => {arity('hincrbyfloat')}
        HGET h e => "5200"
    """)


def test_other_types_are_refused(c):
    c.ok("SET", "s", "v")
    for command in ("HSET s a 1", "HMSET s a 1", "HSETNX s a 1", "HGET s a", "HMGET s a", "HGETALL s", "HKEYS s", "HVALS s", "HDEL s a",
                    "HLEN s", "HSTRLEN s a", "HEXISTS s a", "HINCRBY s a 1", "HINCRBYFLOAT s a 1", "HRANDFIELD s",
                    "HRANDFIELD s 1", "HSCAN s 0"):
        run(c, command + " => " + WRONGTYPE)


def test_encodings(c):
    long_text = "v" * 65
    run(c, f"""
        HSET h a {long_text[:64]} => :1
        OBJECT ENCODING h => "listpack"
        HSET h a {long_text} => :0
        OBJECT ENCODING h => "hashtable"
        HSET k {long_text} 1 => :1
        OBJECT ENCODING k => "hashtable"
    """)
    for i in range(512):
        c("HSET", "n", "f%d" % i, i)
    run(c, 'OBJECT ENCODING n => "listpack"\nHSET n one more => :1\nOBJECT ENCODING n => "hashtable"\nHLEN n => :513')
    assert c("HMGET", "n", "f0", "f511", "one", "none") == [b"0", b"511", b"more", None]
    assert c("HSET", "m", *[x for i in range(513) for x in (i, i)]) == 513
    run(c, 'OBJECT ENCODING m => "hashtable"')


def test_limits_can_be_changed(c):
    try:
        c.ok("CONFIG", "SET", "hash-max-listpack-entries", "2")
        run(c, 'HSET h a 1 b 2 => :2\nOBJECT ENCODING h => "listpack"\nHSET h c 3 => :1\nOBJECT ENCODING h => "hashtable"')
        c.ok("CONFIG", "SET", "hash-max-ziplist-value", "4")
        run(c, 'HSET g a 12345 => :1\nOBJECT ENCODING g => "hashtable"')
    finally:
        c.ok("CONFIG", "SET", "hash-max-listpack-entries", "512", "hash-max-listpack-value", "64")


@pytest.mark.parametrize("fields", [3, 300, 3000])
def test_copies_and_moves_keep_all(c, fields):
    want = {b"f%d" % i: b"v%d" % (i * 7) for i in range(fields)}
    c("HSET", "h", *[x for pair in want.items() for x in pair])
    run(c, "COPY h copy => :1\nHSET copy f1 changed => :0\nRENAME h moved")
    assert flat(c("HGETALL", "moved")) == want
    assert flat(c("HGETALL", "copy")) == {**want, b"f1": b"changed"}
    assert sorted(c("HKEYS", "moved")) == sorted(want)
    assert sorted(c("HVALS", "moved")) == sorted(want.values())
    assert c("UNLINK", "moved") == 1
    assert c("DEL", "copy") == 1


def test_large_values(c):
    values = {b"f%d" % size: os.urandom(size) for size in (255, 256, 4095, 16383, 16384, 65536, 300000, 1 << 20)}
    for field, value in values.items():
        assert c("HSET", "h", field, value) == 1
    assert flat(c("HGETALL", "h")) == values
    for field, value in values.items():
        assert c("HGET", "h", field) == value
        assert c("HSTRLEN", "h", field) == len(value)
        assert c("HSET", "h", field, value[::-1]) == 0
        assert c("HGET", "h", field) == value[::-1]
    assert c("HMGET", "h", *values) == [v[::-1] for v in values.values()]
    assert c("HDEL", "h", *values) == len(values)


def test_large_value_outlives_its_field(server):
    """The reply refers to the value; the field goes while it is on its way."""
    value = b"x" * (4 << 20)
    with server.connect() as conn, server.connect() as other:
        conn.ok("FLUSHALL")
        conn("HSET", "h", "f", value)
        conn.send(encode("HGET", "h", "f"))
        other("HDEL", "h", "f")
        assert conn.read().py in (value, None)


def test_random_fields(c):
    run(c, f"""
        HRANDFIELD none => nil
        HRANDFIELD none 3 => []
        HRANDFIELD none 3 WITHVALUES => []
        HSET h a 1 => :1
        HRANDFIELD h => "a"
        HRANDFIELD h 3 => ["a"]
        HRANDFIELD h 0 => []
        HRANDFIELD h -3 => ["a", "a", "a"]
        2|HRANDFIELD h 1 WITHVALUES => ["a", "1"]
        3|HRANDFIELD h 1 WITHVALUES => [["a", "1"]]
        2|HRANDFIELD h -2 withvalues => ["a", "1", "a", "1"]
        3|HRANDFIELD h -2 withvalues => [["a", "1"], ["a", "1"]]
        HRANDFIELD h x => {NOTINT}
        HRANDFIELD h 1 bad => {SYNTAX}
        HRANDFIELD h 1 WITHVALUES bad => {SYNTAX}
        HRANDFIELD h -9223372036854775808 => /out of range/
        HRANDFIELD h -9223372036854775807 WITHVALUES => -ERR value is out of range
        HRANDFIELD h 9223372036854775807 WITHVALUES => -ERR value is out of range
    """)


@pytest.mark.parametrize("size", [50, 1000])
def test_random_fields_are_different(c, size):
    want = {b"f%d" % i: b"%d" % i for i in range(size)}
    c("HSET", "h", *[x for pair in want.items() for x in pair])
    for count in (1, 5, size // 2, size - 1, size, size + 10):
        got = c("HRANDFIELD", "h", count, "WITHVALUES")
        pairs = [tuple(p) for p in got] if c.proto == 3 else list(zip(got[::2], got[1::2]))
        assert len(pairs) == min(count, size) == len(set(pairs))
        assert all(want[f] == v for f, v in pairs)
    drawn = c("HRANDFIELD", "h", -20 * size)
    assert len(drawn) == 20 * size and set(drawn) == set(want)


def test_scan(c):
    run(c, f"""
        HSCAN none 0 => ["0", []]
        HSET h a 1 b 2 ab 3 => :3
        HSCAN h 0 => ["0", ["a", "1", "b", "2", "ab", "3"]]
        HSCAN h 0 MATCH a* => ["0", ["a", "1", "ab", "3"]]
        HSCAN h 0 MATCH a* COUNT 100 => ["0", ["a", "1", "ab", "3"]]
        HSCAN h 0 COUNT 0 => {SYNTAX}
        HSCAN h 0 COUNT x => {NOTINT}
        HSCAN h 0 COUNT => {SYNTAX}
        HSCAN h 0 TYPE hash => {SYNTAX}
        HSCAN h x => -ERR invalid cursor
        HSCAN h => {arity('hscan')}
        7.2|HSCAN h 0 NOVALUES => ["0", ["a", "b", "ab"]]
        7.2|HSCAN h 0 NOVALUES MATCH b => ["0", ["b"]]
    """)


def test_scan_of_a_table_sees_all(c):
    want = {b"f%d" % i: b"%d" % i for i in range(2000)}
    c("HSET", "h", *[x for pair in want.items() for x in pair])
    cursor, seen, calls = b"0", {}, 0
    while True:
        cursor, part = c("HSCAN", "h", cursor, "COUNT", 100)
        seen.update(zip(part[::2], part[1::2]))
        calls += 1
        if calls == 5:  # what comes and goes meanwhile is seen or not; what stays must be
            c("HSET", "h", *[x for i in range(3000) for x in ("new%d" % i, "x")])
        if calls == 10:
            c("HDEL", "h", *["new%d" % i for i in range(3000)])
        if cursor == b"0":
            break
    assert {k: v for k, v in seen.items() if k.startswith(b"f")} == want
    assert calls > 5


def test_deleting_while_large(c):
    """Shrinks on the way down, and the last field takes the key along."""
    c("HSET", "h", *[x for i in range(20000) for x in ("field:%d" % i, i)])
    for start in range(0, 20000, 1000):
        assert c("HDEL", "h", *["field:%d" % i for i in range(start, start + 1000)]) == 1000
    assert c("EXISTS", "h") == 0


def test_memory_and_object(c, env):
    c("HSET", "h", *[x for i in range(1000) for x in ("field:%d" % i, "v" * 50)])
    usage = c("MEMORY", "USAGE", "h", "SAMPLES", "0")
    assert 1000 * 60 < usage < 1000 * 200
    assert 0.8 < c("MEMORY", "USAGE", "h") / usage < 1.25
    assert c("OBJECT", "REFCOUNT", "h") == 1


def test_watched_hash_aborts(server):
    with server.connect() as conn, server.connect() as other:
        conn.ok("FLUSHALL")
        conn("HSET", "h", "a", "1")
        conn.ok("WATCH", "h")
        other("HSET", "h", "a", "1")
        conn.ok("MULTI")
        conn("HGET", "h", "a")
        assert conn("EXEC") is None
        conn.ok("WATCH", "h")
        other("HDEL", "h", "none")
        conn.ok("MULTI")
        conn("HGET", "h", "a")
        assert conn("EXEC") == [b"1"]


def test_a_large_argument_is_read_after_its_value_is_gone(c):
    """The slow log reads the arguments when the command has run; the first value of each was replaced or freed by then."""
    first, second = b"a" * 200000, b"b" * 200000
    c.ok("CONFIG", "SET", "slowlog-log-slower-than", "0")
    try:
        for command in (["MSET", "k", first, "k", second], ["HSET", "h", "f", first, "f", second], ["RPUSH", "l", first, second],
                        ["HSET", "h2", "f", first]):
            if command[1] == "h2":
                c.ok("CONFIG", "SET", "hash-max-listpack-value", "1000000")
            c(*command)
            logged = next(entry[3] for entry in c("SLOWLOG", "GET", "3") if entry[3][0] == command[0].encode())
            assert logged[2 if command[0] == "RPUSH" else 3 if command[0] == "HSET" else 2].startswith(b"a" * 100)
        assert c("GET", "k") == second and c("HGET", "h", "f") == second and c("HGET", "h2", "f") == first
    finally:
        c.ok("CONFIG", "SET", "hash-max-listpack-value", "64")
        c.ok("CONFIG", "SET", "slowlog-log-slower-than", "10000")
