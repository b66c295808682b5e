# SPDX-License-Identifier: BSD-3-Clause
"""Generic key commands: lifetime, renames, copies, iteration, OBJECT."""
import random
import time

from resp import run

SYNTAX = "-ERR syntax error"
NOTINT = "-ERR value is not an integer or out of range"
NOKEY = "-ERR no such key"


def arity(name):
    return "-ERR wrong number of arguments for '%s' command" % name


def test_del_unlink_exists_touch_type(c):
    run(c, f"""
        MSET a 1 b 2 c 3
        EXISTS a b c d => :3
        EXISTS a a a => :3
        TOUCH a b x => :2
        TYPE a => +string
        TYPE x => +none
        DEL a x => :1
        DEL a => :0
        UNLINK b c c => :2
        UNLINK b => :0
        DBSIZE => :0
        DEL => {arity('del')}
        UNLINK => {arity('unlink')}
        EXISTS => {arity('exists')}
        TOUCH => {arity('touch')}
        TYPE => {arity('type')}
        TYPE a b => {arity('type')}
    """)


def test_expire_ttl_family(c):
    now = int(time.time())
    run(c, f"""
        SET k v
        TTL k => :-1
        PTTL k => :-1
        EXPIRETIME k => :-1
        PEXPIRETIME k => :-1
        TTL x => :-2
        PTTL x => :-2
        EXPIRETIME x => :-2
        PEXPIRETIME x => :-2
        EXPIRE k 100 => :1
        TTL k => :100
        PTTL k => /^:(100000|99\\d\\d\\d)$/
        PEXPIRE k 50000 => :1
        TTL k => :50
        EXPIREAT k {now + 500} => :1
        EXPIRETIME k => :{now + 500}
        PEXPIRETIME k => :{now + 500}000
        PEXPIREAT k {now + 500}600 => :1
        EXPIRETIME k => :{now + 501}
        PEXPIRETIME k => :{now + 500}600
        PERSIST k => :1
        PERSIST k => :0
        PERSIST x => :0
        TTL k => :-1
        EXPIRE x 10 => :0
        PEXPIRE x 10 => :0
        EXPIREAT x 10 => :0
        PEXPIREAT x 10 => :0
        EXPIRE k 0 => :1
        EXISTS k => :0
        SET k v
        EXPIRE k -1 => :1
        EXISTS k => :0
        SET k v
        EXPIREAT k 1 => :1
        EXISTS k => :0
        SET k v
        PEXPIREAT k 1000 => :1
        EXISTS k => :0
        SET k v
        PEXPIRE k -9223372036854775807 => /^(:1|-ERR invalid expire time in 'pexpire' command)$/
        EXPIRE k => {arity('expire')}
        TTL => {arity('ttl')}
        PTTL a b => {arity('pttl')}
        PERSIST => {arity('persist')}
        EXPIRETIME => {arity('expiretime')}
        PEXPIRETIME a b => {arity('pexpiretime')}
    """)


def test_expire_conditions(c):
    run(c, """
        SET k v
        EXPIRE k 100 XX => :0
        TTL k => :-1
        EXPIRE k 100 GT => :0
        TTL k => :-1
        EXPIRE k 100 NX => :1
        EXPIRE k 200 NX => :0
        TTL k => :100
        EXPIRE k 200 XX => :1
        TTL k => :200
        EXPIRE k 100 GT => :0
        EXPIRE k 300 GT => :1
        TTL k => :300
        EXPIRE k 400 LT => :0
        EXPIRE k 150 LT => :1
        TTL k => :150
        PERSIST k => :1
        EXPIRE k 100 LT => :1
        TTL k => :100
        EXPIRE k 50 XX LT => :1
        EXPIRE k 100 XX GT => :1
        EXPIRE k 50 xx gt => :0
        PEXPIRE k 100000 NX => :0
        EXPIREAT k 1 GT => :0
        EXISTS k => :1
        EXPIREAT k 1 LT => :1
        EXISTS k => :0
        SET k v
        EXPIRE k 10 NX XX => -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 10 NX GT => -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 10 NX LT => -ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 10 GT LT => -ERR GT and LT options at the same time are not compatible
        EXPIRE k 10 AB => -ERR Unsupported option AB
        EXPIRE k 10 XX AB => -ERR Unsupported option AB
        PEXPIREAT k 10 qq => -ERR Unsupported option qq
        TTL k => :-1
    """)


def test_expire_errors(c):
    run(c, f"""
        SET k v
        EXPIRE k x => {NOTINT}
        EXPIRE k 1.5 => {NOTINT}
        EXPIRE k "" => {NOTINT}
        EXPIRE k 9223372036854775808 => {NOTINT}
        EXPIRE k 9223372036854775807 => -ERR invalid expire time in 'expire' command
        EXPIRE k 9223372036854775 => -ERR invalid expire time in 'expire' command
        EXPIRE k -9223372036854775808 => -ERR invalid expire time in 'expire' command
        PEXPIRE k 9223372036854775807 => -ERR invalid expire time in 'pexpire' command
        EXPIREAT k 9223372036854775807 => -ERR invalid expire time in 'expireat' command
        PEXPIREAT k x => {NOTINT}
        PEXPIREAT k 9223372036854775807 => :1
        EXPIRE nokey x => {NOTINT}
        PERSIST k => :1
        TTL k => :-1
    """)


def test_rename(c):
    run(c, f"""
        SET a 1
        RENAME a b
        GET b => "1"
        EXISTS a => :0
        RENAME a b => {NOKEY}
        RENAMENX a b => {NOKEY}
        SET a 2
        RENAMENX a b => :0
        RENAMENX a c => :1
        RENAME c c
        RENAMENX c c => :0
        GET c => "2"
        SET t v EX 100
        SET u w EX 1000
        RENAME t u
        TTL u => :100
        GET u => "v"
        SET p plain
        RENAME p u
        TTL u => :-1
        RENAME a => {arity('rename')}
        RENAMENX a => {arity('renamenx')}
        RENAME nokey nokey => {NOKEY}
    """)


def test_copy(c):
    run(c, f"""
        SET a 1 EX 100
        COPY a b => :1
        TTL b => :100
        GET b => "1"
        COPY a b => :0
        SET a 2
        COPY a b REPLACE => :1
        GET b => "2"
        TTL b => :-1
        COPY x y => :0
        COPY a a => -ERR source and destination objects are the same
        COPY a a DB 0 => -ERR source and destination objects are the same
        COPY a a DB 5 => :1
        COPY a a DB 5 => :0
        COPY a a DB 5 REPLACE => :1
        SELECT 5
        GET a => "2"
        SELECT 0
        COPY a z DB 99 => -ERR DB index is out of range
        COPY a z DB -1 => -ERR DB index is out of range
        COPY a z DB x => {NOTINT}
        COPY a z DB => {SYNTAX}
        COPY a z FOO => {SYNTAX}
        COPY a => {arity('copy')}
    """)


def test_move(c):
    run(c, f"""
        SET a 1 EX 100
        MOVE a 1 => :1
        EXISTS a => :0
        MOVE a 1 => :0
        SET a 2
        MOVE a 1 => :0
        GET a => "2"
        SELECT 1
        GET a => "1"
        TTL a => :100
        SELECT 0
        MOVE a 0 => -ERR source and destination objects are the same
        MOVE a 16 => -ERR DB index is out of range
        MOVE a -1 => -ERR DB index is out of range
        MOVE a x => {NOTINT}
        MOVE a => {arity('move')}
    """)


def test_swapdb_and_select(c):
    run(c, f"""
        SET a zero
        SELECT 1
        SET a one
        SET b one
        SWAPDB 0 1
        GET a => "zero"
        GET b => nil
        DBSIZE => :1
        SELECT 0
        GET a => "one"
        DBSIZE => :2
        SWAPDB 0 0
        SWAPDB 0 99 => -ERR DB index is out of range
        SWAPDB x 0 => -ERR invalid first DB index
        SWAPDB 0 x => -ERR invalid second DB index
        SWAPDB -1 0 => -ERR DB index is out of range
        SWAPDB 0 => {arity('swapdb')}
        SELECT 15
        SELECT 16 => -ERR DB index is out of range
        SELECT -1 => -ERR DB index is out of range
        SELECT x => {NOTINT}
        SELECT => {arity('select')}
        SELECT 0 1 => {arity('select')}
        DBSIZE => :0
        DBSIZE x => {arity('dbsize')}
    """)


def test_flushdb_flushall(c):
    run(c, f"""
        SET a 1
        SELECT 1
        SET b 1
        FLUSHDB
        DBSIZE => :0
        SELECT 0
        DBSIZE => :1
        FLUSHDB ASYNC
        DBSIZE => :0
        MSET a 1 b 2
        SELECT 3
        SET c 3
        FLUSHALL SYNC
        DBSIZE => :0
        SELECT 0
        DBSIZE => :0
        FLUSHALL ASYNC
        FLUSHALL async
        FLUSHDB FOO => {SYNTAX}
        FLUSHALL SYNC ASYNC => {SYNTAX}
        FLUSHALL FOO => {SYNTAX}
    """)


def test_keys_patterns(conn):
    names = ["foo", "foobar", "hello", "hallo", "hxllo", "h[llo", "a*b", "a\\b", "", "f\x00o", "key:1", "key:22"]
    for name in names:
        conn.ok("SET", name, "v")

    def keys(pattern):
        return sorted(x.decode() for x in conn.ok("KEYS", pattern))
    assert keys("*") == sorted(names)
    assert keys("foo*") == ["foo", "foobar"]
    assert keys("h?llo") == sorted(["hello", "hallo", "hxllo", "h[llo"])
    assert keys("h[ae]llo") == ["hallo", "hello"]
    assert keys("h[^a]llo") == sorted(["hello", "hxllo", "h[llo"])
    assert keys("h[a-e]llo") == ["hallo", "hello"]
    assert keys("h[e-a]llo") == ["hallo", "hello"]
    assert keys("h\\[llo") == ["h[llo"]
    assert keys("a\\*b") == ["a*b"]
    assert keys("a\\\\b") == ["a\\b"]
    assert keys("foo") == ["foo"]
    assert keys("FOO") == []
    assert keys("") == [""]
    assert keys("*o*o*") == sorted(["foo", "foobar", "f\x00o"][0:2])
    assert keys("**foo**") == ["foo", "foobar"]
    assert keys("h[") == []
    assert keys("key:[0-9]") == ["key:1"]
    assert keys("key:[0-9][0-9]") == ["key:22"]
    assert conn.err("KEYS") == "ERR wrong number of arguments for 'keys' command"
    assert conn.ok("KEYS", "*" * 200 + "x") == []


def scan_all(conn, *options):
    cursor, out, rounds = b"0", [], 0
    while True:
        cursor, keys = conn.ok("SCAN", cursor, *options)
        out += keys
        rounds += 1
        assert rounds < 200000
        if cursor == b"0":
            return out


def test_scan_shape_and_errors(c):
    run(c, f"""
        SCAN 0 => ["0", []]
        SET k v
        SCAN 0 COUNT 1000 => ["0", ["k"]]
        SCAN 0 COUNT 1000 MATCH k* => ["0", ["k"]]
        SCAN 0 match x* count 1000 => ["0", []]
        SCAN 0 COUNT 1000 TYPE string => ["0", ["k"]]
        SCAN 0 COUNT 1000 TYPE STRING => ["0", ["k"]]
        SCAN 0 COUNT 1000 TYPE list => ["0", []]
        SCAN 0 COUNT 0 => {SYNTAX}
        SCAN 0 COUNT -1 => {SYNTAX}
        SCAN 0 COUNT x => {NOTINT}
        SCAN 0 COUNT => {SYNTAX}
        SCAN 0 FOO => {SYNTAX}
        SCAN 0 FOO BAR => {SYNTAX}
        SCAN x => -ERR invalid cursor
        SCAN "" => *
        SCAN -1 => *
        SCAN 1x => -ERR invalid cursor
        SCAN " 0" => -ERR invalid cursor
        SCAN 18446744073709551616 => -ERR invalid cursor
        SCAN => {arity('scan')}
    """)


def test_scan_covers_everything(conn):
    count = 3000
    conn.ok("MSET", *[x for i in range(count) for x in ("key:%d" % i, "v")])
    for options in [(), ("COUNT", 1), ("COUNT", 7), ("COUNT", 1000), ("COUNT", 100000)]:
        got = scan_all(conn, *options)
        assert set(got) == {b"key:%d" % i for i in range(count)}
    got = scan_all(conn, "MATCH", "key:1??", "COUNT", 100)
    assert set(got) == {b"key:%d" % i for i in range(100, 200)}
    assert len(scan_all(conn, "TYPE", "string", "COUNT", 500)) >= count
    assert scan_all(conn, "TYPE", "hash", "COUNT", 500) == []


def test_scan_guarantee_while_the_keyspace_grows_and_shrinks(conn):
    """Every key that is there from start to end is returned, whatever rehashing happens between the calls."""
    rng = random.Random(5)
    for direction in ("grow", "shrink", "mixed"):
        conn.ok("FLUSHALL")
        stable = ["stable:%d" % i for i in range(700)]
        volatile = ["extra:%d" % i for i in range(8000 if direction == "shrink" else 10)]
        conn.ok("MSET", *[x for k in stable + volatile for x in (k, "v")])
        cursor, seen, step, added = b"0", set(), 0, 0
        while True:
            cursor, keys = conn.ok("SCAN", cursor, "COUNT", 10)
            seen.update(keys)
            if cursor == b"0":
                break
            step += 1
            if direction == "grow" or direction == "mixed" and rng.random() < 0.5:
                conn.pipeline([("SET", "new:%d" % (added + i), "v") for i in range(60)])
                added += 60
            elif volatile:
                batch, volatile = volatile[:60], volatile[60:]
                conn.ok("DEL", *batch)
            elif direction == "mixed" and added:
                conn.ok("DEL", *["new:%d" % rng.randint(0, added) for _ in range(60)])
            if added > 60000:
                direction = "stop"
        missing = set(k.encode() for k in stable) - seen
        assert not missing, "%s: %d keys never returned" % (direction, len(missing))


def test_scan_per_database(conn):
    conn.ok("SET", "in0", "v")
    conn.ok("SELECT", 2)
    conn.ok("SET", "in2", "v")
    assert scan_all(conn) == [b"in2"]
    conn.ok("SELECT", 0)
    assert scan_all(conn) == [b"in0"]


def test_scan_leaves_out_expired_keys(conn):
    conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    try:
        conn.ok("MSET", *[x for i in range(50) for x in ("live:%d" % i, "v")])
        conn.pipeline([("SET", "dead:%d" % i, "v", "PX", 1) for i in range(50)])
        time.sleep(0.02)
        assert set(scan_all(conn, "COUNT", 1000)) == {b"live:%d" % i for i in range(50)}
        assert len(conn.ok("KEYS", "*")) == 50
    finally:
        conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")


def test_randomkey(conn):
    assert conn("RANDOMKEY") is None
    conn.ok("SET", "only", "v")
    assert conn("RANDOMKEY") == b"only"
    conn.ok("MSET", *[x for i in range(20) for x in ("k%d" % i, "v")])
    seen = {conn("RANDOMKEY") for _ in range(2000)}
    assert len(seen) == 21
    assert conn.err("RANDOMKEY", "x") == "ERR wrong number of arguments for 'randomkey' command"


def test_active_expiry_without_access(conn):
    conn.pipeline([("SET", "k%d" % i, "v", "PX", 40 + i % 50) for i in range(2000)] + [("SET", "stay", "v")])
    assert conn("DBSIZE") > 0
    deadline = time.monotonic() + conn.server.env.timeout(8)
    while conn("DBSIZE") > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert conn("DBSIZE") == 1
    assert int(conn.info("stats")["expired_keys"]) >= 2000


def test_lazy_expiry_when_active_expiry_is_off(conn):
    conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    try:
        conn.ok("SET", "k", "v", "PX", 10)
        time.sleep(0.03)
        assert conn("DBSIZE") == 1
        run(conn, """
            GET k => nil
            DBSIZE => :0
        """)
    finally:
        conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")


def test_object(c):
    run(c, f"""
        SET k abc
        OBJECT REFCOUNT k => :1
        OBJECT ENCODING k => "embstr"
        OBJECT IDLETIME k => :0
        OBJECT FREQ k => -ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.
        OBJECT ENCODING x => nil
        OBJECT REFCOUNT x => nil
        OBJECT IDLETIME x => nil
        OBJECT FREQ x => nil
        OBJECT => {arity('object')}
        OBJECT FOO k => -ERR unknown subcommand 'FOO'. Try OBJECT HELP.
        OBJECT ENCODING => {arity('object|encoding')}
        OBJECT ENCODING a b => {arity('object|encoding')}
        OBJECT REFCOUNT => {arity('object|refcount')}
        OBJECT HELP => /^\\[\\+OBJECT <subcommand> \\[<arg> \\[value\\] \\[opt\\] ...\\]. Subcommands are:, /
    """)


def test_object_idletime_and_touch(conn):
    conn.ok("SET", "k", "v")
    time.sleep(1.6)
    assert conn("OBJECT", "IDLETIME", "k") >= 1
    assert conn("OBJECT", "IDLETIME", "k") >= 1
    conn.ok("TOUCH", "k")
    assert conn("OBJECT", "IDLETIME", "k") == 0


def test_object_freq_under_lfu(conn):
    conn.ok("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    try:
        conn.ok("SET", "k", "v")
        assert isinstance(conn("OBJECT", "FREQ", "k"), int)
        assert conn.err("OBJECT", "IDLETIME", "k") == (
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between "
            "policies at runtime LRU and LFU data will take some time to adjust.")
    finally:
        conn.ok("CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_expired_key_is_gone_for_every_command(conn):
    conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    try:
        for command, want in [(("EXISTS", "k"), 0), (("TTL", "k"), -2), (("TYPE", "k"), "none"), (("STRLEN", "k"), 0),
                              (("DEL", "k"), 0), (("UNLINK", "k"), 0), (("PERSIST", "k"), 0), (("EXPIRE", "k", 10), 0),
                              (("GETDEL", "k"), None), (("SETNX", "k", "x"), 1), (("APPEND", "k", "x"), 1),
                              (("INCR", "k"), 1), (("COPY", "k", "z"), 0), (("TOUCH", "k"), 0), (("MOVE", "k", 3), 0),
                              (("SET", "k", "x", "NX"), "OK"), (("SETBIT", "k", 7, 1), 0), (("MGET", "k"), [None]),
                              (("MSETNX", "k", "1"), 1), (("OBJECT", "ENCODING", "k"), None),
                              (("SET", "k", "x", "XX"), None), (("BITCOUNT", "k"), 0)]:
            conn.ok("SET", "k", "123", "PX", 1)
            time.sleep(0.005)
            assert conn(*command) == want, command
        conn.ok("SET", "k", "123", "PX", 1)
        time.sleep(0.005)
        assert conn.err("RENAME", "k", "z") == "ERR no such key"
    finally:
        conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")
