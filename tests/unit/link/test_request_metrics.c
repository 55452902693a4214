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
	struct request_series *a = request_series_get(f->w, ALL, KEY("a\0b"));
	assert_ptr_equal(request_series_get(f->w, ALL, KEY("a\0b")), a);
	assert_ptr_not_equal(request_series_get(f->w, ALL, KEY("a\0c")), a);
	assert_ptr_not_equal(request_series_get(f->w, BASIC, KEY("a\0b")), a); /* other metrics */
	assert_ptr_not_equal(request_series_get(f->w, ALL, KEY("ab")), a);
	assert_ptr_not_equal(a, &f->m->requests.shards[0].series[0]);
	assert_int_equal(f->m->requests.shards[0].used, 5);
}

static void test_series_add_sums_and_buckets(void **state)
{
	struct fixture *f = *state;
	struct request_series *s = request_series_get(f->w, ALL, KEY("x"));
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
		request_series_add(s, &sample);
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
	request_series_add(s, &bytes);
	request_series_add(s, &many);
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
	struct request_series *s = request_series_get(f->w, BASIC, KEY("x"));
	struct request_sample sample = { 10, 20, 30, 40, 50 };
	request_series_add(s, &sample);
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
		struct request_series *s = request_series_get(f->w, ALL, key, (size_t)n + 1);
		assert_ptr_equal(s, &shard->series[i]);
	}
	struct request_series *none = request_series_get(f->w, ALL, KEY("one too many"));
	assert_ptr_equal(none, &shard->series[0]);
	assert_ptr_equal(request_series_get(f->other, ALL, longest, sizeof(longest)),
			 &f->m->requests.shards[LINK_SHARDS_MAX - 1].series[0]);
	assert_ptr_equal(request_series_get(f->other, ALL, "", 0),
			 &f->m->requests.shards[LINK_SHARDS_MAX - 1].series[0]);
	request_series_add(none, &sample);
	assert_ptr_equal(request_series_get(f->w, ALL, KEY("k7")), &shard->series[7]); /* those there are still found */
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
	request_series_add(request_series_get(f->w, ALL, KEY("a\0b")), &sample);
	request_series_add(request_series_get(f->other, ALL, KEY("a\0b")), &sample);
	request_series_add(request_series_get(f->other, ALL, KEY("c\0d")), &sample);
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
	request_series_get(f->w, ALL, KEY("x"));
	assert_int_equal(fstat(f->fd, &st), 0);
	assert_true((size_t)st.st_size == sizeof(struct link_memory));
	assert_true(st.st_blocks * 512 < 256 << 10);
}

/* --- reading while a worker writes: what is published is whole (for TSan, too) --- */

static void *on_writer(void *arg)
{
	struct fixture *f = arg;
	struct request_sample sample = { .duration_us = 1 };
	for (int i = 0; i < 20000; i++) {
		char key[16];
		int n = snprintf(key, sizeof(key), "key-%04d", i % 3000);
		request_series_add(request_series_get(f->w, BASIC, key, (size_t)n + 1), &sample);
	}
	return NULL;
}

static void test_totals_while_a_worker_writes(void **state)
{
	struct fixture *f = *state;
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, on_writer, f), 0);
	uint64_t before = 0;
	for (int i = 0; i < 20; i++) {
		struct request_totals *t;
		struct request_totals_iter it = { 0 };
		const struct request_series *s;
		uint64_t sum = 0;
		assert_int_equal(request_totals_new(&t), 0);
		assert_int_equal(request_totals_add(t, &f->m->requests), 0);
		while ((s = request_totals_next(t, &it))) {
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
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_series_same_labels_same_slot),	T(test_series_add_sums_and_buckets),
		T(test_series_counts_only_its_metrics), T(test_table_full_counts_in_the_first_slot),
		T(test_totals_sum_workers_and_helpers), T(test_totals_hostile_memory_stays_in_bounds),
		T(test_totals_labels_are_text),		T(test_totals_are_bounded),
		T(test_memory_unused_slots_are_holes),	T(test_totals_while_a_worker_writes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
