# SPDX-License-Identifier: Apache-2.0
helper_USES := link model base
helper_PKGS := libssl libcrypto libnghttp2 libseccomp libcap cjose jansson luajit
# Not a module: lets tests/unit/hbone have a fake worker of their own.
hbone_USES := helper
# The tests of the process start the real one.
$(BUILD)/tests/unit/helper/test_process: | $(BUILD)/weft-helper
# The same for the worker without its thread, over a fake data path: tests/unit/worker.
worker_USES := helper
# Transports, sniffing and relaying over a worker that is only a loop: tests/unit/transport.
transport_USES := helper
$(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/transport/test_*.c)): $(BUILD)/obj/tests/unit/hbone/fake_log.o
# Codecs and what is above them, over a fake transport: tests/unit/http.
http_USES := helper
# Filters over a worker and an engine that only take notes: tests/unit/filter.
filter_USES := helper
# HTTP/2 over the same fake transport: tests/unit/http2.
http2_USES := helper
$(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/http2/test_*.c)): $(BUILD)/obj/tests/unit/http/fake_transport.o
# The engine between a fake client and fake endpoints, over the codecs' fake transport: tests/unit/route.
route_USES := helper
$(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/route/test_*.c)): $(BUILD)/obj/tests/unit/http/fake_transport.o
# Balancing over a fake loop, worker, transport and codecs: tests/unit/balance.
balance_USES := helper
# Records of requests over a worker that takes notes: tests/unit/observe.
observe_USES := helper
