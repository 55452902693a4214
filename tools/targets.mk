# SPDX-License-Identifier: Apache-2.0
# make lint, make format.

CLANG_TIDY ?= $(shell tools/find-tool clang-tidy)
CLANG_FORMAT ?= $(shell tools/find-tool clang-format)
LINT_C := $(foreach m,$(MODULES),$($(m)_SRC)) $(wildcard $(mains))
LINT_H := $(foreach m,$(MODULES),$(wildcard $($(m)_DIR)/*.h $($(m)_DIR)/*/*.h)) $(wildcard bpf/*.h)
LINT_PKGS := $(sort $(foreach m,$(MODULES),$($(m)_PKGS)))

# A header compiles alone.
$(BUILD)/lint/%.h.ok: %.h | $(VERSION_H) $(proto)
	@mkdir -p $(@D)
	$(call say,HEADER,$<)
	$(Q)printf '#include "%s"\n' $< | $(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(call pkg,--cflags,$(LINT_PKGS)) -Werror -fsyntax-only -x c -
	@touch $@

# Checked again when the file or a header of its module changed.
$(BUILD)/lint/%.c.ok: %.c .clang-tidy | $(VERSION_H) $(proto) $(skel)
	@mkdir -p $(@D)
	$(call say,TIDY,$<)
	$(Q)$(CLANG_TIDY) --quiet $< -- -x c $(ALL_CPPFLAGS) -std=gnu17 $(call pkg,--cflags,$(LINT_PKGS)) 2>/dev/null
	@touch $@
$(foreach f,$(LINT_C),$(eval $(BUILD)/lint/$(f).ok: $(wildcard $(dir $(f))*.h)))

lint-headers: $(LINT_H:%=$(BUILD)/lint/%.ok)
lint-tidy: $(LINT_C:%=$(BUILD)/lint/%.ok)
lint:
	$(Q)tools/deps build lint
	$(Q)tools/lint
	+$(Q)$(MAKE) $(JOBS) --no-print-directory -k lint-headers lint-tidy

format:
	$(Q)git ls-files -co --exclude-standard '*.c' '*.h' | xargs clang-format-16 -i

.PHONY: lint lint-headers lint-tidy format
## make lint               format, include directions, headers alone, clang-tidy, shellcheck, licence lines
## make format             clang-format over all C files
