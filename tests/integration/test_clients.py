# SPDX-License-Identifier: BSD-3-Clause
"""python3-redis against the server: what applications use, over each transport."""
import re
import subprocess
import threading
import time

import pytest

import harness

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


def test_pubsub(r, server):
    with r.pubsub() as sub:
        heard = []
        sub.subscribe("a", **{"b": lambda message: heard.append(message["data"])})
        sub.psubscribe("n?ws.*")
        got = [sub.get_message(timeout=server.env.timeout(5)) for _ in range(3)]
        assert [(m["type"], m["channel"], m["data"]) for m in got] == [
            ("subscribe", b"a", 1), ("subscribe", b"b", 2), ("psubscribe", b"n?ws.*", 3)]
        assert r.publish("a", "one") == 1 and r.publish("b", "two") == 1 and r.publish("news.x", b"\xff\0") == 1
        assert sub.get_message(timeout=5)["data"] == b"one" and sub.get_message(timeout=5) is None and heard == [b"two"]
        assert sub.get_message(timeout=5) == {"type": "pmessage", "pattern": b"n?ws.*", "channel": b"news.x",
                                              "data": b"\xff\0"}
        assert set(r.pubsub_channels()) == {b"a", b"b"} and r.pubsub_numpat() == 1
        assert r.pubsub_numsub("a", "none") == [(b"a", 1), (b"none", 0)]
        sub.ping("still")
        assert sub.get_message(timeout=5)["data"] == b"still"
        sub.unsubscribe()
        sub.punsubscribe()
        assert [sub.get_message(timeout=5)["data"] for _ in range(3)] == [2, 1, 0] and not sub.subscribed
    got = []
    sub = r.pubsub(ignore_subscribe_messages=True)
    sub.subscribe(**{"c": got.append})
    thread = sub.run_in_thread(sleep_time=0.01)
    harness.wait_for(lambda: r.publish("c", "x") == 1, what="the subscriber")
    harness.wait_for(lambda: got, what="the message")
    thread.stop()
    thread.join()


def test_stream_of_a_consumer_group(r):
    ids = [r.xadd("s", {"n": i, "text": "grüße"}) for i in range(10)]
    assert r.xlen("s") == 10 and r.xrange("s", count=1) == [(ids[0], {b"n": b"0", b"text": "grüße".encode()})]
    assert [e[0] for e in r.xrevrange("s", ids[3], ids[1])] == ids[3:0:-1]
    assert r.xgroup_create("s", "g", id="0")
    with pytest.raises(redis.ResponseError, match="BUSYGROUP"):
        r.xgroup_create("s", "g")
    ((name, entries),) = r.xreadgroup("g", "w1", {"s": ">"}, count=4)
    assert name == b"s" and [e[0] for e in entries] == ids[:4]
    assert len(r.xreadgroup("g", "w2", {"s": ">"}, count=4)[0][1]) == 4
    assert r.xpending("s", "g") == {"pending": 8, "min": ids[0], "max": ids[7],
                                    "consumers": [{"name": b"w1", "pending": 4}, {"name": b"w2", "pending": 4}]}
    assert r.xack("s", "g", *ids[:3]) == 3
    (left,) = r.xpending_range("s", "g", "-", "+", 10, consumername="w1")
    assert left["message_id"] == ids[3] and left["times_delivered"] == 1
    assert [e[0] for e in r.xclaim("s", "g", "w3", 0, ids[3:5])] == ids[3:5]
    assert r.xautoclaim("s", "g", "w1", 0, justid=True, count=2) == ids[3:5]
    assert r.xreadgroup("g", "w1", {"s": "0"})[0][1][0][0] == ids[3]
    assert {c["name"]: c["pending"] for c in r.xinfo_consumers("s", "g")} == {b"w1": 2, b"w2": 3, b"w3": 0}
    (group,) = r.xinfo_groups("s")
    assert group["pending"] == 5 and group["last-delivered-id"] == ids[7] and group["lag"] == 2
    assert r.xinfo_stream("s")["length"] == 10 and r.xgroup_delconsumer("s", "g", "w2") == 3
    assert r.xtrim("s", maxlen=2, approximate=False) == 8 and r.xdel("s", ids[9]) == 1
    assert r.xread({"s": "$"}, block=10) == [] and r.xgroup_destroy("s", "g")


def test_a_blocked_reader_is_served(r, server):
    other = client(server)
    got = []
    threads = [threading.Thread(target=lambda: got.append(other.xread({"s": "$"}, block=8000))),
               threading.Thread(target=lambda: got.append(other.blpop(["l1", "l2"], timeout=8))),
               threading.Thread(target=lambda: got.append(other.bzpopmin("z", timeout=8)))]
    for thread in threads:
        thread.start()
    harness.wait_for(lambda: r.info("clients")["blocked_clients"] == 3, what="the readers")
    entry = r.xadd("s", {"a": "b"})
    assert r.rpush("l2", "x") == 1 and r.zadd("z", {"m": 2.5}) == 1
    for thread in threads:
        thread.join()
    for reply in ([[b"s", [(entry, {b"a": b"b"})]]], (b"l2", b"x"), (b"z", b"m", 2.5)):
        assert reply in got


def test_scripts(r):
    add = r.register_script("""
        local sum = redis.call('INCRBY', KEYS[1], ARGV[1])
        if sum > 100 then return redis.error_reply('LIMIT reached') end
        return {sum, cjson.decode(ARGV[2]).name, redis.sha1hex('')}""")
    assert add(keys=["n"], args=[30, '{"name":"x"}']) == [30, b"x", b"da39a3ee5e6b4b0d3255bfef95601890afd80709"]
    assert r.script_exists(add.sha, "0" * 40) == [True, False]
    assert r.script_flush() and add(keys=["n"], args=[30, '{"name":"y"}'])[:2] == [60, b"y"]  # loaded again
    with r.pipeline() as pipe:
        add(keys=["n"], args=[1, '{"name":"z"}'], client=pipe)
        pipe.get("n")
        replies = pipe.execute()
        assert replies[0][0] == 61 and replies[1] == b"61"
    with pytest.raises(redis.ResponseError, match="LIMIT reached"):
        add(keys=["n"], args=[100, "{}"])
    assert r.eval("return {1, ARGV[1], false, {KEYS[1]}}", 1, "k", "v") == [1, b"v", None, [b"k"]]
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        r.eval("return redis.call('LPUSH', KEYS[1], 'x')", 1, "n")


def test_locks(r, server):
    lock = r.lock("lock", timeout=10)
    assert lock.acquire(blocking=False) and lock.locked() and lock.owned()
    other = client(server).lock("lock", timeout=10, sleep=0.01, thread_local=False)
    assert not other.acquire(blocking_timeout=0.05)
    assert lock.extend(20) and 10 < r.ttl("lock") <= 30 and lock.reacquire() and r.ttl("lock") <= 10
    waiting = threading.Thread(target=lambda: other.acquire(blocking_timeout=8))
    waiting.start()
    lock.release()
    waiting.join()
    assert other.owned()
    with pytest.raises(redis.exceptions.LockError):
        lock.release()
    r.set("lock", "of somebody else")
    with pytest.raises(redis.exceptions.LockNotOwnedError):
        other.release()


def test_collections(r):
    assert r.hset("h", mapping={"a": 1, "b": "two"}) == 2 and r.hgetall("h") == {b"a": b"1", b"b": b"two"}
    assert r.hincrby("h", "a", 4) == 5 and r.hmget("h", "a", "none") == [b"5", None]
    r.hset("big", mapping={"f%d" % i: i for i in range(1500)})
    assert dict(r.hscan_iter("big", count=100)) == {b"f%d" % i: b"%d" % i for i in range(1500)}
    assert r.sadd("s", *range(1000)) == 1000 and len(set(r.sscan_iter("s"))) == 1000
    assert r.sadd("t", 1, 2, "x") == 3 and r.sinter("s", "t") == {b"1", b"2"} and r.sintercard(2, ["s", "t"]) == 2
    assert r.zadd("z", {"m%d" % i: i / 2 for i in range(1000)}) == 1000
    assert r.zadd("z", {"m1": 9}, gt=True, ch=True) == 1 and r.zadd("z", {"m1": 1}, incr=True) == 10.0
    assert r.zrange("z", 0, 1, desc=True, withscores=True) == [(b"m999", 499.5), (b"m998", 499.0)]
    assert r.zrange("z", "(1", 2, byscore=True) == [b"m3", b"m4"] and len(dict(r.zscan_iter("z"))) == 1000
    assert r.zpopmin("z", 2) == [(b"m0", 0.0), (b"m2", 1.0)] and r.zrevrank("z", "m999") == 0
    assert r.rpush("l", *range(300)) == 300 and r.lrange("l", -2, -1) == [b"298", b"299"] and r.lpos("l", 7) == 7
    assert r.lmove("l", "m", "LEFT", "RIGHT") == b"0" and r.lpop("l", 2) == [b"1", b"2"] and r.linsert("l", "before", 5, "x") == 298
    assert r.sort("t", alpha=True, desc=True) == [b"x", b"2", b"1"]
    assert r.geoadd("g", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")) == 2
    assert r.geosearch("g", longitude=15, latitude=37, radius=100, unit="km", withdist=True) == [[b"Catania", 56.4413]]
    assert r.pfadd("hll", *range(100)) == 1 and 95 <= r.pfcount("hll") <= 105


def test_user_with_rights(r, server):
    assert r.acl_setuser("reader", enabled=True, passwords=["+secret"], keys=["app:*"], categories=["-@all", "+@read"],
                         commands=["+client|setname"])
    try:
        reader = client(server, username="reader", password="secret")
        r.mset({"app:1": "x", "other": "y"})
        assert reader.get("app:1") == b"x"
        for refused in (lambda: reader.get("other"), lambda: reader.set("app:1", "z"), lambda: reader.flushall()):
            with pytest.raises(redis.exceptions.NoPermissionError):
                refused()
        listed = r.acl_getuser("reader")
        assert listed["enabled"] and "+client|setname" in listed["commands"] and "+@read" in listed["categories"]
        assert r.acl_log(count=1)[0]["username"] == "reader" and r.acl_whoami() == "default" and "reader" in r.acl_users()
        with pytest.raises((redis.AuthenticationError, redis.ResponseError), match="WRONGPASS"):
            client(server, username="reader", password="wrong").ping()
    finally:
        r.acl_deluser("reader")


@pytest.mark.transports("tls-user", "tls-kernel")
def test_certificate_names_the_user(make_server, env):
    if not env.is_kettle:
        pytest.skip("tls-auth-clients-user is newer than the reference servers")
    server = make_server(directives={"tls-auth-clients-user": "CN"})
    name = subprocess.run(["openssl", "x509", "-noout", "-subject", "-nameopt", "multiline", "-in", env.cert("client.crt")],
                          stdout=subprocess.PIPE, check=True, timeout=30).stdout.decode()
    name = re.search(r"commonName\s*= (.*)", name).group(1)
    admin = client(server)
    assert admin.acl_whoami() == "default"
    assert admin.acl_setuser(name, enabled=True, nopass=True, keys=["*"], categories=["+@all"])
    assert client(server).acl_whoami() == name
    admin.acl_deluser(name)


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


@pytest.mark.slow
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
