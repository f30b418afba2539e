/* SPDX-License-Identifier: GPL-2.0-or-later */
/* M: everything that vps-vmm gets, and its birth. */
#include "runtime/microvm/launch.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/microvm/initramfs.h"
#include "runtime/monitor_args.h"

#define PREPARE_MS 60000
#define BACKLOG	   16

void vm_prep_done(struct vm_prep *p)
{
	int *fds = (int *)&p->jail.fds;

	for (size_t i = 0; i < VM_N_FDS; i++)
		/* the run's */
		if (&fds[i] != &p->jail.fds.image && &fds[i] != &p->jail.fds.disk)
			close_fd(&fds[i]);
	vm_kernel_done(&p->kernel);
	close_fd(&p->cache);
	close_fd(&p->pty);
	close_fd(&p->jail.up[0]);
	close_fd(&p->jail.up[1]);
	close_fd(&p->jail.exe);
	close_fd(&p->jail.null);
	close_fd(&p->jail.err);
	for (int i = 0; i < 2; i++) {
		close_fd(&p->gate[i]);
		close_fd(&p->notify[i]);
	}
	for (int i = 0; i < 3; i++)
		close_fd(&p->pipes[i]);
}

int vm_program(const char *name, struct vps_err *err)
{
	char path[4096];
	int fd = open(monitor_program(name, PKGLIBEXECDIR, path, sizeof(path)), O_RDONLY | O_CLOEXEC);

	return fd < 0 ? vps_err_sys(err, -errno, "open %s", path) : fd;
}

static int open_kvm(struct vps_err *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0 && (errno == ENOENT || errno == ENODEV || errno == ENXIO))
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "this host has no /dev/kvm: modprobe kvm-intel or kvm-amd, with "
				   "virtualization switched on in the firmware");
	return fd < 0 ? vps_err_sys(err, -errno, "open /dev/kvm") : fd;
}

int vm_host_check(struct vps_err *err)
{
	return vm_host_check_cpu(NULL, err);
}

int vm_host_check_cpu(const char *cpu, struct vps_err *err)
{
	char path[4096];
	char *argv[] = {monitor_program("vps-vmm", PKGLIBEXECDIR, path, sizeof(path)),
			(char *)(uintptr_t)"check", (char *)(uintptr_t)cpu, NULL};
	auto_strbuf out = STRBUF_INIT;
	struct vps_err why = {0};
	struct proc_opts o = PROC_OPTS_INIT;
	autoclose int kvm = open_kvm(err);
	int r;

	if (kvm < 0)
		return kvm;
	o.out = &out;
	o.timeout_ms = 10000;
	r = proc_run(argv, &o, &why);
	if (r < 0)
		return vps_err_set(err, why.code, "%s", why.msg);
	if (r == 0)
		return 0;
	return vps_err_set(err, VPS_EUNSUPPORTED, "%.*s", (int)strcspn(sb_str(&out), "\n"), sb_str(&out));
}

/* ---- console ---------------------------------------------------------------------- */

/* Our line discipline only passes on: the guest has its own. */
static int open_raw(int master, int *ret)
{
	struct termios t;
	int fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	*ret = fd;
	if (tcgetattr(fd, &t) < 0)
		return -errno;
	cfmakeraw(&t);
	return tcsetattr(fd, TCSANOW, &t) < 0 ? -errno : 0;
}

static int make_pty(struct vm_prep *p)
{
	int unlock = 0, r;

	p->pty = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (p->pty < 0 || ioctl(p->pty, TIOCSPTLCK, &unlock) < 0)
		return -errno;
	/* Files of their own: vps-vmm makes the first two nonblocking. */
	r = open_raw(p->pty, &p->jail.fds.console[0]);
	r = r ?: open_raw(p->pty, &p->jail.fds.console[1]);
	return r ?: open_raw(p->pty, &p->jail.err);
}

static int pair_of_pipe(int *ours, int *theirs, bool theirs_reads)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	*theirs = fd[theirs_reads ? 0 : 1];
	*ours = fd[theirs_reads ? 1 : 0];
	return 0;
}

/* An image's init writes to the console; a command has ports for what it reads and writes, and then what the
 * kernel says is nobody's: how it died, vps-vmm tells. */
static int make_pipes(struct vm_prep *p, const struct vps_run *run)
{
	int stdio[3] = {-1, -1, -1};
	int r = 0;

	for (int i = 0; i < 3 && r == 0; i++)
		r = pair_of_pipe(&p->pipes[i], &stdio[i], i == 0);
	if (r < 0)
		return r; /* the process ends */
	p->jail.err = fcntl(stdio[2], F_DUPFD_CLOEXEC, 3);
	if (run->under_init && !p->errand) {
		memcpy(p->jail.fds.stdio, stdio, sizeof(stdio));
		p->jail.fds.console[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		p->jail.fds.console[1] = open("/dev/null", O_WRONLY | O_CLOEXEC);
	} else {
		p->jail.fds.console[0] = stdio[0];
		p->jail.fds.console[1] = stdio[1];
		close(stdio[2]);
	}
	return p->jail.err < 0 || p->jail.fds.console[0] < 0 || p->jail.fds.console[1] < 0 ? -errno : 0;
}

/* The last line of what lies in fd, in buf; NULL: there is none. Nobody may be writing any more. */
static const char *last_line(int fd, char *buf, size_t size)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	size_t len = 0;
	char *line;

	for (int wait = 200; poll(&pfd, 1, wait) > 0; wait = 0) {
		if (len > size / 2) { /* of much, the later half */
			memmove(buf, buf + size / 4, len - size / 4);
			len -= size / 4;
		}

		ssize_t n = read(fd, buf + len, size - 1 - len);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	while (len > 0 && (buf[len - 1] == '\n' || buf[len - 1] == '\r'))
		len--;
	buf[len] = '\0';
	line = strrchr(buf, '\n');
	return len ? line ? line + 1 : buf : NULL;
}

const char *vm_last_words(struct vm_prep *p, char *buf, size_t size)
{
	const char *line = last_line(p->pty >= 0 ? p->pty : p->pipes[2], buf, size);

	if (!line)
		return "vps-vmm ended without a word";
	return str_starts(line, "vps-vmm: ") ? line + strlen("vps-vmm: ") : line;
}

const char *vm_last_console(struct vm_prep *p, char *buf, size_t size)
{
	return last_line(p->pipes[1], buf, size) ?: "nothing";
}

/* ---- kernel, initramfs, sockets ------------------------------------------------------- */

int vm_cache_open(const struct vps_conf *c, struct vps_err *err)
{
	autoclose int root = fs_open_dir(AT_FDCWD, c->root);
	int cache = root < 0 ? root : fs_mkdir_p(root, VM_CACHE_DIR, 0700);

	cache = cache < 0 ? cache : fs_open_dir(root, VM_CACHE_DIR);
	return cache < 0 ? vps_err_sys(err, cache, "open '%s/" VM_CACHE_DIR "'", c->root) : cache;
}

/* Those that came with it, this host's of the very same bytes, or, of a machine that was here all the time, of that name. */
static int same_modules(struct vm_prep *p, const struct vps_run *run)
{
	const struct vm_size *size = &p->jail.size;
	int r = modtree_take(run->checkpoint, VM_MODULES_HERE, size->modules, run->instance_dir);

	if (r == -ENOENT)
		r = *size->modules_sum ? modtree_same(p->cache, size->modules_sum, size->modules, run->instance_dir) : 0;
	return r < 0 ? r : modtree_reopen(p->cache, run->instance_dir, size->modules);
}

/* A restored guest has them mounted: the very same. */
static int make_modules(struct vm_prep *p, const struct vps_run *run, struct vps_err *err)
{
	char *name = p->jail.size.modules;
	int fd = -1, r;

	if (run->checkpoint >= 0 && *name) {
		fd = same_modules(p, run);
		if (fd < 0)
			return vps_err_set(err, VPS_EUNSUPPORTED, "the modules that its kernel was started with are "
					   "gone ('%s'): %s", name, vps_code_str(fd));
	} else if (run->checkpoint < 0 && p->kernel.modules >= 0 && *p->kernel.release) {
		fd = modtree_open(p->cache, p->kernel.modules, p->kernel.release, name, err);
		if (fd < 0)
			return fd;
		unlinkat(run->instance_dir, name, 0); /* another host's, of the same name */
	}
	p->jail.fds.modules = fd;
	modtree_keep(p->cache, *name ? name : NULL, run->instance_dir);
	r = vm_modules_note(run->run_dir, name);
	return r < 0 ? vps_err_sys(err, r, "write the run directory") : 0;
}

static int make_initramfs(struct vm_prep *p, const struct vps_run *run, struct vps_err *err)
{
	struct initramfs_opts o = {.modules = p->kernel.modules, .extra = run->spec->initrd_modules};
	auto_done(guest_cfg_done) struct guest_cfg cfg = {0};
	autoclose int program = vm_program("vps-guest", err);
	int r = program < 0 ? program : 0;

	if (r < 0)
		return r;
	o.program = program;
	r = initramfs_open(p->cache, &o, err);
	if (r < 0)
		return vps_err_wrap(err, r, "kernel '%s'", p->kernel.path);
	p->jail.fds.initrd[0] = r;
	r = vm_guest_cfg(run, &cfg);
	cfg.modules = p->jail.fds.modules >= 0;
	if (p->errand) {
		cfg.role = p->role;
		cfg.sysctls = strv_free(cfg.sysctls); /* of what does not run */
	}
	if (r < 0)
		return vps_err_sys(err, r, "what the guest is told");
	r = initramfs_config(&cfg, err);
	if (r < 0)
		return r;
	p->jail.fds.initrd[1] = r;
	return 0;
}

/* bind(2) wants a path: by the fd of a directory of ours. */
static int make_ctl(struct vm_prep *p, const struct vps_run *run, struct vps_err *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	autoclose int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return vps_err_sys(err, -errno, "socket");
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/" VMM_SOCKET, run->run_dir);
	if (unlinkat(run->run_dir, VMM_SOCKET, 0) < 0 && errno != ENOENT)
		return vps_err_sys(err, -errno, "remove the last " VMM_SOCKET);
	/* the mode of the file is that of the socket */
	if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, BACKLOG) < 0)
		return vps_err_sys(err, -errno, "listen on " VMM_SOCKET);
	p->jail.fds.ctl = take_fd(fd);
	return 0;
}

/* The guest has it mounted, and parts of it in its memory. Within one host it cannot have become another. */
int vm_image_check(int image, const char *digest, struct vps_err *err)
{
	char have[DIGEST_LEN];
	int r = img_erofs_digest(image, have, err);

	if (r < 0 || str_eq(have, digest))
		return r;
	return vps_err_set(err, VPS_EUNSUPPORTED, "the disk that this host has made of its image is not, byte for byte, the one "
			   "that the guest has mounted: another mkfs.erofs, or an image of an older vps, was at work; use --restart");
}

/* What the guest's memory begins with. */
static int make_memory(struct vm_prep *p, const struct vps_run *run, struct vps_err *err)
{
	int r;

	r = p->cache = vm_cache_open(run->conf, err);
	if (r >= 0 && run->checkpoint >= 0) {
		r = p->jail.fds.restore = vm_checkpoint_open(run->checkpoint, &p->jail.size, p->jail.fds.rounds, err);
		if (r >= 0 && *p->jail.size.image)
			r = vm_image_check(run->image, p->jail.size.image, err);
		return r < 0 ? r : make_modules(p, run, err);
	}
	r = r < 0 ? r : vm_kernel_open(run->spec->kernel, &p->kernel, err);
	if (r == 0 && !p->errand)
		r = make_modules(p, run, err);
	r = r ?: make_initramfs(p, run, err);
	if (r == 0)
		p->jail.fds.kernel = take_fd(p->kernel.fd);
	return r;
}

int vm_prepare(struct vm_prep *p, const struct vps_run *run, struct vps_err *err)
{
	struct vm_fds *f = &p->jail.fds;
	int r = make_memory(p, run, err);

	if (r == 0)
		r = f->kvm = open_kvm(err);
	if (r >= 0)
		r = p->jail.exe = vm_program("vps-vmm", err);
	if (r >= 0)
		r = p->errand ? 0 : make_ctl(p, run, err);
	if (r < 0)
		return r;
	p->jail.null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (p->jail.null < 0)
		r = -errno;
	if (r == 0)
		r = run->spec->console == CONSOLE_PTY && !p->errand ? make_pty(p) : make_pipes(p, run);
	if (r == 0 && (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->jail.up) < 0 ||
		       socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->gate) < 0 ||
		       socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p->notify) < 0))
		r = -errno;
	if (r < 0)
		return vps_err_sys(err, r, "console and sockets of the machine");
	f->gate = take_fd(p->gate[1]);
	f->notify = take_fd(p->notify[1]);
	return 0;
}

/* ---- the birth ---------------------------------------------------------------------------- */

static void reap(pid_t pid)
{
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

/* Next word of A or B; 0 with BOX_BORN, or at the end of file (type 0): B is vps-vmm now. */
static int hear(int up, struct box_msg *m, struct vps_err *err)
{
	size_t n = 0;
	ssize_t len = sys_recv_fds(up, m, sizeof(*m), NULL, &n);

	if (len == 0) {
		m->type = 0;
		return 0;
	}
	if (len != sizeof(*m))
		return vps_err_set(err, EPROTO, "a helper of the start talks nonsense");
	if (m->type == BOX_BORN)
		return 0;
	m->err.msg[sizeof(m->err.msg) - 1] = '\0';
	return vps_err_set(err, m->err.code ? m->err.code : EPROTO, "%s", m->err.msg);
}

/* The namespace is there: the card into it, and B goes on. */
static int give_tap(struct vm_prep *p, const struct vps_run *run, pid_t pid, int *ret_netns,
		    struct vps_err *err)
{
	struct box_msg m = {.type = BOX_READY};
	autoclose int netns = proc_pid_open(pid, "ns/net", O_RDONLY);
	autoclose int tap = -1;
	int r;

	if (netns < 0)
		return vps_err_sys(err, netns, "open the machine's network namespace");
	if (run->net && run->net->mode != NET_NONE) {
		tap = net_tap_make(netns, VM_TAP, err);
		if (tap < 0)
			return tap;
	}
	r = box_send(p->jail.up[0], &m, &tap, tap >= 0);
	if (r < 0)
		return vps_err_sys(err, r, "hand over the tap");
	*ret_netns = take_fd(netns);
	return 0;
}

/* vps-vmm says a byte when it is at the gate. */
static int wait_prepared(struct vm_prep *p, struct vps_err *err)
{
	struct pollfd pfd = {.fd = p->gate[0], .events = POLLIN};
	char buf[1024], c;
	int r;

	do
		r = poll(&pfd, 1, PREPARE_MS);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return vps_err_set(err, VPS_ETIMEDOUT, "vps-vmm does not get ready");
	if (r > 0 && read(p->gate[0], &c, 1) == 1)
		return 0;

	autofree char *safe = str_escape(vm_last_words(p, buf, sizeof(buf)));

	return vps_err_set(err, VPS_EUNSUPPORTED, "%s", safe ? safe : "vps-vmm ended");
}

int vm_birth(struct vm_prep *p, const struct vps_run *run, pid_t *ret_pid, int *ret_netns,
		 struct vps_err *err)
{
	struct clone_args args = {.exit_signal = SIGCHLD};
	struct box_msg m = {0};
	pid_t outside;
	int r;

	outside = sys_clone3(&args, sizeof(args));
	if (outside == 0)
		vm_jail_outside(&p->jail);
	if (outside < 0)
		return vps_err_sys(err, outside, "fork");
	r = hear(p->jail.up[0], &m, err);
	if (r == 0)
		*ret_pid = m.pid;
	reap(outside);
	if (r == 0 && m.type != BOX_BORN)
		r = vps_err_set(err, ECHILD, "a helper of the start was killed");
	r = r ?: give_tap(p, run, m.pid, ret_netns, err);
	/* theirs, or their end would not be seen */
	close_fd(&p->jail.up[1]);
	close_fd(&p->jail.fds.gate);
	close_fd(&p->jail.err);
	close_fd(&p->jail.fds.console[0]);
	close_fd(&p->jail.fds.console[1]);
	for (int i = 0; i < 3; i++)
		close_fd(&p->jail.fds.stdio[i]);
	r = r ?: hear(p->jail.up[0], &m, err);
	return r ?: wait_prepared(p, err);
}

int vm_launch(const struct vps_run *run, struct vps_launched *ret, struct vps_err *err)
{
	auto_done(vm_prep_done) struct vm_prep p = VM_PREP_INIT(run);
	autoclose int netns = -1;
	autoclose int pidfd = -1;
	struct proc_ident init;
	pid_t pid = 0;
	int r;

	p.jail.fds.image = run->image;
	p.jail.fds.disk = run->disk_image;
	r = vm_prepare(&p, run, err);
	r = r ?: vm_image_note(run->run_dir, run->image, err);
	r = r ?: vm_birth(&p, run, &pid, &netns, err);
	if (r == 0) {
		/* A child not yet waited for: the pid is still its own. */
		r = proc_ident_of(pid, &init);
		pidfd = sys_pidfd_open(pid, 0);
		if (r < 0 || pidfd < 0)
			r = vps_err_sys(err, r < 0 ? r : pidfd, "identify vps-vmm");
	}
	if (r < 0) {
		if (pid > 0)
			kill(pid, SIGKILL);
		reap(pid);
		return r;
	}
	*ret = (struct vps_launched){
		.init = init,
		.pidfd = take_fd(pidfd),
		.gate = take_fd(p.gate[0]),
		.netns = take_fd(netns),
		.console = take_fd(p.pty),
		.pipes = {take_fd(p.pipes[0]), take_fd(p.pipes[1]), take_fd(p.pipes[2])},
		.notify = take_fd(p.notify[0]),
		.rootfs = -1,
	};
	return 0;
}
