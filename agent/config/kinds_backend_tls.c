/* SPDX-License-Identifier: Apache-2.0 */
/* Table of BackendTLSPolicy. */
#include <string.h>

#include "agent/config/decode.h"
#include "agent/config/kinds_gateway_api.h"
#include "agent/config/node.h"
#include "agent/config/schema.h"

static const struct field target_fields[] = {
	FIELD(policy_target, group, "group", STRING, .def = "", .doc = "\"\" for a Service."),
	FIELD(policy_target, kind, "kind", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "Service, or ServiceEntry (of networking.istio.io)."),
	FIELD(policy_target, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_name,
	      .doc = "Its name, in the policy's namespace."),
	FIELD(policy_target, section, "sectionName", STRING, .check = text_check_name,
	      .doc = "Only the port so named."),
};
static const struct schema schema_target =
	SCHEMA(policy_target, target_fields, .name = "LocalPolicyTargetReferenceWithSectionName");

static const struct field ca_ref_fields[] = {
	FIELD(local_ref, group, "group", STRING, .def = "", .doc = "\"\"."),
	FIELD(local_ref, kind, "kind", STRING, .flags = FIELD_REQUIRED, .check = text_check_not_empty,
	      .doc = "ConfigMap or Secret, whose ca.crt is meant."),
	FIELD(local_ref, name, "name", STRING, .flags = FIELD_REQUIRED, .check = text_check_name,
	      .doc = "Its name, in the policy's namespace."),
};
static const struct schema schema_ca_ref = SCHEMA(local_ref, ca_ref_fields, .name = "LocalObjectReference");

static const struct words san_types = WORDS({ "Hostname", BACKEND_SAN_HOSTNAME }, { "URI", BACKEND_SAN_URI });
static const struct field alt_name_fields[] = {
	FIELD(backend_alt_name, type, "type", ENUM, .words = &san_types, .flags = FIELD_REQUIRED, .doc = "Which."),
	FIELD(backend_alt_name, hostname, "hostname", STRING, .check = text_check_host, .doc = "A DNS name."),
	FIELD(backend_alt_name, uri, "uri", STRING, .check = text_check_not_empty, .doc = "A URI, as of SPIFFE."),
};

static void alt_name_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct backend_alt_name *n = object;
	if (n->type == BACKEND_SAN_HOSTNAME && (!n->hostname || n->uri))
		decode_error(d, path, NULL, node, "needs hostname, and nothing else");
	if (n->type == BACKEND_SAN_URI && (!n->uri || n->hostname))
		decode_error(d, path, NULL, node, "needs uri, and nothing else");
	if (n->type == BACKEND_SAN_URI && n->uri && !strstr(n->uri, "://"))
		decode_error(d, path, "uri", node, "\"%.100s\" is no absolute URI", n->uri);
}

static const struct schema schema_alt_name =
	SCHEMA(backend_alt_name, alt_name_fields, .name = "SubjectAltName", .validate = alt_name_validate);

static const char *check_well_known(const char *text)
{
	return strcmp(text, "System") == 0 ? NULL : "is not System";
}

static const struct field validation_fields[] = {
	FIELD(backend_tls_validation, ca_refs, "caCertificateRefs", LIST, .of = &schema_ca_ref,
	      .doc = "Whom to trust."),
	FIELD(backend_tls_validation, well_known, "wellKnownCACertificates", STRING, .check = check_well_known,
	      .doc = "System: whom this machine trusts."),
	FIELD(backend_tls_validation, hostname, "hostname", STRING, .flags = FIELD_REQUIRED,
	      .check = text_check_fqdn_host,
	      .doc = "Server name to send; the certificate must be for it, unless there are subjectAltNames."),
	FIELD(backend_tls_validation, subject_alt_names, "subjectAltNames", LIST, .of = &schema_alt_name,
	      .doc = "Names, any of which the certificate must have."),
};

static void validation_validate(struct decode *d, const struct path *path, const struct node *node, void *object)
{
	const struct backend_tls_validation *v = object;
	if ((v->ca_refs.n > 0) == (v->well_known != NULL))
		decode_error(d, path, NULL, node, "needs either caCertificateRefs or wellKnownCACertificates");
	if (v->hostname && v->hostname[0] == '*')
		decode_error(d, path, "hostname", node, "is a wildcard, which can't be sent");
}

static const struct schema schema_validation =
	SCHEMA(backend_tls_validation, validation_fields, .name = "BackendTLSPolicyValidation",
	       .validate = validation_validate);

static const struct field policy_fields[] = {
	FIELD(backend_tls_policy_spec, targets, "targetRefs", LIST, .of = &schema_target,
	      .flags = FIELD_REQUIRED | FIELD_NOT_EMPTY, .doc = "Services whose endpoints speak TLS."),
	FIELD(backend_tls_policy_spec, validation, "validation", OBJECT, .of = &schema_validation,
	      .flags = FIELD_REQUIRED, .doc = "Whom callers trust and expect."),
	FIELD_IGNORED("options", "Of implementations; there are none here."),
};
const struct schema schema_backend_tls_policy =
	SCHEMA(backend_tls_policy_spec, policy_fields, .name = "BackendTLSPolicy",
	       .doc = "TLS to the endpoints of a service.", .strict = true);
