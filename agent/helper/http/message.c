/* SPDX-License-Identifier: Apache-2.0 */
/* Heads: each is one allocation of 4 KiB with room for its fields and text, so that a usual message needs no other,
 * and a finished one goes to the thread's free list. Longer ones take further blocks, which are freed with the
 * head. */
#include "agent/helper/http/message.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"

enum { STORE_SIZE = 4096, FIELDS_FIRST = 24, FREE_MAX = 64, BLOCK_MIN = 4096 - 64 };

struct http_block {
	struct http_block *next;
	uint32_t used, size;
	char bytes[];
};

struct store {
	struct http_head head;
	struct store *next_free;
	struct http_field fields[FIELDS_FIRST];
	struct http_block first; /* last: its bytes follow */
};

static _Thread_local struct store *free_list;
static _Thread_local unsigned int free_count;
static _Thread_local bool registered;
static pthread_key_t thread_end;

static void thread_ended(void *unused)
{
	(void)unused;
	http_heads_trim();
}

__attribute__((constructor)) static void thread_end_init(void)
{
	if (pthread_key_create(&thread_end, thread_ended) != 0)
		abort(); /* before main() */
}

void http_heads_trim(void)
{
	while (free_list) {
		struct store *s = free_list;
		free_list = s->next_free;
		free(s);
	}
	free_count = 0;
}

struct http_head *http_head_new(void)
{
	struct store *s = free_list;
	if (s) {
		free_list = s->next_free;
		free_count--;
	} else {
		s = malloc(STORE_SIZE);
		if (!s)
			return NULL;
		s->first.size = STORE_SIZE - offsetof(struct store, first) - sizeof(struct http_block);
		s->first.next = NULL;
	}
	s->first.used = 0;
	memset(&s->head, 0, sizeof(s->head));
	s->head.version = HTTP_1_1;
	s->head.content_length = -1;
	s->head.fields = s->fields;
	s->head.field_cap = FIELDS_FIRST;
	s->head.blocks = &s->first;
	return &s->head;
}

void http_head_free(struct http_head *h)
{
	if (!h)
		return;
	struct store *s = container_of(h, struct store, head);
	while (h->blocks != &s->first) {
		struct http_block *b = h->blocks;
		h->blocks = b->next;
		free(b);
	}
	if (free_count >= FREE_MAX) {
		free(s);
		return;
	}
	if (!registered) {
		pthread_setspecific(thread_end, &free_list);
		registered = true;
	}
	s->next_free = free_list;
	free_list = s;
	free_count++;
}

/* --- text */

static char *block_add(struct http_head *h, size_t n)
{
	if (n > UINT32_MAX / 2)
		return NULL;
	size_t size = n > BLOCK_MIN / 2 ? n + BLOCK_MIN / 2 : BLOCK_MIN;
	struct http_block *b = malloc(sizeof(*b) + size);
	if (!b)
		return NULL;
	b->size = (uint32_t)size;
	b->used = (uint32_t)n;
	b->next = h->blocks;
	h->blocks = b;
	return b->bytes;
}

char *http_head_room(struct http_head *h, size_t n)
{
	struct http_block *b = h->blocks;
	if (n > b->size - b->used)
		return block_add(h, n);
	char *p = b->bytes + b->used;
	b->used += (uint32_t)n;
	return p;
}

struct http_string http_head_text(struct http_head *h, const char *p, size_t n)
{
	if (n == 0)
		return (struct http_string){ "", 0 };
	char *to = http_head_room(h, n);
	if (!to)
		return (struct http_string){ 0 };
	memcpy(to, p, n);
	return (struct http_string){ to, (uint32_t)n };
}

struct http_string http_head_textf(struct http_head *h, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	char *to = n < 0 ? NULL : http_head_room(h, (size_t)n + 1);
	if (!to)
		return (struct http_string){ 0 };
	va_start(ap, format);
	vsnprintf(to, (size_t)n + 1, format, ap);
	va_end(ap);
	return (struct http_string){ to, (uint32_t)n };
}

/* --- names of fields that became members */

static const uint8_t spelt_len[HTTP_SPELT_COUNT] = {
	[HTTP_SPELT_HOST] = sizeof("host") - 1,
	[HTTP_SPELT_CONTENT_LENGTH] = sizeof("content-length") - 1,
	[HTTP_SPELT_TRANSFER_ENCODING] = sizeof("transfer-encoding") - 1,
	[HTTP_SPELT_EXPECT] = sizeof("expect") - 1,
	[HTTP_SPELT_CONNECTION] = sizeof("connection") - 1,
	[HTTP_SPELT_UPGRADE] = sizeof("upgrade") - 1,
};

void http_head_spell(struct http_head *h, enum http_spelt which, const char *as_sent, size_t n)
{
	if (n != spelt_len[which])
		return;
	if (!h->spelling) {
		/* The text of a head has no alignment of its own. */
		char *p = http_head_room(h, sizeof(*h->spelling) + _Alignof(struct http_spelling));
		if (!p)
			return;
		p += -(uintptr_t)p & (_Alignof(struct http_spelling) - 1);
		h->spelling = (struct http_spelling *)(void *)p;
		*h->spelling = (struct http_spelling){ 0 };
	}
	h->spelling->of[which] = http_head_text(h, as_sent, n).p;
}

/* --- copies */

static bool text_copy(struct http_head *h, struct http_string *to, struct http_string from)
{
	if (!from.p)
		return true;
	*to = http_head_text(h, from.p, from.n);
	return to->p != NULL;
}

static bool field_copy(struct http_head *h, const struct http_field *f)
{
	struct http_string name = f->id ? http_name_text(f->id) : http_head_text(h, f->name.p, f->name.n);
	struct http_string value = http_head_text(h, f->value.p, f->value.n);
	if (!name.p || !value.p || http_add_known(h, name, f->id, value) < 0)
		return false;
	struct http_field *to = &h->fields[h->field_count - 1];
	to->sensitive = f->sensitive;
	if (f->as_sent)
		to->as_sent = http_head_text(h, f->as_sent, f->name.n).p;
	return true;
}

struct http_head *http_head_copy(const struct http_head *from)
{
	struct http_head *h = http_head_new();
	if (!h)
		return NULL;
	h->version = from->version;
	h->status = from->status;
	h->content_length = from->content_length;
	h->upgrade = from->upgrade;
	h->expect_continue = from->expect_continue;
	bool ok = text_copy(h, &h->method, from->method) && text_copy(h, &h->scheme, from->scheme) &&
		  text_copy(h, &h->authority, from->authority) && text_copy(h, &h->path, from->path) &&
		  text_copy(h, &h->protocol, from->protocol);
	for (size_t i = 0; ok && i < from->field_count; i++)
		ok = field_copy(h, &from->fields[i]);
	if (!ok) {
		http_head_free(h);
		return NULL;
	}
	for (int i = 0; from->spelling && i < HTTP_SPELT_COUNT; i++)
		if (from->spelling->of[i])
			http_head_spell(h, (enum http_spelt)i, from->spelling->of[i], spelt_len[i]);
	h->text_bytes = from->text_bytes;
	return h;
}
