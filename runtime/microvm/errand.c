/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A stopped VPS's machine that boots for one errand. */
#include "runtime/microvm/launch.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/guest/agent.h"

/* One errand: what the guest is to be, and our half of it, with the socket that it connects to. */
struct errand {
	enum guest_role role;
	int (*fn)(const struct errand *e, int sock, struct vps_err *err);
	const char *path;
	int fd;
	long uid, gid;
};

/* The guest wants time for a boot, a large file, a slow disk. */
#define ERRAND_IDLE_MS 180000
#define ERRAND_END_MS  60000
#define RELAY	       (256u << 10)
#define ERRAND_MEMORY  (256ull << 20) /* enough for any tree */

static int relay(const struct errand *e, int sock, struct vps_err *err)
{
	autofree char *buf = malloc(RELAY);

	while (buf) {
		struct pollfd p = {.fd = sock, .events = POLLIN};
		int r = poll(&p, 1, ERRAND_IDLE_MS);
		ssize_t n = r > 0 ? read(sock, buf, RELAY) : r;

		if (n < 0 && errno == EINTR)
			return vps_err_set(err, VPS_EINTERRUPTED, "interrupted");
		if (r == 0)
			return vps_err_set(err, VPS_ETIMEDOUT, "the machine does not go on");
		if (n <= 0)
			return 0; /* its exit status tells whether that was all */
		r = fs_write_all(e->fd, buf, (size_t)n);
		if (r < 0)
			return vps_err_sys(err, r, "pass on what the machine sends");
	}
	return vps_err_sys(err, -ENOMEM, "relay");
}

static int pack(const struct errand *e, int sock, struct vps_err *err)
{
	int r = agent_hello(sock, ERRAND_IDLE_MS, err);

	return r ?: agent_pack(sock, e->path, e->fd, ERRAND_IDLE_MS, err);
}

static int unpack(const struct errand *e, int sock, struct vps_err *err)
{
	int r = agent_hello(sock, ERRAND_IDLE_MS, err);

	return r ?: agent_unpack(sock, e->path, e->uid, e->gid, e->fd, ERRAND_IDLE_MS, err);
}

static int set_out(struct vm_prep *p, const struct vps_run *run, pid_t *ret_pid, struct vps_err *err)
{
	autoclose int netns = -1;
	int r = vm_prepare(p, run, err);

	r = r ?: vm_birth(p, run, ret_pid, &netns, err);
	close_fd(&p->jail.fds.errand);
	if (r == 0 && write(p->gate[0], "", 1) != 1)
		r = vps_err_sys(err, -EPIPE, "open the gate");
	return r;
}

/* It powers off by itself; what it wrote is on the disk then. */
static int wait_off(pid_t pid, int r, struct vps_err *err)
{
	autoclose int pidfd = sys_pidfd_open(pid, 0);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	bool late = r == -VPS_ETIMEDOUT || r == -VPS_EINTERRUPTED || pidfd < 0 ||
		    poll(&p, 1, ERRAND_END_MS) != 1;
	int status = 0;

	if (late)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	if (late)
		return r < 0 ? 0 : vps_err_set(err, VPS_ETIMEDOUT, "the machine does not power off");
	vps_err_clear(err); /* what follows from that */
	return vps_err_set(err, EIO, "%s", WTERMSIG(status) == SIGHUP ? "the machine was reset" : "the machine was killed");
}

/* Where a machine stood that did not go on: it is gone, or what it says would have no end. */
static void add_console(struct vm_prep *p, struct vps_err *err)
{
	char buf[1024];
	autofree char *safe = str_escape(vm_last_console(p, buf, sizeof(buf)));

	vps_err_wrap(err, -err->code, "its console ends with '%s'", safe ?: "");
}

static int run_errand(const struct vps_run *run, const struct errand *e, struct vps_err *err)
{
	auto_done(vm_prep_done) struct vm_prep p = VM_PREP_INIT(run);
	struct vps_err why = {0};
	autoclose int sock = -1;
	char buf[1024];
	pid_t pid = 0;
	int pair[2], end = 0, r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return vps_err_sys(err, -errno, "socketpair");
	sock = pair[0];
	p.role = e->role;
	p.errand = p.jail.fleeting = true;
	p.jail.size.cpus = 1;
	if (p.jail.size.memory > ERRAND_MEMORY)
		p.jail.size.memory = ERRAND_MEMORY;
	p.jail.fds.image = run->image;
	p.jail.fds.disk = run->disk_image;
	p.jail.fds.errand = pair[1];
	r = set_out(&p, run, &pid, &why);
	if (r < 0 && pid > 0)
		kill(pid, SIGKILL);
	r = r ?: e->fn(e, sock, &why);
	close_fd(&sock);
	if (pid > 0)
		end = wait_off(pid, r, &why);
	if (end < 0)
		r = end;
	if (end < 0 || r == -VPS_ETIMEDOUT)
		add_console(&p, &why);
	/* of a relay, EPIPE is our reader's end; else the guest's */
	if (r < 0 && (end <= 0 || why.code != EPIPE || e->fn == relay))
		return vps_err_set(err, why.code, "%s", why.msg);
	if (end == 0)
		return 0;

	/* what its guest could not do says more than that it went away */
	autofree char *safe = str_escape(vm_last_words(&p, buf, sizeof(buf)));

	return vps_err_set(err, EIO, "the machine that is to reach its files: %s", safe ? safe : "it ended");
}

int vm_export(const struct vps_run *run, int fd, struct vps_err *err)
{
	const struct errand e = {.role = GUEST_EXPORT, .fn = relay, .fd = fd};

	return run_errand(run, &e, err);
}

int vm_pack_stopped(const struct vps_run *run, const char *path, int tar_fd, struct vps_err *err)
{
	const struct errand e = {.role = GUEST_SESSION, .fn = pack, .path = path, .fd = tar_fd};

	return run_errand(run, &e, err);
}

int vm_unpack_stopped(const struct vps_run *run, const char *path, long uid, long gid, int tar_fd,
		      struct vps_err *err)
{
	const struct errand e = {
		.role = GUEST_SESSION, .fn = unpack, .path = path, .fd = tar_fd, .uid = uid, .gid = gid};

	return run_errand(run, &e, err);
}
