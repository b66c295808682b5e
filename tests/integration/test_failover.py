# SPDX-License-Identifier: BSD-3-Clause
"""FAILOVER: a primary hands its role to a replica; between this server, redis-server and valkey-server."""
import signal

import pytest

import harness
import replicas
from harness import digest
from replicas import Load, Replica
from resp import encode, run


def tls_of_a_replica(env):
    return {"tls-replication": "yes", "tls-client-cert-file": env.cert("client.crt"), "tls-client-key-file": env.cert("client.key")}


@pytest.fixture
def make_ours(make_server, transport, env):
    """A server of ours that replicates from another one, over the transport under test."""
    def make(primary=None, **directives):
        wanted = {"repl-diskless-sync-delay": "0", "repl-timeout": "20"}
        wanted.update({name.replace("_", "-"): value for name, value in directives.items()})
        if primary is not None:
            wanted["replicaof"] = ["127.0.0.1", str(primary.any_port())]
        if transport != "tcp":
            wanted.update(tls_of_a_replica(env))
        return make_server(directives=wanted)
    return make


def role(server):
    with server.connect() as conn:
        return conn.info("replication")


def wait_link(replica, timeout=60):
    harness.wait_for(lambda: role(replica).get("master_link_status") == "up", replica.env.timeout(timeout), 0.05, "link up")


def wait_online(primary, n=1):
    harness.wait_for(lambda: sum("state=online" in str(v) for k, v in role(primary).items() if k.startswith("slave")) >= n,
                     primary.env.timeout(60), 0.05, "replicas online")


def wait_role(server, name):
    harness.wait_for(lambda: role(server)["role"] == name, server.env.timeout(60), 0.05, "role " + name)


def wait_equal(a, b):
    def same():
        one, two = role(a), role(b)
        return one["master_repl_offset"] == two["master_repl_offset"] and digest(a) == digest(b)
    harness.wait_for(same, a.env.timeout(60), 0.2, "the same data")


def test_errors(make_ours):
    primary = make_ours()
    with primary.connect() as conn:
        run(conn, """
            FAILOVER ABORT => -ERR No failover in progress.
            FAILOVER => -ERR FAILOVER requires connected replicas.
            FAILOVER TIMEOUT 0 => -ERR FAILOVER timeout must be greater than 0
            FAILOVER TIMEOUT => -ERR syntax error
            FAILOVER TO x => -ERR syntax error
            FAILOVER ABORT TIMEOUT 1 => -ERR syntax error
        """)
        replica = make_ours(primary)
        wait_link(replica)
        wait_online(primary)
        run(conn, """
            FAILOVER TO 127.0.0.1 1 => -ERR FAILOVER target HOST and PORT is not a replica.
            FAILOVER FORCE => -ERR FAILOVER with force option requires both a timeout and target HOST and IP.
        """)
    with replica.connect() as conn:
        assert conn.err("FAILOVER") == "ERR FAILOVER is not valid when server is a replica."
    with primary.connect() as conn:
        conn.send(encode("PSYNC", "x" * 40, "1", "FAILOVER"))
        assert conn.read().render() == "-ERR PSYNC FAILOVER can't be sent to a master."


@pytest.mark.parametrize("named", [False, True])
def test_to_a_replica_of_ours_under_load(make_ours, named):
    primary = make_ours(repl_backlog_size="50mb")
    replica = make_ours(primary, repl_backlog_size="50mb")
    wait_link(replica)
    wait_online(primary)
    with primary.connect(timeout=60) as conn, primary.connect(timeout=60) as writer:
        with Load(primary, threads=1) as load:
            harness.wait_for(lambda: load.count > 500, primary.env.timeout(60), what="load")
            load.stopping.set()
        before = role(primary)
        target = ["TO", "127.0.0.1", str(replica.any_port())] if named else []
        assert conn.ok("FAILOVER", *target, "TIMEOUT", "60000") == "OK"
        writer.send(encode("SET", "late", "1"))  # waits for the end, and hears that it came too late
        wait_role(primary, "slave")
        assert writer.read().render().startswith("-READONLY")
        wait_role(replica, "master")
        wait_link(primary)
        after = role(replica)
        assert after["master_replid2"] == before["master_replid"] and role(primary)["master_failover_state"] == "no-failover"
        with replica.connect() as other:
            other.ok("SET", "new", "1")
        wait_equal(replica, primary)
    with primary.connect() as conn:
        assert int(conn.info("stats")["sync_full"]) == 1  # its replica's; itself it went on from where it was
    with replica.connect() as conn:
        assert int(conn.info("stats")["sync_partial_ok"]) == 1 and int(conn.info("stats")["sync_full"]) == 0


def test_abort_and_timeout(make_ours):
    primary = make_ours()
    replica = make_ours(primary)
    wait_link(replica)
    wait_online(primary)
    with primary.connect(timeout=60) as conn, primary.connect(timeout=60) as writer:
        replica.proc.send_signal(signal.SIGSTOP)
        try:
            conn.ok("SET", "k", "1")
            conn.ok("FAILOVER")
            assert conn.info("replication")["master_failover_state"] == "waiting-for-sync"
            assert conn.err("FAILOVER") == "ERR FAILOVER already in progress."
            writer.send(encode("SET", "k", "2"))
            assert writer.silent(0.3)
            assert conn.ok("GET", "k") in ("1", b"1")
            conn.ok("FAILOVER", "ABORT")
            assert writer.read().render() == "+OK"
            conn.ok("FAILOVER", "TIMEOUT", "200")
            writer.send(encode("SET", "k", "3"))
            assert writer.read().render() == "+OK"
            assert conn.info("replication")["master_failover_state"] == "no-failover"
        finally:
            replica.proc.send_signal(signal.SIGCONT)
        wait_equal(primary, replica)
    assert "FAILOVER requested to any replica." in primary.log()
    assert "FAILOVER to any replica aborted: Failover manually aborted" in primary.log()
    assert "FAILOVER to any replica aborted: Replica never caught up before timeout" in primary.log()


def test_replicaof_meanwhile_is_refused(make_ours):
    primary = make_ours()
    replica = make_ours(primary)
    wait_link(replica)
    wait_online(primary)
    replica.proc.send_signal(signal.SIGSTOP)
    target = ["TO", "127.0.0.1", str(replica.any_port())]
    with primary.connect(timeout=60) as conn, primary.connect(timeout=60) as writer:
        try:
            conn.ok("SET", "k", "1")
            conn.ok("FAILOVER", *target)
            for command in (("REPLICAOF", "127.0.0.1", "1"), ("SLAVEOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")):
                assert conn.err(*command) == "ERR REPLICAOF not allowed while failing over."
            assert conn.info("replication")["role"] == "master"
            writer.send(encode("SET", "k", "2"))
            assert writer.silent(0.3)
            conn.ok("FAILOVER", "ABORT")
            assert writer.read().render() == "+OK"
            # What is forced goes on without the replica, which does not answer yet: the second state.
            conn.ok("FAILOVER", *target, "FORCE", "TIMEOUT", "200")
            harness.wait_for(lambda: conn.info("replication")["master_failover_state"] == "failover-in-progress", 20, what="its turn")
            assert conn.err("REPLICAOF", "NO", "ONE") == "ERR REPLICAOF not allowed while failing over."
            conn.ok("FAILOVER", "ABORT")
            assert conn.ok("SET", "k", "3") == "OK" and conn.info("replication")["role"] == "master"
            conn.ok("REPLICAOF", "NO", "ONE")
        finally:
            replica.proc.send_signal(signal.SIGCONT)
        wait_link(replica)
        wait_equal(primary, replica)
    where = "127.0.0.1:" + target[2]
    assert "FAILOVER requested to %s." % where in primary.log()
    assert "FAILOVER to %s aborted: Failover manually aborted" % where in primary.log()
    assert "FAILOVER to %s time out exceeded, failing over." % where in primary.log()


@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_there_and_back_with_a_peer(make_ours, make_server, env, name):
    if not replicas.program(name):
        pytest.skip("no " + name)
    ours = make_ours(repl_backlog_size="10mb")
    extra = {"repl-backlog-size": "10mb"}
    if ours.use_tls:
        extra.update(tls_of_a_replica(env))
        extra.update({"tls-port": str(harness.free_port()), "tls-cert-file": env.cert("server.crt"), "tls-key-file": env.cert("server.key")})
    theirs = Replica(env, name, ours, directives=extra, start=False)
    make_server.track(theirs)
    theirs.start()
    theirs.wait_online()
    wait_online(ours)
    with ours.connect(timeout=60) as conn:
        conn.ok("SET", "k", "ours")
        conn.ok("FAILOVER", "TIMEOUT", "60000")
    wait_role(theirs, "master")
    wait_role(ours, "slave")
    wait_link(ours)
    with theirs.connect(timeout=60) as conn:
        conn.ok("SET", "k", "theirs")
        wait_equal(theirs, ours)
        wait_online(theirs)
        conn.ok("FAILOVER", "TIMEOUT", "60000")
    wait_role(ours, "master")
    wait_role(theirs, "slave")
    wait_link(theirs)
    with ours.connect() as conn:
        assert conn.ok("GET", "k") in ("theirs", b"theirs")
        conn.ok("SET", "k", "ours again")
    wait_equal(ours, theirs)


# ---- the end of a primary ----

@pytest.mark.parametrize("how", ["SHUTDOWN", "SIGTERM"])
def test_shutdown_waits_for_replicas(make_ours, how):
    primary = make_ours(shutdown_timeout="60")
    replica = make_ours(primary)
    wait_link(replica)
    wait_online(primary)
    with primary.connect(timeout=60) as conn, primary.connect(timeout=60) as other:
        replica.proc.send_signal(signal.SIGSTOP)
        conn.ok("SET", "k", "v")
        if how == "SHUTDOWN":
            conn.send(encode("SHUTDOWN"))
            primary.wait_log("Waiting for replicas before shutting down")
            assert other.ok("SHUTDOWN", "ABORT") == "OK"
            assert conn.read().render() == "-ERR Errors trying to SHUTDOWN. Check logs."
            assert other.ok("SET", "k", "w") == "OK" and "shutdown_in_milliseconds" not in other.info("server")
            conn.send(encode("SHUTDOWN"))
            harness.wait_for(lambda: primary.log().count("Waiting for replicas before shutting down") == 2, 20, what="the second wait")
        else:
            primary.proc.send_signal(signal.SIGTERM)
            primary.wait_log("Waiting for replicas before shutting down")
        assert 0 < int(other.info("server")["shutdown_in_milliseconds"]) <= 60000
        other.send(encode("SET", "late", "1"))
        assert other.silent(0.3)
        replica.proc.send_signal(signal.SIGCONT)
        assert primary.wait_exit(60) == 0
    with replica.connect() as conn:
        assert conn.ok("GET", "k") in ("v", b"v", "w", b"w")
    log = primary.log()
    assert "1 of 1 replicas are in sync when shutting down." in log
    assert log.rindex("User requested shutdown...") < log.rindex("Waiting for replicas before shutting down")
    assert log.count("User requested shutdown...") == log.count("Waiting for replicas before shutting down")


def test_shutdown_does_not_wait_for_ever(make_ours):
    primary = make_ours(shutdown_timeout="1")
    replica = make_ours(primary)
    wait_link(replica)
    wait_online(primary)
    replica.proc.send_signal(signal.SIGSTOP)
    try:
        with primary.connect(timeout=60) as conn:
            conn.ok("SET", "k", "v")
            primary.proc.send_signal(signal.SIGTERM)
            assert primary.wait_exit(60) == 0
        assert "Lagging replica 127.0.0.1" in primary.log() and "0 of 1 replicas are in sync" in primary.log()
    finally:
        replica.proc.send_signal(signal.SIGCONT)
