/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/route/grpc.h"

#include <string.h>

enum { TIMEOUT_DIGITS_MAX = 8, PREFIX_LEN = 5 };

bool grpc_is(const struct http_head *head)
{
	static const char type[] = "application/grpc";
	struct http_string value = http_get_id(head, HTTP_CONTENT_TYPE);
	size_t n = sizeof(type) - 1;
	if (!value.p || value.n < n || memcmp(value.p, type, n))
		return false;
	return value.n == n || value.p[n] == '+' || value.p[n] == ';';
}

/* gRPC over HTTP/2: at most eight digits and a unit. */
bool grpc_timeout(const struct http_head *head, uint64_t *ms)
{
	struct http_string value = http_get_id(head, HTTP_GRPC_TIMEOUT);
	if (!value.p || value.n < 2 || value.n > TIMEOUT_DIGITS_MAX + 1)
		return false;
	uint64_t n = 0;
	for (uint32_t i = 0; i + 1 < value.n; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(value.p[i] - '0');
	}
	switch (value.p[value.n - 1]) {
	case 'H':
		*ms = n * 3600000;
		return true;
	case 'M':
		*ms = n * 60000;
		return true;
	case 'S':
		*ms = n * 1000;
		return true;
	case 'm':
		*ms = n;
		return true;
	case 'u':
		*ms = (n + 999) / 1000;
		return true;
	case 'n':
		*ms = (n + 999999) / 1000000;
		return true;
	default:
		return false;
	}
}

int grpc_status(const struct http_head *head)
{
	struct http_string value = http_get_id(head, HTTP_GRPC_STATUS);
	if (!value.p || !value.n || value.n > 3)
		return -1;
	int n = 0;
	for (uint32_t i = 0; i < value.n; i++) {
		if (value.p[i] < '0' || value.p[i] > '9')
			return -1;
		n = n * 10 + (value.p[i] - '0');
	}
	return n;
}

/* grpc/doc/http-grpc-status-mapping.md */
int grpc_from_http(uint16_t status)
{
	switch (status) {
	case 400:
		return GRPC_INTERNAL;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 403:
		return GRPC_PERMISSION_DENIED;
	case 404:
		return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_UNAVAILABLE;
	default:
		return GRPC_UNKNOWN;
	}
}

uint16_t grpc_to_http(int grpc)
{
	static const uint16_t map[] = { 200, 499, 500, 400, 504, 404, 409, 403, 429,
					400, 409, 400, 501, 500, 503, 500, 401 };
	return grpc < 0 || (size_t)grpc >= sizeof(map) / sizeof(map[0]) ? 500 : map[grpc];
}

size_t grpc_message_encode(const char *text, size_t len, char *out, size_t size)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = 0;
	for (size_t i = 0; i < len && n + 3 <= size; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c >= 0x20 && c <= 0x7e && c != '%') {
			out[n++] = (char)c;
			continue;
		}
		out[n++] = '%';
		out[n++] = hex[c >> 4];
		out[n++] = hex[c & 15];
	}
	return n;
}

void grpc_count(struct grpc_counter *c, const uint8_t *bytes, size_t len)
{
	while (len) {
		if (c->left) {
			size_t n = len < c->left ? len : c->left;
			c->left -= (uint32_t)n;
			bytes += n;
			len -= n;
			continue;
		}
		c->prefix[c->have++] = *bytes++;
		len--;
		if (c->have < PREFIX_LEN)
			continue;
		c->have = 0;
		c->messages++;
		c->left = (uint32_t)c->prefix[1] << 24 | (uint32_t)c->prefix[2] << 16 | (uint32_t)c->prefix[3] << 8 |
			  c->prefix[4];
	}
}
