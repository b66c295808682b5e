# SPDX-License-Identifier: BSD-3-Clause
"""Limits and listening: maxclients, timeout, buffers, addresses, unix sockets, protected mode, process title."""
import os
import re
import resource
import socket
import ssl
import subprocess
import time

import pytest

import harness
import resp
from harness import wait_for
from resp import encode

DENIED = "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set"


def external_address():
    """An address of this host that is not loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))
            found = sock.getsockname()[0]
        except OSError:
            return None
    return None if found.startswith("127.") else found


def test_maxclients(make_server):
    server = make_server(directives={"maxclients": "10"})
    conns = []
    try:
        for _ in range(10):
            conn = server.connect()
            assert conn("PING") == "PONG"
            conns.append(conn)
        # Over TLS the text comes too: encrypted, after the handshake.
        for _ in range(3):
            if server.use_tls and not server.env.is_kettle:
                break  # Redis closes without a word before the handshake
            with server.connect() as extra:
                assert extra.read_until_eof() == b"-ERR max number of clients reached\r\n"
        if server.env.is_kettle or not server.use_tls:
            assert int(conns[0].info("stats")["rejected_connections"]) >= 3
        conns.pop().close()

        def again():
            with server.connect() as extra:
                extra.sock.settimeout(5)
                try:
                    return extra("PING") == "PONG"
                except (EOFError, OSError, resp.ReplyError):
                    return False
        wait_for(again, server.env.timeout(5), what="a free place")
        conns[0].ok("CONFIG", "SET", "maxclients", "20")
        for _ in range(8):
            conns.append(server.connect())
            assert conns[-1]("PING") == "PONG"
    finally:
        for conn in conns:
            conn.close()


def test_timeout_closes_idle_clients(make_server):
    server = make_server(directives={"timeout": "1"})
    with server.connect() as idle, server.connect() as busy:
        started = time.monotonic()
        for _ in range(12):
            assert busy("PING") == "PONG"
            time.sleep(0.2)
        assert idle.closed(5)
        assert time.monotonic() - started < server.env.timeout(8)
        assert busy("PING") == "PONG"


def test_timeout_can_be_set_live(make_server):
    server = make_server()
    with server.connect() as conn:
        time.sleep(1.2)
        assert conn("PING") == "PONG"
        conn.ok("CONFIG", "SET", "timeout", "1")
        assert conn.closed(server.env.timeout(6))


def fill(conn, count):
    """Asks for a lot and reads nothing; returns when the server closes or nothing more can be sent."""
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    data = encode("GET", "big") * count
    conn.sock.settimeout(conn.server.env.timeout(3))
    try:
        conn.send(data)
    except OSError:
        pass


def test_output_buffer_hard_limit(make_server):
    server = make_server(directives={"client-output-buffer-limit": ["normal", "8mb", "0", "0"]})
    with server.connect() as conn, server.connect() as slow:
        conn.ok("SET", "big", b"x" * 1000000)
        fill(slow, 60)
        wait_for(lambda: b"omem=" in conn.ok("CLIENT", "LIST") and len(conn.ok("CLIENT", "LIST").splitlines()) == 1,
                 server.env.timeout(10), what="the slow client to be closed")
        assert conn("PING") == "PONG"
        if not server.env.is_redis70:
            assert int(conn.info("stats")["client_output_buffer_limit_disconnections"]) == 1
    server.wait_log("overcoming of output buffer limits")


def test_output_buffer_soft_limit(make_server):
    server = make_server(directives={"client-output-buffer-limit": ["normal", "0", "2mb", "1"]})
    with server.connect() as conn, server.connect() as slow:
        conn.ok("SET", "big", b"x" * 1000000)
        fill(slow, 12)
        wait_for(lambda: conn("PING") and len(conn.ok("CLIENT", "LIST").splitlines()) == 1, server.env.timeout(12),
                 step=0.1, what="the slow client to be closed")


def drip(conn, total, seconds):
    """Reads `total` bytes over about so many seconds, with a small receive buffer."""
    got = 0
    started = time.monotonic()
    while got < total:
        due = total * (time.monotonic() - started) / seconds
        if got > due:
            time.sleep(0.05)
            continue
        data = conn.sock.recv(65536)
        if not data:
            break
        got += len(data)
    return got


def slow_connection(server):
    conn = server.connect()
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    conn.sock.settimeout(server.env.timeout(10))
    return conn


@pytest.mark.slow
def test_quit_behind_a_large_reply_waits_for_a_slow_reader(make_server):
    server = make_server()
    size = 12000000
    with server.connect() as conn, slow_connection(server) as slow:
        conn.ok("SET", "big", b"x" * size)
        slow.send(encode("GET", "big") + encode("QUIT"))
        reply = b"$%d\r\n" % size
        assert drip(slow, len(reply) + size + 2 + 5, 4) == len(reply) + size + 2 + 5


@pytest.mark.slow
def test_timeout_spares_a_client_that_still_reads(make_server):
    server = make_server()
    size = 24000000
    with server.connect() as conn:
        conn.ok("SET", "big", b"x" * size)
        conn.ok("CONFIG", "SET", "timeout", "2")
    with slow_connection(server) as slow:
        slow.send(encode("GET", "big"))
        assert drip(slow, size, 6) >= size


def test_output_limit_of_a_client_that_has_not_authenticated(make_server):
    server = make_server()
    if not server.env.is_kettle:
        pytest.skip("redis-server has this limit from 7.2.8 on")
    with server.connect() as conn, server.connect() as known:
        assert known("PING") == "PONG"
        conn.ok("CONFIG", "SET", "requirepass", "x")
        with slow_connection(server) as stranger:
            stranger.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            stranger.sock.settimeout(1)
            try:
                for _ in range(300):
                    stranger.send(b"PING\r\n" * 10000)
            except OSError:
                pass
            wait_for(lambda: int(conn.info("stats")["client_output_buffer_limit_disconnections"]) == 1,
                     server.env.timeout(5), what="the stranger to be closed")
        assert conn("AUTH", "x") == "OK"
        conn.ok("CONFIG", "SET", "requirepass", "")


def test_beyond_maxclients_no_descriptor_is_held(make_server):
    server = make_server(directives={"maxclients": "5"})

    def descriptors():
        return len(os.listdir("/proc/%d/fd" % server.proc.pid))
    with server.connect() as conn:
        assert conn("PING") == "PONG"
        before = descriptors()
        crowd = []
        for _ in range(200):  # over TLS they never speak
            sock = socket.create_connection((server.host, server.any_port()))
            crowd.append(sock)
        time.sleep(0.5)
        if server.env.is_kettle:
            assert descriptors() < before + 60
        assert conn("PING") == "PONG"
        for sock in crowd:
            sock.close()
        wait_for(lambda: descriptors() <= before + 1, server.env.timeout(10), what="descriptors")


def test_out_of_descriptors(make_server):
    """accept(2) that fails must neither spin nor hurt those connected, and goes on when it can."""
    server = make_server()
    with server.connect() as conn:
        assert conn("PING") == "PONG"
        pid = server.proc.pid
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir("/proc/%d/fd" % pid)) + 3, limits[1]))
        crowd = [socket.create_connection((server.host, server.any_port())) for _ in range(20)]
        ticks = cpu_ticks(pid)
        time.sleep(1)
        assert cpu_ticks(pid) - ticks < 40
        assert conn("PING") == "PONG"
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        for sock in crowd:
            sock.close()
        with server.connect() as late:
            assert late("PING") == "PONG"


def test_new_connections_per_cycle(make_server):
    server = make_server()
    names = {"max-new-connections-per-cycle": b"10", "max-new-tls-connections-per-cycle": b"1"}
    with server.connect() as conn:
        for name, default in names.items():
            if server.env.is_redis70:
                break
            assert conn.ok("CONFIG", "GET", name) == [name.encode(), default]
        for limit in ("1", "3", "1000"):
            for name in names:
                if not server.env.is_redis70:
                    conn.ok("CONFIG", "SET", name, limit)
            crowd = [socket.create_connection((server.host, server.any_port()), server.env.timeout(10)) for _ in range(150)]
            assert conn("PING") == "PONG"
            for i, sock in enumerate(crowd):  # none of them is forgotten
                if server.use_tls:
                    sock = crowd[i] = server.context().wrap_socket(sock, server_hostname="127.0.0.1")
                sock.sendall(b"PING\r\n")
            for sock in crowd:
                assert sock.recv(100) == b"+PONG\r\n"
                sock.close()
        if server.env.is_kettle:
            assert "between 1 and 1000" in conn.err("CONFIG", "SET", "max-new-connections-per-cycle", "0")


def cpu_ticks(pid):
    with open("/proc/%d/stat" % pid) as handle:
        return sum(int(x) for x in handle.read().rsplit(")", 1)[1].split()[11:13])


def test_slow_reader_gets_everything_without_a_limit(make_server):
    server = make_server()
    with server.connect() as conn:
        value = os.urandom(500000)
        conn.ok("SET", "big", value)
        conn.send(encode("GET", "big") * 40)
        time.sleep(0.3)
        for _ in range(40):
            assert conn.read().value == value
        assert conn("PING") == "PONG"


def test_tcp_keepalive_is_set(make_server):
    server = make_server(directives={"tcp-keepalive": "77"})
    with server.connect() as conn:
        assert conn("PING") == "PONG"

        def timers():
            return subprocess.run(["ss", "-tno", "state", "established", "sport", "=", ":%d" % server.any_port()],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if timers().returncode != 0:
            pytest.skip("no ss")
        # while something is unacknowledged, ss shows that timer instead
        wait_for(lambda: b"timer:(keepalive,1min" in timers().stdout, server.env.timeout(5), what="the keepalive timer")


def test_tcp_backlog(make_server):
    with open("/proc/sys/net/core/somaxconn") as handle:
        most = int(handle.read())
    server = make_server(directives={"tcp-backlog": str(most + 7)})
    server.wait_log("TCP backlog setting of %d cannot be enforced" % (most + 7))
    small = make_server(directives={"tcp-backlog": "33"})
    out = subprocess.run(["ss", "-Hltn", "sport", "=", ":%d" % small.any_port()], stdout=subprocess.PIPE)
    assert out.returncode != 0 or all(line.split()[2] == b"33" for line in out.stdout.splitlines())
    assert "backlog" not in small.log()


def test_a_file_in_place_of_the_unix_socket_is_not_removed(env, transport, tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    server = harness.Server(env, transport, start=False, directives={"unixsocket": str(path)})
    if not env.is_kettle:
        pytest.skip("redis-server removes it")
    try:
        server.port = harness.free_port() if server.use_plain else 0
        server.tls_port = harness.free_port() if server.use_tls else 0
        server.spawn()
        assert server.wait_exit(10) == 1
        assert "Failed opening Unix socket" in server.log() and path.read_text() == "data"
    finally:
        server.cleanup()


def test_unix_socket(make_server, tmp_path):
    path = str(tmp_path / "k.sock")
    server = make_server(directives={"unixsocket": path, "unixsocketperm": "700"})
    wait_for(lambda: os.path.exists(path), 5)
    assert os.stat(path).st_mode & 0o777 == 0o700
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    with resp.Conn(sock, server=server) as conn:
        assert conn("PING") == "PONG"
        conn.ok("SET", "k", b"x" * 3000000)
        assert len(conn("GET", "k")) == 3000000
        info = conn.ok("CLIENT", "INFO").decode()
        assert " addr=%s:0 " % path in info and " flags=U " in info
        if server.env.is_kettle:
            assert " tls=no" in info
        assert conn("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes") >= 0
        conn.send(encode("QUIT"))
        assert conn.read_until_eof() == b"+OK\r\n"
    server.proc.terminate()
    assert server.wait_exit() == 0
    assert not os.path.exists(path)


def test_several_addresses_and_ipv6(make_server):
    try:
        harness.free_port(socket.AF_INET6, "::1")
        six = True
    except OSError:
        six = False
    addresses = ["127.0.0.1", "127.0.0.2"] + (["::1"] if six else [])
    server = make_server(directives={"bind": addresses})
    for host in addresses:
        with server.connect(host=host) as conn:
            assert conn("PING") == "PONG"
            laddr = re.search(r" laddr=(\S+)", conn.ok("CLIENT", "INFO").decode()).group(1)
            assert laddr == ("[::1]:%d" if host == "::1" else host + ":%d") % server.any_port()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.3", server.any_port()), 2)
    if not six:
        pytest.skip("no IPv6 here; the IPv4 part passed")


def test_optional_addresses(make_server):
    server = make_server(directives={"bind": ["127.0.0.1", "-192.0.2.55", "-::ffff"]})
    with server.connect() as conn:
        assert conn("PING") == "PONG"


def test_config_set_bind_and_port(make_server):
    server = make_server()
    with server.connect() as conn:
        assert conn("CONFIG", "SET", "bind", "127.0.0.1 127.0.0.2") == "OK"
        with server.connect(host="127.0.0.2") as second:
            assert second("PING") == "PONG"
        port = harness.free_port()
        name = "tls-port" if server.use_tls else "port"
        assert conn("CONFIG", "SET", name, port) == "OK"
        with server.connect(port=port) as second:
            assert second("PING") == "PONG"
        assert conn("PING") == "PONG"
        if server.use_tls:
            server.tls_port = port
        else:
            server.port = port


def test_config_set_port_of_another_server(make_server):
    first, second = make_server(), make_server()
    name = "tls-port" if first.use_tls else "port"
    with first.connect() as conn:
        text = conn.err("CONFIG", "SET", "timeout", "77", name, second.any_port(), "hz", "50")
        assert text == "ERR CONFIG SET failed (possibly related to argument '%s') - Unable to listen on this port. " \
                       "Check server logs." % name
        assert conn.ok("CONFIG", "GET", "timeout")[1] == b"0" and conn.ok("CONFIG", "GET", "hz")[1] == b"10"
        text = conn.err("CONFIG", "SET", "bind", "192.0.2.77")
        assert text == "ERR CONFIG SET failed (possibly related to argument 'bind') - Failed to bind to specified addresses."
    for server in (first, second):
        with server.connect() as conn:
            assert conn("PING") == "PONG"


@pytest.mark.transports("tls-user", "tls-kernel")
def test_ports_swapped_live(make_server):
    server = make_server(plain=True)
    with server.connect(tls=True) as conn:
        conn.ok("CONFIG", "SET", "port", server.tls_port, "tls-port", server.port)
        server.port, server.tls_port = server.tls_port, server.port
        assert conn("PING") == "PONG"
        wait_for(lambda: plain_ping(server), server.env.timeout(5), what="the ports to be swapped")
        with server.connect(tls=True) as again:
            assert again("PING") == "PONG"
        assert conn.err("CONFIG", "SET", "port", server.tls_port).endswith("Unable to listen on this port. Check server logs.")


def plain_ping(server):
    with server.connect(tls=False) as conn:
        try:
            return conn("PING") == "PONG"
        except (OSError, EOFError, ValueError, AssertionError):
            return False


def test_sixteen_addresses_on_both_ports_and_a_unix_socket(make_server, tmp_path):
    addresses = ["127.0.0.%d" % i for i in range(1, 17)]
    path = str(tmp_path / "k.sock")
    server = make_server(directives={"bind": addresses, "unixsocket": path}, plain=True)
    with server.connect(host="127.0.0.16") as conn:
        assert conn("PING") == "PONG"
        port = harness.free_port()
        conn.ok("CONFIG", "SET", "port", port)
        server.port = port
        with server.connect(host="127.0.0.16", tls=False) as plain:
            assert plain("PING") == "PONG"
        listeners = [v for k, v in conn.info("server").items() if k.startswith("listener")]
        if not server.env.is_redis70:
            assert "name=tcp," + ",".join("bind=" + a for a in addresses) + ",port=%d" % port in listeners
            assert "name=unix,bind=" + path in listeners


def test_protected_mode(make_server):
    address = external_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    server = make_server(directives={"bind": ["*"]})
    with server.connect(host=address) as conn:
        assert conn.read_until_eof().decode().startswith(DENIED)
    with server.connect() as conn:
        assert conn("PING") == "PONG"
        conn.ok("CONFIG", "SET", "protected-mode", "no")
        with server.connect(host=address) as outside:
            assert outside("PING") == "PONG"
        conn.ok("CONFIG", "SET", "protected-mode", "yes", "requirepass", "x")
        with server.connect(host=address) as outside:
            assert outside.err("PING") == "NOAUTH Authentication required."
        conn.ok("CONFIG", "SET", "requirepass", "")


def test_process_title(make_server):
    server = make_server(directives={"proc-title-template": "ks {listen-addr}|{port}|{tls-port}|{server-mode}|"})

    def title():
        with open("/proc/%d/cmdline" % server.proc.pid, "rb") as handle:
            return handle.read().replace(b"\0", b" ").decode().strip()
    wanted = "ks %s|%d|%d||" % ("127.0.0.1:%d" % (server.tls_port if server.use_tls else server.port), server.port,
                                server.tls_port)
    wait_for(lambda: title() == wanted, 3, what="title %r, now %r" % (wanted, title()))


def test_default_process_title(make_server):
    server = make_server()
    with open("/proc/%d/cmdline" % server.proc.pid, "rb") as handle:
        title = handle.read().replace(b"\0", b" ").decode().strip()
    assert title.endswith(" 127.0.0.1:%d" % server.any_port()), title


@pytest.mark.transports("tls-user", "tls-kernel")
def test_plain_and_tls_ports_together(make_server):
    server = make_server(plain=True)
    with server.connect(tls=True) as secure, server.connect(tls=False) as plain:
        secure.ok("SET", "k", "v")
        assert plain("GET", "k") == b"v"
        info = plain.info("server")
        assert info["tcp_port"] == str(server.port)
        if server.env.is_kettle:
            assert " tls=no" in plain.ok("CLIENT", "INFO").decode()
            assert secure.info("tls")["tls_port"] == str(server.tls_port)


@pytest.mark.slow
def test_many_connections(server, env):
    count = 300 if env.sanitizer else 1000
    conns = []
    try:
        for _ in range(count):
            conns.append(server.connect())
        for i, conn in enumerate(conns):
            conn.send(encode("ECHO", str(i)))
        for i, conn in enumerate(conns):
            assert conn.read().value == str(i).encode()
        assert int(conns[0].info("clients")["connected_clients"]) >= count
    finally:
        for conn in conns:
            conn.close()
    with server.connect() as conn:
        wait_for(lambda: int(conn.info("clients")["connected_clients"]) < 20, env.timeout(10), what="closed clients to go")


@pytest.mark.slow
def test_connection_churn_leaks_no_descriptor(server, env):
    def descriptors():
        return len(os.listdir("/proc/%d/fd" % server.proc.pid))
    with server.connect() as conn:
        assert conn("PING") == "PONG"
    time.sleep(0.3)
    before = descriptors()
    for i in range(200 if env.sanitizer else 600):
        conn = server.connect()
        if i % 3 == 0:
            assert conn("PING") == "PONG"
        elif i % 3 == 1:
            conn.send(b"*3\r\n$3\r\nSET\r\n")
        if i % 5 == 0:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        conn.close()
    wait_for(lambda: descriptors() <= before + 1, env.timeout(10), what="descriptors to go back to %d" % before)


def test_tls_refused_on_plain_port(server, env):
    if server.use_tls:
        pytest.skip("see test_tls.py")
    with pytest.raises((ssl.SSLError, OSError, EOFError)):
        server.connect(tls=True, port=server.port, timeout=3)
    if server.env.is_kettle:
        server.wait_log("A client speaks TLS to a port without TLS")
    with server.connect() as conn:
        assert conn("PING") == "PONG"


def test_a_refused_port_resets_nobody(make_server):
    """The listeners stay as they are: whoever connects meanwhile is served."""
    first, second = make_server(), make_server()
    name = "tls-port" if first.use_tls else "port"
    with first.connect() as conn:
        for _ in range(20):
            conn.err("CONFIG", "SET", name, second.any_port())
            with first.connect() as other:
                assert other("PING") == "PONG"
