# SPDX-License-Identifier: BSD-3-Clause
"""What goes wrong while data is written or moved: a disk that fails under a snapshot, and kill -9 on either side of a MIGRATE.

Crashes under write load, broken files and full disks are in test_aof.py and test_rdb.py."""
import errno
import os
import random
import signal
import threading
import time

import pytest

import harness
from resp import ReplyError
from test_migrate import args, start  # noqa: F401 (a fixture)

ROUNDS = int(os.environ.get("CRASH_ROUNDS", "2"))  # of kill -9 in the middle of MIGRATEs; many by hand
ALWAYS = {"appendonly": "yes", "appendfsync": "always", "auto_aof_rewrite_percentage": "0"}


# ---- a disk that fails under a snapshot ----

@pytest.fixture
def failing(make_server, env):
    """A server whose snapshots' temporary files are written as tell(...) says; see tests/support/io-fail.c."""
    library = env.tool("peers/io-fail.so")
    if not library or env.sanitizer:
        pytest.skip("build/peers/io-fail.so is missing (make peers)" if not library else "a sanitizer wants to be loaded first")
    control = "/tmp/kettle-iofail-%d-%d" % (os.getpid(), random.randrange(1 << 30))
    os.environ.update({"LD_PRELOAD": library, "IOFAIL_MATCH": "/temp-", "IOFAIL_CONTROL": control})
    try:
        server = make_server(directives={"save": "3600 100000"})
    finally:
        for name in ("LD_PRELOAD", "IOFAIL_MATCH", "IOFAIL_CONTROL"):
            os.environ.pop(name, None)

    def tell(*lines):
        with open(control + ".new", "w") as handle:
            handle.write("".join(line + "\n" for line in lines))
        os.rename(control + ".new", control)

    server.count = control + ".count"
    server.tell, server.heal = tell, lambda: os.path.exists(control) and os.unlink(control)
    yield server
    server.heal()
    if os.path.exists(server.count):
        os.unlink(server.count)


def bgsave(conn, env):
    conn.ok("BGSAVE")
    harness.wait_for(lambda: conn.info("persistence")["rdb_bgsave_in_progress"] == "0", env.timeout(60), what="the child's end")
    return conn.info("persistence")["rdb_last_bgsave_status"]


@pytest.mark.parametrize("what", ["write %d 0" % errno.EIO, "write %d 100" % errno.ENOSPC, "fsync %d" % errno.EIO])
def test_a_snapshot_that_cannot_be_written_leaves_the_last_one(failing, env, what):
    with failing.connect() as conn:
        conn.ok("SET", "kept", 1)
        conn.ok("SAVE")
        path = os.path.join(failing.dir, "dump.rdb")
        with open(path, "rb") as handle:
            before = handle.read()
        conn.ok("SET", "more", "x" * 5000)
        failing.tell(what)
        assert str(conn.err("SAVE")) == "ERR"
        assert bgsave(conn, env) == "err"
        assert str(conn.err("SET", "refused", 1)).startswith("MISCONF")
        with open(path, "rb") as handle:
            assert handle.read() == before
        assert [name for name in os.listdir(failing.dir) if name.startswith("temp-")] == []
        conn.send(b"*1\r\n$8\r\nSHUTDOWN\r\n")  # it would lose what is not saved
        assert conn.read().render().startswith("-ERR Errors trying to SHUTDOWN")
        failing.heal()
        assert bgsave(conn, env) == "ok"
        conn.ok("SET", "accepted", 1)
    failing.proc.send_signal(signal.SIGTERM)
    assert failing.wait_exit() == 0
    failing.start()
    with failing.connect() as conn:
        assert conn.ok("EXISTS", "kept", "more", "accepted") == 3


# ---- fsync on the way ----

@pytest.mark.parametrize("incremental", ["yes", "no"])
@pytest.mark.parametrize("what", ["rdb", "aof", "aof of commands"])
def test_incremental_fsync(failing, env, what, incremental):
    """Each four megabytes go to the disk as they come, or all at the end: sync_file_range(2) is refused, and what it is replaced by
    is counted."""
    failing.tell("range %d" % errno.ENOSYS, "count 1")
    with failing.connect(timeout=60) as conn:
        conn.ok("CONFIG", "SET", "rdbcompression", "no")
        conn.ok("CONFIG", "SET", "aof-use-rdb-preamble", "no" if what == "aof of commands" else "yes")
        conn.ok("CONFIG", "SET", "rdb-save-incremental-fsync" if what == "rdb" else "aof-rewrite-incremental-fsync", incremental)
        conn.ok("CONFIG", "SET", "aof-rewrite-incremental-fsync" if what == "rdb" else "rdb-save-incremental-fsync",
                "no" if incremental == "yes" else "yes")
        conn.ok("DEBUG", "POPULATE", 48, "key", 1 << 20)
        if what == "rdb":
            assert bgsave(conn, env) == "ok"
        else:
            conn.ok("BGREWRITEAOF")
            harness.wait_for(lambda: conn.info("persistence")["aof_rewrite_in_progress"] == "0", env.timeout(60), what="the rewrite")
            assert conn.info("persistence")["aof_last_bgrewrite_status"] == "ok"
    syncs = os.path.getsize(failing.count)
    assert syncs >= 11 if incremental == "yes" else 1 <= syncs <= 2


# ---- MIGRATE and the log ----

def log_of(server):
    out = b""
    folder = os.path.join(server.dir, "appendonlydir")
    for name in sorted(os.listdir(folder)):
        if ".incr." in name:
            with open(os.path.join(folder, name), "rb") as handle:
                out += handle.read()
    return out


def test_migrate_is_logged_as_a_deletion(start):
    source, target = start("kettle", **ALWAYS), start("kettle", **ALWAYS)
    with source.connect() as a, target.connect() as b:
        a.ok("MSET", "a", 1, "b", 2, "c", 3)
        a.ok("PEXPIRE", "b", 600000)
        assert a.ok(*args(target, "", "KEYS", "a", "b")) == "OK"
        a.ok("MULTI")
        a.ok(*args(target, "c", "COPY"))
        a.ok(*args(target, "c", "REPLACE"))
        assert a.ok("EXEC") == ["OK", "OK"]
        assert b.ok("DBSIZE") == 3
        log = log_of(source)
        assert b"MIGRATE" not in log.upper() and b"*3\r\n$3\r\nDEL\r\n$1\r\na\r\n$1\r\nb\r\n" in log and b"*2\r\n$3\r\nDEL\r\n$1\r\nc\r\n" in log
        assert b"RESTORE" in log_of(target)


class Mover(threading.Thread):
    """Sets keys, one after the other, and moves each: where the last thing said of it leaves it is noted."""

    def __init__(self, source, target, n):
        super().__init__(daemon=True)
        self.source, self.target, self.n = source, target, n
        self.state = {}  # key: "set" (here, for certain), "moving" (on one of the two, or both), "moved"
        self.i = 0

    def run(self):
        try:
            with self.source.connect(timeout=30) as conn:
                while True:
                    self.i += 1
                    key = "m%d:%d" % (self.n, self.i)
                    conn.ok("SET", key, self.i)
                    self.state[key] = "set"
                    if self.i % 5 == 0:
                        continue
                    self.state[key] = "moving"
                    if conn(*args(self.target, key, "REPLACE", timeout=20000)) == "OK":
                        self.state[key] = "moved"
        except (OSError, EOFError, ValueError, ReplyError, AssertionError):
            pass  # the server was killed

    def check(self, a, b):
        asked = [("EXISTS", key) for key in self.state]
        for (key, state), here, there in zip(self.state.items(), a.pipeline(asked), b.pipeline(asked)):
            assert here or there, (key, state)
            if state == "set":
                assert here, key
            if state == "moved":
                assert there and not here, key


@pytest.mark.parametrize("victim", ["source", "target"])
def test_a_crash_in_the_middle_loses_no_key(start, env, victim):
    source, target = start("kettle", **ALWAYS), start("kettle", **ALWAYS)
    dying = source if victim == "source" else target
    rng = random.Random(7)
    for _ in range(ROUNDS):
        with source.connect() as a, target.connect() as b:
            a.ok("FLUSHALL")
            b.ok("FLUSHALL")
        movers = [Mover(source, target, n) for n in range(3)]
        for mover in movers:
            mover.start()
        harness.wait_for(lambda: sum(mover.i for mover in movers) > 20, env.timeout(30), what="migrations")
        time.sleep(rng.random() * 0.3)
        dying.proc.send_signal(signal.SIGKILL)
        dying.proc.wait()
        if victim == "target":  # the source goes on, and says so of each key
            time.sleep(0.05)
            with source.connect() as a:
                a.ok("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        for mover in movers:
            mover.join()
        dying.spawn()
        dying.wait_ready()
        with source.connect() as a, target.connect() as b:
            if victim == "target":
                harness.wait_for(lambda: a.info("clients")["blocked_clients"] == "0", env.timeout(30), what="the end of migrations")
            for mover in movers:
                mover.check(a, b)
