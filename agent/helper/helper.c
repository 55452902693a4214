/* SPDX-License-Identifier: Apache-2.0 */
/* Life of the helper: the link, then the workers when the agent has said hello, then carrying on. When the agent goes away
 * the helper serves with what it has. What it would have to ask for waits for the next agent, for AWAY_MS; then the helper
 * is alone, and refuses it, until an agent comes (rejoin.c). It ends when it is told to (Drain or SIGTERM) and has nothing
 * left to carry, or when draining takes too long. */
#include "agent/helper/helper.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/memory.h"
#include "agent/base/table.h"
#include "agent/helper/helper_internal.h"
#include "agent/helper/observe/log_writer.h"
#include "agent/helper/tls_credentials.h"
#include "agent/link/channel.h"
#include "agent/link/request_metrics.h"

enum { REPORTS_MAX = 65536, ORPHAN_DRAIN_MS = 300000, AWAY_MS = 15000, SETTLE_MS = 500, QUIET_MS = 5000 };

bool helper_send(struct helper *h, Weft__Link__ToAgent__MsgCase which, void *message)
{
	if (!h->channel)
		return false;
	Weft__Link__ToAgent wrapped = WEFT__LINK__TO_AGENT__INIT;
	wrapped.msg_case = which;
	wrapped.ready = message; /* every member of the union is a pointer */
	return message_send(h->channel, &wrapped.base, NULL, 0) == 0;
}

void helper_order_all(struct helper *h, struct order *(*make)(void *arg), void *arg)
{
	for (unsigned int i = 0; i < h->worker_count; i++)
		worker_order(h->workers[i], make(arg));
}

static struct order *plain_order(void *kind)
{
	return order_new(*(const enum order_kind *)kind, 0);
}

static void helper_order_plain(struct helper *h, enum order_kind kind)
{
	helper_order_all(h, plain_order, &kind);
}

/* --- workers --- */

/* A number that stands still when nothing is carried, and how many connections there are. */
static uint64_t work_done(const struct helper *h, uint64_t *open)
{
	uint64_t opened = 0, closed = 0, other = 0;
	for (unsigned int i = 0; i < h->worker_count; i++) {
		const struct link_shard *shard = &h->metrics->shards[i];
		opened += __atomic_load_n(&shard->outbound_opened, __ATOMIC_RELAXED) +
			  __atomic_load_n(&shard->inbound_opened, __ATOMIC_RELAXED);
		closed += __atomic_load_n(&shard->outbound_closed, __ATOMIC_RELAXED) +
			  __atomic_load_n(&shard->inbound_closed, __ATOMIC_RELAXED);
		other += __atomic_load_n(&shard->sent_bytes, __ATOMIC_RELAXED) +
			 __atomic_load_n(&shard->received_bytes, __ATOMIC_RELAXED) +
			 __atomic_load_n(&shard->dns_answered, __ATOMIC_RELAXED) +
			 __atomic_load_n(&shard->dns_forwarded, __ATOMIC_RELAXED);
	}
	*open = opened - closed;
	return opened + closed + other;
}

/* Not under traffic, which would fault every page of code in again. The end of a connection tells nobody, so as long as
 * there are some the timer looks again. */
static void on_settle(struct loop_timer *timer, void *arg)
{
	struct helper *h = arg;
	uint64_t open, work = work_done(h, &open);
	bool quiet = work == h->work_seen;
	h->work_seen = work;
	if (quiet && h->settle_due)
		memory_settle();
	h->settle_due = !quiet;
	h->settle_watched = !quiet || open > 0;
	if (h->settle_watched)
		loop_timer_start(timer, QUIET_MS, 0);
}

void helper_settle_later(struct helper *h)
{
	h->settle_due = h->settle_watched = true;
	loop_timer_start(h->settle_timer, SETTLE_MS, 0);
}

void helper_settle_when_quiet(struct helper *h)
{
	if (h->settle_watched)
		return;
	h->settle_due = h->settle_watched = true;
	loop_timer_start(h->settle_timer, QUIET_MS, 0);
}

static int workers_make(struct helper *h, struct err *err)
{
	/* One arena a thread, no more: memory that one frees would otherwise lie about in many. */
	mallopt(M_ARENA_MAX, (int)h->settings.threads + 1);
	for (unsigned int i = 0; i < h->settings.threads; i++) {
		h->live[i] = UINT32_MAX;
		int rc = worker_new(i, h->settings.threads, &h->settings, &h->metrics->shards[i], h->reports,
				    &h->workers[i], err);
		if (rc < 0)
			return rc;
		h->worker_count++;
		rc = request_writer_new(&h->memory->requests.shards[i], &h->workers[i]->requests);
		if (rc < 0)
			return err_sys(err, rc, "worker %u: prepare", i);
	}
	return 0;
}

int helper_workers_start(struct helper *h, struct err *err)
{
	int rc = workers_make(h, err);
	for (unsigned int i = 0; rc == 0 && i < h->worker_count; i++)
		rc = worker_start(h->workers[i], err);
	helper_settle_later(h);
	return rc;
}

static void workers_stop(struct helper *h)
{
	helper_order_plain(h, ORDER_STOP);
	for (unsigned int i = 0; i < h->worker_count; i++)
		worker_join(TAKE(h->workers[i]));
	h->worker_count = 0;
}

/* --- ends --- */

static void on_drain_timeout(struct loop_timer *timer, void *arg)
{
	struct helper *h = arg;
	(void)timer;
	log_warn("draining took too long: what is still carried is cut");
	loop_stop(h->loop);
}

void helper_drain(struct helper *h, uint32_t timeout_ms)
{
	if (h->draining)
		return;
	h->draining = true;
	if (!h->worker_count) {
		loop_stop(h->loop);
		return;
	}
	helper_order_plain(h, ORDER_DRAIN);
	if (!timeout_ms)
		timeout_ms = h->drain_timeout_ms ? h->drain_timeout_ms : ORPHAN_DRAIN_MS;
	loop_timer_start(h->drain_timer, timeout_ms, 0);
}

static void on_sigterm(int signum, void *arg)
{
	(void)signum;
	helper_drain(arg, 0);
}

/* --- the agent goes and comes --- */

static void helper_go_alone(struct helper *h)
{
	h->alone = true;
	helper_order_plain(h, ORDER_ALONE);
	endpoint_hub_alone(h->endpoints);
	target_hub_alone(h->targets);
}

static void on_away_timeout(struct loop_timer *timer, void *arg)
{
	struct helper *h = arg;
	(void)timer;
	log_warn("no agent for %d s: what is not known is refused until one comes", AWAY_MS / 1000);
	helper_go_alone(h);
}

void helper_agent_gone(struct helper *h, const char *why)
{
	channel_free(TAKE(h->channel));
	if (!h->worker_count) {
		/* It never became one: there is nothing to carry on with. */
		h->status = 1;
		loop_stop(h->loop);
		return;
	}
	log_set_sink(NULL, NULL);
	log_warn("%s: carrying on alone", why);
	if (!rejoin_possible(h->rejoin)) {
		helper_go_alone(h);
		return;
	}
	helper_order_plain(h, ORDER_AWAY);
	if (!h->alone)
		loop_timer_start(h->away_timer, AWAY_MS, 0);
	rejoin_await(h->rejoin);
}

void helper_agent_back(struct helper *h, struct channel *channel)
{
	h->channel = channel;
	h->alone = false;
	loop_timer_stop(h->away_timer);
	log_set_sink(reports_on_log, h);
	log_info("another agent is there");
	helper_order_plain(h, ORDER_BACK);
	endpoint_hub_back(h->endpoints);
	target_hub_back(h->targets);
	identities_back(h->identities);
}

/* --- begin --- */

static void pod_spec_release(void *value)
{
	pod_spec_unref(value);
}

static int helper_prepare(struct helper *h, int link_fd, struct err *err)
{
	int rc = loop_new(&h->loop, err);
	if (rc < 0)
		return rc;
	h->pods = table_new(pod_spec_release);
	h->endpoints = endpoint_hub_new(h);
	h->targets = target_hub_new(h);
	rc = h->pods && h->endpoints && h->targets ? identities_new(h, &h->identities) : -ENOMEM;
	if (rc == 0)
		rc = mailbox_new(h->loop, REPORTS_MAX, reports_on_report, h, &h->reports);
	if (rc == 0)
		rc = loop_timer_new(h->loop, on_drain_timeout, h, &h->drain_timer);
	if (rc == 0)
		rc = loop_timer_new(h->loop, on_settle, h, &h->settle_timer);
	if (rc == 0)
		rc = loop_timer_new(h->loop, on_away_timeout, h, &h->away_timer);
	if (rc == 0)
		rc = rejoin_new(h, &h->rejoin);
	if (rc == 0)
		rc = leaving_new(h, &h->leaving);
	if (rc == 0)
		rc = loop_signal_new(h->loop, SIGTERM, on_sigterm, h, &h->sigterm);
	if (rc == 0)
		rc = channel_new(h->loop, link_fd, control_on_message, rejoin_link_closed, h, &h->channel);
	return rc < 0 ? err_sys(err, rc, "prepare the link thread") : 0;
}

static void report_left(void *message)
{
	report_free(message);
}

static void settings_done(struct helper_settings *settings)
{
	for (size_t i = 0; i < settings->trust_domain_alias_count; i++)
		free(settings->trust_domain_aliases[i]);
	free(settings->trust_domain_aliases);
	free(settings->trust_domain);
	free(settings->node);
}

static void helper_done(struct helper *h)
{
	log_set_sink(NULL, NULL);
	workers_stop(h);
	log_writer_free(h->settings.log_writer); /* what the workers left there is written */
	reports_dumps_done(h);
	identities_free(h->identities);
	endpoint_hub_free(h->endpoints);
	target_hub_free(h->targets);
	table_free(h->pods);
	tls_trust_unref(h->trust);
	channel_free(h->channel);
	rejoin_free(h->rejoin);
	leaving_free(h->leaving);
	loop_timer_free(h->away_timer);
	loop_signal_free(h->sigterm);
	loop_timer_free(h->drain_timer);
	loop_timer_free(h->settle_timer);
	mailbox_free(h->reports, report_left);
	if (h->loop)
		loop_free(h->loop);
	if (h->memory)
		munmap(h->memory, sizeof(*h->memory));
	settings_done(&h->settings);
}

int helper_run(int link_fd)
{
	/* The address is given to callbacks and threads: it lives as long as the process does its work. */
	struct helper *h = calloc(1, sizeof(*h));
	struct err err = ERR_INIT;
	if (!h)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	/* Large blocks go back to the kernel when they are freed, however many there have been. */
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	mallopt(M_TRIM_THRESHOLD, 128 << 10);
	if (helper_prepare(h, link_fd, &err) < 0) {
		log_error("%s", err.text);
		h->status = 1;
	} else {
		log_set_sink(reports_on_log, h);
		loop_run(h->loop);
	}
	int status = h->status;
	helper_done(h);
	free(h);
	return status;
}
