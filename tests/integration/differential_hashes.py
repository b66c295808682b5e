# SPDX-License-Identifier: BSD-3-Clause
"""Hashes, for differential.py: what 7.0 and 7.2 have. Times of fields are newer than both references."""

HASHES = ["h1", "h2", "{t}h", "b"]
FIELDS = ["f", "g", "n", "n2", "", "a\x00b", "7", "-3", "field:with:a:longer:name"]
CONTENTS = {"hash": (["HGETALL"], [], True)}


def commands(gen):
    rng = gen.rng

    def key():
        return rng.choice(HASHES) if rng.random() < 0.93 else gen.key()

    def field():
        return rng.choice(FIELDS) if rng.random() < 0.8 else "x%d" % rng.randint(0, 30)

    def pairs(low, high):
        return [x for _ in range(rng.randint(low, high)) for x in (field(), gen.value())]

    def count():
        return rng.choice(["1", "2", "5", "1000", "0", "-1", "-7", "9223372036854775807", "x", "", "-9223372036854775808"])

    def scan():
        return rng.choice([["COUNT", "1000"], ["COUNT", "1000", "MATCH", "*"], ["MATCH", "[fg]", "COUNT", "1000"],
                           ["COUNT", "0"], ["COUNT", "x"], ["COUNT"], ["MATCH"], ["bad"], ["TYPE", "hash"]])

    return [
        lambda: ["HSET", key()] + pairs(1, 4), lambda: ["HSET", key()] + pairs(1, 2), lambda: ["HSET", key(), field()],
        lambda: ["HSET", key()] + [x for i in range(rng.choice([3, 20, 200])) for x in ("x%d" % i, str(i))],
        lambda: ["HMSET", key()] + pairs(1, 3), lambda: ["HSETNX", key(), field(), gen.value()],
        lambda: ["HGET", key(), field()], lambda: ["HMGET", key()] + gen.some(0, 4, field), lambda: ["HGETALL", key()],
        lambda: ["HKEYS", key()], lambda: ["HVALS", key()], lambda: ["HLEN", key()], lambda: ["HSTRLEN", key(), field()],
        lambda: ["HEXISTS", key(), field()], lambda: ["HDEL", key()] + gen.some(0, 4, field),
        lambda: ["HDEL", key()] + ["x%d" % i for i in range(200)] + FIELDS,
        lambda: ["HINCRBY", key(), rng.choice(["n", "n2", field()]), gen.integer()],
        lambda: ["HINCRBYFLOAT", key(), rng.choice(["n", "n2", field()]), rng.choice(
            ["0.1", "1.5", "-2", "1e3", "3.0e-2", "abc", "", "inf", "-nan", "1e400", "0.000001", "123456789.125", " 1"])],
        lambda: ["HRANDFIELD", key()] + rng.choice([[], [count()], [count(), "WITHVALUES"], [count(), "bad"],
                                                    ["1", "WITHVALUES", "x"]]),
        lambda: ["HSCAN", key(), rng.choice(["0", "0", "0", "x"])] + rng.choice([["COUNT", "1000"], scan()]),
        lambda: [rng.choice(["HSET", "HGET", "HDEL", "HLEN", "HMGET", "HSCAN", "HINCRBY", "HGETALL"])] + gen.some(0, 1, key),
    ]


def paired(node):
    """[[field, value], ...] of a flat array, a map, or an array of pairs, as renderings."""
    if node.kind == "%":
        return [[name.render(), value.render()] for name, value in node.value]
    flat = [n.render() if n.kind != "*" else [x.render() for x in n.value] for n in node.value]
    return flat if flat and isinstance(flat[0], list) else [flat[i:i + 2] for i in range(0, len(flat), 2)]


def normal(args, node):
    name = args[0].upper()
    if node.kind not in "*%~":
        return "some field" if name == "HRANDFIELD" and node.kind == "$" and node.value is not None else None
    if name == "HGETALL":
        return sorted(map(str, paired(node)))
    if name in ("HKEYS", "HVALS"):
        return sorted(n.render() for n in node.value)
    if name == "HSCAN":
        return [node.value[0].render(), sorted(map(str, paired(node.value[1])))]
    if name == "HRANDFIELD":
        if args[2] in ("1000", "9223372036854775807"):
            return sorted(map(str, paired(node) if len(args) > 3 else [n.render() for n in node.value]))
        return [n.kind for n in node.value]
    return None


def skip(args):
    if args[0].upper() == "HRANDFIELD" and len(args) > 2 and args[2] == "-9223372036854775808":
        return "named in the test of the family: the reply says which range"
    return None
