/* SPDX-License-Identifier: Apache-2.0 */
/* What handlers ask of a request, and how they answer: at once, as a stream, or later. */
#include "agent/control/request.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <microhttpd.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/control/backend.h"
#include "agent/control/internal.h"
#include "agent/control/request_internal.h"
#include "agent/control/server.h"

enum { STREAM_BLOCK = 16 * 1024 };

void request_unref(struct request *rq)
{
	if (--rq->refs)
		return;
	json_decref(rq->json);
	sb_done(&rq->body);
	free(rq->path);
	free(rq);
}

struct control *request_control(const struct request *rq)
{
	return server_control(rq->server);
}

const struct control_backend *request_backend(const struct request *rq)
{
	return control_backend(server_control(rq->server));
}

const struct plan *request_plan(struct request *rq)
{
	const struct control_backend *b = request_backend(rq);
	const struct plan *plan = b->plan ? b->plan(b->arg) : NULL;

	if (!plan)
		reply_error(rq, MHD_HTTP_SERVICE_UNAVAILABLE, "the first configuration has not been compiled yet");
	return plan;
}

const char *request_capture(const struct request *rq, size_t i)
{
	return i < REQUEST_CAPTURES_MAX ? rq->captures[i] : NULL;
}

const char *request_query(const struct request *rq, const char *name)
{
	const char *value = MHD_lookup_connection_value(rq->connection, MHD_GET_ARGUMENT_KIND, name);

	return value && *value ? value : NULL;
}

bool request_query_true(const struct request *rq, const char *name)
{
	const char *value = NULL;
	size_t len;
	if (MHD_lookup_connection_value_n(rq->connection, MHD_GET_ARGUMENT_KIND, name, strlen(name), &value, &len) !=
	    MHD_YES)
		return false;
	return !value || !*value || str_eq(value, "1") || str_eq(value, "true") || str_eq(value, "yes");
}

bool request_query_u64(struct request *rq, const char *name, uint64_t max, uint64_t *out)
{
	const char *value = request_query(rq, name);
	if (!value || str_to_u64(value, max, out) == 0)
		return true;
	reply_error(rq, MHD_HTTP_BAD_REQUEST, "%s=%.40s is not a number from 0 to %llu", name, value,
		    (unsigned long long)max);
	return false;
}

const char *request_header(const struct request *rq, const char *name)
{
	return MHD_lookup_connection_value(rq->connection, MHD_HEADER_KIND, name);
}

struct json_t *request_body(struct request *rq)
{
	json_error_t why;

	if (rq->json)
		return rq->json;
	rq->json = rq->body.len ? json_loadb(rq->body.p, rq->body.len, JSON_REJECT_DUPLICATES, &why) : json_object();
	if (!json_is_object(rq->json)) {
		reply_error(rq, MHD_HTTP_BAD_REQUEST, "the body is not a JSON object%s%s", rq->json ? "" : ": ",
			    rq->json ? "" : why.text);
		return NULL;
	}
	return rq->json;
}

static void reply_set(struct request *rq, unsigned int status, const char *content_type, struct MHD_Response *response)
{
	if (rq->response) /* an error after a first reply: the later one tells more */
		MHD_destroy_response(rq->response);
	rq->response = response;
	rq->status = status;
	if (response)
		MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
}

static void reply_body(struct request *rq, unsigned int status, const char *content_type, char *text)
{
	reply_set(rq, status, content_type, MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE));
	if (!rq->response)
		free(text);
}

static void reply_json_status(struct request *rq, unsigned int status, json_t *json)
{
	char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_PRESERVE_ORDER) : NULL;
	json_decref(json);
	struct sb sb = { 0 };
	if (text) {
		sb_add(&sb, text);
		sb_add(&sb, "\n");
	}
	free(text);
	char *body = text ? sb_take(&sb) : NULL;
	if (body)
		reply_body(rq, status, "application/json", body);
	else
		reply_set(rq, MHD_HTTP_INTERNAL_SERVER_ERROR, "application/json",
			  MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT));
}

void reply_json(struct request *rq, struct json_t *json)
{
	if (json)
		reply_json_status(rq, MHD_HTTP_OK, json);
	else
		reply_error(rq, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory for the answer");
}

void reply_text(struct request *rq, const char *content_type, char *text)
{
	if (text)
		reply_body(rq, MHD_HTTP_OK, content_type, text);
	else
		reply_error(rq, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory for the answer");
}

void reply_error(struct request *rq, unsigned int status, const char *format, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	json_t *sentence = json_string(text);
	if (!sentence) /* a name from outside that is not UTF-8 */
		sentence = json_string("the request is not valid UTF-8");
	reply_json_status(rq, status, json_pack("{s:o}", "error", sentence));
}

void reply_err(struct request *rq, int rc, const struct err *err)
{
	unsigned int status = rc == -ENOENT		    ? MHD_HTTP_NOT_FOUND :
			      rc == -EINVAL		    ? MHD_HTTP_BAD_REQUEST :
			      rc == -EPERM || rc == -EACCES ? MHD_HTTP_FORBIDDEN :
			      rc == -EBUSY || rc == -EEXIST ? MHD_HTTP_CONFLICT :
			      rc == -ENOTSUP		    ? MHD_HTTP_NOT_IMPLEMENTED :
			      rc == -EAGAIN		    ? MHD_HTTP_SERVICE_UNAVAILABLE :
							      MHD_HTTP_INTERNAL_SERVER_ERROR;
	char why[128];
	reply_error(rq, status, "%s", err->text[0] ? err->text : strerror_r(-rc, why, sizeof(why)));
}

void reply_missing(struct request *rq)
{
	reply_error(rq, MHD_HTTP_NOT_IMPLEMENTED, "this agent does not offer that");
}

static ssize_t on_stream_read(void *cls, uint64_t pos, char *buf, size_t max)
{
	struct stream *s = cls;
	(void)pos;

	ssize_t n = s->read(s->arg, buf, max);
	if (n < 0)
		return MHD_CONTENT_READER_END_OF_STREAM;
	if (n == 0) {
		s->suspended = true;
		MHD_suspend_connection(s->rq->connection);
	}
	return n;
}

static void on_stream_free(void *cls)
{
	struct stream *s = cls;

	s->done(s->arg);
	s->rq->stream = NULL;
	request_unref(s->rq);
	free(s);
}

void reply_stream(struct request *rq, const char *content_type, stream_read_fn read, void (*done)(void *arg), void *arg)
{
	struct stream *s = calloc(1, sizeof(*s));
	if (!s) {
		done(arg);
		reply_error(rq, MHD_HTTP_INTERNAL_SERVER_ERROR, "no memory for the answer");
		return;
	}
	*s = (struct stream){ .rq = rq, .read = read, .done = done, .arg = arg };
	rq->stream = s;
	rq->refs++; /* libmicrohttpd lets go of the response after it has told that the request is completed */
	reply_set(rq, MHD_HTTP_OK, content_type,
		  MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, on_stream_read, s, on_stream_free));
	if (!rq->response)
		on_stream_free(s);
}

struct stream *request_stream(struct request *rq)
{
	return rq->stream;
}

void stream_wake(struct stream *s)
{
	if (!s->suspended)
		return;
	s->suspended = false;
	MHD_resume_connection(s->rq->connection);
	server_run_soon(s->rq->server);
}

void request_wait(struct request *rq)
{
	rq->waiting = true;
	rq->refs++;
	rq->next_waiting = *control_waiting(server_control(rq->server));
	*control_waiting(server_control(rq->server)) = rq;
}

bool request_cancelled(const struct request *rq)
{
	return !rq->server;
}

void request_resume(struct request *rq)
{
	if (rq->server) {
		struct request **at = control_waiting(server_control(rq->server));
		while (*at != rq)
			at = &(*at)->next_waiting;
		*at = rq->next_waiting;
		rq->waiting = false;
		if (rq->connection && rq->suspended)
			MHD_resume_connection(rq->connection);
		server_run_soon(rq->server);
	}
	request_unref(rq);
}

/* control goes away while the backend still owes an answer; on_completed() marks the request as cancelled. */
void request_cancel_waiting(struct request *rq)
{
	*control_waiting(server_control(rq->server)) = rq->next_waiting;
	reply_error(rq, MHD_HTTP_SERVICE_UNAVAILABLE, "the agent is stopping");
	rq->waiting = false;
	MHD_resume_connection(rq->connection);
}
