// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/ktable.h"

#include "agent/base/err.h"
#include "agent/base/mem.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KTABLE_BATCH = 1024 };

static int ktable_create(const struct ktable *t, uint32_t entries, struct err *err)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC);
	char name[BPF_OBJ_NAME_LEN];

	strncpy(name, t->name, sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	int fd = bpf_map_create(BPF_MAP_TYPE_HASH, name, t->key_size, t->value_size, entries, &opts);
	if (fd < 0)
		return err_sys(
			err, -errno,
			"kernel: create table %s of %u entries (lower weft.maps in mesh.yaml, or give weftd more "
			"memory)",
			t->name, entries);
	return fd;
}

static int ktable_install(struct ktable *t, int fd, uint32_t entries, struct err *err)
{
	uint32_t zero = 0;

	if (bpf_map_update_elem(t->outer_fd, &zero, &fd, BPF_ANY) < 0)
		return err_sys(err, -errno, "kernel: put table %s in force", t->name);
	if (t->fd >= 0)
		close(t->fd);
	t->fd = fd;
	t->max_entries = entries;
	return 0;
}

int ktable_open(struct ktable *t, const char *name, int outer_fd, uint32_t key_size, uint32_t value_size,
		uint32_t min_entries, bool *fresh, struct err *err)
{
	uint32_t zero = 0, id = 0;

	*t = (struct ktable){
		.name = name, .outer_fd = outer_fd, .fd = -1, .key_size = key_size, .value_size = value_size
	};
	t->keys = malloc((size_t)KTABLE_BATCH * key_size);
	t->values = malloc((size_t)KTABLE_BATCH * value_size);
	if (!t->keys || !t->values)
		return err_set(err, -ENOMEM, "kernel: out of memory");

	*fresh = bpf_map_lookup_elem(outer_fd, &zero, &id) < 0;
	if (*fresh) {
		int fd = ktable_create(t, min_entries, err);

		return fd < 0 ? fd : ktable_install(t, fd, min_entries, err);
	}
	struct bpf_map_info info = { 0 };
	uint32_t len = sizeof(info);

	t->fd = bpf_map_get_fd_by_id(id);
	if (t->fd < 0 || bpf_obj_get_info_by_fd(t->fd, &info, &len) < 0)
		return err_sys(err, -errno, "kernel: take over table %s", name);
	if (info.key_size != key_size || info.value_size != value_size)
		return err_set(err, -EPROTO, "kernel: table %s is of another version of Weft; run `weftd cleanup`",
			       name);
	t->max_entries = info.max_entries;
	return ktable_reserve(t, min_entries, err);
}

void ktable_close(struct ktable *t)
{
	if (!t->name)
		return;
	if (t->fd >= 0)
		close(t->fd);
	if (t->outer_fd >= 0)
		close(t->outer_fd);
	free(t->keys);
	free(t->values);
	*t = (struct ktable){ .fd = -1, .outer_fd = -1 };
}

static int ktable_copy(const struct ktable *t, int to, char *keys, char *values)
{
	uint32_t in = 0, out = 0;
	bool first = true;

	for (;;) {
		uint32_t n = KTABLE_BATCH;
		int rc = bpf_map_lookup_batch(t->fd, first ? NULL : &in, &out, keys, values, &n, NULL) < 0 ? -errno : 0;

		if (rc < 0 && rc != -ENOENT)
			return rc;
		if (n && bpf_map_update_batch(to, keys, values, &n, NULL) < 0)
			return -errno;
		if (rc == -ENOENT)
			return 0;
		in = out;
		first = false;
	}
}

static int ktable_grow(struct ktable *t, uint32_t entries, struct err *err)
{
	AUTO(mem_freep) char *keys = malloc((size_t)KTABLE_BATCH * t->key_size);
	AUTO(mem_freep) char *values = malloc((size_t)KTABLE_BATCH * t->value_size);
	AUTO(fd_closep) int fd = -1;

	if (!keys || !values)
		return err_set(err, -ENOMEM, "kernel: out of memory");
	fd = ktable_create(t, entries, err);
	if (fd < 0)
		return fd;
	int rc = ktable_copy(t, fd, keys, values);
	if (rc < 0)
		return err_sys(err, rc, "kernel: copy table %s into a larger one", t->name);
	rc = ktable_install(t, fd, entries, err);
	if (rc == 0)
		fd = -1;
	return rc;
}

int ktable_reserve(struct ktable *t, uint32_t entries, struct err *err)
{
	uint32_t size = t->max_entries;

	if (entries <= size)
		return 0;
	while (size < entries)
		size *= 2;
	return ktable_grow(t, size, err);
}

int ktable_set(struct ktable *t, const void *key, const void *value, struct err *err)
{
	for (;;) {
		if (bpf_map_update_elem(t->fd, key, value, BPF_ANY) == 0)
			return 0;
		if (errno != E2BIG)
			return err_sys(err, -errno, "kernel: write table %s", t->name);
		int rc = ktable_grow(t, t->max_entries * 2, err);
		if (rc < 0)
			return rc;
	}
}

int ktable_flush(struct ktable *t, struct err *err)
{
	uint32_t done = 0;

	while (done < t->waiting) {
		uint32_t n = t->waiting - done;
		int rc = bpf_map_update_batch(t->fd, t->keys + (size_t)done * t->key_size,
					      t->values + (size_t)done * t->value_size, &n, NULL) < 0 ?
				 -errno :
				 0;

		done += n;
		if (rc == 0)
			continue;
		if (rc == -E2BIG)
			rc = ktable_grow(t, t->max_entries * 2, err);
		else
			rc = err_sys(err, rc, "kernel: write table %s", t->name);
		if (rc < 0) {
			t->waiting = 0;
			return rc;
		}
	}
	t->waiting = 0;
	return 0;
}

int ktable_add(struct ktable *t, const void *key, const void *value, struct err *err)
{
	memcpy(t->keys + (size_t)t->waiting * t->key_size, key, t->key_size);
	memcpy(t->values + (size_t)t->waiting * t->value_size, value, t->value_size);
	return ++t->waiting < KTABLE_BATCH ? 0 : ktable_flush(t, err);
}

int ktable_get(const struct ktable *t, const void *key, void *value)
{
	return bpf_map_lookup_elem(t->fd, key, value) < 0 ? -errno : 0;
}

void ktable_delete(struct ktable *t, const void *key)
{
	bpf_map_delete_elem(t->fd, key); /* already gone is what was wanted */
}

int ktable_sweep(struct ktable *t, bool (*keep)(const void *key, const void *value, void *arg), void *arg,
		 struct err *err)
{
	AUTO(mem_freep) char *keys = malloc((size_t)KTABLE_BATCH * t->key_size);
	AUTO(mem_freep) char *values = malloc((size_t)KTABLE_BATCH * t->value_size);
	uint32_t in = 0, out = 0;
	bool first = true;

	if (!keys || !values)
		return err_set(err, -ENOMEM, "kernel: out of memory");
	for (;;) {
		uint32_t n = KTABLE_BATCH;
		int rc = bpf_map_lookup_batch(t->fd, first ? NULL : &in, &out, keys, values, &n, NULL) < 0 ? -errno : 0;

		if (rc < 0 && rc != -ENOENT)
			return err_sys(err, rc, "kernel: read table %s", t->name);
		for (uint32_t i = 0; i < n; i++)
			if (!keep(keys + (size_t)i * t->key_size, values + (size_t)i * t->value_size, arg))
				ktable_delete(t, keys + (size_t)i * t->key_size);
		if (rc == -ENOENT)
			return 0;
		in = out;
		first = false;
	}
}

int kmap_sweep(int fd, uint32_t key_size, uint32_t value_size,
	       bool (*keep)(const void *key, const void *value, void *arg), void *arg)
{
	AUTO(mem_freep) char *doomed = NULL;
	AUTO(mem_freep) char *key = malloc(key_size);
	AUTO(mem_freep) char *value = malloc(value_size);
	size_t count = 0, cap = 0;
	bool first = true;

	if (!key || !value)
		return -ENOMEM;
	/* Collected first: removing the key that get_next_key stands on would start it anew. */
	while (bpf_map_get_next_key(fd, first ? NULL : key, key) == 0) {
		first = false;
		if (bpf_map_lookup_elem(fd, key, value) < 0 || keep(key, value, arg))
			continue;
		if (mem_reserve(&doomed, &cap, count + 1, key_size) < 0)
			return -ENOMEM;
		memcpy(doomed + count++ * key_size, key, key_size);
	}
	for (size_t i = 0; i < count; i++)
		bpf_map_delete_elem(fd, doomed + i * key_size);
	return 0;
}
