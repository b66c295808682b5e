# SPDX-License-Identifier: BSD-3-Clause
"""Sorted sets: every command, option and error of Redis 7.2, in both encodings, and the commands that wait."""
import random
import re
import time

import pytest

from harness import wait_for
from resp import encode, run

WRONGTYPE = "-WRONGTYPE Operation against a key holding the wrong kind of value"
NOTINT = "-ERR value is not an integer or out of range"
NOTFLOAT = "-ERR value is not a valid float"
MINMAX = "-ERR min or max is not a float"
LEXMINMAX = "-ERR min or max not valid string range item"
SYNTAX = "-ERR syntax error"


def arity(name):
    return "-ERR wrong number of arguments for '%s' command" % name


def zrun(c, script):
    """run() with two notations more: #1.5 is a score (a double in RESP3, a bulk string in RESP2), <a 1, b 2> members with their
    scores (pairs in RESP3, flat in RESP2)."""
    def score(text):
        return "," + text if c.proto == 3 else '"%s"' % text

    def pairs(match):
        items = [item.split() for item in match.group(1).split(",")] if match.group(1) else []
        if c.proto == 3:
            return "[%s]" % ", ".join('["%s", %s]' % (m, score(s)) for m, s in items)
        return "[%s]" % ", ".join('"%s", %s' % (m, score(s)) for m, s in items)
    lines = []
    for line in script.strip().splitlines():
        command, arrow, expected = line.partition(" => ")
        expected = re.sub(r"<([^>]*)>", pairs, expected)
        lines.append(command + arrow + re.sub(r"#(-?[0-9a-z.+-]+)", lambda m: score(m.group(1)), expected))
    __tracebackhide__ = True
    run(c, "\n".join(lines))


@pytest.fixture(params=["listpack", "skiplist"])
def z(request, c):
    """A connection; sorted sets are made in this encoding."""
    c.ok("CONFIG", "SET", "zset-max-listpack-entries", "128" if request.param == "listpack" else "0")
    c.encoding = request.param
    yield c
    c.ok("CONFIG", "SET", "zset-max-listpack-entries", "128")


def test_zadd(z):
    zrun(z, f"""
        ZADD z 1 a 2 b => :2
        OBJECT ENCODING z => "{z.encoding}"
        ZADD z 1 a 3 b => :0
        ZADD z CH 1 a 4 b 5 c => :2
        ZADD z NX 9 a 9 d => :1
        ZADD z XX 8 d 8 e => :0
        ZADD z XX CH 7 d 8 e => :1
        ZADD z GT CH 6 d 8 c => :1
        ZADD z LT CH 6 d 9 c => :1
        ZADD z GT 5 new => :1
        ZADD z gt xx 100 other => :0
        ZRANGE z 0 -1 WITHSCORES => <a 1, b 4, new 5, d 6, c 8>
        ZADD z INCR 2.5 a => #3.5
        ZADD z INCR NX 1 a => nil
        ZADD z INCR XX 1 none => nil
        ZADD z INCR GT -1 a => nil
        ZADD z INCR LT -1 a => #2.5
        ZADD none XX 1 a => :0
        EXISTS none => :0
        ZADD z 1 dup 2 dup => :1
        ZSCORE z dup => #2
    """)


def test_zadd_refuses(z):
    zrun(z, f"""
        SET s x
        ZADD => {arity('zadd')}
        ZADD z 1 => {arity('zadd')}
        ZADD z 1 a 2 => {SYNTAX}
        ZADD z NX XX 1 => {SYNTAX}
        ZADD z NX XX 1 a => -ERR XX and NX options at the same time are not compatible
        ZADD z NX GT 1 a => -ERR GT, LT, and/or NX options at the same time are not compatible
        ZADD z NX LT 1 a => -ERR GT, LT, and/or NX options at the same time are not compatible
        ZADD z GT LT 1 a => -ERR GT, LT, and/or NX options at the same time are not compatible
        ZADD z INCR 1 a 2 b => -ERR INCR option supports a single increment-element pair
        ZADD z x a => {NOTFLOAT}
        ZADD z nan a => {NOTFLOAT}
        ZADD z 1 a x b => {NOTFLOAT}
        ZADD z " 1" a => {NOTFLOAT}
        ZADD z 1e400 a => {NOTFLOAT}
        EXISTS z => :0
        ZADD s 1 a => {WRONGTYPE}
        ZADD s x a => {NOTFLOAT}
        ZADD z inf a => :1
        ZADD z INCR -inf a => -ERR resulting score is not a number (NaN)
        ZINCRBY z -inf a => -ERR resulting score is not a number (NaN)
        ZSCORE z a => #inf
        ZINCRBY z x a => {NOTFLOAT}
        ZINCRBY z nx a => {SYNTAX}
        ZINCRBY z 1 => {arity('zincrby')}
        ZINCRBY s 1 a => {WRONGTYPE}
    """)


def test_scores_as_text(z):
    zrun(z, """
        ZADD z 0.1 a 1e21 b -inf c +inf d 3.0 e 1e-7 f 0x10 g 9007199254740993 h 123456789.125 i 5e-324 j
        ZSCORE z none => nil
        ZMSCORE z c e g h d none => [#-inf, #3, #16, #9007199254740992, #inf, nil]
        7.2| ZMSCORE z a b f i j => [#0.1, #1e+21, #1e-7, #123456789.125, #5e-324]
        7.2| ZINCRBY z 0.2 a => #0.30000000000000004
        7.2| ZADD z 2.7e22 k => :1
        7.2| ZSCORE z k => #27000000000000002000000
        7.2| ZADD z 1.7976931348623157e308 k => :0
        7.2| ZSCORE z k => #1.7976931348623157e+308
    """.replace("ZADD z 0.1 a 1e21 b -inf c +inf d 3.0 e 1e-7 f 0x10 g 9007199254740993 h 123456789.125 i 5e-324 j",
                "ZADD z 0.1 a 1e21 b -inf c +inf d 3.0 e 1e-7 f 0x10 g 9007199254740993 h 123456789.125 i 5e-324 j => :10"))


def test_order_is_by_score_then_bytes(z):
    zrun(z, r"""
        ZADD z 1 b 1 a 1 B 1 aa 1 "" 1 "\xff" 1 10 1 9 0 z 2 A => :10
        ZRANGE z 0 -1 => ["z", "", "10", "9", "B", "a", "aa", "b", "\xff", "A"]
        ZRANK z "" => :1
        ZRANK z A => :9
        ZREVRANK z A => :0
        ZADD z -0 zero 0 zz => :2
        ZRANGE z 0 2 => ["z", "zero", "zz"]
    """)


def test_zrem_zcard_zscore_zrank(z):
    zrun(z, f"""
        SET s x
        ZADD z 1 a 2 b 3 c 4 d => :4
        ZCARD z => :4
        ZCARD none => :0
        ZCARD s => {WRONGTYPE}
        ZREM z a none a => :1
        ZREM none a => :0
        ZREM s a => {WRONGTYPE}
        ZREM z => {arity('zrem')}
        ZSCORE z b => #2
        ZSCORE none b => nil
        ZSCORE s b => {WRONGTYPE}
        ZMSCORE none a b => [nil, nil]
        ZMSCORE z => {arity('zmscore')}
        ZMSCORE s a => {WRONGTYPE}
        ZRANK z b => :0
        ZREVRANK z b => :2
        ZRANK z none => nil
        ZRANK none b => nil
        ZRANK s b => {WRONGTYPE}
        7.2| ZRANK z c WITHSCORE => [:1, #3]
        7.2| ZREVRANK z d withscore => [:0, #4]
        7.2| ZRANK z none WITHSCORE => nilarray
        7.2| ZRANK none b WITHSCORE => nilarray
        7.2| ZRANK z c WITHSCORES => {SYNTAX}
        7.2| ZRANK z c WITHSCORE x => {arity('zrank')}
        ZREM z b c d => :3
        EXISTS z => :0
    """)


def test_zrange_by_rank(z):
    zrun(z, f"""
        SET s x
        ZADD z 1 a 2 b 3 c 4 d => :4
        ZRANGE z 0 -1 => ["a", "b", "c", "d"]
        ZRANGE z 1 2 WITHSCORES => <b 2, c 3>
        ZRANGE z -2 -1 => ["c", "d"]
        ZRANGE z -100 100 => ["a", "b", "c", "d"]
        ZRANGE z 4 5 => []
        ZRANGE z 3 1 => []
        ZRANGE z 0 -5 => []
        ZRANGE z 0 -9223372036854775808 => []
        ZRANGE z -9223372036854775808 9223372036854775807 => ["a", "b", "c", "d"]
        ZRANGE z 0 1 REV => ["d", "c"]
        ZRANGE z -1 -1 REV WITHSCORES => <a 1>
        ZREVRANGE z 0 -1 WITHSCORES => <d 4, c 3, b 2, a 1>
        ZREVRANGE z 1 2 => ["c", "b"]
        ZREVRANGE z 9 10 => []
        ZREVRANGE z 0 1 REV => {SYNTAX}
        ZRANGE none 0 -1 => []
        ZRANGE s 0 -1 => {WRONGTYPE}
        ZRANGE z 0 x => {NOTINT}
        ZRANGE z (1 2 => {NOTINT}
        ZRANGE s 0 x => {NOTINT}
        ZRANGE z 0 1 bogus => {SYNTAX}
        ZRANGE z 0 1 BYSCORE BYLEX => {SYNTAX}
        ZRANGE z 0 1 REV REV => {SYNTAX}
        ZRANGE z 0 -1 LIMIT 0 1 => -ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX
        ZRANGE z 0 -1 LIMIT 1 -1 => ["a", "b", "c", "d"]
        ZRANGE z 0 => {arity('zrange')}
    """)


def test_zrange_by_score(z):
    zrun(z, f"""
        ZADD z 1 a 2 b 2 bb 3 c 4 d => :5
        ZRANGEBYSCORE z 2 3 => ["b", "bb", "c"]
        ZRANGEBYSCORE z (2 3 WITHSCORES => <c 3>
        ZRANGEBYSCORE z (2 (3 => []
        ZRANGEBYSCORE z -inf +inf => ["a", "b", "bb", "c", "d"]
        ZRANGEBYSCORE z -inf inf LIMIT 1 2 => ["b", "bb"]
        ZRANGEBYSCORE z -inf inf WITHSCORES LIMIT 3 -1 => <c 3, d 4>
        ZRANGEBYSCORE z -inf inf LIMIT 0 0 => []
        ZRANGEBYSCORE z -inf inf LIMIT 9 1 => []
        ZRANGEBYSCORE z -inf inf LIMIT -1 5 => []
        ZRANGEBYSCORE z 3 2 => []
        ZREVRANGEBYSCORE z 3 2 => ["c", "bb", "b"]
        ZREVRANGEBYSCORE z +inf (2 => ["d", "c"]
        ZREVRANGEBYSCORE z +inf -inf WITHSCORES LIMIT 1 2 => <c 3, bb 2>
        ZRANGE z 2 (4 BYSCORE => ["b", "bb", "c"]
        ZRANGE z (4 2 BYSCORE REV LIMIT 1 1 WITHSCORES => <bb 2>
        ZRANGE z 2 4 BYSCORE REV => []
        ZCOUNT z 2 3 => :3
        ZCOUNT z (2 inf => :2
        ZCOUNT z -inf (1 => :0
        ZCOUNT z "" "" => :0
        ZCOUNT z 0x2 0x2 => :2
        ZCOUNT none 1 2 => :0
        ZCOUNT z x 2 => {MINMAX}
        ZCOUNT z nan 2 => {MINMAX}
        ZCOUNT z 1 => {arity('zcount')}
        ZRANGEBYSCORE z 1 x => {MINMAX}
        ZRANGEBYSCORE z 1 ((2 => {MINMAX}
        ZRANGEBYSCORE z 1 2 LIMIT 0 => {SYNTAX}
        ZRANGEBYSCORE z 1 2 LIMIT x 1 => {NOTINT}
        ZRANGEBYSCORE z 1 2 BYSCORE => {SYNTAX}
        ZRANGEBYSCORE none x 2 => {MINMAX}
    """)


def test_zrange_by_lex(z):
    zrun(z, f"""
        ZADD z 0 a 0 b 0 c 0 d 0 ee => :5
        ZRANGEBYLEX z - + => ["a", "b", "c", "d", "ee"]
        ZRANGEBYLEX z [b [d => ["b", "c", "d"]
        ZRANGEBYLEX z (b (d => ["c"]
        ZRANGEBYLEX z - (c => ["a", "b"]
        ZRANGEBYLEX z [e + => ["ee"]
        ZRANGEBYLEX z + - => []
        ZRANGEBYLEX z [d [b => []
        ZRANGEBYLEX z [ [ => []
        ZRANGEBYLEX z - + LIMIT 1 2 => ["b", "c"]
        ZRANGEBYLEX z - + LIMIT -1 2 => []
        ZREVRANGEBYLEX z + [c => ["ee", "d", "c"]
        ZREVRANGEBYLEX z (d - LIMIT 1 5 => ["b", "a"]
        ZRANGE z [b (d BYLEX => ["b", "c"]
        ZRANGE z (d [b BYLEX REV => ["c", "b"]
        ZRANGE z [b [d BYLEX WITHSCORES => -ERR syntax error, WITHSCORES not supported in combination with BYLEX
        ZLEXCOUNT z - + => :5
        ZLEXCOUNT z (a (c => :1
        ZLEXCOUNT none - + => :0
        ZLEXCOUNT z a b => {LEXMINMAX}
        ZRANGEBYLEX z 1 [b => {LEXMINMAX}
        ZRANGEBYLEX z -x + => {LEXMINMAX}
        ZRANGEBYLEX z "" + => {LEXMINMAX}
        ZREMRANGEBYLEX z a + => {LEXMINMAX}
        ZREMRANGEBYLEX z (a [c => :2
        ZRANGE z 0 -1 => ["a", "d", "ee"]
        ZREMRANGEBYLEX z - + => :3
        EXISTS z => :0
    """)


def test_zremrange(z):
    zrun(z, f"""
        SET s x
        ZADD z 1 a 2 b 3 c 4 d 5 e 6 f => :6
        ZREMRANGEBYRANK z 0 0 => :1
        ZREMRANGEBYRANK z -1 -1 => :1
        ZREMRANGEBYRANK z 9 10 => :0
        ZREMRANGEBYRANK none 0 -1 => :0
        ZREMRANGEBYRANK z 0 x => {NOTINT}
        ZREMRANGEBYRANK s 0 -1 => {WRONGTYPE}
        ZRANGE z 0 -1 => ["b", "c", "d", "e"]
        ZREMRANGEBYSCORE z (2 3 => :1
        ZREMRANGEBYSCORE z x 3 => {MINMAX}
        ZREMRANGEBYSCORE s 1 3 => {WRONGTYPE}
        ZRANGE z 0 -1 => ["b", "d", "e"]
        ZREMRANGEBYSCORE z -inf inf => :3
        EXISTS z => :0
    """)


def test_zrangestore(z):
    zrun(z, f"""
        SET s x
        ZADD z 1 a 2 b 3 c 4 d => :4
        ZRANGESTORE d z 1 2 => :2
        OBJECT ENCODING d => "{z.encoding}"
        ZRANGE d 0 -1 WITHSCORES => <b 2, c 3>
        ZRANGESTORE d z 0 0 REV => :1
        ZRANGE d 0 -1 WITHSCORES => <d 4>
        ZRANGESTORE d z (1 inf BYSCORE LIMIT 0 2 => :2
        ZRANGE d 0 -1 => ["b", "c"]
        ZRANGESTORE d z [b + BYLEX => :3
        ZRANGESTORE z z 0 1 => :2
        ZRANGE z 0 -1 => ["a", "b"]
        ZRANGESTORE s z 0 -1 => :2
        TYPE s => +zset
        ZRANGESTORE d none 0 -1 => :0
        EXISTS d => :0
        ZRANGESTORE d z 0 -1 WITHSCORES => {SYNTAX}
        SET t x
        ZRANGESTORE d t 0 -1 => {WRONGTYPE}
    """)


def test_zpop(z):
    zrun(z, f"""
        SET s x
        ZADD z 1 a 2 b 3 c 4 d 5 e 6 f => :6
        ZPOPMIN z => ["a", #1]
        ZPOPMAX z => ["f", #6]
        ZPOPMIN z 2 => <b 2, c 3>
        ZPOPMAX z 1 => <e 5>
        ZPOPMIN z 0 => []
        ZPOPMIN z -1 => -ERR value is out of range, must be positive
        ZPOPMIN z x => -ERR value is out of range, must be positive
        ZPOPMIN z 1 2 => {SYNTAX}
        ZPOPMIN s => {WRONGTYPE}
        ZPOPMAX z 10 => <d 4>
        EXISTS z => :0
        ZPOPMIN z => []
        ZPOPMAX z 5 => []
    """)


def test_zmpop(z):
    zrun(z, f"""
        SET s x
        ZADD z 1 a 2 b 3 c 4 d => :4
        ZMPOP 2 none z MIN => ["z", [["a", #1]]]
        ZMPOP 1 z max COUNT 2 => ["z", [["d", #4], ["c", #3]]]
        ZMPOP 1 z MIN COUNT 10 => ["z", [["b", #2]]]
        ZMPOP 1 z MIN => nilarray
        ZMPOP 2 none s MIN => {WRONGTYPE}
        ZMPOP 0 z MIN => -ERR numkeys should be greater than 0
        ZMPOP x z MIN => -ERR numkeys should be greater than 0
        ZMPOP 1 z MID => {SYNTAX}
        ZMPOP 2 z MIN => {SYNTAX}
        ZMPOP 9223372036854775807 z MIN => {SYNTAX}
        ZMPOP 1 z MIN COUNT => {SYNTAX}
        ZMPOP 1 z MIN COUNT 0 => -ERR count should be greater than 0
        ZMPOP 1 z MIN COUNT x => -ERR count should be greater than 0
        ZMPOP 1 z MIN COUNT 1 COUNT 1 => {SYNTAX}
        ZMPOP 1 z => {arity('zmpop')}
    """)


def test_zrandmember(z):
    members = ["m%d" % i for i in range(100)]
    z.ok("ZADD", "z", *[x for i, m in enumerate(members) for x in (i, m)])
    seen = {z.ok("ZRANDMEMBER", "z").decode() for _ in range(400)}
    assert seen <= set(members) and len(seen) > 60
    for count in (1, 5, 50, 99, 100, 1000):
        got = [m.decode() for m in z.ok("ZRANDMEMBER", "z", count)]
        assert len(got) == len(set(got)) == min(count, 100) and set(got) <= set(members)
    got = [m.decode() for m in z.ok("ZRANDMEMBER", "z", -300)]
    assert len(got) == 300 and len(set(got)) > 60
    node = z.node("ZRANDMEMBER", "z", "7", "WITHSCORES")
    pairs = [n.py for n in node.value] if z.proto == 3 else list(zip(*[iter([n.py for n in node.value])] * 2))
    assert len(pairs) == 7 and all(int(m[1:]) == float(s) for m, s in pairs)
    counts = {m: 0 for m in members}
    for _ in range(300):
        for m in z.ok("ZRANDMEMBER", "z", 10):
            counts[m.decode()] += 1
    assert max(counts.values()) < 70 and min(counts.values()) > 5
    zrun(z, f"""
        SET s x
        ZADD y 1 a 2 b => :2
        ZRANDMEMBER y 0 => []
        ZRANDMEMBER y 9 => ["b", "a"]
        ZRANDMEMBER y 9 WITHSCORES => <b 2, a 1>
        ZRANDMEMBER none => nil
        ZRANDMEMBER none 3 => []
        ZRANDMEMBER s => {WRONGTYPE}
        ZRANDMEMBER y x => {NOTINT}
        ZRANDMEMBER y 1 x => {SYNTAX}
        ZRANDMEMBER y 1 WITHSCORES x => {SYNTAX}
        ZRANDMEMBER y -9223372036854775808 => -ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
        ZRANDMEMBER y 5000000000000000000 WITHSCORES => -ERR value is out of range
    """)


def test_zunion_zinter_zdiff(z):
    zrun(z, f"""
        SET s x
        ZADD a 1 x 2 y 3 z => :3
        ZADD b 10 y 20 z 30 w => :3
        ZUNION 2 a b => ["x", "y", "z", "w"]
        ZUNION 2 a b WITHSCORES => <x 1, y 12, z 23, w 30>
        ZUNION 2 a b WEIGHTS 2 0.5 WITHSCORES => <x 2, y 9, w 15, z 16>
        ZUNION 2 a b AGGREGATE MIN WITHSCORES => <x 1, y 2, z 3, w 30>
        ZUNION 3 a none b AGGREGATE max WEIGHTS -1 1 1 WITHSCORES => <x -1, y 10, z 20, w 30>
        ZUNION 1 none => []
        ZINTER 2 a b WITHSCORES => <y 12, z 23>
        ZINTER 2 a b WEIGHTS 1 -1 => ["z", "y"]
        ZINTER 2 a none => []
        ZINTER 2 a a WITHSCORES => <x 2, y 4, z 6>
        ZDIFF 2 a b WITHSCORES => <x 1>
        ZDIFF 2 b a => ["w"]
        ZDIFF 2 none a => []
        ZDIFF 1 a => ["x", "y", "z"]
        ZDIFF 2 a a => []
        ZINTERCARD 2 a b => :2
        ZINTERCARD 2 a b LIMIT 1 => :1
        ZINTERCARD 2 a b LIMIT 0 => :2
        ZINTERCARD 2 a none => :0
        ZINTERCARD 2 a b LIMIT -1 => -ERR LIMIT can't be negative
        ZINTERCARD 2 a b LIMIT x => -ERR LIMIT can't be negative
        ZINTERCARD 2 a b WITHSCORES => {SYNTAX}
        ZUNION 0 a => -ERR at least 1 input key is needed for 'zunion' command
        ZINTERSTORE d -1 a => -ERR at least 1 input key is needed for 'zinterstore' command
        ZUNION x a => {NOTINT}
        ZUNION 3 a b => {SYNTAX}
        ZUNION 2 a s => {WRONGTYPE}
        ZUNION 2 a b WEIGHTS 1 => {SYNTAX}
        ZUNION 2 a b WEIGHTS 1 x => -ERR weight value is not a float
        ZUNION 2 a b AGGREGATE avg => {SYNTAX}
        ZUNION 2 a b AGGREGATE => {SYNTAX}
        ZUNIONSTORE d 1 a WITHSCORES => {SYNTAX}
        ZDIFF 1 a WEIGHTS 1 => {SYNTAX}
    """)


def test_plain_sets_have_score_one(z):
    zrun(z, """
        ZADD z 5 a 6 1 7 c => :3
        SADD ints 1 2 3 => :3
        SADD words a b c => :3
        ZUNION 2 ints z WITHSCORES => <2 1, 3 1, a 5, 1 7, c 7>
        ZUNION 2 ints words WEIGHTS 2 3 WITHSCORES => <1 2, 2 2, 3 2, a 3, b 3, c 3>
        ZINTER 2 z words WITHSCORES => <a 6, c 8>
        ZINTER 3 z words ints => []
        ZINTERCARD 2 words words => :3
        ZDIFF 2 z words WITHSCORES => <1 6>
        ZDIFF 2 words z WITHSCORES => <b 1>
        ZUNIONSTORE d 1 words => :3
        ZRANGE d 0 -1 WITHSCORES => <a 1, b 1, c 1>
    """)


def test_scores_that_are_not_numbers_become_zero(z):
    zrun(z, """
        ZADD a inf x -inf y 0 z => :3
        ZADD b -inf x inf y inf z => :3
        ZUNION 2 a b WITHSCORES => <x 0, y 0, z inf>
        ZUNION 1 a WEIGHTS 0 WITHSCORES => <x 0, y 0, z 0>
        ZINTER 2 a b WITHSCORES => <x 0, y 0, z inf>
        ZUNION 1 a WEIGHTS inf WITHSCORES => <y -inf, z 0, x inf>
    """)


def test_stores(z):
    zrun(z, f"""
        SET s x
        ZADD a 1 x 2 y 3 z => :3
        ZADD b 10 y 20 z 30 w => :3
        ZUNIONSTORE d 2 a b => :4
        OBJECT ENCODING d => "{z.encoding}"
        ZRANGE d 0 -1 WITHSCORES => <x 1, y 12, z 23, w 30>
        ZINTERSTORE d 2 a b AGGREGATE MAX => :2
        ZRANGE d 0 -1 WITHSCORES => <y 10, z 20>
        ZDIFFSTORE d 2 a b => :1
        ZRANGE d 0 -1 WITHSCORES => <x 1>
        ZUNIONSTORE a 2 a a WEIGHTS 1 2 => :3
        ZRANGE a 0 -1 WITHSCORES => <x 3, y 6, z 9>
        ZUNIONSTORE s 1 a => :3
        TYPE s => +zset
        ZINTERSTORE d 2 a none => :0
        EXISTS d => :0
        ZDIFFSTORE a 2 a a => :0
        EXISTS a => :0
    """)


def test_zscan(z):
    members = {"m%d" % i: i for i in range(100)}
    z.ok("ZADD", "z", *[x for m, s in members.items() for x in (s, m)])
    found, cursor = {}, "0"
    while True:
        cursor, items = z.ok("ZSCAN", "z", cursor, "COUNT", "7")
        found.update(zip([m.decode() for m in items[::2]], [int(s) for s in items[1::2]]))
        if cursor == b"0":
            break
    assert found == members
    zrun(z, f"""
        SET s x
        ZADD y 0.5 a 2 b => :2
        ZSCAN y 0 MATCH b* => ["0", ["b", "2"]]
        ZSCAN y 0 MATCH a COUNT 100 => ["0", ["a", "0.5"]]
        ZSCAN none 0 => ["0", []]
        ZSCAN none 0 bogus => ["0", []]
        ZSCAN y 0 bogus => {SYNTAX}
        ZSCAN y 0 COUNT 0 => {SYNTAX}
        ZSCAN y 0 COUNT x => {NOTINT}
        ZSCAN y 0 TYPE zset => {SYNTAX}
        ZSCAN y x => -ERR invalid cursor
        ZSCAN s 0 => {WRONGTYPE}
    """)


def test_encoding_follows_the_limits(c):
    run(c, """
        CONFIG SET zset-max-listpack-entries 4 zset-max-listpack-value 8
        ZADD z 1 a 2 b 3 c 4 d => :4
        OBJECT ENCODING z => "listpack"
        ZADD z XX 5 e => :0
        OBJECT ENCODING z => "listpack"
        ZADD z 5 e => :1
        OBJECT ENCODING z => "skiplist"
        ZREM z b c d e => :4
        OBJECT ENCODING z => "skiplist"
        ZADD y 1 12345678 => :1
        OBJECT ENCODING y => "listpack"
        ZADD y 1 123456789 => :1
        OBJECT ENCODING y => "skiplist"
        ZUNIONSTORE d 1 z => :1
        OBJECT ENCODING d => "listpack"
        ZUNIONSTORE d 1 y => :2
        OBJECT ENCODING d => "skiplist"
        7.2| ZADD w 1 a 1 a 1 a 1 a 1 a => :1
        7.2| OBJECT ENCODING w => "skiplist"
        CONFIG SET zset-max-listpack-entries 128 zset-max-listpack-value 64
    """)


def test_large_set_against_a_model(conn):
    """Ranks, ranges and removals in a set of many leaves."""
    rng = random.Random(4)
    model = {}
    for _ in range(40):
        batch = {"m%d" % rng.randrange(6000): rng.randrange(500) for _ in range(400)}
        model.update(batch)
        conn.ok("ZADD", "z", *[x for m, s in batch.items() for x in (s, m)])
    for _ in range(20):
        gone = rng.sample(sorted(model), 40)
        conn.ok("ZREM", "z", *gone)
        for m in gone:
            del model[m]
        first = rng.randrange(len(model))
        order = sorted(model, key=lambda m: (model[m], m.encode()))
        taken = order[first:first + 50]
        assert conn.ok("ZREMRANGEBYRANK", "z", first, first + 49) == len(taken)
        for m in taken:
            del model[m]
    order = sorted(model, key=lambda m: (model[m], m.encode()))
    assert [m.decode() for m in conn.ok("ZRANGE", "z", 0, -1)] == order
    assert [m.decode() for m in conn.ok("ZRANGE", "z", 0, -1, "REV")] == order[::-1]
    for _ in range(200):
        at = rng.randrange(len(order))
        assert conn.ok("ZRANK", "z", order[at]) == at
        low, high = sorted(rng.randrange(500) for _ in range(2))
        within = [m for m in order if low <= model[m] < high]
        assert conn.ok("ZCOUNT", "z", low, "(%d" % high) == len(within)
        assert [m.decode() for m in conn.ok("ZRANGEBYSCORE", "z", low, "(%d" % high, "LIMIT", 3, 7)] == within[3:10]
    for _ in range(3):
        conn.ok("ZUNIONSTORE", "y", 2, "z", "z")
        assert conn.ok("ZCARD", "y") == len(order)
    assert conn.ok("ZRANK", "y", order[10]) == 10


# ---- waiting ----


def blocked(conn):
    return int(conn.info("clients")["blocked_clients"])


@pytest.fixture
def waiter(server, proto):
    with server.connect(proto=proto) as connection:
        yield connection


def wait_blocked(conn, count=1):
    wait_for(lambda: blocked(conn) == count, what="a blocked client")


def score(conn, text):
    return "," + text if conn.proto == 3 else '"%s"' % text


def test_blocking_pops_do_not_wait_for_what_is_there(c):
    zrun(c, f"""
        SET s x
        ZADD z 1 a 2 b 3 c 4 d => :4
        BZPOPMIN none z 0 => ["z", "a", #1]
        BZPOPMAX z 0 => ["z", "d", #4]
        BZMPOP 0 2 none z MAX COUNT 5 => ["z", [["c", #3], ["b", #2]]]
        BZPOPMIN s z 0 => {WRONGTYPE}
        BZPOPMIN z x => -ERR timeout is not a float or out of range
        BZPOPMIN z -1 => -ERR timeout is negative
        BZPOPMIN z => {arity('bzpopmin')}
        BZMPOP x 1 z MIN => -ERR timeout is not a float or out of range
        BZMPOP 0 0 z MIN => -ERR numkeys should be greater than 0
        BZMPOP x 1 z MID => {SYNTAX}
        BZPOPMIN none 0.01 => nilarray
        BZMPOP 0.01 1 none MIN => nilarray
        MULTI
        BZPOPMIN none 0 => +QUEUED
        BZMPOP 0 1 none MAX => +QUEUED
        EXEC => [nilarray, nilarray]
    """)


@pytest.mark.parametrize("command,expected", [
    (["BZPOPMIN", "none", "z", "0"], '["z", "a", %s]'), (["BZPOPMAX", "z", "0"], '["z", "b", %s]'),
    (["BZMPOP", "0", "2", "none", "z", "MIN"], '["z", [["a", %s]]]'),
    (["BZMPOP", "0", "1", "z", "MAX", "COUNT", "9"], '["z", [["b", %s], ["a", %s]]]')])
def test_blocking_pop_is_served(c, waiter, command, expected):
    waiter.send(encode(*command))
    wait_blocked(c)
    c.ok("ZADD", "z", "1", "a", "2", "b")
    scores = {"BZPOPMIN": ["1"], "BZPOPMAX": ["2"]}.get(command[0], ["2", "1"] if "COUNT" in command else ["1"])
    assert waiter.read().render() == expected % tuple(score(waiter, s) for s in scores)
    assert c.ok("ZCARD", "z") == 2 - len(scores)


@pytest.mark.parametrize("make", [["ZINCRBY", "z", "1", "a"], ["ZUNIONSTORE", "z", "1", "src"], ["ZRANGESTORE", "z", "src", "0", "-1"],
                                  ["RENAME", "src", "z"], ["COPY", "src", "z"]], ids=lambda words: words[0])
def test_blocking_pop_is_served_whatever_makes_the_set(c, waiter, make):
    c.ok("ZADD", "src", "1", "a")
    waiter.send(encode("BZPOPMIN", "z", "5"))
    wait_blocked(c)
    c.ok(*make)
    assert waiter.read().render() == '["z", "a", %s]' % score(waiter, "1")
    assert c.ok("EXISTS", "z") == 0


def test_blocking_pop_waits_on_beside_another_type(c, waiter):
    waiter.send(encode("BZPOPMIN", "z", "0"))
    wait_blocked(c)
    c.ok("SET", "z", "x")
    assert blocked(c) == 1
    c.ok("DEL", "z")
    c.ok("ZADD", "z", "7", "x")
    assert waiter.read().render() == '["z", "x", %s]' % score(waiter, "7")


def test_blocking_pops_are_served_in_order(c, server):
    waiters = [server.connect() for _ in range(4)]
    try:
        for i, other in enumerate(waiters):
            other.send(encode("BZPOPMIN", "z", "0"))
            wait_blocked(c, i + 1)
        c.ok("ZADD", "z", "1", "a", "2", "b", "3", "c")
        for other, member in zip(waiters, "abc"):
            assert other.read().value[1].value in (member, member.encode())
        assert blocked(c) == 1
        c.ok("ZADD", "z", "4", "d")
        assert waiters[3].read().value[1].value in ("d", b"d")
    finally:
        for other in waiters:
            other.close()


def test_blocking_pop_times_out(c):
    start = time.monotonic()
    assert c.node("BZPOPMIN", "z", "0.1").render() == ("nil" if c.proto == 3 else "nilarray")
    assert 0.09 < time.monotonic() - start < 2


def test_intersections_and_differences_beyond_a_few_members(c):
    """Sizes on both sides of where a source is indexed before it is searched; sets among the sources."""
    rng = random.Random(6)
    universe = ["%d" % n for n in range(-40, 80)] + ["m:%d" % n for n in range(120)]
    for _ in range(30):
        model = []
        for i in range(rng.choice([2, 3])):
            model.append({m: rng.choice([1, -2, 0.5, 7]) for m in rng.sample(universe, rng.choice([5, 15, 60, 110, 150]))})
            c("DEL", "z%d" % i)
            if rng.random() < 0.3:
                model[i] = dict.fromkeys(model[i], 1)
                c("SADD", "z%d" % i, *model[i])
            else:
                c("ZADD", "z%d" % i, *[w for m, s in model[i].items() for w in (str(s), m)])
        keys = ["z%d" % i for i in range(len(model))]
        both = set.intersection(*[set(m) for m in model])
        want = {m: sum(part[m] for part in model) for m in both}
        assert {bytes(m).decode() for m in c("ZINTER", len(keys), *keys)} == both
        assert c("ZINTERSTORE", "d", len(keys), *keys) == len(want)
        assert {m: float(c("ZSCORE", "d", m)) for m in want} == want
        assert c("ZINTERCARD", len(keys), *keys) == len(want)
        left = set(model[0]).difference(*model[1:])
        assert {bytes(m).decode() for m in c("ZDIFF", len(keys), *keys)} == left
