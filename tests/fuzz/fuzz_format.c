/* SPDX-License-Identifier: Apache-2.0 */
/* Formats of access logs and expressions over a hostile request. The input, in parts that a NUL ends: format, expression,
 * then values of headers. Text that holds no end of line makes one line; JSON's strings make an object that parses. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/observe/escape.h"
#include "agent/helper/observe/expression.h"
#include "agent/helper/observe/format.h"
#include "agent/helper/observe/record.h"
#include "agent/helper/worker.h"
#include "agent/model/access_format.h"
#include "agent/model/cel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_utf8(const char *p, size_t n)
{
	for (size_t i = 0, len; i < n; i += len) {
		len = escape_utf8_len(p + i, n - i);
		if (!len)
			return false;
	}
	return true;
}

static void text_line(const struct request_record *r, const char *format)
{
	struct sb out = { 0 };
	struct log_format *f = log_format_new(format, false);
	if (!f)
		abort();
	log_format_write(f, r, &out);
	assert(!out.failed);
	if (is_utf8(format, strlen(format)) && out.p) {
		assert(is_utf8(out.p, out.len) && strlen(out.p) == out.len);
		assert(strpbrk(format, "\r\n") || !strpbrk(out.p, "\r\n"));
	}
	sb_done(&out);
	log_format_free(f);
	record_format(r, format, &out);
	sb_done(&out);
}

/* The format as a string of an object, as the agent writes what the configuration says. */
static void json_line(const struct request_record *r, const char *format)
{
	struct sb template = { 0 }, out = { 0 };
	sb_add(&template, "{\"a\":\"");
	size_t from = template.len;
	sb_add(&template, format);
	escape_since(&template, from, true);
	sb_add(&template, "\",\"b\":[\"x");
	from = template.len;
	sb_add(&template, format);
	escape_since(&template, from, true);
	sb_add(&template, "\"]}");
	struct log_format *f = template.p ? log_format_new(template.p, true) : NULL;
	if (!f)
		abort();
	log_format_write(f, r, &out);
	json_error_t error;
	json_t *j = json_loadb(out.p, out.len, 0, &error);
	if (!j) {
		json_t *before = json_loads(template.p, 0, NULL); /* what jansson refuses by itself, as \u0000 */
		assert(!before);
		json_decref(before);
	}
	assert(!strpbrk(out.p, "\r\n"));
	json_decref(j);
	log_format_free(f);
	sb_done(&out);
	sb_done(&template);
}

static void expression(const struct request_record *r, const char *text)
{
	struct sb out = { 0 };
	bool truth = expression_true(r, text), value = expression_value(r, text, &out);
	assert(!truth || (value && str_eq(out.p, "true")));
	assert(value || !out.len);
	sb_done(&out);
	/* What documents are checked by says the same. */
	struct err err = ERR_INIT;
	if (cel_check(text, false, &err) == -EINVAL && strstr(err.text, "can't be read"))
		assert(!value);
	access_format_check(text, NULL, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "x", "user-agent", "x-request-id", "x-forwarded-for" };
	AUTO(mem_freep) char *text = malloc(size + 1);
	struct http_head *h = http_head_new();
	if (!text || !h)
		abort();
	memcpy(text, data, size);
	text[size] = 0;
	const char *end = text + size, *format = text, *p = format + strlen(format);
	const char *condition = p < end ? p + 1 : p;
	p = condition + strlen(condition);
	for (size_t i = 0; i < ARRAY_SIZE(names) && p < end; i++) {
		const char *value = p + 1;
		p = value + strlen(value);
		struct http_string v = http_head_text(h, value, strlen(value)),
				   n = http_head_text(h, names[i], strlen(names[i]));
		h->path = v;
		if (!v.p || !n.p || http_add_ref(h, n, v) < 0)
			abort();
	}
	h->version = HTTP_1_1;
	h->method = http_head_text(h, "GET", 3);
	const struct addr_port address = { .port = 80 };
	struct worker_pod pod = { .name = (char *)"pod", .uid = (char *)"uid" };
	const struct request_record r = { .request = h,
					  .response = h,
					  .trailers = h,
					  .pod = &pod,
					  .status = 200,
					  .grpc = true,
					  .grpc_status = 5,
					  .details = "via_upstream",
					  .source = &address,
					  .start_ns = 1700000000123456789ull,
					  .began_ns = 1,
					  .end_ns = 5000000,
					  .flags = UINT32_MAX >> 12 };
	text_line(&r, format);
	json_line(&r, format);
	expression(&r, condition);
	http_head_free(h);
	return 0;
}
