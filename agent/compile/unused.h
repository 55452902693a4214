/* SPDX-License-Identifier: Apache-2.0 */
/* What documents say and this mesh does not do (findings.h). One function a kind. */
#pragma once

struct notes;
struct resource;

void unused_rule_look(const struct resource *r, struct notes *notes);
void unused_service_look(const struct resource *r, struct notes *notes);
void unused_service_entry_look(const struct resource *r, struct notes *notes);
void unused_mesh_look(const struct resource *r, struct notes *notes);
