/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine in a process of its own, behind its filters, spoken to by vmm/api.h; its snapshot. */
#include "tests/unit/base_util.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "vmm/filter.h"
#include "vmm/machine.h"
#include "vmm/rounds.h"
#include "vmm/snapcpu.h"
#include "vmm/snapshot.h"

#define MEMORY (32ull << 20)
#define WAIT   5000

struct bench {
	struct test_dir *dir;
	int disk, out;
	pid_t pid;
};

static struct bench b;

static int setup(void **state)
{
	if (test_dir_make(state))
		return -1;
	b = (struct bench){.dir = *state};
	b.disk = memfd_create("disk", MFD_CLOEXEC);
	b.out = memfd_create("console", MFD_CLOEXEC);
	return b.disk < 0 || b.out < 0 || ftruncate(b.disk, 1 << 20) < 0 ? -1 : 0;
}

static void end(void)
{
	if (b.pid) {
		kill(b.pid, SIGKILL);
		waitpid(b.pid, NULL, 0);
	}
	b.pid = 0;
}

static int teardown(void **state)
{
	end();
	close(b.disk);
	close(b.out);
	return test_dir_remove(state);
}

static struct machine_opts opts(const char *cmd)
{
	struct machine_opts o = MACHINE_OPTS_INIT;
	autofree char *path = str_fmt("%s/tests/unit/vmm_guest", getenv("VPS_LIBEXEC") ?: ".");

	o.any_kvm = true;
	o.memory = MEMORY;
	o.cpus = 2;
	o.kernel = open(path, O_RDONLY | O_CLOEXEC);
	o.cmdline = cmd;
	o.console_out = b.out;
	o.disks[o.n_disks++] = (struct blk_opts){.fd = b.disk, .serial = "one"};
	return o;
}

/* Never returns. The sanitizers' own calls are not ours to filter. */
static void be_machine(struct machine_opts *o)
{
	struct vps_err err = {0};
	struct machine *m = NULL;
	char why[160] = "";
	int code = 0, r;
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	o->filtered = true;
#endif
	r = machine_new(o, &m, &err);
	if (r == 0 && o->filtered)
		r = filter_install(FILTER_MAIN);
	if (r == 0)
		r = (int)machine_run(m, &code, why, sizeof(why));
	if (r < 0 || r == VM_FAILED)
		dprintf(2, "machine: %s\n", r < 0 ? err.msg : why);
	_exit(r < 0 ? 200 : r);
}

static void start(struct machine_opts *o)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/" VMM_SOCKET, b.dir->path);
	unlink(a.sun_path);
	o->ctl = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(o->ctl, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(o->ctl, 16), 0);
	b.pid = fork();
	assert_true(b.pid >= 0);
	if (b.pid == 0)
		be_machine(o);
	close(o->ctl);
	close_fd(&o->kernel);
}

#define OK(call)                                                                                   \
	do {                                                                                       \
		struct vps_err err = {0};                                                          \
		if ((call) < 0)                                                                    \
			fail_msg("%s: %s", #call, err.msg);                                        \
	} while (0)

static int dial(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s/" VMM_SOCKET, b.dir->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

/* Without the client's patience for a guest that tells nothing. */
static struct vmm_stats stats(void)
{
	struct vmm_request q = {.version = VMM_API_VERSION, .op = VMM_OP_STATS};
	struct {
		struct vmm_answer a;
		struct vmm_stats s;
	} a = {0};
	autoclose int fd = dial();

	assert_int_equal(send(fd, &q, sizeof(q), MSG_NOSIGNAL), sizeof(q));
	assert_int_equal(recv(fd, &a, sizeof(a), 0), sizeof(a));
	return a.s;
}

static uint64_t reads(void)
{
	return stats().disk[0].reads;
}

static void await_reads(uint64_t more)
{
	uint64_t n = reads(), deadline = sys_now_mono() + 10000000000ull;

	while (reads() < n + more)
		if (sys_now_mono() > deadline)
			fail_msg("the guest reads no more after %zu", (size_t)n);
}

static int run(const char *cmd, char *text, size_t size)
{
	struct machine_opts o = opts(cmd);
	int status;
	ssize_t n;

	start(&o);
	waitpid(b.pid, &status, 0);
	b.pid = 0;
	n = pread(b.out, text, size - 1, 0);
	text[n > 0 ? n : 0] = 0;
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

/* All that a short life does, behind the filters. */
static void test_lives(void **state)
{
	char text[256];

	assert_int_equal(run("disk", text, sizeof(text)), VM_POWEROFF);
	assert_non_null(strstr(text, "written 0"));
	assert_int_equal(run("reset", text, sizeof(text)), VM_RESET);
	assert_int_equal(run("panic", text, sizeof(text)), VM_FAILED);
}

static void test_panic_is_told(void **state)
{
	struct machine_opts o = opts("panic");
	struct vps_err err = {0};
	struct machine *m = NULL;
	char why[160] = "";
	int code;

	if (machine_new(&o, &m, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(machine_run(m, &code, why, sizeof(why)), VM_FAILED);
	assert_string_equal(why, "guest: Kernel panic - not syncing: ?[2Jno root");
	machine_free(m);
	/* one who says that he wants it is believed; one who could not be brought up, too */
	if (machine_new(&o, &m, &err) < 0)
		fail_msg("%s", err.msg);
	m->ports.reboot = true;
	assert_int_equal(machine_run(m, &code, why, sizeof(why)), VM_RESET);
	machine_free(m);
	o.cmdline = "hello";
	if (machine_new(&o, &m, &err) < 0)
		fail_msg("%s", err.msg);
	strcpy(m->ports.error, "no root");
	assert_int_equal(machine_run(m, &code, why, sizeof(why)), VM_FAILED);
	assert_string_equal(why, "guest: no root");
	machine_free(m);
	close(o.kernel);
}

static void test_pause_and_stats(void **state)
{
	struct machine_opts o = opts("io");
	struct vmm_stats s;
	uint64_t n;

	start(&o);
	await_reads(10);
	OK(vmm_api_pause(b.dir->fd, WAIT, &err));
	OK(vmm_api_pause(b.dir->fd, WAIT, &err));
	n = reads();
	usleep(20000);
	s = stats();
	assert_int_equal(s.disk[0].reads, n);
	assert_int_equal(s.disk[0].read_bytes, 512 * n);
	assert_string_equal(s.disk[0].serial, "one");
	assert_true(s.paused && s.n_disks == 1 && s.n_cpus == 2 && s.n_nets == 0);
	assert_int_equal(s.memory, MEMORY);
	assert_true(s.cpu[0].pio > 10 && s.cpu[1].pio == 0);
	assert_true(s.guest.age_ms == VMM_UNKNOWN && s.guest.total == VMM_UNKNOWN);
	OK(vmm_api_resume(b.dir->fd, WAIT, &err));
	OK(vmm_api_resume(b.dir->fd, WAIT, &err));
	await_reads(10);
	OK(vmm_api_power(b.dir->fd, WAIT, &err));
	OK(vmm_api_balloon(b.dir->fd, 4 << 20, WAIT, &err));
	assert_int_equal(stats().balloon_target, 4 << 20);
	assert_int_equal(stats().balloon_actual, 0);
	/* no driver */
	assert_int_equal(vmm_api_vsock(b.dir->fd, 1, WAIT, NULL), -ECONNREFUSED);
}

static void test_rate_live(void **state)
{
	struct machine_opts o = opts("io");
	uint64_t n;

	start(&o);
	await_reads(100);
	OK(vmm_api_rate(b.dir->fd, 0, 0, 20, WAIT, &err));
	usleep(100000);
	n = reads();
	usleep(300000);
	assert_in_range(reads() - n, 2, 12);
	OK(vmm_api_rate(b.dir->fd, 0, 512 * 20, 0, WAIT, &err));
	usleep(200000);
	n = reads();
	usleep(300000);
	assert_in_range(reads() - n, 2, 12);
	/* what waits while the machine is paused goes on waiting */
	OK(vmm_api_rate(b.dir->fd, 0, 0, 10, WAIT, &err));
	await_reads(2);
	OK(vmm_api_pause(b.dir->fd, WAIT, &err));
	n = reads();
	usleep(250000);
	assert_int_equal(reads(), n);
	OK(vmm_api_resume(b.dir->fd, WAIT, &err));
	await_reads(2);
	/* what waits for a minute does not when the limit goes */
	OK(vmm_api_rate(b.dir->fd, 0, 1, 1, WAIT, &err));
	usleep(20000);
	OK(vmm_api_rate(b.dir->fd, 0, 0, 0, WAIT, &err));
	await_reads(200);
	assert_int_equal(vmm_api_rate(b.dir->fd, 1, 0, 0, WAIT, NULL), -ENOENT);
}

static void test_grow(void **state)
{
	struct machine_opts o = opts("io");

	start(&o);
	await_reads(1);
	assert_int_equal(ftruncate(b.disk, 4 << 20), 0);
	OK(vmm_api_grow(b.dir->fd, 0, WAIT, &err));
	assert_int_equal(ftruncate(b.disk, 2 << 20), 0);
	assert_int_equal(vmm_api_grow(b.dir->fd, 0, WAIT, NULL), -EINVAL);
	assert_int_equal(vmm_api_grow(b.dir->fd, 7, WAIT, NULL), -ENOENT);
	await_reads(1);
}

/* One asks, as long as its connection lives. Which blocks: vmm_devices. */
static void test_written(void **state)
{
	struct machine_opts o = opts("io");
	int session = -1, other = -1, fd = sys_memfd("written", 0);
	struct stat st;
	uint8_t first = 0;

	start(&o);
	await_reads(1);
	OK(vmm_api_written(b.dir->fd, &session, 0, fd, WAIT, &err));
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(st.st_size > 0);
	assert_int_equal(pread(fd, &first, 1, 0), 1);
	assert_int_equal(first & 1, 1);
	assert_int_equal(vmm_api_written(b.dir->fd, &other, 0, fd, WAIT, NULL), -EBUSY);
	OK(vmm_api_written(b.dir->fd, &session, 0, fd, WAIT, &err));
	assert_int_equal(pread(fd, &first, 1, 0), 1);
	assert_int_equal(first, 0); /* it only reads */
	assert_int_equal(vmm_api_written(b.dir->fd, &session, 7, fd, WAIT, NULL), -ENOENT);
	assert_int_equal(session, -1);
	OK(vmm_api_written(b.dir->fd, &other, 0, fd, WAIT, &err));
	close_fd(&other);
	close(fd);
	await_reads(1);
}

/* ---- a hostile client (the host's root alone can connect; still nothing may break) ---- */

static int32_t request(int fd, uint32_t version, uint32_t op, size_t len)
{
	struct vmm_request q = {.version = version, .op = op, .arg = {~0ull, ~0ull, ~0ull}};
	struct vmm_answer a;

	assert_int_equal(send(fd, &q, len, 0), len);
	assert_int_equal(recv(fd, &a, sizeof(a), 0), sizeof(a));
	return a.result;
}

static void test_odd_requests(void **state)
{
	struct machine_opts o = opts("io");
	int fd[CTL_CLIENTS + 4], one;
	char c;

	start(&o);
	await_reads(1);
	one = dial();
	assert_int_equal(request(one, 0, VMM_OP_POWER, sizeof(struct vmm_request)), -EPROTO);
	assert_int_equal(request(one, 1, VMM_OP_POWER, 7), -EPROTO);
	assert_int_equal(request(one, 1, 99, sizeof(struct vmm_request)), -ENOSYS);
	assert_int_equal(request(one, 1, VMM_OP_VSOCK, sizeof(struct vmm_request)), -EINVAL);
	assert_int_equal(request(one, 1, VMM_OP_GROW, sizeof(struct vmm_request)), -ENOENT);
	assert_int_equal(request(one, 1, VMM_OP_SNAPSHOT, sizeof(struct vmm_request)), -EINVAL);
	assert_int_equal(stats().paused, 0);
	for (size_t i = 0; i < ARRAY_LEN(fd); i++)
		fd[i] = dial();
	/* the last ones are turned away, the others stay */
	assert_int_equal(recv(fd[ARRAY_LEN(fd) - 1], &c, 1, 0), 0);
	assert_int_equal(request(one, 1, VMM_OP_POWER, sizeof(struct vmm_request)), 0);
	for (size_t i = 0; i < ARRAY_LEN(fd); i++)
		close(fd[i]);
	close(one);
	await_reads(1);
}

/* ---- snapshot ---- */

static int snapshot(bool stay)
{
	int fd = memfd_create("snapshot", MFD_CLOEXEC);

	OK(vmm_api_snapshot(b.dir->fd, fd, stay, WAIT, &err));
	return fd;
}

static void test_snapshot(void **state)
{
	struct machine_opts o = opts("io");
	autoclose int snap = -1;
	struct stat st;
	uint64_t ms;
	char text[128];
	ssize_t n;

	start(&o);
	await_reads(20);
	OK(vmm_api_balloon(b.dir->fd, 4 << 20, WAIT, &err));
	assert_int_equal(vmm_api_snapshot(b.dir->fd, b.disk, true, WAIT, NULL), -EINVAL);
	await_reads(5);
	close(snapshot(false));
	await_reads(5);
	snap = snapshot(true);
	assert_true(stats().paused);
	end();
	/* holes where the guest has written nothing */
	assert_int_equal(fstat(snap, &st), 0);
	assert_true(st.st_size > (off_t)MEMORY && st.st_blocks * 512 < 8 << 20);

	for (int i = 0; i < 3; i++) {
		o = opts("not used");
		o.restore = snap;
		o.verify = i == 1;
		ms = sys_now_mono() / 1000000;
		start(&o);
		await_reads(5);
		print_message("restored in %d ms\n", (int)(sys_now_mono() / 1000000 - ms));
		assert_int_equal(stats().balloon_target, 4 << 20);
		end();
	}
	/* it went on, and did not begin again */
	n = pread(b.out, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = 0;
	assert_string_equal(text, "guest: io\nstatus 15\n");
}

static int restore(int snap, const struct machine_opts *like, struct vps_err *err)
{
	struct machine_opts o = *like;
	struct machine *m = NULL;
	int r;

	vps_err_clear(err);
	o.restore = snap;
	r = machine_new(&o, &m, err);
	machine_free(m);
	return r;
}

static void flip(int fd, off_t at)
{
	uint8_t c;

	assert_int_equal(pread(fd, &c, 1, at), 1);
	c ^= 0x40;
	assert_int_equal(pwrite(fd, &c, 1, at), 1);
}

/* Another machine's, damaged anywhere, cut, no snapshot at all. */
static void test_wrong_snapshots(void **state)
{
	struct machine_opts o = opts("io"), like;
	struct vps_err err = {0};
	autoclose int snap = -1;
	unsigned fds;
	off_t size;

	start(&o);
	await_reads(20);
	snap = snapshot(true);
	end();
	size = lseek(snap, 0, SEEK_END);
	like = opts("not used");
	fds = count_fds();
	assert_int_equal(restore(snap, &like, &err), 0);
	like.memory *= 2;
	assert_int_equal(restore(snap, &like, &err), -VPS_EUSAGE);
	assert_non_null(strstr(err.msg, "2 CPUs"));
	like.memory = MEMORY;
	like.cpus = 1;
	assert_int_equal(restore(snap, &like, &err), -VPS_EUSAGE);
	like.cpus = 2;
	strcpy(like.disks[0].serial, "two");
	assert_int_equal(restore(snap, &like, &err), -VPS_EUSAGE);
	strcpy(like.disks[0].serial, "one");
	assert_int_equal(ftruncate(b.disk, 2 << 20), 0);
	assert_int_equal(restore(snap, &like, &err), -VPS_EUSAGE);
	assert_int_equal(ftruncate(b.disk, 1 << 20), 0);

	for (off_t at = MEMORY; at < size; at += at < size - 64 ? 1009 : 1) {
		flip(snap, at);
		if (restore(snap, &like, &err) >= 0)
			fail_msg("byte %zu of the state may be wrong", (size_t)(at - MEMORY));
		flip(snap, at);
	}
	like.verify = true;
	for (off_t at = 0x1000000; at < 0x1000400; at += 101) {
		flip(snap, at);
		assert_int_equal(restore(snap, &like, &err), -EBADMSG);
		flip(snap, at);
	}
	assert_int_equal(restore(snap, &like, &err), 0);
	assert_int_equal(ftruncate(snap, size - 1), 0);
	assert_int_equal(restore(snap, &like, &err), -EBADMSG);
	assert_int_equal(ftruncate(snap, 10), 0);
	assert_int_equal(restore(snap, &like, &err), -EBADMSG);
	assert_int_equal(restore(b.dir->fd, &like, &err), -EBADMSG);
	assert_int_equal(count_fds(), fds);
	close(like.kernel);
}

/* The sums are right, what they are of is not: refused, or a machine that ends by itself. */
static void seal(int fd, off_t size)
{
	struct snap_trailer t;
	off_t end = size - (off_t)sizeof(t);

	assert_int_equal(pread(fd, &t, sizeof(t), end), sizeof(t));

	autofree uint8_t *p = malloc(t.state_len);

	assert_int_equal(pread(fd, p, t.state_len, (off_t)t.memory), t.state_len);
	t.state_sum = snap_sum(1, p, t.state_len);
	t.sum = snap_sum(2, &t, offsetof(struct snap_trailer, sum));
	assert_int_equal(pwrite(fd, &t, sizeof(t), end), sizeof(t));
}

static void test_forged_snapshots(void **state)
{
	struct machine_opts o = opts("io"), like;
	unsigned refused = 0, ran = 0;
	struct vps_err err = {0};
	autoclose int snap = -1;
	unsigned fds;
	off_t size;

	start(&o);
	await_reads(20);
	snap = snapshot(true);
	end();
	size = lseek(snap, 0, SEEK_END);
	like = opts("not used");
	like.restore = snap;
	fds = count_fds();
	for (off_t at = MEMORY; at < size - 64; at += 101) {
		struct machine *m = NULL;

		flip(snap, at);
		seal(snap, size);
		vps_err_clear(&err);
		if (machine_new(&like, &m, &err) < 0) {
			refused++;
		} else {
			ran++;
			vm_resume(&m->vm);
			for (int i = 0; i < 4; i++)
				loop_once(&m->loop, 1);
			machine_free(m);
		}
		flip(snap, at);
	}
	seal(snap, size);
	assert_int_equal(restore(snap, &like, &err), 0);
	print_message("%u forged snapshots refused, %u ran\n", refused, ran);
	assert_true(refused > 5 && ran > 50);
	assert_int_equal(count_fds(), fds);
	close(like.kernel);
}

/* ---- pre-copy ---- */

static int new_file(void)
{
	int fd = memfd_create("round", MFD_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* One of a pre-copy that was given up a moment ago is in its way for that long. */
static struct vmm_round one_round(int *session, unsigned n, int fd)
{
	struct vmm_round done = {0};
	struct vps_err err = {0};

	for (int i = 0; i < 200; i++) {
		int r;

		vps_err_clear(&err);
		r = vmm_api_precopy(b.dir->fd, session, n, fd, &done, WAIT, &err);
		if (r == 0)
			return done;
		if (r != -EBUSY)
			break;
		usleep(10000);
	}
	fail_msg("round %u: %s", n, err.msg);
	return done;
}

#define N_ROUNDS 5

/* The last of them while it stands still; then a snapshot of the same instant with all of its memory. */
static int all_rounds(int rounds[N_ROUNDS], int *ret_whole)
{
	int session = -1, state = new_file();

	for (unsigned i = 0; i < N_ROUNDS; i++)
		rounds[i] = new_file();
	for (unsigned i = 0; i < N_ROUNDS - 1; i++) {
		struct vmm_round done = one_round(&session, i + 1, rounds[i]);

		if (i == 0)
			assert_int_equal(done.bytes + done.zeroes, MEMORY);
		else
			assert_in_range(done.bytes + done.zeroes, 1, MEMORY / 2);
		await_reads(4);
	}
	OK(vmm_api_snapshot_rounds(session, N_ROUNDS, rounds[N_ROUNDS - 1], state, true, WAIT, &err));
	assert_true(stats().paused);
	*ret_whole = snapshot(true);
	close(session);
	return state;
}

static void load_memory(struct gmem *g, const int *rounds, size_t n)
{
	struct vps_err err = {0};
	uint64_t sum;

	if (rounds_check(rounds, n, MEMORY, true, &sum, &err) < 0 || gmem_map(g, MEMORY, rounds[0], &err) < 0 ||
	    rounds_load(g, rounds, n, &err) < 0)
		fail_msg("%s", err.msg);
}

static void test_rounds_are_the_memory(void **state)
{
	struct machine_opts o = opts("dirty");
	int rounds[N_ROUNDS], whole;
	autoclose int st = -1;
	struct gmem got, want;

	start(&o);
	await_reads(20);
	st = all_rounds(rounds, &whole);
	end();
	load_memory(&got, rounds, N_ROUNDS);
	assert_int_equal(gmem_map(&want, MEMORY, whole, NULL), 0);
	for (uint64_t p = 0; p < MEMORY / GMEM_PAGE; p++)
		if (memcmp(got.base + p * GMEM_PAGE, want.base + p * GMEM_PAGE, GMEM_PAGE) != 0)
			fail_msg("page %#lx is not as it was", p);
	gmem_done(&got);
	gmem_done(&want);

	o = opts("not used");
	o.restore = st;
	o.verify = true;
	memcpy(o.rounds, rounds, sizeof(rounds));
	o.n_rounds = N_ROUNDS;
	start(&o);
	await_reads(5);
	/* and it can go on from there */
	for (unsigned i = 0; i < N_ROUNDS; i++)
		close(rounds[i]);
	close(st);
	close(whole);
	st = all_rounds(rounds, &whole);
	OK(vmm_api_resume(b.dir->fd, WAIT, &err));
	await_reads(5);
	for (unsigned i = 0; i < N_ROUNDS; i++)
		close(rounds[i]);
	close(whole);
}

/* Whose connection ends, his pre-copy does; a round out of turn, a second one, one that has no room. */
static void test_rounds_given_up(void **state)
{
	struct machine_opts o = opts("dirty");
	struct vmm_round done;
	int session = -1, other = -1, fd;

	start(&o);
	await_reads(5);
	assert_int_equal(vmm_api_precopy(b.dir->fd, &session, 2, fd = new_file(), &done, WAIT, NULL), -VPS_ESTATE);
	assert_int_equal(session, -1);
	one_round(&session, 1, fd);
	assert_int_equal(vmm_api_precopy(b.dir->fd, &other, 1, fd, &done, WAIT, NULL), -EBUSY);
	assert_int_equal(vmm_api_precopy(b.dir->fd, &other, 2, fd, &done, WAIT, NULL), -VPS_ESTATE);
	assert_int_equal(vmm_api_snapshot_rounds(-1, 2, fd, fd, true, WAIT, NULL), -VPS_ESTATE);
	close_fd(&session);
	close(fd);
	for (int i = 0; i < 20; i++) {
		fd = new_file();
		one_round(&session, 1, fd);
		close(fd);
		fd = new_file();
		one_round(&session, 2, fd);
		close_fd(&session);
		close(fd);
	}
	/* not even an answer is waited for */
	for (int i = 0; i < 20; i++) {
		struct vmm_request q = {.version = VMM_API_VERSION, .op = VMM_OP_PRECOPY, .arg = {1}};

		session = dial();
		fd = new_file();
		assert_true(sys_send_fds(session, &q, sizeof(q), &fd, 1) > 0);
		usleep((useconds_t)i * 500);
		close_fd(&session);
		close(fd);
	}
	fd = new_file();
	one_round(&session, 1, fd);
	close(fd);
	/* read-only: the pre-copy is over, the machine is not */
	fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	assert_int_equal(vmm_api_precopy(b.dir->fd, &session, 2, fd, &done, WAIT, NULL), -EINVAL);
	assert_int_equal(session, -1);
	close(fd);
	await_reads(5);
	fd = new_file();
	one_round(&session, 1, fd);
	close(fd);
	close_fd(&session);
}

/* ---- pure ---- */

static void test_cpu_fits(void **state)
{
	static struct cpuid_table seen = {
		.nent = 3,
		.entry = {{.function = 1, .ecx = 1u << 31 | 5, .edx = 1u << 28 | 3},
			  {.function = 7, .index = 0, .flags = 1, .ebx = 0x10},
			  {.function = 7, .index = 1, .flags = 1, .eax = 8}}};
	static struct cpuid_table have;
	char why[64];

	have = seen;
	have.entry[0].ecx = 7; /* what KVM makes itself is not compared */
	have.entry[0].edx = 0xff;
	assert_true(snapcpu_fits(&seen, &have, why, sizeof(why)));
	assert_string_equal(why, "");
	have.entry[2].eax = 0xf7;
	assert_false(snapcpu_fits(&seen, &have, why, sizeof(why)));
	assert_string_equal(why, "CPUID 0x7,1: eax bit 3");
	assert_true(snapcpu_fits(&have, &have, why, sizeof(why)));
	have.nent = 1;
	assert_false(snapcpu_fits(&seen, &have, why, sizeof(why)));
	assert_string_equal(why, "CPUID 0x7,0: ebx bit 4");
	assert_true(snapcpu_fits(&have, &seen, why, sizeof(why)) == false);
	have.nent = UINT32_MAX; /* no count is believed */
	snapcpu_fits(&have, &have, why, sizeof(why));
}

/* The same as a text. */
static void test_cpu_text(void **state)
{
	static const char *const bad[] = {"", "x86-1:", "x86-2:1.0.0.0.0.0.0.0.0.0.0.0.0.0", "x86-1:1.0.0.0.0.0.0.0.0.0.0.0.0",
					  "x86-1:1.0.0.0.0.0.0.0.0.0.0.0.0.0.0", "x86-1:1.0.0.0.0.0.0.0.0.0.0.0.0.0 "};
	uint32_t w[SNAPCPU_WORDS] = {0}, got[SNAPCPU_WORDS] = {0}, khz = 0;
	char text[SNAPCPU_TEXT], why[64];

	memset(w, 0xff, sizeof(w));
	snapcpu_text(w, UINT32_MAX, text);
	assert_true(strlen(text) < SNAPCPU_TEXT - 1);
	assert_int_equal(snapcpu_parse(text, got, &khz), 0);
	assert_memory_equal(w, got, sizeof(w));
	assert_int_equal(khz, UINT32_MAX);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(snapcpu_parse(bad[i], got, &khz), -EPROTO);
	got[2] = w[2] & ~(1u << 5);
	assert_false(snapcpu_words_fit(w, got, why, sizeof(why)));
	memcpy(got, w, sizeof(w));
	got[2] &= ~(1u << 5);
	assert_false(snapcpu_words_fit(w, got, why, sizeof(why)));
	assert_string_equal(why, "avx2: CPUID 0x7,0: ebx bit 5");
	assert_true(snapcpu_words_fit(got, w, why, sizeof(why)));
	/* RDCL_NO is a promise; IBRS_ALL (bit 1) and RSBA (bit 2, a fault) are none */
	assert_true(snapcpu_faults_fit(0, 0) && snapcpu_faults_fit(1, 1) && snapcpu_faults_fit(0, ~0ull) && snapcpu_faults_fit(6, 0));
	assert_false(snapcpu_faults_fit(1, 0) || snapcpu_faults_fit(1ull << 27, ~(1ull << 27)));
	assert_true(snapcpu_tsc_near(2000000, 2000100) && !snapcpu_tsc_near(2000000, 2100000) && snapcpu_tsc_near(0, 5));
}

/* What a machine says of its CPU, its own host has. */
static void test_cpu_here(void **state)
{
	struct machine_opts o = opts("io");
	struct vps_err why = {0};
	struct vmm_cpu cpu;
	uint32_t w[SNAPCPU_WORDS], khz;
	autoclose int kvm = kvm_open(-1, NULL);

	start(&o);
	OK(vmm_api_cpu(b.dir->fd, &cpu, WAIT, &err));
	if (snapcpu_check_host(kvm, cpu.text, &why) < 0)
		fail_msg("%s", why.msg);
	assert_int_equal(snapcpu_parse(cpu.text, w, &khz), 0);
	w[5] = UINT32_MAX;
	snapcpu_text(w, khz, cpu.text);
	assert_int_equal(snapcpu_check_host(kvm, cpu.text, &why), -VPS_EUNSUPPORTED);
	assert_non_null(strstr(why.msg, "CPUID 0x7,1: eax bit"));
	assert_int_equal(snapcpu_check_host(kvm, "x86-9:", NULL), -VPS_EUNSUPPORTED);
}

static void test_sum(void **state)
{
	uint8_t a[100] = {1}, c[100] = {1};

	assert_int_equal(snap_sum(1, a, 100), snap_sum(1, c, 100));
	for (size_t i = 0; i < sizeof(a) * 8; i++) {
		c[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_int_not_equal(snap_sum(1, a, 100), snap_sum(1, c, 100));
		c[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	assert_int_not_equal(snap_sum(1, a, 100), snap_sum(1, a, 99));
	assert_int_not_equal(snap_sum(1, a, 100), snap_sum(2, a, 100));
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest pure[] = {
		cmocka_unit_test(test_cpu_fits),
		cmocka_unit_test(test_cpu_text),
		cmocka_unit_test(test_sum),
	};
	const struct CMUnitTest machines[] = {
		T(test_lives),
		T(test_panic_is_told),
		T(test_pause_and_stats),
		T(test_rate_live),
		T(test_grow),
		T(test_written),
		T(test_odd_requests),
		T(test_snapshot),
		T(test_wrong_snapshots),
		T(test_forged_snapshots),
		T(test_cpu_here),
		T(test_rounds_are_the_memory),
		T(test_rounds_given_up),
	};
	struct vps_err err = {0};
	int r = cmocka_run_group_tests(pure, NULL, NULL);
	int kvm = kvm_open(-1, &err);

	if (kvm < 0) {
		printf("ok 3 - machines # SKIP %s\n", err.msg);
		return r;
	}
	close(kvm);
	return r | cmocka_run_group_tests(machines, NULL, NULL);
}
