# SPDX-License-Identifier: Apache-2.0
# make install, make uninstall. DESTDIR stages, PREFIX is where it will run from.

PREFIX ?= /usr/local
SYSTEMD_DIR ?= $(PREFIX)/lib/systemd/system
INSTALL := install
man_pages := $(wildcard cli/man/*.[1-8])
man_section = $(lastword $(subst ., ,$(1)))
INSTALLED = $(PREFIX)/sbin/weftd $(PREFIX)/libexec/weft/weft-helper $(PREFIX)/bin/meshctl $(SYSTEMD_DIR)/weftd.service \
	$(foreach m,$(man_pages),$(PREFIX)/share/man/man$(call man_section,$(m))/$(notdir $(m))) \
	$(PREFIX)/share/bash-completion/completions/meshctl $(PREFIX)/share/zsh/site-functions/_meshctl \
	$(PREFIX)/share/fish/vendor_completions.d/meshctl.fish

install: all
	$(Q)$(INSTALL) -D -m 755 $(BUILD)/weftd $(DESTDIR)$(PREFIX)/sbin/weftd
	$(Q)$(INSTALL) -D -m 755 $(BUILD)/weft-helper $(DESTDIR)$(PREFIX)/libexec/weft/weft-helper
	$(Q)$(INSTALL) -D -m 755 $(BUILD)/meshctl $(DESTDIR)$(PREFIX)/bin/meshctl
	$(Q)$(foreach m,$(man_pages),$(INSTALL) -D -m 644 $(m) $(DESTDIR)$(PREFIX)/share/man/man$(call man_section,$(m))/$(notdir $(m)) &&) :
	$(Q)mkdir -p $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d $(DESTDIR)$(SYSTEMD_DIR)
	$(Q)$(BUILD)/meshctl completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/meshctl
	$(Q)$(BUILD)/meshctl completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_meshctl
	$(Q)$(BUILD)/meshctl completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/meshctl.fish
	$(Q)sed 's|@PREFIX@|$(PREFIX)|' dist/weftd.service >$(DESTDIR)$(SYSTEMD_DIR)/weftd.service
	$(Q)$(INSTALL) -d -m 755 $(DESTDIR)/etc/weft
	$(Q)$(INSTALL) -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/weft/example $(wildcard dist/example/*.yaml)
	$(Q)$(INSTALL) -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/weft LICENSE $(wildcard README.md)
	$(if $(DESTDIR),,@echo "Installed. Put YAML into /etc/weft (see $(PREFIX)/share/doc/weft/example), then: systemctl enable --now weftd")

# /etc/weft is the user's.
uninstall:
	$(Q)rm -f $(addprefix $(DESTDIR),$(INSTALLED))
	$(Q)rm -rf $(DESTDIR)$(PREFIX)/share/doc/weft

.PHONY: install uninstall
## make install            weftd, weft-helper, meshctl, man pages, completions, systemd unit (DESTDIR, PREFIX=/usr/local)
