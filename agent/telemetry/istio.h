/* SPDX-License-Identifier: Apache-2.0 */
/* The istio_tcp_* families. Internal to agent/telemetry; pure. */
#pragma once

struct exposition;
struct metrics_snapshot;

void istio_render(const struct metrics_snapshot *snapshot, struct exposition *e);
