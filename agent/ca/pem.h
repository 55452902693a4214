/* SPDX-License-Identifier: Apache-2.0 */
/* PEM files and the few OpenSSL objects that the CA handles, with errors that name the file. Internal to agent/ca;
 * OpenSSL's types are only forward-declared. On the caller's thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct x509_st;
struct evp_pkey_st;
struct stack_st_X509;

enum { PEM_FILE_MAX = 1024 * 1024, PEM_CERTS_MAX = 256 };

/* As err_set, with OpenSSL's reason appended; empties OpenSSL's queue. */
int pem_err(struct err *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The whole file, NUL-terminated (caller frees). -ENOENT without a sentence when it is not there. */
int pem_file_read(const char *path, char **out, struct err *err);
/* By way of a temporary file beside it, synced and renamed. */
int pem_file_write(const char *path, const char *text, unsigned int mode, struct err *err);
/* Every certificate of the text; `what` names it in errors. None is an error. */
int pem_certs_parse(const char *text, const char *what, struct stack_st_X509 **out, struct err *err);
int pem_key_parse(const char *text, const char *what, struct evp_pkey_st **out, struct err *err);
char *pem_cert_text(struct x509_st *cert);   /* caller frees; NULL: no memory */
char *pem_key_text(struct evp_pkey_st *key); /* caller frees, wiping it: pem_wipe */
void pem_wipe(char *secret);		     /* overwrites and frees */
void pem_wipep(char **secret);
uint64_t pem_not_after_s(const struct x509_st *cert);
uint64_t pem_not_before_s(const struct x509_st *cert);
void pem_fingerprint(const struct x509_st *cert, char out[65]);
char *pem_subject(const struct x509_st *cert);	   /* one line, caller frees */
void pem_date_text(uint64_t time_s, char out[32]); /* "2036-11-21 12:00:00Z" */
void pem_stack_freep(struct stack_st_X509 **certs);
void pem_cert_freep(struct x509_st **cert);
void pem_key_freep(struct evp_pkey_st **key);
