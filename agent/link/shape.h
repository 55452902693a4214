/* SPDX-License-Identifier: Apache-2.0 */
/* How a struct of the model and its message correspond: one line a field, read in both directions, so that neither can
 * forget what the other has. A shape's fields are in the order of the message's, which are numbered from 1 without a gap.
 * Decoding believes nothing: every number, length and count has its greatest value. Encoding refuses what decoding would,
 * so that what is odd is said where the configuration is known. Pure, any thread. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum shape_kind {
	SHAPE_KIND_NUMBER, /* unsigned, of any width; bool */
	SHAPE_KIND_SIGNED, /* int32_t */
	SHAPE_KIND_DOUBLE,
	SHAPE_KIND_TEXT,    /* char *; NULL stays NULL */
	SHAPE_KIND_BYTES,   /* char * with its length beside it, a NUL behind it */
	SHAPE_KIND_ADDR,    /* struct addr */
	SHAPE_KIND_NUMBERS, /* uint16_t * with its count */
	SHAPE_KIND_TEXTS,   /* char ** with its count */
	SHAPE_KIND_STRUCT,  /* inside; absent: zero */
	SHAPE_KIND_POINTER, /* to one, or NULL */
	SHAPE_KIND_LIST,    /* pointer to several, with their count */
	SHAPE_KIND_ARRAY,   /* several inside, `max` of them */
};

struct shape;

struct shape_field {
	const char *name; /* the message's */
	enum shape_kind kind;
	bool required; /* a text that must be there */
	size_t offset, size, count_offset;
	uint64_t max; /* number, bytes of a text, count */
	const struct shape *of;
};

struct shape {
	const ProtobufCMessageDescriptor *message;
	size_t size;
	const struct shape_field *fields;
	size_t field_count;
	void *(*make)(void);		 /* what POINTER allocates; NULL: zeroed memory */
	int (*check)(const void *model); /* 0 or -EINVAL: what single fields don't tell */
};

enum { SHAPE_TEXT_MAX = 1 << 20, SHAPE_COUNT_MAX = 65536 };

#define SHAPE_AT_(T, f) .offset = offsetof(struct T, f), .size = sizeof(((struct T *)0)->f)
#define SHAPE_NUMBER(T, f, greatest)                                                                                   \
	{                                                                                                              \
		.name = #f, .kind = SHAPE_KIND_NUMBER, .max = (greatest), SHAPE_AT_(T, f)                              \
	}
#define SHAPE_BOOL(T, f) SHAPE_NUMBER(T, f, 1)
#define SHAPE_U16(T, f) SHAPE_NUMBER(T, f, UINT16_MAX)
#define SHAPE_U32(T, f) SHAPE_NUMBER(T, f, UINT32_MAX)
#define SHAPE_SIGNED(T, f)                                                                                             \
	{                                                                                                              \
		.name = #f, .kind = SHAPE_KIND_SIGNED, SHAPE_AT_(T, f)                                                 \
	}
#define SHAPE_DOUBLE(T, f)                                                                                             \
	{                                                                                                              \
		.name = #f, .kind = SHAPE_KIND_DOUBLE, SHAPE_AT_(T, f)                                                 \
	}
#define SHAPE_TEXT(T, f)                                                                                               \
	{                                                                                                              \
		.name = #f, .kind = SHAPE_KIND_TEXT, .max = SHAPE_TEXT_MAX, SHAPE_AT_(T, f)                            \
	}
#define SHAPE_NEEDED(T, f)                                                                                             \
	{                                                                                                              \
		.name = #f, .kind = SHAPE_KIND_TEXT, .max = SHAPE_TEXT_MAX, .required = true, SHAPE_AT_(T, f)          \
	}
#define SHAPE_BYTES(T, f, len)                                                                                         \
	{                                                                                                              \
		.name = #f, .kind = SHAPE_KIND_BYTES, .max = SHAPE_TEXT_MAX, .count_offset = offsetof(struct T, len),  \
		SHAPE_AT_(T, f)                                                                                        \
	}
#define SHAPE_ADDR(T, f)                                                                                               \
	{                                                                                                              \
		.name = #f, .kind = SHAPE_KIND_ADDR, SHAPE_AT_(T, f)                                                   \
	}
#define SHAPE_MANY_(T, f, count, k, shape)                                                                             \
	{                                                                                                              \
		.name = #f, .kind = SHAPE_KIND_##k, .max = SHAPE_COUNT_MAX, .count_offset = offsetof(struct T, count), \
		.of = (shape), SHAPE_AT_(T, f)                                                                         \
	}
#define SHAPE_NUMBERS(T, f, count) SHAPE_MANY_(T, f, count, NUMBERS, NULL)
#define SHAPE_TEXTS(T, f, count) SHAPE_MANY_(T, f, count, TEXTS, NULL)
#define SHAPE_LIST(T, f, count, shape) SHAPE_MANY_(T, f, count, LIST, shape)
#define SHAPE_STRUCT(T, f, shape)                                                                                      \
	{                                                                                                              \
		.name = #f, .kind = SHAPE_KIND_STRUCT, .of = (shape), SHAPE_AT_(T, f)                                  \
	}
#define SHAPE_POINTER(T, f, shape)                                                                                     \
	{                                                                                                              \
		.name = #f, .kind = SHAPE_KIND_POINTER, .of = (shape), SHAPE_AT_(T, f)                                 \
	}

/* The shape of struct T, whose message is named alike, with the fields T_fields. */
#define SHAPE_OF(T)                                                                                                    \
	.message = &weft__link__##T##__descriptor, .size = sizeof(struct T), .fields = T##_fields,                     \
	.field_count = sizeof(T##_fields) / sizeof(T##_fields[0])

/* 0, -EINVAL or -ENOMEM. *out is the caller's, freed with protobuf_c_message_free_unpacked(); NULL on failure. */
int shape_encode(const struct shape *shape, const void *model, ProtobufCMessage **out);
/* Into zeroed memory, or an object with its defaults. 0, -EINVAL or -ENOMEM; what was decoded by then is in it, and the
 * object's own destructor frees it. */
int shape_decode(const struct shape *shape, const ProtobufCMessage *message, void *model);
/* The same for lists that no shape holds. to: a ProtobufCMessage ** field and its count. */
int shape_list_encode(const struct shape *shape, const void *models, size_t count, void *to, size_t *to_count);
int shape_list_decode(const struct shape *shape, const void *messages, size_t count, void *to, size_t *to_count);

/* Those of the model, for tests too. */
extern const struct shape shape_addr_port, shape_cidr;
extern const struct shape shape_label, shape_inbound_port;
extern const struct shape shape_http_field_match, shape_http_header_ops, shape_http_destination, shape_http_fraction;
extern const struct shape shape_l7_target, shape_http_cluster, shape_http_filters, shape_telemetry;
