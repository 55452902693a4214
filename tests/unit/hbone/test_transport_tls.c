/* SPDX-License-Identifier: Apache-2.0 */
/* TLS originated towards a server of OpenSSL's own. */
#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/transport.h"
#include "agent/model/cluster.h"
#include "tests/unit/hbone/world.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { MUCH = 12 << 20 };

/* --- the server --- */

struct server {
	SSL_CTX *ctx;
	SSL *ssl;
	int fd;
	uint8_t *in;
	size_t in_len;
	const uint8_t *out;
	size_t out_len, out_done;
	bool done, failed, ended;
	int max_version;
	const char *alpn; /* in wire format */
};

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		   unsigned int in_len, void *arg)
{
	const struct server *s = arg;
	(void)ssl;
	return SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, (const unsigned char *)s->alpn,
				     (unsigned int)strlen(s->alpn), in, in_len) == OPENSSL_NPN_NEGOTIATED ?
		       SSL_TLSEXT_ERR_OK :
		       SSL_TLSEXT_ERR_NOACK;
}

static void server_use(struct server *s, const char *chain, const char *key)
{
	BIO *bio = BIO_new_mem_buf(chain, -1);
	X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	assert_int_equal(SSL_CTX_use_certificate(s->ctx, cert), 1);
	X509_free(cert);
	while ((cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		SSL_CTX_add1_chain_cert(s->ctx, cert);
		X509_free(cert);
	}
	BIO_free(bio);
	bio = BIO_new_mem_buf(key, -1);
	EVP_PKEY *pkey = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
	assert_int_equal(SSL_CTX_use_PrivateKey(s->ctx, pkey), 1);
	EVP_PKEY_free(pkey);
	BIO_free(bio);
}

static void server_init(struct server *s, struct test_ca *ca, const struct cert_options *o)
{
	char *chain, *key;
	*s = (struct server){ .fd = -1, .ctx = SSL_CTX_new(TLS_server_method()), .in = malloc(MUCH + 1) };
	test_pem(ca, o, &chain, &key);
	server_use(s, chain, key);
	SSL_CTX_set_session_id_context(s->ctx, (const unsigned char *)"t", 1);
	free(chain);
	free(key);
}

static void server_end(struct server *s)
{
	SSL_free(s->ssl);
	s->ssl = NULL;
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	s->done = s->failed = s->ended = false;
	s->in_len = s->out_len = s->out_done = 0;
}

static void server_done(struct server *s)
{
	server_end(s);
	SSL_CTX_free(s->ctx);
	free(s->in);
}

static void server_turn(struct server *s, int listener)
{
	if (s->fd < 0) {
		s->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (s->fd < 0)
			return;
		if (s->max_version)
			SSL_CTX_set_max_proto_version(s->ctx, s->max_version);
		if (s->alpn)
			SSL_CTX_set_alpn_select_cb(s->ctx, on_alpn, s);
		s->ssl = SSL_new(s->ctx);
		SSL_set_fd(s->ssl, s->fd);
		SSL_set_mode(s->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
		SSL_set_accept_state(s->ssl);
	}
	if (s->failed)
		return;
	if (!s->done) {
		int rc = SSL_do_handshake(s->ssl);
		s->done = rc == 1;
		int why = SSL_get_error(s->ssl, rc);
		s->failed = rc != 1 && why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE;
		return;
	}
	if (s->out_done < s->out_len) {
		int n = SSL_write(s->ssl, s->out + s->out_done, (int)(s->out_len - s->out_done));
		s->out_done += n > 0 ? (size_t)n : 0;
	}
	int n = s->in_len < MUCH ? SSL_read(s->ssl, s->in + s->in_len, (int)(MUCH - s->in_len)) : 0;
	if (n > 0)
		s->in_len += (size_t)n;
	else if (s->in_len < MUCH && SSL_get_error(s->ssl, n) == SSL_ERROR_ZERO_RETURN)
		s->ended = true;
}

/* --- the client --- */

struct got {
	struct worker *worker;
	struct transport *t;
	unsigned int calls, ends, rooms, broken;
	int error;
	char failure[ERR_TEXT_MAX]; /* in words */
	uint8_t *data;
	size_t len, cap, take;
	const uint8_t *out;
	size_t out_len, out_done;
};

static size_t on_data(struct transport *t, const uint8_t *bytes, size_t len, void *arg)
{
	struct got *got = arg;
	assert_ptr_equal(t, got->t);
	size_t took = got->len + len > got->take ? got->take - got->len : len;
	if (mem_reserve(&got->data, &got->cap, got->len + took + 1, 1) < 0)
		abort();
	memcpy(got->data + got->len, bytes, took);
	got->len += took;
	return took;
}

static void pour(struct got *got)
{
	while (got->out_done < got->out_len) {
		size_t n = got->out_len - got->out_done;
		n = n > 30000 ? 30000 : n;
		size_t took =
			transport_write(got->t, &(struct iovec){ (void *)(uintptr_t)(got->out + got->out_done), n }, 1);
		got->out_done += took;
		if (took < n)
			return;
	}
}

static void on_end(struct transport *t, void *arg)
{
	struct got *got = arg;
	assert_ptr_equal(t, got->t);
	got->ends++;
}

static void on_room(struct transport *t, void *arg)
{
	struct got *got = arg;
	assert_ptr_equal(t, got->t);
	got->rooms++;
	pour(got);
}

static void on_broken(struct transport *t, int error, void *arg)
{
	struct got *got = arg;
	got->broken++;
	got->error = error;
	got->t = NULL;
	transport_close(t, true);
}

static const struct transport_events events = { on_data, on_end, on_room, on_broken };

static void on_connect(struct transport *t, int error, void *arg)
{
	struct got *got = arg;
	got->calls++;
	got->error = error;
	got->t = t;
	str_copy(got->failure, sizeof(got->failure), "-");
	if (t)
		transport_on(t, &events, got);
	else if (transport_failure(got->worker))
		str_copy(got->failure, sizeof(got->failure), transport_failure(got->worker));
}

struct turns {
	struct world *w;
	struct server *s;
	bool (*done)(struct server *s, struct got *got);
	struct got *got;
};

static bool turn(void *arg)
{
	struct turns *t = arg;
	server_turn(t->s, t->w->listener);
	return t->done(t->s, t->got);
}

static void until(struct world *w, struct server *s, struct got *got, bool (*done)(struct server *s, struct got *got))
{
	struct turns t = { w, s, done, got };
	run_until(w->loop, turn, &t);
}

static bool is_told(struct server *s, struct got *got)
{
	return got->calls && (s->done || s->failed || !got->t);
}

static bool is_answered(struct server *s, struct got *got)
{
	return s->in_len >= 5 && got->len >= 6;
}

static bool is_much(struct server *s, struct got *got)
{
	return s->in_len == MUCH && got->len == MUCH;
}

static bool is_ended(struct server *s, struct got *got)
{
	(void)got;
	return s->ended;
}

static bool has_ended(struct server *s, struct got *got)
{
	(void)s;
	return got->ends > 0;
}

static struct http_cluster *cluster_new(struct world *w)
{
	struct http_cluster *c = http_cluster_new();
	c->tls = CLUSTER_TLS_SIMPLE;
	c->name = strdup("outbound|443||api.example.com");
	c->host = strdup("api.example.com");
	c->ca_pem = strdup(test_ca_root_pem(w->ca));
	http_cluster_seal(c);
	return c;
}

static void begin(struct world *w, struct http_cluster *cluster, const char *alpn, const char *sni, struct got *got)
{
	struct cluster_endpoint e = { .addr = w->app, .weight = 1, .healthy = true };
	*got = (struct got){ .take = SIZE_MAX, .worker = &w->client };
	transport_connect(&w->client, &w->client.pod, cluster, &e, alpn, sni, on_connect, got);
	assert_int_equal(got->calls, 0);
}

static void got_done(struct got *got)
{
	if (got->t)
		transport_close(got->t, true);
	free(got->data);
	*got = (struct got){ 0 };
}

/* What a connection comes to with such a server and cluster: 0, or the error. */
static int outcome(struct world *w, struct server *s, struct http_cluster *cluster, const char *sni)
{
	struct got got;
	begin(w, cluster, NULL, sni, &got);
	until(w, s, &got, is_told);
	int error = got.t ? 0 : got.error;
	got_done(&got);
	server_end(s);
	return error;
}

/* --- */

static const struct cert_options good = { .dns = "api.example.com" };

static void test_tls_speaks_both_versions(void **state)
{
	struct world *w = *state;
	for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
		struct http_cluster *cluster = cluster_new(w);
		struct server s;
		struct got got;
		server_init(&s, w->ca, &good);
		s.max_version = version;
		begin(w, cluster, NULL, NULL, &got);
		until(w, &s, &got, is_told);
		assert_non_null(got.t);
		assert_true(got.t->tls);
		assert_null(got.t->peer);
		assert_null(got.t->alpn);
		assert_int_equal(SSL_version(s.ssl), version);
		assert_string_equal(SSL_get_servername(s.ssl, TLSEXT_NAMETYPE_host_name), "api.example.com");
		transport_write(got.t, &(struct iovec){ (char[]){ "hello" }, 5 }, 1);
		s.out = (const uint8_t *)"answer";
		s.out_len = 6;
		until(w, &s, &got, is_answered);
		assert_memory_equal(s.in, "hello", 5);
		assert_memory_equal(got.data, "answer", 6);
		transport_close(got.t, false);
		got.t = NULL;
		until(w, &s, &got, is_ended); /* close_notify */
		got_done(&got);
		server_done(&s);
		run_turns(w->loop, 3);
		http_cluster_unref(cluster);
	}
}

static void test_tls_much_goes_both_ways(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = cluster_new(w);
	struct server s;
	struct got got;
	uint8_t *out = malloc(MUCH);
	for (size_t i = 0; i < MUCH; i++)
		out[i] = (uint8_t)(i * 13 + (i >> 10));
	server_init(&s, w->ca, &good);
	begin(w, cluster, NULL, NULL, &got);
	until(w, &s, &got, is_told);
	got.out = s.out = out;
	got.out_len = s.out_len = MUCH;
	got.take = 100000;
	pour(&got);
	assert_true(got.out_done < MUCH);
	for (int i = 0; i < 200; i++) {
		server_turn(&s, w->listener);
		run_turns(w->loop, 1);
	}
	assert_int_equal(got.len, 100000);
	got.take = SIZE_MAX;
	transport_resume(got.t);
	until(w, &s, &got, is_much);
	assert_memory_equal(s.in, out, MUCH);
	assert_memory_equal(got.data, out, MUCH);
	assert_true(got.rooms > 0);
	SSL_shutdown(s.ssl);
	until(w, &s, &got, has_ended);
	got_done(&got);
	server_done(&s);
	http_cluster_unref(cluster);
	free(out);
}

static void test_tls_refuses_who_is_not_expected(void **state)
{
	struct world *w = *state;
	struct test_ca *other = test_ca_new(false);
	struct http_cluster *cluster = cluster_new(w);
	struct server s;
	static const struct cert_options expired = { .dns = "api.example.com", .expired = true };
	static const struct cert_options misnamed = { .dns = "other.example.com" };
	static const struct cert_options self = { .dns = "api.example.com", .self_signed = true };
	static const struct cert_options *const bad[] = { &expired, &misnamed, &self };
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		server_init(&s, w->ca, bad[i]);
		assert_int_equal(outcome(w, &s, cluster, NULL), -EKEYREJECTED);
		server_done(&s);
	}
	server_init(&s, other, &good);
	assert_int_equal(outcome(w, &s, cluster, NULL), -EKEYREJECTED);
	server_done(&s);

	struct http_cluster *careless = cluster_new(w);
	careless->insecure = true;
	http_cluster_seal(careless);
	server_init(&s, other, &expired);
	assert_int_equal(outcome(w, &s, careless, NULL), 0);
	server_done(&s);
	http_cluster_unref(careless);
	http_cluster_unref(cluster);
	test_ca_free(other);
}

/* What a failed connection is said to have failed of. */
static void assert_failure(struct world *w, struct server *s, struct http_cluster *cluster, const char *why)
{
	struct got got;
	begin(w, cluster, NULL, NULL, &got);
	until(w, s, &got, is_told);
	assert_null(got.t);
	if (!strstr(got.failure, why))
		fail_msg("%s is not in: %s", why, got.failure);
	assert_null(transport_failure(&w->client));
	got_done(&got);
	server_end(s);
}

static void test_tls_failures_are_said(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = cluster_new(w);
	struct server s;
	static const struct cert_options expired = { .dns = "api.example.com", .expired = true };
	static const struct cert_options misnamed = { .dns = "other.example.com" };
	server_init(&s, w->ca, &expired);
	assert_failure(w, &s, cluster, "TLS_error: the certificate of api.example.com: certificate has expired");
	server_done(&s);
	server_init(&s, w->ca, &misnamed);
	assert_failure(w, &s, cluster, "TLS_error: the server's certificate is not for api.example.com");
	s.max_version = TLS1_1_VERSION;
	SSL_CTX_set_min_proto_version(s.ctx, TLS1_1_VERSION);
	assert_failure(w, &s, cluster, "TLS_error: the handshake with api.example.com");
	server_done(&s);
	http_cluster_unref(cluster);
}

/* A cluster that trusts the authority, with a list of what it revokes (taken). */
static struct http_cluster *cluster_with_list(struct world *w, const struct test_ca *ca, char *list)
{
	struct http_cluster *cluster = cluster_new(w);
	free(cluster->ca_pem);
	cluster->ca_pem = strdup(test_ca_root_pem(ca));
	cluster->crl_pem = list;
	http_cluster_seal(cluster);
	return cluster;
}

static void test_tls_revoked_is_refused(void **state)
{
	struct world *w = *state;
	static const uint64_t serials[] = { 7, 8 };
	static const int outcomes[][2] = {
		{ -EKEYREVOKED, 0 },
		{ -EKEYREJECTED, -EKEYREJECTED }, /* out of date: nobody knows */
		{ -EKEYREJECTED, -EKEYREJECTED }, /* of another authority */
		{ -EPERM, -EPERM },		  /* missing */
	};
	struct test_ca *ca = test_ca_new(false), *other = test_ca_new(false);
	for (size_t list = 0; list < ARRAY_SIZE(outcomes); list++) {
		struct http_cluster *cluster = cluster_with_list(w, ca,
								 list == 0 ? test_crl_pem(ca, 7, false) :
								 list == 1 ? test_crl_pem(ca, 7, true) :
								 list == 2 ? test_crl_pem(other, 7, false) :
									     strdup(""));
		for (size_t i = 0; i < ARRAY_SIZE(serials); i++) {
			struct cert_options o = { .dns = "api.example.com", .serial = serials[i] };
			struct server s;
			server_init(&s, ca, &o);
			int rc = outcome(w, &s, cluster, NULL);
			if (rc != outcomes[list][i])
				fail_msg("list %zu, serial %zu: %d", list, i, rc);
			server_done(&s);
		}
		http_cluster_unref(cluster);
	}

	struct http_cluster *cluster = cluster_with_list(w, ca, test_crl_pem(ca, 7, false));
	struct cert_options seven = { .dns = "api.example.com", .serial = 7 };
	struct server s;
	server_init(&s, ca, &seven);
	assert_failure(w, &s, cluster, "TLS_error: the certificate of api.example.com: certificate revoked");
	server_done(&s);
	http_cluster_unref(cluster);
	test_ca_free(ca);
	test_ca_free(other);
}

static void set_names(struct http_cluster *c, const char *name)
{
	c->subject_alt_names = calloc(1, sizeof(char *));
	c->subject_alt_names[0] = strdup(name);
	c->subject_alt_name_count = 1;
	http_cluster_seal(c);
}

static void test_tls_names_are_those_of_the_rule(void **state)
{
	static const struct {
		const char *cert_dns, *cert_uri, *expected, *sni;
		int outcome;
	} rows[] = {
		{ "api.example.com", NULL, "api.example.com", NULL, 0 },
		{ "*.example.com", NULL, NULL, NULL, 0 },
		{ "*.example.com", NULL, NULL, "a.b.example.com", -EKEYREJECTED },
		{ "else.example.com", NULL, "else.example.com", NULL, 0 },
		{ "api.example.com", NULL, "else.example.com", NULL, -EKEYREJECTED },
		{ NULL, "spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/b", NULL, 0 },
		{ NULL, "spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/bb", NULL, -EKEYREJECTED },
		{ NULL, "spiffe://td/ns/a/sa/b", "spiffe://td/ns/a/sa/", NULL, -EKEYREJECTED },
		{ "www.example.com", NULL, NULL, "www.example.com", 0 },
		{ "api.example.com", NULL, NULL, "www.example.com", -EKEYREJECTED },
	};
	struct world *w = *state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct http_cluster *cluster = cluster_new(w);
		struct cert_options o = { .dns = rows[i].cert_dns, .uris = { rows[i].cert_uri } };
		struct server s;
		if (rows[i].expected)
			set_names(cluster, rows[i].expected);
		server_init(&s, w->ca, &o);
		int rc = outcome(w, &s, cluster, rows[i].sni);
		if (rc != rows[i].outcome)
			fail_msg("row %zu: %d", i, rc);
		server_done(&s);
		http_cluster_unref(cluster);
	}
}

static void test_tls_without_roots_is_refused_before_it_begins(void **state)
{
	struct world *w = *state;
	for (int i = 0; i < 3; i++) {
		struct http_cluster *cluster = cluster_new(w);
		struct got got;
		free(cluster->ca_pem);
		cluster->ca_pem = i ? strdup(i == 1 ? "" : "no certificate") : NULL;
		http_cluster_seal(cluster);
		begin(w, cluster, NULL, NULL, &got);
		run_until_count(w->loop, &got.calls, 1);
		assert_int_equal(got.error, -EPERM);
		assert_int_equal(w->client.sockets_taken, 0);
		http_cluster_unref(cluster);
	}
}

static void test_tls_alpn_is_offered_and_told(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = cluster_new(w);
	struct server s;
	struct got got;
	server_init(&s, w->ca, &good);
	s.alpn = "\x02h2\x08http/1.1";
	begin(w, cluster, "http/1.1", NULL, &got);
	until(w, &s, &got, is_told);
	assert_string_equal(got.t->alpn, "http/1.1");
	got_done(&got);
	server_end(&s);
	begin(w, cluster, "h2", NULL, &got);
	until(w, &s, &got, is_told);
	assert_string_equal(got.t->alpn, "h2");
	got_done(&got);
	server_done(&s);
	http_cluster_unref(cluster);
}

static void test_tls_mutual_shows_the_certificate(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = cluster_new(w);
	struct cert_options own = { .uris = { FRONTEND } };
	struct server s;
	struct got got;
	server_init(&s, w->ca, &good);
	BIO *bio = BIO_new_mem_buf(test_ca_root_pem(w->ca), -1);
	X509 *root = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	X509_STORE_add_cert(SSL_CTX_get_cert_store(s.ctx), root);
	X509_free(root);
	BIO_free(bio);
	SSL_CTX_set_verify(s.ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);

	/* TLS 1.2: the client learns at once that it was refused. */
	s.max_version = TLS1_2_VERSION;
	assert_int_equal(outcome(w, &s, cluster, NULL), -EPROTO);

	cluster->tls = CLUSTER_TLS_MUTUAL;
	http_cluster_seal(cluster);
	begin(w, cluster, NULL, NULL, &got); /* no certificate was given */
	run_until_count(w->loop, &got.calls, 1);
	assert_int_equal(got.error, -EPERM);

	test_pem(w->ca, &own, &cluster->chain_pem, &cluster->key_pem);
	http_cluster_seal(cluster);
	assert_int_equal(outcome(w, &s, cluster, NULL), 0);
	server_done(&s);
	http_cluster_unref(cluster);
}

static void test_tls_istio_mutual_is_the_workloads(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = cluster_new(w);
	char *identities[] = { (char *)BACKEND };
	struct cluster_endpoint e = { .addr = w->app, .weight = 1, .healthy = true, .enrolled = true };
	struct cert_options theirs = { .uris = { BACKEND } };
	struct server s;
	struct got got = { .take = SIZE_MAX, .worker = &w->client };
	cluster->tls = CLUSTER_TLS_ISTIO_MUTUAL;
	cluster->port = 80;
	http_cluster_seal(cluster);
	e.identities = identities;
	e.identity_count = 1;
	server_init(&s, w->ca, &theirs);
	s.alpn = "\x08istio-h2\x05istio";
	transport_connect(&w->client, &w->client.pod, cluster, &e, "h2", NULL, on_connect, &got);
	until(w, &s, &got, is_told);
	assert_non_null(got.t);
	assert_string_equal(got.t->alpn, "h2");
	assert_string_equal(SSL_get_servername(s.ssl, TLSEXT_NAMETYPE_host_name), "outbound_.80_._.api.example.com");
	got_done(&got);
	server_end(&s);

	identities[0] = (char *)FRONTEND;
	got = (struct got){ .take = SIZE_MAX, .worker = &w->client };
	transport_connect(&w->client, &w->client.pod, cluster, &e, "h2", NULL, on_connect, &got);
	until(w, &s, &got, is_told);
	assert_null(got.t);
	assert_int_equal(got.error, -EKEYREJECTED);
	server_end(&s);

	e.local = true; /* the kernel's word: no TLS */
	got = (struct got){ .take = SIZE_MAX, .worker = &w->client };
	transport_connect(&w->client, &w->client.pod, cluster, &e, "h2", NULL, on_connect, &got);
	run_until_count(w->loop, &got.calls, 1);
	assert_false(got.t->tls);
	got_done(&got);
	server_done(&s);
	http_cluster_unref(cluster);
}

static void test_tls_silent_server_is_etimedout(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = cluster_new(w);
	struct got got;
	cluster->tcp.connect_timeout_ms = 50;
	begin(w, cluster, NULL, NULL, &got);
	run_until_count(w->loop, &got.calls, 1);
	assert_int_equal(got.error, -ETIMEDOUT);
	http_cluster_unref(cluster);
}

static void test_tls_sessions_are_resumed_for_the_same_name_only(void **state)
{
	struct world *w = *state;
	struct http_cluster *cluster = cluster_new(w);
	struct cert_options wide = { .dns = "*.example.com" };
	static const char *const names[] = { "a.example.com", "a.example.com", "b.example.com" };
	struct server s;
	struct got got;
	server_init(&s, w->ca, &wide);
	for (int i = 0; i < 3; i++) {
		begin(w, cluster, NULL, names[i], &got);
		until(w, &s, &got, is_told);
		assert_non_null(got.t);
		assert_int_equal(SSL_session_reused(s.ssl), i == 1);
		transport_write(got.t, &(struct iovec){ (char[]){ "hello" }, 5 }, 1);
		s.out = (const uint8_t *)"answer";
		s.out_len = 6;
		until(w, &s, &got, is_answered);
		got_done(&got);
		server_end(&s);
	}
	server_done(&s);
	http_cluster_unref(cluster);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_tls_speaks_both_versions),
		WORLD_TEST(test_tls_much_goes_both_ways),
		WORLD_TEST(test_tls_refuses_who_is_not_expected),
		WORLD_TEST(test_tls_failures_are_said),
		WORLD_TEST(test_tls_revoked_is_refused),
		WORLD_TEST(test_tls_names_are_those_of_the_rule),
		WORLD_TEST(test_tls_without_roots_is_refused_before_it_begins),
		WORLD_TEST(test_tls_alpn_is_offered_and_told),
		WORLD_TEST(test_tls_mutual_shows_the_certificate),
		WORLD_TEST(test_tls_istio_mutual_is_the_workloads),
		WORLD_TEST(test_tls_silent_server_is_etimedout),
		WORLD_TEST(test_tls_sessions_are_resumed_for_the_same_name_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
