/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/filter/fields.h"

#include <errno.h>

#include "agent/base/mem.h"

bool field_ok(struct http_string name, struct http_string value)
{
	static const char *const framing[] = { "connection", "content-length",	  "host",
					       "keep-alive", "proxy-connection",  "te",
					       "trailer",    "transfer-encoding", "upgrade" };

	for (size_t i = 0; i < ARRAY_SIZE(framing); i++)
		if (http_is_nocase(name, framing[i]))
			return false;
	return http_name_valid(name.p, name.n) && http_value_valid(value.p, value.n);
}

int field_put(struct http_head *to, struct http_string name, struct http_string value, bool replace)
{
	char *lower = http_head_room(to, (size_t)name.n + 1);
	if (!lower)
		return -ENOMEM;
	for (uint32_t i = 0; i < name.n; i++)
		lower[i] = name.p[i] >= 'A' && name.p[i] <= 'Z' ? (char)(name.p[i] + 32) : name.p[i];
	lower[name.n] = '\0';
	if (!field_ok((struct http_string){ lower, name.n }, value))
		return 0;
	struct http_string copy = http_head_text(to, value.p, value.n);
	if (!copy.p)
		return -ENOMEM;
	if (replace)
		http_remove(to, lower);
	return http_add_ref(to, (struct http_string){ lower, name.n }, copy);
}

char *field_text(struct http_head *in, struct http_string s)
{
	char *p = http_head_room(in, (size_t)s.n + 1);

	for (uint32_t i = 0; p && i < s.n; i++)
		p[i] = (unsigned char)s.p[i] < 0x80 && s.p[i] ? s.p[i] : '?';
	if (p)
		p[s.n] = '\0';
	return p;
}
