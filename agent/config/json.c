/* SPDX-License-Identifier: Apache-2.0 */
/* Strict JSON into nodes. (libyaml reads most JSON, but not tabs and surrogate pairs; jansson reads it all, but keeps no
 * lines.) Recursive, bounded by NODE_DEPTH_MAX. */
#include "agent/config/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/config/arena.h"
#include "agent/config/node.h"
#include "agent/config/text.h"

struct json_in {
	struct arena *arena;
	const char *at, *end;
	uint32_t line, *err_line;
	unsigned int depth;
	uint32_t count;
	struct err *err;
};

static int json_value(struct json_in *in, struct node *node);

static int json_fail(struct json_in *in, const char *what)
{
	*in->err_line = in->line;
	return err_set(in->err, -EINVAL, "not JSON: %s", what);
}

static void json_space(struct json_in *in)
{
	for (; in->at < in->end && strchr(" \t\r\n", *in->at) && *in->at; in->at++)
		in->line += *in->at == '\n';
}

static bool json_take(struct json_in *in, char c)
{
	json_space(in);
	if (in->at == in->end || *in->at != c)
		return false;
	in->at++;
	return true;
}

static int json_hex4(struct json_in *in, uint32_t *out)
{
	if (in->end - in->at < 4)
		return -EINVAL;
	*out = 0;
	for (int i = 0; i < 4; i++) {
		unsigned char c = (unsigned char)*in->at++;
		if (!isxdigit(c))
			return -EINVAL;
		*out = *out << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return 0;
}

static char *utf8_put(char *to, uint32_t c)
{
	if (c < 0x80) {
		*to++ = (char)c;
	} else if (c < 0x800) {
		*to++ = (char)(0xc0 | c >> 6);
		*to++ = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*to++ = (char)(0xe0 | c >> 12);
		*to++ = (char)(0x80 | (c >> 6 & 0x3f));
		*to++ = (char)(0x80 | (c & 0x3f));
	} else {
		*to++ = (char)(0xf0 | c >> 18);
		*to++ = (char)(0x80 | (c >> 12 & 0x3f));
		*to++ = (char)(0x80 | (c >> 6 & 0x3f));
		*to++ = (char)(0x80 | (c & 0x3f));
	}
	return to;
}

/* After "\u". */
static char *json_unicode(struct json_in *in, char *to)
{
	uint32_t c, low;
	if (json_hex4(in, &c) < 0 || c == 0 || (c >= 0xdc00 && c < 0xe000))
		return NULL;
	if (c >= 0xd800 && c < 0xdc00) {
		if (in->end - in->at < 2 || in->at[0] != '\\' || in->at[1] != 'u')
			return NULL;
		in->at += 2;
		if (json_hex4(in, &low) < 0 || low < 0xdc00 || low >= 0xe000)
			return NULL;
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	return utf8_put(to, c);
}

/* After the opening quote. An escape is never shorter than what it stands for, so the source's length is room enough. */
static int json_string_body(struct json_in *in, const char **out)
{
	const char *close = in->at;
	while (close < in->end && *close != '"')
		close += *close == '\\' ? 2 : 1;
	if (close >= in->end)
		return json_fail(in, "a string is not closed");
	char *text = arena_bytes(in->arena, (size_t)(close - in->at) + 1);
	if (!text)
		return err_set(in->err, -ENOMEM, "no memory for a document of this size");

	char *to = text;
	while (in->at < close) {
		char c = *in->at++;
		if ((unsigned char)c < 0x20)
			return json_fail(in, "a control character in a string");
		if (c != '\\') {
			*to++ = c;
			continue;
		}
		static const char from[] = "\"\\/bfnrt", as[] = "\"\\/\b\f\n\r\t";
		c = *in->at++;
		const char *escape = c ? strchr(from, c) : NULL;
		if (escape)
			*to++ = as[escape - from];
		else if (c != 'u' || !(to = json_unicode(in, to)))
			return json_fail(in, "a string has an unknown or bad escape");
	}
	in->at = close + 1;
	*to = 0;
	*out = text;
	return text_is_utf8(text, (size_t)(to - text)) ? 0 : json_fail(in, "a string is not UTF-8");
}

static int json_number(struct json_in *in, struct node *node)
{
	char text[64];
	size_t len = 0;
	bool whole = true;
	while (in->at + len < in->end && len < sizeof(text) - 1 && in->at[len] &&
	       strchr("+-.eE0123456789", in->at[len])) {
		whole &= !strchr(".eE", in->at[len]);
		text[len] = in->at[len];
		len++;
	}
	text[len] = 0;
	const char *digits = text + (text[0] == '-');
	if (*digits < '0' || *digits > '9' || (digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9'))
		return json_fail(in, "a value is expected");

	char *end;
	errno = 0;
	node->type = whole ? NODE_INT : NODE_DOUBLE;
	if (whole)
		node->i = strtoll(text, &end, 10);
	else
		node->d = strtod(text, &end);
	if (*end || (whole && errno))
		return json_fail(in, "a number is malformed or too large");
	in->at += len;
	return 0;
}

static int json_member_key(struct json_in *in, struct table *keys, struct node *child)
{
	json_space(in);
	child->line = in->line;
	if (!json_take(in, '"'))
		return json_fail(in, "a key in quotes is expected");
	int rc = json_string_body(in, &child->key);
	if (rc < 0)
		return rc;
	const struct node *same = table_get_str(keys, child->key);
	if (same) {
		*in->err_line = in->line;
		return err_set(in->err, -EINVAL,
			       "key \"%.100s\" is written twice, in lines %u and %u; remove one of them", child->key,
			       same->line, child->line);
	}
	if (table_set_str(keys, child->key, child) < 0)
		return err_set(in->err, -ENOMEM, "no memory for a document of this size");
	return json_take(in, ':') ? 0 : json_fail(in, "a colon is expected after a key");
}

static int json_members(struct json_in *in, struct node *node, char close)
{
	AUTO(table_freep) struct table *keys = node->type == NODE_MAP ? table_new(NULL) : NULL;
	if (node->type == NODE_MAP && !keys)
		return err_set(in->err, -ENOMEM, "no memory for a document of this size");

	struct node **tail = &node->first;
	if (json_take(in, close))
		return 0;
	do {
		struct node *child = arena_alloc(in->arena, sizeof(*child));
		if (!child)
			return err_set(in->err, -ENOMEM, "no memory for a document of this size");
		int rc = keys ? json_member_key(in, keys, child) : 0;
		uint32_t key_line = child->line;
		if (rc == 0)
			rc = json_value(in, child);
		if (rc < 0)
			return rc;
		if (keys)
			child->line = key_line;
		*tail = child;
		tail = &child->next;
		node->count++;
	} while (json_take(in, ','));
	return json_take(in, close) ?
		       0 :
		       json_fail(in, close == '}' ? "a comma or } is expected" : "a comma or ] is expected");
}

static int json_word(struct json_in *in, struct node *node)
{
	static const struct {
		const char *word;
		enum node_type type;
		bool b;
	} words[] = { { "true", NODE_BOOL, true }, { "false", NODE_BOOL, false }, { "null", NODE_NULL, false } };
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t len = strlen(words[i].word);
		if ((size_t)(in->end - in->at) < len || memcmp(in->at, words[i].word, len))
			continue;
		in->at += len;
		node->type = words[i].type;
		if (node->type == NODE_BOOL)
			node->b = words[i].b;
		return 0;
	}
	return json_number(in, node);
}

static int json_value(struct json_in *in, struct node *node)
{
	json_space(in);
	node->line = in->line;
	if (++in->count > NODE_COUNT_MAX)
		return json_fail(in, "more than 250000 values; split the document");
	if (in->at == in->end)
		return json_fail(in, "the text ends where a value is expected");
	if (*in->at == '"') {
		in->at++;
		node->type = NODE_STRING;
		return json_string_body(in, &node->text);
	}
	if (*in->at != '{' && *in->at != '[')
		return json_word(in, node);
	if (++in->depth > NODE_DEPTH_MAX)
		return json_fail(in, "nested more than 100 levels deep");
	node->type = *in->at == '{' ? NODE_MAP : NODE_LIST;
	int rc = json_members(in, node, *in->at++ == '{' ? '}' : ']');
	in->depth--;
	return rc;
}

int json_parse(struct arena *a, const char *text, size_t len, uint32_t first_line, struct node **out,
	       uint32_t *err_line, struct err *err)
{
	struct json_in in = {
		.arena = a, .at = text, .end = text + len, .line = first_line, .err_line = err_line, .err = err
	};
	*out = NULL;
	*err_line = first_line;
	json_space(&in);
	if (in.at == in.end)
		return 0;
	struct node *root = arena_alloc(a, sizeof(*root));
	if (!root)
		return err_set(err, -ENOMEM, "no memory for a document of this size");
	int rc = json_value(&in, root);
	json_space(&in);
	if (rc == 0 && in.at != in.end)
		rc = json_fail(&in, "text follows the end of the document");
	if (rc == 0)
		*out = root;
	return rc;
}
