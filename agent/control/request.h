/* SPDX-License-Identifier: Apache-2.0 */
/* A request of the admin API as its handler sees it. Internal to agent/control; loop thread. A handler answers exactly
 * once, with one of the reply_ functions, or calls request_wait() and answers later. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct control;
struct control_backend;
struct err;
struct json_t;
struct plan;
struct request;

typedef void (*request_fn)(struct request *rq);

enum { REQUEST_CAPTURES_MAX = 3, REQUEST_BODY_MAX = 64 * 1024 };

struct control *request_control(const struct request *rq);
const struct control_backend *request_backend(const struct request *rq);
/* The plan in force; NULL: 503 has been answered. */
const struct plan *request_plan(struct request *rq);
const char *request_capture(const struct request *rq, size_t i);       /* the i-th `*` of the route; NULL: not there */
const char *request_query(const struct request *rq, const char *name); /* NULL: absent or empty */
bool request_query_true(const struct request *rq, const char *name);   /* "", 1, true, yes */
/* Absent: *out stays. False: 400 has been answered. */
bool request_query_u64(struct request *rq, const char *name, uint64_t max, uint64_t *out);
const char *request_header(const struct request *rq, const char *name);
/* The body as a JSON object (borrowed), an empty one when there is none; NULL: 400 has been answered. */
struct json_t *request_body(struct request *rq);

void reply_json(struct request *rq, struct json_t *json);		   /* takes the reference; NULL: 500 */
void reply_text(struct request *rq, const char *content_type, char *text); /* takes text; NULL: 500 */
void reply_error(struct request *rq, unsigned int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void reply_err(struct request *rq, int rc, const struct err *err); /* -ENOENT 404, -EINVAL 400, ... */
void reply_missing(struct request *rq);				   /* 501: the backend lacks the function */

/* A reply of unknown length. read: fills buf, returns the count, 0 to wait for stream_wake(), -1 at the end. */
typedef ssize_t (*stream_read_fn)(void *arg, char *buf, size_t size);
struct stream;
void reply_stream(struct request *rq, const char *content_type, stream_read_fn read, void (*done)(void *arg),
		  void *arg);
struct stream *request_stream(struct request *rq); /* of the reply_stream() just made */
void stream_wake(struct stream *stream);

/* The answer comes later, from outside the handler. The request lives until request_resume(). */
void request_wait(struct request *rq);
void request_resume(struct request *rq);	  /* after one reply_ call */
bool request_cancelled(const struct request *rq); /* control is gone: no reply_, only request_resume() */

/* --- the handlers, by file */
void handle_status(struct request *rq);
void handle_healthz(struct request *rq);
void handle_readyz(struct request *rq);
void handle_metrics(struct request *rq);
void handle_version(struct request *rq);
void handle_precheck(struct request *rq);
void handle_log_get(struct request *rq);
void handle_log_put(struct request *rq);
void handle_reasons(struct request *rq);
void handle_index(struct request *rq);
void handle_resources(struct request *rq);
void handle_workloads(struct request *rq);
void handle_services(struct request *rq);
void handle_policies(struct request *rq);
void handle_explain(struct request *rq);
void handle_http_explain(struct request *rq);
void handle_http_routes(struct request *rq);
void handle_tap(struct request *rq);
void handle_authz_check(struct request *rq);
void handle_tls_check(struct request *rq);
void handle_flows(struct request *rq);
void handle_proxy_config(struct request *rq);
void handle_certs(struct request *rq);
void handle_cert_rotate(struct request *rq);
void handle_cert_revoke(struct request *rq);
void handle_config_history(struct request *rq);
void handle_config_diff(struct request *rq);
void handle_analyze(struct request *rq);
void handle_config_rollback(struct request *rq);

/* routes.c */
enum { ROUTE_ADMIN = 1, ROUTE_PUBLIC = 2, ROUTE_CHANGES = 4 }; /* on the unix socket; also on TCP; root's */
struct route {
	const char *method, *path; /* '*' captures one segment */
	unsigned int flags;
	request_fn fn;
	const char *about; /* of GET /v1 */
};
/* Finds the route; *captures are pointers into path, which is cut up. NULL with *wrong_method: another would do. */
const struct route *route_find(const char *method, char *path, const char *captures[REQUEST_CAPTURES_MAX],
			       bool *wrong_method);
const struct route *route_next(const struct route *after); /* NULL: the first; NULL at the end */
