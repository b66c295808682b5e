#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Does it pay to let the kernel encrypt and OpenSSL decrypt? Server CPU per request in three modes (see half-offload.c).
#
# Usage: perf/half-offload.sh [ROUNDS]            in a kernel with kernel TLS
#        perf/half-offload.sh --vm [ROUNDS]       instructions, in a QEMU machine with Linux 6.12 and the ciphers' x86 drivers
set -eu
cd "$(dirname "$0")/.."
make -s Q=@ build/libktls.a
gcc -std=gnu11 -O2 -Wall -Wextra -D_GNU_SOURCE -Isrc/ktls -o build/half-offload perf/half-offload.c build/libktls.a -lssl -lcrypto -pthread
[ -f tests/tls/server.crt ] || scripts/gen-test-certs.sh >/dev/null
if [ "${1:-}" = --vm ]; then
    exec scripts/vm-run --kernel qemu-6.12 --icount --mem 1024 --timeout 3000 -- build/half-offload tests/tls/server.crt tests/tls/server.key "${2:-5}"
fi
exec build/half-offload tests/tls/server.crt tests/tls/server.key "${1:-5}"
