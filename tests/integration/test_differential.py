# SPDX-License-Identifier: BSD-3-Clause
"""A few seconds of differential.py: KETTLE_DIFF_SECONDS (default 6 per protocol), KETTLE_DIFF_SEED (default 1)."""
import os
import shutil
import time

import pytest

import differential
import harness

SECONDS = float(os.environ.get("KETTLE_DIFF_SECONDS", "6"))
SEED = int(os.environ.get("KETTLE_DIFF_SEED", "1"))


@pytest.fixture(scope="module")
def reference(env):
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server to compare with")
    instance = harness.Server(harness.Env("redis-server", False, env.certs), "tcp")
    yield instance
    instance.stop()


def test_replies_are_the_same(reference, server, proto):
    deadline = time.monotonic() + SECONDS
    seed, total = SEED * 1000 + proto, 0
    while time.monotonic() < deadline:
        total += differential.compare(reference.connect, server.connect, seed, deadline - time.monotonic(), limit=3000,
                                      proto=proto)
        seed += 10
    assert total > 200
