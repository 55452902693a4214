/* SPDX-License-Identifier: Apache-2.0 */
/* Normal paths: of allowed bytes only, without dot segments, and normal when normalised again. First byte: the mode. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/mem.h"
#include "agent/model/http_path.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(enum path_normalization mode, const char *path, size_t n)
{
	assert(n > 0 && path[0] == '/');
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)path[i];
		assert(c > 0x20 && c < 0x7f && c != '#' && c != '\\' && c != '?' && c != '"');
		if (c != '/')
			continue;
		size_t end = i + 1;
		while (end < n && path[end] != '/')
			end++;
		size_t len = end - i - 1;
		assert(!(len == 1 && path[i + 1] == '.') && !(len == 2 && memcmp(path + i + 1, "..", 2) == 0));
		assert(!(len == 0 && end < n && mode != PATH_BASE));
		if (mode == PATH_DECODE_AND_MERGE_SLASHES && i + 3 < n && path[i + 1] == '%')
			assert(strncasecmp(path + i + 2, "2f", 2) != 0 && strncasecmp(path + i + 2, "5c", 2) != 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	enum path_normalization mode = (enum path_normalization)(data[0] & 3);
	const char *path = (const char *)data + 1;
	size_t n = size - 1, len = 0, again_len = 0;
	AUTO(mem_freep) char *out = malloc(HTTP_PATH_ROOM(n));
	int rc = http_path_normalise(mode, path, n, out, &len);
	assert(rc == 0 || rc == 1 || rc < 0);
	if (rc < 0 || mode == PATH_NONE || path[0] == '*')
		return 0;
	if (rc == 1) {
		check(mode, path, n);
		return 0;
	}
	assert(len <= HTTP_PATH_ROOM(n));
	check(mode, out, len);
	AUTO(mem_freep) char *again = malloc(HTTP_PATH_ROOM(len));
	rc = http_path_normalise(mode, out, len, again, &again_len);
	assert(rc == 1 || (rc == 0 && again_len == len && memcmp(again, out, len) == 0));
	return 0;
}
