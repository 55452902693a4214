/* SPDX-License-Identifier: Apache-2.0 */
/* Verdicts and rules of policies as sentences. Pure; the caller frees, never NULL. */
#pragma once

struct cli;
struct json_t;

char *policy_rule_text(const struct json_t *rule);	 /* "ALLOW shop/payments-callers, rule 1 (12-authz.yaml:9)" */
char *policy_verdict_text(const struct json_t *verdict); /* "allowed by ...", "refused: ..." */
/* NAME, with -n's namespace in front when it has none; caller frees. */
char *qualified(const struct cli *cli, const char *name);
