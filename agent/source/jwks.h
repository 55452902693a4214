/* SPDX-License-Identifier: Apache-2.0 */
/* Key sets for JSON Web Tokens, fetched from where RequestAuthentications say and kept fresh: libcurl on the loop, several
 * at a time, never waiting. The last good set stays while its server can't be reached. One loop thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct jwks_source;
struct loop;

enum {
	JWKS_BYTES_MAX = 256 << 10, /* of one set, or discovery document */
	JWKS_REFRESH_S = 20 * 60,   /* when the server does not say; Istio's */
	JWKS_REFRESH_MIN_S = 60,    /* whatever the server says */
	JWKS_RETRY_MIN_S = 1,
	JWKS_RETRY_MAX_S = 60,
	JWKS_TIMEOUT_MS = 5000, /* when nobody says; Istio's */
	JWKS_INFLIGHT_MAX = 16,
	JWKS_REDIRECTS_MAX = 3,
};

struct jwks_want {
	const char *uri;
	uint32_t timeout_ms; /* of one request; 0: JWKS_TIMEOUT_MS */
};

struct jwks_set {
	char *uri;		  /* as asked for */
	char *keys;		  /* the last good set; NULL: none yet */
	uint64_t last_ok_s;	  /* wall clock; 0: never */
	uint64_t failures;	  /* since then */
	uint64_t fetches, errors; /* ever */
	char *error;		  /* of the last attempt; NULL: it was good */
};

/* on_change runs on the loop when sets became different, or one can't be had any more (several of one moment: once). */
int jwks_source_new(struct loop *loop, void (*on_change)(void *arg), void *arg, struct jwks_source **out,
		    struct err *err);
void jwks_source_free(struct jwks_source *js);
/* The addresses to keep fetched, from now on these: sorted and unique (as compiler_jwks() gives them). One that ends in
 * "/.well-known/openid-configuration" leads to the keys by its jwks_uri. New ones are asked at once. 0 or -ENOMEM. */
int jwks_source_set(struct jwks_source *js, const struct jwks_want *wants, size_t count);
/* Sorted by uri; borrowed until the next call of jwks_source_set or the loop's next turn. */
const struct jwks_set *jwks_source_sets(const struct jwks_source *js, size_t *count);
/* Asks for all of them again now rather than when they are due. */
void jwks_source_refresh(struct jwks_source *js);
/* The file with the roots for https, in place of the system's. For tests. */
int jwks_source_roots(struct jwks_source *js, const char *path);
