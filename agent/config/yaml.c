/* SPDX-License-Identifier: Apache-2.0 */
/* libyaml's events become nodes with an explicit stack of open containers. An alias is a node of its own that shares
 * its anchor's children, so a bomb costs no memory here; it is refused all the same, because whoever walks the tree
 * would pay: every alias adds the size of what it stands for to the document's count.
 * Merge keys (<<) are resolved when their map closes, and never override a key that is written out. */
#include "agent/config/yaml.h"

#include <errno.h>
#include <string.h>
#include <yaml.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/config/arena.h"
#include "agent/config/node.h"
#include "agent/config/scalar.h"

enum {
	ANCHOR_MAX = 1000,
	MERGE_KEY_MAX = 1000,
	KEY_SCAN_MAX = 16, /* maps with more keys find duplicates by hashing */
};

struct anchor {
	const char *name;
	const struct node *node;
	uint32_t size; /* nodes, aliases inside expanded; 0: still open */
	struct anchor *next;
};

struct open {
	struct node *node;
	struct node **tail;
	const char *key; /* of the value to come; maps */
	uint32_t key_line;
	uint32_t count_before; /* of nodes, when it was opened */
	bool has_merge;
	struct anchor *anchor;
	struct table *keys; /* once the map is large */
};

struct build {
	struct arena *arena;
	struct err *err;
	uint32_t *err_line;
	uint32_t first_line;
	uint32_t count, alias_count, anchor_count;
	struct anchor *anchors;
	struct open stack[NODE_DEPTH_MAX];
	size_t depth;
	struct node *root;
};

static const char merge_key[] = "<<";

static int build_fail(struct build *b, uint32_t line, const char *what)
{
	*b->err_line = line;
	return err_set(b->err, -EINVAL, "%s", what);
}

static int build_no_memory(struct build *b)
{
	return err_set(b->err, -ENOMEM, "no memory for a document of this size");
}

static uint32_t mark_line(const struct build *b, const yaml_mark_t *mark)
{
	return b->first_line + (uint32_t)mark->line;
}

/* The same key twice in the open map: -EEXIST with both lines. */
static int map_check_key(struct build *b, struct open *o, const char *key, uint32_t line)
{
	uint32_t first = 0;
	if (!o->keys && o->node->count >= KEY_SCAN_MAX) {
		o->keys = table_new(NULL);
		for (struct node *n = o->node->first; n && o->keys; n = n->next)
			if (n->key && table_set_str(o->keys, n->key, n) < 0)
				return build_no_memory(b);
		if (!o->keys)
			return build_no_memory(b);
	}
	if (o->keys) {
		const struct node *same = table_get_str(o->keys, key);
		first = same ? same->line : 0;
	} else {
		for (struct node *n = o->node->first; n && !first; n = n->next)
			if (!strcmp(n->key, key))
				first = n->line;
	}
	if (!first)
		return 0;
	*b->err_line = line;
	return err_set(b->err, -EINVAL, "key \"%.100s\" is written twice, in lines %u and %u; remove one of them", key,
		       first, line);
}

/* Keys become text as Kubernetes' tools make them: 7001 -> "7001", on -> "true". */
static int key_text(struct build *b, const struct node *key, const char **out)
{
	switch (key->type) {
	case NODE_STRING:
		*out = key->text;
		break;
	case NODE_BOOL:
		*out = key->b ? "true" : "false";
		break;
	case NODE_INT:
		*out = arena_format(b->arena, "%lld", (long long)key->i);
		break;
	case NODE_DOUBLE:
		*out = arena_format(b->arena, "%g", key->d);
		break;
	case NODE_NULL:
	case NODE_LIST:
	case NODE_MAP:
		*b->err_line = key->line;
		return err_set(b->err, -EINVAL, "a key is %s; keys are strings", node_type_name(key->type));
	}
	return *out ? 0 : build_no_memory(b);
}

/* Puts a finished node where it belongs: as key or value of the innermost open container, or as the root. */
static int build_add(struct build *b, struct node *node)
{
	if (++b->count > NODE_COUNT_MAX)
		return build_fail(b, node->line, "the document has more than 250000 values; split it");
	if (b->depth == 0) {
		b->root = node;
		return 0;
	}
	struct open *o = &b->stack[b->depth - 1];
	/* libyaml's events are balanced, which the analyzer can't know. NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
	if (o->node->type == NODE_MAP && !o->key) {
		int rc = key_text(b, node, &o->key);
		o->key_line = node->line;
		return rc < 0 ? rc : map_check_key(b, o, o->key, node->line);
	}
	if (o->node->type == NODE_MAP) {
		node->key = o->key;
		node->line = o->key_line;
		o->has_merge |= !strcmp(o->key, merge_key);
		o->key = NULL;
		if (o->keys && table_set_str(o->keys, node->key, node) < 0)
			return build_no_memory(b);
	}
	*o->tail = node;
	o->tail = &node->next;
	o->node->count++;
	return 0;
}

static int build_anchor(struct build *b, const yaml_char_t *name, struct node *node, struct anchor **out)
{
	*out = NULL;
	if (!name)
		return 0;
	if (++b->anchor_count > ANCHOR_MAX)
		return build_fail(b, node->line, "more than 1000 anchors");
	struct anchor *an = arena_alloc(b->arena, sizeof(*an));
	if (!an || !(an->name = arena_strdup(b->arena, (const char *)name)))
		return build_no_memory(b);
	an->node = node;
	an->next = b->anchors;
	b->anchors = an;
	*out = an;
	return 0;
}

static int build_alias(struct build *b, const yaml_event_t *event)
{
	const char *name = (const char *)event->data.alias.anchor;
	uint32_t line = mark_line(b, &event->start_mark);
	const struct anchor *an = b->anchors;
	while (an && strcmp(an->name, name))
		an = an->next;
	*b->err_line = line;
	if (!an)
		return err_set(b->err, -EINVAL, "alias \"*%.100s\" has no anchor before it", name);
	if (!an->size)
		return err_set(b->err, -EINVAL, "alias \"*%.100s\" is inside of its own anchor (line %u): a cycle",
			       name, an->node->line);
	b->alias_count += an->size;
	if (b->alias_count > NODE_ALIAS_COUNT_MAX)
		return err_set(b->err, -EINVAL,
			       "aliases expand to more than %d values; write them out, or split the document",
			       NODE_ALIAS_COUNT_MAX);
	b->count += an->size - 1;

	struct node *node = arena_alloc(b->arena, sizeof(*node));
	if (!node)
		return build_no_memory(b);
	*node = *an->node;
	node->next = NULL;
	node->key = NULL;
	node->line = line;
	return build_add(b, node);
}

/* An explicit tag on a scalar: !!str makes a string of anything; the others must fit. */
static int scalar_tagged(struct build *b, const char *tag, const char *text, size_t len, struct node *node)
{
	static const struct {
		const char *tag;
		enum node_type type;
	} tags[] = {
		{ YAML_NULL_TAG, NODE_NULL },	 { YAML_BOOL_TAG, NODE_BOOL },	{ YAML_INT_TAG, NODE_INT },
		{ YAML_FLOAT_TAG, NODE_DOUBLE }, { YAML_STR_TAG, NODE_STRING },
	};
	if (!strcmp(tag, "!") || !strcmp(tag, YAML_STR_TAG))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
		if (strcmp(tag, tags[i].tag))
			continue;
		if (scalar_resolve(text, len, node) && node->type == NODE_INT && tags[i].type == NODE_DOUBLE) {
			node->d = (double)node->i;
			node->type = NODE_DOUBLE;
		}
		if (node->type == tags[i].type)
			return 0;
		*b->err_line = node->line;
		return err_set(b->err, -EINVAL, "\"%.60s\" does not fit its tag %s", text, tag);
	}
	*b->err_line = node->line;
	return err_set(b->err, -EINVAL, "tag %.100s is not supported", tag);
}

static int build_scalar(struct build *b, const yaml_event_t *event)
{
	const char *text = (const char *)event->data.scalar.value;
	size_t len = event->data.scalar.length;
	const char *tag = (const char *)event->data.scalar.tag;
	struct node *node = arena_alloc(b->arena, sizeof(*node));
	if (!node)
		return build_no_memory(b);

	node->line = mark_line(b, &event->start_mark);
	if (memchr(text, 0, len))
		return build_fail(b, node->line, "a string contains a NUL character");
	node->type = NODE_STRING;
	node->text = NULL;
	if (tag) {
		int rc = scalar_tagged(b, tag, text, len, node);
		if (rc < 0)
			return rc;
	} else if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
		scalar_resolve(text, len, node);
	}
	if (node->type == NODE_STRING && !(node->text = arena_strndup(b->arena, text, len)))
		return build_no_memory(b);

	struct anchor *an;
	int rc = build_anchor(b, event->data.scalar.anchor, node, &an);
	if (rc < 0)
		return rc;
	if (an)
		an->size = 1;
	return build_add(b, node);
}

static int build_open(struct build *b, const yaml_event_t *event, enum node_type type, const yaml_char_t *anchor)
{
	struct node *node = arena_alloc(b->arena, sizeof(*node));
	if (!node)
		return build_no_memory(b);
	node->type = type;
	node->line = mark_line(b, &event->start_mark);
	if (b->depth == NODE_DEPTH_MAX)
		return build_fail(b, node->line, "nested more than 100 levels deep");

	struct anchor *an;
	int rc = build_anchor(b, anchor, node, &an);
	if (rc < 0)
		return rc;
	uint32_t before = b->count;
	rc = build_add(b, node);
	if (rc < 0)
		return rc;
	b->stack[b->depth++] =
		(struct open){ .node = node, .tail = &node->first, .count_before = before, .anchor = an };
	return 0;
}

/* Appends copies of `from`'s entries that `into` does not have. */
static int merge_map(struct build *b, struct open *into, const struct node *from)
{
	if (from->count > MERGE_KEY_MAX || into->node->count > MERGE_KEY_MAX)
		return build_fail(b, into->node->line, "merge keys (<<) are limited to objects of 1000 keys");
	for (const struct node *n = from->first; n; n = n->next) {
		if (node_get(into->node, n->key))
			continue;
		struct node *copy = arena_alloc(b->arena, sizeof(*copy));
		if (!copy)
			return build_no_memory(b);
		*copy = *n;
		copy->next = NULL;
		*into->tail = copy;
		into->tail = &copy->next;
		into->node->count++;
		if (++b->count > NODE_COUNT_MAX || ++b->alias_count > NODE_ALIAS_COUNT_MAX)
			return build_fail(b, n->line, "merge keys expand to too many values");
	}
	return 0;
}

static int build_merge(struct build *b, struct open *o)
{
	struct node *merge = NULL;
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): as in build_add() */
	for (struct node **at = &o->node->first; *at; at = &(*at)->next) {
		if (strcmp((*at)->key, merge_key))
			continue;
		merge = *at;
		*at = merge->next;
		if (!merge->next)
			o->tail = at;
		o->node->count--;
		break;
	}
	if (!merge)
		return 0;
	if (merge->type == NODE_MAP)
		return merge_map(b, o, merge);
	if (merge->type != NODE_LIST)
		return build_fail(b, merge->line, "a merge key (<<) needs an object, or a list of objects");
	for (const struct node *n = merge->first; n; n = n->next) {
		if (n->type != NODE_MAP)
			return build_fail(b, n->line, "a merge key (<<) needs an object, or a list of objects");
		int rc = merge_map(b, o, n);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int build_close(struct build *b)
{
	struct open *o = &b->stack[b->depth - 1];
	int rc = o->has_merge ? build_merge(b, o) : 0;
	table_free(o->keys);
	o->keys = NULL;
	if (o->anchor)
		o->anchor->size = b->count - o->count_before;
	b->depth--;
	/* A container that is a key has been refused when it was opened. */
	return rc;
}

/* One event; 1 at the document's end. */
static int build_event(struct build *b, const yaml_event_t *event)
{
	switch (event->type) {
	case YAML_SCALAR_EVENT:
		return build_scalar(b, event);
	case YAML_ALIAS_EVENT:
		return build_alias(b, event);
	case YAML_MAPPING_START_EVENT:
		return build_open(b, event, NODE_MAP, event->data.mapping_start.anchor);
	case YAML_SEQUENCE_START_EVENT:
		return build_open(b, event, NODE_LIST, event->data.sequence_start.anchor);
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		return build_close(b);
	case YAML_DOCUMENT_START_EVENT:
		if (b->root)
			return build_fail(b, mark_line(b, &event->start_mark),
					  "a second document starts here; separate documents with a line of ---");
		return 0;
	case YAML_STREAM_END_EVENT:
		return 1;
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_DOCUMENT_END_EVENT:
		break;
	}
	return 0;
}

static int yaml_fail(struct build *b, const yaml_parser_t *p, const char *text, size_t len)
{
	uint32_t line = mark_line(b, &p->problem_mark);
	*b->err_line = line;
	if (p->error == YAML_MEMORY_ERROR)
		return build_no_memory(b);
	if (p->error == YAML_READER_ERROR) {
		/* The reader reads ahead: only the offset says where. */
		for (size_t i = 0, lines = 0; i < p->problem_offset && i < len; i++) {
			lines += text[i] == '\n';
			*b->err_line = b->first_line + (uint32_t)lines;
		}
		return err_set(b->err, -EINVAL, "not UTF-8 text: %s at byte %zu", p->problem, p->problem_offset);
	}
	if (p->problem_mark.index < len && text[p->problem_mark.index] == '\t')
		return err_set(b->err, -EINVAL, "not YAML: a tab is used as indentation; use spaces");
	if (p->context)
		return err_set(b->err, -EINVAL, "not YAML: %s, %s that starts in line %u", p->problem, p->context,
			       mark_line(b, &p->context_mark));
	return err_set(b->err, -EINVAL, "not YAML: %s", p->problem ? p->problem : "unknown error");
}

int yaml_parse(struct arena *a, const char *text, size_t len, uint32_t first_line, struct node **out,
	       uint32_t *err_line, struct err *err)
{
	struct build b = { .arena = a, .err = err, .err_line = err_line, .first_line = first_line };
	yaml_parser_t parser;
	*err_line = first_line;
	if (!yaml_parser_initialize(&parser))
		return build_no_memory(&b);
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)text, len);

	int rc = 0;
	while (rc == 0) {
		yaml_event_t event;
		if (!yaml_parser_parse(&parser, &event)) {
			rc = yaml_fail(&b, &parser, text, len);
			break;
		}
		rc = build_event(&b, &event);
		yaml_event_delete(&event);
	}
	for (size_t i = 0; i < b.depth; i++)
		table_free(b.stack[i].keys);
	yaml_parser_delete(&parser);
	if (rc < 0)
		return rc;
	*out = b.root;
	return 0;
}
