/* SPDX-License-Identifier: Apache-2.0 */
/* Files of configuration -> documents -> resources. The first byte chooses how the file is called. */
#include "agent/config/decode.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/hash.h"
#include "agent/base/str.h"
#include "agent/config/redact.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct decoded *out)
{
	for (size_t i = 0; i < out->resource_count; i++) {
		const struct resource *r = out->resources[i];
		size_t name = strlen(resource_kind_key_name(r->kind));
		if (strncmp(r->key, resource_kind_key_name(r->kind), name) || r->key[name] != '/' || !r->name ||
		    !r->ns || !r->origin || !r->api_version)
			abort();
		if (resource_kind_is_namespaced(r->kind) != (*r->ns != 0))
			abort();
	}
	for (size_t i = 0; i < out->problem_count; i++)
		if (!out->problems[i].text || !*out->problems[i].text || !out->problems[i].line)
			abort();
}

/* What is read as a Secret is never shown as it was written. */
static void check_hidden(const struct decoded *out, const char *name, const char *text, size_t len)
{
	bool secret = false;
	struct sb shown = { 0 };
	for (size_t i = 0; i < out->resource_count; i++)
		secret |= out->resources[i]->kind == KIND_SECRET;
	if (document_redact(name, text, len, &shown) == 0 && (secret || shown.len))
		abort();
	sb_done(&shown);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "a.yaml", "a.json", "mesh.yaml", "mesh.json" };
	static struct decoder *decoder;
	struct document_text text;
	uint32_t line = 1;
	if (!size || (!decoder && decoder_new(&decoder) < 0))
		return 0;
	const char *name = names[data[0] % 4], *at = (const char *)data + 1, *end = (const char *)data + size;
	while (document_next(&at, end, &line, &text)) {
		struct decoded out;
		/* A copy, so that reading past a document's end is seen. */
		char *copy = malloc(text.len);
		memcpy(copy, text.text, text.len);
		if (decoder_run(decoder, name, text.line, copy, text.len, hash64(HASH64_INIT, copy, text.len), &out) ==
		    0) {
			check(&out);
			check_hidden(&out, name, copy, text.len);
			free(copy);
			decoded_done(&out);
		} else {
			free(copy);
		}
	}
	return 0;
}
