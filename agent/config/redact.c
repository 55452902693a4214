/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing is cut out of the text: what may be seen is written anew, so no way of writing YAML gets by. */
#include "agent/config/redact.h"

#include <errno.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/config/arena.h"
#include "agent/config/node.h"
#include "agent/config/yaml.h"

enum { ARENA_SIZE = 16 * 1024 };

static bool is_secret(const struct node *object)
{
	return str_eq(node_get_text(object, "kind"), "Secret");
}

static const struct node *list_items(const struct node *root)
{
	const struct node *items = node_get(root, "items");
	return items && items->type == NODE_LIST ? items->first : NULL;
}

static bool has_secret(const struct node *root)
{
	if (is_secret(root))
		return true;
	for (const struct node *n = list_items(root); n; n = n->next)
		if (has_secret(n)) /* as deep as nodes are: bounded */
			return true;
	return false;
}

/* One line, whatever is in it: it was perhaps never decoded. */
static void text_write(struct sb *out, const char *text)
{
	for (; *text; text++) {
		char c = (unsigned char)*text < ' ' ? '?' : *text;
		sb_add_bytes(out, &c, 1);
	}
}

static void field_write(struct sb *out, const char *name, const char *text)
{
	if (!text)
		return;
	sb_addf(out, "%s: ", name);
	text_write(out, text);
	sb_add(out, "\n");
}

static void keys_write(struct sb *out, const struct node *object, const char *name)
{
	const struct node *map = node_get(object, name);

	if (!map || map->type != NODE_MAP || !map->first)
		return;
	sb_addf(out, "%s:\n", name);
	for (const struct node *n = map->first; n; n = n->next) {
		sb_add(out, "  ");
		text_write(out, n->key);
		sb_add(out, ": (hidden)\n");
	}
}

static void secret_write(struct sb *out, const struct node *object)
{
	const struct node *metadata = node_get(object, "metadata");

	sb_add(out, "# A Secret: its values are not shown.\napiVersion: v1\nkind: Secret\nmetadata:\n");
	field_write(out, "  name", node_get_text(metadata, "name"));
	field_write(out, "  namespace", node_get_text(metadata, "namespace"));
	field_write(out, "type", node_get_text(object, "type"));
	keys_write(out, object, "data");
	keys_write(out, object, "stringData");
}

int document_redact(const char *file, const char *text, size_t len, struct sb *out)
{
	struct err err = ERR_INIT;
	struct node *root = NULL;
	uint32_t line;

	if (!memmem(text, len, "Secret", strlen("Secret")) && !memmem(text, len, "\\", 1))
		return 0;
	AUTO(arena_freep) struct arena *arena = arena_new(ARENA_SIZE);
	if (!arena)
		return -ENOMEM;
	int rc = str_ends(file, ".json") ? json_parse(arena, text, len, 1, &root, &line, &err) :
					   yaml_parse(arena, text, len, 1, &root, &line, &err);
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0) {
		sb_add(out, "# Not shown: it may hold a Secret, and can't be read.\n");
		return 1;
	}
	if (!root || !has_secret(root))
		return 0;
	if (is_secret(root))
		secret_write(out, root);
	else
		sb_add(out, "# Not shown: a List with a Secret in it.\n");
	return 1;
}
