/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, prefixes, durations and numbers as text: whatever is accepted must survive a round trip. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/addr.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Exactly the bytes and a NUL, so that ASan sees a read past them. */
	AUTO(mem_freep) char *text = malloc(size + 1);
	if (!text)
		return 0;
	if (size)
		memcpy(text, data, size);
	text[size] = 0;

	struct addr_port ap, ap2;
	char ap_buf[ADDR_PORT_TEXT_MAX];
	if (addr_port_parse(text, &ap) == 0) {
		int rc = addr_port_parse(addr_port_text(&ap, ap_buf), &ap2);
		assert(rc == 0 && addr_port_eq(&ap, &ap2));
	}
	struct cidr c, c2;
	char cidr_buf[CIDR_TEXT_MAX];
	if (cidr_parse(text, &c) == 0) {
		int rc = cidr_parse(cidr_text(&c, cidr_buf), &c2);
		assert(rc == 0 && c.bits == c2.bits && addr_eq(&c.addr, &c2.addr));
		assert(c.bits < 96 || cidr_contains(&c, &c.addr));
	}
	uint64_t n;
	if (str_to_u64(text, 65535, &n) == 0)
		assert(n <= 65535);
	if (str_to_duration_ns(text, &n) == 0)
		assert(strpbrk(text, "0123456789"));
	assert(str_distance(text, text, 3) == 0 || strlen(text) > 128);
	return 0;
}
