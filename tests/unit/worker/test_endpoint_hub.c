/* SPDX-License-Identifier: Apache-2.0 */
/* What the link thread makes of the workers' questions: a helper put together by hand, with one real worker in both
 * places and the agent's end of the link in the test's hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/helper/helper_internal.h"
#include "agent/link/channel.h"
#include "tests/unit/worker/worker_fixture.h"

struct fixture {
	struct worker_fixture *f;
	struct helper h;
	int agent;
	struct addr_port asked; /* by the last query that was heard */
};

static struct fixture *again;

static void on_message(const uint8_t *bytes, size_t len, int *fds, size_t fd_count, void *arg)
{
	(void)bytes;
	(void)len;
	(void)fds;
	(void)fd_count;
	(void)arg;
}

static void on_closed(const struct err *err, void *arg)
{
	(void)err;
	(void)arg;
}

static int setup(void **state)
{
	struct fixture *t = calloc(1, sizeof(*t));
	int pair[2];
	t->f = worker_fixture_new();
	assert_int_equal(channel_pair(pair, NULL), 0);
	t->agent = pair[1];
	t->h.loop = t->f->link_loop;
	t->h.worker_count = 2;
	t->h.workers[0] = t->h.workers[1] = t->f->w;
	assert_int_equal(channel_new(t->h.loop, pair[0], on_message, on_closed, t, &t->h.channel), 0);
	t->h.endpoints = endpoint_hub_new(&t->h);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *t = *state;
	endpoint_hub_free(t->h.endpoints);
	channel_free(t->h.channel);
	close(t->agent);
	worker_fixture_free(t->f);
	free(t);
	return 0;
}

static struct addr_port at(uint16_t port)
{
	struct addr_port a = { .port = port };
	assert_int_equal(addr_parse("10.0.0.9", &a.addr), 0);
	return a;
}

/* The next message that the agent gets; MSG__NOT_SET when there is none. */
static Weft__Link__ToAgent__MsgCase agent_hears(struct fixture *t)
{
	uint8_t bytes[1024];
	ssize_t n = recv(t->agent, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (n <= 0)
		return WEFT__LINK__TO_AGENT__MSG__NOT_SET;
	Weft__Link__ToAgent *m = weft__link__to_agent__unpack(NULL, (size_t)n, bytes);
	Weft__Link__ToAgent__MsgCase which = m->msg_case;
	if (which == WEFT__LINK__TO_AGENT__MSG_ENDPOINT_QUERY)
		message_addr_port_get(m->endpoint_query->endpoint, &t->asked);
	weft__link__to_agent__free_unpacked(m, NULL);
	return which;
}

static void info_arrives(struct fixture *t, uint16_t port)
{
	struct endpoint_shared *e = calloc(1, sizeof(*e));
	e->refs = 1;
	e->info = (struct endpoint_info){ .endpoint = at(port), .known = true };
	endpoint_hub_info(t->h.endpoints, e);
}

struct answers {
	int some, none;
};

static void on_endpoint(const struct endpoint_info *info, void *arg)
{
	struct answers *a = arg;
	if (info)
		a->some++;
	else
		a->none++;
}

/* The worker waits, so that what the hub delivers to it can be seen. */
static void worker_waits(struct fixture *t, uint16_t port, struct answers *a)
{
	struct addr_port endpoint = at(port);
	worker_endpoint_get(t->f->w, &endpoint, on_endpoint, a);
}

static void test_hub_query_asks_agent_and_delivers_answer(void **state)
{
	struct fixture *t = *state;
	struct addr_port a = at(80);
	struct answers got = { 0 };
	worker_waits(t, 80, &got);
	endpoint_hub_query(t->h.endpoints, 0, &a);
	assert_int_equal(agent_hears(t), WEFT__LINK__TO_AGENT__MSG_ENDPOINT_QUERY);
	info_arrives(t, 80);
	worker_fixture_run(t->f);
	assert_int_equal(got.some, 1);
}

static void test_hub_second_worker_is_answered_without_agent(void **state)
{
	struct fixture *t = *state;
	struct addr_port a = at(80);
	struct answers got = { 0 };
	endpoint_hub_query(t->h.endpoints, 0, &a);
	agent_hears(t);
	info_arrives(t, 80);
	worker_fixture_run(t->f);
	worker_waits(t, 80, &got);
	endpoint_hub_query(t->h.endpoints, 1, &a);
	worker_fixture_run(t->f);
	assert_int_equal(got.some, 1);
	assert_int_equal(agent_hears(t), WEFT__LINK__TO_AGENT__MSG__NOT_SET);
}

static void test_hub_forgets_when_last_worker_has(void **state)
{
	struct fixture *t = *state;
	struct addr_port a = at(80);
	endpoint_hub_query(t->h.endpoints, 0, &a);
	endpoint_hub_query(t->h.endpoints, 1, &a);
	while (agent_hears(t) != WEFT__LINK__TO_AGENT__MSG__NOT_SET)
		;
	endpoint_hub_forget(t->h.endpoints, 0, &a);
	assert_int_equal(agent_hears(t), WEFT__LINK__TO_AGENT__MSG__NOT_SET);
	endpoint_hub_forget(t->h.endpoints, 1, &a);
	assert_int_equal(agent_hears(t), WEFT__LINK__TO_AGENT__MSG_ENDPOINT_FORGET);
	endpoint_hub_forget(t->h.endpoints, 1, &a);
	assert_int_equal(agent_hears(t), WEFT__LINK__TO_AGENT__MSG__NOT_SET);
	info_arrives(t, 80); /* crossed on the way: nobody's any more */
}

static void test_hub_without_agent_answers_what_it_knows_and_refuses_the_rest(void **state)
{
	struct fixture *t = *state;
	struct addr_port known = at(80), waiting = at(81), later = at(82);
	struct answers a_known = { 0 }, a_waiting = { 0 }, a_later = { 0 };
	endpoint_hub_query(t->h.endpoints, 0, &known);
	info_arrives(t, 80);
	worker_fixture_run(t->f);
	worker_waits(t, 81, &a_waiting);
	endpoint_hub_query(t->h.endpoints, 0, &waiting);
	channel_free(t->h.channel);
	t->h.channel = NULL;
	t->h.alone = true;
	endpoint_hub_alone(t->h.endpoints);
	worker_fixture_run(t->f);
	assert_int_equal(a_waiting.none, 1);

	worker_waits(t, 80, &a_known);
	endpoint_hub_query(t->h.endpoints, 1, &known);
	worker_waits(t, 82, &a_later);
	endpoint_hub_query(t->h.endpoints, 1, &later);
	worker_fixture_run(t->f);
	assert_int_equal(a_known.some, 1);
	assert_int_equal(a_later.none, 1);
}

static bool asks_again(struct worker_fixture *f)
{
	struct addr_port known = at(80);
	(void)f;
	return agent_hears(again) == WEFT__LINK__TO_AGENT__MSG_ENDPOINT_QUERY && addr_port_eq(&again->asked, &known);
}

static void test_hub_next_agent_is_asked_what_the_last_left_open_and_then_the_rest(void **state)
{
	struct fixture *t = *state;
	struct addr_port known = at(80), waiting = at(81);
	struct answers a_known = { 0 }, a_waiting = { 0 };
	int pair[2];
	endpoint_hub_query(t->h.endpoints, 0, &known);
	info_arrives(t, 80);
	worker_fixture_run(t->f);
	struct channel *channel = t->h.channel;
	t->h.channel = NULL;
	worker_waits(t, 81, &a_waiting);
	endpoint_hub_query(t->h.endpoints, 0, &waiting);
	worker_waits(t, 80, &a_known);
	endpoint_hub_query(t->h.endpoints, 1, &known);
	worker_fixture_run(t->f);
	assert_int_equal(a_known.some, 1);
	assert_int_equal(a_waiting.some + a_waiting.none, 0);

	channel_free(channel);
	close(t->agent);
	assert_int_equal(channel_pair(pair, NULL), 0);
	t->agent = pair[1];
	assert_int_equal(channel_new(t->h.loop, pair[0], on_message, on_closed, t, &t->h.channel), 0);
	endpoint_hub_back(t->h.endpoints);
	assert_int_equal(agent_hears(t), WEFT__LINK__TO_AGENT__MSG_ENDPOINT_QUERY);
	assert_true(addr_port_eq(&t->asked, &waiting));
	info_arrives(t, 81);
	worker_fixture_run(t->f);
	assert_int_equal(a_waiting.some, 1);
	again = t;
	assert_true(worker_fixture_until(t->f, asks_again));
	info_arrives(t, 80);
	worker_fixture_run(t->f);
	assert_int_equal(agent_hears(t), WEFT__LINK__TO_AGENT__MSG__NOT_SET);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_hub_query_asks_agent_and_delivers_answer),
		T(test_hub_second_worker_is_answered_without_agent),
		T(test_hub_forgets_when_last_worker_has),
		T(test_hub_without_agent_answers_what_it_knows_and_refuses_the_rest),
		T(test_hub_next_agent_is_asked_what_the_last_left_open_and_then_the_rest),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
