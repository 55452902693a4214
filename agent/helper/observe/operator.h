/* SPDX-License-Identifier: Apache-2.0 */
/* What the %OPERATORS% of access logs and header operations (model/access_format.h) stand for. Worker's thread. */
#pragma once

#include "agent/helper/observe/record.h"
#include "agent/model/access_format.h"

#include <stdbool.h>

struct sb;

/* Appends what it stands for. false: there is no such value in this record, and nothing was appended. */
bool operator_write(const struct request_record *r, const struct access_operator *op, struct sb *out);
