/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this host can do, in words, each by asking the part that would have to do it. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/hostcheck.h"
#include "runtime/container/criu.h"

static void note(struct check *c, const char *help, const char *what)
{
	check_add(c, CHECK_NOTE, 0, help, "%s", what);
}

static void container_fact(struct check *c)
{
	auto_done(spec_done) struct vps_spec s;
	struct vps_err err = {0};
	struct utsname u;

	spec_init(&s);
	if (container_driver.check(&s, &c->h->conf, &err) < 0)
		check_add(c, CHECK_NOTE, 0, NULL, "containers cannot run here: %s", err.msg);
	else if (uname(&u) == 0)
		check_add(c, CHECK_NOTE, 0, NULL, "containers: yes (Linux %s)", u.release);
}

/* By asking for the plainest machine. */
static void machine_fact(struct check *c)
{
	auto_done(spec_done) struct vps_spec s;
	struct vps_err err = {0};

	spec_init(&s);
	if (microvm_driver.check(&s, &c->h->conf, &err) < 0)
		check_add(c, CHECK_NOTE, 0, NULL, "machines (isolation vm) cannot run here: %s", err.msg);
	else
		note(c, NULL, "machines (isolation vm): yes");
}

/* What a controller cannot do though it is there. */
static void partial_facts(struct check *c, struct cg_host *ch)
{
	static const struct {
		const char *options;
		enum cg_controller c;
		size_t limit;
		uint64_t v;
	} t[] = {
		{"--memory-high, --memory-low and --memory-min", CG_MEMORY,
		 offsetof(struct cg_limits, memory_high), 64u << 20},
		{"--swap", CG_MEMORY, offsetof(struct cg_limits, swap_max), 64u << 20},
		{"--io-weight", CG_IO, offsetof(struct cg_limits, io_weight), 200},
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		struct vps_err err = {0};
		struct cg_limits l;

		cg_limits_init(&l);
		l.memory_max = 256u << 20;
		memcpy((char *)&l + t[i].limit, &t[i].v, sizeof(t[i].v));
		if (cg_host_version(ch, t[i].c) != 0 && cg_limits_check(ch, &l, &err) < 0)
			check_add(c, CHECK_NOTE, 0, NULL, "refused here: %s: %s", t[i].options,
				  err.msg);
	}
}

static void cgroup_facts(struct check *c)
{
	static const struct { enum cg_controller c; const char *options; } t[] = {
		{CG_MEMORY, "--memory"}, {CG_CPU, "--cpus, --cpu-weight"}, {CG_CPUSET, "--cpuset"},
		{CG_PIDS, "--pids"},	 {CG_IO, "--io-weight, --io-max"}, {CG_DEVICES, "--device"},
	};
	struct vps_err err = {0};
	struct cg_host *ch;

	if (host_cgroups(c->h, &ch, &err) < 0) {
		check_add(c, CHECK_NOTE, 0, "mount -t cgroup2 none /sys/fs/cgroup", "control groups: %s",
			  err.msg);
		return;
	}
	note(c, NULL, cg_host_unified(ch) ? "control groups: v2"
					  : "control groups: v2 beside v1 controllers (hybrid)");
	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		if (cg_host_version(ch, t[i].c) == 0)
			check_add(c, CHECK_NOTE, 0, "boot with the controller on (cgroup_enable=…)",
				  "no %s controller: %s cannot be enforced", cg_controller_name(t[i].c),
				  t[i].options);

	struct cg_io_max io = {.rbps = CG_UNSET, .wbps = 1 << 20, .riops = CG_UNSET, .wiops = CG_UNSET};
	struct cg_limits writes;
	auto_strv caveats = NULL;

	partial_facts(c, ch);
	cg_limits_init(&writes);
	writes.io_max = &io; /* of no device: only what is told of it counts */
	writes.n_io_max = 1;
	if (cg_limits_caveats(ch, &writes, &caveats) == 0)
		for (char **p = caveats; p && *p; p++)
			note(c, NULL, *p);
}

static void net_fact(struct check *c)
{
	struct net_plan p = {.mode = NET_ROUTED, .guest_if = "eth0"};
	struct vps_err err = {0};
	struct net_host *net;
	int r = host_net(c->h, &net, &err);

	r = r ?: net_check_plan(net, &p, &err);
	if (r < 0)
		check_add(c, CHECK_NOTE, 0, NULL, "network: %s", err.msg);
}

static void disk_fact(struct check *c)
{
	struct img_disk_spec d = {.backend = DISK_AUTO, .size = 1u << 30, .inodes = 65536};
	enum img_backend b;
	struct vps_err err = {0};

	img_backend_parse(c->h->conf.disk_backend, &d.backend);
	if (img_disk_check(c->h->instances_fd, &d, &b, &err) < 0)
		check_add(c, CHECK_NOTE, 0, NULL, "disks: %s", err.msg);
	else
		check_add(c, CHECK_NOTE, 0, NULL, "disks: sizes are enforced by %s", img_backend_name(b));
}

static void lxcfs_fact(struct check *c)
{
	autofree char *program = proc_find("lxcfs");

	if (str_eq(c->h->conf.lxcfs, "off"))
		return;
	if (!program && str_eq(c->h->conf.lxcfs, "auto"))
		note(c, "apt-get install lxcfs",
		     "no lxcfs: free, uptime and /proc/cpuinfo inside a VPS show the host's numbers");
	else if (access("/dev/fuse", R_OK | W_OK) < 0)
		note(c, "modprobe fuse", "lxcfs is there, /dev/fuse is not");
}

static void criu_fact(struct check *c)
{
	auto_done(criu_done) struct criu criu = {0};
	char version[CRIU_VERSION_STR];
	struct vps_err err = {0};

	if (criu_find(&c->h->conf, &criu, &err) < 0)
		check_add(c, CHECK_NOTE, 0, NULL, "suspend: %s", err.msg);
	else
		check_add(c, CHECK_NOTE, 0, NULL, "suspend: containers by CRIU %s (%s), good for this kernel",
			  criu_version_str(criu.version, version), criu.path);
}

static bool sysctl(const char *path, long *ret)
{
	char text[64];

	if (fs_read_buf(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return false;
	return sscanf(text, "%ld", ret) == 1;
}

static void sysctl_facts(struct check *c)
{
	long v;

	if (sysctl("/proc/sys/user/max_user_namespaces", &v) && v == 0)
		note(c, "sysctl user.max_user_namespaces=65536", "user namespaces are switched off");
	if (sysctl("/proc/sys/kernel/pid_max", &v) && v < 131072)
		note(c, "sysctl kernel.pid_max=4194304", "pid_max is low for many VPSes");
	if (sysctl("/proc/sys/kernel/dmesg_restrict", &v) && v == 0)
		note(c, "sysctl kernel.dmesg_restrict=1",
		     "every user of this host can read the kernel log");
	/* Each running VPS's console, and what its own devpts holds, count here. */
	if (sysctl("/proc/sys/kernel/pty/max", &v) && v < (long)c->n_defined * 8)
		note(c, "sysctl kernel.pty.max=65536", "few pseudo terminals for so many VPSes");
}

void check_facts(struct check *c)
{
	container_fact(c);
	machine_fact(c);
	cgroup_facts(c);
	net_fact(c);
	disk_fact(c);
	lxcfs_fact(c);
	criu_fact(c);
	sysctl_facts(c);
}
