/* SPDX-License-Identifier: Apache-2.0 */
/* The first token of a helper's life is verified in its sandbox: no library may open a file or make a call then that the
 * helper is killed for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/helper/filter/jwt_keys.h"
#include "agent/helper/sandbox_calls.h"

/* Made elsewhere, so that this process has used no library yet; tests/fuzz/corpus/jwt has them too. */
static const struct {
	const char *keys, *token;
} rows[] = {
	{ "{\"keys\": [{\"kty\": \"EC\", \"crv\": \"P-256\", \"kid\": \"1\", \"x\": \"byaR5QxFUlZ8ynPCDR2G8LhvPpgRRGcc"
	  "xFs5ujMNC1s\", \"y\": \"a2FzngSVd5cRXPNn1uFIvPe1LEbBrT9XIuFTrzPszgU\"}]}",
	  "eyJhbGciOiAiRVMyNTYiLCAia2lkIjogIjEifQ.eyJpc3MiOiAiaSIsICJzdWIiOiAicyIsICJhdWQiOiBbIndlYiJ"
	  "dLCAiZXhwIjogMTkwMDAwMDAwMCwgIm5iZiI6IDEuNSwgInNjb3BlIjogImEgYiIsICJzY3AiOiAieCAgeSIsICJhI"
	  "jogeyJiIjogWyJjIiwgMV19fQ.jrP2xiBK26eUfeLz3gvnxD46ae0jQP56ogIwZ92sCnXUl6t7PHuw-Fht_8JuLPVf"
	  "n_W3a7DXT4BrWzS4on0QXg" },
	{ "{\"keys\": [{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"x\": \"XLLPZba83_iWEvsppw5nPeAlc5SrDhpawxpck0TNp"
	  "oo\"}]}",
	  "eyJhbGciOiAiRWREU0EifQ.eyJpc3MiOiAiaSIsICJzdWIiOiAicyIsICJhdWQiOiBbIndlYiJdLCAiZXhwIjogMTk"
	  "wMDAwMDAwMCwgIm5iZiI6IDEuNSwgInNjb3BlIjogImEgYiIsICJzY3AiOiAieCAgeSIsICJhIjogeyJiIjogWyJjI"
	  "iwgMV19fQ.zy0_ndswUpAihmr7sOj8VZSIBE3rvjf7lWuLOL7-zSRgsdiotn1GJ2E5GmXCUIqnAIdjEh8eQslUYLEa"
	  "q7fKBQ" },
	{ "{\"keys\": [{\"kty\": \"RSA\", \"use\": \"sig\", \"n\": \"wLLfXLT2Dj6swjTBtkz9uLssJKQmuz7QeArOpt1NEW2I4"
	  "RWui0QbWPy2HFwk1YvEqe_BpfU_JIDkFGn3m4MGIzKorB6nNYEjmo3RoeAu1bdDfhvKoq758DQ5W5yInslMqrd8wiP"
	  "6FydjGVhlAomZythbeh4gqQA1KwJig1yJ4c_EbHSiJ5s1MrjfWw7MeLs5eGWEEXxIK6rUoce-eSq1PN7rJLBEouKg-"
	  "CueqawbYwC9x9dgaejPMeK7NeJcDj5HLyLAOimW7rWJCzE7MvR4mGWRMeF2uyUUiCgj3qU-LmyajMPm5i6QeufKqIt"
	  "I4geDg3S3vVGy33SNT0WZf4HvFQ\", \"e\": \"AQAB\"}]}",
	  "eyJhbGciOiAiUlMyNTYifQ.eyJpc3MiOiAiaSIsICJzdWIiOiAicyIsICJhdWQiOiBbIndlYiJdLCAiZXhwIjogMTk"
	  "wMDAwMDAwMCwgIm5iZiI6IDEuNSwgInNjb3BlIjogImEgYiIsICJzY3AiOiAieCAgeSIsICJhIjogeyJiIjogWyJjI"
	  "iwgMV19fQ.BH_tFnI6ClgD0Y0O1-N7Xe3-HBVbnEcnR6nokL6dWkSSRA6bQ1GFnuetfz1-_2xQRJ-9dM6uEz-G4T7h"
	  "AzMtg7sMScu4fBEZTVCtPc419-yFLiETjFEWXRrT6A85HmiJ1CmnKrsfkL3Mh4pwpyi1KTflg7_OszqzIFiIOnCffd"
	  "0uJJo_A3koLQKOZCXV5i257nnCfjWhR3_nUw-adQ4uq5UW58MZeNYLpWJBtOXbvGIIL_lm_w1z5bIuk8FbKWT0TqP-"
	  "w1aPVKQPS4DVUEgey6czOjjPInlmmWVDItDTFuWxD7jv7Ty20evWPSazychkCM9IU_RG4xDNZgaQraXpiQ" },
	{ "{\"keys\": [{\"kty\": \"RSA\", \"use\": \"sig\", \"n\": \"wLLfXLT2Dj6swjTBtkz9uLssJKQmuz7QeArOpt1NEW2I4"
	  "RWui0QbWPy2HFwk1YvEqe_BpfU_JIDkFGn3m4MGIzKorB6nNYEjmo3RoeAu1bdDfhvKoq758DQ5W5yInslMqrd8wiP"
	  "6FydjGVhlAomZythbeh4gqQA1KwJig1yJ4c_EbHSiJ5s1MrjfWw7MeLs5eGWEEXxIK6rUoce-eSq1PN7rJLBEouKg-"
	  "CueqawbYwC9x9dgaejPMeK7NeJcDj5HLyLAOimW7rWJCzE7MvR4mGWRMeF2uyUUiCgj3qU-LmyajMPm5i6QeufKqIt"
	  "I4geDg3S3vVGy33SNT0WZf4HvFQ\", \"e\": \"AQAB\"}]}",
	  "eyJhbGciOiAiUFMyNTYifQ.eyJpc3MiOiAiaSIsICJzdWIiOiAicyIsICJhdWQiOiBbIndlYiJdLCAiZXhwIjogMTk"
	  "wMDAwMDAwMCwgIm5iZiI6IDEuNSwgInNjb3BlIjogImEgYiIsICJzY3AiOiAieCAgeSIsICJhIjogeyJiIjogWyJjI"
	  "iwgMV19fQ.u1m-SuOKwfaVCPpttJS8hnKRmDfrzXXKewJajwzV3vlfjeHLwfGCn2EPh0sRqBvTy__f52tZNdDiDHsE"
	  "uHtxGI51k5ad-2zn2FfKbQdjDXAXcph3_OJXlxslQPHBv1e01mm79dkQ73Mj1hOl1AYWzD8O9S0aFmp_ffsnSkI6Jb"
	  "oyc_zrvfO99vkWmWoAFjWE98pRPd-TTlfMM5XejCljisZ8LbJNpdSYwgqMFa_eeuExP1T-OCZ-TMucuHJymoQZMKg0"
	  "PMXZBSaSYTdiJJoYPyjw9NWhnQsU64Q3tB5KRHJ06wazvV23mbJxvusPsVi5ZpAGdP3QKHcCloeNe_pT-A" },
	{ "{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2VjcmV0\"}]}",
	  "eyJhbGciOiAiSFMyNTYifQ.eyJhdWQiOiAiaHR0cHM6Ly93ZWIvIn0.58xr_Nrk-YtGofEGE2MI0d7np4tbtjvvUdX"
	  "Kx6JSeKM" },
};

static int child(void)
{
	struct err err = ERR_INIT;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || sandbox_calls_restrict(&err) < 0)
		return 2;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct jwt_keys *keys = NULL;
		struct jwt_token t;
		if (jwt_keys_parse(rows[i].keys, strlen(rows[i].keys), true, &keys, NULL) < 0 ||
		    jwt_token_parse(rows[i].token, strlen(rows[i].token), &t) != JWT_OK)
			return 3;
		if (jwt_keys_verify(keys, &t) != JWT_OK)
			return 10 + (int)i;
		jwt_token_done(&t);
		jwt_keys_free(keys);
	}
	return 0;
}

static void test_tokens_are_verified_in_the_sandbox(void **state)
{
	(void)state;
	int status = 0;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(child());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_tokens_are_verified_in_the_sandbox) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
