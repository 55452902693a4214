/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/observe/record.h"

#include "agent/base/str.h"

#include <stdio.h>
#include <string.h>

static const char *const names[RESPONSE_FLAG_COUNT] = {
#define FLAG_NAME(symbol, short_name, long_name, meaning) [FLAG_INDEX_##symbol] = short_name,
	RESPONSE_FLAGS(FLAG_NAME)
#undef FLAG_NAME
};

const char *response_flag_name(enum response_flag flag)
{
	return flag < RESPONSE_FLAG_COUNT ? names[flag] : "";
}

void response_flags_text(uint32_t flags, char *buf, size_t size)
{
	size_t n = 0;
	if (!flags) { /* as nearly always */
		str_copy(buf, size, "-");
		return;
	}
	buf[0] = 0;
	for (size_t i = 0; i < RESPONSE_FLAG_COUNT; i++) {
		if (!(flags & (1u << i)))
			continue;
		int wrote = snprintf(buf + n, size - n, "%s%s", n ? "," : "", names[i]);
		if (wrote < 0 || (size_t)wrote >= size - n)
			return;
		n += (size_t)wrote;
	}
}
