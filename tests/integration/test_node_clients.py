# SPDX-License-Identifier: BSD-3-Clause
"""Client libraries of Node: redis, ioredis, bullmq, connect-redis. The work is in tests/support/clients/*.js; each test here is
one function that a file there exports. scripts/install-node-clients installs the libraries, once."""
import json
import os
import re
import select
import subprocess
import time

import pytest

import harness

CLIENTS = os.path.join(harness.ROOT, "tests", "support", "clients")
FILES = ("node-redis", "ioredis", "bullmq", "sessions")


def cases():
    for name in FILES:
        with open(os.path.join(CLIENTS, name + ".js")) as handle:
            for case in re.findall(r"^exports\.(\w+) = ", handle.read(), re.M):
                yield pytest.param(name, case, id="%s-%s" % (name, case))


@pytest.fixture(scope="session")
def installed(env):
    out = subprocess.run([os.path.join(harness.ROOT, "scripts", "install-node-clients")], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600)
    if out.returncode:
        said = out.stdout.decode("utf-8", "replace").strip().splitlines() or ["exit status %d" % out.returncode]
        assert out.returncode == 77, "\n".join(said)
        pytest.skip("Node's client libraries cannot be had here: " + said[-1])


class Node:
    """A Node process that runs one case after the other."""

    def __init__(self):
        env = dict(os.environ, NODE_PATH=os.path.join(harness.ROOT, "build", "clients", "node_modules"), NO_COLOR="1")
        self.proc = subprocess.Popen(["node", os.path.join(CLIENTS, "run.js")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, env=env)
        self.rest = b""

    def alive(self):
        return self.proc.poll() is None

    def send(self, value):
        self.proc.stdin.write(json.dumps(value).encode() + b"\n")
        self.proc.stdin.flush()

    def line(self, deadline):
        while b"\n" not in self.rest:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.proc.stdout], [], [], left)[0]:
                self.stop()
                raise AssertionError("the case did not end in time")
            more = os.read(self.proc.stdout.fileno(), 65536)
            if not more:
                raise AssertionError("node ended: " + self.proc.stderr.read().decode("utf-8", "replace")[-4000:])
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def stop(self):
        self.proc.kill()
        self.proc.wait()
        for pipe in (self.proc.stdin, self.proc.stdout, self.proc.stderr):
            pipe.close()


@pytest.fixture(scope="module")
def node(installed):
    running = []

    def get():
        if not running or not running[-1].alive():
            running.append(Node())
        return running[-1]
    yield get
    if running and running[-1].alive():
        running[-1].stop()


def run(node, server, name, case, limit=20):
    """Runs a case; {word: function} of `server.answers` is what it may ask for."""
    limit = server.env.timeout(limit)
    tls = {"ca": server.env.cert("ca.crt"), "cert": server.env.cert("client.crt"), "key": server.env.cert("client.key")}
    process = node()
    process.send({"file": name, "name": case, "host": server.host, "port": server.any_port(), "limit": limit,
                  "tls": tls if server.use_tls else None})
    deadline = time.monotonic() + 2.5 * limit
    while True:
        said = process.line(deadline)
        if "done" in said:
            assert said["done"] is None, said["done"]
            return
        assert said["ask"] == "restart"
        restart(server)
        process.send(True)


def restart(server):
    """The same server again, on the same port, after a moment of nothing there."""
    server.proc.terminate()
    server.proc.wait(server.env.timeout(15))
    server.spawn()
    server.wait_ready()


@pytest.mark.parametrize("name,case", cases())
def test(request, node, name, case):
    if case == "restart":
        server = request.getfixturevalue("make_server")()
    else:
        server = request.getfixturevalue("server")
        request.getfixturevalue("conn")
    run(node, server, name, case)
    assert server.alive(), server.log()[-3000:]
