# SPDX-License-Identifier: BSD-3-Clause
"""The load: one client program for all servers of a case, and what is read off before and after it."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from bench.servers import CERTS, ROOT, RecordCounter, client_path, command

CPU_TIME = re.compile(r"^  CPU of process \d+: (\d+) ns, user (\d+) ticks, system (\d+) ticks", re.M)
PERCENTILE = re.compile(r"^\s*([\d.]+)% <= ([\d.]+) milliseconds", re.M)
SETTLE_SECONDS = 0.03


class Client:
    """kettle-benchmark or redis-benchmark: their options and their report are the same where it matters."""

    def __init__(self, path, suite, threads):
        self.path, self.suite, self.threads = path, suite, threads
        self.is_kettle = "kettle" in os.path.basename(path)

    def argv(self, server, case, n, keys):
        argv = [self.path, "-h", "127.0.0.1", "-n", str(n), "-c", str(case.clients), "-P", str(case.pipeline), "-r", str(keys),
                "--precision", "3"]
        if self.threads > 1:
            argv += ["--threads", str(self.threads)]
        if self.is_kettle:
            argv += ["--cpu-of", str(server.pid), "--rps", str(case.rate)]
        if server.transport == "tcp":
            argv += ["-p", str(server.port)]
        else:
            argv += ["-p", str(server.tls_port), "--tls", "--cacert", os.path.join(CERTS, "ca.crt")]
            argv += ["--tls-ciphersuites", self.suite] if self.suite else []
        if case.op == "get":
            return argv + ["GET", "k%d:__rand_int__" % case.size]
        return argv + ["-x", "SET", "k%d:__rand_int__" % case.size]

    def run(self, server, case, n, keys):
        """{rps, p50, p99, p999 in ms, client_ns, tls}"""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as value:
            value.write(b"x" * case.size)
            value.seek(0)
            proc = subprocess.Popen(self.argv(server, case, n, keys), stdin=value, stdout=out, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(proc.pid, 0)
            proc.returncode = status
            out.seek(0)
            text = out.read().decode("utf-8", "replace").replace("\r", "\n")
        found = re.search(r"throughput summary: ([\d.]+) requests", text)
        if status != 0 or not found:
            raise RuntimeError("%s against %s %s: %s" % (os.path.basename(self.path), server.program.name, server.transport,
                                                         text.strip()[-300:]))
        rows = [(float(a), float(b)) for a, b in PERCENTILE.findall(text)]
        at = lambda p: min((b for a, b in rows if a >= p), default=float("nan"))
        cpu = CPU_TIME.search(text)
        tls = re.search(r"^  TLS: (.*)$", text, re.M)
        return {"rps": float(found.group(1)), "p50": at(50), "p99": at(99), "p999": at(99.9),
                "client_ns": int((usage.ru_utime + usage.ru_stime) * 1e9), "tls": tls.group(1).split(", records")[0] if tls else "",
                "cpu": [int(word) for word in cpu.groups()] if cpu else None}


def machine_busy_ns():
    with open("/proc/stat") as handle:
        values = [int(word) for word in handle.readline().split()[1:]]
    idle = values[3] + values[4]
    return (sum(values[:8]) - idle) * 10 ** 9 // os.sysconf("SC_CLK_TCK")


def timed(client, server, case, n, keys):
    """One run: what the client says, and the server's and the machine's CPU meanwhile."""
    time.sleep(SETTLE_SECONDS)
    busy, began = machine_busy_ns(), time.monotonic_ns()
    before = server.cpu()
    row = client.run(server, case, n, keys)
    time.sleep(SETTLE_SECONDS)  # the server has closed the connections and sleeps
    after = server.cpu()
    whole = [b - a for a, b in zip(before, after)]
    seconds = (time.monotonic_ns() - began) / 1e9
    row["foreign"] = max(0.0, (machine_busy_ns() - busy - whole[0] - row["client_ns"]) / 1e9 / seconds)
    row["server_ns"], row["user_ticks"], row["system_ticks"] = row["cpu"] or whole
    row["n"] = n
    return row


def sample(setup, row):
    """Per request, without connecting and closing: kettle-benchmark tells what the server used in between; with another client
    (setup is then a run with hardly any request) the two runs are subtracted."""
    base = setup or {"n": 0, "server_ns": 0, "user_ticks": 0, "system_ticks": 0, "client_ns": 0}
    n = row["n"] - base["n"]
    total = max(row["server_ns"] - base["server_ns"], 1)
    user, system = (max(row[key] - base[key], 0) for key in ("user_ticks", "system_ticks"))
    known = user + system >= 8
    return {"rps": row["rps"], "p50": row["p50"], "p99": row["p99"], "p999": row["p999"], "cpu": total / n / 1000,
            "user": total * user / (user + system) / n / 1000 if known else None,
            "system": total * system / (user + system) / n / 1000 if known else None,
            "client_cpu": max(row["client_ns"] - base["client_ns"], 0) / n / 1000, "foreign": row["foreign"], "n": row["n"]}


def measure(client, server, case, n, keys):
    """One round."""
    setup = None if client.is_kettle else timed(client, server, case, case.clients * case.pipeline, keys)
    return sample(setup, timed(client, server, case, n, keys))


def records_per_reply(server, case):
    """TLS records a reply comes in, counted on the wire; pipelined requests leave in one record."""
    if server.transport == "tcp":
        return None
    counter = RecordCounter(server)
    try:
        counter.exchange(command("PING"), 1)  # the tickets of the handshake have come by then
        client_path(server, counter)
        key = "k%d:%012d" % (case.size, 0)
        one = command("GET", key) if case.op == "get" else command("SET", key, b"x" * case.size)
        seen = [counter.exchange(one * case.pipeline, case.pipeline)[1] for _ in range(5)]
    finally:
        counter.close()
    return sum(seen) / len(seen) / case.pipeline


def strace_total(path):
    with open(path) as handle:
        found = re.search(r"^\s*(\d+)\s+total", handle.read(), re.M)
    return int(found.group(1)) if found else None


def traced(server, run):
    """System calls of the server while run() runs; None where they cannot be counted."""
    if not shutil.which("strace"):
        return None
    path = os.path.join(server.dir.name, "strace")
    proc = subprocess.Popen(["strace", "-c", "-f", "-U", "calls,name", "-o", path, "-p", str(server.pid)],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    told = proc.stderr.readline()  # "strace: Process N attached", or why not
    if b"attached" not in told:
        proc.stderr.close()
        proc.wait()
        return None
    time.sleep(0.1)
    try:
        run()
    finally:
        proc.send_signal(signal.SIGINT)
        proc.stderr.read()
        proc.stderr.close()
        proc.wait()
    return strace_total(path)


def syscalls_per_request(client, server, case, n, keys):
    """By two runs under strace, of which one has next to no requests: connecting and idling cancel out."""
    few = case.clients * case.pipeline
    small = traced(server, lambda: client.run(server, case, few, keys))
    if small is None:
        return None
    big = traced(server, lambda: client.run(server, case, n + few, keys))
    return None if big is None else max(0.0, (big - small) / n)


def counter_available():
    """Can perf count instructions here?"""
    if not shutil.which("perf"):
        return False
    done = subprocess.run(["perf", "stat", "-x,", "-e", "instructions", "true"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, universal_newlines=True)
    return done.returncode == 0 and re.search(r"^\d+,", done.stderr, re.M) is not None


def instructions_per_request(client, server, case, n, keys):
    """By the CPU's counter, user and kernel, on runs of their own."""
    def count(requests):
        path = os.path.join(server.dir.name, "perf")
        proc = subprocess.Popen(["perf", "stat", "-x,", "-o", path, "-e", "instructions", "-p", str(server.pid)])
        time.sleep(0.1)
        try:
            client.run(server, case, requests, keys)
        finally:
            proc.send_signal(signal.SIGINT)
            proc.wait()
        with open(path) as handle:
            found = re.search(r"^(\d+),", handle.read(), re.M)
        return int(found.group(1)) if found else None

    few = case.clients * case.pipeline
    small, big = count(few), count(n + few)
    return None if small is None or big is None else (big - small) / n


def default_client():
    return os.path.join(ROOT, "build/kettle-benchmark")
