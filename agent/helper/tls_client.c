/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/tls_client.h"

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/buffer.h"
#include "agent/helper/tls_credentials.h"
#include "agent/helper/tls_internal.h"
#include "agent/helper/tls_peer.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { ALPN_MAX = 128, CERT_LIST_MAX_BYTES = 65536, ROOTS_MAX = 1024, CHAIN_MAX = 16 };

struct tls_client_context {
	unsigned int refs;
	SSL_CTX *ctx;
	struct tls_trust *trust;
	struct tls_credentials *credentials; /* a reference, so that a cache may tell it by its address */
	bool insecure;
	/* The last session, of whom: a handshake of half the cost. Not with mesh identities, which may be revoked. */
	SSL_SESSION *session;
	char *session_name;
};

struct tls_client {
	struct tls_client_context *context;
	SSL *ssl;
	const uint8_t *in; /* received bytes, the caller's, during a call */
	size_t in_len;
	struct buffer out;
	char *sni, **names;
	size_t name_count;
	char alpn[32];
	struct err *err;     /* the caller's, during a handshake */
	const char *matched; /* of names */
	int refused;	     /* by us, and err says why: -EKEYREJECTED, -EKEYREVOKED */
	bool done;
};

/* --- bytes: OpenSSL reads the caller's and writes into a buffer --- */

static int bio_read(BIO *bio, char *to, int size)
{
	struct tls_client *c = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	if (c->in_len == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	size_t n = c->in_len < (size_t)size ? c->in_len : (size_t)size;
	memcpy(to, c->in, n);
	c->in += n;
	c->in_len -= n;
	return (int)n;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
	struct tls_client *c = BIO_get_data(bio);
	BIO_clear_retry_flags(bio);
	return len > 0 && buffer_append(&c->out, bytes, (size_t)len) == 0 ? len : -1;
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

static BIO_METHOD *method; /* made once, for all threads; read-only after */

static void method_make(void)
{
	method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "weft");
	if (!method)
		return;
	BIO_meth_set_read(method, bio_read);
	BIO_meth_set_write(method, bio_write);
	BIO_meth_set_ctrl(method, bio_ctrl);
	BIO_meth_set_create(method, bio_create);
}

/* --- whom we trust --- */

static bool names_uri(X509 *cert, const char *uri)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	bool found = false;
	for (int i = 0; i < sk_GENERAL_NAME_num(names) && !found; i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type != GEN_URI)
			continue;
		const ASN1_IA5STRING *text = name->d.uniformResourceIdentifier;
		found = (size_t)ASN1_STRING_length(text) == strlen(uri) &&
			memcmp(ASN1_STRING_get0_data(text), uri, strlen(uri)) == 0;
	}
	GENERAL_NAMES_free(names);
	return found;
}

static bool is_named(X509 *cert, const char *name)
{
	if (strstr(name, "://"))
		return names_uri(cert, name);
	if (X509_check_ip_asc(cert, name, 0) == 1)
		return true;
	return X509_check_host(cert, name, 0,
			       X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1;
}

static bool is_revoked(const struct tls_client_context *context, X509_STORE_CTX *store)
{
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);
	for (int i = 0; context->trust && i < sk_X509_num(chain); i++) {
		char serial[TLS_SERIAL_MAX];
		if (tls_peer_serial(sk_X509_value(chain, i), serial) < 0 || tls_trust_revokes(context->trust, serial))
			return true;
	}
	return false;
}

static void __attribute__((format(printf, 3, 4))) refuse(struct tls_client *c, int code, const char *format, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	err_set(c->err, code, "%s", text);
	c->refused = code;
}

static int verify(X509_STORE_CTX *store, void *arg)
{
	const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_client *c = SSL_get_app_data(ssl);
	(void)arg;
	if (c->context->insecure)
		return 1;
	if (X509_verify_cert(store) != 1) {
		int error = X509_STORE_CTX_get_error(store);
		refuse(c, error == X509_V_ERR_CERT_REVOKED ? -EKEYREVOKED : -EKEYREJECTED,
		       "tls: the certificate of %s: %s", c->sni ? c->sni : "the server",
		       X509_verify_cert_error_string(error));
		return 0;
	}
	if (is_revoked(c->context, store)) {
		refuse(c, -EKEYREVOKED, "tls: the server's certificate is revoked");
		X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REVOKED);
		return 0;
	}
	for (size_t i = 0; i < c->name_count; i++)
		if (is_named(X509_STORE_CTX_get0_cert(store), c->names[i])) {
			c->matched = c->names[i];
			return 1;
		}
	refuse(c, -EKEYREJECTED, "tls: the server's certificate is not for %s%s",
	       c->name_count ? c->names[0] : "any name, as none is expected", c->name_count > 1 ? " or others" : "");
	X509_STORE_CTX_set_error(store, X509_V_ERR_HOSTNAME_MISMATCH);
	return 0;
}

static int store_read(const char *pem, X509_STORE *store, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	int count = 0;
	X509 *cert;
	if (!bio)
		return -ENOMEM;
	while (count < ROOTS_MAX && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		count += X509_STORE_add_cert(store, cert);
		X509_free(cert);
	}
	BIO_free(bio);
	ERR_clear_error();
	return count ? 0 : err_set(err, -EINVAL, "tls: no certificate to trust");
}

/* As Envoy: with a list, each authority of the chain must have one that is in force. */
static int revoked_read(const char *pem, X509_STORE *store, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	int count = 0;
	X509_CRL *crl;
	if (!bio)
		return -ENOMEM;
	while (count < ROOTS_MAX && (crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL))) {
		count += X509_STORE_add_crl(store, crl);
		X509_CRL_free(crl);
	}
	BIO_free(bio);
	ERR_clear_error();
	if (!count)
		return err_set(err, -EINVAL, "tls: the list of revoked certificates can't be read");
	X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
	return 0;
}

/* --- who we are --- */

static int own_chain(SSL_CTX *ctx, const char *pem)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	X509 *cert = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	bool ok = cert && SSL_CTX_use_certificate(ctx, cert) == 1;
	X509_free(cert);
	for (int i = 0; ok && i < CHAIN_MAX && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL)); i++) {
		ok = SSL_CTX_add1_chain_cert(ctx, cert) == 1;
		X509_free(cert);
	}
	BIO_free(bio);
	return ok ? 0 : -EINVAL;
}

/* No passphrase: there is nobody to ask. */
static int on_passphrase(char *buf, int size, int writing, void *arg)
{
	(void)buf;
	(void)size;
	(void)writing;
	(void)arg;
	return -1;
}

static int own_key(SSL_CTX *ctx, const char *pem)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, on_passphrase, NULL) : NULL;
	bool ok = key && SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;
	EVP_PKEY_free(key);
	BIO_free(bio);
	return ok ? 0 : -EINVAL;
}

/* --- contexts --- */

static int on_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls_client *c = SSL_get_app_data(ssl);
	struct tls_client_context *context = c->context;
	char *name = strdup(c->sni ? c->sni : "");
	if (!name)
		return 0;
	SSL_SESSION_free(context->session);
	free(context->session_name);
	context->session = session;
	context->session_name = name;
	return 1; /* ours now */
}

static int context_setup(struct tls_client_context *c, const struct tls_client_config *config, struct err *err)
{
	SSL_CTX *ctx = c->ctx;
	if (SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") != 1 ||
	    SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384") != 1)
		return tls_err(err, -EINVAL, "set up a client's context");
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
	SSL_CTX_set_max_cert_list(ctx, CERT_LIST_MAX_BYTES);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS); /* idle connections hold none */
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_cert_verify_callback(ctx, verify, NULL);
	if (!config->credentials) {
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(ctx, on_session);
	}
	int rc = 0;
	if (config->ca_pem && !config->insecure)
		rc = store_read(config->ca_pem, SSL_CTX_get_cert_store(ctx), err);
	else if (config->trust)
		SSL_CTX_set1_cert_store(ctx, tls_trust_store(config->trust));
	else if (!config->insecure)
		rc = err_set(err, -EINVAL, "tls: nobody to trust: the roots are missing");
	if (rc == 0 && config->ca_pem && config->crl_pem && !config->insecure)
		rc = revoked_read(config->crl_pem, SSL_CTX_get_cert_store(ctx), err);
	if (rc == 0 && config->credentials && tls_credentials_use(config->credentials, ctx) < 0)
		rc = tls_err(err, -EINVAL, "use the certificate of %s", tls_credentials_uri(config->credentials));
	if (rc == 0 && config->chain_pem && own_chain(ctx, config->chain_pem) < 0)
		rc = tls_err(err, -EINVAL, "read the client's certificate");
	if (rc == 0 && config->chain_pem && (!config->key_pem || own_key(ctx, config->key_pem) < 0))
		rc = tls_err(err, -EINVAL, "read the client's private key, or it is not that of the certificate");
	return rc;
}

int tls_client_context_new(const struct tls_client_config *config, struct tls_client_context **out, struct err *err)
{
	struct tls_client_context *c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(err, -ENOMEM, "tls: allocate context");
	c->refs = 1;
	c->trust = config->trust ? tls_trust_ref(config->trust) : NULL;
	c->credentials = config->credentials ? tls_credentials_ref(config->credentials) : NULL;
	c->insecure = config->insecure;
	ERR_clear_error();
	c->ctx = SSL_CTX_new(TLS_client_method());
	int rc = c->ctx ? context_setup(c, config, err) : tls_err(err, -ENOMEM, "allocate context");
	if (rc < 0)
		tls_client_context_unref(c);
	else
		*out = c;
	return rc;
}

struct tls_client_context *tls_client_context_ref(struct tls_client_context *c)
{
	c->refs++;
	return c;
}

void tls_client_context_unref(struct tls_client_context *c)
{
	if (!c || --c->refs > 0)
		return;
	SSL_SESSION_free(c->session);
	free(c->session_name);
	SSL_CTX_free(c->ctx);
	tls_trust_unref(c->trust);
	tls_credentials_unref(c->credentials);
	free(c);
}

/* --- clients --- */

static int client_alpn(struct tls_client *c, const struct tls_client_target *target)
{
	uint8_t wire[ALPN_MAX];
	size_t len = 0;
	for (size_t i = 0; i < target->alpn_count; i++) {
		size_t n = strlen(target->alpn[i]);
		if (n > 255 || len + 1 + n > sizeof(wire))
			return -EINVAL;
		wire[len++] = (uint8_t)n;
		memcpy(wire + len, target->alpn[i], n);
		len += n;
	}
	return len && SSL_set_alpn_protos(c->ssl, wire, (unsigned int)len) != 0 ? -ENOMEM : 0;
}

static int client_names(struct tls_client *c, const struct tls_client_target *target)
{
	c->names = calloc(target->name_count + 1, sizeof(*c->names));
	if (!c->names)
		return -ENOMEM;
	for (size_t i = 0; i < target->name_count; i++) {
		c->names[i] = strdup(target->names[i]);
		if (!c->names[i])
			return -ENOMEM;
		c->name_count++;
	}
	if (!target->sni)
		return 0;
	c->sni = strdup(target->sni);
	return c->sni && SSL_set_tlsext_host_name(c->ssl, c->sni) == 1 ? 0 : -ENOMEM;
}

static int client_setup(struct tls_client *c, const struct tls_client_target *target)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct tls_client_context *context = c->context;
	pthread_once(&once, method_make);
	BIO *bio = method ? BIO_new(method) : NULL;
	c->ssl = SSL_new(context->ctx);
	if (!bio || !c->ssl) {
		BIO_free(bio);
		return -ENOMEM;
	}
	BIO_set_data(bio, c);
	SSL_set_bio(c->ssl, bio, bio);
	SSL_set_app_data(c->ssl, c);
	SSL_set_connect_state(c->ssl);
	int rc = client_names(c, target);
	if (rc == 0)
		rc = client_alpn(c, target);
	if (rc == 0 && context->session && str_eq(context->session_name, c->sni ? c->sni : ""))
		SSL_set_session(c->ssl, context->session);
	return rc;
}

int tls_client_new(struct tls_client_context *context, const struct tls_client_target *target, struct tls_client **out)
{
	struct tls_client *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->context = tls_client_context_ref(context);
	int rc = client_setup(c, target);
	if (rc < 0)
		tls_client_free(c);
	else
		*out = c;
	return rc;
}

void tls_client_free(struct tls_client *c)
{
	if (!c)
		return;
	/* A connection that just ended says nothing against its session; one that broke TLS has been told by OpenSSL. */
	if (c->done && c->ssl)
		SSL_set_shutdown(c->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	SSL_free(c->ssl);
	tls_client_context_unref(c->context);
	for (size_t i = 0; i < c->name_count; i++)
		free(c->names[i]);
	free(c->names);
	free(c->sni);
	buffer_done(&c->out);
	free(c);
}

struct buffer *tls_client_output(struct tls_client *c)
{
	return &c->out;
}

const char *tls_client_alpn(const struct tls_client *c)
{
	return c->alpn[0] ? c->alpn : NULL;
}

const char *tls_client_peer(const struct tls_client *c)
{
	return c->matched;
}

static void view(struct tls_client *c, const uint8_t **bytes, size_t *len)
{
	c->in = *bytes;
	c->in_len = *len;
	ERR_clear_error();
}

static void view_end(struct tls_client *c, const uint8_t **bytes, size_t *len)
{
	*bytes = c->in;
	*len = c->in_len;
	c->in = NULL;
	c->in_len = 0;
}

int tls_client_handshake(struct tls_client *c, const uint8_t **bytes, size_t *len, struct err *err)
{
	view(c, bytes, len);
	c->err = err;
	int rc = SSL_do_handshake(c->ssl);
	c->err = NULL;
	int why = SSL_get_error(c->ssl, rc);
	view_end(c, bytes, len);
	if (rc == 1) {
		const unsigned char *alpn = NULL;
		unsigned int n = 0;
		c->done = true;
		SSL_get0_alpn_selected(c->ssl, &alpn, &n);
		if (n && n < sizeof(c->alpn))
			memcpy(c->alpn, alpn, n);
		return 1;
	}
	if (why == SSL_ERROR_WANT_READ)
		return 0;
	if (c->refused)
		return c->refused;
	return tls_err(err, -EPROTO, "the handshake with %s", c->sni ? c->sni : "the server");
}

ssize_t tls_client_read(struct tls_client *c, const uint8_t **bytes, size_t *len, uint8_t *out, size_t size)
{
	view(c, bytes, len);
	int n = SSL_read(c->ssl, out, size > INT32_MAX ? INT32_MAX : (int)size);
	int why = n > 0 ? SSL_ERROR_NONE : SSL_get_error(c->ssl, n);
	view_end(c, bytes, len);
	if (n > 0)
		return n;
	return why == SSL_ERROR_WANT_READ ? 0 : why == SSL_ERROR_ZERO_RETURN ? -EPIPE : -EPROTO;
}

int tls_client_write(struct tls_client *c, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;
	ERR_clear_error();
	while (len) {
		size_t some = len < 16384 ? len : 16384;
		if (SSL_write(c->ssl, at, (int)some) != (int)some)
			return -EPROTO;
		at += some;
		len -= some;
	}
	return 0;
}

void tls_client_end(struct tls_client *c)
{
	ERR_clear_error();
	SSL_shutdown(c->ssl);
	ERR_clear_error();
}
