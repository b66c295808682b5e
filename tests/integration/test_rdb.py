# SPDX-License-Identifier: BSD-3-Clause
"""RDB files: SAVE, BGSAVE, save points, the start with a file, DEBUG RELOAD, SHUTDOWN; files to and from redis-server and Valkey."""
import os
import shutil
import signal
import subprocess
import time

import pytest

import harness
import replicas
from harness import wait_for

LIBRARY = "#!lua name=lib\nredis.register_function('answer', function(keys, args) return 42 end)"


def peer_path(name):
    found = replicas.program(name)
    if not found:
        pytest.skip("no %s to exchange files with" % name)
    return found


def dump(server):
    return os.path.join(server.dir, "dump.rdb")


def persistence(conn):
    return conn.info("persistence")


def bgsave(conn):
    """BGSAVE, waited for; its status."""
    conn.ok("BGSAVE")
    wait_for(lambda: persistence(conn)["rdb_bgsave_in_progress"] == "0", conn.server_timeout, what="BGSAVE to end")
    return persistence(conn)["rdb_last_bgsave_status"]


@pytest.fixture
def start(make_server, env):
    """Servers that may end with a file of theirs, and connections to them."""
    def factory(**directives):
        server = make_server(directives=directives)
        conn = server.connect()
        conn.server_timeout = env.timeout(30)
        return server, conn
    return factory


def restart(server, env, wait=True, directives=None, kill=False):
    """The same directory, another process."""
    if kill:
        server.kill()
    else:
        server.proc.send_signal(signal.SIGTERM)
        server.proc.wait(env.timeout(20))
    server.directives.update(directives or {})
    server.start(wait)
    if not wait:
        return None
    conn = server.connect()
    conn.server_timeout = env.timeout(30)
    return conn


def fill(conn):
    """Every type in every encoding, times, databases, functions."""
    conn.ok("SET", "int", 12345)
    conn.ok("SET", "text", "hello")
    conn.ok("SET", "long", "ab" * 5000)
    conn.ok("SET", "binary", bytes(range(256)) * 3)
    conn.ok("SET", "", "of an empty name")
    conn.ok("SET", "t", "v", "PX", 100000000)
    for n in (5, 1000):
        conn.ok("RPUSH", "list:%d" % n, *["e%d" % i if i % 3 else i for i in range(n)])
        conn.ok("SADD", "set:%d" % n, *["m%d" % i for i in range(n)])
        conn.ok("SADD", "intset:%d" % n, *[i * i for i in range(n)])
        conn.ok("HSET", "hash:%d" % n, *[x for i in range(n) for x in ("f%d" % i, "v%d" % i)])
        conn.ok("ZADD", "zset:%d" % n, *[x for i in range(n) for x in (i / 4, "z%d" % i)])
    conn.ok("HSET", "hash:5", "f0", "x" * 200)
    conn.ok("ZADD", "zset:5", "-inf", "low", "+inf", "high")
    conn.ok("RPUSH", "list:large", "y" * 20000, "z")
    for i in range(250):
        conn.ok("XADD", "stream", "%d-1" % (i + 1), "f", "v%d" % i)
    conn.ok("XGROUP", "CREATE", "stream", "g", "0")
    conn.ok("XREADGROUP", "GROUP", "g", "alice", "COUNT", 10, "STREAMS", "stream", ">")
    conn.ok("XDEL", "stream", "3-1")
    conn.ok("PFADD", "hll", *range(100))
    conn.ok("SELECT", 9)
    conn.ok("SET", "elsewhere", 9, "EX", 5000)
    conn.ok("SELECT", 0)
    conn.ok("FUNCTION", "LOAD", "REPLACE", LIBRARY)


def digest(conn):
    return conn.ok("DEBUG", "DIGEST")


# ---- saving and loading ----

@pytest.mark.parametrize("compression", ["yes", "no"])
@pytest.mark.parametrize("threads", ["1", "2"])
def test_save_and_restart_keep_everything(start, env, compression, threads):
    server, conn = start(**{"rdbcompression": compression, "io-threads": threads})
    fill(conn)
    before = digest(conn)
    conn.ok("SAVE")
    assert persistence(conn)["rdb_changes_since_last_save"] == "0"
    conn = restart(server, env)
    assert digest(conn) == before
    assert conn.ok("FCALL", "answer", 0) == 42
    assert conn.ok("DBSIZE") == len(conn.ok("KEYS", "*"))
    ttl = conn.ok("PTTL", "t")
    assert 99000000 < ttl <= 100000000
    assert int(persistence(conn)["rdb_last_load_keys_loaded"]) == conn.ok("DBSIZE") + 1
    assert "DB loaded from disk" in server.log() and "Done loading RDB" in server.log()


def test_bgsave_is_of_its_moment(start, env):
    server, conn = start(**{"rdb-key-save-delay": "2000"})
    conn.ok("DEBUG", "POPULATE", 1000)
    before = digest(conn)
    conn.ok("BGSAVE")
    assert conn.err("BGSAVE") == "ERR Background save already in progress"
    assert conn.err("SAVE") == "ERR Background save already in progress"
    assert conn.err("DEBUG", "RELOAD") == "ERR Background save already in progress"
    conn.pipeline([words for i in range(100) for words in (("SET", "key:%d" % i, "changed"), ("SET", "later:%d" % i, "new"))])
    info = persistence(conn)
    assert info["rdb_bgsave_in_progress"] == "1" and int(info["current_save_keys_total"]) >= 1000
    wait_for(lambda: persistence(conn)["rdb_bgsave_in_progress"] == "0", conn.server_timeout, what="BGSAVE to end")
    info = persistence(conn)
    assert info["rdb_last_bgsave_status"] == "ok" and int(info["rdb_changes_since_last_save"]) == 200
    assert conn.info("stats")["total_forks"] == "1" and int(conn.info("stats")["latest_fork_usec"]) > 0
    conn = restart(server, env, kill=True)
    assert digest(conn) == before


def test_bgsave_schedule_and_inside_of_a_transaction(start):
    server, conn = start()
    conn.ok("SET", "k", "v")
    assert conn.ok("BGSAVE", "SCHEDULE") == "Background saving started"
    wait_for(lambda: persistence(conn)["rdb_bgsave_in_progress"] == "0", conn.server_timeout, what="BGSAVE to end")
    conn.ok("MULTI")
    conn.ok("BGSAVE")
    assert conn.ok("EXEC") == ["Background saving scheduled"]
    wait_for(lambda: persistence(conn)["rdb_saves"] == "2", conn.server_timeout, what="the scheduled BGSAVE")
    assert conn.err("BGSAVE", "NOW") == "ERR syntax error"
    assert abs(conn.ok("LASTSAVE") - time.time()) < 600


def test_clients_end_while_a_child_saves(start, env):
    """A client's connection ends when the server closes it, although a child was forked while it was open."""
    server, conn = start(**{"rdb-key-save-delay": "100000"})
    conn.ok("DEBUG", "POPULATE", 200)
    other = server.connect()
    other_id = other.ok("CLIENT", "ID")
    conn.ok("BGSAVE")
    assert conn.ok("CLIENT", "KILL", "ID", other_id) == 1
    assert other.closed()
    assert persistence(conn)["rdb_bgsave_in_progress"] == "1"
    child = [int(p) for p in os.listdir("/proc") if p.isdigit() and is_child(int(p), server.proc.pid)]
    assert len(child) == 1

    def title():
        with open("/proc/%d/cmdline" % child[0], "rb") as handle:
            return handle.read()
    wait_for(lambda: b"kettle-rdb-bgsave" in title(), env.timeout(5), what="the child to have its title")


def is_child(pid, parent):
    try:
        with open("/proc/%d/stat" % pid) as handle:
            return int(handle.read().rsplit(")", 1)[1].split()[1]) == parent
    except (OSError, ValueError):
        return False


def test_killed_child_leaves_the_old_file(start, env):
    server, conn = start()
    conn.ok("SET", "old", 1)
    conn.ok("SAVE")
    conn.ok("CONFIG", "SET", "rdb-key-save-delay", 100000)
    conn.ok("DEBUG", "POPULATE", 200)
    conn.ok("BGSAVE")
    pid = next(int(p) for p in os.listdir("/proc") if p.isdigit() and is_child(int(p), server.proc.pid))
    temp = os.path.join(server.dir, "temp-%d.rdb" % pid)
    wait_for(lambda: os.path.exists(temp), conn.server_timeout, what="the temporary file")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: persistence(conn)["rdb_bgsave_in_progress"] == "0", conn.server_timeout, what="BGSAVE to end")
    assert persistence(conn)["rdb_last_bgsave_status"] == "err"
    assert not os.path.exists(temp) and "Background saving terminated by signal 9" in server.log()
    conn = restart(server, env, kill=True)
    assert conn.ok("KEYS", "*") == [b"old"]


def test_killed_server_leaves_the_old_file(start, env):
    """The child of a server that was killed does not put its file in place later."""
    server, conn = start()
    conn.ok("SET", "old", 1)
    conn.ok("SAVE")
    conn.ok("CONFIG", "SET", "rdb-key-save-delay", 20000)
    conn.ok("DEBUG", "POPULATE", 30)
    conn.ok("BGSAVE")
    pid = next(int(p) for p in os.listdir("/proc") if p.isdigit() and is_child(int(p), server.proc.pid))
    server.kill()
    wait_for(lambda: not os.path.exists("/proc/%d" % pid) or is_zombie(pid), conn.server_timeout, what="the child to end")
    conn = restart(server, env, kill=True)
    assert conn.ok("KEYS", "*") == [b"old"]


def is_zombie(pid):
    try:
        with open("/proc/%d/stat" % pid) as handle:
            return handle.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


# ---- save points ----

def test_save_points(start):
    server, conn = start(save=["3600", "1000000"])
    assert conn.ok("CONFIG", "GET", "save") == [b"save", b"3600 1000000"]
    conn.ok("CONFIG", "SET", "save", "1 2 3600 1")
    assert conn.ok("CONFIG", "GET", "save") == [b"save", b"1 2 3600 1"]
    conn.ok("SET", "a", 1)
    conn.ok("SET", "b", 1)
    wait_for(lambda: persistence(conn)["rdb_changes_since_last_save"] == "0", conn.server_timeout, what="a save point")
    assert os.path.exists(dump(server)) and "2 changes in 1 seconds. Saving..." in server.log()
    assert conn.err("CONFIG", "SET", "save", "1").startswith("ERR CONFIG SET failed")
    conn.ok("CONFIG", "SET", "save", "")


def test_flushall_with_save_points_empties_the_file(start, env):
    server, conn = start(save=["3600", "1000000"])
    conn.ok("SET", "a", 1)
    conn.ok("SAVE")
    size = os.path.getsize(dump(server))
    conn.ok("FLUSHALL")
    assert os.path.getsize(dump(server)) < size
    conn = restart(server, env, kill=True)
    assert conn.ok("DBSIZE") == 0


def test_flushall_without_save_points_leaves_the_file(start):
    server, conn = start()
    conn.ok("SET", "a", 1)
    conn.ok("SAVE")
    size = os.path.getsize(dump(server))
    conn.ok("FLUSHALL")
    assert os.path.getsize(dump(server)) == size


def test_misconf(start):
    server, conn = start(save=["3600", "1000000"])
    conn.ok("SET", "a", 1)
    os.mkdir(dump(server))  # rename(2) onto a directory fails
    assert bgsave(conn) == "err"
    for words in (("SET", "a", 2), ("PING",), ("EVAL", "return redis.call('SET', 'a', 2)", 0)):
        assert conn.err(*words).startswith("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist")
    assert conn.ok("GET", "a") == b"1"
    assert conn.ok("EVAL", "return redis.call('GET', 'a')", 0) == b"1"
    conn.ok("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
    conn.ok("SET", "a", 2)
    conn.ok("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
    assert conn.err("SET", "a", 3).startswith("MISCONF")
    assert conn.err("SHUTDOWN") == "ERR Errors trying to SHUTDOWN. Check logs."
    assert conn.ok("GET", "a") == b"2"
    os.rmdir(dump(server))
    assert bgsave(conn) == "ok"
    conn.ok("SET", "a", 3)


# ---- shutdown ----

@pytest.mark.parametrize("words,points,saved", [((), "3600 1000000", True), ((), "", False), (("SAVE",), "", True),
                                                (("NOSAVE",), "3600 1000000", False), (("NOW", "FORCE"), "3600 1000000", True)])
def test_shutdown_saves_as_configured(start, env, words, points, saved):
    server, conn = start(save=points.split() or "")
    conn.ok("SET", "k", "v")
    conn.send(("SHUTDOWN " + " ".join(words) + "\r\n").encode())
    assert server.wait_exit() == 0
    assert os.path.exists(dump(server)) == saved
    server.start()
    with server.connect() as again:
        assert again.ok("GET", "k") == (b"v" if saved else None)


@pytest.mark.parametrize("sig,directive", [(signal.SIGTERM, "shutdown-on-sigterm"), (signal.SIGINT, "shutdown-on-sigint")])
def test_signals_save_as_configured(start, env, sig, directive):
    server, conn = start(save=["3600", "1000000"])
    conn.ok("SET", "k", "v")
    server.proc.send_signal(sig)
    assert server.wait_exit() == 0 and os.path.exists(dump(server))
    os.unlink(dump(server))
    server.directives[directive] = "nosave"
    server.start()
    with server.connect() as again:
        again.ok("SET", "k", "v")
    server.proc.send_signal(sig)
    assert server.wait_exit() == 0 and not os.path.exists(dump(server))


def test_what_was_acknowledged_before_the_end_is_in_the_file(start, env):
    """Writers go on until SHUTDOWN: each reply they got is of a key in the last snapshot."""
    server, conn = start(save=["3600", "1000000"])
    writers = [server.connect() for _ in range(4)]
    acknowledged = [0] * 4
    for n in range(50):
        for i, w in enumerate(writers):
            w.send(b"".join(b"SET w%d:%d x\r\n" % (i, n * 50 + k) for k in range(50)))
        if n == 40:
            conn.send(b"SHUTDOWN\r\n")
        for i, w in enumerate(writers):
            try:
                for _ in range(50):
                    if w.read().render().startswith("+OK"):
                        acknowledged[i] += 1
            except (OSError, EOFError):
                pass
        if server.proc.poll() is not None:
            break
    assert server.wait_exit() == 0
    server.start()
    with server.connect() as again:
        for i, n in enumerate(acknowledged):
            assert n >= 2000
            assert again.ok("EXISTS", *["w%d:%d" % (i, k) for k in range(n)]) == n


# ---- how far it is ----

def test_what_takes_long_says_in_the_log_how_far_it_is(start, env):
    """SAVE, BGSAVE, and the file's loading, side by side: each says so after five seconds."""
    servers = [start(**{"rdb-key-save-delay": "50000"}) for _ in range(2)] + [start()]
    for server, conn in servers:
        conn.ok("DEBUG", "POPULATE", 112)
    (saving, a), (forking, b), (loading, c) = servers
    a.send(b"SAVE\r\n")
    b.ok("BGSAVE")
    c.ok("SAVE")
    assert "Saving:" not in loading.log() + saving.log()
    restart(loading, env, directives={"key-load-delay": "50000"}, wait=False)
    for server, role, text in ((saving, "M", r"Saving: \d+\.\d%% of 112 keys, [56]\.\d seconds"),
                               (forking, "C", r"Saving: \d+\.\d%% of 112 keys, [56]\.\d seconds"),
                               (loading, "M", r"Loading: \d+\.\d%% of \d+\.\d MB, \d+ keys, [56]\.\d seconds")):
        server.wait_log(r"\d+:%s .* %s" % (role, text.replace("%%", "%")), timeout=30)
    assert a.read().py == "OK"


# ---- loading ----

def test_loading_is_said_to_all_and_shown(start, env):
    server, conn = start()
    conn.ok("DEBUG", "POPULATE", 2000)
    conn.ok("SAVE")
    restart(server, env, wait=False, directives={"key-load-delay": "5000"})
    conn = wait_for(lambda: connect(server), env.timeout(20), what="the port")
    for words in (("GET", "key:1"), ("SET", "a", 1), ("PING",), ("DBSIZE",), ("EVAL", "return 1", 0), ("SAVE",), ("DEBUG", "DIGEST")):
        assert conn.err(*words) == "LOADING Redis is loading the dataset in memory"
    conn.ok("MULTI")
    assert conn.err("GET", "a") == "LOADING Redis is loading the dataset in memory"
    assert conn.err("EXEC").startswith("EXECABORT")
    info = persistence(conn)
    assert info["loading"] == "1" and info["async_loading"] == "0"
    assert int(info["loading_total_bytes"]) == os.path.getsize(dump(server))
    for name in ("loading_start_time", "loading_rdb_used_mem", "loading_loaded_bytes", "loading_loaded_perc", "loading_eta_seconds"):
        assert name in info
    conn.ok("CONFIG", "SET", "key-load-delay", 0)
    server.proc.send_signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert "Received shutdown signal during loading, exiting now." in server.log()


def connect(server):
    try:
        return server.connect()
    except OSError:
        return None


def test_damaged_file_ends_the_start(start, env):
    server, conn = start()
    fill(conn)
    conn.ok("SAVE")
    server.proc.send_signal(signal.SIGTERM)
    server.wait_exit()
    with open(dump(server), "r+b") as handle:
        handle.truncate(os.path.getsize(dump(server)) // 2)
    server.start(wait=False)
    assert server.wait_exit() == 1
    assert "Fatal error loading the DB, check server logs. Exiting." in server.log()
    os.unlink(dump(server))
    server.start()


def test_keys_that_ran_out_are_not_loaded(start, env):
    server, conn = start()
    conn.ok("SET", "stays", 1)
    conn.ok("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    conn.ok("SET", "goes", 1, "PX", 1)
    time.sleep(0.01)
    conn.ok("SAVE")
    conn = restart(server, env)
    assert conn.ok("KEYS", "*") == [b"stays"]
    assert persistence(conn)["rdb_last_load_keys_expired"] == "1"


@pytest.mark.parametrize("policy,field", [("allkeys-lru", "IDLETIME"), ("allkeys-lfu", "FREQ")])
def test_access_clocks_are_kept(start, env, policy, field):
    server, conn = start(**{"maxmemory-policy": policy})
    conn.ok("SET", "from", "v")
    payload = conn.ok("DUMP", "from")
    conn.ok("RESTORE", "k", 0, payload, field, 77)
    conn.ok("SAVE")
    conn = restart(server, env)
    assert 70 <= conn.ok("OBJECT", field, "k") <= 200


# ---- DEBUG RELOAD ----

def test_debug_reload(start):
    server, conn = start()
    fill(conn)
    before = digest(conn)
    conn.ok("DEBUG", "RELOAD")
    assert digest(conn) == before and conn.ok("FCALL", "answer", 0) == 42
    conn.ok("SET", "text", "other")
    conn.ok("DEBUG", "RELOAD", "NOSAVE")
    assert digest(conn) == before
    conn.ok("SET", "text", "other")
    conn.ok("SET", "more", 1)
    conn.ok("DEBUG", "RELOAD", "MERGE", "NOFLUSH", "NOSAVE")
    assert conn.ok("GET", "text") == b"hello" and conn.ok("GET", "more") == b"1"
    assert conn.err("DEBUG", "RELOAD", "NOFLUSH", "NOSAVE") == "ERR Error trying to load the RDB dump, check server logs"
    assert conn.err("DEBUG", "RELOAD", "X") == "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options."


# ---- other servers, tools ----

@pytest.fixture(params=["redis-server", "valkey-server"])
def peer(request, env):
    instance = harness.Server(harness.Env(peer_path(request.param), False, env.certs), "tcp", start=False)
    instance.kind = request.param
    yield instance
    instance.kill()
    instance.cleanup()


def test_file_of_another_server_is_read(start, env, peer):
    peer.start()
    with peer.connect() as conn:
        fill(conn)
        want = digest(conn)
        conn.ok("SAVE")
    server, conn = start()
    server.proc.send_signal(signal.SIGTERM)
    server.wait_exit()
    shutil.copy(dump(peer), dump(server))
    server.start()
    with server.connect() as conn:
        assert digest(conn) == want
        assert conn.ok("FCALL", "answer", 0) == 42


def test_file_is_read_by_another_server(start, env, peer):
    if peer.kind == "redis-server":
        pytest.skip("redis-server 7.0 reads no file of RDB 11, as those of Redis 7.2 are")
    server, conn = start()
    fill(conn)
    want = digest(conn)
    conn.ok("SAVE")
    shutil.copy(dump(server), dump(peer))
    peer.start()
    with peer.connect() as conn:
        assert digest(conn) == want
        assert conn.ok("FCALL", "answer", 0) == 42


def test_check_tools(start, env, peer):
    server, conn = start()
    fill(conn)
    conn.ok("SAVE")
    tools = [env.tool("kettle-check-rdb")]
    if peer.kind == "valkey-server":
        tools.append(os.path.join(os.path.dirname(peer_path("valkey-server")), "valkey-check-rdb"))
    keys = conn.ok("DBSIZE") + 1
    for tool in [t for t in tools if t and os.access(t, os.X_OK)]:
        out = subprocess.run([tool, dump(server)], stdout=subprocess.PIPE, timeout=env.timeout(60))
        assert out.returncode == 0 and b"RDB looks OK!" in out.stdout and b"%d keys read" % keys in out.stdout, out.stdout
    with open(dump(server), "r+b") as handle:
        handle.truncate(os.path.getsize(dump(server)) // 2)
    out = subprocess.run([env.tool("kettle-check-rdb"), dump(server)], stdout=subprocess.PIPE, timeout=env.timeout(60))
    assert out.returncode == 1 and b"--- RDB ERROR DETECTED ---" in out.stdout and b"Unexpected EOF" in out.stdout


def test_full_disk(start, env):
    """A small file system of the test's own."""
    server, conn = start()
    small = os.path.join(server.dir, "small")
    os.mkdir(small)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small], stderr=subprocess.DEVNULL).returncode != 0:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        server.proc.send_signal(signal.SIGTERM)
        server.wait_exit()
        server.directives["dir"] = small
        server.start()
        with server.connect() as conn:
            conn.server_timeout = env.timeout(30)
            conn.ok("SET", "a", 1)
            conn.ok("SAVE")
            size = os.path.getsize(os.path.join(small, "dump.rdb"))
            conn.ok("DEBUG", "POPULATE", 20000)
            assert conn.err("SAVE") == "ERR"
            assert bgsave(conn) == "err"
            assert os.listdir(small) == ["dump.rdb"] and os.path.getsize(os.path.join(small, "dump.rdb")) == size
            assert "No space left on device" in server.log()
    finally:
        server.kill()
        subprocess.run(["umount", small])
        server.proc = None
