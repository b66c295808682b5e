# SPDX-License-Identifier: BSD-3-Clause
"""Debian's redis-sentinel, three of them, and one Kettle primary with two Kettle replicas: the primary is killed, a replica takes
over, no write that WAIT has acknowledged is lost, and the old primary comes back as a replica."""
import os
import shutil
import signal
import subprocess
import tempfile
import threading

import pytest

import harness
import resp
from harness import free_port, wait_for
from replication import digest, directives, follow, replication, wait_link, wait_same


class Sentinel:
    """One redis-sentinel; TLS both ways where the transport has it."""

    def __init__(self, env, transport, primary):
        self.env = env
        self.tls = transport != "tcp"
        self.port = free_port()
        self.dir = tempfile.mkdtemp(prefix="kettle-sentinel-")
        conf = ["dir %s" % self.dir, "logfile %s/log" % self.dir, "bind 127.0.0.1",
                "sentinel monitor mymaster 127.0.0.1 %d 2" % primary.any_port(),
                "sentinel down-after-milliseconds mymaster %d" % int(2000 * env.factor),
                "sentinel failover-timeout mymaster %d" % int(20000 * env.factor), "sentinel parallel-syncs mymaster 2"]
        if self.tls:
            conf += ["port 0", "tls-port %d" % self.port, "tls-replication yes", "tls-cert-file " + env.cert("server.crt"),
                     "tls-key-file " + env.cert("server.key"), "tls-client-cert-file " + env.cert("client.crt"),
                     "tls-client-key-file " + env.cert("client.key"), "tls-ca-cert-file " + env.cert("ca.crt")]
        else:
            conf.append("port %d" % self.port)
        path = os.path.join(self.dir, "sentinel.conf")
        with open(path, "w") as handle:
            handle.write("\n".join(conf) + "\n")
        program = shutil.which("redis-sentinel")
        line = [program, path] if program else [shutil.which("redis-server"), path, "--sentinel"]
        with open(os.path.join(self.dir, "out"), "wb") as out:
            self.proc = subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self.dir)

    def connect(self):
        timeout = self.env.timeout(20)
        import socket
        sock = socket.create_connection(("127.0.0.1", self.port), timeout)
        if self.tls:
            sock = harness.client_context(self.env).wrap_socket(sock, server_hostname="127.0.0.1")
        return resp.Conn(sock, timeout)

    def master(self):
        """What it says of the primary, as a dict."""
        with self.connect() as c:
            flat = [x.decode() for x in c.ok("SENTINEL", "MASTER", "mymaster")]
            return dict(zip(flat[::2], flat[1::2]))

    def port_of_primary(self):
        with self.connect() as c:
            return int(c.ok("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")[1])

    def log(self):
        with open(os.path.join(self.dir, "log"), errors="replace") as handle:
            return handle.read()

    def stop(self):
        self.proc.kill()
        self.proc.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


class Writer:
    """Writes one number after the other to whoever is the primary, and notes those that WAIT says are on a replica."""

    def __init__(self, servers, sentinel):
        self.servers = {server.any_port(): server for server in servers}
        self.sentinel = sentinel
        self.acknowledged = []
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exc):
        self.stopped.set()
        self.thread.join(60)

    def run(self):
        n, conn = 0, None
        while not self.stopped.is_set():
            try:
                if conn is None:
                    conn = self.servers[self.sentinel.port_of_primary()].connect(timeout=3)
                n += 1
                conn.ok("SET", "n:%d" % n, str(n))
                if conn.ok("WAIT", "1", "1000") >= 1:
                    self.acknowledged.append(n)
            except Exception:  # the primary is gone, or is none any more: whoever it is now is asked again
                if conn:
                    conn.close()
                conn = None
                self.stopped.wait(0.1)


@pytest.fixture
def sentinels():
    made = []
    yield made
    for sentinel in made:
        sentinel.stop()


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("redis-server") and not shutil.which("redis-sentinel"), reason="no redis-sentinel")
@pytest.mark.timeout(600)  # three sentinels, three servers and a client on a machine of one processor
def test_failover(env, transport, make_server, sentinels):
    servers = [make_server(directives=directives(env, transport), check_ktls=False) for _ in range(3)]
    primary, others = servers[0], servers[1:]
    for replica in others:
        follow(replica, primary)
        wait_link(replica)
    sentinels += [Sentinel(env, transport, primary) for _ in range(3)]

    def see_each_other():
        try:
            return all(s.master().get("num-slaves") == "2" and s.master().get("num-other-sentinels") == "2" for s in sentinels)
        except (OSError, EOFError, AssertionError):
            return False
    wait_for(see_each_other, env.timeout(60), step=0.5, what="the sentinels to know everybody")
    with Writer(servers, sentinels[0]) as writer:
        wait_for(lambda: len(writer.acknowledged) > 50, env.timeout(60), what="writes before the failover")
        primary.proc.send_signal(signal.SIGKILL)
        primary.proc.wait()
        before = len(writer.acknowledged)
        old = primary.any_port()
        wait_for(lambda: all(s.port_of_primary() != old for s in sentinels), env.timeout(120), step=0.2,
                 what="another primary:\n" + sentinels[0].log()[-2000:])
        wait_for(lambda: len(writer.acknowledged) > before + 50, env.timeout(60), what="writes after the failover")
    new = next(server for server in others if server.any_port() == sentinels[0].port_of_primary())
    assert replication(new)["role"] == "master"
    with new.connect() as c:
        lost = [n for n in writer.acknowledged if c.ok("GET", "n:%d" % n) != str(n).encode()]
    assert lost == []
    primary.spawn()  # on its old port, as the primary it was
    primary.wait_ready()
    wait_for(lambda: replication(primary)["role"] == "slave", env.timeout(120), step=0.5, what="the old primary to be a replica")
    for server in servers:
        if server is not new:
            wait_for(lambda server=server: int(replication(server).get("master_port", 0)) == new.any_port(), env.timeout(60),
                     step=0.2, what="everybody to follow the new primary")
            wait_same(new, server, 90)
    assert digest(new) == digest(primary)
