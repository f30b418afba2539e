/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running helper programs: the second half of base/proc.h. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/mem.h"
#include "base/proc.h"
#include "base/sys.h"

#define TAIL_LEN	400
#define DEFAULT_MAX_OUT (1u << 20)
/* More than a pipe holds: what a dead child wrote is read, what a left-behind one keeps
 * writing is not followed for ever. */
#define DRAIN_MAX (256u << 10)

/* All that the child needs, made before it is: between vfork and exec there are only
 * system calls. */
struct child {
	const char *path;
	char *const *argv, *const *env;
	int fds[3];
	pid_t parent;
	volatile int err; /* shared memory: how starting failed, -errno */
};

struct tail {
	char text[2 * TAIL_LEN];
	size_t len;
};

struct run {
	pid_t pid;
	int pidfd, out, err; /* our ends; -1 when done with */
	struct strbuf *sb;
	size_t max_out;
	uint64_t deadline; /* 0: none */
	struct tail tail;
};

static void reset_signals(void)
{
	/* All zeros is SIG_DFL without flags or mask, in the kernel's own struct. */
	static const unsigned long dfl[8];
	sigset_t none;

	/* exec resets handlers but keeps what is ignored. By the raw call, because the C
	 * library does not let its own two (32 and 33) be touched, and some parents leave
	 * them ignored. */
	for (int sig = 1; sig < NSIG; sig++)
		syscall(SYS_rt_sigaction, sig, dfl, NULL, (size_t)(NSIG / 8));
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void __attribute__((noreturn)) child_main(struct child *c)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != c->parent)
		_exit(127);
	/* The fds are all above 2 (see above_stdio), so none overwrites another. */
	for (int i = 0; i < 3; i++)
		if (dup2(c->fds[i], i) < 0)
			goto fail;
	/* Mark, not close: under vfork errors still travel by memory, but marking also
	 * keeps a sanitizer's or profiler's fds alive until exec. */
	if ((c->err = sys_close_range(3, ~0u, CLOSE_RANGE_CLOEXEC)) < 0)
		_exit(127);
	reset_signals();
	execve(c->path, c->argv, c->env);
fail:
	c->err = -errno;
	_exit(127);
}

/* The pid, or -errno. vfork(2) shares our memory and stops this thread until exec: no page
 * tables are copied however large we are, and err comes back by itself. */
static pid_t __attribute__((noinline)) spawn(struct child *c)
{
	sigset_t all, old;
	pid_t pid;

	c->parent = getpid();
	/* A handler of ours must not run in the child, on our memory. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = vfork();
	if (pid == 0)
		child_main(c);

	int saved = errno;

	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return -saved;
	if (c->err < 0) {
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		return c->err;
	}
	return pid;
}

/* A close-on-exec copy of fd (or of /dev/null for -1) with a number above 2. */
static int above_stdio(int fd, int null_flags)
{
	autoclose int null = -1;

	if (fd < 0) {
		null = fd = open("/dev/null", null_flags | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	}

	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return copy < 0 ? -errno : copy;
}

/* A pipe whose reading end, *ret_ours, does not block; the writing end, above 2. */
static int make_pipe(int *ret_ours, int *ret_theirs)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;

	autoclose int ours = p[0];
	autoclose int wr = p[1];
	int theirs;

	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	theirs = above_stdio(wr, 0);
	if (theirs < 0)
		return theirs;
	*ret_ours = take_fd(ours);
	*ret_theirs = theirs;
	return 0;
}

static void tail_add(struct tail *t, const char *p, size_t n)
{
	if (n > TAIL_LEN) {
		p += n - TAIL_LEN;
		n = TAIL_LEN;
	}
	if (t->len + n > sizeof(t->text)) {
		size_t keep = TAIL_LEN;

		memmove(t->text, t->text + t->len - keep, keep);
		t->len = keep;
	}
	memcpy(t->text + t->len, p, n);
	t->len += n;
}

static int take_output(struct run *run, bool is_out, const char *p, size_t n)
{
	if (!is_out) {
		tail_add(&run->tail, p, n);
		return 0;
	}
	if (n > run->max_out)
		return -EFBIG;
	run->max_out -= n;
	sb_addn(run->sb, p, n);
	return sb_ok(run->sb);
}

/* Read what is there, at most limit bytes; at the end of file *fd is closed. 0 or -errno. */
static int drain(struct run *run, int *fd, size_t limit)
{
	char buf[8192];

	while (*fd >= 0 && limit > 0) {
		ssize_t n = read(*fd, buf, limit < sizeof(buf) ? limit : sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (n == 0) {
			close_fd(fd);
			return 0;
		}

		int r = take_output(run, fd == &run->out, buf, (size_t)n);

		if (r < 0)
			return r;
		limit -= (size_t)n;
	}
	return 0;
}

/* Milliseconds for poll, rounded up so that it does not spin; -1 without a deadline. */
static int time_left(uint64_t deadline)
{
	if (!deadline)
		return -1;

	uint64_t now = sys_now_mono();
	uint64_t ms = now < deadline ? (deadline - now + 999999) / 1000000 : 0;

	return ms < INT32_MAX ? (int)ms : INT32_MAX;
}

/* Until the program has ended, collect both pipes, whichever has something. */
static int collect(struct run *run)
{
	for (;;) {
		struct pollfd p[] = {
			{.fd = run->pidfd, .events = POLLIN},
			{.fd = run->out, .events = POLLIN},
			{.fd = run->err, .events = POLLIN},
		};
		int left = time_left(run->deadline);

		if (poll(p, ARRAY_LEN(p), left) < 0 && errno != EINTR)
			return -errno;

		int r = drain(run, &run->out, DRAIN_MAX);

		if (r == 0)
			r = drain(run, &run->err, DRAIN_MAX);
		if (r < 0 || p[0].revents)
			return r;
		if (left == 0)
			return -ETIMEDOUT;
	}
}

/* waitid(2) by pid: it cannot be reused before we have waited. Exit status or 128+signal. */
static int reap(pid_t pid)
{
	siginfo_t si = {0};

	while (waitid(P_PID, (id_t)pid, &si, WEXITED) < 0)
		if (errno != EINTR)
			return -errno;
	return si.si_code == CLD_EXITED ? si.si_status : 128 + si.si_status;
}

/* The tail's lines joined by "; ", each escaped. */
static void tail_words(const struct tail *t, struct strbuf *sb)
{
	const char *p = t->text, *end = t->text + t->len;

	if (t->len > TAIL_LEN)
		p = end - TAIL_LEN;
	while (p < end) {
		const char *nl = memchr(p, '\n', (size_t)(end - p));
		size_t n = (size_t)((nl ? nl : end) - p);

		if (n > 0) {
			sb_add(sb, sb->len ? "; " : "");
			sb_add_escaped(sb, p, n);
		}
		p += n + 1;
	}
}

static int report(const char *name, int r, const struct run *run, struct vps_err *err)
{
	auto_strbuf words = STRBUF_INIT;
	auto_strbuf what = STRBUF_INIT;

	if (r == 0 || !err)
		return r;
	if (r == -ETIMEDOUT)
		sb_add(&what, "took too long and was killed");
	else if (r == -EFBIG)
		sb_add(&what, "wrote too much output");
	else if (r < 0)
		sb_add(&what, vps_code_str(r));
	else if (r > 128 && r <= 128 + SIGRTMAX)
		sb_addf(&what, "killed by signal %d", r - 128);
	else
		sb_addf(&what, "exit status %d", r);
	tail_words(&run->tail, &words);
	vps_err_set(err, r < 0 ? -r : EIO, "%s: %s%s%s", name, sb_str(&what), words.len ? ": " : "",
		    sb_str(&words));
	return r;
}

static int supervise(struct run *run)
{
	autoclose int pidfd = sys_pidfd_open(run->pid, 0);
	int r = pidfd;

	run->pidfd = pidfd;
	if (r >= 0)
		r = collect(run);
	if (r < 0 && pidfd >= 0)
		sys_pidfd_send_signal(pidfd, SIGKILL);
	else if (r < 0)
		kill(run->pid, SIGKILL);

	int status = reap(run->pid);

	return r < 0 ? r : status;
}

/* Set up the three fds, start, and watch. */
static int start_and_watch(struct child *c, const struct proc_opts *opts, struct run *run)
{
	autoclose int in = above_stdio(opts->in_fd, O_RDONLY);
	autoclose int out = -1;
	autoclose int err = -1;
	int r;

	if (in < 0)
		return in;
	if (opts->out) {
		r = make_pipe(&run->out, &out);
	} else {
		out = above_stdio(opts->out_fd, O_WRONLY);
		r = out;
	}
	if (r >= 0)
		r = make_pipe(&run->err, &err);
	if (r < 0)
		return r;
	c->fds[0] = in;
	c->fds[1] = out;
	c->fds[2] = err;
	run->pid = spawn(c);
	/* Our copies of its ends, or we would never see the end of file. */
	close_fd(&out);
	close_fd(&err);
	return run->pid < 0 ? run->pid : supervise(run);
}

int proc_run(char *const *argv, const struct proc_opts *opts, struct vps_err *err)
{
	static const struct proc_opts plain = PROC_OPTS_INIT;
	struct run run = {.pid = -1, .pidfd = -1, .out = -1, .err = -1};
	autofree char *path = proc_find(argv[0]);

	if (!opts)
		opts = &plain;
	if (!path)
		return vps_err_set(err, ENOENT, "%s: program not found", argv[0]);

	struct child c = {
		.path = path,
		.argv = argv,
		.env = opts->env ? opts->env : environ,
	};

	run.sb = opts->out;
	run.max_out = opts->max_out ? opts->max_out : DEFAULT_MAX_OUT;
	if (opts->timeout_ms > 0)
		run.deadline = sys_now_mono() + (uint64_t)opts->timeout_ms * 1000000u;

	int r = start_and_watch(&c, opts, &run);

	close_fd(&run.out);
	close_fd(&run.err);
	return report(argv[0], r, &run, err);
}

int proc_run_ok(char *const *argv, const struct proc_opts *opts, struct vps_err *err)
{
	int r = proc_run(argv, opts, err);

	return r > 0 ? -EIO : r;
}
