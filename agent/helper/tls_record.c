/* SPDX-License-Identifier: Apache-2.0 */
/* Each direction has a secret, from which key and IV come; a KeyUpdate replaces the secret by its successor and
 * restarts the sequence number. The nonce is the IV xor the sequence number, the additional data the record header.
 * One AES-GCM context per direction is keyed once and reused; only its nonce changes from record to record. */
#include "agent/helper/tls_record.h"

#include "agent/helper/tls_internal.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

enum {
	IV_LEN = 12,
	TAG_LEN = 16,
	MESSAGE_HEADER = 4,
	MESSAGE_MAX = 16384,	/* session tickets are the only large ones, and we ignore them */
	EMPTY_RECORDS_MAX = 32, /* in a row; as OpenSSL does */
	MESSAGE_TICKET = 4,
	MESSAGE_KEY_UPDATE = 24,
	ALERT_CLOSE = 0,
	ALERT_USER_CANCELED = 90,
};

/* 2^24.5 full records is the limit for AES-GCM; the change is due well before. */
static const uint64_t SEQ_WORN = 1u << 23, SEQ_MAX = 23726566;

struct direction {
	EVP_CIPHER_CTX *ctx;
	uint64_t seq;
	uint8_t iv[IV_LEN];
	uint8_t secret[TLS_SECRET_MAX];
};

struct tls_record {
	struct direction tx, rx;
	bool aes256;
	uint8_t empty_records;
	uint8_t *message; /* a handshake message that is not complete yet */
	size_t message_len;
};

int tls_expand_label(bool sha384, const uint8_t *secret, const char *label, uint8_t *out, size_t out_len)
{
	uint8_t info[64], hash[EVP_MAX_MD_SIZE];
	size_t label_len = strlen(label), secret_len = sha384 ? 48 : 32, n = 0;
	if (out_len > secret_len || label_len > 32)
		return -EIO;

	info[n++] = (uint8_t)(out_len >> 8);
	info[n++] = (uint8_t)out_len;
	info[n++] = (uint8_t)(6 + label_len);
	memcpy(info + n, "tls13 ", 6);
	memcpy(info + n + 6, label, label_len);
	n += 6 + label_len;
	info[n++] = 0; /* empty context */
	info[n++] = 1; /* HKDF-Expand's first and only block */
	unsigned int hash_len = 0;
	if (!HMAC(sha384 ? EVP_sha384() : EVP_sha256(), secret, (int)secret_len, info, n, hash, &hash_len))
		return -EIO;
	memcpy(out, hash, out_len);
	OPENSSL_cleanse(hash, sizeof(hash));
	return 0;
}

/* Puts the direction's secret in force. */
static int direction_key(struct direction *d, bool aes256, bool sealing)
{
	uint8_t key[32];
	int rc = tls_expand_label(aes256, d->secret, "key", key, aes256 ? 32 : 16);
	if (rc == 0)
		rc = tls_expand_label(aes256, d->secret, "iv", d->iv, IV_LEN);
	if (rc == 0 &&
	    EVP_CipherInit_ex(d->ctx, aes256 ? EVP_aes_256_gcm() : EVP_aes_128_gcm(), NULL, key, NULL, sealing) != 1)
		rc = -ENOMEM;
	OPENSSL_cleanse(key, sizeof(key));
	d->seq = 0;
	return rc;
}

static int direction_update(struct direction *d, bool aes256, bool sealing)
{
	uint8_t next[TLS_SECRET_MAX];
	int rc = tls_expand_label(aes256, d->secret, "traffic upd", next, aes256 ? 48 : 32);
	if (rc < 0)
		return rc;
	memcpy(d->secret, next, sizeof(next));
	OPENSSL_cleanse(next, sizeof(next));
	return direction_key(d, aes256, sealing);
}

int tls_record_new(const struct tls_secrets *secrets, bool server, struct tls_record **out)
{
	struct tls_record *r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;

	r->aes256 = secrets->aes256;
	memcpy(r->tx.secret, server ? secrets->server : secrets->client, TLS_SECRET_MAX);
	memcpy(r->rx.secret, server ? secrets->client : secrets->server, TLS_SECRET_MAX);
	r->tx.ctx = EVP_CIPHER_CTX_new();
	r->rx.ctx = EVP_CIPHER_CTX_new();
	int rc = r->tx.ctx && r->rx.ctx ? 0 : -ENOMEM;
	if (rc == 0)
		rc = direction_key(&r->tx, r->aes256, true);
	if (rc == 0)
		rc = direction_key(&r->rx, r->aes256, false);
	if (rc < 0) {
		tls_record_free(r);
		return rc;
	}
	*out = r;
	return 0;
}

void tls_record_free(struct tls_record *r)
{
	if (!r)
		return;

	EVP_CIPHER_CTX_free(r->tx.ctx);
	EVP_CIPHER_CTX_free(r->rx.ctx);
	free(r->message);
	OPENSSL_cleanse(r, sizeof(*r));
	free(r);
}

static void direction_nonce(const struct direction *d, uint8_t nonce[IV_LEN])
{
	memcpy(nonce, d->iv, IV_LEN);
	for (int i = 0; i < 8; i++)
		nonce[IV_LEN - 1 - i] ^= (uint8_t)(d->seq >> (8 * i));
}

ssize_t tls_record_seal(struct tls_record *r, enum tls_content type, uint8_t *record, size_t len)
{
	if (len > TLS_CONTENT_MAX)
		return -EMSGSIZE;
	if (r->tx.seq >= SEQ_MAX)
		return -EOVERFLOW;

	size_t sealed = len + TLS_TAIL;
	record[0] = TLS_DATA;
	record[1] = 3;
	record[2] = 3;
	record[3] = (uint8_t)(sealed >> 8);
	record[4] = (uint8_t)sealed;
	uint8_t *content = record + TLS_HEADER;
	content[len] = (uint8_t)type;

	uint8_t nonce[IV_LEN];
	direction_nonce(&r->tx, nonce);
	EVP_CIPHER_CTX *ctx = r->tx.ctx;
	int n;
	if (EVP_EncryptInit_ex(ctx, NULL, NULL, NULL, nonce) != 1 ||
	    EVP_EncryptUpdate(ctx, NULL, &n, record, TLS_HEADER) != 1 ||
	    EVP_EncryptUpdate(ctx, content, &n, content, (int)len + 1) != 1 ||
	    EVP_EncryptFinal_ex(ctx, content + len + 1, &n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, content + len + 1) != 1)
		return -EIO;
	r->tx.seq++;
	return (ssize_t)(TLS_HEADER + sealed);
}

bool tls_record_is_worn(const struct tls_record *r)
{
	return r->tx.seq >= SEQ_WORN;
}

ssize_t tls_record_update(struct tls_record *r, bool request, uint8_t *out)
{
	static const uint8_t header[MESSAGE_HEADER] = { MESSAGE_KEY_UPDATE, 0, 0, 1 };
	memcpy(out + TLS_HEADER, header, MESSAGE_HEADER);
	out[TLS_HEADER + MESSAGE_HEADER] = request;
	ssize_t len = tls_record_seal(r, TLS_MESSAGE, out, MESSAGE_HEADER + 1);
	if (len < 0)
		return len;
	int rc = direction_update(&r->tx, r->aes256, true);
	return rc < 0 ? rc : len;
}

ssize_t tls_record_alert(struct tls_record *r, uint8_t level, uint8_t description, uint8_t *out)
{
	out[TLS_HEADER] = level;
	out[TLS_HEADER + 1] = description;
	return tls_record_seal(r, TLS_ALERT, out, 2);
}

/* One complete handshake message after the handshake. */
static int on_message(struct tls_record *r, const uint8_t *message, size_t len, bool last, struct tls_plain *out)
{
	if (message[0] == MESSAGE_TICKET)
		return 0; /* we do not resume */
	/* A KeyUpdate must end its record, as what follows has another key (RFC 8446, 5.1). */
	if (message[0] != MESSAGE_KEY_UPDATE || len != MESSAGE_HEADER + 1 || message[MESSAGE_HEADER] > 1 || !last)
		return -EPROTO;
	if (message[MESSAGE_HEADER] == 1)
		out->what = TLS_OPENED_UPDATE;
	return direction_update(&r->rx, r->aes256, false);
}

/* Handshake content: messages may be split over records and share one. */
static int open_messages(struct tls_record *r, const uint8_t *bytes, size_t len, struct tls_plain *out)
{
	if (len == 0)
		return -EPROTO;
	if (r->message_len + len > MESSAGE_MAX)
		return -EMSGSIZE;
	uint8_t *all = realloc(r->message, r->message_len + len);
	if (!all)
		return -ENOMEM;
	memcpy(all + r->message_len, bytes, len);
	r->message = all;
	r->message_len += len;

	size_t at = 0;
	int rc = 0;
	while (rc == 0 && r->message_len - at >= MESSAGE_HEADER) {
		const uint8_t *m = all + at;
		size_t size = MESSAGE_HEADER + ((size_t)m[1] << 16 | (size_t)m[2] << 8 | m[3]);
		if (size > MESSAGE_MAX)
			rc = -EMSGSIZE;
		if (rc < 0 || size > r->message_len - at)
			break;
		at += size;
		rc = on_message(r, m, size, at == r->message_len, out);
	}
	r->message_len -= at;
	memmove(all, all + at, r->message_len);
	if (r->message_len == 0) {
		free(r->message);
		r->message = NULL;
	}
	return rc;
}

static int open_alert(const uint8_t *bytes, size_t len, struct tls_plain *out)
{
	if (len != 2)
		return -EPROTO;
	out->alert = bytes[1];
	if (bytes[1] == ALERT_CLOSE)
		out->what = TLS_OPENED_CLOSE;
	else if (bytes[1] != ALERT_USER_CANCELED)
		out->what = TLS_OPENED_ALERT;
	return 0;
}

/* What a decrypted record holds; content is stripped of padding and type. */
static int open_content(struct tls_record *r, uint8_t type, uint8_t *content, size_t len, struct tls_plain *out)
{
	out->what = TLS_OPENED_NONE;
	if (type != TLS_MESSAGE && r->message_len)
		return -EPROTO; /* RFC 8446, 5.1: no interleaving */
	if (type == TLS_MESSAGE)
		return open_messages(r, content, len, out);
	if (type == TLS_ALERT)
		return open_alert(content, len, out);
	if (type != TLS_DATA)
		return -EPROTO;
	if (len == 0)
		return ++r->empty_records > EMPTY_RECORDS_MAX ? -EPROTO : 0;

	r->empty_records = 0;
	out->what = TLS_OPENED_DATA;
	out->data = content;
	out->len = len;
	return 0;
}

ssize_t tls_record_open(struct tls_record *r, uint8_t *bytes, size_t len, struct tls_plain *out)
{
	if (len < TLS_HEADER)
		return 0;
	size_t sealed = (size_t)bytes[3] << 8 | bytes[4];
	if (bytes[0] != TLS_DATA || bytes[1] != 3)
		return -EPROTO;
	if (sealed > TLS_RECORD_MAX - TLS_HEADER)
		return -EMSGSIZE;
	if (sealed < TLS_TAIL)
		return -EPROTO;
	if (len - TLS_HEADER < sealed)
		return 0;

	uint8_t nonce[IV_LEN], *content = bytes + TLS_HEADER;
	size_t n = sealed - TAG_LEN;
	direction_nonce(&r->rx, nonce);
	EVP_CIPHER_CTX *ctx = r->rx.ctx;
	int did;
	if (EVP_DecryptInit_ex(ctx, NULL, NULL, NULL, nonce) != 1 ||
	    EVP_DecryptUpdate(ctx, NULL, &did, bytes, TLS_HEADER) != 1 ||
	    EVP_DecryptUpdate(ctx, content, &did, content, (int)n) != 1 ||
	    EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, TAG_LEN, content + n) != 1 ||
	    EVP_DecryptFinal_ex(ctx, content + n, &did) != 1) {
		ERR_clear_error();
		return -EBADMSG;
	}
	if (++r->rx.seq == UINT64_MAX)
		return -EOVERFLOW;

	while (n > 0 && content[n - 1] == 0)
		n--;
	if (n == 0)
		return -EPROTO; /* no content type */
	if (n - 1 > TLS_CONTENT_MAX)
		return -EMSGSIZE;
	int rc = open_content(r, content[n - 1], content, n - 1, out);
	return rc < 0 ? rc : (ssize_t)(TLS_HEADER + sealed);
}
