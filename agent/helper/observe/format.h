/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of access logs from a record: a format is read once and written for each request. Pure. */
#pragma once

#include <stdbool.h>

struct log_format;
struct request_record;
struct sb;

extern const char access_log_json[]; /* Istio's default, as the text that model/access_format.h has */

/* Text: values are escaped, so that one request is one line. JSON: the text of an object in whose strings %operators% are;
 * one that is a string of its own becomes a number where it is one, and null where there is none. NULL: no memory. */
struct log_format *log_format_new(const char *text, bool json);
void log_format_free(struct log_format *f); /* NULL is fine */
void log_format_write(const struct log_format *f, const struct request_record *r, struct sb *out);
