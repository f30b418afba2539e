/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The client's side of vmm/api.h. The program that answers works for a hostile guest: nothing it
 * says is believed beyond what a request allows. */
#include "vmm/api.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

#include "base/mem.h"
#include "base/str.h"
#include "base/sys.h"

#define MS	    1000000ull
#define FRESH_MS    1000 /* numbers of the guest that need not be asked for again */
#define STATS_TRIES 5
#define STATS_MS    40

static uint64_t deadline_of(int timeout_ms)
{
	return timeout_ms < 0 ? UINT64_MAX : sys_now_mono() + (uint64_t)timeout_ms * MS;
}

static void sleep_ms(unsigned ms)
{
	struct timespec t = {.tv_nsec = ms * 1000000l};

	nanosleep(&t, NULL);
}

static int wait_for(int fd, short events, uint64_t deadline)
{
	struct pollfd p = {.fd = fd, .events = events};
	int r;

	do {
		uint64_t now = sys_now_mono();
		uint64_t left = now < deadline ? (deadline - now + MS - 1) / MS : 0;

		r = poll(&p, 1, left > INT32_MAX ? -1 : (int)left);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r == 0 ? -ETIMEDOUT : 0;
}

static int connect_to(int run_dir, uint64_t deadline)
{
	autoclose int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (fd < 0)
		return -errno;
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/" VMM_SOCKET, run_dir);
	/* EAGAIN: a full queue of connections, for which there is nothing to poll. */
	while (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		if (sys_now_mono() >= deadline)
			return -ETIMEDOUT;
		sleep_ms(5);
	}
	return take_fd(fd);
}

/* Words for what failed between us and the machine. */
static int failed(int r, struct vps_err *err)
{
	switch (r) {
	case -ENOENT:
	case -ECONNREFUSED:
	case -ECONNRESET:
	case -EPIPE:
		return vps_err_set(err, VPS_ESTATE, "the machine does not run");
	case -ETIMEDOUT:
		return vps_err_set(err, VPS_ETIMEDOUT, "the machine does not answer");
	}
	return vps_err_sys(err, r, "speak to the machine");
}

/* The machine's own words, made harmless. */
static int refused(const struct vmm_answer *a, struct vps_err *err)
{
	auto_strbuf words = STRBUF_INIT;
	int code = a->result > -2000 ? -a->result : EPROTO;

	sb_add_escaped(&words, a->why, strnlen(a->why, sizeof(a->why)));
	if (!words.len)
		return vps_err_sys(err, -code, "the machine");
	return vps_err_set(err, code, "%s", sb_str(&words));
}

struct call {
	struct vmm_request q;
	int fds[2]; /* to send along */
	size_t n_fds;
	int *session; /* a connection that stays: made when it is -1 */
	void *more; /* what comes behind the answer */
	size_t len;
	int *ret_fd; /* what comes beside it */
	uint64_t deadline;
};

static int exchange(int run_dir, struct call *c, struct vmm_answer *a)
{
	union {
		struct {
			struct vmm_answer a;
			struct vmm_stats stats;
		};
		uint8_t bytes[1];
	} buf;
	size_t n_fds = c->ret_fd ? 1 : 0;
	bool stays = c->session && *c->session >= 0;
	autoclose int made = stays ? -1 : connect_to(run_dir, c->deadline);
	int sock = stays ? *c->session : made, got = -1;

	if (sock < 0)
		return sock;
	c->q.version = VMM_API_VERSION;

	ssize_t n = sys_send_fds(sock, &c->q, sizeof(c->q), c->fds, c->n_fds);
	int r = n < 0 ? (int)n : wait_for(sock, POLLIN, c->deadline);

	if (r < 0)
		return r;
	n = sys_recv_fds(sock, &buf, sizeof(buf), &got, &n_fds);
	if (n <= 0)
		return n < 0 ? (int)n : -EPIPE;

	autoclose int fd = n_fds ? got : -1;

	if (n < (ssize_t)sizeof(buf.a) || buf.a.version != VMM_API_VERSION || buf.a.result > 0)
		return -EPROTO;
	*a = buf.a;
	if (a->result < 0)
		return 0;
	if (n != (ssize_t)(sizeof(buf.a) + c->len) || (c->ret_fd && fd < 0))
		return -EPROTO;
	if (c->len)
		memcpy(c->more, &buf.stats, c->len);
	if (c->ret_fd)
		*c->ret_fd = take_fd(fd);
	if (c->session && !stays)
		*c->session = take_fd(made);
	return 0;
}

static int call(int run_dir, struct call *c, struct vps_err *err)
{
	struct vmm_answer a = {0};
	int r = exchange(run_dir, c, &a);

	if (r < 0)
		return failed(r, err);
	return a.result < 0 ? refused(&a, err) : 0;
}

static int plain(int run_dir, uint32_t op, uint64_t arg0, uint64_t arg1, uint64_t arg2,
		 int timeout_ms, struct vps_err *err)
{
	struct call c = {
		.q = {.op = op, .arg = {arg0, arg1, arg2}},
		.deadline = deadline_of(timeout_ms),
	};

	return call(run_dir, &c, err);
}

/* A unix stream socket, and nothing that one could be tricked with. */
static bool is_stream(int fd)
{
	int type = 0, domain = 0;
	socklen_t len = sizeof(int);

	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 &&
	       getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && type == SOCK_STREAM &&
	       domain == AF_UNIX;
}

int vmm_api_vsock(int run_dir, uint32_t port, int timeout_ms, struct vps_err *err)
{
	autoclose int fd = -1;
	struct call c = {
		.q = {.op = VMM_OP_VSOCK, .arg = {port}},
		.ret_fd = &fd,
		.deadline = deadline_of(timeout_ms),
	};
	int r = call(run_dir, &c, err);

	if (r < 0)
		return r;
	return is_stream(fd) ? take_fd(fd) : failed(-EPROTO, err);
}

int vmm_api_pause(int run_dir, int timeout_ms, struct vps_err *err)
{
	return plain(run_dir, VMM_OP_PAUSE, 0, 0, 0, timeout_ms, err);
}

int vmm_api_resume(int run_dir, int timeout_ms, struct vps_err *err)
{
	return plain(run_dir, VMM_OP_RESUME, 0, 0, 0, timeout_ms, err);
}

int vmm_api_balloon(int run_dir, uint64_t bytes, int timeout_ms, struct vps_err *err)
{
	return plain(run_dir, VMM_OP_BALLOON, bytes, 0, 0, timeout_ms, err);
}

/* Counts and texts that a reader will trust. */
static void tame(struct vmm_stats *s)
{
	if (s->n_disks > VMM_MAX_DISKS)
		s->n_disks = VMM_MAX_DISKS;
	if (s->n_nets > VMM_MAX_NETS)
		s->n_nets = VMM_MAX_NETS;
	if (s->n_cpus > VMM_MAX_CPUS)
		s->n_cpus = VMM_MAX_CPUS;
	for (size_t i = 0; i < VMM_MAX_DISKS; i++)
		s->disk[i].serial[sizeof(s->disk[i].serial) - 1] = 0;
}

int vmm_api_stats(int run_dir, struct vmm_stats *ret, int timeout_ms, struct vps_err *err)
{
	struct vmm_stats s = {0};
	struct call c = {
		.q = {.op = VMM_OP_STATS},
		.more = &s,
		.len = sizeof(s),
		.deadline = deadline_of(timeout_ms),
	};
	int r = call(run_dir, &c, err);

	for (int i = 0; r == 0 && i < STATS_TRIES && s.guest.age_ms > FRESH_MS; i++) {
		if (sys_now_mono() + STATS_MS * MS >= c.deadline)
			break;
		sleep_ms(STATS_MS);
		r = call(run_dir, &c, err);
	}
	if (r < 0)
		return r;
	tame(&s);
	*ret = s;
	return 0;
}

int vmm_api_power(int run_dir, int timeout_ms, struct vps_err *err)
{
	return plain(run_dir, VMM_OP_POWER, 0, 0, 0, timeout_ms, err);
}

int vmm_api_rate(int run_dir, unsigned disk, uint64_t bytes_per_sec, uint64_t ops_per_sec,
		 int timeout_ms, struct vps_err *err)
{
	return plain(run_dir, VMM_OP_RATE, disk, bytes_per_sec, ops_per_sec, timeout_ms, err);
}

int vmm_api_grow(int run_dir, unsigned disk, int timeout_ms, struct vps_err *err)
{
	return plain(run_dir, VMM_OP_GROW, disk, 0, 0, timeout_ms, err);
}

int vmm_api_snapshot(int run_dir, int fd, bool stay_paused, int timeout_ms, struct vps_err *err)
{
	struct call c = {
		.q = {.op = VMM_OP_SNAPSHOT, .arg = {stay_paused}},
		.fds = {fd},
		.n_fds = 1,
		.deadline = deadline_of(timeout_ms),
	};

	return call(run_dir, &c, err);
}

int vmm_api_cpu(int run_dir, struct vmm_cpu *ret, int timeout_ms, struct vps_err *err)
{
	static const char may[] = "0123456789abcdefghijklmnopqrstuvwxyz.:-";
	struct vmm_cpu got = {0};
	struct call c = {
		.q = {.op = VMM_OP_CPU},
		.more = &got,
		.len = sizeof(got),
		.deadline = deadline_of(timeout_ms),
	};
	int r = call(run_dir, &c, err);

	if (r < 0)
		return r;
	got.text[sizeof(got.text) - 1] = 0;
	if (!*got.text || got.text[strspn(got.text, may)])
		return failed(-EPROTO, err);
	*ret = got;
	return 0;
}

int vmm_api_precopy(int run_dir, int *session, unsigned round, int fd, struct vmm_round *ret, int timeout_ms,
		    struct vps_err *err)
{
	struct vmm_round done = {0};
	struct call c = {
		.q = {.op = VMM_OP_PRECOPY, .arg = {round}},
		.fds = {fd},
		.n_fds = 1,
		.session = session,
		.more = &done,
		.len = sizeof(done),
		.deadline = deadline_of(timeout_ms),
	};
	int r = call(run_dir, &c, err);

	if (r < 0) /* of one that is not over yet, it is the end */
		close_fd(session);
	else
		*ret = done;
	return r;
}

int vmm_api_written(int run_dir, int *session, unsigned disk, int fd, int timeout_ms, struct vps_err *err)
{
	struct call c = {
		.q = {.op = VMM_OP_WRITTEN, .arg = {disk}},
		.fds = {fd},
		.n_fds = 1,
		.session = session,
		.deadline = deadline_of(timeout_ms),
	};
	int r = call(run_dir, &c, err);

	if (r < 0)
		close_fd(session);
	return r;
}

int vmm_api_snapshot_rounds(int session, unsigned round, int last_fd, int fd, bool stay_paused, int timeout_ms,
			    struct vps_err *err)
{
	struct call c = {
		.q = {.op = VMM_OP_SNAPSHOT, .arg = {stay_paused, round}},
		.fds = {fd, last_fd},
		.n_fds = 2,
		.session = &session,
		.deadline = deadline_of(timeout_ms),
	};

	if (session < 0)
		return vps_err_set(err, VPS_ESTATE, "no pre-copy is at work");
	return call(-1, &c, err);
}
