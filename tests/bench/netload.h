/* SPDX-License-Identifier: Apache-2.0 */
/* What netload's clients (netload.c) and its server (netload_serve.c) share. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BULK_BYTES ((size_t)256 * 1024)
#define MESSAGE_MAX 65536
#define IO_TIMEOUT_S 10

/* Prints {"error": ...} and ends the process: half a measurement is none. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* No Nagle; blocking calls end after IO_TIMEOUT_S. */
void socket_tune(int fd);

/* Serves until killed. A port of 0 is not opened. */
_Noreturn void serve_run(uint16_t echo_port, uint16_t sink_port, unsigned int threads);
