/* SPDX-License-Identifier: Apache-2.0 */
/* A pattern, a substitution and a text, each ended by a NUL: nothing crashes or takes long, and what is replaced fits. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/regex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The text up to the next NUL, newly allocated; moves past it. */
static char *part(const uint8_t **data, size_t *size)
{
	size_t len = strnlen((const char *)*data, *size);
	char *copy = strndup((const char *)*data, len);

	if (!copy)
		abort();
	*data += len;
	*size -= len;
	if (*size) {
		(*data)++;
		(*size)--;
	}
	return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(mem_freep) char *pattern = part(&data, &size);
	AUTO(mem_freep) char *substitution = part(&data, &size);
	AUTO(regex_freep) struct regex *re = NULL;
	AUTO(mem_freep) char *out = NULL;
	struct err err = ERR_INIT;

	if (regex_new(pattern, size & 1, &re, &err) < 0) {
		assert(err.text[0]);
		return 0;
	}
	if (size > 8192)
		size = 8192;
	int whole = regex_match(re, (const char *)data, size);
	int some = regex_search(re, (const char *)data, size);
	assert(whole != 1 || some != 0);
	if (regex_substitution_check(re, substitution, &err) == 0 &&
	    regex_replace(re, (const char *)data, size, substitution, &out) == 0)
		assert(strlen(out) <= REGEX_OUTPUT_MAX);
	return 0;
}
