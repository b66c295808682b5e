# SPDX-License-Identifier: BSD-3-Clause
"""Publish and subscribe: replies, order, limits, clients of several I/O threads."""
import threading
import time

import pytest

from harness import wait_for
from resp import ReplyError, encode, run

CONTEXT = ("-ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this "
           "context")


@pytest.fixture
def other(server):
    with server.connect() as connection:
        yield connection


@pytest.fixture
def threaded(make_server):
    """Several I/O threads, whatever the machine has."""
    server = make_server(directives={"io-threads": "4"})
    return server


def pushed(conn, *items):
    """One message, as the protocol frames it."""
    node = conn.read()
    assert node.kind == (">" if conn.proto == 3 else "*")
    assert node.py == list(items), node


def address_of(conn):
    """As CLIENT LIST has it."""
    host, port = conn.sock.getsockname()[:2]
    return ("[%s]:%d" if ":" in host else "%s:%d") % (host, port)


def subscribe(conn, verb, *names, already=0):
    conn.send(encode(verb, *names))
    for i, name in enumerate(names):
        pushed(conn, verb.lower().encode(), name.encode() if isinstance(name, str) else name, already + i + 1)


def test_messages(c, other):
    subscribe(c, "SUBSCRIBE", "one", "two")
    subscribe(c, "SUBSCRIBE", "one", already=1)
    assert other("PUBLISH one first") == 1
    assert other("PUBLISH", "two", b"\x00\r\n\xff") == 1
    assert other("PUBLISH nobody hears") == 0
    pushed(c, b"message", b"one", b"first")
    pushed(c, b"message", b"two", b"\x00\r\n\xff")
    subscribe(c, "PSUBSCRIBE", "o*", "*ne", already=2)
    assert other("PUBLISH one second") == 3
    pushed(c, b"message", b"one", b"second")
    assert sorted(c.read().py for _ in range(2)) == [[b"pmessage", p, b"one", b"second"] for p in (b"*ne", b"o*")]
    c.send(encode("UNSUBSCRIBE", "one", "never"))
    pushed(c, b"unsubscribe", b"one", 3)
    pushed(c, b"unsubscribe", b"never", 3)
    assert other("PUBLISH one third") == 2
    assert sorted(c.read().py for _ in range(2)) == [[b"pmessage", p, b"one", b"third"] for p in (b"*ne", b"o*")]
    c.send(encode("UNSUBSCRIBE") + encode("PUNSUBSCRIBE") + encode("UNSUBSCRIBE"))
    pushed(c, b"unsubscribe", b"two", 2)
    assert {c.read().py[1], c.read().py[1]} == {b"o*", b"*ne"}
    pushed(c, b"unsubscribe", None, 0)
    assert other("PUBLISH one fourth") == 0
    assert c("ECHO x") == b"x"


def test_empty_names_and_messages(c, other):
    subscribe(c, "SUBSCRIBE", "")
    subscribe(c, "PSUBSCRIBE", "", already=1)
    assert other("PUBLISH", "", "") == 2
    pushed(c, b"message", b"", b"")
    pushed(c, b"pmessage", b"", b"", b"")


def test_shard_channels(c, other):
    subscribe(c, "SSUBSCRIBE", "one", "two")
    subscribe(c, "SUBSCRIBE", "one")
    assert other("SPUBLISH one m") == 1 and other("PUBLISH one n") == 1
    pushed(c, b"smessage", b"one", b"m")
    pushed(c, b"message", b"one", b"n")
    assert sorted(other("PUBSUB SHARDCHANNELS")) == [b"one", b"two"]
    assert other("PUBSUB SHARDCHANNELS t*") == [b"two"]
    assert other("PUBSUB SHARDNUMSUB one zero") == [b"one", 1, b"zero", 0]
    c.send(encode("SUNSUBSCRIBE", "one") + encode("SUNSUBSCRIBE") + encode("SUNSUBSCRIBE"))
    pushed(c, b"sunsubscribe", b"one", 1)
    pushed(c, b"sunsubscribe", b"two", 0)
    pushed(c, b"sunsubscribe", None, 0)


def test_pubsub_command(c, server):
    with server.connect() as one, server.connect() as two:
        subscribe(one, "SUBSCRIBE", "news.it", "news.at")
        subscribe(two, "SUBSCRIBE", "news.it")
        subscribe(two, "PSUBSCRIBE", "n*", "x*", already=1)
        assert sorted(c("PUBSUB CHANNELS")) == [b"news.at", b"news.it"]
        assert c("PUBSUB CHANNELS *at") == [b"news.at"] and c("PUBSUB CHANNELS zz") == []
        assert c("PUBSUB NUMSUB news.it news.at n*") == [b"news.it", 2, b"news.at", 1, b"n*", 0]
        assert c("PUBSUB NUMPAT") == 2 and c("PUBSUB NUMSUB") == []
        subscribe(one, "PSUBSCRIBE", "n*", already=2)
        assert c("PUBSUB NUMPAT") == 2
        info = c.info("stats")
        assert info["pubsub_channels"] == "2" and info["pubsub_patterns"] == "2" and info["pubsubshard_channels"] == "0"
        if not server.env.is_redis70:
            assert c.info("clients").get("pubsub_clients", "2") == "2"
    wait_for(lambda: c("PUBSUB CHANNELS") == [] and c("PUBSUB NUMPAT") == 0, what="the subscribers to be forgotten")
    run(c, """
        PUBSUB CHANNELS a b => -ERR unknown subcommand or wrong number of arguments for 'CHANNELS'. Try PUBSUB HELP.
        PUBSUB NOSUCH => -ERR unknown subcommand 'NOSUCH'. Try PUBSUB HELP.
        PUBSUB => -ERR wrong number of arguments for 'pubsub' command
        SUBSCRIBE => -ERR wrong number of arguments for 'subscribe' command
        PUBLISH x => -ERR wrong number of arguments for 'publish' command
    """)
    assert c("PUBSUB HELP")[0].startswith("PUBSUB <subcommand>")


def test_resp2_subscriber_can_do_little(conn, other):
    subscribe(conn, "SUBSCRIBE", "x")
    run(conn, f"""
        GET k => {CONTEXT % 'get'}
        CLIENT LIST => {CONTEXT % 'client|list'}
        PUBLISH x 1 => {CONTEXT % 'publish'}
        MULTI => {CONTEXT % 'multi'}
        HELLO 3 => {CONTEXT % 'hello'}
        NOSUCH => /unknown command 'NOSUCH'/
        GET => -ERR wrong number of arguments for 'get' command
        PING => ["pong", ""]
        PING hello => ["pong", "hello"]
        PING a b => -ERR wrong number of arguments for 'ping' command
    """)
    subscribe(conn, "SSUBSCRIBE", "s")
    conn.send(encode("UNSUBSCRIBE"))
    pushed(conn, b"unsubscribe", b"x", 0)
    assert isinstance(conn("GET k"), ReplyError)
    assert conn("RESET") == "RESET"
    assert conn("GET k") is None and conn("PING") == "PONG"
    assert other("PUBLISH x 1") == 0 and other("PUBSUB SHARDCHANNELS") == []
    subscribe(conn, "SUBSCRIBE", "x")
    assert conn("QUIT") == "OK"


def test_resp3_subscriber_is_a_client_like_others(server):
    with server.connect(proto=3) as c:
        subscribe(c, "SUBSCRIBE", "x")
        run(c, """
            SET k v
            GET k => "v"
            PING => +PONG
        """)
        c.send(encode("PUBLISH", "x", "mine") + encode("PING"))
        if server.env.is_redis70:
            return
        assert c.read().render() == ":1"
        pushed(c, b"message", b"x", b"mine")
        assert c.read().render() == "+PONG"


def test_transactions(conn, server):
    with server.connect(proto=3) as listener:
        subscribe(listener, "SUBSCRIBE", "x")
        run(conn, """
            MULTI
            PUBLISH x 1 => +QUEUED
            SET k v => +QUEUED
            PUBLISH x 2 => +QUEUED
            EXEC => [:1, +OK, :1]
        """)
        pushed(listener, b"message", b"x", b"1")
        pushed(listener, b"message", b"x", b"2")
        assert listener("MULTI") == "OK" and listener("PUBLISH x 3") == "QUEUED" and listener("PING") == "QUEUED"
        if not server.env.is_redis70:
            assert listener("EXEC") == [1, "PONG"]
            pushed(listener, b"message", b"x", b"3")
    run(conn, """
        MULTI
        SUBSCRIBE x => +QUEUED
        SSUBSCRIBE y => +QUEUED
        UNSUBSCRIBE x => +QUEUED
        EXEC => [["subscribe", "x", :1], -ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client, ["unsubscribe", "x", :0]]
    """)


def test_client_reply_off_hears_all_the_same(c, other):
    c.send(encode("CLIENT", "REPLY", "OFF"))
    subscribe(c, "SUBSCRIBE", "x")
    other("PUBLISH x loud")
    pushed(c, b"message", b"x", b"loud")


def test_client_list(c, other):
    assert " sub=0 psub=0 ssub=0 " in c("CLIENT LIST").decode()
    ident = other("CLIENT ID")
    subscribe(other, "SUBSCRIBE", "a", "b")
    subscribe(other, "PSUBSCRIBE", "c", already=2)
    subscribe(other, "SSUBSCRIBE", "d", "e", "f")
    line = c("CLIENT LIST TYPE PUBSUB").decode()
    assert line.startswith("id=%d " % ident) and line.count("\n") == 1
    assert " flags=P " in line and " sub=2 psub=1 ssub=3 " in line
    assert "id=%d " % ident not in c("CLIENT LIST TYPE NORMAL").decode()
    assert c("CLIENT KILL TYPE PUBSUB") == 1
    with pytest.raises((EOFError, OSError)):
        other.read()
    assert c("PUBSUB CHANNELS") == []


def test_large_messages_are_shared(c, server, other):
    listeners = [server.connect(proto=2 + i % 2) for i in range(6)]
    for listener in listeners:
        subscribe(listener, "SUBSCRIBE", "big")
        subscribe(listener, "PSUBSCRIBE", "b*", already=1)
    for size in (4095, 5000, 16384, 3 << 20):
        body = bytes(range(256)) * (size // 256 + 1)
        assert other("PUBLISH", "big", body) == 12
        for listener in listeners:
            pushed(listener, b"message", b"big", body)
            pushed(listener, b"pmessage", b"b*", b"big", body)
    for listener in listeners:
        listener.close()


def fill(publisher, listener_id, size, count):
    """Publishes to somebody who does not read. True when the server has closed the connection."""
    for _ in range(count):
        publisher("PUBLISH", "flood", b"x" * size)
    return b"id=%d " % listener_id not in publisher("CLIENT LIST")


def test_hard_limit_of_the_pubsub_class(make_server):
    server = make_server(directives={"client-output-buffer-limit": ["pubsub", "1mb", "0", "0"]})
    with server.connect() as slow, server.connect() as publisher, server.connect() as normal:
        ident = slow("CLIENT ID")
        subscribe(slow, "SUBSCRIBE", "flood")
        wait_for(lambda: fill(publisher, ident, 65536, 50), timeout=server.env.timeout(30), what="the slow subscriber to go")
        assert int(publisher.info("stats")["client_output_buffer_limit_disconnections"]) == 1
        assert publisher("PUBSUB NUMSUB flood") == [b"flood", 0]
        assert "output buffer limits" in server.log()
        normal("SET", "big", b"x" * (4 << 20))
        assert len(normal("GET", "big")) == 4 << 20


def test_soft_limit_of_the_pubsub_class(make_server):
    server = make_server(directives={"client-output-buffer-limit": ["pubsub", "0", "300kb", "1"]})
    with server.connect() as slow, server.connect() as publisher:
        ident = slow("CLIENT ID")
        subscribe(slow, "SUBSCRIBE", "flood")

        def held():
            line = publisher("CLIENT LIST").decode()
            return int(line.split("id=%d " % ident)[1].split("omem=")[1].split()[0])
        still = 0  # what the sockets take in, on both sides, is not held: it must stay
        while still < 600000:
            while held() < 600000:
                publisher("PUBLISH", "flood", b"x" * 65536)
            time.sleep(0.2)
            still = held()
        start = time.monotonic()
        wait_for(lambda: b"id=%d " % ident not in publisher("CLIENT LIST"), timeout=server.env.timeout(10),
                 what="the slow subscriber to go")
        assert time.monotonic() - start > 0.5


def test_publishers_and_subscribers_of_several_threads(threaded):
    """Each subscriber sees each publisher's messages in their order, none twice, none missing."""
    channels, publishers, subscribers, count = 3, 6, 9, 400
    listeners = [threaded.connect(proto=2 + i % 2) for i in range(subscribers)]
    for i, listener in enumerate(listeners):
        if i % 3 == 2:
            subscribe(listener, "PSUBSCRIBE", "ch*")
        else:
            subscribe(listener, "SUBSCRIBE", *["ch%d" % ch for ch in range(channels)])
    errors, received = [], [0] * publishers

    def publish(number):
        try:
            with threaded.connect() as conn:
                for base in range(0, count, 50):
                    conn.send(b"".join(encode("PUBLISH", "ch%d" % (i % channels), "%d:%d" % (number, i))
                                       for i in range(base, base + 50)))
                    received[number] += sum(conn.read().py for _ in range(50))
        except Exception as exc:
            errors.append(exc)

    def listen(listener):
        try:
            last = [-1] * publishers
            for _ in range(publishers * count):
                number, i = map(int, listener.read().py[-1].split(b":"))
                assert i == last[number] + 1, (number, i, last[number])
                last[number] = i
        except Exception as exc:
            errors.append(exc)
    threads = [threading.Thread(target=publish, args=(n,)) for n in range(publishers)]
    threads += [threading.Thread(target=listen, args=(one,)) for one in listeners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    assert received == [subscribers * count] * publishers
    for listener in listeners:
        listener.close()


def test_what_was_published_comes_before_the_next_reply(threaded):
    """The publisher has its answer, so the message is there before whatever the subscriber asks for next."""
    listeners = [threaded.connect(proto=3) for _ in range(8)]
    for listener in listeners:
        subscribe(listener, "SUBSCRIBE", "x")
    with threaded.connect() as publisher:
        for i in range(100):
            assert publisher("PUBLISH", "x", str(i)) == 8
            listener = listeners[i % 8]
            listener.send(encode("PING"))
            while True:
                node = listener.read()
                if node.kind == "+":
                    break
                last = node.py[2]
            assert last == b"%d" % i
            for one in listeners:
                if one is not listener:
                    pushed(one, b"message", b"x", b"%d" % i)
    for listener in listeners:
        listener.close()


@pytest.mark.slow
def test_who_is_killed_is_gone_with_the_reply(threaded):
    """Neither counted nor shown nor written to after the answer of CLIENT KILL, whichever threads the two of them are on."""
    with threaded.connect() as admin, threaded.connect() as stays:
        subscribe(stays, "SUBSCRIBE", "x")
        subscribe(stays, "PSUBSCRIBE", "p*", already=1)
        wait_for(lambda: admin.info("clients")["connected_clients"] == "2", what="nobody else")
        for i in range(150):
            victims = [threaded.connect() for _ in range(3)]
            for victim in victims:
                subscribe(victim, "SUBSCRIBE", "x", "alone")
                subscribe(victim, "PSUBSCRIBE", "p*", "x*", already=2)
                subscribe(victim, "SSUBSCRIBE", "shard")
            assert admin("PUBSUB NUMSUB x alone") == [b"x", 4, b"alone", 3] and admin("PUBSUB NUMPAT") == 2
            if i % 3 == 2:  # in a transaction just the same
                admin.send(encode("MULTI") + encode("CLIENT", "KILL", "TYPE", "pubsub", "ADDR", address_of(victims[0])) +
                           encode("PUBLISH", "x", "late") + encode("EXEC"))
                assert [admin.read().py for _ in range(4)][3] == [1, 5]
                pushed(stays, b"message", b"x", b"late")
                victims, early = victims[1:], victims[0]
                for victim in victims:
                    pushed(victim, b"message", b"x", b"late")
                    pushed(victim, b"pmessage", b"x*", b"x", b"late")
                assert early.read_until_eof() == b""
            admin.send(b"".join(encode("CLIENT", "KILL", "ADDR", address_of(victim)) for victim in victims))
            assert [admin.read().py for _ in victims] == [1] * len(victims)
            assert admin("PUBLISH x after") == 1 and admin("PUBLISH pp after") == 1
            assert admin("PUBLISH alone after") == 0 and admin("SPUBLISH shard after") == 0
            assert admin("PUBSUB NUMSUB x alone") == [b"x", 1, b"alone", 0] and admin("PUBSUB NUMPAT") == 1
            assert admin("PUBSUB CHANNELS") == [b"x"] and admin("PUBSUB SHARDCHANNELS") == []
            assert admin("CLIENT LIST").count(b"\n") == 2
            info = admin.info("clients")
            assert info["connected_clients"] == "2" and info.get("pubsub_clients", "1") == "1"
            for victim in victims:
                assert victim.read_until_eof() == b""
            pushed(stays, b"message", b"x", b"after")
            pushed(stays, b"pmessage", b"p*", b"pp", b"after")


@pytest.mark.slow
def test_who_subscribes_while_others_are_killed_hears_all(threaded):
    """The killed ones leave their threads' tables late: that must not take the channel from the others of the thread."""
    stop, errors = threading.Event(), []

    def kill():
        try:
            with threaded.connect() as admin:
                while not stop.is_set():
                    made = [threaded.connect() for _ in range(8)]
                    for one in made:
                        subscribe(one, "SUBSCRIBE", "x")
                    admin.send(b"".join(encode("CLIENT", "KILL", "ADDR", address_of(one)) for one in made))
                    assert [admin.read().py for _ in made] == [1] * len(made)
                    for one in made:
                        one.close()
        except Exception as exc:
            errors.append(exc)
    killers = [threading.Thread(target=kill) for _ in range(2)]
    for killer in killers:
        killer.start()
    try:
        with threaded.connect() as publisher:
            for i in range(60):
                listeners = [threaded.connect(proto=3) for _ in range(4)]
                for one in listeners:
                    subscribe(one, "SUBSCRIBE", "x")
                assert publisher("PUBLISH", "x", str(i)) >= 4
                for one in listeners:
                    pushed(one, b"message", b"x", b"%d" % i)
                    one.send(encode("UNSUBSCRIBE", "x"))
                    pushed(one, b"unsubscribe", b"x", 0)
                    one.close()
    finally:
        stop.set()
        for killer in killers:
            killer.join()
    assert not errors, errors[0]
    with threaded.connect() as conn:
        assert conn("PUBSUB CHANNELS") == [] and conn("PUBLISH x end") == 0


def test_subscribers_that_come_and_go(threaded):
    """After its acknowledgement a subscriber misses nothing, and after that of UNSUBSCRIBE it hears nothing."""
    stop, errors = threading.Event(), []

    def publish():
        try:
            with threaded.connect() as conn:
                i = 0
                while not stop.is_set():
                    conn("PUBLISH", "x", str(i))
                    conn("PUBLISH", "y", str(i))
                    i += 1
        except Exception as exc:
            errors.append(exc)

    def come_and_go(proto):
        try:
            with threaded.connect(proto=proto) as conn:
                for _ in range(60):
                    subscribe(conn, "SUBSCRIBE", "x")
                    values = [int(conn.read().py[2]) for _ in range(5)]
                    assert values == list(range(values[0], values[0] + 5)), values
                    conn.send(encode("UNSUBSCRIBE", "x") + encode("ECHO", "end"))
                    while conn.read().py[0] != b"unsubscribe":
                        pass
                    assert conn.read().py == b"end"
        except Exception as exc:
            errors.append(exc)
    threads = [threading.Thread(target=publish) for _ in range(1)]
    visitors = [threading.Thread(target=come_and_go, args=(2 + i % 2,)) for i in range(5)]
    for thread in threads + visitors:
        thread.start()
    for thread in visitors:
        thread.join()
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors, errors[0]
    with threaded.connect() as conn:
        assert conn("PUBSUB CHANNELS") == []


def test_subscribers_do_not_time_out(make_server):
    server = make_server(directives={"timeout": "1"})
    with server.connect() as listener, server.connect() as idle:
        subscribe(listener, "SUBSCRIBE", "x")
        with pytest.raises(EOFError):
            idle.read()
        with server.connect() as publisher:
            assert publisher("PUBLISH x still") == 1
        pushed(listener, b"message", b"x", b"still")


def test_many_channels_of_one_client(c, other):
    names = ["ch:%d" % i for i in range(5000)]
    subscribe(c, "SUBSCRIBE", *names)
    assert len(other("PUBSUB CHANNELS")) == 5000
    assert other("PUBLISH ch:4321 m") == 1
    pushed(c, b"message", b"ch:4321", b"m")
    c.send(encode("UNSUBSCRIBE"))
    assert sorted(c.read().py[1] for _ in names) == sorted(n.encode() for n in names)
    assert other("PUBSUB CHANNELS") == []


def test_python_redis(server):
    redis = pytest.importorskip("redis")
    args = {"host": server.host, "port": server.any_port(), "socket_timeout": server.env.timeout(10)}
    if server.use_tls:
        args.update(ssl=True, ssl_ca_certs=server.env.cert("ca.crt"), ssl_certfile=server.env.cert("client.crt"),
                    ssl_keyfile=server.env.cert("client.key"))
    r = redis.Redis(**args)
    p = r.pubsub()
    p.subscribe("a")
    p.psubscribe("b*")
    assert [p.get_message(timeout=5)["type"] for _ in range(2)] == ["subscribe", "psubscribe"]
    assert r.publish("a", "1") == 1 and r.publish("bb", "2") == 1
    assert p.get_message(timeout=5) == {"type": "message", "pattern": None, "channel": b"a", "data": b"1"}
    assert p.get_message(timeout=5) == {"type": "pmessage", "pattern": b"b*", "channel": b"bb", "data": b"2"}
    assert r.pubsub_channels() == [b"a"] and r.pubsub_numsub("a") == [(b"a", 1)] and r.pubsub_numpat() == 1
    p.close()
    r.close()
