/* SPDX-License-Identifier: GPL-2.0-or-later */
/* clone: a new VPS with another's disk. */
#include "cli/verbs.h"

int verb_clone(struct cli *c)
{
	struct vps_err err = {0};
	auto_strv settings = NULL;
	auto_done(vps_info_done) struct vps_info i = {0};
	struct vps_clone_opts o = {.snapshot = cli_value(c, "snapshot"), .linked = cli_flag(c, "linked")};
	int r = cli_spec_settings(c, &settings);

	if (r >= 0)
		r = cli_host(c, &err);
	o.settings = settings;
	if (r >= 0)
		r = vps_clone(c->host, c->args[0], c->args[1], &o, cli_progress(c), &i, &err);
	cli_progress_end();
	if (r < 0)
		return cli_fail(c, r, &err);
	cli_warn_caveats(c, &i.spec);
	return cli_print_new(c, &i);
}
