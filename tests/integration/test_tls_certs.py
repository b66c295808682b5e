# SPDX-License-Identifier: BSD-3-Clause
"""Certificates: several kinds, names, chains, revocation, OCSP, groups, user names, suites; and all of it changed while running."""
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest

import harness
import resp
from harness import wait_for
from interactive import s_client
from test_tls import V12, V13, exercise, path_name, refused, tls_field, tls_info

pytestmark = pytest.mark.transports("tls-user", "tls-kernel")


@pytest.fixture(autouse=True)
def kettle_only(env):
    if not env.is_kettle:
        pytest.skip("what Kettle adds to Redis")


def connect(server, name=None, **kwargs):
    """A connection that asks for a name; the chain is verified, the name only where one is given."""
    context = harness.client_context(server.env, **kwargs)
    context.check_hostname = name is not None
    sock = socket.create_connection((server.host, server.tls_port), server.env.timeout(10))
    try:
        sock = context.wrap_socket(sock, server_hostname=name)
    except Exception:
        sock.close()
        raise
    return resp.Conn(sock, server.env.timeout(10), server=server)


def common_name(conn):
    return dict(x[0] for x in conn.sock.getpeercert()["subject"])["commonName"]


def served(server, name=None, **kwargs):
    with connect(server, name, **kwargs) as conn:
        assert conn("PING") == "PONG"
        return common_name(conn)


def subject_for(server, *args):
    """The subject that openssl s_client is shown."""
    out = s_client(server, ["PING\r\n", "quit\r\n"], *args)
    assert "+PONG" in out, out
    return re.search(r"^subject=.*CN = (\S+)", out, re.M).group(1)


def set_ok(server, *args):
    with server.connect() as conn:
        assert conn("CONFIG", "SET", *args) == "OK"


def set_refused(server, log, *args):
    with server.connect() as conn:
        assert conn.err("CONFIG", "SET", *args).endswith("Unable to update TLS configuration. Check server logs.")
    server.wait_log(log)


def client_field(conn, name):
    return re.search(r" %s=(\S*)" % name, conn.ok("CLIENT", "INFO").decode()).group(1)


# ---- kinds and chains

# s_client has an ECDSA certificate of its own, which it cannot use when it knows RSA only: the server does not ask for one.
NO_CLIENT_CERT = {"tls-auth-clients": "no"}
RSA_ONLY = ("-sigalgs", "RSA-PSS+SHA256:RSA+SHA256")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_two_kinds_of_certificate(make_server, env, version):
    server = make_server(directives={**NO_CLIENT_CERT, "tls-alt-cert-file": env.cert("server-rsa.crt"),
                                     "tls-alt-key-file": env.cert("server-rsa.key")})
    for sigalgs, key in (("ECDSA+SHA256", "EC"), ("RSA-PSS+SHA256:RSA+SHA256", "RSA")):
        out = s_client(server, ["PING\r\n", "quit\r\n"], version, "-sigalgs", sigalgs)
        assert "+PONG" in out, out
        assert ("Peer signature type: %s" % ("ECDSA" if key == "EC" else "RSA")) in out, out
    info = tls_info(server)
    assert (info["tls_certs"], info["tls_cert0_key"], info["tls_cert1_key"]) == ("2", "EC", "RSA")
    assert (info["tls_cert0_use"], info["tls_cert1_use"]) == ("default", "alternative")
    assert int(info["tls_cert1_days_left"]) > 300 and info["tls_cert1_file"] == env.cert("server-rsa.crt")


def test_alternative_certificate_comes_and_goes(make_server, env):
    server = make_server(directives=NO_CLIENT_CERT)
    assert "handshake failure" in s_client(server, [], *RSA_ONLY).lower()
    set_refused(server, "without a key file", "tls-alt-cert-file", env.cert("server-rsa.crt"))
    set_ok(server, "tls-alt-cert-file", env.cert("server-rsa.crt"), "tls-alt-key-file", env.cert("server-rsa.key"))
    assert "+PONG" in s_client(server, ["PING\r\n", "quit\r\n"], *RSA_ONLY)
    set_refused(server, "are both of type EC", "tls-alt-cert-file", env.cert("server2.crt"), "tls-alt-key-file",
                env.cert("server2.key"))
    set_ok(server, "tls-alt-cert-file", "", "tls-alt-key-file", "")
    assert "handshake failure" in s_client(server, [], *RSA_ONLY).lower()


def test_encrypted_alternative_key(make_server, env, tmp_path):
    key = str(tmp_path / "enc.key")
    subprocess.run(["openssl", "pkey", "-in", env.cert("server-rsa.key"), "-aes256", "-passout", "pass:other words",
                    "-out", key], check=True)
    server = make_server(directives={**NO_CLIENT_CERT, "tls-alt-cert-file": env.cert("server-rsa.crt"), "tls-alt-key-file": key,
                                     "tls-alt-key-file-pass": "other words"})
    assert "+PONG" in s_client(server, ["PING\r\n", "quit\r\n"], *RSA_ONLY)
    set_refused(server, "is the passphrase right", "tls-alt-key-file-pass", "wrong")


def test_chain_file(make_server, env):
    server = make_server(directives={"tls-cert-file": env.cert("server-chain.crt"),
                                     "tls-key-file": env.cert("server-chain.key")})
    assert served(server, "localhost") == "Chained"
    assert tls_info(server)["tls_cert0_chain"] == "1"


def test_expired_certificate_is_told(make_server, env):
    server = make_server()
    set_ok(server, "tls-cert-file", env.cert("expired.crt"), "tls-key-file", env.cert("expired.key"))
    server.wait_log("TLS: certificate '.*expired.crt' .* has expired")
    with connect(server, verify=False) as conn:
        assert int(conn.info("tls")["tls_certs_soonest_days_left"]) < -300
        assert conn("CONFIG", "SET", "tls-cert-file", env.cert("server.crt"), "tls-key-file", env.cert("server.key")) == "OK"
    assert served(server) == "localhost"


# ---- names

def sni_entry(env, pattern, cert):
    return [pattern, env.cert(cert + ".crt"), env.cert(cert + ".key")]


def test_certificates_by_name(make_server, env):
    words = sni_entry(env, "A.example.org", "sni-a") + sni_entry(env, "*.example.org", "sni-wild")
    server = make_server(directives={"tls-sni-cert": words})
    default = served(server, "localhost")
    for name, want in (("a.example.org", "sni-a"), ("b.example.org", "sni-wild"), ("A.EXAMPLE.ORG", "sni-a")):
        assert served(server, name) == want
        assert served(server, name, minimum=V12, maximum=V12) == want
    assert served(server) == default
    for name in ("example.org", "x.y.example.org", "else.test"):
        assert subject_for(server, "-servername", name) == default, name
    with connect(server, "b.example.org") as conn:
        exercise(conn)
        assert tls_field(conn).startswith(path_name(server.transport) + ":")
    info = tls_info(server)
    assert info["tls_certs"] == "3"
    assert sorted(info["tls_cert%d_use" % i] for i in (1, 2)) == ["*.example.org", "a.example.org"]
    assert "sni-wild" in info["tls_cert1_subject"] and int(info["tls_certs_soonest_days_left"]) > 300


def test_names_by_config_set_get_and_rewrite(make_server, env, tmp_path):
    folder = tmp_path / "with space"
    folder.mkdir()
    for name in ("sni-a.crt", "sni-a.key"):
        shutil.copy(env.cert(name), folder / name)
    server = make_server(config="tls-sni-cert *.example.org %s %s\n" % (env.cert("sni-wild.crt"), env.cert("sni-wild.key")))
    assert served(server, "a.example.org") == "sni-wild"
    value = '*.example.org %s %s a.example.org "%s" "%s"' % (
        env.cert("sni-wild.crt"), env.cert("sni-wild.key"), folder / "sni-a.crt", folder / "sni-a.key")
    set_ok(server, "tls-sni-cert", value)
    assert served(server, "a.example.org") == "sni-a"
    with server.connect() as conn:
        assert conn.ok("CONFIG", "GET", "tls-sni-cert")[1].decode() == value
        assert conn("CONFIG", "REWRITE") == "OK"
        for bad in ("a.example.org", "a b", 'a.example.org x y z'):
            assert "wrong number of arguments" in conn.err("CONFIG", "SET", "tls-sni-cert", bad)
    text = open(os.path.join(server.dir, "kettle.conf")).read()
    assert text.count("tls-sni-cert ") == 2, text
    set_refused(server, "is not a DNS name", "tls-sni-cert", "a.*.org x y")
    set_refused(server, "cannot load certificate 'x'", "tls-sni-cert", "a.example.org x y")
    assert served(server, "a.example.org") == "sni-a"
    set_ok(server, "tls-sni-cert", "")
    assert subject_for(server, "-servername", "a.example.org") != "sni-a"


def test_rewritten_names_are_read_again(make_server, env):
    server = make_server(config="")
    set_ok(server, "tls-sni-cert", " ".join(sni_entry(env, "a.example.org", "sni-a") + sni_entry(env, "*.example.org", "sni-wild")))
    with server.connect() as conn:
        assert conn("CONFIG", "REWRITE") == "OK"
    lines = [line for line in open(os.path.join(server.dir, "kettle.conf")) if line.startswith("tls-sni-cert")]
    second = make_server(config="".join(lines))
    assert served(second, "a.example.org") == "sni-a" and served(second, "b.example.org") == "sni-wild"


def test_a_hundred_names(make_server, env):
    server = make_server()
    words = []
    for i in range(100):
        words += sni_entry(env, "*.n%d.example.org" % i, "sni-a")
    set_ok(server, "tls-sni-cert", " ".join(words + sni_entry(env, "last.example.org", "sni-wild")))
    assert subject_for(server, "-servername", "x.n57.example.org") == "sni-a"
    assert served(server, "last.example.org") == "sni-wild"
    set_refused(server, "NoSuch", "tls-groups", "NoSuch")  # what was there is put back whole
    with server.connect() as conn:
        assert len(conn.ok("CONFIG", "GET", "tls-sni-cert")[1].split()) == 303
    assert tls_info(server)["tls_certs"] == "102"


# ---- revocation

@pytest.mark.parametrize("version", [V12, V13], ids=["tls12", "tls13"])
def test_revoked_client(make_server, env, version):
    server = make_server(directives={"tls-crl-file": env.cert("ca.crl")})
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT.*Z", tls_info(server)["tls_crl_next_update"])
    flag = "-tls1_2" if version == V12 else "-tls1_3"
    assert not refused(server, minimum=version, maximum=version)
    assert refused(server, cert="revoked-client", minimum=version, maximum=version)
    server.wait_log(r"certificate verify failed: certificate revoked \(CN=Revoked,O=Kettle Test, serial [0-9A-F]+\)")
    out = s_client(server, ["PING\r\n"], flag, "-cert", env.cert("revoked-client.crt"), "-key", env.cert("revoked-client.key"))
    assert "alert certificate revoked" in out and "+PONG" not in out, out
    assert int(tls_info(server)["tls_handshakes_failed_verify"]) >= 2


def test_a_new_crl_ends_sessions(make_server, env):
    """A revoked client does not come in by an old session."""
    server = make_server()
    context = harness.client_context(env, cert="revoked-client", maximum=V12)
    context.check_hostname = False

    def once(session):
        raw = socket.create_connection((server.host, server.tls_port), env.timeout(10))
        with context.wrap_socket(raw, session=session) as sock:
            sock.sendall(b"PING\r\n")
            assert sock.recv(100) == b"+PONG\r\n"
            return sock.session, sock.session_reused
    session, reused = once(None)
    assert not reused and once(session)[1]
    set_ok(server, "tls-crl-file", env.cert("ca.crl"))
    with pytest.raises((ssl.SSLError, OSError)):
        once(session)
    set_ok(server, "tls-crl-file", "")  # trusted as when the session was made
    assert once(session)[1]


def test_bad_crl_files(make_server, env, tmp_path):
    server = make_server()
    set_refused(server, "cannot load CRLs from '/nonexistent'", "tls-crl-file", "/nonexistent")
    set_refused(server, "cannot load CRLs from", "tls-crl-file", env.cert("ca.crt"))
    assert not refused(server, cert="revoked-client")


# ---- OCSP

@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_ocsp_response_is_stapled(make_server, env, version):
    server = make_server(directives={"tls-ocsp-file": env.cert("server.ocsp"),
                                     "tls-sni-cert": sni_entry(env, "a.example.org", "sni-a")})
    out = s_client(server, ["PING\r\n", "quit\r\n"], "-status", version)
    assert "OCSP Response Status: successful" in out and "Cert Status: good" in out and "+PONG" in out, out
    out = s_client(server, ["quit\r\n"], "-status", version, "-servername", "a.example.org")
    assert "OCSP response: no response sent" in out, out
    assert tls_info(server)["tls_cert0_ocsp"] == "stapled"


def test_wrong_ocsp_responses(make_server, env):
    server = make_server()
    set_refused(server, "is not an OCSP response", "tls-ocsp-file", env.cert("server.crt"))
    set_refused(server, "is about none of the certificates", "tls-cert-file", env.cert("server2.crt"), "tls-key-file",
                env.cert("server2.key"), "tls-ocsp-file", env.cert("server.ocsp"))
    set_ok(server, "tls-ocsp-file", env.cert("server.ocsp"))
    assert tls_info(server)["tls_cert0_ocsp"] == "stapled"


# ---- groups and suites

def test_groups(make_server):
    server = make_server(directives={"tls-groups": "P-384:?X25519MLKEM768:X25519"})
    for group, shown in (("P-384", "secp384r1"), ("X25519", "X25519")):
        out = s_client(server, ["PING\r\n", "quit\r\n"], "-groups", group)
        assert "+PONG" in out and re.search(r"Server Temp Key: .*%s" % shown, out), out
    assert "handshake failure" in s_client(server, [], "-groups", "P-521")
    set_refused(server, "key exchange group 'P-999' is not known", "tls-groups", "X25519:P-999")
    set_ok(server, "tls-groups", "")
    assert "+PONG" in s_client(server, ["PING\r\n", "quit\r\n"], "-groups", "P-521")


@pytest.mark.parametrize("name,value,flags,shown", [
    ("tls-ciphersuites", "TLS_AES_128_CCM_SHA256", ("-ciphersuites", "TLS_AES_128_CCM_SHA256"), "TLS_AES_128_CCM_SHA256"),
    ("tls-ciphers", "ECDHE-ECDSA-AES128-CCM", ("-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-CCM"), "ECDHE-ECDSA-AES128-CCM"),
], ids=["tls13", "tls12"])
def test_ccm_is_on_by_directive(make_server, transport, name, value, flags, shown):
    server = make_server(directives={name: value + ":" + ("TLS_AES_256_GCM_SHA384" if shown[:3] == "TLS" else "ECDHE+AESGCM")})
    out = s_client(server, ["PING\r\n", "CLIENT INFO\r\n", "quit\r\n"], *flags)
    assert "+PONG" in out and re.search(r"tls=%s:TLSv1\.\d:%s" % (path_name(transport), shown), out), out
    set_ok(server, name, "")
    assert "+PONG" not in s_client(server, ["PING\r\n"], *flags)


def test_chacha_first(make_server):
    suites = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
    server = make_server(directives={"tls-prefer-chacha": "yes"})

    def chosen(*flags):
        out = s_client(server, ["CLIENT INFO\r\n", "quit\r\n"], *flags)
        return re.search(r"tls=[\w-]+:TLSv1\.\d:(\S+)", out).group(1)
    assert chosen("-ciphersuites", suites) == "TLS_CHACHA20_POLY1305_SHA256"
    assert chosen("-tls1_2", "-cipher", "ECDHE+AESGCM:ECDHE+CHACHA20") == "ECDHE-ECDSA-CHACHA20-POLY1305"
    set_ok(server, "tls-prefer-chacha", "no")
    assert chosen("-ciphersuites", suites) == "TLS_AES_256_GCM_SHA384"


# ---- user names

def test_user_of_the_certificate(make_server, env):
    server = make_server()
    with server.connect() as conn:
        assert client_field(conn, "tls-user") == ""
    for value, cert, want in (("CN", "client", "Client-only"), ("cn", "user-uri", "uri-user"),
                              ("URI", "user-uri", "urn:kettle:user:alice"), ("san-uri", "client", ""), ("off", "client", "")):
        set_ok(server, "tls-auth-clients-user", value)
        with server.connect(cert=cert) as conn:
            assert client_field(conn, "tls-user") == want
            assert conn.ok("CONFIG", "GET", "tls-auth-clients-user")[1].decode() == {
                "cn": "CN", "san-uri": "URI"}.get(value, value)
    set_ok(server, "tls-auth-clients-user", "CN", "tls-auth-clients", "no")  # not verified: no name
    with server.connect(cert="client") as conn:
        assert client_field(conn, "tls-user") == ""


def test_user_name_with_blanks_stays_one_word(make_server, env, tmp_path):
    csr, crt = str(tmp_path / "c.csr"), str(tmp_path / "c.crt")
    subprocess.run(["openssl", "req", "-new", "-key", env.cert("client.key"), "-utf8", "-subj",
                    "/CN=a b tls-user=root\u00e9", "-out", csr], check=True)
    subprocess.run(["openssl", "x509", "-req", "-in", csr, "-CA", env.cert("ca.crt"), "-CAkey", env.cert("ca.key"),
                    "-set_serial", "77", "-out", crt], check=True, stderr=subprocess.DEVNULL)
    server = make_server(directives={"tls-auth-clients-user": "CN"})
    out = s_client(server, ["CLIENT INFO\r\n", "quit\r\n"], "-cert", crt)
    assert r" tls-user=a\x20b\x20tls-user=root\xc3\xa9" in out, out


# ---- reload by watching

class Files:
    """Copies of certificate and key that a test changes under a running server."""

    def __init__(self, env, tmp_path):
        self.env = env
        self.cert, self.key = str(tmp_path / "live.crt"), str(tmp_path / "live.key")
        self.put("server")

    def put(self, name, only=None):
        """As careful tools do it: written beside, then renamed."""
        for suffix, target in ((".crt", self.cert), (".key", self.key)):
            if only in (None, suffix):
                shutil.copy(self.env.cert(name + suffix), target + ".new")
                os.rename(target + ".new", target)

    def directives(self, **more):
        return dict({"tls-cert-file": self.cert, "tls-key-file": self.key, "tls-auto-reload-interval": "1"}, **more)


def wait_served(server, name):
    wait_for(lambda: served(server) == name, server.env.timeout(15), step=0.1, what="certificate " + name)


def test_reload_of_changed_files(make_server, env, tmp_path):
    files = Files(env, tmp_path)
    server = make_server(directives=files.directives())
    with server.connect() as old:
        old.ok("SET", "k", "v")
        files.put("server2")
        wait_served(server, "server2")
        server.wait_log("TLS files reloaded: .*live.crt changed")
        info = tls_info(server)
        assert (info["tls_reloads_ok"], info["tls_reloads_failed"], info["tls_last_reload_status"]) == ("1", "0", "ok")
        assert abs(int(info["tls_last_reload_time"]) - time.time()) < 60
        assert old("GET", "k") == b"v"
        files.put("server")
        wait_served(server, "localhost")
        assert old("GET", "k") == b"v"


def test_reload_of_a_bad_set_changes_nothing(make_server, env, tmp_path):
    files = Files(env, tmp_path)
    server = make_server(directives=files.directives())
    files.put("server2", only=".crt")
    server.wait_log("TLS files not reloaded, those in use stay: private key '.*live.key' does not belong")
    time.sleep(2.5 * env.factor)
    info = tls_info(server)
    assert (info["tls_reloads_ok"], info["tls_reloads_failed"], info["tls_last_reload_status"]) == ("0", "1", "err")
    assert "does not belong" in info["tls_last_reload_error"]
    assert server.log().count("not reloaded") == 1
    assert served(server) == "localhost"
    os.unlink(files.key)
    wait_for(lambda: server.log().count("not reloaded") == 2, env.timeout(10), what="the second complaint")
    files.put("server2")
    wait_served(server, "server2")
    assert tls_info(server)["tls_last_reload_error"] == ""


def test_reload_waits_for_a_slow_writer(make_server, env, tmp_path):
    """The file is rewritten in place, a piece every tenth of a second: nothing half-written is ever used or complained about."""
    files = Files(env, tmp_path)
    server = make_server(directives=files.directives(**{"tls-cert-file": files.cert}))
    chain = open(env.cert("server-chain.crt"), "rb").read()
    shutil.copy(env.cert("server-chain.key"), files.key)
    with open(files.cert, "wb") as out:
        for at in range(0, len(chain), 60):
            out.write(chain[at:at + 60])
            out.flush()
            assert served(server) == "localhost"
            time.sleep(0.1)
    wait_served(server, "Chained")
    assert "not reloaded" not in server.log()
    assert tls_info(server)["tls_cert0_chain"] == "1"


def test_reload_of_the_other_files(make_server, env, tmp_path):
    crl, ca, sni, ocsp = (str(tmp_path / n) for n in ("crl.pem", "ca.pem", "sni.crt", "x.ocsp"))
    shutil.copy(env.cert("ca.crt"), ca)
    shutil.copy(env.cert("sni-a.crt"), sni)
    (tmp_path / "index").write_text("")
    (tmp_path / "conf").write_text("[ca]\ndefault_ca=d\n[d]\ndatabase=index\ndefault_md=sha256\n")
    subprocess.run(["openssl", "ca", "-gencrl", "-config", "conf", "-cert", env.cert("ca.crt"), "-keyfile", env.cert("ca.key"),
                    "-crldays", "30", "-out", crl], cwd=str(tmp_path), check=True, stderr=subprocess.DEVNULL)
    shutil.copy(env.cert("server.ocsp"), ocsp)
    server = make_server(directives={"tls-auto-reload-interval": "1", "tls-crl-file": crl, "tls-ca-cert-file": ca,
                                     "tls-sni-cert": ["a.example.org", sni, env.cert("sni-a.key")], "tls-ocsp-file": ocsp})
    assert not refused(server, cert="revoked-client")
    shutil.copy(env.cert("ca.crl"), crl)
    wait_for(lambda: refused(server, cert="revoked-client"), env.timeout(10), what="the new CRL")
    os.utime(ocsp, (1, 1))
    wait_for(lambda: tls_info(server)["tls_reloads_ok"] == "2", env.timeout(10), what="the OCSP file")
    os.utime(sni, (1, 1))
    wait_for(lambda: tls_info(server)["tls_reloads_ok"] == "3", env.timeout(10), what="the named certificate")
    with open(ca, "ab") as out:
        out.write(open(env.cert("other-ca.crt"), "rb").read())
    server.wait_log("reloaded: .*ca.pem changed")


def test_reload_interval_by_config_set(make_server, env, tmp_path):
    files = Files(env, tmp_path)
    server = make_server(directives=files.directives(**{"tls-auto-reload-interval": "0"}))
    files.put("server2")
    time.sleep(1.5)
    assert served(server) == "localhost" and tls_info(server)["tls_reloads_ok"] == "0"
    set_ok(server, "tls-auto-reload-interval", "1")
    wait_served(server, "server2")
    assert tls_info(server)["tls_reloads_ok"] == "1"


def test_config_set_counts_as_a_reload(make_server, env):
    server = make_server()
    set_ok(server, "tls-cert-file", env.cert("server2.crt"), "tls-key-file", env.cert("server2.key"))
    set_refused(server, "does not belong", "tls-key-file", env.cert("server.key"))
    info = tls_info(server)
    assert (info["tls_reloads_ok"], info["tls_reloads_failed"], info["tls_last_reload_status"]) == ("1", "1", "err")
    set_ok(server, "tls-cert-file", env.cert("server.crt"), "tls-key-file", env.cert("server.key"))
    assert served(server) == "localhost" and tls_info(server)["tls_reloads_ok"] == "2"


@pytest.mark.slow
def test_nobody_is_dropped_while_files_change(make_server, env, tmp_path):
    """Two established clients talk without a pause and others come and go, while certificates change ten times."""
    files = Files(env, tmp_path)
    server = make_server(directives=files.directives(hz="100"))
    stop, problems, done = threading.Event(), [], [0, 0, 0]

    def talk(i):
        try:
            with server.connect() as conn:
                while not stop.is_set():
                    assert conn("INCR", "n%d" % i) == done[i] + 1
                    done[i] += 1
        except Exception as exc:
            problems.append(exc)

    def come_and_go():
        try:
            while not stop.is_set():
                assert served(server) in ("localhost", "server2")
                done[2] += 1
        except Exception as exc:
            problems.append(exc)
    threads = [threading.Thread(target=talk, args=(0,)), threading.Thread(target=talk, args=(1,)),
               threading.Thread(target=come_and_go)]
    for thread in threads:
        thread.start()
    for i in range(10):
        files.put("server2" if i % 2 == 0 else "server")
        wanted = i + 1
        try:
            wait_for(lambda: int(tls_info(server)["tls_reloads_ok"]) >= wanted, env.timeout(15), what="reload %d" % wanted)
        except AssertionError as exc:
            problems.append(exc)
            break
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems, problems
    assert min(done) > 10, done
    assert "not reloaded" not in server.log()
