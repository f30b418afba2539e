/* SPDX-License-Identifier: GPL-2.0-or-later */
/* stop, kill, pause, unpause, delete, rename, rebuild, wait: one call each. */
#include "cli/verbs.h"

#include <ctype.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

const struct cli_opt stop_opts[] = {
	{"all", 'a', NULL, "every running VPS"},
	{"parallel", 0, "N", "at most N at once"},
	{"timeout", 't', "TIME", "force after this time (default: the VPS's stop-timeout)"},
	{"kill", 0, NULL, "do not ask, kill (also --fast, --force)"},
	{"fast", 0, NULL, NULL},
	{"force", 'f', NULL, NULL},
	{0},
};

const struct cli_opt kill_opts[] = {
	{"all", 'a', NULL, "every running VPS"},
	{"signal", 's', "SIG", "name or number (default KILL)"},
	{"parallel", 0, "N", "at most N at once"},
	{0},
};

const struct cli_opt delete_opts[] = {
	{"all", 'a', NULL, "every stopped VPS; with --force every VPS"},
	{"force", 'f', NULL, "stop it first; no error when it is not there"},
	{"parallel", 0, "N", "at most N at once"},
	{0},
};

const struct cli_opt rebuild_opts[] = {
	{"image", 'i', "REF", "another image"},
	{"force", 'f', NULL, "stop it first"},
	{0},
};

const struct cli_opt wait_opts[] = {
	{"for", 0, "STATE", "stopped (default), running, ready or deleted"},
	{"timeout", 't', "TIME", "give up after this time, exit code 10"},
	{0},
};

static int stop_one(struct cli *c, const char *name, struct vps_err *err)
{
	struct vps_stop_opts o = {.kill = cli_flag(c, "kill") || cli_flag(c, "fast") ||
					  cli_flag(c, "force")};
	int r = cli_timeout(c, -1, &o.timeout_ms, err);
	return r < 0 ? r : vps_stop(c->host, name, &o, err);
}

/* Names of signals as kill(1) knows them, with and without SIG; RTMIN+N. */
static int parse_signal(const char *s, int *ret)
{
	uint64_t n;
	if (parse_u64(s, SIGRTMAX, &n) == 0 && n) {
		*ret = (int)n;
		return 0;
	}
	if (strncasecmp(s, "SIG", 3) == 0)
		s += 3;
	if (strncasecmp(s, "RTMIN+", 6) == 0 && parse_u64(s + 6, SIGRTMAX - SIGRTMIN, &n) == 0) {
		*ret = SIGRTMIN + (int)n;
		return 0;
	}
	for (int sig = 1; sig < NSIG; sig++) {
		const char *abbrev = sigabbrev_np(sig);
		if (abbrev && strcasecmp(abbrev, s) == 0) {
			*ret = sig;
			return 0;
		}
	}
	return -EINVAL;
}

static int kill_one(struct cli *c, const char *name, struct vps_err *err)
{
	const char *v = cli_value(c, "signal");
	int sig = SIGKILL;
	if (v && parse_signal(v, &sig) < 0)
		return vps_err_set(err, VPS_EUSAGE, "--signal '%s': no such signal", v);
	return vps_kill(c->host, name, sig, err);
}

static int pause_one(struct cli *c, const char *name, struct vps_err *err)
{
	return vps_pause(c->host, name, true, err);
}

static int unpause_one(struct cli *c, const char *name, struct vps_err *err)
{
	return vps_pause(c->host, name, false, err);
}

static int delete_one(struct cli *c, const char *name, struct vps_err *err)
{
	bool force = cli_flag(c, "force");
	int r = vps_delete(c->host, name, force, err);
	if (r == -VPS_ENOVPS && force)
		return 0;
	return r;
}

static int many(struct cli *c, unsigned mask,
		int (*fn)(struct cli *, const char *, struct vps_err *))
{
	struct vps_err err = {0};
	auto_strv names = NULL;
	int r = cli_names(c, mask, &names, &err);
	return r < 0 ? cli_fail(c, r, &err) : cli_each(c, names, fn);
}

#define UP (1u << VPS_RUNNING | 1u << VPS_STARTING | 1u << VPS_RESTARTING | 1u << VPS_PAUSED)

int verb_stop(struct cli *c) { return many(c, UP, stop_one); }
int verb_kill(struct cli *c) { return many(c, 1u << VPS_RUNNING | 1u << VPS_PAUSED, kill_one); }
int verb_pause(struct cli *c) { return many(c, 1u << VPS_RUNNING, pause_one); }
int verb_unpause(struct cli *c) { return many(c, 1u << VPS_PAUSED, unpause_one); }

int verb_delete(struct cli *c)
{
	return many(c, cli_flag(c, "force") ? ~0u : 1u << VPS_STOPPED | 1u << VPS_MOVED | 1u << VPS_BROKEN,
		    delete_one);
}

int verb_rename(struct cli *c)
{
	struct vps_err err = {0};
	int r = cli_host(c, &err);
	if (r >= 0)
		r = vps_rename(c->host, c->args[0], c->args[1], &err);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}

int verb_rebuild(struct cli *c)
{
	struct vps_err err = {0};
	int r = cli_host(c, &err);
	if (r >= 0 && cli_flag(c, "force")) {
		struct vps_stop_opts o = {.timeout_ms = -1};
		r = vps_stop(c->host, c->args[0], &o, &err);
		if (r == -VPS_ESTATE) { /* stopped already */
			vps_err_clear(&err);
			r = 0;
		}
	}
	if (r >= 0)
		r = vps_rebuild(c->host, c->args[0], cli_value(c, "image"), cli_progress(c), &err);
	return r < 0 ? cli_fail(c, r, &err) : EXIT_OK;
}

int verb_wait(struct cli *c)
{
	static const char *const words[] = {"stopped", "running", "ready", "deleted"};
	struct vps_err err = {0};
	const char *want = cli_value(c, "for");
	unsigned what = 0;
	while (want && what < ARRAY_LEN(words) && !str_eq(words[what], want))
		what++;
	if (what == ARRAY_LEN(words))
		return cli_usage(c, "--for '%s': it is one of stopped, running, ready, deleted",
				 want);
	int timeout, code = 0, r = cli_timeout(c, -1, &timeout, &err);
	if (r >= 0)
		r = cli_host(c, &err);
	if (r >= 0)
		r = vps_wait(c->host, c->args[0], (enum vps_wait_for)what, timeout, &code, &err);
	if (r < 0)
		return cli_fail(c, r, &err);
	if (what == VPS_WAIT_STOPPED)
		printf("%d\n", code);
	return EXIT_OK;
}
