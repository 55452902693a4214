/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/control/fake.h"

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/compile/compile.h"
#include "agent/control/locate.h"
#include "agent/model/l7.h"
#include "agent/model/plan.h"
#include "agent/source/store.h"

#define WORKLOAD(name, app, node, address)                                                                             \
	"apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: { name: " name ", namespace: shop, "       \
	"annotations: { weft.dev/netns: " name ", weft.dev/node: " node " } }\n"                                       \
	"spec: { address: \"" address "\", labels: { app: " app ", version: v1 }, serviceAccount: " app " }\n---\n"

static const char config[] =
	"apiVersion: v1\nkind: Namespace\nmetadata: { name: shop, labels: { istio.io/dataplane-mode: ambient } "
	"}\n---\n" WORKLOAD("frontend-1", "frontend", "node-a", "10.50.1.10") WORKLOAD(
		"catalog-1", "catalog", "node-a", "10.50.1.20") WORKLOAD("catalog-2", "catalog", "node-b", "10.50.2.20")
		WORKLOAD("payments-1", "payments", "node-a",
			 "10.50.1.30") "apiVersion: v1\nkind: Service\nmetadata: { name: catalog, namespace: shop }\n"
				       "spec:\n  clusterIPs: [10.60.0.20, \"fd60::20\"]\n  ipFamilyPolicy: "
				       "PreferDualStack\n  selector: { app: catalog }\n"
				       "  ports:\n  - { name: tcp, port: 80, targetPort: 8080 }\n---\n"
				       "apiVersion: v1\nkind: Service\nmetadata: { name: payments, namespace: shop }\n"
				       "spec:\n  clusterIPs: [10.60.0.30]\n  selector: { app: payments }\n"
				       "  ports:\n  - { name: tcp-ledger, port: 7000 }\n  - { name: udp-notify, port: "
				       "7001, protocol: UDP }\n---\n"
				       "apiVersion: v1\nkind: Service\nmetadata: { name: empty, namespace: shop }\n"
				       "spec:\n  clusterIPs: [10.60.0.40]\n  selector: { app: nobody }\n  ports:\n  - "
				       "{ name: tcp, port: 80 }\n---\n"
				       "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: { name: "
				       "default, namespace: shop }\n"
				       "spec: { mtls: { mode: STRICT } }\n---\n"
				       "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: "
				       "payments-callers, namespace: shop }\n"
				       "spec:\n  selector: { matchLabels: { app: payments } }\n  action: ALLOW\n  "
				       "rules:\n"
				       "  - from: [ { source: { principals: [ \"cluster.local/ns/shop/sa/frontend\" ] "
				       "} } ]\n"
				       "    to: [ { operation: { ports: [ \"7000\" ] } } ]\n---\n"
				       "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: "
				       "wrong, namespace: shop }\n"
				       "spec: { action: REFUSE }\n";

static const char http_config[] = WORKLOAD("web-1", "web", "node-a", "10.50.1.40") WORKLOAD(
	"web-2", "web", "node-b",
	"10.50.2.40") "apiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: shop }\n"
		      "spec:\n  clusterIPs: [10.60.0.50]\n  selector: { app: web }\n"
		      "  ports:\n  - { name: http, port: 80, targetPort: 8080 }\n---\n"
		      "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: { name: wide, namespace: "
		      "shop }\n"
		      "spec:\n  hosts: [ \"*.example.com\" ]\n  location: MESH_EXTERNAL\n"
		      "  ports:\n  - { name: http, number: 81, protocol: HTTP }\n  - { name: tls, number: 444, "
		      "protocol: "
		      "TLS }\n  - { name: tcp, number: 9000, protocol: TCP }\n---\n"
		      "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: { name: strict, namespace: shop }\n"
		      "spec:\n  workloadSelector: { labels: { app: payments } }\n"
		      "  outboundTrafficPolicy: { mode: REGISTRY_ONLY }\n---\n"
		      "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: web, namespace: "
		      "shop }\n"
		      "spec:\n  host: web\n  subsets:\n  - { name: v1, labels: { version: v1 } }\n"
		      "  - { name: v2, labels: { version: v2 } }\n---\n"
		      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: web, namespace: "
		      "shop }\n"
		      "spec:\n  hosts: [ web ]\n  http:\n"
		      "  - name: canary\n    match: [ { headers: { x-canary: { exact: \"true\" } } } ]\n"
		      "    rewrite: { uri: /admin }\n"
		      "    timeout: 2s\n    retries: { attempts: 3, perTryTimeout: 500ms, retryOn: 5xx }\n"
		      "    route: [ { destination: { host: web, subset: v1 } } ]\n"
		      "  - name: old\n    match: [ { uri: { prefix: /old } } ]\n    redirect: { uri: /new }\n"
		      "  - name: gone\n    match: [ { uri: { exact: /gone } } ]\n    route: [ { destination: { host: "
		      "web, subset: v2 } } ]\n"
		      "  - name: split\n    route:\n    - { destination: { host: web, subset: v1 }, weight: 90 }\n"
		      "    - { destination: { host: web }, weight: 10 }\n---\n"
		      "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: web-admin, "
		      "namespace: shop }\n"
		      "spec:\n  selector: { matchLabels: { app: web } }\n  action: DENY\n"
		      "  rules: [ { to: [ { operation: { paths: [ \"/admin*\" ] } } ] } ]\n---\n"
		      "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: web-callers, "
		      "namespace: shop }\n"
		      "spec:\n  selector: { matchLabels: { app: web } }\n  action: ALLOW\n"
		      "  rules:\n  - { to: [ { operation: { methods: [ GET ] } } ] }\n"
		      "  - { from: [ { source: { requestPrincipals: [ \"*\" ] } } ], to: [ { operation: { methods: [ "
		      "POST ] } } ] }\n";

static const struct plan *on_plan(void *arg)
{
	return ((struct fake *)arg)->plan;
}

static const struct store *on_store(void *arg)
{
	return ((struct fake *)arg)->store;
}

static void on_status(struct control_status *out, void *arg)
{
	const struct fake *f = arg;

	out->node = "node-a";
	out->instance = "default";
	out->version = "v1";
	out->not_ready = f->not_ready;
	out->config_dir = "/etc/weft";
	out->config_settled = true;
	out->rolled_back_to = f->rolled_back;
	out->helper.pid = 42;
	out->helper.ready = true;
	out->drops[DROP_POLICY_DENY] = 3;
}

static void on_pod(const struct workload *w, struct control_pod *out, void *arg)
{
	(void)arg;
	bool broken = str_eq(w->name, "catalog-1");
	*out = (struct control_pod){ .enrolled = !broken, .ready = !broken, .error = broken ? "netns is gone" : NULL };
}

static void on_metrics(bool openmetrics, struct sb *out, void *arg)
{
	(void)arg;
	sb_add(out, openmetrics ? "open\n# EOF\n" : "old\n# EOF\n");
}

/* As the kernel does: the VIP's service, its first slot. */
static int on_explain_outbound(const struct workload *source, const struct addr_port *destination, uint8_t proto,
			       struct explain_outbound *out, struct err *err, void *arg)
{
	const struct fake *f = arg;
	const struct service *s = plan_service_by_vip(f->plan, &destination->addr, destination->port, proto);
	const struct service_port *port = s ? service_port_find(s, destination->port, proto) : NULL;
	(void)source, (void)err;

	*out = (struct explain_outbound){ .path = PATH_DIRECT, .chosen = *destination };
	if (f->outbound_reason != DROP_NONE) {
		out->path = PATH_DENY;
		out->reason = f->outbound_reason;
	} else if (port && port->l7 != L7_NONE) {
		out->path = PATH_HELPER_L7;
		out->chosen = (struct addr_port){ 0 };
	} else if (port && port->lb == LB_PASSTHROUGH) {
		out->chosen = *destination;
	} else if (port && !port->slot_count) {
		out->path = PATH_DENY;
		out->reason = DROP_NO_ENDPOINT;
	} else if (port) {
		const struct endpoint *e = &port->endpoints[port->slots[0]];
		out->chosen = (struct addr_port){ e->addr, e->port };
	}
	return 0;
}

static int on_explain_inbound(const struct workload *destination, uint32_t source_identity, const struct addr *source,
			      uint16_t port, uint8_t proto, struct explain_inbound *out, struct err *err, void *arg)
{
	const struct fake *f = arg;
	struct policy_input in = {
		.peer = plan_identity_by_id(f->plan, source_identity), .source = *source, .port = port, .proto = proto
	};
	struct policy_verdict v;
	(void)err;

	policy_eval(destination->policy, &in, &v);
	*out = (struct explain_inbound){ .reason = v.reason, .to_helper = policy_needs_http(destination->policy) };
	return 0;
}

static const struct flow_entry *on_flow_next(uint64_t after, void *arg)
{
	struct fake *f = arg;
	return after < f->flow_count ? &f->flows[after] : NULL;
}

static uint64_t on_flow_newest(void *arg)
{
	return ((struct fake *)arg)->flow_count;
}

static void on_certs(void (*on_cert)(const struct control_cert *cert, void *ctx), void *ctx, void *arg)
{
	struct control_cert cert = { "00ff", "spiffe://cluster.local/ns/shop/sa/frontend", 100, 200, false };
	(void)arg;
	on_cert(&cert, ctx);
}

static void on_roots(void (*on_root)(const struct control_root *root, void *ctx), void *ctx, void *arg)
{
	struct control_root root = { "CN=Weft root", "abcd", 900, 0, true, false };
	(void)arg;
	on_root(&root, ctx);
}

static int on_rotate(const char *identity, struct err *err, void *arg)
{
	struct fake *f = arg;
	if (str_eq(identity, "spiffe://nobody"))
		return err_set(err, -ENOENT, "no such identity");
	str_copy(f->rotated, sizeof(f->rotated), identity ? identity : "all");
	return 0;
}

static int on_revoke(const char *serial, struct err *err, void *arg)
{
	struct fake *f = arg;
	(void)err;
	str_copy(f->revoked, sizeof(f->revoked), serial);
	return 0;
}

static int on_dump(const char *what, void (*fn)(const char *json, void *ctx), void *ctx, void *arg)
{
	struct fake *f = arg;
	if (str_eq(what, "pools"))
		return -EAGAIN;
	if (f->dump_later) {
		f->dump_fn = fn;
		f->dump_ctx = ctx;
	} else {
		fn(f->clusters && str_eq(what, "clusters") ? f->clusters : "[{\"identity\":\"x\"}]", ctx);
	}
	return 0;
}

static int on_rollback(uint64_t to, struct err *err, void *arg)
{
	if (to > 5)
		return err_set(err, -ENOENT, "revision %llu is not kept", (unsigned long long)to);
	((struct fake *)arg)->rolled_back = to;
	return 0;
}

static int on_diff(uint64_t from, uint64_t to, struct sb *out, struct err *err, void *arg)
{
	(void)err, (void)arg;
	sb_addf(out, "--- %llu\n+++ %llu\n", (unsigned long long)from, (unsigned long long)to);
	return 0;
}

static void on_level(void *arg)
{
	((struct fake *)arg)->level_changes++;
}

static struct policy *on_policy_of(const struct workload *w, void *arg)
{
	struct policy *policy = NULL;
	return compiler_policy(((struct fake *)arg)->compiler, w, &policy) < 0 ? NULL : policy;
}

static int on_analyze(void (*on_finding)(const struct finding *f, void *ctx), void *ctx, void *arg)
{
	struct findings findings = { 0 };
	int rc = compiler_findings(((struct fake *)arg)->compiler, &findings);

	for (size_t i = 0; rc == 0 && i < findings.n; i++)
		on_finding(&findings.v[i], ctx);
	findings_done(&findings);
	return rc;
}

static int on_target(const struct workload *caller, const struct addr_port *original, const char *host,
		     struct l7_target **out, void *arg)
{
	return compiler_target(((struct fake *)arg)->compiler, caller, original, host, out);
}

static int on_cluster(const char *name, struct http_cluster **out, void *arg)
{
	return compiler_cluster(((struct fake *)arg)->compiler, name, out);
}

static void on_tap_timer(struct loop_timer *timer, void *arg)
{
	struct fake *f = arg;

	if (f->tap_lines[0]) {
		for (size_t i = 0; i < ARRAY_SIZE(f->tap_lines) && f->tap_lines[i]; i++)
			f->tap_fn(f->tap_lines[i], f->tap_ctx);
		f->tap_lines[0] = NULL;
		return;
	}
	loop_timer_free(timer);
	control_free(TAKE(f->control)); /* which ends the reader */
}

static int on_tap(const char *filter, uint32_t per_second, void (*fn)(const char *json, void *ctx), void *ctx,
		  uint32_t *id, void *arg)
{
	struct fake *f = arg;
	struct loop_timer *timer;

	if (f->tap_error)
		return f->tap_error;
	str_copy(f->tap_filter, sizeof(f->tap_filter), filter);
	f->tap_rate = per_second;
	f->tap_fn = fn;
	f->tap_ctx = ctx;
	*id = 7;
	if (loop_timer_new(f->loop, on_tap_timer, f, &timer) == 0)
		loop_timer_start(timer, 20, 20);
	return 0;
}

static void on_tap_stop(uint32_t id, void *arg)
{
	if (id == 7)
		((struct fake *)arg)->tap_filter[0] = 0;
}

static const struct resource *source_next(const void *arg, enum resource_kind kind, const struct resource *after)
{
	return store_next(arg, kind, after);
}

static void must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "fake: %s\n", what);
	abort();
}

static void compile(struct fake *f)
{
	struct compile_input in = { .revision = 1, .node = "node-a" };
	struct err err = ERR_INIT;
	bool changed;

	must(store_new(&f->store) == 0 && compiler_new(&f->compiler) == 0, "store");
	const struct compile_source source = { source_next, f->store };
	must(store_put_file(f->store, "shop.yaml", config, sizeof(config) - 1) == 0, "put");
	must(store_commit(f->store, &changed, &err) == 0, err.text);
	must(compiler_run(f->compiler, &source, &in, &f->plan, &err) == 0, err.text);
}

void fake_http(struct fake *f)
{
	struct compile_input in = { .revision = 2, .node = "node-a" };
	const struct compile_source source = { source_next, f->store };
	struct err err = ERR_INIT;
	bool changed;

	must(store_put_file(f->store, "web.yaml", http_config, sizeof(http_config) - 1) == 0, "put");
	must(store_commit(f->store, &changed, &err) == 0, err.text);
	plan_unref(TAKE(f->plan));
	must(compiler_run(f->compiler, &source, &in, &f->plan, &err) == 0, err.text);
	f->backend.target = on_target;
	f->backend.cluster = on_cluster;
	f->backend.tap = on_tap;
	f->backend.tap_stop = on_tap_stop;
	fake_knows_policies(f);
}

void fake_knows_policies(struct fake *f)
{
	f->backend.policy_of = on_policy_of;
	fake_serve(f, NULL);
}

void fake_serve(struct fake *f, const char *group)
{
	struct err err = ERR_INIT;
	const struct control_options options = {
		.loop = f->loop, .socket_path = f->socket, .group = group, .metrics_listen = "127.0.0.1:0"
	};

	control_free(TAKE(f->control));
	must(control_new(&options, &f->backend, &f->control, &err) == 0, err.text);
}

struct fake *fake_new(void)
{
	struct fake *f = calloc(1, sizeof(*f));
	struct err err = ERR_INIT;

	must(f && loop_new(&f->loop, &err) == 0, err.text);
	compile(f);
	str_copy(f->dir, sizeof(f->dir), "/tmp/weft-test-control-XXXXXX");
	must(mkdtemp(f->dir) != NULL, "mkdtemp");
	snprintf(f->socket, sizeof(f->socket), "%s/weft.sock", f->dir);
	f->backend = (struct control_backend){
		.arg = f,
		.plan = on_plan,
		.store = on_store,
		.status = on_status,
		.pod = on_pod,
		.metrics = on_metrics,
		.explain_outbound = on_explain_outbound,
		.explain_inbound = on_explain_inbound,
		.flow_next = on_flow_next,
		.flow_newest = on_flow_newest,
		.certs = on_certs,
		.roots = on_roots,
		.cert_rotate = on_rotate,
		.cert_revoke = on_revoke,
		.dump = on_dump,
		.revision_diff = on_diff,
		.revision_rollback = on_rollback,
		.analyze = on_analyze,
		.log_level_changed = on_level,
	};
	fake_serve(f, NULL);
	return f;
}

void fake_free(struct fake *f)
{
	control_free(f->control);
	loop_free(f->loop);
	plan_unref(f->plan);
	compiler_free(f->compiler);
	store_free(f->store);
	rmdir(f->dir);
	free(f);
}

struct asking {
	struct fake *fake;
	int fd; /* connected; -1: connect to the unix socket as uid, gid */
	uid_t uid;
	gid_t gid;
	struct sb request, answer;
};

static int connect_unix(const struct fake *f)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	str_copy(sun.sun_path, sizeof(sun.sun_path), f->socket);
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* The system calls themselves change the calling thread alone, as libc's wrappers do not. */
static int connect_as(const struct asking *a)
{
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, a->gid, a->gid, a->gid) < 0 ||
	    syscall(SYS_setresuid, a->uid, a->uid, a->uid) < 0)
		return -1;
	return connect_unix(a->fake);
}

/* The client's side, in a thread of its own while the loop serves. */
static void *ask_thread(void *arg)
{
	struct asking *a = arg;
	char buf[4096];
	ssize_t n;

	if (a->fd < 0)
		a->fd = connect_as(a);
	if (a->fd >= 0 && send(a->fd, a->request.p, a->request.len, MSG_NOSIGNAL) == (ssize_t)a->request.len)
		while ((n = recv(a->fd, buf, sizeof(buf), 0)) > 0)
			sb_add_bytes(&a->answer, buf, (size_t)n);
	loop_stop_async(a->fake->loop);
	return NULL;
}

static void unchunk(char *body)
{
	char *out = body;

	for (char *p = body, *end; *p;) {
		size_t len = strtoul(p, &end, 16);
		if (!len || end[0] != '\r')
			break;
		memmove(out, end + 2, len);
		out += len;
		p = end + 2 + len + 2;
	}
	*out = 0;
}

static struct answer answer_parse(const char *text)
{
	struct answer out = { 0 };
	const char *end = text ? strstr(text, "\r\n\r\n") : NULL;

	if (!end || sscanf(text, "HTTP/1.1 %ld", &out.status) != 1)
		return out;
	const char *type = strcasestr(text, "\r\nContent-Type: ");
	if (type && type < end)
		sscanf(type + 16, "%79[^\r]", out.type);
	const char *chunked = strcasestr(text, "\r\nTransfer-Encoding: chunked");
	out.body = strdup(end + 4);
	if (chunked && chunked < end)
		unchunk(out.body);
	return out;
}

static struct answer ask(struct asking a, const char *method, const char *path, const char *header, const char *body)
{
	pthread_t thread;

	sb_addf(&a.request, "%s %s HTTP/1.1\r\nHost: weft\r\nConnection: close\r\n%s", method, path,
		header ? header : "");
	if (body)
		sb_addf(&a.request, "Content-Length: %zu\r\n", strlen(body));
	sb_addf(&a.request, "\r\n%s", body ? body : "");
	must(pthread_create(&thread, NULL, ask_thread, &a) == 0, "thread");
	loop_run(a.fake->loop);
	pthread_join(thread, NULL);
	if (a.fd >= 0)
		close(a.fd);
	struct answer out = answer_parse(a.answer.p);
	sb_done(&a.request);
	sb_done(&a.answer);
	return out;
}

struct answer fake_ask(struct fake *f, const char *method, const char *path, const char *body)
{
	int fd = connect_unix(f);

	must(fd >= 0, "connect");
	return ask((struct asking){ .fake = f, .fd = fd }, method, path, NULL, body);
}

struct answer fake_ask_as(struct fake *f, uid_t uid, gid_t gid, const char *method, const char *path, const char *body)
{
	return ask((struct asking){ .fake = f, .fd = -1, .uid = uid, .gid = gid }, method, path, NULL, body);
}

struct answer fake_ask_tcp(struct fake *f, const char *path, const char *header)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons(control_metrics_port(f->control)),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(connect(fd, (struct sockaddr *)&sin, sizeof(sin)) == 0, "connect");
	return ask((struct asking){ .fake = f, .fd = fd }, "GET", path, header, NULL);
}

void answer_done(struct answer *a)
{
	free(a->body);
}

void fake_flow_add(struct fake *f, enum flow_kind kind, enum flow_path path, enum drop_reason reason)
{
	const struct workload *s = plan_workload_by_uid(f->plan, "shop/frontend-1");
	const struct workload *d = plan_workload_by_uid(f->plan, "shop/payments-1");
	struct flow_entry *e = &f->flows[f->flow_count];

	e->sequence = ++f->flow_count;
	e->flow = (struct flow){ .time_ns = 1800000000123456789u,
				 .kind = kind,
				 .path = path,
				 .reason = reason,
				 .proto = IPPROTO_TCP,
				 .source_side = true,
				 .source_identity = s->identity->id,
				 .destination_identity = d->identity->id,
				 .source = { s->addrs[0], 40000 },
				 .destination = { d->addrs[0], 7000 },
				 .policy_id = d->policy->id,
				 .rule = UINT32_MAX };
}
