/* SPDX-License-Identifier: Apache-2.0 */
/* From a changed store to a plan in force. All causes (files, resolved names, ejected endpoints) meet in one deferred
 * run per tick. What can't be brought about is said, and what worked before stays in force. */
#include "agent/base/err.h"
#include "agent/base/log.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/ca/ca.h"
#include "agent/compile/compile.h"
#include "agent/daemon/internal.h"
#include "agent/kernel/kernel.h"
#include "agent/link/supervisor.h"
#include "agent/model/outlier.h"
#include "agent/source/dns.h"
#include "agent/source/file.h"
#include "agent/source/jwks.h"
#include "agent/source/store.h"
#include "agent/telemetry/exporters.h"

#include <errno.h>

enum { APPLY_RETRY_MS = 1000 };

static const struct resource *source_next(const void *store, enum resource_kind kind, const struct resource *after)
{
	return store_next(store, kind, after);
}

/* The names that have an answer; those that wait for their first are not given. Out of memory: none are. */
static struct compile_host *hosts_resolved(const struct daemon *d, size_t *count)
{
	size_t n = 0;
	const struct dns_host *all = dns_source_hosts(d->dns, &n);
	struct compile_host *out = n ? calloc(n, sizeof(*out)) : NULL;

	for (size_t i = 0; out && i < n; i++) {
		if (all[i].resolved)
			out[(*count)++] = (struct compile_host){ all[i].name, all[i].addrs, all[i].addr_count };
	}
	return out;
}

static void keys_want(struct daemon *d)
{
	size_t n = 0;
	const struct compile_jwks_want *wanted = compiler_jwks(d->compiler, &n);
	AUTO(mem_freep) struct jwks_want *wants = calloc(n + 1, sizeof(*wants));

	for (size_t i = 0; wants && i < n; i++)
		wants[i] = (struct jwks_want){ wanted[i].uri, wanted[i].timeout_ms };
	if (!wants || jwks_source_set(d->jwks, wants, n) < 0)
		log_error("out of memory: key sets of RequestAuthentications are not fetched anew");
}

int daemon_compile(struct daemon *d, struct plan **out, struct err *err)
{
	const struct compile_source source = { source_next, d->store };
	struct compile_input in = { .revision = store_revision(d->store), .node = d->options->node };

	in.ejected = outlier_ejected(d->outlier, &in.ejected_count);
	AUTO(mem_freep) struct compile_host *hosts = hosts_resolved(d, &in.host_count);
	in.hosts = hosts;
	AUTO(mem_freep) struct compile_jwks *keys = daemon_keys(d, &in.jwks_count);
	in.jwks = keys;
	int rc = compiler_run(d->compiler, &source, &in, out, err);
	if (rc < 0)
		return rc;
	size_t n = 0;
	const char *const *names = compiler_hosts(d->compiler, &n);
	if (dns_source_set(d->dns, names, n) < 0)
		log_error("out of memory: names of ServiceEntries are not resolved anew");
	keys_want(d);
	return 0;
}

void daemon_ca_options(const struct daemon *d, const struct mesh_settings *mesh, struct ca_options *out)
{
	*out = (struct ca_options){
		.dir = d->options->ca_dir,
		.state_dir = d->options->state_dir,
		.trust_domain = mesh->trust_domain,
		.workload_ttl_s = mesh->workload_cert_ttl_s,
		.rsa_keys = mesh->rsa_keys,
		.extra_roots = (const char *const *)mesh->ca_certificates,
		.extra_root_count = mesh->ca_certificate_count,
	};
}

static int settings_apply(struct daemon *d, const struct plan *plan, struct err *err)
{
	struct ca_options ca;
	bool changed = false;

	daemon_ca_options(d, &plan->mesh, &ca);
	int rc = ca_configure(d->ca, &ca, &changed, err);
	if (rc == 0 && changed)
		rc = daemon_trust_push(d, err);
	return rc < 0 ? rc : supervisor_settings(d->supervisor, &plan->mesh, err);
}

int daemon_plan_apply(struct daemon *d, struct plan *plan, struct err *err)
{
	int rc = settings_apply(d, plan, err);
	if (rc < 0) {
		plan_unref(plan);
		return rc;
	}

	/* Callbacks of kernel_apply answer from the new plan. */
	struct plan *old = d->plan;
	d->plan = plan;
	/* What can't be written, such as one policy with too many alternatives, keeps its last state; all else of the
	 * plan is in force, so the helper must hear of it too. */
	rc = kernel_apply(d->kernel, plan, err);
	daemon_logs_sync(d, plan);
	if (exporters_set(d->exporters, plan->mesh.trace_providers, plan->mesh.trace_provider_count) < 0)
		log_error("out of memory: spans do not go where the MeshConfig says");
	supervisor_refresh(d->supervisor);
	plan_unref(old);
	return rc;
}

/* The next try is due already. */
void daemon_apply_failed(struct daemon *d, const struct err *err)
{
	if (!d->apply_failed || !str_eq(d->apply_error.text, err->text))
		log_error("configuration not applied in full: %s; the rest is in force, and this is tried again every "
			  "%d ms",
			  err->text, APPLY_RETRY_MS);
	d->apply_failed = true;
	d->apply_error = *err;
	loop_timer_start(d->reload_retry, APPLY_RETRY_MS, 0);
}

static void reload(void *arg)
{
	struct daemon *d = arg;
	struct plan *plan = NULL;
	struct err err = ERR_INIT;

	d->reload_due = false;
	int rc = daemon_compile(d, &plan, &err);
	if (rc == 0)
		rc = daemon_plan_apply(d, plan, &err);
	daemon_settle_later(d);
	if (rc < 0) {
		daemon_apply_failed(d, &err);
		return;
	}
	d->apply_failed = false;
	d->apply_error.text[0] = '\0';
	log_debug("revision %llu is in force", (unsigned long long)d->plan->revision);
}

void daemon_reload_soon(struct daemon *d)
{
	if (d->reload_due || d->stopping)
		return;
	d->reload_due = true;
	loop_defer(d->loop, reload, d);
}

void daemon_on_reload_retry(struct loop_timer *timer, void *arg)
{
	(void)timer;
	daemon_reload_soon(arg);
}

bool daemon_settled(const struct daemon *d)
{
	return !d->reload_due && !d->apply_failed && file_source_settled(d->files) && d->plan &&
	       d->plan->revision == store_revision(d->store);
}

const char *daemon_not_ready(struct daemon *d)
{
	struct supervisor_status helper;

	if (!d->plan)
		return "no configuration is in force yet";
	if (d->apply_failed)
		return d->apply_error.text;
	supervisor_status(d->supervisor, &helper);
	return helper.ready ? NULL : "the helper is starting";
}
