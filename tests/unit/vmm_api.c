/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The client against machines that lie, and the lines of the notify port: no KVM. */
#include "tests/unit/base_util.h"

#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/sys.h"
#include "vmm/api.h"
#include "vmm/ports.h"

/* ---- a machine's socket that answers what it is told to ---- */

struct server {
	int listener;
	uint8_t answer[sizeof(struct vmm_answer) + sizeof(struct vmm_stats) + 64];
	size_t len;
	int fd;
	struct vmm_request got;
};

static int server_listen(struct test_dir *t)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/" VMM_SOCKET, t->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

static void *serve(void *arg)
{
	struct server *s = arg;
	int fd = accept(s->listener, NULL, NULL);
	ssize_t n = recv(fd, &s->got, sizeof(s->got), 0);

	if (n == sizeof(s->got) && s->len)
		sys_send_fds(fd, s->answer, s->len, &s->fd, s->fd >= 0);
	close(fd);
	return NULL;
}

static void set_answer(struct server *s, uint32_t version, int32_t result, const char *why,
		       size_t more)
{
	struct vmm_answer a = {.version = version, .result = result};

	memcpy(a.why, why, strlen(why) < sizeof(a.why) ? strlen(why) : sizeof(a.why));
	memset(s->answer, 0xff, sizeof(s->answer));
	memcpy(s->answer, &a, sizeof(a));
	s->len = sizeof(a) + more;
}

static int ask(struct test_dir *t, struct server *s, uint32_t op, struct vmm_stats *st,
	       struct vps_err *err)
{
	pthread_t th;
	int r;

	vps_err_clear(err);
	assert_int_equal(pthread_create(&th, NULL, serve, s), 0);
	r = op == VMM_OP_VSOCK	 ? vmm_api_vsock(t->fd, 5, 2000, err)
	    : op == VMM_OP_STATS ? vmm_api_stats(t->fd, st, 30, err)
				 : vmm_api_rate(t->fd, 1, 2, 3, 2000, err);
	pthread_join(th, NULL);
	return r;
}

static void test_liars(void **state)
{
	struct test_dir *t = *state;
	struct server s = {.listener = server_listen(t), .fd = -1};
	struct vps_err err = {0};
	struct vmm_stats st;

	set_answer(&s, VMM_API_VERSION, 0, "", 0);
	assert_int_equal(ask(t, &s, VMM_OP_RATE, NULL, &err), 0);
	assert_true(s.got.op == VMM_OP_RATE && s.got.arg[0] == 1 && s.got.arg[2] == 3);
	/* its end, another version, cut, too long, a result that would be an fd */
	s.len = 0;
	assert_int_equal(ask(t, &s, VMM_OP_RATE, NULL, &err), -VPS_ESTATE);
	set_answer(&s, 2, 0, "", 0);
	assert_int_equal(ask(t, &s, VMM_OP_RATE, NULL, &err), -EPROTO);
	set_answer(&s, VMM_API_VERSION, 0, "", 0);
	s.len--;
	assert_int_equal(ask(t, &s, VMM_OP_RATE, NULL, &err), -EPROTO);
	set_answer(&s, VMM_API_VERSION, 0, "", 1);
	assert_int_equal(ask(t, &s, VMM_OP_RATE, NULL, &err), -EPROTO);
	set_answer(&s, VMM_API_VERSION, 0, "", sizeof(st) + 60);
	assert_int_equal(ask(t, &s, VMM_OP_RATE, NULL, &err), -EMSGSIZE);
	set_answer(&s, VMM_API_VERSION, 3, "", 0);
	assert_int_equal(ask(t, &s, VMM_OP_RATE, NULL, &err), -EPROTO);
	/* words that act on a terminal; a code beyond all codes; no NUL */
	set_answer(&s, VMM_API_VERSION, -EBUSY, "\x1b[2Jno\n", 0);
	assert_int_equal(ask(t, &s, VMM_OP_RATE, NULL, &err), -EBUSY);
	assert_string_equal(err.msg, "\\x1b[2Jno\\n");
	set_answer(&s, VMM_API_VERSION, INT32_MIN, "no", 0);
	assert_int_equal(ask(t, &s, VMM_OP_RATE, NULL, &err), -EPROTO);
	memset(s.answer + 8, 'a', 120);
	assert_int_equal(ask(t, &s, VMM_OP_RATE, NULL, &err), -EPROTO);
	assert_int_equal(strlen(err.msg), 120);
	close(s.listener);
}

static void test_liars_with_fds(void **state)
{
	struct test_dir *t = *state;
	struct server s = {.listener = server_listen(t), .fd = -1};
	struct vps_err err = {0};
	unsigned fds = count_fds();
	int sv[2], r;

	/* none, one that is no stream socket, one that nobody asked for */
	set_answer(&s, VMM_API_VERSION, 0, "", 0);
	assert_int_equal(ask(t, &s, VMM_OP_VSOCK, NULL, &err), -EPROTO);
	s.fd = t->fd;
	assert_int_equal(ask(t, &s, VMM_OP_VSOCK, NULL, &err), -EPROTO);
	assert_int_equal(ask(t, &s, VMM_OP_RATE, NULL, &err), -EMSGSIZE);
	assert_int_equal(count_fds(), fds);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	s.fd = sv[0];
	r = ask(t, &s, VMM_OP_VSOCK, NULL, &err);
	assert_true(r >= 0);
	assert_int_equal(fcntl(r, F_GETFD), FD_CLOEXEC);
	close(r);
	close(sv[0]);
	close(sv[1]);
	close(s.listener);
}

static void test_lying_stats(void **state)
{
	struct test_dir *t = *state;
	struct server s = {.listener = server_listen(t), .fd = -1};
	struct vps_err err = {0};
	struct vmm_stats st;

	set_answer(&s, VMM_API_VERSION, 0, "", sizeof(st));
	assert_int_equal(ask(t, &s, VMM_OP_STATS, &st, &err), 0);
	assert_int_equal(st.n_disks, VMM_MAX_DISKS);
	assert_int_equal(st.n_nets, VMM_MAX_NETS);
	assert_int_equal(st.n_cpus, VMM_MAX_CPUS);
	assert_int_equal(strlen(st.disk[7].serial), 23);
	set_answer(&s, VMM_API_VERSION, 0, "", sizeof(st) - 1);
	assert_int_equal(ask(t, &s, VMM_OP_STATS, &st, &err), -EPROTO);
	close(s.listener);
}

static void test_nobody(void **state)
{
	struct test_dir *t = *state;
	struct vps_err err = {0};
	int fd;

	assert_int_equal(vmm_api_power(t->fd, 100, &err), -VPS_ESTATE);
	assert_string_equal(err.msg, "the machine does not run");
	vps_err_clear(&err);
	fd = server_listen(t);
	assert_int_equal(vmm_api_power(t->fd, 50, &err), -VPS_ETIMEDOUT);
	vps_err_clear(&err);
	/* nobody has accepted the last ones either: the queue fills */
	for (int i = 0; i < 10; i++)
		assert_int_equal(vmm_api_power(t->fd, 20, NULL), -VPS_ETIMEDOUT);
	close(fd);
	assert_int_equal(vmm_api_power(t->fd, 100, &err), -VPS_ESTATE);
}

/* ---- ports ---- */

static struct ports p;
static struct loop loop;
static int told[2], conn[2];

static int ports_setup(void **state)
{
	if (loop_init(&loop) ||
	    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, told))
		return -1;
	ports_init(&p, &loop, told[0]);
	return 0;
}

static int ports_teardown(void **state)
{
	ports_done(&p);
	loop_done(&loop);
	close(told[0]);
	close(told[1]);
	return 0;
}

static void turn(void)
{
	while (loop_once(&loop, 0) > 0)
		;
}

static void say(const void *text, size_t len)
{
	assert_int_equal(write(conn[1], text, len), len);
	turn();
}
#define SAY(text) say(text, sizeof(text) - 1)

static void expect_told(const char *text)
{
	char buf[VMM_LINE_MAX + 1];
	ssize_t n = recv(told[1], buf, VMM_LINE_MAX, 0);

	buf[n > 0 ? n : 0] = 0;
	assert_string_equal(buf, text ?: "");
}

static void test_lines(void **state)
{
	static char big[VMM_LINE_MAX];

	assert_int_equal(ports_accept(&p, VMM_PORT_NOTIFY, 1024, conn), -EACCES);
	assert_int_equal(ports_accept(&p, VMM_PORT_NOTIFY, 1023, conn), 0);
	SAY("READY=1\nSTAT");
	expect_told("READY=1");
	expect_told(NULL);
	/* vps-vmm's own word */
	SAY("US=up\nWAIT_STATUS=1\nEXIT=256\nEXIT=-1\nEXIT=7 \nEXIT=\n\n");
	expect_told("STATUS=up");
	expect_told(NULL);
	assert_int_equal(p.exit_code, -1);
	SAY("EXIT=7\nREBOOT=11\n");
	assert_int_equal(p.exit_code, 7);
	assert_false(p.reboot);
	expect_told("REBOOT=11");
	SAY("REBOOT=1\nERROR=no \x1b root\n");
	assert_true(p.reboot);
	assert_string_equal(p.error, "no \\x1b root");
	memset(big, 'x', sizeof(big));
	memcpy(big, "ERROR=", 6);
	big[sizeof(big) - 1] = '\n';
	say(big, sizeof(big));
	assert_int_equal(strlen(p.error), sizeof(p.error) - 1);
	/* a line that does not end */
	memset(big, 'x', sizeof(big));
	say(big, sizeof(big));
	assert_null(p.conn[0]);
	close(conn[0]);
	close(conn[1]);
}

static void test_many_lines(void **state)
{
	int c[VMM_NOTIFY_CONNS][2], more[2];
	char b;

	for (size_t i = 0; i < VMM_NOTIFY_CONNS; i++)
		assert_int_equal(ports_accept(&p, VMM_PORT_NOTIFY, 1, c[i]), 0);
	assert_int_equal(ports_accept(&p, VMM_PORT_NOTIFY, 1, more), -EAGAIN);
	/* a flood is lost, and nothing waits for it */
	memcpy(conn, c[0], sizeof(conn));
	for (int i = 0; i < 10000; i++)
		SAY("WATCHDOG=1\n");
	assert_int_equal(loop_once(&loop, 0), 0);
	close(c[0][0]);
	close(c[0][1]);
	turn();
	assert_int_equal(ports_accept(&p, VMM_PORT_NOTIFY, 1, c[0]), 0);
	ports_done(&p);
	for (size_t i = 0; i < VMM_NOTIFY_CONNS; i++) {
		assert_int_equal(read(c[i][0], &b, 1), 0);
		close(c[i][0]);
		close(c[i][1]);
	}
}

static void test_ports(void **state)
{
	unsigned fds = count_fds();
	int fd[2];

	assert_int_equal(ports_add(&p, 16, told[0], true, false), 0);
	assert_int_equal(ports_add(&p, 17, told[0], false, true), 0);
	assert_int_equal(ports_add(&p, 18, told[0], true, true), 0);
	assert_int_equal(ports_add(&p, 18, told[0], true, true), -EEXIST);
	assert_int_equal(ports_add(&p, VMM_PORT_NOTIFY, told[0], true, true), -EEXIST);
	assert_int_equal(ports_add(&p, 19, -1, true, true), -EBADF);
	assert_int_equal(ports_accept(&p, 15, 1, fd), -ECONNREFUSED);
	assert_int_equal(ports_accept(&p, 17, 5000, fd), 0);
	assert_true(fd[0] == -1 && fd[1] >= 0);
	close(fd[1]);
	/* once */
	assert_int_equal(ports_accept(&p, 17, 1, fd), -ECONNREFUSED);
	assert_int_equal(ports_accept(&p, 18, 1, fd), 0);
	assert_true(fd[0] >= 0 && fd[1] >= 0 && fd[0] != fd[1]);
	close(fd[0]);
	close(fd[1]);
	for (uint32_t i = 0; i < PORTS_MAX - 1; i++)
		assert_int_equal(ports_add(&p, 100 + i, told[0], true, true), 0);
	assert_int_equal(ports_add(&p, 99, told[0], true, true), -E2BIG);
	ports_done(&p);
	assert_int_equal(count_fds(), fds);
}

#define T(f) cmocka_unit_test_setup_teardown(f, ports_setup, ports_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		dir_test(test_liars),
		dir_test(test_liars_with_fds),
		dir_test(test_lying_stats),
		dir_test(test_nobody),
		T(test_lines),
		T(test_many_lines),
		T(test_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
