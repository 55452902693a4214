/* SPDX-License-Identifier: Apache-2.0 */
/* Secret and ConfigMap: of their data only the keys that TLS settings ask for are kept, decoded. No value is ever part of a
 * message. */
#include "agent/config/kinds.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/config/decode.h"
#include "agent/config/node.h"
#include "agent/config/schema.h"

enum { VALUE_MAX = 1 << 20 }; /* Kubernetes' limit for all of an object */

/* Istio's, for credentialName; the Gateway API's for references has ca.crt alone. */
static const char *const secret_keys[] = { "ca.crl", "ca.crt", "cacert", "cert", "crl", "key", "tls.crt", "tls.key" };
static const char *const config_map_keys[] = { "ca.crl", "ca.crt", "cacert", "crl" };

static int digit_of(char c)
{
	return c >= 'A' && c <= 'Z' ? c - 'A' :
	       c >= 'a' && c <= 'z' ? c - 'a' + 26 :
	       c >= '0' && c <= '9' ? c - '0' + 52 :
	       c == '+'		    ? 62 :
	       c == '/'		    ? 63 :
				      -1;
}

/* RFC 4648, with line breaks, as Kubernetes takes it; out has room. false: it is none, or holds a zero byte. */
static bool base64_decode(const char *text, char *out)
{
	uint32_t bits = 0;
	unsigned int digits = 0, pads = 0;

	for (; *text; text++) {
		int d = digit_of(*text);
		if (*text == '\n' || *text == '\r')
			continue;
		if (*text == '=' && digits % 4 >= 2 && pads < 2) {
			pads++;
			continue;
		}
		if (d < 0 || pads)
			return false;
		bits = bits << 6 | (uint32_t)d;
		if (++digits % 4 == 1)
			continue;
		char byte = (char)(digits % 4 == 2 ? bits >> 4 : digits % 4 == 3 ? bits >> 2 : bits);
		if (!byte)
			return false;
		*out++ = byte;
	}
	*out = '\0';
	return (digits + pads) % 4 == 0;
}

static bool is_known(const char *const *keys, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(keys[i], key))
			return true;
	return false;
}

/* What is taken of one map; a later one goes before an earlier one, as stringData before data. */
struct taking {
	struct decode *d;
	const struct path *path;
	const char *const *keys;
	size_t key_count, cap;
	struct string_map *to;
};

static void value_take(struct taking *t, const struct path *path, const struct node *n, bool base64)
{
	struct string_map *to = t->to;
	size_t len = strlen(n->text), i = 0;

	if (len > VALUE_MAX) {
		decode_error(t->d, path, n->key, n, "is longer than %d bytes", VALUE_MAX);
		return;
	}
	char *value = decode_alloc(t->d, len + 1);
	if (!value)
		return;
	if (!base64) {
		memcpy(value, n->text, len);
	} else if (!base64_decode(n->text, value)) {
		decode_error(t->d, path, n->key, n, "is not base64 of a text%s",
			     t->keys == secret_keys ? " (stringData takes it as it is)" : "");
		return;
	}
	while (i < to->n && strcmp(to->v[i].key, n->key))
		i++;
	if (i == t->cap)
		return;
	if (i == to->n)
		to->v[to->n++].key = decode_strdup(t->d, n->key);
	to->v[i].value = value;
}

static void map_take(struct taking *t, const struct node *object, const char *name, bool base64)
{
	const struct node *map = node_get(object, name);
	const struct path path = { .parent = t->path, .name = name };

	if (!map || map->type == NODE_NULL)
		return;
	if (map->type != NODE_MAP) {
		decode_error(t->d, &path, NULL, map, "is %s; an object is needed", node_type_name(map->type));
		return;
	}
	for (const struct node *n = map->first; n; n = n->next) {
		if (!is_known(t->keys, t->key_count, n->key))
			continue;
		if (n->type == NODE_STRING)
			value_take(t, &path, n, base64);
		else if (n->type != NODE_NULL)
			decode_error(t->d, &path, n->key, n, "is %s; a text is needed", node_type_name(n->type));
	}
}

static int pair_cmp(const void *a, const void *b)
{
	return strcmp(((const struct string_pair *)a)->key, ((const struct string_pair *)b)->key);
}

static bool taking_begin(struct taking *t, struct decode *d, const struct path *path, const char *const *keys, size_t n,
			 struct string_map *to)
{
	*t = (struct taking){ .d = d, .path = path, .keys = keys, .key_count = n, .cap = n, .to = to };
	to->v = decode_alloc(d, n * sizeof(*to->v));
	return to->v != NULL;
}

static void taking_end(struct taking *t)
{
	qsort(t->to->v, t->to->n, sizeof(*t->to->v), pair_cmp);
}

static void secret_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	struct secret_spec *s = object;
	struct taking t;

	if (!taking_begin(&t, d, path, secret_keys, ARRAY_SIZE(secret_keys), &s->values))
		return;
	map_take(&t, node, "data", true);
	map_take(&t, node, "stringData", false);
	taking_end(&t);
}

static void config_map_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	struct config_map_spec *m = object;
	struct taking t;

	if (!taking_begin(&t, d, path, config_map_keys, ARRAY_SIZE(config_map_keys), &m->values))
		return;
	map_take(&t, node, "data", false);
	map_take(&t, node, "binaryData", true);
	taking_end(&t);
}

static const struct field secret_fields[] = {
	FIELD_IGNORED("apiVersion", "v1"),
	FIELD_IGNORED("kind", "Secret"),
	FIELD_IGNORED("metadata", "Name and namespace."),
	FIELD(secret_spec, type, "type", STRING, .doc = "kubernetes.io/tls, Opaque; the keys decide."),
	FIELD_IGNORED("data", "Values in base64: tls.crt, tls.key, ca.crt, ca.crl; or cert, key, cacert, crl."),
	FIELD_IGNORED("stringData", "The same as text; goes before data."),
	FIELD_IGNORED("immutable", "Held by the API server."),
};
const struct schema schema_secret = SCHEMA(secret_spec, secret_fields, .name = "Secret", .validate = secret_validate,
					   .doc = "Certificates and keys that TLS settings name.");

static const struct field config_map_fields[] = {
	FIELD_IGNORED("apiVersion", "v1"),
	FIELD_IGNORED("kind", "ConfigMap"),
	FIELD_IGNORED("metadata", "Name and namespace."),
	FIELD_IGNORED("data", "Texts; ca.crt is certificates to trust."),
	FIELD_IGNORED("binaryData", "The same in base64."),
	FIELD_IGNORED("immutable", "Held by the API server."),
};
const struct schema schema_config_map =
	SCHEMA(config_map_spec, config_map_fields, .name = "ConfigMap", .validate = config_map_validate,
	       .doc = "Certificates that BackendTLSPolicies trust.");
