# SPDX-License-Identifier: BSD-3-Clause
"""What tests of the append-only file share: servers that are ended and started again, files, a data set of every kind."""
import glob
import os
import re
import signal

import harness

NAME = "appendonly.aof"


def directives(fsync="everysec", **more):
    out = {"appendonly": "yes", "appendfsync": fsync}
    out.update({k.replace("_", "-"): v for k, v in more.items()})
    return out


def text(reply):
    """The reply with its strings as text."""
    if isinstance(reply, (list, tuple)):
        return [text(x) for x in reply]
    return reply.decode("utf-8", "surrogateescape") if isinstance(reply, bytes) else reply


def ok(conn, *args):
    return text(conn.ok(*args))


def folder(server):
    return os.path.join(server.dir, "appendonlydir")


def manifest_path(server):
    return os.path.join(folder(server), NAME + ".manifest")


def manifest(server):
    with open(manifest_path(server)) as handle:
        return [(line.split()[1], line.split()[5]) for line in handle if not line.startswith("#")]


def path_of(server, kind):
    """The last file of that kind ("b", "i") in the manifest."""
    return os.path.join(folder(server), [name for name, k in manifest(server) if k == kind][-1])


def read(path):
    with open(path, "rb") as handle:
        return handle.read()


def write(path, data):
    with open(path, "wb") as handle:
        handle.write(data)


def end(server, sig=signal.SIGTERM):
    """The process ends, its directory stays."""
    if server.proc.poll() is None:
        server.proc.send_signal(sig)
        server.proc.wait(server.env.timeout(30))


def again(server, sig=signal.SIGTERM):
    end(server, sig)
    server.start()
    return server


def fails_to_start(server):
    """Exit status and log of a start that must not succeed."""
    mark = len(server.log())
    server.start(wait=False)
    status = server.wait_exit(30)
    assert status not in (0, None)
    return server.log()[mark:]


def info(server, *sections):
    with server.connect() as conn:
        return conn.info(*(sections or ("persistence",)))


def wait_rewritten(server, n=1, timeout=30):
    def done():
        fields = info(server)
        return int(fields["aof_rewrites"]) >= n and fields["aof_rewrite_in_progress"] == "0" and fields["aof_rewrite_scheduled"] == "0"
    harness.wait_for(done, server.env.timeout(timeout), what="the rewrite of the append-only file")


def rewrite(server):
    before = int(info(server)["aof_rewrites"])
    with server.connect() as conn:
        conn.ok("BGREWRITEAOF")
    wait_rewritten(server, before + 1)


def resp_commands(data):
    """The commands of an increment, as lists of bytes; annotations left out."""
    out, at = [], 0
    while at < len(data):
        if data[at:at + 1] == b"#":
            at = data.index(b"\n", at) + 1
            continue
        m = re.match(rb"\*(\d+)\r\n", data[at:at + 32])
        assert m, data[at:at + 80]
        at += m.end()
        argv = []
        for _ in range(int(m.group(1))):
            m = re.match(rb"\$(\d+)\r\n", data[at:at + 32])
            at += m.end()
            argv.append(data[at:at + int(m.group(1))])
            at += int(m.group(1)) + 2
        out.append(argv)
    return out


def leftovers(server):
    return [os.path.basename(p) for p in glob.glob(os.path.join(server.dir, "temp-*")) + glob.glob(os.path.join(folder(server), "temp-*"))]


def fill(conn, seven_two=True, field_times=False, scale=1):
    """Every type, small and large, several databases, times; streams with groups, consumers and what is pending."""
    for db in (0, 3):
        conn.ok("SELECT", db)
        for i in range(20 * scale):
            conn.ok("SET", "str:%d" % i, "v%d" % i * (i + 1))
            conn.ok("SET", "int:%d" % i, i * 7919)
        conn.ok("SET", "binary", bytes(range(256)))
        conn.ok("SET", "empty", "")
        conn.ok("SET", "ttl", "1", "EX", 100000)
        conn.ok("SET", "big", "x" * 100000)
        for n in (3, 700):
            values = ["m%d" % i if i % 3 else str(i * 1000003) for i in range(n)]
            conn.ok("RPUSH", "list:%d" % n, *values)
            conn.ok("SADD", "set:%d" % n, *values)
            conn.ok("SADD", "ints:%d" % n, *[i * 3 for i in range(n)])
            conn.ok("ZADD", "zset:%d" % n, *[x for i, v in enumerate(values) for x in (i * 1.5 - 7, v)])
            conn.ok("HSET", "hash:%d" % n, *[x for i, v in enumerate(values) for x in ("f%d" % i, v)])
        conn.ok("ZADD", "zinf", "inf", "a", "-inf", "b", "2.5", "c")
        conn.ok("PFADD", "hll", *range(1000))
        conn.ok("SETBIT", "bits", 1000, 1)
        conn.ok("GEOADD", "geo", 13.361389, 38.115556, "Palermo")
        conn.ok("EXPIRE", "list:3", 100000)
        if field_times:
            conn.ok("HSET", "timed", "a", 1, "b", 2)
            conn.ok("HPEXPIRE", "timed", 100000000, "FIELDS", 1, "a")
        for i in range(1, 301):
            conn.ok("XADD", "stream", "%d-1" % i, "f", "v%d" % i, "g", i)
        conn.ok("XDEL", "stream", "5-1", "300-1")
        conn.ok("XGROUP", "CREATE", "stream", "g", "0")
        conn.ok("XGROUP", "CREATE", "stream", "idle", "$")
        conn.ok("XREADGROUP", "GROUP", "g", "alice", "COUNT", 7, "STREAMS", "stream", ">")
        conn.ok("XREADGROUP", "GROUP", "g", "bob", "COUNT", 3, "STREAMS", "stream", ">")
        conn.ok("XGROUP", "CREATECONSUMER", "stream", "g", "carol")
        conn.ok("XACK", "stream", "g", "2-1")
        conn.ok("XADD", "emptied", "9-9", "a", "b")
        conn.ok("XDEL", "emptied", "9-9")
    conn.ok("SELECT", 0)
