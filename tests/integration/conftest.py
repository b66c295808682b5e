# SPDX-License-Identifier: BSD-3-Clause
"""Fixtures: every test file runs over each transport asked for.

    --transport tcp|tls-user|tls-kernel|tls-tx|all   default: tcp and tls-user; may be repeated or comma separated
                                              (tls-tx: half offload, the kernel sends and OpenSSL receives)
    --server PATH                             default build/kettle-server; "redis-server" validates the tests themselves
    --event-loop auto|uring|epoll             of the server; default auto
    --proto 2|3|both                          tests of commands over RESP2, RESP3 or (default) both
    --sanitizer                               longer time limits for ASan and TSan builds

Fixtures for tests: `server` (one per file and transport, shared), `c` (a connection to it, over RESP2 and then RESP3, on
an empty keyspace), `make_server` (a server with its own configuration), `env`.
"""
import os
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import certs  # noqa: E402
import harness  # noqa: E402

ALL = ["tcp", "tls-user", "tls-kernel", "tls-tx"]


def pytest_addoption(parser):
    parser.addoption("--transport", action="append", default=None, help="tcp, tls-user, tls-kernel, tls-tx or all")
    parser.addoption("--server", action="store", default="build/kettle-server", help="server binary under test")
    parser.addoption("--event-loop", action="store", default="auto", choices=("auto", "uring", "epoll"))
    parser.addoption("--proto", action="store", default="both", choices=("2", "3", "both"), help="RESP2, RESP3 or both")
    parser.addoption("--sanitizer", action="store_true", default=False, help="time limits for sanitizer builds")


def wanted_transports(config):
    given = config.getoption("--transport") or ["tcp,tls-user"]
    names = [name for item in given for name in item.split(",")]
    if "all" in names:
        return ALL
    for name in names:
        if name not in ALL:
            raise pytest.UsageError("unknown transport %r" % name)
    return names


def pytest_configure(config):
    if config.getoption("--sanitizer"):
        config.option.timeout = 900


def pytest_generate_tests(metafunc):
    if "transport" in metafunc.fixturenames:
        names = wanted_transports(metafunc.config)
        for mark in metafunc.definition.iter_markers("transports"):
            names = [name for name in names if name in mark.args or (
                name == "tls-tx" and {"tls-user", "tls-kernel"} <= set(mark.args))]  # it has a half of each
        group = metafunc.module.__name__
        metafunc.parametrize("transport", [
            pytest.param(name, marks=pytest.mark.xdist_group("%s-%s" % (group, name))) for name in names],
            scope="module")
    if "proto" in metafunc.fixturenames:
        wanted = metafunc.config.getoption("--proto")
        metafunc.parametrize("proto", [p for p in (2, 3) if wanted in ("both", str(p))], ids=lambda p: "resp%d" % p)


@pytest.fixture(scope="session")
def env(request, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("certs"))
    script = os.path.join(harness.ROOT, "scripts", "gen-test-certs.sh")
    session = harness.Env(request.config.getoption("--server"), request.config.getoption("--sanitizer"),
                          certs.make(folder, script), request.config.getoption("--event-loop"))
    if not session.exists:
        pytest.exit("no server at %s: build it first, or pass --server" % session.server, returncode=4)
    return session


def kernel_tls_reason(env):
    """None when the kernel can, else why not, in the probe's words."""
    probe = env.tool("ktls-probe")
    if probe is None:
        return "build/ktls-probe is missing: cannot tell whether the kernel does TLS"
    out = subprocess.run([probe], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    if out.returncode == 0:
        return None
    lines = [line for line in out.stdout.decode("utf-8", "replace").splitlines() if line.strip()]
    return "ktls-probe: " + ("; ".join(lines[-3:]) if lines else "exit status %d" % out.returncode)


@pytest.fixture(scope="module", autouse=True)
def kernel_guard(transport, env):
    """A tls-kernel or tls-tx file must move the kernel's own counters, or it did not test what it says."""
    counters = {"tls-kernel": ("TlsTxSw", "TlsRxSw"), "tls-tx": ("TlsTxSw",)}.get(transport)
    if counters is None:
        yield
        return
    reason = kernel_tls_reason(env)
    if reason:
        pytest.skip(reason)
    before, started = harness.tls_stat(), len(harness.Server.all_started)
    yield
    if len(harness.Server.all_started) == started:
        return
    after = harness.tls_stat()
    for name in counters:
        moved = after.get(name, 0) - before.get(name, 0)
        assert moved > 0, "/proc/net/tls_stat %s did not move" % name


@pytest.fixture(scope="module")
def server(env, transport, kernel_guard):
    instance = harness.Server(env, transport)
    yield instance
    if not instance.alive():
        log = instance.log()
        instance.check_output()
        instance.cleanup()
        raise AssertionError("the server ended during the tests, exit status %s:\n%s" % (
            instance.proc.returncode, log[-4000:]))
    try:
        instance.check_kernel_tls()
    finally:
        instance.stop()


@pytest.fixture(scope="module")
def redis_server(env):
    """Debian's redis-server, to compare with."""
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server to compare with")
    instance = harness.Server(harness.Env("redis-server", False, env.certs), "tcp")
    yield instance
    instance.stop()


@pytest.fixture
def make_server(env, transport, kernel_guard):
    """A factory; what a test leaves running is stopped, and how it ended is checked."""
    made = []

    def factory(**kwargs):
        instance = harness.Server(env, transport, start=False, **kwargs)
        made.append(instance)
        instance.start()
        return instance

    factory.track = made.append
    yield factory
    problems = []
    for instance in made:
        try:
            if instance.proc is not None:
                instance.check_kernel_tls()
                instance.stop()
            instance.cleanup()
        except Exception as exc:  # every server must be stopped before the first problem is reported
            problems.append(exc)
            instance.kill()
            instance.cleanup()
    if problems:
        raise problems[0]


@pytest.fixture
def conn(server):
    """A RESP2 connection on an empty keyspace."""
    if not server.alive():
        pytest.fail("the server of this file is gone: " + server.log()[-1500:])
    with server.connect() as connection:
        connection.ok("FLUSHALL")
        yield connection


@pytest.fixture
def c(server, proto):
    """As conn, once over RESP2 and once over RESP3."""
    if not server.alive():
        pytest.fail("the server of this file is gone: " + server.log()[-1500:])
    with server.connect(proto=proto) as connection:
        connection.ok("FLUSHALL")
        yield connection


@pytest.fixture
def is70(env):
    """True against Debian's redis-server 7.0, where some 7.2 expectations do not hold."""
    return env.is_redis70
