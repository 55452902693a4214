/* SPDX-License-Identifier: Apache-2.0 */
/* GET /v1/tls-check: of each service port how it is reached and what its workloads ask for. */
#include "agent/control/request.h"

#include <jansson.h>

#include "agent/base/str.h"
#include "agent/control/http_words.h"
#include "agent/control/json.h"
#include "agent/control/objects.h"
#include "agent/model/l7.h"
#include "agent/model/plan.h"

/* Of a whole mesh's table: the loop carries on with other work in a few milliseconds. Filters get the rest. */
enum { TLS_POLICIES_MAX = 1000 };

struct tls_row {
	const char *client, *server, *status;
	char origin[256]; /* of the mode of the last endpoint; "": none */
};

/* One word for all endpoints, or "mixed". */
static void merge(const char **have, const char *value)
{
	if (!*have)
		*have = value;
	else if (value && !str_eq(*have, value))
		*have = "mixed";
}

/* budget: how many policies may still be made for this request; those of this node's workloads cost nothing. */
static struct tls_row tls_of(struct request *rq, const struct plan *plan, const struct service_port *port, int *budget)
{
	struct tls_row row = { .status = "OK" };

	for (size_t i = 0; i < port->endpoint_count; i++) {
		const struct workload *w = port->endpoints[i].workload;
		const char *client = w ? workload_path_text(plan, w, port->proto) : "plaintext";
		merge(&row.client, client);
		if (!w || !w->enrolled) {
			merge(&row.server, "not in mesh");
			continue;
		}
		bool affordable = w->policy || --*budget >= 0;
		struct policy *policy = affordable ? policy_for(rq, w) : NULL;
		if (!policy) {
			merge(&row.server, affordable ? "on other node" : "not looked at");
			continue;
		}
		enum mtls_mode mode = policy_mtls_mode(policy, port->endpoints[i].port);
		merge(&row.server, text_of_mtls(mode));
		str_copy(row.origin, sizeof(row.origin), policy->mtls_origin);
		policy_unref(policy);
		if (mode == MTLS_STRICT && str_eq(client, "plaintext"))
			row.status = "CONFLICT";
	}
	if (!port->endpoint_count)
		row = (struct tls_row){ .status = "NO ENDPOINTS" };
	return row;
}

void handle_tls_check(struct request *rq)
{
	const struct plan *plan = request_plan(rq);
	if (!plan)
		return;
	const char *ns = request_query(rq, "namespace"), *name = request_query(rq, "service");
	json_t *items = json_array();
	int budget = TLS_POLICIES_MAX;

	for (size_t i = 0; i < plan->service_count; i++) {
		const struct service *s = plan->services[i];
		if ((ns && !str_eq(s->ns, ns)) || (name && !str_eq(s->name, name) && !str_eq(s->hostname, name)))
			continue;
		for (size_t k = 0; k < s->port_count; k++) {
			struct tls_row row = tls_of(rq, plan, &s->ports[k], &budget);
			json_t *o = json_object();
			json_set_text(o, "host", s->hostname);
			json_set_u64(o, "port", s->ports[k].port);
			json_set_text(o, "protocol", text_of_proto(s->ports[k].proto));
			if (s->ports[k].l7 != L7_NONE)
				json_set_text(o, "http", text_of_l7_mode((enum l7_mode)s->ports[k].l7));
			json_set_text(o, "status", row.status);
			json_set_text(o, "server", row.server);
			json_set_text(o, "client", row.client);
			json_set_text(o, "policy", row.origin[0] ? row.origin : NULL);
			json_add(items, o);
		}
	}
	reply_json(rq, json_of_items(items));
}
