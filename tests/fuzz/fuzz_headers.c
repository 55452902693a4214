/* SPDX-License-Identifier: Apache-2.0 */
/* The fields of a head: lines "op name: value" in any order; the head must stay whole, and say what was put into it. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/helper/http/http1_parse.h"
#include "agent/helper/http/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct http_head *h)
{
	size_t text = 0;
	for (size_t i = 0; i < h->field_count; i++) {
		const struct http_field *f = &h->fields[i];
		assert(http_name_valid(f->name.p, f->name.n) && http_value_valid(f->value.p, f->value.n));
		assert(f->id == http_name_id(f->name.p, f->name.n));
		text += f->name.n + f->value.n;
	}
	assert(text == h->text_bytes);
	assert(h->field_count <= h->field_cap);
}

static void check_joined(struct http_head *h, const char *name)
{
	struct http_string first = http_get(h, name), joined = http_get_joined(h, name);
	assert(!first.p == !joined.p);
	assert(joined.n >= first.n && (first.n == 0 || memcmp(first.p, joined.p, first.n) == 0));
	http_list_has(joined, "close");
}

static void check_hop(struct http_head *h)
{
	http_remove_hop_by_hop(h);
	check(h);
	assert(!http_get_id(h, HTTP_CONNECTION).p && !http_get_id(h, HTTP_KEEP_ALIVE).p);
	assert(!http_get_id(h, HTTP_TRANSFER_ENCODING).p && !http_get_id(h, HTTP_PROXY_CONNECTION).p);
	assert(h->upgrade || !http_get_id(h, HTTP_UPGRADE).p);
	struct http_string te = http_get_id(h, HTTP_TE);
	assert(!te.p || http_is(te, "trailers"));
}

static void one(struct http_head *h, char *line)
{
	char *value = strchr(line, ':');
	if (!line[0] || !value)
		return;
	*value++ = '\0';
	char *name = line + 1;
	size_t count = h->field_count;
	switch (line[0]) {
	case 'a':
		if (http_add(h, name, value) == 0)
			assert(h->field_count == count + 1);
		else
			assert(h->field_count == count);
		break;
	case 's':
		if (http_set(h, name, value) == 0)
			assert(http_is(http_get(h, name), value) && http_is(http_get_joined(h, name), value));
		break;
	case 'r':
		http_remove(h, name);
		assert(!http_get(h, name).p);
		break;
	case 'u':
		h->upgrade = !h->upgrade;
		break;
	case 'h':
		check_hop(h);
		break;
	default:
		check_joined(h, name);
	}
	check(h);
}

/* The same bytes as trailers, by lines and whole. */
static void parse(const uint8_t *data, size_t size)
{
	struct http1_parser p = { 0 };
	struct http1_fault fault;
	size_t used;
	http1_parse_begin(&p, HTTP1_TRAILERS);
	int rc = http1_parse(&p, &http_limits_default, data, size, &used, &fault);
	assert(used <= size);
	if (rc == 1) {
		struct http_head *h = http1_parse_take(&p);
		check(h);
		struct http_head *copy = http_head_copy(h);
		check(copy);
		assert(copy->field_count == h->field_count);
		http_head_free(copy);
		check_hop(h);
		http_head_free(h);
	}
	http1_parse_begin(&p, HTTP1_REQUEST);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	parse(data, size);
	AUTO(mem_freep) char *text = malloc(size + 1);
	struct http_head *h = http_head_new();
	if (!text || !h)
		abort();
	memcpy(text, data, size);
	text[size] = '\0';
	char *rest = text, *line;
	for (int i = 0; i < 1000 && (line = strsep(&rest, "\n")); i++)
		one(h, line);
	http_head_free(h);
	return 0;
}
