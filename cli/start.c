/* SPDX-License-Identifier: GPL-2.0-or-later */
/* start and restart; attaching to what was started. */
#include "cli/verbs.h"

#include <unistd.h>

const struct cli_opt all_opts[] = {
	{"all", 'a', NULL, "every VPS that this makes sense for"},
	{"parallel", 0, "N", "at most N at once"},
	{0},
};

const struct cli_opt start_opts[] = {
	{"all", 'a', NULL, "every stopped VPS"},
	{"parallel", 0, "N", "at most N at once"},
	{"wait", 'w', NULL, "until its init says that it is ready"},
	{"timeout", 0, "TIME", "give up waiting after this time (default 90s)"},
	{"attach", 0, NULL, "run in the foreground; exits with init's exit code"},
	{0},
};

const struct cli_opt restart_opts[] = {
	{"all", 'a', NULL, "every running VPS"},
	{"parallel", 0, "N", "at most N at once"},
	{"wait", 'w', NULL, "until its init says that it is ready"},
	{"timeout", 't', "TIME", "force the stop after this time"},
	{"kill", 0, NULL, "do not ask, kill"},
	{0},
};

static int start_opts_of(struct cli *c, struct vps_start_opts *so, struct vps_err *err)
{
	*so = (struct vps_start_opts){.wait = cli_flag(c, "wait"),
				      .hold_for_attach = cli_flag(c, "attach")};
	return cli_timeout(c, 0, &so->timeout_ms, err);
}

static int start_one(struct cli *c, const char *name, struct vps_err *err)
{
	struct vps_start_opts so;
	int r = start_opts_of(c, &so, err);
	return r < 0 ? r : vps_start(c->host, name, &so, err);
}

/* The exit code comes before the teardown; the next command is to find that done. */
static void wait_over(struct cli *c, const char *id)
{
	auto_done(vps_info_done) struct vps_info i = {0};
	bool there = vps_get(c->host, id, &i, NULL) >= 0;
	if (there && (i.status == VPS_RESTARTING || i.spec.restart != RESTART_NO))
		return;
	vps_wait(c->host, id,
		 !there || i.spec.remove_on_exit ? VPS_WAIT_DELETED : VPS_WAIT_STOPPED, 10000, NULL,
		 NULL);
}

int cli_attach(struct cli *c, const char *name, struct vps_err *err)
{
	auto_done(vps_info_done) struct vps_info i = {0};
	struct vps_console *con = NULL;
	char id[16];
	int r = vps_get(c->host, name, &i, err);
	if (r >= 0)
		r = vps_console_open(c->host, name, true, &con, err);
	if (r < 0)
		return r;
	snprintf(id, sizeof(id), "%u", i.spec.id);
	bool escape = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	int why, code;
	for (;;) {
		code = relay_console(con, escape, &why);
		if (why <= 0)
			break;
		if (vps_kill(c->host, name, why, NULL) < 0) /* ended meanwhile */
			break;
	}
	vps_console_close(con);
	if (why == RELAY_DETACHED)
		fprintf(stderr, "\ndetached; '%s' runs on\n", name);
	else
		wait_over(c, id);
	return code;
}

static int attach_one(struct cli *c, const char *name)
{
	struct vps_err err = {0};
	int r = start_one(c, name, &err);
	if (r >= 0)
		r = cli_attach(c, name, &err);
	return r < 0 ? cli_fail(c, r, &err) : r;
}

int verb_start(struct cli *c)
{
	struct vps_err err = {0};
	auto_strv names = NULL;
	int r = cli_names(c, 1u << VPS_STOPPED, &names, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	if (!cli_flag(c, "attach"))
		return cli_each(c, names, start_one);
	if (strv_len(names) != 1)
		return cli_usage(c, "--attach wants exactly one VPS");
	return attach_one(c, names[0]);
}

static int restart_one(struct cli *c, const char *name, struct vps_err *err)
{
	struct vps_stop_opts o = {.kill = cli_flag(c, "kill")};
	struct vps_start_opts so = {.wait = cli_flag(c, "wait")};
	int r = cli_timeout(c, -1, &o.timeout_ms, err);
	return r < 0 ? r : vps_restart(c->host, name, &o, &so, err);
}

int verb_restart(struct cli *c)
{
	struct vps_err err = {0};
	auto_strv names = NULL;
	int r = cli_names(c, 1u << VPS_RUNNING, &names, &err);
	return r < 0 ? cli_fail(c, r, &err) : cli_each(c, names, restart_one);
}

static int by_monitor(struct cli *c, int (*fn)(struct vps_host *, unsigned, struct vps_err *))
{
	struct vps_err err = {0};
	uint64_t id = 0;
	int r = parse_u64(c->args[0], UINT32_MAX, &id);
	if (r >= 0)
		r = cli_host(c, &err);
	if (r >= 0)
		r = fn(c->host, id, &err);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}

int verb_restart_by_monitor(struct cli *c) { return by_monitor(c, vps_restart_by_monitor); }
int verb_teardown_by_monitor(struct cli *c) { return by_monitor(c, vps_teardown_by_monitor); }
int verb_thaw_by_monitor(struct cli *c) { return by_monitor(c, vps_thaw_by_monitor); }
int verb_lxcfs_heal(struct cli *c) { return by_monitor(c, vps_lxcfs_heal_by_monitor); }
