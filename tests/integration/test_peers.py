# SPDX-License-Identifier: BSD-3-Clause
"""libktls against TLS implementations not written here: both roles, both versions, every suite, full and resumed handshakes,
KeyUpdate from either side; and kettle-server with them as clients.

The side of libktls is build/peers/ktls-peer (tests/support/ktls-peer.c); what it reports of each connection is what is checked,
beside every byte. Under tls-kernel each connection must be in the kernel, and the kernel must have counted it; under tls-tx so
with what it sends.
"""
import contextlib
import os
import random
import re
import subprocess

import pytest

import harness
import peers
from peers import BY_ID, PEERS, SUITES

pytestmark = pytest.mark.transports("tls-user", "tls-kernel")

MODES = {"tls-user": "user", "tls-kernel": "kernel", "tls-tx": "tx"}  # in ktls-peer's words
TOTALS = ["kernel", "user", "tx"]

HANDSHAKES = pytest.mark.parametrize("handshake", ["full", "resumed"])


def cells(roles=("server", "client"), suites=SUITES, having=None):
    """Every peer, role of ours and suite, without what the peer does not have: docs/KTLS.md names that. having: the methods of a
    peer, by our role, that the test needs."""
    found = [(peer, role, suite) for peer in PEERS for role in roles for suite in suites
             if not peer.cannot(role, suite) and (having is None or getattr(peer, having[role]))]
    return pytest.mark.parametrize("peer, role, suite", found, ids=["%s-%s-%s" % (p.name, r, s.id) for p, r, s in found])


class Lab:
    """The files, servers and results of one transport. Each pair of connections is made once; two tests look at it."""

    def __init__(self, env, transport, folder):
        self.env, self.transport, self.folder = env, transport, folder
        self.kept, self.results = {}, {}
        digits = random.Random(1)
        self.text = ["".join(digits.choice("0123456789abcdef") for _ in range(999)) + "\n" for _ in range(100)]
        self.payload = self.lines()
        self.long = self.write("long", "".join(self.text) * 7)
        self.reversed = self.write("reversed", "".join(line[-2::-1] + "\n" for line in self.text))
        self.http_post = self.write("post", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + "".join(self.text))
        self.http_get = self.write("get", "GET %s HTTP/1.0\r\n\r\n" % self.payload)

    def lines(self, count=100):
        """A file of so many lines of 1,000 bytes."""
        return self.write("payload-%d" % count, "".join(self.text[:count]))

    def resp_echo(self, count):
        """ECHO of so many lines, then QUIT, and the replies."""
        data = "".join(self.text[:count])
        return (self.write("echo-%d" % count, "*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n*1\r\n$4\r\nQUIT\r\n" % (len(data), data)),
                self.write("echoed-%d" % count, "$%d\r\n%s\r\n+OK\r\n" % (len(data), data)))

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        """Once: servers may have it open."""
        if not os.path.exists(self.path(name)):
            with open(self.path(name), "w", newline="") as handle:
                handle.write(text)
        return self.path(name)

    def cert(self, name):
        return self.env.cert(name)

    def leaf(self, suite):
        return "server" if suite.kind == "ec" else "server-rsa"

    def pkcs12(self, kind):
        """A key store with the certificate of one kind, or both."""
        path = self.path(kind + ".p12")
        if os.path.exists(path):
            return path
        if kind == "both":
            stores = [self.pkcs12("ec"), self.pkcs12("rsa")]
            for store in stores:
                subprocess.run(["keytool", "-importkeystore", "-noprompt", "-srckeystore", store, "-srcstorepass", "kettle", "-destkeystore",
                                path, "-deststorepass", "kettle", "-deststoretype", "PKCS12"], check=True, timeout=120,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            return path
        leaf = self.cert("server" if kind == "ec" else "server-rsa")
        subprocess.run(["openssl", "pkcs12", "-export", "-inkey", leaf + ".key", "-in", leaf + ".crt", "-name", kind, "-passout",
                        "pass:kettle", "-out", path], check=True, timeout=60)
        return path

    def java_security(self, limit):
        return self.write("java.security", "jdk.tls.keyLimits=AES/GCM/NoPadding KeyUpdate %d, ChaCha20-Poly1305 KeyUpdate %d\n" % (
            limit, limit))

    # ---- what runs until the end of the file ----

    def process(self, key, start):
        if key not in self.kept:
            self.kept[key] = start()
        return self.kept[key]

    def server(self, peer, suite):
        return self.process(("server", peer.name, peer.server_key(suite)), lambda: peer.start_server(self, suite))

    def ktls(self):
        path = peers.lab_program(self.env, "ktls-peer")
        assert path, "build/peers/ktls-peer is not built: make peers"
        return path

    def ktls_options(self, suite):
        policy = MODES[self.transport]
        return ["--policy", policy, "--version", suite.version, "--suites", suite.name]

    def ktls_server(self, suite, *more, use=""):
        """One for each suite, options and use: a client that knows the port may resume."""
        return self.process(("ktls", suite.id, use) + more, lambda: peers.Process(
            [self.ktls(), "server", "--cert", self.cert(self.leaf(suite) + ".crt"), "--key", self.cert(self.leaf(suite) + ".key")] +
            self.ktls_options(suite) + list(more)).listening())

    def ktls_client(self, port, suite, files, *more):
        return self.client_rows("ktls", self.ktls(), ["--port", str(port), "--ca", self.cert("ca.crt")] + self.ktls_options(suite) +
                                files + list(more))

    def client_rows(self, name, program, options):
        """What a client of tests/support/tls_peer.h says of its connections. One process for all: starting one is what takes time in
        User-Mode Linux."""
        client, rows = self.process(("client", name), lambda: peers.Process([program, "client", "--jobs"])), []
        client.tell(" ".join(options))
        while not rows or "done" not in rows[-1]:
            rows.append(client.next(5 * peers.SECONDS))
        return rows[:-1]

    def close(self):
        problems = []
        for process in self.kept.values():
            said = process.stderr() if isinstance(process, peers.Process) else ""
            if harness.SANITIZER_REPORT.search(said.encode()):
                problems.append(said)
            process.close()
        assert not problems, problems[0][-4000:]

    # ---- one cell of the matrix ----

    def pair(self, peer, role, suite):
        """libktls's reports of a full and a resumed connection."""
        key = (peer.name, role, suite.id)
        if key not in self.results:
            try:
                with self.counted() as rows:
                    rows += self._serve(peer, suite) if role == "server" else self._connect(peer, suite)
                self.results[key] = rows
            except Exception as exc:
                self.results[key] = exc
        if isinstance(self.results[key], Exception):
            raise self.results[key]
        return self.results[key]

    def _serve(self, peer, suite):
        server = self.ktls_server(suite, *(["--http"] if peer.http else []))
        try:
            data = self.lines(peer.lines)
            peer.connect(self, server.port, suite, data, data)
        except AssertionError as exc:
            raise AssertionError("%s\nlibktls: %s" % (exc, list(server.lines.queue))) from None
        finally:
            rows = self.rows(server, peer.connections)
        return [rows[peer.first], rows[peer.second]]

    def rows(self, server, count):
        """A failed connection may have brought fewer."""
        rows = []
        with contextlib.suppress(AssertionError):
            for _ in range(count):
                rows.append(server.next(3))
        while len(rows) < count:
            rows.append({"error": "no connection"})
        return rows

    def _connect(self, peer, suite):
        rows = self.ktls_client(self.server(peer, suite).port, suite, peer.client_files(self), "--connections", "2")
        if rows[1]["error"] == "":
            peer.saved_ok(self, suite)
        return rows

    @contextlib.contextmanager
    def counted(self, decrypt_errors=False):
        """The kernel must have counted every connection that is reported to be its, and each change of its keys. decrypt_errors: they
        may happen, since a kernel that cannot change keys tries the old one on what is behind a KeyUpdate."""
        before, rows = harness.tls_stat(), []
        yield rows
        after = harness.tls_stat()
        sent, received = [[row for row in rows if row.get("mode") in modes] for modes in (("kernel", "tx"), ("kernel",))]
        least = {"TlsTxSw": len(sent), "TlsRxSw": len(received)}
        if "TlsTxRekeyOk" in after:  # from Linux 6.14 on
            least.update({"TlsTxRekeyOk": sum(row["updates_out"] for row in sent),
                          "TlsRxRekeyOk": sum(row["updates_in"] for row in received)})
        for name, count in least.items():
            assert after.get(name, 0) - before.get(name, 0) >= count, "%s did not move by %d" % (name, count)
        if not decrypt_errors and "PYTEST_XDIST_WORKER" not in os.environ:  # other files' tests send bad records
            assert after.get("TlsDecryptError", 0) == before.get("TlsDecryptError", 0), "TlsDecryptError moved"

    def check(self, row, suite, resumed=None):
        kernel = self.transport != "tls-user" and suite.kernel
        reason = "none" if kernel else "cipher" if self.transport != "tls-user" else "policy"
        assert row["error"] == "", row
        assert (row["version"], row["cipher"]) == ("TLSv" + suite.version, suite.name), row
        assert (row["mode"], row["reason"]) == (MODES[self.transport] if kernel else "user", reason), row
        if resumed is not None:
            assert row["resumed"] is resumed, row


@pytest.fixture(scope="module")
def lab(env, transport, kernel_guard, tmp_path_factory):
    made = Lab(env, transport, str(tmp_path_factory.mktemp("peers")))
    yield made
    made.close()


def need(lab, peer):
    reason = peer.missing(lab.env)
    if reason:
        pytest.skip(reason)


@HANDSHAKES
@cells()
def test_matrix(lab, peer, role, suite, handshake):
    need(lab, peer)
    rows = lab.pair(peer, role, suite)
    lab.check(rows[handshake == "resumed"], suite, handshake == "resumed")


# ---- KeyUpdate ----

SUITES13 = [suite for suite in SUITES if suite.version == "1.3"]


@pytest.fixture(scope="module")
def can_rekey(env, transport, kernel_guard):
    if transport == "tls-user":
        return True
    out = subprocess.run([env.tool("ktls-probe")], stdout=subprocess.PIPE, timeout=60).stdout.decode()
    return re.search(r"^rekey \(KeyUpdate\)\s+(.*)$", out, re.M).group(1).startswith("yes")


def update_row(lab, peer, role, suite):
    """One connection of which libktls updates the keys three times."""
    if role == "client":
        files = peer.echo_files(lab)
        with served(lab, peer.echo_server(lab, suite)) as port:
            return lab.ktls_client(port, suite, files, "--update-every", str(os.path.getsize(files[1]) * 3 // 10))[0], None
    data, error = lab.lines(peer.lines), None
    server = lab.ktls_server(suite, "--update-every", str(300 * peer.lines), *(["--http"] if peer.http else []))
    try:
        peer.connect(lab, server.port, suite, data, data)
    except AssertionError as exc:
        error = exc
    return lab.rows(server, peer.connections)[peer.first], error


# selfserv takes one short request: there is nothing to send behind a KeyUpdate.
@cells(suites=SUITES13, having={"server": "connect", "client": "echoes"})
def test_key_update_sent(lab, can_rekey, peer, role, suite):
    """Ours, which asks for the peer's; everything after it must still be understood on both sides."""
    need(lab, peer)
    if not can_rekey:
        pytest.skip("this kernel cannot change keys: test_key_update_sent_is_refused")
    with lab.counted() as rows:
        row, error = update_row(lab, peer, role, suite)
        rows.append(row)
    assert error is None, "%s\nlibktls: %s" % (error, row)
    if peer.name == "node" and "KTLS_ETRUNCATED" in row["error"] and row["bytes_in"] == row["bytes_out"]:
        row["error"] = ""  # after a KeyUpdate, Node often sends no close_notify; to userspace TLS just as much
    lab.check(row, suite)
    assert row["updates_out"] >= 2, row
    # The answer is due before the peer's next data: a client that has nothing more to send need not send it.
    assert row["updates_in"] >= 1 or role == "server" and not peer.lockstep, row


def test_key_update_sent_is_refused(lab, can_rekey):
    """On a kernel that cannot, the call says so and nothing has been sent."""
    if can_rekey:
        pytest.skip("this kernel can change keys")
    openssl = PEERS[0]
    need(lab, openssl)
    row, _ = update_row(lab, openssl, "client", SUITES[0])
    assert row["mode"] == MODES[lab.transport] and "EOPNOTSUPP" in row["error"] and row["updates_out"] == 0, row


def check_updated(lab, can_rekey, peer, row, suite, data_ok, said):
    if can_rekey:
        assert data_ok, "%s\nlibktls: %s" % (said, row)
        lab.check(row, suite)
        assert row["updates_in"] >= peer.updates and row["updates_out"] >= 1, row
    elif lab.transport == "tls-tx" and row["error"] == "":  # none that asked: the receiving key is OpenSSL's
        assert data_ok and row["updates_in"] >= 1 and row["updates_out"] == 0, row
    else:
        assert row["mode"] == MODES[lab.transport] and row["error"].startswith("read: KTLS_EKEYUPDATE"), row
        assert not data_ok


@cells(["server"], SUITES13, {"server": "update_client"})
def test_key_update_received_by_server(lab, can_rekey, peer, role, suite):
    """The client's, with and without update_requested. A kernel that cannot change keys: the server closes in order, which the
    client can tell from an error."""
    need(lab, peer)
    server = lab.ktls_server(suite, use="update")
    with lab.counted(not can_rekey) as rows:
        done = peer.update_client(lab, server.port, suite)
        rows.append(server.next())
    whole = done.out in (peers.read(lab.long), 3 * peers.read(lab.lines(peer.lines)))
    check_updated(lab, can_rekey, peer, rows[0], suite, whole, done)
    if not can_rekey:
        assert not re.search(r"(?i)bad.record|decrypt|abnormal|not properly|error in the", done.err), done
        assert done.status == 0 or peer.name == "gnutls", done


@cells(["client"], SUITES13, {"client": "update_server"})
def test_key_update_received_by_client(lab, can_rekey, peer, role, suite):
    need(lab, peer)
    with lab.counted(not can_rekey) as rows, served(lab, peer.update_server(lab, suite)) as port:
        rows += lab.ktls_client(port, suite, peer.update_files(lab))
    check_updated(lab, can_rekey, peer, rows[0], suite, rows[0]["error"] == "", rows[0])


@contextlib.contextmanager
def served(lab, server):
    """Its port; ends it, if it is for one test."""
    try:
        yield server.port
    finally:
        if server not in lab.kept.values():
            server.close()


# ---- renegotiation (TLS 1.2) ----

RENEGOTIATION = cells(suites=[BY_ID["1.2-ecdsa-aes128gcm"], BY_ID["1.2-rsa-chacha20"]],
                      having={"server": "renegotiate_client", "client": "renegotiate_server"})


@RENEGOTIATION
def test_renegotiation_is_refused(lab, peer, role, suite):
    """By the warning no_renegotiation (RFC 5246 7.2.2), and then the connection ends in order, in both modes. NSS takes the warning
    without a word, OpenSSL and GnuTLS give up."""
    need(lab, peer)
    said = "no_renegotiation"
    with lab.counted() as rows:
        if role == "server":
            server = lab.ktls_server(suite, *(["--http"] if peer.http else []), use="renegotiate")
            done = peer.renegotiate_client(lab, server.port, suite)
            rows.append(server.next())
            said = done.err + done.out.decode("latin-1")
        else:
            with served(lab, peer.renegotiate_server(lab, suite)) as port:
                rows += lab.ktls_client(port, suite, peer.renegotiate_files(lab))
    row = rows[0]
    assert re.search(r"(?i)no.renegotiation", said) or peer.http, said
    assert row["mode"] == ("kernel" if lab.transport == "tls-kernel" else "user"), row
    assert "KTLS_EPROTOCOL" in row["error"] and "no_renegotiation" in row["error"], row


# ---- kettle-server ----

@pytest.fixture(scope="module")
def kettle(lab, env, transport, kernel_guard):
    if not env.is_kettle:
        pytest.skip("its TLS is not libktls")
    server = harness.Server(env, transport, check_ktls=False, directives={
        "tls-auth-clients": "no", "tls-ciphersuites": peers.NAMES13, "tls-ciphers": peers.NAMES12})
    yield server
    server.stop()


# Its certificate is the ECDSA one.
@cells(["server"], [BY_ID[name] for name in ("1.3-aes128gcm", "1.3-chacha20", "1.2-ecdsa-aes256gcm", "1.2-ecdsa-chacha20")],
       {"server": "sends"})
def test_kettle_server(lab, kettle, transport, peer, role, suite):
    """ECHO of much, then QUIT: the server closes first."""
    need(lab, peer)
    before, (send, expect) = tls_totals(kettle), lab.resp_echo(peer.lines)
    if peer.name == "nss":
        out, err = peer.send_file(lab, kettle.tls_port, suite, send)
        peers.must_equal(out, peers.read(expect), "tstclnt", err)
        count = 1
    else:
        peer.connect(lab, kettle.tls_port, suite, send, expect)
        count = peer.connections
    after = tls_totals(kettle)
    where = TOTALS.index(MODES[transport] if suite.kernel else "user")
    assert after[where] - before[where] >= count, (before, after)


def tls_totals(server):
    with server.connect() as conn:
        info = conn.info("tls")
    return [int(info["tls_total_connections_" + path]) for path in ("ktls", "user", "ktls_tx")]  # as TOTALS
