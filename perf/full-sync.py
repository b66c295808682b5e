#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A full synchronization: what it costs the primary, kettle-server beside redis-server.

Usage: perf/full-sync.py [--mib 1024] [--rounds 3] [--build build] [--transports tls,tcp] [--how diskless,disk] [--ktls no|yes]
                         [--out perf/results/full-sync.md]

Each server gets the same data once (values of 1,000 random-looking bytes, no compression); then, in each round, the servers take turns: redis-cli --rdb
/dev/null fetches everything, over TLS or in plaintext, from a child that writes to the socket (diskless) or by way of a file (disk). Shown are medians over
the rounds: the primary's processor time, its forked child's included (what the process and the children it has waited for have used), and the time that
passes. Ratio: kettle-server's by redis-server's. --ktls yes where the kernel does TLS (scripts/vm-run ... perf/full-sync.py --ktls yes).
"""
import argparse
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Primary:
    def __init__(self, name, program, certs, ktls):
        self.name, self.certs = name, certs
        self.dir = tempfile.mkdtemp(prefix="full-sync-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.port, self.tls_port = free_port(), free_port()
        line = [program, "--port", str(self.port), "--tls-port", str(self.tls_port), "--tls-cert-file", certs + "/server.crt", "--tls-key-file",
                certs + "/server.key", "--tls-ca-cert-file", certs + "/ca.crt", "--save", "", "--dir", self.dir, "--rdbcompression", "no",
                "--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes", "--client-output-buffer-limit", "replica 0 0 0", "--logfile",
                self.dir + "/log"]
        if name == "kettle":
            line += ["--tls-ktls", ktls, "--io-threads", "1"]
        self.proc = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while self.cli("PING") != "PONG":
            if time.monotonic() > end:
                sys.exit("%s does not start:\n%s" % (name, open(self.dir + "/log").read()[-1000:]))
            time.sleep(0.1)

    def address(self, tls):
        if not tls:
            return ["-p", str(self.port)]
        return ["-p", str(self.tls_port), "--tls", "--cacert", self.certs + "/ca.crt", "--cert", self.certs + "/client.crt", "--key",
                self.certs + "/client.key"]

    def cli(self, *args):
        return subprocess.run(["redis-cli", "-p", str(self.port), *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode().strip()

    def fill(self, mib):
        self.cli("DEBUG", "POPULATE", str(mib * 1000), "key", "1000")
        print("%s: %s keys" % (self.name, self.cli("DBSIZE")), file=sys.stderr, flush=True)

    def cpu(self):
        """Seconds, user and system: the process, and its children that have ended."""
        fields = open("/proc/%d/stat" % self.proc.pid).read().rsplit(")", 1)[1].split()
        return sum(int(fields[i]) for i in (11, 12, 13, 14)) / TICK

    def sync(self, tls, how):
        self.cli("CONFIG", "SET", "repl-diskless-sync", "yes" if how == "diskless" else "no")
        before, start = self.cpu(), time.monotonic()
        out = subprocess.run(["redis-cli", *self.address(tls), "--rdb", "/dev/null"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        took = time.monotonic() - start
        if b"finished with success" not in out.stdout:
            sys.exit("%s: %s" % (self.name, out.stdout.decode()[-500:]))
        end = time.monotonic() + 30
        while "state=" in self.cli("INFO", "replication") or "rdb_bgsave_in_progress:1" in self.cli("INFO", "persistence"):
            if time.monotonic() > end:
                break
            time.sleep(0.05)
        return self.cpu() - before, took

    def stop(self):
        self.proc.kill()
        self.proc.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def measure(args, primaries):
    rows = []
    for transport in args.transports.split(","):
        for how in args.how.split(","):
            got = {p.name: [] for p in primaries}
            for i in range(args.rounds):
                for p in primaries[i % len(primaries):] + primaries[:i % len(primaries)]:
                    got[p.name].append(p.sync(transport == "tls", how))
                    print(transport, how, p.name, "CPU %.2f s, %.2f s" % got[p.name][-1], file=sys.stderr, flush=True)
            cpu = {n: statistics.median(x[0] for x in v) for n, v in got.items()}
            wall = {n: statistics.median(x[1] for x in v) for n, v in got.items()}
            rows.append((transport, how, cpu, wall))
    return rows


def report(args, rows, load):
    kernel = "kernel TLS" if args.ktls == "yes" else "userspace TLS"
    out = ["### %d MiB, %s" % (args.mib, kernel), "",
           "Generated by `perf/full-sync.py --mib %d --rounds %d --ktls %s`, %d processors, Linux %s; load average before: %.1f." % (
               args.mib, args.rounds, args.ktls, os.cpu_count(), platform.release(), load), "",
           "| | primary's CPU, s: kettle | redis | ratio | time, s: kettle | redis | ratio |", "|---|---|---|---|---|---|---|"]
    for transport, how, cpu, wall in rows:
        out.append("| %s, %s | %.2f | %.2f | **%.2f** | %.2f | %.2f | %.2f |" % (
            transport, how, cpu["kettle"], cpu["redis"], cpu["kettle"] / max(cpu["redis"], 0.01), wall["kettle"], wall["redis"],
            wall["kettle"] / wall["redis"]))
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--build", default="build")
    parser.add_argument("--transports", default="tls,tcp")
    parser.add_argument("--how", default="diskless,disk")
    parser.add_argument("--ktls", default="no", choices=("no", "yes"))
    parser.add_argument("--out")
    args = parser.parse_args()
    redis = shutil.which("redis-server")
    if not redis:
        sys.exit("no redis-server to compare with")
    load = os.getloadavg()[0]
    certs = tempfile.mkdtemp(prefix="full-sync-certs-")
    subprocess.run([os.path.join(ROOT, "scripts/gen-test-certs.sh"), certs], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    primaries = []
    try:
        for name, program in (("kettle", os.path.join(ROOT, args.build, "kettle-server")), ("redis", redis)):
            primaries.append(Primary(name, program, certs, args.ktls))
            primaries[-1].fill(args.mib)
        text = report(args, measure(args, primaries), load)
    finally:
        for p in primaries:
            p.stop()
        shutil.rmtree(certs, ignore_errors=True)
    print(text)
    if args.out:
        with open(args.out, "a", encoding="utf-8") as handle:
            handle.write("\n" + text)


if __name__ == "__main__":
    main()
