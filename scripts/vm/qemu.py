# SPDX-License-Identifier: BSD-3-Clause
"""QEMU without hardware virtualization: Debian's ordinary kernels with x86's own crypto drivers.

Not "-M microvm", which hangs with 9p, and one processor only: two of them wait for each other most of the time.
"""
import glob
import json
import os
import re
import shutil
import subprocess

from vm.apt import Apt, os_codename, unpack
from vm.base import CACHE, Unavailable, folder_new, locked, say
from vm.image import Initrd, vmlinux
from vm.job import init_build, job_bytes
from vm.modules import WANTED, WANTED_QEMU, modules_resolve

PROGRAM = "qemu-system-x86_64"
GOOD = 8  # QEMU 7 is much slower and panics with some kernels
ICOUNT = "-accel tcg,thread=single -icount shift=0,sleep=off -rtc base=2026-01-01,clock=vm -seed 1".split()
TO_FILE = True
FOLDER = os.path.join(CACHE, "qemu")


# ---- the emulator ----------------------------------------------------------------------------------------------------------

def installed():
    """The installed QEMU as a row of the cache, None if there is none, and its major version."""
    path = shutil.which(PROGRAM)
    if not path:
        return None, 0
    done = subprocess.run([path, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    found = re.search(rb"version (\d+)\.", done.stdout)
    return {"program": path, "libs": [], "data": [], "modules": ""}, int(found.group(1)) if found else 0


def unpacked(release, work):
    """QEMU of a release with the libraries this machine lacks, as a row of the cache."""
    apt = Apt(release, own=True)
    packages = apt.missing("qemu-system-x86")
    for package in packages:
        deb = apt.download(package)
        unpack(deb, work)
        if package == "qemu-system-x86":
            name = os.path.basename(deb)
    if "qemu-system-x86" not in packages or not os.path.exists(os.path.join(work, "usr/bin", PROGRAM)):
        raise Unavailable("qemu-system-x86 of Debian %s does not hold what was expected" % release)
    folders = lambda *patterns: [os.path.relpath(path, work) for pattern in patterns for path in glob.glob(os.path.join(work, pattern))]
    return {"package": name, "program": os.path.join("usr/bin", PROGRAM), "libs": folders("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"),
            "data": folders("usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"), "modules": "usr/lib/x86_64-linux-gnu/qemu"}


def cached():
    try:
        with open(os.path.join(FOLDER, "info.json")) as handle:
            return json.load(handle)
    except (OSError, ValueError):
        return None


def emulator_get(update):
    """Puts QEMU into the cache: of the backports, else of this machine's release. An installed one may do, so failing is no error."""
    if installed()[1] >= GOOD:
        return
    with locked("lock-qemu"):
        if cached() and not update:
            return
        for release in (os_codename() + "-backports", os_codename()):
            say("getting QEMU from Debian %s" % release)
            try:
                with folder_new(FOLDER) as work:
                    row = unpacked(release, work)
                    with open(os.path.join(work, "info.json"), "w") as handle:
                        json.dump(row, handle, indent=1)
                return
            except Unavailable as exc:
                say(str(exc))


def emulator():
    """The QEMU to use: the installed one unless it is old, else that of the cache, else an old one."""
    row, version = installed()
    if version < GOOD:
        row = cached() or row
    if not row:
        raise Unavailable("no %s here and none in the cache (--update tries to get one)" % PROGRAM)
    return row


# ---- the kernel ------------------------------------------------------------------------------------------------------------

def kernel_packages(apt):
    """The packages with the newest kernel and its modules: one, or in newer releases one for each, behind some that only depend."""
    found, waiting = [], ["linux-image-amd64"]
    while waiting:
        package = waiting.pop(0)
        found.append(package)
        for other in re.findall(r"linux-(?:image|binary|modules)-[\w.+-]+", apt.show(package, "Depends")):
            if other not in found + waiting:
                waiting.append(other)
    return [package for package in found if re.search(r"-\d", package)]


def only(root, *patterns):
    """The one path that one of the patterns matches."""
    paths = [path for pattern in patterns for path in glob.glob(os.path.join(root, pattern))]
    if len(paths) != 1:
        raise Unavailable("the kernel's packages do not hold what was expected (%s)" % patterns[0])
    return paths[0]


def fetch(kernel, work, update):
    emulator_get(update)
    emulator()
    apt = Apt(kernel.release)
    root = os.path.join(work, "root")
    names = []
    for package in kernel_packages(apt):
        deb = apt.download(package)
        names.append(os.path.basename(deb))
        unpack(deb, root)
        os.remove(deb)  # a hundred megabytes, of which ten are needed
    modules = only(root, "lib/modules/*", "usr/lib/modules/*")
    with open(only(root, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"), "rb") as handle:
        image = handle.read()
    with open(os.path.join(work, "kernel"), "wb") as handle:
        handle.write(vmlinux(image) or image)
    info = {"version": os.path.basename(modules), "package": names[0]}
    info["modules"] = modules_resolve(modules, WANTED_QEMU + WANTED, os.path.join(work, "modules"))
    shutil.rmtree(root)
    return info


# ---- the machine -----------------------------------------------------------------------------------------------------------

def initrd_write(info, path):
    """vm-init, the modules and the job."""
    initrd = Initrd()
    for name in ("dev", "modules", "root"):
        initrd.folder(name)
    initrd.device("dev/console", 5, 1)
    with open(init_build(), "rb") as handle:
        initrd.file("init", handle.read(), 0o755)
    for name in info["modules"]:
        with open(os.path.join(info["dir"], "modules", name + ".ko"), "rb") as handle:
            initrd.file("modules/%s.ko" % name, handle.read())
    initrd.file("job", job_bytes([("module", "/modules/%s.ko" % name) for name in info["modules"]]
                                 + [("root9p", "hostroot"), ("tty", "/dev/hvc0"), ("power", "reboot")] + info["rows"]))
    initrd.write(path)


def share(tag, path, options):
    """A folder of the host, by 9p."""
    return ["-fsdev", "local,id=%s,path=%s,security_model=none,multidevs=remap%s" % (tag, path.replace(",", ",,"), options),
            "-device", "virtio-9p-pci,fsdev=%s,mount_tag=%s" % (tag, tag)]


def processor(program, environment, icount):
    """Counted: without the features by which `rep movsb` and `rep stosb` are used, each byte of which would count; as far as this QEMU
    knows them."""
    done = subprocess.run([program, "-cpu", "help"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
                          universal_newlines=True) if icount else None
    known = set(done.stdout.split()) if done else set()
    return ",".join(["max"] + ["-" + feature for feature in ("erms", "fsrm", "fsrs") if feature in known])


def command(args, info, folder, out):
    tool = emulator()
    place = lambda path: os.path.join(FOLDER, path)
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": folder, "TMPDIR": folder}
    if tool["libs"]:
        environment["LD_LIBRARY_PATH"] = ":".join(map(place, tool["libs"]))
        environment["QEMU_MODULE_DIR"] = place(tool["modules"])
    initrd = os.path.join(folder, "initrd")
    initrd_write(info, initrd)
    words = [place(tool["program"])] + [word for path in tool["data"] for word in ("-L", place(path))]
    words += ["-cpu", args.cpu or processor(words[0], environment, args.icount), "-smp", "1", "-m", "%dM" % args.mem, "-M", "pc,usb=off", "-nodefaults", "-no-user-config",
              "-nic", "none", "-display", "none", "-monitor", "none", "-no-reboot", "-serial", "stdio", "-kernel", os.path.join(info["dir"], "kernel"), "-initrd", initrd]
    # A console of its own for the command. The kernel waits until QEMU has taken its bytes, so none are lost at the end; but QEMU throws
    # away what its file does not take at once, so that is a regular one (TO_FILE), never a pipe.
    words += ["-chardev", "file,id=out,path=/proc/self/fd/%d" % out, "-device", "virtio-serial-pci", "-device", "virtconsole,chardev=out"]
    words += ["-accel", "tcg,thread=multi"] if not args.icount else ICOUNT
    words += share("hostroot", "/", ",readonly=on")
    for number, path in enumerate(info["writable"]):
        words += share("rw%d" % number, path, "")
    kernel = ("console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off tsc=reliable nowatchdog random.trust_cpu=on cryptomgr.notests=1 "
              "KETTLE_VM_JOB=/job" + " nokaslr norandmaps" * args.icount)
    return words + ["-append", kernel], environment
