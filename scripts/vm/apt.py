# SPDX-License-Identifier: BSD-3-Clause
"""Debian packages of any release, by apt as it is configured on this machine."""
import os
import re
import shutil

from vm.base import CACHE, Unavailable, run_quiet, say

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def os_codename():
    try:
        with open("/etc/os-release") as handle:
            found = re.search(r"^VERSION_CODENAME=(\w+)", handle.read(), re.M)
            return found.group(1) if found else ""
    except OSError:
        return ""


def apt_own_archive():
    """The URI of this machine's own main Debian archive, as apt itself reads its sources."""
    if not shutil.which("apt-get"):
        raise Unavailable("no apt here: kernels are taken from Debian packages")
    text = run_quiet(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
                     "apt-get indextargets")
    rows = [line.split() for line in text.splitlines()]
    own = os_codename()
    for wanted in (lambda row: row[1] == own, lambda row: row[1] in ("stable", "testing", "unstable", "sid")):
        for row in rows:
            if len(row) == 3 and row[2] == "main" and wanted(row):
                return row[0]
    raise Unavailable("apt has no source for Debian %s here" % (own or "(unknown release)"))


class Apt:
    """apt for one release: the machine's own configuration, or a private folder beside it.

    With own, the private folder also has this machine's release and knows what is installed: for programs that are to run with
    the machine's libraries."""

    def __init__(self, release, own=False):
        self.release = release
        self.options = []
        if release == os_codename():
            return
        if not os.path.exists(KEYRING):
            raise Unavailable("%s is missing (package debian-archive-keyring)" % KEYRING)
        base = os.path.join(CACHE, "apt", release + ("+own" if own else ""))
        for part in ("lists/partial", "cache/archives/partial", "etc"):
            os.makedirs(os.path.join(base, part), exist_ok=True)
        source = os.path.join(base, "etc", "sources.list")
        with open(source, "w") as handle:
            for name in [release] + [os_codename()] * own:
                handle.write("deb [signed-by=%s] %s %s main\n" % (KEYRING, apt_own_archive(), name))
        status = "/var/lib/dpkg/status" if own else os.path.join(base, "etc", "status")
        if not own:
            open(status, "w").close()
        for key, value in (("Dir::Etc::SourceList", source), ("Dir::Etc::SourceParts", "/dev/null"),
                           ("Dir::Etc::Preferences", "/dev/null"), ("Dir::Etc::PreferencesParts", "/dev/null"),
                           ("Dir::State::Lists", os.path.join(base, "lists")), ("Dir::Cache", os.path.join(base, "cache")),
                           ("Dir::State::Status", status), ("APT::Default-Release", release),
                           ("Acquire::Languages", "none"), ("APT::Sandbox::User", ""),
                           ("APT::Update::Post-Invoke-Success", ""), ("DPkg::Post-Invoke", "")):
            self.options += ["-o", "%s=%s" % (key, value)]
        say("reading the package list of Debian %s" % release)
        run_quiet(["apt-get", "-qq", "update"] + self.options, "apt-get update for " + release)

    def show(self, package, field):
        text = run_quiet(["apt-cache", "show", "--no-all-versions", package] + self.options, "apt-cache show " + package)
        found = re.search(r"^%s: (.*)$" % field, text, re.M)
        return found.group(1) if found else ""

    def get(self, words, what, cwd=None):
        """Runs apt-get. Lists that are missing or out of date are read again, once."""
        command = ["apt-get", "-qq"] + self.options + words
        try:
            return run_quiet(command, what, cwd)
        except Unavailable:
            if self.options or os.geteuid() != 0:
                raise
            run_quiet(["apt-get", "-qq", "update"], "apt-get update")
            return run_quiet(command, what, cwd)

    def missing(self, package):
        """The package and those it needs that are not installed here, or only in a version too old."""
        text = self.get(["-s", "--no-install-recommends", "install", package], "apt-get -s install " + package)
        return [name.split(":")[0] for name in re.findall(r"^Inst (\S+)", text, re.M)]

    def download(self, package):
        """Path of the package's file, in the cache."""
        folder = os.path.join(CACHE, "debs", self.release)
        os.makedirs(folder, exist_ok=True)
        before = set(os.listdir(folder))
        self.get(["-o", "APT::Sandbox::User=root", "download", package], "apt-get download " + package, cwd=folder)
        files = [name for name in os.listdir(folder) if name.startswith(package + "_") and name.endswith(".deb")]
        fresh = [name for name in files if name not in before] or files
        if not fresh:
            raise Unavailable("apt-get download %s left no file" % package)
        return os.path.join(folder, max(fresh, key=lambda name: os.stat(os.path.join(folder, name)).st_ctime))


def unpack(deb, target):
    run_quiet(["dpkg-deb", "-x", deb, target], "unpacking " + os.path.basename(deb))
