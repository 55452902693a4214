/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/filters.h"

#include <errno.h>

#include "agent/base/mem.h"

static const struct {
	int (*inbound)(const struct filters_of *of, struct http_filters *f);
	int (*outbound)(const struct filters_of *of, struct http_filters *f);
} parts[] = {
	{ request_authn_add, NULL },
	{ ext_authz_add, NULL },
	{ envoy_filter_inbound, envoy_filter_outbound },
	{ proxy_config_add, proxy_config_outbound },
};

static bool is_empty(const struct http_filters *f)
{
	return !f->jwt_count && !f->limit_count && !f->script_count && !f->lua_route_count && !f->ext_authz_count &&
	       f->normalization == PATH_BASE && proxy_settings_default(&f->proxy);
}

static void finish(struct http_filters *f, struct http_filters **out)
{
	if (is_empty(f)) {
		http_filters_unref(f);
		f = NULL;
	} else {
		http_filters_seal(f);
	}
	*out = f;
}

void filters_keep(struct http_filters **fresh, struct http_filters *old)
{
	if (!*fresh || !old || (*fresh)->id != old->id)
		return;
	http_filters_unref(*fresh);
	*fresh = http_filters_ref(old);
}

static enum path_normalization normalization_of(const struct compiler *c)
{
	static const enum path_normalization modes[] = {
		[MESH_NORMALIZE_DEFAULT] = PATH_BASE,
		[MESH_NORMALIZE_NONE] = PATH_NONE,
		[MESH_NORMALIZE_BASE] = PATH_BASE,
		[MESH_NORMALIZE_MERGE_SLASHES] = PATH_MERGE_SLASHES,
		[MESH_NORMALIZE_DECODE_AND_MERGE_SLASHES] = PATH_DECODE_AND_MERGE_SLASHES,
	};
	const struct mesh_path_normalization *p = c->mesh_config ? c->mesh_config->path_normalization : NULL;

	return p ? modes[p->normalization] : PATH_BASE;
}

int filters_build(const struct filters_of *of, struct http_filters **inbound, struct http_filters **outbound)
{
	struct http_filters *in = http_filters_new(), *out = http_filters_new();
	int rc = in && out ? 0 : -ENOMEM;

	if (rc == 0)
		in->normalization = out->normalization = normalization_of(of->c);

	for (size_t i = 0; i < ARRAY_SIZE(parts) && rc == 0; i++) {
		if (parts[i].inbound)
			rc = parts[i].inbound(of, in);
		if (rc == 0 && parts[i].outbound)
			rc = parts[i].outbound(of, out);
	}
	if (rc < 0) {
		http_filters_unref(in);
		http_filters_unref(out);
		return rc;
	}
	finish(in, inbound);
	finish(out, outbound);
	return 0;
}
