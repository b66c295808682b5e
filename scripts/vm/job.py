# SPDX-License-Identifier: BSD-3-Clause
"""What tests/support/vm-init.c is told to do, and the programs compiled for it."""
import os
import re
import shutil

from vm.base import TREE, Unavailable, run_quiet

SCRATCH = ("/tmp", "/var/tmp", "/run")
PASSED = re.compile(r"^(PATH|LANG|LC_ALL|TERM|(KETTLE|ASAN|LSAN|UBSAN|TSAN|PYTEST|CMOCKA)_\w+)$")


def compiled(source, name, options):
    """build/vm/NAME, compiled if it is older than its source."""
    source, target = os.path.join(TREE, source), os.path.join(TREE, "build/vm", name)
    if os.path.exists(target) and os.stat(target).st_mtime >= os.stat(source).st_mtime:
        return target
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise Unavailable("no C compiler to build %s with" % source)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    part = "%s.%d" % (target, os.getpid())
    run_quiet([compiler, "-std=gnu11", "-D_GNU_SOURCE", "-O2"] + options + ["-o", part, source], "compiling " + os.path.basename(source))
    os.rename(part, target)
    return target


def init_build():
    return compiled("tests/support/vm-init.c", "init", ["-static"])


def below(path, tops):
    return any(path == top or path.startswith(top + "/") for top in tops)


def job_records(args, info, folder, environment):
    """The job of tests/support/vm-init.c as [(key, value)], without what only one kind of machine needs."""
    keep = {os.path.realpath(path) for path in (TREE, args.cwd)}
    rows = [("keep", path) for path in sorted(keep) if below(path, SCRATCH)]
    for number, path in enumerate(info["writable"]):
        rows.append(("rw", path))
        if info["kind"] == "qemu":
            rows.append(("rw9p", "rw%d" % number))
    rows += [(name, os.path.join(folder, name)) for name in ("started", "status")]
    rows += [("env", "%s=%s" % pair) for pair in sorted(environment.items())]
    rows.append(("cwd", args.cwd))
    return rows + [("arg", word) for word in args.command]


def job_bytes(rows):
    return b"".join(("%s=%s" % row).encode("utf-8", "surrogateescape") + b"\0" for row in rows)


def environment_for(args):
    chosen = {name: value for name, value in os.environ.items() if PASSED.match(name)}
    for item in args.env:
        name, equals, value = item.partition("=")
        if equals or name in os.environ:
            chosen[name] = value if equals else os.environ[name]
    chosen.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    chosen.setdefault("HOME", "/tmp")
    # The tree may be read-only.
    chosen.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    return chosen
