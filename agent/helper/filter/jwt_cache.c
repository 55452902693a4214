/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens that were verified, because a signature costs more than the rest of a request; only good ones, so that strangers
 * can't push them out, and whole, so that a hash that collides says nothing. Two places for each hash; the older goes.
 * Filters are named by their content hash, in which the keys are: new keys, new entries. */
#include "agent/helper/filter/jwt.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/helper/filter/jwt_keys.h"
#include "agent/helper/filter/jwt_token.h"
#include "agent/model/filters.h"

struct verified {
	uint64_t id, hash, used;
	size_t index, len;
	char *token;
	struct exchange_claims *claims;
	bool has_exp;
	int64_t exp;
};

struct jwt_cache {
	struct verified slots[JWT_CACHE_SLOTS];
	size_t bytes;
	uint64_t clock;
	struct table *keys; /* {id, index} -> jwt_keys */
};

static pthread_key_t cache_key;
static pthread_once_t cache_once = PTHREAD_ONCE_INIT;
static __thread struct jwt_cache *cache;

static void verified_drop(struct jwt_cache *c, struct verified *v)
{
	c->bytes -= v->len;
	free(v->token);
	exchange_claims_free(v->claims);
	*v = (struct verified){ 0 };
}

static void on_thread_end(void *value)
{
	struct jwt_cache *c = value;

	for (size_t i = 0; i < JWT_CACHE_SLOTS; i++)
		verified_drop(c, &c->slots[i]);
	table_free(c->keys);
	free(c);
	cache = NULL;
}

static void cache_key_make(void)
{
	if (pthread_key_create(&cache_key, on_thread_end) != 0)
		abort(); /* at the first token of the process: nothing else could have used them up */
}

static void on_keys_free(void *value)
{
	jwt_keys_free(value);
}

static struct jwt_cache *cache_here(void)
{
	if (cache)
		return cache;
	pthread_once(&cache_once, cache_key_make);
	struct jwt_cache *c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->keys = table_new(on_keys_free);
	if (!c->keys || pthread_setspecific(cache_key, c) != 0) {
		table_free(c->keys);
		free(c);
		return NULL;
	}
	cache = c;
	return c;
}

/* Of the end alone, which is the signature's and so tells tokens apart; what is found is compared whole. */
static uint64_t token_hash(uint64_t id, size_t index, const char *token, size_t len)
{
	struct {
		uint64_t id, index;
		char end[48];
	} part = { .id = id, .index = index };
	size_t n = len < sizeof(part.end) ? len : sizeof(part.end);

	memcpy(part.end, token + len - n, n);
	return hash_keyed(&part, sizeof(part));
}

static struct verified *slots_of(struct jwt_cache *c, uint64_t hash)
{
	return &c->slots[hash % (JWT_CACHE_SLOTS / 2) * 2];
}

struct exchange_claims *jwt_cache_get(uint64_t id, size_t index, const char *token, size_t len, int64_t now_s)
{
	if (!cache || !cache->bytes)
		return NULL;
	uint64_t hash = token_hash(id, index, token, len);
	struct verified *v = slots_of(cache, hash);

	for (size_t i = 0; i < 2; i++, v++) {
		if (!v->token || v->hash != hash || v->id != id || v->index != index || v->len != len ||
		    memcmp(v->token, token, len) != 0)
			continue;
		if (v->has_exp && v->exp < now_s - JWT_SKEW_S) {
			verified_drop(cache, v);
			return NULL;
		}
		v->used = ++cache->clock;
		return jwt_claims_ref(v->claims);
	}
	return NULL;
}

void jwt_cache_put(uint64_t id, size_t index, const struct jwt_token *t, struct exchange_claims *claims)
{
	struct jwt_cache *c = cache_here();
	if (!c)
		return;
	uint64_t hash = token_hash(id, index, t->text, t->len);
	struct verified *v = slots_of(c, hash);

	if (v[0].token && (!v[1].token || v[1].used < v[0].used))
		v++;
	verified_drop(c, v);
	for (size_t i = 0; c->bytes + t->len > JWT_CACHE_BYTES && i < JWT_CACHE_SLOTS; i++)
		verified_drop(c, &c->slots[i]);
	char *copy = malloc(t->len + 1);
	if (!copy)
		return;
	memcpy(copy, t->text, t->len);
	*v = (struct verified){ .id = id,
				.hash = hash,
				.used = ++c->clock,
				.index = index,
				.len = t->len,
				.token = copy,
				.claims = jwt_claims_ref(claims),
				.has_exp = t->has_exp,
				.exp = t->exp };
	c->bytes += t->len;
}

const struct jwt_keys *jwt_cache_keys(uint64_t id, size_t index, const struct jwt_rule *rule)
{
	struct jwt_cache *c = cache_here();
	const uint64_t name[] = { id, index };
	struct jwt_keys *keys = c ? table_get(c->keys, name, sizeof(name)) : NULL;

	if (keys || !c)
		return keys;
	if (table_count(c->keys) >= JWT_CACHE_KEYS) {
		struct table *fresh = table_new(on_keys_free);
		if (!fresh)
			return NULL;
		table_free(c->keys);
		c->keys = fresh;
	}
	if (jwt_keys_parse(rule->jwks, strlen(rule->jwks), rule->jwks_inline, &keys, NULL) < 0)
		return NULL;
	if (table_set(c->keys, name, sizeof(name), keys) < 0) {
		jwt_keys_free(keys);
		return NULL;
	}
	return keys;
}
