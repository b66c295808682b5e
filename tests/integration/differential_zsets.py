# SPDX-License-Identifier: BSD-3-Clause
"""Sorted sets, for differential.py.

Redis 7.0 writes scores with 17 digits and 7.2 with as many as are needed, so that replies are compared by value. With
VALKEY, which says that the reference is Valkey 8, they are compared byte for byte. Members between
two bounds (BYLEX) are asked for only in sets whose scores are all equal: elsewhere the answer is not defined."""

VALKEY = False  # set by differential.py
ZSETS = ["z1", "z2", "z3", "{t}z", "z\x00"]
LEX = ["lex1", "lex2"]
PLAIN = ["plain1", "plain2"]
MEMBERS = ["a", "b", "c", "d", "aa", "ab", "B", "", "1", "-1", "10", "2", "012", "99999999999999999999", "member\x00x", "\xff\xfe"]
SCORES = ["0", "1", "2", "-1", "3", "1.5", "0.1", "-0", "1e3", "inf", "-inf", "+inf", "1e-7", "123456789.123", "1e300", "5e-324",
          "3.0", "0x10", "9007199254740993", "1e21", "-1e17", "0.30000000000000004"]
BAD_SCORES = ["x", "", "nan", " 1", "1 ", "(1", "1e400", "--1"]
CONTENTS = {"zset": (["ZRANGE"], ["0", "-1", "WITHSCORES"] if VALKEY else ["0", "-1"], False)}


def commands(gen):
    rng = gen.rng

    def key():
        return rng.choice(ZSETS) if rng.random() < 0.96 else gen.key()

    def lex_key():
        return rng.choice(LEX) if rng.random() < 0.97 else "missing"

    def member():
        roll = rng.random()
        if roll < 0.7:
            return rng.choice(MEMBERS)
        if roll < 0.97:
            return "m%d" % rng.randint(0, 60)
        return rng.choice("xyz") * rng.choice([63, 64, 65, 254, 255, 300])

    def score():
        roll = rng.random()
        if roll < 0.5:
            return str(rng.randint(-20, 20))
        if roll < 0.75:
            return rng.choice(SCORES)
        return "%.*g" % (rng.randint(1, 17), rng.uniform(-100, 100)) if roll < 0.97 else rng.choice(BAD_SCORES)

    def some(low, high, make):
        return [make() for _ in range(rng.randint(low, high))]

    def pairs(low, high):
        return [x for _ in range(rng.randint(low, high)) for x in (score(), member())]

    def bound():
        return rng.choice(["-inf", "+inf", "inf", score(), score(), "(" + score(), "(" + score(), "("])

    def lex_bound():
        return rng.choice(["-", "+", "[" + member(), "(" + member(), "[" + member(), "(" + member(), "[", "("]) \
            if rng.random() < 0.96 else rng.choice(["", "a", "-x", "+x", "1"])

    def limit():
        return rng.choice([[], [], ["LIMIT", gen.integer(), gen.integer()], ["LIMIT", str(rng.randint(0, 4)), str(rng.randint(-1, 6))],
                           ["LIMIT", "1"], ["limit", "0", "3"]])

    def scores_too():
        return rng.choice([[], [], ["WITHSCORES"], ["withscores"], ["WITHSCORE"]])

    def flags():
        return [rng.choice(["NX", "XX", "GT", "LT", "CH", "INCR", "nx", "ch"]) for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 3]))]

    def rank_range():
        return [gen.integer(), gen.integer()] if rng.random() < 0.4 else [str(rng.randint(-6, 6)), str(rng.randint(-6, 30))]

    def zrange(name, *target):
        kind = rng.random()
        if kind < 0.35:
            return [name, *target, key()] + rank_range() + rng.choice([[], ["REV"]]) + scores_too() + rng.choice([[], [], [], limit()])
        if kind < 0.7:
            words = [["BYSCORE"], limit(), scores_too(), rng.choice([[], ["REV"]])]
            rng.shuffle(words)
            return [name, *target, key(), bound(), bound()] + sum(words, [])
        words = [["BYLEX"], limit(), rng.choice([[], [], [], ["WITHSCORES"]]), rng.choice([[], ["REV"]])]
        rng.shuffle(words)
        return [name, *target, lex_key(), lex_bound(), lex_bound()] + sum(words, [])

    def source():
        return key() if rng.random() < 0.85 else rng.choice(PLAIN)

    def plain():
        return member() if VALKEY else str(rng.randint(-3, 12))  # 7.0 encodes other sets in another way

    def sources():
        n = rng.choice([1, 1, 2, 2, 2, 3, 4])
        keys = some(n, n, source)
        said = str(n) if rng.random() < 0.95 else rng.choice(["0", "-1", "x", str(n + 1), "9999999999"])
        return n, [said] + keys

    def combined(name, *target, options=True, scores=True):
        n, words = sources()
        tail = []
        if options:
            tail = [rng.choice([[], ["WEIGHTS"] + some(n, n, score)]), rng.choice([[], ["AGGREGATE", rng.choice(["SUM", "MIN", "max", "avg"])]])]
        if scores or rng.random() < 0.05:
            tail.append(scores_too())
        rng.shuffle(tail)
        return [name, *target] + words + sum(tail, [])

    def count():
        return rng.choice([[], [], ["COUNT", str(rng.randint(-1, 6))], ["COUNT"], ["COUNT", "x"], ["count", "3"]])

    def mpop():
        _, words = sources()
        return words + [rng.choice(["MIN", "MAX", "min", "max", "mid"])] + count()

    return [
        lambda: ["ZADD", key()] + flags() + pairs(0 if rng.random() < 0.05 else 1, 4),
        lambda: ["ZADD", key()] + pairs(1, 6),
        lambda: ["ZADD", key()] + pairs(10, 30) if rng.random() < 0.3 else ["ZADD", key()] + pairs(1, 2),
        lambda: ["ZADD", rng.choice(LEX)] + [x for _ in range(rng.randint(1, 5)) for x in ("0", member())],
        lambda: ["ZINCRBY", key(), score(), member()], lambda: ["ZREM", key()] + some(1, 4, member),
        lambda: ["ZCARD", key()], lambda: ["ZSCORE", key(), member()], lambda: ["ZMSCORE", key()] + some(1, 4, member),
        lambda: ["ZRANK", key(), member()] + rng.choice([[], [], ["WITHSCORE"], ["x"], ["WITHSCORE", "x"]]),
        lambda: ["ZREVRANK", key(), member()] + rng.choice([[], [], ["withscore"]]),
        lambda: ["ZCOUNT", key(), bound(), bound()], lambda: ["ZLEXCOUNT", lex_key(), lex_bound(), lex_bound()],
        lambda: zrange("ZRANGE"), lambda: zrange("ZRANGE"), lambda: zrange("ZRANGESTORE", rng.choice(ZSETS)),
        lambda: ["ZREVRANGE", key()] + rank_range() + scores_too(),
        lambda: ["ZRANGEBYSCORE", key(), bound(), bound()] + scores_too() + limit(),
        lambda: ["ZREVRANGEBYSCORE", key(), bound(), bound()] + limit() + scores_too(),
        lambda: ["ZRANGEBYLEX", lex_key(), lex_bound(), lex_bound()] + limit(),
        lambda: ["ZREVRANGEBYLEX", lex_key(), lex_bound(), lex_bound()] + limit(),
        lambda: ["ZREMRANGEBYRANK", key()] + rank_range() if rng.random() < 0.5 else ["ZCARD", key()],
        lambda: ["ZREMRANGEBYSCORE", key(), bound(), bound()] if rng.random() < 0.5 else ["ZCARD", key()],
        lambda: ["ZREMRANGEBYLEX", lex_key(), lex_bound(), lex_bound()] if rng.random() < 0.5 else ["ZCARD", lex_key()],
        lambda: [rng.choice(["ZPOPMIN", "ZPOPMAX"]), key()] + rng.choice([[], [], [str(rng.randint(-1, 5))], ["x"], ["1", "2"]]),
        lambda: ["ZMPOP"] + mpop(), lambda: ["BZMPOP", rng.choice(["0.01", "0.01", "x", "-1"])] + mpop(),
        lambda: [rng.choice(["BZPOPMIN", "BZPOPMAX"])] + some(1, 3, key) + [rng.choice(["0.01", "0.02", "x", "-1", ""])],
        lambda: ["ZRANDMEMBER", key()] + rng.choice([[], [str(rng.randint(-8, 40))], [str(rng.randint(-8, 40)), "WITHSCORES"],
                                                     ["x"], ["1", "x"], ["-9223372036854775808"],
                                                     ["5000000000000000000", "WITHSCORES"], ["9223372036854775807"]]),
        lambda: combined("ZUNION"), lambda: combined("ZINTER"), lambda: combined("ZDIFF", options=rng.random() < 0.05),
        lambda: combined("ZUNIONSTORE", rng.choice(ZSETS), scores=False),
        lambda: combined("ZINTERSTORE", rng.choice(ZSETS), scores=False),
        lambda: combined("ZDIFFSTORE", rng.choice(ZSETS), options=rng.random() < 0.05, scores=False),
        lambda: ["ZINTERCARD"] + sources()[1] + rng.choice([[], [], ["LIMIT", gen.integer()], ["LIMIT"], ["WITHSCORES"]]),
        lambda: ["ZSCAN", key(), rng.choice(["0", "0", "0", "x", "-1"]), "COUNT", "100000"] + rng.choice([[], ["MATCH", rng.choice(["*", "a*", "?", "[ab]", ""])], ["x"], ["MATCH"]]),
        lambda: ["CONFIG", "SET", "zset-max-listpack-entries", rng.choice(["8", "128", "128", "0"] if VALKEY else ["128"])],
        lambda: ["CONFIG", "SET", "zset-max-listpack-value", rng.choice(["64", "64", "64" if VALKEY else "2"])] if rng.random() < 0.3 else ["ZCARD", key()],
        lambda: [rng.choice(["COPY", "RENAME", "RENAMENX"]), rng.choice(ZSETS), rng.choice(ZSETS)],
        lambda: ["DEL", rng.choice(ZSETS + LEX)] if rng.random() < 0.3 else ["OBJECT", "ENCODING", key()],
        lambda: ["SADD", rng.choice(PLAIN)] + some(1, 5, plain), lambda: ["SREM", rng.choice(PLAIN)] + some(1, 2, plain),
        lambda: ["TYPE", key()], lambda: ["PEXPIRE", key(), gen.from_now(1000)],
        lambda: [rng.choice(["ZADD", "ZRANGE", "ZSCORE", "ZUNIONSTORE", "ZMPOP", "BZMPOP", "ZPOPMIN", "ZRANGESTORE", "ZSCAN"])] +
        some(0, 2, key),
    ]


def skip(args):
    name = args[0].upper()
    if name in ("ZRANK", "ZREVRANK") and len(args) > 3 and not VALKEY:
        return "7.0 has no WITHSCORE"
    words = [a.upper() for a in args[:-1]]
    if VALKEY and "LIMIT" in words and args[words.index("LIMIT") + 1].startswith("-"):
        return "Valkey 8 counts a negative offset from the end, Redis finds nothing there"
    if VALKEY and name in ("ZADD", "ZINCRBY") and any(len(a) > 64 for a in args):
        return "Valkey 8 goes over to the large encoding when it sees a long member, even one that is not added"
    if not VALKEY and name == "OBJECT":
        return "7.0 goes over to the large encoding later"
    if name == "ZSCAN" and (args[2:3] == ["-1"] or len(args) == 3):
        return "how far it goes is not the same"
    return None


def by_value(node):
    """The rendering with every number as Python writes it, and -0 as 0."""
    if isinstance(node.value, list):
        return [by_value(n) for n in node.value]
    text = node.value if isinstance(node.value, str) else node.value.decode("latin-1") if node.value is not None else None
    if text == "-0":
        return node.render().replace("-0", "0")  # which encodings keep it is not the same
    if text is not None and node.kind in "$," and (any(ch in text for ch in ".e") or len(text) > 15):
        try:
            return node.kind + repr(float(text))
        except ValueError:
            pass
    return node.render()


def normal(args, node):
    name = args[0].upper()
    if not name.lstrip("B").startswith("Z"):
        return None
    show = (lambda n: n.render()) if VALKEY else by_value
    if name == "ZSCAN" and node.kind == "*" and len(node.value) == 2 and node.value[1].kind == "*":
        items = node.value[1].value
        return [node.value[0].render()] + sorted(str((show(items[i]), show(items[i + 1]))) for i in range(0, len(items), 2))
    if name == "ZRANDMEMBER":
        if node.kind == "*":
            return len(node.value) if len(args) > 2 and args[2].lstrip("-").isdigit() and int(args[2]) < 1000 else show(node)
        return node.render() if node.kind == "-" else node.kind
    return show(node)
