# SPDX-License-Identifier: BSD-3-Clause
"""How the server is configured: file, arguments, stdin, include, and what it says about mistakes."""
import os
import re
import subprocess

import pytest

import harness


def one(conn, name):
    return conn.ok("CONFIG", "GET", name)[1].decode()


def refused(env, transport, **kwargs):
    """Starts a server that must not come up; returns its exit status and what it said."""
    server = harness.Server(env, transport, start=False, **kwargs)
    try:
        server.port = harness.free_port() if server.use_plain else 0
        server.tls_port = harness.free_port() if server.use_tls else 0
        server.spawn()
        try:
            code = server.wait_exit(10)
        except subprocess.TimeoutExpired:
            server.kill()
            raise AssertionError("the server started: " + server.log())
        return code, server.log()
    finally:
        server.cleanup()


def test_config_file(make_server):
    server = make_server(config="""
# comment
   # indented comment
timeout 33
maxmemory 10mb
 hz   20
proc-title-template "{title} x"
tcp-keepalive "60"
client-output-buffer-limit normal 1mb 2mb 3
loglevel 'verbose'
TIMEOUT 34
""")
    with server.connect() as conn:
        assert one(conn, "timeout") == "34" and one(conn, "maxmemory") == "10485760" and one(conn, "hz") == "20"
        assert one(conn, "tcp-keepalive") == "60" and one(conn, "loglevel") == "verbose"
        assert one(conn, "proc-title-template") == "{title} x"
        assert one(conn, "client-output-buffer-limit").startswith("normal 1048576 2097152 3 ")
        assert conn.info("server")["config_file"] == os.path.join(server.dir, "kettle.conf")


def test_arguments_override_the_file(make_server):
    server = make_server(config="timeout 33\nhz 20\n", directives={"timeout": "44"})
    with server.connect() as conn:
        assert one(conn, "timeout") == "44" and one(conn, "hz") == "20"


def test_arguments_with_several_values(make_server):
    server = make_server(directives={"client-output-buffer-limit": ["normal", "1mb", "1mb", "5"], "timeout": "7"})
    with server.connect() as conn:
        assert one(conn, "client-output-buffer-limit").startswith("normal 1048576 1048576 5 ")
        assert one(conn, "timeout") == "7"


def test_stdin(make_server):
    server = make_server(config="timeout 21\nmaxmemory 3mb\n", config_stdin=True)
    with server.connect() as conn:
        assert one(conn, "timeout") == "21" and one(conn, "maxmemory") == "3145728"


def test_stdin_beats_the_file_and_arguments_beat_both(make_server):
    server = make_server(config="timeout 21\nhz 20\n", config_stdin=True, directives={"hz": "30"})
    with server.connect() as conn:
        assert one(conn, "timeout") == "21" and one(conn, "hz") == "30"


def test_several_words_in_one_argument(make_server):
    server = make_server(config='save "900 1 300 10"\n', directives={
        "save": None, "bind": "127.0.0.1 127.0.0.2", "client-output-buffer-limit": "normal 1mb 2mb 3 pubsub 1mb 2mb 4"})
    with server.connect(host="127.0.0.2") as conn:
        assert one(conn, "save") == "900 1 300 10" and one(conn, "bind") == "127.0.0.1 127.0.0.2"
        limits = one(conn, "client-output-buffer-limit")
        assert limits.startswith("normal 1048576 2097152 3 ") and limits.endswith(" pubsub 1048576 2097152 4")


def test_a_value_that_looks_like_an_option(make_server):
    server = make_server(directives={"requirepass": "--secret"})
    with server.connect() as conn:
        assert conn("AUTH", "--secret") == "OK"
        conn.ok("CONFIG", "SET", "requirepass", "")


def test_dir_takes_effect_where_it_stands(make_server, tmp_path):
    (tmp_path / "inner.conf").write_text("timeout 55\n")
    (tmp_path / "sub").mkdir()
    server = make_server(config="dir %s\ninclude inner.conf\n" % tmp_path, directives={"dir": "sub"})
    with server.connect() as conn:
        assert one(conn, "timeout") == "55" and one(conn, "dir") == str(tmp_path / "sub")


def test_rewrite_keeps_comments_includes_and_the_directory(make_server, tmp_path):
    inner = tmp_path / "inner.conf"
    inner.write_text("# not ours to touch\ntimeout 55\n")
    server = make_server(directives={"dir": None, "enable-protected-configs": "yes"},
                         config="# first\ninclude %s\n\n   # indented\nhz 20\nrename-command LOLWUT teapot\n" % inner)
    with server.connect() as conn:
        conn.ok("CONFIG", "SET", "hz", "30", "timeout", "66", "dir", str(tmp_path))
        conn.ok("CONFIG", "REWRITE")
    with open(os.path.join(server.dir, "kettle.conf")) as handle:
        lines = handle.read().splitlines()
    assert lines[:6] == ["# first", "include %s" % inner, "", "   # indented", "hz 30", "rename-command LOLWUT teapot"]
    assert "timeout 66" in lines and "dir %s" % tmp_path in lines
    assert inner.read_text() == "# not ours to touch\ntimeout 55\n"
    server.proc.terminate()
    server.wait_exit()
    out = subprocess.run([server.env.server, os.path.join(server.dir, "kettle.conf"), "--port", "0", "--tls-port", "0",
                          "--unixsocket", "/nonexistent/k.sock", "--logfile", ""],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=server.env.timeout(10))
    assert b"FATAL CONFIG" not in out.stdout


def test_texts_with_a_grammar(make_server):
    server = make_server()
    with server.connect() as conn:
        conn.ok("CONFIG", "SET", "notify-keyspace-events", "KEA")
        assert one(conn, "notify-keyspace-events") == "AKE"
        conn.ok("CONFIG", "SET", "notify-keyspace-events", "Elg$m")
        assert one(conn, "notify-keyspace-events") == "g$lEm"
        assert "Invalid event class character" in conn.err("CONFIG", "SET", "notify-keyspace-events", "?")
        assert conn.err("CONFIG", "SET", "oom-score-adj-values", "1 2").endswith("wrong number of arguments")
        assert "must be between -2000 and 2000" in conn.err("CONFIG", "SET", "oom-score-adj-values", "1 2 3000")
        assert "must be one of the following" in conn.err("CONFIG", "SET", "shutdown-on-sigterm", "perhaps")
        assert one(conn, "notify-keyspace-events") == "g$lEm" and one(conn, "oom-score-adj-values") == "0 200 800"


def test_include(make_server, tmp_path):
    inner = tmp_path / "inner.conf"
    inner.write_text("timeout 55\nhz 30\n")
    (tmp_path / "second.conf").write_text("maxmemory 2mb\n")
    server = make_server(config="timeout 1\ninclude %s\ninclude %s/sec*.conf\nhz 40\n" % (inner, tmp_path))
    with server.connect() as conn:
        assert one(conn, "timeout") == "55" and one(conn, "hz") == "40" and one(conn, "maxmemory") == "2097152"


@pytest.mark.parametrize("text,what", [
    ("nosuchdirective 1", "Bad directive or wrong number of arguments"),
    ("timeout", "Bad directive or wrong number of arguments|wrong number of arguments"),
    ("timeout abc", "argument couldn't be parsed into an integer"),
    ("timeout -5", "argument must be between 0 and 2147483647 inclusive"),
    ("port 70000", "argument must be between 0 and 65535 inclusive"),
    ("maxmemory 5qb", "argument must be a memory value"),
    ("protected-mode maybe", "argument must be 'yes' or 'no'"),
    ("loglevel loud", "must be one of the following"),
    ("timeout \"1", "Unbalanced quotes in configuration line"),
    ("tls-auth-clients sometimes", "must be one of the following"),
    ("include /nonexistent/file.conf", "nonexistent"),
    ("client-output-buffer-limit bogus 1 1 1", "client class|Unrecognized|wrong number|Wrong number"),
    ("maxmemory-policy sometimes", "must be one of the following"),
], ids=lambda value: re.sub(r"\W+", "_", value)[:40])
def test_mistakes_in_the_file(env, transport, text, what):
    code, log = refused(env, transport, config="timeout 1\n%s\n" % text, defaults=False)
    assert code == 1
    assert re.search(what, log), log
    if "include" not in text:
        assert "*** FATAL CONFIG FILE ERROR" in log and "Reading the configuration file, at line 2" in log
        assert ">>> '%s'" % text in log


def test_mistakes_in_arguments(env, transport):
    code, log = refused(env, transport, directives={"nosuchdirective": "1"})
    assert code == 1
    assert "*** FATAL CONFIG FILE ERROR" in log
    assert ">>> 'nosuchdirective" in log and "Bad directive or wrong number of arguments" in log


def test_missing_config_file(env):
    out = subprocess.run([env.server, "/nonexistent/kettle.conf"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         timeout=env.timeout(10))
    assert out.returncode == 1
    assert re.search(rb"can't open config file '/nonexistent/kettle.conf': No such file or directory", out.stdout)


def test_version_and_help(env):
    for flag in ("--version", "-v"):
        out = subprocess.run([env.server, flag], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             timeout=env.timeout(10))
        assert out.returncode == 0
        assert re.search(rb"server v=[\d.]+ .*malloc=\S+ bits=64", out.stdout), out.stdout
    for flag in ("--help", "-h"):
        out = subprocess.run([env.server, flag], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             timeout=env.timeout(10))
        assert b"Usage: ./" in out.stdout or b"Usage:" in out.stdout


def test_port_in_use(env, transport, make_server):
    first = make_server()
    directives = {"tls-port" if first.use_tls else "port": str(first.any_port())}
    code, log = refused(env, transport, directives=directives)
    assert code == 1
    assert re.search(r"(?i)bind: Address already in use|Failed listening on port", log), log


def test_dir_and_logfile(make_server):
    server = make_server()
    with server.connect() as conn:
        assert one(conn, "dir") == server.dir and one(conn, "logfile") == server.log_path
    assert "Ready to accept connections" in server.log()


def test_missing_directory(env, transport):
    code, log = refused(env, transport, directives={"dir": "/nonexistent-dir"})
    assert code == 1 and "No such file or directory" in log


def test_pidfile(make_server, tmp_path):
    path = tmp_path / "kettle.pid"
    server = make_server(directives={"pidfile": str(path)})
    assert int(path.read_text()) == server.proc.pid
    server.proc.terminate()
    server.wait_exit()
    assert not path.exists()


def test_databases(make_server):
    server = make_server(directives={"databases": "3"})
    with server.connect() as conn:
        assert conn("SELECT", 2) == "OK"
        assert conn.err("SELECT", 3) == "ERR DB index is out of range"


def test_empty_save_and_comment_only_file(make_server):
    server = make_server(config="# nothing but comments\n\n\n")
    with server.connect() as conn:
        assert conn("PING") == "PONG"
        assert one(conn, "save") == ""


def test_start_up_lines_name_the_ports(make_server):
    server = make_server()
    log = server.log()
    if server.use_tls:
        assert re.search(r"Ready to accept connections( tls|)", log)
        if server.env.is_kettle:
            assert str(server.tls_port) in log
    else:
        assert str(server.port) in log or "Ready to accept connections" in log
