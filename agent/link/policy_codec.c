/* SPDX-License-Identifier: Apache-2.0 */
/* Policies to and from the protocol. Encoded trees are made with malloc throughout, so that protobuf-c's
 * free_unpacked releases them, half-built ones too: a count is raised only when its element is there. */
#include "agent/link/message.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/model/policy.h"

enum { POLICY_ITEMS_MAX = 65536 };

/* --- encoding --- */

static int encode_text(char **to, const char *from)
{
	if (!from || !*from)
		return 0; /* stays protobuf-c's shared empty string */
	char *copy = strdup(from);
	if (!copy)
		return -ENOMEM;
	*to = copy;
	return 0;
}

static int encode_strings(const struct match_strings *from, Weft__Link__MatchString ***to, size_t *count)
{
	if (!from->n)
		return 0;
	*to = calloc(from->n, sizeof(**to));
	if (!*to)
		return -ENOMEM;
	for (size_t i = 0; i < from->n; i++) {
		Weft__Link__MatchString *m = malloc(sizeof(*m));
		if (!m)
			return -ENOMEM;
		weft__link__match_string__init(m);
		(*to)[(*count)++] = m;
		m->kind = from->v[i].kind;
		if (encode_text(&m->text, from->v[i].text) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int encode_cidrs(const struct match_cidrs *from, Weft__Link__Cidr ***to, size_t *count)
{
	if (!from->n)
		return 0;
	*to = calloc(from->n, sizeof(**to));
	if (!*to)
		return -ENOMEM;
	for (size_t i = 0; i < from->n; i++) {
		Weft__Link__Cidr *c = malloc(sizeof(*c));
		if (!c)
			return -ENOMEM;
		weft__link__cidr__init(c);
		(*to)[(*count)++] = c;
		c->bits = from->v[i].bits;
		c->addr.data = malloc(16);
		if (!c->addr.data)
			return -ENOMEM;
		c->addr.len = 16;
		memcpy(c->addr.data, from->v[i].addr.b, 16);
	}
	return 0;
}

static int encode_ports(const struct match_ports *from, uint32_t **to, size_t *count)
{
	if (!from->n)
		return 0;
	*to = calloc(from->n, sizeof(**to));
	if (!*to)
		return -ENOMEM;
	for (size_t i = 0; i < from->n; i++)
		(*to)[i] = from->v[i];
	*count = from->n;
	return 0;
}

#define ENCODE(kind, field, from, to) encode_##kind(&(from)->field, &(to)->field, &(to)->n_##field)

static int encode_match(const struct policy_match *from, Weft__Link__PolicyMatch *to)
{
	to->has_http = from->has_http;
	if (ENCODE(strings, principals, from, to) < 0 || ENCODE(strings, not_principals, from, to) < 0 ||
	    ENCODE(strings, namespaces, from, to) < 0 || ENCODE(strings, not_namespaces, from, to) < 0 ||
	    ENCODE(strings, service_accounts, from, to) < 0 || ENCODE(strings, not_service_accounts, from, to) < 0 ||
	    ENCODE(cidrs, ip_blocks, from, to) < 0 || ENCODE(cidrs, not_ip_blocks, from, to) < 0 ||
	    ENCODE(cidrs, remote_ip_blocks, from, to) < 0 || ENCODE(cidrs, not_remote_ip_blocks, from, to) < 0 ||
	    ENCODE(cidrs, destination_ips, from, to) < 0 || ENCODE(cidrs, not_destination_ips, from, to) < 0 ||
	    ENCODE(ports, ports, from, to) < 0 || ENCODE(ports, not_ports, from, to) < 0 ||
	    ENCODE(strings, request_principals, from, to) < 0 ||
	    ENCODE(strings, not_request_principals, from, to) < 0 || ENCODE(strings, hosts, from, to) < 0 ||
	    ENCODE(strings, not_hosts, from, to) < 0 || ENCODE(strings, methods, from, to) < 0 ||
	    ENCODE(strings, not_methods, from, to) < 0 || ENCODE(strings, paths, from, to) < 0 ||
	    ENCODE(strings, not_paths, from, to) < 0)
		return -ENOMEM;
	return 0;
}

static int encode_condition(const struct policy_condition *from, Weft__Link__PolicyCondition *to)
{
	to->attribute = from->attribute;
	if (ENCODE(strings, values, from, to) < 0 || ENCODE(strings, not_values, from, to) < 0)
		return -ENOMEM;
	if (!from->path_count)
		return 0;
	to->path = calloc(from->path_count, sizeof(*to->path));
	if (!to->path)
		return -ENOMEM;
	for (size_t i = 0; i < from->path_count; i++) {
		to->path[i] = strdup(from->path[i]);
		if (!to->path[i])
			return -ENOMEM;
		to->n_path++;
	}
	return 0;
}

static int encode_when(const struct policy_rule *from, Weft__Link__PolicyRule *to)
{
	if (!from->when_count)
		return 0;
	to->when = calloc(from->when_count, sizeof(*to->when));
	if (!to->when)
		return -ENOMEM;
	for (size_t i = 0; i < from->when_count; i++) {
		Weft__Link__PolicyCondition *c = malloc(sizeof(*c));
		if (!c)
			return -ENOMEM;
		weft__link__policy_condition__init(c);
		to->when[to->n_when++] = c;
		if (encode_condition(&from->when[i], c) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int encode_rule(const struct policy_rule *from, Weft__Link__PolicyRule *to)
{
	to->action = from->action;
	to->index = from->index;
	to->dry_run = from->dry_run;
	if (encode_text(&to->name, from->name) < 0 || encode_text(&to->origin, from->origin) < 0 ||
	    encode_text(&to->provider, from->provider) < 0 || encode_when(from, to) < 0)
		return -ENOMEM;
	if (!from->match_count)
		return 0;
	to->matches = calloc(from->match_count, sizeof(*to->matches));
	if (!to->matches)
		return -ENOMEM;
	for (size_t i = 0; i < from->match_count; i++) {
		Weft__Link__PolicyMatch *m = malloc(sizeof(*m));
		if (!m)
			return -ENOMEM;
		weft__link__policy_match__init(m);
		to->matches[to->n_matches++] = m;
		if (encode_match(&from->matches[i], m) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int encode_rules(const struct policy *from, Weft__Link__Policy *to)
{
	if (!from->rule_count)
		return 0;
	to->rules = calloc(from->rule_count, sizeof(*to->rules));
	if (!to->rules)
		return -ENOMEM;
	for (size_t i = 0; i < from->rule_count; i++) {
		Weft__Link__PolicyRule *r = malloc(sizeof(*r));
		if (!r)
			return -ENOMEM;
		weft__link__policy_rule__init(r);
		to->rules[to->n_rules++] = r;
		if (encode_rule(&from->rules[i], r) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int encode_port_mtls(const struct policy *from, Weft__Link__Policy *to)
{
	if (!from->port_mtls_count)
		return 0;
	to->port_mtls = calloc(from->port_mtls_count, sizeof(*to->port_mtls));
	if (!to->port_mtls)
		return -ENOMEM;
	for (size_t i = 0; i < from->port_mtls_count; i++) {
		Weft__Link__PortMtls *p = malloc(sizeof(*p));
		if (!p)
			return -ENOMEM;
		weft__link__port_mtls__init(p);
		p->port = from->port_mtls[i].port;
		p->mode = from->port_mtls[i].mode;
		to->port_mtls[to->n_port_mtls++] = p;
	}
	return 0;
}

Weft__Link__Policy *message_policy_encode(const struct policy *from)
{
	Weft__Link__Policy *to = malloc(sizeof(*to));
	if (!to)
		return NULL;
	weft__link__policy__init(to);
	to->id = from->id;
	to->mtls = from->mtls;
	to->has_allow = from->has_allow;
	if (encode_text(&to->mtls_origin, from->mtls_origin) < 0 ||
	    encode_text(&to->allow_names, from->allow_names) < 0 || encode_port_mtls(from, to) < 0 ||
	    encode_rules(from, to) < 0) {
		weft__link__policy__free_unpacked(to, NULL);
		return NULL;
	}
	return to;
}

/* --- decoding --- */

static int decode_strings_of(size_t count, Weft__Link__MatchString *const *from, struct match_strings *to,
			     enum match_kind last)
{
	if (!count)
		return 0;
	to->v = count <= POLICY_ITEMS_MAX ? calloc(count, sizeof(*to->v)) : NULL;
	if (!to->v)
		return count <= POLICY_ITEMS_MAX ? -ENOMEM : -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (from[i]->kind > last)
			return -EINVAL;
		to->v[i].kind = (enum match_kind)from[i]->kind;
		to->v[i].text = strdup(from[i]->text);
		to->n++;
		if (!to->v[i].text)
			return -ENOMEM;
	}
	return 0;
}

static int decode_strings(size_t count, Weft__Link__MatchString *const *from, struct match_strings *to)
{
	return decode_strings_of(count, from, to, MATCH_PRESENT);
}

static int decode_paths(size_t count, Weft__Link__MatchString *const *from, struct match_strings *to)
{
	return decode_strings_of(count, from, to, MATCH_TEMPLATE);
}

static int decode_cidrs(size_t count, Weft__Link__Cidr *const *from, struct match_cidrs *to)
{
	if (!count)
		return 0;
	to->v = count <= POLICY_ITEMS_MAX ? calloc(count, sizeof(*to->v)) : NULL;
	if (!to->v)
		return count <= POLICY_ITEMS_MAX ? -ENOMEM : -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (from[i]->addr.len != 16 || from[i]->bits > 128)
			return -EINVAL;
		memcpy(to->v[i].addr.b, from[i]->addr.data, 16);
		to->v[i].bits = (uint8_t)from[i]->bits;
		to->n++;
	}
	return 0;
}

static int decode_ports(size_t count, const uint32_t *from, struct match_ports *to)
{
	if (!count)
		return 0;
	to->v = count <= POLICY_ITEMS_MAX ? calloc(count, sizeof(*to->v)) : NULL;
	if (!to->v)
		return count <= POLICY_ITEMS_MAX ? -ENOMEM : -EINVAL;
	for (size_t i = 0; i < count; i++) {
		if (from[i] > UINT16_MAX)
			return -EINVAL;
		to->v[i] = (uint16_t)from[i];
		to->n++;
	}
	return 0;
}

/* The first error, or 0. */
#define DECODE(kind, field, from, to) decode_##kind((from)->n_##field, (from)->field, &(to)->field)

static int decode_match(const Weft__Link__PolicyMatch *from, struct policy_match *to)
{
	int rc;
	to->has_http = from->has_http;
	if ((rc = DECODE(strings, principals, from, to)) < 0 || (rc = DECODE(strings, not_principals, from, to)) < 0 ||
	    (rc = DECODE(strings, namespaces, from, to)) < 0 || (rc = DECODE(strings, not_namespaces, from, to)) < 0 ||
	    (rc = DECODE(strings, service_accounts, from, to)) < 0 ||
	    (rc = DECODE(strings, not_service_accounts, from, to)) < 0 ||
	    (rc = DECODE(cidrs, ip_blocks, from, to)) < 0 || (rc = DECODE(cidrs, not_ip_blocks, from, to)) < 0 ||
	    (rc = DECODE(cidrs, remote_ip_blocks, from, to)) < 0 ||
	    (rc = DECODE(cidrs, not_remote_ip_blocks, from, to)) < 0 ||
	    (rc = DECODE(cidrs, destination_ips, from, to)) < 0 ||
	    (rc = DECODE(cidrs, not_destination_ips, from, to)) < 0 || (rc = DECODE(ports, ports, from, to)) < 0 ||
	    (rc = DECODE(ports, not_ports, from, to)) < 0 || (rc = DECODE(strings, request_principals, from, to)) < 0 ||
	    (rc = DECODE(strings, not_request_principals, from, to)) < 0 ||
	    (rc = DECODE(strings, hosts, from, to)) < 0 || (rc = DECODE(strings, not_hosts, from, to)) < 0 ||
	    (rc = DECODE(strings, methods, from, to)) < 0 || (rc = DECODE(strings, not_methods, from, to)) < 0 ||
	    (rc = DECODE(paths, paths, from, to)) < 0 || (rc = DECODE(paths, not_paths, from, to)) < 0)
		return rc;
	return 0;
}

/* What a condition looks at without a path would be a crash, not a condition. */
static bool condition_shape_ok(const Weft__Link__PolicyCondition *from)
{
	switch (from->attribute) {
	case POLICY_HEADER:
		return from->n_path == 1;
	case POLICY_CLAIM:
		return from->n_path > 0 && from->n_path <= POLICY_ITEMS_MAX;
	case POLICY_REQUEST_PRINCIPAL:
	case POLICY_SNI:
		return from->n_path == 0;
	default:
		return false;
	}
}

static int decode_condition(const Weft__Link__PolicyCondition *from, struct policy_condition *to)
{
	if (!condition_shape_ok(from))
		return -EINVAL;
	to->attribute = (enum policy_attribute)from->attribute;
	to->path = calloc(from->n_path + 1, sizeof(*to->path));
	if (!to->path)
		return -ENOMEM;
	for (size_t i = 0; i < from->n_path; i++) {
		to->path[i] = strdup(from->path[i]);
		if (!to->path[i])
			return -ENOMEM;
		to->path_count++;
	}
	int rc = DECODE(strings, values, from, to);
	return rc < 0 ? rc : DECODE(strings, not_values, from, to);
}

static int decode_when(const Weft__Link__PolicyRule *from, struct policy_rule *to)
{
	if (from->n_when > POLICY_ITEMS_MAX)
		return -EINVAL;
	to->when = calloc(from->n_when + 1, sizeof(*to->when));
	if (!to->when)
		return -ENOMEM;
	for (size_t i = 0; i < from->n_when; i++) {
		to->when_count++;
		int rc = decode_condition(from->when[i], &to->when[i]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int decode_rule(const Weft__Link__PolicyRule *from, struct policy_rule *to)
{
	if (from->action > POLICY_CUSTOM || from->n_matches > POLICY_ITEMS_MAX)
		return -EINVAL;
	to->action = (enum policy_action)from->action;
	to->index = from->index;
	to->dry_run = from->dry_run;
	to->name = strdup(from->name);
	to->origin = strdup(from->origin);
	if (!to->name || !to->origin)
		return -ENOMEM;
	if (*from->provider) {
		to->provider = strdup(from->provider);
		if (!to->provider)
			return -ENOMEM;
	}
	int rc = from->n_when ? decode_when(from, to) : 0;
	if (rc < 0 || !from->n_matches)
		return rc;
	to->matches = calloc(from->n_matches, sizeof(*to->matches));
	if (!to->matches)
		return -ENOMEM;
	for (size_t i = 0; i < from->n_matches; i++) {
		to->match_count++;
		rc = decode_match(from->matches[i], &to->matches[i]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int decode_into(const Weft__Link__Policy *from, struct policy *to)
{
	if (from->mtls > MTLS_DISABLE || from->n_rules > POLICY_ITEMS_MAX || from->n_port_mtls > POLICY_ITEMS_MAX)
		return -EINVAL;
	to->id = from->id;
	to->mtls = (enum mtls_mode)from->mtls;
	to->has_allow = from->has_allow;
	to->mtls_origin = strdup(from->mtls_origin);
	to->allow_names = strdup(from->allow_names);
	to->port_mtls = calloc(from->n_port_mtls + 1, sizeof(*to->port_mtls));
	to->rules = calloc(from->n_rules + 1, sizeof(*to->rules));
	if (!to->mtls_origin || !to->allow_names || !to->port_mtls || !to->rules)
		return -ENOMEM;

	for (size_t i = 0; i < from->n_port_mtls; i++) {
		const Weft__Link__PortMtls *p = from->port_mtls[i];
		if (p->port > UINT16_MAX || p->mode > MTLS_DISABLE)
			return -EINVAL;
		to->port_mtls[to->port_mtls_count++] =
			(struct port_mtls){ .port = (uint16_t)p->port, .mode = (enum mtls_mode)p->mode };
	}
	for (size_t i = 0; i < from->n_rules; i++) {
		to->rule_count++;
		int rc = decode_rule(from->rules[i], &to->rules[i]);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int message_policy_decode(const Weft__Link__Policy *from, struct policy **out)
{
	struct policy *policy = policy_new();
	if (!policy)
		return -ENOMEM;
	int rc = decode_into(from, policy);
	if (rc < 0) {
		policy_unref(policy);
		return rc;
	}
	*out = policy;
	return 0;
}
