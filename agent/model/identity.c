/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

static const char scheme[] = "spiffe://";

enum { NAME_MAX_BYTES = 253, TRUST_DOMAIN_MAX_BYTES = 255 };

struct identity *identity_new(const char *trust_domain, const char *ns, const char *service_account)
{
	struct identity *identity = calloc(1, sizeof(*identity));
	if (!identity)
		return NULL;

	identity->refs = 1;
	identity->uri = str_format("%s%s/ns/%s/sa/%s", scheme, trust_domain, ns, service_account);
	identity->trust_domain = strdup(trust_domain);
	identity->ns = strdup(ns);
	identity->service_account = strdup(service_account);
	if (!identity->uri || !identity->trust_domain || !identity->ns || !identity->service_account) {
		identity_unref(identity);
		return NULL;
	}
	identity->id = hash32_id(identity->uri);
	return identity;
}

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* SPIFFE-ID 2.1: lower case letters, digits, dot, dash, underscore. */
static bool trust_domain_valid(const char *text, size_t len)
{
	if (len == 0 || len > TRUST_DOMAIN_MAX_BYTES)
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_lower_alnum(text[i]) && !strchr(".-_", text[i]))
			return false;
	return true;
}

/* Kubernetes names (RFC 1123 subdomains): nothing that could be read as a path, escape or query. */
static bool name_valid(const char *text, size_t len)
{
	if (len == 0 || len > NAME_MAX_BYTES || !is_lower_alnum(text[0]) || !is_lower_alnum(text[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_lower_alnum(text[i]) && text[i] != '-' && text[i] != '.')
			return false;
	return true;
}

struct span {
	const char *p;
	size_t len;
};

/* Cuts the next path segment off *rest; false at the end. */
static bool segment_next(const char **rest, struct span *out)
{
	if (!*rest)
		return false;
	const char *slash = strchr(*rest, '/');
	out->p = *rest;
	out->len = slash ? (size_t)(slash - *rest) : strlen(*rest);
	*rest = slash ? slash + 1 : NULL;
	return true;
}

static bool span_is(const struct span *s, const char *text)
{
	return s->len == strlen(text) && memcmp(s->p, text, s->len) == 0;
}

enum { IDENTITY_SEGMENTS = 5 };

/* The segments after the scheme, or false when it is not an identity's URI. */
static bool identity_split(const char *uri, struct span part[IDENTITY_SEGMENTS])
{
	const char *rest = uri + strlen(scheme);
	for (size_t i = 0; i < IDENTITY_SEGMENTS; i++)
		if (!segment_next(&rest, &part[i]))
			return false;
	return !rest && span_is(&part[1], "ns") && span_is(&part[3], "sa") &&
	       trust_domain_valid(part[0].p, part[0].len) && name_valid(part[2].p, part[2].len) &&
	       name_valid(part[4].p, part[4].len);
}

int identity_parse(const char *uri, struct identity **out, struct err *err)
{
	if (strlen(uri) > IDENTITY_URI_MAX)
		return err_set(err, -EINVAL, "identity: longer than %d bytes", IDENTITY_URI_MAX);
	if (!str_starts(uri, scheme))
		return err_set(err, -EINVAL, "identity \"%.100s\": does not begin with %s", uri, scheme);

	struct span part[IDENTITY_SEGMENTS];
	if (!identity_split(uri, part))
		return err_set(
			err, -EINVAL,
			"identity \"%.200s\": not of the form spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT",
			uri);

	AUTO(mem_freep) char *trust_domain = strndup(part[0].p, part[0].len);
	AUTO(mem_freep) char *ns = strndup(part[2].p, part[2].len);
	AUTO(mem_freep) char *account = strndup(part[4].p, part[4].len);
	struct identity *identity = trust_domain && ns && account ? identity_new(trust_domain, ns, account) : NULL;
	if (!identity)
		return err_set(err, -ENOMEM, "identity: out of memory");
	*out = identity;
	return 0;
}

struct identity *identity_ref(struct identity *identity)
{
	__atomic_add_fetch(&identity->refs, 1, __ATOMIC_RELAXED);
	return identity;
}

void identity_unref(struct identity *identity)
{
	if (!identity || __atomic_sub_fetch(&identity->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	free(identity->uri);
	free(identity->trust_domain);
	free(identity->ns);
	free(identity->service_account);
	free(identity->certificate_hash);
	free(identity->certificate_subject);
	free(identity);
}

const char *identity_principal(const struct identity *identity)
{
	return identity->uri + strlen(scheme);
}
