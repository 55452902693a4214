/* SPDX-License-Identifier: Apache-2.0 */
/* Decodes one text for a test; all documents of it. */
#pragma once

#include "agent/config/decode.h"

struct one {
	struct decoded docs[64];
	size_t count;
};

void one_decode(struct one *one, const char *file, const char *text);
void one_done(struct one *one);
/* The only resource; fails the test with the problems when there is another number of them. */
const struct resource *one_resource(const struct one *one);
/* Fails the test unless there is a problem of this level whose "line: text" contains the given one. */
void one_has(const struct one *one, enum problem_level level, const char *text);
void one_has_no_problem(const struct one *one);
