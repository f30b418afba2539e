/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/unit/base_util.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/proc.h"
#include "base/sys.h"

#define MS 1000000u

static int run_sh(const char *script, const struct proc_opts *opts, struct vps_err *err)
{
	char *argv[] = {(char *)"sh", (char *)"-c", (char *)script, NULL};

	return proc_run(argv, opts, err);
}

/* A child that waits until it is killed. */
static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pause();
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

static void wait_for_exit(pid_t pid)
{
	siginfo_t si;

	assert_int_equal(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
}

static void test_boot_id(void **state)
{
	assert_int_equal(strlen(proc_boot_id()), 36);
	assert_ptr_equal(proc_boot_id(), proc_boot_id());
}

static void test_ident_of_the_living(void **state)
{
	pid_t pid = sleeper();
	struct proc_ident a, b, self;

	assert_int_equal(proc_ident_of(pid, &a), 0);
	assert_int_equal(proc_ident_of(pid, &b), 0);
	assert_int_equal(proc_ident_of(getpid(), &self), 0);
	assert_true(proc_ident_eq(&a, &b));
	assert_false(proc_ident_eq(&a, &self));
	assert_true(a.start_time >= self.start_time);

	int fd = proc_ident_open(&a);

	assert_true(fd >= 0);
	assert_int_equal(sys_pidfd_send_signal(fd, SIGKILL), 0);
	close(fd);

	/* A zombie is no one. */
	wait_for_exit(pid);
	assert_int_equal(proc_ident_open(&a), -ESRCH);
	waitpid(pid, NULL, 0);
	assert_int_equal(proc_ident_open(&a), -ESRCH);
	assert_int_equal(proc_ident_of(pid, &b), -ESRCH);
}

static void test_ident_of_another_life(void **state)
{
	struct proc_ident id, nobody = {0};

	assert_int_equal(proc_ident_of(getpid(), &id), 0);
	id.start_time++; /* the pid was reused */
	assert_int_equal(proc_ident_open(&id), -ESRCH);
	id.start_time--;
	id.boot_id[0] = id.boot_id[0] == '0' ? '1' : '0'; /* or the host rebooted */
	assert_int_equal(proc_ident_open(&id), -ESRCH);
	assert_int_equal(proc_ident_open(&nobody), -ESRCH);
	assert_false(proc_ident_eq(&nobody, &nobody));
	assert_int_equal(proc_ident_of(0, &id), -ESRCH);
	assert_int_equal(proc_ident_of(-1, &id), -ESRCH);
}

/* Field 2 may try to look like the rest of the line. */
static void test_ident_survives_a_hostile_name(void **state)
{
	int p[2];
	char c;
	struct proc_ident plain, hostile;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);

	pid_t pid = fork();

	if (pid == 0) {
		char go;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (read(p[0], &go, 1) != 1)
			_exit(1);
		prctl(PR_SET_NAME, ") R 1 1 (x) 9");
		if (write(p[1], "y", 1) != 1)
			_exit(1);
		pause();
	}
	assert_int_equal(proc_ident_of(pid, &plain), 0);
	assert_int_equal(write(p[1], "x", 1), 1);
	while (read(p[0], &c, 1) == 1 && c != 'y')
		assert_int_equal(write(p[1], &c, 1), 1);
	assert_int_equal(proc_ident_of(pid, &hostile), 0);
	assert_true(proc_ident_eq(&plain, &hostile));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(p[0]);
	close(p[1]);
}

static void on_usr1(int sig)
{
}

static void test_takes_signal(void **state)
{
	sigset_t usr2;

	assert_int_equal(proc_takes_signal(getpid(), SIGUSR1), 0);
	signal(SIGUSR1, on_usr1);
	assert_int_equal(proc_takes_signal(getpid(), SIGUSR1), 1);
	signal(SIGUSR1, SIG_DFL);
	assert_int_equal(proc_takes_signal(getpid(), SIGRTMIN + 4), 0);
	sigemptyset(&usr2);
	sigaddset(&usr2, SIGRTMIN + 4);
	sigprocmask(SIG_BLOCK, &usr2, NULL);
	assert_int_equal(proc_takes_signal(getpid(), SIGRTMIN + 4), 1);
	sigprocmask(SIG_UNBLOCK, &usr2, NULL);
	assert_int_equal(proc_takes_signal(0x3fffffff, SIGUSR1), -ESRCH);
}

static void test_find(void **state)
{
	struct test_dir *t = *state;
	autofree char *old = strdup(getenv("PATH"));
	autofree char *path = str_fmt("%s/dir:%s", t->path, t->path);
	autofree char *want = str_fmt("%s/prog", t->path);

	assert_int_equal(mkdirat(t->fd, "dir", 0755), 0);
	assert_int_equal(mkdirat(t->fd, "dir/prog", 0755), 0); /* no program */
	put_file(t->fd, "plain", "");
	put_file(t->fd, "prog", "");
	assert_int_equal(fchmodat(t->fd, "prog", 0755, 0), 0);
	setenv("PATH", path, 1);

	autofree char *prog = proc_find("prog");
	autofree char *plain = proc_find("plain");
	autofree char *absolute = proc_find(want);
	autofree char *none = proc_find("no-such-program-anywhere");
	autofree char *empty = proc_find("");

	setenv("PATH", old, 1);
	assert_string_equal(prog, want);
	assert_null(plain);
	assert_string_equal(absolute, want);
	assert_null(none);
	assert_null(empty);
}

/* As root, the current directory is not to be trusted. */
static void test_find_ignores_relative_parts(void **state)
{
	struct test_dir *t = *state;
	autofree char *old = strdup(getenv("PATH"));
	autoclose int cwd = fs_open_dir(AT_FDCWD, ".");

	assert_int_equal(fs_mkdir_p(t->fd, "rel", 0755), 0);
	put_file(t->fd, "rel/vps-unit-prog", "");
	put_file(t->fd, "vps-unit-prog", "");
	assert_int_equal(fchmodat(t->fd, "rel/vps-unit-prog", 0755, 0), 0);
	assert_int_equal(fchmodat(t->fd, "vps-unit-prog", 0755, 0), 0);
	assert_int_equal(fchdir(t->fd), 0);
	setenv("PATH", "rel::./rel:.:", 1);

	autofree char *prog = proc_find("vps-unit-prog");

	setenv("PATH", old, 1);
	assert_int_equal(fchdir(cwd), 0);
	assert_null(prog);
}

static void test_find_in_sbin_without_path(void **state)
{
	autofree char *old = strdup(getenv("PATH"));

	if (access("/usr/sbin/useradd", X_OK) < 0) {
		print_message("# SKIP: no /usr/sbin/useradd here\n");
		skip();
	}
	unsetenv("PATH");

	autofree char *prog = proc_find("useradd");

	setenv("PATH", old, 1);
	assert_string_equal(prog, "/usr/sbin/useradd");
}

static void test_exit_status(void **state)
{
	struct vps_err err = {0};

	assert_int_equal(run_sh("exit 0", NULL, &err), 0);
	assert_int_equal(err.code, 0);
	assert_int_equal(run_sh("echo one >&2; echo; echo 'two\033' >&2; exit 3", NULL, &err), 3);
	assert_int_equal(err.code, EIO);
	assert_string_equal(err.msg, "sh: exit status 3: one; two\\x1b");
	vps_err_clear(&err);
	assert_int_equal(run_sh("kill -KILL $$", NULL, &err), 128 + SIGKILL);
	assert_string_equal(err.msg, "sh: killed by signal 9");
	assert_int_equal(run_sh("exit 255", NULL, NULL), 255);
}

static void test_run_ok(void **state)
{
	char *bad[] = {(char *)"false", NULL}, *good[] = {(char *)"true", NULL};

	assert_int_equal(proc_run_ok(good, NULL, NULL), 0);
	assert_int_equal(proc_run_ok(bad, NULL, NULL), -EIO);
}

static void test_cannot_start(void **state)
{
	struct test_dir *t = *state;
	autofree char *script = str_fmt("%s/broken", t->path);
	char *none[] = {(char *)"no-such-program-anywhere", NULL};
	char *broken[] = {script, NULL};
	struct vps_err err = {0};
	unsigned fds = count_fds();

	assert_int_equal(proc_run(none, NULL, &err), -ENOENT);
	assert_string_equal(err.msg, "no-such-program-anywhere: program not found");
	vps_err_clear(&err);
	put_file(t->fd, "broken", "#!/no/such/interpreter\n");
	assert_int_equal(fchmodat(t->fd, "broken", 0755, 0), 0);
	assert_int_equal(proc_run(broken, NULL, &err), -ENOENT);
	assert_int_equal(err.code, ENOENT);
	put_file(t->fd, "broken", "\x7f" "ELFjunk");
	assert_int_equal(proc_run(broken, NULL, NULL), -ENOEXEC);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie either */
	assert_int_equal(errno, ECHILD);
}

static void test_output_and_input(void **state)
{
	struct test_dir *t = *state;
	auto_strbuf out = STRBUF_INIT;
	struct proc_opts opts = PROC_OPTS_INIT;

	opts.out = &out;
	assert_int_equal(run_sh("cat; printf 'a\\0b'", &opts, NULL), 0);
	assert_int_equal(out.len, 3); /* stdin was empty: /dev/null */
	assert_memory_equal(out.s, "a\0b", 3);

	put_file(t->fd, "in", "from a file");
	autoclose int in = openat(t->fd, "in", O_RDONLY | O_CLOEXEC);
	autoclose int to = openat(t->fd, "to", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	opts.in_fd = in;
	sb_reset(&out);
	assert_int_equal(run_sh("cat", &opts, NULL), 0);
	assert_string_equal(out.s, "from a file");

	opts = (struct proc_opts)PROC_OPTS_INIT;
	opts.out_fd = to;
	assert_int_equal(run_sh("echo to a file", &opts, NULL), 0);
	assert_file(t->fd, "to", "to a file\n");
}

/* With 0, 1 and 2 closed, as after a careless daemonizing; the pipe lies at in and out. */
static int run_without_stdio(int in, int out)
{
	int p[2];
	char buf[16] = "";
	struct proc_opts opts = PROC_OPTS_INIT;

	close(0);
	close(1);
	close(2);
	if (pipe(p) < 0)
		return 1;
	if (in != p[0] && dup2(p[0], in) != in)
		return 2;
	if (out != p[1] && dup2(p[1], out) != out)
		return 3;
	if (in > 2)
		close(p[0]);
	if (out > 2)
		close(p[1]);
	if (write(out, "ping", 4) != 4)
		return 4;
	opts.in_fd = in;
	opts.out_fd = out;
	if (run_sh("x=$(dd bs=4 count=1 2>/dev/null); echo $x-pong; echo err >&2", &opts, NULL))
		return 5;
	if (read(in, buf, sizeof(buf)) != 10 || strcmp(buf, "ping-pong\n") != 0)
		return 6;
	return 0;
}

static void test_fds_that_lie_across_stdio(void **state)
{
	static const int places[][2] = {{0, 1}, {2, 1}, {0, 2}, {50, 51}, {51, 50}};

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			_exit(run_without_stdio(places[i][0], places[i][1]));
		waitpid(pid, &status, 0);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

static void test_error_tail_is_the_last_part(void **state)
{
	auto_strbuf want = STRBUF_INIT;
	struct vps_err err = {0};

	/* 80 lines of 5 bytes are the last 400. */
	sb_add(&want, "sh: exit status 1: ");
	for (int i = 0; i < 80; i++)
		sb_addf(&want, "%s%04d", i ? "; " : "", 9000 + 920 + i);
	assert_int_equal(run_sh("seq 9000 9999 >&2; exit 1", NULL, &err), 1);
	assert_string_equal(err.msg, want.s);
	vps_err_clear(&err);
	assert_int_equal(run_sh("i=0; while [ $i -lt 300 ]; do i=$((i+1)); printf %03d $i >&2;"
				" done; exit 1", NULL, &err), 1);
	assert_int_equal(strlen(err.msg), strlen("sh: exit status 1: ") + 400);
	assert_string_equal(err.msg + strlen(err.msg) - 12, "297298299300");
	assert_memory_equal(err.msg + strlen("sh: exit status 1: "), "7168169", 7);
}

/* More than two pipes hold, on both at once: who read them one after the other would hang. */
static void test_much_output_on_both(void **state)
{
	auto_strbuf out = STRBUF_INIT;
	struct proc_opts opts = PROC_OPTS_INIT;
	struct vps_err err = {0};

	opts.out = &out;
	opts.max_out = 4 << 20;
	opts.timeout_ms = 60000;
	assert_int_equal(run_sh("i=0; while [ $i -lt 20 ]; do i=$((i+1));"
				" head -c 100000 /dev/zero | tr '\\0' e >&2;"
				" head -c 100000 /dev/zero | tr '\\0' o; done; echo >&2; echo last >&2; exit 1",
				&opts, &err),
			 1);
	assert_int_equal(out.len, 2000000);
	assert_string_equal(err.msg + strlen(err.msg) - 10, "eeee; last");
	assert_int_equal(strlen(err.msg), strlen("sh: exit status 1: ") + 394 + 2 + 4);
}

static void test_too_much_output_is_an_error(void **state)
{
	auto_strbuf out = STRBUF_INIT;
	struct proc_opts opts = PROC_OPTS_INIT;
	struct vps_err err = {0};
	unsigned fds = count_fds();

	opts.out = &out;
	opts.max_out = 1000;
	assert_int_equal(run_sh("printf %01000d 1", &opts, &err), 0);
	assert_int_equal(out.len, 1000);
	sb_reset(&out);
	assert_int_equal(run_sh("cat /dev/zero", &opts, &err), -EFBIG);
	assert_int_equal(err.code, EFBIG);
	assert_true(out.len <= 1000);
	opts.max_out = 0;
	sb_reset(&out);
	assert_int_equal(run_sh("cat /dev/zero", &opts, NULL), -EFBIG);
	assert_true(out.len <= 1 << 20);
	assert_int_equal(count_fds(), fds);
}

static void test_timeout(void **state)
{
	struct proc_opts opts = PROC_OPTS_INIT;
	struct vps_err err = {0};
	uint64_t start = sys_now_mono();

	opts.timeout_ms = 100;
	assert_int_equal(run_sh("echo waiting >&2; exec sleep 100", &opts, &err), -ETIMEDOUT);
	assert_in_range(sys_now_mono() - start, 100 * MS, 20000 * MS);
	assert_int_equal(err.code, ETIMEDOUT);
	assert_string_equal(err.msg, "sh: took too long and was killed: waiting");

	/* Writing all the time does not put it off. */
	auto_strbuf out = STRBUF_INIT;

	opts.out = &out;
	opts.max_out = SIZE_MAX;
	assert_int_equal(run_sh("while :; do echo x; echo y >&2; done", &opts, NULL), -ETIMEDOUT);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* What a program leaves behind (a daemon holding its stderr) is not waited for. */
static void test_left_behind_process(void **state)
{
	auto_strbuf out = STRBUF_INIT;
	struct proc_opts opts = PROC_OPTS_INIT;
	uint64_t start = sys_now_mono();

	opts.out = &out;
	opts.timeout_ms = 60000;
	assert_int_equal(run_sh("sleep 30 & echo $!", &opts, NULL), 0);
	assert_true(sys_now_mono() - start < 20000ull * MS);

	pid_t left = atoi(out.s);

	assert_true(left > 1);
	assert_int_equal(kill(left, SIGKILL), 0);
}

static void test_child_gets_only_what_it_should(void **state)
{
	auto_strbuf out = STRBUF_INIT;
	struct proc_opts opts = PROC_OPTS_INIT;
	char *env[] = {(char *)"ONLY=this", NULL};
	autoclose int leak = open("/dev/null", O_RDONLY); /* deliberately not O_CLOEXEC */
	int high = fcntl(leak, F_DUPFD, 100);
	sigset_t block, old;

	assert_true(leak >= 0 && high >= 100);
	opts.out = &out;
	opts.env = env;
	assert_int_equal(run_sh("echo $ONLY $HOME; ls /proc/self/fd | wc -l", &opts, NULL), 0);
	/* 0, 1, 2 and ls's own directory. */
	assert_string_equal(out.s, "this\n4\n");
	close(high);

	/* Blocked and ignored signals are not passed on; ours stay as they were. */
	sigemptyset(&block);
	sigaddset(&block, SIGUSR1);
	sigprocmask(SIG_BLOCK, &block, &old);
	signal(SIGPIPE, SIG_IGN);
	sb_reset(&out);
	opts.env = NULL;
	assert_int_equal(run_sh("grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\t\\n'", &opts,
				NULL),
			 0);
	assert_string_equal(out.s, "SigBlk:0000000000000000SigIgn:0000000000000000");
	assert_ptr_equal(signal(SIGPIPE, SIG_DFL), SIG_IGN);
	sigprocmask(SIG_SETMASK, &old, &block);
	assert_true(sigismember(&block, SIGUSR1));
	assert_false(sigismember(&block, SIGUSR2));
}

/* The helper of a killed command does not go on working on what a next one then owns. */
static void test_helper_dies_with_us(void **state)
{
	int p[2];
	char pid_text[16] = "";

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);

	pid_t pid = fork();

	if (pid == 0) {
		struct proc_opts opts = PROC_OPTS_INIT;

		opts.out_fd = p[1];
		run_sh("echo $$; exec sleep 100", &opts, NULL);
		_exit(0);
	}
	close(p[1]);
	assert_true(read(p[0], pid_text, sizeof(pid_text) - 1) > 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);

	struct pollfd eof = {.fd = p[0], .events = POLLIN};

	/* The sleep held the only writing end. */
	assert_int_equal(poll(&eof, 1, 20000), 1);
	assert_int_equal(read(p[0], pid_text, 1), 0);
	close(p[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boot_id),
		cmocka_unit_test(test_ident_of_the_living),
		cmocka_unit_test(test_ident_of_another_life),
		cmocka_unit_test(test_ident_survives_a_hostile_name),
		cmocka_unit_test(test_takes_signal),
		dir_test(test_find),
		dir_test(test_find_ignores_relative_parts),
		cmocka_unit_test(test_find_in_sbin_without_path),
		cmocka_unit_test(test_exit_status),
		cmocka_unit_test(test_run_ok),
		dir_test(test_cannot_start),
		dir_test(test_output_and_input),
		cmocka_unit_test(test_fds_that_lie_across_stdio),
		cmocka_unit_test(test_error_tail_is_the_last_part),
		cmocka_unit_test(test_much_output_on_both),
		cmocka_unit_test(test_too_much_output_is_an_error),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_left_behind_process),
		cmocka_unit_test(test_child_gets_only_what_it_should),
		cmocka_unit_test(test_helper_dies_with_us),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
