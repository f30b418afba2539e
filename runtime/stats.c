// SPDX-License-Identifier: GPL-2.0-or-later
/* stats and top: what a VPS uses, from the cgroup, the link, the disk and /proc. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/inside.h"
#include "runtime/internal.h"
#include "runtime/procs.h"

static void stats_unknown(struct vps_stats *s)
{
	uint64_t *p = (uint64_t *)s;

	for (size_t i = 0; i < offsetof(struct vps_stats, psi_cpu10) / sizeof(*p); i++)
		p[i] = CG_UNSET;
	s->psi_cpu10 = s->psi_memory10 = s->psi_io10 = -1;
	s->load1 = s->load5 = s->load15 = -1;
	s->uptime_s = 0;
}

static void fill_cg(struct cg *cg, struct vps_stats *s)
{
	struct cg_stats c;

	if (cg_stats(cg, &c, NULL) < 0)
		return;
	s->cpu_usage_us = c.cpu_usage_us;
	s->cpu_user_us = c.cpu_user_us;
	s->cpu_system_us = c.cpu_system_us;
	s->cpu_throttled_us = c.cpu_throttled_us;
	s->memory_current = c.memory_current;
	s->memory_peak = c.memory_peak;
	s->memory_limit = c.memory_max;
	s->memory_anon = c.memory_anon;
	s->memory_file = c.memory_file;
	s->memory_kernel = c.memory_kernel;
	s->swap_current = c.swap_current;
	s->pids_current = c.pids_current;
	s->pids_limit = c.pids_max;
	s->io_rbytes = c.io_rbytes;
	s->io_wbytes = c.io_wbytes;
	s->io_rios = c.io_rios;
	s->io_wios = c.io_wios;
	s->oom_kills = c.oom_kills;
	if (c.has_psi) {
		s->psi_cpu10 = c.psi_cpu.some10;
		s->psi_memory10 = c.psi_memory.some10;
		s->psi_io10 = c.psi_io.some10;
	}
}

static void fill_net(struct vps_host *h, unsigned id, struct vps_stats *s)
{
	struct net_host *net;
	struct net_stats n;

	if (host_net(h, &net, NULL) < 0 || net_stats(net, id, &n) < 0)
		return;
	s->net_rx_bytes = n.rx_bytes;
	s->net_tx_bytes = n.tx_bytes;
	s->net_rx_packets = n.rx_packets;
	s->net_tx_packets = n.tx_packets;
	s->net_dropped = n.rx_dropped + n.tx_dropped;
}

static void fill_disk(struct vps_host *h, const struct vps_spec *spec, unsigned id, int root,
		      struct vps_stats *s)
{
	autoclose int dir = store_dir(h, id);
	struct img_disk_spec d;
	struct img_disk_usage u;

	plan_disk(spec, &d);
	if (dir < 0 || img_disk_usage(dir, &d, root, &u) < 0)
		return;
	s->disk_size = u.size;
	s->disk_used = u.used;
	s->inodes = u.inodes;
	s->inodes_used = u.inodes_used;
}

static uint64_t uptime_of(const struct proc_ident *init)
{
	uint64_t start = init->start_time / (uint64_t)sysconf(_SC_CLK_TCK);
	uint64_t now = sys_now_boot() / 1000000000u;

	return now > start ? now - start : 0;
}

/* A stopped VPS has a disk only; a paused one has everything. */
int vps_stats(struct vps_host *h, const char *who, struct vps_stats *ret, struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec spec;
	auto_done(cg_closep) struct cg *cg = NULL;
	autoclose int root = -1;
	const struct vps_driver *driver;
	bool running;
	struct run_state state;
	struct cg_host *ch;
	char name[ID_STR];
	unsigned id;
	int r;

	spec_init(&spec);
	r = store_find(h, who, &id, err);
	r = r ?: store_read_spec_of(h, id, &spec, err);
	if (r < 0)
		return vps_err_wrap(err, r, "'%s'", who);
	stats_unknown(ret);
	driver = driver_of(&spec);
	running = run_init(h, id, who, &state, NULL) == 0;
	if (running) {
		r = host_cgroups(h, &ch, err);
		if (r < 0)
			return r;
		if (cg_open(ch, id_str(id, name), &cg, NULL) == 0)
			fill_cg(cg, ret);
		fill_net(h, id, ret);
		ret->uptime_s = uptime_of(&state.init);
		root = driver->open_root ? driver->open_root(&state.init, NULL) : -1;
		if (root < 0)
			root = -1;
	}
	fill_disk(h, &spec, id, root, ret);
	if (running && driver->stats) {
		autoclose int run_dir = store_run_dir(h, id);
		const struct vps_live live = {.spec = &spec,
					      .conf = &h->conf,
					      .instance_dir = -1,
					      .run_dir = run_dir,
					      .cg = cg,
					      .init = &state.init,
					      .paused = state.phase == RUN_PAUSED};

		driver->stats(&live, ret);
	}
	return 0;
}

/* ---- top ---------------------------------------------------------------------- */

/* Uid as inside, and the pid in the VPS's own pid namespace: the second number of NSpid; deeper
 * ones are of namespaces made in the VPS. */
static int parse_status(const char *text, uint32_t id_base, struct vps_proc *p)
{
	const char *ns = strstr(text, "\nNSpid:");
	uint32_t host_uid;
	int outer, inner;

	if (procs_uid(text, &host_uid) < 0)
		return -EINVAL;
	if (!ns || sscanf(ns + 7, "%d %d", &outer, &inner) != 2)
		return -ESRCH; /* still on its way in */
	p->uid = host_uid >= id_base && host_uid - id_base < RUNTIME_IDS_PER_VPS
			 ? host_uid - id_base
			 : 65534;
	p->pid = inner;
	return 0;
}

static int read_proc(pid_t pid, uint32_t id_base, struct vps_proc *ret)
{
	struct vps_proc p = {.host_pid = pid};
	char path[32], stat[1024], status[4096];
	autoclose int dir = -1;
	int r;

	snprintf(path, sizeof(path), "/proc/%d", (int)pid);
	dir = fs_open_dir(AT_FDCWD, path);
	if (dir < 0)
		return dir;
	if (fs_read_buf(dir, "stat", stat, sizeof(stat)) < 0 ||
	    fs_read_buf(dir, "status", status, sizeof(status)) < 0)
		return -ESRCH;
	r = procs_stat(stat, &p, NULL);
	r = r ?: parse_status(status, id_base, &p);
	if (r < 0)
		return r;
	p.cmdline = procs_cmdline(dir, stat);
	if (!p.cmdline)
		return -ENOMEM;
	*ret = p;
	return 0;
}

static int by_pid(const void *a, const void *b)
{
	return ((const struct vps_proc *)a)->pid - ((const struct vps_proc *)b)->pid;
}

/* A container's processes are the host's own. */
static int procs_of_group(struct vps_host *h, unsigned id, const struct vps_spec *spec, struct vps_proc **ret,
			  size_t *ret_n, struct vps_err *err)
{
	auto_done(cg_closep) struct cg *cg = NULL;
	autofree pid_t *pids = NULL;
	struct vps_proc *procs;
	struct cg_host *ch;
	char name[ID_STR];
	size_t n_pids, n = 0;
	int r = host_cgroups(h, &ch, err);

	r = r ?: cg_open(ch, id_str(id, name), &cg, err);
	r = r ?: cg_pids(cg, &pids, &n_pids);
	if (r < 0)
		return r;
	procs = calloc(n_pids + 1, sizeof(*procs));
	if (!procs)
		return vps_err_sys(err, -ENOMEM, "processes");
	for (size_t i = 0; i < n_pids; i++)
		if (read_proc(pids[i], spec->id_base, &procs[n]) == 0)
			n++;
	*ret = procs;
	*ret_n = n;
	return 0;
}

int vps_procs(struct vps_host *h, const char *who, struct vps_proc **ret, size_t *ret_n,
	      struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec spec;
	autoclose int run_dir = -1;
	struct run_state state;
	struct vps_live live = {.instance_dir = -1};
	const struct vps_driver *driver;
	unsigned id;
	int r;

	spec_init(&spec);
	r = store_find(h, who, &id, err);
	r = r ?: run_init(h, id, who, &state, err);
	r = r ?: store_read_spec_of(h, id, &spec, err);
	if (r < 0)
		return vps_err_wrap(err, r, "processes of '%s'", who);
	driver = driver_of(&spec);
	if (driver->procs) {
		run_dir = store_run_dir(h, id);
		live.spec = &spec;
		live.run_dir = run_dir;
		live.init = &state.init;
		live.paused = state.phase == RUN_PAUSED;
		r = driver->procs(&live, ret, ret_n, err);
	} else {
		r = procs_of_group(h, id, &spec, ret, ret_n, err);
	}
	if (r < 0)
		return vps_err_wrap(err, r, "processes of '%s'", who);
	qsort(*ret, *ret_n, sizeof(**ret), by_pid);
	return 0;
}
