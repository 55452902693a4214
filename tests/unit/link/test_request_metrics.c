/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/mem.h"
#include "agent/link/request_metrics.h"
#include "agent/model/telemetry.h"

enum {
	ALL = (1 << REQUEST_METRIC_COUNT) - 1,
	BASIC = 1 << METRIC_REQUEST_COUNT | 1 << METRIC_REQUEST_DURATION,
};

struct fixture {
	struct link_memory *m;
	int fd;
	struct request_writer *w, *other;
	struct request_totals *t;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	f->fd = memfd_create("test", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->fd, sizeof(*f->m)), 0);
	f->m = mmap(NULL, sizeof(*f->m), PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
	assert_ptr_not_equal(f->m, MAP_FAILED);
	assert_int_equal(request_writer_new(&f->m->requests.shards[0], &f->w), 0);
	assert_int_equal(request_writer_new(&f->m->requests.shards[LINK_SHARDS_MAX - 1], &f->other), 0);
	assert_int_equal(request_totals_new(&f->t), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	request_writer_free(f->w);
	request_writer_free(f->other);
	request_totals_free(f->t);
	munmap(f->m, sizeof(*f->m));
	close(f->fd);
	free(f);
	return 0;
}

/* The series that it has its place in; the fixture's writers have the first and the last shard. */
static struct request_series *get_at(struct fixture *f, struct request_writer *w, uint32_t metrics, const void *key,
				     size_t len, uint32_t now_s)
{
	struct request_shard *shard = &f->m->requests.shards[w == f->w ? 0 : LINK_SHARDS_MAX - 1];
	return &shard->series[request_writer_place(w, metrics, key, len, now_s).slot];
}

static struct request_series *get(struct fixture *f, struct request_writer *w, uint32_t metrics, const void *key,
				  size_t len)
{
	return get_at(f, w, metrics, key, len, 0);
}

static void count_at(struct request_writer *w, uint32_t metrics, const void *key, size_t len,
		     const struct request_sample *sample, uint32_t now_s)
{
	assert_true(request_writer_add(w, request_writer_place(w, metrics, key, len, now_s), sample, now_s));
}

#define KEY(text) (text), sizeof(text) /* the last NUL is the last label's */

/* The totals of the series with these labels; NULL: none. */
static const struct request_series *total(const struct fixture *f, uint32_t metrics, const void *key, size_t len)
{
	struct request_totals_iter it = { 0 };
	const struct request_series *s;
	while ((s = request_totals_next(f->t, &it)))
		if (s->metrics == metrics && s->key_len == len && !memcmp(s->key, key, len))
			return s;
	return NULL;
}

static void test_series_same_labels_same_slot(void **state)
{
	struct fixture *f = *state;
	struct request_series *a = get(f, f->w, ALL, KEY("a\0b"));
	assert_ptr_equal(get(f, f->w, ALL, KEY("a\0b")), a);
	assert_ptr_not_equal(get(f, f->w, ALL, KEY("a\0c")), a);
	assert_ptr_not_equal(get(f, f->w, BASIC, KEY("a\0b")), a); /* other metrics */
	assert_ptr_not_equal(get(f, f->w, ALL, KEY("ab")), a);
	assert_ptr_not_equal(a, &f->m->requests.shards[0].series[0]);
	assert_int_equal(f->m->requests.shards[0].used, 5);
}

static void test_series_add_sums_and_buckets(void **state)
{
	struct fixture *f = *state;
	struct request_series *s = get(f, f->w, ALL, KEY("x"));
	/* On the bound belongs to the bucket below it. */
	const struct {
		uint64_t us;
		size_t bucket;
	} cases[] = { { 0, 0 },	     { 500, 0 },	 { 501, 1 },	     { 1000, 1 },	    { 5001, 3 },
		      { 250000, 7 }, { 3600000000, 18 }, { 3600000001, 19 }, { UINT64_MAX / 2, 19 } };
	uint64_t sum = 0;
	size_t buckets[REQUEST_BUCKETS] = { 0 };
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct request_sample sample = { .duration_us = cases[i].us };
		count_at(f->w, ALL, KEY("x"), &sample, 0);
		buckets[cases[i].bucket]++;
		sum += cases[i].us;
	}
	assert_int_equal(s->requests, ARRAY_SIZE(cases));
	assert_int_equal(s->duration.sum, sum);
	for (size_t i = 0; i < REQUEST_BUCKETS; i++)
		assert_int_equal(s->duration.buckets[i], buckets[i]);

	struct request_sample bytes = { .request_bytes = 1, .response_bytes = 600000, .grpc_request_messages = 3 };
	struct request_sample many = { .request_bytes = UINT64_MAX / 4, .response_bytes = 600001 };
	memset(&s->request_bytes, 0, sizeof(s->request_bytes));
	memset(&s->response_bytes, 0, sizeof(s->response_bytes));
	count_at(f->w, ALL, KEY("x"), &bytes, 0);
	count_at(f->w, ALL, KEY("x"), &many, 0);
	assert_int_equal(s->request_bytes.buckets[1], 1); /* 0.5 < 1 <= 1 */
	assert_int_equal(s->request_bytes.buckets[REQUEST_BUCKETS - 1], 1);
	assert_int_equal(s->response_bytes.buckets[16], 1); /* <= 600000 */
	assert_int_equal(s->response_bytes.buckets[17], 1);
	assert_int_equal(s->grpc_request_messages, 3);
	assert_int_equal(s->grpc_response_messages, 0);
}

static void test_series_counts_only_its_metrics(void **state)
{
	struct fixture *f = *state;
	struct request_series *s = get(f, f->w, BASIC, KEY("x"));
	struct request_sample sample = { 10, 20, 30, 40, 50 };
	count_at(f->w, BASIC, KEY("x"), &sample, 0);
	assert_int_equal(s->requests, 1);
	assert_int_equal(s->duration.sum, 10);
	assert_int_equal(s->request_bytes.sum + s->response_bytes.sum, 0);
	assert_int_equal(s->grpc_request_messages + s->grpc_response_messages, 0);
}

static void test_table_full_counts_in_the_first_slot(void **state)
{
	struct fixture *f = *state;
	struct request_shard *shard = &f->m->requests.shards[0];
	struct request_sample sample = { .duration_us = 1 };
	char longest[REQUEST_KEY_MAX + 1] = { 0 };
	memset(longest, 'l', sizeof(longest) - 1);
	for (int i = 1; i < REQUEST_SERIES_MAX; i++) {
		char key[16];
		int n = snprintf(key, sizeof(key), "k%d", i);
		struct request_series *s = get(f, f->w, ALL, key, (size_t)n + 1);
		assert_ptr_equal(s, &shard->series[i]);
	}
	struct request_series *none = get(f, f->w, ALL, KEY("one too many"));
	assert_ptr_equal(none, &shard->series[0]);
	assert_ptr_equal(get(f, f->other, ALL, longest, sizeof(longest)),
			 &f->m->requests.shards[LINK_SHARDS_MAX - 1].series[0]);
	assert_ptr_equal(get(f, f->other, ALL, "", 0), &f->m->requests.shards[LINK_SHARDS_MAX - 1].series[0]);
	count_at(f->w, ALL, KEY("one too many"), &sample, 0);
	assert_ptr_equal(get(f, f->w, ALL, KEY("k7")), &shard->series[7]); /* those there are still found */
	assert_int_equal(shard->unplaced, 1);
	assert_int_equal(shard->used, REQUEST_SERIES_MAX);
	assert_int_equal(request_totals_add(f->t, &f->m->requests), 0);
	assert_int_equal(request_totals_unplaced(f->t), 1);
	assert_int_equal(request_totals_count(f->t), REQUEST_SERIES_MAX);
	assert_int_equal(total(f, UINT32_MAX, "", 0)->requests, 1);
}

static void test_totals_sum_workers_and_helpers(void **state)
{
	struct fixture *f = *state;
	struct request_sample sample = { .duration_us = 700, .request_bytes = 9 };
	count_at(f->w, ALL, KEY("a\0b"), &sample, 0);
	count_at(f->other, ALL, KEY("a\0b"), &sample, 0);
	count_at(f->other, ALL, KEY("c\0d"), &sample, 0);
	struct request_totals *past;
	assert_int_equal(request_totals_new(&past), 0);
	assert_int_equal(request_totals_add(past, &f->m->requests), 0);
	assert_int_equal(request_totals_merge(f->t, past), 0);
	assert_int_equal(request_totals_add(f->t, &f->m->requests), 0);
	request_totals_free(past);
	assert_int_equal(request_totals_count(f->t), 2);
	const struct request_series *s = total(f, ALL, KEY("a\0b"));
	assert_int_equal(s->requests, 4);
	assert_int_equal(s->duration.sum, 2800);
	assert_int_equal(s->duration.buckets[1], 4);
	assert_int_equal(s->request_bytes.sum, 36);
	assert_int_equal(total(f, ALL, KEY("c\0d"))->requests, 2);
	const char *values[3];
	assert_int_equal(request_series_labels(s, values, 3), 2);
	assert_string_equal(values[0], "a");
	assert_string_equal(values[1], "b");
	assert_int_equal(request_series_labels(s, values, 1), 1);
}

/* --- a helper that writes what it likes --- */

static void raw(struct request_shard *shard, uint32_t slot, const void *key, uint32_t len)
{
	shard->series[slot].state = REQUEST_LIVE;
	shard->series[slot].metrics = ALL;
	shard->series[slot].key_len = len;
	memcpy(shard->series[slot].key, key, len < REQUEST_KEY_MAX ? len : REQUEST_KEY_MAX);
	shard->series[slot].requests = 1;
}

static void test_totals_hostile_memory_stays_in_bounds(void **state)
{
	struct fixture *f = *state;
	struct request_shard *shard = &f->m->requests.shards[3];
	memset(shard, 0xff, sizeof(*shard)); /* used, lengths, everything */
	raw(shard, 1, "fine", 5);
	shard->series[1].metrics = UINT32_MAX;
	assert_int_equal(request_totals_add(f->t, &f->m->requests), 0);
	assert_int_equal(request_totals_count(f->t), 1);
	assert_non_null(total(f, ALL, "fine", 5)); /* metrics that there are */
}

static void test_totals_labels_are_text(void **state)
{
	struct fixture *f = *state;
	struct request_shard *shard = &f->m->requests.shards[3];
	static const struct {
		const char *from;
		size_t len;
		const char *to;
	} cases[] = {
		{ "gr\xc3\xbc\xc3\x9f\x65", 8, "gr\xc3\xbc\xc3\x9f\x65" },
		{ "a\nb\x01\x7f", 6, "a?b??" },
		{ "\xff\xc3", 3, "??" },	   /* no UTF-8; the second is cut off */
		{ "\xc0\xaf", 3, "??" },	   /* not the shortest */
		{ "\xed\xa0\x80", 4, "???" },	   /* a surrogate */
		{ "\xf4\x90\x80\x80", 5, "????" }, /* beyond 10FFFF */
		{ "\xf0\x9f\x98\x80", 5, "\xf0\x9f\x98\x80" },
		{ "open", 4, "ope" }, /* the last label always ends */
	};
	shard->used = 1;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		raw(shard, shard->used++, cases[i].from, (uint32_t)cases[i].len);
	assert_int_equal(request_totals_add(f->t, &f->m->requests), 0);
	struct request_totals_iter it = { 0 };
	const struct request_series *s;
	size_t found = 0;
	while ((s = request_totals_next(f->t, &it))) {
		const char *value;
		assert_int_equal(request_series_labels(s, &value, 1), 1);
		bool known = false;
		for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
			known |= !strcmp(value, cases[i].to);
		assert_true(known);
		found++;
	}
	assert_int_equal(found, ARRAY_SIZE(cases) - 1); /* "??" twice: one series */
}

static void test_totals_are_bounded(void **state)
{
	struct fixture *f = *state;
	for (size_t s = 0; s < LINK_SHARDS_MAX; s++) {
		struct request_shard *shard = &f->m->requests.shards[s];
		shard->used = REQUEST_SERIES_MAX;
		for (uint32_t i = 1; i < REQUEST_SERIES_MAX; i++) {
			char key[32];
			int n = snprintf(key, sizeof(key), "%zu-%u", s, i);
			raw(shard, i, key, (uint32_t)n + 1);
		}
	}
	assert_int_equal(request_totals_add(f->t, &f->m->requests), 0);
	assert_int_equal(request_totals_count(f->t), REQUEST_TOTALS_MAX + 1);
	uint64_t all = 0;
	struct request_totals_iter it = { 0 };
	const struct request_series *s;
	while ((s = request_totals_next(f->t, &it)))
		all += s->requests;
	assert_int_equal(all, LINK_SHARDS_MAX * (REQUEST_SERIES_MAX - 1)); /* none is lost */
}

static void test_memory_unused_slots_are_holes(void **state)
{
	struct fixture *f = *state;
	struct stat st;
	get(f, f->w, ALL, KEY("x"));
	assert_int_equal(fstat(f->fd, &st), 0);
	assert_true((size_t)st.st_size == sizeof(struct link_memory));
	assert_true(st.st_blocks * 512 < 256 << 10);
}

/* --- places that are given up --- */

enum { HOUR = REQUEST_IDLE_S };

static const struct request_sample one = { .duration_us = 1 };

/* `count` label sets "k0", "k1", ...: one request each. */
static void count_many(struct fixture *f, int from, int count, uint32_t now_s)
{
	for (int i = from; i < from + count; i++) {
		char key[16];
		int n = snprintf(key, sizeof(key), "k%d", i);
		count_at(f->w, ALL, key, (size_t)n + 1, &one, now_s);
	}
}

/* A request of "busy" each second, which moves the hand on. */
static void pass(struct fixture *f, uint32_t from_s, uint32_t to_s)
{
	for (uint32_t s = from_s; s <= to_s; s++)
		count_at(f->w, ALL, KEY("busy"), &one, s);
}

/* What a scrape shows of these labels: the kept sums and those in memory. */
static uint64_t scraped(struct fixture *f, const void *key, size_t len)
{
	struct request_totals *t;
	struct request_totals_iter it = { 0 };
	const struct request_series *s;
	uint64_t requests = 0;
	assert_int_equal(request_totals_new(&t), 0);
	assert_int_equal(request_totals_merge(t, f->t), 0);
	assert_int_equal(request_totals_add(t, &f->m->requests), 0);
	while ((s = request_totals_next(t, &it)))
		if (s->key_len == len && !memcmp(s->key, key, len))
			requests = s->requests;
	request_totals_free(t);
	return requests;
}

static void age(struct fixture *f, uint64_t now_s)
{
	request_totals_clock(f->t, now_s);
	request_totals_age_begin(f->t);
	request_totals_in_use(f->t, &f->m->requests);
	request_totals_age_end(f->t);
}

static void test_unused_for_an_hour_gives_its_place_up(void **state)
{
	struct fixture *f = *state;
	struct request_shard *shard = &f->m->requests.shards[0];
	count_at(f->w, ALL, KEY("old"), &one, 0);
	struct request_place old = request_writer_place(f->w, ALL, KEY("old"), 0);
	pass(f, 0, HOUR - 1);
	assert_int_equal(shard->retired, 0);
	pass(f, HOUR, HOUR + 3);
	assert_int_equal(shard->retired, 1); /* and "busy" is where it was */
	assert_int_equal(shard->series[old.slot].state, REQUEST_RETIRED);
	assert_false(request_writer_add(f->w, old, &one, HOUR + 4));
	assert_int_equal(scraped(f, KEY("old")), 1);

	/* Not given back yet: others do without, and so does it. */
	assert_ptr_not_equal(get_at(f, f->w, ALL, KEY("new"), HOUR + 4), &shard->series[old.slot]);
	count_at(f->w, ALL, KEY("old"), &one, HOUR + 4);
	assert_int_equal(scraped(f, KEY("old")), 2);
	assert_int_equal(request_totals_take(f->t, &f->m->requests), 1);
	assert_int_equal(shard->series[old.slot].state, REQUEST_FREE);
	assert_int_equal(scraped(f, KEY("old")), 2); /* it is counted in both */
	assert_ptr_equal(get_at(f, f->w, ALL, KEY("newer"), HOUR + 5), &shard->series[old.slot]);
	assert_int_equal(scraped(f, KEY("newer")), 0);
	assert_int_equal(shard->series[old.slot].duration.sum, 0);
	assert_false(request_writer_add(f->w, old, &one, HOUR + 5)); /* the place of another now */
}

static void test_kept_sums_stay_while_another_worker_counts(void **state)
{
	struct fixture *f = *state;
	count_at(f->w, ALL, KEY("x"), &one, 0);
	count_at(f->w, ALL, KEY("gone"), &one, 0);
	count_at(f->other, ALL, KEY("x"), &one, 0);
	pass(f, HOUR, HOUR + 2);
	request_totals_clock(f->t, HOUR);
	assert_int_equal(request_totals_take(f->t, &f->m->requests), 2);
	assert_int_equal(request_totals_count(f->t), 2);
	age(f, HOUR);
	assert_int_equal(scraped(f, KEY("gone")), 1); /* since a moment ago */
	age(f, 3 * HOUR);
	assert_int_equal(scraped(f, KEY("x")), 2); /* never backwards */
	assert_int_equal(scraped(f, KEY("gone")), 0);
	assert_int_equal(request_totals_count(f->t), 1);
}

static void test_a_full_table_makes_room_for_new_labels(void **state)
{
	struct fixture *f = *state;
	struct request_shard *shard = &f->m->requests.shards[0];
	pass(f, 0, 0);
	count_many(f, 0, REQUEST_SERIES_MAX - 2, 0);
	count_many(f, 90000, 1, 1);
	assert_int_equal(shard->unplaced, 1); /* all were used a moment ago */
	count_many(f, 1, 100, REQUEST_IDLE_FULL_S - 1);
	for (int i = 0; i < 200; i++) { /* asks for room, a little each time */
		count_many(f, 90001 + i, 1, REQUEST_IDLE_FULL_S);
		count_at(f->w, ALL, KEY("busy"), &one, REQUEST_IDLE_FULL_S);
	}
	assert_true(shard->retired > 500);
	int taken = request_totals_take(f->t, &f->m->requests);
	assert_int_equal(taken, shard->retired);
	uint64_t unplaced = shard->unplaced;
	count_many(f, 91000, 500, REQUEST_IDLE_FULL_S + 1);
	assert_int_equal(shard->unplaced, unplaced);
	assert_int_equal(shard->used, REQUEST_SERIES_MAX);
	assert_int_equal(scraped(f, KEY("k50")), 2); /* those in use kept theirs */
	assert_int_equal(scraped(f, KEY("k91499")), 1);
	assert_int_equal(scraped(f, KEY("k2000")), 1); /* of those that went nothing is lost */
	assert_int_equal(scraped(f, KEY("busy")), 201);
}

/* Each request is counted once, whatever comes and goes; and a search never misses what is there. */
static void test_thousands_of_label_sets_lose_no_request(void **state)
{
	struct fixture *f = *state;
	uint32_t now = 0;
	for (int round = 0; round < 30; round++, now += 30) {
		count_many(f, round * 700, 1500, now); /* half of the last round's once more */
		request_totals_clock(f->t, now);
		assert_true(request_totals_take(f->t, &f->m->requests) >= 0);
	}
	assert_int_equal(request_totals_add(f->t, &f->m->requests), 0);
	uint64_t sum = 0;
	size_t twice = 0;
	struct request_totals_iter it = { 0 };
	const struct request_series *s;
	while ((s = request_totals_next(f->t, &it))) {
		sum += s->requests;
		twice += s->key_len && s->requests >= 2;
	}
	assert_int_equal(sum, 30 * 1500);
	assert_true(f->m->requests.shards[0].retired > 1000);
	assert_int_equal(f->m->requests.shards[0].unplaced, 0);
	assert_true(twice > 10000);
}

static void test_kept_sums_are_bounded(void **state)
{
	struct fixture *f = *state;
	struct request_shard *shard = &f->m->requests.shards[3];
	shard->retired = 1;
	shard->used = REQUEST_SERIES_MAX;
	for (uint32_t round = 0; round < 3; round++) {
		request_totals_clock(f->t, round);
		for (uint32_t i = 1; i < REQUEST_SERIES_MAX; i++) {
			char key[32];
			int n = snprintf(key, sizeof(key), "%u-%u", round, i);
			raw(shard, i, key, (uint32_t)n + 1);
			shard->series[i].state = REQUEST_RETIRED;
		}
		assert_int_equal(request_totals_take(f->t, &f->m->requests), REQUEST_SERIES_MAX - 1);
	}
	age(f, 3);
	assert_int_equal(request_totals_count(f->t), REQUEST_PAST_MAX);
	assert_int_equal(scraped(f, KEY("2-7")), 1);
	assert_int_equal(scraped(f, KEY("0-7")), 0); /* the oldest went */
}

static void test_take_hostile_states(void **state)
{
	struct fixture *f = *state;
	struct request_shard *shard = &f->m->requests.shards[3];
	memset(shard, 0xff, sizeof(*shard));
	raw(shard, 0, "first", 6); /* is never retired */
	raw(shard, 1, "long", 5);
	shard->series[1].key_len = REQUEST_KEY_MAX + 1;
	raw(shard, 2, "", 0);
	for (uint32_t i = 0; i < 3; i++)
		shard->series[i].state = REQUEST_RETIRED;
	assert_int_equal(request_totals_take(f->t, &f->m->requests), 2);
	assert_int_equal(request_totals_count(f->t), 0);
	age(f, HOUR);
}

/* --- reading while a worker writes: what is published is whole (for TSan, too) --- */

static void *on_writer(void *arg)
{
	struct fixture *f = arg;
	struct request_sample sample = { .duration_us = 1 };
	for (int i = 0; i < 40000; i++) {
		char key[16];
		int n = snprintf(key, sizeof(key), "key-%04d", i % 9000);
		count_at(f->w, BASIC, key, (size_t)n + 1, &sample, (uint32_t)i / 10);
	}
	return NULL;
}

static void test_totals_while_a_worker_writes(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, on_writer, f), 0);
	uint64_t before = 0;
	for (int i = 0; i < 40; i++) {
		struct request_totals *t;
		struct request_totals_iter it = { 0 };
		const struct request_series *s;
		uint64_t sum = 0;
		assert_true(request_totals_take(f->t, &f->m->requests) >= 0);
		assert_int_equal(request_totals_new(&t), 0);
		assert_int_equal(request_totals_merge(t, f->t), 0);
		assert_int_equal(request_totals_add(t, &f->m->requests), 0);
		while ((s = request_totals_next(t, &it))) {
			if (!s->key_len) { /* the table was full for a moment */
				sum += s->requests;
				continue;
			}
			assert_int_equal(s->key_len, 9);
			assert_memory_equal(s->key, "key-", 4);
			assert_int_equal(s->metrics, BASIC);
			sum += s->requests;
		}
		assert_true(sum >= before);
		before = sum;
		request_totals_free(t);
	}
	pthread_join(thread, NULL);
	assert_true(f->m->requests.shards[0].retired > 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_series_same_labels_same_slot),
		T(test_series_add_sums_and_buckets),
		T(test_series_counts_only_its_metrics),
		T(test_table_full_counts_in_the_first_slot),
		T(test_totals_sum_workers_and_helpers),
		T(test_totals_hostile_memory_stays_in_bounds),
		T(test_totals_labels_are_text),
		T(test_totals_are_bounded),
		T(test_memory_unused_slots_are_holes),
		T(test_totals_while_a_worker_writes),
		T(test_unused_for_an_hour_gives_its_place_up),
		T(test_kept_sums_stay_while_another_worker_counts),
		T(test_a_full_table_makes_room_for_new_labels),
		T(test_thousands_of_label_sets_lose_no_request),
		T(test_kept_sums_are_bounded),
		T(test_take_hostile_states),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
