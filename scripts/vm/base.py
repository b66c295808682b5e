# SPDX-License-Identifier: BSD-3-Clause
"""What all parts of scripts/vm-run use."""
import os
import subprocess
import sys

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
