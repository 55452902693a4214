/* SPDX-License-Identifier: Apache-2.0 */
/* Hashes. FNV-1a for content ids that must be the same on every run and node; siphash-2-4 with a
 * per-process random key for tables that strangers can fill. Pure but for the lazily drawn key. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define HASH64_INIT 0xcbf29ce484222325ull

uint64_t hash64(uint64_t seed, const void *bytes, size_t len); /* FNV-1a 64, chainable, stable */
uint64_t hash64_str(uint64_t seed, const char *text);	       /* includes the NUL, so "a","b" != "ab","" */
uint32_t hash32_id(const char *text);			       /* stable, never 0: ids of identities, services */
uint64_t hash_keyed(const void *bytes, size_t len);	       /* siphash-2-4, keyed per process */
uint64_t hash_siphash(const uint64_t k[2], const void *bytes, size_t len); /* siphash-2-4 with a given key */
