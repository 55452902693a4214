# SPDX-License-Identifier: Apache-2.0
# Weft's build, out of tree. `make help` lists the targets, V=1 shows the commands, BUILD=dir says where to.
# Each module (agent/<name>, cli) is a folder; its module.mk says what it uses:
#   <name>_USES  modules that it links with (DESIGN section 8)
#   <name>_PKGS  pkg-config packages
#   <name>_GEN   "proto" (protobuf-c code) or "skel" (BPF skeletons): generated headers that it includes
# A folder that is not there is no module; a main file that is not there is no binary.

BUILD ?= build
MODULES := base model config source compile kernel ca link helper telemetry control daemon cli
BINARIES := weftd weft-helper meshctl

weftd_MAIN := agent/weftd.c
weftd_USES := daemon control telemetry ca link kernel compile source config model base
weft-helper_MAIN := agent/weft-helper.c
weft-helper_USES := helper link model base
meshctl_MAIN := cli/meshctl.c
meshctl_USES := cli

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:
Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' '$(1)' '$(patsubst $(BUILD)/%,%,$(2))')

# --- tools and flags

CC := $(if $(filter default undefined,$(origin CC)),gcc,$(CC))
CLANG ?= $(shell tools/find-tool clang)
BPFTOOL ?= $(shell tools/find-tool bpftool)
LLVM_STRIP ?= $(shell tools/find-tool llvm-strip)
PKG_CONFIG ?= pkg-config
# For the targets that build on their way: all processors, unless -j was given.
JOBS = $(if $(filter --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))
pkg = $(if $(strip $(2)),$(shell $(PKG_CONFIG) $(1) $(2) 2>/dev/null))

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wimplicit-fallthrough -Wformat=2 \
	-Wconversion -Wno-sign-conversion -Wno-missing-field-initializers -Werror=implicit-function-declaration \
	-Werror=incompatible-pointer-types -Werror=int-conversion $(if $(WERROR),-Werror)
HARDEN := -fstack-protector-strong $(if $(SANITIZE),,-D_FORTIFY_SOURCE=2)
SAN := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
CFLAGS ?= -O2 -g
ALL_CPPFLAGS := -D_GNU_SOURCE -I. -I$(BUILD)/gen $(CPPFLAGS)
ALL_CFLAGS := -std=gnu17 $(CFLAGS) $(WARN) $(HARDEN) -fPIE -pthread $(SAN)
ALL_LDFLAGS := -pie -pthread -Wl,-z,relro,-z,now -Wl,--as-needed $(SAN) $(LDFLAGS)

# --- modules

$(foreach m,$(MODULES),$(eval $(m)_DIR := $(if $(filter cli,$(m)),cli,agent/$(m))))
-include $(wildcard $(foreach m,$(MODULES),$($(m)_DIR)/module.mk))

mains := $(foreach b,$(BINARIES),$($(b)_MAIN))
sources = $(filter-out $(mains),$(wildcard $(1)/*.c $(1)/*/*.c $(1)/*/*/*.c))
objects = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
closure = $(sort $(1) $(foreach u,$($(1)_USES),$(call closure,$(u))))
pkgs = $(sort $(foreach m,$(call closure,$(1)),$($(m)_PKGS)))
libs = $(foreach m,$(filter $(PRESENT),$(call closure,$(1))),$(BUILD)/lib/$(m).a)
ldlibs = $(call pkg,--libs,$(call pkgs,$(1))) $(foreach m,$(call closure,$(1)),$($(m)_LDLIBS))

PROTO_SRC := $(wildcard agent/link/*.proto agent/helper/filter/*.proto agent/telemetry/*.proto)
PROTO_C := $(PROTO_SRC:%.proto=$(BUILD)/gen/%.pb-c.c)
proto := $(PROTO_C:.c=.h)
BPF_SRC := $(wildcard bpf/*.bpf.c)
BPF_OBJ := $(BPF_SRC:%.c=$(BUILD)/%.o)
skel := $(BPF_SRC:bpf/%.bpf.c=$(BUILD)/gen/%.skel.h)
VERSION_H := $(BUILD)/gen/version.h

define module
$(1)_SRC := $$(call sources,$$($(1)_DIR))
$(1)_OBJ := $$(call objects,$$($(1)_SRC))
ifneq ($$($(1)_SRC)$$(if $$(filter link,$(1)),$$(PROTO_C)),)
PRESENT += $(1)
endif
$$($(1)_OBJ): MODCFLAGS = $$(call pkg,--cflags,$$(call pkgs,$(1)))
$$($(1)_OBJ): | $$(VERSION_H) $$(foreach m,$$(call closure,$(1)),$$(foreach g,$$(filter proto,$$($$(m)_GEN)),$$($$(g)))) \
	$$(foreach g,$$($(1)_GEN),$$($$(g)))
lib-$(1): $$(BUILD)/lib/$(1).a
.PHONY: lib-$(1)
endef
$(foreach m,$(MODULES),$(eval $(call module,$(m))))

link_OBJ += $(PROTO_C:$(BUILD)/gen/%.c=$(BUILD)/obj/gen/%.o)
$(PROTO_C:$(BUILD)/gen/%.c=$(BUILD)/obj/gen/%.o): | $(proto)
$(foreach m,$(MODULES),$(eval $(BUILD)/lib/$(m).a: $($(m)_OBJ)))

$(BUILD)/lib/%.a:
	@mkdir -p $(@D)
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcsD $@ $(filter %.o,$^)

# Other flags make other objects.
FLAGS := $(BUILD)/flags
$(FLAGS): FORCE
	@mkdir -p $(@D); echo '$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS)' | cmp -s - $@ || echo '$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS)' >$@

$(BUILD)/obj/%.o: %.c $(FLAGS)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(MODCFLAGS) -MMD -MP -c -o $@ $<

# --- generated code

$(BUILD)/obj/gen/%.o: $(BUILD)/gen/%.c $(FLAGS)
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -w -MMD -MP -c -o $@ $<

$(BUILD)/gen/%.pb-c.c $(BUILD)/gen/%.pb-c.h &: %.proto
	@mkdir -p $(@D)
	$(call say,PROTOC,$<)
	$(Q)protoc-c --c_out=$(BUILD)/gen $< 2>$(BUILD)/gen/$<.log || { cat $(BUILD)/gen/$<.log; exit 1; }

$(VERSION_H): FORCE
	@mkdir -p $(@D); tools/version-h $@ "$(PREFIX)/libexec/weft"

# --- BPF

BPF_ARCH := $(shell uname -m | sed 's/x86_64/x86/;s/aarch64/arm64/;s/ppc64le/powerpc/;s/riscv64/riscv/')
BPF_CFLAGS := -target bpf -mcpu=v3 -g -O2 -std=gnu17 -Wall -Wextra $(if $(WERROR),-Werror) -D__TARGET_ARCH_$(BPF_ARCH) \
	-I. -I$(BUILD)/gen -idirafter /usr/include/$(shell uname -m)-linux-gnu
# vmlinux.h is only made for sources that ask for it: a build machine need not have BTF.
VMLINUX_H := $(if $(BPF_SRC),$(if $(shell grep -ls '"vmlinux.h"' $(BPF_SRC) $(wildcard bpf/lib/*.h bpf/*.h)),$(BUILD)/gen/vmlinux.h))

$(BUILD)/gen/vmlinux.h:
	@mkdir -p $(@D)
	$(call say,BTF,$@)
	$(Q)$(BPFTOOL) btf dump file /sys/kernel/btf/vmlinux format c > $@

$(BUILD)/bpf/%.bpf.o: bpf/%.bpf.c | $(VMLINUX_H)
	@mkdir -p $(@D)
	$(call say,BPF,$<)
	$(Q)$(CLANG) $(BPF_CFLAGS) -MMD -MP -MF $(@:.o=.d) -MT $@ -c -o $@ $<
	$(if $(LLVM_STRIP),$(Q)$(LLVM_STRIP) -g $@)

$(BUILD)/gen/%.skel.h: $(BUILD)/bpf/%.bpf.o
	@mkdir -p $(@D)
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf > $@

# --- binaries

define binary
ifneq ($$(wildcard $$($(1)_MAIN)),)
BIN += $$(BUILD)/$(1)
$$(call objects,$$($(1)_MAIN)): MODCFLAGS = -include version.h $$(call pkg,--cflags,$$(call pkgs,$(1)))
$$(call objects,$$($(1)_MAIN)): | $$(VERSION_H) $$(if $$(filter link,$$(call closure,$(1))),$$(proto))
$$(BUILD)/$(1): LDMODS = $(1)
$$(BUILD)/$(1): $$(call objects,$$($(1)_MAIN)) $$(call libs,$(1))
endif
$(1): $$(BUILD)/$(1)
.PHONY: $(1)
endef
BIN :=
$(foreach b,$(BINARIES),$(eval $(call binary,$(b))))

$(addprefix $(BUILD)/,$(BINARIES)):
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(call ldlibs,$(LDMODS))

all: $(foreach m,$(PRESENT),$(BUILD)/lib/$(m).a) $(BPF_OBJ) $(BIN)
bpf: $(BPF_OBJ) $(skel)

# --- unit tests: tests/unit/<module>/test_*.c, one binary a file; other .c files there are linked into each of them

UNIT_SRC := $(wildcard tests/unit/$(or $(MODULE),*)/test_*.c)
UNIT_BIN := $(patsubst %.c,$(BUILD)/%,$(UNIT_SRC))
UNIT_MODULES := $(sort $(foreach s,$(UNIT_SRC),$(word 3,$(subst /, ,$(s)))))

define unit_module
$(1)_TEST_SRC := $$(wildcard tests/unit/$(1)/*.c)
$(1)_TEST_SHARED := $$(call objects,$$(filter-out tests/unit/$(1)/test_%,$$($(1)_TEST_SRC)))
$$(call objects,$$($(1)_TEST_SRC)): MODCFLAGS = $$(call pkg,--cflags,cmocka $$(call pkgs,$(1)))
$$(call objects,$$($(1)_TEST_SRC)): | $$(VERSION_H) $$(if $$(filter link,$$(call closure,$(1))),$$(proto)) $$(foreach g,$$($(1)_GEN),$$($$(g)))
$$(patsubst %.c,$$(BUILD)/%,$$(filter tests/unit/$(1)/test_%,$$($(1)_TEST_SRC))): LDMODS = $(1)
$$(patsubst %.c,$$(BUILD)/%,$$(filter tests/unit/$(1)/test_%,$$($(1)_TEST_SRC))): $$($(1)_TEST_SHARED) $$(call libs,$(1))
endef
$(foreach m,$(UNIT_MODULES),$(eval $(call unit_module,$(m))))

$(UNIT_BIN): $(BUILD)/tests/unit/%: $(BUILD)/obj/tests/unit/%.o
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
		$(call ldlibs,$(LDMODS)) $(call pkg,--libs,cmocka)

unit-build: $(UNIT_BIN)

clean:
	rm -rf $(BUILD)

deps:
	$(Q)tools/deps $(or $(GROUPS),build test)

help:
	@sed -n 's/^## //p' Makefile $(TARGETS)
## make                    build all that exists into build/ (V=1 shows commands, WERROR=1, SANITIZE=address,undefined)
## make lib-MODULE         one module's archive, e.g. lib-base
## make bpf                BPF objects and skeletons
## make deps               install what building and testing need (GROUPS="build test lint demo bench kernels")
## make unit [MODULE=m]    unit tests, of all modules or one

TARGETS := $(wildcard tests/targets.mk tests/*/targets.mk tools/targets.mk dist/targets.mk demo/targets.mk)
include $(TARGETS)
-include $(wildcard $(foreach m,$(MODULES),$($(m)_OBJ:.o=.d)) $(BPF_OBJ:.o=.d) $(UNIT_BIN:$(BUILD)/%=$(BUILD)/obj/%.d) \
	$(foreach m,$(UNIT_MODULES),$($(m)_TEST_SHARED:.o=.d)) $(patsubst %.c,$(BUILD)/obj/%.d,$(mains)))
FORCE:
.PHONY: FORCE all bpf unit-build deps clean help
