# SPDX-License-Identifier: BSD-3-Clause
"""Starts servers, connects to them over the transport under test, and checks how they end."""
import ctypes
import errno
import glob
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

import pytest

import resp

SYS_PIDFD_GETFD = 438
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SANITIZER_REPORT = re.compile(
    rb"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error: |BUG REPORT START|Assertion .* failed|=== ASSERTION")


def free_port(family=socket.AF_INET, host="127.0.0.1"):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.bind((host, 0))
        return sock.getsockname()[1]


def digest(server):
    """Of the data set, as redis-server makes it."""
    with server.connect(timeout=60) as conn:
        return conn.ok("DEBUG", "DIGEST")


def wait_for(predicate, timeout=10.0, step=0.02, what="condition"):
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("timed out waiting for " + what)
        time.sleep(step)


def tls_stat():
    """The kernel's kTLS counters, {} on a kernel without them."""
    try:
        with open("/proc/net/tls_stat") as handle:
            return {name: int(value) for name, value in (line.split() for line in handle)}
    except OSError:
        return {}


def in_user_mode_linux():
    """There a system call is a switch between two processes of the host, and one processor has both ends of each connection."""
    return "uml" in os.environ.get("KETTLE_VM", "")  # scripts/vm-run: the kernel's name


def sockets_of(pid):
    """Copies of another process's sockets, one at a time; skips the test where the kernel does not let others look."""
    libc, process = ctypes.CDLL(None, use_errno=True), os.pidfd_open(pid)
    try:
        for name in os.listdir("/proc/%d/fd" % pid):
            try:
                if not os.readlink("/proc/%d/fd/%s" % (pid, name)).startswith("socket:"):
                    continue
            except FileNotFoundError:
                continue  # closed meanwhile
            fd = libc.syscall(SYS_PIDFD_GETFD, process, int(name), 0)
            if fd < 0 and ctypes.get_errno() == errno.EBADF:
                continue
            if fd < 0:
                pytest.skip("pidfd_getfd: " + os.strerror(ctypes.get_errno()))
            with socket.socket(fileno=fd) as sock:
                yield sock
    finally:
        os.close(process)


class Env:
    """What one test session runs against."""

    def __init__(self, server, sanitizer, certs, event_loop="auto"):
        found = server if os.path.isabs(server) else os.path.join(ROOT, server)
        if not os.path.exists(found):
            found = os.path.abspath(server) if os.path.exists(server) else shutil.which(server) or found
        self.server = found
        self.exists = os.access(found, os.X_OK)
        self.factor = 6.0 if sanitizer else 4.0 if in_user_mode_linux() else 1.0
        self.sanitizer = sanitizer
        self.certs = certs
        self.event_loop = event_loop
        self.version = (0, 0, 0)
        self.is_kettle = "kettle" in os.path.basename(found)
        if self.exists:
            out = subprocess.run([found, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30)
            match = re.search(rb"v=(\d+)\.(\d+)\.(\d+)", out.stdout)
            if match:
                self.version = tuple(int(x) for x in match.groups())
        self.is_redis70 = not self.is_kettle and self.version < (7, 2, 0)
        self.bindir = os.path.dirname(found)

    def tool(self, name):
        """A Kettle tool of the same build, or of the release build, or None."""
        for folder in (self.bindir, os.path.join(ROOT, "build")):
            path = os.path.join(folder, name)
            if os.access(path, os.X_OK):
                return path
        return None

    def cert(self, name):
        return os.path.join(self.certs, name)

    def timeout(self, seconds):
        return seconds * self.factor


def client_context(env, cert="client", ca="ca.crt", minimum=None, maximum=None, ciphers=None, verify=True):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = verify
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    if ca:
        context.load_verify_locations(env.cert(ca))
    if cert:
        context.load_cert_chain(env.cert(cert + ".crt"), env.cert(cert + ".key"))
    if minimum:
        context.minimum_version = minimum
    if maximum:
        context.maximum_version = maximum
    if ciphers:
        context.set_ciphers(ciphers)
    return context


class Server:
    """One server process.

    directives: {name: value or list of values (one argument each)}; None leaves a default out.
    plain/tls: which ports to open; by default the one of the transport.
    """

    all_started = []

    def __init__(self, env, transport, directives=None, config=None, config_stdin=False, tls=None, plain=None,
                 start=True, check_ktls=True, expect_exit=0, argv=None, defaults=True):
        self.env = env
        self.transport = transport
        self.use_tls = transport != "tcp" if tls is None else tls
        self.use_plain = transport == "tcp" if plain is None else plain
        self.dir = tempfile.mkdtemp(prefix="kettle-it-")
        self.log_path = os.path.join(self.dir, "log")
        self.err_path = os.path.join(self.dir, "stderr")
        self.host = "127.0.0.1"
        self.port = self.tls_port = 0
        self.directives = directives or {}
        self.config = config
        self.config_stdin = config_stdin
        self.argv = argv
        self.defaults = defaults
        self.check_ktls = check_ktls
        self.expect_exit = expect_exit
        self.proc = None
        self.password = None
        self._tls_contexts = {}
        self.ok_sanitizer = False
        if start:
            self.start()

    def base_directives(self):
        out = {"save": "", "bind": self.host, "dir": self.dir, "logfile": self.log_path, "enable-debug-command": "yes",
               "port": str(self.port)}
        if self.env.is_kettle and self.env.event_loop != "auto":
            out["event-loop"] = self.env.event_loop
        if self.use_tls:
            out.update({"tls-port": str(self.tls_port), "tls-cert-file": self.env.cert("server.crt"),
                        "tls-key-file": self.env.cert("server.key"), "tls-ca-cert-file": self.env.cert("ca.crt")})
            if self.env.is_kettle:
                out["tls-ktls"] = {"tls-kernel": "yes", "tls-tx": "tx"}.get(self.transport, "no")
        return out

    def command_line(self):
        wanted = self.base_directives() if self.defaults else {}
        wanted.update(self.directives)
        line = [self.env.server]
        if self.config_stdin:
            line.append("-")
        elif self.config is not None:
            path = os.path.join(self.dir, "kettle.conf")
            with open(path, "w") as handle:
                handle.write(self.config)
            line.append(path)
        for name, value in wanted.items():
            if value is None:
                continue
            line.append("--" + name)
            line += list(value) if isinstance(value, (list, tuple)) else [value]
        return line + list(self.argv or [])

    def start(self, wait=True):
        for attempt in range(3):
            self.port = free_port() if self.use_plain else 0
            self.tls_port = free_port() if self.use_tls else 0
            self.spawn()
            if not wait:
                return self
            try:
                self.wait_ready()
                Server.all_started.append(self)
                return self
            except AssertionError:
                running = self.proc.poll() is None
                if not running and b"ddress already in use" in self.output() and attempt < 2:
                    continue
                text = self.output()
                self.kill()
                raise AssertionError("server did not start (%s):\n%s" % (
                    "running" if running else "exit %s" % self.proc.returncode, text.decode("utf-8", "replace")))

    def spawn(self):
        stdin = subprocess.PIPE if self.config_stdin else subprocess.DEVNULL
        with open(self.err_path, "ab") as err:
            self.proc = subprocess.Popen(self.command_line(), stdin=stdin, stdout=err, stderr=err, cwd=self.dir)
        if self.config_stdin:
            self.proc.stdin.write((self.config or "").encode())
            self.proc.stdin.close()

    def wait_ready(self):
        def probe():
            if self.proc.poll() is not None:
                raise AssertionError("ended")
            try:
                with self.connect(timeout=5) as conn:
                    reply = conn("PING")
                    return not (isinstance(reply, resp.ReplyError) and reply.startswith("LOADING"))
            except (OSError, EOFError, ssl.SSLError):
                return False
        wait_for(probe, self.env.timeout(30), what="the server to answer")

    def output(self):
        out = b""
        for path in [self.log_path, self.err_path]:
            if os.path.exists(path):
                with open(path, "rb") as handle:
                    out += handle.read()
        return out

    def log(self):
        return self.output().decode("utf-8", "replace")

    def wait_log(self, pattern, timeout=10):
        return wait_for(lambda: re.search(pattern, self.log()), self.env.timeout(timeout), what="log line " + pattern)

    def context(self, **kwargs):
        key = tuple(sorted(kwargs.items()))
        if key not in self._tls_contexts:
            self._tls_contexts[key] = client_context(self.env, **kwargs)
        return self._tls_contexts[key]

    def raw_socket(self, port=None, host=None, timeout=None):
        host = host or self.host
        sock = socket.create_connection((host, port or self.any_port()), self.env.timeout(timeout or 10))
        return sock

    def any_port(self):
        return self.tls_port if self.use_tls else self.port

    def connect(self, tls=None, timeout=20, host=None, port=None, proto=2, password=None, **tls_args):
        """A connection over the transport under test; tls=False forces the plaintext port."""
        tls = self.use_tls if tls is None else tls
        timeout = self.env.timeout(timeout)
        sock = socket.create_connection((host or self.host, port or (self.tls_port if tls else self.port)), timeout)
        if tls:
            try:
                sock = self.context(**tls_args).wrap_socket(sock, server_hostname="127.0.0.1")
            except Exception:
                sock.close()
                raise
        conn = resp.Conn(sock, timeout, server=self)
        password = password or self.password
        if password:
            conn.ok("AUTH", password)
        if proto == 3:
            conn.hello(3)
        return conn

    def cli_args(self, tool="redis-cli"):
        """The arguments that bring redis-cli, redis-benchmark and Kettle's tools to this server."""
        out = ["-h", self.host, "-p", str(self.any_port())]
        if self.use_tls:
            out += ["--tls", "--cacert", self.env.cert("ca.crt"), "--cert", self.env.cert("client.crt"),
                    "--key", self.env.cert("client.key")]
        return out

    def check_output(self):
        if self.ok_sanitizer:
            return
        out = self.output()
        for extra in glob.glob(os.path.join(self.dir, "*san*.*")):
            with open(extra, "rb") as handle:
                out += handle.read()
        match = SANITIZER_REPORT.search(out)
        assert not match, "report in the server's output:\n" + out[max(0, match.start() - 500):match.start() + 8000].decode(
            "utf-8", "replace")

    def check_kernel_tls(self):
        """A tls-kernel or tls-tx server must have its connections in the kernel; anything else is another transport."""
        field = {"tls-kernel": "tls_connections_ktls", "tls-tx": "tls_connections_ktls_tx"}.get(self.transport)
        if field is None or not self.check_ktls or self.proc.poll() is not None:
            return
        with self.connect() as conn:
            answer = conn.node("INFO", "tls").render()
            if answer.startswith(("-NOPERM", "-NOAUTH", "-BUSY")):
                return  # the test's last word: the server does not say
            info = conn.info("tls")
            assert int(info[field]) > 0, info

    def alive(self):
        return self.proc is not None and self.proc.poll() is None

    def stop(self, sig=signal.SIGTERM):
        if self.proc is None:
            return
        if self.proc.poll() is None:
            self.proc.send_signal(sig)
            try:
                self.proc.wait(self.env.timeout(15))
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError("the server did not stop after SIGTERM:\n" + self.log()[-3000:])
        try:
            self.check_output()
            assert self.proc.returncode == self.expect_exit, "exit status %s, wanted %s:\n%s" % (
                self.proc.returncode, self.expect_exit, self.log()[-3000:])
        finally:
            self.cleanup()

    def wait_exit(self, timeout=15):
        self.proc.wait(self.env.timeout(timeout))
        return self.proc.returncode

    def kill(self):
        if self.proc is not None and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()

    def cleanup(self):
        shutil.rmtree(self.dir, ignore_errors=True)
