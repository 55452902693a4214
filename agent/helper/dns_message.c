/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/dns_message.h"

#include <errno.h>
#include <string.h>

enum { FLAG_QR = 0x8000, FLAG_OPCODE = 0x7800, FLAG_AA = 0x0400, FLAG_TC = 0x0200, FLAG_RD = 0x0100, FLAG_RA = 0x0080 };
enum { LABEL_MAX = 63, NAME_WIRE_MAX = 255, POINTER = 0xc0, RR_FIXED_LEN = 10, OPT_LEN = 11 };

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v & 0xffff);
}

/* Letters, digits, hyphen and underscore, lowered; 0 for what no name of the mesh has. */
static char name_char(uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c | 0x20);
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_')
		return (char)c;
	return 0;
}

/* The first name of a message. A pointer there could only lead into the header or to itself, so it is malformed. Returns
 * the offset after it, or -EINVAL. */
static int question_name(const uint8_t *message, size_t len, char text[DNS_NAME_MAX])
{
	size_t at = DNS_HEADER_LEN, n = 0;
	bool plain = true;
	for (;;) {
		if (at >= len)
			return -EINVAL;
		size_t label = message[at++];
		if (label == 0)
			break;
		if (label > LABEL_MAX || at + label > len || at + label - DNS_HEADER_LEN >= NAME_WIRE_MAX)
			return -EINVAL;
		if (n)
			text[n++] = '.';
		for (size_t i = 0; i < label; i++) {
			char c = name_char(message[at + i]);
			plain &= c != 0;
			text[n++] = c;
		}
		at += label;
	}
	text[plain ? n : 0] = 0;
	return (int)at;
}

/* Past a name of any record, whose pointers need not be followed: a name ends with its first one. 0: malformed. */
static size_t name_skip(const uint8_t *message, size_t len, size_t at)
{
	while (at < len) {
		size_t label = message[at];
		if (label == 0)
			return at + 1;
		if ((label & POINTER) == POINTER)
			return at + 2 <= len ? at + 2 : 0;
		if (label > LABEL_MAX)
			return 0;
		at += label + 1;
	}
	return 0;
}

/* The records after the question, for the one that is EDNS. */
static int query_records(const uint8_t *message, size_t len, struct dns_query *q)
{
	unsigned int count = (unsigned int)get16(message + 6) + get16(message + 8) + get16(message + 10);
	size_t at = q->question_end;
	/* Each takes at least 11 bytes, so this is bounded by len. */
	for (unsigned int i = 0; i < count; i++) {
		size_t fixed = name_skip(message, len, at);
		if (!fixed || fixed + RR_FIXED_LEN > len)
			return -EINVAL;
		size_t rdata = get16(message + fixed + 8);
		if (fixed + RR_FIXED_LEN + rdata > len)
			return -EINVAL;
		if (get16(message + fixed) == DNS_TYPE_OPT) {
			if (q->edns || fixed != at + 1)
				return -EINVAL; /* RFC 6891, 6.1.1: one at most, and its name is the root */
			q->edns = true;
			uint16_t size = get16(message + fixed + 2);
			q->udp_size = size > DNS_UDP_PLAIN_MAX ? size : DNS_UDP_PLAIN_MAX;
		}
		at = fixed + RR_FIXED_LEN + rdata;
	}
	return 0;
}

int dns_query_parse(const uint8_t *message, size_t len, struct dns_query *q)
{
	if (len < DNS_HEADER_LEN || len > DNS_MESSAGE_MAX)
		return -EINVAL;
	*q = (struct dns_query){ .id = get16(message), .udp_size = DNS_UDP_PLAIN_MAX };
	uint16_t flags = get16(message + 2);
	if (flags & FLAG_QR)
		return -EINVAL;
	q->recursion_desired = flags & FLAG_RD;
	if ((flags & FLAG_OPCODE) || get16(message + 4) != 1)
		return -ENOTSUP;

	int end = question_name(message, len, q->name);
	if (end < 0 || (size_t)end + 4 > len)
		return -EINVAL;
	q->type = get16(message + end);
	q->class = get16(message + end + 2);
	q->question_end = (size_t)end + 4;
	return query_records(message, len, q);
}

size_t dns_udp_limit(const struct dns_query *query)
{
	return query->udp_size < DNS_UDP_EDNS_MAX ? query->udp_size : DNS_UDP_EDNS_MAX;
}

static bool addr_wanted(const struct dns_query *q, const struct addr *a)
{
	if (q->class != DNS_CLASS_IN && q->class != DNS_CLASS_ANY)
		return false;
	return q->type == DNS_TYPE_ANY || q->type == (addr_is_v4(a) ? DNS_TYPE_A : DNS_TYPE_AAAA);
}

static size_t record_write(uint8_t *to, const struct addr *a, uint32_t ttl_s)
{
	bool v4 = addr_is_v4(a);
	size_t size = v4 ? 4 : 16;
	put16(to, POINTER << 8 | DNS_HEADER_LEN); /* the question's name */
	put16(to + 2, v4 ? DNS_TYPE_A : DNS_TYPE_AAAA);
	put16(to + 4, DNS_CLASS_IN);
	put32(to + 6, ttl_s);
	put16(to + 10, (uint32_t)size);
	memcpy(to + 12, a->b + 16 - size, size);
	return 12 + size;
}

static size_t opt_write(uint8_t *to)
{
	memset(to, 0, OPT_LEN);
	put16(to + 1, DNS_TYPE_OPT);
	put16(to + 3, DNS_UDP_EDNS_MAX);
	return OPT_LEN;
}

size_t dns_response_write(const uint8_t *message, const struct dns_query *q, enum dns_rcode rcode,
			  const struct addr *addrs, size_t addr_count, uint32_t ttl_s, uint8_t *to, size_t max)
{
	size_t tail = q->edns ? OPT_LEN : 0, at = q->question_end;
	if (at + tail > max)
		return 0;
	memcpy(to, message, at);
	uint32_t flags = FLAG_QR | FLAG_AA | FLAG_RA | (q->recursion_desired ? FLAG_RD : 0) | rcode;
	uint32_t count = 0;
	for (size_t i = 0; i < addr_count; i++) {
		/* Starting at another one each time spreads clients that take the first. */
		const struct addr *a = &addrs[(i + q->id) % addr_count];
		if (!addr_wanted(q, a))
			continue;
		if (at + 28 + tail > max || count == UINT16_MAX) {
			flags |= FLAG_TC;
			count = 0;
			at = q->question_end;
			break;
		}
		at += record_write(to + at, a, ttl_s);
		count++;
	}
	if (q->edns)
		at += opt_write(to + at);
	put16(to + 2, flags);
	put16(to + 6, count);
	put16(to + 8, 0);
	put16(to + 10, q->edns ? 1 : 0);
	return at;
}

size_t dns_formerr_write(const uint8_t *message, size_t len, uint8_t to[DNS_HEADER_LEN])
{
	/* Answering a response could go back and forth for ever. */
	if (len < DNS_HEADER_LEN || (get16(message + 2) & FLAG_QR))
		return 0;
	memset(to, 0, DNS_HEADER_LEN);
	memcpy(to, message, 2);
	put16(to + 2, FLAG_QR | (get16(message + 2) & (FLAG_OPCODE | FLAG_RD)) | DNS_FORMERR);
	return DNS_HEADER_LEN;
}

bool dns_is_response(const uint8_t *message, size_t len, uint16_t id)
{
	return len >= DNS_HEADER_LEN && get16(message) == id && (get16(message + 2) & FLAG_QR);
}
