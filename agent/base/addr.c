/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/str.h"

static const uint8_t v4_prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

static void addr_from_v4(struct addr *a, const void *v4)
{
	memcpy(a->b, v4_prefix, sizeof(v4_prefix));
	memcpy(a->b + 12, v4, 4);
}

bool addr_is_v4(const struct addr *a)
{
	return memcmp(a->b, v4_prefix, sizeof(v4_prefix)) == 0;
}

bool addr_is_zero(const struct addr *a)
{
	static const uint8_t zero[16];

	return memcmp(a->b, zero, 16) == 0 || (addr_is_v4(a) && memcmp(a->b + 12, zero, 4) == 0);
}

bool addr_is_loopback(const struct addr *a)
{
	if (addr_is_v4(a))
		return a->b[12] == 127;
	return memcmp(a->b, &in6addr_loopback, 16) == 0;
}

int addr_cmp(const struct addr *a, const struct addr *b)
{
	return memcmp(a->b, b->b, 16);
}

bool addr_eq(const struct addr *a, const struct addr *b)
{
	return addr_cmp(a, b) == 0;
}

bool addr_port_eq(const struct addr_port *a, const struct addr_port *b)
{
	return a->port == b->port && addr_eq(&a->addr, &b->addr);
}

int addr_parse(const char *text, struct addr *out)
{
	uint8_t v4[4];
	if (inet_pton(AF_INET, text, v4) == 1) {
		addr_from_v4(out, v4);
		return 0;
	}
	struct addr a;
	if (inet_pton(AF_INET6, text, a.b) != 1)
		return -EINVAL;
	*out = a;
	return 0;
}

int addr_port_parse(const char *text, struct addr_port *out)
{
	bool bracketed = text[0] == '[';
	const char *host = bracketed ? text + 1 : text;
	const char *end = strchr(host, bracketed ? ']' : ':');
	if (!end || (bracketed && end[1] != ':'))
		return -EINVAL;

	char buf[ADDR_TEXT_MAX];
	size_t len = (size_t)(end - host);
	if (len >= sizeof(buf))
		return -EINVAL;
	memcpy(buf, host, len);
	buf[len] = 0;

	struct addr_port a;
	uint64_t port;
	/* Brackets mean IPv6, so "[10.0.0.1]:80" is refused. */
	if (addr_parse(buf, &a.addr) < 0 || (bracketed && !strchr(buf, ':')))
		return -EINVAL;
	if (str_to_u64(end + (bracketed ? 2 : 1), UINT16_MAX, &port) < 0)
		return -EINVAL;
	a.port = (uint16_t)port;
	*out = a;
	return 0;
}

static void addr_mask(struct addr *a, unsigned int bits)
{
	for (unsigned int i = 0; i < 16; i++) {
		unsigned int keep = bits <= i * 8 ? 0 : bits - i * 8;
		if (keep < 8)
			a->b[i] &= (uint8_t)(0xff00u >> keep);
	}
}

int cidr_parse(const char *text, struct cidr *out)
{
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	char buf[ADDR_TEXT_MAX];
	if (len >= sizeof(buf))
		return -EINVAL;
	memcpy(buf, text, len);
	buf[len] = 0;

	struct cidr c;
	if (addr_parse(buf, &c.addr) < 0)
		return -EINVAL;

	/* "::ffff:10.0.0.0/104" counts from the front of the 128 bits; "10.0.0.0/8" from the IPv4 part. */
	unsigned int base = strchr(buf, ':') ? 0 : 96;
	uint64_t bits = 128 - base;
	if (slash && str_to_u64(slash + 1, 128 - base, &bits) < 0)
		return -EINVAL;
	c.bits = (uint8_t)(base + bits);
	addr_mask(&c.addr, c.bits);
	*out = c;
	return 0;
}

bool cidr_contains(const struct cidr *c, const struct addr *a)
{
	/* "::/0" means every IPv6 address; IPv4 sits inside it only because of how it is stored. */
	if (c->bits < 96 && addr_is_v4(a))
		return false;

	struct addr masked = *a;
	addr_mask(&masked, c->bits);
	return addr_eq(&masked, &c->addr);
}

/* By hand: each line of an access log has several. */
static size_t v4_text(const uint8_t b[4], char *buf)
{
	size_t n = 0;
	for (int i = 0; i < 4; i++) {
		if (i)
			buf[n++] = '.';
		if (b[i] >= 100)
			buf[n++] = (char)('0' + b[i] / 100);
		if (b[i] >= 10)
			buf[n++] = (char)('0' + b[i] / 10 % 10);
		buf[n++] = (char)('0' + b[i] % 10);
	}
	buf[n] = 0;
	return n;
}

const char *addr_text(const struct addr *a, char buf[ADDR_TEXT_MAX])
{
	if (addr_is_v4(a))
		v4_text(a->b + 12, buf);
	else
		inet_ntop(AF_INET6, a->b, buf, ADDR_TEXT_MAX);
	return buf;
}

const char *addr_port_text(const struct addr_port *a, char buf[ADDR_PORT_TEXT_MAX])
{
	size_t n;
	if (addr_is_v4(&a->addr)) {
		n = v4_text(a->addr.b + 12, buf);
	} else {
		buf[0] = '[';
		inet_ntop(AF_INET6, a->addr.b, buf + 1, ADDR_TEXT_MAX);
		n = strlen(buf);
		buf[n++] = ']';
	}
	buf[n++] = ':';
	char port[U64_TEXT_MAX];
	size_t digits = str_from_u64(a->port, port);
	memcpy(buf + n, port, digits + 1);
	return buf;
}

const char *cidr_text(const struct cidr *c, char buf[CIDR_TEXT_MAX])
{
	char host[ADDR_TEXT_MAX];
	bool v4 = addr_is_v4(&c->addr) && c->bits >= 96;
	addr_text(&c->addr, host);
	snprintf(buf, CIDR_TEXT_MAX, "%s/%d", host, v4 ? c->bits - 96 : c->bits);
	return buf;
}

int addr_from_sockaddr(const struct sockaddr *sa, struct addr_port *out)
{
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, sa, sizeof(in));
		addr_from_v4(&out->addr, &in.sin_addr);
		out->port = ntohs(in.sin_port);
		return 0;
	}
	if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;
		memcpy(&in6, sa, sizeof(in6));
		memcpy(out->addr.b, &in6.sin6_addr, 16);
		out->port = ntohs(in6.sin6_port);
		return 0;
	}
	return -EAFNOSUPPORT;
}

void addr_to_sockaddr6(const struct addr_port *a, struct sockaddr_in6 *out)
{
	*out = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(a->port) };
	memcpy(&out->sin6_addr, a->addr.b, 16);
}

socklen_t addr_to_sockaddr(const struct addr_port *a, struct sockaddr_storage *out)
{
	memset(out, 0, sizeof(*out));
	if (!addr_is_v4(&a->addr)) {
		struct sockaddr_in6 in6;
		addr_to_sockaddr6(a, &in6);
		memcpy(out, &in6, sizeof(in6));
		return sizeof(in6);
	}
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(a->port) };
	memcpy(&in.sin_addr, a->addr.b + 12, 4);
	memcpy(out, &in, sizeof(in));
	return sizeof(in);
}
