# SPDX-License-Identifier: BSD-3-Clause
"""Geo: every command, option and error of Redis 7.2."""
import pytest

from resp import run

WRONGTYPE = "-WRONGTYPE Operation against a key holding the wrong kind of value"
NOTFLOAT = "-ERR value is not a valid float"
NOTINT = "-ERR value is not an integer or out of range"
SYNTAX = "-ERR syntax error"
UNIT = "-ERR unsupported unit provided. please use M, KM, FT, MI"
NOMEMBER = "-ERR could not decode requested zset member"
SICILY = "GEOADD Sicily 13.361389 38.115556 Palermo 15.087269 37.502669 Catania => :2"


def arity(name):
    return "-ERR wrong number of arguments for '%s' command" % name


@pytest.fixture(params=["listpack", "skiplist"])
def g(request, c):
    """A connection with two places in Sicily, in this encoding."""
    c.ok("CONFIG", "SET", "zset-max-listpack-entries", "128" if request.param == "listpack" else "0")
    run(c, "SET s x\n" + SICILY)
    yield c
    c.ok("CONFIG", "SET", "zset-max-listpack-entries", "128")


def test_geoadd(g):
    run(g, f"""
        TYPE Sicily => +zset
        ZRANGE Sicily 0 -1 => ["Palermo", "Catania"]
        2| ZSCORE Sicily Palermo => "3479099956230698"
        3| ZSCORE Sicily Palermo => ,3479099956230698
        GEOADD Sicily 13.361389 38.115556 Palermo => :0
        GEOADD Sicily NX 1 1 Palermo => :0
        GEOADD Sicily XX 1 1 other => :0
        GEOADD Sicily CH 13 38 Palermo 14 37 Gela => :2
        GEOADD Sicily XX CH 14.25 37.08 Gela => :1
        GEOADD Sicily xx ch 14.25 37.08 Gela => :0
        ZCARD Sicily => :3
        GEOADD none XX 1 1 a => :0
        EXISTS none => :0
        GEOADD edge 180 85.05112878 ne -180 -85.05112878 sw 0 0 center => :3
        GEOADD Sicily 1 1 => {arity('geoadd')}
        GEOADD Sicily 1 1 a 2 => {SYNTAX}
        GEOADD Sicily NX XX 1 1 a => {SYNTAX}
        GEOADD Sicily NX NX CH => {SYNTAX}
        GEOADD Sicily GT 1 1 a => {SYNTAX}
        GEOADD Sicily x 1 a => {NOTFLOAT}
        GEOADD Sicily 1 nan a => {NOTFLOAT}
        GEOADD Sicily 181 1 a => -ERR invalid longitude,latitude pair 181.000000,1.000000
        GEOADD Sicily 1 86 a => -ERR invalid longitude,latitude pair 1.000000,86.000000
        GEOADD Sicily 1 1 a 1 -85.1 b => -ERR invalid longitude,latitude pair 1.000000,-85.100000
        ZSCORE Sicily a => nil
        GEOADD s 1 1 a => {WRONGTYPE}
    """)


def test_geopos_geohash_geodist(g):
    run(g, f"""
        2| GEOPOS Sicily Palermo none => [["13.36138933897018433", "38.11555639549629859"], nilarray]
        3| GEOPOS Sicily Palermo none => [[,13.36138933897018433, ,38.11555639549629859], nil]
        GEOPOS Sicily => []
        GEOPOS none a b => [nilarray, nilarray]
        GEOPOS s a => {WRONGTYPE}
        GEOHASH Sicily Palermo Catania none => ["sqc8b49rny0", "sqdtr74hyu0", nil]
        GEOHASH none a => [nil]
        GEOHASH Sicily => []
        GEOHASH s a => {WRONGTYPE}
        GEODIST Sicily Palermo Catania => "166274.1516"
        GEODIST Sicily Palermo Catania m => "166274.1516"
        GEODIST Sicily Palermo Catania KM => "166.2742"
        GEODIST Sicily Palermo Catania ft => "545518.8700"
        GEODIST Sicily Palermo Catania mi => "103.3182"
        GEODIST Sicily Palermo Palermo => "0.0000"
        GEODIST Sicily Palermo none => nil
        GEODIST none Palermo Catania => nil
        GEODIST Sicily Palermo Catania yd => {UNIT}
        GEODIST none Palermo Catania yd => {UNIT}
        GEODIST Sicily Palermo Catania m m => {SYNTAX}
        GEODIST Sicily Palermo => {arity('geodist')}
        GEODIST s a b => {WRONGTYPE}
    """)


def test_geosearch(g):
    run(g, f"""
        GEOADD Sicily 12.758489 38.788135 edge1 17.241510 38.788135 edge2 => :2
        GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 200 km ASC => ["Catania", "Palermo"]
        GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 200 km DESC => ["Palermo", "Catania"]
        GEOSEARCH Sicily BYBOX 400 400 km FROMLONLAT 15 37 ASC => ["Catania", "Palermo", "edge2", "edge1"]
        GEOSEARCH Sicily FROMMEMBER Palermo BYRADIUS 100 mi ASC => ["Palermo", "edge1"]
        GEOSEARCH Sicily FROMMEMBER Palermo BYRADIUS 0 m => ["Palermo"]
        GEOADD nameless 15 37 "" => :1
        GEOSEARCH nameless FROMLONLAT 15 37 BYRADIUS 1 m ASC => [""]
        GEOSEARCHSTORE kept nameless FROMLONLAT 15 37 BYRADIUS 1 m ASC => :1
        ZRANGE kept 0 -1 => [""]
        GEOSEARCH Sicily FROMLONLAT 15 37 BYBOX 400 400 km COUNT 2 => ["Catania", "Palermo"]
        GEOSEARCH Sicily FROMLONLAT 15 37 BYBOX 400 400 km COUNT 1 DESC => ["edge1"]
        GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 200 km ASC WITHDIST => [["Catania", "56.4413"], ["Palermo", "190.4424"]]
        2| GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 100000 M WITHCOORD WITHDIST WITHHASH => [["Catania", "56441.2579", :3479447370796909, ["15.08726745843887329", "37.50266842333162032"]]]
        3| GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 100000 M WITHCOORD WITHDIST WITHHASH => [["Catania", "56441.2579", :3479447370796909, [,15.08726745843887329, ,37.50266842333162032]]]
        GEOSEARCH none FROMLONLAT 15 37 BYRADIUS 200 km => []
        GEOSEARCH none FROMMEMBER a BYRADIUS 200 km => []
        GEOSEARCH s FROMLONLAT 15 37 BYRADIUS 200 km => {WRONGTYPE}
        GEOSEARCH Sicily FROMMEMBER none BYRADIUS 200 km => {NOMEMBER}
        GEOSEARCH Sicily BYRADIUS 200 km ASC WITHDIST => -ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for GEOSEARCH
        geosearch Sicily FROMLONLAT 15 37 ASC WITHDIST => -ERR exactly one of BYRADIUS and BYBOX can be specified for geosearch
        GEOSEARCH Sicily FROMMEMBER Palermo FROMLONLAT 15 37 BYRADIUS 1 m => {SYNTAX}
        GEOSEARCH Sicily FROMMEMBER Palermo BYRADIUS 1 m BYBOX 1 1 m => {SYNTAX}
        GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 1 yd => {UNIT}
        GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS x km => -ERR need numeric radius
        GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS -1 km => -ERR radius cannot be negative
        GEOSEARCH Sicily FROMLONLAT 15 37 BYBOX x 1 km => -ERR need numeric width
        GEOSEARCH Sicily FROMLONLAT 15 37 BYBOX 1 x km => -ERR need numeric height
        GEOSEARCH Sicily FROMLONLAT 15 37 BYBOX 1 -1 km => -ERR height or width cannot be negative
        GEOSEARCH Sicily FROMLONLAT 15 x BYRADIUS 1 km => {NOTFLOAT}
        GEOSEARCH Sicily FROMLONLAT 15 99 BYRADIUS 1 km => -ERR invalid longitude,latitude pair 15.000000,99.000000
        GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 1 km COUNT 0 => -ERR COUNT must be > 0
        GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 1 km COUNT x => {NOTINT}
        GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 1 km ANY => -ERR the ANY argument requires COUNT argument
        GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 1 km STORE d => {SYNTAX}
        GEOSEARCH Sicily FROMLONLAT 15 37 BYRADIUS 1 km STOREDIST => {SYNTAX}
        GEOSEARCH Sicily FROMLONLAT 15 37 => {arity('geosearch')}
    """)


def test_geosearchstore(g):
    run(g, f"""
        GEOSEARCHSTORE d Sicily FROMLONLAT 15 37 BYRADIUS 200 km => :2
        ZRANGE d 0 -1 => ["Palermo", "Catania"]
        GEOSEARCHSTORE d Sicily FROMLONLAT 15 37 BYRADIUS 200 km STOREDIST COUNT 1 => :1
        7.2|2| ZRANGE d 0 -1 WITHSCORES => ["Catania", "56.4412578701582"]
        7.2|3| ZRANGE d 0 -1 WITHSCORES => [["Catania", ,56.4412578701582]]
        GEOSEARCHSTORE Sicily Sicily FROMMEMBER Palermo BYRADIUS 1 m => :1
        ZRANGE Sicily 0 -1 => ["Palermo"]
        GEOSEARCHSTORE d Sicily FROMLONLAT 0 0 BYRADIUS 1 m => :0
        EXISTS d => :0
        SET d x
        GEOSEARCHSTORE d none FROMLONLAT 0 0 BYRADIUS 1 m => :0
        EXISTS d => :0
        GEOSEARCHSTORE d Sicily FROMLONLAT 15 37 BYRADIUS 200 km WITHDIST => -ERR GEOSEARCHSTORE is not compatible with WITHDIST, WITHHASH and WITHCOORD options
        GEOSEARCHSTORE d Sicily FROMLONLAT 15 37 BYRADIUS 200 km STORE e => {SYNTAX}
        GEOSEARCHSTORE d s FROMLONLAT 15 37 BYRADIUS 200 km => {WRONGTYPE}
    """)


def test_georadius(g):
    run(g, f"""
        GEORADIUS Sicily 15 37 200 km => ["Palermo", "Catania"]
        GEORADIUS Sicily 15 37 200 km ASC => ["Catania", "Palermo"]
        GEORADIUS Sicily 15 37 200 km WITHDIST COUNT 1 => [["Catania", "56.4413"]]
        GEORADIUS Sicily 15 37 200 km COUNT 1 ANY => ["Palermo"]
        GEORADIUS_RO Sicily 15 37 200 km DESC => ["Palermo", "Catania"]
        GEORADIUS_RO Sicily 15 37 200 km STORE d => {SYNTAX}
        GEORADIUSBYMEMBER Sicily Catania 200 km DESC => ["Palermo", "Catania"]
        GEORADIUSBYMEMBER_RO Sicily Catania 10 m => ["Catania"]
        GEORADIUSBYMEMBER_RO Sicily Catania 10 m STOREDIST d => {SYNTAX}
        GEORADIUSBYMEMBER Sicily none 10 m => {NOMEMBER}
        GEORADIUSBYMEMBER none a x x => []
        GEORADIUS none 15 37 x km => -ERR need numeric radius
        GEORADIUS none 15 37 200 km => []
        GEORADIUS Sicily 15 37 200 km STORE d => :2
        ZRANGE d 0 -1 => ["Palermo", "Catania"]
        GEORADIUS Sicily 15 37 200 km STOREDIST d => :2
        ZRANGE d 0 -1 => ["Catania", "Palermo"]
        GEORADIUS Sicily 15 37 200 km STORE a STOREDIST b => :2
        EXISTS a b => :1
        ZRANGE b 0 -1 => ["Catania", "Palermo"]
        GEORADIUS Sicily 15 37 200 km STORE a STORE b STOREDIST {{x}}c STORE {{y}}d => :2
        EXISTS a b {{x}}c {{y}}d => :2
        GEORADIUSBYMEMBER Sicily Catania 10 m STORE b => :1
        GEORADIUS Sicily 0 0 1 m STORE b => :0
        EXISTS b => :0
        GEORADIUSBYMEMBER none x 1 m STORE d => :0
        EXISTS d => :0
        GEORADIUS Sicily 15 37 200 km STORE d WITHDIST => -ERR STORE option in GEORADIUS is not compatible with WITHDIST, WITHHASH and WITHCOORD options
        GEORADIUS Sicily 15 37 200 km STORE => {SYNTAX}
        GEORADIUS Sicily 15 37 200 yd => {UNIT}
        GEORADIUS s 15 37 200 km => {WRONGTYPE}
        GEORADIUS Sicily 15 37 200 => {arity('georadius')}
        COMMAND GETKEYS GEORADIUS Sicily 15 37 200 km STORE a STOREDIST b => ["Sicily", "a", "b"]
        COMMAND GETKEYS GEORADIUS Sicily 15 37 200 km => ["Sicily"]
        COMMAND GETKEYS GEOSEARCHSTORE d Sicily FROMLONLAT 15 37 BYRADIUS 200 km => ["d", "Sicily"]
    """)


def test_places_at_the_same_distance(c):
    """With COUNT only the wanted part is sorted: which of equal places come first is redis-server's choice."""
    words = [x for i in range(12) for x in (10, 10 + i % 3, "m%02d" % i)]
    c.ok("GEOADD", "g", *words)
    run(c, """
        GEOSEARCH g FROMLONLAT 10 10 BYRADIUS 1000 km COUNT 4 => ["m03", "m06", "m00", "m09"]
        GEOSEARCH g FROMLONLAT 10 12 BYRADIUS 1000 km COUNT 4 => ["m02", "m05", "m08", "m11"]
        GEOSEARCH g FROMLONLAT 10 11 BYRADIUS 1000 km COUNT 6 DESC => ["m02", "m11", "m08", "m05", "m09", "m00"]
        GEOSEARCH g FROMLONLAT 10 10 BYRADIUS 1000 km COUNT 12 ANY => ["m00", "m03", "m06", "m09", "m01", "m04", "m07", "m10", "m02", "m05", "m08", "m11"]
    """)


def test_scores_that_are_no_places(c):
    run(c, """
        ZADD z -inf a inf b -5 c 1e300 d => :4
        GEOHASH z a b c d => *
        GEOPOS z a b c d => *
        GEODIST z a b => *
        GEOSEARCH z FROMMEMBER a BYRADIUS 1 km => *
        GEOSEARCH z FROMMEMBER b BYBOX 1 1 km => *
        GEOSEARCH z FROMLONLAT 180 85.05112878 BYRADIUS inf m => *
        PING => +PONG
    """)


def test_searches_find_what_is_there(conn):
    """Against all distances, in a set of many cells."""
    import math
    import random
    rng = random.Random(3)
    names = []
    for i in range(2000):
        lon, lat = rng.gauss(9, 3), rng.gauss(48, 2)
        conn.ok("GEOADD", "g", repr(lon), repr(lat), "p%d" % i)
        names.append("p%d" % i)
    places = {n: [float(x) for x in pos] for n, pos in zip(names, conn.ok("GEOPOS", "g", *names))}

    def distance(a, b):
        lon1, lat1, lon2, lat2 = (math.radians(x) for x in (*a, *b))
        h = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
        return 2 * 6372797.560856 * math.asin(math.sqrt(h))
    for _ in range(60):
        center, radius = [rng.gauss(9, 3), rng.gauss(48, 2)], 10 ** rng.uniform(3, 5.7)
        expected = sorted((distance(center, pos), name) for name, pos in places.items())
        expected = [name for far, name in expected if far <= radius]
        got = [n.decode() for n in conn.ok("GEOSEARCH", "g", "FROMLONLAT", repr(center[0]), repr(center[1]), "BYRADIUS",
                                           repr(radius), "m", "ASC")]
        assert got == expected
