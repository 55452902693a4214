/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/identities.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/state.h"

struct use {
	struct identity *identity; /* a reference, which goes to the publisher when it is retired */
	size_t users;
	bool published, queued;
};

static void on_use_free(void *value)
{
	struct use *use = value;

	identity_unref(use->identity);
	free(use);
}

int identities_init(struct compiler *c)
{
	c->identities = table_new(on_use_free);
	c->identity_ids = table_new(NULL);
	return c->identities && c->identity_ids ? 0 : -ENOMEM;
}

void identities_done(struct compiler *c)
{
	table_free(c->identities);
	table_free(c->identity_ids);
	queue_done(&c->changed_identities);
}

static int use_queue(struct compiler *c, struct use *use)
{
	if (use->queued)
		return 0;
	if (queue_add(&c->changed_identities, use) < 0)
		return -ENOMEM;
	use->queued = true;
	return 0;
}

/* Ids are hashes; of two names with one hash the later gets the next free number. */
static int id_claim(struct compiler *c, struct identity *identity)
{
	while (!identity->id || table_get(c->identity_ids, &identity->id, sizeof(identity->id)))
		identity->id++;
	return table_set(c->identity_ids, &identity->id, sizeof(identity->id), identity);
}

static struct use *use_new(struct compiler *c, const char *ns, const char *account)
{
	struct use *use = calloc(1, sizeof(*use));
	if (!use)
		return NULL;
	use->identity = identity_new(c->mesh.trust_domain, ns, account);
	if (!use->identity || id_claim(c, use->identity) < 0)
		goto fail;
	if (table_set_str(c->identities, use->identity->uri, use) < 0) {
		table_remove(c->identity_ids, &use->identity->id, sizeof(use->identity->id));
		goto fail;
	}
	return use;
fail:
	on_use_free(use);
	return NULL;
}

struct identity *identities_take(struct compiler *c, const char *ns, const char *account)
{
	char uri[IDENTITY_URI_MAX + 1];
	int len = snprintf(uri, sizeof(uri), "spiffe://%s/ns/%s/sa/%s", c->mesh.trust_domain, ns, account);
	if (len < 0 || (size_t)len >= sizeof(uri))
		return NULL;

	struct use *use = table_get_str(c->identities, uri);
	if (!use)
		use = use_new(c, ns, account);
	return use && use_queue(c, use) == 0 ? identity_ref(use->identity) : NULL;
}

int identities_count(struct compiler *c, const struct identity *identity, int by)
{
	struct use *use = table_get_str(c->identities, identity->uri);

	use->users += (size_t)by;
	return use_queue(c, use);
}

int identities_publish(struct compiler *c)
{
	for (size_t i = 0; i < c->changed_identities.n; i++) {
		const struct use *use = c->changed_identities.v[i];
		int rc = 0;
		if (use->users && !use->published)
			rc = publisher_identity(&c->publisher, NULL, use->identity);
		else if (!use->users && use->published)
			rc = publisher_identity(&c->publisher, use->identity, NULL);
		if (rc < 0)
			return rc;
	}
	return 0;
}

void identities_committed(struct compiler *c)
{
	for (size_t i = 0; i < c->changed_identities.n; i++) {
		struct use *use = c->changed_identities.v[i];
		use->queued = false;
		if (use->users) {
			use->published = true;
			continue;
		}
		char uri[IDENTITY_URI_MAX + 1];
		str_copy(uri, sizeof(uri), use->identity->uri);
		table_remove(c->identity_ids, &use->identity->id, sizeof(use->identity->id));
		if (use->published)
			use->identity = NULL; /* the generation has it now */
		table_remove_str(c->identities, uri);
	}
	c->changed_identities.n = 0;
}
