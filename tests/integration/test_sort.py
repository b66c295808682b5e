# SPDX-License-Identifier: BSD-3-Clause
"""SORT and SORT_RO."""
from resp import run


def test_order(c):
    run(c, """
        RPUSH l 3 10 -1 2.5 => :4
        SORT l => ["-1", "2.5", "3", "10"]
        SORT l DESC => ["10", "3", "2.5", "-1"]
        SORT l ALPHA => ["-1", "10", "2.5", "3"]
        SORT l ALPHA DESC LIMIT 0 2 => ["3", "2.5"]
        SORT l LIMIT 1 2 => ["2.5", "3"]
        SORT l LIMIT -5 1 => ["-1"]
        SORT l LIMIT 9 1 => []
        SORT l LIMIT 1 -1 => ["2.5", "3", "10"]
        SORT l BY nosort => ["3", "10", "-1", "2.5"]
        SORT l BY nosort DESC LIMIT 1 2 => ["-1", "10"]
        SORT missing => []
        SADD s 3 1 2 => :3
        SORT s DESC => ["3", "2", "1"]
        ZADD z 1 c 2 b 3 a => :3
        SORT z ALPHA => ["a", "b", "c"]
        SORT z BY nosort DESC => ["a", "b", "c"]
        SORT z => -ERR One or more scores can't be converted into double
        RPUSH nan nan => :1
        SORT nan => -ERR One or more scores can't be converted into double
        SET str v => +OK
        SORT str => -WRONGTYPE Operation against a key holding the wrong kind of value
        SORT l LIMIT x 1 => -ERR value is not an integer or out of range
        SORT l LIMIT 1 => -ERR syntax error
        SORT l WHAT => -ERR syntax error
        SORT_RO l DESC => ["10", "3", "2.5", "-1"]
        SORT_RO l STORE d => -ERR syntax error
    """)


def test_weights_and_values(c):
    run(c, """
        RPUSH l 1 2 3 => :3
        MSET w_1 30 w_2 20 w_3 10 v_1 one v_3 three => +OK
        HSET h_1 f x w 2 => :2
        HSET h_2 f y w 3 => :2
        HSET h_3 f z w 1 => :2
        SORT l BY w_* => ["3", "2", "1"]
        SORT l BY h_*->w => ["3", "1", "2"]
        SORT l BY w_* GET v_* GET # => ["three", "3", nil, "2", "one", "1"]
        SORT l BY h_*->w GET h_*->f GET h_*->none => ["z", nil, "x", nil, "y", nil]
        SORT l BY h_*->f ALPHA DESC => ["3", "2", "1"]
        SORT l GET nostar => [nil, nil, nil]
        SORT l BY w_* STORE d => :3
        LRANGE d 0 -1 => ["3", "2", "1"]
        SORT l GET v_* STORE d => :3
        LRANGE d 0 -1 => ["one", "", "three"]
        SORT missing STORE d => :0
        EXISTS d => :0
        SORT l BY w_* STORE l => :3
        LRANGE l 0 -1 => ["3", "2", "1"]
        COMMAND GETKEYS SORT a BY x GET y STORE d => ["a", "d"]
    """)


def test_a_set_that_is_stored_has_an_order(c):
    c.ok("SADD", "s", *["m%d" % i for i in range(500)])
    assert c.ok("SORT", "s", "BY", "nosort", "STORE", "d") == 500
    assert c.ok("LRANGE", "d", 0, -1) == sorted(b"m%d" % i for i in range(500))


def test_many(c):
    values = [(i * 7919) % 20011 for i in range(20000)]
    for at in range(0, len(values), 1000):
        c.ok("RPUSH", "l", *values[at:at + 1000])
    assert [int(v) for v in c.ok("SORT", "l")] == sorted(values)
    assert [int(v) for v in c.ok("SORT", "l", "DESC", "LIMIT", 5, 7)] == sorted(values, reverse=True)[5:12]
