/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a loop until something holds; fails the test after some seconds. */
#pragma once

#include <stdbool.h>

struct loop;

void until(struct loop *loop, bool (*holds)(void *arg), void *arg, const char *what);
/* Runs it for a while: for what should not happen. */
void for_a_while(struct loop *loop, unsigned int ms);
