/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/format.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "agent/base/mem.h"
#include "agent/base/str.h"

void grid_init(struct grid *g, struct cli *cli, size_t columns)
{
	*g = (struct grid){ .cli = cli, .columns = columns };
}

static void cell_add(struct grid *g, enum color color, char *text)
{
	if (!text || mem_reserve(&g->cells, &g->cap, g->count + 1, sizeof(*g->cells)) < 0) {
		free(text);
		return;
	}
	/* What comes from elsewhere must not drive the terminal. */
	for (char *p = text; *p; p++)
		if (iscntrl((unsigned char)*p))
			*p = '?';
	g->cells[g->count++] = (struct grid_cell){ text, color };
}

void grid_cell(struct grid *g, enum color color, const char *format, ...)
{
	char *text = NULL;
	va_list args;
	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	cell_add(g, color, text);
}

void grid_row(struct grid *g, const char *first, ...)
{
	const char *text = first;
	va_list args;
	va_start(args, first);
	for (size_t i = 0; i < g->columns; i++) {
		cell_add(g, COLOR_NONE, strdup(text && *text ? text : "-"));
		if (i + 1 < g->columns)
			text = va_arg(args, const char *);
	}
	va_end(args);
}

void grid_print(struct grid *g)
{
	if (g->indent)
		fprintf(g->cli->out, "%*s", (int)g->indent, "");
	grid_print_after(g, g->indent);
}

void grid_print_after(struct grid *g, size_t column)
{
	size_t widths[GRID_COLUMNS_MAX] = { 0 };

	for (size_t i = 0; i < g->count; i++) {
		size_t len = strlen(g->cells[i].text), *width = &widths[i % g->columns];
		*width = len > *width ? len : *width;
	}
	for (size_t i = 0; i < g->count; i++) {
		const struct grid_cell *cell = &g->cells[i];
		bool heading = i < g->columns && !g->no_header, last = (i + 1) % g->columns == 0;
		enum color color = heading ? COLOR_BOLD : cell->color;
		if (i && i % g->columns == 0)
			fprintf(g->cli->out, "%*s", (int)column, "");
		fprintf(g->cli->out, "%s%s%s", color ? cli_color(g->cli, color) : "", cell->text,
			color ? cli_plain(g->cli) : "");
		if (last)
			fputc('\n', g->cli->out);
		else
			fprintf(g->cli->out, "%*s", (int)(widths[i % g->columns] - strlen(cell->text) + 2), "");
	}
	for (size_t i = 0; i < g->count; i++)
		free(g->cells[i].text);
	free(g->cells);
	g->cells = NULL;
	g->count = g->cap = 0;
}

/* Whether a text can stand in YAML as it is. */
static bool yaml_plain(const char *text)
{
	static const char *const words[] = { "true", "false", "null", "yes", "no", "on", "off", "~", ".inf", ".nan" };

	if (!*text || isspace((unsigned char)*text) || isspace((unsigned char)text[strlen(text) - 1]))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcasecmp(text, words[i]) == 0)
			return false;
	/* A number, a date, a time. */
	if (strpbrk(text, "0123456789") && strspn(text, "0123456789.+-eExX_:abcdfABCDF") == strlen(text))
		return false;
	if (strchr("-?:,[]{}#&*!|>'\"%@`", *text))
		return false;
	for (const char *p = text; *p; p++)
		if (iscntrl((unsigned char)*p) || (*p == ':' && (p[1] == ' ' || !p[1])) || (*p == ' ' && p[1] == '#'))
			return false;
	return true;
}

static void yaml_scalar(FILE *out, const json_t *json)
{
	if (json_is_string(json) && yaml_plain(json_string_value(json)))
		fputs(json_string_value(json), out);
	else
		json_dumpf(json, out, JSON_ENCODE_ANY); /* JSON's quoting is YAML's too */
}

static bool yaml_is_block(const json_t *json)
{
	return (json_is_object(json) && json_object_size(json)) || (json_is_array(json) && json_array_size(json));
}

/* `here`: the first line goes on where the cursor is (after "- "). */
static void yaml_value(FILE *out, const json_t *json, int depth, bool here)
{
	const char *key;
	json_t *value;
	size_t i;

	if (json_is_object(json) && yaml_is_block(json)) {
		json_object_foreach((json_t *)json, key, value)
		{
			fprintf(out, "%*s", here ? 0 : depth * 2, "");
			here = false;
			json_t *name = json_string(key);
			yaml_scalar(out, name);
			json_decref(name);
			fputs(yaml_is_block(value) ? ":\n" : ": ", out);
			yaml_value(out, value, json_is_array(value) ? depth : depth + 1, false);
		}
	} else if (json_is_array(json) && yaml_is_block(json)) {
		json_array_foreach(json, i, value)
		{
			fprintf(out, "%*s- ", here ? 0 : depth * 2, "");
			here = false;
			yaml_value(out, value, depth + 1, true);
		}
	} else {
		yaml_scalar(out, json);
		fputc('\n', out);
	}
}

void format_yaml(FILE *out, const struct json_t *json)
{
	yaml_value(out, json, 0, false);
}

const char *format_duration(unsigned long long s, char buf[32])
{
	if (s < 60)
		snprintf(buf, 32, "%llus", s);
	else if (s < 3600)
		snprintf(buf, 32, "%llum%llus", s / 60, s % 60);
	else if (s < 86400)
		snprintf(buf, 32, "%lluh%llum", s / 3600, s % 3600 / 60);
	else if (s < 730 * 86400ull)
		snprintf(buf, 32, "%llud%lluh", s / 86400, s % 86400 / 3600);
	else
		snprintf(buf, 32, "%lluy%llud", s / (365 * 86400ull), s / 86400 % 365);
	return buf;
}

const char *format_date(unsigned long long time_s, char buf[32])
{
	time_t t = (time_t)time_s;
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(buf, 32, "%Y-%m-%d %H:%M UTC", &tm))
		str_copy(buf, 32, "?");
	return buf;
}

const char *format_bytes(unsigned long long bytes, char buf[32])
{
	static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
	double value = (double)bytes;
	size_t i = 0;

	while (value >= 1024 && i + 1 < ARRAY_SIZE(units)) {
		value /= 1024;
		i++;
	}
	snprintf(buf, 32, i ? "%.1f %s" : "%.0f %s", value, units[i]);
	return buf;
}

const char *format_relative(unsigned long long time_s, unsigned long long now_s, char buf[48])
{
	char duration[32];

	if (time_s == now_s)
		str_copy(buf, 48, "just now");
	else if (time_s > now_s)
		snprintf(buf, 48, "in %s", format_duration(time_s - now_s, duration));
	else
		snprintf(buf, 48, "%s ago", format_duration(now_s - time_s, duration));
	return buf;
}

const struct json_t *at(const struct json_t *json, const char *path)
{
	char key[64];

	while (json && *path) {
		size_t len = strcspn(path, ".");
		if (len >= sizeof(key))
			return NULL;
		memcpy(key, path, len);
		key[len] = 0;
		json = json_object_get(json, key);
		path += len + (path[len] == '.');
	}
	return json;
}

const char *at_text(const struct json_t *json, const char *path)
{
	return json_string_value(at(json, path));
}

const char *at_text_or(const struct json_t *json, const char *path, const char *otherwise)
{
	const char *text = at_text(json, path);
	return text ? text : otherwise;
}

long long at_int(const struct json_t *json, const char *path)
{
	return json_integer_value(at(json, path));
}

double at_real(const struct json_t *json, const char *path)
{
	return json_number_value(at(json, path));
}

bool at_true(const struct json_t *json, const char *path)
{
	return json_is_true(at(json, path));
}

bool at_is_null(const struct json_t *json, const char *path)
{
	const json_t *value = at(json, path);
	return !value || json_is_null(value);
}

size_t at_count(const struct json_t *json, const char *path)
{
	const json_t *value = at(json, path);
	return json_is_array(value) ? json_array_size(value) : json_object_size(value);
}

char *at_join(const struct json_t *json, const char *path)
{
	struct sb sb = { 0 };
	size_t i;
	json_t *value;

	json_array_foreach(at(json, path), i, value)
	{
		if (i)
			sb_add(&sb, ", ");
		sb_add(&sb, json_is_string(value) ? json_string_value(value) : "?");
	}
	char *text = sb_take(&sb);
	if (!text)
		abort();
	return text;
}
