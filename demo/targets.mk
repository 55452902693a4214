# SPDX-License-Identifier: Apache-2.0
## make demo               installs what is missing, builds, shows the main job on real traffic; KEEP=1 leaves it running
.PHONY: demo
demo:
	@tools/deps build demo
	@$(MAKE) --no-print-directory all
	@BUILD_DIR=$(abspath $(BUILD)) /usr/bin/python3 demo/demo.py $(if $(filter 1,$(KEEP)),--keep)
