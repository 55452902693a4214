/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/control/http_request.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/model/http_path.h"

void asked_request_done(struct asked_request *r)
{
	for (size_t i = 0; i < r->header_count; i++) {
		free(r->headers[i].name);
		free(r->headers[i].value);
	}
	free(r->scheme);
	free(r->host);
	free(r->method);
	free(r->authority);
	free(r->path);
	free(r->query);
	*r = (struct asked_request){ 0 };
}

/* --- headers */

static bool is_token(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)p[i]) && !strchr("!#$%&'*+-.^_`|~", p[i]))
			return false;
	return n > 0;
}

static struct asked_header *header_find(const struct asked_request *r, const char *name)
{
	for (size_t i = 0; i < r->header_count; i++)
		if (str_eq(r->headers[i].name, name))
			return (struct asked_header *)&r->headers[i];
	return NULL;
}

const char *asked_request_header(const struct asked_request *r, const char *name)
{
	const struct asked_header *h = header_find(r, name);
	return h ? h->value : NULL;
}

static void header_remove(struct asked_request *r, const char *name)
{
	struct asked_header *h = header_find(r, name);
	if (!h)
		return;
	free(h->name);
	free(h->value);
	*h = r->headers[--r->header_count];
}

static bool replace(char **text, char *with)
{
	if (!with)
		return false;
	free(*text);
	*text = with;
	return true;
}

/* name: lower case. join: behind what is there. */
static int header_set(struct asked_request *r, const char *name, const char *value, bool join)
{
	struct asked_header *h = header_find(r, name);

	if (str_eq(name, "host") || str_eq(name, ":authority"))
		return replace(&r->authority, strdup(value)) ? 0 : -ENOMEM;
	if (h)
		return replace(&h->value, join ? str_format("%s,%s", h->value, value) : strdup(value)) ? 0 : -ENOMEM;
	if (r->header_count == ASKED_HEADERS_MAX)
		return -E2BIG;
	struct asked_header fresh = { strdup(name), strdup(value) };
	if (!fresh.name || !fresh.value) {
		free(fresh.name);
		free(fresh.value);
		return -ENOMEM;
	}
	r->headers[r->header_count++] = fresh;
	return 0;
}

static int header_parse(struct asked_request *r, char *line, struct err *err)
{
	char *colon = strchr(line, ':');

	if (!colon || !is_token(line, (size_t)(colon - line)))
		return err_set(err, -EINVAL, "\"%.100s\" is no header: write it as \"Name: value\"", line);
	*colon = 0;
	char *value = colon + 1 + strspn(colon + 1, " \t");
	for (char *end = value + strlen(value); end > value && strchr(" \t\r", end[-1]);)
		*--end = 0;
	for (char *p = line; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	for (const char *p = value; *p; p++)
		if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
			return err_set(err, -EINVAL, "the value of the header %s holds a control character", line);
	int rc = header_set(r, line, value, true);
	return rc == -E2BIG ? err_set(err, -EINVAL, "more than %d headers", ASKED_HEADERS_MAX) :
	       rc < 0	    ? err_set(err, rc, "no memory") :
			      0;
}

static int headers_parse(struct asked_request *r, const char *text, struct err *err)
{
	if (!text)
		return 0;
	if (strlen(text) > ASKED_TEXT_MAX)
		return err_set(err, -EINVAL, "the headers are longer than %d bytes", ASKED_TEXT_MAX);
	AUTO(mem_freep) char *copy = strdup(text);
	char *save = NULL;
	if (!copy)
		return err_set(err, -ENOMEM, "no memory");
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		int rc = *line == '\r' ? 0 : header_parse(r, line, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* --- the URL */

/* "http://host:port/path?query#fragment", the last three perhaps not there. */
static int url_split(struct asked_request *r, const char *url, char **path, struct err *err)
{
	const char *colons = strstr(url, "://");
	const char *host = colons ? colons + 3 : url;
	size_t host_len = strcspn(host, "/?#");
	const char *rest = host + host_len;

	if (!colons || !host_len || memchr(host, '@', host_len))
		return err_set(err, -EINVAL, "\"%.200s\" is no URL of the kind http://HOST[:PORT]/PATH", url);
	r->scheme = strndup(url, (size_t)(colons - url));
	r->host = strndup(host, host_len);
	r->authority = strndup(host, host_len);
	size_t whole_len = strcspn(rest, "#"), path_len = strcspn(rest, "?#");
	*path = path_len ? strndup(rest, path_len) : strdup("/");
	if (path_len < whole_len)
		r->query = strndup(rest + path_len + 1, whole_len - path_len - 1);
	if (!r->scheme || !r->host || !r->authority || !*path || (path_len < whole_len && !r->query))
		return err_set(err, -ENOMEM, "no memory");
	for (char *p = r->scheme; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	if (str_eq(r->scheme, "https"))
		return err_set(
			err, -EINVAL,
			"the mesh does not look into TLS that the application speaks itself: explain the connection "
			"(meshctl explain SOURCE HOST:443), or give the URL with http: where the mesh originates TLS");
	if (!str_eq(r->scheme, "http"))
		return err_set(err, -EINVAL, "\"%.40s\" is not http", r->scheme);
	return 0;
}

static int path_set(struct asked_request *r, const char *path, enum path_normalization mode, struct err *err)
{
	size_t n = strlen(path), len = 0;
	char *out = malloc(HTTP_PATH_ROOM(n) + 1);
	if (!out)
		return err_set(err, -ENOMEM, "no memory");

	int rc = http_path_normalise(mode, path, n, out, &len);
	if (rc == 1) {
		memcpy(out, path, n);
		len = n;
	}
	out[rc < 0 ? 0 : len] = 0;
	r->path = out;
	if (rc < 0 || (r->query && !http_query_valid(r->query, strlen(r->query))))
		return err_set(err, -EINVAL,
			       "the path %.200s has no unambiguous form: such a request is answered with 400", path);
	return 0;
}

int asked_request_init(struct asked_request *r, const char *url, const char *method, const char *headers,
		       enum path_normalization normalization, struct err *err)
{
	AUTO(mem_freep) char *path = NULL;

	*r = (struct asked_request){ 0 };
	if (strlen(url) > ASKED_TEXT_MAX)
		return err_set(err, -EINVAL, "the URL is longer than %d bytes", ASKED_TEXT_MAX);
	if (method && !is_token(method, strlen(method)))
		return err_set(err, -EINVAL, "\"%.40s\" is no method", method);
	r->method = strdup(method ? method : "GET");
	if (!r->method)
		return err_set(err, -ENOMEM, "no memory");
	int rc = url_split(r, url, &path, err);
	if (rc == 0)
		rc = headers_parse(r, headers, err);
	return rc < 0 ? rc : path_set(r, path, normalization, err);
}

/* --- as matched */

static struct http_view view_of(const char *text)
{
	return (struct http_view){ text, text ? strlen(text) : 0 };
}

static struct http_view on_header(const struct http_request_view *view, const char *name)
{
	return view_of(asked_request_header(view->headers, name));
}

struct http_request_view asked_request_view(const struct asked_request *r)
{
	return (struct http_request_view){
		.method = view_of(r->method),
		.scheme = view_of(r->scheme),
		.authority = view_of(r->authority),
		.path = view_of(r->path),
		.query = view_of(r->query),
		.header = on_header,
		.headers = r,
	};
}

static int operations_apply(struct asked_request *r, const struct http_header_ops *ops)
{
	for (size_t i = 0; i < ops->remove_count; i++)
		header_remove(r, ops->remove[i]);
	for (size_t i = 0; i < ops->set_count + ops->add_count; i++) {
		bool add = i >= ops->set_count;
		const struct http_header_value *v = add ? &ops->add[i - ops->set_count] : &ops->set[i];
		AUTO(mem_freep) char *name = strdup(v->name);
		for (char *p = name; p && *p; p++)
			*p = (char)tolower((unsigned char)*p);
		int rc = !name ? -ENOMEM : strchr(v->value, '%') ? 0 : header_set(r, name, v->value, add);
		if (rc == -ENOMEM)
			return rc;
	}
	return 0;
}

static int rewrite_apply(struct asked_request *r, const struct http_route *route, size_t match)
{
	bool failed = false;
	char *whole = http_rewrite_path(route, match, view_of(r->path), view_of(r->query), &failed);
	if (failed)
		return -ENOMEM;
	if (whole) {
		char *mark = strchr(whole, '?');
		char *query = mark ? strdup(mark + 1) : NULL;
		if (mark)
			*mark = 0;
		free(r->path);
		r->path = whole;
		if (mark && !query)
			return -ENOMEM;
		free(r->query);
		r->query = query;
	}
	if (route->rewrite && route->rewrite->authority && !replace(&r->authority, strdup(route->rewrite->authority)))
		return -ENOMEM;
	return 0;
}

int asked_request_apply(struct asked_request *r, const struct http_route *route, size_t match,
			const struct http_destination *destination)
{
	int rc = operations_apply(r, &route->request);

	if (rc == 0 && destination)
		rc = operations_apply(r, &destination->request);
	if (rc == 0)
		rc = rewrite_apply(r, route, match);
	if (rc == 0 && destination && destination->host_rewrite)
		rc = replace(&r->authority, strdup(destination->host_rewrite)) ? 0 : -ENOMEM;
	return rc;
}
