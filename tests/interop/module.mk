# SPDX-License-Identifier: Apache-2.0
# Programs for conversations with other implementations; they use the fake worker of tests/unit/hbone.
HBONE_PEER := $(BUILD)/interop/hbone_peer
$(call objects,tests/interop/hbone_peer.c): MODCFLAGS = $(call pkg,--cflags,cmocka $(call pkgs,hbone))
$(HBONE_PEER): LDMODS = hbone
$(HBONE_PEER): $(call objects,tests/interop/hbone_peer.c) $(hbone_TEST_SHARED) $(call libs,hbone)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
		$(call ldlibs,$(LDMODS)) $(call pkg,--libs,cmocka)
interop: $(HBONE_PEER)
	$(Q)BUILD_DIR=$(abspath $(BUILD)) python3 tests/interop/hbone_envoy.py
.PHONY: interop
## make interop            HBONE between Weft and Envoy, both ways round
