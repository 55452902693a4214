/* SPDX-License-Identifier: Apache-2.0 */
/* A head as nghttp2 takes it. Borrows the head's text; nghttp2 copies it when it is submitted. */
#pragma once

#include "agent/helper/http/message.h"

#include <nghttp2/nghttp2.h>

enum { HTTP2_NV_FIXED = 48 };

struct http2_nv {
	nghttp2_nv *nv;
	size_t count, cap;
	char status[4], length[24];
	nghttp2_nv fixed[HTTP2_NV_FIXED];
};

/* 0 or -ENOMEM; http2_nv_done() in any case. */
int http2_nv_request(struct http2_nv *v, const struct http_head *head, bool tls);
int http2_nv_response(struct http2_nv *v, const struct http_head *head, uint16_t status);
int http2_nv_trailers(struct http2_nv *v, const struct http_head *trailers);
void http2_nv_done(struct http2_nv *v);
