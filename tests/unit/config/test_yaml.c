/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/config/yaml.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/str.h"
#include "agent/config/arena.h"
#include "agent/config/node.h"

struct fixture {
	struct arena *arena;
	struct node *root;
	uint32_t line;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	f->arena = arena_new(4096);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	arena_free(f->arena);
	free(f);
	return 0;
}

static int yaml(struct fixture *f, const char *text)
{
	f->root = NULL;
	f->err = ERR_INIT;
	return yaml_parse(f->arena, text, strlen(text), 1, &f->root, &f->line, &f->err);
}

static int json(struct fixture *f, const char *text)
{
	f->root = NULL;
	f->err = ERR_INIT;
	return json_parse(f->arena, text, strlen(text), 1, &f->root, &f->line, &f->err);
}

static void refused(struct fixture *f, int rc, uint32_t line, const char *why)
{
	assert_int_equal(rc, -EINVAL);
	if (!strstr(f->err.text, why))
		fail_msg("%s", f->err.text);
	assert_int_equal(f->line, line);
}

static enum node_type type_of(struct fixture *f, const char *word)
{
	char text[100];
	strcpy(text, "k: ");
	strcat(text, word);
	assert_int_equal(yaml(f, text), 0);
	return node_get(f->root, "k")->type;
}

static void test_plain_words_follow_kubernetes(void **state)
{
	struct fixture *f = *state;
	static const struct {
		const char *word;
		enum node_type type;
	} words[] = {
		{ "yes", NODE_BOOL },
		{ "NO", NODE_BOOL },
		{ "on", NODE_BOOL },
		{ "y", NODE_BOOL },
		{ "true", NODE_BOOL },
		{ "tRue", NODE_STRING },
		{ "\"yes\"", NODE_STRING },
		{ "~", NODE_NULL },
		{ "null", NODE_NULL },
		{ "", NODE_NULL },
		{ "12", NODE_INT },
		{ "-0x1F", NODE_INT },
		{ "0o17", NODE_INT },
		{ "017", NODE_INT },
		{ "0b101", NODE_INT },
		{ "1_000", NODE_INT },
		{ "08", NODE_DOUBLE },
		{ "1.5", NODE_DOUBLE },
		{ "1e3", NODE_DOUBLE },
		{ ".inf", NODE_DOUBLE },
		{ "10.0.0.1", NODE_STRING },
		{ "1.2.3", NODE_STRING },
		{ "10s", NODE_STRING },
		{ "-", NODE_STRING },
		{ "2001-01-01", NODE_STRING },
		{ "nan", NODE_STRING },
		{ "0x", NODE_STRING },
		{ "infinity", NODE_STRING },
		{ "1:30", NODE_STRING },
		{ "99999999999999999999", NODE_DOUBLE },
	};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (words[i].word[0] != '-' || words[i].word[1])
			if (type_of(f, words[i].word) != words[i].type)
				fail_msg("%s", words[i].word);
	assert_int_equal(yaml(f, "a: 017\nb: 0x1F\nc: -0b11\nd: 1_000"), 0);
	assert_int_equal(node_get(f->root, "a")->i, 15);
	assert_int_equal(node_get(f->root, "b")->i, 31);
	assert_int_equal(node_get(f->root, "c")->i, -3);
	assert_int_equal(node_get(f->root, "d")->i, 1000);
}

static void test_keys_become_text(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(yaml(f, "{ 7001: a, on: b, 1.5: c }"), 0);
	assert_string_equal(node_get_text(f->root, "7001"), "a");
	assert_string_equal(node_get_text(f->root, "true"), "b");
	assert_string_equal(node_get_text(f->root, "1.5"), "c");
	refused(f, yaml(f, "? [a]\n: b"), 1, "a key is a list");
	refused(f, yaml(f, "~: b"), 1, "a key is nothing");
}

static void test_lines_are_those_of_the_keys(void **state)
{
	struct fixture *f = *state;
	const char *text = "a:\n  b:\n  - x\n  - y: |\n      1\n      2\nc: 3\n";
	assert_int_equal(yaml_parse(f->arena, text, strlen(text), 101, &f->root, &f->line, &f->err), 0);
	const struct node *b = node_get(node_get(f->root, "a"), "b");
	assert_int_equal(b->line, 102);
	assert_int_equal(b->first->line, 103);
	assert_int_equal(b->first->next->first->line, 104);
	assert_int_equal(node_get(f->root, "c")->line, 107);
}

static void test_duplicate_key_is_refused_with_both_lines(void **state)
{
	struct fixture *f = *state;
	refused(f, yaml(f, "a: 1\nb: 2\na: 3"), 3, "key \"a\" is written twice, in lines 1 and 3");
	struct sb sb = { 0 };
	for (int i = 0; i < 100; i++)
		sb_addf(&sb, "k%d: 1\n", i);
	sb_add(&sb, "k17: 2\n");
	refused(f, yaml(f, sb.p), 101, "key \"k17\" is written twice, in lines 18 and 101");
	sb_done(&sb);
	refused(f, json(f, "{\"a\": 1,\n\"a\": 2}"), 2, "key \"a\" is written twice, in lines 1 and 2");
}

static void test_aliases_and_merge_keys_are_resolved(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(yaml(f,
			      "base: &b { x: 1, w: 2 }\nuse: { <<: *b, w: 3 }\nlist: { <<: [ *b, { z: 4 } ], x: 9 }\n"
			      "same: *b"),
			 0);
	const struct node *use = node_get(f->root, "use"), *list = node_get(f->root, "list");
	assert_int_equal(node_get(use, "x")->i, 1);
	assert_int_equal(node_get(use, "w")->i, 3);
	assert_null(node_get(use, "<<"));
	assert_int_equal(use->count, 2);
	assert_int_equal(node_get(list, "x")->i, 9);
	assert_int_equal(node_get(list, "w")->i, 2);
	assert_int_equal(node_get(list, "z")->i, 4);
	assert_int_equal(node_get(node_get(f->root, "same"), "w")->i, 2);
	refused(f, yaml(f, "a: { <<: 3 }"), 1, "a merge key (<<) needs an object");
	refused(f, yaml(f, "a: *nobody"), 1, "has no anchor before it");
}

static void test_alias_bomb_is_refused(void **state)
{
	struct fixture *f = *state;
	struct sb sb = { 0 };
	sb_add(&sb, "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
	for (int i = 1; i < 30; i++)
		sb_addf(&sb, "a%d: &a%d [*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1, i - 1, i - 1,
			i - 1, i - 1, i - 1, i - 1);
	refused(f, yaml(f, sb.p), 6, "aliases expand to more than 100000 values");
	sb_done(&sb);
}

static void test_cycle_is_refused(void **state)
{
	struct fixture *f = *state;
	refused(f, yaml(f, "a: 1\nb: &b\n  c: *b"), 3, "inside of its own anchor (line 2): a cycle");
}

static void test_depth_is_bounded(void **state)
{
	struct fixture *f = *state;
	char text[20001];
	memset(text, '[', 20000);
	text[20000] = 0;
	refused(f, yaml(f, text), 1, "nested more than 100 levels");
	refused(f, json(f, text), 1, "nested more than 100 levels");
}

static void test_count_is_bounded(void **state)
{
	struct fixture *f = *state;
	struct sb sb = { 0 };
	sb_add(&sb, "[1");
	for (int i = 0; i < NODE_COUNT_MAX; i++)
		sb_add(&sb, ",1");
	sb_add(&sb, "]");
	refused(f, yaml(f, sb.p), 1, "more than 250000 values");
	refused(f, json(f, sb.p), 1, "more than 250000 values");
	sb_done(&sb);
}

static void test_bad_text_is_refused_with_its_line(void **state)
{
	struct fixture *f = *state;
	refused(f, yaml(f, "a: 1\nb: caf\xe9\n"), 2, "not UTF-8 text");
	refused(f, yaml(f, "a: 1\nb:\n\tc: 2\n"), 3, "a tab is used as indentation");
	refused(f, yaml(f, "a: 1\nb: \"x\\0y\"\n"), 2, "NUL character");
	refused(f, yaml(f, "a: [1\nb: 2\n"), 2, "not YAML");
	refused(f, yaml(f, "a: 1\n---\nb: 2\n"), 2, "a second document starts here");
	refused(f, yaml(f, "a: !!binary abc"), 1, "tag tag:yaml.org,2002:binary is not supported");
	refused(f, yaml(f, "a: !!int abc"), 1, "does not fit its tag");
}

static void test_tags_decide_the_type(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(yaml(f, "a: !!str 12\nb: !!float 3\nc: !!int \"7\""), 0);
	assert_string_equal(node_get_text(f->root, "a"), "12");
	assert_int_equal(node_get(f->root, "b")->type, NODE_DOUBLE);
	assert_int_equal(node_get(f->root, "c")->i, 7);
}

static void test_empty_document_is_nothing(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(yaml(f, "# only a comment\n"), 0);
	assert_null(f->root);
	assert_int_equal(json(f, " \n"), 0);
	assert_null(f->root);
}

static void test_json_strings_and_numbers(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(
		json(f, "{\"a\": \"\\u00e9\\n\\/\\\"\\ud83d\\ude00\",\t\"b\": -12, \"c\": 1.5e3, \"d\": [true, null]}"),
		0);
	assert_string_equal(node_get_text(f->root, "a"), "\xc3\xa9\n/\"\xf0\x9f\x98\x80");
	assert_int_equal(node_get(f->root, "b")->i, -12);
	assert_true(node_get(f->root, "c")->d == 1500);
	assert_int_equal(node_get(f->root, "d")->first->next->type, NODE_NULL);
}

static void test_json_malformed_is_refused(void **state)
{
	struct fixture *f = *state;
	static const char *const bad[] = { "{",	      "{\"a\"}",     "{\"a\":}",    "[1,]",	 "{\"a\":1,}",
					   "01",      "-",	     "1 2",	    "tru",	 "\"a",
					   "\"\\q\"", "\"\\ud800\"", "\"\\u0000\"", "\"\xff\"",	 "\"\n\"",
					   "1e999x",  "{a:1}",	     "[1 2]",	    "\"\\u12\"", "99999999999999999999",
					   "nullx" };
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (json(f, bad[i]) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
	refused(f, json(f, "{\n\"a\": 1,\n}"), 3, "a key in quotes is expected");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_plain_words_follow_kubernetes),
		T(test_keys_become_text),
		T(test_lines_are_those_of_the_keys),
		T(test_duplicate_key_is_refused_with_both_lines),
		T(test_aliases_and_merge_keys_are_resolved),
		T(test_alias_bomb_is_refused),
		T(test_cycle_is_refused),
		T(test_depth_is_bounded),
		T(test_count_is_bounded),
		T(test_bad_text_is_refused_with_its_line),
		T(test_tags_decide_the_type),
		T(test_empty_document_is_nothing),
		T(test_json_strings_and_numbers),
		T(test_json_malformed_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
