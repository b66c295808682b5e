# SPDX-License-Identifier: BSD-3-Clause
"""Runs a command in a machine, or on the running kernel, and brings back its output and exit status."""
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from vm.base import say
from vm.job import environment_for, job_records
from vm.kernels import KINDS


def pump(process, source, deadline):
    """Prints what comes until the machine has ended; False if time ran out first."""
    os.set_blocking(source, False)
    target = sys.stdout.fileno()
    while True:
        ended = process.poll() is not None
        ready, _, _ = select.select([source], [], [], 0 if ended else 0.1)
        if ready:
            data = os.read(source, 65536)
            more = bool(data)
            while data:
                data = data[os.write(target, data):]
            if more:
                continue
            time.sleep(0 if ended else 0.01)  # the pipe is at its end; the machine is not, yet
        if ended:
            return True
        if deadline and time.monotonic() > deadline:
            return False


def machine_end(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def run_machine(args, kernel, info):
    info = dict(info, kind=kernel.kind, rekey=kernel.rekey, dir=kernel.dir)
    folder = tempfile.mkdtemp(prefix="kettle-vm-")
    started = time.monotonic()
    process = None
    try:
        info["writable"] = [folder] + args.writable
        info["rows"] = job_records(args, info, folder, environment_for(args))
        source, out = os.pipe()
        command, environment = KINDS[kernel.kind].command(args, info, folder, out)
        console = os.path.join(folder, "console")
        with open(console, "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=[out],
                                       start_new_session=True, env=environment, cwd=folder)
        os.close(out)
        in_time = pump(process, source, started + args.timeout if args.timeout else 0)
        machine_end(process)
        if args.verbose:
            with open(console, "rb") as log:
                sys.stderr.buffer.write(log.read())
        if not in_time:
            say("%s: time ran out after %g s" % (kernel.name, args.timeout))
            return 124
        try:
            with open(os.path.join(folder, "status")) as handle:
                status = int(handle.read())
        except (OSError, ValueError):
            with open(console, "rb") as log:
                sys.stderr.buffer.write(log.read()[-4000:])
            say("%s: the machine ended without a status (exit status %s); its messages are above" % (
                kernel.name, process.returncode))
            return 125
        if args.verbose:
            say("%s, Linux %s, %.1f s, exit status %d" % (kernel.name, info["version"], time.monotonic() - started, status))
        return status
    finally:
        if process is not None:
            machine_end(process)
        shutil.rmtree(folder, ignore_errors=True)


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
