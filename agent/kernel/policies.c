// SPDX-License-Identifier: Apache-2.0
/* Lowers struct policy to rows and sets for bpf/lib/verdict.h. Conditions on the peer are evaluated here, against every
 * identity that a pod of this node can attest, into sets of identity ids; ports become sets, address blocks prefix
 * sets. Sets and rows are keyed by hashes of their content: written before the policy entry that refers to them, removed
 * after the last one that did. */
#include "agent/base/err.h"
#include "agent/base/hash.h"
#include "agent/base/mem.h"
#include "agent/kernel/internal.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct lowered_policy {
	struct policy *policy; /* reference */
	uint64_t key;
	struct policy_value value;
	struct policy_row *rows;
	size_t row_cap;
};

struct set_member {
	uint64_t set;
	uint32_t member, value;
};

struct cidr_member {
	uint64_t set;
	struct cidr cidr;
};

struct lowered {
	struct lowered_policy *policies;
	size_t policy_count, policy_cap;
	struct set_member *sets; /* sorted by lowered_sort */
	size_t set_count, set_cap;
	uint64_t l7_sets; /* hash of which sets of ports above L4 there are */
	struct cidr_member *cidrs;
	size_t cidr_count, cidr_cap;
	const struct identity *
		*peers; /* of this node's enrolled workloads; borrowed from the plan, while lowering only */
	size_t peer_count, peer_cap;
};

void policies_free(struct lowered *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < l->policy_count; i++) {
		policy_unref(l->policies[i].policy);
		free(l->policies[i].rows);
	}
	free(l->policies);
	free(l->sets);
	free(l->cidrs);
	free(l->peers);
	free(l);
}

static int set_add(struct lowered *l, uint64_t set, uint32_t member, uint32_t value)
{
	if (mem_reserve(&l->sets, &l->set_cap, l->set_count + 1, sizeof(*l->sets)) < 0)
		return -ENOMEM;
	l->sets[l->set_count++] = (struct set_member){ set, member, value };
	return 0;
}

static int u32_cmp(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Sorts members in place; an empty set has an id too, and matches nothing. */
static int set_lower(struct lowered *l, const char *kind, uint32_t *members, size_t n, __u64 *out)
{
	uint64_t h = hash64_str(HASH64_INIT, kind);
	int rc = 0;

	if (n)
		qsort(members, n, sizeof(*members), u32_cmp);
	h = hash64(h, members, n * sizeof(*members));
	*out = h ? h : 1;
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = set_add(l, *out, members[i], 1);
	return rc;
}

static bool has_peer_condition(const struct policy_match *m)
{
	return m->principals.n || m->not_principals.n || m->namespaces.n || m->not_namespaces.n ||
	       m->service_accounts.n || m->not_service_accounts.n;
}

static int peers_lower(struct lowered *l, const struct policy_match *m, __u64 *out)
{
	AUTO(mem_freep) uint32_t *members = malloc((l->peer_count + 1) * sizeof(*members));
	size_t n = 0;

	if (!members)
		return -ENOMEM;
	if (policy_match_peer(m, NULL))
		members[n++] = 0;
	for (size_t i = 0; i < l->peer_count; i++)
		if (policy_match_peer(m, l->peers[i]))
			members[n++] = l->peers[i]->id;
	return set_lower(l, "peers", members, n, out);
}

static int ports_lower(struct lowered *l, const struct match_ports *ports, __u64 *out)
{
	AUTO(mem_freep) uint32_t *members = NULL;

	if (!ports->n)
		return 0;
	members = malloc(ports->n * sizeof(*members));
	if (!members)
		return -ENOMEM;
	for (size_t i = 0; i < ports->n; i++)
		members[i] = ports->v[i];
	return set_lower(l, "ports", members, ports->n, out);
}

static int cidrs_lower(struct lowered *l, const struct match_cidrs *cidrs, __u64 *out)
{
	uint64_t h = hash64_str(HASH64_INIT, "cidrs");

	if (!cidrs->n)
		return 0;
	for (size_t i = 0; i < cidrs->n; i++) {
		h = hash64(h, &cidrs->v[i].addr, sizeof(cidrs->v[i].addr));
		h = hash64(h, &cidrs->v[i].bits, 1);
	}
	*out = h ? h : 1;
	for (size_t i = 0; i < cidrs->n; i++) {
		if (mem_reserve(&l->cidrs, &l->cidr_cap, l->cidr_count + 1, sizeof(*l->cidrs)) < 0)
			return -ENOMEM;
		l->cidrs[l->cidr_count++] = (struct cidr_member){ *out, cidrs->v[i] };
	}
	return 0;
}

static int row_lower(struct lowered *l, const struct policy_match *m, struct policy_row *row)
{
	int rc = has_peer_condition(m) ? peers_lower(l, m, &row->identities) : 0;

	if (rc == 0)
		rc = ports_lower(l, &m->ports, &row->ports);
	if (rc == 0)
		rc = ports_lower(l, &m->not_ports, &row->not_ports);
	if (rc == 0)
		rc = cidrs_lower(l, &m->ip_blocks, &row->sources);
	if (rc == 0)
		rc = cidrs_lower(l, &m->not_ip_blocks, &row->not_sources);
	if (rc == 0)
		rc = cidrs_lower(l, &m->remote_ip_blocks, &row->remotes);
	if (rc == 0)
		rc = cidrs_lower(l, &m->not_remote_ip_blocks, &row->not_remotes);
	if (rc == 0)
		rc = cidrs_lower(l, &m->destination_ips, &row->destinations);
	return rc == 0 ? cidrs_lower(l, &m->not_destination_ips, &row->not_destinations) : rc;
}

static int rule_lower(struct lowered *l, struct lowered_policy *p, uint32_t index, struct err *err)
{
	static const struct policy_match everything;
	const struct policy_rule *rule = &p->policy->rules[index];
	size_t n = rule->match_count ? rule->match_count : 1;

	if (rule->dry_run || rule->action == POLICY_AUDIT)
		return 0; /* never decide */
	for (size_t i = 0; i < n; i++) {
		const struct policy_match *m = rule->match_count ? &rule->matches[i] : &everything;
		struct policy_row row = { .rule = index,
					  .action = rule->action == POLICY_ALLOW ? ROW_ALLOW : ROW_DENY };

		if (m->has_http && rule->action == POLICY_ALLOW)
			continue; /* HTTP fields never match on TCP; in a DENY rule they are ignored */
		if (p->value.row_count == ABI_POLICY_ROWS_MAX)
			return err_set(err, -E2BIG,
				       "%s: authorisation of %s: more than %d alternatives of rules select one "
				       "workload; merge "
				       "sources or ports into lists",
				       rule->origin ? rule->origin : "policy", rule->name ? rule->name : "?",
				       ABI_POLICY_ROWS_MAX);
		if (row_lower(l, m, &row) < 0 ||
		    mem_reserve(&p->rows, &p->row_cap, p->value.row_count + 1, sizeof(*p->rows)) < 0)
			return err_set(err, -ENOMEM, "kernel: out of memory");
		p->rows[p->value.row_count++] = row;
	}
	return 0;
}

static int modes_lower(struct lowered *l, struct lowered_policy *p)
{
	int rc = 0;

	for (size_t i = 0; i < p->policy->port_mtls_count && rc == 0; i++) {
		const struct port_mtls *m = &p->policy->port_mtls[i];

		p->value.has_port_modes = 1;
		rc = set_add(l, p->key, ABI_PORT_MODE | m->port, 1u + (uint32_t)m->mode);
	}
	return rc;
}

_Static_assert((int)MTLS_PERMISSIVE == ABI_MTLS_PERMISSIVE && (int)MTLS_STRICT == ABI_MTLS_STRICT &&
		       (int)MTLS_DISABLE == ABI_MTLS_DISABLE,
	       "modes");

static int policy_lower(struct lowered *l, struct policy *policy, struct err *err)
{
	int rc = 0;

	if (mem_reserve(&l->policies, &l->policy_cap, l->policy_count + 1, sizeof(*l->policies)) < 0)
		return err_set(err, -ENOMEM, "kernel: out of memory");
	struct lowered_policy *p = &l->policies[l->policy_count++];
	*p = (struct lowered_policy){ .policy = policy_ref(policy) };
	p->value.plan_id = policy->id;
	p->value.mtls = (uint8_t)policy->mtls;
	p->value.has_allow = policy->has_allow;
	for (uint32_t i = 0; i < policy->rule_count && rc == 0; i++)
		rc = rule_lower(l, p, i, err);
	if (rc < 0) {
		l->policy_count--;
		policy_unref(p->policy);
		free(p->rows);
		return rc;
	}
	/* The identities of this node are in the rows, so they are in the key. */
	p->key = hash64(hash64(HASH64_INIT, &policy->id, sizeof(policy->id)), p->rows,
			p->value.row_count * sizeof(*p->rows));
	p->key = p->key ? p->key : 1;
	return modes_lower(l, p) < 0 ? err_set(err, -ENOMEM, "kernel: out of memory") : 0;
}

static bool is_l7(const struct inbound_port *p)
{
	return p->sni || p->helper || p->app == APP_HTTP || p->app == APP_HTTP2 || p->app == APP_GRPC ||
	       p->app == APP_UNKNOWN;
}

uint64_t policies_l7_set(const struct workload *w)
{
	uint64_t h = hash64_str(HASH64_INIT, "l7");

	if (!w->l7_port_count)
		return 0;
	for (size_t i = 0; i < w->l7_port_count; i++) {
		uint32_t member = (uint32_t)w->l7_ports[i].port << 1 | is_l7(&w->l7_ports[i]);

		h = hash64(h, &member, sizeof(member));
	}
	return h ? h : 1;
}

/* Written like the policies' own sets, and removed with them. */
static int l7_lower(struct lowered *l, const struct workload *w)
{
	uint64_t set = policies_l7_set(w);
	int rc = 0;

	l->l7_sets = hash64(l->l7_sets ? l->l7_sets : HASH64_INIT, &set, sizeof(set));
	for (size_t i = 0; i < w->l7_port_count && rc == 0; i++)
		if (w->l7_ports[i].port)
			rc = set_add(l, set, w->l7_ports[i].port, is_l7(&w->l7_ports[i]) ? ABI_PORT_L7 : ABI_PORT_L4);
	return rc;
}

static int peers_collect(struct lowered *l, const struct plan *plan)
{
	for (size_t i = 0; i < plan->workload_count; i++) {
		const struct workload *w = plan->workloads[i];
		bool known = false;

		if (!w->enrolled || !workload_is_local(w) || !w->identity)
			continue;
		for (size_t j = 0; j < l->peer_count && !known; j++)
			known = l->peers[j]->id == w->identity->id;
		if (known)
			continue;
		if (mem_reserve(&l->peers, &l->peer_cap, l->peer_count + 1, sizeof(struct identity *)) < 0)
			return -ENOMEM;
		l->peers[l->peer_count++] = w->identity;
	}
	return 0;
}

static const struct lowered_policy *lowered_find(const struct lowered *l, const struct policy *policy)
{
	for (size_t i = 0; l && i < l->policy_count; i++)
		if (l->policies[i].policy == policy || l->policies[i].policy->id == policy->id)
			return &l->policies[i];
	return NULL;
}

uint64_t policies_key(const struct kernel *k, const struct policy *policy)
{
	const struct lowered_policy *p = policy ? lowered_find(k->policies, policy) : NULL;

	return p ? p->key : 0;
}

static int lowered_write_leaves(struct kernel *k, const struct lowered *l, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < l->set_count && rc == 0; i++) {
		struct set_key key = { .set = l->sets[i].set, .member = l->sets[i].member };

		rc = ktable_add(&k->tables[KT_SETS], &key, &l->sets[i].value, err);
	}
	for (size_t i = 0; i < l->cidr_count && rc == 0; i++) {
		const struct cidr_member *c = &l->cidrs[i];
		struct cidr_key key = { .prefixlen = 64u + c->cidr.bits,
					.set_low = (uint32_t)c->set,
					.set_high = (uint32_t)(c->set >> 32),
					.addr = abi_addr(&c->cidr.addr) };
		uint32_t kind = c->cidr.bits < 96 ? ABI_CIDR_IPV6 : ABI_CIDR_ANY;

		if (bpf_map_update_elem(k->maps[KMAP_CIDRS], &key, &kind, BPF_ANY) < 0)
			rc = err_sys(err, -errno, "kernel: write the address blocks of a policy");
	}
	return rc == 0 ? ktable_flush(&k->tables[KT_SETS], err) : rc;
}

static int lowered_write(struct kernel *k, const struct lowered *l, struct err *err)
{
	int rc = lowered_write_leaves(k, l, err);

	for (size_t i = 0; i < l->policy_count && rc == 0; i++) {
		const struct lowered_policy *p = &l->policies[i];
		struct policy_row_key key = { .policy = p->key };

		for (key.index = 0; key.index < p->value.row_count && rc == 0; key.index++)
			rc = ktable_add(&k->tables[KT_POLICY_ROWS], &key, &p->rows[key.index], err);
	}
	if (rc == 0)
		rc = ktable_flush(&k->tables[KT_POLICY_ROWS], err);
	for (size_t i = 0; i < l->policy_count && rc == 0; i++)
		rc = ktable_add(&k->tables[KT_POLICIES], &l->policies[i].key, &l->policies[i].value, err);
	return rc == 0 ? ktable_flush(&k->tables[KT_POLICIES], err) : rc;
}

/* A policy that can't be lowered is left out, and its pods keep what they had. */
static int lower_all(struct lowered *l, const struct plan *plan, struct err *err)
{
	int rc = peers_collect(l, plan) < 0 ? err_set(err, -ENOMEM, "kernel: out of memory") : 0;

	for (size_t i = 0; i < plan->workload_count; i++) {
		const struct workload *w = plan->workloads[i];

		if (!w->enrolled || !workload_is_local(w) || !w->policy)
			continue;
		if (l7_lower(l, w) < 0 && rc == 0)
			rc = err_set(err, -ENOMEM, "kernel: out of memory");
		if (lowered_find(l, w->policy))
			continue;
		int one = policy_lower(l, w->policy, rc == 0 ? err : NULL);

		rc = rc == 0 ? one : rc;
	}
	return rc;
}

static bool same_lowered(const struct lowered *a, const struct lowered *b)
{
	if (!a || a->policy_count != b->policy_count || a->l7_sets != b->l7_sets)
		return false;
	for (size_t i = 0; i < a->policy_count; i++)
		if (a->policies[i].key != b->policies[i].key)
			return false;
	return true;
}

static int set_order(const void *a, const void *b)
{
	const struct set_member *x = a, *y = b;

	if (x->set != y->set)
		return x->set < y->set ? -1 : 1;
	return x->member < y->member ? -1 : x->member > y->member;
}

int policies_write(struct kernel *k, const struct plan *plan, struct err *err)
{
	struct lowered *l = calloc(1, sizeof(*l));
	int rc, write_rc;

	if (!l)
		return err_set(err, -ENOMEM, "kernel: out of memory");
	rc = lower_all(l, plan, err);
	free(l->peers);
	l->peers = NULL;
	if (same_lowered(k->policies, l)) {
		policies_free(l);
		return rc;
	}
	write_rc = lowered_write(k, l, rc == 0 ? err : NULL);
	if (write_rc < 0) {
		policies_free(l);
		return rc < 0 ? rc : write_rc;
	}
	if (l->set_count)
		qsort(l->sets, l->set_count, sizeof(*l->sets), set_order);
	policies_free(k->policies);
	k->policies = l;
	k->policies_changed = true;
	return rc;
}

/* --- removal: whatever is not of the policies in force, or of a pod that kept an older one */

struct policy_sweep {
	const struct lowered *l;
};

static bool keep_policy(const void *key, const void *value, void *arg)
{
	const struct policy_sweep *s = arg;
	const uint64_t *id = key;

	(void)value;
	for (size_t i = 0; i < s->l->policy_count; i++)
		if (s->l->policies[i].key == *id)
			return true;
	return false;
}

static bool keep_row(const void *key, const void *value, void *arg)
{
	return keep_policy(&((const struct policy_row_key *)key)->policy, value, arg);
}

static bool keep_set(const void *key, const void *value, void *arg)
{
	const struct policy_sweep *s = arg;
	const struct set_key *at = key;
	struct set_member wanted = { .set = at->set, .member = at->member };

	(void)value;
	return s->l->set_count && bsearch(&wanted, s->l->sets, s->l->set_count, sizeof(wanted), set_order) != NULL;
}

static bool keep_cidr(const void *key, const void *value, void *arg)
{
	const struct policy_sweep *s = arg;
	const struct cidr_key *at = key;
	uint64_t set = at->set_low | (uint64_t)at->set_high << 32;

	(void)value;
	for (size_t i = 0; i < s->l->cidr_count; i++)
		if (s->l->cidrs[i].set == set)
			return true;
	return false;
}

int policies_remove(struct kernel *k, struct err *err)
{
	struct policy_sweep s = { .l = k->policies };
	int rc;

	if (!k->policies_changed || !k->policies || pods_keep_older_policy(k))
		return 0;
	rc = ktable_sweep(&k->tables[KT_POLICIES], keep_policy, &s, err);
	if (rc == 0)
		rc = ktable_sweep(&k->tables[KT_POLICY_ROWS], keep_row, &s, err);
	if (rc == 0)
		rc = ktable_sweep(&k->tables[KT_SETS], keep_set, &s, err);
	if (rc == 0)
		rc = kmap_sweep(k->maps[KMAP_CIDRS], sizeof(struct cidr_key), sizeof(uint32_t), keep_cidr, &s);
	if (rc == 0)
		k->policies_changed = false;
	return rc;
}

void policies_fill(const struct kernel *k, uint32_t counts[KT_COUNT], uint32_t *cidr_count)
{
	const struct lowered *l = k->policies;

	for (size_t i = 0; l && i < l->policy_count; i++)
		counts[KT_POLICY_ROWS] += l->policies[i].value.row_count;
	counts[KT_POLICIES] = l ? (uint32_t)l->policy_count : 0;
	counts[KT_SETS] = l ? (uint32_t)l->set_count : 0;
	*cidr_count = l ? (uint32_t)l->cidr_count : 0;
}
