# SPDX-License-Identifier: BSD-3-Clause
"""What `make install` gives to somebody who builds against libktls, and what the shared library shows."""
import os
import re
import shutil
import subprocess

import pytest

import harness

pytestmark = pytest.mark.transports("tcp")  # once is enough, and the VM's file system is read-only

PROBES = {"handshake__start": 3, "handshake__done": 4, "handshake__failed": 4, "handover": 4, "fallback": 4, "rekey__in": 3,
          "rekey__out": 3, "alert__in": 3, "alert__out": 3, "control__record": 4, "export": 2, "import": 2}


def run(*command, **kwargs):
    r = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=harness.ROOT, **kwargs)
    assert r.returncode == 0, "%s: %s" % (" ".join(command), r.stderr.decode())
    return r.stdout.decode()


@pytest.fixture(scope="module")
def root(transport, tmp_path_factory):
    """The installed tree. What is built already is not built again."""
    path = str(tmp_path_factory.mktemp("root"))
    environment = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    run("make", "-j2", "install", "DESTDIR=" + path, "PREFIX=/opt/k", env=environment)
    return path


@pytest.fixture
def pkg_config(root):
    environment = dict(os.environ, PKG_CONFIG_SYSROOT_DIR=root, PKG_CONFIG_LIBDIR=root + "/opt/k/lib/pkgconfig:" + run(
        "pkg-config", "--variable", "pc_path", "pkg-config").strip())

    def query(*arguments):
        return run("pkg-config", *arguments, "libktls", env=environment).split()
    return query


def declared():
    """Names of the functions of ktls.h."""
    with open(os.path.join(harness.ROOT, "src/ktls/ktls.h")) as handle:
        text = re.sub(r"/\*.*?\*/", "", handle.read(), flags=re.S)
    return set(re.findall(r"^KTLS_API[^;(]*?\b(ktls_\w+)\(", text, re.M))


def test_installed_files(root):
    found = {os.path.relpath(os.path.join(folder, name), root + "/opt/k")
             for folder, _, names in os.walk(root) for name in names}
    assert found == {"bin/kettle-server", "bin/kettle-cli", "bin/kettle-benchmark", "bin/kettle-check-aof",
                     "bin/kettle-check-rdb", "bin/ktls-probe", "include/ktls.h",
                     "lib/libktls.a", "lib/libktls.so", "lib/libktls.so.0", "lib/pkgconfig/libktls.pc",
                     "share/man/man1/kettle-check-aof.1", "share/man/man1/kettle-check-rdb.1", "share/man/man1/kettle-cli.1",
                     "share/man/man1/ktls-probe.1", "share/man/man3/libktls.3"}
    assert os.readlink(root + "/opt/k/lib/libktls.so") == "libktls.so.0"


def test_pkg_config_file(pkg_config):
    with open(os.path.join(harness.ROOT, "src/ktls/ktls.h")) as handle:
        version = re.findall(r"#define KTLS_VERSION_M(?:AJ|IN)OR (\d+)", handle.read())
    assert pkg_config("--modversion") == [".".join(version) + ".0"]
    assert "-lssl" not in pkg_config("--libs") and "-lssl" in pkg_config("--libs", "--static")


@pytest.mark.parametrize("example", ["echo_server", "sendfile_server", "handoff_server"])
@pytest.mark.parametrize("static", [False, True], ids=["shared", "static"])
def test_examples_build_against_the_installed_tree(root, pkg_config, tmp_path, example, static):
    out = str(tmp_path / example)
    libs = pkg_config("--libs", "--static") if static else pkg_config("--libs")
    if static:
        libs = ["-l:libktls.a" if lib == "-lktls" else lib for lib in libs]
    run("gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", *pkg_config("--cflags"), "-o", out,
        "docs/examples/%s.c" % example, *libs)
    needed = re.findall(r"NEEDED\s+(\S+)", run("objdump", "-p", out))
    assert ("libktls.so.0" in needed) == (not static)
    r = subprocess.run([out], env=dict(os.environ, LD_LIBRARY_PATH=root + "/opt/k/lib"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert r.returncode == 2 and b"usage: " + example.encode() in r.stderr


@pytest.mark.parametrize("compiler", [["gcc", "-xc", "-std=c99"], ["g++", "-xc++", "-std=c++17"]], ids=["c99", "c++17"])
def test_every_function_links(root, pkg_config, tmp_path, compiler):
    """Each declared function is there, under its C name, for C and for C++."""
    if not shutil.which(compiler[0]):
        pytest.skip("no " + compiler[0])
    source = tmp_path / "all.txt"
    source.write_text("#include <ktls.h>\ntypedef void (*fn)(void);\nextern const fn all[];\nconst fn all[] = {%s};\n"
                      "int main(void) { return 0; }\n" % ",".join("(fn)" + name for name in sorted(declared())))
    run(*compiler, "-Wno-cast-function-type", *pkg_config("--cflags"), "-o", str(tmp_path / "all"), str(source),
        *["-xnone" if lib == "" else lib for lib in pkg_config("--libs")])


def test_exported_symbols_are_those_of_the_header(root):
    exported = {}
    for line in run("nm", "-D", "--defined-only", root + "/opt/k/lib/libktls.so.0").splitlines():
        kind, name = line.split()[1:3]
        if kind != "A":
            name, _, version = name.partition("@@")
            exported[name] = version
    assert set(exported) == declared()
    assert set(exported.values()) == {"LIBKTLS_0.1"}
    assert "libktls.so.0" in re.findall(r"SONAME\s+(\S+)", run("objdump", "-p", root + "/opt/k/lib/libktls.so.0"))


def test_usdt_probes_are_in_the_binaries(root):
    """Provider, name and number of arguments; docs/OBSERVING.md is written by this list."""
    for binary in ("lib/libktls.so.0", "bin/kettle-server"):
        notes = run("readelf", "-n", "-W", os.path.join(root, "opt/k", binary))
        found = {}
        for provider, name, arguments in re.findall(r"Provider: (\S+)\s+Name: (\S+)\s+Location:[^\n]*\s+Arguments: ?([^\n]*)", notes):
            if provider == "libktls":
                found.setdefault(name, set()).add(len(re.findall(r"-?\d+@", arguments)))
        assert found == {name: {count} for name, count in PROBES.items()}
    with open(os.path.join(harness.ROOT, "docs/OBSERVING.md")) as handle:
        text = handle.read()
    for name in PROBES:
        assert "`%s`" % name in text


def test_probes_that_observing_md_uses_exist():
    """Its one-liners: probes with so many arguments (arg0 is the first), in the binary that they name."""
    with open(os.path.join(harness.ROOT, "docs/OBSERVING.md")) as handle:
        text = handle.read()
    actions = re.findall(r"usdt:\$B:libktls:(\w+) \{(.*?)\}(?= usdt:|\"$)", text, re.M)
    named = [name for name, _ in actions] + re.findall(r"libktls:(\w+)", text)
    assert len(actions) >= 8 and set(named) <= set(PROBES)
    for name, action in actions:
        assert max(int(n) for n in re.findall(r"\barg(\d)", action)) < PROBES[name], name


def test_library_builds_without_probes(tmp_path):
    for name in sorted(os.listdir(os.path.join(harness.ROOT, "src/ktls"))):
        if name.endswith(".c"):
            out = str(tmp_path / (name + ".o"))
            run("gcc", "-std=gnu11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-DKTLS_NO_USDT", "-c", "-o", out, "src/ktls/" + name)
            assert "stapsdt" not in run("readelf", "-S", "-W", out)


@pytest.mark.parametrize("page", ["libktls.3", "ktls-probe.1", "kettle-check-aof.1", "kettle-check-rdb.1", "kettle-cli.1"])
def test_man_pages(page):
    if not shutil.which("mandoc"):
        pytest.skip("no mandoc")
    path = os.path.join(harness.ROOT, "docs/man", page)
    assert run("mandoc", "-T", "lint", "-W", "warning", path) == ""
    with open(path) as handle:
        text = handle.read()
    functions = set(re.findall(r"\bktls_\w+(?=\()", text)) | set(re.findall(r"^\.Fn (ktls_\w+)", text, re.M))
    assert functions <= declared(), "the page names functions that are not there"
