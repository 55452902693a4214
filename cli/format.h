/* SPDX-License-Identifier: Apache-2.0 */
/* Printing: columns, ages, sizes, YAML; reading members of answers without caring whether they are there. Pure but for
 * the FILE that is written. */
#pragma once

#include "cli/cli.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct json_t;

enum { GRID_COLUMNS_MAX = 12 };

/* Columns as wide as their widest cell, two blanks between. */
struct grid {
	struct cli *cli;
	struct grid_cell {
		char *text;
		enum color color;
	} *cells;
	size_t count, cap, columns, indent;
	bool no_header; /* the first row is no heading */
};

void grid_init(struct grid *g, struct cli *cli, size_t columns);
void grid_cell(struct grid *g, enum color color, const char *format, ...) __attribute__((format(printf, 3, 4)));
void grid_row(struct grid *g, const char *first, ...); /* `columns` texts; NULL becomes "-" */
/* The same where the cursor is at column `column` already: the first line goes on there. */
void grid_print_after(struct grid *g, size_t column);
void grid_print(struct grid *g); /* and empties it */

void format_yaml(FILE *out, const struct json_t *json);
/* "3d4h", "12m", "5s": two units at most. Returns buf. */
const char *format_duration(unsigned long long seconds, char buf[32]);
const char *format_date(unsigned long long time_s, char buf[32]); /* "2036-11-18 12:00 UTC" */
const char *format_bytes(unsigned long long bytes, char buf[32]); /* "1.2 MiB" */
/* "in 12d4h", "3m ago" */
const char *format_relative(unsigned long long time_s, unsigned long long now_s, char buf[48]);

/* Members by path: "helper.pid". Missing or of another type: NULL, 0, false. */
const struct json_t *at(const struct json_t *json, const char *path);
const char *at_text(const struct json_t *json, const char *path);
const char *at_text_or(const struct json_t *json, const char *path, const char *otherwise);
long long at_int(const struct json_t *json, const char *path);
double at_real(const struct json_t *json, const char *path);
bool at_true(const struct json_t *json, const char *path);
bool at_is_null(const struct json_t *json, const char *path); /* also: not there */
size_t at_count(const struct json_t *json, const char *path);
/* Texts of an array joined by ", "; "" when there is none. Caller frees. */
char *at_join(const struct json_t *json, const char *path);
