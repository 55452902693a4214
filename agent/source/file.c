/* SPDX-License-Identifier: Apache-2.0 */
/* Events only say where to look; what counts is stat(). A named event looks at that file, anything else (a symlink swap
 * like Kubernetes' ..data, the directory itself, an unnamed event) looks at all of them, and so does a slow timer, for
 * what inotify can't see: targets of symlinks, an overflowed queue, a directory reached through a symlink.
 * Editors truncate, write in pieces, or write elsewhere and rename: a change is taken after a few quiet milliseconds,
 * and a file that became empty or moved on under the reader is looked at again before it is believed. */
#include "agent/source/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/base/table.h"
#include "agent/source/store.h"

enum {
	EMPTY_RECHECK_MS = 50,
	BACK_QUIET_MS = 100, /* after the directory came back, while it is being filled */
	MISSING_POLL_MS = 100,
	SLOW_POLL_MS = 2000,
	SLOW_POLLS_FULL = 15, /* every so many slow polls all files are looked at */
	RETRY_MS = 1000,
	LOG_MAX = 20, /* rejections of one commit that are logged */
};

/* A file as it was when it was read. */
struct seen {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
	bool present;	/* in this scan */
	bool dirty;	/* an event named it */
	bool emptied;	/* and waits for its second look */
	bool fresh;	/* put in this scan: its rejections are logged */
	int error;	/* that the last look ended with */
	uint64_t bytes; /* counted in total_bytes */
};

struct file_source {
	struct loop *loop;
	struct store *store;
	char *dir;
	struct loop_watch *watch;
	struct loop_timer *debounce, *slow;
	struct table *seen;	 /* name -> struct seen */
	struct stat dir_stat;	 /* of the directory that is watched */
	uint64_t first_event_ns; /* 0: nothing pending */
	bool all;		 /* look at all files */
	bool came_back;
	bool staged;
	unsigned int polls;
	uint64_t total_bytes;
	char *problem;
};

static void on_event(struct loop_watch *watch, const char *name, void *arg);

static bool name_is_config(const char *name)
{
	return name[0] != '.' && (str_ends(name, ".yaml") || str_ends(name, ".yml") || str_ends(name, ".json"));
}

/* Starts or prolongs the quiet time. */
static void schedule(struct file_source *fs, uint64_t quiet_ms)
{
	uint64_t now = clock_now_ns(), longest = FILE_DEBOUNCE_MAX_MS * 1000000ull;
	if (!fs->first_event_ns)
		fs->first_event_ns = now;
	if (quiet_ms == FILE_DEBOUNCE_MS && now - fs->first_event_ns > longest)
		return; /* let the timer that runs fire */
	loop_timer_start(fs->debounce, fs->came_back && quiet_ms < BACK_QUIET_MS ? BACK_QUIET_MS : quiet_ms, 0);
}

static struct seen *seen_get(struct file_source *fs, const char *name)
{
	struct seen *seen = table_get_str(fs->seen, name);
	if (seen || !(seen = calloc(1, sizeof(*seen))))
		return seen;
	if (table_set_str(fs->seen, name, seen) == 0)
		return seen;
	free(seen);
	return NULL;
}

static bool seen_same(const struct seen *seen, const struct stat *st)
{
	return seen->dev == st->st_dev && seen->ino == st->st_ino && seen->size == st->st_size &&
	       !memcmp(&seen->mtime, &st->st_mtim, sizeof(seen->mtime)) &&
	       !memcmp(&seen->ctime, &st->st_ctim, sizeof(seen->ctime));
}

static void seen_set(struct file_source *fs, struct seen *seen, const struct stat *st, uint64_t bytes)
{
	fs->total_bytes += bytes - seen->bytes;
	seen->bytes = bytes;
	seen->dev = st->st_dev;
	seen->ino = st->st_ino;
	seen->size = st->st_size;
	seen->mtime = st->st_mtim;
	seen->ctime = st->st_ctim;
}

static int file_unreadable(struct file_source *fs, const char *name, const char *why)
{
	fs->staged = true;
	return store_put_unreadable(fs->store, name, why);
}

/* The whole text; *again: it changed while it was read. 0 or -errno. */
static int file_read(int fd, const struct stat *st, char **out, size_t *len, bool *again)
{
	size_t size = (size_t)st->st_size;
	AUTO(mem_freep) char *text = malloc(size + 1);
	if (!text)
		return -ENOMEM;
	size_t at = 0;
	while (at < size + 1) {
		ssize_t n = read(fd, text + at, size + 1 - at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		at += (size_t)n;
	}
	struct stat after;
	*again = at != size || fstat(fd, &after) < 0 || after.st_size != st->st_size ||
		 memcmp(&after.st_mtim, &st->st_mtim, sizeof(after.st_mtim));
	*len = at < size ? at : size;
	*out = TAKE(text);
	return 0;
}

/* A sentence when the file is not to be read, or NULL. */
static char *file_refusal(const struct file_source *fs, const struct seen *seen, const struct stat *st)
{
	uint64_t others = fs->total_bytes - seen->bytes;
	if (!S_ISREG(st->st_mode))
		return strdup("is not a regular file; it is not read");
	if (st->st_size > FILE_SIZE_MAX_BYTES)
		return str_format("is %lld MiB large; files up to %d MiB are read: split it",
				  (long long)st->st_size >> 20, FILE_SIZE_MAX_BYTES >> 20);
	if (others + (uint64_t)st->st_size > FILE_TOTAL_MAX_BYTES)
		return str_format("is not read: the directory's files are more than %d MiB together",
				  FILE_TOTAL_MAX_BYTES >> 20);
	return NULL;
}

static int file_put(struct file_source *fs, const char *name, struct seen *seen, int fd, const struct stat *st)
{
	AUTO(mem_freep) char *refusal = file_refusal(fs, seen, st);
	AUTO(mem_freep) char *text = NULL;
	size_t len = 0;
	bool again = false;
	if (refusal) {
		seen_set(fs, seen, st, seen->bytes);
		return file_unreadable(fs, name, refusal);
	}
	if (st->st_size == 0 && seen->size > 0 && !seen->emptied) {
		seen->emptied = true;
		seen->dirty = true;
		schedule(fs, EMPTY_RECHECK_MS);
		return 0;
	}
	int rc = file_read(fd, st, &text, &len, &again);
	if (rc == -ENOMEM)
		return rc;
	if (rc < 0) {
		AUTO(mem_freep) char *why = str_format("can't be read: %s", strerror(-rc));
		return why ? file_unreadable(fs, name, why) : -ENOMEM;
	}
	seen->emptied = false;
	if (again) { /* a writer is at it */
		seen->dirty = true;
		schedule(fs, FILE_DEBOUNCE_MS);
		return 0;
	}
	rc = store_put_file(fs->store, name, text, len);
	if (rc == 0) {
		seen_set(fs, seen, st, (uint64_t)st->st_size);
		fs->staged = true;
	}
	return rc;
}

static int file_gone(struct file_source *fs, const char *name, struct seen *seen)
{
	fs->total_bytes -= seen->bytes;
	table_remove_str(fs->seen, name);
	fs->staged = true;
	return store_remove_file(fs->store, name);
}

/* Looks at one file and stages what became of it. */
static int file_look(struct file_source *fs, const char *name)
{
	struct stat st;
	AUTO(mem_freep) char *path = str_format("%s/%s", fs->dir, name);
	struct seen *seen = seen_get(fs, name);
	if (!path || !seen)
		return -ENOMEM;
	seen->dirty = false;
	seen->present = true;
	bool found = stat(path, &st) == 0;
	int error = found ? 0 : errno;
	if (found ? seen_same(seen, &st) && !seen->emptied : error != ENOENT && error == seen->error)
		return 0;
	/* Never block on a FIFO, never take a terminal. */
	AUTO(fd_closep) int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat opened = { 0 };
	error = fd < 0 || fstat(fd, &opened) < 0 ? errno : 0;
	if (error == ENOENT && lstat(path, &opened) < 0)
		return file_gone(fs, name, seen);
	if (error && error == seen->error && !found)
		return 0;
	seen->error = error;
	seen->fresh = true;
	if (!error)
		return file_put(fs, name, seen, fd, &opened);
	if (found)
		seen_set(fs, seen, &st, seen->bytes);
	AUTO(mem_freep) char *why = str_format("can't be opened: %s", strerror(error));
	return why ? file_unreadable(fs, name, why) : -ENOMEM;
}

/* --- the directory */

static void set_problem(struct file_source *fs, char *problem)
{
	if (problem && !str_eq(problem, fs->problem))
		log_warn("%s", problem);
	if (!problem && fs->problem)
		log_info("config directory %s is back", fs->dir);
	free(fs->problem);
	fs->problem = problem;
	store_put_unreadable(fs->store, NULL, problem);
	fs->staged = true;
}

static void dir_missing(struct file_source *fs, int error)
{
	loop_watch_free(fs->watch);
	fs->watch = NULL;
	fs->came_back = true;
	set_problem(fs, str_format("config directory %s can't be read (%s); what was in force stays until it is back",
				   fs->dir, error ? strerror(error) : "it came back empty"));
	loop_timer_start(fs->slow, MISSING_POLL_MS, MISSING_POLL_MS);
}

/* Watches the directory that the path names now. */
static int dir_watch(struct file_source *fs, const struct stat *st)
{
	struct err err = ERR_INIT;
	if (fs->watch && st->st_dev == fs->dir_stat.st_dev && st->st_ino == fs->dir_stat.st_ino)
		return 0;
	loop_watch_free(fs->watch);
	fs->watch = NULL;
	int rc = loop_watch_new(fs->loop, fs->dir, on_event, fs, &fs->watch, &err);
	if (rc < 0)
		log_warn("%s; changes are found by looking every %d s", err.text,
			 SLOW_POLL_MS * SLOW_POLLS_FULL / 1000);
	fs->dir_stat = *st;
	fs->all = true;
	return rc;
}

static size_t dir_count(DIR *dir)
{
	size_t n = 0;
	struct dirent *entry;
	while ((entry = readdir(dir)))
		n += name_is_config(entry->d_name);
	rewinddir(dir);
	return n;
}

static int look_at_dir(struct file_source *fs, DIR *dir)
{
	struct table_iter it = { 0 };
	struct dirent *entry;
	int rc = 0;
	while (table_next(fs->seen, &it))
		((struct seen *)it.value)->present = false;
	while (rc == 0 && (entry = readdir(dir)))
		if (name_is_config(entry->d_name))
			rc = file_look(fs, entry->d_name);
	it = (struct table_iter){ 0 };
	while (rc == 0 && table_next(fs->seen, &it)) {
		struct seen *seen = it.value;
		AUTO(mem_freep) char *name = seen->present ? NULL : strndup(it.key, it.key_len);
		if (name)
			rc = file_gone(fs, name, seen);
	}
	return rc;
}

static int look_at_all(struct file_source *fs)
{
	struct stat st;
	DIR *dir = opendir(fs->dir);
	int error = dir ? 0 : errno;
	if (dir && (fstat(dirfd(dir), &st) < 0 || (fs->came_back && store_count(fs->store) && !dir_count(dir)))) {
		closedir(dir);
		dir_missing(fs, 0);
		return 0;
	}
	if (!dir) {
		dir_missing(fs, error);
		return 0;
	}
	dir_watch(fs, &st);
	if (fs->problem || fs->came_back) {
		set_problem(fs, NULL);
		loop_timer_start(fs->slow, SLOW_POLL_MS, SLOW_POLL_MS);
	}
	fs->came_back = false;
	fs->all = false;
	int rc = look_at_dir(fs, dir);
	closedir(dir);
	return rc;
}

static int look_at_dirty(struct file_source *fs)
{
	struct table_iter it = { 0 };
	int rc = 0;
	while (rc == 0 && table_next(fs->seen, &it)) {
		const struct seen *seen = it.value;
		AUTO(mem_freep) char *name = seen->dirty ? strndup(it.key, it.key_len) : NULL;
		if (name)
			rc = file_look(fs, name);
	}
	return rc;
}

static const struct seen *origin_seen(const struct file_source *fs, const char *origin)
{
	const char *colon = strrchr(origin, ':');
	return table_get(fs->seen, origin, colon ? (size_t)(colon - origin) : strlen(origin));
}

static void log_rejections(const struct file_source *fs)
{
	size_t n, logged = 0;
	const struct rejection *r = store_rejections(fs->store, &n);
	for (size_t i = 0; i < n; i++) {
		const struct seen *seen = origin_seen(fs, r[i].origin);
		if (!seen || !seen->fresh || logged++ >= LOG_MAX)
			continue;
		bool named = strcmp(r[i].origin, r[i].key);
		log_warn("%s: %s%s%s%s", r[i].origin, named ? r[i].key : "", named ? ": " : "", r[i].text,
			 r[i].warning	? "" :
			 r[i].last_good ? " (rejected; the last good version stays)" :
					  " (rejected)");
	}
	if (logged > LOG_MAX)
		log_warn("config: %zu more problems; see meshctl status", logged - LOG_MAX);
	struct table_iter it = { 0 };
	while (table_next(fs->seen, &it))
		((struct seen *)it.value)->fresh = false;
}

static void scan(struct file_source *fs)
{
	struct err err = ERR_INIT;
	bool changed;
	fs->first_event_ns = 0;
	loop_timer_stop(fs->debounce);
	int rc = fs->all ? look_at_all(fs) : look_at_dirty(fs);
	if (rc == 0 && fs->staged)
		rc = store_commit(fs->store, &changed, &err);
	if (rc < 0) {
		log_error("config directory %s: %s; tried again in a second", fs->dir,
			  err.code ? err.text : strerror(-rc));
		fs->all = true;
		schedule(fs, RETRY_MS);
		return;
	}
	if (fs->staged)
		log_rejections(fs);
	fs->staged = false;
}

static void on_debounce(struct loop_timer *timer, void *arg)
{
	(void)timer;
	scan(arg);
}

static void on_event(struct loop_watch *watch, const char *name, void *arg)
{
	struct file_source *fs = arg;
	(void)watch;
	if (name && name_is_config(name)) {
		struct seen *seen = seen_get(fs, name);
		if (seen)
			seen->dirty = true;
		else
			fs->all = true;
	} else if (name && name[0] == '.' && name[1] != '.') {
		return; /* an editor's swap file */
	} else if (name && name[0] != '.') {
		/* Of no interest, unless it is the directory itself. */
		const char *base = strrchr(fs->dir, '/');
		if (strcmp(name, base ? base + 1 : fs->dir))
			return;
		fs->all = true;
	} else {
		fs->all = true;
	}
	schedule(fs, FILE_DEBOUNCE_MS);
}

static void on_slow(struct loop_timer *timer, void *arg)
{
	struct file_source *fs = arg;
	struct stat st;
	bool same = stat(fs->dir, &st) == 0 && fs->watch && st.st_dev == fs->dir_stat.st_dev &&
		    st.st_ino == fs->dir_stat.st_ino;
	(void)timer;
	if (fs->problem && stat(fs->dir, &st) < 0)
		return; /* still away */
	if (same && !fs->problem && ++fs->polls % SLOW_POLLS_FULL)
		return;
	fs->came_back |= !same && fs->watch;
	fs->all = true;
	if (!fs->first_event_ns)
		schedule(fs, FILE_DEBOUNCE_MS);
}

int file_source_new(struct loop *loop, struct store *store, const char *dir, struct file_source **out, struct err *err)
{
	struct file_source *fs = calloc(1, sizeof(*fs));
	if (!fs)
		return err_set(err, -ENOMEM, "config directory %s: no memory", dir);
	fs->loop = loop;
	fs->store = store;
	fs->dir = strdup(dir);
	fs->seen = table_new(free);
	int rc = fs->dir && fs->seen ? loop_timer_new(loop, on_debounce, fs, &fs->debounce) : -ENOMEM;
	if (rc == 0)
		rc = loop_timer_new(loop, on_slow, fs, &fs->slow);
	if (rc < 0) {
		file_source_free(fs);
		return err_set(err, rc, "config directory %s: no memory", dir);
	}
	for (size_t len = strlen(fs->dir); len > 1 && fs->dir[len - 1] == '/'; len--)
		fs->dir[len - 1] = 0;
	fs->all = fs->staged = true; /* the first commit also brings back what the last run had */
	loop_timer_start(fs->slow, SLOW_POLL_MS, SLOW_POLL_MS);
	scan(fs);
	*out = fs;
	return 0;
}

void file_source_free(struct file_source *fs)
{
	if (!fs)
		return;
	loop_watch_free(fs->watch);
	loop_timer_free(fs->debounce);
	loop_timer_free(fs->slow);
	table_free(fs->seen);
	free(fs->problem);
	free(fs->dir);
	free(fs);
}

void file_source_rescan(struct file_source *fs)
{
	fs->all = true;
	scan(fs);
}

bool file_source_settled(const struct file_source *fs)
{
	return !fs->first_event_ns;
}

const char *file_source_problem(const struct file_source *fs)
{
	return fs->problem;
}
