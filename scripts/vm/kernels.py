# SPDX-License-Identifier: BSD-3-Clause
"""The kernels there are, what a name stands for, and the cache."""
import json
import os
import re
import subprocess
import time

from vm import qemu, uml
from vm.base import CACHE, TREE, Unavailable, folder_new, locked, say

KINDS = {"uml": uml, "qemu": qemu}


class Kernel:
    """One way to get a kernel: a package of a Debian release, and the program that runs it."""

    def __init__(self, name, kind, release, rekey=False):
        self.name, self.kind, self.release, self.rekey = name, kind, release, rekey
        self.dir = os.path.join(CACHE, "kernels", name)

    def info(self):
        """What is in the cache, None if nothing."""
        try:
            with open(os.path.join(self.dir, "info.json")) as handle:
                return json.load(handle)
        except (OSError, ValueError):
            return None


# In the order in which auto tries them.
KERNELS = [
    Kernel("uml-6.1", "uml", "bookworm"),
    Kernel("uml-sid", "uml", "sid", rekey=True),
    Kernel("uml-6.12", "uml", "trixie"),
    Kernel("qemu-6.12", "qemu", "bookworm-backports"),
    Kernel("qemu-6.1", "qemu", "bookworm"),
    Kernel("qemu-new", "qemu", "trixie-backports", rekey=True),
]


def fetch(kernel, update=False):
    """What the cache holds for this kernel, after filling it if need be."""
    if kernel.info() and not update:
        return kernel.info()
    if os.uname().machine != "x86_64":
        raise Unavailable("the kernels are for x86_64, this machine is %s" % os.uname().machine)
    with locked("lock"):
        if kernel.info() and not update:
            return kernel.info()
        say("getting %s from Debian %s" % (kernel.name, kernel.release))
        started = time.monotonic()
        with folder_new(kernel.dir) as work:
            info = KINDS[kernel.kind].fetch(kernel, work, update)
            info["name"] = kernel.name
            with open(os.path.join(work, "info.json"), "w") as handle:
                json.dump(info, handle, indent=1)
        say("%s is Linux %s, in the cache after %.0f s" % (kernel.name, info["version"], time.monotonic() - started))
        return info


def host_can():
    probe = os.path.join(TREE, "build", "ktls-probe")
    if not os.access(probe, os.X_OK):
        return False
    return subprocess.run([probe], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def candidates(name):
    """The kernels a name stands for, in order."""
    if name in ("auto", "vm"):
        return KERNELS
    if name in ("rekey", "old"):
        return [kernel for kernel in KERNELS if kernel.rekey == (name == "rekey")]
    if name in ("uml", "qemu"):
        return [kernel for kernel in KERNELS if kernel.kind == name]
    exact = [kernel for kernel in KERNELS if kernel.name == name]
    if exact:
        return exact
    # A version: of the releases that move, the one whose kernel it is or once was.
    match = re.match(r"(uml|qemu)-(\d+)\.\d+$", name)
    if match and int(match.group(2)) >= 6:
        return [kernel for kernel in KERNELS if kernel.rekey and kernel.kind == match.group(1)]
    return []


def list_kernels():
    print("%-10s %-20s %-7s %s" % ("KERNEL", "DEBIAN RELEASE", "REKEY", "CACHED"))
    print("%-10s %-20s %-7s %s" % ("host", "-", "?", "Linux %s, kernel TLS: %s" % (
        os.uname().release, "yes" if host_can() else "no (build/ktls-probe)")))
    for kernel in KERNELS:
        info = kernel.info()
        print("%-10s %-20s %-7s %s" % (kernel.name, kernel.release, "yes" if kernel.rekey else "no",
                                       "Linux %s (%s)" % (info["version"], info["package"]) if info else "-"))
