/* SPDX-License-Identifier: Apache-2.0 */
/* Files come, change, break, vanish and are rolled back in any order: the store stays consistent. Two bytes an
 * operation; documents come from a small set, so that they meet. */
#include "agent/source/store.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const files[] = { "a.yaml", "b.yaml", "c.yaml", "d.yaml" };

/* Eight documents of four keys: good ones in two versions, a rejected one, an unparsable one. */
static void add_document(struct sb *sb, unsigned int n)
{
	if (n == 7)
		sb_add(sb, "---\nkind: [\n");
	else if (n == 6)
		sb_add(sb, "---\napiVersion: v1\nkind: Namespace\nmetadata: { name: n0, labels: { v: true } }\n");
	else if (n == 5)
		sb_add(sb, "# moves what follows\n");
	else
		sb_addf(sb, "---\napiVersion: v1\nkind: Namespace\nmetadata: { name: n%u, labels: { v: v%u } }\n",
			n % 3, n / 3);
}

static void put(struct store *s, const char *file, uint8_t documents)
{
	struct sb sb = { 0 };
	for (unsigned int i = 0; i < 8; i++)
		if (documents >> i & 1)
			add_document(&sb, i);
	store_put_file(s, file, sb.p ? sb.p : "", sb.len);
	sb_done(&sb);
}

static void check(const struct store *s)
{
	size_t n = 0, rejections;
	const char *last = "";
	for (const struct resource *r = NULL; (r = store_next(s, KIND_NAMESPACE, r)); n++) {
		struct sb text = { 0 };
		struct err err;
		if (strcmp(last, r->key) >= 0 || store_get(s, KIND_NAMESPACE, NULL, r->name) != r ||
		    store_text(s, r->key, &text, &err) < 0)
			abort();
		sb_done(&text);
		last = r->key;
	}
	if (n != store_count(s))
		abort();
	const struct rejection *r = store_rejections(s, &rejections);
	for (size_t i = 0; i < rejections; i++)
		if (!r[i].key || !r[i].origin || !r[i].text)
			abort();
}

static void operate(struct store *s, uint8_t op, uint8_t arg)
{
	struct sb diff = { 0 };
	struct err err = ERR_INIT;
	const char *file = files[op & 3];
	bool changed;
	switch (op >> 2 & 7) {
	case 0:
	case 1:
		put(s, file, arg);
		break;
	case 2:
		store_remove_file(s, file);
		break;
	case 3:
		store_put_unreadable(s, file, "broken");
		break;
	case 4:
		store_put_unreadable(s, NULL, arg & 1 ? "gone" : NULL);
		break;
	case 5:
		if (store_rollback(s, store_revision(s) - arg % 8, &err) == 0)
			check(s);
		return;
	case 6:
		store_diff(s, store_revision(s) - arg % 8, store_revision(s), &diff, &err);
		sb_done(&diff);
		return;
	case 7:
		return;
	}
	if (op & 32) /* several files in one commit */
		return;
	if (store_commit(s, &changed, &err) < 0)
		abort();
	check(s);
}

/* With all files good and a commit, what is in force is what the files say and nothing is complained about. */
static void settle(struct store *s)
{
	struct err err = ERR_INIT;
	bool changed;
	store_put_unreadable(s, NULL, NULL);
	for (size_t i = 1; i < 4; i++)
		store_remove_file(s, files[i]);
	put(s, files[0], 0x04 | 0x02);
	if (store_commit(s, &changed, &err) < 0)
		abort();
	put(s, files[0], 0x10 | 0x02);
	size_t rejections;
	store_rejections(s, &rejections);
	if (store_commit(s, &changed, &err) < 0 || store_count(s) != 1)
		abort();
	store_rejections(s, &rejections);
	if (rejections != 1) /* n1 is there twice: documents 1 and 4 */
		abort();
	check(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store *s;
	struct err err = ERR_INIT;
	if (store_new(&s) < 0)
		return 0;
	if (store_open(s, NULL, &err) < 0)
		abort();
	for (size_t i = 0; i + 1 < size && i < 400; i += 2)
		operate(s, data[i], data[i + 1]);
	settle(s);
	store_free(s);
	return 0;
}
