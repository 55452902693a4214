/* SPDX-License-Identifier: Apache-2.0 */
/* Files of certificates, keys and revocations that DestinationRules name: read when a cluster is made, and looked at now
 * and then, because others renew them (a list of revocations is out of date within days). */
#include "agent/base/log.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/compile/compile.h"
#include "agent/daemon/internal.h"
#include "agent/link/supervisor.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_BYTES_MAX = 1 << 20, FILES_MAX = 1024 };

/* By what a file is told from the one that was read. All zero: there was none. */
struct mark {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec changed;
};

static void mark_set(struct mark *mark, const struct stat *st)
{
	memset(mark, 0, sizeof(*mark)); /* compared as bytes */
	if (!st)
		return;
	mark->dev = st->st_dev;
	mark->ino = st->st_ino;
	mark->size = st->st_size;
	mark->changed = st->st_mtim;
}

/* Beyond FILES_MAX a file is read, and looked at only when something else changes. */
static void remember(struct daemon *d, const char *path, const struct stat *st)
{
	struct mark *mark = table_get_str(d->certificates, path);

	if (mark) {
		mark_set(mark, st);
		return;
	}
	mark = table_count(d->certificates) < FILES_MAX ? malloc(sizeof(*mark)) : NULL;
	if (!mark)
		return;
	mark_set(mark, st);
	if (table_set_str(d->certificates, path, mark) < 0)
		free(mark);
}

/* Certificates are small; anything else that a path may name is not read. */
static char *file_read(struct daemon *d, const char *path)
{
	AUTO(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	bool there = fd >= 0 && fstat(fd, &st) == 0;

	remember(d, path, there ? &st : NULL);
	if (!there || !S_ISREG(st.st_mode) || st.st_size > FILE_BYTES_MAX)
		return NULL;
	char *text = calloc(1, (size_t)st.st_size + 1);
	ssize_t n = text ? read(fd, text, (size_t)st.st_size) : -1;
	if (n != st.st_size || memchr(text, 0, (size_t)n)) {
		free(text);
		return NULL;
	}
	return text;
}

char *daemon_read_file(void *arg, const char *path)
{
	/* Debian and Ubuntu, Fedora and RHEL, openSUSE, Alpine */
	static const char *const roots[] = { "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
					     "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem" };
	char *text = NULL;

	if (!str_eq(path, COMPILE_SYSTEM_ROOTS))
		return file_read(arg, path);
	for (size_t i = 0; i < ARRAY_SIZE(roots) && !text; i++)
		text = file_read(arg, roots[i]);
	return text;
}

void daemon_certificates_look(struct daemon *d)
{
	struct table_iter it = { 0 };
	bool changed = false;

	while (table_next(d->certificates, &it)) {
		struct mark now, *mark = it.value;
		AUTO(mem_freep) char *path = strndup(it.key, it.key_len);
		struct stat st;
		if (!path)
			continue;
		mark_set(&now, stat(path, &st) == 0 ? &st : NULL);
		if (memcmp(&now, mark, sizeof(now)) == 0)
			continue;
		*mark = now;
		changed = true;
		log_info("certificates: %s has changed", path);
	}
	if (!changed)
		return;
	compiler_files_changed(d->compiler);
	supervisor_refresh(d->supervisor);
}
