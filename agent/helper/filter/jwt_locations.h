/* SPDX-License-Identifier: Apache-2.0 */
/* Where a request carries tokens: headers, query parameters, cookies. */
#pragma once

#include "agent/helper/http/message.h"
#include "agent/model/filters.h"

#include <stddef.h>

struct exchange;

enum jwt_place { JWT_HEADER, JWT_PARAM, JWT_COOKIE };

struct jwt_candidate {
	size_t rule;
	enum jwt_place place;
	const struct jwt_location *at;
	struct http_string token; /* of the head's text: it stays when the field is removed */
};

enum { JWT_CANDIDATES_MAX = 32 };

/* Appends the tokens that the request has where the rule looks. 0, or -E2BIG. */
int jwt_candidates_find(struct exchange *x, size_t rule, struct jwt_candidate out[JWT_CANDIDATES_MAX], size_t *count);
/* Takes it out of the request. 0 or -ENOMEM. */
int jwt_candidate_remove(struct exchange *x, const struct jwt_candidate *candidate);
