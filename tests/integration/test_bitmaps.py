# SPDX-License-Identifier: BSD-3-Clause
"""Bitmaps: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP, BITFIELD and BITFIELD_RO."""
import random

from resp import run

SYNTAX = "-ERR syntax error"
NOTINT = "-ERR value is not an integer or out of range"
OFFSET = "-ERR bit offset is not an integer or out of range"
BITTYPE = ("-ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.")
WRONGTYPE = "-WRONGTYPE Operation against a key holding the wrong kind of value"


def arity(name):
    return "-ERR wrong number of arguments for '%s' command" % name


def test_setbit_getbit(c):
    run(c, f"""
        SETBIT k 7 1 => :0
        GET k => "\\x01"
        SETBIT k 7 0 => :1
        GET k => "\\x00"
        SETBIT k 0 1 => :0
        GET k => "\\x80"
        SETBIT k 17 1 => :0
        GET k => "\\x80\\x00@"
        GETBIT k 0 => :1
        GETBIT k 1 => :0
        GETBIT k 17 => :1
        GETBIT k 100000 => :0
        GETBIT missing 0 => :0
        SETBIT z 100 0 => :0
        STRLEN z => :13
        SET n 1
        GETBIT n 2 => :1
        SETBIT n 6 1 => :0
        GET n => "3"
        OBJECT ENCODING n => "raw"
        SETBIT k 4294967295 1 => :0
        STRLEN k => :536870912
        DEL k => :1
        SETBIT k 4294967296 1 => {OFFSET}
        SETBIT k -1 1 => {OFFSET}
        SETBIT k x 1 => {OFFSET}
        SETBIT k "" 1 => {OFFSET}
        GETBIT k 4294967296 => {OFFSET}
        GETBIT k -1 => {OFFSET}
        SETBIT k 0 2 => -ERR bit is not an integer or out of range
        SETBIT k 0 -1 => -ERR bit is not an integer or out of range
        SETBIT k 0 x => -ERR bit is not an integer or out of range
        SETBIT k 0 => {arity('setbit')}
        GETBIT k => {arity('getbit')}
        EXISTS k => :0
    """)


def test_bitcount(c):
    run(c, f"""
        SET k foobar
        BITCOUNT k => :26
        BITCOUNT k 0 0 => :4
        BITCOUNT k 1 1 => :6
        BITCOUNT k 1 1 BYTE => :6
        BITCOUNT k 5 30 BIT => :17
        BITCOUNT k 0 -1 => :26
        BITCOUNT k -2 -1 => :7
        BITCOUNT k -1 -2 => :0
        BITCOUNT k 0 -1 BIT => :26
        BITCOUNT k -8 -1 BIT => :4
        BITCOUNT k -1000 5000 => :26
        BITCOUNT k 100 200 => :0
        BITCOUNT k 3 3 BIT => :0
        BITCOUNT k 0 7 bit => :4
        BITCOUNT missing => :0
        BITCOUNT missing 0 -1 => :0
        BITCOUNT k 0 => {SYNTAX}
        BITCOUNT k 0 1 2 3 => {SYNTAX}
        BITCOUNT k 0 1 HELLO => {SYNTAX}
        BITCOUNT k a b => {NOTINT}
        BITCOUNT k 0 b => {NOTINT}
        7.2| BITCOUNT missing a b => {NOTINT}
        7.2| BITCOUNT missing 0 => {SYNTAX}
        7.2| BITCOUNT missing 0 1 HELLO => {SYNTAX}
        BITCOUNT => {arity('bitcount')}
        SET n 12
        BITCOUNT n => :6
        SET e ""
        BITCOUNT e => :0
        BITCOUNT e 0 -1 => :0
    """)


def test_bitpos(c):
    run(c, f"""
        SET k "\\xff\\xf0\\x00"
        BITPOS k 0 => :12
        SET z "\\x00\\xff\\xf0"
        BITPOS z 1 => :8
        BITPOS z 1 0 => :8
        BITPOS z 1 2 => :16
        BITPOS z 1 2 -1 BYTE => :16
        BITPOS z 1 7 15 BIT => :8
        BITPOS z 1 7 -3 BIT => :8
        BITPOS z 1 1 7 BIT => :-1
        BITPOS z 0 1 => :20
        BITPOS z 0 8 -1 BIT => :20
        SET a "\\x00\\x00"
        BITPOS a 1 => :-1
        BITPOS a 1 0 -1 => :-1
        SET o "\\xff\\xff"
        BITPOS o 0 => :16
        BITPOS o 0 0 => :16
        BITPOS o 0 0 -1 => :-1
        BITPOS o 0 0 15 BIT => :-1
        BITPOS o 0 100 => :-1
        BITPOS o 1 -1 => :8
        BITPOS missing 0 => :0
        BITPOS missing 1 => :-1
        BITPOS missing 0 0 -1 => :0
        BITPOS missing 1 0 -1 => :-1
        BITPOS k 2 => -ERR The bit argument must be 1 or 0.
        BITPOS k x => {NOTINT}
        BITPOS k 0 x => {NOTINT}
        BITPOS k 0 0 x => {NOTINT}
        BITPOS k 0 0 1 FOO => {SYNTAX}
        7.2| BITPOS missing 0 x => {NOTINT}
        7.2| BITPOS missing 0 0 1 FOO => {SYNTAX}
        BITPOS k 0 0 1 BIT x => {SYNTAX}
        BITPOS k => {arity('bitpos')}
    """)


def test_bitop(c):
    run(c, f"""
        MSET a "\\xff\\x0f" b "\\x0f" c "\\xf0\\xff\\x01"
        BITOP AND d a b => :2
        GET d => "\\x0f\\x00"
        BITOP OR d a b => :2
        GET d => "\\xff\\x0f"
        BITOP XOR d a b => :2
        GET d => "\\xf0\\x0f"
        BITOP NOT d a => :2
        GET d => "\\x00\\xf0"
        BITOP and d a b c => :3
        GET d => "\\x00\\x00\\x00"
        BITOP OR d a c => :3
        GET d => "\\xff\\xff\\x01"
        BITOP XOR d a b c => :3
        GET d => "\\x00\\xf0\\x01"
        BITOP AND d a missing => :2
        GET d => "\\x00\\x00"
        BITOP OR d a missing => :2
        GET d => "\\xff\\x0f"
        BITOP XOR a a a => :2
        GET a => "\\x00\\x00"
        BITOP AND d missing1 missing2 => :0
        EXISTS d => :0
        SET d x
        BITOP NOT d missing1 => :0
        EXISTS d => :0
        SET n 12
        BITOP NOT d n => :2
        GET d => "\\xce\\xcd"
        SET d v EX 100
        BITOP OR d n => :2
        TTL d => :-1
        BITOP NOT d a b => -ERR BITOP NOT must be called with a single source key.
        BITOP NAND d a b => {SYNTAX}
        BITOP AND d => {arity('bitop')}
        BITOP => {arity('bitop')}
    """)


def test_bitop_against_a_model(conn):
    rng = random.Random(7)
    for _ in range(60):
        count = rng.randint(1, 6)
        values = [bytes(rng.getrandbits(8) for _ in range(rng.choice([0, 1, 7, 8, 9, 31, 32, 33, 64, 100, 300])))
                  for _ in range(count)]
        keys = ["k%d" % i for i in range(count)]
        conn("MSET", *[x for pair in zip(keys, values) for x in pair])
        size = max(map(len, values))
        padded = [value.ljust(size, b"\0") for value in values]
        for name, func in (("AND", lambda x, y: x & y), ("OR", lambda x, y: x | y), ("XOR", lambda x, y: x ^ y)):
            want = bytearray(padded[0])
            for other in padded[1:]:
                want = bytearray(func(x, y) for x, y in zip(want, other))
            assert conn("BITOP", name, "dst", *keys) == size
            assert (conn("GET", "dst") or b"") == bytes(want)


def test_bitcount_bitpos_against_a_model(conn):
    rng = random.Random(11)
    for _ in range(40):
        size = rng.choice([1, 2, 7, 8, 9, 28, 29, 63, 64, 65, 200])
        fill = rng.choice([0, 255, None, None])
        value = bytes(rng.getrandbits(8) if fill is None else fill for _ in range(size))
        conn("SET", "k", value)
        bits = "".join("%08d" % int(bin(b)[2:]) for b in value)
        for _ in range(15):
            start, end = rng.randint(-size - 3, size + 3), rng.randint(-size - 3, size + 3)
            for unit, length, scale in (("BYTE", size, 8), ("BIT", size * 8, 1)):
                lo, hi = (start, end) if scale == 8 else (start * 5, end * 7)
                if lo < 0 and hi < 0 and lo > hi:
                    continue
                begin = max(lo + length, 0) if lo < 0 else lo
                last = min(max(hi + length, 0) if hi < 0 else hi, length - 1)
                part = bits[begin * scale:(last + 1) * scale] if begin <= last else ""
                assert conn("BITCOUNT", "k", lo, hi, unit) == part.count("1"), (value, lo, hi, unit)
                for bit in (0, 1):
                    at = part.find(str(bit))
                    want = at + begin * scale if at >= 0 else -1
                    assert conn("BITPOS", "k", bit, lo, hi, unit) == want, (value, bit, lo, hi, unit)


def test_bitfield_get_set_incrby(c):
    run(c, """
        BITFIELD k SET u8 0 255 => [:0]
        BITFIELD k GET u8 0 => [:255]
        BITFIELD k GET i8 0 => [:-1]
        BITFIELD k SET i8 #1 -100 => [:0]
        BITFIELD k GET i8 #1 GET u8 #1 GET u4 8 GET u1 #8 => [:-100, :156, :9, :1]
        BITFIELD k INCRBY u8 0 1 => [:0]
        BITFIELD k SET i5 3 -16 GET i5 3 GET u5 3 => [:0, :-16, :16]
        BITFIELD n INCRBY i5 100 1 GET u4 0 => [:1, :0]
        STRLEN n => :14
        BITFIELD w SET i64 0 -9223372036854775808 GET i64 0 GET u63 1 => [:0, :-9223372036854775808, :0]
        BITFIELD w SET u63 1 9223372036854775807 GET i64 0 => [:0, :-1]
        BITFIELD w GET u1 0 GET u1 1 GET i1 0 => [:1, :1, :-1]
        BITFIELD missing GET u8 0 GET i32 1000 => [:0, :0]
        EXISTS missing => :0
        BITFIELD missing => []
        SET num 1
        BITFIELD num GET u8 0 SET u8 0 50 => [:49, :49]
        GET num => "2"
    """)


def test_bitfield_overflow_modes(c):
    run(c, """
        BITFIELD k SET u8 0 100 OVERFLOW WRAP INCRBY u8 0 257 => [:0, :101]
        BITFIELD k OVERFLOW SAT INCRBY u8 0 257 => [:255]
        BITFIELD k OVERFLOW FAIL INCRBY u8 0 1 => [nil]
        BITFIELD k GET u8 0 => [:255]
        BITFIELD k OVERFLOW SAT INCRBY u8 0 -300 => [:0]
        BITFIELD k OVERFLOW WRAP INCRBY u8 0 -1 => [:255]
        BITFIELD k OVERFLOW FAIL SET u8 0 256 => [nil]
        BITFIELD k OVERFLOW SAT SET u8 0 1000 GET u8 0 => [:255, :255]
        BITFIELD k OVERFLOW WRAP SET u8 0 258 GET u8 0 => [:255, :2]
        BITFIELD s SET i8 0 127 OVERFLOW WRAP INCRBY i8 0 1 => [:0, :-128]
        BITFIELD s OVERFLOW SAT INCRBY i8 0 -1 => [:-128]
        BITFIELD s OVERFLOW SAT INCRBY i8 0 1000 => [:127]
        BITFIELD s OVERFLOW FAIL INCRBY i8 0 1 => [nil]
        BITFIELD s OVERFLOW FAIL INCRBY i8 0 1 OVERFLOW SAT INCRBY i8 0 1 OVERFLOW WRAP INCRBY i8 0 1 => [nil, :127, :-128]
        BITFIELD s OVERFLOW FAIL SET i8 0 128 => [nil]
        BITFIELD s OVERFLOW FAIL SET i8 0 -129 => [nil]
        BITFIELD s OVERFLOW SAT SET i8 0 -200 GET i8 0 => [:-128, :-128]
        BITFIELD x SET i64 0 9223372036854775807 INCRBY i64 0 1 => [:0, :-9223372036854775808]
        BITFIELD x SET i64 0 9223372036854775807 OVERFLOW SAT INCRBY i64 0 1 => [:-9223372036854775808, :9223372036854775807]
        BITFIELD x OVERFLOW FAIL INCRBY i64 0 1 => [nil]
        BITFIELD x SET i64 0 -9223372036854775808 OVERFLOW SAT INCRBY i64 0 -1 => [:9223372036854775807, :-9223372036854775808]
        BITFIELD u SET u63 0 9223372036854775807 INCRBY u63 0 1 => [:0, :0]
        BITFIELD u SET u63 0 9223372036854775807 OVERFLOW SAT INCRBY u63 0 1 => [:0, :9223372036854775807]
        BITFIELD u OVERFLOW FAIL INCRBY u63 0 1 => [nil]
        BITFIELD u OVERFLOW FAIL => []
    """)


def test_bitfield_errors(c):
    run(c, f"""
        BITFIELD k GET u64 0 => {BITTYPE}
        BITFIELD k GET u0 0 => {BITTYPE}
        BITFIELD k GET i65 0 => {BITTYPE}
        BITFIELD k GET x8 0 => {BITTYPE}
        BITFIELD k GET u 0 => {BITTYPE}
        BITFIELD k GET ui8 0 => {BITTYPE}
        BITFIELD k GET u8 -1 => {OFFSET}
        BITFIELD k GET u8 x => {OFFSET}
        BITFIELD k GET u8 #-1 => {OFFSET}
        BITFIELD k GET u8 4294967296 => {OFFSET}
        BITFIELD k GET u8 #536870912 => {OFFSET}
        BITFIELD k SET u8 0 x => {NOTINT}
        BITFIELD k INCRBY u8 0 x => {NOTINT}
        BITFIELD k SET u8 0 => {SYNTAX}
        BITFIELD k GET u8 => {SYNTAX}
        BITFIELD k FOO u8 0 => {SYNTAX}
        BITFIELD k OVERFLOW => {SYNTAX}
        BITFIELD k OVERFLOW MAYBE => -ERR Invalid OVERFLOW type specified
        BITFIELD k SET u8 0 1 BAD => {SYNTAX}
        EXISTS k => :0
        BITFIELD => {arity('bitfield')}
    """)


def test_bitfield_ro(c):
    run(c, f"""
        SET k "\\xff\\x01"
        BITFIELD_RO k GET u8 0 GET i8 0 GET u8 8 => [:255, :-1, :1]
        BITFIELD_RO missing GET u8 0 => [:0]
        BITFIELD_RO k => []
        BITFIELD_RO k SET u8 0 1 => -ERR BITFIELD_RO only supports the GET subcommand
        BITFIELD_RO k INCRBY u8 0 1 => -ERR BITFIELD_RO only supports the GET subcommand
        BITFIELD_RO k GET u64 0 => {BITTYPE}
        BITFIELD_RO => {arity('bitfield_ro')}
    """)


def test_bitmap_wrong_type(c):
    run(c, f"""
        LPUSH l a => :1
        SETBIT l 0 1 => {WRONGTYPE}
        GETBIT l 0 => {WRONGTYPE}
        BITCOUNT l => {WRONGTYPE}
        BITPOS l 0 => {WRONGTYPE}
        BITOP AND d l => {WRONGTYPE}
        BITFIELD l GET u8 0 => {WRONGTYPE}
        BITFIELD_RO l GET u8 0 => {WRONGTYPE}
    """)


def test_bitfield_against_a_model(conn):
    """Every width at odd offsets, signed and unsigned, compared with Python's integers."""
    rng = random.Random(3)
    size = 64
    for _ in range(400):
        signed = rng.random() < 0.5
        bits = rng.randint(1, 64 if signed else 63)
        offset = rng.randint(0, size * 8 - bits)
        data = bytes(rng.getrandbits(8) for _ in range(size))
        conn("SET", "k", data)
        lo, hi = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        whole = int.from_bytes(data, "big")
        old = whole >> (size * 8 - offset - bits) & ((1 << bits) - 1)
        if signed and old > hi:
            old -= 1 << bits
        mode = rng.choice(["WRAP", "SAT", "FAIL"])
        incr = rng.choice([rng.randint(-5, 5), rng.randint(-2 ** 63, 2 ** 63 - 1), hi - lo if hi - lo < 2 ** 63 else 1])
        new = old + incr
        if lo <= new <= hi:
            want = new
        elif mode == "SAT":
            want = hi if new > hi else lo
        elif mode == "FAIL":
            want = None
        else:
            want = (new - lo) % (1 << bits) + lo
        name = ("i" if signed else "u") + str(bits)
        got = conn("BITFIELD", "k", "GET", name, offset, "OVERFLOW", mode, "INCRBY", name, offset, incr)
        assert got == [old, want], (name, offset, mode, incr, data)
        stored = old if want is None else want
        mask = ((1 << bits) - 1) << (size * 8 - offset - bits)
        expect = whole & ~mask | (stored & ((1 << bits) - 1)) << (size * 8 - offset - bits)
        assert conn("GET", "k") == expect.to_bytes(size, "big")
