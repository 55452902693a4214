/* SPDX-License-Identifier: Apache-2.0 */
/* Which names the mesh owns, as the agent said, remembered for a while: the same for names that it does not own, so that
 * the agent is not asked for every query. On the worker's thread. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct dns_answer;
struct dns_name_wait;
struct dns_names;
struct worker;

int dns_names_new(struct worker *w, struct dns_names **out);
void dns_names_free(struct dns_names *names);
/* answer: NULL when the mesh does not own it, or nobody can say (no answer within a second). Valid in the callback. */
typedef void (*dns_name_fn)(const struct dns_answer *answer, void *arg);
/* May call back at once, and returns NULL then; the handle cancels. */
struct dns_name_wait *dns_names_get(struct dns_names *names, uint64_t cookie, const char *name, dns_name_fn fn,
				    void *arg);
void dns_names_cancel(struct dns_name_wait *wait); /* NULL is fine */
void dns_names_answered(struct dns_names *names, uint64_t cookie, const struct dns_answer *answer);
void dns_names_flush(struct dns_names *names);
void dns_names_back(struct dns_names *names);  /* another agent is asked what the one before did not answer */
void dns_names_alone(struct dns_names *names); /* nobody answers any more */
