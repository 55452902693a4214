/* SPDX-License-Identifier: Apache-2.0 */
/* Routes, matches and actions of the HTTP mesh in words and as JSON. Internal to agent/control; pure. */
#pragma once

#include "agent/model/http.h"
#include "agent/model/l7.h"

#include <stdint.h>

struct json_t;
struct sb;

/* "path prefix /api, header x-canary = true"; "every request" for one without conditions. */
void words_of_match(const struct http_match *m, struct sb *out);
/* "outbound|80|v1|... 90 %, ... 10 %"; "redirect 301 to ..."; "answer 403"; with rewrite, fault, mirrors, timeout, retries. */
void words_of_action(const struct http_route *route, struct sb *out);
void words_of_retries(const struct http_retry *retry, struct sb *out); /* "2, on connect-failure, 5xx"; "none" */
const char *text_of_l7_mode(enum l7_mode mode);

struct json_t *route_json(const struct http_route *route);
/* A TCP or TLS route. */
struct json_t *l4_route_json(const struct l4_route *route);
