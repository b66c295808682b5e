# SPDX-License-Identifier: BSD-3-Clause
"""The servers that are measured: how each is started, asked, timed and stopped."""
import os
import re
import signal
import socket
import ssl
import subprocess
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CERTS = os.path.join(ROOT, "tests/tls")
KTLS = {"tls-user": "no", "tls-kernel": "yes", "tls-tx": "tx"}


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def output(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, universal_newlines=True)
    return done.stdout.strip()


class Program:
    """A server's program: the name in the tables, the file, folders of libraries it was unpacked with."""

    def __init__(self, name, path, libs="", options=()):
        self.name, self.path, self.libs, self.options = name, path, libs, list(options)
        self.is_kettle = name.startswith("kettle")

    def environment(self):
        return dict(os.environ, LD_LIBRARY_PATH=self.libs) if self.libs else None

    def version(self):
        done = subprocess.run([self.path, "--version"], stdout=subprocess.PIPE, env=self.environment(), universal_newlines=True)
        return done.stdout.strip()

    def transports(self, kernel_tls):
        if not self.is_kettle:
            return ["tcp", "tls-user"]
        return ["tcp", "tls-user"] + (["tls-kernel", "tls-tx"] if kernel_tls else [])


class Server:
    """One running server with a plaintext and a TLS port; transport says which of them the load takes."""

    def __init__(self, program, transport, threads, extra=()):
        self.program, self.transport, self.threads = program, transport, threads
        self.port, self.tls_port = free_port(), free_port()
        self.loaded = set()
        self.dir = tempfile.TemporaryDirectory(prefix="ktls-bench-")
        with open(os.path.join(self.dir.name, "out"), "wb") as log:
            self.proc = subprocess.Popen(self.command() + list(extra), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         env=program.environment(), cwd=self.dir.name)
        self.pid = self.proc.pid
        self.wait_ready()

    def command(self):
        argv = [self.program.path, "--port", str(self.port), "--tls-port", str(self.tls_port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--dir", self.dir.name, "--maxclients", "18000", "--tls-auth-clients", "no",
                "--io-threads", str(self.threads)]
        for option, name in (("cert-file", "server.crt"), ("key-file", "server.key"), ("ca-cert-file", "ca.crt")):
            argv += ["--tls-" + option, os.path.join(CERTS, name)]
        if self.program.is_kettle:
            argv += ["--tls-ktls", KTLS.get(self.transport, "no")]
        elif self.threads > 1:
            argv += ["--io-threads-do-reads", "yes"]
        return argv + self.program.options

    def wait_ready(self):
        for _ in range(600):
            try:
                self.ask("PING")
                return
            except OSError:
                if self.proc.poll() is not None:
                    break
                time.sleep(0.02)
        with open(os.path.join(self.dir.name, "out"), errors="replace") as log:
            said = log.read().strip().splitlines()[-3:]
        self.stop()
        raise RuntimeError("%s did not start over %s: %s" % (self.program.name, self.transport, " / ".join(said)))

    def ask(self, *words):
        """One command over plaintext; the reply as text."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as sock:
            sock.sendall(command(*words))
            return read_reply(sock)

    def field(self, section, name):
        found = re.search(r"^%s:(.*?)\r?$" % name, self.ask("INFO", section), re.M)
        return found.group(1) if found else ""

    def load_keys(self, size, count):
        """count keys k<size>:<12 digits> with values of size bytes."""
        if (size, count) in self.loaded:
            return
        step = max(1, min(1000, (1 << 20) // max(size, 1)))
        value = b"x" * size
        tail = b"$%d\r\n%s\r\n" % (size, value)
        with socket.create_connection(("127.0.0.1", self.port), 120) as sock:
            for first in range(0, count, step):
                keys = [b"k%d:%012d" % (size, i) for i in range(first, min(first + step, count))]
                rows = b"".join(b"$%d\r\n%s\r\n" % (len(key), key) + tail for key in keys)
                sock.sendall(b"*%d\r\n$4\r\nMSET\r\n" % (2 * len(keys) + 1) + rows)
                if read_reply(sock) != "+OK":
                    raise RuntimeError("%s refused MSET" % self.program.name)
        self.loaded.add((size, count))

    def cpu(self):
        """(nanoseconds on a CPU by all threads, user ticks, system ticks). Exact when the server sleeps, as it does when this is
        called; the ticks only tell the share of user and system."""
        total = 0
        for task in os.listdir("/proc/%d/task" % self.pid):
            with open("/proc/%d/task/%s/schedstat" % (self.pid, task)) as handle:
                total += int(handle.read().split()[0])
        with open("/proc/%d/stat" % self.pid) as handle:
            fields = handle.read().rsplit(")", 1)[1].split()
        return total, int(fields[11]), int(fields[12])

    def stop(self):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(10)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        self.dir.cleanup()


def command(*words):
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def reply_end(data, at=0):
    """Where the simple reply or bulk string that starts at `at` ends, -1 when it is not whole."""
    line = data.find(b"\r\n", at)
    if line < 0:
        return -1
    if data[at:at + 1] != b"$" or data[at + 1:at + 2] == b"-":
        return line + 2
    end = line + 2 + int(data[at + 1:line]) + 2
    return end if end <= len(data) else -1


def read_reply(sock):
    data = b""
    while reply_end(data) < 0:
        more = sock.recv(1 << 16)
        if not more:
            raise ConnectionError("the server closed the connection")
        data += more
    text = data.decode("latin-1")
    return text.split("\r\n", 1)[1] if text.startswith("$") else text.rstrip("\r\n")


class RecordCounter:
    """A TLS connection that sees the records on the wire: how many carry the replies."""

    def __init__(self, server):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(os.path.join(CERTS, "ca.crt"))
        self.sock = socket.create_connection(("127.0.0.1", server.tls_port), 30)
        self.rx, self.tx = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.rx, self.tx)
        self.wire, self.records = b"", 0
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                self.fill()
        self.flush()

    def flush(self):
        data = self.tx.read()
        if data:
            self.sock.sendall(data)

    def fill(self):
        data = self.sock.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.rx.write(data)
        self.wire += data
        while len(self.wire) >= 5 and len(self.wire) >= 5 + int.from_bytes(self.wire[3:5], "big"):
            self.records += self.wire[0] == 23
            self.wire = self.wire[5 + int.from_bytes(self.wire[3:5], "big"):]

    def exchange(self, request, n_replies):
        """Sends, reads n_replies; the replies' bytes and how many records they came in."""
        self.tls.write(request)
        before = self.records
        self.flush()
        data, at, seen = bytearray(), 0, 0
        while seen < n_replies:
            try:
                data += self.tls.read(1 << 16)
            except ssl.SSLWantReadError:
                self.fill()
                continue
            while seen < n_replies:
                end = reply_end(data, at)
                if end < 0:
                    break
                at, seen = end, seen + 1
        return bytes(data), self.records - before

    def close(self):
        self.sock.close()


def client_path(server, counter):
    """Raises unless the connection is what the transport says."""
    if not server.program.is_kettle:
        return
    text, _ = counter.exchange(command("CLIENT", "LIST"), 1)
    want = b"tls=user" if server.transport == "tls-user" else b"tls=ktls"
    if want not in text and not (server.transport == "tls-tx" and b"tls=tx" in text):
        raise RuntimeError("%s: the connection is not %s: %s" % (server.program.name, server.transport, text[-200:]))
