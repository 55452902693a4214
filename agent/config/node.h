/* SPDX-License-Identifier: Apache-2.0 */
/* A document's values as a tree with source lines: what YAML and JSON become before decoding. (A tree of our own and
 * not json_t: the line belongs to the value, nodes come from one arena, and aliases share their children.)
 * Read-only after parsing; owned by an arena. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;
struct json_t;

enum node_type { NODE_NULL, NODE_BOOL, NODE_INT, NODE_DOUBLE, NODE_STRING, NODE_LIST, NODE_MAP };

struct node {
	struct node *next; /* sibling */
	const char *key;   /* in a map; else NULL */
	uint32_t line;	   /* in the file, from 1 */
	enum node_type type;
	union {
		bool b;
		int64_t i;
		double d;
		const char *text; /* no NUL inside */
		struct {
			struct node *first;
			uint32_t count;
		};
	};
};

enum {
	NODE_DEPTH_MAX = 100,
	NODE_COUNT_MAX = 250000,       /* of one document, aliases expanded */
	NODE_ALIAS_COUNT_MAX = 100000, /* nodes that aliases add */
};

const char *node_type_name(enum node_type type); /* "a list" */
/* The value of a key in a map; NULL: no map, or no such key. */
const struct node *node_get(const struct node *map, const char *key);
/* The same when it is a string, else NULL. */
const char *node_get_text(const struct node *map, const char *key);
/* A deep copy; NULL: no memory. */
struct node *node_copy(struct arena *a, const struct node *node);
/* As jansson's value, for the admin API; the caller decrefs. NULL: no memory. */
struct json_t *node_to_json(const struct node *node);
