/* SPDX-License-Identifier: Apache-2.0 */
/* The identities of this node's pods: a key is made here, its request goes to the agent, and what comes back goes to all
 * workers. Certificates are renewed, with a new key each, when the configured share of their life is left, a little
 * earlier by chance so that a node's certificates do not all come due together. The old one serves until then, and
 * connections made with it stay. */
#include "agent/helper/helper_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/helper/tls_credentials.h"
#include "agent/helper/tls_key.h"
#include "agent/link/rate.h"

enum { ANSWER_TIMEOUT_MS = 10000, RETRY_FIRST_MS = 1000, RETRY_MAX_MS = 60000, GRACE_DEFAULT_PERCENT = 50 };

struct held_identity {
	struct identities *ids;
	char *uri;
	size_t pods;
	struct tls_key *key; /* of the request under way; NULL: none */
	bool due;	     /* to be asked for when there is an agent again */
	uint64_t not_after_s, renewed;
	unsigned int failures;
	struct loop_timer *timer; /* next renewal, retry, or the answer's time limit */
};

struct identities {
	struct helper *h;
	struct table *held;
};

static void held_free(void *value)
{
	struct held_identity *id = value;
	loop_timer_free(id->timer);
	tls_key_free(id->key);
	free(id->uri);
	free(id);
}

int identities_new(struct helper *h, struct identities **out)
{
	struct identities *ids = calloc(1, sizeof(*ids));
	if (!ids)
		return -ENOMEM;
	ids->h = h;
	ids->held = table_new(held_free);
	if (!ids->held) {
		free(ids);
		return -ENOMEM;
	}
	*out = ids;
	return 0;
}

void identities_free(struct identities *ids)
{
	if (!ids)
		return;
	table_free(ids->held);
	free(ids);
}

/* A share of `span` between 0 and 1, by chance. */
static uint64_t jitter(uint64_t span)
{
	uint32_t r = 0;
	if (getrandom(&r, sizeof(r), 0) != sizeof(r))
		return 0;
	return span * r / UINT32_MAX;
}

static void held_retry(struct held_identity *id, const char *why)
{
	unsigned int shift = id->failures < 6 ? id->failures : 6;
	uint64_t delay = (uint64_t)RETRY_FIRST_MS << shift;
	if (delay > RETRY_MAX_MS)
		delay = RETRY_MAX_MS;
	/* Once when it starts and then now and then: the reason rarely changes. */
	if (id->failures == 0 || id->failures % 10 == 9)
		log_warn("certificate for %s: %s; trying again (%s)", id->uri, why,
			 id->not_after_s ? "the present one stays in use" : "its pods have none until then");
	id->failures++;
	tls_key_free(TAKE(id->key));
	loop_timer_start(id->timer, delay - delay / 4 + jitter(delay / 4), 0);
}

static void held_request(struct held_identity *id)
{
	struct helper *h = id->ids->h;
	struct err err = ERR_INIT;
	id->due = !h->channel;
	if (id->due)
		return; /* nobody signs */
	tls_key_free(TAKE(id->key));
	if (tls_key_new(h->settings.rsa_keys, &id->key, &err) < 0) {
		held_retry(id, err.text);
		return;
	}
	AUTO(mem_freep) char *csr_pem = NULL;
	if (tls_key_csr(id->key, id->uri, &csr_pem, &err) < 0) {
		held_retry(id, err.text);
		return;
	}
	Weft__Link__Csr csr = WEFT__LINK__CSR__INIT;
	csr.identity = id->uri;
	csr.csr_pem = csr_pem;
	if (!helper_send(h, WEFT__LINK__TO_AGENT__MSG_CSR, &csr)) {
		held_retry(id, "the agent does not take the request");
		return;
	}
	loop_timer_start(id->timer, ANSWER_TIMEOUT_MS, 0);
}

static void on_held_timer(struct loop_timer *timer, void *arg)
{
	struct held_identity *id = arg;
	(void)timer;
	if (id->key)
		held_retry(id, "no answer from the agent within 10 s");
	else
		held_request(id);
}

void identities_use(struct identities *ids, const char *uri)
{
	struct held_identity *id = table_get_str(ids->held, uri);
	if (id) {
		id->pods++;
		return;
	}
	id = calloc(1, sizeof(*id));
	if (!id || !(id->uri = strdup(uri)) || loop_timer_new(ids->h->loop, on_held_timer, id, &id->timer) < 0 ||
	    table_set_str(ids->held, uri, id) < 0) {
		log_error("certificate for %s: out of memory", uri);
		if (id)
			held_free(id);
		return;
	}
	id->ids = ids;
	id->pods = 1;
	held_request(id);
}

void identities_release(struct identities *ids, const char *uri)
{
	struct held_identity *id = table_get_str(ids->held, uri);
	if (id && --id->pods == 0)
		table_remove_str(ids->held, uri);
}

static struct order *credentials_order(void *arg)
{
	struct order *order = order_new(ORDER_CREDENTIALS, 0);
	if (order)
		order->credentials = tls_credentials_ref(arg);
	return order;
}

static void held_schedule(struct held_identity *id)
{
	uint64_t now_s = clock_wall_ns() / 1000000000u;
	uint64_t left_ms = id->not_after_s > now_s ? (id->not_after_s - now_s) * 1000 : 0;
	uint32_t percent = id->ids->h->cert_grace_percent;
	if (percent == 0 || percent > 95)
		percent = percent ? 95 : GRACE_DEFAULT_PERCENT;
	uint64_t wait_ms = left_ms / 100 * (100 - percent);
	wait_ms -= jitter(wait_ms / 10);
	loop_timer_start(id->timer, wait_ms > RETRY_FIRST_MS ? wait_ms : RETRY_FIRST_MS, 0);
}

void identities_certificate(struct identities *ids, const char *uri, const char *chain_pem, uint64_t not_after_s,
			    const char *error)
{
	struct held_identity *id = table_get_str(ids->held, uri);
	if (!id || !id->key)
		return; /* gone, or an answer that came after its time */
	if (*error) {
		held_retry(id, error);
		return;
	}
	struct err err = ERR_INIT;
	struct tls_credentials *credentials;
	if (tls_credentials_new(uri, id->key, chain_pem, &credentials, &err) < 0) {
		held_retry(id, err.text);
		return;
	}
	tls_key_free(TAKE(id->key));
	id->failures = 0;
	id->not_after_s = not_after_s;
	id->renewed++;
	helper_order_all(ids->h, credentials_order, credentials);
	tls_credentials_unref(credentials);
	/* The shard after the workers' is the link thread's. */
	uint64_t *rotations = &ids->h->metrics->shards[ids->h->worker_count].rotations;
	__atomic_store_n(rotations, *rotations + 1, __ATOMIC_RELAXED);
	held_schedule(id);
	helper_settle_later(ids->h);
}

void identities_rotate(struct identities *ids, const char *uri)
{
	struct table_iter it = { 0 };
	while (table_next(ids->held, &it)) {
		struct held_identity *id = it.value;
		if ((!*uri || strcmp(uri, id->uri) == 0) && !id->key)
			held_request(id);
	}
}

void identities_back(struct identities *ids)
{
	struct table_iter it = { 0 };
	while (table_next(ids->held, &it)) {
		struct held_identity *id = it.value;
		if (id->due || id->key)
			held_request(id); /* the answer to what was asked before is lost */
	}
}

void identities_dump(const struct identities *ids, struct sb *out)
{
	struct table_iter it = { 0 };
	const char *separator = "";
	sb_add(out, "[");
	while (table_next(ids->held, &it)) {
		const struct held_identity *id = it.value;
		/* SPIFFE URIs have no character that JSON would escape: identity_parse() saw to it. */
		sb_addf(out,
			"%s{\"identity\":\"%s\",\"pods\":%zu,\"state\":\"%s\",\"notAfter\":%" PRIu64
			",\"renewed\":%" PRIu64 ",\"failures\":%u}",
			separator, id->uri, id->pods, id->not_after_s ? "active" : "pending", id->not_after_s,
			id->renewed, id->failures);
		separator = ",";
	}
	sb_add(out, "]");
}
