/* SPDX-License-Identifier: Apache-2.0 */
/* Table of ServiceEntry, and what holds between its fields. */
#include "agent/config/kinds.h"

#include <string.h>
#include <strings.h>

#include "agent/base/str.h"
#include "agent/config/decode.h"
#include "agent/config/node.h"
#include "agent/config/schema.h"

static const struct field workload_selector_fields[] = {
	FIELD(workload_selector, labels, "labels", STRING_MAP, .key_check = text_check_label_key,
	      .check = text_check_label_value, .doc = "All of them must be on the workload."),
};
const struct schema schema_workload_selector =
	SCHEMA(workload_selector, workload_selector_fields, .name = "WorkloadSelector");

static const char *check_protocol(const char *text)
{
	static const char *const known[] = { "TCP", "UDP",   "HTTP",  "HTTPS", "HTTP2",	     "GRPC",  "GRPC-WEB",
					     "TLS", "MONGO", "MYSQL", "REDIS", "HTTP_PROXY", "HBONE", "THRIFT" };
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcasecmp(text, known[i]))
			return NULL;
	return "is not one of TCP, UDP, HTTP, HTTPS, HTTP2, GRPC, GRPC-WEB, TLS, MONGO, MYSQL, REDIS";
}

static const struct field port_fields[] = {
	FIELD(service_entry_port, number, "number", U16, .flags = FIELD_REQUIRED, .min = 1, .max = 65535,
	      .doc = "The port that callers use."),
	FIELD(service_entry_port, protocol, "protocol", STRING, .check = check_protocol, .def = "TCP",
	      .doc = "What is spoken there."),
	FIELD(service_entry_port, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Unique in the entry."),
	FIELD(service_entry_port, target_port, "targetPort", U16, .min = 1, .max = 65535,
	      .doc = "The endpoints' port; default: number."),
};

static void port_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	struct service_entry_port *port = object;
	(void)path, (void)node;
	if (!port->target_port)
		port->target_port = port->number;
	char *upper = decode_alloc(d, strlen(port->protocol) + 1);
	if (!upper)
		return;
	for (size_t i = 0; port->protocol[i]; i++)
		upper[i] = (char)(port->protocol[i] >= 'a' && port->protocol[i] <= 'z' ? port->protocol[i] - 32 :
											 port->protocol[i]);
	port->protocol = upper;
}

static const struct schema schema_port =
	SCHEMA(service_entry_port, port_fields, .name = "ServicePort", .validate = port_validate);

static const struct words locations =
	WORDS({ "MESH_EXTERNAL", LOCATION_MESH_EXTERNAL }, { "MESH_INTERNAL", LOCATION_MESH_INTERNAL });
static const struct words resolutions =
	WORDS({ "NONE", RESOLUTION_NONE }, { "STATIC", RESOLUTION_STATIC }, { "DNS", RESOLUTION_DNS },
	      { "DNS_ROUND_ROBIN", RESOLUTION_DNS_ROUND_ROBIN }, { "DYNAMIC_DNS", RESOLUTION_DYNAMIC_DNS });

static const struct field service_entry_fields[] = {
	FIELD(service_entry_spec, hosts, "hosts", STRING_LIST, .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY,
	      .check = text_check_fqdn_host, .doc = "DNS names, also with a \"*.\" in front."),
	FIELD(service_entry_spec, addresses, "addresses", CIDR_LIST,
	      .doc = "Virtual addresses or ranges; none: the mesh allots one."),
	FIELD(service_entry_spec, ports, "ports", LIST, .of = &schema_port, .doc = "Ports of the service."),
	FIELD(service_entry_spec, location, "location", ENUM, .words = &locations, .def = "MESH_EXTERNAL",
	      .doc = "Whether the endpoints speak the mesh's mutual TLS."),
	FIELD(service_entry_spec, resolution, "resolution", ENUM, .words = &resolutions, .def = "NONE",
	      .doc = "Where the endpoints come from."),
	FIELD(service_entry_spec, endpoints, "endpoints", LIST, .of = &schema_workload_entry, .doc = "The endpoints."),
	FIELD(service_entry_spec, workload_selector, "workloadSelector", OBJECT, .of = &schema_workload_selector,
	      .doc = "Endpoints are the WorkloadEntries (and pods) with these labels."),
	FIELD(service_entry_spec, export_to, "exportTo", STRING_LIST, .check = text_check_export_to,
	      .doc = "Namespaces that see it; default: all."),
	FIELD(service_entry_spec, subject_alt_names, "subjectAltNames", STRING_LIST, .check = text_check_not_empty,
	      .doc = "Names that the endpoints' certificates must have."),
};

static void check_ports(struct decode *d, const struct path *path, const struct node *node,
			const struct service_entry_spec *se)
{
	const struct path ports = { .parent = path, .name = "ports" };
	const struct node *at_node = node_get(node, "ports");
	if (se->ports.n > 1000) {
		decode_error(d, &ports, NULL, at_node, "has %zu entries; 1000 are allowed", se->ports.n);
		return;
	}
	for (size_t i = 0; i < se->ports.n; i++) {
		const struct path at = { .parent = &ports, .index = i };
		for (size_t j = 0; j < i; j++) {
			if (se->ports.v[i].number == se->ports.v[j].number)
				decode_error(d, &at, "number", at_node, "%u is used twice", se->ports.v[i].number);
			if (!strcmp(se->ports.v[i].name, se->ports.v[j].name))
				decode_error(d, &at, "name", at_node, "\"%.60s\" is used twice", se->ports.v[i].name);
		}
	}
}

static bool port_name_known(const struct service_entry_spec *se, const char *name)
{
	for (size_t i = 0; i < se->ports.n; i++)
		if (!strcmp(se->ports.v[i].name, name))
			return true;
	return false;
}

static void check_endpoints(struct decode *d, const struct path *path, const struct node *node,
			    const struct service_entry_spec *se)
{
	const struct path endpoints = { .parent = path, .name = "endpoints" };
	const struct node *list = node_get(node, "endpoints");
	const struct node *item = list ? list->first : NULL;
	for (size_t i = 0; i < se->endpoints.n; i++, item = item ? item->next : NULL) {
		const struct workload_entry_spec *e = &se->endpoints.v[i];
		const struct path at = { .parent = &endpoints, .index = i };
		bool is_unix = e->address && str_starts(e->address, "unix://");
		if (se->resolution == RESOLUTION_STATIC && e->address && !e->is_ip && !is_unix)
			decode_error(d, &at, "address", item,
				     "\"%.100s\" is not an IP address, as resolution STATIC needs", e->address);
		if (se->resolution != RESOLUTION_STATIC && is_unix)
			decode_error(d, &at, "address", item, "a unix socket needs resolution STATIC");
		for (size_t p = 0; p < e->ports.n; p++)
			if (!port_name_known(se, e->ports.v[p].key))
				decode_error(d, &at, "ports", item, "\"%.60s\" is not the name of a port of this entry",
					     e->ports.v[p].key);
	}
}

static void check_resolution(struct decode *d, const struct path *path, const struct node *node,
			     const struct service_entry_spec *se)
{
	bool dns = se->resolution == RESOLUTION_DNS || se->resolution == RESOLUTION_DNS_ROUND_ROBIN;
	const struct path hosts = { .parent = path, .name = "hosts" };
	if (se->resolution == RESOLUTION_NONE && se->endpoints.n)
		decode_error(d, path, "endpoints", node_get(node, "endpoints"),
			     "has no meaning with resolution NONE; use STATIC or DNS");
	if (se->resolution == RESOLUTION_STATIC && !se->endpoints.n && !se->workload_selector)
		decode_warn(d, path, NULL, node,
			    "resolution STATIC without endpoints or workloadSelector: nothing answers");
	if (se->resolution == RESOLUTION_DNS_ROUND_ROBIN && se->endpoints.n > 1)
		decode_error(d, path, "endpoints", node_get(node, "endpoints"),
			     "has %zu entries; DNS_ROUND_ROBIN takes one", se->endpoints.n);
	if (se->resolution == RESOLUTION_DYNAMIC_DNS && se->endpoints.n)
		decode_error(d, path, "endpoints", node_get(node, "endpoints"),
			     "has no meaning with resolution DYNAMIC_DNS");
	for (size_t i = 0; i < se->hosts.n && dns && !se->endpoints.n; i++) {
		const struct path at = { .parent = &hosts, .index = i };
		if (se->hosts.v[i][0] == '*')
			decode_error(d, &at, NULL, node_get(node, "hosts"),
				     "\"%.100s\" cannot be looked up in DNS; name endpoints, or use resolution NONE",
				     se->hosts.v[i]);
	}
	for (size_t i = 0; i < se->addresses.n && dns; i++)
		if (se->addresses.v[i].bits != 128)
			decode_error(d, path, "addresses", node_get(node, "addresses"),
				     "ranges need resolution NONE or STATIC");
}

static void service_entry_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct service_entry_spec *se = object;
	if (se->workload_selector && se->endpoints.n)
		decode_error(d, path, "endpoints", node_get(node, "endpoints"),
			     "cannot be together with workloadSelector");
	if (!se->ports.n)
		decode_warn(d, path, NULL, node, "has no ports, so nothing reaches it");
	check_ports(d, path, node, se);
	check_resolution(d, path, node, se);
	check_endpoints(d, path, node, se);
}

const struct schema schema_service_entry =
	SCHEMA(service_entry_spec, service_entry_fields, .name = "ServiceEntry", .validate = service_entry_validate,
	       .doc = "A service that Kubernetes does not know, inside or outside of the mesh.");
