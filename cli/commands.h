/* SPDX-License-Identifier: Apache-2.0 */
/* The commands, one file each (cmd_<name>.c). Each returns an exit status. */
#pragma once

struct cli;

int cmd_status(struct cli *cli);
int cmd_get(struct cli *cli);
int cmd_describe(struct cli *cli);
int cmd_explain(struct cli *cli);
int cmd_flows(struct cli *cli);
int cmd_tap(struct cli *cli);
int cmd_top(struct cli *cli);
int cmd_tls_check(struct cli *cli);
int cmd_authz_check(struct cli *cli);
int cmd_proxy_config(struct cli *cli);
int cmd_cert_list(struct cli *cli);
int cmd_cert_show(struct cli *cli);
int cmd_cert_rotate(struct cli *cli);
int cmd_cert_revoke(struct cli *cli);
int cmd_analyze(struct cli *cli);
int cmd_config_history(struct cli *cli);
int cmd_config_diff(struct cli *cli);
int cmd_config_rollback(struct cli *cli);
int cmd_log(struct cli *cli);
int cmd_metrics(struct cli *cli);
int cmd_reasons(struct cli *cli);
int cmd_precheck(struct cli *cli);
int cmd_version(struct cli *cli);
int cmd_completion(struct cli *cli);
