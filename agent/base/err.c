/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/err.h"

#include <stdio.h>
#include <string.h>

/* clang-tidy's macros of the header. */
#undef err_set
#undef err_sys
#undef err_prefix

int err_set(struct err *err, int code, const char *format, ...)
{
	if (!err)
		return code;

	/* Via a copy: the arguments may point into err->text. */
	char text[ERR_TEXT_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	memcpy(err->text, text, sizeof(text));
	err->code = code;
	return code;
}

int err_sys(struct err *err, int code, const char *format, ...)
{
	if (!err)
		return code;

	char text[ERR_TEXT_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	char why[128];
	return err_set(err, code, "%s: %s", text, strerror_r(-code, why, sizeof(why)));
}

int err_prefix(struct err *err, const char *format, ...)
{
	if (!err)
		return 0;

	char text[ERR_TEXT_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	return err_set(err, err->code, "%s: %s", text, err->text);
}
