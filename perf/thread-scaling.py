#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Whether new TLS connections, and requests, scale with kettle-server's I/O threads, on a machine with too few processors to see it.

Usage: perf/thread-scaling.py [--rounds 5] [--seconds 1.5] [--share 20] [--out perf/results/thread-scaling.md]

On two processors a second I/O thread takes from the client what it brings. So each I/O thread gets a small share of a processor (a control
group of its own with a quota of --share percent, in slices of 10 ms), the client the rest: two threads then have twice the time of one, and what
comes out is not twice as much only if they hinder each other. Handshakes are kettle-benchmark's with two threads, 50 connections at a time,
TLS 1.3, a PING each. Needs root and cgroup v1's cpu controller (in version 2 of cgroups a thread cannot be limited apart from its process
without threaded groups).
"""
import argparse
import os
import platform
import re
import statistics
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from bench.cases import Case
from bench.load import Client, default_client
from bench.servers import CERTS, ROOT, Program, Server, output

GROUPS = "/sys/fs/cgroup/cpu"
PERIOD_US = 10000


def group(name, **values):
    """A control group that others of this machine hardly disturb."""
    path = os.path.join(GROUPS, "kettle-scaling-%d-%s" % (os.getpid(), name))
    os.mkdir(path)
    for file, value in (("shares", 100000), *values.items()):
        with open(os.path.join(path, "cpu." + file), "w") as handle:
            handle.write(str(value))
    return path


def join(path, task):
    with open(os.path.join(path, "tasks"), "w") as handle:
        handle.write(str(task))


def leave(path):
    for _ in range(50):
        try:
            os.rmdir(path)
            return
        except OSError:
            time.sleep(0.02)


class Quota:
    """A group for each thread of a server that does I/O."""

    def __init__(self, server, share):
        self.paths = []
        for task in sorted(os.listdir("/proc/%d/task" % server.pid), key=int):
            with open("/proc/%d/task/%s/comm" % (server.pid, task)) as handle:
                name = handle.read().strip()
            if int(task) != server.pid and not name.startswith("io_thd"):
                continue
            path = group(task, cfs_period_us=PERIOD_US, cfs_quota_us=PERIOD_US * share // 100)
            self.paths.append(path)
            join(path, task)

    def end(self):
        for path in self.paths:
            leave(path)


def connections(server, kind, seconds):
    """Handshakes a second."""
    argv = [default_client(), "-h", "127.0.0.1", "-p", str(server.tls_port), "--tls", "--cacert", os.path.join(CERTS, "ca.crt"), "-k", "0", "-t",
            "ping_mbulk", "-c", "50", "--threads", "2"] + (["--no-resume"] if kind == "full" else [])
    rate = lambda n: float(re.search(r"throughput summary: ([\d.]+)", output(*argv, "-n", str(n))).group(1))
    return rate(max(100, int(rate(200) * seconds)))


def requests(server, kind, seconds):
    """GET of 100 bytes, requests a second."""
    case, client = Case("get", 100, 16 if kind == "pipeline" else 1, 50), Client(default_client(), "", 1)
    server.load_keys(100, 10000)
    few = client.run(server, case, 4000, 10000)["rps"]
    return client.run(server, case, max(4000, int(few * seconds)), 10000)["rps"]


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("Usage: ")[1].split("\n\n")[0].replace("%", "%%"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--share", type=int, default=20)
    parser.add_argument("--out", default=os.path.join(ROOT, "perf/results/thread-scaling.md"))
    args = parser.parse_args()
    if not os.path.exists(os.path.join(GROUPS, "cpu.shares")):
        print("thread-scaling: no cpu controller of cgroup v1 at %s" % GROUPS, file=sys.stderr)
        return 1
    program = Program("kettle", os.path.join(ROOT, "build/kettle-server"))
    cases = [("full handshakes", connections, "full"), ("resumed handshakes", connections, "resumed"), ("GET, one at a time", requests, "single"),
             ("GET, pipelines of 16", requests, "pipeline")]
    seen, own = {}, group("client")
    join(own, os.getpid())
    for number in range(args.rounds):
        for threads in (1, 2) if number % 2 else (2, 1):
            server = Server(program, "tls-user", threads)
            quota = Quota(server, args.share)
            try:
                for name, measure, kind in cases:
                    seen.setdefault((name, threads), []).append(measure(server, kind, args.seconds))
                    print("round %d, %d threads, %s: %.0f/s" % (number + 1, threads, name, seen[name, threads][-1]), file=sys.stderr)
            finally:
                server.stop()
                quota.end()
    join(GROUPS, os.getpid())
    leave(own)
    lines = ["# Scaling with I/O threads", "", "`perf/thread-scaling.py --rounds %d --seconds %g --share %d`: over userspace TLS, each I/O thread limited to %d%% of a processor, "
             "the client to none. A second; medians, ratios are of the rounds." % (args.rounds, args.seconds, args.share, args.share), "",
             "- machine: %d CPUs, kernel Linux %s, load when it ended: %.1f" % (os.cpu_count(), platform.release(), os.getloadavg()[0]),
             "- tree: %s; date: %s" % (output("git", "-C", ROOT, "describe", "--always"), time.strftime("%Y-%m-%d")), "",
             "| what | 1 thread | 2 threads | ratio | lowest-highest |", "|---|---|---|---|---|"]
    for name, _, _ in cases:
        one, two = seen[name, 1], seen[name, 2]
        ratios = [b / a for a, b in zip(one, two)]
        lines.append("| %s | %.0f | %.0f | %.2f | %.2f-%.2f |" % (name, statistics.median(one), statistics.median(two), statistics.median(ratios), min(ratios), max(ratios)))
    with open(args.out, "w") as handle:
        handle.write("\n".join(lines) + "\n")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
