/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/tls_peer.h"

#include "agent/helper/tls_internal.h"
#include "agent/model/identity.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/x509v3.h>
#include <string.h>

enum { SUBJECT_MAX = 512 };

static int uri_copy(const ASN1_IA5STRING *text, char **out)
{
	int len = ASN1_STRING_length(text);
	const unsigned char *bytes = ASN1_STRING_get0_data(text);
	if (len <= 0 || len > IDENTITY_URI_MAX)
		return -EINVAL;
	for (int i = 0; i < len; i++)
		if (bytes[i] <= 0x20 || bytes[i] >= 0x7f)
			return -EINVAL;
	*out = strndup((const char *)bytes, (size_t)len);
	return *out ? 0 : -ENOMEM;
}

int tls_peer_uri(const X509 *cert, char **out)
{
	int crit = 0;
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, &crit, NULL);
	if (!names) {
		ERR_clear_error();
		/* -1: no such extension; -2: several of them; else it does not parse */
		return crit == -1 ? -ENOENT : crit == -2 ? -EEXIST : -EINVAL;
	}

	const GENERAL_NAME *found = NULL;
	int count = 0;
	for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type == GEN_URI && count++ == 0)
			found = name;
	}
	int rc = count == 1 ? uri_copy(found->d.uniformResourceIdentifier, out) : count ? -EEXIST : -ENOENT;
	GENERAL_NAMES_free(names);
	return rc;
}

int tls_peer_serial(const X509 *cert, char out[TLS_SERIAL_MAX])
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
	const unsigned char *bytes = ASN1_STRING_get0_data(serial);
	int len = ASN1_STRING_length(serial);
	while (len > 0 && *bytes == 0) {
		bytes++;
		len--;
	}
	if (len * 2 >= TLS_SERIAL_MAX)
		return -EINVAL;

	static const char digits[] = "0123456789abcdef";
	char *to = out;
	for (int i = 0; i < len; i++) {
		/* X509 prints "f" for 0x0f as its first byte; so do those who list revoked serials */
		if (i || bytes[i] >> 4)
			*to++ = digits[bytes[i] >> 4];
		*to++ = digits[bytes[i] & 15];
	}
	*to = '\0';
	return 0;
}

int tls_peer_hash(const X509 *cert, char out[TLS_HASH_SIZE])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned int len = 0;
	if (!X509_digest(cert, EVP_sha256(), hash, &len) || len * 2 + 1 != TLS_HASH_SIZE) {
		ERR_clear_error();
		return -EINVAL;
	}
	for (unsigned int i = 0; i < len; i++) {
		out[2 * i] = digits[hash[i] >> 4];
		out[2 * i + 1] = digits[hash[i] & 15];
	}
	out[TLS_HASH_SIZE - 1] = '\0';
	return 0;
}

char *tls_peer_subject(const X509 *cert)
{
	char text[SUBJECT_MAX + 1] = "";
	const char *from = text;
	BIO *bio = BIO_new(BIO_s_mem());
	int len = bio ? X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253) : -1;
	if (len > 0 && len <= SUBJECT_MAX && BIO_read(bio, text, len) == len)
		text[len] = '\0';
	else
		from = "";
	BIO_free(bio);
	ERR_clear_error();
	return strdup(from);
}

int tls_peer_uri_der(const uint8_t *der, size_t len, char **out)
{
	if (len > (1u << 20))
		return -EINVAL;
	X509 *cert = d2i_X509(NULL, &der, (long)len);
	if (!cert) {
		ERR_clear_error();
		return -EINVAL;
	}
	int rc = tls_peer_uri(cert, out);
	X509_free(cert);
	return rc;
}
