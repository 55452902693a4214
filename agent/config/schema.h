/* SPDX-License-Identifier: Apache-2.0 */
/* One table per kind says what its fields are: the JSON name, the type, where it goes in the C struct, what is allowed,
 * the default, and a sentence for the reference. Decoding, validation, and (from the same table) documentation and
 * OpenAPI need nothing else. Tables are constant; reading them needs no lock. */
#pragma once

#include "agent/config/resource.h"
#include "agent/config/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct decode;
struct node;
struct path;
struct schema;

/* The C type of the member is given behind. */
enum field_type {
	F_STRING,      /* const char *: `check` */
	F_BOOL,	       /* bool */
	F_OPT_BOOL,    /* struct opt_bool */
	F_U16,	       /* uint16_t: `min`..`max` */
	F_U32,	       /* uint32_t */
	F_U64,	       /* uint64_t */
	F_OPT_U32,     /* struct opt_u32 */
	F_OPT_DOUBLE,  /* struct opt_double */
	F_OPT_MS,      /* struct opt_ms: a duration of at least `min` ms */
	F_ENUM,	       /* an enum: `words` */
	F_PORT_NAME,   /* struct int_or_name */
	F_OBJECT,      /* pointer to a struct: `of` */
	F_ANY,	       /* const struct node *: passed on as written; `any` says of which type, or NODE_NULL for any */
	F_STRING_LIST, /* struct string_list: `check` on each */
	F_ENUM_LIST,   /* LIST(enum) */
	F_ADDR_LIST,   /* LIST(struct addr) */
	F_CIDR_LIST,   /* LIST(struct cidr) */
	F_LIST,	       /* LIST(struct): `of` */
	F_STRING_MAP,  /* struct string_map, sorted: `check` on values, `key_check` on keys */
	F_MAP,	       /* LIST(struct), in the order written: `of`, whose `key` is the member for the map's key */
	F_LINE,	       /* uint32_t, no field of the document: the object's line, from the document's first */
	F_IGNORED,     /* no member: known, not used by this mesh; any value */
};

enum field_flags {
	FIELD_REQUIRED = 1,
	FIELD_ALWAYS = 2,     /* F_OBJECT: made with its defaults when it is absent */
	FIELD_NOT_EMPTY = 4,  /* a list or a map that is written has an element; with REQUIRED it must be written */
	FIELD_DEPRECATED = 8, /* accepted with an info */
	FIELD_UNUSED = 16,    /* decoded, but without effect: an info says so */
};

struct word {
	const char *name;
	int value;
};

struct words {
	const struct word *v;
	size_t n;
};

struct field {
	const char *name;
	enum field_type type;
	uint32_t offset, size;
	unsigned int flags;
	unsigned int group; /* fields of one group other than 0 exclude each other */
	const struct schema *of;
	const struct words *words;
	int64_t min, max; /* both 0: the type's own range */
	text_check check, key_check;
	int any;	 /* enum node_type */
	const char *def; /* the default as it would be written; NULL: zero, empty, absent */
	const char *doc;
};

struct schema {
	const char *name; /* "HTTPRoute.retries": for the reference */
	size_t size;
	const struct field *fields;
	size_t field_count;
	const struct field *key; /* element of an F_MAP: F_STRING or F_U16 */
	/* Checks between fields, after all of them were decoded; reports through decode_error and friends. May adjust. */
	void (*validate)(struct decode *d, const struct path *path, const struct node *node, void *object);
	const char *doc;
	/* An unknown field in it, at any depth, refuses the document instead of warning: in a policy it could be the
	 * very one that refuses callers. */
	bool strict;
};

/* A kind as documents name it. */
struct kind_info {
	enum resource_kind kind;
	const char *group; /* "networking.istio.io"; "": core; NULL: any or none */
	const char *name, *plural, *short_name;
	bool cluster_wide;
	const char *versions;	     /* those accepted, space-separated */
	const struct schema *schema; /* of spec; NULL: kept as nodes */
	const struct schema *top;    /* of all of the document: kinds whose fields are not below spec; NULL: spec */
	enum { KIND_IN_USE, KIND_STORED, KIND_NOT_USED } use;
};

/* The member's offset and size come from the struct, so that a test can check them against the type. */
#define FIELD(st, member, json, ftype, ...)                                                                            \
	{                                                                                                              \
		.name = json, .type = F_##ftype, .offset = offsetof(struct st, member),                                \
		.size = sizeof(((struct st *)0)->member), __VA_ARGS__                                                  \
	}
#define FIELD_IGNORED(json, text)                                                                                      \
	{                                                                                                              \
		.name = json, .type = F_IGNORED, .doc = text                                                           \
	}
#define WORDS(...)                                                                                                     \
	{                                                                                                              \
		.v = (const struct word[]){ __VA_ARGS__ },                                                             \
		.n = sizeof((const struct word[]){ __VA_ARGS__ }) / sizeof(struct word)                                \
	}
#define SCHEMA(st, table, ...)                                                                                         \
	{                                                                                                              \
		.size = sizeof(struct st), .fields = (table), .field_count = sizeof(table) / sizeof((table)[0]),       \
		__VA_ARGS__                                                                                            \
	}

extern const struct kind_info kind_infos[KIND_COUNT]; /* indexed by kind */

extern const struct schema schema_service, schema_workload_entry, schema_service_entry, schema_peer_authentication,
	schema_authorization_policy, schema_destination_rule, schema_mesh_config, schema_virtual_service,
	schema_gateway, schema_sidecar, schema_request_authentication, schema_telemetry, schema_envoy_filter,
	schema_http_route, schema_grpc_route, schema_tls_route, schema_tcp_route, schema_reference_grant, schema_secret,
	schema_backend_tls_policy, schema_config_map;
/* Shared between kinds. */
extern const struct schema schema_locality_lb_setting, schema_tcp_keepalive, schema_connection_pool,
	schema_workload_selector, schema_selector, schema_target_ref, schema_vs_retry;
