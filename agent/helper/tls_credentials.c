/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/tls_credentials.h"

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/helper/tls_internal.h"
#include "agent/helper/tls_key.h"
#include "agent/helper/tls_peer.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/pem.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { CHAIN_MAX = 16, ROOTS_MAX = 1024 };

struct tls_credentials {
	atomic_uint refs;
	char *uri;
	EVP_PKEY *pkey;
	X509 *leaf;
	STACK_OF(X509) * chain; /* intermediates */
	uint64_t not_after_s;
};

struct tls_trust {
	atomic_uint refs;
	X509_STORE *store;
	struct table *revoked; /* serial -> itself */
};

static void credentials_free(struct tls_credentials *c)
{
	free(c->uri);
	EVP_PKEY_free(c->pkey);
	X509_free(c->leaf);
	sk_X509_pop_free(c->chain, X509_free);
	free(c);
}

/* Reads every certificate of a PEM text; the first goes to *leaf when asked for, the others to the chain. */
static int chain_read(const char *pem, int max, X509 **leaf, STACK_OF(X509) * chain)
{
	ERR_clear_error();
	BIO *bio = BIO_new_mem_buf(pem, -1);
	if (!bio)
		return -ENOMEM;

	int count = 0, rc = 0;
	X509 *cert;
	while (count <= max && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		if (count++ == 0 && leaf)
			*leaf = cert;
		else if (!sk_X509_push(chain, cert)) {
			X509_free(cert);
			rc = -ENOMEM;
			break;
		}
	}
	/* The end of the text is reported as an error of its own; anything else is a damaged certificate. */
	unsigned long e = ERR_peek_last_error();
	if (rc == 0 && (count == 0 || count > max || (e && ERR_GET_REASON(e) != PEM_R_NO_START_LINE)))
		rc = -EINVAL;
	BIO_free(bio);
	if (rc == 0)
		ERR_clear_error();
	return rc;
}

static int credentials_check(struct tls_credentials *c, struct err *err)
{
	if (X509_check_private_key(c->leaf, c->pkey) != 1)
		return tls_err(err, -EINVAL, "certificate for %s: it was issued for another key", c->uri);

	char *uri = NULL;
	int rc = tls_peer_uri(c->leaf, &uri);
	if (rc < 0 || strcmp(uri, c->uri) != 0)
		rc = err_set(err, -EINVAL, "tls: certificate for %s: its URI SAN is %s", c->uri,
			     uri ? uri : "missing or not unique");
	free(uri);
	if (rc < 0)
		return rc;

	struct tm tm;
	if (ASN1_TIME_to_tm(X509_get0_notAfter(c->leaf), &tm) != 1)
		return tls_err(err, -EINVAL, "certificate for %s: bad notAfter", c->uri);
	time_t when = timegm(&tm);
	c->not_after_s = when > 0 ? (uint64_t)when : 0;
	return 0;
}

int tls_credentials_new(const char *uri, const struct tls_key *key, const char *chain_pem, struct tls_credentials **out,
			struct err *err)
{
	struct tls_credentials *c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(err, -ENOMEM, "tls: allocate credentials");

	atomic_init(&c->refs, 1);
	c->uri = strdup(uri);
	c->chain = sk_X509_new_null();
	c->pkey = tls_key_pkey(key);
	EVP_PKEY_up_ref(c->pkey);
	int rc = c->uri && c->chain ? chain_read(chain_pem, CHAIN_MAX, &c->leaf, c->chain) : -ENOMEM;
	if (rc < 0)
		rc = tls_err(err, rc, "read the certificate chain for %s", uri);
	else
		rc = credentials_check(c, err);
	if (rc < 0) {
		credentials_free(c);
		return rc;
	}
	*out = c;
	return 0;
}

struct tls_credentials *tls_credentials_ref(struct tls_credentials *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void tls_credentials_unref(struct tls_credentials *c)
{
	if (c && atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) == 1)
		credentials_free(c);
}

const char *tls_credentials_uri(const struct tls_credentials *c)
{
	return c->uri;
}

uint64_t tls_credentials_not_after_s(const struct tls_credentials *c)
{
	return c->not_after_s;
}

int tls_credentials_use(const struct tls_credentials *c, SSL_CTX *ctx)
{
	return SSL_CTX_use_cert_and_key(ctx, c->leaf, c->pkey, c->chain, 1) == 1 ? 0 : -EINVAL;
}

static void trust_free(struct tls_trust *t)
{
	X509_STORE_free(t->store);
	table_free(t->revoked);
	free(t);
}

static int trust_add_roots(struct tls_trust *t, const char *pem)
{
	STACK_OF(X509) *roots = sk_X509_new_null();
	int rc = roots ? chain_read(pem, ROOTS_MAX, NULL, roots) : -ENOMEM;
	for (int i = 0; rc == 0 && i < sk_X509_num(roots); i++)
		if (X509_STORE_add_cert(t->store, sk_X509_value(roots, i)) != 1)
			rc = -ENOMEM;
	sk_X509_pop_free(roots, X509_free);
	return rc;
}

static int trust_add_revoked(struct tls_trust *t, const char *serial)
{
	char text[TLS_SERIAL_MAX];
	size_t len = 0;
	while (*serial == '0')
		serial++;
	for (; *serial; serial++) {
		if (!isxdigit((unsigned char)*serial) || len + 1 >= sizeof(text))
			return -EINVAL;
		text[len++] = (char)tolower((unsigned char)*serial);
	}
	text[len] = '\0';
	return table_set_str(t->revoked, text, t);
}

int tls_trust_new(const char *roots_pem, const char *const *revoked, size_t revoked_count, struct tls_trust **out,
		  struct err *err)
{
	struct tls_trust *t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(err, -ENOMEM, "tls: allocate trust");

	atomic_init(&t->refs, 1);
	t->store = X509_STORE_new();
	t->revoked = table_new(NULL);
	int rc = t->store && t->revoked ? 0 : err_set(err, -ENOMEM, "tls: allocate trust");
	if (rc == 0 && (rc = trust_add_roots(t, roots_pem)) < 0)
		tls_err(err, rc, "read the root certificates");
	for (size_t i = 0; rc == 0 && i < revoked_count; i++) {
		rc = trust_add_revoked(t, revoked[i]);
		if (rc < 0)
			err_set(err, rc, "tls: revoked serial \"%.40s\" is not a hexadecimal number", revoked[i]);
	}
	if (rc < 0) {
		trust_free(t);
		return rc;
	}
	*out = t;
	return 0;
}

struct tls_trust *tls_trust_ref(struct tls_trust *t)
{
	atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
	return t;
}

void tls_trust_unref(struct tls_trust *t)
{
	if (t && atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) == 1)
		trust_free(t);
}

bool tls_trust_revokes(const struct tls_trust *t, const char *serial)
{
	return table_get_str(t->revoked, serial) != NULL;
}

X509_STORE *tls_trust_store(const struct tls_trust *t)
{
	return t->store;
}
