/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a virtual host: made, sealed (its regular expressions compiled, its id taken of all it holds), shared, freed. */
#include "agent/model/http.h"

#include <errno.h>
#include <stdlib.h>

#include "agent/base/err.h"
#include "agent/base/regex.h"
#include "agent/model/digest.h"
#include "agent/model/http_internal.h"
#include "agent/model/workload.h"

struct http_vhost *http_vhost_new(void)
{
	struct http_vhost *v = calloc(1, sizeof(*v));
	if (!v)
		return NULL;
	v->refs = 1;
	v->include_attempt_count = true;
	return v;
}

struct http_vhost *http_vhost_ref(struct http_vhost *v)
{
	__atomic_add_fetch(&v->refs, 1, __ATOMIC_RELAXED);
	return v;
}

/* --- freeing */

static void text_done(struct http_text *t)
{
	free(t->text);
	regex_free(t->regex);
}

static void text_free(struct http_text *t)
{
	if (t)
		text_done(t);
	free(t);
}

static void fields_free(struct http_field_match *fields, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(fields[i].name);
		text_done(&fields[i].value);
	}
	free(fields);
}

void http_match_done(struct http_match *m)
{
	free(m->name);
	text_free(m->path);
	text_free(m->scheme);
	text_free(m->method);
	text_free(m->authority);
	fields_free(m->headers, m->header_count);
	fields_free(m->params, m->param_count);
	free(m->source_namespace);
	for (size_t i = 0; i < m->source_label_count; i++) {
		free(m->source_labels[i].key);
		free(m->source_labels[i].value);
	}
	free(m->source_labels);
	*m = (struct http_match){ 0 };
}

static void values_free(struct http_header_value *values, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(values[i].name);
		free(values[i].value);
	}
	free(values);
}

void http_header_ops_done(struct http_header_ops *ops)
{
	values_free(ops->set, ops->set_count);
	values_free(ops->add, ops->add_count);
	for (size_t i = 0; i < ops->remove_count; i++)
		free(ops->remove[i]);
	free(ops->remove);
	*ops = (struct http_header_ops){ 0 };
}

void http_destination_done(struct http_destination *d)
{
	free(d->cluster);
	free(d->host_rewrite);
	http_header_ops_done(&d->request);
	http_header_ops_done(&d->response);
	*d = (struct http_destination){ 0 };
}

static void rewrite_free(struct http_rewrite *r)
{
	if (!r)
		return;
	free(r->path_prefix);
	free(r->path_full);
	free(r->path_regex);
	free(r->path_substitution);
	free(r->authority);
	regex_free(r->regex);
	free(r);
}

static void redirect_free(struct http_redirect *r)
{
	if (!r)
		return;
	free(r->scheme);
	free(r->authority);
	free(r->path_full);
	free(r->path_prefix);
	free(r);
}

static void cors_free(struct http_cors *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < c->origin_count; i++)
		text_done(&c->origins[i]);
	free(c->origins);
	free(c->methods);
	free(c->headers);
	free(c->expose);
	free(c);
}

void http_route_done(struct http_route *route)
{
	for (size_t i = 0; i < route->match_count; i++)
		http_match_done(&route->matches[i]);
	for (size_t i = 0; i < route->destination_count; i++)
		http_destination_done(&route->destinations[i]);
	for (size_t i = 0; i < route->mirror_count; i++)
		free(route->mirrors[i].cluster);
	if (route->direct) {
		free(route->direct->body);
		free(route->direct->content_type);
	}
	free(route->name);
	free(route->origin);
	free(route->owner);
	free(route->matches);
	redirect_free(route->redirect);
	free(route->direct);
	free(route->destinations);
	rewrite_free(route->rewrite);
	http_header_ops_done(&route->request);
	http_header_ops_done(&route->response);
	free(route->fault);
	free(route->mirrors);
	cors_free(route->cors);
	free(route->retry.statuses);
	free(route->session_name);
	*route = (struct http_route){ 0 };
}

void http_vhost_unref(struct http_vhost *v)
{
	if (!v || __atomic_sub_fetch(&v->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;

	for (size_t i = 0; i < v->route_count; i++)
		http_route_done(&v->routes[i]);
	free(v->routes);
	free(v->name);
	free(v->host);
	free(v);
}

/* --- sealing: expressions */

static int text_seal(struct http_text *t, struct err *err)
{
	if (!t || t->kind != HTTP_TEXT_REGEX || t->regex)
		return 0;
	return regex_new(t->text, t->ignore_case, &t->regex, err);
}

static int fields_seal(struct http_field_match *fields, size_t n, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < n; i++)
		rc = text_seal(&fields[i].value, err);
	return rc;
}

static int match_seal(struct http_match *m, struct err *err)
{
	struct http_text *texts[] = { m->path, m->scheme, m->method, m->authority };
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof(texts) / sizeof(texts[0]); i++)
		rc = text_seal(texts[i], err);
	if (!rc)
		rc = fields_seal(m->headers, m->header_count, err);
	return rc ? rc : fields_seal(m->params, m->param_count, err);
}

static int rewrite_seal(struct http_rewrite *r, struct err *err)
{
	if (!r || !r->path_regex || r->regex)
		return 0;
	int rc = regex_new(r->path_regex, false, &r->regex, err);

	return rc ? rc : regex_substitution_check(r->regex, r->path_substitution ? r->path_substitution : "", err);
}

int http_route_seal(struct http_route *route, struct err *err)
{
	int rc = rewrite_seal(route->rewrite, err);

	for (size_t i = 0; !rc && i < route->match_count; i++)
		rc = match_seal(&route->matches[i], err);
	for (size_t i = 0; !rc && route->cors && i < route->cors->origin_count; i++)
		rc = text_seal(&route->cors->origins[i], err);
	return rc;
}

/* --- sealing: the id */

static uint64_t text_digest(uint64_t id, const struct http_text *t)
{
	if (!t)
		return digest_number(id, 0);
	id = digest_number(id, 1 + (uint64_t)t->kind * 2 + t->ignore_case);
	return digest_text(id, t->text);
}

static uint64_t fields_digest(uint64_t id, const struct http_field_match *fields, size_t n)
{
	id = digest_number(id, n);
	for (size_t i = 0; i < n; i++) {
		id = digest_text(id, fields[i].name);
		id = text_digest(digest_number(id, fields[i].invert), &fields[i].value);
	}
	return id;
}

static uint64_t match_digest(uint64_t id, const struct http_match *m)
{
	id = digest_text(id, m->name);
	id = text_digest(text_digest(id, m->path), m->scheme);
	id = text_digest(text_digest(id, m->method), m->authority);
	id = fields_digest(id, m->headers, m->header_count);
	id = fields_digest(id, m->params, m->param_count);
	id = digest_text(digest_number(id, m->port), m->source_namespace);
	id = digest_number(id, m->source_label_count);
	for (size_t i = 0; i < m->source_label_count; i++)
		id = digest_text(digest_text(id, m->source_labels[i].key), m->source_labels[i].value);
	return id;
}

static uint64_t values_digest(uint64_t id, const struct http_header_value *values, size_t n)
{
	id = digest_number(id, n);
	for (size_t i = 0; i < n; i++)
		id = digest_text(digest_text(id, values[i].name), values[i].value);
	return id;
}

static uint64_t ops_digest(uint64_t id, const struct http_header_ops *ops)
{
	id = values_digest(id, ops->set, ops->set_count);
	id = values_digest(id, ops->add, ops->add_count);
	return digest_texts(id, ops->remove, ops->remove_count);
}

uint64_t http_destination_digest(uint64_t id, const struct http_destination *d)
{
	id = digest_number(digest_text(id, d->cluster), d->weight);
	id = ops_digest(ops_digest(id, &d->request), &d->response);
	return digest_text(id, d->host_rewrite);
}

static uint64_t rewrite_digest(uint64_t id, const struct http_rewrite *r)
{
	if (!r)
		return digest_number(id, 0);
	return digest_texts(
		id, (char *[]){ r->path_prefix, r->path_full, r->path_regex, r->path_substitution, r->authority }, 5);
}

static uint64_t answer_digest(uint64_t id, const struct http_route *route)
{
	const struct http_redirect *r = route->redirect;
	const struct http_direct_response *d = route->direct;

	id = digest_number(id, (r ? 1u : 0) + (d ? 2u : 0));
	if (r) {
		id = digest_texts(id, (char *[]){ r->scheme, r->authority, r->path_full, r->path_prefix }, 4);
		id = digest_number(digest_number(digest_number(id, r->port), r->keep_port + 2u * r->default_port),
				   r->status);
	}
	if (d) {
		id = digest_number(digest_number(id, d->status), d->body_len);
		id = digest_text(hash64(id, d->body, d->body_len), d->content_type);
	}
	return id;
}

static uint64_t fault_digest(uint64_t id, const struct http_fault *f)
{
	id = digest_number(id, f != NULL);
	if (!f)
		return id;
	id = digest_number(digest_number(id, f->delay_ms), f->delay_share.ppm);
	id = digest_number(digest_number(id, f->abort), f->abort_status);
	return digest_number(digest_number(id, (uint64_t)f->abort_grpc), f->abort_share.ppm);
}

static uint64_t cors_digest(uint64_t id, const struct http_cors *c)
{
	id = digest_number(id, c != NULL);
	if (!c)
		return id;
	id = digest_number(id, c->origin_count);
	for (size_t i = 0; i < c->origin_count; i++)
		id = text_digest(id, &c->origins[i]);
	id = digest_texts(id, (char *[]){ c->methods, c->headers, c->expose }, 3);
	id = digest_number(digest_number(id, c->max_age_s), c->has_max_age);
	return digest_number(digest_number(id, c->credentials), c->forward_unmatched_preflights);
}

static uint64_t retry_digest(uint64_t id, const struct http_retry *r)
{
	id = digest_number(digest_number(digest_number(id, r->attempts), r->per_try_timeout_ms), r->on);
	id = digest_number(id, r->status_count);
	for (size_t i = 0; i < r->status_count; i++)
		id = digest_number(id, r->statuses[i]);
	id = digest_number(digest_number(id, r->backoff_ms), r->backoff_max_ms);
	return digest_number(digest_number(id, r->other_hosts), r->remote_localities);
}

static uint64_t route_digest(uint64_t id, const struct http_route *route)
{
	id = digest_texts(id, (char *[]){ route->name, route->origin, route->owner, route->session_name }, 4);
	id = digest_number(id, route->match_count);
	for (size_t i = 0; i < route->match_count; i++)
		id = match_digest(id, &route->matches[i]);
	id = answer_digest(id, route);
	id = digest_number(id, route->destination_count);
	for (size_t i = 0; i < route->destination_count; i++)
		id = http_destination_digest(id, &route->destinations[i]);
	id = digest_number(digest_number(id, route->total_weight), route->invalid_backend);
	id = digest_number(id, route->invalid_weight);
	id = rewrite_digest(id, route->rewrite);
	id = ops_digest(ops_digest(id, &route->request), &route->response);
	id = fault_digest(id, route->fault);
	id = digest_number(id, route->mirror_count);
	for (size_t i = 0; i < route->mirror_count; i++)
		id = digest_number(digest_text(id, route->mirrors[i].cluster), route->mirrors[i].share.ppm);
	id = retry_digest(cors_digest(id, route->cors), &route->retry);
	id = digest_number(digest_number(id, route->session_header), route->session_max_age);
	id = digest_number(digest_number(id, route->session_absolute_s), route->session_idle_s);
	return digest_number(id, route->timeout_ms);
}

int http_vhost_seal(struct http_vhost *v, struct err *err)
{
	uint64_t id = digest_texts(HASH64_INIT, (char *[]){ v->name, v->host }, 2);

	for (size_t i = 0; i < v->route_count; i++) {
		int rc = http_route_seal(&v->routes[i], err);
		if (rc < 0)
			return rc;
	}
	id = digest_number(digest_number(id, v->include_attempt_count), v->route_count);
	for (size_t i = 0; i < v->route_count; i++)
		id = route_digest(id, &v->routes[i]);
	v->id = digest_end(id);
	return 0;
}
