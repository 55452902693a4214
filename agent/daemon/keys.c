/* SPDX-License-Identifier: Apache-2.0 */
/* Key sets of RequestAuthentications, from where they are fetched to where they are compiled. */
#include "agent/base/log.h"
#include "agent/compile/compile.h"
#include "agent/control/backend.h"
#include "agent/daemon/internal.h"
#include "agent/source/jwks.h"

#include <stdlib.h>

void daemon_on_keys_changed(void *arg)
{
	struct daemon *d = arg;
	size_t n;
	const struct jwks_set *sets = jwks_source_sets(d->jwks, &n);

	for (size_t i = 0; i < n; i++)
		if (sets[i].failures == 1)
			log_warn("keys for tokens can't be fetched from %s: %s; %s", sets[i].uri,
				 sets[i].error ? sets[i].error : "unknown",
				 sets[i].keys ? "those of before stay in force" : "tokens are refused until they can");
	daemon_reload_soon(d);
}

struct compile_jwks *daemon_keys(const struct daemon *d, size_t *count)
{
	size_t n;
	const struct jwks_set *sets = jwks_source_sets(d->jwks, &n);
	struct compile_jwks *out = n ? calloc(n, sizeof(*out)) : NULL;

	*count = 0;
	for (size_t i = 0; out && i < n; i++)
		if (sets[i].keys)
			out[(*count)++] = (struct compile_jwks){ sets[i].uri, sets[i].keys };
	return out;
}

void daemon_keys_tell(void (*on_keys)(const struct control_keys *keys, void *ctx), void *ctx, void *arg)
{
	struct daemon *d = arg;
	size_t n;
	const struct jwks_set *sets = jwks_source_sets(d->jwks, &n);

	for (size_t i = 0; i < n; i++) {
		const struct control_keys keys = { sets[i].uri, sets[i].error, sets[i].last_ok_s };
		on_keys(&keys, ctx);
	}
}
