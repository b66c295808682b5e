# SPDX-License-Identifier: BSD-3-Clause
"""Blocked clients, whatever they wait for: order, timeouts, unblocking, what they send meanwhile, how they end."""
import os
import random
import threading
import time

import pytest

from harness import wait_for
from resp import ReplyError, encode, run, split_args

UNBLOCKED = "UNBLOCKED client unblocked via CLIENT UNBLOCK"


@pytest.fixture
def clients(server):
    """A factory of further connections."""
    made = []

    def connect(**kwargs):
        made.append(server.connect(**kwargs))
        return made[-1]
    yield connect
    for connection in made:
        connection.close()


def blocked(conn):
    return int(conn.info("clients")["blocked_clients"])


def wait_blocked(conn, count):
    wait_for(lambda: blocked(conn) == count, what="%d blocked clients" % count)


def block(conn, admin, *command):
    """Sends a command that blocks, and returns once it does."""
    before = blocked(admin)
    conn.send(encode(*command))
    wait_blocked(admin, before + 1)


def flags(admin, ident):
    line = admin.ok("CLIENT", "LIST", "ID", str(ident)).decode()
    return line.split("flags=")[1].split()[0]


# ---- WAIT: a command that only ever times out ----


def test_wait_arguments(c, is70):
    if is70:
        pytest.skip("WAITAOF is newer")
    positive = "-ERR value is out of range, must be positive"
    integer = "-ERR value is not an integer or out of range"
    run(c, f"""
        WAIT 0 0 => :0
        WAIT -1 10 => :0
        WAIT 1 20 => :0
        WAIT x 0 => {integer}
        WAIT 1 x => -ERR timeout is not an integer or out of range
        WAIT 1 1.5 => -ERR timeout is not an integer or out of range
        WAIT 1 -1 => -ERR timeout is negative
        WAIT 0 -1 => -ERR timeout is negative
        WAIT 1 => -ERR wrong number of arguments for 'wait' command
        WAITAOF 0 0 0 => [:0, :0]
        WAITAOF 0 1 20 => [:0, :0]
        WAITAOF 1 0 0 => -ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.
        WAITAOF 1 0 -1 => -ERR timeout is negative
        WAITAOF 2 0 0 => -ERR value is out of range, value must between 0 and 1
        WAITAOF x 0 0 => {integer}
        WAITAOF 0 -1 0 => {positive}
        WAITAOF 0 x -1 => {positive}
        MULTI
        WAIT 1 0 => +QUEUED
        WAITAOF 0 1 0 => +QUEUED
        EXEC => [:0, [:0, :0]]
    """)


def test_timeout_is_exact(conn, env):
    """A busy machine may be late now and then, not always."""
    for ms in (30, 55, 100):
        late = []
        for _ in range(8):
            before = time.monotonic()
            assert conn("WAIT", "1", str(ms)) == 0
            late.append((time.monotonic() - before) * 1000 - ms)
        assert min(late) > -1 and min(late) < (10 * env.factor if env.is_kettle else 110), late


def test_many_timeouts_end_in_order(conn, clients):
    waiting = [(100 + 20 * ((i * 7) % 20), clients()) for i in range(20)]
    start = time.monotonic()
    for ms, other in waiting:
        other.send(encode("WAIT", "1", str(ms)))
    for ms, other in sorted(waiting, key=lambda item: item[0]):
        assert other.read().py == 0
        assert (time.monotonic() - start) * 1000 >= ms - 1
    assert blocked(conn) == 0


def test_nothing_behind_a_blocked_command_is_run(conn, clients):
    other = clients()
    ident = other.ok("CLIENT", "ID")
    block(other, conn, "WAIT", "1", "0")
    other.send(encode("SET", "k", "v") + encode("GET", "k") + encode("WAIT", "1", "0") + encode("PING"))
    time.sleep(0.05)
    assert conn("EXISTS", "k") == 0
    assert "b" in flags(conn, ident)
    assert conn("CLIENT", "UNBLOCK", str(ident)) == 1
    assert [other.read().render() for _ in range(3)] == [":0", "+OK", '"v"']
    wait_blocked(conn, 1)
    assert conn("CLIENT", "UNBLOCK", str(ident), "ERROR") == 1
    assert [other.read().render() for _ in range(2)] == ["-" + UNBLOCKED, "+PONG"]
    assert "b" not in flags(conn, ident)


def test_a_blocked_client_may_send_much(conn, clients):
    """More than is read from it at once, a command cut in two, a large argument."""
    other = clients()
    ident = other.ok("CLIENT", "ID")
    block(other, conn, "WAIT", "1", "0")
    value = os.urandom(3000)
    large = os.urandom(300000)
    data = b"".join(encode("SET", "k%d" % i, value) for i in range(600)) + encode("SET", "large", large) + encode("GET", "large")
    sender = threading.Thread(target=other.send, args=(data,))
    sender.start()
    time.sleep(0.2)
    assert conn("DBSIZE") == 0
    assert conn("CLIENT", "UNBLOCK", str(ident)) == 1
    assert other.read().py == 0
    for _ in range(601):
        assert other.read().py == "OK"
    assert other.read().py == large
    sender.join()


def test_unblock(conn, clients):
    run(conn, """
        CLIENT UNBLOCK 1000000000 => :0
        CLIENT UNBLOCK x => -ERR value is not an integer or out of range
        CLIENT UNBLOCK 1 sometimes => -ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR
    """)
    other = clients()
    ident = str(other.ok("CLIENT", "ID"))
    assert conn("CLIENT", "UNBLOCK", ident) == 0
    block(other, conn, "WAIT", "1", "0")
    assert conn("CLIENT", "UNBLOCK", ident, "timeout") == 1
    assert other.read().py == 0
    assert conn("CLIENT", "UNBLOCK", ident) == 0
    block(other, conn, "WAIT", "1", "60000")
    run(conn, f"""
        MULTI
        CLIENT UNBLOCK {ident} error => +QUEUED
        CLIENT UNBLOCK {ident} error => +QUEUED
        EXEC => [:1, :0]
    """)
    assert str(other.read().py) == UNBLOCKED
    assert int(conn.info("errorstats").get("errorstat_UNBLOCKED", "count=0").split("=")[1]) >= 1


def test_end_of_a_blocked_client(conn, clients):
    other = clients()
    block(other, conn, "WAIT", "1", "0")
    other.close()
    wait_blocked(conn, 0)
    other = clients()
    ident = other.ok("CLIENT", "ID")
    block(other, conn, "WAIT", "1", "0")
    assert conn("CLIENT", "KILL", "ID", str(ident)) == 1
    wait_blocked(conn, 0)
    assert other.closed()


def test_idle_timeout_spares_blocked_clients(make_server):
    server = make_server()
    with server.connect() as admin, server.connect() as idle, server.connect() as waiting:
        waiting.send(encode("WAIT", "1", "2600"))
        admin.ok("CONFIG", "SET", "timeout", "1")
        assert idle.closed(timeout=10)
        assert waiting.read().py == 0


def test_shutdown_with_blocked_clients(make_server):
    server = make_server()
    waiting = [server.connect() for _ in range(5)]
    with server.connect() as admin:
        for other in waiting:
            other.send(encode("WAIT", "1", "0"))
        wait_blocked(admin, 5)
    server.stop()
    for other in waiting:
        assert other.closed()
        other.close()


def test_statistics_count_the_command_once(conn, clients, is70):
    if is70:
        pytest.skip("7.0 counts differently")
    conn.ok("CONFIG", "RESETSTAT")
    other = clients()
    other.ok("WAIT", "1", "10")
    ident = other.ok("CLIENT", "ID")
    block(other, conn, "WAIT", "1", "0")
    conn.ok("CLIENT", "UNBLOCK", str(ident))
    other.read()
    stats = conn.info("commandstats")["cmdstat_wait"]
    assert stats.startswith("calls=2,"), stats


def test_reply_off_and_skip(conn, clients):
    other = clients()
    other.send(encode("CLIENT", "REPLY", "SKIP") + encode("WAIT", "1", "30") + encode("PING"))
    assert other.read().py == "PONG"
    other.send(encode("CLIENT", "REPLY", "OFF") + encode("WAIT", "1", "30") + encode("CLIENT", "REPLY", "ON") + encode("PING"))
    assert [other.read().py for _ in range(2)] == ["OK", "PONG"]


def test_pause_holds_back_what_comes_after(conn, clients, is70):
    other = clients()
    block(other, conn, "WAIT", "1", "50")
    other.send(encode("SET", "k", "v"))
    conn.ok("CLIENT", "PAUSE", "300", "WRITE")
    before = time.monotonic()
    assert other.read().py == 0
    assert time.monotonic() - before < 0.25
    assert conn("EXISTS", "k") == 0
    assert other.read().py == "OK"
    assert time.monotonic() - before > 0.2


# ---- lists ----


def test_the_pusher_is_told_first(conn, clients):
    other = clients()
    block(other, conn, "BLPOP", "q", "0")
    info = conn.info("clients")
    assert (info["clients_in_timeout_table"], info.get("total_blocking_keys", "1")) == ("0", "1")
    conn.send(encode("RPUSH", "q", "a", "b") + encode("LLEN", "q") + encode("EXISTS", "q"))
    assert [conn.read().py for _ in range(3)] == [2, 1, 1]
    assert other.read().py == [b"q", b"a"]
    assert conn.info("clients").get("total_blocking_keys", "0") == "0"


def test_first_come_first_served(conn, clients):
    waiting = []
    for i in range(12):
        other = clients()
        block(other, conn, *(["BLPOP", "x", "q", "0"] if i % 3 else ["BRPOP", "q", "q", "y", "0"]))
        waiting.append(other)
    for i in range(12):
        conn.ok("RPUSH", "q", "v%d" % i)
        assert waiting[i].read().py == [b"q", b"v%d" % i]
    assert blocked(conn) == 0 and conn("EXISTS", "q") == 0


def test_transaction_serves_at_its_end(conn, clients):
    first, second = clients(), clients()
    block(first, conn, "BLPOP", "q", "0")
    block(second, conn, "BLPOP", "r", "0")
    conn.ok("MULTI")
    for command in (["RPUSH", "r", "1"], ["RPUSH", "q", "2"], ["DEL", "q"], ["LLEN", "r"]):
        conn.ok(*command)
    assert conn.ok("EXEC") == [1, 1, 1, 1]
    assert second.read().py == [b"r", b"1"]
    assert first.silent(0.1)
    conn.ok("RPUSH", "q", "3")
    assert first.read().py == [b"q", b"3"]


def test_keys_that_arrive_whole(conn, clients):
    for bring in ("RENAME other q", "COPY other q", "SWAPDB 0 1"):
        conn.ok("FLUSHALL")
        conn.ok("SELECT", "1" if "SWAP" in bring else "0")
        conn.ok("RPUSH", "q" if "SWAP" in bring else "other", "v")
        conn.ok("SELECT", "0")
        other = clients()
        block(other, conn, "BLPOP", "q", "0")
        conn.ok(bring)
        assert other.read().py == [b"q", b"v"], bring


def test_other_types_do_not_wake(conn, clients):
    other = clients()
    block(other, conn, "BLPOP", "q", "0")
    conn.ok("SET", "q", "v")
    conn.ok("DEL", "q")
    assert other.silent(0.05)
    conn.ok("RPUSH", "q", "v")
    assert other.read().py == [b"q", b"v"]


def test_chain_of_moves(conn, clients):
    chain = []
    for i in range(8):
        other = clients()
        block(other, conn, "BLMOVE", "l%d" % i, "l%d" % (i + 1), "LEFT", "RIGHT", "0")
        chain.append(other)
    conn.ok("RPUSH", "l0", "v")
    assert [other.read().py for other in chain] == [b"v"] * 8
    assert conn("LRANGE", "l8", "0", "-1") == [b"v"]


def test_watch_sees_what_serving_does(conn, clients):
    other, watcher = clients(), clients()
    block(other, conn, "BLMOVE", "from", "to", "LEFT", "LEFT", "0")
    watcher.ok("WATCH", "to")
    conn.ok("RPUSH", "from", "v")
    watcher.ok("MULTI")
    watcher.ok("PING")
    assert watcher("EXEC") is None
    assert other.read().py == b"v"


def test_killed_and_unblocked_get_nothing(conn, clients):
    killed, unblocked, last = clients(), clients(), clients()
    idents = [str(killed.ok("CLIENT", "ID")), str(unblocked.ok("CLIENT", "ID"))]
    for other in (killed, unblocked, last):
        block(other, conn, "BLPOP", "q", "0")
    conn.send(encode("CLIENT", "KILL", "ID", idents[0]) + encode("CLIENT", "UNBLOCK", idents[1]) + encode("RPUSH", "q", "v"))
    assert [conn.read().py for _ in range(3)] == [1, 1, 1]
    assert unblocked.read().py is None
    assert last.read().py == [b"q", b"v"]
    assert killed.closed()


# ---- every way in which a key becomes ready, and does not ----

# Before; the command that blocks; what another client does; the reply the first one gets, and what the last command of the
# other says when it looks at what is left. As redis-server 7.2 has it.
SCENARIOS = [
    ("XADD s 1-1 a b;XGROUP CREATE s g $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
     "DEL s",
     "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option", None),
    ("XADD s 1-1 a b;XGROUP CREATE s g $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
     "SET s x",
     "-WRONGTYPE Operation against a key holding the wrong kind of value", None),
    ("XADD s 1-1 a b;XGROUP CREATE s g $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
     "FLUSHALL",
     "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option", None),
    ("XADD s 1-1 a b;XGROUP CREATE s g $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
     "XGROUP DESTROY s g",
     "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option", None),
    ("XADD s 1-1 a b;XGROUP CREATE s g $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
     "XGROUP SETID s g 0",
     "(blocked)", None),
    ("XADD s 1-1 a b;XGROUP CREATE s g $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
     "RENAME s t",
     "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option", None),
    ("XADD s 1-1 a b;XGROUP CREATE s g $;XADD t 5-1 q w", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
     "RENAME t s",
     "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option", None),
    ("XADD s 1-1 a b;XGROUP CREATE s g $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
     "PEXPIRE s 20;SLEEP;EXISTS s",
     "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option", None),
    ("XADD s 1-1 a b;XGROUP CREATE s g $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
     "SWAPDB 0 1;SWAPDB 0 1",
     "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option", None),
    ("XADD s 1-1 a b;XGROUP CREATE s g $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
     "MULTI;DEL s;XADD s 1-1 a b;EXEC",
     "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option", None),
    ("XADD s 1-1 a b;XGROUP CREATE s g $", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
     "XADD s 1-2 c d",
     '[["s", [["1-2", ["c", "d"]]]]]', None),
    ("XADD s 1-1 a b;XGROUP CREATE s g $", "XREADGROUP GROUP g c BLOCK 0 NOACK STREAMS s >",
     "XADD s 1-2 c d;XPENDING s g",
     '[["s", [["1-2", ["c", "d"]]]]]', None),
    ("XADD s 1-1 a b", "XREAD BLOCK 0 STREAMS s $",
     "DEL s;XADD s 1-2 c d",
     '[["s", [["1-2", ["c", "d"]]]]]', None),
    ("XADD s 1-1 a b", "XREAD BLOCK 0 STREAMS s t $ 0",
     "XADD t 1-2 c d",
     '[["t", [["1-2", ["c", "d"]]]]]', None),
    ("XADD s 1-1 a b", "XREAD BLOCK 0 STREAMS s $",
     "SET s x;DEL s;XADD s 0-2 c d;XADD s 9-9 e f",
     '[["s", [["9-9", ["e", "f"]]]]]', None),
    ("XADD s 1-1 a b", "XREAD COUNT 1 BLOCK 0 STREAMS s $",
     "MULTI;XADD s 9-9 e f;XADD s 9-10 e f;EXEC",
     '[["s", [["9-9", ["e", "f"]]]]]', None),
    ("XADD s 1-1 a b", "XREAD BLOCK 0 STREAMS s 5-5",
     "XADD s 2-2 e f;XADD s 6-6 g h",
     '[["s", [["6-6", ["g", "h"]]]]]', None),
    ("", "XREAD BLOCK 0 STREAMS s $",
     "XADD s MAXLEN 0 1-1 a b;XADD s 1-2 e f",
     '[["s", [["1-2", ["e", "f"]]]]]', None),
    ("", "BLPOP a b 0",
     "RPUSH b 1;RPUSH a 2",
     '["b", "1"]', None),
    ("", "BLPOP a b 0",
     "MULTI;RPUSH b 1;RPUSH a 2;EXEC;LRANGE a 0 -1;LRANGE b 0 -1",
     '["a", "2"]', '["1"]'),
    ("", "BLMPOP 0 2 a b LEFT COUNT 10",
     "MULTI;RPUSH b 1 2;RPUSH a 2;EXEC;LRANGE a 0 -1;LRANGE b 0 -1",
     '["a", ["2"]]', '["1", "2"]'),
    ("", "BLMPOP 0 1 a RIGHT COUNT 2",
     "RPUSH a 1 2 3;LRANGE a 0 -1",
     '["a", ["3", "2"]]', '["1"]'),
    ("", "BZPOPMIN z y 0",
     "ZADD y 1 a 2 b;ZRANGE y 0 -1",
     '["y", "a", "1"]', '["b"]'),
    ("", "BZPOPMAX z y 0",
     "ZADD y 1 a 2 b;ZRANGE y 0 -1",
     '["y", "b", "2"]', '["a"]'),
    ("", "BZMPOP 0 2 z y MAX COUNT 2",
     "ZADD y 1 a 2 b 3 c;ZRANGE y 0 -1",
     '["y", [["c", "3"], ["b", "2"]]]', '["a"]'),
    ("", "BZPOPMIN z 0",
     "RPUSH z a;DEL z;ZADD z 3 m",
     '["z", "m", "3"]', None),
    ("", "BLPOP z 0",
     "ZADD z 3 m;DEL z;RPUSH z v",
     '["z", "v"]', None),
    ("SET d x", "BLMOVE a d LEFT LEFT 0",
     "RPUSH a 1;LRANGE a 0 -1",
     "-WRONGTYPE Operation against a key holding the wrong kind of value", '["1"]'),
    ("", "BRPOPLPUSH a a 0",
     "RPUSH a 1 2 3;LRANGE a 0 -1",
     '"3"', '["3", "1", "2"]'),
    ("", "BLMOVE a a LEFT RIGHT 0",
     "RPUSH a 1 2 3;LRANGE a 0 -1",
     '"1"', '["2", "3", "1"]'),
    ("RPUSH x 1", "BLPOP a 0",
     "SORT x STORE a;LRANGE a 0 -1",
     '["a", "1"]', "[]"),
    ("ZADD x 1 q", "BZPOPMIN a 0",
     "ZUNIONSTORE a 1 x;ZRANGE a 0 -1",
     '["a", "q", "1"]', "[]"),
    ("ZADD x 1 q", "BZPOPMIN a 0",
     "ZRANGESTORE a x 0 -1;ZRANGE a 0 -1",
     '["a", "q", "1"]', "[]"),
    ("GEOADD x 1 1 q", "BZPOPMIN a 0",
     "GEOSEARCHSTORE a x FROMLONLAT 1 1 BYRADIUS 10 km;ZRANGE a 0 -1",
     '["a", "q", "3377822707026402"]', "[]"),
    ("", "BZPOPMIN a 0",
     "ZADD a INCR 1 q;ZRANGE a 0 -1",
     '["a", "q", "1"]', "[]"),
    ("", "BZPOPMIN a 0",
     "ZINCRBY a 1 q;ZRANGE a 0 -1",
     '["a", "q", "1"]', "[]"),
    ("", "BLPOP a 0",
     "LPUSHX a 1;RPUSHX a 1;LINSERT a BEFORE x y;EXISTS a",
     "(blocked)", None),
    ("RPUSH x 1 2", "BLPOP a 0",
     "COPY x a;LRANGE a 0 -1",
     '["a", "1"]', '["2"]'),
    ("RPUSH x 1 2;SET a s", "BLPOP b 0",
     "COPY x b REPLACE;LRANGE b 0 -1",
     '["b", "1"]', '["2"]'),
    ("RPUSH x 1 2", "BLPOP a 0",
     "SELECT 1;RPUSH a 9;MOVE a 0;SELECT 0;LRANGE a 0 -1",
     '["a", "9"]', "[]"),
    ("RPUSH x 1 2", "BLPOP a 0",
     "LMOVE x a LEFT LEFT;LRANGE a 0 -1;LRANGE x 0 -1",
     '["a", "1"]', '["2"]'),
    ("RPUSH x 1 2", "BLPOP a 0",
     "RPOPLPUSH x a;LRANGE a 0 -1",
     '["a", "2"]', "[]"),
    ("", "BLPOP a 0",
     "EVAL \"redis.call('rpush','a','1','2');return redis.call('llen','a')\" 0;LRANGE a 0 -1",
     '["a", "1"]', '["2"]'),
    ("", "BLPOP a 0",
     "EVAL \"return redis.call('blpop','b',0)\" 0",
     "(blocked)", None),
    ("", "BLPOP a 0",
     "MULTI;BLPOP b 0;BLMOVE b c LEFT LEFT 0;BZPOPMIN z 0;BZMPOP 0 1 z MIN;BLMPOP 0 1 z LEFT;XREAD BLOCK 0 STREAMS q $;EXEC",
     "(blocked)", None),
]


@pytest.mark.parametrize("before, command, actions, reply, left", SCENARIOS, ids=[str(i) for i in range(len(SCENARIOS))])
def test_scenario(conn, clients, is70, before, command, actions, reply, left):
    if is70:
        pytest.skip("7.2 has other replies and another order")
    lines = actions.split(";") if "EVAL" not in actions else [actions.rpartition(";")[0] or actions, actions.rpartition(";")[2]]
    other, said = clients(), None
    for line in filter(None, before.split(";")):
        conn.ok(line)
    block(other, conn, *split_args(command))
    for line in lines:
        if line == "SLEEP":
            time.sleep(0.25)
        else:
            said = conn.node(*split_args(line)).render()
    if reply == "(blocked)":
        assert other.silent(0.05)
    else:
        assert other.read().render() == reply
    if left is not None:
        assert said == left


# ---- many at once ----

SECONDS = float(os.environ.get("KETTLE_STRESS_SECONDS", "2"))
QUEUES = ["queue:%d" % i for i in range(6)]


class Consumer:
    """Takes from two queues, or moves from one to another, until told to stop. Counts what it got."""

    def __init__(self, server, number, stop):
        self.server, self.stop, self.rng = server, stop, random.Random(number)
        self.got, self.timeouts, self.unblocked, self.kills = [], 0, 0, 0
        self.ident = None
        self.error = None
        self.thread = threading.Thread(target=self.run)

    def connect(self):
        conn = self.server.connect(timeout=60)
        self.ident = conn.ok("CLIENT", "ID")
        return conn

    def once(self, conn):
        first, second = self.rng.sample(QUEUES, 2)
        timeout = self.rng.choice(["0.005", "0.02", "0.2"])
        if self.rng.random() < 0.25:
            reply = conn("BLMOVE", first, second, "LEFT", "RIGHT", timeout)
        else:
            reply = conn(self.rng.choice(["BLPOP", "BRPOP"]), first, second, timeout)
        if isinstance(reply, list):
            self.got.append(int(reply[1]))
        elif isinstance(reply, ReplyError):
            assert str(reply) == UNBLOCKED, reply
            self.unblocked += 1
        elif reply is None:
            self.timeouts += 1

    def run(self):
        try:
            conn = self.connect()
            while not self.stop.is_set():
                try:
                    self.once(conn)
                except (EOFError, OSError):
                    self.kills += 1
                    conn.close()
                    conn = self.connect()
            conn.close()
        except Exception as exc:
            self.error = exc


def produce(server, number, stop, count, errors):
    """Pushes numbers nobody else pushes; sometimes several in a transaction, sometimes through a rename."""
    rng = random.Random(1000 + number)
    try:
        with server.connect(timeout=60) as conn:
            while not stop.is_set():
                batch = [number * 10 ** 7 + count[number] + i for i in range(rng.choice([1, 1, 2, 5]))]
                count[number] += len(batch)
                queue = rng.choice(QUEUES)
                if rng.random() < 0.2:
                    conn.pipeline([["MULTI"]] + [["RPUSH", rng.choice(QUEUES), str(v)] for v in batch] + [["EXEC"]])
                else:
                    conn.ok(rng.choice(["LPUSH", "RPUSH"]), queue, *[str(v) for v in batch])
                if rng.random() < 0.5:
                    time.sleep(0.002)
    except Exception as exc:
        errors.append(exc)


def annoy(server, consumers, stop, with_kills, errors):
    """Unblocks and kills consumers at random."""
    rng = random.Random(7)
    try:
        with server.connect(timeout=60) as conn:
            while not stop.is_set():
                ident = str(rng.choice(consumers).ident)
                if with_kills and rng.random() < 0.3:
                    conn("CLIENT", "KILL", "ID", ident)
                else:
                    conn("CLIENT", "UNBLOCK", ident, rng.choice(["ERROR", "TIMEOUT"]))
                time.sleep(0.003)
    except Exception as exc:
        errors.append(exc)


@pytest.mark.slow
def test_who_is_killed_has_no_place_any_more(make_server):
    """From the reply of CLIENT KILL on, whichever threads the two are on; and what it sends behind is not run."""
    server = make_server(directives={"io-threads": "4"})
    with server.connect() as admin, server.connect() as stays:
        for i in range(100):
            victim = server.connect()
            ident = victim.ok("CLIENT", "ID")
            block(victim, admin, "BLPOP", "q", "0" if i % 2 else "100")
            victim.send(encode("SET", "behind", "1"))
            block(stays, admin, "BLPOP", "q", "50")
            assert admin.ok("CLIENT", "KILL", "ID", ident) == 1
            info = admin.info("clients")
            assert (info["blocked_clients"], info["clients_in_timeout_table"]) == ("1", "1")
            assert admin.ok("CLIENT", "UNBLOCK", ident) == 0
            assert admin.ok("RPUSH", "q", "a", "b") == 2
            assert stays.read().py == [b"q", b"a"]
            assert admin.ok("LPOP", "q") == b"b" and admin.ok("EXISTS", "behind") == 0
            assert victim.read_until_eof() == b""
            assert blocked(admin) == 0


@pytest.mark.parametrize("with_kills", [False, True], ids=["unblock", "kill"])
def test_nothing_is_lost_and_nothing_comes_twice(make_server, env, with_kills):
    directives = {"io-threads": "4"}
    server = make_server(directives=directives)
    stop, stop_consumers, errors, count = threading.Event(), threading.Event(), [], [0] * 3
    consumers = [Consumer(server, i, stop_consumers) for i in range(24)]
    for consumer in consumers:
        consumer.thread.start()
    wait_for(lambda: all(consumer.ident for consumer in consumers), what="consumers")
    others = [threading.Thread(target=produce, args=(server, i, stop, count, errors)) for i in range(3)]
    others.append(threading.Thread(target=annoy, args=(server, consumers, stop, with_kills, errors)))
    for thread in others:
        thread.start()
    time.sleep(SECONDS)
    stop.set()
    for thread in others:
        thread.join()
    stop_consumers.set()
    for consumer in consumers:
        consumer.thread.join()
    assert not errors and not [c.error for c in consumers if c.error], (errors, [c.error for c in consumers])
    with server.connect(timeout=60) as conn:
        left = [int(v) for queue in QUEUES for v in conn.ok("LRANGE", queue, "0", "-1")]
        info = conn.info("clients")
    got = [v for consumer in consumers for v in consumer.got]
    pushed = sum(count)
    kills = sum(consumer.kills for consumer in consumers)
    assert len(got) + len(left) == len(set(got) | set(left)), "an element came twice"
    lost = pushed - len(got) - len(left)
    assert 0 <= lost <= kills, "%d of %d elements lost, %d kills" % (lost, pushed, kills)
    assert pushed > 50 and sum(c.timeouts for c in consumers) > 0 and (kills > 0) == with_kills
    assert info["blocked_clients"] == "0" and info["clients_in_timeout_table"] == "0"
    assert info.get("total_blocking_keys", "0") == "0"
