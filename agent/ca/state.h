/* SPDX-License-Identifier: Apache-2.0 */
/* What the CA must remember between runs: revoked serials (revoked.json), and the roots that were trusted
 * (trusted-roots.json), so that one that was replaced keeps its overlap across restarts. The files are the only truth:
 * several agents may share them, each change is read-modify-write under the directory's lock. Internal to agent/ca. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct err;
struct stack_st_X509;

struct revoked_list {
	char **serials; /* sorted, hex, lower case */
	size_t count;
};

struct retired_roots {
	struct stack_st_X509 *certs; /* replaced, trusted for now */
	uint64_t *until_s;	     /* one for each */
};

int state_revoked_read(const char *dir, struct revoked_list *out, struct err *err);
/* expires_s: the certificate's, 0 when not known (then the entry is kept for good). *out: the list as it is now. */
int state_revoked_add(const char *dir, const char *serial, uint64_t now_s, uint64_t expires_s, struct revoked_list *out,
		      struct err *err);
void revoked_list_done(struct revoked_list *list);
/* Takes note of `current`; what was current before and is no longer retires until now_s + overlap_s. */
int state_roots_update(const char *dir, struct stack_st_X509 *current, uint64_t now_s, uint32_t overlap_s,
		       struct retired_roots *out, struct err *err);
void retired_roots_done(struct retired_roots *retired);
