# SPDX-License-Identifier: BSD-3-Clause
"""A raw RESP2/RESP3 client that keeps every detail of a reply.

Client libraries hide what these tests are about: whether a null was a null bulk or a null array, whether a
status was simple or bulk, the exact text of an error. A reply is therefore a Node (its type byte and its value), and
Node.render() gives it one canonical spelling:

    +OK   -ERR text   :1   "bulk"   nil   nilarray   [a, b]   {k: v}   ~[a, b]   >[a, b]   ,1.5   (12   #t   =txt:text

run() executes a script of "command => expected" lines and compares these spellings, so that a test reads like a
redis-cli session and still compares type by type and byte by byte.
"""
import re
import socket
import ssl
import time


class ReplyError(Exception):
    """An error reply; equal to its text."""

    def __eq__(self, other):
        return str(self) == (other if isinstance(other, str) else str(other))

    def __hash__(self):
        return hash(str(self))

    def startswith(self, prefix):
        return str(self).startswith(prefix)


def quote(data):
    out = ['"']
    for byte in data:
        if byte in b'"\\':
            out.append("\\" + chr(byte))
        elif byte == 10:
            out.append("\\n")
        elif byte == 13:
            out.append("\\r")
        elif byte == 9:
            out.append("\\t")
        elif 32 <= byte < 127:
            out.append(chr(byte))
        else:
            out.append("\\x%02x" % byte)
    out.append('"')
    return "".join(out)


def split_args(line):
    """Splits a line as redis-cli does: "..." with escapes, '...' with none but \\'."""
    args, i, n = [], 0, len(line)
    while True:
        while i < n and line[i].isspace():
            i += 1
        if i >= n:
            return args
        cur = bytearray()
        while i < n and not line[i].isspace():
            ch = line[i]
            if ch == '"':
                i += 1
                while line[i] != '"':
                    if line[i] == "\\" and line[i + 1] == "x":
                        cur.append(int(line[i + 2:i + 4], 16))
                        i += 4
                    elif line[i] == "\\":
                        cur += {"n": b"\n", "r": b"\r", "t": b"\t", "b": b"\b", "a": b"\a"}.get(
                            line[i + 1], line[i + 1].encode())
                        i += 2
                    else:
                        cur += line[i].encode("utf-8")
                        i += 1
                i += 1
            elif ch == "'":
                i += 1
                while line[i] != "'":
                    if line[i] == "\\" and line[i + 1] == "'":
                        i += 1
                    cur += line[i].encode("utf-8")
                    i += 1
                i += 1
            else:
                cur += ch.encode("utf-8")
                i += 1
        args.append(bytes(cur))


def to_bytes(value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, (int, float)):
        return repr(value).encode()
    raise TypeError("cannot send %r" % (value,))


def encode(*args):
    out = [b"*%d\r\n" % len(args)]
    for arg in args:
        data = to_bytes(arg)
        out.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(out)


class Node:
    __slots__ = ("kind", "value")

    def __init__(self, kind, value):
        self.kind = kind
        self.value = value

    def render(self):
        kind, value = self.kind, self.value
        if kind in "+-":
            return kind + value.decode("utf-8", "backslashreplace")
        if kind in ":,(#":
            return kind + value.decode()
        if kind == "$":
            return quote(value)
        if kind == "=":
            return "=%s:%s" % (value[:3].decode(), value[4:].decode("utf-8", "backslashreplace"))
        if kind == "nil":
            return "nil"
        if kind == "nilarray":
            return "nilarray"
        if kind in "*~>":
            return {"*": "", "~": "~", ">": ">"}[kind] + "[" + ", ".join(n.render() for n in value) + "]"
        if kind in "%|":
            body = ", ".join("%s: %s" % (k.render(), v.render()) for k, v in value)
            return ("|" if kind == "|" else "") + "{" + body + "}"
        raise AssertionError(kind)

    @property
    def py(self):
        """The plain Python value: bulk as bytes, status as str, error as ReplyError, map as dict."""
        kind, value = self.kind, self.value
        if kind == "+":
            return value.decode("utf-8", "backslashreplace")
        if kind == "-":
            return ReplyError(value.decode("utf-8", "backslashreplace"))
        if kind in ":(":
            return int(value)
        if kind == ",":
            return float(value)
        if kind == "#":
            return value == b"t"
        if kind == "$":
            return value
        if kind == "=":
            return value[4:]
        if kind in ("nil", "nilarray"):
            return None
        if kind in "*>":
            return [n.py for n in value]
        if kind == "~":
            return set(n.py for n in value)
        return {k.py: v.py for k, v in value}

    def __repr__(self):
        return "<%s>" % self.render()


class Conn:
    """One connection. Calling it sends a command and returns the Python value of the reply."""

    def __init__(self, sock, timeout=20.0, server=None):
        self.sock = sock
        self.buf = bytearray()
        self.pos = 0
        self.proto = 2
        self.server = server
        self.timeout = timeout
        sock.settimeout(timeout)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass

    def send(self, data):
        self.sock.sendall(data)

    def _fill(self):
        data = self.sock.recv(262144)
        if not data:
            raise EOFError("closed by the server")
        if self.pos > 1 << 20:
            del self.buf[:self.pos]
            self.pos = 0
        self.buf += data

    def read_line(self):
        while True:
            end = self.buf.find(b"\r\n", self.pos)
            if end >= 0:
                line = bytes(self.buf[self.pos:end])
                self.pos = end + 2
                return line
            self._fill()

    def read_exact(self, count):
        while len(self.buf) - self.pos < count:
            self._fill()
        data = bytes(self.buf[self.pos:self.pos + count])
        self.pos += count
        return data

    def read(self):
        """Reads one reply as a Node."""
        line = self.read_line()
        kind, rest = chr(line[0]), line[1:]
        if kind in "+-:,(#":
            return Node(kind, rest)
        if kind == "_":
            return Node("nil", None)
        if kind in "$=!":
            size = int(rest)
            if size < 0:
                return Node("nil", None)
            data = self.read_exact(size)
            if self.read_exact(2) != b"\r\n":
                raise AssertionError("bulk reply without its CRLF")
            return Node("-" if kind == "!" else kind, data)
        if kind in "*~>":
            size = int(rest)
            if size < 0:
                return Node("nilarray", None)
            return Node(kind, [self.read() for _ in range(size)])
        if kind in "%|":
            return Node(kind, [(self.read(), self.read()) for _ in range(int(rest))])
        raise AssertionError("unknown reply type in %r" % line)

    def node(self, *args):
        self.send(encode(*args))
        return self.read()

    def __call__(self, *args):
        """Arguments one by one, or one string with spaces, split as redis-cli does."""
        if len(args) == 1 and isinstance(args[0], str):
            args = split_args(args[0])
        return self.node(*args).py

    def ok(self, *args):
        reply = self(*args)
        if isinstance(reply, ReplyError):
            raise AssertionError("%r -> %s" % (args, reply))
        return reply

    def err(self, *args):
        reply = self(*args)
        assert isinstance(reply, ReplyError), "%r -> %r, wanted an error" % (args, reply)
        return str(reply)

    def pipeline(self, commands):
        self.send(b"".join(encode(*cmd) for cmd in commands))
        return [self.read().py for _ in commands]

    def hello(self, proto):
        reply = self.ok("HELLO", str(proto))
        self.proto = proto
        return reply

    def read_until_eof(self, timeout=None):
        """Everything the server still says before it closes; fails when it does not close."""
        self.sock.settimeout(timeout or self.timeout)
        out = bytes(self.buf[self.pos:])
        self.buf.clear()
        self.pos = 0
        try:
            while True:
                data = self.sock.recv(65536)
                if not data:
                    return out
                out += data
        except socket.timeout:
            raise AssertionError("the server did not close; so far: %r" % out[-200:])
        except (ConnectionError, ssl.SSLError):
            return out

    def closed(self, timeout=None):
        return self.read_until_eof(timeout) == b""

    def silent(self, seconds=0.2):
        """True when nothing arrives for this long."""
        if self.pos < len(self.buf):
            return False
        self.sock.settimeout(seconds)
        try:
            self._fill()
            return False
        except (socket.timeout, ssl.SSLWantReadError):
            return True
        finally:
            self.sock.settimeout(self.timeout)

    def info(self, section=None):
        reply = self.ok("INFO", section) if section else self.ok("INFO")
        return parse_info(reply)


def parse_info(data):
    out = {}
    for line in data.decode().splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition(":")
            out[key] = value
    return out


LINE = re.compile(r"^((?:(?:2|3|7\.0|7\.2)\|\s*)*)(.*)$")


def canonical(expected, proto):
    return expected.replace("nilarray", "nil") if proto == 3 else expected


def run(conn, script):
    """Executes "command => expected" lines; reports every line that differs.

    Without "=>" the reply must be +OK. "*" accepts anything, "/regex/" matches the rendering. A prefix limits the
    line to a protocol ("2|", "3|") or to the server's generation ("7.0|" Debian's redis-server, "7.2|" Kettle):
    a line that does not apply is not sent. The symbol U+2420 stands for a space at the end of a line.
    """
    __tracebackhide__ = True
    old = conn.server is not None and conn.server.env.is_redis70
    wrong = []
    for raw in script.strip().splitlines():
        line = raw.strip().replace("\u2420", " ")
        if not line or line.startswith("##"):
            continue
        prefix, rest = LINE.match(line).groups()
        tags = [t.strip() for t in prefix.split("|") if t.strip()]
        if ("2" in tags and conn.proto != 2) or ("3" in tags and conn.proto != 3):
            continue
        if ("7.2" in tags and old) or ("7.0" in tags and not old):
            continue
        command, arrow, expected = rest.partition(" => ")
        expected = expected.lstrip() if arrow else "+OK"
        if command.startswith("SLEEP "):
            time.sleep(float(command.split()[1]))
            continue
        try:
            got = conn.node(*split_args(command)).render()
        except (EOFError, OSError, AssertionError) as exc:
            wrong.append("%s\n    wanted %s\n    got    connection lost: %r" % (command, expected, exc))
            break
        if expected == "*":
            continue
        if len(expected) > 2 and expected[0] == "/" and expected[-1] == "/":
            if re.search(expected[1:-1], got, re.S):
                continue
        elif got == canonical(expected, conn.proto):
            continue
        wrong.append("%s\n    wanted %s\n    got    %s" % (command, expected, got[:2000]))
    assert not wrong, "RESP%d, %d line(s) differ:\n%s" % (conn.proto, len(wrong), "\n".join(wrong))
