# SPDX-License-Identifier: BSD-3-Clause
"""Server commands: COMMAND *, CONFIG *, INFO, TIME, LOLWUT, DEBUG, MEMORY, SHUTDOWN."""
import os
import re
import signal
import time

import pytest

from harness import wait_for
from resp import ReplyError, encode, run

SYNTAX = "-ERR syntax error"


def arity(name):
    return "-ERR wrong number of arguments for '%s' command" % name


# Everything this stage of Kettle has, with arity and flags as Redis gives them.
COMMANDS = {
    "get": (2, {"readonly", "fast"}, (1, 1, 1)), "set": (-3, {"write", "denyoom"}, (1, 1, 1)),
    "setnx": (3, {"write", "denyoom", "fast"}, (1, 1, 1)), "setex": (4, {"write", "denyoom"}, (1, 1, 1)),
    "psetex": (4, {"write", "denyoom"}, (1, 1, 1)), "append": (3, {"write", "denyoom", "fast"}, (1, 1, 1)),
    "strlen": (2, {"readonly", "fast"}, (1, 1, 1)), "del": (-2, {"write"}, (1, -1, 1)),
    "unlink": (-2, {"write", "fast"}, (1, -1, 1)), "exists": (-2, {"readonly", "fast"}, (1, -1, 1)),
    "setbit": (4, {"write", "denyoom"}, (1, 1, 1)), "getbit": (3, {"readonly", "fast"}, (1, 1, 1)),
    "bitfield": (-2, {"write", "denyoom"}, (1, 1, 1)), "bitfield_ro": (-2, {"readonly", "fast"}, (1, 1, 1)),
    "setrange": (4, {"write", "denyoom"}, (1, 1, 1)), "getrange": (4, {"readonly"}, (1, 1, 1)),
    "substr": (4, {"readonly"}, (1, 1, 1)), "incr": (2, {"write", "denyoom", "fast"}, (1, 1, 1)),
    "decr": (2, {"write", "denyoom", "fast"}, (1, 1, 1)), "incrby": (3, {"write", "denyoom", "fast"}, (1, 1, 1)),
    "decrby": (3, {"write", "denyoom", "fast"}, (1, 1, 1)),
    "incrbyfloat": (3, {"write", "denyoom", "fast"}, (1, 1, 1)), "mget": (-2, {"readonly", "fast"}, (1, -1, 1)),
    "mset": (-3, {"write", "denyoom"}, (1, -1, 2)), "msetnx": (-3, {"write", "denyoom"}, (1, -1, 2)),
    "getset": (3, {"write", "denyoom", "fast"}, (1, 1, 1)), "getdel": (2, {"write", "fast"}, (1, 1, 1)),
    "getex": (-2, {"write", "fast"}, (1, 1, 1)), "lcs": (-3, {"readonly"}, (1, 2, 1)),
    "bitop": (-4, {"write", "denyoom"}, (2, -1, 1)), "bitcount": (-2, {"readonly"}, (1, 1, 1)),
    "bitpos": (-3, {"readonly"}, (1, 1, 1)), "expire": (-3, {"write", "fast"}, (1, 1, 1)),
    "pexpire": (-3, {"write", "fast"}, (1, 1, 1)), "expireat": (-3, {"write", "fast"}, (1, 1, 1)),
    "pexpireat": (-3, {"write", "fast"}, (1, 1, 1)), "ttl": (2, {"readonly", "fast"}, (1, 1, 1)),
    "pttl": (2, {"readonly", "fast"}, (1, 1, 1)), "expiretime": (2, {"readonly", "fast"}, (1, 1, 1)),
    "pexpiretime": (2, {"readonly", "fast"}, (1, 1, 1)), "persist": (2, {"write", "fast"}, (1, 1, 1)),
    "rename": (3, {"write"}, (1, 2, 1)), "renamenx": (3, {"write", "fast"}, (1, 2, 1)),
    "copy": (-3, {"write", "denyoom"}, (1, 2, 1)), "move": (3, {"write", "fast"}, (1, 1, 1)),
    "swapdb": (3, {"write", "fast"}, (0, 0, 0)), "keys": (2, {"readonly"}, (0, 0, 0)),
    "scan": (-2, {"readonly"}, (0, 0, 0)), "randomkey": (1, {"readonly"}, (0, 0, 0)),
    "type": (2, {"readonly", "fast"}, (1, 1, 1)), "touch": (-2, {"readonly", "fast"}, (1, -1, 1)),
    "dbsize": (1, {"readonly", "fast"}, (0, 0, 0)), "flushdb": (-1, {"write"}, (0, 0, 0)),
    "flushall": (-1, {"write"}, (0, 0, 0)), "object": (-2, set(), (0, 0, 0)),
    "multi": (1, {"noscript", "loading", "stale", "fast", "allow_busy"}, (0, 0, 0)),
    "exec": (1, {"noscript", "loading", "stale", "skip_slowlog"}, (0, 0, 0)),
    "discard": (1, {"noscript", "loading", "stale", "fast", "allow_busy"}, (0, 0, 0)),
    "watch": (-2, {"noscript", "loading", "stale", "fast", "allow_busy"}, (1, -1, 1)),
    "unwatch": (1, {"noscript", "loading", "stale", "fast", "allow_busy"}, (0, 0, 0)),
    "ping": (-1, {"fast"}, (0, 0, 0)), "echo": (2, {"loading", "stale", "fast"}, (0, 0, 0)),
    "auth": (-2, {"noscript", "loading", "stale", "fast", "no_auth", "allow_busy"}, (0, 0, 0)),
    "hello": (-1, {"noscript", "loading", "stale", "fast", "no_auth", "allow_busy"}, (0, 0, 0)),
    "quit": (-1, {"noscript", "loading", "stale", "fast", "no_auth", "allow_busy"}, (0, 0, 0)),
    "reset": (1, {"noscript", "loading", "stale", "fast", "no_auth", "allow_busy"}, (0, 0, 0)),
    "select": (2, {"loading", "stale", "fast"}, (0, 0, 0)), "client": (-2, set(), (0, 0, 0)),
    "command": (-1, {"loading", "stale"}, (0, 0, 0)), "config": (-2, set(), (0, 0, 0)),
    "info": (-1, {"loading", "stale"}, (0, 0, 0)), "time": (1, {"loading", "stale", "fast"}, (0, 0, 0)),
    "lolwut": (-1, {"readonly", "fast"}, (0, 0, 0)),
    "debug": (-2, {"admin", "noscript", "loading", "stale"}, (0, 0, 0)), "memory": (-2, set(), (0, 0, 0)),
    "shutdown": (-1, {"admin", "noscript", "loading", "stale", "no_multi", "allow_busy"}, (0, 0, 0)),
}


def test_command_info_of_every_command(conn):
    wrong = []
    for name, entry in zip(COMMANDS, conn.ok("COMMAND", "INFO", *COMMANDS)):
        if entry is None:
            wrong.append("%s: missing" % name)
            continue
        arity_wanted, flags, keys = COMMANDS[name]
        if name == "quit" and conn.server.env.is_redis70:
            continue
        if len(entry) != 10:
            wrong.append("%s: %d elements" % (name, len(entry)))
            continue
        got = (entry[0].decode(), entry[1], set(f if isinstance(f, str) else f.decode() for f in entry[2]),
               tuple(entry[3:6]))
        # movablekeys comes with some key specs and depends on the release
        if got[:2] + (got[2] - {"movablekeys"},) + got[3:] != (name, arity_wanted, flags, keys):
            wrong.append("%s: wanted %r got %r" % (name, (arity_wanted, sorted(flags), keys), got[1:]))
    assert not wrong, "\n".join(wrong)


def test_command_info_shapes(conn):
    node = conn.node("COMMAND", "INFO", "get", "nosuch", "config|get")
    get, missing, config = node.value
    assert missing.render() == "nil"
    assert [n.kind for n in get.value] == ["$", ":", "*", ":", ":", ":", "*", "*", "*", "*"]
    assert all(n.kind == "+" for n in get.value[2].value)
    categories = {n.py for n in get.value[6].value}
    assert categories == {"@read", "@string", "@fast"}
    spec = get.value[8].value
    assert len(spec) == 1
    assert spec[0].render() == ('["flags", [+RO, +access], "begin_search", ["type", "index", "spec", ["index", :1]], '
                                '"find_keys", ["type", "range", "spec", ["lastkey", :0, "keystep", :1, "limit", :0]]]')
    assert config.py[0] == b"config|get" and config.py[1] == -3


def test_command_info_in_resp3(server):
    with server.connect(proto=3) as conn:
        node = conn.node("COMMAND", "INFO", "set")
        entry = node.value[0].value
        assert entry[2].kind == "~" and entry[6].kind == "~"
        spec = entry[8].value[0]
        assert spec.kind == "%"
        keys = [k.py for k, _ in spec.value]
        assert keys == [b"notes", b"flags", b"begin_search", b"find_keys"]
        assert entry[9].kind == "~"
        assert conn.node("COMMAND", "LIST").kind == "*"
        assert conn.node("COMMAND", "LIST", "FILTERBY", "PATTERN", "get").kind == "*"


def entries(conn, *names):
    """COMMAND INFO of commands and their subcommands, by full name, whatever the order of flags, categories and subcommands."""
    out = {}

    def add(entry):
        out[entry[0].decode()] = (entry[1], sorted(map(str, entry[2])), entry[3:6], sorted(map(str, entry[6])),
                                  sorted(map(str, entry[7])), entry[8])
        for one in entry[9]:
            add(one)
    for entry in conn.ok("COMMAND", "INFO", *names):
        add(entry)
    return out


def test_commands_of_clusters_and_modules_are_those_of_redis(conn, redis_server):
    names = ("asking", "cluster", "module", "readonly", "readwrite")
    ours = entries(conn, *names)
    myshardid = ours.pop("cluster|myshardid", None)  # 7.2's
    assert myshardid is None or myshardid[:2] == (2, ["stale"])
    with redis_server.connect() as reference:
        theirs = entries(reference, *names)
        assert ours == theirs
        for category in ("connection", "dangerous", "admin", "slow", "fast"):
            mine, his = (set(c.ok("ACL", "CAT", category)) for c in (conn, reference))
            assert {n for n in mine if n.decode().split("|")[0] in names} - {b"cluster|myshardid"} == {
                n for n in his if n.decode().split("|")[0] in names}


DISABLED = "-ERR This instance has cluster support disabled"
NO_MODULES = ('-ERR MODULE command not allowed. If the enable-module-command option is set to "local", you can run it from a local '
              'connection, otherwise you need to set this option in the configuration file, and then restart the server.')


def test_cluster_commands_without_a_cluster(c):
    run(c, f"""
        CLUSTER INFO => {DISABLED}
        CLUSTER SLOTS => {DISABLED}
        CLUSTER SHARDS => {DISABLED}
        CLUSTER NODES => {DISABLED}
        CLUSTER KEYSLOT a => {DISABLED}
        CLUSTER HELP => {DISABLED}
        CLUSTER MEET 127.0.0.1 1 => {DISABLED}
        READONLY => {DISABLED}
        READWRITE => {DISABLED}
        ASKING => {DISABLED}
        READONLY x => {arity('readonly')}
        CLUSTER => {arity('cluster')}
        CLUSTER KEYSLOT => {arity('cluster|keyslot')}
        CLUSTER SLOTS x => {arity('cluster|slots')}
        CLUSTER NOSUCH => -ERR unknown subcommand 'NOSUCH'. Try CLUSTER HELP.
        MULTI => +OK
        READONLY => +QUEUED
        CLUSTER INFO => +QUEUED
        EXEC => [{DISABLED}, {DISABLED}]
    """)


def test_module_commands(c):
    run(c, f"""
        MODULE LIST => []
        MODULE LOAD /nosuch.so => {NO_MODULES}
        MODULE LOADEX /nosuch.so CONFIG a b => {NO_MODULES}
        MODULE UNLOAD nosuch => {NO_MODULES}
        MODULE LIST x => {arity('module|list')}
        MODULE LOAD => {arity('module|load')}
        MODULE => {arity('module')}
        MODULE NOSUCH => -ERR unknown subcommand 'NOSUCH'. Try MODULE HELP.
        MODULE HELP => /MODULE <subcommand>/
    """)


@pytest.mark.parametrize("allowed", ["yes", "local"])
def test_modules_cannot_be_loaded(make_server, allowed):
    server = make_server(directives={"enable-module-command": allowed})
    with server.connect() as conn:
        run(conn, """
            MODULE LOAD /nosuch.so => -ERR Error loading the extension. Please check the server logs.
            MODULE LOADEX /nosuch.so CONFIG a b ARGS c => -ERR Error loading the extension. Please check the server logs.
            MODULE UNLOAD nosuch => -ERR Error unloading module: no such module with that name
            MODULE LIST => []
        """)
    server.wait_log("Module /nosuch.so failed to load")


def plain(node):
    """Sets as lists: their elements here may be maps."""
    if node.kind in "*~":
        return [plain(n) for n in node.value]
    return {k.py.decode(): plain(v) for k, v in node.value} if node.kind == "%" else node.py


def test_command_docs_of_client_subcommands(server):
    with server.connect(proto=3) as conn:
        docs = plain(conn.node("COMMAND", "DOCS", "client|kill"))["client|kill"]
        old, new = docs["arguments"][0]["arguments"]
        assert old["display_text"] == b"ip:port" and old["deprecated_since"] == b"2.8.12"
        assert [a["name"] for a in new["arguments"]] == [b"client-id", b"client-type", b"username", b"addr", b"laddr", b"skipme"]
        for name in ("client|list", "client|pause", "client|setinfo", "client|unblock", "shutdown", "lolwut"):
            assert plain(conn.node("COMMAND", "DOCS", name))[name]["arguments"], name
        assert plain(conn.node("COMMAND", "DOCS", "debug"))["debug"]["doc_flags"] == ["syscmd"]
        config_set = plain(conn.node("COMMAND", "INFO", "config|set"))[0]
        assert config_set[7] == [b"request_policy:all_nodes", b"response_policy:all_succeeded"]
        assert conn.node("COMMAND", "INFO", "config").value[0].value[9].kind == "*"


def test_command_count_list_and_all(conn):
    count = conn.ok("COMMAND", "COUNT")
    everything = conn.ok("COMMAND")
    listed = conn.ok("COMMAND", "LIST")
    assert count == len(everything)
    assert {e[0] for e in everything} <= set(listed)
    assert {n.encode() for n in COMMANDS} - {b"quit"} <= set(listed)
    assert {b"client|list", b"config|get", b"object|encoding"} <= set(listed)
    assert set(conn.ok("COMMAND", "LIST", "FILTERBY", "PATTERN", "bit*")) >= {b"bitcount", b"bitop", b"bitpos", b"bitfield"}
    strings = set(conn.ok("COMMAND", "LIST", "FILTERBY", "ACLCAT", "string"))
    assert {b"get", b"set", b"append", b"lcs"} <= strings and b"ping" not in strings
    assert conn.ok("COMMAND", "LIST", "FILTERBY", "ACLCAT", "nosuchcat") == []
    assert conn.ok("COMMAND", "LIST", "FILTERBY", "MODULE", "nosuch") == []
    run(conn, f"""
        COMMAND LIST FILTERBY => {SYNTAX}
        COMMAND LIST FILTERBY FOO bar => {SYNTAX}
        COMMAND COUNT x => {arity('command|count')}
        COMMAND NOSUCH => -ERR unknown subcommand 'NOSUCH'. Try COMMAND HELP.
        COMMAND HELP => /COMMAND <subcommand>/
    """)


def test_command_docs(server):
    with server.connect(proto=3) as conn:
        docs = conn.node("COMMAND", "DOCS", "set", "nosuch", "config")
        assert docs.kind == "%" and [k.py for k, _ in docs.value] == [b"set", b"config"]
        entry = {k.py.decode(): v for k, v in docs.value[0][1].value}
        assert entry["since"].py == b"1.0.0" and entry["group"].py == b"string" and entry["complexity"].py == b"O(1)"
        assert len(entry["summary"].py) > 10
        assert entry["history"].kind == "~"
        args = [{k.py.decode(): v.py for k, v in a.value} for a in entry["arguments"].value]
        assert [a["name"] for a in args][:2] == [b"key", b"value"]
        assert args[0]["type"] == b"key" and args[0]["key_spec_index"] == 0
        config = {k.py.decode(): v for k, v in docs.value[1][1].value}
        names = {k.py for k, _ in config["subcommands"].value}
        assert {b"config|get", b"config|set", b"config|rewrite", b"config|resetstat", b"config|help"} <= names
        everything = conn.node("COMMAND", "DOCS")
        assert len(everything.value) == conn.ok("COMMAND", "COUNT")
        for name, doc in everything.value:
            keys = {k.py for k, _ in doc.value}
            assert {b"summary", b"since", b"group"} <= keys, name
    with server.connect() as conn:
        docs = conn.ok("COMMAND", "DOCS", "get")
        assert docs[0] == b"get" and docs[1][0] == b"summary"


def test_command_getkeys(c):
    run(c, f"""
        COMMAND GETKEYS GET k => ["k"]
        COMMAND GETKEYS MSET a 1 b 2 => ["a", "b"]
        COMMAND GETKEYS DEL a b c => ["a", "b", "c"]
        COMMAND GETKEYS BITOP AND d a b => ["d", "a", "b"]
        COMMAND GETKEYS COPY a b => ["a", "b"]
        COMMAND GETKEYS SET k v EX 10 => ["k"]
        COMMAND GETKEYS LCS a b => ["a", "b"]
        COMMAND GETKEYS OBJECT ENCODING k => ["k"]
        COMMAND GETKEYS MEMORY USAGE k => ["k"]
        7.2| COMMAND GETKEYS PING => -ERR The command has no key arguments
        7.2| COMMAND GETKEYS NOSUCH => -ERR Invalid command specified
        7.2| COMMAND GETKEYS GET => -ERR Invalid number of arguments specified for command
        COMMAND GETKEYS => {arity('command|getkeys')}
        COMMAND GETKEYSANDFLAGS GET k => [["k", [+RO, +access]]]
        2| COMMAND GETKEYSANDFLAGS SET k v => [["k", [+OW, +update]]]
        7.2| COMMAND GETKEYSANDFLAGS PING => -ERR The command has no key arguments
        7.2| COMMAND GETKEYSANDFLAGS NOSUCH => -ERR Invalid command specified
    """.replace("[+RO, +access]", "~[+RO, +access]" if c.proto == 3 else "[+RO, +access]"))


def test_config_get_globs(c):
    got = c.ok("CONFIG", "GET", "maxmemory")
    assert (got if c.proto == 2 else list(sum(got.items(), ()))) == [b"maxmemory", b"0"]
    many = c.ok("CONFIG", "GET", "max*")
    names = set(many[::2] if c.proto == 2 else many)
    assert {b"maxmemory", b"maxclients", b"maxmemory-policy", b"maxmemory-samples"} <= names
    several = c.ok("CONFIG", "GET", "maxmemory", "port", "time?ut", "maxmemory")
    names = several[::2] if c.proto == 2 else list(several)
    assert set(names) == {b"maxmemory", b"port", b"timeout"} and len(names) == 3
    everything = c.ok("CONFIG", "GET", "*")
    names = set(everything[::2] if c.proto == 2 else everything)
    wanted = """bind port tls-port tls-cert-file tls-key-file tls-key-file-pass tls-client-cert-file tls-client-key-file
        tls-client-key-file-pass tls-dh-params-file tls-ca-cert-file tls-ca-cert-dir tls-auth-clients tls-protocols
        tls-ciphers tls-ciphersuites tls-prefer-server-ciphers tls-session-caching tls-session-cache-size
        tls-session-cache-timeout tls-replication tls-cluster timeout tcp-keepalive tcp-backlog unixsocket unixsocketperm
        maxclients maxmemory maxmemory-policy protected-mode requirepass proto-max-bulk-len client-query-buffer-limit
        client-output-buffer-limit databases dir logfile loglevel io-threads hz save appendonly daemonize pidfile
        proc-title-template set-proc-title enable-debug-command lazyfree-lazy-expire""".split()
    missing = [name for name in wanted if name.encode() not in names]
    assert not missing, missing
    run(c, f"""
        2| CONFIG GET nosuch => []
        3| CONFIG GET nosuch => {{}}
        2| CONFIG GET MAXMEMORY => ["MAXMEMORY", "0"]
        CONFIG GET => {arity('config|get')}
        CONFIG => {arity('config')}
        CONFIG NOSUCH => -ERR unknown subcommand 'NOSUCH'. Try CONFIG HELP.
        CONFIG HELP => /CONFIG <subcommand>/
    """)


def one(conn, name):
    return conn.ok("CONFIG", "GET", name)[1].decode()


def test_config_set(conn):
    run(conn, f"""
        CONFIG SET maxmemory 100mb timeout 5
        CONFIG GET maxmemory => ["maxmemory", "104857600"]
        CONFIG GET timeout => ["timeout", "5"]
        CONFIG SET maxmemory 0 timeout 0
        CONFIG SET MAXMEMORY 1gb
        CONFIG GET maxmemory => ["maxmemory", "1073741824"]
        CONFIG SET maxmemory 0
        CONFIG SET nosuch 1 => -ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'
        CONFIG SET timeout => {arity('config|set')}
        CONFIG SET timeout 1 maxmemory => {SYNTAX}
        CONFIG SET timeout 1 timeout 2 => -ERR CONFIG SET failed (possibly related to argument 'timeout') - duplicate parameter
        CONFIG SET timeout abc => -ERR CONFIG SET failed (possibly related to argument 'timeout') - argument couldn't be parsed into an integer
        CONFIG SET timeout -1 => /^-ERR CONFIG SET failed .possibly related to argument 'timeout'. - argument must be between 0 and 2147483647 inclusive$/
        CONFIG SET maxmemory 1zb => -ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value
        CONFIG SET protected-mode maybe => -ERR CONFIG SET failed (possibly related to argument 'protected-mode') - argument must be 'yes' or 'no'
        CONFIG SET loglevel chatty => /^-ERR CONFIG SET failed .possibly related to argument 'loglevel'. - argument.s. must be one of the following: debug, verbose, notice, warning(, nothing)?$/
        CONFIG SET databases 5 => -ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config
        CONFIG SET daemonize yes => -ERR CONFIG SET failed (possibly related to argument 'daemonize') - can't set immutable config
        CONFIG SET io-threads 2 => -ERR CONFIG SET failed (possibly related to argument 'io-threads') - can't set immutable config
        CONFIG GET timeout => ["timeout", "0"]
    """)


def test_config_set_is_atomic(conn):
    before = one(conn, "timeout"), one(conn, "maxmemory"), one(conn, "hz")
    for args in [("timeout", "77", "nosuch", "1"), ("timeout", "77", "maxmemory", "bad"),
                 ("hz", "50", "timeout", "77", "protected-mode", "perhaps"), ("timeout", "77", "databases", "9")]:
        assert conn.err("CONFIG", "SET", *args)
        assert (one(conn, "timeout"), one(conn, "maxmemory"), one(conn, "hz")) == before, args


def test_config_set_values_read_back(conn):
    for name, value, shown in [
            ("maxmemory-policy", "allkeys-lru", None), ("maxmemory-policy", "noeviction", None),
            ("client-output-buffer-limit", "normal 1mb 500kb 10", None), ("tcp-keepalive", "120", None),
            ("loglevel", "verbose", None), ("loglevel", "notice", None), ("hz", "25", None), ("hz", "10", None),
            ("client-query-buffer-limit", "2mb", "2097152"), ("client-query-buffer-limit", "1gb", "1073741824"),
            ("proto-max-bulk-len", "2mb", "2097152"), ("proto-max-bulk-len", "512mb", "536870912"),
            ("protected-mode", "no", None), ("protected-mode", "yes", None)]:
        assert conn("CONFIG", "SET", name, value) == "OK", name
        got = one(conn, name)
        if name == "client-output-buffer-limit":
            assert got == "normal 1048576 512000 10 slave 268435456 67108864 60 pubsub 33554432 8388608 60"
        else:
            assert got == (shown or value), name
    conn.ok("CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0", "tcp-keepalive", "300")


def test_config_rewrite(make_server):
    server = make_server(config="# a comment kept\nmaxmemory 50mb\ntimeout 11\n\n# the end\n")
    with server.connect() as conn:
        run(conn, """
            CONFIG SET timeout 22 maxmemory-policy allkeys-lru
            CONFIG REWRITE
        """)
    path = os.path.join(server.dir, "kettle.conf")
    with open(path) as handle:
        text = handle.read()
    assert "# a comment kept" in text and "# the end" in text
    assert re.search(r"^timeout 22$", text, re.M) and not re.search(r"^timeout 11$", text, re.M)
    assert re.search(r"^maxmemory-policy allkeys-lru$", text, re.M)
    assert re.search(r"^maxmemory (50mb|52428800)$", text, re.M)
    assert len(re.findall(r"^port ", text, re.M)) == 1
    # The file must be usable as it is.
    again = make_server(config=text, directives={})
    with again.connect() as conn:
        assert one(conn, "timeout") == "22" and one(conn, "maxmemory-policy") == "allkeys-lru"


def test_config_rewrite_without_a_file(conn):
    assert conn.err("CONFIG", "REWRITE") == "ERR The server is running without a config file"


def test_config_resetstat(conn):
    conn.ok("GET", "nosuchkey")
    conn.err("NOSUCHCOMMAND")
    assert int(conn.info("stats")["keyspace_misses"]) > 0
    assert conn("CONFIG", "RESETSTAT") == "OK"
    stats = conn.info("stats")
    assert stats["keyspace_misses"] == "0" and stats["keyspace_hits"] == "0"
    assert int(stats["total_commands_processed"]) <= 2
    assert conn.info("errorstats") == {}
    assert "cmdstat_get" not in conn.info("commandstats")
    assert conn("CONFIG", "RESETSTAT", "x") == "ERR wrong number of arguments for 'config|resetstat' command"


INFO_FIELDS = {
    "server": """redis_version redis_git_sha1 redis_git_dirty redis_build_id redis_mode os arch_bits monotonic_clock
        multiplexing_api gcc_version process_id process_supervised run_id tcp_port server_time_usec uptime_in_seconds
        uptime_in_days hz configured_hz lru_clock executable config_file io_threads_active""",
    "clients": """connected_clients cluster_connections maxclients client_recent_max_input_buffer
        client_recent_max_output_buffer blocked_clients tracking_clients clients_in_timeout_table""",
    "memory": """used_memory used_memory_human used_memory_rss used_memory_rss_human used_memory_peak
        used_memory_peak_human used_memory_peak_perc used_memory_overhead used_memory_startup used_memory_dataset
        used_memory_dataset_perc allocator_allocated allocator_active allocator_resident total_system_memory
        total_system_memory_human maxmemory maxmemory_human maxmemory_policy mem_fragmentation_ratio
        mem_fragmentation_bytes mem_clients_normal mem_allocator active_defrag_running lazyfree_pending_objects
        lazyfreed_objects""",
    "stats": """total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes
        total_net_output_bytes instantaneous_input_kbps instantaneous_output_kbps rejected_connections expired_keys
        expired_stale_perc expired_time_cap_reached_count evicted_keys keyspace_hits keyspace_misses pubsub_channels
        pubsub_patterns total_error_replies total_reads_processed total_writes_processed unexpected_error_replies""",
    "replication": """role connected_slaves master_failover_state master_replid master_replid2 master_repl_offset
        second_repl_offset repl_backlog_active repl_backlog_size repl_backlog_first_byte_offset repl_backlog_histlen""",
    "cpu": "used_cpu_sys used_cpu_user used_cpu_sys_children used_cpu_user_children",
    "cluster": "cluster_enabled",
}


@pytest.mark.parametrize("section", sorted(INFO_FIELDS))
def test_info_section_fields(conn, section):
    info = conn.info(section)
    missing = [name for name in INFO_FIELDS[section].split() if name not in info]
    assert not missing, missing
    text = conn.ok("INFO", section.upper())
    assert text.startswith(b"# " + {"cpu": b"CPU"}.get(section, section.capitalize().encode()) + b"\r\n")
    assert text.endswith(b"\r\n")
    assert b"\n" not in text.replace(b"\r\n", b"")


def test_info_values(server, conn, env):
    info = conn.info("server")
    assert info["redis_mode"] == "standalone" and info["process_id"] == str(server.proc.pid)
    assert info["tcp_port"] == str(server.port or 0) or server.use_tls
    assert re.fullmatch("[0-9a-f]{40}", info["run_id"])
    if env.is_kettle:
        assert info["redis_version"] == "7.2.4" and info["kettle_version"]
    assert conn.info("replication")["role"] == "master"
    assert int(conn.info("clients")["connected_clients"]) >= 1
    assert int(conn.info("memory")["used_memory"]) > 0
    before = conn.info("stats")
    conn.ok("GET", "nosuchkey")
    conn.ok("SET", "hit", "v")
    conn.ok("GET", "hit")
    after = conn.info("stats")
    assert int(after["keyspace_hits"]) - int(before["keyspace_hits"]) == 1
    assert int(after["keyspace_misses"]) - int(before["keyspace_misses"]) == 1
    assert int(after["total_commands_processed"]) - int(before["total_commands_processed"]) == 4
    assert int(after["total_net_input_bytes"]) > int(before["total_net_input_bytes"])
    assert int(after["total_net_output_bytes"]) > int(before["total_net_output_bytes"])


def loops(conn):
    stats = conn.info("stats")
    return [int(stats["eventloop_" + name]) for name in ("cycles", "duration_sum", "duration_cmd_sum")]


def test_info_of_event_loops(conn, env):
    if env.is_redis70:
        pytest.skip("fields of 7.2")
    conn.ok("CONFIG", "RESETSTAT")
    assert loops(conn)[1] < 1000000
    before, began = loops(conn), time.monotonic()
    for _ in range(50):
        conn.ok("PING")
    middle = loops(conn)
    assert middle[0] - before[0] >= 50
    conn.ok("DEBUG", "SLEEP", "0.3")
    conn.ok("MULTI")
    conn.ok("DEBUG", "SLEEP", "0.2")
    conn.ok("EXEC")
    after = loops(conn)
    spent, elapsed = after[2] - middle[2], (time.monotonic() - began) * 1e6
    assert 500000 <= spent < elapsed  # what EXEC runs is not counted twice
    assert after[1] - middle[1] >= 500000
    time.sleep(0.3)
    idle = loops(conn)
    assert idle[2] - after[2] < 250000 and idle[0] > after[0]
    # a busy second shows, and a turn is short in it
    wait_for(lambda: conn.ok("PING") and int(conn.info("stats")["instantaneous_eventloop_cycles_per_sec"]) > 0, env.timeout(20),
             what="a rate to show")
    assert int(conn.info("stats")["instantaneous_eventloop_duration_usec"]) < 10000000
    conn.ok("CONFIG", "RESETSTAT")
    assert loops(conn)[0] < idle[0] and loops(conn)[2] < 500000


def test_info_counts_payloads_that_were_checked(conn, env):
    if not env.is_kettle:
        pytest.skip("redis-server checks them if it is told to")
    conn.ok("CONFIG", "RESETSTAT")
    conn.ok("SET", "s", "x")
    conn.ok("RPUSH", "l", "a", "b")
    for i, key in enumerate(("s", "l", "l")):
        assert conn.ok("RESTORE", "to%d" % i, "0", conn.ok("DUMP", key)) == "OK"
    assert conn.info("stats")["dump_payload_sanitizations"] == "2"


def test_info_commandstats_errorstats_latencystats(conn):
    conn.ok("CONFIG", "RESETSTAT")
    for _ in range(3):
        conn.ok("GET", "k")
    conn.err("GET")
    conn.ok("SET", "s", "abc")
    conn.err("INCR", "s")
    conn.err("NOSUCH")
    stats = conn.info("commandstats")
    match = re.fullmatch(r"calls=(\d+),usec=(\d+),usec_per_call=([\d.]+),rejected_calls=(\d+),failed_calls=(\d+)",
                         stats["cmdstat_get"])
    assert match and match.group(1) == "3" and match.group(4) == "1" and match.group(5) == "0"
    assert re.search(r"failed_calls=1$", stats["cmdstat_incr"])
    assert "cmdstat_config|resetstat" in stats
    assert conn.info("errorstats") == {"errorstat_ERR": "count=3"}
    latency = conn.info("latencystats")
    assert re.fullmatch(r"p50=[\d.]+,p99=[\d.]+,p99.9=[\d.]+", latency["latency_percentiles_usec_get"])


def test_info_keyspace(conn):
    assert conn.info("keyspace") == {}
    conn.ok("MSET", "a", 1, "b", 2)
    conn.ok("EXPIRE", "a", 1000)
    conn.ok("SELECT", 3)
    conn.ok("SET", "c", 3)
    info = conn.info("keyspace")
    assert set(info) == {"db0", "db3"}
    assert re.fullmatch(r"keys=2,expires=1,avg_ttl=\d+", info["db0"])
    assert info["db3"] == "keys=1,expires=0,avg_ttl=0"


def test_info_sections_selection(server, conn, env):
    def sections(*args):
        return re.findall(rb"^# (\w+)\r$", conn.ok("INFO", *args), re.M)
    default = [b"Server", b"Clients", b"Memory", b"Persistence", b"Stats", b"Replication", b"CPU", b"Modules",
               b"Errorstats", b"Cluster", b"Keyspace"]
    got = [s for s in sections() if s != b"TLS"]
    assert [s for s in got if s in default] == [s for s in default if s in got]
    assert {b"Server", b"Clients", b"Memory", b"Stats", b"Replication", b"CPU", b"Keyspace"} <= set(got)
    assert sections("default") == sections()
    assert {b"Commandstats", b"Latencystats", b"Modules"} <= set(sections("all"))
    assert {b"Commandstats", b"Latencystats", b"Errorstats"} <= set(sections("everything"))
    assert sections("server", "clients") == [b"Server", b"Clients"]
    assert sections("clients", "SERVER", "clients") == [b"Server", b"Clients"]
    assert sections("nosuchsection") == []
    assert conn.ok("INFO", "nosuchsection") == b""
    if env.is_kettle:
        assert b"TLS" in sections("everything")
        assert sections("tls") == [b"TLS"]


def test_info_in_resp3_is_verbatim(server):
    with server.connect(proto=3) as conn:
        node = conn.node("INFO", "server")
        assert node.kind == "=" and node.value.startswith(b"txt:# Server\r\n")
        assert conn.node("CLIENT", "LIST").kind == "="
        assert conn.node("CLIENT", "INFO").kind == "="
        assert conn.node("LOLWUT").kind == "="


def test_time(conn):
    seconds, micros = conn.ok("TIME")
    assert abs(int(seconds) - time.time()) < 5 and 0 <= int(micros) < 1000000
    assert conn.err("TIME", "x") == "ERR wrong number of arguments for 'time' command"


def test_lolwut(conn):
    for args in ((), ("VERSION", "5"), ("VERSION", "6"), ("VERSION", "99")):
        assert len(conn.ok("LOLWUT", *args)) >= 17
    assert conn.ok("LOLWUT").rstrip(b"\n").splitlines()[-1].startswith(b"Redis ver. ")


def test_debug_object_serializedlength(conn):
    for value, size in ((b"10", 2), (b"-128", 2), (b"1000", 3), (b"100000", 5), (b"2147483648", 11), (b"01", 3), (b"", 1),
                        (bytes(range(70)), 72), (os.urandom(20000), 20005)):
        conn.ok("SET", "k", value)
        assert "serializedlength:%d " % size in conn.ok("DEBUG", "OBJECT", "k"), value[:12]


def test_debug(conn):
    started = time.monotonic()
    assert conn("DEBUG", "SLEEP", "0.2") == "OK"
    assert time.monotonic() - started >= 0.19
    conn.ok("SET", "k", "hello")
    reply = conn.ok("DEBUG", "OBJECT", "k")
    assert re.fullmatch(r"Value at:0x[0-9a-f]+ refcount:1 encoding:embstr serializedlength:\d+ lru:\d+ "
                        r"lru_seconds_idle:\d+", reply), reply
    run(conn, """
        DEBUG OBJECT nosuch => -ERR no such key
        DEBUG SET-ACTIVE-EXPIRE 1
        DEBUG NOSUCH => -ERR unknown subcommand or wrong number of arguments for 'NOSUCH'. Try DEBUG HELP.
        DEBUG => -ERR wrong number of arguments for 'debug' command
    """)


def test_debug_is_refused_by_default(make_server):
    server = make_server(directives={"enable-debug-command": None})
    with server.connect() as conn:
        assert conn.err("DEBUG", "SLEEP", "0") == (
            'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a '
            'local connection, otherwise you need to set this option in the configuration file, and then restart the '
            'server.')
    server = make_server(directives={"enable-debug-command": "local"})
    with server.connect() as conn:
        assert conn("DEBUG", "SLEEP", "0") == "OK"


def test_memory_usage(c):
    run(c, f"""
        MEMORY USAGE nosuch => nil
        SET k v
        MEMORY USAGE k => /^:\\d+$/
        MEMORY USAGE k SAMPLES 5 => /^:\\d+$/
        MEMORY USAGE k SAMPLES 0 => /^:\\d+$/
        MEMORY USAGE k SAMPLES -1 => {SYNTAX}
        MEMORY USAGE k FOO => {SYNTAX}
        MEMORY USAGE => {arity('memory|usage')}
        MEMORY NOSUCH => -ERR unknown subcommand 'NOSUCH'. Try MEMORY HELP.
    """)
    c.ok("SET", "big", b"x" * 100000)
    assert 100000 <= c("MEMORY", "USAGE", "big") < 140000
    assert c("MEMORY", "USAGE", "k") < 200


@pytest.mark.parametrize("how", [("SHUTDOWN",), ("SHUTDOWN", "NOSAVE"), ("SHUTDOWN", "NOSAVE", "NOW"),
                                 ("SHUTDOWN", "NOSAVE", "FORCE"), ("shutdown", "nosave", "now", "force")],
                         ids=lambda how: "-".join(how[1:]) or "plain")
def test_shutdown(make_server, how):
    server = make_server()
    with server.connect() as conn, server.connect() as other:
        other.ok("SET", "k", "v")
        conn.send(encode(*how))
        assert conn.read_until_eof() == b""
        assert other.read_until_eof() == b""
    assert server.wait_exit() == 0


def test_shutdown_errors(conn):
    run(conn, f"""
        SHUTDOWN FOO => {SYNTAX}
        SHUTDOWN SAVE NOSAVE => {SYNTAX}
        SHUTDOWN ABORT => -ERR No shutdown in progress.
        SHUTDOWN ABORT NOW => {SYNTAX}
        MULTI
        SHUTDOWN => -ERR Command not allowed inside a transaction
        DISCARD
        PING => +PONG
    """)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_signals_end_in_order(make_server, sig):
    server = make_server()
    conns = [server.connect() for _ in range(10)]
    server.proc.send_signal(sig)
    for conn in conns:
        assert conn.read_until_eof() == b""
        conn.close()
    assert server.wait_exit() == 0
    assert re.search("(?i)%s|shut" % sig.name, server.log())


def test_sighup_and_sigpipe_do_nothing(make_server):
    server = make_server()
    for sig in (signal.SIGHUP, signal.SIGPIPE):
        server.proc.send_signal(sig)
    time.sleep(0.2)
    with server.connect() as conn:
        assert conn("PING") == "PONG"


def test_maxmemory_refuses_writes(conn):
    conn.ok("CONFIG", "SET", "maxmemory", "1")
    try:
        run(conn, """
            SET k v => -OOM command not allowed when used memory > 'maxmemory'.
            GET k => nil
            DEL k => :0
            PING => +PONG
            MULTI
            SET k v => -OOM command not allowed when used memory > 'maxmemory'.
            EXEC => -EXECABORT Transaction discarded because of previous errors.
        """)
    finally:
        conn.ok("CONFIG", "SET", "maxmemory", "0")
    assert conn("SET", "k", "v") == "OK"
    assert not isinstance(conn("INFO", "memory"), ReplyError)
    wait_for(lambda: conn("PING") == "PONG", 1)
