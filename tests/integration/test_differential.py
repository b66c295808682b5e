# SPDX-License-Identifier: BSD-3-Clause
"""A few seconds of differential.py against redis-server and valkey-server: KETTLE_DIFF_SECONDS (default 3 for each of them and
each protocol; scripts/check sets 15 over tcp, 60 seconds in all), KETTLE_DIFF_SEED (default 1).

valkey-server is the one installed, or the one that perf/bench/peers.py has unpacked (scripts/check asks it to).
"""
import os
import time

import pytest

import differential
import edges
import harness
import replicas
from resp import encode, split_args

SECONDS = float(os.environ.get("KETTLE_DIFF_SECONDS", "3"))
SEED = int(os.environ.get("KETTLE_DIFF_SEED", "1"))


@pytest.fixture(scope="module")
def valkey(env):
    path = replicas.program("valkey-server")
    if not path:
        pytest.skip("no valkey-server to compare with")
    try:
        instance = harness.Server(harness.Env(path, False, env.certs), "tcp")
    except Exception as exc:  # its libraries may be missing, or the kernel's
        pytest.skip("valkey-server does not start: %s" % str(exc)[:200])
    yield instance
    instance.stop()


@pytest.mark.parametrize("peer", ["redis_server", "valkey"])
def test_replies_are_the_same(request, server, proto, peer):
    reference = request.getfixturevalue(peer)
    deadline = time.monotonic() + SECONDS
    seed, total = SEED * 1000 + proto, 0
    while time.monotonic() < deadline:
        total += differential.compare(reference.connect, server.connect, seed, deadline - time.monotonic(), limit=3000,
                                      proto=proto)
        seed += 10
    assert total > (20 if server.env.sanitizer else 200)


def replies(conn, commands):
    """Sent in portions, so that neither side's buffers fill while nobody reads."""
    out = []
    for start in range(0, len(commands), 200):
        portion = commands[start:start + 200]
        conn.send(b"".join(encode(*command) for command in portion))
        out += [conn.read().render() for _ in portion]
    return out


@pytest.mark.parametrize("session", edges.SESSIONS, ids=lambda session: session.__name__)
def test_edge_cases(redis_server, server, proto, session):
    commands = [split_args(command) if isinstance(command, str) else [differential.as_bytes(word) for word in command]
                for command in session()]
    got = []
    for side in (redis_server, server):
        with side.connect(proto=proto) as conn:
            conn.ok("FLUSHALL")
            got.append(replies(conn, commands))
    wrong = [(command, *pair) for command, *pair in zip(commands, *got) if pair[0] != pair[1]]
    assert not wrong, "%d differ; command, redis-server, this server:\n%s" % (len(wrong), "\n".join("%r\n  %s\n  %s" % w for w in wrong[:20]))
