/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where each controller lives: /proc/self/mountinfo once, and the v2 root's cgroup.controllers. */
#include "cgroups/internal.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "base/fs.h"

#define MOUNTINFO_MAX (16u << 20)

/* CG_IO is named differently in the two versions. */
static const char *const controller_v1[CG_N_CONTROLLERS] = {
	[CG_CPU] = "cpu",	  [CG_CPUACCT] = "cpuacct", [CG_CPUSET] = "cpuset",
	[CG_MEMORY] = "memory",	  [CG_IO] = "blkio",	    [CG_PIDS] = "pids",
	[CG_HUGETLB] = "hugetlb", [CG_DEVICES] = "devices", [CG_FREEZER] = "freezer",
};

/* v1 hierarchies that hold none of these are left alone: v2 has freeze and cpu.stat without any
 * controller, and each hierarchy costs a start 0.15 ms. */
#define WANTED_V1                                                                                  \
	(CG_BIT(CG_CPU) | CG_BIT(CG_CPUSET) | CG_BIT(CG_MEMORY) | CG_BIT(CG_IO) |                  \
	 CG_BIT(CG_PIDS) | CG_BIT(CG_HUGETLB) | CG_BIT(CG_DEVICES))

const char *cg_controller_name(enum cg_controller c)
{
	if ((unsigned)c >= CG_N_CONTROLLERS)
		return "?";
	return c == CG_IO ? "io" : controller_v1[c];
}

static bool name_is_kernels(const char *name)
{
	static const char *const whole[] = { "monitors", "tasks", "notify_on_release",
					     "release_agent" };
	static const char *const prefixes[] = { "cgroup", "cpu",  "cpuacct", "cpuset",	"memory",
						"io",	  "blkio", "pids",   "hugetlb", "devices",
						"freezer", "rdma", "misc",   "dmem",	"irq",
						"net_cls", "net_prio", "perf_event", "debug" };
	for (size_t i = 0; i < ARRAY_LEN(whole); i++)
		if (str_eq(name, whole[i]))
			return true;
	for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
		size_t len = strlen(prefixes[i]);
		if (strncmp(name, prefixes[i], len) == 0 && name[len] == '.')
			return true;
	}
	return false;
}

static bool ascii_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool cg_name_valid(const char *name)
{
	if (!name || !ascii_alnum(name[0]))
		return false;
	size_t len = 0;
	for (; name[len]; len++)
		if (len >= CG_NAME_MAX || (!ascii_alnum(name[len]) && !strchr("_-.", name[len])))
			return false;
	return !name_is_kernels(name);
}

/* ---- mountinfo, proc_pid_mountinfo(5) */

/* "\040" and the like, in place. */
static void unescape(char *s)
{
	char *to = s;
	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
}

/* Controllers among v1 super options, "rw,cpu,cpuacct" or "rw,name=systemd". */
static unsigned controllers_of(const char *words, const char *seps, const char *const *names)
{
	unsigned mask = 0;
	while (*words) {
		size_t len = strcspn(words, seps);
		for (int c = 0; c < CG_N_CONTROLLERS; c++)
			if (strlen(names[c]) == len && strncmp(words, names[c], len) == 0)
				mask |= CG_BIT(c);
		words += len;
		words += strspn(words, seps);
	}
	return mask;
}

static int add_hier(struct cg_host *h, int version, unsigned mask, const char *root,
		    const char *mount_point)
{
	if (h->n == CG_HIERS_MAX)
		return -E2BIG;
	autofree char *path = strdup(mount_point);
	autofree char *prefix = strdup(str_eq(root, "/") ? "" : root);
	if (!path || !prefix)
		return -ENOMEM;
	unescape(path);
	unescape(prefix);
	struct cg_hier *hi = &h->hier[h->n++];
	*hi = (struct cg_hier){ .version = version, .controllers = mask, .tag_fd = -1 };
	hi->path = take_ptr(path);
	hi->prefix = take_ptr(prefix);
	if (version == 2)
		h->v2 = hi;
	for (int c = 0; c < CG_N_CONTROLLERS; c++)
		if (version == 1 && (mask & CG_BIT(c)))
			h->where[c] = hi;
	return 0;
}

/* One line. The first mount of a hierarchy is the one used. */
static int parse_line(struct cg_host *h, char *line)
{
	char *tail = strstr(line, " - ");
	if (!tail)
		return 0;
	*tail = 0;
	tail += 3;
	char *save = NULL, *fs = strtok_r(tail, " ", &save);
	strtok_r(NULL, " ", &save); /* the source */
	char *options = strtok_r(NULL, " ", &save);
	if (!fs || !options || (!str_eq(fs, "cgroup") && !str_eq(fs, "cgroup2")))
		return 0;
	char *field[5] = { NULL };
	for (size_t i = 0; i < ARRAY_LEN(field); i++)
		field[i] = strtok_r(i ? NULL : line, " ", &save);
	if (!field[4])
		return 0;
	if (str_eq(fs, "cgroup2")) {
		if (h->v2)
			return 0;
		h->recursive = strstr(options, "memory_recursiveprot") != NULL;
		return add_hier(h, 2, 0, field[3], field[4]);
	}
	unsigned mask = controllers_of(options, ",", controller_v1);
	for (int c = 0; c < CG_N_CONTROLLERS; c++)
		if (h->where[c])
			mask &= ~CG_BIT(c);
	return mask ? add_hier(h, 1, mask, field[3], field[4]) : 0;
}

static int parse_mountinfo(struct cg_host *h, const char *text)
{
	autofree char *copy = strdup(text);
	if (!copy)
		return -ENOMEM;
	char *save = NULL;
	for (char *line = copy; line && *line; line = save) {
		save = strchr(line, '\n');
		if (save)
			*save++ = 0;
		int r = parse_line(h, line);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- opening */

static char *below_root(const struct cg_host *h, const char *path)
{
	return str_fmt("%s%s", h->root, path);
}

int cg_host_openat(const struct cg_host *h, const char *path, int flags)
{
	autofree char *full = below_root(h, path);
	if (!full)
		return -ENOMEM;
	int fd = open(full, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

ssize_t cg_host_read(const struct cg_host *h, const char *path, char *buf, size_t size)
{
	autofree char *full = below_root(h, path);
	if (!full)
		return -ENOMEM;
	return fs_read_buf(AT_FDCWD, full, buf, size);
}

int cg_tag_has(const struct cg_hier *hi, const char *file)
{
	if (hi->tag_fd < 0)
		return -ENOENT;
	return faccessat(hi->tag_fd, file, F_OK, 0) == 0;
}

/* What v2 has, and the controllers that v1 does not hold. */
static int read_v2_controllers(struct cg_host *h, struct vps_err *err)
{
	static const char *const names[CG_N_CONTROLLERS] = {
		[CG_CPU] = "cpu",   [CG_CPUACCT] = "",	   [CG_CPUSET] = "cpuset",
		[CG_MEMORY] = "memory", [CG_IO] = "io",	   [CG_PIDS] = "pids",
		[CG_HUGETLB] = "hugetlb", [CG_DEVICES] = "", [CG_FREEZER] = "",
	};
	char buf[512];
	autofree char *path = str_fmt("%s/cgroup.controllers", h->v2->path);
	if (!path)
		return vps_err_sys(err, -ENOMEM, "cgroups");
	ssize_t len = cg_host_read(h, path, buf, sizeof(buf));
	if (len < 0)
		return vps_err_sys(err, (int)len, "read %s", path);
	h->v2->controllers = controllers_of(buf, " ", names);
	for (int c = 0; c < CG_N_CONTROLLERS; c++)
		if (!h->where[c] && (h->v2->controllers & CG_BIT(c)))
			h->where[c] = h->v2;
	h->where[CG_FREEZER] = h->where[CG_CPUACCT] = h->v2;
	if (!h->where[CG_DEVICES])
		h->where[CG_DEVICES] = h->v2; /* BPF */
	return 0;
}

/* Forget v1 hierarchies that hold nothing we use. */
static void drop_unwanted(struct cg_host *h)
{
	size_t kept = 0;
	h->unified = true;
	for (size_t i = 0; i < h->n; i++) {
		struct cg_hier *hi = &h->hier[i];
		if (hi->version == 1)
			h->unified = false;
		if (hi->version == 1 && !(hi->controllers & WANTED_V1)) {
			free(hi->path);
			free(hi->prefix);
			continue;
		}
		h->hier[kept++] = *hi;
	}
	memset(&h->hier[kept], 0, (h->n - kept) * sizeof(h->hier[0]));
	h->n = kept;
	memset(h->where, 0, sizeof(h->where));
	for (size_t i = 0; i < h->n; i++) {
		struct cg_hier *hi = &h->hier[i];
		if (hi->version == 2)
			h->v2 = hi;
		for (int c = 0; c < CG_N_CONTROLLERS; c++)
			if (hi->version == 1 && (hi->controllers & CG_BIT(c)))
				h->where[c] = hi;
	}
}

static int open_tags(struct cg_host *h, struct vps_err *err)
{
	for (size_t i = 0; i < h->n; i++) {
		struct cg_hier *hi = &h->hier[i];
		autofree char *path = str_fmt("%s/%s", hi->path, h->tag);
		if (!path)
			return vps_err_sys(err, -ENOMEM, "cgroups");
		int fd = cg_host_openat(h, path, O_PATH | O_DIRECTORY | O_NOFOLLOW);
		if (fd < 0 && fd != -ENOENT)
			return vps_err_sys(err, fd, "open %s", path);
		hi->tag_fd = fd < 0 ? -1 : fd;
	}
	return 0;
}

int cg_host_open_at(const char *root, const char *mountinfo, const char *tag, struct cg_host **ret,
		    struct vps_err *err)
{
	if (!cg_name_valid(tag))
		return vps_err_set(err, VPS_EUSAGE, "'%s' cannot name a cgroup", tag ? tag : "");
	auto_done(cg_host_closep) struct cg_host *h = calloc(1, sizeof(*h));
	if (!h)
		return vps_err_sys(err, -ENOMEM, "cgroups");
	h->refs = 1;
	h->monitors_fd = -1;
	h->root = strdup(root);
	h->tag = strdup(tag);
	int r = h->root && h->tag ? parse_mountinfo(h, mountinfo) : -ENOMEM;
	if (r < 0)
		return vps_err_sys(err, r, "read the cgroup mounts");
	if (!h->v2)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "no cgroup2 is mounted, which freezes and kills a VPS: "
				   "mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with "
				   "systemd.unified_cgroup_hierarchy=1");
	drop_unwanted(h);
	r = read_v2_controllers(h, err);
	if (r < 0)
		return r;
	r = open_tags(h, err);
	if (r < 0)
		return r;
	*ret = take_ptr(h);
	return 0;
}

int cg_host_open(const char *tag, struct cg_host **ret, struct vps_err *err)
{
	autofree char *text = NULL;
	int r = fs_read(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &text, NULL);
	if (r < 0)
		return vps_err_sys(err, r, "read /proc/self/mountinfo");
	return cg_host_open_at("", text, tag, ret, err);
}

struct cg_host *cg_host_ref(struct cg_host *h)
{
	h->refs++;
	return h;
}

struct cg_host *cg_host_close(struct cg_host *h)
{
	if (!h || --h->refs)
		return NULL;
	for (size_t i = 0; i < h->n; i++) {
		close_fd(&h->hier[i].tag_fd);
		free(h->hier[i].path);
		free(h->hier[i].prefix);
	}
	close_fd(&h->monitors_fd);
	free(h->root);
	free(h->tag);
	free(h);
	return NULL;
}

bool cg_host_unified(const struct cg_host *h)
{
	return h->unified;
}

int cg_host_version(const struct cg_host *h, enum cg_controller c)
{
	if ((unsigned)c >= CG_N_CONTROLLERS || !h->where[c])
		return 0;
	return h->where[c]->version;
}
