/* SPDX-License-Identifier: Apache-2.0 */
/* Tables of core Service and of WorkloadEntry, and what holds between their fields. */
#include "agent/config/kinds.h"

#include <string.h>

#include "agent/base/str.h"
#include "agent/config/decode.h"
#include "agent/config/node.h"
#include "agent/config/schema.h"

static const struct words service_types =
	WORDS({ "ClusterIP", SERVICE_TYPE_CLUSTER_IP }, { "NodePort", SERVICE_TYPE_NODE_PORT },
	      { "LoadBalancer", SERVICE_TYPE_LOAD_BALANCER }, { "ExternalName", SERVICE_TYPE_EXTERNAL_NAME });
static const struct words service_protos =
	WORDS({ "TCP", SERVICE_PROTO_TCP }, { "UDP", SERVICE_PROTO_UDP }, { "SCTP", SERVICE_PROTO_SCTP });
static const struct words affinities =
	WORDS({ "None", SESSION_AFFINITY_NONE }, { "ClientIP", SESSION_AFFINITY_CLIENT_IP });
static const struct words family_policies =
	WORDS({ "SingleStack", IP_FAMILY_SINGLE_STACK }, { "PreferDualStack", IP_FAMILY_PREFER_DUAL_STACK },
	      { "RequireDualStack", IP_FAMILY_REQUIRE_DUAL_STACK });
static const struct words families = WORDS({ "IPv4", IP_FAMILY_V4 }, { "IPv6", IP_FAMILY_V6 });
static const struct words scopes = WORDS({ "Cluster", TRAFFIC_CLUSTER }, { "Local", TRAFFIC_LOCAL });

static const struct field client_ip_fields[] = {
	FIELD(client_ip_config, timeout_seconds, "timeoutSeconds", U32, .min = 1, .max = 86400, .def = "10800",
	      .doc = "How long a client stays with an endpoint."),
};
static const struct schema schema_client_ip = SCHEMA(client_ip_config, client_ip_fields, .name = "ClientIPConfig");

static const struct field affinity_fields[] = {
	FIELD(session_affinity_config, client_ip, "clientIP", OBJECT, .of = &schema_client_ip,
	      .doc = "Affinity by client address."),
};
static const struct schema schema_affinity =
	SCHEMA(session_affinity_config, affinity_fields, .name = "SessionAffinityConfig");

static const struct field service_port_fields[] = {
	FIELD(service_spec_port, name, "name", STRING, .check = text_check_dns_label,
	      .doc = "Unique in the service; its first part may name the protocol (http-web, grpc, tcp-x)."),
	FIELD(service_spec_port, port, "port", U16, .flags = FIELD_REQUIRED, .min = 1, .max = 65535,
	      .doc = "The port at the service's addresses."),
	FIELD(service_spec_port, protocol, "protocol", ENUM, .words = &service_protos, .def = "TCP",
	      .doc = "The transport."),
	FIELD(service_spec_port, target_port, "targetPort", PORT_NAME,
	      .doc = "The endpoints' port, a number or a name; default: port."),
	FIELD(service_spec_port, node_port, "nodePort", U16, .min = 0, .max = 65535, .doc = "The port at every node."),
	FIELD(service_spec_port, app_protocol, "appProtocol", STRING, .check = text_check_not_empty,
	      .doc = "The application's protocol (http, grpc, kubernetes.io/h2c); before the port's name."),
};

static void service_port_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	struct service_spec_port *port = object;
	(void)d, (void)path, (void)node;
	if (!port->target_port.number && !port->target_port.name)
		port->target_port.number = port->port;
}

static const struct schema schema_service_port =
	SCHEMA(service_spec_port, service_port_fields, .name = "ServicePort", .validate = service_port_validate);

static const struct field service_fields[] = {
	FIELD(service_spec, type, "type", ENUM, .words = &service_types, .def = "ClusterIP",
	      .doc = "How the service is reached."),
	FIELD(service_spec, cluster_ip_text, "clusterIP", STRING, .doc = "The first of clusterIPs, or None: headless."),
	FIELD(service_spec, cluster_ips_text, "clusterIPs", STRING_LIST,
	      .doc = "One address for each IP family, or None."),
	FIELD(service_spec, external_ips, "externalIPs", ADDR_LIST, .doc = "Further addresses that nodes accept."),
	FIELD(service_spec, external_name, "externalName", STRING, .check = text_check_host,
	      .doc = "The DNS name that an ExternalName stands for."),
	FIELD(service_spec, selector, "selector", STRING_MAP, .key_check = text_check_label_key,
	      .check = text_check_label_value, .doc = "Labels of the endpoints."),
	FIELD(service_spec, ports, "ports", LIST, .of = &schema_service_port, .doc = "Ports of the service."),
	FIELD(service_spec, session_affinity, "sessionAffinity", ENUM, .words = &affinities, .def = "None",
	      .doc = "Whether a client stays with an endpoint."),
	FIELD(service_spec, session_affinity_config, "sessionAffinityConfig", OBJECT, .of = &schema_affinity,
	      .doc = "For how long."),
	FIELD(service_spec, ip_family_policy, "ipFamilyPolicy", ENUM, .words = &family_policies, .def = "SingleStack",
	      .doc = "How many IP families."),
	FIELD(service_spec, ip_families, "ipFamilies", ENUM_LIST, .words = &families, .doc = "Which IP families."),
	FIELD(service_spec, internal_traffic_policy, "internalTrafficPolicy", ENUM, .words = &scopes, .def = "Cluster",
	      .doc = "Local: only endpoints of the caller's node."),
	FIELD(service_spec, external_traffic_policy, "externalTrafficPolicy", ENUM, .words = &scopes, .def = "Cluster",
	      .doc = "Local: only endpoints of the node that was reached; keeps the client's address."),
	FIELD(service_spec, traffic_distribution, "trafficDistribution", STRING,
	      .doc = "PreferClose, PreferSameZone or PreferSameNode."),
	FIELD(service_spec, load_balancer_class, "loadBalancerClass", STRING, .doc = "Who provides the load balancer."),
	FIELD(service_spec, load_balancer_ip, "loadBalancerIP", STRING, .doc = "Wish for an address."),
	FIELD(service_spec, load_balancer_source_ranges, "loadBalancerSourceRanges", STRING_LIST,
	      .doc = "Clients that are let in."),
	FIELD(service_spec, publish_not_ready_addresses, "publishNotReadyAddresses", BOOL,
	      .doc = "Endpoints that are not ready count too."),
	FIELD(service_spec, allocate_load_balancer_node_ports, "allocateLoadBalancerNodePorts", OPT_BOOL,
	      .doc = "Node ports for a load balancer."),
	FIELD(service_spec, health_check_node_port, "healthCheckNodePort", OPT_U32, .min = 0, .max = 65535,
	      .doc = "Port of the node's health check."),
};

static void service_add_ip(struct decode *d, const struct path *path, const struct node *node, struct service_spec *s,
			   const char *text)
{
	struct addr *ip = &s->cluster_ips.v[s->cluster_ips.n];
	if (!strcmp(text, "None")) {
		s->headless = true;
	} else if (addr_parse(text, ip) < 0) {
		decode_error(d, path, NULL, node, "\"%.60s\" is neither an IP address nor None", text);
	} else if (s->cluster_ips.n && addr_is_v4(ip) == addr_is_v4(&s->cluster_ips.v[0])) {
		decode_error(d, path, NULL, node, "has two addresses of one family; one IPv4 and one IPv6 are allowed");
	} else {
		s->cluster_ips.n++;
	}
}

/* clusterIP and clusterIPs say the same thing twice; here they become one list. */
static void service_cluster_ips(struct decode *d, const struct path *path, const struct node *node,
				struct service_spec *s)
{
	const struct path single = { .parent = path, .name = "clusterIP" },
			  list = { .parent = path, .name = "clusterIPs" };
	const struct node *single_node = node_get(node, "clusterIP"), *list_node = node_get(node, "clusterIPs");
	size_t n = s->cluster_ips_text.n;
	if (n > 2) {
		decode_error(d, &list, NULL, list_node, "has %zu addresses; one of each IP family is allowed", n);
		return;
	}
	s->cluster_ips.v = decode_alloc(d, 2 * sizeof(struct addr));
	if (!s->cluster_ips.v)
		return;
	for (size_t i = 0; i < n; i++)
		service_add_ip(d, &list, list_node, s, s->cluster_ips_text.v[i]);
	if (!s->cluster_ip_text || !*s->cluster_ip_text)
		return;
	if (n && strcmp(s->cluster_ip_text, s->cluster_ips_text.v[0]))
		decode_error(d, &single, NULL, single_node, "\"%.60s\" is not the first of clusterIPs (\"%.60s\")",
			     s->cluster_ip_text, s->cluster_ips_text.v[0]);
	else if (!n)
		service_add_ip(d, &single, single_node, s, s->cluster_ip_text);
	if (s->headless && s->cluster_ips.n)
		decode_error(d, &list, NULL, list_node, "has None beside an address");
}

static void service_ports(struct decode *d, const struct path *path, const struct node *node, struct service_spec *s)
{
	const struct path ports = { .parent = path, .name = "ports" };
	for (size_t i = 0; i < s->ports.n; i++) {
		const struct service_spec_port *port = &s->ports.v[i];
		const struct path at = { .parent = &ports, .index = i };
		if (!port->name && s->ports.n > 1)
			decode_error(d, &at, "name", node_get(node, "ports"),
				     "is required when there is more than one port");
		for (size_t j = 0; j < i; j++) {
			const struct service_spec_port *other = &s->ports.v[j];
			if (port->name && str_eq(port->name, other->name))
				decode_error(d, &at, "name", node_get(node, "ports"), "\"%s\" is used twice",
					     port->name);
			if (port->port == other->port && port->protocol == other->protocol)
				decode_error(d, &at, "port", node_get(node, "ports"), "%u is used twice", port->port);
		}
	}
}

static void service_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	struct service_spec *s = object;
	if (s->ports.n > 1000) {
		decode_error(d, path, "ports", node, "has %zu entries; 1000 are allowed", s->ports.n);
		return;
	}
	service_cluster_ips(d, path, node, s);
	service_ports(d, path, node, s);
	if (s->type == SERVICE_TYPE_EXTERNAL_NAME && !s->external_name)
		decode_error(d, path, "externalName", node, "is required when the type is ExternalName");
	if (s->type != SERVICE_TYPE_EXTERNAL_NAME && !s->ports.n && !s->headless)
		decode_error(d, path, "ports", node, "is required");
	if (s->session_affinity_config && s->session_affinity == SESSION_AFFINITY_NONE)
		decode_error(d, path, "sessionAffinityConfig", node, "needs sessionAffinity: ClientIP");
}

const struct schema schema_service =
	SCHEMA(service_spec, service_fields, .name = "Service", .validate = service_validate,
	       .doc = "A stable name and address for a set of endpoints.");

/* --- WorkloadEntry */

static const struct field named_port_value[] = {
	FIELD(named_port, port, NULL, U16, .min = 1, .max = 65535),
};
static const struct field named_port_key = FIELD(named_port, key, NULL, STRING, .check = text_check_dns_label);
static const struct schema schema_named_port =
	SCHEMA(named_port, named_port_value, .name = "port", .key = &named_port_key);

static const struct field workload_entry_fields[] = {
	FIELD(workload_entry_spec, address, "address", STRING, .doc = "IP address, DNS name or unix:///path."),
	FIELD(workload_entry_spec, ports, "ports", MAP, .of = &schema_named_port,
	      .doc = "Ports by the service port's name."),
	FIELD(workload_entry_spec, labels, "labels", STRING_MAP, .key_check = text_check_label_key,
	      .check = text_check_label_value, .doc = "Labels that selectors see."),
	FIELD(workload_entry_spec, network, "network", STRING,
	      .doc = "Workloads of one network reach each other directly."),
	FIELD(workload_entry_spec, locality, "locality", STRING, .doc = "region/zone/subzone."),
	FIELD(workload_entry_spec, weight, "weight", U32, .min = 0, .max = 1000000, .def = "1",
	      .doc = "Share of the traffic."),
	FIELD(workload_entry_spec, service_account, "serviceAccount", STRING, .check = text_check_name,
	      .doc = "Part of the identity; default: \"default\"."),
};

/* Where the workload lives is said by at most one annotation, and needs an address to be recognised by. */
static void workload_entry_place(struct decode *d, const struct path *path, const struct node *node,
				 const struct workload_entry_spec *w)
{
	static const char *const places[] = { "weft.dev/netns", "weft.dev/cgroup", "weft.dev/pid" };
	static const struct path metadata = { .name = "metadata" };
	static const struct path annotations = { .parent = &metadata, .name = "annotations" };
	const char *first = NULL;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if (!decode_has_annotation(d, places[i]))
			continue;
		if (first)
			decode_error(d, &annotations, places[i], NULL,
				     "a workload lives in one place; %s is there already", first);
		first = places[i];
	}
	if (first && !w->is_ip)
		decode_error(d, path, "address", node, "has to be an IP address when %s says where the workload lives",
			     first);
}

static void workload_entry_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	struct workload_entry_spec *w = object;
	const struct node *address = node_get(node, "address");
	if (!w->weight)
		w->weight = 1;
	if (!w->address || !*w->address) {
		if (!w->network)
			decode_error(d, path, "address", node, "is required");
		return;
	}
	w->is_ip = addr_parse(w->address, &w->ip) == 0;
	if (str_starts(w->address, "unix://")) {
		if (w->address[strlen("unix://")] != '/' || w->ports.n)
			decode_error(d, path, "address", address, "a unix socket needs an absolute path, and no ports");
	} else if (!w->is_ip && !text_is_dns_name(w->address)) {
		decode_error(d, path, "address", address,
			     "\"%.100s\" is neither an IP address nor a DNS name nor unix:///path", w->address);
	} else if (w->is_ip && addr_is_zero(&w->ip)) {
		decode_error(d, path, "address", address, "%s is not the address of a workload", w->address);
	}
	if (w->locality && (strspn(w->locality, "/") == strlen(w->locality) || str_starts(w->locality, "/")))
		decode_error(d, path, "locality", node_get(node, "locality"),
			     "\"%.100s\" is not region[/zone[/subzone]]", w->locality);
	if (path && !path->parent && path->name)
		workload_entry_place(d, path, node, w);
}

const struct schema schema_workload_entry =
	SCHEMA(workload_entry_spec, workload_entry_fields, .name = "WorkloadEntry", .validate = workload_entry_validate,
	       .doc = "A workload that Kubernetes does not know: an address with labels and an identity.");
