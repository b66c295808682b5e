# SPDX-License-Identifier: BSD-3-Clause
"""What a server sends its replicas, read as a replica reads it.

Stream is a connection that has done PSYNC and thrown the snapshot away. effects() runs one command and gives what came of it,
as lines of words: transactions between "MULTI" and "EXEC", the database as "@n" behind a command where it is not 0. A message
that is published after the command marks the end.
"""
import itertools
import re
import time

from resp import encode

MARK = b"__propagation_mark__"


class Stream:
    """The stream of commands of a primary, from now on."""

    def __init__(self, server):
        self.conn = server.connect()
        self.db = 0
        self.conn.ok("REPLCONF", "capa", "eof", "capa", "psync2")
        self.conn.send(encode("PSYNC", "?", "-1"))
        self.skip_newlines()
        assert self.conn.read_line().startswith(b"+FULLRESYNC")
        self.skip_snapshot()

    def close(self):
        self.conn.close()

    def skip_newlines(self):
        """A primary that makes a snapshot sends them, for the connection to live."""
        while self.conn.read_exact(1) == b"\n":
            pass
        self.conn.pos -= 1

    def skip_snapshot(self):
        self.skip_newlines()
        head = self.conn.read_line()
        assert head.startswith(b"$"), head
        if not head.startswith(b"$EOF:"):
            self.conn.read_exact(int(head[1:]))
            return
        tail, mark = b"", head[5:]
        while tail != mark:
            tail = (tail + self.conn.read_exact(1))[-len(mark):]

    def command(self):
        """The next one, as a list of words."""
        self.skip_newlines()
        return [word.value for word in self.conn.read().value]

    def until_mark(self, number):
        """Commands up to this mark, each with its database."""
        out = []
        while True:
            words = self.command()
            name = words[0].upper()
            if name == b"SELECT":
                self.db = int(words[1])
            elif name == b"PUBLISH" and words[1] == MARK:
                if words[2] == number:
                    return out
            elif name not in (b"PING", b"REPLCONF"):
                out.append((self.db, words))


numbers = itertools.count(1)


def mark(conn):
    """A mark in the stream, for until_mark."""
    number = b"%d" % next(numbers)
    conn.ok("PUBLISH", MARK, number)
    return number


ROUND = [0, 50, 100, 200, 500, 1000, 100000]  # seconds from now, as tests have them


def near_now(text, unit_ms):
    """For a time near now, which of ROUND it was when the command was sent, some seconds ago at most; else None."""
    try:
        seconds = (int(text) * unit_ms) / 1000 - time.time()
    except (ValueError, OverflowError):
        return None
    return min(ROUND, key=lambda r: abs(r - seconds)) if abs(seconds) < 1e6 else None


STREAM_ID = re.compile(rb"^(\d{13})-(\d+)$")


def normal(words):
    """Without what differs from run to run: times near now are "now+n", IDs made from the clock "ID"."""
    out = [words[0].decode().upper()]
    for word in words[1:]:
        seconds, ms = near_now(word, 1000), near_now(word, 1)
        found = STREAM_ID.match(word)
        if found and near_now(found.group(1), 1) is not None:
            out.append("ID")
        elif ms is not None:
            out.append("now+%d" % ms)
        elif seconds is not None:
            out.append("seconds+%d" % seconds)
        else:
            out.append(word.decode("latin-1") or '""')
    return " ".join(out)


def render(ops):
    return ["%s@%d" % (normal(words), db) if db and words[0].upper() not in (b"MULTI", b"EXEC") else normal(words)
            for db, words in ops]
