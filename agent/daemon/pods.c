/* SPDX-License-Identifier: Apache-2.0 */
/* Between kernel and helper: a pod that the kernel enrolled gets its listeners, the helper gets them, and only then does
 * the kernel steer to them. A pod whose listeners can't be opened stays refused (DROP_NOT_READY) and is tried again. */
#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/daemon/internal.h"
#include "agent/kernel/kernel.h"
#include "agent/link/supervisor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LISTENER_COUNT = POD_DNS_TCP + 1, POD_RETRY_MS = 1000 };

void daemon_pod_free(void *pod)
{
	struct daemon_pod *entry = pod;

	free(entry->error);
	free(entry);
}

static void listeners_close(int fds[LISTENER_COUNT])
{
	for (int i = 0; i < LISTENER_COUNT; i++)
		fd_closep(&fds[i]);
}

static int listeners_open(struct daemon *d, const struct kernel_pod *pod, int fds[LISTENER_COUNT], struct err *err)
{
	for (int kind = 0; kind < LISTENER_COUNT; kind++) {
		fds[kind] = kernel_pod_socket(d->kernel, pod, (enum pod_socket)kind, err);
		if (fds[kind] < 0)
			return fds[kind];
	}
	return 0;
}

/* The helper first: a connection that is steered before it knows the pod would wait, one after it is served. */
static int pod_offer(struct daemon *d, const struct kernel_pod *pod, struct err *err)
{
	int fds[LISTENER_COUNT];
	for (int i = 0; i < LISTENER_COUNT; i++)
		fds[i] = -1;

	int rc = listeners_open(d, pod, fds, err);
	if (rc == 0)
		rc = supervisor_pod_set(d->supervisor, pod->cookie, pod->workload, fds, err);
	if (rc == 0) {
		rc = kernel_pod_listeners_set(d->kernel, pod, fds, err);
		if (rc < 0)
			supervisor_pod_remove(d->supervisor, pod->cookie);
	}
	listeners_close(fds); /* supervisor and kernel hold their own references */
	return rc;
}

static struct daemon_pod *pod_find(struct daemon *d, uint64_t cookie)
{
	return table_get(d->pods, &cookie, sizeof(cookie));
}

static void pod_try(struct daemon *d, struct daemon_pod *entry)
{
	const struct kernel_pod *pod = kernel_pod_by_cookie(d->kernel, entry->cookie);
	struct err err = ERR_INIT;

	if (!pod)
		return;
	if (pod_offer(d, pod, &err) == 0) {
		entry->offered = true;
		free(entry->error);
		entry->error = NULL;
		log_info("pod %s is in the mesh as %s", pod->workload->uid, pod->workload->identity->uri);
		return;
	}
	if (!str_eq(entry->error, err.text))
		log_error("pod %s: %s; its traffic is refused until this works", pod->workload->uid, err.text);
	free(entry->error);
	entry->error = strdup(err.text);
	loop_timer_start(d->pod_retry, POD_RETRY_MS, 0);
}

void daemon_on_pod_retry(struct loop_timer *timer, void *arg)
{
	struct daemon *d = arg;
	struct table_iter it = { 0 };

	(void)timer;
	while (table_next(d->pods, &it)) {
		struct daemon_pod *entry = it.value;
		if (!entry->offered)
			pod_try(d, entry);
	}
}

void daemon_on_pod_added(const struct kernel_pod *pod, void *arg)
{
	struct daemon *d = arg;
	struct daemon_pod *entry = calloc(1, sizeof(*entry));

	table_remove_str(d->pod_errors, pod->workload->uid);
	if (!entry || (entry->cookie = pod->cookie, table_set(d->pods, &pod->cookie, sizeof(pod->cookie), entry)) < 0) {
		log_error("pod %s: out of memory; its traffic is refused", pod->workload->uid);
		free(entry);
		return;
	}
	pod_try(d, entry);
}

void daemon_on_pod_changed(const struct kernel_pod *pod, void *arg)
{
	struct daemon *d = arg;
	struct daemon_pod *entry = pod_find(d, pod->cookie);
	struct err err = ERR_INIT;

	if (!entry || !entry->offered)
		return; /* the retry takes the new workload */
	if (supervisor_pod_set(d->supervisor, pod->cookie, pod->workload, NULL, &err) < 0)
		log_error("pod %s: %s; the helper keeps its previous policy", pod->workload->uid, err.text);
}

void daemon_on_pod_removed(const struct kernel_pod *pod, void *arg)
{
	struct daemon *d = arg;

	log_info("pod %s has left the mesh", pod->workload->uid);
	if (pod->vanished)
		supervisor_pod_remove(d->supervisor, pod->cookie);
	else
		supervisor_pod_leave(d->supervisor, pod->cookie);
	table_remove(d->pods, &pod->cookie, sizeof(pod->cookie));
}

void daemon_on_pod_failed(const struct workload *w, const struct err *err, void *arg)
{
	struct daemon *d = arg;
	const char *before = table_get_str(d->pod_errors, w->uid);

	if (str_eq(before, err->text))
		return; /* it is tried again and again; once is enough to say */
	log_warn("pod %s is not in the mesh: %s", w->uid, err->text);
	char *text = strdup(err->text);
	if (text && table_set_str(d->pod_errors, w->uid, text) < 0)
		free(text);
}

int daemon_open_sockets(uint64_t cookie, enum pod_socket kind, int *fds, size_t count, struct err *err, void *arg)
{
	struct daemon *d = arg;
	const struct kernel_pod *pod = kernel_pod_by_cookie(d->kernel, cookie);

	if (!pod)
		return err_set(err, -ENOENT, "no pod with the network namespace cookie %" PRIu64, cookie);
	return kernel_pod_sockets(d->kernel, pod, kind, fds, count, err);
}
