/* SPDX-License-Identifier: Apache-2.0 */
/* What a helper says. It parses bytes from strangers all day, so it is taken for an enemy here: every field is checked
 * against what it can know, everything has a rate, and breaking the protocol costs its life. Asking for what does not
 * exist (any more) is not a breach: pods go away while a question is on its way. */
#include "agent/link/supervisor_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/model/identity.h"

enum {
	SOCKETS_PER_REQUEST_MAX = CHANNEL_FDS_MAX,
	ENDPOINTS_MAX = 16384,
	CSR_TEXT_MAX = 16384,
	DNS_NAME_TEXT_MAX = 255,
	LOG_TEXT_LIMIT = 4096,
	CSR_IDENTITY_BURST = 10,
};

bool peer_within(struct peer *peer, struct rate *rate, uint32_t count)
{
	if (rate_take(rate, loop_now_ns(peer->s->loop), count))
		return true;
	peer->s->rate_limited++;
	return false;
}

/* A question about something that this node does not have: counted; a helper that keeps asking is broken or worse. */
static void peer_stray(struct peer *peer, const char *what)
{
	peer->s->protocol_errors++;
	if (!rate_take(&peer->bad_rate, loop_now_ns(peer->s->loop), 1))
		peer_condemn(peer, what);
}

static struct supervised_pod *peer_pod(struct peer *peer, uint64_t cookie)
{
	return table_get(peer->s->pods, &cookie, sizeof(cookie));
}

static void on_ready(struct peer *peer, const Weft__Link__Ready *m)
{
	if (m->version != LINK_VERSION)
		peer_condemn(peer, "it speaks another version of the protocol");
	else if (!peer->ready)
		supervisor_peer_ready(peer);
}

static void on_sockets_wanted(struct peer *peer, const Weft__Link__SocketsWanted *m)
{
	bool brokered = m->kind == POD_CONNECT_REMOTE || m->kind == POD_CONNECT_LOCAL || m->kind == POD_UDP_REMOTE;
	if (!brokered || m->count == 0 || m->count > SOCKETS_PER_REQUEST_MAX) {
		peer_condemn(peer, "it asked for sockets of a kind or number that it may not have");
		return;
	}
	Weft__Link__Sockets reply = WEFT__LINK__SOCKETS__INIT;
	reply.cookie = m->cookie;
	reply.kind = m->kind;
	reply.tag = m->tag;
	int fds[SOCKETS_PER_REQUEST_MAX];
	int count = 0;
	struct err err = ERR_INIT;
	if (!peer_pod(peer, m->cookie))
		err_set(&err, -ENOENT, "no such pod");
	else if (!peer_within(peer, &peer->socket_rate, m->count))
		err_set(&err, -EAGAIN, "too many sockets in a short time");
	else
		count = peer->s->events.open_sockets(m->cookie, (enum pod_socket)m->kind, fds, m->count, &err,
						     peer->s->events.arg);
	if (count <= 0)
		reply.error = err.text;
	peer_send(peer, WEFT__LINK__TO_HELPER__MSG_SOCKETS, &reply, fds, count < 0 ? 0 : (size_t)count);
	for (int i = 0; i < count; i++)
		close(fds[i]);
}

/* --- endpoints --- */

struct endpoint_key {
	uint8_t b[18];
};

static struct endpoint_key endpoint_key(const struct addr_port *e)
{
	struct endpoint_key key;
	memcpy(key.b, e->addr.b, 16);
	memcpy(key.b + 16, &e->port, 2);
	return key;
}

static void endpoint_fill(Weft__Link__EndpointInfo *m, const struct link_endpoint *e)
{
	static char none[] = "";
	m->known = e->known;
	m->tunnel = e->tunnel;
	m->n_identities = e->identity_count;
	m->identities = (char **)(uintptr_t)e->identities; /* only read when packed */
	m->connect_timeout_ms = e->tcp.connect_timeout_ms;
	m->max_connections = e->tcp.max_connections;
	m->keepalive_time_s = e->tcp.keepalive_time_s;
	m->keepalive_interval_s = e->tcp.keepalive_interval_s;
	m->keepalive_probes = e->tcp.keepalive_probes;
	m->idle_timeout_ms = e->tcp.idle_timeout_ms;
	m->max_connection_duration_ms = e->tcp.max_connection_duration_ms;
	m->workload = e->workload ? (char *)(uintptr_t)e->workload : none;
	m->service = e->service ? (char *)(uintptr_t)e->service : none;
}

int peer_endpoint_send(struct peer *peer, struct sent_endpoint *sent)
{
	struct link_endpoint e = { 0 };
	peer->s->events.endpoint(&sent->endpoint, &e, peer->s->events.arg);
	Weft__Link__EndpointInfo m = WEFT__LINK__ENDPOINT_INFO__INIT;
	Weft__Link__AddrPort at, tunnel;
	endpoint_fill(&m, &e);
	message_addr_port_set(&at, &sent->endpoint);
	message_addr_port_set(&tunnel, &e.tunnel_addr);
	m.endpoint = &at;
	m.tunnel_addr = &tunnel;

	size_t len = weft__link__endpoint_info__get_packed_size(&m);
	AUTO(mem_freep) uint8_t *packed = malloc(len);
	if (!packed)
		return -ENOMEM;
	weft__link__endpoint_info__pack(&m, packed);
	uint64_t hash = hash64(HASH64_INIT, packed, len);
	if (hash == sent->hash)
		return 0;
	sent->hash = hash;
	return peer_send(peer, WEFT__LINK__TO_HELPER__MSG_ENDPOINT, &m, NULL, 0);
}

static void on_endpoint_query(struct peer *peer, const Weft__Link__EndpointQuery *m)
{
	struct addr_port at;
	if (message_addr_port_get(m->endpoint, &at) < 0) {
		peer_condemn(peer, "it asked for an endpoint that is none");
		return;
	}
	if (!peer_within(peer, &peer->endpoint_rate, 1))
		return;
	struct endpoint_key key = endpoint_key(&at);
	struct sent_endpoint *sent = table_get(peer->endpoints, &key, sizeof(key));
	if (!sent) {
		if (table_count(peer->endpoints) >= ENDPOINTS_MAX) {
			peer_condemn(peer, "it follows too many endpoints");
			return;
		}
		sent = calloc(1, sizeof(*sent));
		if (!sent || table_set(peer->endpoints, &key, sizeof(key), sent) < 0) {
			free(sent);
			return; /* no answer: the connection is refused after its timeout */
		}
		sent->endpoint = at;
	}
	sent->hash = 0;
	peer_endpoint_send(peer, sent);
}

static void on_endpoint_forget(struct peer *peer, const Weft__Link__EndpointForget *m)
{
	struct addr_port at;
	if (message_addr_port_get(m->endpoint, &at) < 0) {
		peer_condemn(peer, "it forgot an endpoint that is none");
		return;
	}
	struct endpoint_key key = endpoint_key(&at);
	table_remove(peer->endpoints, &key, sizeof(key));
}

static void on_endpoint_result(struct peer *peer, const Weft__Link__EndpointResult *m)
{
	struct addr_port at;
	if (message_addr_port_get(m->endpoint, &at) < 0) {
		peer_condemn(peer, "it reported on an endpoint that is none");
		return;
	}
	/* Only about what it uses: it could otherwise have any endpoint ejected. */
	struct endpoint_key key = endpoint_key(&at);
	if (!table_get(peer->endpoints, &key, sizeof(key)) || !peer_within(peer, &peer->result_rate, 1))
		return;
	if (peer->s->events.on_endpoint_result)
		peer->s->events.on_endpoint_result(&at, m->ok, peer->s->events.arg);
}

/* --- certificates, names, reports --- */

static void on_csr(struct peer *peer, const Weft__Link__Csr *m)
{
	struct supervisor *s = peer->s;
	size_t len = strnlen(m->csr_pem, CSR_TEXT_MAX + 1);
	if (!len || len > CSR_TEXT_MAX || strnlen(m->identity, IDENTITY_URI_MAX + 1) > IDENTITY_URI_MAX) {
		peer_condemn(peer, "it sent a certificate request that is none");
		return;
	}
	if (!table_get_str(s->identities, m->identity)) {
		/* The pod may just have gone; a list of tries at other identities is something else. */
		supervisor_certificate(s, peer->serial, m->identity, NULL, 0, "no pod on this node has this identity");
		peer_stray(peer, "it keeps asking for certificates of identities that are not on this node");
		return;
	}
	struct rate *own = table_get_str(peer->csrs, m->identity);
	if (!own) {
		own = malloc(sizeof(*own));
		if (!own || table_set_str(peer->csrs, m->identity, own) < 0) {
			free(own);
			return; /* it will ask again */
		}
		*own = RATE(1, CSR_IDENTITY_BURST);
	}
	if (!peer_within(peer, own, 1) || !peer_within(peer, &peer->csr_rate, 1)) {
		supervisor_certificate(s, peer->serial, m->identity, NULL, 0, "too many requests; try again later");
		return;
	}
	s->events.on_csr(peer->serial, m->identity, m->csr_pem, s->events.arg);
}

/* Lower case letters, digits, hyphen, underscore, dots between labels: what the helper's own parser lets through. */
static bool dns_name_valid(const char *name)
{
	size_t len = strnlen(name, DNS_NAME_TEXT_MAX + 1);
	if (!len || len > DNS_NAME_TEXT_MAX)
		return false;
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == len;
}

static void on_dns_query(struct peer *peer, const Weft__Link__DnsQuery *m)
{
	struct supervisor *s = peer->s;
	if (!dns_name_valid(m->name)) {
		peer_condemn(peer, "it asked for a DNS name that is none");
		return;
	}
	if (!peer_within(peer, &peer->dns_rate, 1))
		return;
	struct link_dns_answer answer = { 0 };
	if (peer_pod(peer, m->cookie))
		s->events.dns(m->cookie, m->name, &answer, s->events.arg);

	enum { ADDRS_MAX = 1024 };
	ProtobufCBinaryData addrs[ADDRS_MAX];
	Weft__Link__DnsAnswer reply = WEFT__LINK__DNS_ANSWER__INIT;
	reply.name = m->name;
	reply.cookie = m->cookie;
	reply.known = answer.known;
	reply.ttl_s = answer.ttl_s;
	reply.addrs = addrs;
	for (; reply.n_addrs < answer.addr_count && reply.n_addrs < ADDRS_MAX; reply.n_addrs++)
		addrs[reply.n_addrs] =
			(ProtobufCBinaryData){ .len = 16, .data = (uint8_t *)(uintptr_t)answer.addrs[reply.n_addrs].b };
	peer_send(peer, WEFT__LINK__TO_HELPER__MSG_DNS, &reply, NULL, 0);
}

static void on_dropped(struct peer *peer, const Weft__Link__Dropped *m)
{
	struct link_dropped d = { .cookie = m->cookie, .inbound = m->inbound, .peer = m->peer, .rule = m->rule };
	if (m->reason == DROP_NONE || m->reason >= DROP_REASON_COUNT ||
	    (m->source && message_addr_port_get(m->source, &d.source) < 0) ||
	    (m->destination && message_addr_port_get(m->destination, &d.destination) < 0) ||
	    strnlen(m->peer, IDENTITY_URI_MAX + 1) > IDENTITY_URI_MAX || strnlen(m->rule, 1025) > 1024) {
		peer_condemn(peer, "it reported a refusal that makes no sense");
		return;
	}
	d.reason = (enum drop_reason)m->reason;
	if (!peer_pod(peer, m->cookie) || !peer_within(peer, &peer->drop_rate, 1))
		return;
	if (peer->s->events.on_dropped)
		peer->s->events.on_dropped(&d, peer->s->events.arg);
}

static void on_log(struct peer *peer, const Weft__Link__Log *m)
{
	if (m->level > LOG_DEBUG || !peer_within(peer, &peer->log_rate, 1))
		return;
	char *text = m->text;
	if (strnlen(text, LOG_TEXT_LIMIT) == LOG_TEXT_LIMIT)
		text[LOG_TEXT_LIMIT] = 0; /* the message is ours to change */
	if (peer->s->events.on_log)
		peer->s->events.on_log((enum log_level)m->level, text, peer->s->events.arg);
}

static void peer_dispatch(struct peer *peer, const Weft__Link__ToAgent *m)
{
	switch (m->msg_case) {
	case WEFT__LINK__TO_AGENT__MSG_READY:
		return on_ready(peer, m->ready);
	case WEFT__LINK__TO_AGENT__MSG_SOCKETS_WANTED:
		return on_sockets_wanted(peer, m->sockets_wanted);
	case WEFT__LINK__TO_AGENT__MSG_ENDPOINT_QUERY:
		return on_endpoint_query(peer, m->endpoint_query);
	case WEFT__LINK__TO_AGENT__MSG_ENDPOINT_FORGET:
		return on_endpoint_forget(peer, m->endpoint_forget);
	case WEFT__LINK__TO_AGENT__MSG_CSR:
		return on_csr(peer, m->csr);
	case WEFT__LINK__TO_AGENT__MSG_DNS_QUERY:
		return on_dns_query(peer, m->dns_query);
	case WEFT__LINK__TO_AGENT__MSG_DROPPED:
		return on_dropped(peer, m->dropped);
	case WEFT__LINK__TO_AGENT__MSG_ENDPOINT_RESULT:
		return on_endpoint_result(peer, m->endpoint_result);
	case WEFT__LINK__TO_AGENT__MSG_LOG:
		return on_log(peer, m->log);
	case WEFT__LINK__TO_AGENT__MSG_DUMP:
		return supervisor_dump_piece(peer, m->dump->id, m->dump->json, m->dump->more);
	case WEFT__LINK__TO_AGENT__MSG_TARGET_QUERY:
		return peer_on_target_query(peer, m->target_query);
	case WEFT__LINK__TO_AGENT__MSG_TARGET_FORGET:
		return peer_on_target_forget(peer, m->target_forget);
	case WEFT__LINK__TO_AGENT__MSG_CLUSTER_QUERY:
		return peer_on_cluster_query(peer, m->cluster_query);
	case WEFT__LINK__TO_AGENT__MSG_CLUSTER_FORGET:
		return peer_on_cluster_forget(peer, m->cluster_forget);
	case WEFT__LINK__TO_AGENT__MSG_SPANS:
		return peer_on_spans(peer, m->spans);
	case WEFT__LINK__TO_AGENT__MSG_TAP_RECORD:
		return peer_on_tap_record(peer, m->tap_record);
	case WEFT__LINK__TO_AGENT__MSG_REJOINED: /* said once, before */
	case WEFT__LINK__TO_AGENT__MSG__NOT_SET:
	default:	/* protobuf-c versions name differently the constant that gives the enum its size */
		return; /* a newer helper's message: nothing that this agent has asked for */
	}
}

void peer_on_message(const uint8_t *bytes, size_t len, int *fds, size_t fd_count, void *arg)
{
	struct peer *peer = arg;
	/* The channel closes descriptors. */
	if (fd_count > 0 && !peer->orphan) {
		peer_condemn(peer, "it sent a descriptor");
		return;
	}
	if (!rate_take(&peer->message_rate, loop_now_ns(peer->s->loop), 1)) {
		peer_condemn(peer, "it floods the link");
		return;
	}
	/* Many small fields cost the decoder far more memory than they take on the wire. */
	Weft__Link__ToAgent *m = len <= LINK_HELPER_MESSAGE_MAX ? weft__link__to_agent__unpack(NULL, len, bytes) : NULL;
	if (!m && peer->orphan) {
		const Weft__Link__ToAgent nothing = WEFT__LINK__TO_AGENT__INIT;
		rejoin_on_message(peer, &nothing, NULL, 0);
		return;
	}
	if (!m) {
		peer_condemn(peer, "it sent a message that is malformed or too long");
		return;
	}
	if (peer->orphan)
		rejoin_on_message(peer, m, fds, fd_count);
	else
		peer_dispatch(peer, m);
	weft__link__to_agent__free_unpacked(m, NULL);
}
