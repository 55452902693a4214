/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/filter/scripts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/log.h"
#include "agent/helper/filter/lua_vm.h"
#include "agent/helper/worker.h"

struct http_filters *scripts;
char scripts_log[8192];

static void on_line(enum log_level level, const char *line, void *arg)
{
	size_t n = strlen(scripts_log);
	(void)level;
	(void)arg;
	snprintf(scripts_log + n, sizeof(scripts_log) - n, "%s\n", line);
}

int scripts_setup(void **state)
{
	(void)state;
	scripts_log[0] = '\0';
	log_set_sink(on_line, NULL);
	memset(&fake_metrics, 0, sizeof(fake_metrics));
	fake_body = NULL;
	fake_body_late = fake_response_late = false;
	fake_response_body = fake_trailers = NULL;
	scripts = http_filters_new();
	return 0;
}

int scripts_teardown(void **state)
{
	(void)state;
	http_filters_unref(scripts);
	lua_vms_clear();
	log_set_sink(NULL, NULL);
	return 0;
}

struct lua_script *scripts_add(const char *code)
{
	scripts->scripts = reallocarray(scripts->scripts, scripts->script_count + 1, sizeof(*scripts->scripts));
	struct lua_script *s = &scripts->scripts[scripts->script_count++];
	*s = (struct lua_script){ .name = strdup("EnvoyFilter/shop/s[0]"), .code = code ? strdup(code) : NULL };
	http_filters_seal(scripts);
	return s;
}

void scripts_only(const char *code)
{
	http_filters_unref(scripts);
	scripts = http_filters_new();
	scripts_add(code);
}

struct exchange *scripts_start(const char *request)
{
	struct exchange *x = fake_exchange(request);
	x->filters = scripts;
	enum stage_result result = stage_lua(x);
	if (result == STAGE_WAIT)
		assert_true(fake_body_late || call.open);
	else
		assert_int_equal(result, answer.given ? STAGE_ANSWERED : STAGE_CONTINUE);
	return x;
}

enum stage_result scripts_respond(struct exchange *x, const char *fields, struct http_head **response)
{
	*response = fake_head(200, fields);
	return stage_lua_response(x, *response);
}

const char *scripts_say(const char *expression)
{
	char code[4096];
	snprintf(code, sizeof(code), "function envoy_on_request(h) h:respond({[':status']='200'}, tostring(%s)) end",
		 expression);
	scripts_only(code);
	struct exchange *x = scripts_start("GET /p?q=1\nx-a: 1\nx-a: 2\nuser-agent: u");
	fake_exchange_free(x);
	return answer.given ? answer.body : "(no answer)";
}
