/* SPDX-License-Identifier: Apache-2.0 */
/* Names that ServiceEntries want resolved (resolution DNS), kept fresh: A and AAAA by c-ares on the loop, asked again
 * when their TTL ends, with back-off after failures; the last good answer stays while a server can't be reached. */
#pragma once

#include "agent/base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dns_source;
struct err;
struct loop;

enum {
	DNS_TTL_MIN_S = 1,
	DNS_TTL_MAX_S = 300,
	DNS_RETRY_MIN_S = 1,
	DNS_RETRY_MAX_S = 60,
	DNS_ADDRS_MAX = 64,    /* of one name */
	DNS_INFLIGHT_MAX = 64, /* names being asked at a time */
};

struct dns_host {
	char *name;
	struct addr *addrs; /* sorted; the last good answer */
	size_t addr_count;
	bool resolved;	    /* an answer came, be it "no such name" */
	uint32_t ttl_s;	    /* of the last answer */
	uint64_t last_ok_s; /* wall clock; 0: never */
	uint64_t failures;  /* since then */
	char *error;	    /* of the last attempt, or NULL */
};

/* on_change runs on the loop when the addresses of a name became different (several names of one moment: once).
 * servers: "127.0.0.1:5353,[::1]:53", or NULL: those of /etc/resolv.conf. */
int dns_source_new(struct loop *loop, const char *servers, void (*on_change)(void *arg), void *arg,
		   struct dns_source **out, struct err *err);
void dns_source_free(struct dns_source *ds);
/* Names to keep resolved, from now on these: sorted and unique (as compiler_hosts() gives them). New ones are asked at
 * once. 0 or -ENOMEM. */
int dns_source_set(struct dns_source *ds, const char *const *names, size_t count);
/* Sorted by name; borrowed until the next call of dns_source_set or the loop's next turn. */
const struct dns_host *dns_source_hosts(const struct dns_source *ds, size_t *count);
