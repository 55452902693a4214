/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/log_json.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/config/arena.h"
#include "agent/config/node.h"
#include "agent/config/yaml.h"

void log_json_text(const char *text, struct sb *out)
{
	sb_add(out, "\"");
	for (const char *p = text; *p; p++) {
		if ((unsigned char)*p < 0x20)
			sb_addf(out, "\\u%04x", *p);
		else
			sb_addf(out, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
	}
	sb_add(out, "\"");
}

void log_json_write(const struct node *n, struct sb *out)
{
	switch (n->type) {
	case NODE_MAP:
	case NODE_LIST:
		sb_add(out, n->type == NODE_MAP ? "{" : "[");
		for (const struct node *child = n->first; child; child = child->next) {
			if (child->key) {
				log_json_text(child->key, out);
				sb_add(out, ":");
			}
			log_json_write(child, out);
			sb_add(out, child->next ? "," : "");
		}
		sb_add(out, n->type == NODE_MAP ? "}" : "]");
		break;
	case NODE_STRING:
		log_json_text(n->text, out);
		break;
	case NODE_INT:
		sb_addf(out, "%lld", (long long)n->i);
		break;
	case NODE_DOUBLE:
		if (isfinite(n->d))
			sb_addf(out, "%.17g", n->d);
		else
			sb_add(out, "null");
		break;
	case NODE_BOOL:
		sb_add(out, n->b ? "true" : "false");
		break;
	case NODE_NULL:
		sb_add(out, "null");
	}
}

int log_json_parse(const char *text, char **out)
{
	struct sb json = { 0 };
	struct node *n = NULL;
	uint32_t line;
	struct arena *arena = arena_new(strlen(text) + 4096);
	int rc = arena ? json_parse(arena, text, strlen(text), 1, &n, &line, NULL) : -ENOMEM;

	if (rc == 0 && n && n->type == NODE_MAP) {
		log_json_write(n, &json);
		*out = sb_take(&json);
		rc = *out ? 0 : -ENOMEM;
	}
	arena_free(arena);
	return rc == -ENOMEM ? rc : 0;
}
