/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/model/http.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/model/l7.h"
#include "agent/model/workload.h"

#define NEW(pointer) ((pointer) = calloc(1, sizeof(*(pointer))))

/* One of everything. */
static struct http_vhost *full(void)
{
	struct http_vhost *v = http_vhost_new();
	v->name = strdup("catalog.shop.svc.cluster.local:80");
	v->host = strdup("catalog.shop.svc.cluster.local");
	struct http_route *r = NEW(v->routes);
	v->route_count = 1;
	r->name = strdup("r");
	r->origin = strdup("a.yaml:1");
	r->owner = strdup("VirtualService shop/catalog");
	struct http_match *m = NEW(r->matches);
	r->match_count = 1;
	m->name = strdup("m");
	*NEW(m->path) = (struct http_text){ .kind = HTTP_TEXT_REGEX, .text = strdup("/a+") };
	NEW(m->headers)->name = strdup("x");
	m->header_count = 1;
	m->headers->value = (struct http_text){ .text = strdup("v") };
	NEW(m->source_labels)->key = strdup("app");
	m->source_labels->value = strdup("a");
	m->source_label_count = 1;
	struct http_destination *d = NEW(r->destinations);
	r->destination_count = 1;
	d->cluster = strdup("outbound|80||catalog");
	NEW(d->request.set)->name = strdup("h");
	d->request.set->value = strdup("v");
	d->request.set_count = 1;
	NEW(r->response.remove)[0] = strdup("server");
	r->response.remove_count = 1;
	NEW(r->redirect)->authority = strdup("b");
	NEW(r->direct)->body = strdup("hello");
	r->direct->body_len = 5;
	NEW(r->rewrite)->path_regex = strdup("(a)");
	r->rewrite->path_substitution = strdup("\\1");
	NEW(r->fault)->delay_ms = 1;
	NEW(r->mirrors)->cluster = strdup("outbound|80||shadow");
	r->mirror_count = 1;
	NEW(r->cors)->origins = calloc(1, sizeof(struct http_text));
	r->cors->origins[0] = (struct http_text){ .kind = HTTP_TEXT_EXACT, .text = strdup("*") };
	r->cors->origin_count = 1;
	NEW(r->retry.statuses)[0] = 503;
	r->retry.status_count = 1;
	return v;
}

static void test_equal_contents_have_equal_ids(void **state)
{
	(void)state;
	struct http_vhost *a = full(), *b = full();
	assert_int_equal(http_vhost_seal(a, NULL), 0);
	assert_int_equal(http_vhost_seal(b, NULL), 0);
	assert_true(a->id && a->id == b->id);
	assert_non_null(a->routes->matches->path->regex);
	assert_non_null(a->routes->rewrite->regex);
	http_vhost_unref(http_vhost_ref(a));
	assert_int_equal(a->refs, 1);
	http_vhost_unref(a);
	http_vhost_unref(b);
}

static void differs(void (*change)(struct http_route *route))
{
	struct http_vhost *a = full(), *b = full();
	change(b->routes);
	assert_int_equal(http_vhost_seal(a, NULL), 0);
	assert_int_equal(http_vhost_seal(b, NULL), 0);
	assert_true(a->id != b->id);
	http_vhost_unref(a);
	http_vhost_unref(b);
}

#define CHANGE(name, statement)                                                                                        \
	static void change_##name(struct http_route *r)                                                                \
	{                                                                                                              \
		statement;                                                                                             \
	}
CHANGE(weight, r->destinations->weight = 2)
CHANGE(port, r->matches->port = 81)
CHANGE(invert, r->matches->headers->invert = true)
CHANGE(case, r->matches->path->ignore_case = true)
CHANGE(kind, r->matches->headers->value.kind = HTTP_TEXT_PREFIX)
CHANGE(label, r->matches->source_labels->value[0] = 'b')
CHANGE(set, r->destinations->request.set->value[0] = 'w')
CHANGE(remove, r->response.remove[0][0] = 'S')
CHANGE(redirect, r->redirect->keep_port = true)
CHANGE(redirect_port, r->redirect->default_port = true)
CHANGE(body, r->direct->body[0] = 'j')
CHANGE(rewrite, r->rewrite->path_substitution[1] = '0')
CHANGE(fault, r->fault->abort_share.ppm = 1)
CHANGE(mirror, r->mirrors->share.ppm = 1)
CHANGE(cors, r->cors->credentials = true)
CHANGE(retry, r->retry.statuses[0] = 504)
CHANGE(timeout, r->timeout_ms = 1)
CHANGE(invalid, r->invalid_weight = 1)
CHANGE(ttl, r->session_absolute_s = 1)
CHANGE(matches, http_match_done(r->matches); r->match_count = 0)

static void test_every_difference_changes_the_id(void **state)
{
	(void)state;
	differs(change_weight);
	differs(change_port);
	differs(change_invert);
	differs(change_case);
	differs(change_kind);
	differs(change_label);
	differs(change_set);
	differs(change_remove);
	differs(change_redirect);
	differs(change_redirect_port);
	differs(change_body);
	differs(change_rewrite);
	differs(change_fault);
	differs(change_mirror);
	differs(change_cors);
	differs(change_retry);
	differs(change_timeout);
	differs(change_invalid);
	differs(change_ttl);
	differs(change_matches);
}

static void test_bad_regex_is_named(void **state)
{
	(void)state;
	struct http_vhost *v = full();
	struct err err = ERR_INIT;
	free(v->routes->matches->path->text);
	v->routes->matches->path->text = strdup("(a");
	assert_int_equal(http_vhost_seal(v, &err), -EINVAL);
	assert_non_null(strstr(err.text, "(a"));
	http_vhost_unref(v);
}

static struct l7_target *target(void)
{
	struct l7_target *t = l7_target_new();
	t->mode = L7_HTTP;
	t->service = strdup("shop/catalog.shop.svc.cluster.local");
	t->default_cluster = strdup("outbound|80||catalog");
	t->vhost = full();
	assert_int_equal(http_vhost_seal(t->vhost, NULL), 0);
	NEW(t->l4)->origin = strdup("a.yaml:1");
	t->l4_count = 1;
	NEW(t->l4->sni_hosts)[0] = strdup("*.example.com");
	t->l4->sni_host_count = 1;
	NEW(t->l4->destinations)->bits = 96;
	t->l4->destination_count = 1;
	NEW(t->l4->clusters)->cluster = strdup("outbound|443||x");
	t->l4->cluster_count = 1;
	return t;
}

static void test_target_id_is_of_its_contents(void **state)
{
	(void)state;
	struct l7_target *t[6];
	for (size_t i = 0; i < 6; i++)
		t[i] = target();
	t[2]->registry_only = true;
	t[3]->l4->destinations->bits = 97;
	t[4]->l4->sni_hosts[0][0] = 'a';
	t[5]->vhost->routes->timeout_ms = 1;
	assert_int_equal(http_vhost_seal(t[5]->vhost, NULL), 0);
	for (size_t i = 0; i < 6; i++)
		l7_target_seal(t[i]);
	assert_true(t[0]->id && t[0]->id == t[1]->id);
	for (size_t i = 2; i < 6; i++)
		assert_true(t[i]->id != t[0]->id);
	l7_target_unref(l7_target_ref(t[0]));
	for (size_t i = 0; i < 6; i++)
		l7_target_unref(t[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_contents_have_equal_ids),
		cmocka_unit_test(test_every_difference_changes_the_id),
		cmocka_unit_test(test_bad_regex_is_named),
		cmocka_unit_test(test_target_id_is_of_its_contents),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
