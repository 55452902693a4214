/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/compile/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/config/decode.h"

void world_init(struct world *w, const char *node)
{
	*w = (struct world){ .in = { .node = node } };
	assert_int_equal(decoder_new(&w->decoder), 0);
	assert_int_equal(compiler_new(&w->compiler), 0);
}

void world_done(struct world *w)
{
	/* In this order on purpose: plans outlive their compiler. */
	compiler_free(w->compiler);
	plan_unref(w->before);
	plan_unref(w->plan);
	for (size_t i = 0; i < w->n; i++)
		resource_unref(w->v[i]);
	free(w->v);
	decoder_free(w->decoder);
}

static size_t lower_bound(const struct world *w, const char *key)
{
	size_t low = 0, high = w->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (strcmp(w->v[mid]->key, key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

void world_put(struct world *w, struct resource *r)
{
	size_t i = lower_bound(w, r->key);

	if (i < w->n && str_eq(w->v[i]->key, r->key)) {
		resource_unref(w->v[i]);
		w->v[i] = r;
		return;
	}
	assert_int_equal(mem_reserve(&w->v, &w->cap, w->n + 1, sizeof(*w->v)), 0);
	memmove(&w->v[i + 1], &w->v[i], (w->n - i) * sizeof(*w->v));
	w->v[i] = r;
	w->n++;
}

static void set_from(struct world *w, const char *file, const char *yaml, size_t len)
{
	const char *at = yaml;
	uint32_t line = 1;
	struct document_text doc;

	while (document_next(&at, yaml + len, &line, &doc)) {
		struct decoded out = { 0 };
		assert_int_equal(decoder_run(w->decoder, file, doc.line, doc.text, doc.len, ++w->hash, &out), 0);
		if (out.rejected && !w->skip_rejected)
			for (size_t i = 0; i < out.problem_count; i++)
				print_error("%s:%u: %s\n", file, out.problems[i].line, out.problems[i].text);
		assert_true(w->skip_rejected || !out.rejected);
		for (size_t i = 0; !out.rejected && i < out.resource_count; i++)
			world_put(w, resource_ref(out.resources[i]));
		decoded_done(&out);
	}
}

int world_setup(void **state)
{
	const struct world_fixture *f = *state;

	world_init(f->w, "n1");
	if (f->yaml)
		world_with(f->w, f->yaml);
	return 0;
}

int world_teardown(void **state)
{
	world_done(((const struct world_fixture *)*state)->w);
	return 0;
}

void world_set(struct world *w, const char *yaml)
{
	set_from(w, "test-mesh.yaml", yaml, strlen(yaml));
}

void world_load(struct world *w, const char *path)
{
	char text[65536];
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	size_t n = fread(text, 1, sizeof(text), f);
	assert_true(feof(f));
	fclose(f);
	set_from(w, strrchr(path, '/') + 1, text, n);
}

void world_delete(struct world *w, const char *key)
{
	size_t i = lower_bound(w, key);

	assert_true(i < w->n && str_eq(w->v[i]->key, key));
	resource_unref(w->v[i]);
	memmove(&w->v[i], &w->v[i + 1], (w->n - i - 1) * sizeof(*w->v));
	w->n--;
}

static const struct resource *on_next(const void *arg, enum resource_kind kind, const struct resource *after)
{
	struct world *w = (struct world *)arg; /* for the hint, as in the store */
	size_t i = 0;

	if (after)
		i = w->hint < w->n && w->v[w->hint] == after ? w->hint + 1 : lower_bound(w, after->key) + 1;
	while (i < w->n && w->v[i]->kind != kind)
		i++;
	w->hint = i;
	return i < w->n ? w->v[i] : NULL;
}

struct plan *world_compile(struct world *w)
{
	struct compile_source source = { on_next, w };
	struct err err = ERR_INIT;
	struct plan *plan = NULL;

	w->in.revision++;
	assert_int_equal(compiler_run(w->compiler, &source, &w->in, &plan, &err), 0);
	plan_unref(w->before);
	w->before = w->plan;
	w->plan = plan;
	return plan;
}

struct plan *world_with(struct world *w, const char *yaml)
{
	world_set(w, yaml);
	return world_compile(w);
}

struct service *world_service(const struct world *w, const char *ns, const char *hostname)
{
	struct service *s = plan_service_by_name(w->plan, ns, hostname);

	if (!s)
		print_error("no service %s/%s\n", ns, hostname);
	assert_non_null(s);
	return s;
}

struct workload *world_workload(const struct world *w, const char *uid)
{
	struct workload *found = plan_workload_by_uid(w->plan, uid);

	if (!found)
		print_error("no workload %s\n", uid);
	assert_non_null(found);
	return found;
}

const struct service_port *world_port(const struct world *w, const char *ns, const char *hostname, uint16_t port)
{
	const struct service *s = world_service(w, ns, hostname);

	for (size_t i = 0; i < s->port_count; i++)
		if (s->ports[i].port == port)
			return &s->ports[i];
	fail_msg("%s/%s has no port %u", ns, hostname, port);
	return NULL;
}

static char text[16384];

static void endpoint_append(const struct endpoint *e, bool mark)
{
	char buf[ADDR_PORT_TEXT_MAX];
	struct addr_port ap = { e->addr, e->port };
	size_t len = strlen(text);

	snprintf(text + len, sizeof(text) - len, "%s%s%s", len ? " " : "", mark && !e->healthy ? "!" : "",
		 addr_port_text(&ap, buf));
}

const char *world_slots(const struct service_port *port, bool v6)
{
	const uint32_t *slots = v6 ? port->slots6 : port->slots;

	text[0] = '\0';
	for (size_t i = 0; i < (v6 ? port->slot6_count : port->slot_count); i++)
		endpoint_append(&port->endpoints[slots[i]], false);
	return text;
}

const char *world_endpoints(const struct service_port *port)
{
	text[0] = '\0';
	for (size_t i = 0; i < port->endpoint_count; i++)
		endpoint_append(&port->endpoints[i], true);
	return text;
}

bool world_finds(const struct world *w, const char *key, const char *part)
{
	struct findings f = { 0 };
	bool found = false;

	assert_int_equal(compiler_findings(w->compiler, &f), 0);
	for (size_t i = 0; i < f.n; i++)
		found |= str_eq(f.v[i].key, key) && strstr(f.v[i].text, part);
	if (!found)
		for (size_t i = 0; i < f.n; i++)
			print_message("finding: %s: %s\n", f.v[i].key, f.v[i].text);
	findings_done(&f);
	return found;
}
