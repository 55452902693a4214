/* SPDX-License-Identifier: Apache-2.0 */
/* A temporary directory for a test. */
#pragma once

#include <stddef.h>

void scratch_new(char *dir, size_t size);
void scratch_remove(const char *dir); /* with all that is in it */
void scratch_write(const char *path, const char *text);
long long scratch_size(const char *path);
long long scratch_dir_size(const char *dir);
