/* SPDX-License-Identifier: Apache-2.0 */
/* A CSR as a helper might send it: what is signed carries exactly the identity that was meant, or nothing is signed.
 * Input that is no PEM is wrapped as a CSR's body, so that the fuzzer reaches the DER. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/ca/ca.h"

#define IDENTITY "spiffe://cluster.local/ns/shop/sa/frontend"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/weft-fuzz-ca-XXXXXX";

static void dir_remove(void)
{
	static const char *const names[] = { "ca-key.pem", "root-cert.pem", "trusted-roots.json" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		AUTO(mem_freep) char *path = str_format("%s/%s", dir, names[i]);
		if (path)
			unlink(path);
	}
	rmdir(dir);
}

static struct ca *ca_once(void)
{
	static struct ca *ca;
	const struct ca_options options = { .dir = dir, .trust_domain = "cluster.local", .now_s = 1800000000 };

	if (ca)
		return ca;
	if (!mkdtemp(dir) || atexit(dir_remove) != 0 || ca_open(&options, &ca, NULL) < 0)
		abort();
	return ca;
}

static char *wrap(const uint8_t *data, size_t size)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct sb sb = { 0 };

	sb_add(&sb, "-----BEGIN CERTIFICATE REQUEST-----\n");
	for (size_t i = 0; i < size; i += 3) {
		uint32_t bits = 0;
		for (size_t k = 0; k < 3; k++)
			bits = bits << 8 | (i + k < size ? data[i + k] : 0u);
		size_t left = size - i;
		sb_addf(&sb, "%c%c%c%c%s", digits[bits >> 18], digits[bits >> 12 & 63],
			left > 1 ? digits[bits >> 6 & 63] : '=', left > 2 ? digits[bits & 63] : '=',
			i % 48 == 45 ? "\n" : "");
	}
	sb_add(&sb, "\n-----END CERTIFICATE REQUEST-----\n");
	return sb_take(&sb);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool is_pem = size > 11 && memcmp(data, "-----BEGIN ", 11) == 0;
	AUTO(mem_freep) char *pem = is_pem ? strndup((const char *)data, size) : wrap(data, size);
	AUTO(mem_freep) char *chain = NULL;
	uint64_t not_after_s = 0;

	if (!pem || ca_sign(ca_once(), IDENTITY, pem, 1800000000, &chain, &not_after_s, NULL) < 0) {
		assert(!chain);
		return 0;
	}
	const struct ca_cert *certs;
	size_t n = ca_issued(ca_once(), 1800000000, &certs);
	assert(n && strcmp(certs[n - 1].identity, IDENTITY) == 0);
	assert(not_after_s == 1800000000 + 86400);
	return 0;
}
