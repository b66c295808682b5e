# SPDX-License-Identifier: BSD-3-Clause
"""kettle-cli --rdb, --functions-rdb and --replica, against redis-server, valkey-server and kettle-server."""
import os
import pty
import re
import signal
import subprocess

import pytest

import harness
from resp import ReplyError
from test_migrate import find_peer

LIBRARY = "#!lua name=lib\nredis.register_function('f', function() return 'from a library' end)"


@pytest.fixture(scope="module", params=["redis-server", "valkey-server", "kettle"])
def primary(env, transport, kernel_guard, request):
    path = env.server if request.param == "kettle" else find_peer(request.param)
    if not path:
        pytest.skip("no " + request.param)
    of = env if request.param == "kettle" else harness.Env(path, False, env.certs)
    instance = harness.Server(of, transport, {"repl-diskless-sync-delay": "0"}, check_ktls=False)
    with instance.connect() as conn:
        try:
            conn.ok("REPLCONF", "capa", "eof")
        except (ReplyError, AssertionError):
            instance.stop()
            pytest.skip(request.param + " is no primary")
        for i in range(500):
            conn.ok("SET", "key:%d" % i, "value %d " % i * 50)
        conn.ok("RPUSH", "list", *range(300))
        conn.ok("FUNCTION", "LOAD", LIBRARY)
    yield instance
    instance.stop()


def cli(env, primary, *args):
    tool = env.tool("kettle-cli")
    if not tool:
        pytest.skip("no kettle-cli")
    return [tool] + primary.cli_args() + list(args)


def run(env, primary, *args):
    return subprocess.run(cli(env, primary, *args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=env.timeout(60))


def load(env, transport, data):
    """A server that has read these bytes at its start."""
    instance = harness.Server(env, transport, start=False, check_ktls=False)
    with open(os.path.join(instance.dir, "dump.rdb"), "wb") as out:
        out.write(data)
    return instance.start()


def check_whole(env, transport, data):
    server = load(env, transport, data)
    with server.connect() as conn:
        assert conn.ok("DBSIZE") == 501 and conn.ok("LLEN", "list") == 300 and conn.ok("GET", "key:7") == b"value 7 " * 50
        assert conn.ok("FCALL", "f", 0) == b"from a library"
    server.stop()


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_rdb_into_a_file(env, transport, primary, tmp_path, diskless):
    path = str(tmp_path / "copy.rdb")
    with primary.connect() as conn:
        conn.ok("CONFIG", "SET", "repl-diskless-sync", diskless)
    done = run(env, primary, "--rdb", path)
    said = done.stderr.decode().splitlines()
    assert done.returncode == 0 and done.stdout == b"", said
    assert said[:2] == ["sending REPLCONF capa eof", "sending REPLCONF rdb-only 1"], said
    with open(path, "rb") as handle:
        data = handle.read()
    if "EOF" in said[2]:
        assert said[2:] == ["SYNC sent to master, writing bytes of bulk transfer until EOF marker to '%s'" % path,
                            "Transfer finished with success after %d bytes" % len(data)]
    else:
        assert said[2:] == ["SYNC sent to master, writing %d bytes to '%s'" % (len(data), path), "Transfer finished with success."]
    check_whole(env, transport, data)


def test_rdb_to_standard_output(env, transport, primary):
    done = run(env, primary, "--rdb", "-")
    assert done.returncode == 0 and done.stdout.startswith((b"REDIS", b"VALKEY")), done.stderr
    check_whole(env, transport, done.stdout)


def test_functions_only(env, transport, primary, tmp_path):
    path = str(tmp_path / "functions.rdb")
    done = run(env, primary, "--functions-rdb", path)
    assert done.returncode == 0 and b"sending REPLCONF rdb-filter-only functions" in done.stderr, done.stderr
    with open(path, "rb") as handle:
        server = load(env, transport, handle.read())
    with server.connect() as conn:
        assert conn.ok("DBSIZE") == 0 and conn.ok("FCALL", "f", 0) == b"from a library"
    server.stop()


def test_what_fails_is_told(env, primary, tmp_path):
    nowhere = str(tmp_path / "no" / "such" / "file")
    done = run(env, primary, "--rdb", nowhere)
    assert done.returncode == 1 and ("Error opening '%s': No such file or directory" % nowhere).encode() in done.stderr
    done = run(env, primary, "--rdb", "/dev/full")
    assert done.returncode == 1 and b"Error writing data to file: No space left on device" in done.stderr
    with primary.connect() as conn:
        conn.ok("CONFIG", "SET", "requirepass", "pw")
        try:
            done = run(env, primary, "--rdb", str(tmp_path / "x"))
            assert done.returncode == 1 and b"SYNC with master failed: -NOAUTH" in done.stderr
            done = run(env, primary, "-a", "pw", "--no-auth-warning", "--rdb", str(tmp_path / "x"))
            assert done.returncode == 0, done.stderr
        finally:
            conn.ok("CONFIG", "SET", "requirepass", "")


def test_progress_on_a_terminal(env, primary, tmp_path):
    master, slave = pty.openpty()
    proc = subprocess.Popen(cli(env, primary, "--rdb", str(tmp_path / "x")), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=slave)
    os.close(slave)
    said = b""
    while True:
        try:
            more = os.read(master, 4096)
        except OSError:
            break
        if not more:
            break
        said += more
    os.close(master)
    assert proc.wait(env.timeout(60)) == 0
    assert re.search(rb"\r\d+ bytes \([0-9.]+[BKM]\)( of [0-9.]+[BKM] \(100%\))?, [0-9.]+[BKMG]/s", said), said


def test_replica_shows_the_stream(env, primary, tmp_path):
    with open(tmp_path / "err", "wb") as err:
        proc = subprocess.Popen(cli(env, primary, "--replica"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err)
    with primary.connect() as conn:
        harness.wait_for(lambda: b"SYNC done" in (tmp_path / "err").read_bytes(), env.timeout(30), what="the synchronization")
        conn.ok("SET", "seen", "a\nb")
        conn.ok("INCR", "n")
        lines = []
        while not lines or "n" not in lines[-1] or not lines[-1].lower().startswith('"incr"'):
            line = proc.stdout.readline()
            assert line, (tmp_path / "err").read_bytes()
            lines.append(line.decode().strip())
        assert any(line.lower().startswith('"set","seen","a\\nb"') for line in lines), lines
        conn.ok("DEL", "seen", "n")
    proc.send_signal(signal.SIGKILL)
    proc.wait()
    proc.stdout.close()
