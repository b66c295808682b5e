# SPDX-License-Identifier: BSD-3-Clause
"""User-Mode Linux: a kernel as an ordinary process."""
import glob
import os
import shutil

from vm.apt import Apt, os_codename, unpack
from vm.base import Unavailable
from vm.job import compiled, init_build, job_bytes
from vm.modules import WANTED, modules_resolve

TO_FILE = False


def fetch(kernel, work, _update):
    apt = Apt(kernel.release)
    deb = apt.download("user-mode-linux")
    unpack(deb, os.path.join(work, "uml"))
    folders = glob.glob(os.path.join(work, "uml", "usr/lib/uml/modules/*"))
    program = os.path.join(work, "uml", "usr/bin/linux.uml")
    if len(folders) != 1 or not os.path.exists(program):
        raise Unavailable("%s does not hold what was expected" % os.path.basename(deb))
    info = {"version": os.path.basename(folders[0]), "program": ["uml/usr/bin/linux.uml"], "package": os.path.basename(deb)}
    info["modules"] = modules_resolve(folders[0], WANTED, os.path.join(work, "modules"))
    shutil.rmtree(os.path.join(work, "uml", "usr/lib/uml/modules"))
    if kernel.release != os_codename():
        # Built against its release's C library: it is run by that library's own loader.
        unpack(apt.download("libc6"), os.path.join(work, "libc"))
        loaders = [path for path in glob.glob(os.path.join(work, "libc", "**/ld-linux-x86-64.so.2"), recursive=True)
                   if not os.path.islink(path)]
        libs = [os.path.dirname(path) for path in glob.glob(os.path.join(work, "libc", "**/libc.so.6"), recursive=True)]
        if not loaders or not libs:
            raise Unavailable("libc6 of %s does not hold what was expected" % kernel.release)
        info["loader"] = os.path.relpath(loaders[0], work)
        info["libs"] = os.path.relpath(libs[0], work)
    return info


def memory_folder(megabytes):
    """User-Mode Linux keeps its memory in a file that must be mappable as code and have the room."""
    for folder in ("/dev/shm", os.environ.get("TMPDIR", "/tmp"), "/var/tmp"):
        try:
            at = os.statvfs(folder)
        except OSError:
            continue
        if not at.f_flag & os.ST_NOEXEC and at.f_bavail * at.f_frsize > (megabytes + 16) << 20 and os.access(folder, os.W_OK):
            return folder
    raise Unavailable("no folder for %d MB of memory: /dev/shm and /tmp are too small or mounted noexec" % megabytes)


def program_patch(program, folder):
    """A copy of the kernel that names ./ld.so as its loader. Starting it as the loader's argument is no way: it executes itself
    again, and takes its memory from behind the program break, which the loader moves."""
    with open(program, "rb") as handle:
        data = handle.read()
    name = b"/lib64/ld-linux-x86-64.so.2"
    data = data.replace(name, b"./ld.so".ljust(len(name), b"\0"), 1)
    with open(os.path.join(folder, "linux"), "wb") as handle:
        handle.write(data)
    os.chmod(os.path.join(folder, "linux"), 0o755)


def command(args, info, folder, out):
    base = info["dir"]
    with open(os.path.join(folder, "job"), "wb") as handle:
        handle.write(job_bytes([("module", os.path.join(base, "modules", name + ".ko")) for name in info["modules"]]
                               + [("tty", "/dev/tty1"), ("power", "off")] + info["rows"]))
    program = os.path.join(base, info["program"][0])
    command = [program]
    environment = {"TMPDIR": memory_folder(args.mem), "PATH": os.environ.get("PATH", ""), "HOME": folder}
    if not info["rekey"]:
        environment["LD_PRELOAD"] = compiled("tests/support/uml-xstate.c", "uml-xstate.so", ["-shared", "-fPIC"])
    if info.get("loader"):
        program_patch(program, folder)
        os.symlink(os.path.join(base, info["loader"]), os.path.join(folder, "ld.so"))
        command = ["./linux"]
        environment["LD_LIBRARY_PATH"] = os.path.join(base, info["libs"])
    command += ["mem=%dM" % args.mem, "uml_dir=" + folder, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
                "init=" + init_build(), "con=null", "con0=null,fd:1", "con1=null,fd:%d" % out, "ssl=null", "quiet", "loglevel=3",
                "KETTLE_VM_JOB=" + os.path.join(folder, "job")]
    if info["rekey"]:
        command.append("seccomp=on")
    return command, environment
