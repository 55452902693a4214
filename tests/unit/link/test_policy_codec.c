/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/link/message.h"
#include "agent/model/policy.h"

static void strings_add(struct match_strings *s, const char *pattern)
{
	s->v = realloc(s->v, (s->n + 1) * sizeof(*s->v));
	assert_int_equal(match_string_init(&s->v[s->n++], pattern), 0);
}

static void cidrs_add(struct match_cidrs *c, const char *text)
{
	c->v = realloc(c->v, (c->n + 1) * sizeof(*c->v));
	assert_int_equal(cidr_parse(text, &c->v[c->n++]), 0);
}

static void ports_add(struct match_ports *p, uint16_t port)
{
	p->v = realloc(p->v, (p->n + 1) * sizeof(*p->v));
	p->v[p->n++] = port;
}

/* Every field of an alternative, each with something of its own. */
static void match_fill(struct policy_match *m)
{
	strings_add(&m->principals, "cluster.local/ns/a/*");
	strings_add(&m->not_principals, "*/sa/evil");
	strings_add(&m->namespaces, "shop");
	strings_add(&m->not_namespaces, "dev");
	strings_add(&m->service_accounts, "shop/web");
	strings_add(&m->not_service_accounts, "*");
	cidrs_add(&m->ip_blocks, "10.0.0.0/8");
	cidrs_add(&m->not_ip_blocks, "10.1.0.0/16");
	cidrs_add(&m->remote_ip_blocks, "fd00::/8");
	cidrs_add(&m->not_remote_ip_blocks, "fd01::1");
	cidrs_add(&m->destination_ips, "::/0");
	cidrs_add(&m->not_destination_ips, "0.0.0.0/0");
	ports_add(&m->ports, 443);
	ports_add(&m->not_ports, 65535);
	m->has_http = true;
	strings_add(&m->request_principals, "https://issuer/*");
	strings_add(&m->not_request_principals, "*/bob");
	strings_add(&m->hosts, "*.shop.example");
	strings_add(&m->not_hosts, "evil.shop.example");
	strings_add(&m->methods, "GET");
	strings_add(&m->not_methods, "DELETE");
	strings_add(&m->paths, "/a*");
	m->not_paths.v = calloc(1, sizeof(*m->not_paths.v));
	m->not_paths.n = 1;
	assert_int_equal(match_path_init(m->not_paths.v, "/a/{*}/{**}"), 0);
}

static void when_fill(struct policy_rule *r)
{
	r->when = calloc(2, sizeof(*r->when));
	r->when_count = 2;
	r->when[0].attribute = POLICY_CLAIM;
	r->when[0].path = calloc(2, sizeof(char *));
	r->when[0].path[r->when[0].path_count++] = strdup("realm");
	r->when[0].path[r->when[0].path_count++] = strdup("roles");
	strings_add(&r->when[0].values, "admin");
	r->when[1].attribute = POLICY_SNI;
	strings_add(&r->when[1].not_values, "*.x");
}

static struct policy *policy_make(void)
{
	struct policy *p = policy_new();
	p->id = 0x123456789abcdefull;
	p->mtls = MTLS_STRICT;
	p->mtls_origin = strdup("11-mtls.yaml:3");
	p->has_allow = true;
	p->allow_names = strdup("shop/callers");
	p->port_mtls = calloc(1, sizeof(*p->port_mtls));
	p->port_mtls[p->port_mtls_count++] = (struct port_mtls){ 8080, MTLS_DISABLE };
	p->rules = calloc(2, sizeof(*p->rules));
	p->rule_count = 2;
	p->rules[0] =
		(struct policy_rule){ .action = POLICY_DENY, .name = strdup("shop/deny"), .origin = strdup("f:1") };
	p->rules[1] = (struct policy_rule){ .action = POLICY_ALLOW,
					    .name = strdup("shop/callers"),
					    .origin = strdup("f:9"),
					    .index = 3,
					    .dry_run = true };
	p->rules[1].matches = calloc(1, sizeof(struct policy_match));
	p->rules[1].match_count = 1;
	match_fill(&p->rules[1].matches[0]);
	when_fill(&p->rules[1]);
	p->rules[0].provider = strdup("ext");
	return p;
}

/* Over the wire, as the link sends it. */
static struct policy *there_and_back(const struct policy *p)
{
	Weft__Link__Policy *m = NULL;
	assert_int_equal(message_policy_encode(p, &m), 0);
	size_t len = weft__link__policy__get_packed_size(m);
	uint8_t *bytes = malloc(len);
	weft__link__policy__pack(m, bytes);
	weft__link__policy__free_unpacked(m, NULL);
	m = weft__link__policy__unpack(NULL, len, bytes);
	free(bytes);
	struct policy *out = NULL;
	assert_int_equal(message_policy_decode(m, &out), 0);
	weft__link__policy__free_unpacked(m, NULL);
	return out;
}

static void assert_strings(const struct match_strings *a, const struct match_strings *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		assert_int_equal(a->v[i].kind, b->v[i].kind);
		assert_string_equal(a->v[i].text, b->v[i].text);
	}
}

static void assert_cidrs(const struct match_cidrs *a, const struct match_cidrs *b)
{
	assert_int_equal(a->n, b->n);
	for (size_t i = 0; i < a->n; i++) {
		assert_true(addr_eq(&a->v[i].addr, &b->v[i].addr));
		assert_int_equal(a->v[i].bits, b->v[i].bits);
	}
}

static void test_policy_encode_decode_keeps_everything(void **state)
{
	(void)state;
	struct policy *p = policy_make(), *q = there_and_back(p);
	assert_true(q->id == p->id);
	assert_int_equal(q->mtls, MTLS_STRICT);
	assert_true(q->has_allow);
	assert_string_equal(q->mtls_origin, p->mtls_origin);
	assert_string_equal(q->allow_names, p->allow_names);
	assert_int_equal(policy_mtls_mode(q, 8080), MTLS_DISABLE);
	assert_int_equal(q->rule_count, 2);
	assert_int_equal(q->rules[0].action, POLICY_DENY);
	assert_int_equal(q->rules[0].match_count, 0);
	assert_string_equal(q->rules[1].name, "shop/callers");
	assert_string_equal(q->rules[1].origin, "f:9");
	assert_int_equal(q->rules[1].index, 3);
	assert_true(q->rules[1].dry_run);
	const struct policy_match *a = &p->rules[1].matches[0], *b = &q->rules[1].matches[0];
	assert_strings(&a->principals, &b->principals);
	assert_strings(&a->not_principals, &b->not_principals);
	assert_strings(&a->namespaces, &b->namespaces);
	assert_strings(&a->not_namespaces, &b->not_namespaces);
	assert_strings(&a->service_accounts, &b->service_accounts);
	assert_strings(&a->not_service_accounts, &b->not_service_accounts);
	assert_cidrs(&a->ip_blocks, &b->ip_blocks);
	assert_cidrs(&a->not_ip_blocks, &b->not_ip_blocks);
	assert_cidrs(&a->remote_ip_blocks, &b->remote_ip_blocks);
	assert_cidrs(&a->not_remote_ip_blocks, &b->not_remote_ip_blocks);
	assert_cidrs(&a->destination_ips, &b->destination_ips);
	assert_cidrs(&a->not_destination_ips, &b->not_destination_ips);
	assert_int_equal(b->ports.n, 1);
	assert_int_equal(b->ports.v[0], 443);
	assert_int_equal(b->not_ports.v[0], 65535);
	assert_true(b->has_http);
	assert_strings(&a->request_principals, &b->request_principals);
	assert_strings(&a->not_request_principals, &b->not_request_principals);
	assert_strings(&a->hosts, &b->hosts);
	assert_strings(&a->not_hosts, &b->not_hosts);
	assert_strings(&a->methods, &b->methods);
	assert_strings(&a->not_methods, &b->not_methods);
	assert_strings(&a->paths, &b->paths);
	assert_strings(&a->not_paths, &b->not_paths);
	assert_string_equal(q->rules[0].provider, "ext");
	assert_null(q->rules[1].provider);
	assert_int_equal(q->rules[1].when_count, 2);
	const struct policy_condition *c = &q->rules[1].when[0];
	assert_int_equal(c->attribute, POLICY_CLAIM);
	assert_int_equal(c->path_count, 2);
	assert_string_equal(c->path[0], "realm");
	assert_string_equal(c->path[1], "roles");
	assert_strings(&c->values, &p->rules[1].when[0].values);
	assert_int_equal(q->rules[1].when[1].attribute, POLICY_SNI);
	assert_strings(&q->rules[1].when[1].not_values, &p->rules[1].when[1].not_values);
	policy_unref(p);
	policy_unref(q);
}

static void test_policy_encode_decode_empty_allow_still_refuses(void **state)
{
	(void)state;
	struct policy *p = policy_new();
	p->has_allow = true; /* an ALLOW document without rules */
	struct policy *q = there_and_back(p);
	struct policy_verdict verdict;
	struct policy_input in = { .port = 80, .proto = IPPROTO_TCP };
	policy_eval(q, &in, &verdict);
	assert_int_equal(verdict.reason, DROP_POLICY_NO_ALLOW);
	policy_unref(p);
	policy_unref(q);
}

static void test_policy_decode_nonsense_is_refused(void **state)
{
	(void)state;
	struct policy *p = policy_make(), *out = NULL;
	Weft__Link__Policy *m = NULL;
	assert_int_equal(message_policy_encode(p, &m), 0);
	Weft__Link__PolicyMatch *match = m->rules[1]->matches[0];
	struct {
		uint32_t *field, bad;
	} cases[] = { { &m->mtls, MTLS_DISABLE + 1 },
		      { &m->rules[0]->action, POLICY_CUSTOM + 1 },
		      { &m->port_mtls[0]->port, 65536 },
		      { &m->port_mtls[0]->mode, 3 },
		      { &match->principals[0]->kind, MATCH_TEMPLATE },
		      { &match->paths[0]->kind, MATCH_TEMPLATE + 1 },
		      { &m->rules[1]->when[0]->attribute, POLICY_SNI + 1 },
		      { &m->rules[1]->when[0]->attribute, POLICY_HEADER }, /* has two names */
		      { &m->rules[1]->when[1]->attribute, POLICY_CLAIM },  /* has none */
		      { &match->ip_blocks[0]->bits, 129 },
		      { &match->ports[0], 70000 } };
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t good = *cases[i].field;
		*cases[i].field = cases[i].bad;
		assert_int_equal(message_policy_decode(m, &out), -EINVAL);
		*cases[i].field = good;
	}
	match->ip_blocks[0]->addr.len = 4;
	assert_int_equal(message_policy_decode(m, &out), -EINVAL);
	match->ip_blocks[0]->addr.len = 16;
	assert_int_equal(message_policy_decode(m, &out), 0);
	policy_unref(out);
	policy_unref(p);
	weft__link__policy__free_unpacked(m, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_policy_encode_decode_keeps_everything),
		cmocka_unit_test(test_policy_encode_decode_empty_allow_still_refuses),
		cmocka_unit_test(test_policy_decode_nonsense_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
