/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "base/sys.h"
#include "vmm/machine.h"
#include "vmm/snapcpu.h"
#include "vmm/snapshot.h"

struct reply {
	struct vmm_answer head;
	struct vmm_stats stats;
};

struct round_reply {
	struct vmm_answer head;
	struct vmm_round round;
};

static void end_logs(struct ctl *ctl)
{
	ctl->logs = NULL;
	for (size_t i = 0; i < ctl->m->n_disks; i++)
		blk_log_end(&ctl->m->disks[i]);
}

static void client_free(struct ctl_client *c)
{
	for (size_t i = 0; i < CTL_CLIENTS; i++)
		if (c->ctl->client[i] == c)
			c->ctl->client[i] = NULL;
	vsock_cancel(&c->ctl->m->vsock, c);
	if (c->ctl->precopies == c) {
		c->ctl->precopies = NULL;
		precopy_end(&c->ctl->m->precopy);
	}
	if (c->ctl->logs == c)
		end_logs(c->ctl);
	loop_remove(c->ctl->loop, &c->s);
	close_fd(&c->s.fd);
	close_fd(&c->theirs);
	free(c);
}

/* A client that does not take its answer is ended by its next event. */
static void answer(struct ctl_client *c, int r, const char *why, int fd)
{
	struct vmm_answer a = {.version = VMM_API_VERSION, .result = r};

	snprintf(a.why, sizeof(a.why), "%s", why);
	if (sys_send_fds(c->s.fd, &a, sizeof(a), &fd, fd >= 0) < 0)
		shutdown(c->s.fd, SHUT_RDWR);
}

void ctl_connected(struct ctl *ctl, void *client, int r)
{
	struct ctl_client *c = client;

	answer(c, r, r < 0 ? "the guest refused the connection" : "", r < 0 ? -1 : c->theirs);
	close_fd(&c->theirs);
}

void ctl_precopied(struct ctl *ctl, void *client, int r, const char *why, const struct vmm_round *round)
{
	struct round_reply a = {.head.version = VMM_API_VERSION, .round = *round};
	struct ctl_client *c = client;

	if (r < 0)
		answer(c, r, why, -1);
	else if (sys_send_fds(c->s.fd, &a, sizeof(a), NULL, 0) < 0)
		shutdown(c->s.fd, SHUT_RDWR);
}

static int op_precopy(struct ctl_client *c, uint64_t number, int *fd, struct vps_err *err)
{
	struct ctl *ctl = c->ctl;
	int r;

	if (*fd < 0)
		return vps_err_set(err, EINVAL, "no file came with the request");
	if (number > 1 && ctl->precopies != c)
		return vps_err_set(err, VPS_ESTATE, "no pre-copy of this connection is at work");
	r = precopy_round(&ctl->m->precopy, number, *fd, c, err);
	if (r < 0)
		return r;
	take_fd(*fd);
	ctl->precopies = c;
	return 1;
}

static int op_vsock(struct ctl_client *c, uint64_t port, struct vps_err *err)
{
	int sv[2];

	if (c->ctl->m->waker.pending)
		return vps_err_set(err, ECONNREFUSED, "the guest has just been restored");
	if (c->theirs >= 0)
		return vps_err_set(err, EBUSY, "the last request is not answered yet");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		return vps_err_sys(err, -errno, "make a socket");
	c->theirs = sv[1];

	int r = port > UINT32_MAX ? -EINVAL
				  : vsock_connect(&c->ctl->m->vsock, (uint32_t)port, sv[0], c);

	if (r == 0)
		return 1; /* the answer comes with the guest's */
	/* Nobody closed it when we did not get so far. */
	if (r == -EINVAL)
		close(sv[0]);
	close_fd(&c->theirs);
	return vps_err_set(err, -r, "the guest takes no connections now");
}

static struct blk *disk_of(struct machine *m, uint64_t n)
{
	return n < m->n_disks ? &m->disks[n] : NULL;
}

static int no_disk(uint64_t n, struct vps_err *err)
{
	return vps_err_set(err, ENOENT, "no disk number %llu", (unsigned long long)n);
}

static int op_written(struct ctl_client *c, uint64_t disk, int fd, struct vps_err *err)
{
	struct blk *b = disk_of(c->ctl->m, disk);
	int r;

	if (!b)
		return no_disk(disk, err);
	if (fd < 0)
		return vps_err_set(err, EINVAL, "no file came with the request");
	if (c->ctl->logs && c->ctl->logs != c)
		return vps_err_set(err, EBUSY, "another one asks what is written");
	c->ctl->logs = c;
	r = blk_log(b, fd, err);
	if (r < 0)
		end_logs(c->ctl);
	return r;
}

static void op_stats(struct ctl_client *c)
{
	struct reply r = {.head.version = VMM_API_VERSION};

	machine_stats(c->ctl->m, &r.stats);
	if (sys_send_fds(c->s.fd, &r, sizeof(r), NULL, 0) < 0)
		shutdown(c->s.fd, SHUT_RDWR);
}

static void op_cpu(struct ctl_client *c)
{
	struct {
		struct vmm_answer head;
		struct vmm_cpu cpu;
	} a = {.head.version = VMM_API_VERSION};
	struct vcpu *v = &c->ctl->m->vm.cpus[0];
	int khz = c->ctl->m->tsc_khz;
	uint32_t words[SNAPCPU_WORDS];

	_Static_assert(sizeof(a.cpu.text) == SNAPCPU_TEXT, "room for it");
	snapcpu_words(v->cpuid, words);
	snapcpu_text(words, khz > 0 ? (uint32_t)khz : 0, a.cpu.text);
	if (sys_send_fds(c->s.fd, &a, sizeof(a), NULL, 0) < 0)
		shutdown(c->s.fd, SHUT_RDWR);
}

static int op_snapshot(struct ctl_client *c, const struct vmm_request *q, const int fds[2], struct vps_err *err)
{
	struct machine *m = c->ctl->m;
	bool was = m->paused, stay = q->arg[0];
	uint64_t rounds = q->arg[1];
	int r = 0;

	if (fds[0] < 0 || (rounds && fds[1] < 0))
		return vps_err_set(err, EINVAL, "no file came with the request");
	if (rounds && c->ctl->precopies != c)
		return vps_err_set(err, VPS_ESTATE, "no pre-copy of this connection is at work");
	machine_pause(m);
	if (rounds)
		r = precopy_last(&m->precopy, rounds, fds[1], err);
	r = r < 0 ? r : snapshot_write(m, fds[0], (unsigned)rounds, rounds ? m->precopy.sum : 0, err);

	if (!was && !(stay && r == 0))
		machine_resume(m);
	return r;
}

/* 0, a negative code, or 1: somebody else answers. */
static int handle(struct ctl_client *c, const struct vmm_request *q, int fds[2], struct vps_err *err)
{
	struct machine *m = c->ctl->m;
	struct blk *b;

	switch (q->op) {
	case VMM_OP_VSOCK:
		return op_vsock(c, q->arg[0], err);
	case VMM_OP_PAUSE:
		machine_pause(m);
		return 0;
	case VMM_OP_RESUME:
		machine_resume(m);
		return 0;
	case VMM_OP_BALLOON:
		balloon_set(&m->balloon, q->arg[0]);
		return 0;
	case VMM_OP_STATS:
		op_stats(c);
		return 1;
	case VMM_OP_POWER:
		vm_press_power(&m->vm);
		return 0;
	case VMM_OP_RATE:
		b = disk_of(m, q->arg[0]);
		if (b)
			blk_set_rate(b, q->arg[1], q->arg[2]);
		return b ? 0 : no_disk(q->arg[0], err);
	case VMM_OP_GROW:
		b = disk_of(m, q->arg[0]);
		return b ? blk_grow(b, err) : no_disk(q->arg[0], err);
	case VMM_OP_SNAPSHOT:
		return op_snapshot(c, q, fds, err);
	case VMM_OP_CPU:
		op_cpu(c);
		return 1;
	case VMM_OP_WRITTEN:
		return op_written(c, q->arg[0], fds[0], err);
	case VMM_OP_PRECOPY:
		return op_precopy(c, q->arg[0], &fds[0], err);
	}
	return vps_err_set(err, ENOSYS, "no request number %u", q->op);
}

static void on_client(struct loop_source *s, uint32_t events)
{
	struct ctl_client *c = container_of(s, struct ctl_client, s);
	struct vps_err err = {0};
	struct vmm_request q;
	size_t n_fds = 2;
	int fds[2] = {-1, -1}, r;
	ssize_t n = sys_recv_fds(s->fd, &q, sizeof(q), fds, &n_fds);

	if (n == -EAGAIN)
		return;
	if (n <= 0 && n != -EMSGSIZE) {
		client_free(c);
		return;
	}
	if (n != sizeof(q) || q.version != VMM_API_VERSION)
		r = vps_err_set(&err, EPROTO, "not of version %d", VMM_API_VERSION);
	else
		r = handle(c, &q, fds, &err);
	close_fd(&fds[0]);
	close_fd(&fds[1]);
	if (r <= 0)
		answer(c, r, err.msg, -1);
}

static void on_listener(struct loop_source *s, uint32_t events)
{
	struct ctl *ctl = container_of(s, struct ctl, listener);
	autoclose int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	size_t i = 0;

	while (i < CTL_CLIENTS && ctl->client[i])
		i++;
	if (fd < 0 || i == CTL_CLIENTS)
		return;

	autofree struct ctl_client *c = calloc(1, sizeof(*c));

	if (!c)
		return;
	*c = (struct ctl_client){
		.s = {.fd = fd, .fn = on_client},
		.ctl = ctl,
		.theirs = -1,
	};
	if (loop_watch(ctl->loop, &c->s, EPOLLIN) < 0)
		return;
	take_fd(fd);
	ctl->client[i] = take_ptr(c);
}

int ctl_init(struct ctl *c, struct machine *m, struct loop *l, int fd)
{
	*c = (struct ctl){.m = m, .loop = l, .listener = {.fd = fd, .fn = on_listener}};
	if (fd < 0)
		return 0;

	int fl = fcntl(fd, F_GETFL);

	if (fl < 0 || fcntl(fd, F_SETFL, fl | O_NONBLOCK) < 0)
		return -errno;
	return loop_watch(l, &c->listener, EPOLLIN);
}

void ctl_done(struct ctl *c)
{
	if (!c->loop)
		return;
	for (size_t i = 0; i < CTL_CLIENTS; i++)
		if (c->client[i])
			client_free(c->client[i]);
	loop_remove(c->loop, &c->listener);
}
