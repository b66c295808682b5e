#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writing and loading RDB files: kettle-server beside redis-server and valkey-server.

Usage: perf/rdb.py [--rounds 5] [--build build] [--servers kettle,redis,valkey] [--keys 1000000] [--only REGEX] [--dir DIR]
                   [--out perf/results/rdb.md]

Each data set is put into each server once; then, in each round, the servers take turns (the order rotates): SAVE, and a start with
the file it has written. Shown are the medians over the rounds of the processor time that the server takes for it, all its threads
and the kernel's work for them included, and of the time that passes; with the ratios to each peer (below 1: kettle-server takes
less). Files are on a memory file system where there is one (--dir), so that no disk is measured. One I/O thread, no compression
but where the data set says so.
"""
import argparse
import os
import platform
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def peer(name):
    found = shutil.which(name)
    fetched = os.path.expanduser("~/.cache/kettle/peers/%s/usr/bin/%s" % (name, name))
    return found or (fetched if os.access(fetched, os.X_OK) else None)


class Conn:
    def __init__(self, port, proc):
        end = time.monotonic() + 120
        while True:
            try:
                self.sock = socket.create_connection(("127.0.0.1", port), 600)
                break
            except OSError:
                if time.monotonic() > end or proc.poll() is not None:
                    raise
                time.sleep(0.01)
        self.file = self.sock.makefile("rb")

    def __call__(self, *args):
        self.sock.sendall(encode(args))
        line = self.file.readline().rstrip()
        return self.file.read(int(line[1:]) + 2) if line[:1] == b"$" else line

    def pipe(self, commands, batch=500):
        waiting, out = 0, []
        for args in commands:
            out.append(encode(args))
            waiting += 1
            if waiting == batch:
                self.drain(out, waiting)
                waiting, out = 0, []
        self.drain(out, waiting)

    def drain(self, out, waiting):
        self.sock.sendall(b"".join(out))
        for _ in range(waiting):
            assert self.file.readline()[:1] in b"+:"


def encode(args):
    parts = [a if isinstance(a, bytes) else str(a).encode() for a in args]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def small(n):
    yield ("DEBUG", "POPULATE", n)


def numbers(n):
    return (("SET", "counter:%d" % i, i * 7919) for i in range(n))


def times(n):
    return (("SET", "session:%d" % i, "token-%016x" % (i * 2654435761), "EX", 100000 + i % 5000) for i in range(n))


def text(n):
    return (("SET", "doc:%d" % i, ("{\"id\": %d, \"name\": \"user number %d\", \"tags\": [\"one\", \"two\", \"three\"]}" % (i, i)) * 3) for i in range(n))


def hashes(n):
    return (["HSET", "user:%d" % i] + [x for f in range(8) for x in ("field%d" % f, "value-%d-%d" % (i, f))] for i in range(n))


def large(n):
    for i in range(0, n, 100):
        yield ["HSET", "h:%d" % (i % 8)] + [x for k in range(100) for x in ("f%d" % (i + k), "v%d" % (i + k))]
        yield ["ZADD", "z:%d" % (i % 8)] + [x for k in range(100) for x in ((i + k) * 1.5, "m%d" % (i + k))]
        yield ["RPUSH", "l:%d" % (i % 8)] + ["element-%d" % (i + k) for k in range(100)]


SETS = [
    ("small strings", "%d strings of 12 to 20 bytes (DEBUG POPULATE)", small, 1.0, "no"),
    ("numbers", "%d integers", numbers, 1.0, "no"),
    ("with times", "%d strings of 22 bytes with a time to live", times, 0.5, "no"),
    ("compressed text", "%d strings of about 200 bytes, rdbcompression yes", text, 0.25, "yes"),
    ("hashes", "%d hashes of 8 fields (listpacks)", hashes, 0.25, "no"),
    ("large collections", "8 hashes, 8 sorted sets and 8 lists with %d elements each kind", large, 0.5, "no"),
]


class Server:
    def __init__(self, kind, binary, folder, compression):
        self.kind, self.folder = kind, folder
        self.port = free_port()
        os.makedirs(folder, exist_ok=True)
        self.line = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--enable-debug-command", "yes",
                     "--io-threads", "1", "--rdbcompression", compression, "--logfile", os.path.join(folder, "log"), "--appendonly", "no"]
        self.proc = None

    def start(self):
        self.began = time.monotonic()
        self.proc = subprocess.Popen(self.line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.conn = Conn(self.port, self.proc)
        while self.conn("PING").startswith(b"-LOADING"):
            time.sleep(0.005)

    def cpu(self):
        """Seconds of processor time of all threads so far, ended ones included."""
        with open("/proc/%d/stat" % self.proc.pid) as handle:
            fields = handle.read().rsplit(")", 1)[1].split()
        ticks = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return ticks

    def stop(self):
        self.proc.terminate()
        self.proc.wait()

    def save(self):
        cpu, wall = self.cpu(), time.monotonic()
        assert self.conn("SAVE") == b"+OK"
        return self.cpu() - cpu, time.monotonic() - wall

    def load(self):
        """A start with the file; less a start without one."""
        path = os.path.join(self.folder, "dump.rdb")
        os.rename(path, path + ".kept")
        self.start()
        empty = self.cpu()
        self.stop()
        os.rename(path + ".kept", path)
        self.start()
        cpu = self.cpu() - empty
        with open(os.path.join(self.folder, "log")) as handle:
            wall = float(re.findall(r"loaded from disk: ([0-9.]+) seconds", handle.read())[-1])
        return cpu, wall


def measure(servers, rounds, fill, n):
    figures = {s.kind: {"save": [], "load": []} for s in servers}
    for s in servers:
        s.start()
        s.conn.pipe(fill(n))
        figures[s.kind]["keys"] = s.conn("DBSIZE")
    for r in range(rounds):
        for s in servers[r % len(servers):] + servers[:r % len(servers)]:
            figures[s.kind]["save"].append(s.save())
            s.stop()
            figures[s.kind]["load"].append(s.load())
        print("  round %d" % (r + 1), file=sys.stderr)
    for s in servers:
        figures[s.kind]["bytes"] = os.path.getsize(os.path.join(s.folder, "dump.rdb"))
        s.stop()
        shutil.rmtree(s.folder)
    assert len({f["keys"] for f in figures.values()}) == 1, figures
    return figures


def medians(figures, what):
    return [statistics.median(x[i] for x in figures[what]) for i in (0, 1)]


def table(name, about, figures, order):
    out = ["### %s" % name, "", about, "", "| | CPU, s | ratio | time, s | ratio |", "|---|---|---|---|---|"]
    for what in ("save", "load"):
        mine = medians(figures["kettle"], what)
        for kind in order:
            got = medians(figures[kind], what)
            ratio = ["" if kind == "kettle" or not got[i] else "%.2f" % (mine[i] / got[i]) for i in (0, 1)]
            out.append("| %s, %s | %.2f | %s | %.2f | %s |" % ({"save": "SAVE", "load": "load"}[what], kind, got[0], ratio[0], got[1], ratio[1]))
    out += ["", "File: " + ", ".join("%s %.1f MB" % (k, figures[k]["bytes"] / 1e6) for k in order) + ".", ""]
    return out


def version(binary):
    return subprocess.run([binary, "--version"], stdout=subprocess.PIPE).stdout.decode().split("malloc")[0].strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--servers", default="kettle,redis,valkey")
    parser.add_argument("--keys", type=int, default=1000000)
    parser.add_argument("--only", default="")
    parser.add_argument("--dir", default="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    parser.add_argument("--out", default=os.path.join(ROOT, "perf/results/rdb.md"))
    args = parser.parse_args()
    binaries = {"kettle": os.path.join(args.build, "kettle-server"), "redis": peer("redis-server"), "valkey": peer("valkey-server")}
    order = [k for k in args.servers.split(",") if binaries.get(k)]
    lines = ["# RDB files: SAVE and load", "", "Generated by `perf/rdb.py --rounds %d --keys %d` on %s, %d processors, Linux %s; load average before: %.1f." % (
        args.rounds, args.keys, time.strftime("%Y-%m-%d"), os.cpu_count(), platform.release(), os.getloadavg()[0]), "",
        "; ".join(version(binaries[k]) for k in order) + ".", "",
        "Medians of the rounds; ratio: kettle-server's figure by the peer's. Processor time is the server's, all threads; on a busy machine it "
        "says more than the time that passed. Files in `%s`." % (args.dir or tempfile.gettempdir()), ""]
    for name, about, fill, share, compression in SETS:
        if not re.search(args.only, name):
            continue
        n = int(args.keys * share)
        print(name, file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="kettle-rdb-", dir=args.dir) as folder:
            servers = [Server(k, binaries[k], os.path.join(folder, k), compression) for k in order]
            try:
                figures = measure(servers, args.rounds, fill, n)
            finally:
                for s in servers:
                    if s.proc and s.proc.poll() is None:
                        s.proc.kill()
        lines += table(name, about % n + ".", figures, order)
        with open(args.out, "w") as handle:
            handle.write("\n".join(lines).rstrip() + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
