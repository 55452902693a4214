/* SPDX-License-Identifier: Apache-2.0 */
/* The fields of a head: found, joined, replaced and removed; what belongs to one hop. */
#include "agent/helper/http/http_chars.h"
#include "agent/helper/http/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Several fields of one name, joined. Made once, since many rules may ask for the same name. */
struct http_joined {
	struct http_joined *next;
	struct http_string name, value;
};

/* A name to look for: by its id when it has one. */
struct wanted {
	enum http_name id;
	struct http_string name;
};

static struct wanted wanted(const char *name)
{
	size_t n = strlen(name);
	return (struct wanted){ http_name_id(name, n), { name, (uint32_t)n } };
}

static bool is_wanted(const struct http_field *f, const struct wanted *w)
{
	if (w->id || f->id)
		return f->id == w->id;
	return w->name.p && f->name.n == w->name.n && memcmp(f->name.p, w->name.p, w->name.n) == 0;
}

/* --- adding */

static int fields_grow(struct http_head *h)
{
	size_t cap = h->field_cap * 2;
	/* The text of a head has no alignment of its own. */
	char *p = http_head_room(h, cap * sizeof(*h->fields) + _Alignof(struct http_field));
	if (!p)
		return -ENOMEM;
	p += -(uintptr_t)p & (_Alignof(struct http_field) - 1);
	memcpy(p, h->fields, h->field_count * sizeof(*h->fields));
	h->fields = (struct http_field *)(void *)p;
	h->field_cap = cap;
	return 0;
}

int http_add_known(struct http_head *h, struct http_string name, enum http_name id, struct http_string value)
{
	if (h->field_count == h->field_cap && fields_grow(h) < 0)
		return -ENOMEM;
	h->fields[h->field_count++] = (struct http_field){ .name = name, .value = value, .id = (uint16_t)id };
	h->text_bytes += name.n + value.n;
	h->joined = NULL;
	return 0;
}

int http_add_ref(struct http_head *h, struct http_string name, struct http_string value)
{
	return http_add_known(h, name, http_name_id(name.p, name.n), value);
}

static int field_add_copy(struct http_head *h, const struct wanted *w, const char *value, size_t n)
{
	if (!http_value_valid(value, n) || (!w->id && !http_name_valid(w->name.p, w->name.n)))
		return -EINVAL;
	struct http_string name = w->id ? http_name_text(w->id) : http_head_text(h, w->name.p, w->name.n);
	struct http_string text = http_head_text(h, value, n);
	return name.p && text.p ? http_add_known(h, name, w->id, text) : -ENOMEM;
}

int http_add(struct http_head *h, const char *name, const char *value)
{
	struct wanted w = wanted(name);
	return field_add_copy(h, &w, value, strlen(value));
}

int http_add_id(struct http_head *h, enum http_name id, const char *value, size_t n)
{
	struct wanted w = { .id = id };
	return field_add_copy(h, &w, value, n);
}

/* --- removing */

static void fields_remove(struct http_head *h, const struct wanted *w, size_t from)
{
	size_t kept = from;
	for (size_t i = from; i < h->field_count; i++) {
		if (is_wanted(&h->fields[i], w)) {
			h->text_bytes -= h->fields[i].name.n + h->fields[i].value.n;
			h->joined = NULL;
		} else {
			if (kept != i)
				h->fields[kept] = h->fields[i];
			kept++;
		}
	}
	h->field_count = kept;
}

void http_remove(struct http_head *h, const char *name)
{
	struct wanted w = wanted(name);
	fields_remove(h, &w, 0);
}

void http_remove_id(struct http_head *h, enum http_name id)
{
	struct wanted w = { .id = id };
	fields_remove(h, &w, 0);
}

static int field_set(struct http_head *h, const struct wanted *w, const char *value, size_t n)
{
	size_t i = 0;
	while (i < h->field_count && !is_wanted(&h->fields[i], w))
		i++;
	if (i == h->field_count)
		return field_add_copy(h, w, value, n);
	if (!http_value_valid(value, n))
		return -EINVAL;
	struct http_string text = http_head_text(h, value, n);
	if (!text.p)
		return -ENOMEM;
	h->text_bytes += text.n;
	h->text_bytes -= h->fields[i].value.n;
	h->fields[i].value = text;
	h->joined = NULL;
	fields_remove(h, w, i + 1);
	return 0;
}

int http_set(struct http_head *h, const char *name, const char *value)
{
	struct wanted w = wanted(name);
	return field_set(h, &w, value, strlen(value));
}

int http_set_id(struct http_head *h, enum http_name id, const char *value, size_t n)
{
	struct wanted w = { .id = id };
	return field_set(h, &w, value, n);
}

/* --- finding */

struct http_string http_get(const struct http_head *h, const char *name)
{
	struct wanted w = wanted(name);
	for (size_t i = 0; i < h->field_count; i++)
		if (is_wanted(&h->fields[i], &w))
			return h->fields[i].value;
	return (struct http_string){ 0 };
}

struct http_string http_get_id(const struct http_head *h, enum http_name id)
{
	for (size_t i = 0; i < h->field_count; i++)
		if (h->fields[i].id == id)
			return h->fields[i].value;
	return (struct http_string){ 0 };
}

static struct http_string fields_join(struct http_head *h, const struct wanted *w, size_t first, size_t len)
{
	const char *between = w->id == HTTP_COOKIE ? "; " : ",";
	size_t between_len = strlen(between);
	char *aligned = http_head_room(h, sizeof(struct http_joined) + _Alignof(struct http_joined));
	char *text = http_head_room(h, len);
	if (!aligned || !text)
		return (struct http_string){ 0 };
	char *p = text;
	for (size_t i = first; i < h->field_count; i++) {
		const struct http_field *f = &h->fields[i];
		if (!is_wanted(f, w))
			continue;
		if (i > first)
			p = mempcpy(p, between, between_len);
		memcpy(p, f->value.p, f->value.n);
		p += f->value.n;
	}
	aligned += -(uintptr_t)aligned & (_Alignof(struct http_joined) - 1);
	struct http_joined *j = (struct http_joined *)(void *)aligned;
	*j = (struct http_joined){ h->joined, h->fields[first].name, { text, (uint32_t)(p - text) } };
	h->joined = j;
	return j->value;
}

struct http_string http_get_joined(struct http_head *h, const char *name)
{
	struct wanted w = wanted(name);
	size_t count = 0, first = 0, len = 0;
	for (size_t i = 0; i < h->field_count; i++) {
		if (!is_wanted(&h->fields[i], &w))
			continue;
		if (count++ == 0)
			first = i;
		len += h->fields[i].value.n + 2;
	}
	if (count == 0)
		return (struct http_string){ 0 };
	if (count == 1)
		return h->fields[first].value;
	for (const struct http_joined *j = h->joined; j; j = j->next)
		if (j->name.n == w.name.n && memcmp(j->name.p, w.name.p, w.name.n) == 0)
			return j->value;
	return fields_join(h, &w, first, len);
}

bool http_is(struct http_string s, const char *text)
{
	size_t n = strlen(text);
	return s.p && s.n == n && memcmp(s.p, text, n) == 0;
}

bool http_is_nocase(struct http_string s, const char *text)
{
	size_t n = strlen(text);
	return s.p && s.n == n && strncasecmp(s.p, text, n) == 0;
}

/* The next element of a comma-separated list, trimmed; false: none is left. */
static bool list_next(struct http_string *list, struct http_string *element)
{
	if (!list->p)
		return false;
	const char *end = list->p + list->n;
	const char *comma = list->n ? memchr(list->p, ',', list->n) : NULL;
	const char *p = list->p, *stop = comma ? comma : end;
	list->p = comma ? comma + 1 : NULL;
	list->n = comma ? (uint32_t)(end - comma - 1) : 0;
	while (p < stop && http_blank(*p))
		p++;
	while (stop > p && http_blank(stop[-1]))
		stop--;
	*element = (struct http_string){ p, (uint32_t)(stop - p) };
	return true;
}

bool http_list_has(struct http_string list, const char *token)
{
	struct http_string element;
	while (list_next(&list, &element))
		if (http_is_nocase(element, token))
			return true;
	return false;
}

/* --- what belongs to one hop */

enum { NAME_MAX_LEN = 256 };

static void remove_named(struct http_head *h, struct http_string list)
{
	struct http_string element;
	while (list_next(&list, &element)) {
		char lower[NAME_MAX_LEN];
		if (element.n == 0 || element.n >= sizeof(lower) || !http_name_valid(element.p, element.n))
			continue;
		for (uint32_t i = 0; i < element.n; i++)
			lower[i] = (char)http_token_lower[(uint8_t)element.p[i]];
		lower[element.n] = '\0';
		struct wanted w = wanted(lower);
		/* TE and Upgrade are judged below, and Connection is what is being read. */
		if (w.id != HTTP_TE && w.id != HTTP_UPGRADE && w.id != HTTP_CONNECTION)
			fields_remove(h, &w, 0);
	}
}

static bool of_one_hop(struct http_head *h, struct http_field *f)
{
	switch (f->id) {
	case HTTP_CONNECTION:
	case HTTP_KEEP_ALIVE:
	case HTTP_PROXY_CONNECTION:
	case HTTP_TRANSFER_ENCODING:
	case HTTP_HTTP2_SETTINGS:
		return true;
	case HTTP_UPGRADE:
		return !h->upgrade;
	case HTTP_TE:
		if (!http_list_has(f->value, "trailers"))
			return true;
		h->text_bytes += sizeof("trailers") - 1;
		h->text_bytes -= f->value.n;
		f->value = (struct http_string){ "trailers", sizeof("trailers") - 1 };
		return false;
	default:
		return false;
	}
}

void http_remove_hop_by_hop(struct http_head *h)
{
	/* Removing moves fields: look again from the start, each Connection once. */
	for (size_t i = 0; i < h->field_count; i++) {
		if (h->fields[i].id != HTTP_CONNECTION)
			continue;
		struct http_string list = h->fields[i].value;
		h->text_bytes -= h->fields[i].name.n + h->fields[i].value.n;
		memmove(&h->fields[i], &h->fields[i + 1], (h->field_count - i - 1) * sizeof(*h->fields));
		h->field_count--;
		h->joined = NULL;
		remove_named(h, list);
		i = SIZE_MAX; /* the loop's increment makes it 0 */
	}

	size_t kept = 0;
	for (size_t i = 0; i < h->field_count; i++) {
		if (of_one_hop(h, &h->fields[i])) {
			h->text_bytes -= h->fields[i].name.n + h->fields[i].value.n;
			h->joined = NULL;
		} else {
			if (kept != i)
				h->fields[kept] = h->fields[i];
			kept++;
		}
	}
	h->field_count = kept;
}
