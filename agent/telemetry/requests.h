/* SPDX-License-Identifier: Apache-2.0 */
/* The families of requests: istio_requests_total, istio_request_duration_milliseconds and their like. Internal to
 * agent/telemetry; pure. */
#pragma once

struct exposition;
struct metrics_snapshot;

void requests_render(const struct metrics_snapshot *snapshot, struct exposition *e);
