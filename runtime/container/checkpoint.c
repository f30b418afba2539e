/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A running container into a directory. CRIU writes what its processes hold; beside its images lies
 * container.json: what of it is ours, and so is made again from the definition (mounts, groups, console) and only
 * has to be named; and dev.tar, what the tenant put into /dev.
 *
 * CRIU is held at its last step, "post-dump": everything is written, every process is stopped, and its answer
 * decides. Yes: they are killed where they stand. No: sockets leave repair mode, they run on. Meanwhile the
 * group is frozen as well, so that not even the death of criu lets anything run.
 */
#include "runtime/container/container.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/inroot.h"
#include "base/json.h"
#include "base/lock.h"
#include "base/sys.h"
#include "cgroups/cgroups.h"
#include "runtime/container/criu.h"
#include "runtime/container/restore.h"
#include "runtime/lxcfs.h"
#include "runtime/migrate/obstacles.h"
#include "runtime/tar.h"

#define CRIU_MS 90000 /* of another one: a round of pre-copy */
#define FREEZE_MS 10000
#define POLL_MS   5

/* What CRIU is told about this container. */
struct facts {
	char **external; /* strv: paths of mounts that are ours */
	char *tty;	 /* "tty[8800:41]", or NULL */
	char *pipes[3];	 /* "pipe[1234]" of stdin, stdout, stderr, or NULL */
	char **scan;
	int work;
	int lock; /* criu holds it, too */
	unsigned rounds; /* before the dump */
};

static void facts_done(struct facts *f)
{
	strv_free(f->external);
	strv_free(f->scan);
	close_fd(&f->work);
	close_fd(&f->lock);
	free(f->tty);
	for (int i = 0; i < 3; i++)
		free(f->pipes[i]);
}

/* ---- mounts ---------------------------------------------------------------------------- */

/* Ours, and CRIU shall not ask what is in it. What it makes again by itself, from the kernel or from what it has
 * saved, is not in this list: proc, sysfs, mqueue, and the two tmpfs of the tenant. */
static bool is_external(const struct mnt_plan *p, const char *path)
{
	if (str_eq(path, "/dev/console"))
		return true;
	for (size_t i = 0; lxcfs_files[i]; i++)
		if (str_eq(path + 1, lxcfs_files[i]))
			return true;
	for (size_t i = 0; i < p->n; i++) {
		const struct mnt *m = &p->m[i];
		bool ours = m->kind == MNT_DEV || m->kind == MNT_DEVPTS || m->kind == MNT_CGROUP ||
			    m->kind == MNT_BIND || m->kind == MNT_MASK;
		if (ours && str_eq(path + 1, m->dst))
			return true;
	}
	return false;
}

/* Field 5 of mountinfo, with its octal escapes undone; in place. */
static char *mount_point(char *line)
{
	char *p = line, *out;

	for (int i = 0; i < 4 && p; i++) {
		p = strchr(p, ' ');
		if (p)
			p++;
	}
	if (!p || *p != '/')
		return NULL;
	p[strcspn(p, " ")] = '\0';
	out = p;
	for (const char *in = p; *in; out++) {
		unsigned c;
		if (*in == '\\' && sscanf(in + 1, "%3o", &c) == 1) {
			*out = (char)c;
			in += 4;
		} else {
			*out = *in++;
		}
	}
	*out = '\0';
	return p;
}

static int find_mounts(const struct vps_live *l, struct facts *f, struct vps_err *err)
{
	const struct mnt_input in = {.mounts = l->spec->mounts, .n_mounts = l->spec->n_mounts};
	auto_done(mnt_plan_done) struct mnt_plan plan = {0};
	autofree char *text = NULL;
	autoclose int fd = proc_pid_open(l->init->pid, "mountinfo", O_RDONLY);
	int r = fd < 0 ? fd : mnt_plan(&in, &plan);

	r = r ?: fs_read_fd(fd, 16u << 20, &text, NULL);
	for (char *line = text, *next; r == 0 && line && *line; line = next) {
		char *path;

		next = strchr(line, '\n');
		if (next)
			*next++ = '\0';
		path = mount_point(line);
		if (path && is_external(&plan, path) && !strv_has(f->external, path))
			r = strchr(path, ']') ? -EINVAL : strv_add(&f->external, path);
	}
	return r < 0 ? vps_err_sys(err, r, "read the mounts") : 0;
}

/* ---- console ------------------------------------------------------------------------------ */

static int find_tty(const struct vps_live *l, struct facts *f, struct vps_err *err)
{
	struct stat st;
	autoclose int root = proc_pid_open(l->init->pid, "root", O_PATH | O_DIRECTORY);
	autoclose int fd = root < 0 ? root
				    : sys_openat2(root, "dev/console", O_PATH, 0,
						  RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode))
		return 0; /* the tenant took it away: then nobody has it open by our mount */
	/* CRIU writes down a terminal without its other end, and cannot bring it back. */
	autoclose int slave = inroot_reopen(fd, O_RDWR | O_NOCTTY | O_NONBLOCK);
	if (slave == -EIO)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "its console is dead, as its monitor and the keeper were killed: restart it");
	f->tty = str_fmt("tty[%llx:%llx]", (unsigned long long)st.st_rdev, (unsigned long long)st.st_dev);
	return f->tty ? 0 : -ENOMEM;
}

static int find_pipes(const struct vps_live *l, struct facts *f)
{
	for (int i = 0; i < 3; i++) {
		char path[40], link[64];
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)l->init->pid, i);
		n = readlink(path, link, sizeof(link) - 1);
		if (n < 0)
			continue;
		link[n] = '\0';
		if (!str_starts(link, "pipe:["))
			continue;
		f->pipes[i] = str_fmt("pipe%s", link + 5);
		if (!f->pipes[i])
			return -ENOMEM;
	}
	return 0;
}

static int find_facts(const struct vps_live *l, struct facts *f, struct vps_err *err)
{
	int r = find_mounts(l, f, err);

	if (r < 0)
		return r;
	r = l->spec->console == CONSOLE_PTY ? find_tty(l, f, err) : find_pipes(l, f);
	if (r < 0)
		return vps_err_sys(err, r, "console");
	return watches_find(l->cg, l->init->pid, &f->scan, err);
}

/* ---- container.json, dev.tar ---------------------------------------------------------------- */

static int pack_dev(void *arg, struct vps_err *err)
{
	autoclose int dev = sys_openat2(AT_FDCWD, "/dev", O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS);

	return dev < 0 ? vps_err_sys(err, dev, "open /dev") : tar_pack_tree(dev, *(int *)arg, err);
}

/* By a helper inside, for the names are the tenant's. Not in its groups, which stand still. */
static int save_dev(const struct vps_live *l, int dir, struct vps_err *err)
{
	struct vps_live outside = *l;
	autoclose int fd = openat(dir, CHECKPOINT_DEV, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

	if (fd < 0)
		return vps_err_sys(err, -errno, "make " CHECKPOINT_DEV);
	outside.cg = NULL;
	return container_inside(&outside, pack_dev, &fd, err);
}

static int save_facts(const struct vps_live *l, const struct facts *f, int dir, struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	struct json_out o = JSON_OUT(&sb, true);
	int r;

	jo_object(&o, NULL);
	jo_int(&o, "version", CHECKPOINT_CONTAINER_VERSION);
	jo_u64(&o, "id_base", l->spec->id_base);
	jo_u64(&o, "rounds", f->rounds);
	jo_strv(&o, "external", f->external);
	if (f->tty)
		jo_str(&o, "tty", f->tty);
	jo_array(&o, "pipes");
	for (int i = 0; i < 3; i++)
		jo_str(&o, NULL, f->pipes[i] ? f->pipes[i] : "");
	jo_end_array(&o);
	r = cg_tree_save(l->cg, &o, "groups", err);
	jo_end_object(&o);
	if (r < 0)
		return r;
	r = sb_ok(&sb);
	r = r ?: fs_write_rename(dir, CHECKPOINT_CONTAINER, sb.s, sb.len, 0600);
	return r < 0 ? vps_err_sys(err, r, "write " CHECKPOINT_CONTAINER) : 0;
}

/* ---- criu -------------------------------------------------------------------------------------- */

/* prlimit(2) of another user's process asks for CAP_SYS_RESOURCE in that process's user namespace. Where host root has
 * not even its own (a host that is a container itself), the namespace's owner has all capabilities in it. */
static uid_t needs_owner(const struct vps_live *l)
{
	uid_t owner;
	autoclose int ns = proc_pid_open(l->init->pid, "ns/user", O_RDONLY);

	if (ns < 0 || ioctl(ns, NS_GET_OWNER_UID, &owner) < 0 || owner == 0 || caps_has("cap_sys_resource"))
		return 0;
	return owner;
}

static int become_owner(void *arg)
{
	uid_t owner = *(uid_t *)arg;

	return owner ? caps_become(owner) : 0;
}

int checkpoint_work(int dir, struct vps_err *err)
{
	int fd;

	if (mkdirat(dir, CHECKPOINT_WORK, 0700) < 0 && errno != EEXIST)
		return vps_err_sys(err, -errno, "make " CHECKPOINT_WORK);
	fd = openat(dir, CHECKPOINT_WORK, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? vps_err_sys(err, -errno, "open " CHECKPOINT_WORK) : fd;
}

static int say_why(const struct criu_event *e, int work, const char *log, struct vps_err *err)
{
	autofree char *words = criu_log_words(work, log);

	return vps_err_set(err, VPS_EUNSUPPORTED, "CRIU could not write it down: %s",
			   words ? words : *e->words ? e->words : "it does not say why");
}

/* Until it is held at post-dump. */
static int dump(const struct vps_live *l, const struct facts *f, int dir, struct criu_job *j,
		struct vps_err *err)
{
	struct criu_event e = {0};
	int r;

	for (;;) {
		r = criu_next(j, &e, err);
		if (r < 0)
			return r;
		if (e.last)
			return say_why(&e, f->work, CHECKPOINT_LOG, err);
		if (str_eq(e.script, "post-dump"))
			break;
		r = criu_answer(j, true);
		if (r < 0)
			return vps_err_sys(err, r, "talk to criu");
	}
	r = cg_freeze_begin(l->cg, err);
	r = r ?: save_facts(l, f, dir, err);
	return r ?: save_dev(l, dir, err);
}

static int names(const struct facts *f, char ***ret)
{
	int r = 0;

	for (char **p = f->external; r == 0 && p && *p; p++)
		r = strv_addf(ret, "mnt[%s]:%s", *p, *p);
	if (r == 0 && f->tty)
		r = strv_add(ret, f->tty);
	return r;
}

/* fds are kept open in it. */
static int start_criu(const struct vps_live *l, struct criu_request *q, int lock, struct criu_job *j, struct vps_err *err)
{
	auto_done(criu_done) struct criu criu = {0};
	autofree char *freeze = cg_ns_path(l->cg);
	uid_t owner = needs_owner(l);
	int r = criu_find(l->conf, &criu, err);

	if (r < 0)
		return r;
	if (!freeze)
		return vps_err_sys(err, -ENOMEM, "checkpoint");
	q->version = criu.version;
	q->pid = l->init->pid;
	q->freeze = freeze;
	q->unprivileged = owner != 0;
	r = criu_start(&criu, j, become_owner, &owner, &(struct criu_fd){.fd = lock}, 1, err);
	r = r ?: criu_ask(j, q, err);
	q->freeze = NULL;
	return r;
}

static int start_dump(const struct vps_live *l, const struct facts *f, int dir, struct criu_job *j,
		      struct vps_err *err)
{
	auto_strv external = NULL;
	char parent[CHECKPOINT_ROUND_STR];
	struct criu_request q = {.dir = dir, .work = f->work, .log = CHECKPOINT_LOG, .scan = f->scan};

	if (names(f, &external) < 0)
		return vps_err_sys(err, -ENOMEM, "checkpoint");
	q.external = external;
	if (f->rounds) {
		snprintf(parent, sizeof(parent), "%u", f->rounds);
		q.parent = parent;
	}
	return start_criu(l, &q, f->lock, j, err);
}

/* CRIU would say so too, later and in words of its own. */
static int refuse_obstacles(const struct vps_live *l, struct vps_err *err)
{
	auto_done(obstacles_done) struct obstacles o = {0};
	int r = obstacles_find(l, &o, err);

	if (r < 0 || o.n == 0)
		return r;
	autofree char *process = o.v[0].process ? str_escape(o.v[0].process) : NULL;
	return vps_err_set(err, VPS_EUNSUPPORTED, "%s%s%s%s (vps check --migrate tells all)", process ? "process " : "",
			   process ? process : "", process ? " " : "", o.v[0].what);
}

int container_checkpoint(const struct vps_live *l, int dir, unsigned rounds, struct vps_err *err)
{
	auto_done(facts_done) struct facts f = {.work = -1, .lock = -1, .rounds = rounds};
	struct criu_job j = CRIU_JOB_INIT;
	int r = refuse_obstacles(l, err);

	if (r < 0)
		return r;
	/* Who finds us killed waits for it: until then criu may still be at it. */
	f.lock = lock_take(l->run_dir, CHECKPOINT_LOCK, true, CRIU_MS);
	if (f.lock < 0)
		return vps_err_sys(err, f.lock, CHECKPOINT_LOCK);
	f.work = checkpoint_work(dir, err);
	r = f.work < 0 ? f.work : find_facts(l, &f, err);
	r = r ?: start_dump(l, &f, dir, &j, err);
	r = r ?: dump(l, &f, dir, &j, err);
	if (r < 0) {
		criu_end(&j); /* undoes what it did */
		cg_freeze(l->cg, false, FREEZE_MS, NULL);
		return r;
	}
	*l->hold = (struct vps_hold){.pid = j.pid, .fd = j.sock};
	return 0;
}

int container_checkpoint_end(const struct vps_live *l, bool go_on, struct vps_err *err)
{
	struct criu_job j = {.pid = l->hold->pid, .sock = l->hold->fd};
	struct criu_event e = {0};
	int r = criu_answer(&j, !go_on);

	while (r == 0 && !e.last) {
		r = criu_next(&j, &e, NULL);
		if (r == 0 && !e.last)
			r = criu_answer(&j, true);
	}
	criu_end(&j);
	*l->hold = VPS_HOLD_INIT;
	if (go_on)
		return cg_freeze(l->cg, false, FREEZE_MS, err);
	/* When criu has not done it: frozen processes die, too. */
	return cg_kill(l->cg, FREEZE_MS, err);
}

/* ---- rounds of pre-copy -------------------------------------------------------------------------- */

/* Can this kernel tell which pages are written to (CONFIG_MEM_SOFT_DIRTY, proc(5) clear_refs)? Tried with one of ours. */
static bool tracks_memory(void)
{
	const uint64_t soft_dirty = 1ull << 55;
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	volatile char *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	autoclose int clear = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
	autoclose int map = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t was = soft_dirty, now = 0;
	off_t at;

	if (page == MAP_FAILED)
		return false;
	at = (off_t)((uintptr_t)page / size * sizeof(was));
	page[0] = 1;
	if (clear >= 0 && map >= 0 && write(clear, "4", 1) == 1 && pread(map, &was, sizeof(was), at) == sizeof(was)) {
		page[0] = 2;
		(void)!pread(map, &now, sizeof(now), at);
	}
	munmap((void *)(uintptr_t)page, size);
	return !(was & soft_dirty) && (now & soft_dirty);
}

static bool is_traced(pid_t pid)
{
	char path[40], buf[4096];
	const char *p;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (fs_read_buf(AT_FDCWD, path, buf, sizeof(buf)) < 0)
		return false;
	p = strstr(buf, "\nTracerPid:");
	return p && atoi(p + strlen("\nTracerPid:")) != 0;
}

bool criu_is_at(struct cg *cg)
{
	autofree pid_t *pids = NULL;
	bool traced = false;
	size_t n = 0;

	if (cg_pids(cg, &pids, &n) < 0)
		return false;
	for (size_t i = 0; i < n && !traced; i++)
		traced = is_traced(pids[i]);
	return traced;
}

/* Nobody says when all runs again: it is when criu held them, and holds none any more. */
static void await_running(const struct vps_live *l, struct criu_job *j, bool *told)
{
	for (bool held = false; !*told && !criu_says(j, POLL_MS);) {
		bool now = criu_is_at(l->cg);
		if (held && !now) {
			*told = true;
			l->running(l->running_arg);
		}
		held |= now;
	}
}

/* Until it is over: all runs again, and what was found is written. */
static int predump(const struct vps_live *l, int work, struct criu_job *j, bool *told, struct vps_err *err)
{
	struct criu_event e = {0};

	for (;;) {
		int r;
		if (l->running)
			await_running(l, j, told);
		r = criu_next(j, &e, err);
		if (r < 0)
			return r;
		if (e.last)
			return e.success ? 0 : say_why(&e, work, CHECKPOINT_PREDUMP_LOG, err);
		r = criu_answer(j, true);
		if (r < 0)
			return vps_err_sys(err, r, "talk to criu");
	}
}

static int round_dir(int dir, unsigned round, struct vps_err *err)
{
	char name[CHECKPOINT_ROUND_STR];
	int fd;

	snprintf(name, sizeof(name), "%u", round);
	fd = mkdirat(dir, name, 0700) < 0 ? -errno : fs_open_dir(dir, name);
	return fd < 0 ? vps_err_sys(err, fd, "make the directory of round %u", round) : fd;
}

int container_precopy(const struct vps_live *l, int dir, unsigned round, struct precopy_stats *ret, struct vps_err *err)
{
	struct criu_job j = CRIU_JOB_INIT;
	char parent[CHECKPOINT_ROUND_STR + 3];
	bool told = false;
	autoclose int lock = -1;
	autoclose int work = -1;
	autoclose int images = -1;
	auto_strv scan = NULL;
	int r;

	if (round == 1 && !tracks_memory())
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "this host's kernel does not tell which pages change (it is built without CONFIG_MEM_SOFT_DIRTY)");
	if (round > CHECKPOINT_ROUNDS_MAX)
		return vps_err_set(err, VPS_ERESOURCE, "too many rounds");
	/* As for a checkpoint: who finds us killed waits until criu has let all go on. */
	lock = lock_take(l->run_dir, CHECKPOINT_LOCK, true, CRIU_MS);
	if (lock < 0)
		return vps_err_sys(err, lock, CHECKPOINT_LOCK);
	work = checkpoint_work(dir, err);
	images = work < 0 ? work : round_dir(dir, round, err);
	if (images < 0)
		return images;
	snprintf(parent, sizeof(parent), "../%u", round - 1);
	/* it looks watched files up already */
	r = watches_find(l->cg, l->init->pid, &scan, err);
	r = r ?: start_criu(l, &(struct criu_request){.predump = true, .parent = round > 1 ? parent : NULL, .dir = images,
						 .work = work, .log = CHECKPOINT_PREDUMP_LOG, .scan = scan}, lock, &j, err);
	r = r ?: predump(l, work, &j, &told, err);
	criu_end(&j);
	if (r < 0) {
		if (!told) /* else it is somebody else's by now */
			cg_freeze(l->cg, false, FREEZE_MS, NULL);
		return r;
	}
	if (criu_stats(work, &ret->frozen_us, &ret->bytes) < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED, "this CRIU does not say what it wrote");
	return 0;
}
