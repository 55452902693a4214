/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ca/pem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "agent/base/err.h"
#include "agent/base/mem.h"
#include "agent/base/str.h"

int pem_err(struct err *err, int code, const char *format, ...)
{
	char text[ERR_TEXT_MAX];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	const char *why = ERR_reason_error_string(ERR_peek_last_error());
	ERR_clear_error();
	return err_set(err, code, why ? "%s: %s" : "%s", text, why);
}

static int read_all(int fd, const char *path, char *buf, size_t size, struct err *err)
{
	size_t len = 0;

	while (len < size) {
		ssize_t n = read(fd, buf + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, -errno, "ca: read %s", path);
		if (n == 0)
			break;
		len += (size_t)n;
	}
	if (memchr(buf, 0, len))
		return err_set(err, -EINVAL, "ca: %s is binary; convert it to PEM with: openssl x509 -inform der",
			       path);
	buf[len] = 0;
	return 0;
}

int pem_file_read(const char *path, char **out, struct err *err)
{
	AUTO(fd_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return err_sys(err, -errno, "ca: open %s", path);

	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_sys(err, -errno, "ca: stat %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "ca: %s is not a regular file", path);
	if (st.st_size > PEM_FILE_MAX)
		return err_set(err, -EFBIG, "ca: %s is larger than 1 MiB; it should hold a few certificates", path);

	size_t size = (size_t)st.st_size;
	AUTO(mem_freep) char *text = malloc(size + 1);
	if (!text)
		return err_set(err, -ENOMEM, "ca: read %s: no memory", path);
	int rc = read_all(fd, path, text, size, err);
	if (rc < 0)
		return rc;
	*out = TAKE(text);
	return 0;
}

static int write_all(int fd, const char *text)
{
	size_t len = strlen(text);

	while (len) {
		ssize_t n = write(fd, text, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return fsync(fd) < 0 ? -errno : 0;
}

/* The rename itself must reach the disk, or a power cut could bring back a directory without the new name. */
static void sync_parent(const char *path)
{
	AUTO(mem_freep) char *dir = strdup(path);
	if (!dir)
		return;
	char *slash = strrchr(dir, '/');
	if (slash)
		*slash = 0;
	AUTO(fd_closep) int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		fsync(fd);
}

int pem_file_write(const char *path, const char *text, unsigned int mode, struct err *err)
{
	AUTO(mem_freep) char *tmp = str_format("%s.tmp", path);
	if (!tmp)
		return err_set(err, -ENOMEM, "ca: write %s: no memory", path);

	unlink(tmp); /* left by a crash; whoever writes here holds the directory's lock */
	AUTO(fd_closep) int fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return err_sys(err, -errno, "ca: create %s; the directory must be writable for weftd", tmp);
	int rc = fchmod(fd, mode) < 0 ? -errno : write_all(fd, text);
	if (rc == 0 && rename(tmp, path) < 0)
		rc = -errno;
	if (rc < 0) {
		unlink(tmp);
		return err_sys(err, rc, "ca: write %s", path);
	}
	sync_parent(path);
	return 0;
}

/* A key file that asks for a passphrase must fail, not stop the agent at a terminal prompt. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	(void)buf, (void)size, (void)rwflag;
	*(bool *)arg = true;
	return -1;
}

int pem_certs_parse(const char *text, const char *what, struct stack_st_X509 **out, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	AUTO(pem_stack_freep) STACK_OF(X509) *certs = sk_X509_new_null();
	if (!bio || !certs) {
		BIO_free(bio);
		return err_set(err, -ENOMEM, "ca: %s: no memory", what);
	}

	int rc = 0;
	X509 *cert;
	ERR_clear_error();
	while (rc == 0 && (cert = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		if (sk_X509_num(certs) >= PEM_CERTS_MAX || !sk_X509_push(certs, cert)) {
			X509_free(cert);
			rc = err_set(err, -E2BIG, "ca: %s holds more than %d certificates", what, PEM_CERTS_MAX);
		}
	}
	bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	if (rc == 0 && !at_end)
		rc = pem_err(err, -EINVAL, "ca: %s: certificate %d is damaged", what, sk_X509_num(certs) + 1);
	else if (rc == 0 && sk_X509_num(certs) == 0)
		rc = err_set(err, -EINVAL, "ca: %s holds no certificate (-----BEGIN CERTIFICATE-----)", what);
	ERR_clear_error();
	BIO_free(bio);
	if (rc == 0)
		*out = TAKE(certs);
	return rc;
}

int pem_key_parse(const char *text, const char *what, struct evp_pkey_st **out, struct err *err)
{
	BIO *bio = BIO_new_mem_buf(text, -1);
	if (!bio)
		return err_set(err, -ENOMEM, "ca: %s: no memory", what);

	bool encrypted = false;
	ERR_clear_error();
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &encrypted);
	BIO_free(bio);
	if (!key && encrypted) {
		ERR_clear_error();
		return err_set(err, -EINVAL,
			       "ca: %s is encrypted; weftd has nobody to ask for a passphrase: decrypt it with "
			       "openssl pkey -in FILE -out FILE",
			       what);
	}
	if (!key)
		return pem_err(err, -EINVAL, "ca: %s holds no private key that can be read", what);
	*out = key;
	return 0;
}

static char *bio_take(BIO *bio, int ok)
{
	char *data, *text = NULL;
	long len = ok && bio ? BIO_get_mem_data(bio, &data) : 0;
	if (len > 0)
		text = strndup(data, (size_t)len);
	BIO_free(bio);
	return text;
}

char *pem_cert_text(struct x509_st *cert)
{
	BIO *bio = BIO_new(BIO_s_mem());

	return bio_take(bio, bio && PEM_write_bio_X509(bio, cert));
}

char *pem_key_text(struct evp_pkey_st *key)
{
	BIO *bio = BIO_new(BIO_s_secmem());

	return bio_take(bio, bio && PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL));
}

void pem_wipe(char *secret)
{
	if (secret)
		OPENSSL_cleanse(secret, strlen(secret));
	free(secret);
}

void pem_wipep(char **secret)
{
	pem_wipe(*secret);
}

static uint64_t time_s(const ASN1_TIME *t)
{
	struct tm tm;
	if (!t || !ASN1_TIME_to_tm(t, &tm))
		return 0;
	time_t s = timegm(&tm);
	return s < 0 ? 0 : (uint64_t)s;
}

uint64_t pem_not_after_s(const struct x509_st *cert)
{
	return time_s(X509_get0_notAfter(cert));
}

uint64_t pem_not_before_s(const struct x509_st *cert)
{
	return time_s(X509_get0_notBefore(cert));
}

void pem_fingerprint(const struct x509_st *cert, char out[65])
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned int len = 0;

	out[0] = 0;
	if (!X509_digest(cert, EVP_sha256(), md, &len))
		return;
	for (unsigned int i = 0; i < len && i < 32; i++)
		snprintf(out + 2 * i, 3, "%02x", md[i]);
}

char *pem_subject(const struct x509_st *cert)
{
	BIO *bio = BIO_new(BIO_s_mem());
	int ok = bio &&
		 X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) > 0;
	char *text = bio_take(bio, ok);

	return text ? text : strdup("");
}

void pem_date_text(uint64_t s, char out[32])
{
	time_t t = (time_t)s;
	struct tm tm;
	if (!gmtime_r(&t, &tm) || !strftime(out, 32, "%Y-%m-%d %H:%M:%SZ", &tm))
		str_copy(out, 32, "?");
}

void pem_stack_freep(struct stack_st_X509 **certs)
{
	sk_X509_pop_free(*certs, X509_free);
}

void pem_cert_freep(struct x509_st **cert)
{
	X509_free(*cert);
}

void pem_key_freep(struct evp_pkey_st **key)
{
	EVP_PKEY_free(*key);
}
