/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/filter/ratelimit_buckets.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"

enum {
	SHARD_PLACES = BUCKETS_MAX / BUCKET_SHARDS,
	SHARD_SLOTS = SHARD_PLACES / 2, /* chains are short: two on average when all places are taken */
	OWNERS = 16,			/* queues of a shard that owners share by their hash; one more is of nobody */
	OWNER_PLACES = SHARD_PLACES / 4,
	OWNED_PLACES = SHARD_PLACES / 4 * 3, /* the rest is there for what the configuration alone makes */
	LOOKED_AT = 64,			     /* for a full one, among those that were used least recently */
	OTHERS_LOOKED_AT = 4,		     /* the same, in each of the others' queues */
	NS_PER_MS = 1000000,
};

struct bucket {
	LIST_ENTRY(bucket) chain;
	TAILQ_ENTRY(bucket) used; /* least recently used first */
	struct bucket_key key;
	struct token_bucket config;
	uint64_t filled_ns; /* the end of the last interval */
	uint32_t tokens;
	uint8_t queue;
};
LIST_HEAD(bucket_list, bucket);
TAILQ_HEAD(bucket_queue, bucket);

struct queue {
	size_t count;
	struct bucket_queue used;
};

struct shard {
	pthread_mutex_t lock;
	size_t count, owned;
	struct queue queues[OWNERS + 1];
	struct bucket_list slots[SHARD_SLOTS];
} __attribute__((aligned(128)));

struct buckets {
	struct shard shards[BUCKET_SHARDS];
};

struct bucket_key bucket_key(const void *bytes, size_t len)
{
	/* Each half under its own key, derived from the process's. */
	static __thread uint64_t k[4];
	for (uint64_t i = 0; !k[3] && i < 4; i++)
		k[i] = hash_keyed(&i, sizeof(i)) | 1;
	return (struct bucket_key){ { hash_siphash(k, bytes, len), hash_siphash(k + 2, bytes, len) } };
}

struct buckets *buckets_new(void)
{
	struct buckets *b = aligned_alloc(_Alignof(struct buckets), sizeof(*b));
	if (!b)
		return NULL;
	for (size_t i = 0; i < BUCKET_SHARDS; i++) {
		struct shard *s = &b->shards[i];
		pthread_mutex_init(&s->lock, NULL);
		s->count = s->owned = 0;
		for (size_t k = 0; k <= OWNERS; k++) {
			s->queues[k].count = 0;
			TAILQ_INIT(&s->queues[k].used);
		}
		for (size_t k = 0; k < SHARD_SLOTS; k++)
			LIST_INIT(&s->slots[k]);
	}
	return b;
}

void buckets_free(struct buckets *b)
{
	for (size_t i = 0; b && i < BUCKET_SHARDS; i++) {
		struct bucket *bucket;
		for (size_t k = 0; k <= OWNERS; k++) {
			while ((bucket = TAILQ_FIRST(&b->shards[i].queues[k].used))) {
				TAILQ_REMOVE(&b->shards[i].queues[k].used, bucket, used);
				free(bucket);
			}
		}
		pthread_mutex_destroy(&b->shards[i].lock);
	}
	free(b);
}

static struct buckets *shared;

static void shared_make(void)
{
	shared = buckets_new();
}

struct buckets *buckets_shared(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, shared_make);
	return shared;
}

/* Clocks of workers are read at different moments: one that is behind fills nothing. */
static void bucket_fill(struct bucket *b, uint64_t now_ns)
{
	uint64_t interval_ns = b->config.fill_interval_ms * NS_PER_MS;
	if (!interval_ns || now_ns < b->filled_ns + interval_ns)
		return;
	uint64_t fills = (now_ns - b->filled_ns) / interval_ns;
	uint32_t missing = b->config.max_tokens - b->tokens;
	b->filled_ns += fills * interval_ns;
	if (b->config.tokens_per_fill && fills > missing / b->config.tokens_per_fill)
		b->tokens = b->config.max_tokens;
	else
		b->tokens += (uint32_t)fills * b->config.tokens_per_fill;
}

static void bucket_drop(struct shard *s, struct bucket *b)
{
	struct queue *q = &s->queues[b->queue];

	LIST_REMOVE(b, chain);
	TAILQ_REMOVE(&q->used, b, used);
	q->count--;
	s->owned -= b->queue < OWNERS;
	s->count--;
}

static void bucket_add(struct shard *s, struct bucket *b)
{
	struct queue *q = &s->queues[b->queue];

	TAILQ_INSERT_TAIL(&q->used, b, used);
	q->count++;
	s->owned += b->queue < OWNERS;
	s->count++;
}

/* One that is full again, taken out; NULL: none among the first. */
static struct bucket *full_take(struct shard *s, const struct queue *q, size_t looked_at, uint64_t now_ns)
{
	struct bucket *b = TAILQ_FIRST(&q->used);

	for (size_t i = 0; b && i < looked_at; i++, b = TAILQ_NEXT(b, used)) {
		bucket_fill(b, now_ns);
		if (b->tokens == b->config.max_tokens) {
			bucket_drop(s, b);
			return b;
		}
	}
	return NULL;
}

/* A place for another of that queue; NULL: there is none, or no memory. */
static struct bucket *place_make(struct shard *s, uint8_t queue, uint64_t now_ns)
{
	struct queue *own = &s->queues[queue];
	bool owned = queue < OWNERS, within = !owned || own->count < OWNER_PLACES;

	if (within && s->count < SHARD_PLACES && (!owned || s->owned < OWNED_PLACES))
		return malloc(sizeof(struct bucket));
	struct bucket *b = full_take(s, own, LOOKED_AT, now_ns);
	for (size_t i = 0; !b && within && i < OWNERS; i++)
		b = full_take(s, &s->queues[i], OTHERS_LOOKED_AT, now_ns);
	return b;
}

static struct bucket *bucket_get(struct shard *s, struct bucket_key key, uint8_t queue,
				 const struct token_bucket *config, uint64_t now_ns)
{
	struct bucket_list *slot = &s->slots[(key.h[0] / BUCKET_SHARDS) % SHARD_SLOTS];
	struct bucket *b;
	LIST_FOREACH(b, slot, chain)
	{
		if (b->key.h[0] != key.h[0] || b->key.h[1] != key.h[1])
			continue;
		TAILQ_REMOVE(&s->queues[b->queue].used, b, used);
		TAILQ_INSERT_TAIL(&s->queues[b->queue].used, b, used);
		return b;
	}
	b = place_make(s, queue, now_ns);
	if (!b)
		return NULL;
	*b = (struct bucket){
		.key = key, .config = *config, .filled_ns = now_ns, .tokens = config->max_tokens, .queue = queue
	};
	LIST_INSERT_HEAD(slot, b, chain);
	bucket_add(s, b);
	return b;
}

struct bucket_state buckets_take(struct buckets *buckets, struct bucket_key key, uint64_t owner,
				 const struct token_bucket *config, uint64_t now_ns)
{
	struct shard *s = &buckets->shards[key.h[0] % BUCKET_SHARDS];
	struct bucket_state state = { .reset_ms = config->fill_interval_ms };

	if (!config->max_tokens) /* nothing passes: no need to remember it */
		return state;
	pthread_mutex_lock(&s->lock);
	struct bucket *b = bucket_get(s, key, owner ? owner % OWNERS : OWNERS, config, now_ns);
	if (b) {
		bucket_fill(b, now_ns);
		state.allowed = b->tokens > 0;
		b->tokens -= state.allowed;
		state.remaining = b->tokens;
		uint64_t next_ns = b->filled_ns + config->fill_interval_ms * NS_PER_MS;
		state.reset_ms = next_ns > now_ns ? (next_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
	} else {
		state.no_room = true;
	}
	pthread_mutex_unlock(&s->lock);
	return state;
}

size_t buckets_count(struct buckets *b)
{
	size_t n = 0;
	for (size_t i = 0; i < BUCKET_SHARDS; i++) {
		pthread_mutex_lock(&b->shards[i].lock);
		n += b->shards[i].count;
		pthread_mutex_unlock(&b->shards[i].lock);
	}
	return n;
}
