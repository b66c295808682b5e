# SPDX-License-Identifier: BSD-3-Clause
"""Commands for test_propagation.py: what a server sends its replicas for each is compared with redis-server and valkey-server.

A session is a text, a command a line, run one after the other by one client. Marks before a line:

    2>       by another client, which blocks; what is sent when it is served comes with the command that serves it
    SLEEP    until keys with a time of a millisecond have run out
    RESTORE-FROM key ...     RESTORE with what DUMP gives of the key
"""

STRINGS = r"""
SET a 1
SET a 2 NX
SET b 2 NX
SET b 3 XX
SET c 3 XX
SET a 3 GET
SET a 3 NX GET
SET a v EX 100
SET a v PX 100000
SET a v EXAT 4000000000
SET a v PXAT 4000000000000
SET a v EXAT 1
SET a v EX 100 NX
SET a v EX 100 GET
SET a w KEEPTTL
SET a w KEEPTTL GET
SET a w XX KEEPTTL
set a w ex 50
SETNX a 1
SETNX new 1
SETEX a 100 v
PSETEX a 100000 v
GETSET a x
GETSET new2 x
GETDEL a
GETDEL a
SET a v EX 100
GETEX a
GETEX a PERSIST
GETEX a PERSIST
GETEX a EX 100
GETEX a PX 100000
GETEX a EXAT 4000000000
GETEX a PXAT 4000000000000
GETEX a EXAT 1
GETEX none EX 10
APPEND a xyz
APPEND a ""
APPEND none ""
SETRANGE a 1 foo
SETRANGE a 1 ""
SETRANGE none2 0 ""
SET n 10
INCR n
DECR n
INCRBY n 5
INCRBY n 0
DECRBY n 3
INCRBYFLOAT n 1.5
INCRBYFLOAT n 0
INCRBYFLOAT newf 3.0
INCRBYFLOAT a x
INCR a
MSET x 1 y 2 x 3
MSETNX x 1 z 1
MSETNX z1 1 z2 1
SET k v EX 100
INCRBYFLOAT k 1
SET k 5 EX 100
INCRBYFLOAT k 1
APPEND k 1
"""

GENERIC = r"""
SET a 1
SET b 2
DEL a none
DEL none
UNLINK b
UNLINK none
SET a 1
EXPIRE a 100
EXPIRE a 200 NX
EXPIRE a 50 GT
EXPIRE a 500 GT
EXPIRE a 100 LT
EXPIRE none 100
PEXPIRE a 100000
EXPIREAT a 4000000000
PEXPIREAT a 4000000000000
PERSIST a
PERSIST a
EXPIRE a -1
SET a 1
EXPIREAT a 1
SET a 1
PEXPIREAT a 1
SET a 1
EXPIRE a 0
SET a 1 EX 1000
RENAME a b
RENAME none b
RENAME b b
SET c 1
RENAMENX b c
RENAMENX b d
RENAMENX d d
COPY d e
COPY d e
COPY d e REPLACE
COPY d e DB 3
COPY none e
MOVE d 2
MOVE d 2
SET d 1
MOVE d 2
TOUCH c
TOUCH none
OBJECT FREQ c
SWAPDB 0 1
SWAPDB 0 1
SWAPDB 0 0
SELECT 2
SET q 1
SELECT 0
SET q 1
FLUSHDB
FLUSHDB
FLUSHDB ASYNC
FLUSHDB SYNC
FLUSHALL
FLUSHALL ASYNC
SORT none STORE dst
RPUSH l 3 1 2
SORT l STORE dst
SORT l BY nosort STORE dst
SORT none STORE dst
SORT none STORE dst
SORT l
SORT_RO l
RESTORE r 0 "\x00\x03foo\x0a\x00\xc0\x2a\x09\xa2\x1c\xa3\x5b\x2f"
DUMP l
SCAN 0
KEYS *
RANDOMKEY
DBSIZE
PING
DEBUG POPULATE 3 p 5
OBJECT ENCODING l
MEMORY USAGE l
ECHO x
"""

HASHES = r"""
HSET h a 1 b 2
HSET h a 1
HMSET h a 1
HSETNX h a 5
HSETNX h c 5
HINCRBY h n 5
HINCRBY h n 0
HINCRBYFLOAT h n 1.5
HINCRBYFLOAT h f 0.1
HINCRBYFLOAT h f 0
HDEL h a x
HDEL h x
HDEL none x
HGETALL h
HRANDFIELD h 2
HDEL h b c n f
"""

LISTS = r"""
RPUSH l a b c
LPUSH l x y
LPUSHX none a
RPUSHX l z
LPOP l
LPOP l 2
RPOP l
RPOP none
LPOP l 0
LPOP none 2
RPUSH l a b c d
LSET l 0 q
LSET l 100 q
LINSERT l BEFORE a w
LINSERT l AFTER zz w
LINSERT none BEFORE a w
LREM l 0 w
LREM l 0 none
LTRIM l 0 -1
LTRIM l 1 -1
LTRIM none 0 1
LTRIM l 5 1
RPUSH l 1 2 3 4 5
LMOVE l m LEFT RIGHT
LMOVE l l LEFT LEFT
LMOVE none m LEFT RIGHT
RPOPLPUSH l m
RPOPLPUSH none m
LMPOP 2 none l LEFT
LMPOP 1 l RIGHT COUNT 5
LMPOP 1 none LEFT
RPUSH l 1 2 3 4 5
BLPOP none l 0
BRPOP l 0
BLMOVE l m LEFT RIGHT 0
BRPOPLPUSH l m 0
BLMPOP 0 1 l LEFT COUNT 10
BLPOP none 0.01
BLMOVE none l LEFT LEFT 0.01
2> BLPOP q 0
RPUSH q a b
DEL q
2> BRPOP q q2 0
RPUSH q a
2> BLMOVE q w LEFT LEFT 0
RPUSH q 1 2
DEL q
2> BRPOPLPUSH q w 0
LPUSH q 7
2> BLMPOP 0 2 q q2 LEFT COUNT 2
RPUSH q2 1 2 3
DEL q q2
2> BLPOP q 0
MULTI
RPUSH q 1
SET x 1
EXEC
2> BLPOP q 0
EVAL "redis.call('rpush','q',1) redis.call('rpush','q',2)" 0
"""

SETS = r"""
SADD s a b c
SADD s a
SREM s a x
SREM s x
SMOVE s t b
SMOVE s t none
SMOVE s s c
SADD s 1 2 3 4 5
SPOP one
SADD one x
SPOP one
SADD two x y
SPOP two 5
SADD two x
SPOP two 1
SPOP s 0
SADD s a b c d e f g h i j k l m n o p
SPOP s 4
SPOP s 14
SADD s b u v
SADD t b u w
SINTERSTORE d s t
SINTERSTORE d none s
SUNIONSTORE d s t
SDIFFSTORE d s t
SDIFFSTORE d s s
SDIFFSTORE d s s
SRANDMEMBER s 2
SINTERCARD 1 s
"""

ZSETS = r"""
ZADD z 1 a 2 b
ZADD z 1 a
ZADD z NX 5 a
ZADD z NX 5 c
ZADD z XX 5 none
ZADD z XX CH 6 a
ZADD z GT 1 a
ZADD z INCR 1 a
ZADD z NX INCR 1 a
ZINCRBY z 1 a
ZINCRBY z 0 a
ZREM z a x
ZREM z x
ZADD z 1 a 2 b 3 c 4 d 5 e 6 f
ZREMRANGEBYSCORE z 1 2
ZREMRANGEBYSCORE z 1 2
ZREMRANGEBYRANK z 0 0
ZREMRANGEBYLEX z [zz [zzz
ZREMRANGEBYLEX z - [d
ZPOPMIN z
ZPOPMAX z 2
ZPOPMIN none
ZPOPMIN z 0
ZADD z 1 a 2 b 3 c 4 d 5 e 6 f
ZMPOP 2 none z MIN
ZMPOP 1 z MAX COUNT 2
ZMPOP 1 none MAX
BZPOPMIN z 0
BZPOPMAX none z 0
BZMPOP 0 1 z MIN COUNT 10
BZPOPMIN none 0.01
ZADD z 1 a 2 b 3 c
ZADD y 1 a 2 b 3 c
ZUNIONSTORE d 2 z y
ZINTERSTORE d 2 z none
ZINTERSTORE d 2 z none
ZDIFFSTORE d 2 z y
ZRANGESTORE d z 0 -1
ZRANGESTORE d none 0 -1
ZRANGESTORE d none 0 -1
2> BZPOPMIN q 0
ZADD q 1 a 2 b
DEL q
2> BZMPOP 0 2 q q2 MAX COUNT 3
ZADD q2 1 a 2 b
GEOADD g 13.361389 38.115556 a 15.087269 37.502669 b
GEOADD g NX 13.361389 38.115556 a
GEOADD g XX CH 13.5 38.115556 a
GEOSEARCHSTORE d g FROMMEMBER a BYRADIUS 1000 km
GEOSEARCHSTORE d g FROMLONLAT 0 0 BYRADIUS 1 m
GEOSEARCHSTORE d g FROMLONLAT 0 0 BYRADIUS 1 m
GEORADIUS g 15 37 200 km STORE d
GEORADIUS g 15 37 200 km
GEORADIUSBYMEMBER g a 200 km STOREDIST d
"""

STREAMS = r"""
XADD s 1-1 a 1
XADD s 1-1 a 1
XADD s 2-* a 1
XADD s * a 1
XADD s NOMKSTREAM 9999999999999-1 a 1
XADD none NOMKSTREAM 9999999999999-1 a 1
XADD s MAXLEN 2 9999999999999-2 a 1
XADD s MAXLEN = 2 9999999999999-3 a 1
XADD s MAXLEN ~ 2 9999999999999-4 a 1
XADD s MAXLEN ~ 2 LIMIT 5 9999999999999-5 a 1
XADD s MINID 5 9999999999999-6 a 1
XADD s MINID ~ 5 9999999999999-7 a 1
XTRIM s MAXLEN 1
XTRIM s MAXLEN 1
XTRIM s MAXLEN ~ 0
XTRIM s MINID 5
XTRIM none MAXLEN 1
XDEL s 9999999999999-7
XDEL s 9999999999999-7
XDEL none 1-1
XADD e 1-1 a 1
XADD e 1-2 a 1
XTRIM e MINID ~ 7
XADD e MINID ~ 9-0 8-0 a 1
XSETID s 9999999999999-9
XSETID s 9999999999999-9 ENTRIESADDED 100 MAXDELETEDID 9999999999999-7
XADD t 1-1 a 1
XADD t 1-2 a 2
XADD t 1-3 a 3
XGROUP CREATE t g 0
XGROUP CREATE t g 0
XGROUP CREATE t g2 $ ENTRIESREAD 2
XGROUP CREATE new g $ MKSTREAM
XGROUP SETID t g2 1-1
XGROUP SETID t g2 $
XGROUP CREATECONSUMER t g c1
XGROUP CREATECONSUMER t g c1
XREADGROUP GROUP g c1 COUNT 1 STREAMS t >
XREADGROUP GROUP g c2 COUNT 1 STREAMS t >
XREADGROUP GROUP g c2 NOACK COUNT 1 STREAMS t >
XREADGROUP GROUP g c1 COUNT 1 STREAMS t >
XREADGROUP GROUP g c3 COUNT 1 STREAMS t >
XREADGROUP GROUP g c1 STREAMS t 0
XREADGROUP GROUP g c4 STREAMS t 0
XPENDING t g
XACK t g 1-1
XACK t g 1-1
XADD t 2-1 a 1
XADD t 2-2 a 1
XREADGROUP GROUP g c1 STREAMS t >
XCLAIM t g c5 0 2-1
XCLAIM t g c5 0 2-1 JUSTID
XCLAIM t g c5 0 2-1 2-2 IDLE 1000
XCLAIM t g c5 0 2-1 TIME 1000
XCLAIM t g c5 0 2-1 RETRYCOUNT 7
XCLAIM t g c5 0 3-1 FORCE
XCLAIM t g c5 100000000 2-1
XCLAIM t g c6 100000000 2-1
XDEL t 2-1
XCLAIM t g c5 0 2-1 LASTID 2-2
XAUTOCLAIM t g c7 0 0 COUNT 10
XAUTOCLAIM t g c7 100000000 0 COUNT 10
XAUTOCLAIM t g c8 0 0 COUNT 10 JUSTID
XAUTOCLAIM t g c9 100000000 0
XDEL t 2-2
XAUTOCLAIM t g c8 0 0
XGROUP DELCONSUMER t g c8
XGROUP DELCONSUMER t g none
XREADGROUP GROUP g c1 BLOCK 10 STREAMS t >
2> XREADGROUP GROUP g c1 BLOCK 0 STREAMS t >
XADD t 5-1 a 1
2> XREADGROUP GROUP g c10 BLOCK 0 STREAMS t >
XADD t 5-2 a 1
2> XREAD BLOCK 0 STREAMS t $
XADD t 5-3 a 1
XGROUP DESTROY t g2
XGROUP DESTROY t g2
XREAD STREAMS t 0
DEL t
XADD st 1-1 f v
XADD st 1-2 f v
XGROUP CREATE st g 0
MULTI
XREADGROUP GROUP g c STREAMS st >
XACK st g 1-1
EXEC
"""

HLL_AND_BITS = r"""
PFADD h a b c
PFADD h a
PFADD h2
PFADD h2
PFCOUNT h
PFCOUNT h
PFADD h d
PFCOUNT h
PFCOUNT h h2
PFMERGE d h h2
PFMERGE d
PFMERGE d h
PFDEBUG ENCODING h
PFDEBUG TODENSE h
PFDEBUG TODENSE h
SETBIT b 7 1
SETBIT b 7 1
SETBIT b 7 0
GETBIT b 7
BITFIELD b SET u8 0 255
BITFIELD b GET u8 0
BITFIELD b INCRBY u8 0 1 OVERFLOW FAIL INCRBY u8 0 1
BITFIELD b SET u8 0 5 SET u8 0 5
BITFIELD b OVERFLOW FAIL INCRBY u2 0 100
BITFIELD new GET u8 0
BITFIELD_RO b GET u8 0
BITOP AND d b b
BITOP NOT d b
BITOP AND d none none2
BITOP AND dnone none none2
BITCOUNT b
"""

SCRIPTS = r"""
EVAL "return redis.call('set',KEYS[1],ARGV[1])" 1 a b
EVAL "redis.call('set','a','1') redis.call('incr','a') return 1" 0
EVAL "return redis.call('get','a')" 0
EVAL "redis.call('set','a','1','ex',100)" 0
EVAL "redis.call('spop','none') redis.call('sadd','s',1,2) redis.call('srem','s',1)" 0
EVAL "redis.set_repl(redis.REPL_AOF) redis.call('set','a','1') redis.set_repl(redis.REPL_SLAVE) redis.call('set','b','1') redis.set_repl(redis.REPL_NONE) redis.call('set','c',1)" 0
EVAL "redis.call('select',3) redis.call('set','a','1')" 0
EVAL "redis.call('set','a',1) error('x')" 0
EVAL "redis.call('publish','ch','x')" 0
EVAL "redis.call('publish','ch','x') redis.call('set','a','1')" 0
EVAL "redis.call('flushall')" 0
EVAL "redis.pcall('incr','a','b') redis.call('incr','cnt')" 0
EVAL "redis.call('set',KEYS[1],12.5)" 1 k
EVAL "return redis.call('blpop','none',0)" 0
EVAL_RO "return redis.call('get','a')" 0
SCRIPT LOAD "return 1"
SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db
EVALSHA e0e1f9fabfc9d4800c877a703b823ac0578ff8db 0
SCRIPT FLUSH
FUNCTION LOAD "#!lua name=lib\nredis.register_function('f', function(keys,args) redis.call('set',keys[1],args[1]) return redis.call('incr','fn') end)"
FUNCTION LOAD "#!lua name=lib\nredis.register_function('f', function(keys,args) return 1 end)"
FUNCTION LOAD REPLACE "#!lua name=lib\nredis.register_function('f', function(keys,args) redis.call('set',keys[1],args[1]) return redis.call('incr','fn') end)"
FCALL f 1 a 5
FUNCTION LIST
FUNCTION DUMP
FUNCTION DELETE lib
FUNCTION DELETE lib
FUNCTION FLUSH
FUNCTION FLUSH ASYNC
FUNCTION RESTORE "\x0a\x00\x1f\xe7\x7e\x57\xb3\xd7\x55\xa0" APPEND
MULTI
EVAL "redis.call('set','a','1') redis.call('set','b','1')" 0
EXEC
"""

TRANSACTIONS = r"""
MULTI
SET a 1
EXEC
MULTI
SET a 1
SET b 1
GET a
EXEC
MULTI
GET a
EXEC
MULTI
SET a 1
DISCARD
MULTI
SELECT 1
SET a 1
SELECT 2
SET a 1
SELECT 0
EXEC
MULTI
SET a 1
LPUSH a 1
INCR a
EXEC
MULTI
PUBLISH ch x
EXEC
MULTI
PUBLISH ch x
SET a 1
EXEC
MULTI
SET a x PX 100000
SPOP none
INCRBYFLOAT n 1
EXEC
MULTI
FLUSHALL
EXEC
MULTI
BLPOP none 0
RPUSH l 1
BLPOP l 0
EXEC
WATCH a
SET a 5
MULTI
SET b 1
EXEC
PUBLISH ch m
SPUBLISH ch m
CONFIG SET maxmemory-samples 5
CLIENT SETNAME x
"""

EXPIRED = r"""
DEBUG SET-ACTIVE-EXPIRE 0
SET e 1 PX 1
SLEEP
GET e
SET e 1 PX 1
SLEEP
SET e 2
SET e 1 PX 1
SLEEP
INCR e
SET e 1 PX 1
SET e2 1 PX 1
SLEEP
MGET e e2
SET e 1 PX 1
SLEEP
DEL e
SET e 1 PX 1
SLEEP
EXISTS e
SET e 1 PX 1
SLEEP
MULTI
GET e
SET e 1
EXEC
SET e 1 PX 1
SLEEP
EVAL "redis.call('get','e')" 0
SET e 1 PX 1
SLEEP
SETNX e 1
SET e 1 PX 1
SLEEP
RENAME e x
SET e 1 PX 1
SLEEP
TTL e
SET e 1 PX 1
SLEEP
GET e
SET e 1 PX 1
SLEEP
KEYS *
SET e 1 PX 1
SLEEP
SET y e
COPY y e
RPUSH e2 1
SET e 1 PX 1
SLEEP
LMOVE e2 e LEFT LEFT
CONFIG SET lazyfree-lazy-expire yes
SET e 1 PX 1
SLEEP
GET e
SET a 1
EXPIRE a -1
SET a 1
GETEX a PXAT 1
CONFIG SET lazyfree-lazy-expire no
"""

RESTORE = r"""
SET a foo
RESTORE-FROM a r 0
RESTORE-FROM a r 0
RESTORE-FROM a r 0 REPLACE
RESTORE-FROM a r 100000 REPLACE
RESTORE-FROM a r 4000000000000 REPLACE ABSTTL
RESTORE-FROM a r 1000 REPLACE ABSTTL
RESTORE-FROM a r3 1000 ABSTTL
RESTORE-FROM a r 0 REPLACE IDLETIME 10
RESTORE-FROM a r 0 REPLACE FREQ 10
DEL r
"""

SESSIONS = {"strings": STRINGS, "generic": GENERIC, "hashes": HASHES, "lists": LISTS, "sets": SETS, "zsets": ZSETS,
            "streams": STREAMS, "hll and bits": HLL_AND_BITS, "scripts": SCRIPTS, "transactions": TRANSACTIONS,
            "expired": EXPIRED, "restore": RESTORE}

# What is meant to be sent otherwise, by the line: a pattern for each command. "*" is any run of characters.
WANTED = {
    # Valkey deletes at once; the key is gone here as well, and found to be by the command behind it
    "SET a v EXAT 1": ["SET a v PXAT 1000"],
    "SET a v EX 100 NX": ["MULTI", "DEL a", "SET a v PXAT now+100", "EXEC"],
    # members are taken away by one SREM, where redis-server 7.0 sends one each, and Valkey draws others
    "SPOP s 4": ["SREM s * * * *"],
    "SPOP s 14": ["SREM s * * * * * * * * * * * * * *"],
    # a consumer that came into being is told of, whether it gets an entry or not: replicas show the same consumers
    "XREADGROUP GROUP g c2 COUNT 1 STREAMS t >": [
        "MULTI", "XGROUP CREATECONSUMER t g c2", "XCLAIM t g c2 0 1-2 TIME now+0 RETRYCOUNT 1 FORCE JUSTID LASTID 1-2",
        "XGROUP SETID t g 1-2 ENTRIESREAD 2", "EXEC"],
    "XREADGROUP GROUP g c3 COUNT 1 STREAMS t >": ["XGROUP CREATECONSUMER t g c3"],
    "XREADGROUP GROUP g c4 STREAMS t 0": ["XGROUP CREATECONSUMER t g c4"],
    "XCLAIM t g c5 0 2-1": ["MULTI", "XGROUP CREATECONSUMER t g c5",
                            "XCLAIM t g c5 0 2-1 TIME now+0 RETRYCOUNT 2 FORCE JUSTID LASTID 2-2", "EXEC"],
    "XCLAIM t g c6 100000000 2-1": ["XGROUP CREATECONSUMER t g c6"],
    "XAUTOCLAIM t g c7 0 0 COUNT 10": [
        "MULTI", "XGROUP CREATECONSUMER t g c7", "XCLAIM t g c7 0 1-2 TIME now+0 RETRYCOUNT 2 FORCE JUSTID LASTID 2-2",
        "XCLAIM t g c7 0 2-2 TIME now+0 RETRYCOUNT 3 FORCE JUSTID LASTID 2-2", "EXEC"],
    "XAUTOCLAIM t g c8 0 0 COUNT 10 JUSTID": [
        "MULTI", "XGROUP CREATECONSUMER t g c8", "XCLAIM t g c8 0 1-2 TIME now+0 RETRYCOUNT 2 FORCE JUSTID LASTID 2-2",
        "XCLAIM t g c8 0 2-2 TIME now+0 RETRYCOUNT 3 FORCE JUSTID LASTID 2-2", "EXEC"],
    "XAUTOCLAIM t g c9 100000000 0": ["XGROUP CREATECONSUMER t g c9"],
    "2> XREADGROUP GROUP g c10 BLOCK 0 STREAMS t >": ["XGROUP CREATECONSUMER t g c10"],
    "XTRIM e MINID ~ 7": ["XTRIM e MINID = 7-0"],  # the references say 0-0, of the empty stream, and their replicas keep it
    "XADD e MINID ~ 9-0 8-0 a 1": ["XADD e MINID 9-0 8-0 a 1"],
    "XADD s MINID ~ 5 9999999999999-7 a 1": ["XADD s MINID 9999999999999-2 9999999999999-7 a 1"],  # what the trim came to
}
# The EXEC behind "XREADGROUP GROUP g c STREAMS st >".
WANTED_EXEC = ["MULTI", "XGROUP CREATECONSUMER st g c", "XCLAIM st g c 0 1-1 TIME now+0 RETRYCOUNT 1 FORCE JUSTID LASTID 1-1",
               "XCLAIM st g c 0 1-2 TIME now+0 RETRYCOUNT 1 FORCE JUSTID LASTID 1-2", "XGROUP SETID st g 1-2 ENTRIESREAD 2",
               "XACK st g 1-1", "EXEC"]

# What neither reference has: times of hash fields. Each line with what is to be sent.
FIELDS = [
    ("HSET h a 1 b 2 c 3 d 4 e 5", ["HSET h a 1 b 2 c 3 d 4 e 5"]),
    ("HEXPIRE h 100 FIELDS 2 a none", ["HPEXPIREAT h now+100 FIELDS 1 a"]),
    ("HPEXPIRE h 100000 FIELDS 1 a", ["HPEXPIREAT h now+100 FIELDS 1 a"]),
    ("HEXPIREAT h 4000000000 FIELDS 1 a", ["HPEXPIREAT h 4000000000000 FIELDS 1 a"]),
    ("HEXPIRE h 100 GT FIELDS 1 a", []),
    ("HEXPIRE h 100 XX FIELDS 2 a b", ["HPEXPIREAT h now+100 FIELDS 1 a"]),
    ("HEXPIRE none 100 FIELDS 1 a", []),
    ("HINCRBYFLOAT h a 0.5", ["HSETEX h KEEPTTL FIELDS 1 a 1.5"]),
    ("HINCRBYFLOAT h b 0.5", ["HSET h b 2.5"]),
    ("HPERSIST h FIELDS 2 a b", ["HPERSIST h FIELDS 1 a"]),
    ("HPERSIST h FIELDS 1 a", []),
    ("HPEXPIREAT h 1 FIELDS 2 a none", ["HDEL h a"]),
    ("HGETEX h FIELDS 1 b", []),
    ("HGETEX h EX 100 FIELDS 2 b none", ["HPEXPIREAT h now+100 FIELDS 1 b"]),
    ("HGETEX h PERSIST FIELDS 1 b", ["HPERSIST h FIELDS 1 b"]),
    ("HGETDEL h FIELDS 2 b none", ["HDEL h b"]),
    ("HGETDEL h FIELDS 1 none", []),
    ("HSETEX h EX 100 FIELDS 2 x 1 y 2", ["HSETEX h PXAT now+100 FIELDS 2 x 1 y 2"]),
    ("HSETEX h FNX FIELDS 1 x 1", []),
    ("HSETEX h KEEPTTL FIELDS 1 x 3", ["HSETEX h KEEPTTL FIELDS 1 x 3"]),
    ("HSETEX h PXAT 1 FIELDS 1 x 1", ["HDEL h x"]),
    ("HPEXPIRE h 1 FIELDS 2 c d", ["HPEXPIREAT h now+0 FIELDS 2 c d"]),
    ("SLEEP", []),
    ("HGET h e", ["HDEL h c d"]),
    ("HPEXPIRE h 1 FIELDS 1 e", ["HPEXPIREAT h now+0 FIELDS 1 e"]),
    ("SLEEP", []),
    ("HSET h e 1", ["MULTI", "HDEL h e", "HSET h e 1", "EXEC"]),
]
