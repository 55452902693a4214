/* SPDX-License-Identifier: Apache-2.0 */
/* From a document's text to resources: parse, find out the kind, decode the header (metadata), hand the spec to the
 * kind's table. The nodes of the text live in a scratch arena that is reused for the next document; what a resource
 * keeps is copied into its own arena, so a resource costs what it says and no more. */
#include "agent/config/schema.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/config/arena.h"
#include "agent/config/decode_internal.h"
#include "agent/config/node.h"
#include "agent/config/yaml.h"

enum { RESOURCE_ARENA_SIZE = 704, SCRATCH_SIZE = 16 * 1024, LIST_ITEMS_MAX = 100000 };

struct decoder {
	struct arena *scratch;
};

/* What decoding one document's resources needs to know. */
struct document {
	struct decoded *out;
	const char *file;
	uint64_t hash;
};

struct metadata {
	const char *name, *ns;
	struct string_map labels, annotations;
	uint64_t generation;
};

static const struct field metadata_fields[] = {
	FIELD(metadata, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_name,
	      .doc = "Unique among the kind's resources of the namespace."),
	FIELD(metadata, ns, "namespace", STRING, .check = text_check_dns_label, .doc = "Default: \"default\"."),
	FIELD(metadata, labels, "labels", STRING_MAP, .key_check = text_check_label_key,
	      .check = text_check_label_value, .doc = "Labels, for selectors."),
	FIELD(metadata, annotations, "annotations", STRING_MAP, .key_check = text_check_label_key,
	      .doc = "Annotations; weft.dev/ ones say where a workload lives."),
	FIELD(metadata, generation, "generation", U64, .doc = "Set by the API server."),
	FIELD_IGNORED("uid", "Set by the API server."),
	FIELD_IGNORED("resourceVersion", "Set by the API server."),
	FIELD_IGNORED("creationTimestamp", "Set by the API server."),
	FIELD_IGNORED("deletionTimestamp", "Set by the API server."),
	FIELD_IGNORED("deletionGracePeriodSeconds", "Set by the API server."),
	FIELD_IGNORED("managedFields", "Set by the API server."),
	FIELD_IGNORED("ownerReferences", "Set by controllers."),
	FIELD_IGNORED("finalizers", "Set by controllers."),
	FIELD_IGNORED("selfLink", "Set by the API server."),
	FIELD_IGNORED("generateName", "Used by the API server."),
};

static const struct schema schema_metadata = SCHEMA(metadata, metadata_fields, .name = "metadata");

int decoder_new(struct decoder **out)
{
	AUTO(mem_freep) struct decoder *dec = calloc(1, sizeof(*dec));
	if (!dec || !(dec->scratch = arena_new(SCRATCH_SIZE)))
		return -ENOMEM;
	*out = TAKE(dec);
	return 0;
}

void decoder_free(struct decoder *dec)
{
	if (!dec)
		return;
	arena_free(dec->scratch);
	free(dec);
}

void decoder_trim(struct decoder *dec)
{
	arena_reset(dec->scratch);
}

void decoded_done(struct decoded *d)
{
	for (size_t i = 0; i < d->resource_count; i++)
		resource_unref(d->resources[i]);
	for (size_t i = 0; i < d->problem_count; i++) {
		free(d->problems[i].key);
		free(d->problems[i].text);
	}
	free(d->resources);
	free(d->problems);
	*d = (struct decoded){ 0 };
}

static const char *kind_name_at(const void *arg, size_t i)
{
	(void)arg;
	return i < KIND_COUNT ? kind_infos[i].name : NULL;
}

/* The kind of `kind` in `group`; NULL when there is none, with *same_name a kind of another group or NULL. */
static const struct kind_info *kind_find(const char *group, size_t group_len, const char *kind,
					 const struct kind_info **same_name)
{
	*same_name = NULL;
	for (size_t i = 0; i < KIND_COUNT; i++) {
		const struct kind_info *k = &kind_infos[i];
		if (i == KIND_MESH_CONFIG || strcmp(k->name, kind))
			continue;
		*same_name = k;
		if (strlen(k->group) == group_len && !memcmp(k->group, group, group_len))
			return k;
	}
	return NULL;
}

static bool version_known(const char *versions, const char *version)
{
	size_t len = strlen(version);
	for (const char *v = versions; *v; v += strcspn(v, " "), v += *v == ' ')
		if (len && strcspn(v, " ") == len && !memcmp(v, version, len))
			return true;
	return false;
}

/* NULL: no kind that is used here; a problem says why. */
static const struct kind_info *document_kind(struct decode *d, const struct node *root)
{
	const struct node *kind = node_get(root, "kind"), *api = node_get(root, "apiVersion");
	char suggestion[96];
	if (!kind || kind->type != NODE_STRING) {
		decode_error(d, NULL, NULL, kind ? kind : root,
			     "no \"kind\": this is no resource (the mesh's configuration belongs in a file named "
			     "*mesh.yaml)");
		return NULL;
	}
	if (!api || api->type != NODE_STRING) {
		decode_error(d, NULL, NULL, api ? api : root, "apiVersion: is required (like networking.istio.io/v1)");
		return NULL;
	}
	const char *slash = strrchr(api->text, '/');
	size_t group_len = slash ? (size_t)(slash - api->text) : 0;
	const struct kind_info *same_name;
	const struct kind_info *k = kind_find(api->text, group_len, kind->text, &same_name);
	if (!k && same_name) {
		decode_warn(d, NULL, NULL, kind,
			    "kind %.60s of \"%.100s\" is not known and left out; this mesh knows %s of %s%s%s",
			    kind->text, api->text, kind->text, same_name->group, *same_name->group ? "/" : "",
			    same_name->versions);
		return NULL;
	}
	if (!k) {
		decode_warn(d, NULL, NULL, kind, "kind \"%.60s\" is not known and left out%s", kind->text,
			    decode_suggest(suggestion, sizeof(suggestion), kind->text, kind_name_at, NULL));
		return NULL;
	}
	if (!version_known(k->versions, slash ? slash + 1 : api->text)) {
		decode_error(d, NULL, NULL, api, "apiVersion: \"%.100s\" is not a known version of %s; use one of: %s",
			     api->text, k->name, k->versions);
		return NULL;
	}
	return k;
}

/* Names the document in problems before its metadata was validated. */
static void document_set_key(struct decode *d, const struct kind_info *k, const struct node *root)
{
	const struct node *metadata = node_get(root, "metadata");
	const char *name = node_get_text(metadata, "name"), *ns = node_get_text(metadata, "namespace");
	if (!name)
		return;
	const char *kind = resource_kind_key_name(k->kind);
	d->key = k->cluster_wide ? arena_format(d->arena, "%s/%s", kind, name) :
				   arena_format(d->arena, "%s/%s/%s", kind, ns ? ns : "default", name);
	d->no_memory |= !d->key;
}

static void document_metadata(struct decode *d, const struct kind_info *k, const struct node *root, struct resource *r)
{
	static const struct path path = { .name = "metadata" };
	const struct node *node = node_get(root, "metadata");
	struct metadata metadata = { 0 };
	if (!node || node->type == NODE_NULL) {
		decode_error(d, &path, NULL, root, "is required");
		return;
	}
	decode_object(d, &path, node, &schema_metadata, &metadata);
	r->name = metadata.name;
	r->ns = k->cluster_wide ? "" : metadata.ns ? metadata.ns : "default";
	r->labels = metadata.labels;
	r->annotations = metadata.annotations;
	r->generation = metadata.generation;
	d->ns = r->ns;
	d->annotations = &r->annotations;
	if (k->cluster_wide && metadata.ns)
		decode_warn(d, &path, "namespace", node, "%s has no namespace; it is left out", k->name);
}

static const char *top_field_at(const void *arg, size_t i)
{
	static const char *const names[] = { "apiVersion", "kind", "metadata", "spec", "status" };
	(void)arg;
	return i < ARRAY_SIZE(names) ? names[i] : NULL;
}

static void document_top_fields(struct decode *d, const struct node *root)
{
	char suggestion[96];
	for (const struct node *n = root->first; n; n = n->next) {
		const char *name;
		size_t i = 0;
		while ((name = top_field_at(NULL, i)) && strcmp(name, n->key))
			i++;
		if (!name)
			decode_warn(d, NULL, n->key, n, "unknown field%s",
				    decode_suggest(suggestion, sizeof(suggestion), n->key, top_field_at, NULL));
	}
}

static void document_spec(struct decode *d, const struct kind_info *k, const struct node *root, struct resource *r)
{
	static const struct path path = { .name = "spec" };
	struct node empty = { .type = NODE_MAP, .line = root->line };
	const struct node *node = node_get(root, "spec");
	if (k->kind == KIND_NAMESPACE)
		return;
	if (!node || node->type == NODE_NULL)
		node = &empty;
	if (!k->schema) {
		if (node->type != NODE_MAP)
			decode_error(d, &path, NULL, node, "is %s; an object is needed", node_type_name(node->type));
		r->spec.raw = node_copy(d->arena, node);
		d->no_memory |= !r->spec.raw;
		return;
	}
	void *spec = decode_alloc(d, k->schema->size);
	if (spec)
		decode_object(d, &path, node, k->schema, spec);
	r->spec.any = spec;
}

static void document_mesh_config(struct decode *d, const struct kind_info *k, const struct node *root,
				 struct resource *r)
{
	void *spec = decode_alloc(d, k->top->size);
	if (!spec)
		return;
	d->key = "MeshConfig/mesh";
	r->name = "mesh";
	r->ns = "";
	decode_object(d, NULL, root, k->top, spec);
	r->spec.any = spec;
}

/* Fields beside metadata, not below spec. */
static void document_top(struct decode *d, const struct kind_info *k, const struct node *root, struct resource *r)
{
	void *spec = decode_alloc(d, k->top->size);
	if (spec)
		decode_object(d, NULL, root, k->top, spec);
	r->spec.any = spec;
}

static bool file_is_mesh_config(const char *file)
{
	return str_ends(file, "mesh.yaml") || str_ends(file, "mesh.yml") || str_ends(file, "mesh.json");
}

static bool decoded_add(struct decoded *out, struct resource *r)
{
	if (mem_reserve(&out->resources, &out->resource_cap, out->resource_count + 1, sizeof(struct resource *)) < 0)
		return false;
	out->resources[out->resource_count++] = r;
	return true;
}

/* Fills the resource; false: there is none to keep. */
static bool document_fill(struct decode *d, const struct document *doc, const struct node *root, struct resource *r)
{
	const struct kind_info *k;
	bool mesh = file_is_mesh_config(doc->file) && root->type == NODE_MAP && !node_get(root, "kind");
	if (root->type != NODE_MAP) {
		decode_error(d, NULL, NULL, root, "the document is %s; an object is needed",
			     node_type_name(root->type));
		return false;
	}
	if (mesh) {
		k = &kind_infos[KIND_MESH_CONFIG];
		document_mesh_config(d, k, root, r);
	} else {
		k = document_kind(d, root);
		if (!k)
			return false;
		document_set_key(d, k, root);
		if (k->use == KIND_NOT_USED) {
			decode_info(d, NULL, NULL, root, "%s is recognised, but not used from files", k->name);
			return false;
		}
		document_metadata(d, k, root, r);
		if (k->top) {
			document_top(d, k, root, r);
		} else {
			document_top_fields(d, root);
			document_spec(d, k, root, r);
		}
	}
	if (d->errors || d->no_memory)
		return false;
	const char *api = node_get_text(root, "apiVersion");
	r->kind = k->kind;
	r->api_version = decode_strdup(d, api ? api : "mesh/v1alpha1");
	r->key = d->key;
	r->hash = doc->hash;
	r->line = root->line;
	r->origin = arena_format(d->arena, "%s:%u", doc->file, root->line);
	r->file = decode_strdup(d, doc->file);
	return r->origin && !d->no_memory;
}

static int document_resource(const struct document *doc, const struct node *root)
{
	AUTO(arena_freep) struct arena *arena = arena_new(RESOURCE_ARENA_SIZE);
	struct resource *r = arena ? arena_alloc(arena, sizeof(*r)) : NULL;
	if (!r)
		return -ENOMEM;
	struct decode d = { .arena = arena, .out = doc->out, .line = root->line };
	bool keep = document_fill(&d, doc, root, r);
	if (d.no_memory)
		return -ENOMEM;
	if (!keep)
		return 0;
	r->refs = 1;
	r->arena = arena;
	if (!decoded_add(doc->out, r))
		return -ENOMEM;
	(void)TAKE(arena);
	return 0;
}

/* `kubectl get -o yaml` writes a List of kind v1. */
static bool is_list(const struct node *root)
{
	return str_eq(node_get_text(root, "kind"), "List") && str_eq(node_get_text(root, "apiVersion"), "v1");
}

static int document_resources(const struct document *doc, const struct node *root)
{
	const struct node *items = is_list(root) ? node_get(root, "items") : NULL;
	int rc = 0;
	if (!items || items->type != NODE_LIST)
		return document_resource(doc, root);
	for (const struct node *n = items->first; n && rc == 0; n = n->next)
		rc = document_resource(doc, n);
	return rc;
}

static int document_not_parsed(struct decoded *out, uint32_t line, const struct err *err)
{
	if (mem_reserve(&out->problems, &out->problem_cap, 1, sizeof(*out->problems)) < 0)
		return -ENOMEM;
	char *text = strdup(err->text);
	if (!text)
		return -ENOMEM;
	out->problems[out->problem_count++] = (struct problem){ .level = PROBLEM_ERROR, .line = line, .text = text };
	out->rejected = true;
	return 0;
}

int decoder_run(struct decoder *dec, const char *file, uint32_t line, const char *text, size_t len, uint64_t hash,
		struct decoded *out)
{
	*out = (struct decoded){ 0 };
	struct document doc = { .out = out, .file = file, .hash = hash };
	struct err err = ERR_INIT;
	struct node *root = NULL;
	uint32_t err_line;
	int rc = str_ends(file, ".json") ? json_parse(dec->scratch, text, len, line, &root, &err_line, &err) :
					   yaml_parse(dec->scratch, text, len, line, &root, &err_line, &err);
	if (rc == -EINVAL)
		rc = document_not_parsed(out, err_line, &err);
	else if (rc == 0 && root && root->type != NODE_NULL)
		rc = document_resources(&doc, root);
	arena_reset(dec->scratch);
	if (rc < 0)
		decoded_done(out);
	return rc;
}

static const char *line_end(const char *at, const char *end)
{
	const char *newline = memchr(at, '\n', (size_t)(end - at));
	return newline ? newline + 1 : end;
}

static bool line_is_separator(const char *at, const char *end)
{
	return end - at >= 3 && !memcmp(at, "---", 3) && (end - at == 3 || strchr(" \t\r\n", at[3]));
}

static bool line_is_blank(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\r'))
		at++;
	return at == end || *at == '\n' || *at == '#';
}

/* "---" in the first column ends a document in YAML wherever it stands, block scalars included, so cutting there
 * without parsing is exact. */
bool document_next(const char **at, const char *end, uint32_t *line, struct document_text *out)
{
	while (*at < end) {
		const char *start = *at, *next = line_end(start, end);
		bool blank =
			line_is_blank(start, end) || (line_is_separator(start, end) && line_is_blank(start + 3, next));
		*out = (struct document_text){ .text = start, .line = *line };
		++*line;
		for (; next < end && !line_is_separator(next, end); next = line_end(next, end), ++*line)
			blank &= line_is_blank(next, end);
		*at = next;
		out->len = (size_t)(next - start);
		if (!blank)
			return true;
	}
	return false;
}
