/* SPDX-License-Identifier: Apache-2.0 */
/* Encoded trees are made with malloc throughout, so that protobuf-c's free_unpacked releases them, half-built ones too: a
 * count is raised only when its element is there. Decoded objects are left so that their destructors can do the same. */
#include "agent/link/shape.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/addr.h"

static void *at(void *base, size_t offset)
{
	return (char *)base + offset;
}

static const void *at_const(const void *base, size_t offset)
{
	return (const char *)base + offset;
}

static const ProtobufCFieldDescriptor *wire(const struct shape *shape, size_t i)
{
	return &shape->message->fields[i];
}

/* --- numbers of the model, of whatever width --- */

static uint64_t number_get(const struct shape_field *f, const void *model)
{
	const void *p = at_const(model, f->offset);
	switch (f->size) {
	case 1:
		return *(const uint8_t *)p;
	case 2:
		return *(const uint16_t *)p;
	case 4:
		return *(const uint32_t *)p;
	default:
		return *(const uint64_t *)p;
	}
}

static void number_set(const struct shape_field *f, void *model, uint64_t v)
{
	void *p = at(model, f->offset);
	switch (f->size) {
	case 1:
		*(uint8_t *)p = (uint8_t)v;
		break;
	case 2:
		*(uint16_t *)p = (uint16_t)v;
		break;
	case 4:
		*(uint32_t *)p = (uint32_t)v;
		break;
	default:
		*(uint64_t *)p = v;
	}
}

static bool is_u64(const ProtobufCFieldDescriptor *w)
{
	return w->type == PROTOBUF_C_TYPE_UINT64 || w->type == PROTOBUF_C_TYPE_FIXED64;
}

/* --- encoding --- */

static void encode_present(const ProtobufCFieldDescriptor *w, void *message)
{
	if (w->label == PROTOBUF_C_LABEL_OPTIONAL)
		*(protobuf_c_boolean *)at(message, w->quantifier_offset) = 1;
}

static int encode_number(const struct shape_field *f, const ProtobufCFieldDescriptor *w, const void *model,
			 void *message)
{
	void *to = at(message, w->offset);
	uint64_t v = number_get(f, model);
	if (v > f->max)
		return -EINVAL;
	if (!v)
		return 0;
	encode_present(w, message);
	if (w->type == PROTOBUF_C_TYPE_BOOL)
		*(protobuf_c_boolean *)to = 1;
	else if (is_u64(w))
		*(uint64_t *)to = v;
	else
		*(uint32_t *)to = (uint32_t)v;
	return 0;
}

static int encode_bytes(const void *from, size_t len, ProtobufCBinaryData *to)
{
	to->data = malloc(len + 1);
	if (!to->data)
		return -ENOMEM;
	to->len = len;
	if (len)
		memcpy(to->data, from, len);
	return 0;
}

static int encode_text(const char *from, char **to)
{
	char *copy = strdup(from);
	if (!copy)
		return -ENOMEM;
	*to = copy;
	return 0;
}

static int encode_text_field(const struct shape_field *f, const char *from, char **to)
{
	if (from ? strlen(from) > f->max : f->required)
		return -EINVAL;
	return from ? encode_text(from, to) : 0;
}

static int encode_texts(char *const *from, size_t count, char ***to, size_t *to_count)
{
	if (!count)
		return 0;
	*to = calloc(count, sizeof(**to));
	if (!*to)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		if (encode_text(from[i] ? from[i] : "", &(*to)[i]) < 0)
			return -ENOMEM;
		(*to_count)++;
	}
	return 0;
}

static int encode_numbers(const uint16_t *from, size_t count, uint32_t **to, size_t *to_count)
{
	if (!count)
		return 0;
	*to = calloc(count, sizeof(**to));
	if (!*to)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		(*to)[i] = from[i];
	*to_count = count;
	return 0;
}

/* What is all zero need not be said. */
static bool is_zero(const void *model, size_t size)
{
	const uint8_t *p = model;
	return size == 0 || (p[0] == 0 && memcmp(p, p + 1, size - 1) == 0);
}

static int encode_into(const struct shape *shape, const void *model, ProtobufCMessage *message);

static int shape_check(const struct shape *shape, const void *model)
{
	return shape->check ? shape->check(model) : 0;
}

static int encode_child(const struct shape *shape, const void *model, ProtobufCMessage **to)
{
	ProtobufCMessage *m = malloc(shape->message->sizeof_message);
	if (!m)
		return -ENOMEM;
	protobuf_c_message_init(shape->message, m);
	*to = m;
	return encode_into(shape, model, m);
}

int shape_list_encode(const struct shape *shape, const void *models, size_t count, void *to, size_t *to_count)
{
	if (!count)
		return 0;
	if (count > SHAPE_COUNT_MAX)
		return -EINVAL;
	ProtobufCMessage **list = calloc(count, sizeof(*list));
	if (!list)
		return -ENOMEM;
	*(ProtobufCMessage ***)to = list;
	for (size_t i = 0; i < count; i++) {
		int rc = encode_child(shape, at_const(models, i * shape->size), &list[i]);
		if (list[i])
			(*to_count)++;
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int encode_field(const struct shape_field *f, const ProtobufCFieldDescriptor *w, const void *model,
			void *message)
{
	const void *from = at_const(model, f->offset);
	void *to = at(message, w->offset);
	size_t count = f->count_offset ? *(const size_t *)at_const(model, f->count_offset) : 0;
	size_t *to_count = at(message, w->quantifier_offset);
	if (f->count_offset && count > f->max)
		return -EINVAL;

	switch (f->kind) {
	case SHAPE_KIND_NUMBER:
		return encode_number(f, w, model, message);
	case SHAPE_KIND_SIGNED:
		encode_present(w, message);
		*(int32_t *)to = *(const int32_t *)from;
		return 0;
	case SHAPE_KIND_DOUBLE:
		encode_present(w, message);
		*(double *)to = *(const double *)from;
		return isfinite(*(double *)to) ? 0 : -EINVAL;
	case SHAPE_KIND_TEXT:
		return encode_text_field(f, *(char *const *)from, to);
	case SHAPE_KIND_BYTES:
		if (!*(char *const *)from)
			return 0;
		encode_present(w, message);
		return encode_bytes(*(char *const *)from, count, to);
	case SHAPE_KIND_ADDR:
		encode_present(w, message);
		return encode_bytes(from, sizeof(struct addr), to);
	case SHAPE_KIND_NUMBERS:
		return encode_numbers(*(const uint16_t *const *)from, count, to, to_count);
	case SHAPE_KIND_TEXTS:
		return encode_texts(*(char *const *const *)from, count, to, to_count);
	case SHAPE_KIND_STRUCT:
		return is_zero(from, f->of->size) ? shape_check(f->of, from) : encode_child(f->of, from, to);
	case SHAPE_KIND_POINTER:
		from = *(const void *const *)from;
		return from ? encode_child(f->of, from, to) : 0;
	case SHAPE_KIND_LIST:
		return shape_list_encode(f->of, *(const void *const *)from, count, to, to_count);
	case SHAPE_KIND_ARRAY:
		return shape_list_encode(f->of, from, f->max, to, to_count);
	}
	return -EINVAL;
}

static int encode_into(const struct shape *shape, const void *model, ProtobufCMessage *message)
{
	for (size_t i = 0; i < shape->field_count; i++) {
		int rc = encode_field(&shape->fields[i], wire(shape, i), model, message);
		if (rc < 0)
			return rc;
	}
	return shape_check(shape, model);
}

int shape_encode(const struct shape *shape, const void *model, ProtobufCMessage **out)
{
	ProtobufCMessage *message = NULL;
	int rc = encode_child(shape, model, &message);
	if (rc < 0 && message) {
		protobuf_c_message_free_unpacked(message, NULL);
		message = NULL;
	}
	*out = message;
	return rc;
}

/* --- decoding --- */

static int decode_number(const struct shape_field *f, const ProtobufCFieldDescriptor *w, const void *message,
			 void *model)
{
	const void *from = at_const(message, w->offset);
	uint64_t v;
	if (w->type == PROTOBUF_C_TYPE_BOOL)
		v = *(const protobuf_c_boolean *)from != 0;
	else if (is_u64(w))
		v = *(const uint64_t *)from;
	else
		v = *(const uint32_t *)from;
	if (v > f->max)
		return -EINVAL;
	number_set(f, model, v);
	return 0;
}

static int decode_text(const struct shape_field *f, const char *from, char **to)
{
	if (from ? strlen(from) > f->max : f->required)
		return -EINVAL;
	free(*to); /* a default of the object's */
	*to = from ? strdup(from) : NULL;
	return from && !*to ? -ENOMEM : 0;
}

static int decode_bytes(const struct shape_field *f, bool present, const ProtobufCBinaryData *from, void *model)
{
	char **to = at(model, f->offset);
	if (!present)
		return 0;
	if (from->len > f->max)
		return -EINVAL;
	*to = malloc(from->len + 1);
	if (!*to)
		return -ENOMEM;
	if (from->len)
		memcpy(*to, from->data, from->len);
	(*to)[from->len] = 0;
	*(size_t *)at(model, f->count_offset) = from->len;
	return 0;
}

static int decode_addr(const ProtobufCBinaryData *from, struct addr *to)
{
	if (from->len != sizeof(to->b))
		return -EINVAL;
	memcpy(to->b, from->data, sizeof(to->b));
	return 0;
}

static int decode_numbers(const uint32_t *from, size_t count, void *to, size_t *to_count)
{
	assert(to_count);
	uint16_t *list = calloc(count + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	*(uint16_t **)to = list;
	for (size_t i = 0; i < count; i++) {
		if (from[i] > UINT16_MAX)
			return -EINVAL;
		list[i] = (uint16_t)from[i];
		(*to_count)++;
	}
	return 0;
}

static int decode_texts(char *const *from, size_t count, void *to, size_t *to_count)
{
	assert(to_count);
	char **list = calloc(count + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	*(char ***)to = list;
	for (size_t i = 0; i < count; i++) {
		list[i] = strdup(from[i]);
		if (!list[i])
			return -ENOMEM;
		(*to_count)++;
	}
	return 0;
}

/* Absent is all zero, whatever the object's defaults are. */
static int decode_struct(const struct shape *shape, const ProtobufCMessage *from, void *to)
{
	if (from)
		return shape_decode(shape, from, to);
	memset(to, 0, shape->size);
	return shape_check(shape, to);
}

static int decode_pointer(const struct shape *shape, const ProtobufCMessage *from, void **to)
{
	if (!from)
		return 0;
	*to = shape->make ? shape->make() : calloc(1, shape->size);
	return *to ? shape_decode(shape, from, *to) : -ENOMEM;
}

int shape_list_decode(const struct shape *shape, const void *messages, size_t count, void *to, size_t *to_count)
{
	assert(to_count);
	if (!count)
		return 0;
	if (count > SHAPE_COUNT_MAX)
		return -EINVAL;
	void *list = calloc(count, shape->size);
	if (!list)
		return -ENOMEM;
	*(void **)to = list;
	for (size_t i = 0; i < count; i++) {
		(*to_count)++;
		int rc = shape_decode(shape, ((const ProtobufCMessage *const *)messages)[i], at(list, i * shape->size));
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* What is missing keeps its zero; what is too much is a newer agent's. */
static int decode_array(const struct shape_field *f, const void *messages, size_t count, void *to)
{
	for (size_t i = 0; i < count && i < f->max; i++) {
		int rc = shape_decode(f->of, ((const ProtobufCMessage *const *)messages)[i], at(to, i * f->of->size));
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int decode_field(const struct shape_field *f, const ProtobufCFieldDescriptor *w, const void *message,
			void *model)
{
	const void *from = at_const(message, w->offset);
	void *to = at(model, f->offset);
	const void *quantifier = at_const(message, w->quantifier_offset);
	size_t *to_count = f->count_offset ? at(model, f->count_offset) : NULL;
	size_t count = w->label == PROTOBUF_C_LABEL_REPEATED ? *(const size_t *)quantifier : 0;
	if (f->kind != SHAPE_KIND_ARRAY && count > f->max)
		return -EINVAL;

	switch (f->kind) {
	case SHAPE_KIND_NUMBER:
		return decode_number(f, w, message, model);
	case SHAPE_KIND_SIGNED:
		*(int32_t *)to = *(const int32_t *)from;
		return 0;
	case SHAPE_KIND_DOUBLE:
		*(double *)to = *(const double *)from;
		return isfinite(*(double *)to) ? 0 : -EINVAL;
	case SHAPE_KIND_TEXT:
		return decode_text(f, *(char *const *)from, to);
	case SHAPE_KIND_BYTES:
		return decode_bytes(f, *(const protobuf_c_boolean *)quantifier, from, model);
	case SHAPE_KIND_ADDR:
		return decode_addr(from, to);
	case SHAPE_KIND_NUMBERS:
		return count ? decode_numbers(*(const uint32_t *const *)from, count, to, to_count) : 0;
	case SHAPE_KIND_TEXTS:
		return count ? decode_texts(*(char *const *const *)from, count, to, to_count) : 0;
	case SHAPE_KIND_STRUCT:
		return decode_struct(f->of, *(const ProtobufCMessage *const *)from, to);
	case SHAPE_KIND_POINTER:
		return decode_pointer(f->of, *(void *const *)from, to);
	case SHAPE_KIND_LIST:
		return shape_list_decode(f->of, *(const void *const *)from, count, to, to_count);
	case SHAPE_KIND_ARRAY:
		return decode_array(f, *(const void *const *)from, count, to);
	}
	return -EINVAL;
}

int shape_decode(const struct shape *shape, const ProtobufCMessage *message, void *model)
{
	for (size_t i = 0; i < shape->field_count; i++) {
		int rc = decode_field(&shape->fields[i], wire(shape, i), message, model);
		if (rc < 0)
			return rc;
	}
	return shape_check(shape, model);
}
