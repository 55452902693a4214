/* SPDX-License-Identifier: Apache-2.0 */
/* One SSL_CTX for both roles: TLS 1.3 only, AES-GCM only, X25519 and P-256, client certificates required, ALPN h2, no
 * resumption of any kind (a ticket would outlive revocation and a change of policy). */
#include "agent/helper/tls_handshake.h"

#include "agent/base/mem.h"
#include "agent/helper/tls_credentials.h"
#include "agent/helper/tls_handshake_internal.h"

#include <errno.h>
#include <string.h>

enum { CERT_LIST_MAX_BYTES = 32768 };

static const unsigned char alpn_h2[] = { 2, 'h', '2' };

static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in,
		   unsigned int in_len, void *arg)
{
	(void)ssl;
	(void)arg;
	for (unsigned int at = 0; at < in_len; at += 1u + in[at]) {
		if (in[at] != 2 || in_len - at < 3 || memcmp(in + at, alpn_h2, 3) != 0)
			continue;
		*out = in + at + 1;
		*out_len = 2;
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int context_setup(struct tls_context *c, struct err *err)
{
	SSL_CTX *ctx = c->ctx;
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384") != 1 ||
	    SSL_CTX_set1_groups_list(ctx, "X25519:P-256") != 1 || SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
	    SSL_CTX_set_alpn_protos(ctx, alpn_h2, sizeof(alpn_h2)) != 0)
		return tls_err(err, -EINVAL, "set up a context for %s", tls_credentials_uri(c->credentials));

	SSL_CTX_set1_cert_store(ctx, tls_trust_store(c->trust));
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
					 SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	SSL_CTX_set_max_cert_list(ctx, CERT_LIST_MAX_BYTES);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, tls_verify, NULL);
	SSL_CTX_set_keylog_callback(ctx, tls_on_secret);
	if (tls_credentials_use(c->credentials, ctx) < 0)
		return tls_err(err, -EINVAL, "use the certificate of %s", tls_credentials_uri(c->credentials));
	return 0;
}

int tls_context_new(struct tls_credentials *credentials, struct tls_trust *trust, struct tls_context **out,
		    struct err *err)
{
	struct tls_context *c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(err, -ENOMEM, "tls: allocate context");

	c->refs = 1;
	c->credentials = tls_credentials_ref(credentials);
	c->trust = tls_trust_ref(trust);
	c->ctx = SSL_CTX_new(TLS_method());
	int rc = c->ctx ? context_setup(c, err) : tls_err(err, -ENOMEM, "allocate context");
	if (rc < 0) {
		tls_context_unref(c);
		return rc;
	}
	*out = c;
	return 0;
}

struct tls_context *tls_context_ref(struct tls_context *c)
{
	c->refs++;
	return c;
}

void tls_context_unref(struct tls_context *c)
{
	if (!c || --c->refs > 0)
		return;

	SSL_CTX_free(c->ctx);
	tls_credentials_unref(c->credentials);
	tls_trust_unref(c->trust);
	free(c);
}
