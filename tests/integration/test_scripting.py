# SPDX-License-Identifier: BSD-3-Clause
"""Scripts and functions: several hundred of them beside redis-server, and what 7.2 has that Debian's 7.0 has not."""
import hashlib

import pytest

import script_cases
from resp import encode, run


@pytest.fixture
def other(server):
    with server.connect() as connection:
        yield connection


def empty(conn):
    conn.ok("FLUSHALL")
    conn.ok("SCRIPT", "FLUSH")
    conn.ok("FUNCTION", "FLUSH")
    conn("EVAL", "math.randomseed(7)", 0)


@pytest.mark.parametrize("session", range(len(script_cases.SESSIONS)))
def test_replies_are_redis_servers(redis_server, server, session):
    got = []
    for side in (redis_server, server):
        with side.connect() as conn:
            empty(conn)
            replies = []
            for command in script_cases.SESSIONS[session]:
                reply = conn(*command)
                replies.append("" if command[0] == "HELLO" else reply.render() if hasattr(reply, "render") else repr(reply))
            got.append(replies)
            conn("HELLO", "2")
            empty(conn)
    wrong = [(command, *pair) for command, *pair in zip(script_cases.SESSIONS[session], *got) if pair[0] != pair[1]]
    assert not wrong, "%d differ; command, redis_server, server:\n%s" % (
        len(wrong), "\n".join("%r\n  %s\n  %s" % w for w in wrong[:20]))


def test_numbers_become_arguments(c, is70):
    if is70:
        pytest.skip("7.2's")
    run(c, """
        EVAL "redis.call('set','k',0.1) return redis.call('get','k')" 0 => "0.1"
        EVAL "redis.call('set','k',123456789012345678) return redis.call('get','k')" 0 => "123456789012345680"
        EVAL "redis.call('set','k',1e300) return redis.call('get','k')" 0 => "1e+300"
        EVAL "return {redis.REDIS_VERSION,redis.REDIS_VERSION_NUM}" 0 => ["7.2.4", :459268]
        EVAL "return server.call('get','k')" 0 => "1e+300"
    """)


def test_commands_that_wait_do_not(c, is70):
    if is70:
        pytest.skip("7.2's")
    run(c, """
        EVAL "return redis.call('blpop','nolist',0)" 0 => nil
        EVAL "redis.call('rpush','l','a') return redis.call('blpop','l',0)" 0 => ["l", "a"]
        EVAL "return redis.call('blmove','none','l','left','left',0)" 0 => nil
    """)


def test_effects_reach_watchers_and_waiters(server, conn, other):
    conn.ok("WATCH", "k")
    other("EVAL", "return redis.call('set','k','v')", 0)
    run(conn, """
        MULTI
        PING => +QUEUED
        EXEC => nilarray
    """)
    conn.send(encode("BLPOP", "queue", "5"))
    other("EVAL", "redis.call('rpush','queue','a') redis.call('rpush','queue','b') return 1", 0)
    assert conn.read().render() == '["queue", "a"]'


def test_scripts_are_atomic(server, conn, other):
    """Two keys of different shards, changed together; nobody sees one without the other."""
    import threading
    sha = conn("SCRIPT", "LOAD", "redis.call('incr',KEYS[1]) redis.call('incr',KEYS[2]) return 1")
    done = threading.Event()

    def change():
        with server.connect() as own:
            for _ in range(2000):
                own("EVALSHA", sha, 2, "left", "right")
            done.set()
    thread = threading.Thread(target=change)
    thread.start()
    while not done.is_set():
        first, second = other("MGET", "left", "right")
        assert first == second
    thread.join()
    assert conn("GET", "left") == b"2000"


def test_undeclared_keys(c):
    run(c, """
        EVAL "for i=1,200 do redis.call('set','key:'..i,i) end return redis.call('dbsize')" 0 => :200
        EVAL "local n=0 for i=1,200 do n=n+redis.call('get','key:'..i) end return n" 0 => :20100
    """)


def test_counted_in_statistics(conn):
    conn.ok("CONFIG", "RESETSTAT")
    conn("EVAL", "redis.call('set','k','v') redis.pcall('incr','k') redis.pcall('incr') return 1", 0)
    stats = conn("INFO", "commandstats").decode()
    assert "cmdstat_set:calls=1," in stats and "cmdstat_eval:calls=1," in stats
    incr = [line for line in stats.split("\r\n") if line.startswith("cmdstat_incr:")][0]
    assert "calls=1," in incr and "rejected_calls=1" in incr and "failed_calls=1" in incr
    assert "errorstat_ERR:count=2" in conn("INFO", "errorstats").decode()


def memory(conn):
    return dict(line.split(":", 1) for line in conn("INFO", "memory").decode().split("\r\n") if ":" in line)


def test_memory_is_accounted(conn):
    conn.ok("SCRIPT", "FLUSH")
    conn("EVAL", "return 1", 0)
    before = memory(conn)
    assert before["number_of_cached_scripts"] == "1" and int(before["used_memory_vm_eval"]) > 10000
    conn("FUNCTION", "LOAD", "REPLACE", "#!lua name=mem\nredis.register_function('memf',function() return 1 end)")
    after = memory(conn)
    assert after["number_of_functions"] == "1" and after["number_of_libraries"] == "1"
    assert int(after["used_memory_vm_functions"]) > 10000 and int(after["used_memory_functions"]) > 0
    conn.ok("FUNCTION", "FLUSH", "ASYNC")
    conn.ok("SCRIPT", "FLUSH", "ASYNC")
    assert memory(conn)["number_of_cached_scripts"] == "0"


def test_out_of_memory(make_server, is70):
    if is70:
        pytest.skip("7.2's")
    with make_server(directives={"maxmemory": "1"}).connect() as conn:
        run(conn, """
            EVAL "return redis.call('set','k','v')" 0 => /-OOM command not allowed when used memory > 'maxmemory'. script:.*/
            EVAL "return redis.call('get','k')" 0 => nil
            EVAL "#!lua\\nreturn 1" 0 => -OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'
            EVAL "#!lua flags=allow-oom\\nreturn redis.call('set','k','v')" 0 => +OK
        """)


def test_access_control(server, conn, other, is70):
    if is70:
        pytest.skip("7.2's")
    conn.ok("ACL", "SETUSER", "bob", "on", ">pw", "+@all", "-set", "~mine:*")
    try:
        other.ok("AUTH", "bob", "pw")
        reply = other("EVAL", "return redis.call('set','mine:k','v')", 0)
        assert str(reply).startswith("ERR ACL failure in script: ")
        reply = other("EVAL", "return redis.call('get','other')", 0)
        assert str(reply).startswith("ERR ACL failure in script: ")
        run(other, """
            EVAL "return redis.call('get','mine:k')" 0 => nil
            EVAL "return {redis.acl_check_cmd('set','mine:k','v'),redis.acl_check_cmd('get','mine:k')}" 0 => [nil, :1]
        """)
    finally:
        conn("ACL", "DELUSER", "bob")


def test_large_values(conn):
    big = b"x" * 3000000
    conn.ok("SET", "big", big)
    assert conn("EVAL", "return redis.call('get',KEYS[1])", 1, "big") == big
    assert conn("EVAL", "redis.call('set','copy',ARGV[1]) return redis.call('strlen','copy')", 0, big) == 3000000
    assert conn("EVAL", "return #ARGV", 0, *range(20000)) == 20000
    assert conn("EVAL", "return redis.sha1hex(ARGV[1])", 0, big) == hashlib.sha1(big).hexdigest().encode()


def test_command_table(conn):
    info = conn("COMMAND", "INFO", "eval", "fcall_ro", "script|kill", "function|load")
    assert [entry[0] for entry in info] == [b"eval", b"fcall_ro", b"script|kill", b"function|load"]
    assert {str(flag) for flag in info[0][2]} == {"noscript", "stale", "skip_monitor", "no_mandatory_keys", "movablekeys"}
    assert {str(flag) for flag in info[2][2]} == {"noscript", "allow_busy"}
    assert conn("COMMAND", "GETKEYS", "EVAL", "x", "2", "a", "b", "c") == [b"a", b"b"]
