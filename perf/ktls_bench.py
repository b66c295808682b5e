#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What a request costs: kettle-server over plaintext, userspace TLS and kernel TLS, beside redis-server and valkey-server.

Called by perf/ktls-bench.sh, which builds what is needed, finds the peers and brings up the machine of --vm; its --help is below.

Usage: perf/ktls-bench.sh [OPTIONS]
       perf/ktls-bench.sh --vm [KERNEL] [OPTIONS]    in scripts/vm-run's machine with KERNEL (default qemu-6.12; QEMU counts instructions)

  --quick            four cases, 3 rounds, under two minutes
  --all              the product of all sizes, pipelines, clients and threads instead of one axis at a time. Hours
  --cases REGEX      only the cases whose name it matches (--list names them)
  --list             the names of the cases
  --rounds N         rounds (default 5; 3 with --quick or --vm). The servers take turns within a round; the median counts
  --seconds S        how long a run is about (default 1; 0.6 with --quick; with --vm 0.15 seconds of the machine's own time)
  --servers LIST     of kettle, kettle-epoll, kettle-uring, redis, valkey (default kettle,redis,valkey)
  --transports LIST  of tcp, tls-user, tls-kernel, tls-tx (default: all that this kernel and this server have)
  --kettle PATH      the kettle-server to measure (default build/kettle-server)
  --client PATH      the load: kettle-benchmark (default: build/kettle-benchmark) or redis-benchmark
  --client-threads N threads of the client (default 1)
  --suite NAME       TLS 1.3 suite of the client (default TLS_AES_256_GCM_SHA384)
  --extras LIST      of handshake, accept, idle, half, growth, storm, memory, keys: what is no stream of requests as fast as it goes (default: none
                     with --quick, --cases or --vm, else handshake,accept,idle,half,growth,storm); "all", "none"
  --connections N    idle connections of `memory` (default 10000)
  --keys N           keys of `keys` (default 10000000)
  --no-syscalls      do not count system calls (strace, on runs of their own)
  --out NAME         perf/results/NAME.md, .json, .svg (default: host or vm-KERNEL, with -quick)
  --folder DIR       instead of perf/results
  --render FILE      only write the Markdown and the picture again from a FILE.json of before

Exit status: 0; 1 something failed; whether targets were met is in the output, not in the status: machines differ.
"""
import argparse
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from bench import cases as catalogue
from bench import extra, load, report
from bench.servers import CERTS, ROOT, Program, Server, output

CLOCKED = ("rps", "p50", "p99", "p999")  # say nothing where a nanosecond is an instruction
EXTRAS = ("handshake", "accept", "idle", "half", "growth", "storm", "memory", "keys")


class Progress:
    """A line that says how far it is: rewritten on a terminal, else one a second at most."""

    def __init__(self):
        self.total = self.done = 0
        self.began, self.last, self.tty = time.monotonic(), 0.0, sys.stderr.isatty()

    def step(self, text):
        spent = time.monotonic() - self.began
        left = spent / self.done * (self.total - self.done) if self.done else 0
        line = "[%d/%d] %s left  %s" % (self.done, self.total, "%d:%02d" % divmod(int(left), 60) if self.done else "?", text)
        if self.tty:
            sys.stderr.write("\r\033[K" + line)
        elif time.monotonic() - self.last > 1 or self.done + 1 >= self.total:
            sys.stderr.write(line + "\n")
            self.last = time.monotonic()
        sys.stderr.flush()

    def count(self):
        self.done += 1

    def end(self):
        if self.tty:
            sys.stderr.write("\r\033[K")


class Bench:
    def __init__(self, args):
        self.args = args
        self.progress = Progress()
        self.client = load.Client(args.client, args.suite, args.client_threads)
        self.kernel_tls = subprocess.run([os.path.join(ROOT, "build/ktls-probe")], stdout=subprocess.DEVNULL).returncode == 0
        self.has_counter = not args.icount and load.counter_available()
        self.running, self.rows, self.notes, self.refused = {}, {}, [], set()
        self.suites, self.back_ends, self.halves = set(), set(), []
        self.programs = self.find_programs()

    def note(self, text):
        if text not in self.notes:
            self.notes.append(text)
            print("\rktls-bench: " + text, file=sys.stderr, flush=True)

    def find_programs(self):
        args, found = self.args, []
        for name in args.servers.split(","):
            if name.startswith("kettle"):
                back_end = name.partition("-")[2]
                found.append(Program(name, args.kettle, options=["--event-loop", back_end] if back_end else []))
            elif name in ("redis", "valkey"):
                path = getattr(args, name) or shutil.which(name + "-server")
                if path:
                    found.append(Program(name, path, getattr(args, name + "_libs")))
                else:
                    self.note("no %s-server here: left out" % name)
            else:
                raise SystemExit("ktls-bench: --servers: %s is none" % name)
        return found

    def contestants(self, tls_only=False):
        wanted = self.args.transports.split(",") if self.args.transports else None
        for program in self.programs:
            for transport in program.transports(self.kernel_tls):
                if wanted and transport not in wanted or tls_only and transport == "tcp":
                    continue
                if (program.name, transport) not in self.refused:
                    yield program, transport

    def server(self, program, transport, threads):
        """Running already, or started now; None: this server does not have this transport."""
        key = (program.name, transport, threads)
        if key not in self.running:
            try:
                self.running[key] = Server(program, transport, threads)
            except RuntimeError as exc:
                if transport != "tls-tx":
                    raise
                self.refused.add(key[:2])
                self.note("tls-tx left out: %s" % exc)
                return None
            if program.is_kettle:
                self.back_ends.add("%s: %s" % (program.name, self.running[key].field("server", "multiplexing_api")))
        return self.running[key]

    def stop_all(self, keep=None):
        for key in [key for key in self.running if keep is None or key[2] != keep]:
            self.running.pop(key).stop()

    def add(self, case, who, row):
        found = self.rows.setdefault(case, {}).setdefault(who, {})
        for metric, value in row.items():
            if not isinstance(value, str) and not (self.args.icount and metric in CLOCKED):
                found.setdefault(metric, []).append(value)

    # ---- a case ----

    def calibrate(self, server, case, keys):
        """Requests of a run that takes about --seconds. A run before it also warms up."""
        few = case.clients * case.pipeline
        n = few if self.args.icount else max(2 * few, 100 if case.size > 65536 else 3000)
        row = load.timed(self.client, server, case, n, keys)
        self.suites.add(row["tls"])
        if case.rate:
            return int(case.rate * max(self.args.seconds, 0.5))
        # So many that the server is busy for most of that time, however little the machine gives it, within three times the time.
        busy = max(row["server_ns"], 1) / row["n"]
        return max(few if self.args.icount and self.client.is_kettle else 2 * few, min(int(0.7e9 * self.args.seconds / busy), int(3 * row["rps"] * self.args.seconds)))

    def prepare(self, case):
        """[(who, server, keys, requests)] of those that take part, and what is measured once: records and system calls."""
        keys, taking = case.keys(0.1 if self.args.icount else 1), []
        for program, transport in list(self.contestants()):
            who = (program.name, transport)
            self.progress.step("%s  %s %s: prepare" % (case.id, program.name, transport))
            server = self.server(program, transport, case.threads)
            if not server:
                continue
            server.load_keys(case.size, keys)
            n = self.calibrate(server, case, keys)
            once = {"records": load.records_per_reply(server, case)}
            few = max(case.clients * case.pipeline, min(n, 300 if self.args.icount else 1500 if self.args.quick else 5000 if case.size < 65536 else 200))
            if not self.args.no_syscalls:
                once["syscalls"] = load.syscalls_per_request(self.client, server, case, few, keys)
            if self.has_counter:
                once["instructions"] = load.instructions_per_request(self.client, server, case, n, keys)
            self.add(case.id, who, once)
            taking.append((who, server, keys, n))
        return taking

    def run_case(self, case):
        self.stop_all(keep=case.threads)
        taking = self.prepare(case)
        for number in range(self.args.rounds):
            turn = number % max(len(taking), 1)
            for who, server, keys, n in taking[turn:] + taking[:turn]:
                self.progress.step("%s  %s %s, round %d" % ((case.id,) + who + (number + 1,)))
                self.add(case.id, who, load.measure(self.client, server, case, n, keys))
                self.progress.count()

    def half_cases(self):
        """GET at half of what one thread does, with one and with two."""
        for transport in [transport for program, transport in self.contestants() if program.name == "kettle"]:
            rate = statistics.median(self.rows.get("get-100-p1-c50-t1", {}).get(("kettle", transport), {}).get("rps", [0]))
            if rate:
                yield transport, [catalogue.Case("get", 100, 1, 50, threads, int(rate / 2), "-half") for threads in (1, 2)]

    # ---- what is no stream of requests ----

    def run_half(self):
        if not self.client.is_kettle:
            self.note("half needs kettle-benchmark's --rps")
            return
        chosen = list(self.half_cases())
        if not chosen:
            self.note("half needs the case get-100-p1-c50-t1")
        for transport, pair in chosen:
            program = [program for program in self.programs if program.name == "kettle"][0]
            servers = [self.server(program, transport, case.threads) for case in pair]
            self.halves += [case for case in pair if case.id not in [known.id for known in self.halves]]
            for number in range(self.args.rounds):
                for case, server in zip(pair, servers):
                    keys = case.keys(1)
                    server.load_keys(case.size, keys)
                    n = int(case.rate * max(self.args.seconds, 0.5))
                    self.progress.step("half load, %s, %d threads, round %d" % (transport, case.threads, number + 1))
                    self.add(case.id, ("kettle", transport), load.measure(self.client, server, case, n, keys))

    def run_growth(self):
        program = [program for program in self.programs if program.is_kettle][0]
        chosen = catalogue.growth()
        self.halves += chosen
        for transport in [transport for found, transport in self.contestants() if found is program]:
            counts = {}
            for number in range(self.args.rounds):
                turn = number % len(chosen)
                for case in chosen[turn:] + chosen[:turn]:
                    server, keys = self.server(program, transport, case.threads), case.keys(1)
                    self.progress.step("growth, %s %s, round %d" % (case.id, transport, number + 1))
                    server.load_keys(case.size, keys)
                    if case.id not in counts:
                        counts[case.id] = self.calibrate(server, case, keys)
                    self.add(case.id, (program.name, transport), load.measure(self.client, server, case, counts[case.id], keys))

    def run_storm(self):
        case = catalogue.Case("get", 100, 1, 20, rate=2000)
        for number in range(self.args.rounds if self.client.is_kettle else 0):
            for program, transport in self.contestants(tls_only=True):
                server = self.server(program, transport, 1)
                if server:
                    self.progress.step("handshake storm, %s %s, round %d" % (program.name, transport, number + 1))
                    keys = case.keys(1)
                    server.load_keys(case.size, keys)
                    n = int(case.rate * max(self.args.seconds, 0.5))
                    self.add("storm", (program.name, transport), extra.storm(self.client, server, case, keys, n))

    def run_handshake(self):
        for number in range(self.args.rounds):
            for kind in ("full", "resumed"):
                for program, transport in self.contestants(tls_only=True):
                    server = self.server(program, transport, 1)
                    if server:
                        self.progress.step("handshakes, %s, %s %s, round %d" % (kind, program.name, transport, number + 1))
                        count = 20 if self.args.icount else int(300 * self.args.seconds)
                        self.add("handshake-" + kind, (program.name, transport), extra.handshakes(server, kind, count))

    def run_accept(self):
        for number in range(self.args.rounds):
            for kind in ("full", "resumed"):
                for program, transport in self.contestants(tls_only=True):
                    for threads in (1, 2) if program.is_kettle else (1,):
                        server = self.server(program, transport, threads)
                        if server:
                            self.progress.step("connections, %s, %s %s, %d threads, round %d" % (kind, program.name, transport, threads, number + 1))
                            row = extra.accepts(load.default_client(), server, kind, 200 if self.args.icount else int(2000 * self.args.seconds))
                            self.add("accept-%s-t%d" % (kind, threads), (program.name, transport), row)

    def run_idle(self):
        for threads in catalogue.THREADS:
            self.stop_all(keep=threads)
            for program, transport in self.contestants():
                if transport == "tcp":
                    self.progress.step("idle, %s, %d threads" % (program.name, threads))
                    server = self.server(program, transport, threads)
                    self.add("idle-t%d" % threads, (program.name, transport), extra.idle(server, 2))

    def run_memory(self):
        self.stop_all()
        self.progress.step("memory of %d idle connections" % self.args.connections)
        self.rows["memory"] = extra.memory(self.args.connections, min(3, self.args.rounds), self.programs)

    def run_keys(self):
        self.stop_all()
        need = self.args.keys * 260 // (1 << 20)
        if extra.available_mb() < need + 500:
            self.note("keys: %d MB of memory are available, %d keys take about %d: left out" % (extra.available_mb(), self.args.keys, need))
            return
        program = [program for program in self.programs if program.is_kettle][0]
        say = lambda text: self.progress.step("keys, " + text)
        self.rows.update({case: {(program.name, "tcp"): found} for case, found in extra.keys(
            program, self.client, self.args.keys, self.args.rounds, int(150000 * self.args.seconds), say).items()})

    def run(self, chosen, extras, save):
        """save is called after every case: what was measured until then is not lost if the rest is."""
        self.progress.total = len(chosen) * self.args.rounds * len(list(self.contestants())) + len(extras)
        try:
            for case in chosen:
                self.run_case(case)
                save()
            self.stop_all(keep=1)
            for name in extras:
                getattr(self, "run_" + name)()
                save()
                self.progress.count()
        finally:
            self.stop_all()
            self.progress.end()


# ---- the report's head -------------------------------------------------------------------------------------------------------

def cpu_model():
    with open("/proc/cpuinfo") as handle:
        found = re.search(r"^model name\s*:\s*(.*)$", handle.read(), re.M)
    return found.group(1) if found else platform.machine()


def facts(bench, args, seconds):
    foreign = [value for case in bench.rows.values() for row in case.values() for value in row.get("foreign", [])]
    where = [("machine", "%s, %d CPUs%s" % (cpu_model(), os.cpu_count(), ", emulated by QEMU; 1 ns of CPU time is 1 instruction" if args.icount else "")),
             ("kernel", "Linux %s, kernel TLS: %s" % (platform.release(), "yes" if bench.kernel_tls else "no"))]
    tree = output("git", "-C", ROOT, "describe", "--always") if shutil.which("git") else ""
    where += [("tree", tree)] if tree else []
    where += [(program.name, program.version()) for program in bench.programs]
    where += [("event loop", ", ".join(sorted(bench.back_ends))), ("OpenSSL", output("openssl", "version")),
              ("client", "%s, %d thread(s)%s" % (os.path.basename(args.client), args.client_threads, "".join(
                  "; TLS: " + suite for suite in sorted(bench.suites) if suite)))]
    where += [("rounds", "%d of about %g s a run, servers taking turns" % (args.rounds, args.seconds)),
              ("date", "%s; it took %d s" % (time.strftime("%Y-%m-%d"), seconds))]
    if foreign and not args.icount:
        where.append(("other load", "what else ran meanwhile took %.2f CPUs on average (median of the runs; highest %.2f)"
                      % (statistics.median(foreign), max(foreign))))
    where += [("note", text) for text in bench.notes]
    return {"title": "What a request costs: %s" % args.out, "command": args.told, "where": where, "icount": args.icount}


def options(argv):
    usage = __doc__.split("Usage: ")[1].split("\n\nExit")[0].replace("%", "%%")
    parser = argparse.ArgumentParser(usage=usage, add_help=False)
    for name in ("--quick", "--all", "--list", "--no-syscalls", "--icount", "--help"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--servers", default="kettle,redis,valkey")
    parser.add_argument("--kettle", default=os.path.join(ROOT, "build/kettle-server"))
    parser.add_argument("--client", default=load.default_client())
    parser.add_argument("--client-threads", type=int, default=1)
    parser.add_argument("--suite", default="TLS_AES_256_GCM_SHA384")
    parser.add_argument("--connections", type=int, default=10000)
    parser.add_argument("--keys", type=int, default=10000000)
    parser.add_argument("--folder", default=os.path.join(ROOT, "perf/results"))
    for name in ("--cases", "--transports", "--extras", "--out", "--redis", "--valkey", "--render"):
        parser.add_argument(name)
    for name in ("--redis-libs", "--valkey-libs", "--told"):
        parser.add_argument(name, default="")
    args = parser.parse_args(argv)
    args.rounds = args.rounds or (3 if args.quick or args.icount else 5)
    args.seconds = args.seconds or (0.15 if args.icount else 0.6 if args.quick else 1.0)
    args.out = args.out or ("quick" if args.quick else "host")
    args.told = args.told or "perf/ktls-bench.sh " + " ".join(argv)
    if args.extras is None:
        args.extras = "none" if args.quick or args.cases or args.icount else "handshake,accept,idle,half,growth,storm"
    return args


def choose(args):
    made = catalogue.quick() if args.quick else catalogue.product() if args.all else catalogue.icount() if args.icount else catalogue.axes()
    chosen = [case for case in made if not args.cases or re.search(args.cases, case.id)]
    extras = [] if args.extras == "none" else list(EXTRAS) if args.extras == "all" else args.extras.split(",")
    for name in extras:
        if name not in EXTRAS:
            raise SystemExit("ktls-bench: --extras: %s is none" % name)
    return sorted(chosen, key=lambda case: case.threads), extras


def raise_file_limit():
    """For 10,000 connections; a machine of scripts/vm-run starts with 4,096 files at most."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = 20000
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, want), max(hard, want)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main():
    args = options(sys.argv[1:])
    if args.help:
        print(__doc__.split("\n\n", 2)[2])
        return 0
    chosen, extras = choose(args)
    if args.list:
        print("\n".join([case.id for case in chosen] + ["--extras " + ",".join(EXTRAS)]))
        return 0
    if args.icount:  # the machine's clock starts before the test certificates are valid
        time.clock_settime(time.CLOCK_REALTIME, os.stat(os.path.join(CERTS, "server.crt")).st_mtime + 3600)
    if args.render:
        print("\n".join(report.render(args.render)))
        return 0
    raise_file_limit()
    began, bench = time.monotonic(), Bench(args)
    save = lambda: report.write(args.folder, args.out, facts(bench, args, time.monotonic() - began), bench.rows, chosen + bench.halves)
    bench.run(chosen, extras, save)
    written = save()
    print("\n".join("%-12s %s" % (t.verdict(), " ".join([t.text, t.row()[3], "is", report.number(t.value, 2), t.against and "(against %s)" % t.against]))
                    for t in catalogue.targets(catalogue.Results(bench.rows), chosen)))
    print("\n".join(os.path.relpath(path, os.getcwd()) for path in written))
    return 0


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):  # the servers end with it
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        sys.exit(main())
    except (RuntimeError, OSError) as failure:
        print("\nktls-bench: %s" % failure, file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nktls-bench: interrupted", file=sys.stderr)
        sys.exit(130)
