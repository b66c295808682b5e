# SPDX-License-Identifier: BSD-3-Clause
"""Times to live of hash fields: HEXPIRE and its relatives of Redis 7.4, HGETEX, HSETEX and HGETDEL of Redis 8.0."""
import time

import pytest

from harness import wait_for
from resp import encode, run

NOTINT = "-ERR value is not an integer or out of range"
FIELDS = "-ERR Mandatory argument FIELDS is missing or not at the right position"
MISMATCH = "-ERR The `numfields` parameter must match the number of arguments"
POSITIVE = "-ERR Number of fields must be a positive integer"
FAR = 33177117420123  # milliseconds, in the year 3021


@pytest.fixture(autouse=True)
def knows_field_times(env):
    if not env.is_kettle and env.version < (8, 0, 0):
        pytest.skip("this server has no times of fields")


@pytest.fixture(params=[512, 0], ids=["listpackex", "hashtable"])
def h(c, request):
    """The connection, in both encodings."""
    c.ok("CONFIG", "SET", "hash-max-listpack-entries", request.param)
    c.encoding = "listpackex" if request.param else "hashtable"
    yield c
    c.ok("CONFIG", "SET", "hash-max-listpack-entries", "512")


def arity(name):
    return "-ERR wrong number of arguments for '%s' command" % name


def flat(reply):
    return dict(reply) if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2]))


def test_expire_and_ttl(h):
    run(h, f"""
        HSET h a 1 b 2 c 3 => :3
        HEXPIRE h 100 FIELDS 2 a x => [:1, :-2]
        HTTL h FIELDS 3 a b x => [:100, :-1, :-2]
        HPTTL h FIELDS 2 a b => /^\\[:(9999\\d|99[0-8]\\d\\d|100000), :-1\\]$/
        OBJECT ENCODING h => "{h.encoding}"
        HPEXPIRE h 200000 FIELDS 1 b => [:1]
        HTTL h FIELDS 1 b => [:200]
        HPEXPIREAT h {FAR} FIELDS 1 c => [:1]
        HPEXPIRETIME h FIELDS 2 c x => [:{FAR}, :-2]
        HEXPIRETIME h FIELDS 1 c => [:{FAR // 1000 + 1}]
        HEXPIREAT h {FAR // 1000} FIELDS 1 c => [:1]
        HPEXPIRETIME h FIELDS 1 c => [:{FAR // 1000 * 1000}]
        HTTL none FIELDS 2 a b => [:-2, :-2]
        HEXPIRE none 10 FIELDS 2 a b => [:-2, :-2]
        EXISTS none => :0
        HLEN h => :3
        HVALS h => *
    """)
    assert flat(h("HGETALL", "h")) == {b"a": b"1", b"b": b"2", b"c": b"3"}
    now = time.time()
    (got,) = h("HEXPIRETIME", "h", "FIELDS", "1", "a")
    assert now + 95 < got <= now + 102


def test_conditions(h):
    run(h, f"""
        HSET h t 1 n 2 => :2
        HPEXPIREAT h {FAR} NX FIELDS 1 t => [:1]
        HPEXPIREAT h {FAR} NX FIELDS 2 t n => [:0, :1]
        HPERSIST h FIELDS 1 n => [:1]
        HPEXPIREAT h {FAR} XX FIELDS 2 t n => [:1, :0]
        HPEXPIREAT h {FAR} GT FIELDS 2 t n => [:0, :0]
        HPEXPIREAT h {FAR + 1} gt FIELDS 2 t n => [:1, :0]
        HPEXPIREAT h {FAR + 1} LT FIELDS 2 t n => [:0, :1]
        HPEXPIREAT h {FAR} LT FIELDS 2 t n => [:1, :1]
        HPEXPIREAT h 1 NX FIELDS 2 t x => [:0, :-2]
        HPEXPIREAT h 1 GT FIELDS 1 t => [:0]
        HPEXPIRETIME h FIELDS 2 t n => [:{FAR}, :{FAR}]
    """)


def test_a_past_time_deletes(h):
    run(h, """
        HSET h a 1 b 2 c 3 => :3
        HPEXPIREAT h 1 FIELDS 2 a x => [:2, :-2]
        HEXPIRE h 0 FIELDS 1 b => [:2]
        HGET h a => nil
        HLEN h => :1
        HEXPIREAT h 1 FIELDS 1 c => [:2]
        EXISTS h => :0
    """)


def test_persist(h):
    run(h, f"""
        HSET h a 1 b 2 => :2
        HEXPIRE h 100 FIELDS 1 a => [:1]
        HPERSIST h FIELDS 3 a b x => [:1, :-1, :-2]
        HTTL h FIELDS 1 a => [:-1]
        HPERSIST none FIELDS 1 a => [:-2]
        HPERSIST h => {arity('hpersist')}
        HPERSIST h FIELDS 1 => {arity('hpersist')}
        HPERSIST h FIELD 1 a => {FIELDS}
        HPERSIST h FIELDS 0 a => {POSITIVE}
        HPERSIST h FIELDS 2 a => {MISMATCH}
    """)


def test_errors_of_expire(c):
    run(c, f"""
        HSET h f v => :1
        HEXPIRE h 10 FIELDS 1 => {arity('hexpire')}
        HEXPIRE h x FIELDS 1 f => {NOTINT}
        HEXPIRE h 1.5 FIELDS 1 f => {NOTINT}
        HEXPIRE h -1 FIELDS 1 f => -ERR invalid expire time, must be >= 0
        HEXPIRE h 9223372036854775807 FIELDS 1 f => -ERR invalid expire time in 'hexpire' command
        HEXPIRE h 70368744178 FIELDS 1 f => -ERR invalid expire time in 'hexpire' command
        HPEXPIRE h 70368744177664 FIELDS 1 f => -ERR invalid expire time in 'hpexpire' command
        HEXPIREAT h 70368744178 FIELDS 1 f => -ERR invalid expire time in 'hexpireat' command
        HPEXPIREAT h 70368744177664 FIELDS 1 f => -ERR invalid expire time in 'hpexpireat' command
        HPEXPIREAT h 70368744177663 FIELDS 1 f => [:1]
        HEXPIRE h 10 f 1 f => {FIELDS}
        HEXPIRE h 10 NX XX FIELDS 1 f => {FIELDS}
        HEXPIRE h 10 FIELDS 0 f => -ERR Parameter `numFields` should be greater than 0
        HEXPIRE h 10 FIELDS -1 f => -ERR Parameter `numFields` should be greater than 0
        HEXPIRE h 10 FIELDS x f => -ERR Parameter `numFields` should be greater than 0
        HEXPIRE h 10 FIELDS 2 f => {MISMATCH}
        HEXPIRE h 10 FIELDS 1 f g => {MISMATCH}
        HEXPIRE h 10 NX FIELDS 1 => {MISMATCH}
        HTTL h FIELDS 2 f => {MISMATCH}
        HTTL h FIELDS 0 f => {POSITIVE}
        HPTTL h F 1 f => {FIELDS}
        HEXPIRETIME h FIELDS 1 => {arity('hexpiretime')}
        SET s v
        HEXPIRE s 10 FIELDS 1 f => -WRONGTYPE Operation against a key holding the wrong kind of value
        HTTL s FIELDS 1 f => -WRONGTYPE Operation against a key holding the wrong kind of value
        HPERSIST s FIELDS 1 f => -WRONGTYPE Operation against a key holding the wrong kind of value
        HGETEX s FIELDS 1 f => -WRONGTYPE Operation against a key holding the wrong kind of value
        HSETEX s FIELDS 1 f v => -WRONGTYPE Operation against a key holding the wrong kind of value
        HGETDEL s FIELDS 1 f => -WRONGTYPE Operation against a key holding the wrong kind of value
    """)


def test_writing_and_times(h):
    """HSET drops the time of what it overwrites; counting keeps it."""
    run(h, f"""
        HSET h a 1 b 2 n 3 f 1.5 => :4
        HPEXPIREAT h {FAR} FIELDS 4 a b n f => [:1, :1, :1, :1]
        HSET h a 5 => :0
        HMSET h b 5
        HINCRBY h n 1 => :4
        HINCRBYFLOAT h f 1 => "2.5"
        HPEXPIRETIME h FIELDS 4 a b n f => [:-1, :-1, :{FAR}, :{FAR}]
        HSETNX h n 1 => :0
        HDEL h n => :1
        HSET h n 1 => :1
        HPEXPIRETIME h FIELDS 1 n => [:-1]
    """)


def test_getex(h):
    run(h, f"""
        HSET h a 1 b 2 c 3 => :3
        HGETEX h FIELDS 3 a x b => ["1", nil, "2"]
        HTTL h FIELDS 1 a => [:-1]
        HGETEX h EX 100 FIELDS 1 a => ["1"]
        HTTL h FIELDS 1 a => [:100]
        HGETEX h PX 200000 FIELDS 1 a => ["1"]
        HTTL h FIELDS 1 a => [:200]
        HGETEX h EXAT {FAR // 1000} FIELDS 1 a => ["1"]
        HPEXPIRETIME h FIELDS 1 a => [:{FAR // 1000 * 1000}]
        HGETEX h PXAT {FAR} FIELDS 2 a b => ["1", "2"]
        HPEXPIRETIME h FIELDS 3 a b c => [:{FAR}, :{FAR}, :-1]
        HGETEX h PERSIST FIELDS 2 a c => ["1", "3"]
        HPEXPIRETIME h FIELDS 3 a b c => [:-1, :{FAR}, :-1]
        HGETEX h PXAT 1 FIELDS 2 a x => ["1", nil]
        HEXISTS h a => :0
        HGETEX h EX 0 FIELDS 2 b c => ["2", "3"]
        EXISTS h => :0
        HGETEX none EX 10 FIELDS 2 a b => [nil, nil]
        EXISTS none => :0
    """)


def test_errors_of_getex(c):
    run(c, f"""
        HSET h f v => :1
        HGETEX h FIELDS 1 => {arity('hgetex')}
        HGETEX h FIELDS 2 f => {MISMATCH}
        HGETEX h FIELDS 0 f => {POSITIVE}
        HGETEX h EX x FIELDS 1 f => {NOTINT}
        HGETEX h EX -1 FIELDS 1 f => -ERR invalid expire time, must be >= 0
        HGETEX h PX 70368744177664 FIELDS 1 f => -ERR invalid expire time in 'hgetex' command
        HGETEX h NX FIELDS 1 f => {FIELDS}
        HGETEX h EX 10 PX 10 FIELDS 1 f => {FIELDS}
        HGETEX h PERSIST FIELDS 1 f g => {MISMATCH}
        HGET h f => "v"
    """)


def test_setex(h):
    run(h, f"""
        HSETEX h FIELDS 2 a 1 b 2 => :1
        HTTL h FIELDS 2 a b => [:-1, :-1]
        HSETEX h EX 100 FIELDS 2 a 3 c 4 => :1
        HTTL h FIELDS 3 a b c => [:100, :-1, :100]
        HSETEX h KEEPTTL FIELDS 2 a 5 d 6 => :1
        HTTL h FIELDS 2 a d => [:100, :-1]
        HSETEX h FIELDS 1 a 7 => :1
        HTTL h FIELDS 1 a => [:-1]
        HSETEX h PX 300000 FIELDS 1 a 8 => :1
        HTTL h FIELDS 1 a => [:300]
        HSETEX h PXAT {FAR} FIELDS 1 a 9 => :1
        HPEXPIRETIME h FIELDS 1 a => [:{FAR}]
        HSETEX h EXAT {FAR // 1000} FIELDS 1 a 9 => :1
        HPEXPIRETIME h FIELDS 1 a => [:{FAR // 1000 * 1000}]
        HMGET h a b c d => ["9", "2", "4", "6"]
        HSETEX h FNX FIELDS 2 a 0 new 0 => :0
        HSETEX h FXX FIELDS 2 a 0 new 0 => :0
        HMGET h a new => ["9", nil]
        HSETEX h FXX EX 50 FIELDS 2 a x b y => :1
        HTTL h FIELDS 2 a b => [:50, :50]
        HSETEX h FNX FIELDS 2 n1 1 n2 2 => :1
        HSETEX none FXX FIELDS 1 a 1 => :0
        EXISTS none => :0
        HSETEX h PXAT 1 FIELDS 1 a 1 => :1
        HEXISTS h a => :0
        HSETEX gone EX 0 FIELDS 1 a 1 => :1
        EXISTS gone => :0
    """)


def test_errors_of_setex(c):
    both = "-ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified"
    run(c, f"""
        HSETEX h FIELDS 1 a => {arity('hsetex')}
        HSETEX h FIELDS 2 a 1 => {arity('hsetex')}
        HSETEX h FIELDS 1 a 1 b => {arity('hsetex')}
        HSETEX h FIELDS 1 a 1 EX 10 => {arity('hsetex')}
        HSETEX h FIELDS 0 a 1 => -ERR invalid number of fields
        HSETEX h FIELDS x a 1 => -ERR invalid number of fields
        HSETEX h EX 10 PX 10 FIELDS 1 a 1 => {both}
        HSETEX h KEEPTTL EX 10 FIELDS 1 a 1 => {both}
        HSETEX h EXAT 10 KEEPTTL FIELDS 1 a 1 => {both}
        HSETEX h FNX FXX FIELDS 1 a 1 => -ERR Only one of FXX or FNX arguments can be specified
        HSETEX h EX x FIELDS 1 a 1 => {NOTINT}
        HSETEX h EX -1 FIELDS 1 a 1 => -ERR invalid expire time, must be >= 0
        HSETEX h PX 70368744177664 FIELDS 1 a 1 => -ERR invalid expire time in 'hsetex' command
        HSETEX h NX FIELDS 1 a 1 => -ERR unknown argument: NX
        EXISTS h => :0
    """)


def test_getdel(h):
    run(h, f"""
        HSET h a 1 b 2 c 3 => :3
        HEXPIRE h 100 FIELDS 1 a => [:1]
        HGETDEL h FIELDS 3 a x b => ["1", nil, "2"]
        HLEN h => :1
        HGETDEL h FIELDS 2 c c => ["3", nil]
        EXISTS h => :0
        HGETDEL h FIELDS 1 a => [nil]
        HGETDEL h FIELDS 1 => {arity('hgetdel')}
        HGETDEL h FIELDS 2 a => {MISMATCH}
        HGETDEL h FIELDS 0 a => {POSITIVE}
        HGETDEL h a 1 a => {FIELDS}
    """)


def test_due_fields_are_gone_for_everyone(h):
    """Nobody looks until they are due, and the cron rests."""
    h.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    try:
        for key in ("get", "all", "keys", "len", "incr", "set", "del", "scan", "rand", "ttl", "copy", "setnx", "exists", "strlen"):
            h("HSET", key, "stays", "1", "goes", "7")
            h("HPEXPIRE", key, "1", "FIELDS", "1", "goes")
        time.sleep(0.02)
        run(h, """
            HGET get goes => nil
            HMGET get goes stays => [nil, "1"]
            HKEYS keys => ["stays"]
            HLEN len => :1
            HINCRBY incr goes 1 => :1
            HSET set goes 5 => :1
            HTTL set FIELDS 1 goes => [:-1]
            HDEL del goes => :0
            HSCAN scan 0 => ["0", ["stays", "1"]]
            HRANDFIELD rand 5 => ["stays"]
            HRANDFIELD rand => "stays"
            HTTL ttl FIELDS 1 goes => [:-2]
            HPERSIST ttl FIELDS 1 goes => [:-2]
            COPY copy copied => :1
            HLEN copied => :1
            HSETNX setnx goes 3 => :1
            HEXISTS exists goes => :0
            HSTRLEN strlen goes => :0
        """)
        assert flat(h("HGETALL", "all")) == {b"stays": b"1"}
    finally:
        h.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")


def test_last_field_takes_the_key_along(h):
    h("HSET", "h", "a", "1", "b", "2")
    h("HPEXPIRE", "h", "30", "FIELDS", "2", "a", "b")
    time.sleep(0.05)
    run(h, "HLEN h => :0\nEXISTS h => :0\nTYPE h => +none")


def test_hash_without_a_live_field_is_no_key(h):
    """Small ones, which a look-up removes, and large ones, which it leaves to the cron: that rests here."""
    fields = ["f%d" % i for i in range(3000)]
    h.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    try:
        for key, n in (("small", 2), ("large", 3000)):
            h("HSET", key, *[x for f in fields[:n] for x in (f, "v")])
            h("HPEXPIRE", key, "1", "FIELDS", n, *fields[:n])
        time.sleep(0.02)
        run(h, """
            KEYS * => []
            SCAN 0 COUNT 1000 => ["0", []]
            RANDOMKEY => nil
            EXISTS large small => :0
            TYPE large => +none
            OBJECT ENCODING large => nil
            HLEN large => :0
            COPY large other => :0
        """)
        h("HSET", "large", "new", "1")
        run(h, 'HKEYS large => ["new"]\nKEYS * => ["large"]\nRANDOMKEY => "large"')
    finally:
        h.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")


def test_fields_go_without_being_asked_for(h):
    for i in range(30):
        h("HSET", "h%d" % i, *[x for f in range(40) for x in ("f%d" % f, "v")])
        h("HPEXPIRE", "h%d" % i, 20 + i, "FIELDS", 40, *["f%d" % f for f in range(40)])
    h("HSET", "half", "a", "1", "b", "2")
    h("HPEXPIRE", "half", "20", "FIELDS", "1", "a")
    wait_for(lambda: h("DBSIZE") == 1, 5, what="the cron")
    wait_for(lambda: flat(h("HGETALL", "half")) == {b"b": b"2"}, 5, what="the last field's time")


def test_many_fields_of_one_hash_go(h):
    fields = ["field:%d" % i for i in range(20000)]
    h("HSET", "h", *[x for f in fields for x in (f, "value")])
    h("HSET", "h", "stays", "1")
    for start in range(0, 20000, 2000):
        h("HPEXPIRE", "h", 300, "FIELDS", 2000, *fields[start:start + 2000])
    time.sleep(0.35)
    assert h("HLEN", "h") == 1  # whether the cron has been there or not
    assert flat(h("HGETALL", "h")) == {b"stays": b"1"}
    wait_for(lambda: h("MEMORY", "USAGE", "h", "SAMPLES", "0") < 100000 or h("PING") is None, 5, what="the fields to be freed")


def test_times_follow_the_key(h):
    run(h, f"""
        HSET h a 1 b 2 => :2
        HPEXPIREAT h {FAR} FIELDS 1 a => [:1]
        COPY h copy => :1
        RENAME h moved
        HPEXPIRETIME moved FIELDS 2 a b => [:{FAR}, :-1]
        HPEXPIRETIME copy FIELDS 2 a b => [:{FAR}, :-1]
        MOVE moved 3 => :1
        SELECT 3
        HPEXPIRETIME moved FIELDS 1 a => [:{FAR}]
        HPEXPIRE moved 20 FIELDS 2 a b => [:1, :1]
        SWAPDB 3 4
        SELECT 4
        HLEN moved => *
    """)
    try:
        wait_for(lambda: h("EXISTS", "moved") == 0, 5, what="the fields to go")
    finally:
        h.ok("FLUSHDB")
        h.ok("SELECT", "0")
    run(h, f"""
        HPEXPIRE copy 30 FIELDS 2 a b => [:1, :1]
        SET copy overwritten
        SLEEP 0.05
        GET copy => "overwritten"
    """)


def test_growing_into_a_table_keeps_times(c):
    c("HSET", "h", *[x for i in range(500) for x in ("f%d" % i, i)])
    c("HPEXPIREAT", "h", FAR, "FIELDS", 2, "f1", "f499")
    c("HPEXPIRE", "h", 30, "FIELDS", 1, "f7")
    run(c, 'OBJECT ENCODING h => "listpackex"')
    c("HSET", "h", *[x for i in range(500, 600) for x in ("f%d" % i, i)])
    run(c, f"""
        OBJECT ENCODING h => "hashtable"
        HPEXPIRETIME h FIELDS 3 f1 f499 f3 => [:{FAR}, :{FAR}, :-1]
        SLEEP 0.05
        HGET h f7 => nil
        HLEN h => :599
    """)


def test_events(server):
    with server.connect(proto=3) as listener, server.connect() as conn:
        conn.ok("FLUSHALL")
        conn.ok("CONFIG", "SET", "notify-keyspace-events", "Khg")
        listener.node("PSUBSCRIBE", "__keyspace@0__:*")

        def heard():
            listener.send(encode("PING"))
            out = []
            while True:
                node = listener.read()
                if node.kind == "+":
                    return out
                out.append(node.py[3].decode())
        try:
            conn("HSET", "h", "a", "1", "b", "2", "c", "3")
            conn("HEXPIRE", "h", "100", "FIELDS", "1", "a")
            conn("HPERSIST", "h", "FIELDS", "1", "a")
            conn("HGETEX", "h", "EX", "100", "FIELDS", "1", "a")
            conn("HGETEX", "h", "PERSIST", "FIELDS", "1", "a")
            conn("HSETEX", "h", "EX", "100", "FIELDS", "1", "a", "1")
            conn("HPEXPIREAT", "h", "1", "FIELDS", "1", "a")
            conn("HGETDEL", "h", "FIELDS", "1", "b")
            assert heard() == ["hset", "hexpire", "hpersist", "hexpire", "hpersist", "hset", "hexpire", "hdel", "hdel"]
            conn("HPEXPIRE", "h", "10", "FIELDS", "1", "c")
            assert wait_for(lambda: conn("DBSIZE") == 0, 5) and heard() == ["hexpire", "hexpired", "del"]
        finally:
            conn.ok("CONFIG", "SET", "notify-keyspace-events", "")


def test_expiring_touches_watchers(server):
    with server.connect() as conn:
        conn.ok("FLUSHALL")
        conn("HSET", "h", "a", "1", "b", "2")
        conn("HPEXPIRE", "h", "20", "FIELDS", "1", "a")
        conn.ok("WATCH", "h")
        time.sleep(0.05)
        wait_for(lambda: conn("HLEN", "h") == 1, 5)
        conn.ok("MULTI")
        conn("PING")
        assert conn("EXEC") is None


def test_in_a_transaction_time_stands_still(server):
    with server.connect() as conn:
        conn.ok("FLUSHALL")
        conn.ok("MULTI")
        conn("HSETEX", "h", "PX", "1", "FIELDS", "1", "a", "1")
        conn("DEBUG", "SLEEP", "0.01")
        conn("HGET", "h", "a")
        got = conn("EXEC")
        assert got[0] == 1 and got[2] == b"1", got
        assert conn("HGET", "h", "a") is None


def test_info_counts_fields(server):
    with server.connect() as conn:
        conn.ok("FLUSHALL")
        before = int(conn.info("stats")["expired_subkeys"])
        conn("HSETEX", "h", "PX", "5", "FIELDS", "3", "a", "1", "b", "2", "c", "3")
        wait_for(lambda: conn("EXISTS", "h") == 0, 5)
        assert int(conn.info("stats")["expired_subkeys"]) == before + 3
