# SPDX-License-Identifier: BSD-3-Clause
"""Directives that change what the server does with data: expiry's effort, the locale of SORT, latency's figures and events, and what
a replica or a loader does about errors."""
import errno
import os
import random
import shutil
import subprocess
import time

import pytest

from harness import ROOT, Server, wait_for
from replication import directives, follow, wait_link
from resp import encode
from test_config import refused


# ---- active-expire-effort ----

def turns_to_expire(conn, env, n):
    """How many turns of the cron ended for lack of time while n keys ran out at one moment."""
    conn.ok("CONFIG", "RESETSTAT")
    at = int(time.time() * 1000) + 1500 * env.timeout(1)
    script = "for i = 1, %d do redis.call('SET', 'k' .. i, i, 'PXAT', ARGV[1]) end" % n
    conn("EVAL", script, 0, "%d" % at)
    wait_for(lambda: int(conn.info("stats")["expired_keys"]) == n, env.timeout(60), what="all keys expired")
    return int(conn.info("stats")["expired_time_cap_reached_count"])


def test_more_effort_takes_fewer_turns(make_server, env):
    server = make_server(directives={"io-threads": "1", "hz": "50", "latency-tracking": "no"})  # 2 ms a turn, or 9
    with server.connect(timeout=120) as conn:
        lazy = turns_to_expire(conn, env, 150000)
        conn.ok("CONFIG", "SET", "active-expire-effort", "10")
        eager = turns_to_expire(conn, env, 150000)
        assert eager < lazy, (eager, lazy)
        assert "between 1 and 10" in conn.err("CONFIG", "SET", "active-expire-effort", "11")


# ---- locale-collate ----

WORDS = ["zebra", "Ähre", "apfel", "Birne", "äpfel", "Zoo", "birne"]


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    """A directory of locales with de_DE.UTF-8 in it."""
    path = tmp_path_factory.mktemp("locales")
    if not shutil.which("localedef") or not os.path.exists("/usr/share/i18n/locales/de_DE"):
        pytest.skip("no localedef(1), or no sources of locales")
    subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", str(path / "de_DE.UTF-8")], stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    if not os.path.exists(path / "de_DE.UTF-8" / "LC_COLLATE"):
        pytest.skip("localedef(1) made no locale")
    return str(path)


def texts(reply):
    return [word.decode() for word in reply]


def test_alpha_is_in_the_order_of_the_locale(make_server, german, monkeypatch):
    monkeypatch.setenv("LOCPATH", german)
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("LSAN_OPTIONS", "suppressions=" + os.path.join(ROOT, "tests/support/lsan.supp"))
    server = make_server()
    by_bytes, by_locale = sorted(WORDS, key=str.encode), ["Ähre", "apfel", "äpfel", "birne", "Birne", "zebra", "Zoo"]
    with server.connect() as conn:
        conn.ok("RPUSH", "l", *WORDS)
        for i, word in enumerate(WORDS):
            conn.ok("SET", "w_" + word, word)
        assert texts(conn.ok("SORT", "l", "ALPHA")) == by_bytes
        assert conn.err("CONFIG", "SET", "locale-collate", "xx_YY.nonsense") == \
            "ERR CONFIG SET failed (possibly related to argument 'locale-collate') - Invalid locale name"
        conn.ok("CONFIG", "SET", "locale-collate", "de_DE.UTF-8")
        assert texts(conn.ok("SORT", "l", "ALPHA")) == by_locale
        assert texts(conn.ok("SORT", "l", "ALPHA", "DESC")) == by_locale[::-1]
        assert texts(conn.ok("SORT", "l", "BY", "w_*", "ALPHA", "LIMIT", 1, 3)) == by_locale[1:4]
        assert texts(conn.ok("SORT_RO", "l", "ALPHA")) == by_locale
        conn.ok("SORT", "l", "ALPHA", "STORE", "stored")  # the same on every server
        assert texts(conn.ok("LRANGE", "stored", 0, -1)) == by_bytes
        conn.ok("RPUSH", "nul", b"b\0a", b"a\0b", "", "a")  # texts end at a NUL, equal ones are in the order of their bytes
        assert conn.ok("SORT", "nul", "ALPHA") == [b"", b"a", b"a\0b", b"b\0a"]
        conn.ok("RPUSH", "long", "ö" * 100000, "o" * 100000, "z")
        assert [len(word) for word in conn.ok("SORT", "long", "ALPHA")] == [100000, 200000, 1]
        conn.ok("CONFIG", "SET", "locale-collate", "C")
        assert texts(conn.ok("SORT", "l", "ALPHA")) == by_bytes
        conn.ok("CONFIG", "SET", "locale-collate", "")
        assert texts(conn.ok("SORT", "l", "ALPHA")) == by_bytes
    started = make_server(directives={"locale-collate": "de_DE.UTF-8"})
    with started.connect() as conn:
        conn.ok("RPUSH", "l", *WORDS)
        assert texts(conn.ok("SORT", "l", "ALPHA")) == by_locale


def test_a_locale_that_is_not_there(make_server, env, monkeypatch):
    code, text = refused(env, "tcp", directives={"locale-collate": "xx_YY.nonsense"})
    assert code == 1 and "locale-collate is invalid" in text
    monkeypatch.setenv("LC_ALL", "xx_YY.nonsense")
    assert "The environment names an unknown locale" in make_server().log()


# ---- latency ----

def test_latencies_are_not_kept(make_server):
    server = make_server(directives={"latency-tracking": "no"})
    with server.connect() as conn:
        conn.ok("SET", "a", "1")
        assert conn.ok("LATENCY", "HISTOGRAM") == []
        conn.ok("CONFIG", "SET", "latency-tracking", "yes")
        conn.ok("SET", "a", "1")
        assert conn.ok("LATENCY", "HISTOGRAM", "set")[1][1] == 1
        conn.ok("CONFIG", "SET", "latency-tracking", "no")
        conn.ok("SET", "a", "1")
        assert conn.ok("LATENCY", "HISTOGRAM", "set")[1][1] == 1  # what there was stays, as in redis-server
        assert "cmdstat_set" in conn.info("commandstats") and conn.info("commandstats")["cmdstat_set"].startswith("calls=3,")
        conn.ok("CONFIG", "RESETSTAT")
        assert conn.ok("LATENCY", "HISTOGRAM") == []


def events(conn):
    return {entry[0].decode(): entry[3] for entry in conn.ok("LATENCY", "LATEST")}


def test_serving_a_blocked_client_is_an_event(make_server, env):
    server = make_server(directives={"latency-monitor-threshold": "1"})
    with server.connect() as conn, server.connect() as waiter:
        waiter.send(encode("BLMPOP", "0", "1", "l", "LEFT", "COUNT", "300000"))
        wait_for(lambda: conn.info("clients")["blocked_clients"] == "1", env.timeout(10), what="a blocked client")
        conn("EVAL", "for i = 1, 300 do redis.call('RPUSH', 'l', unpack(KEYS)) end", 1000, *["element"] * 1000)
        assert len(waiter.read().py[1]) == 300000
        wait_for(lambda: "command-unblocking" in events(conn), env.timeout(10), what="the event")


def test_waiting_for_lazyfree_is_an_event(make_server, env):
    """What was evicted is still on its way: nothing else can go."""
    server = make_server(directives={"latency-monitor-threshold": "1", "maxmemory-policy": "allkeys-lru", "io-threads": "1",
                                     "lazyfree-lazy-eviction": "yes", "maxmemory-eviction-tenacity": "90"})
    with server.connect(timeout=120) as conn:
        script = "for i = 1, 400 do local a = {} for k = 1, 1000 do a[k] = i * 1000 + k .. 'x' end redis.call('SADD', 's', unpack(a)) end"
        empty = int(conn.info("memory")["used_memory"])
        conn("EVAL", script, 0)
        assert int(conn.info("memory")["lazyfreed_objects"]) == 0
        conn.ok("CONFIG", "SET", "maxmemory", str(empty + (2 << 20)))
        wait_for(lambda: conn.ok("DBSIZE") == 0, env.timeout(20), what="the key evicted")
        wait_for(lambda: int(conn.info("memory")["lazyfreed_objects"]) == 1, env.timeout(20), what="the key freed")
        wait_for(lambda: "eviction-lazyfree" in events(conn), env.timeout(10), what="the event")


class SlowDisk:
    """A server whose files of a kind are slow as tell(...) says; see tests/support/io-fail.c."""

    def __init__(self, make_server, env, match, **more):
        library = env.tool("peers/io-fail.so")
        if not library or env.sanitizer:
            pytest.skip("build/peers/io-fail.so is missing (make peers)" if not library else "a sanitizer wants to be loaded first")
        self.path = "/tmp/kettle-iofail-%d-%d" % (os.getpid(), random.randrange(1 << 30))
        preload = {"LD_PRELOAD": library, "IOFAIL_MATCH": match, "IOFAIL_CONTROL": self.path}
        os.environ.update(preload)
        try:
            self.server = make_server(directives={"latency-monitor-threshold": "5", "auto-aof-rewrite-percentage": "0", **more})
        finally:
            for name in preload:
                os.environ.pop(name, None)

    def tell(self, *lines):
        with open(self.path + ".new", "w") as handle:
            handle.write("".join(line + "\n" for line in lines))
        os.rename(self.path + ".new", self.path)


@pytest.fixture
def slow_disk(make_server, env):
    made = []

    def make(match, **more):
        made.append(SlowDisk(make_server, env, match, **more))
        return made[-1]

    yield make
    for disk in made:
        if os.path.exists(disk.path):
            os.unlink(disk.path)


def test_writes_of_the_append_only_file_are_events(slow_disk, env):
    disk = slow_disk("appendonlydir", appendonly="yes", appendfsync="everysec")
    with disk.server.connect() as conn:
        disk.tell("slow-write 10")
        conn.ok("SET", "a", "1")
        found = events(conn)
        assert found["aof-write"] >= 10 and found["aof-write-alone"] >= 10 and "aof-write-active-child" not in found
        conn.ok("CONFIG", "SET", "rdb-key-save-delay", "100000")
        fill = b"".join(encode("SET", "k%d" % i, "v") for i in range(50))
        conn.send(fill)
        for _ in range(50):
            conn.read()
        conn.ok("BGSAVE")
        conn.ok("SET", "a", "2")
        assert events(conn)["aof-write-active-child"] >= 10
        disk.tell("slow-write 10", "delay 500")

        def beside_fsync():
            conn.ok("SET", "a", "3")
            return "aof-write-pending-fsync" in events(conn)
        wait_for(beside_fsync, env.timeout(20), what="a write while an fsync runs")
        disk.tell()


def test_renames_and_sizes_of_the_append_only_file_are_events(slow_disk, env):
    disk = slow_disk("appendonlydir", appendonly="yes")
    with disk.server.connect(timeout=60) as conn:
        disk.tell("slow-rename 10", "slow-stat 10")
        conn.ok("SET", "a", "1")
        conn.ok("BGREWRITEAOF")
        wait_for(lambda: conn.info("persistence")["aof_rewrite_in_progress"] == "0", env.timeout(30), what="the rewrite's end")
        wait_for(lambda: {"aof-rename", "aof-fstat"} <= set(events(conn)), env.timeout(10), what="the events")


def test_deleting_a_temporary_file_is_an_event(slow_disk, env):
    disk = slow_disk("/temp-")
    with disk.server.connect(timeout=60) as conn:
        disk.tell("slow-unlink 10", "fsync %d" % errno.EIO)
        conn.ok("SET", "a", "1")
        conn.ok("BGSAVE")
        wait_for(lambda: conn.info("persistence")["rdb_bgsave_in_progress"] == "0", env.timeout(30), what="the child's end")
        wait_for(lambda: "rdb-unlink-temp-file" in events(conn), env.timeout(10), what="the event")
        disk.tell()


# ---- errors of what was done elsewhere ----

def pair(make_server, env, transport, **more):
    """Primary, and a replica that ends with status 1 when it panics."""
    primary = make_server(directives=directives(env, transport))
    replica = make_server(directives=directives(env, transport, use_exit_on_panic="yes", **more), expect_exit=1)
    follow(replica, primary)
    wait_link(replica)
    return primary, replica


def test_a_replica_whose_disk_fails(make_server, env, transport):
    primary, replica = pair(make_server, env, transport, save="3600 100000", dbfilename="there",
                            replica_ignore_disk_write_errors="yes")
    path = os.path.join(replica.dir, "there")
    if os.path.exists(path):
        os.unlink(path)
    os.mkdir(path)  # nothing can be renamed to it
    with primary.connect() as p, replica.connect() as r:
        r.ok("BGSAVE")
        wait_for(lambda: r.info("persistence")["rdb_last_bgsave_status"] == "err", env.timeout(30), what="a BGSAVE that failed")
        p.ok("SET", "a", "1")
        wait_for(lambda: r.ok("GET", "a") == b"1", env.timeout(20), what="the write applied")
        assert "applying a command even though it is unable to write to disk" in replica.log()
        r.ok("CONFIG", "SET", "replica-ignore-disk-write-errors", "no")
        p.ok("SET", "a", "2")
        assert replica.wait_exit(20) == 1 and "Replica was unable to write command to disk." in replica.log()


@pytest.mark.parametrize("behavior,ends", [("ignore", False), ("panic-on-replicas", True), ("panic", True)])
def test_an_error_in_the_stream_of_a_replica(make_server, env, transport, behavior, ends):
    primary, replica = pair(make_server, env, transport, replica_read_only="no", propagation_error_behavior=behavior)
    with primary.connect() as p, replica.connect() as r:
        r.ok("SET", "k", "v")
        p.ok("RPUSH", "k", "x")  # a replica that may be written to has other data, and is meant to
        replica.wait_log("sending an error to its master: 'WRONGTYPE")
        assert r.ok("PING") == "PONG"
        r.ok("CONFIG", "SET", "replica-read-only", "yes")
        p.ok("RPUSH", "k", "y")
        if ends:
            assert replica.wait_exit(20) == 1 and "panicked sending an error to its master" in replica.log()
            return
        p.ok("SET", "other", "1")
        wait_for(lambda: r.ok("GET", "other") == b"1", env.timeout(20), what="the next write")
        replica.expect_exit = 0


@pytest.mark.parametrize("behavior,ends", [("ignore", False), ("panic-on-replicas", False), ("panic", True)])
def test_an_error_in_an_append_only_file(env, transport, kernel_guard, behavior, ends):
    server = Server(env, transport, start=False, directives={"appendonly": "yes", "use-exit-on-panic": "yes",
                                                             "propagation-error-behavior": behavior})
    try:
        with open(os.path.join(server.dir, "appendonly.aof"), "wb") as handle:
            handle.write(encode("SELECT", "0") + encode("SET", "k", "v") + encode("LPUSH", "k", "x") + encode("SET", "b", "1"))
        server.start(wait=not ends)
        if ends:
            assert server.wait_exit() == 1 and "panicked sending an error to its AOF-loading-client" in server.log()
        else:
            with server.connect() as conn:
                assert conn.ok("GET", "b") == b"1"
            server.check_kernel_tls()
        assert "sending an error to its AOF-loading-client: 'WRONGTYPE" in server.log()
    finally:
        server.kill()
        server.cleanup()
