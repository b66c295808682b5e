# SPDX-License-Identifier: BSD-3-Clause
"""docs/examples: programs that know libktls and nothing else of the project, against Python's ssl (OpenSSL)."""
import contextlib
import hashlib
import os
import socket
import ssl
import subprocess

import pytest

import harness

pytestmark = pytest.mark.transports("tls-user", "tls-kernel")


@contextlib.contextmanager
def example(env, name, *arguments):
    path = os.path.join(harness.ROOT, "build", "examples", name)
    if not os.path.exists(path):
        pytest.fail("%s is not built" % path)
    port = harness.free_port()
    process = subprocess.Popen([path, str(port), env.cert("server.crt"), env.cert("server.key")] + list(arguments),
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        harness.wait_for(lambda: listening(port), what="%s to listen" % name)
        yield port
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def listening(port):
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


@contextlib.contextmanager
def connection(env, port):
    context = ssl.create_default_context(cafile=env.cert("ca.crt"))
    with socket.create_connection(("127.0.0.1", port), 20) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as tls:
            yield tls


@pytest.fixture
def moved(transport):
    """Under tls-kernel the kernel's counters must have moved by the end."""
    before = harness.tls_stat()
    yield
    if transport == "tls-kernel":
        after = harness.tls_stat()
        assert after["TlsTxSw"] > before["TlsTxSw"] and after["TlsRxSw"] > before["TlsRxSw"]


def check_echo(env, port, size):
    data = os.urandom(size)
    with connection(env, port) as tls:
        sent, got = 0, b""
        while len(got) < size:
            if sent < size:
                sent += tls.send(data[sent:sent + 8192])
            got += tls.recv(65536)
        assert got == data


def test_echo_server(env, moved):
    with example(env, "echo_server") as port:
        for size in (1, 100, 16384, 200000):
            check_echo(env, port, size)


def test_sendfile_server(env, transport, moved, tmp_path):
    if transport != "tls-kernel":
        pytest.skip("sendfile into a TLS connection needs kernel TLS")
    data = os.urandom(3000001)
    path = tmp_path / "file"
    path.write_bytes(data)
    with example(env, "sendfile_server", str(path)) as port:
        with connection(env, port) as tls:
            digest = hashlib.sha256()
            for block in iter(lambda: tls.recv(65536), b""):
                digest.update(block)
            assert digest.digest() == hashlib.sha256(data).digest()


def test_handoff_server(env, transport, moved):
    """Handshake in one process, the stream in another that was exec'd."""
    if transport != "tls-kernel":
        pytest.skip("the example wants kernel TLS: KTLS_POLICY_REQUIRE")
    with example(env, "handoff_server") as port:
        for size in (1, 200000):
            check_echo(env, port, size)
