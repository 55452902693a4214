/* SPDX-License-Identifier: Apache-2.0 */
/* Commands against canned answers: what is asked, what is printed, the exit status. */
/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
/* clang-format on */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "cli/cli.h"

static struct {
	const char *path; /* that must be asked for; NULL: any */
	const char *answer;
	const char *second; /* the answer to the next request after this; NULL: the same */
	long status;
	char asked[600], method[8], body[300], socket[256];
} canned;

static int fake_request(struct cli *cli, const char *method, const char *path, const char *json, long *status,
			char **body, char *why, size_t why_size)
{
	str_copy(canned.asked, sizeof(canned.asked), path);
	str_copy(canned.method, sizeof(canned.method), method);
	str_copy(canned.body, sizeof(canned.body), json ? json : "");
	str_copy(canned.socket, sizeof(canned.socket), cli->socket);
	if (!canned.answer) {
		str_copy(why, why_size, "no agent here");
		return -EIO;
	}
	*status = canned.status ? canned.status : 200;
	*body = strdup(canned.answer);
	if (canned.second)
		canned.answer = canned.second;
	return 0;
}

static int fake_stream(struct cli *cli, const char *path, bool (*on_line)(struct cli *cli, const char *line, void *arg),
		       void *arg, long *status, char **error_body, char *why, size_t why_size)
{
	(void)why, (void)why_size;
	str_copy(canned.asked, sizeof(canned.asked), path);
	*status = canned.status ? canned.status : 200;
	*error_body = *status == 200 ? NULL : strdup(canned.answer);
	if (*status != 200)
		return 0;
	AUTO(mem_freep) char *copy = strdup(canned.answer);
	char *save = NULL;
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (!on_line(cli, line, arg))
			break;
	return 0;
}

static const struct transport fake = { fake_request, fake_stream };

struct result {
	int rc;
	char *out, *err;
};

static void result_done(struct result *r)
{
	free(r->out);
	free(r->err);
}

/* Words are separated by blanks. */
static struct result run(const char *line, const char *answer)
{
	struct result r = { 0 };
	char *argv[32] = { (char *)"meshctl" };
	int argc = 1;
	size_t out_len, err_len;
	AUTO(mem_freep) char *copy = strdup(line);
	char *save = NULL;

	for (char *word = strtok_r(copy, " ", &save); word; word = strtok_r(NULL, " ", &save))
		argv[argc++] = word;
	canned.answer = answer;
	FILE *out = open_memstream(&r.out, &out_len), *err = open_memstream(&r.err, &err_len);
	r.rc = cli_main(argc, argv, out, err, &fake);
	fclose(out);
	fclose(err);
	return r;
}

static int setup(void **state)
{
	(void)state;
	memset(&canned, 0, sizeof(canned));
	unsetenv("WEFT_SOCKET");
	return 0;
}

static void prints(const char *line, const char *answer, int rc, const char *golden)
{
	AUTO(result_done) struct result r = run(line, answer);
	if (strcmp(r.out, golden) != 0)
		fail_msg("meshctl %s printed:\n%s\nwanted:\n%s\nerrors: %s", line, r.out, golden, r.err);
	assert_int_equal(r.rc, rc);
}

static void fails(const char *line, const char *answer, int rc, const char *says)
{
	AUTO(result_done) struct result r = run(line, answer);
	if (r.rc != rc || !strstr(r.err, says))
		fail_msg("meshctl %s: %d, %s; wanted %d, %s", line, r.rc, r.err, rc, says);
}

static void test_usage_mistakes_are_told_with_a_suggestion(void **state)
{
	(void)state;
	fails("stauts", "{}", 2, "did you mean \"status\"?");
	fails("proxyconfig all", "{}", 2, "did you mean \"proxy-config\"?");
	fails("cert lst", "{}", 2, "there is no command \"cert lst\"");
	fails("xyzzy", "{}", 2, "meshctl --help lists them");
	fails("", "{}", 2, "");
	fails("explain a", "{}", 2, "explain needs SOURCE DESTINATION");
	fails("explain a b c", "{}", 2, "\"c\" is one argument too many");
	fails("flows --folow", "{}", 2, "did you mean --follow?");
	fails("status -o xml", "{}", 2, "the formats are json, yaml and wide");
	fails("status --follow", "{}", 2, "there is no option --follow");
	fails("flows --last", "{}", 2, "--last needs its N");
	fails("flows --follow=1", "{}", 2, "takes no value");
	fails("config diff x", "{}", 2, "is no revision");
	fails("cert rotate", "{}", 2, "say which identity, or --all");
	fails("completion tcsh", "{}", 2, "bash, zsh and fish");
}

static void test_help_needs_no_agent(void **state)
{
	(void)state;
	static const char *const lines[] = { "--help", "help", "explain --help", "help cert list", "cert --help" };
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		AUTO(result_done) struct result r = run(lines[i], NULL);
		assert_int_equal(r.rc, 0);
		assert_true(strlen(r.out) > 100);
	}
}

static void test_every_command_has_help_with_an_example(void **state)
{
	(void)state;
	for (const struct command *c = NULL; (c = command_next(c));) {
		AUTO(mem_freep) char *line = str_format("%s --help", c->name);
		AUTO(result_done) struct result r = run(line, NULL);
		assert_int_equal(r.rc, 0);
		if (!strstr(r.out, "\n  meshctl ") && !strstr(r.out, "meshctl completion bash"))
			fail_msg("%s has no example", c->name);
	}
}

static void test_unreachable_agent_is_3(void **state)
{
	(void)state;
	fails("status", NULL, 3, "no agent here");
	fails("explain a b:1", NULL, 3, "no agent here");
	fails("status", "<html>", 3, "is no Weft agent");
}

static void test_refusals_of_the_agent_are_told(void **state)
{
	(void)state;
	canned.status = 404;
	fails("get workloads", "{\"error\":\"there is no such thing\"}", 1, "meshctl: there is no such thing\n");
	canned.status = 400;
	fails("explain a b", "{\"error\":\"say the port\"}", 2, "say the port");
	canned.status = 403;
	fails("log debug", "{\"error\":\"only root may change anything here\"}", 1, "only root");
	fails("flows", "{\"error\":\"only root\"}", 1, "only root");
}

static void test_socket_comes_from_option_instance_or_environment(void **state)
{
	(void)state;
	static const struct {
		const char *line, *env, *socket;
	} cases[] = {
		{ "log", NULL, "/run/weft/weft.sock" },
		{ "log", "/x/y.sock", "/x/y.sock" },
		{ "--socket /a/b log", "/x/y.sock", "/a/b" },
		{ "log --socket=/a/b", NULL, "/a/b" },
		{ "--instance two log", "/x/y.sock", "/run/weft-two/weft.sock" },
		{ "log --instance default", NULL, "/run/weft/weft.sock" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (cases[i].env)
			setenv("WEFT_SOCKET", cases[i].env, 1);
		else
			unsetenv("WEFT_SOCKET");
		AUTO(result_done) struct result r = run(cases[i].line, "{\"level\":\"info\"}");
		assert_int_equal(r.rc, 0);
		assert_string_equal(canned.socket, cases[i].socket);
		assert_string_equal(r.out, "info\n");
	}
}

static void test_arguments_are_escaped(void **state)
{
	(void)state;
	AUTO(result_done) struct result r = run("explain fe/x [fd00::1]:80&a=b -p udp", "{}");
	assert_string_equal(canned.asked,
			    "/v1/explain?source=fe%2Fx&destination=%5Bfd00%3A%3A1%5D%3A80%26a%3Db&proto=udp");
}

static const char status_json[] =
	"{\"node\":\"node-a\",\"instance\":\"default\",\"version\":\"v1\",\"uptime_s\":3700,\"ready\":true,"
	"\"config\":{\"dir\":\"/etc/"
	"weft\",\"revision\":12,\"settled\":true,\"resources\":34,\"rejected\":1,\"warnings\":0,"
	"\"problems\":[{\"key\":\"AuthorizationPolicy/shop/two\",\"origin\":\"71.yaml:9\",\"text\":\"spec.action: "
	"\\\"REFUSE\\\" is "
	"none of ALLOW, DENY, AUDIT\",\"warning\":false,\"last_good\":true}]},"
	"\"helper\":{\"pid\":42,\"ready\":true,\"uptime_s\":65,\"restarts\":1,\"draining\":0,\"orphans\":0},"
	"\"pods\":{\"local\":3,\"enrolled\":3,\"ready\":3,\"failed\":[]},\"trust_domain\":\"cluster.local\","
	"\"services\":4,"
	"\"workloads\":6,\"connections\":{\"direct\":1,\"attested\":20,\"hbone\":3,\"plaintext\":0},\"accepted\":{"
	"\"direct\":0,\"attested\":20,\"hbone\":7,\"plaintext\":0},\"drops\":{"
	"\"policy_deny\":2},"
	"\"maps\":[{\"name\":\"services\",\"entries\":1000,\"max_entries\":1024},{\"name\":\"pods\",\"entries\":3,"
	"\"max_entries\":64}]}";

static void test_status_reads_like_a_report(void **state)
{
	(void)state;
	prints("status", status_json, 1,
	       "Agent          ready     node node-a, v1, instance default, up 1h1m\n"
	       "Helper         ready     pid 42, up 1m5s, 1 restart\n"
	       "Configuration  problems  revision 12, 34 resources from /etc/weft, 1 rejected\n"
	       "Pods           3/3       ready on this node, of 6 workloads in all\n"
	       "Mesh                     4 services, trust domain cluster.local\n"
	       "Opened         24        1 direct, 20 attested, 3 hbone\n"
	       "Accepted       27        20 attested, 7 hbone\n"
	       "Refused        2         2 policy_deny\n"
	       "Table          filling   services: 1000 of 1024 entries\n"
	       "\n"
	       "Rejected AuthorizationPolicy/shop/two  71.yaml:9\n"
	       "    spec.action: \"REFUSE\" is none of ALLOW, DENY, AUDIT\n"
	       "    The last good version stays in force.\n");
}

static const char explain_json[] =
	"{\"verdict\":\"refused\",\"path\":\"attested\",\"source\":{\"workload\":\"shop/"
	"frontend-1\",\"address\":\"10.50.1.10\","
	"\"identity\":\"spiffe://cluster.local/ns/shop/sa/frontend\",\"node\":\"node-a\"},"
	"\"destination\":{\"asked\":\"10.60.0.30:7000\",\"protocol\":\"tcp\",\"service\":{\"hostname\":"
	"\"payments.shop.svc.cluster.local\",\"kind\":\"Service\",\"origin\":\"00.yaml:9\",\"load_balancing\":"
	"\"RANDOM\"},"
	"\"endpoints\":[{\"address\":\"10.50.1.30:7000\",\"workload\":\"shop/"
	"payments-1\",\"node\":\"node-a\",\"share\":1.0,"
	"\"healthy\":true,\"chosen\":true}],\"workload\":\"shop/payments-1\","
	"\"identity\":\"spiffe://cluster.local/ns/shop/sa/payments\"},\"outbound\":{\"allowed\":true},"
	"\"inbound\":{\"mtls_mode\":\"STRICT\",\"mtls_origin\":\"PeerAuthentication/shop/default "
	"(11.yaml:1)\",\"allowed\":false,"
	"\"reason\":\"policy_deny\",\"help\":\"A DENY rule "
	"matched.\",\"rule\":{\"action\":\"DENY\",\"name\":\"shop/no-strangers\","
	"\"origin\":\"12.yaml:20\",\"rule\":0}},\"notes\":[\"A note.\"]}";

static void test_explain_tells_a_story(void **state)
{
	(void)state;
	prints("explain frontend payments:7000", explain_json, 1,
	       "frontend -> payments:7000: refused\n"
	       "\n"
	       "  Source       shop/frontend-1 (10.50.1.10) on node-a\n"
	       "               spiffe://cluster.local/ns/shop/sa/frontend\n"
	       "  Destination  Service payments.shop.svc.cluster.local, called at 10.60.0.30:7000/tcp\n"
	       "               defined in 00.yaml:9, RANDOM\n"
	       "  Endpoints    *  10.50.1.30:7000  shop/payments-1  node-a  100%  healthy\n"
	       "  Path         attested: both on this node; the kernel vouches for the caller, no TLS\n"
	       "  Peer         must be spiffe://cluster.local/ns/shop/sa/payments\n"
	       "  mTLS         STRICT, from PeerAuthentication/shop/default (11.yaml:1)\n"
	       "  Policy       refused by DENY shop/no-strangers, rule 1 (12.yaml:20)\n"
	       "               policy_deny: A DENY rule matched.\n"
	       "  Note         A note.\n");
}

static const char http_json[] =
	"{\"verdict\":\"refused\",\"source\":{\"workload\":\"shop/"
	"fe-1\",\"address\":\"10.0.0.1\",\"identity\":\"spiffe://t/fe\","
	"\"node\":\"a\"},\"destination\":{\"asked\":\"10.6.0.2:80\",\"protocol\":\"tcp\",\"service\":null,\"workload\":"
	"null},"
	"\"request\":{\"method\":\"POST\",\"authority\":\"web\",\"path\":\"/"
	"x\",\"query\":\"a=1\",\"headers\":{\"x-a\":\"1\"}},"
	"\"target\":{\"routes\":5},\"routes\":[{\"index\":0,\"name\":\"canary\",\"origin\":\"v.yaml:7\",\"owner\":"
	"\"VirtualService "
	"shop/web\",\"taken\":false,\"tried\":[{\"conditions\":\"header x-canary = true\",\"why_not\":\"header "
	"x-canary is "
	"absent\"}]},{\"index\":1,\"name\":\"rest\",\"origin\":\"v.yaml:12\",\"owner\":\"VirtualService "
	"shop/web\",\"taken\":true,"
	"\"tried\":[{\"conditions\":\"every request\",\"why_not\":null}]}],"
	"\"route\":{\"action\":\"outbound|80||web\",\"retries\":\"2 on reset\"},"
	"\"clusters\":[{\"name\":\"outbound|80||web\",\"share\":1.0,\"exists\":true,\"endpoint_count\":2,\"endpoints\":"
	"["
	"{\"address\":\"10.0.0.2:8080\",\"workload\":\"shop/web-1\",\"node\":\"a\",\"version\":\"v1\",\"healthy\":true,"
	"\"ejected\":true,\"ejected_for_s\":9.6},{\"address\":\"10.0.0.3:8080\",\"workload\":\"shop/"
	"web-2\",\"node\":\"b\","
	"\"healthy\":true,\"ejected\":false}]}],"
	"\"inbound\":[{\"workload\":\"shop/web-1\",\"endpoint\":\"10.0.0.2:8080\",\"allowed\":false,\"peer\":\"spiffe:/"
	"/t/fe\","
	"\"mtls_mode\":\"STRICT\",\"mtls_origin\":\"shop/default\",\"reason\":\"policy_deny\",\"help\":\"A rule denies "
	"it.\","
	"\"rule\":{\"action\":\"DENY\",\"name\":\"shop/"
	"no-post\",\"origin\":\"p.yaml:3\",\"rule\":0},\"custom\":[],\"rules\":["
	"{\"action\":\"DENY\",\"name\":\"shop/no-post\",\"origin\":\"p.yaml:3\",\"rule\":0,\"why_not\":null},"
	"{\"action\":\"ALLOW\",\"name\":\"shop/get\",\"origin\":\"p.yaml:9\",\"rule\":0,\"why_not\":\"methods\"}],"
	"\"token\":{\"matters\":false,\"issuers\":[]},\"filters\":[{\"kind\":\"script\",\"name\":\"shop/"
	"lua\",\"origin\":"
	"\"e.yaml:2\"},{\"kind\":\"local_limit\",\"name\":\"shop/l[0]\",\"text\":\"5 at once\"}]}],"
	"\"filters\":[{\"kind\":\"global_limit\",\"name\":\"shop/g[0]\",\"text\":\"asks x\"}],\"notes\":[\"A note.\"]}";

static void test_explain_a_url_tells_routes_endpoints_and_rules(void **state)
{
	(void)state;
	prints("explain fe http://web/x?a=1 -X POST -H X-A:1 -H X-B:2", http_json, 1,
	       "fe -> POST http://web/x?a=1: refused\n\n"
	       "  Source       shop/fe-1 (10.0.0.1) on a\n"
	       "               spiffe://t/fe\n"
	       "  Destination  10.6.0.2:80/tcp\n"
	       "  Request      POST /x?a=1, Host: web\n"
	       "               x-a: 1\n"
	       "  Routes       - canary  VirtualService shop/web (v.yaml:7)\n"
	       "                   header x-canary = true  no: header x-canary is absent\n"
	       "               * rest  VirtualService shop/web (v.yaml:12)\n"
	       "                   every request  yes\n"
	       "                 3 more behind it\n"
	       "  Filters      global limit shop/g[0]: asks x\n"
	       "  Action       outbound|80||web\n"
	       "  Retries      2 on reset\n"
	       "  Cluster      outbound|80||web, 100 %\n"
	       "                 10.0.0.2:8080  shop/web-1  v1  a  ejected (10 s)\n"
	       "                 10.0.0.3:8080  shop/web-2  -   b  healthy\n"
	       "  Destination  shop/web-1 at 10.0.0.2:8080, the caller being spiffe://t/fe\n"
	       "  mTLS         STRICT, from shop/default\n"
	       "  Policy       refused by DENY shop/no-post, rule 1 (p.yaml:3)\n"
	       "               policy_deny: A rule denies it.\n"
	       "                 DENY shop/no-post, rule 1 (p.yaml:3): matches\n"
	       "                 ALLOW shop/get, rule 1 (p.yaml:9): does not match: methods\n"
	       "  Filters      script shop/lua (e.yaml:2)\n"
	       "               local limit shop/l[0]: 5 at once\n"
	       "  Note         A note.\n");
	assert_string_equal(
		canned.asked,
		"/v1/http/explain?source=fe&url=http%3A%2F%2Fweb%2Fx%3Fa%3D1&method=POST&headers=X-A%3A1%0AX-B%3A2%0A");
	prints("explain fe http://web/ -o json", "{\"verdict\":\"allowed\"}", 0, "{\n  \"verdict\": \"allowed\"\n}\n");
	fails("explain fe web:80 -X POST", "{}", 2, "give a URL, http://web:80/");
	fails("explain fe http://web/ -p udp", "{}", 2, "--proto is for connections");
}

static void test_routes_have_a_row_for_each_match(void **state)
{
	(void)state;
	static const char json[] = "{\"items\":[{\"service\":\"web.shop\",\"port\":80,\"mode\":\"http\",\"routes\":[{"
				   "\"name\":\"a\",\"origin\":\"v.yaml:7\","
				   "\"matches\":[\"path = /a\",\"path = /b\"],\"action\":\"answer "
				   "200\"},{\"name\":\"b\",\"origin\":null,\"matches\":[],"
				   "\"action\":\"outbound|80||web\"}]}]}";
	prints("proxy-config routes fe -n shop --service web", json, 0,
	       "HOST:PORT    MODE  ROUTE  MATCH      ACTION            FROM\n"
	       "web.shop:80  http  a      path = /a  answer 200        v.yaml:7\n"
	       "                          path = /b                    \n"
	       "web.shop:80  http  b      *          outbound|80||web  -\n");
	assert_string_equal(canned.asked, "/v1/http/routes?workload=shop%2Ffe&service=web");
	fails("proxy-config clusters fe", "{}", 2, "only routes are a workload's");
}

static void test_tap_prints_a_line_for_each_request(void **state)
{
	(void)state;
	static const char lines[] =
		"{\"time\":\"2026-11-21T12:00:01.123Z\",\"method\":\"GET\",\"authority\":\"web\",\"path\":\"/"
		"x\",\"status\":503,"
		"\"flags\":\"UF\",\"details\":\"connect "
		"failed\",\"duration_ms\":7,\"endpoint\":\"10.0.0.2:8080\",\"route\":\"r\","
		"\"reporter\":\"source\",\"pod\":\"shop/fe-1\"}\n"
		"{\"lost\":4}\n"
		"{\"time\":\"2026-11-21T12:00:02.000Z\",\"method\":\"GET\",\"path\":\"/"
		"y\",\"status\":200,\"flags\":null,"
		"\"duration_ms\":1,\"reporter\":\"destination\",\"pod\":\"shop/web-1\",\"peer\":\"spiffe://t/fe\"}\n"
		"{\"status\":204}\n";
	prints("tap web -n shop --filter a>1 --rate 5 --count 2", lines, 0,
	       "12:00:01.123 503 GET web/x  7 ms  shop/fe-1 -> 10.0.0.2:8080  r\n"
	       "    UF, connect failed\n"
	       "12:00:02.000 200 GET /y  1 ms  spiffe://t/fe -> shop/web-1 at -  -\n");
	assert_true(str_starts(canned.asked, "/v1/tap?filter=%28a%3E1%29%20%26%26%20%28node.id.contains%28%27%2Fweb"));
	assert_true(str_ends(canned.asked, "&rate=5"));
	fails("tap", "{\"error\":\"the filter can't be read\"}", 2, "can't be read");
	fails("tap x'y", "", 2, "no name");
	fails("tap --rate 0", "", 2, "--rate 0");
	canned.status = 503;
	fails("tap", "{\"error\":\"end one of them\"}", 1, "end one of them");
}

static void test_top_prints_one_table_when_piped(void **state)
{
	(void)state;
	prints("top --interval 0.01", "istio_requests_total{reporter=\"source\",destination_service=\"a\"} 3\n", 0,
	       "No requests in the last 0.01 s.\n");
	assert_string_equal(canned.asked, "/metrics");
	/* A counter that goes back has begun anew: the second reading is what came since. */
	canned.second = "istio_requests_total{reporter=\"source\",destination_service=\"a\",response_code=\"503\"} 2\n";
	AUTO(result_done) struct result r =
		run("top -i 0.01", "istio_requests_total{reporter=\"source\",destination_service=\"a\"} 3\n");
	assert_int_equal(r.rc, 0);
	assert_true(str_starts(r.out, "SERVICE  REQUESTS/S  SUCCESS"));
	assert_non_null(strstr(r.out, "\na        "));
	assert_non_null(strstr(r.out, "0.00%"));
	fails("top --by pod", "", 2, "service, workload or source");
	fails("top --interval x", "", 2, "--interval x");
	fails("top --reporter proxy", "", 2, "source or destination");
}

static void test_explain_bare_source_takes_the_namespace(void **state)
{
	(void)state;
	AUTO(result_done) struct result r = run("explain -n shop frontend payments:7000", explain_json);
	assert_true(str_starts(canned.asked, "/v1/explain?source=shop%2Ffrontend&"));
	assert_int_equal(r.rc, 1);
}

static void test_flows_are_lines(void **state)
{
	(void)state;
	prints("flows --last 5 --verdict refused",
	       "{\"sequence\":7,\"time\":\"2026-11-21T12:56:23.827561Z\",\"event\":\"refused\",\"path\":\"attested\","
	       "\"protocol\":\"tcp\","
	       "\"source\":{\"workload\":\"shop/"
	       "f-1\",\"address\":\"10.0.0.1\",\"port\":4000},\"destination\":{\"workload\":null,"
	       "\"address\":\"fd00::1\",\"port\":7000},\"service\":null,\"reason\":\"policy_deny\",\"rule\":\"shop/"
	       "no\","
	       "\"rule_origin\":\"1.yaml:2\"}\n"
	       "\n"
	       "{\"sequence\":9,\"time\":\"2026-11-21T12:56:24.000000Z\",\"event\":\"closed\",\"path\":\"hbone\","
	       "\"protocol\":\"tcp\","
	       "\"source\":{\"workload\":\"shop/f-1\",\"port\":4001},\"destination\":{\"workload\":\"shop/"
	       "c-1\",\"port\":80},"
	       "\"service\":\"c.shop\",\"sent_bytes\":2048,\"received_bytes\":5,\"duration_ms\":3.2,\"rtt_us\":44,"
	       "\"retransmits\":0}\n",
	       0,
	       "12:56:23.827 refused attested  tcp shop/f-1:4000 -> [fd00::1]:7000  policy_deny by shop/no (1.yaml:2)\n"
	       "12:56:24.000 closed  hbone     tcp shop/f-1:4001 -> shop/c-1:80 (c.shop)  sent 2.0 KiB, received 5 B, "
	       "3 ms, "
	       "rtt 44 us\n");
	assert_string_equal(canned.asked, "/v1/flows?last=5&verdict=refused&unique=1");
}

static void test_get_workloads_is_a_table(void **state)
{
	(void)state;
	prints("get wl",
	       "{\"items\":[{\"namespace\":\"shop\",\"name\":\"frontend-1\",\"node\":\"node-a\",\"state\":\"ready\","
	       "\"addresses\":"
	       "[\"10.50.1.10\",\"fd50::10\"],\"reached_by\":\"attested\"},{\"namespace\":\"shop\",\"name\":\"c\","
	       "\"node\":null,"
	       "\"enrolled\":true,\"addresses\":[\"10.1.1.1\"],\"reached_by\":\"hbone\"}]}",
	       0,
	       "NAMESPACE  NAME        NODE    STATE   ADDRESSES             REACHED BY\n"
	       "shop       frontend-1  node-a  ready   10.50.1.10, fd50::10  attested\n"
	       "shop       c           -       remote  10.1.1.1              hbone\n");
	assert_string_equal(canned.asked, "/v1/workloads");
}

static void test_get_text_from_elsewhere_cannot_drive_the_terminal(void **state)
{
	(void)state;
	prints("get ap",
	       "{\"items\":[{\"kind\":\"A\",\"namespace\":\"n\",\"name\":\"x\\u001b[31m\",\"origin\":\"f\"}]}", 0,
	       "KIND  NAMESPACE  NAME    DEFINED IN\n"
	       "A     n          x?[31m  f\n");
}

static void test_yaml_quotes_what_would_be_read_as_something_else(void **state)
{
	(void)state;
	prints("get workloads -o yaml",
	       "{\"items\":[{\"a\":\"plain text\",\"b\":\"10.0.0.1\",\"c\":\"yes\",\"d\":\"x: "
	       "y\",\"e\":\"\",\"f\":[],\"g\":{},\"h\":7,"
	       "\"i\":null,\"j\":{\"k\":[1,{\"l\":\"#no\"}]}}]}",
	       0,
	       "items:\n- a: plain text\n  b: \"10.0.0.1\"\n  c: \"yes\"\n  d: \"x: y\"\n  e: \"\"\n  f: []\n  g: {}\n "
	       " h: 7\n  i: null\n"
	       "  j:\n    k:\n    - 1\n    - l: \"#no\"\n");
}

static void test_get_resource_yaml_is_its_text(void **state)
{
	(void)state;
	prints("get authorizationpolicy x -n shop -o yaml",
	       "{\"key\":\"AuthorizationPolicy/shop/x\",\"origin\":\"1.yaml:2\",\"text\":\"kind: "
	       "AuthorizationPolicy\\n\"}",
	       0, "# 1.yaml:2\nkind: AuthorizationPolicy\n");
	assert_string_equal(canned.asked, "/v1/resources/authorizationpolicy/shop/x");
}

static void test_authz_check_exit_status_is_the_verdict(void **state)
{
	(void)state;
	prints("authz check a b:1",
	       "{\"items\":[{\"workload\":\"shop/"
	       "b\",\"port\":1,\"allowed\":true,\"default_allow\":true,\"rule\":null}]}",
	       0, "shop/b port 1: allowed: no ALLOW policy selects the workload\n");
	prints("authz check a b:1",
	       "{\"items\":[{\"workload\":\"shop/"
	       "b\",\"port\":1,\"allowed\":false,\"reason\":\"policy_no_allow\",\"rule\":null,"
	       "\"allow_policies\":\"shop/x\"}]}",
	       1, "shop/b port 1: refused: no rule of its ALLOW policies matches (shop/x)\n");
	prints("authz check a b:1",
	       "{\"items\":[{\"workload\":\"shop/b\",\"allowed\":null,\"problem\":\"elsewhere\",\"node\":\"n2\"}]}", 1,
	       "shop/b: elsewhere, on n2\n");
}

static void test_tls_check_conflict_is_1(void **state)
{
	(void)state;
	prints("authn tls-check",
	       "{\"items\":[{\"host\":\"a.b\",\"port\":80,\"protocol\":\"tcp\",\"status\":\"CONFLICT\",\"server\":"
	       "\"STRICT\",\"client\":"
	       "\"plaintext\",\"policy\":\"p\"}]}",
	       1,
	       "HOST:PORT  STATUS    SERVER  CLIENT     AUTHN POLICY\n"
	       "a.b:80     CONFLICT  STRICT  plaintext  p\n");
}

static void test_changes_send_json(void **state)
{
	(void)state;
	AUTO(result_done) struct result level = run("log debug", "{\"level\":\"debug\"}");
	assert_string_equal(canned.method, "PUT");
	assert_string_equal(canned.body, "{\"level\":\"debug\"}");
	AUTO(result_done) struct result back = run("config rollback 41", "{}");
	assert_string_equal(canned.asked, "/v1/config/rollback");
	assert_string_equal(canned.body, "{\"revision\":41}");
	AUTO(result_done) struct result revoke = run("cert revoke 00ff", "{}");
	assert_string_equal(canned.body, "{\"serial\":\"00ff\"}");
	AUTO(result_done) struct result rotate = run("cert rotate spiffe://td/ns/a/sa/b", "{}");
	assert_string_equal(canned.body, "{\"identity\":\"spiffe://td/ns/a/sa/b\"}");
	AUTO(result_done) struct result all = run("cert rotate --all", "{}");
	assert_string_equal(canned.body, "{}");
}

static void test_diff_exit_status_tells_differences(void **state)
{
	(void)state;
	prints("config diff 1 2", "-a\n+b\n", 1, "-a\n+b\n");
	prints("config diff 1 2", "", 0, "No differences.\n");
}

static void test_precheck_missing_is_1(void **state)
{
	(void)state;
	prints("precheck",
	       "{\"ok\":false,\"items\":[{\"what\":\"BTF\",\"ok\":false,\"required\":true,\"detail\":\"CONFIG_DEBUG_"
	       "INFO_BTF is off\"},"
	       "{\"what\":\"kTLS\",\"ok\":false,\"required\":false,\"detail\":\"modprobe "
	       "tls\"},{\"what\":\"kernel\",\"ok\":true,"
	       "\"required\":true}]}",
	       1,
	       "MISSING  BTF\n         CONFIG_DEBUG_INFO_BTF is off\nabsent   kTLS (optional)\n         modprobe "
	       "tls\nok       kernel\n"
	       "\nWeft can't run here until what is missing is there.\n");
}

static void test_analyze_warning_is_1(void **state)
{
	(void)state;
	prints("analyze", "{\"items\":[]}", 0, "Nothing odd was found.\n");
	prints("analyze -n shop",
	       "{\"items\":[{\"severity\":\"warning\",\"key\":\"Service/shop/x\",\"origin\":\"1.yaml:2\",\"text\":\"no "
	       "endpoints\"}]}",
	       1, "warning Service/shop/x  1.yaml:2\n        no endpoints\n");
	assert_string_equal(canned.asked, "/v1/analyze?namespace=shop");
}

static void test_metrics_filter(void **state)
{
	(void)state;
	prints("metrics --filter weft_b", "weft_a 1\nweft_b 2\n# EOF", 0, "weft_b 2\n");
}

static void test_completion_knows_every_command(void **state)
{
	(void)state;
	static const char *const shells[] = { "bash", "zsh", "fish" };
	for (size_t i = 0; i < ARRAY_SIZE(shells); i++) {
		AUTO(mem_freep) char *line = str_format("completion %s", shells[i]);
		AUTO(result_done) struct result r = run(line, NULL);
		assert_int_equal(r.rc, 0);
		for (const struct command *c = NULL; (c = command_next(c));) {
			const char *space = strrchr(c->name, ' ');
			if (!strstr(r.out, space ? space + 1 : c->name))
				fail_msg("%s does not complete %s", shells[i], c->name);
		}
	}
}

static void test_completion_bash_completes_words(void **state)
{
	(void)state;
	AUTO(result_done) struct result r = run("completion bash", NULL);
	char path[] = "/tmp/weft-test-completion-XXXXXX";
	FILE *f = fdopen(mkstemp(path), "w");
	fputs(r.out, f);
	fputs("COMP_WORDS=(meshctl -n shop cert r) COMP_CWORD=4; _meshctl; echo \"${COMPREPLY[*]}\"\n"
	      "COMP_WORDS=(meshctl st) COMP_CWORD=1; _meshctl; echo \"${COMPREPLY[*]}\"\n"
	      "COMP_WORDS=(meshctl flows --fo) COMP_CWORD=2; _meshctl; echo \"${COMPREPLY[*]}\"\n",
	      f);
	fclose(f);
	AUTO(mem_freep) char *command = str_format("bash %s", path);
	FILE *p = popen(command, "r");
	char out[200] = "";
	size_t n = fread(out, 1, sizeof(out) - 1, p);
	out[n] = 0;
	pclose(p);
	remove(path);
	assert_string_equal(out, "rotate revoke\nstatus\n--follow\n");
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_usage_mistakes_are_told_with_a_suggestion),
		T(test_help_needs_no_agent),
		T(test_every_command_has_help_with_an_example),
		T(test_unreachable_agent_is_3),
		T(test_refusals_of_the_agent_are_told),
		T(test_socket_comes_from_option_instance_or_environment),
		T(test_arguments_are_escaped),
		T(test_status_reads_like_a_report),
		T(test_explain_tells_a_story),
		T(test_explain_a_url_tells_routes_endpoints_and_rules),
		T(test_routes_have_a_row_for_each_match),
		T(test_tap_prints_a_line_for_each_request),
		T(test_top_prints_one_table_when_piped),
		T(test_explain_bare_source_takes_the_namespace),
		T(test_flows_are_lines),
		T(test_get_workloads_is_a_table),
		T(test_get_text_from_elsewhere_cannot_drive_the_terminal),
		T(test_yaml_quotes_what_would_be_read_as_something_else),
		T(test_get_resource_yaml_is_its_text),
		T(test_authz_check_exit_status_is_the_verdict),
		T(test_tls_check_conflict_is_1),
		T(test_changes_send_json),
		T(test_diff_exit_status_tells_differences),
		T(test_precheck_missing_is_1),
		T(test_analyze_warning_is_1),
		T(test_metrics_filter),
		T(test_completion_knows_every_command),
		T(test_completion_bash_completes_words),
	};
	return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
