# SPDX-License-Identifier: BSD-3-Clause
"""HyperLogLogs, for differential.py: their strings must be equal byte for byte, through every encoding, and corrupted in the same
way. No string made here ends within an opcode: redis-server reads on to the NUL behind it. With Valkey 8.0 as the reference
(VALKEY) nothing is corrupted: it takes runs of too many registers."""

VALKEY = False  # set by differential.py
HLLS = ["h1", "h2", "h3", "{t}h", "h\x00"]
CONTENTS = {}


def commands(gen):
    rng = gen.rng

    def key():
        return rng.choice(HLLS) if rng.random() < 0.98 else gen.key()

    def element():
        return "%d" % rng.randint(0, rng.choice([10, 1000, 1000000])) if rng.random() < 0.9 else gen.value()

    def some(low, high, make):
        return [make() for _ in range(rng.randint(low, high))]

    def damage():
        """Rarely enough that most stay whole."""
        if VALKEY or rng.random() < 0.9:
            return ["STRLEN", key()]
        return rng.choice([
            lambda: ["SETRANGE", key(), str(rng.choice([0, 3, 4, 5, 8, 15, 16, 17, 20, 40, rng.randint(0, 3000)])),
                     bytes(rng.getrandbits(8) for _ in range(rng.randint(0, 2))) + bytes([rng.choice([0, 63, 128, 132, 255])])],
            lambda: ["APPEND", key(), rng.choice([b"\x00", b"\x80", b"\xff\xff"])],
            lambda: ["SET", key(), rng.choice([b"HYLL", b"HYLL\x01" + bytes(11), b"HYLL\x00" + bytes(11), b"HYLL\x02" + bytes(13),
                                               b"HYLL\x01" + bytes(11) + b"\x7f\xff", b"HYLL\x01" + bytes(11) + b"\x7f\xfe",
                                               b"HYLL\x01" + bytes(11) + b"\x84\x84\x7f\xfd", b"HYLL\x01" + bytes(10) + b"\x80\x84\x7f\xfe",
                                               b"HYLL\x01" + bytes(10) + b"\x80\x84\x7f\xff\x81",
                                               b"HYLL\x00" + bytes(10) + b"\x80" + bytes(rng.getrandbits(8) for _ in range(12288))])],
            lambda: ["SETBIT", key(), str(rng.randint(0, 3000)), rng.choice("01")],
        ])()

    return [
        lambda: ["PFADD", key()] + some(0, 5, element), lambda: ["PFADD", key()] + some(0, 5, element),
        lambda: ["PFADD", key()] + some(1, 200, element),
        lambda: ["PFCOUNT", key()], lambda: ["PFCOUNT", key()], lambda: ["PFCOUNT"] + some(0, 4, key),
        lambda: ["PFMERGE", key()] + some(0, 3, key), lambda: ["PFMERGE", rng.choice(["m1", "m2"])] + some(0, 3, key),
        lambda: ["GET", key()], lambda: ["GET", key()], lambda: ["COPY", key(), key(), "REPLACE"],
        lambda: ["PFDEBUG", rng.choice(["ENCODING", "ENCODING", "DECODE", "WHAT"]), key()],
        lambda: ["PFDEBUG", rng.choice(["TODENSE", "GETREG"]), key()] if rng.random() < 0.1 else ["TYPE", key()],
        lambda: ["DEL", key()] if rng.random() < 0.3 else ["EXISTS", key()],
        lambda: ["CONFIG", "SET", "hll-sparse-max-bytes", rng.choice(["3000", "3000", "100", "18", "0", "16000"])]
        if rng.random() < 0.2 else ["PFADD", key()],
        damage,
        lambda: ["OBJECT", "ENCODING", key()],
    ]


