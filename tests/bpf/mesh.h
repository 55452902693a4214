/* SPDX-License-Identifier: Apache-2.0 */
/* A small mesh for tests of the kernel data path: pods in network namespaces on one bridge, an instance of the kernel
 * sink of its own, and a plan that is built by hand. Everything is named after the process and removed by mesh_down,
 * also at exit and on signals. */
#pragma once

#include "agent/kernel/kernel.h"
#include "agent/model/plan.h"
#include "agent/model/workload.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

enum { MESH_PODS = 4, MESH_FLOWS = 512 };

struct mesh_pod {
	char name[32], netns[32];
	char v4[32], v6[48];
	int fds[POD_DNS_TCP + 1];
	const struct kernel_pod *pod;
	struct policy *policy;
	const struct inbound_port *l7_ports; /* static */
	size_t l7_port_count;
	bool l7_other_ports;
};

/* A workload that is a control group of the host; in the plan when cgroup is set. */
struct mesh_extra {
	const char *cgroup, *v4;
	uint16_t port;
	struct policy *policy;
	const struct kernel_pod *pod;
	int fds[POD_DNS_TCP + 1];
};

struct mesh {
	struct mesh_pod pods[MESH_PODS]; /* "a", "b", "c", "d" */
	struct kernel *kernel;
	struct kernel_options options;
	char instance[32];
	int added, removed, failed, changed;
	char failure[512];
	struct flow flows[MESH_FLOWS];
	size_t flow_count;
	/* what the next plan has */
	struct service *services[16];
	size_t service_count;
	bool remote_b; /* b is on another node and speaks HBONE */
	bool plain_b;  /* b is not in the mesh */
	enum same_node_mode same_node;
	enum outbound_policy outbound;
	uint64_t revision;
	bool no_listeners;
	struct mesh_extra extra;
};

/* The mesh of tests that have one, and their fixture. */
extern struct mesh mesh_shared;
int mesh_setup(void **state);
int mesh_teardown(void **state);
#define MESH_TEST(f) cmocka_unit_test_setup_teardown(f, mesh_setup, mesh_teardown)

void mesh_open(struct mesh *m); /* kernel_open, as a restarted agent */
struct plan *mesh_plan(struct mesh *m);
void mesh_up(struct mesh *m); /* namespaces, kernel_open; fails the test when it can't */
void mesh_down(struct mesh *m);
int mesh_apply(struct mesh *m, struct err *err); /* builds a plan of pods and services, applies it, opens listeners */
void mesh_must_apply(struct mesh *m);		 /* fails the test when something of it can't be brought about */
void mesh_poll(struct mesh *m);			 /* runs the loop until flow events have come in */
bool mesh_has_root(void);

/* Policies of one rule, or none; each call gives another id. */
struct policy *mesh_policy_strict(void);
struct policy *mesh_policy_of(enum policy_action action, const char *principal); /* the caller's, as of "a" */

/* A service with one port; endpoints "10.x.y.z:port" or "a:8080" for a pod's IPv4, "a6:8080" for its IPv6 address. */
struct service *mesh_service(struct mesh *m, const char *name, const char *vips, uint16_t port, uint8_t proto,
			     const char *endpoints, enum lb_algorithm lb);

/* In the namespace of a pod (NULL: the host's). */
void mesh_enter(const struct mesh_pod *pod);
int mesh_listen(const struct mesh_pod *pod, int type, const char *addr_port); /* listening or bound fd */
int mesh_socket(const struct mesh_pod *pod, int family, int type);
/* Connects within 2 s: the fd, or -errno. */
int mesh_connect(const struct mesh_pod *pod, int family, const char *addr_port);
int mesh_connect_fd(int fd, int family, const char *addr_port);
/* As the helper does for a caller that it has judged; the fd. */
int mesh_connect_local(struct mesh *m, const struct mesh_pod *pod, const char *peer, const char *to);
/* a's call of vip comes to its helper, which is told what was asked and chosen (endpoint NULL: nothing was); a sees vip,
 * and source as its own address. */
void mesh_assert_captured(struct mesh *m, int family, const char *vip, const char *endpoint, const char *source);
int mesh_accept(int listener, struct addr_port *peer); /* within 2 s */
/* 0 when nothing arrives within 100 ms. */
bool mesh_is_pending(int listener);
void mesh_peer(int fd, struct addr_port *out);
void mesh_local(int fd, struct addr_port *out);
#define assert_addr(actual, text) mesh_assert_addr(&(actual), text, __FILE__, __LINE__)
void mesh_assert_addr(const struct addr_port *actual, const char *expected, const char *file, int line);
uint64_t mesh_drops(struct mesh *m, enum drop_reason reason);
/* Writes text with $a4, $b6 and the like replaced by pods' addresses; static buffers, eight in turn. */
const char *mesh_text(const struct mesh *m, const char *text);
