/* SPDX-License-Identifier: Apache-2.0 */
/* What the files about HTTP share within this folder. */
#pragma once

#include "agent/model/http.h"

uint64_t http_destination_digest(uint64_t id, const struct http_destination *d);
