/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source/store.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/config/kinds.h"
#include "tests/unit/source/scratch.h"

#define SERVICE(name, port)                                                                                            \
	"---\napiVersion: v1\nkind: Service\nmetadata: { name: " name ", namespace: shop }\n"                          \
	"spec: { clusterIP: 10.0.0.1, ports: [ { port: " #port " } ] }\n"

struct fixture {
	struct store *store;
	char dir[64];
	unsigned int calls;
	uint64_t revision;
};

static void on_change(struct store *s, uint64_t revision, void *arg)
{
	struct fixture *f = arg;
	(void)s;
	f->calls++;
	f->revision = revision;
}

static void fixture_open(struct fixture *f, const char *dir)
{
	struct err err = ERR_INIT;
	assert_int_equal(store_new(&f->store), 0);
	store_on_change(f->store, on_change, f);
	if (store_open(f->store, dir, &err) < 0)
		fail_msg("%s", err.text);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	scratch_new(f->dir, sizeof(f->dir));
	fixture_open(f, f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	store_free(f->store);
	scratch_remove(f->dir);
	free(f);
	return 0;
}

static void reopen(struct fixture *f)
{
	store_free(f->store);
	f->calls = 0;
	fixture_open(f, f->dir);
}

static void put(struct fixture *f, const char *name, const char *text)
{
	assert_int_equal(store_put_file(f->store, name, text, strlen(text)), 0);
}

static bool commit(struct fixture *f)
{
	struct err err = ERR_INIT;
	bool changed;
	if (store_commit(f->store, &changed, &err) < 0)
		fail_msg("%s", err.text);
	return changed;
}

static bool apply(struct fixture *f, const char *name, const char *text)
{
	put(f, name, text);
	return commit(f);
}

/* The port of Service/shop/<name>; 0: not there. */
static unsigned int port_of(const struct fixture *f, const char *name)
{
	const struct resource *r = store_get(f->store, KIND_SERVICE, "shop", name);
	return r ? r->spec.service->ports.v[0].port : 0;
}

static size_t rejections(const struct fixture *f)
{
	size_t n;
	store_rejections(f->store, &n);
	return n;
}

static void assert_rejection(const struct fixture *f, const char *key, const char *origin, const char *text)
{
	size_t n;
	const struct rejection *r = store_rejections(f->store, &n);
	for (size_t i = 0; i < n; i++)
		if (!strcmp(r[i].key, key) && !strcmp(r[i].origin, origin) && strstr(r[i].text, text))
			return;
	for (size_t i = 0; i < n; i++)
		print_message("has: %s %s: %s\n", r[i].origin, r[i].key, r[i].text);
	fail_msg("no rejection %s %s: %s", origin, key, text);
}

static void test_commit_valid_file_is_in_force(void **state)
{
	struct fixture *f = *state;
	assert_true(apply(f, "a.yaml", SERVICE("x", 1) SERVICE("w", 2)));
	assert_int_equal(port_of(f, "x"), 1);
	assert_int_equal(port_of(f, "w"), 2);
	assert_int_equal(store_count(f->store), 2);
	assert_int_equal(store_revision(f->store), 1);
	assert_int_equal(f->calls, 1);
	assert_int_equal(rejections(f), 0);
}

static void test_commit_same_text_makes_no_revision(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1));
	const struct resource *before = store_get(f->store, KIND_SERVICE, "shop", "x");
	assert_false(apply(f, "a.yaml", SERVICE("x", 1)));
	assert_ptr_equal(store_get(f->store, KIND_SERVICE, "shop", "x"), before);
	assert_int_equal(store_revision(f->store), 1);
	assert_int_equal(f->calls, 1);
}

static void test_commit_one_document_changed_others_keep_pointer(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1) SERVICE("w", 2));
	const struct resource *x = store_get(f->store, KIND_SERVICE, "shop", "x");
	apply(f, "a.yaml", SERVICE("x", 1) SERVICE("w", 3));
	assert_ptr_equal(store_get(f->store, KIND_SERVICE, "shop", "x"), x);
	assert_int_equal(port_of(f, "w"), 3);
	size_t n;
	const struct store_change *changes = store_changes(f->store, &n);
	assert_int_equal(n, 1);
	assert_string_equal(changes[0].after->key, "Service/shop/w");
	assert_int_equal(changes[0].before->spec.service->ports.v[0].port, 2);
}

static void test_commit_moved_document_has_new_line_and_same_spec(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1));
	const void *spec = store_get(f->store, KIND_SERVICE, "shop", "x")->spec.any;
	assert_string_equal(store_get(f->store, KIND_SERVICE, "shop", "x")->origin, "a.yaml:2");
	assert_false(apply(f, "a.yaml", "# hello\n\n" SERVICE("x", 1)));
	assert_string_equal(store_get(f->store, KIND_SERVICE, "shop", "x")->origin, "a.yaml:4");
	assert_ptr_equal(store_get(f->store, KIND_SERVICE, "shop", "x")->spec.any, spec);
	apply(f, "a.yaml", SERVICE("z", 9) SERVICE("x", 1));
	assert_string_equal(store_get(f->store, KIND_SERVICE, "shop", "x")->origin, "a.yaml:7");
	assert_ptr_equal(store_get(f->store, KIND_SERVICE, "shop", "x")->spec.any, spec);
}

static void test_commit_bad_document_keeps_last_good_and_takes_the_rest(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1) SERVICE("w", 2));
	assert_true(apply(f, "a.yaml", SERVICE("x", 99999) SERVICE("w", 3)));
	assert_int_equal(port_of(f, "x"), 1);
	assert_int_equal(port_of(f, "w"), 3);
	assert_rejection(f, "Service/shop/x", "a.yaml:5", "spec.ports[0].port: 99999 is out of range");
	size_t n;
	assert_true(store_rejections(f->store, &n)[0].last_good);
	assert_true(apply(f, "a.yaml", SERVICE("x", 7) SERVICE("w", 3)));
	assert_int_equal(port_of(f, "x"), 7);
	assert_int_equal(rejections(f), 0);
}

static void test_commit_bad_document_without_last_good_is_absent(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 99999));
	assert_int_equal(port_of(f, "x"), 0);
	size_t n;
	assert_false(store_rejections(f->store, &n)[0].last_good);
	assert_int_equal(n, 1);
}

static void test_commit_unparsable_document_keeps_all_of_its_file(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1) SERVICE("w", 2));
	apply(f, "a.yaml", SERVICE("w", 3) "---\nkind: [\n");
	assert_int_equal(port_of(f, "x"), 1);
	assert_int_equal(port_of(f, "w"), 3);
	assert_rejection(f, "a.yaml", "a.yaml:8", "not YAML");
	apply(f, "a.yaml", SERVICE("w", 3));
	assert_int_equal(port_of(f, "x"), 0);
	assert_int_equal(rejections(f), 0);
}

static void test_commit_removed_file_removes_its_resources(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1));
	apply(f, "b.yaml", SERVICE("w", 2));
	assert_int_equal(store_remove_file(f->store, "a.yaml"), 0);
	assert_true(commit(f));
	assert_int_equal(port_of(f, "x"), 0);
	assert_int_equal(port_of(f, "w"), 2);
	assert_int_equal(store_count(f->store), 1);
}

static void test_commit_unreadable_file_keeps_its_resources(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1));
	assert_int_equal(store_put_unreadable(f->store, "a.yaml", "is 100 MiB large"), 0);
	assert_false(commit(f));
	assert_int_equal(port_of(f, "x"), 1);
	assert_rejection(f, "a.yaml", "a.yaml", "100 MiB");
	apply(f, "a.yaml", SERVICE("x", 1));
	assert_int_equal(rejections(f), 0);
}

/* Its file goes while the directory is gone, and comes back unreadable before it goes for good. */
static void test_commit_what_was_kept_goes_with_the_next_file_of_that_name(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1));
	store_put_unreadable(f->store, NULL, "config directory is gone");
	assert_int_equal(store_remove_file(f->store, "a.yaml"), 0);
	commit(f);
	store_put_unreadable(f->store, "a.yaml", "can't be opened: Permission denied");
	commit(f);
	store_put_unreadable(f->store, NULL, NULL);
	commit(f);
	assert_int_equal(port_of(f, "x"), 1);
	assert_int_equal(store_remove_file(f->store, "a.yaml"), 0);
	assert_true(commit(f));
	assert_int_equal(port_of(f, "x"), 0);
}

static void test_commit_duplicate_the_first_stays(void **state)
{
	struct fixture *f = *state;
	apply(f, "b.yaml", SERVICE("x", 1));
	assert_false(apply(f, "a.yaml", SERVICE("x", 2)));
	assert_int_equal(port_of(f, "x"), 1);
	assert_rejection(f, "Service/shop/x", "a.yaml:2", "already defined in b.yaml:2");
	/* A broken first one does not hand over to the second. */
	apply(f, "b.yaml", SERVICE("x", 99999));
	assert_int_equal(port_of(f, "x"), 1);
	store_remove_file(f->store, "b.yaml");
	assert_true(commit(f));
	assert_int_equal(port_of(f, "x"), 2);
	assert_int_equal(rejections(f), 0);
}

static void test_commit_duplicate_in_one_file_the_first_stays(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1) SERVICE("x", 2));
	assert_int_equal(port_of(f, "x"), 1);
	assert_rejection(f, "Service/shop/x", "a.yaml:7", "already defined in a.yaml:2");
}

static void test_next_iterates_in_key_order(void **state)
{
	struct fixture *f = *state;
	struct sb sb = { 0 };
	for (int i = 199; i >= 0; i--)
		sb_addf(&sb, "---\napiVersion: v1\nkind: Namespace\nmetadata: { name: n%03d }\n", i);
	apply(f, "a.yaml", sb.p);
	sb_done(&sb);
	apply(f, "b.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: { name: n100a }\n");
	int n = 0;
	const char *last = "";
	for (const struct resource *r = NULL; (r = store_next(f->store, KIND_NAMESPACE, r)); n++) {
		assert_true(strcmp(last, r->key) < 0);
		last = r->key;
	}
	assert_int_equal(n, 201);
	assert_non_null(store_get(f->store, KIND_NAMESPACE, NULL, "n100a"));
	assert_null(store_next(f->store, KIND_SERVICE, NULL));
}

static void test_history_numbers_and_summaries(void **state)
{
	struct fixture *f = *state;
	const struct revision *r[STORE_HISTORY_MAX];
	apply(f, "a.yaml", SERVICE("x", 1));
	apply(f, "a.yaml", SERVICE("x", 2) SERVICE("w", 1));
	assert_int_equal(store_history(f->store, r, STORE_HISTORY_MAX), 2);
	assert_int_equal(r[0]->number, 2);
	assert_string_equal(r[0]->summary, "1 changed, 1 added: Service/shop/w, Service/shop/x");
	assert_int_equal(r[1]->number, 1);
}

static void test_history_keeps_the_last_fifty(void **state)
{
	struct fixture *f = *state;
	const struct revision *r[100];
	struct err err = ERR_INIT;
	struct sb sb = { 0 };
	for (int i = 1; i <= 60; i++) {
		char text[200];
		snprintf(text, sizeof(text),
			 "apiVersion: v1\nkind: Namespace\nmetadata: { name: ns, labels: { a: v%d } }\n", i);
		apply(f, "a.yaml", text);
	}
	assert_int_equal(store_history(f->store, r, 100), STORE_HISTORY_MAX);
	assert_int_equal(r[STORE_HISTORY_MAX - 1]->number, 11);
	assert_int_equal(store_diff(f->store, 5, 60, &sb, &err), -ENOENT);
	assert_string_equal(err.text, "revision 5 is not kept; those from 11 to 60 are");
	sb_done(&sb);
}

static void test_diff_is_unified(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct sb sb = { 0 };
	apply(f, "a.yaml", SERVICE("x", 1) SERVICE("gone", 1));
	apply(f, "a.yaml", SERVICE("x", 2));
	assert_int_equal(store_diff(f->store, 1, 2, &sb, &err), 0);
	assert_string_equal(sb.p,
			    "--- Service/shop/gone\trevision 1\n+++ /dev/null\n@@ -1,5 +0,0 @@\n----\n-apiVersion: v1\n"
			    "-kind: Service\n-metadata: { name: gone, namespace: shop }\n"
			    "-spec: { clusterIP: 10.0.0.1, ports: [ { port: 1 } ] }\n"
			    "--- Service/shop/x\trevision 1\n+++ Service/shop/x\trevision 2\n@@ -2,4 +2,4 @@\n"
			    " apiVersion: v1\n kind: Service\n metadata: { name: x, namespace: shop }\n"
			    "-spec: { clusterIP: 10.0.0.1, ports: [ { port: 1 } ] }\n"
			    "+spec: { clusterIP: 10.0.0.1, ports: [ { port: 2 } ] }\n");
	sb_done(&sb);
}

static void test_rollback_stays_until_the_files_change(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	apply(f, "a.yaml", SERVICE("x", 1) SERVICE("gone", 5));
	apply(f, "a.yaml", SERVICE("x", 2) SERVICE("new", 6));
	assert_int_equal(store_rollback(f->store, 1, &err), 0);
	assert_int_equal(store_revision(f->store), 3);
	assert_int_equal(store_rolled_back_to(f->store), 1);
	assert_int_equal(f->revision, 3);
	assert_int_equal(port_of(f, "x"), 1);
	assert_int_equal(port_of(f, "gone"), 5);
	assert_int_equal(port_of(f, "new"), 0);

	assert_false(apply(f, "a.yaml", SERVICE("x", 2) SERVICE("new", 6)));
	assert_int_equal(port_of(f, "x"), 1);
	assert_true(apply(f, "a.yaml", SERVICE("x", 2) SERVICE("new", 7)));
	assert_int_equal(store_rolled_back_to(f->store), 0);
	assert_int_equal(port_of(f, "x"), 2);
	assert_int_equal(port_of(f, "gone"), 0);
	assert_int_equal(port_of(f, "new"), 7);
}

static void test_rollback_to_unknown_is_refused(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	apply(f, "a.yaml", SERVICE("x", 1));
	assert_int_equal(store_rollback(f->store, 7, &err), -ENOENT);
	assert_int_equal(store_rollback(f->store, 1, &err), -EALREADY);
	assert_int_equal(store_revision(f->store), 1);
}

static void test_restart_same_files_continues_the_number(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1));
	apply(f, "a.yaml", SERVICE("x", 2));
	reopen(f);
	assert_int_equal(store_revision(f->store), 2);
	assert_false(apply(f, "a.yaml", SERVICE("x", 2)));
	assert_int_equal(store_revision(f->store), 2);
	assert_int_equal(f->calls, 1);
	assert_int_equal(port_of(f, "x"), 2);
	assert_true(apply(f, "a.yaml", SERVICE("x", 3)));
	assert_int_equal(store_revision(f->store), 3);
}

static void test_restart_changed_files_make_a_revision(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1) SERVICE("w", 1));
	reopen(f);
	assert_true(apply(f, "a.yaml", SERVICE("x", 2)));
	assert_int_equal(store_revision(f->store), 2);
	assert_int_equal(port_of(f, "w"), 0);
}

static void test_restart_broken_file_uses_last_good(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1) SERVICE("w", 1));
	apply(f, "b.yaml", SERVICE("z", 3));
	reopen(f);
	put(f, "a.yaml", SERVICE("x", 99999) "---\nkind: [\n");
	store_put_unreadable(f->store, "b.yaml", "can't be opened: Permission denied");
	assert_false(commit(f));
	assert_int_equal(port_of(f, "x"), 1);
	assert_int_equal(port_of(f, "w"), 1);
	assert_int_equal(port_of(f, "z"), 3);
	assert_int_equal(f->calls, 1);
	apply(f, "a.yaml", SERVICE("x", 5));
	assert_int_equal(port_of(f, "x"), 5);
	assert_int_equal(port_of(f, "w"), 0);
}

static void test_restart_missing_directory_uses_last_good(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1) SERVICE("w", 1));
	reopen(f);
	store_put_unreadable(f->store, NULL, "config directory is gone");
	commit(f);
	assert_int_equal(port_of(f, "x"), 1);
	assert_int_equal(f->calls, 1);
	assert_rejection(f, "config", "config", "is gone");
	store_put_unreadable(f->store, NULL, NULL);
	assert_true(apply(f, "a.yaml", SERVICE("x", 1)));
	assert_int_equal(port_of(f, "x"), 1);
	assert_int_equal(port_of(f, "w"), 0);
	assert_int_equal(rejections(f), 0);
}

static void test_restart_missing_directory_back_with_unparsable_file_uses_last_good(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1));
	reopen(f);
	store_put_unreadable(f->store, NULL, "config directory is gone");
	commit(f);
	store_put_unreadable(f->store, NULL, NULL);
	apply(f, "a.yaml", "kind: [\n");
	assert_int_equal(port_of(f, "x"), 1);
	apply(f, "a.yaml", "");
	assert_int_equal(port_of(f, "x"), 0);
}

static void test_restart_rollback_stays_in_force(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	apply(f, "a.yaml", SERVICE("x", 1) SERVICE("gone", 1));
	apply(f, "a.yaml", SERVICE("x", 2) SERVICE("new", 2));
	assert_int_equal(store_rollback(f->store, 1, &err), 0);
	reopen(f);
	assert_false(apply(f, "a.yaml", SERVICE("x", 2) SERVICE("new", 2)));
	assert_int_equal(store_rolled_back_to(f->store), 1);
	assert_int_equal(port_of(f, "x"), 1);
	assert_int_equal(port_of(f, "gone"), 1);
	assert_int_equal(port_of(f, "new"), 0);
	store_remove_file(f->store, "a.yaml");
	assert_true(commit(f));
	assert_int_equal(store_count(f->store), 0);
	assert_int_equal(store_rolled_back_to(f->store), 0);
}

static void test_restart_torn_record_is_cut_off(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.yaml", SERVICE("x", 1));
	apply(f, "a.yaml", SERVICE("x", 2));
	char path[128];
	snprintf(path, sizeof(path), "%s/revisions", f->dir);
	assert_int_equal(truncate(path, scratch_size(path) - 5), 0);
	reopen(f);
	assert_int_equal(store_revision(f->store), 1);
	apply(f, "a.yaml", SERVICE("x", 2));
	assert_int_equal(store_revision(f->store), 2);
	reopen(f);
	assert_int_equal(store_revision(f->store), 2);
}

static void test_restart_damaged_state_is_put_aside(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	apply(f, "a.yaml", SERVICE("x", 1));
	char path[128];
	snprintf(path, sizeof(path), "%s/revisions", f->dir);
	store_free(f->store);
	scratch_write(path, "garbage garbage garbage");
	assert_int_equal(store_new(&f->store), 0);
	assert_int_equal(store_open(f->store, f->dir, &err), 0);
	assert_non_null(strstr(err.text, "revisions.damaged"));
	assert_int_equal(store_revision(f->store), 0);
	assert_true(apply(f, "a.yaml", SERVICE("x", 1)));
	assert_int_equal(port_of(f, "x"), 1);
}

static void test_open_twice_is_refused(void **state)
{
	struct fixture *f = *state;
	struct store *other;
	struct err err = ERR_INIT;
	assert_int_equal(store_new(&other), 0);
	assert_int_equal(store_open(other, f->dir, &err), -EBUSY);
	assert_non_null(strstr(err.text, "another agent"));
	store_free(other);
}

static void test_text_is_what_was_written(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct sb sb = { 0 };
	apply(f, "a.yaml", "# about w\n" SERVICE("w", 1));
	assert_int_equal(store_text(f->store, "Service/shop/w", &sb, &err), 0);
	assert_string_equal(sb.p, SERVICE("w", 1));
	assert_int_equal(store_text(f->store, "Service/shop/n", &sb, &err), -ENOENT);
	sb_done(&sb);
}

static void test_list_is_several_resources(void **state)
{
	struct fixture *f = *state;
	apply(f, "a.json",
	      "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":["
	      "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\"}},"
	      "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"b\"}}]}");
	assert_int_equal(store_count(f->store), 2);
	apply(f, "a.json",
	      "{\"apiVersion\":\"v1\",\"kind\":\"List\",\"items\":["
	      "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\"}},"
	      "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":7}}]}");
	assert_int_equal(store_count(f->store), 2);
}

static void test_history_rewrites_its_files_when_mostly_garbage(void **state)
{
	struct fixture *f = *state;
	struct err err = ERR_INIT;
	struct sb sb = { 0 };
	apply(f, "keep.yaml", SERVICE("keep", 4));
	for (int i = 0; i < 120; i++) {
		sb_addf(&sb, "apiVersion: v1\nkind: Namespace\nmetadata: { name: ns, labels: { a: v%d } }\n#", i);
		for (int k = 0; k < 4096; k++)
			sb_add(&sb, "0123456789012345678901234567890123456789012345678901234567890123");
		apply(f, "a.yaml", sb.p);
		sb_done(&sb);
	}
	assert_true(scratch_dir_size(f->dir) < 40ll << 20);
	uint64_t revision = store_revision(f->store);
	reopen(f);
	assert_int_equal(store_revision(f->store), revision);
	store_put_unreadable(f->store, NULL, "gone");
	commit(f);
	assert_int_equal(port_of(f, "keep"), 4);
	assert_int_equal(store_rollback(f->store, revision - 3, &err), 0);
	assert_string_equal(string_map_get(&store_get(f->store, KIND_NAMESPACE, NULL, "ns")->labels, "a"), "v116");
}

#define SECRET(value)                                                                                                  \
	"apiVersion: v1\nkind: Secret\nmetadata: { name: k, namespace: shop }\nstringData: { key: " value " }\n"

static void test_secret_is_shown_to_nobody(void **state)
{
	struct fixture *f = *state;
	struct sb text = { 0 }, diff = { 0 };
	struct err err = ERR_INIT;
	apply(f, "a.yaml", SECRET("s3cr3t-one"));
	apply(f, "a.yaml", SECRET("s3cr3t-two"));
	assert_int_equal(store_text(f->store, "Secret/shop/k", &text, &err), 0);
	assert_non_null(strstr(text.p, "key: (hidden)"));
	assert_null(strstr(text.p, "s3cr3t"));
	assert_int_equal(store_diff(f->store, 1, 2, &diff, &err), 0);
	assert_non_null(strstr(diff.p, "+# Hidden values are others than before."));
	assert_null(strstr(diff.p, "s3cr3t"));
	sb_done(&text);
	sb_done(&diff);

	/* But it is kept, for the next start and for rollback. */
	assert_int_equal(store_rollback(f->store, 1, &err), 0);
	const struct resource *r = store_get(f->store, KIND_SECRET, "shop", "k");
	assert_string_equal(string_map_get(&r->spec.secret->values, "key"), "s3cr3t-one");
}

static void test_history_is_closed_to_others(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = { "texts-1", "revisions" };
	apply(f, "a.yaml", SECRET("s3cr3t"));
	for (int again = 0; again < 2; again++) {
		for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
			struct stat st;
			char path[128];
			snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
			assert_int_equal(stat(path, &st), 0);
			assert_int_equal(st.st_mode & 0777, 0600);
			chmod(path, i == 0 && !again ? 0644 : 0600);
		}
		reopen(f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_commit_valid_file_is_in_force),
		T(test_commit_same_text_makes_no_revision),
		T(test_commit_one_document_changed_others_keep_pointer),
		T(test_commit_moved_document_has_new_line_and_same_spec),
		T(test_commit_bad_document_keeps_last_good_and_takes_the_rest),
		T(test_commit_bad_document_without_last_good_is_absent),
		T(test_commit_unparsable_document_keeps_all_of_its_file),
		T(test_commit_removed_file_removes_its_resources),
		T(test_commit_unreadable_file_keeps_its_resources),
		T(test_commit_what_was_kept_goes_with_the_next_file_of_that_name),
		T(test_commit_duplicate_the_first_stays),
		T(test_commit_duplicate_in_one_file_the_first_stays),
		T(test_next_iterates_in_key_order),
		T(test_history_numbers_and_summaries),
		T(test_history_keeps_the_last_fifty),
		T(test_diff_is_unified),
		T(test_rollback_stays_until_the_files_change),
		T(test_rollback_to_unknown_is_refused),
		T(test_restart_same_files_continues_the_number),
		T(test_restart_changed_files_make_a_revision),
		T(test_restart_broken_file_uses_last_good),
		T(test_restart_missing_directory_uses_last_good),
		T(test_restart_missing_directory_back_with_unparsable_file_uses_last_good),
		T(test_restart_rollback_stays_in_force),
		T(test_restart_torn_record_is_cut_off),
		T(test_restart_damaged_state_is_put_aside),
		T(test_open_twice_is_refused),
		T(test_text_is_what_was_written),
		T(test_list_is_several_resources),
		T(test_secret_is_shown_to_nobody),
		T(test_history_is_closed_to_others),
		T(test_history_rewrites_its_files_when_mostly_garbage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
