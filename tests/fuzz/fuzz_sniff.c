/* SPDX-License-Identifier: Apache-2.0 */
/* A client's first bytes: a decision stands whatever follows, and a name is one. */
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/helper/sniff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum sniffed sniff_exact(const uint8_t *data, size_t size, char name[SNIFF_NAME_MAX])
{
	AUTO(mem_freep) uint8_t *bytes = malloc(size + !size); /* exactly, so that ASan sees a read past it */
	if (!bytes)
		abort();
	if (size)
		memcpy(bytes, data, size);
	enum sniffed what = sniff(bytes, size, name);
	assert(memchr(name, 0, SNIFF_NAME_MAX));
	assert(what == SNIFF_TLS || name[0] == '\0');
	return what;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[SNIFF_NAME_MAX], before[SNIFF_NAME_MAX];
	enum sniffed whole = sniff_exact(data, size, name);
	size_t half = size / 2;
	enum sniffed first = sniff_exact(data, half, before);
	if (first != SNIFF_MORE)
		assert(first == whole && strcmp(name, before) == 0);
	assert(whole != SNIFF_MORE || size < SNIFF_MAX);
	return 0;
}
