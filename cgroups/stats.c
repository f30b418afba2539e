/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a group uses. A number that this host does not tell stays CG_UNSET. */
#include "cgroups/internal.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"

/* Numbers that have a file each, or a line each in a file of "key value". */
struct source {
	const char *file, *key; /* key NULL: the file is the number */
	size_t offset;
};
#define AT(f) offsetof(struct cg_stats, f)

static const struct source cpu_v2[] = { /* always there, also without the controller */
	{ "cpu.stat", "usage_usec", AT(cpu_usage_us) },
	{ "cpu.stat", "user_usec", AT(cpu_user_us) },
	{ "cpu.stat", "system_usec", AT(cpu_system_us) },
	{ "cpu.stat", "nr_periods", AT(cpu_periods) },
	{ "cpu.stat", "nr_throttled", AT(cpu_throttled) },
	{ "cpu.stat", "throttled_usec", AT(cpu_throttled_us) },
};
static const struct source cpu_v1[] = {
	{ "cpu.stat", "nr_periods", AT(cpu_periods) },
	{ "cpu.stat", "nr_throttled", AT(cpu_throttled) },
	{ "cpu.stat", "throttled_time", AT(cpu_throttled_us) }, /* ns: mended below */
};
static const struct source memory_v2[] = {
	{ "memory.current", NULL, AT(memory_current) },
	{ "memory.peak", NULL, AT(memory_peak) }, /* 5.19 */
	{ "memory.max", NULL, AT(memory_max) },
	{ "memory.swap.current", NULL, AT(swap_current) },
	{ "memory.stat", "anon", AT(memory_anon) },
	{ "memory.stat", "file", AT(memory_file) },
	{ "memory.stat", "kernel", AT(memory_kernel) }, /* 5.18 */
	{ "memory.events", "oom_kill", AT(oom_kills) },
};
static const struct source memory_v1[] = {
	{ "memory.usage_in_bytes", NULL, AT(memory_current) },
	{ "memory.max_usage_in_bytes", NULL, AT(memory_peak) },
	{ "memory.limit_in_bytes", NULL, AT(memory_max) },
	{ "memory.kmem.usage_in_bytes", NULL, AT(memory_kernel) },
	{ "memory.stat", "total_rss", AT(memory_anon) },
	{ "memory.stat", "total_cache", AT(memory_file) },
	{ "memory.stat", "total_swap", AT(swap_current) }, /* only where swap is counted */
	{ "memory.oom_control", "oom_kill", AT(oom_kills) },
};
static const struct source pids[] = { /* the same in both versions */
	{ "pids.current", NULL, AT(pids_current) },
	{ "pids.max", NULL, AT(pids_max) },
	{ "pids.events", "max", AT(pids_denied) },
};

/* Until 6.11 a refused fork counts where the process is, later where the limit is. Where it is
 * means ns/, or what the tenant made below, which is not looked for. */
static const struct source pids_ns[] = { { "ns/pids.events", "max", AT(pids_denied) } };

/* Neighbours in a table that share a file share the read. */
static void read_sources(struct cg *cg, const struct cg_hier *hi, const struct source *s, size_t n,
			 struct cg_stats *ret)
{
	char buf[16384];
	const char *have = NULL;
	ssize_t len = -1;
	for (size_t i = 0; i < n; i++) {
		if (!have || !str_eq(have, s[i].file)) {
			have = s[i].file;
			len = cg_file_read(cg, hi, have, buf, sizeof(buf));
		}
		if (len < 0)
			continue;
		uint64_t v = s[i].key ? cg_parse_key(buf, s[i].key) : cg_parse_u64(buf);
		if (v != CG_UNSET)
			*(uint64_t *)((char *)ret + s[i].offset) = v;
	}
}

static void add_up(uint64_t *sum, uint64_t v)
{
	if (v < CG_UNSET)
		*sum = *sum >= CG_UNSET ? v : *sum + v;
}

/* "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0" a disk; a disk may have no numbers. */
static void parse_io_stat(char *text, struct cg_stats *ret)
{
	static const struct {
		const char *key;
		size_t offset;
	} keys[] = { { "rbytes=", AT(io_rbytes) },
		     { "wbytes=", AT(io_wbytes) },
		     { "rios=", AT(io_rios) },
		     { "wios=", AT(io_wios) } };
	char *save = NULL;
	for (char *w = strtok_r(text, " \n", &save); w; w = strtok_r(NULL, " \n", &save))
		for (size_t i = 0; i < ARRAY_LEN(keys); i++)
			if (str_starts(w, keys[i].key))
				add_up((uint64_t *)((char *)ret + keys[i].offset),
				       cg_parse_u64(w + strlen(keys[i].key)));
}

/* "8:0 Read 4096" lines, and "Total". */
static void parse_blkio(const char *text, uint64_t *rd, uint64_t *wr)
{
	*rd = *wr = 0; /* a group without I/O has no lines */
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		char kind[16];
		uint64_t v;
		if (sscanf(line, "%*u:%*u %15s %" SCNu64, kind, &v) != 2)
			continue;
		if (str_eq(kind, "Read"))
			add_up(rd, v);
		else if (str_eq(kind, "Write"))
			add_up(wr, v);
	}
}

/* A host with many disks has long lists. */
static char *read_long(struct cg *cg, const struct cg_hier *hi, const char *file)
{
	char path[CG_PATH_MAX], *text = NULL;
	snprintf(path, sizeof(path), "%s/%s", cg->name, file);
	return fs_read(hi->tag_fd, path, 4u << 20, &text, NULL) < 0 ? NULL : text;
}

static void read_io(struct cg *cg, const struct cg_hier *hi, struct cg_stats *ret)
{
	if (hi->version == 2) {
		autofree char *text = read_long(cg, hi, "io.stat");
		if (!text)
			return;
		ret->io_rbytes = ret->io_wbytes = ret->io_rios = ret->io_wios = 0;
		parse_io_stat(text, ret);
		return;
	}
	autofree char *bytes = read_long(cg, hi, "blkio.throttle.io_service_bytes_recursive");
	autofree char *ios = read_long(cg, hi, "blkio.throttle.io_serviced_recursive");
	if (bytes)
		parse_blkio(bytes, &ret->io_rbytes, &ret->io_wbytes);
	if (ios)
		parse_blkio(ios, &ret->io_rios, &ret->io_wios);
}

/* Documentation/accounting/psi.rst. The CPU file has no "full" line before 5.13. */
static bool read_psi(struct cg *cg, const char *file, struct cg_psi *ret)
{
	char buf[512];
	if (cg_file_read(cg, cg->h->v2, file, buf, sizeof(buf)) < 0)
		return false;
	*ret = (struct cg_psi){ 0 };
	if (sscanf(buf, "some avg10=%lf avg60=%lf avg300=%*f total=%" SCNu64, &ret->some10,
		   &ret->some60, &ret->some_us) != 3)
		return false;
	const char *full = strstr(buf, "full ");
	if (full)
		sscanf(full, "full avg10=%lf avg60=%lf avg300=%*f total=%" SCNu64, &ret->full10,
		       &ret->full60, &ret->full_us);
	return true;
}

static void all_unset(struct cg_stats *s)
{
	memset(s, 0, sizeof(*s));
	/* The numbers are what stands before has_psi, and nothing else does. */
	for (size_t at = 0; at < offsetof(struct cg_stats, has_psi); at += sizeof(uint64_t))
		*(uint64_t *)((char *)s + at) = CG_UNSET;
}

#define READ(hi, table, ret) read_sources(cg, hi, table, ARRAY_LEN(table), ret)

int cg_stats(struct cg *cg, struct cg_stats *ret, struct vps_err *err)
{
	struct cg_host *h = cg->h;
	struct cg_stats s;
	all_unset(&s);
	READ(h->v2, cpu_v2, &s);
	if (s.cpu_usage_us == CG_UNSET)
		return vps_err_sys(err, -ENOENT, "read the usage of '%s'", cg->name);
	if (cg_host_version(h, CG_CPU) == 1) {
		READ(h->where[CG_CPU], cpu_v1, &s);
		if (s.cpu_throttled_us < CG_UNSET)
			s.cpu_throttled_us /= 1000;
	}
	if (cg_host_version(h, CG_MEMORY) == 2)
		READ(h->v2, memory_v2, &s);
	else if (h->where[CG_MEMORY])
		READ(h->where[CG_MEMORY], memory_v1, &s);
	if (h->where[CG_PIDS])
		READ(h->where[CG_PIDS], pids, &s);
	if (cg_host_version(h, CG_PIDS) == 2 && s.pids_denied == 0)
		READ(h->v2, pids_ns, &s);
	if (h->where[CG_IO])
		read_io(cg, h->where[CG_IO], &s);
	s.has_psi = read_psi(cg, "cpu.pressure", &s.psi_cpu) &&
		    read_psi(cg, "memory.pressure", &s.psi_memory) &&
		    read_psi(cg, "io.pressure", &s.psi_io);
	*ret = s;
	return 0;
}
