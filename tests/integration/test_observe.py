# SPDX-License-Identifier: BSD-3-Clause
"""MONITOR, SLOWLOG, LATENCY."""
import re
import threading
import time

import pytest

from harness import wait_for
from resp import encode, run

LINE = re.compile(r'^\+(\d+)\.(\d{6}) \[(\d+) ([^\]]+)\] (.*)$')


class Monitor:
    def __init__(self, server, proto=2):
        self.conn = server.connect(proto=proto)
        assert self.conn("MONITOR") == "OK"

    def line(self):
        """(db, address, command line) of the next line."""
        match = LINE.match(self.conn.read().render())
        assert match and abs(int(match.group(1)) - time.time()) < 60
        return match.group(3), match.group(4), match.group(5)

    def until(self, command):
        """Command lines up to this one."""
        seen = []
        while not seen or seen[-1] != command:
            seen.append(self.line()[2])
        return seen


@pytest.fixture
def monitor(server, conn):
    made = Monitor(server)
    yield made
    made.conn.close()


def test_monitor_lines(monitor, conn):
    address = "%s:%d" % conn.sock.getsockname()[:2]
    conn("PING")
    assert monitor.line() == ("0", address, '"PING"')
    conn("SET", "k", b'a "quoted"\n\x01\xff\\')
    assert monitor.line()[2] == r'"SET" "k" "a \"quoted\"\n\x01\xff\\"'
    conn("SELECT", "3")
    conn("get", "k")
    assert monitor.line()[0] == "3" and monitor.line() == ("3", address, '"get" "k"')
    conn("SELECT", "0")
    conn("NOSUCH", "x")
    conn("GET")
    conn("CONFIG", "GET", "port")  # administration is not shown
    conn("ECHO", "end")
    assert monitor.until('"ECHO" "end"') == ['"SELECT" "0"', '"ECHO" "end"']


def test_monitor_of_a_transaction(monitor, conn):
    for args in (("MULTI",), ("SET", "k", "1"), ("GET", "k")):
        conn(*args)
    assert monitor.line()[2] == '"MULTI"'
    conn("EXEC")
    assert monitor.until('"EXEC"') == ['"SET" "k" "1"', '"GET" "k"', '"EXEC"']


def test_monitor_of_scripts(monitor, conn):
    address = "%s:%d" % conn.sock.getsockname()[:2]
    conn("EVAL", "redis.call('set', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])", "1", "k", "v")
    assert monitor.line()[1:] == (address, "\"EVAL\" \"redis.call('set', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])\" "
                                  '"1" "k" "v"')
    assert monitor.line() == ("0", "lua", '"set" "k" "v"') and monitor.line() == ("0", "lua", '"GET" "k"')
    conn("EVALSHA", "x" * 40, "0")
    assert monitor.line()[2] == '"EVALSHA" "%s" "0"' % ("x" * 40)


def test_monitor_hides_secrets(monitor, conn):
    conn("AUTH", "guess")
    conn("AUTH", "default", "guess")
    conn("HELLO", "2", "AUTH", "default", "guess", "SETNAME", "me")
    assert [monitor.line()[2] for _ in range(3)] == [
        '"AUTH" "(redacted)"', '"AUTH" "(redacted)" "(redacted)"',
        '"HELLO" "2" "AUTH" "(redacted)" "(redacted)" "SETNAME" "me"']


def test_monitor_is_a_client_of_its_own_kind(server, conn):
    with server.connect() as watcher:
        ident = watcher("CLIENT ID")
        assert watcher("MONITOR") == "OK"
        line = [l for l in conn("CLIENT LIST").decode().splitlines() if "id=%d " % ident in l][0]
        assert " flags=O " in line and "cmd=monitor" in line
        for command in ("GET k", "SET k v", "PUBLISH x y"):
            watcher.send(encode(*command.split()))
            assert watcher.read().render() == "-ERR Replica can't interact with the keyspace"
        watcher.send(encode("PING") + encode("MONITOR") + encode("PING"))
        kinds = [watcher.read().render() for _ in range(4)]
        assert kinds[0] == kinds[2] == "+PONG" and kinds[1].endswith('"PING"') and kinds[3].endswith('"PING"')
        assert watcher("RESET") == "RESET"
        conn("PING")
        assert watcher("GET k") is None
    run(conn, """
        MULTI
        MONITOR => +QUEUED
        EXEC => [-ERR MONITOR isn't allowed for DENY BLOCKING client]
    """)


def test_monitor_across_threads(make_server):
    """Monitors on several threads, clients on several threads: everybody sees everything, and one key's commands in their order."""
    server = make_server(directives={"io-threads": "4"})
    monitors = [Monitor(server) for _ in range(4)]
    errors = []

    def work(number):
        try:
            with server.connect() as conn:
                for i in range(100):
                    conn("INCR", "n")
                    conn("SET", "k%d" % number, str(i))
        except Exception as exc:
            errors.append(exc)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with server.connect() as conn:
        conn("ECHO", "end")
    for watcher in monitors:
        seen = watcher.until('"ECHO" "end"')
        assert seen.count('"INCR" "n"') == 500
        for number in range(5):
            values = [line for line in seen if line.startswith('"SET" "k%d"' % number)]
            assert values == ['"SET" "k%d" "%d"' % (number, i) for i in range(100)]
        watcher.conn.close()


def test_monitor_that_does_not_read_is_closed(make_server):
    server = make_server(directives={"client-output-buffer-limit": ["normal", "1mb", "0", "0"]})
    with server.connect() as conn:
        watcher = Monitor(server)
        ident = [l for l in conn("CLIENT LIST").decode().splitlines() if "flags=O" in l][0].split("id=")[1].split()[0]

        def gone():
            for _ in range(50):
                conn("ECHO", b"x" * 60000)
            return ("id=%s " % ident).encode() not in conn("CLIENT LIST")
        wait_for(gone, timeout=server.env.timeout(30), what="the monitor to be closed")
        watcher.conn.close()


# ---- SLOWLOG ----

@pytest.fixture
def slow(conn):
    conn.ok("CONFIG", "SET", "slowlog-log-slower-than", "0", "slowlog-max-len", "128")
    conn.ok("SLOWLOG", "RESET")
    yield conn
    conn.ok("CONFIG", "SET", "slowlog-log-slower-than", "10000", "slowlog-max-len", "128")
    conn.ok("SLOWLOG", "RESET")


def entry_args(entry):
    return [arg.decode("latin1") for arg in entry[3]]


def test_slowlog_entries(slow):
    slow("CLIENT", "SETNAME", "me")
    slow("SET", "k", "v" * 150)
    entry, before = slow("SLOWLOG GET 2")
    assert entry[0] == before[0] + 1 and abs(entry[1] - time.time()) < 60 and entry[2] >= 0
    assert entry_args(entry) == ["SET", "k", "v" * 128 + "... (22 more bytes)"]
    assert entry[4].decode() == "%s:%d" % slow.sock.getsockname()[:2] and entry[5] == b"me"
    assert entry_args(before) == ["CLIENT", "SETNAME", "me"]
    slow("MGET", *[str(i) for i in range(32)])
    assert entry_args(slow("SLOWLOG GET 1")[0]) == ["MGET"] + [str(i) for i in range(30)] + ["... (2 more arguments)"]
    slow("MGET", *[str(i) for i in range(31)])
    assert entry_args(slow("SLOWLOG GET 1")[0]) == ["MGET"] + [str(i) for i in range(31)]
    slow("SET", "bin", b"\x00" * 130)
    assert slow("SLOWLOG GET 1")[0][3][2] == b"\x00" * 128 + b"... (2 more bytes)"


def test_slowlog_hides_secrets_and_shows_what_exec_ran(slow):
    slow("AUTH", "guess")
    slow("CONFIG", "SET", "masterauth", "guess")
    slow("CONFIG", "SET", "masterauth", "")
    slow("MULTI")
    slow("SET", "k", "v")
    slow("EXEC")
    shown = [entry_args(entry) for entry in slow("SLOWLOG GET -1")]
    assert shown[:5] == [["SET", "k", "v"], ["MULTI"], ["CONFIG", "SET", "masterauth", "(redacted)"],
                         ["CONFIG", "SET", "masterauth", "(redacted)"], ["AUTH", "(redacted)"]]


def test_slowlog_has_what_scripts_run(slow):
    slow("EVAL", "redis.call('set', 'k', 'v')", "0")
    shown = [entry_args(entry) for entry in slow("SLOWLOG GET 2")]
    assert shown == [["EVAL", "redis.call('set', 'k', 'v')", "0"], ["set", "k", "v"]]


def test_slowlog_length(slow):
    for _ in range(20):
        slow("PING")
    assert len(slow("SLOWLOG GET")) == 10 and len(slow("SLOWLOG GET 3")) == 3 and slow("SLOWLOG LEN") > 20
    slow("CONFIG", "SET", "slowlog-max-len", "5")
    slow("PING")
    assert slow("SLOWLOG LEN") == 5 and len(slow("SLOWLOG GET -1")) == 5
    slow("CONFIG", "SET", "slowlog-log-slower-than", "-1")
    slow("SLOWLOG", "RESET")
    slow("PING")
    assert slow("SLOWLOG LEN") == 0 and slow("SLOWLOG GET") == []
    slow("CONFIG", "SET", "slowlog-log-slower-than", "20000")
    slow("DEBUG", "SLEEP", "0.03")
    slow("PING")
    assert [entry_args(e) for e in slow("SLOWLOG GET")] == [["DEBUG", "SLEEP", "0.03"]]
    assert slow("SLOWLOG GET")[0][2] >= 30000


def test_slowlog_errors(c):
    run(c, """
        SLOWLOG GET x => -ERR count should be greater than or equal to -1
        SLOWLOG GET -2 => -ERR count should be greater than or equal to -1
        SLOWLOG GET 1 2 => -ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.
        SLOWLOG FOO => -ERR unknown subcommand 'FOO'. Try SLOWLOG HELP.
        SLOWLOG => -ERR wrong number of arguments for 'slowlog' command
        SLOWLOG RESET => +OK
    """)
    assert c("SLOWLOG HELP")[0].startswith("SLOWLOG <subcommand>")


# ---- LATENCY ----

@pytest.fixture
def spikes(conn):
    conn.ok("CONFIG", "SET", "latency-monitor-threshold", "10")
    conn.ok("LATENCY", "RESET")
    yield conn
    conn.ok("CONFIG", "SET", "latency-monitor-threshold", "0")
    conn.ok("LATENCY", "RESET")


def test_latency_events(spikes):
    for seconds in ("0.02", "0.3", "0.05"):
        spikes("DEBUG", "SLEEP", seconds)
        time.sleep(1.05)
    history = spikes("LATENCY HISTORY command")
    times, values = [entry[0] for entry in history], [entry[1] for entry in history]
    assert len(history) == 3 and values[0] >= 20 and values[1] >= 300 and values[2] >= 50 and times == sorted(set(times))
    latest = [entry for entry in spikes("LATENCY LATEST") if entry[0] == b"command"][0]
    assert latest == [b"command", times[2], values[2], max(values)]
    lines = spikes("LATENCY GRAPH command").decode().split("\n")
    assert lines[0] == "command - high %d ms, low %d ms (all time high %d ms)" % (max(values), min(values), max(values))
    assert lines[1] == "-" * 80 and lines[2][values.index(max(values))] == "#" and lines[5][values.index(min(values))] == "_"
    assert re.match(r"\d\d\d$", lines[7]) and lines[8] == "sss"
    assert b"command: 3 latency spikes" in spikes("LATENCY DOCTOR")
    assert spikes("LATENCY RESET command nosuch") == 1 and spikes("LATENCY HISTORY command") == []


def test_latency_of_one_second_is_one_sample(spikes):
    for _ in range(5):  # a slow machine may need more than what is left of the second
        spikes("LATENCY RESET")
        wait_for(lambda: time.time() % 1 < 0.3, what="the beginning of a second")
        spikes("DEBUG", "SLEEP", "0.04")
        spikes("DEBUG", "SLEEP", "0.02")
        history = spikes("LATENCY HISTORY command")
        if len(history) == 1:
            break
    assert len(history) == 1 and history[0][1] >= 40


def test_latency_errors(c):
    c("LATENCY RESET")
    run(c, """
        LATENCY GRAPH nosuch => -ERR No samples available for event 'nosuch'
        LATENCY HISTORY nosuch => []
        LATENCY LATEST => []
        LATENCY RESET => :0
        LATENCY FOO => -ERR unknown subcommand 'FOO'. Try LATENCY HELP.
        LATENCY GRAPH => -ERR wrong number of arguments for 'latency|graph' command
    """)
    assert c("LATENCY DOCTOR") and c("LATENCY HELP")[0].startswith("LATENCY <subcommand>")


def test_latency_histogram(c):
    c("CONFIG RESETSTAT")
    for _ in range(5):
        c("SET", "k", "v")
    c("CLIENT", "ID")
    c("CONFIG", "SET", "maxmemory-samples", "5")

    def pairs(reply):
        return reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2]))
    got = pairs(c("LATENCY HISTOGRAM set nosuch client config|set"))
    assert set(got) == {b"set", b"client|id", b"config|set"}
    entry = pairs(got[b"set"])
    buckets = pairs(entry[b"histogram_usec"])
    assert entry[b"calls"] == 5 and list(buckets.values())[-1] == 5
    assert list(buckets) == sorted(buckets) and list(buckets.values()) == sorted(buckets.values())
    assert set(buckets) <= {1, 2, 4, 8, 16, 33, 66, 132, 264, 528, 1056, 2113, 4227, 8454, 16909, 33818, 67637, 135274}
    assert b"set" in pairs(c("LATENCY HISTOGRAM"))
