/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates, revisions, and what the helper holds. */
#include "agent/control/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/compile.h"
#include "agent/control/backend.h"
#include "agent/control/json.h"
#include "agent/control/objects.h"
#include "agent/model/plan.h"

static void on_cert(const struct control_cert *cert, void *ctx)
{
	json_t *o = json_object();

	json_set_text(o, "identity", cert->identity);
	json_set_text(o, "serial", cert->serial);
	json_set_u64(o, "not_before_s", cert->not_before_s);
	json_set_u64(o, "not_after_s", cert->not_after_s);
	json_set_bool(o, "revoked", cert->revoked);
	json_add(ctx, o);
}

static void on_root(const struct control_root *root, void *ctx)
{
	json_t *o = json_object();

	json_set_text(o, "subject", root->subject);
	json_set_text(o, "fingerprint", root->fingerprint);
	json_set_u64(o, "not_after_s", root->not_after_s);
	if (root->trusted_until_s)
		json_set_u64(o, "trusted_until_s", root->trusted_until_s);
	json_set_bool(o, "signs", root->signs);
	json_set_bool(o, "extra", root->extra);
	json_add(ctx, o);
}

static json_t *certs_json(const struct control_backend *b)
{
	json_t *items = json_array(), *roots = json_array();

	b->certs(on_cert, items, b->arg);
	if (b->roots)
		b->roots(on_root, roots, b->arg);
	json_t *o = json_of_items(items);
	json_set(o, "roots", roots);
	return o;
}

void handle_certs(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);

	if (b->certs)
		reply_json(rq, certs_json(b));
	else
		reply_missing(rq);
}

/* A text member of the body. False: answered. */
static bool body_text(struct request *rq, const char *name, bool required, const char **out)
{
	const json_t *body = request_body(rq);
	if (!body)
		return false;
	const json_t *value = json_object_get(body, name);
	*out = json_string_value(value);
	if (*out || (!value && !required) || (json_is_null(value) && !required))
		return true;
	reply_error(rq, 400, "the body must be an object with the text \"%s\"", name);
	return false;
}

void handle_cert_rotate(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	const char *identity;
	struct err err = ERR_INIT;
	if (!b->cert_rotate) {
		reply_missing(rq);
		return;
	}
	if (!body_text(rq, "identity", false, &identity))
		return;
	int rc = b->cert_rotate(identity, &err, b->arg);
	if (rc < 0) {
		reply_err(rq, rc, &err);
		return;
	}
	json_t *o = json_object();
	json_set_text(o, "rotating", identity ? identity : "all");
	reply_json(rq, o);
}

void handle_cert_revoke(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	const char *serial;
	struct err err = ERR_INIT;
	if (!b->cert_revoke) {
		reply_missing(rq);
		return;
	}
	if (!body_text(rq, "serial", true, &serial))
		return;
	int rc = b->cert_revoke(serial, &err, b->arg);
	if (rc < 0) {
		reply_err(rq, rc, &err);
		return;
	}
	json_t *o = json_object();
	json_set_text(o, "revoked", serial);
	reply_json(rq, o);
}

static void on_revision(const struct control_revision *r, void *ctx)
{
	json_t *o = json_object();

	json_set_u64(o, "revision", r->number);
	json_set_u64(o, "time_s", r->time_s);
	json_set_text(o, "summary", r->summary);
	json_set_bool(o, "rollback", r->rollback);
	json_set_bool(o, "current", r->current);
	json_add(ctx, o);
}

void handle_config_history(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	if (!b->revisions) {
		reply_missing(rq);
		return;
	}
	json_t *items = json_array();
	b->revisions(on_revision, items, b->arg);
	reply_json(rq, json_of_items(items));
}

void handle_config_diff(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	uint64_t from = 0, to = 0;
	struct err err = ERR_INIT;
	if (!b->revision_diff) {
		reply_missing(rq);
		return;
	}
	if (!request_query_u64(rq, "from", INT64_MAX, &from) || !request_query_u64(rq, "to", INT64_MAX, &to))
		return;
	if (!from || !to) {
		reply_error(rq, 400,
			    "from= and to= are needed: numbers of revisions, as /v1/config/history lists them");
		return;
	}
	struct sb text = { 0 };
	int rc = b->revision_diff(from, to, &text, &err, b->arg);
	if (rc == 0) {
		reply_text(rq, "text/plain; charset=utf-8", sb_take(&text));
		return;
	}
	sb_done(&text);
	reply_err(rq, rc, &err);
}

void handle_config_rollback(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	struct err err = ERR_INIT;
	if (!b->revision_rollback) {
		reply_missing(rq);
		return;
	}
	const json_t *body = request_body(rq);
	if (!body)
		return;
	json_int_t to = json_integer_value(json_object_get(body, "revision"));
	if (to <= 0) {
		reply_error(rq, 400, "the body must be an object with the number \"revision\"");
		return;
	}
	int rc = b->revision_rollback((uint64_t)to, &err, b->arg);
	if (rc < 0) {
		reply_err(rq, rc, &err);
		return;
	}
	json_t *o = json_object();
	json_set_u64(o, "rolled_back_to", (uint64_t)to);
	reply_json(rq, o);
}

struct analysis {
	json_t *items;
	const char *ns; /* NULL: all */
};

static bool key_in_namespace(const char *key, const char *ns)
{
	const char *slash = strchr(key, '/');
	size_t len = strlen(ns);

	return slash && strncmp(slash + 1, ns, len) == 0 && slash[1 + len] == '/';
}

static void on_finding(const struct finding *f, void *ctx)
{
	static const char *const severities[] = {
		[FINDING_INFO] = "info", [FINDING_WARNING] = "warning", [FINDING_ERROR] = "error"
	};
	struct analysis *a = ctx;
	if (a->ns && !key_in_namespace(f->key, a->ns))
		return;

	json_t *o = json_object();
	json_set_text(o, "severity", severities[f->severity]);
	json_set_text(o, "key", f->key);
	json_set_text(o, "origin", f->origin);
	json_set_text(o, "text", f->text);
	json_add(a->items, o);
}

void handle_analyze(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	struct analysis a = { .ns = request_query(rq, "namespace") };
	struct err err = ERR_INIT;
	if (!b->analyze) {
		reply_missing(rq);
		return;
	}
	a.items = json_array();
	int rc = b->analyze(on_finding, &a, b->arg);
	if (rc == 0) {
		reply_json(rq, json_of_items(a.items));
		return;
	}
	json_decref(a.items);
	reply_err(rq, rc, &err);
}

/* What each pod of this node listens with. */
static json_t *listeners_json(struct request *rq, const struct plan *plan)
{
	static const char *const all[] = { "outbound capture", "HBONE :15008", "inbound attested", "inbound plaintext",
					   "DNS" };
	const struct control_backend *b = request_backend(rq);
	json_t *items = json_array();

	for (size_t i = 0; i < plan->workload_count; i++) {
		const struct workload *w = plan->workloads[i];
		struct control_pod pod = { 0 };
		if (!workload_is_local(w) || !w->enrolled)
			continue;
		if (b->pod)
			b->pod(w, &pod, b->arg);
		json_t *o = json_object(), *names = json_array();
		for (size_t k = 0; pod.ready && k < ARRAY_SIZE(all); k++)
			json_add(names, json_string(all[k]));
		json_set_text(o, "workload", w->uid);
		json_set_text(o, "identity", w->identity->uri);
		json_set_bool(o, "ready", pod.ready);
		json_set(o, "listeners", names);
		json_set_text(o, "mtls", w->policy ? text_of_mtls(w->policy->mtls) : NULL);
		json_set_u64(o, "rules", w->policy ? w->policy->rule_count : 0);
		json_add(items, o);
	}
	return items;
}

static json_t *clusters_json(const struct plan *plan, const char *ns)
{
	json_t *items = json_array();

	for (size_t i = 0; i < plan->service_count; i++)
		if (!ns || str_eq(plan->services[i]->ns, ns))
			json_add(items, service_json(plan, plan->services[i], false));
	return items;
}

static json_t *endpoints_json(const struct plan *plan, const char *ns)
{
	json_t *items = json_array();

	for (size_t i = 0; i < plan->service_count; i++) {
		const struct service *s = plan->services[i];
		for (size_t p = 0; (!ns || str_eq(s->ns, ns)) && p < s->port_count; p++) {
			for (size_t e = 0; e < s->ports[p].endpoint_count; e++) {
				json_t *o = endpoint_json(plan, &s->ports[p], e, NULL);
				json_set_text(o, "service", s->hostname);
				json_set_u64(o, "service_port", s->ports[p].port);
				json_set_text(o, "protocol", text_of_proto(s->ports[p].proto));
				json_add(items, o);
			}
		}
	}
	return items;
}

struct dump {
	struct request *rq;
	json_t *object; /* the answer so far */
	const char *member;
};

static void on_dump(const char *json, void *ctx)
{
	struct dump *d = ctx;
	struct request *rq = d->rq;

	if (request_cancelled(rq)) {
		json_decref(d->object);
	} else {
		json_t *value = json ? json_loads(json, 0, NULL) : NULL;
		if (!value) {
			json_set_text(d->object, "problem", "the helper did not answer");
			value = json_array();
		}
		json_set(d->object, d->member, value);
		reply_json(rq, d->object);
	}
	free(d);
	request_resume(rq);
}

/* Answers with object and, under member, what the helper says. Takes object. */
static void reply_with_dump(struct request *rq, const char *what, const char *member, json_t *object)
{
	const struct control_backend *b = request_backend(rq);
	struct dump *d = calloc(1, sizeof(*d));

	if (!b->dump || !d) {
		free(d);
		json_set_text(object, "problem", "the helper can't be asked");
		json_set(object, member, json_array());
		reply_json(rq, object);
		return;
	}
	*d = (struct dump){ .rq = rq, .object = object, .member = member };
	request_wait(rq);
	int rc = b->dump(what, on_dump, d, b->arg);
	if (rc < 0)
		on_dump(NULL, d);
}

void handle_proxy_config(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	const char *what = request_capture(rq, 0), *ns = request_query(rq, "namespace");
	const struct plan *plan = request_plan(rq);
	if (!plan)
		return;

	if (str_eq(what, "listeners")) {
		reply_json(rq, json_of_items(listeners_json(rq, plan)));
	} else if (str_eq(what, "clusters")) {
		reply_json(rq, json_of_items(clusters_json(plan, ns)));
	} else if (str_eq(what, "endpoints")) {
		reply_json(rq, json_of_items(endpoints_json(plan, ns)));
	} else if (str_eq(what, "secrets")) {
		json_t *o = b->certs ? certs_json(b) : json_object();
		json_object_del(o, "items");
		reply_with_dump(rq, "secrets", "items", o);
	} else if (str_eq(what, "connections") || str_eq(what, "pools") || str_eq(what, "pods") ||
		   str_eq(what, "http-connections") || str_eq(what, "http-pools")) {
		reply_with_dump(rq, what, "items", json_object());
	} else if (str_eq(what,
			  "upstreams")) { /* clusters as the helper's workers see them: live requests, ejections */
		reply_with_dump(rq, "clusters", "items", json_object());
	} else if (str_eq(what, "all")) {
		json_t *o = json_object();
		json_set(o, "listeners", listeners_json(rq, plan));
		json_set(o, "clusters", clusters_json(plan, ns));
		json_set(o, "endpoints", endpoints_json(plan, ns));
		reply_with_dump(rq, "secrets", "secrets", o);
	} else {
		reply_error(
			rq, 404,
			"\"%.40s\" is none of listeners, clusters, endpoints, upstreams, secrets, connections, pools, "
			"http-connections, http-pools, pods, all",
			what);
	}
}
