# SPDX-License-Identifier: BSD-3-Clause
"""Random commands, the same to two servers, replies compared byte for byte.

Run by hand for longer than the test does:

    /usr/bin/python3 tests/integration/differential.py --seconds 600 --seed 1 build/kettle-server

What the families of commands send is in differential_*.py beside this file, each with
    commands(gen)       functions that make a command (a list of words); all families are as likely as each other
    skip(args)          optional: why this command is not compared, or None
    normal(args, node)  optional: the rendering to compare (a string or list), or None: as it is
    VALKEY              set before commands are made: the reference is Valkey 8, whose API is that of Redis 7.2
    VALKEY_ONLY         optional, true: what 7.2 changed is too much to compare with redis-server 7.0
    CONTENTS            optional: {type name: ([words before the key], [words after it], sort the reply?)}

The reference is Debian's redis-server (7.0). Where 7.2 is meant to answer otherwise, skip() says so. Replies whose order
is free (KEYS) are sorted, and a TTL may differ by the second that passed between the two servers.
"""
import argparse
import glob
import importlib
import os
import random
import sys
import time

import resp

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
FAMILIES = [importlib.import_module(os.path.basename(path)[:-3])
            for path in sorted(glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), "differential_*.py")))]
CONTENTS = {"string": (["GET"], [], False)}
for family in FAMILIES:
    CONTENTS.update(getattr(family, "CONTENTS", {}))

SETTINGS = [("hll-sparse-max-bytes", "3000"), ("list-max-listpack-size", "-2"), ("list-compress-depth", "0"),
            ("zset-max-listpack-entries", "128"), ("zset-max-listpack-value", "64")]  # what commands of families change

VALKEY = False  # the reference is Valkey 8; set by compare()
KEYS = ["a", "b", "c", "k1", "k2", "{t}1", "{t}2", "num", "f", "", "bin\x00key"]
BAD_INTS = ["x", "", "1.5", "9223372036854775808", " 1", "1 ", "+1", "-", "0x10", "01", "1e3"]
INTS = ["0", "1", "-1", "2", "7", "8", "15", "100", "-100", "255", "65536", "2147483648", "9223372036854775807",
        "-9223372036854775808"]


class Generator:
    def __init__(self, seed, only=None, valkey=False):
        """only: names of families ("streams"), whose commands are then nine in ten; the others are keys' and transactions'."""
        self.rng = random.Random(seed)
        self.n_times = 0
        self.families = [f for f in FAMILIES if not only or f.__name__.replace("differential_", "") in only]
        self.families = [f for f in self.families if valkey or not getattr(f, "VALKEY_ONLY", False)]
        self.family_share = 0.9 if only else 0.6

    def key(self):
        return self.rng.choice(KEYS)

    def integer(self):
        roll = self.rng.random()
        if roll < 0.75:
            return str(self.rng.randint(-20, 40))
        return self.rng.choice(INTS if roll < 0.92 else BAD_INTS)

    def offset(self):
        """A bit or byte offset: never so large that the reply becomes hundreds of megabytes."""
        return str(self.rng.randint(0, 200)) if self.rng.random() < 0.93 else self.rng.choice(
            ["-1", "x", "", "4294967296", "99999999999", "1.0"])

    def value(self):
        rng = self.rng
        kind = rng.randint(0, 9)
        if kind <= 3:
            return str(rng.randint(-1000, 1000))
        if kind == 4:
            return rng.choice(INTS + ["3.14", "1e10", "-0.5", "0.1", "5.0e3", " 1", "nan", "inf", "abc"])
        if kind <= 6:
            return "".join(rng.choice("abcdefgh") for _ in range(rng.choice([0, 1, 5, 12, 43, 44, 45, 100])))
        return bytes(rng.getrandbits(8) for _ in range(rng.choice([1, 2, 3, 8, 9, 33, 70])))

    def from_now(self, unit):
        """A time far in the future that was not given before: of two equal ones GT and LT would see the milliseconds between them,
        which differ from server to server."""
        self.n_times += 1
        return str((100000 + self.n_times * 7919 % 100003) * unit)

    def expiry(self):
        """Far in the future, in the past, or wrong; never near enough to expire during the run."""
        return self.rng.choice([self.from_now(1)] * 5 + ["-1", "0", "x", "9223372036854775807", "-100000", "1.5"])

    def at(self, unit):
        base = self.rng.choice([4000000000, 4100000000, 4200000000, 1, 1000, 0, -5])
        return str(base * unit) if self.rng.random() < 0.93 else self.rng.choice(["x", "9223372036854775807", ""])

    def some(self, low, high, make):
        return [make() for _ in range(self.rng.randint(low, high))]

    def set_options(self):
        out = []
        for _ in range(self.rng.choice([0, 0, 0, 1, 1, 2, 3])):
            out += self.rng.choice([["NX"], ["XX"], ["GET"], ["KEEPTTL"], ["EX", self.expiry()], ["PX", self.from_now(1000)],
                                    ["EXAT", self.at(1)], ["PXAT", self.at(1000)], ["EX"], ["bogus"], ["nx"], ["get"]])
        return out

    def string_command(self):
        rng, key = self.rng, self.key
        return rng.choice([
            lambda: ["SET", key(), self.value()] + self.set_options(),
            lambda: ["SET", key(), self.value()] + self.set_options(),
            lambda: ["GET", key()], lambda: ["GETDEL", key()], lambda: ["GETSET", key(), self.value()],
            lambda: ["GETEX", key()] + rng.choice([[], ["PERSIST"], ["EX", self.expiry()], ["PXAT", self.at(1000)],
                                                   ["EXAT", self.at(1)], ["KEEPTTL"], ["EX"], ["PX", self.from_now(1000)]]),
            lambda: ["SETNX", key(), self.value()], lambda: ["SETEX", key(), self.expiry(), self.value()],
            lambda: ["PSETEX", key(), rng.choice([self.from_now(1000), "0", "-1", "x"]), self.value()],
            lambda: ["APPEND", key(), self.value()], lambda: ["STRLEN", key()],
            lambda: ["INCR", rng.choice(["num", key()])], lambda: ["DECR", rng.choice(["num", key()])],
            lambda: ["INCRBY", rng.choice(["num", key()]), self.integer()],
            lambda: ["DECRBY", rng.choice(["num", key()]), self.integer()],
            lambda: ["INCRBYFLOAT", rng.choice(["f", "num", key()]), rng.choice(
                ["0.1", "1.5", "-2", "1e3", "3.0e-2", "abc", "", "inf", "1e400", "0.000001", "123456789.125", " 1"])],
            lambda: ["GETRANGE", key(), self.integer(), self.integer()],
            lambda: ["SUBSTR", key(), self.integer(), self.integer()],
            lambda: ["SETRANGE", key(), self.offset(), self.value()],
            lambda: ["MGET"] + self.some(1, 4, key),
            lambda: ["MSET"] + [x for _ in range(rng.randint(1, 3)) for x in (key(), self.value())],
            lambda: ["MSETNX"] + [x for _ in range(rng.randint(1, 3)) for x in (key(), self.value())],
            lambda: ["LCS", key(), key()] + rng.choice([[], [], ["LEN"], ["IDX"], ["IDX", "WITHMATCHLEN"],
                                                        ["IDX", "MINMATCHLEN", self.integer()], ["bogus"]]),
        ])()

    def field_ops(self):
        out = []
        for _ in range(self.rng.randint(0, 4)):
            kind = self.rng.choice(["u", "i"]) + str(self.rng.choice([1, 2, 5, 8, 13, 16, 31, 32, 63, 64, 0, 65]))
            offset = self.rng.choice(["#", ""]) + self.offset()
            out += self.rng.choice([["GET", kind, offset], ["SET", kind, offset, self.integer()],
                                    ["INCRBY", kind, offset, self.integer()],
                                    ["OVERFLOW", self.rng.choice(["WRAP", "SAT", "FAIL", "what"])]])
        return out

    def bitmap_command(self):
        rng, key = self.rng, self.key
        unit = lambda: rng.choice([[], ["BYTE"], ["BIT"], ["bit"], ["what"]])
        return rng.choice([
            lambda: ["SETBIT", key(), self.offset(), rng.choice(["0", "1", "1", "2", "x"])],
            lambda: ["GETBIT", key(), self.offset()],
            lambda: ["BITCOUNT", key()] + rng.choice([[], [self.integer(), self.integer()] + unit(), [self.integer()]]),
            lambda: ["BITPOS", key(), rng.choice(["0", "1", "2", "x"])] + rng.choice(
                [[], [self.integer()], [self.integer(), self.integer()] + unit()]),
            lambda: ["BITOP", rng.choice(["AND", "OR", "XOR", "NOT", "and", "WHAT"]), key()] + self.some(1, 3, key),
            lambda: ["BITFIELD", key()] + self.field_ops(),
            lambda: ["BITFIELD_RO", key()] + self.field_ops(),
        ])()

    def conditions(self):
        return self.rng.choice([[], [], ["NX"], ["XX"], ["GT"], ["LT"], ["NX", "GT"], ["XX", "LT"], ["GT", "LT"], ["bad"]])

    def generic_command(self):
        rng, key = self.rng, self.key
        return rng.choice([
            lambda: ["DEL"] + self.some(1, 3, key), lambda: ["UNLINK"] + self.some(1, 3, key),
            lambda: ["EXISTS"] + self.some(1, 3, key), lambda: ["TOUCH"] + self.some(1, 3, key),
            lambda: ["TYPE", key()], lambda: ["TTL", key()], lambda: ["EXPIRETIME", key()],
            lambda: ["PERSIST", key()], lambda: ["EXPIRE", key(), self.expiry()] + self.conditions(),
            lambda: ["EXPIREAT", key(), self.at(1)] + self.conditions(),
            lambda: ["PEXPIREAT", key(), self.at(1000)] + self.conditions(),
            lambda: ["PEXPIRE", key(), rng.choice([self.from_now(1000), self.from_now(1000), "-5", "x"])] + self.conditions(),
            lambda: ["RENAME", key(), key()], lambda: ["RENAMENX", key(), key()],
            lambda: ["COPY", key(), key()] + rng.choice([[], ["REPLACE"], ["DB", rng.choice(["0", "1", "2", "77", "x"])],
                                                         ["DB", "1", "REPLACE"], ["DB"], ["bad"]]),
            lambda: ["MOVE", key(), rng.choice(["0", "1", "2", "77", "-1", "x"])],
            lambda: ["SWAPDB", rng.choice("012x"), rng.choice("0129x")],
            lambda: ["SELECT", rng.choice(["0", "0", "0", "1", "2", "77", "x"])],
            lambda: ["DBSIZE"], lambda: ["KEYS", rng.choice(["*", "k?", "[ab]", "{t}*", "n[^x]m", "\\a", "?", ""])],
            lambda: ["OBJECT", rng.choice(["ENCODING", "REFCOUNT", "FREQ", "what"]), key()],
            lambda: [rng.choice(["GET", "SET", "MGET", "INCR", "EXPIRE", "COPY", "BITOP", "OBJECT", "BITCOUNT", "nosuch"])],
            lambda: ["FLUSHDB"] if rng.random() < 0.1 else ["DBSIZE"],
            lambda: ["FLUSHALL"] if rng.random() < 0.05 else ["EXISTS", key()],
            lambda: ["PING"] + self.some(0, 2, self.value), lambda: ["ECHO"] + self.some(0, 2, self.value),
        ])()

    def multi_command(self):
        return self.rng.choice([["MULTI"], ["EXEC"], ["EXEC"], ["DISCARD"], ["WATCH"] + self.some(1, 3, self.key),
                                ["UNWATCH"], ["WATCH"], ["MULTI", "x"], ["MULTI"]])

    def family_command(self):
        return self.rng.choice(self.rng.choice(self.families).commands(self))()

    def command(self):
        if self.families and self.rng.random() < self.family_share:
            return self.family_command()
        roll = self.rng.random()
        if roll < 0.45:
            return self.string_command()
        if roll < 0.65:
            return self.bitmap_command()
        if roll < 0.90:
            return self.generic_command()
        return self.multi_command()


def as_bytes(arg):
    return arg if isinstance(arg, bytes) else arg.encode("latin-1")


def skip(args):
    """Why this command is not compared, or None. What 7.2 answers differently from 7.0."""
    for module in FAMILIES:
        why = module.skip(args) if hasattr(module, "skip") else None
        if why:
            return why
    name = args[0].upper()
    if name in ("BITCOUNT", "BITPOS"):
        return None if well_formed_bits(args) else "7.2 checks the arguments before it looks for the key"
    if name == "OBJECT" and len(args) > 1 and args[1].upper() == "REFCOUNT":
        return "shared small integers are an implementation detail"
    return None


def well_formed_bits(args):
    rest = args[2:] if args[0].upper() == "BITCOUNT" else args[3:]
    units = ("BYTE", "BIT")
    if args[0].upper() == "BITCOUNT" and len(rest) == 1:
        return False
    for index, arg in enumerate(rest):
        if index == 2:
            if arg.upper() not in units:
                return False
        else:
            try:
                if str(int(arg)) != arg or not -2 ** 63 <= int(arg) < 2 ** 63:
                    return False
            except ValueError:
                return False
    return True


def normal(args, node):
    """The rendering to compare."""
    for module in FAMILIES:
        shown = module.normal(args, node) if hasattr(module, "normal") else None
        if shown is not None:
            return shown
    name = args[0].upper()
    if name == "DBSIZE" and VALKEY and node.kind == ":":
        return "size"  # Valkey 8 deletes a key that is set with a time in the past at once
    if name == "KEYS" and node.kind == "*":
        return sorted(n.render() for n in node.value)
    if name == "TTL" and node.kind == ":" and int(node.value) > 0:
        return "ttl"
    if name == "EXPIRETIME" and node.kind == ":" and 0 < int(node.value) < 4000000000:
        return node.render()[:6]  # a relative time: the two servers carry a pipeline out at different times
    return node.render()


def is_excused(args, reference):
    """Replies of the reference that depend on what it did before. SORT there looks at errno without having cleared it: after an
    overflow anywhere in the process it refuses numbers that are none of its business."""
    text = reference.render()
    return args[0].upper() in ("SORT", "SORT_RO", "EXEC") and "One or more scores can't be converted" in str(text)


class Difference(Exception):
    pass


def compare(left, right, seed, seconds, limit=None, proto=None, only=None, pipeline=128):
    """left and right: functions that open a connection. Returns the number of commands compared."""
    with left() as conn:
        left_is_valkey = "valkey" in str(conn.ok("INFO", "server"))
    for module in FAMILIES + [sys.modules[__name__]]:
        module.VALKEY = left_is_valkey
    generator = Generator(seed, only, left_is_valkey)
    pairs = []
    for _ in range(2):
        pair = left(), right()
        pairs.append(pair)
        if proto or generator.rng.random() < 0.5:
            for conn in pair:
                conn.hello(proto or 3)
    inspect = left(), right()
    for conn in inspect:
        conn.ok("FLUSHALL")
        for setting in SETTINGS:  # an earlier run may have left others
            conn.ok("CONFIG", "SET", *setting)
        conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")  # or DBSIZE would depend on when each server's cron runs
    history, count, looked = [], 0, 0
    queued, open_multi, watching = [[], []], [False, False], [False, False]
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline and (limit is None or count < limit):
            which = 0 if generator.rng.random() < 0.8 else 1
            first, second = pairs[which]
            batch = []
            for _ in range(generator.rng.choice([1, 1, pipeline // 16, pipeline // 4, pipeline])):  # the others are a pipeline
                args = generator.command()
                if skip(args) or (open_multi[which] and args[0] in ("MULTI", "WATCH") and left_is_valkey):
                    continue  # Valkey 8 refuses these two inside MULTI in another way, which aborts the transaction
                if any(watching) and args[0].upper() == "BITFIELD" and "FAIL" in args:
                    continue  # a string that grew has changed, which others tell nobody when the operation itself failed
                watching[which] = args[0] == "WATCH" or (watching[which] and args[0] not in ("EXEC", "DISCARD", "UNWATCH"))
                if args[0].upper() in ("MULTI", "EXEC", "DISCARD") and len(args) == 1:
                    open_multi[which] = args[0].upper() == "MULTI"
                batch.append(args)
            raw = b"".join(resp.encode(*[as_bytes(a) for a in args]) for args in batch)
            for conn in (first, second):
                conn.send(raw)
            for args, *got in zip(batch, [first.read() for _ in batch], [second.read() for _ in batch]):
                history.append((which, args))
                shown = [rendered(args, node, other, queued[which]) for node, other in (got, got[::-1])]
                note_queued(args, got[0], queued, which)
                if shown[0] != shown[1] and not is_excused(args, got[0]):
                    raise Difference("seed %d, command %d, connection %d, RESP%d: %r\n  reference %s\n  server    %s\n  before:\n%s" % (
                        seed, count, which, first.proto, args, shown[0], shown[1],
                        "\n".join("    %d %r" % item for item in history[-int(os.environ.get("KETTLE_DIFF_HISTORY", "12")):])))
                count += 1
            if count >= looked + 500:
                looked = count
                same_contents(inspect, seed, count, history, left_is_valkey)
        same_contents(inspect, seed, count, history, left_is_valkey)
    finally:
        for conn in inspect:
            conn.close()
        for pair in pairs:
            for conn in pair:
                conn.close()
    return count


def rendered(args, node, other, inner):
    """What is compared of a reply: of EXEC's each by the command that was queued."""
    if args[0].upper() == "EXEC" and node.kind == "*" and other.kind == "*" and len(node.value) == len(other.value):
        return [normal(a, n) for a, n in zip(inner, node.value)] if len(inner) == len(node.value) else node.render()
    return normal(args, node)


def note_queued(args, node, queued, which):
    name = args[0].upper()
    if node.render() == "+QUEUED":
        queued[which].append(args)
    elif name in ("EXEC", "DISCARD") or (name == "MULTI" and node.kind != "-"):
        queued[which] = []


def ask_all(conn, commands):
    """Replies to commands sent as one pipeline."""
    conn.send(b"".join(resp.encode(*command) for command in commands))
    return [conn.read() for _ in commands]


def same_contents(pair, seed, count, history, left_is_valkey):
    """Every key of every database holds the same on both sides; pair is a pair of connections of its own."""
    for db in range(3):
        names = [sorted(ask_all(conn, [("SELECT", str(db)), ("KEYS", "*")])[1].py) for conn in pair]
        if names[0] != names[1]:
            raise Difference("seed %d after %d commands: keys differ in db %d: %r %r" % (seed, count, db, *names))
        kinds = [node.py for node in ask_all(pair[0], [("TYPE", key) for key in names[0]])]
        looks = []  # (what it is called, kind of the key, key, command)
        for key, kind in zip(names[0], kinds):
            before, after, _ = CONTENTS.get(kind, (["TYPE"], [], False))
            looks += [(name, kind, key, name.split() + [key]) for name in ("TYPE", "PEXPIRETIME", "OBJECT ENCODING")]
            looks.append(("contents", kind, key, [*before, key, *after]))
        answers = [ask_all(conn, [look[3] for look in looks]) for conn in pair]
        for (name, kind, key, _), *nodes in zip(looks, *answers):
            values = [node.render() for node in nodes]
            if name == "contents" and CONTENTS.get(kind, (0, 0, False))[2]:
                values = [sorted(n.render() for n in node.value) if node.kind in "*~" else node.render() for node in nodes]
            if values[0] != values[1] and not is_free(name, kind, values, left_is_valkey):
                raise Difference("seed %d after %d commands: %s %r in db %d differs: %s %s\n%s" % (
                    seed, count, name, key, db, values[0], values[1],
                    "\n".join("    %d %r" % item for item in history[-800:] if as_bytes(key.decode("latin-1")) in
                              [as_bytes(a) for a in item[1]])))


def is_free(name, kind, values, left_is_valkey):
    """Differences of what a key holds that are meant, or are the clocks'."""
    if name == "PEXPIRETIME":
        return 0 < int(values[0][1:]) < 4000000000000 and values[0][:6] == values[1][:6]  # relative times
    if name != "OBJECT ENCODING":
        return False
    if values == ['"skiplist"', '"listpack"']:
        return True  # SORT there leaves a sorted set, or what is copied from it, in its large encoding
    if kind == "list" and not left_is_valkey:
        return True  # always a quicklist there
    return sorted(values) == ['"embstr"', '"int"']  # what INCRBYFLOAT leaves behind; test_strings.py looks at it


def main():
    import tempfile
    import certs
    import harness
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server")
    parser.add_argument("--reference", default="redis-server")
    parser.add_argument("--transport", default="tcp", choices=["tcp", "tls-user", "tls-kernel"])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", action="append", help="a family: the NAME of differential_NAME.py; may be repeated")
    parser.add_argument("--per-seed", type=int, default=5000, help="commands before the servers start anew with the next seed")
    parser.add_argument("--pipeline", type=int, default=128, help="commands sent together, at most")
    parser.add_argument("--keep-going", action="store_true", help="report a difference and go on with the next seed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = certs.make(folder)
        running = []
        seed = args.seed if args.seed is not None else int(time.time())
        total, found, told = 0, 0, time.monotonic()
        try:
            for path, transport in ((args.reference, "tcp"), (args.server, args.transport)):
                running.append(harness.Server(harness.Env(path, False, made), transport))
            reference, server = running
            deadline = time.monotonic() + args.seconds
            while time.monotonic() < deadline:
                try:
                    total += compare(reference.connect, server.connect, seed, deadline - time.monotonic(), limit=args.per_seed,
                                     only=args.only, pipeline=args.pipeline)
                except Difference as difference:
                    found += 1
                    print(difference, flush=True)
                    if not args.keep_going:
                        return 1
                seed += 1
                if time.monotonic() - told > 30:
                    told = time.monotonic()
                    print("%d s left, seed %d, %d commands, %d differences" % (deadline - time.monotonic(), seed, total, found), flush=True)
        except KeyboardInterrupt:
            pass
        finally:
            for instance in running:
                instance.stop()
        print("%d commands compared, %d differences" % (total, found))
        return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
