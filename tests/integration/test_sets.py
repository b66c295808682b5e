# SPDX-License-Identifier: BSD-3-Clause
"""Sets: every command, option and error of Redis 7.2."""
import random

import pytest

from resp import run

WRONGTYPE = "-WRONGTYPE Operation against a key holding the wrong kind of value"
NOTINT = "-ERR value is not an integer or out of range"
SYNTAX = "-ERR syntax error"


def arity(name):
    return "-ERR wrong number of arguments for '%s' command" % name


def members(c, key):
    return {bytes(m) for m in c("SMEMBERS", key)}


def test_add_remove_look(c):
    run(c, f"""
        SADD s a b b c => :3
        SADD s c d => :1
        SCARD s => :4
        SCARD none => :0
        SISMEMBER s a => :1
        SISMEMBER s x => :0
        SISMEMBER none x => :0
        SMISMEMBER s a x b => [:1, :0, :1]
        SMISMEMBER none a x => [:0, :0]
        SREM s a x b => :2
        SREM none a => :0
        SREM s c d => :2
        EXISTS s => :0
        SADD s "" "a\\x00b" => :2
        SISMEMBER s "" => :1
        SISMEMBER s "a\\x00b" => :1
        TYPE s => +set
        SADD s => {arity('sadd')}
        SREM s => {arity('srem')}
        SCARD => {arity('scard')}
        SISMEMBER s => {arity('sismember')}
        SMISMEMBER s => {arity('smismember')}
        SMEMBERS s t => {arity('smembers')}
    """)


def test_shapes(c):
    run(c, """
        SADD i 3 1 2 => :3
        2|SMEMBERS i => ["1", "2", "3"]
        3|SMEMBERS i => ~["1", "2", "3"]
        2|SMEMBERS none => []
        3|SMEMBERS none => ~[]
        2|SINTER i => ["1", "2", "3"]
        3|SINTER i => ~["1", "2", "3"]
        3|SINTER i none => ~[]
        3|SUNION i none => ~["1", "2", "3"]
        3|SDIFF i none => ~["1", "2", "3"]
        3|SDIFF none i => ~[]
        2|SPOP i 5 => ["1", "2", "3"]
        3|SPOP i 5 => ~["1", "2", "3"]
        3|SPOP i 5 => ~[]
        SRANDMEMBER i 5 => []
        SPOP i => nil
        SRANDMEMBER i => nil
    """)


def test_other_types_are_refused(c):
    c.ok("SET", "t", "v")
    c("SADD", "s", "1")
    for command in ("SADD t 1", "SREM t 1", "SCARD t", "SMEMBERS t", "SISMEMBER t 1", "SMISMEMBER t 1", "SMOVE t s 1", "SMOVE s t 1",
                    "SPOP t", "SPOP t 1", "SRANDMEMBER t", "SRANDMEMBER t 1", "SSCAN t 0", "SINTER s t", "SINTER none t",
                    "SUNION t s", "SDIFF s t", "SINTERCARD 2 s t", "SINTERSTORE d none t", "SUNIONSTORE d t",
                    "SDIFFSTORE d s t"):
        run(c, command + " => " + WRONGTYPE)
    run(c, "SMOVE none t 1 => :0\nSCARD s => :1")


def test_encodings(c):
    run(c, f"""
        SADD i 1 -5 9223372036854775807 => :3
        OBJECT ENCODING i => "intset"
        SADD l 1 a => :2
        7.2|OBJECT ENCODING l => "listpack"
        7.0|OBJECT ENCODING l => "hashtable"
        SADD i 007 => :1
        7.2|OBJECT ENCODING i => "listpack"
        SADD long {'x' * 65} => :1
        OBJECT ENCODING long => "hashtable"
        SADD l {'x' * 65} => :1
        OBJECT ENCODING l => "hashtable"
    """)
    for i in range(512):
        c("SADD", "n", i)
    run(c, 'OBJECT ENCODING n => "intset"\nSADD n 512 => :1\nOBJECT ENCODING n => "hashtable"')
    assert members(c, "n") == {b"%d" % i for i in range(513)}
    for i in range(128):
        c("SADD", "w", "w%d" % i)
    run(c, '7.2|OBJECT ENCODING w => "listpack"\nSADD w one-more => :1\nOBJECT ENCODING w => "hashtable"\nSCARD w => :129')


def test_widths_of_integers(c):
    values = [0, -1, 127, -128, 32767, -32768, 32768, -32769, 2 ** 31 - 1, -2 ** 31, 2 ** 31, 2 ** 63 - 1, -2 ** 63]
    for value in values:
        assert c("SADD", "i", value) == 1
        assert c("SADD", "i", value) == 0
    run(c, 'OBJECT ENCODING i => "intset"')
    assert [int(m) for m in c("SMEMBERS", "i")] == sorted(values) or members(c, "i") == {b"%d" % v for v in values}
    for value in values:
        assert c("SREM", "i", value) == 1
    run(c, "EXISTS i => :0")


def test_move(c):
    run(c, f"""
        SADD a 1 x => :2
        SADD b 2 => :1
        SMOVE a b x => :1
        SMOVE a b x => :0
        SMOVE a c 1 => :1
        EXISTS a => :0
        SMOVE none b 1 => :0
        SMOVE b b 2 => :1
        SMOVE b b nope => :0
        SADD c 2 => :1
        SMOVE c b 2 => :1
        SCARD b => :2
        SCARD c => :1
        SMOVE a b => {arity('smove')}
    """)


def test_operations(c):
    run(c, f"""
        SADD a 1 2 3 4 => :4
        SADD b 2 4 x => :3
        SADD c 4 => :1
        2|SINTER a b c => ["4"]
        SINTERCARD 3 a b c => :1
        SINTERCARD 2 a b LIMIT 1 => :1
        SINTERCARD 2 a b LIMIT 0 => :2
        SINTERCARD 2 a b limit 10 => :2
        SINTERCARD 2 a none => :0
        SINTERCARD 1 a b => {SYNTAX}
        SINTERCARD 0 a => -ERR numkeys should be greater than 0
        SINTERCARD x a => -ERR numkeys should be greater than 0
        SINTERCARD -1 a => -ERR numkeys should be greater than 0
        SINTERCARD 3 a b => -ERR Number of keys can't be greater than number of args
        SINTERCARD 2 a b LIMIT -1 => -ERR LIMIT can't be negative
        SINTERCARD 2 a b LIMIT x => -ERR LIMIT can't be negative
        SINTERCARD 2 a b LIMIT => {SYNTAX}
        SINTERCARD 2 a b bad 1 => {SYNTAX}
        SINTERSTORE d a b => :2
        SUNIONSTORE d a b => :5
        SDIFFSTORE d a b c => :2
        2|SMEMBERS d => ["1", "3"]
        SINTERSTORE d a none => :0
        EXISTS d => :0
        SDIFFSTORE a a b => :2
        SUNIONSTORE a a => :2
        SET str v
        SUNIONSTORE str a => :2
        TYPE str => +set
        SINTER => {arity('sinter')}
        SUNIONSTORE d => {arity('sunionstore')}
        SINTERCARD 1 => {arity('sintercard')}
    """)


def test_stored_results_lose_the_ttl(c):
    run(c, "SADD a 1 => :1\nSET d v EX 100\nSUNIONSTORE d a => :1\nTTL d => :-1")


def subset(rng, kind, size):
    pool = [b"%d" % i if kind == "ints" else b"w%d" % i for i in range(size * 2)]
    return set(rng.sample(pool, rng.randint(1, size * 2)))


@pytest.mark.parametrize("kind", ["ints", "words"])
@pytest.mark.parametrize("size", [5, 100, 800])
def test_operations_against_python(c, kind, size):
    rng = random.Random(size)
    for _ in range(5):
        sets = [subset(rng, kind, size) for _ in range(3)] + [subset(rng, "ints", 3)]
        for i, content in enumerate(sets):
            c("DEL", "s%d" % i)
            c("SADD", "s%d" % i, *content)
        keys = ["s0", "s1", "s2"]
        wanted = {"INTER": sets[0] & sets[1] & sets[2], "UNION": sets[0] | sets[1] | sets[2], "DIFF": sets[0] - sets[1] - sets[2]}
        for name, want in wanted.items():
            got = list(c("S" + name, *keys))
            assert len(got) == len(set(got)) and set(got) == want
            assert c("S" + name + "STORE", "d", *keys) == len(want)
            assert members(c, "d") == want
        assert c("SINTERCARD", 3, *keys) == len(wanted["INTER"])
        assert set(c("SDIFF", "s0", "s3")) == sets[0] - sets[3]
        assert set(c("SDIFF", "s3", "s0", "s1", "s2")) == sets[3] - sets[0] - sets[1] - sets[2]


def test_pop_and_random_arguments(c):
    run(c, f"""
        SPOP none => nil
        SPOP none 0 => *
        SADD s a => :1
        SPOP s -1 => -ERR value is out of range, must be positive
        SPOP s x => -ERR value is out of range, must be positive
        SPOP s 1 2 => {SYNTAX}
        2|SPOP s 0 => []
        3|SPOP s 0 => ~[]
        SRANDMEMBER s => "a"
        SRANDMEMBER s 0 => []
        SRANDMEMBER s 5 => ["a"]
        SRANDMEMBER s -3 => ["a", "a", "a"]
        SRANDMEMBER s x => {NOTINT}
        SRANDMEMBER s 1 2 => {SYNTAX}
        SRANDMEMBER s -9223372036854775808 => /out of range/
        SPOP s => "a"
        EXISTS s => :0
    """)


@pytest.mark.parametrize("kind,size", [("ints", 100), ("words", 100), ("words", 2000), ("ints", 2000)])
def test_pops_take_what_they_reply(c, kind, size):
    want = {b"%d" % i if kind == "ints" else b"w%d" % i for i in range(size)}
    for count in (1, 7, size // 2, size - 1, size, size + 1):
        c("DEL", "s")
        c("SADD", "s", *want)
        got = [bytes(m) for m in c("SPOP", "s", count)]
        assert len(got) == len(set(got)) == min(count, size)
        left = members(c, "s")
        assert left | set(got) == want and not left & set(got)
    c("DEL", "s")
    c("SADD", "s", *want)
    got = {bytes(c("SPOP", "s")) for _ in range(size)}
    assert got == want and c("EXISTS", "s") == 0


@pytest.mark.parametrize("kind,size", [("ints", 100), ("words", 100), ("words", 1000)])
def test_random_members_are_different(c, kind, size):
    want = {b"%d" % i if kind == "ints" else b"w%d" % i for i in range(size)}
    c("SADD", "s", *want)
    for count in (1, 5, size // 2, size - 1, size, size + 10):
        got = c("SRANDMEMBER", "s", count)
        assert len(got) == min(count, size) == len(set(got)) and set(got) <= want
    drawn = c("SRANDMEMBER", "s", -20 * size)
    assert len(drawn) == 20 * size and set(drawn) == want
    assert c("SCARD", "s") == size


def test_scan(c):
    run(c, f"""
        SSCAN none 0 => ["0", []]
        SADD s 1 2 12 => :3
        SSCAN s 0 => ["0", ["1", "2", "12"]]
        SSCAN s 0 MATCH 1* => ["0", ["1", "12"]]
        SSCAN s 0 COUNT 0 => {SYNTAX}
        SSCAN s 0 COUNT x => {NOTINT}
        SSCAN s 0 MATCH => {SYNTAX}
        SSCAN s x => -ERR invalid cursor
        SSCAN s => {arity('sscan')}
    """)
    want = {b"w%d" % i for i in range(3000)}
    c("SADD", "big", *want)
    cursor, seen, calls = b"0", set(), 0
    while True:
        cursor, part = c("SSCAN", "big", cursor, "COUNT", 100)
        seen |= set(part)
        calls += 1
        if calls == 5:
            c("SADD", "big", *["new%d" % i for i in range(5000)])
        if calls == 10:
            c("SREM", "big", *["new%d" % i for i in range(5000)])
        if cursor == b"0":
            break
    assert {m for m in seen if m.startswith(b"w")} == want and calls > 5


@pytest.mark.parametrize("size", [3, 100, 3000])
def test_copies_and_moves_keep_all(c, size):
    want = {b"m%d" % i for i in range(size)}
    c("SADD", "s", *want)
    run(c, "COPY s copy => :1\nSREM copy m1 => :1\nRENAME s moved")
    assert members(c, "moved") == want
    assert members(c, "copy") == want - {b"m1"}
    assert c("UNLINK", "moved") == 1 and c("DEL", "copy") == 1


def test_long_members(c):
    for size in (254, 255, 256, 70000, 300000):
        assert c("SADD", "s", b"x" * size) == 1
        assert c("SISMEMBER", "s", b"x" * size) == 1
        assert c("SADD", "s", b"x" * size) == 0
    assert {len(m) for m in c("SMEMBERS", "s")} == {254, 255, 256, 70000, 300000}
    assert c("SREM", "s", b"x" * 300000) == 1


def test_operations_on_sets_of_every_encoding(c):
    """Sizes on both sides of where a set is indexed before it is searched; numbers and words in all encodings."""
    rng = random.Random(5)
    for turn in range(40):
        model = []
        for i in range(rng.choice([2, 2, 3, 5])):
            universe = [b"%d" % n for n in range(-40, 140)] + ([b"word:%d" % n for n in range(150)] if rng.random() < 0.8 else [])
            model.append(set(rng.sample(universe, rng.choice([3, 15, 40, 120, 170]))))
            c("DEL", "s%d" % i)
            c("SADD", "s%d" % i, *sorted(model[i]))
        keys = ["s%d" % i for i in range(len(model))]
        wanted = {"SINTER": set.intersection(*model), "SUNION": set.union(*model), "SDIFF": model[0].difference(*model[1:])}
        for name, want in wanted.items():
            got = [bytes(m) for m in c(name, *keys)]
            assert len(got) == len(want) and set(got) == want, (turn, name)
            assert c(name + "STORE", "d", *keys) == len(want)
            assert members(c, "d") == want
            assert c(name + "STORE", keys[-1], *keys) == len(want)
            assert members(c, keys[-1]) == want
            c("DEL", keys[-1])
            c("SADD", keys[-1], *sorted(model[-1]))
        assert c("SINTERCARD", len(keys), *keys) == len(wanted["SINTER"])
