#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a MIGRATE to a server that does not answer costs the caller, and the others.

Usage: perf/migrate.py [--write] [--tries N] [SERVER]     default build/kettle-server; --write: into perf/results/migrate.md

N MIGRATEs with a timeout of 500 ms each, 5 ms apart, each on a connection of its own, to a target that is silent from the start,
drips (a byte each 50 ms, never a whole line, or handshake message), or was stopped (SIGSTOP) after it had been talked to. The times are the callers'.
Meanwhile another client reads and writes other keys, one request at a time, and the keys under way too: its latencies, beside
those of a time without any MIGRATE. Where it is allowed everything runs at a raised priority: what else the machine does comes on
top of every figure."""
import argparse
import os
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TLS = os.path.join(ROOT, "tests", "tls")
TIMEOUT_MS = 500


def encode(*args):
    out = b"*%d\r\n" % len(args)
    for arg in args:
        arg = arg if isinstance(arg, bytes) else str(arg).encode()
        out += b"$%d\r\n%s\r\n" % (len(arg), arg)
    return out


class Client:
    def __init__(self, port, tls):
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context(cafile=os.path.join(TLS, "ca.crt"))
            context.load_cert_chain(os.path.join(TLS, "client.crt"), os.path.join(TLS, "client.key"))
            self.sock = context.wrap_socket(self.sock, server_hostname="127.0.0.1")

    def __call__(self, *args):
        self.sock.sendall(encode(*args))
        reply = b""
        while not reply.endswith(b"\r\n"):
            more = self.sock.recv(65536)
            assert more, "closed"
            reply += more
        return reply


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def start(server, folder, tls):
    port, tls_port = free_port(), free_port()
    line = [server, "--port", str(port), "--save", "", "--logfile", os.path.join(folder, "%d.log" % port), "--dir", folder]
    if tls:
        line += ["--tls-port", str(tls_port), "--tls-cert-file", TLS + "/server.crt", "--tls-key-file", TLS + "/server.key",
                 "--tls-ca-cert-file", TLS + "/ca.crt", "--tls-client-cert-file", TLS + "/client.crt", "--tls-client-key-file",
                 TLS + "/client.key", "--tls-replication", "yes"]
    proc = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    for _ in range(200):
        try:
            Client(port, False)("PING")
            break
        except (OSError, AssertionError):
            time.sleep(0.05)
    return proc, port, tls_port if tls else port


def silent_listener(drip):
    """drip: None, or what is said, a byte each 50 ms; the last one again and again."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1000)
    kept = []

    def accept():
        while True:
            try:
                conn = listener.accept()[0]
            except OSError:
                return
            kept.append(conn)
            if drip:
                threading.Thread(target=drip_into, args=(conn,), daemon=True).start()

    def drip_into(conn):
        try:
            for i in range(10 ** 6):
                conn.sendall(drip[i:i + 1] or drip[-1:])
                time.sleep(0.05)
        except OSError:
            pass
    threading.Thread(target=accept, daemon=True).start()
    return listener, listener.getsockname()[1]


def bystander(port, stop, out):
    conn, i = Client(port, False), 0
    while not stop.is_set():
        began = time.monotonic()
        conn(*(("SET", "other:%d" % (i % 1000), i) if i % 3 == 0 else ("GET", "other:%d" % (i % 1000)) if i % 3 == 1 else
               ("GET", "k:%d" % (i % 50))))
        out.append((time.monotonic() - began) * 1e6)
        i += 1


def latencies(port, seconds=None, during=None):
    stop, out = threading.Event(), []
    thread = threading.Thread(target=bystander, args=(port, stop, out))
    thread.start()
    result = during() if during else time.sleep(seconds)
    stop.set()
    thread.join()
    out.sort()
    return result, out


def migrations(port, target, tries):
    took, replies = [0.0] * tries, [b""] * tries
    conns = [Client(port, False) for _ in range(tries)]

    def one(i):
        began = time.monotonic()
        replies[i] = conns[i]("MIGRATE", "127.0.0.1", target, "k:%d" % i, 0, TIMEOUT_MS)
        took[i] = (time.monotonic() - began) * 1000
    threads = [threading.Thread(target=one, args=(i,)) for i in range(tries)]
    for thread in threads:
        thread.start()
        time.sleep(0.005)
    for thread in threads:
        thread.join()
    assert all(r.startswith(b"-IOERR error or timeout") for r in replies), replies
    return sorted(took)


def row(name, values, form):
    q = lambda p: values[min(len(values) - 1, int(p * len(values)))]
    return "| %s | %d | " % (name, len(values)) + " | ".join(form % v for v in (values[0], statistics.median(values), q(0.99), values[-1]))


def measure(server, tries, tls, say):
    transport = "tls" if tls else "tcp"
    with tempfile.TemporaryDirectory() as folder:
        source, port, _ = start(server, folder, tls)
        target, _, target_port = start(server, folder, tls)
        conn = Client(port, False)
        for i in range(1000):
            conn("SET", "other:%d" % i, i)
        for i in range(tries):
            conn("SET", "k:%d" % i, "x" * 100)
        _, base = latencies(port, seconds=1.0)
        others = [row("%s, no MIGRATE" % transport, base, "%.0f")]
        cases = [("silent", silent_listener(None)),
                 ("drips", silent_listener(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb" if tls else b"+")), ("stopped", (None, target_port))]
        for name, (listener, where) in cases:
            if name == "stopped":
                conn("SET", "warm", 1)
                assert conn("MIGRATE", "127.0.0.1", where, "warm", 0, 5000) == b"+OK\r\n"
                os.kill(target.pid, signal.SIGSTOP)
            took, meanwhile = latencies(port, during=lambda: migrations(port, where, tries))
            inside = took[0] >= TIMEOUT_MS and took[-1] < TIMEOUT_MS + 20
            say(row("%s, %s" % (transport, name), took, "%.2f") + " | %s |" % ("yes" if inside else "no"))
            others.append(row("%s, %s" % (transport, name), meanwhile, "%.0f"))
            if listener:
                listener.close()
        os.kill(target.pid, signal.SIGCONT)
        for proc in (source, target):
            proc.terminate()
            proc.wait()
    return others


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--tries", type=int, default=50)
    parser.add_argument("server", nargs="?", default=os.path.join(ROOT, "build", "kettle-server"))
    opts = parser.parse_args()
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    except OSError:
        pass
    if not os.path.exists(os.path.join(TLS, "server.crt")):
        subprocess.run([os.path.join(ROOT, "scripts", "gen-test-certs.sh")], stdout=subprocess.DEVNULL, check=True)
    out = []

    def say(line):
        out.append(line)
        print(line, flush=True)
    if opts.write:
        out.append("# MIGRATE to a server that does not answer\n\n`perf/migrate.py --write` (its text says what is measured), %d tries each; %d CPUs, Linux %s; load by other "
                   "work at the beginning: %.1f.\n" % (opts.tries, os.cpu_count(), os.uname().release, os.getloadavg()[0]))
    say("| target | tries | first, ms | median | p99 | last | %d to %d ms |\n|---|---|---|---|---|---|---|" % (TIMEOUT_MS, TIMEOUT_MS + 20))
    others = measure(opts.server, opts.tries, False, say) + measure(opts.server, opts.tries, True, say)
    say("\nThe other client:\n\n| | requests | least, us | median | p99 | most |\n|---|---|---|---|---|---|")
    for line in others:
        say(line + " |")
    if opts.write:
        with open(os.path.join(ROOT, "perf", "results", "migrate.md"), "w") as handle:
            handle.write("\n".join(out) + "\n")


if __name__ == "__main__":
    sys.exit(main())
