# SPDX-License-Identifier: BSD-3-Clause
"""Functions' payloads, which go between this server and redis-server; scripts and functions that take long."""
import re
import struct
import time

import pytest

import harness
from resp import encode

BUSY_EVAL = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
BUSY_FUNCTION = "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
LIBRARIES = ["#!lua name=one\nredis.register_function('f',function(keys,args) return {keys,args} end)",
             "#!lua name=two\nredis.register_function{function_name='g',callback=function() return 'g' end,"
             "flags={'no-writes'},description='about g'}\n--" + "long " * 400]


def crc64(data):
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x95ac9329ac4bc9b5 if crc & 1 else 0)
    return crc


def with_version(payload, version):
    body = payload[:-10] + struct.pack("<H", version)
    return body + struct.pack("<Q", crc64(body))


def by_name(reply):
    return sorted(reply, key=lambda lib: dict(zip(lib[::2], lib[1::2]))[b"library_name"])


def test_dump_goes_both_ways(redis_server, server):
    with redis_server.connect() as theirs, server.connect() as ours:
        for conn in (theirs, ours):
            conn.ok("FUNCTION", "FLUSH")
        for code in LIBRARIES:
            theirs("FUNCTION", "LOAD", code)
        payload = theirs("FUNCTION", "DUMP")
        ours.ok("FUNCTION", "RESTORE", payload)
        assert by_name(ours("FUNCTION", "LIST", "WITHCODE")) == by_name(theirs("FUNCTION", "LIST", "WITHCODE"))
        assert ours("FCALL_RO", "g", 0) == b"g"
        back = ours("FUNCTION", "DUMP")
        assert back[-10:-8] == struct.pack("<H", 11) and with_version(back, 11) == back
        theirs.ok("FUNCTION", "RESTORE", with_version(back, 10), "FLUSH")
        assert theirs("FCALL", "f", 1, "k", "a") == [[b"k"], [b"a"]]
        assert str(ours("FUNCTION", "RESTORE", back)).startswith("ERR Library")
        ours.ok("FUNCTION", "RESTORE", back, "REPLACE")
        ours.ok("FUNCTION", "FLUSH")


def test_damaged_payloads_change_nothing(server, conn):
    conn.ok("FUNCTION", "FLUSH")
    conn("FUNCTION", "LOAD", LIBRARIES[0])
    payload = bytes(conn("FUNCTION", "DUMP"))
    for i in range(len(payload)):
        damaged = payload[:i] + bytes([payload[i] ^ 0x55]) + payload[i + 1:]
        assert str(conn("FUNCTION", "RESTORE", damaged, "FLUSH")) == "ERR DUMP payload version or checksum are wrong"
    for cut in range(len(payload) - 10):
        reply = conn("FUNCTION", "RESTORE", with_version(payload[:cut] + b"\0" * 10, 11), "FLUSH")
        assert cut == 0 or str(reply).startswith("ERR ")
        if cut == 0:
            conn("FUNCTION", "LOAD", LIBRARIES[0])
    assert conn("FCALL", "f", 0) == [[], []]
    conn.ok("FUNCTION", "FLUSH")


# ---- scripts that take long ----

LOOPS = ["while true do end", "while true do pcall(function() while true do end end) end",
         "local f = coroutine.wrap(function() while true do end end) while true do pcall(f) end",
         "table.sort({1,2,3},function() while true do end end)", "string.gsub('x','x',function() while true do end end)",
         "setmetatable({},{__index=function() while true do end end}).x()", "xpcall(error,function() while true do end end)"]


@pytest.fixture(scope="module", params=["1", "3"])
def busy_server(env, transport, kernel_guard, request):
    instance = harness.Server(env, transport, directives={"busy-reply-threshold": "100", "io-threads": request.param})
    yield instance
    instance.stop()


def wait_busy(conn):
    harness.wait_for(lambda: str(conn("GET", "x")).startswith("BUSY"), what="BUSY")


@pytest.mark.parametrize("loop", LOOPS)
def test_killed_script(busy_server, loop):
    clients = [busy_server.connect() for _ in range(6)]
    clients[0].send(encode("EVAL", loop, 0))
    wait_busy(clients[1])
    for conn in clients[1:]:
        assert str(conn("GET", "x")) == BUSY_EVAL
    assert str(clients[2]("FUNCTION", "KILL")) == BUSY_EVAL
    clients[2].ok("SCRIPT", "KILL")
    assert clients[0].read().render().startswith("-ERR Script killed by user with SCRIPT KILL... script: ")
    assert str(clients[2]("SCRIPT", "KILL")) == "NOTBUSY No scripts in execution right now."
    for conn in clients:
        assert conn("GET", "x") is None
        conn.close()


def test_killed_function(busy_server):
    with busy_server.connect() as one, busy_server.connect() as two:
        one("FUNCTION", "LOAD", "REPLACE", "#!lua name=l\nredis.register_function('loop',function() while true do end end)")
        one.send(encode("FCALL", "loop", 1, "k", "a"))
        harness.wait_for(lambda: str(two("GET", "x")) == BUSY_FUNCTION, what="BUSY")
        stats = two("FUNCTION", "STATS")
        running = dict(zip(stats[1][::2], stats[1][1::2]))
        assert running[b"name"] == b"loop" and running[b"command"] == [b"FCALL", b"loop", b"1", b"k", b"a"]
        assert running[b"duration_ms"] >= 100
        assert str(two("SCRIPT", "KILL")) == BUSY_FUNCTION
        two.ok("FUNCTION", "KILL")
        assert one.read().render().startswith("-ERR Script killed")
        assert two("FUNCTION", "STATS")[1] is None


def test_script_that_has_written_is_not_killed(busy_server):
    with busy_server.connect() as one, busy_server.connect() as two:
        # Time is looked at after so many instructions of Lua, as in redis-server: calls alone could take long in between.
        script = ("redis.call('set','w','1') local t = redis.call('time') local till = t[1]*1000+t[2]/1000+2000 "
                  "repeat for i = 1, 5000 do end t = redis.call('time') until t[1]*1000+t[2]/1000 > till return 'ended'")
        one.send(encode("EVAL", script, 0) + encode("PING"))
        wait_busy(two)
        assert str(two("SCRIPT", "KILL")).startswith("UNKILLABLE Sorry the script already executed write commands")
        assert one.read().render() == '"ended"' and one.read().render() == "+PONG"
        assert two("GET", "w") == b"1"


def test_script_in_transaction_is_killed_alone(busy_server):
    with busy_server.connect() as one, busy_server.connect() as two:
        one.ok("MULTI")
        for command in (("SET", "m", "1"), ("EVAL", LOOPS[0], "0"), ("GET", "m")):
            one(*command)
        one.send(encode("EXEC"))
        wait_busy(two)
        two.ok("SCRIPT", "KILL")
        reply = one.read().render()
        assert reply.startswith("[+OK, -ERR Script killed") and reply.endswith(', "1"]')


def test_commands_sent_before_the_threshold_get_busy(busy_server):
    clients = [busy_server.connect() for _ in range(9)]
    early = [("GET", "x"), ("SCAN", "0"), ("EVAL", "return 1", "0"), ("MGET", "a", "b"), ("KEYS", "*"), ("DBSIZE",)]
    clients[7].ok("MULTI")
    clients[7]("SET", "a", "b")
    clients[0].send(encode("EVAL", LOOPS[0], 0))
    time.sleep(0.02)
    for conn, command in zip(clients[1:7], early):
        conn.send(encode(*command))
    clients[7].send(encode("EXEC"))
    for conn in clients[1:7]:
        assert re.fullmatch(re.escape("-" + BUSY_EVAL) + r"|:\d+", conn.read().render())  # DBSIZE needs no lock, on another thread
    assert clients[7].read().render() == "-EXECABORT Transaction discarded because of: " + BUSY_EVAL
    clients[8].ok("SCRIPT", "KILL")
    assert clients[0].read().render().startswith("-ERR Script killed")
    for conn in clients:
        conn.close()


def test_what_is_allowed_meanwhile(busy_server):
    with busy_server.connect() as one, busy_server.connect() as two:
        one.send(encode("EVAL", LOOPS[0], 0))
        wait_busy(two)
        two.ok("MULTI")
        assert str(two("PING")) == BUSY_EVAL
        assert str(two("EXEC")).startswith("EXECABORT")
        two.ok("UNWATCH")
        two("HELLO", "3")
        assert str(two("RESET")) == "RESET"
        assert str(two("SHUTDOWN")) == BUSY_EVAL
        two.ok("SCRIPT", "KILL")
        one.read()


def test_clients_leave_while_a_script_runs(busy_server):
    """With watches, waiting for keys, and the script's own; timeouts come late but they come."""
    with busy_server.connect() as one, busy_server.connect() as two:
        watching = [busy_server.connect() for _ in range(6)]
        waiting = [busy_server.connect() for _ in range(6)]
        timed = [busy_server.connect() for _ in range(3)]
        for i, conn in enumerate(watching):
            conn.ok("WATCH", "w%d" % i)
        for i, conn in enumerate(waiting):
            conn.send(encode("BLPOP", "l%d" % i, "0"))
        for conn in timed:
            conn.send(encode("BLPOP", "none", "0.15"))
        time.sleep(0.05)
        gone = busy_server.connect()
        gone.send(encode("EVAL", LOOPS[0], 0))
        wait_busy(two)
        for conn in watching + waiting + [gone]:
            conn.close()
        time.sleep(0.2)
        assert str(one("GET", "x")) == BUSY_EVAL
        one.ok("SCRIPT", "KILL")
        for conn in timed:
            assert conn.read().render() == "nilarray"
            conn.close()
        harness.wait_for(lambda: b"connected_clients:2\r\n" in two("INFO", "clients"), what="clients gone")
        assert two("GET", "x") is None


def test_server_ends_while_a_script_runs(make_server):
    for how in ("signal", "command"):
        instance = make_server(directives={"busy-reply-threshold": "100", "io-threads": "2"})
        with instance.connect() as one, instance.connect() as two:
            one.send(encode("EVAL", "redis.call('set','k','v') while true do end", 0))
            wait_busy(two)
            if how == "command":
                two.send(encode("SHUTDOWN", "NOSAVE"))
                instance.wait_exit()


def test_threshold_of_zero_is_none(make_server):
    instance = make_server(directives={"busy-reply-threshold": "0"})
    with instance.connect() as conn, instance.connect() as other:
        script = ("local t=redis.call('time') local till=t[1]*1000+t[2]/1000+300 "
                  "repeat t=redis.call('time') until t[1]*1000+t[2]/1000 > till return 1")
        conn.send(encode("EVAL", script, 0))
        time.sleep(0.05)
        assert other("GET", "x") is None
        assert conn.read().render() == ":1"
