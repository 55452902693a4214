/* SPDX-License-Identifier: Apache-2.0 */
/* The objects of access log formats ({"a": "%X%", ...}) as one line of JSON: values stay what they are, operators and all. */
#pragma once

struct node;
struct sb;

void log_json_text(const char *text, struct sb *out);
void log_json_write(const struct node *n, struct sb *out);
/* accessLogFormat for JSON is an object as text. *out is the caller's; NULL: it is none, and Istio's default holds, as in
 * Istio. 0 or -ENOMEM. */
int log_json_parse(const char *text, char **out);
