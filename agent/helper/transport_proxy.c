/* SPDX-License-Identifier: Apache-2.0 */
/* What goes ahead of the bytes on a new connection: the PROXY header (HAProxy's protocol, versions 1 and 2), and a way
 * through an HTTP proxy by CONNECT (RFC 9110, 9.3.6). */
#include "agent/helper/transport_internal.h"

#include "agent/base/mem.h"
#include "agent/base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEAD_MAX = 8192, TARGET_MAX = 300 };

/* --- the PROXY header --- */

static size_t header_text(const struct addr_port *from, const struct addr_port *to, char *out, size_t size)
{
	char a[ADDR_TEXT_MAX], b[ADDR_TEXT_MAX];
	bool v4 = addr_is_v4(&from->addr);
	if (v4 != addr_is_v4(&to->addr))
		return (size_t)snprintf(out, size, "PROXY UNKNOWN\r\n");
	return (size_t)snprintf(out, size, "PROXY %s %s %s %u %u\r\n", v4 ? "TCP4" : "TCP6", addr_text(&from->addr, a),
				addr_text(&to->addr, b), from->port, to->port);
}

static size_t header_binary(const struct addr_port *from, const struct addr_port *to, uint8_t *out)
{
	static const uint8_t signature[] = { 0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a };
	bool v4 = addr_is_v4(&from->addr) && addr_is_v4(&to->addr);
	size_t skip = v4 ? 12 : 0, len = 16 - skip, at = sizeof(signature);
	memcpy(out, signature, at);
	out[at++] = 0x21; /* version 2, on behalf of another */
	out[at++] = v4 ? 0x11 : 0x21;
	out[at++] = 0;
	out[at++] = (uint8_t)(2 * len + 4);
	memcpy(out + at, from->addr.b + skip, len);
	memcpy(out + at + len, to->addr.b + skip, len);
	at += 2 * len;
	const uint16_t ports[] = { htons(from->port), htons(to->port) };
	memcpy(out + at, ports, sizeof(ports));
	return at + sizeof(ports);
}

void transport_proxy_header(struct transport *t, int version, const struct addr_port *from, const struct addr_port *to)
{
	uint8_t header[128];
	size_t len =
		version == 2 ? header_binary(from, to, header) : header_text(from, to, (char *)header, sizeof(header));
	transport_write(t, &(struct iovec){ header, len }, 1); /* nothing is queued before it */
}

/* --- CONNECT --- */

struct transport_through {
	struct transport *t;
	transport_through_fn fn;
	void *arg;
	size_t len;
	char head[HEAD_MAX + 1];
};

static void through_over(struct transport_through *x, int error)
{
	struct transport *t = TAKE(x->t);
	transport_through_fn fn = x->fn;
	void *arg = x->arg;
	free(x);
	if (error) {
		transport_close(t, true);
		t = NULL;
	}
	fn(t, error, arg);
}

/* "HTTP/1.1 200 ..." */
static int answer_of(const char *head)
{
	if (!str_starts(head, "HTTP/1.") || head[8] != ' ')
		return -EPROTO;
	if (head[9] == '2')
		return 0;
	return head[9] == '4' ? -EPERM : -ECONNREFUSED;
}

static size_t on_data(struct transport *t, const uint8_t *bytes, size_t len, void *arg)
{
	struct transport_through *x = arg;
	size_t took = 0;
	while (took < len && x->len < HEAD_MAX) {
		x->head[x->len++] = (char)bytes[took++];
		x->head[x->len] = '\0';
		if (x->len < 4 || memcmp(x->head + x->len - 4, "\r\n\r\n", 4) != 0)
			continue;
		if (took < len)
			transport_resume(t); /* what lies behind it is for whoever comes next, at the end of the tick */
		through_over(x, answer_of(x->head));
		return took;
	}
	if (x->len == HEAD_MAX)
		through_over(x, -EPROTO);
	return len;
}

static void on_end(struct transport *t, void *arg)
{
	(void)t;
	through_over(arg, -ECONNREFUSED);
}

static void on_room(struct transport *t, void *arg)
{
	(void)t;
	(void)arg;
}

static void on_broken(struct transport *t, int error, void *arg)
{
	(void)t;
	(void)error;
	through_over(arg, -ECONNREFUSED);
}

static const struct transport_events through_events = { on_data, on_end, on_room, on_broken };

struct transport_through *transport_through(struct transport *t, const char *target, transport_through_fn fn, void *arg)
{
	char request[2 * TARGET_MAX + 64];
	size_t len = strlen(target);
	bool odd = len == 0 || len > TARGET_MAX;
	for (size_t i = 0; i < len && !odd; i++)
		odd = target[i] <= ' ' || target[i] == 0x7f;
	struct transport_through *x = odd ? NULL : calloc(1, sizeof(*x));
	if (!x) {
		transport_close(t, true);
		return NULL;
	}
	x->t = t;
	x->fn = fn;
	x->arg = arg;
	transport_on(t, &through_events, x);
	int n = snprintf(request, sizeof(request), "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", target, target);
	transport_write(t, &(struct iovec){ request, (size_t)n }, 1);
	return x;
}

void transport_through_cancel(struct transport_through *x)
{
	transport_close(x->t, true);
	free(x);
}
