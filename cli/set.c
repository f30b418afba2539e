/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "cli/verbs.h"

const struct cli_opt set_opts[] = {{0}};

int verb_set(struct cli *c)
{
	struct vps_err err = {0};
	auto_strv settings = NULL;
	int r = cli_spec_settings(c, &settings);
	if (r >= 0 && !settings)
		return cli_usage(c, "nothing to set");
	if (r >= 0)
		r = cli_host(c, &err);
	if (r >= 0)
		r = vps_set(c->host, c->args[0], settings, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	auto_done(vps_info_done) struct vps_info i = {0};
	if (vps_get(c->host, c->args[0], &i, NULL) >= 0)
		cli_warn_caveats(c, &i.spec);
	return EXIT_OK;
}
