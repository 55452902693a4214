# SPDX-License-Identifier: Apache-2.0
# The HTTP/2 codec's server over real sockets: the rig of the transport tests, without the stage (which stands for proxies).
H2SPEC_SERVER := $(BUILD)/h2spec/server
$(call objects,tests/h2spec/server.c): MODCFLAGS = $(call pkg,--cflags,cmocka $(call pkgs,transport))
$(call objects,tests/h2spec/server.c): | $(VERSION_H) $(proto)
$(H2SPEC_SERVER): LDMODS = transport
$(H2SPEC_SERVER): $(call objects,tests/h2spec/server.c) $(filter-out %/stage.o,$(transport_TEST_SHARED)) $(call libs,transport)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
		$(call ldlibs,$(LDMODS)) $(call pkg,--libs,cmocka)
test-h2spec: $(H2SPEC_SERVER)
	$(Q)tests/h2spec/run $(BUILD)
test-build test-e2e: $(H2SPEC_SERVER)
-include $(BUILD)/obj/tests/h2spec/server.d
.PHONY: test-h2spec
## make test-h2spec        h2spec against the HTTP/2 server (fetched with Go when it is not installed; needs the network then)
