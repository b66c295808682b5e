#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# How exact the deadlines of blocking I/O (net/syncio) are, and how many system calls a wake-up costs (strace, where it is installed).
#
# Usage: perf/deadlines.sh [TRIES]          here
#        perf/deadlines.sh --vm [TRIES]     with kernel TLS, in the virtual machine of scripts/vm-run
#        perf/deadlines.sh --write          both, into perf/results/deadlines.md
#
# What the processor is busy with comes on top of every deadline: here it runs at a raised
# priority (nice -20) where that is allowed.
set -eu
cd "$(dirname "$0")/.."
make -s Q=@ build/libktls.a build/lib/libnet.a build/lib/libbase.a build/ktls-probe
gcc -std=gnu11 -O2 -Wall -Wextra -D_GNU_SOURCE -Isrc -o build/deadlines perf/deadlines.c build/lib/libnet.a build/libktls.a \
    build/lib/libbase.a -luring -lssl -lcrypto -ljemalloc -pthread -lm
[ -f tests/tls/server.crt ] || scripts/gen-test-certs.sh >/dev/null
prio=()
if nice -n -20 true 2>/dev/null; then prio=(nice -n -20); fi
files=(tests/tls/server.crt tests/tls/server.key)

calls() { # of one read against a dripping peer, 5 s
    strace -e trace=ppoll,poll,recvfrom,recvmsg,read,write -o build/deadlines.strace build/deadlines --count "${files[@]}" "$1" 2>/dev/null
    awk -v name="$1" '/"begin/ { on = 1; next } /"end/ { on = 0 }
        on { sub(/\(.*/, "", $0); n[$0]++ }
        END { printf "| %s | %d | %d |\n", name, n["ppoll"] + n["poll"], n["recvfrom"] + n["recvmsg"] + n["read"] }' build/deadlines.strace
    rm -f build/deadlines.strace
}

here() {
    "${prio[@]}" build/deadlines "${files[@]}" "${1:-200}" || status=1
    if command -v strace >/dev/null; then
        printf '\nSystem calls of one read of 4,096 bytes with a deadline of 5 s, one byte coming each 50 ms:\n\n'
        printf '| transport | poll | read |\n|---|---|---|\n'
        for t in tcp tls-user; do calls $t; done
        if build/ktls-probe >/dev/null 2>&1; then calls tls-kernel; fi
    fi
}

status=0
case "${1:-}" in
--vm) exec scripts/vm-run --kernel vm --timeout 900 -- build/deadlines "${files[@]}" "${2:-200}" ;;
--write)
    {
        printf '# Deadlines of blocking I/O\n\n`perf/deadlines.sh --write`: operations of net/syncio with a deadline of 500 ms against peers that keep them waiting; 200 at a time, 2.5 ms apart, a\n'
        printf 'thread each. The peer is another process.\n\n## This machine\n\n- %s, %d CPUs, Linux %s; load by other work at the beginning: %s\n- %s\n\n' \
            "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" "$(nproc)" "$(uname -r)" "$(cut -d" " -f1 /proc/loadavg)" "$(date +%F)"
        here 200
        printf '\n## Virtual machine with kernel TLS\n\n'
        scripts/vm-run --kernel vm --timeout 900 -- sh -c 'printf -- "- Linux %s, User-Mode Linux or QEMU on the same machine, one CPU\n\n" "$(uname -r)"; exec build/deadlines "$0" "$1" 200' "${files[@]}" || status=1
    } | tr -d '\r' >perf/results/deadlines.md
    cat perf/results/deadlines.md ;;
*) here "${1:-200}" ;;
esac
exit $status
