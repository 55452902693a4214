/* SPDX-License-Identifier: Apache-2.0 */
/* What a peer's certificate says about it. Input is from strangers. Pure functions. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct x509_st;

enum { TLS_SERIAL_MAX = 64 }; /* hex digits and NUL; RFC 5280 allows 20 bytes */

/* The certificate's only URI SAN; caller frees *out. -ENOENT: none, -EEXIST: several, -EINVAL: malformed, with a NUL
 * or other control character, or longer than SPIFFE allows. */
int tls_peer_uri(const struct x509_st *cert, char **out);
/* Serial number as lower-case hex without leading zeros. -EINVAL when it is longer than any may be. */
int tls_peer_serial(const struct x509_st *cert, char out[TLS_SERIAL_MAX]);
/* SHA-256 of the certificate in hexadecimal digits. 0 or -EINVAL. */
enum { TLS_HASH_SIZE = 65 };
int tls_peer_hash(const struct x509_st *cert, char out[TLS_HASH_SIZE]);
/* Its subject as in RFC 2253, where quotes and control characters are escaped; "" when it is empty, or longer than any need
 * be. Caller frees; NULL: no memory. */
char *tls_peer_subject(const struct x509_st *cert);
/* As tls_peer_uri, from DER: for the fuzzer and tests. */
int tls_peer_uri_der(const uint8_t *der, size_t len, char **out);
