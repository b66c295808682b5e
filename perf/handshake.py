#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Full and resumed TLS handshakes per second of server CPU: kettle-server beside `openssl s_server`.

    perf/handshake.py [--rounds 5] [--count 400] [--build build] [--out perf/results/handshake.md]

One client (this one) drives both servers in turn, one connection at a time: connect, handshake, in TLS 1.3 wait for
a ticket, close_notify, close. What is measured is the server's CPU time, user and system, from /proc/PID/stat; a run
is `count` full or three times `count` resumed handshakes, rounds alternate between the servers, the median of the rounds is shown with the lowest and the
highest. Every handshake is checked to be what it should be: resumed or not. Nothing else should run meanwhile, but what
does costs wall-clock time, not the servers' CPU time.
"""
import argparse
import os
import platform
import select
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TICK = os.sysconf("SC_CLK_TCK")
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
CERTS = {"ECDSA P-256": "server", "RSA-2048": "server-rsa"}


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


class Server:
    def __init__(self, name, argv, port):
        self.name, self.port = name, port
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise SystemExit("%s does not listen" % name)

    def stop(self):
        self.proc.send_signal(signal.SIGTERM)
        self.proc.wait(10)


def start_kettle(build, certs, cert):
    port = free_port()
    path = lambda suffix: os.path.join(certs, cert + suffix)
    return Server("kettle-server", [os.path.join(build, "kettle-server"), "--port", "0", "--tls-port", str(port), "--bind",
                                    "127.0.0.1", "--io-threads", "1", "--tls-cert-file", path(".crt"), "--tls-key-file",
                                    path(".key"), "--tls-ca-cert-file", os.path.join(certs, "ca.crt"), "--tls-auth-clients",
                                    "no", "--logfile", "/dev/null"], port)


def start_openssl(certs, cert):
    port = free_port()
    path = lambda suffix: os.path.join(certs, cert + suffix)
    return Server("openssl s_server", ["openssl", "s_server", "-accept", "127.0.0.1:%d" % port, "-cert", path(".crt"), "-key",
                                       path(".key"), "-quiet", "-rev"], port)


def context(certs, version):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations(os.path.join(certs, "ca.crt"))
    c.minimum_version = c.maximum_version = VERSIONS[version]
    return c


def shake(ctx, server, version, session):
    """One connection. Its session."""
    raw = socket.create_connection(("127.0.0.1", server.port), 10)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    tls = ctx.wrap_socket(raw, server_hostname="localhost", session=session)
    try:
        if tls.session_reused != (session is not None):
            raise SystemExit("%s, TLS %s: resumed: %s, wanted: %s" % (server.name, version, tls.session_reused, not tls.session_reused))
        if version == "1.3":
            tls.settimeout(0)
            deadline = time.monotonic() + 10
            while not tls.session.has_ticket:
                if time.monotonic() > deadline:
                    raise SystemExit("%s sends no ticket" % server.name)
                try:
                    tls.recv(1)
                except ssl.SSLWantReadError:
                    if not tls.session.has_ticket:
                        select.select([tls], [], [], 10)
        session = tls.session
        tls.settimeout(0)
        try:
            tls.unwrap()  # close_notify; its answer is not waited for
        except (ssl.SSLError, OSError):
            pass
        return session
    finally:
        tls.close()


def measure(ctx, server, version, resumed, count):
    """Handshakes per CPU second of the server."""
    session = shake(ctx, server, version, None) if resumed else None
    time.sleep(0.02)
    before = cpu_seconds(server.proc.pid)
    for _ in range(count):
        fresh = shake(ctx, server, version, session)
        if resumed:
            session = fresh
    time.sleep(0.05)
    used = cpu_seconds(server.proc.pid) - before
    return count / used if used else float("nan")


def cpu_model():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def output(*argv):
    return subprocess.run(argv, stdout=subprocess.PIPE, universal_newlines=True).stdout.strip()


def where(build):
    mode = subprocess.run([os.path.join(build, "ktls-probe")], stdout=subprocess.DEVNULL).returncode == 0
    return ["- machine: %s, %d CPUs" % (cpu_model(), os.cpu_count()), "- kernel: Linux %s" % platform.release(),
            "- kettle-server: %s" % output(os.path.join(build, "kettle-server"), "--version"),
            "- its connections after the handshake: %s" % ("kernel TLS" if mode else
                                                           "userspace TLS (this kernel has no other)"),
            "- OpenSSL, both servers: %s; client: Python %s with %s" % (output("openssl", "version"), platform.python_version(),
                                                                       ssl.OPENSSL_VERSION),
            "- date: %s" % time.strftime("%Y-%m-%d")]


def table(results, args):
    lines = ["| TLS | certificate | handshake | kettle-server | openssl s_server | ratio |", "|---|---|---|---|---|---|"]
    gains = []
    for version in VERSIONS:
        for cert in CERTS:
            row = {}
            for kind in ("full", "resumed"):
                cells = []
                for name in ("kettle-server", "openssl s_server"):
                    v = results[version, cert, kind, name]
                    row[kind, name] = statistics.median(v)
                    cells.append("%.0f (%.0f-%.0f)" % (statistics.median(v), min(v), max(v)))
                pairs = [a / b for a, b in zip(results[version, cert, kind, "kettle-server"],
                                               results[version, cert, kind, "openssl s_server"])]
                lines.append("| %s | %s | %s | %s | %s | %.2f |" % (version, cert, kind, cells[0], cells[1], statistics.median(pairs)))
            gains.append("| %s | %s | %.2f | %.2f |" % ((version, cert) + tuple(
                row["resumed", n] / row["full", n] for n in ("kettle-server", "openssl s_server"))))
    lines += ["", "What resumption gains (resumed per CPU second / full per CPU second):", "",
              "| TLS | certificate | kettle-server | openssl s_server |", "|---|---|---|---|"] + gains
    return lines


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--count", type=int, default=400)
    p.add_argument("--build", default=os.path.join(ROOT, "build"))
    p.add_argument("--out", default=os.path.join(ROOT, "perf", "results", "handshake.md"))
    args = p.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as certs:
        subprocess.run([os.path.join(ROOT, "scripts", "gen-test-certs.sh"), certs], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        for cert, file in CERTS.items():
            servers = [start_kettle(args.build, certs, file), start_openssl(certs, file)]
            try:
                for rnd in range(args.rounds):
                    for version in VERSIONS:
                        ctx = context(certs, version)
                        for kind in ("full", "resumed"):
                            for server in servers if rnd % 2 == 0 else reversed(servers):
                                n = args.count * (3 if kind == "resumed" else 1)  # CPU time comes in ticks of 10 ms
                                rate = measure(ctx, server, version, kind == "resumed", n)
                                results.setdefault((version, cert, kind, server.name), []).append(rate)
                                print("%s %s %s %s: %.0f per CPU second" % (version, cert, kind, server.name, rate), file=sys.stderr)
            finally:
                for s in servers:
                    s.stop()
    text = ["# Handshakes per second of server CPU", "",
            "`perf/handshake.py --rounds %d --count %d`: one client drives both servers in turn, %d full or %d resumed handshakes a run,"
            % (args.rounds, args.count, args.count, 3 * args.count),
            "median of %d alternating runs (lowest-highest). Server CPU time is user + system of /proc/PID/stat. Ratio: median of the paired runs." % args.rounds,
            ""] + where(args.build) + [""] + table(results, args) + [""]
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    with open(args.out, "w") as f:
        f.write("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
