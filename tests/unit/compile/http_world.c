/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/compile/http_world.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/model/workload.h"

struct l7_target *http_target(const struct world *w, const char *caller, const char *addr, const char *host)
{
	struct addr_port original;
	struct l7_target *t = NULL;

	assert_int_equal(addr_port_parse(addr, &original), 0);
	assert_int_equal(compiler_target(w->compiler, caller ? world_workload(w, caller) : NULL, &original, host, &t),
			 0);
	assert_non_null(t);
	return t;
}

struct http_cluster *http_cluster(const struct world *w, const char *name)
{
	struct http_cluster *c = NULL;
	int rc = compiler_cluster(w->compiler, name, &c);

	if (rc)
		fail_msg("no cluster %s: %d", name, rc);
	return c;
}

bool http_cluster_missing(const struct world *w, const char *name)
{
	struct http_cluster *c = NULL;
	int rc = compiler_cluster(w->compiler, name, &c);

	http_cluster_unref(c);
	return rc == -ENOENT;
}

static char request_text[1024];

static struct http_view word_get(const char *name)
{
	size_t len = strlen(name);

	for (const char *p = strchr(request_text, ' '); p; p = strchr(p + 1, ' ')) {
		if (strncmp(p + 1, name, len) || p[1 + len] != '=')
			continue;
		const char *value = p + 2 + len;
		return (struct http_view){ value, strcspn(value, " ") };
	}
	return (struct http_view){ NULL, 0 };
}

static struct http_view on_header(const struct http_request_view *r, const char *name)
{
	(void)r;
	return word_get(name);
}

struct http_request_view http_request(const struct world *w, const char *caller, const char *text)
{
	const struct workload *source = caller ? world_workload(w, caller) : NULL;
	snprintf(request_text, sizeof(request_text), "%s", text);
	const char *path = strchr(request_text, ' ') + 1;
	size_t len = strcspn(path, " "), n = strcspn(path, " ?");
	struct http_request_view r = {
		.method = { request_text, (size_t)(path - 1 - request_text) },
		.scheme = { "http", 4 },
		.authority = word_get("host"),
		.path = { path, n },
		.query = { n < len ? path + n + 1 : NULL, n < len ? len - n - 1 : 0 },
		.port = 80,
		.header = on_header,
	};
	if (source) {
		r.source_namespace = source->ns;
		r.source_labels = source->labels;
		r.source_label_count = source->label_count;
	}
	return r;
}

const char *http_taken(const struct world *w, const struct l7_target *t, const char *caller, const char *text)
{
	struct http_request_view r = http_request(w, caller, text);
	size_t match;

	assert_non_null(t->vhost);
	const struct http_route *route = http_route_find(t->vhost, &r, &match);
	return route ? route->name : "-";
}

const struct http_route *http_route_named(const struct l7_target *t, const char *name)
{
	assert_non_null(t->vhost);
	for (size_t i = 0; i < t->vhost->route_count; i++)
		if (strcmp(t->vhost->routes[i].name, name) == 0)
			return &t->vhost->routes[i];
	fail_msg("no route %s", name);
	return NULL;
}

const char *http_clusters_of(const struct http_route *route)
{
	static char text[2048];

	text[0] = '\0';
	for (size_t i = 0; i < route->destination_count; i++) {
		size_t len = strlen(text);
		snprintf(text + len, sizeof(text) - len, "%s%s %u", len ? ", " : "", route->destinations[i].cluster,
			 route->destinations[i].weight);
	}
	return text;
}

const char *http_endpoints_of(const struct http_cluster *c)
{
	static char text[4096];

	text[0] = '\0';
	for (size_t i = 0; i < c->endpoint_count; i++) {
		char addr[ADDR_PORT_TEXT_MAX];
		size_t len = strlen(text);
		snprintf(text + len, sizeof(text) - len, "%s%s p%u w%u", len ? ", " : "",
			 addr_port_text(&c->endpoints[i].addr, addr), c->endpoints[i].priority, c->endpoints[i].weight);
	}
	return text;
}
