# SPDX-License-Identifier: BSD-3-Clause
"""The append-only file: what is in it, what survives, how it is rewritten, what a broken one does, exchange with redis-server."""
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest

import aof
import crash_aof
import harness
from harness import digest
import replicas
from aof import again, directives, end, folder, manifest, ok, path_of, read, write

ROUNDS = int(os.environ.get("AOF_ROUNDS", "2"))      # of the crash matrix; 200 by hand
CUT_STEP = int(os.environ.get("AOF_CUT_STEP", "331"))  # between truncations of the last 4 KiB; 1 by hand
FLIPS = int(os.environ.get("AOF_FLIPS", "8"))


def small(make_server, **more):
    server = make_server(directives=directives(**more))
    with server.connect() as conn:
        ok(conn, "SET", "a", "1")
        ok(conn, "SET", "b", "2")
    return server


# ---- what is kept ----

@pytest.mark.parametrize("fsync", ["always", "everysec", "no"])
def test_everything_is_there_after_a_restart(make_server, fsync):
    server = make_server(directives=directives(fsync))
    with server.connect() as conn:
        aof.fill(conn, field_times=True)
    before = digest(server)
    again(server)
    assert digest(server) == before
    with server.connect() as conn:
        assert ok(conn, "HPTTL", "timed", "FIELDS", 2, "a", "b")[0] > 0
        assert ok(conn, "TTL", "ttl") > 0
    assert re.search(r"DB loaded from append only file: \d+\.\d{3} seconds", server.log())
    again(server, signal.SIGKILL)
    assert digest(server) == before


def test_log_has_effects_and_absolute_times(make_server):
    server = make_server(directives=directives("always"))
    with server.connect() as conn:
        ok(conn, "SET", "k", "v", "EX", 1000)
        ok(conn, "SADD", "s", "x")
        ok(conn, "SPOP", "s")
        ok(conn, "INCRBYFLOAT", "f", "1.5")
        ok(conn, "EVAL", "redis.call('set','e1','1'); redis.call('set','e2','2')", 0)
        ok(conn, "GET", "k")
        ok(conn, "DEL", "nothing")
    names = [argv[0].upper() for argv in aof.resp_commands(read(path_of(server, "i")))]
    assert names == [b"SELECT", b"SET", b"SADD", b"SREM" if b"SREM" in names else b"DEL", b"SET", b"MULTI", b"SET", b"SET", b"EXEC"]
    argv = aof.resp_commands(read(path_of(server, "i")))[1]
    assert argv[3].upper() == b"PXAT" and int(argv[4]) > time.time() * 1000 + 900000


def test_keys_that_run_out_do_not_come_back(make_server):
    server = make_server(directives=directives("always"))
    with server.connect() as conn:
        ok(conn, "SET", "k", "5", "PX", 1)
        harness.wait_for(lambda: ok(conn, "EXISTS", "k") == 0, what="k to expire")
        ok(conn, "SET", "later", "1", "PX", 300)
        ok(conn, "INCR", "later")
        ok(conn, "HSET", "h", "f", 1, "g", 2)
        ok(conn, "HPEXPIRE", "h", 300, "FIELDS", 1, "f")
    end(server, signal.SIGKILL)
    time.sleep(0.4)
    server.start()
    with server.connect() as conn:
        assert ok(conn, "EXISTS", "k", "later") == 0
        assert ok(conn, "HGETALL", "h") == ["g", "2"]


def test_functions_and_select_are_kept(make_server):
    server = make_server(directives=directives())
    code = "#!lua name=lib\nredis.register_function('f', function(k, a) return redis.call('set', k[1], a[1]) end)"
    with server.connect() as conn:
        ok(conn, "FUNCTION", "LOAD", code)
        ok(conn, "FCALL", "f", 1, "x", "1")
        ok(conn, "SELECT", 5)
        ok(conn, "SET", "five", "5")
    for _ in range(2):
        again(server, signal.SIGKILL)
        with server.connect() as conn:
            assert ok(conn, "GET", "x") == "1"
            assert ok(conn, "FCALL", "f", 1, "x", "1") == "OK"
            ok(conn, "SELECT", 5)
            assert ok(conn, "GET", "five") == "5"
        aof.rewrite(server)


def test_shutdown_writes_everything(make_server):
    server = make_server(directives=directives("everysec"))
    with server.connect() as conn:
        conn.pipeline([("SET", "k%d" % i, "v") for i in range(5000)])
    again(server)
    assert "Calling fsync() on the AOF file." in server.log()
    with server.connect() as conn:
        assert ok(conn, "DBSIZE") == 5000


def test_debug_loadaof(make_server):
    server = make_server(directives=directives())
    with server.connect() as conn:
        aof.fill(conn)
        before = ok(conn, "DEBUG", "DIGEST")
        ok(conn, "DEBUG", "LOADAOF")
        assert ok(conn, "DEBUG", "DIGEST") == before
        ok(conn, "SET", "after", "1")
        before = ok(conn, "DEBUG", "DIGEST")
    again(server)
    assert digest(server) == before


# ---- rewriting ----

@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_rewrite(make_server, preamble):
    server = make_server(directives=directives(aof_use_rdb_preamble=preamble))
    with server.connect() as conn:
        aof.fill(conn, field_times=True)
        before = ok(conn, "DEBUG", "DIGEST")
        assert ok(conn, "BGREWRITEAOF") == "Background append only file rewriting started"
        aof.wait_rewritten(server)
        assert manifest(server) == [("appendonly.aof.2.base." + ("rdb" if preamble == "yes" else "aof"), "b"),
                                    ("appendonly.aof.2.incr.aof", "i")]
        assert sorted(os.listdir(folder(server))) == sorted([n for n, _ in manifest(server)] + ["appendonly.aof.manifest"])
        assert aof.leftovers(server) == []
        assert read(path_of(server, "b")).startswith(b"REDIS" if preamble == "yes" else b"*")
        fields = conn.info("persistence")
        assert fields["aof_last_bgrewrite_status"] == "ok" and fields["aof_rewrites"] == "1"
        assert int(fields["aof_base_size"]) == os.path.getsize(path_of(server, "b"))
        ok(conn, "SET", "after", "1")
        ok(conn, "DEL", "after")
    assert "Background AOF rewrite finished successfully" in server.log()
    again(server, signal.SIGKILL)
    assert digest(server) == before
    with server.connect() as conn:
        assert ok(conn, "HPTTL", "timed", "FIELDS", 2, "a", "b")[0] > 0
        groups = ok(conn, "XINFO", "GROUPS", "stream")
        assert len(groups) == 2
        assert [e[1] for e in ok(conn, "XPENDING", "stream", "g", "-", "+", 100)] == ["alice"] * 6 + ["bob"] * 3
        assert ok(conn, "XLEN", "emptied") == 0


def test_rewrite_under_load_loses_nothing(make_server):
    server = make_server(directives=directives("everysec"))
    stop, counts = threading.Event(), {}

    def writer(i):
        with server.connect() as conn:
            n = 0
            while not stop.is_set():
                n += 10
                conn.pipeline([("RPUSH", "list:%d" % i, n - 9 + k) for k in range(10)])
            counts[i] = n

    threads = [threading.Thread(target=writer, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for _ in range(3):
        aof.rewrite(server)
    stop.set()
    for t in threads:
        t.join()
    before = digest(server)
    again(server, signal.SIGKILL)
    assert digest(server) == before
    with server.connect() as conn:
        assert {i: ok(conn, "LLEN", "list:%d" % i) for i in range(4)} == counts


def test_rewrite_by_growth(make_server):
    server = make_server(directives=directives(auto_aof_rewrite_min_size="10kb", auto_aof_rewrite_percentage="100"))
    with server.connect() as conn:
        for _ in range(20):
            conn.pipeline([("SET", "k", "x" * 100)] * 100)
    aof.wait_rewritten(server)
    assert re.search(r"Starting automatic rewriting of AOF on \d+% growth", server.log())
    assert os.path.getsize(path_of(server, "b")) < 1000


def test_bgrewriteaof_in_multi_is_scheduled_and_works_without_appendonly(make_server):
    server = make_server()
    with server.connect() as conn:
        ok(conn, "SET", "k", "v")
        ok(conn, "MULTI")
        ok(conn, "BGREWRITEAOF")
        assert ok(conn, "EXEC") == ["Background append only file rewriting scheduled"]
    aof.wait_rewritten(server)
    assert [kind for _, kind in manifest(server)] == ["b"]


def test_rewrite_that_fails_changes_nothing(make_server):
    server = small(make_server)
    blocker = os.path.join(folder(server), "appendonly.aof.2.base.rdb")
    os.mkdir(blocker)
    write(os.path.join(blocker, "x"), b"")
    with server.connect() as conn:
        ok(conn, "BGREWRITEAOF")
        harness.wait_for(lambda: conn.info("persistence")["aof_last_bgrewrite_status"] == "err", what="the failure")
        ok(conn, "SET", "c", "3")
    assert "Error trying to rename the temporary AOF base file" in server.log()
    before = digest(server)
    again(server, signal.SIGKILL)
    assert digest(server) == before
    assert aof.leftovers(server) == []


def test_child_that_is_killed_is_a_failure(make_server):
    server = make_server(directives=directives(rdb_key_save_delay="100000"))
    with server.connect() as conn:
        conn.pipeline([("SET", "k%d" % i, "v") for i in range(3000)])
        ok(conn, "BGREWRITEAOF")
        assert conn.err("BGREWRITEAOF") == "ERR Background append only file rewriting already in progress"
        child = int(re.search(r"Background append only file rewriting started by pid (\d+)", server.log()).group(1))
        os.kill(child, signal.SIGKILL)
        harness.wait_for(lambda: conn.info("persistence")["aof_rewrite_in_progress"] == "0", what="the end of the rewrite")
        assert conn.info("persistence")["aof_last_bgrewrite_status"] == "err"
        ok(conn, "SET", "more", "1")
        before = ok(conn, "DEBUG", "DIGEST")
    assert "Background AOF rewrite terminated by signal 9" in server.log()
    again(server)
    assert digest(server) == before
    assert aof.leftovers(server) == []


def test_figures_of_a_rewrite_that_runs(make_server):
    """Whatever the base is made of."""
    for preamble in ("yes", "no"):
        server = make_server(directives=directives(aof_use_rdb_preamble=preamble))
        with server.connect() as conn:
            ok(conn, "DEBUG", "POPULATE", 100)
            ok(conn, "CONFIG", "SET", "rdb-key-save-delay", 30000)
            ok(conn, "BGREWRITEAOF")
            harness.wait_for(lambda: int(conn.info("persistence")["current_save_keys_processed"]) > 10, server.env.timeout(20), what="keys")
            info = conn.info("persistence")
            assert info["current_save_keys_total"] == "100"
            assert 0 < float(info["current_fork_perc"]) < 100 and int(info["current_cow_size"]) > 0, (preamble, info)
            aof.wait_rewritten(server)
        assert re.search(r":C .* Fork CoW for AOF rewrite: current \d+ MB, peak \d+ MB, average \d+ MB", server.log())
        harness.wait_for(lambda: "current_fork_perc:0.00" in ok(server.connect(), "INFO", "persistence"), what="figures to be gone")


def test_history_is_kept_as_configured(make_server):
    server = make_server(directives=directives(aof_disable_auto_gc="yes"))
    with server.connect() as conn:
        ok(conn, "SET", "a", "1")
        aof.rewrite(server)
        ok(conn, "SET", "b", "2")
        aof.rewrite(server)
        kept = sorted(name for name, kind in manifest(server) if kind == "h")
        assert kept == ["appendonly.aof.%d.%s" % (n, kind) for n in (1, 2) for kind in ("base.rdb", "incr.aof")]
        assert set(kept) < set(os.listdir(folder(server)))
        before = ok(conn, "DEBUG", "DIGEST")
    again(server, signal.SIGKILL)
    assert digest(server) == before
    with server.connect() as conn:
        assert set(kept) < set(os.listdir(folder(server)))
        ok(conn, "CONFIG", "SET", "aof-disable-auto-gc", "no")
        harness.wait_for(lambda: [kind for _, kind in manifest(server)] == ["b", "i"], server.env.timeout(20), what="history to go")
        assert not set(kept) & set(os.listdir(folder(server)))
    again(server)
    assert digest(server) == before


# ---- at run time ----

def test_appendonly_is_turned_on_and_off(make_server):
    server = make_server()
    with server.connect() as conn:
        aof.fill(conn)
        ok(conn, "CONFIG", "SET", "appendonly", "yes")
        ok(conn, "SET", "while", "1")
        harness.wait_for(lambda: conn.info("persistence")["aof_rewrites"] == "1", what="the first base")
        ok(conn, "SET", "after", "1")
        before = ok(conn, "DEBUG", "DIGEST")
        end(server, signal.SIGKILL)
    server.directives = directives()
    server.start()
    assert digest(server) == before
    with server.connect() as conn:
        ok(conn, "CONFIG", "SET", "appendonly", "no")
        assert conn.info("persistence")["aof_enabled"] == "0"
        ok(conn, "SET", "not", "kept")
        ok(conn, "MULTI")
        ok(conn, "CONFIG", "SET", "appendonly", "yes")
        ok(conn, "SET", "kept", "1")
        ok(conn, "EXEC")
        harness.wait_for(lambda: conn.info("persistence")["aof_enabled"] == "1", what="appendonly")
        aof.wait_rewritten(server)
        ok(conn, "CONFIG", "SET", "appendonly", "no", "appendfsync", "always")
        ok(conn, "CONFIG", "SET", "appendonly", "yes")
        ok(conn, "SET", "kept2", "1")
        aof.wait_rewritten(server, 2)
        before = ok(conn, "DEBUG", "DIGEST")
    again(server, signal.SIGKILL)
    assert digest(server) == before


def test_appendfsync_changes_under_load(make_server):
    server = make_server(directives=directives())
    stop, counts = threading.Event(), {}

    def writer(i):
        with server.connect() as conn:
            counts[i] = 0
            while not stop.is_set():
                ok(conn, "INCR", "n%d" % i)
                counts[i] += 1

    threads = [threading.Thread(target=writer, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    with server.connect() as conn:
        for fsync in ["always", "no", "always", "everysec", "always"] * 3:
            ok(conn, "CONFIG", "SET", "appendfsync", fsync)
            seen = sum(counts.values())
            harness.wait_for(lambda: sum(counts.values()) > seen + 20, server.env.timeout(20), what="writes to go on")
    stop.set()
    for t in threads:
        t.join()
    again(server, signal.SIGKILL)
    with server.connect() as conn:
        assert {i: int(ok(conn, "GET", "n%d" % i)) for i in range(4)} == counts


# ---- crashes ----

@pytest.mark.parametrize("fsync", ["always", "everysec"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_crashes_lose_nothing_acknowledged(make_server, fsync, threads):
    server = make_server(directives=directives(fsync, io_threads=threads))
    crash_aof.rounds(server, ROUNDS, fsync, seed=1)


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_crashes_around_rewrites(make_server, preamble):
    server = make_server(directives=directives("always", aof_use_rdb_preamble=preamble))
    crash_aof.rounds(server, ROUNDS, "always", seed=2, rewrites=True)


# ---- broken files ----

def test_cut_at_every_place_of_the_end(make_server):
    server = make_server(directives=directives())
    with server.connect() as conn:
        for i in range(60):
            ok(conn, "SET", "k%d" % i, "v" * i)
            ok(conn, "EVAL", "redis.call('rpush','l',ARGV[1]) redis.call('incr','n')", 0, i)
    end(server)
    path = path_of(server, "i")
    whole = read(path)
    for cut in range(max(0, len(whole) - 4096), len(whole), CUT_STEP):
        write(path, whole[:cut])
        server.start()
        with server.connect() as conn:
            n = int(ok(conn, "GET", "n") or 0)
            assert ok(conn, "LLEN", "l") == n  # a transaction is there as a whole or not at all
            assert ok(conn, "EXISTS", *["k%d" % i for i in range(n)] or ["none"]) == n
        end(server)
        kept = read(path)
        assert whole.startswith(kept) and len(kept) <= cut
        assert aof.resp_commands(kept) == aof.resp_commands(whole)[:len(aof.resp_commands(kept))]


def test_flipped_bits_never_crash(make_server):
    server = make_server(directives=directives(aof_use_rdb_preamble="no"))
    with server.connect() as conn:
        aof.fill(conn)
    end(server)
    path, rng = path_of(server, "i"), random.Random(7)
    whole = read(path)
    refused = 0
    for _ in range(FLIPS):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 3])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        write(path, bytes(data))
        server.start(wait=False)
        harness.wait_for(lambda: server.proc.poll() is not None or "Ready to accept" in server.log(), server.env.timeout(30))
        if server.proc.poll() is None:
            server.wait_ready()
            end(server)
            assert server.proc.returncode == 0
        else:
            refused += 1
            assert server.proc.returncode == 1, server.log()[-2000:]
            assert re.search("Bad file format|Unexpected end of file|Unknown command", server.log())
        os.unlink(server.log_path)
    write(path, whole)
    server.start()


def test_errors_while_loading_are_told(make_server):
    server = small(make_server)
    end(server)
    path = path_of(server, "i")
    write(path, read(path) + b"*2\r\n$3\r\nSET\r\n$1\r\nx\r\n" + b"*3\r\n$5\r\nRPUSH\r\n$1\r\na\r\n$1\r\n1\r\n"
          + b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n" + b"*3\r\n$3\r\nSET\r\n$1\r\nc\r\n$1\r\n3\r\n")
    server.start()
    log = server.log()
    said = "== CRITICAL == This server is sending an error to its AOF-loading-client: '%s' after processing the command '%s'"
    assert said % ("ERR wrong number of arguments for 'set' command", "set") in log
    assert said % ("WRONGTYPE Operation against a key holding the wrong kind of value", "rpush") in log
    assert log.count("AOF-loading-client") == 2
    assert "The append only file appendonly.aof.1.incr.aof has a command that changes nothing, which is left out: get" in log
    with server.connect() as conn:
        assert conn.info("stats")["unexpected_error_replies"] == "2"
        assert ok(conn, "MGET", "a", "b", "c") == ["1", "2", "3"]
        ok(conn, "CONFIG", "RESETSTAT")
        assert conn.info("stats")["unexpected_error_replies"] == "0"


def test_flipped_bits_outside_of_keys_and_values_are_never_silent(make_server):
    server = make_server(directives=directives())
    with server.connect() as conn:
        ok(conn, "SET", "a", "1")
        ok(conn, "RPUSH", "l", "x", "y")
        ok(conn, "SADD", "s", "m")
    before = digest(server)
    end(server)
    path, rng = path_of(server, "i"), random.Random(11)
    whole = read(path)
    os.unlink(server.log_path)
    places = [at for line in re.finditer(rb"[*$]\d+\r\n|SET\r\n|RPUSH\r\n|SADD\r\n", whole) for at in range(*line.span())]
    for _ in range(FLIPS):
        data = bytearray(whole)
        data[rng.choice(places)] ^= 1 << rng.randrange(8)
        write(path, bytes(data))
        server.start(wait=False)
        harness.wait_for(lambda: server.proc.poll() is not None or "Ready to accept" in server.log(), server.env.timeout(30))
        if server.proc.poll() is None:
            server.wait_ready()
            if digest(server) != before:  # else a letter's case
                assert re.search("== CRITICAL ==|changes nothing, which is left out", server.log()), bytes(data)
            end(server)
        else:
            assert re.search("Bad file format|Unexpected end of file|Unknown command", server.log()), bytes(data)
        os.unlink(server.log_path)
    write(path, whole)
    server.start()


def test_open_transaction_is_dropped(make_server):
    server = small(make_server)
    end(server)
    path = path_of(server, "i")
    size = os.path.getsize(path)
    write(path, read(path) + b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n9\r\n")
    server.start()
    log = server.log()
    assert "Revert incomplete MULTI/EXEC transaction from AOF file appendonly.aof.1.incr.aof" in log
    assert "!!! Truncating the AOF appendonly.aof.1.incr.aof at offset %d !!!" % size in log
    assert os.path.getsize(path) == size
    with server.connect() as conn:
        assert ok(conn, "GET", "a") == "1"
        ok(conn, "SET", "c", "3")
    again(server)
    with server.connect() as conn:
        assert ok(conn, "MGET", "a", "b", "c") == ["1", "2", "3"]


def test_files_that_stop_the_start(make_server):
    server = small(make_server)
    end(server)
    path = path_of(server, "i")
    whole = read(path)
    write(path, whole[:-3])
    server.directives["aof-load-truncated"] = "no"
    assert "Unexpected end of file reading the append only file appendonly.aof.1.incr.aof" in aof.fails_to_start(server)
    assert read(path) == whole[:-3]
    server.directives["aof-load-truncated"] = "yes"
    write(path, whole[:30] + b"!" + whole[31:])
    assert "Bad file format reading the append only file appendonly.aof.1.incr.aof" in aof.fails_to_start(server)
    write(path, whole + b"*2\r\n$7\r\nNONSUCH\r\n$1\r\na\r\n")
    assert 'Unknown command "NONSUCH" reading the append only file' in aof.fails_to_start(server)
    write(path, whole)
    base = path_of(server, "b")
    rdb = read(base)
    write(base, rdb[:-12])
    assert "Error reading the RDB base file appendonly.aof.1.base.rdb, AOF loading aborted" in aof.fails_to_start(server)
    os.unlink(base)
    assert "appendonly.aof.1.base.rdb" in aof.fails_to_start(server)
    write(base, rdb)
    text = read(aof.manifest_path(server))
    for bad, why in ((b"", "Found an empty AOF manifest"), (b"file x seq 1\n", "Invalid AOF manifest file format"),
                     (b"file ../x seq 1 type i\n", "File can't be a path, just a filename"), (text + text, "Found duplicate base")):
        write(aof.manifest_path(server), bad)
        log = aof.fails_to_start(server)
        assert "FATAL AOF MANIFEST FILE ERROR" in log and why in log
    write(aof.manifest_path(server), text)
    server.start()


def test_only_the_last_file_may_be_cut(make_server):
    server = small(make_server)
    end(server)
    first = path_of(server, "i")
    write(os.path.join(folder(server), "appendonly.aof.2.incr.aof"), b"*3\r\n$3\r\nSET\r\n$1\r\nc\r\n$1\r\n3\r\n")
    write(aof.manifest_path(server), read(aof.manifest_path(server)) + b"file appendonly.aof.2.incr.aof seq 2 type i\n")
    whole = read(first)
    write(first, whole[:-3])
    assert "Fatal error: the truncated file is not the last file" in aof.fails_to_start(server)
    assert read(first) == whole[:-3]
    write(first, whole)
    server.start()
    with server.connect() as conn:
        assert ok(conn, "MGET", "a", "b", "c") == ["1", "2", "3"]
        ok(conn, "SET", "d", "4")
    assert b"\r\nd\r\n" in read(os.path.join(folder(server), "appendonly.aof.2.incr.aof"))


def test_commands_that_change_nothing_are_not_run(make_server):
    server = small(make_server)
    end(server)
    path = path_of(server, "i")
    extra = [["SUBSCRIBE", "x"], ["CLIENT", "KILL", "ID", "1"], ["SHUTDOWN"], ["DEBUG", "SEGFAULT"], ["CONFIG", "SET", "maxmemory", "1"],
             ["BLPOP", "nolist", "0"], ["MONITOR"], ["WAIT", "1", "0"], ["QUIT"], ["HELLO", "3"], ["PUBLISH", "a", "b"]]
    write(path, read(path) + b"".join(b"*%d\r\n" % len(a) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in a) for a in extra))
    server.start()
    with server.connect() as conn:
        assert ok(conn, "MGET", "a", "b") == ["1", "2"]
        assert ok(conn, "CONFIG", "GET", "maxmemory")[1] == "0"


@pytest.mark.parametrize("old", ["resp", "rdb"])
def test_old_style_file_is_taken_over(make_server, old):
    server = make_server(directives=directives(aof_use_rdb_preamble="yes" if old == "rdb" else "no"))
    with server.connect() as conn:
        ok(conn, "SET", "a", "1")
        aof.rewrite(server)
        ok(conn, "SET", "b", "2")
    end(server)
    text = read(path_of(server, "b")) + read(path_of(server, "i"))
    shutil.rmtree(folder(server))
    write(os.path.join(server.dir, "appendonly.aof"), text)
    server.start()
    with server.connect() as conn:
        assert ok(conn, "MGET", "a", "b") == ["1", "2"]
        ok(conn, "SET", "c", "3")
    assert "Successfully migrated an old-style AOF configuration (appendonly.aof) into the AOF directory (appendonlydir)." in server.log()
    assert not os.path.exists(os.path.join(server.dir, "appendonly.aof"))
    assert manifest(server) == [("appendonly.aof", "b"), ("appendonly.aof.1.incr.aof", "i")]
    # A crash between the manifest and the move.
    end(server)
    os.unlink(path_of(server, "i"))
    write(aof.manifest_path(server), b"file appendonly.aof seq 1 type b\n")
    os.rename(os.path.join(folder(server), "appendonly.aof"), os.path.join(server.dir, "appendonly.aof"))
    server.start()
    with server.connect() as conn:
        assert ok(conn, "MGET", "a", "b") == ["1", "2"]
    aof.rewrite(server)
    assert manifest(server) == [("appendonly.aof.2.base." + ("rdb" if old == "rdb" else "aof"), "b"), ("appendonly.aof.2.incr.aof", "i")]


def test_names_of_files(make_server):
    server = make_server(directives=directives(appendfilename="my log.aof", appenddirname="some dir"))
    with server.connect() as conn:
        ok(conn, "SET", "a", "1")
        aof.rewrite(server)
        ok(conn, "SET", "b", "2")
    names = sorted(os.listdir(os.path.join(server.dir, "some dir")))
    assert names == ["my log.aof.2.base.rdb", "my log.aof.2.incr.aof", "my log.aof.manifest"]
    assert b'file "my log.aof.2.incr.aof" seq 2 type i\n' in read(os.path.join(server.dir, "some dir", "my log.aof.manifest"))
    again(server, signal.SIGKILL)
    with server.connect() as conn:
        assert ok(conn, "MGET", "a", "b") == ["1", "2"]
    end(server)
    for name, why in (("appendfilename", "appendfilename can't be a path, just a filename"),
                      ("appenddirname", "appenddirname can't be a path, just a dirname")):
        kept = dict(server.directives)
        server.directives[name] = "../x"
        server.start(wait=False)
        assert server.wait_exit(20) == 1
        assert why in server.log()
        server.directives = kept
    server.start()


# ---- disks ----

class Faults:
    """Faults of tests/support/io-fail.c in the append-only directory."""

    def __init__(self, make_server, env, fsync, match="appendonlydir", **more):
        library = env.tool("peers/io-fail.so")
        if not library or env.sanitizer:
            pytest.skip("build/peers/io-fail.so is missing (make peers)" if not library else "a sanitizer wants to be loaded first")
        self.control = None
        os.environ.update({"LD_PRELOAD": library, "IOFAIL_MATCH": match})
        try:
            self.path = "/tmp/kettle-iofail-%d-%d" % (os.getpid(), random.randrange(1 << 30))
            os.environ["IOFAIL_CONTROL"] = self.path
            self.server = make_server(directives=directives(fsync, **more))
        finally:
            for name in ("LD_PRELOAD", "IOFAIL_MATCH", "IOFAIL_CONTROL"):
                os.environ.pop(name, None)

    def tell(self, *lines):
        write(self.path + ".new", "".join(line + "\n" for line in lines).encode())
        os.rename(self.path + ".new", self.path)

    def heal(self):
        if os.path.exists(self.path):
            os.unlink(self.path)


@pytest.fixture
def faults(make_server, env):
    made = []

    def make(fsync, **more):
        made.append(Faults(make_server, env, fsync, **more))
        return made[-1]

    yield make
    for f in made:
        f.heal()


@pytest.mark.parametrize("match, what, moment", [
    ("appendonly.aof.manifest", "open %d" % errno.EACCES, "begin"),
    ("appendonly.aof.manifest", "write %d 0" % errno.ENOSPC, "begin"),
    ("appendonly.aof.manifest", "fsync %d" % errno.EIO, "begin"),
    ("appendonly.aof.manifest", "rename %d" % errno.EIO, "begin"),
    (".incr.aof", "open %d" % errno.EACCES, "begin"),
    (".base.", "rename %d" % errno.EIO, "end"),
    ("appendonly.aof.manifest", "open %d" % errno.EACCES, "end"),
    ("appendonly.aof.manifest", "write %d 10" % errno.ENOSPC, "end"),
    ("appendonly.aof.manifest", "fsync %d" % errno.EIO, "end"),
    ("appendonly.aof.manifest", "rename %d" % errno.EIO, "end")])
def test_a_switch_of_the_manifest_that_fails(faults, match, what, moment):
    """Whatever of a rewrite cannot be done, the files that there are load with all that was acknowledged."""
    f = faults("always", match=match, auto_aof_rewrite_percentage="0")
    server = f.server
    with server.connect() as conn:
        conn.pipeline([("SET", "k%d" % i, i) for i in range(20)])
        if moment == "end":
            ok(conn, "CONFIG", "SET", "rdb-key-save-delay", 20000)
        else:
            f.tell(what)
        reply = conn("BGREWRITEAOF")
        if moment == "end":
            assert not str(reply).startswith("ERR")
            f.tell(what)
            ok(conn, "SET", "meanwhile", "1")
            harness.wait_for(lambda: conn.info("persistence")["aof_rewrite_in_progress"] == "0", server.env.timeout(30), what="its end")
            assert conn.info("persistence")["aof_last_bgrewrite_status"] == "err"
            ok(conn, "CONFIG", "SET", "rdb-key-save-delay", 0)
        else:
            assert str(reply).startswith("ERR Can't execute an AOF background rewriting"), reply
        ok(conn, "SET", "after", "1")
        before = ok(conn, "DEBUG", "DIGEST")
    end(server, signal.SIGKILL)
    f.heal()
    server.start()
    assert digest(server) == before
    aof.rewrite(server)
    assert sorted(os.listdir(folder(server))) == sorted(["appendonly.aof.manifest"] + [name for name, _ in manifest(server)])
    assert not aof.leftovers(server)
    again(server, signal.SIGKILL)
    assert digest(server) == before


@pytest.mark.parametrize("fsync, spared", [("everysec", "yes"), ("everysec", "no"), ("always", "yes")])
def test_no_appendfsync_on_rewrite(faults, fsync, spared):
    f = faults(fsync, no_appendfsync_on_rewrite=spared)
    server = f.server
    with server.connect() as conn:
        conn.pipeline([("SET", "k%d" % i, i) for i in range(200)])
        ok(conn, "CONFIG", "SET", "rdb-key-save-delay", 20000)
        ok(conn, "BGSAVE")
        f.tell("fsync %d" % errno.EIO)
        ok(conn, "SET", "meanwhile", "1")  # with always it does not wait for an fsync
        time.sleep(2.5)
        assert conn.info("persistence")["rdb_bgsave_in_progress"] == "1"
        assert ("Fail to fsync the AOF file" in server.log()) == (spared == "no")
        f.heal()
        harness.wait_for(lambda: conn("SET", "more", "1") == "OK", server.env.timeout(20), what="recovery")
        harness.wait_for(lambda: conn.info("persistence")["rdb_bgsave_in_progress"] == "0", server.env.timeout(30), what="the child's end")
        before = ok(conn, "DEBUG", "DIGEST")
    again(server, signal.SIGKILL)
    assert digest(server) == before


def test_one_fsync_is_for_many_clients(faults):
    f = faults("always")
    f.tell("delay 500")
    server, took = f.server, []
    conns = [server.connect(timeout=60) for _ in range(30)]
    start = time.monotonic()
    for i, conn in enumerate(conns):
        conn.send(b"SET k%d v\r\n" % i)
    assert conns[0].read().py == "OK"
    took.append(time.monotonic() - start)
    for conn in conns[1:]:
        assert conn.read().py == "OK"
    took.append(time.monotonic() - start)
    assert took[0] >= 0.5, "a reply came before its fsync"
    assert took[1] < 30 * 0.5 / 2, "each client waited for an fsync of its own"
    for conn in conns:
        conn.close()
    end(server, signal.SIGKILL)
    f.heal()
    server.start()
    with server.connect() as conn:
        assert ok(conn, "DBSIZE") == 30


def test_pipelines_and_blocked_clients_wait_for_the_fsync(faults):
    f = faults("always")
    server = f.server
    with server.connect(timeout=60) as waiting, server.connect(timeout=60) as pushing:
        waiting.send(b"BLPOP jobs 0\r\n")
        harness.wait_for(lambda: aof.info(server, "clients")["blocked_clients"] == "1", what="the client to block")
        f.tell("delay 300")
        start = time.monotonic()
        pushing.send(b"RPUSH jobs x\r\n" + b"INCR n\r\n" * 100)
        assert waiting.read().py == [b"jobs", b"x"]
        assert time.monotonic() - start >= 0.3
        for i in range(101):
            assert pushing.read().py == max(i, 1)
        assert time.monotonic() - start >= 0.3


def test_steady_pipelines_hear_something(faults):
    """A client whose requests never pause is told of those that are on the disk."""
    f = faults("always")
    f.tell("delay 100")
    with f.server.connect(timeout=60) as conn:
        ok(conn, "SET", "n", 0)
        stop = threading.Event()

        def send():
            while not stop.wait(0.002):
                conn.send(b"INCR n\r\n")

        sender = threading.Thread(target=send)
        sender.start()
        try:
            assert conn.read().py == 1
        finally:
            stop.set()
            sender.join()


def test_everysec_does_not_wait_for_the_disk(faults):
    f = faults("everysec")
    server = f.server
    f.tell("delay 4000")
    with server.connect(timeout=60) as conn:
        end_at, worst = time.monotonic() + 7, 0
        n = 0
        while time.monotonic() < end_at:
            start = time.monotonic()
            ok(conn, "INCR", "n")
            n += 1
            worst = max(worst, time.monotonic() - start)
            time.sleep(0.005)
        assert worst < 3
        assert int(conn.info("persistence")["aof_delayed_fsync"]) >= 1
        ok(conn, "CONFIG", "RESETSTAT")
        assert int(conn.info("persistence")["aof_delayed_fsync"]) == 0
    assert "Asynchronous AOF fsync is taking too long (disk is busy?)" in server.log()
    f.heal()
    again(server)
    with server.connect() as conn:
        assert int(ok(conn, "GET", "n")) == n


@pytest.mark.parametrize("partial", [0, 10])
def test_write_errors_refuse_writes_until_they_are_gone(faults, partial):
    f = faults("everysec")
    server = f.server
    with server.connect() as conn:
        ok(conn, "SET", "before", "1")
        size = os.path.getsize(path_of(server, "i"))
        f.tell("write %d %d" % (errno.ENOSPC, partial) if not partial else "write %d %d" % (errno.ENOSPC, partial))
        conn("SET", "first", "1")
        if partial:
            f.tell("write %d 0" % errno.ENOSPC)
        harness.wait_for(lambda: conn.info("persistence")["aof_last_write_status"] == "err", what="the error")
        assert conn.err("SET", "refused", "1") == "MISCONF Errors writing to the AOF file: No space left on device"
        assert conn.err("PING").startswith("MISCONF")
        assert ok(conn, "GET", "before") == "1"
        assert os.path.getsize(path_of(server, "i")) == size or partial
        f.heal()
        harness.wait_for(lambda: conn.info("persistence")["aof_last_write_status"] == "ok", what="recovery")
        ok(conn, "SET", "after", "1")
    assert "AOF write error looks solved. The server can write again." in server.log()
    again(server)
    with server.connect() as conn:
        assert ok(conn, "MGET", "before", "first", "after", "refused") == ["1", "1", "1", None]


def test_fsync_errors_refuse_writes(faults):
    f = faults("everysec")
    server = f.server
    with server.connect() as conn:
        f.tell("fsync %d" % errno.EIO)
        conn("SET", "a", "1")
        harness.wait_for(lambda: conn("SET", "b", "1") != "OK", server.env.timeout(20), step=0.1, what="MISCONF")
        assert conn.err("SET", "b", "1") == "MISCONF Errors writing to the AOF file: Input/output error"
        f.heal()
        harness.wait_for(lambda: conn("SET", "b", "1") == "OK", server.env.timeout(20), what="recovery")
    assert "Fail to fsync the AOF file: Input/output error" in server.log()


@pytest.mark.parametrize("what,text", [("write", "Can't recover from AOF write error when the AOF fsync policy is 'always'. Exiting..."),
                                       ("fsync", "Can't persist AOF for fsync error when the AOF fsync policy is 'always': "
                                                 "Input/output error. Exiting...")])
def test_always_ends_the_process_on_errors(faults, what, text):
    f = faults("always")
    server = f.server
    with server.connect() as conn:
        ok(conn, "SET", "a", "1")
        f.tell("%s %d" % (what, errno.EIO))
        conn.send(b"SET b 1\r\n")
        assert server.wait_exit(30) == 1
        with pytest.raises((EOFError, OSError)):
            conn.read()
    assert text in server.log()
    f.heal()
    server.start()
    with server.connect() as conn:
        assert ok(conn, "GET", "a") == "1"


def test_disk_full(make_server, tmp_path):
    mount = str(tmp_path / "small")
    os.mkdir(mount)
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if made.returncode:
        pytest.skip("mount of a small tmpfs is not permitted here: " + made.stdout.decode().strip())
    try:
        server = make_server(directives=dict(directives("everysec", auto_aof_rewrite_percentage="0"), dir=mount))
        path = os.path.join(mount, "appendonlydir", "appendonly.aof.1.incr.aof")
        with server.connect() as conn:
            n = 0
            while conn("SET", "k%d" % n, "x" * 10000) == "OK":
                n += 1
                assert n < 500
            assert conn.err("SET", "k", "v") == "MISCONF Errors writing to the AOF file: No space left on device"
            kept = read(path)
            aof.resp_commands(kept)  # nothing of a command that did not fit stays
            assert kept.endswith(b"\r\n")
            subprocess.run(["mount", "-o", "remount,size=8m", mount], check=True)
            harness.wait_for(lambda: conn("SET", "k", "v") == "OK", server.env.timeout(20), what="recovery")
            before = ok(conn, "DEBUG", "DIGEST")
        again(server, signal.SIGKILL)
        assert digest(server) == before
        end(server)
    finally:
        subprocess.run(["umount", "-l", mount])


# ---- annotations, and the tool ----

def tool(env, *args, stdin=""):
    path = env.tool("kettle-check-aof")
    assert path, "kettle-check-aof is not built"
    out = subprocess.run([path] + list(args), input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
    return out.returncode, out.stdout.decode()


@pytest.mark.parametrize("name", ["kettle-check-aof", "kettle-check-rdb"])
def test_version_of_the_tools(make_server, env, name):
    with make_server().connect() as conn:
        version = conn.info("server")["kettle_version"]
    for option in ("-v", "--version"):
        out = subprocess.run([env.tool(name), option], stdout=subprocess.PIPE, timeout=60)
        assert (out.returncode, out.stdout.decode()) == (0, "%s %s\n" % (name, version))


def test_timestamps_and_going_back_to_one(make_server, env):
    server = make_server(directives=directives(aof_timestamp_enabled="yes", aof_use_rdb_preamble="no"))
    with server.connect() as conn:
        stamps = []
        for i in range(3):
            ok(conn, "EVAL", "redis.call('set','n',ARGV[1]) redis.call('set','m',ARGV[1])", 0, i)
            stamps.append(int(time.time()))
            time.sleep(2.1)
    end(server)
    text = read(path_of(server, "i"))
    assert len(re.findall(rb"#TS:\d+\r\n", text)) == 3
    assert text.startswith(b"#TS:")
    for part in re.split(rb"#TS:\d+\r\n", text):  # never inside of a transaction
        assert part.count(b"MULTI") == part.count(b"EXEC")
    server.start()
    with server.connect() as conn:
        assert ok(conn, "MGET", "n", "m") == ["2", "2"]
    end(server)
    status, out = tool(env, "--truncate-to-timestamp", str(stamps[1] + 1), aof.manifest_path(server))
    assert status == 0 and "Successfully truncated AOF appendonly.aof.1.incr.aof to timestamp %d" % (stamps[1] + 1) in out
    server.start()
    with server.connect() as conn:
        assert ok(conn, "MGET", "n", "m") == ["1", "1"]


def test_check_tool_says_what_redis_says(make_server, env, tmp_path):
    server = make_server(directives=directives(aof_use_rdb_preamble="no"))
    with server.connect() as conn:
        ok(conn, "SET", "a", "1")
        aof.rewrite(server)
        ok(conn, "EVAL", "redis.call('set','x',1) redis.call('set','y',1)", 0)
    end(server)
    theirs = shutil.which("redis-check-aof")

    def both(data, *args):
        """What the two say of a file in place of the increment, and what they leave of it."""
        said = []
        for path in [env.tool("kettle-check-aof"), theirs]:
            if path is None:
                continue
            work = str(tmp_path / "work")
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(folder(server), work)
            victim = os.path.join(work, os.path.basename(path_of(server, "i")))
            write(victim, data)
            out = subprocess.run([path] + list(args) + [os.path.join(work, "appendonly.aof.manifest")], input=b"y\n",
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
            said.append((out.returncode, out.stdout.decode("utf-8", "replace").replace(path, "X"), read(victim)))
        return said

    good = read(path_of(server, "i"))
    for data in (good, b"", good[:-4], good[:-30], good + b"*1\r\n$4\r\nEXEC\r\n", good + b"*1\r\n$5\r\nMULTI\r\n" * 2, good + b"*2\r\n$3\r\nGET\r\n",
                 good + b"*1\r\n+x\r\n", good + b"*1\r\n$3\r\nGETxx"):
        for args in ((), ("--fix",)):
            said = both(data, *args)
            assert all(s == said[0] for s in said), "\n----\n".join(str(s) for s in said)
    status, out = tool(env)
    assert status == 1 and out.startswith("Usage: ")
    assert tool(env, "/nonexistent")[0] == 1


# ---- exchange ----

@pytest.fixture(params=["redis", "valkey"])
def theirs(request, env):
    program = replicas.program(request.param + "-server")
    if not program:
        pytest.skip("no %s-server to exchange files with" % request.param)
    instance = harness.Server(harness.Env(program, False, env.certs), "tcp", directives=directives(), start=False)
    instance.is70 = request.param == "redis"
    yield instance
    instance.kill()
    instance.cleanup()


def move(source, target):
    end(source)
    shutil.rmtree(folder(target), ignore_errors=True)
    shutil.copytree(folder(source), folder(target))


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_files_of_theirs_load_here(make_server, theirs, preamble):
    theirs.directives["aof-use-rdb-preamble"] = preamble
    theirs.start()
    with theirs.connect() as conn:
        aof.fill(conn)
        ok(conn, "BGREWRITEAOF")
        harness.wait_for(lambda: "Background AOF rewrite finished successfully" in theirs.log(), 30)
        ok(conn, "EVAL", "redis.call('set','x',1) redis.call('incrbyfloat','f','1.5')", 0)
        ok(conn, "XADD", "stream", "*", "late", "1")
        ok(conn, "GETEX", "str:1", "EX", 10000)
        before = ok(conn, "DEBUG", "DIGEST")
    server = make_server(directives=directives())
    move(theirs, server) if end(server) is None else None
    server.start()
    assert digest(server) == before


@pytest.mark.parametrize("preamble", ["yes", "no"])
def test_files_of_ours_load_there(make_server, env, theirs, preamble):
    if theirs.is70 and preamble == "yes":
        pytest.skip("redis-server 7.0 does not read RDB 11")
    server = make_server(directives=directives(aof_use_rdb_preamble=preamble))
    with server.connect() as conn:
        aof.fill(conn)
        aof.rewrite(server)
        ok(conn, "EVAL", "redis.call('set','x',1) redis.call('incrbyfloat','f','1.5')", 0)
        ok(conn, "XADD", "stream", "*", "late", "1")
        ok(conn, "SPOP", "set:700", 3)
        before = ok(conn, "DEBUG", "DIGEST")
    move(server, theirs)
    theirs.start()
    assert digest(theirs) == before
    end(theirs)
    checker = os.path.join(os.path.dirname(theirs.env.server), "redis-check-aof" if theirs.is70 else "valkey-check-aof")
    if os.access(checker, os.X_OK):
        out = subprocess.run([checker, aof.manifest_path(theirs)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert out.returncode == 0 and b"All AOF files and manifest are valid" in out.stdout, out.stdout
    status, out = tool(env, aof.manifest_path(server))
    assert status == 0 and "All AOF files and manifest are valid" in out, out
