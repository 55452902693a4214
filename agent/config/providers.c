/* SPDX-License-Identifier: Apache-2.0 */
/* What a provider needs is an error where it is missing; what Istio has and nothing here does is said. */
#include "agent/config/providers.h"

#include <stdio.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/config/decode.h"
#include "agent/config/kinds.h"
#include "agent/config/node.h"
#include "agent/config/text.h"
#include "agent/model/access_format.h"

static bool is_text(const struct node *n)
{
	return n && n->type == NODE_STRING && *n->text;
}

static void format_check(struct decode *d, const struct path *path, const char *member, const struct node *node)
{
	const char *absent = NULL;
	struct err err = ERR_INIT;
	if (access_format_check(node->text, &absent, &err) < 0)
		decode_error(d, path, member, node, "%s", err.text);
	else if (absent)
		decode_info(d, path, member, node, "%%%s%% never has a value here", absent);
}

/* --- providers of one kind */

static void labels_check(struct decode *d, const struct path *path, const struct node *labels)
{
	for (const struct node *n = labels->first; n; n = n->next) {
		const struct path at = { .parent = path, .name = n->key ? n->key : "" };
		if (n->type == NODE_MAP || n->type == NODE_LIST)
			labels_check(d, &at, n);
		else if (n->type == NODE_STRING)
			format_check(d, &at, NULL, n);
	}
}

static void log_format_check(struct decode *d, const struct path *path, const struct node *format)
{
	const struct node *text = node_get(format, "text"), *labels = node_get(format, "labels");
	const struct path at = { .parent = path, .name = "logFormat" }, in = { .parent = &at, .name = "labels" };

	if (text && text->type != NODE_STRING)
		decode_error(d, &at, "text", text, "is %s; a string is needed", node_type_name(text->type));
	else if (text)
		format_check(d, &at, "text", text);
	if (labels && labels->type != NODE_MAP)
		decode_error(d, &at, "labels", labels, "is %s; a map is needed", node_type_name(labels->type));
	else if (labels)
		labels_check(d, &in, labels);
}

static void file_check(struct decode *d, const struct path *path, const struct node *file)
{
	const struct node *format = node_get(file, "logFormat"), *where = node_get(file, "path");

	if (where && !is_text(where))
		decode_error(d, path, "path", where, "a file's path is needed");
	if (format && !node_get(format, "text") == !node_get(format, "labels"))
		decode_error(d, path, "logFormat", format, "needs one of text, labels");
	log_format_check(d, path, format);
	if (node_get(file, "omitEmptyValues"))
		decode_info(d, path, "omitEmptyValues", node_get(file, "omitEmptyValues"),
			    "has no effect: what is absent is shown as \"-\", or as null in JSON");
}

static void service_check(struct decode *d, const struct path *path, const struct node *of)
{
	const struct node *port = node_get(of, "port");
	if (!is_text(node_get(of, "service")))
		decode_error(d, path, "service", of, "is required: the host of a Service or ServiceEntry");
	if (!port || port->type != NODE_INT || port->i < 1 || port->i > 65535)
		decode_error(d, path, "port", port ? port : of, "a port's number is required (1 to 65535)");
}

static void als_check(struct decode *d, const struct path *path, const struct node *of)
{
	const struct node *format = node_get(of, "logFormat"), *name = node_get(of, "logName");

	service_check(d, path, of);
	log_format_check(d, path, format);
	if (name)
		decode_info(d, path, "logName", name, "has no effect: records say their pod and node");
}

static void nothing_check(struct decode *d, const struct path *path, const struct node *of)
{
	(void)d;
	(void)path;
	(void)of;
}

static const char *const trace_fields[] = { "service", "port", "path", "http", NULL };

static void trace_check(struct decode *d, const struct path *path, const struct node *of)
{
	service_check(d, path, of);
	for (const struct node *n = of->first; n; n = n->next) {
		size_t i = 0;
		while (trace_fields[i] && strcmp(trace_fields[i], n->key) != 0)
			i++;
		if (!trace_fields[i])
			decode_info(d, path, n->key, n, "has no effect on the spans that are sent from here");
	}
}

static const struct {
	const char *name;
	void (*check)(struct decode *d, const struct path *path, const struct node *of); /* NULL: not supported */
} kinds[] = {
	{ "envoyFileAccessLog", file_check },
	{ "zipkin", trace_check },
	{ "opentelemetry", trace_check },
	{ "prometheus", nothing_check },
	{ "envoyExtAuthzHttp", nothing_check }, /* whoever names it is told what it lacks */
	{ "envoyExtAuthzGrpc", nothing_check },
	{ "envoyHttpAls", NULL },
	{ "envoyTcpAls", NULL },
	{ "envoyOtelAls", als_check },
	{ "lightstep", NULL },
	{ "datadog", NULL },
	{ "stackdriver", NULL },
	{ "opencensus", NULL },
	{ "skywalking", NULL },
	{ "sds", NULL },
};

static void provider_check(struct decode *d, const struct path *path, const struct node *p)
{
	size_t found = 0;
	if (p->type != NODE_MAP) {
		decode_error(d, path, NULL, p, "is %s; a map is needed", node_type_name(p->type));
		return;
	}
	if (!is_text(node_get(p, "name")))
		decode_error(d, path, "name", p, "is required");
	for (const struct node *n = p->first; n; n = n->next) {
		const struct path at = { .parent = path, .name = n->key };
		size_t i = 0;
		if (!strcmp(n->key, "name"))
			continue;
		while (i < ARRAY_SIZE(kinds) && strcmp(kinds[i].name, n->key) != 0)
			i++;
		found++;
		if (i == ARRAY_SIZE(kinds))
			decode_warn(d, &at, NULL, n, "is no kind of provider that is known");
		else if (!kinds[i].check)
			decode_warn(d, &at, NULL, n, "is not supported: what is for this provider goes nowhere");
		else if (n->type != NODE_MAP)
			decode_error(d, &at, NULL, n, "is %s; a map is needed", node_type_name(n->type));
		else
			kinds[i].check(d, &at, n);
	}
	if (found != 1)
		decode_error(d, path, NULL, p,
			     found ? "has several kinds of provider: one is needed" :
				     "has no kind of provider (such as envoyFileAccessLog, zipkin)");
}

/* --- all */

static const struct node *list_of(const struct node *n)
{
	return n && n->type == NODE_LIST ? n->first : NULL;
}

static bool is_provider(const struct node *all, const char *name)
{
	for (const struct node *p = list_of(all); p; p = p->next)
		if (str_eq(node_get_text(p, "name"), name))
			return true;
	return false;
}

static void list_check(struct decode *d, const struct path *path, const struct node *all)
{
	const struct path list = { .parent = path, .name = "extensionProviders" };
	struct path at = { .parent = &list };
	for (const struct node *p = list_of(all); p; p = p->next, at.index++) {
		provider_check(d, &at, p);
		for (const struct node *before = list_of(all); before != p; before = before->next)
			if (str_eq(node_get_text(before, "name"), node_get_text(p, "name")))
				decode_error(d, &at, "name", p, "is the name of another provider, too");
	}
}

/* Built in: prometheus for metrics, envoy for access logs. */
static void defaults_check(struct decode *d, const struct path *path, const struct node *defaults,
			   const struct node *all)
{
	static const struct {
		const char *name, *built_in;
	} sections[] = { { "tracing", NULL }, { "metrics", "prometheus" }, { "accessLogging", "envoy" } };
	const struct path in = { .parent = path, .name = "defaultProviders" };

	for (const struct node *n = defaults ? defaults->first : NULL; n; n = n->next) {
		size_t i = 0;
		while (i < ARRAY_SIZE(sections) && strcmp(sections[i].name, n->key) != 0)
			i++;
		if (i == ARRAY_SIZE(sections)) {
			decode_warn(d, &in, n->key, n, "is none of tracing, metrics, accessLogging");
			continue;
		}
		for (const struct node *name = list_of(n); name; name = name->next)
			if (name->type != NODE_STRING ||
			    (!str_eq(sections[i].built_in, name->text) && !is_provider(all, name->text)))
				decode_warn(d, &in, n->key, name, "\"%s\" is not one of the extensionProviders",
					    name->type == NODE_STRING ? name->text : node_type_name(name->type));
	}
}

void providers_validate(struct decode *d, const struct path *path, const struct node *mesh,
			const struct mesh_config_spec *spec)
{
	const struct node *format = node_get(mesh, "accessLogFormat");

	list_check(d, path, node_get(mesh, "extensionProviders"));
	defaults_check(d, path, node_get(mesh, "defaultProviders"), node_get(mesh, "extensionProviders"));
	if (is_text(format))
		format_check(d, path, "accessLogFormat", format);
	if (is_text(format) && spec->access_log_encoding == ACCESS_LOG_JSON &&
	    format->text[strspn(format->text, " \t\r\n")] != '{')
		decode_warn(d, path, "accessLogFormat", format,
			    "is no JSON object, which accessLogEncoding asks for: Istio's default format is used");
}
