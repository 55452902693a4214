/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker answers to an authenticated peer's HTTP/2: OpenSSL's record layer and hand-made frames on the other
 * side. */
#include "agent/base/loop.h"
#include "agent/helper/tls_credentials.h"
#include "agent/model/policy.h"
#include "tests/unit/hbone/raw_peer.h"
#include "tests/unit/hbone/world.h"

#include <openssl/ssl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
enum { CALM = 11, PROTOCOL = 1, FLOW_CONTROL = 3, FRAME_SIZE = 6, COMPRESSION = 9 };

static struct raw_peer peer;
static struct raw_frame frame;

static void begin(struct world *w)
{
	struct raw_options o = { .credentials = test_credentials_for(w->ca, FRONTEND) };
	assert_true(raw_connect(&peer, w->loop, &w->server.tunnel, &o));
	tls_credentials_unref(o.credentials);
	raw_begin(&peer);
}

/* --- CONNECT --- */

static void expect_status(struct world *w, const char *authority, int status, enum drop_reason reason)
{
	begin(w);
	raw_request(&peer, 1, authority, 0);
	assert_int_equal(raw_status(&peer, 1), status);
	if (reason != DROP_NONE)
		assert_int_equal(w->server.drops[reason], 1);
	raw_close(&peer);
}

static void test_connect_to_own_address_is_200(void **state)
{
	struct world *w = *state;
	expect_status(w, w->authority, 200, DROP_NONE);
}

static void test_connect_to_foreign_address_is_400(void **state)
{
	expect_status(*state, "127.0.0.9:80", 400, DROP_HBONE_AUTHORITY);
}

static void test_connect_to_name_is_400(void **state)
{
	expect_status(*state, "localhost:80", 400, DROP_HBONE_AUTHORITY);
}

static void test_connect_without_port_is_400(void **state)
{
	expect_status(*state, "127.0.0.2", 400, DROP_HBONE_AUTHORITY);
}

static void test_connect_to_v6_of_nobody_is_400(void **state)
{
	expect_status(*state, "[::1]:80", 400, DROP_HBONE_AUTHORITY);
}

static void test_connect_to_mesh_port_is_400(void **state)
{
	expect_status(*state, "127.0.0.2:15008", 400, DROP_RESERVED_PORT);
}

static void test_connect_that_policy_denies_is_401(void **state)
{
	struct world *w = *state;
	w->server.pod.policy->has_allow = true;
	expect_status(w, w->authority, 401, DROP_POLICY_NO_ALLOW);
}

static void test_connect_without_policy_is_401(void **state)
{
	struct world *w = *state;
	struct policy *policy = w->server.pod.policy;
	w->server.pod.policy = NULL;
	expect_status(w, w->authority, 401, DROP_NOT_READY);
	w->server.pod.policy = policy;
}

static void test_connect_to_closed_port_is_503(void **state)
{
	expect_status(*state, "127.0.0.2:1", 503, DROP_UPSTREAM_CONNECT);
}

static void test_connect_without_socket_is_503(void **state)
{
	struct world *w = *state;
	w->server.withhold_sockets = true;
	expect_status(w, w->authority, 503, DROP_NO_SOCKET);
}

static void expect_block(struct world *w, const char *block, size_t len, int status)
{
	begin(w);
	raw_send_frame(&peer, HEADERS, 4, 1, block, len);
	assert_int_equal(raw_status(&peer, 1), status);
	assert_int_equal(w->server.drops[DROP_HBONE_PROTOCOL], 1);
	raw_close(&peer);
}

#define BLOCK(text) text, sizeof(text) - 1

static void test_connect_with_get_is_400(void **state)
{
	expect_block(*state, BLOCK("\x82\x01\x01x"), 400);
}

static void test_connect_with_path_is_400(void **state)
{
	expect_block(*state,
		     BLOCK("\x02\x07"
			   "CONNECT\x01\x04"
			   "a:80\x84"),
		     400);
}

static void test_connect_without_authority_is_400(void **state)
{
	expect_block(*state,
		     BLOCK("\x02\x07"
			   "CONNECT"),
		     400);
}

static void test_connect_with_late_pseudo_header_is_400(void **state)
{
	expect_block(*state,
		     BLOCK("\x02\x07"
			   "CONNECT\x00\x01x\x01y\x01\x04"
			   "a:80"),
		     400);
}

static void test_connect_with_upper_case_header_is_400(void **state)
{
	expect_block(*state,
		     BLOCK("\x02\x07"
			   "CONNECT\x01\x04"
			   "a:80\x00\x01X\x01y"),
		     400);
}

static void test_connect_with_forged_baggage_is_judged_by_certificate(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials =
					 test_credentials_for(w->ca, "spiffe://cluster.local/ns/shop/sa/intruder") };
	assert_true(raw_connect(&peer, w->loop, &w->server.tunnel, &o));
	tls_credentials_unref(o.credentials);
	raw_begin(&peer);
	w->server.pod.policy->has_allow = true;
	char block[256];
	int n = snprintf(block, sizeof(block), "%c%cCONNECT%c%c%s", 2, 7, 1, (int)strlen(w->authority), w->authority);
	static const char baggage[] = "\x00\x07"
				      "baggage\x18"
				      "service.account=frontend";
	memcpy(block + n, baggage, sizeof(baggage) - 1);
	raw_send_frame(&peer, HEADERS, 4, 1, block, (size_t)n + sizeof(baggage) - 1);
	assert_int_equal(raw_status(&peer, 1), 401);
	assert_string_equal(w->server.drop_peer, "spiffe://cluster.local/ns/shop/sa/intruder");
	raw_close(&peer);
}

static void test_connect_data_comes_through_and_back(void **state)
{
	struct world *w = *state;
	char text[8];
	begin(w);
	raw_request(&peer, 1, w->authority, 0);
	raw_send_frame(&peer, DATA, 0, 1, "early", 5); /* before the 200 */
	int app = tcp_accept(w->loop, w->listener);
	assert_int_equal(raw_status(&peer, 1), 200);
	app_recv(w->loop, app, text, 5);
	assert_memory_equal(text, "early", 5);
	raw_send_frame(&peer, DATA, 8, 1, "\x04with\0\0\0\0", 9); /* padded */
	app_recv(w->loop, app, text, 4);
	assert_memory_equal(text, "with", 4);
	app_send(w->loop, app, "back", 4);
	assert_true(raw_next(&peer, &frame));
	assert_int_equal(frame.type, DATA);
	assert_int_equal(frame.len, 4);
	assert_memory_equal(frame.payload, "back", 4);
	raw_close(&peer);
	close(app);
}

/* What many applications have sent before the loop turns costs one record and one write. */
static void test_connect_small_data_of_many_streams_shares_a_record(void **state)
{
	enum { N = 8 };
	struct world *w = *state;
	int apps[N];
	unsigned int shared = 0;
	begin(w);
	for (uint32_t i = 0; i < N; i++) {
		raw_request(&peer, 1 + 2 * i, w->authority, 0);
		apps[i] = tcp_accept(w->loop, w->listener);
		assert_int_equal(raw_status(&peer, 1 + 2 * i), 200);
	}
	for (int i = 0; i < N; i++)
		assert_int_equal(send(apps[i], "back", 4, MSG_NOSIGNAL), 4);
	for (int i = 0; i < N; i++) {
		assert_true(raw_next(&peer, &frame));
		assert_int_equal(frame.type, DATA);
		assert_int_equal(frame.len, 4);
		shared += peer.in_len > 0; /* the next came with it */
	}
	assert_in_range(shared, N / 2, N - 1);
	raw_close(&peer);
	for (int i = 0; i < N; i++)
		close(apps[i]);
}

static void test_connect_reset_of_application_is_rst_stream(void **state)
{
	struct world *w = *state;
	begin(w);
	raw_request(&peer, 1, w->authority, 0);
	int app = tcp_accept(w->loop, w->listener);
	assert_int_equal(raw_status(&peer, 1), 200);
	struct linger linger = { .l_onoff = 1 };
	setsockopt(app, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(app);
	assert_true(raw_next(&peer, &frame));
	assert_int_equal(frame.type, RST_STREAM);
	assert_int_equal(frame.payload[3], 10); /* CONNECT_ERROR */
	raw_close(&peer);
}

static void test_connect_key_updates_both_ways_keep_data_flowing(void **state)
{
	struct world *w = *state;
	char text[8];
	begin(w);
	raw_request(&peer, 1, w->authority, 0);
	int app = tcp_accept(w->loop, w->listener);
	assert_int_equal(raw_status(&peer, 1), 200);
	for (int i = 0; i < 3; i++) {
		/* The peer changes its key and asks for ours to be changed. */
		assert_int_equal(SSL_key_update(peer.ssl, SSL_KEY_UPDATE_REQUESTED), 1);
		raw_send_frame(&peer, DATA, 0, 1, "ping", 4);
		app_recv(w->loop, app, text, 4);
		assert_memory_equal(text, "ping", 4);
		app_send(w->loop, app, "pong", 4);
		assert_true(raw_next(&peer, &frame));
		assert_memory_equal(frame.payload, "pong", 4);
	}
	raw_close(&peer);
	close(app);
}

/* --- hostile frames --- */

static void expect_goaway(struct world *w, uint8_t code, enum drop_reason reason)
{
	do {
		assert_true(raw_next(&peer, &frame));
	} while (frame.type != GOAWAY);
	assert_int_equal(frame.payload[7], code);
	assert_true(raw_is_over(&peer));
	assert_int_equal(w->server.drops[reason], 1);
	raw_close(&peer);
}

/* Frames in bulk, then the verdict. */
static void flood(struct world *w, const char *bytes, size_t len, int times)
{
	char *all = malloc(len * (size_t)times);
	for (int i = 0; i < times; i++)
		memcpy(all + (size_t)i * len, bytes, len);
	raw_send(&peer, all, len * (size_t)times);
	free(all);
	expect_goaway(w, CALM, DROP_HBONE_FLOOD);
}

static void test_flood_of_ping_ends_connection(void **state)
{
	begin(*state);
	flood(*state, BLOCK("\0\0\x08\x06\0\0\0\0\0abcdefgh"), 3000);
}

static void test_flood_of_settings_ends_connection(void **state)
{
	begin(*state);
	flood(*state, BLOCK("\0\0\0\x04\0\0\0\0\0"), 3000);
}

static void test_flood_of_empty_data_ends_connection(void **state)
{
	struct world *w = *state;
	begin(w);
	raw_request(&peer, 1, w->authority, 0);
	int app = tcp_accept(w->loop, w->listener);
	assert_int_equal(raw_status(&peer, 1), 200);
	flood(w, BLOCK("\0\0\0\0\0\0\0\0\x01"), 3000);
	close(app);
}

static void test_flood_of_resets_ends_connection(void **state)
{
	struct world *w = *state;
	begin(w);
	w->server.withhold_sockets = false;
	/* Requests that wait for their socket are not answered yet; here they are refused at once, which counts less,
	 * so the flood is of frames for streams that are closed. */
	for (uint32_t id = 1; id < 2400 && w->server.drops[DROP_HBONE_FLOOD] == 0; id += 2) {
		raw_request(&peer, id, "127.0.0.9:80", 0);
		raw_send_frame(&peer, RST_STREAM, 0, id, "\0\0\0\x08", 4);
	}
	expect_goaway(w, CALM, DROP_HBONE_FLOOD);
}

static void test_flood_of_continuation_ends_connection(void **state)
{
	struct world *w = *state;
	char junk[16000];
	memset(junk, 0, sizeof(junk));
	begin(w);
	raw_send_frame(&peer, HEADERS, 0, 1, junk, sizeof(junk));
	for (int i = 0; i < 3; i++)
		raw_send_frame(&peer, CONTINUATION, 0, 1, junk, sizeof(junk));
	expect_goaway(w, CALM, DROP_HBONE_FLOOD);
}

static void expect_fault(struct world *w, const char *bytes, size_t len, uint8_t code)
{
	begin(w);
	raw_send(&peer, bytes, len);
	expect_goaway(w, code, DROP_HBONE_PROTOCOL);
}

static void test_frame_too_large_ends_connection(void **state)
{
	expect_fault(*state, BLOCK("\0\x40\x01\0\0\0\0\0\x01"), FRAME_SIZE);
}

static void test_frame_data_on_idle_stream_ends_connection(void **state)
{
	expect_fault(*state, BLOCK("\0\0\x01\0\0\0\0\0\x01x"), PROTOCOL);
}

static void test_frame_headers_on_even_stream_ends_connection(void **state)
{
	expect_fault(*state, BLOCK("\0\0\x01\x01\x04\0\0\0\x02\x82"), PROTOCOL);
}

static void test_frame_push_promise_ends_connection(void **state)
{
	expect_fault(*state, BLOCK("\0\0\x04\x05\x04\0\0\0\x01\0\0\0\x02"), PROTOCOL);
}

static void test_frame_bad_hpack_ends_connection(void **state)
{
	expect_fault(*state, BLOCK("\0\0\x01\x01\x04\0\0\0\x01\xff"), COMPRESSION);
}

static void test_frame_inside_header_block_ends_connection(void **state)
{
	expect_fault(*state, BLOCK("\0\0\x01\x01\0\0\0\0\x01\x82\0\0\x08\x06\0\0\0\0\0abcdefgh"), PROTOCOL);
}

static void test_frame_zero_window_update_ends_connection(void **state)
{
	expect_fault(*state, BLOCK("\0\0\x04\x08\0\0\0\0\0\0\0\0\0"), PROTOCOL);
}

static void test_frame_window_overflow_ends_connection(void **state)
{
	expect_fault(*state, BLOCK("\0\0\x04\x08\0\0\0\0\0\x7f\xff\xff\xff"), FLOW_CONTROL);
}

static void test_frame_not_http2_ends_connection(void **state)
{
	struct world *w = *state;
	struct raw_options o = { .credentials = test_credentials_for(w->ca, FRONTEND) };
	assert_true(raw_connect(&peer, w->loop, &w->server.tunnel, &o));
	tls_credentials_unref(o.credentials);
	raw_send(&peer, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27);
	expect_goaway(w, PROTOCOL, DROP_HBONE_PROTOCOL);
}

static void test_frame_ping_is_answered(void **state)
{
	begin(*state);
	raw_send_frame(&peer, PING, 0, 0, "12345678", 8);
	assert_true(raw_next(&peer, &frame));
	assert_int_equal(frame.type, PING);
	assert_int_equal(frame.flags, 1);
	assert_memory_equal(frame.payload, "12345678", 8);
	raw_close(&peer);
}

static void test_streams_beyond_limit_are_refused(void **state)
{
	struct world *w = *state;
	begin(w);
	for (uint32_t id = 1; id <= 201; id += 2)
		raw_request(&peer, id, w->authority, 0);
	int refused = 0;
	for (int i = 0; i < 101; i++) {
		assert_true(raw_next(&peer, &frame));
		refused += frame.type == RST_STREAM && frame.id == 201 && frame.payload[3] == 7;
	}
	assert_int_equal(refused, 1);
	assert_int_equal(hbone_live(w->server.hbone), 100);
	raw_close(&peer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		WORLD_TEST(test_connect_to_own_address_is_200),
		WORLD_TEST(test_connect_to_foreign_address_is_400),
		WORLD_TEST(test_connect_to_name_is_400),
		WORLD_TEST(test_connect_without_port_is_400),
		WORLD_TEST(test_connect_to_v6_of_nobody_is_400),
		WORLD_TEST(test_connect_to_mesh_port_is_400),
		WORLD_TEST(test_connect_that_policy_denies_is_401),
		WORLD_TEST(test_connect_without_policy_is_401),
		WORLD_TEST(test_connect_to_closed_port_is_503),
		WORLD_TEST(test_connect_without_socket_is_503),
		WORLD_TEST(test_connect_with_get_is_400),
		WORLD_TEST(test_connect_with_path_is_400),
		WORLD_TEST(test_connect_without_authority_is_400),
		WORLD_TEST(test_connect_with_late_pseudo_header_is_400),
		WORLD_TEST(test_connect_with_upper_case_header_is_400),
		WORLD_TEST(test_connect_with_forged_baggage_is_judged_by_certificate),
		WORLD_TEST(test_connect_data_comes_through_and_back),
		WORLD_TEST(test_connect_small_data_of_many_streams_shares_a_record),
		WORLD_TEST(test_connect_reset_of_application_is_rst_stream),
		WORLD_TEST(test_connect_key_updates_both_ways_keep_data_flowing),
		WORLD_TEST(test_flood_of_ping_ends_connection),
		WORLD_TEST(test_flood_of_settings_ends_connection),
		WORLD_TEST(test_flood_of_empty_data_ends_connection),
		WORLD_TEST(test_flood_of_resets_ends_connection),
		WORLD_TEST(test_flood_of_continuation_ends_connection),
		WORLD_TEST(test_frame_too_large_ends_connection),
		WORLD_TEST(test_frame_data_on_idle_stream_ends_connection),
		WORLD_TEST(test_frame_headers_on_even_stream_ends_connection),
		WORLD_TEST(test_frame_push_promise_ends_connection),
		WORLD_TEST(test_frame_bad_hpack_ends_connection),
		WORLD_TEST(test_frame_inside_header_block_ends_connection),
		WORLD_TEST(test_frame_zero_window_update_ends_connection),
		WORLD_TEST(test_frame_window_overflow_ends_connection),
		WORLD_TEST(test_frame_not_http2_ends_connection),
		WORLD_TEST(test_frame_ping_is_answered),
		WORLD_TEST(test_streams_beyond_limit_are_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
