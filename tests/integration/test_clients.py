# SPDX-License-Identifier: BSD-3-Clause
"""python3-redis against the server: what applications use, over each transport."""
import threading
import time

import pytest

redis = pytest.importorskip("redis")


def client(server, **kwargs):
    args = {"host": server.host, "port": server.any_port(), "socket_timeout": server.env.timeout(10)}
    if server.use_tls:
        args.update(ssl=True, ssl_ca_certs=server.env.cert("ca.crt"), ssl_certfile=server.env.cert("client.crt"),
                    ssl_keyfile=server.env.cert("client.key"), ssl_check_hostname=True)
    args.update(kwargs)
    return redis.Redis(**args)


@pytest.fixture
def r(server):
    made = client(server)
    made.flushall()
    yield made
    made.close()
    made.connection_pool.disconnect()


def test_strings(r):
    assert r.set("k", "v") is True and r.get("k") == b"v"
    assert r.set("k", "w", nx=True) is None
    assert r.set("k", "w", xx=True, get=True) == b"v"
    assert r.set("n", 5, ex=100) and r.ttl("n") == 100
    assert r.incr("n") == 6 and r.incrby("n", 10) == 16 and r.decr("n") == 15
    assert r.incrbyfloat("f", 1.5) == 1.5
    assert r.append("k", "xyz") == 4 and r.strlen("k") == 4
    assert r.getrange("k", 1, 2) == b"xy" and r.setrange("k", 1, "AB") == 4
    assert r.mset({"a": 1, "b": 2}) and r.mget("a", "b", "zz") == [b"1", b"2", None]
    assert r.msetnx({"a": 1, "new": 2}) is False
    assert r.getdel("a") == b"1" and r.getex("b", ex=50) == b"2" and r.ttl("b") == 50
    assert r.setex("e", 10, "v") and r.psetex("p", 10000, "v") and r.setnx("e", "x") is False
    assert r.getset("e", "y") == b"v"
    assert r["e"] == b"y" and "e" in r
    with pytest.raises(redis.ResponseError, match="value is not an integer or out of range"):
        r.incr("e")


def test_bitmaps(r):
    assert r.setbit("b", 7, 1) == 0 and r.getbit("b", 7) == 1 and r.bitcount("b") == 1 and r.bitpos("b", 1) == 7
    r.set("x", b"\xff")
    assert r.bitop("XOR", "d", "b", "x") == 1 and r.get("d") == b"\xfe"
    field = r.bitfield("bf")
    assert field.set("u8", 0, 200).incrby("u8", 0, 100, overflow="SAT").get("u8", 0).execute() == [0, 255, 255]


def test_keys(r):
    r.mset({"key:%d" % i: i for i in range(500)})
    assert set(r.scan_iter("key:1*", count=50)) == {b"key:%d" % i for i in range(500) if str(i).startswith("1")}
    assert set(r.scan_iter(_type="string")) == set(r.keys("*"))
    assert r.delete("key:1", "key:2") == 2 and r.unlink("key:3") == 1 and r.exists("key:4", "key:1") == 1
    assert r.rename("key:4", "renamed") and r.renamenx("renamed", "key:5") is False
    assert r.expire("renamed", 100, nx=True) and not r.expire("renamed", 100, nx=True)
    assert r.expiretime("renamed") > time.time() and r.persist("renamed") and r.ttl("renamed") == -1
    assert r.copy("renamed", "copied") and r.type("copied") == b"string" and r.touch("copied") == 1
    assert r.move("copied", 3) and not r.exists("copied")
    assert r.object("encoding", "renamed") == b"int" and r.randomkey().startswith((b"key:", b"renamed"))
    assert r.dbsize() == len(r.keys())
    assert r.flushdb() and r.dbsize() == 0


def test_pipeline_and_transaction(r):
    with r.pipeline(transaction=True) as pipe:
        assert pipe.set("a", 1).incr("a").get("a").execute() == [True, 2, b"2"]
    with r.pipeline(transaction=False) as pipe:
        for i in range(1000):
            pipe.set("p%d" % i, i)
        assert all(pipe.execute())
    with r.pipeline() as pipe:
        pipe.watch("a")
        r.set("a", 10)
        pipe.multi()
        pipe.set("a", 20)
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert r.transaction(lambda p: (p.multi(), p.incr("a")), "a") == [11]
    with r.pipeline() as pipe:
        pipe.set("s", "text").incr("s")
        with pytest.raises(redis.ResponseError):
            pipe.execute()


def test_server_and_connection(r, server):
    info = r.info()
    assert info["role"] == "master" and info["connected_clients"] >= 1
    assert info["redis_version"].startswith("7.")
    assert r.ping() and r.echo("x") == b"x"
    assert r.config_get("maxmemory") == {"maxmemory": "0"}
    assert r.config_set("timeout", 0) and r.config_resetstat()
    assert r.client_setname("pyclient") and r.client_getname() in ("pyclient", b"pyclient")
    listed = r.client_list()
    assert any(entry["name"] == "pyclient" for entry in listed)
    assert r.client_id() in [int(entry["id"]) for entry in listed]
    assert r.client_kill_filter(_type="normal", skipme=True) >= 0
    assert r.client_pause(1) and r.client_unpause()
    seconds, _ = r.time()
    assert abs(seconds - time.time()) < 5
    assert r.command_count() > 60 and "get" in r.command()
    assert r.memory_usage("nokey") is None


def test_decode_responses_and_databases(server, r):
    text = client(server, decode_responses=True, db=4)
    assert text.set("k", "grüße") and text.get("k") == "grüße"
    assert r.get("k") is None
    assert r.swapdb(0, 4) and r.get("k") == "grüße".encode()


def test_password(make_server):
    server = make_server(directives={"requirepass": "secret"})
    server.password = "secret"
    assert client(server, password="secret").ping()
    assert client(server, username="default", password="secret").ping()
    with pytest.raises((redis.AuthenticationError, redis.ResponseError)):
        client(server, password="wrong").ping()
    with pytest.raises(redis.AuthenticationError):
        client(server).ping()


def test_connection_pool_of_threads(r, server):
    pool = client(server, max_connections=20)
    errors = []

    def work(number):
        try:
            for i in range(100):
                pool.set("t%d:%d" % (number, i), i)
                assert pool.get("t%d:%d" % (number, i)) == b"%d" % i
                pool.incr("total")
        except Exception as exc:
            errors.append(exc)
    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert r.get("total") == b"1200"


def test_reconnect_after_kill(r, server):
    assert r.ping()
    with server.connect() as admin:
        assert admin.ok("CLIENT", "KILL", "TYPE", "normal") >= 1
    other = client(server, retry_on_error=[redis.ConnectionError])
    assert other.ping()
    try:
        r.ping()
    except redis.ConnectionError:
        pass
    assert r.ping()


@pytest.mark.transports("tls-user", "tls-kernel")
def test_wrong_ca_is_refused(server):
    with pytest.raises(redis.ConnectionError):
        client(server, ssl_ca_certs=server.env.cert("other-ca.crt")).ping()
    assert client(server).ping()


@pytest.mark.transports("tls-user", "tls-kernel")
def test_plain_client_on_the_tls_port(server):
    with pytest.raises((redis.ConnectionError, redis.TimeoutError, redis.ResponseError)):
        redis.Redis(
            host=server.host, port=server.tls_port, socket_timeout=3).ping()
    assert client(server).ping()
