/* SPDX-License-Identifier: Apache-2.0 */
/* What is odd about VirtualServices and the Gateway API's routes. */
#pragma once

struct compiler;
struct notes;

int http_look(struct compiler *c, struct notes *notes); /* 0, or less: no memory */
