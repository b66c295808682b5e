# SPDX-License-Identifier: BSD-3-Clause
"""Test certificates: scripts/gen-test-certs.sh where it provides a file, openssl for whatever is missing.

    certs.py FOLDER     makes them once for several runs of the tests: KETTLE_TEST_CERTS=FOLDER. Making them takes half a minute in
                        User-Mode Linux.
"""
import os
import shutil
import subprocess
import sys

NAMES = ["ca", "server", "client", "server-rsa", "expired", "rogue-client", "server-enc"]


def _openssl(*args):
    subprocess.run(("openssl",) + args, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _key(path, kind="ec"):
    if kind == "ec":
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
    else:
        _openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", path)
    os.chmod(path, 0o600)


def _ca(directory, name, subject):
    crt, key = os.path.join(directory, name + ".crt"), os.path.join(directory, name + ".key")
    _key(key)
    _openssl("req", "-x509", "-new", "-key", key, "-subj", subject, "-days", "3650", "-out", crt, "-sha256",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign")


def _leaf(directory, name, ca, subject, kind="ec", expired=False):
    path = lambda suffix: os.path.join(directory, name + suffix)
    _key(path(".key"), kind)
    _openssl("req", "-new", "-key", path(".key"), "-subj", subject, "-out", path(".csr"))
    work = os.path.join(directory, "ca-db-" + name)
    os.makedirs(work, exist_ok=True)
    open(os.path.join(work, "index.txt"), "w").close()
    with open(os.path.join(work, "conf"), "w") as conf:
        conf.write("[ca]\ndefault_ca=d\n[d]\ndir=%s\ndatabase=$dir/index.txt\nnew_certs_dir=$dir\nrand_serial=yes\n"
                   "default_md=sha256\npolicy=p\nx509_extensions=x\n[p]\norganizationName=optional\ncommonName=supplied\n"
                   "[x]\nbasicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n" % work)
    dates = ["20200101000000Z", "20200201000000Z"] if expired else ["20200101000000Z", "20450101000000Z"]
    _openssl("ca", "-batch", "-notext", "-config", os.path.join(work, "conf"),
             "-cert", os.path.join(directory, ca + ".crt"), "-keyfile", os.path.join(directory, ca + ".key"),
             "-startdate", dates[0], "-enddate", dates[1], "-in", path(".csr"), "-out", path(".crt"))


def make(directory, script=None):
    """Fills directory; returns it."""
    if os.environ.get("KETTLE_TEST_CERTS"):
        return shutil.copytree(os.environ["KETTLE_TEST_CERTS"], directory, dirs_exist_ok=True)
    if script and os.access(script, os.X_OK):
        subprocess.run([script, directory], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=120)
    has = lambda name: os.path.exists(os.path.join(directory, name))
    if not (has("ca.crt") and has("ca.key")):
        _ca(directory, "ca", "/O=Kettle Test/CN=Test CA")
    if not (has("other-ca.crt") and has("other-ca.key")):
        _ca(directory, "other-ca", "/O=Kettle Test/CN=Other CA")
    for name, kind in (("server", "ec"), ("client", "ec"), ("server-rsa", "rsa")):
        if not has(name + ".crt"):
            _leaf(directory, name, "ca", "/O=Kettle Test/CN=%s" % name, kind)
    if not has("expired.crt"):
        _leaf(directory, "expired", "ca", "/O=Kettle Test/CN=expired", expired=True)
    if not has("rogue-client.crt"):
        _leaf(directory, "rogue-client", "other-ca", "/O=Kettle Test/CN=rogue-client")
    if not has("server-enc.key"):
        _openssl("pkey", "-in", os.path.join(directory, "server.key"), "-aes256", "-passout", "pass:kettle",
                 "-out", os.path.join(directory, "server-enc.key"))
    if not has("server-enc.crt"):
        with open(os.path.join(directory, "server.crt"), "rb") as src, \
                open(os.path.join(directory, "server-enc.crt"), "wb") as dst:
            dst.write(src.read())
    # A second certificate for the same names, to see a live change.
    _leaf(directory, "server2", "ca", "/O=Kettle Test/CN=server2")
    return directory


if __name__ == "__main__":
    os.environ.pop("KETTLE_TEST_CERTS", None)
    os.makedirs(sys.argv[1], exist_ok=True)
    make(sys.argv[1], os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "gen-test-certs.sh"))
