#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Nanoseconds and instructions of parser, hash table and dispatcher, one operation each (perf/microbench.c).
#
# Usage: perf/micro.sh [ROUNDS] [OUT]     default 9 rounds, perf/results/micro.md
#
# Nanoseconds are of CPU time, the median of the rounds; instructions are callgrind's (without valgrind: n/a) and differ by less than 1%
# from run to run: compare those between two builds.
set -eu
usage() { sed -n '3,/^set/s/^# \{0,1\}//p' "$0"; }
case ${1:-9} in
-h | --help) usage; exit ;;
*[!0-9]*) usage >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.."
rounds=${1:-9} out=${2:-perf/results/micro.md}
make -s Q=@ build/lib/libbase.a build/lib/libproto.a build/lib/libdata.a build/lib/libcmd.a
gcc -std=gnu11 -O2 -g -Wall -Wextra -Wshadow -Wno-maybe-uninitialized -fno-strict-aliasing -D_GNU_SOURCE -DHAVE_JEMALLOC -Isrc -o build/microbench perf/microbench.c \
    -Wl,--start-group build/lib/libcmd.a build/lib/libproto.a build/lib/libdata.a build/lib/libbase.a -Wl,--end-group -pthread $(pkg-config --libs lua5.1 lua5.1-cjson lua5.1-bitop) -lm -ldl -llzf -lcrypto -ljemalloc
instructions() { # NAME: instructions an operation, by callgrind
    command -v valgrind >/dev/null || { echo n/a; return; }
    case $1 in *-1m) echo n/a; return ;; esac # those of the smaller table; filling a large one takes minutes there
    local n total
    n=$(valgrind --tool=callgrind --callgrind-out-file=build/microbench.callgrind --collect-atstart=no --toggle-collect=body \
        build/microbench "$1" 20000 2>build/microbench.log)
    total=$(sed -n 's/^==[0-9]*== Collected : //p' build/microbench.log)
    awk -v t="$total" -v n="$n" 'BEGIN { printf "%.0f", t / n }'
}
mkdir -p "$(dirname "$out")"
{
    echo '# Microbenchmarks'
    echo
    echo "\`perf/micro.sh $rounds\`: CPU time of one operation, median of $rounds rounds (lowest-highest); instructions by callgrind."
    echo
    echo "- machine: $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1), $(nproc) CPUs, load $(cut -d' ' -f1 /proc/loadavg) when it began"
    echo "- $(gcc --version | head -1); $(git describe --always --dirty 2>/dev/null || true)"
    echo
    echo '| operation | ns | instructions | what |'
    echo '|---|---|---|---|'
    build/microbench "$rounds" | while IFS=$'\t' read -r name ns low high what; do
        echo "$name: $ns ns" >&2
        echo "| $name | $ns ($low-$high) | $(instructions "$name") | $what |"
    done
} >"$out.part"
mv "$out.part" "$out"
cat "$out"
