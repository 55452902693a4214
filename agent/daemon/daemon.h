/* SPDX-License-Identifier: Apache-2.0 */
/* The agent of one node: wires sources, store, compiler, kernel, helper, CA and admin API together on one loop. */
#pragma once

#include <stdbool.h>

struct err;

struct daemon_options {
	const char *version;
	const char *config_dir;	    /* YAML, watched */
	const char *node;	    /* this node's name; which WorkloadEntries are local */
	const char *instance;	    /* separates pins and sockets of several agents on one kernel */
	const char *run_dir;	    /* admin socket, helper's pid file */
	const char *state_dir;	    /* revisions */
	const char *ca_dir;	    /* root and signing key; shared by the nodes of a mesh without Kubernetes */
	const char *metrics_listen; /* "127.0.0.1:15020"; "off": none */
	const char *helper_path;
	const char *helper_user;  /* the helper's uid and gid */
	const char *socket_group; /* may read the admin socket; NULL: root alone */
	const char *cgroup;	  /* cgroup2 root; NULL: found */
};

/* Runs until SIGTERM or SIGINT. The data path and the helper are left in place for the next agent. */
int daemon_run(const struct daemon_options *options, struct err *err);
/* Detaches and removes everything of the instance, and ends its helpers. */
int daemon_cleanup(const struct daemon_options *options, struct err *err);
/* Prints what this machine has and lacks. 0 or -ENOTSUP. */
int daemon_precheck(struct err *err);
