/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Turning a process into vps-monitor, and finding a new one for a VPS that lost its own. */
#include "runtime/monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"
#include "runtime/events.h"
#include "runtime/keeper.h"
#include "runtime/monitor_args.h"
#include "runtime/monitor_files.h"

/* argv of the executable; text holds the words. */
static int build_argv(const struct monitor_args *a, char **argv, char *text, size_t size)
{
	size_t n = 0, used = 0;

	argv[n++] = (char *)(uintptr_t) "vps-monitor";
	for (const struct monitor_arg *t = monitor_arg_table; t->key; t++) {
		const void *at = monitor_arg_at(a, t);
		char *word = text + used;
		size_t room = size - used;
		int len = 0;

		if (t->type == ARG_STR && *(char *const *)at)
			len = snprintf(word, room, "%s=%s", t->key, *(char *const *)at);
		else if (t->type == ARG_UINT && *(const unsigned *)at)
			len = snprintf(word, room, "%s=%u", t->key, *(const unsigned *)at);
		else if (t->type == ARG_U64 && *(const uint64_t *)at)
			len = snprintf(word, room, "%s=%" PRIu64, t->key, *(const uint64_t *)at);
		else if (t->type == ARG_BOOL && *(const bool *)at)
			len = snprintf(word, room, "%s=1", t->key);
		else if (t->type == ARG_FD && *(const int *)at >= 0)
			len = snprintf(word, room, "%s=%d", t->key, *(const int *)at);
		if (len == 0)
			continue;
		if (len < 0 || (size_t)len >= room)
			return -ENAMETOOLONG;
		argv[n++] = word;
		used += (size_t)len + 1;
	}
	argv[n] = NULL;
	return 0;
}

static int keep_on_exec(const struct monitor_args *a, bool keep)
{
	for (const struct monitor_arg *t = monitor_arg_table; t->key; t++) {
		int fd = t->type == ARG_FD ? *(const int *)monitor_arg_at(a, t) : -1;

		if (fd >= 0 && fcntl(fd, F_SETFD, keep ? 0 : FD_CLOEXEC) < 0)
			return -errno;
	}
	return 0;
}

int monitor_exec(const struct monitor_args *a, struct vps_err *err)
{
	char path[PATH_MAX], libexec[PATH_MAX + 16] = "", text[4 * PATH_MAX];
	char *argv[MONITOR_N_ARGS + 2];
	const char *dir = getenv("VPS_LIBEXEC");
	/* Nothing of the caller's environment: a monitor lives for months. */
	char *env[] = {(char *)(uintptr_t) "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL, NULL};
	int r = build_argv(a, argv, text, sizeof(text));

	if (r < 0)
		return vps_err_sys(err, r, "start the monitor");
	monitor_program("vps-monitor", PKGLIBEXECDIR, path, sizeof(path));
	if (dir && *dir) {
		snprintf(libexec, sizeof(libexec), "VPS_LIBEXEC=%s", dir);
		env[1] = libexec;
	}
	r = sys_close_range(3, ~0u, CLOSE_RANGE_CLOEXEC);
	if (r == 0)
		r = keep_on_exec(a, true);
	if (r == 0) {
		execve(path, argv, env);
		r = -errno;
	}
	keep_on_exec(a, false);
	return vps_err_sys(err, r, "start '%s'", path);
}

/* In the grandchild: no way back but by the report pipe. */
static void __attribute__((noreturn)) become(const struct monitor_args *a)
{
	struct vps_err err = {0};

	monitor_exec(a, &err);
	(void)!write(a->report, &err, sizeof(err));
	_exit(1);
}

static int spawn_detached(const struct monitor_args *a, int cgroup)
{
	int status;
	pid_t pid = proc_fork_into(cgroup);

	if (pid < 0)
		return pid;
	if (pid == 0) {
		setsid();
		pid = fork();
		if (pid == 0)
			become(a);
		_exit(pid < 0);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return status == 0 ? 0 : -EAGAIN;
}

int monitor_adopt(const struct monitor_args *given, int cgroup, struct vps_err *err)
{
	struct monitor_args a = *given;
	struct vps_err said = {0};
	int p[2], r = monitor_alive(a.run_dir);

	if (r != 0)
		return r < 0 ? vps_err_sys(err, r, "look for the monitor")
			     : vps_err_set(err, VPS_ESTATE, "it has a monitor");

	autoclose int pidfd = proc_ident_open(&a.init);

	if (pidfd < 0)
		return vps_err_sys(err, pidfd, "adopt '%s'", a.name);
	if (pipe2(p, O_CLOEXEC) < 0)
		return vps_err_sys(err, -errno, "pipe");

	autoclose int in = p[0], out = p[1];

	a.pidfd = pidfd;
	a.report = out;
	a.adopt = true;
	r = spawn_detached(&a, cgroup);
	close_fd(&out);
	if (r < 0)
		return vps_err_sys(err, r, "start a monitor for '%s'", a.name);

	ssize_t n = fs_read_full(in, &said, sizeof(said));

	if (n != (ssize_t)sizeof(said))
		return vps_err_set(err, EIO, "the monitor of '%s' did not come up", a.name);
	if (said.code)
		return vps_err_set(err, said.code, "%s", said.msg);
	return 0;
}

int monitor_lost(const struct monitor_args *a, struct vps_err *err)
{
	struct monitor_last last = {0};
	struct monitor_status st = {0};
	autoclose int run = fs_open_dir(a->run_dir, "..");
	autoclose int keeper = run < 0 ? run : keeper_connect(run);

	if (keeper >= 0)
		keeper_drop(keeper, a->id);
	if (monitor_last_read(a->instance_dir, &last) == 0 && last.init == a->init.pid &&
	    last.init_start == a->init.start_time)
		return 0;
	monitor_status_read(a->run_dir, &st);
	last = (struct monitor_last){
		.exit_code = -1,
		.cause = MONITOR_LOST,
		.started = a->started,
		.stopped = sys_now_real() / 1000000000u,
		.oom_kills = st.oom_kills,
		.restarts = st.restarts,
		.init = a->init.pid,
		.init_start = a->init.start_time,
	};

	int r = monitor_last_write(a->instance_dir, &last);

	if (r < 0)
		return vps_err_sys(err, r, "record the end of '%s'", a->name);
	if (run >= 0)
		event_add(run, a->id, a->name, "lost", NULL, 0);
	return 0;
}
