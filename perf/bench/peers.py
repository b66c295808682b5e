# SPDX-License-Identifier: BSD-3-Clause
"""redis-server and valkey-server to compare with: installed, or unpacked privately from Debian packages.

    /usr/bin/python3 perf/bench/peers.py        prints one line for each: NAME PATH LIBRARIES

redis-server is that of this machine's Debian release; it is installed by scripts/install-deps if it is missing and this is root.
valkey-server, if not installed, is taken from this machine's release or its backports through a private apt folder (scripts/vm/apt.py)
and unpacked below ${XDG_CACHE_HOME:-~/.cache}/kettle/peers. What cannot be had is told, and left out.
"""
import glob
import os
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts"))

from vm.apt import Apt, os_codename, unpack
from vm.base import Unavailable, folder_new, locked

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kettle", "peers")


def tell(text):
    print("ktls-bench: " + text, file=sys.stderr, flush=True)


def redis():
    if not shutil.which("redis-server") and os.geteuid() == 0:
        subprocess.run([os.path.join(ROOT, "scripts/install-deps"), "test"], stdout=sys.stderr)
    path = shutil.which("redis-server")
    if not path:
        tell("no redis-server here (package redis-server)")
    return path, ""


def unpacked(program):
    """The program in the cache and the folders of libraries unpacked with it."""
    path = os.path.join(CACHE, program, "usr/bin", program)
    libs = sorted({os.path.dirname(lib) for lib in glob.glob(os.path.join(CACHE, program, "**/*.so.*"), recursive=True)})
    return (path, ":".join(libs)) if os.path.exists(path) else (None, "")


def valkey():
    path = shutil.which("valkey-server")
    if path:
        return path, ""
    if unpacked("valkey-server")[0]:
        return unpacked("valkey-server")
    with locked("lock-peers"):
        for release in (os_codename(), os_codename() + "-backports"):
            try:
                apt = Apt(release, own=True)
                with folder_new(os.path.join(CACHE, "valkey-server")) as work:
                    for package in apt.missing("valkey-server"):
                        unpack(apt.download(package), work)
                return unpacked("valkey-server")
            except Unavailable as exc:
                tell("valkey-server of Debian %s cannot be had: %s" % (release, exc))
    return None, ""


if __name__ == "__main__":
    for name, (found, libraries) in (("redis", redis()), ("valkey", valkey())):
        if found:
            print(name, found, libraries)
