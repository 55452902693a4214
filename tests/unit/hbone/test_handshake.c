/* SPDX-License-Identifier: Apache-2.0 */
/* Who gets through the handshake of a worker's tunnel, and with which reason others do not. */
#include "agent/base/loop.h"
#include "agent/helper/tls_credentials.h"
#include "tests/unit/hbone/raw_peer.h"
#include "tests/unit/hbone/world.h"

#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct raw_peer peer;

/* Connects with these options; the server must let it through to HTTP/2. */
static void expect_accepted(struct world *w, const struct raw_options *o)
{
	assert_true(raw_connect(&peer, w->loop, &w->server.tunnel, o));
	raw_begin(&peer);
	raw_request(&peer, 1, w->authority, 0);
	assert_int_equal(raw_status(&peer, 1), 200);
	assert_int_equal(w->server.metrics.handshakes_failed, 0);
	raw_close(&peer);
	tls_credentials_unref(o->credentials);
}

static void expect_refused(struct world *w, const struct raw_options *o, enum drop_reason reason)
{
	if (raw_connect(&peer, w->loop, &w->server.tunnel, o)) {
		raw_begin(&peer);
		assert_true(raw_is_over(&peer));
	}
	raw_close(&peer);
	run_until_count(w->loop, &w->server.drops[reason], 1);
	assert_int_equal(w->server.metrics.handshakes_failed, 1);
	assert_int_equal(w->server.metrics.handshakes_server, 0);
	tls_credentials_unref(o->credentials);
}

static struct tls_credentials *credentials(struct world *w, struct test_ca *ca, struct cert_options o)
{
	struct tls_credentials *c = test_credentials(ca ? ca : w->ca, o.uris[0], &o);
	assert_non_null(c);
	return c;
}

static void test_handshake_good_peer_is_accepted(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials = test_credentials_for(w->ca, FRONTEND) };
	expect_accepted(w, &o);
}

static void test_handshake_aes256_and_p256_are_accepted(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials = test_credentials_for(w->ca, FRONTEND),
				 .ciphers = "TLS_AES_256_GCM_SHA384",
				 .groups = "P-256" };
	expect_accepted(w, &o);
}

static void test_handshake_rsa_peer_is_accepted(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials = credentials(
					 w, NULL, (struct cert_options){ .uris = { FRONTEND }, .rsa = true }) };
	expect_accepted(w, &o);
}

static void test_handshake_alias_of_trust_domain_is_accepted(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials = test_credentials_for(w->ca, "spiffe://old.local/ns/a/sa/b") };
	expect_accepted(w, &o);
}

static void test_handshake_dns_san_beside_the_uri_is_accepted(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials = credentials(
					 w, NULL, (struct cert_options){ .uris = { FRONTEND }, .dns = "x.shop" }) };
	expect_accepted(w, &o);
}

static void test_handshake_foreign_root_is_untrusted(void **state)
{
	struct world *w = *state;
	struct test_ca *foreign = test_ca_new(false);
	struct raw_options o = { .credentials = test_credentials_for(foreign, FRONTEND) };
	expect_refused(w, &o, DROP_TLS_UNTRUSTED);
	test_ca_free(foreign);
}

static void test_handshake_expired_is_untrusted(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials = credentials(
					 w, NULL, (struct cert_options){ .uris = { FRONTEND }, .expired = true }) };
	expect_refused(w, &o, DROP_TLS_UNTRUSTED);
}

static void test_handshake_self_signed_is_untrusted(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials = credentials(
					 w, NULL, (struct cert_options){ .uris = { FRONTEND }, .self_signed = true }) };
	expect_refused(w, &o, DROP_TLS_UNTRUSTED);
}

static void test_handshake_foreign_trust_domain_is_refused(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials =
					 test_credentials_for(w->ca, "spiffe://evil.example/ns/shop/sa/frontend") };
	expect_refused(w, &o, DROP_TLS_IDENTITY);
	assert_string_equal(w->server.drop_peer, "spiffe://evil.example/ns/shop/sa/frontend");
}

static void test_handshake_uri_that_is_not_spiffe_is_refused(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials =
					 test_credentials_for(w->ca, "https://cluster.local/ns/shop/sa/frontend") };
	expect_refused(w, &o, DROP_TLS_IDENTITY);
}

static void test_handshake_revoked_is_refused(void **state)
{
	struct world *w = *state;
	hbone_trust(w->server.hbone, test_trust(w->ca, "00BEEF"));
	struct raw_options o = { .credentials = credentials(
					 w, NULL, (struct cert_options){ .uris = { FRONTEND }, .serial = 0xbeef }) };
	expect_refused(w, &o, DROP_TLS_REVOKED);
}

static void test_handshake_without_certificate_is_refused(void **state)
{
	struct world *w = *state;
	struct raw_options o = { 0 };
	expect_refused(w, &o, DROP_TLS_HANDSHAKE);
}

static void test_handshake_tls12_is_refused(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials = test_credentials_for(w->ca, FRONTEND), .max_version = TLS1_2_VERSION };
	expect_refused(w, &o, DROP_TLS_HANDSHAKE);
}

static void test_handshake_chacha_is_refused(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials = test_credentials_for(w->ca, FRONTEND),
				 .ciphers = "TLS_CHACHA20_POLY1305_SHA256" };
	expect_refused(w, &o, DROP_TLS_HANDSHAKE);
}

static void test_handshake_other_alpn_is_refused(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials = test_credentials_for(w->ca, FRONTEND), .alpn = "\x08http/1.1" };
	expect_refused(w, &o, DROP_TLS_HANDSHAKE);
}

static void test_handshake_without_alpn_is_refused(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials = test_credentials_for(w->ca, FRONTEND), .alpn = "" };
	if (raw_connect(&peer, w->loop, &w->server.tunnel, &o))
		assert_true(raw_is_over(&peer));
	raw_close(&peer);
	run_until_count(w->loop, &w->server.drops[DROP_TLS_HANDSHAKE], 1);
	tls_credentials_unref(o.credentials);
}

/* Certificates that our own side refuses to install can't be had through it: they are read by tls_peer_uri(), which
 * test_peer.c covers with several, none and malformed SANs; here the two ends of the seam. */
static void test_credentials_with_two_uris_are_refused(void **state)
{
	struct world *w = *state;
	struct cert_options o = { .uris = { FRONTEND, BACKEND } };
	assert_null(test_credentials(w->ca, FRONTEND, &o));
}

static void test_credentials_without_uri_are_refused(void **state)
{
	struct world *w = *state;
	struct cert_options o = { .dns = "frontend.shop" };
	assert_null(test_credentials(w->ca, FRONTEND, &o));
}

static void plain_bytes(struct world *w, const void *bytes, size_t len)
{
	struct sockaddr_storage sa;
	char reply[64];
	socklen_t sa_len = addr_to_sockaddr(&w->server.tunnel, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sa_len), 0);
	struct timeval none = { .tv_usec = 1 };
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	app_send(w->loop, fd, bytes, len);
	run_until_count(w->loop, &w->server.drops[DROP_TLS_HANDSHAKE], 1);
	while (app_next(w->loop, fd, reply, sizeof(reply)) > 0)
		;
	close(fd);
}

static void test_handshake_plaintext_is_refused(void **state)
{
	plain_bytes(*state, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
}

static void test_handshake_garbage_is_refused(void **state)
{
	uint8_t garbage[4096];
	for (size_t i = 0; i < sizeof(garbage); i++)
		garbage[i] = (uint8_t)(i * 37 + 11);
	plain_bytes(*state, garbage, sizeof(garbage));
}

static void test_handshake_close_in_the_middle_is_counted(void **state)
{
	struct world *w = *state;
	struct sockaddr_storage sa;
	socklen_t sa_len = addr_to_sockaddr(&w->server.tunnel, &sa);
	int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&sa, sa_len), 0);
	app_send(w->loop, fd, "\x16\x03\x01\x02", 4);
	close(fd);
	run_until_count(w->loop, &w->server.drops[DROP_TLS_HANDSHAKE], 1);
}

static void test_handshake_server_of_foreign_root_is_untrusted(void **state)
{
	struct world *w = *state;
	struct test_ca *foreign = test_ca_new(false);
	char byte;
	hbone_credentials(w->server.hbone, test_credentials_for(foreign, BACKEND));
	int client = app_connect(&w->client, &w->app);
	assert_true(app_next(w->loop, client, &byte, 1) < 0);
	assert_int_equal(w->client.drops[DROP_TLS_UNTRUSTED], 1);
	close(client);
	test_ca_free(foreign);
}

static void test_handshake_client_that_server_refuses_fails_its_streams(void **state)
{
	struct world *w = *state;
	struct test_ca *foreign = test_ca_new(false);
	char byte;
	hbone_credentials(w->client.hbone, test_credentials_for(foreign, FRONTEND));
	int client = app_connect(&w->client, &w->app);
	assert_true(app_next(w->loop, client, &byte, 1) < 0);
	assert_int_equal(w->server.drops[DROP_TLS_UNTRUSTED], 1);
	close(client);
	test_ca_free(foreign);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_handshake_good_peer_is_accepted),
		WORLD_TEST(test_handshake_aes256_and_p256_are_accepted),
		WORLD_TEST(test_handshake_rsa_peer_is_accepted),
		WORLD_TEST(test_handshake_alias_of_trust_domain_is_accepted),
		WORLD_TEST(test_handshake_dns_san_beside_the_uri_is_accepted),
		WORLD_TEST(test_handshake_foreign_root_is_untrusted),
		WORLD_TEST(test_handshake_expired_is_untrusted),
		WORLD_TEST(test_handshake_self_signed_is_untrusted),
		WORLD_TEST(test_handshake_foreign_trust_domain_is_refused),
		WORLD_TEST(test_handshake_uri_that_is_not_spiffe_is_refused),
		WORLD_TEST(test_handshake_revoked_is_refused),
		WORLD_TEST(test_handshake_without_certificate_is_refused),
		WORLD_TEST(test_handshake_tls12_is_refused),
		WORLD_TEST(test_handshake_chacha_is_refused),
		WORLD_TEST(test_handshake_other_alpn_is_refused),
		WORLD_TEST(test_handshake_without_alpn_is_refused),
		WORLD_TEST(test_credentials_with_two_uris_are_refused),
		WORLD_TEST(test_credentials_without_uri_are_refused),
		WORLD_TEST(test_handshake_plaintext_is_refused),
		WORLD_TEST(test_handshake_garbage_is_refused),
		WORLD_TEST(test_handshake_close_in_the_middle_is_counted),
		WORLD_TEST(test_handshake_server_of_foreign_root_is_untrusted),
		WORLD_TEST(test_handshake_client_that_server_refuses_fails_its_streams),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
