/* SPDX-License-Identifier: Apache-2.0 */
/* The first stage: one path for authorisation, routing and the endpoint. What can't be normalised is answered 400. */
#include "agent/helper/route/exchange.h"
#include "agent/model/http_path.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"

enum { STACK_PATH = 1024 };

/* Istio refuses methods that are not in upper case: rules compare them exactly, some servers do not. */
static bool method_valid(struct http_string method)
{
	for (uint32_t i = 0; i < method.n; i++)
		if (method.p[i] >= 'a' && method.p[i] <= 'z')
			return false;
	return method.n > 0;
}

/* path, and query after a '?', as the head's new path. */
static int path_replace(struct exchange *x, const char *path, size_t path_len)
{
	size_t n = path_len + (x->query.p ? 1 + (size_t)x->query.n : 0);
	char *to = http_head_room(x->head, n);
	if (!to)
		return -ENOMEM;
	memcpy(to, path, path_len);
	if (x->query.p) {
		to[path_len] = '?';
		memcpy(to + path_len + 1, x->query.p, x->query.n);
		x->query.p = to + path_len + 1;
	}
	x->head->path = (struct http_string){ to, (uint32_t)n };
	x->path = (struct http_string){ to, (uint32_t)path_len };
	return 0;
}

static int path_normalise(struct exchange *x)
{
	struct http_string whole = x->head->path;
	const char *mark = whole.n ? memchr(whole.p, '?', whole.n) : NULL;
	x->path = (struct http_string){ whole.p, mark ? (uint32_t)(mark - whole.p) : whole.n };
	x->query = (struct http_string){ 0 };
	if (mark) {
		x->query = (struct http_string){ mark + 1, whole.n - x->path.n - 1 };
		if (!http_query_valid(x->query.p, x->query.n))
			return -EINVAL;
	}
	if (!whole.n) { /* CONNECT to an authority has no path */
		x->path = (struct http_string){ "", 0 };
		return http_is(x->head->method, "CONNECT") ? 0 : -EINVAL;
	}

	char stack[HTTP_PATH_ROOM(STACK_PATH)];
	AUTO(mem_freep) char *heap = NULL;
	if (x->path.n > STACK_PATH) {
		heap = malloc(HTTP_PATH_ROOM((size_t)x->path.n));
		if (!heap)
			return -ENOMEM;
	}
	char *out = heap ? heap : stack;
	size_t len;
	enum path_normalization mode = x->filters ? x->filters->normalization : PATH_BASE;
	int rc = http_path_normalise(mode, x->path.p, x->path.n, out, &len);
	return rc == 0 ? path_replace(x, out, len) : rc;
}

enum stage_result stage_normalise(struct exchange *x)
{
	const char *details = "path_normalization_failed";
	int rc = path_normalise(x);
	if (rc >= 0 && !method_valid(x->head->method)) {
		details = "invalid_method";
		rc = -EINVAL;
	}
	if (rc >= 0)
		return STAGE_CONTINUE;
	exchange_respond(x, rc == -ENOMEM ? 500 : 400, 0, rc == -ENOMEM ? "out_of_memory" : details, NULL, NULL);
	return STAGE_ANSWERED;
}
