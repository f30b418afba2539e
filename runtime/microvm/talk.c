/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is said to a running machine: to vps-vmm, and to the agent of its guest, which is the tenant's. */
#include "runtime/microvm/microvm.h"

#include <poll.h>
#include <signal.h>
#include <string.h>

#include "base/sys.h"
#include "runtime/guest/agent.h"

#define AGENT_MS   60000 /* a guest that still boots has no agent yet */
#define NAP_MS	   20
#define VMM_MS	   5000
#define STATS_MS   2000
#define BALLOON_MS 30000
#define DISK	   1 /* place in vps-vmm's argv */

static int connect_once(const struct vps_live *l, int timeout_ms, struct vps_err *err)
{
	int fd = vmm_api_vsock(l->run_dir, VMM_PORT_AGENT, timeout_ms, err);
	int r = fd < 0 ? fd : agent_hello(fd, timeout_ms, err);

	if (r < 0)
		close_fd(&fd);
	return r < 0 ? r : fd;
}

int vm_agent(const struct vps_live *l, int timeout_ms, struct vps_err *err)
{
	uint64_t end = sys_now_mono() + (uint64_t)timeout_ms * 1000000;

	for (;;) {
		struct vps_err why = {0};
		uint64_t now = sys_now_mono();
		int fd = connect_once(l, now < end ? (int)((end - now) / 1000000) + 1 : 1, &why);

		if (fd >= 0)
			return fd;
		if (fd != -ECONNREFUSED && fd != -ECONNRESET)
			return vps_err_set(err, why.code, "%s", why.msg);
		if (sys_now_mono() >= end)
			return vps_err_set(err, VPS_ETIMEDOUT, "no agent answers in the machine: it is still "
							      "starting, or its system has ended it");
		poll(NULL, 0, NAP_MS);
	}
}

int vm_pack(const struct vps_live *l, const char *path, int tar_fd, struct vps_err *err)
{
	autoclose int fd = vm_agent(l, AGENT_MS, err);

	return fd < 0 ? fd : agent_pack(fd, path, tar_fd, -1, err);
}

int vm_unpack(const struct vps_live *l, const char *path, long uid, long gid, int tar_fd,
	      struct vps_err *err)
{
	autoclose int fd = vm_agent(l, AGENT_MS, err);

	return fd < 0 ? fd : agent_unpack(fd, path, uid, gid, tar_fd, -1, err);
}

/* KILL is for vps-vmm: the plug is pulled. Any other is for what runs inside. */
int vm_signal(const struct vps_live *l, int sig, struct vps_err *err)
{
	uint8_t n[4] = {(uint8_t)sig, (uint8_t)(sig >> 8)};
	autoclose int fd = -1;
	int r;

	if (sig == SIGKILL) {
		autoclose int pidfd = proc_ident_open(l->init);

		r = pidfd < 0 ? pidfd : sys_pidfd_send_signal(pidfd, sig);
		return r < 0 ? vps_err_sys(err, r, "signal to the machine") : 0;
	}
	if (l->paused)
		return vps_err_set(err, VPS_ESTATE, "a paused machine takes no signal but KILL");
	fd = vm_agent(l, VMM_MS, err);
	return fd < 0 ? fd : agent_call(fd, AGENT_KILL, n, sizeof(n), VMM_MS, NULL, err);
}

/* Not by its cgroup: KVM's thread that splits huge pages is in there, too, and before Linux 6.13 it was a
 * thread of the kernel's, which the freezer waits for in vain. */
int vm_freeze(const struct vps_live *l, bool paused, struct vps_err *err)
{
	int r;

	if (!paused)
		return vmm_api_resume(l->run_dir, VMM_MS, err);
	r = vmm_api_pause(l->run_dir, VMM_MS, err);
	if (r < 0)
		vmm_api_resume(l->run_dir, VMM_MS, NULL);
	return r;
}

int vm_procs(const struct vps_live *l, struct vps_proc **ret, size_t *ret_n, struct vps_err *err)
{
	autoclose int fd = -1;

	if (l->paused)
		return vps_err_set(err, VPS_ESTATE, "a paused machine does not answer");
	fd = vm_agent(l, VMM_MS, err);
	return fd < 0 ? fd : agent_procs(fd, VMM_MS, ret, ret_n, err);
}

/* A console may be looked at before its guest has an agent: the caller waits in a child of its own. */
void vm_winsize(const struct vps_live *l, unsigned short rows, unsigned short cols)
{
	const uint8_t size[4] = {(uint8_t)rows, (uint8_t)(rows >> 8), (uint8_t)cols, (uint8_t)(cols >> 8)};
	autoclose int fd = vm_agent(l, AGENT_MS, NULL);

	if (fd >= 0)
		(void)agent_call(fd, AGENT_WINSIZE, size, sizeof(size), VMM_MS, NULL, NULL);
}

/* ---- numbers -------------------------------------------------------------------- */

static void guest_numbers(const struct vps_live *l, struct vps_stats *s)
{
	struct agent_stat a;
	autoclose int fd = connect_once(l, STATS_MS, NULL);

	if (fd < 0 || agent_stat(fd, STATS_MS, &a, NULL) < 0)
		return;
	s->guest_memory = a.mem_total;
	s->guest_memory_available = a.mem_available;
	s->pids_current = a.threads;
	s->disk_size = a.disk_size;
	s->disk_used = a.disk_used;
	s->inodes = a.inodes;
	s->inodes_used = a.inodes_used;
	s->load1 = (double)a.load1 / 100;
	s->load5 = (double)a.load5 / 100;
	s->load15 = (double)a.load15 / 100;
}

void vm_stats(const struct vps_live *l, struct vps_stats *s)
{
	struct vmm_stats v;

	/* The group's count is of vps-vmm's threads. */
	s->pids_current = CG_UNSET;
	s->pids_limit = l->spec->pids;
	if (l->paused)
		return;
	if (vmm_api_stats(l->run_dir, &v, STATS_MS, NULL) == 0) {
		s->balloon = v.balloon_actual;
		for (unsigned i = 0; i < v.n_disks && i < VMM_MAX_DISKS; i++) {
			if (strncmp(v.disk[i].serial, GUEST_SERIAL_DISK, sizeof(v.disk[i].serial)) != 0)
				continue;
			s->io_rbytes = v.disk[i].read_bytes;
			s->io_wbytes = v.disk[i].written_bytes;
			s->io_rios = v.disk[i].reads;
			s->io_wios = v.disk[i].writes;
		}
	}
	guest_numbers(l, s);
}

/* ---- set, live --------------------------------------------------------------------- */

static int wait_balloon(const struct vps_live *l, uint64_t target, struct vps_err *err)
{
	uint64_t end = sys_now_mono() + BALLOON_MS * 1000000ull;
	struct vmm_stats v;
	int r;

	do {
		r = vmm_api_stats(l->run_dir, &v, VMM_MS, err);
		if (r < 0 || v.balloon_actual >= target)
			return r;
		poll(NULL, 0, NAP_MS);
	} while (sys_now_mono() < end);
	return vps_err_set(err, VPS_ERESOURCE, "the guest gives back only %llu MiB: it needs the rest",
			   (unsigned long long)v.balloon_actual >> 20);
}

/* What the guest's own kernel holds to. */
static int set_guest(const struct vps_live *l, const struct vps_spec *was, const struct vps_spec *now,
		     struct vps_err *err)
{
	auto_done(guest_cfg_done) struct guest_cfg c = {0};
	auto_strbuf sb = STRBUF_INIT;
	autoclose int fd = -1;
	int r;

	if (was->pids == now->pids && strv_equal(was->addrs, now->addrs) &&
	    str_eq(was->stop_signal, now->stop_signal))
		return 0;
	if (l->paused)
		return vps_err_set(err, VPS_ESTATE, "pids, ip and stop-signal: a paused machine does not answer");
	r = vm_guest_change(was, now, &c);
	r = r ?: guest_cfg_write(&c, &sb);
	if (r < 0)
		return vps_err_sys(err, r, "what the guest is told");
	fd = vm_agent(l, VMM_MS, err);
	r = fd < 0 ? fd : agent_call(fd, AGENT_SET, sb.s, sb.len, VMM_MS, NULL, err);
	return r < 0 ? vps_err_wrap(err, r, "in the machine") : 0;
}

static int check_update(const struct vmm_stats *v, const struct vps_spec *now, struct vps_err *err)
{
	if (vm_memory(now) > v->memory)
		return vps_err_set(err, VPS_ESTATE,
				   "memory: the machine was started with %lluM and can have that much at "
				   "most; stop it first", (unsigned long long)v->memory >> 20);
	if (vm_cpus(now, v->n_cpus) > v->n_cpus)
		return vps_err_set(err, VPS_ESTATE,
				   "cpus: the machine was started with %u and can use that many at most; "
				   "stop it first", v->n_cpus);
	return 0;
}

static int set_memory(const struct vps_live *l, const struct vmm_stats *v, const struct vps_spec *was,
		      const struct vps_spec *now, struct vps_err *err)
{
	uint64_t target = v->memory - vm_memory(now), more = target - v->balloon_actual;
	int r;

	/* It would get what it asks for, and the guest's kernel end processes for it: the limit is one. */
	if (target > v->balloon_actual && v->guest.available != VMM_UNKNOWN && more > v->guest.available)
		return vps_err_set(err, VPS_ERESOURCE, "the guest needs it: of the %llu MiB that it is to give back "
				   "%llu are available", (unsigned long long)more >> 20,
				   (unsigned long long)v->guest.available >> 20);
	r = vmm_api_balloon(l->run_dir, target, VMM_MS, err);
	if (r < 0 || vm_memory(now) >= vm_memory(was))
		return r;
	r = wait_balloon(l, target, err);
	if (r < 0)
		vmm_api_balloon(l->run_dir, v->balloon_target, VMM_MS, NULL);
	return r;
}

int vm_update(const struct vps_live *l, const struct vps_spec *was, const struct vps_spec *now,
	      struct vps_err *err)
{
	struct vmm_stats v;
	int r;

	r = set_guest(l, was, now, err);
	if (r < 0 || (vm_memory(was) == vm_memory(now) && was->cpus == now->cpus))
		return r;
	if (l->paused)
		return vps_err_set(err, VPS_ESTATE, "memory and cpus: a paused machine does not answer");
	r = vmm_api_stats(l->run_dir, &v, VMM_MS, err);
	r = r ?: check_update(&v, now, err);
	if (r == 0 && vm_memory(was) != vm_memory(now))
		r = set_memory(l, &v, was, now, err);
	if (r < 0)
		(void)set_guest(l, now, was, NULL);
	return r;
}

int vm_written(const struct vps_live *l, int *session, int fd, struct vps_err *err)
{
	_Static_assert(VMM_LOG_BLOCK == DISK_BLOCK, "blocks of one size");
	return vmm_api_written(l->run_dir, session, DISK, fd, VMM_MS, err);
}

/* A help: the guest does the same at its next start. */
void vm_grown(const struct vps_live *l)
{
	autoclose int fd = -1;

	if (vmm_api_grow(l->run_dir, DISK, VMM_MS, NULL) < 0)
		return;
	fd = connect_once(l, VMM_MS, NULL);
	if (fd >= 0)
		(void)agent_call(fd, AGENT_GROW, NULL, 0, VMM_MS, NULL, NULL);
}
