# SPDX-License-Identifier: BSD-3-Clause
"""TLS itself: who may connect, what is negotiated, what happens to peers that misbehave, and live changes."""
import os
import random
import re
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest

import harness
import resp
from harness import wait_for
from interactive import gnutls_argv, s_client, talk
from resp import encode, run

pytestmark = pytest.mark.transports("tls-user", "tls-kernel")

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture
def kettle_only(env):
    if not env.is_kettle:
        pytest.skip("what Kettle adds to Redis")


def tls_info(server):
    with server.connect() as conn:
        return conn.info("tls")


class Counted:
    """Checks by how much INFO tls counters move inside a with block; does nothing against redis-server."""

    def __init__(self, server, **wanted):
        self.server = server
        self.wanted = wanted

    def __enter__(self):
        self.before = tls_info(self.server) if self.server.env.is_kettle else {}
        return self

    def __exit__(self, kind, *exc):
        if kind or not self.server.env.is_kettle:
            return

        def moved():
            now = tls_info(self.server)
            return {name: int(now.get(name, 0)) - int(self.before.get(name, 0)) for name in self.wanted}
        try:
            wait_for(lambda: all(moved()[n] >= w for n, w in self.wanted.items()), self.server.env.timeout(3))
        except AssertionError:
            raise AssertionError("INFO tls: wanted at least %r, got %r" % (self.wanted, moved()))


def refused(server, **kwargs):
    """True when the server does not serve this client. In TLS 1.3 the client learns it at its first read."""
    try:
        with server.connect(timeout=5, **kwargs) as conn:
            conn("PING")
        return False
    except socket.timeout:
        raise AssertionError("the server neither served nor refused the client")
    except (ssl.SSLError, OSError, EOFError):
        return True


def alive(server):
    with server.connect() as conn:
        assert conn("PING") == "PONG"
    return True


def tls_field(conn):
    return re.search(r" tls=(\S+)", conn.ok("CLIENT", "INFO").decode()).group(1)


# ---- who may connect

@pytest.mark.parametrize("mode", ["yes", "optional", "no"])
@pytest.mark.parametrize("version", [V12, V13], ids=["tls12", "tls13"])
def test_client_certificates(make_server, mode, version):
    server = make_server(directives={"tls-auth-clients": mode})
    args = {"minimum": version, "maximum": version}
    with server.connect() as bystander:
        with server.connect(**args) as conn:
            assert conn("PING") == "PONG"
        if mode == "yes":
            with Counted(server, tls_handshakes_failed=1, tls_handshakes_failed_verify=1):
                assert refused(server, cert=None, **args)
        else:
            assert not refused(server, cert=None, **args)
        for name in ("rogue-client", "expired"):
            if mode == "no":
                assert not refused(server, cert=name, **args), name
            else:
                with Counted(server, tls_handshakes_failed=1, tls_handshakes_failed_verify=1):
                    assert refused(server, cert=name, **args), name
        assert bystander("PING") == "PONG"
    if mode != "no" and server.env.is_kettle:
        assert re.search(r"(?i)certificate.*(expired|has expired)", server.log()), server.log()
        assert re.search(r"(?i)(unable to get local issuer|unknown ca|self.signed|verify)", server.log()), server.log()


def test_client_refuses_the_server(make_server):
    """A wrong CA on the client's side and an expired server certificate: the server hears an alert and goes on."""
    server = make_server(directives={"tls-auth-clients": "no"})
    with Counted(server, tls_handshakes_failed=1, tls_handshakes_failed_alert=1):
        with pytest.raises(ssl.SSLCertVerificationError):
            server.connect(ca="other-ca.crt")
    assert alive(server)
    env = server.env
    expired = make_server(directives={"tls-auth-clients": "no"})
    with expired.connect() as conn:
        conn.ok("CONFIG", "SET", "tls-cert-file", env.cert("expired.crt"), "tls-key-file", env.cert("expired.key"))
        with pytest.raises(ssl.SSLCertVerificationError):
            expired.connect()
        assert conn("PING") == "PONG"
        conn.ok("CONFIG", "SET", "tls-cert-file", env.cert("server.crt"), "tls-key-file", env.cert("server.key"))
    assert alive(expired)


def test_auth_clients_can_change_live(make_server):
    server = make_server()
    assert refused(server, cert=None)
    with server.connect() as conn:
        assert conn("CONFIG", "SET", "tls-auth-clients", "no") == "OK"
        assert not refused(server, cert=None)
        assert conn("CONFIG", "SET", "tls-auth-clients", "yes") == "OK"
        assert refused(server, cert=None)
        assert conn("PING") == "PONG"


def test_ca_directory(make_server, env, tmp_path):
    folder = tmp_path / "cas"
    folder.mkdir()
    shutil.copy(env.cert("ca.crt"), folder / "ca.crt")
    name = subprocess.run(["openssl", "x509", "-hash", "-noout", "-in", env.cert("ca.crt")], stdout=subprocess.PIPE,
                          check=True).stdout.decode().strip()
    shutil.copy(env.cert("ca.crt"), folder / (name + ".0"))
    server = make_server(directives={"tls-ca-cert-file": None, "tls-ca-cert-dir": str(folder)})
    assert alive(server)
    assert refused(server, cert="rogue-client")


def test_rsa_certificate(make_server, env):
    server = make_server(directives={"tls-cert-file": env.cert("server-rsa.crt"),
                                     "tls-key-file": env.cert("server-rsa.key")})
    for version in (V12, V13):
        assert not refused(server, minimum=version, maximum=version)


# ---- what is negotiated

SUITES_12 = ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]
SUITES_13 = ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
SUITES_CBC = ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES256-SHA"]


def path_name(transport):
    return {"tls-kernel": "ktls", "tls-tx": "ktls-tx"}.get(transport, "user")


def exercise(conn):
    value = os.urandom(70000)
    for i in range(20):
        assert conn("SET", "k%d" % i, value[i:]) == "OK"
    for i in range(20):
        assert conn("GET", "k%d" % i) == value[i:]


@pytest.mark.parametrize("suite", SUITES_12)
def test_tls12_suites(server, transport, suite):
    with server.connect(minimum=V12, maximum=V12, ciphers=suite) as conn:
        assert conn.sock.cipher()[0] == suite
        exercise(conn)
        if server.env.is_kettle:
            assert tls_field(conn) == "%s:TLSv1.2:%s" % (path_name(transport), suite)


@pytest.mark.parametrize("suite", SUITES_13)
def test_tls13_suites(make_server, transport, suite):
    server = make_server(directives={"tls-ciphersuites": suite})
    with server.connect() as conn:
        assert conn.sock.cipher()[0] == suite and conn.sock.version() == "TLSv1.3"
        exercise(conn)
        if server.env.is_kettle:
            assert tls_field(conn) == "%s:TLSv1.3:%s" % (path_name(transport), suite)
            info = conn.info("tls")
            assert int(info["tls_cipher_" + suite]) >= 1 and int(info["tls_version_tls13"]) >= 1


@pytest.mark.parametrize("suite", SUITES_CBC)
def test_suites_the_kernel_lacks_work_in_userspace(make_server, transport, suite):
    directives = {"tls-protocols": "TLSv1.2 TLSv1.3"}
    if transport == "tls-kernel":
        directives["tls-ktls"] = "auto"  # "yes" is a promise that nothing is served in userspace
    server = make_server(check_ktls=False, directives=directives)
    with server.connect() as kernel, server.connect(minimum=V12, maximum=V12, ciphers=suite) as conn:
        assert conn.sock.cipher()[0] == suite
        exercise(conn)
        if server.env.is_kettle:
            assert tls_field(kernel).startswith(path_name(transport) + ":")
            assert tls_field(conn) == "user:TLSv1.2:" + suite
            info = conn.info("tls")
            assert int(info["tls_connections_user"]) >= 1 and int(info["tls_version_tls12"]) >= 1
            if transport != "tls-user":
                assert int(info["tls_fallback_cipher"]) >= 1
            else:
                assert int(info["tls_fallback_policy"]) >= 1


def test_protocols_directive(make_server):
    server = make_server(directives={"tls-protocols": "TLSv1.3"})
    assert not refused(server, minimum=V13)
    with Counted(server, tls_handshakes_failed=1, tls_handshakes_failed_protocol=1):
        assert refused(server, minimum=V12, maximum=V12)
    server = make_server(directives={"tls-protocols": "TLSv1.2"})
    with server.connect() as conn:
        assert conn.sock.version() == "TLSv1.2"
    assert refused(server, minimum=V13)


def test_ciphers_directive(make_server):
    server = make_server(directives={"tls-ciphers": SUITES_12[1], "tls-protocols": "TLSv1.2"})
    with server.connect() as conn:
        assert conn.sock.cipher()[0] == SUITES_12[1]
    assert refused(server, minimum=V12, maximum=V12, ciphers=SUITES_12[0])


def test_prefer_server_ciphers(make_server):
    order = ":".join([SUITES_12[1], SUITES_12[0]])
    server = make_server(directives={"tls-ciphers": order, "tls-prefer-server-ciphers": "yes",
                                     "tls-protocols": "TLSv1.2"})
    with server.connect(ciphers=":".join([SUITES_12[0], SUITES_12[1]])) as conn:
        assert conn.sock.cipher()[0] == SUITES_12[1]


@pytest.mark.parametrize("args,version", [(("-tls1_2",), "TLSv1.2"), (("-tls1_3",), "TLSv1.3")],
                         ids=["tls12", "tls13"])
def test_openssl_s_client(server, args, version):
    out = s_client(server, ["PING\r\n", "ECHO from-openssl\r\n", "quit\r\n"], *args)
    assert "+PONG" in out and "from-openssl" in out and "+OK" in out, out
    assert re.search(r"New, %s, Cipher" % version, out), out
    assert "Verify return code: 0 (ok)" in out, out


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(server, version):
    out = s_client(server, ["PING\r\n"], version, "-cipher", "DEFAULT:@SECLEVEL=0")
    assert "+PONG" not in out
    assert alive(server)


@pytest.mark.parametrize("priority", [
    "NORMAL", "NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3",
    "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM", "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+AES-256-GCM",
    "NORMAL:-VERS-ALL:+VERS-TLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305",
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM", "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-256-GCM",
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+CHACHA20-POLY1305"],
    ids=lambda p: p.replace("NORMAL", "n").replace(":-VERS-ALL:+VERS-", "-").replace(":-CIPHER-ALL:+", "-"))
def test_gnutls_client(server, priority):
    """The other implementation: catches what two OpenSSLs would agree to get wrong."""
    if not shutil.which("gnutls-cli"):
        pytest.skip("no gnutls-cli")
    value = "x" * 9000
    out = talk(server.env, gnutls_argv(server, priority), ["PING\r\nSET gnutls " + value + "\r\nGET gnutls\r\nSTRLEN gnutls\r\n", "QUIT\r\n"])
    assert "+PONG" in out and value in out and ":9000" in out, out[-3000:]


# ---- Finished and data in one segment, split anywhere

class ByHand:
    """A TLS client over memory buffers, so that a test decides which bytes travel together."""

    def __init__(self, server, version, cert=None, session=None, context=None):
        context = context or server.context(cert=cert, minimum=version, maximum=version)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1", session=session)
        self.sock = server.raw_socket(server.tls_port)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def finish(self):
        """Runs the handshake but keeps the last flight; returns its bytes.

        In TLS 1.2 the client's last flight is followed by the server's, so there the handshake is completed.
        """
        while True:
            try:
                self.tls.do_handshake()
                return self.outgoing.read()
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError("closed in the handshake")
                self.incoming.write(data)

    def records(self, *payloads):
        for payload in payloads:
            self.tls.write(payload)
        return self.outgoing.read()

    def read(self, wanted):
        out = b""
        while len(out) < wanted:
            try:
                out += self.tls.read(65536)
            except ssl.SSLWantReadError:
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError("closed after %r" % out)
                self.incoming.write(data)
        return out


def test_finished_and_requests_in_one_segment(make_server):
    server = make_server(directives={"tls-auth-clients": "no"})
    want = b"+PONG\r\n$3\r\nabc\r\n+OK\r\n$1\r\nv\r\n"
    payloads = [encode("PING"), encode("ECHO", "abc"), encode("SET", "k", "v"), encode("GET", "k")]
    for count in range(1, 5):
        with ByHand(server, V13) as client:
            flight = client.finish() + client.records(*payloads[:count])
            client.sock.sendall(flight)
            expect = b"".join([b"+PONG\r\n", b"$3\r\nabc\r\n", b"+OK\r\n", b"$1\r\nv\r\n"][:count])
            assert client.read(len(expect)) == expect
    length = None
    cut = 1
    step = 5 if server.env.sanitizer else 1
    while length is None or cut < length:
        with ByHand(server, V13) as client:
            flight = client.finish() + client.records(*payloads)
            length = len(flight)
            client.sock.sendall(flight[:cut])
            time.sleep(0.001)
            client.sock.sendall(flight[cut:])
            assert client.read(len(want)) == want, cut
        cut += step


def test_finished_and_requests_byte_by_byte(make_server):
    server = make_server(directives={"tls-auth-clients": "no"})
    payloads = [encode("PING"), encode("ECHO", "abc")]
    with ByHand(server, V13) as client:
        flight = client.finish() + client.records(*payloads)
        for byte in flight:
            client.sock.sendall(bytes([byte]))
        assert client.read(16) == b"+PONG\r\n$3\r\nabc\r\n"


def test_finished_with_a_large_pipeline_behind_it(make_server):
    server = make_server(directives={"tls-auth-clients": "no"})
    value = os.urandom(100000)
    with ByHand(server, V13) as client:
        flight = client.finish() + client.records(encode("SET", "k", value), encode("GET", "k"))
        client.sock.sendall(flight)
        want = b"+OK\r\n$100000\r\n" + value + b"\r\n"
        assert client.read(len(want)) == want


def test_client_hello_split_at_every_byte(make_server):
    server = make_server(directives={"tls-auth-clients": "no"})
    for version in (V12, V13):
        hello = None
        cut = 1
        while hello is None or cut < len(hello):
            with ByHand(server, version) as client:
                try:
                    client.tls.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                hello = client.outgoing.read()
                client.sock.sendall(hello[:cut])
                time.sleep(0.0005)
                client.sock.sendall(hello[cut:])
                client.sock.sendall(client.finish() + client.records(encode("PING")))
                assert client.read(7) == b"+PONG\r\n"
            cut += 1 if cut < 12 else 23


def test_tls12_data_right_after_finished(make_server):
    server = make_server(directives={"tls-auth-clients": "no"})
    with ByHand(server, V12) as client:
        client.sock.sendall(client.finish() + client.records(encode("PING"), encode("ECHO", "abc")))
        assert client.read(16) == b"+PONG\r\n$3\r\nabc\r\n"


def test_zero_length_and_tiny_records(server):
    with ByHand(server, V13, cert="client") as client:
        client.sock.sendall(client.finish())
        for byte in encode("ECHO", "tiny"):
            client.sock.sendall(client.records(bytes([byte])))
        assert client.read(10) == b"$4\r\ntiny\r\n"


# ---- peers that misbehave

@pytest.mark.parametrize("data", [b"PING\r\n", b"*1\r\n$4\r\nPING\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n" * 10],
                         ids=["inline", "resp", "http", "newlines"])
def test_plaintext_to_the_tls_port(server, data):
    with server.connect() as bystander:
        with Counted(server, tls_handshakes_failed=1, tls_handshakes_failed_not_tls=1):
            with resp.Conn(server.raw_socket(server.tls_port), timeout=server.env.timeout(5)) as plain:
                plain.send(data)
                got = plain.read_until_eof()
                assert b"PONG" not in got
                assert not got or got[0] in (0x15, ord("-")), got
        assert bystander("PING") == "PONG"
    if server.env.is_kettle:
        assert re.search(r"(?i)(plaintext|not TLS|http request|wrong version number)", server.log())


def test_tls_to_the_plaintext_port(make_server):
    server = make_server(plain=True)
    with pytest.raises((ssl.SSLError, OSError)):
        server.connect(tls=True, port=server.port, timeout=2)
    for tls in (True, False):
        with server.connect(tls=tls) as conn:
            assert conn("PING") == "PONG"


def test_garbage(server):
    rng = random.Random(9)
    cases = [b"", b"\0", b"\x16", b"\x16\x03\x01", b"\x16\x03\x01\xff\xff", b"\x16\x03\x01\x00\x00",
             b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", b"\x15\x03\x01\x00\x02\x02\x28", b"\x17\x03\x03\x00\x05hello",
             b"\x14\x03\x03\x00\x01\x01", b"\x16\x03\x01\x40\x01" + b"\x01" * 16385, b"\x80\x2e\x01\x00\x02",
             b"\x18\x03\x02\x00\x03\x01\x40\x00", b"\x16\x03\x01\x00\x04\x0b\x00\x00\x00"]
    cases += [bytes(rng.getrandbits(8) for _ in range(rng.randint(1, 3000))) for _ in range(40)]
    with server.connect() as bystander:
        for data in cases:
            sock = server.raw_socket(server.tls_port)
            try:
                sock.sendall(data)
                sock.settimeout(0.02)
                try:
                    while sock.recv(4096):
                        pass
                except OSError:
                    pass
            except OSError:
                pass
            finally:
                sock.close()
            assert bystander("PING") == "PONG"
    assert alive(server)


def test_garbage_inside_a_valid_handshake(server):
    """A ClientHello with single bytes changed, and records cut off or damaged after the handshake."""
    rng = random.Random(4)
    base = ByHand(server, V13, cert="client")
    try:
        base.tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    hello = base.outgoing.read()
    base.sock.close()
    for _ in range(60):
        bad = bytearray(hello)
        for _ in range(rng.randint(1, 4)):
            bad[rng.randrange(len(bad))] = rng.getrandbits(8)
        with server.raw_socket(server.tls_port) as sock:
            sock.sendall(bytes(bad))
            sock.settimeout(0.02)
            try:
                sock.recv(4096)
            except OSError:
                pass
    for damage in range(12):
        with ByHand(server, V13, cert="client") as client:
            client.sock.sendall(client.finish() + client.records(encode("PING")))
            assert client.read(7) == b"+PONG\r\n"
            record = bytearray(client.records(encode("ECHO", "x" * 40)))
            record[5 + damage * 4] ^= 0x80
            client.sock.sendall(bytes(record))
            client.sock.settimeout(server.env.timeout(5))
            # An alert or a reset; never the reply.
            try:
                with pytest.raises((EOFError, ssl.SSLError, ConnectionError)):
                    client.read(48)
            except socket.timeout:
                raise AssertionError("a damaged record was swallowed")
    assert alive(server)


def test_fatal_alert_and_reset_from_the_peer(server):
    with ByHand(server, V13, cert="client") as client:
        client.sock.sendall(client.finish())
        client.sock.sendall(client.records(encode("PING")))
        assert client.read(7) == b"+PONG\r\n"
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with server.raw_socket(server.tls_port) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(b"\x16\x03\x01\x02\x00\x01")
    assert alive(server)


def test_stalled_handshake(make_server, kettle_only):
    server = make_server(directives={"tls-handshake-timeout": "1"})
    with server.connect() as bystander:
        with Counted(server, tls_handshakes_failed=2, tls_handshakes_failed_timeout=2):
            silent = server.raw_socket(server.tls_port)
            partial = server.raw_socket(server.tls_port)
            partial.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01")
            started = time.monotonic()
            for sock in (silent, partial):
                sock.settimeout(server.env.timeout(6))
                try:
                    while sock.recv(100):
                        pass
                except ConnectionError:
                    pass
                except socket.timeout:
                    raise AssertionError("the stalled handshake was not ended")
                sock.close()
            assert 0.8 <= time.monotonic() - started <= server.env.timeout(4)
        assert bystander("PING") == "PONG"
    assert re.search(r"(?i)handshake.*(time|stall)|(time|stall).*handshake", server.log())


def test_dripping_does_not_extend_the_handshake(make_server, kettle_only):
    server = make_server(directives={"tls-handshake-timeout": "1"})
    sock = server.raw_socket(server.tls_port)
    started = time.monotonic()
    try:
        for byte in b"\x16\x03\x01\x02\x00\x01" + b"\0" * 200:
            sock.sendall(bytes([byte]))
            time.sleep(0.1)
        raise AssertionError("a byte now and then kept the handshake alive")
    except OSError:
        assert time.monotonic() - started <= server.env.timeout(5)
    finally:
        sock.close()


def test_handshake_limit_does_not_touch_established_clients(make_server, kettle_only):
    server = make_server(directives={"tls-handshake-timeout": "1"})
    with server.connect() as conn:
        time.sleep(2.2)
        assert conn("PING") == "PONG"


def test_a_thousand_half_open_handshakes(make_server):
    env_limits = {"tls-handshake-timeout": "2"}
    server = make_server(directives={})
    if server.env.is_kettle:
        server = make_server(directives=env_limits)
    before = len(os.listdir("/proc/%d/fd" % server.proc.pid))
    socks = []
    try:
        for i in range(1000):
            sock = server.raw_socket(server.tls_port)
            if i % 2:
                sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            socks.append(sock)
        waits = []
        for _ in range(100):
            started = time.monotonic()
            with server.connect() as conn:
                assert conn("PING") == "PONG"
            waits.append(time.monotonic() - started)
        waits.sort()
        assert waits[50] < server.env.timeout(0.5), "half of the clients waited %.2f s and more" % waits[50]
        assert waits[-1] < server.env.timeout(5), "a client waited %.2f s" % waits[-1]
        if server.env.is_kettle:
            wait_for(lambda: len(os.listdir("/proc/%d/fd" % server.proc.pid)) <= before + 3, server.env.timeout(10),
                     step=0.1, what="half-open handshakes to be ended")
            assert int(tls_info(server)["tls_handshakes_failed_timeout"]) >= 900
    finally:
        for sock in socks:
            sock.close()
    wait_for(lambda: len(os.listdir("/proc/%d/fd" % server.proc.pid)) <= before + 3, server.env.timeout(10),
             what="descriptors to be closed")
    assert alive(server)


def test_handshakes_cut_off_at_every_stage(server):
    with ByHand(server, V13, cert="client") as probe:
        try:
            probe.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        size = len(probe.outgoing.read())
    for cut in list(range(0, size, 29)):
        with ByHand(server, V13, cert="client") as client:
            try:
                client.tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            client.sock.sendall(client.outgoing.read()[:cut])
    for cut in range(0, 1200, 97):
        with ByHand(server, V13, cert="client") as client:
            client.sock.sendall(client.finish()[:cut])
    assert alive(server)


# ---- control records

def test_close_notify_on_quit_and_shutdown(make_server):
    server = make_server()
    for command in ("QUIT", "SHUTDOWN NOSAVE"):
        for version in (V12, V13):
            if command != "QUIT" and version == V12:
                continue
            sock = socket.create_connection(("127.0.0.1", server.tls_port), server.env.timeout(10))
            sock = server.context(minimum=version, maximum=version).wrap_socket(
                sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False)
            with sock:
                sock.sendall(encode(*command.split()))
                out = b""
                while True:
                    data = sock.recv(1000)  # raises SSLEOFError when the end comes without close_notify
                    if not data:
                        break
                    out += data
                assert out == (b"+OK\r\n" if command == "QUIT" else b"")
    assert server.wait_exit() == 0


def test_close_notify_to_every_client_on_sigterm(make_server, kettle_only):
    server = make_server()
    socks = []
    for _ in range(20):
        sock = socket.create_connection(("127.0.0.1", server.tls_port), server.env.timeout(10))
        socks.append(server.context().wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False))
        socks[-1].sendall(encode("PING"))
        assert socks[-1].recv(100) == b"+PONG\r\n"
    server.proc.terminate()
    for sock in socks:
        assert sock.recv(100) == b""
        sock.close()
    assert server.wait_exit() == 0


def test_close_notify_from_the_client(server):
    for version in (V12, V13):
        with ByHand(server, version, cert="client") as client:
            client.sock.sendall(client.finish() + client.records(encode("PING"), encode("ECHO", "last")))
            assert client.read(17) == b"+PONG\r\n$4\r\nlast\r\n"
            with pytest.raises(ssl.SSLError):
                client.tls.unwrap()
            client.sock.sendall(client.outgoing.read())
            client.sock.settimeout(server.env.timeout(5))
            try:
                while client.sock.recv(1000):
                    pass
            except ConnectionError:
                pass
    assert alive(server)


def test_requests_sent_together_with_close_notify_are_served(server):
    key = "notify:%d" % random.getrandbits(30)
    with ByHand(server, V13, cert="client") as client:
        client.sock.sendall(client.finish())
        client.records()
        data = client.records(encode("SET", key, "v"))
        with pytest.raises(ssl.SSLError):
            client.tls.unwrap()
        client.sock.sendall(data + client.outgoing.read())
        client.sock.settimeout(server.env.timeout(5))
        try:
            while client.sock.recv(1000):
                pass
        except ConnectionError:
            pass
    with server.connect() as conn:
        wait_for(lambda: conn("GET", key) == b"v", server.env.timeout(3), what="the last request")


def test_truncation_half_command_is_dropped(server):
    with ByHand(server, V13, cert="client") as client:
        client.sock.sendall(client.finish() + client.records(b"*3\r\n$3\r\nSET\r\n$5\r\ntrunc\r\n$3\r\nab"))
    with server.connect() as conn:
        assert conn("EXISTS", "trunc") == 0


@pytest.mark.parametrize("letter", ["k", "K"], ids=["update", "update-requested"])
def test_key_update_from_the_peer(server, transport, letter):
    """Works in userspace and on kernels with rekey; on older kernels the connection ends cleanly, with half offload only
    if our key is to change."""
    with Counted(server, **({"tls_key_updates_in": 1} if server.env.is_kettle else {})):
        out = s_client(server, ["ECHO before\r\n", letter + "\n", "ECHO after1\r\n", letter + "\n", "ECHO after2\r\n",
                                "quit\r\n"], "-tls1_3")
    assert "before" in out and "KEYUPDATE" in out
    release = tuple(int(x) for x in re.match(r"(\d+)\.(\d+)", os.uname().release).groups())
    cannot = transport == "tls-kernel" or (transport == "tls-tx" and letter == "K")
    if cannot and release < (6, 14):
        assert "bad record" not in out.lower()
    else:
        assert "after1" in out and "after2" in out and "+OK" in out, out[-1500:]
    assert alive(server)


def test_renegotiation_is_refused(server):
    out = s_client(server, ["ECHO before\r\n", "R\n", "ECHO after\r\n", "quit\r\n"], "-tls1_2")
    assert "before" in out
    assert alive(server)


# ---- certificates and keys

def peer_name(server):
    with server.connect() as conn:
        return dict(x[0] for x in conn.sock.getpeercert()["subject"])["commonName"]


def test_certificate_changes_live(make_server, env):
    server = make_server()
    first = peer_name(server)
    with server.connect() as old:
        old.ok("SET", "k", "v")
        with server.connect() as admin:
            assert admin("CONFIG", "SET", "tls-cert-file", env.cert("server2.crt"), "tls-key-file",
                         env.cert("server2.key")) == "OK"
        assert peer_name(server) == "server2" != first
        assert old("GET", "k") == b"v"
        with server.connect() as admin:
            assert admin("CONFIG", "SET", "tls-key-file", env.cert("server.key"), "tls-cert-file",
                         env.cert("server.crt")) == "OK"
        assert peer_name(server) == first
        assert old("GET", "k") == b"v"


def test_a_bad_certificate_file_changes_nothing(make_server, env, tmp_path):
    server = make_server()
    first = peer_name(server)
    junk = tmp_path / "junk.pem"
    junk.write_text("not a certificate\n")
    with server.connect() as conn:
        before = conn.ok("CONFIG", "GET", "tls-*")
        for args in [("tls-cert-file", "/nonexistent.crt"), ("tls-cert-file", str(junk)), ("tls-key-file", str(junk)),
                     ("tls-key-file", env.cert("server2.key")), ("tls-cert-file", env.cert("server2.crt")),
                     ("tls-ca-cert-file", str(junk)), ("tls-ciphers", "NOSUCHCIPHER"), ("tls-ciphersuites", "NOSUCH"),
                     ("tls-protocols", "SSLv9")]:
            message = conn.err("CONFIG", "SET", *args)
            assert message.startswith("ERR CONFIG SET failed (possibly related to argument '%s') - " % args[0]), message
            assert conn.ok("CONFIG", "GET", "tls-*") == before, args
            assert peer_name(server) == first, args
        assert conn("PING") == "PONG"


def test_encrypted_key(make_server, env):
    server = make_server(directives={"tls-cert-file": env.cert("server-enc.crt"),
                                     "tls-key-file": env.cert("server-enc.key"), "tls-key-file-pass": "kettle"})
    assert alive(server)
    with server.connect() as conn:
        assert conn("CONFIG", "SET", "timeout", "100") == "OK"


def start_refused(env, transport, directives, **kwargs):
    server = harness.Server(env, transport, directives=directives, start=False, **kwargs)
    server.tls_port = harness.free_port()
    server.spawn()
    try:
        code = server.wait_exit(10)
        return code, server.log()
    except subprocess.TimeoutExpired:
        server.kill()
        raise AssertionError("the server started:\n" + server.log())
    finally:
        server.cleanup()


@pytest.mark.parametrize("what", ["wrong-pass", "no-cert", "mismatch", "missing", "no-ca"])
def test_start_is_refused_with_a_reason(env, transport, kernel_guard, what):
    directives = {
        "wrong-pass": {"tls-cert-file": env.cert("server-enc.crt"), "tls-key-file": env.cert("server-enc.key"),
                       "tls-key-file-pass": "wrong"},
        "no-cert": {"tls-cert-file": None, "tls-key-file": None},
        "mismatch": {"tls-key-file": env.cert("client.key")},
        "missing": {"tls-cert-file": "/nonexistent.crt"},
        "no-ca": {"tls-ca-cert-file": None},
    }[what]
    code, log = start_refused(env, transport, directives)
    assert code == 1
    assert re.search(r"(?i)tls|certificate|key", log)
    if what == "no-cert":
        assert re.search("No tls-cert-file configured!|needs a certificate", log)
    if what == "no-ca":
        assert "Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, tls-replication or " \
               "tls-auth-clients are enabled!" in log
    if what == "missing":
        assert "/nonexistent.crt" in log and "No such file" in log


# ---- resumption

def resume(server, context, session, version):
    sock = socket.create_connection(("127.0.0.1", server.tls_port), server.env.timeout(10))
    sock = context.wrap_socket(sock, server_hostname="127.0.0.1", session=session)
    with resp.Conn(sock, server=server) as conn:
        assert conn("PING") == "PONG"
        exercise(conn)
        return conn.sock.session, conn.sock.session_reused


@pytest.mark.parametrize("version", [V12, V13], ids=["tls12", "tls13"])
def test_session_resumption(make_server, version):
    server = make_server()
    context = harness.client_context(server.env, minimum=version, maximum=version)
    session, reused = resume(server, context, None, version)
    assert not reused
    with Counted(server, tls_handshakes_resumed=3):
        for _ in range(3):
            session, reused = resume(server, context, session, version)
            assert reused


@pytest.mark.parametrize("version", [V12, V13], ids=["tls12", "tls13"])
def test_session_caching_off(make_server, version, kettle_only):
    server = make_server(directives={"tls-session-caching": "no"})
    context = harness.client_context(server.env, minimum=version, maximum=version)
    session, _ = resume(server, context, None, version)
    _, reused = resume(server, context, session, version)
    assert not reused


# ---- what is reported

FIELDS = """tls_port tls_ktls_mode tls_kernel_usable tls_kernel_reason tls_handshakes_ok tls_handshakes_failed
    tls_handshakes_failed_alert tls_handshakes_failed_protocol tls_handshakes_failed_verify tls_handshakes_failed_not_tls
    tls_handshakes_failed_reset tls_handshakes_failed_timeout tls_handshakes_failed_other tls_handshakes_resumed
    tls_handshake_usec_p50 tls_handshake_usec_p99 tls_connections_ktls tls_connections_user tls_total_connections_ktls
    tls_connections_ktls_tx tls_total_connections_ktls_tx
    tls_total_connections_user tls_version_tls12 tls_version_tls13 tls_control_records tls_key_updates_in
    tls_key_updates_out tls_kernel_bytes_in tls_kernel_bytes_out tls_cert_subject tls_cert_not_after
    tls_cert_days_left""".split()


def test_info_tls_fields(server, transport, kettle_only):
    with server.connect() as conn, server.connect() as other:
        assert other.ok("PING")  # TLS 1.3: a client is through with its handshake before the server is
        text = conn.ok("INFO", "tls")
        assert text.startswith(b"# TLS\r\n")
        info = conn.info("tls")
        missing = [name for name in FIELDS if name not in info]
        assert not missing, missing
        kernel = transport != "tls-user"
        assert info["tls_port"] == str(server.tls_port)
        assert info["tls_ktls_mode"] == {"tls-user": "no", "tls-kernel": "yes", "tls-tx": "tx"}[transport]
        live = {"tls-user": "tls_connections_user", "tls-kernel": "tls_connections_ktls", "tls-tx": "tls_connections_ktls_tx"}
        for path, field in live.items():
            assert (int(info[field]) >= 2) if path == transport else (int(info[field]) == 0), (field, info)
        assert int(info["tls_handshakes_ok"]) >= 2
        assert 0 < int(info["tls_handshake_usec_p50"]) <= int(info["tls_handshake_usec_p99"]) < 60000000
        assert re.search("CN ?= ?", info["tls_cert_subject"])
        assert int(info["tls_cert_days_left"]) > 0
        assert any(re.fullmatch(r"tls_cipher_[A-Z0-9_-]+", name) for name in info)
        if kernel:
            assert info["tls_kernel_usable"] == "1"
            assert (int(info["tls_kernel_bytes_in"]) > 0) == (transport == "tls-kernel")
            assert int(info["tls_kernel_bytes_out"]) > 0
            for name in ("tls_stat_TlsCurrTxSw", "tls_stat_TlsTxSw", "tls_stat_TlsRxSw"):
                assert name in info
        else:
            assert int(info["tls_fallback_policy"]) >= 2
            assert int(info["tls_kernel_bytes_out"]) == 0


def test_connection_counts_go_down_again(server, kettle_only):
    with server.connect() as conn:
        def live():
            info = conn.info("tls")
            return sum(int(info["tls_connections_" + path]) for path in ("ktls", "ktls_tx", "user"))
        wait_for(lambda: live() == 1, server.env.timeout(5), what="old connections to go")
        extra = [server.connect() for _ in range(30)]
        # A TLS 1.3 client is done half a round trip before its server.
        wait_for(lambda: live() == 31, server.env.timeout(5), what="all handshakes to end")
        for other in extra:
            other.close()
        wait_for(lambda: live() == 1, server.env.timeout(5), what="the count to go down")


def test_ktls_auto_says_what_it_chose(make_server, env, kettle_only):
    server = make_server(directives={"tls-ktls": "auto"}, check_ktls=False)
    info = tls_info(server)
    assert info["tls_ktls_mode"] == "auto"
    if info["tls_kernel_usable"] == "1":
        assert int(info["tls_total_connections_ktls"]) >= 1
    else:
        assert info["tls_kernel_reason"] not in ("", "none", "ok")
        assert int(info["tls_total_connections_ktls"]) == 0
        assert any(int(value) >= 1 for name, value in info.items() if name.startswith("tls_fallback_"))
        assert re.search(r"(?i)modprobe tls|CONFIG_TLS|kernel TLS|kTLS", server.log()), "the reason must be in the log"


def test_ktls_tx_by_config_set(make_server, transport, kettle_only):
    """Half offload for connections made after the change; where the kernel cannot send, userspace with the reason."""
    server = make_server(check_ktls=False, config="timeout 0\n")
    possible = tls_info(server)["tls_kernel_usable"] == "1"
    with server.connect() as first:
        path = tls_field(first).split(":")[0]
        assert first("CONFIG", "SET", "tls-ktls", "tx") == "OK"
        assert first("CONFIG", "GET", "tls-ktls") == [b"tls-ktls", b"tx"]
        first.err("CONFIG", "SET", "tls-ktls", "rx")
        with server.connect() as conn:
            assert tls_field(conn).split(":")[0] == ("ktls-tx" if possible else "user")
            exercise(conn)
            assert tls_field(first).split(":")[0] == path == path_name(transport)
            assert conn("CONFIG", "REWRITE") == "OK"
            if possible:
                assert int(conn.info("tls")["tls_connections_ktls_tx"]) >= 1
    with open(server.dir + "/kettle.conf") as handle:
        assert "tls-ktls tx" in handle.read()


def test_ktls_tx_says_what_it_chose(make_server, env, kettle_only):
    server = make_server(directives={"tls-ktls": "tx"}, check_ktls=False)
    info = tls_info(server)
    assert info["tls_ktls_mode"] == "tx"
    assert int(info["tls_total_connections_ktls"]) == 0
    if info["tls_kernel_usable"] == "1":
        assert int(info["tls_total_connections_ktls_tx"]) >= 1
        assert "TLS: kernel for what is sent" in server.log()
    else:
        assert any(int(value) >= 1 for name, value in info.items() if name.startswith("tls_fallback_"))
        assert "TLS: userspace, because the kernel" in server.log()


def test_ktls_tx_streams_every_suite(make_server, transport, kettle_only):
    """The kernel's counters tell which half is its own."""
    if transport != "tls-tx":
        pytest.skip("about half offload")
    server = make_server(directives={"tls-protocols": "TLSv1.2 TLSv1.3"})
    before = harness.tls_stat()
    n = 0
    for suite in SUITES_12:
        with server.connect(minimum=V12, maximum=V12, ciphers=suite) as conn:
            assert tls_field(conn) == "ktls-tx:TLSv1.2:" + suite
            exercise(conn)
            n += 1
    for _ in range(5):
        with server.connect(minimum=V13) as conn:
            assert tls_field(conn).startswith("ktls-tx:TLSv1.3:")
            exercise(conn)
            n += 1
    after = harness.tls_stat()
    assert after["TlsTxSw"] - before["TlsTxSw"] == n
    assert after["TlsRxSw"] == before["TlsRxSw"]
    info = tls_info(server)
    assert int(info["tls_kernel_bytes_out"]) > n * 20 * 69000 and int(info["tls_kernel_bytes_in"]) == 0


def test_ktls_tx_bad_record_is_answered_by_alert(server, transport, kettle_only):
    if transport != "tls-tx":
        pytest.skip("about half offload")
    with Counted(server, tls_alerts_out=1):
        raw = server.raw_socket()
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = server.context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        while True:
            try:
                tls.do_handshake()
                raw.sendall(outgoing.read())
                break
            except ssl.SSLWantReadError:
                raw.sendall(outgoing.read())
                incoming.write(raw.recv(65536))
        tls.write(b"PING\r\n")
        record = bytearray(outgoing.read())
        record[-1] ^= 1
        raw.sendall(record)
        with pytest.raises(ssl.SSLError, match="(?i)bad.record.mac"):
            while True:
                try:
                    assert not tls.read(100)
                except ssl.SSLWantReadError:
                    data = raw.recv(65536)
                    assert data, "the end without an alert"
                    incoming.write(data)
        raw.close()


def test_ktls_yes_refuses_a_kernel_without_it(env, transport, kettle_only, kernel_guard):
    import conftest
    reason = conftest.kernel_tls_reason(env)
    if reason is None:
        pytest.skip("this kernel can")
    code, log = start_refused(env, transport, {"tls-ktls": "yes"})
    assert code == 1
    assert re.search(r"(?i)tls-ktls|kernel TLS|kTLS", log), log


def test_no_secrets_in_the_log(make_server, kettle_only):
    server = make_server(directives={"loglevel": "debug"})
    for version in (V12, V13):
        assert not refused(server, minimum=version, maximum=version)
    log = server.log()
    assert not re.search(r"(CLIENT|SERVER)_(TRAFFIC_SECRET|RANDOM|HANDSHAKE)|BEGIN (EC |RSA |)PRIVATE KEY", log)


def test_many_handshakes_at_once(server):
    errors = []

    def work():
        try:
            for _ in range(15):
                with server.connect() as conn:
                    assert conn("PING") == "PONG"
        except Exception as exc:
            errors.append(exc)
    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]


def test_shared_server_is_still_well(server):
    with server.connect() as conn:
        run(conn, "PING => +PONG")
