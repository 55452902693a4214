/* SPDX-License-Identifier: Apache-2.0 */
/* What explaining a connection and explaining a request have in common. */
#pragma once

struct cli;
struct json_t;

void explain_head(struct cli *cli,
		  const char *what); /* the word in front of a line; what follows begins at column 15 */
void explain_source(struct cli *cli, const struct json_t *x);
void explain_destination(struct cli *cli, const struct json_t *x);
/* cmd_explain_http.c: args[1] is a URL; an exit status */
int explain_http(struct cli *cli, const char *source);
