#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# What a request costs, over plaintext, userspace TLS and kernel TLS, beside redis-server and valkey-server. One command:
#
#   perf/ktls-bench.sh --quick                 under two minutes
#   perf/ktls-bench.sh                         where it stands; about half an hour
#   perf/ktls-bench.sh --vm [KERNEL]           in a kernel with kernel TLS (scripts/vm-run --list), instructions counted in QEMU's
#   perf/ktls-bench.sh --help                  all options; docs/PERFORMANCE.md tells what comes out
set -eu
cd "$(dirname "$0")/.."
told="perf/ktls-bench.sh $*"
kernel=''
if [ "${1:-}" = --vm ]; then
    shift
    kernel=qemu-6.12
    case "${1:-}" in -* | '') ;; *) kernel=$1; shift ;; esac
fi
case " $* " in
    *' --help '* | *' --list '* | *' --render '*) exec /usr/bin/python3 perf/ktls_bench.py ${kernel:+--icount} "$@" ;;
esac
make -s Q=@ build/kettle-server build/kettle-benchmark build/ktls-probe
[ -f tests/tls/server.crt ] || scripts/gen-test-certs.sh >/dev/null
args=(--told "$told")
while read -r name path libs; do
    args+=("--$name" "$path" "--$name-libs" "$libs")
done < <(/usr/bin/python3 perf/bench/peers.py)
if [ -z "$kernel" ]; then
    exec /usr/bin/python3 perf/ktls_bench.py "${args[@]}" "$@"
fi
out=vm-$kernel
case " $* " in *' --quick '*) out=$out-quick ;; esac
case $kernel in qemu*) counted=(--icount) ;; *) counted=() ;; esac
mkdir -p perf/results
exec scripts/vm-run --kernel "$kernel" "${counted[@]}" --mem "${KETTLE_BENCH_MEM:-2048}" --timeout "${KETTLE_BENCH_TIMEOUT:-7200}" \
    --writable perf/results -- /usr/bin/python3 perf/ktls_bench.py "${counted[@]}" --out "$out" "${args[@]}" "$@"
