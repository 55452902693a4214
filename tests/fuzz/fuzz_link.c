/* SPDX-License-Identifier: Apache-2.0 */
/* A compromised helper: any message, after the agent has told it of a pod. The first byte picks how: as it comes (1), as a
 * policy (0) or another object (2 to 5) on its way to the helper, as records of the channel (6), or as memory with counts
 * (7). The agent may refuse or condemn, nothing else. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/link/shape.h"
#include "agent/link/supervisor_internal.h"
#include "agent/model/cluster.h"
#include "agent/model/filters.h"
#include "agent/model/identity.h"
#include "agent/model/l7.h"
#include "agent/model/policy.h"
#include "agent/model/telemetry.h"

enum { COOKIE = 7 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int open_sockets(uint64_t cookie, enum pod_socket kind, int *fds, size_t count, struct err *err, void *arg)
{
	(void)arg;
	(void)fds;
	assert(count > 0);
	assert(cookie == COOKIE);
	assert(kind == POD_CONNECT_REMOTE || kind == POD_CONNECT_LOCAL || kind == POD_UDP_REMOTE);
	return err_set(err, -EMFILE, "not here");
}

static void on_endpoint(const struct addr_port *at, struct link_endpoint *out, void *arg)
{
	(void)at;
	(void)arg;
	out->known = true;
}

static void on_target(uint64_t cookie, const struct addr_port *original, const char *host, struct l7_target **out,
		      void *arg)
{
	(void)original;
	(void)arg;
	assert(cookie == COOKIE && (!host || (*host && strlen(host) <= 255)));
	*out = l7_target_new();
	if (*out && ((*out)->vhost = http_vhost_new())) {
		(*out)->vhost->name = strdup("routes");
		http_vhost_seal((*out)->vhost, NULL);
	}
	if (*out)
		l7_target_seal(*out);
}

static void on_cluster(const char *name, struct http_cluster **out, void *arg)
{
	(void)arg;
	(void)out;
	assert(*name && strlen(name) <= 1024);
}

static void on_spans(const uint8_t *batch, size_t len, uint32_t count, void *arg)
{
	(void)count;
	(void)arg;
	assert(len > 0 && len <= LINK_HELPER_MESSAGE_MAX);
	volatile uint8_t last = batch[len - 1];
	(void)last;
}

static void on_tapped(const char *json, void *arg)
{
	(void)arg;
	assert(strlen(json) <= 16384);
}

static void on_dns(uint64_t cookie, const char *name, struct link_dns_answer *out, void *arg)
{
	(void)arg;
	assert(cookie == COOKIE && *name && strlen(name) <= 255);
	out->known = true;
}

static void on_csr(uint64_t request, const char *identity, const char *csr, void *arg)
{
	(void)request;
	(void)arg;
	assert(strcmp(identity, "spiffe://a/ns/b/sa/c") == 0 && *csr);
}

static void on_dropped(const struct link_dropped *dropped, void *arg)
{
	(void)arg;
	assert(dropped->cookie == COOKIE && dropped->reason > DROP_NONE && dropped->reason < DROP_REASON_COUNT);
}

static void on_closed(const struct err *err, void *arg)
{
	(void)err;
	(void)arg;
}

static void on_reply(const uint8_t *bytes, size_t len, int *fds, size_t fd_count, void *arg)
{
	(void)bytes;
	(void)len;
	(void)fds;
	(void)fd_count;
	(void)arg;
}

static void hostile(const uint8_t *data, size_t size)
{
	struct loop *loop;
	int pair[2];
	if (loop_new(&loop, NULL) < 0 || channel_pair(pair, NULL) < 0)
		abort();
	struct supervised_pod pod = { .cookie = COOKIE };
	struct identity_use use = { 1 };
	struct supervisor s = { .loop = loop,
				.pods = table_new(NULL),
				.identities = table_new(NULL),
				.events = { .open_sockets = open_sockets,
					    .endpoint = on_endpoint,
					    .target = on_target,
					    .cluster = on_cluster,
					    .on_spans = on_spans,
					    .dns = on_dns,
					    .on_csr = on_csr,
					    .on_dropped = on_dropped } };
	uint64_t cookie = COOKIE;
	table_set(s.pods, &cookie, sizeof(cookie), &pod);
	table_set_str(s.identities, "spiffe://a/ns/b/sa/c", &use);
	struct peer peer = { .s = &s,
			     .serial = 1,
			     .ready = true,
			     .process = { .pidfd = -1 },
			     .endpoints = table_new(free),
			     .targets = table_new(free),
			     .clusters = table_new(free),
			     .vhosts = table_new(free),
			     .csrs = table_new(free),
			     .csr_rate = RATE(1, 4),
			     .socket_rate = RATE(1, 128),
			     .endpoint_rate = RATE(1, 4),
			     .target_rate = RATE(1, 4),
			     .cluster_rate = RATE(1, 4),
			     .span_rate = RATE(1, 4),
			     .tap_rate = RATE(1, 4),
			     .dns_rate = RATE(1, 4),
			     .drop_rate = RATE(1, 4),
			     .result_rate = RATE(1, 4),
			     .log_rate = RATE(1, 4),
			     .bad_rate = RATE(1, 4),
			     .message_rate = RATE(1, 100) };
	if (channel_new(loop, pair[0], on_reply, on_closed, &peer, &peer.channel) < 0)
		abort();
	s.peers = s.current = &peer;
	s.taps[0] = (struct tap){ .id = 1, .fn = on_tapped };
	for (int i = 0; i < 8 && peer.channel; i++)
		peer_on_message(data, size, NULL, 0, &peer);
	if (peer.channel)
		peer_targets_refresh(&peer);
	channel_free(peer.channel);
	close(pair[1]);
	table_free(peer.endpoints);
	table_free(peer.targets);
	table_free(peer.clusters);
	assert(!peer.vhosts || table_count(peer.vhosts) <= 1);
	table_free(peer.vhosts);
	table_free(peer.csrs);
	table_free(s.pods);
	table_free(s.identities);
	loop_free(loop);
}

/* What was decoded is encoded to the same bytes again. */
static void policy(const uint8_t *data, size_t size)
{
	Weft__Link__Policy *m = weft__link__policy__unpack(NULL, size, data);
	struct policy *p = NULL, *again = NULL;
	if (!m)
		return;
	if (message_policy_decode(m, &p) == 0) {
		Weft__Link__Policy *encoded = NULL;
		int rc = message_policy_encode(p, &encoded);
		assert(rc == 0);
		rc = message_policy_decode(encoded, &again);
		assert(rc == 0 && again->rule_count == p->rule_count && again->port_mtls_count == p->port_mtls_count);
		weft__link__policy__free_unpacked(encoded, NULL);
		policy_unref(again);
		policy_unref(p);
	}
	weft__link__policy__free_unpacked(m, NULL);
}

/* What can be decoded has an id, and keeps it when it is handed on. */
#define OBJECT(T, name)                                                                                                \
	static void name(const uint8_t *data, size_t size)                                                             \
	{                                                                                                              \
		ProtobufCMessage *m = protobuf_c_message_unpack(shape_##T.message, NULL, size, data), *again = NULL;   \
		struct T *object, *back;                                                                               \
		if (!m)                                                                                                \
			return;                                                                                        \
		if (message_##name##_decode((const void *)m, &object) == 0) {                                          \
			int rc = message_##name##_encode(object, (void *)&again);                                      \
			assert(rc == 0);                                                                               \
			rc = message_##name##_decode((const void *)again, &back);                                      \
			assert(rc == 0 && back->id == object->id);                                                     \
			protobuf_c_message_free_unpacked(again, NULL);                                                 \
			T##_unref(back);                                                                               \
			T##_unref(object);                                                                             \
		}                                                                                                      \
		protobuf_c_message_free_unpacked(m, NULL);                                                             \
	}

OBJECT(l7_target, target)
OBJECT(http_cluster, cluster)
OBJECT(http_filters, filters)
OBJECT(telemetry, telemetry)

/* --- the channel: records as they come, each a length and its bytes --- */

static void on_record_message(const uint8_t *bytes, size_t len, int *fds, size_t fd_count, void *arg)
{
	(void)fds;
	(void)arg;
	assert(len <= LINK_HELPER_MESSAGE_MAX && fd_count == 0);
	volatile uint8_t last = len ? bytes[len - 1] : 0;
	(void)last;
}

static void on_record_closed(const struct err *err, void *arg)
{
	(void)err;
	loop_stop(arg);
}

static void records(const uint8_t *data, size_t size)
{
	struct loop *loop;
	struct channel *channel;
	int pair[2];
	if (loop_new(&loop, NULL) < 0 || channel_pair(pair, NULL) < 0 ||
	    channel_new(loop, pair[0], on_record_message, on_record_closed, loop, &channel) < 0)
		abort();
	channel_limit(channel, LINK_HELPER_MESSAGE_MAX);
	while (size > 1) {
		size_t n = data[0] < size - 1 ? data[0] : size - 1;
		if (n && send(pair[1], data + 1, n, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			break;
		data += 1 + n;
		size -= 1 + n;
	}
	close(pair[1]);
	loop_run(loop); /* until the end is seen, or a rule is broken */
	channel_free(channel);
	loop_free(loop);
}

/* --- counts: what a helper writes into the memory that the agent reads --- */

static void counts(const uint8_t *data, size_t size)
{
	static struct request_metrics *m;
	struct request_totals *t;
	struct request_totals_iter it = { 0 };
	const struct request_series *s;
	size_t shard_size = offsetof(struct request_shard, series) + 4 * sizeof(*s);
	if (!m)
		m = aligned_alloc(4096, sizeof(*m));
	if (!m || request_totals_new(&t) < 0)
		abort();
	memset(m, 0, offsetof(struct request_metrics, shards) + shard_size);
	for (size_t i = 1; i < LINK_SHARDS_MAX; i++)
		memset(&m->shards[i], 0, offsetof(struct request_shard, series));
	memcpy(&m->shards[0], data, size < shard_size ? size : shard_size);
	m->shards[0].used %= 5; /* the rest of it is not cleared each time */
	for (size_t i = 0; i < 4; i++)
		m->shards[0].series[i].state %= REQUEST_RETIRED + 1;
	assert(request_totals_add(t, m) == 0);
	assert(request_totals_take(t, m) >= 0);
	request_totals_age_begin(t);
	request_totals_in_use(t, m);
	request_totals_age_end(t);
	while ((s = request_totals_next(t, &it))) {
		const char *values[64];
		size_t n = request_series_labels(s, values, 64);
		assert(s->key_len <= REQUEST_KEY_MAX && n <= 64);
		for (size_t i = 0; i < n; i++)
			for (const char *p = values[i]; *p; p++)
				assert((unsigned char)*p >= ' ' && *p != 0x7f);
	}
	request_totals_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const ways[])(const uint8_t *data, size_t size) = { policy,  hostile,   target,  cluster,
									  filters, telemetry, records, counts };
	if (size)
		ways[data[0] % ARRAY_SIZE(ways)](data + 1, size - 1);
	return 0;
}
