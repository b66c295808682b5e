# SPDX-License-Identifier: BSD-3-Clause
"""Edge cases for test_differential.py, worked through systematically: every command of a family with every combination of
options and odd arguments. A session is a list of commands for one fresh connection on an empty keyspace; a command is a list
of arguments or a line. What 7.2 answers otherwise than 7.0 is not among them: test_connection.py and others say it."""
import itertools

INTS = ["0", "1", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "abc", "", " 1", "1 ", "+1", "01",
        "1.5", "-0", "1e3"]
FLOATS = ["0", "-1", "0.1", "3.0e3", "1e400", "inf", "-inf", "nan", "abc", "", " 1", "1e308", "0x10", "1.00000000000000000001",
          "100000000000000000000", ".5", "5.", "1e", "-0", "0.000000000000000001"]
LONG = "x" * 300


def flat(parts):
    return [word for part in parts for word in part]


def set_options():
    options = [["NX"], ["XX"], ["GET"], ["KEEPTTL"], ["EX", "100"], ["PX", "100000"], ["EXAT", "4000000000"], ["EX", "0"],
               ["EX", "-1"], ["EX", "9223372036854775807"], ["EX", "9223372036854776"], ["PX", "9223372036854775807"],
               ["PXAT", "1"], ["EX", "abc"], ["EX"], ["PXAT"], ["PERSIST"], ["junk"]]
    for combination in itertools.product(options, repeat=2):
        words = flat(combination)
        yield from (["DEL", "k"], ["SET", "k", "v"] + words, ["SET", "k", "w", "EX", "500"], ["SET", "k", "x"] + words,
                    ["GET", "k"], ["EXPIRETIME", "none"], ["EXISTS", "k"])


def getex_options():
    options = [["PERSIST"], ["EX", "100"], ["EXAT", "4000000000"], ["PXAT", "4000000000000"], ["EX", "0"], ["PX", "abc"],
               ["EXAT", "1"], ["EX"], ["KEEPTTL"], ["EXAT", "9223372036854775807"], ["NX"], ["junk"]]
    for combination in itertools.chain([()], itertools.product(options, repeat=1), itertools.product(options, repeat=2)):
        words = flat(combination)
        yield from (["DEL", "k"], ["GETEX", "k"] + words, ["SET", "k", "v"], ["GETEX", "k"] + words, ["EXISTS", "k"])


def expire_options():
    conditions = [[], ["NX"], ["XX"], ["GT"], ["LT"], ["NX", "XX"], ["NX", "GT"], ["GT", "LT"], ["XX", "GT"], ["XX", "LT"], ["junk"]]
    times = {"EXPIRE": ["100", "0", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775", "-9223372036854776",
                        "abc", "1.5", ""],
             "PEXPIRE": ["100000", "-1", "9223372036854775807", "-9223372036854775808"],
             "EXPIREAT": ["4000000000", "4200000000", "1", "-1", "9223372036854775807"],
             "PEXPIREAT": ["4000000000000", "4200000000000", "0", "9223372036854775807", "x"]}
    for name, values in times.items():
        for value, condition in itertools.product(values, conditions):
            command = [name, "k", value] + condition
            yield from (["DEL", "k"], command, ["SET", "k", "v"], command, ["EXISTS", "k"],
                        ["SET", "k", "v", "PXAT", "4100000000000"], command, ["EXISTS", "k"])
            if name.endswith("AT"):
                yield ["PEXPIRETIME", "k"]


def ranges():
    numbers = ["0", "1", "-1", "5", "-6", "-100", "100", "9223372036854775807", "-9223372036854775808"]
    yield from (["SET", "s", "Hello"], ["SET", "e", ""], ["SET", "i", "12345"])
    for key, start, end in itertools.product(["s", "e", "i", "none"], numbers, numbers):
        yield ["GETRANGE", key, start, end]
        for unit in ([], ["BYTE"], ["BIT"]):
            yield from (["BITCOUNT", key, start, end] + unit, ["BITPOS", key, "1", start, end] + unit,
                        ["BITPOS", key, "0", start, end] + unit)
    for key, start in itertools.product(["s", "e", "i", "none"], numbers):
        yield from (["BITPOS", key, "1", start], ["BITPOS", key, "0", start], ["GETRANGE", key, start, "x"])
    for offset, value in itertools.product(["0", "5", "-1", "536870912", "9223372036854775807", "x"], ["", "a"]):
        yield from (["DEL", "k"], ["SETRANGE", "k", offset, value], ["EXISTS", "k"], ["SET", "k", "12345"],
                    ["SETRANGE", "k", offset, value], ["GET", "k"], ["OBJECT", "ENCODING", "k"])
    for offset, bit in itertools.product(["0", "8", "-1", "4294967296", "x", "", "+1", "01"], ["0", "1", "2", "x"]):
        yield from (["DEL", "k"], ["SETBIT", "k", offset, bit], ["STRLEN", "k"], ["GETBIT", "k", offset])


def numbers():
    for value, by in itertools.product(INTS, INTS):
        for name in ("INCRBY", "DECRBY"):
            yield from (["SET", "k", value], [name, "k", by], ["GET", "k"], ["OBJECT", "ENCODING", "k"])
    for value, by in itertools.product(FLOATS, FLOATS):
        yield from (["SET", "k", value], ["INCRBYFLOAT", "k", by], ["GET", "k"])


def fields():
    types = ["u1", "u8", "u63", "u64", "i1", "i8", "i64", "i65", "u0", "u", "x8", "I8", "u08", ""]
    offsets = ["0", "#1", "#-1", "-1", "x", "", "#", "9223372036854775807", "#9223372036854775807", "+1", "7"]
    for kind, offset in itertools.product(types, offsets):
        yield from (["DEL", "k"], ["BITFIELD", "k", "GET", kind, offset], ["BITFIELD", "k", "SET", kind, offset, "1"], ["GET", "k"])
    values = ["0", "1", "-1", "127", "128", "-129", "256", "9223372036854775807", "-9223372036854775808", "x"]
    for kind, overflow, value in itertools.product(["u2", "u63", "i2", "i63", "i64"], ["WRAP", "SAT", "FAIL", "junk"], values):
        yield from (["DEL", "k"], ["BITFIELD", "k", "OVERFLOW", overflow, "SET", kind, "3", value, "INCRBY", kind, "3", "1",
                                   "INCRBY", kind, "3", "-1", "INCRBY", kind, "3", value], ["GET", "k"])


def lcs():
    yield "MSET a ohmytext b mynewtext c 12345 d '' e 13579"
    options = [["LEN"], ["IDX"], ["WITHMATCHLEN"], ["MINMATCHLEN", "4"], ["MINMATCHLEN", "-1"], ["MINMATCHLEN"], ["junk"]]
    for left, right in itertools.product(["a", "b", "c", "d", "e", "none"], repeat=2):
        for count in range(3):
            for combination in itertools.combinations(options, count):
                yield ["LCS", left, right] + flat(combination)


def databases():
    numbers_ = ["0", "1", "15", "16", "-1", "x", "", "99999999999", "9223372036854775808", "2147483648", "+1"]
    for db in numbers_:
        yield from ("FLUSHALL", "MSET a 1 b 2", "EXPIREAT a 4000000000", ["SELECT", db], "SELECT 0", ["MOVE", "a", db],
                    ["MOVE", "none", db], ["COPY", "a", "c", "DB", db], ["COPY", "b", "b", "DB", db],
                    ["COPY", "b", "c", "DB", db, "REPLACE"], "DBSIZE")
        for second in numbers_:
            yield ["SWAPDB", db, second]
    yield from ("FLUSHALL", "MSET a 1 b 2", "EXPIREAT a 4000000000", "COPY a b", "COPY a b REPLACE", "EXPIRETIME b", "COPY a b DB",
                "COPY a b junk", "COPY a a", "COPY none none", "COPY a b DB 0 DB 1", "RENAME a a", "RENAME none none",
                "RENAMENX a a", "RENAMENX a b", "RENAMENX a z", "EXPIRETIME z", "RENAME z b", "EXPIRETIME b", "PERSIST b",
                "PERSIST b", "EXISTS a b b", "TOUCH b b none", "DEL b b", "TYPE b", "RANDOMKEY", "SCAN", "SCAN x",
                "SCAN 0 COUNT", "SCAN 0 COUNT 0", "SCAN 0 COUNT x", "SCAN 0 MATCH", "SCAN 0 TYPE", "SCAN 0 TYPE junk",
                "SCAN 0 junk x", ["SCAN", ""], ["SCAN", " 0"], "SCAN 0x0", "SCAN 99999999999999999999999", "SCAN +0")


def transactions():
    yield from ("MULTI", "MULTI", "SET a b", "EXEC", "MULTI", "DISCARD", "DISCARD", "EXEC", "MULTI", "WATCH a", "SET a c", "EXEC",
                "MULTI", "GET", "EXEC", "GET a", "MULTI", "nosuch", "EXEC", "MULTI", "EXEC x", "MULTI", "DISCARD x", "EXEC",
                "MULTI", "EXEC", "MULTI", "INCR a", "GET a", "EXEC", "MULTI x", "WATCH", "UNWATCH x", "MULTI",
                "CONFIG SET nosuch x", "EXEC", "MULTI", "SHUTDOWN", "EXEC", "MULTI", "SELECT 1", "SET q 1", "SELECT 99",
                "SELECT 0", "GET q", "DBSIZE", "EXEC", "MULTI", "CLIENT SETNAME foo", "CLIENT GETNAME", "CLIENT REPLY ON",
                "EXEC", "MULTI", "client nosuch", "EXEC", "MULTI", "FLUSHALL", "KEYS *", "RANDOMKEY", "SCAN 0", "SWAPDB 0 1",
                "EXEC", "MULTI", "RESET", "EXEC", "PING")


def unknown():
    yield from (["foo"], ["foo", LONG], ["foo"] + ["a"] * 100, [LONG, "x"], ["foo\r\nbar", "x\r\ny"], [""], ["", ""],
                ["foo\x00bar", "x"], ["get\x00", "x"], ["foo", "a\x00b", "c"], ["CONFIG", "foo"], ["CONFIG", LONG],
                ["config", "a\r\nb"], ["CLIENT", ""], ["OBJECT", "x", "y"], ["MEMORY", "x"], ["foo"] + ["y" * 50] * 5)


def connection():
    yield from ("CLIENT", "CLIENT ID x", "CLIENT GETNAME", ["CLIENT", "SETNAME", "a b"], ["CLIENT", "SETNAME", "a\nb"],
                "CLIENT SETNAME ok", "CLIENT GETNAME", ["CLIENT", "SETNAME", ""], "CLIENT LIST TYPE", "CLIENT LIST TYPE foo",
                ["CLIENT", "LIST", "TYPE", LONG], "CLIENT LIST TYPE master", "CLIENT LIST TYPE replica", "CLIENT LIST ID",
                "CLIENT LIST ID x", "CLIENT LIST ID 999999 0 -1", "CLIENT LIST ID 999999 x", "CLIENT LIST foo", "CLIENT KILL",
                "CLIENT KILL x", "CLIENT KILL ID", "CLIENT KILL ID 0", "CLIENT KILL ID x", "CLIENT KILL ID 999999",
                "CLIENT KILL TYPE foo", "CLIENT KILL TYPE master", ["CLIENT", "KILL", "USER", LONG], "CLIENT KILL SKIPME foo",
                "CLIENT KILL ID 99999 SKIPME", "CLIENT KILL ID 99999 FOO x", "CLIENT KILL ADDR 1.2.3.4:5 LADDR x USER default",
                "CLIENT PAUSE", "CLIENT PAUSE x", "CLIENT PAUSE -1", "CLIENT PAUSE 0 FOO", "CLIENT PAUSE 0 WRITE x",
                "CLIENT PAUSE 1.5", "CLIENT PAUSE x FOO", "CLIENT UNPAUSE x", "CLIENT REPLY", "CLIENT REPLY foo",
                "CLIENT UNBLOCK x", "CLIENT UNBLOCK 1 FOO", "CLIENT UNBLOCK 999 TIMEOUT", "CLIENT UNBLOCK 1 ERROR x",
                "CLIENT NO-EVICT on", "CLIENT NO-EVICT off", "CLIENT NO-EVICT x", "CLIENT TRACKING", "CLIENT TRACKING x", "CLIENT TRACKING off FOO",
                "CLIENT TRACKING on FOO", "CLIENT TRACKING off REDIRECT x", "CLIENT TRACKING off REDIRECT 99999",
                "CLIENT TRACKING on OPTIN OPTOUT", "CLIENT TRACKING on PREFIX a", "CLIENT TRACKING on BCAST OPTIN",
                "CLIENT TRACKING off REDIRECT", "CLIENT TRACKING x PREFIX a", "CLIENT TRACKING off BCAST OPTIN",
                "CLIENT TRACKINGINFO", "CLIENT GETREDIR", "CLIENT CACHING yes", "HELLO 1", "HELLO x", "HELLO 2 AUTH a",
                ["HELLO", "2", "SETNAME", "a b"], "HELLO 2 FOO", "HELLO 2 AUTH nouser x", ["HELLO", "2", LONG], "AUTH", "AUTH x",
                "AUTH default x", "AUTH foo bar", "AUTH a b c", "PING a b", "ECHO", "QUIT")


def introspection():
    yield from ("COMMAND INFO nosuch", "COMMAND INFO client|nosuch", "COMMAND INFO get|x", "COMMAND INFO append get nosuch",
                "COMMAND INFO client|id", "COMMAND INFO copy", "COMMAND INFO mget bitop", "COMMAND DOCS nosuch", "COMMAND COUNT x",
                "COMMAND LIST FOO", "COMMAND LIST FILTERBY", "COMMAND LIST FILTERBY MODULE x", "COMMAND LIST FILTERBY FOO x",
                "COMMAND LIST FILTERBY ACLCAT nosuch", "COMMAND LIST FILTERBY PATTERN APPEND",
                "COMMAND LIST FILTERBY PATTERN client|id", "COMMAND GETKEYS get a", "COMMAND GETKEYS get a b",
                "COMMAND GETKEYS foo a", "COMMAND GETKEYS ping x", "COMMAND GETKEYS mset a 1 b 2", "COMMAND GETKEYS mset a 1 b",
                "COMMAND GETKEYSANDFLAGS set a b GET", "COMMAND GETKEYSANDFLAGS set a b", "COMMAND GETKEYS bitop and d a b c",
                "COMMAND GETKEYSANDFLAGS bitfield a get u8 0", "COMMAND GETKEYSANDFLAGS bitfield a overflow sat get u8 0",
                "COMMAND GETKEYSANDFLAGS bitfield a get u8 0 incrby u8 0 1", "COMMAND GETKEYSANDFLAGS copy a b",
                "COMMAND GETKEYS object encoding a", "COMMAND GETKEYS object foo a", "COMMAND GETKEYS memory usage a",
                "COMMAND GETKEYSANDFLAGS lcs a b len", "COMMAND GETKEYSANDFLAGS getex a", "COMMAND GETKEYSANDFLAGS del a b",
                "MEMORY USAGE none", "MEMORY USAGE k SAMPLES", "MEMORY USAGE k SAMPLES -1", "MEMORY USAGE none FOO", "DEBUG FOO a",
                "DEBUG SLEEP", "DEBUG OBJECT none", "SHUTDOWN foo", "SHUTDOWN SAVE NOSAVE", "SHUTDOWN ABORT", "SHUTDOWN ABORT NOW",
                "LOLWUT VERSION x", "FLUSHALL x", "FLUSHALL ASYNC SYNC", "FLUSHDB SYNC x", "OBJECT FREQ none", "OBJECT HELP x",
                "CONFIG SET a", "CONFIG SET nosuch 1", "CONFIG SET maxmemory x", "CONFIG SET maxmemory 1 2",
                "CONFIG SET maxmemory 0 nosuch 1", "CONFIG SET timeout -1", "CONFIG SET daemonize yes", "CONFIG GET nosuch",
                "CONFIG SET bind 300.300.300.300", "CONFIG REWRITE", "CONFIG RESETSTAT x")


SESSIONS = [set_options, getex_options, expire_options, ranges, numbers, fields, lcs, databases, transactions, unknown, connection,
            introspection]
