#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Writes per second with the append-only file: kettle-server beside redis-server and valkey-server.

Usage: perf/aof.py [--rounds 5] [--seconds 4] [--build build] [--dir /var/tmp] [--out perf/results/aof.md]

Each round starts each server in turn (the order alternates) on an empty directory of the same file system, for each appendfsync; one
process then keeps 50 connections busy, each with one SET of 100 bytes at a time, as redis-benchmark does. Shown are medians over the
rounds, with the lowest and highest; the median of fdatasync(2) alone, after a write of one such command, is measured in each round too.
"""
import argparse
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CLIENTS, BYTES = 50, 100
MODES = ["always", "everysec", "off"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def valkey():
    path = os.path.expanduser("~/.cache/kettle/peers/valkey-server/usr/bin/valkey-server")
    return path if os.access(path, os.X_OK) else shutil.which("valkey-server")


def programs(build):
    found = {"kettle-server": (os.path.join(build, "kettle-server"), "1"), "kettle-server, 2 I/O threads": (os.path.join(build, "kettle-server"), "2"),
             "redis-server": (shutil.which("redis-server"), "1"), "valkey-server": (valkey(), "1")}
    return {name: what for name, what in found.items() if what[0]}


def fsync_us(folder):
    path = os.path.join(folder, "probe")
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    times = []
    for _ in range(100):
        os.write(fd, b"x" * (BYTES + 40))
        start = time.monotonic_ns()
        os.fdatasync(fd)
        times.append((time.monotonic_ns() - start) / 1000)
    os.close(fd)
    os.unlink(path)
    return statistics.median(times)


def wait_up(port):
    for _ in range(400):
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as s:
                s.sendall(b"PING\r\n")
                if s.recv(100).startswith(b"+PONG"):
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise SystemExit("the server does not answer")


def bench(build, port, requests):
    out = subprocess.run([os.path.join(build, "kettle-benchmark"), "-p", str(port), "-c", str(CLIENTS), "-n", str(requests), "-d", str(BYTES),
                          "-r", "100000", "-t", "set", "-q"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True).stdout
    found = re.findall(r"([\d.]+) requests per second", out.replace("\r", "\n"))
    if not found:
        raise SystemExit("kettle-benchmark: " + out)
    return float(found[-1])


def measure(program, threads, mode, args):
    folder, port = tempfile.mkdtemp(prefix="aof-bench-", dir=args.dir), free_port()
    line = [program, "--port", str(port), "--bind", "127.0.0.1", "--io-threads", threads, "--save", "", "--dir", folder, "--logfile", "/dev/null",
            "--auto-aof-rewrite-percentage", "0", "--appendonly", "no" if mode == "off" else "yes", "--appendfsync",
            "no" if mode == "off" else mode]
    server = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    try:
        wait_up(port)
        rate = bench(args.build, port, 2000)
        return bench(args.build, port, max(2000, int(rate * args.seconds)))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def version(program):
    return subprocess.run([program, "--version"], stdout=subprocess.PIPE, universal_newlines=True).stdout.split("malloc")[0].strip()


def report(results, found, syncs, args):
    best = {mode: max(statistics.median(results[n][mode]) for n in found if not n.startswith("kettle")) for mode in MODES}
    lines = ["# Writes per second with the append-only file", "",
             "`perf/aof.py --rounds %d --seconds %g`: SET of %d bytes, %d connections, one request at a time each. Thousands of requests per second, "
             "median of the rounds (lowest-highest), and how that is to the best of the other servers; rounds alternate." % (
                 args.rounds, args.seconds, BYTES, CLIENTS), "",
             "- machine: %s, %d CPUs, shared by server and clients" % (platform.processor() or platform.machine(), os.cpu_count()),
             "- kernel: Linux %s" % platform.release(),
             "- disk: fdatasync(2) after a write of one command takes %.2f ms (median of the rounds' medians; %.2f-%.2f)" % tuple(
                 x / 1000 for x in (statistics.median(syncs), min(syncs), max(syncs)))]
    lines += ["- " + text for text in sorted({version(what[0]) for what in found.values()})]
    lines += ["- load of the machine at the end: %.1f" % os.getloadavg()[0], "- date: " + time.strftime("%Y-%m-%d"), "",
              "| server | " + " | ".join("appendfsync " + m if m != "off" else "appendonly no" for m in MODES) + " |", "|---" * (len(MODES) + 1) + "|"]
    for name in found:
        cells = []
        for mode in MODES:
            r = results[name][mode]
            ratio = "" if not name.startswith("kettle") else ", %.1fx" % (statistics.median(r) / best[mode])
            cells.append("%.1f (%.1f-%.1f)%s" % (statistics.median(r) / 1000, min(r) / 1000, max(r) / 1000, ratio))
        lines.append("| %s | %s |" % (name, " | ".join(cells)))
    return "\n".join(lines) + "\n"


def main():
    p = argparse.ArgumentParser(usage=__doc__.split("Usage: ")[1].split("\n")[0])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=4)
    p.add_argument("--build", default=os.path.join(ROOT, "build"))
    p.add_argument("--dir", default="/var/tmp")
    p.add_argument("--out", default=os.path.join(ROOT, "perf", "results", "aof.md"))
    args = p.parse_args()
    found = programs(args.build)
    results, syncs = {name: {mode: [] for mode in MODES} for name in found}, []
    for i in range(args.rounds):
        names = list(found) if i % 2 == 0 else list(found)[::-1]
        syncs.append(fsync_us(args.dir))
        for mode in MODES:
            for name in names:
                results[name][mode].append(measure(found[name][0], found[name][1], mode, args))
                sys.stderr.write("round %d, %s, %s: %.0f\n" % (i + 1, mode, name, results[name][mode][-1]))
    text = report(results, found, syncs, args)
    with open(args.out, "w") as handle:
        handle.write(text)
    print(text)


if __name__ == "__main__":
    main()
