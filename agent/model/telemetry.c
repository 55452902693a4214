/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/telemetry.h"

#include <stdlib.h>

#include "agent/model/digest.h"

struct telemetry *telemetry_new(void)
{
	struct telemetry *t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	t->refs = 1;
	t->metrics = true;
	return t;
}

struct telemetry *telemetry_ref(struct telemetry *t)
{
	__atomic_add_fetch(&t->refs, 1, __ATOMIC_RELAXED);
	return t;
}

static void override_done(struct metric_override *o)
{
	for (size_t i = 0; i < o->tag_count; i++) {
		free(o->tags[i].tag);
		free(o->tags[i].value);
	}
	free(o->tags);
}

static void log_done(struct access_log *log)
{
	free(log->provider);
	free(log->path);
	free(log->format);
	free(log->filter);
}

static void tracing_done(struct tracing *t)
{
	for (size_t i = 0; i < t->tag_count; i++) {
		free(t->tags[i].name);
		free(t->tags[i].value);
		free(t->tags[i].default_value);
	}
	free(t->tags);
	free(t->provider);
}

void telemetry_unref(struct telemetry *t)
{
	if (!t || __atomic_sub_fetch(&t->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;

	for (size_t r = 0; r < REPORTER_COUNT; r++) {
		for (size_t m = 0; m < REQUEST_METRIC_COUNT; m++)
			override_done(&t->overrides[r][m]);
		for (size_t i = 0; i < t->log_count[r]; i++)
			log_done(&t->logs[r][i]);
		free(t->logs[r]);
		tracing_done(&t->tracing[r]);
	}
	free(t);
}

static uint64_t override_digest(uint64_t id, const struct metric_override *o)
{
	id = digest_number(id, o->disabled);
	id = digest_number(id, o->tag_count);
	for (size_t i = 0; i < o->tag_count; i++) {
		id = digest_text(id, o->tags[i].tag);
		id = digest_number(id, o->tags[i].remove);
		id = digest_text(id, o->tags[i].value);
	}
	return id;
}

static uint64_t log_digest(uint64_t id, const struct access_log *log)
{
	id = digest_text(id, log->provider);
	id = digest_text(id, log->path);
	id = digest_number(id, log->json);
	id = digest_text(id, log->format);
	return digest_text(id, log->filter);
}

static uint64_t tracing_digest(uint64_t id, const struct tracing *t)
{
	id = digest_text(id, t->provider);
	id = digest_number(id, t->sampling_ppm);
	id = digest_number(id, t->client);
	id = digest_number(id, t->server);
	id = digest_number(id, t->no_istio_tags);
	id = digest_number(id, t->no_propagation);
	id = digest_number(id, t->tag_count);
	for (size_t i = 0; i < t->tag_count; i++) {
		id = digest_text(id, t->tags[i].name);
		id = digest_number(id, t->tags[i].kind);
		id = digest_text(id, t->tags[i].value);
		id = digest_text(id, t->tags[i].default_value);
	}
	return id;
}

void telemetry_seal(struct telemetry *t)
{
	uint64_t id = digest_number(digest_number(HASH64_INIT, t->metrics), t->server);
	for (size_t r = 0; r < REPORTER_COUNT; r++) {
		for (size_t m = 0; m < REQUEST_METRIC_COUNT; m++)
			id = override_digest(id, &t->overrides[r][m]);
		id = digest_number(id, t->log_count[r]);
		for (size_t i = 0; i < t->log_count[r]; i++)
			id = log_digest(id, &t->logs[r][i]);
		id = tracing_digest(id, &t->tracing[r]);
	}
	t->id = digest_end(id);
}
