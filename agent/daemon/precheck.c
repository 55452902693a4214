/* SPDX-License-Identifier: Apache-2.0 */
/* weftd precheck: can this machine run Weft? As `meshctl precheck`, before there is an agent to ask. */
#include "agent/base/err.h"
#include "agent/daemon/daemon.h"
#include "agent/kernel/kernel.h"

#include <errno.h>
#include <stdio.h>

static void on_item(const struct precheck_item *item, void *arg)
{
	(void)arg;
	printf("%-8s %s%s%s\n",
	       item->ok	      ? "ok" :
	       item->required ? "MISSING" :
				"absent",
	       item->what, item->detail[0] ? ": " : "", item->detail);
}

int daemon_precheck(struct err *err)
{
	if (kernel_precheck(on_item, NULL) < 0)
		return err_set(err, -ENOTSUP,
			       "precheck: this machine can't run weftd as it is; see the lines marked MISSING");
	return 0;
}
