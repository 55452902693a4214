/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/control/json.h"

#include <netinet/in.h>
#include <stdio.h>

#include <jansson.h>

#include "agent/base/mem.h"

static json_t *text_value(const char *text)
{
	if (!text)
		return json_null();
	json_t *value = json_string(text);
	return value ? value : json_string("(not UTF-8)");
}

void json_set(struct json_t *object, const char *key, struct json_t *value)
{
	json_object_set_new(object, key, value);
}

void json_add(struct json_t *array, struct json_t *value)
{
	json_array_append_new(array, value);
}

void json_set_text(struct json_t *object, const char *key, const char *text)
{
	json_set(object, key, text_value(text));
}

void json_set_text_if(struct json_t *object, const char *key, const char *text)
{
	if (text && *text)
		json_set_text(object, key, text);
}

void json_set_u64(struct json_t *object, const char *key, uint64_t value)
{
	json_set(object, key, json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value));
}

void json_set_bool(struct json_t *object, const char *key, bool value)
{
	json_set(object, key, json_boolean(value));
}

struct json_t *json_of_addr(const struct addr *a)
{
	char buf[ADDR_TEXT_MAX];
	return json_string(addr_text(a, buf));
}

struct json_t *json_of_addr_port(const struct addr_port *a)
{
	char buf[ADDR_PORT_TEXT_MAX];
	return json_string(addr_port_text(a, buf));
}

struct json_t *json_of_asked(const struct addr_port *a)
{
	char text[16];

	if (!addr_is_zero(&a->addr))
		return json_of_addr_port(a);
	snprintf(text, sizeof(text), "*:%u", a->port);
	return json_string(text);
}

struct json_t *json_of_items(struct json_t *array)
{
	json_t *object = json_object();
	json_set(object, "items", array);
	return object;
}

static const struct {
	const char *name, *help;
} reasons[DROP_REASON_COUNT] = {
#define REASON(symbol, name, help) [DROP_##symbol] = { name, help },
	DROP_REASONS(REASON)
#undef REASON
};

const char *text_of_reason(enum drop_reason reason)
{
	return (unsigned int)reason < DROP_REASON_COUNT ? reasons[reason].name : "unknown";
}

const char *text_of_reason_help(enum drop_reason reason)
{
	return (unsigned int)reason < DROP_REASON_COUNT ? reasons[reason].help : "Not known to this version.";
}

#define TEXT_OF(function, type, ...)                                                                                   \
	const char *function(type value)                                                                               \
	{                                                                                                              \
		static const char *const names[] = { __VA_ARGS__ };                                                    \
		return (unsigned int)value < ARRAY_SIZE(names) && names[value] ? names[value] : "unknown";             \
	}

TEXT_OF(text_of_flow_path, enum flow_path, "direct", "attested", "hbone", "plaintext", "http")
TEXT_OF(text_of_flow_kind, enum flow_kind, "opened", "closed", "failed", "refused")
TEXT_OF(text_of_mtls,
	enum mtls_mode, [MTLS_PERMISSIVE] = "PERMISSIVE", [MTLS_STRICT] = "STRICT", [MTLS_DISABLE] = "DISABLE")
TEXT_OF(text_of_action, enum policy_action, [POLICY_ALLOW] = "ALLOW", [POLICY_DENY] = "DENY", [POLICY_AUDIT] = "AUDIT",
	[POLICY_CUSTOM] = "CUSTOM")
TEXT_OF(text_of_lb, enum lb_algorithm, [LB_LEAST_REQUEST] = "LEAST_REQUEST", [LB_ROUND_ROBIN] = "ROUND_ROBIN",
	[LB_RANDOM] = "RANDOM", [LB_CONSISTENT_HASH] = "CONSISTENT_HASH", [LB_PASSTHROUGH] = "PASSTHROUGH")
TEXT_OF(text_of_service_kind, enum service_kind, [SERVICE_CLUSTER] = "Service", [SERVICE_HEADLESS] = "Headless",
	[SERVICE_ENTRY] = "ServiceEntry")
TEXT_OF(text_of_app, enum app_protocol, [APP_TCP] = "tcp", [APP_UDP] = "udp", [APP_HTTP] = "http",
	[APP_HTTP2] = "http2", [APP_GRPC] = "grpc", [APP_TLS] = "tls", [APP_UNKNOWN] = "unknown")

const char *text_of_proto(uint8_t proto)
{
	return proto == IPPROTO_TCP ? "tcp" : proto == IPPROTO_UDP ? "udp" : "other";
}
