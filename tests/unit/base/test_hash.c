/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "agent/base/hash.h"

static void test_hash64_is_fnv1a(void **state)
{
	(void)state;
	/* Vectors of the FNV reference code: ids that it makes must never change. */
	assert_true(hash64(HASH64_INIT, "", 0) == 0xcbf29ce484222325ull);
	assert_true(hash64(HASH64_INIT, "a", 1) == 0xaf63dc4c8601ec8cull);
	assert_true(hash64(HASH64_INIT, "foobar", 6) == 0x85944171f73967e8ull);
}

static void test_hash64_chained_equals_whole(void **state)
{
	(void)state;
	assert_true(hash64(hash64(HASH64_INIT, "foo", 3), "bar", 3) == hash64(HASH64_INIT, "foobar", 6));
}

static void test_hash64_str_boundaries_differ(void **state)
{
	(void)state;
	uint64_t a = hash64_str(hash64_str(HASH64_INIT, "a"), "b");
	uint64_t b = hash64_str(hash64_str(HASH64_INIT, "ab"), "");
	assert_true(a != b);
}

static void test_hash32_id_is_stable_and_not_zero(void **state)
{
	(void)state;
	assert_int_equal(hash32_id("foobar"), 0x85944171u ^ 0xf73967e8u);
	assert_int_not_equal(hash32_id(""), 0);
	assert_int_not_equal(hash32_id("a"), hash32_id("b"));
}

static void test_siphash_reference_vectors(void **state)
{
	(void)state;
	/* Key 00..0f, input 00..len-1, from the authors' vectors. */
	static const struct {
		size_t len;
		uint64_t want;
	} vectors[] = {
		{ 0, 0x726fdb47dd0e0e31ull },
		{ 1, 0x74f839c593dc67fdull },
		{ 8, 0x93f5f5799a932462ull },
		{ 15, 0xa129ca6149be45e5ull },
	};
	static const uint64_t key[2] = { 0x0706050403020100ull, 0x0f0e0d0c0b0a0908ull };
	uint8_t in[16];
	for (uint8_t i = 0; i < sizeof(in); i++)
		in[i] = i;
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
		assert_true(hash_siphash(key, in, vectors[i].len) == vectors[i].want);
}

static void test_hash_keyed_same_key_same_hash(void **state)
{
	(void)state;
	static const uint64_t zero[2];
	assert_true(hash_keyed("abc", 3) == hash_keyed("abc", 3));
	assert_true(hash_keyed("abc", 3) != hash_keyed("abd", 3));
	assert_true(hash_keyed("abc", 3) != hash_siphash(zero, "abc", 3)); /* a key was drawn */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hash64_is_fnv1a),
		cmocka_unit_test(test_hash64_chained_equals_whole),
		cmocka_unit_test(test_hash64_str_boundaries_differ),
		cmocka_unit_test(test_hash32_id_is_stable_and_not_zero),
		cmocka_unit_test(test_siphash_reference_vectors),
		cmocka_unit_test(test_hash_keyed_same_key_same_hash),
	};
	return cmocka_run_group_tests_name("base/hash", tests, NULL, NULL);
}
