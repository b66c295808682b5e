# SPDX-License-Identifier: BSD-3-Clause
"""Keys of TLS connections change before they have protected too many records; where they cannot, the connection ends in order.

The limit is lowered with ktls-rekey-after-records. Python's ssl takes KeyUpdates and answers them, but cannot send its own: that is
done with openssl s_client and gnutls-cli.
"""
import re
import shutil
import ssl
import subprocess
import threading
import time

import pytest

from harness import wait_for
from interactive import gnutls_argv, s_client, s_client_argv, talk

pytestmark = pytest.mark.transports("tls-user", "tls-kernel")

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
LIMIT = 64


@pytest.fixture(autouse=True)
def kettle_only(env):
    if not env.is_kettle:
        pytest.skip("what Kettle adds to Redis")


def tls_info(server):
    """On a connection of its own, that has few records."""
    with server.connect() as conn:
        return {k: int(v) for k, v in conn.info("tls").items() if re.fullmatch(r"\d+", str(v))}


@pytest.fixture
def limited(make_server):
    return make_server(directives={"ktls-rekey-after-records": str(LIMIT)})


def can_change_keys(server):
    return server.transport == "tls-user" or tls_info(server)["tls_kernel_rekey"] == 1


def need_rekey(server):
    if not can_change_keys(server):
        pytest.skip("this kernel cannot change keys (Linux 6.14 or later can)")


def load(server, name, rounds, problems):
    """Pipelines of commands whose replies show loss, doubling and disorder."""
    try:
        with server.connect(minimum=V13) as conn:
            value = b"v" * 3000
            at = 0
            for i in range(rounds):
                commands = [("INCR", name)] * 20 + [("SET", name + "x", value), ("GET", name + "x")]
                replies = conn.pipeline(commands)
                assert replies[:20] == list(range(at + 1, at + 21)), (i, replies[:20])
                assert replies[20] == "OK" and replies[21] == value
                at += 20
    except Exception as exc:  # pylint: disable=broad-except
        problems.append(exc)


def test_pipelined_load_goes_on(limited):
    need_rekey(limited)
    before = tls_info(limited)
    problems = []
    threads = [threading.Thread(target=load, args=(limited, "load%d" % i, 300, problems)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems, problems
    after = tls_info(limited)
    moved = {k: after[k] - before[k] for k in ("tls_key_updates_out", "tls_key_updates_in", "tls_rekeys_by_limit",
                                               "tls_closed_record_limit", "tls_key_update_floods")}
    assert moved["tls_key_updates_out"] >= 3 * 300 // LIMIT, moved
    assert moved["tls_rekeys_by_limit"] >= moved["tls_key_updates_out"] // 2, moved
    assert moved["tls_key_updates_in"] >= 1, moved
    assert moved["tls_closed_record_limit"] == moved["tls_key_update_floods"] == 0, moved


def test_large_replies_and_requests(limited):
    need_rekey(limited)
    value = bytes(range(256)) * 8192  # 2 MiB: 128 records each way
    with limited.connect(minimum=V13) as conn:
        for i in range(4):
            assert conn("SET", "big%d" % i, value) == "OK"
        for i in range(4):
            assert conn("GET", "big%d" % i) == value
    assert tls_info(limited)["tls_rekeys_by_limit"] >= 8


def test_many_small_records_of_the_client(limited):
    """The client's own count: the server asks for its KeyUpdate, and gets it."""
    need_rekey(limited)
    with limited.connect(minimum=V13) as conn:
        for i in range(10 * LIMIT):
            assert conn("INCR", "small") == i + 1
    assert tls_info(limited)["tls_key_updates_in"] >= 5


def until_the_end(conn, name):
    """INCRs, ten under way at a time; returns the number of replies before the end of the connection."""
    got = 0
    try:
        for _ in range(100):
            for _ in range(10):
                conn.send(b"*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n" % (len(name), name.encode()))
            for _ in range(10):
                assert conn.read().py == got + 1
                got += 1
    except (EOFError, ConnectionError, ssl.SSLError) as exc:
        assert not isinstance(exc, ssl.SSLError) or "EOF" in str(exc) or "closed" in str(exc).lower(), exc
    return got


def check_end_in_order(server, version):
    before = tls_info(server)
    with server.connect(minimum=version, maximum=version) as conn:
        got = until_the_end(conn, "count")
    assert LIMIT // 3 <= got <= 2 * LIMIT, got
    wait_for(lambda: tls_info(server)["tls_closed_record_limit"] == before["tls_closed_record_limit"] + 1)
    after = tls_info(server)
    assert after["tls_alerts_out"] > before["tls_alerts_out"]
    with server.connect() as conn:
        assert int(conn("GET", "count")) == got  # what was done was answered
    assert re.search(r"Closed a client connection in order: one key has protected as many records", server.log())


def test_tls12_ends_in_order(limited):
    check_end_in_order(limited, V12)


def test_old_kernel_ends_in_order(limited):
    if can_change_keys(limited):
        pytest.skip("keys can be changed here")
    check_end_in_order(limited, V13)
    assert "this kernel cannot change keys" in limited.log()


def test_old_kernel_policy(make_server, transport):
    if transport != "tls-kernel":
        pytest.skip("about the kernel")
    server = make_server(check_ktls=False, directives={"tls-ktls": "auto", "tls-ktls-on-old-kernel": "userspace",
                                                       "ktls-rekey-after-records": str(LIMIT)})
    rekey = tls_info(server)["tls_kernel_rekey"]
    with server.connect(minimum=V13) as conn:
        field = re.search(r" tls=(\S+)", conn.ok("CLIENT", "INFO").decode()).group(1)
        assert field.startswith("ktls:" if rekey else "user:"), field
        for i in range(3 * LIMIT):
            assert conn("INCR", "n") == i + 1
    with server.connect(minimum=V12, maximum=V12) as conn:
        assert b" tls=ktls:" in conn.ok("CLIENT", "INFO")
    info = tls_info(server)
    assert (info["tls_fallback_no_rekey"] > 0) == (not rekey)
    assert info["tls_rekeys_by_limit"] >= 1


def test_directives(make_server, transport):
    mode = {"tls-ktls": {"tls-user": "no", "tls-kernel": "auto", "tls-tx": "tx"}[transport]}
    server = make_server(check_ktls=False, directives=mode)
    with server.connect() as conn:
        assert conn("CONFIG", "GET", "ktls-rekey-after-records") == [b"ktls-rekey-after-records", b"0"]
        assert conn("CONFIG", "GET", "tls-ktls-on-old-kernel") == [b"tls-ktls-on-old-kernel", b"offload"]
        assert conn("CONFIG", "SET", "ktls-rekey-after-records", "1000", "tls-ktls-on-old-kernel", "userspace") == "OK"
        assert conn("CONFIG", "GET", "ktls-rekey-after-records") == [b"ktls-rekey-after-records", b"1000"]
        conn.err("CONFIG", "SET", "ktls-rekey-after-records", "-1")
        conn.err("CONFIG", "SET", "tls-ktls-on-old-kernel", "never")
        assert conn("CONFIG", "SET", "ktls-rekey-after-records", str(LIMIT), "tls-ktls-on-old-kernel", "offload") == "OK"
    if can_change_keys(server):  # a connection made after the change has it
        with server.connect(minimum=V13) as conn:
            for _ in range(2 * LIMIT):
                conn("PING")
        assert tls_info(server)["tls_rekeys_by_limit"] >= 1
    other = make_server(check_ktls=False, directives=mode,
                        config="ktls-rekey-after-records 77\ntls-ktls-on-old-kernel userspace\n")
    with other.connect() as conn:
        assert conn("CONFIG", "SET", "ktls-rekey-after-records", "78") == "OK"
        assert conn("CONFIG", "REWRITE") == "OK"
    with open(other.dir + "/kettle.conf") as handle:
        text = handle.read()
    assert "ktls-rekey-after-records 78" in text and "tls-ktls-on-old-kernel userspace" in text


def test_kernel_only_and_userspace_contradict(make_server, transport):
    if transport != "tls-kernel":
        pytest.skip("about the kernel")
    server = make_server()
    if can_change_keys(server):
        pytest.skip("no contradiction where keys can be changed")
    with server.connect() as conn:
        assert "contradict" in conn.err("CONFIG", "SET", "tls-ktls-on-old-kernel", "userspace")
        assert conn("CONFIG", "GET", "tls-ktls-on-old-kernel") == [b"tls-ktls-on-old-kernel", b"offload"]
    with server.connect() as conn:
        assert conn("PING") == "PONG"


# ---- peers that change keys themselves

def test_openssl_changes_keys_too(make_server):
    """Ours by the limit and theirs by k and K cross each other."""
    server = make_server(directives={"ktls-rekey-after-records": "4"})
    need_rekey(server)
    lines = []
    for i in range(12):
        lines += ["ECHO step-%d\r\n" % i, ("k", "K")[i % 2] + "\n"]
    out = s_client(server, lines + ["quit\r\n"], "-tls1_3")
    assert all("step-%d" % i in out for i in range(12)) and "+OK" in out, out[-2000:]
    info = tls_info(server)
    assert info["tls_key_updates_in"] >= 12 and info["tls_key_updates_out"] >= 6, info


def test_gnutls_changes_keys_too(make_server):
    if not shutil.which("gnutls-cli"):
        pytest.skip("no gnutls-cli")
    server = make_server(directives={"ktls-rekey-after-records": "4"})
    need_rekey(server)
    lines = []
    for i in range(12):
        lines.append("ECHO step-%d\r\n" % i)
        if i == 5:
            lines.append("^rekey^\n")
    out = talk(server.env, gnutls_argv(server, "NORMAL:-VERS-ALL:+VERS-TLS1.3", "--inline-commands"), lines + ["quit\r\n"])
    assert all("step-%d" % i in out for i in range(12)) and "+OK" in out, out[-2000:]
    info = tls_info(server)
    assert info["tls_key_updates_in"] >= 1 and info["tls_rekeys_by_limit"] >= 2, info


def test_flood_of_key_updates(make_server):
    server = make_server()
    need_rekey(server)
    proc = subprocess.Popen(s_client_argv(server, "-tls1_3"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.4 * server.env.factor)
        end = time.monotonic() + server.env.timeout(10)
        while proc.poll() is None and time.monotonic() < end and tls_info(server)["tls_key_update_floods"] == 0:
            try:
                for _ in range(300):
                    proc.stdin.write(b"k\n")
                    proc.stdin.flush()
                    time.sleep(0.001)
            except BrokenPipeError:
                break
        wait_for(lambda: tls_info(server)["tls_key_update_floods"] == 1)
    finally:
        proc.kill()
        proc.communicate()
    with server.connect() as conn:
        assert conn("PING") == "PONG"
