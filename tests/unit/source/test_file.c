/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/source/store.h"
#include "tests/unit/source/scratch.h"
#include "tests/unit/source/until.h"

#define NS(name, value) "---\napiVersion: v1\nkind: Namespace\nmetadata: { name: " name ", labels: { v: " value " } }\n"

struct fixture {
	struct loop *loop;
	struct store *store;
	struct file_source *fs;
	char root[64], dir[80];
	const char *name, *value; /* waited for */
};

static void quiet(enum log_level level, const char *line, void *arg)
{
	(void)level, (void)line, (void)arg;
}

static void start(struct fixture *f)
{
	struct err err = ERR_INIT;
	assert_int_equal(store_new(&f->store), 0);
	assert_int_equal(store_open(f->store, NULL, &err), 0);
	if (file_source_new(f->loop, f->store, f->dir, &f->fs, &err) < 0)
		fail_msg("%s", err.text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err = ERR_INIT;
	log_set_sink(quiet, NULL);
	scratch_new(f->root, sizeof(f->root));
	snprintf(f->dir, sizeof(f->dir), "%s/config", f->root);
	assert_int_equal(mkdir(f->dir, 0700), 0);
	assert_int_equal(loop_new(&f->loop, &err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	file_source_free(f->fs);
	store_free(f->store);
	loop_free(f->loop);
	scratch_remove(f->root);
	free(f);
	return 0;
}

static const char *path(const struct fixture *f, const char *name)
{
	static char buf[4][160];
	static unsigned int next;
	char *p = buf[next++ % 4];
	snprintf(p, sizeof(buf[0]), "%s/%s", f->dir, name);
	return p;
}

static void write_file(const struct fixture *f, const char *name, const char *text)
{
	scratch_write(path(f, name), text);
}

static const char *value_of(const struct fixture *f, const char *name)
{
	const struct resource *r = store_get(f->store, KIND_NAMESPACE, NULL, name);
	return r ? string_map_get(&r->labels, "v") : NULL;
}

static bool has_value(void *arg)
{
	const struct fixture *f = arg;
	const char *value = value_of(f, f->name);
	return f->value ? value && !strcmp(value, f->value) : !value;
}

/* value NULL: it is gone. */
static void await(struct fixture *f, const char *name, const char *value)
{
	char what[200];
	f->name = name;
	f->value = value;
	snprintf(what, sizeof(what), "%s has %s", name, value ? value : "gone");
	until(f->loop, has_value, f, what);
}

static bool has_problem(void *arg)
{
	return file_source_problem(((struct fixture *)arg)->fs) != NULL;
}

static bool has_no_problem(void *arg)
{
	return !has_problem(arg);
}

static bool is_settled(void *arg)
{
	return file_source_settled(((struct fixture *)arg)->fs);
}

static void test_new_reads_the_directory(void **state)
{
	struct fixture *f = *state;
	write_file(f, "a.yaml", NS("a", "one"));
	write_file(f, "b.yml", NS("b", "one"));
	write_file(f, "c.json", "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"c\"}}");
	write_file(f, ".hidden.yaml", NS("hidden", "one"));
	write_file(f, "notes.txt", NS("notes", "one"));
	start(f);
	assert_int_equal(store_count(f->store), 3);
	assert_true(file_source_settled(f->fs));
}

static void test_watch_written_file_is_taken(void **state)
{
	struct fixture *f = *state;
	start(f);
	write_file(f, "a.yaml", NS("a", "one"));
	await(f, "a", "one");
	write_file(f, "a.yaml", NS("a", "two"));
	await(f, "a", "two");
	assert_int_equal(store_revision(f->store), 2);
}

static void test_watch_renamed_over_file_is_taken(void **state)
{
	struct fixture *f = *state;
	write_file(f, "a.yaml", NS("a", "one"));
	start(f);
	write_file(f, ".a.yaml.swp", NS("a", "two"));
	assert_int_equal(rename(path(f, ".a.yaml.swp"), path(f, "a.yaml")), 0);
	await(f, "a", "two");
}

static void test_watch_removed_file_is_removed(void **state)
{
	struct fixture *f = *state;
	write_file(f, "a.yaml", NS("a", "one"));
	write_file(f, "b.yaml", NS("b", "one"));
	start(f);
	assert_int_equal(unlink(path(f, "a.yaml")), 0);
	await(f, "a", NULL);
	assert_string_equal(value_of(f, "b"), "one");
}

static void test_watch_several_files_are_one_revision(void **state)
{
	struct fixture *f = *state;
	start(f);
	write_file(f, "a.yaml", NS("a", "one"));
	write_file(f, "b.yaml", NS("b", "one"));
	write_file(f, "c.yaml", NS("c", "one"));
	await(f, "c", "one");
	until(f->loop, is_settled, f, "settled");
	assert_int_equal(store_count(f->store), 3);
	assert_int_equal(store_revision(f->store), 1);
}

static void test_watch_bad_file_keeps_last_good(void **state)
{
	struct fixture *f = *state;
	write_file(f, "a.yaml", NS("a", "one"));
	start(f);
	write_file(f, "a.yaml", "kind: [");
	write_file(f, "b.yaml", NS("b", "one"));
	await(f, "b", "one");
	assert_string_equal(value_of(f, "a"), "one");
	size_t n;
	assert_true(store_rejections(f->store, &n)[0].last_good);
	assert_int_equal(n, 1);
}

static void test_watch_truncated_file_waits_for_its_text(void **state)
{
	struct fixture *f = *state;
	write_file(f, "a.yaml", NS("a", "one"));
	start(f);
	int fd = open(path(f, "a.yaml"), O_WRONLY | O_TRUNC);
	assert_true(fd >= 0);
	for_a_while(f->loop, 20);
	assert_string_equal(value_of(f, "a"), "one");
	assert_int_equal(write(fd, NS("a", "two"), strlen(NS("a", "two"))), strlen(NS("a", "two")));
	close(fd);
	await(f, "a", "two");
	assert_int_equal(store_revision(f->store), 2);
}

static void test_watch_emptied_file_is_empty_in_the_end(void **state)
{
	struct fixture *f = *state;
	write_file(f, "a.yaml", NS("a", "one"));
	start(f);
	write_file(f, "a.yaml", "");
	await(f, "a", NULL);
}

/* A ConfigMap's mount: files are links through ..data, which is replaced by rename. */
static void test_watch_symlink_swap_is_taken(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(mkdir(path(f, "..v1"), 0700), 0);
	write_file(f, "..v1/a.yaml", NS("a", "one"));
	assert_int_equal(symlink("..v1", path(f, "..data")), 0);
	assert_int_equal(symlink("..data/a.yaml", path(f, "a.yaml")), 0);
	start(f);
	assert_string_equal(value_of(f, "a"), "one");
	assert_int_equal(mkdir(path(f, "..v2"), 0700), 0);
	write_file(f, "..v2/a.yaml", NS("a", "two"));
	assert_int_equal(symlink("..v2", path(f, "..data_tmp")), 0);
	assert_int_equal(rename(path(f, "..data_tmp"), path(f, "..data")), 0);
	await(f, "a", "two");
}

static void test_directory_missing_at_start_is_waited_for(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(rmdir(f->dir), 0);
	start(f);
	assert_non_null(strstr(file_source_problem(f->fs), "No such file or directory"));
	assert_int_equal(mkdir(f->dir, 0700), 0);
	write_file(f, "a.yaml", NS("a", "one"));
	await(f, "a", "one");
	assert_null(file_source_problem(f->fs));
	write_file(f, "a.yaml", NS("a", "two"));
	await(f, "a", "two");
}

static void test_directory_vanished_keeps_last_good_until_it_is_back(void **state)
{
	struct fixture *f = *state;
	write_file(f, "a.yaml", NS("a", "one"));
	write_file(f, "b.yaml", NS("b", "one"));
	start(f);
	char away[120];
	snprintf(away, sizeof(away), "%s/away", f->root);
	assert_int_equal(rename(f->dir, away), 0);
	until(f->loop, has_problem, f, "the missing directory is told");
	assert_string_equal(value_of(f, "a"), "one");
	size_t n;
	assert_string_equal(store_rejections(f->store, &n)->key, "config");

	assert_int_equal(mkdir(f->dir, 0700), 0); /* empty: not believed */
	for_a_while(f->loop, 300);
	assert_string_equal(value_of(f, "a"), "one");
	write_file(f, "a.yaml", NS("a", "two"));
	await(f, "a", "two");
	until(f->loop, has_no_problem, f, "the directory is back");
	assert_null(value_of(f, "b"));
	write_file(f, "a.yaml", NS("a", "three"));
	await(f, "a", "three");
}

static void test_large_file_is_refused(void **state)
{
	struct fixture *f = *state;
	write_file(f, "a.yaml", NS("a", "one"));
	start(f);
	assert_int_equal(truncate(path(f, "a.yaml"), 100 << 20), 0);
	write_file(f, "b.yaml", NS("b", "one"));
	await(f, "b", "one");
	size_t n;
	const struct rejection *r = store_rejections(f->store, &n);
	assert_int_equal(n, 1);
	assert_string_equal(r->text, "is 100 MiB large; files up to 32 MiB are read: split it");
	assert_string_equal(value_of(f, "a"), "one");
}

static void test_fifo_is_refused_and_blocks_nobody(void **state)
{
	struct fixture *f = *state;
	write_file(f, "b.yaml", NS("b", "one"));
	assert_int_equal(mkfifo(path(f, "a.yaml"), 0600), 0);
	start(f);
	assert_string_equal(value_of(f, "b"), "one");
	size_t n;
	assert_string_equal(store_rejections(f->store, &n)->text, "is not a regular file; it is not read");
}

static void test_dangling_symlink_keeps_last_good(void **state)
{
	struct fixture *f = *state;
	write_file(f, "real", NS("a", "one"));
	assert_int_equal(symlink("real", path(f, "a.yaml")), 0);
	start(f);
	assert_string_equal(value_of(f, "a"), "one");
	assert_int_equal(unlink(path(f, "real")), 0);
	file_source_rescan(f->fs);
	assert_string_equal(value_of(f, "a"), "one");
	size_t n;
	assert_string_equal(store_rejections(f->store, &n)->text, "can't be opened: No such file or directory");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_new_reads_the_directory),
		T(test_watch_written_file_is_taken),
		T(test_watch_renamed_over_file_is_taken),
		T(test_watch_removed_file_is_removed),
		T(test_watch_several_files_are_one_revision),
		T(test_watch_bad_file_keeps_last_good),
		T(test_watch_truncated_file_waits_for_its_text),
		T(test_watch_emptied_file_is_empty_in_the_end),
		T(test_watch_symlink_swap_is_taken),
		T(test_directory_missing_at_start_is_waited_for),
		T(test_directory_vanished_keeps_last_good_until_it_is_back),
		T(test_large_file_is_refused),
		T(test_fifo_is_refused_and_blocks_nobody),
		T(test_dangling_symlink_keeps_last_good),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
