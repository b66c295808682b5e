#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a storm of full TLS handshakes does to clients that are connected: kettle-server beside redis-server and valkey-server.

Usage: perf/storm.py [--rounds 5] [--seconds 4] [--build build] [--servers kettle,redis,valkey] [--out perf/results/storm.md]

Each round starts each server in turn (the order alternates). Four clients over TLS, connected beforehand, send PING one at a time and
note how long each answer takes: first on a quiet server, then while two processes connect, send the same TLS 1.3 ClientHello again and
again, wait for the server's flight and go away, a hundred connections at a time each. Such a handshake costs the server its key exchange and
its signature, as a full one does, and the storm next to nothing, so that the server is what is busy. Shown is the median over the rounds of
each round's percentile, with the lowest and highest. All of it runs at a raised priority where that is allowed (nice -15, the storm -10), so
that other work on the machine disturbs less.
"""
import argparse
import multiprocessing
import os
import platform
import select
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CLIENTS, STORMERS, AT_A_TIME = 4, 2, 100


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def command(kind, build, certs, port):
    name = os.path.join(build, "kettle-server") if kind.startswith("kettle") else kind
    path = lambda f: os.path.join(certs, f)
    line = [name, "--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--io-threads", "1", "--save", "", "--tls-auth-clients",
            "no", "--tls-cert-file", path("server.crt"), "--tls-key-file", path("server.key"), "--tls-ca-cert-file", path("ca.crt"),
            "--logfile", "/dev/null"]
    if kind == "kettle-server, epoll":
        line += ["--event-loop", "epoll"]
    return line


def context(certs):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations(os.path.join(certs, "ca.crt"))
    c.check_hostname = False
    return c


def connect(ctx, port):
    sock = socket.create_connection(("127.0.0.1", port), 60)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ctx.wrap_socket(sock)


def client_hello():
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname, ctx.verify_mode, ctx.minimum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_3
    out = ssl.MemoryBIO()
    try:
        ctx.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    except ssl.SSLWantReadError:
        return out.read()


def storm(port, stop, done):
    """Connect, ClientHello, wait for the server's flight, reset: AT_A_TIME at a time."""
    os.nice(5)
    hello, poll, socks = client_hello(), select.epoll(), {}

    def begin():
        raw = socket.socket()
        raw.setblocking(False)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # no TIME_WAIT: ports would run out
        raw.connect_ex(("127.0.0.1", port))
        socks[raw.fileno()] = raw
        poll.register(raw, select.EPOLLOUT)

    for _ in range(AT_A_TIME):
        begin()
    while not stop.is_set():
        answered = 0
        for fd, event in poll.poll(0.1):
            sock = socks[fd]
            try:
                if event & select.EPOLLOUT:
                    sock.send(hello)
                    poll.modify(fd, select.EPOLLIN)
                    continue
                answered += sock.recv(100)[:1] == b"\x16"
            except OSError:
                pass
            poll.unregister(fd)
            del socks[fd]
            sock.close()
            begin()
        with done.get_lock():
            done.value += answered


def ping(certs, port, seconds, barrier, out):
    """One connected client: a PING each millisecond at most; the times in microseconds."""
    sock = connect(context(certs), port)
    sock.settimeout(60)
    for phase in range(2):
        barrier.wait()
        if phase == 1:
            time.sleep(0.5)  # the storm has begun
        times, until = [], time.monotonic() + seconds
        while time.monotonic() < until:
            start = time.monotonic_ns()
            sock.sendall(b"PING\r\n")
            if sock.recv(100) != b"+PONG\r\n":
                raise SystemExit("no PONG")
            times.append((time.monotonic_ns() - start) // 1000)
            time.sleep(0.001)
        out.put((phase, times))
        barrier.wait()


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p / 100))]


def measure(kind, build, certs, seconds):
    port = free_port()
    server = subprocess.Popen(command(kind, build, certs, port), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    stormers, clients = [], []
    try:
        for _ in range(200):
            try:
                connect(context(certs), port).close()
                break
            except OSError:
                time.sleep(0.05)
        barrier, out = multiprocessing.Barrier(CLIENTS + 1), multiprocessing.Queue()
        stop, done = multiprocessing.Event(), multiprocessing.Value("l", 0)
        clients = [multiprocessing.Process(target=ping, args=(certs, port, seconds, barrier, out)) for _ in range(CLIENTS)]
        for c in clients:
            c.start()
        found = {0: [], 1: []}
        for phase in range(2):
            if phase == 1:
                stormers = [multiprocessing.Process(target=storm, args=(port, stop, done)) for _ in range(STORMERS)]
                for s in stormers:
                    s.start()
            barrier.wait(60)
            began = time.monotonic(), done.value
            for _ in range(CLIENTS):
                got, times = out.get(timeout=120)
                found[got] += times
            rate = (done.value - began[1]) / (time.monotonic() - began[0])
            barrier.wait(60)
        stop.set()
        return {"quiet": found[0], "storm": found[1], "rate": rate}
    finally:
        for p in stormers + clients:
            p.join(5)
            if p.is_alive():
                p.terminate()
                p.join()
        server.send_signal(signal.SIGTERM)
        server.wait(20)


def version(name):
    return subprocess.run([name, "--version"], stdout=subprocess.PIPE, universal_newlines=True).stdout.split("malloc")[0].strip()


def table(results, kinds):
    lines = ["| server | quiet p50 | p99 | storm p50 | p99 | p99.9 | longest | handshakes answered/s |", "|---|---|---|---|---|---|---|---|"]

    def cell(kind, phase, p):
        values = [percentile(r[phase], p) for r in results[kind]]
        return "%.2f (%.2f-%.2f)" % tuple(x / 1000 for x in (statistics.median(values), min(values), max(values)))
    for kind in kinds:
        rates = [r["rate"] for r in results[kind]]
        lines.append("| %s | %s | %.0f (%.0f-%.0f) |" % (kind, " | ".join(
            cell(kind, phase, p) for phase, p in (("quiet", 50), ("quiet", 99), ("storm", 50), ("storm", 99), ("storm", 99.9), ("storm", 100))),
            statistics.median(rates), min(rates), max(rates)))
    return lines


def main():
    p = argparse.ArgumentParser(usage=__doc__.split("Usage: ")[1].split("\n")[0])
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seconds", type=float, default=4)
    p.add_argument("--build", default=os.path.join(ROOT, "build"))
    p.add_argument("--servers", default="kettle,redis,valkey")
    p.add_argument("--out", default=os.path.join(ROOT, "perf", "results", "storm.md"))
    args = p.parse_args()
    wanted = args.servers.split(",")
    kinds = ["kettle-server", "kettle-server, epoll"] if "kettle" in wanted else []
    kinds += [k for k in ("redis-server", "valkey-server") if k.split("-")[0] in wanted and shutil.which(k)]
    results = {k: [] for k in kinds}
    try:
        os.nice(-15)
        priority = "nice -15, the storm -10"
    except PermissionError:
        priority = "as usual"
    with tempfile.TemporaryDirectory() as certs:
        subprocess.run([os.path.join(ROOT, "scripts", "gen-test-certs.sh"), certs], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        for rnd in range(args.rounds):
            for kind in kinds if rnd % 2 == 0 else list(reversed(kinds)):
                r = measure(kind, args.build, certs, args.seconds)
                results[kind].append(r)
                print("round %d, %s: quiet p99 %.2f ms; storm p50 %.2f p99 %.2f ms, longest %.2f ms, %.0f handshakes/s" % (
                    rnd + 1, kind, percentile(r["quiet"], 99) / 1000, percentile(r["storm"], 50) / 1000, percentile(r["storm"], 99) / 1000,
                    max(r["storm"]) / 1000, r["rate"]), file=sys.stderr, flush=True)
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), platform.machine())
    text = ["# Established clients during a storm of TLS handshakes", "",
            "`perf/storm.py --rounds %d --seconds %g`: answer times of PING in milliseconds, %d connected clients, each sending one a millisecond, while %d" % (
                args.rounds, args.seconds, CLIENTS, STORMERS),
            "processes ask for full TLS 1.3 handshakes (ECDSA P-256, no session), %d connections at a time each, as fast as the server answers. One I/O thread. Median of the rounds (lowest-highest); rounds alternate." % AT_A_TIME,
            "", "- machine: %s, %d CPUs, shared by server, clients and storm" % (model, os.cpu_count()), "- kernel: Linux %s" % platform.release()]
    text += ["- %s" % version(os.path.join(args.build, k.split(",")[0]) if k.startswith("kettle") else k) for k in kinds if "," not in k]
    text += ["- priority: %s; load of the machine by others at the end: %s processes" % (priority, os.getloadavg()[0]), "- date: %s" % time.strftime("%Y-%m-%d"), ""] + table(results, kinds) + [""]
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    with open(args.out, "w") as f:
        f.write("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
