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
/* As tls_peer_uri, from DER: for the fuzzer and tests. */
int tls_peer_uri_der(const uint8_t *der, size_t len, char **out);
