# SPDX-License-Identifier: BSD-3-Clause
"""What all parts of scripts/vm-run use."""
import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "kettle", "vm")


class Unavailable(Exception):
    """This kernel cannot be had, and why."""


def say(text):
    print("vm-run: " + text, file=sys.stderr, flush=True)


def run_quiet(command, what, cwd=None):
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        lines = [line for line in text.splitlines() if line.strip()]
        raise Unavailable("%s failed: %s" % (what, "; ".join(lines[-3:]) or "exit status %d" % done.returncode))
    return text


@contextlib.contextmanager
def locked(name):
    """Only one vm-run at a time fills this part of the cache."""
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, name), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def folder_new(target):
    """A folder to fill, which takes target's place if all went well."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    work = tempfile.mkdtemp(prefix="new-", dir=CACHE)
    try:
        yield work
        shutil.rmtree(target, ignore_errors=True)
        os.rename(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
