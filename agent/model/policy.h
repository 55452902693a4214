/* SPDX-License-Identifier: Apache-2.0 */
/* The inbound policy of one workload: mutual TLS mode by port, and authorisation rules in Istio's order
 * (CUSTOM, DENY, then ALLOW; AUDIT never decides). Pure matching without clock or I/O: the agent lowers it to kernel
 * tables and evaluates `explain` with it, the helper evaluates HBONE connections with it, and requests by
 * policy_http.h. Immutable, reference-counted. */
#pragma once

#include "agent/base/addr.h"
#include "agent/model/workload.h"
#include "bpf/reason.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct identity;

enum mtls_mode { MTLS_PERMISSIVE, MTLS_STRICT, MTLS_DISABLE };

struct port_mtls {
	uint16_t port;
	enum mtls_mode mode;
};

/* Istio's string match: exact, "prefix*", "*suffix", "*" (present); of paths also templates: "/a/{*}/b/{**}", where {*} is
 * one segment and {**} any number of them. */
enum match_kind { MATCH_EXACT, MATCH_PREFIX, MATCH_SUFFIX, MATCH_PRESENT, MATCH_TEMPLATE };

struct match_string {
	enum match_kind kind;
	char *text; /* without the star; a template as written */
};

struct match_strings {
	struct match_string *v;
	size_t n; /* 0: no condition */
};

struct match_cidrs {
	struct cidr *v;
	size_t n;
};

struct match_ports {
	uint16_t *v;
	size_t n;
};

/* One alternative: all conditions that are present must hold. A rule's from x to is expanded into these. A `not` list
 * holds when none of it matches. */
struct policy_match {
	struct match_strings principals, not_principals; /* "cluster.local/ns/x/sa/y" */
	struct match_strings namespaces, not_namespaces;
	struct match_strings service_accounts, not_service_accounts; /* "ns/sa" */
	struct match_cidrs ip_blocks, not_ip_blocks;		     /* the connection's source */
	struct match_cidrs remote_ip_blocks, not_remote_ip_blocks;   /* the same at L4 */
	struct match_cidrs destination_ips, not_destination_ips;
	struct match_ports ports, not_ports;
	/* Of requests; nothing of this is known at L4. */
	struct match_strings request_principals, not_request_principals; /* "issuer/subject" */
	struct match_strings hosts, not_hosts;				 /* without case; with and without the port */
	struct match_strings methods, not_methods;
	struct match_strings paths, not_paths; /* normalised, without query */
	/* HTTP-only fields were present, or a TLS server name is asked for. Istio on TCP: in an ALLOW rule the alternative
	 * never matches; in a DENY rule the HTTP fields are ignored, so the rest decides (it denies more, never less). So
	 * it is with a server name as long as it is not known. */
	bool has_http;
};

/* A condition of `when` on what only a request has. Those on addresses, ports and peers are in the alternatives. */
enum policy_attribute {
	POLICY_HEADER,		  /* path[0]: the name, lower case; or ":method", ":path", ":authority", ":scheme" */
	POLICY_REQUEST_PRINCIPAL, /* no path */
	POLICY_CLAIM,		  /* of the token: path leads through nested objects; of a list any element */
	POLICY_SNI,		  /* no path; of connections, too */
};

struct policy_condition {
	enum policy_attribute attribute;
	char **path;
	size_t path_count;
	struct match_strings values, not_values;
};

/* CUSTOM asks an external service. At L4 nobody can be asked: there it refuses, like DENY. */
enum policy_action { POLICY_ALLOW, POLICY_DENY, POLICY_AUDIT, POLICY_CUSTOM };

struct policy_rule {
	enum policy_action action;
	char *name;	/* "shop/payments-callers" */
	char *origin;	/* "12-authorization.yaml:9" */
	uint32_t index; /* rule number in its document, from 0 */
	bool dry_run;	/* istio.io/dry-run: counted, never decides */
	struct policy_match *matches;
	size_t match_count; /* 0: matches everything ("rules: [{}]"); an ALLOW document without rules gives no rule */
	/* All must hold, besides one of the matches. When there are any, every match has_http. */
	struct policy_condition *when;
	size_t when_count;
	char *provider; /* of CUSTOM; else NULL */
};

struct policy {
	unsigned int refs;
	uint64_t id; /* content hash */
	enum mtls_mode mtls;
	char *mtls_origin; /* which PeerAuthentication decided, or "default" */
	struct port_mtls *port_mtls;
	size_t port_mtls_count;
	struct policy_rule *rules; /* CUSTOM first, then DENY, ALLOW, AUDIT; within those by name */
	size_t rule_count;
	bool has_allow;	   /* an ALLOW document selects the workload, perhaps without rules: default is refusal */
	char *allow_names; /* "shop/payments-callers, shop/other": for messages; may be NULL */
};

/* The peer and the connection as far as known. */
struct policy_input {
	const struct identity *peer; /* authenticated (mTLS or attested); NULL: anonymous */
	/* A process of the pod's own node, as the kernel attests: nobody to the rules, but not anonymous to STRICT. */
	bool from_node;
	struct addr source;
	struct addr destination;
	uint16_t port; /* destination, of the application */
	const char
		*sni; /* TLS server name, lower case; "": there is none; NULL: nobody has looked, or it can't be told */
	bool requests_later; /* a rule on requests refuses nobody yet, and may allow */
	uint8_t proto; /* IPPROTO_TCP; for IPPROTO_UDP only the mTLS mode is judged, as AuthorizationPolicy is TCP's */
};

struct policy_verdict {
	enum drop_reason reason;	 /* DROP_NONE: allowed */
	const struct policy_rule *rule;	 /* that decided; NULL: a default did */
	const struct policy_rule *audit; /* first AUDIT or dry-run rule that matched; NULL: none */
};

struct policy *policy_new(void);
struct policy *policy_ref(struct policy *p);
void policy_unref(struct policy *p);
void policy_rule_done(struct policy_rule *rule); /* frees what it holds */
void policy_match_done(struct policy_match *m);	 /* the same, and zeroes it */
void policy_condition_done(struct policy_condition *c);
/* Some rule says something of requests, or server names: inbound connections must be seen by the helper. */
bool policy_needs_http(const struct policy *p);
bool policy_names_remote_ip(const struct policy *p); /* a rule has remote_ip_blocks */
/* Some rule asks for the TLS server name of connections to the port. */
bool policy_needs_sni(const struct policy *p, uint16_t port);
/* The rule says something of requests besides the server name. matches[i], and `when`. */
bool policy_rule_is_http(const struct policy_rule *rule, size_t i);
bool policy_condition_holds_sni(const struct policy_condition *c, const char *sni); /* of attribute POLICY_SNI */
enum mtls_mode policy_mtls_mode(const struct policy *p, uint16_t port);
void policy_eval(const struct policy *p, const struct policy_input *in, struct policy_verdict *out);
bool policy_match_peer(const struct policy_match *m, const struct identity *peer); /* identity conditions only */
bool match_string_matches(const struct match_string *m, const char *text);
/* The same of n bytes that may be empty; p NULL: absent, matches nothing. */
bool match_string_holds(const struct match_string *m, const char *p, size_t n, bool ignore_case);
bool match_strings_hold(const struct match_strings *s, const char *p, size_t n, bool ignore_case); /* any of them */
/* Parses Istio's star notation into *out (out->text allocated). 0 or -ENOMEM. */
int match_string_init(struct match_string *out, const char *pattern);
int match_path_init(struct match_string *out, const char *pattern); /* the same, and templates */
