# SPDX-License-Identifier: BSD-3-Clause
"""Directives about the process and its threads: processors, the out-of-memory killer's score, huge pages, socket marks, panics."""
import glob
import os
import re
import signal
import socket

import pytest

import harness
from test_config import refused

SO_MARK = 36


def read(path):
    with open(path) as handle:
        return handle.read()


def score(pid):
    return int(read("/proc/%d/oom_score_adj" % pid))


def child_of(pid):
    for path in glob.glob("/proc/[0-9]*/stat"):
        try:
            if int(read(path).rsplit(")", 1)[1].split()[1]) == pid:
                return int(path.split("/")[2])
        except (OSError, ValueError):
            continue
    return None


def slow_child(server, conn, command):
    """Its pid, while it writes."""
    conn.ok("CONFIG", "SET", "rdb-key-save-delay", "100000")
    for i in range(100):
        conn.ok("SET", "k%d" % i, "v")
    conn.ok(command)
    return harness.wait_for(lambda: child_of(server.proc.pid), server.env.timeout(20), what="a child")


def end_child(server, conn, pid):
    os.kill(pid, signal.SIGUSR1)
    harness.wait_for(lambda: child_of(server.proc.pid) is None, server.env.timeout(20), what="the child's end")


# ---- oom-score-adj ----

@pytest.fixture
def base():
    mine = score(os.getpid())
    if mine > 900:
        pytest.skip("this process has a high oom_score_adj already")
    return mine


def test_oom_score_follows_role_and_child(make_server, base):
    server = make_server(directives={"oom-score-adj": "relative", "oom-score-adj-values": ["10", "20", "30"]})
    pid = server.proc.pid
    with server.connect() as conn:
        assert score(pid) == base + 10
        assert conn.ok("CONFIG", "GET", "oom-score-adj")[1] == b"yes"  # redis-server shows the first name of the value
        child = slow_child(server, conn, "BGSAVE")
        harness.wait_for(lambda: score(child) == base + 30, server.env.timeout(10), what="the child's score")
        end_child(server, conn, child)
        conn.ok("REPLICAOF", "127.0.0.1", "1")
        assert score(pid) == base + 20
        conn.ok("REPLICAOF", "NO", "ONE")
        assert score(pid) == base + 10
        conn.ok("CONFIG", "SET", "oom-score-adj-values", "15 20 30")
        assert score(pid) == base + 15
        conn.ok("CONFIG", "SET", "oom-score-adj", "absolute", "oom-score-adj-values", "%d 500 600" % (base + 100))
        assert score(pid) == base + 100
        conn.ok("CONFIG", "SET", "oom-score-adj", "no")
        assert score(pid) == base
        conn.ok("CONFIG", "SET", "oom-score-adj-values", "400 500 600")
        assert score(pid) == base


def test_oom_score_that_is_not_allowed(make_server, base):
    server = make_server()
    with server.connect() as conn:
        conn.ok("CONFIG", "SET", "oom-score-adj", "absolute", "oom-score-adj-values", "%d 500 600" % (base + 50))
        reply = conn("CONFIG", "SET", "oom-score-adj-values", "-1500 500 600")
        if reply == "OK":  # privileged
            assert score(server.proc.pid) == -1000
            return
        assert str(reply) == "ERR CONFIG SET failed (possibly related to argument 'oom-score-adj-values') - " \
            "Failed to set current oom_score_adj. Check server logs."
        assert score(server.proc.pid) == base + 50 and "Unable to write oom_score_adj" in server.log()
        assert conn.ok("CONFIG", "GET", "oom-score-adj-values")[1].decode() == "%d 500 600" % (base + 50)
        conn.ok("CONFIG", "SET", "oom-score-adj-values", "%d 50 60" % (base + 100))
        assert "oom-score-adj-values: " in server.log()  # a replica's is lower than a primary's


# ---- processors ----

def threads(pid):
    """{name: processors of each}."""
    out = {}
    for path in glob.glob("/proc/%d/task/*/comm" % pid):
        tid = int(path.split("/")[4])
        try:
            out.setdefault(read(path).strip(), []).append(os.sched_getaffinity(tid))
        except OSError:
            continue
    return out


def test_threads_and_children_run_where_they_are_told(make_server, env):
    cpus = sorted(os.sched_getaffinity(0))
    serving, other = cpus[0], cpus[-1]
    server = make_server(directives={"server_cpulist": str(serving), "bio_cpulist": "%d-%d:1" % (other, other),
                                     "bgsave_cpulist": str(other), "aof_rewrite_cpulist": str(other), "io-threads": "3",
                                     "appendonly": "yes", "auto-aof-rewrite-percentage": "0", "lazyfree-lazy-user-del": "yes"})
    pid = server.proc.pid
    with server.connect() as conn:
        assert conn.ok("CONFIG", "GET", "server_cpulist")[1].decode() == str(serving)
        assert "immutable" in conn.err("CONFIG", "SET", "server-cpulist", "0")
        conn.ok("SADD", "set", *range(1000))
        conn.ok("DEL", "set")
        harness.wait_for(lambda: "kettle-lazyfree" in threads(pid), env.timeout(10), what="the thread that frees")
        harness.wait_for(lambda: threads(pid)["kettle-lazyfree"] == [{other}], env.timeout(10), what="its processors")
        found = threads(pid)
        assert found["aof"] == [{other}] and os.sched_getaffinity(pid) == {serving}
        assert found["io_thd_1"] == [{serving}] and found["io_thd_2"] == [{serving}]
        for command in ("BGSAVE", "BGREWRITEAOF"):
            child = slow_child(server, conn, command)
            harness.wait_for(lambda: os.sched_getaffinity(child) == {other}, env.timeout(10), what="the child's processors")
            end_child(server, conn, child)


def test_background_threads_are_not_bound_with_the_server(make_server, env):
    cpus = set(os.sched_getaffinity(0))
    server = make_server(directives={"server_cpulist": str(min(cpus)), "appendonly": "yes"})
    assert threads(server.proc.pid)["aof"] == [cpus] and os.sched_getaffinity(server.proc.pid) == {min(cpus)}


@pytest.mark.parametrize("name", ["server_cpulist", "bio_cpulist", "aof_rewrite_cpulist", "bgsave_cpulist"])
def test_wrong_lists_of_processors(env, name):
    for wrong in ("x", "1-", "-1", "3-1", "0,", "0-4:0", "0-4:", "0 1", "1024"):
        code, text = refused(env, "tcp", directives={name: wrong})
        assert code == 1 and "argument must be a list of processors" in text, wrong


def test_processors_that_are_not_there(make_server, env):
    server = make_server(directives={"server_cpulist": "1000"})
    assert "server-cpulist has no effect" in server.log()
    assert os.sched_getaffinity(server.proc.pid) == os.sched_getaffinity(0)


# ---- huge pages, socket marks ----

@pytest.mark.parametrize("disable", ["yes", "no"])
def test_huge_pages(make_server, disable):
    path = "/sys/kernel/mm/transparent_hugepage/enabled"
    if not os.path.exists(path):
        pytest.skip("a kernel without them")
    always = "[always]" in read(path)
    server = make_server(directives={"disable-thp": disable})
    found = re.search(r"^THP_enabled:\s*(\d)", read("/proc/%d/status" % server.proc.pid), re.M)
    if found is None:
        pytest.skip("this kernel does not tell")
    assert found.group(1) == ("0" if always and disable == "yes" else "1")
    assert ("transparent huge pages are enabled" in server.log()) == (always and disable == "no")


def marks_of_listeners(pid):
    return [sock.getsockopt(socket.SOL_SOCKET, SO_MARK) for sock in harness.sockets_of(pid)
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)]


def test_sockets_are_marked(make_server, env):
    if not hasattr(os, "pidfd_open"):
        pytest.skip("this Python has no pidfd_open")
    with socket.socket() as sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_MARK, 7)
            may = True
        except PermissionError:
            may = False
    server = make_server(directives={"socket-mark-id": "7", "io-threads": "2"})
    with server.connect() as conn:
        assert conn.ok("CONFIG", "GET", "socket-mark-id")[1] == b"7"
        marks = marks_of_listeners(server.proc.pid)
        assert marks == [7 if may else 0] * 2
        assert ("Unable to set the socket mark" in server.log()) != may
        conn.ok("CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2")
        harness.wait_for(lambda: marks_of_listeners(server.proc.pid) == [7 if may else 0] * 4, env.timeout(10),
                         what="new listeners")


# ---- panics ----

def test_a_panic_may_exit(make_server):
    server = make_server(directives={"use-exit-on-panic": "yes"}, expect_exit=1)
    with server.connect() as conn:
        conn.send(b"DEBUG PANIC\r\n")
        assert conn.closed(timeout=10)
    assert server.wait_exit() == 1
    assert "DEBUG PANIC called" in server.log() and "crashed by signal" not in server.log()


def test_a_panic_aborts(make_server, env):
    if env.sanitizer:
        pytest.skip("the sanitizer has its own report")
    server = make_server(directives={"use-exit-on-panic": "yes"}, expect_exit=-signal.SIGABRT)
    server.ok_sanitizer = True  # there is a report of ours
    with server.connect() as conn:
        conn.ok("CONFIG", "SET", "use-exit-on-panic", "no")
        conn.send(b"DEBUG PANIC\r\n")
        assert conn.closed(timeout=10)
    assert server.wait_exit() == -signal.SIGABRT and "crashed by signal: SIGABRT" in server.log()
