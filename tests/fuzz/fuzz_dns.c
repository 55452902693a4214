/* SPDX-License-Identifier: Apache-2.0 */
/* DNS queries of pods: what is parsed must be answered within the limit, and the answer must be a response to it. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/helper/dns_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void answer(const uint8_t *message, const struct dns_query *q, size_t max)
{
	struct addr addrs[40] = { 0 };
	AUTO(mem_freep) uint8_t *reply = malloc(max); /* exactly, so that ASan sees a write past it */
	for (size_t i = 0; i < ARRAY_SIZE(addrs); i++) {
		addrs[i].b[15] = (uint8_t)(i + 1);
		if (i % 2)
			addrs[i].b[10] = addrs[i].b[11] = 0xff;
	}
	size_t n = dns_response_write(message, q, DNS_NOERROR, addrs, ARRAY_SIZE(addrs), 30, reply, max);
	assert(n <= max);
	assert(!n || dns_is_response(reply, n, q->id));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(mem_freep) uint8_t *message = malloc(size + !size);
	struct dns_query q;
	uint8_t header[DNS_HEADER_LEN];
	if (!message)
		return 0;
	if (size)
		memcpy(message, data, size);
	int rc = dns_query_parse(message, size, &q);
	if (rc == 0) {
		assert(strlen(q.name) < DNS_NAME_MAX && q.question_end <= size);
		assert(dns_udp_limit(&q) >= DNS_UDP_PLAIN_MAX);
		answer(message, &q, dns_udp_limit(&q));
		answer(message, &q, DNS_MESSAGE_MAX);
		answer(message, &q, q.question_end);
	}
	size_t n = dns_formerr_write(message, size, header);
	assert(!n || (n == DNS_HEADER_LEN && (header[2] & 0x80)));
	return 0;
}
