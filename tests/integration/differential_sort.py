# SPDX-License-Identifier: BSD-3-Clause
"""SORT, for differential.py: on small lists, sets and sorted sets, with weights and values in other keys."""

VALKEY_ONLY = True
SOURCES = ["sl", "ss", "sz", "{t}sl"]


def commands(gen):
    rng = gen.rng
    number = lambda: str(rng.randint(0, 9))
    key = lambda: rng.choice(SOURCES * 3 + [gen.key()])

    def options():
        out = []
        for _ in range(rng.choice([0, 1, 1, 2, 2, 3])):
            out += rng.choice([["ASC"], ["DESC"], ["ALPHA"], ["LIMIT", rng.choice(["0", "1", "2", "-1", "x"]), rng.choice(["0", "2", "5", "-1"])],
                               ["BY", rng.choice(["w_*", "w_*", "h_*->f", "nosort", "h_*->", "*", "w_*x", "#"])],
                               ["GET", rng.choice(["#", "#", "w_*", "h_*->f", "v_*", "none", "h_*->nof"])], ["STORE", rng.choice(["dst", "sl"])],
                               ["LIMIT", "1"], ["bad"]])
        return out

    def sort():
        source = key()
        out = options()
        if source not in ("sl", "{t}sl", "sz") and "BY" in out:  # it may be a set, which has no order that two servers share
            out = ["ALPHA"]
        return [rng.choice(["SORT", "SORT", "SORT_RO"]), source] + out
    return [sort] * 6 + [
        lambda: ["RPUSH", rng.choice(["sl", "{t}sl"])] + [number() for _ in range(rng.randint(1, 3))],
        lambda: ["RPUSH", "sl", rng.choice(["a", "x y", "1e3", "-2.5", ""])] if rng.random() < 0.1 else ["LTRIM", "sl", "-8", "-1"],
        lambda: ["SADD", "ss"] + [number() for _ in range(rng.randint(1, 3))],
        lambda: ["ZADD", "sz", number(), number()],
        lambda: ["SET", rng.choice(["w_", "v_"]) + number(), rng.choice([number(), "1.5", "abc", "-7", "z"])],
        lambda: ["SET", "w_" + number(), number()],
        lambda: ["HSET", "h_" + number(), "f", number()],
        lambda: ["DEL", rng.choice(["w_", "h_", "v_"]) + number()],
        lambda: ["DEL", "sl"] if rng.random() < 0.1 else ["LLEN", "sl"],
    ]


def has_ties(args):
    """Elements whose weights are equal texts come in no order that anybody promises."""
    words = [w.upper() if isinstance(w, str) else w for w in args]
    return args[0].startswith("SORT") and "BY" in words and "ALPHA" in words


def skip(args):
    words = [w.upper() if isinstance(w, str) else w for w in args]
    if args[0].startswith("SORT") and "STORE" in words and "ALPHA" not in words:
        return "the reference may refuse numbers (see is_excused), and then its data would differ"
    return "order of ties" if has_ties(args) and ("LIMIT" in words or "STORE" in words or "GET" in words) else None


def normal(args, node):
    return sorted(n.render() for n in node.value) if has_ties(args) and node.kind == "*" else None
