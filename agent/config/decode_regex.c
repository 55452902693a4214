/* SPDX-License-Identifier: Apache-2.0 */
/* Regular expressions of documents: one that is no good rejects its document, so that the former one stays in force. */
#include <errno.h>

#include "agent/base/err.h"
#include "agent/base/regex.h"
#include "agent/config/decode.h"
#include "agent/config/node.h"

void decode_regex_check(struct decode *d, const struct path *path, const char *member, const struct node *node,
			const char *pattern, const char *substitution)
{
	struct regex *re = NULL;
	struct err err = ERR_INIT;

	if (!pattern)
		return;
	int rc = regex_new(pattern, false, &re, &err);
	if (rc == 0 && substitution)
		rc = regex_substitution_check(re, substitution, &err);
	/* -ENOMEM: whoever uses it asks again. */
	if (rc == -EINVAL)
		decode_error(d, path, member, node_get(node, member), "%s", err.text);
	regex_free(re);
}
