/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of a workload's requests. Telemetry resources of the root namespace, the workload's namespace and those that
 * select it, each more particular one over the one before, as Istio merges them: of tracing each field, of access logs
 * the whole list, of metrics every override. Providers are looked up in the MeshConfig's extensionProviders; "prometheus"
 * and "envoy" are built in. */
#include "agent/compile/telemetry.h"

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/log_json.h"
#include "agent/config/kinds_http.h"
#include "agent/config/node.h"
#include "agent/model/access_format.h"
#include "agent/model/telemetry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	CLIENT = 1 << REPORTER_CLIENT,
	SERVER = 1 << REPORTER_SERVER,
	BOTH = CLIENT | SERVER,
	LOGS_MAX = 16,
	TAGS_MAX = 64
};

struct building {
	const struct compiler *c;
	struct telemetry *t;
	const struct resource *r; /* whose words these are; NULL: the MeshConfig's */
	bool logs, spans, tags;	  /* of the server's side were asked for by its name */
	struct notes *notes;
};

#define FIRST(list) ((list) && (list)->type == NODE_LIST ? (list)->first : NULL)

static unsigned int modes_of(enum workload_mode mode)
{
	return mode == WORKLOAD_CLIENT ? CLIENT : mode == WORKLOAD_SERVER ? SERVER : BOTH;
}

static unsigned int modes_matched(const struct telemetry_match *match)
{
	return match ? modes_of(match->mode) : BOTH;
}

static double number_of(const struct node *n, double otherwise)
{
	if (!n)
		return otherwise;
	return n->type == NODE_DOUBLE ? n->d : n->type == NODE_INT ? (double)n->i : otherwise;
}

static uint32_t ppm_of(double percent)
{
	return percent >= 100 ? 1000000 : percent > 0 ? (uint32_t)(percent * 10000 + 0.5) : 0;
}

static int text_set(char **to, const char *text)
{
	char *copy = text ? strdup(text) : NULL;
	if (text && !copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

/* The entry of extensionProviders with this name, or NULL. */
static const struct node *provider_find(const struct compiler *c, const char *name)
{
	const struct node *all = c->mesh_config ? c->mesh_config->extension_providers : NULL;
	for (const struct node *p = FIRST(all); p; p = p->next)
		if (str_eq(node_get_text(p, "name"), name))
			return p;
	return NULL;
}

/* --- metrics */

static struct tag_override *tag_get(struct metric_override *o, const char *name)
{
	for (size_t i = 0; i < o->tag_count; i++)
		if (str_eq(o->tags[i].tag, name))
			return &o->tags[i];
	if (o->tag_count == TAGS_MAX)
		return NULL;
	struct tag_override *more = realloc(o->tags, (o->tag_count + 1) * sizeof(*more));
	if (!more)
		return NULL;
	o->tags = more;
	more[o->tag_count] = (struct tag_override){ .tag = strdup(name) };
	return more[o->tag_count].tag ? &more[o->tag_count++] : NULL;
}

static int override_apply(struct metric_override *o, const struct metrics_override *from)
{
	if (from->disabled.set)
		o->disabled = from->disabled.v;
	for (size_t i = 0; i < from->tag_overrides.n; i++) {
		const struct metric_tag *tag = &from->tag_overrides.v[i];
		struct tag_override *to = tag_get(o, tag->name);
		if (!to)
			return -ENOMEM;
		to->remove = tag->operation == TAG_REMOVE;
		if (text_set(&to->value, to->remove ? NULL : tag->value) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Overrides are of the providers that they are said with; none named means all. */
static bool is_prometheus(struct building *b, const struct metrics_rule *metrics)
{
	bool found = !metrics->providers.n;
	for (size_t i = 0; i < metrics->providers.n; i++) {
		const char *name = metrics->providers.v[i].name;
		const struct node *p = provider_find(b->c, name);
		bool ours = str_eq(name, "prometheus") || node_get(p, "prometheus");
		if (!ours)
			NOTE(b->notes, FINDING_WARNING, b->r,
			     "metrics names the provider \"%s\", which %s: what is said for it has no effect", name,
			     p ? "is not prometheus" : "the MeshConfig's extensionProviders do not have");
		found |= ours;
	}
	return found;
}

static bool is_tcp(int metric)
{
	return metric >= METRIC_TCP_OPENED && metric <= METRIC_TCP_RECEIVED;
}

static int metric_override_add(struct building *b, const struct metrics_override *o)
{
	const struct metric_selector *match = o->match;
	unsigned int modes = match ? modes_of(match->mode) : BOTH;
	int metric = match ? match->metric : -1;

	if (match && match->custom_metric)
		return 0; /* told when it was decoded */
	if (is_tcp(metric) && o->tag_overrides.n)
		NOTE(b->notes, FINDING_WARNING, b->r,
		     "tagOverrides of TCP metrics have no effect: the kernel counts connections by identities alone");
	b->tags |= modes == SERVER && !is_tcp(metric) && o->tag_overrides.n;
	for (int i = 0; i < REPORTER_COUNT * REQUEST_METRIC_COUNT; i++) {
		int reporter = i / REQUEST_METRIC_COUNT, which = i % REQUEST_METRIC_COUNT;
		if (!(modes & (1u << reporter)) || (metric >= 0 && metric != which))
			continue;
		if (override_apply(&b->t->overrides[reporter][which], o) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int metrics_apply(struct building *b, const struct telemetry_spec *spec)
{
	for (size_t i = 0; i < spec->metrics.n; i++) {
		const struct metrics_rule *m = &spec->metrics.v[i];
		if (!is_prometheus(b, m))
			continue;
		for (size_t k = 0; k < m->overrides.n; k++)
			if (metric_override_add(b, &m->overrides.v[k]) < 0)
				return -ENOMEM;
	}
	return 0;
}

/* --- access logs */

static void log_done(struct access_log *log)
{
	free(log->provider);
	free(log->path);
	free(log->format);
	free(log->filter);
	*log = (struct access_log){ 0 };
}

static int log_add(struct building *b, unsigned int modes, const char *provider, const char *path, bool json,
		   const char *format, const char *filter)
{
	for (int reporter = 0; reporter < REPORTER_COUNT; reporter++) {
		size_t n = b->t->log_count[reporter];
		if (!(modes & (1u << reporter)) || n == LOGS_MAX)
			continue;
		struct access_log *more = realloc(b->t->logs[reporter], (n + 1) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		b->t->logs[reporter] = more;
		more[n] = (struct access_log){ .json = json };
		b->t->log_count[reporter]++;
		if (text_set(&more[n].provider, provider) < 0 || text_set(&more[n].path, path) < 0 ||
		    text_set(&more[n].format, format) < 0 || text_set(&more[n].filter, filter) < 0)
			return -ENOMEM;
	}
	return 0;
}

static void logs_clear(struct telemetry *t, unsigned int modes)
{
	for (int reporter = 0; reporter < REPORTER_COUNT; reporter++) {
		if (!(modes & (1u << reporter)))
			continue;
		for (size_t i = 0; i < t->log_count[reporter]; i++)
			log_done(&t->logs[reporter][i]);
		t->log_count[reporter] = 0;
	}
}

static int mesh_log_add(struct building *b, unsigned int modes, const char *name, const char *filter)
{
	const struct mesh_config_spec *mesh = b->c->mesh_config;
	const char *file =
		mesh && mesh->access_log_file && *mesh->access_log_file ? mesh->access_log_file : "/dev/stdout";
	bool json = mesh && mesh->access_log_encoding == ACCESS_LOG_JSON;
	const char *format =
		mesh && mesh->access_log_format && *mesh->access_log_format ? mesh->access_log_format : NULL;
	AUTO(mem_freep) char *object = NULL;

	if (json && format && log_json_parse(format, &object) < 0)
		return -ENOMEM;
	return log_add(b, modes, name, file, json, json ? object : format, filter);
}

/* A line for the collector: nanoseconds, pod, body and attributes (agent/telemetry/log_otlp.h). */
static int collector_log_add(struct building *b, unsigned int modes, const char *name, const struct node *als,
			     const char *filter)
{
	const struct node *format = node_get(als, "logFormat"), *labels = node_get(format, "labels");
	const char *text = node_get_text(format, "text");
	AUTO(mem_freep) char *path = str_format(ACCESS_LOG_COLLECTOR "%s", name);
	AUTO(mem_freep) char *body = strdup(text ? text : access_format_default);
	struct sb line = { 0 };

	if (!path || !body)
		return -ENOMEM;
	body[strcspn(body, "\n")] = 0;
	sb_add(&line, "{\"t\":\"%START_TIME(%s%f)%\",\"p\":\"%HOSTNAME%\",\"b\":");
	log_json_text(body, &line);
	sb_add(&line, ",\"a\":");
	if (labels)
		log_json_write(labels, &line);
	else
		sb_add(&line, "{}");
	sb_add(&line, "}\n");
	int rc = line.failed ? -ENOMEM : log_add(b, modes, name, path, true, line.p, filter);
	sb_done(&line);
	return rc;
}

static int provider_log_add(struct building *b, unsigned int modes, const char *name, const char *filter)
{
	const struct node *p = provider_find(b->c, name);
	const struct node *file = node_get(p, "envoyFileAccessLog");
	if (!p && str_eq(name, "envoy"))
		return mesh_log_add(b, modes, name, filter);
	if (node_get(p, "envoyOtelAls"))
		return collector_log_add(b, modes, name, node_get(p, "envoyOtelAls"), filter);
	if (!file) {
		if (b->r)
			NOTE(b->notes, FINDING_WARNING, b->r,
			     "accessLogging names the provider \"%s\", which the MeshConfig's extensionProviders %s",
			     name, p ? "have, but neither as envoyFileAccessLog nor as envoyOtelAls" : "do not have");
		return 0;
	}
	const struct node *format = node_get(file, "logFormat"), *labels = node_get(format, "labels");
	struct sb text = { 0 };
	if (labels) {
		log_json_write(labels, &text);
		sb_add(&text, "\n");
	} else if (node_get_text(format, "text")) {
		sb_add(&text, node_get_text(format, "text"));
	}
	const char *path = node_get_text(file, "path");
	int rc = text.failed ? -ENOMEM :
			       log_add(b, modes, name, path ? path : "/dev/stdout", labels != NULL,
				       text.len ? text.p : NULL, filter);
	sb_done(&text);
	return rc;
}

/* Where no provider is named: those of the MeshConfig's defaultProviders, else its accessLogFile (by default, stdout). */
static int mesh_logs_add(struct building *b, unsigned int modes, const char *filter)
{
	const struct mesh_config_spec *mesh = b->c->mesh_config;
	const struct node *list = mesh ? node_get(mesh->default_providers, "accessLogging") : NULL;
	int rc = 0;

	if (!FIRST(list))
		return mesh_log_add(b, modes, "envoy", filter);
	for (const struct node *p = FIRST(list); p && rc == 0; p = p->next)
		if (p->type == NODE_STRING)
			rc = provider_log_add(b, modes, p->text, filter);
	return rc;
}

static int logging_apply(struct building *b, const struct telemetry_spec *spec)
{
	unsigned int cleared = 0;
	for (size_t i = 0; i < spec->access_logging.n; i++) {
		const struct logging_rule *l = &spec->access_logging.v[i];
		unsigned int modes = modes_matched(l->match);
		const char *filter = l->filter ? l->filter->expression : NULL;
		/* The first element of a resource that speaks of a side replaces what others said of it. */
		logs_clear(b->t, modes & ~cleared);
		cleared |= modes;
		b->logs |= modes == SERVER;
		if (l->disabled.set && l->disabled.v) {
			logs_clear(b->t, modes);
			continue;
		}
		if (!l->providers.n && mesh_logs_add(b, modes, filter) < 0)
			return -ENOMEM;
		for (size_t k = 0; k < l->providers.n; k++)
			if (provider_log_add(b, modes, l->providers.v[k].name, filter) < 0)
				return -ENOMEM;
	}
	return 0;
}

/* --- tracing */

static void tags_clear(struct tracing *t)
{
	for (size_t i = 0; i < t->tag_count; i++) {
		free(t->tags[i].name);
		free(t->tags[i].value);
		free(t->tags[i].default_value);
	}
	free(t->tags);
	t->tags = NULL;
	t->tag_count = 0;
}

/* Istio reads a variable of the proxy's environment. Here no proxy stands beside the workload, and the agent's own
 * environment is no tenant's to read: what gave proxies their variables does, the MeshConfig's defaultConfig.proxyMetadata. */
static const char *environment_value(const struct building *b, const struct tag_lookup *environment)
{
	const struct mesh_config_spec *mesh = b->c->mesh_config;
	const struct node *all = mesh ? node_get(mesh->default_config, "proxyMetadata") : NULL;
	const char *value = node_get_text(all, environment->name);
	return value ? value : environment->default_value;
}

static int tag_add(const struct building *b, struct tracing *t, const struct span_tag *tag)
{
	const char *value = tag->literal   ? tag->literal->value :
			    tag->header	   ? tag->header->name :
			    tag->formatter ? tag->formatter->value :
					     environment_value(b, tag->environment);
	if (!value || t->tag_count == TAGS_MAX)
		return 0;
	struct custom_tag *more = realloc(t->tags, (t->tag_count + 1) * sizeof(*more));
	if (!more)
		return -ENOMEM;
	t->tags = more;
	struct custom_tag *to = &more[t->tag_count++];
	*to = (struct custom_tag){ .kind = tag->header ? TAG_HEADER : tag->formatter ? TAG_FORMATTER : TAG_LITERAL };
	return text_set(&to->name, tag->name) < 0 || text_set(&to->value, value) < 0 ||
			       text_set(&to->default_value, tag->header ? tag->header->default_value : NULL) < 0 ?
		       -ENOMEM :
		       0;
}

static int tracing_provider(struct building *b, struct tracing *t, const char *name)
{
	const struct node *p = provider_find(b->c, name);
	if (!node_get(p, "opentelemetry") && !node_get(p, "zipkin")) {
		if (b->r)
			NOTE(b->notes, FINDING_WARNING, b->r,
			     "tracing names the provider \"%s\", which the MeshConfig's extensionProviders %s", name,
			     p ? "have, but neither as opentelemetry nor as zipkin" : "do not have");
		return text_set(&t->provider, NULL);
	}
	return text_set(&t->provider, name);
}

static int tracing_one(struct building *b, struct tracing *t, const struct tracing_rule *r)
{
	if (r->providers.n && tracing_provider(b, t, r->providers.v[0].name) < 0)
		return -ENOMEM;
	if (r->random_sampling_percentage.set)
		t->sampling_ppm = ppm_of(r->random_sampling_percentage.v);
	if (r->has_custom_tags)
		tags_clear(t);
	for (size_t i = 0; i < r->custom_tags.n; i++)
		if (tag_add(b, t, &r->custom_tags.v[i]) < 0)
			return -ENOMEM;
	if (r->disable_span_reporting.set)
		t->client = t->server = !r->disable_span_reporting.v;
	if (r->enable_istio_tags.set)
		t->no_istio_tags = !r->enable_istio_tags.v;
	if (r->disable_context_propagation.set)
		t->no_propagation = r->disable_context_propagation.v;
	return 0;
}

static int tracing_apply(struct building *b, const struct telemetry_spec *spec)
{
	for (size_t i = 0; i < spec->tracing.n; i++) {
		const struct tracing_rule *r = &spec->tracing.v[i];
		unsigned int modes = modes_matched(r->match);
		b->spans |= modes == SERVER;
		for (int reporter = 0; reporter < REPORTER_COUNT; reporter++)
			if ((modes & (1u << reporter)) && tracing_one(b, &b->t->tracing[reporter], r) < 0)
				return -ENOMEM;
	}
	return 0;
}

/* --- all */

static int mesh_apply(struct building *b)
{
	const struct mesh_config_spec *mesh = b->c->mesh_config;
	const struct node *defaults = mesh ? mesh->default_providers : NULL;
	const struct node *sampling = mesh ? node_get(node_get(mesh->default_config, "tracing"), "sampling") : NULL;
	int rc = 0;

	for (int reporter = 0; reporter < REPORTER_COUNT; reporter++) {
		struct tracing *t = &b->t->tracing[reporter];
		const struct node *p = FIRST(node_get(defaults, "tracing"));
		t->client = t->server = true;
		t->sampling_ppm = ppm_of(number_of(sampling, 1));
		if (p && p->type == NODE_STRING && tracing_provider(b, t, p->text) < 0)
			return -ENOMEM;
	}
	if (node_get(defaults, "accessLogging") || (mesh && mesh->access_log_file && *mesh->access_log_file))
		rc = mesh_logs_add(b, BOTH, NULL);
	return rc;
}

static bool is_for(const struct compiler *c, const struct resource *r, const char *ns, const struct label *labels,
		   size_t n, int level)
{
	const struct telemetry_spec *spec = r->spec.telemetry;
	const struct string_map *selector = spec->selector ? &spec->selector->match_labels : NULL;
	bool selects = selector && selector->n;
	if (spec->target_ref || spec->target_refs.n) /* gateways' and waypoints' */
		return false;
	if (level == 0)
		return !selects && str_eq(r->ns, c->mesh.root_namespace);
	if (!str_eq(r->ns, ns) || (level == 1 && str_eq(ns, c->mesh.root_namespace)))
		return false;
	return level == 1 ? !selects : selects && labels_selected(selector, labels, n);
}

int telemetry_build(const struct compiler *c, const char *ns, const struct label *labels, size_t n,
		    struct telemetry **out, struct notes *notes)
{
	struct building b = { .c = c, .t = telemetry_new(), .notes = notes };
	int rc = b.t ? mesh_apply(&b) : -ENOMEM;
	const struct inventory *all = &c->inventory[KIND_TELEMETRY];

	for (int level = 0; level < 3 && rc == 0; level++) {
		for (size_t i = 0; i < all->n && rc == 0; i++) {
			const struct telemetry_spec *spec = all->v[i]->spec.telemetry;
			if (!is_for(c, all->v[i], ns, labels, n, level))
				continue;
			b.r = all->v[i];
			rc = tracing_apply(&b, spec);
			if (rc == 0)
				rc = metrics_apply(&b, spec);
			if (rc == 0)
				rc = logging_apply(&b, spec);
		}
	}
	if (rc < 0) {
		telemetry_unref(b.t);
		return rc;
	}
	const struct tracing *spans = &b.t->tracing[REPORTER_SERVER];
	b.t->server =
		(b.logs && b.t->log_count[REPORTER_SERVER]) || (b.spans && spans->provider && spans->server) || b.tags;
	telemetry_seal(b.t);
	*out = b.t;
	return 0;
}
