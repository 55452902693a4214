/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/hash.h"

#include <endian.h>
#include <pthread.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>

uint64_t hash64(uint64_t seed, const void *bytes, size_t len)
{
	const uint8_t *p = bytes;
	for (size_t i = 0; i < len; i++)
		seed = (seed ^ p[i]) * 0x100000001b3ull;
	return seed;
}

uint64_t hash64_str(uint64_t seed, const char *text)
{
	return hash64(seed, text, strlen(text) + 1);
}

uint32_t hash32_id(const char *text)
{
	uint64_t h = hash64(HASH64_INIT, text, strlen(text));
	uint32_t id = (uint32_t)(h ^ (h >> 32));

	return id ? id : 1;
}

static uint64_t key[2];
static pthread_once_t key_once = PTHREAD_ONCE_INIT;

static void key_draw(void)
{
	if (getrandom(key, sizeof(key), 0) == (ssize_t)sizeof(key))
		return;
	/* No system call (seccomp): the kernel gave 16 random bytes at exec. */
	const void *random = (const void *)getauxval(AT_RANDOM);
	if (random)
		memcpy(key, random, sizeof(key));
}

static uint64_t rotl(uint64_t x, unsigned int n)
{
	return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[1] = rotl(v[1], 13) ^ v[0];
	v[0] = rotl(v[0], 32);
	v[2] += v[3];
	v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3];
	v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1];
	v[1] = rotl(v[1], 17) ^ v[2];
	v[2] = rotl(v[2], 32);
}

static void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_round(v);
	sip_round(v);
	v[0] ^= word;
}

uint64_t hash_siphash(const uint64_t k[2], const void *bytes, size_t len)
{
	uint64_t v[4] = {
		k[0] ^ 0x736f6d6570736575ull,
		k[1] ^ 0x646f72616e646f6dull,
		k[0] ^ 0x6c7967656e657261ull,
		k[1] ^ 0x7465646279746573ull,
	};
	const uint8_t *p = bytes;
	uint64_t word, last = (uint64_t)len << 56;

	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&word, p, 8);
		sip_word(v, le64toh(word));
	}
	for (size_t i = 0; i < len; i++)
		last |= (uint64_t)p[i] << (8 * i);
	sip_word(v, last);

	v[2] ^= 0xff;
	for (int i = 0; i < 4; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint64_t hash_keyed(const void *bytes, size_t len)
{
	pthread_once(&key_once, key_draw);
	return hash_siphash(key, bytes, len);
}
