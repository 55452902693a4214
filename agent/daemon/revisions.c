/* SPDX-License-Identifier: Apache-2.0 */
/* Revisions for the admin API, from the store. */
#include "agent/control/backend.h"
#include "agent/daemon/internal.h"
#include "agent/source/store.h"

void daemon_revisions(void (*on_revision)(const struct control_revision *r, void *ctx), void *ctx, void *arg)
{
	const struct daemon *d = arg;
	const struct revision *all[STORE_HISTORY_MAX];
	size_t n = store_history(d->store, all, STORE_HISTORY_MAX);

	for (size_t i = 0; i < n; i++) {
		const struct control_revision r = {
			.number = all[i]->number,
			.time_s = all[i]->time_s,
			.summary = all[i]->summary,
			.rollback = all[i]->rolled_back_from,
			.current = all[i]->number == store_revision(d->store),
		};
		on_revision(&r, ctx);
	}
}

int daemon_revision_diff(uint64_t from, uint64_t to, struct sb *out, struct err *err, void *arg)
{
	return store_diff(((struct daemon *)arg)->store, from, to, out, err);
}

int daemon_revision_rollback(uint64_t to, struct err *err, void *arg)
{
	return store_rollback(((struct daemon *)arg)->store, to, err);
}

int daemon_resource_text(const char *key, struct sb *out, struct err *err, void *arg)
{
	return store_text(((struct daemon *)arg)->store, key, out, err);
}
