# SPDX-License-Identifier: Apache-2.0
# Test targets. Every suite is run by tests/run, which prints the totals.

# --- BPF tests: tests/bpf/test_*.c, cmocka, as root; other .c files there are linked into each of them

BPFTEST_SRC := $(wildcard tests/bpf/test_*.c)
BPFTEST_BIN := $(BPFTEST_SRC:%.c=$(BUILD)/%)
BPFTEST_SHARED := $(call objects,$(filter-out tests/bpf/test_%,$(wildcard tests/bpf/*.c)))
bpf_test_USES := kernel
$(call objects,$(wildcard tests/bpf/*.c)): MODCFLAGS = $(call pkg,--cflags,cmocka $(call pkgs,kernel))
$(call objects,$(wildcard tests/bpf/*.c)): | $(VERSION_H) $(skel)
$(BPFTEST_BIN): $(BUILD)/tests/bpf/%: $(BUILD)/obj/tests/bpf/%.o $(BPFTEST_SHARED) $(call libs,bpf_test)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
		$(call ldlibs,bpf_test) $(call pkg,--libs,cmocka)
-include $(patsubst %.c,$(BUILD)/obj/%.d,$(wildcard tests/bpf/*.c))

# --- fuzz targets: tests/fuzz/fuzz_*.c over everything built by clang with the fuzzer's instrumentation.
# A target may say which modules it needs (fuzz_<name>_USES in tests/fuzz/module.mk); all of them otherwise.

-include $(wildcard tests/fuzz/module.mk)
-include $(wildcard tests/interop/module.mk)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_FLAGS := CC=$(CLANG) SANITIZE=fuzzer-no-link,address,undefined CFLAGS="-O1 -g -DWEFT_FUZZ"
fuzz_all_USES := $(MODULES)
fuzz_uses = $(if $($(1)_USES),$(1),fuzz_all)

define fuzz_target
$$(call objects,tests/fuzz/$(1).c): MODCFLAGS = $$(call pkg,--cflags,$$(call pkgs,$$(call fuzz_uses,$(1))))
$$(call objects,tests/fuzz/$(1).c): | $$(VERSION_H) $$(proto)
$$(BUILD)/$(1): LDMODS = $$(call fuzz_uses,$(1))
$$(BUILD)/$(1): $$(call objects,tests/fuzz/$(1).c) $$(call libs,$$(call fuzz_uses,$(1)))
	$$(call say,LD,$$@)
	$$(Q)$$(CC) $$(ALL_LDFLAGS) -fsanitize=fuzzer -o $$@ $$(filter %.o,$$^) -Wl,--start-group $$(filter %.a,$$^) \
		-Wl,--end-group $$(call ldlibs,$$(LDMODS))
endef
$(foreach f,$(FUZZ_SRC:tests/fuzz/%.c=%),$(eval $(call fuzz_target,$(f))))
-include $(FUZZ_SRC:%.c=$(BUILD)/obj/%.d)
fuzz-here: $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/%)

fuzz:
	$(if $(FUZZ_SRC),+$(Q)$(MAKE) $(JOBS) --no-print-directory BUILD=$(BUILD)/fuzz $(FUZZ_FLAGS) fuzz-here)

# --- running

# The only code that threads share without owning it: loop and mailbox, and what asks for it here.
TSAN_TESTS := tests/unit/base/test_loop.c tests/unit/balance/test_shared.c tests/unit/observe/test_log_writer.c \
	tests/unit/link/test_request_metrics.c
TSAN_BIN := $(TSAN_TESTS:%.c=$(BUILD)/tsan/%)
RUN := TSAN_TESTS="$(TSAN_TESTS)" tests/run --build $(BUILD) $(if $(ONLY),--only $(ONLY))
SUITES ?= unit tsan bpf fuzz e2e

tsan:
	+$(Q)$(MAKE) $(JOBS) --no-print-directory BUILD=$(BUILD)/tsan SANITIZE=thread $(TSAN_TESTS:%.c=$(BUILD)/tsan/%)
bpf-test-build: $(BPFTEST_BIN)

suite_unit := unit-build
suite_tsan := tsan
suite_bpf := bpf-test-build
suite_fuzz := fuzz
suite_e2e := all
test-build: all $(foreach s,$(SUITES),$(suite_$(s)))

# The packages come first, and decide what the rest of this file finds: hence the second make.
test:
	$(Q)tools/deps build test
	+$(Q)$(MAKE) $(JOBS) --no-print-directory test-build
	$(Q)$(RUN) $(if $(CI),--junit $(BUILD)/tests.xml) $(SUITES)

unit: unit-build
	$(Q)$(RUN) $(if $(MODULE),--only unit/$(MODULE)/) unit
test-tsan: tsan
	$(Q)$(RUN) tsan
test-bpf: bpf-test-build
	$(Q)$(RUN) bpf
test-fuzz: fuzz
	$(Q)$(RUN) fuzz
fuzz-long: fuzz
	$(Q)$(RUN) --fuzz-runs -1 --fuzz-seconds $(or $(SECONDS_EACH),300) fuzz
test-e2e: all
	$(Q)$(RUN) e2e
# Everything that runs as a process of ours, under ASan and UBSan.
test-asan:
	+$(Q)$(MAKE) $(JOBS) --no-print-directory BUILD=$(BUILD)/asan SANITIZE=address,undefined SUITES="$(or $(ASAN_SUITES),unit e2e)" test-build
	$(Q)tests/run --build $(BUILD)/asan --variant asan $(if $(ONLY),--only $(ONLY)) $(or $(ASAN_SUITES),unit e2e)

# The suite bpf under other kernels, in virtual machines: minutes each.
test-kernels:
	$(Q)tools/deps build test kernels
	+$(Q)$(MAKE) $(JOBS) --no-print-directory bpf-test-build
	$(Q)ONLY="$(ONLY)" tests/kernel/run $(BUILD) $(KERNELS)

.PHONY: test-kernels fuzz fuzz-here tsan bpf-test-build test-build test unit test-tsan test-bpf test-fuzz fuzz-long test-e2e test-asan
## make test               install what is missing, build, run all suites (SUITES="unit e2e", ONLY=text)
## make test-e2e ONLY=x    one suite (unit, test-tsan, test-bpf, test-fuzz, test-e2e), only tests whose name has x
## make test-asan          unit and end-to-end tests with binaries built with ASan and UBSan
## make test-kernels       the suite bpf under Debian's 6.1 and 6.12 kernels, in virtual machines (KERNELS=patterns, ONLY=text)
## make fuzz-long          fuzz targets, SECONDS_EACH=300
