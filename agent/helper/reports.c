/* SPDX-License-Identifier: Apache-2.0 */
/* What workers ask of and tell to the link thread: mostly passed on to the agent. */
#include "agent/helper/helper_internal.h"

#include <stdlib.h>
#include <string.h>

#include "agent/base/addr.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/link/channel.h"
#include "agent/model/identity.h"

enum { DUMP_PIECE_BYTES = 32 << 10, LINK_BUSY_PERCENT = 50 };

static char *or_empty(char *text)
{
	static char none[] = "";
	return text ? text : none;
}

/* What is only told, not asked, makes way when the link is busy. */
static bool link_busy(const struct helper *h)
{
	return !h->channel || channel_fill(h->channel) > LINK_BUSY_PERCENT;
}

/* --- dumps: a JSON array of all workers' arrays --- */

static void dump_send(struct helper *h, uint32_t id, const char *json)
{
	size_t len = strlen(json), at = 0;
	char piece[DUMP_PIECE_BYTES + 1];
	do {
		size_t n = len - at < DUMP_PIECE_BYTES ? len - at : DUMP_PIECE_BYTES;
		memcpy(piece, json + at, n);
		piece[n] = 0;
		at += n;
		Weft__Link__DumpReply reply = WEFT__LINK__DUMP_REPLY__INIT;
		reply.id = id;
		reply.json = piece;
		reply.more = at < len;
		if (!helper_send(h, WEFT__LINK__TO_AGENT__MSG_DUMP, &reply))
			return;
	} while (at < len);
}

static void dump_done(struct helper_dump *dump)
{
	sb_done(dump->text);
	free(TAKE(dump->text));
	dump->waiting = 0;
}

static void dump_add(struct helper *h, const struct report *report)
{
	struct helper_dump *dump = NULL;
	for (size_t i = 0; i < HELPER_DUMPS_MAX; i++)
		if (h->dumps[i].waiting && h->dumps[i].id == report->id)
			dump = &h->dumps[i];
	if (!dump)
		return;
	/* "[a,b]" loses its brackets; "[]" adds nothing. */
	size_t len = report->text ? strlen(report->text) : 0;
	if (len > 2 && report->text[0] == '[' && report->text[len - 1] == ']') {
		if (dump->some)
			sb_add(dump->text, ",");
		sb_add_bytes(dump->text, report->text + 1, len - 2);
		dump->some = true;
	}
	if (--dump->waiting > 0)
		return;
	sb_add(dump->text, "]");
	if (!dump->text->failed)
		dump_send(h, dump->id, dump->text->p);
	dump_done(dump);
}

static struct order *dump_order(void *arg)
{
	const struct report *ask = arg;
	struct order *order = order_new(ORDER_DUMP, 0);
	if (!order)
		return NULL;
	order->id = ask->id;
	order->text = strdup(ask->text);
	if (order->text)
		return order;
	order_free(order);
	return NULL;
}

static void dump_workers(struct helper *h, uint32_t id, const char *what)
{
	struct helper_dump *dump = NULL;
	for (size_t i = 0; i < HELPER_DUMPS_MAX && !dump; i++)
		if (!h->dumps[i].waiting)
			dump = &h->dumps[i];
	if (!dump || !(dump->text = calloc(1, sizeof(*dump->text))))
		return; /* the agent gives up after its time */
	dump->id = id;
	dump->some = false;
	dump->waiting = h->worker_count;
	sb_add(dump->text, "[");
	struct report ask = { .id = id, .text = (char *)(uintptr_t)what };
	helper_order_all(h, dump_order, &ask);
}

static void dump_pods(const struct helper *h, struct sb *out)
{
	struct table_iter it = { 0 };
	const char *separator = "";
	sb_add(out, "[");
	while (table_next(h->pods, &it)) {
		const struct pod_spec *spec = it.value;
		/* Kubernetes names and SPIFFE URIs need no escapes. */
		sb_addf(out, "%s{\"uid\":\"%s\",\"identity\":\"%s\",\"addresses\":[", separator, spec->uid,
			spec->identity->uri);
		for (size_t i = 0; i < spec->addr_count; i++) {
			char text[ADDR_TEXT_MAX];
			sb_addf(out, "%s\"%s\"", i ? "," : "", addr_text(&spec->addrs[i], text));
		}
		sb_add(out, "]}");
		separator = ",";
	}
	sb_add(out, "]");
}

void reports_dump(struct helper *h, uint32_t id, const char *what)
{
	bool pods = strcmp(what, "pods") == 0;
	if (!pods && strcmp(what, "secrets") != 0) {
		dump_workers(h, id, what);
		return;
	}
	struct sb text = { 0 };
	if (pods)
		dump_pods(h, &text);
	else
		identities_dump(h->identities, &text);
	if (!text.failed)
		dump_send(h, id, text.p);
	sb_done(&text);
}

void reports_dumps_done(struct helper *h)
{
	for (size_t i = 0; i < HELPER_DUMPS_MAX; i++)
		if (h->dumps[i].waiting)
			dump_done(&h->dumps[i]);
}

/* --- the rest --- */

static void send_sockets_wanted(struct helper *h, const struct report *r)
{
	Weft__Link__SocketsWanted m = WEFT__LINK__SOCKETS_WANTED__INIT;
	m.cookie = r->cookie;
	m.kind = r->socket;
	m.count = r->count;
	m.tag = r->worker;
	helper_send(h, WEFT__LINK__TO_AGENT__MSG_SOCKETS_WANTED, &m);
}

static void send_dropped(struct helper *h, const struct report *r)
{
	if (link_busy(h))
		return;
	Weft__Link__Dropped m = WEFT__LINK__DROPPED__INIT;
	Weft__Link__AddrPort source, destination;
	message_addr_port_set(&source, &r->source);
	message_addr_port_set(&destination, &r->destination);
	m.cookie = r->cookie;
	m.reason = r->reason;
	m.inbound = r->inbound;
	m.source = &source;
	m.destination = &destination;
	m.peer = or_empty(r->text);
	m.rule = or_empty(r->rule);
	helper_send(h, WEFT__LINK__TO_AGENT__MSG_DROPPED, &m);
}

static void send_result(struct helper *h, const struct report *r)
{
	if (link_busy(h))
		return;
	Weft__Link__EndpointResult m = WEFT__LINK__ENDPOINT_RESULT__INIT;
	Weft__Link__AddrPort at;
	message_addr_port_set(&at, &r->destination);
	m.endpoint = &at;
	m.ok = r->ok;
	helper_send(h, WEFT__LINK__TO_AGENT__MSG_ENDPOINT_RESULT, &m);
}

static void send_dns_query(struct helper *h, const struct report *r)
{
	Weft__Link__DnsQuery m = WEFT__LINK__DNS_QUERY__INIT;
	m.cookie = r->cookie;
	m.name = or_empty(r->text);
	helper_send(h, WEFT__LINK__TO_AGENT__MSG_DNS_QUERY, &m);
}

static void send_log(struct helper *h, const struct report *r)
{
	if (link_busy(h))
		return;
	Weft__Link__Log m = WEFT__LINK__LOG__INIT;
	m.level = r->level;
	m.text = or_empty(r->text);
	helper_send(h, WEFT__LINK__TO_AGENT__MSG_LOG, &m);
}

/* The link thread's own shard is the one after the workers'. */
static void count(uint64_t *at, uint32_t n)
{
	__atomic_store_n(at, *at + n, __ATOMIC_RELAXED);
}

static void send_spans(struct helper *h, const struct report *r)
{
	__atomic_sub_fetch(&h->workers[r->worker]->spans_pending, 1, __ATOMIC_RELAXED);
	Weft__Link__Spans m = WEFT__LINK__SPANS__INIT;
	m.batch = (ProtobufCBinaryData){ .len = r->len, .data = (uint8_t *)r->text };
	m.count = r->count;
	struct link_shard *own = &h->metrics->shards[h->worker_count];
	bool sent = !link_busy(h) && helper_send(h, WEFT__LINK__TO_AGENT__MSG_SPANS, &m);
	count(sent ? &own->spans_sent : &own->spans_dropped, r->count);
}

static void send_tap(struct helper *h, const struct report *r)
{
	Weft__Link__TapRecord m = WEFT__LINK__TAP_RECORD__INIT;
	m.id = r->id;
	m.json = r->text;
	if (link_busy(h) || !helper_send(h, WEFT__LINK__TO_AGENT__MSG_TAP_RECORD, &m))
		count(&h->metrics->shards[h->worker_count].taps_dropped, 1);
}

static void note_live(struct helper *h, const struct report *r)
{
	h->live[r->worker] = r->count;
	for (unsigned int i = 0; i < h->worker_count; i++)
		if (h->live[i] > 0)
			return;
	loop_stop(h->loop); /* drained */
}

void reports_on_report(void *message, void *arg)
{
	struct report *r = message;
	struct helper *h = arg;
	helper_settle_when_quiet(h);
	switch (r->kind) {
	case REPORT_SOCKETS_WANTED:
		send_sockets_wanted(h, r);
		break;
	case REPORT_ENDPOINT_QUERY:
		endpoint_hub_query(h->endpoints, r->worker, &r->destination);
		break;
	case REPORT_ENDPOINT_FORGET:
		endpoint_hub_forget(h->endpoints, r->worker, &r->destination);
		break;
	case REPORT_ENDPOINT_RESULT:
		send_result(h, r);
		break;
	case REPORT_TARGET_QUERY:
	case REPORT_TARGET_FORGET:
	case REPORT_CLUSTER_QUERY:
	case REPORT_CLUSTER_FORGET:
		target_hub_on_report(h->targets, r);
		break;
	case REPORT_DNS_QUERY:
		send_dns_query(h, r);
		break;
	case REPORT_DROPPED:
		send_dropped(h, r);
		break;
	case REPORT_DUMP:
		dump_add(h, r);
		break;
	case REPORT_LIVE:
		note_live(h, r);
		break;
	case REPORT_LOG:
		send_log(h, r);
		break;
	case REPORT_SPANS:
		send_spans(h, r);
		break;
	case REPORT_TAP:
		send_tap(h, r);
		break;
	}
	report_free(r);
}

void reports_on_log(enum log_level level, const char *line, void *arg)
{
	/* The agent puts its own time and level before the text. */
	static const char component[] = "weft-helper: ";
	const char *text = strstr(line, component);
	struct helper *h = arg;
	struct report *r = calloc(1, sizeof(*r));
	if (!r)
		return;
	r->kind = REPORT_LOG;
	r->level = level;
	r->text = strdup(text ? text + sizeof(component) - 1 : line);
	if (!r->text || mailbox_post(h->reports, r) < 0)
		report_free(r);
}
