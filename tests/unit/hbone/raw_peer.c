/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/hbone/raw_peer.h"

#include "agent/base/loop.h"
#include "agent/helper/tls_credentials.h"
#include "tests/unit/hbone/fake_worker.h"

#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct raw_wait {
	struct raw_peer *p;
	const uint8_t *bytes;
	size_t len, done, want;
	int result; /* 1: done, 0: going on, -1: over */
};

static int again(struct raw_peer *p, int rc)
{
	int why = SSL_get_error(p->ssl, rc);
	return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

static bool shaken(void *arg)
{
	struct raw_wait *w = arg;
	int rc = SSL_do_handshake(w->p->ssl);
	w->result = rc == 1 ? 1 : again(w->p, rc);
	return w->result != 0;
}

static bool raw_sent(void *arg)
{
	struct raw_wait *w = arg;
	while (w->done < w->len) {
		int rc = SSL_write(w->p->ssl, w->bytes + w->done, (int)(w->len - w->done));
		if (rc <= 0)
			return again(w->p, rc) < 0;
		w->done += (size_t)rc;
	}
	return true;
}

static bool raw_came(void *arg)
{
	struct raw_wait *w = arg;
	struct raw_peer *p = w->p;
	while (p->in_len < w->want) {
		int rc = SSL_read(p->ssl, p->in + p->in_len, (int)(sizeof(p->in) - p->in_len));
		if (rc <= 0) {
			w->result = again(p, rc);
			return w->result < 0;
		}
		p->in_len += (size_t)rc;
	}
	w->result = 1;
	return true;
}

bool raw_connect(struct raw_peer *p, struct loop *loop, const struct addr_port *to, const struct raw_options *o)
{
	static const unsigned char h2[] = "\2h2";
	struct sockaddr_storage sa;
	socklen_t len = addr_to_sockaddr(to, &sa);
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	assert_non_null(ctx);
	if (o->credentials)
		assert_int_equal(tls_credentials_use(o->credentials, ctx), 0);
	if (o->max_version)
		SSL_CTX_set_max_proto_version(ctx, o->max_version);
	if (o->ciphers)
		assert_int_equal(SSL_CTX_set_ciphersuites(ctx, o->ciphers), 1);
	if (o->groups)
		assert_int_equal(SSL_CTX_set1_groups_list(ctx, o->groups), 1);
	if (!o->alpn)
		SSL_CTX_set_alpn_protos(ctx, h2, 3);
	else if (*o->alpn)
		SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)o->alpn, (unsigned int)strlen(o->alpn));
	*p = (struct raw_peer){ .loop = loop, .ssl = SSL_new(ctx) };
	SSL_CTX_free(ctx);
	p->fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(p->fd, (struct sockaddr *)&sa, len), 0);
	struct timeval none = { .tv_usec = 1 };
	setsockopt(p->fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none));
	setsockopt(p->fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	SSL_set_fd(p->ssl, p->fd);
	SSL_set_mode(p->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_set_connect_state(p->ssl);
	struct raw_wait w = { .p = p };
	run_until(loop, shaken, &w);
	return w.result == 1;
}

void raw_close(struct raw_peer *p)
{
	SSL_free(p->ssl);
	close(p->fd);
}

void raw_send(struct raw_peer *p, const void *bytes, size_t len)
{
	struct raw_wait w = { .p = p, .bytes = bytes, .len = len };
	run_until(p->loop, raw_sent, &w);
}

void raw_send_frame(struct raw_peer *p, uint8_t type, uint8_t flags, uint32_t id, const void *payload, size_t len)
{
	uint8_t frame[9 + 20000] = { (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len,	    type,	flags,
				     (uint8_t)(id >> 24),  (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id };
	assert_true(len <= 20000);
	if (len)
		memcpy(frame + 9, payload, len);
	raw_send(p, frame, 9 + len);
}

void raw_begin(struct raw_peer *p)
{
	raw_send(p, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
	raw_send_frame(p, 4, 0, 0, NULL, 0);
}

void raw_request(struct raw_peer *p, uint32_t id, const char *authority, uint8_t flags)
{
	uint8_t block[512] = { 2, 7, 'C', 'O', 'N', 'N', 'E', 'C', 'T', 1 };
	size_t len = strlen(authority);
	block[10] = (uint8_t)len;
	memcpy(block + 11, authority, len);
	raw_send_frame(p, 1, (uint8_t)(4 | flags), id, block, 11 + len);
}

static bool raw_need(struct raw_peer *p, size_t want)
{
	struct raw_wait w = { .p = p, .want = want };
	run_until(p->loop, raw_came, &w);
	return w.result == 1;
}

bool raw_next(struct raw_peer *p, struct raw_frame *f)
{
	for (;;) {
		if (!raw_need(p, 9))
			return false;
		f->len = (size_t)p->in[0] << 16 | (size_t)p->in[1] << 8 | p->in[2];
		f->type = p->in[3];
		f->flags = p->in[4];
		f->id = (uint32_t)p->in[5] << 24 | (uint32_t)p->in[6] << 16 | (uint32_t)p->in[7] << 8 | p->in[8];
		assert_true(f->len <= sizeof(f->payload));
		if (!raw_need(p, 9 + f->len))
			return false;
		memcpy(f->payload, p->in + 9, f->len);
		p->in_len -= 9 + f->len;
		memmove(p->in, p->in + 9 + f->len, p->in_len);
		if (f->type != 4 && f->type != 8)
			return true;
	}
}

int raw_status(struct raw_peer *p, uint32_t id)
{
	struct raw_frame f;
	if (!raw_next(p, &f) || f.type != 1 || f.id != id)
		return 0;
	if (f.payload[0] == 0x88)
		return 200;
	if (f.payload[0] == 0x8c)
		return 400;
	/* a literal behind the static name :status */
	assert_int_equal(f.payload[0], 8);
	return atoi((char[]){ (char)f.payload[2], (char)f.payload[3], (char)f.payload[4], 0 });
}

bool raw_is_over(struct raw_peer *p)
{
	struct raw_frame f;
	while (raw_next(p, &f))
		;
	return true;
}
