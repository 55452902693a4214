/* SPDX-License-Identifier: Apache-2.0 */
/* One spelling for each path, before anybody judges it: Istio's pathNormalization as Envoy carries it out
 * (istio.io/latest/docs/reference/config/security/normalization). Pure: no I/O, no clock. */
#pragma once

#include "agent/model/filters.h"

#include <stddef.h>

/* The normal form of a path without its query: "/..." or "*". 1: it is in normal form already, out is untouched. 0:
 * out has it, *out_len bytes; out has room for HTTP_PATH_ROOM(n). -EINVAL: it must be refused.
 *
 * BASE: escapes of unreserved characters are decoded (others stay as they are), bytes that a URI may not have are
 * escaped, backslashes become slashes, dot segments are resolved. MERGE_SLASHES: several slashes become one, after
 * that. DECODE_...: %2F and %5C are decoded before. Nothing is decoded twice.
 * Refused with any of them: %00, controls, blanks, '#', no slash at the start. Refused but with NONE: '%' without
 * two digits (what it means depends on who reads it), and dot segments with parameters ("..;x"), which some servers
 * resolve. */
int http_path_normalise(enum path_normalization mode, const char *path, size_t n, char *out, size_t *out_len);
#define HTTP_PATH_ROOM(n) (3 * (n))
/* What may follow '?': visible bytes but '#'. It is never changed. */
bool http_query_valid(const char *query, size_t n);
