/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/helper/dns_names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/loop.h"
#include "agent/base/table.h"
#include "agent/helper/dns_message.h"
#include "agent/helper/worker_internal.h"

enum { NAMES_MAX = 4096, NAME_LIFE_MS = 30000, NAME_WAIT_MS = 1000, NAME_AWAY_MS = 3000 };

struct dns_name_wait {
	TAILQ_ENTRY(dns_name_wait) by_age, by_name;
	struct known_name *name;
	uint64_t deadline_ns;
	dns_name_fn fn;
	void *arg;
};

TAILQ_HEAD(name_waits, dns_name_wait);

struct known_name {
	TAILQ_ENTRY(known_name) by_age;
	struct dns_names *names;
	struct name_waits waits;
	struct dns_answer answer; /* addrs owned; name not used */
	bool answered;
	uint64_t until_ns;
	size_t key_len;
	uint8_t key[]; /* cookie, name */
};

struct dns_names {
	struct worker *w;
	struct table *known;
	TAILQ_HEAD(, known_name) by_age;
	struct name_waits waits;
	struct loop_timer *timer;
};

static void on_wait_timer(struct loop_timer *timer, void *arg);

int dns_names_new(struct worker *w, struct dns_names **out)
{
	struct dns_names *names = calloc(1, sizeof(*names));
	if (!names)
		return -ENOMEM;
	names->w = w;
	TAILQ_INIT(&names->by_age);
	TAILQ_INIT(&names->waits);
	names->known = table_new(NULL);
	int rc = names->known ? loop_timer_new(w->loop, on_wait_timer, names, &names->timer) : -ENOMEM;
	if (rc < 0) {
		table_free(names->known);
		free(names);
		return rc;
	}
	*out = names;
	return 0;
}

static void wait_finish(struct dns_name_wait *wait, const struct dns_answer *answer)
{
	struct known_name *name = wait->name;
	TAILQ_REMOVE(&name->names->waits, wait, by_age);
	TAILQ_REMOVE(&name->waits, wait, by_name);
	dns_name_fn fn = wait->fn;
	void *arg = wait->arg;
	free(wait);
	fn(answer, arg);
}

static void name_remove(struct dns_names *names, struct known_name *name)
{
	table_remove(names->known, name->key, name->key_len);
	TAILQ_REMOVE(&names->by_age, name, by_age);
	/* Out of the table first: a callback that asks again gets a new entry. */
	while (!TAILQ_EMPTY(&name->waits))
		wait_finish(TAILQ_FIRST(&name->waits), NULL);
	free(name->answer.addrs);
	free(name);
}

void dns_names_flush(struct dns_names *names)
{
	/* Those that are being asked for stay: the agent answers from its newest state. */
	struct known_name *name, *next;
	for (name = TAILQ_FIRST(&names->by_age); name; name = next) {
		next = TAILQ_NEXT(name, by_age);
		if (name->answered)
			name_remove(names, name);
	}
}

static bool name_ask(struct dns_names *names, uint64_t cookie, const char *text)
{
	struct report query = { .kind = REPORT_DNS_QUERY, .cookie = cookie, .text = strdup(text) };
	return query.text && worker_report(names->w, &query);
}

static void names_fail_waits(struct dns_names *names)
{
	while (!TAILQ_EMPTY(&names->waits))
		name_remove(names, TAILQ_FIRST(&names->waits)->name);
}

void dns_names_alone(struct dns_names *names)
{
	names_fail_waits(names);
}

void dns_names_free(struct dns_names *names)
{
	if (!names)
		return;
	while (!TAILQ_EMPTY(&names->by_age))
		name_remove(names, TAILQ_FIRST(&names->by_age));
	loop_timer_free(names->timer);
	table_free(names->known);
	free(names);
}

/* Resolvers ask again after five seconds: without an agent that is too long to wait for one, as the name may be another's. */
static uint64_t wait_deadline(const struct dns_names *names, const struct dns_name_wait *wait)
{
	const struct worker *w = names->w;
	if (w->away)
		return wait->deadline_ns + (NAME_AWAY_MS - NAME_WAIT_MS) * 1000000ull;
	uint64_t since_back = w->back_ns ? w->back_ns + NAME_WAIT_MS * 1000000ull : 0;
	return wait->deadline_ns > since_back ? wait->deadline_ns : since_back;
}

static void waits_arm(struct dns_names *names)
{
	const struct dns_name_wait *oldest = TAILQ_FIRST(&names->waits);
	if (!oldest)
		return;
	uint64_t now = loop_now_ns(names->w->loop), deadline = wait_deadline(names, oldest);
	uint64_t left = deadline > now ? deadline - now : 0;
	loop_timer_start(names->timer, left / 1000000 + 1, 0);
}

void dns_names_back(struct dns_names *names)
{
	struct known_name *name;
	TAILQ_FOREACH(name, &names->by_age, by_age)
	{
		char text[DNS_NAME_MAX] = { 0 };
		uint64_t cookie;
		if (name->answered)
			continue;
		memcpy(&cookie, name->key, sizeof(cookie));
		memcpy(text, name->key + sizeof(cookie), name->key_len - sizeof(cookie));
		name_ask(names, cookie, text);
	}
	waits_arm(names);
}

static void on_wait_timer(struct loop_timer *timer, void *arg)
{
	struct dns_names *names = arg;
	const struct dns_name_wait *oldest;
	(void)timer;
	/* The name goes with its waits, so that the next query asks again. */
	while ((oldest = TAILQ_FIRST(&names->waits)) && wait_deadline(names, oldest) <= loop_now_ns(names->w->loop))
		name_remove(names, oldest->name);
	waits_arm(names);
}

static struct known_name *name_add(struct dns_names *names, const uint8_t *key, size_t key_len)
{
	if (table_count(names->known) >= NAMES_MAX)
		name_remove(names, TAILQ_FIRST(&names->by_age));
	struct known_name *name = calloc(1, sizeof(*name) + key_len);
	if (!name)
		return NULL;
	name->names = names;
	TAILQ_INIT(&name->waits);
	name->key_len = key_len;
	memcpy(name->key, key, key_len);
	if (table_set(names->known, key, key_len, name) < 0) {
		free(name);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&names->by_age, name, by_age);
	return name;
}

static size_t key_make(uint8_t key[8 + DNS_NAME_MAX], uint64_t cookie, const char *name)
{
	size_t len = strnlen(name, DNS_NAME_MAX - 1);
	memcpy(key, &cookie, 8);
	memcpy(key + 8, name, len);
	return 8 + len;
}

struct dns_name_wait *dns_names_get(struct dns_names *names, uint64_t cookie, const char *text, dns_name_fn fn,
				    void *arg)
{
	uint8_t key[8 + DNS_NAME_MAX];
	size_t key_len = key_make(key, cookie, text);
	struct known_name *name = table_get(names->known, key, key_len);
	if (name && name->answered && name->until_ns <= loop_now_ns(names->w->loop) && !names->w->away) {
		name_remove(names, name);
		name = NULL;
	}
	if (name && name->answered) {
		fn(name->answer.known ? &name->answer : NULL, arg);
		return NULL;
	}
	bool ask = !name;
	if (!name && !names->w->alone)
		name = name_add(names, key, key_len);
	struct dns_name_wait *wait = name ? malloc(sizeof(*wait)) : NULL;
	if (!wait || (ask && !name_ask(names, cookie, text))) {
		free(wait);
		if (ask && name)
			name_remove(names, name);
		fn(NULL, arg);
		return NULL;
	}
	*wait = (struct dns_name_wait){ .name = name, .fn = fn, .arg = arg };
	wait->deadline_ns = loop_now_ns(names->w->loop) + NAME_WAIT_MS * 1000000ull;
	bool first = TAILQ_EMPTY(&names->waits);
	TAILQ_INSERT_TAIL(&names->waits, wait, by_age);
	TAILQ_INSERT_TAIL(&name->waits, wait, by_name);
	if (first)
		waits_arm(names);
	return wait;
}

void dns_names_cancel(struct dns_name_wait *wait)
{
	if (!wait)
		return;
	TAILQ_REMOVE(&wait->name->names->waits, wait, by_age);
	TAILQ_REMOVE(&wait->name->waits, wait, by_name);
	free(wait);
}

void dns_names_answered(struct dns_names *names, uint64_t cookie, const struct dns_answer *answer)
{
	uint8_t key[8 + DNS_NAME_MAX];
	size_t key_len = key_make(key, cookie, answer->name);
	struct known_name *name = table_get(names->known, key, key_len);
	if (!name || name->answered)
		return;
	name->answered = true;
	name->answer.known = answer->known;
	name->answer.ttl_s = answer->ttl_s;
	name->until_ns = loop_now_ns(names->w->loop) + NAME_LIFE_MS * 1000000ull;
	if (answer->addr_count) {
		name->answer.addrs = calloc(answer->addr_count, sizeof(*answer->addrs));
		if (name->answer.addrs) {
			memcpy(name->answer.addrs, answer->addrs, answer->addr_count * sizeof(*answer->addrs));
			name->answer.addr_count = answer->addr_count;
		}
	}
	/* From the table each time: a callback may have the name forgotten. */
	while ((name = table_get(names->known, key, key_len)) && name->answered && !TAILQ_EMPTY(&name->waits))
		wait_finish(TAILQ_FIRST(&name->waits), name->answer.known ? &name->answer : NULL);
}
