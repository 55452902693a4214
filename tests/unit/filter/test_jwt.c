/* SPDX-License-Identifier: Apache-2.0 */
/* RequestAuthentication as a request meets it: places, issuers, times, and every shape of attack. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/loop.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/helper/filter/jwt.h"
#include "tests/unit/filter/fake.h"
#include "tests/unit/filter/tokens.h"

static struct http_filters *filters;
static struct exchange *x;
static uint64_t next_id = 1;

/* One rule: issuer "i", inline keys of `alg`. */
static struct jwt_rule *rule_add(const char *issuer, const char *alg)
{
	filters->jwt = reallocarray(filters->jwt, filters->jwt_count + 1, sizeof(*filters->jwt));
	struct jwt_rule *r = &filters->jwt[filters->jwt_count++];
	*r = (struct jwt_rule){ .issuer = strdup(issuer), .jwks_inline = true, .forward = true };
	r->jwks = alg ? strdup(test_jwks((struct test_key *const[]){ test_key(alg, NULL), NULL })) : NULL;
	return r;
}

static void location_add(struct jwt_location **to, size_t *count, const char *name, const char *prefix)
{
	*to = reallocarray(*to, *count + 1, sizeof(**to));
	(*to)[(*count)++] = (struct jwt_location){ strdup(name), prefix ? strdup(prefix) : NULL };
}

static void output_add(struct jwt_rule *r, const char *header, const char *claim)
{
	r->output_claims = reallocarray(r->output_claims, r->output_claim_count + 1, sizeof(*r->output_claims));
	r->output_claims[r->output_claim_count++] = (struct jwt_claim_header){ strdup(header), strdup(claim) };
}

static int on_setup(void **state)
{
	(void)state;
	filters = http_filters_new();
	filters->id = next_id++;
	x = NULL;
	return 0;
}

static int on_teardown(void **state)
{
	(void)state;
	if (x)
		fake_exchange_free(x);
	http_filters_unref(filters);
	return 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, on_setup, on_teardown)

static enum stage_result run(const char *request)
{
	if (x)
		fake_exchange_free(TAKE(x));
	x = fake_exchange(request);
	x->filters = filters;
	return stage_jwt(x);
}

static enum stage_result run_bearer(const char *token)
{
	char request[40000];
	snprintf(request, sizeof(request), "GET /a\nauthorization: Bearer %s", token);
	return run(request);
}

static const char *good(const char *issuer, const char *more)
{
	static char payload[1024];
	snprintf(payload, sizeof(payload), "{\"iss\":\"%s\",\"sub\":\"s\"%s}", issuer, more);
	return payload;
}

static void test_good_token_gives_a_principal_and_is_forwarded(void **state)
{
	(void)state;
	rule_add("i", "ES256");
	const char *token = test_token(test_key("ES256", NULL), good("i", ""));
	for (int i = 0; i < 2; i++) { /* verified, then remembered */
		assert_int_equal(run_bearer(token), STAGE_CONTINUE);
		assert_string_equal(x->request_principal, "i/s");
		assert_string_equal(x->record.request_principal, "i/s");
		assert_non_null(fake_header(x, "authorization"));
	}
}

static void test_no_token_passes_without_principal(void **state)
{
	(void)state;
	rule_add("i", "ES256");
	assert_int_equal(run("GET /a"), STAGE_CONTINUE);
	assert_null(x->request_principal);
	assert_null(x->claims);
	assert_int_equal(run("GET /a\nauthorization: Basic dTpw"), STAGE_CONTINUE);
	assert_null(x->claims);
}

static void test_refusals_say_what_envoy_says(void **state)
{
	(void)state;
	struct jwt_rule *r = rule_add("i", "ES256");
	struct test_key *key = test_key("ES256", NULL), *other = test_key("ES256", "other");
	int64_t now = (int64_t)(clock_wall_ns() / 1000000000u);
	char old[64], soon[64], born[64];
	snprintf(old, sizeof(old), ",\"exp\":%lld", (long long)now - 61);
	snprintf(soon, sizeof(soon), ",\"nbf\":%lld", (long long)now + 70);
	snprintf(born, sizeof(born), ",\"iat\":%lld", (long long)now + 70);
	r->audiences = calloc(1, sizeof(char *));
	r->audiences[r->audience_count++] = strdup("web");
#define AUD ",\"aud\":\"web\""
	const struct {
		const char *token, *body;
		uint16_t status;
	} rows[] = {
		{ test_token(key, good("j", AUD)), "Jwt issuer is not configured", 401 },
		{ test_token(other, good("i", AUD)), "Jwt verification fails", 401 },
		{ test_token(key, good("i", ",\"aud\":\"x\"")), "Audiences in Jwt are not allowed", 403 },
		{ test_token(key, good("i", "")), "Audiences in Jwt are not allowed", 403 },
		{ test_token(key, good("i", old)), "Jwt is expired", 401 },
		{ test_token(key, good("i", soon)), "Jwt not yet valid", 401 },
		{ test_token(key, good("i", born)), "Jwt not yet valid", 401 },
		{ "abc", "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections", 401 },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(run_bearer(rows[i].token), STAGE_ANSWERED);
		assert_string_equal(answer.body, rows[i].body);
		assert_int_equal(answer.status, rows[i].status);
		assert_string_equal(
			answer.challenge,
			rows[i].status == 403 ? "" : "Bearer realm=\"http://shop.example/a\", error=\"invalid_token\"");
		assert_int_equal(answer.reason, DROP_JWT_INVALID);
		assert_null(x->claims);
	}
	assert_int_equal(run_bearer(rows[4].token), STAGE_ANSWERED);
	assert_string_equal(answer.details, "jwt_authn_access_denied{Jwt_is_expired}");
}

static void test_times_have_a_minute_of_skew(void **state)
{
	(void)state;
	rule_add("i", "ES256");
	int64_t now = (int64_t)(clock_wall_ns() / 1000000000u);
	char more[128];
	snprintf(more, sizeof(more), ",\"exp\":%lld.5,\"nbf\":%lld,\"iat\":%lld", (long long)now - 50,
		 (long long)now + 50, (long long)now + 50);
	assert_int_equal(run_bearer(test_token(test_key("ES256", NULL), good("i", more))), STAGE_CONTINUE);
	assert_int_equal(
		run_bearer(test_token(test_key("ES256", NULL), good("i", ",\"exp\":99999999999999999999999.0"))),
		STAGE_CONTINUE);
}

/* Tokens that must never pass, whatever their signature says; the key is ours where it can be. */
static void test_attacks_are_refused(void **state)
{
	(void)state;
	rule_add("i", "ES256");
	struct test_key *key = test_key("ES256", NULL);
	char *token = strdup(test_token(key, good("i", "")));
	char *signature = strrchr(token, '.') + 1;
	char stripped[4096], padded[4096], spaced[4096], twice[4096], five[4096], empty_sig[4096];
	snprintf(stripped, sizeof(stripped), "%.*s", (int)(signature - token), token);
	snprintf(padded, sizeof(padded), "%s=", token);
	snprintf(spaced, sizeof(spaced), "%.20s %s", token, token + 20);
	snprintf(twice, sizeof(twice), "%s,%s", token, token);
	snprintf(five, sizeof(five), "%s.a.b", token);
	snprintf(empty_sig, sizeof(empty_sig), "%.*s", (int)(signature - token), token);
	const char *rows[] = {
		test_forge("{\"alg\":\"none\"}", good("i", ""), ""),
		test_forge("{\"alg\":\"None\"}", good("i", ""), "AAAA"),
		test_forge("{\"alg\":\"nOnE\"}", good("i", ""), signature),
		test_forge("{\"alg\":\"\"}", good("i", ""), signature),
		test_forge("{\"alg\":null}", good("i", ""), signature),
		test_forge("{\"alg\":[\"ES256\"]}", good("i", ""), signature),
		test_forge("{}", good("i", ""), signature),
		test_forge("[]", good("i", ""), signature),
		stripped,
		padded,
		spaced,
		twice,
		five,
		empty_sig,
		"..",
		"a.b.c",
		".",
		"...",
		test_sign(key, "{\"alg\":\"ES256\",\"crit\":[\"b64\"],\"b64\":false}", good("i", "")),
		test_forge("{\"alg\":\"ES256\",\"alg\":\"ES256\"}", good("i", ""), signature),
		test_token(key, "[]"),
		test_token(key, "1"),
		test_token(key, "{\"iss\":\"i\""),
		test_token(key, "{\"iss\":\"x\",\"iss\":\"i\"}"),
		test_token(key, "{\"iss\":[\"i\"],\"sub\":\"s\"}"),
		test_token(key, "{\"sub\":\"s\"}"),
		test_token(key, good("i", ",\"exp\":\"9999999999\"")),
		test_token(key, good("i", ",\"exp\":null")),
		test_token(key, good("i", ",\"exp\":-1")),
		test_token(key, good("i", ",\"aud\":{}")),
		test_token(key, good("i", ",\"aud\":[1]")),
		test_token(key, good("i", ",\"nbf\":1e30")),
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (run_bearer(rows[i]) != STAGE_ANSWERED || x->claims)
			fail_msg("row %zu passes: %s", i, rows[i]);
	free(token);
}

static void test_token_that_is_too_long_is_refused(void **state)
{
	(void)state;
	char more[17000];
	rule_add("i", "ES256");
	snprintf(more, sizeof(more), ",\"x\":\"%0*d\"", 13000, 1);
	char *payload = str_format("{\"iss\":\"i\",\"sub\":\"s\"%s}", more);
	assert_int_equal(run_bearer(test_token(test_key("ES256", NULL), payload)), STAGE_ANSWERED);
	assert_int_equal(answer.status, 401);
	free(payload);
}

static void test_symmetric_keys_only_inline(void **state)
{
	(void)state;
	struct jwt_rule *r = rule_add("i", "HS256");
	const char *token = test_token(test_key("HS256", NULL), good("i", ""));
	assert_int_equal(run_bearer(token), STAGE_CONTINUE);
	r->jwks_inline = false;
	filters->id = next_id++;
	assert_int_equal(run_bearer(token), STAGE_ANSWERED);
}

static void test_keys_that_were_not_fetched(void **state)
{
	(void)state;
	rule_add("i", NULL);
	assert_int_equal(run_bearer(test_token(test_key("ES256", NULL), good("i", ""))), STAGE_ANSWERED);
	assert_string_equal(answer.body, "Jwks remote fetch is failed");
	assert_int_equal(run("GET /"), STAGE_CONTINUE);
}

static void test_several_issuers_at_one_place(void **state)
{
	(void)state;
	rule_add("i", "ES256");
	rule_add("j", "ES384");
	assert_int_equal(run_bearer(test_token(test_key("ES384", NULL), good("j", ""))), STAGE_CONTINUE);
	assert_string_equal(x->request_principal, "j/s");
	/* an issuer's key is for its own tokens alone */
	assert_int_equal(run_bearer(test_token(test_key("ES384", NULL), good("i", ""))), STAGE_ANSWERED);
	assert_string_equal(answer.body, "Jwt verification fails");
	assert_int_equal(run_bearer(test_token(test_key("ES384", NULL), good("k", ""))), STAGE_ANSWERED);
	assert_string_equal(answer.body, "Jwt issuer is not configured");
}

static void test_places(void **state)
{
	(void)state;
	struct jwt_rule *r = rule_add("i", "ES256");
	const char *token = test_token(test_key("ES256", NULL), good("i", ""));
	char request[4096];
	r->forward = false;

	snprintf(request, sizeof(request), "GET /a?b=1&access_token=%s&c=2", token);
	assert_int_equal(run(request), STAGE_CONTINUE);
	assert_non_null(x->claims);
	assert_true(http_is(x->head->path, "/a?b=1&c=2"));
	assert_true(http_is(x->query, "b=1&c=2"));

	location_add(&r->headers, &r->header_count, "x-token", "Partner ");
	location_add(&r->params, &r->param_count, "t", NULL);
	location_add(&r->cookies, &r->cookie_count, "session", NULL);
	filters->id = next_id++;
	snprintf(request, sizeof(request), "GET /a\nx-token: Partner %s", token);
	assert_int_equal(run(request), STAGE_CONTINUE);
	assert_non_null(x->claims);
	assert_null(fake_header(x, "x-token"));

	snprintf(request, sizeof(request), "GET /a?t=%s", token);
	assert_int_equal(run(request), STAGE_CONTINUE);
	assert_non_null(x->claims);
	assert_true(http_is(x->head->path, "/a"));

	snprintf(request, sizeof(request), "GET /a\ncookie: a=b; session=%s; c=d", token);
	assert_int_equal(run(request), STAGE_CONTINUE);
	assert_non_null(x->claims);
	assert_string_equal(fake_header(x, "cookie"), "a=b; c=d");

	/* no longer a place */
	assert_int_equal(run_bearer("rubbish"), STAGE_CONTINUE);
	assert_null(x->claims);
	snprintf(request, sizeof(request), "GET /a\nx-token: %s", token);
	assert_int_equal(run(request), STAGE_CONTINUE);
	assert_null(x->claims);
}

static void test_a_good_token_beside_a_bad_one_is_refused(void **state)
{
	(void)state;
	rule_add("i", "ES256");
	char request[4096];
	const char *token = test_token(test_key("ES256", NULL), good("i", ""));
	snprintf(request, sizeof(request), "GET /a?access_token=a.b.c\nauthorization: Bearer %s", token);
	assert_int_equal(run(request), STAGE_ANSWERED);
	snprintf(request, sizeof(request), "GET /a\nauthorization: Bearer %s\nauthorization: Bearer %s", token, token);
	assert_int_equal(run(request), STAGE_ANSWERED); /* joined: no token */
}

static void test_output_headers_and_their_spoofed_copies(void **state)
{
	(void)state;
	struct jwt_rule *r = rule_add("i", "ES256");
	r->output_payload_header = strdup("x-payload");
	output_add(r, "x-user", "sub");
	output_add(r, "x-admin", "admin");
	output_add(r, "x-level", "level");
	output_add(r, "x-city", "address.city");
	output_add(r, "x-dotted", "a.b");
	output_add(r, "x-list", "list");
	output_add(r, "x-evil", "evil");
	const char *token = test_token(
		test_key("ES256", NULL),
		good("i",
		     ",\"admin\":true,\"level\":-7,\"address\":{\"city\":\"Basel\"},\"a.b\":\"c\",\"list\":[1,\"x\"],"
		     "\"evil\":\"a\\r\\nx-injected: 1\""));
	char request[4096];
	snprintf(request, sizeof(request), "GET /\nauthorization: Bearer %s\nx-user: root\nx-admin: 1\nx-payload: x",
		 token);
	assert_int_equal(run(request), STAGE_CONTINUE);
	assert_string_equal(fake_header(x, "x-user"), "s");
	assert_string_equal(fake_header(x, "x-admin"), "true");
	assert_string_equal(fake_header(x, "x-level"), "-7");
	assert_string_equal(fake_header(x, "x-city"), "Basel");
	assert_string_equal(fake_header(x, "x-dotted"), "c");
	assert_string_equal(fake_header(x, "x-list"), "WzEsIngiXQ==");
	assert_null(fake_header(x, "x-evil"));
	assert_null(fake_header(x, "x-injected"));
	const char *payload = fake_header(x, "x-payload"), *at = strchr(token, '.') + 1;
	assert_int_equal(strncmp(payload, at, strlen(payload)), 0);

	assert_int_equal(run("GET /\nx-user: root\nx-payload: x\nx-admin: 1"), STAGE_CONTINUE);
	assert_null(fake_header(x, "x-user"));
	assert_null(fake_header(x, "x-admin"));
	assert_null(fake_header(x, "x-payload"));
}

static bool on_value(struct http_view value, void *arg)
{
	struct sb *sb = arg;
	sb_addf(sb, "%.*s|", (int)value.n, value.p);
	return false;
}

static void assert_claim(const char *want, const char *a, const char *b)
{
	struct sb sb = { 0 };
	char *path[] = { (char *)(uintptr_t)a, (char *)(uintptr_t)b };
	jwt_claims_visit(x->claims, path, b ? 2 : 1, on_value, &sb);
	assert_string_equal(sb.p ? sb.p : "", want);
	sb_done(&sb);
}

static void test_claims_as_policies_see_them(void **state)
{
	(void)state;
	struct jwt_rule *r = rule_add("i", "ES256");
	r->space_delimited_claims = calloc(1, sizeof(char *));
	r->space_delimited_claims[r->space_delimited_claim_count++] = strdup("roles");
	assert_int_equal(
		run_bearer(test_token(
			test_key("ES256", NULL),
			good("i", ",\"aud\":[\"a\",\"b\"],\"scope\":\"read  write\",\"roles\":\"x y\",\"name\":\"x y\","
				  "\"realm\":{\"roles\":[\"admin\",5,\"user\"]},\"n\":5,\"t\":true"))),
		STAGE_CONTINUE);
	assert_claim("s|", "sub", NULL);
	assert_claim("a|b|", "aud", NULL);
	assert_claim("read|write|", "scope", NULL);
	assert_claim("x|y|", "roles", NULL);
	assert_claim("x y|", "name", NULL);
	assert_claim("admin|user|", "realm", "roles");
	assert_claim("", "realm", NULL);
	assert_claim("", "n", NULL);
	assert_claim("", "t", NULL);
	assert_claim("", "absent", "x");
	assert_claim("", "sub", "x");
}

static void test_principal_needs_issuer_and_subject(void **state)
{
	(void)state;
	rule_add("i", "ES256");
	assert_int_equal(run_bearer(test_token(test_key("ES256", NULL), "{\"iss\":\"i\"}")), STAGE_CONTINUE);
	assert_null(x->request_principal);
	assert_non_null(x->claims);
}

/* What was verified is remembered by the whole token, its rule and the keys' version. */
static void test_remembered_tokens_end_with_their_time_and_keys(void **state)
{
	(void)state;
	rule_add("i", "ES256");
	int64_t now = (int64_t)(clock_wall_ns() / 1000000000u);
	char more[64];
	snprintf(more, sizeof(more), ",\"exp\":%lld", (long long)now + 100);
	const char *token = test_token(test_key("ES256", NULL), good("i", more));
	assert_int_equal(run_bearer(token), STAGE_CONTINUE);
	struct exchange_claims *c = jwt_cache_get(filters->id, 0, token, strlen(token), now + 159);
	assert_ptr_equal(c, x->claims);
	exchange_claims_free(c);
	assert_null(jwt_cache_get(filters->id, 0, token, strlen(token) - 1, now));
	assert_null(jwt_cache_get(filters->id, 1, token, strlen(token), now));
	assert_null(jwt_cache_get(filters->id + 100, 0, token, strlen(token), now));
	assert_null(jwt_cache_get(filters->id, 0, token, strlen(token), now + 161));
	assert_null(jwt_cache_get(filters->id, 0, token, strlen(token), now)); /* it was forgotten */
}

static void test_many_tokens_stay_within_the_budget(void **state)
{
	(void)state;
	rule_add("i", "HS256");
	for (int i = 0; i < 3000; i++) {
		char payload[1200];
		snprintf(payload, sizeof(payload), "{\"iss\":\"i\",\"sub\":\"%d\",\"x\":\"%0*d\"}", i, 800, i);
		assert_int_equal(run_bearer(test_token(test_key("HS256", NULL), payload)), STAGE_CONTINUE);
	}
}

static void test_client_side_is_left_alone(void **state)
{
	(void)state;
	rule_add("i", "ES256");
	x = fake_exchange("GET /\nauthorization: Bearer rubbish");
	x->filters = filters;
	x->side = SIDE_CLIENT;
	assert_int_equal(stage_jwt(x), STAGE_CONTINUE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_good_token_gives_a_principal_and_is_forwarded),
		CASE(test_no_token_passes_without_principal),
		CASE(test_refusals_say_what_envoy_says),
		CASE(test_times_have_a_minute_of_skew),
		CASE(test_attacks_are_refused),
		CASE(test_token_that_is_too_long_is_refused),
		CASE(test_symmetric_keys_only_inline),
		CASE(test_keys_that_were_not_fetched),
		CASE(test_several_issuers_at_one_place),
		CASE(test_places),
		CASE(test_a_good_token_beside_a_bad_one_is_refused),
		CASE(test_output_headers_and_their_spoofed_copies),
		CASE(test_claims_as_policies_see_them),
		CASE(test_principal_needs_issuer_and_subject),
		CASE(test_remembered_tokens_end_with_their_time_and_keys),
		CASE(test_many_tokens_stay_within_the_budget),
		CASE(test_client_side_is_left_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
