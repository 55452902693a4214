/* SPDX-License-Identifier: Apache-2.0 */
/* The plan's objects as JSON. Internal to agent/control; each returns a new reference. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct addr_port;
struct json_t;
struct plan;
struct policy;
struct policy_rule;
struct request;
struct service;
struct service_port;
struct workload;

struct json_t *workload_json(struct request *rq, const struct plan *plan, const struct workload *w);
/* How a connection from a workload of this node reaches it: "attested", "hbone", "plaintext" (always for UDP, which has
 * neither). */
const char *workload_path_text(const struct plan *plan, const struct workload *w, uint8_t proto);
struct json_t *service_json(const struct plan *plan, const struct service *s, bool endpoints);
/* chosen: marks the endpoint; NULL: no mark at all. */
struct json_t *endpoint_json(const struct plan *plan, const struct service_port *port, size_t at,
			     const struct addr_port *chosen);
struct json_t *policy_rule_json(const struct policy_rule *rule);
/* A reference to the policy of a workload of any node, or NULL when it can't be told here. */
struct policy *policy_for(struct request *rq, const struct workload *w);
