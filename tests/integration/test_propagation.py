# SPDX-License-Identifier: BSD-3-Clause
"""What is sent to replicas, and so also written to the append-only file: for each command the same as redis-server and
valkey-server send, in a form that does the same there; and all of it together makes the same data.

The commands are in propagation_cases.py, the reader of the stream in propagation.py. KETTLE_DIFF_SECONDS and KETTLE_DIFF_SEED as
in test_differential.py.
"""
import collections
import fnmatch
import os
import random
import re
import shutil
import threading
import time

import pytest

import aof
import differential
import harness
import propagation
import propagation_cases as cases
import replicas
from resp import encode, split_args

SECONDS = float(os.environ.get("KETTLE_DIFF_SECONDS", "3"))
SEED = int(os.environ.get("KETTLE_DIFF_SEED", "1"))
DIRECTIVES = {"repl-diskless-sync": "no", "lazyfree-lazy-expire": "no", "lazyfree-lazy-server-del": "no",
              "lazyfree-lazy-eviction": "no", "repl-ping-replica-period": "3600", "repl-timeout": "3600"}


class Side:
    """A server, the stream of its commands, and the clients of a session."""

    def __init__(self, server):
        self.server = server
        self.stream = propagation.Stream(server)
        self.marker = server.connect()

    def close(self):
        self.stream.close()
        self.marker.close()

    def effects(self):
        return propagation.render(self.stream.until_mark(propagation.mark(self.marker)))

    def start(self):
        self.clients = [self.server.connect(), None]
        self.clients[0].ok("FLUSHALL")
        self.clients[0].ok("FUNCTION", "FLUSH")
        self.clients[0].ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")  # or it would take a key away between two commands, now and then
        self.effects()

    def end(self):
        self.marker.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")
        for client in self.clients:
            if client:
                client.close()

    def block(self, words):
        if self.clients[1]:
            self.clients[1].close()
        self.clients[1] = self.server.connect()
        self.clients[1].send(encode(*words))
        harness.wait_for(lambda: self.marker.info("clients")["blocked_clients"] == "1", what="%r to block" % words)

    def run(self, line):
        """Returns what is sent for it; None while a transaction is queued."""
        if line == "SLEEP":
            time.sleep(0.02)
            return []
        if line.startswith("2> "):
            self.block(split_args(line[3:]))
            return self.effects()
        words = split_args(line)
        if words[0] == b"RESTORE-FROM":
            words = [b"RESTORE"] + words[2:4] + [self.clients[0].ok("DUMP", words[1])] + words[4:]
        reply = self.clients[0].node(*words).render()
        return None if reply == "+QUEUED" or words[0].upper() == b"MULTI" else self.effects()


@pytest.fixture(scope="module")
def ours(env, transport, kernel_guard):
    instance = harness.Server(env, transport, directives=DIRECTIVES)
    side = Side(instance)
    yield side
    side.close()
    instance.stop()


@pytest.fixture(scope="module")
def redis(env):
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server to compare with")
    instance = harness.Server(harness.Env("redis-server", False, env.certs), "tcp", directives=DIRECTIVES)
    side = Side(instance)
    yield side
    side.close()
    instance.stop()


@pytest.fixture(scope="module")
def valkey(env):
    path = replicas.program("valkey-server")
    if not path:
        pytest.skip("no valkey-server to compare with")
    lazy = {"lazyfree-lazy-user-del": "no", "lazyfree-lazy-user-flush": "no"}
    try:
        instance = harness.Server(harness.Env(path, False, env.certs), "tcp", directives=dict(DIRECTIVES, **lazy))
    except Exception as exc:  # its libraries may be missing, or the kernel's
        pytest.skip("valkey-server does not start: %s" % str(exc)[:200])
    side = Side(instance)
    yield side
    side.close()
    instance.stop()


def canonical(command):
    """The same for forms that mean the same."""
    words = command.split(" ")
    if words[0] in ("LMOVE", "BITFIELD"):
        words = [word.upper() if word.upper() in ("LEFT", "RIGHT") else word for word in words]
    if words[0] == "PEXPIREAT":  # the condition held
        words = words[:3] + [w for w in words[3:] if w not in ("GT", "LT", "NX", "XX")]
    if words[0] == "XADD":  # there is a stream; the trim is exact anyway
        words = words[:2] + [w for w in words[2:] if w not in ("NOMKSTREAM", "=")]
        if "LIMIT" in words:
            at = words.index("LIMIT")
            words = words[:at] + words[at + 2:]
    if words[0] == "RESTORE":  # the payload's version and checksum are the server's
        words[3] = "payload"
    return " ".join(words)


def differs(got, wanted):
    got = [canonical(command) for command in got or []]
    wanted = [canonical(command) for command in wanted or []]
    return len(got) != len(wanted) or not all(fnmatch.fnmatchcase(g, w.replace("[", "[[]")) for g, w in zip(got, wanted))


@pytest.mark.parametrize("peer", ["redis", "valkey"])
@pytest.mark.parametrize("session", cases.SESSIONS)
def test_same_as_reference(request, ours, session, peer):
    if peer == "redis" and session == "streams":
        pytest.skip("redis-server 7.0 leaves XGROUP SETID ... ENTRIESREAD out, and replicas without what it says")
    reference = request.getfixturevalue(peer)
    wrong, n = [], 0
    for side in (ours, reference):
        side.start()
    for line in cases.SESSIONS[session].strip().split("\n"):
        got, wanted = ours.run(line), reference.run(line)
        wanted = cases.WANTED.get(line, wanted)
        if session == "streams" and line == "EXEC":
            wanted = cases.WANTED_EXEC
        n += 1
        if differs(got, wanted):
            wrong.append("%s\n    sent   %s\n    wanted %s" % (line, got, wanted))
    for side in (ours, reference):
        side.end()
    assert not wrong, "%d of %d lines:\n%s" % (len(wrong), n, "\n".join(wrong))


def test_hash_field_times(ours):
    ours.start()
    wrong = [(line, got, wanted) for line, wanted in cases.FIELDS for got in [ours.run(line)] if differs(got, wanted)]
    ours.end()
    assert not wrong, "\n".join("%s\n    sent   %s\n    wanted %s" % item for item in wrong)


def test_keys_and_fields_nobody_asks_for(ours):
    """The cron takes them away, each for itself."""
    ours.start()
    client = ours.clients[0]
    client.ok("SET", "{k}a", "1", "PX", "1")
    client.ok("SET", "{k}b", "1", "PX", "1")
    client.ok("HSET", "h", "f", "1", "g", "1", "stays", "1")
    client.ok("HPEXPIRE", "h", "1", "FIELDS", "2", "f", "g")
    ours.effects()
    time.sleep(0.02)
    client.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")
    sent, wanted = [], {"DEL {k}a", "DEL {k}b", "HDEL h f g"}
    harness.wait_for(lambda: sent.extend(ours.effects()) or wanted <= set(sent), what="keys and fields to be taken away")
    ours.end()
    assert sorted(sent) == sorted(wanted)


def test_evicted_keys(ours):
    ours.start()
    client = ours.clients[0]
    for i in range(200):
        client.ok("SET", "key:%d" % i, "x" * 20000)
    ours.effects()
    used = int(client.info("memory")["used_memory"])
    client.ok("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", str(used - 1000000))
    sent = []
    harness.wait_for(lambda: client("SET", "more", "x") == "OK" and (sent.extend(ours.effects()) or
                                                                    any(s.startswith("DEL key:") for s in sent)), what="eviction")
    client.ok("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")
    gone = {s[4:] for s in sent if s.startswith("DEL key:")}
    sent = ours.effects()
    gone |= {s[4:] for s in sent if s.startswith("DEL key:")}
    there = {key.decode() for key in client.ok("KEYS", "key:*")}
    ours.end()
    assert gone | there == {"key:%d" % i for i in range(200)} and not gone & there


def test_slow_script_is_one_unit(ours):
    """While it is stopped now and then, what its thread does for others does not get among its effects."""
    ours.start()
    client = ours.clients[0]
    client.ok("CONFIG", "SET", "busy-reply-threshold", "10")
    done = threading.Event()

    def others():
        with ours.server.connect() as conn:
            while not done.is_set():
                conn("SET", "other", "1")

    threads = [threading.Thread(target=others) for _ in range(4)]
    for thread in threads:
        thread.start()
    client.ok("EVAL", "redis.call('set','a','1') local t=redis.call('time') local start=t[1]*1000000+t[2] "
              "while true do t=redis.call('time') if t[1]*1000000+t[2]-start > 300000 then break end end "
              "redis.call('set','b','1')", "0")
    done.set()
    for thread in threads:
        thread.join()
    client.ok("CONFIG", "SET", "busy-reply-threshold", "5000")
    sent = ours.effects()
    ours.end()
    at = sent.index("SET a 1")
    assert sent[at - 1:at + 3] == ["MULTI", "SET a 1", "SET b 1", "EXEC"]
    assert set(sent[:at - 1] + sent[at + 3:]) <= {"SET other 1"}


# ---- all of it together makes the same data ----

def is_apart(name):
    """What would not do the same on the server that the stream is replayed to."""
    return name in ("DEBUG", "CONFIG", "CLIENT", "SHUTDOWN", "OBJECT")


def of_times(rng, generator):
    """Keys and fields that run out at once or later, which only a log that knows of it can make again."""
    key, ms = generator.key(), str(rng.choice([1, 1, 5, 20, 100000000]))
    fields = [rng.choice("abcdef") for _ in range(rng.randint(1, 3))]
    return rng.choice([
        ["SET", key, generator.value(), "PX", ms], ["PEXPIRE", key, ms], ["GETEX", key, "PX", ms],
        ["HSET", "{f}" + key] + [word for field in "abcdef" for word in (field, "1")],
        ["HPEXPIRE", "{f}" + key, ms, "FIELDS", str(len(fields))] + fields, ["HINCRBYFLOAT", "{f}" + key, fields[0], "1.5"],
        ["HGETEX", "{f}" + key, "PX", ms, "FIELDS", "1", fields[0]], ["HDEL", "{f}" + key] + fields,
        ["HSETEX", "{f}" + key, "PX", ms, "FIELDS", "1", fields[0], "7"], ["HGETALL", "{f}" + key], ["SETNX", key, "1"]])


def send_random(server, seed, seconds, valkey, failed, times=False):
    try:
        rng, generator = random.Random(seed), differential.Generator(seed, None, valkey)
        conns = [server.connect() for _ in range(3)]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            words = generator.command()
            if rng.random() < 0.02:
                words = ["SELECT", str(rng.choice([0, 0, 1, 2]))]
            elif rng.random() < 0.02:
                words = ["EVAL", "redis.pcall('lpush',KEYS[1],'x') redis.pcall('incr',KEYS[2]) redis.pcall('spop',KEYS[1]) "
                         "return redis.pcall('set',KEYS[3],ARGV[1],'px',100000000)", "3", generator.key(), generator.key(),
                         generator.key(), generator.value()]
            elif times and rng.random() < 0.2:
                words = of_times(rng, generator)
            if not is_apart(str(words[0]).upper()):
                rng.choice(conns).node(*[differential.as_bytes(word) for word in words])
        for conn in conns:
            conn.close()
    except Exception as exc:
        failed.append(exc)


def run_random(server, valkey, times=False):
    failed = []
    threads = [threading.Thread(target=send_random, args=(server, SEED * 100 + i, SECONDS, valkey, failed, times))
               for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


def replay(conn, ops):
    """Sends what was in the stream. Returns the errors it came to."""
    errors = collections.Counter()
    db = None
    for start in range(0, len(ops), 100):
        sent = []
        for op_db, words in ops[start:start + 100]:
            if op_db != db:
                sent.append([b"SELECT", b"%d" % op_db])
                db = op_db
            sent.append(words)
        conn.send(b"".join(encode(*words) for words in sent))
        for words in sent:
            reply = conn.read()
            for node in reply.value if reply.kind == "*" else [reply]:
                if node.kind == "-":
                    errors[node.render()[:80]] += 1
    return errors


@pytest.mark.parametrize("peer", ["redis", "valkey"])
def test_replayed_stream_gives_the_same_data(request, ours, peer):
    reference = request.getfixturevalue(peer)
    for module in differential.FAMILIES + [differential]:
        module.VALKEY = peer == "valkey"
    for side in (ours, reference):
        side.start()
    run_random(ours.server, peer == "valkey")
    ops = ours.stream.until_mark(propagation.mark(ours.marker))
    with reference.server.connect() as conn:
        errors = replay(conn, ops)
    errors.pop("-ERR One or more scores can't be converted into double", None)  # Valkey's SORT, see docs/ARCHITECTURE.md
    assert len(ops) > 100 and not errors, errors
    check_same(contents(ours.clients[0]), contents(reference.clients[0]))
    for side in (ours, reference):
        side.end()



@pytest.mark.parametrize("threads", [1, 4])
def test_append_only_file_gives_the_same_data(make_server, threads):
    for module in differential.FAMILIES + [differential]:
        module.VALKEY = True
    server = make_server(directives=aof.directives("no", io_threads=str(threads)))
    run_random(server, True, times=True)
    time.sleep(0.05)  # then nothing is left that is to run out soon
    with server.connect() as conn:
        before = contents(conn, deep=True)
    aof.again(server)
    with server.connect() as conn:
        after = contents(conn, deep=True)
    check_same(before, after)


def check_same(one, other):
    wrong = [(key, one.get(key), other.get(key)) for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
    assert not wrong, "\n".join("%r\n    %r\n    %r" % item for item in wrong)


STREAM_TIMES = re.compile(r'(name|key)?"(seen|active)-time", :-?\d+')
# When and how often an entry was delivered: XREADGROUP with an ID instead of `>` counts as a delivery, and is propagated by
# neither redis-server nor Valkey nor Kettle.
DELIVERIES = re.compile(r'(\["\d+-\d+"(?:, "[^"]*")?), :\d+, :\d+\]')


def contents(conn, deep=False):
    """Of all databases: the digest of each value, and when it ends. Scores are compared as numbers: redis-server 7.0 writes
    them otherwise, and digests what it writes. deep: of hashes the times of fields as well, of streams groups and consumers."""
    out = {}
    for db in range(3):
        conn.ok("SELECT", str(db))
        for key in conn.ok("KEYS", "*"):
            kind = conn.ok("TYPE", key)
            kind = kind.decode() if isinstance(kind, bytes) else kind
            if kind == "none":  # it has just run out
                continue
            value = conn.ok("DEBUG", "DIGEST-VALUE", key)[0] if kind != "zset" else None
            if kind == "zset":
                flat = conn.ok("ZRANGE", key, "0", "-1", "WITHSCORES")
                value = [(member, float(score)) for member, score in zip(flat[::2], flat[1::2])]
            if kind == "hash" and deep:
                fields = sorted(conn.ok("HKEYS", key))
                value = value, fields, conn.ok("HPEXPIRETIME", key, "FIELDS", str(len(fields)), *fields)
            if kind == "stream" and deep:
                info = STREAM_TIMES.sub("", conn.node("XINFO", "STREAM", key, "FULL", "COUNT", "0").render())
                value = value, DELIVERIES.sub(r"\1]", info)
            out[db, key] = kind, value, conn.ok("PEXPIRETIME", key)
    conn.ok("SELECT", "0")
    return out
