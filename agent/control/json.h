/* SPDX-License-Identifier: Apache-2.0 */
/* Building JSON: setters that turn a NULL or bad text into what can be shown, and the texts of the model's enums.
 * Internal to agent/control; pure. After a failed allocation a member is left out. */
#pragma once

#include "agent/model/explain.h"
#include "agent/model/flow.h"
#include "agent/model/policy.h"
#include "agent/model/service.h"
#include "agent/model/workload.h"

#include <stdbool.h>
#include <stdint.h>

struct json_t;

void json_set_text(struct json_t *object, const char *key, const char *text);	 /* NULL: null */
void json_set_text_if(struct json_t *object, const char *key, const char *text); /* NULL or "": nothing */
void json_set_u64(struct json_t *object, const char *key, uint64_t value);
void json_set_bool(struct json_t *object, const char *key, bool value);
void json_set(struct json_t *object, const char *key, struct json_t *value); /* takes the reference */
void json_add(struct json_t *array, struct json_t *value);		     /* takes the reference */
struct json_t *json_of_addr(const struct addr *a);
struct json_t *json_of_addr_port(const struct addr_port *a);
struct json_t *json_of_asked(const struct addr_port *a); /* the same, and "*:443" of an address that isn't known */
struct json_t *json_of_items(struct json_t *array);	 /* {"items": array}; takes the reference */

const char *text_of_reason(enum drop_reason reason);	  /* "policy_deny" */
const char *text_of_reason_help(enum drop_reason reason); /* its sentence */
const char *text_of_flow_path(enum flow_path path);
const char *text_of_flow_kind(enum flow_kind kind);
const char *text_of_proto(uint8_t proto);
const char *text_of_mtls(enum mtls_mode mode);
const char *text_of_action(enum policy_action action);
const char *text_of_lb(enum lb_algorithm lb);
const char *text_of_service_kind(enum service_kind kind);
const char *text_of_app(enum app_protocol app);
