/* SPDX-License-Identifier: Apache-2.0 */
/* What helpers are told besides their settings: pods, trust, certificates, endpoints. */
#include "agent/link/supervisor_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/table.h"
#include "agent/model/filters.h"
#include "agent/model/identity.h"
#include "agent/model/policy.h"

/* --- pods --- */

static int identity_use(struct supervisor *s, const char *uri)
{
	struct identity_use *use = table_get_str(s->identities, uri);
	if (!use) {
		use = calloc(1, sizeof(*use));
		if (!use || table_set_str(s->identities, uri, use) < 0) {
			free(use);
			return -ENOMEM;
		}
	}
	use->pods++;
	return 0;
}

static void identity_release(struct supervisor *s, const char *uri)
{
	struct identity_use *use = table_get_str(s->identities, uri);
	if (use && --use->pods == 0)
		table_remove_str(s->identities, uri);
}

static int pod_keep_fds(struct supervised_pod *pod, const int *fds)
{
	int kept[POD_LISTENERS];
	for (size_t i = 0; i < POD_LISTENERS; i++) {
		kept[i] = fds[i] < 0 ? -1 : fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
		if (fds[i] < 0 || kept[i] >= 0)
			continue;
		int rc = -errno;
		while (i-- > 0)
			fd_closep(&kept[i]);
		return rc;
	}
	for (size_t i = 0; i < POD_LISTENERS; i++)
		fd_closep(&pod->fds[i]);
	memcpy(pod->fds, kept, sizeof(kept));
	return 0;
}

static struct supervised_pod *pod_new(struct supervisor *s, uint64_t cookie)
{
	struct supervised_pod *pod = calloc(1, sizeof(*pod));
	if (!pod)
		return NULL;
	pod->cookie = cookie;
	for (size_t i = 0; i < POD_LISTENERS; i++)
		pod->fds[i] = -1;
	if (table_set(s->pods, &cookie, sizeof(cookie), pod) == 0)
		return pod;
	free(pod);
	return NULL;
}

/* Who may say what to the pod is not what it was. */
static bool rules_differ(const struct workload *a, const struct workload *b)
{
	uint64_t policy_a = a->policy ? a->policy->id : 0, policy_b = b->policy ? b->policy->id : 0;
	uint64_t filters_a = a->inbound ? a->inbound->id : 0, filters_b = b->inbound ? b->inbound->id : 0;
	return policy_a != policy_b || filters_a != filters_b || a->l7_other_ports != b->l7_other_ports ||
	       a->l7_port_count != b->l7_port_count ||
	       (a->l7_port_count && memcmp(a->l7_ports, b->l7_ports, a->l7_port_count * sizeof(*a->l7_ports)) != 0);
}

int supervisor_pod_set(struct supervisor *s, uint64_t cookie, struct workload *workload, const int *fds,
		       struct err *err)
{
	struct supervised_pod *pod = table_get(s->pods, &cookie, sizeof(cookie));
	bool known = pod != NULL;
	if (!known)
		pod = pod_new(s, cookie);
	if (!pod || identity_use(s, workload->identity->uri) < 0)
		return err_set(err, -ENOMEM, "pod %s: out of memory", workload->uid);
	if (pod->workload) {
		if (rules_differ(pod->workload, workload))
			supervisor_orphans_end(s);
		identity_release(s, pod->workload->identity->uri);
		workload_unref(pod->workload);
	}
	pod->workload = workload_ref(workload);
	if (fds) {
		int rc = pod_keep_fds(pod, fds);
		if (rc < 0) {
			err_sys(err, rc, "pod %s: keep its listeners (raise the limit of open files?)", workload->uid);
			if (!known)
				supervisor_pod_remove(s, cookie);
			return rc;
		}
	}
	int rc = 0;
	for (struct peer *p = s->peers; p; p = p->next) {
		/* One that is on its way out needs changes (a policy may cut), not new pods; but an agent that has just
		 * come does not know which of them are new. */
		if (!p->channel || (p->outgoing && !known && !p->rejoined))
			continue;
		struct err own = ERR_INIT;
		bool sent = peer_pod_set(p, pod, fds && !p->outgoing, &own);
		if (sent || own.code == -EPIPE || p != s->current)
			continue;
		rc = own.code;
		err_set(err, rc, "%s", own.text);
	}
	return rc;
}

static void pod_remove(struct supervisor *s, uint64_t cookie, bool gently)
{
	struct supervised_pod *pod = table_get(s->pods, &cookie, sizeof(cookie));
	if (!pod)
		return;
	if (pod->workload)
		identity_release(s, pod->workload->identity->uri);
	table_remove(s->pods, &cookie, sizeof(cookie));
	Weft__Link__PodRemove m = WEFT__LINK__POD_REMOVE__INIT;
	m.cookie = cookie;
	m.gently = gently;
	for (struct peer *p = s->peers; p; p = p->next)
		peer_send(p, WEFT__LINK__TO_HELPER__MSG_POD_REMOVE, &m, NULL, 0);
}

void supervisor_pod_remove(struct supervisor *s, uint64_t cookie)
{
	pod_remove(s, cookie, false);
}

void supervisor_pod_leave(struct supervisor *s, uint64_t cookie)
{
	pod_remove(s, cookie, true);
}

/* --- trust and certificates --- */

static int strings_copy(char ***to, size_t *to_count, const char *const *from, size_t count)
{
	*to = calloc(count + 1, sizeof(**to));
	if (!*to)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		(*to)[i] = strdup(from[i]);
		if (!(*to)[i])
			return -ENOMEM;
		(*to_count)++;
	}
	return 0;
}

int supervisor_trust(struct supervisor *s, const char *const *roots_pem, size_t root_count, const char *const *revoked,
		     size_t revoked_count, struct err *err)
{
	Weft__Link__Trust *trust = malloc(sizeof(*trust));
	if (!trust)
		return err_set(err, -ENOMEM, "helper: out of memory");
	weft__link__trust__init(trust);
	if (strings_copy(&trust->roots_pem, &trust->n_roots_pem, roots_pem, root_count) < 0 ||
	    strings_copy(&trust->revoked_serials, &trust->n_revoked_serials, revoked, revoked_count) < 0) {
		weft__link__trust__free_unpacked(trust, NULL);
		return err_set(err, -ENOMEM, "helper: out of memory");
	}
	if (weft__link__trust__get_packed_size(trust) > CHANNEL_MESSAGE_MAX - 64) {
		weft__link__trust__free_unpacked(trust, NULL);
		return err_set(
			err, -EMSGSIZE,
			"helper: %zu trusted roots and %zu revoked serials are more than it can be handed (%d KiB)",
			root_count, revoked_count, CHANNEL_MESSAGE_MAX >> 10);
	}
	if (s->trust)
		weft__link__trust__free_unpacked(s->trust, NULL);
	s->trust = trust;
	for (struct peer *p = s->peers; p; p = p->next)
		peer_send(p, WEFT__LINK__TO_HELPER__MSG_TRUST, trust, NULL, 0);
	return 0;
}

void supervisor_certificate(struct supervisor *s, uint64_t request, const char *identity, const char *chain_pem,
			    uint64_t not_after_s, const char *error)
{
	Weft__Link__Certificate m = WEFT__LINK__CERTIFICATE__INIT;
	m.identity = (char *)(uintptr_t)identity; /* only read when packed */
	if (error) {
		m.error = (char *)(uintptr_t)error;
	} else {
		m.chain_pem = (char *)(uintptr_t)chain_pem;
		m.not_after_s = not_after_s;
	}
	for (struct peer *p = s->peers; p; p = p->next)
		if (p->serial == request)
			peer_send(p, WEFT__LINK__TO_HELPER__MSG_CERTIFICATE, &m, NULL, 0);
}

void supervisor_rotate(struct supervisor *s, const char *identity)
{
	Weft__Link__Rotate m = WEFT__LINK__ROTATE__INIT;
	if (identity)
		m.identity = (char *)(uintptr_t)identity;
	for (struct peer *p = s->peers; p; p = p->next)
		peer_send(p, WEFT__LINK__TO_HELPER__MSG_ROTATE, &m, NULL, 0);
}

void supervisor_refresh(struct supervisor *s)
{
	Weft__Link__DnsFlush flush = WEFT__LINK__DNS_FLUSH__INIT;
	for (struct peer *p = s->peers; p; p = p->next) {
		peer_send(p, WEFT__LINK__TO_HELPER__MSG_DNS_FLUSH, &flush, NULL, 0);
		struct table_iter it = { 0 };
		while (p->channel && table_next(p->endpoints, &it))
			peer_endpoint_send(p, it.value);
		peer_targets_refresh(p);
	}
}
