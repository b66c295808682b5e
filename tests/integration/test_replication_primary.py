# SPDX-License-Identifier: BSD-3-Clause
"""This server as a primary: Debian's redis-server and valkey-server replicate from it, in full (by a file, by sockets) and in part,
in plaintext and over TLS, with load; WAIT, min-replicas, limits, replicas that freeze."""
import glob
import os
import re
import signal
import socket
import subprocess
import time

import pytest

import harness
import replicas
from replicas import Load, Proxy, Replica, wait_same
from resp import encode, run

PEERS = ["redis-server", "valkey-server"]
DISKLESS = {"repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0"}
DISK = {"repl-diskless-sync": "no"}
HOW = {"disk": DISK, "diskless": DISKLESS}


@pytest.fixture(params=PEERS)
def peer(request):
    if not replicas.program(request.param):
        pytest.skip("no " + request.param)
    return request.param


@pytest.fixture
def any_peer():
    for name in PEERS:
        if replicas.program(name):
            return name
    pytest.skip("no redis-server and no valkey-server")


@pytest.fixture
def make_replica(env, make_server):
    def make(name, primary, **kwargs):
        instance = Replica(env, name, primary, start=False, **kwargs)
        make_server.track(instance)
        return instance.start()
    return make


@pytest.fixture
def make_primary(make_server):
    def make(how="diskless", **directives):
        wanted = dict(HOW[how], **{name.replace("_", "-"): value for name, value in directives.items()})
        return make_server(directives=wanted)
    return make


def populate(server, keys=3000):
    with server.connect(timeout=60) as conn:
        conn.ok("DEBUG", "POPULATE", str(keys), "key", "50")
        for i in range(50):
            conn.ok("RPUSH", "list%d" % i, *[str(x) for x in range(i * 20 + 1)])
            conn.ok("HSET", "hash%d" % i, *[str(x) for x in range(i * 10 + 2)])
            conn.ok("ZADD", "zset%d" % i, *[x for k in range(i * 5 + 1) for x in (str(k * 0.5), "m%d" % k)])
            conn.ok("SADD", "set%d" % i, *["m%d" % k for k in range(i * 10 + 1)])
            conn.ok("XADD", "stream%d" % (i % 3), "*", "f", str(i))
        conn.ok("XGROUP", "CREATE", "stream1", "g", "0")
        conn.ok("XREADGROUP", "GROUP", "g", "alice", "COUNT", "5", "STREAMS", "stream1", ">")
        conn.ok("SELECT", "3")
        conn.ok("SET", "elsewhere", "x" * 300000)
        conn.ok("FUNCTION", "LOAD", "REPLACE", "#!lua name=lib\nredis.register_function('f', function() return 7 end)")


def stats(server, name):
    with server.connect() as conn:
        return int(conn.info("stats")[name])


def replication(server):
    with server.connect() as conn:
        return conn.info("replication")


def wait_state(server, state, n=1, timeout=30):
    harness.wait_for(lambda: sum("state=" + state in line for name, line in replication(server).items()
                                 if re.fullmatch(r"slave\d+", name)) == n,
                     server.env.timeout(timeout), 0.05, "%d replicas %s" % (n, state))


# ---- full and partial, with load ----

@pytest.mark.parametrize("how", sorted(HOW))
def test_full_sync_under_load_and_partial_resync(make_primary, make_replica, peer, how):
    primary = make_primary(how, repl_backlog_size="50mb")
    populate(primary)
    with Load(primary) as load:
        replica = make_replica(peer, primary)
        replica.wait_online()
        wait_state(primary, "online")
        with primary.connect() as conn:
            for cut in range(1, 4):
                conn.ok("CLIENT", "KILL", "TYPE", "replica")
                harness.wait_for(lambda: stats(primary, "sync_partial_ok") == cut, primary.env.timeout(60), 0.05, "partial resync")
                replica.wait_online()
        load.stop()
    wait_same(primary, [replica])
    assert stats(primary, "sync_full") == 1
    with replica.connect() as conn:
        assert conn.ok("FUNCTION", "LIST")
    log = primary.log()
    for line in ("asks for synchronization", "Full resync requested by replica 127.0.0.1:%d" % replica.port, "Starting BGSAVE for SYNC",
                 "Synchronization with replica 127.0.0.1:%d succeeded" % replica.port, "Partial resynchronization request from"):
        assert line in log


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", sorted(HOW))
def test_several_replicas_at_once(make_primary, make_replica, how):
    names = [name for name in PEERS if replicas.program(name)]
    if not names:
        pytest.skip("no peers")
    primary = make_primary(how, repl_diskless_sync_delay="2", repl_backlog_size="50mb")
    populate(primary, 5000)
    with Load(primary, threads=1):
        made = [make_replica(name, primary) for name in (names * 3)[:3]]
        for replica in made:
            replica.wait_online()
    wait_same(primary, made)
    assert stats(primary, "sync_full") == 3, primary.log()


@pytest.mark.slow
def test_replica_that_comes_while_a_file_is_written_gets_the_same_one(make_primary, make_replica, any_peer):
    primary = make_primary("disk", rdb_key_save_delay="500")
    populate(primary, 10000)
    second = make_replica(any_peer, primary, directives={"replicaof": None})  # it is told later: it takes time to start
    first = make_replica(any_peer, primary)
    wait_state(primary, "wait_bgsave")
    with second.connect() as conn:
        conn.ok("REPLICAOF", "127.0.0.1", str(primary.any_port()))
    primary.wait_log("Waiting for end of BGSAVE for SYNC", 30)
    with primary.connect() as conn:
        conn.ok("CONFIG", "SET", "rdb-key-save-delay", "0")
    for replica in (first, second):
        replica.wait_online()
    wait_same(primary, [first, second])
    assert primary.log().count("Starting BGSAVE for SYNC") == 1


def wait_gone(path, env, what):
    harness.wait_for(lambda: not os.path.exists(path), env.timeout(30), 0.05, what)


@pytest.mark.slow
def test_file_that_is_only_for_replicas_is_removed(make_primary, make_replica, any_peer, env):
    """rdb-del-sync-files: when the last one has it, and not before; and not one that is there for another reason."""
    primary = make_primary("disk", rdb_del_sync_files="yes", rdb_key_save_delay="500")
    populate(primary, 10000)
    path = os.path.join(primary.dir, "dump.rdb")
    second = make_replica(any_peer, primary, directives={"replicaof": None})
    first = make_replica(any_peer, primary)
    wait_state(primary, "wait_bgsave")
    with second.connect() as conn:
        conn.ok("REPLICAOF", "127.0.0.1", str(primary.any_port()))
    wait_state(primary, "wait_bgsave", 2)
    with primary.connect() as conn:
        conn.ok("CONFIG", "SET", "rdb-key-save-delay", "0")
        for replica in (first, second):
            replica.wait_online()
        primary.wait_log("Removing the RDB file used to feed replicas in a persistence-less instance")
        wait_gone(path, env, "the file to be gone")
        wait_same(primary, [first, second])
        conn.ok("SAVE")
        conn.ok("CONFIG", "SET", "save", "3600 1")
        with second.connect() as other:
            other.ok("REPLICAOF", "NO", "ONE")
            other.ok("SET", "something", "else")
            other.ok("REPLICAOF", "127.0.0.1", str(primary.any_port()))
        harness.wait_for(lambda: stats(primary, "sync_full") == 3, env.timeout(30), 0.05, "another full synchronization")
        second.wait_online()
    time.sleep(1.5)
    assert os.path.exists(path)
    assert primary.log().count("Removing the RDB file") == 1


@pytest.mark.slow
def test_file_of_a_replica_that_reads_slowly_stays_till_it_has_it(make_primary, env):
    """Another file that has taken its name is left alone, and the end of the server removes what is left."""
    for then in ("closes", "saves", "ends"):
        primary = make_primary("disk", rdb_del_sync_files="yes")
        path = os.path.join(primary.dir, "dump.rdb")
        with primary.connect() as conn:
            conn.ok("DEBUG", "POPULATE", "200000", "key", "100")
            replica = primary.connect()
            replica.ok("REPLCONF", "capa", "psync2")
            replica.send(encode("PSYNC", "?", "-1"))
            wait_state(primary, "send_bulk")
            time.sleep(1.5)
            assert os.path.exists(path)
            if then == "saves":
                conn.ok("SAVE")
        if then == "ends":
            primary.proc.terminate()
            assert primary.wait_exit() == 0
            assert not os.path.exists(path)
            assert "Removing the RDB file" in primary.log()
            replica.close()
            continue
        replica.close()
        if then == "closes":
            wait_gone(path, env, "the file to be gone")
        else:
            time.sleep(1.5)
            assert os.path.exists(path) and "Removing the RDB file" not in primary.log()


def test_link_that_is_cut_in_the_middle(make_primary, make_replica, any_peer):
    """By a proxy: neither side says goodbye. What was sent and did not arrive is sent again."""
    primary = make_primary(repl_backlog_size="50mb")
    populate(primary)
    proxy = Proxy(primary.any_port())

    class There:
        use_tls = primary.use_tls
        any_port = staticmethod(lambda: proxy.port)
    with Load(primary, large=True) as load:
        replica = make_replica(any_peer, There)
        replica.wait_online()
        for _ in range(3):
            before = stats(primary, "sync_partial_ok")
            proxy.cut()
            harness.wait_for(lambda: stats(primary, "sync_partial_ok") > before, primary.env.timeout(60), 0.05, "partial resync")
            replica.wait_online()
        load.stop()
    wait_same(primary, [replica])
    assert stats(primary, "sync_full") == 1
    proxy.close()


def test_backlog_too_small_means_full_again(make_primary, make_replica, any_peer):
    primary = make_primary(repl_backlog_size="16kb")
    proxy = Proxy(primary.any_port())

    class There:
        use_tls = primary.use_tls
        any_port = staticmethod(lambda: proxy.port)
    replica = make_replica(any_peer, There)
    replica.wait_online()
    wait_state(primary, "online")
    proxy.refuses = True
    proxy.cut()
    harness.wait_for(lambda: replication(primary)["connected_slaves"] == "0", primary.env.timeout(30), what="replica gone")
    with primary.connect() as conn:
        for i in range(200):
            conn.ok("SET", "k%d" % i, "x" * 1000)
    proxy.refuses = False
    replica.wait_online()
    wait_same(primary, [replica])
    assert stats(primary, "sync_full") == 2 and stats(primary, "sync_partial_err") >= 1
    assert "for lack of backlog" in primary.log()
    proxy.close()


def test_sub_replica(make_primary, make_replica, any_peer):
    primary = make_primary()
    populate(primary)
    middle = make_replica(any_peer, primary)
    middle.wait_online()
    last = make_replica(any_peer, ("127.0.0.1", middle.port))
    last.wait_online()
    with Load(primary) as load:
        harness.wait_for(lambda: load.count > 2000, primary.env.timeout(60), what="load")
    wait_same(primary, [middle, last])


@pytest.mark.slow
def test_keys_that_expire_and_are_evicted(make_primary, make_replica, any_peer):
    primary = make_primary()
    replica = make_replica(any_peer, primary)
    replica.wait_online()
    with primary.connect(timeout=60) as conn:
        for i in range(300):
            conn.ok("SET", "short%d" % i, "v", "PX", str(1 + i))
        used = int(conn.info("memory")["used_memory"])
        conn.ok("CONFIG", "SET", "maxmemory-policy", "allkeys-random", "maxmemory", str(used + (4 << 20)))
        for i in range(2000):
            reply = conn("SET", "big%d" % i, "x" * 10000)
            assert reply == "OK", reply
        assert int(conn.info("stats")["evicted_keys"]) > 0
        conn.ok("CONFIG", "SET", "maxmemory", "0")
        harness.wait_for(lambda: int(conn.info("stats")["expired_keys"]) >= 300 or
                         all(conn.ok("EXISTS", "short%d" % i) == 0 for i in range(300)), 30, what="expiry")
    wait_same(primary, [replica])


# ---- replicas that do not keep up ----

@pytest.mark.slow
@pytest.mark.parametrize("how", sorted(HOW))
def test_frozen_replica_does_not_stop_the_others(make_primary, make_replica, any_peer, how):
    primary = make_primary(how, repl_diskless_sync_delay="2", repl_timeout="8", rdbcompression="no")
    with primary.connect(timeout=60) as conn:
        conn.ok("DEBUG", "POPULATE", "1000", "key", "30000")  # more than the sockets of the frozen one take
    frozen = make_replica(any_peer, primary)
    good = make_replica(any_peer, primary)
    wait_state(primary, "wait_bgsave", 2)
    frozen.proc.send_signal(signal.SIGSTOP)
    try:
        good.wait_online()
        wait_same(primary, [good])
    finally:
        frozen.proc.send_signal(signal.SIGCONT)
    frozen.wait_online()
    wait_same(primary, [good, frozen])


def test_frozen_replica_is_closed_at_its_output_limit(make_primary, make_replica, any_peer):
    primary = make_primary(client_output_buffer_limit=["replica", "4mb", "4mb", "1"], repl_backlog_size="1mb", repl_timeout="60")
    replica, other = make_replica(any_peer, primary), make_replica(any_peer, primary)
    for one in (replica, other):
        one.wait_online()
    wait_state(primary, "online", 2)
    replica.proc.send_signal(signal.SIGSTOP)
    try:
        with primary.connect(timeout=60) as conn:
            for _ in range(200):
                conn.ok("SET", "k", "x" * 200000)
                if int(conn.info("replication")["connected_slaves"]) == 1:
                    break
            harness.wait_for(lambda: int(conn.info("replication")["connected_slaves"]) == 1, primary.env.timeout(20), what="close")
            harness.wait_for(lambda: int(conn.info("memory")["mem_total_replication_buffers"]) < 6 << 20, primary.env.timeout(20),
                             what="the backlog to shrink")
        assert "scheduled to be closed ASAP for overcoming of output buffer limits" in primary.log()
    finally:
        replica.proc.send_signal(signal.SIGCONT)
    replica.wait_online()
    wait_same(primary, [replica, other])


def test_replica_that_says_nothing_times_out(make_primary):
    primary = make_primary(repl_timeout="2")
    with primary.connect() as conn:
        begin_sync(conn)
        primary.wait_log("Disconnecting timedout replica", 30)
        assert conn.closed(20)


# ---- by hand ----

def read_sync(conn):
    """What follows PSYNC or SYNC: the first line, the file. Newlines before it say that it is being made."""
    def read_line():
        line = b""
        while not line:
            line = conn.read_line().lstrip(b"\n")
        return line
    first = line = read_line()
    if line.startswith(b"+FULLRESYNC"):
        line = read_line()
    assert line.startswith(b"$"), line
    if not line.startswith(b"$EOF:"):
        return first, conn.read_exact(int(line[1:]))
    mark, data = line[5:], b""
    while not data.endswith(mark):
        data += conn.read_exact(1)
    return first, data[:-40]


def begin_sync(conn, *options):
    conn.ok("REPLCONF", "listening-port", "1234", "capa", "eof", "capa", "psync2", *options)
    conn.send(encode("PSYNC", "?", "-1"))
    first, data = read_sync(conn)
    assert first.startswith(b"+FULLRESYNC ") and data.startswith(b"REDIS00"), (first, data[:20])
    return first.split()[1].decode(), int(first.split()[2]), data


def next_command(conn):
    while True:
        command = [part for part in conn.read().py]
        if command not in ([b"PING"], ["PING"]):
            return [part.encode() if isinstance(part, str) else part for part in command]


@pytest.mark.parametrize("how", sorted(HOW))
def test_stream(make_primary, how):
    primary = make_primary(how)
    with primary.connect() as conn, primary.connect() as replica:
        conn.ok("SET", "before", "1")
        repl_id, offset, data = begin_sync(replica)
        assert b"before" in data and repl_id.encode() in data
        conn.ok("SET", "k", "v")
        if how == "diskless":
            assert replica.silent(0.3)  # the stream begins when the replica has loaded
        replica.send(encode("REPLCONF", "ACK", str(offset)))
        assert next_command(replica) == [b"SELECT", b"0"]
        assert next_command(replica) == [b"SET", b"k", b"v"]
        conn.ok("MULTI")
        conn.ok("SET", "a", "1")
        conn.ok("INCR", "b")
        conn.ok("EXEC")
        assert [next_command(replica)[0] for _ in range(4)] == [b"MULTI", b"SET", b"INCR", b"EXEC"]
        role = conn.ok("ROLE")
        assert role[0] in ("master", b"master") and len(role[2]) == 1
        info = conn.info("replication")
        assert re.fullmatch(r"ip=127.0.0.1,port=1234,state=online,offset=%d,lag=[01]" % offset, info["slave0"]), info
        assert info["master_replid"] == repl_id
        listed = conn.ok("CLIENT", "LIST", "TYPE", "replica")
        listed = listed if isinstance(listed, str) else listed.decode()
        assert listed.count("flags=S") == 1 and "cmd=replconf" in listed
        assert conn.ok("CLIENT", "KILL", "TYPE", "slave") == 1
        assert replica.closed()


def test_debug_replicate(make_primary):
    """Replicas get the command as it was given; the data set and the append-only file do not."""
    primary = make_primary(appendonly="yes", appendfsync="always")
    with primary.connect() as conn, primary.connect() as replica:
        run(conn, """
            DEBUG REPLICATE => -ERR unknown subcommand or wrong number of arguments for 'REPLICATE'. Try DEBUG HELP.
            DEBUG REPLICATE SET nobody listens => +OK
            SET k v => +OK
        """)
        _, offset, _ = begin_sync(replica)
        replica.send(encode("REPLCONF", "ACK", str(offset)))
        with primary.connect() as other:
            other.ok("SELECT", "3")
            other.ok("SET", "k", "of three")
            other.ok("DEBUG", "REPLICATE", "NO-SUCH-COMMAND", b"\0\r\n")
            other.ok("DEBUG", "REPLICATE", "SET", "k", "x")
            other.ok("SET", "k", "last")
        assert [next_command(replica) for _ in range(5)] == [
            [b"SELECT", b"3"], [b"SET", b"k", b"of three"], [b"NO-SUCH-COMMAND", b"\0\r\n"], [b"SET", b"k", b"x"],
            [b"SET", b"k", b"last"]]
        run(conn, """
            GET k => "v"
            EXISTS nobody => :0
        """)
    written = b"".join(open(path, "rb").read() for path in glob.glob(os.path.join(primary.dir, "appendonlydir", "*.aof")))
    assert b"last" in written and b"NO-SUCH-COMMAND" not in written and b"nobody" not in written


def test_diskless_sync_begins_when_there_are_enough(make_primary):
    primary = make_primary(repl_diskless_sync_delay="600", repl_diskless_sync_max_replicas="2")
    with primary.connect(timeout=60) as first, primary.connect(timeout=60) as second, primary.connect() as conn:
        for replica in (first, second):
            replica.ok("REPLCONF", "capa", "eof", "capa", "psync2")
        first.send(encode("PSYNC", "?", "-1"))
        primary.wait_log("Delay next BGSAVE for diskless SYNC")
        time.sleep(1.5)  # more than one turn of cron
        assert "Starting BGSAVE for SYNC" not in primary.log() and conn.info("stats")["total_forks"] == "0"
        second.send(encode("PSYNC", "?", "-1"))
        for replica in (first, second):
            line, data = read_sync(replica)
            assert line.startswith(b"+FULLRESYNC ") and data.startswith(b"REDIS00")
        assert conn.info("stats")["total_forks"] == "1"


def options_of_sockets(pid, option):
    """By the port of the other end, one option of each of a process's TCP connections."""
    found = {}
    for sock in harness.sockets_of(pid):
        try:
            found[sock.getpeername()[1]] = sock.getsockopt(socket.IPPROTO_TCP, option)
        except OSError:
            continue  # it listens
    return found


@pytest.mark.parametrize("wanted", ["no", "yes"])
def test_nodelay_of_a_replica(make_primary, wanted):
    """A replica's connection, and no other, is as repl-disable-tcp-nodelay says."""
    primary = make_primary(repl_disable_tcp_nodelay=wanted)
    with primary.connect() as conn, primary.connect() as replica:
        begin_sync(replica)
        options = options_of_sockets(primary.proc.pid, socket.TCP_NODELAY)
        assert bool(options[conn.sock.getsockname()[1]])
        assert bool(options[replica.sock.getsockname()[1]]) == (wanted == "no")


def test_partial_resync_by_hand(make_primary):
    primary = make_primary()
    with primary.connect() as conn:
        with primary.connect() as replica:
            repl_id, offset, _ = begin_sync(replica)
            replica.send(encode("REPLCONF", "ACK", str(offset)))
            conn.ok("SET", "k", "v")
            assert next_command(replica)[0] == b"SELECT"
        end = int(conn.info("replication")["master_repl_offset"])
        for ask, id_ in ((offset + 1, repl_id), (offset + 1, repl_id.upper())):
            with primary.connect() as replica:
                replica.ok("REPLCONF", "capa", "psync2")
                replica.send(encode("PSYNC", id_, str(ask)))
                assert replica.read_line() == b"+CONTINUE " + repl_id.encode()
                assert next_command(replica) == [b"SELECT", b"0"] and next_command(replica) == [b"SET", b"k", b"v"]
        with primary.connect() as replica:
            replica.send(encode("PSYNC", repl_id, str(end + 1)))
            assert replica.read_line() == b"+CONTINUE"
        for ask, id_, why in ((end + 1000000, repl_id, "greater than the master replication offset"),
                              (offset + 1, "x" * 40, "Replication ID mismatch"), (0, repl_id, "for lack of backlog")):
            with primary.connect() as replica:
                replica.ok("REPLCONF", "capa", "eof", "capa", "psync2")
                replica.send(encode("PSYNC", id_, str(ask)))
                assert read_sync(replica)[0].startswith(b"+FULLRESYNC " + repl_id.encode())
                assert why in primary.log()


def test_old_sync_and_replicas_without_capabilities(make_primary):
    primary = make_primary()
    with primary.connect() as conn, primary.connect() as old, primary.connect() as plain:
        conn.ok("SET", "k", "v")
        old.send(encode("SYNC"))
        plain.send(encode("PSYNC", "?", "-1"))
        first, data = read_sync(old)
        assert first.startswith(b"$") and data.startswith(b"REDIS00")
        first, data = read_sync(plain)
        assert first.startswith(b"+FULLRESYNC") and data.startswith(b"REDIS00")
        conn.ok("SET", "k", "w")
        assert next_command(old) == [b"SELECT", b"0"] and next_command(plain) == [b"SELECT", b"0"]


def test_replica_that_is_replied_to_is_closed(make_primary):
    primary = make_primary()
    with primary.connect() as replica:
        _, offset, _ = begin_sync(replica)
        replica.send(encode("REPLCONF", "ACK", str(offset)))
        wait_state(primary, "online")
        replica.send(encode("PING"))
        assert replica.closed()
    assert "Replica generated a reply to command 'ping', disconnecting it" in primary.log()


def test_replconf(make_primary):
    primary = make_primary()
    with primary.connect() as conn:
        run(conn, """
            REPLCONF => +OK
            REPLCONF capa => -ERR syntax error
            REPLCONF listening-port x => -ERR value is not an integer or out of range
            REPLCONF no such => -ERR Unrecognized REPLCONF option: no
            REPLCONF rdb-only 2 => -ERR value is out of range, value must between 0 and 1
            REPLCONF rdb-filter-only keys => -ERR Unsupported rdb-filter-only option: keys
            REPLCONF listening-port 1 ip-address 10.0.0.1 capa eof capa other => +OK
            PSYNC ? x => -ERR value is not an integer or out of range
            MULTI => +OK
            PSYNC ? -1 => -ERR Command not allowed inside a transaction
            DISCARD => +OK
        """)
        conn.send(encode("REPLCONF", "ACK", "1") + encode("PING"))
        assert conn.read().render() == "+PONG"


def file_is_whole(head, tail, got):
    """The file of a full synchronization has come, as far as what came first and last of it tells."""
    start = re.search(rb"\$(EOF:(\w{40})|\d+)\r\nREDIS", head)
    if start.group(2):
        return start.group(2) in tail
    return got >= start.end() - 5 + int(start.group(1))


@pytest.mark.parametrize("how", sorted(HOW))
def test_key_update_in_the_middle_of_a_full_sync(make_primary, transport, env, how):
    """openssl's client asks for new keys while the file comes: it gets all of the file, then the keys, then the stream."""
    if transport == "tcp":
        pytest.skip("no keys")
    primary = make_primary(how, rdb_key_save_delay="300" if how == "diskless" else "0")
    with primary.connect(timeout=60) as conn:
        info = conn.info("tls")
        if transport != "tls-user" and int(info["tls_kernel_rekey"]) != 1:
            pytest.skip("this kernel cannot change keys")
        conn.ok("DEBUG", "POPULATE", "5000", "key", "2000")
        conn.ok("CONFIG", "SET", "rdbcompression", "no")
        shown = subprocess.Popen(["openssl", "s_client", "-connect", "127.0.0.1:%d" % primary.tls_port, "-CAfile", env.cert("ca.crt"),
                                  "-cert", env.cert("client.crt"), "-key", env.cert("client.key"), "-tls1_3"],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            for line in (b"replconf capa eof\r\n", b"psync ? -1\r\n"):
                shown.stdin.write(line)
                shown.stdin.flush()
            before, head, tail, got, asked = conn.info("tls"), b"", b"", 0, False
            while not (asked and got > 9 << 20 and file_is_whole(head, tail, got)):
                data = shown.stdout.read1(65536)
                assert data, "the connection has ended"
                got, tail = got + len(data), tail[-100:] + data
                head += data if len(head) < 65536 else b""
                if not asked and b"REDIS0010" in head and got > 1 << 20:
                    shown.stdin.write(b"K\n")
                    shown.stdin.flush()
                    asked = True
            harness.wait_for(lambda: int(conn.info("tls")["tls_key_updates_in"]) > int(before["tls_key_updates_in"]), 30,
                             what="a KeyUpdate")
            shown.stdin.write(b"replconf ack 0\r\n")
            shown.stdin.flush()
            conn.ok("SET", "after", "it")
            while b"after\r\n$2\r\nit\r\n" not in tail:
                tail = tail[-100:] + shown.stdout.read1(65536)
        finally:
            shown.kill()
            shown.wait()
        info = conn.info("tls")
        assert int(info["tls_key_updates_out"]) > int(before["tls_key_updates_out"])
    assert stats(primary, "sync_full") == 1


def test_waitaof(make_primary, make_replica, any_peer):
    primary = make_primary(appendonly="yes", appendfsync="everysec")
    with primary.connect(timeout=60) as conn:
        for i in range(3):
            conn.ok("SET", "k", str(i))
            assert conn.ok("WAITAOF", "1", "0", "20000") == [1, 0]
        assert conn.ok("WAITAOF", "1", "1", "100") == [1, 0]
    if any_peer != "valkey-server" and not replicas.program("valkey-server"):
        pytest.skip("redis-server 7.0 does not say what it has fsynced")
    replica = make_replica("valkey-server", primary, directives={"appendonly": "yes"})
    replica.wait_online()
    with primary.connect(timeout=60) as conn:
        conn.ok("SET", "k", "v")
        assert conn.ok("WAITAOF", "1", "1", "30000") == [1, 1]


def slow_sync(primary, conn, *options):
    """A child is writing to, or for, that replica, and will be for long."""
    with primary.connect() as c:
        c.ok("DEBUG", "POPULATE", "2000")
        c.ok("CONFIG", "SET", "rdb-key-save-delay", "50000")
    conn.ok("REPLCONF", "listening-port", "1234", "capa", "eof", "capa", "psync2", *options)
    conn.send(encode("PSYNC", "?", "-1"))
    harness.wait_for(lambda: persistence(primary)["rdb_bgsave_in_progress"] == "1", primary.env.timeout(30), what="the child")


def persistence(server):
    with server.connect() as conn:
        return conn.info("persistence")


def test_a_transfer_to_sockets_shows_as_a_save(make_primary):
    primary = make_primary()
    with primary.connect() as replica, primary.connect() as conn:
        before = persistence(primary)
        slow_sync(primary, replica)
        time.sleep(1.1)
        now = persistence(primary)
        assert int(now["rdb_current_bgsave_time_sec"]) >= 1
        for command in (("BGSAVE",), ("BGSAVE", "SCHEDULE"), ("SAVE",)):
            assert str(conn.err(*command)) == "ERR Background save already in progress"
    # nobody is left to write to
    harness.wait_for(lambda: persistence(primary)["rdb_bgsave_in_progress"] == "0", primary.env.timeout(30), what="the child's end")
    now = persistence(primary)
    assert int(now["rdb_last_bgsave_time_sec"]) >= 1 and now["rdb_current_bgsave_time_sec"] == "-1"
    assert int(now["rdb_last_cow_size"]) > 0
    assert {k: now[k] for k in ("rdb_saves", "rdb_last_save_time")} == {k: before[k] for k in ("rdb_saves", "rdb_last_save_time")}
    with primary.connect() as conn:
        conn.ok("CONFIG", "SET", "rdb-key-save-delay", "0")
    with primary.connect() as replica:
        begin_sync(replica)
        primary.wait_log(r"C \d.* Fork CoW for RDB: current \d+ MB, peak \d+ MB, average \d+ MB")
    with primary.connect() as replica:
        slow_sync(primary, replica)
        primary.proc.send_signal(signal.SIGTERM)
        assert primary.wait_exit() == 0
    assert "There is a child saving an .rdb. Killing it!" in primary.log()


@pytest.mark.parametrize("how", sorted(HOW))
def test_the_end_in_the_middle_of_one_with_another_to_come(make_primary, how):
    """The child's end makes room for the next, which is not begun any more."""
    primary = make_primary(how, io_threads="2")
    with primary.connect() as one, primary.connect() as two:
        slow_sync(primary, one)
        two.ok("REPLCONF", "capa", "eof", "rdb-only", "1", "rdb-filter-only", "functions")
        two.send(encode("PSYNC", "?", "-1"))
        primary.wait_log("Waiting for next BGSAVE for SYNC")
        primary.proc.send_signal(signal.SIGTERM)
        assert primary.wait_exit() == 0
    assert primary.log().count("Starting BGSAVE for SYNC") == 1


def test_functions_only(make_primary):
    primary = make_primary("disk")
    populate(primary, 100)
    with primary.connect() as replica:
        _, _, data = begin_sync(replica, "rdb-only", "1", "rdb-filter-only", "functions")
        assert b"register_function" in data and b"elsewhere" not in data
        assert replica.closed()


# ---- commands that count on replicas ----

def test_wait(make_primary, make_replica, any_peer):
    primary = make_primary(repl_timeout="60")
    made = [make_replica(any_peer, primary) for _ in range(2)]
    for replica in made:
        replica.wait_online()
    wait_state(primary, "online", 2)
    with primary.connect(timeout=60) as conn, primary.connect() as other:
        conn.ok("SET", "k", "v")
        assert conn.ok("WAIT", "2", "20000") == 2
        for replica in made:
            with replica.connect() as there:
                assert there.ok("GET", "k") in ("v", b"v")
        made[1].proc.send_signal(signal.SIGSTOP)
        conn.ok("SET", "k", "w")
        assert conn.ok("WAIT", "1", "20000") == 1
        assert conn.ok("WAIT", "2", "300") == 1
        conn.send(encode("WAIT", "2", "0"))
        harness.wait_for(lambda: int(other.info("clients")["blocked_clients"]) == 1, 20, what="block")
        made[1].proc.send_signal(signal.SIGCONT)
        assert conn.read().render() == ":2"
        conn.ok("MULTI")
        conn.ok("SET", "k", "x")
        conn.ok("WAIT", "2", "0")
        assert conn.ok("EXEC")[0] in ("OK", b"OK")
        assert conn.ok("WAITAOF", "0", "0", "0") == [0, 0]  # they have no append-only file
        assert conn.err("WAITAOF", "1", "0", "0").startswith("ERR WAITAOF cannot be used when numlocal is set")


@pytest.mark.parametrize("mode", ["ALL", "WRITE"])
def test_replicas_are_not_paused(make_primary, make_replica, any_peer, mode):
    """Their acknowledgements are read on during CLIENT PAUSE, so that they do not seem to lag, and are not given up."""
    primary = make_primary(repl_timeout="2", repl_ping_replica_period="1")
    replica = make_replica(any_peer, primary)
    replica.wait_online()
    wait_state(primary, "online")
    with primary.connect(timeout=60) as conn, primary.connect(timeout=60) as writer:
        conn.ok("SET", "k", "v")
        conn.ok("CLIENT", "PAUSE", "4000", mode)
        begin = time.monotonic()
        writer.send(encode("SET", "k", "w"))
        assert writer.read().render() == "+OK"
        assert time.monotonic() - begin > 2
        info = conn.info("replication")
        assert re.search(r"state=online,.*lag=[01]$", info["slave0"]), info
        assert conn.ok("WAIT", "1", "20000") == 1
        writer.ok("SET", "k", "x")
        assert writer.ok("WAIT", "1", "20000") == 1
    assert stats(primary, "sync_full") == 1 and stats(primary, "sync_partial_ok") == 0


def test_replicaof_errors(make_primary):
    primary = make_primary()
    with primary.connect() as conn:
        for port in ("x", "-1", "65536", "1.5", ""):
            assert conn.err("REPLICAOF", "127.0.0.1", port) == "ERR Invalid master port"
        conn.ok("REPLICAOF", "NO", "ONE")
    with primary.connect() as monitor, primary.connect() as replica:
        monitor.ok("MONITOR")
        assert monitor.err("REPLICAOF", "127.0.0.1", "1") == "ERR Command is not valid when client is a replica."
        begin_sync(replica)
        replica.send(encode("REPLICAOF", "127.0.0.1", "1"))
        assert replica.closed()
    assert "Replica generated a reply to command 'replicaof', disconnecting it" in primary.log()
    assert replication(primary)["role"] == "master"


@pytest.mark.slow
def test_min_replicas(make_primary, make_replica, any_peer):
    primary = make_primary(min_replicas_to_write="1", min_replicas_max_lag="2", repl_timeout="60")
    with primary.connect(timeout=60) as conn:
        assert conn("SET", "k", "v") == "NOREPLICAS Not enough good replicas to write."
        assert conn.ok("GET", "k") is None
        replica = make_replica(any_peer, primary)
        replica.wait_online()
        harness.wait_for(lambda: conn("SET", "k", "v") == "OK", 30, what="a good replica")
        assert conn.info("replication")["min_slaves_good_slaves"] == "1"
        assert conn("EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "k") == "OK"
        replica.proc.send_signal(signal.SIGSTOP)
        harness.wait_for(lambda: str(conn("SET", "k", "v")).startswith("NOREPLICAS"), 30, what="a lagging replica")
        assert str(conn("EVAL", "return redis.call('SET', KEYS[1], 'x')", "1", "k")).startswith("NOREPLICAS")
        replica.proc.send_signal(signal.SIGCONT)
        harness.wait_for(lambda: conn("SET", "k", "v") == "OK", 30, what="a good replica")


def test_backlog_goes_when_nobody_needs_it(make_primary):
    primary = make_primary(repl_backlog_ttl="1")
    with primary.connect() as conn:
        with primary.connect() as replica:
            repl_id, offset, _ = begin_sync(replica)
            assert conn.info("replication")["repl_backlog_active"] == "1"
        harness.wait_for(lambda: conn.info("replication")["repl_backlog_active"] == "0", 30, what="no backlog")
        assert conn.info("replication")["master_replid"] != repl_id
        assert "Replication backlog freed after 1 seconds without connected replicas." in primary.log()


def test_backlog_size_is_changed(make_primary):
    primary = make_primary(repl_backlog_size="1mb")
    with primary.connect(timeout=60) as conn, primary.connect(timeout=60) as replica:
        begin_sync(replica)
        replica.send(encode("REPLCONF", "ACK", "0"))
        for _ in range(30):
            conn.ok("SET", "k", "x" * 100000)
            assert next_command(replica)[0] in (b"SELECT", b"SET")
        assert 1 << 20 <= int(conn.info("replication")["repl_backlog_histlen"]) < 3 << 20
        conn.ok("CONFIG", "SET", "repl-backlog-size", "100kb")
        assert int(conn.info("replication")["repl_backlog_histlen"]) < 400000
        assert conn.info("replication")["repl_backlog_size"] == "102400"
        conn.ok("CONFIG", "SET", "repl-backlog-size", "100")  # raised to the least that there is
        assert conn.ok("CONFIG", "GET", "repl-backlog-size") == [b"repl-backlog-size", b"16384"]
        assert conn.info("replication")["repl_backlog_size"] == "16384"
        conn.ok("CONFIG", "SET", "repl-backlog-size", "16385")
        assert conn.ok("CONFIG", "GET", "repl-backlog-size") == [b"repl-backlog-size", b"16385"]


# ---- redis-cli ----

def cli(server, *args, timeout=60):
    return subprocess.run(["redis-cli", *server.cli_args(), *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=server.env.timeout(timeout))


@pytest.mark.parametrize("how", sorted(HOW))
def test_redis_cli_rdb(make_primary, tmp_path, how):
    if not harness.shutil.which("redis-check-rdb"):
        pytest.skip("no redis-cli")
    primary = make_primary(how)
    populate(primary)
    out = cli(primary, "--rdb", str(tmp_path / "dump.rdb"))
    assert out.returncode == 0 and b"Transfer finished with success" in out.stdout, out.stdout
    check = subprocess.run(["redis-check-rdb", str(tmp_path / "dump.rdb")], stdout=subprocess.PIPE, timeout=60)
    assert b"RDB looks OK" in check.stdout, check.stdout


def test_redis_cli_replica(make_primary, tmp_path):
    if not harness.shutil.which("redis-cli"):
        pytest.skip("no redis-cli")
    primary = make_primary()
    with primary.connect() as conn, open(tmp_path / "out", "wb") as out:
        shown = subprocess.Popen(["redis-cli", *primary.cli_args(), "--replica"], stdout=out, stderr=out)
        try:
            wait_state(primary, "online")
            conn.ok("SET", "seen", "1")
            harness.wait_for(lambda: b'"SET","seen","1"' in (tmp_path / "out").read_bytes(), 20, what="redis-cli to show it")
        finally:
            shown.kill()
            shown.wait()
