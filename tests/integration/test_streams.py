# SPDX-License-Identifier: BSD-3-Clause
"""Streams: every command, option and error of Redis 7.2; consumer groups; waiting."""
import random
import time

import pytest

from harness import wait_for
from resp import encode, run

WRONGTYPE = "-WRONGTYPE Operation against a key holding the wrong kind of value"
BADID = "-ERR Invalid stream ID specified as stream command argument"
SYNTAX = "-ERR syntax error"
SMALL = "-ERR The ID specified in XADD is equal or smaller than the target stream top item"
NEEDS_KEY = ("-ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to "
             "create an empty stream automatically.")


def test_add_and_range(c):
    run(c, f"""
        XADD s 1-1 a 1 => "1-1"
        XADD s 1-* b 2 => "1-2"
        XADD s 2 c 3 d 4 => "2-0"
        XADD s 2-* e 5 => "2-1"
        XADD s 2-1 x y => {SMALL}
        XADD s 1 x y => {SMALL}
        XADD s 0-0 x y => -ERR The ID specified in XADD must be greater than 0-0
        XADD s 5-x x y => {BADID}
        XADD s - x y => {BADID}
        XADD s 3-1 x => -ERR wrong number of arguments for 'xadd' command
        XADD s 3-1 x y z => -ERR wrong number of arguments for 'xadd' command
        XADD s * => -ERR wrong number of arguments for 'xadd' command
        XLEN s => :4
        XRANGE s - + => [["1-1", ["a", "1"]], ["1-2", ["b", "2"]], ["2-0", ["c", "3", "d", "4"]], ["2-1", ["e", "5"]]]
        XRANGE s 1 1 => [["1-1", ["a", "1"]], ["1-2", ["b", "2"]]]
        XRANGE s (1-1 (2-1 => [["1-2", ["b", "2"]], ["2-0", ["c", "3", "d", "4"]]]
        XRANGE s - + COUNT 1 => [["1-1", ["a", "1"]]]
        XRANGE s - + COUNT -1 => nilarray
        XRANGE s - + COUNT 0 => nilarray
        XRANGE missing - + COUNT 0 => []
        XRANGE s (18446744073709551615-18446744073709551615 + => -ERR invalid start ID for the interval
        XRANGE s - (0-0 => -ERR invalid end ID for the interval
        XREVRANGE s + - COUNT 2 => [["2-1", ["e", "5"]], ["2-0", ["c", "3", "d", "4"]]]
        XREVRANGE s 1 1 => [["1-2", ["b", "2"]], ["1-1", ["a", "1"]]]
        XRANGE missing - + => []
        XRANGE s x + => {BADID}
        XRANGE s - + BAD 1 => {SYNTAX}
        XADD missing NOMKSTREAM 1-1 a b => nil
        EXISTS missing => :0
        TYPE s => +stream
        OBJECT ENCODING s => "stream"
        SET str v
        XADD str 1-1 a b => {WRONGTYPE}
        XLEN str => {WRONGTYPE}
        GET s => {WRONGTYPE}
        COPY s t => :1
        XLEN t => :4
        XDEL t 1-1 => :1
        XLEN s => :4
    """)


def test_ids_by_the_clock_ascend(c):
    before = int(time.time() * 1000) - 1000
    ids = [tuple(map(int, c.ok("XADD", "s", "*", "a", "b").split(b"-"))) for _ in range(100)]
    assert ids == sorted(set(ids)) and before < ids[0][0] < before + 60000
    c.ok("XADD", "far", "99999999999999-5", "a", "b")
    assert c.ok("XADD", "far", "*", "a", "b") == b"99999999999999-6"
    c.ok("XADD", "end", "18446744073709551615-18446744073709551615", "a", "b")
    assert "exhausted the last possible ID" in str(c.err("XADD", "end", "*", "a", "b"))


def test_delete_trim_setid(c):
    for i in range(1, 11):
        c.ok("XADD", "s", "%d-0" % i, "f", str(i))
    run(c, f"""
        XDEL s 3-0 4-0 99-0 => :2
        XDEL s 1 x => {BADID}
        XLEN s => :8
        XDEL missing 1-1 => :0
        XTRIM s MAXLEN 5 => :3
        XRANGE s - + COUNT 1 => [["6-0", ["f", "6"]]]
        XTRIM s MINID 8-0 => :2
        XTRIM s MAXLEN = 3 => :0
        XTRIM s MAXLEN ~ 0 LIMIT 1 => :0
        XTRIM s MAXLEN 0 LIMIT 1 => -ERR syntax error, LIMIT cannot be used without the special ~ option
        XTRIM s MAXLEN -1 => -ERR The MAXLEN argument must be >= 0.
        XTRIM s MAXLEN ~ 1 LIMIT -1 => -ERR The LIMIT argument must be >= 0.
        XTRIM s MAXLEN 1 MINID 1 => -ERR syntax error, MAXLEN and MINID options at the same time are not compatible
        XTRIM s MAXLEN => -ERR wrong number of arguments for 'xtrim' command
        XTRIM s BAD 1 => {SYNTAX}
        XADD s MAXLEN 2 11-0 f 11 => "11-0"
        XLEN s => :2
        XADD s MINID ~ 5 NOMKSTREAM 12-0 f 12 => "12-0"
        XSETID s 12-0 => +OK
        XSETID s 11-0 => -ERR The ID specified in XSETID is smaller than the target stream top item
        XSETID s 20-0 ENTRIESADDED 100 MAXDELETEDID 9-0 => +OK
        XSETID s 20-0 ENTRIESADDED 1 => -ERR The entries_added specified in XSETID is smaller than the target stream length
        XSETID missing 1-1 => -ERR no such key
        XADD s 20-0 a b => {SMALL}
        XDEL s 10-0 11-0 12-0 => :3
        XLEN s => :0
        EXISTS s => :1
        XRANGE s - + => []
    """)


def test_many_entries_in_many_nodes(c):
    rng = random.Random(7)
    model = []
    for i in range(1, 1500):
        fields = {"f": str(rng.randint(-10 ** 6, 10 ** 6)), "g": "x" * rng.randint(0, 90)}
        if i % 7 == 0:
            fields["h%d" % (i % 3)] = "different"
        ident = "%d-%d" % (i // 3, i % 3)
        if ident != "0-0":
            c.ok("XADD", "s", ident, *[x for pair in fields.items() for x in pair])
            model.append((ident, fields))

    def entries(reply):
        return [(ident.decode(), {k.decode(): v.decode() for k, v in zip(flat[::2], flat[1::2])}) for ident, flat in reply]
    assert entries(c.ok("XRANGE", "s", "-", "+")) == model
    assert entries(c.ok("XREVRANGE", "s", "+", "-")) == model[::-1]
    for ident, _ in rng.sample(model, 700):
        assert c.ok("XDEL", "s", ident) == 1
        model = [m for m in model if m[0] != ident]
    assert entries(c.ok("XRANGE", "s", "-", "+")) == model
    for _ in range(30):
        at = rng.randint(0, len(model) - 20)
        assert entries(c.ok("XRANGE", "s", model[at][0], model[at + 15][0])) == model[at:at + 16]
        assert entries(c.ok("XREAD", "COUNT", "5", "STREAMS", "s", model[at][0])[0][1] if c.proto == 2 else
                       c.ok("XREAD", "COUNT", "5", "STREAMS", "s", model[at][0])[b"s"]) == model[at + 1:at + 6]
    assert c.ok("XTRIM", "s", "MAXLEN", "100") == len(model) - 100
    assert entries(c.ok("XRANGE", "s", "-", "+")) == model[-100:]


def read(c, reply):
    """XREAD's reply as {key: entries}."""
    if reply is None:
        return None
    return reply if isinstance(reply, dict) else {key: entries for key, entries in reply}


def test_read(c):
    run(c, """
        XADD a 1-1 f 1 => "1-1"
        XADD b 2-1 f 2 => "2-1"
        XREAD STREAMS missing 0 => nilarray
        XREAD STREAMS a $ => nilarray
        XREAD STREAMS a 1-1 => nilarray
        XREAD STREAMS a b 0 => -ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.
        XREAD COUNT x STREAMS a 0 => -ERR value is not an integer or out of range
        XREAD BLOCK -1 STREAMS a 0 => -ERR timeout is negative
        XREAD BLOCK x STREAMS a 0 => -ERR timeout is not an integer or out of range
        XREAD STREAMS a > => -ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.
        XREAD GROUP g c STREAMS a 0 => -ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.
        XREAD BLOCK 10 COUNT 1 => -ERR syntax error
    """)
    assert read(c, c.ok("XREAD", "STREAMS", "a", "b", "missing", "0", "0", "0")) == {
        b"a": [[b"1-1", [b"f", b"1"]]], b"b": [[b"2-1", [b"f", b"2"]]]}
    assert read(c, c.ok("XREAD", "COUNT", "1", "BLOCK", "0", "STREAMS", "a", "b", "1-1", "2-0")) == {b"b": [[b"2-1", [b"f", b"2"]]]}


def test_groups(c):
    for i in range(1, 6):
        c.ok("XADD", "s", "%d-0" % i, "f", str(i))
    run(c, f"""
        XGROUP CREATE missing g $ => {NEEDS_KEY}
        XGROUP CREATE s g 0 => +OK
        XGROUP CREATE s g 0 => -BUSYGROUP Consumer Group name already exists
        XGROUP CREATE new g $ MKSTREAM => +OK
        XGROUP CREATE s bad x => {BADID}
        XGROUP CREATE s bad 0 ENTRIESREAD -2 => -ERR value for ENTRIESREAD must be positive or -1
        XGROUP CREATECONSUMER s g alice => :1
        XGROUP CREATECONSUMER s g alice => :0
        XGROUP CREATECONSUMER s nogroup x => -NOGROUP No such consumer group 'nogroup' for key name 's'
        XREADGROUP GROUP nogroup c STREAMS s > => -NOGROUP No such key 's' or consumer group 'nogroup' in XREADGROUP with GROUP option
        XREADGROUP STREAMS s > GROUP g alice => -ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or '>' must be specified.
        XREADGROUP COUNT 1 BLOCK 1 NOACK STREAMS s > => -ERR Missing GROUP option for XREADGROUP
    """)
    assert read(c, c.ok("XREADGROUP", "GROUP", "g", "alice", "COUNT", "2", "STREAMS", "s", ">")) == {
        b"s": [[b"1-0", [b"f", b"1"]], [b"2-0", [b"f", b"2"]]]}
    assert read(c, c.ok("XREADGROUP", "GROUP", "g", "bob", "COUNT", "2", "STREAMS", "s", ">")) == {
        b"s": [[b"3-0", [b"f", b"3"]], [b"4-0", [b"f", b"4"]]]}
    assert read(c, c.ok("XREADGROUP", "GROUP", "g", "bob", "STREAMS", "s", "0")) == {
        b"s": [[b"3-0", [b"f", b"3"]], [b"4-0", [b"f", b"4"]]]}
    c.ok("XDEL", "s", "3-0")
    assert read(c, c.ok("XREADGROUP", "GROUP", "g", "bob", "STREAMS", "s", "0")) == {
        b"s": [[b"3-0", None], [b"4-0", [b"f", b"4"]]]}
    run(c, """
        XPENDING s g => [:4, "1-0", "4-0", [["alice", "2"], ["bob", "2"]]]
        XACK s g 1-0 1-0 9-9 => :1
        XACK s nogroup 1-0 => :0
        XPENDING s g => [:3, "2-0", "4-0", [["alice", "1"], ["bob", "2"]]]
        XPENDING s g IDLE 100000 - + 10 => []
        XPENDING s g - + 10 carol => []
        XPENDING s nogroup => -NOGROUP No such key 's' or consumer group 'nogroup'
        XPENDING s g - => -ERR syntax error
        XGROUP SETID s g 0 => +OK
        XGROUP DELCONSUMER s g alice => :1
        XGROUP DELCONSUMER s g alice => :0
        XPENDING s g => [:2, "3-0", "4-0", [["bob", "2"]]]
        XGROUP DESTROY s g => :1
        XGROUP DESTROY s g => :0
        XGROUP DESTROY new g => :1
    """)


def pending(c, *rest):
    return [(e[0].decode(), e[1].decode(), e[3]) for e in c.ok("XPENDING", "s", "g", *(rest or ("-", "+", "100")))]


def test_claims(c):
    for i in range(1, 7):
        c.ok("XADD", "s", "%d-0" % i, "f", str(i))
    c.ok("XGROUP", "CREATE", "s", "g", "0")
    c.ok("XREADGROUP", "GROUP", "g", "alice", "COUNT", "4", "STREAMS", "s", ">")
    run(c, f"""
        XCLAIM s g bob 100000 1-0 => []
        XCLAIM s g bob 0 1-0 2-0 JUSTID => ["1-0", "2-0"]
        XCLAIM s g bob 0 3-0 RETRYCOUNT 7 => [["3-0", ["f", "3"]]]
        XCLAIM s g bob 0 5-0 => []
        XCLAIM s g bob 0 5-0 FORCE => [["5-0", ["f", "5"]]]
        XCLAIM s g bob x 1-0 => -ERR Invalid min-idle-time argument for XCLAIM
        XCLAIM s g bob 0 1-0 IDLE x => -ERR Invalid IDLE option argument for XCLAIM
        XCLAIM s g bob 0 1-0 WHAT => -ERR Unrecognized XCLAIM option 'WHAT'
        XCLAIM s nogroup bob 0 1-0 => -NOGROUP No such key 's' or consumer group 'nogroup'
    """)
    assert [(i, who) for i, who, _ in pending(c)] == [("1-0", "bob"), ("2-0", "bob"), ("3-0", "bob"), ("4-0", "alice"), ("5-0", "bob")]
    assert pending(c, "3-0", "3-0", "1") == [("3-0", "bob", 7)]
    assert pending(c, "(3-0", "+", "1", "alice") == [("4-0", "alice", 1)]
    c.ok("XDEL", "s", "2-0")
    run(c, """
        XCLAIM s g carol 0 2-0 => []
        XAUTOCLAIM s g carol 100000 0 => ["0-0", [], []]
        XDEL s 4-0 => :1
        XAUTOCLAIM s g carol 0 0 COUNT 2 JUSTID => ["4-0", ["1-0", "3-0"], []]
        XAUTOCLAIM s g carol 0 4-0 COUNT 2 => ["0-0", [["5-0", ["f", "5"]]], ["4-0"]]
        XAUTOCLAIM s g carol 0 0 COUNT 0 => -ERR COUNT must be > 0
        XAUTOCLAIM s g carol x 0 => -ERR Invalid min-idle-time argument for XAUTOCLAIM
        XAUTOCLAIM s nogroup carol 0 0 => -NOGROUP No such key 's' or consumer group 'nogroup'
    """)
    assert {who for _, who, _ in pending(c)} == {"carol"}


def as_dict(c, flat):
    return flat if isinstance(flat, dict) else dict(zip(flat[::2], flat[1::2]))


def test_info(c):
    for i in range(1, 4):
        c.ok("XADD", "s", "%d-0" % i, "f", str(i))
    c.ok("XGROUP", "CREATE", "s", "g", "0")
    c.ok("XREADGROUP", "GROUP", "g", "alice", "COUNT", "1", "STREAMS", "s", ">")
    info = as_dict(c, c.ok("XINFO", "STREAM", "s"))
    assert (info[b"length"], info[b"last-generated-id"], info[b"groups"]) == (3, b"3-0", 1)
    assert (info[b"first-entry"], info[b"last-entry"]) == ([b"1-0", [b"f", b"1"]], [b"3-0", [b"f", b"3"]])
    group = as_dict(c, c.ok("XINFO", "GROUPS", "s")[0])
    assert (group[b"name"], group[b"pending"], group[b"entries-read"], group[b"lag"]) == (b"g", 1, 1, 2)
    consumer = as_dict(c, c.ok("XINFO", "CONSUMERS", "s", "g")[0])
    assert (consumer[b"name"], consumer[b"pending"]) == (b"alice", 1) and 0 <= consumer[b"inactive"] < 60000
    full = as_dict(c, c.ok("XINFO", "STREAM", "s", "FULL", "COUNT", "2"))
    assert len(full[b"entries"]) == 2 and as_dict(c, full[b"groups"][0])[b"pel-count"] == 1
    run(c, """
        XINFO STREAM missing => -ERR no such key
        XINFO CONSUMERS s nogroup => -NOGROUP No such consumer group 'nogroup' for key name 's'
        XINFO STREAM s BAD => -ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.
    """)


def wait_blocked(c, n):
    wait_for(lambda: int(c.info("clients")["blocked_clients"]) == n, what="%d blocked clients" % n)


def test_read_waits(server, c):
    with server.connect(proto=c.proto) as waiter:
        c.ok("XADD", "s", "1-0", "f", "1")
        waiter.send(encode("XREAD", "BLOCK", "0", "STREAMS", "other", "s", "0", "$"))
        wait_blocked(c, 1)
        c.ok("XADD", "s", "2-0", "f", "2")
        assert read(c, waiter.read().py) == {b"s": [[b"2-0", [b"f", b"2"]]]}
        start = time.monotonic()
        assert waiter.ok("XREAD", "BLOCK", "100", "STREAMS", "s", "$") is None
        assert 0.09 < time.monotonic() - start < 5


def test_group_read_waits_each_entry_once(server, c):
    c.ok("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    waiters = [server.connect(proto=c.proto) for _ in range(3)]
    try:
        for i, waiter in enumerate(waiters):
            waiter.send(encode("XREADGROUP", "GROUP", "g", "c%d" % i, "BLOCK", "0", "STREAMS", "s", ">"))
            wait_blocked(c, i + 1)
        for i, waiter in enumerate(waiters):  # first come, first served
            c.ok("XADD", "s", "%d-0" % (i + 1), "f", "v")
            assert read(c, waiter.read().py) == {b"s": [[b"%d-0" % (i + 1), [b"f", b"v"]]]}
        assert c.ok("XPENDING", "s", "g")[0] == 3
    finally:
        for waiter in waiters:
            waiter.close()


@pytest.mark.parametrize("how,error", [(("DEL", "s"), "NOGROUP"), (("XGROUP", "DESTROY", "s", "g"), "NOGROUP"),
                                       (("SET", "s", "v"), "WRONGTYPE"), (("FLUSHALL",), "NOGROUP")])
def test_group_read_ends_when_the_group_is_gone(server, c, how, error):
    c.ok("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
    with server.connect(proto=c.proto) as waiter:
        waiter.send(encode("XREADGROUP", "GROUP", "g", "alice", "BLOCK", "0", "STREAMS", "s", ">"))
        wait_blocked(c, 1)
        c.ok(*how)
        assert waiter.read().render().startswith("-" + error)


def test_waits_for_nothing_in_a_transaction(c):
    run(c, """
        XGROUP CREATE s g $ MKSTREAM => +OK
        MULTI
        XREAD BLOCK 0 STREAMS s $ => +QUEUED
        XREADGROUP GROUP g c BLOCK 0 STREAMS s > => +QUEUED
        EXEC => [nilarray, nilarray]
    """)
