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

/* ---- check ------------------------------------------------------------------------- */

const struct cli_opt check_opts[] = {
	{"migrate", 0, NULL, "what keeps it from being suspended or migrated as it runs"},
	{0},
};

static void print_json(const struct vps_obstacle *v, size_t n)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);

	jo_array(&o, NULL);
	for (size_t i = 0; i < n; i++) {
		jo_object(&o, NULL);
		if (v[i].process) {
			jo_int(&o, "pid", v[i].pid);
			jo_str(&o, "process", v[i].process);
		}
		jo_str(&o, "what", v[i].what);
		jo_str(&o, "help", v[i].help);
		jo_end_object(&o);
	}
	jo_end_array(&o);
	if (sb_ok(&sb) == 0)
		puts(sb.s);
}

static void print_lines(const struct vps_obstacle *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		autofree char *process = v[i].process ? str_escape(v[i].process) : NULL;

		if (process)
			printf("process %d (%s) ", (int)v[i].pid, process);
		printf("%s\n    %s\n", v[i].what, v[i].help);
	}
}

int verb_check(struct cli *c)
{
	struct vps_err err = {0};
	struct vps_obstacle *v = NULL;
	size_t n = 0;
	int r = cli_host(c, &err);

	if (r >= 0)
		r = vps_migrate_check(c->host, c->args[0], &v, &n, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	if (c->json)
		print_json(v, n);
	else if (n)
		print_lines(v, n);
	else
		printf("'%s' can be suspended and migrated as it runs\n", c->args[0]);
	vps_obstacles_free(v, n);
	return n ? EXIT_UNSUPPORTED : EXIT_OK;
}
