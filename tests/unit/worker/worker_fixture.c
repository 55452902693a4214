/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/worker/worker_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/tls_credentials.h"
#include "agent/helper/transport_internal.h"
#include "agent/model/identity.h"

struct worker_fixture *worker_fixture;

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* --- the data path --- */

struct hbone {
	int unused;
};

int hbone_new(struct worker *w, struct hbone **out)
{
	(void)w;
	*out = calloc(1, sizeof(**out));
	return 0;
}

void hbone_free(struct hbone *h)
{
	free(h);
}

static void seen(bool inbound, struct worker_pod *pod, int fd, const struct addr_port *a, const struct addr_port *b)
{
	fd_closep(&worker_fixture->seen.fd);
	worker_fixture->seen = (struct seen_connection){ fd, inbound, pod, *a, *b };
}

void hbone_outbound(struct hbone *h, struct worker_pod *pod, int fd, const struct addr_port *endpoint,
		    const struct addr_port *original, struct connection_log *log)
{
	(void)h;
	(void)log;
	worker_fixture->outbound++;
	seen(false, pod, fd, endpoint, original);
}

void hbone_inbound(struct hbone *h, struct worker_pod *pod, int fd, const struct addr_port *peer,
		   const struct addr_port *local)
{
	(void)h;
	worker_fixture->inbound++;
	seen(true, pod, fd, peer, local);
}

void hbone_credentials(struct hbone *h, struct tls_credentials *credentials)
{
	(void)h;
	tls_credentials_unref(credentials);
}

void hbone_trust(struct hbone *h, struct tls_trust *trust)
{
	(void)h;
	tls_trust_unref(trust);
}

void hbone_policy_changed(struct hbone *h, struct worker_pod *pod)
{
	(void)h;
	(void)pod;
	worker_fixture->policy_changes++;
}

void hbone_pod_removed(struct hbone *h, struct worker_pod *pod)
{
	(void)h;
	(void)pod;
	if (worker_fixture)
		worker_fixture->removals++;
}

void hbone_drain(struct hbone *h)
{
	(void)h;
	worker_fixture->drains++;
}

size_t hbone_live(const struct hbone *h)
{
	(void)h;
	return 0;
}

void hbone_dump(struct hbone *h, const char *what, struct sb *out)
{
	(void)h;
	sb_addf(out, "[\"%s\"]", what);
}

struct transport *hbone_open(struct hbone *h, struct worker_pod *pod, const struct endpoint_info *info,
			     transport_opened_fn fn, void *arg)
{
	(void)h;
	(void)pod;
	(void)info;
	(void)fn;
	(void)arg;
	return NULL;
}

int hbone_material(struct hbone *h, const char *uri, struct tls_credentials **credentials, struct tls_trust **trust)
{
	(void)h;
	(void)uri;
	(void)credentials;
	(void)trust;
	return -ENOENT;
}

void hbone_open_cancel(struct transport *t)
{
	(void)t;
}

/* --- the worker --- */

static void on_report(void *message, void *arg)
{
	struct worker_fixture *f = arg;
	check(f->report_count < FIXTURE_REPORTS);
	f->reports[f->report_count++] = message;
}

struct worker_fixture *worker_fixture_new(void)
{
	struct worker_fixture *f = calloc(1, sizeof(*f));
	f->seen.fd = -1;
	f->settings = (struct helper_settings){ .threads = 2, .max_connections_per_pod = 7 };
	check(loop_new(&f->link_loop, NULL) == 0);
	check(mailbox_new(f->link_loop, 10000, on_report, f, &f->mailbox) == 0);
	check(worker_new(0, 2, &f->settings, &f->shard, f->mailbox, &f->w, NULL) == 0);
	worker_fixture = f;
	return f;
}

void worker_fixture_forget(struct worker_fixture *f)
{
	while (f->report_count > 0)
		report_free(f->reports[--f->report_count]);
}

static void on_left(void *message)
{
	report_free(message);
}

void worker_fixture_free(struct worker_fixture *f)
{
	worker_free(f->w);
	fd_closep(&f->seen.fd);
	worker_fixture_forget(f);
	mailbox_free(f->mailbox, on_left);
	loop_free(f->link_loop);
	free(f);
	worker_fixture = NULL;
}

static void on_moment(struct loop_timer *timer, void *arg)
{
	(void)timer;
	loop_stop(arg);
}

static void run_moment(struct loop *loop)
{
	struct loop_timer *timer;
	check(loop_timer_new(loop, on_moment, loop, &timer) == 0);
	/* The first run brings the loop's clock up to date, which timers start from. */
	loop_timer_start(timer, 0, 0);
	loop_run(loop);
	loop_timer_start(timer, 2, 0);
	loop_run(loop);
	loop_timer_free(timer);
}

void worker_fixture_run(struct worker_fixture *f)
{
	run_moment(f->w->loop);
	run_moment(f->link_loop);
}

bool worker_fixture_until(struct worker_fixture *f, bool (*done)(struct worker_fixture *f))
{
	for (int i = 0; i < 250; i++) {
		if (done(f))
			return true;
		worker_fixture_run(f);
	}
	return done(f);
}

size_t worker_fixture_count(const struct worker_fixture *f, enum report_kind kind, const struct report **last)
{
	size_t n = 0;
	for (size_t i = 0; i < f->report_count; i++) {
		if (f->reports[i]->kind != kind)
			continue;
		n++;
		if (last)
			*last = f->reports[i];
	}
	return n;
}

void worker_fixture_pod(struct worker_fixture *f, uint64_t cookie, const int fds[POD_LISTENERS])
{
	struct order *order = order_new(ORDER_POD, fds ? POD_LISTENERS : 0);
	struct pod_spec *spec = calloc(1, sizeof(*spec));
	spec->refs = 1;
	spec->cookie = cookie;
	spec->uid = strdup("shop/web");
	spec->ns = strdup("shop");
	spec->name = strdup("web");
	spec->identity = identity_new("cluster.local", "shop", "web");
	order->spec = spec;
	if (fds)
		memcpy(order->fds, fds, POD_LISTENERS * sizeof(int));
	worker_handle(f->w, order);
	if (!f->no_certificate)
		worker_pods_credentialed(f->w, "spiffe://cluster.local/ns/shop/sa/web");
}

int worker_fixture_listen(uint16_t *port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	check(fd >= 0 && bind(fd, (struct sockaddr *)&in, sizeof(in)) == 0 && listen(fd, 128) == 0);
	check(getsockname(fd, (struct sockaddr *)&in, &len) == 0);
	*port = ntohs(in.sin_port);
	return fd;
}
