# SPDX-License-Identifier: BSD-3-Clause
"""ACL: users, rules, what they let through, ACL files, the log, connections of users that change."""
import hashlib
import os
import shutil
import stat
import threading
import time

import pytest

import acl_differential
import harness
from resp import ReplyError, run

DENIED_KEY = "NOPERM No permissions to access a key"
DENIED_CHANNEL = "NOPERM No permissions to access a channel"
WRONGPASS = "WRONGPASS invalid username-password pair or user is disabled."


def digest(password):
    return hashlib.sha256(password.encode()).hexdigest()


def denied(user, command):
    return "NOPERM User %s has no permissions to run the '%s' command" % (user, command)


@pytest.fixture
def acl(server, conn):
    """An administrator's connection; what a test makes of users is gone afterwards."""
    conn.ok("ACL LOG RESET")
    yield conn
    with server.connect() as admin:
        for name in admin.ok("ACL USERS"):
            if name != b"default":
                admin.ok("ACL", "DELUSER", name)
        admin.ok("ACL SETUSER default reset on nopass ~* &* +@all")


@pytest.fixture
def as_user(server):
    """Logs in on a new connection."""
    made = []

    def login(name, password="x"):
        connection = server.connect()
        made.append(connection)
        connection.ok("AUTH", name, password)
        return connection
    yield login
    for connection in made:
        connection.close()


def getuser(conn, name):
    reply = conn.ok("ACL", "GETUSER", name)
    if isinstance(reply, list):
        reply = dict(zip(reply[::2], reply[1::2]))
    return {key.decode() if isinstance(key, bytes) else key: value for key, value in reply.items()}


def listed(conn, name):
    return [line.decode() for line in conn.ok("ACL LIST") if line.startswith(b"user %s " % name.encode())][0]


def logged(conn, *args):
    entries = conn.ok("ACL", "LOG", *args)
    out = []
    for entry in entries:
        entry = dict(zip(entry[::2], entry[1::2])) if isinstance(entry, list) else entry
        out.append({key.decode(): value.decode() if isinstance(value, bytes) else value for key, value in entry.items()})
    return out


def is_closed(conn):
    return conn.closed(5)


# ---- users as text ----

def test_new_user(acl):
    acl.ok("ACL SETUSER alice")
    assert listed(acl, "alice") == "user alice off sanitize-payload resetchannels -@all"
    assert acl.ok("ACL USERS") == [b"alice", b"default"]
    assert acl.ok("ACL GETUSER nobody") is None
    assert listed(acl, "default") == "user default on nopass sanitize-payload ~* &* +@all"


def test_getuser_fields(server, acl, proto):
    acl.ok("ACL SETUSER alice on >one >two %R~r* ~a &ch +@all -@admin +config|get (+get ~x) (%W~y &z)")
    with server.connect(proto=proto) as c:
        user = getuser(c, "alice")
    assert sorted(user["flags"]) == [b"on", b"sanitize-payload"]
    assert user["passwords"] == [digest("one").encode(), digest("two").encode()]
    assert user["commands"] == b"+@all -@admin +config|get"
    assert (user["keys"], user["channels"]) == (b"%R~r* ~a", b"&ch")
    first, second = user["selectors"]
    if proto == 2:
        first, second = (dict(zip(s[::2], s[1::2])) for s in (first, second))
    assert first == {b"commands": b"-@all +get", b"keys": b"~x", b"channels": b""}
    assert second == {b"commands": b"-@all", b"keys": b"%W~y", b"channels": b"&z"}


def test_list_reads_back_as_the_same(acl):
    for number, rules in enumerate([
            "on nopass ~* &* +@all", "+get -set +@read -@dangerous +config|get -acl|log", "%R~a %W~b %RW~c ~d &x &y*",
            "allkeys (~a +get) (allkeys +@all -@write) ()", "+select|0 +select|1", "off #" + "ab" * 32, "skip-sanitize-payload"]):
        acl.ok("ACL SETUSER alice reset " + rules)
        line = listed(acl, "alice")
        acl.ok("ACL SETUSER bob reset " + line.split(" ", 2)[2])
        assert listed(acl, "bob").split(" ", 2)[2] == line.split(" ", 2)[2], number


def test_setuser_is_all_or_nothing(acl):
    acl.ok("ACL SETUSER alice on >pw ~a +get")
    before = listed(acl, "alice")
    assert acl.err("ACL SETUSER alice off resetpass ~b +set +nosuch") == (
        "ERR Error in ACL SETUSER modifier '+nosuch': Unknown command or category name in ACL")
    assert listed(acl, "alice") == before
    assert acl.err("ACL SETUSER bob on foo") == "ERR Error in ACL SETUSER modifier 'foo': Syntax error"
    assert acl.ok("ACL USERS") == [b"alice", b"default"]


@pytest.mark.parametrize("rules,text", [
    ("~* ~a", "'~a': Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. "
              "Try 'resetkeys' to start with an empty list of patterns"),
    ("&* &a", "'&a': Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any "
              "effect. Try 'resetchannels' to start with an empty list of channels"),
    ("<pw", "'<pw': The password you are trying to remove from the user does not exist"),
    ("#abc", "'#abc': The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"),
    ("+config|get|x", "'+config|get|x': Allowing first-arg of a subcommand is not supported"),
    ("-select|0", "'-select|0': Unknown command or category name in ACL"),
    ("+@nosuch", "'+@nosuch': Unknown command or category name in ACL"),
    ("+select|", "'+select|': Syntax error"),
    ("%Z~a", "'%Z~a': Syntax error"),
])
def test_setuser_errors(acl, rules, text):
    assert acl.err("ACL SETUSER alice " + rules) == "ERR Error in ACL SETUSER modifier " + text


def test_setuser_other_errors(acl):
    assert acl.err("ACL", "SETUSER", "a b", "on") == "ERR Usernames can't contain spaces or null characters"
    assert acl.err("ACL", "SETUSER", "a\x00b") == "ERR Usernames can't contain spaces or null characters"
    assert acl.err("ACL SETUSER a on (+get ~x") == "ERR Unmatched parenthesis in acl selector starting at '(+get'."
    assert acl.err("ACL DELUSER alice default") == "ERR The 'default' user cannot be removed"
    assert acl.ok("ACL DELUSER alice bob") == 0
    assert acl.err("ACL", "SETUSER", "a", "~k\xffx y") == "ERR Error in ACL SETUSER modifier '~k\xffx y': Syntax error"


def test_many_rules_in_one_go(acl):
    """Neither many rules nor many users make anything slow."""
    started = time.monotonic()
    acl.ok("ACL", "SETUSER", "alice", *["~key:%d" % i for i in range(100000)])
    acl.ok("ACL", "SETUSER", "alice", *["+select|%d" % i for i in range(50000)], *["+get", "+get|x"] * 20000)
    for start in range(0, 5000, 500):
        replies = acl.pipeline([("ACL", "SETUSER", "user%d" % i, "on", "~k%d" % i, "+@all") for i in range(start, start + 500)])
        assert set(replies) == {"OK"}
    assert len(acl.ok("ACL USERS")) == 5002
    assert time.monotonic() - started < 20 * acl.server.env.factor
    acl.ok("ACL", "DELUSER", *["user%d" % i for i in range(5000)])


# ---- logging in ----

def test_auth(server, acl):
    acl.ok("ACL SETUSER alice on >one >two +@all ~*")
    with server.connect() as c:
        assert c.err("AUTH alice three") == WRONGPASS
        assert c.err("AUTH nobody x") == WRONGPASS
        assert c.err("AUTH x") == ("ERR AUTH <password> called without any password configured for the default user. Are you "
                                   "sure your configuration is correct?")
        for password in ("one", "two"):
            c.ok("AUTH", "alice", password)
            assert c.ok("ACL WHOAMI") == b"alice"
        acl.ok("ACL SETUSER alice <one")
        assert c.err("AUTH alice one") == WRONGPASS
        acl.ok("ACL", "SETUSER", "alice", "!" + digest("two"), "#" + digest("four"))
        assert c.err("AUTH alice two") == WRONGPASS
        c.ok("AUTH alice four")
        acl.ok("ACL SETUSER alice nopass")
        c.ok("AUTH alice anything")
        acl.ok("ACL SETUSER alice off")
        assert c.err("AUTH alice anything") == WRONGPASS
        assert c.ok("ACL WHOAMI") == b"alice"  # off is for those who come
        assert c.err("HELLO 3 AUTH alice x") == WRONGPASS
        acl.ok("ACL SETUSER alice on")
        assert c.ok("HELLO 2 AUTH alice x SETNAME me")[1] == b"redis"
        assert b"user=alice" in c.ok("CLIENT INFO")
        assert c.ok("RESET") == "RESET"
        assert c.ok("ACL WHOAMI") == b"default"


@pytest.fixture
def own(make_server):
    server = make_server()
    with server.connect() as connection:
        yield server, connection


def test_default_user(own):
    server, acl = own
    acl.ok("ACL SETUSER default >secret")
    assert acl.ok("PING") == "PONG"  # who was there stays
    with server.connect() as c:
        assert c.err("GET k") == "NOAUTH Authentication required."
        assert c.err("ACL WHOAMI") == "NOAUTH Authentication required."
        assert c.err("AUTH wrong") == WRONGPASS
        c.ok("AUTH secret")
        c.ok("AUTH default secret")
    acl.ok("ACL SETUSER default off nopass")
    with server.connect() as c:
        assert c.err("GET k") == "NOAUTH Authentication required."
        assert c.err("AUTH default x") == WRONGPASS
    acl.ok("ACL SETUSER default on -@all +get")
    with server.connect() as c:
        c.ok("GET k")
        assert c.err("SET k v") == denied("default", "set")
    assert acl.err("CONFIG GET port") == denied("default", "config|get")
    with server.connect() as c:
        assert c.err("ACL SETUSER default +@all") == denied("default", "acl|setuser")
    server.check_ktls = False


def test_requirepass_is_the_default_users_password(own):
    server, c = own
    c.ok("CONFIG SET requirepass one")
    assert listed(c, "default") == "user default on sanitize-payload #%s ~* &* +@all" % digest("one")
    c.ok("ACL SETUSER default >two -@dangerous +config +acl")
    with server.connect() as other:
        for password in ("one", "two"):
            other.ok("AUTH", password)
    c.ok("CONFIG SET requirepass three")
    assert listed(c, "default") == "user default on sanitize-payload #%s ~* &* +@all -@dangerous +config +acl" % digest("three")
    c.ok("CONFIG", "SET", "requirepass", "")
    assert listed(c, "default").startswith("user default on nopass ")
    server.password = None


# ---- what is let through ----

def test_commands_keys_and_subcommands(acl, as_user):
    acl.ok("ACL SETUSER alice on >x ~a* %R~r* %W~w* +@all -@dangerous +client|id -client|setname")
    c = as_user("alice")
    run(c, f"""
        SET a1 v
        GET b => -{DENIED_KEY}
        GET r1 => nil
        SET r1 v => -{DENIED_KEY}
        SET w1 v
        GET w1 => -{DENIED_KEY}
        MGET a1 r1 b => -{DENIED_KEY}
        SET w1 v GET => -{DENIED_KEY}
        APPEND w1 x => :2
        INCR w2 => -{DENIED_KEY}
        RENAME a1 w3
        RENAME w3 a1 => -{DENIED_KEY}
        COPY r1 w1 => :0
        COPY w1 r1 => -{DENIED_KEY}
        KEYS * => -{denied('alice', 'keys')}
        CONFIG GET port => -{denied('alice', 'config|get')}
        CLIENT SETNAME x => -{denied('alice', 'client|setname')}
        CLIENT GETNAME => nil
        NOSUCH => /-ERR unknown command/
        GET => -ERR wrong number of arguments for 'get' command
        ACL WHOAMI => "alice"
    """)
    acl.ok("ACL SETUSER bob on >x -@all")
    run(as_user("bob"), f"""
        AUTH bob x
        HELLO 2 => *
        PING => -{denied('bob', 'ping')}
        ACL WHOAMI => -{denied('bob', 'acl|whoami')}
        RESET => +RESET
    """)


def test_selectors_stand_side_by_side(acl, as_user):
    acl.ok("ACL SETUSER alice on >x ~a +get (+set ~b) (+@read %R~c)")
    run(as_user("alice"), f"""
        GET a => nil
        SET b v
        GET b => -{DENIED_KEY}
        SET a v => -{DENIED_KEY}
        STRLEN c => :0
        DEL a => -{denied('alice', 'del')}
        MGET a c => -{DENIED_KEY}
    """)


def test_first_argument_rules(acl, as_user):
    acl.ok("ACL SETUSER alice on >x +select|1 +echo|Hi")
    run(as_user("alice"), f"""
        SELECT 1
        SELECT 0 => -{denied('alice', 'select')}
        ECHO hI => "hI"
        ECHO ho => -{denied('alice', 'echo')}
    """)


def test_channels(server, acl, as_user):
    acl.ok("ACL SETUSER alice on >x +@all &news:* &p?")
    c = as_user("alice")
    run(c, f"""
        PUBLISH news:1 x => :0
        PUBLISH other x => -{DENIED_CHANNEL}
        SPUBLISH other x => -{DENIED_CHANNEL}
        SPUBLISH news:1 x => :0
        SUBSCRIBE news:1 other => -{DENIED_CHANNEL}
        PSUBSCRIBE news:1 => -{DENIED_CHANNEL}
        SSUBSCRIBE other => -{DENIED_CHANNEL}
        PSUBSCRIBE news:* => *
        UNSUBSCRIBE other => *
        SUBSCRIBE p1 => *
    """)
    acl.ok("ACL SETUSER alice &more")  # nothing is lost
    run(c, "PING => *")
    acl.ok("ACL SETUSER alice resetchannels &news:*")
    assert is_closed(c)
    c = as_user("alice")
    c.ok("PSUBSCRIBE news:*")
    acl.ok("ACL SETUSER alice resetchannels &news:1")
    assert is_closed(c)


def test_pubsub_default(own):
    _, c = own
    assert c.ok("CONFIG GET acl-pubsub-default") == [b"acl-pubsub-default", b"resetchannels"]
    c.ok("CONFIG SET acl-pubsub-default allchannels")
    c.ok("ACL SETUSER alice (+get)")
    assert listed(c, "alice") == "user alice off sanitize-payload &* -@all (&* -@all +get)"
    c.ok("CONFIG SET acl-pubsub-default resetchannels")
    c.ok("ACL SETUSER alice reset")
    assert listed(c, "alice") == "user alice off sanitize-payload resetchannels -@all"


def test_transaction(acl, as_user):
    moved = ("-NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command is no "
             "longer allowed for the following reason: ")
    acl.ok("ACL SETUSER alice on >x ~a ~b +@all -keys")
    c = as_user("alice")
    run(c, f"""
        MULTI
        KEYS * => -{denied('alice', 'keys')}
        SET a 1 => +QUEUED
        EXEC => -EXECABORT Transaction discarded because of previous errors.
        MULTI
        SET a 1 => +QUEUED
        SET b 1 => +QUEUED
        PING => +QUEUED
    """)
    acl.ok("ACL SETUSER alice resetkeys ~a -ping")
    run(c, f"""
        EXEC => [+OK, {moved}no permission to touch the specified keys, {moved}no permission to execute the command or subcommand]
        WATCH b => -{DENIED_KEY}
        MULTI
    """)
    acl.ok("ACL SETUSER alice -exec")
    run(c, f"EXEC => -EXECABORT Transaction discarded because of: {denied('alice', 'exec')}")


def test_own_rules_change_within_a_transaction(acl, as_user):
    acl.ok("ACL SETUSER alice on >x ~* +@all")
    c = as_user("alice")
    for command in ("MULTI", "SET k 1", "ACL SETUSER alice -get", "GET k"):
        c.ok(command)
    assert c.ok("EXEC")[2].startswith("NOPERM ACLs rules changed")
    acl.ok("ACL SETUSER alice +get")
    for command in ("MULTI", "SET k 1", "ACL DELUSER alice", "GET k"):
        c.ok(command)
    replies = c.ok("EXEC")
    assert replies[:2] == ["OK", 1] and replies[2].startswith("NOPERM")
    assert is_closed(c)


def test_blocked_command_is_asked_about_again(acl, as_user):
    acl.ok("ACL SETUSER alice on >x ~* +@all")
    c = as_user("alice")
    c.send(b"BLPOP l 0\r\n")
    harness.wait_for(lambda: acl.info("clients")["blocked_clients"] == "1", what="the client to block")
    acl.ok("ACL SETUSER alice resetkeys ~other")
    acl.ok("RPUSH l v")
    assert c.read().py == DENIED_KEY
    assert acl.ok("LLEN l") == 1
    assert logged(acl)[0]["reason"] == "key"


# ---- live connections ----

def test_changes_reach_those_who_are_logged_in(acl, as_user):
    acl.ok("ACL SETUSER alice on >x +get ~*")
    several = [as_user("alice") for _ in range(6)]
    for rule, allowed in (("-get", False), ("+get", True), ("resetkeys", False), ("~k", True)):
        acl.ok("ACL", "SETUSER", "alice", rule)
        for c in several:
            assert isinstance(c("GET k"), ReplyError) != allowed


def test_deluser_closes_its_connections(server, acl, as_user):
    acl.ok("ACL SETUSER alice on >x +@all ~*")
    acl.ok("ACL SETUSER bob on >x +@all ~*")
    several = [as_user("alice") for _ in range(6)]
    bob = as_user("bob")
    assert acl.ok("ACL DELUSER alice nobody") == 1
    assert all(is_closed(c) for c in several)
    assert bob.ok("PING") == "PONG"
    assert bob.ok("ACL DELUSER bob") == 1
    assert is_closed(bob)
    assert acl.ok("PING") == "PONG"


def test_deluser_is_done_when_it_says_so(acl, as_user):
    """After the reply nothing of the user's happens any more."""
    acl.ok("ACL SETUSER alice on >x +@all ~*")
    c = as_user("alice")
    stop = threading.Event()

    def write():
        try:
            while not stop.is_set():
                c("INCR n")
        except (OSError, EOFError, AssertionError):
            pass
    thread = threading.Thread(target=write)
    thread.start()
    harness.wait_for(lambda: int(acl.ok("GET n") or 0) > 50)
    acl.ok("ACL DELUSER alice")
    before = acl.ok("GET n")
    time.sleep(0.1)
    assert acl.ok("GET n") == before
    stop.set()
    thread.join()


def test_users_change_while_clients_work(server, acl):
    """Log-ins, refusals, subscriptions, changes and deletions on all threads at once: every reply is one that may be."""
    deadline = time.monotonic() + 1.5 * server.env.factor
    problems = []

    def client(number):
        name = "user%d" % (number % 3)
        while time.monotonic() < deadline and not problems:
            try:
                with server.connect() as c:
                    for command in (("AUTH", name, "x"), ("SUBSCRIBE" if number % 2 else "GET", "ch1"), ("PING",)):
                        reply = c(*command)
                        if isinstance(reply, ReplyError) and not reply.startswith(("WRONGPASS", "NOPERM")):
                            problems.append((command, reply))
                    for _ in range(20):
                        c.pipeline([("SET", "k%d" % number, "v"), ("MULTI",), ("GET", "k1"), ("ACL", "WHOAMI"), ("EXEC",)])
            except (EOFError, OSError, ValueError, AssertionError):
                pass  # closed: the user was deleted, or may not listen any more

    def administrator():
        with server.connect() as c:
            number = 0
            while time.monotonic() < deadline and not problems:
                name = "user%d" % (number % 3)
                number += 1
                for command in (["ACL", "SETUSER", name, "on", ">x", "+@all", "-acl", "+acl|whoami", "~k*", "&ch*"],
                                ["ACL", "LIST"], ["ACL", "LOG"], ["ACL", "SETUSER", name, "resetchannels", "resetkeys", "~ch1"],
                                ["ACL", "GETUSER", name], ["ACL", "DELUSER", name]):
                    reply = c(*command)
                    if isinstance(reply, ReplyError):
                        problems.append((command, reply))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(6)] + [threading.Thread(target=administrator)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert acl.ok("PING") == "PONG"


def test_client_kill_user(acl, as_user):
    acl.ok("ACL SETUSER alice on >x +@all ~*")
    c = as_user("alice")
    assert acl.err("CLIENT KILL USER nobody") == "ERR No such user 'nobody'"
    assert acl.ok("CLIENT KILL USER alice") == 1
    assert is_closed(c)


# ---- LOG, DRYRUN, the others ----

def test_log(server, acl, as_user):
    acl.ok("CONFIG RESETSTAT")
    acl.ok("ACL SETUSER alice on >x ~a &a +@all -flushall")
    c = as_user("alice")
    for command in ("GET b", "GET b", "GET c", "FLUSHALL", "MULTI", "GET b", "DISCARD", "AUTH alice wrong", "AUTH nobody x"):
        c(command)
    entries = logged(acl)
    assert [(e["count"], e["reason"], e["context"], e["object"], e["username"]) for e in entries] == [
        (1, "auth", "toplevel", "AUTH", "nobody"), (1, "auth", "toplevel", "AUTH", "alice"),
        (1, "key", "multi", "b", "alice"), (1, "command", "toplevel", "flushall", "alice"),
        (1, "key", "toplevel", "c", "alice"), (2, "key", "toplevel", "b", "alice")]
    assert [e["entry-id"] for e in entries] == sorted((e["entry-id"] for e in entries), reverse=True)
    assert all(e["timestamp-created"] <= e["timestamp-last-updated"] <= time.time() * 1000 + 1000 for e in entries)
    assert "user=alice" in entries[5]["client-info"] and "cmd=get" in entries[5]["client-info"]
    c("GET b")  # it moves to the front
    assert (logged(acl)[0]["count"], logged(acl)[0]["object"]) == (3, "b")
    assert len(logged(acl, "2")) == 2 and logged(acl, "0") == [] and logged(acl, "-1") == []
    stats = acl.info("stats")
    assert [stats["acl_access_denied_" + what] for what in ("auth", "cmd", "key", "channel")] == ["2", "1", "5", "0"]
    c("GET", "long" * 1000)
    assert logged(acl)[0]["object"] == "long" * 256
    assert acl.err("ACL LOG x") == "ERR value is not an integer or out of range"
    acl.ok("CONFIG SET acllog-max-len 2")
    c("GET d")
    assert len(logged(acl, "100")) == 2
    acl.ok("ACL LOG RESET")
    assert logged(acl) == []
    acl.ok("CONFIG SET acllog-max-len 0")
    c("GET d")
    assert logged(acl) == []
    acl.ok("CONFIG SET acllog-max-len 128")


def test_log_of_channels(acl, as_user):
    acl.ok("ACL SETUSER alice on >x +@all &a")
    as_user("alice").err("PUBLISH b x")
    entry = logged(acl)[0]
    assert (entry["reason"], entry["object"]) == ("channel", "b")


def test_scripts(acl, as_user):
    acl.ok("ACL SETUSER alice on >x ~a +@all -set")
    c = as_user("alice")
    for call, object in (("'set', 'a', 1", "set"), ("'get', 'b'", "b")):
        error = c.err("EVAL", "return redis.call(%s)" % call, "0")
        text = denied("alice", "set").split(" ", 1)[1] if object == "set" else DENIED_KEY.split(" ", 1)[1]
        assert error.startswith("ERR ACL failure in script: %s script: " % text)
        assert c.err("EVAL", "return redis.pcall(%s)" % call, "0") == "ERR ACL failure in script: " + text
        entry = logged(acl)[0]
        assert (entry["context"], entry["object"], entry["count"], entry["username"]) == ("lua", object, 2, "alice")
    assert c.err("EVAL", "return 1", "1", "b") == DENIED_KEY
    assert c.ok("EVAL", "return redis.call('get', KEYS[1])", "1", "a") is None
    acl.ok("ACL LOG RESET")
    assert c.ok("EVAL", "return {redis.acl_check_cmd('get', 'a'), redis.acl_check_cmd('get', 'b')}", "0") == [1, None]
    assert logged(acl) == []


def test_sort_by_and_get_read_keys_nobody_names(acl, as_user):
    acl.ok("ACL SETUSER alice on >x ~l ~w* +@all")
    acl.ok("RPUSH l 2 1")
    c = as_user("alice")
    assert c.ok("SORT l") == [b"1", b"2"]
    assert c.err("SORT l BY w*") == "ERR BY option of SORT denied due to insufficient ACL permissions."
    assert c.err("SORT_RO l GET w*") == "ERR GET option of SORT denied due to insufficient ACL permissions."
    acl.ok("ACL SETUSER alice %R~*")
    assert c.ok("SORT l BY w* GET #") == [b"1", b"2"]


def test_log_age(server, acl, proto):
    acl("AUTH nobody x")
    with server.connect(proto=proto) as c:
        age = logged(c)[0]["age-seconds"]
    assert 0 <= float(age) < 60 and isinstance(age, float if proto == 3 else str)


def test_dryrun(acl):
    acl.ok("ACL SETUSER alice ~a &ch +@all -config|set (+set %W~b)")
    run(acl, """
        ACL DRYRUN alice GET a
        ACL DRYRUN alice GET b => "User alice has no permissions to access the 'b' key"
        ACL DRYRUN alice SET b 1
        ACL DRYRUN alice CONFIG SET a b => "User alice has no permissions to run the 'config|set' command"
        ACL DRYRUN alice CONFIG GET a
        ACL DRYRUN alice GET => -ERR wrong number of arguments for 'get' command
        ACL DRYRUN alice nosuch x => -ERR Command 'nosuch' not found
        ACL DRYRUN nobody GET a => -ERR User 'nobody' not found
    """)
    assert logged(acl) == []


def test_genpass(acl):
    for bits, digits in ((None, 64), (1, 1), (4, 1), (5, 2), (4096, 1024)):
        password = acl.ok("ACL", "GENPASS", *([str(bits)] if bits else []))
        assert len(password) == digits and set(password) <= set(b"0123456789abcdef")
    assert acl.ok("ACL GENPASS") != acl.ok("ACL GENPASS")
    for bits in ("0", "-1", "4097"):
        assert acl.err("ACL", "GENPASS", bits).startswith("ERR ACL GENPASS argument must be the number of bits")
    assert acl.err("ACL GENPASS x") == "ERR value is not an integer or out of range"


def test_cat(acl):
    categories = acl.ok("ACL CAT")
    assert categories[0] == b"keyspace" and categories[-1] == b"scripting" and len(categories) == 21
    strings = acl.ok("ACL CAT string")
    assert b"get" in strings and b"del" not in strings
    assert b"config|get" in acl.ok("ACL CAT DANGEROUS")
    assert acl.err("ACL CAT nosuch") == "ERR Unknown category 'nosuch'"
    for category in categories:
        acl.ok("ACL", "SETUSER", "alice", "+@" + category.decode())


def test_help_and_unknown(acl):
    assert acl.ok("ACL HELP")[0].startswith("ACL <subcommand>")
    assert acl.err("ACL NOSUCH") == "ERR unknown subcommand 'NOSUCH'. Try ACL HELP."
    assert acl.err("ACL") == "ERR wrong number of arguments for 'acl' command"


@pytest.fixture
def reference(redis_server, transport):
    if transport != "tcp":
        pytest.skip("once is enough")
    return redis_server


def test_same_as_reference(reference, env, acl):
    """Random rules and checks: acl_differential.py runs longer by hand."""
    with reference.connect() as one:
        assert acl_differential.compare(one, acl, 1, 4 * env.factor, limit=8000) > 500


def test_categories_of_all_commands(reference, acl):
    def categories(conn):
        out = {}

        def walk(entries):
            for entry in entries:
                out[entry[0].decode()] = sorted(str(category) for category in entry[6])
                walk(entry[9])
        walk(conn.ok("COMMAND"))
        return out
    with reference.connect() as one:
        theirs, mine = categories(one), categories(acl)
    newer = {"wait"}  # 7.2: a blocking command
    wrong = {name: (theirs[name], mine[name]) for name in theirs if name in mine and theirs[name] != mine[name]}
    assert set(wrong) <= newer, wrong
    assert len(set(theirs) & set(mine)) > 150


# ---- files ----

def test_without_acl_file(own):
    _, c = own
    text = ("ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER "
            "command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users "
            "in the Redis configuration.")
    assert c.err("ACL LOAD") == text and c.err("ACL SAVE") == text


@pytest.fixture
def with_file(make_server, tmp_path):
    path = tmp_path / "users.acl"
    path.write_text("user alice on >x ~a +@all\n\nuser default on nopass ~* &* +@all\n")
    server = make_server(directives={"aclfile": str(path)})
    with server.connect() as connection:
        yield server, connection, path


def test_acl_file(with_file):
    server, c, path = with_file
    assert listed(c, "alice") == "user alice on sanitize-payload #%s ~a resetchannels +@all" % digest("x")
    c.ok("ACL SETUSER bob on >y (~b +get)")
    c.ok("ACL SAVE")
    assert path.read_text() == "".join(line.decode() + "\n" for line in c.ok("ACL LIST"))
    with server.connect() as alice, server.connect() as bob:
        alice.ok("AUTH alice x")
        bob.ok("AUTH bob y")
        path.write_text("user alice on >x ~b +@all\n")
        c.ok("ACL LOAD")
        assert is_closed(bob)
        assert alice.err("GET a") == DENIED_KEY  # same name, new rules
        alice.ok("GET b")
    assert c.ok("ACL USERS") == [b"alice", b"default"]
    before = c.ok("ACL LIST")
    path.write_text("user x on\nuse y\nuser x off\nuser z +nosuch foo bar\nuser w (+get\n")
    assert c.err("ACL LOAD") == (
        "ERR {0}:2 should start with user keyword followed by the username. WARNING: Duplicate user 'x' found on line 3. "
        "{0}:4: Error in applying operation '+nosuch': Unknown command or category name in ACL. {0}:4: Syntax error. "
        "{0}:5: Unmatched parenthesis in selector definition.WARNING: ACL errors detected, no change to the previously active "
        "ACL rules was performed").format(path)
    assert c.ok("ACL LIST") == before
    path.unlink()
    assert c.err("ACL LOAD") == "ERR Error loading ACLs, opening file '%s': No such file or directory" % path
    c.ok("ACL SAVE")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    os.chmod(path, 0o640)
    c.ok("ACL SAVE")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(path.parent) == ["users.acl"]


def test_acl_file_that_cannot_be_written(with_file):
    _, c, path = with_file
    shutil.rmtree(path.parent)
    assert c.err("ACL SAVE") == "ERR There was an error trying to save the ACLs. Please check the server logs for more information"


def test_acl_file_with_mistakes_ends_the_start(env, transport, tmp_path):
    path = tmp_path / "users.acl"
    path.write_text("user alice foo\n")
    server = harness.Server(env, transport, directives={"aclfile": str(path)}, start=False)
    server.start(wait=False)
    assert server.wait_exit() == 1
    assert "Aborting Redis startup because of ACL errors: %s:1: Syntax error. " % path in server.log()
    server.cleanup()


def test_users_in_the_configuration(make_server):
    server = make_server(config="user alice on >x ~a (+get\t~b)\nuser default on nopass ~* &* +@all -@dangerous +acl +config "
                                "+shutdown +info +flushall\n")
    with server.connect() as c:
        assert listed(c, "alice") == (
            "user alice on sanitize-payload #%s ~a resetchannels -@all (~b resetchannels -@all +get)" % digest("x"))
        assert c.err("KEYS *") == denied("default", "keys")
        c.ok("ACL", "SETUSER", "alice", "~q\"'u", "(~q\"'u)")
        c.ok("ACL SETUSER bob on nopass")
        c.ok("CONFIG REWRITE")
        before = c.ok("ACL LIST")
    with open(os.path.join(server.dir, "kettle.conf")) as handle:
        text = handle.read()
    assert text.count("user ") == 3 and "\nuser bob on nopass sanitize-payload resetchannels -@all\n" in text
    again = make_server(config=text)
    with again.connect() as c:
        assert c.ok("ACL LIST") == before


@pytest.mark.parametrize("config,message", [
    ("user alice on foo\n", "Error in user declaration 'alice': Syntax error"),
    ("user alice on\nuser alice off\n",
     "Error in user declaration 'alice': Duplicate user found. A user can only be defined once in config files"),
    ("user alice (on\n", "Error in user declaration 'alice': Wrong format"),
    ("user alice +nosuch\n", "Error loading ACL rule '+nosuch' for the user named 'alice': Unknown command or category name in ACL"),
    ("user alice on\naclfile /nosuch/file\n", "please define either an ACL file or declare users directly in your redis.conf, but not "
                                              "both."),
    ("aclfile /nosuch/file\n", "Error loading ACLs, opening file '/nosuch/file': No such file or directory"),
])
def test_start_is_refused(env, transport, config, message):
    server = harness.Server(env, transport, config=config, start=False)
    server.start(wait=False)
    assert server.wait_exit() == 1
    assert message in server.log()
    server.cleanup()


# ---- certificates ----

@pytest.mark.transports("tls-user", "tls-kernel")
def test_user_by_certificate(make_server):
    server = make_server(directives={"tls-auth-clients-user": "CN"})
    with server.connect() as c:
        line = dict(word.split("=", 1) for word in c.ok("CLIENT INFO").decode().split())
        name = line["tls-user"]
        assert name and line["user"] == "default"
        assert logged(c)[0]["reason"] == "tls-cert" and logged(c)[0]["username"] == name
        assert int(c.info("stats")["acl_access_denied_tls_cert"]) > 0
        c.ok("ACL", "SETUSER", name, "on", ">x", "+@all", "-get", "~*")
        with server.connect() as other:
            assert other.ok("ACL WHOAMI").decode() == name
            assert other.err("GET k") == denied(name, "get")
        c.ok("ACL SETUSER default resetpass")
        with server.connect() as other:
            assert other.ok("ACL WHOAMI").decode() == name  # no password is asked for
        c.ok("ACL", "SETUSER", name, "off")
        with server.connect() as other:
            assert other.err("ACL WHOAMI") == "NOAUTH Authentication required."
        c.ok("ACL SETUSER default nopass")
        c.ok("CONFIG SET tls-auth-clients-user off")
        c.ok("ACL", "SETUSER", name, "on")
        with server.connect() as other:
            assert other.ok("ACL WHOAMI") == b"default"
