# SPDX-License-Identifier: BSD-3-Clause
"""Random users and random command lines, the same to two servers: which rules are refused and how, what the users look
like then (ACL GETUSER, ACL LIST), and what they may do (ACL DRYRUN).

By hand, against another reference than the test's:

    /usr/bin/python3 tests/integration/acl_differential.py --seconds 60 --reference valkey-server build/kettle-server

A reference before 7.2 words refusals differently, shows rules of commands in another order and does not show
sanitize-payload: of such a one only what is allowed is compared.
"""
import argparse
import random
import re
import time

from resp import ReplyError

KEYS = ["a", "b", "ab", "abc", "foo", "foo:1", "foobar", "bar", "x", "", "0", "1", "2", "~", "*", "[a]", "k\x01", "limit"]
PATTERNS = ["a", "a*", "*", "foo*", "foo:?", "[ab]", "[^a]*", "b\\*", "**", "?", "", "*bar", "x", "ab[a-c]", "\\", "[a",
            "sp ace", "tab\tx", "nul\x00x"]
CATEGORIES = ["keyspace", "read", "write", "set", "sortedset", "list", "hash", "string", "bitmap", "hyperloglog", "geo",
              "stream", "pubsub", "admin", "fast", "slow", "blocking", "dangerous", "connection", "transaction",
              "scripting", "all", "nosuch", "", "READ", "@read"]
WORDS = ["on", "off", "nopass", "resetpass", "allkeys", "resetkeys", "allchannels", "resetchannels", "allcommands",
         "nocommands", "reset", "clearselectors", "sanitize-payload", "skip-sanitize-payload", "ON", "AllKeys", "", "foo",
         "+", "-", "~", "&", "%", ">", "<", "#", "!", "(", ")", "()", "(on)", "(foo)", "( ~a )", "(\"~a)", "+@", "-@",
         "+|", "%~a", "%R~", "%W~", "%X~a", "%RR~a", "%rW~a", "%Ra", "#" + "0" * 63, "#" + "0" * 64, "#" + "A" * 64,
         "!" + "0" * 64, ">p", "<p", ">", "<", "(+get", "~a)", "+get)"]


class Generator:
    def __init__(self, seed, commands):
        self.rng = random.Random(seed)
        self.commands = commands  # name: arity
        self.names = sorted(commands)

    def command_rule(self):
        rng = self.rng
        name = rng.choice(self.names)
        roll = rng.random()
        if roll < 0.25:
            return rng.choice("+-") + "@" + rng.choice(CATEGORIES)
        if roll < 0.35:
            name = name.split("|")[0]
        if roll < 0.4:
            name += "|" + rng.choice(["", "x", "0", "get", "GET", "a|b"])
        if roll < 0.45:
            name = name.upper()
        if roll < 0.47:
            name += rng.choice(["x", "\x00", "|"])
        return rng.choice("++++---") + name

    def pattern_rule(self):
        return self.rng.choice(["~", "~", "%R~", "%W~", "%RW~", "%rw~", "&", "&"]) + self.rng.choice(PATTERNS)

    def rule(self, depth=0):
        roll = self.rng.random()
        if roll < 0.45:
            return self.command_rule()
        if roll < 0.8:
            return self.pattern_rule()
        if roll < 0.9 and depth == 0:
            return "(" + " ".join(self.rule(1) for _ in range(self.rng.randint(0, 4))) + ")"
        word = self.rng.choice(WORDS)
        # "~a)" within a selector is a pattern that the reference shows in a way it could not read again
        return word if depth == 0 or ")" not in word else ""

    def some_rules(self):
        return [self.rule() for _ in range(self.rng.choice([1, 1, 1, 2, 3, 5]))]

    def line(self):
        name = self.rng.choice(self.names)
        arity = self.commands[name]
        words = name.split("|")
        least = abs(arity) - len(words)
        more = self.rng.choice([0, 0, 0, 1, 2, 3]) if arity < 0 else 0
        if self.rng.random() < 0.02:
            more -= 1
        return words + [self.rng.choice(KEYS) for _ in range(max(0, least + more))]


def shape(reply):
    """Sets have no order, RESP2 says nothing of what is a set."""
    if isinstance(reply, list):
        return [shape(item) for item in reply]
    return reply


def sorted_flags(user):
    return None if user is None else {bytes(user[i]): sorted(user[i + 1]) if user[i] == b"flags" else user[i + 1]
                                      for i in range(0, len(user), 2)}


def allowed(reply):
    """Of a DRYRUN: whether; an error about the line itself as it is."""
    if isinstance(reply, ReplyError):
        return str(reply)
    return reply in ("OK", b"OK")


def is_modern(conn):
    return tuple(int(n) for n in conn.info("server")["redis_version"].split(".")[:2]) >= (7, 2)


def commands_of(conn):
    """Names with subcommands, and their arity."""
    out = {}

    def walk(entries):
        for entry in entries:
            if entry[9]:
                walk(entry[9])
            else:
                out[entry[0].decode()] = entry[1]
    walk(conn.ok("COMMAND"))
    return out


def common_commands(one, other):
    mine, theirs = commands_of(one), commands_of(other)
    return {name: arity for name, arity in mine.items() if theirs.get(name) == arity}


# %R without a tilde is a crash of old versions and refused by new ones; first arguments with blanks cannot be loaded again
SKIP = re.compile(r"%[RWrw]*($|[ )])|\|.*[\x00\s]|\x00")


def compare(one, other, seed, seconds, limit=None):
    """one: the reference. Returns how many replies were compared; an AssertionError says what differs."""
    full = is_modern(one)
    gen = Generator(seed, common_commands(one, other))
    deadline, total, name = time.monotonic() + seconds, 0, "u%d" % seed
    both = (one, other)

    def same(command, look):
        replies = [conn(*command) for conn in both]
        seen = [look(reply) for reply in replies]
        if seen[0] != seen[1] and command[1] == "DRYRUN" and isinstance(one("COMMAND", "GETKEYS", *command[3:]), ReplyError):
            return replies[0]  # a malformed line: the reference finds no key at all, and leaves it to the command to refuse
        assert seen[0] == seen[1], "seed %d: %r\n  reference %r\n  server    %r" % (seed, command, *replies)
        return replies[0]

    while time.monotonic() < deadline and (limit is None or total < limit):
        same(("ACL", "DELUSER", name), shape)
        history = []
        for _ in range(gen.rng.randint(1, 8)):
            rules = [rule for rule in gen.some_rules() if not SKIP.search(rule) and (full or rule != "(")]
            history.append(rules)
            same(("ACL", "SETUSER", name, *rules), lambda r: str(r).split("\x00")[0])
            total += 1
        for _ in range(25):
            same(("ACL", "DRYRUN", name, *gen.line()), (lambda r: r) if full else allowed)
            total += 1
        if full:
            same(("ACL", "GETUSER", name), sorted_flags)
            same(("ACL", "LIST"), shape)
            total += 2
    return total


def main():
    import harness
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reference", default="redis-server")
    parser.add_argument("server")
    args = parser.parse_args()
    servers = [harness.Server(harness.Env(path, False, ""), "tcp") for path in (args.reference, args.server)]
    total, seed, deadline = 0, args.seed, time.monotonic() + args.seconds
    try:
        while time.monotonic() < deadline:
            with servers[0].connect() as one, servers[1].connect() as other:
                total += compare(one, other, seed, deadline - time.monotonic(), limit=2000)
            seed += 1
    finally:
        for server in servers:
            server.stop()
    print("%d replies are the same" % total)


if __name__ == "__main__":
    main()
