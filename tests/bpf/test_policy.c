// SPDX-License-Identifier: Apache-2.0
/* The kernel's verdict against the model's: random policies, every verdict of the lowered tables must be policy_eval's.
 * Then the same code as the kernel runs it, for conditions that a connection between namespaces can fulfil. */
#include "tests/bpf/mesh.h"

#include "agent/base/err.h"
#include "agent/base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct mesh *const m = &mesh_shared;

static uint32_t seed = 1;

static uint32_t rnd(uint32_t n) /* xorshift: the same sequence at every run */
{
	seed ^= seed << 13;
	seed ^= seed >> 17;
	seed ^= seed << 5;
	return seed % n;
}

static void strings_random(struct match_strings *s, const char *const *from, uint32_t n)
{
	if (rnd(3))
		return;
	s->n = 1 + rnd(2);
	s->v = calloc(s->n, sizeof(*s->v));
	for (size_t i = 0; i < s->n; i++)
		match_string_init(&s->v[i], from[rnd(n)]);
}

static void ports_random(struct match_ports *p)
{
	if (rnd(3))
		return;
	p->n = 1 + rnd(2);
	p->v = calloc(p->n, sizeof(*p->v));
	for (size_t i = 0; i < p->n; i++)
		p->v[i] = (uint16_t)(80 + rnd(3));
}

static const char *const blocks[] = { "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "0.0.0.0/0",
				      "fd00::/8",   "fd00:1::/32", "::/0" };

static void cidrs_random(struct match_cidrs *c)
{
	if (rnd(4))
		return;
	c->n = 1 + rnd(2);
	c->v = calloc(c->n, sizeof(*c->v));
	for (size_t i = 0; i < c->n; i++)
		cidr_parse(blocks[rnd(7)], &c->v[i]);
}

static void match_random(struct policy_match *pm)
{
	static const char *const principals[] = { "cluster.local/ns/t/sa/a", "cluster.local/ns/t/*", "*/sa/c", "*",
						  "other/ns/t/sa/a" };
	static const char *const namespaces[] = { "t", "other", "*", "t*" };
	static const char *const accounts[] = { "t/a", "t/b", "other/a" };

	strings_random(&pm->principals, principals, 5);
	strings_random(&pm->not_principals, principals, 5);
	strings_random(&pm->namespaces, namespaces, 4);
	strings_random(&pm->not_namespaces, namespaces, 4);
	strings_random(&pm->service_accounts, accounts, 3);
	strings_random(&pm->not_service_accounts, accounts, 3);
	ports_random(&pm->ports);
	ports_random(&pm->not_ports);
	cidrs_random(&pm->ip_blocks);
	cidrs_random(&pm->not_ip_blocks);
	cidrs_random(&pm->remote_ip_blocks);
	cidrs_random(&pm->not_remote_ip_blocks);
	cidrs_random(&pm->destination_ips);
	cidrs_random(&pm->not_destination_ips);
	pm->has_http = !rnd(5);
}

static struct policy *policy_random(uint64_t id)
{
	struct policy *p = policy_new();
	size_t denies = rnd(3), allows = rnd(3);

	p->id = id;
	p->mtls = (enum mtls_mode)rnd(3);
	p->port_mtls_count = rnd(2);
	p->port_mtls = calloc(1, sizeof(*p->port_mtls));
	p->port_mtls[0] = (struct port_mtls){ (uint16_t)(80 + rnd(3)), (enum mtls_mode)rnd(3) };
	p->rule_count = denies + allows;
	p->has_allow = allows || !rnd(3);
	p->rules = calloc(p->rule_count + 1, sizeof(*p->rules));
	for (size_t i = 0; i < p->rule_count; i++) {
		struct policy_rule *r = &p->rules[i];

		*r = (struct policy_rule){ .action = i < denies ? POLICY_DENY : POLICY_ALLOW,
					   .name = strdup("t/r"),
					   .origin = strdup("x:1"),
					   .dry_run = !rnd(8) };
		r->match_count = rnd(4);
		r->matches = calloc(r->match_count + 1, sizeof(*r->matches));
		for (size_t j = 0; j < r->match_count; j++)
			match_random(&r->matches[j]);
	}
	return p;
}

static void compare(const struct mesh_pod *pod, const struct policy *p)
{
	static const char *const sources[] = { "10.1.2.3", "10.2.0.1", "192.0.2.1", "fd00:1::1", "2001:db8::1" };

	for (uint32_t peer = 0; peer < 5; peer++)
		for (size_t s = 0; s < 5; s++)
			for (uint16_t port = 79; port < 83; port++)
				for (int udp = 0; udp < 2; udp++) {
					uint32_t id = peer < 4 ? 100 + peer : 0;
					struct policy_input in = { .port = port, .proto = udp ? 17 : 6 };
					struct explain_inbound out;
					struct policy_verdict v;
					struct err err = ERR_INIT;
					struct identity *who = NULL;

					addr_parse(sources[s], &in.source);
					addr_parse(addr_is_v4(&in.source) ? pod->v4 : pod->v6, &in.destination);
					if (id) {
						who = identity_new("cluster.local", "t", m->pods[peer].name);
						in.peer = who;
					}
					policy_eval(p, &in, &v);
					assert_int_equal(kernel_explain_inbound(m->kernel, pod->pod, id, &in.source,
										port, in.proto, &out, &err),
							 0);
					if (out.reason != v.reason)
						fail_msg("policy %llu peer %u source %s port %u: kernel %d, model %d",
							 (unsigned long long)p->id, id, sources[s], port, out.reason,
							 v.reason);
					assert_int_equal(out.rule, v.rule ? (uint32_t)(v.rule - p->rules) : UINT32_MAX);
					identity_unref(who);
				}
}

static void test_verdict_random_policies_equal_model(void **state)
{
	(void)state;
	m->no_listeners = true;
	for (uint64_t round = 0; round < 60; round++) {
		for (int i = 0; i < MESH_PODS; i++) {
			policy_unref(m->pods[i].policy);
			m->pods[i].policy = policy_random(1000 + round * 8 + (uint64_t)i);
		}
		mesh_must_apply(m);
		for (int i = 0; i < 2; i++)
			compare(&m->pods[i], m->pods[i].policy);
	}
}

static struct policy *policy_with_rows(size_t rows)
{
	struct policy *p = policy_new();

	p->id = 5000 + rows;
	p->has_allow = true;
	p->rule_count = 1;
	p->rules = calloc(1, sizeof(*p->rules));
	p->rules[0] = (struct policy_rule){
		.action = POLICY_ALLOW, .name = strdup("t/big"), .origin = strdup("big.yaml:3"), .match_count = rows
	};
	p->rules[0].matches = calloc(rows, sizeof(struct policy_match));
	for (size_t i = 0; i < rows; i++) {
		p->rules[0].matches[i].ports.v = calloc(1, sizeof(uint16_t));
		p->rules[0].matches[i].ports.n = 1;
		p->rules[0].matches[i].ports.v[0] = (uint16_t)(8080 + i);
	}
	return p;
}

static void test_policy_256_rows_last_matches(void **state)
{
	char to[64];

	(void)state;
	m->pods[1].policy = policy_with_rows(256);
	mesh_must_apply(m);
	snprintf(to, sizeof(to), "%.31s:%d", m->pods[1].v4, 8080 + 255);
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, to);
	int fd = mesh_connect(&m->pods[0], AF_INET, to);

	assert_true(fd >= 0);
	close(fd);
	close(listener);
	assert_int_equal(mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:9999")), -ECONNREFUSED);
	assert_int_equal(mesh_drops(m, DROP_POLICY_NO_ALLOW), 1);
}

static void test_policy_too_many_rows_last_good_stays(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	m->pods[1].policy = policy_with_rows(1);
	mesh_must_apply(m);
	policy_unref(m->pods[1].policy);
	m->pods[1].policy = policy_with_rows(257);
	assert_int_equal(mesh_apply(m, &err), -E2BIG);
	assert_non_null(strstr(err.text, "big.yaml:3"));
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));
	int fd = mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:8080"));

	assert_true(fd >= 0);
	close(fd);
	close(listener);
	assert_int_equal(mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:8081")), -ECONNREFUSED);
}

/* --- a SYN from a raw socket with the address of a pod that may call */

static uint16_t checksum(const void *data, size_t len, uint32_t sum)
{
	const uint8_t *p = data;
	uint16_t word;

	for (; len > 1; len -= 2, p += 2) {
		memcpy(&word, p, 2);
		sum += word;
	}
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void syn_forge(const struct mesh_pod *from, const struct mesh_pod *as, const struct mesh_pod *to, uint16_t port)
{
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
	} packet = { 0 };
	struct {
		uint32_t source, destination;
		uint8_t zero, proto;
		uint16_t len;
	} pseudo = { 0 };
	struct addr source, destination;
	struct sockaddr_in sa = { .sin_family = AF_INET };

	addr_parse(as->v4, &source);
	addr_parse(to->v4, &destination);
	memcpy(&packet.ip.saddr, source.b + 12, 4);
	memcpy(&packet.ip.daddr, destination.b + 12, 4);
	packet.ip.version = 4;
	packet.ip.ihl = 5;
	packet.ip.ttl = 64;
	packet.ip.protocol = IPPROTO_TCP;
	packet.tcp.source = htons(40000);
	packet.tcp.dest = htons(port);
	packet.tcp.seq = 1;
	packet.tcp.doff = 5;
	packet.tcp.syn = 1;
	packet.tcp.window = 1000;
	pseudo.source = packet.ip.saddr;
	pseudo.destination = packet.ip.daddr;
	pseudo.proto = IPPROTO_TCP;
	pseudo.len = htons(sizeof(packet.tcp));
	packet.tcp.check = checksum(&packet.tcp, sizeof(packet.tcp), (uint16_t)~checksum(&pseudo, sizeof(pseudo), 0));
	sa.sin_addr.s_addr = packet.ip.daddr;
	mesh_enter(from);
	int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);

	mesh_enter(NULL);
	assert_true(fd >= 0);
	assert_int_equal(sendto(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&sa, sizeof(sa)), sizeof(packet));
	close(fd);
}

static void test_forged_syn_refused(void **state)
{
	(void)state;
	m->pods[1].policy = mesh_policy_strict();
	mesh_must_apply(m);
	int listener = mesh_listen(&m->pods[1], SOCK_STREAM, mesh_text(m, "$b4:8080"));
	int fd = mesh_connect(&m->pods[0], AF_INET, mesh_text(m, "$b4:8080"));

	assert_true(fd >= 0);
	assert_int_equal(mesh_drops(m, DROP_MTLS_REQUIRED), 0);
	syn_forge(&m->pods[2], &m->pods[0], &m->pods[1], 8080);
	for (int i = 0; i < 3000 && !mesh_drops(m, DROP_MTLS_REQUIRED); i++)
		usleep(10000);
	assert_int_equal(mesh_drops(m, DROP_MTLS_REQUIRED), 1);
	close(fd);
	close(listener);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		MESH_TEST(test_verdict_random_policies_equal_model),
		MESH_TEST(test_policy_256_rows_last_matches),
		MESH_TEST(test_policy_too_many_rows_last_good_stays),
		MESH_TEST(test_forged_syn_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
