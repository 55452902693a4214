/* SPDX-License-Identifier: Apache-2.0 */
/* Shared between decode.c (objects by table) and document.c (documents, headers). Not for others. */
#pragma once

#include "agent/config/decode.h"

#include <stdarg.h>

struct arena;
struct schema;

/* The decoding of one resource. */
struct decode {
	struct arena *arena; /* of the resource */
	struct decoded *out;
	const char *key; /* for problems; NULL until the name is known */
	const char *ns;
	const struct string_map *annotations;
	uint32_t line;	     /* of the document */
	unsigned int errors; /* in this resource */
	bool strict;	     /* unknown fields are errors here */
	bool no_memory;
};

void decode_report(struct decode *d, enum problem_level level, uint32_t line, const struct path *path,
		   const char *member, const char *format, va_list args) __attribute__((format(printf, 6, 0)));
void decode_object(struct decode *d, const struct path *path, const struct node *node, const struct schema *schema,
		   void *object);
/* `did you mean "x"?` with a leading "; ", or "". */
const char *decode_suggest(char *buf, size_t size, const char *word, const char *(*name_at)(const void *arg, size_t i),
			   const void *arg);
