/* SPDX-License-Identifier: Apache-2.0 */
/* Lines of access logs from a record. Pure. */
#pragma once

struct request_record;
struct sb;

extern const char access_log_text[], access_log_json[]; /* Istio's default formats */

/* A text format: values are escaped, so that one request is one line. */
void record_format_line(const struct request_record *r, const char *format, struct sb *out);
/* A JSON template: "%OPERATOR%" alone in a string becomes a number where it is one, and null where there is none. */
void record_format_json(const struct request_record *r, const char *format, struct sb *out);
