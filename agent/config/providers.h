/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of the MeshConfig's extensionProviders, defaultProviders and access log, which are kept as written. Pure. */
#pragma once

struct decode;
struct mesh_config_spec;
struct node;
struct path;

void providers_validate(struct decode *d, const struct path *path, const struct node *mesh,
			const struct mesh_config_spec *spec);
