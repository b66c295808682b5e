# SPDX-License-Identifier: BSD-3-Clause
"""The kernel security floor and the key log file: what the server says, and what it then does.

The kernel's release is faked by a preloaded uname(), so that every kernel can play one with a known hole.
"""
import os
import re
import stat
import subprocess

import pytest

pytestmark = pytest.mark.transports("tls-user", "tls-kernel")

FAKE_UNAME = r"""
#define _GNU_SOURCE
#include <string.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>
int uname(struct utsname *u) {
    int r = (int)syscall(SYS_uname, u);
    const char *fake = getenv("FAKE_RELEASE");
    if (r == 0 && fake) {
        strncpy(u->release, fake, sizeof u->release - 1);
        strcpy(u->version, "#1 SMP");
    }
    return r;
}
"""


@pytest.fixture
def kettle_only(env):
    if not env.is_kettle:
        pytest.skip("Kettle's own directives")


@pytest.fixture
def kernel(tmp_path, monkeypatch, pytestconfig):
    """kernel("6.1.100"): servers started from now on believe to run on it."""
    if pytestconfig.getoption("--sanitizer"):
        pytest.skip("a sanitizer's library must be the first one loaded")
    source, library = tmp_path / "uname.c", tmp_path / "uname.so"
    source.write_text(FAKE_UNAME)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)

    def fake(release):
        monkeypatch.setenv("FAKE_RELEASE", release)
        monkeypatch.setenv("LD_PRELOAD", str(library))
    return fake


def tls_info(server):
    with server.connect() as conn:
        return conn.info("tls")


def test_auto_is_held_back_by_a_hole_that_a_peer_can_use(make_server, transport, kernel, kettle_only):
    kernel("6.1.100-test")
    server = make_server(directives={"tls-ktls": "auto", "enable-protected-configs": "yes"}, check_ktls=False)
    info = tls_info(server)
    assert "CVE-2025-39682" in info["tls_kernel_advisories"] or info["tls_kernel_usable"] == "0"
    if transport != "tls-kernel":
        return
    assert int(info["tls_fallback_advisory"]) >= 1 and int(info["tls_total_connections_ktls"]) == 0
    log = server.log()
    for cve in ("CVE-2025-39682", "CVE-2025-39946", "CVE-2025-38616", "CVE-2026-23240"):
        assert len(re.findall(r"WARNING.*%s" % cve, log)) == 1, cve
    assert "tls-ktls-accept-advisories" in log
    with server.connect() as conn:
        assert "tls=user:" in str(conn("CLIENT", "LIST"))
        conn.ok("CONFIG", "SET", "tls-ktls-accept-advisories", "yes")
    assert int(tls_info(server)["tls_connections_ktls"]) >= 1
    with server.connect() as conn:
        conn.ok("CONFIG", "SET", "tls-ktls-accept-advisories", "no")
    assert int(tls_info(server)["tls_fallback_advisory"]) >= 2
    assert server.log().count("CVE-2025-39682") == 1, "said once"


def test_yes_is_never_refused(make_server, transport, kernel, kettle_only):
    if transport != "tls-kernel":
        pytest.skip("tls-ktls yes needs kernel TLS")
    kernel("6.1.100-test")
    server = make_server(directives={"tls-ktls": "yes"})
    assert "CVE-2025-39682" in server.log()
    assert int(tls_info(server)["tls_connections_ktls"]) >= 1


def test_holes_that_need_a_local_process_only_warn(make_server, transport, kernel, kettle_only):
    if transport != "tls-kernel":
        pytest.skip("what is warned of is kernel TLS")
    kernel("6.1.160-test")
    server = make_server(directives={"tls-ktls": "auto"})
    assert tls_info(server)["tls_kernel_advisories"] == "CVE-2025-38616,CVE-2026-23240,CVE-2026-23414"
    assert int(tls_info(server)["tls_connections_ktls"]) >= 1
    assert re.search(r"WARNING.*CVE-2025-38616.*Fixed in Linux 6\.1\.185", server.log())


def test_a_kernel_without_holes_is_silent(make_server, kernel, kettle_only):
    kernel("7.4.1")
    server = make_server(directives={"tls-ktls": "auto"}, check_ktls=False)
    assert tls_info(server)["tls_kernel_advisories"] == ""
    assert "CVE-" not in server.log()


def test_probe_names_the_holes(env, kernel, kettle_only):
    import json
    kernel("6.12.40")
    probe = os.path.join(os.path.dirname(env.server), "ktls-probe")
    text = subprocess.run([probe], stdout=subprocess.PIPE).stdout.decode()
    assert re.search(r"CVE-2025-39682: .*a peer alone can.*Fixed in Linux 6\.12\.44", text)
    found = json.loads(subprocess.run([probe, "--json"], stdout=subprocess.PIPE).stdout)["advisories"]
    assert [a["cve"] for a in found if a["peer"]] == ["CVE-2025-39682", "CVE-2025-39946"]
    assert found[0]["fixed_in"] == "6.12.44"


# ---- the key log file ----

def test_key_log_is_off_by_default(make_server, kettle_only, monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    server = make_server()
    info = tls_info(server)
    assert info["tls_key_log_lines"] == "0" and not (tmp_path / "keys").exists()


def test_key_log_by_directive(make_server, kettle_only, tmp_path):
    path = tmp_path / "keys"
    server = make_server(directives={"tls-key-log-file": str(path), "enable-protected-configs": "yes"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert re.search(r"WARNING: tls-key-log-file.*%s" % re.escape(str(path)), server.log())
    info = tls_info(server)
    lines = path.read_text().splitlines()
    assert len(lines) == int(info["tls_key_log_lines"]) >= 5
    assert {line.split()[0] for line in lines} >= {"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_TRAFFIC_SECRET_0"}
    # What the client logs of its connection stands in the server's file.
    theirs = tmp_path / "theirs"
    context = server.context()
    context.keylog_filename = str(theirs)
    with server.connect() as conn:
        conn("PING")
        ours = set(path.read_text().splitlines())
        assert {line for line in theirs.read_text().splitlines() if not line.startswith("#")} <= ours
        # Off, and on again: CONFIG SET warns.
        conn.ok("CONFIG", "SET", "tls-key-log-file", "")
        size = path.stat().st_size
        with server.connect() as other:
            other("PING")
        assert path.stat().st_size == size
        before = server.log().count("WARNING: tls-key-log-file")
        conn.ok("CONFIG", "SET", "tls-key-log-file", str(path))
        assert server.log().count("WARNING: tls-key-log-file") == before + 1
        path.chmod(0o644)
        assert isinstance(conn("CONFIG", "SET", "tls-key-log-file", str(path)), Exception)


def test_key_log_is_a_protected_directive(make_server, kettle_only, tmp_path):
    server = make_server()
    with server.connect() as conn:
        assert isinstance(conn("CONFIG", "SET", "tls-key-log-file", str(tmp_path / "keys")), Exception)
