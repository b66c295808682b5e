# SPDX-License-Identifier: BSD-3-Clause
"""Debian's redis-cli and redis-benchmark against the server, and Kettle's own tools against the same expectations."""
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import termios
import threading
import time

import pytest

import harness

TLS_ONLY = pytest.mark.transports("tls-user", "tls-kernel")


def run(server, tool, *args, stdin=b"", base=True, env=None, timeout=30):
    """Runs a tool against the server; returns (exit status, stdout, stderr)."""
    line = [tool] + (server.cli_args() if base else []) + list(args)
    environ = dict(os.environ, **(env or {}))
    out = subprocess.run(line, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environ,
                         timeout=server.env.timeout(timeout))
    return out.returncode, out.stdout, out.stderr


@pytest.fixture(scope="module")
def redis_cli():
    found = shutil.which("redis-cli")
    if not found:
        pytest.skip("no redis-cli")
    return found


@pytest.fixture(scope="module")
def kettle_cli(env):
    """Kettle's cli; against redis-server the suite checks redis-cli with itself."""
    found = env.tool("kettle-cli") if env.is_kettle else shutil.which("redis-cli")
    if not found:
        pytest.skip("kettle-cli is not built")
    return found


@pytest.fixture(scope="module")
def kettle_benchmark(env):
    found = env.tool("kettle-benchmark") if env.is_kettle else shutil.which("redis-benchmark")
    if not found:
        pytest.skip("kettle-benchmark is not built")
    return found


@pytest.fixture(scope="module", params=["redis-cli", "kettle-cli"])
def cli(request, env):
    found = shutil.which("redis-cli") if request.param == "redis-cli" else env.tool("kettle-cli")
    if not found or (request.param == "kettle-cli" and not env.is_kettle):
        pytest.skip("no " + request.param)
    return found


def out(server, tool, *args, **kwargs):
    code, stdout, stderr = run(server, tool, *args, **kwargs)
    return stdout


def test_one_shot(server, conn, cli):
    assert out(server, cli, "PING") == b"PONG\n"
    assert out(server, cli, "SET", "k", "hello world") == b"OK\n"
    assert out(server, cli, "GET", "k") == b"hello world\n"
    assert out(server, cli, "GET", "missing") == b"\n"
    assert out(server, cli, "INCR", "n") == b"1\n"
    assert out(server, cli, "MGET", "k", "missing", "n") == b"hello world\n\n1\n"
    assert out(server, cli, "--no-raw", "MGET", "k", "missing", "n") == b'1) "hello world"\n2) (nil)\n3) "1"\n'
    assert b"redis_version:" in out(server, cli, "INFO", "server")


def test_exit_status(server, conn, cli):
    assert run(server, cli, "PING")[0] == 0
    assert run(server, cli, "-e", "GET")[0] == 1
    assert run(server, cli, "-h", "127.0.0.1", "-p", str(harness.free_port()), "PING", base=False)[0] == 1


CORPUS = [
    ["PING"], ["PING", "with argument"], ["ECHO", "tab\there"], ["ECHO", ""], ["ECHO", 'quo"te'], ["ECHO", "gr\u00fc\u00dfe"],
    ["SET", "k", "line1\nline2"], ["GET", "k"], ["GET", "missing"], ["SET", "bin", "\x01\x7f"], ["GET", "bin"],
    ["INCR", "n"], ["INCRBYFLOAT", "f", "1.5"], ["INCR", "k"], ["MSET", "a", "1", "b", "2"], ["MGET", "a", "missing", "b"],
    ["MGET", "missing"], ["DEL", "nokey"], ["EXISTS", "a", "b"], ["KEYS", "nosuch*"], ["SCAN", "0", "MATCH", "nosuch*"],
    ["TYPE", "a"], ["TTL", "a"], ["BITFIELD", "bf", "SET", "u8", "0", "255", "GET", "i8", "0", "OVERFLOW", "FAIL", "INCRBY",
                               "u8", "0", "1"],
    ["BITCOUNT", "a"], ["LCS", "a", "b", "IDX"], ["LCS", "k", "k", "LEN"], ["NOSUCH", "x"], ["GET"], ["SET", "a"],
    ["OBJECT", "ENCODING", "a"], ["CONFIG", "GET", "maxmemory"], ["CONFIG", "GET", "nosuch"], ["CLIENT", "GETNAME"],
    ["CLIENT", "TRACKINGINFO"], ["COMMAND", "GETKEYS", "MSET", "a", "1", "b", "2"], ["COMMAND", "INFO", "get"],
    ["EXEC"], ["SELECT", "77"], ["COMMAND", "LIST", "FILTERBY", "PATTERN", "get"], ["DBSIZE"], ["RENAME", "nokey", "x"],
]

FORMATS = [[], ["--raw"], ["--no-raw"], ["--csv"], ["--json"], ["--quoted-json"], ["-3"], ["-3", "--no-raw"],
           ["-3", "--csv"], ["-2", "--json"], ["-d", "|"], ["--no-raw", "-n", "3"], ["-D", "<>"]]


@pytest.mark.parametrize("flags", FORMATS, ids=lambda f: "".join(f) or "plain")
def test_kettle_cli_prints_what_redis_cli_prints(server, redis_cli, kettle_cli, flags):
    wrong = []
    with server.connect() as conn:
        results = []
        for tool in (redis_cli, kettle_cli):
            conn.ok("FLUSHALL")
            results.append([run(server, tool, *flags, *args) for args in CORPUS])
    for args, first, second in zip(CORPUS, *results):
        if "--quoted-json" in flags and args == ["ECHO", 'quo"te']:
            json.loads(second[1])  # what redis-cli 7.0 prints here is no JSON
            continue
        if first[:2] != second[:2]:
            wrong.append("%r\n  redis-cli  %d %r\n  kettle-cli %d %r" % (args, first[0], first[1][:300], second[0],
                                                                       second[1][:300]))
    assert not wrong, "%d of %d differ:\n%s" % (len(wrong), len(CORPUS), "\n".join(wrong[:10]))


SESSION = b"""SET k v
GET k
get "missing"
SET "quoted key" 'single \\'quoted\\''
GET "quoted key"
SET esc "\\x00\\x01\\n\\""
GET esc
2 INCR n
MULTI
SET a 1
GET a
EXEC
MULTI
DISCARD
SELECT 3
DBSIZE
NOSUCHCOMMAND x
ECHO "unbalanced

PING
"""


@pytest.mark.parametrize("flags", [[], ["--no-raw"], ["--csv"], ["--json"], ["-3", "--no-raw"]],
                         ids=lambda f: "".join(f) or "plain")
def test_commands_from_stdin_print_the_same(server, redis_cli, kettle_cli, flags):
    results = []
    with server.connect() as conn:
        for tool in (redis_cli, kettle_cli):
            conn.ok("FLUSHALL")
            results.append(run(server, tool, *flags, stdin=SESSION)[:2])
    assert results[0] == results[1]


def test_last_argument_from_stdin(server, conn, cli):
    assert out(server, cli, "-x", "SET", "x", stdin=b"from stdin\n") == b"OK\n"
    assert conn("GET", "x") == b"from stdin\n"
    data = os.urandom(100000)
    assert out(server, cli, "-x", "SET", "x", stdin=data) == b"OK\n"
    assert conn("GET", "x") == data
    assert out(server, cli, "-X", "TAG", "SET", "TAG", "value", stdin=b"keyname") == b"OK\n"
    assert conn("GET", "keyname") == b"value"


def test_repeat_and_interval(server, conn, cli):
    assert out(server, cli, "-r", "5", "INCR", "n") == b"1\n2\n3\n4\n5\n"
    started = time.monotonic()
    assert out(server, cli, "-r", "4", "-i", "0.1", "INCR", "m") == b"1\n2\n3\n4\n"
    assert time.monotonic() - started >= 0.3


def test_database_and_quoted_input(server, conn, cli):
    out(server, cli, "-n", "5", "SET", "k", "five")
    conn.ok("SELECT", 5)
    assert conn("GET", "k") == b"five"
    assert out(server, cli, "--quoted-input", "SET", '"q\\x00"', '"v"') == b"OK\n"
    conn.ok("SELECT", 0)
    assert conn("GET", b"q\0") == b"v"


def test_json_is_json(server, conn, cli):
    conn.ok("MSET", "a", "1", "b", "x\"y")
    assert json.loads(out(server, cli, "--json", "MGET", "a", "b", "missing")) == ["1", "x\"y", None]
    assert json.loads(out(server, cli, "--json", "CONFIG", "GET", "maxmemory")) == {"maxmemory": "0"}


def test_pipe(server, conn, cli):
    data = b"".join(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$5\r\nvalue\r\n" % (len(k), k)
                    for k in (b"pipe:%d" % i for i in range(20000)))
    code, stdout, stderr = run(server, cli, "--pipe", stdin=data)
    assert code == 0, stderr
    assert b"errors: 0, replies: 20000" in stdout
    assert conn("DBSIZE") == 20000
    code, stdout, stderr = run(server, cli, "--pipe", stdin=b"GET\r\nSET a b\r\n")
    assert b"errors: 1, replies: 2" in stdout and code == 1


def test_password_and_environment(make_server, cli):
    server = make_server(directives={"requirepass": "secret"})
    server.password = "secret"
    assert b"NOAUTH" in out(server, cli, "PING")
    assert out(server, cli, "-a", "secret", "--no-auth-warning", "PING") == b"PONG\n"
    assert out(server, cli, "--user", "default", "--pass", "secret", "--no-auth-warning", "PING") == b"PONG\n"
    assert out(server, cli, "PING", env={"REDISCLI_AUTH": "secret"}) == b"PONG\n"
    code, stdout, stderr = run(server, cli, "-a", "secret", "PING")
    assert b"Using a password" in stderr
    code, stdout, stderr = run(server, cli, "-a", "wrong", "--no-auth-warning", "PING")
    assert b"WRONGPASS" in stderr and b"NOAUTH" in stdout


def test_uri(server, conn, cli):
    if server.use_tls:
        args = ["-u", "rediss://127.0.0.1:%d/2" % server.tls_port] + server.cli_args()[5:]
    else:
        args = ["-u", "redis://127.0.0.1:%d/2" % server.port]
    assert out(server, cli, *args, "SET", "uri", "v", base=False) == b"OK\n"
    conn.ok("SELECT", 2)
    assert conn("GET", "uri") == b"v"


def test_unix_socket(make_server, cli, tmp_path):
    path = str(tmp_path / "cli.sock")
    server = make_server(directives={"unixsocket": path})
    assert out(server, cli, "-s", path, "PING", base=False) == b"PONG\n"


def test_scan_and_latency_modes(server, conn, cli):
    conn.ok("MSET", *[x for i in range(100) for x in ("scan:%d" % i, "v")])
    found = out(server, cli, "--scan", "--pattern", "scan:1*").split()
    assert sorted(found) == sorted(b"scan:%d" % i for i in range(100) if str(i).startswith("1"))
    assert re.search(rb"\d", out(server, cli, "--raw", "--latency", "-i", "0.3"))


# ---- scripts on standard input

def test_script_goes_on_after_an_error(server, conn, cli):
    code, stdout, _ = run(server, cli, "-e", stdin=b"INCR n\nNOSUCH\nINCR n\n")
    assert code == 0 and stdout.splitlines()[0] == b"1" and stdout.splitlines()[-1] == b"2", stdout


def test_script_command_is_not_sent_twice(server, conn, cli):
    code, stdout, stderr = run(server, cli, stdin=b"CLIENT KILL SKIPME no TYPE normal\nINCR n\nINCR n\n")
    assert b"Error: " in stderr, stdout + stderr
    assert stdout.split() == [b"2", b"1"], stdout  # the two killed; the second INCR, on a new connection


def test_askpass_from_a_pipe_has_no_prompt(make_server, cli):
    server = make_server(directives={"requirepass": "secret"})
    server.password = "secret"
    assert run(server, cli, "--askpass", "PING", stdin=b"secret\n") == (0, b"PONG\n", b"")


# ---- a terminal

class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, argv, **env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(argv[0], argv, dict(os.environ, TERM="xterm", **env))

    def expect(self, pattern, timeout=10):
        """What came up to and with the pattern."""
        seen, end = b"", time.monotonic() + timeout
        while not re.search(pattern, seen):
            ready = select.select([self.fd], [], [], max(0, end - time.monotonic()))[0]
            assert ready, "no %r in %r" % (pattern, seen)
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                data = b""
            assert data, "ended before %r: %r" % (pattern, seen)
            seen += data
        return seen

    def type(self, data, pattern):
        os.write(self.fd, data)
        return self.expect(pattern)

    def editing(self):
        """Waits until the editor reads keys: it shows its prompt first, and a terminal that reads lines cuts them at 4095 bytes."""
        harness.wait_for(lambda: not termios.tcgetattr(self.fd)[3] & termios.ICANON, what="the editor")

    def wait(self, timeout=10):
        """The exit status; negative: the signal."""
        end = time.monotonic() + timeout
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError("still running")
            select.select([self.fd], [], [], 0.02)
            try:
                os.read(self.fd, 65536)
            except OSError:
                pass


@pytest.fixture
def terminal(server, env, tmp_path):
    if not env.is_kettle:
        pytest.skip("kettle-cli's")
    def start(*args, **extra):
        return Terminal([env.tool("kettle-cli")] + server.cli_args() + list(args), HOME=str(tmp_path), **extra)
    return start


def test_terminal_session(terminal, conn, tmp_path):
    t = terminal(LC_ALL="C")
    t.expect(rb"> $")
    t.type('SET gr\u00fc\u00dfe "\u65e5\u672c"\r'.encode(), rb"OK\r\n.*> $")
    assert conn("GET", "gr\u00fc\u00dfe") == "\u65e5\u672c".encode()
    t.type(b"AUTH not-to-be-kept\r", rb"\(error\).*\r\n.*> $")
    t.type(b"MULTI\r", rb"\(TX\)> $")
    t.type(b"SELECT 3\r", rb"QUEUED\r\n.*\[3\]\(TX\)> $")
    t.type(b"EXEC\r", rb"1\) OK\r\n.*\[3\]> $")
    t.type(b"2 INCR n\r", rb"\(integer\) 1\r\n\(integer\) 2\r\n.*> $")
    t.type(b"\x1b[A\r", rb"\(integer\) 3\r\n\(integer\) 4\r\n.*> $")
    t.editing()
    t.type(b"SET long " + b"x" * 9000 + b"\r", rb"OK\r\n.*> $")
    t.type(b"STRLEN long\r", rb"\(integer\) 9000\r\n.*> $")
    t.type(b"CLIENT PAUSE 60000 WRITE\r", rb"OK\r\n.*> $")
    t.type(b"SET waits v\r", rb"v\r\n")
    time.sleep(0.3)
    t.type(b"\x03", rb"> $")  # a reply that does not come is given up, the session goes on
    t.type(b"CLIENT UNPAUSE\r", rb"OK\r\n.*> $")
    t.type(b"CLIENT KILL SKIPME no TYPE normal\r", rb"> $")
    t.type(b"PING\r", rb"PONG\r\n.*\[3\]> $")
    os.write(t.fd, b"unfinished\x03")
    assert t.wait() == 0
    history = (tmp_path / ".kettlecli_history")
    assert history.stat().st_mode & 0o777 == 0o600
    lines = history.read_text("utf-8").splitlines()
    assert lines[0].startswith("SET gr") and "2 INCR n" in lines
    assert not any("not-to-be-kept" in line or "unfinished" in line for line in lines)


@pytest.mark.parametrize("how", [b"\x03", signal.SIGTERM, signal.SIGINT], ids=["ctrl-c", "TERM", "INT"])
def test_terminal_is_left_as_found(server, env, how):
    if not env.is_kettle:
        pytest.skip("kettle-cli's")
    master, slave = os.openpty()
    found = termios.tcgetattr(slave)
    p = subprocess.Popen([env.tool("kettle-cli")] + server.cli_args(), stdin=slave, stdout=slave, stderr=slave,
                         start_new_session=True, env=dict(os.environ, TERM="xterm", KETTLECLI_HISTFILE=""))
    end = time.monotonic() + 10
    while termios.tcgetattr(slave)[3] == found[3] and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.2)
    if isinstance(how, bytes):
        os.write(master, how)
    else:
        p.send_signal(how)
    assert p.wait(10) == (0 if isinstance(how, bytes) else -how)
    assert termios.tcgetattr(slave) == found
    os.close(master)
    os.close(slave)


# ---- a server that is not what it seems

def test_million_attributes_take_no_time(env):
    """Looking through the rest of the reply again for each attribute would take minutes."""
    if not env.is_kettle:
        pytest.skip("kettle-cli's")
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(b"|0\r\n" * 300000 + b"+done\r\n")
            peer.recv(65536)
    threading.Thread(target=answer, daemon=True).start()
    started = time.monotonic()
    p = subprocess.run([env.tool("kettle-cli"), "-p", str(listener.getsockname()[1]), "PING"], stdout=subprocess.PIPE,
                       timeout=env.timeout(30))
    listener.close()
    assert p.stdout == b"done\n" and time.monotonic() - started < env.timeout(10)


@TLS_ONLY
def test_plaintext_to_a_tls_port_is_told(env):
    if not env.is_kettle:
        pytest.skip("kettle-cli's")
    listener = socket.create_server(("127.0.0.1", 0))

    def answer():
        peer, _ = listener.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(b"\x15\x03\x01\x00\x02\x02\x46")
    threading.Thread(target=answer, daemon=True).start()
    p = subprocess.run([env.tool("kettle-cli"), "-p", str(listener.getsockname()[1]), "PING"], stderr=subprocess.PIPE,
                       timeout=env.timeout(30))
    listener.close()
    assert p.returncode == 1 and b"TLS port" in p.stderr


# ---- TLS of the tools

@TLS_ONLY
def test_wrong_ca_and_insecure(server, cli):
    env = server.env
    base = ["-h", "127.0.0.1", "-p", str(server.tls_port), "--tls", "--cert", env.cert("client.crt"), "--key",
            env.cert("client.key")]
    code, stdout, stderr = run(server, cli, *base, "--cacert", env.cert("other-ca.crt"), "PING", base=False)
    assert code == 1 and b"PONG" not in stdout and re.search(rb"(?i)certificate verify failed|unable to get", stderr), stderr
    code, stdout, stderr = run(server, cli, *base, "--insecure", "PING", base=False)
    assert (code, stdout) == (0, b"PONG\n"), stderr


@TLS_ONLY
def test_wrong_name_is_refused_by_kettle_cli(server, kettle_cli, env):
    if not env.is_kettle:
        pytest.skip("redis-cli does not look at the name")
    args = server.cli_args()
    code, stdout, stderr = run(server, kettle_cli, *args, "--sni", "wrong.example", "PING", base=False)
    assert code == 1 and b"PONG" not in stdout
    assert re.search(rb"(?i)name|host", stderr), stderr
    assert run(server, kettle_cli, *args, "--sni", "localhost", "PING", base=False)[:2] == (0, b"PONG\n")
    assert run(server, kettle_cli, *args, "--sni", "wrong.example", "--insecure", "PING", base=False)[:2] == (0, b"PONG\n")


@TLS_ONLY
def test_no_client_certificate(server, cli):
    env = server.env
    code, stdout, stderr = run(server, cli, "-h", "127.0.0.1", "-p", str(server.tls_port), "--tls", "--cacert",
                               env.cert("ca.crt"), "PING", base=False)
    assert code == 1 and b"PONG" not in stdout


@TLS_ONLY
def test_tls_client_on_a_plaintext_port_and_back(make_server, cli):
    server = make_server(plain=True)
    code, stdout, _ = run(server, cli, "-h", "127.0.0.1", "-p", str(server.tls_port), "PING", base=False)
    assert code == 1 and b"PONG" not in stdout
    assert out(server, cli, "-p", str(server.port), "PING", base=False) == b"PONG\n"


@TLS_ONLY
@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"])
def test_cli_ciphersuites(server, cli, suite, env):
    code, stdout, stderr = run(server, cli, "--tls-ciphersuites", suite, "CLIENT", "INFO")
    assert code == 0, stderr
    if env.is_kettle:
        assert (":TLSv1.3:" + suite).encode() in stdout


@TLS_ONLY
def test_ca_directory(server, cli, env, tmp_path):
    name = subprocess.run(["openssl", "x509", "-hash", "-noout", "-in", env.cert("ca.crt")], stdout=subprocess.PIPE,
                          check=True).stdout.decode().strip()
    shutil.copy(env.cert("ca.crt"), tmp_path / (name + ".0"))
    code, stdout, stderr = run(server, cli, "-h", "127.0.0.1", "-p", str(server.tls_port), "--tls", "--cacertdir",
                               str(tmp_path), "--cert", env.cert("client.crt"), "--key", env.cert("client.key"), "PING",
                               base=False)
    assert (code, stdout) == (0, b"PONG\n"), stderr


# ---- benchmarks

def numbers(stdout):
    return {name.decode(): float(rate) for name, rate in re.findall(
        rb"^([A-Z_0-9 ()a-z]+): ([\d.]+) requests per second", stdout.replace(b"\r", b"\n"), re.M)}


def test_redis_benchmark(server, conn):
    tool = shutil.which("redis-benchmark")
    if not tool:
        pytest.skip("no redis-benchmark")
    code, stdout, stderr = run(server, tool, "-t", "ping,set,get,incr,mset", "-n", "3000", "-c", "20", "-q", timeout=60)
    assert code == 0, stderr
    got = numbers(stdout)
    assert {"PING_INLINE", "PING_MBULK", "SET", "GET", "INCR"} <= set(got) and min(got.values()) > 0, stdout
    code, stdout, stderr = run(server, tool, "-t", "set,get", "-n", "20000", "-c", "20", "-P", "32", "-d", "500", "-r",
                               "10000", "--threads", "2", "-q", timeout=60)
    assert code == 0 and {"SET", "GET"} <= set(numbers(stdout)), stdout + stderr
    assert 1000 < conn("DBSIZE") <= 10010
    assert b"ERR" not in stdout + stderr


def test_redis_benchmark_idle_and_custom(server, conn):
    tool = shutil.which("redis-benchmark")
    if not tool:
        pytest.skip("no redis-benchmark")
    code, stdout, stderr = run(server, tool, "-n", "2000", "-r", "100", "--csv", "SET", "key:__rand_int__", "v",
                               timeout=60)
    assert code == 0 and b"rps" in stdout, stderr
    assert 1 <= conn("DBSIZE") <= 101


def test_kettle_benchmark(server, conn, kettle_benchmark):
    code, stdout, stderr = run(server, kettle_benchmark, "-t", "ping,set,get,incr", "-n", "3000", "-c", "20", "-q",
                               timeout=60)
    assert code == 0, stderr
    got = numbers(stdout)
    assert {"SET", "GET", "INCR"} <= set(got) and min(got.values()) > 0, stdout
    code, stdout, stderr = run(server, kettle_benchmark, "-t", "set,get", "-n", "20000", "-c", "20", "-P", "16", "-d",
                               "500", "-r", "10000", "--threads", "2", "-q", timeout=60)
    assert code == 0 and {"SET", "GET"} <= set(numbers(stdout)), stdout + stderr
    assert 1000 < conn("DBSIZE") <= 10010
    assert len(conn("GET", conn("RANDOMKEY"))) >= 1


def test_kettle_benchmark_rps(server, kettle_benchmark):
    code, stdout, stderr = run(server, kettle_benchmark, "-t", "set", "-n", "1000", "-c", "20", "--rps", "1000", "-q", timeout=60)
    assert code == 0, stderr
    assert numbers(stdout)["SET"] <= 1020, stdout


def test_kettle_benchmark_cpu_of(server, kettle_benchmark):
    code, stdout, stderr = run(server, kettle_benchmark, "-t", "set", "-n", "20000", "-c", "20", "--cpu-of", str(server.proc.pid),
                               timeout=60)
    assert code == 0, stderr
    used = re.search(rb"CPU of process %d: (\d+) ns, user \d+ ticks, system \d+ ticks" % server.proc.pid, stdout)
    assert used and 1000000 < int(used.group(1)) < 60e9, stdout


def test_kettle_benchmark_csv(server, kettle_benchmark):
    code, stdout, stderr = run(server, kettle_benchmark, "-t", "set,get", "-n", "2000", "--csv", timeout=60)
    assert code == 0, stderr
    lines = stdout.decode().strip().splitlines()
    assert lines[0] == ('"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95_latency_ms",'
                        '"p99_latency_ms","max_latency_ms"')
    assert [line.split(",")[0] for line in lines[1:]] == ['"SET"', '"GET"']
    for line in lines[1:]:
        values = [float(x.strip('"')) for x in line.split(",")[1:]]
        assert values[0] > 0 and values[2] <= values[3] <= values[4] <= values[5] <= values[6]


def test_benchmark_without_a_server(server, kettle_benchmark):
    if not server.env.is_kettle:
        pytest.skip("redis-benchmark tries for ever")
    code, stdout, stderr = run(server, kettle_benchmark, "-h", "127.0.0.1", "-p", str(harness.free_port()), "-n", "10",
                               "-t", "ping", "-q", base=False)
    assert code != 0 and re.search(rb"(?i)could not connect|refused", stdout + stderr)


def test_benchmark_tells_why_it_was_thrown_out(make_server, kettle_benchmark):
    server = make_server(directives={"maxclients": "10"}, check_ktls=False)
    if not server.env.is_kettle:
        pytest.skip("redis-benchmark tries for ever")
    code, stdout, stderr = run(server, kettle_benchmark, "-n", "1000", "-c", "30", "-t", "ping", "-q")
    assert code == 1 and b"max number of clients reached" in stderr, stderr


def test_benchmark_when_the_server_dies(make_server, kettle_benchmark):
    server = make_server(check_ktls=False)
    if not server.env.is_kettle:
        pytest.skip("redis-benchmark's message is another")
    p = subprocess.Popen([kettle_benchmark] + server.cli_args() + ["-n", "100000000", "-t", "set", "-q"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with server.connect() as conn:
        harness.wait_for(lambda: int(conn.info("stats")["total_commands_processed"]) > 1000, server.env.timeout(20), 0.1,
                         "the load to run")
    server.expect_exit = -signal.SIGKILL
    server.proc.kill()
    _, stderr = p.communicate(timeout=server.env.timeout(20))
    assert p.returncode == 1 and re.search(rb"Error (reading from|writing to) the server: \S", stderr), stderr
