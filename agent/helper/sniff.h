/* SPDX-License-Identifier: Apache-2.0 */
/* What a client speaks, by its first bytes. Pure. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum sniffed {
	SNIFF_MORE,  /* can't be told yet: ask again with more bytes */
	SNIFF_HTTP1, /* a request line of HTTP/1 */
	SNIFF_HTTP2, /* the whole preface of HTTP/2 */
	SNIFF_TLS,   /* a whole ClientHello */
	SNIFF_OTHER,
};

/* SNIFF_MAX: with so many bytes it is always told. */
enum { SNIFF_MAX = 16 << 10, SNIFF_NAME_MAX = 256 };

/* name: of a ClientHello's server_name, lower case; "" when there is none. */
enum sniffed sniff(const uint8_t *bytes, size_t len, char name[SNIFF_NAME_MAX]);
/* What policies may hold of a connection's server name, of what sniff() said of its bytes: "": it has none; NULL: that can't
 * be told, as nothing was said yet, or TLS that is odd or not whole. */
const char *sniff_server_name(enum sniffed what, const uint8_t *bytes, size_t len, const char *name);
