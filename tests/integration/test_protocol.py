# SPDX-License-Identifier: BSD-3-Clause
"""The wire protocol: inline commands, pipelining, every protocol error, and the limits."""
import os
import random
import re
import time

import pytest

from resp import encode, run


@pytest.fixture
def fresh(server):
    made = []

    def connect(**kwargs):
        connection = server.connect(**kwargs)
        made.append(connection)
        return connection
    yield connect
    for connection in made:
        connection.close()


def exchange(conn, data):
    """Sends bytes and returns all that comes until the server closes."""
    try:
        conn.send(data)
    except OSError:
        pass
    return conn.read_until_eof()


def test_inline_commands(conn):
    for line, want in [(b"PING\r\n", b"+PONG\r\n"), (b"ping\n", b"+PONG\r\n"), (b"  PING  \r\n", b"+PONG\r\n"),
                       (b"ECHO \"a b\"\r\n", b"$3\r\na b\r\n"), (b"ECHO 'a b'\r\n", b"$3\r\na b\r\n"),
                       (b"ECHO \"\\x41\\n\\t\\\"\\\\\"\r\n", b"$5\r\nA\n\t\"\\\r\n"),
                       (b"ECHO 'it\\'s'\r\n", b"$4\r\nit's\r\n"), (b"ECHO \"\"\r\n", b"$0\r\n\r\n"),
                       (b"SET inline 1\r\n", b"+OK\r\n"), (b"GET inline\r\n", b"$1\r\n1\r\n"),
                       (b"NOSUCH x\r\n", b"-ERR unknown command 'NOSUCH', with args beginning with: 'x' \r\n"),
                       (b"ECHO\ta\r\n", b"$1\r\na\r\n")]:
        conn.send(line)
        assert conn.read_exact(len(want)) == want, line
    conn.send(b"\r\n\n\r\n   \r\nPING\r\n")
    assert conn.read().render() == "+PONG"


def test_inline_and_multibulk_mixed_in_one_write(conn):
    conn.send(b"PING\r\n" + encode("ECHO", "x") + b"ECHO y\r\n" + encode("PING", "z") + b"\r\n" + b"PING\n")
    assert [conn.read().render() for _ in range(5)] == ["+PONG", '"x"', '"y"', '"z"', "+PONG"]


def test_empty_multibulk_is_ignored(conn):
    conn.send(b"*0\r\n*-1\r\n*0\r\n" + encode("PING"))
    assert conn.read().render() == "+PONG"
    assert conn.silent()


def test_empty_command_name(conn):
    conn.send(b"*1\r\n$0\r\n\r\n")
    assert conn.read().render() == "-ERR unknown command '', with args beginning with: "
    conn.send(b"*2\r\n$0\r\n\r\n$1\r\na\r\n")
    assert conn.read().render() == "-ERR unknown command '', with args beginning with: 'a' "


@pytest.mark.parametrize("data,reply", [
    (b"*x\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*3000000000\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*99999999999999999999\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"* 1\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*1.5\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*+1\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*01\r\n", b"-ERR Protocol error: invalid multibulk length\r\n"),
    (b"*1\r\n!4\r\nPING\r\n", b"-ERR Protocol error: expected '$', got '!'\r\n"),
    (b"*1\r\n:1\r\n", b"-ERR Protocol error: expected '$', got ':'\r\n"),
    (b"*1\r\nPING\r\n", b"-ERR Protocol error: expected '$', got 'P'\r\n"),
    (b"*1\r\n\r\n", b"-ERR Protocol error: expected '$', got '\r'\r\n"),
    (b"*1\r\n$x\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$-1\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$536870913\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$2000000000\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$99999999999999999999\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"*1\r\n$04\r\nPING\r\n", b"-ERR Protocol error: invalid bulk length\r\n"),
    (b"ECHO \"unbalanced\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n"),
    (b"ECHO 'unbalanced\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n"),
    (b"ECHO \"a\"b\r\n", b"-ERR Protocol error: unbalanced quotes in request\r\n"),
    (b"A" * (64 * 1024 + 1), b"-ERR Protocol error: too big inline request\r\n"),
    (b"*" + b"1" * (64 * 1024), b"-ERR Protocol error: too big mbulk count string\r\n"),
    (b"*1\r\n$" + b"1" * (64 * 1024), b"-ERR Protocol error: too big bulk count string\r\n"),
], ids=lambda value: re.sub(r"\W+", "_", repr(value[:30])))
def test_protocol_errors_are_told_and_close(fresh, conn, data, reply):
    other = fresh()
    got = exchange(other, data)
    assert got == reply or got == reply.replace(b"'\r'", b"' '") and b"\r" in reply[:-2]
    assert conn("PING") == "PONG"


def test_replies_before_a_protocol_error_are_delivered(fresh):
    other = fresh()
    got = exchange(other, encode("PING") + encode("ECHO", "x") + b"*bad\r\n" + encode("PING"))
    assert got == b"+PONG\r\n$1\r\nx\r\n-ERR Protocol error: invalid multibulk length\r\n"


def test_unauthenticated_limits(make_server):
    server = make_server(directives={"requirepass": "secret"})
    with server.connect() as conn:
        assert exchange(conn, b"*11\r\n") == b"-ERR Protocol error: unauthenticated multibulk length\r\n"
    with server.connect() as conn:
        assert exchange(conn, b"*10\r\n$16385\r\n") == b"-ERR Protocol error: unauthenticated bulk length\r\n"
    with server.connect() as conn:
        conn.send(b"*2\r\n$4\r\nECHO\r\n$16384\r\n" + b"x" * 16384 + b"\r\n")
        assert conn.read().render() == "-NOAUTH Authentication required."
        conn.ok("AUTH", "secret")
        assert conn("MGET", *["k%d" % i for i in range(11)]) == [None] * 11
        assert conn("SET", "k", b"x" * 20000) == "OK"
    server.password = "secret"


def test_http_is_refused(fresh, server):
    for first in (b"POST / HTTP/1.1\r\n", b"Host: example\r\n"):
        other = fresh()
        assert exchange(other, first) == b""
    server.wait_log("Possible SECURITY ATTACK detected")


@pytest.mark.slow
def test_pipeline_of_100000(conn):
    count = 100000
    replies = []
    data = encode("INCR", "n") * count
    # Writes and reads interleave, so that neither side waits for the other with full buffers.
    for start in range(0, len(data), 262144):
        conn.send(data[start:start + 262144])
    for _ in range(count):
        replies.append(conn.read().py)
    assert replies == list(range(1, count + 1))


def test_pipeline_mixes_small_and_large_replies(conn):
    big = os.urandom(300000)
    conn.ok("SET", "big", big)
    commands, want = [], []
    for i in range(60):
        commands += [("PING",), ("GET", "big"), ("ECHO", "e%d" % i), ("GET", "missing")]
        want += ["PONG", big, b"e%d" % i, None]
    assert conn.pipeline(commands) == want


def test_requests_split_at_every_byte(conn):
    data = (encode("SET", "k", "va\r\nlue") + b"PING\r\n" + encode("GET", "k") + b"*0\r\n" + encode("ECHO", "") +
            b"ECHO 'x y'\r\n")
    want = ["+OK", "+PONG", '"va\\r\\nlue"', '""', '"x y"']
    for cut in range(1, len(data)):
        conn.send(data[:cut])
        time.sleep(0.0005)
        conn.send(data[cut:])
        assert [conn.read().render() for _ in want] == want, cut
    for byte in data:
        conn.send(bytes([byte]))
    assert [conn.read().render() for _ in want] == want


def test_requests_in_random_pieces(conn):
    rng = random.Random(1)
    commands, want = [], []
    for i in range(300):
        value = bytes(rng.getrandbits(8) for _ in range(rng.choice([0, 1, 10, 100, 5000, 40000 if i % 20 == 0 else 3])))
        commands += [encode("SET", "k%d" % i, value), encode("GET", "k%d" % i)]
        want += ["OK", value]
    data, sent = b"".join(commands), 0
    while sent < len(data):
        size = rng.choice([1, 2, 17, 100, 1460, 16384, 70000])
        conn.send(data[sent:sent + size])
        sent += size
    assert [conn.read().py for _ in want] == want


@pytest.mark.slow
def test_bulk_of_64_megabytes(conn):
    chunk = os.urandom(1 << 20)
    value = chunk * 64
    assert conn("SET", "huge", value) == "OK"
    assert conn("STRLEN", "huge") == len(value)
    assert conn("GET", "huge") == value
    assert conn("GETRANGE", "huge", 63 << 20, -1) == chunk
    assert conn("DEL", "huge") == 1


def test_many_arguments(conn):
    count = 50000
    assert conn("DEL", *["k%d" % i for i in range(count)]) == 0
    assert conn("ECHO", "still here") == b"still here"
    args = ["x"] * (1024 * 1024 + 2)
    conn.send(b"*%d\r\n" % len(args) + b"$1\r\nx\r\n" * len(args))
    assert conn.read().render().startswith("-ERR unknown command 'x', with args beginning with: 'x' ")


def test_unknown_command_shows_a_limited_part_of_the_arguments(conn):
    long = "x" * 300
    assert conn.err("foo", long, "y") == "ERR unknown command 'foo', with args beginning with: '%s' " % ("x" * 128)
    assert conn.err("f" * 200) == "ERR unknown command '%s', with args beginning with: " % ("f" * 128)
    assert conn.err("foo", "a\r\nb") == "ERR unknown command 'foo', with args beginning with: 'a  b' "


def test_client_query_buffer_limit(make_server):
    server = make_server(directives={"client-query-buffer-limit": "1mb"})
    with server.connect() as conn:
        try:
            conn.send(b"*2\r\n$3\r\nGET\r\n$4000000\r\n" + b"x" * 3900000)
        except OSError:
            pass
        assert conn.closed()
    server.wait_log("Closing client that reached max query buffer length")
    with server.connect() as conn:
        assert conn("PING") == "PONG"


def test_proto_max_bulk_len(make_server):
    server = make_server(directives={"proto-max-bulk-len": "1mb"})
    with server.connect() as conn:
        assert conn("SET", "k", b"x" * (1 << 20)) == "OK"
        assert exchange(conn, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048577\r\n") == (
            b"-ERR Protocol error: invalid bulk length\r\n")


def test_half_command_then_close_leaves_nothing(fresh, conn):
    for data in [b"*", b"*3\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nh\r\n$5\r\nab", b"PIN", b"*3\r\n$3\r\nSET\r\n$1\r\nh\r\n$1\r\nx"]:
        other = fresh()
        other.send(data)
        other.close()
    time.sleep(0.1)
    assert conn("EXISTS", "h") == 0


def test_reply_to_a_client_that_stops_reading_its_input_side(server):
    """Half close: the requests already sent are answered in full before the connection ends."""
    if server.use_tls:
        pytest.skip("a TLS client announces its end with close_notify; see test_tls.py")
    import socket
    with server.connect() as other:
        other.send(encode("PING") * 1000)
        other.sock.shutdown(socket.SHUT_WR)
        assert other.read_until_eof() == b"+PONG\r\n" * 1000


def test_resp3_nulls_and_maps(server):
    with server.connect(proto=3) as conn:
        conn.send(encode("GET", "nosuchkey"))
        assert conn.read_exact(3) == b"_\r\n"
        conn.send(encode("CONFIG", "GET", "port"))
        assert conn.read_line() == b"%1"
        conn.read(), conn.read()
        conn.send(encode("MGET", "nosuchkey"))
        assert conn.read_exact(7) == b"*1\r\n_\r\n"
    with server.connect() as conn:
        conn.send(encode("GET", "nosuchkey"))
        assert conn.read_exact(5) == b"$-1\r\n"
        conn.send(encode("CONFIG", "GET", "port"))
        assert conn.read_line() == b"*2"


def test_debug_protocol_types(server, conn, env):
    """DEBUG PROTOCOL shows each RESP3 type."""
    with server.connect(proto=3) as three:
        run(three, """
            DEBUG PROTOCOL integer => :12345
            DEBUG PROTOCOL double => ,3.141
            DEBUG PROTOCOL map => {:0: #f, :1: #t, :2: #f}
            DEBUG PROTOCOL true => #t
        """)
