/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/compile/publish.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/base/mem.h"

struct vec {
	unsigned int refs;
	size_t n;
	_Alignas(16) unsigned char data[];
};

struct generation {
	unsigned int refs;
	struct retired *retired;
	size_t retired_n;
	struct generation *next; /* a reference; NULL: the present one */
};

/* What a plan holds. */
struct holding {
	struct generation *generation;
	struct vec *arrays[PUBLISH_ARRAYS];
};

static int on_service_cmp(const void *a, const void *b)
{
	return service_cmp(*(struct service *const *)a, *(struct service *const *)b);
}

static int on_workload_cmp(const void *a, const void *b)
{
	return strcmp((*(struct workload *const *)a)->uid, (*(struct workload *const *)b)->uid);
}

static int on_identity_cmp(const void *a, const void *b)
{
	return strcmp((*(struct identity *const *)a)->uri, (*(struct identity *const *)b)->uri);
}

static int on_name_cmp(const void *a, const void *b)
{
	return dns_name_cmp(a, b);
}

static int on_addr_cmp(const void *a, const void *b)
{
	return plan_addr_cmp(a, b);
}

static int on_vip_cmp(const void *a, const void *b)
{
	return plan_vip_cmp(a, b);
}

static const struct {
	size_t size;
	int (*cmp)(const void *, const void *);
} kinds[PUBLISH_ARRAYS] = {
	[PUBLISH_SERVICES] = { sizeof(struct service *), on_service_cmp },
	[PUBLISH_WORKLOADS] = { sizeof(struct workload *), on_workload_cmp },
	[PUBLISH_IDENTITIES] = { sizeof(struct identity *), on_identity_cmp },
	[PUBLISH_NAMES] = { sizeof(struct dns_name), on_name_cmp },
	[PUBLISH_ADDRS] = { sizeof(struct plan_addr), on_addr_cmp },
	[PUBLISH_VIPS] = { sizeof(struct plan_vip), on_vip_cmp },
};

static struct vec *vec_new(size_t n, size_t size)
{
	struct vec *v = malloc(sizeof(*v) + n * size);
	if (v) {
		v->refs = 1;
		v->n = n;
	}
	return v;
}

static struct vec *vec_ref(struct vec *v)
{
	__atomic_add_fetch(&v->refs, 1, __ATOMIC_RELAXED);
	return v;
}

static void vec_unref(struct vec *v)
{
	if (v && __atomic_sub_fetch(&v->refs, 1, __ATOMIC_ACQ_REL) == 0)
		free(v);
}

/* Along the chain with a loop: a long-lived plan may hold a long one. */
static void generation_unref(struct generation *g)
{
	while (g && __atomic_sub_fetch(&g->refs, 1, __ATOMIC_ACQ_REL) == 0) {
		struct generation *next = g->next;
		for (size_t i = 0; i < g->retired_n; i++)
			g->retired[i].unref(g->retired[i].object);
		free(g->retired);
		free(g);
		g = next;
	}
}

static struct generation *generation_new(void)
{
	struct generation *g = calloc(1, sizeof(*g));
	if (g)
		g->refs = 1;
	return g;
}

int publisher_init(struct publisher *p)
{
	*p = (struct publisher){ .generation = generation_new() };
	bool ok = p->generation;
	for (size_t i = 0; i < PUBLISH_ARRAYS; i++) {
		p->arrays[i] = vec_new(0, 1);
		ok = ok && p->arrays[i];
	}
	return ok ? 0 : -ENOMEM; /* publisher_done is the caller's */
}

void publisher_done(struct publisher *p)
{
	generation_unref(p->generation);
	for (size_t i = 0; i < PUBLISH_ARRAYS; i++) {
		vec_unref(p->arrays[i]);
		free(p->edits[i].removed);
		free(p->edits[i].added);
	}
	free(p->retired);
	*p = (struct publisher){ 0 };
}

void publisher_begin(struct publisher *p)
{
	for (size_t i = 0; i < PUBLISH_ARRAYS; i++)
		p->edits[i].removed_n = p->edits[i].added_n = 0;
	p->retired_n = 0;
}

static int edit_remove(struct publisher *p, enum publish_array a, const void *element)
{
	struct edit *e = &p->edits[a];

	if (mem_reserve(&e->removed, &e->removed_cap, e->removed_n + 1, kinds[a].size) < 0)
		return -ENOMEM;
	memcpy(e->removed + e->removed_n++ * kinds[a].size, element, kinds[a].size);
	return 0;
}

static int edit_add(struct publisher *p, enum publish_array a, const void *element)
{
	struct edit *e = &p->edits[a];

	if (mem_reserve(&e->added, &e->added_cap, e->added_n + 1, kinds[a].size) < 0)
		return -ENOMEM;
	memcpy(e->added + e->added_n++ * kinds[a].size, element, kinds[a].size);
	return 0;
}

typedef int (*edit_fn)(struct publisher *p, enum publish_array a, const void *element);

static int retire(struct publisher *p, void (*unref)(void *), void *object)
{
	if (mem_reserve(&p->retired, &p->retired_cap, p->retired_n + 1, sizeof(*p->retired)) < 0)
		return -ENOMEM;
	p->retired[p->retired_n++] = (struct retired){ unref, object };
	return 0;
}

static void on_workload_unref(void *object)
{
	workload_unref(object);
}

static void on_service_unref(void *object)
{
	service_unref(object);
}

static void on_identity_unref(void *object)
{
	identity_unref(object);
}

static int workload_edit(struct publisher *p, edit_fn edit, struct workload *w)
{
	if (edit(p, PUBLISH_WORKLOADS, &w) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < w->addr_count; i++)
		if (edit(p, PUBLISH_ADDRS, &(struct plan_addr){ w->addrs[i], w }) < 0)
			return -ENOMEM;
	return 0;
}

int publisher_workload(struct publisher *p, struct workload *old, struct workload *new)
{
	if (old && (workload_edit(p, edit_remove, old) < 0 || retire(p, on_workload_unref, old) < 0))
		return -ENOMEM;
	return new ? workload_edit(p, edit_add, new) : 0;
}

struct vip_edit {
	struct publisher *p;
	edit_fn edit;
};

static int on_vip_edit(void *arg, const struct plan_vip *vip)
{
	const struct vip_edit *e = arg;

	return e->edit(e->p, PUBLISH_VIPS, vip);
}

static int service_edit(struct publisher *p, edit_fn edit, struct service *s)
{
	if (edit(p, PUBLISH_SERVICES, &s) < 0)
		return -ENOMEM;
	/* A host without addresses is a name all the same: it exists, and has no records. Only one whose addresses the
	 * mesh can't know (resolution NONE without addresses), or is not to give, is left to the resolver. */
	struct dns_name name = { s->hostname, s, s->dns_addrs, s->dns_addr_count };
	bool outside = s->any_address || (s->kind == SERVICE_ENTRY && s->lb == LB_PASSTHROUGH && !s->dns_addr_count);
	if (!outside && edit(p, PUBLISH_NAMES, &name) < 0)
		return -ENOMEM;
	return plan_vips_of(s, on_vip_edit, &(struct vip_edit){ p, edit });
}

int publisher_service(struct publisher *p, struct service *old, struct service *new)
{
	if (old && (service_edit(p, edit_remove, old) < 0 || retire(p, on_service_unref, old) < 0))
		return -ENOMEM;
	return new ? service_edit(p, edit_add, new) : 0;
}

int publisher_identity(struct publisher *p, struct identity *old, struct identity *new)
{
	if (old && (edit_remove(p, PUBLISH_IDENTITIES, &old) < 0 || retire(p, on_identity_unref, old) < 0))
		return -ENOMEM;
	return new ? edit_add(p, PUBLISH_IDENTITIES, &new) : 0;
}

static void sort(unsigned char *v, size_t n, size_t size, int (*cmp)(const void *, const void *))
{
	/* The first run adds everything in an order that is nearly always right already. */
	for (size_t i = 1; i < n; i++)
		if (cmp(v + (i - 1) * size, v + i * size) > 0) {
			qsort(v, n, size, cmp);
			return;
		}
}

/* The first element of v[from..n) that is not before `key`, looking near `from` first. */
static size_t lower_bound(const unsigned char *v, size_t from, size_t n, size_t size, const void *key,
			  int (*cmp)(const void *, const void *))
{
	size_t step = 1, low = from, high = from;
	while (high < n && cmp(v + high * size, key) < 0) {
		low = high + 1;
		high += step;
		step *= 2;
	}
	if (high > n)
		high = n;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (cmp(v + mid * size, key) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

/* old without the removed and with the added elements; both are sorted here. */
static struct vec *vec_edit(const struct vec *old, struct edit *e, size_t size, int (*cmp)(const void *, const void *))
{
	sort(e->removed, e->removed_n, size, cmp);
	sort(e->added, e->added_n, size, cmp);
	struct vec *new = vec_new(old->n + e->added_n, size); /* at most */
	if (!new)
		return NULL;

	size_t at = 0, out = 0, r = 0, a = 0;
	while (r < e->removed_n || a < e->added_n) {
		bool remove =
			r < e->removed_n && (a >= e->added_n || cmp(e->removed + r * size, e->added + a * size) <= 0);
		const unsigned char *key = remove ? e->removed + r * size : e->added + a * size;
		size_t to = lower_bound(old->data, at, old->n, size, key, cmp);

		memcpy(new->data + out *size, old->data + at * size, (to - at) * size);
		out += to - at;
		at = to;
		if (remove) {
			r++;
			at++; /* what is removed is there */
		} else {
			memcpy(new->data + out++ *size, key, size);
			a++;
		}
	}
	memcpy(new->data + out *size, old->data + at * size, (old->n - at) * size);
	new->n = out + (old->n - at);
	return new;
}

static void on_plan_release(void *shared)
{
	struct holding *h = shared;

	for (size_t i = 0; i < PUBLISH_ARRAYS; i++)
		vec_unref(h->arrays[i]);
	generation_unref(h->generation);
	free(h);
}

static void plan_fill(struct plan *plan, struct holding *h)
{
	struct vec **v = h->arrays;

	plan->services = (void *)v[PUBLISH_SERVICES]->data;
	plan->service_count = v[PUBLISH_SERVICES]->n;
	plan->workloads = (void *)v[PUBLISH_WORKLOADS]->data;
	plan->workload_count = v[PUBLISH_WORKLOADS]->n;
	plan->identities = (void *)v[PUBLISH_IDENTITIES]->data;
	plan->identity_count = v[PUBLISH_IDENTITIES]->n;
	plan->names = (void *)v[PUBLISH_NAMES]->data;
	plan->name_count = v[PUBLISH_NAMES]->n;
	plan->by_addr = (void *)v[PUBLISH_ADDRS]->data;
	plan->by_addr_count = v[PUBLISH_ADDRS]->n;
	plan->by_vip = (void *)v[PUBLISH_VIPS]->data;
	plan->by_vip_count = v[PUBLISH_VIPS]->n;
	plan->sealed = true;
	plan->on_release = on_plan_release;
	plan->shared = h;
}

int publisher_commit(struct publisher *p, struct plan *plan)
{
	struct vec *new[PUBLISH_ARRAYS] = { NULL };
	struct holding *h = calloc(1, sizeof(*h));
	struct generation *next = generation_new();
	bool ok = h && next;

	for (size_t i = 0; ok && i < PUBLISH_ARRAYS; i++) {
		struct edit *e = &p->edits[i];
		new[i] = e->removed_n || e->added_n ? vec_edit(p->arrays[i], e, kinds[i].size, kinds[i].cmp) :
						      vec_ref(p->arrays[i]);
		ok = new[i];
	}
	if (!ok) {
		for (size_t i = 0; i < PUBLISH_ARRAYS; i++)
			vec_unref(new[i]);
		free(h);
		free(next);
		return -ENOMEM;
	}

	for (size_t i = 0; i < PUBLISH_ARRAYS; i++) {
		vec_unref(p->arrays[i]);
		p->arrays[i] = new[i];
		h->arrays[i] = vec_ref(new[i]);
		if (p->edits[i].added_cap * kinds[i].size > 65536 || p->edits[i].removed_cap * kinds[i].size > 65536) {
			free(p->edits[i].removed);
			free(p->edits[i].added);
			p->edits[i] = (struct edit){ 0 };
		}
	}
	/* The last plans hold the present generation; it keeps what this step took out, and the next. */
	struct generation *last = p->generation;
	last->retired = p->retired;
	last->retired_n = p->retired_n;
	p->retired = NULL;
	p->retired_n = p->retired_cap = 0;
	__atomic_add_fetch(&next->refs, 2, __ATOMIC_RELAXED); /* the publisher's, the plan's, and that of `last` */
	last->next = next;
	p->generation = next;
	h->generation = next;
	generation_unref(last);
	plan_fill(plan, h);
	return 0;
}

const struct plan_vip *publisher_vips(const struct publisher *p, size_t *n)
{
	*n = p->arrays[PUBLISH_VIPS]->n;
	return (const void *)p->arrays[PUBLISH_VIPS]->data;
}

void publisher_retire_workload(struct publisher *p, struct workload *w)
{
	(void)retire(p, on_workload_unref, w);
}

void publisher_retire_service(struct publisher *p, struct service *s)
{
	(void)retire(p, on_service_unref, s);
}

void publisher_retire_end(struct publisher *p)
{
	if (!p->generation)
		return;
	p->generation->retired = p->retired;
	p->generation->retired_n = p->retired_n;
	p->retired = NULL;
	p->retired_n = p->retired_cap = 0;
}
