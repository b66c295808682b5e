# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of a replica share: peers of each kind, data of all types, waiting until two servers hold the same, and a primary
that is not one."""
import socket
import ssl
import threading
import time

import harness
import replicas
import resp
from harness import wait_for

KINDS = ["redis", "valkey", "kettle"]


def peer_env(env, kind):
    """The environment of a server of that kind, or None where there is none."""
    if kind == "kettle":
        return env
    path = replicas.program(kind + "-server")
    return harness.Env(path, env.sanitizer, env.certs) if path else None


def directives(env, transport, **more):
    out = {"repl-diskless-sync-delay": "0"}
    if transport != "tcp":
        out.update({"tls-replication": "yes", "tls-client-cert-file": env.cert("client.crt"),
                    "tls-client-key-file": env.cert("client.key")})
    out.update({name.replace("_", "-"): value for name, value in more.items()})
    return out


def follow(replica, primary):
    with replica.connect() as c:
        c.ok("REPLICAOF", primary.host, str(primary.any_port()))


def replication(server):
    with server.connect() as c:
        return c.info("replication")


def stats(server):
    with server.connect() as c:
        return c.info("stats")


def link_is_up(server):
    return replication(server).get("master_link_status") == "up"


def wait_link(server, timeout=60):
    wait_for(lambda: link_is_up(server), server.env.timeout(timeout), step=0.1, what="the link to be up:\n" + server.log()[-2000:])


def digest(server):
    """Of the data set; while a server is loading something that is like no other."""
    with server.connect() as c:
        reply = c("DEBUG", "DIGEST")
        if isinstance(reply, resp.ReplyError) and str(reply).startswith("LOADING"):
            return object()
        assert not isinstance(reply, resp.ReplyError), reply
        return reply


def wait_same(primary, replica, timeout=60):
    """The replica has applied all that the primary has, and holds the same."""
    wait_link(replica, timeout)

    def same():
        ours, theirs = replication(replica), replication(primary)
        return ours["slave_repl_offset"] == theirs["master_repl_offset"] and digest(primary) == digest(replica)
    wait_for(same, primary.env.timeout(timeout), step=0.1, what="primary and replica to be the same")


def fill(conn, n=200, db=0):
    """Keys of every type, in both kinds of encodings, some with times."""
    conn.ok("SELECT", str(db))
    for i in range(n):
        conn.ok("SET", "str:%d" % i, "value %d" % i)
    conn.ok("SET", "int", "12345")
    conn.ok("SET", "big", "x" * 300000)
    conn.ok("SET", "binary", bytes(range(256)))
    conn.ok("RPUSH", "list", *[str(i) for i in range(20)])
    conn.ok("RPUSH", "longlist", *["element %d" % i for i in range(2000)])
    conn.ok("HSET", "hash", "a", "1", "b", "2")
    conn.ok("HSET", "bighash", *[x for i in range(1000) for x in ("field%d" % i, "v%d" % i)])
    conn.ok("SADD", "intset", "1", "2", "3")
    conn.ok("SADD", "set", *["member %d" % i for i in range(1000)])
    conn.ok("ZADD", "zset", "1", "a", "2.5", "b", "-inf", "c")
    conn.ok("ZADD", "bigzset", *[x for i in range(1000) for x in (str(i * 0.5), "m%d" % i)])
    for i in range(50):
        conn.ok("XADD", "stream", "*", "n", str(i), "text", "entry")
    conn.ok("XGROUP", "CREATE", "stream", "g", "0")
    conn.ok("XREADGROUP", "GROUP", "g", "consumer", "COUNT", "10", "STREAMS", "stream", ">")
    conn.ok("PFADD", "hll", *[str(i) for i in range(500)])
    conn.ok("GEOADD", "geo", "13.36", "38.11", "Palermo")
    conn.ok("SETBIT", "bits", "1000", "1")
    conn.ok("SET", "later", "x", "PX", "100000000")
    conn.ok("SELECT", "0")


class Load:
    """Writes of every kind in a thread, until it is stopped."""

    def __init__(self, server):
        self.server = server
        self.stopped = threading.Event()
        self.error = None
        self.count = 0
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stopped.set()
        self.thread.join(60)
        assert self.error is None, self.error

    def run(self):
        try:
            with self.server.connect() as c:
                while not self.stopped.is_set():
                    self.turn(c, self.count)
                    self.count += 1
                    time.sleep(0.002)
        except Exception as exc:  # reported by the test's thread
            self.error = exc

    @staticmethod
    def turn(c, i):
        c.ok("SELECT", str(i % 3))
        c.ok("SET", "w:%d" % (i % 50), "v%d" % i, "EX", "10000")
        c.ok("INCR", "counter")
        c.ok("RPUSH", "wl", "e%d" % i)
        if i % 5 == 4:
            c.ok("LPOP", "wl")
        c.ok("SADD", "ws", "m%d" % (i % 100))
        c.ok("SPOP", "ws")
        c.ok("ZADD", "wz", str(i), "z%d" % (i % 70))
        c.ok("HINCRBYFLOAT", "wh", "f%d" % (i % 20), "0.25")
        c.ok("XADD", "wx", "MAXLEN", "~", "100", "*", "i", str(i))
        c.ok("MULTI")
        c.ok("INCR", "tx")
        c.ok("LPUSH", "tl", "t%d" % i)
        c.ok("EXEC")
        if i % 10 == 9:
            c.ok("EVAL", "redis.call('INCR', KEYS[1]); redis.call('SADD', KEYS[2], redis.call('GET', KEYS[1])); return 1", "2",
                 "script", "sset")
        if i % 20 == 19:
            c.ok("DEL", "w:%d" % (i % 50))
            c.ok("PEXPIRE", "w:%d" % ((i + 1) % 50), "50")


def settle(server):
    """After Load: nothing is about to run out any more, which would be news to replicas."""
    with server.connect() as c:
        for db in range(3):
            c.ok("SELECT", str(db))
            wait_for(lambda: not any(0 <= c.ok("PTTL", "w:%d" % i) <= 1000 for i in range(50)), what="keys to run out")


class FakePrimary:
    """Accepts connections, one after the other, and gives each to `script(conn)`; over TLS where the transport is."""

    def __init__(self, env, transport, script):
        self.script = script
        self.host = "127.0.0.1"
        self.env = env
        self.listener = socket.create_server((self.host, 0))
        self.port = self.listener.getsockname()[1]
        self.context = None
        self.served = 0
        self.ended = False
        if transport != "tcp":
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(env.cert("server.crt"), env.cert("server.key"))
            self.context.load_verify_locations(env.cert("ca.crt"))
            self.context.verify_mode = ssl.CERT_REQUIRED
        self.thread = threading.Thread(target=self.run, daemon=True)

    def any_port(self):
        return self.port

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.ended = True
        self.listener.shutdown(socket.SHUT_RDWR)  # close() alone leaves a waiting accept() where it is
        self.listener.close()
        self.thread.join(30)

    def run(self):
        while not self.ended:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.settimeout(30)
            try:
                if self.context:
                    sock = self.context.wrap_socket(sock, server_side=True)
                self.served += 1
                self.script(FakeLink(sock, self))
            except (OSError, EOFError):
                pass
            finally:
                sock.close()


class FakeLink:
    """One replica's connection to a FakePrimary."""

    def __init__(self, sock, primary):
        self.sock = sock
        self.primary = primary
        self.buf = b""

    def send(self, data):
        self.sock.sendall(data)

    def line(self):
        while b"\n" not in self.buf:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError
            self.buf += more
        line, self.buf = self.buf.split(b"\n", 1)
        return line.rstrip(b"\r")

    def command(self):
        head = self.line()
        while not head.startswith(b"*"):
            head = self.line()
        words = []
        for _ in range(int(head[1:])):
            size = int(self.line()[1:])
            while len(self.buf) < size + 2:
                more = self.sock.recv(65536)
                if not more:
                    raise EOFError
                self.buf += more
            words.append(self.buf[:size].decode())
            self.buf = self.buf[size + 2:]
        return words

    def handshake(self):
        """Answers everything up to PSYNC, whose words are returned."""
        while True:
            words = self.command()
            name = words[0].upper()
            if name == "PSYNC":
                return words
            self.send(b"+PONG\r\n" if name == "PING" else b"+OK\r\n")

    def wait_end(self):
        """Until the replica closes; what it says meanwhile is dropped."""
        try:
            while self.sock.recv(65536):
                pass
        except OSError:
            pass
