/* SPDX-License-Identifier: Apache-2.0 */
/* Known names and their ids, by a small hash table that is filled once; reason phrases; what a token is made of. */
#include "agent/helper/http/http_chars.h"
#include "agent/helper/http/message.h"

#include <stdlib.h>

#define LOWER(from, to) [from] = to
#define SAME(c) [c] = c

const uint8_t http_token_lower[256] = {
	SAME('!'),	 SAME('#'),	  SAME('$'),	   SAME('%'),	    SAME('&'),	     SAME('\''),
	SAME('*'),	 SAME('+'),	  SAME('-'),	   SAME('.'),	    SAME('^'),	     SAME('_'),
	SAME('`'),	 SAME('|'),	  SAME('~'),	   SAME('0'),	    SAME('1'),	     SAME('2'),
	SAME('3'),	 SAME('4'),	  SAME('5'),	   SAME('6'),	    SAME('7'),	     SAME('8'),
	SAME('9'),	 SAME('a'),	  SAME('b'),	   SAME('c'),	    SAME('d'),	     SAME('e'),
	SAME('f'),	 SAME('g'),	  SAME('h'),	   SAME('i'),	    SAME('j'),	     SAME('k'),
	SAME('l'),	 SAME('m'),	  SAME('n'),	   SAME('o'),	    SAME('p'),	     SAME('q'),
	SAME('r'),	 SAME('s'),	  SAME('t'),	   SAME('u'),	    SAME('v'),	     SAME('w'),
	SAME('x'),	 SAME('y'),	  SAME('z'),	   LOWER('A', 'a'), LOWER('B', 'b'), LOWER('C', 'c'),
	LOWER('D', 'd'), LOWER('E', 'e'), LOWER('F', 'f'), LOWER('G', 'g'), LOWER('H', 'h'), LOWER('I', 'i'),
	LOWER('J', 'j'), LOWER('K', 'k'), LOWER('L', 'l'), LOWER('M', 'm'), LOWER('N', 'n'), LOWER('O', 'o'),
	LOWER('P', 'p'), LOWER('Q', 'q'), LOWER('R', 'r'), LOWER('S', 's'), LOWER('T', 't'), LOWER('U', 'u'),
	LOWER('V', 'v'), LOWER('W', 'w'), LOWER('X', 'x'), LOWER('Y', 'y'), LOWER('Z', 'z'),
};

static const struct http_string names[HTTP_NAME_COUNT] = {
#define HTTP_NAME_TEXT(symbol, text) [HTTP_##symbol] = { text, sizeof(text) - 1 },
	HTTP_NAMES(HTTP_NAME_TEXT)
#undef HTTP_NAME_TEXT
};

/* The factors give each of today's names a slot of its own; another name may cost a second look. */
enum { SLOTS = 128 };
static uint8_t slots[SLOTS];

static inline unsigned int slot_of(const char *p, size_t n)
{
	const uint8_t *u = (const uint8_t *)p;
	return (unsigned int)(n * 37 + u[0] * 38u + u[n - 1] * 42u + u[n / 2] * 47u) % SLOTS;
}

__attribute__((constructor)) static void slots_fill(void)
{
	_Static_assert(HTTP_NAME_COUNT < SLOTS * 3 / 4 && HTTP_NAME_COUNT < 256, "the table ends at an empty slot");
	for (unsigned int id = 1; id < HTTP_NAME_COUNT; id++) {
		unsigned int slot = slot_of(names[id].p, names[id].n);
		while (slots[slot])
			slot = (slot + 1) % SLOTS;
		slots[slot] = (uint8_t)id;
	}
}

enum http_name http_name_id(const char *lower, size_t n)
{
	if (n == 0)
		return HTTP_NAME_OTHER;
	for (unsigned int slot = slot_of(lower, n); slots[slot]; slot = (slot + 1) % SLOTS) {
		const struct http_string *name = &names[slots[slot]];
		if (name->n == n && memcmp(name->p, lower, n) == 0)
			return (enum http_name)slots[slot];
	}
	return HTTP_NAME_OTHER;
}

struct http_string http_name_text(enum http_name id)
{
	return names[id];
}

bool http_name_valid(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!http_token_lower[(uint8_t)p[i]])
			return false;
	return n > 0;
}

bool http_value_valid(const char *p, size_t n)
{
	return n == 0 || (!http_blank(p[0]) && !http_blank(p[n - 1]) && http_text_ok(p, n));
}

struct reason {
	uint16_t status;
	const char *text;
};

/* Sorted. RFC 9110 15, IANA's registry for the others. */
static const struct reason reasons[] = {
	{ 100, "Continue" },
	{ 101, "Switching Protocols" },
	{ 102, "Processing" },
	{ 103, "Early Hints" },
	{ 200, "OK" },
	{ 201, "Created" },
	{ 202, "Accepted" },
	{ 203, "Non-Authoritative Information" },
	{ 204, "No Content" },
	{ 205, "Reset Content" },
	{ 206, "Partial Content" },
	{ 207, "Multi-Status" },
	{ 208, "Already Reported" },
	{ 226, "IM Used" },
	{ 300, "Multiple Choices" },
	{ 301, "Moved Permanently" },
	{ 302, "Found" },
	{ 303, "See Other" },
	{ 304, "Not Modified" },
	{ 305, "Use Proxy" },
	{ 307, "Temporary Redirect" },
	{ 308, "Permanent Redirect" },
	{ 400, "Bad Request" },
	{ 401, "Unauthorized" },
	{ 402, "Payment Required" },
	{ 403, "Forbidden" },
	{ 404, "Not Found" },
	{ 405, "Method Not Allowed" },
	{ 406, "Not Acceptable" },
	{ 407, "Proxy Authentication Required" },
	{ 408, "Request Timeout" },
	{ 409, "Conflict" },
	{ 410, "Gone" },
	{ 411, "Length Required" },
	{ 412, "Precondition Failed" },
	{ 413, "Content Too Large" },
	{ 414, "URI Too Long" },
	{ 415, "Unsupported Media Type" },
	{ 416, "Range Not Satisfiable" },
	{ 417, "Expectation Failed" },
	{ 418, "I'm a teapot" },
	{ 421, "Misdirected Request" },
	{ 422, "Unprocessable Content" },
	{ 423, "Locked" },
	{ 424, "Failed Dependency" },
	{ 425, "Too Early" },
	{ 426, "Upgrade Required" },
	{ 428, "Precondition Required" },
	{ 429, "Too Many Requests" },
	{ 431, "Request Header Fields Too Large" },
	{ 451, "Unavailable For Legal Reasons" },
	{ 500, "Internal Server Error" },
	{ 501, "Not Implemented" },
	{ 502, "Bad Gateway" },
	{ 503, "Service Unavailable" },
	{ 504, "Gateway Timeout" },
	{ 505, "HTTP Version Not Supported" },
	{ 506, "Variant Also Negotiates" },
	{ 507, "Insufficient Storage" },
	{ 508, "Loop Detected" },
	{ 510, "Not Extended" },
	{ 511, "Network Authentication Required" },
};

static int reason_compare(const void *key, const void *element)
{
	return (int)*(const uint16_t *)key - (int)((const struct reason *)element)->status;
}

const char *http_reason(uint16_t status)
{
	if (status == 200)
		return "OK";
	const struct reason *r =
		bsearch(&status, reasons, sizeof(reasons) / sizeof(reasons[0]), sizeof(reasons[0]), reason_compare);
	return r ? r->text : "";
}

bool http_status_has_body(uint16_t status)
{
	return status >= 200 && status != 204 && status != 304;
}
