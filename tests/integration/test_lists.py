# SPDX-License-Identifier: BSD-3-Clause
"""Lists: every command, option and error of Redis 7.2; encodings; waiting."""
import random
import time

import pytest

from resp import run

WRONGTYPE = "-WRONGTYPE Operation against a key holding the wrong kind of value"
NOTINT = "-ERR value is not an integer or out of range"
SYNTAX = "-ERR syntax error"
POSITIVE = "-ERR value is out of range, must be positive"


def arity(name):
    return "-ERR wrong number of arguments for '%s' command" % name


def items(conn, key):
    return conn.ok("LRANGE", key, 0, -1)


def test_push_and_range(c):
    run(c, f"""
        RPUSH l a => :1
        RPUSH l b c => :3
        LPUSH l z y => :5
        LRANGE l 0 -1 => ["y", "z", "a", "b", "c"]
        LRANGE l 1 2 => ["z", "a"]
        LRANGE l -2 -1 => ["b", "c"]
        LRANGE l -100 100 => ["y", "z", "a", "b", "c"]
        LRANGE l 3 1 => []
        LRANGE l 5 9 => []
        LRANGE l -3 -9 => []
        LRANGE l 0 0 => ["y"]
        LRANGE missing 0 -1 => []
        LRANGE l x 1 => {NOTINT}
        LRANGE l 0 1.5 => {NOTINT}
        LRANGE missing x 1 => {NOTINT}
        LRANGE l 0 9223372036854775807 => ["y", "z", "a", "b", "c"]
        LRANGE l -9223372036854775808 9223372036854775807 => ["y", "z", "a", "b", "c"]
        LRANGE l 0 9223372036854775808 => {NOTINT}
        LRANGE l 0 => {arity('lrange')}
        LLEN l => :5
        LLEN missing => :0
        TYPE l => +list
        LPUSH l => {arity('lpush')}
        RPUSH l => {arity('rpush')}
        SET s v
        LPUSH s a => {WRONGTYPE}
        RPUSH s a => {WRONGTYPE}
        LLEN s => {WRONGTYPE}
        LRANGE s 0 -1 => {WRONGTYPE}
        LRANGE s x -1 => {NOTINT}
        GET l => {WRONGTYPE}
        INCR l => {WRONGTYPE}
    """)


def test_pushx(c):
    run(c, f"""
        LPUSHX l a => :0
        RPUSHX l a b => :0
        EXISTS l => :0
        RPUSH l m => *
        LPUSHX l a b => :3
        RPUSHX l x y => :5
        LRANGE l 0 -1 => ["b", "a", "m", "x", "y"]
        SET s v
        LPUSHX s a => {WRONGTYPE}
        RPUSHX s a => {WRONGTYPE}
        LPUSHX l => {arity('lpushx')}
    """)


def test_elements_keep_their_bytes(c):
    run(c, r"""
        RPUSH l "" 0 -1 007 +5 " 5" 9223372036854775807 -9223372036854775808 9223372036854775808 1.50 "\x00\xff\r\n" -0 => *
        LRANGE l 0 2 => ["", "0", "-1"]
        LRANGE l 3 -1 => ["007", "+5", " 5", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "1.50", "\x00\xff\r\n", "-0"]
        LPOS l 9223372036854775807 => :6
        LPOS l 7 => nil
        LPOS l "" => :0
        LREM l 0 9223372036854775808 => :1
        LREM l 0 -0 => :1
        LPOP l => ""
        LPOP l => "0"
    """)


def test_pop(c):
    run(c, f"""
        RPUSH l 1 2 3 4 5 6 7 => *
        LPOP l => "1"
        RPOP l => "7"
        LPOP l 2 => ["2", "3"]
        RPOP l 2 => ["6", "5"]
        LPOP l 0 => []
        LPOP l 99 => ["4"]
        EXISTS l => :0
        LPOP l => nil
        RPOP l => nil
        LPOP l 1 => nilarray
        RPOP l 0 => nilarray
        LPOP l -1 => {POSITIVE}
        LPOP l x => {POSITIVE}
        RPOP l 9223372036854775808 => {POSITIVE}
        LPOP l 1 2 => {arity('lpop')}
        RPOP l 1 2 => {arity('rpop')}
        LPOP => {arity('lpop')}
        SET s v
        LPOP s => {WRONGTYPE}
        RPOP s 1 => {WRONGTYPE}
        LPOP s x => {POSITIVE}
    """)


def test_index_and_set(c):
    run(c, f"""
        RPUSH l a b c => *
        LINDEX l 0 => "a"
        LINDEX l 2 => "c"
        LINDEX l 3 => nil
        LINDEX l -1 => "c"
        LINDEX l -3 => "a"
        LINDEX l -4 => nil
        LINDEX l -9223372036854775808 => nil
        LINDEX missing 0 => nil
        LINDEX missing x => nil
        LINDEX l x => {NOTINT}
        LINDEX l => {arity('lindex')}
        LSET l 0 A
        LSET l -1 C
        LRANGE l 0 -1 => ["A", "b", "C"]
        LSET l 3 x => -ERR index out of range
        LSET l -4 x => -ERR index out of range
        LSET l x y => {NOTINT}
        LSET missing 0 x => -ERR no such key
        LSET missing x x => -ERR no such key
        SET s v
        LINDEX s 0 => {WRONGTYPE}
        LINDEX s x => {WRONGTYPE}
        LSET s 0 x => {WRONGTYPE}
    """)


def test_insert(c):
    run(c, f"""
        RPUSH l a b a => *
        LINSERT l BEFORE a x => :4
        LINSERT l after b y => :5
        LRANGE l 0 -1 => ["x", "a", "b", "y", "a"]
        LINSERT l BEFORE nosuch x => :-1
        LINSERT missing BEFORE a x => :0
        LINSERT l MIDDLE a x => {SYNTAX}
        LINSERT missing MIDDLE a x => {SYNTAX}
        LINSERT l BEFORE a => {arity('linsert')}
        RPUSH n 10 20 => *
        LINSERT n BEFORE 20 15 => :3
        LRANGE n 0 -1 => ["10", "15", "20"]
        SET s v
        LINSERT s BEFORE a x => {WRONGTYPE}
    """)


def test_trim(c):
    run(c, f"""
        RPUSH l 1 2 3 4 5 => *
        LTRIM l 1 -2
        LRANGE l 0 -1 => ["2", "3", "4"]
        LTRIM l 0 -1
        LLEN l => :3
        LTRIM l -2 99
        LRANGE l 0 -1 => ["3", "4"]
        LTRIM l 5 10 => +OK
        EXISTS l => :0
        LTRIM l 0 1 => +OK
        RPUSH l 1 2 => *
        LTRIM l 1 0
        EXISTS l => :0
        LTRIM l x 0 => {NOTINT}
        LTRIM l 0 => {arity('ltrim')}
        SET s v
        LTRIM s 0 1 => {WRONGTYPE}
    """)


def test_rem(c):
    run(c, f"""
        RPUSH l a b a c a b => *
        LREM l 1 a => :1
        LRANGE l 0 -1 => ["b", "a", "c", "a", "b"]
        LREM l -1 a => :1
        LRANGE l 0 -1 => ["b", "a", "c", "b"]
        LREM l 0 b => :2
        LREM l 5 nosuch => :0
        LREM l 99 a => :1
        LREM l -9 c => :1
        EXISTS l => :0
        LREM l 0 a => :0
        LREM l x a => {NOTINT}
        LREM l 0 => {arity('lrem')}
        SET s v
        LREM s 0 a => {WRONGTYPE}
    """)


def test_pos(c):
    rank_zero = ("-ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start "
                 "from the end of the list")
    run(c, f"""
        RPUSH l a b c 1 2 3 c c => *
        LPOS l c => :2
        LPOS l 1 => :3
        LPOS l nosuch => nil
        LPOS l c RANK 2 => :6
        LPOS l c RANK -1 => :7
        LPOS l c RANK -3 => :2
        LPOS l c RANK 4 => nil
        LPOS l c COUNT 2 => [:2, :6]
        LPOS l c COUNT 0 => [:2, :6, :7]
        LPOS l c COUNT 2 RANK -1 => [:7, :6]
        LPOS l c count 0 rank 2 => [:6, :7]
        LPOS l c COUNT 0 MAXLEN 3 => [:2]
        LPOS l c MAXLEN 2 => nil
        LPOS l c MAXLEN 2 RANK -1 => :7
        LPOS l c COUNT 0 MAXLEN 1 RANK -1 => [:7]
        LPOS l c COUNT 0 MAXLEN 0 => [:2, :6, :7]
        LPOS l c RANK 9 RANK 1 => :2
        LPOS l nosuch COUNT 1 => []
        LPOS missing c => nil
        LPOS missing c COUNT 0 => []
        LPOS l c RANK 0 => {rank_zero}
        LPOS missing c RANK 0 => {rank_zero}
        LPOS l c RANK x => {NOTINT}
        7.2| LPOS l c RANK -9223372036854775808 => -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
        LPOS l c RANK -9223372036854775807 => nil
        LPOS l c COUNT -1 => -ERR COUNT can't be negative
        LPOS l c COUNT x => -ERR COUNT can't be negative
        LPOS l c MAXLEN -1 => -ERR MAXLEN can't be negative
        LPOS l c RANK => {SYNTAX}
        LPOS l c FOO 1 => {SYNTAX}
        LPOS l => {arity('lpos')}
        SET s v
        LPOS s c => {WRONGTYPE}
    """)


def test_move(c):
    run(c, f"""
        RPUSH a 1 2 3 => *
        LMOVE a b LEFT RIGHT => "1"
        LMOVE a b right left => "3"
        LRANGE a 0 -1 => ["2"]
        LRANGE b 0 -1 => ["3", "1"]
        LMOVE a b RIGHT RIGHT => "2"
        EXISTS a => :0
        LMOVE a b LEFT LEFT => nil
        LMOVE b b LEFT RIGHT => "3"
        LMOVE b b LEFT LEFT => "1"
        LRANGE b 0 -1 => ["1", "2", "3"]
        RPOPLPUSH b b => "3"
        RPOPLPUSH b c => "2"
        LRANGE b 0 -1 => ["3", "1"]
        LRANGE c 0 -1 => ["2"]
        RPOPLPUSH c c => "2"
        LMOVE c c LEFT RIGHT => "2"
        LMOVE c c LEFT LEFT => "2"
        LRANGE c 0 -1 => ["2"]
        RPOPLPUSH missing c => nil
        LMOVE b c UP LEFT => {SYNTAX}
        LMOVE b c LEFT DOWN => {SYNTAX}
        LMOVE b c LEFT => {arity('lmove')}
        RPOPLPUSH b => {arity('rpoplpush')}
        SET s v
        LMOVE s c LEFT LEFT => {WRONGTYPE}
        LMOVE b s LEFT LEFT => {WRONGTYPE}
        LMOVE missing s LEFT LEFT => nil
        RPOPLPUSH b s => {WRONGTYPE}
        LRANGE b 0 -1 => ["3", "1"]
    """)


def test_mpop(c):
    numkeys = "-ERR numkeys should be greater than 0"
    count = "-ERR count should be greater than 0"
    run(c, f"""
        RPUSH b 1 2 3 4 5 => *
        LMPOP 2 a b LEFT => ["b", ["1"]]
        LMPOP 2 a b right COUNT 2 => ["b", ["5", "4"]]
        RPUSH a x => *
        LMPOP 2 a b LEFT count 10 => ["a", ["x"]]
        EXISTS a => :0
        LMPOP 2 a b LEFT COUNT 10 => ["b", ["2", "3"]]
        LMPOP 2 a b LEFT => nilarray
        LMPOP 0 a LEFT => {numkeys}
        LMPOP x a LEFT => {numkeys}
        LMPOP -1 a LEFT => {numkeys}
        LMPOP 2 a LEFT => {SYNTAX}
        LMPOP 99999999999 a LEFT => {SYNTAX}
        LMPOP 1 a MIDDLE => {SYNTAX}
        LMPOP 1 a LEFT COUNT => {SYNTAX}
        LMPOP 1 a LEFT COUNT 0 => {count}
        LMPOP 1 a LEFT COUNT x => {count}
        LMPOP 1 a LEFT COUNT 1 COUNT 1 => {SYNTAX}
        LMPOP 1 a LEFT FOO 1 => {SYNTAX}
        LMPOP 1 a => {arity('lmpop')}
        SET s v
        LMPOP 2 s b LEFT => {WRONGTYPE}
    """)


def test_keys_of_commands(server):
    with server.connect() as conn:
        assert conn.ok("COMMAND", "GETKEYS", "LMPOP", "2", "a", "b", "LEFT") == [b"a", b"b"]
        assert conn.ok("COMMAND", "GETKEYS", "BLMPOP", "0", "2", "a", "b", "LEFT") == [b"a", b"b"]
        assert conn.ok("COMMAND", "GETKEYS", "BLPOP", "a", "b", "0") == [b"a", b"b"]
        assert conn.ok("COMMAND", "GETKEYS", "LMOVE", "a", "b", "LEFT", "LEFT") == [b"a", b"b"]
        assert conn.ok("COMMAND", "GETKEYS", "BLMOVE", "a", "b", "LEFT", "LEFT", "0") == [b"a", b"b"]
        info = conn.ok("COMMAND", "INFO", "blpop")[0]
        assert set(info[2]) == {"write", "blocking"} or set(info[2]) == {"write", "blocking", "noscript"}
        assert (info[3], info[4], info[5]) == (1, -2, 1)


# ---- encodings ----

@pytest.fixture
def config(c):
    """CONFIG SET for the length of a test."""
    before = {}

    def change(name, value):
        before.setdefault(name, c.ok("CONFIG", "GET", name)[name.encode()] if c.proto == 3 else c.ok("CONFIG", "GET", name)[1])
        c.ok("CONFIG", "SET", name, value)
    yield change
    for name, value in before.items():
        c.ok("CONFIG", "SET", name, value)


def encoding(conn, key):
    return conn.ok("OBJECT", "ENCODING", key).decode()


@pytest.fixture
def has_listpacks(is70):
    if is70:
        pytest.skip("this server keeps every list as a quicklist")


def test_encoding_grows_and_shrinks_by_count(c, config, has_listpacks):
    config("list-max-listpack-size", "10")
    c.ok("RPUSH", "l", *range(10))
    assert encoding(c, "l") == "listpack"
    c.ok("RPUSH", "l", "x")
    assert encoding(c, "l") == "quicklist"
    c.ok("RPUSH", "l", *range(20))
    c.ok("LTRIM", "l", 0, 5)
    assert encoding(c, "l") == "quicklist"
    c.ok("LPOP", "l")
    assert encoding(c, "l") == "listpack"
    assert items(c, "l") == [b"1", b"2", b"3", b"4", b"5"]


def test_encoding_grows_and_shrinks_by_bytes(c, config, has_listpacks):
    config("list-max-listpack-size", "-1")
    c.ok("RPUSH", "l", *["x" * 100] * 30)
    assert encoding(c, "l") == "listpack"
    c.ok("RPUSH", "l", "x" * 1000)
    assert encoding(c, "l") == "quicklist"
    c.ok("RPOP", "l")
    c.ok("LTRIM", "l", 0, 25)
    assert encoding(c, "l") == "quicklist"
    c.ok("LTRIM", "l", 0, 10)
    assert encoding(c, "l") == "listpack"
    c.ok("LSET", "l", 3, "y" * 5000)
    assert encoding(c, "l") == "quicklist"
    c.ok("LSET", "l", 3, "y")
    assert items(c, "l") == [b"x" * 100] * 3 + [b"y"] + [b"x" * 100] * 7
    c.ok("DEL", "l")
    c.ok("RPUSH", "l", "a")
    c.ok("LINSERT", "l", "BEFORE", "nosuch", "z" * 4096)
    assert encoding(c, "l") == "quicklist"


def test_debug_object(c, config):
    c.ok("RPUSH", "l", *["x%d" % i for i in range(10)])
    assert "serializedlength:" in c.ok("DEBUG", "OBJECT", "l")
    config("list-max-listpack-size", "4")
    c.ok("DEL", "l")
    c.ok("RPUSH", "l", *["x%d" % i for i in range(10)])
    told = c.ok("DEBUG", "OBJECT", "l")
    for fact in ("encoding:quicklist", "ql_nodes:3", "ql_avg_node:3.33", "ql_listpack_max:4", "ql_compressed:0", "ql_uncompressed_size:61"):
        assert " %s" % fact in told, told


def test_packed_threshold(c, config):
    run(c, """
        DEBUG QUICKLIST-PACKED-THRESHOLD x => -ERR argument must be a memory value bigger than 1 and smaller than 4gb
        DEBUG QUICKLIST-PACKED-THRESHOLD 4294967295 => -ERR argument must be a memory value bigger than 1 and smaller than 4gb
        DEBUG QUICKLIST-PACKED-THRESHOLD 10b
    """)
    config("list-max-listpack-size", "4")
    try:
        c.ok("RPUSH", "l", "a", "b", "c", "0123456789", "d", "e")
        assert items(c, "l") == [b"a", b"b", b"c", b"0123456789", b"d", b"e"]
        assert " ql_nodes:3 " in c.ok("DEBUG", "OBJECT", "l")
        c.ok("LSET", "l", 1, "9876543210")
        c.ok("LSET", "l", 3, "x")
        c.ok("LINSERT", "l", "AFTER", "c", "abcdefghij")
        assert items(c, "l") == [b"a", b"9876543210", b"c", b"abcdefghij", b"x", b"d", b"e"]
    finally:
        c.ok("DEBUG", "QUICKLIST-PACKED-THRESHOLD", 0)


def test_copy_rename_and_expire(c):
    run(c, """
        RPUSH l a b c => *
        COPY l m => :1
        RPUSH l d => *
        LRANGE m 0 -1 => ["a", "b", "c"]
        RENAME l n
        LRANGE n 0 -1 => ["a", "b", "c", "d"]
        EXPIRE n 100 => :1
        RPUSH n e => *
        TTL n => :100
        LPOP n 99 => *
        EXISTS n => :0
        RPUSH n x => *
        TTL n => :-1
        SET n v
        GET n => "v"
        RPUSH l x => *
        OBJECT REFCOUNT l => :1
    """)


@pytest.mark.parametrize("fill", ["-2", "-1", "1", "3", "64"])
@pytest.mark.parametrize("depth", ["0", "1"])
def test_random_operations_match_a_python_list(c, config, fill, depth):
    config("list-max-listpack-size", fill)
    config("list-compress-depth", depth)
    rng = random.Random("%s %s" % (fill, depth))
    model = []

    def value():
        kind = rng.random()
        if kind < 0.3:
            return b"%d" % rng.randint(-5, 5)
        if kind < 0.9:
            return rng.choice(b"abcdefgh".decode()).encode() * rng.randint(0, 60)
        return bytes(rng.getrandbits(8) for _ in range(rng.choice([300, 5000, 9000])))

    for step in range(250):
        op = rng.choice(["lpush", "rpush", "rpush", "lpush", "lpop", "rpop", "lset", "linsert", "lrem", "ltrim", "lrange", "lmove"])
        new = [value() for _ in range(rng.randint(1, 4))]
        at = rng.randrange(len(model)) if model else 0
        if op == "lpush":
            model[:0] = new[::-1]
            assert c.ok("LPUSH", "l", *new) == len(model)
        elif op == "rpush":
            model += new
            assert c.ok("RPUSH", "l", *new) == len(model)
        elif op in ("lpop", "rpop") and model:
            n = min(rng.randint(1, 3), len(model))
            want = model[:n] if op == "lpop" else model[::-1][:n]
            model[:] = model[n:] if op == "lpop" else model[:-n]
            assert c.ok(op, "l", n) == want
        elif op == "lset" and model:
            model[at] = new[0]
            c.ok("LSET", "l", at if rng.random() < 0.5 else at - len(model), new[0])
        elif op == "linsert" and model:
            pivot, after = model[at], rng.random() < 0.5
            model.insert(model.index(pivot) + after, new[0])
            assert c.ok("LINSERT", "l", "AFTER" if after else "BEFORE", pivot, new[0]) == len(model)
        elif op == "lrem" and model:
            pivot, n = model[at], rng.choice([-2, -1, 0, 1, 2])
            gone = [i for i, x in enumerate(model) if x == pivot]
            gone = gone if n == 0 else gone[:n] if n > 0 else gone[n:]
            model[:] = [x for i, x in enumerate(model) if i not in gone]
            assert c.ok("LREM", "l", n, pivot) == len(gone)
        elif op == "ltrim" and model and rng.random() < 0.3:
            low, high = rng.randint(0, 3), max(0, len(model) - 1 - rng.randint(0, 9))
            model[:] = model[low:high + 1] if high >= low else []
            c.ok("LTRIM", "l", low, high)
        elif op == "lrange" and model:
            assert c.ok("LRANGE", "l", at, at + 9) == model[at:at + 10]
            assert c.ok("LINDEX", "l", at) == model[at]
            assert c.ok("LPOS", "l", model[at]) == model.index(model[at])
        elif op == "lmove" and model:
            model.append(model.pop(0))
            assert c.ok("LMOVE", "l", "l", "LEFT", "RIGHT") == model[-1]
        if step % 25 == 24:
            assert items(c, "l") == model
    assert items(c, "l") == model


# ---- large ----

def test_many_elements(c):
    n = 20000
    for first in range(0, n, 2000):
        c.ok("RPUSH", "l", *["element:%06d" % i for i in range(first, first + 2000)])
    assert c.ok("LLEN", "l") == n
    for at in (0, 1, n // 3, n // 2, n - 2, n - 1):
        assert c.ok("LINDEX", "l", at) == c.ok("LINDEX", "l", at - n) == b"element:%06d" % at
    assert c.ok("LRANGE", "l", 0, -1) == [b"element:%06d" % i for i in range(n)]
    c.ok("LSET", "l", n // 2, "changed")
    assert c.ok("LRANGE", "l", n // 2 - 1, n // 2 + 1) == [b"element:%06d" % (n // 2 - 1), b"changed",
                                                            b"element:%06d" % (n // 2 + 1)]
    c.ok("LTRIM", "l", n // 4, -n // 4 - 1)
    assert c.ok("LLEN", "l") == n // 2
    assert c.ok("LINDEX", "l", 0) == b"element:%06d" % (n // 4)


def test_large_elements(c):
    big = [bytes([65 + i]) * size for i, size in enumerate((8192, 16384, 70000, 300000, 5000000))]
    c.ok("RPUSH", "l", "first", *big)
    c.ok("RPUSH", "l", "last")
    assert c.ok("LRANGE", "l", 0, -1) == [b"first"] + big + [b"last"]
    assert c.ok("LPOS", "l", big[3]) == 4
    assert c.ok("LMOVE", "l", "m", "LEFT", "LEFT") == b"first"
    for value in big:
        assert c.ok("LMOVE", "l", "m", "LEFT", "RIGHT") == value
    assert c.ok("LRANGE", "m", 0, -1) == [b"first"] + big
    c.ok("LSET", "m", 0, big[4])
    c.ok("LSET", "m", 5, "small")
    c.ok("LINSERT", "m", "AFTER", "small", big[3])
    assert c.ok("LINSERT", "m", "AFTER", "nosuch", big[3]) == -1
    assert c.ok("LRANGE", "m", 0, -1) == [big[4]] + big[:4] + [b"small", big[3]]
    assert c.ok("LREM", "m", 0, big[3]) == 2
    assert c.ok("RPOP", "m") == b"small"
    assert c.ok("LPOP", "m", 9) == [big[4]] + big[:3]


# ---- events ----

def test_events(server, make_server):
    with server.connect() as conn, server.connect() as listener:
        conn.ok("FLUSHALL")
        listener.ok("PSUBSCRIBE", "__keyevent@*")
        conn.ok("CONFIG", "SET", "notify-keyspace-events", "KElg")
        for line in ("RPUSH l a b c d e", "LPUSH l z", "LSET l 0 y", "LINSERT l BEFORE a x", "LREM l 1 c", "LTRIM l 0 3", "LPOP l",
                     "RPOP l", "LMOVE l m LEFT RIGHT", "LMPOP 1 l LEFT", "LTRIM m 5 9", "RPUSH l 1", "LREM l 0 1"):
            assert not isinstance(conn(*line.split()), Exception)
        want = ["rpush l", "lpush l", "lset l", "linsert l", "lrem l", "ltrim l", "lpop l", "rpop l", "rpush m", "lpop l",
                "lpop l", "del l", "ltrim m", "del m", "rpush l", "lrem l", "del l"]
        got = []
        while len(got) < len(want):
            message = listener.read().py
            got.append("%s %s" % (message[2].decode().split(":")[1], message[3].decode()))
        assert got == want
        conn.ok("CONFIG", "SET", "notify-keyspace-events", "")


# ---- waiting ----

def test_blocking_commands_do_not_wait_when_there_is_something(c):
    run(c, """
        RPUSH l 1 2 3 4 5 6 7 8 => *
        BLPOP none l 0 => ["l", "1"]
        BRPOP l 0 => ["l", "8"]
        BLMPOP 0 2 none l LEFT COUNT 2 => ["l", ["2", "3"]]
        BLMOVE l m LEFT RIGHT 0 => "4"
        BRPOPLPUSH l m 0 => "7"
        LRANGE l 0 -1 => ["5", "6"]
        LRANGE m 0 -1 => ["7", "4"]
    """)


def test_blocking_errors(c):
    run(c, f"""
        BLPOP l x => -ERR timeout is not a float or out of range
        BLPOP l -1 => -ERR timeout is negative
        BRPOP l -0.1 => -ERR timeout is negative
        BLMPOP x 1 l LEFT => -ERR timeout is not a float or out of range
        BLMPOP 0 0 l LEFT => -ERR numkeys should be greater than 0
        BLMPOP 0 1 l UP => {SYNTAX}
        BLMOVE l m UP LEFT 0 => {SYNTAX}
        BLMOVE l m LEFT LEFT x => -ERR timeout is not a float or out of range
        BLPOP l => {arity('blpop')}
        SET s v
        BLPOP none s 0 => {WRONGTYPE}
        BLMPOP 0 1 s LEFT => {WRONGTYPE}
        BRPOPLPUSH s m 0 => {WRONGTYPE}
        RPUSH l 1 => *
        BLMOVE l s LEFT LEFT 0 => {WRONGTYPE}
    """)


def test_blocking_timeouts_and_transactions(c):
    run(c, """
        BLPOP l 0.01 => nilarray
        BRPOP l m 0.01 => nilarray
        BLMPOP 0.01 1 l LEFT => nilarray
        BLMOVE l m LEFT LEFT 0.01 => nilarray
        BRPOPLPUSH l m 0.01 => nilarray
        MULTI
        BLPOP l 0 => +QUEUED
        BLMPOP 0 1 l LEFT => +QUEUED
        BLMOVE l m LEFT LEFT 0 => +QUEUED
        BRPOPLPUSH l m 0 => +QUEUED
        EXEC => [nilarray, nilarray, nil, nil]
    """)


def wait_blocked(conn, n):
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if b"blocked_clients:%d\r" % n in conn.ok("INFO", "clients"):
            return
        time.sleep(0.002)
    raise AssertionError("no %d blocked clients" % n)


def start(conn, *args):
    from resp import encode
    conn.send(encode(*args))


def test_blocked_clients_are_served_in_order(c, server):
    with server.connect() as first, server.connect() as second, server.connect() as third:
        start(first, "BLPOP", "l", 5)
        wait_blocked(c, 1)
        start(second, "BRPOP", "k", "l", 5)
        wait_blocked(c, 2)
        start(third, "BLMPOP", 5, 1, "l", "LEFT", "COUNT", 5)
        wait_blocked(c, 3)
        assert c.ok("RPUSH", "l", "a", "b", "c", "d") == 4
        assert first.read().render() == '["l", "a"]'
        assert second.read().render() == '["l", "d"]'
        assert third.read().render() == '["l", ["b", "c"]]'
        assert c.ok("EXISTS", "l") == 0


def test_blocked_moves_feed_each_other(c, server):
    with server.connect() as first, server.connect() as second:
        start(second, "BLPOP", "b", 5)
        start(first, "BLMOVE", "a", "b", "LEFT", "RIGHT", 5)
        wait_blocked(c, 2)
        c.ok("RPUSH", "a", "x")
        assert first.read().render() == '"x"'
        assert second.read().render() == '["b", "x"]'
        start(first, "BRPOPLPUSH", "a", "a", 5)
        wait_blocked(c, 1)
        c.ok("LPUSH", "a", "1", "2")
        assert first.read().render() == '"1"'
        assert items(c, "a") == [b"1", b"2"]


def test_blocked_client_does_not_mind_other_types(c, server):
    with server.connect() as first:
        start(first, "BLPOP", "l", 5)
        wait_blocked(c, 1)
        c.ok("SET", "l", "v")
        wait_blocked(c, 1)
        c.ok("DEL", "l")
        with server.connect() as other:
            other.ok("MULTI")
            other.ok("RPUSH", "l", "gone")
            other.ok("DEL", "l")
            other.ok("EXEC")
        wait_blocked(c, 1)
        c.ok("RPUSH", "src", "v")
        c.ok("RENAME", "src", "l")
        assert first.read().render() == '["l", "v"]'


def test_blocked_move_to_wrong_type(c, server):
    with server.connect() as first:
        start(first, "BLMOVE", "a", "s", "LEFT", "LEFT", 5)
        wait_blocked(c, 1)
        c.ok("SET", "s", "v")
        c.ok("RPUSH", "a", "x")
        assert first.read().render() == WRONGTYPE
        assert items(c, "a") == [b"x"]
