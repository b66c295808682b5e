# SPDX-License-Identifier: BSD-3-Clause
"""Runs a command in a machine, or on the running kernel, and brings back its output and exit status."""
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from vm.base import Unavailable, say
from vm.job import environment_for, job_records
from vm.kernels import KINDS


PRCTL = ctypes.CDLL(None).prctl
PR_SET_PDEATHSIG = 1
OUTPUT_MAX = 1 << 30
BOOT_SECONDS = 120  # within which a machine that can work has begun the command, on a slow and busy host too


def take(source, wait):
    """Prints what has come; None if nothing came in time, 0 at the end of the file or pipe."""
    ready, _, _ = select.select([source], [], [], wait)
    if not ready:
        return None
    data = rest = os.read(source, 65536)
    while rest:
        rest = rest[os.write(sys.stdout.fileno(), rest):]
    return len(data)


def pump(process, source, expired):
    """Prints what comes until the machine has ended; False if time ran out first. What is left then, take() gets."""
    while True:
        ended = process.poll() is not None
        got = take(source, 0 if ended else 0.1)
        if ended and not got:
            return True
        if not ended and expired():
            return False
        if got == 0:
            time.sleep(0.01)  # the machine may say more, all the same


def machine_end(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def die_with_parent():
    """In the child: no machine outlives a vm-run that was killed."""
    PRCTL(PR_SET_PDEATHSIG, signal.SIGKILL)


class Machine:
    """One run of a kernel. Its folder on the host holds the job, the console's text, and the two files vm-init writes."""

    def __init__(self, args, kernel, info):
        self.args, self.kernel = args, kernel
        self.folder = tempfile.mkdtemp(prefix="kettle-vm-")
        self.info = dict(info, kind=kernel.kind, rekey=kernel.rekey, dir=kernel.dir, writable=[self.folder] + args.writable)
        environment = environment_for(args)
        environment["KETTLE_VM"] = kernel.name  # tests ask: time goes otherwise there
        if self.info["kind"] == "uml":
            # The leak check traces its own process, which hangs in such a kernel. Freed memory that is kept back touches ever
            # new pages, each a mapping on the host, until these are used up (vm.max_map_count) and the machine stands still.
            environment.setdefault("ASAN_OPTIONS", "detect_leaks=0:quarantine_size_mb=4")
        self.info["rows"] = job_records(args, self.info, self.folder, environment)
        self.process = None
        self.began, self.began_wall = time.monotonic(), time.time()

    def path(self, name):
        return os.path.join(self.folder, name)

    def boot_seconds(self):
        """How long it took until the command began, None if it has not."""
        try:
            return os.stat(self.path("started")).st_mtime - self.began_wall
        except OSError:
            return None

    def seconds(self):
        return time.monotonic() - self.began

    def late(self):
        return self.args.timeout and self.seconds() > self.args.timeout

    def flooded(self):
        """Output that goes through a file (TO_FILE) has an end."""
        try:
            return os.stat(self.path("output")).st_size > OUTPUT_MAX
        except OSError:
            return False

    def expired(self):
        return self.late() or self.flooded() or (self.seconds() > BOOT_SECONDS and self.boot_seconds() is None)

    def console(self):
        with open(self.path("console"), "rb") as log:
            return log.read()

    def cause(self):
        """What the console says about a machine that came to nothing: vm-init's own words, a panic's, or the last lines."""
        lines = [line.strip() for line in self.console().decode("utf-8", "replace").splitlines() if line.strip()]
        for mark in ("vm-init: ", "Kernel panic"):
            told = [line for line in lines if mark in line]
            if told:
                return told[-1]
        return "; ".join(lines[-3:]) or "it said nothing"

    def start(self):
        kind = KINDS[self.kernel.kind]
        if kind.TO_FILE:
            out = os.open(self.path("output"), os.O_WRONLY | os.O_CREAT, 0o600)
            source = os.open(self.path("output"), os.O_RDONLY)
        else:
            source, out = os.pipe()
        try:
            command, environment = kind.command(self.args, self.info, self.folder, out)
            with open(self.path("console"), "wb") as log:
                self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[out],
                                                start_new_session=True, env=environment, cwd=self.folder, preexec_fn=die_with_parent)
        finally:
            os.close(out)
        return source

    def run(self):
        """The exit status of vm-run. Unavailable if the command never began: then another kernel may do."""
        source = self.start()
        ended = pump(self.process, source, self.expired)
        machine_end(self.process)
        while take(source, 0):
            pass
        os.close(source)
        if self.args.verbose:
            sys.stderr.buffer.write(self.console())
            sys.stderr.flush()
        boot = self.boot_seconds()
        if not ended and self.late():
            say("%s: time ran out after %g s" % (self.kernel.name, self.args.timeout))
            return 124
        if not ended and self.flooded():
            say("%s: the command was ended after %d MB of output" % (self.kernel.name, OUTPUT_MAX >> 20))
            return 125
        if boot is None:
            raise Unavailable("it %s: %s" % ("ended before the command (exit status %s)" % self.process.returncode if ended
                                             else "did not begin the command within %d s" % BOOT_SECONDS, self.cause()))
        try:
            with open(self.path("status")) as handle:
                status = int(handle.read())
        except (OSError, ValueError):
            if not self.args.verbose:
                sys.stderr.buffer.write(self.console()[-4000:])
            say("%s: the machine ended without a status (exit status %s); its messages are above" % (
                self.kernel.name, self.process.returncode))
            return 125
        if self.args.verbose:
            say("%s, Linux %s, started in %.1f s, ended after %.1f s, exit status %d" % (
                self.kernel.name, self.info["version"], boot, self.seconds(), status))
        return status

    def close(self):
        if self.process is not None:
            machine_end(self.process)
        shutil.rmtree(self.folder, ignore_errors=True)


def run_machine(args, kernel, info):
    machine = Machine(args, kernel, info)
    try:
        return machine.run()
    finally:
        machine.close()


def run_host(args):
    if args.verbose:
        say("the running kernel, Linux %s" % os.uname().release)
    environment = dict(os.environ, **environment_for(args))
    environment["HOME"] = os.environ.get("HOME", "/")
    try:
        process = subprocess.Popen(args.command, cwd=args.cwd, stdin=subprocess.DEVNULL, env=environment, start_new_session=True)
    except OSError as exc:
        say("%s: %s" % (args.command[0], exc.strerror))
        return 127 if isinstance(exc, FileNotFoundError) else 126
    try:
        status = process.wait(args.timeout or None)
        return status if status >= 0 else 128 - status
    except subprocess.TimeoutExpired:
        say("time ran out after %g s" % args.timeout)
        return 124
    finally:
        machine_end(process)
