# SPDX-License-Identifier: BSD-3-Clause
"""hiredis, synchronous and asynchronous: tests/support/hiredis-client.c. Debian's has no TLS of its own, so a relay here, in the
place of stunnel, has the TLS."""
import asyncio
import os
import subprocess
import threading

import pytest

import harness

CLIENT = os.path.join(harness.ROOT, "build", "peers", "hiredis-client")


class TlsRelay:
    """Listens without TLS on 127.0.0.1; each connection continues over TLS to the server."""

    def __init__(self, server):
        self.server = server
        self.loop = asyncio.new_event_loop()
        listening = self.loop.run_until_complete(asyncio.start_server(self.relay, "127.0.0.1", 0))
        self.port = listening.sockets[0].getsockname()[1]
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    @staticmethod
    async def pump(reader, writer):
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def relay(self, reader, writer):
        there = await asyncio.open_connection(self.server.host, self.server.tls_port, ssl=self.server.context())
        await asyncio.gather(self.pump(reader, there[1]), self.pump(there[0], writer))

    async def end(self):
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.loop.stop()

    def close(self):
        asyncio.run_coroutine_threadsafe(self.end(), self.loop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def port(server):
    if not server.use_tls:
        yield server.port
        return
    relay = TlsRelay(server)
    yield relay.port
    relay.close()


@pytest.mark.parametrize("case", ("commands", "pipeline", "timeout", "async", "pubsub"))
def test(conn, env, port, case):
    if not os.access(CLIENT, os.X_OK):
        pytest.skip("%s is missing: install libhiredis-dev, make peers" % CLIENT)
    out = subprocess.run([CLIENT, case, str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=env.timeout(60))
    assert out.returncode == 0, out.stdout.decode("utf-8", "replace")
