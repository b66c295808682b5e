# SPDX-License-Identifier: BSD-3-Clause
"""Geo, for differential.py. Points lie in clusters, near the date line, near the poles and at the same place, so that searches find
something and edges are met. VALKEY says that the reference is Valkey 8: Redis 7.0 rounds distances
in another way, and misses places near the edge of some searches."""

VALKEY = False  # set by differential.py
GEOS = ["g1", "g2", "{t}g", "g3"]
CENTERS = [(13.36, 38.11), (15.08, 37.5), (-122.4, 37.7), (179.99, 10.0), (-179.98, -20.0), (0.0, 0.0), (100.0, 84.9), (-50.0, -84.0),
           (151.2, -33.8), (40.0, 67.0)]


def commands(gen):
    rng = gen.rng

    def key():
        return rng.choice(GEOS) if rng.random() < 0.96 else gen.key()

    def member():
        return "p%d" % rng.randint(0, 150) if rng.random() < 0.96 else rng.choice(["", "1", "none", "x" * 70])

    def point():
        roll = rng.random()
        if roll < 0.03:
            return rng.choice([["x", "1"], ["1", "nan"], ["181", "0"], ["0", "86"], ["-180", "-85.05112878"], ["180", "85.05112878"],
                               ["inf", "0"], ["0", "-85.06"]])
        if roll < 0.15:
            return [repr(rng.uniform(-180, 180)), repr(rng.uniform(-85.05, 85.05))]
        lon, lat = rng.choice(CENTERS)
        if roll < 0.3:
            return [repr(lon), repr(lat)]
        spread = rng.choice([0.001, 0.05, 1, 5])
        return [repr(min(180.0, max(-180.0, lon + rng.gauss(0, spread)))), repr(min(85.0, max(-85.0, lat + rng.gauss(0, spread))))]

    def unit():
        return rng.choice(["m", "km", "km", "ft", "mi", "M", "KM"]) if rng.random() < 0.98 else rng.choice(["x", "", "miles"])

    def distance():
        roll = rng.random()
        if roll < 0.04:
            return rng.choice(["0", "-1", "x", "", "nan", "inf", "1e300", "0.0001"])
        return "%.*g" % (rng.randint(1, 10), 10 ** rng.uniform(0, 5))

    def radius():
        return [distance(), unit()]

    def options():
        out = []
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            out += rng.choice([["WITHDIST"], ["WITHCOORD"], ["WITHHASH"], ["ASC"], ["DESC"], ["COUNT", str(rng.randint(1, 12))],
                               ["COUNT", str(rng.randint(1, 12)), "ANY"], ["withdist"], ["asc"]])
        if rng.random() < 0.04:
            out += rng.choice([["COUNT", "0"], ["COUNT", "x"], ["COUNT"], ["ANY"], ["bogus"], ["STORE"], ["STOREDIST"]])
        return out

    def store():
        return rng.choice([[], [], ["STORE", key()], ["STOREDIST", key()], ["store", key(), "STOREDIST", key()]])

    def where():
        out = [["FROMMEMBER", member()]] if rng.random() < 0.4 else [["FROMLONLAT"] + point()]
        out += [["BYRADIUS"] + radius()] if rng.random() < 0.5 else [["BYBOX", distance(), distance(), unit()]]
        if rng.random() < 0.03:
            out += rng.choice([[["FROMMEMBER", member()]], [["FROMLONLAT", "1", "1"]], [["BYRADIUS", "1", "km"]], [["BYBOX", "1"]]])
        if rng.random() < 0.03:
            out.pop(rng.randrange(len(out)))
        return out

    def search(*head):
        words = where() + [options()]
        rng.shuffle(words)
        return list(head) + sum(words, [])

    return [
        lambda: ["GEOADD", key()] + [x for _ in range(rng.randint(1, 12)) for x in point() + [member()]],
        lambda: ["GEOADD", key()] + [x for _ in range(rng.randint(1, 12)) for x in point() + [member()]],
        lambda: ["GEOADD", key()] + rng.choice([["NX"], ["XX"], ["CH"], ["XX", "CH"], ["NX", "XX"], ["GT"], ["nx", "ch"]]) +
        point() + [member()],
        lambda: ["GEOADD", key()] + point(), lambda: ["GEOPOS", key()] + [member() for _ in range(rng.randint(0, 4))],
        lambda: ["GEOHASH", key()] + [member() for _ in range(rng.randint(0, 4))],
        lambda: ["GEODIST", key(), member(), member()] + rng.choice([[], [unit()], [unit(), "x"]]),
        lambda: search("GEOSEARCH", key()), lambda: search("GEOSEARCH", key()), lambda: search("GEOSEARCH", key()),
        lambda: search("GEOSEARCHSTORE", "gs", key()) + rng.choice([[], ["STOREDIST"]]),
        lambda: ["GEORADIUS", key()] + point() + radius() + options() + (store() if rng.random() < 0.3 else []),
        lambda: ["GEORADIUS_RO", key()] + point() + radius() + options() + (store() if rng.random() < 0.1 else []),
        lambda: ["GEORADIUSBYMEMBER", key(), member()] + radius() + options() + (store() if rng.random() < 0.3 else []),
        lambda: ["GEORADIUSBYMEMBER_RO", key(), member()] + radius() + options(),
        lambda: ["ZREM", key(), member()], lambda: ["ZRANGE", "gs", "0", "-1"] + (["WITHSCORES"] if VALKEY else []),
        lambda: ["ZADD", key(), rng.choice(["-1", "5", "4503599627370496", "1e18", "-inf", "3.7"]), member()] if rng.random() < 0.05
        else ["ZCARD", key()],
        lambda: ["DEL", key()] if rng.random() < 0.05 else ["ZCARD", key()],
    ]


def skip(args):
    if VALKEY and args[0].upper() in ("GEOADD", "ZADD") and any(len(a) == 70 for a in args):
        return "Valkey 8 goes over to the large encoding when it sees a long member, even one that is not added"
    return None


def rounded(node):
    if isinstance(node.value, list):
        return [rounded(n) for n in node.value]
    text = node.render().strip('",')
    try:
        return "%.3f" % float(text) if "." in text else node.render()
    except ValueError:
        return node.render()


def normal(args, node):
    if VALKEY or not args[0].upper().startswith("GEO"):
        return None
    return rounded(node)
