#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Memory of the server while many clients read a large value, and while large values are set.

Usage: perf/large-values.py [--mib 64] [--clients 100] [--build build] [--servers kettle,redis] [--out FILE] [--vm]

For each server and transport: SET a value of --mib MiB, SET it again; then --clients clients GET it at the same time, read nothing for a
second, and then all of it. What is shown is how much the server's resident memory was at its highest (VmHWM, set back before each
step) above what it was before the step. Every byte is counted, and the value's beginning and end compared. tls-kernel where
the kernel has it; --vm: all of it in the virtual machine of scripts/vm-run, with --mib 8 if not said otherwise.
"""
import argparse
import os
import platform
import selectors
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def status(pid, field):
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
    raise KeyError(field)


def reset_peak(pid):
    with open("/proc/%d/clear_refs" % pid, "w") as f:
        f.write("5")
    return status(pid, "VmRSS")


def start(kind, transport, build, certs, loop):
    port, tls = free_port(), transport != "tcp"
    line = [os.path.join(build, "kettle-server") if kind == "kettle" else "redis-server", "--bind", "127.0.0.1", "--save", "",
            "--io-threads", "1", "--port", "0" if tls else str(port), "--logfile", "/dev/null"]
    if tls:
        line += ["--tls-port", str(port), "--tls-auth-clients", "no"]
        for name, file in (("cert-file", "server.crt"), ("key-file", "server.key"), ("ca-cert-file", "ca.crt")):
            line += ["--tls-" + name, os.path.join(certs, file)]
    if kind == "kettle":
        line += ["--event-loop", loop, "--tls-ktls", "yes" if transport == "tls-kernel" else "no"]
    proc = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tempfile.gettempdir())
    for _ in range(400):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return proc, port
        except OSError:
            time.sleep(0.05)
    raise SystemExit("%s does not start over %s" % (kind, transport))


def connect(port, transport):
    sock = socket.create_connection(("127.0.0.1", port), 120)
    if transport == "tcp":
        return sock
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    return ctx.wrap_socket(sock)


def set_value(sock, value):
    sock.sendall(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % len(value))
    sock.sendall(value)
    sock.sendall(b"\r\n")
    if sock.recv(100) != b"+OK\r\n":
        raise SystemExit("SET failed")


def read_all(socks, value):
    """Every reply, all at the same time. Bytes a second."""
    head, tail = b"$%d\r\n" % len(value), value[-1000:] + b"\r\n"
    total = len(head) + len(value) + 2
    got, ends = {s: 0 for s in socks}, {s: b"" for s in socks}
    sel, started = selectors.DefaultSelector(), time.monotonic()
    for s in socks:
        s.setblocking(False)
        sel.register(s, selectors.EVENT_READ)
    left = len(socks)
    while left:
        for key, _ in sel.select(60) or sys.exit("nothing comes any more"):
            s = key.fileobj
            try:
                data = s.recv(1 << 18)
            except (ssl.SSLWantReadError, BlockingIOError):
                continue
            if not data:
                raise SystemExit("closed after %d of %d bytes" % (got[s], total))
            if got[s] < len(head) + 100 and got[s] + len(data) >= len(head) and got[s] == 0 and not data.startswith(head):
                raise SystemExit("wrong reply")
            got[s] += len(data)
            ends[s] = (ends[s] + data)[-len(tail):]
            if got[s] == total:
                if ends[s] != tail:
                    raise SystemExit("wrong end")
                sel.unregister(s)
                left -= 1
    return total * len(socks) / (time.monotonic() - started)


def measure(kind, transport, args, certs, loop):
    proc, port = start(kind, transport, args.build, certs, loop)
    try:
        pid, value = proc.pid, os.urandom(1 << 20) * args.mib
        one = connect(port, transport)
        base = reset_peak(pid)
        set_value(one, value)
        first = status(pid, "VmHWM") - base
        time.sleep(0.5)
        base2 = reset_peak(pid)
        set_value(one, value)
        second = status(pid, "VmHWM") - base2
        one.sendall(b"PING\r\n")
        one.recv(100)
        socks = [connect(port, transport) for _ in range(args.clients)]
        for s in socks:
            s.sendall(b"PING\r\n")
            s.recv(100)
        time.sleep(12)  # the allocator gives freed memory back to the system after ten seconds
        before = reset_peak(pid)
        for s in socks:
            s.sendall(b"*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n")
        time.sleep(1)
        stalled = status(pid, "VmHWM") - before
        rate = read_all(socks, value)
        return first, second, stalled, status(pid, "VmHWM") - before, rate / (1 << 20)
    finally:
        proc.send_signal(signal.SIGTERM)
        proc.wait(30)


def main():
    p = argparse.ArgumentParser(usage=__doc__.split("Usage: ")[1].split("\n")[0])
    p.add_argument("--mib", type=int, default=None)
    p.add_argument("--clients", type=int, default=100)
    p.add_argument("--build", default=os.path.join(ROOT, "build"))
    p.add_argument("--servers", default="kettle,redis")
    p.add_argument("--out")
    p.add_argument("--vm", action="store_true")
    args = p.parse_args()
    if args.vm:
        line = [os.path.join(ROOT, "scripts/vm-run"), "--kernel", "vm", "--mem", "2048", "--timeout", "1800", "--", "/usr/bin/python3",
                os.path.abspath(__file__), "--mib", str(args.mib or 8), "--clients", str(args.clients), "--servers", args.servers]
        os.execv(line[0], line)
    args.mib = args.mib or 64
    kernel = subprocess.run([os.path.join(args.build, "ktls-probe")], stdout=subprocess.DEVNULL).returncode == 0
    cases = [("kettle", t, loop) for t in ["tcp", "tls-user"] + (["tls-kernel"] if kernel else []) for loop in ("uring", "epoll")]
    if "redis" in args.servers and shutil.which("redis-server"):
        cases += [("redis", "tcp", "epoll"), ("redis", "tls-user", "epoll")]
    lines = ["| server | transport | event loop | SET | SET again | GET, nobody reads | GET, all read | MiB/s |", "|---|---|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as certs:
        subprocess.run([os.path.join(ROOT, "scripts/gen-test-certs.sh"), certs], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for kind, transport, loop in cases:
            lines.append("| %s | %s | %s | %.1f | %.1f | %.1f | %.1f | %.0f |" % ((kind, transport, loop) + measure(kind, transport, args, certs, loop)))
            print(lines[-1], file=sys.stderr, flush=True)
    text = ["# Memory of the server with a value of %d MiB" % args.mib, "",
            "`perf/large-values.py --mib %d --clients %d`: MiB of resident memory at the highest, above what it was before: the value is SET for the first time, SET" % (args.mib, args.clients),
            "again (the old one is freed afterwards), and %d clients GET it at the same time. Linux %s, %s." % (args.clients, platform.release(), time.strftime("%Y-%m-%d")), ""] + lines + [""]
    if args.out:
        with open(args.out, "w") as f:
            f.write("\n".join(text))
    print("\n".join(text))


if __name__ == "__main__":
    main()
