/* SPDX-License-Identifier: Apache-2.0 */
/* The schema engine. decode_object() walks a map of the document once, finds each key in the table and hands the value
 * to the decoder of its type; then come what was not written (required, defaults) and the table's own check, which runs
 * only over an object that decoded without error, so that it may trust what it sees.
 * Problems are collected, not returned: a document with three mistakes tells all three. */
#include "agent/config/schema.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "agent/base/addr.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/config/arena.h"
#include "agent/config/decode_internal.h"
#include "agent/config/kinds.h"
#include "agent/config/node.h"

enum { FIELDS_MAX = 64, BRIEF_MAX = 96 };

/* Every LIST() and string_list has this shape. */
struct any_list {
	void *v;
	size_t n;
};

typedef void (*field_decoder)(struct decode *d, const struct path *path, const struct node *node,
			      const struct field *field, void *member);

static void path_print(struct sb *sb, const struct path *path)
{
	if (!path)
		return;
	path_print(sb, path->parent);
	if (!path->name) {
		sb_addf(sb, "[%zu]", path->index);
	} else if (!path->name[strspn(path->name,
				      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")]) {
		sb_addf(sb, "%s%s", sb->len ? "." : "", path->name);
	} else {
		sb_addf(sb, "[\"%.100s\"]", path->name);
	}
}

void decode_report(struct decode *d, enum problem_level level, uint32_t line, const struct path *path,
		   const char *member, const char *format, va_list args)
{
	struct decoded *out = d->out;
	d->errors += level == PROBLEM_ERROR;
	out->rejected |= level == PROBLEM_ERROR;
	if (out->problem_count == PROBLEM_MAX)
		return;
	if (mem_reserve(&out->problems, &out->problem_cap, out->problem_count + 1, sizeof(*out->problems)) < 0) {
		d->no_memory = true;
		return;
	}

	struct path last = { .parent = path, .name = member };
	struct sb sb = { 0 };
	char what[512];
	path_print(&sb, member ? &last : path);
	vsnprintf(what, sizeof(what), format, args);
	sb_addf(&sb, "%s%s", sb.len ? ": " : "", what);
	out->problems[out->problem_count++] = (struct problem){
		.level = level,
		.line = line,
		.key = d->key ? strdup(d->key) : NULL,
		.text = sb_take(&sb),
	};
}

#define DEFINE_REPORT(name, level)                                                                                     \
	void name(struct decode *d, const struct path *path, const char *member, const struct node *node,              \
		  const char *format, ...)                                                                             \
	{                                                                                                              \
		va_list args;                                                                                          \
		va_start(args, format);                                                                                \
		decode_report(d, level, node ? node->line : d->line, path, member, format, args);                      \
		va_end(args);                                                                                          \
	}
DEFINE_REPORT(decode_error, PROBLEM_ERROR)
DEFINE_REPORT(decode_warn, PROBLEM_WARNING)
DEFINE_REPORT(decode_info, PROBLEM_INFO)

void *decode_alloc(struct decode *d, size_t size)
{
	void *p = arena_alloc(d->arena, size);
	d->no_memory |= !p;
	return p;
}

const char *decode_strdup(struct decode *d, const char *text)
{
	char *p = arena_strdup(d->arena, text);
	d->no_memory |= !p;
	return p;
}

const char *decode_namespace(const struct decode *d)
{
	return d->ns ? d->ns : "";
}

bool decode_has_annotation(const struct decode *d, const char *key)
{
	return d->annotations && string_map_get(d->annotations, key);
}

const char *decode_suggest(char *buf, size_t size, const char *word, const char *(*name_at)(const void *arg, size_t i),
			   const void *arg)
{
	const char *best = NULL, *name;
	unsigned int limit = strlen(word) < 5 ? 1 : strlen(word) < 12 ? 3 : 4;
	for (size_t i = 0; (name = name_at(arg, i)); i++) {
		unsigned int distance = strcasecmp(word, name) ? str_distance(word, name, limit) : 0;
		if (distance > limit || distance >= strlen(name))
			continue;
		best = name;
		if (distance == 0)
			break;
		limit = distance - 1;
	}
	buf[0] = 0;
	if (best)
		snprintf(buf, size, "; did you mean \"%s\"?", best);
	return buf;
}

/* A value as messages quote it. */
static const char *node_brief(const struct node *node, char buf[BRIEF_MAX])
{
	switch (node->type) {
	case NODE_BOOL:
		return node->b ? "true" : "false";
	case NODE_INT:
		snprintf(buf, BRIEF_MAX, "%lld", (long long)node->i);
		return buf;
	case NODE_DOUBLE:
		snprintf(buf, BRIEF_MAX, "%g", node->d);
		return buf;
	case NODE_STRING:
		snprintf(buf, BRIEF_MAX, strlen(node->text) > 60 ? "\"%.57s...\"" : "\"%s\"", node->text);
		return buf;
	case NODE_NULL:
	case NODE_LIST:
	case NODE_MAP:
		break;
	}
	return node_type_name(node->type);
}

static bool is_scalar(const struct node *node)
{
	return node->type != NODE_LIST && node->type != NODE_MAP && node->type != NODE_NULL;
}

static void wrong_type(struct decode *d, const struct path *path, const struct node *node, const char *needed)
{
	char buf[BRIEF_MAX];
	const char *brief = node_brief(node, buf);
	if (is_scalar(node))
		decode_error(d, path, NULL, node, "%s is %s; %s is needed%s", brief, node_type_name(node->type), needed,
			     !strcmp(needed, "a string") ? ": put it in quotes" : "");
	else
		decode_error(d, path, NULL, node, "is %s; %s is needed", brief, needed);
}

static const char *take_string(struct decode *d, const struct path *path, const struct node *node, text_check check)
{
	if (node->type != NODE_STRING) {
		wrong_type(d, path, node, "a string");
		return NULL;
	}
	const char *why = check ? check(node->text) : NULL;
	if (why) {
		char buf[BRIEF_MAX];
		decode_error(d, path, NULL, node, "%s %s", node_brief(node, buf), why);
		return NULL;
	}
	return decode_strdup(d, node->text);
}

static bool take_int(struct decode *d, const struct path *path, const struct node *node, int64_t min, int64_t max,
		     int64_t *out)
{
	int64_t value = 0;
	if (node->type == NODE_INT) {
		value = node->i;
	} else if (node->type == NODE_DOUBLE && fabs(node->d) < 9e15 && node->d == floor(node->d)) {
		value = (int64_t)node->d;
	} else {
		wrong_type(d, path, node, "a whole number");
		return false;
	}
	if (value < min || value > max) {
		decode_error(d, path, NULL, node, "%lld is out of range (%lld to %lld)", (long long)value,
			     (long long)min, (long long)max);
		return false;
	}
	*out = value;
	return true;
}

static bool take_field_int(struct decode *d, const struct path *path, const struct node *node,
			   const struct field *field, int64_t type_max, int64_t *out)
{
	bool bounded = field->min || field->max;
	return take_int(d, path, node, bounded ? field->min : 0, bounded && field->max ? field->max : type_max, out);
}

static void decode_string(struct decode *d, const struct path *path, const struct node *node, const struct field *field,
			  void *member)
{
	*(const char **)member = take_string(d, path, node, field->check);
}

static void decode_bool(struct decode *d, const struct path *path, const struct node *node, const struct field *field,
			void *member)
{
	if (node->type != NODE_BOOL) {
		wrong_type(d, path, node, "true or false");
		return;
	}
	if (field->type == F_BOOL)
		*(bool *)member = node->b;
	else
		*(struct opt_bool *)member = (struct opt_bool){ .set = true, .v = node->b };
}

static void decode_number(struct decode *d, const struct path *path, const struct node *node, const struct field *field,
			  void *member)
{
	int64_t value;
	int64_t type_max = field->type == F_U16 ? UINT16_MAX : field->type == F_U64 ? INT64_MAX : UINT32_MAX;
	if (!take_field_int(d, path, node, field, type_max, &value))
		return;
	if (field->type == F_U16)
		*(uint16_t *)member = (uint16_t)value;
	else if (field->type == F_U32)
		*(uint32_t *)member = (uint32_t)value;
	else if (field->type == F_U64)
		*(uint64_t *)member = (uint64_t)value;
	else
		*(struct opt_u32 *)member = (struct opt_u32){ .set = true, .v = (uint32_t)value };
}

static void decode_double(struct decode *d, const struct path *path, const struct node *node, const struct field *field,
			  void *member)
{
	double value = node->type == NODE_INT ? (double)node->i : node->d;
	if (node->type != NODE_INT && node->type != NODE_DOUBLE) {
		wrong_type(d, path, node, "a number");
		return;
	}
	if (!isfinite(value) ||
	    ((field->min || field->max) && (value < (double)field->min || value > (double)field->max))) {
		decode_error(d, path, NULL, node, "%g is out of range (%lld to %lld)", value, (long long)field->min,
			     (long long)field->max);
		return;
	}
	*(struct opt_double *)member = (struct opt_double){ .set = true, .v = value };
}

static void decode_duration(struct decode *d, const struct path *path, const struct node *node,
			    const struct field *field, void *member)
{
	char buf[BRIEF_MAX];
	uint64_t ns;
	if (node->type != NODE_STRING || str_to_duration_ns(node->text, &ns) < 0) {
		decode_error(d, path, NULL, node, "%s is not a duration (like 250ms, 10s, 1h30m)",
			     node_brief(node, buf));
		return;
	}
	uint64_t ms = ns / 1000000 + (ns > 0 && ns < 1000000);
	if (ms < (uint64_t)field->min || (field->min > 0 && ns < 1000000)) {
		decode_error(d, path, NULL, node, "%s is too short; at least %lldms is needed", node_brief(node, buf),
			     (long long)field->min);
		return;
	}
	*(struct opt_ms *)member = (struct opt_ms){ .set = true, .ms = ms };
}

static const char *word_at(const void *arg, size_t i)
{
	const struct words *words = arg;
	return i < words->n ? words->v[i].name : NULL;
}

static bool take_word(struct decode *d, const struct path *path, const struct node *node, const struct words *words,
		      int *out)
{
	if (node->type != NODE_STRING) {
		wrong_type(d, path, node, "a string");
		return false;
	}
	for (size_t i = 0; i < words->n; i++) {
		if (strcmp(words->v[i].name, node->text))
			continue;
		*out = words->v[i].value;
		return true;
	}
	struct sb sb = { 0 };
	char buf[BRIEF_MAX], suggestion[BRIEF_MAX];
	for (size_t i = 0; i < words->n; i++)
		sb_addf(&sb, "%s%s", i ? ", " : "", words->v[i].name);
	decode_error(d, path, NULL, node, "%s is not one of %s%s", node_brief(node, buf), sb.p ? sb.p : "",
		     decode_suggest(suggestion, sizeof(suggestion), node->text, word_at, words));
	sb_done(&sb);
	return false;
}

static void decode_enum(struct decode *d, const struct path *path, const struct node *node, const struct field *field,
			void *member)
{
	take_word(d, path, node, field->words, member);
}

static void decode_port_name(struct decode *d, const struct path *path, const struct node *node,
			     const struct field *field, void *member)
{
	(void)field;
	struct int_or_name *port = member;
	int64_t number;
	if (node->type == NODE_STRING) {
		if (!*node->text || !node->text[strspn(node->text, "0123456789")])
			decode_error(d, path, NULL, node,
				     "\"%.20s\" is not a port's name; write a number without quotes", node->text);
		else
			port->name = take_string(d, path, node, text_check_dns_label);
	} else if (take_int(d, path, node, 1, UINT16_MAX, &number)) {
		port->number = (uint16_t)number;
	}
}

static void decode_object_member(struct decode *d, const struct path *path, const struct node *node,
				 const struct field *field, void *member)
{
	void *object = decode_alloc(d, field->of->size);
	if (object)
		decode_object(d, path, node, field->of, object);
	*(void **)member = object;
}

static void decode_any(struct decode *d, const struct path *path, const struct node *node, const struct field *field,
		       void *member)
{
	if (field->any != NODE_NULL && node->type != (enum node_type)field->any) {
		wrong_type(d, path, node, node_type_name((enum node_type)field->any));
		return;
	}
	struct node *copy = node_copy(d->arena, node);
	d->no_memory |= !copy;
	*(const struct node **)member = copy;
}

/* Room for the elements of a list or map of the document; NULL: none, or no memory. */
static void *list_alloc(struct decode *d, const struct node *node, size_t size, struct any_list *list)
{
	list->v = node->count ? decode_alloc(d, node->count * size) : NULL;
	list->n = list->v ? node->count : 0;
	return list->v;
}

static bool take_list(struct decode *d, const struct path *path, const struct node *node, const struct field *field)
{
	if (node->type != NODE_LIST) {
		wrong_type(d, path, node, "a list");
		return false;
	}
	if ((field->flags & FIELD_NOT_EMPTY) && !node->count) {
		decode_error(d, path, NULL, node, "is empty; at least one element is needed");
		return false;
	}
	return true;
}

static void decode_address(struct decode *d, const struct path *path, const struct node *node,
			   const struct field *field, void *element)
{
	char buf[BRIEF_MAX];
	bool range = field->type == F_CIDR_LIST;
	int rc = node->type != NODE_STRING ? -EINVAL :
		 range			   ? cidr_parse(node->text, element) :
					     addr_parse(node->text, element);
	if (rc < 0)
		decode_error(d, path, NULL, node, "%s is not an IP address%s", node_brief(node, buf),
			     range ? " or range (like 10.0.0.0/8)" : "");
}

static void decode_list(struct decode *d, const struct path *path, const struct node *node, const struct field *field,
			void *member)
{
	static const size_t sizes[] = {
		[F_STRING_LIST] = sizeof(char *),
		[F_ENUM_LIST] = sizeof(int),
		[F_ADDR_LIST] = sizeof(struct addr),
		[F_CIDR_LIST] = sizeof(struct cidr),
	};
	size_t size = field->type == F_LIST ? field->of->size : sizes[field->type];
	if (!take_list(d, path, node, field) || !list_alloc(d, node, size, member))
		return;

	char *element = ((struct any_list *)member)->v;
	struct path at = { .parent = path };
	for (const struct node *n = node->first; n && !d->no_memory; n = n->next, element += size, at.index++) {
		if (field->type == F_LIST)
			decode_object(d, &at, n, field->of, element);
		else if (field->type == F_STRING_LIST)
			*(const char **)(void *)element = take_string(d, &at, n, field->check);
		else if (field->type == F_ENUM_LIST)
			take_word(d, &at, n, field->words, (int *)(void *)element);
		else
			decode_address(d, &at, n, field, element);
	}
}

static int pair_cmp(const void *a, const void *b)
{
	return strcmp(((const struct string_pair *)a)->key, ((const struct string_pair *)b)->key);
}

static bool take_map(struct decode *d, const struct path *path, const struct node *node, const struct field *field)
{
	if (node->type != NODE_MAP) {
		wrong_type(d, path, node, "an object");
		return false;
	}
	if ((field->flags & FIELD_NOT_EMPTY) && !node->count) {
		decode_error(d, path, NULL, node, "is empty; at least one entry is needed");
		return false;
	}
	return true;
}

static bool check_key(struct decode *d, const struct path *path, const struct node *node, text_check check)
{
	const char *why = check ? check(node->key) : NULL;
	if (why)
		decode_error(d, path, NULL, node, "key \"%.100s\" %s", node->key, why);
	return !why;
}

static void decode_string_map(struct decode *d, const struct path *path, const struct node *node,
			      const struct field *field, void *member)
{
	struct string_map *map = member;
	if (!take_map(d, path, node, field) || !list_alloc(d, node, sizeof(*map->v), member))
		return;
	size_t i = 0;
	for (const struct node *n = node->first; n; n = n->next, i++) {
		struct path at = { .parent = path, .name = n->key };
		check_key(d, path, n, field->key_check);
		map->v[i].key = decode_strdup(d, n->key);
		map->v[i].value = n->type == NODE_NULL ? "" : take_string(d, &at, n, field->check);
		if (!map->v[i].key || !map->v[i].value) {
			map->n = 0; /* rejected or out of memory: never a map with holes */
			return;
		}
	}
	qsort(map->v, map->n, sizeof(*map->v), pair_cmp);
}

static void decode_map_key(struct decode *d, const struct path *path, const struct node *node,
			   const struct field *field, char *element)
{
	if (field->type == F_U16) {
		uint64_t port;
		if (str_to_u64(node->key, UINT16_MAX, &port) < 0 || port == 0)
			decode_error(d, path, NULL, node, "key \"%.40s\" is not a port (1 to 65535)", node->key);
		else
			*(uint16_t *)(void *)(element + field->offset) = (uint16_t)port;
	} else if (check_key(d, path, node, field->check)) {
		*(const char **)(void *)(element + field->offset) = decode_strdup(d, node->key);
	}
}

static const struct field *schema_only_field(const struct schema *s);

static field_decoder field_decoder_of(enum field_type type);

static void decode_map(struct decode *d, const struct path *path, const struct node *node, const struct field *field,
		       void *member)
{
	const struct schema *of = field->of;
	if (!take_map(d, path, node, field) || !list_alloc(d, node, of->size, member))
		return;
	const struct field *scalar = schema_only_field(of);
	char *element = ((struct any_list *)member)->v;
	for (const struct node *n = node->first; n && !d->no_memory; n = n->next, element += of->size) {
		struct path at = { .parent = path, .name = n->key };
		decode_map_key(d, path, n, of->key, element);
		if (scalar)
			field_decoder_of(scalar->type)(d, &at, n, scalar, element + scalar->offset);
		else
			decode_object(d, &at, n, of, element);
	}
}

static void decode_nothing(struct decode *d, const struct path *path, const struct node *node,
			   const struct field *field, void *member)
{
	(void)d, (void)path, (void)node, (void)field, (void)member;
}

static field_decoder field_decoder_of(enum field_type type)
{
	static const field_decoder decoders[] = {
		[F_STRING] = decode_string,
		[F_BOOL] = decode_bool,
		[F_OPT_BOOL] = decode_bool,
		[F_U16] = decode_number,
		[F_U32] = decode_number,
		[F_U64] = decode_number,
		[F_OPT_U32] = decode_number,
		[F_OPT_DOUBLE] = decode_double,
		[F_OPT_MS] = decode_duration,
		[F_ENUM] = decode_enum,
		[F_PORT_NAME] = decode_port_name,
		[F_OBJECT] = decode_object_member,
		[F_ANY] = decode_any,
		[F_STRING_LIST] = decode_list,
		[F_ENUM_LIST] = decode_list,
		[F_ADDR_LIST] = decode_list,
		[F_CIDR_LIST] = decode_list,
		[F_LIST] = decode_list,
		[F_STRING_MAP] = decode_string_map,
		[F_MAP] = decode_map,
		[F_LINE] = decode_nothing,
		[F_IGNORED] = decode_nothing,
	};
	return decoders[type];
}

/* A map to plain values (ports: {http: 80}) has a table of one nameless field. */
static const struct field *schema_only_field(const struct schema *s)
{
	return s->field_count == 1 && !s->fields[0].name && s->fields[0].type != F_LINE ? &s->fields[0] : NULL;
}

static const struct field *field_find(const struct schema *s, const char *name)
{
	for (size_t i = 0; i < s->field_count; i++)
		if (s->fields[i].name && !strcmp(s->fields[i].name, name))
			return &s->fields[i];
	return NULL;
}

static const char *field_name_at(const void *arg, size_t i)
{
	const struct schema *s = arg;
	if (i >= s->field_count)
		return NULL;
	return s->fields[i].name ? s->fields[i].name : "";
}

static void unknown_field(struct decode *d, const struct path *path, const struct node *node, const struct schema *s)
{
	char suggestion[BRIEF_MAX];
	void (*say)(struct decode *, const struct path *, const char *, const struct node *, const char *, ...) =
		d->strict ? decode_error : decode_warn;
	say(d, path, node->key, node, "unknown field%s",
	    decode_suggest(suggestion, sizeof(suggestion), node->key, field_name_at, s));
}

/* Two fields of a group: the second is refused with the name of the first. */
static void check_group(struct decode *d, const struct path *path, const struct node *node, const struct schema *s,
			const struct field *field, uint64_t seen)
{
	for (size_t i = 0; i < s->field_count && field->group; i++)
		if ((seen >> i & 1) && s->fields[i].group == field->group)
			decode_error(d, path, field->name, node, "cannot be together with \"%s\"", s->fields[i].name);
}

/* Defaults are written in the tables as a document would: only numbers and words need them. */
static void field_default(struct decode *d, const struct field *field, void *member)
{
	struct node node = { .type = NODE_STRING, .text = field->def, .line = d->line };
	uint64_t number;
	if (field->type == F_BOOL) {
		*(bool *)member = !strcmp(field->def, "true");
		return;
	}
	if (field->type == F_STRING) { /* constant text needs no copy */
		*(const char **)member = field->def;
		return;
	}
	if (field->type == F_U16 || field->type == F_U32 || field->type == F_U64) {
		str_to_u64(field->def, INT64_MAX, &number);
		node = (struct node){ .type = NODE_INT, .i = (int64_t)number, .line = d->line };
	}
	field_decoder_of(field->type)(d, NULL, &node, field, member);
}

static void decode_absent(struct decode *d, const struct path *path, const struct node *node, const struct field *field,
			  void *member)
{
	if (field->flags & FIELD_REQUIRED) {
		decode_error(d, path, field->name, node, "is required");
	} else if (field->type == F_LINE) {
		*(uint32_t *)member = node->line - d->line;
	} else if (field->type == F_OBJECT && (field->flags & FIELD_ALWAYS)) {
		struct node empty = { .type = NODE_MAP, .line = node->line };
		decode_object_member(d, path, &empty, field, member);
	} else if (field->def && field->type != F_OPT_U32 && field->type != F_OPT_MS && field->type != F_OPT_BOOL &&
		   field->type != F_OPT_DOUBLE) {
		field_default(d, field, member);
	}
}

static void decode_field(struct decode *d, const struct path *path, const struct node *node, const struct field *field,
			 char *object)
{
	struct path at = { .parent = path, .name = field->name };
	field_decoder_of(field->type)(d, &at, node, field, object + field->offset);
	if (field->flags & FIELD_DEPRECATED)
		decode_info(d, &at, NULL, node, "is deprecated: %s", field->doc);
	if (field->flags & FIELD_UNUSED)
		decode_info(d, &at, NULL, node, "has no effect in this mesh: %s", field->doc);
}

void decode_object(struct decode *d, const struct path *path, const struct node *node, const struct schema *schema,
		   void *object)
{
	if (node->type != NODE_MAP) {
		wrong_type(d, path, node, "an object");
		return;
	}
	uint64_t seen = 0;
	unsigned int errors = d->errors;
	bool outer = d->strict;
	d->strict |= schema->strict;
	for (const struct node *n = node->first; n && !d->no_memory; n = n->next) {
		const struct field *field = field_find(schema, n->key);
		if (!field) {
			unknown_field(d, path, n, schema);
			continue;
		}
		if (n->type == NODE_NULL) /* as if it were not written */
			continue;
		check_group(d, path, n, schema, field, seen);
		seen |= 1ull << (field - schema->fields);
		decode_field(d, path, n, field, object);
	}
	for (size_t i = 0; i < schema->field_count && !d->no_memory; i++)
		if (!(seen >> i & 1))
			decode_absent(d, path, node, &schema->fields[i], (char *)object + schema->fields[i].offset);
	d->strict = outer;
	if (schema->validate && d->errors == errors && !d->no_memory)
		schema->validate(d, path, node, object);
}
