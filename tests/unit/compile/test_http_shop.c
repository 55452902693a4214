/* SPDX-License-Identifier: Apache-2.0 */
/* The shop as its users wrote it: all of its documents load without a word, and requests go where they are meant to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/str.h"
#include "agent/config/decode.h"
#include "tests/unit/compile/http_world.h"

static const char *const files[] = { "00-workloads.yaml",	 "10-mesh.yaml",    "11-mtls.yaml",
				     "12-authorization.yaml",	 "20-traffic.yaml", "30-edge.yaml",
				     "40-filters-telemetry.yaml" };
static struct world w;

static int on_setup(void **state)
{
	(void)state;
	world_init(&w, "node-a");
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char path[128];
		snprintf(path, sizeof(path), "tests/data/shop/%s", files[i]);
		world_load(&w, path);
	}
	world_compile(&w);
	return 0;
}

static int on_teardown(void **state)
{
	(void)state;
	world_done(&w);
	return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)
#define V1 "outbound|80|v1|catalog.shop.svc.cluster.local"
#define V2 "outbound|80|v2|catalog.shop.svc.cluster.local"

static void test_every_document_loads_without_a_warning(void **state)
{
	(void)state;
	struct decoder *decoder;
	static char text[65536];
	size_t documents = 0;

	assert_int_equal(decoder_new(&decoder), 0);
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		char path[128];
		snprintf(path, sizeof(path), "tests/data/shop/%s", files[i]);
		FILE *f = fopen(path, "r");
		assert_non_null(f);
		size_t n = fread(text, 1, sizeof(text), f);
		fclose(f);
		const char *at = text;
		uint32_t line = 1;
		struct document_text doc;
		while (document_next(&at, text + n, &line, &doc)) {
			struct decoded out;
			assert_int_equal(decoder_run(decoder, files[i], doc.line, doc.text, doc.len, 1, &out), 0);
			for (size_t k = 0; k < out.problem_count; k++)
				if (out.problems[k].level != PROBLEM_INFO)
					fail_msg("%s:%u: %s", files[i], out.problems[k].line, out.problems[k].text);
			documents += out.resource_count;
			decoded_done(&out);
		}
	}
	decoder_free(decoder);
	assert_int_equal(documents, 24);
}

static void test_catalog_routes(void **state)
{
	(void)state;
	static const struct {
		const char *request, *route;
	} rows[] = {
		{ "GET / x-canary=true", "testers" },
		{ "GET /?canary=1", "testers" },
		{ "GET / x-canary=false", "default" },
		{ "GET / x-region=UK", "europe" },
		{ "GET / x-region=UKX", "default" },
		{ "GET / x-chaos=on", "chaos" },
		{ "GET /", "default" },
	};
	struct l7_target *t = http_target(&w, "shop/frontend-1", "10.60.0.20:80", "catalog");

	assert_int_equal(t->mode, L7_HTTP);
	assert_string_equal(t->service, "shop/catalog.shop.svc.cluster.local");
	assert_string_equal(t->vhost->name, "catalog.shop.svc.cluster.local:80");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_string_equal(http_taken(&w, t, "shop/frontend-1", rows[i].request), rows[i].route);

	const struct http_route *r = http_route_named(t, "default");
	assert_string_equal(http_clusters_of(r), V1 " 95, " V2 " 5");
	assert_string_equal(r->origin, "20-traffic.yaml:34");
	assert_string_equal(r->owner, "VirtualService shop/catalog");
	assert_int_equal(r->timeout_ms, 10000);
	assert_int_equal(r->retry.attempts, 3);
	assert_int_equal(r->retry.per_try_timeout_ms, 3000);
	assert_int_equal(r->retry.on, RETRY_5XX | RETRY_GATEWAY_ERROR | RETRY_CONNECT_FAILURE | RETRY_REFUSED_STREAM);
	assert_int_equal(r->mirror_count, 1);
	assert_string_equal(r->mirrors[0].cluster, V2);
	assert_int_equal(r->mirrors[0].share.ppm, 50000);
	r = http_route_named(t, "chaos");
	assert_int_equal(r->fault->delay_ms, 5000);
	assert_int_equal(r->fault->delay_share.ppm, 100000);
	assert_int_equal(r->fault->abort_status, 503);
	assert_int_equal(r->fault->abort_share.ppm, 10000);
	r = http_route_named(t, "europe");
	assert_string_equal(r->destinations[0].response.set[0].name, "x-served-by");
	l7_target_unref(t);
}

static void test_catalog_clusters(void **state)
{
	(void)state;
	struct http_cluster *c = http_cluster(&w, V1);
	assert_string_equal(http_endpoints_of(c), "10.50.1.20:8080 p0 w1");
	assert_int_equal(c->lb, CLUSTER_LEAST_REQUEST);
	assert_int_equal(c->protocol, CLUSTER_H1); /* h2UpgradePolicy is not about the application */
	assert_int_equal(c->max_pending, 50);
	assert_int_equal(c->max_requests, 100);
	assert_int_equal(c->max_requests_per_connection, 10);
	assert_int_equal(c->max_retries, 3);
	assert_int_equal(c->http_idle_ms, 90000);
	assert_int_equal(c->tcp.max_connections, 100);
	assert_int_equal(c->tcp.keepalive_time_s, 7200);
	assert_int_equal(c->outlier.consecutive_5xx, 5);
	assert_int_equal(c->outlier.consecutive_gateway, 0);
	assert_int_equal(c->outlier.interval_ms, 30000);
	assert_int_equal(c->outlier.max_ejection_percent, 50);
	assert_int_equal(c->outlier.min_health_percent, 40);
	assert_int_equal(c->endpoints[0].tunnel, ENDPOINT_PLAIN); /* of this node: attested */
	assert_true(c->endpoints[0].local);
	assert_string_equal(c->endpoints[0].version, "v1");
	assert_string_equal(c->endpoints[0].identities[0], c->endpoints[0].principal);
	http_cluster_unref(c);

	c = http_cluster(&w, V2);
	assert_string_equal(http_endpoints_of(c), "[fd50::2:20]:8080 p0 w1");
	assert_int_equal(c->lb, CLUSTER_RING_HASH);
	assert_int_equal(c->hash, HASH_HEADER);
	assert_string_equal(c->hash_key, "x-user");
	assert_int_equal(c->outlier.consecutive_5xx, 5); /* the rule's: the subset says nothing of it */
	assert_int_equal(c->endpoints[0].tunnel, ENDPOINT_HBONE);
	assert_int_equal(c->endpoints[0].tunnel_addr.port, 15008);
	http_cluster_unref(c);

	c = http_cluster(&w, "outbound|80||catalog.shop.svc.cluster.local");
	assert_string_equal(http_endpoints_of(c), "10.50.1.20:8080 p0 w1, [fd50::2:20]:8080 p1 w1");
	http_cluster_unref(c);
	assert_true(http_cluster_missing(&w, "outbound|80|v9|catalog.shop.svc.cluster.local"));
	assert_true(http_cluster_missing(&w, "outbound|81||catalog.shop.svc.cluster.local"));
}

static void test_external_service_originates_tls(void **state)
{
	(void)state;
	struct compile_host host = { .name = "api.cards.example", .addr_count = 1 };
	struct addr a;
	assert_int_equal(addr_parse("192.0.2.7", &a), 0);
	host.addrs = &a;
	w.in.hosts = &host;
	w.in.host_count = 1;
	world_compile(&w);
	struct http_cluster *c = http_cluster(&w, "outbound|80||api.cards.example");
	assert_string_equal(http_endpoints_of(c), "192.0.2.7:443 p0 w1");
	assert_int_equal(c->tls, CLUSTER_TLS_SIMPLE);
	assert_string_equal(c->sni, "api.cards.example");
	assert_string_equal(c->ca_pem, ""); /* the system's roots, which nobody reads here */
	assert_true(c->external);
	assert_int_equal(c->protocol, CLUSTER_H1);
	assert_string_equal(c->endpoints[0].hostname, "api.cards.example");
	http_cluster_unref(c);
	assert_int_equal(world_port(&w, "shop", "api.cards.example", 80)->l7, L7_HTTP);
}

/* "gateways: [ public ]" is not the mesh's. */
static void test_gateway_routes_are_not_the_meshs(void **state)
{
	(void)state;
	struct l7_target *t = http_target(&w, "shop/frontend-1", "10.60.0.10:80", "shop.example");
	assert_string_equal(t->service, "shop/frontend.shop.svc.cluster.local");
	assert_int_equal(t->vhost->route_count, 1);
	assert_string_equal(http_clusters_of(t->vhost->routes), "outbound|80||frontend.shop.svc.cluster.local 1");
	assert_int_equal(t->vhost->routes->timeout_ms, 0);
	assert_int_equal(t->vhost->routes->retry.attempts, 2);
	l7_target_unref(t);
}

/* What the shop's authors would call a false alarm. */
static void test_nothing_is_odd_about_routes(void **state)
{
	(void)state;
	static const struct compile_jwks fetched = { "https://login.shop.example/.well-known/jwks.json",
						     "{\"keys\":[]}" };
	struct addr a;
	struct compile_host host = { "api.cards.example", &a, 1 };
	struct findings f;

	assert_int_equal(addr_parse("192.0.2.7", &a), 0);
	w.in.hosts = &host;
	w.in.host_count = 1;
	w.in.jwks = &fetched;
	w.in.jwks_count = 1;
	world_compile(&w);
	assert_int_equal(compiler_findings(w.compiler, &f), 0);
	for (size_t i = 0; i < f.n; i++)
		if (f.v[i].severity != FINDING_INFO)
			fail_msg("%s: %s", f.v[i].key, f.v[i].text);
	findings_done(&f);
}

static void test_ports_are_told_apart(void **state)
{
	(void)state;
	assert_int_equal(world_port(&w, "shop", "catalog.shop.svc.cluster.local", 80)->l7, L7_HTTP);
	assert_int_equal(world_port(&w, "shop", "catalog.shop.svc.cluster.local", 9090)->l7, L7_HTTP);
	assert_int_equal(world_port(&w, "shop", "payments.shop.svc.cluster.local", 7000)->l7, L7_NONE);
	assert_int_equal(world_port(&w, "shop", "payments.shop.svc.cluster.local", 7001)->l7, L7_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_every_document_loads_without_a_warning),
		CASE(test_catalog_routes),
		CASE(test_catalog_clusters),
		CASE(test_external_service_originates_tls),
		CASE(test_gateway_routes_are_not_the_meshs),
		CASE(test_nothing_is_odd_about_routes),
		CASE(test_ports_are_told_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
