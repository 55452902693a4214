/* SPDX-License-Identifier: Apache-2.0 */
/* Questions for people's eyes (meshctl proxy-config): pieces are put together, bounded in size, number and time. */
#include "agent/link/supervisor_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/str.h"

enum { DUMP_BYTES_MAX = 16 << 20, DUMP_TIMEOUT_MS = 5000 };

static void dump_finish(struct dump *dump, bool ok)
{
	for (struct dump **at = &dump->s->dumps; *at; at = &(*at)->next) {
		if (*at != dump)
			continue;
		*at = dump->next;
		break;
	}
	dump->fn(ok && !dump->text->failed ? (dump->text->p ? dump->text->p : "[]") : NULL, dump->arg);
	loop_timer_free(dump->timer);
	sb_done(dump->text);
	free(dump->text);
	free(dump);
}

static void on_dump_timeout(struct loop_timer *timer, void *arg)
{
	(void)timer;
	dump_finish(arg, false);
}

void supervisor_dump_piece(struct peer *peer, uint32_t id, const char *json, bool more)
{
	for (struct dump *d = peer->s->dumps; d; d = d->next) {
		if (d->id != id || d->peer != peer->serial)
			continue;
		sb_add(d->text, json);
		if (d->text->failed || d->text->len > DUMP_BYTES_MAX)
			dump_finish(d, false);
		else if (!more)
			dump_finish(d, true);
		return;
	}
}

void supervisor_dump_peer_ended(struct supervisor *s, uint64_t peer)
{
	for (struct dump *d = s->dumps, *next; d; d = next) {
		next = d->next;
		if (!peer || d->peer == peer)
			dump_finish(d, false);
	}
}

int supervisor_dump(struct supervisor *s, const char *what, supervisor_dump_fn fn, void *arg)
{
	size_t pending = 0;
	for (const struct dump *d = s->dumps; d; d = d->next)
		pending++;
	if (pending >= DUMPS_MAX)
		return -EBUSY;
	if (!s->current || !s->current->ready)
		return -ENOTCONN;

	struct dump *dump = calloc(1, sizeof(*dump));
	struct sb *text = calloc(1, sizeof(*text));
	if (!dump || !text || loop_timer_new(s->loop, on_dump_timeout, dump, &dump->timer) < 0) {
		free(dump);
		free(text);
		return -ENOMEM;
	}
	dump->s = s;
	dump->id = ++s->dump_ids;
	dump->peer = s->current->serial;
	dump->fn = fn;
	dump->arg = arg;
	dump->text = text;
	dump->next = s->dumps;
	s->dumps = dump;
	loop_timer_start(dump->timer, DUMP_TIMEOUT_MS, 0);

	Weft__Link__DumpRequest m = WEFT__LINK__DUMP_REQUEST__INIT;
	m.id = dump->id;
	m.what = (char *)(uintptr_t)what; /* only read when packed */
	/* A send that fails ends in the helper's end or the timeout, which both finish it. */
	peer_send(s->current, WEFT__LINK__TO_HELPER__MSG_DUMP, &m, NULL, 0);
	return 0;
}
