# SPDX-License-Identifier: BSD-3-Clause
"""What is measured, and what it is held against."""
import re
import statistics

SIZES = (3, 100, 1024, 16384, 1 << 20)
PIPELINES = (1, 16, 128)
CLIENTS = (1, 50, 1000)
THREADS = (1, 2, 4)
TLS = ("tls-user", "tls-kernel", "tls-tx")


class Case:
    """Requests of one kind. rate: requests per second in all, 0: as many as go; label stands for it in the name."""

    def __init__(self, op, size, pipeline=1, clients=50, threads=1, rate=0, label=""):
        self.op, self.size, self.pipeline, self.clients, self.threads, self.rate = op, size, pipeline, clients, threads, rate
        self.id = "%s-%d-p%d-c%d-t%d" % (op, size, pipeline, clients, threads) + (label or ("-r%d" % rate if rate else ""))

    def keys(self, scale):
        """Different keys: so many that their values fill 8 MB (16 of 1 MiB), at most 10,000."""
        return max(4, int(max(16, min(10000, (8 << 20) // self.size)) * scale))


def named(name):
    """The case of a name, None if it is none of a stream of requests."""
    found = re.match(r"(get|set)-(\d+)-p(\d+)-c(\d+)-t(\d+)(?:-r(\d+)|(-half|-turns))?$", name)
    if not found:
        return None
    size, pipeline, clients, threads = (int(found.group(i)) for i in range(2, 6))
    return Case(found.group(1), size, pipeline, clients, threads, int(found.group(6) or 0), found.group(7) or "")


def axes():
    """Every value of every axis, each with the others at 100 bytes, unpipelined, 50 clients, one thread."""
    found = [Case(op, size) for size in SIZES for op in ("get", "set")]
    found += [Case(op, 100, pipeline) for pipeline in (16, 128) for op in ("get", "set")]
    found += [Case("get", 16384, 16), Case("get", 100, rate=20000)]
    found += [Case("get", 100, pipeline, clients) for clients in (1, 1000) for pipeline in (1, 16)]
    found += [Case("get", 100, pipeline, 50, threads) for threads in (2, 4) for pipeline in (1, 16)]
    return found


def product():
    """All values of all axes with all others. Hours. Pipelines of more than 32 MiB are left out."""
    return [Case(op, size, pipeline, clients, threads) for threads in THREADS for clients in CLIENTS for pipeline in PIPELINES
            for size in SIZES for op in ("get", "set") if size * pipeline * min(clients, 50) <= 1 << 26]


def quick():
    return [Case("get", 100), Case("set", 100), Case("get", 100, 16), Case("get", 16384)]


def growth():
    """One thread beside two, 50 clients beside 1,000: taking turns, so that what the machine does meanwhile hits them alike."""
    return [Case("get", 100, pipeline, clients, threads, label="-turns") for pipeline in (1, 16) for clients, threads in ((50, 1), (50, 2), (1000, 1))]


def icount():
    """Those of the targets of kernel TLS, and SET beside GET."""
    return [Case("get", 100), Case("set", 100), Case("get", 100, 16), Case("set", 100, 16), Case("get", 16384), Case("get", 1 << 20)]


# ---- targets ---------------------------------------------------------------------------------------------------------------

class Results:
    """rows[case id][(server, transport)][metric] = values, one a round."""

    def __init__(self, rows):
        self.rows = rows

    def values(self, case, who, metric):
        found = self.rows.get(case, {}).get(who, {}).get(metric) or []
        return [value for value in found if value is not None]

    def median(self, case, who, metric):
        found = self.values(case, who, metric)
        return statistics.median(found) if found else None

    def ratio(self, a, b, metric):
        """Median of the rounds' ratios of (case, who) a to b: what the machine did meanwhile hits both of a round alike."""
        first, second = self.values(a[0], a[1], metric), self.values(b[0], b[1], metric)
        if not first or not second:
            return None
        if len(first) != len(second):
            return statistics.median(first) / statistics.median(second)
        return statistics.median(x / y for x, y in zip(first, second))

    def target(self, text, a, b, metric, limit, at_least=False, against=""):
        first, second = self.values(a[0], a[1], metric), self.values(b[0], b[1], metric)
        best = (max(first) / max(second) if at_least else min(first) / min(second)) if first and second and min(second) > 0 else None
        return Target(text, self.ratio(a, b, metric), limit, at_least, against, best)

    def best_peer(self, case, transport, metric, most=False):
        """Whose figure is best among the peers with the same kind of transport: (server, transport) or None."""
        kind = "tcp" if transport == "tcp" else "tls-user"
        peers = [who for who in self.rows.get(case, {}) if not who[0].startswith("kettle") and who[1] == kind
                 and self.median(case, who, metric) is not None]
        pick = max if most else min
        return pick(peers, key=lambda who: self.median(case, who, metric)) if peers else None


class Target:
    """value: the median; best: the same of both sides' best rounds, those that other load on the machine disturbed least."""

    def __init__(self, text, value, limit, at_least=False, against="", best=None):
        self.text, self.value, self.limit, self.at_least, self.against, self.best = text, value, limit, at_least, against, best

    def verdict(self):
        if self.value is None:
            return "not measured"
        return "met" if (self.value >= self.limit if self.at_least else self.value <= self.limit) else "MISSED"

    def row(self):
        sign = ">=" if self.at_least else "<="
        return [self.text, self.value, self.best, "%s %g" % (sign, self.limit), self.against, self.verdict()]


def against_peers(res, cases, server):
    """Limits of server CPU per request against the best peer over the same kind of transport."""
    found = []
    for case in cases:
        for transport in ("tcp",) + TLS:
            who = (server, transport)
            if res.median(case.id, who, "cpu") is None or case.threads != 1:
                continue
            limit = {"tcp": {1: 0.5, 16: 0.6}, "tls-user": {1: 0.6, 16: 0.7}}.get(transport, {}).get(case.pipeline)
            if transport in ("tls-kernel", "tls-tx"):
                limit = 0.7
            elif case.size != 100 or case.clients != 50:
                limit = None
            peer = res.best_peer(case.id, transport, "cpu")
            if not limit or not peer:
                continue
            found.append(res.target("%s %s: server CPU" % (case.id, transport), (case.id, who), (case.id, peer), "cpu", limit,
                                against="%s %s" % peer))
            if transport == "tcp" and case.pipeline == 1 and not case.rate and case.size == 100 and case.clients == 50:
                fast = res.best_peer(case.id, transport, "rps", most=True)
                if not fast:
                    continue
                found.append(res.target("%s tcp: requests per second" % case.id, (case.id, who), (case.id, fast), "rps", 1.5,
                                    at_least=True, against="%s tcp" % fast[0]))
    return found


def of_kernel_tls(res, server):
    """Kernel TLS against the same server's other transports."""
    user, limits = (server, "tls-user"), (("get-100-p1-c50-t1", 1.0), ("set-100-p1-c50-t1", 1.0), ("get-100-p16-c50-t1", 0.9),
                                          ("set-100-p16-c50-t1", 0.9), ("get-16384-p1-c50-t1", 0.75), ("get-1048576-p1-c50-t1", 0.7))
    found = []
    for transport in ("tls-kernel", "tls-tx"):
        who = (server, transport)
        for case, limit in limits:
            if res.median(case, who, "cpu") is not None:
                found.append(res.target("%s %s: server CPU" % (case, transport), (case, who), (case, user), "cpu", limit,
                                    against="%s tls-user" % server))
        for case in ("get-100-p16-c50-t1", "set-100-p16-c50-t1"):
            if res.median(case, who, "cpu") is not None:
                found.append(res.target("%s %s: server CPU" % (case, transport), (case, who), (case, (server, "tcp")), "cpu", 1.4,
                                    against="%s tcp" % server))
    return found


def of_growth(res, server):
    found = []
    for transport in ("tcp",) + TLS:
        who = (server, transport)
        for pipeline, label in ((1, ""), (16, ""), (1, "-turns"), (16, "-turns")):
            one, two, many = ("get-100-p%d-c%d-t%d%s" % (pipeline, clients, threads, label) for clients, threads in ((50, 1), (50, 2), (1000, 1)))
            if res.median(two, who, "rps") is not None:
                found.append(res.target("%s %s: requests per second" % (two, transport), (two, who), (one, who), "rps", 1.0,
                                    at_least=True, against="1 thread"))
            if res.median(many, who, "cpu") is not None:
                found.append(res.target("%s %s: server CPU" % (many, transport), (many, who), (one, who), "cpu", 1.3,
                                    against="50 clients"))
        for case in list(res.rows):
            if case.endswith("-t2-half") and res.median(case, who, "p99") is not None:
                found.append(res.target("%s %s: p99" % (case, transport), (case, who), (case.replace("-t2-", "-t1-"), who), "p99",
                                    1.5, against="1 thread"))
        if res.median("keys-many", who, "cpu") is not None:
            found.append(res.target("keys-many %s: server CPU of GET" % transport, ("keys-many", who), ("keys-few", who), "cpu", 1.3,
                                against="10,000 keys"))
        for kind in ("full", "resumed"):
            if res.median("accept-%s-t2" % kind, who, "rps") is not None:
                found.append(res.target("accept-%s-t2 %s: connections per second" % (kind, transport), ("accept-%s-t2" % kind, who), ("accept-%s-t1" % kind, who), "rps", 1.8, at_least=True,
                                    against="1 thread"))
    for threads in (1, 2, 4):
        idle = res.median("idle-t%d" % threads, (server, "tcp"), "cpu_percent")
        if idle is not None:
            found.append(Target("idle-t%d: percent of a CPU" % threads, idle, 0.5))
    return found


def of_memory(res, server):
    case, found = "memory", []
    get = lambda who: res.median(case, who, "rss")
    plain = get((server, "tcp"))
    if plain is not None and get((server, "tls-kernel")) is not None:
        found.append(Target("memory tls-kernel: KiB an idle connection above tcp's", (get((server, "tls-kernel")) - plain) / 1024, 3))
    if get((server, "tls-user")) is not None and get(("redis", "tls-user")):
        found.append(Target("memory tls-user: resident bytes an idle connection", get((server, "tls-user")) / get(("redis", "tls-user")), 0.5,
                            against="redis tls-user"))
    return found


def targets(res, cases):
    found = []
    for server in sorted({who[0] for row in res.rows.values() for who in row if who[0].startswith("kettle")}):
        own = against_peers(res, cases, server) + of_kernel_tls(res, server) + of_growth(res, server) + of_memory(res, server)
        for target in own:
            target.text = target.text if server == "kettle" else "%s: %s" % (server, target.text)
        found += own
    return found
