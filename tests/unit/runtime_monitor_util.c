/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/runtime_monitor_util.h"

#include <libgen.h>
#include <limits.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "runtime/keeper.h"

uint64_t now_ms(void)
{
	return sys_now_mono() / 1000000;
}

/* The build directory: two up from this test's own (libtool is not used). */
static void build_dir(char *buf, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", buf, size - 1);

	assert_true(n > 0);
	buf[n] = '\0';
	for (int i = 0; i < 3; i++)
		*strrchr(buf, '/') = '\0';
}

static void make_libexec(struct fix *f)
{
	char build[PATH_MAX], real[PATH_MAX + 16], name[PATH_MAX], script[1024];

	build_dir(build, sizeof(build));
	snprintf(real, sizeof(real), "%s/vps-monitor", build);
	snprintf(name, sizeof(name), "%s/vps-monitor", f->libexec);
	assert_int_equal(symlink(real, name), 0);
	snprintf(script, sizeof(script),
		 "#!/bin/sh\n"
		 "echo \"$@\" >> %s/calls\n"
		 "case \"$5\" in\n"
		 "_teardown) [ -e %s/no-teardown ] || rm -f %s/" ID "/state.json;;\n"
		 "esac\n",
		 f->t->path, f->t->path, f->run_path);
	snprintf(name, sizeof(name), "%s/vps", f->libexec);
	put_file(AT_FDCWD, name, script);
	assert_int_equal(chmod(name, 0755), 0);
	setenv("VPS_LIBEXEC", f->libexec, 1);
}

int fix_make(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	void *t;

	if (!f || test_dir_make(&t) < 0)
		return -1;
	f->t = t;
	/* Whoever the monitor leaves behind becomes ours to reap, as the host's PID 1 would. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	snprintf(f->libexec, sizeof(f->libexec), "%s/libexec", f->t->path);
	snprintf(f->run_path, sizeof(f->run_path), "%s/run", f->t->path);
	mkdirat(f->t->fd, "libexec", 0700);
	mkdirat(f->t->fd, "run", 0700);
	mkdirat(f->t->fd, "run/" ID, 0700);
	mkdirat(f->t->fd, "inst", 0700);
	f->run = fs_open_dir(f->t->fd, "run");
	f->dir = fs_open_dir(f->t->fd, "run/" ID);
	f->inst = fs_open_dir(f->t->fd, "inst");
	make_libexec(f);
	monitor_args_init(&f->a);
	f->a.id = 101;
	f->a.name = "web1";
	f->a.root = f->t->path;
	f->a.run = f->run_path;
	f->a.run_dir = f->dir;
	f->a.instance_dir = f->inst;
	f->a.console_log_max = 1 << 20;
	f->a.started = 1700000000;
	*state = f;
	return 0;
}

pid_t keeper_pid(struct fix *f)
{
	autoclose int fd = keeper_connect(f->run);
	struct ucred who = {0};
	socklen_t len = sizeof(who);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) < 0)
		return 0;
	return who.pid;
}

int fix_remove(void **state)
{
	struct fix *f = *state;
	void *t = f->t;
	pid_t keeper = keeper_pid(f);

	/* Only what this test started: by the pids it was told. */
	if (f->monitor > 0)
		kill(f->monitor, SIGKILL);
	if (f->init > 0)
		kill(f->init, SIGKILL);
	if (keeper > 0)
		kill(keeper, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	close(f->run);
	close(f->dir);
	close(f->inst);
	free(f);
	return test_dir_remove(&t);
}

/* init: waits for the gate like a real one, gives up when it shuts. */
static void __attribute__((noreturn)) fake_init(int gate, int slave, int pipes[3], const char *script)
{
	char c;

	setsid();
	signal(SIGPIPE, SIG_DFL);
	if (slave >= 0)
		ioctl(slave, TIOCSCTTY, 0);
	for (int i = 0; i < 3; i++)
		dup2(slave >= 0 ? slave : pipes[i], i);
	if (read(gate, &c, 1) != 1)
		_exit(99);
	sys_close_range(3, ~0u, 0);
	execl("/bin/sh", "sh", "-c", script, NULL);
	_exit(127);
}

static void __attribute__((noreturn)) launcher(struct fix *f, bool pty, const char *script, int report)
{
	int gate[2], master = -1, slave = -1, in[2], out[2], errp[2];
	struct vps_err err = {0};
	struct monitor_args *a = &f->a;

	(void)!pipe2(gate, O_CLOEXEC);
	(void)!pipe2(in, O_CLOEXEC);
	(void)!pipe2(out, O_CLOEXEC);
	(void)!pipe2(errp, O_CLOEXEC);
	if (pty && openpty(&master, &slave, NULL, NULL, NULL) < 0)
		_exit(98);

	pid_t pid = fork();

	if (pid == 0) {
		close(gate[1]);
		fake_init(gate[0], slave, (int[]){in[0], out[1], errp[1]}, script);
	}
	close(slave);
	close(in[0]);
	close(out[1]);
	close(errp[1]);
	if (pty) {
		a->console = master;
	} else {
		a->pipes[0] = in[1];
		a->pipes[1] = out[0];
		a->pipes[2] = errp[0];
	}
	proc_ident_of(pid, &a->init);
	a->pidfd = sys_pidfd_open(pid, 0);
	a->gate = gate[1];
	a->report = report;
	(void)!write(report, &pid, sizeof(pid));
	monitor_exec(a, &err);
	(void)!write(report, &err, sizeof(err));
	_exit(1);
}

int fix_try_start(struct fix *f, bool pty, const char *script)
{
	struct vps_err err = {0};
	int p[2];

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	f->monitor = fork();
	if (f->monitor == 0) {
		close(p[0]);
		launcher(f, pty, script, p[1]);
	}
	close(p[1]);
	assert_int_equal(fs_read_full(p[0], &f->init, sizeof(f->init)), sizeof(f->init));
	proc_ident_of(f->init, &f->a.init);
	assert_int_equal(fs_read_full(p[0], &err, sizeof(err)), sizeof(err));
	close(p[0]);
	f->started_ms = now_ms();
	return err.code;
}

void fix_start(struct fix *f, bool pty, const char *script)
{
	assert_int_equal(fix_try_start(f, pty, script), 0);
}

void fix_kill_monitor(struct fix *f)
{
	assert_int_equal(kill(f->monitor, SIGKILL), 0);
	assert_int_equal(waitpid(f->monitor, NULL, 0), f->monitor);
	f->monitor = 0;
	assert_int_equal(monitor_alive(f->dir), 0);
}

void fix_adopt(struct fix *f)
{
	struct vps_err err = {0};
	struct monitor_status st;

	if (monitor_adopt(&f->a, -1, &err) < 0)
		fail_msg("adopt: %s", err.msg);
	assert_int_equal(monitor_alive(f->dir), 1);
	assert_int_equal(monitor_status_read(f->dir, &st), 0);
	f->monitor = st.pid;
}

void fix_wait_monitor(struct fix *f)
{
	int status = -1;

	eventually(waitpid(f->monitor, &status, WNOHANG) == f->monitor);
	f->monitor = 0;
	assert_int_equal(status, 0);
}

bool file_has(int dir, const char *path, const char *text)
{
	autofree char *got = NULL;
	size_t len;

	return fs_read(dir, path, 64 << 20, &got, &len) == 0 && memmem(got, len, text, strlen(text));
}

int attach(struct fix *f, bool exclusive)
{
	struct ctl_attach a = {.exclusive = exclusive};
	int fd = ctl_connect(f->dir);

	assert_true(fd >= 0);
	assert_int_equal(ctl_ask(fd, CTL_ATTACH, &a, sizeof(a), 5000, NULL), 0);
	return fd;
}

bool expect(int fd, const char *text)
{
	static char kept[1 << 16];
	size_t n = 0, len = 0;
	char buf[CTL_DATA_MAX];
	int r;

	while ((r = ctl_recv(fd, buf, &len, 10000)) > 0) {
		if (r != CTL_OUT && r != CTL_OUT2)
			continue;
		if (n + len > sizeof(kept)) {
			memmove(kept, kept + n - 4096, 4096);
			n = 4096;
		}
		memcpy(kept + n, buf, len);
		n += len;
		if (memmem(kept, n, text, strlen(text)))
			return true;
	}
	return false;
}

int read_exit(int fd, uint64_t *ret_bytes, uint64_t *ret_lost)
{
	char buf[CTL_DATA_MAX];
	size_t len = 0;
	int r;

	while ((r = ctl_recv(fd, buf, &len, 20000)) > 0) {
		if ((r == CTL_OUT || r == CTL_OUT2) && ret_bytes)
			*ret_bytes += len;
		if (r == CTL_LOST && ret_lost)
			*ret_lost += *(uint64_t *)(void *)buf;
		if (r == CTL_EXIT)
			return *(int32_t *)(void *)buf;
	}
	return -1000;
}
