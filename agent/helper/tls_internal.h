/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by tls*.c only: the one header of ours that knows OpenSSL. */
#pragma once

#include "agent/base/err.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

/* Fills err with the sentence and OpenSSL's own reason, empties OpenSSL's queue, and returns code. */
int tls_err(struct err *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
