#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What commands cost, and what collections weigh, beside redis-server and valkey-server.

Usage: perf/commands.py [--rounds 5] [--requests 100000] [--pipeline 16] [--clients 50] [--only REGEX] [--skip-memory]
                        [--transport tcp|tls-user] [--out perf/results/commands]

Commands: server CPU of a request (all threads, user and kernel, read by kettle-benchmark --cpu-of), one I/O thread, pipelines; within a
round the servers take turns, each round begins with another one. A ratio is the median of the rounds' ratios; "best" is the ratio of the
lowest figures of both sides: other load on a machine makes a request dearer, never cheaper. Memory: resident set of a server that
was filled (after MEMORY PURGE), and how much that is above the empty server's, which had a tenth of the same data before; one server
at a time, median of three. Written: a Markdown table and JSON.
"""
import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from bench import peers  # noqa: E402
from bench.servers import CERTS, ROOT, Program, Server, command, read_reply  # noqa: E402

import socket  # noqa: E402

R = "__rand_int__"
V = "x" * 100

# name: (commands that prepare, as (count, words with %d), the command)
CASES = {
    "GET": ([(10000, ["SET", "k:%012d", V])], ["GET", "k:" + R]),
    "SET": ([], ["SET", "k:" + R, V]),
    "SETEX": ([], ["SETEX", "k:" + R, "1000", V]),
    "INCR": ([], ["INCR", "n:" + R]),
    "APPEND": ([], ["APPEND", "a:" + R, "xy"]),
    "GETRANGE": ([(10000, ["SET", "k:%012d", V])], ["GETRANGE", "k:" + R, "10", "50"]),
    "MGET 10": ([(10000, ["SET", "k:%012d", V])], ["MGET"] + ["k:" + R] * 10),
    "MSET 10": ([], ["MSET"] + ["k:" + R, V] * 10),
    "EXISTS": ([(10000, ["SET", "k:%012d", V])], ["EXISTS", "k:" + R]),
    "DEL": ([(10000, ["SET", "k:%012d", V])], ["DEL", "k:" + R]),
    "EXPIRE": ([(10000, ["SET", "k:%012d", V])], ["EXPIRE", "k:" + R, "1000"]),
    "SETBIT": ([], ["SETBIT", "b:" + R, "100", "1"]),
    "BITCOUNT": ([(10000, ["SET", "k:%012d", V])], ["BITCOUNT", "k:" + R]),
    "LPUSH": ([], ["LPUSH", "l", V]),
    "RPUSH": ([], ["RPUSH", "l:" + R, V]),
    "LPOP": ([(200000, ["RPUSH", "l", V])], ["LPOP", "l"]),
    "LRANGE 0 99": ([(1000, ["RPUSH", "l", V])], ["LRANGE", "l", "0", "99"]),
    "LINDEX": ([(100000, ["RPUSH", "l", V])], ["LINDEX", "l", "50000"]),
    "HSET": ([], ["HSET", "h:" + R, "field", V]),
    "HSET large": ([(10000, ["HSET", "h", "f:%012d", V])], ["HSET", "h", "f:" + R, V]),
    "HGET": ([(10000, ["HSET", "h", "f:%012d", V])], ["HGET", "h", "f:" + R]),
    "HGETALL 10": ([(10, ["HSET", "h", "f%d", V])], ["HGETALL", "h"]),
    "HINCRBY": ([(10000, ["HSET", "h", "f:%012d", "1"])], ["HINCRBY", "h", "f:" + R, "1"]),
    "SADD": ([], ["SADD", "s", "m:" + R]),
    "SISMEMBER": ([(10000, ["SADD", "s", "m:%012d"])], ["SISMEMBER", "s", "m:" + R]),
    "SRANDMEMBER": ([(10000, ["SADD", "s", "m:%012d"])], ["SRANDMEMBER", "s"]),
    "SINTER": ([(100, ["SADD", "s1", "m:%d"]), (100, ["SADD", "s2", "m:%d"])], ["SINTER", "s1", "s2"]),
    "SUNION": ([(100, ["SADD", "s1", "m:%d"]), (100, ["SADD", "s2", "m:%d"])], ["SUNION", "s1", "s2"]),
    "SDIFF": ([(100, ["SADD", "s1", "m:%d"]), (100, ["SADD", "s2", "m:%d"])], ["SDIFF", "s1", "s2"]),
    "ZADD": ([(10000, ["ZADD", "z", "%d", "m:%012d"])], ["ZADD", "z", R, "m:" + R]),
    "ZSCORE": ([(10000, ["ZADD", "z", "%d", "m:%012d"])], ["ZSCORE", "z", "m:" + R]),
    "ZRANK": ([(10000, ["ZADD", "z", "%d", "m:%012d"])], ["ZRANK", "z", "m:" + R]),
    "ZRANGE 0 9": ([(10000, ["ZADD", "z", "%d", "m:%012d"])], ["ZRANGE", "z", "0", "9"]),
    "ZRANGEBYSCORE": ([(10000, ["ZADD", "z", "%d", "m:%012d"])], ["ZRANGEBYSCORE", "z", R, "+inf", "LIMIT", "0", "10"]),
    "ZINCRBY": ([(10000, ["ZADD", "z", "%d", "m:%012d"])], ["ZINCRBY", "z", "1", "m:" + R]),
    "ZINTER": ([(100, ["ZADD", "z1", "%d", "m:%d"]), (100, ["ZADD", "z2", "%d", "m:%d"])], ["ZINTER", "2", "z1", "z2"]),
    "ZUNION": ([(100, ["ZADD", "z1", "%d", "m:%d"]), (100, ["ZADD", "z2", "%d", "m:%d"])], ["ZUNION", "2", "z1", "z2"]),
    "XADD": ([], ["XADD", "x", "*", "field", V]),
    "XADD MAXLEN": ([], ["XADD", "x", "MAXLEN", "~", "1000", "*", "field", V]),
    "XRANGE 10": ([(10000, ["XADD", "x", "%d-1", "field", V])], ["XRANGE", "x", "5000", "+", "COUNT", "10"]),
    "PFADD": ([], ["PFADD", "p", "e:" + R]),
    "PFCOUNT": ([(10000, ["PFADD", "p", "e:%d"])], ["PFCOUNT", "p"]),
    "GEOADD": ([], ["GEOADD", "g", "13.361389", "38.115556", "m:" + R]),
    "GEODIST": ([(100, ["GEOADD", "g", "13.%d", "38.1", "m:%d"])], ["GEODIST", "g", "m:1", "m:2"]),
    "EVAL": ([], ["EVAL", "return redis.call('get', KEYS[1])", "1", "k:" + R]),
    "PUBLISH": ([], ["PUBLISH", "channel", V]),
}

MEMORY = {
    "1M keys, 100-byte values": (10 ** 6, lambda i: ["SET", "key:%d" % i, V]),
    "hash of 1M fields": (10 ** 6, lambda i: ["HSET", "h", "field:%d" % i, "value:%d" % i]),
    "set of 1M members": (10 ** 6, lambda i: ["SADD", "s", "member:%d" % i]),
    "sorted set of 1M members": (10 ** 6, lambda i: ["ZADD", "z", i * 7919 % 1000003, "member:%d" % i]),
    "list of 1M values": (10 ** 6, lambda i: ["RPUSH", "l", "value:%d" % i]),
    "stream of 1M entries": (10 ** 6, lambda i: ["XADD", "x", "%d-1" % (i + 1), "field", "value:%d" % i]),
    "100k hashes of 10 fields": (10 ** 5, lambda i: ["HSET", "h:%d" % i] + [w for f in range(10) for w in ("field%d" % f, "value%d" % f)]),
}


def send_all(server, lines):
    """Pipelined, some at a time."""
    with socket.create_connection(("127.0.0.1", server.port), 120) as sock:
        batch, n = [], 0

        def settle():
            sock.sendall(b"".join(batch) + command("PING"))
            data = b""
            while not data.endswith(b"+PONG\r\n"):
                data += sock.recv(1 << 20)
            errors = [line for line in data.split(b"\r\n") if line.startswith(b"-")]
            if errors:
                raise RuntimeError("%s: %r" % (server.program.name, errors[0]))
        for words in lines:
            batch.append(command(*words))
            n += 1
            if len(batch) == 500:
                settle()
                batch = []
        settle()
    return n


def prepare(server, steps):
    read_reply_ok(server, "FLUSHALL")
    for count, words in steps:
        send_all(server, ([w.replace("%012d", "%012d" % i).replace("%d", str(i)) for w in words] for i in range(count)))


def read_reply_ok(server, *words):
    with socket.create_connection(("127.0.0.1", server.port), 60) as sock:
        sock.sendall(command(*words))
        return read_reply(sock)


CPU = re.compile(r"CPU of process \d+: (\d+) ns")


def run(server, args, words):
    argv = [os.path.join(args.build, "kettle-benchmark"), "-h", "127.0.0.1", "-n", str(args.requests), "-c", str(args.clients), "-P",
            str(args.pipeline), "-r", "10000", "--seed", "7", "--cpu-of", str(server.pid)]
    if args.transport == "tcp":
        argv += ["-p", str(server.port)]
    else:
        argv += ["-p", str(server.tls_port), "--tls", "--cacert", os.path.join(CERTS, "ca.crt")]
    done = subprocess.run(argv + words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True, errors="replace")
    found = CPU.search(done.stdout.replace("\r", "\n"))
    if done.returncode != 0 or not found:
        raise RuntimeError("%s: %s" % (server.program.name, done.stdout.strip()[-300:]))
    return int(found.group(1)) / args.requests


def measure_commands(programs, args, results):
    servers = [Server(p, args.transport, 1) for p in programs]
    try:
        for number, (name, (steps, words)) in enumerate(CASES.items()):
            if args.only and not re.search(args.only, name):
                continue
            rows = {s.program.name: [] for s in servers}
            for turn in range(args.rounds):
                for server in servers[turn % len(servers):] + servers[:turn % len(servers)]:
                    prepare(server, steps)
                    rows[server.program.name].append(run(server, args, words))
            results["commands"][name] = rows
            print("%2d/%d %-16s %s" % (number + 1, len(CASES), name, "  ".join(
                "%s %.0f ns" % (k, statistics.median(v)) for k, v in rows.items())), flush=True)
            save(results, args)
    finally:
        for server in servers:
            server.stop()


def rss(server):
    with open("/proc/%d/status" % server.pid) as handle:
        return next(int(line.split()[1]) * 1024 for line in handle if line.startswith("VmRSS:"))


def measure_memory(programs, args, results):
    for name, (count, line) in MEMORY.items():
        row = {}
        for program in programs:
            filled, above = [], []
            for _ in range(3):
                server = Server(program, "tcp", 1)
                try:
                    send_all(server, (line(i) for i in range(count // 10)))  # its buffers and tables have been used once
                    read_reply_ok(server, "FLUSHALL")
                    read_reply_ok(server, "MEMORY", "PURGE")
                    time.sleep(0.5)
                    before = rss(server)
                    send_all(server, (line(i) for i in range(count)))
                    read_reply_ok(server, "MEMORY", "PURGE")  # what growing tables have left behind goes by itself, but later
                    time.sleep(0.5)
                    filled.append(rss(server))
                    above.append(filled[-1] - before)
                finally:
                    server.stop()
            row[program.name] = {"rss": statistics.median(filled), "above": statistics.median(above)}
        results["memory"][name] = row
        print("%-28s %s" % (name, "  ".join("%s %.1f MB" % (k, v["rss"] / 1e6) for k, v in row.items())), flush=True)
        save(results, args)


def ratios(rows):
    """Against the cheapest peer (by median): median of the rounds' ratios, ratio of the best rounds."""
    peers_rows = {k: v for k, v in rows.items() if k != "kettle"}
    best = min(peers_rows, key=lambda k: statistics.median(peers_rows[k]))
    pairs = [a / b for a, b in zip(rows["kettle"], peers_rows[best])]
    return best, statistics.median(pairs), min(rows["kettle"]) / min(peers_rows[best])


def save(results, args):
    with open(args.out + ".json", "w") as handle:
        json.dump(results, handle, indent=1)
    with open(args.out + ".md", "w") as out:
        out.write("# Commands, and what collections weigh\n\nWritten by `%s`.\n\n" % results["command"])
        out.write("%s. %s. Load of the machine at the end (1 minute): %.1f.\n" % (
            results["machine"], "; ".join(results["versions"].values()), os.getloadavg()[0]))
        names = list(results["versions"])
        if results["commands"]:
            out.write("\nServer CPU of a request in nanoseconds, %s, pipelines of %d, %d clients, one I/O thread, median of %d rounds. "
                      "Ratio: to the cheaper peer.\n\n" % (args.transport, args.pipeline, args.clients, args.rounds))
            out.write("| command | %s | ratio | best rounds | goal 1.0 |\n|---|%s---|---|---|\n" % (" | ".join(names), "---|" * len(names)))
            for name, rows in results["commands"].items():
                _, ratio, best = ratios(rows)
                out.write("| %s | %s | %.2f | %.2f | %s |\n" % (name, " | ".join(
                    "%.0f" % statistics.median(rows[n]) for n in names), ratio, best, "met" if ratio <= 1 else "MISSED"))
        if results["memory"]:
            out.write("\nResident memory of the filled server, MB; ratio: to the smaller peer. Then the same above the empty server's.\n\n"
                      "| data | %s | ratio | goal 1.0 | %s | ratio |\n|---|%s---|---|%s---|\n" % (
                          " | ".join(names), " | ".join(n + ", above" for n in names), "---|" * len(names), "---|" * len(names)))
            for name, row in results["memory"].items():
                cells = []
                for kind in ("rss", "above"):
                    ratio = row["kettle"][kind] / min(v[kind] for k, v in row.items() if k != "kettle")
                    cells += ["%.1f" % (row[n][kind] / 1e6) for n in names] + ["%.2f" % ratio]
                    if kind == "rss":
                        cells.append("met" if ratio <= 1 else "MISSED")
                out.write("| %s | %s |\n" % (name, " | ".join(cells)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=100000)
    parser.add_argument("--pipeline", type=int, default=16)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--only", help="commands whose name matches")
    parser.add_argument("--transport", default="tcp", choices=("tcp", "tls-user"))
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--skip-commands", action="store_true")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"))
    parser.add_argument("--out", default=os.path.join(ROOT, "perf/results/commands"))
    args = parser.parse_args()
    programs = [Program("kettle", os.path.join(args.build, "kettle-server"))]
    for name, (path, libs) in (("redis", peers.redis()), ("valkey", peers.valkey())):
        if path:
            programs.append(Program(name, path, libs))
    if len(programs) == 1:
        sys.exit("commands.py: nothing to compare with")
    if not os.path.exists(os.path.join(CERTS, "server.crt")):
        subprocess.run([os.path.join(ROOT, "scripts/gen-test-certs.sh")], check=True, stdout=subprocess.DEVNULL)
    results = {"command": "perf/commands.py " + " ".join(sys.argv[1:]), "machine": "%s, %s, %d cores" % (
        platform.machine(), platform.release(), os.cpu_count()), "versions": {p.name: p.version() for p in programs},
        "commands": {}, "memory": {}}
    if os.path.exists(args.out + ".json"):
        with open(args.out + ".json") as handle:
            old = json.load(handle)
        if args.skip_commands or args.only:
            results["commands"] = old["commands"]
            results["command"] = old["command"] + "`, then `" + results["command"]
        if args.skip_memory:
            results["memory"] = old["memory"]
    if not args.skip_commands:
        measure_commands(programs, args, results)
    if not args.skip_memory:
        measure_memory(programs, args, results)


if __name__ == "__main__":
    main()
