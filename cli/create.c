/* SPDX-License-Identifier: GPL-2.0-or-later */
/* create, launch, run: from options to a definition to a VPS. */
#include "cli/verbs.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

const struct cli_opt create_opts[] = {
	{"profile", 'p', "FILE|NAME",
	 "defaults from a profile (a plan); may be given several times"},
	{"id", 0, NULL, "print the id instead of the name"},
	{"name", 0, "NAME", NULL},
	{0},
};

const struct cli_opt launch_opts[] = {
	{"profile", 'p', "FILE|NAME",
	 "defaults from a profile (a plan); may be given several times"},
	{"wait", 'w', NULL, "until its init says that it is ready"},
	{"id", 0, NULL, "print the id instead of the name"},
	{"name", 0, "NAME", NULL},
	{0},
};

const struct cli_opt run_opts[] = {
	{"profile", 'p', "FILE|NAME",
	 "defaults from a profile (a plan); may be given several times"},
	{"rm", 0, NULL, "delete the VPS when its command ends"},
	{"detach", 'd', NULL, "do not attach; print the name"},
	{"tty", 't', NULL, "give the command a terminal"},
	{"name", 0, "NAME", NULL},
	{"interactive", 'i', NULL, NULL}, /* of docker's -it: input goes in anyway */
	{0},
};

/* Defaults first: vps.conf's, then each profile, then what was said here. */
int cli_make_spec(struct cli *c, const char *name, struct vps_spec *ret, struct vps_err *err)
{
	int r = cli_host(c, err);
	if (r < 0)
		return r;
	auto_done(spec_done) struct vps_spec s;
	spec_init(&s);
	r = vps_spec_defaults(c->host, &s, err);
	for (size_t i = 0; r >= 0 && i < c->n_given; i++)
		if (!c->given[i].spec && str_eq(c->given[i].name, "profile"))
			r = vps_profile_load(c->host, c->given[i].value, &s, err);
	for (size_t i = 0; r >= 0 && i < c->n_given; i++)
		if (c->given[i].spec)
			r = spec_set(&s, c->given[i].name, c->given[i].value, err);
	if (r >= 0 && name)
		r = str_set(&s.name, name);
	if (r >= 0 && c->command)
		r = strv_copy(&s.command, c->command);
	if (r < 0)
		return r;
	if (!s.image && !vps_host_conf(c->host)->default_image)
		return vps_err_set(
			err, VPS_EUSAGE,
			"which image? Give --image REF; 'vps image list' shows what is there");
	*ret = s;
	spec_init(&s);
	return 0;
}

static int create(struct cli *c, const char *name, struct vps_info *ret, struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec s;
	spec_init(&s);
	int r = cli_make_spec(c, name, &s, err);
	if (r < 0)
		return r;
	if (cli_flag(c, "rm"))
		s.remove_on_exit = true;
	if (str_eq(c->verb->name, "run"))
		s.console = cli_flag(c, "tty") ? CONSOLE_PTY : CONSOLE_PIPES;
	r = vps_create(c->host, &s, cli_progress(c), ret, err);
	cli_progress_end();
	if (r >= 0)
		cli_warn_caveats(c, &ret->spec);
	return r;
}

static const char *name_arg(const struct cli *c)
{
	return c->n_args ? c->args[0] : cli_value(c, "name");
}

int verb_create(struct cli *c)
{
	struct vps_err err = {0};
	auto_done(vps_info_done) struct vps_info i = {0};
	int r = create(c, name_arg(c), &i, &err);
	return r < 0 ? cli_fail(c, r, &err) : cli_print_new(c, &i);
}

int verb_launch(struct cli *c)
{
	struct vps_err err = {0};
	auto_done(vps_info_done) struct vps_info i = {0};
	int r = create(c, name_arg(c), &i, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	struct vps_start_opts so = {.wait = cli_flag(c, "wait")};
	r = vps_start(c->host, i.spec.name, &so, &err);
	if (r < 0) {
		vps_err_wrap(&err, r, "created '%s' but it does not start", i.spec.name);
		return cli_fail(c, r, &err);
	}
	/* As it is now, where that can still be had: with --restart=no a short payload may have
	 * ended. */
	struct vps_info now = {0};
	if (vps_get(c->host, i.spec.name, &now, NULL) >= 0) {
		vps_info_done(&i);
		i = now;
	}
	return cli_print_new(c, &i);
}

int verb_run(struct cli *c)
{
	struct vps_err err = {0};
	auto_done(vps_info_done) struct vps_info i = {0};
	int r = create(c, name_arg(c), &i, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	bool detach = cli_flag(c, "detach");
	struct vps_start_opts so = {.hold_for_attach = !detach};
	r = vps_start(c->host, i.spec.name, &so, &err);
	if (r >= 0 && detach)
		return cli_print_new(c, &i);
	if (r >= 0)
		r = cli_attach(c, i.spec.name, &err);
	if (r < 0) {
		r = cli_exec_fail(c, r, &err);
		if (cli_flag(c, "rm")) /* it never ran, so nobody else removes it */
			vps_delete(c->host, i.spec.name, true, NULL);
	}
	return r;
}
