/* SPDX-License-Identifier: Apache-2.0 */
/* BackendTLSPolicies: whose clusters they are for, and what those get. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/model/service.h"
#include "tests/unit/compile/http_world.h"

static struct world w;

#define FQDN "s.shop.svc.cluster.local"
#define HTTP "outbound|80||" FQDN
#define TCP "outbound|90||" FQDN
#define ENTRY "outbound|80||api.example"
#define POLICY(name, targets, validation)                                                                              \
	"apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: { name: " name                    \
	", namespace: shop }\nspec: { targetRefs: [ " targets " ], validation: { " validation " } }\n---\n"
#define SERVICE "{ group: '', kind: Service, name: s }"
#define PORT(port) "{ group: '', kind: Service, name: s, sectionName: " port " }"
#define SYSTEM "wellKnownCACertificates: System, hostname: "
#define REF(kind, name) "{ group: '', kind: " kind ", name: " name " }"
#define CA(kind, name, values)                                                                                         \
	"apiVersion: v1\nkind: " kind "\nmetadata: { name: " name ", namespace: shop }\n" values "\n---\n"
#define PEM(text) "'-----BEGIN CERTIFICATE----- " text "'"
#define RULE(spec)                                                                                                     \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: r, namespace: shop }\nspec: { "  \
	"host: s, trafficPolicy: { " spec " } }\n---\n"

static const char town[] = "apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: shop }\nspec: { clusterIPs: "
			   "[ 10.60.0.1 ], selector: "
			   "{ app: s }, ports: [ { name: http, port: 80 }, { name: tcp-db, port: 90 } ] }\n---\n"
			   "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: e, namespace: "
			   "shop }\nspec: { hosts: [ "
			   "api.example ], ports: [ { number: 80, name: http, protocol: HTTP } ], resolution: DNS }\n";

static char *on_read_file(void *arg, const char *path)
{
	(void)arg;
	return strdup(path);
}

static int on_setup(void **state)
{
	(void)state;
	world_init(&w, "n1");
	compiler_set_files(w.compiler, on_read_file, NULL);
	world_with(&w, town);
	return 0;
}

static int on_teardown(void **state)
{
	(void)state;
	world_done(&w);
	return 0;
}

/* "name" when TLS is spoken with that name, "-" when none is. */
static const char *sni_of(const char *cluster)
{
	static char text[64];
	struct http_cluster *c = http_cluster(&w, cluster);
	str_copy(text, sizeof(text), c->tls == CLUSTER_TLS_SIMPLE ? c->sni : "-");
	http_cluster_unref(c);
	return text;
}

static void test_targets_and_their_ports(void **state)
{
	(void)state;
	assert_string_equal(sni_of(HTTP), "-");
	assert_int_equal(world_port(&w, "shop", FQDN, 90)->l7, L7_NONE);
	world_with(&w, POLICY("b", SERVICE, SYSTEM "whole.example"));
	assert_string_equal(sni_of(HTTP), "whole.example");
	assert_string_equal(sni_of(TCP), "whole.example");
	assert_int_equal(world_port(&w, "shop", FQDN, 90)->l7, L7_TCP); /* the helper must see it */
	assert_string_equal(sni_of(ENTRY), "-");
	world_with(&w, POLICY("c", PORT("http"), SYSTEM "port.example"));
	assert_string_equal(sni_of(HTTP), "port.example");
	assert_string_equal(sni_of(TCP), "whole.example");
	world_with(&w, POLICY("a", SERVICE, SYSTEM "first.example"));
	assert_string_equal(sni_of(TCP), "first.example");
	assert_true(world_finds(&w, "BackendTLSPolicy/shop/b", "BackendTLSPolicy/shop/a is for it, too"));
	assert_true(world_finds(&w, "BackendTLSPolicy/shop/b", "Accepted=False (Conflicted)"));
	world_delete(&w, "BackendTLSPolicy/shop/a");
	world_delete(&w, "BackendTLSPolicy/shop/b");
	world_compile(&w);
	assert_string_equal(sni_of(TCP), "-");
	assert_int_equal(world_port(&w, "shop", FQDN, 90)->l7, L7_NONE);
	world_with(&w,
		   POLICY("e", "{ group: networking.istio.io, kind: ServiceEntry, name: e }", SYSTEM "entry.example"));
	assert_string_equal(sni_of(ENTRY), "entry.example");
	world_with(&w, POLICY("e", PORT("none") ", { group: '', kind: Service, name: nobody }", SYSTEM "x.example"));
	assert_true(world_finds(&w, "BackendTLSPolicy/shop/e", "has no port that is named none"));
	assert_true(world_finds(
		&w, "BackendTLSPolicy/shop/e",
		"Accepted=False (TargetNotFound): targetRef: there is no Service nobody in namespace shop"));
}

static void test_destination_rules_go_first(void **state)
{
	(void)state;
	world_with(&w, POLICY("a", SERVICE, SYSTEM "policy.example")
			       RULE("connectionPool: { tcp: { maxConnections: 1 } }"));
	assert_string_equal(sni_of(HTTP), "policy.example");
	world_with(&w, RULE("tls: { mode: SIMPLE, sni: rule.example }"));
	assert_string_equal(sni_of(HTTP), "rule.example");
	assert_true(world_finds(&w, "BackendTLSPolicy/shop/a", "the TLS settings of DestinationRule/shop/r count"));
	world_with(&w, RULE("tls: { mode: DISABLE }"));
	assert_string_equal(sni_of(HTTP), "-");
}

static void expect(const char *yaml, const char *ca, const char *names)
{
	char text[128] = "";
	world_with(&w, yaml);
	struct http_cluster *c = http_cluster(&w, HTTP);
	for (size_t i = 0; i < c->subject_alt_name_count; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "",
			 c->subject_alt_names[i]);
	assert_string_equal(text, names);
	if (*ca ? !strstr(c->ca_pem, ca) : *c->ca_pem)
		fail_msg("%s\n%s", yaml, c->ca_pem);
	assert_false(c->insecure);
	http_cluster_unref(c);
}

static void test_whom_to_trust_and_expect(void **state)
{
	(void)state;
	expect(POLICY("a", SERVICE, SYSTEM "x.example"), COMPILE_SYSTEM_ROOTS, "x.example");
	expect(POLICY("a", SERVICE, "caCertificateRefs: [ " REF("ConfigMap", "m") " ], hostname: x.example"), "",
	       "x.example");
	assert_true(world_finds(&w, "BackendTLSPolicy/shop/a", "ConfigMap m of namespace shop does not exist"));
	assert_true(world_finds(&w, "BackendTLSPolicy/shop/a", "ResolvedRefs=False (InvalidCACertificateRef)"));
	assert_true(world_finds(&w, "BackendTLSPolicy/shop/a",
				"Accepted=False (NoValidCACertificate): there is nobody to trust"));
	expect(CA("ConfigMap", "m", "data: { ca.crt: words }"), "", "x.example");
	assert_true(world_finds(&w, "BackendTLSPolicy/shop/a", "has no ca.crt that is PEM"));
	expect(CA("ConfigMap", "m", "data: { ca.crt: " PEM("map") " }"), "map", "x.example");
	assert_false(world_finds(&w, "BackendTLSPolicy/shop/a", "caCertificateRefs"));
	expect(CA("Secret", "k", "stringData: { ca.crt: " PEM("secret") " }") POLICY(
		       "a", SERVICE,
		       "caCertificateRefs: [ " REF("ConfigMap", "none") ", " REF(
			       "Secret", "k") " ], hostname: x.example, subjectAltNames: [ { type: Hostname, hostname: "
					      "y.example }, { type: URI, uri: 'spiffe://td/x' } ]"),
	       "secret", "y.example spiffe://td/x");
	assert_false(world_finds(&w, "BackendTLSPolicy/shop/a", "nobody to trust"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)
		T(test_targets_and_their_ports),
		T(test_destination_rules_go_first),
		T(test_whom_to_trust_and_expect),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
