/*
 * User-level static probes (USDT), provider "libktls": a nop and a note in the binary each, which bpftrace, perf or gdb may turn
 * into a call; docs/OBSERVING.md lists them with their arguments. Without systemtap's <sys/sdt.h> (package systemtap-sdt-dev), or
 * with -DKTLS_NO_USDT, they are not there and cost nothing.
 *
 * "__" in a name is "-" to systemtap; bpftrace and readelf show it as it is.
 */
#ifndef KTLS_USDT_H
#define KTLS_USDT_H

#if !defined(KTLS_NO_USDT) && defined(__has_include)
#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define KTLS_HAVE_USDT 1
#endif
#endif

#ifdef KTLS_HAVE_USDT
#define KTLS_PROBE2(name, a, b) DTRACE_PROBE2(libktls, name, a, b)
#define KTLS_PROBE3(name, a, b, c) DTRACE_PROBE3(libktls, name, a, b, c)
#define KTLS_PROBE4(name, a, b, c, d) DTRACE_PROBE4(libktls, name, a, b, c, d)
#else
#define KTLS_PROBE2(name, a, b) ((void)(a), (void)(b))
#define KTLS_PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#define KTLS_PROBE4(name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#endif

#endif
