// SPDX-License-Identifier: Apache-2.0
/* The inbound program alone, by BPF_PROG_TEST_RUN: an address tuple in, a verdict and a chosen socket out. Prints what a
 * verdict costs. */
#include "tests/bpf/mesh.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <cmocka.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct mesh *const m = &mesh_shared;

static struct policy *policy_ports(size_t rows, enum mtls_mode mtls)
{
	struct policy *p = policy_new();

	p->id = 900 + rows;
	p->mtls = mtls;
	p->has_allow = rows > 0;
	p->rule_count = rows ? 1 : 0;
	p->rules = calloc(1, sizeof(*p->rules));
	p->rules[0] = (struct policy_rule){
		.action = POLICY_ALLOW, .name = strdup("t/r"), .origin = strdup("x:1"), .match_count = rows
	};
	p->rules[0].matches = calloc(rows + 1, sizeof(struct policy_match));
	for (size_t i = 0; i < rows; i++) {
		p->rules[0].matches[i].ports.v = calloc(1, sizeof(uint16_t));
		p->rules[0].matches[i].ports.v[0] = (uint16_t)(8000 + i);
		p->rules[0].matches[i].ports.n = 1;
	}
	return p;
}

/* The policies of the pods stand for the cases: a none, b STRICT, c 10 rows, d 256 rows. */
static int on_setup(void **state)
{
	(void)state;
	mesh_up(m);
	m->pods[1].policy = policy_ports(0, MTLS_STRICT);
	m->pods[2].policy = policy_ports(10, MTLS_PERMISSIVE);
	m->pods[3].policy = policy_ports(256, MTLS_PERMISSIVE);
	mesh_must_apply(m);
	return 0;
}

static int program_of(const struct mesh_pod *pod)
{
	struct bpf_link_info info = { 0 };
	uint32_t len = sizeof(info);
	char path[128];

	snprintf(path, sizeof(path), "/sys/fs/bpf/weft/%.31s/pods/%llu", m->instance,
		 (unsigned long long)pod->pod->cookie);
	int link = bpf_obj_get(path);

	assert_true(link >= 0);
	assert_int_equal(bpf_obj_get_info_by_fd(link, &info, &len), 0);
	close(link);
	int prog = bpf_prog_get_fd_by_id(info.prog_id);

	assert_true(prog >= 0);
	return prog;
}

struct run {
	uint32_t verdict, duration_ns;
	uint64_t socket; /* cookie of the socket that was chosen */
};

static struct run run(const struct mesh_pod *pod, uint8_t proto, const char *remote, const char *local, int repeat)
{
	struct bpf_sk_lookup ctx = { .protocol = proto };
	struct addr_port r, l;

	assert_int_equal(addr_port_parse(remote, &r), 0);
	assert_int_equal(addr_port_parse(local, &l), 0);
	ctx.family = addr_is_v4(&r.addr) ? AF_INET : AF_INET6;
	if (ctx.family == AF_INET) {
		memcpy(&ctx.remote_ip4, r.addr.b + 12, 4);
		memcpy(&ctx.local_ip4, l.addr.b + 12, 4);
	} else {
		memcpy(ctx.remote_ip6, r.addr.b, 16);
		memcpy(ctx.local_ip6, l.addr.b, 16);
	}
	ctx.remote_port = htons(r.port);
	ctx.local_port = l.port;
	int prog = program_of(pod);
	struct bpf_sk_lookup out = { 0 };
	LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &ctx, .ctx_size_in = sizeof(ctx), .ctx_out = &out,
		    .ctx_size_out = sizeof(out), .repeat = repeat);

	mesh_enter(pod); /* the chosen socket must be of the namespace that the run is in */
	int rc = bpf_prog_test_run_opts(prog, &opts);

	mesh_enter(NULL);
	close(prog);
	assert_int_equal(rc, 0);
	return (struct run){ opts.retval, opts.duration, out.cookie };
}

static void test_inbound_loopback_passes(void **state)
{
	(void)state;
	assert_int_equal(run(&m->pods[1], IPPROTO_TCP, "127.0.0.1:5000", "127.0.0.1:80", 1).verdict, SK_PASS);
	assert_int_equal(run(&m->pods[1], IPPROTO_TCP, "[::1]:5000", "[::1]:80", 1).verdict, SK_PASS);
}

static void test_inbound_strict_anonymous_drops(void **state)
{
	(void)state;
	assert_int_equal(run(&m->pods[1], IPPROTO_TCP, "10.9.9.9:5000", "10.0.0.1:80", 1).verdict, SK_DROP);
	assert_int_equal(run(&m->pods[1], IPPROTO_TCP, "[fd09::9]:5000", "[fd00::1]:80", 1).verdict, SK_DROP);
	assert_int_equal(run(&m->pods[1], IPPROTO_UDP, "10.9.9.9:5000", "10.0.0.1:80", 1).verdict, SK_DROP);
	assert_int_equal(mesh_drops(m, DROP_MTLS_REQUIRED), 3);
}

static void test_inbound_hbone_chooses_listener(void **state)
{
	(void)state;
	struct run r = run(&m->pods[1], IPPROTO_TCP, "10.9.9.9:5000", "10.0.0.1:15008", 1);

	assert_int_equal(r.verdict, SK_PASS);
	assert_true(r.socket != 0);
	assert_int_equal(run(&m->pods[1], IPPROTO_UDP, "10.9.9.9:5000", "10.0.0.1:15008", 1).verdict, SK_DROP);
}

static void test_inbound_rows_decide(void **state)
{
	(void)state;
	assert_int_equal(run(&m->pods[2], IPPROTO_TCP, "10.9.9.9:5000", "10.0.0.1:8009", 1).verdict, SK_PASS);
	assert_int_equal(run(&m->pods[2], IPPROTO_TCP, "10.9.9.9:5000", "10.0.0.1:8010", 1).verdict, SK_DROP);
	assert_int_equal(mesh_drops(m, DROP_POLICY_NO_ALLOW), 1);
	assert_int_equal(run(&m->pods[3], IPPROTO_TCP, "10.9.9.9:5000", "10.0.0.1:8255", 1).verdict, SK_PASS);
}

static void test_inbound_cost_is_printed(void **state)
{
	(void)state;
	print_message("ns per verdict: no rule %u, 10 rows %u, 256 rows %u\n",
		      run(&m->pods[0], IPPROTO_TCP, "10.9.9.9:5000", "10.0.0.1:80", 1000).duration_ns,
		      run(&m->pods[2], IPPROTO_TCP, "10.9.9.9:5000", "10.0.0.1:8009", 1000).duration_ns,
		      run(&m->pods[3], IPPROTO_TCP, "10.9.9.9:5000", "10.0.0.1:8255", 1000).duration_ns);
}

#define T(f) cmocka_unit_test_setup_teardown(f, on_setup, mesh_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_inbound_loopback_passes),	T(test_inbound_strict_anonymous_drops),
		T(test_inbound_hbone_chooses_listener), T(test_inbound_rows_decide),
		T(test_inbound_cost_is_printed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
