#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""One large sorted set: memory of a member, server's processor time of a command.

Usage: perf/zsets.py [--members 1000000] [--build build] [--servers kettle,redis] [--out FILE]

Each server gets a set whose scores come in random order, and another whose scores only grow; members are texts of 19 bytes. Then commands
on random members and ranks, 64 in a pipeline, by one client. What is shown is the resident memory the set added, divided by its
members, and the processor time (user and system, /proc/PID/stat) the server took for a command: the client's time is not in it, and a
busy machine disturbs it less than it disturbs the time on the clock.
"""
import argparse
import os
import platform
import random
import shutil
import socket
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BATCH = 64
TICK = os.sysconf("SC_CLK_TCK")


class Server:
    def __init__(self, name, build):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.folder = tempfile.TemporaryDirectory()
        program = os.path.join(ROOT, build, "kettle-server") if name == "kettle" else shutil.which("%s-server" % name)
        threads = ["--io-threads", "1"]
        self.process = subprocess.Popen([program, "--port", str(port), "--save", "", "--dir", self.folder.name] + threads,
                                        stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                self.sock = socket.create_connection(("127.0.0.1", port))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.file = self.sock.makefile("rb", 1 << 20)

    def stop(self):
        self.sock.close()
        self.process.terminate()
        self.process.wait()
        self.folder.cleanup()

    def cpu_s(self):
        with open("/proc/%d/stat" % self.process.pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def rss(self):
        with open("/proc/%d/statm" % self.process.pid) as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def reply(self):
        line = self.file.readline()
        if line[:1] == b"-":
            raise RuntimeError(line)
        if line[:1] == b"$" and line != b"$-1\r\n":
            self.file.read(int(line[1:]) + 2)
        elif line[:1] == b"*":
            for _ in range(int(line[1:])):
                self.reply()

    def run(self, n, make):
        """n commands; microseconds of processor time for each."""
        before = self.cpu_s()
        for at in range(0, n, BATCH):
            size = min(BATCH, n - at)
            self.sock.sendall(b"".join(encode(*make(at + i)) for i in range(size)))
            for _ in range(size):
                self.reply()
        return (self.cpu_s() - before) * 1e6 / n


def encode(*words):
    out = b"*%d\r\n" % len(words)
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        out += b"$%d\r\n%s\r\n" % (len(data), data)
    return out


def measure(name, args):
    server, rng, n = Server(name, args.build), random.Random(1), args.members
    few = n // 5
    try:
        rows, empty = [], server.rss()

        def some():
            return "member:%012d" % rng.randrange(n)
        rows.append(("ZADD, random order", server.run(n, lambda i: ("ZADD", "z", i * 2654435761 % 4294967296, "member:%012d" % i))))
        rows.append(("bytes a member, random order", (server.rss() - empty) / n))
        rows.append(("ZADD, another score", server.run(few, lambda i: ("ZADD", "z", rng.randrange(1 << 32), some()))))
        rows.append(("ZINCRBY by 1", server.run(few, lambda i: ("ZINCRBY", "z", 1, some()))))
        rows.append(("ZSCORE", server.run(few, lambda i: ("ZSCORE", "z", some()))))
        rows.append(("ZRANK", server.run(few, lambda i: ("ZRANK", "z", some()))))

        def ranks(size):
            first = rng.randrange(n)
            return "ZRANGE", "z", first, first + size - 1
        rows.append(("ZRANGE, 10 members", server.run(few, lambda i: ranks(10))))
        rows.append(("ZRANGE, 100 members", server.run(few // 4, lambda i: ranks(100))))
        rows.append(("ZCOUNT", server.run(few, lambda i: ("ZCOUNT", "z", rng.randrange(1 << 32), "+inf"))))
        rows.append(("ZREM", server.run(few, lambda i: ("ZREM", "z", some()))))
        rows.append(("ZPOPMIN", server.run(few, lambda i: ("ZPOPMIN", "z"))))
    finally:
        server.stop()
    server = Server(name, args.build)
    try:
        empty = server.rss()
        rows.append(("ZADD, scores that grow", server.run(n, lambda i: ("ZADD", "z", i, "member:%012d" % i))))
        rows.append(("bytes a member, scores that grow", (server.rss() - empty) / n))
    finally:
        server.stop()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=1000000)
    parser.add_argument("--build", default="build")
    parser.add_argument("--servers", default="kettle,redis")
    parser.add_argument("--out")
    args = parser.parse_args()
    names = args.servers.split(",")
    results = {name: dict(measure(name, args)) for name in names}
    load = os.getloadavg()[0]
    lines = ["# A sorted set of %s members" % format(args.members, ","), "",
             "`perf/zsets.py --members %d --servers %s`: microseconds of the server's processor time a command; resident bytes a member. "
             "Linux %s, %s, load of the machine at the end %.1f." % (args.members, args.servers, platform.release(),
                                                                       time.strftime("%Y-%m-%d"), load), "",
             "| | %s |" % " | ".join(names), "|---|" + "---|" * len(names)]
    for row in results[names[0]]:
        lines.append("| %s | %s |" % (row, " | ".join("%.0f" % results[name][row] if "bytes" in row else
                                                      "%.2f" % results[name][row] for name in names)))
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if args.out:
        with open(args.out, "w") as f:
            f.write(text)


if __name__ == "__main__":
    main()
