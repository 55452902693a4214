/* SPDX-License-Identifier: Apache-2.0 */
/* TLS that a cluster originates: which texts a DestinationRule's `tls` means, be they in files or in a Secret. */
#pragma once

#include "agent/compile/http.h"

struct http_cluster;

/* What can't be found is as an empty text: nothing is verified with it, so nothing is connected. 0 or -ENOMEM. */
int http_tls_set(struct compiler *c, struct http_cluster *out, const struct service *s, const struct service_port *port,
		 const struct http_rule *rule);
/* Whether a text looks like PEM of such a thing ("CERTIFICATE"); the helper, which has OpenSSL, reads it. */
bool http_tls_has_block(const char *text, const char *what);
/* Says what is missing of what a DestinationRule's TLS settings name. */
void http_tls_look(const struct compiler *c, const struct resource *rule, struct notes *notes);
