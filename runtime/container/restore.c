/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A start from a checkpoint. Everything that is ours is made as at any other start, from the definition: root, /dev,
 * console, masks, binds, groups. CRIU makes the namespaces and the processes, and finds our mounts by their names.
 *
 *   M  as in a start, and "subreaper": init will be its child when those between have gone
 *   A  host root in a mount namespace of its own: builds the root and, beside it, each mount of ours; speaks to criu
 *   C  criu, in the VPS's groups, so that what it fills in is counted there
 *
 * At criu's "setup-namespaces" init exists, with nothing in it: the network is attached. At "pre-resume" all processes
 * are there, stopped: they go to their own groups, which are frozen, and criu lets go. The gate is cgroup.freeze.
 */
#include "runtime/container/restore.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fs.h"
#include "base/json.h"
#include "base/sys.h"
#include "cgroups/cgroups.h"
#include "runtime/container/criu.h"
#include "runtime/lxcfs.h"
#include "runtime/migrate/manifest.h"

#define FREEZE_MS 10000
#define SOURCES	  "m" /* below the stage */

struct restore {
	struct box *b;
	struct json *j; /* container.json */
	int userns, stage;
	int devpts, slave, work;
	int images; /* what criu reads: the checkpoint, or one beside it with other ids */
	unsigned rounds; /* of pre-copy, before it */
	char **external;    /* strv: CRIU's words */
	struct criu_fd *fds;
	size_t n_fds, cap_fds;
	char *cgroup_at;    /* where C shall mount the cgroups; "" not at all */
	pid_t init;
};

/* ---- what the checkpoint says ----------------------------------------------------------- */

static int load(struct restore *x, struct vps_err *err)
{
	int r = json_load(x->b->run->checkpoint, CHECKPOINT_CONTAINER, &x->j, err);

	if (r < 0)
		return vps_err_wrap(err, r, "checkpoint");
	if (json_int(json_get(x->j, "version"), 0) != CHECKPOINT_CONTAINER_VERSION)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "the checkpoint was made by another version of vps: it cannot be read");
	x->rounds = (unsigned)json_u64(json_get(x->j, "rounds"), 0);
	if (x->rounds > CHECKPOINT_ROUNDS_MAX)
		return vps_err_set(err, EBADMSG, "checkpoint: bad rounds");
	return 0;
}

static int add_fd(struct restore *x, const char *key, int fd)
{
	int r = mem_grow(x->fds, x->n_fds, x->cap_fds);

	if (r < 0)
		return r;
	x->fds[x->n_fds++] = (struct criu_fd){.key = (char *)(uintptr_t)key, .fd = fd};
	return 0;
}

/* ---- mounts -------------------------------------------------------------------------------- */

static const struct mnt *plan_entry(const struct box *b, const char *dst)
{
	for (size_t i = 0; i < b->plan.n; i++)
		if (str_eq(b->plan.m[i].dst, dst))
			return &b->plan.m[i];
	return NULL;
}

static int take_view(struct box *b, const char *dst)
{
	for (size_t i = 0; i < b->n_views; i++)
		if (str_eq(lxcfs_files[i], dst))
			return take_fd(b->views[i]);
	return -1;
}

/* The same file of the host, which tells whether a mask is a directory, and stands in for a view that this
 * host's lxcfs does not have. */
static int same_of_host(const char *path)
{
	int fd = sys_openat2(AT_FDCWD, path, O_PATH, 0, RESOLVE_NO_SYMLINKS);

	return fd;
}

static bool is_view(const char *dst)
{
	for (size_t i = 0; lxcfs_files[i]; i++)
		if (str_eq(lxcfs_files[i], dst))
			return true;
	return false;
}

static int make_source(struct restore *x, const char *path, struct vps_err *err)
{
	const char *dst = path + 1;
	const struct mnt *m = plan_entry(x->b, dst);
	struct mnt_made made = {.proc = {-1, -1}, .devpts = -1, .dev = -1};

	if (is_view(dst)) {
		int r = take_view(x->b, dst);
		if (r < 0)
			r = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE);
		return r < 0 ? vps_err_sys(err, r, "mount %s", path) : r;
	}
	if (!m)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "the checkpoint has a mount on %s that the definition has not", path);
	autoclose int target = m->kind == MNT_MASK ? same_of_host(path) : -1;
	if (m->kind == MNT_MASK && target < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED, "this kernel has no %s, as the one of the checkpoint had",
				   path);
	return mount_make(x->b, m, target, x->stage, x->userns, &made, err);
}

/* name: made in SOURCES like what will be mounted there. */
static int make_place(int dir, const char *name, int like, struct vps_err *err)
{
	struct stat st;
	int r;

	if (fstat(like, &st) < 0)
		return vps_err_sys(err, -errno, "look at a mount");
	r = S_ISDIR(st.st_mode) ? mkdirat(dir, name, 0755) : mknodat(dir, name, S_IFREG | 0644, 0);
	return r < 0 ? vps_err_sys(err, -errno, "make a place for a mount") : 0;
}

static int name_source(struct restore *x, const char *path, const char *name, struct vps_err *err)
{
	int r = strv_addf(&x->external, "mnt[%s]:%s/" SOURCES "/%s", path, x->b->stage_at, name);

	return r < 0 ? vps_err_sys(err, r, "mounts") : 0;
}

static int take_console(struct restore *x, int dir, const char *name, struct vps_err *err)
{
	struct box_msg m = {.type = BOX_CONSOLE};
	const char *key = json_str(json_get(x->j, "tty"), NULL);

	if (x->devpts < 0)
		return vps_err_set(err, EBADMSG, "the checkpoint has a console without devpts");
	if (mknodat(dir, name, S_IFREG | 0600, 0) < 0)
		return vps_err_sys(err, -errno, "make a place for a mount");
	autoclose int master = dev_console(x->devpts, dir, name, err);
	if (master < 0)
		return master;
	x->slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (x->slave < 0)
		return vps_err_sys(err, -errno, "open the console");
	int r = box_send(x->b->up[1], &m, &master, 1);
	r = r ?: (key ? add_fd(x, key, x->slave) : 0);
	return r < 0 ? vps_err_sys(err, r, "hand over the console") : 0;
}

static int add_source(struct restore *x, int dir, const char *path, unsigned i, struct vps_err *err)
{
	char name[12];

	snprintf(name, sizeof(name), "%u", i);
	if (str_eq(path, "/dev/console")) {
		int r = take_console(x, dir, name, err);
		return r ?: name_source(x, path, name, err);
	}
	if (str_eq(path, "/sys/fs/cgroup")) { /* C's to mount, in its namespace */
		if (mkdirat(dir, name, 0755) < 0)
			return vps_err_sys(err, -errno, "make a place for a mount");
		x->cgroup_at = str_fmt("%s/" SOURCES "/%s", x->b->stage_at, name);
		return x->cgroup_at ? name_source(x, path, name, err) : vps_err_sys(err, -ENOMEM, "mounts");
	}
	autoclose int tree = make_source(x, path, err);
	if (tree < 0)
		return tree;
	int r = make_place(dir, name, tree, err);
	if (r < 0)
		return r;
	r = sys_move_mount(tree, "", dir, name, MOVE_MOUNT_F_EMPTY_PATH);
	if (r < 0)
		return vps_err_sys(err, r, "mount %s", path);
	if (str_eq(path, "/dev/pts"))
		x->devpts = take_fd(tree);
	return name_source(x, path, name, err);
}

static int add_sources(struct restore *x, struct vps_err *err)
{
	const struct json *list = json_get(x->j, "external");
	int r = 0;

	if (mkdirat(x->stage, SOURCES, 0755) < 0)
		return vps_err_sys(err, -errno, "make the stage");
	autoclose int dir = fs_open_dir(x->stage, SOURCES);
	if (dir < 0)
		return vps_err_sys(err, dir, "make the stage");
	for (size_t i = 0; r == 0 && i < json_len(list); i++) {
		const char *path = json_str(json_at(list, i), "");
		r = *path == '/' && !strchr(path, ']') ? add_source(x, dir, path, (unsigned)i, err)
						       : vps_err_set(err, EBADMSG, "checkpoint: bad mount");
	}
	return r;
}

static int add_pipes(struct restore *x, struct vps_err *err)
{
	const struct json *list = json_get(x->j, "pipes");
	int r = 0;

	for (size_t i = 0; r == 0 && i < json_len(list) && i < 3; i++) {
		const char *key = json_str(json_at(list, i), "");
		int fd = x->b->pipes[i][i == 0 ? 0 : 1];
		if (*key && fd >= 0)
			r = add_fd(x, key, fd);
	}
	return r < 0 ? vps_err_sys(err, r, "console") : 0;
}

/* ---- C ----------------------------------------------------------------------------------------- */

static int mount_cgroups(const char *at)
{
	const unsigned attrs = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
	autoclose int fs = sys_fsopen("cgroup2", 0);
	int r = fs < 0 ? fs : sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	autoclose int tree = r < 0 ? r : sys_fsmount(fs, 0, attrs);

	return tree < 0 ? tree : sys_move_mount(tree, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH);
}

/* Before criu is executed. It wants uid 0. */
static int become_restorer(void *arg)
{
	struct restore *x = arg;
	int r = cg_tree_enter(x->b->run->cg, json_get(x->j, "groups"));

	if (r == 0 && x->cgroup_at)
		r = mount_cgroups(x->cgroup_at);
	if (r == 0 && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0 || prctl(PR_SET_SECUREBITS, 0) < 0))
		r = -errno;
	return r;
}

/* ---- A, with criu -------------------------------------------------------------------------------- */

/* Ids are ours, not the image's. */
static int check_ids(struct restore *x, struct vps_err *err)
{
	char text[128];
	unsigned in, out, n;
	autoclose int fd = proc_pid_open(x->init, "uid_map", O_RDONLY);
	ssize_t len = fd < 0 ? fd : fs_read_full(fd, text, sizeof(text) - 1);

	if (len < 0)
		return vps_err_sys(err, (int)len, "read init's ids");
	text[len] = '\0';
	if (sscanf(text, "%u %u %u", &in, &out, &n) != 3 || in != 0 || out != x->b->id_base || n != VPS_N_IDS ||
	    strchr(text, '\n') != text + len - 1)
		return vps_err_set(err, VPS_EUNSUPPORTED, "the checkpoint has other host ids than this VPS");
	return 0;
}

/* In a child of A's: /proc/sys shows the namespaces of who looks, as the VPS's root may write them. */
static int set_sysctls(struct restore *x, struct vps_err *err)
{
	char *const *sysctls = x->b->run->spec->sysctls;
	struct vps_err said = {0};
	int r, p[2];
	pid_t pid;

	if (!sysctls || !*sysctls)
		return 0;
	if (pipe2(p, O_CLOEXEC) < 0)
		return vps_err_sys(err, -errno, "make pipes");
	pid = fork();
	if (pid == 0) {
		int pidfd = sys_pidfd_open(x->init, 0);
		r = pidfd < 0 ? pidfd : 0;
		if (r == 0 && setns(pidfd, CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
			r = -errno;
		if (r == 0 && (setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0))
			r = -errno;
		if (r < 0)
			vps_err_sys(&said, r, "enter the VPS's namespaces");
		else
			box_set_sysctls(sysctls, &said);
		(void)!write(p[1], &said, sizeof(said));
		_exit(0);
	}
	r = pid < 0 ? -errno : 0;
	close(p[1]);
	if (r == 0 && fs_read_full(p[0], &said, sizeof(said)) != sizeof(said))
		vps_err_set(&said, ECHILD, "the helper for sysctls was killed");
	close(p[0]);
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return vps_err_sys(err, r, "fork");
	return said.code ? vps_err_set(err, said.code, "%s", said.msg) : 0;
}

/* init is there, empty. */
static int on_namespaces(struct restore *x, struct vps_err *err)
{
	struct box_msg born = {.type = BOX_BORN, .pid = x->init}, net = {.type = BOX_NETNS};
	int r = check_ids(x, err);

	if (r < 0)
		return r;
	autoclose int netns = proc_pid_open(x->init, "ns/net", O_RDONLY);
	if (netns < 0)
		return vps_err_sys(err, netns, "open the network namespace");
	r = box_send(x->b->up[1], &born, NULL, 0);
	r = r ?: box_send(x->b->up[1], &net, &netns, 1);
	r = r ?: box_step_wait(x->b->ab[0]); /* M has told why not */
	return r ?: set_sysctls(x, err);
}

/* The flags of our own mounts, whatever CRIU made of them. In a child of A's. */
static int set_flags(struct restore *x, struct vps_err *err)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		autoclose int ns = proc_pid_open(x->init, "ns/mnt", O_RDONLY);
		if (ns < 0 || setns(ns, CLONE_NEWNS) < 0)
			_exit(1);
		for (size_t i = 0; i < x->b->plan.n; i++) {
			const struct mnt *m = &x->b->plan.m[i];
			struct mount_attr a = {.attr_set = m->attrs};
			autoclose int fd = sys_openat2(AT_FDCWD, m->dst, O_PATH, 0, RESOLVE_NO_SYMLINKS);
			/* -EINVAL: nothing of ours is mounted there any more */
			if (fd >= 0)
				sys_mount_setattr(fd, "", AT_EMPTY_PATH, &a, sizeof(a));
			/* made with the IPC namespace, by criu as the host's root */
			if (fd >= 0 && m->kind == MNT_MQUEUE)
				(void)!fchownat(fd, "", x->b->id_base, x->b->id_base, AT_EMPTY_PATH);
		}
		_exit(0);
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return pid < 0 || status ? vps_err_set(err, EIO, "the mounts' flags could not be set") : 0;
}

static int bind_notify(struct restore *x, struct vps_err *err)
{
	if (x->b->notify < 0)
		return 0;
	autoclose int root = proc_pid_open(x->init, "root", O_PATH | O_DIRECTORY);
	if (root < 0)
		return vps_err_sys(err, root, "open the root");
	autoclose int host = sys_openat2(root, "run/host", O_PATH | O_DIRECTORY, 0,
					 RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	if (host < 0)
		return 0; /* the tenant does not want to be heard */
	unlinkat(host, "notify", 0);
	return box_bind_notify(x->b->notify, host, err);
}

/* All are there, none runs. */
static int on_complete(struct restore *x, struct vps_err *err)
{
	struct cg *cg = x->b->run->cg;
	int r = set_flags(x, err);

	r = r ?: bind_notify(x, err);
	r = r ?: cg_tree_leave(cg, err);
	r = r ?: cg_tree_place(cg, json_get(x->j, "groups"), err);
	return r ?: cg_freeze_begin(cg, err);
}

static int say_why(struct criu_event *e, int work, struct vps_err *err)
{
	autofree char *words = criu_log_words(work, RESTORE_LOG);

	return vps_err_set(err, VPS_EUNSUPPORTED, "CRIU could not bring it back: %s",
			   words ? words : *e->words ? e->words : "it does not say why");
}

static int converse(struct restore *x, struct criu_job *j, struct vps_err *err)
{
	struct criu_event e = {0};
	bool complete = false;

	for (;;) {
		int r = criu_next(j, &e, err);
		if (r < 0)
			return r;
		if (e.last)
			break;
		if (str_eq(e.script, "setup-namespaces")) {
			x->init = e.pid;
			r = on_namespaces(x, err);
		} else if (str_eq(e.script, "pre-resume")) {
			complete = true;
			r = on_complete(x, err);
		}
		int sent = criu_answer(j, r == 0);
		if (r < 0 || sent < 0)
			return r < 0 ? r : vps_err_sys(err, sent, "talk to criu");
	}
	if (!e.success)
		return say_why(&e, x->work, err);
	return complete ? 0 : vps_err_set(err, VPS_EUNSUPPORTED, "this CRIU does not wait before it lets go");
}

static int run_criu(struct restore *x, struct vps_err *err)
{
	auto_done(criu_done) struct criu criu = {0};
	struct criu_job j = CRIU_JOB_INIT;
	autofree char *root = str_fmt("%s/root", x->b->stage_at);
	struct criu_request q = {.restore = true, .dir = x->images, .work = x->work, .log = RESTORE_LOG, .root = root,
				 .external = x->external, .fds = x->fds, .n_fds = x->n_fds};

	int r = root ? criu_find(x->b->run->conf, &criu, err) : vps_err_sys(err, -ENOMEM, "restore");

	q.version = criu.version;
	r = r ?: criu_start(&criu, &j, become_restorer, x, x->fds, x->n_fds, err);
	r = r ?: criu_ask(&j, &q, err);
	r = r ?: converse(x, &j, err);
	criu_end(&j);
	return r ?: cg_freeze(x->b->run->cg, true, FREEZE_MS, err);
}

/* ---- A, before ------------------------------------------------------------------------------------- */

/* Idmapped mounts take the numbers of a user namespace; the VPS's own is made by criu. */
static int numbers_only(uint32_t id_base, struct vps_err *err)
{
	struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
	pid_t pid = sys_clone3(&args, sizeof(args));
	int fd;

	if (pid < 0)
		return vps_err_sys(err, pid, "make a user namespace");
	if (pid == 0)
		for (;;)
			pause();
	fd = userns_map(pid, id_base, err);
	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	return fd;
}

/* The processes that criu makes read the images themselves: first as the host's root without rights, before their user
 * namespace has its ids, then as the VPS's root. Nobody of the VPS comes here by path. */
static int hand_dir(int dir, gid_t gid)
{
	auto_strv names = NULL;
	int r = fs_list(dir, ".", &names);

	for (char **n = names; r == 0 && n && *n; n++) {
		autoclose int fd = openat(dir, *n, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		struct stat st;
		if (fd < 0 || fstat(fd, &st) < 0)
			return -errno;
		/* neither links of ours, nor work, below which x->images may be, nor rounds */
		if (S_ISREG(st.st_mode) &&
		    (fchownat(dir, *n, 0, gid, AT_SYMLINK_NOFOLLOW) < 0 || fchmodat(dir, *n, 0640, 0) < 0))
			r = -errno;
	}
	if (r == 0 && (fchown(dir, 0, gid) < 0 || fchmod(dir, 0750) < 0))
		r = -errno;
	return r;
}

/* CRIU finds the round before by a link. There is none but ours. */
static int link_parent(int dir, unsigned parent, bool beside)
{
	char to[CHECKPOINT_ROUND_STR + 3];
	int r = fs_remove_tree(dir, CHECKPOINT_PARENT);

	if (r < 0 || parent == 0)
		return r;
	snprintf(to, sizeof(to), "%s%u", beside ? "../" : "", parent);
	return symlinkat(to, dir, CHECKPOINT_PARENT) < 0 ? -errno : 0;
}

static int hand_images(struct restore *x, struct vps_err *err)
{
	gid_t gid = x->b->id_base;
	int r = link_parent(x->images, x->rounds, false);

	r = r ?: hand_dir(x->images, gid);
	for (unsigned i = 1; r == 0 && i <= x->rounds; i++) {
		char name[CHECKPOINT_ROUND_STR];
		snprintf(name, sizeof(name), "%u", i);
		autoclose int dir = fs_open_dir(x->images, name);
		r = dir < 0 ? dir : link_parent(dir, i - 1, true);
		r = r ?: hand_dir(dir, gid);
	}
	return r < 0 ? vps_err_sys(err, r, "hand over the images") : 0;
}

/* The directory that criu reads. */
static int open_images(struct restore *x, struct vps_err *err)
{
	const struct vps_run *run = x->b->run;

	x->work = checkpoint_work(run->checkpoint, err);
	if (x->work < 0)
		return x->work;
	if (json_u64(json_get(x->j, "id_base"), 0) == x->b->id_base)
		x->images = fcntl(run->checkpoint, F_DUPFD_CLOEXEC, 3);
	else
		x->images = idimage_dir(run->checkpoint, x->work, x->rounds, x->b->id_base, err);
	return x->images < 0 ? vps_err_sys(err, -errno, "open the images") : 0;
}

static int prepare(struct restore *x, struct vps_err *err)
{
	struct box *b = x->b;
	int r = load(x, err);

	r = r ?: open_images(x, err);

	if (r < 0)
		return r;
	b->dev_saved = openat(b->run->checkpoint, CHECKPOINT_DEV, O_RDONLY | O_CLOEXEC);
	r = hand_images(x, err);
	r = r ?: rootfs_collect(b, err);
	if (r < 0)
		return r;
	if (unshare(CLONE_NEWNS) < 0)
		return vps_err_sys(err, -errno, "make a mount namespace");
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return vps_err_sys(err, -errno, "make mounts private");
	r = box_hand_pipes(b, err);
	r = r ?: cg_tree_make(b->run->cg, json_get(x->j, "groups"), err);
	r = r ?: userns_become_owner(b->id_base, err);
	return r;
}

static int work(struct restore *x, struct vps_err *err)
{
	int r = prepare(x, err);

	if (r < 0)
		return r;
	x->userns = numbers_only(x->b->id_base, err);
	if (x->userns < 0)
		return x->userns;
	int root = rootfs_mount(x->b, x->userns, err);
	if (root < 0)
		return root;
	close(root);
	x->stage = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (x->stage < 0)
		return vps_err_sys(err, -errno, "open the stage");
	r = add_sources(x, err);
	r = r ?: add_pipes(x, err);
	return r ?: run_criu(x, err);
}

_Noreturn void box_restore(struct box *b)
{
	struct restore x = {.b = b, .userns = -1, .stage = -1, .devpts = -1, .slave = -1,
			    .work = -1, .images = -1};
	struct box_msg ready = {.type = BOX_READY};
	struct vps_err err = {0};
	int r;

	umask(0);
	close(b->ab[1]); /* or M's end would not be seen */
	r = work(&x, &err);
	/* Without words it was M that failed, and M knows. */
	if (r < 0 && (r != -EPIPE || err.code))
		box_fail(b->up[1], r, &err);
	else if (r == 0)
		box_send(b->up[1], &ready, NULL, 0);
	_exit(r < 0);
}
