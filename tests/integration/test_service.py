# SPDX-License-Identifier: BSD-3-Clause
"""The server as a service: supervisors, daemon, crash report, the stock configuration, INFO as monitoring wants it."""
import os
import re
import signal
import socket
import subprocess
import time

import pytest

import harness
from harness import wait_for

STOCK_CONFIG = "/etc/redis/redis.conf"

# What redis-server 7.0 shows beyond the fields test_server_cmds.py asks for.
REDIS_FIELDS = """used_memory_lua used_memory_vm_eval used_memory_lua_human used_memory_scripts_eval number_of_cached_scripts
    number_of_functions number_of_libraries used_memory_vm_functions used_memory_vm_total used_memory_functions
    used_memory_scripts allocator_rss_ratio allocator_rss_bytes rss_overhead_ratio rss_overhead_bytes
    mem_not_counted_for_evict mem_replication_backlog mem_total_replication_buffers mem_clients_slaves mem_cluster_links
    mem_aof_buffer current_cow_peak current_cow_size current_cow_size_age current_fork_perc current_save_keys_processed
    current_save_keys_total rdb_last_save_time rdb_last_bgsave_status rdb_last_bgsave_time_sec rdb_current_bgsave_time_sec
    rdb_saves rdb_last_cow_size rdb_last_load_keys_expired rdb_last_load_keys_loaded aof_rewrite_scheduled
    aof_last_rewrite_time_sec aof_current_rewrite_time_sec aof_last_bgrewrite_status aof_rewrites
    aof_rewrites_consecutive_failures aof_last_write_status aof_last_cow_size module_fork_in_progress
    total_net_repl_input_bytes total_net_repl_output_bytes instantaneous_input_repl_kbps instantaneous_output_repl_kbps
    expire_cycle_cpu_milliseconds total_eviction_exceeded_time current_eviction_exceeded_time pubsubshard_channels
    migrate_cached_sockets slave_expires_tracked_keys active_defrag_hits active_defrag_misses active_defrag_key_hits
    active_defrag_key_misses total_active_defrag_time current_active_defrag_time tracking_total_keys tracking_total_items
    tracking_total_prefixes reply_buffer_shrinks reply_buffer_expands used_cpu_sys_main_thread
    used_cpu_user_main_thread""".split()


def test_info_has_every_field_of_redis(server):
    with server.connect() as conn:
        info = conn.info("everything")
        missing = [name for name in REDIS_FIELDS if name not in info]
        assert not missing, missing
        assert int(info["used_memory_startup"]) > 0
        assert int(info["used_memory_overhead"]) >= int(info["used_memory_startup"])


class Supervisor:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, folder):
        self.path = os.path.join(str(folder), "notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.settimeout(20)

    def read(self):
        return self.sock.recv(1000).decode().splitlines()


@pytest.fixture
def supervisor(tmp_path, monkeypatch):
    found = Supervisor(tmp_path)
    monkeypatch.setenv("NOTIFY_SOCKET", found.path)
    yield found
    found.sock.close()


@pytest.mark.parametrize("mode", ["systemd", "auto"])
def test_supervised_by_systemd(make_server, supervisor, mode, env):
    if not env.is_kettle:
        pytest.skip("redis-server may be built without libsystemd")
    server = make_server(directives={"supervised": mode, "daemonize": "yes"})  # who is supervised stays in the foreground
    assert "READY=1" in supervisor.read()
    with server.connect() as conn:
        assert conn.info("server")["process_supervised"] == "systemd"
        assert conn.info("server")["process_id"] == str(server.proc.pid)
    server.proc.terminate()
    assert "STOPPING=1" in supervisor.read()
    assert server.wait_exit() == 0


def test_supervisor_is_told_of_a_replica(make_server, supervisor, env, transport):
    if not env.is_kettle or transport != "tcp":
        pytest.skip("what is told does not depend on the transport")
    primary = make_server()
    replica = make_server(directives={"supervised": "systemd", "replicaof": ["127.0.0.1", str(primary.port)], "save": "3600 1"})
    waits = "STATUS=Ready to accept connections in read-only mode. Waiting for MASTER <-> REPLICA sync"
    assert supervisor.read() == [waits, "READY=1"]
    assert supervisor.read() == ["STATUS=MASTER <-> REPLICA sync: Finished with success. Ready to accept connections in read-write mode."]
    with primary.connect() as conn:
        conn.ok("CLIENT", "KILL", "TYPE", "replica")
    assert supervisor.read() == ["STATUS=MASTER <-> REPLICA sync: Partial Resynchronization accepted. Ready to accept connections in "
                                 "read-write mode."]
    assert "Reconnecting to MASTER 127.0.0.1:%d\n" % primary.port in replica.log()
    replica.proc.terminate()
    assert supervisor.read() == ["STATUS=Saving the final RDB snapshot"]
    assert supervisor.read() == ["STOPPING=1"]
    assert replica.wait_exit() == 0


def test_not_supervised(make_server, supervisor):
    server = make_server()
    with server.connect() as conn:
        assert conn.info("server")["process_supervised"] == "no"
    supervisor.sock.settimeout(0.2)
    with pytest.raises(OSError):
        supervisor.read()


def alive(pid):
    try:
        os.kill(pid, 0)
        return True
    except OSError:
        return False


def test_daemon(env, transport, tmp_path):
    pidfile, log = tmp_path / "d.pid", tmp_path / "d.log"
    server = harness.Server(env, transport, start=False, directives={
        "daemonize": "yes", "pidfile": str(pidfile), "logfile": str(log)})
    pid = 0
    try:
        server.port = harness.free_port() if server.use_plain else 0
        server.tls_port = harness.free_port() if server.use_tls else 0
        server.spawn()
        assert server.proc.wait(timeout=env.timeout(10)) == 0
        wait_for(lambda: pidfile.exists() and pidfile.read_text().strip(), env.timeout(10), what="the pid file")
        pid = int(pidfile.read_text())
        assert pid != server.proc.pid and os.getsid(pid) == pid
        wait_for(lambda: "Ready to accept connections" in log.read_text(), env.timeout(10), what="the daemon")
        with server.connect() as conn:
            assert conn("PING") == "PONG"
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: not pidfile.exists() and not alive(pid), env.timeout(10), what="the daemon to end")
        said = log.read_text()
        assert -1 < said.find("User requested shutdown...") < said.find("Removing the pid file.") < said.find("ready to exit, bye bye")
    finally:
        if pid and alive(pid):
            os.kill(pid, signal.SIGKILL)
        server.cleanup()


@pytest.mark.parametrize("where", ["main thread", "I/O thread"])
def test_crash_report(make_server, env, where):
    if env.sanitizer:
        pytest.skip("the sanitizer reports crashes itself")
    server = make_server(directives={"io-threads": "2"}, expect_exit=-signal.SIGSEGV)

    def io_thread():
        """It may not have its name yet."""
        threads = sorted(int(t) for t in os.listdir("/proc/%d/task" % server.proc.pid))
        names = {open("/proc/%d/task/%d/comm" % (server.proc.pid, t)).read().strip(): t for t in threads}
        return names.get("io_thd_1")
    target = server.proc.pid if where == "main thread" else wait_for(io_thread)
    assert subprocess.run(["/usr/bin/python3", "-c", "import ctypes; ctypes.CDLL(None).syscall(234, %d, %d, 11)" % (
        server.proc.pid, target)]).returncode == 0
    assert server.proc.wait(timeout=10) == -signal.SIGSEGV
    log = server.log()
    assert "BUG REPORT START" in log and "crashed by signal: SIGSEGV" in log and "STACK TRACE" in log
    assert len(re.findall(r"\[0x[0-9a-f]+\]", log)) > 4
    server.ok_sanitizer = True


@pytest.mark.skipif(not os.access(STOCK_CONFIG, os.R_OK), reason="no readable " + STOCK_CONFIG)
def test_the_stock_configuration_starts(env, tmp_path):
    port = harness.free_port()
    proc = subprocess.Popen([env.server, STOCK_CONFIG, "--dir", str(tmp_path), "--logfile", "", "--daemonize", "no", "--pidfile",
                             str(tmp_path / "pid"), "--port", str(port), "--bind", "127.0.0.1"],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        def ready():
            try:
                with socket.create_connection(("127.0.0.1", port), 1) as sock:
                    sock.sendall(b"PING\r\n")
                    return sock.recv(100) == b"+PONG\r\n"
            except OSError:
                return False
        wait_for(ready, env.timeout(10), what="the server")
        time.sleep(0.1)
    finally:
        proc.terminate()
        out = proc.communicate(timeout=env.timeout(10))[0]
    assert proc.returncode == 0, out
