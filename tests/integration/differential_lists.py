# SPDX-License-Identifier: BSD-3-Clause
"""Lists, for differential.py. Redis 7.0 keeps every list as a quicklist; with VALKEY, which says
that the reference is Valkey 8, encodings are compared too."""

VALKEY = False  # set by differential.py
LISTS = ["l1", "l2", "l3", "{t}l", "l\x00"]
CONTENTS = {"list": (["LRANGE"], ["0", "-1"], False)}
BEYOND_INT = ("9223372036854775807", "9223372036854775808", "2147483648")
FILLS = ["-2", "-2", "-1", "-3", "1", "2", "5", "16", "128", "0"]


def commands(gen):
    rng = gen.rng

    def key():
        return rng.choice(LISTS) if rng.random() < 0.97 else gen.key()

    def element():
        """Few different ones, so that searches find something; now and then one that does not fit in a node."""
        roll = rng.random()
        if roll < 0.6:
            return rng.choice(["a", "b", "c", "", "1", "2", "-1", "01", "127", "128", "-4097", "9223372036854775807"])
        if roll < 0.93:
            return rng.choice("xyz") * rng.choice([1, 63, 64, 100, 100, 300])
        if roll < 0.97:
            return rng.choice("XYZ") * rng.choice([1000, 4000, 4095, 4096, 8180, 8192, 8193])
        return gen.value()

    def some(low, high, make=element):
        return [make() for _ in range(rng.randint(low, high))]

    def index():
        return str(rng.choice([rng.randint(-5, 5), rng.randint(-60, 60)])) if rng.random() < 0.95 else gen.integer()

    def end():
        return rng.choice(["LEFT", "RIGHT", "left", "right"]) if rng.random() < 0.97 else rng.choice(["", "UP", "HEAD"])

    def count():
        return rng.choice([[], [], [], [rng.choice(["0", "1", "2", "3", "5", "20"])], [gen.integer()], ["1", "2"]])

    def keys():
        names = some(1, 3, key)
        return [str(len(names)) if rng.random() < 0.95 else rng.choice(["0", "-1", "x", "4", "99999999999"])] + names

    def timeout():
        """Not 0: nobody would end the wait."""
        return rng.choice(["0.001", "0.002", "0.001", "x", "-1", "-0.5", ""])

    def mpop():
        return keys() + [end()] + rng.choice([[], [], ["COUNT", index()], ["count", "2"], ["COUNT"], ["COUNT", "1", "COUNT", "1"]])

    def pos_options():
        out = []
        for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
            out += rng.choice([["RANK", index()], ["COUNT", rng.choice(["0", "1", "2", "10"])], ["MAXLEN", rng.choice(["0", "1", "10", "50"])],
                               ["rank", "-1"], ["COUNT", index()], ["MAXLEN", index()], ["RANK"], ["WHAT", "1"]])
        return out

    def push():
        return [rng.choice(["LPUSH", "RPUSH", "RPUSH", "LPUSHX", "RPUSHX"]), key()] + some(1, 4)

    return [
        push, push, push, push, push,
        lambda: [rng.choice(["LPUSH", "RPUSH"]), key()] + some(10, 60),
        lambda: ["LPOP", key()] + count(), lambda: ["RPOP", key()] + count(),
        lambda: ["LLEN", key()], lambda: ["LINDEX", key(), index()],
        lambda: ["LSET", key(), index(), element()], lambda: ["LSET", key(), index(), element()],
        lambda: ["LINSERT", key(), rng.choice(["BEFORE", "AFTER", "before", "after", "IN"]), element(), element()],
        lambda: ["LINSERT", key(), rng.choice(["BEFORE", "AFTER"]), element(), element()],
        lambda: ["LRANGE", key(), index(), index()], lambda: ["LRANGE", key(), "0", "-1"],
        lambda: ["LTRIM", key(), rng.choice(["0", "1", "2", index()]), rng.choice(["-1", "-2", "30", index()])],
        lambda: ["LREM", key(), rng.choice(["0", "1", "-1", "2", index()]), element()],
        lambda: ["LPOS", key(), element()] + pos_options(), lambda: ["LPOS", key(), element()] + pos_options(),
        lambda: ["LMOVE", key(), key(), end(), end()], lambda: ["RPOPLPUSH", key(), key()],
        lambda: ["LMPOP"] + mpop(), lambda: ["BLMPOP", timeout()] + mpop(),
        lambda: [rng.choice(["BLPOP", "BRPOP"])] + some(1, 3, key) + [timeout()],
        lambda: ["BLMOVE", key(), key(), end(), end(), timeout()], lambda: ["BRPOPLPUSH", key(), key(), timeout()],
        lambda: ["OBJECT", "ENCODING", key()],
        lambda: ["CONFIG", "SET", "list-max-listpack-size", rng.choice(FILLS)] if rng.random() < 0.3 else ["LLEN", key()],
        lambda: ["CONFIG", "SET", "list-compress-depth", rng.choice(["0", "0", "1", "2"])] if rng.random() < 0.3 else ["LLEN", key()],
        lambda: [rng.choice(["LPUSH", "LPOP", "LINSERT", "LSET", "LMOVE", "BLPOP", "LMPOP", "LREM", "LPOS"])] + some(0, 3, key),
    ]


def skip(args):
    if args[0].upper() in ("LPOS", "LREM") and "-9223372036854775808" in args and not VALKEY:
        return "an error since 7.2"
    if args[0].upper() == "LSET" and len(args) > 2 and str(args[2]).lstrip("-") in BEYOND_INT:
        return "the others cut the index to 32 bits"
    return None


def normal(args, node):
    if args[0].upper() == "OBJECT" and node.render() == '"quicklist"' and not VALKEY:
        return '"listpack"'
    return None
