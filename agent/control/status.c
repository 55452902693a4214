/* SPDX-License-Identifier: Apache-2.0 */
/* Health, metrics, version, log level, precheck, reasons. */
#include "agent/control/request.h"

#include <errno.h>
#include <string.h>

#include <jansson.h>
#include <microhttpd.h>

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/str.h"
#include "agent/control/backend.h"
#include "agent/control/json.h"
#include "agent/model/plan.h"
#include "agent/source/store.h"
#include "version.h"

static uint64_t now_s(void)
{
	return clock_wall_ns() / 1000000000u;
}

static bool status_get(struct request *rq, struct control_status *out)
{
	const struct control_backend *b = request_backend(rq);

	*out = (struct control_status){ 0 };
	if (!b->status) {
		reply_missing(rq);
		return false;
	}
	b->status(out, b->arg);
	return true;
}

static json_t *problem_json(const struct rejection *r)
{
	json_t *o = json_object();

	json_set_text(o, "key", r->key);
	json_set_text(o, "origin", r->origin);
	json_set_text(o, "text", r->text);
	json_set_bool(o, "warning", r->warning);
	json_set_bool(o, "last_good", r->last_good);
	json_set_u64(o, "since_s", r->since_s);
	return o;
}

static json_t *config_json(const struct control_backend *b, const struct control_status *s)
{
	const struct store *store = b->store ? b->store(b->arg) : NULL;
	json_t *o = json_object(), *problems = json_array();
	size_t count = 0, rejected = 0;

	const struct rejection *rejections = store ? store_rejections(store, &count) : NULL;
	for (size_t i = 0; i < count; i++) {
		rejected += !rejections[i].warning;
		json_add(problems, problem_json(&rejections[i]));
	}
	json_set_text_if(o, "dir", s->config_dir);
	json_set_u64(o, "revision", store ? store_revision(store) : 0);
	json_set_bool(o, "settled", s->config_settled);
	if (s->rolled_back_to)
		json_set_u64(o, "rolled_back_to", s->rolled_back_to);
	json_set_u64(o, "resources", store ? store_count(store) : 0);
	json_set_u64(o, "rejected", rejected);
	json_set_u64(o, "warnings", count - rejected);
	json_set(o, "problems", problems);
	return o;
}

static json_t *helper_json(const struct control_status *s)
{
	json_t *o = json_object();

	json_set(o, "pid", s->helper.pid ? json_integer(s->helper.pid) : json_null());
	json_set_bool(o, "ready", s->helper.ready);
	json_set_u64(o, "uptime_s", s->helper.uptime_s);
	json_set_u64(o, "restarts", s->helper.restarts);
	json_set_u64(o, "draining", s->helper.draining);
	json_set_u64(o, "orphans", s->helper.orphans);
	json_set_u64(o, "endpoints", s->helper.endpoints);
	return o;
}

static json_t *pods_json(const struct control_backend *b, const struct plan *plan)
{
	json_t *o = json_object(), *failed = json_array();
	size_t local = 0, enrolled = 0, ready = 0;

	for (size_t i = 0; plan && b->pod && i < plan->workload_count; i++) {
		const struct workload *w = plan->workloads[i];
		struct control_pod pod = { 0 };
		if (!workload_is_local(w) || !w->enrolled)
			continue;
		b->pod(w, &pod, b->arg);
		local++;
		enrolled += pod.enrolled;
		ready += pod.ready;
		if (!pod.error)
			continue;
		json_t *f = json_object();
		json_set_text(f, "workload", w->uid);
		json_set_text(f, "error", pod.error);
		json_add(failed, f);
	}
	json_set_u64(o, "local", local);
	json_set_u64(o, "enrolled", enrolled);
	json_set_u64(o, "ready", ready);
	json_set(o, "failed", failed);
	return o;
}

struct cert_counts {
	size_t issued, revoked;
	uint64_t first_expiry_s;
};

static void on_cert_count(const struct control_cert *cert, void *ctx)
{
	struct cert_counts *counts = ctx;

	counts->issued++;
	counts->revoked += cert->revoked;
	if (!cert->revoked && (!counts->first_expiry_s || cert->not_after_s < counts->first_expiry_s))
		counts->first_expiry_s = cert->not_after_s;
}

static json_t *certificates_json(const struct control_backend *b, const struct control_status *s)
{
	struct cert_counts counts = { 0 };
	json_t *o = json_object();

	if (b->certs)
		b->certs(on_cert_count, &counts, b->arg);
	json_set_u64(o, "issued", counts.issued);
	json_set_u64(o, "revoked", counts.revoked);
	json_set_u64(o, "root_not_after_s", s->root_not_after_s);
	json_set_u64(o, "signer_not_after_s", s->signer_not_after_s);
	json_set_text_if(o, "warning", s->ca_warning);
	return o;
}

static void on_keys(const struct control_keys *keys, void *ctx)
{
	json_t *o = json_object();

	json_set_text(o, "uri", keys->uri);
	json_set_text_if(o, "error", keys->error);
	json_set_u64(o, "last_ok_s", keys->last_ok_s);
	json_add(ctx, o);
}

static json_t *keys_json(const struct control_backend *b)
{
	json_t *list = json_array();

	if (b->keys)
		b->keys(on_keys, list, b->arg);
	return list;
}

static void on_map(const struct map_fill *fill, void *ctx)
{
	json_t *o = json_object();

	json_set_text(o, "name", fill->name);
	json_set_u64(o, "entries", fill->entries);
	json_set_u64(o, "max_entries", fill->max_entries);
	json_add(ctx, o);
}

static json_t *counters_json(const struct control_status *s)
{
	json_t *drops = json_object();

	for (int i = DROP_NONE + 1; i < DROP_REASON_COUNT; i++)
		if (s->drops[i])
			json_set_u64(drops, text_of_reason((enum drop_reason)i), s->drops[i]);
	return drops;
}

static json_t *by_path_json(const uint64_t counts[FLOW_PATH_COUNT])
{
	json_t *o = json_object();

	for (int i = 0; i < FLOW_PATH_COUNT; i++)
		json_set_u64(o, text_of_flow_path((enum flow_path)i), counts[i]);
	return o;
}

void handle_status(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	const struct plan *plan = b->plan ? b->plan(b->arg) : NULL;
	struct control_status s;
	if (!status_get(rq, &s))
		return;

	json_t *o = json_object();
	json_set_text(o, "node", s.node);
	json_set_text(o, "instance", s.instance);
	json_set_text(o, "version", s.version ? s.version : WEFT_VERSION);
	json_set_u64(o, "uptime_s", s.started_s && now_s() > s.started_s ? now_s() - s.started_s : 0);
	json_set_bool(o, "ready", !s.not_ready);
	json_set_text_if(o, "not_ready", s.not_ready);
	json_set(o, "config", config_json(b, &s));
	json_set(o, "helper", helper_json(&s));
	json_set(o, "pods", pods_json(b, plan));
	json_set_text_if(o, "trust_domain", plan ? plan->mesh.trust_domain : NULL);
	json_set_u64(o, "services", plan ? plan->service_count : 0);
	json_set_u64(o, "workloads", plan ? plan->workload_count : 0);
	json_set(o, "certificates", certificates_json(b, &s));
	json_set(o, "token_keys", keys_json(b));
	json_set(o, "connections", by_path_json(s.connections));
	json_set(o, "accepted", by_path_json(s.accepted));
	json_set(o, "drops", counters_json(&s));
	json_set_u64(o, "flows_lost", s.flows_lost);
	json_t *maps = json_array();
	if (b->maps)
		b->maps(on_map, maps, b->arg);
	json_set(o, "maps", maps);
	reply_json(rq, o);
}

void handle_healthz(struct request *rq)
{
	reply_text(rq, "text/plain; charset=utf-8", strdup("ok\n"));
}

void handle_readyz(struct request *rq)
{
	struct control_status s;
	if (!status_get(rq, &s))
		return;
	if (s.not_ready)
		reply_error(rq, MHD_HTTP_SERVICE_UNAVAILABLE, "%s", s.not_ready);
	else
		reply_text(rq, "text/plain; charset=utf-8", strdup("ok\n"));
}

void handle_metrics(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	const char *accept = request_header(rq, MHD_HTTP_HEADER_ACCEPT);
	bool openmetrics = accept && strstr(accept, "application/openmetrics-text");
	struct sb sb = { 0 };

	if (!b->metrics) {
		reply_missing(rq);
		return;
	}
	b->metrics(openmetrics, &sb, b->arg);
	reply_text(rq,
		   openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8" :
				 "text/plain; version=0.0.4; charset=utf-8",
		   sb_take(&sb));
}

void handle_version(struct request *rq)
{
	json_t *o = json_object();

	json_set_text(o, "version", WEFT_VERSION);
	json_set_text(o, "api", "v1");
	reply_json(rq, o);
}

static void on_precheck(const struct precheck_item *item, void *ctx)
{
	json_t *o = json_object();

	json_set_text(o, "what", item->what);
	json_set_bool(o, "ok", item->ok);
	json_set_bool(o, "required", item->required);
	json_set_text_if(o, "detail", item->detail);
	json_add(ctx, o);
}

void handle_precheck(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	if (!b->precheck) {
		reply_missing(rq);
		return;
	}
	json_t *items = json_array(), *o = json_object();
	int rc = b->precheck(on_precheck, items, b->arg);
	json_set_bool(o, "ok", rc == 0);
	json_set(o, "items", items);
	reply_json(rq, o);
}

void handle_log_get(struct request *rq)
{
	json_t *o = json_object();

	json_set_text(o, "level", log_level_name(log_get_level()));
	reply_json(rq, o);
}

void handle_log_put(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	const json_t *body = request_body(rq);
	enum log_level level;
	if (!body)
		return;
	const char *text = json_string_value(json_object_get(body, "level"));
	if (!text || log_level_parse(text, &level) < 0) {
		reply_error(rq, MHD_HTTP_BAD_REQUEST, "\"%.40s\" is not a log level: error, warn, info or debug",
			    text ? text : "");
		return;
	}
	if (level != log_get_level())
		log_info("log level is now %s", log_level_name(level));
	log_set_level(level);
	if (b->log_level_changed)
		b->log_level_changed(b->arg);
	handle_log_get(rq);
}

void handle_reasons(struct request *rq)
{
	json_t *items = json_array();

	for (int i = DROP_NONE + 1; i < DROP_REASON_COUNT; i++) {
		json_t *o = json_object();
		json_set_text(o, "name", text_of_reason((enum drop_reason)i));
		json_set_text(o, "help", text_of_reason_help((enum drop_reason)i));
		json_add(items, o);
	}
	reply_json(rq, json_of_items(items));
}

void handle_index(struct request *rq)
{
	json_t *items = json_array();

	for (const struct route *r = NULL; (r = route_next(r));) {
		json_t *o = json_object();
		json_set_text(o, "method", r->method);
		json_set_text(o, "path", r->path);
		json_set_text(o, "about", r->about);
		json_add(items, o);
	}
	reply_json(rq, json_of_items(items));
}
