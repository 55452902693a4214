/* SPDX-License-Identifier: Apache-2.0 */
/* A compromised helper: any message, after the agent has told it of a pod. The first byte picks how: as it comes, or as a
 * policy on its way to the helper. The agent may refuse or condemn, nothing else. */
#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/link/supervisor_internal.h"
#include "agent/model/identity.h"
#include "agent/model/policy.h"

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
			     .csrs = table_new(free),
			     .csr_rate = RATE(1, 4),
			     .socket_rate = RATE(1, 128),
			     .endpoint_rate = RATE(1, 4),
			     .dns_rate = RATE(1, 4),
			     .drop_rate = RATE(1, 4),
			     .result_rate = RATE(1, 4),
			     .log_rate = RATE(1, 4),
			     .bad_rate = RATE(1, 4),
			     .message_rate = RATE(1, 100) };
	if (channel_new(loop, pair[0], on_reply, on_closed, &peer, &peer.channel) < 0)
		abort();
	s.peers = s.current = &peer;
	for (int i = 0; i < 8 && peer.channel; i++)
		peer_on_message(data, size, NULL, 0, &peer);
	channel_free(peer.channel);
	close(pair[1]);
	table_free(peer.endpoints);
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
		Weft__Link__Policy *encoded = message_policy_encode(p);
		assert(encoded);
		int rc = message_policy_decode(encoded, &again);
		assert(rc == 0 && again->rule_count == p->rule_count && again->port_mtls_count == p->port_mtls_count);
		weft__link__policy__free_unpacked(encoded, NULL);
		policy_unref(again);
		policy_unref(p);
	}
	weft__link__policy__free_unpacked(m, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (data[0] % 2)
		hostile(data + 1, size - 1);
	else
		policy(data + 1, size - 1);
	return 0;
}
