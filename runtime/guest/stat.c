/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's own numbers and processes, proc(5). */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fs.h"
#include "runtime/guest/guest.h"
#include "runtime/procs.h"

static int meminfo(struct strbuf *sb)
{
	static const struct { const char *line, *key; } wanted[] = {
		{"MemTotal:", "mem_total"}, {"MemFree:", "mem_free"},
		{"MemAvailable:", "mem_available"}, {"Cached:", "mem_cached"},
		{"SwapTotal:", "swap_total"}, {"SwapFree:", "swap_free"},
	};
	autofree char *text = NULL;
	char *rest, *line;
	int r = fs_read(AT_FDCWD, "/proc/meminfo", 65536, &text, NULL);

	rest = text;
	while (r >= 0 && (line = strsep(&rest, "\n")))
		for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
			if (str_starts(line, wanted[i].line))
				rec_add_u64(sb, wanted[i].key,
					    strtoull(line + strlen(wanted[i].line), NULL, 10) << 10);
	return r;
}

static int load(struct strbuf *sb)
{
	char text[128];
	unsigned l[6], threads = 0;
	ssize_t n = fs_read_buf(AT_FDCWD, "/proc/loadavg", text, sizeof(text));

	if (n < 0)
		return (int)n;
	if (sscanf(text, "%u.%2u %u.%2u %u.%2u %*u/%u", &l[0], &l[1], &l[2], &l[3], &l[4], &l[5],
		   &threads) != 7)
		return -EPROTO;
	rec_add_u64(sb, "load1", l[0] * 100 + l[1]);
	rec_add_u64(sb, "load5", l[2] * 100 + l[3]);
	rec_add_u64(sb, "load15", l[4] * 100 + l[5]);
	rec_add_u64(sb, "threads", threads);
	n = fs_read_buf(AT_FDCWD, "/proc/uptime", text, sizeof(text));
	if (n >= 0)
		rec_add_u64(sb, "uptime", strtoull(text, NULL, 10));
	return n < 0 ? (int)n : 0;
}

/* The first line of /proc/stat: user nice system idle iowait irq softirq steal, in clock ticks. */
static int cpu(struct strbuf *sb)
{
	autofree char *text = NULL;
	unsigned long long t[8];
	uint64_t us = 1000000u / (uint64_t)sysconf(_SC_CLK_TCK);
	int r = fs_read(AT_FDCWD, "/proc/stat", 1 << 20, &text, NULL);

	if (r < 0)
		return r;
	if (sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3],
		   &t[4], &t[5], &t[6], &t[7]) != 8)
		return -EPROTO;
	rec_add_u64(sb, "cpu_user", (t[0] + t[1]) * us);
	rec_add_u64(sb, "cpu_system", (t[2] + t[5] + t[6]) * us);
	rec_add_u64(sb, "cpu_idle", (t[3] + t[4]) * us);
	rec_add_u64(sb, "cpu_steal", t[7] * us);
	return 0;
}

static int processes(struct strbuf *sb)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	uint64_t n = 0;

	if (!d)
		return -errno;
	while ((e = readdir(d)))
		n += isdigit((unsigned char)e->d_name[0]) != 0;
	closedir(d);
	rec_add_u64(sb, "processes", n);
	return 0;
}

static int disk(int fd, struct strbuf *sb)
{
	struct statvfs v;

	if (fstatvfs(fd, &v) < 0)
		return -errno;
	rec_add_u64(sb, "disk_size", v.f_blocks * v.f_frsize);
	rec_add_u64(sb, "disk_used", (v.f_blocks - v.f_bfree) * v.f_frsize);
	rec_add_u64(sb, "inodes", v.f_files);
	rec_add_u64(sb, "inodes_used", v.f_files - v.f_ffree);
	return 0;
}

int stat_records(const struct guest *g, struct strbuf *sb)
{
	int r = meminfo(sb);

	r = r < 0 ? r : load(sb);
	r = r < 0 ? r : cpu(sb);
	r = r < 0 ? r : processes(sb);
	r = r < 0 ? r : disk(g->disk, sb);
	return r < 0 ? r : sb_ok(sb);
}

/* ---- processes ----------------------------------------------------------------- */

#define KTHREADD 2

static int one_process(int proc, const char *name, struct strbuf *sb)
{
	char stat[1024], status[4096];
	autofree char *cmd = NULL;
	autoclose int dir = fs_open_dir(proc, name);
	struct vps_proc p = {.pid = atoi(name)};
	pid_t parent;
	uint32_t uid;

	if (dir < 0 || fs_read_buf(dir, "stat", stat, sizeof(stat)) < 0 ||
	    fs_read_buf(dir, "status", status, sizeof(status)) < 0 ||
	    procs_stat(stat, &p, &parent) < 0 || procs_uid(status, &uid) < 0)
		return 0; /* it has ended meanwhile */
	if (p.pid == KTHREADD || parent == KTHREADD)
		return 0; /* the kernel's own */
	cmd = procs_cmdline(dir, stat);
	if (!cmd)
		return -ENOMEM;
	rec_add_u64(sb, "pid", (uint64_t)p.pid);
	rec_add_u64(sb, "uid", uid);
	rec_add_u64(sb, "rss", p.rss);
	rec_add_u64(sb, "cpu", p.cpu_us);
	rec_addn(sb, "state", &p.state, 1);
	rec_add(sb, "cmd", cmd);
	return 0;
}

int procs_records(struct strbuf *sb)
{
	autoclose int proc = fs_open_dir(AT_FDCWD, "/proc");
	auto_strv names = NULL;
	int r = proc < 0 ? proc : fs_list(proc, ".", &names);

	for (char **n = names; n && *n && r == 0; n++)
		if (isdigit((unsigned char)**n))
			r = one_process(proc, *n, sb);
	return r < 0 ? r : sb_ok(sb);
}
