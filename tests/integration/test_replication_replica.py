# SPDX-License-Identifier: BSD-3-Clause
"""Kettle as a replica: of Debian's redis-server, of valkey-server and of itself; full and partial synchronizations, what a replica
refuses and shows, chains, changes of role, primaries that stall or talk nonsense."""
import glob
import os
import re
import socket
import threading
import time

import pytest

import harness
from harness import wait_for
from replication import (KINDS, FakePrimary, Load, digest, directives, fill, follow, link_is_up, peer_env, replication, settle, stats,
                         wait_link, wait_same)
from resp import ReplyError, encode

ID = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def make_peer(env, transport, make_server):
    """A server of a kind ("redis", "valkey", "kettle"), stopped at the end."""
    def factory(kind="kettle", **more):
        its = peer_env(env, kind)
        if its is None:
            pytest.skip("no %s-server" % kind)
        instance = harness.Server(its, transport, start=False, directives=directives(env, transport, **more), check_ktls=False)
        make_server.track(instance)
        instance.start()
        return instance
    return factory


def refused(conn, *command):
    reply = conn(*command)
    assert isinstance(reply, ReplyError), reply
    return str(reply)


# ---- full synchronizations ----

@pytest.mark.parametrize("diskless", ["yes", "no"])
@pytest.mark.parametrize("load", ["disabled", "on-empty-db", "swapdb"])
@pytest.mark.parametrize("kind", KINDS)
def test_full_synchronization_under_load(make_peer, kind, load, diskless):
    primary = make_peer(kind, repl_diskless_sync=diskless)
    replica = make_peer(repl_diskless_load=load)
    with primary.connect() as c:
        fill(c)
        fill(c, db=5)
        if kind != "redis":
            c.ok("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function{function_name='f', callback=function() return 7 end, "
                 "flags={'no-writes'}}")
    with replica.connect() as c:
        if load != "on-empty-db":
            c.ok("SET", "mine", "of old")
    with Load(primary):
        follow(replica, primary)
        wait_link(replica)
        time.sleep(0.3)
    wait_same(primary, replica)
    with replica.connect() as c:
        assert c.ok("EXISTS", "mine") == 0
        if kind != "redis":
            assert c.ok("FCALL", "f", "0") == 7
    assert int(stats(primary)["sync_full"]) == 1
    for line in ("Swapping active DB with loaded DB", "Discarding old DB in background"):
        assert ("MASTER <-> REPLICA sync: " + line in replica.log()) == (load == "swapdb")


@pytest.mark.parametrize("save", ["", "3600 1"])
def test_file_of_a_synchronization(make_peer, save):
    """rdb-del-sync-files: it goes when it has been read, where the server keeps no files of its own."""
    primary = make_peer("redis", repl_diskless_sync="no")
    replica = make_peer(rdb_del_sync_files="yes", save=save)
    with primary.connect() as c:
        fill(c)
    follow(replica, primary)
    wait_same(primary, replica)
    assert os.path.exists(os.path.join(replica.dir, "dump.rdb")) == bool(save)
    assert ("Removing the RDB file obtained from the master. This replica has persistence disabled" in replica.log()) != bool(save)


def test_file_of_a_synchronization_that_cannot_be_read(make_peer, env, transport):
    def script(link):
        link.handshake()
        link.send(b"+FULLRESYNC %s 1\r\n$20\r\n" % ID.encode() + b"y" * 20)
        link.wait_end()
    replica = make_peer(rdb_del_sync_files="yes")
    with FakePrimary(env, transport, script) as primary:
        follow(replica, primary)
        replica.wait_log("Failed trying to load the MASTER synchronization DB")
        replica.wait_log("Removing the RDB file obtained from the master")
        with replica.connect() as c:  # refused while the next attempt is loading
            wait_for(lambda: c("REPLICAOF", "NO", "ONE") == "OK", env.timeout(20), what="REPLICAOF to be taken")
        wait_for(lambda: not os.path.exists(os.path.join(replica.dir, "dump.rdb")), what="the file to be gone")


@pytest.mark.parametrize("load", ["disabled", "swapdb"])
def test_a_child_that_saves_is_ended_before_the_new_data(make_peer, env, load):
    """It would put the file of the data before over the one received, later."""
    primary = make_peer()
    replica = make_peer(repl_diskless_load=load, save="3600 1")
    with primary.connect() as c:
        c.ok("SET", "theirs", 1)
    with replica.connect() as c:
        c.ok("DEBUG", "POPULATE", 2000, "mine")
        c.ok("CONFIG", "SET", "rdb-key-save-delay", 100000)
        c.ok("BGSAVE")
        wait_for(lambda: glob.glob(os.path.join(replica.dir, "temp-*.rdb")), env.timeout(20), what="the temporary file")
        follow(replica, primary)
        wait_link(replica)
        info = c.info("persistence")
        assert info["rdb_bgsave_in_progress"] == "0" and info["rdb_last_bgsave_status"] == "ok"
        assert c.ok("KEYS", "*") == [b"theirs"]
    assert glob.glob(os.path.join(replica.dir, "temp-*.rdb")) == []
    said = re.search("Replica is about to load the RDB file received from the master, but there is a pending RDB child running. "
                     r"Killing process \d+ and removing its temp file to avoid any race", replica.log())
    assert bool(said) == (load == "disabled")
    if load == "disabled":
        replica.kill()
        replica.start()
        with replica.connect() as c:
            assert c.ok("KEYS", "*") == [b"theirs"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hundred_megabytes(make_peer):
    primary, replica = make_peer("redis"), make_peer()
    with primary.connect() as c:
        c.ok("DEBUG", "POPULATE", "1200", "key", "100000")
        c.ok("CONFIG", "SET", "rdbcompression", "no")
        c.ok("SET", "huge", b"0123456789abcdef" * (1 << 20))
    follow(replica, primary)
    wait_same(primary, replica, 240)


def test_replicaof_in_the_configuration(make_peer, env, transport):
    primary = make_peer("redis")
    with primary.connect() as c:
        fill(c)
    replica = make_peer(replicaof=[primary.host, str(primary.any_port())])
    wait_same(primary, replica)
    with replica.connect() as c:
        assert c.ok("CONFIG", "GET", "replicaof") == [b"replicaof", b"%s %d" % (primary.host.encode(), primary.any_port())]
        c.ok("REPLICAOF", "NO", "ONE")
        assert c.ok("CONFIG", "GET", "replicaof") == [b"replicaof", b""]


# ---- the stream ----

@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_stream_of_everything(make_peer, kind):
    primary, replica = make_peer(kind), make_peer()
    follow(replica, primary)
    wait_link(replica)
    with primary.connect() as c:
        fill(c)
        fill(c, db=7)
        c.ok("SWAPDB", "0", "7")
        c.ok("RENAME", "list", "list2")
        c.ok("COPY", "zset", "zset2")
        c.ok("MOVE", "hash", "9")
        c.ok("FLUSHDB")
        fill(c)
        c.ok("EVAL", "for i = 1, 100 do redis.call('SET', 'k' .. i, i) end", "0")
        c.ok("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function(k) return redis.call('INCR', k[1]) end)")
        c.ok("FCALL", "f", "1", "by-function")
    with Load(primary):
        time.sleep(0.5)
    wait_same(primary, replica)
    with replica.connect() as c:
        assert c.ok("FUNCTION", "LIST") != []


def test_debug_replicate_of_a_replica_sends_nothing(make_peer):
    """What its replicas get is the primary's stream."""
    primary, replica, below = make_peer(), make_peer(), make_peer()
    follow(replica, primary)
    wait_link(replica)
    follow(below, replica)
    wait_link(below)
    with primary.connect() as top, replica.connect() as c:
        c.ok("DEBUG", "REPLICATE", "SET", "k", "of the middle")
        top.ok("DEBUG", "REPLICATE", "SET", "k", "of the top")
        wait_for(lambda: replication(below)["slave_repl_offset"] == replication(primary)["master_repl_offset"], what="the stream")
        assert [top.ok("GET", "k"), c.ok("GET", "k")] == [None, b"of the top"]
    with below.connect() as c:
        assert c.ok("GET", "k") == b"of the top"


def test_large_values_in_the_stream(make_peer):
    primary, replica = make_peer("redis"), make_peer()
    follow(replica, primary)
    wait_link(replica)
    with primary.connect(timeout=120) as c:
        for i in range(4):
            c.ok("SET", "large:%d" % i, os.urandom(1 << 20) * (1 + i * 2))
            c.ok("APPEND", "large:%d" % i, b"tail")
        c.ok("RPUSH", "l", *[b"x" * 100000 for _ in range(30)])
    wait_same(primary, replica)


def test_transactions_are_whole(make_peer):
    """Both keys change in one transaction: a reader of the replica never sees them differ."""
    primary, replica = make_peer("redis"), make_peer(io_threads="2")
    follow(replica, primary)
    wait_link(replica)
    with primary.connect() as p, replica.connect() as r:
        for i in range(300):
            p.send(encode("MULTI") + encode("SET", "a", i) + encode("SET", "b", i) + encode("EXEC"))
            assert len(set(r.ok("MGET", "a", "b"))) == 1
        for _ in range(4 * 300):
            p.read()
    wait_same(primary, replica)


def test_events_messages_and_waiters(make_peer):
    primary, replica = make_peer("redis"), make_peer(notify_keyspace_events="KEA")
    follow(replica, primary)
    wait_link(replica)
    with primary.connect() as p, replica.connect() as sub, replica.connect() as reader, replica.connect() as watcher:
        sub.ok("SUBSCRIBE", "news")
        sub.send(encode("PSUBSCRIBE", "__key*__:*"))
        sub.read()
        p.ok("XADD", "s", "1-1", "a", "b")
        wait_for(lambda: watcher.ok("EXISTS", "s") == 1, what="the stream to come")
        reader.send(encode("XREAD", "BLOCK", "0", "STREAMS", "s", "1-1"))
        watcher.ok("WATCH", "w")
        p.ok("PUBLISH", "news", "hello")
        p.ok("SET", "w", "1")
        p.ok("XADD", "s", "1-2", "c", "d")
        assert b"1-2" in repr(reader.read().value).encode()
        watcher.ok("MULTI")
        watcher.ok("GET", "w")
        assert watcher.ok("EXEC") is None
        seen = b""
        while b"hello" not in seen or b"__keyevent@0__:set" not in seen:
            seen += repr(sub.read().render()).encode()


# ---- what a replica refuses ----

def test_read_only(make_peer):
    primary, replica = make_peer("redis"), make_peer()
    follow(replica, primary)
    wait_link(replica)
    text = "READONLY You can't write against a read only replica."
    with replica.connect() as c:
        assert refused(c, "SET", "a", "b") == text
        c.ok("MULTI")
        assert refused(c, "SET", "a", "b") == text
        assert refused(c, "EXEC").startswith("EXECABORT")
        assert "READONLY" in refused(c, "EVAL", "return redis.call('SET', 'a', 'b')", "0")
        assert refused(c, "EVAL", "#!lua\nreturn 1", "0") == "READONLY Can not run script with write flag on readonly replica."
        assert c.ok("EVAL", "#!lua flags=no-writes\nreturn redis.call('GET', 'a')", "0") is None
        c.ok("CONFIG", "SET", "replica-read-only", "no")
        c.ok("SET", "mine", "b")
        assert c.ok("GET", "mine") == b"b"
        c.ok("CONFIG", "SET", "replica-read-only", "yes")
        c.ok("REPLICAOF", "NO", "ONE")
        c.ok("SET", "a", "b")


@pytest.mark.parametrize("kind", ["redis", "kettle"])
def test_times_that_clients_set_on_a_writable_replica(make_peer, env, kind):
    """The replica deletes these keys itself; those whose time the primary has set wait for the primary."""
    primary, replica = make_peer("redis"), make_peer(kind, replica_read_only="no")
    with primary.connect() as top, replica.connect() as c:
        follow(replica, primary)
        wait_link(replica)
        top.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        top.ok("SET", "theirs", "1", "PX", "100")
        top.ok("SET", "both", "1")
        top.ok("SET", "lasting", "1", "EX", "10000")
        top.ok("WAIT", "1", "5000")
        c.ok("SET", "set", "1", "PX", "100")
        c.ok("SET", "moved", "1", "PX", "100")
        c.ok("RENAME", "moved", "to")
        c.ok("RPUSH", "list", "x")
        c.ok("PEXPIRE", "list", "100")
        c.ok("PEXPIRE", "both", "100")
        c.ok("EVAL", "redis.call('SET', KEYS[1], 1, 'PX', 100)", "1", "script")
        c.ok("SET", "mine", "1", "EX", "10000")
        c.ok("SET", "kept", "1", "PX", "100")
        c.ok("PERSIST", "kept")
        wait_for(lambda: c.ok("DBSIZE") == 4, env.timeout(20), what="the replica's own keys to be gone")
        assert c.ok("MGET", "theirs", "both", "lasting", "mine", "kept") == [None, None, b"1", b"1", b"1"]
        assert int(c.info("stats")["expired_keys"]) == 5
        wait_for(lambda: c.info("stats")["slave_expires_tracked_keys"] == "1", env.timeout(20), what="one of them to be left")
        assert top.info("stats")["slave_expires_tracked_keys"] == "0"
        if kind == "redis":
            return
        c.ok("SET", "both", "1", "PX", "100")  # a key of its own, until the stream says otherwise
        top.ok("SET", "both", "2", "PX", "100")
        top.ok("WAIT", "1", "5000")
        time.sleep(1)
        assert c.ok("GET", "both") is None and c.ok("DBSIZE") == 5
        c.ok("REPLICAOF", "NO", "ONE")
        wait_for(lambda: c.ok("DBSIZE") == 3, env.timeout(20), what="the others, which now are its own too")
        wait_for(lambda: c.info("stats")["slave_expires_tracked_keys"] == "0", env.timeout(20), what="a primary's figure")


def test_own_keys_of_a_writable_replica_end_in_its_file(make_peer, env):
    """The append-only file of a replica is told that they are gone."""
    primary = make_peer()
    replica = make_peer(replica_read_only="no", appendonly="yes", appendfsync="always", notify_keyspace_events="Ex")
    follow(replica, primary)
    wait_link(replica)
    with replica.connect() as c, replica.connect() as sub:
        wait_for(lambda: c.info("persistence")["aof_rewrite_in_progress"] == "0", env.timeout(20), what="the rewrite")
        sub.ok("SUBSCRIBE", "__keyevent@0__:expired")
        c.ok("SET", "mine", "1", "PX", "50")
        assert b"mine" in repr(sub.read().render()).encode()
        assert c.ok("DBSIZE") == 0

    def written():
        return b"".join(open(path, "rb").read() for path in glob.glob(os.path.join(replica.dir, "appendonlydir", "*.aof")))
    wait_for(lambda: encode("DEL", "mine") in written(), env.timeout(20), what="DEL")


def test_stale_data(make_peer):
    primary, replica = make_peer("redis"), make_peer()
    with primary.connect() as c:
        c.ok("SET", "a", "1")
    follow(replica, primary)
    wait_same(primary, replica)
    primary.expect_exit = -9
    primary.kill()
    wait_for(lambda: not link_is_up(replica), primary.env.timeout(20), what="the link to be down")
    with replica.connect() as c:
        assert c.ok("GET", "a") == b"1"
        c.ok("CONFIG", "SET", "replica-serve-stale-data", "no")
        text = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
        assert refused(c, "GET", "a") == text
        assert c.ok("ROLE")[0] == b"slave"
        assert "Can not execute the command on a stale replica" in refused(c, "EVAL", "return redis.call('GET', 'a')", "0")
        assert refused(c, "EVAL", "#!lua flags=no-writes\nreturn 1", "0").startswith("MASTERDOWN Link with MASTER is down, replica-")
        assert c.ok("EVAL", "#!lua flags=no-writes,allow-stale\nreturn 1", "0") == 1
        c.ok("REPLICAOF", "NO", "ONE")
        assert c.ok("GET", "a") == b"1"


def test_expired_keys_are_hidden_until_the_primary_deletes_them(make_peer):
    primary, replica = make_peer("redis"), make_peer()
    follow(replica, primary)
    wait_link(replica)
    with primary.connect() as p, replica.connect() as r:
        p.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        p.ok("SET", "k", "v", "PX", "100")
        p.ok("SET", "n", "5", "PX", "100")
        p.ok("SET", "stays", "v")
        wait_for(lambda: r.ok("DBSIZE") == 3, what="the keys to come")
        time.sleep(0.3)
        assert r.ok("GET", "k") is None
        assert r.ok("EXISTS", "k", "n") == 0
        assert r.ok("DBSIZE") == 3
        p.ok("PERSIST", "n")  # it deletes it there, and says so
        wait_for(lambda: r.ok("DBSIZE") == 2, what="DEL to come")
        assert p.ok("GET", "k") is None
        wait_for(lambda: r.ok("DBSIZE") == 1, what="DEL to come")
        assert int(r.info("stats")["expired_keys"]) == 0


def test_maxmemory_is_ignored(make_peer):
    primary, replica = make_peer("redis"), make_peer(maxmemory="10mb", maxmemory_policy="allkeys-lru")
    with primary.connect() as c:
        c.ok("DEBUG", "POPULATE", "300", "k", "100000")
    follow(replica, primary)
    wait_same(primary, replica)
    with replica.connect() as c:
        assert int(c.info("stats")["evicted_keys"]) == 0
        assert c.ok("DBSIZE") == 300


# ---- the link ----

@pytest.mark.parametrize("kind", KINDS)
def test_partial_synchronization_after_a_cut(make_peer, kind):
    primary, replica = make_peer(kind, repl_backlog_size="10mb"), make_peer()
    with primary.connect() as c:
        fill(c)
    follow(replica, primary)
    wait_link(replica)
    with Load(primary):
        for side, command in ((primary, ("CLIENT", "KILL", "TYPE", "replica")), (replica, ("CLIENT", "KILL", "TYPE", "master"))) * 2:
            time.sleep(0.2)
            with side.connect() as c:
                before = int(stats(primary)["sync_partial_ok"])
                assert c.ok(*command) == 1
            wait_for(lambda: int(stats(primary)["sync_partial_ok"]) > before, primary.env.timeout(20), what="a partial resync")
            wait_link(replica)
    wait_same(primary, replica)
    assert int(stats(primary)["sync_full"]) == 1
    assert "Successful partial resynchronization" in replica.log()


def test_sessions_are_resumed_on_reconnect(make_peer, transport):
    if transport == "tcp":
        pytest.skip("TLS only")
    primary, replica = make_peer(), make_peer()
    follow(replica, primary)
    wait_link(replica)
    with replica.connect() as c:
        assert c.ok("CLIENT", "KILL", "TYPE", "master") == 1
    wait_for(lambda: int(stats(primary)["sync_partial_ok"]) == 1, primary.env.timeout(20), what="a partial resync")
    with primary.connect() as c:
        line = [line for line in c.ok("CLIENT", "LIST", "TYPE", "replica").decode().splitlines() if line]
        assert len(line) == 1
        assert int(c.info("tls").get("tls_handshakes_resumed", "1")) >= 1


def test_roles_and_figures(make_peer):
    primary, replica = make_peer("redis"), make_peer(replica_announce_ip="127.0.0.2", replica_announce_port="7777",
                                                      replica_priority="42", replica_announced="no")
    follow(replica, primary)
    wait_link(replica)
    with primary.connect() as c:
        c.ok("SET", "a", "1")
        assert c.ok("WAIT", "1", "5000") == 1
        line = c.info("replication")["slave0"]
        assert line.startswith("ip=127.0.0.2,port=7777,state=online"), line
    wait_same(primary, replica)
    info = replication(replica)
    assert (info["role"], info["master_host"], int(info["master_port"])) == ("slave", primary.host, primary.any_port())
    assert info["replica_announced"] == "0"  # Sentinel leaves it out; the primary shows it all the same
    assert info["slave_priority"] == "42" and info["slave_read_only"] == "1" and info["master_sync_in_progress"] == "0"
    assert info["master_replid"] == replication(primary)["master_replid"]
    for proto in (2, 3):
        with primary.connect() as one, replica.connect() as other:
            shown = [{k.py: v.py for k, v in n.value} if n.kind == "%" else dict(zip(*[iter(x.py for x in n.value)] * 2))
                     for n in (one.node("HELLO", str(proto)), other.node("HELLO", str(proto)))]
            assert [s[b"role"] for s in shown] == [b"master", b"replica"]
    with replica.connect() as c:
        role = c.ok("ROLE")
        assert role[:4] == [b"slave", primary.host.encode(), primary.any_port(), b"connected"]
        assert role[4] == int(info["slave_repl_offset"])
        lines = c.ok("CLIENT", "LIST").decode().splitlines()
        assert sum(" flags=M " in line for line in lines) == 1
        assert c.ok("REPLICAOF", primary.host, str(primary.any_port())) == "OK Already connected to specified master"
        c.ok("REPLICAOF", "NO", "ONE")
        assert c.ok("HELLO", "2")[11] == b"master"


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_figures_of_what_replication_sends(make_peer, env, diskless):
    primary, replica = make_peer(repl_diskless_sync=diskless), make_peer()
    with primary.connect() as top, replica.connect() as c:
        top.ok("SET", "big", os.urandom(1000000))
        before = top.info("clients")["connected_clients"]
        follow(replica, primary)
        wait_same(primary, replica)
        wait_for(lambda: top.info("clients")["connected_clients"] == before, env.timeout(20), what="the others to be gone")
        assert top.info("replication")["connected_slaves"] == "1"
        out, come = int(top.info("stats")["total_net_repl_output_bytes"]), int(c.info("stats")["total_net_repl_input_bytes"])
        assert 1000000 < out < 1100000 and 1000000 < come < 1100000, (out, come)
        assert int(c.info("stats")["total_net_input_bytes"]) > come
        value = os.urandom(300000)

        def rates():
            top.ok("SET", "big", value)
            return (float(top.info("stats")["instantaneous_output_repl_kbps"]),
                    float(c.info("stats")["instantaneous_input_repl_kbps"]))
        wait_for(lambda: min(rates()) > 0, env.timeout(30), step=0.1, what="both rates to show")
        wait_same(primary, replica)
        sent, taken = int(top.info("stats")["total_net_repl_output_bytes"]), int(c.info("stats")["total_net_repl_input_bytes"])
        assert sent >= out + 300000 and taken >= come + 300000
        assert top.info("stats")["total_net_repl_input_bytes"] == c.info("stats")["total_net_repl_output_bytes"] == "0"
        top.ok("CONFIG", "RESETSTAT")
        c.ok("CONFIG", "RESETSTAT")
        assert int(top.info("stats")["total_net_repl_output_bytes"]) < 100000
        assert int(c.info("stats")["total_net_repl_input_bytes"]) < 100000


def test_getack_is_answered_at_once(make_peer):
    primary, replica = make_peer("redis"), make_peer()
    follow(replica, primary)
    wait_link(replica)
    with primary.connect() as c:
        c.ok("SET", "warm", "up")
        c.ok("WAIT", "1", "5000")
        for i in range(20):
            c.ok("SET", "k", str(i))
            assert c.ok("WAIT", "1", "20000") == 1


@pytest.mark.parametrize("kind", ["valkey", "kettle"])  # redis-server 7.0 knows no WAITAOF
def test_what_a_replica_has_synced_is_acknowledged(make_peer, kind):
    primary, replica = make_peer(kind), make_peer(appendonly="yes", appendfsync="everysec")
    follow(replica, primary)
    wait_link(replica)
    with primary.connect(timeout=60) as c, replica.connect() as other:
        for i in range(3):
            c.ok("SET", "k", str(i))
            assert c.ok("WAITAOF", "0", "1", "30000") == [0, 1]
        # Without its append-only file the replica has nothing on the disk, and does not say so.
        other.ok("CONFIG", "SET", "appendonly", "no")
        c.ok("SET", "k", "last")
        assert c.ok("WAIT", "1", "20000") == 1
        assert c.ok("WAITAOF", "0", "1", "300") == [0, 0]


def test_auth(make_peer):
    primary = make_peer("redis", requirepass="secret")
    primary.password = "secret"
    replica = make_peer(masterauth="wrong")
    with primary.connect() as c:
        c.ok("SET", "a", "1")
        c.ok("ACL", "SETUSER", "repl", "on", ">other", "+psync", "+replconf", "+ping")
    follow(replica, primary)
    replica.wait_log("Unable to AUTH to MASTER")
    with replica.connect() as c:
        c.ok("CONFIG", "SET", "masterauth", "secret")
    wait_same(primary, replica)
    with replica.connect() as c:
        c.ok("REPLICAOF", "NO", "ONE")
        c.ok("CONFIG", "SET", "masteruser", "repl", "masterauth", "other")
    follow(replica, primary)
    wait_same(primary, replica)


def test_role_changes_end_waits(make_peer):
    primary, replica = make_peer("redis"), make_peer()
    with replica.connect() as waiting:
        waiting.send(encode("BLPOP", "l", "0"))
        wait_for(lambda: int(stats_clients(replica)["blocked_clients"]) == 1, what="it to block")
        follow(replica, primary)
        assert waiting.read().render().startswith("-UNBLOCKED force unblock from blocking operation")
        with pytest.raises((EOFError, OSError)):
            waiting.read()


def stats_clients(server):
    with server.connect() as c:
        return c.info("clients")


# ---- failover and chains ----

def test_partial_synchronization_after_failover(make_peer):
    """A is the primary of B and C; B is promoted: C and A go on from where they are, without a full synchronization."""
    quiet = {"repl_ping_replica_period": "3600", "repl_timeout": "600"}  # a PING of A's after the promotion would be news to B
    a, b, third = make_peer(repl_backlog_size="10mb", **quiet), make_peer(repl_backlog_size="10mb"), make_peer()
    with a.connect() as c:
        fill(c)
    for replica in (b, third):
        follow(replica, a)
        wait_link(replica)
    with Load(a):
        time.sleep(0.3)
    settle(a)
    for replica in (b, third):
        wait_same(a, replica)
    old = replication(a)["master_replid"]
    with b.connect() as c:
        c.ok("REPLICAOF", "NO", "ONE")
        c.ok("SET", "after", "promotion")
    info = replication(b)
    assert info["master_replid2"] == old and info["master_replid"] != old
    assert int(info["second_repl_offset"]) == int(replication(a)["master_repl_offset"]) + 1
    for replica in (third, a):
        follow(replica, b)
        wait_same(b, replica)
    assert int(stats(b)["sync_full"]) == 0
    assert int(stats(b)["sync_partial_ok"]) == 2
    assert replication(third)["master_replid"] == replication(b)["master_replid"]


def restart(server):
    """The same process again, on the same ports and with the same files."""
    server.proc.terminate()
    assert server.wait_exit() == 0
    server.spawn()
    server.wait_ready()


@pytest.mark.parametrize("kind", ["redis", "kettle"])
def test_partial_synchronization_after_a_restart(make_peer, kind):
    """The RDB says where in the stream it was written."""
    primary = make_peer(kind, repl_backlog_size="10mb")
    replica = make_peer(replicaof=[primary.host, str(primary.any_port())], save=["3600", "1"])
    with primary.connect() as c:
        fill(c)
        fill(c, db=4)
        c.ok("SELECT", "4")
        c.ok("SET", "last", "in the fourth database")
    wait_same(primary, replica)
    before = int(stats(primary)["sync_full"])
    with replica.connect() as c:
        c.ok("SAVE")
    restart(replica)
    with primary.connect() as c:
        c.ok("SELECT", "4")
        c.ok("APPEND", "last", ", and so is this")
    wait_same(primary, replica)
    assert int(stats(primary)["sync_full"]) == before
    assert int(stats(primary)["sync_partial_ok"]) == 1
    with replica.connect() as c:
        c.ok("SELECT", "4")
        assert c.ok("GET", "last") == b"in the fourth database, and so is this"


def test_append_only_file_of_a_replica(make_peer):
    """It holds what came by the full synchronization and by the stream, and nothing of before."""
    primary = make_peer("redis")
    replica = make_peer(appendonly="yes", appendfsync="always")
    with replica.connect() as c:
        c.ok("SET", "mine", "of old")
    with primary.connect() as c:
        fill(c)
    follow(replica, primary)
    wait_link(replica)
    with Load(primary):
        time.sleep(0.5)
    wait_same(primary, replica)
    with replica.connect() as c:
        wait_for(lambda: c.info("persistence")["aof_rewrite_in_progress"] == "0" and
                 c.info("persistence")["aof_rewrite_scheduled"] == "0", replica.env.timeout(30), what="the rewrite to end")
    with primary.connect() as c:
        c.ok("SET", "after", "the rewrite")
    wait_same(primary, replica)
    had = digest(replica)
    primary.expect_exit = -9
    primary.kill()
    restart(replica)
    assert digest(replica) == had


@pytest.mark.parametrize("kind", ["redis", "kettle"])
def test_chain(make_peer, kind):
    top, middle, low = make_peer(kind), make_peer(), make_peer(kind)
    with top.connect() as c:
        fill(c)
    follow(middle, top)
    wait_link(middle)
    follow(low, middle)
    wait_link(low)
    with Load(top):
        time.sleep(0.5)
        with middle.connect() as c:
            c.ok("CLIENT", "KILL", "TYPE", "master")
        time.sleep(0.5)
    wait_same(top, middle)
    wait_for(lambda: digest(top) == digest(low), top.env.timeout(60), what="the end of the chain to be the same")
    assert replication(low)["master_replid"] == replication(top)["master_replid"]
    assert replication(low)["slave_repl_offset"] == replication(top)["master_repl_offset"]
    with middle.connect() as c:
        c.ok("REPLICAOF", "NO", "ONE")
        c.ok("SET", "of", "its own")
    wait_same(middle, low)
    assert int(stats(middle)["sync_full"]) == 1


@pytest.mark.parametrize("load", ["disabled", "swapdb"])
def test_full_synchronization_in_the_middle_of_a_chain(make_peer, load):
    """The middle follows another primary: its own replica has to begin anew as well."""
    one, two, middle, low = make_peer("redis"), make_peer("redis"), make_peer(repl_diskless_load=load), make_peer()
    with one.connect() as c:
        fill(c)
    with two.connect() as c:
        c.ok("SET", "of", "the other")
    follow(middle, one)
    wait_link(middle)
    follow(low, middle)
    wait_link(low)
    with Load(two):
        follow(middle, two)
        wait_for(lambda: replication(middle)["master_replid"] == replication(two)["master_replid"], middle.env.timeout(60),
                 what="the middle to follow the other one")
        time.sleep(0.3)
    wait_same(two, middle)
    wait_for(lambda: digest(two) == digest(low), two.env.timeout(60), what="the end of the chain to be the same")


def test_promoted_while_it_applies(make_peer):
    """Promotion in the middle of a stream: what is in the data is in the history, and the other way round."""
    top, middle, low = make_peer(), make_peer(io_threads="2"), make_peer()
    follow(middle, top)
    wait_link(middle)
    follow(low, middle)
    wait_link(low)
    with Load(top):
        time.sleep(0.5)
        with middle.connect() as c:
            c.ok("REPLICAOF", "NO", "ONE")
    wait_same(middle, low)
    assert int(stats(middle)["sync_full"]) == 1


# ---- primaries that are none ----

def send_stalled(link):
    link.handshake()
    link.send(b"+FULLRESYNC %s 1\r\n" % ID.encode())
    link.send(b"$100000\r\nREDIS0011")
    link.primary.stalled = time.monotonic()
    link.wait_end()


def test_a_primary_that_stalls(make_peer, env, transport):
    replica = make_peer(repl_timeout="2")
    with FakePrimary(env, transport, send_stalled) as primary:
        follow(replica, primary)
        replica.wait_log("Timeout receiving bulk data from MASTER")
        took = time.monotonic() - primary.stalled
        assert 1.9 <= took <= 2 + env.timeout(15), took
        replica.wait_log("Reconnecting to MASTER 127.0.0.1:%d after failure" % primary.any_port())
        with replica.connect() as c:
            c.ok("PING")
            c.ok("REPLICAOF", "NO", "ONE")


GARBAGE = {
    "at-once": (None, b"HTTP/1.1 400 Bad Request\r\n\r\n", "Error reply to PING"),
    "no-line": (None, b"x" * 100000, "the reply is too long"),
    "id": ("psync", b"+FULLRESYNC abc 1\r\n", "Unexpected reply to PSYNC"),
    "offset": ("psync", b"+FULLRESYNC %s -5\r\n" % ID.encode(), "Unexpected reply to PSYNC"),
    "continue-unasked": ("psync", b"+CONTINUE abcdef\r\n", "Unexpected reply to PSYNC"),
    "error": ("psync", b"-ERR unknown command 'PSYNC'\r\n-ERR unknown command 'SYNC'\r\n", "Master does not support PSYNC"),
    "bulk": ("rdb", b"+OK\r\n", "the first byte is not '\\$'"),
    "length": ("rdb", b"$99999999999999999999\r\n", "the first byte is not '\\$'"),
    "mark": ("rdb", b"$EOF:short\r\n", "the first byte is not '\\$'"),
    "aborted": ("rdb", b"-ERR no\r\n", "MASTER aborted replication with an error: ERR no"),
    "no-rdb": ("rdb", b"$20\r\n" + b"y" * 20, "Failed trying to load the MASTER synchronization DB"),
    "cut": ("rdb", b"$1000\r\nREDIS0011", "I/O error trying to sync with MASTER"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name,load", [(name, "disabled") for name in sorted(GARBAGE)] +
                         [(name, "swapdb") for name in sorted(GARBAGE) if GARBAGE[name][0] == "rdb"])
def test_a_primary_that_talks_nonsense(make_peer, env, transport, name, load):
    stage, data, wanted = GARBAGE[name]

    def script(link):
        if stage:
            link.handshake()
        if stage == "rdb":
            link.send(b"+FULLRESYNC %s 1\r\n" % ID.encode())
        link.send(data)
        if name == "cut":
            return
        link.wait_end()
    replica = make_peer(repl_diskless_load=load)
    with replica.connect() as c:
        c.ok("SET", "mine", "1")
    with FakePrimary(env, transport, script) as primary:
        follow(replica, primary)
        replica.wait_log(wanted)
        wait_for(lambda: primary.served >= 2, env.timeout(20), what="another attempt")
        with replica.connect() as c:
            if load == "swapdb":
                wait_for(lambda: c("GET", "mine") == b"1", env.timeout(20), what="the old data, between attempts")
            c.ok("REPLICAOF", "NO", "ONE")
    if load == "swapdb" and name == "no-rdb":
        assert "MASTER <-> REPLICA sync: Discarding temporary DB in background" in replica.log()


EMPTY_RDB = b"REDIS0009\xff" + b"\0" * 8


@pytest.mark.slow
@pytest.mark.parametrize("error", ["-ERR unknown command 'PSYNC'", "-NOPERM this user may not"])
def test_a_primary_that_knows_only_sync(make_peer, env, transport, error):
    """Full each time, without acknowledgements; replicas of this server go on by a history that is its own."""
    said, more, go_on = [], [], threading.Event()

    def script(link):
        asked = link.handshake()
        link.send(error.encode() + b"\r\n")
        said.append((asked, link.line()))
        link.send(b"\n$%d\r\n" % len(EMPTY_RDB) + EMPTY_RDB)
        link.send(encode("SELECT", "0") + encode("SET", "n", str(link.primary.served)) + encode("PING"))
        if link.primary.served == 1:
            time.sleep(2.5)  # more than two turns of acknowledging
            link.sock.settimeout(0.1)
            try:
                more.append(link.sock.recv(1000))
            except TimeoutError:
                more.append(b"")
            go_on.wait(60)
            return
        link.wait_end()
    replica, below = make_peer(), make_peer()
    with FakePrimary(env, transport, script) as primary:
        follow(replica, primary)
        follow(below, replica)
        with below.connect() as c:
            wait_for(lambda: c("GET", "n") == b"1", env.timeout(30), what="the stream")
            go_on.set()
            wait_for(lambda: c("GET", "n") == b"2", env.timeout(30), what="the second connection's stream")
        log = replica.log()
        assert ("Master does not support PSYNC or is in error state (reply: " if "ERR" in error
                else "Unexpected reply to PSYNC from master: ") + error in log
        assert "Retrying with SYNC..." in log and "Finished with success" in log
        assert [line for _, line in said] == [b"SYNC"] * 2
        assert said[1][0] == ["PSYNC", "?", "-1"]
        assert more[0].strip(b"\n") == b""
        here = replication(replica)
        assert here["master_link_status"] == "up" and here["slave_repl_offset"] == replication(below)["slave_repl_offset"]
        with replica.connect() as c:
            c.ok("REPLICAOF", "NO", "ONE")
            c.ok("SET", "n", "3")
        wait_same(replica, below)
        assert int(stats(replica)["sync_partial_ok"]) == 1


def test_error_to_sync_leaves_the_history_alone(make_peer, env, transport):
    """PSYNC and then SYNC are refused: the next attempt asks to go on as before."""
    asked = []

    def script(link):
        asked.append(link.handshake())
        if link.primary.served == 1:
            link.send(b"+FULLRESYNC %s 0\r\n$%d\r\n" % (ID.encode(), len(EMPTY_RDB)) + EMPTY_RDB + encode("SET", "a", "1"))
            link.command()
        elif link.primary.served == 2:
            link.send(b"-ERR not now\r\n")
            assert link.line() == b"SYNC"
            link.send(b"-ERR not now either\r\n")
            link.wait_end()
        else:
            link.send(b"+CONTINUE\r\n" + encode("SET", "b", "2"))
            link.wait_end()
    replica = make_peer()
    with FakePrimary(env, transport, script) as primary:
        follow(replica, primary)
        with replica.connect() as c:
            wait_for(lambda: c("MGET", "a", "b") == [b"1", b"2"], env.timeout(30), what="the stream")
            assert "MASTER aborted replication with an error: ERR not now either" in replica.log()
            assert asked[1] == asked[2] and asked[1][:2] == ["PSYNC", ID]
            c.ok("REPLICAOF", "NO", "ONE")


def test_a_stream_of_nonsense(make_peer, env, transport):
    """A protocol error ends the link; a command that fails is told to the log."""
    streams = [encode("SET", "a", "1") + encode("NOSUCH", "x") + encode("SET", "b", "2") + b"*1\r\n!bad\r\n",
               b"*100000000\r\n", b"$5\r\nxx"]

    def script(link):
        words = link.handshake()
        at = link.primary.served - 1
        if words[1] == ID:
            link.send(b"+CONTINUE\r\n")
        else:
            link.send(b"+FULLRESYNC %s 0\r\n$%d\r\n" % (ID.encode(), len(EMPTY_RDB)) + EMPTY_RDB)
        link.send(streams[at % len(streams)])
        link.wait_end()
    replica = make_peer()
    with FakePrimary(env, transport, script) as primary:
        follow(replica, primary)
        replica.wait_log("Protocol error")
        with replica.connect() as c:
            assert c.ok("MGET", "a", "b") == [b"1", b"2"]
            assert "== CRITICAL ==" in replica.log()
            assert int(c.info("stats")["unexpected_error_replies"]) >= 1
            c.ok("CONFIG", "RESETSTAT")
            assert c.info("stats")["unexpected_error_replies"] == "0"
            assert int(c.info("replication")["slave_repl_offset"]) == len(
                encode("SET", "a", "1") + encode("NOSUCH", "x") + encode("SET", "b", "2"))
            c.ok("REPLICAOF", "NO", "ONE")


def test_a_script_in_the_stream_that_takes_long(make_peer, env, transport):
    """Old primaries send scripts. The stream waits for its own script, and for one of a client's; nothing is lost or counted twice."""
    slow = encode("EVAL", "local n = 0 for i = 1, tonumber(ARGV[1]) do n = n + i % 7 end redis.call('SET', KEYS[1], n) return n", "1",
                  "slow", "40000000")
    stream = encode("SET", "a", "1") + slow + encode("SET", "b", "2") + encode("MULTI") + encode("SET", "c", "3") + encode("EXEC")

    def script(link):
        link.handshake()
        link.send(b"+FULLRESYNC %s 0\r\n$%d\r\n" % (ID.encode(), len(EMPTY_RDB)) + EMPTY_RDB)
        link.send(stream)
        link.wait_end()
    replica = make_peer(busy_reply_threshold="20")
    with FakePrimary(env, transport, script) as primary:
        follow(replica, primary)
        with replica.connect() as c:
            wait_for(lambda: c("MGET", "a", "b", "c") == [b"1", b"2", b"3"], env.timeout(60), what="all of it")
            assert int(c.ok("GET", "slow")) > 0
            assert int(c.info("replication")["slave_repl_offset"]) == len(stream)
            assert int(c.info("replication")["repl_backlog_histlen"]) == len(stream)
            c.ok("REPLICAOF", "NO", "ONE")


def test_half_a_transaction_is_asked_for_again(make_peer, env, transport):
    """The link is cut in the middle of MULTI: nothing of it is applied, and PSYNC asks for it from MULTI on."""
    first = encode("SET", "a", "1")
    asked = []

    def script(link):
        words = link.handshake()
        asked.append(words)
        if link.primary.served == 1:
            link.send(b"+FULLRESYNC %s 0\r\n$%d\r\n" % (ID.encode(), len(EMPTY_RDB)) + EMPTY_RDB)
            link.send(first + encode("MULTI") + encode("SET", "b", "1") + encode("SET", "c", "1"))
            wait_for(lambda: link.command()[:2] == ["REPLCONF", "ACK"], what="an acknowledgement")
            link.command()
            return
        link.send(b"+CONTINUE\r\n" + encode("MULTI") + encode("SET", "b", "1") + encode("SET", "c", "1") + encode("EXEC"))
        link.wait_end()
    replica = make_peer()
    with FakePrimary(env, transport, script) as primary:
        follow(replica, primary)
        with replica.connect() as c:
            wait_for(lambda: c("MGET", "a", "b", "c") == [b"1", b"1", b"1"], env.timeout(20), what="the transaction")
            assert asked[1] == ["PSYNC", ID, str(len(first) + 1)]
            c.ok("REPLICAOF", "NO", "ONE")


def test_silence_ends_the_link(make_peer, env, transport):
    def script(link):
        link.handshake()
        link.send(b"+FULLRESYNC %s 0\r\n$%d\r\n" % (ID.encode(), len(EMPTY_RDB)) + EMPTY_RDB)
        link.wait_end()
    replica = make_peer(repl_timeout="2")
    with FakePrimary(env, transport, script) as primary:
        follow(replica, primary)
        wait_link(replica)
        replica.wait_log("MASTER timeout: no data nor PING received")
        with replica.connect() as c:
            c.ok("REPLICAOF", "NO", "ONE")


def test_giving_up_does_not_wait(make_peer, env, transport):
    """REPLICAOF NO ONE, or the end of the process, in the middle of a transfer."""
    replica, other = make_peer(), make_peer()
    with FakePrimary(env, transport, send_stalled) as primary:
        for server in (replica, other):
            follow(server, primary)
            server.wait_log("receiving 100000 bytes from master")
            begin = time.monotonic()
            if server is replica:
                with replica.connect() as c:
                    c.ok("REPLICAOF", "NO", "ONE")
                    c.ok("SET", "a", "1")
            else:
                server.proc.terminate()
                server.wait_exit()
            assert time.monotonic() - begin < env.timeout(30)


class Unreachable:
    """A port whose SYNs are dropped, since nobody accepts what has come before: who connects waits."""

    def __enter__(self):
        self.host = "127.0.0.1"
        self.listener = socket.socket()
        self.listener.bind((self.host, 0))
        self.listener.listen(0)
        self.port = self.listener.getsockname()[1]
        self.socks = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((self.host, self.port))
            self.socks.append(sock)
        return self

    def __exit__(self, *exc):
        for sock in self.socks + [self.listener]:
            sock.close()

    def any_port(self):
        return self.port


@pytest.mark.parametrize("given_up", [False, True])
def test_end_while_the_primary_is_being_connected_to(make_peer, env, given_up):
    """Nothing wakes that thread: the process ends without it, with its files written."""
    replica = make_peer(save="3600 1", appendonly="yes", pidfile="kettle.pid")
    with replica.connect() as c, Unreachable() as primary:
        c.ok("SET", "mine", "1")
        follow(replica, primary)
        replica.wait_log("MASTER <-> REPLICA sync started")
        wait_for(lambda: c.ok("ROLE")[3] in (b"connecting", "connecting"), what="an attempt")
        if given_up:
            c.ok("REPLICAOF", "NO", "ONE")
        begin = time.monotonic()
        replica.proc.terminate()
        assert replica.wait_exit() == 0
        assert time.monotonic() - begin < env.timeout(12)
    assert "Exiting without it" in replica.log() and "bye bye" in replica.log()
    assert not os.path.exists(os.path.join(replica.dir, "kettle.pid"))
    assert os.path.exists(os.path.join(replica.dir, "dump.rdb"))
    replica.spawn()
    replica.wait_ready()
    with replica.connect() as c:
        assert c.ok("GET", "mine") == b"1"
