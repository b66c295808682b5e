# SPDX-License-Identifier: BSD-3-Clause
"""Streams, for differential.py. IDs are given, never the clock's, so that both servers have the same."""

VALKEY_ONLY = True
STREAMS = ["s1", "s2", "{t}s", "a"]
GROUPS = ["g", "h", "nogroup"]
CONSUMERS = ["alice", "bob", "carol"]
CONTENTS = {"stream": (["XRANGE"], ["-", "+"], False)}


def commands(gen):
    rng = gen.rng

    def key():
        return rng.choice(STREAMS) if rng.random() < 0.95 else gen.key()

    def ident():
        return rng.choice([lambda: "%d-%d" % (rng.randint(0, 30), rng.randint(0, 3))] * 9 +
                          [lambda: str(rng.randint(0, 40))] * 3 + [lambda: rng.choice(
                              ["x", "", "-", "+", "1-", "-1", "1-x", "0-0", "007-01", "18446744073709551615-18446744073709551615",
                               "18446744073709551616", "5-18446744073709551615", "1--1", "3-*", "$", ">"])])()

    def bound():
        return rng.choice(["-", "+", ident(), ident(), "(" + ident(), "(-", "("])

    def fields():
        names = rng.choice([["f"], ["f", "g"], ["f", "g", "h"], ["x%d" % rng.randint(0, 3)]])
        pairs = [x for name in names for x in (name, gen.value())]
        return pairs if rng.random() < 0.97 else pairs[:-1]

    def trim():
        out = rng.choice([["MAXLEN"], ["MINID"]]) + rng.choice([[], ["~"], ["="], ["~"]])
        out += [str(rng.randint(0, 12)) if out[0] == "MAXLEN" else ident()] if rng.random() < 0.95 else rng.choice([[], ["-1"], ["x"]])
        return out + rng.choice([[], [], [], ["LIMIT", rng.choice(["0", "1", "5", "-1", "x"])]])

    def count():
        return rng.choice([[], [], ["COUNT", str(rng.randint(-1, 5))], ["COUNT", "x"], ["COUNT"], ["bogus"]]) \
            if rng.random() < 0.3 else ["COUNT", str(rng.randint(1, 4))]

    def add_id():
        ms = max(gen.__dict__.get("stream_ms", 1), 1)
        gen.stream_ms = ms + rng.choice([0, 0, 1])
        return rng.choice(["%d-*" % ms, "%d-%d" % (ms, rng.randint(0, 5)), "%d" % ms, "%d-*" % ms]) \
            if rng.random() < 0.95 else ident()

    def xadd():
        return ["XADD", key()] + rng.choice([[], [], [], [], ["NOMKSTREAM"], trim(), trim()]) + [add_id()] + fields()

    def streams(mark):
        n = rng.randint(1, 2)
        out = ["STREAMS"] + [key() for _ in range(n)]
        return out + [rng.choice([mark, mark, ident()]) for _ in range(n if rng.random() < 0.97 else n + 1)]

    def claim():
        out = []
        for _ in range(rng.choice([0, 0, 1, 1, 2])):
            out += rng.choice([["FORCE"], ["FORCE"], ["JUSTID"], ["RETRYCOUNT", str(rng.randint(-1, 5))], ["TIME", "1000"],
                               ["IDLE", str(rng.choice([0, 1000000]))], ["LASTID", ident()], ["IDLE", "x"], ["bad"]])
        return out

    group = lambda: rng.choice(GROUPS[:2] * 10 + GROUPS)
    who = lambda: rng.choice(CONSUMERS)
    return [xadd] * 12 + [
        lambda: ["XLEN", key()],
        lambda: ["XRANGE", key(), bound(), bound()] + count(),
        lambda: ["XREVRANGE", key(), bound(), bound()] + count(),
        lambda: ["XDEL", key()] + [ident() for _ in range(rng.randint(1, 3))],
        lambda: ["XDEL", key()] + [ident() for _ in range(rng.randint(1, 3))],
        lambda: ["XTRIM", key()] + trim(),
        lambda: ["XTRIM", key()] + rng.choice([[], ["bogus", "1"], ["LIMIT", "5"]]),
        lambda: ["XSETID", key(), ident()] + rng.choice([[], [], ["ENTRIESADDED", str(rng.randint(-1, 50))], ["MAXDELETEDID", ident()],
                                                        ["ENTRIESADDED", "50", "MAXDELETEDID", ident()], ["bad"]]),
        lambda: ["XREAD"] + count() + streams("0"), lambda: ["XREAD"] + count() + streams("$"),
        lambda: ["XREAD", "NOACK"] + streams("0"), lambda: ["XREAD", "GROUP", "g", "alice"] + streams("0"),
        lambda: ["XGROUP", "CREATE", key(), group(), rng.choice(["$", "0", ident()])] + rng.choice(
            [[], ["MKSTREAM"], ["ENTRIESREAD", str(rng.randint(-2, 9))], ["bad"]]),
        lambda: ["XGROUP", "CREATE", key(), "g", "0", "MKSTREAM"], lambda: ["XGROUP", "CREATE", key(), "h", "0", "MKSTREAM"],
        lambda: ["XGROUP", "SETID", key(), group(), rng.choice(["$", "0", ident()])] + rng.choice(
            [[], [], ["ENTRIESREAD", str(rng.randint(-2, 9))], ["MKSTREAM"]]),
        lambda: ["XGROUP", "DESTROY", key(), group()] if rng.random() < 0.4 else ["XLEN", key()],
        lambda: ["XGROUP", "CREATECONSUMER", key(), group(), who()], lambda: ["XGROUP", "DELCONSUMER", key(), group(), who()],
        lambda: ["XGROUP", rng.choice(["CREATE", "SETID", "DESTROY", "what"]), key()],
    ] + [lambda: ["XREADGROUP", "GROUP", group(), who()] + count() + rng.choice([[], ["NOACK"]]) + streams(">")] * 4 + [
        lambda: ["XREADGROUP", "GROUP", group(), who()] + count() + streams(rng.choice(["0", ident()])),
        lambda: ["XREADGROUP", "GROUP", group(), who()] + streams("$"), lambda: ["XREADGROUP", "COUNT", "1"] + streams(">"),
        lambda: ["XACK", key(), group()] + [ident() for _ in range(rng.randint(1, 4))],
        lambda: ["XACK", key(), group()] + ["%d-%d" % (rng.randint(0, 30), i) for i in range(4)],
        lambda: ["XPENDING", key(), group()],
        lambda: ["XPENDING", key(), group()] + rng.choice([[], [], ["IDLE", rng.choice(["0", "100000", "x"])]]) + [
            bound(), bound(), str(rng.randint(-1, 5))] + rng.choice([[], [who()], [who()], ["x", "y"]]),
        lambda: ["XCLAIM", key(), group(), who(), rng.choice(["0", "0", "0", "-1", "100000", "x"])] + [
            ident() for _ in range(rng.randint(1, 3))] + claim(),
        lambda: ["XCLAIM", key(), group(), who(), "0"] + ["%d-%d" % (rng.randint(0, 9), i) for i in range(3)] + claim(),
        lambda: ["XAUTOCLAIM", key(), group(), who(), rng.choice(["0", "0", "0", "100000", "x"]), bound()] + rng.choice(
            [[], [], ["COUNT", str(rng.randint(-1, 4))], ["JUSTID"], ["COUNT", "2", "JUSTID"], ["COUNT"], ["bad"]]),
        lambda: ["XINFO", "STREAM", key()] + rng.choice([[], [], ["FULL"], ["FULL"], ["FULL", "COUNT", str(rng.randint(-1, 5))],
                                                        ["FULL", "COUNT"], ["bad"]]),
        lambda: ["XINFO", "GROUPS", key()], lambda: ["XINFO", "CONSUMERS", key(), group()],
        lambda: [rng.choice(["XADD", "XRANGE", "XREAD", "XGROUP", "XINFO", "XCLAIM", "XPENDING", "XDEL", "XACK", "XTRIM"]), key()],
    ]


TIMES = ("seen-time", "active-time", "idle", "inactive")


def blank_times(node):
    """XINFO and XPENDING show clock times; and the size of a tree that is built differently here."""
    if node.kind == "%":
        out = []
        for name, value in node.value:
            name, value = name.render(), blank_times(value)
            if name.strip('"') in TIMES:
                value = "-1" if value == ":-1" else "time"
            out.append((name, "nodes" if name == '"radix-tree-nodes"' else value))
        return sorted(map(str, out))
    if node.kind in "*~" and isinstance(node.value, (list, tuple)):
        out, words = [], list(node.value)
        after = None
        for item in words:
            if isinstance(item, (list, tuple)):
                out.append([blank_times(i) for i in item])
                continue
            text = blank_times(item)
            if after in TIMES:
                text = "-1" if text == ":-1" else "time"
            elif after == "radix-tree-nodes":
                text = "nodes"
            after = text.strip('"') if isinstance(text, str) else None
            out.append(text)
        return out
    if node.kind == ":" and int(node.value) > 10 ** 12:
        return "clock"
    return node.render()


def skip(args):
    name = args[0].upper()
    if name in ("XREAD", "XREADGROUP") and "+" in args:
        return "Valkey 8 and Redis 7.4 know the last entry as +"
    return None


def normal(args, node):
    name = args[0].upper()
    if name == "XINFO":
        return blank_times(node)
    if name == "XPENDING" and node.kind == "*":
        return [[i.render() for i in (item.value[:2] + item.value[3:])] if item.kind == "*" and len(item.value) == 4
                else item.render() for item in node.value]
    return None
