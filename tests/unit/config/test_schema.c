/* SPDX-License-Identifier: Apache-2.0 */
/* The tables themselves: that each field's type is that of its member, and that nothing is left out. */
#include "agent/config/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/mem.h"
#include "agent/config/kinds.h"

enum { ANY_SIZE = 0, LIST_SIZE = sizeof(struct string_list), SEEN_MAX = 500 };

static const size_t sizes[] = {
	[F_STRING] = sizeof(char *),
	[F_BOOL] = sizeof(bool),
	[F_OPT_BOOL] = sizeof(struct opt_bool),
	[F_U16] = sizeof(uint16_t),
	[F_U32] = sizeof(uint32_t),
	[F_U64] = sizeof(uint64_t),
	[F_OPT_U32] = sizeof(struct opt_u32),
	[F_OPT_DOUBLE] = sizeof(struct opt_double),
	[F_OPT_MS] = sizeof(struct opt_ms),
	[F_ENUM] = sizeof(int),
	[F_PORT_NAME] = sizeof(struct int_or_name),
	[F_OBJECT] = sizeof(void *),
	[F_ANY] = sizeof(void *),
	[F_STRING_LIST] = LIST_SIZE,
	[F_ENUM_LIST] = LIST_SIZE,
	[F_ADDR_LIST] = LIST_SIZE,
	[F_CIDR_LIST] = LIST_SIZE,
	[F_LIST] = LIST_SIZE,
	[F_STRING_MAP] = sizeof(struct string_map),
	[F_MAP] = LIST_SIZE,
	[F_LINE] = sizeof(uint32_t),
	[F_IGNORED] = ANY_SIZE,
};

struct walk {
	const struct schema *seen[SEEN_MAX];
	size_t count;
	void (*each)(const struct schema *s, const struct field *f);
};

static void walk(struct walk *w, const struct schema *s)
{
	for (size_t i = 0; i < w->count; i++)
		if (w->seen[i] == s)
			return;
	assert_true(w->count < SEEN_MAX);
	w->seen[w->count++] = s;
	for (size_t i = 0; i < s->field_count; i++) {
		w->each(s, &s->fields[i]);
		if (s->fields[i].of)
			walk(w, s->fields[i].of);
	}
}

static void walk_all(void (*each)(const struct schema *s, const struct field *f))
{
	struct walk w = { .each = each };
	for (size_t i = 0; i < KIND_COUNT; i++) {
		if (kind_infos[i].schema)
			walk(&w, kind_infos[i].schema);
		if (kind_infos[i].top)
			walk(&w, kind_infos[i].top);
	}
	assert_true(w.count > 30);
}

static void check_member(const struct schema *s, const struct field *f)
{
	assert_true(f->type < ARRAY_SIZE(sizes));
	if (f->size != sizes[f->type])
		fail_msg("%s.%s: member has %u bytes, its type %zu", s->name, f->name ? f->name : "?", f->size,
			 sizes[f->type]);
	assert_true(f->offset + f->size <= s->size);
}

static void check_parts(const struct schema *s, const struct field *f)
{
	bool needs_of = f->type == F_OBJECT || f->type == F_LIST || f->type == F_MAP;
	bool needs_words = f->type == F_ENUM || f->type == F_ENUM_LIST;
	if (needs_of != (f->of != NULL) || needs_words != (f->words != NULL))
		fail_msg("%s.%s: parts do not fit its type", s->name, f->name);
	if (f->type == F_MAP && !f->of->key)
		fail_msg("%s.%s: a map without key", s->name, f->name);
	if (f->name && !(f->doc && *f->doc && strlen(f->doc) < 200))
		fail_msg("%s.%s: not documented", s->name, f->name);
	assert_true(s->name && *s->name);
	assert_true(s->field_count <= 64);
}

static void check_twice(const struct schema *s, const struct field *f)
{
	for (const struct field *other = s->fields; other < f; other++)
		if (f->name && other->name && !strcmp(f->name, other->name))
			fail_msg("%s.%s: twice", s->name, f->name);
}

static void test_fields_fit_their_members(void **state)
{
	(void)state;
	walk_all(check_member);
}

static void test_fields_have_what_their_type_needs(void **state)
{
	(void)state;
	walk_all(check_parts);
}

static void test_fields_are_named_once(void **state)
{
	(void)state;
	walk_all(check_twice);
}

static void test_kinds_are_where_their_number_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < KIND_COUNT; i++) {
		assert_int_equal(kind_infos[i].kind, i);
		assert_non_null(kind_infos[i].name);
		assert_non_null(kind_infos[i].plural);
		assert_non_null(kind_infos[i].versions);
	}
}

static void test_kind_parse_takes_what_people_type(void **state)
{
	enum resource_kind kind;
	(void)state;
	assert_int_equal(resource_kind_parse("svc", &kind), 0);
	assert_int_equal(kind, KIND_SERVICE);
	assert_int_equal(resource_kind_parse("AuthorizationPolicies", &kind), 0);
	assert_int_equal(kind, KIND_AUTHORIZATION_POLICY);
	assert_int_equal(resource_kind_parse("destinationrule", &kind), 0);
	assert_int_equal(kind, KIND_DESTINATION_RULE);
	assert_int_equal(resource_kind_parse("gateway", &kind), 0);
	assert_int_equal(kind, KIND_GATEWAY);
	assert_int_equal(resource_kind_parse("teapot", &kind), -2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields_fit_their_members),
		cmocka_unit_test(test_fields_have_what_their_type_needs),
		cmocka_unit_test(test_fields_are_named_once),
		cmocka_unit_test(test_kinds_are_where_their_number_says),
		cmocka_unit_test(test_kind_parse_takes_what_people_type),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
