# SPDX-License-Identifier: BSD-3-Clause
"""Connection commands: AUTH, HELLO, CLIENT *, ECHO, PING, QUIT, RESET, SELECT."""
import re
import threading
import time

import pytest

from harness import wait_for
from resp import ReplyError, encode, run

SYNTAX = "-ERR syntax error"
NOTINT = "-ERR value is not an integer or out of range"


def arity(name):
    return "-ERR wrong number of arguments for '%s' command" % name


@pytest.fixture
def other(server):
    with server.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def locked(env, transport, kernel_guard):
    """A server with a password."""
    import harness
    instance = harness.Server(env, transport, directives={"requirepass": "secret"})
    yield instance
    instance.password = "secret"
    try:
        instance.check_kernel_tls()
    finally:
        instance.stop()


def fields(data):
    """One line of CLIENT LIST or CLIENT INFO as a dict."""
    text = data.decode() if isinstance(data, bytes) else data
    return dict(part.partition("=")[::2] for part in text.strip().split(" "))


def client_list(conn, *args):
    return [fields(line) for line in conn.ok("CLIENT", "LIST", *args).decode().splitlines()]


def test_ping_echo(c):
    run(c, f"""
        PING => +PONG
        PING hello => "hello"
        PING "" => ""
        PING a b => {arity('ping')}
        ECHO hello => "hello"
        ECHO "" => ""
        ECHO => {arity('echo')}
        ECHO a b => {arity('echo')}
    """)


def test_quit(server):
    for how in (encode("QUIT"), b"QUIT\r\n", encode("QUIT", "x", "y") if not server.env.is_redis70 else encode("QUIT")):
        with server.connect() as conn:
            conn.send(how + encode("PING"))
            assert conn.read_until_eof() == b"+OK\r\n"


def test_reset(server):
    with server.connect(proto=3) as conn:
        conn.ok("SELECT", 3)
        conn.ok("CLIENT", "SETNAME", "n")
        conn.ok("MULTI")
        assert conn("RESET") == "RESET"
        conn.proto = 2
        run(conn, """
            CLIENT GETNAME => nil
            EXEC => -ERR EXEC without MULTI
            RESET x => -ERR wrong number of arguments for 'reset' command
        """)
        info = fields(conn.ok("CLIENT", "INFO"))
        assert info["db"] == "0" and info["resp"] == "2"
        conn.send(encode("GET", "nosuchkey"))
        assert conn.read_exact(5) == b"$-1\r\n"


def test_reset_drops_authentication(locked):
    with locked.connect() as conn:
        conn.ok("AUTH", "secret")
        assert conn("PING") == "PONG"
        assert conn("RESET") == "RESET"
        assert conn.err("PING") == "NOAUTH Authentication required."


def test_auth_without_password_configured(c):
    run(c, f"""
        AUTH x => -ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?
        AUTH default x
        AUTH nouser x => -WRONGPASS invalid username-password pair or user is disabled.
        AUTH => {arity('auth')}
        AUTH a b c => {SYNTAX}
        PING => +PONG
    """)


def test_auth_with_password(locked):
    with locked.connect() as conn:
        run(conn, """
            PING => -NOAUTH Authentication required.
            GET k => -NOAUTH Authentication required.
            NOSUCH => -ERR unknown command 'NOSUCH', with args beginning with:␠
            GET => -ERR wrong number of arguments for 'get' command
            MULTI => -NOAUTH Authentication required.
            CLIENT ID => -NOAUTH Authentication required.
            AUTH wrong => -WRONGPASS invalid username-password pair or user is disabled.
            AUTH default wrong => -WRONGPASS invalid username-password pair or user is disabled.
            AUTH nouser secret => -WRONGPASS invalid username-password pair or user is disabled.
            PING => -NOAUTH Authentication required.
            AUTH secret
            PING => +PONG
            AUTH wrong => -WRONGPASS invalid username-password pair or user is disabled.
            PING => +PONG
        """)
    with locked.connect() as conn:
        run(conn, """
            AUTH default secret
            PING => +PONG
        """)
    with locked.connect() as conn:
        conn.ok("RESET")
        conn.send(encode("QUIT"))
        assert conn.read().render() == "+OK"
        assert conn.closed()


def test_hello_with_password(locked):
    with locked.connect() as conn:
        run(conn, """
            7.2| HELLO => -NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time
            7.2| HELLO 3 => -NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time
            HELLO 3 AUTH default wrong => -WRONGPASS invalid username-password pair or user is disabled.
            HELLO 3 AUTH default => -ERR Syntax error in HELLO option 'AUTH'
            PING => -NOAUTH Authentication required.
        """)
        reply = conn.node("HELLO", "3", "AUTH", "default", "secret", "SETNAME", "me")
        assert reply.kind == "%"
        conn.proto = 3
        run(conn, 'CLIENT GETNAME => "me"')


def test_config_set_requirepass_live(server, conn):
    conn.ok("CONFIG", "SET", "requirepass", "now")
    try:
        assert conn("PING") == "PONG"
        with server.connect() as fresh:
            assert fresh.err("PING") == "NOAUTH Authentication required."
            assert fresh.ok("AUTH", "now") == "OK"
    finally:
        conn.ok("CONFIG", "SET", "requirepass", "")
    with server.connect() as fresh:
        assert fresh("PING") == "PONG"


def test_hello_shape(server):
    with server.connect() as conn:
        two = conn.node("HELLO")
        assert two.kind == "*"
        keys = [n.py for n in two.value[::2]]
        assert keys == [b"server", b"version", b"proto", b"id", b"mode", b"role", b"modules"]
        values = dict(zip(keys, (n.py for n in two.value[1::2])))
        assert values[b"proto"] == 2 and values[b"mode"] == b"standalone" and values[b"role"] == b"master"
        assert values[b"server"] == b"redis" and values[b"modules"] == []
        assert values[b"id"] == conn("CLIENT", "ID")
        three = conn.node("HELLO", "3")
        assert three.kind == "%" and [k.py for k, _ in three.value] == keys
        assert dict((k.py, v.py) for k, v in three.value)[b"proto"] == 3
        assert conn.node("HELLO").kind == "%"
        assert conn.node("HELLO", "2").kind == "*"
        if not server.env.is_redis70:
            assert values[b"version"] == b"7.2.4"


def test_hello_errors(c):
    run(c, """
        HELLO 1 => -NOPROTO unsupported protocol version
        HELLO 4 => -NOPROTO unsupported protocol version
        HELLO -1 => -NOPROTO unsupported protocol version
        HELLO x => -ERR Protocol version is not an integer or out of range
        HELLO 3.0 => -ERR Protocol version is not an integer or out of range
        HELLO 3 FOO => -ERR Syntax error in HELLO option 'FOO'
        HELLO 3 SETNAME => -ERR Syntax error in HELLO option 'SETNAME'
        HELLO 3 AUTH x => -ERR Syntax error in HELLO option 'AUTH'
        HELLO 3 SETNAME "a b" => -ERR Client names cannot contain spaces, newlines or special characters.
        HELLO 3 AUTH nouser x => -WRONGPASS invalid username-password pair or user is disabled.
    """)


def test_hello_sets_name(conn):
    run(conn, """
        HELLO 2 SETNAME first => *
        CLIENT GETNAME => "first"
        HELLO 2 AUTH default any SETNAME second => *
        CLIENT GETNAME => "second"
    """)


def test_client_id_getname_setname(c):
    first = c("CLIENT", "ID")
    assert first > 0 and c("CLIENT", "ID") == first
    run(c, f"""
        CLIENT GETNAME => nil
        CLIENT SETNAME me
        CLIENT GETNAME => "me"
        CLIENT SETNAME "a b" => -ERR Client names cannot contain spaces, newlines or special characters.
        CLIENT SETNAME "a\\n" => -ERR Client names cannot contain spaces, newlines or special characters.
        CLIENT GETNAME => "me"
        CLIENT SETNAME ""
        CLIENT GETNAME => nil
        CLIENT SETNAME => {arity('client|setname')}
        CLIENT GETNAME x => {arity('client|getname')}
        CLIENT ID x => {arity('client|id')}
        CLIENT => {arity('client')}
        CLIENT NOSUCH => -ERR unknown subcommand 'NOSUCH'. Try CLIENT HELP.
        CLIENT HELP => /^\\[\\+CLIENT <subcommand> \\[<arg> \\[value\\] \\[opt\\] ...\\]. Subcommands are:, /
    """)


def test_client_ids_grow(server, conn):
    ids = []
    for _ in range(10):
        with server.connect() as other:
            ids.append(other("CLIENT", "ID"))
    assert ids == sorted(set(ids)) and conn("CLIENT", "ID") < ids[0]


FIELDS_72 = ["id", "addr", "laddr", "fd", "name", "age", "idle", "flags", "db", "sub", "psub", "ssub", "multi", "qbuf",
             "qbuf-free", "argv-mem", "multi-mem", "rbs", "rbp", "obl", "oll", "omem", "tot-mem", "events", "cmd", "user",
             "redir", "resp", "lib-name", "lib-ver"]


def test_client_info_and_list_fields(server, conn, transport):
    conn.ok("CLIENT", "SETNAME", "lister")
    line = conn.ok("CLIENT", "INFO")
    assert line.endswith(b"\n")
    info = fields(line)
    wanted = [f for f in FIELDS_72 if not (server.env.is_redis70 and f in ("ssub", "lib-name", "lib-ver"))]
    assert [f for f in info if f in wanted] == wanted
    assert info["name"] == "lister" and info["flags"] == "N" and info["multi"] == "-1" and info["user"] == "default"
    assert info["cmd"] == "client|info" and info["resp"] == "2" and info["db"] == "0" and info["redir"] == "-1"
    assert info["laddr"] == "127.0.0.1:%d" % server.any_port()
    assert info["addr"] == "127.0.0.1:%d" % conn.sock.getsockname()[1]
    assert info["id"] == str(conn("CLIENT", "ID"))
    mine = [entry for entry in client_list(conn) if entry["id"] == info["id"]]
    assert len(mine) == 1 and mine[0]["cmd"] == "client|list"
    if server.env.is_kettle:
        pattern = {"tcp": "no", "tls-user": "user:TLSv1.3:TLS_[A-Z0-9_]+", "tls-kernel": "ktls:TLSv1.3:TLS_[A-Z0-9_]+",
                   "tls-tx": "ktls-tx:TLSv1.3:TLS_[A-Z0-9_]+"}
        assert re.fullmatch(pattern[transport], info["tls"]), info["tls"]


def test_client_list_shows_what_arguments_and_replies_hold(server, conn, other, env):
    assert fields(conn.ok("CLIENT", "INFO"))["argv-mem"] == "10"
    ident = str(other("CLIENT", "ID"))

    def shown():
        return next(entry for entry in client_list(conn) if entry["id"] == ident)
    assert shown()["argv-mem"] == "0" and shown()["oll"] == "0" and shown()["obl"] == "0"
    assert next(e for e in client_list(conn) if e["cmd"] == "client|list")["argv-mem"] == "10"
    other.send(encode("BLPOP", "nolist", "0"))
    wait_for(lambda: "b" in shown()["flags"], env.timeout(20), what="the client to be blocked")
    assert shown()["argv-mem"] == "12" and int(shown()["tot-mem"]) > 12
    conn.ok("RPUSH", "nolist", "x")
    assert other.read().py == [b"nolist", b"x"]
    assert shown()["argv-mem"] == "0"
    if not env.is_kettle:
        return
    conn.ok("SET", "large", "x" * 4000000)
    other.ok("ECHO", "y" * 300)
    assert int(shown()["rbp"]) >= 300
    other.send(encode("GET", "large") * 8)
    wait_for(lambda: int(shown()["obl"]) > 1000000, env.timeout(20), what="replies to wait")
    entry = shown()
    assert int(entry["oll"]) >= 1 and int(entry["omem"]) >= int(entry["obl"]) and entry["events"] == "rw", entry
    for _ in range(8):
        assert len(other.read().py) == 4000000
    wait_for(lambda: shown()["obl"] == shown()["oll"] == "0", env.timeout(20), what="nothing to be left")


def test_client_list_filters(server, conn, other):
    ids = [str(x("CLIENT", "ID")) for x in (conn, other)]
    assert sorted(e["id"] for e in client_list(conn, "ID", *ids)) == sorted(ids)
    assert client_list(conn, "ID", "99999999") == []
    assert {e["id"] for e in client_list(conn, "TYPE", "normal")} >= set(ids)
    for kind in ("replica", "slave", "master", "pubsub"):
        assert client_list(conn, "TYPE", kind) == []
    run(conn, f"""
        CLIENT LIST TYPE foo => -ERR Unknown client type 'foo'
        CLIENT LIST TYPE => {SYNTAX}
        CLIENT LIST ID => {SYNTAX}
        CLIENT LIST ID x => -ERR Invalid client ID
        CLIENT LIST FOO => {SYNTAX}
    """)
    other.ok("SELECT", 7)
    other.ok("MULTI")
    other("PING")
    entry = client_list(conn, "ID", ids[1])[0]
    assert entry["db"] == "7" and entry["flags"] == "x" and entry["multi"] == "1"


def test_client_list_sees_every_io_thread(server, conn):
    others = [server.connect() for _ in range(40)]
    try:
        ids = {str(o("CLIENT", "ID")) for o in others}
        assert ids <= {e["id"] for e in client_list(conn)}
    finally:
        for o in others:
            o.close()
    wait_for(lambda: not ids & {e["id"] for e in client_list(conn)}, server.env.timeout(5), what="closed clients to leave")


def test_client_setinfo(c, is70):
    if is70:
        pytest.skip("CLIENT SETINFO is new in 7.2")
    run(c, f"""
        CLIENT SETINFO LIB-NAME redis-py
        CLIENT SETINFO lib-ver 1.2.3
        CLIENT INFO => /lib-name=redis-py lib-ver=1.2.3/
        CLIENT SETINFO LIB-NAME "a b" => -ERR LIB-NAME cannot contain spaces, newlines or special characters.
        CLIENT SETINFO lib-ver "a\\nb" => -ERR lib-ver cannot contain spaces, newlines or special characters.
        CLIENT SETINFO FOO x => -ERR Unrecognized option 'FOO'
        CLIENT SETINFO LIB-NAME => {arity('client|setinfo')}
        CLIENT SETINFO LIB-NAME ""
        CLIENT INFO => /lib-name= lib-ver=1.2.3/
    """)


def test_client_no_evict_no_touch(c):
    run(c, f"""
        CLIENT NO-EVICT ON
        CLIENT INFO => / flags=e /
        CLIENT NO-EVICT off
        CLIENT NO-EVICT maybe => {SYNTAX}
        CLIENT NO-EVICT => {arity('client|no-evict')}
        7.2| CLIENT NO-TOUCH ON
        7.2| CLIENT INFO => / flags=T /
        7.2| CLIENT NO-TOUCH off
        7.2| CLIENT NO-TOUCH maybe => {SYNTAX}
        7.2| CLIENT NO-TOUCH => {arity('client|no-touch')}
    """)


def test_no_touch_keeps_idle_time(conn, is70):
    if is70:
        pytest.skip("CLIENT NO-TOUCH is new in 7.2")
    conn.ok("SET", "k", "v")
    conn.ok("CLIENT", "NO-TOUCH", "ON")
    time.sleep(2.1)
    conn.ok("GET", "k")
    assert conn("OBJECT", "IDLETIME", "k") >= 1
    conn.ok("TOUCH", "k")
    assert conn("OBJECT", "IDLETIME", "k") == 0


def test_client_kill_old_form(server, conn):
    other = server.connect()
    other.ok("PING")
    address = "127.0.0.1:%d" % other.sock.getsockname()[1]
    assert conn("CLIENT", "KILL", address) == "OK"
    assert other.closed()
    assert conn.err("CLIENT", "KILL", address) == "ERR No such client"
    assert conn.err("CLIENT", "KILL", "1.2.3.4:5") == "ERR No such client"


def test_client_kill_filters(server, conn):
    def killed(*args):
        other = server.connect()
        ident = other("CLIENT", "ID")
        address = "127.0.0.1:%d" % other.sock.getsockname()[1]
        count = conn("CLIENT", "KILL", *[{"%id": ident, "%addr": address}.get(a, a) for a in args])
        assert other.closed()
        return count
    assert killed("ID", "%id") == 1
    assert killed("ADDR", "%addr") == 1
    assert killed("LADDR", "127.0.0.1:%d" % server.any_port()) >= 1
    assert killed("TYPE", "normal") >= 1
    assert killed("USER", "default") >= 1
    assert killed("ID", "%id", "ADDR", "%addr", "SKIPME", "yes", "TYPE", "normal", "USER", "default") == 1
    run(conn, f"""
        CLIENT KILL ID 99999999 => :0
        CLIENT KILL ADDR 1.2.3.4:5 => :0
        CLIENT KILL TYPE pubsub => :0
        CLIENT KILL TYPE replica => :0
        CLIENT KILL => {arity('client|kill')}
        CLIENT KILL ID x => -ERR client-id should be greater than 0
        CLIENT KILL ID 0 => -ERR client-id should be greater than 0
        CLIENT KILL TYPE foo => -ERR Unknown client type 'foo'
        CLIENT KILL USER nouser => -ERR No such user 'nouser'
        CLIENT KILL SKIPME maybe => {SYNTAX}
        CLIENT KILL FOO bar => {SYNTAX}
        CLIENT KILL ID 1 ADDR => {SYNTAX}
    """)


def test_client_kill_itself(server):
    with server.connect() as conn:
        conn.send(encode("CLIENT", "KILL", "ID", conn("CLIENT", "ID"), "SKIPME", "no"))
        assert conn.read_until_eof() == b":1\r\n"
    with server.connect() as conn:
        assert conn("CLIENT", "KILL", "ID", conn("CLIENT", "ID")) == 0
        assert conn("PING") == "PONG"
    with server.connect() as conn:
        conn.send(encode("CLIENT", "KILL", "127.0.0.1:%d" % conn.sock.getsockname()[1]) + encode("PING"))
        assert conn.read_until_eof() == b"+OK\r\n"


def test_client_pause_write(server, conn, other):
    conn.ok("SET", "k", "v")
    conn.ok("CLIENT", "PAUSE", 10000, "WRITE")
    try:
        assert other("GET", "k") == b"v"
        other.send(encode("SET", "k", "w") + encode("GET", "k"))
        assert other.silent(0.3)
        assert conn("GET", "k") == b"v"
    finally:
        conn.ok("CLIENT", "UNPAUSE")
    assert [other.read().py, other.read().py] == ["OK", b"w"]


def test_client_pause_all_and_timeout(server, conn, other):
    started = time.monotonic()
    conn.ok("CLIENT", "PAUSE", 400)
    other.send(encode("PING"))
    assert other.silent(0.1)
    assert other.read().py == "PONG"
    assert time.monotonic() - started >= 0.35
    conn.ok("CLIENT", "PAUSE", 300, "ALL")
    conn.ok("CLIENT", "UNPAUSE")
    assert other("PING") == "PONG"


def test_client_pause_write_holds_exec_and_expiry(server, conn, other):
    conn.ok("SET", "soon", "v", "PX", 150)
    conn.ok("CLIENT", "PAUSE", 10000, "WRITE")
    try:
        other.send(b"".join(encode(*a) for a in [("MULTI",), ("SET", "x", "1"), ("EXEC",)]))
        time.sleep(0.2)
        # The write itself waits, so its QUEUED comes only after UNPAUSE.
        assert other.read().py == "OK"
        assert other.silent(0.2)
        assert conn("EXISTS", "x") == 0
        assert conn("GET", "soon") is None
    finally:
        conn.ok("CLIENT", "UNPAUSE")
    assert other.read().py == "QUEUED"
    assert other.read().py == ["OK"]


def test_client_pause_keeps_expired_keys_until_it_ends(conn, other):
    conn.ok("FLUSHALL")
    conn.ok("SET", "soon", "v", "PX", 50)
    conn.ok("SET", "late", "v")
    conn.ok("CLIENT", "PAUSE", 10000, "WRITE")
    try:
        time.sleep(0.3)
        assert conn("GET", "soon") is None and conn("EXISTS", "soon") == 0
        assert conn("DBSIZE") == 2
    finally:
        conn.ok("CLIENT", "UNPAUSE")
    wait_for(lambda: conn("DBSIZE") == 1, 5)
    conn.ok("SET", "soon", "v", "PX", 50)
    conn.ok("CLIENT", "PAUSE", 300, "ALL")
    wait_for(lambda: conn("DBSIZE") == 1, 5)  # the end of the pause is enough


def test_client_pause_write_stops_writers_of_all_threads(make_server):
    server = make_server(config="io-threads 4\n")
    stop = threading.Event()

    def write(index):
        with server.connect() as own:
            while not stop.is_set():
                own.pipeline([("INCR", "n%d" % index), ("MULTI",), ("INCR", "m%d" % index), ("INCR", "m"), ("EXEC",)] * 8)

    keys = ["m"] + ["%s%d" % (kind, index) for kind in "nm" for index in range(4)]
    writers = [threading.Thread(target=write, args=(index,)) for index in range(4)]
    with server.connect() as conn:
        for writer in writers:
            writer.start()
        try:
            for _ in range(15):
                time.sleep(0.02)
                conn.ok("CLIENT", "PAUSE", 10000, "WRITE")
                before = conn.ok("MGET", *keys)
                time.sleep(0.02)
                assert conn.ok("MGET", *keys) == before
                conn.ok("CLIENT", "UNPAUSE")
        finally:
            stop.set()
            conn.ok("CLIENT", "UNPAUSE")
            for writer in writers:
                writer.join()
        assert int(conn.ok("GET", "m")) == sum(int(conn.ok("GET", "m%d" % index)) for index in range(4))


def test_client_list_while_others_come_and_go(server, conn):
    stop = threading.Event()

    def come_and_go():
        while not stop.is_set():
            with server.connect() as own:
                own.ok("CLIENT", "SETNAME", "x")

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(60):
            lines = conn.ok("CLIENT", "LIST").decode().splitlines()
            assert all(re.match(r"id=\d+ addr=\S+ laddr=\S+ fd=\d+ name=x? ", line) for line in lines)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_client_list_id_in_the_order_asked(conn, other):
    mine, others = conn.ok("CLIENT", "ID"), other.ok("CLIENT", "ID")
    ids = [others, mine, 999999999, others]
    lines = conn.ok("CLIENT", "LIST", "ID", *ids).decode().splitlines()
    assert [int(line.split()[0][3:]) for line in lines] == [others, mine, others]


def test_client_long_words_are_shown_whole_in_errors(c):
    word = "x" * 300
    assert c.err("CLIENT", "LIST", "TYPE", word) == "ERR Unknown client type '%s'" % word
    assert c.err("CLIENT", "KILL", "USER", word) == "ERR No such user '%s'" % word
    assert c.err("HELLO", c.proto, word) == "ERR Syntax error in HELLO option '%s'" % word


def test_client_reply_within_a_transaction_and_reset(server):
    with server.connect() as conn:
        conn.send(b"".join(encode(*a) for a in [("MULTI",), ("PING",), ("CLIENT", "REPLY", "OFF"), ("PING",), ("EXEC",), ("PING",),
                                                ("RESET",), ("ECHO", "x")]))
        got = conn.read_exact(len(b"+OK\r\n" + b"+QUEUED\r\n" * 3 + b"*3\r\n+PONG\r\n+RESET\r\n$1\r\nx\r\n"))
        assert got == b"+OK\r\n" + b"+QUEUED\r\n" * 3 + b"*3\r\n+PONG\r\n+RESET\r\n$1\r\nx\r\n"
    with server.connect() as conn:
        conn.send(encode("CLIENT", "REPLY", "SKIP") + encode("RESET") + encode("ECHO", "x"))
        assert conn.read().py == b"x"


def test_client_pause_errors(c):
    run(c, f"""
        CLIENT PAUSE x => -ERR timeout is not an integer or out of range
        CLIENT PAUSE -1 => -ERR timeout is negative
        CLIENT PAUSE 10 FOO => -ERR CLIENT PAUSE mode must be WRITE or ALL
        CLIENT PAUSE 10 WRITE x => -ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.
        CLIENT UNBLOCK 1 ERROR x => -ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.
        CLIENT PAUSE => {arity('client|pause')}
        CLIENT UNPAUSE x => {arity('client|unpause')}
        CLIENT UNPAUSE
    """)


def test_client_reply(server):
    with server.connect() as conn:
        conn.send(encode("CLIENT", "REPLY", "OFF") + encode("PING") + encode("SET", "reply:k", "1") +
                  encode("CLIENT", "REPLY", "ON") + encode("ECHO", "after"))
        assert [conn.read().render(), conn.read().render()] == ["+OK", '"after"']
        assert conn("GET", "reply:k") == b"1"
        conn.send(encode("CLIENT", "REPLY", "SKIP") + encode("PING") + encode("ECHO", "after"))
        assert conn.read().render() == '"after"'
        assert conn.silent()
        conn.send(encode("CLIENT", "REPLY", "OFF") + encode("CLIENT", "REPLY", "SKIP") + encode("PING") +
                  encode("PING") + encode("CLIENT", "REPLY", "ON"))
        assert conn.read().render() == "+OK"
        assert conn.silent()
        run(conn, f"""
            CLIENT REPLY FOO => {SYNTAX}
            CLIENT REPLY => {arity('client|reply')}
        """)


def test_client_unblock(c):
    run(c, """
        CLIENT UNBLOCK 99999999 => :0
        CLIENT UNBLOCK 99999999 TIMEOUT => :0
        CLIENT UNBLOCK 99999999 ERROR => :0
        CLIENT UNBLOCK 99999999 FOO => -ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR
        CLIENT UNBLOCK x => -ERR value is not an integer or out of range
        CLIENT UNBLOCK => -ERR wrong number of arguments for 'client|unblock' command
    """)
    assert c("CLIENT", "UNBLOCK", c("CLIENT", "ID")) == 0


def test_client_trackinginfo_getredir(c):
    run(c, f"""
        2| CLIENT TRACKINGINFO => ["flags", ["off"], "redirect", :-1, "prefixes", []]
        3| CLIENT TRACKINGINFO => {{"flags": ~["off"], "redirect": :-1, "prefixes": []}}
        CLIENT GETREDIR => :-1
        CLIENT TRACKINGINFO x => {arity('client|trackinginfo')}
    """)


def test_client_age_and_idle(server, conn, other):
    time.sleep(1.2)
    entry = {e["id"]: e for e in client_list(conn)}[str(conn("CLIENT", "ID"))]
    assert int(entry["age"]) >= 1 and int(entry["idle"]) <= 1
    quiet = [e for e in client_list(conn) if e["id"] != entry["id"]]
    assert any(int(e["idle"]) >= 1 for e in quiet)


def test_select_is_per_connection(server, conn, other):
    conn.ok("SELECT", 2)
    conn.ok("SET", "k", "two")
    assert other("GET", "k") is None
    other.ok("SELECT", 2)
    assert other("GET", "k") == b"two"


def test_names_and_ids_over_many_reconnects(server, conn):
    for i in range(200):
        with server.connect() as other:
            other.ok("CLIENT", "SETNAME", "n%d" % i)
            assert other("CLIENT", "GETNAME") == b"n%d" % i
    assert not isinstance(conn("PING"), ReplyError)
