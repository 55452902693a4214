/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/telemetry/span_otlp.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/link/span.h"
#include "agent/telemetry/otlp.pb-c.h"

enum { KIND_SERVER = 2, KIND_CLIENT = 3, STATUS_ERROR = 2, RESOURCE_ATTRIBUTES = 2 };

struct pair {
	Weft__Otlp__KeyValue kv;
	Weft__Otlp__AnyValue value;
};

/* The members are only read by the packer. */
static char *text_of(const char *text)
{
	return (char *)(uintptr_t)(text ? text : "");
}

static ProtobufCBinaryData bytes_of(const uint8_t *p, size_t n)
{
	return (ProtobufCBinaryData){ n, (uint8_t *)(uintptr_t)p };
}

static Weft__Otlp__KeyValue *pair_text(struct pair *p, const char *key, const char *text)
{
	weft__otlp__key_value__init(&p->kv);
	weft__otlp__any_value__init(&p->value);
	p->value.value_case = WEFT__OTLP__ANY_VALUE__VALUE_STRING_VALUE;
	p->value.string_value = text_of(text);
	p->kv.key = text_of(key);
	p->kv.value = &p->value;
	return &p->kv;
}

static Weft__Otlp__KeyValue *pair_of(struct pair *p, const struct span_attribute *a)
{
	Weft__Otlp__KeyValue *kv = pair_text(p, a->key, a->text);
	if (!a->text) {
		p->value.value_case = WEFT__OTLP__ANY_VALUE__VALUE_INT_VALUE;
		p->value.int_value = a->number;
	}
	return kv;
}

static void span_fill(Weft__Otlp__Span *m, const struct span *s)
{
	m->trace_id = bytes_of(s->trace_id, sizeof(s->trace_id));
	m->span_id = bytes_of(s->span_id, sizeof(s->span_id));
	m->parent_span_id = bytes_of(s->parent_id, s->has_parent ? sizeof(s->parent_id) : 0);
	m->name = text_of(s->name);
	m->kind = s->server ? KIND_SERVER : KIND_CLIENT;
	m->start_time_unix_nano = s->start_ns;
	m->end_time_unix_nano = s->end_ns;
}

int span_otlp_add(struct sb *request, const struct span *s, const char *node)
{
	struct pair pairs[SPAN_ATTRIBUTES_MAX], resource_pairs[RESOURCE_ATTRIBUTES];
	Weft__Otlp__KeyValue *attributes[SPAN_ATTRIBUTES_MAX], *resource_attributes[RESOURCE_ATTRIBUTES];
	Weft__Otlp__Span span = WEFT__OTLP__SPAN__INIT, *span_list = &span;
	Weft__Otlp__Status status = WEFT__OTLP__STATUS__INIT;
	Weft__Otlp__InstrumentationScope scope = WEFT__OTLP__INSTRUMENTATION_SCOPE__INIT;
	Weft__Otlp__ScopeSpans scoped = WEFT__OTLP__SCOPE_SPANS__INIT, *scoped_list = &scoped;
	Weft__Otlp__Resource resource = WEFT__OTLP__RESOURCE__INIT;
	Weft__Otlp__ResourceSpans resourced = WEFT__OTLP__RESOURCE_SPANS__INIT, *resourced_list = &resourced;
	Weft__Otlp__ExportTraceServiceRequest m = WEFT__OTLP__EXPORT_TRACE_SERVICE_REQUEST__INIT;

	span_fill(&span, s);
	for (size_t i = 0; i < s->attribute_count; i++)
		attributes[i] = pair_of(&pairs[i], &s->attributes[i]);
	span.attributes = attributes;
	span.n_attributes = s->attribute_count;
	if (s->error) {
		status.code = STATUS_ERROR;
		span.status = &status;
	}
	scope.name = text_of("weft");
	scoped.scope = &scope;
	scoped.spans = &span_list;
	scoped.n_spans = 1;
	resource_attributes[0] = pair_text(&resource_pairs[0], "service.name", s->service);
	resource_attributes[1] = pair_text(&resource_pairs[1], "k8s.node.name", node);
	resource.attributes = resource_attributes;
	resource.n_attributes = RESOURCE_ATTRIBUTES;
	resourced.resource = &resource;
	resourced.scope_spans = &scoped_list;
	resourced.n_scope_spans = 1;
	m.resource_spans = &resourced_list;
	m.n_resource_spans = 1;

	size_t len = weft__otlp__export_trace_service_request__get_packed_size(&m);
	AUTO(mem_freep) uint8_t *packed = malloc(len);
	if (!packed)
		return -ENOMEM;
	weft__otlp__export_trace_service_request__pack(&m, packed);
	sb_add_bytes(request, packed, len);
	return request->failed ? -ENOMEM : 0;
}
