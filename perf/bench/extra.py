# SPDX-License-Identifier: BSD-3-Clause
"""Cases that are not a stream of requests: connections, idling, memory, many keys."""
import importlib.machinery
import importlib.util
import json
import os
import re
import subprocess
import time

from bench.cases import Case
from bench.load import measure
from bench.servers import CERTS, ROOT, Server, output


def module(name, file):
    """A program of perf/ as a module."""
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(ROOT, "perf", file))
    found = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(found)
    return found


class TlsEnd:
    """A server as perf/handshake.py knows one."""

    def __init__(self, server):
        self.name, self.port = "%s %s" % (server.program.name, server.transport), server.tls_port


def handshakes(server, kind, count):
    """count connections one after the other, TLS 1.3. Handshakes per CPU second of the server."""
    shake = module("handshake", "handshake.py")
    context, end = shake.context(CERTS, "1.3"), TlsEnd(server)
    session = shake.shake(context, end, "1.3", None)
    time.sleep(0.03)
    before = server.cpu()[0]
    for _ in range(count):
        fresh = shake.shake(context, end, "1.3", session if kind == "resumed" else None)
        session = fresh if kind == "resumed" else None
    time.sleep(0.05)
    used = (server.cpu()[0] - before) / 1e9
    return {"per_cpu_second": count / used, "cpu": used / count * 1e6}


def accepts(client, server, kind, count):
    """Connections per second, 50 at a time, a PING each, by kettle-benchmark -k 0 with two threads."""
    argv = [client, "-h", "127.0.0.1", "-p", str(server.tls_port), "--tls", "--cacert", os.path.join(CERTS, "ca.crt"), "-k", "0", "-t",
            "ping_mbulk", "-n", str(count), "-c", "50", "--threads", "2"] + (["--no-resume"] if kind == "full" else [])
    time.sleep(0.05)
    before = server.cpu()[0]
    text = output(*argv)
    time.sleep(0.1)
    used = (server.cpu()[0] - before) / 1e9
    found = re.search(r"throughput summary: ([\d.]+)", text)
    shakes = re.search(r"TLS handshakes: (\d+), resumed: (\d+)", text)
    if not found or not shakes:
        raise RuntimeError("kettle-benchmark: %s" % text[-300:])
    return {"rps": float(found.group(1)), "cpu": used / int(shakes.group(1)) * 1e6, "per_cpu_second": int(shakes.group(1)) / used,
            "resumed_share": int(shakes.group(2)) / int(shakes.group(1))}


def idle(server, seconds):
    """Percent of a CPU that a server with nothing to do uses."""
    time.sleep(0.5)
    before, began = server.cpu()[0], time.monotonic_ns()
    time.sleep(seconds)
    return {"cpu_percent": 100.0 * (server.cpu()[0] - before) / (time.monotonic_ns() - began)}


def memory(connections, rounds, programs):
    """Rows of perf/idle-memory: {(server, transport): {rss, slab}}."""
    env = dict(os.environ)
    for program in programs:
        if not program.is_kettle:
            env["KETTLE_%s_SERVER" % program.name.upper()], env["KETTLE_%s_LIBS" % program.name.upper()] = program.path, program.libs
    done = subprocess.run(["/usr/bin/python3", os.path.join(ROOT, "perf/idle-memory"), "--connections", str(connections), "--rounds",
                           str(rounds), "--servers", ",".join(program.name for program in programs), "--json"], stdout=subprocess.PIPE, env=env, check=True)
    rows = json.loads(done.stdout.decode())["rows"]
    return {(row["server"], row["transport"]): {"rss": [row["rss_bytes"]], "slab": [row["slab_bytes"]]} for row in rows}


def available_mb():
    with open("/proc/meminfo") as handle:
        return int(re.search(r"^MemAvailable:\s+(\d+)", handle.read(), re.M).group(1)) // 1024


def keys(program, client, many, rounds, requests, say):
    """Server CPU of GET of 100 bytes, tcp, with 10,000 keys beside `many`: {case: {metric: values}}."""
    case, found = Case("get", 100), {}
    servers = [("keys-few", 10000), ("keys-many", many)]
    running = {}
    try:
        for name, count in servers:
            running[name] = Server(program, "tcp", 1)
            say("%s: %d keys" % (name, count))
            running[name].load_keys(100, count)
        time.sleep(1)  # rehashing ends
        for number in range(rounds + 1):
            for name, count in servers if number % 2 else reversed(servers):
                row = measure(client, running[name], case, requests, count)
                say("%s: %.2f us" % (name, row["cpu"]))
                if number:  # the first is to warm up
                    for metric, value in row.items():
                        found.setdefault(name, {}).setdefault(metric, []).append(value)
    finally:
        for server in running.values():
            server.stop()
    return found


def storm(client, server, case, keys, requests):
    """Latency of running clients while others make new connections with full handshakes as fast as they get them."""
    argv = [client.path, "-h", "127.0.0.1", "-p", str(server.tls_port), "--tls", "--cacert", os.path.join(CERTS, "ca.crt"), "--no-resume",
            "-k", "0", "-t", "ping_mbulk", "-n", "100000000", "-c", "32", "-q"]
    noise = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.2)
        row = client.run(server, case, requests, keys)
    finally:
        noise.kill()
        noise.wait()
    return {name: row[name] for name in ("rps", "p50", "p99", "p999")}
