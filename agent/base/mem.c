/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/base/mem.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

void mem_freep(void *pointer_to_pointer)
{
	void *p;
	memcpy(&p, pointer_to_pointer, sizeof(p));
	free(p);
	memset(pointer_to_pointer, 0, sizeof(p));
}

void fd_closep(int *fd)
{
	if (*fd < 0)
		return;

	int saved = errno; /* cleanup runs on error paths that still report errno */
	close(*fd);
	errno = saved;
	*fd = -1;
}

int mem_reserve(void *array, size_t *cap, size_t need, size_t size)
{
	if (need <= *cap)
		return 0;

	size_t grown = *cap < 4 ? 8 : *cap;
	while (grown < need) {
		if (grown > SIZE_MAX / 2)
			return -ENOMEM;
		grown *= 2;
	}

	size_t bytes;
	if (__builtin_mul_overflow(grown, size, &bytes) || bytes > PTRDIFF_MAX)
		return -ENOMEM;
	void *old;
	memcpy(&old, array, sizeof(old));
	void *p = realloc(old, bytes);
	if (!p)
		return -ENOMEM;
	memcpy(array, &p, sizeof(p));
	*cap = grown;
	return 0;
}
