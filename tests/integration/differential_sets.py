# SPDX-License-Identifier: BSD-3-Clause
"""Sets, for differential.py. 7.0 has no listpack for them: encodings are compared with Valkey. SPOP draws at random: compared where
it takes nothing or all."""

VALKEY_ONLY = True
SETS = ["st1", "st2", "st3", "{t}st", "c"]
CONTENTS = {"set": (["SMEMBERS"], [], True)}


def commands(gen):
    rng = gen.rng

    def key():
        return rng.choice(SETS) if rng.random() < 0.95 else gen.key()

    def member():
        return rng.choice([lambda: str(rng.randint(-5, 20)), lambda: str(rng.randint(-5, 20)), lambda: "m%d" % rng.randint(0, 9),
                           lambda: rng.choice(["", "x" * 65, "a\x00b", "007", "40000", "3000000000", "-9223372036854775808"]),
                           gen.value])()

    def many():
        n, kind = rng.choice([20, 140, 600]), rng.choice(["%d", "%d", "w%d"])
        return [kind % i for i in range(n)]

    def count():
        return rng.choice(["1", "2", "5", "1000000", "0", "-1", "-7", "9223372036854775807", "x", ""])

    def number():
        return rng.choice(["1", "2", "2", "3", "0", "-1", "x", "9"])

    return [
        lambda: ["SADD", key()] + gen.some(0, 4, member), lambda: ["SADD", key()] + gen.some(1, 8, member),
        lambda: ["SADD", key()] + many(), lambda: ["SREM", key()] + many(), lambda: ["SREM", key()] + gen.some(0, 5, member),
        lambda: ["SCARD", key()], lambda: ["SMEMBERS", key()], lambda: ["SISMEMBER", key(), member()],
        lambda: ["SMISMEMBER", key()] + gen.some(0, 4, member), lambda: ["SMOVE", key(), key(), member()],
        lambda: ["SPOP", key()] + rng.choice([["1000000"], ["0"], ["-1"], ["x"], ["1", "2"]]),
        lambda: ["SRANDMEMBER", key()] + rng.choice([[], [count()], ["1", "x"]]),
        lambda: [rng.choice(["SINTER", "SUNION", "SDIFF"])] + gen.some(0, 4, key),
        lambda: [rng.choice(["SINTER", "SUNION", "SDIFF"])] + gen.some(1, 3, key),
        lambda: [rng.choice(["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]), key()] + gen.some(0, 4, key),
        lambda: [rng.choice(["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]), key()] + gen.some(1, 3, key),
        lambda: ["SINTERCARD", number()] + gen.some(1, 4, key) + rng.choice([[], [], ["LIMIT", number()], ["LIMIT"], ["bad", "1"]]),
        lambda: ["SSCAN", key(), rng.choice(["0", "0", "0", "x"])] + rng.choice(
            [["COUNT", "10000"], ["COUNT", "10000", "MATCH", "m*"], ["COUNT", "0"], ["COUNT"], ["bad"], ["NOVALUES"]]),
        lambda: ["OBJECT", "ENCODING", key()],
        lambda: [rng.choice(["SADD", "SREM", "SINTER", "SMOVE", "SSCAN", "SINTERCARD", "SUNIONSTORE"])] + gen.some(0, 1, key),
    ]


SORTED = ("SMEMBERS", "SINTER", "SUNION", "SDIFF", "SPOP")


def normal(args, node):
    name = args[0].upper()
    if name == "SRANDMEMBER" and node.kind == "$" and node.value is not None:
        return "some member"
    if node.kind not in "*~":
        return None
    if name in SORTED:
        return [node.kind] + sorted(n.render() for n in node.value)
    if name == "SSCAN":
        return [node.value[0].render(), sorted(n.render() for n in node.value[1].value)]
    if name == "SRANDMEMBER":
        return [node.kind] + (sorted(n.render() for n in node.value) if args[2] in ("1000000", "9223372036854775807")
                              else [n.kind for n in node.value])
    return None
