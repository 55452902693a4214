/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/model/digest.h"

void proxy_settings_done(struct proxy_settings *p)
{
	free(p->server);
	*p = (struct proxy_settings){ 0 };
}

bool proxy_settings_default(const struct proxy_settings *p)
{
	return !p->preserve_case && !p->no_attempt_count && !p->no_request_id && !p->no_envoy_headers &&
	       !p->client_cert_asked && !p->no_cert_uri && !p->no_cert_subject && !p->server &&
	       p->client_cert == PROXY_CERT_APPEND && !p->trusted_proxies;
}

uint64_t proxy_settings_digest(uint64_t id, const struct proxy_settings *p)
{
	const uint64_t numbers[] = { p->preserve_case,	       p->no_attempt_count,  p->no_request_id,
				     p->no_envoy_headers,      p->client_cert_asked, p->no_cert_uri,
				     (uint64_t)p->client_cert, p->trusted_proxies,   p->no_cert_subject };
	return digest_text(hash64(id, numbers, sizeof(numbers)), p->server);
}

/* An address with or without its port: "192.0.2.1", "192.0.2.1:80", "2001:db8::1", "[2001:db8::1]:80". */
static int element_parse(const char *p, size_t n, struct addr *out)
{
	char text[64];
	if (n == 0 || n >= sizeof(text))
		return -EINVAL;
	const char *end = p + n;
	if (*p == '[') {
		const char *close = memchr(p, ']', n);
		if (!close || (close + 1 < end && close[1] != ':'))
			return -EINVAL;
		p++;
		end = close;
	} else {
		const char *colon = memchr(p, ':', n);
		if (colon && !memchr(colon + 1, ':', (size_t)(end - colon - 1)))
			end = colon;
	}
	memcpy(text, p, (size_t)(end - p));
	text[end - p] = '\0';
	return addr_parse(text, out);
}

int proxy_remote_addr(uint32_t trusted, const char *forwarded_for, size_t len, const struct addr *source,
		      struct addr *out)
{
	*out = *source;
	if (!trusted || !forwarded_for || !len)
		return 0;
	const char *end = forwarded_for + len, *p = NULL;
	for (uint32_t i = 0; i < trusted; i++) {
		if (i && p == forwarded_for)
			return 0; /* fewer than that */
		if (i)
			end = p - 1;
		const char *comma = memrchr(forwarded_for, ',', (size_t)(end - forwarded_for));
		p = comma ? comma + 1 : forwarded_for;
	}
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	while (end > p && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	struct addr a;
	int rc = element_parse(p, (size_t)(end - p), &a);
	if (rc == 0)
		*out = a;
	return rc < 0 ? -EINVAL : 0;
}
