/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/config/node.h"

#include <jansson.h>
#include <string.h>

#include "agent/config/arena.h"

const char *node_type_name(enum node_type type)
{
	static const char *const names[] = {
		[NODE_NULL] = "nothing",    [NODE_BOOL] = "a boolean",	[NODE_INT] = "a number",
		[NODE_DOUBLE] = "a number", [NODE_STRING] = "a string", [NODE_LIST] = "a list",
		[NODE_MAP] = "an object",
	};
	return names[type];
}

const struct node *node_get(const struct node *map, const char *key)
{
	if (!map || map->type != NODE_MAP)
		return NULL;
	for (const struct node *n = map->first; n; n = n->next)
		if (!strcmp(n->key, key))
			return n;
	return NULL;
}

const char *node_get_text(const struct node *map, const char *key)
{
	const struct node *n = node_get(map, key);
	return n && n->type == NODE_STRING ? n->text : NULL;
}

/* Depth is bounded by NODE_DEPTH_MAX. */
struct node *node_copy(struct arena *a, const struct node *node)
{
	struct node *copy = arena_alloc(a, sizeof(*copy));
	if (!copy)
		return NULL;
	*copy = *node;
	copy->next = NULL;
	if (node->key && !(copy->key = arena_strdup(a, node->key)))
		return NULL;
	if (node->type == NODE_STRING)
		return (copy->text = arena_strdup(a, node->text)) ? copy : NULL;
	if (node->type != NODE_LIST && node->type != NODE_MAP)
		return copy;

	struct node **tail = &copy->first;
	for (const struct node *child = node->first; child; child = child->next) {
		*tail = node_copy(a, child);
		if (!*tail)
			return NULL;
		tail = &(*tail)->next;
	}
	*tail = NULL;
	return copy;
}

static json_t *node_children_to_json(const struct node *node)
{
	json_t *json = node->type == NODE_MAP ? json_object() : json_array();
	for (const struct node *child = node->first; json && child; child = child->next) {
		json_t *value = node_to_json(child);
		int rc = node->type == NODE_MAP ? json_object_set_new(json, child->key, value) :
						  json_array_append_new(json, value);
		if (rc < 0) {
			json_decref(json);
			return NULL;
		}
	}
	return json;
}

struct json_t *node_to_json(const struct node *node)
{
	switch (node->type) {
	case NODE_NULL:
		return json_null();
	case NODE_BOOL:
		return json_boolean(node->b);
	case NODE_INT:
		return json_integer(node->i);
	case NODE_DOUBLE:
		return json_real(node->d);
	case NODE_STRING:
		return json_string(node->text);
	case NODE_LIST:
	case NODE_MAP:
		break;
	}
	return node_children_to_json(node);
}
