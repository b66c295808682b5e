# SPDX-License-Identifier: BSD-3-Clause
"""openssl s_client and gnutls-cli as a person uses them: each line after what the one before it brought."""
import os
import re
import subprocess
import threading
import time

READY = re.compile(rb"Verify return code: [^\n]*\n(.*\n)*?---\n|Simple Client Mode:")
QUIET = 0.04  # seconds without output: it is all there. s_client takes an order only at the beginning of what it reads at once


class Output:
    """What a program prints, collected by a thread."""

    def __init__(self, stream):
        self.data, self.ended, self.changed = b"", False, time.monotonic()
        self.condition = threading.Condition()
        self.thread = threading.Thread(target=self._collect, args=(stream,), daemon=True)
        self.thread.start()

    def _collect(self, stream):
        while True:
            piece = os.read(stream.fileno(), 65536)
            with self.condition:
                self.data += piece
                self.ended, self.changed = not piece, time.monotonic()
                self.condition.notify_all()
            if not piece:
                return

    def wait(self, predicate, seconds):
        """Until it is true of the output and nothing more comes, the program has ended, or time is up."""
        end = time.monotonic() + seconds
        with self.condition:
            while not self.ended and time.monotonic() < end:
                left = end - time.monotonic()
                if predicate(self.data):
                    left = min(left, self.changed + QUIET - time.monotonic())
                    if left <= 0:
                        return
                self.condition.wait(max(left, 0.001))


def talk(env, argv, lines, timeout=15):
    """Runs it, gives it the lines one by one once its handshake is done, and returns its output."""
    proc = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        out = Output(proc.stdout)
        out.wait(READY.search, env.timeout(timeout))
        try:
            for line in lines:
                before = len(out.data)
                proc.stdin.write(line.encode())
                proc.stdin.flush()
                out.wait(lambda data: len(data) > before, env.timeout(2))
            proc.stdin.close()
        except BrokenPipeError:
            pass
        out.wait(lambda data: False, env.timeout(timeout))
    finally:
        proc.kill()
        proc.wait()
    out.thread.join()
    for stream in (proc.stdout, proc.stdin):
        try:
            stream.close()
        except BrokenPipeError:
            pass
    return out.data.decode("utf-8", "replace")


def s_client_argv(server, *extra):
    """A line that starts with Q, R, k or K is an order to s_client itself."""
    env = server.env
    return ["openssl", "s_client", "-connect", "127.0.0.1:%d" % server.tls_port, "-CAfile", env.cert("ca.crt"), "-cert",
            env.cert("client.crt"), "-key", env.cert("client.key"), *extra]


def s_client(server, lines, *extra):
    return talk(server.env, s_client_argv(server, *extra), lines)


def gnutls_argv(server, priority, *extra):
    env = server.env
    return ["gnutls-cli", "127.0.0.1", "-p", str(server.tls_port), "--x509cafile", env.cert("ca.crt"), "--x509certfile",
            env.cert("client.crt"), "--x509keyfile", env.cert("client.key"), "--priority", priority, *extra]
