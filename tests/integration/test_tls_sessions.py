# SPDX-License-Identifier: BSD-3-Clause
"""Session resumption: ticket keys and their files, what must not be resumed, and clients not written here."""
import os
import re
import shutil
import socket
import ssl
import subprocess
import time

import pytest

import harness
from harness import wait_for
from interactive import s_client_argv

pytestmark = pytest.mark.transports("tls-user", "tls-kernel")

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
VERSIONS = pytest.mark.parametrize("version", [V12, V13], ids=["tls12", "tls13"])


@pytest.fixture(autouse=True)
def kettle_only(env):
    if not env.is_kettle:
        pytest.skip("what Kettle adds to Redis")


def new_context(server, version, cert="client"):
    return harness.client_context(server.env, cert=cert, minimum=version, maximum=version)


def visit(server, context, session=None):
    """One connection with a PING. Its session and whether it was resumed."""
    import resp
    sock = socket.create_connection((server.host, server.tls_port), server.env.timeout(10))
    try:
        sock = context.wrap_socket(sock, server_hostname="127.0.0.1", session=session)
    except Exception:
        sock.close()
        raise
    with resp.Conn(sock, server.env.timeout(10), server=server) as conn:
        assert conn("PING") == "PONG"
        return conn.sock.session, conn.sock.session_reused


def config_set(server, *args):
    with server.connect() as conn:
        return conn("CONFIG", "SET", *args)


def write_key(path, *keys):
    with open(path + ".tmp", "wb") as out:
        out.write(b"".join(keys))
    os.rename(path + ".tmp", path)


def info(server, name):
    with server.connect() as conn:
        return int(conn.info("tls")[name])


# ---- keys

@VERSIONS
def test_key_file_shared_by_two_servers_and_changed_live(make_server, tmp_path, version):
    path = str(tmp_path / "ticket.key")
    one, two = os.urandom(80), os.urandom(80)
    write_key(path, one)
    directives = {"tls-session-ticket-keys": path}
    a, b = make_server(directives=directives), make_server(directives=directives)
    context = new_context(a, version)
    session, reused = visit(a, context)
    assert not reused
    session, reused = visit(b, context, session)
    assert reused, "the other server has the same key"
    write_key(path, two, one)
    wait_for(lambda: info(a, "tls_ticket_keys") == 2, a.env.timeout(5))
    session, reused = visit(a, context, session)
    assert reused, "the old key still opens"
    write_key(path, b"short")
    a.wait_log("ticket keys are as before.*80 bytes")
    session, reused = visit(a, context, session)
    assert reused, "a bad file changes nothing"
    unknown = info(a, "tls_tickets_unknown")
    write_key(path, os.urandom(80))
    wait_for(lambda: info(a, "tls_ticket_keys") == 1, a.env.timeout(5))
    session, reused = visit(a, context, session)
    assert not reused
    assert info(a, "tls_tickets_unknown") == unknown + 1


@VERSIONS
def test_keys_survive_a_new_certificate(make_server, version):
    server = make_server()
    context = new_context(server, version)
    session, _ = visit(server, context)
    assert config_set(server, "tls-cert-file", server.env.cert("server2.crt"), "tls-key-file", server.env.cert("server2.key")) == "OK"
    session, reused = visit(server, context, session)
    assert reused


@VERSIONS
def test_rotation_in_memory(make_server, version):
    server = make_server(directives={"tls-session-ticket-rotation": "1", "tls-session-cache-timeout": "300"})
    context = new_context(server, version)
    session, _ = visit(server, context)
    wait_for(lambda: info(server, "tls_ticket_keys") >= 3, server.env.timeout(10))
    session, reused = visit(server, context, session)
    assert reused


def test_directives(make_server, tmp_path):
    path = str(tmp_path / "keys")
    server = make_server(config="")
    for name, value in (("tls-session-tickets", "9"), ("tls-session-tickets", "-1"), ("tls-session-ticket-rotation", "0"),
                        ("tls-session-ticket-keys", path)):
        assert "ERR" in repr(config_set(server, name, value)) or "CONFIG SET failed" in str(config_set(server, name, value))
    server.wait_log("ticket keys '%s'" % re.escape(path))
    with server.connect() as conn:
        assert conn("CONFIG", "GET", "tls-session-ticket-keys")[1] in (b"", "")
        os.mkdir(path)
        write_key(os.path.join(path, "a"), os.urandom(80))
        conn.ok("CONFIG", "SET", "tls-session-ticket-keys", path, "tls-session-tickets", "3", "tls-session-ticket-rotation", "60")
        conn.ok("CONFIG", "REWRITE")
    text = open(os.path.join(server.dir, "kettle.conf")).read()
    assert re.search(r'^tls-session-ticket-keys "?%s"?$' % re.escape(path), text, re.M), text
    assert re.search(r"^tls-session-tickets 3$", text, re.M) and re.search(r"^tls-session-ticket-rotation 60$", text, re.M), text


def test_number_of_tickets(make_server):
    server = make_server()
    context = new_context(server, V13)
    for n in (0, 1, 4):
        assert config_set(server, "tls-session-tickets", str(n)) == "OK"
        session, _ = visit(server, context)
        assert session.has_ticket == (n > 0)
        _, reused = visit(server, context, session if n else None)
        assert reused == (n > 0)


# ---- what must not be resumed

@VERSIONS
def test_another_ca_is_not_got_round(make_server, version):
    server = make_server()
    context = new_context(server, version)
    session, _ = visit(server, context)
    session, reused = visit(server, context, session)
    assert reused
    with server.connect() as conn:
        assert conn("CONFIG", "SET", "tls-ca-cert-file", server.env.cert("other-ca.crt")) == "OK"
        with pytest.raises((ssl.SSLError, OSError, EOFError)):
            visit(server, context, session)
        assert conn("CONFIG", "SET", "tls-ca-cert-file", server.env.cert("ca.crt")) == "OK"
    session, reused = visit(server, context, session)
    assert reused, "the same trust again"


@VERSIONS
def test_session_without_a_certificate_does_not_serve_when_one_is_asked_for(make_server, version):
    server = make_server(directives={"tls-auth-clients": "no"})
    context = new_context(server, version, cert=None)
    session, _ = visit(server, context)
    session, reused = visit(server, context, session)
    assert reused
    for mode in ("optional", "yes"):
        assert config_set(server, "tls-auth-clients", mode) == "OK"
        if mode == "yes":
            with pytest.raises((ssl.SSLError, OSError, EOFError)):
                visit(server, context, session)
        else:
            session, reused = visit(server, context, session)
            assert not reused


# ---- other clients

def run_openssl(server, version, *more):
    return subprocess.run(s_client_argv(server, version, "-ign_eof", *more), input=b"PING\r\nQUIT\r\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=server.env.timeout(20)).stdout


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("tickets", [True, False], ids=["tickets", "ids"])
def test_openssl_s_client(make_server, tmp_path, version, tickets):
    if version == "-tls1_3" and not tickets:
        pytest.skip("TLS 1.3 has tickets only")
    server = make_server()
    path, more = str(tmp_path / "session"), [] if tickets else ["-no_ticket"]
    first = run_openssl(server, version, "-sess_out", path, *more)
    assert b"+PONG" in first and b"New, TLS" in first, first
    before = info(server, "tls_handshakes_resumed")
    second = run_openssl(server, version, "-sess_in", path, *more)
    assert b"+PONG" in second and b"Reused, TLS" in second, second
    assert info(server, "tls_handshakes_resumed") == before + 1


@pytest.mark.parametrize("version", ["VERS-TLS1.2", "VERS-TLS1.3"])
def test_gnutls_cli(make_server, version):
    tool = shutil.which("gnutls-cli")
    if not tool:
        pytest.skip("no gnutls-cli")
    server = make_server()
    argv = [tool, "--resume", "--waitresumption", "-p", str(server.tls_port), "--priority", "NORMAL:-VERS-ALL:+" + version, "--x509cafile",
            server.env.cert("ca.crt"), "--x509certfile", server.env.cert("client.crt"), "--x509keyfile",
            server.env.cert("client.key"), "--logfile", "/dev/stdout", "127.0.0.1"]
    before = info(server, "tls_handshakes_resumed")
    out = subprocess.run(argv, input=b"PING\r\nQUIT\r\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         timeout=server.env.timeout(30)).stdout
    assert b"This is a resumed session" in out, out
    assert info(server, "tls_handshakes_resumed") == before + 1, out


# ---- our own tools

@pytest.mark.slow
def test_benchmark_that_reconnects_resumes(env, make_server):
    server = make_server()
    argv = [env.tool("kettle-benchmark")] + server.cli_args() + ["-t", "ping_mbulk", "-n", "300", "-c", "5", "-k", "0"]
    out = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=env.timeout(60), universal_newlines=True).stdout
    total, resumed = map(int, re.search(r"TLS handshakes: (\d+), resumed: (\d+)", out).groups())
    assert total >= 300 and resumed >= 0.9 * total, out
    assert info(server, "tls_handshakes_resumed") >= resumed - 1
    out = subprocess.run(argv + ["--no-resume"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=env.timeout(60),
                         universal_newlines=True).stdout
    assert re.search(r"TLS handshakes: \d+, resumed: 0\n", out), out


@VERSIONS
def test_cli_that_reconnects_resumes(env, make_server, version):
    server = make_server(directives={"tls-protocols": "TLSv1.2" if version == V12 else "TLSv1.3"})
    proc = subprocess.Popen([env.tool("kettle-cli")] + server.cli_args(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, universal_newlines=True, bufsize=1)
    try:
        proc.stdin.write("PING\n")
        assert "PONG" in proc.stdout.readline()
        before = info(server, "tls_handshakes_resumed")
        with server.connect() as conn:
            conn("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        time.sleep(0.2)
        proc.stdin.write("PING\nPING\n")
        proc.stdin.close()
        assert "PONG" in proc.stdout.read()
        assert info(server, "tls_handshakes_resumed") == before + 1
    finally:
        proc.kill()
        proc.wait()
        proc.stdout.close()
