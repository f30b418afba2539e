/* SPDX-License-Identifier: GPL-2.0-or-later */
/* receive: the other end of migrate. Standard input and output are the connection. */
#include "cli/verbs.h"

#include <unistd.h>

int verb_receive(struct cli *c)
{
	struct vps_err err = {0};
	int r;

	if (isatty(0) || isatty(1))
		return cli_usage(c, "this is what 'vps migrate' runs on the other host");
	r = cli_host(c, &err);
	if (r >= 0)
		r = vps_receive(c->host, 0, 1, &err);
	if (r < 0 && !err.code)
		return cli_exit_code(r);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}
