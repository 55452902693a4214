/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ca/state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <openssl/x509.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"
#include "agent/ca/authority.h"
#include "agent/ca/ca.h"
#include "agent/ca/pem.h"

static void json_freep(json_t **json)
{
	json_decref(*json);
}

/* The array `key` of the file's object (new reference); empty when there is no file. */
static int array_read(const char *path, const char *key, json_t **out, struct err *err)
{
	AUTO(mem_freep) char *text = NULL;
	int rc = pem_file_read(path, &text, err);
	if (rc == -ENOENT) {
		*out = json_array();
		return *out ? 0 : err_set(err, -ENOMEM, "ca: %s: no memory", path);
	}
	if (rc < 0)
		return rc;

	json_error_t why;
	AUTO(json_freep) json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &why);
	json_t *array = json_object_get(root, key);
	if (!root)
		return err_set(err, -EINVAL,
			       "ca: %s:%d: %s; restore the file (an empty one would trust again what was "
			       "revoked)",
			       path, why.line, why.text);
	if (!json_is_array(array))
		return err_set(err, -EINVAL, "ca: %s: \"%s\" is not an array; restore the file", path, key);
	*out = json_incref(array);
	return 0;
}

static int array_write(const char *path, const char *key, json_t *array, unsigned int mode, struct err *err)
{
	AUTO(json_freep) json_t *root = json_pack("{s:O}", key, array);
	AUTO(mem_freep) char *text = root ? json_dumps(root, JSON_INDENT(1)) : NULL;
	if (!text)
		return err_set(err, -ENOMEM, "ca: write %s: no memory", path);
	return pem_file_write(path, text, mode, err);
}

static int cmp_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int revoked_take(const json_t *array, const char *path, struct revoked_list *out, struct err *err)
{
	size_t n = json_array_size(array);
	struct revoked_list list = { .serials = calloc(n ? n : 1, sizeof(char *)) };
	if (!list.serials)
		return err_set(err, -ENOMEM, "ca: %s: no memory", path);

	for (size_t i = 0; i < n; i++) {
		const char *serial = json_string_value(json_object_get(json_array_get(array, i), "serial"));
		char *copy = serial ? strdup(serial) : NULL;
		if (!copy) {
			revoked_list_done(&list);
			return err_set(err, serial ? -ENOMEM : -EINVAL, "ca: %s: entry %zu has no serial", path, i);
		}
		list.serials[list.count++] = copy;
	}
	qsort(list.serials, list.count, sizeof(char *), cmp_text);
	*out = list;
	return 0;
}

int state_revoked_read(const char *dir, struct revoked_list *out, struct err *err)
{
	AUTO(mem_freep) char *path = str_format("%s/revoked.json", dir);
	AUTO(json_freep) json_t *array = NULL;
	if (!path)
		return err_set(err, -ENOMEM, "ca: no memory");
	int rc = array_read(path, "revoked", &array, err);
	return rc < 0 ? rc : revoked_take(array, path, out, err);
}

/* Drops what has expired anyway; tells whether the serial is there already. */
static bool revoked_prune(json_t *array, const char *serial, uint64_t now_s)
{
	bool found = false;

	for (size_t i = json_array_size(array); i-- > 0;) {
		json_t *entry = json_array_get(array, i);
		json_int_t expires = json_integer_value(json_object_get(entry, "expires"));
		found |= str_eq(json_string_value(json_object_get(entry, "serial")), serial);
		if (expires > 0 && (uint64_t)expires + 3600 < now_s)
			json_array_remove(array, i);
	}
	return found;
}

int state_revoked_add(const char *dir, const char *serial, uint64_t now_s, uint64_t expires_s, struct revoked_list *out,
		      struct err *err)
{
	AUTO(mem_freep) char *path = str_format("%s/revoked.json", dir);
	if (!path)
		return err_set(err, -ENOMEM, "ca: no memory");
	AUTO(fd_closep) int lock = authority_dir_lock(dir, err);
	if (lock < 0)
		return lock;
	AUTO(json_freep) json_t *array = NULL;
	int rc = array_read(path, "revoked", &array, err);
	if (rc < 0)
		return rc;

	if (!revoked_prune(array, serial, now_s)) {
		if (json_array_size(array) >= CA_REVOKED_MAX)
			return err_set(err, -ENOSPC,
				       "ca: %s is full (%d serials); replace the root instead, or remove entries "
				       "that have expired",
				       path, CA_REVOKED_MAX);
		json_t *entry = json_pack("{s:s, s:I, s:I}", "serial", serial, "revoked", (json_int_t)now_s, "expires",
					  (json_int_t)expires_s);
		if (!entry || json_array_append_new(array, entry) < 0)
			return err_set(err, -ENOMEM, "ca: %s: no memory", path);
	}
	rc = array_write(path, "revoked", array, 0644, err);
	return rc < 0 ? rc : revoked_take(array, path, out, err);
}

void revoked_list_done(struct revoked_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->serials[i]);
	free(list->serials);
	*list = (struct revoked_list){ 0 };
}

static bool stack_has(STACK_OF(X509) * stack, X509 *cert)
{
	for (int i = 0; i < sk_X509_num(stack); i++)
		if (X509_cmp(sk_X509_value(stack, i), cert) == 0)
			return true;
	return false;
}

static int entry_append(json_t *array, X509 *cert, uint64_t until_s)
{
	AUTO(mem_freep) char *text = pem_cert_text(cert);
	json_t *entry = text ? json_pack("{s:s, s:I}", "pem", text, "until", (json_int_t)until_s) : NULL;

	return entry && json_array_append_new(array, entry) == 0 ? 0 : -ENOMEM;
}

/* A root of the file that is no longer current: retired, until its time is over. */
static int retire(struct retired_roots *out, json_t *next, X509 *cert, uint64_t until_s)
{
	int n = sk_X509_num(out->certs);
	if (n >= CA_ROOTS_MAX)
		return 0;
	uint64_t *until = realloc(out->until_s, ((size_t)n + 1) * sizeof(*until));
	if (!until)
		return -ENOMEM;
	out->until_s = until;
	until[n] = until_s;
	if (!X509_up_ref(cert))
		return -ENOMEM;
	if (!sk_X509_push(out->certs, cert)) {
		X509_free(cert);
		return -ENOMEM;
	}
	return entry_append(next, cert, until_s);
}

static int roots_merge(json_t *was, json_t *next, STACK_OF(X509) * current, uint64_t now_s, uint32_t overlap_s,
		       const char *path, struct retired_roots *out, struct err *err)
{
	int rc = 0;

	for (int i = 0; rc == 0 && i < sk_X509_num(current); i++)
		rc = entry_append(next, sk_X509_value(current, i), 0);
	for (size_t i = 0; rc == 0 && i < json_array_size(was); i++) {
		const json_t *entry = json_array_get(was, i);
		const char *text = json_string_value(json_object_get(entry, "pem"));
		json_int_t until = json_integer_value(json_object_get(entry, "until"));
		AUTO(pem_stack_freep) STACK_OF(X509) *certs = NULL;
		rc = pem_certs_parse(text ? text : "", path, &certs, err);
		if (rc < 0)
			return rc;
		X509 *cert = sk_X509_value(certs, 0);
		uint64_t until_s = until > 0 ? (uint64_t)until : now_s + overlap_s;
		if (!stack_has(current, cert) && until_s > now_s && pem_not_after_s(cert) > now_s)
			rc = retire(out, next, cert, until_s);
	}
	return rc < 0 ? err_set(err, rc, "ca: %s: no memory", path) : 0;
}

int state_roots_update(const char *dir, struct stack_st_X509 *current, uint64_t now_s, uint32_t overlap_s,
		       struct retired_roots *out, struct err *err)
{
	AUTO(mem_freep) char *path = str_format("%s/trusted-roots.json", dir);
	AUTO(json_freep) json_t *next = json_array();
	AUTO(retired_roots_done) struct retired_roots retired = { .certs = sk_X509_new_null() };
	if (!path || !next || !retired.certs)
		return err_set(err, -ENOMEM, "ca: no memory");
	AUTO(fd_closep) int lock = authority_dir_lock(dir, err);
	if (lock < 0)
		return lock;

	AUTO(json_freep) json_t *was = NULL;
	int rc = array_read(path, "roots", &was, err);
	if (rc == 0)
		rc = roots_merge(was, next, current, now_s, overlap_s, path, &retired, err);
	if (rc == 0 && !json_equal(was, next))
		rc = array_write(path, "roots", next, 0644, err);
	if (rc < 0)
		return rc;
	*out = retired;
	retired = (struct retired_roots){ 0 };
	return 0;
}

void retired_roots_done(struct retired_roots *retired)
{
	sk_X509_pop_free(retired->certs, X509_free);
	free(retired->until_s);
	*retired = (struct retired_roots){ 0 };
}
