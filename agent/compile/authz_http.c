/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/authz_http.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/str.h"
#include "agent/compile/condition.h"

static bool any(const struct string_list *a, const struct string_list *b)
{
	return a->n || b->n;
}

int authz_http_source(const struct authz_source *s, struct policy_match *m)
{
	m->has_http |= any(&s->request_principals, &s->not_request_principals);
	int rc = condition_not_strings(&m->request_principals, &s->request_principals);
	return rc < 0 ? rc : condition_not_strings(&m->not_request_principals, &s->not_request_principals);
}

static int paths_add(struct match_strings *to, const struct string_list *values)
{
	if (!values->n)
		return 0;
	to->v = calloc(values->n, sizeof(*to->v));
	if (!to->v)
		return -ENOMEM;
	for (; to->n < values->n; to->n++)
		if (match_path_init(&to->v[to->n], values->v[to->n]) < 0)
			return -ENOMEM;
	return 0;
}

int authz_http_operation(const struct authz_operation *op, struct policy_match *m)
{
	m->has_http |= any(&op->hosts, &op->not_hosts) || any(&op->methods, &op->not_methods) ||
		       any(&op->paths, &op->not_paths);
	if (condition_not_strings(&m->hosts, &op->hosts) < 0 ||
	    condition_not_strings(&m->not_hosts, &op->not_hosts) < 0 ||
	    condition_not_strings(&m->methods, &op->methods) < 0 ||
	    condition_not_strings(&m->not_methods, &op->not_methods) < 0 || paths_add(&m->paths, &op->paths) < 0 ||
	    paths_add(&m->not_paths, &op->not_paths) < 0)
		return -ENOMEM;
	return 0;
}

/* --- when */

static int path_add(struct policy_condition *out, const char *p, size_t n, bool lower)
{
	char **grown = reallocarray(out->path, out->path_count + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	out->path = grown;
	char *name = strndup(p, n);
	if (!name)
		return -ENOMEM;
	for (char *c = name; lower && *c; c++)
		*c = (char)tolower((unsigned char)*c);
	out->path[out->path_count++] = name;
	return 0;
}

/* "[a][b]" -> a, b. The last bracket is there (validated); "a][b" inside one is no name of anything. */
static int brackets_add(struct policy_condition *out, const char *text, bool nested)
{
	size_t len = strlen(text) - 2;

	text++;
	if (!nested)
		return path_add(out, text, len, true);
	while (true) {
		const char *end = strstr(text, "][");
		size_t n = end ? (size_t)(end - text) : strlen(text) - 1;
		if (path_add(out, text, n, false) < 0)
			return -ENOMEM;
		if (!end)
			return 0;
		text = end + 2;
	}
}

int authz_http_condition(const struct authz_condition *w, struct policy_condition *out)
{
	static const struct {
		const char *key;
		enum policy_attribute attribute;
		const char *claim;
	} keys[] = {
		{ "request.auth.principal", POLICY_REQUEST_PRINCIPAL, NULL },
		{ "request.auth.audiences", POLICY_CLAIM, "aud" },
		{ "request.auth.presenter", POLICY_CLAIM, "azp" },
		{ "connection.sni", POLICY_SNI, NULL },
	};
	static const char headers[] = "request.headers", claims[] = "request.auth.claims";
	int rc = -ENOENT;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && rc == -ENOENT; i++)
		if (str_eq(w->key, keys[i].key)) {
			out->attribute = keys[i].attribute;
			rc = keys[i].claim ? path_add(out, keys[i].claim, strlen(keys[i].claim), false) : 0;
		}
	if (rc == -ENOENT && str_starts(w->key, headers)) {
		out->attribute = POLICY_HEADER;
		rc = brackets_add(out, w->key + sizeof(headers) - 1, false);
	} else if (rc == -ENOENT && str_starts(w->key, claims)) {
		out->attribute = POLICY_CLAIM;
		rc = brackets_add(out, w->key + sizeof(claims) - 1, true);
	}
	if (rc == -ENOENT)
		return 0;
	if (rc < 0 || condition_not_strings(&out->values, &w->values) < 0 ||
	    condition_not_strings(&out->not_values, &w->not_values) < 0) {
		policy_condition_done(out); /* it is not counted yet */
		return -ENOMEM;
	}
	return 1;
}
