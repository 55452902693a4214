/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/access_format.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/model/cel.h"

const char access_format_default[] =
	"[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% "
	"%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "
	"\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
	"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" "
	"\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER% "
	"%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
	"%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

enum { NAME_MAX_LEN = 64, CEL_MAX = 1024 };

static const struct {
	const char *name;
	enum access_value value;
	enum access_argument argument;
} operators[ACCESS_OPERATOR_COUNT] = {
#define ACCESS_OPERATOR_ROW(name, value, argument) [ACCESS_##name] = { #name, ACCESS_##value, ACCESS_##argument },
	ACCESS_OPERATORS(ACCESS_OPERATOR_ROW)
#undef ACCESS_OPERATOR_ROW
};

static bool is_name(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* The parenthesis that the operator's end follows: expressions have others, and times percent signs. NULL: none. */
static const char *argument_end(const char *p)
{
	for (; (p = strchr(p, ')')); p++)
		if (p[1] == '%' || (p[1] == ':' && is_digit(p[2])))
			return p;
	return NULL;
}

size_t access_operator_read(const char *p, struct access_operator *out)
{
	const char *at = p + 1;
	*out = (struct access_operator){ .id = -1, .value = ACCESS_ABSENT, .argument = "", .max = UINT32_MAX };
	while (is_name(*at) && at - p <= NAME_MAX_LEN)
		at++;
	size_t name_len = (size_t)(at - p - 1);
	if (!name_len)
		return 0;
	if (*at == '(') {
		const char *end = argument_end(++at);
		if (!end || end - at > UINT16_MAX)
			return 0;
		out->argument = at;
		out->argument_len = (uint32_t)(end - at);
		at = end + 1;
	}
	if (*at == ':' && is_digit(at[1])) {
		out->max = 0;
		for (at++; is_digit(*at); at++)
			out->max = out->max > UINT16_MAX ? out->max : out->max * 10 + (uint32_t)(*at - '0');
	}
	if (*at != '%')
		return 0;
	out->name = p + 1;
	out->name_len = (uint32_t)name_len;
	for (int i = 0; i < ACCESS_OPERATOR_COUNT && out->id < 0; i++) {
		if (strlen(operators[i].name) != name_len || memcmp(operators[i].name, out->name, name_len) != 0)
			continue;
		out->id = i;
		out->value = operators[i].value;
	}
	return (size_t)(at - p) + 1;
}

static int cel_argument_check(const struct access_operator *op, struct err *err)
{
	char text[CEL_MAX];
	struct err why = ERR_INIT;
	if (op->argument_len >= sizeof(text))
		return err_set(err, -EINVAL, "%%CEL()%%: the expression is too long");
	memcpy(text, op->argument, op->argument_len);
	text[op->argument_len] = 0;
	return cel_check(text, false, &why) < 0 ? err_set(err, -EINVAL, "%%CEL()%%: %s", why.text) : 0;
}

static int operator_check(const struct access_operator *op, struct err *err)
{
	int len = (int)op->name_len;
	if (op->id < 0)
		return err_set(err, -EINVAL, "%%%.*s%% is no operator that is known here", len, op->name);
	if (operators[op->id].argument == ACCESS_MUST && !op->argument_len)
		return err_set(err, -EINVAL, "%%%.*s%% needs an argument in parentheses", len, op->name);
	if (operators[op->id].argument == ACCESS_BARE && *op->argument)
		return err_set(err, -EINVAL, "%%%.*s%% has no argument", len, op->name);
	return op->id == ACCESS_CEL ? cel_argument_check(op, err) : 0;
}

int access_format_check(const char *format, const char **absent, struct err *err)
{
	if (absent)
		*absent = NULL;
	for (const char *p = format; (p = strchr(p, '%'));) {
		struct access_operator op;
		size_t n = access_operator_read(p, &op);
		if (!n && p[1] != '%')
			return err_set(err, -EINVAL,
				       "character %zu is a percent sign that begins no %%OPERATOR%%; one that is meant "
				       "is written twice",
				       (size_t)(p - format) + 1);
		int rc = n ? operator_check(&op, err) : 0;
		if (rc < 0)
			return rc;
		if (absent && !*absent && n && op.value == ACCESS_ABSENT)
			*absent = operators[op.id].name;
		p += n ? n : 2;
	}
	return 0;
}
