/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/source/history_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

enum {
	TEXT_BUFFER_SIZE = 256 * 1024,
	RECORD_MAX = 256 << 20,
	NAME_SIZE = 64,
};

static const char revisions_name[] = "revisions", revisions_new[] = "revisions.new",
		  revisions_bad[] = "revisions.damaged";
static const uint64_t file_magic = 0x3156455254464557ull; /* "WEFTREV1" */

struct file_header {
	uint64_t magic, generation;
};

struct record_header {
	uint64_t len, check; /* of the payload */
};

static void texts_name(uint64_t generation, char name[NAME_SIZE])
{
	snprintf(name, NAME_SIZE, "texts-%llu", (unsigned long long)generation);
}

/* --- records: little fixed-width fields in the machine's order, for this machine only */

static void put(struct sb *sb, uint64_t value)
{
	sb_add_bytes(sb, &value, sizeof(value));
}

static void put_text(struct sb *sb, const char *text)
{
	size_t len = text ? strlen(text) : 0;
	put(sb, len);
	sb_add_bytes(sb, text, len);
}

static void put_version(struct sb *sb, const struct version *v)
{
	put(sb, v != NULL);
	if (!v)
		return;
	put(sb, v->offset);
	put(sb, v->len);
	put(sb, v->hash);
	put(sb, v->line);
	put_text(sb, v->file);
}

struct reader {
	const char *at, *end;
	bool bad;
	const char *(*intern)(void *arg, const char *name);
	void *arg;
};

static uint64_t get(struct reader *r)
{
	uint64_t value = 0;
	if (r->end - r->at < (ptrdiff_t)sizeof(value))
		r->bad = true;
	if (r->bad)
		return 0;
	memcpy(&value, r->at, sizeof(value));
	r->at += sizeof(value);
	return value;
}

static char *get_text(struct reader *r)
{
	uint64_t len = get(r);
	if (len > (uint64_t)(r->end - r->at))
		r->bad = true;
	char *text = r->bad ? NULL : strndup(r->at, len);
	r->bad |= !text;
	if (text)
		r->at += len;
	return text;
}

static struct version *get_version(struct reader *r)
{
	if (!get(r))
		return NULL;
	struct version *v = calloc(1, sizeof(*v));
	if (!v) {
		r->bad = true;
		return NULL;
	}
	v->refs = 1;
	v->offset = get(r);
	v->len = (uint32_t)get(r);
	v->hash = get(r);
	v->line = (uint32_t)get(r);
	AUTO(mem_freep) char *file = get_text(r);
	v->file = file ? r->intern(r->arg, file) : NULL;
	r->bad |= !v->file;
	return v;
}

static void record_write(struct sb *sb, const struct history_revision *r)
{
	put(sb, r->pub.number);
	put(sb, r->pub.time_s);
	put(sb, r->rolled_back_to);
	put(sb, r->base);
	put(sb, r->files_hash);
	put_text(sb, r->pub.summary);
	put(sb, r->change_count);
	for (size_t i = 0; i < r->change_count; i++) {
		put_text(sb, r->changes[i].key);
		put_version(sb, r->changes[i].before);
		put_version(sb, r->changes[i].after);
	}
}

static struct history_revision *record_read(struct reader *in)
{
	struct history_revision *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->pub.number = get(in);
	r->pub.time_s = get(in);
	r->rolled_back_to = get(in);
	r->pub.rolled_back_from = r->rolled_back_to != 0;
	r->base = get(in) != 0;
	r->files_hash = get(in);
	r->pub.summary = get_text(in);
	uint64_t count = get(in);
	/* A change is at least 24 bytes: a count that can't be is not allocated for. */
	if (count > (uint64_t)(in->end - in->at) / 24)
		in->bad = true;
	if (!in->bad && count && !(r->changes = calloc(count, sizeof(*r->changes))))
		in->bad = true;
	for (; r->changes && !in->bad && r->change_count < count; r->change_count++) {
		struct history_change *c = &r->changes[r->change_count];
		c->key = get_text(in);
		c->before = get_version(in);
		c->after = get_version(in);
	}
	if (!in->bad)
		return r;
	history_changes_free(r->changes, r->change_count);
	free(r->pub.summary);
	free(r);
	return NULL;
}

/* --- files */

static int write_all(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int history_file_memory(struct history_file *f, struct err *err)
{
	*f = (struct history_file){ .dir_fd = -1, .revisions_fd = -1 };
	f->texts_fd = memfd_create("weft-texts", MFD_CLOEXEC);
	return f->texts_fd < 0 ? err_sys(err, -errno, "config history: memory for texts") : 0;
}

void history_file_close(struct history_file *f)
{
	fd_closep(&f->dir_fd);
	fd_closep(&f->revisions_fd);
	fd_closep(&f->texts_fd);
	free(f->buf);
	f->buf = NULL;
	f->buf_len = f->buf_cap = 0;
}

static int texts_flush(struct history_file *f, struct err *err)
{
	int rc = write_all(f->texts_fd, f->buf, f->buf_len);
	if (rc < 0)
		return err_sys(err, rc, "config history: write texts");
	f->texts_size += f->buf_len;
	f->buf_len = 0;
	return 0;
}

int history_file_text(struct history_file *f, const char *text, size_t len, uint64_t *offset, struct err *err)
{
	if (f->buf_len + len > TEXT_BUFFER_SIZE) {
		int rc = texts_flush(f, err);
		if (rc < 0)
			return rc;
	}
	if (mem_reserve(&f->buf, &f->buf_cap, f->buf_len + len, 1) < 0)
		return err_set(err, -ENOMEM, "config history: no memory for a text");
	memcpy(f->buf + f->buf_len, text, len);
	*offset = f->texts_size + f->buf_len;
	f->buf_len += len;
	return 0;
}

int history_file_read(struct history_file *f, uint64_t offset, size_t len, char *to, struct err *err)
{
	int rc = f->buf_len ? texts_flush(f, err) : 0;
	if (rc < 0)
		return rc;
	while (len) {
		ssize_t n = pread(f->texts_fd, to, len, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_sys(err, n < 0 ? -errno : -EIO, "config history: read a text");
		to += n;
		offset += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int history_file_append(struct history_file *f, const struct history_revision *r, struct err *err)
{
	int rc = texts_flush(f, err);
	/* What was needed for a large load is not kept for the small changes that follow. */
	free(f->buf);
	f->buf = NULL;
	f->buf_len = f->buf_cap = 0;
	if (rc < 0 || f->revisions_fd < 0)
		return rc;
	struct sb sb = { 0 };
	struct record_header header = { 0 };
	sb_add_bytes(&sb, &header, sizeof(header));
	record_write(&sb, r);
	if (sb.failed)
		return err_set(err, -ENOMEM, "config history: no memory for a record");
	header.len = sb.len - sizeof(header);
	header.check = hash64(HASH64_INIT, sb.p + sizeof(header), header.len);
	memcpy(sb.p, &header, sizeof(header));
	off_t end = lseek(f->revisions_fd, 0, SEEK_CUR);
	rc = write_all(f->revisions_fd, sb.p, sb.len);
	sb_done(&sb);
	if (rc == 0)
		return 0;
	/* Half a record would hide those that follow. */
	if (end >= 0 && ftruncate(f->revisions_fd, end) == 0)
		lseek(f->revisions_fd, end, SEEK_SET);
	return err_sys(err, rc, "config history: write revision %llu", (unsigned long long)r->pub.number);
}

static int texts_open(struct history_file *f, int flags, struct err *err)
{
	char name[NAME_SIZE];
	texts_name(f->generation, name);
	f->texts_fd = openat(f->dir_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0600);
	if (f->texts_fd < 0)
		return err_sys(err, -errno, "config history: open %s", name);
	if (fchmod(f->texts_fd, 0600) < 0) /* Secrets are in it: also one that was there before */
		return err_sys(err, -errno, "config history: close %s to others", name);
	off_t size = lseek(f->texts_fd, 0, SEEK_END);
	f->texts_size = size > 0 ? (uint64_t)size : 0;
	return 0;
}

static int revisions_create(struct history_file *f, const char *name, struct err *err)
{
	struct file_header header = { .magic = file_magic, .generation = f->generation };
	f->revisions_fd = openat(f->dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (f->revisions_fd < 0)
		return err_sys(err, -errno, "config history: create %s", name);
	if (flock(f->revisions_fd, LOCK_EX | LOCK_NB) < 0)
		return err_sys(err, -errno, "config history: lock %s", name);
	int rc = write_all(f->revisions_fd, (const char *)&header, sizeof(header));
	return rc < 0 ? err_sys(err, rc, "config history: write %s", name) : 0;
}

/* Reads the records of the mapped file; returns the end of the last whole one. */
static size_t records_read(const char *map, size_t size, int (*on_revision)(struct history_revision *r, void *arg),
			   const char *(*intern)(void *arg, const char *name), void *arg)
{
	size_t at = sizeof(struct file_header);
	while (size - at >= sizeof(struct record_header)) {
		struct record_header header;
		memcpy(&header, map + at, sizeof(header));
		const char *payload = map + at + sizeof(header);
		if (header.len > RECORD_MAX || header.len > size - at - sizeof(header) ||
		    hash64(HASH64_INIT, payload, header.len) != header.check)
			break;
		struct reader in = { .at = payload, .end = payload + header.len, .intern = intern, .arg = arg };
		struct history_revision *r = record_read(&in);
		if (!r || on_revision(r, arg) < 0)
			break;
		at += sizeof(header) + header.len;
	}
	return at;
}

/* -EBADMSG: the file is not ours or its start is damaged. */
static int revisions_load(struct history_file *f, int (*on_revision)(struct history_revision *r, void *arg),
			  const char *(*intern)(void *arg, const char *name), void *arg)
{
	struct stat st;
	struct file_header header;
	if (fstat(f->revisions_fd, &st) < 0)
		return -errno;
	if (st.st_size < (off_t)sizeof(header))
		return -EBADMSG;
	char *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, f->revisions_fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	memcpy(&header, map, sizeof(header));
	f->generation = header.generation;
	size_t end = sizeof(header);
	int rc = header.magic == file_magic ? 0 : -EBADMSG;
	if (rc == 0)
		end = records_read(map, (size_t)st.st_size, on_revision, intern, arg);
	munmap(map, (size_t)st.st_size);
	if (rc == 0 && end < (size_t)st.st_size && ftruncate(f->revisions_fd, (off_t)end) < 0)
		rc = -errno;
	if (rc == 0 && lseek(f->revisions_fd, (off_t)end, SEEK_SET) < 0)
		rc = -errno;
	return rc;
}

int history_file_open(struct history_file *f, const char *dir,
		      int (*on_revision)(struct history_revision *r, void *arg),
		      const char *(*intern)(void *arg, const char *name), void *arg, struct err *err)
{
	*f = (struct history_file){ .dir_fd = -1, .revisions_fd = -1, .texts_fd = -1 };
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "config history: create directory %s", dir);
	f->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->dir_fd < 0)
		return err_sys(err, -errno, "config history: open directory %s", dir);
	f->revisions_fd = openat(f->dir_fd, revisions_name, O_RDWR | O_CLOEXEC);
	if (f->revisions_fd < 0 && errno != ENOENT)
		return err_sys(err, -errno, "config history: open %s/%s", dir, revisions_name);
	if (f->revisions_fd >= 0 && flock(f->revisions_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, -EBUSY,
			       "config history: %s is used by another agent; give each its own state directory", dir);

	int rc = f->revisions_fd < 0 ? -ENOENT : revisions_load(f, on_revision, intern, arg);
	if (rc < 0) {
		if (rc != -ENOENT)
			err_set(err, rc, "config history: %s/%s is damaged; put aside as %s, and begun anew", dir,
				revisions_name, revisions_bad);
		fd_closep(&f->revisions_fd);
		f->revisions_fd = -1;
		if (rc != -ENOENT)
			renameat(f->dir_fd, revisions_name, f->dir_fd, revisions_bad);
		f->generation = 1;
		rc = revisions_create(f, revisions_name, err);
		return rc < 0 ? rc : texts_open(f, O_TRUNC, err);
	}
	return texts_open(f, 0, err);
}

int history_file_rewrite(const struct history_file *f, struct history_file *next, struct err *err)
{
	*next = (struct history_file){ .dir_fd = -1, .revisions_fd = -1, .texts_fd = -1 };
	if (f->dir_fd < 0)
		return history_file_memory(next, err);
	next->generation = f->generation + 1;
	next->dir_fd = fcntl(f->dir_fd, F_DUPFD_CLOEXEC, 0);
	if (next->dir_fd < 0)
		return err_sys(err, -errno, "config history: rewrite");
	int rc = texts_open(next, O_TRUNC, err);
	return rc < 0 ? rc : revisions_create(next, revisions_new, err);
}

int history_file_finish(struct history_file *f, struct history_file *next, struct err *err)
{
	if (next->dir_fd >= 0) {
		char old[NAME_SIZE];
		texts_name(f->generation, old);
		if (renameat(next->dir_fd, revisions_new, next->dir_fd, revisions_name) < 0)
			return err_sys(err, -errno, "config history: replace %s", revisions_name);
		unlinkat(next->dir_fd, old, 0);
	}
	history_file_close(f);
	*f = *next;
	return 0;
}
