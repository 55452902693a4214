/* SPDX-License-Identifier: Apache-2.0 */
/* Scripts for the fake engine: the filters that they are in, what they say, what was logged. */
#pragma once

#include "tests/unit/filter/fake.h"

extern struct http_filters *scripts;
extern char scripts_log[8192];

int scripts_setup(void **state);
int scripts_teardown(void **state);
#define SCRIPT_CASE(name) cmocka_unit_test_setup_teardown(name, scripts_setup, scripts_teardown)

struct lua_script *scripts_add(const char *code);
void scripts_only(const char *code); /* in place of all that were there */
struct exchange *scripts_start(const char *request);
/* The same request's response: STAGE_CONTINUE or STAGE_WAIT; the head is *response. */
enum stage_result scripts_respond(struct exchange *x, const char *fields, struct http_head **response);
/* What a script says of a request, by responding with it. */
const char *scripts_say(const char *expression);
