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

#define CMDLINE_MAX 4096

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

void vps_procs_free(struct vps_proc *p, size_t n)
{
	for (size_t i = 0; p && i < n; i++)
		free(p[i].cmdline);
	free(p);
}

/* /proc/PID/stat: the name in brackets may hold anything, so fields count from the last ')'.
 * proc(5) */
static int parse_stat(const char *text, struct vps_proc *p)
{
	const char *s = strrchr(text, ')');
	unsigned long long utime, stime;
	long rss;

	if (!s ||
	    sscanf(s + 1,
		   " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d "
		   "%*u %*u %ld",
		   &p->state, &utime, &stime, &rss) != 4)
		return -EINVAL;
	p->cpu_us = (utime + stime) * (1000000 / (uint64_t)sysconf(_SC_CLK_TCK));
	p->rss = rss > 0 ? (uint64_t)rss * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
	return 0;
}

/* Uid as inside, and the pid in the VPS's own pid namespace: the second number of NSpid; deeper
 * ones are of namespaces made in the VPS. */
static int parse_status(const char *text, uint32_t id_base, struct vps_proc *p)
{
	const char *uid = strstr(text, "\nUid:"), *ns = strstr(text, "\nNSpid:");
	unsigned host_uid;
	int outer, inner;

	if (!uid || sscanf(uid + 5, "%u", &host_uid) != 1)
		return -EINVAL;
	if (!ns || sscanf(ns + 7, "%d %d", &outer, &inner) != 2)
		return -ESRCH; /* still on its way in */
	p->uid = host_uid >= id_base && host_uid - id_base < RUNTIME_IDS_PER_VPS
			 ? host_uid - id_base
			 : 65534;
	p->pid = inner;
	return 0;
}

static char *read_cmdline(int dir, const char *stat)
{
	char buf[CMDLINE_MAX];
	autoclose int fd = openat(dir, "cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : fs_read_full(fd, buf, sizeof(buf) - 1);
	const char *from, *to;

	if (n > 0) {
		while (n > 0 && !buf[n - 1])
			n--;
		for (ssize_t i = 0; i < n; i++)
			if (!buf[i])
				buf[i] = ' ';
		return strndup(buf, (size_t)n);
	}
	/* a zombie has no words any more, only a name */
	from = strchr(stat, '(');
	to = strrchr(stat, ')');
	if (!from || !to || to < from)
		return strdup("");
	return str_fmt("[%.*s]", (int)(to - from - 1), from + 1);
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
	r = parse_stat(stat, &p);
	r = r ?: parse_status(status, id_base, &p);
	if (r < 0)
		return r;
	p.cmdline = read_cmdline(dir, stat);
	if (!p.cmdline)
		return -ENOMEM;
	*ret = p;
	return 0;
}

static int by_pid(const void *a, const void *b)
{
	return ((const struct vps_proc *)a)->pid - ((const struct vps_proc *)b)->pid;
}

int vps_procs(struct vps_host *h, const char *who, struct vps_proc **ret, size_t *ret_n,
	      struct vps_err *err)
{
	auto_done(spec_done) struct vps_spec spec;
	auto_done(cg_closep) struct cg *cg = NULL;
	autofree pid_t *pids = NULL;
	struct run_state state;
	struct vps_proc *procs;
	struct cg_host *ch;
	char name[ID_STR];
	size_t n_pids, n = 0;
	unsigned id;
	int r;

	spec_init(&spec);
	r = store_find(h, who, &id, err);
	r = r ?: run_init(h, id, who, &state, err);
	r = r ?: store_read_spec_of(h, id, &spec, err);
	if (r == 0 && driver_of(&spec)->machine)
		r = vps_err_set(err, VPS_EUNSUPPORTED,
				"the host does not see a machine's processes: vps exec %s top", who);
	r = r ?: host_cgroups(h, &ch, err);
	r = r ?: cg_open(ch, id_str(id, name), &cg, err);
	r = r ?: cg_pids(cg, &pids, &n_pids);
	if (r < 0)
		return vps_err_wrap(err, r, "processes of '%s'", who);
	procs = calloc(n_pids + 1, sizeof(*procs));
	if (!procs)
		return vps_err_sys(err, -ENOMEM, "processes");
	for (size_t i = 0; i < n_pids; i++)
		if (read_proc(pids[i], spec.id_base, &procs[n]) == 0)
			n++;
	qsort(procs, n, sizeof(*procs), by_pid);
	*ret = procs;
	*ret_n = n;
	return 0;
}
