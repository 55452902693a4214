/* SPDX-License-Identifier: Apache-2.0 */
/* Fetching what `get` and `describe` show. */
#pragma once

#include <stddef.h>

struct cli;
struct json_t;

enum object_kind { OBJECT_RESOURCE, OBJECT_WORKLOAD, OBJECT_SERVICE, OBJECT_POLICY };

enum object_kind object_kind_of(const char *word); /* OBJECT_RESOURCE when it is no word of the mesh's own */
/* "ns/name" or "name" (then -n's namespace, or "default"). */
void object_name_split(struct cli *cli, const char *typed, char *ns, char *name, size_t size);
/* *out: {"items": [...]}, the caller decrefs; an exit status. typed NULL: all. */
int object_fetch(struct cli *cli, enum object_kind kind, const char *word, const char *typed, struct json_t **out);
