/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/model/proxy.h"

static void test_remote_address(void **state)
{
	(void)state;
	static const struct {
		uint32_t trusted;
		const char *told, *want; /* want NULL: the source, and an error */
	} rows[] = {
		{ 0, "1.1.1.1", "9.9.9.9" },
		{ 1, NULL, "9.9.9.9" },
		{ 1, "", "9.9.9.9" },
		{ 1, "1.1.1.1", "1.1.1.1" },
		{ 1, "1.1.1.1,2.2.2.2", "2.2.2.2" },
		{ 2, "1.1.1.1 , \t2.2.2.2", "1.1.1.1" },
		{ 2, "1.1.1.1", "9.9.9.9" },
		{ 1000, "1.1.1.1,,", "9.9.9.9" },
		{ 1, "fd00::1", "fd00::1" },
		{ 1, "[fd00::1]", "fd00::1" },
		{ 1, "[fd00::1]:443", "fd00::1" },
		{ 1, "1.1.1.1:443", "1.1.1.1" },
		{ 1, "1.1.1.1,", NULL },
		{ 2, "x, 1.1.1.1", NULL },
		{ 1, "unknown", NULL },
		{ 1, "1.1.1.1.1", NULL },
		{ 1, "1.1.1.1/8", NULL },
		{ 1, "[fd00::1", NULL },
		{ 1, "[fd00::1]x", NULL },
		{ 1, "[", NULL },
		{ 1, ":", NULL },
		{ 1, "1111111111111111111111111111111111111111111111111111111111111111111111111", NULL },
	};
	struct addr source, out, want;
	addr_parse("9.9.9.9", &source);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		/* exactly as much memory as there is text */
		size_t n = rows[i].told ? strlen(rows[i].told) : 0;
		char *told = n ? malloc(n) : NULL;
		if (n)
			memcpy(told, rows[i].told, n);
		int rc = proxy_remote_addr(rows[i].trusted, rows[i].told ? n ? told : "" : NULL, n, &source, &out);
		addr_parse(rows[i].want ? rows[i].want : "9.9.9.9", &want);
		if (rc != (rows[i].want ? 0 : -EINVAL) || !addr_eq(&out, &want))
			fail_msg("%u of \"%s\": %d", rows[i].trusted, rows[i].told ? rows[i].told : "", rc);
		free(told);
	}
}

static void test_each_setting_is_in_the_digest(void **state)
{
	(void)state;
	const struct proxy_settings each[] = {
		{ 0 },
		{ .preserve_case = true },
		{ .no_attempt_count = true },
		{ .no_request_id = true },
		{ .no_envoy_headers = true },
		{ .client_cert_asked = true },
		{ .no_cert_uri = true },
		{ .no_cert_subject = true },
		{ .server = (char *)"" },
		{ .server = (char *)"x" },
		{ .client_cert = PROXY_CERT_SANITIZE },
		{ .trusted_proxies = 1 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(each); i++) {
		assert_int_equal(proxy_settings_default(&each[i]), i == 0);
		for (size_t k = 0; k < i; k++)
			assert_true(proxy_settings_digest(HASH64_INIT, &each[i]) !=
				    proxy_settings_digest(HASH64_INIT, &each[k]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_remote_address),
		cmocka_unit_test(test_each_setting_is_in_the_digest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
