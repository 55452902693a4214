/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/tls_handshake_internal.h"

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/buffer.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <string.h>

/* What a peer may send before it is authenticated: certificates and a few small messages. */
enum { RECEIVED_MAX = 65536, BIO_CHUNK = 4096 };

static int strings_copy(const char *const *from, size_t count, char ***out, size_t *out_count)
{
	if (count == 0)
		return 0;
	char **copy = calloc(count, sizeof(*copy));
	if (!copy)
		return -ENOMEM;
	*out = copy;
	*out_count = count;
	for (size_t i = 0; i < count; i++) {
		copy[i] = strdup(from[i]);
		if (!copy[i])
			return -ENOMEM;
	}
	return 0;
}

static void strings_free(char **strings, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(strings[i]);
	free(strings);
}

static int handshake_setup(struct tls_handshake *hs)
{
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());
	hs->ssl = SSL_new(hs->context->ctx);
	if (!in || !out || !hs->ssl) {
		BIO_free(in);
		BIO_free(out);
		return -ENOMEM;
	}
	SSL_set_bio(hs->ssl, in, out);
	SSL_set_app_data(hs->ssl, hs);
	if (hs->server)
		SSL_set_accept_state(hs->ssl);
	else
		SSL_set_connect_state(hs->ssl);
	return 0;
}

int tls_handshake_new(struct tls_context *c, bool server, const struct tls_expect *expect, struct tls_handshake **out)
{
	struct tls_handshake *hs = calloc(1, sizeof(*hs));
	if (!hs)
		return -ENOMEM;

	hs->context = tls_context_ref(c);
	hs->server = server;
	int rc = strings_copy(expect->uris, expect->uri_count, &hs->uris, &hs->uri_count);
	if (rc == 0)
		rc = strings_copy(expect->trust_domains, expect->trust_domain_count, &hs->trust_domains,
				  &hs->trust_domain_count);
	if (rc == 0)
		rc = handshake_setup(hs);
	if (rc < 0) {
		tls_handshake_free(hs);
		return rc;
	}
	*out = hs;
	return 0;
}

void tls_peer_done(struct tls_peer *peer)
{
	identity_unref(peer->identity);
	*peer = (struct tls_peer){ 0 };
}

void tls_handshake_free(struct tls_handshake *hs)
{
	if (!hs)
		return;

	SSL_free(hs->ssl);
	tls_context_unref(hs->context);
	strings_free(hs->uris, hs->uri_count);
	strings_free(hs->trust_domains, hs->trust_domain_count);
	free(hs->peer_uri);
	tls_peer_done(&hs->peer);
	OPENSSL_cleanse(&hs->secrets, sizeof(hs->secrets));
	free(hs);
}

static int hex_decode(const char *hex, uint8_t *out, size_t max)
{
	size_t len = 0;
	for (; hex[0] && hex[1]; hex += 2) {
		if (len == max)
			return -EINVAL;
		int hi = OPENSSL_hexchar2int((unsigned char)hex[0]), lo = OPENSSL_hexchar2int((unsigned char)hex[1]);
		if (hi < 0 || lo < 0)
			return -EINVAL;
		out[len++] = (uint8_t)(hi << 4 | lo);
	}
	return (int)len;
}

/* "CLIENT_TRAFFIC_SECRET_0 <client random> <secret>": the only way OpenSSL gives these out. */
void tls_on_secret(const SSL *ssl, const char *line)
{
	struct tls_handshake *hs = SSL_get_app_data(ssl);
	bool client = str_starts(line, "CLIENT_TRAFFIC_SECRET_0 ");
	if (!client && !str_starts(line, "SERVER_TRAFFIC_SECRET_0 "))
		return;
	const char *secret = strrchr(line, ' ');
	int len = hex_decode(secret + 1, client ? hs->secrets.client : hs->secrets.server, TLS_SECRET_MAX);
	if (len == 32 || len == 48)
		hs->secrets_seen |= client ? 1u : 2u;
}

static int drain_output(struct tls_handshake *hs, struct buffer *out)
{
	BIO *bio = SSL_get_wbio(hs->ssl);
	size_t pending = BIO_ctrl_pending(bio);
	if (pending == 0)
		return 0;
	uint8_t *to = buffer_reserve(out, pending);
	if (!to)
		return -ENOMEM;
	int n = BIO_read(bio, to, (int)pending);
	if (n > 0)
		buffer_added(out, (size_t)n);
	return 0;
}

/* A failed handshake: what the callbacks found, else what OpenSSL says. */
static int handshake_failed(struct tls_handshake *hs, struct err *err)
{
	if (hs->reason != DROP_NONE) {
		ERR_clear_error();
		return err_set(err, -EACCES, "%s", hs->err.text);
	}
	hs->reason = DROP_TLS_HANDSHAKE;
	return tls_err(err, -EPROTO, "handshake as %s", hs->server ? "server" : "client");
}

static int handshake_check(struct tls_handshake *hs, struct err *err)
{
	const unsigned char *alpn;
	unsigned int len;
	SSL_get0_alpn_selected(hs->ssl, &alpn, &len);
	if (len == 2 && memcmp(alpn, "h2", 2) == 0 && hs->secrets_seen == 3 && hs->peer.identity) {
		hs->secrets.aes256 = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(hs->ssl)) == 0x1302;
		hs->done = true;
		return 1;
	}
	hs->reason = DROP_TLS_HANDSHAKE;
	return err_set(err, -EPROTO, "tls: the peer does not speak h2 (no ALPN)");
}

int tls_handshake_step(struct tls_handshake *hs, const uint8_t *bytes, size_t len, struct buffer *out, struct err *err)
{
	hs->received += len;
	if (len && BIO_write(SSL_get_rbio(hs->ssl), bytes, (int)len) != (int)len) {
		hs->reason = DROP_NO_MEMORY;
		return tls_err(err, -ENOMEM, "buffer the handshake");
	}

	ERR_clear_error();
	int rc = SSL_do_handshake(hs->ssl);
	int why = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(hs->ssl, rc);
	if (drain_output(hs, out) < 0) {
		hs->reason = DROP_NO_MEMORY;
		return err_set(err, -ENOMEM, "tls: buffer the handshake");
	}
	if (rc == 1)
		return handshake_check(hs, err);
	if (why != SSL_ERROR_WANT_READ)
		return handshake_failed(hs, err);
	if (hs->received > RECEIVED_MAX) {
		hs->reason = DROP_TLS_HANDSHAKE;
		return err_set(err, -EMSGSIZE, "tls: the peer's handshake is longer than %d bytes", RECEIVED_MAX);
	}
	return 0;
}

enum drop_reason tls_handshake_reason(const struct tls_handshake *hs)
{
	return hs->reason;
}

const char *tls_handshake_peer_uri(const struct tls_handshake *hs)
{
	return hs->peer_uri;
}

int tls_handshake_finish(struct tls_handshake *hs, struct tls_record **record, struct tls_peer *peer,
			 struct buffer *early)
{
	if (!hs->done)
		return -EINVAL;

	/* OpenSSL reads record by record, so the rest of its input is whole records that it has not touched. */
	BIO *bio = SSL_get_rbio(hs->ssl);
	size_t pending = BIO_ctrl_pending(bio);
	uint8_t *to = pending ? buffer_reserve(early, pending) : NULL;
	if (pending && !to)
		return -ENOMEM;
	if (pending && BIO_read(bio, to, (int)pending) == (int)pending)
		buffer_added(early, pending);

	int rc = tls_record_new(&hs->secrets, hs->server, record);
	if (rc == 0) {
		*peer = hs->peer;
		hs->peer = (struct tls_peer){ 0 };
	}
	return rc;
}
