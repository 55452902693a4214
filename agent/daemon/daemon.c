/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's life: open everything in the order of need, bring the first configuration about, then serve; and on the
 * way out leave the data path and the helper in place. */
#include "agent/daemon/daemon.h"
#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/memory.h"
#include "agent/base/str.h"
#include "agent/ca/ca.h"
#include "agent/compile/compile.h"
#include "agent/control/backend.h"
#include "agent/control/control.h"
#include "agent/daemon/internal.h"
#include "agent/kernel/kernel.h"
#include "agent/link/supervisor.h"
#include "agent/model/outlier.h"
#include "agent/source/dns.h"
#include "agent/source/file.h"
#include "agent/source/jwks.h"
#include "agent/source/store.h"
#include "agent/telemetry/exporters.h"
#include "agent/telemetry/flowlog.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CA_RELOAD_MS = 5000, SETTLE_MS = 500, FLOWLOG_CAPACITY = 4096 };

static int directory_make(const char *path, mode_t mode, struct err *err)
{
	char part[PATH_MAX];

	if (!str_copy(part, sizeof(part), path))
		return err_set(err, -ENAMETOOLONG, "%s: the path is too long", path);
	for (char *slash = part; (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		if (mkdir(part, 0755) < 0 && errno != EEXIST)
			return err_sys(err, -errno, "%s: can't make the directory", part);
		*slash = '/';
	}
	if (mkdir(part, mode) < 0 && errno != EEXIST)
		return err_sys(err, -errno, "%s: can't make the directory", path);
	return 0;
}

/* One agent an instance: the lock goes with the process. */
static int instance_lock(struct daemon *d, struct err *err)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/weftd.lock", d->options->run_dir);
	d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (d->lock_fd < 0)
		return err_sys(err, -errno, "%s: can't open the lock", path);
	if (flock(d->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, -EBUSY,
			       "instance \"%s\" is running already (%s is locked); stop it, or give this one another "
			       "--instance and --run-dir",
			       d->options->instance, path);
	return 0;
}

static void on_store_changed(struct store *store, uint64_t revision, void *arg)
{
	(void)store;
	(void)revision;
	daemon_reload_soon(arg);
}

static void on_names_changed(void *arg)
{
	daemon_reload_soon(arg);
}

static int config_open(struct daemon *d, struct err *err)
{
	int rc = store_open(d->store, d->options->state_dir, err);
	if (rc < 0)
		return rc;
	if (err->code) { /* usable all the same */
		log_warn("%s", err->text);
		*err = ERR_INIT;
	}
	rc = file_source_new(d->loop, d->store, d->options->config_dir, &d->files, err);
	if (rc < 0)
		return rc;
	store_on_change(d->store, on_store_changed, d);
	rc = jwks_source_new(d->loop, daemon_on_keys_changed, d, &d->jwks, err);
	return rc < 0 ? rc : dns_source_new(d->loop, NULL, on_names_changed, d, &d->dns, err);
}

static int ca_start(struct daemon *d, const struct plan *plan, struct err *err)
{
	struct ca_options options;

	daemon_ca_options(d, &plan->mesh, &options);
	return ca_open(&options, &d->ca, err);
}

static int kernel_start(struct daemon *d, const struct plan *plan, struct err *err)
{
	const struct kernel_options options = {
		.instance = d->options->instance,
		.bpffs = "/sys/fs/bpf",
		.cgroup = d->options->cgroup,
		.map_services = plan->mesh.map_services,
		.map_endpoints = plan->mesh.map_endpoints,
		.map_workloads = plan->mesh.map_workloads,
		.map_connections = plan->mesh.map_connections,
		.map_flows = plan->mesh.map_flows,
		.loop = d->loop,
	};
	const struct kernel_events events = {
		.on_pod_added = daemon_on_pod_added,
		.on_pod_changed = daemon_on_pod_changed,
		.on_pod_removed = daemon_on_pod_removed,
		.on_pod_failed = daemon_on_pod_failed,
		.on_flow = daemon_on_flow,
		.arg = d,
	};

	return kernel_open(&options, &events, &d->kernel, err);
}

static int helper_user_find(const struct daemon *d, struct supervisor_options *out, struct err *err)
{
	const char *name = d->options->helper_user;
	const struct passwd *user = getpwnam(name ? name : "weft");

	if (!user && !name)
		user = getpwnam("nobody");
	if (!user || user->pw_uid == 0 || user->pw_gid == 0)
		return err_set(err, -ENOENT, "--helper-user %s: %s; make a system user for it, e.g. useradd -r weft",
			       name ? name : "weft", user ? "is root or in root's group" : "there is no such user");
	out->uid = user->pw_uid;
	out->gid = user->pw_gid;
	return 0;
}

static void on_helper_ready(void *arg)
{
	struct daemon *d = arg;

	/* Its listeners are in force: what an agent before us left behind may finish. */
	if (!d->orphans_drained) {
		d->orphans_drained = true;
		supervisor_orphans_drain(d->supervisor);
	}
}

static void on_helper_died(const char *why, void *arg)
{
	(void)arg;
	log_error("helper: %s; a new one is being started", why);
}

static int helper_start(struct daemon *d, const struct plan *plan, struct err *err)
{
	struct supervisor_options options = {
		.loop = d->loop,
		.helper_path = d->options->helper_path,
		.run_dir = d->options->run_dir,
		.node = d->options->node,
	};
	const struct supervisor_events events = {
		.on_ready = on_helper_ready,
		.on_died = on_helper_died,
		.open_sockets = daemon_open_sockets,
		.endpoint = daemon_on_endpoint,
		.target = daemon_on_target,
		.cluster = daemon_on_cluster,
		.dns = daemon_on_dns,
		.on_csr = daemon_on_csr,
		.on_dropped = daemon_on_dropped,
		.on_endpoint_result = daemon_on_endpoint_result,
		.on_log = daemon_on_helper_log,
		.on_spans = daemon_on_spans,
		.arg = d,
	};

	int rc = helper_user_find(d, &options, err);
	if (rc == 0)
		rc = supervisor_new(&options, &plan->mesh, &events, &d->supervisor, err);
	return rc < 0 ? rc : daemon_trust_push(d, err);
}

static int control_start(struct daemon *d, struct err *err)
{
	struct control_backend backend;
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/weft.sock", d->options->run_dir);
	const struct control_options options = {
		.loop = d->loop,
		.socket_path = path,
		.group = d->options->socket_group ? d->options->socket_group : "weft",
		.metrics_listen = d->options->metrics_listen,
	};
	daemon_backend_fill(d, &backend);
	return control_new(&options, &backend, &d->control, err);
}

static void on_ca_timer(struct loop_timer *timer, void *arg)
{
	struct daemon *d = arg;
	struct err err = ERR_INIT;
	bool changed = false;

	(void)timer;
	daemon_certificates_look(d);
	if (ca_reload(d->ca, clock_wall_ns() / 1000000000, &changed, &err) < 0) {
		if (!d->ca_failed)
			log_error("certificate authority: %s", err.text);
		d->ca_failed = true;
		return;
	}
	d->ca_failed = false;
	if (!changed)
		return;
	log_info("certificate authority: roots or revocations changed");
	if (daemon_trust_push(d, &err) < 0)
		log_error("roots not handed to the helper: %s", err.text);
	supervisor_rotate(d->supervisor, NULL);
}

/* Loading BPF objects, parsing and signing leave a large heap and much code behind that is not needed until next time. */
static void on_settle_timer(struct loop_timer *timer, void *arg)
{
	(void)timer;
	(void)arg;
	memory_settle();
}

void daemon_settle_later(struct daemon *d)
{
	loop_timer_start(d->settle_timer, SETTLE_MS, 0);
}

static void on_stop_signal(int signum, void *arg)
{
	struct daemon *d = arg;

	(void)signum;
	d->stopping = true;
	loop_stop(d->loop);
}

static int base_open(struct daemon *d, struct err *err)
{
	int rc = directory_make(d->options->run_dir, 0755, err);
	if (rc == 0)
		rc = directory_make(d->options->state_dir, 0700, err);
	if (rc == 0)
		rc = directory_make(d->options->ca_dir, 0700, err);
	if (rc == 0)
		rc = instance_lock(d, err);
	if (rc == 0)
		rc = loop_new(&d->loop, err);
	if (rc < 0)
		return rc;
	d->pods = table_new(daemon_pod_free);
	d->pod_errors = table_new(free);
	d->logs = table_new(daemon_log_free);
	d->certificates = table_new(free);
	d->outlier = outlier_new();
	d->flowlog = flowlog_new(FLOWLOG_CAPACITY);
	if (!d->pods || !d->pod_errors || !d->logs || !d->certificates || !d->outlier || !d->flowlog ||
	    store_new(&d->store) < 0 || compiler_new(&d->compiler) < 0 ||
	    loop_timer_new(d->loop, daemon_on_pod_retry, d, &d->pod_retry) < 0 ||
	    loop_timer_new(d->loop, daemon_on_reload_retry, d, &d->reload_retry) < 0 ||
	    loop_timer_new(d->loop, daemon_on_outlier_timer, d, &d->outlier_timer) < 0 ||
	    loop_timer_new(d->loop, on_ca_timer, d, &d->ca_timer) < 0 ||
	    loop_timer_new(d->loop, on_settle_timer, d, &d->settle_timer) < 0 ||
	    loop_timer_new(d->loop, daemon_on_log_timer, d, &d->log_timer) < 0 ||
	    loop_signal_new(d->loop, SIGTERM, on_stop_signal, d, &d->signals[0]) < 0 ||
	    loop_signal_new(d->loop, SIGINT, on_stop_signal, d, &d->signals[1]) < 0)
		return err_set(err, -ENOMEM, "out of memory at start");
	compiler_set_files(d->compiler, daemon_read_file, d);
	return 0;
}

/* The first plan decides trust domain, keys and table sizes, so everything else opens after it. */
static int daemon_open(struct daemon *d, struct err *err)
{
	struct plan *plan = NULL;
	int rc = base_open(d, err);

	if (rc == 0)
		rc = config_open(d, err);
	if (rc == 0)
		rc = daemon_compile(d, &plan, err);
	if (rc == 0)
		rc = ca_start(d, plan, err);
	if (rc == 0)
		rc = kernel_start(d, plan, err);
	if (rc == 0)
		rc = daemon_traces_open(d, err);
	if (rc == 0)
		rc = helper_start(d, plan, err);
	if (rc == 0)
		rc = control_start(d, err);
	if (rc < 0) {
		supervisor_stop(d->supervisor); /* systemd starts us again and again: helpers must not pile up */
		plan_unref(plan);
		return rc;
	}
	rc = daemon_plan_apply(d, plan, err);
	if (rc < 0 && !d->plan) {
		supervisor_stop(d->supervisor);
		return rc;
	}
	if (rc < 0) { /* one bad policy must not leave a whole node without its agent */
		daemon_apply_failed(d, err);
		*err = ERR_INIT;
	}
	loop_timer_start(d->ca_timer, CA_RELOAD_MS, CA_RELOAD_MS);
	return 0;
}

static void daemon_close(struct daemon *d)
{
	d->stopping = true;
	control_free(d->control);
	supervisor_free(d->supervisor);
	exporters_free(d->exporters);
	kernel_close(d->kernel);
	file_source_free(d->files);
	dns_source_free(d->dns);
	jwks_source_free(d->jwks);
	plan_unref(d->plan);
	compiler_free(d->compiler);
	store_free(d->store);
	ca_close(d->ca);
	flowlog_free(d->flowlog);
	outlier_free(d->outlier);
	table_free(d->pods);
	table_free(d->pod_errors);
	table_free(d->logs);
	table_free(d->certificates);
	loop_timer_free(d->pod_retry);
	loop_timer_free(d->reload_retry);
	loop_timer_free(d->outlier_timer);
	loop_timer_free(d->ca_timer);
	loop_timer_free(d->settle_timer);
	loop_timer_free(d->log_timer);
	loop_signal_free(d->signals[0]);
	loop_signal_free(d->signals[1]);
	loop_free(d->loop);
	fd_closep(&d->lock_fd);
}

int daemon_run(const struct daemon_options *options, struct err *err)
{
	struct daemon d = { .options = options, .lock_fd = -1, .started_s = clock_wall_ns() / 1000000000 };

	if (geteuid() != 0)
		return err_set(err, -EPERM,
			       "run needs root: it loads BPF programs and opens sockets in pods' namespaces");
	umask(0077);
	signal(SIGPIPE, SIG_IGN);
	int rc = daemon_open(&d, err);
	if (rc == 0) {
		daemon_settle_later(&d);
		log_info("weftd %s on node %s, instance %s: %zu services, %zu workloads, revision %llu",
			 options->version, options->node, options->instance, d.plan->service_count,
			 d.plan->workload_count, (unsigned long long)d.plan->revision);
		loop_run(d.loop);
		log_info("stopping; the data path and the helper stay in place (weftd cleanup removes them)");
	}
	daemon_close(&d);
	return rc;
}
