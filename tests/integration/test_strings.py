# SPDX-License-Identifier: BSD-3-Clause
"""Strings: every command, option and error of Redis 7.2."""
import time

import pytest

from resp import run

WRONGTYPE = "-WRONGTYPE Operation against a key holding the wrong kind of value"
NOTINT = "-ERR value is not an integer or out of range"
SYNTAX = "-ERR syntax error"


def arity(name):
    return "-ERR wrong number of arguments for '%s' command" % name


def test_set_get_basics(c):
    run(c, f"""
        SET k v
        GET k => "v"
        GET missing => nil
        SET k ""
        GET k => ""
        SET "k\\x00\\r\\n" "\\x00\\xff\\r\\n"
        GET "k\\x00\\r\\n" => "\\x00\\xff\\r\\n"
        SET "" empty-key
        GET "" => "empty-key"
        set K lower
        get K => "lower"
        GET k => ""
        SET => {arity('set')}
        SET k => {arity('set')}
        GET => {arity('get')}
        GET a b => {arity('get')}
        SET k v bogus => {SYNTAX}
        SET k v NX XX => {SYNTAX}
        SET k v XX NX => {SYNTAX}
        SET k v EX => {SYNTAX}
        SET k v EX 10 PX 10 => {SYNTAX}
        SET k v EX 10 KEEPTTL => {SYNTAX}
        SET k v KEEPTTL EX 10 => {SYNTAX}
        SET k v PERSIST => {SYNTAX}
    """)


def test_set_nx_xx(c):
    run(c, """
        SET k v XX => nil
        EXISTS k => :0
        SET k v NX
        SET k w NX => nil
        GET k => "v"
        SET k w XX
        GET k => "w"
        SET k x nx => nil
        SET k x xx
    """)


def test_set_get_option(c):
    run(c, """
        SET k v GET => nil
        SET k w GET => "v"
        SET k x NX GET => "w"
        GET k => "w"
        SET k x XX GET => "w"
        SET n x NX GET => nil
        GET n => "x"
        SET m x XX GET => nil
        EXISTS m => :0
        SET k y GET EX 100 => "x"
        TTL k => :100
        SET k z get keepttl => "y"
        TTL k => :100
    """)


def test_set_expire_options(c):
    now = int(time.time())
    run(c, f"""
        SET k v EX 100
        TTL k => :100
        SET k v PX 100000
        TTL k => :100
        SET k v EXAT {now + 1000}
        EXPIRETIME k => :{now + 1000}
        SET k v PXAT {(now + 1000) * 1000 + 7}
        PEXPIRETIME k => :{(now + 1000) * 1000 + 7}
        SET k w KEEPTTL
        PEXPIRETIME k => :{(now + 1000) * 1000 + 7}
        SET k w
        TTL k => :-1
        SET k v ex 100 nx => nil
        SET n v NX EX 100
        TTL n => :100
        SET k v XX PX 5000 => +OK
        PTTL k => /^:(4[89]\\d\\d|5000)$/
        SET k v EXAT 1
        GET k => nil
        EXISTS k => :0
        SET k v PXAT 1
        EXISTS k => :0
    """)


def test_set_expire_errors(c):
    bad = "-ERR invalid expire time in 'set' command"
    run(c, f"""
        SET k v EX 0 => {bad}
        SET k v EX -1 => {bad}
        SET k v PX 0 => {bad}
        SET k v PX -5 => {bad}
        SET k v EXAT 0 => {bad}
        SET k v PXAT -1 => {bad}
        SET k v EX abc => {NOTINT}
        SET k v EX 1.5 => {NOTINT}
        SET k v PX "" => {NOTINT}
        SET k v EX 9223372036854775808 => {NOTINT}
        SET k v EX 9223372036854775807 => {bad}
        SET k v EX 9223372036854775 => {bad}
        SET k v PX 9223372036854775807 => {bad}
        SET k v EXAT 9223372036854775807 => {bad}
        SET k v PXAT 9223372036854775807
        PEXPIRETIME k => :9223372036854775807
        SET k v EX 9000000000000000
        EXISTS k => :1
    """)


def test_setex_psetex(c):
    run(c, f"""
        SETEX k 10 v
        TTL k => :10
        PSETEX k 10000 w
        TTL k => :10
        GET k => "w"
        SETEX k 0 v => -ERR invalid expire time in 'setex' command
        SETEX k -1 v => -ERR invalid expire time in 'setex' command
        SETEX k x v => {NOTINT}
        PSETEX k 0 v => -ERR invalid expire time in 'psetex' command
        PSETEX k x v => {NOTINT}
        SETEX k 9223372036854775807 v => -ERR invalid expire time in 'setex' command
        SETEX k 10 => {arity('setex')}
        PSETEX k 10 => {arity('psetex')}
        GET k => "w"
    """)


def test_setnx_getset_getdel(c):
    run(c, f"""
        SETNX k v => :1
        SETNX k w => :0
        GET k => "v"
        GETSET k x => "v"
        GETSET n x => nil
        SET k y EX 100
        GETSET k z => "y"
        TTL k => :-1
        GETDEL k => "z"
        GETDEL k => nil
        EXISTS k => :0
        SETNX k => {arity('setnx')}
        GETSET k => {arity('getset')}
        GETDEL => {arity('getdel')}
        GETDEL a b => {arity('getdel')}
    """)


def test_getex(c):
    now = int(time.time())
    bad = "-ERR invalid expire time in 'getex' command"
    run(c, f"""
        SET k v
        GETEX k => "v"
        TTL k => :-1
        GETEX k EX 100 => "v"
        TTL k => :100
        GETEX k => "v"
        TTL k => :100
        GETEX k PX 50000 => "v"
        TTL k => :50
        GETEX k EXAT {now + 777} => "v"
        EXPIRETIME k => :{now + 777}
        GETEX k PXAT {now + 777}123 => "v"
        PEXPIRETIME k => :{now + 777}123
        GETEX k PERSIST => "v"
        TTL k => :-1
        GETEX k PERSIST => "v"
        GETEX missing EX 10 => nil
        GETEX missing EX 0 => nil
        GETEX k EX 0 => {bad}
        GETEX k PX -1 => {bad}
        GETEX k EX x => {NOTINT}
        GETEX k EX 9223372036854775807 => {bad}
        GETEX k KEEPTTL => {SYNTAX}
        GETEX k NX => {SYNTAX}
        GETEX k EX 10 PERSIST => {SYNTAX}
        GETEX k EX 10 PX 10 => {SYNTAX}
        GETEX k EX => {SYNTAX}
        GETEX k bogus => {SYNTAX}
        GETEX => {arity('getex')}
        GETEX k EXAT 1 => "v"
        EXISTS k => :0
    """)


def test_mset_mget_msetnx(c):
    run(c, f"""
        MSET a 1 b 2 c 3
        MGET a b c d => ["1", "2", "3", nil]
        MGET d => [nil]
        MSET a x a y
        GET a => "y"
        SET b v EX 100
        MSET b w
        TTL b => :-1
        MSETNX c 4 e 5 => :0
        EXISTS e => :0
        MSETNX e 5 f 6 => :1
        MGET e f => ["5", "6"]
        MSETNX g 1 g 2 => :1
        GET g => "2"
        MSET a => {arity('mset')}
        MSET => {arity('mset')}
        MSET a 1 b => {arity('mset')}
        MSETNX a 1 b => {arity('msetnx')}
        MSETNX a => {arity('msetnx')}
        MGET => {arity('mget')}
    """)


def test_append_strlen(c):
    run(c, f"""
        APPEND k foo => :3
        APPEND k bar => :6
        GET k => "foobar"
        APPEND k "" => :6
        STRLEN k => :6
        STRLEN missing => :0
        SET n 12345
        STRLEN n => :5
        APPEND n 6 => :6
        GET n => "123456"
        APPEND e "" => :0
        EXISTS e => :1
        SET t v EX 100
        APPEND t w => :2
        TTL t => :100
        APPEND k => {arity('append')}
        STRLEN => {arity('strlen')}
        STRLEN a b => {arity('strlen')}
    """)


def test_incr_decr(c):
    run(c, f"""
        INCR n => :1
        INCR n => :2
        INCRBY n 40 => :42
        DECR n => :41
        DECRBY n 41 => :0
        DECR n => :-1
        DECRBY n -11 => :10
        INCRBY n -20 => :-10
        GET n => "-10"
        SET n 9223372036854775807
        INCR n => -ERR increment or decrement would overflow
        INCRBY n 1 => -ERR increment or decrement would overflow
        GET n => "9223372036854775807"
        SET n -9223372036854775808
        DECR n => -ERR increment or decrement would overflow
        DECRBY n 1 => -ERR increment or decrement would overflow
        INCRBY n -1 => -ERR increment or decrement would overflow
        DECRBY n -9223372036854775808 => -ERR decrement would overflow
        INCRBY n 9223372036854775807 => :-1
        SET n abc
        INCR n => {NOTINT}
        SET n " 1"
        INCR n => {NOTINT}
        SET n "1 "
        INCR n => {NOTINT}
        SET n 01
        INCR n => {NOTINT}
        SET n 1.0
        INCR n => {NOTINT}
        SET n ""
        INCR n => {NOTINT}
        SET n +1
        INCR n => {NOTINT}
        SET n 9223372036854775808
        INCR n => {NOTINT}
        SET n -0
        INCR n => {NOTINT}
        SET n 0
        INCRBY n x => {NOTINT}
        INCRBY n 1.5 => {NOTINT}
        INCRBY n 9223372036854775808 => {NOTINT}
        DECRBY n x => {NOTINT}
        INCR => {arity('incr')}
        DECR => {arity('decr')}
        INCRBY n => {arity('incrby')}
        DECRBY n => {arity('decrby')}
        SET t 5 EX 100
        INCR t => :6
        TTL t => :100
    """)


def test_incrbyfloat(c):
    run(c, f"""
        INCRBYFLOAT n 1 => "1"
        INCRBYFLOAT n 0.25 => "1.25"
        INCRBYFLOAT n -1.25 => "0"
        INCRBYFLOAT n 3.0e3 => "3000"
        INCRBYFLOAT n 1.5e-3 => "3000.00150000000000006"
        SET n 10.50
        INCRBYFLOAT n 0.1 => "10.6"
        INCRBYFLOAT n -5 => "5.6"
        SET n 5.0e3
        INCRBYFLOAT n 2.0e2 => "5200"
        SET n 17179869184
        INCRBYFLOAT n 1.5 => "17179869185.5"
        GET n => "17179869185.5"
        SET n 1
        INCRBYFLOAT n 0.1 => "1.1"
        INCRBYFLOAT n 0.00000000000000001 => "1.10000000000000001"
        SET n abc
        INCRBYFLOAT n 1 => -ERR value is not a valid float
        SET n "    11"
        INCRBYFLOAT n 1 => -ERR value is not a valid float
        SET n "11    "
        INCRBYFLOAT n 1 => -ERR value is not a valid float
        SET n 1
        INCRBYFLOAT n x => -ERR value is not a valid float
        INCRBYFLOAT n "" => -ERR value is not a valid float
        INCRBYFLOAT n nan => -ERR value is not a valid float
        INCRBYFLOAT n inf => -ERR increment would produce NaN or Infinity
        INCRBYFLOAT n -inf => -ERR increment would produce NaN or Infinity
        GET n => "1"
        INCRBYFLOAT n => {arity('incrbyfloat')}
        SET t 1 EX 100
        INCRBYFLOAT t 1 => "2"
        TTL t => :100
    """)


def test_getrange_substr(c):
    run(c, f"""
        SET k "Hello World"
        GETRANGE k 0 4 => "Hello"
        GETRANGE k 0 -1 => "Hello World"
        GETRANGE k -5 -1 => "World"
        GETRANGE k 5 3 => ""
        GETRANGE k 5 5000 => " World"
        GETRANGE k -5000 10000 => "Hello World"
        GETRANGE k -1 -5 => ""
        GETRANGE k 100 200 => ""
        GETRANGE k -100 -50 => "H"
        GETRANGE k 0 -9223372036854775808 => "H"
        GETRANGE k 0 9223372036854775807 => "Hello World"
        GETRANGE missing 0 -1 => ""
        SUBSTR k 0 4 => "Hello"
        SET n 12345
        GETRANGE n 1 2 => "23"
        GETRANGE k a 1 => {NOTINT}
        GETRANGE k 0 b => {NOTINT}
        GETRANGE k 0 => {arity('getrange')}
        SUBSTR k 0 => {arity('substr')}
    """)


def test_setrange(c):
    run(c, f"""
        SET k "Hello World"
        SETRANGE k 6 Redis => :11
        GET k => "Hello Redis"
        SETRANGE k 12 x => :13
        GET k => "Hello Redis\\x00x"
        SETRANGE n 3 foo => :6
        GET n => "\\x00\\x00\\x00foo"
        SETRANGE e 0 "" => :0
        EXISTS e => :0
        SETRANGE e 10 "" => :0
        EXISTS e => :0
        SETRANGE k 100 "" => :13
        SET i 1234
        SETRANGE i 1 xx => :4
        GET i => "1xx4"
        OBJECT ENCODING i => "raw"
        SETRANGE k -1 x => -ERR offset is out of range
        SETRANGE k a x => {NOTINT}
        SETRANGE k 536870912 x => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SETRANGE k 9223372036854775807 x => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SETRANGE k 0 => {arity('setrange')}
        SET t v EX 100
        SETRANGE t 0 w => :1
        TTL t => :100
    """)


def test_append_over_the_limit(server, conn):
    conn.ok("CONFIG", "SET", "proto-max-bulk-len", "1048576")
    try:
        conn.ok("SET", "k", b"x" * 1048570)
        run(conn, """
            APPEND k 1234567 => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
            APPEND k 123456 => :1048576
            SETRANGE k 1048576 x => -ERR string exceeds maximum allowed size (proto-max-bulk-len)
        """)
    finally:
        conn.ok("CONFIG", "SET", "proto-max-bulk-len", "536870912")


def test_lcs(c):
    run(c, f"""
        MSET key1 ohmytext key2 mynewtext
        LCS key1 key2 => "mytext"
        LCS key1 key2 LEN => :6
        2| LCS key1 key2 IDX => ["matches", [[[:4, :7], [:5, :8]], [[:2, :3], [:0, :1]]], "len", :6]
        3| LCS key1 key2 IDX => {{"matches": [[[:4, :7], [:5, :8]], [[:2, :3], [:0, :1]]], "len": :6}}
        2| LCS key1 key2 IDX MINMATCHLEN 4 => ["matches", [[[:4, :7], [:5, :8]]], "len", :6]
        3| LCS key1 key2 IDX MINMATCHLEN 4 => {{"matches": [[[:4, :7], [:5, :8]]], "len": :6}}
        2| LCS key1 key2 IDX MINMATCHLEN 4 WITHMATCHLEN => ["matches", [[[:4, :7], [:5, :8], :4]], "len", :6]
        3| LCS key1 key2 IDX MINMATCHLEN 4 WITHMATCHLEN => {{"matches": [[[:4, :7], [:5, :8], :4]], "len": :6}}
        2| LCS key1 key2 IDX MINMATCHLEN -9 => ["matches", [[[:4, :7], [:5, :8]], [[:2, :3], [:0, :1]]], "len", :6]
        LCS key1 missing => ""
        LCS missing1 missing2 LEN => :0
        2| LCS key1 missing IDX => ["matches", [], "len", :0]
        3| LCS key1 missing IDX => {{"matches": [], "len": :0}}
        LCS key1 key1 => "ohmytext"
        2| LCS key1 key1 IDX => ["matches", [[[:0, :7], [:0, :7]]], "len", :8]
        LCS key1 key2 LEN IDX => -ERR If you want both the length and indexes, please just use IDX.
        LCS key1 key2 bogus => {SYNTAX}
        LCS key1 key2 MINMATCHLEN => {SYNTAX}
        LCS key1 key2 MINMATCHLEN x => {NOTINT}
        LCS key1 => {arity('lcs')}
        SET n1 12345
        SET n2 2345
        LCS n1 n2 => "2345"
        MSET b1 "\\x00\\x01\\x02" b2 "\\x01\\x02\\x00"
        LCS b1 b2 => "\\x01\\x02"
    """)


def test_object_encodings_of_strings(c):
    run(c, f"""
        SET k 123
        OBJECT ENCODING k => "int"
        SET k -9223372036854775808
        OBJECT ENCODING k => "int"
        SET k 9223372036854775808
        OBJECT ENCODING k => "embstr"
        SET k 0123
        OBJECT ENCODING k => "embstr"
        SET k {'x' * 44}
        OBJECT ENCODING k => "embstr"
        SET k {'x' * 45}
        OBJECT ENCODING k => "raw"
        SET k abc
        APPEND k d => :4
        OBJECT ENCODING k => "raw"
        SET k 5
        INCRBYFLOAT k 1.5 => "6.5"
        OBJECT ENCODING k => "embstr"
        SET k 5
        INCRBYFLOAT k 1 => "6"
        OBJECT ENCODING k => "embstr"
        SET k 5
        APPEND k 5 => :2
        OBJECT ENCODING k => "raw"
    """)


def test_wrong_type(c):
    run(c, f"""
        LPUSH l a => :1
        GET l => {WRONGTYPE}
        GETSET l x => {WRONGTYPE}
        GETDEL l => {WRONGTYPE}
        GETEX l => {WRONGTYPE}
        SET l x GET => {WRONGTYPE}
        SET l x NX GET => {WRONGTYPE}
        APPEND l x => {WRONGTYPE}
        STRLEN l => {WRONGTYPE}
        INCR l => {WRONGTYPE}
        INCRBYFLOAT l 1 => {WRONGTYPE}
        GETRANGE l 0 1 => {WRONGTYPE}
        SETRANGE l 0 x => {WRONGTYPE}
        MGET l => [nil]
        SETNX l x => :0
        LCS l l => -ERR The specified keys must contain string values
        SET l x
        TYPE l => +string
    """)


def test_values_of_every_size_come_back_exactly(conn):
    for size in [0, 1, 43, 44, 45, 63, 64, 127, 128, 255, 256, 4095, 4096, 16383, 16384, 16385, 65535, 65536, 262145,
                 1048577]:
        value = (b"%d-" % size * (size // 2 + 1))[:size]
        assert conn("SET", "k", value) == "OK"
        assert conn("GET", "k") == value
        assert conn("STRLEN", "k") == size
        assert conn("SETRANGE", "k2", size, value) == (size * 2 if size else 0)
        assert conn("GETRANGE", "k2", size, -1) == value
        conn("DEL", "k2")


def test_many_keys_mget_across_shards(conn):
    count = 5000
    args = [x for i in range(count) for x in ("key:%d" % i, "value:%d" % i)]
    assert conn("MSET", *args) == "OK"
    got = conn("MGET", *["key:%d" % i for i in range(count + 5)])
    assert got == [b"value:%d" % i for i in range(count)] + [None] * 5
    assert conn("DBSIZE") == count
    assert conn("DEL", *["key:%d" % i for i in range(count)]) == count


@pytest.mark.parametrize("setter,ms", [(("SET", "k", "v", "PX", "60"), 60), (("PSETEX", "k", "60", "v"), 60)])
def test_key_expires(conn, setter, ms):
    conn.ok(*setter)
    assert conn("GET", "k") == b"v"
    time.sleep(ms / 1000 + 0.05)
    assert conn("GET", "k") is None
    assert conn("EXISTS", "k") == 0
