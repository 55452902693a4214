/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/model/policy.h"

int match_string_init(struct match_string *out, const char *pattern)
{
	size_t len = strlen(pattern);
	enum match_kind kind = MATCH_EXACT;

	if (len == 1 && pattern[0] == '*') {
		kind = MATCH_PRESENT;
		pattern++;
		len--;
	} else if (len && pattern[0] == '*') { /* Istio looks at the leading star first: "*a*" ends in "a*" */
		kind = MATCH_SUFFIX;
		pattern++;
		len--;
	} else if (len && pattern[len - 1] == '*') {
		kind = MATCH_PREFIX;
		len--;
	}
	char *text = strndup(pattern, len);
	if (!text)
		return -ENOMEM;
	*out = (struct match_string){ .kind = kind, .text = text };
	return 0;
}

bool match_string_matches(const struct match_string *m, const char *text)
{
	if (!*text) /* an absent name: no pattern means absence */
		return false;
	switch (m->kind) {
	case MATCH_EXACT:
		return strcmp(m->text, text) == 0;
	case MATCH_PREFIX:
		return str_starts(text, m->text);
	case MATCH_SUFFIX:
		return str_ends(text, m->text);
	case MATCH_PRESENT:
		return true;
	}
	return false;
}
