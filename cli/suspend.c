/* SPDX-License-Identifier: GPL-2.0-or-later */
/* suspend, resume, check --migrate. */
#include "cli/verbs.h"

const struct cli_opt suspend_opts[] = {
	{"to", 0, "FILE", "write the memory to this file instead"},
	{"all", 'a', NULL, "every running VPS"},
	{"parallel", 0, "N", "at most N at once"},
	{0},
};

const struct cli_opt resume_opts[] = {
	{"from", 0, "FILE", "the memory is in this file"},
	{"all", 'a', NULL, "every suspended VPS"},
	{"parallel", 0, "N", "at most N at once"},
	{0},
};

static int suspend_one(struct cli *c, const char *name, struct vps_err *err)
{
	const struct vps_suspend_opts o = {.file = cli_value(c, "to")};

	return vps_suspend(c->host, name, &o, cli_progress(c), err);
}

static int resume_one(struct cli *c, const char *name, struct vps_err *err)
{
	const struct vps_suspend_opts o = {.file = cli_value(c, "from")};

	return vps_resume(c->host, name, &o, NULL, cli_progress(c), err);
}

static int many(struct cli *c, enum vps_status s, const char *file,
		int (*fn)(struct cli *, const char *, struct vps_err *))
{
	struct vps_err err = {0};
	auto_strv names = NULL;
	int r = cli_names(c, 1u << s, &names, &err);

	if (r >= 0 && file && strv_len(names) != 1)
		r = vps_err_set(&err, VPS_EUSAGE, "one file is for one VPS");
	return r < 0 ? cli_fail(c, r, &err) : cli_each(c, names, fn);
}

int verb_suspend(struct cli *c)
{
	return many(c, VPS_RUNNING, cli_value(c, "to"), suspend_one);
}

int verb_resume(struct cli *c)
{
	return many(c, VPS_SUSPENDED, cli_value(c, "from"), resume_one);
}
