/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"

static const struct option_spec explain_options[] = {
	{ "proto", 'p', "tcp|udp", "when a port has both (default: the service port's)" },
	{ "header", 'H', "NAME: VALUE", "of the request; may be repeated" },
	{ "request", 'X', "METHOD", "of the request (default: GET)" },
	{ NULL, 0, NULL, NULL },
};

static const struct option_spec routes_options[] = {
	{ "service", 0, "SERVICE", "of routes: only of this service" },
	{ NULL, 0, NULL, NULL },
};

static const struct option_spec tap_options[] = {
	{ "filter", 0, "EXPR", "CEL, as in Telemetry resources: \"response.code >= 500\"" },
	{ "rate", 0, "N", "at most N requests a second (default: 100)" },
	{ "count", 'c', "N", "end after N requests" },
	{ NULL, 0, NULL, NULL },
};

static const struct option_spec top_options[] = {
	{ "interval", 'i', "SECONDS", "over which rates are taken (default: 2)" },
	{ "by", 0, "WHAT", "service, workload (that is called) or source (default: service)" },
	{ "reporter", 0, "END", "source or destination: whose counts (default: source)" },
	{ "once", '1', NULL, "one table, then end; so it is when the output is no terminal" },
	{ NULL, 0, NULL, NULL },
};

static const struct option_spec flows_options[] = {
	{ "follow", 'f', NULL, "go on printing as flows happen" },
	{ "last", 0, "N", "only the last N that fit (default: 20; with --follow none)" },
	{ "all", 'a', NULL, "all that the agent remembers" },
	{ "source", 0, "WHO", "workload, identity's account, or address of the caller" },
	{ "destination", 0, "WHO", "workload, service, or address that was called" },
	{ "verdict", 0, "WHAT", "allowed, refused, failed, opened or closed" },
	{ "path", 0, "PATH", "direct, attested, hbone, plaintext or http" },
	{ "both-ends", 0, NULL, "also what the called end saw, when the caller's end is on this node too" },
	{ "reason", 0, "REASON", "of a refusal; meshctl reasons lists them" },
	{ NULL, 0, NULL, NULL },
};

static const struct option_spec metrics_options[] = {
	{ "filter", 0, "TEXT", "only lines that contain it" },
	{ NULL, 0, NULL, NULL },
};

static const struct option_spec rotate_options[] = {
	{ "all", 'a', NULL, "every identity of this node" },
	{ NULL, 0, NULL, NULL },
};

static const struct command commands[] = {
	{ "status", "", "Health of the agent, its helper, configuration and pods",
	  "Exit status 1 when something is wrong: not ready, rejected documents, pods that could not be enrolled.\n\n"
	  "Examples:\n"
	  "  meshctl status\n"
	  "  meshctl status -o json | jq .config.revision\n"
	  "  meshctl --instance test status\n",
	  NULL, 0, 0, cmd_status },
	{ "get", "KIND [NAME]", "List workloads, services, policies, or resources as written",
	  "workloads, services and policies are shown as the mesh has compiled them; every other kind "
	  "(authorizationpolicy,\n"
	  "peerauthentication, serviceentry, workloadentry, destinationrule, ...) as it was written. -o yaml prints a "
	  "resource\n"
	  "the way it stands in its file. NAME may be NAMESPACE/NAME.\n\n"
	  "Examples:\n"
	  "  meshctl get workloads\n"
	  "  meshctl get services -n shop -o wide\n"
	  "  meshctl get authorizationpolicy payments-callers -n shop -o yaml\n",
	  NULL, 1, 2, cmd_get },
	{ "describe", "KIND NAME", "Everything about one workload, service or resource",
	  "A workload is described with its policy, a service with its endpoints. NAME may be NAMESPACE/NAME.\n\n"
	  "Examples:\n"
	  "  meshctl describe workload shop/payments-1\n"
	  "  meshctl describe service catalog -n shop\n",
	  NULL, 2, 2, cmd_describe },
	{ "explain", "SOURCE DESTINATION[:PORT]|URL", "What happens to a connection or a request, and why",
	  "Asks the live tables of the data path: which endpoint, which way, as whom, and what the policies say. "
	  "SOURCE is a\n"
	  "workload (NAMESPACE/NAME, NAME, or the app label) or an address; DESTINATION a service, host name, workload "
	  "or\n"
	  "address. Exit status 0 when the connection is allowed, 1 when it is refused or can't be decided here.\n"
	  "With a URL it is about a request: which route takes it and why those before it did not, where it goes with "
	  "which\n"
	  "retries and timeout, and which rule of the destination's policies allows or denies it.\n\n"
	  "Examples:\n"
	  "  meshctl explain frontend catalog:80\n"
	  "  meshctl explain frontend http://catalog/items -H 'x-canary: true'\n"
	  "  meshctl explain frontend http://payments/refund -X POST\n"
	  "  meshctl explain shop/frontend-1 payments.shop.svc.cluster.local:7000\n"
	  "  meshctl explain 10.1.2.3 shop/payments-1:7000      # somebody outside the mesh\n",
	  explain_options, 2, 2, cmd_explain },
	{ "flows", "", "Connections that were opened, closed, failed or refused",
	  "Examples:\n"
	  "  meshctl flows --verdict refused\n"
	  "  meshctl flows --follow --source frontend --destination payments\n"
	  "  meshctl flows -n shop --path plaintext --all -o json\n",
	  flows_options, 0, 0, cmd_flows },
	{ "tap", "[SERVICE|WORKLOAD]", "Live requests of HTTP services",
	  "Each request as it ends: when, what was asked, the answer's status and response flags, how long it took, "
	  "who "
	  "asked\n"
	  "whom by which route. -o json passes the agent's lines on. A request within the node is told of by both "
	  "ends.\n\n"
	  "Examples:\n"
	  "  meshctl tap catalog\n"
	  "  meshctl tap -n shop --filter 'response.code >= 500'\n"
	  "  meshctl tap --filter \"request.headers['x-canary'] == 'true'\" --count 10 -o json\n",
	  tap_options, 0, 1, cmd_tap },
	{ "top", "", "Rates, errors and latencies of HTTP services, live",
	  "From two readings of the agent's metrics: requests a second, the share that did not fail (5xx, none, or a "
	  "gRPC "
	  "status),\n"
	  "latencies, bytes a second. On a terminal the table is refreshed until it is interrupted.\n\n"
	  "Examples:\n"
	  "  meshctl top\n"
	  "  meshctl top --by workload --interval 10 --once\n",
	  top_options, 0, 0, cmd_top },
	{ "authn tls-check", "[SERVICE]", "Which service ports are reached by mutual TLS",
	  "CLIENT is how workloads of this node reach the port, SERVER what its workloads ask for. Exit status 1 on a "
	  "conflict:\n"
	  "plaintext where STRICT is asked for.\n\n"
	  "Examples:\n"
	  "  meshctl authn tls-check\n"
	  "  meshctl authn tls-check catalog -n shop\n",
	  NULL, 0, 1, cmd_tls_check },
	{ "authz check", "SOURCE DESTINATION[:PORT]|URL", "What the destination's policies say of a caller",
	  "Evaluates the compiled policies of the destination's workloads, as if SOURCE had proven who it is. With a "
	  "workload\n"
	  "alone and no SOURCE (meshctl authz check shop/payments-1) its rules are listed.\n\n"
	  "Examples:\n"
	  "  meshctl authz check frontend payments:7000\n"
	  "  meshctl authz check frontend http://payments/refund -X POST   # as explain\n"
	  "  meshctl authz check 203.0.113.9 shop/payments-1:7000\n"
	  "  meshctl authz check shop/payments-1\n",
	  explain_options, 1, 2, cmd_authz_check },
	{ "proxy-config",
	  "all|listeners|clusters|routes [WORKLOAD]|endpoints|upstreams|secrets|connections|pools|http-connections|"
	  "http-pools",
	  "What kernel and helper were given",
	  "routes: what the calls of WORKLOAD (without one: of anybody) to each HTTP port mean.\n\n"
	  "Examples:\n"
	  "  meshctl proxy-config endpoints -n shop\n"
	  "  meshctl proxy-config routes frontend --service catalog\n"
	  "  meshctl proxy-config secrets\n"
	  "  meshctl proxy-config all -o json\n",
	  routes_options, 1, 2, cmd_proxy_config },
	{ "cert list", "", "Certificates that were issued, and the roots that are trusted",
	  "Examples:\n"
	  "  meshctl cert list\n"
	  "  meshctl cert list -o json | jq -r '.items[].serial'\n",
	  NULL, 0, 0, cmd_cert_list },
	{ "cert show", "SERIAL|IDENTITY", "One certificate",
	  "IDENTITY may be a SPIFFE URI, NAMESPACE/ACCOUNT or an account.\n\n"
	  "Examples:\n"
	  "  meshctl cert show shop/frontend\n",
	  NULL, 1, 1, cmd_cert_show },
	{ "cert rotate", "[IDENTITY]", "Have a new certificate issued now",
	  "No connection is lost. --all for every identity of this node.\n\n"
	  "Examples:\n"
	  "  meshctl cert rotate shop/frontend\n"
	  "  meshctl cert rotate --all\n",
	  rotate_options, 0, 1, cmd_cert_rotate },
	{ "cert revoke", "SERIAL", "Put a certificate on the revocation list",
	  "Connections that use it are cut, on nodes that share this CA directory. Its identity gets no new "
	  "certificate by\n"
	  "itself: meshctl cert rotate.\n\n"
	  "Examples:\n"
	  "  meshctl cert revoke 5c0f2a91d0b84c0e9a7d1f60a1b2c3d4\n",
	  NULL, 1, 1, cmd_cert_revoke },
	{ "analyze", "", "What is odd in the configuration in force",
	  "Not what was rejected (meshctl status shows that), but what is likely not meant: services without "
	  "endpoints, policies\n"
	  "that select nothing, hosts that do not exist, fields that have no effect. Exit status 1 when there is a "
	  "warning.\n\n"
	  "Examples:\n"
	  "  meshctl analyze\n"
	  "  meshctl analyze -n shop -o json\n",
	  NULL, 0, 0, cmd_analyze },
	{ "config history", "", "Revisions of the configuration, newest first",
	  "Examples:\n"
	  "  meshctl config history\n",
	  NULL, 0, 0, cmd_config_history },
	{ "config diff", "FROM [TO]", "Differences between two revisions",
	  "TO: default the current one. Exit status 1 when they differ.\n\n"
	  "Examples:\n"
	  "  meshctl config diff 41 42\n",
	  NULL, 1, 2, cmd_config_diff },
	{ "config rollback", "REVISION", "Put an earlier revision in force",
	  "It stays until the files change the next time; correct them, or it comes back.\n\n"
	  "Examples:\n"
	  "  meshctl config rollback 41\n",
	  NULL, 1, 1, cmd_config_rollback },
	{ "log", "[error|warn|info|debug]", "Show or set the log level of agent and helper",
	  "Examples:\n"
	  "  meshctl log\n"
	  "  meshctl log debug\n",
	  NULL, 0, 1, cmd_log },
	{ "metrics", "", "The agent's metrics, as Prometheus sees them",
	  "Examples:\n"
	  "  meshctl metrics --filter weft_drops\n",
	  metrics_options, 0, 0, cmd_metrics },
	{ "reasons", "[REASON]", "Every reason for which a connection is refused",
	  "Examples:\n"
	  "  meshctl reasons policy_no_allow\n",
	  NULL, 0, 1, cmd_reasons },
	{ "precheck", "", "What this machine offers, and what Weft lacks",
	  "Exit status 1 when something required is missing.\n\n"
	  "Examples:\n"
	  "  meshctl precheck\n",
	  NULL, 0, 0, cmd_precheck },
	{ "version", "", "Versions of meshctl and of the agent",
	  "Examples:\n"
	  "  meshctl version\n",
	  NULL, 0, 0, cmd_version },
	{ "completion", "bash|zsh|fish", "A completion script for a shell",
	  "Examples:\n"
	  "  . <(meshctl completion bash)\n"
	  "  meshctl completion zsh > \"${fpath[1]}/_meshctl\"\n"
	  "  meshctl completion fish > ~/.config/fish/completions/meshctl.fish\n",
	  NULL, 1, 1, cmd_completion },
};

const struct command *command_next(const struct command *after)
{
	const struct command *next = after ? after + 1 : commands;

	return next < commands + ARRAY_SIZE(commands) ? next : NULL;
}

const struct command *command_find(const char *name)
{
	for (const struct command *c = NULL; (c = command_next(c));)
		if (str_eq(c->name, name))
			return c;
	return NULL;
}
