/* SPDX-License-Identifier: Apache-2.0 */
/* The record layer of an established TLS 1.3 connection (RFC 8446, section 5), in place and in batches. OpenSSL makes
 * the handshake; its traffic secrets come here. This is the seam where another record layer (kTLS) can take its place.
 * No I/O, no clock; one owner, one thread. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tls_record;

enum {
	TLS_HEADER = 5, /* before the content of a record */
	TLS_TAIL = 17,	/* after it: content type and tag */
	TLS_CONTENT_MAX = 16384,
	TLS_RECORD_MAX = TLS_HEADER + TLS_CONTENT_MAX + 256, /* RFC 8446, 5.2 */
	TLS_SECRET_MAX = 48,
};

enum tls_content { TLS_ALERT = 21, TLS_MESSAGE = 22, TLS_DATA = 23 };

/* Secrets of the handshake, as the key log names them. */
struct tls_secrets {
	bool aes256; /* TLS_AES_256_GCM_SHA384, else TLS_AES_128_GCM_SHA256 */
	uint8_t client[TLS_SECRET_MAX], server[TLS_SECRET_MAX];
};

int tls_record_new(const struct tls_secrets *secrets, bool server, struct tls_record **out); /* 0 or -ENOMEM */
void tls_record_free(struct tls_record *r); /* wipes the keys; NULL is fine */

/* Seals len bytes (at most TLS_CONTENT_MAX) that stand at record + TLS_HEADER; there must be room for TLS_TAIL after
 * them. Returns the record's length, or -errno (-EOVERFLOW: the key is used up, tls_record_update() was not called). */
ssize_t tls_record_seal(struct tls_record *r, enum tls_content type, uint8_t *record, size_t len);

/* Time to change the sending key: RFC 8446, 5.5 allows 2^24.5 full records. */
bool tls_record_is_worn(const struct tls_record *r);
/* Writes a KeyUpdate record to out (TLS_UPDATE_MAX bytes of room) and changes the sending key.
 * Returns its length or -errno. */
enum { TLS_UPDATE_MAX = TLS_HEADER + 5 + TLS_TAIL };
ssize_t tls_record_update(struct tls_record *r, bool request, uint8_t *out);
/* Writes an alert record (RFC 8446, 6) to out. close_notify: level 1, description 0. */
enum { TLS_ALERT_MAX = TLS_HEADER + 2 + TLS_TAIL };
ssize_t tls_record_alert(struct tls_record *r, uint8_t level, uint8_t description, uint8_t *out);

/* What tls_record_open() found. */
enum tls_opened {
	TLS_OPENED_DATA,   /* data..len is application data */
	TLS_OPENED_NONE,   /* consumed, nothing for the caller */
	TLS_OPENED_UPDATE, /* the peer wants our key changed: tls_record_update(r, false, ...) */
	TLS_OPENED_CLOSE,  /* close_notify */
	TLS_OPENED_ALERT,  /* any other alert: the connection is dead */
};

struct tls_plain {
	enum tls_opened what;
	uint8_t *data; /* inside the buffer that was given */
	size_t len;
	uint8_t alert;
};

/* Opens the record at the start of bytes, in place. Returns the bytes it took, 0 when the record is not complete, or
 * -errno: -EBADMSG (does not authenticate), -EPROTO (breaks the protocol), -EMSGSIZE, -ENOMEM. */
ssize_t tls_record_open(struct tls_record *r, uint8_t *bytes, size_t len, struct tls_plain *out);

/* RFC 8446, 7.1, for lengths of at most one hash. 0 or -EIO. For tests, too. */
int tls_expand_label(bool sha384, const uint8_t *secret, const char *label, uint8_t *out, size_t out_len);
