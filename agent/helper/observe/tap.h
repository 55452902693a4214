/* SPDX-License-Identifier: Apache-2.0 */
/* Requests as JSON for those who watch them live (meshctl tap). Worker's thread. */
#pragma once

struct request_record;
struct worker;

void taps_serve(struct worker *w, const struct request_record *r);
