/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/source/scratch.h"

#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

static long long walked_size;

void scratch_new(char *dir, size_t size)
{
	snprintf(dir, size, "/tmp/weft-test-XXXXXX");
	assert_non_null(mkdtemp(dir));
}

static int on_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

void scratch_remove(const char *dir)
{
	nftw(dir, on_remove, 8, FTW_DEPTH | FTW_PHYS);
}

void scratch_write(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

long long scratch_size(const char *path)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	return st.st_size;
}

static int on_size(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path, (void)type, (void)ftw;
	walked_size += st->st_size;
	return 0;
}

long long scratch_dir_size(const char *dir)
{
	walked_size = 0;
	nftw(dir, on_size, 8, FTW_PHYS);
	return walked_size;
}
