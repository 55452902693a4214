/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/str.h"
#include "tests/unit/balance/fake.h"

#define TEST(name) cmocka_unit_test_setup_teardown(name, fake_setup, fake_teardown)

static void test_requests_wait_for_the_first_answer(void **state)
{
	(void)state;
	struct request a, b, cancelled;
	request_start(&a);
	request_start(&cancelled);
	request_start(&b);
	assert_int_equal(fake.watched, 1);
	upstream_cancel(cancelled.wait);
	fake_push_c(fake_cluster(2));
	assert_int_equal(fake_connecting(), 2);
	fake_connected_all();
	assert_non_null(a.up);
	assert_non_null(b.up);
	assert_int_equal(cancelled.answers, 0);
	request_end(&a, 200);
	request_end(&b, 200);
}

static void test_no_cluster_is_said_and_asked_again(void **state)
{
	(void)state;
	struct request a, b;
	request_start(&a);
	fake_push_c(NULL);
	assert_int_equal(a.why, UPSTREAM_NO_CLUSTER);
	assert_int_equal(a.answers, 1);
	request_start(&b);
	assert_int_equal(b.why, UPSTREAM_NO_CLUSTER);
	assert_int_equal(fake.watched, 1);
	fake_advance_ms(1500);
	request_start(&b);
	assert_int_equal(b.why, UPSTREAM_NO_CLUSTER);
	assert_int_equal(fake.watched, 2);
	fake_push_c(fake_cluster(1)); /* it is made */
	assert_int_equal(request_whole(200), 1);
	assert_int_equal(fake.watches, 1);
}

static void test_without_endpoints_there_is_none(void **state)
{
	(void)state;
	struct request a;
	struct http_cluster *c = fake_cluster(1);
	fake_push_c(fake_cluster(0));
	request_start(&a);
	assert_int_equal(a.why, UPSTREAM_NO_ENDPOINT);
	c->endpoints[0].healthy = false;
	fake_push_c(c);
	request_start(&a);
	assert_int_equal(a.why, UPSTREAM_NO_ENDPOINT);
}

static void test_round_robin_reaches_all(void **state)
{
	(void)state;
	unsigned int seen[5] = { 0 };
	fake_push_c(fake_cluster(4));
	for (size_t i = 0; i < 40; i++)
		seen[request_whole(200)]++;
	for (size_t i = 1; i <= 4; i++)
		assert_int_equal(seen[i], 10);
	assert_int_equal(fake.conn_count, 4);
}

static void test_a_new_version_keeps_what_stays(void **state)
{
	(void)state;
	struct request r[3];
	struct sb out = { 0 };
	fake_push_c(fake_cluster(2));
	for (size_t i = 0; i < 2; i++)
		request_start(&r[i]);
	fake_connected_all();
	struct http_conn *first = r[0].endpoint.addr.b[15] == 1 ? r[0].up->conn : r[1].up->conn;
	const struct http_cluster *old = r[0].up->cluster;

	struct http_cluster *c = fake_cluster(3); /* .2 goes, .3 comes */
	c->endpoints[1] = c->endpoints[2];
	c->endpoint_count = 2;
	fake_push_c(c);
	upstreams_dump(fake.u, "clusters", &out);
	assert_non_null(strstr(out.p, "\"address\":\"10.0.0.1:80\",\"weight\":1,\"priority\":0,\"health\":\"healthy\","
				      "\"ejected_for_s\":0.000,\"ejections\":0,\"active_requests\":1,\"requests\":1"));
	assert_null(strstr(out.p, "10.0.0.2"));
	sb_done(&out);
	/* Live requests go on to their end, with what they were told. */
	assert_string_equal(r[0].up->cluster->name, "c");
	assert_ptr_equal(r[0].up->cluster, old);
	assert_int_equal(r[0].resets + r[1].resets, 0);
	assert_int_equal(fake_open_conns(), 2);
	request_end(&r[0], 200);
	request_end(&r[1], 200);
	assert_int_equal(fake_open_conns(), 1); /* that of .2 ended */
	assert_false(((struct fake_conn *)first)->closed);
	for (size_t i = 0; i < 8; i++)
		assert_int_not_equal(request_whole(200), 2);
	assert_int_equal(fake.conn_count, 3);
}

static void test_a_new_version_of_other_tls_makes_new_connections(void **state)
{
	(void)state;
	struct request a;
	struct http_cluster *c = fake_cluster(1);
	fake_push_c(fake_cluster(1));
	request_whole(200);
	request_start(&a);
	c->tls = CLUSTER_TLS_SIMPLE;
	c->sni = strdup("one");
	fake_push_c(c);
	assert_int_equal(fake_open_conns(), 1); /* until its request is over */
	request_whole(200);
	request_end(&a, 200);
	assert_int_equal(fake_open_conns(), 1);
	assert_false(fake.conns[1]->closed);

	c = fake_cluster(1); /* another weight is no reason */
	c->tls = CLUSTER_TLS_SIMPLE;
	c->sni = strdup("one");
	c->endpoints[0].weight = 7;
	fake_push_c(c);
	request_whole(200);
	assert_int_equal(fake.conn_count, 2);
}

static void test_who_waits_for_an_endpoint_that_goes_is_sent_to_another(void **state)
{
	(void)state;
	struct request r[3];
	struct http_cluster *c = fake_cluster(1);
	c->tcp.max_connections = 1;
	fake_push_c(c);
	for (size_t i = 0; i < 3; i++)
		request_start(&r[i]);
	fake_connected_all();
	assert_int_equal(r[1].answers, 0);
	c = fake_cluster(2);
	c->tcp.max_connections = 1;
	c->endpoints[0] = c->endpoints[1];
	c->endpoint_count = 1;
	fake_push_c(c);
	fake_turn();
	assert_int_equal(fake_connecting(), 1);
	fake_connected_all();
	assert_int_equal(r[1].endpoint.addr.b[15], 2);
	request_end(&r[0], 200);
	request_end(&r[1], 200);
	assert_int_equal(r[2].endpoint.addr.b[15], 2);
	request_end(&r[2], 200);
}

static void test_a_cluster_that_goes_ends_what_waits_but_not_what_runs(void **state)
{
	(void)state;
	struct request a, b;
	struct http_cluster *c = fake_cluster(1);
	c->tcp.max_connections = 1;
	fake_push_c(c);
	request_start(&a);
	fake_connected_all();
	request_start(&b);
	fake_push_c(NULL);
	fake_turn();
	assert_int_equal(b.why, UPSTREAM_NO_CLUSTER);
	assert_int_equal(a.resets, 0);
	request_end(&a, 200);
	assert_int_equal(fake_open_conns(), 0);
}

static void test_an_unused_cluster_is_watched_no_more(void **state)
{
	(void)state;
	struct request r;
	struct http_cluster *c = fake_cluster(1);
	c->protocol = CLUSTER_H2;
	fake_push_c(c);
	request_start(&r);
	fake_connected_all();
	fake_advance_ms(400000);
	assert_int_equal(fake.watches, 1); /* a stream is open */
	request_end(&r, 200);
	fake_advance_ms(250000);
	assert_int_equal(fake.watches, 1);
	fake_advance_ms(90000);
	assert_int_equal(fake.watches, 0);
	assert_int_equal(fake_open_conns(), 0);
	assert_int_equal(request_whole(200), 1);
	assert_int_equal(fake.watches, 1);
}

static void test_passthrough_goes_where_the_caller_wanted(void **state)
{
	(void)state;
	struct request a, b, none;
	struct upstream_query q;
	struct http_cluster *c = fake_cluster(1);
	c->lb = CLUSTER_PASSTHROUGH;
	fake_push_c(c);
	request_query(&q);
	assert_int_equal(addr_port_parse("[fd00::9]:8080", &q.original), 0);
	request_start_with(&a, &q);
	fake_connected_all();
	assert_true(addr_port_eq(&a.up->endpoint->addr, &q.original));
	request_end(&a, 200);
	request_start_with(&a, &q); /* by the same connection */
	assert_non_null(a.up);
	struct upstream_query known = q;
	assert_int_equal(addr_port_parse("10.0.0.1:80", &known.original), 0);
	request_start_with(&b, &known);
	fake_connected_all();
	assert_int_equal(b.endpoint.addr.b[15], 1);
	request_end(&b, 200);
	known.original.port = 0;
	request_start_with(&none, &known);
	assert_int_equal(none.why, UPSTREAM_NO_ENDPOINT);

	/* It becomes an endpoint, while it is used. */
	c = fake_cluster(2);
	c->lb = CLUSTER_PASSTHROUGH;
	c->endpoints[1].addr = q.original;
	fake_push_c(c);
	assert_true(addr_port_eq(&a.up->endpoint->addr, &q.original));
	request_end(&a, 200);
	request_start_with(&a, &q);
	assert_int_equal(a.why, UPSTREAM_OK);
	request_end(&a, 200);
	assert_int_equal(fake.conn_count, 2);
}

static uint8_t taken(struct upstream_query *q)
{
	struct request a;

	request_start_with(&a, q);
	fake_connected_all();
	uint8_t last = a.endpoint.addr.b[15];
	request_end(&a, 200);
	return last;
}

/* A route from another service, or to a subset that the pod that was called is not in. */
static void test_passthrough_takes_its_own_endpoints_when_the_address_is_anothers(void **state)
{
	(void)state;
	struct upstream_query q;
	struct http_cluster *c = fake_cluster(1);

	c->lb = CLUSTER_PASSTHROUGH;
	free(c->host);
	c->host = strdup("ring");
	fake_push_c(c);
	request_query(&q);
	assert_int_equal(addr_port_parse("10.60.0.9:80", &q.original), 0);
	q.called = "ring";
	assert_int_equal(taken(&q), 9);
	c = fake_cluster(0); /* at another port, as its targetPort says */
	c->lb = CLUSTER_PASSTHROUGH;
	c->original_port = 443;
	fake_push_c(c);
	struct request other;
	request_start_with(&other, &q);
	fake_connected_all();
	assert_int_equal(other.endpoint.port, 443);
	assert_int_equal(other.endpoint.addr.b[15], 9);
	request_end(&other, 200);
	c = fake_cluster(1);
	c->lb = CLUSTER_PASSTHROUGH;
	free(c->host);
	c->host = strdup("ring");
	fake_push_c(c);
	q.called = "other";
	assert_int_equal(taken(&q), 1);
	assert_int_equal(addr_port_parse("10.0.0.1:80", &q.original), 0);
	assert_int_equal(taken(&q), 1);

	c = fake_cluster(2);
	c->lb = CLUSTER_PASSTHROUGH;
	free(c->subset);
	c->subset = strdup("v2");
	fake_push_c(c);
	q.called = NULL;
	for (size_t i = 0; i < 10; i++)
		assert_int_equal(taken(&q), 1); /* it is in the subset */
	assert_int_equal(addr_port_parse("10.60.0.9:80", &q.original), 0);
	assert_in_range(taken(&q), 1, 2);

	c = fake_cluster(0);
	c->lb = CLUSTER_PASSTHROUGH;
	fake_push_c(c);
	q.called = "other";
	assert_int_equal(taken(&q), 9); /* there is nothing else */
}

static void passthrough_query(struct upstream_query *q)
{
	struct http_cluster *c = fake_cluster(0);
	c->lb = CLUSTER_PASSTHROUGH;
	fake_push_c(c);
	request_query(q);
	assert_int_equal(addr_port_parse("10.1.2.3:80", &q->original), 0);
}

static void test_passthrough_to_a_pod_goes_through_its_tunnel(void **state)
{
	(void)state;
	struct request a, b;
	struct upstream_query q;
	char *identities[] = { "spiffe://td/ns/a/sa/b" }, *others[] = { "spiffe://td/ns/a/sa/c" };
	fake.info =
		(struct endpoint_info){ .known = true, .hbone = true, .identities = identities, .identity_count = 1 };
	assert_int_equal(addr_port_parse("10.1.2.3:15008", &fake.info.tunnel), 0);
	passthrough_query(&q);
	request_start_with(&a, &q);
	assert_true(fake_connect_at(0)->hbone);
	assert_string_equal(fake_connect_at(0)->identity, identities[0]);
	fake_connected_all();
	assert_int_equal(a.up->endpoint->tunnel_addr.port, 15008);

	/* Another pod has the address now: nothing is sent to the old one's connections any more. */
	fake_advance_ms(6000);
	fake.info.identities = others;
	request_start_with(&b, &q);
	assert_string_equal(fake_connect_at(0)->identity, others[0]);
	assert_string_equal(a.up->endpoint->identities[0], identities[0]);
	fake_connected_all();
	request_end(&a, 200);
	request_end(&b, 200);
	assert_int_equal(fake_open_conns(), 1);
	request_start_with(&b, &q);
	assert_int_equal(b.why, UPSTREAM_OK);
	request_end(&b, 200);
	assert_int_equal(fake.info_asked, 3);
}

static void test_passthrough_sends_nothing_before_the_address_is_known(void **state)
{
	(void)state;
	struct request a, cancelled, b;
	struct upstream_query q;
	fake.info_withheld = true;
	passthrough_query(&q);
	request_start_with(&a, &q);
	request_start_with(&cancelled, &q);
	upstream_cancel(cancelled.wait);
	assert_int_equal(fake_connecting(), 0);
	assert_int_equal(fake.info_asked, 1);
	fake_tell_info(NULL); /* no answer: refused */
	assert_int_equal(a.why, UPSTREAM_NO_ENDPOINT);
	request_start_with(&a, &q);
	assert_int_equal(a.why, UPSTREAM_NO_ENDPOINT);
	assert_int_equal(fake.info_asked, 1);

	fake_advance_ms(1000);
	fake.info_withheld = true;
	request_start_with(&a, &q); /* asked again */
	request_start_with(&b, &q);
	fake_tell_info(&(struct endpoint_info){ 0 }); /* none of the mesh's */
	assert_int_equal(fake_connecting(), 2);
	assert_false(fake_connect_at(0)->hbone);
	fake_connected_all();
	request_end(&a, 200);
	request_end(&b, 200);

	/* The cluster is pushed anew while somebody waits. */
	q.original.port = 81;
	fake.info_withheld = true;
	request_start_with(&a, &q);
	fake_push_c(NULL);
	assert_int_equal(a.why, UPSTREAM_NO_CLUSTER);
	assert_int_equal(cancelled.answers, 0);
}

static void test_passthrough_addresses_are_forgotten_and_bounded(void **state)
{
	(void)state;
	struct request a;
	struct upstream_query q;
	struct http_cluster *c = fake_cluster(0);
	c->lb = CLUSTER_PASSTHROUGH;
	c->http_idle_ms = 1000;
	fake_push_c(c);
	request_query(&q);
	assert_int_equal(addr_port_parse("10.9.0.0:80", &q.original), 0);
	unsigned int refused = 0;
	for (size_t i = 0; i < 4200; i++) {
		q.original.addr.b[14] = (uint8_t)(i >> 8);
		q.original.addr.b[15] = (uint8_t)i;
		request_start_with(&a, &q);
		if (a.answers)
			refused += a.why == UPSTREAM_NO_ENDPOINT;
		else
			upstream_cancel(a.wait);
		while (fake_connecting())
			fake_refused(fake_connect_at(0), -ECONNREFUSED);
		if (fake.connect_count > 1000) {
			for (size_t k = 0; k < fake.connect_count; k++)
				free(fake.connects[k]);
			fake.connect_count = 0;
		}
	}
	assert_int_equal(refused, 4200 - 4096);
	fake_advance_ms(200000);
	request_start_with(&a, &q);
	fake_connected_all();
	assert_int_equal(a.why, UPSTREAM_OK);
	request_end(&a, 200);
}

static void test_dynamic_dns_asks_for_the_requests_host(void **state)
{
	(void)state;
	struct request a;
	struct upstream_query q;
	struct http_cluster *c = fake_cluster(0), *host = fake_cluster(1);
	c->dynamic_dns = true;
	fake_push_c(c);
	request_query(&q);
	q.host = "API.example.com:443";
	request_start_with(&a, &q);
	assert_int_equal(a.answers, 0);
	assert_int_equal(fake.watches, 2);
	host->dynamic_dns = true;
	http_cluster_seal(host);
	fake_push("c|api.example.com", host);
	fake_connected_all();
	assert_int_equal(a.why, UPSTREAM_OK);
	request_end(&a, 200);
	q.host = NULL;
	request_start_with(&a, &q);
	assert_int_equal(a.why, UPSTREAM_NO_ENDPOINT);

	/* When even the first is not known yet. */
	struct http_cluster *d = fake_cluster(0);
	d->dynamic_dns = true;
	q.cluster = "d";
	q.host = "b.example";
	request_start_with(&a, &q);
	http_cluster_seal(d);
	fake_push("d", d);
	assert_int_equal(a.answers, 0);
	fake_push("d|b.example", NULL);
	assert_int_equal(a.why, UPSTREAM_NO_CLUSTER);
}

static void test_a_pinned_endpoint_is_kept_while_it_is_well(void **state)
{
	(void)state;
	struct request r;
	struct upstream_query q;
	struct http_cluster *c = fake_cluster(3);
	fake_push_c(fake_cluster(3));
	request_query(&q);
	assert_int_equal(addr_port_parse("10.0.0.2:80", &q.pinned), 0);
	for (size_t i = 0; i < 6; i++) {
		request_start_with(&r, &q);
		fake_connected_all();
		assert_int_equal(r.endpoint.addr.b[15], 2);
		request_end(&r, 200);
	}
	q.avoid[q.avoid_count++] = q.pinned; /* it failed just now */
	request_start_with(&r, &q);
	fake_connected_all();
	assert_int_not_equal(r.endpoint.addr.b[15], 2);
	request_end(&r, 200);
	q.avoid_count = 0;
	c->endpoints[1].healthy = false;
	fake_push_c(c);
	request_start_with(&r, &q);
	fake_connected_all();
	assert_int_not_equal(r.endpoint.addr.b[15], 2);
	request_end(&r, 200);
}

static void test_previous_hosts_are_avoided(void **state)
{
	(void)state;
	struct request r;
	struct upstream_query q;
	fake_push_c(fake_cluster(3));
	request_query(&q);
	assert_int_equal(addr_port_parse("10.0.0.1:80", &q.avoid[0]), 0);
	assert_int_equal(addr_port_parse("10.0.0.3:80", &q.avoid[1]), 0);
	q.avoid_count = 2;
	for (size_t i = 0; i < 10; i++) {
		request_start_with(&r, &q);
		fake_connected_all();
		assert_int_equal(r.endpoint.addr.b[15], 2);
		request_end(&r, 200);
	}
}

struct picked {
	const struct http_cluster *cluster;
	unsigned int last, answers;
	enum upstream_failure why;
};

static void on_pick(const struct http_cluster *cluster, const struct cluster_endpoint *endpoint,
		    enum upstream_failure why, void *arg)
{
	struct picked *p = arg;
	p->cluster = cluster;
	p->last = endpoint ? endpoint->addr.addr.b[15] : 0;
	p->why = why;
	p->answers++;
}

static void test_pick_chooses_without_connecting(void **state)
{
	(void)state;
	struct upstream_query q;
	struct picked p = { 0 }, late = { 0 }, cancelled = { 0 };
	unsigned int seen[3] = { 0 };
	request_query(&q);
	assert_non_null(upstream_pick(fake.u, &q, on_pick, &late));
	upstream_cancel(upstream_pick(fake.u, &q, on_pick, &cancelled));
	fake_push_c(fake_cluster(2));
	assert_int_equal(late.answers, 1);
	assert_non_null(late.cluster);
	assert_int_equal(cancelled.answers, 0);
	for (size_t i = 0; i < 10; i++) {
		assert_null(upstream_pick(fake.u, &q, on_pick, &p));
		seen[p.last]++;
	}
	assert_int_equal(seen[1], 5);
	assert_int_equal(fake_connecting(), 0);
	fake_push_c(NULL);
	assert_null(upstream_pick(fake.u, &q, on_pick, &p));
	assert_int_equal(p.why, UPSTREAM_NO_CLUSTER);
}

static void test_an_endpoint_that_comes_later_starts_slowly(void **state)
{
	(void)state;
	struct http_cluster *c = fake_cluster(1);
	unsigned int seen[3] = { 0 };
	c->warmup_ms = 100000;
	fake_push_c(c);
	assert_int_equal(request_whole(200), 1);
	c = fake_cluster(2);
	c->warmup_ms = 100000;
	fake_push_c(c);
	for (size_t i = 0; i < 110; i++)
		seen[request_whole(200)]++;
	assert_in_range(seen[2], 8, 12); /* a tenth of its weight */
	fake_advance_ms(100000);
	memset(seen, 0, sizeof(seen));
	for (size_t i = 0; i < 100; i++)
		seen[request_whole(200)]++;
	assert_int_equal(seen[2], 50);
}

static void test_thousands_of_clusters_are_found_by_name(void **state)
{
	(void)state;
	static char names[3000][16];
	struct upstream_query q;
	struct request r;
	request_query(&q);
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < 3000; i++) {
			snprintf(names[i], sizeof(names[i]), "c%zu", i);
			if (!round) {
				struct http_cluster *c = fake_cluster(1);
				c->endpoints[0].addr.port = (uint16_t)(1 + i);
				http_cluster_seal(c);
				fake_push(names[i], c);
			}
			q.cluster = names[i];
			request_start_with(&r, &q);
			assert_int_equal(r.answers, 0);
			assert_int_equal(fake_connect_at(0)->to.port, 1 + i);
			fake_refused(fake_connect_at(0), -ECONNREFUSED);
			free(fake.connects[--fake.connect_count]);
		}
	assert_int_equal(fake.watched, 3000);
	/* The same place with another name in it is another cluster. */
	strcpy(names[0], "c7");
	q.cluster = names[0];
	request_start_with(&r, &q);
	assert_int_equal(fake_connect_at(0)->to.port, 8);
	fake_refused(fake_connect_at(0), -ECONNREFUSED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_requests_wait_for_the_first_answer),
		TEST(test_no_cluster_is_said_and_asked_again),
		TEST(test_without_endpoints_there_is_none),
		TEST(test_round_robin_reaches_all),
		TEST(test_a_new_version_keeps_what_stays),
		TEST(test_a_new_version_of_other_tls_makes_new_connections),
		TEST(test_who_waits_for_an_endpoint_that_goes_is_sent_to_another),
		TEST(test_a_cluster_that_goes_ends_what_waits_but_not_what_runs),
		TEST(test_an_unused_cluster_is_watched_no_more),
		TEST(test_passthrough_goes_where_the_caller_wanted),
		TEST(test_passthrough_takes_its_own_endpoints_when_the_address_is_anothers),
		TEST(test_passthrough_to_a_pod_goes_through_its_tunnel),
		TEST(test_passthrough_sends_nothing_before_the_address_is_known),
		TEST(test_passthrough_addresses_are_forgotten_and_bounded),
		TEST(test_dynamic_dns_asks_for_the_requests_host),
		TEST(test_a_pinned_endpoint_is_kept_while_it_is_well),
		TEST(test_previous_hosts_are_avoided),
		TEST(test_pick_chooses_without_connecting),
		TEST(test_an_endpoint_that_comes_later_starts_slowly),
		TEST(test_thousands_of_clusters_are_found_by_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
