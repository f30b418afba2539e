/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The agent's sessions and the host's half, on a pair of sockets: this machine is the guest. */
#include "base_util.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/guest/guest.h"
#include "runtime/vps.h"

#define MIB (1 << 20)

/* A guest's session at the other end. */
struct peer {
	int fd;
	pid_t pid;
};

static struct peer connect_bare(void)
{
	int s[2];
	struct peer p;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	p.pid = fork();
	if (p.pid == 0) {
		char *env[] = {(char *)"BASE=1", NULL};
		struct guest g = {.cfg = {.env = env}, .disk = open("/", O_RDONLY | O_CLOEXEC)};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(s[0]);
		session_run(&g, s[1]);
		_exit(0);
	}
	close(s[1]);
	p.fd = s[0];
	return p;
}

static struct peer connect_agent(void)
{
	struct peer p = connect_bare();
	struct vps_err err = {0};

	assert_int_equal(agent_hello(p.fd, 5000, &err), 0);
	return p;
}

/* Closed by us: the session ends by itself. */
static void bye(struct peer *p)
{
	int status;

	close(p->fd);
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	assert_int_equal(status, 0);
}

/* A child of the caller that bridges; the pipes of its stdio. */
struct run {
	struct peer peer;
	pid_t pid;
	int in, out, errs;
};

static struct run start(const struct agent_exec *x)
{
	struct run r = {.peer = connect_agent()};
	int p[3][2], status = -1;
	struct vps_err err = {0};

	assert_int_equal(agent_exec(r.peer.fd, x, 5000, &status, &err), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pipe2(p[i], O_CLOEXEC), 0);
	r.pid = fork();
	if (r.pid == 0) {
		const int io[3] = {p[0][0], p[1][1], p[2][1]};

		close(p[0][1]);
		status = agent_bridge(r.peer.fd, io, false, &err);
		if (status < 0)
			fprintf(stderr, "bridge: %s\n", err.msg);
		_exit(status < 0 ? 250 : status);
	}
	close(p[0][0]);
	close(p[1][1]);
	close(p[2][1]);
	r.in = p[0][1];
	r.out = p[1][0];
	r.errs = p[2][0];
	return r;
}

static int finish(struct run *r)
{
	int status;

	close_fd(&r->in);
	close_fd(&r->out);
	close_fd(&r->errs);
	assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
	bye(&r->peer);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static char *read_all(int fd)
{
	char *text = NULL;

	assert_int_equal(fs_read_fd(fd, 8 * MIB, &text, NULL), 0);
	return text;
}

#define SH(text) ((char *[]){(char *)"sh", (char *)"-c", (char *)(text), NULL})

/* ---- exec ---------------------------------------------------------------------- */

static void test_exec(void **state)
{
	char *env[] = {(char *)"MORE=2", NULL};
	const struct agent_exec x = {
		.argv = SH("echo $BASE$MORE $PWD $HOME $(id -un); echo oops >&2; exit 7"),
		.env = env, .cwd = "/usr"};
	struct run r = start(&x);
	autofree char *out = read_all(r.out), *errs = read_all(r.errs);

	assert_string_equal(out, "12 /usr /root root\n");
	assert_string_equal(errs, "oops\n");
	assert_int_equal(finish(&r), 7);
}

static void test_user(void **state)
{
	const struct agent_exec x = {.argv = SH("id -un; id -gn"), .user = "nobody"};
	struct run r = start(&x);
	autofree char *out = read_all(r.out);

	assert_string_equal(out, "nobody\nnogroup\n");
	assert_int_equal(finish(&r), 0);
}

static int exec_fails(const struct agent_exec *x, int *status)
{
	struct peer p = connect_agent();
	struct vps_err err = {0};
	int r = agent_exec(p.fd, x, 5000, status, &err);

	bye(&p);
	return r;
}

static void test_not_there(void **state)
{
	char *none[] = {(char *)"no-such-program", NULL}, *dir[] = {(char *)"/etc", NULL};
	int status = 0;

	assert_int_equal(exec_fails(&(struct agent_exec){.argv = none}, &status), -VPS_EEXEC);
	assert_int_equal(status, 127);
	assert_int_equal(exec_fails(&(struct agent_exec){.argv = dir}, &status), -VPS_EEXEC);
	assert_int_equal(status, 126);
	assert_int_equal(exec_fails(&(struct agent_exec){.argv = SH(":"), .user = "nobody-here"}, &status),
			 -VPS_EEXEC);
}

/* Much both ways at once, through windows of 256 KiB. */
static void test_streams(void **state)
{
	const struct agent_exec x = {.argv = SH("cat; echo done >&2")};
	struct run r = start(&x);
	autofree char *sent = malloc(2 * MIB), *got = malloc(2 * MIB);
	pid_t writer;

	for (int i = 0; i < 2 * MIB; i++)
		sent[i] = (char)(i * 7 + i / 251);
	writer = fork();
	if (writer == 0) {
		close(r.out);
		_exit(fs_write_all(r.in, sent, 2 * MIB) < 0);
	}
	close_fd(&r.in);
	assert_int_equal(fs_read_full(r.out, got, 2 * MIB), 2 * MIB);
	assert_memory_equal(sent, got, 2 * MIB);
	assert_int_equal(waitpid(writer, NULL, 0), writer);
	assert_int_equal(finish(&r), 0);
}

/* Input that nobody reads fills its window, and the signal still comes through. */
static void test_signal(void **state)
{
	const struct agent_exec x = {.argv = SH("echo ready; exec sleep 60")};
	struct run r = start(&x);
	char ready[6];
	int left;

	assert_int_equal(fs_read_full(r.out, ready, 6), 6);
	fcntl(r.in, F_SETFL, O_NONBLOCK);
	for (left = 200; left > 0;) { /* until it takes no more for a while */
		static char junk[4096];

		if (write(r.in, junk, sizeof(junk)) > 0)
			continue;
		left--;
		usleep(1000);
	}
	kill(r.pid, SIGTERM);
	assert_int_equal(finish(&r), 128 + SIGTERM);
}

/* Commands to look for afterwards: `sleep` of a number that no other run of this has. */
static unsigned mark(unsigned n)
{
	static pid_t pid;

	pid = pid ? pid : getpid();
	return 100000000u + (unsigned)pid * 10 + n;
}

static char **sleeper(const char *before, unsigned n)
{
	static char text[128];
	static char *argv[] = {(char *)"sh", (char *)"-c", text, NULL};

	snprintf(text, sizeof(text), "%s exec sleep %u", before, mark(n));
	return argv;
}

static bool alive(unsigned n, const char *tool)
{
	autofree char *cmd = str_fmt("%s -f '[s]leep %u' >/dev/null", tool, mark(n));

	return system(cmd) == 0;
}

static bool ends(unsigned n)
{
	for (int i = 0; i < 500; i++) {
		if (!alive(n, "pgrep"))
			return true;
		usleep(10000);
	}
	return false;
}

/* A host that goes away takes its command along; not a detached one. */
static void test_gone(void **state)
{
	const struct agent_exec x = {.argv = sleeper("echo ready;", 1)};
	struct run r = start(&x);
	const struct agent_exec y = {.argv = sleeper("", 2), .detach = true};
	struct peer p;
	char ready[6];
	int status;

	assert_int_equal(fs_read_full(r.out, ready, 6), 6);
	kill(r.pid, SIGKILL);
	assert_int_equal(finish(&r), 128 + SIGKILL);
	assert_true(ends(1));

	p = connect_agent();
	assert_int_equal(agent_exec(p.fd, &y, 5000, &status, NULL), 0);
	bye(&p);
	usleep(200000);
	assert_true(alive(2, "pgrep"));
	assert_true(alive(2, "pkill"));
}

/* What a command left in the pipes arrives, and who it left behind is not waited for. */
static void test_left_behind(void **state)
{
	autofree char *text = str_fmt("sleep %u & seq 1 20000; exit 3", mark(3));
	const struct agent_exec x = {.argv = SH(text)};
	struct run r = start(&x);
	autofree char *out = read_all(r.out);

	assert_non_null(strstr(out, "\n20000\n"));
	assert_int_equal(finish(&r), 3);
	assert_true(alive(3, "pkill"));
}

/* The host's terminal is a pty of its own; its size goes along, also when it changes. */
static void test_terminal(void **state)
{
	const struct agent_exec x = {
		.argv = SH("stty size; tty; read a; stty size; exit 5"), .tty = true, .rows = 33, .cols = 44};
	struct winsize ws = {.ws_row = 55, .ws_col = 66};
	struct peer p = connect_agent();
	struct vps_err err = {0};
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), unlock = 0, status;
	char buf[4096] = "";
	size_t have = 0;
	pid_t pid;

	assert_true(master >= 0);
	assert_int_equal(ioctl(master, TIOCSPTLCK, &unlock), 0);
	struct winsize first = {.ws_row = 33, .ws_col = 44};
	assert_int_equal(ioctl(master, TIOCSWINSZ, &first), 0);
	assert_int_equal(agent_exec(p.fd, &x, 5000, &status, &err), 0);
	pid = fork();
	if (pid == 0) {
		setsid();
		int slave = ioctl(master, TIOCGPTPEER, O_RDWR); /* its controlling terminal */
		const int io[3] = {slave, slave, -1};
		close(master);
		status = agent_bridge(p.fd, io, true, &err);
		_exit(status < 0 ? 250 : status);
	}
	while (!strstr(buf, "/dev/pts/")) {
		ssize_t n = read(master, buf + have, sizeof(buf) - 1 - have);

		assert_true(n > 0);
		have += (size_t)n;
	}
	assert_non_null(strstr(buf, "33 44"));
	assert_int_equal(ioctl(master, TIOCSWINSZ, &ws), 0);
	usleep(200000);
	assert_int_equal(write(master, "x\n", 2), 2);
	while (!strstr(buf, "55 66")) {
		ssize_t n = read(master, buf + have, sizeof(buf) - 1 - have);

		assert_true(n > 0);
		have += (size_t)n;
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 5);
	close(master);
	bye(&p);
}

/* ---- cp, simple requests ------------------------------------------------------- */

static void test_copy(void **state)
{
	const struct test_dir *t = *state;
	autofree char *from = str_fmt("%s/from", t->path), *to = str_fmt("%s/to", t->path);
	autofree char *big = malloc(3 * MIB);
	autoclose int tar = openat(t->fd, "tar", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct vps_err err = {0};

	assert_int_equal(fs_mkdir_p(t->fd, "from/d", 0755), 0);
	memset(big, 'x', 3 * MIB);
	assert_int_equal(fs_write_rename(t->fd, "from/d/big", big, 3 * MIB, 0640), 0);
	put_file(t->fd, "from/small", "hello");
	struct peer p = connect_agent();
	assert_int_equal(agent_pack(p.fd, from, tar, -1, &err), 0);
	bye(&p);
	assert_true(lseek(tar, 0, SEEK_END) > 3 * MIB);
	lseek(tar, 0, SEEK_SET);
	p = connect_agent();
	assert_int_equal(agent_unpack(p.fd, to, 7, -1, tar, -1, &err), 0);
	bye(&p);
	assert_file(t->fd, "to/small", "hello");
	struct stat st;
	assert_int_equal(fstatat(t->fd, "to/d/big", &st, 0), 0);
	assert_true(st.st_size == 3 * MIB && (st.st_mode & 0777) == 0640 && st.st_uid == 7);

	p = connect_agent();
	assert_int_equal(agent_pack(p.fd, "/no/such", tar, -1, &err), -ENOENT);
	bye(&p);
	lseek(tar, 0, SEEK_SET);
	assert_int_equal(fs_write_all(tar, big, 4096), 0); /* no tar, and more of it than is read */
	lseek(tar, 0, SEEK_SET);
	vps_err_clear(&err);
	p = connect_agent();
	assert_int_equal(agent_unpack(p.fd, to, -1, -1, tar, -1, &err), -EBADMSG);
	bye(&p);
}

static void test_stat(void **state)
{
	struct peer p = connect_agent();
	struct agent_stat s;
	struct vps_err err = {0};

	assert_int_equal(agent_stat(p.fd, 5000, &s, &err), 0);
	assert_true(s.mem_total > 1 << 24 && s.mem_available && s.uptime && s.processes > 2 &&
		    s.threads >= s.processes && s.disk_size && s.disk_used < s.disk_size &&
		    s.cpu_user + s.cpu_idle);
	bye(&p);
}

static void test_procs(void **state)
{
	struct peer p = connect_agent();
	struct vps_proc *v = NULL;
	struct vps_err err = {0};
	size_t n = 0, me = 0;

	assert_int_equal(agent_procs(p.fd, 5000, &v, &n, &err), 0);
	for (size_t i = 0; i < n; i++)
		if (v[i].pid == getpid())
			me = i + 1;
	assert_true(me && v[me - 1].uid == 0 && v[me - 1].rss && strchr("RSD", v[me - 1].state));
	assert_non_null(strstr(v[me - 1].cmdline, "runtime_agent_test"));
	vps_procs_free(v, n);
	bye(&p);
}

/* A tenant's word. */
static void test_procs_words(void **state)
{
	static const char *const bad[] = {
		"uid=1:0\n", "pid=2:-1\n", "pid=10:2147483648\n", "pid=1:1\nstate=1:\33\n",
		"pid=1:1\nstate=2:RR\n", "pid=1:1\nrss=1:x\n", "pid=1:1\nuid=10:4294967296\n",
	};
	const char good[] = "pid=1:1\nnew=1:?\npid=1:2\ncmd=3:a\nb\n";
	struct vps_proc *v = NULL;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(agent_procs_parse(bad[i], strlen(bad[i]), &v, &n), -EPROTO);
	assert_null(v);
	assert_int_equal(agent_procs_parse(good, strlen(good), &v, &n), 0);
	assert_true(n == 2 && v[0].pid == 1 && v[1].pid == 2 && *v[0].cmdline == '\0');
	assert_string_equal(v[1].cmdline, "a\nb");
	vps_procs_free(v, n);
}

static void test_words(void **state)
{
	const struct guest_cfg sys = {.role = GUEST_SYSTEM, .stop_signal = SIGRTMIN + 3};
	const struct guest_cfg other = {.role = GUEST_SYSTEM, .stop_signal = SIGPWR};
	const struct guest_cfg cmd = {.role = GUEST_COMMAND, .stop_signal = SIGQUIT};

	assert_int_equal(stop_signal_of(&sys, 0), SIGRTMIN + 4);
	assert_int_equal(stop_signal_of(&sys, SIGTERM), SIGRTMIN + 4);
	assert_int_equal(stop_signal_of(&sys, SIGRTMIN + 3), SIGRTMIN + 4);
	assert_int_equal(stop_signal_of(&sys, SIGUSR1), SIGUSR1);
	assert_int_equal(stop_signal_of(&other, 0), SIGPWR);
	assert_int_equal(stop_signal_of(&cmd, 0), SIGQUIT);
	assert_int_equal(stop_signal_of(&cmd, SIGTERM), SIGTERM);
}

/* ---- hostile halves ------------------------------------------------------------ */

static void test_bad_host(void **state)
{
	static const char *const first[] = {
		"GET / HTTP/1.0\r\n\r\n", "\1\0\0\0\10\0\0\0XXXX\1\0\0\0", "\20\0\0\0\0\0\0\0",
	};
	static const size_t len[] = {18, 16, 8};

	for (size_t i = 0; i < ARRAY_LEN(first); i++) {
		struct peer p = connect_bare();
		char c;

		assert_int_equal(fs_write_all(p.fd, first[i], len[i]), 0);
		assert_true(read(p.fd, &c, 1) <= 0); /* it hangs up, with what it did not read */
		bye(&p);
	}
	struct peer p = connect_agent();
	assert_int_equal(agent_call(p.fd, AGENT_EXEC, "arg=5:x\n", 8, 5000, NULL, NULL), -EPROTO);
	bye(&p);
	p = connect_agent(); /* a window is a window */
	assert_int_equal(agent_exec(p.fd, &(struct agent_exec){.argv = sleeper("", 4)}, 5000,
				    &(int){0}, NULL), 0);
	static char junk[AGENT_DATA_MAX];
	for (int i = 0; i < 6; i++)
		agent_send(p.fd, AGENT_DATA, 0, junk, sizeof(junk));
	assert_true(ends(4));
	bye(&p);
}

/* A guest that answers with this. */
static int answered(const void *data, size_t len, int *status)
{
	const struct agent_exec x = {.argv = SH(":")};
	int s[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	assert_int_equal(fs_write_all(s[1], data, len), 0);
	shutdown(s[1], SHUT_WR);
	int r = agent_exec(s[0], &x, 1000, status, NULL);
	close(s[0]);
	close(s[1]);
	return r;
}

static void test_bad_guest(void **state)
{
	static const uint8_t error[] = {AGENT_ERROR, 0, 0, 0, 11, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
					0xff, 0xff, 0xff, 0xff, 'a', 27, 'b'};
	static const uint8_t done[] = {AGENT_DONE, 0, 0, 0, 0, 0, 0, 0};
	int status = 0;

	assert_int_equal(answered(error, sizeof(error), &status), -EPROTO);
	assert_int_equal(status, 126);
	assert_int_equal(answered(done, sizeof(done), &status), -EPROTO);
	assert_int_equal(answered(done, 5, &status), -EPROTO);
	assert_int_equal(answered("", 0, &status), -EPIPE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exec),	   cmocka_unit_test(test_user),
		cmocka_unit_test(test_not_there),  cmocka_unit_test(test_streams),
		cmocka_unit_test(test_signal),	   cmocka_unit_test(test_gone),
		cmocka_unit_test(test_left_behind), cmocka_unit_test(test_terminal),
		dir_test(test_copy),		   cmocka_unit_test(test_stat),
		cmocka_unit_test(test_words), cmocka_unit_test(test_procs),
		cmocka_unit_test(test_procs_words),	   cmocka_unit_test(test_bad_host),
		cmocka_unit_test(test_bad_guest),
	};

	if (geteuid() != 0) {
		fprintf(stderr, "skipped: wants root\n");
		return 77;
	}
	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
