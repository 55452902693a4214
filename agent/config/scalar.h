/* SPDX-License-Identifier: Apache-2.0 */
/* What an unquoted YAML word means, by the rules that Kubernetes' tools apply (YAML 1.1 as in sigs.k8s.io/yaml).
 * Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct node;

/* Sets type and value of *out to null, boolean or number; false: it is a string, *out untouched. */
bool scalar_resolve(const char *text, size_t len, struct node *out);
