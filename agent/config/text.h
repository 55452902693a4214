/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of words: what is a name, a host, a label. Pure; NULL or 0 means fine where a reason is returned. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

bool text_is_utf8(const char *text, size_t len);
bool text_is_dns_label(const char *text); /* RFC 1123: a-z 0-9 -, at most 63 */
bool text_is_dns_name(const char *text);  /* labels and dots, at most 253; underscores inside are let pass */

/* A schema field's check: NULL, or why the text is no good ("is not a DNS name"). */
typedef const char *(*text_check)(const char *text);
const char *text_check_name(const char *text); /* metadata.name: DNS subdomain */
const char *text_check_dns_label(const char *text);
const char *text_check_host(const char *text);	    /* DNS name, "*." wildcard, or "*" */
const char *text_check_fqdn_host(const char *text); /* the same without a bare "*" */
const char *text_check_label_key(const char *text); /* [prefix/]name */
const char *text_check_label_value(const char *text);
const char *text_check_port(const char *text);	      /* "1".."65535" */
const char *text_check_export_to(const char *text);   /* ".", "*", "~" or a namespace */
const char *text_check_egress_host(const char *text); /* "namespace/dnsName" of a Sidecar */
const char *text_check_spiffe_domain(const char *text);
const char *text_check_not_empty(const char *text);
const char *text_check_url(const char *text); /* http:// or https:// */
