// SPDX-License-Identifier: GPL-2.0-or-later
/* exec: from a name to the driver. No lock: nothing is changed, and a pidfd keeps the identity
 * true. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/inside.h"
#include "runtime/internal.h"

void inside_done(struct inside *i)
{
	spec_done(&i->spec);
	cg_close(i->cg);
	close_fd(&i->dir);
	close_fd(&i->run_dir);
}

/* A frozen group freezes whoever joins it. */
int inside_open(struct vps_host *h, const char *who, struct inside *ret, struct vps_err *err)
{
	struct inside i = INSIDE_INIT;
	struct cg_host *ch;
	char name[ID_STR];
	int r = store_find(h, who, &i.id, err);

	spec_init(&i.spec);
	r = r ?: run_init(h, i.id, who, &i.state, err);
	if (r == 0 && i.state.phase != RUN_RUNNING)
		r = vps_err_set(err, VPS_ESTATE, "'%s' is %s", who,
				i.state.phase == RUN_PAUSED ? "paused" : "being suspended");
	r = r ?: store_read_spec_of(h, i.id, &i.spec, err);
	r = r ?: host_cgroups(h, &ch, err);
	r = r ?: cg_open(ch, id_str(i.id, name), &i.cg, err);
	if (r < 0) {
		inside_done(&i);
		if (r == -ENOENT)
			return vps_err_set(err, VPS_ESTATE, "'%s' is not running", who);
		return r;
	}
	i.driver = driver_of(&i.spec);
	i.dir = store_dir(h, i.id);
	i.run_dir = store_run_dir(h, i.id);
	*ret = i;
	ret->live = (struct vps_live){
		.spec = &ret->spec,
		.conf = &h->conf,
		.instance_dir = ret->dir,
		.run_dir = ret->run_dir,
		.cg = ret->cg,
		.init = &ret->state.init,
	};
	return 0;
}

int vps_exec(struct vps_host *h, const char *who, const struct vps_exec *x,
	     struct vps_exec_handle *ret, struct vps_err *err)
{
	auto_done(inside_done) struct inside i = INSIDE_INIT;
	int r;

	if (!x->argv || !x->argv[0])
		return vps_err_set(err, VPS_EUSAGE, "no command given");
	r = inside_open(h, who, &i, err);
	return r < 0 ? r : i.driver->exec(&i.live, x, ret, err);
}

static void handle_close(struct vps_exec_handle *x)
{
	close_fd(&x->pidfd);
	close_fd(&x->pty);
	close_fd(&x->status_fd);
}

/* A driver whose command is not our child writes the status as an int; pid, if any, is then the child of
 * ours that waited for it. It is killed together with the VPS, and then says nothing. */
int vps_exec_wait(struct vps_exec_handle *x)
{
	siginfo_t si = {0};
	int status, r;

	if (x->status_fd >= 0) {
		r = fs_read_full(x->status_fd, &status, sizeof(status)) == sizeof(status)
			    ? status
			    : 128 + SIGKILL;
		while (x->pid > 0 && waitpid(x->pid, NULL, 0) < 0 && errno == EINTR)
			;
		handle_close(x);
		return r;
	}
	do
		r = waitid(P_PIDFD, (id_t)x->pidfd, &si, WEXITED) < 0 ? -errno : 0;
	while (r == -EINTR);
	handle_close(x);
	if (r < 0)
		return r;
	return si.si_code == CLD_EXITED ? si.si_status : 128 + si.si_status;
}

int vps_exec_signal(struct vps_exec_handle *x, int sig)
{
	return sys_pidfd_send_signal(x->pidfd, sig);
}
