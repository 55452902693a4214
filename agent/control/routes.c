/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/control/request.h"

#include <string.h>

#include "agent/base/mem.h"

static const struct route routes[] = {
	{ "GET", "/v1", ROUTE_ADMIN, handle_index, "this list" },
	{ "GET", "/v1/status", ROUTE_ADMIN, handle_status, "health, configuration, helper, pods, certificates" },
	{ "GET", "/v1/version", ROUTE_ADMIN, handle_version, "version of the agent" },
	{ "GET", "/v1/resources/*", ROUTE_ADMIN, handle_resources, "resources of a kind" },
	{ "GET", "/v1/resources/*/*", ROUTE_ADMIN, handle_resources, "... of a namespace; a cluster-wide one by name" },
	{ "GET", "/v1/resources/*/*/*", ROUTE_ADMIN, handle_resources, "one resource, with its text" },
	{ "GET", "/v1/workloads", ROUTE_ADMIN, handle_workloads, "workloads as compiled; ?namespace= ?local=1" },
	{ "GET", "/v1/workloads/*/*", ROUTE_ADMIN, handle_workloads, "one workload" },
	{ "GET", "/v1/services", ROUTE_ADMIN, handle_services, "services as compiled; ?namespace=" },
	{ "GET", "/v1/services/*/*", ROUTE_ADMIN, handle_services, "services of that name, with endpoints" },
	{ "GET", "/v1/policies", ROUTE_ADMIN, handle_policies,
	  "compiled policies of this node's workloads; ?namespace=" },
	{ "GET", "/v1/policies/*/*", ROUTE_ADMIN, handle_policies, "the compiled policy of one workload" },
	{ "GET", "/v1/explain", ROUTE_ADMIN, handle_explain,
	  "what happens to a connection; ?source= &destination=HOST[:PORT] &proto=tcp|udp" },
	{ "GET", "/v1/http/explain", ROUTE_ADMIN, handle_http_explain,
	  "what happens to a request; ?source= &url= &method= &headers= (lines \"Name: value\")" },
	{ "GET", "/v1/http/routes", ROUTE_ADMIN, handle_http_routes,
	  "routes of each service port as a workload's helper has them; ?workload= &service= &namespace=" },
	{ "GET", "/v1/tap", ROUTE_ADMIN, handle_tap,
	  "live requests as lines of JSON; ?filter=EXPRESSION &rate= (a second)" },
	{ "GET", "/v1/authz/check", ROUTE_ADMIN, handle_authz_check,
	  "the policies' verdict; ?source= &destination= (a workload) &port=" },
	{ "GET", "/v1/tls-check", ROUTE_ADMIN, handle_tls_check, "mTLS of each service port; ?namespace= ?service=" },
	{ "GET", "/v1/flows", ROUTE_ADMIN, handle_flows,
	  "recent flows as lines of JSON; ?follow=1 &last= &source= &destination= &namespace= &verdict= &path= "
	  "&reason= &unique=1" },
	{ "GET", "/v1/proxy-config/*", ROUTE_ADMIN, handle_proxy_config,
	  "listeners|clusters|endpoints|secrets|all|..." },
	{ "GET", "/v1/certs", ROUTE_ADMIN, handle_certs, "issued certificates and trusted roots" },
	{ "POST", "/v1/certs/rotate", ROUTE_ADMIN | ROUTE_CHANGES, handle_cert_rotate,
	  "{\"identity\": URI}; without: all" },
	{ "POST", "/v1/certs/revoke", ROUTE_ADMIN | ROUTE_CHANGES, handle_cert_revoke, "{\"serial\": hex}" },
	{ "GET", "/v1/config/history", ROUTE_ADMIN, handle_config_history, "revisions, newest first" },
	{ "GET", "/v1/config/diff", ROUTE_ADMIN, handle_config_diff, "between revisions; ?from= &to=" },
	{ "POST", "/v1/config/rollback", ROUTE_ADMIN | ROUTE_CHANGES, handle_config_rollback,
	  "{\"revision\": number}" },
	{ "GET", "/v1/analyze", ROUTE_ADMIN, handle_analyze, "what is odd in the configuration in force; ?namespace=" },
	{ "GET", "/v1/log", ROUTE_ADMIN, handle_log_get, "log level" },
	{ "PUT", "/v1/log", ROUTE_ADMIN | ROUTE_CHANGES, handle_log_put, "{\"level\": \"error|warn|info|debug\"}" },
	{ "GET", "/v1/reasons", ROUTE_ADMIN, handle_reasons, "every reason of a refusal, what it means" },
	{ "GET", "/v1/precheck", ROUTE_ADMIN, handle_precheck, "what this machine offers and lacks" },
	{ "GET", "/metrics", ROUTE_ADMIN | ROUTE_PUBLIC, handle_metrics, "Prometheus" },
	{ "GET", "/healthz", ROUTE_ADMIN | ROUTE_PUBLIC, handle_healthz, "200 when the agent answers" },
	{ "GET", "/readyz", ROUTE_ADMIN | ROUTE_PUBLIC, handle_readyz, "200 when connections are carried, else 503" },
};

/* Compares segment by segment; fills captures with pointers into path. */
static bool path_matches(const char *pattern, const char *path, const char *captures[REQUEST_CAPTURES_MAX])
{
	size_t n = 0;

	for (;;) {
		if (*pattern == '*') {
			size_t len = strcspn(path, "/");
			if (!len || n == REQUEST_CAPTURES_MAX)
				return false;
			captures[n++] = path;
			path += len;
			pattern++;
		}
		if (*pattern != *path)
			return false;
		if (!*pattern)
			return true;
		pattern++;
		path++;
	}
}

const struct route *route_find(const char *method, char *path, const char *captures[REQUEST_CAPTURES_MAX],
			       bool *wrong_method)
{
	*wrong_method = false;
	size_t len = strlen(path);
	if (len > 1 && path[len - 1] == '/')
		path[len - 1] = 0;
	/* As everywhere, HEAD is GET whose body is not sent. */
	const char *want = strcmp(method, "HEAD") == 0 ? "GET" : method;

	for (size_t i = 0; i < ARRAY_SIZE(routes); i++) {
		const char *found[REQUEST_CAPTURES_MAX] = { NULL };
		if (!path_matches(routes[i].path, path, found))
			continue;
		if (strcmp(routes[i].method, want) != 0) {
			*wrong_method = true;
			continue;
		}
		for (char *p = path; *p; p++)
			if (*p == '/')
				*p = 0; /* ends the captures */
		memcpy(captures, found, sizeof(found));
		*wrong_method = false;
		return &routes[i];
	}
	return NULL;
}

const struct route *route_next(const struct route *after)
{
	const struct route *next = after ? after + 1 : routes;

	return next < routes + ARRAY_SIZE(routes) ? next : NULL;
}
