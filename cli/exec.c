/* SPDX-License-Identifier: GPL-2.0-or-later */
/* exec, enter, console. The caller's own terminal and fds never go inside: a fresh pty, or
 * pipes. */
#include "cli/verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

const struct cli_opt exec_opts[] = {
	{"env", 'e', "K=V", "set an environment variable (again for more)"},
	{"user", 'u', "USER", "NAME, UID or UID:GID inside (default root)"},
	{"cwd", 'C', "DIR", "working directory inside"},
	{"tty", 't', NULL, "always a terminal"},
	{"no-tty", 'T', NULL, "never a terminal"},
	{"detach", 'd', NULL, "do not wait"},
	{"interactive", 'i', NULL, NULL}, /* of docker's -it: input goes in anyway */
	{0},
};

const struct cli_opt console_opts[] = {{0}};

static int env_of(const struct cli *c, bool tty, char ***ret)
{
	auto_strv env = NULL;
	const char *term = getenv("TERM");
	int r = 0;
	if (tty)
		r = strv_addf(&env, "TERM=%s", term && strlen(term) < 64 ? term : "xterm");
	for (size_t i = 0; r >= 0 && i < c->n_given; i++)
		if (str_eq(c->given[i].name, "env"))
			r = strv_add(&env, c->given[i].value);
	if (r < 0)
		return r;
	*ret = take_ptr(env);
	return 0;
}

/* stdio of a command without a terminal: our ends and its ends of three pipes. */
static int make_pipes(int ours[3], int theirs[3])
{
	for (int i = 0; i < 3; i++) {
		int p[2];
		if (pipe2(p, O_CLOEXEC) < 0)
			return -errno;
		ours[i] = i == 0 ? p[1] : p[0];
		theirs[i] = i == 0 ? p[0] : p[1];
	}
	return 0;
}

static void close_all(int fds[3])
{
	for (int i = 0; i < 3; i++)
		close_fd(&fds[i]);
}

static int run_inside(struct cli *c, struct vps_exec *x, struct vps_err *err)
{
	int ours[3] = {-1, -1, -1}, theirs[3] = {-1, -1, -1};
	struct vps_exec_handle h;
	int r = x->tty || x->detach ? 0 : make_pipes(ours, theirs);
	memcpy(x->stdio, theirs, sizeof(theirs));
	if (r >= 0)
		r = vps_exec(c->host, c->args[0], x, &h, err);
	close_all(theirs);
	if (r >= 0 && !x->detach)
		r = relay_exec(&h, ours);
	close_all(ours);
	return r;
}

static int exec_with(struct cli *c, char *const *argv)
{
	struct vps_err err = {0};
	if (cli_flag(c, "tty") && cli_flag(c, "no-tty"))
		return cli_usage(c, "-t or -T, not both");
	struct vps_exec x = {
		.argv = argv,
		.user = cli_value(c, "user"),
		.cwd = cli_value(c, "cwd"),
		.detach = cli_flag(c, "detach"),
		.rows = 24,
		.cols = 80,
	};
	x.tty = !x.detach && !cli_flag(c, "no-tty") &&
		(cli_flag(c, "tty") || (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)));
	term_size(STDIN_FILENO, &x.rows, &x.cols);
	auto_strv env = NULL;
	int r = env_of(c, x.tty, &env);
	x.env = env;
	if (r >= 0)
		r = cli_host(c, &err);
	if (r >= 0)
		r = run_inside(c, &x, &err);
	return r < 0 ? cli_exec_fail(c, r, &err) : r;
}

int verb_exec(struct cli *c)
{
	if (!c->command)
		return cli_usage(c, "which command?");
	return exec_with(c, c->command);
}

/* bash where there is one, as an operator expects; both read the login profile. */
int verb_enter(struct cli *c)
{
	static const char script[] =
		"if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi";
	const char *const shell[] = {"/bin/sh", "-c", script, NULL};
	return exec_with(c, (char *const *)shell);
}

int verb_console(struct cli *c)
{
	struct vps_err err = {0};
	struct vps_console *con = NULL;
	int r = cli_host(c, &err), why = 0;
	if (r >= 0)
		r = vps_console_open(c->host, c->args[0], false, &con, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	bool tty = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
	if (tty)
		fprintf(stderr, "Console of '%s'. Detach with Enter, Esc, '.'\n", c->args[0]);
	relay_console(con, tty, &why);
	vps_console_close(con);
	if (tty)
		fprintf(stderr, "\n%s\n", why == RELAY_DETACHED ? "detached" : "console closed");
	return why > 0 ? EXIT_INTERRUPTED : EXIT_OK;
}
