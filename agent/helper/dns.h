/* SPDX-License-Identifier: Apache-2.0 */
/* Names for the pods: queries for names that the mesh owns are answered here, all others go untouched to the resolver
 * that the pod asked. One worker answers a pod's queries. On the worker's thread. */
#pragma once

#include "agent/base/addr.h"

#include <stddef.h>
#include <stdint.h>

struct dns;
struct dns_answer;
struct dns_pod;
struct worker;
struct worker_pod;

int dns_new(struct worker *w, struct dns **out);
void dns_free(struct dns *dns); /* after its pods */
/* Takes fd, the pod's UDP socket, also on failure (NULL). The pod must outlive it. */
struct dns_pod *dns_pod_new(struct dns *dns, struct worker_pod *pod, int fd);
void dns_pod_free(struct dns_pod *pod); /* NULL is fine; queries under way are lost, as UDP may */
/* A TCP connection to `resolver`; takes fd. pod may be NULL: it is closed. */
void dns_accept(struct dns_pod *pod, int fd, const struct addr_port *resolver);
void dns_answered(struct dns *dns, uint64_t cookie, const struct dns_answer *answer);
void dns_flush(struct dns *dns);	/* forgets what names are */
void dns_alone(struct dns *dns);	/* no more answers will come: everything is forwarded */
void dns_back(struct dns *dns);		/* another agent: what is not answered is asked for again */
size_t dns_live(const struct dns *dns); /* queries and connections under way */
