# SPDX-License-Identifier: Apache-2.0
# make bench, make bench-compare: see tests/bench/README.md.

SUITE ?= l4
NETLOAD := $(BUILD)/bench/netload

NETLOAD_OBJ := $(call objects,$(wildcard tests/bench/*.c))

$(NETLOAD): $(NETLOAD_OBJ)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $^
-include $(NETLOAD_OBJ:.o=.d)

bench-build: all $(NETLOAD)
bench:
	$(Q)tools/deps build bench
	+$(Q)$(MAKE) --no-print-directory bench-build
	$(Q)BUILD_DIR=$(abspath $(BUILD)) tests/bench/bench.py --suite $(SUITE) --out $(BUILD)/bench/$(SUITE).json $(BENCH_ARGS)
bench-compare:
	$(if $(and $(OLD),$(NEW)),,$(error make bench-compare OLD=a.json NEW=b.json))
	$(Q)tests/bench/bench.py --compare $(OLD) $(NEW)

.PHONY: bench bench-build bench-compare
## make bench SUITE=l4     compare with no mesh and Envoy (QUICK=1; BENCH_ARGS="--runs 3 --cases hbone_rr,hbone_bulk")
## make bench-compare OLD=a.json NEW=b.json
