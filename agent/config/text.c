/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/config/text.h"

#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include "agent/base/addr.h"
#include "agent/base/str.h"

enum { DNS_LABEL_MAX = 63, DNS_NAME_MAX = 253, LABEL_PART_MAX = 63 };

/* Length of the sequence that starts at p, 0: malformed (overlong forms, surrogates, beyond U+10FFFF). */
static size_t utf8_length(const unsigned char *p, size_t left)
{
	if (p[0] < 0x80)
		return 1;
	size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || n > left)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

bool text_is_utf8(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;
	for (size_t i = 0; i < len;) {
		size_t n = utf8_length(p + i, len - i);
		if (!n)
			return false;
		i += n;
	}
	return true;
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* A label of `len` bytes: letters, digits, and what is in `inner` between them. */
static bool part_is_valid(const char *text, size_t len, size_t max, const char *inner)
{
	if (len == 0 || len > max || !is_alnum(text[0]) || !is_alnum(text[len - 1]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_alnum(text[i]) && !strchr(inner, text[i]))
			return false;
	return true;
}

static bool has_upper(const char *text)
{
	for (; *text; text++)
		if (*text >= 'A' && *text <= 'Z')
			return true;
	return false;
}

bool text_is_dns_label(const char *text)
{
	return part_is_valid(text, strlen(text), DNS_LABEL_MAX, "-") && !has_upper(text);
}

bool text_is_dns_name(const char *text)
{
	if (!*text || strlen(text) > DNS_NAME_MAX)
		return false;
	for (const char *label = text;;) {
		size_t len = strcspn(label, ".");
		if (*label == '_' && len > 1) { /* _grpc._tcp and the like */
			if (!part_is_valid(label + 1, len - 1, DNS_LABEL_MAX - 1, "-_"))
				return false;
		} else if (!part_is_valid(label, len, DNS_LABEL_MAX, "-_")) {
			return false;
		}
		if (!label[len])
			return true;
		label += len + 1;
		if (!*label)
			return false;
	}
}

const char *text_check_not_empty(const char *text)
{
	return *text ? NULL : "is empty";
}

const char *text_check_name(const char *text)
{
	if (!text_is_dns_name(text) || has_upper(text) || strchr(text, '_'))
		return "is not a resource name (lower-case letters, digits, \"-\" and \".\", at most 253)";
	return NULL;
}

const char *text_check_dns_label(const char *text)
{
	if (!text_is_dns_label(text))
		return "is not a name (lower-case letters, digits and \"-\", at most 63)";
	return NULL;
}

const char *text_check_fqdn_host(const char *text)
{
	const char *name = text;
	if (!strcmp(text, "*"))
		return "matches every host; name a domain";
	if (str_starts(text, "*."))
		name += 2;
	struct addr ignored;
	if (strchr(name, '*'))
		return "has a \"*\" that is not its whole first label";
	if (name == text && addr_parse(text, &ignored) == 0)
		return NULL;
	return text_is_dns_name(name) ? NULL : "is not a host name";
}

const char *text_check_host(const char *text)
{
	return strcmp(text, "*") ? text_check_fqdn_host(text) : NULL;
}

const char *text_check_label_key(const char *text)
{
	static const char reason[] = "is not a label key ([prefix/]name)";
	const char *name = strchr(text, '/');
	if (name) {
		size_t prefix = (size_t)(name - text);
		char copy[DNS_NAME_MAX + 1];
		if (prefix > DNS_NAME_MAX)
			return reason;
		memcpy(copy, text, prefix);
		copy[prefix] = 0;
		if (!text_is_dns_name(copy))
			return reason;
		name++;
	} else {
		name = text;
	}
	return part_is_valid(name, strlen(name), LABEL_PART_MAX, "-_.") ? NULL : reason;
}

const char *text_check_label_value(const char *text)
{
	if (!*text || part_is_valid(text, strlen(text), LABEL_PART_MAX, "-_."))
		return NULL;
	return "is not a label value (letters, digits, \"-\", \"_\", \".\", at most 63)";
}

const char *text_check_port(const char *text)
{
	uint64_t port;
	if (str_to_u64(text, 65535, &port) < 0 || port == 0)
		return "is not a port (1 to 65535)";
	return NULL;
}

const char *text_check_export_to(const char *text)
{
	if (!strcmp(text, ".") || !strcmp(text, "*") || !strcmp(text, "~") || text_is_dns_label(text))
		return NULL;
	return "is neither \".\" nor \"*\" nor \"~\" nor a namespace";
}

const char *text_check_egress_host(const char *text)
{
	const char *slash = strchr(text, '/');
	char ns[DNS_LABEL_MAX + 1];
	if (!slash)
		return "is not of the form namespace/host";
	if ((size_t)(slash - text) > DNS_LABEL_MAX)
		return "has a namespace that is too long";
	memcpy(ns, text, (size_t)(slash - text));
	ns[slash - text] = 0;
	if (strcmp(ns, "*") && strcmp(ns, ".") && strcmp(ns, "~") && !text_is_dns_label(ns))
		return "does not begin with a namespace, \".\", \"*\" or \"~\"";
	return text_check_host(slash + 1);
}

const char *text_check_spiffe_domain(const char *text)
{
	if (!*text || strlen(text) > 255 || text[strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789._-")])
		return "is not a trust domain (lower-case letters, digits, \".\", \"-\", \"_\")";
	return NULL;
}

const char *text_check_url(const char *text)
{
	const char *host = str_starts(text, "https://") ? text + 8 : str_starts(text, "http://") ? text + 7 : "";
	return *host && *host != '/' ? NULL : "is not an http:// or https:// URL";
}
