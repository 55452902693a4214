/* SPDX-License-Identifier: Apache-2.0 */
/* Streams that were taken for bytes, to a port that has got rules on requests since: requests in them go around the rules,
 * so they end: at the next byte from the peer, and before that when no answer is under way any more, where that can be told
 * and is soon (base/turn.h). It can't be told of HTTP/2, whose clients acknowledge and credit what they get: its connections
 * end at once, and a mesh client, which sees that, makes the next request on a new one. */
#include "agent/helper/hbone_internal.h"

#include "agent/base/loop.h"
#include "agent/base/turn.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>

/* The other way round than at the application's own end: what is sent here asks. */
static bool has_open_turn(const struct hbone_stream *s, uint64_t since_ms)
{
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	if (s->fd < 0 || getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
	    len < offsetof(struct tcp_info, tcpi_delivery_rate))
		return false;
	const struct turn turn = { .asked = info.tcpi_data_segs_out > 0,
				   .owed = !info.tcpi_data_segs_in || s->to_app.len > 0,
				   .asked_ms = info.tcpi_last_data_sent,
				   .answered_ms = info.tcpi_last_data_recv };
	return turn_is_open(&turn, since_ms);
}

bool blind_may_finish(struct hbone_stream *s)
{
	uint64_t now_ms = hbone_now_ms(s->h);
	if (s->framed)
		return false;
	if (!s->blind_ms)
		s->blind_ms = (uint32_t)now_ms ? (uint32_t)now_ms : 1;
	if (!has_open_turn(s, (uint32_t)now_ms - s->blind_ms))
		return false;
	loop_timer_start(s->h->blind_timer, TURN_LOOK_MS, 0);
	return true;
}

static void on_look(struct loop_timer *timer, void *arg)
{
	struct hbone *h = arg;
	(void)timer;
	hbone_enter(h);
	struct hbone_stream *s, *next;
	for (s = TAILQ_FIRST(&h->streams); s; s = next) {
		next = TAILQ_NEXT(s, all);
		if (s->blind_ms)
			inbound_judge(s);
	}
	hbone_leave(h);
}

int blind_init(struct hbone *h)
{
	return loop_timer_new(h->loop, on_look, h, &h->blind_timer);
}
