# SPDX-License-Identifier: Apache-2.0
# The HTTP/2 codec's server over real sockets.
H2SPEC_SERVER := $(BUILD)/h2spec/server
$(call objects,tests/h2spec/server.c): MODCFLAGS = $(call pkg,--cflags,$(call pkgs,helper))
$(call objects,tests/h2spec/server.c): | $(VERSION_H) $(proto)
$(H2SPEC_SERVER): LDMODS = helper
$(H2SPEC_SERVER): $(call objects,tests/h2spec/server.c) $(call libs,helper)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
		$(call ldlibs,$(LDMODS))
test-h2spec: $(H2SPEC_SERVER)
	$(Q)tests/h2spec/run $(BUILD)
.PHONY: test-h2spec
## make test-h2spec        h2spec against the HTTP/2 server (fetched with Go when it is not installed; needs the network then)
