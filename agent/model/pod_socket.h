/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of sockets that the agent opens for the helper inside pods. Values go over the link and are in pinned tables. */
#pragma once

enum {
	MESH_HBONE_PORT = 15008,
	/* Where the mesh listens inside pods, unless all are taken: what applications don't bind, outside of Linux's
	 * ephemeral ports and of those that Istio reserves (15000 to 15090). A few for each agent and pod; on the host,
	 * for each workload that is a control group. */
	MESH_LISTEN_PORT = 15100,
	MESH_LISTEN_PORTS = 256
};

/* Sockets that the agent opens in a pod's network namespace, and what the kernel does for them. */
enum pod_socket {
	POD_LISTEN_OUTBOUND,  /* TCP, loopback: captured connections of the pod. accept(): the peer is the original
				 destination (VIP:port); getsockname(): the endpoint that the kernel chose */
	POD_LISTEN_HBONE,     /* TCP: what arrives for port 15008, at any address of the pod */
	POD_LISTEN_ATTESTED,  /* TCP: inbound that the helper must see, source attested by the kernel */
	POD_LISTEN_ANONYMOUS, /* TCP: the same, source not authenticated */
	POD_LISTEN_NODE,      /* TCP: the same, source attested as a process of the node itself: nobody's identity */
	POD_DNS_UDP,	    /* UDP, loopback: the pod's DNS queries. recvfrom(): the source is {resolver that was asked,
				 client's port}; sendto() the same address answers as that resolver */
	POD_DNS_TCP,	    /* TCP, loopback: accept(): the peer is the resolver that was asked */
	POD_CONNECT_REMOTE, /* TCP: never captured; for HBONE to other workloads, and DNS over TCP upstream */
	POD_CONNECT_LOCAL,  /* TCP: to the pod's own application. bind(true peer address and port) first: the kernel
				 shows that address to the application, and its SYN passes the pod's policy */
	POD_UDP_REMOTE,	    /* UDP: never captured; for DNS upstream */
	POD_SOCKET_COUNT
};
