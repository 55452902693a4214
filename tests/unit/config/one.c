/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/config/one.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/hash.h"
#include "agent/base/mem.h"

void one_decode(struct one *one, const char *file, const char *text)
{
	struct decoder *dec;
	struct document_text doc;
	const char *at = text, *end = text + strlen(text);
	uint32_t line = 1;
	*one = (struct one){ 0 };
	assert_int_equal(decoder_new(&dec), 0);
	while (document_next(&at, end, &line, &doc)) {
		assert_true(one->count < ARRAY_SIZE(one->docs));
		uint64_t hash = hash64(HASH64_INIT, doc.text, doc.len);
		assert_int_equal(decoder_run(dec, file, doc.line, doc.text, doc.len, hash, &one->docs[one->count++]),
				 0);
	}
	decoder_free(dec);
}

void one_done(struct one *one)
{
	for (size_t i = 0; i < one->count; i++)
		decoded_done(&one->docs[i]);
}

static void print_problems(const struct one *one)
{
	for (size_t i = 0; i < one->count; i++)
		for (size_t k = 0; k < one->docs[i].problem_count; k++)
			print_message("has (%d): %u: %s\n", one->docs[i].problems[k].level,
				      one->docs[i].problems[k].line, one->docs[i].problems[k].text);
}

const struct resource *one_resource(const struct one *one)
{
	const struct resource *found = NULL;
	size_t n = 0;
	for (size_t i = 0; i < one->count; i++) {
		n += one->docs[i].resource_count;
		if (one->docs[i].resource_count)
			found = one->docs[i].resources[0];
	}
	if (n != 1) {
		print_problems(one);
		fail_msg("%zu resources", n);
	}
	return found;
}

void one_has(const struct one *one, enum problem_level level, const char *text)
{
	char line[1200];
	for (size_t i = 0; i < one->count; i++) {
		for (size_t k = 0; k < one->docs[i].problem_count; k++) {
			const struct problem *p = &one->docs[i].problems[k];
			snprintf(line, sizeof(line), "%u: %s", p->line, p->text);
			if (p->level == level && strstr(line, text))
				return;
		}
	}
	print_problems(one);
	fail_msg("no problem (%d): %s", level, text);
}

void one_has_no_problem(const struct one *one)
{
	for (size_t i = 0; i < one->count; i++) {
		if (one->docs[i].problem_count) {
			print_problems(one);
			fail_msg("problems");
		}
	}
}
