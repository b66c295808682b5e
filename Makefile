# Kettle. `make help` lists the targets.
#
# One build folder per variant, so that sanitizer builds never mix with release ones:
#   VARIANT=release (default)  build/            -O2, jemalloc
#   VARIANT=asan               build/asan/       AddressSanitizer + UBSan, libc allocator
#   VARIANT=tsan               build/tsan/       ThreadSanitizer
#   VARIANT=fuzz               build/fuzz/       clang, libFuzzer + ASan
VARIANT ?= release
BUILD_TLS ?= yes
PREFIX ?= /usr/local
DESTDIR ?=
LIBDIR ?= $(PREFIX)/lib

# As many jobs as cores, unless the caller says otherwise.
ifeq ($(filter -j% --jobserver%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif

ifeq ($(filter $(VARIANT),release asan tsan fuzz),)
$(error VARIANT must be release, asan, tsan or fuzz)
endif
ifeq ($(filter $(BUILD_TLS),yes module),)
$(warning BUILD_TLS=$(BUILD_TLS): TLS is always built in)
endif

ifeq ($(VARIANT),fuzz)
CC := clang
else ifeq ($(origin CC),default)
CC := gcc
endif
AR ?= ar

LAYERS := base ktls net proto data cmd persist repl cluster server tools
OUT ?= $(if $(filter release,$(VARIANT)),build,build/$(VARIANT))
OBJ := $(OUT)/obj

WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wformat=2 \
        -Wimplicit-fallthrough -Wwrite-strings -Wcast-qual
OPT_release := -O2 -g
OPT_asan := -O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT_tsan := -O1 -g1 -fsanitize=thread -fno-omit-frame-pointer
OPT_fuzz := -O1 -g1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SAN := $(OPT_$(VARIANT))

# Scripts, in the server only: Lua and what of Lua's modules Debian has as libraries.
CFLAGS_lua := $(shell pkg-config --cflags lua5.1)
LIBS_lua := $(shell pkg-config --libs lua5.1 lua5.1-cjson lua5.1-bitop)

# User CFLAGS and LDFLAGS come last, so that a packager can override.
K_CFLAGS := -std=gnu11 $(WARN) $(SAN) -fno-strict-aliasing -fPIC -fvisibility=hidden -pthread -D_GNU_SOURCE -Isrc -Isrc/ktls $(CFLAGS_lua)
K_LDFLAGS := $(SAN) -pthread -rdynamic
LIBS_ssl := -lssl -lcrypto
LIBS := $(LIBS_ssl) -luring -llzf -lm -ldl
ifeq ($(VARIANT),release)
K_CFLAGS += -DHAVE_JEMALLOC
LIBS += -ljemalloc
endif

# The server is linked with optimization across files (10% fewer instructions a command); the objects have ordinary code too, for
# everything else, and libktls only that. gcc: clang's needs another archiver.
ifeq ($(VARIANT)-$(findstring clang,$(shell $(CC) --version)),release-)
LTO := -flto=auto
LTO_OBJ := -flto -ffat-lto-objects
K_LDFLAGS += -fno-lto
endif

src = $(sort $(wildcard src/$(1)/*.c src/$(1)/*/*.c))
obj = $(patsubst src/%.c,$(OBJ)/%.o,$(1))

SERVER_LAYERS := base ktls net proto data cmd persist repl cluster
# Programs have their main() in a file of their own; everything else goes into one archive per layer.
MAIN_SRC := src/server/main.c $(wildcard src/tools/main_*.c)
layer_obj = $(call obj,$(filter-out $(MAIN_SRC),$(call src,$(1))))
$(foreach l,$(LAYERS),$(eval OBJS_$(l) := $(call layer_obj,$(l))))
# Lower layers last, for the linker.
ARCHIVES_server := $(foreach l,server cluster repl persist cmd data proto net ktls base,$(if $(OBJS_$(l)),$(OUT)/lib/lib$(l).a))
ARCHIVES_tools := $(foreach l,tools net proto ktls base,$(if $(OBJS_$(l)),$(OUT)/lib/lib$(l).a))
# Tools that look into the server's files.
ARCHIVES_files := $(foreach l,persist cmd data proto base,$(if $(OBJS_$(l)),$(OUT)/lib/lib$(l).a))
ARCHIVES_all := $(foreach l,server tools cluster repl persist cmd data proto net ktls base,$(if $(OBJS_$(l)),$(OUT)/lib/lib$(l).a))

PROGRAMS := $(OUT)/kettle-server $(OUT)/kettle-cli $(OUT)/kettle-benchmark $(OUT)/ktls-probe $(OUT)/kettle-check-rdb \
            $(OUT)/kettle-check-aof
LIBRARIES := $(OUT)/libktls.a $(OUT)/libktls.so
EXAMPLES := $(patsubst docs/examples/%.c,$(OUT)/examples/%,$(sort $(wildcard docs/examples/*.c)))
# TLS peers for tests/integration/test_peers.py: libktls's own, and those whose library is installed; a client for test_hiredis.py.
PEERS := $(OUT)/peers/ktls-peer $(if $(wildcard /usr/include/wolfssl/ssl.h),$(OUT)/peers/wolfssl-peer) \
         $(if $(wildcard /usr/include/mbedtls/ssl.h),$(OUT)/peers/mbedtls-peer) \
         $(if $(shell command -v javac),$(OUT)/peers/TlsPeer.class) $(if $(shell command -v go),$(OUT)/peers/go-peer) \
         $(if $(wildcard /usr/include/hiredis/hiredis.h),$(OUT)/peers/hiredis-client) $(OUT)/peers/io-fail.so
UNIT_SRC := $(sort $(wildcard tests/unit/*/test_*.c))
UNIT := $(patsubst tests/unit/%.c,$(OUT)/unit/%,$(UNIT_SRC))

.PHONY: all
all: $(PROGRAMS) $(LIBRARIES) $(EXAMPLES) $(OUT)/peers/ktls-peer

# What a compiler warns of, without building anything: a second one's opinion.
.PHONY: syntax
syntax:
	@printf '%s\n' $(foreach l,$(LAYERS),$(call src,$(l))) $(wildcard docs/examples/*.c) | xargs -P2 -n4 $(CC) $(K_CFLAGS) -DHAVE_JEMALLOC $(CFLAGS) -fsyntax-only

# A changed compiler or flag rebuilds everything of this variant.
$(OBJ)/.flags: FORCE
	@mkdir -p $(OBJ); echo '$(CC) $(K_CFLAGS) $(LTO) $(CFLAGS) $(LDFLAGS)' | cmp -s - $@ || echo '$(CC) $(K_CFLAGS) $(LTO) $(CFLAGS) $(LDFLAGS)' > $@
.PHONY: FORCE
FORCE:

$(OBJ)/%.o: src/%.c $(OBJ)/.flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(K_CFLAGS) $(if $(filter $(OBJ)/ktls/% $(OBJ)/tools/%,$@),,$(LTO_OBJ)) -MMD -MP $(CFLAGS) -c -o $@ $<

define archive_rule
$(OUT)/lib/lib$(1).a: $(OBJS_$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(Q)$(AR) rcs $$@ $$^
.PHONY: layer-$(1) unit-$(1)
layer-$(1): $(if $(OBJS_$(1)),$(OUT)/lib/lib$(1).a)
unit-$(1): $(filter $(OUT)/unit/$(1)/%,$(UNIT))
	@set -e; for t in $$^; do echo "== $$$$t"; $$$$t; done
endef
$(foreach l,$(LAYERS),$(eval $(call archive_rule,$(l))))

$(OUT)/kettle-server: $(OBJ)/server/main.o $(ARCHIVES_server)
	$(Q)$(CC) $(K_LDFLAGS) $(LTO) -o $@ $< -Wl,--start-group $(ARCHIVES_server) -Wl,--end-group $(LDFLAGS) $(LIBS_lua) $(LIBS)
$(OUT)/kettle-cli: $(OBJ)/tools/main_cli.o $(ARCHIVES_tools)
	$(Q)$(CC) $(K_LDFLAGS) -o $@ $< -Wl,--start-group $(ARCHIVES_tools) -Wl,--end-group $(LDFLAGS) $(LIBS) -ledit
$(OUT)/kettle-benchmark: $(OBJ)/tools/main_benchmark.o $(ARCHIVES_tools)
	$(Q)$(CC) $(K_LDFLAGS) -o $@ $< -Wl,--start-group $(ARCHIVES_tools) -Wl,--end-group $(LDFLAGS) $(LIBS)
$(OUT)/kettle-check-rdb: $(OBJ)/tools/main_check_rdb.o $(ARCHIVES_files)
	$(Q)$(CC) $(K_LDFLAGS) -o $@ $< -Wl,--start-group $(ARCHIVES_files) -Wl,--end-group $(LDFLAGS) $(LIBS_lua) $(LIBS)
$(OUT)/kettle-check-aof: $(OBJ)/tools/main_check_aof.o $(ARCHIVES_files)
	$(Q)$(CC) $(K_LDFLAGS) -o $@ $< -Wl,--start-group $(ARCHIVES_files) -Wl,--end-group $(LDFLAGS) $(LIBS_lua) $(LIBS)
$(OUT)/ktls-probe: $(OBJ)/tools/main_ktls_probe.o $(OUT)/lib/libktls.a
	$(Q)$(CC) $(K_LDFLAGS) -o $@ $^ $(LDFLAGS) $(LIBS_ssl)

$(OUT)/libktls.a: $(OBJS_ktls)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^
$(OUT)/libktls.so: $(OBJS_ktls) $(wildcard src/ktls/libktls.map)
	$(Q)$(CC) $(SAN) -shared -Wl,-soname,libktls.so.0 $(if $(wildcard src/ktls/libktls.map),-Wl$(comma)--version-script=src/ktls/libktls.map) -Wl,-z,defs -o $@ $(OBJS_ktls) $(LDFLAGS) $(LIBS_ssl)
comma := ,

$(OUT)/examples/%: docs/examples/%.c $(OUT)/libktls.a $(OBJ)/.flags
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(WARN) $(SAN) -D_GNU_SOURCE -Isrc/ktls -MMD -MP $(CFLAGS) -o $@ $< $(OUT)/libktls.a $(LDFLAGS) $(LIBS_ssl)

# io_uring on sockets whose keys change.
$(OUT)/unit/ktls/test_rekey_uring: LIBS += -luring
# They have a malloc of their own, in front of libc's.
$(OUT)/unit/ktls/test_faults $(OUT)/unit/ktls/test_fault_secrets: LIBS := $(filter-out -ljemalloc,$(LIBS))

.PHONY: peers
peers: $(PEERS)
PEER_LIBS_ktls := $(OUT)/libktls.a
PEER_LIBS_wolfssl := -lwolfssl
PEER_LIBS_mbedtls := -lmbedtls -lmbedx509 -lmbedcrypto
$(OUT)/peers/ktls-peer: $(OUT)/libktls.a
$(OUT)/peers/%-peer: tests/support/%-peer.c tests/support/tls_peer.c tests/support/tls_peer.h $(OBJ)/.flags
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(WARN) $(SAN) -D_GNU_SOURCE -Isrc/ktls $(CFLAGS) -o $@ tests/support/$*-peer.c tests/support/tls_peer.c $(PEER_LIBS_$*) $(LDFLAGS) $(LIBS_ssl)
$(OUT)/peers/hiredis-client: tests/support/hiredis-client.c $(OBJ)/.flags
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(WARN) $(SAN) -D_GNU_SOURCE $(CFLAGS) -o $@ $< $(LDFLAGS) -lhiredis
$(OUT)/peers/io-fail.so: tests/support/io-fail.c $(OBJ)/.flags
	@mkdir -p $(@D)
	$(Q)$(CC) -std=gnu11 $(WARN) -D_GNU_SOURCE -fPIC -fvisibility=hidden -shared $(CFLAGS) -o $@ $<
$(OUT)/peers/TlsPeer.class: tests/support/TlsPeer.java
	@mkdir -p $(@D)
	$(Q)javac -d $(@D) $<
$(OUT)/peers/go-peer: tests/support/tls-peer.go
	@mkdir -p $(@D)
	$(Q)GO111MODULE=off CGO_ENABLED=0 go build -o $@ $<

UNIT_LAYERS_base := base
UNIT_LAYERS_ktls := ktls
UNIT_LAYERS_net := net ktls base
UNIT_LAYERS_proto := proto base
UNIT_LAYERS_data := data base
UNIT_LAYERS_cmd := cmd data proto base
UNIT_LAYERS_persist := persist cmd data proto base
UNIT_LAYERS_repl := repl persist cmd data proto net ktls base
UNIT_LAYERS_server := server repl persist cmd data proto net ktls base
UNIT_LAYERS_tools := tools net proto ktls base

# Unit tests: one program per file, linked with the archives of its layer and those below.
unit_archives = $(foreach l,$(UNIT_LAYERS_$(1)),$(if $(OBJS_$(l)),$(OUT)/lib/lib$(l).a))
define unit_rule
$(OUT)/unit/$(1): tests/unit/$(1).c $(call unit_archives,$(firstword $(subst /, ,$(1)))) $(OBJ)/.flags
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(K_CFLAGS) -Itests/support -Itests/unit/$$(firstword $$(subst /, ,$(1))) -MMD -MP $$(CFLAGS) -o $$@ $$< -Wl,--start-group $(call unit_archives,$(firstword $(subst /, ,$(1)))) -Wl,--end-group $$(K_LDFLAGS) $$(LDFLAGS) -lcmocka $(if $(filter cmd/% persist/% repl/% server/%,$(1)),$$(LIBS_lua)) $$(LIBS)
endef
$(foreach t,$(UNIT_SRC),$(eval $(call unit_rule,$(patsubst tests/unit/%.c,%,$(t)))))

.PHONY: unit unit-build unit-list
unit-build: $(UNIT)
unit-list:
	@printf '%s\n' $(UNIT)
unit: $(UNIT)
	@set -e; for t in $(UNIT); do echo "== $$t"; $$t; done

# ---- faults: connections of libktls in which allocations and system calls fail ----
FAULT_CYCLES ?= 10000
FAULT_VALGRIND ?= 400
FAULT_SEED ?= 1
FAULT_TESTS := build/unit/ktls/test_faults build/unit/ktls/test_fault_secrets
FAULT_ENV = env KTLS_FAULT_CYCLES=$(FAULT_CYCLES) KTLS_FAULT_SEED=$(FAULT_SEED)

.PHONY: faults faults-valgrind
faults:
	+$(MAKE) $(FAULT_TESTS) build/ktls-probe
	+$(MAKE) VARIANT=asan build/asan/unit/ktls/test_faults
	$(FAULT_ENV) build/unit/ktls/test_faults
	$(FAULT_ENV) build/unit/ktls/test_fault_secrets
	$(FAULT_ENV) build/asan/unit/ktls/test_faults
	for k in old rekey; do scripts/vm-run --kernel $$k --timeout 3000 -- sh -c '$(FAULT_ENV) build/unit/ktls/test_faults && $(FAULT_ENV) build/unit/ktls/test_fault_secrets' || [ $$? = 77 ] || exit 1; done
	+$(MAKE) faults-valgrind
# Its own malloc must stay behind the test's, and search of freed memory would read what was never written.
faults-valgrind: build/unit/ktls/test_faults
	KTLS_FAULT_CYCLES=$(FAULT_VALGRIND) KTLS_FAULT_SEED=$(FAULT_SEED) KTLS_FAULT_NO_SEARCH=1 valgrind -q --soname-synonyms=somalloc=nouserintercepts \
	--leak-check=full --error-exitcode=9 build/unit/ktls/test_faults

# ---- fuzzing: libFuzzer programs over everything that parses a peer's bytes ----
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ := $(patsubst tests/fuzz/%.c,$(OUT)/fuzz-bin/%,$(FUZZ_SRC))
FUZZ_SECONDS ?= 60

$(OUT)/fuzz-bin/%: tests/fuzz/%.c $(ARCHIVES_all) $(OBJ)/.flags
	@mkdir -p $(@D)
	$(Q)$(CC) $(K_CFLAGS) -MMD -MP $(CFLAGS) -o $@ $< -fsanitize=fuzzer -Wl,--start-group $(ARCHIVES_all) -Wl,--end-group $(K_LDFLAGS) $(LDFLAGS) $(LIBS_lua) $(LIBS)

.PHONY: fuzz-build fuzz-run fuzz asan tsan check lint layers clean help install
fuzz-build: $(FUZZ)
# corpus.tar.xz is what ten minutes of each target found; corpus/ has the seeds written by hand.
$(OUT)/corpus/.unpacked: tests/fuzz/corpus.tar.xz
	@mkdir -p $(@D) && tar -xJf $< -C $(@D) && touch $@
fuzz-run: $(FUZZ) $(OUT)/corpus/.unpacked
	@set -e; for f in $(FUZZ); do n=$$(basename $$f); n=$${n#fuzz_}; c=tests/fuzz/corpus/$$n; w=$(OUT)/corpus/$$n; mkdir -p $$w; \
	echo "== $$f for $(FUZZ_SECONDS) s"; $$f -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 -verbosity=0 -artifact_prefix=$$w/ $$w $$( [ -d $$c ] && echo $$c ); done
fuzz:
	+$(MAKE) VARIANT=fuzz fuzz-run

asan:
	+$(MAKE) VARIANT=asan all
	+$(MAKE) VARIANT=asan unit
tsan:
	+$(MAKE) VARIANT=tsan all
	+$(MAKE) VARIANT=tsan unit

check:
	./scripts/check
lint:
	./scripts/lint
layers:
	./scripts/check-layers

KTLS_VERSION = $(shell sed -n 's/^.define KTLS_VERSION_M[AI][JN]OR //p' src/ktls/ktls.h | paste -sd.).0
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 $(DESTDIR)$(PREFIX)/share/man/man3
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(OUT)/libktls.a $(DESTDIR)$(LIBDIR)
	install -m 755 $(OUT)/libktls.so $(DESTDIR)$(LIBDIR)/libktls.so.0
	ln -sf libktls.so.0 $(DESTDIR)$(LIBDIR)/libktls.so
	install -m 644 src/ktls/ktls.h $(DESTDIR)$(PREFIX)/include
	sed -e 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(KTLS_VERSION)|' src/ktls/libktls.pc.in > $(DESTDIR)$(LIBDIR)/pkgconfig/libktls.pc
	install -m 644 docs/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 docs/man/*.3 $(DESTDIR)$(PREFIX)/share/man/man3

clean:
	rm -rf build

help:
	@echo 'make             build/kettle-server kettle-cli kettle-benchmark kettle-check-rdb kettle-check-aof ktls-probe libktls.a libktls.so'
	@echo 'make unit        unit tests (unit-LAYER: those of one layer)'
	@echo 'make asan        everything under AddressSanitizer and UBSan, unit tests run'
	@echo 'make tsan        the same under ThreadSanitizer'
	@echo 'make peers       TLS peers and clients for integration tests, of the libraries that are installed'
	@echo 'make fuzz        every fuzz target for FUZZ_SECONDS (60) seconds'
	@echo 'make faults      FAULT_CYCLES (10000) connections with faults: here, with ASan, in VMs, under valgrind'
	@echo 'make lint        clang-format, cppcheck, clang-tidy'
	@echo 'make syntax      warnings only: make syntax CC=clang'
	@echo 'make layers      include rules of docs/ARCHITECTURE.md, libktls stands alone'
	@echo 'make check       all tests, as CI runs them (scripts/check)'
	@echo 'make install     PREFIX=/usr/local LIBDIR=PREFIX/lib DESTDIR='
	@echo 'make clean'
	@echo 'Variables: VARIANT=release|asan|tsan|fuzz CC=gcc|clang CFLAGS= LDFLAGS= Q=@ (quiet) BUILD_TLS=yes (always)'

-include $(shell find $(OBJ) $(OUT)/unit $(OUT)/examples $(OUT)/fuzz-bin -name '*.d' 2>/dev/null)
