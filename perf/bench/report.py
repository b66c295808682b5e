# SPDX-License-Identifier: BSD-3-Clause
"""What was measured, as Markdown, JSON and SVG."""
import html
import json
import math
import os

from bench.cases import Results, named, targets

COLOURS = {"kettle tcp": "#1f77b4", "kettle tls-user": "#2ca02c", "kettle tls-kernel": "#d62728", "kettle tls-tx": "#9467bd",
           "redis tcp": "#7f7f7f", "redis tls-user": "#3f3f3f", "valkey tcp": "#bcbd22", "valkey tls-user": "#8c6d31"}
OTHER = ["#17becf", "#e377c2", "#ff7f0e", "#8c564b"]
COLUMNS = [("server", 0), ("requests/s", 0), ("CPU us", 2), ("user", 2), ("system", 2), ("p50 ms", 3), ("p99 ms", 3), ("p99.9 ms", 3),
           ("instructions", 0), ("records/reply", 2), ("syscalls/request", 2), ("client CPU us", 2), ("CPU to best peer", 2)]


def number(value, digits):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "n/a"
    return "%.*f" % (digits, value) if abs(value) < 1e6 else "%.3g" % value


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(row) + " |" for row in rows]


def spread(values):
    known = [value for value in values if value is not None]
    return " (%.2f-%.2f)" % (min(known), max(known)) if len(known) > 1 else ""


def case_rows(res, case, icount):
    rows = []
    for who in sorted(res.rows[case]):
        metric = lambda name: res.median(case, who, name)
        peer = res.best_peer(case, who[1], "cpu")
        ratio = res.ratio((case, who), (case, peer), "cpu") if peer and who[0].startswith("kettle") else None
        values = ["%s %s" % who, None if icount else metric("rps"), metric("cpu"), metric("user"), metric("system")]
        values += [None if icount else metric(name) for name in ("p50", "p99", "p999")]
        values += [metric("cpu") * 1000 if icount else metric("instructions"), metric("records"), metric("syscalls"),
                   metric("client_cpu"), ratio]
        cells = [values[0]] + [number(value, digits) for value, (_, digits) in zip(values[1:], COLUMNS[1:])]
        cells[2] += spread(res.rows[case][who].get("cpu", []))
        rows.append(cells)
    return rows


def extra_tables(res):
    """The cases that are no stream of requests."""
    lines = []
    for case, columns in (("idle-", [("cpu_percent", "percent of a CPU", 3)]),
                          ("handshake-", [("per_cpu_second", "handshakes per server CPU second", 0), ("cpu", "server CPU us", 0)]),
                          ("accept-", [("rps", "connections/s", 0), ("per_cpu_second", "per server CPU second", 0),
                                       ("resumed_share", "share resumed", 2)]),
                          ("storm", [("rps", "requests/s of 2000 asked", 0), ("p50", "p50 ms", 2), ("p99", "p99 ms", 2),
                                     ("p999", "p99.9 ms", 2)]),
                          ("memory", [("rss", "resident bytes a connection", 0), ("slab", "kernel slab bytes (both ends)", 0)]),
                          ("keys-", [("cpu", "CPU us a request", 2), ("rps", "requests/s", 0), ("p99", "p99 ms", 3)])):
        rows = [[name, "%s %s" % who] + [number(res.median(name, who, metric), digits) for metric, _, digits in columns]
                for name in res.rows if name.startswith(case) for who in sorted(res.rows[name])]
        if rows:
            lines += ["", "## " + case.rstrip("-"), ""] + table(["case", "server"] + [text for _, text, _ in columns], rows)
    return lines


def markdown(facts, res, cases, picture):
    lines = ["# %s" % facts["title"], "", "`%s`" % facts["command"], ""]
    lines += ["- %s: %s" % tuple(pair) for pair in facts["where"]]
    lines += ["", "What the columns mean: docs/PERFORMANCE.md. CPU: the server's, all threads, per request; in brackets the lowest and "
              "the highest round.", "", "![CPU per request](%s)" % picture] if cases else [""]
    lines += ["", "## Targets", ""]
    rows = [[t.text, number(t.value, 2), number(t.best, 2)] + t.row()[3:] for t in targets(res, cases)]
    lines += table(["what", "ratio", "of the best rounds", "limit", "against", "verdict"], rows) if rows else ["None of these cases has one."]
    for case in cases:
        if case.id in res.rows:
            lines += ["", "## " + case.id, ""] + table([name for name, _ in COLUMNS], case_rows(res, case.id, facts["icount"]))
    return "\n".join(lines + extra_tables(res)) + "\n"


# ---- picture ---------------------------------------------------------------------------------------------------------------

def ticks(low, high):
    found = []
    for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        found += [step * 10 ** power for step in (1, 2, 5) if low <= step * 10 ** power <= high]
    return found


def svg(res, cases, title, unit):
    """A row a case, a dot a server, CPU per request on a logarithmic axis."""
    rows = [case.id for case in cases if case.id in res.rows]
    points = {(case, who): res.median(case, who, "cpu") for case in rows for who in res.rows[case]}
    points = {key: value for key, value in points.items() if value}
    if not points:
        return None
    low, high = min(points.values()) / 1.3, max(points.values()) * 1.3
    names = sorted({"%s %s" % who for _, who in points})
    colours = {name: COLOURS.get(name) or OTHER[i % len(OTHER)] for i, name in enumerate(names)}
    left, width, top, step = 210, 640, 60 + 18 * ((len(names) + 3) // 4), 26
    x = lambda value: left + width * math.log(value / low) / math.log(high / low)
    bottom = top + step * len(rows)
    out = ['<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">'
           % (left + width + 30, bottom + 45), '<rect width="100%" height="100%" fill="white"/>',
           '<text x="10" y="22" font-size="15">%s</text>' % html.escape(title)]
    for i, name in enumerate(names):
        cx, cy = left + (i % 4) * 160, 42 + 18 * (i // 4)
        out.append('<circle cx="%d" cy="%d" r="5" fill="%s"/><text x="%d" y="%d">%s</text>'
                   % (cx, cy, colours[name], cx + 9, cy + 4, html.escape(name)))
    for value in ticks(low, high):
        out.append('<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%g</text>'
                   % (x(value), top - 8, x(value), bottom, x(value), bottom + 15, value))
    out.append('<text x="%d" y="%d" text-anchor="middle">%s</text>' % (left + width // 2, bottom + 35, html.escape(unit)))
    for i, case in enumerate(rows):
        y = top + step * i + step // 2
        out.append('<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#eee"/><text x="%d" y="%d" text-anchor="end">%s</text>'
                   % (left, y, left + width, y, left - 8, y + 4, case))
        for (row, who), value in sorted(points.items()):
            if row == case:
                name = "%s %s" % who
                out.append('<circle cx="%.1f" cy="%d" r="5" fill="%s" fill-opacity="0.85"><title>%s: %.3g</title></circle>'
                           % (x(value), y, colours[name], html.escape(name), value))
    return "\n".join(out + ["</svg>", ""])


def render(path):
    """Writes .md and .svg again from a .json of before. The paths written."""
    with open(path) as handle:
        data = json.load(handle)
    rows = {case: {tuple(who.split(" ", 1)): values for who, values in found.items()} for case, found in data["cases"].items()}
    cases = [case for case in map(named, rows) if case]
    return write(os.path.dirname(path) or ".", os.path.basename(path)[:-len(".json")], data["facts"], rows, cases)


def write(folder, name, facts, rows, cases):
    """folder/name.md, .json and .svg. The paths written."""
    os.makedirs(folder, exist_ok=True)
    res = Results(rows)
    picture = svg(res, cases, facts["title"], "server CPU per request, " + ("1,000 instructions" if facts["icount"] else "microseconds")
                  + " (logarithmic; left is better)")
    data = {"facts": facts, "targets": [dict(zip(("what", "ratio", "best_rounds", "limit", "against", "verdict"), t.row())) for t in targets(res, cases)],
            "cases": {case: {"%s %s" % who: values for who, values in found.items()} for case, found in rows.items()}}
    texts = {".md": markdown(facts, res, cases if picture else [], name + ".svg"), ".json": json.dumps(data, indent=1) + "\n"}
    if picture:
        texts[".svg"] = picture
    for suffix, text in texts.items():
        with open(os.path.join(folder, name + suffix), "w") as handle:
            handle.write(text)
    return [os.path.join(folder, name + suffix) for suffix in texts]
