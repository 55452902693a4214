/* SPDX-License-Identifier: Apache-2.0 */
/* DNS messages (RFC 1035, EDNS(0) of RFC 6891), as far as the mesh's own names need. Strict and bounded; pure. */
#pragma once

#include "agent/base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	DNS_HEADER_LEN = 12,
	DNS_NAME_MAX = 256,	 /* text and NUL: 255 octets on the wire are at most 253 characters */
	DNS_UDP_PLAIN_MAX = 512, /* without EDNS */
	DNS_UDP_EDNS_MAX = 1232, /* what we offer, and the most that we send: no fragments */
	DNS_MESSAGE_MAX = 65535,
};

enum {
	DNS_TYPE_A = 1,
	DNS_TYPE_AAAA = 28,
	DNS_TYPE_OPT = 41,
	DNS_TYPE_ANY = 255,
	DNS_CLASS_IN = 1,
	DNS_CLASS_ANY = 255
};
enum dns_rcode { DNS_NOERROR = 0, DNS_FORMERR = 1, DNS_SERVFAIL = 2 };

struct dns_query {
	uint16_t id, type, class;
	bool recursion_desired;
	char name[DNS_NAME_MAX]; /* lower case, no final dot; "" when it can't be a name that the mesh owns */
	size_t question_end;	 /* offset of what follows the question */
	bool edns;
	uint16_t udp_size; /* that the client takes, at least 512 */
};

/* 0: a standard query with one question. -ENOTSUP: well-formed as far as looked at, but of another kind: not ours to
 * judge. -EINVAL: malformed. */
int dns_query_parse(const uint8_t *message, size_t len, struct dns_query *out);

/* A response of at most max bytes to a query that was parsed from `message`; the question is repeated as it came. With
 * no fitting addresses it is NODATA. Too large: the TC bit, and no records. Returns the length, 0 when max is too small. */
size_t dns_response_write(const uint8_t *message, const struct dns_query *query, enum dns_rcode rcode,
			  const struct addr *addrs, size_t addr_count, uint32_t ttl_s, uint8_t *to, size_t max);
/* A response with just the header, for what could not be parsed. Returns the length, 0 when there is no header. */
size_t dns_formerr_write(const uint8_t *message, size_t len, uint8_t to[DNS_HEADER_LEN]);
/* The most bytes that a response to this query may have over UDP. */
size_t dns_udp_limit(const struct dns_query *query);
/* Whether the message is a response with the query's id. */
bool dns_is_response(const uint8_t *message, size_t len, uint16_t id);
