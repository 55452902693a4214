/* SPDX-License-Identifier: Apache-2.0 */
/* envoyExtAuthzGrpc: one unary call of envoy.service.auth.v3.Authorization/Check. */
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/filter/ext_authz.pb-c.h"
#include "agent/helper/filter/ext_authz_internal.h"
#include "agent/helper/filter/fields.h"
#include "agent/helper/filter/grpc_call.h"
#include "agent/helper/worker.h"
#include "agent/model/identity.h"

enum { ADD_IF_ABSENT = 1 };

/* --- asking: all text lies in a head that is freed when the message is packed */

struct check {
	struct http_head *text;
	bool failed;
	Weft__Authz__Pair *pairs, **pair_list;
	size_t pair_count;
};

static char *text_of(struct check *c, struct http_string s)
{
	char *p = field_text(c->text, s);
	c->failed |= !p;
	return p ? p : (char *)"";
}

static void pair_add(struct check *c, const char *key, char *value)
{
	Weft__Authz__Pair *pair = &c->pairs[c->pair_count];

	weft__authz__pair__init(pair);
	pair->key = (char *)(uintptr_t)key;
	pair->value = value;
	c->pair_list[c->pair_count++] = pair;
}

/* Names once, values joined: it is a map. */
static void headers_add(struct check *c, struct exchange *x)
{
	struct http_head *h = x->head;

	pair_add(c, ":authority", text_of(c, h->authority));
	pair_add(c, ":method", text_of(c, h->method));
	pair_add(c, ":path", text_of(c, h->path));
	pair_add(c, ":scheme", text_of(c, h->scheme));
	for (size_t i = 0; i < h->field_count; i++) {
		struct http_string name = h->fields[i].name;
		bool seen = http_is(name, EXT_PARTIAL_BODY);
		for (size_t k = 0; k < i && !seen; k++)
			seen = h->fields[k].name.n == name.n && memcmp(h->fields[k].name.p, name.p, name.n) == 0;
		if (seen)
			continue;
		char *key = text_of(c, name);
		pair_add(c, key, text_of(c, http_get_joined(h, key)));
	}
}

struct peer_messages {
	Weft__Authz__Peer peer;
	Weft__Authz__Address address;
	Weft__Authz__SocketAddress socket;
	char text[ADDR_TEXT_MAX];
};

static void peer_fill(struct peer_messages *m, const struct addr_port *at, const struct identity *who)
{
	weft__authz__peer__init(&m->peer);
	weft__authz__address__init(&m->address);
	weft__authz__socket_address__init(&m->socket);
	addr_text(&at->addr, m->text);
	m->socket.address = m->text;
	m->socket.port_value = at->port;
	m->address.socket_address = &m->socket;
	m->peer.address = &m->address;
	if (who)
		m->peer.principal = who->uri;
}

static void http_fill(struct check *c, Weft__Authz__HttpRequest *r, struct exchange *x, const struct ext_authz *p,
		      const struct ext_body *body)
{
	const struct http_head *h = x->head;

	weft__authz__http_request__init(r);
	r->id = text_of(c, http_get_id(h, HTTP_X_REQUEST_ID));
	r->method = text_of(c, h->method);
	r->path = text_of(c, h->path);
	r->host = text_of(c, h->authority);
	r->scheme = text_of(c, h->scheme);
	r->size = h->content_length;
	r->protocol = (char *)(uintptr_t)(h->version == HTTP_2	 ? "HTTP/2" :
					  h->version == HTTP_1_0 ? "HTTP/1.0" :
								   "HTTP/1.1");
	headers_add(c, x);
	if (body->p)
		pair_add(c, EXT_PARTIAL_BODY, (char *)(uintptr_t)(body->whole ? "false" : "true"));
	r->headers = c->pair_list;
	r->n_headers = c->pair_count;
	if (body->p && p->pack_as_bytes) {
		r->raw_body.data = (uint8_t *)(uintptr_t)body->p;
		r->raw_body.len = body->n;
	} else if (body->p) {
		r->body = text_of(c, (struct http_string){ (const char *)body->p, (uint32_t)body->n });
	}
}

static int check_pack(struct check *c, struct exchange *x, const struct ext_authz *p, const struct ext_body *body,
		      uint8_t **bytes, size_t *len)
{
	Weft__Authz__CheckRequest m = WEFT__AUTHZ__CHECK_REQUEST__INIT;
	Weft__Authz__AttributeContext attributes = WEFT__AUTHZ__ATTRIBUTE_CONTEXT__INIT;
	Weft__Authz__Request request = WEFT__AUTHZ__REQUEST__INIT;
	Weft__Authz__Timestamp time = WEFT__AUTHZ__TIMESTAMP__INIT;
	Weft__Authz__HttpRequest http;
	struct peer_messages source, destination;
	uint64_t now_ns = clock_wall_ns();

	peer_fill(&source, &x->source, x->peer);
	peer_fill(&destination, &x->destination, x->pod ? x->pod->identity : NULL);
	http_fill(c, &http, x, p, body);
	time.seconds = (int64_t)(now_ns / 1000000000);
	time.nanos = (int32_t)(now_ns % 1000000000);
	request.time = &time;
	request.http = &http;
	attributes.source = &source.peer;
	attributes.destination = &destination.peer;
	attributes.request = &request;
	m.attributes = &attributes;

	size_t n = weft__authz__check_request__get_packed_size(&m);
	uint8_t *out = c->failed ? NULL : malloc(GRPC_FRAME + n);
	if (!out)
		return -1;
	grpc_frame_write(out, n);
	weft__authz__check_request__pack(&m, out + GRPC_FRAME);
	*bytes = out;
	*len = GRPC_FRAME + n;
	return 0;
}

const char *ext_authz_host(const struct ext_authz *p)
{
	return cluster_host(p->cluster);
}

struct http_head *ext_authz_grpc_request(struct exchange *x, const struct ext_authz *p, const struct ext_body *body,
					 uint8_t **bytes, size_t *len)
{
	size_t most = x->head->field_count + 5;
	struct check c = { .text = http_head_new(),
			   .pairs = calloc(most, sizeof(*c.pairs)),
			   .pair_list = calloc(most, sizeof(Weft__Authz__Pair *)) };
	int rc = c.text && c.pairs && c.pair_list ? check_pack(&c, x, p, body, bytes, len) : -1;

	http_head_free(c.text);
	free(c.pairs);
	free(c.pair_list);
	if (rc < 0)
		return NULL;
	struct http_head *h = grpc_call_head(p->cluster, "/envoy.service.auth.v3.Authorization/Check",
					     p->timeout_ms ? p->timeout_ms : 600, *len);
	if (!h) {
		free(*bytes);
		*bytes = NULL;
	}
	return h;
}

/* --- the answer */

static int head_apply(struct http_head *to, const Weft__Authz__HeaderValueOption *option)
{
	const Weft__Authz__HeaderValue *h = option->header;
	if (!h || !*h->key)
		return 0;
	struct http_string name = http_head_text(to, h->key, strlen(h->key));
	struct http_string value = h->raw_value.len ?
					   http_head_text(to, (const char *)h->raw_value.data, h->raw_value.len) :
					   http_head_text(to, h->value, strlen(h->value));
	if (!name.p || !value.p)
		return -1;
	char *lower = (char *)(uintptr_t)name.p;
	for (uint32_t i = 0; i < name.n; i++)
		lower[i] = lower[i] >= 'A' && lower[i] <= 'Z' ? (char)(lower[i] + 32) : lower[i];
	if (!field_ok(name, value))
		return 0;
	bool there = http_get(to, h->key).p != NULL;
	if (option->append_action == ADD_IF_ABSENT && there)
		return 0;
	if (!option->append || !option->append->value)
		http_remove(to, h->key);
	return http_add_ref(to, name, value);
}

static int heads_apply(struct http_head **to, size_t count, Weft__Authz__HeaderValueOption *const *options)
{
	if (count && !*to)
		*to = http_head_new();
	for (size_t i = 0; i < count; i++) {
		if (!*to)
			return -1;
		for (char *c = options[i]->header ? options[i]->header->key : (char *)""; *c; c++)
			*c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
		if (head_apply(*to, options[i]) < 0)
			return -1;
	}
	return 0;
}

static enum ext_outcome allow(struct exchange *x, const Weft__Authz__OkHttpResponse *ok)
{
	if (!ok)
		return EXT_ALLOW;
	for (size_t i = 0; i < ok->n_headers_to_remove; i++) {
		const char *name = ok->headers_to_remove[i];
		struct http_string text = { name, (uint32_t)strlen(name) };
		if (field_ok(text, (struct http_string){ "", 0 }))
			http_remove(x->head, name);
	}
	if (heads_apply(&x->head, ok->n_headers, ok->headers) < 0 ||
	    heads_apply(&x->response_extra, ok->n_response_headers_to_add, ok->response_headers_to_add) < 0)
		return EXT_ERROR;
	return EXT_ALLOW;
}

static enum ext_outcome deny(const Weft__Authz__DeniedHttpResponse *d, struct ext_denial *denial)
{
	int32_t code = d && d->status ? d->status->code : 0;

	denial->status = code >= 200 && code < 600 ? (uint16_t)code : 403;
	if (d)
		ext_denial_body(denial, d->body.data, d->body.len);
	if (d)
		heads_apply(&denial->extra, d->n_headers, d->headers);
	return EXT_DENY;
}

enum ext_outcome ext_authz_grpc_response(struct exchange *x, const struct http_head *response, const uint8_t *body,
					 size_t len, const struct http_head *trailers, struct ext_denial *denial)
{
	size_t n = 0;
	const uint8_t *message = grpc_call_message(response, trailers, body, len, &n);
	Weft__Authz__CheckResponse *m = message ? weft__authz__check_response__unpack(NULL, n, message) : NULL;
	if (!m)
		return EXT_ERROR;
	/* No status is OK, as a message of zeros would be: Envoy reads it so. */
	enum ext_outcome outcome =
		m->status && m->status->code ? deny(m->denied_response, denial) : allow(x, m->ok_response);
	weft__authz__check_response__free_unpacked(m, NULL);
	return outcome;
}
