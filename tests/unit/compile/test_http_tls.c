/* SPDX-License-Identifier: Apache-2.0 */
/* Which certificates a cluster's TLS gets of files and Secrets, and what is said of those that are not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "tests/unit/compile/http_world.h"

static struct world w;

#define ALL "outbound|80||s.shop.svc.cluster.local"
#define RULE(spec)                                                                                                     \
	"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: r, namespace: shop }\nspec: { "  \
	"host: s, trafficPolicy: { tls: { " spec " } } }\n---\n"
#define SECRET_OF(ns, name, values)                                                                                    \
	"apiVersion: v1\nkind: Secret\nmetadata: { name: " name ", namespace: " ns " }\nstringData: { " values         \
	" }\n---\n"
#define SECRET(name, values) SECRET_OF("shop", name, values)
#define PEM(what, text) "\"-----BEGIN " what "----- " text "\""
#define CERT(text) PEM("CERTIFICATE", text)
#define KEY(text) PEM("EC PRIVATE KEY", text)
#define CRL(text) PEM("X509 CRL", text)

static const char town[] = "apiVersion: v1\nkind: Service\nmetadata: { name: s, namespace: shop }\nspec: { clusterIPs: "
			   "[ 10.60.0.1 ], selector: { app: s }, ports: [ { name: http, port: 80 } ] }\n";

static char *on_read_file(void *arg, const char *path)
{
	(void)arg;
	return path[0] == '/' && strcmp(path, "/none") != 0 ? strdup(path) :
	       strcmp(path, COMPILE_SYSTEM_ROOTS) == 0	    ? strdup("ROOTS") :
							      NULL;
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

static bool has(const char *text, const char *part)
{
	return part ? text && (*part ? strstr(text, part) != NULL : !*text) : !text;
}

/* NULL: absent; "": empty, which verifies nothing. */
static void expect(const char *yaml, const char *ca, const char *crl, const char *chain, const char *key)
{
	world_with(&w, yaml);
	struct http_cluster *c = http_cluster(&w, ALL);
	if (!has(c->ca_pem, ca) || !has(c->crl_pem, crl) || !has(c->chain_pem, chain) || !has(c->key_pem, key))
		fail_msg("%s\nca %s, crl %s, chain %s, key %s", yaml, c->ca_pem, c->crl_pem, c->chain_pem, c->key_pem);
	http_cluster_unref(c);
}

static void found(const char *part)
{
	assert_true(world_finds(&w, "DestinationRule/shop/r", part));
}

static void test_simple_takes_roots_of_the_secret(void **state)
{
	(void)state;
	expect(RULE("mode: SIMPLE, credentialName: c") SECRET("c", "cacert: " CERT("opaque")), "opaque", NULL, NULL,
	       NULL);
	assert_false(world_finds(&w, "DestinationRule/shop/r", "tls."));
	expect(SECRET("c", "ca.crt: " CERT("tls") ", ca.crl: " CRL("list")), "tls", "list", NULL, NULL);
	expect(SECRET("c", "cacert: " CERT("opaque") ", crl: " CRL("list") ", ca.crl: " CRL("other")), "opaque", "list",
	       NULL, NULL);
}

static void test_separate_secret_of_roots_goes_first(void **state)
{
	(void)state;
	expect(RULE("mode: MUTUAL, credentialName: c")
		       SECRET("c", "cacert: " CERT("no") ", cert: " CERT("mine") ", key: " KEY("mykey"))
			       SECRET("c-cacert", "cacert: " CERT("yes")),
	       "yes", NULL, "mine", "mykey");
	expect(RULE("mode: SIMPLE, credentialName: c"), "yes", NULL, NULL, NULL);
	world_delete(&w, "Secret/shop/c");
	expect(RULE("mode: SIMPLE, credentialName: c"), "yes", NULL, NULL, NULL);
	expect(RULE("mode: MUTUAL, credentialName: c"), "yes", NULL, "", "");
	found("there is no Secret c in namespace shop");
}

static void test_mutual_takes_both_forms(void **state)
{
	(void)state;
	expect(RULE("mode: MUTUAL, credentialName: c")
		       SECRET("c", "tls.crt: " CERT("mine") ", tls.key: " KEY("mykey") ", ca.crt: " CERT("roots")),
	       "roots", NULL, "mine", "mykey");
	expect(SECRET("c", "cert: " CERT("a") ", key: " KEY("b") ", tls.crt: " CERT("c") ", tls.key: " KEY(
				   "d") ", "
					"cacert: " CERT("e")),
	       "e", NULL, "a", "b");
}

/* Each fails closed, and says where. */
static void test_missing_and_broken_secrets(void **state)
{
	(void)state;
	expect(RULE("mode: SIMPLE, credentialName: c"), "", NULL, NULL, NULL);
	found("tls.credentialName: there is no Secret c in namespace shop: the connections fail");
	expect(SECRET_OF("other", "c", "cacert: " CERT("x")), "", NULL, NULL, NULL); /* of others nothing is taken */
	expect(SECRET("c", "tls.crt: " CERT("x")), "", NULL, NULL, NULL);
	found("Secret/shop/c (test-mesh.yaml:1) has no certificates to trust");
	expect(SECRET("c", "cacert: words"), "", NULL, NULL, NULL);
	found("cacert is no PEM of a CERTIFICATE");
	expect(SECRET("c", "cacert: " CERT("x") ", crl: words"), "", NULL, NULL, NULL);
	found("crl is no PEM of a CRL");
	expect(RULE("mode: MUTUAL, credentialName: c") SECRET("c", "cacert: " CERT("x") ", cert: " CERT("y")), "x",
	       NULL, "", "");
	found("has no certificate of our own");
	expect(SECRET("c", "cacert: " CERT("x") ", cert: " CERT("y") ", key: " CERT("z")), "x", NULL, "y", "");
	found("key is no PEM of a PRIVATE KEY");
}

static void test_insecure_needs_no_roots(void **state)
{
	(void)state;
	expect(RULE("mode: MUTUAL, credentialName: c, insecureSkipVerify: true")
		       SECRET("c", "cert: " CERT("y") ", key: " KEY("z")),
	       NULL, NULL, "y", "z");
	assert_false(world_finds(&w, "DestinationRule/shop/r", "credentialName"));
}

static void test_files_and_what_they_revoke(void **state)
{
	(void)state;
	expect(RULE("mode: SIMPLE, caCertificates: /ca, caCrl: /crl"), "/ca", "/crl", NULL, NULL);
	assert_false(world_finds(&w, "DestinationRule/shop/r", "tls."));
	expect(RULE("mode: SIMPLE, caCertificates: /ca, caCrl: /none"), "/ca", "", NULL, NULL);
	found("tls.caCrl: /none can't be read: the connections fail");
	expect(RULE("mode: MUTUAL, clientCertificate: /none, privateKey: /key, caCertificates: /none"), "", NULL, "",
	       "/key");
	found("tls.caCertificates: /none can't be read");
	expect(RULE("mode: SIMPLE"), "ROOTS", NULL, NULL, NULL);
}

/* A new value is a new cluster; an unchanged one is not. */
static void test_change_of_a_secret_changes_the_cluster(void **state)
{
	(void)state;
	world_with(&w, RULE("mode: SIMPLE, credentialName: c") SECRET("c", "cacert: " CERT("one")));
	struct http_cluster *a = http_cluster(&w, ALL);
	world_with(&w, SECRET("d", "cacert: " CERT("two")));
	struct http_cluster *b = http_cluster(&w, ALL);
	assert_true(a->id == b->id);
	world_with(&w, SECRET("c", "cacert: " CERT("two")));
	struct http_cluster *c = http_cluster(&w, ALL);
	assert_true(a->id != c->id);
	world_with(&w, SECRET("c", "cacert: " CERT("two") ", crl: " CRL("list")));
	struct http_cluster *d = http_cluster(&w, ALL);
	assert_true(d->id != c->id);
	http_cluster_unref(a);
	http_cluster_unref(b);
	http_cluster_unref(c);
	http_cluster_unref(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)
		T(test_simple_takes_roots_of_the_secret),
		T(test_separate_secret_of_roots_goes_first),
		T(test_mutual_takes_both_forms),
		T(test_missing_and_broken_secrets),
		T(test_insecure_needs_no_roots),
		T(test_files_and_what_they_revoke),
		T(test_change_of_a_secret_changes_the_cluster),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
