#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Large values: the longest that a single command holds a server up while they grow, and while they go.

Usage: perf/big-inputs.py [--quick] [--members 10000000] [--servers kettle,redis,valkey] [--only REGEX] [--out perf/results/big-inputs]

A set, a sorted set, a list, a hash and a stream of 10 million (--quick: 1 million) elements, each added by a command of its own; a
hash of a tenth as many fields with a time each, which then run out together; a string of 512 MB (--quick: 64 MB) by APPEND of 1 MiB at a
time, and by SETRANGE. Then each goes: by DEL, by UNLINK, by its time to live, by SET over it, by FLUSHALL ASYNC (copies of it, made by
COPY, which is not timed). Default settings but lazyfree-lazy-expire and lazyfree-lazy-server-del, which are on.

Two things are measured. "Command": the largest time of the commands in question in SLOWLOG. "Stall": a second client, a process of its
own, sends PING or one small command on the growing value every millisecond; its longest wait. In parentheses: the same without the time
that the server's threads or the client were ready to run but had no processor (/proc/PID/task/TID/schedstat): what is left of a stall
on a machine that is busy with other work, and on one that is not, the same. The limit of 50 ms applies to that.
"""
import argparse
import json
import multiprocessing
import os
import platform
import re
import socket
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from bench import peers  # noqa: E402
from bench.servers import CERTS, ROOT, Program, Server, command  # noqa: E402

LIMIT_MS = 50
BATCH = 100  # commands on their way at a time: a pipeline that others wait behind is not what is measured
MIB = 1 << 20


def template(*words):
    """A command for `%`: its words as given, with one %d of 12 digits at most where a number goes."""
    out = b"*%d\r\n" % len(words)
    for word in words:
        sample = word.replace("%012d", "0" * 12)
        out += b"$%d\r\n%s\r\n" % (len(sample), word.encode())
    return out


class Case:
    """add: the command that adds number i; probe: a small command on the value."""

    def __init__(self, name, key, add, probe, share=1.0, numbers=1):
        self.name, self.key, self.probe, self.share = name, key, probe, share
        self.line = template(*add)
        self.numbers = numbers

    def lines(self, n):
        if self.numbers == 1:
            return (self.line % i for i in range(n))
        return (self.line % (i * 7919 % 1000003 * 1000 + i % 1000, i) for i in range(n))


CASES = [
    Case("set", "s", ["SADD", "s", "m:%012d"], ["SISMEMBER", "s", "m:000000000001"]),
    Case("sorted set", "z", ["ZADD", "z", "%012d", "m:%012d"], ["ZRANK", "z", "m:000000000001"], numbers=2),
    Case("list", "l", ["RPUSH", "l", "v:%012d"], ["LINDEX", "l", "-1"]),
    Case("hash", "h", ["HSET", "h", "f:%012d", "value"], ["HGET", "h", "f:000000000001"]),
    Case("stream", "x", ["XADD", "x", "*", "field", "v:%012d"], ["XLEN", "x"]),
]
FIELDS = Case("hash whose fields have times", "t", ["HSET", "t", "f:%012d", "value"], ["HTTL", "t", "FIELDS", "1", "f:000000000001"], 0.1)


class Link:
    """A connection on which whole replies are read; only the kinds that the commands here give."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), 600)
        self.file = self.sock.makefile("rb", 1 << 16)

    def reply(self):
        line = self.file.readline()
        if not line:
            raise ConnectionError("the server closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        return int(rest) if kind == b":" else rest

    def ask(self, *words):
        self.sock.sendall(command(*words))
        return self.reply()

    def send_all(self, lines):
        """Each of lines is a command; BATCH of them on their way. Yields the number answered after each batch."""
        batch, n = [], 0
        for line in lines:
            batch.append(line)
            if len(batch) == BATCH:
                n += self.settle(batch)
                yield n
                batch = []
        if batch:
            yield n + self.settle(batch)

    def settle(self, batch):
        self.sock.sendall(b"".join(batch) + command("PING"))
        tail = b""
        while not tail.endswith(b"+PONG\r\n"):
            data = tail[-8:] + self.file.read1(1 << 16)
            if b"\n-" in data:
                raise RuntimeError(data[data.index(b"\n-") + 1:][:200].decode())
            tail = data
        return len(batch)


def waited(path):
    """Nanoseconds that a thread was ready to run and did not."""
    with open(path) as handle:
        return int(handle.read().split()[1])


def threads_of(pid):
    """schedstat files of a server's threads."""
    return ["/proc/%d/task/%s/schedstat" % (pid, task) for task in os.listdir("/proc/%d/task" % pid)]


def probe_main(port, pid, words, stop, ret):
    """The second client: (longest wait, the longest without time spent waiting for a processor), ms."""
    link = Link(port)
    threads = threads_of(pid) + ["/proc/self/schedstat"]
    lines = [command("PING"), command(*words)] if words else [command("PING")]
    worst = worst_net = count = 0
    ret.put(None)  # ready
    while not stop.is_set():
        before = [waited(path) for path in threads]
        start = time.monotonic_ns()
        link.sock.sendall(lines[count % len(lines)])
        link.reply()
        took = time.monotonic_ns() - start
        count += 1
        if took > worst_net:
            lost = sum(waited(path) - was for path, was in zip(threads, before))
            worst = max(worst, took)
            worst_net = max(worst_net, took - min(lost, took))
        time.sleep(0.001)
    ret.put((worst / 1e6, worst_net / 1e6, count))


class Probe:
    def __init__(self, server, words=None):
        self.stop_it, self.ret = multiprocessing.Event(), multiprocessing.Queue()
        self.process = multiprocessing.Process(target=probe_main, args=(server.port, server.pid, words, self.stop_it, self.ret), daemon=True)
        self.process.start()
        self.ret.get()

    def stop(self):
        self.stop_it.set()
        result = self.ret.get(timeout=120)
        self.process.join()
        return result


class Progress:
    def __init__(self):
        self.start = self.shown = time.monotonic()

    def show(self, text, force=False):
        now = time.monotonic()
        if force or now - self.shown > 2:
            self.shown = now
            sys.stderr.write("\r\033[K%4d s  %s" % (now - self.start, text))
            sys.stderr.flush()

    def line(self, text):
        sys.stderr.write("\r\033[K")
        print("%4d s  %s" % (time.monotonic() - self.start, text), flush=True)


def slowest(link, names):
    """The largest time of commands with these names in SLOWLOG, ms; their number above the limit."""
    times = [row[2] / 1000 for row in link.ask("SLOWLOG", "GET", "-1") if row[3][0].decode().upper() in names]
    return max(times, default=0.0), sum(t > LIMIT_MS for t in times)


class Bench:
    def __init__(self, program, args, rows, progress, save_rows):
        self.program, self.args, self.rows, self.progress, self.save = program, args, rows, progress, save_rows
        self.server = Server(program, "tcp", 1, ["--lazyfree-lazy-expire", "yes", "--lazyfree-lazy-server-del", "yes",
                                                 "--slowlog-log-slower-than", "1000", "--slowlog-max-len", "100000"])
        self.link = Link(self.server.port)

    def phase(self, what, names, act, probe_words=None, settle=0.3):
        """Runs act beside a probe and writes a row."""
        self.link.ask("SLOWLOG", "RESET")
        self.progress.show("%s: %s" % (self.program.name, what), True)
        probe = Probe(self.server, probe_words)
        start = time.monotonic()
        act()
        took = time.monotonic() - start
        time.sleep(settle)  # what the background does with it is part of it
        longest, net, _ = probe.stop()
        slow, over = slowest(self.link, names)
        row = {"server": self.program.name, "what": what, "seconds": took, "command_ms": slow, "commands_over": over, "stall_ms": longest,
               "stall_net_ms": net}
        self.rows.append(row)
        self.save()
        self.progress.line("%-7s %-42s %7.1f s  command %8.1f ms  stall %8.1f ms (%.1f)" % (
            self.program.name, what, took, slow, longest, net))
        return row

    def fill(self, case):
        n = max(1, int(self.args.members * case.share))

        def act():
            for done in self.link.send_all(case.lines(n)):
                self.progress.show("%s: %s: %d of %d" % (self.program.name, case.name, done, n))
        self.phase("%s of %s: adding one by one" % (case.name, millions(n)), {case.line.split(b"\r\n")[2].decode()}, act, case.probe)

    def drained(self):
        while True:
            info = self.link.ask("INFO", "memory").decode()
            if "lazyfree_pending_objects:0" in info:
                return
            time.sleep(0.05)

    def gone(self, key):
        while self.link.ask("EXISTS", key):
            time.sleep(0.01)

    def deletions(self, name, key):
        copy = key + ":copy"

        def run(how, names, act):
            self.link.ask("COPY", key, copy)
            self.phase("%s: %s" % (name, how), names, lambda: (act(), self.drained()))
        run("DEL", {"DEL"}, lambda: self.link.ask("DEL", copy))
        run("UNLINK", {"UNLINK"}, lambda: self.link.ask("UNLINK", copy))
        run("SET over it", {"SET"}, lambda: self.link.ask("SET", copy, "x"))
        self.link.ask("DEL", copy)
        run("its time runs out", {"PEXPIRE"}, lambda: (self.link.ask("PEXPIRE", copy, 50), self.gone_by_itself()))
        self.phase("%s: FLUSHALL ASYNC" % name, {"FLUSHALL"}, lambda: (self.link.ask("FLUSHALL", "ASYNC"), self.drained()))

    def gone_by_itself(self):
        while self.link.ask("DBSIZE") > 1:
            time.sleep(0.01)

    def collection(self, case):
        self.fill(case)
        self.deletions(case.name, case.key)

    def field_times(self):
        self.fill(FIELDS)
        n = int(self.args.members * FIELDS.share)

        def give(name, when):
            line = template(name, "t", str(when), "FIELDS", "1", "f:%012d")
            for done in self.link.send_all(line % i for i in range(n)):
                self.progress.show("%s: %s: %d of %d" % (self.program.name, name, done, n))
        self.phase("%s: HPEXPIRE of each" % FIELDS.name, {"HPEXPIRE"}, lambda: give("HPEXPIRE", 10 ** 9), FIELDS.probe)

        def run_out():
            give("HPEXPIREAT", int(time.time() * 1000) + 1000 + n // 50)
            self.gone("t")
        self.phase("%s: all run out at one time" % FIELDS.name, {"HPEXPIREAT"}, run_out)

    def strings(self):
        size = self.args.string_mib
        chunk = command("APPEND", "a", b"x" * MIB)

        def append():
            for i in range(size):
                self.link.sock.sendall(chunk)
                self.link.reply()
                self.progress.show("%s: APPEND: %d of %d MiB" % (self.program.name, i, size))
        self.phase("string of %d MiB: APPEND of 1 MiB" % size, {"APPEND"}, append, ["GETRANGE", "a", "0", "9"])
        self.phase("string of %d MiB: STRLEN, GETRANGE, SETRANGE, SETBIT in it" % size, {"STRLEN", "GETRANGE", "SETRANGE", "SETBIT"}, lambda: [
            self.link.ask(*words) for i in range(1000) for words in (
                ["STRLEN", "a"], ["GETRANGE", "a", i * 1000, i * 1000 + 9], ["SETRANGE", "a", i * 1000, "y"], ["SETBIT", "a", i * 8000, 1])])
        self.deletions("string of %d MiB" % size, "a")

        def setrange():
            for i in range(size):
                self.link.ask("SETRANGE", "r", i * MIB + MIB - 10, "0123456789")
        self.phase("string of %d MiB: SETRANGE, 1 MiB further each time" % size, {"SETRANGE"}, setrange)
        self.link.ask("FLUSHALL", "ASYNC")
        self.drained()
        self.phase("string of %d MiB: one SETRANGE at its end" % size, {"SETRANGE"}, lambda: self.link.ask(
            "SETRANGE", "r", size * MIB - 1, "x"))
        self.link.ask("FLUSHALL", "ASYNC")
        self.drained()

    def run(self):
        try:
            for case in CASES:
                if wanted(self.args, case.name):
                    self.collection(case)
            if wanted(self.args, "fields") and self.link.ask("COMMAND", "INFO", "HPEXPIRE")[0]:
                self.field_times()
            if wanted(self.args, "string"):
                self.strings()
        finally:
            self.server.stop()


def wanted(args, name):
    return not args.only or re.search(args.only, name)


def millions(n):
    return "%g million" % (n / 1e6)


def save(args, rows, programs):
    machine = "%s, %s, %d cores" % (platform.machine(), platform.release(), os.cpu_count())
    head = "perf/big-inputs.py " + " ".join(sys.argv[1:])
    with open(args.out + ".json", "w") as out:
        json.dump({"command": head, "machine": machine, "versions": {p.name: p.version() for p in programs}, "rows": rows}, out, indent=1)
    with open(args.out + ".md", "w") as out:
        out.write("# Large values: how long one command holds the server up\n\nWritten by `%s`; what is measured stands in its head.\n\n" % head)
        out.write("%s. %s. Load of the machine at the end (1 minute): %.1f.\n\n" % (
            machine, "; ".join(p.version() for p in programs), os.getloadavg()[0]))
        out.write("| server | what | seconds | slowest command, ms | longest stall, ms | without waits for a processor | limit %d ms |\n"
                  "|---|---|---|---|---|---|---|\n" % LIMIT_MS)
        for row in rows:
            out.write("| %s | %s | %.1f | %.1f | %.1f | %.1f | %s |\n" % (row["server"], row["what"], row["seconds"], row["command_ms"], row[
                "stall_ms"], row["stall_net_ms"], verdict(row)))


def verdict(row):
    if row["what"].endswith(": DEL"):
        return "as long as it takes"
    return "met" if row["stall_net_ms"] <= LIMIT_MS else "MISSED"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--members", type=int)
    parser.add_argument("--string-mib", type=int)
    parser.add_argument("--servers", default="kettle")
    parser.add_argument("--only", help="values whose name matches: set, sorted set, list, hash, stream, fields, string")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--out", default=os.path.join(ROOT, "perf/results/big-inputs"))
    args = parser.parse_args()
    args.members = args.members or (10 ** 6 if args.quick else 10 ** 7)
    args.string_mib = args.string_mib or (64 if args.quick else 512)
    if not os.path.exists(os.path.join(CERTS, "server.crt")):
        import subprocess
        subprocess.run([os.path.join(ROOT, "scripts/gen-test-certs.sh")], check=True, stdout=subprocess.DEVNULL)
    programs = []
    for name in args.servers.split(","):
        path, libs = (os.path.join(os.path.abspath(args.build), "kettle-server"), "") if name == "kettle" else getattr(peers, name)()
        if path:
            programs.append(Program(name, path, libs))
    rows, progress = [], Progress()
    for program in programs:
        Bench(program, args, rows, progress, lambda: save(args, rows, programs)).run()
    missed = [row for row in rows if row["server"] == "kettle" and verdict(row) == "MISSED"]
    print("%d measured, %d of kettle's above %d ms" % (len(rows), len(missed), LIMIT_MS))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
