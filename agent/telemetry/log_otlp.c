/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/telemetry/log_otlp.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/telemetry/otlp.pb-c.h"

enum { ATTRIBUTES_MAX = 128 };

struct pair {
	Weft__Otlp__KeyValue kv;
	Weft__Otlp__AnyValue value;
	char *made; /* text of what was none */
};

struct record {
	struct pair pairs[ATTRIBUTES_MAX], resource_pairs[2];
	Weft__Otlp__KeyValue *attributes[ATTRIBUTES_MAX], *resource_attributes[2];
	size_t count;
};

static Weft__Otlp__KeyValue *pair_text(struct pair *p, const char *key, const char *text)
{
	weft__otlp__key_value__init(&p->kv);
	weft__otlp__any_value__init(&p->value);
	p->value.value_case = WEFT__OTLP__ANY_VALUE__VALUE_STRING_VALUE;
	p->value.string_value = (char *)(uintptr_t)(text ? text : "");
	p->kv.key = (char *)(uintptr_t)key;
	p->kv.value = &p->value;
	return &p->kv;
}

/* What has no value is left out. */
static void attribute_add(struct record *r, const char *key, json_t *value)
{
	if (r->count == ATTRIBUTES_MAX || json_is_null(value))
		return;
	struct pair *p = &r->pairs[r->count];
	if (!json_is_string(value) && !json_is_integer(value))
		p->made = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	r->attributes[r->count++] = pair_text(p, key, json_is_string(value) ? json_string_value(value) : p->made);
	if (json_is_integer(value)) {
		p->value.value_case = WEFT__OTLP__ANY_VALUE__VALUE_INT_VALUE;
		p->value.int_value = json_integer_value(value);
	}
}

static int record_pack(struct sb *request, struct record *r, const json_t *line, const char *node)
{
	Weft__Otlp__LogRecord log = WEFT__OTLP__LOG_RECORD__INIT, *log_list = &log;
	Weft__Otlp__InstrumentationScope scope = WEFT__OTLP__INSTRUMENTATION_SCOPE__INIT;
	Weft__Otlp__ScopeLogs scoped = WEFT__OTLP__SCOPE_LOGS__INIT, *scoped_list = &scoped;
	Weft__Otlp__Resource resource = WEFT__OTLP__RESOURCE__INIT;
	Weft__Otlp__ResourceLogs resourced = WEFT__OTLP__RESOURCE_LOGS__INIT, *resourced_list = &resourced;
	Weft__Otlp__ExportLogsServiceRequest m = WEFT__OTLP__EXPORT_LOGS_SERVICE_REQUEST__INIT;
	const char *time = json_string_value(json_object_get(line, "t"));
	struct pair body;

	log.time_unix_nano = time ? strtoull(time, NULL, 10) : 0;
	log.body = pair_text(&body, "", json_string_value(json_object_get(line, "b")))->value;
	log.attributes = r->attributes;
	log.n_attributes = r->count;
	scope.name = (char *)(uintptr_t) "weft";
	scoped.scope = &scope;
	scoped.log_records = &log_list;
	scoped.n_log_records = 1;
	r->resource_attributes[0] =
		pair_text(&r->resource_pairs[0], "k8s.pod.name", json_string_value(json_object_get(line, "p")));
	r->resource_attributes[1] = pair_text(&r->resource_pairs[1], "k8s.node.name", node);
	resource.attributes = r->resource_attributes;
	resource.n_attributes = ARRAY_SIZE(r->resource_attributes);
	resourced.resource = &resource;
	resourced.scope_logs = &scoped_list;
	resourced.n_scope_logs = 1;
	m.resource_logs = &resourced_list;
	m.n_resource_logs = 1;

	size_t len = weft__otlp__export_logs_service_request__get_packed_size(&m);
	AUTO(mem_freep) uint8_t *packed = malloc(len);
	if (!packed)
		return -ENOMEM;
	weft__otlp__export_logs_service_request__pack(&m, packed);
	sb_add_bytes(request, packed, len);
	return request->failed ? -ENOMEM : 0;
}

int log_otlp_add(struct sb *request, const char *line, size_t len, const char *node)
{
	json_t *root = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL), *value;
	struct record *r = json_is_object(root) ? calloc(1, sizeof(*r)) : NULL;
	const char *key;
	int rc = json_is_object(root) ? -ENOMEM : -EINVAL;

	if (r) {
		json_object_foreach(json_object_get(root, "a"), key, value) attribute_add(r, key, value);
		rc = record_pack(request, r, root, node);
		for (size_t i = 0; i < r->count; i++)
			free(r->pairs[i].made);
	}
	free(r);
	json_decref(root);
	return rc;
}
