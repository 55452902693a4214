/* SPDX-License-Identifier: Apache-2.0 */
/* Documents -> resources, driven by the schema tables. Pure: no I/O, no clock. Not thread-safe per decoder. */
#pragma once

#include "agent/config/resource.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct decode;
struct decoder;
struct err;
struct node;

enum problem_level { PROBLEM_ERROR, PROBLEM_WARNING, PROBLEM_INFO };

struct problem {
	enum problem_level level;
	uint32_t line;
	char *key;  /* "AuthorizationPolicy/shop/payments"; NULL when the document has no name */
	char *text; /* "spec.rules[0].from: unknown field \"form\"; did you mean \"from\"?" */
};

enum { PROBLEM_MAX = 32 }; /* of one document; further ones are dropped */

/* What came of one document: resources (one; more when it is a `kind: List`; none when it is empty or has an error)
 * and problems. */
struct decoded {
	struct resource **resources;
	size_t resource_count, resource_cap;
	struct problem *problems;
	size_t problem_count, problem_cap;
	bool rejected; /* at least one problem is an error */
};

/* Keeps scratch memory from one document to the next. */
int decoder_new(struct decoder **out);
void decoder_free(struct decoder *dec);
/* Frees what it holds beyond a small amount: after a large load. */
void decoder_trim(struct decoder *dec);

/* Decodes the document `text` that starts at line `line` of `file` (a name for people; "*.json" is JSON, a document
 * without kind in "*mesh.yaml" is the MeshConfig). `hash` becomes the resources' hash. *out is filled also on
 * rejection and is the caller's. 0, or -ENOMEM. */
int decoder_run(struct decoder *dec, const char *file, uint32_t line, const char *text, size_t len, uint64_t hash,
		struct decoded *out);
void decoded_done(struct decoded *d);

/* The next document of a file: cuts at lines that begin with "---". *at and *line move on. false: no more. Documents of
 * blank lines and comments only are skipped. */
struct document_text {
	const char *text;
	size_t len;
	uint32_t line;
};
bool document_next(const char **at, const char *end, uint32_t *line, struct document_text *out);

/* --- for the checks of the tables (validate_*.c) */

/* Where in a document: a chain on the stack, printed only when there is something to say. */
struct path {
	const struct path *parent;
	const char *name; /* NULL: `index` */
	size_t index;
};

/* node: whose line is meant; NULL: the document's. member: appended to the path, or NULL. */
void decode_error(struct decode *d, const struct path *path, const char *member, const struct node *node,
		  const char *format, ...) __attribute__((format(printf, 5, 6)));
void decode_warn(struct decode *d, const struct path *path, const char *member, const struct node *node,
		 const char *format, ...) __attribute__((format(printf, 5, 6)));
void decode_info(struct decode *d, const struct path *path, const char *member, const struct node *node,
		 const char *format, ...) __attribute__((format(printf, 5, 6)));
/* An error when the pattern (NULL: none) is no regular expression, or does not have the groups of the substitution (or NULL). */
void decode_regex_check(struct decode *d, const struct path *path, const char *member, const struct node *node,
			const char *pattern, const char *substitution);
void *decode_alloc(struct decode *d, size_t size); /* from the resource's arena; NULL: no memory, and noted */
const char *decode_strdup(struct decode *d, const char *text);
const char *decode_namespace(const struct decode *d); /* of the resource */
bool decode_has_annotation(const struct decode *d, const char *key);
