/* SPDX-License-Identifier: Apache-2.0 */
/* Fields that services and scripts ask for. */
#pragma once

#include "agent/helper/http/message.h"

/* Whether others may have a say in the field: a valid name and value, and nothing that frames messages. */
bool field_ok(struct http_string name, struct http_string value);
/* A copy of text of theirs, the name in lower case; what is not field_ok() is left out. replace: the field's others go. 0 or
 * -ENOMEM. */
int field_put(struct http_head *to, struct http_string name, struct http_string value, bool replace);
/* ASCII for protobuf, whose strings must be UTF-8: other bytes become "?". NUL-terminated, lies in `in`. NULL: no memory. */
char *field_text(struct http_head *in, struct http_string s);
