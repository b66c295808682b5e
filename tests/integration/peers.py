# SPDX-License-Identifier: BSD-3-Clause
"""TLS implementations not written here, as clients and servers, each behind the same few methods.

A Peer's connect() makes two connections to a server of ours, the second resuming the first's session, and raises when the bytes
are not right. Its start_server() gives a port to which build/peers/ktls-peer connects. What a peer cannot do it says, in words,
in missing() and cannot(). The programs of tests/support (tls_peer.h, tls-peer.js, tls-peer.go, TlsPeer.java) are the peers
whose library comes without a program.
"""
import collections
import contextlib
import json
import os
import queue
import re
import select
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time

import harness

# name: OpenSSL's; nss: cipher number; kernel: the kernel knows it.
Suite = collections.namedtuple("Suite", "id version kind name rfc gnutls kx nss mbedtls kernel")


def _suite(name, version, kind, openssl, rfc, gnutls, kx, nss, kernel=True):
    mbedtls = rfc.replace("_", "-") if version == "1.2" else None
    return Suite(name, version, kind, openssl, rfc, gnutls, kx, nss, mbedtls, kernel)


SUITES = [
    _suite("1.3-aes128gcm", "1.3", "ec", "TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256", "AES-128-GCM", "", "1301"),
    _suite("1.3-aes256gcm", "1.3", "rsa", "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384", "AES-256-GCM", "", "1302"),
    _suite("1.3-chacha20", "1.3", "ec", "TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256",
           "CHACHA20-POLY1305", "", "1303"),
    _suite("1.3-aes128ccm", "1.3", "ec", "TLS_AES_128_CCM_SHA256", "TLS_AES_128_CCM_SHA256", "AES-128-CCM", "", None),
    _suite("1.2-ecdsa-aes128gcm", "1.2", "ec", "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
           "AES-128-GCM", "ECDHE-ECDSA", "C02B"),
    _suite("1.2-ecdsa-aes256gcm", "1.2", "ec", "ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
           "AES-256-GCM", "ECDHE-ECDSA", "C02C"),
    _suite("1.2-ecdsa-chacha20", "1.2", "ec", "ECDHE-ECDSA-CHACHA20-POLY1305",
           "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305", "ECDHE-ECDSA", "CCA9"),
    _suite("1.2-ecdsa-aes128ccm", "1.2", "ec", "ECDHE-ECDSA-AES128-CCM", "TLS_ECDHE_ECDSA_WITH_AES_128_CCM", "AES-128-CCM",
           "ECDHE-ECDSA", None),
    _suite("1.2-rsa-aes128gcm", "1.2", "rsa", "ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
           "AES-128-GCM", "ECDHE-RSA", "C02F"),
    _suite("1.2-rsa-aes256gcm", "1.2", "rsa", "ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
           "AES-256-GCM", "ECDHE-RSA", "C030"),
    _suite("1.2-rsa-chacha20", "1.2", "rsa", "ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
           "CHACHA20-POLY1305", "ECDHE-RSA", "CCA8"),
    # RFC 6655 has no ECDHE_RSA with CCM.
    _suite("1.2-dhersa-aes128ccm", "1.2", "rsa", "DHE-RSA-AES128-CCM", "TLS_DHE_RSA_WITH_AES_128_CCM", "AES-128-CCM", "DHE-RSA",
           None),
    _suite("1.2-ecdsa-aes128cbc", "1.2", "ec", "ECDHE-ECDSA-AES128-SHA", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "AES-128-CBC",
           "ECDHE-ECDSA", "C009", kernel=False),
]
BY_ID = {suite.id: suite for suite in SUITES}
NAMES13 = ":".join(suite.name for suite in SUITES if suite.version == "1.3")
NAMES12 = ":".join(suite.name for suite in SUITES if suite.version == "1.2")
SECONDS = 20


class Process:
    """A program that prints lines of JSON and ends when its standard input does."""

    def __init__(self, argv, **kwargs):
        self.argv = argv
        self.errors = tempfile.TemporaryFile()
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, **kwargs)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.proc.stdout:
            if line.startswith(b"{"):
                self.lines.put(json.loads(line))
        self.lines.put(None)

    def next(self, seconds=2 * SECONDS):
        try:
            value = self.lines.get(timeout=seconds)
        except queue.Empty:
            value = None
        assert value is not None, "%s said nothing more:\n%s" % (" ".join(self.argv), self.stderr())
        return value

    def listening(self):
        self.port = self.next()["listening"]
        return self

    def tell(self, line):
        self.proc.stdin.write(line.encode() + b"\n")
        self.proc.stdin.flush()

    def stderr(self):
        self.errors.seek(0)
        return self.errors.read().decode("utf-8", "replace")

    def close(self):
        with contextlib.suppress(OSError):
            self.proc.stdin.close()
        try:
            self.proc.wait(10)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        self.reader.join(10)
        self.proc.stdout.close()
        self.errors.close()


class Daemon:
    """A server program that is ended by SIGTERM."""

    def __init__(self, argv, port=None, pattern=None, **kwargs):
        self.argv, self.log = argv, tempfile.NamedTemporaryFile()
        self.proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=self.log, stderr=self.log, **kwargs)
        self.port = port
        try:
            harness.wait_for(lambda: self._ready(pattern), SECONDS, what="%s to listen" % argv[0])
        except AssertionError as exc:
            text = self.output()
            self.close()
            raise AssertionError("%s\n%s" % (exc, text)) from None

    def _ready(self, pattern):
        assert self.proc.poll() is None, "%s ended" % self.argv[0]
        if pattern:
            found = re.search(pattern, self.output())
            self.port = int(found.group(1)) if found else None
            return found
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        return False

    def output(self):
        with open(self.log.name, "rb") as handle:
            return handle.read().decode("utf-8", "replace")

    def close(self):
        self.proc.terminate()
        try:
            self.proc.wait(5)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        self.proc.stdin.close()
        self.log.close()


def put(stream, data):
    """In a thread; the reader finds out what went wrong."""
    with contextlib.suppress(OSError, ValueError):
        stream.write(data)
        stream.flush()


Talk = collections.namedtuple("Talk", "out err status")


def talk(argv, send, expect_len, **kwargs):
    """Runs a client that copies its standard input to the server and what comes to its output; ends the input after expect_len
    bytes, or when the output ends."""
    deadline, out = time.monotonic() + SECONDS, b""
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, **kwargs) as proc:
            writer = threading.Thread(target=put, args=(proc.stdin, send), daemon=True)
            writer.start()
            try:
                while len(out) < expect_len and time.monotonic() < deadline:
                    if select.select([proc.stdout], [], [], 0.2)[0]:
                        data = os.read(proc.stdout.fileno(), 65536)
                        if not data:
                            break
                        out += data
                writer.join(max(0.1, deadline - time.monotonic()))
                with contextlib.suppress(OSError):
                    proc.stdin.close()
                out += proc.stdout.read() if select.select([proc.stdout], [], [], 5)[0] else b""
                proc.wait(5)
            except subprocess.TimeoutExpired:
                pass
            finally:
                proc.kill()
        errors.seek(0)
        return Talk(out, errors.read().decode("utf-8", "replace"), proc.returncode)


def must_equal(got, expect, who, said=""):
    if got != expect:
        same = next((i for i, (a, b) in enumerate(zip(got, expect)) if a != b), min(len(got), len(expect)))
        raise AssertionError("%s got %d bytes, %d were expected, the first wrong one is %d:\n%s" % (
            who, len(got), len(expect), same, said[-1500:]))


def read(path):
    with open(path, "rb") as handle:
        return handle.read()


class Peer:
    """connections, first, second: how many connections connect() makes, and which are the full and the resumed one."""
    name = ""
    programs = ()
    http = False           # its client needs a server that speaks HTTP
    is_server = is_client = True
    connections, first, second = 2, 0, 1
    lines = 100            # of 1,000 bytes: how much its client sends
    lockstep = False       # its client reads each piece of the echo before it sends the next
    sends = True           # its client sends any bytes it is given, not only HTTP
    echoes = True          # its server gives back what it is sent
    unknown = ()           # ids of suites that it does not have

    def missing(self, env):
        for program in self.programs:
            if not shutil.which(program):
                return "%s is not installed" % program
        return None

    def cannot(self, role, suite):
        """role: ours. None, or why not."""
        if suite.id in self.unknown:
            return "%s does not have %s" % (self.name, suite.name)
        if role == "server" and not self.is_client:
            return "%s has no client" % self.name
        if role == "client" and not self.is_server:
            return "%s has no server" % self.name
        return None

    def server_key(self, suite):
        return ""

    def client_files(self, lab):
        """For ktls-peer, to talk to this peer's server."""
        return ["--send", lab.payload, "--expect", lab.payload]

    def saved_ok(self, lab, suite):
        pass

    # Peers that can send a KeyUpdate by themselves, in the middle of the data, or ask for a renegotiation: see test_peers.py.
    update_client = None       # (lab, port, suite): a Talk
    updates = 2                # at least so many KeyUpdates
    update_server = None       # (lab, suite): a server that does
    renegotiate_client = None  # (lab, port, suite): a Talk
    renegotiate_server = None  # (lab, suite): a server that does, for what renegotiate_files() sends

    def echo_server(self, lab, suite):
        return lab.server(self, suite)

    def echo_files(self, lab):
        """For ktls-peer, to talk to echo_server()."""
        return self.client_files(lab)

    def update_files(self, lab):
        return ["--send", lab.long, "--expect", lab.long]

    def renegotiate_files(self, lab):
        return self.client_files(lab)


class OpenSSL(Peer):
    name, programs = "openssl", ("openssl",)

    def _client(self, lab, port, suite, *more):
        flag = "-ciphersuites" if suite.version == "1.3" else "-cipher"
        return ["openssl", "s_client", "-connect", "127.0.0.1:%d" % port, "-servername", "localhost", "-CAfile", lab.cert("ca.crt"),
                "-verify_return_error", "-verify_hostname", "localhost", "-quiet", "-no_ign_eof",
                "-tls" + suite.version.replace(".", "_"), flag, suite.name] + list(more)

    def connect(self, lab, port, suite, send, expect):
        path = lab.path("openssl-session")
        for more in (["-sess_out", path], ["-sess_in", path]):
            done = talk(self._client(lab, port, suite, "-nocommands", *more), read(send), os.path.getsize(expect))
            must_equal(done.out, read(expect), "s_client", done.err)

    def start_server(self, lab, suite):
        return Daemon(["openssl", "s_server", "-rev", "-accept", "127.0.0.1:0"] + self._server_files(lab),
                      pattern=r"ACCEPT 127\.0\.0\.1:(\d+)")

    def _server_files(self, lab):
        return ["-cert", lab.cert("server.crt"), "-key", lab.cert("server.key"), "-dcert", lab.cert("server-rsa.crt"),
                "-dkey", lab.cert("server-rsa.key"), "-cipher", NAMES12, "-ciphersuites", NAMES13]

    def client_files(self, lab):
        return ["--send", lab.payload, "--expect", lab.reversed, "--lines"]

    def update_client(self, lab, port, suite):
        """K: KeyUpdate with update_requested, k: without. s_client drops what it has read behind the letter, and so waits for it
        between two pieces."""
        data = read(lab.payload)
        return interactive(self._client(lab, port, suite), [(data, len(data)), (b"K\n", 0), (data, len(data)), (b"k\n", 0),
                                                            (data, len(data))])

    def echo_server(self, lab, suite):
        """s_server -rev sleeps for a second at each KeyUpdate."""
        return CommandedServer(self._server_files(lab), {})

    def echo_files(self, lab):
        return self.update_files(lab)

    def update_server(self, lab, suite):
        return CommandedServer(self._server_files(lab), {5: b"K\n", 15: b"k\n", 25: b"K\n"})

    def update_files(self, lab):
        return ["--send", lab.lines(30), "--expect", lab.lines(30), "--lines"]

    def renegotiate_client(self, lab, port, suite):
        return interactive(self._client(lab, port, suite), [(b"hello\n", 6), (b"R\n", 0), (b"world\n", 6)])

    def renegotiate_server(self, lab, suite):
        return CommandedServer(self._server_files(lab), {5: b"r\n"})

    def renegotiate_files(self, lab):
        return self.update_files(lab)


class CommandedServer:
    """s_server with its commands: echoes the payload's lines, and writes commands[n] before the n-th echo. The client must wait
    for each echo: then nothing else is on the way to s_server, which takes a command only at the start of what it reads."""
    LINE = re.compile(rb"^[0-9a-f]{999}$")

    def __init__(self, files, commands):
        self.commands, self.errors = commands, tempfile.TemporaryFile()
        self.proc = subprocess.Popen(["openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1"] + files,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)
        found = None
        while not found:
            line = self.proc.stdout.readline()
            assert line, "s_server ended"
            found = re.match(rb"ACCEPT 127\.0\.0\.1:(\d+)", line)
        self.port = int(found.group(1))
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        echoed = 0
        with contextlib.suppress(OSError, ValueError):
            for line in self.proc.stdout:
                if not self.LINE.match(line.rstrip(b"\n")):
                    continue
                if echoed in self.commands:
                    self._write(self.commands[echoed])
                    time.sleep(0.1)
                self._write(line)
                echoed += 1

    def _write(self, data):
        self.proc.stdin.write(data)
        self.proc.stdin.flush()

    def close(self):
        self.proc.terminate()
        self.proc.wait(10)
        self.thread.join(10)
        with contextlib.suppress(OSError):
            self.proc.stdin.close()
        self.proc.stdout.close()
        self.errors.close()


def interactive(argv, steps):
    """Writes each step's bytes, a command for the client or data, once all that the earlier ones want back has come."""
    out, wanted = b"", 0
    deadline = time.monotonic() + 2 * SECONDS
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors) as proc:
            for data, back in steps:
                writer = threading.Thread(target=put, args=(proc.stdin, data), daemon=True)
                writer.start()
                wanted += back
                got = b"more"
                while len(out) < wanted and got and time.monotonic() < deadline:
                    if select.select([proc.stdout], [], [], 0.2)[0]:
                        got = os.read(proc.stdout.fileno(), 65536)
                        out += got
                writer.join(5)
                if len(out) < wanted:
                    break
                time.sleep(0 if back else 0.2)
            with contextlib.suppress(OSError):
                proc.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                proc.wait(5)
            proc.kill()
        errors.seek(0)
        return Talk(out, errors.read().decode("utf-8", "replace"), proc.returncode)


class GnuTLS(Peer):
    name, programs = "gnutls", ("gnutls-cli", "gnutls-serv")
    connections, first, second = 3, 0, 2  # --resume makes two, and sends data only over the second
    lines = 6              # gnutls-cli reads its input byte by byte: slow in User-Mode Linux

    def priority(self, suite):
        if suite.version == "1.3":
            return "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+" + suite.gnutls
        return "NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+%s:-CIPHER-ALL:+%s" % (suite.kx, suite.gnutls)

    def _client(self, lab, port, suite, *more):
        return ["gnutls-cli", "--logfile=/dev/null", "--x509cafile", lab.cert("ca.crt"), "--priority", self.priority(suite),
                "-p", str(port)] + list(more) + ["localhost"]

    def connect(self, lab, port, suite, send, expect):
        for more in ([], ["--resume", "--waitresumption"] if suite.version == "1.3" else ["--resume"]):
            done = talk(self._client(lab, port, suite, *more), read(send), os.path.getsize(expect))
            must_equal(done.out, read(expect), "gnutls-cli", done.err)

    def start_server(self, lab, suite):
        port = harness.free_port()
        return Daemon(["gnutls-serv", "--echo", "-q", "-a", "-p", str(port), "--priority", "NORMAL:+DHE-RSA:+AES-128-CCM",
                       "--x509certfile", lab.cert("server.crt"), "--x509keyfile", lab.cert("server.key"),
                       "--x509certfile", lab.cert("server-rsa.crt"), "--x509keyfile", lab.cert("server-rsa.key")], port)

    def client_files(self, lab):  # its echo works line by line
        return super().client_files(lab) + ["--lines"]

    def update_client(self, lab, port, suite):
        data = read(lab.lines(self.lines))
        return interactive(self._client(lab, port, suite, "--inline-commands"), [
            (data, len(data)), (b"^rekey^\n", 0), (data, len(data)), (b"^rekey1^\n", 0), (data, len(data))])

    def renegotiate_client(self, lab, port, suite):
        argv = self._client(lab, port, suite, "--rehandshake")
        argv.remove("--logfile=/dev/null")
        return talk(argv, b"", 1 << 20)

    def renegotiate_server(self, lab, suite):
        return lab.server(self, suite)

    def renegotiate_files(self, lab):
        """gnutls-serv --echo takes this line for a command."""
        path = lab.write("rehandshake", "**REHANDSHAKE**\n")
        return ["--send", path, "--expect", path, "--lines"]


class NSS(Peer):
    """tstclnt sends a whole file (HTTP POST); strsclnt makes several connections and resumes (HTTP GET). selfserv serves files."""
    name, programs = "nss", ("tstclnt", "strsclnt", "selfserv", "certutil", "pk12util")
    http = True
    echoes = False
    connections, first, second = 3, 0, 2  # one by tstclnt, two by strsclnt
    unknown = tuple(suite.id for suite in SUITES if suite.nss is None)

    def _database(self, lab, kind):
        """A certificate database of one server certificate: two with the same subject get one nickname."""
        folder = lab.path("nss-" + kind)
        if not os.path.exists(folder):
            os.mkdir(folder)
            quiet = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 60}
            subprocess.run(["certutil", "-N", "-d", "sql:" + folder, "--empty-password"], **quiet)
            subprocess.run(["certutil", "-A", "-d", "sql:" + folder, "-n", "ca", "-t", "C,,", "-i", lab.cert("ca.crt")], **quiet)
            subprocess.run(["pk12util", "-d", "sql:" + folder, "-i", lab.pkcs12(kind), "-W", "kettle", "-K", ""], **quiet)
        return "sql:" + folder

    def _versions(self, suite):
        return "tls%s:tls%s" % (suite.version, suite.version)

    def _tstclnt(self, lab, port, suite):
        return ["tstclnt", "-h", "127.0.0.1", "-a", "localhost", "-p", str(port), "-d", self._database(lab, "ec"),
                "-V", self._versions(suite), "-c", ":" + suite.nss, "-u"]

    def send_file(self, lab, port, suite, path):
        done = subprocess.run(self._tstclnt(lab, port, suite) + ["-A", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=2 * SECONDS)
        return done.stdout, done.stderr.decode("utf-8", "replace")

    def connect(self, lab, port, suite, send, expect):
        out, err = self.send_file(lab, port, suite, lab.http_post)
        must_equal(out.split(b"\r\n\r\n", 1)[-1], read(lab.payload), "tstclnt", err)
        done = subprocess.run(["strsclnt", "-4", "-p", str(port), "-d", self._database(lab, "ec"), "-a", "localhost", "-V",
                               self._versions(suite), "-C", ":" + suite.nss, "-u", "-c", "2", "-t", "1", "localhost"],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=2 * SECONDS)
        assert done.returncode in (0, 1), done.stdout.decode("utf-8", "replace")

    def start_server(self, lab, suite):
        port = harness.free_port()
        nickname = "-e" if suite.kind == "ec" else "-n"
        return Daemon(["selfserv", "-p", str(port), "-d", self._database(lab, suite.kind), nickname, suite.kind, "-u",
                       "-V", "tls1.2:tls1.3"], port)

    def server_key(self, suite):
        return suite.kind

    def client_files(self, lab):
        return ["--send", lab.http_get, "--save", lab.path("saved")]

    def saved_ok(self, lab, suite):
        must_equal(read(lab.path("saved")).split(b"\n\n", 1)[-1].split(b"\r\n\r\n", 1)[-1], read(lab.payload), "from selfserv:")

    def renegotiate_client(self, lab, port, suite):
        done = subprocess.run(self._tstclnt(lab, port, suite) + ["-r", "1", "-A", lab.http_get], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=2 * SECONDS)
        return Talk(done.stdout, done.stderr.decode("utf-8", "replace"), done.returncode)


class CompiledPeer(Peer):
    """A program made of tests/support/tls_peer.c."""
    lockstep = True
    def program(self, env):
        return lab_program(env, self.name + "-peer")

    def missing(self, env):
        return None if self.program(env) else "build/peers/%s-peer is not built: make peers, with its library installed" % self.name

    def suite_name(self, suite):
        return suite.name

    def _options(self, suite):
        return ["--version", suite.version, "--suites", self.suite_name(suite)]

    def _client(self, lab, port, suite, send, expect, *more):
        return lab.client_rows(self.name, self.program(lab.env), [
            "--port", str(port), "--ca", lab.cert("ca.crt"), "--send", send, "--expect", expect] + self._options(suite) + list(more))

    def connect(self, lab, port, suite, send, expect):
        rows = self._client(lab, port, suite, send, expect, "--connections", "2")
        for row in rows:
            assert row["error"] == "", "%s: %s" % (self.name, row)
        assert [row["resumed"] for row in rows] == [False, True] or self.name == "mbedtls"  # which does not tell

    def start_server(self, lab, suite, *more):
        return Process([self.program(lab.env), "server", "--cert", lab.cert(lab.leaf(suite) + ".crt"),
                        "--key", lab.cert(lab.leaf(suite) + ".key")] + self._options(suite) + list(more)).listening()

    def server_key(self, suite):
        return suite.id


class WolfSSL(CompiledPeer):
    name = "wolfssl"

    def suite_name(self, suite):
        if suite.version != "1.3":
            return suite.name
        return {"TLS_AES_128_CCM_SHA256": "TLS13-AES128-CCM-SHA256", "TLS_AES_128_GCM_SHA256": "TLS13-AES128-GCM-SHA256",
                "TLS_AES_256_GCM_SHA384": "TLS13-AES256-GCM-SHA384",
                "TLS_CHACHA20_POLY1305_SHA256": "TLS13-CHACHA20-POLY1305-SHA256"}[suite.name]

    unknown = ("1.2-dhersa-aes128ccm",)

    def update_client(self, lab, port, suite):
        rows = self._client(lab, port, suite, lab.long, lab.long, "--update-every", "60000")
        ended = rows[0]["error"] == "" or (rows[0]["clean"] and "stream ended" in rows[0]["error"])
        return Talk(read(lab.long) if rows[0]["error"] == "" else b"", rows[0]["error"], 0 if ended else 1)

    def update_server(self, lab, suite):
        return self.start_server(lab, suite, "--update-every", "60000")


class MbedTLS(CompiledPeer):
    name = "mbedtls"
    unknown = tuple(suite.id for suite in SUITES if suite.version == "1.3")

    def suite_name(self, suite):
        return suite.mbedtls


class Scripted(Peer):
    """Node, Java and Go: one long-lived client process that takes jobs, one server."""
    def suite_name(self, suite):
        return suite.name

    def client_process(self, lab):
        return lab.process("client-" + self.name, lambda: Process(self.client_argv(lab)))

    def _job(self, lab, port, suite, connections, send, expect):
        process = self.client_process(lab)
        process.tell("%d %s %s %d %s %s" % (port, suite.version, self.suite_name(suite), connections, send, expect))
        return [process.next() for _ in range(connections)]

    def connect(self, lab, port, suite, send, expect):
        for row in self._job(lab, port, suite, 2, send, expect):
            assert row["error"] == "", "%s: %s" % (self.name, row)

    def start_server(self, lab, suite):
        return Process(self.server_argv(lab)).listening()


class Node(Scripted):
    name, programs = "node", ("node",)
    script = os.path.join(harness.ROOT, "tests", "support", "tls-peer.js")

    def client_argv(self, lab):
        return ["node", self.script, "client", lab.cert("ca.crt")]

    def server_argv(self, lab):
        return ["node", self.script, "server", NAMES13 + ":" + NAMES12] + [
            lab.cert(name) for name in ("server.crt", "server.key", "server-rsa.crt", "server-rsa.key")]


class Java(Scripted):
    """jdk.tls.keyLimits makes it send KeyUpdate, with update_requested, after that many bytes; the ordinary cells send less."""
    name, programs = "java", ("java",)
    limit, updates = 1 << 17, 1
    unknown = tuple(suite.id for suite in SUITES if "CCM" in suite.name)

    def missing(self, env):
        return super().missing(env) or (None if lab_program(env, "TlsPeer.class") else
                                        "build/peers/TlsPeer.class is not built: make peers, with javac installed")

    def suite_name(self, suite):
        return suite.rfc

    def _java(self, lab, *arguments):
        return ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.security.properties=" + lab.java_security(self.limit),
                "-cp", os.path.dirname(lab_program(lab.env, "TlsPeer.class")), "TlsPeer"] + list(arguments)

    def client_argv(self, lab):
        return self._java(lab, "client", lab.cert("ca.crt"))

    def server_argv(self, lab):
        names = ":".join(suite.rfc for suite in SUITES if suite.id not in self.unknown)
        return self._java(lab, "server", names, lab.pkcs12("both"), "kettle")

    def update_client(self, lab, port, suite):
        row = self._job(lab, port, suite, 1, lab.long, lab.long)[0]
        return Talk(read(lab.long) if row["error"] == "" else b"", row["error"], 0)

    def update_server(self, lab, suite):
        return lab.server(self, suite)


class Go(Scripted):
    name = "go"
    unknown = tuple(suite.id for suite in SUITES if "CCM" in suite.name)

    def missing(self, env):
        return None if lab_program(env, "go-peer") else "build/peers/go-peer is not built: make peers, with go installed"

    def suite_name(self, suite):
        return suite.rfc

    def client_argv(self, lab):
        return [lab_program(lab.env, "go-peer"), "client", lab.cert("ca.crt")]

    def server_argv(self, lab):
        return [lab_program(lab.env, "go-peer"), "server"] + [
            lab.cert(name) for name in ("server.crt", "server.key", "server-rsa.crt", "server-rsa.key")]


class Curl(Peer):
    name, programs = "curl", ("curl",)
    http, is_server, sends = True, False, False

    def connect(self, lab, port, suite, send, expect):
        flag = "--tls13-ciphers" if suite.version == "1.3" else "--ciphers"
        common = ["--silent", "--show-error", "--max-time", str(SECONDS), "--cacert", lab.cert("ca.crt"), "--tlsv" + suite.version,
                  "--tls-max", suite.version, flag, suite.name, "--resolve", "localhost:%d:127.0.0.1" % port]
        url, posted, got = "https://localhost:%d/" % port, lab.path("curl-1"), lab.path("curl-2")
        done = subprocess.run(["curl"] + common + ["--data-binary", "@" + lab.payload, "-H", "Expect:", "-o", posted, url, "--next"] +
                              common + ["-o", got, url + "150001"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=3 * SECONDS)
        said = done.stdout.decode("utf-8", "replace")
        assert done.returncode == 0, said
        must_equal(read(posted), read(lab.payload), "curl", said)
        must_equal(read(got), bytes((i * 31 + i // 251) & 255 for i in range(150001)), "curl", said)


class Python(Peer):
    """The ssl module, in this process. It cannot choose TLS 1.3 suites: those of the other side decide."""
    name = "python"
    lockstep = True
    unknown = ("1.3-aes128ccm",)

    def connect(self, lab, port, suite, send, expect):
        context = ssl.create_default_context(cafile=lab.cert("ca.crt"))
        context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, "TLSv1_" + suite.version[2])
        if suite.version == "1.2":
            context.set_ciphers(suite.name)
        session, data, wanted = None, read(send), read(expect)
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), SECONDS) as raw:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with context.wrap_socket(raw, server_hostname="localhost", session=session) as tls:
                    writer = threading.Thread(target=tls.sendall, args=(data,))
                    got = b""
                    if len(data) == len(wanted):  # an echo: in pieces, two threads may not use one SSL object
                        for at in range(0, len(data), 16384):
                            tls.sendall(data[at:at + 16384])
                            got += self._exactly(tls, len(data[at:at + 16384]))
                    else:
                        writer.run()
                        got = self._exactly(tls, len(wanted))
                    must_equal(got, wanted, "Python")
                    session = tls.session
                    with contextlib.suppress(OSError):
                        tls.unwrap().close()

    def _exactly(self, tls, count):
        out = b""
        while len(out) < count:
            data = tls.recv(65536)
            if not data:
                break
            out += data
        return out

    def start_server(self, lab, suite):
        return PythonServer(lab)


class PythonServer:
    """An echo server in a thread."""

    def __init__(self, lab):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for name in ("server", "server-rsa"):
            self.context.load_cert_chain(lab.cert(name + ".crt"), lab.cert(name + ".key"))
        self.context.set_ciphers(NAMES12)
        self.context.load_dh_params(lab.cert("kettle.dh"))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while True:
            try:
                raw, _ = self.listener.accept()
            except OSError:
                return
            with raw, contextlib.suppress(OSError):
                raw.settimeout(SECONDS)
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self.context.wrap_socket(raw, server_side=True) as tls:
                    for data in iter(lambda: tls.recv(65536), b""):
                        tls.sendall(data)
                    tls.unwrap().close()

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)


def lab_program(env, name):
    """build/VARIANT/peers/NAME, or of the release build, or None."""
    for folder in (env.bindir, os.path.join(harness.ROOT, "build")):
        path = os.path.join(folder, "peers", name)
        if os.path.exists(path):
            return path
    return None


PEERS = [OpenSSL(), GnuTLS(), NSS(), WolfSSL(), MbedTLS(), Node(), Java(), Go(), Curl(), Python()]
