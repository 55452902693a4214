/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a peer is who we expect. It runs inside the handshake, so a peer that is refused gets an alert and never
 * reaches HTTP/2. Order: chain and dates, revoked serials, then the one SPIFFE URI. */
#include "agent/helper/tls_handshake_internal.h"

#include "agent/helper/tls_credentials.h"
#include "agent/model/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int verify_refuse(struct tls_handshake *hs, X509_STORE_CTX *store, enum drop_reason reason, int alert_error)
{
	hs->reason = reason;
	X509_STORE_CTX_set_error(store, alert_error);
	return 0;
}

static bool expected(const struct tls_handshake *hs, const struct identity *peer)
{
	for (size_t i = 0; i < hs->uri_count; i++)
		if (strcmp(hs->uris[i], peer->uri) == 0)
			return true;
	for (size_t i = 0; hs->uri_count == 0 && i < hs->trust_domain_count; i++)
		if (strcmp(hs->trust_domains[i], peer->trust_domain) == 0)
			return true;
	return false;
}

/* Notes the serials of the chain but for the root; the first that is revoked, or that does not fit, refuses. */
static int verify_serials(struct tls_handshake *hs, X509_STORE_CTX *store)
{
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);
	int count = sk_X509_num(chain) > 1 ? sk_X509_num(chain) - 1 : sk_X509_num(chain);
	if (count > TLS_PEER_CHAIN_MAX) {
		err_set(&hs->err, -EINVAL, "tls: the peer's certificate chain is longer than %d", TLS_PEER_CHAIN_MAX);
		return verify_refuse(hs, store, DROP_TLS_UNTRUSTED, X509_V_ERR_CERT_CHAIN_TOO_LONG);
	}
	for (int i = 0; i < count; i++) {
		char *serial = hs->peer.serials[i];
		if (tls_peer_serial(sk_X509_value(chain, i), serial) < 0) {
			err_set(&hs->err, -EINVAL, "tls: the peer's certificate has an overlong serial number");
			return verify_refuse(hs, store, DROP_TLS_UNTRUSTED, X509_V_ERR_CERT_REJECTED);
		}
		hs->peer.serial_count = (size_t)i + 1;
		if (tls_trust_revokes(hs->context->trust, serial)) {
			err_set(&hs->err, -EACCES, "tls: the peer's certificate %s is revoked", serial);
			return verify_refuse(hs, store, DROP_TLS_REVOKED, X509_V_ERR_CERT_REVOKED);
		}
	}
	return 1;
}

static int verify_identity(struct tls_handshake *hs, X509_STORE_CTX *store, X509 *cert)
{
	int rc = tls_peer_uri(cert, &hs->peer_uri);
	if (rc < 0) {
		err_set(&hs->err, -EACCES, "tls: the peer's certificate has %s",
			rc == -ENOENT ? "no URI SAN" :
			rc == -EEXIST ? "more than one URI SAN" :
					"a malformed SAN");
		return verify_refuse(hs, store, DROP_TLS_IDENTITY, X509_V_ERR_APPLICATION_VERIFICATION);
	}
	if (identity_parse(hs->peer_uri, &hs->peer.identity, &hs->err) < 0)
		return verify_refuse(hs, store, DROP_TLS_IDENTITY, X509_V_ERR_APPLICATION_VERIFICATION);
	if (!expected(hs, hs->peer.identity)) {
		err_set(&hs->err, -EACCES, "tls: the peer is %s, expected was %s%s", hs->peer_uri,
			hs->uri_count ? hs->uris[0] : "an identity of our trust domain",
			hs->uri_count > 1 ? " or another of the service's" : "");
		return verify_refuse(hs, store, DROP_TLS_IDENTITY, X509_V_ERR_APPLICATION_VERIFICATION);
	}
	return 1;
}

/* What x-forwarded-client-cert says of it besides the URI. Without memory it says less. */
static void note_certificate(struct identity *peer, X509 *cert)
{
	char hash[TLS_HASH_SIZE];
	if (tls_peer_hash(cert, hash) < 0)
		return;
	peer->certificate_hash = strdup(hash);
	peer->certificate_subject = tls_peer_subject(cert);
}

int tls_verify(X509_STORE_CTX *store, void *arg)
{
	(void)arg;
	const SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	struct tls_handshake *hs = SSL_get_app_data(ssl);
	X509 *cert = X509_STORE_CTX_get0_cert(store);
	if (X509_verify_cert(store) != 1) {
		err_set(&hs->err, -EACCES, "tls: the peer's certificate: %s",
			X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
		/* Only for the message: nobody has vouched for it. */
		if (tls_peer_uri(cert, &hs->peer_uri) < 0)
			hs->peer_uri = NULL;
		hs->reason = DROP_TLS_UNTRUSTED;
		return 0;
	}
	if (!verify_serials(hs, store) || !verify_identity(hs, store, cert))
		return 0;
	if (hs->server)
		note_certificate(hs->peer.identity, cert);
	return 1;
}
