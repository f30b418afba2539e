/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The last of the rights, before execve(2): limits, ids, seccomp, capabilities. */
#include "runtime/container/container.h"

#include <grp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>

/* What a distribution's PID 1 starts with, whatever the operator's shell had. */
static const struct { int which; rlim_t cur, max; } limits[] = {
	{RLIMIT_NOFILE, 1024, 1048576},
	{RLIMIT_CORE, 0, RLIM_INFINITY},
	{RLIMIT_STACK, 8 << 20, RLIM_INFINITY},
	{RLIMIT_MEMLOCK, 8 << 20, 8 << 20},
	{RLIMIT_MSGQUEUE, 819200, 819200},
	{RLIMIT_NICE, 0, 0},
	{RLIMIT_RTPRIO, 0, 0},
	{RLIMIT_NPROC, RLIM_INFINITY, RLIM_INFINITY}, /* the pids controller's work */
	{RLIMIT_CPU, RLIM_INFINITY, RLIM_INFINITY},
	{RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY},
	{RLIMIT_DATA, RLIM_INFINITY, RLIM_INFINITY},
	{RLIMIT_AS, RLIM_INFINITY, RLIM_INFINITY},
};

/* Without CAP_SYS_RESOURCE a ceiling of ours can only be kept. */
static int set_rlimit(int which, rlim_t cur, rlim_t max)
{
	struct rlimit want = {cur, max}, have;
	if (setrlimit(which, &want) == 0)
		return 0;
	if (errno != EPERM || getrlimit(which, &have) < 0)
		return -errno;
	want.rlim_max = have.rlim_max;
	if (want.rlim_cur > want.rlim_max)
		want.rlim_cur = want.rlim_max;
	return setrlimit(which, &want) < 0 ? -errno : 0;
}

int payload_rlimits(bool outside, struct vps_err *err)
{
	int r = 0;
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(limits); i++) {
		bool budget = outside && (limits[i].which == RLIMIT_MEMLOCK ||
					  limits[i].which == RLIMIT_MSGQUEUE);
		r = set_rlimit(limits[i].which, limits[i].cur,
			       budget ? RLIM_INFINITY : limits[i].max);
	}
	return r < 0 ? vps_err_sys(err, r, "set resource limits") : 0;
}

static int set_ids(const struct vps_user *u, struct vps_err *err)
{
	if (setgroups(u->n_groups, u->groups) < 0 || setresgid(u->gid, u->gid, u->gid) < 0 ||
	    setresuid(u->uid, u->uid, u->uid) < 0)
		return vps_err_sys(err, -errno, "become uid %u", u->uid);
	return 0;
}

int payload_drop(struct payload *p, struct vps_err *err)
{
	const struct vps_spec *s = p->spec;
	/* Before seccomp, whose profile may be the operator's. */
	if (p->tty && !p->under_init && ioctl(0, TIOCSCTTY, 0) < 0)
		return vps_err_sys(err, -errno, "take the terminal");
	int r = payload_rlimits(false, err);
	if (r >= 0)
		r = caps_begin(s->cap_add, s->cap_drop, err);
	if (r >= 0)
		r = set_ids(&p->user, err);
	if (r >= 0)
		r = caps_regain(err);
	/* Not dumpable: until execve nobody inside may look into this process. */
	if (r >= 0 && prctl(PR_SET_DUMPABLE, 0) < 0)
		r = vps_err_sys(err, -errno, "become undumpable");
	if (r >= 0 && p->seccomp && p->seccomp->len)
		r = filter_load(p->seccomp, err);
	if (r >= 0)
		r = caps_finish(p->user.uid, s->cap_add, s->cap_drop, err);
	return r;
}
