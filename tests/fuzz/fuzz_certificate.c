/* SPDX-License-Identifier: Apache-2.0 */
/* A peer's certificate: what is taken for its SPIFFE URI is printable, bounded, and either parses as an identity or is
 * refused. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/helper/tls_peer.h"
#include "agent/model/identity.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(mem_freep) char *uri = NULL;
	if (tls_peer_uri_der(data, size, &uri) < 0) {
		assert(!uri);
		return 0;
	}
	assert(*uri && strlen(uri) <= IDENTITY_URI_MAX);
	for (const char *p = uri; *p; p++)
		assert(*p > 0x20 && *p < 0x7f);

	struct identity *id = NULL;
	if (identity_parse(uri, &id, NULL) == 0) {
		assert(strcmp(id->uri, uri) == 0);
		identity_unref(id);
	}
	return 0;
}
