/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/tls_internal.h"

#include "agent/base/str.h"

#include <stdarg.h>
#include <stdio.h>

int tls_err(struct err *err, int code, const char *format, ...)
{
	char what[256];
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);

	unsigned long openssl = ERR_peek_last_error();
	const char *reason = openssl ? ERR_reason_error_string(openssl) : NULL;
	ERR_clear_error();
	if (!reason)
		return err_set(err, code, "tls: %s failed", what);
	return err_set(err, code, "tls: %s: %s", what, reason);
}
