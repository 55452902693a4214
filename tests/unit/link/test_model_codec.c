/* SPDX-License-Identifier: Apache-2.0 */
/* Every field of the HTTP model goes over the link and comes back. The walks below know the structs by heart and nothing of
 * the codec: one fills each field with a value of its own, the same one writes them down, and both ends' notes are compared
 * line by line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/link/message.h"
#include "agent/link/shape.h"
#include "agent/model/cluster.h"
#include "agent/model/filters.h"
#include "agent/model/l7.h"
#include "agent/model/telemetry.h"
#include "agent/model/workload.h"

struct walk {
	bool fill;
	unsigned int next; /* a number that no other field has had */
	struct sb notes;
};

enum { MANY = 3 };

static void note(struct walk *w, const char *name, const char *value)
{
	sb_addf(&w->notes, "%s=%s\n", name, value ? value : "(null)");
}

static void number(struct walk *w, const char *name, void *field, size_t size, uint64_t max)
{
	uint64_t v = 0;
	if (w->fill) {
		v = 1 + w->next++ % max; /* not zero */
		memcpy(field, &v, size); /* little end first, as everywhere that this runs */
	}
	v = 0;
	memcpy(&v, field, size);
	sb_addf(&w->notes, "%s=%" PRIu64 "\n", name, v);
}

static void text(struct walk *w, const char *name, char **field)
{
	if (w->fill) {
		free(*field);
		*field = str_format("%s-%u", name, w->next++);
	}
	note(w, name, *field);
}

static size_t list(struct walk *w, void *field, size_t *count, size_t size)
{
	if (w->fill) {
		*(void **)field = calloc(MANY, size);
		*count = MANY;
	}
	sb_addf(&w->notes, "count=%zu\n", *count);
	return *count;
}

static void texts(struct walk *w, const char *name, char ***field, size_t *count)
{
	size_t n = list(w, field, count, sizeof(char *));
	for (size_t i = 0; i < n; i++)
		text(w, name, &(*field)[i]);
}

static void *pointer(struct walk *w, void *field, size_t size)
{
	if (w->fill)
		*(void **)field = calloc(1, size);
	sb_add(&w->notes, *(void **)field ? "there\n" : "(null)\n");
	return *(void **)field;
}

static void address(struct walk *w, struct addr *a)
{
	char buf[ADDR_TEXT_MAX];
	if (w->fill)
		for (size_t i = 0; i < 16; i++)
			a->b[i] = (uint8_t)(w->next++ % 251 + 1);
	note(w, "addr", addr_text(a, buf));
}

#define NUMBER(s, f, max) number(w, #f, &(s)->f, sizeof((s)->f), max)
#define U32(s, f) NUMBER(s, f, 4000000000u)
#define BOOL(s, f) NUMBER(s, f, 1)
#define TEXT(s, f) text(w, #f, &(s)->f)
#define TEXTS(s, f, count) texts(w, #f, &(s)->f, &(s)->count)
#define LIST(s, f, count) (size_t i = 0, n = list(w, &(s)->f, &(s)->count, sizeof(*(s)->f)); i < n; i++)

/* --- http.h --- */

static void walk_text(struct walk *w, struct http_text *t)
{
	/* A pattern is any text that is no expression: names and digits. */
	NUMBER(t, kind, HTTP_TEXT_PATH_PREFIX);
	BOOL(t, ignore_case);
	TEXT(t, text);
}

static void walk_text_pointer(struct walk *w, struct http_text **t)
{
	struct http_text *there = pointer(w, t, sizeof(**t));
	if (there)
		walk_text(w, there);
}

static void walk_fields(struct walk *w, struct http_field_match **v, size_t *count)
{
	size_t n = list(w, v, count, sizeof(**v));
	for (size_t i = 0; i < n; i++) {
		TEXT(&(*v)[i], name);
		walk_text(w, &(*v)[i].value);
		BOOL(&(*v)[i], invert);
	}
}

static void walk_values(struct walk *w, struct http_header_value **v, size_t *count)
{
	size_t n = list(w, v, count, sizeof(**v));
	for (size_t i = 0; i < n; i++) {
		TEXT(&(*v)[i], name);
		TEXT(&(*v)[i], value);
	}
}

static void walk_ops(struct walk *w, struct http_header_ops *ops)
{
	walk_values(w, &ops->set, &ops->set_count);
	walk_values(w, &ops->add, &ops->add_count);
	TEXTS(ops, remove, remove_count);
}

static void walk_match(struct walk *w, struct http_match *m)
{
	TEXT(m, name);
	walk_text_pointer(w, &m->path);
	walk_text_pointer(w, &m->scheme);
	walk_text_pointer(w, &m->method);
	walk_text_pointer(w, &m->authority);
	walk_fields(w, &m->headers, &m->header_count);
	walk_fields(w, &m->params, &m->param_count);
	NUMBER(m, port, 65535);
	TEXT(m, source_namespace);
	for
		LIST(m, source_labels, source_label_count)
		{
			TEXT(&m->source_labels[i], key);
			TEXT(&m->source_labels[i], value);
		}
}

static void walk_destination(struct walk *w, struct http_destination *d)
{
	TEXT(d, cluster);
	NUMBER(d, weight, 100000);
	walk_ops(w, &d->request);
	walk_ops(w, &d->response);
	TEXT(d, host_rewrite);
}

static void walk_destinations(struct walk *w, struct http_destination **v, size_t *count, uint32_t *total)
{
	size_t n = list(w, v, count, sizeof(**v));
	uint32_t sum = 0;
	for (size_t i = 0; i < n; i++) {
		walk_destination(w, &(*v)[i]);
		sum += (*v)[i].weight;
	}
	if (w->fill)
		*total = sum;
	sb_addf(&w->notes, "total=%u\n", *total);
}

static void walk_rewrite(struct walk *w, struct http_rewrite *r)
{
	TEXT(r, path_prefix);
	TEXT(r, path_full);
	TEXT(r, path_regex);
	TEXT(r, path_substitution);
	TEXT(r, authority);
}

static void walk_redirect(struct walk *w, struct http_redirect *r)
{
	TEXT(r, scheme);
	TEXT(r, authority);
	TEXT(r, path_full);
	TEXT(r, path_prefix);
	NUMBER(r, port, 65535);
	BOOL(r, keep_port);
	BOOL(r, default_port);
	NUMBER(r, status, 999);
}

static void walk_direct(struct walk *w, struct http_direct_response *d)
{
	NUMBER(d, status, 999);
	TEXT(d, body);
	if (w->fill) {
		d->body_len = strlen(d->body);
		d->body[1] = 0; /* a body is bytes */
	}
	for (size_t i = 0; i < d->body_len; i++)
		sb_addf(&w->notes, "%02x", (unsigned char)d->body[i]);
	TEXT(d, content_type);
}

static void walk_fault(struct walk *w, struct http_fault *f)
{
	U32(f, delay_ms);
	NUMBER(f, delay_share.ppm, 1000000);
	BOOL(f, abort);
	NUMBER(f, abort_status, 999);
	if (w->fill)
		f->abort_grpc = -1;
	sb_addf(&w->notes, "grpc=%d\n", f->abort_grpc);
	NUMBER(f, abort_share.ppm, 1000000);
}

static void walk_cors(struct walk *w, struct http_cors *c)
{
	for
		LIST(c, origins, origin_count)
	walk_text(w, &c->origins[i]);
	TEXT(c, methods);
	TEXT(c, headers);
	TEXT(c, expose);
	U32(c, max_age_s);
	BOOL(c, has_max_age);
	BOOL(c, credentials);
	BOOL(c, forward_unmatched_preflights);
}

static void walk_retry(struct walk *w, struct http_retry *r)
{
	U32(r, attempts);
	U32(r, per_try_timeout_ms);
	U32(r, on);
	for
		LIST(r, statuses, status_count)
	number(w, "status", &r->statuses[i], sizeof(r->statuses[i]), 65535);
	U32(r, backoff_ms);
	U32(r, backoff_max_ms);
	BOOL(r, other_hosts);
	BOOL(r, remote_localities);
}

static void walk_route(struct walk *w, struct http_route *r)
{
	TEXT(r, name);
	TEXT(r, origin);
	TEXT(r, owner);
	for
		LIST(r, matches, match_count)
	walk_match(w, &r->matches[i]);
	if (pointer(w, &r->redirect, sizeof(*r->redirect)))
		walk_redirect(w, r->redirect);
	if (pointer(w, &r->direct, sizeof(*r->direct)))
		walk_direct(w, r->direct);
	walk_destinations(w, &r->destinations, &r->destination_count, &r->total_weight);
	BOOL(r, invalid_backend);
	NUMBER(r, invalid_weight, 1000);
	if (pointer(w, &r->rewrite, sizeof(*r->rewrite)))
		walk_rewrite(w, r->rewrite);
	walk_ops(w, &r->request);
	walk_ops(w, &r->response);
	if (pointer(w, &r->fault, sizeof(*r->fault)))
		walk_fault(w, r->fault);
	for
		LIST(r, mirrors, mirror_count)
		{
			TEXT(&r->mirrors[i], cluster);
			NUMBER(&r->mirrors[i], share.ppm, 1000000);
		}
	if (pointer(w, &r->cors, sizeof(*r->cors)))
		walk_cors(w, r->cors);
	walk_retry(w, &r->retry);
	U32(r, timeout_ms);
	TEXT(r, session_name);
	BOOL(r, session_header);
	BOOL(r, session_max_age);
	U32(r, session_absolute_s);
	U32(r, session_idle_s);
}

/* --- l7.h --- */

static void walk_l4(struct walk *w, struct l4_route *r)
{
	TEXTS(r, sni_hosts, sni_host_count);
	for
		LIST(r, destinations, destination_count)
		{
			address(w, &r->destinations[i].addr);
			NUMBER(&r->destinations[i], bits, 128);
		}
	walk_destinations(w, &r->clusters, &r->cluster_count, &r->total_weight);
	TEXT(r, origin);
}

static void walk_target(struct walk *w, void *object)
{
	struct l7_target *t = object;
	NUMBER(t, mode, L7_TCP);
	TEXT(t, service);
	if (w->fill)
		t->vhost = http_vhost_new();
	TEXT(t->vhost, name);
	TEXT(t->vhost, host);
	for
		LIST(t->vhost, routes, route_count)
	walk_route(w, &t->vhost->routes[i]);
	if (w->fill)
		t->vhost->include_attempt_count = false;
	sb_addf(&w->notes, "attempts=%d\n", t->vhost->include_attempt_count);
	for
		LIST(t, l4, l4_count)
	walk_l4(w, &t->l4[i]);
	TEXT(t, default_cluster);
	BOOL(t, registry_only);
}

/* --- cluster.h --- */

static void walk_endpoint(struct walk *w, struct cluster_endpoint *e)
{
	address(w, &e->addr.addr);
	NUMBER(e, addr.port, 65535);
	U32(e, weight);
	NUMBER(e, priority, 255);
	BOOL(e, healthy);
	BOOL(e, local);
	BOOL(e, enrolled);
	NUMBER(e, tunnel, ENDPOINT_HBONE);
	address(w, &e->tunnel_addr.addr);
	NUMBER(e, tunnel_addr.port, 65535);
	TEXTS(e, identities, identity_count);
	TEXT(e, hostname);
	TEXT(e, workload);
	TEXT(e, ns);
	TEXT(e, principal);
	TEXT(e, app);
	TEXT(e, version);
	TEXT(e, canonical_name);
	TEXT(e, canonical_revision);
	TEXT(e, locality);
}

static void walk_tcp(struct walk *w, struct tcp_settings *t)
{
	U32(t, max_connections);
	U32(t, connect_timeout_ms);
	U32(t, keepalive_time_s);
	U32(t, keepalive_interval_s);
	U32(t, keepalive_probes);
	U32(t, max_connection_duration_ms);
	U32(t, idle_timeout_ms);
}

static void walk_outlier(struct walk *w, struct cluster_outlier *o)
{
	U32(o, consecutive_5xx);
	U32(o, consecutive_gateway);
	U32(o, consecutive_local);
	BOOL(o, split_local);
	U32(o, interval_ms);
	U32(o, base_ejection_ms);
	NUMBER(o, max_ejection_percent, 100);
	NUMBER(o, min_health_percent, 100);
}

static void walk_limits(struct walk *w, struct http_cluster *c)
{
	U32(c, max_pending);
	U32(c, max_requests);
	U32(c, max_requests_per_connection);
	U32(c, max_retries);
	U32(c, retry_budget_percent);
	U32(c, retry_budget_min);
	U32(c, http_idle_ms);
	U32(c, max_concurrent_streams);
}

static void walk_cluster(struct walk *w, void *object)
{
	struct http_cluster *c = object;
	TEXT(c, name);
	TEXT(c, host);
	TEXT(c, service);
	TEXT(c, ns);
	TEXT(c, subset);
	NUMBER(c, port, 65535);
	NUMBER(c, app, APP_UNKNOWN);
	NUMBER(c, protocol, CLUSTER_AS_CLIENT);
	NUMBER(c, lb, CLUSTER_PEAK_EWMA);
	NUMBER(c, hash, HASH_QUERY);
	TEXT(c, hash_key);
	TEXT(c, cookie_path);
	U32(c, cookie_ttl_s);
	BOOL(c, cookie_make);
	TEXT(c, cookie_attributes);
	U32(c, ring_size_min);
	U32(c, maglev_size);
	U32(c, warmup_ms);
	U32(c, warmup_min_percent);
	if (w->fill)
		c->warmup_aggression = 0.1 + w->next++;
	sb_addf(&w->notes, "aggression=%a\n", c->warmup_aggression);
	walk_tcp(w, &c->tcp);
	walk_limits(w, c);
	walk_outlier(w, &c->outlier);
	NUMBER(c, tls, CLUSTER_TLS_ISTIO_MUTUAL);
	TEXT(c, sni);
	TEXTS(c, subject_alt_names, subject_alt_name_count);
	TEXT(c, ca_pem);
	TEXT(c, chain_pem);
	TEXT(c, key_pem);
	BOOL(c, insecure);
	TEXT(c, proxy_host);
	NUMBER(c, proxy_protocol, 2);
	BOOL(c, dynamic_dns);
	BOOL(c, external);
	for
		LIST(c, endpoints, endpoint_count)
	walk_endpoint(w, &c->endpoints[i]);
}

/* --- filters.h --- */

static void walk_locations(struct walk *w, struct jwt_location **v, size_t *count)
{
	size_t n = list(w, v, count, sizeof(**v));
	for (size_t i = 0; i < n; i++) {
		TEXT(&(*v)[i], name);
		TEXT(&(*v)[i], prefix);
	}
}

static void walk_jwt(struct walk *w, struct jwt_rule *j)
{
	TEXT(j, issuer);
	TEXTS(j, audiences, audience_count);
	TEXT(j, jwks);
	TEXT(j, jwks_uri);
	BOOL(j, jwks_inline);
	U32(j, jwks_timeout_ms);
	walk_locations(w, &j->headers, &j->header_count);
	walk_locations(w, &j->params, &j->param_count);
	walk_locations(w, &j->cookies, &j->cookie_count);
	BOOL(j, forward);
	TEXT(j, output_payload_header);
	for
		LIST(j, output_claims, output_claim_count)
		{
			TEXT(&j->output_claims[i], header);
			TEXT(&j->output_claims[i], claim);
		}
	TEXTS(j, space_delimited_claims, space_delimited_claim_count);
	TEXT(j, origin);
}

static void walk_bucket(struct walk *w, struct token_bucket *b)
{
	U32(b, max_tokens);
	U32(b, tokens_per_fill);
	if (w->fill)
		b->fill_interval_ms = (1ull << 40) + w->next++;
	sb_addf(&w->notes, "fill=%" PRIu64 "\n", b->fill_interval_ms);
}

static void walk_action(struct walk *w, struct limit_action *a)
{
	NUMBER(a, kind, LIMIT_METHOD);
	TEXT(a, key);
	TEXT(a, value);
	TEXT(a, header);
	BOOL(a, skip_if_absent);
	walk_fields(w, &a->matches, &a->match_count);
	BOOL(a, expect_match);
}

static void walk_limit(struct walk *w, struct rate_limit *l)
{
	TEXT(l, name);
	TEXT(l, origin);
	TEXT(l, route);
	NUMBER(l, port, 65535);
	BOOL(l, per_route);
	BOOL(l, global);
	BOOL(l, grpc_exhausted);
	BOOL(l, spare_bucket);
	TEXT(l, vhost);
	walk_bucket(w, &l->bucket);
	BOOL(l, has_bucket);
	for
		LIST(l, descriptors, descriptor_count)
		{
			struct limit_descriptor *d = &l->descriptors[i];
			size_t entries = list(w, &d->entries, &d->entry_count, sizeof(*d->entries));
			for (size_t e = 0; e < entries; e++) {
				TEXT(&d->entries[e], key);
				TEXT(&d->entries[e], value);
			}
			walk_bucket(w, &d->bucket);
		}
	NUMBER(l, enabled.ppm, 1000000);
	NUMBER(l, enforced.ppm, 1000000);
	NUMBER(l, status, 999);
	walk_ops(w, &l->response);
	BOOL(l, x_ratelimit_headers);
	TEXT(l, cluster);
	TEXT(l, domain);
	U32(l, timeout_ms);
	BOOL(l, failure_deny);
	for
		LIST(l, actions, action_count)
		{
			size_t actions = list(w, &l->actions[i].v, &l->actions[i].n, sizeof(*l->actions[i].v));
			for (size_t a = 0; a < actions; a++)
				walk_action(w, &l->actions[i].v[a]);
			TEXT(&l->actions[i], route);
			NUMBER(&l->actions[i], port, 65535);
			TEXT(&l->actions[i], vhost);
		}
}

static void walk_ext_authz(struct walk *w, struct ext_authz *a)
{
	TEXT(a, provider);
	BOOL(a, grpc);
	TEXT(a, cluster);
	TEXT(a, path_prefix);
	U32(a, timeout_ms);
	BOOL(a, fail_open);
	NUMBER(a, status_on_error, 999);
	TEXTS(a, include_request_headers, include_request_header_count);
	TEXTS(a, upstream_headers, upstream_header_count);
	TEXTS(a, downstream_on_deny, downstream_on_deny_count);
	TEXTS(a, downstream_on_allow, downstream_on_allow_count);
	walk_ops(w, &a->additional);
	U32(a, max_body_bytes);
	BOOL(a, allow_partial);
	BOOL(a, pack_as_bytes);
}

static void walk_lua_script(struct walk *w, struct lua_script *s)
{
	TEXT(s, name);
	TEXT(s, origin);
	TEXT(s, code);
	NUMBER(s, port, 65535);
	TEXT(s, filter);
	BOOL(s, early);
	for
		LIST(s, sources, source_count)
		{
			TEXT(&s->sources[i], name);
			TEXT(&s->sources[i], code);
		}
}

static void walk_lua_route(struct walk *w, struct lua_route *r)
{
	TEXT(r, filter);
	TEXT(r, origin);
	TEXT(r, route);
	NUMBER(r, port, 65535);
	BOOL(r, replaces);
	BOOL(r, disabled);
	TEXT(r, source);
	TEXT(r, code);
	TEXT(r, context);
	TEXT(r, metadata);
	TEXT(r, vhost);
}

static void walk_filters(struct walk *w, void *object)
{
	struct http_filters *f = object;
	for
		LIST(f, jwt, jwt_count)
	walk_jwt(w, &f->jwt[i]);
	for
		LIST(f, limits, limit_count)
	walk_limit(w, &f->limits[i]);
	for
		LIST(f, scripts, script_count)
	walk_lua_script(w, &f->scripts[i]);
	for
		LIST(f, lua_routes, lua_route_count)
	walk_lua_route(w, &f->lua_routes[i]);
	for
		LIST(f, ext_authz, ext_authz_count)
	walk_ext_authz(w, &f->ext_authz[i]);
	NUMBER(f, normalization, PATH_DECODE_AND_MERGE_SLASHES);
	BOOL(&f->proxy, preserve_case);
	BOOL(&f->proxy, no_attempt_count);
	BOOL(&f->proxy, no_request_id);
	BOOL(&f->proxy, no_envoy_headers);
	BOOL(&f->proxy, client_cert_asked);
	BOOL(&f->proxy, no_cert_uri);
	BOOL(&f->proxy, no_cert_subject);
	TEXT(&f->proxy, server);
	NUMBER(&f->proxy, client_cert, PROXY_CERT_ALWAYS_FORWARD);
	U32(&f->proxy, trusted_proxies);
}

/* --- telemetry.h --- */

static void walk_tracing(struct walk *w, struct tracing *t)
{
	TEXT(t, provider);
	NUMBER(t, sampling_ppm, 1000000);
	BOOL(t, client);
	BOOL(t, server);
	BOOL(t, no_istio_tags);
	BOOL(t, no_propagation);
	for
		LIST(t, tags, tag_count)
		{
			TEXT(&t->tags[i], name);
			NUMBER(&t->tags[i], kind, TAG_FORMATTER);
			TEXT(&t->tags[i], value);
			TEXT(&t->tags[i], default_value);
		}
}

static void walk_telemetry(struct walk *w, void *object)
{
	struct telemetry *t = object;
	BOOL(t, metrics);
	BOOL(t, server);
	for (size_t r = 0; r < REPORTER_COUNT; r++) {
		for (size_t m = 0; m < REQUEST_METRIC_COUNT; m++) {
			struct metric_override *o = &t->overrides[r][m];
			if (w->fill && m % 3 == 0)
				continue; /* the place in the array is what tells them apart */
			BOOL(o, disabled);
			for
				LIST(o, tags, tag_count)
				{
					TEXT(&o->tags[i], tag);
					BOOL(&o->tags[i], remove);
					TEXT(&o->tags[i], value);
				}
		}
		size_t n = list(w, &t->logs[r], &t->log_count[r], sizeof(*t->logs[r]));
		for (size_t i = 0; i < n; i++) {
			TEXT(&t->logs[r][i], provider);
			TEXT(&t->logs[r][i], path);
			BOOL(&t->logs[r][i], json);
			TEXT(&t->logs[r][i], format);
			TEXT(&t->logs[r][i], filter);
		}
		walk_tracing(w, &t->tracing[r]);
	}
}

/* --- there and back --- */

struct kind {
	void (*walk)(struct walk *w, void *object);
	void *(*make)(void);
	int (*seal)(void *object);
	int (*encode)(const void *object, void *out);
	int (*decode)(const void *message, void *out);
	void (*unref)(void *object);
	uint64_t (*id)(const void *object);
	const struct shape *shape;
};

#define KIND(T, name, SEAL)                                                                                            \
	static void *on_##name##_make(void)                                                                            \
	{                                                                                                              \
		return T##_new();                                                                                      \
	}                                                                                                              \
	static int on_##name##_seal(void *o)                                                                           \
	{                                                                                                              \
		struct T *object = o;                                                                                  \
		SEAL;                                                                                                  \
		T##_seal(object);                                                                                      \
		return 0;                                                                                              \
	}                                                                                                              \
	static int on_##name##_encode(const void *o, void *out)                                                        \
	{                                                                                                              \
		return message_##name##_encode(o, out);                                                                \
	}                                                                                                              \
	static int on_##name##_decode(const void *m, void *out)                                                        \
	{                                                                                                              \
		return message_##name##_decode(m, out);                                                                \
	}                                                                                                              \
	static void on_##name##_unref(void *o)                                                                         \
	{                                                                                                              \
		T##_unref(o);                                                                                          \
	}                                                                                                              \
	static uint64_t on_##name##_id(const void *o)                                                                  \
	{                                                                                                              \
		return ((const struct T *)o)->id;                                                                      \
	}                                                                                                              \
	static const struct kind name##_kind = { walk_##name,	     on_##name##_make,	 on_##name##_seal,             \
						 on_##name##_encode, on_##name##_decode, on_##name##_unref,            \
						 on_##name##_id,     &shape_##T }

KIND(l7_target, target, assert_int_equal(http_vhost_seal(object->vhost, NULL), 0));
KIND(http_cluster, cluster, (void)0);
KIND(http_filters, filters, (void)0);
KIND(telemetry, telemetry, (void)0);

static char *notes_of(const struct kind *kind, void *object)
{
	struct walk w = { 0 };
	kind->walk(&w, object);
	return sb_take(&w.notes);
}

/* Over the wire: packed and unpacked. */
static int carry(const struct kind *kind, const void *object, void **out)
{
	ProtobufCMessage *message = NULL;
	assert_int_equal(kind->encode(object, &message), 0);
	size_t len = protobuf_c_message_get_packed_size(message);
	uint8_t *bytes = malloc(len + 1);
	protobuf_c_message_pack(message, bytes);
	protobuf_c_message_free_unpacked(message, NULL);
	message = protobuf_c_message_unpack(kind->shape->message, NULL, len, bytes);
	free(bytes);
	assert_non_null(message);
	int rc = kind->decode(message, out);
	protobuf_c_message_free_unpacked(message, NULL);
	return rc;
}

static void check_kind(const struct kind *kind, unsigned int first)
{
	struct walk w = { .fill = true, .next = first };
	void *object = kind->make(), *back = NULL;
	kind->walk(&w, object);
	sb_done(&w.notes);
	kind->seal(object);
	assert_int_equal(carry(kind, object, &back), 0);
	char *before = notes_of(kind, object), *after = notes_of(kind, back);
	assert_true(strlen(before) > 500);
	assert_string_equal(before, after);
	assert_int_equal(kind->id(object), kind->id(back));
	free(before);
	free(after);
	kind->unref(object);
	kind->unref(back);
}

/* Nothing in it: every NULL stays one, and no default of the receiver's creeps in. */
static void check_empty(const struct kind *kind, void *object)
{
	void *back = NULL;
	kind->seal(object);
	assert_int_equal(carry(kind, object, &back), 0);
	assert_int_equal(kind->id(object), kind->id(back));
	kind->unref(object);
	kind->unref(back);
}

static void test_target_all_fields_come_back(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 7; i++)
		check_kind(&target_kind, i * 31);
}

static void test_cluster_all_fields_come_back(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 7; i++)
		check_kind(&cluster_kind, i * 31);
}

static void test_filters_all_fields_come_back(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 7; i++)
		check_kind(&filters_kind, i * 31);
}

static void test_telemetry_all_fields_come_back(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 7; i++)
		check_kind(&telemetry_kind, i * 31);
}

static void test_empty_objects_stay_empty(void **state)
{
	(void)state;
	struct l7_target *t = l7_target_new();
	struct http_cluster *c = http_cluster_new();
	t->vhost = http_vhost_new();
	t->vhost->name = strdup("");
	c->name = strdup("c");
	c->tcp = (struct tcp_settings){ 0 }; /* the defaults of a new one don't come back */
	c->ring_size_min = c->maglev_size = 0;
	c->warmup_aggression = 0;
	check_empty(&target_kind, t);
	check_empty(&cluster_kind, c);
	check_empty(&filters_kind, http_filters_new());
	struct telemetry *telemetry = telemetry_new();
	telemetry->metrics = false;
	check_empty(&telemetry_kind, telemetry);
}

static void test_labels_and_ports_come_back(void **state)
{
	(void)state;
	struct label labels[] = { { (char[]){ "app" }, (char[]){ "web" } }, { (char[]){ "v" }, (char[]){ "" } } };
	Weft__Link__PodSet m = WEFT__LINK__POD_SET__INIT;
	struct label *back = NULL;
	size_t count = 0;
	assert_int_equal(shape_list_encode(&shape_label, labels, 2, &m.labels, &m.n_labels), 0);
	assert_int_equal(shape_list_decode(&shape_label, m.labels, m.n_labels, &back, &count), 0);
	assert_int_equal(count, 2);
	assert_string_equal(back[0].key, "app");
	assert_string_equal(back[0].value, "web");
	assert_string_equal(back[1].key, "v");
	assert_string_equal(back[1].value, "");
	for (size_t i = 0; i < count; i++) {
		free(back[i].key);
		free(back[i].value);
		weft__link__label__free_unpacked(m.labels[i], NULL);
	}
	free(back);
	free(m.labels);
}

/* --- the tables --- */

static void check_shape(const struct shape *shape, unsigned int depth)
{
	assert_true(depth < 10);
	if (shape->field_count != shape->message->n_fields)
		fail_msg("%s has %u fields, its shape %zu", shape->message->name, shape->message->n_fields,
			 shape->field_count);
	for (size_t i = 0; i < shape->field_count; i++) {
		assert_string_equal(shape->fields[i].name, shape->message->fields[i].name);
		assert_int_equal(shape->message->fields[i].id, i + 1);
		bool many = shape->message->fields[i].label == PROTOBUF_C_LABEL_REPEATED;
		enum shape_kind kind = shape->fields[i].kind;
		assert_int_equal(many, kind == SHAPE_KIND_LIST || kind == SHAPE_KIND_TEXTS ||
					       kind == SHAPE_KIND_NUMBERS || kind == SHAPE_KIND_ARRAY);
		if (!shape->fields[i].of)
			continue;
		assert_ptr_equal(shape->fields[i].of->message, shape->message->fields[i].descriptor);
		check_shape(shape->fields[i].of, depth + 1);
	}
}

static void test_shapes_fit_their_messages(void **state)
{
	(void)state;
	const struct shape *const all[] = { &shape_l7_target, &shape_http_cluster, &shape_http_filters,
					    &shape_telemetry, &shape_label,	   &shape_inbound_port };
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		check_shape(all[i], 0);
}

/* --- nonsense --- */

static int decode_target(Weft__Link__L7Target *m)
{
	struct l7_target *t = NULL;
	int rc = message_target_decode(m, &t);
	l7_target_unref(rc == 0 ? t : NULL);
	return rc;
}

static void test_target_nonsense_is_refused(void **state)
{
	(void)state;
	Weft__Link__L7Target m = WEFT__LINK__L7_TARGET__INIT;
	assert_int_equal(decode_target(&m), 0);
	m.mode = L7_TCP + 1;
	m.has_mode = 1;
	assert_int_equal(decode_target(&m), -EINVAL);
	m.mode = L7_HTTP;

	Weft__Link__HttpVhost vhost = WEFT__LINK__HTTP_VHOST__INIT;
	m.vhost = &vhost;
	assert_int_equal(decode_target(&m), -EINVAL); /* no name */
	vhost.name = (char[]){ "v" };
	assert_int_equal(decode_target(&m), 0);

	Weft__Link__HttpRoute route = WEFT__LINK__HTTP_ROUTE__INIT, *routes[] = { &route };
	vhost.routes = routes;
	vhost.n_routes = 1;
	assert_int_equal(decode_target(&m), 0);
	route.total_weight = 1; /* of no destination */
	assert_int_equal(decode_target(&m), -EINVAL);
	Weft__Link__HttpDestination to = WEFT__LINK__HTTP_DESTINATION__INIT, *list[] = { &to };
	to.weight = 1;
	route.destinations = list;
	route.n_destinations = 1;
	assert_int_equal(decode_target(&m), -EINVAL); /* no cluster */
	to.cluster = (char[]){ "c" };
	assert_int_equal(decode_target(&m), 0);

	Weft__Link__HttpMatch match = WEFT__LINK__HTTP_MATCH__INIT, *matches[] = { &match };
	Weft__Link__HttpText path = WEFT__LINK__HTTP_TEXT__INIT;
	route.matches = matches;
	route.n_matches = 1;
	match.path = &path;
	assert_int_equal(decode_target(&m), -EINVAL); /* no text */
	path.kind = HTTP_TEXT_REGEX;
	path.text = (char[]){ "(" };
	assert_int_equal(decode_target(&m), -EINVAL);
	path.text = (char[]){ "a+" };
	assert_int_equal(decode_target(&m), 0);
	match.port = 65536;
	assert_int_equal(decode_target(&m), -EINVAL);
}

static int decode_cluster(Weft__Link__HttpCluster *m)
{
	struct http_cluster *c = NULL;
	int rc = message_cluster_decode(m, &c);
	http_cluster_unref(rc == 0 ? c : NULL);
	return rc;
}

static void test_cluster_nonsense_is_refused(void **state)
{
	(void)state;
	Weft__Link__HttpCluster m = WEFT__LINK__HTTP_CLUSTER__INIT;
	assert_int_equal(decode_cluster(&m), -EINVAL);
	m.name = (char[]){ "c" };
	assert_int_equal(decode_cluster(&m), 0);
	m.warmup_aggression = 1 / (double)0.0f;
	assert_int_equal(decode_cluster(&m), -EINVAL);
	m.warmup_aggression = 1;
	m.port = 65536;
	assert_int_equal(decode_cluster(&m), -EINVAL);
	m.port = 80;

	Weft__Link__ClusterEndpoint e = WEFT__LINK__CLUSTER_ENDPOINT__INIT, *list[] = { &e };
	m.endpoints = list;
	m.n_endpoints = 1;
	assert_int_equal(decode_cluster(&m), -EINVAL); /* no weight */
	e.weight = 1;
	assert_int_equal(decode_cluster(&m), 0);
	e.tunnel = ENDPOINT_HBONE; /* to nowhere */
	assert_int_equal(decode_cluster(&m), -EINVAL);
	e.tunnel = ENDPOINT_PLAIN;
	Weft__Link__AddrPort at = WEFT__LINK__ADDR_PORT__INIT;
	uint8_t bytes[17] = { 0 };
	at.addr = (ProtobufCBinaryData){ 15, bytes };
	e.addr = &at;
	assert_int_equal(decode_cluster(&m), -EINVAL);
	at.addr.len = 17;
	assert_int_equal(decode_cluster(&m), -EINVAL);
	at.addr.len = 16;
	assert_int_equal(decode_cluster(&m), 0);
}

/* What the other end would refuse is not sent. */
static void test_encoding_refuses_what_decoding_would(void **state)
{
	(void)state;
	struct http_filters *f = http_filters_new();
	Weft__Link__HttpFilters *m = NULL;
	f->limits = calloc(1, sizeof(*f->limits));
	f->limit_count = 1;
	assert_int_equal(message_filters_encode(f, &m), 0);
	weft__link__http_filters__free_unpacked(m, NULL);
	f->limits[0].enabled.ppm = 1000001;
	assert_int_equal(message_filters_encode(f, &m), -EINVAL);
	assert_null(m);
	f->limits[0].enabled.ppm = 0;
	f->limits[0].global = true; /* of no service */
	assert_int_equal(message_filters_encode(f, &m), -EINVAL);
	f->limits[0].global = false;
	f->normalization = PATH_DECODE_AND_MERGE_SLASHES + 1;
	assert_int_equal(message_filters_encode(f, &m), -EINVAL);
	http_filters_unref(f);

	struct http_cluster *c = http_cluster_new();
	Weft__Link__HttpCluster *cm = NULL;
	assert_int_equal(message_cluster_encode(c, &cm), -EINVAL); /* no name */
	c->name = strdup("c");
	c->warmup_aggression = -1 / (double)0.0f;
	assert_int_equal(message_cluster_encode(c, &cm), -EINVAL);
	http_cluster_unref(c);

	struct l7_target *t = l7_target_new();
	Weft__Link__L7Target *tm = NULL;
	t->vhost = http_vhost_new();
	t->vhost->name = strdup("v");
	t->vhost->routes = calloc(1, sizeof(*t->vhost->routes));
	t->vhost->route_count = 1;
	t->vhost->routes[0].total_weight = 1;
	assert_int_equal(message_target_encode(t, &tm), -EINVAL);
	t->vhost->routes[0].total_weight = 0;
	t->vhost->routes[0].matches = calloc(1, sizeof(struct http_match));
	t->vhost->routes[0].match_count = 1;
	t->vhost->routes[0].matches[0].headers = calloc(1, sizeof(struct http_field_match));
	t->vhost->routes[0].matches[0].headers[0].name = strdup("h");
	t->vhost->routes[0].matches[0].header_count = 1;
	assert_int_equal(message_target_encode(t, &tm), -EINVAL); /* a value of no text */
	l7_target_unref(t);
}

static void test_list_too_long_is_refused(void **state)
{
	(void)state;
	Weft__Link__HttpFilters m = WEFT__LINK__HTTP_FILTERS__INIT;
	Weft__Link__JwtRule rule = WEFT__LINK__JWT_RULE__INIT;
	rule.issuer = (char[]){ "i" };
	size_t count = SHAPE_COUNT_MAX + 1;
	m.jwt = calloc(count, sizeof(Weft__Link__JwtRule *));
	for (size_t i = 0; i < count; i++)
		m.jwt[i] = &rule;
	m.n_jwt = count;
	struct http_filters *f = NULL;
	assert_int_equal(message_filters_decode(&m, &f), -EINVAL);
	m.n_jwt = count - 1;
	assert_int_equal(message_filters_decode(&m, &f), 0);
	http_filters_unref(f);
	free(m.jwt);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_target_all_fields_come_back),
		cmocka_unit_test(test_cluster_all_fields_come_back),
		cmocka_unit_test(test_filters_all_fields_come_back),
		cmocka_unit_test(test_telemetry_all_fields_come_back),
		cmocka_unit_test(test_empty_objects_stay_empty),
		cmocka_unit_test(test_labels_and_ports_come_back),
		cmocka_unit_test(test_shapes_fit_their_messages),
		cmocka_unit_test(test_target_nonsense_is_refused),
		cmocka_unit_test(test_cluster_nonsense_is_refused),
		cmocka_unit_test(test_encoding_refuses_what_decoding_would),
		cmocka_unit_test(test_list_too_long_is_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
