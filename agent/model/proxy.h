/* SPDX-License-Identifier: Apache-2.0 */
/* What Istio's ProxyConfig says of the headers that a workload's proxy writes and believes (proxyHeaders, gatewayTopology).
 * A value inside http_filters: one for each direction of a workload. Pure; any thread. */
#pragma once

#include "agent/base/addr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* x-forwarded-client-cert of requests that come: Envoy's forward_client_cert_details. */
enum proxy_client_cert {
	PROXY_CERT_APPEND,	  /* kept from an authenticated peer, which is added: APPEND_FORWARD, the default */
	PROXY_CERT_SANITIZE,	  /* removed */
	PROXY_CERT_FORWARD,	  /* kept from an authenticated peer: FORWARD_ONLY */
	PROXY_CERT_SET,		  /* replaced by the authenticated peer: SANITIZE_SET */
	PROXY_CERT_ALWAYS_FORWARD /* kept, whoever says it */
};

struct proxy_settings {		/* zero: the defaults */
	bool preserve_case;	/* HTTP/1: names go on as they were written */
	bool no_attempt_count;	/* x-envoy-attempt-count */
	bool no_request_id;	/* none is made; one that is there stays */
	bool no_envoy_headers;	/* x-envoy-upstream-service-time and the like */
	bool client_cert_asked; /* client_cert was written: requests have to be seen for it */
	bool no_cert_uri;	/* of the peer that is added: without its URI */
	bool no_cert_subject;	/* and its certificate's subject */
	char *server;		/* responses' Server; NULL: the application's */
	enum proxy_client_cert client_cert;
	uint32_t trusted_proxies; /* before the workload: their addresses in x-forwarded-for are believed */
};

void proxy_settings_done(struct proxy_settings *p);
bool proxy_settings_default(const struct proxy_settings *p);
uint64_t proxy_settings_digest(uint64_t id, const struct proxy_settings *p);

/* The client's address as the trusted proxies tell it: the trusted'th from the right of x-forwarded-for; the connection's
 * source when none is trusted, or when there are fewer (it came past them), as in Envoy. 0, or -EINVAL: it is no address,
 * *out is the source. */
int proxy_remote_addr(uint32_t trusted, const char *forwarded_for, size_t len, const struct addr *source,
		      struct addr *out);
