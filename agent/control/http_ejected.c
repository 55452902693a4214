/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/control/http_ejected.h"

#include <stdlib.h>

#include <jansson.h>

#include "agent/base/str.h"
#include "agent/control/backend.h"
#include "agent/control/json.h"
#include "agent/control/request.h"

struct ejections {
	struct request *rq;
	json_t *answer;
};

static void mark(json_t *answer, const char *cluster, const char *address, double left_s)
{
	size_t i, k;
	json_t *c, *e;

	json_array_foreach(json_object_get(answer, "clusters"), i, c)
	{
		if (!str_eq(json_string_value(json_object_get(c, "name")), cluster))
			continue;
		json_array_foreach(json_object_get(c, "endpoints"), k, e)
		{
			if (!str_eq(json_string_value(json_object_get(e, "address")), address))
				continue;
			json_set_bool(e, "ejected", true);
			json_set(e, "ejected_for_s", json_real(left_s));
		}
	}
}

static void on_dump(const char *json, void *ctx)
{
	struct ejections *j = ctx;
	struct request *rq = j->rq;
	json_t *rows = json ? json_loads(json, 0, NULL) : NULL, *c, *e;
	size_t i, k;

	json_array_foreach(rows, i, c)
	{
		json_array_foreach(json_object_get(c, "endpoints"), k, e)
		{
			if (str_eq(json_string_value(json_object_get(e, "health")), "ejected"))
				mark(j->answer, json_string_value(json_object_get(c, "name")),
				     json_string_value(json_object_get(e, "address")),
				     json_number_value(json_object_get(e, "ejected_for_s")));
		}
	}
	json_decref(rows);
	if (request_cancelled(rq))
		json_decref(j->answer);
	else
		reply_json(rq, j->answer);
	free(j);
	request_resume(rq);
}

void reply_with_ejections(struct request *rq, json_t *answer)
{
	const struct control_backend *b = request_backend(rq);
	bool any = json_array_size(json_object_get(answer, "clusters")) > 0;
	struct ejections *j = any && b->dump ? calloc(1, sizeof(*j)) : NULL;

	if (!j) {
		reply_json(rq, answer);
		return;
	}
	*j = (struct ejections){ rq, answer };
	request_wait(rq);
	if (b->dump("clusters", on_dump, j, b->arg) < 0)
		on_dump(NULL, j);
}
