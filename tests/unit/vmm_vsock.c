/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The socket device: both directions, credit, ends, and a hostile guest. */
#include "tests/unit/base_util.h"
#include "tests/unit/vmm_driver.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

#include "base/sys.h"
#include "vmm/stopper.h"
#include "vmm/waker.h"
#include "vmm/vsock.h"

#define CID  7
#define SLOT 0x1000 /* an rx buffer */
#define RXS  8
#define HDR  ((uint32_t)sizeof(struct virtio_vsock_hdr))

static struct drv d;
#define vdev_kicked(v) drv_kicked(&d, (v))
static struct vsock vs;
static struct loop loop;
static int host_fd = -1; /* of the connection that the guest opened last, our end */
static uint32_t host_port;
static bool refuse;
static int told;     /* of connected, or 1 */
static uint32_t fwd; /* what we tell as our fwd_cnt */

static int on_accept(struct vsock_host *h, uint32_t port, uint32_t from, int ret[2])
{
	int sv[2];

	if (refuse)
		return -ECONNREFUSED;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	host_fd = sv[0];
	host_port = port;
	ret[0] = sv[1];
	ret[1] = dup(sv[1]);
	return 0;
}

static void on_connected(struct vsock_host *h, void *who, int r)
{
	assert_ptr_equal(who, &told);
	told = r;
}

static struct vsock_host host = {.accept = on_accept, .connected = on_connected};

static void give_rx(uint16_t i)
{
	put_desc(&d, RING(0), i, DATA + SLOT * (uint64_t)i, SLOT, W, 0);
	drv_avail(&d, 0, i);
	set_reg(&d, VDEV_NOTIFY, 0);
}

static void turn(void)
{
	for (int i = 0; i < 1000 && loop_once(&loop, 0) > 0; i++)
		;
}

static int setup(void **state)
{
	memset(&d, 0, sizeof(d));
	d.v = &vs.dev;
	fwd = 0;
	told = 1;
	refuse = false;
	if (gmem_map(&d.mem, MEM_SIZE, -1, NULL) || loop_init(&loop) ||
	    vsock_init(&vs, &d.mem, CID, &host) || vsock_attach_loop(&vs, &loop))
		return -1;
	drv_start(&d, 1ull << VIRTIO_RING_F_EVENT_IDX, 16);
	for (uint16_t i = 0; i < RXS; i++)
		give_rx(i);
	turn();
	return 0;
}

static int teardown(void **state)
{
	vsock_done(&vs);
	loop_done(&loop);
	gmem_done(&d.mem);
	return 0;
}

/* A packet of the guest with len bytes of data. */
static void say(uint16_t op, uint32_t from, uint32_t to, uint32_t flags, const void *data,
		uint32_t len)
{
	struct virtio_vsock_hdr h = {
		.src_cid = CID,
		.dst_cid = 2,
		.src_port = from,
		.dst_port = to,
		.len = len,
		.type = 1,
		.op = op,
		.flags = flags,
		.buf_alloc = 3 * SLOT,
		.fwd_cnt = fwd,
	};
	struct vring_used_elem e;
	uint64_t at = DATA + 0x100000;

	gmem_write(&d.mem, at, &h, HDR);
	if (len)
		gmem_write(&d.mem, at + HDR, data, len);
	put_desc(&d, RING(1), 0, at, HDR + len, 0, 0);
	drv_avail(&d, 1, 0);
	set_reg(&d, VDEV_NOTIFY, 1);
	turn();
	assert_int_equal(drv_used(&d, 1, &e), 1);
}

/* The next packet to the guest; its op, or -1. Data into buf of SLOT bytes. */
static int hear(struct virtio_vsock_hdr *h, void *buf)
{
	struct vring_used_elem e;

	turn();
	if (!drv_used(&d, 0, &e))
		return -1;
	gmem_read(&d.mem, DATA + SLOT * (uint64_t)e.id, h, HDR);
	assert_int_equal(e.len, HDR + h->len);
	assert_true(h->src_cid == 2 && h->dst_cid == CID && h->type == 1);
	if (buf)
		gmem_read(&d.mem, DATA + SLOT * (uint64_t)e.id + HDR, buf, h->len);
	give_rx((uint16_t)e.id);
	return h->op;
}

/* The guest connects to port of the host; our end. */
static int guest_connects(uint32_t from, uint32_t port)
{
	struct virtio_vsock_hdr h;

	host_fd = -1;
	say(VIRTIO_VSOCK_OP_REQUEST, from, port, 0, NULL, 0);
	assert_true(host_fd >= 0);
	assert_int_equal(host_port, port);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(h.buf_alloc, VSOCK_BUF);
	fcntl(host_fd, F_SETFL, O_RDWR | O_NONBLOCK);
	return host_fd;
}

/* The host connects to port of the guest; our end. */
static int host_connects(uint32_t port, struct virtio_vsock_hdr *h)
{
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	assert_int_equal(vsock_connect(&vs, port, sv[1], &told), 0);
	assert_int_equal(hear(h, NULL), VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(h->dst_port, port);
	fcntl(sv[0], F_SETFL, O_RDWR | O_NONBLOCK);
	return sv[0];
}

static void test_guest_to_host(void **state)
{
	autoclose int fd = guest_connects(1000, 5);
	struct virtio_vsock_hdr h;
	char buf[SLOT];

	say(VIRTIO_VSOCK_OP_RW, 1000, 5, 0, "ping", 4);
	assert_int_equal(read(fd, buf, sizeof(buf)), 4);
	assert_memory_equal(buf, "ping", 4);
	assert_int_equal(write(fd, "pong!", 5), 5);
	assert_int_equal(hear(&h, buf), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(h.len, 5);
	assert_int_equal(h.fwd_cnt, 4);
	assert_memory_equal(buf, "pong!", 5);
	/* half an end from us, the rest from the guest */
	shutdown(fd, SHUT_WR);
	assert_int_equal(hear(&h, buf), VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	say(VIRTIO_VSOCK_OP_RW, 1000, 5, 0, "last", 4);
	say(VIRTIO_VSOCK_OP_SHUTDOWN, 1000, 5, 3, NULL, 0);
	assert_int_equal(hear(&h, buf), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(read(fd, buf, sizeof(buf)), 4);
	assert_int_equal(read(fd, buf, sizeof(buf)), 0);
	assert_int_equal(vsock_n_conns(&vs), 0);
}

static void test_host_to_guest(void **state)
{
	struct virtio_vsock_hdr h;
	char buf[SLOT];
	autoclose int fd = host_connects(52, &h);
	uint32_t us = h.src_port;

	assert_int_equal(write(fd, "early", 5), 5);
	assert_int_equal(hear(&h, buf), -1); /* not before the answer */
	assert_int_equal(told, 1);
	say(VIRTIO_VSOCK_OP_RESPONSE, 52, us, 0, NULL, 0);
	assert_int_equal(told, 0);
	assert_int_equal(hear(&h, buf), VIRTIO_VSOCK_OP_RW);
	assert_memory_equal(buf, "early", 5);
	say(VIRTIO_VSOCK_OP_SHUTDOWN, 52, us, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	assert_int_equal(read(fd, buf, sizeof(buf)), 0);
	assert_int_equal(write(fd, "more", 4), 4); /* the other way is open */
	assert_int_equal(hear(&h, buf), VIRTIO_VSOCK_OP_RW);
	say(VIRTIO_VSOCK_OP_RST, 52, us, 0, NULL, 0);
	assert_int_equal(vsock_n_conns(&vs), 0);
	/* refused */
	autoclose int no = host_connects(53, &h);

	assert_int_not_equal(h.src_port, us);
	say(VIRTIO_VSOCK_OP_RST, 53, h.src_port, 0, NULL, 0);
	assert_int_equal(told, -ECONNREFUSED);
	assert_int_equal(read(no, buf, sizeof(buf)), 0);
	/* nobody waits any more */
	autoclose int gone = host_connects(54, &h);

	told = 1;
	vsock_cancel(&vs, &told);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(h.dst_port, 54);
	assert_int_equal(told, 1);
	assert_int_equal(read(gone, buf, sizeof(buf)), 0);
	/* no driver */
	set_reg(&d, VIRTIO_MMIO_STATUS, 0);
	turn();
	assert_int_equal(vsock_connect(&vs, 52, dup(gone), &told), -ECONNREFUSED);
}

/* We send no more than the guest has room for, and go on when it tells. */
static void test_guests_credit(void **state)
{
	autoclose int fd = guest_connects(1000, 5);
	static char big[100000];
	char buf[SLOT];
	struct virtio_vsock_hdr h;
	uint32_t got = 0;

	assert_true(write(fd, big, sizeof(big)) > 3 * SLOT);
	while (hear(&h, buf) == VIRTIO_VSOCK_OP_RW)
		got += h.len;
	assert_int_equal(got, 3 * SLOT);
	turn();
	fwd = 1000;
	say(VIRTIO_VSOCK_OP_CREDIT_UPDATE, 1000, 5, 0, NULL, 0);
	while (hear(&h, buf) == VIRTIO_VSOCK_OP_RW)
		got += h.len;
	assert_int_equal(got, 3 * SLOT + 1000);
	fwd = 0x80000000; /* nonsense is no credit */
	say(VIRTIO_VSOCK_OP_CREDIT_UPDATE, 1000, 5, 0, NULL, 0);
	assert_int_equal(hear(&h, buf), -1);
}

/* A host that does not read: the guest may send VSOCK_BUF, and more ends the connection. */
static void test_our_credit(void **state)
{
	autoclose int fd = guest_connects(1000, 5);
	static char big[SLOT * 4], buf[VSOCK_BUF * 8];
	struct virtio_vsock_hdr h;
	size_t sent = 0, got = 0;
	ssize_t n;
	int op = -1;

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7);
	/* The unix socket holds some, too. Fill it and then our buffer. */
	while (op != VIRTIO_VSOCK_OP_RST && sent < sizeof(buf)) {
		say(VIRTIO_VSOCK_OP_RW, 1000, 5, 0, big, sizeof(big));
		sent += sizeof(big);
		while ((op = hear(&h, NULL)) == VIRTIO_VSOCK_OP_CREDIT_UPDATE)
			assert_true(sent - h.fwd_cnt <= VSOCK_BUF);
	}
	assert_int_equal(op, VIRTIO_VSOCK_OP_RST);
	assert_int_equal(vsock_n_conns(&vs), 0);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		got += (size_t)n;
	assert_int_equal(n, 0);
	assert_true(got > 0 && got <= sent);
}

/* A slow host gets all, in order, through our buffer; the guest is told of the room. */
static void test_slow_reader(void **state)
{
	autoclose int fd = guest_connects(1000, 5);
	struct virtio_vsock_hdr h;
	uint32_t sent = 0, known = 0, got = 0;
	uint8_t out[SLOT], in[3000];
	ssize_t n;

	while (got < 2 << 20) {
		while (sent - known + SLOT <= VSOCK_BUF && sent < 2 << 20) {
			for (uint32_t i = 0; i < SLOT; i++)
				out[i] = (uint8_t)((sent + i) % 251);
			say(VIRTIO_VSOCK_OP_RW, 1000, 5, 0, out, SLOT);
			sent += SLOT;
		}
		while ((n = read(fd, in, sizeof(in))) > 0) {
			for (ssize_t i = 0; i < n; i++)
				if (in[i] != (got + (uint32_t)i) % 251)
					fail_msg("byte %zu is wrong", got + (size_t)i);
			got += (uint32_t)n;
		}
		while (hear(&h, NULL) == VIRTIO_VSOCK_OP_CREDIT_UPDATE)
			known = h.fwd_cnt;
	}
	assert_int_equal(vsock_n_conns(&vs), 1);
}

static void test_forged_and_stray(void **state)
{
	struct virtio_vsock_hdr h;

	say(VIRTIO_VSOCK_OP_RW, 9, 9, 0, "x", 1);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_RST);
	assert_true(h.src_port == 9 && h.dst_port == 9);
	say(VIRTIO_VSOCK_OP_RST, 9, 9, 0, NULL, 0); /* no answer to that */
	assert_int_equal(hear(&h, NULL), -1);
	say(99, 9, 9, 0, NULL, 0);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_RST);

	autoclose int fd = guest_connects(1000, 5);

	say(VIRTIO_VSOCK_OP_REQUEST, 1000, 5, 0, NULL, 0); /* again */
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(vsock_n_conns(&vs), 0);
	/* from another address: as if it never came */
	h = (struct virtio_vsock_hdr){.src_cid = 3, .dst_cid = 2, .type = 1, .op = 1};
	gmem_write(&d.mem, DATA + 0x100000, &h, HDR);
	put_desc(&d, RING(1), 0, DATA + 0x100000, HDR, 0, 0);
	drv_avail(&d, 1, 0);
	set_reg(&d, VDEV_NOTIFY, 1);
	assert_int_equal(hear(&h, NULL), -1);
}

static void test_lying_length(void **state)
{
	struct virtio_vsock_hdr h = {
		.src_cid = CID, .dst_cid = 2, .type = 1, .op = VIRTIO_VSOCK_OP_RW, .len = 1};

	gmem_write(&d.mem, DATA + 0x100000, &h, HDR);
	put_desc(&d, RING(1), 0, DATA + 0x100000, HDR, 0, 0);
	drv_avail(&d, 1, 0);
	set_reg(&d, VDEV_NOTIFY, 1);
	turn();
	assert_true(NEEDS_RESET(&d));
}

static void test_many_and_reset(void **state)
{
	struct virtio_vsock_hdr h;
	int fd[VSOCK_CONNS];
	char c;

	for (uint32_t i = 0; i < VSOCK_CONNS; i++)
		fd[i] = guest_connects(2000 + i, 5);
	say(VIRTIO_VSOCK_OP_REQUEST, 1, 5, 0, NULL, 0);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_RST);
	set_reg(&d, VIRTIO_MMIO_STATUS, 0);
	turn();
	assert_int_equal(vsock_n_conns(&vs), 0);
	for (size_t i = 0; i < VSOCK_CONNS; i++) {
		assert_int_equal(read(fd[i], &c, 1), 0);
		close(fd[i]);
	}
}

/* Our end is gone while data waits for it, and the loop does not spin on it. */
static void test_host_leaves(void **state)
{
	int fd = guest_connects(1000, 5);
	struct virtio_vsock_hdr h;

	close(fd);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_SHUTDOWN);
	turn(); /* the buffer given back */
	assert_int_equal(loop_once(&loop, 0), 0);
	say(VIRTIO_VSOCK_OP_RW, 1000, 5, 0, "to nobody", 9);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_RST);
	assert_int_equal(vsock_n_conns(&vs), 0);
	turn(); /* the buffer given back */
	assert_int_equal(loop_once(&loop, 0), 0);
	/* nobody takes connections any more */
	refuse = true;
	say(VIRTIO_VSOCK_OP_REQUEST, 1, 5, 0, NULL, 0);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_RST);
}

/* One way each: a pipe to read, a pipe to write; and files, for which epoll has no use. */
static int pipes[2][2];

static int give_pipes(struct vsock_host *h, uint32_t port, uint32_t from, int ret[2])
{
	ret[0] = port == 16 ? pipes[0][0] : port == 19 ? open("/dev/null", O_RDONLY) : -1;
	ret[1] = port == 17 ? pipes[1][1] : -1;
	return 0;
}

static void test_one_way(void **state)
{
	struct virtio_vsock_hdr h;
	char buf[SLOT];

	assert_int_equal(pipe(pipes[0]), 0);
	assert_int_equal(pipe(pipes[1]), 0);
	host.accept = give_pipes;
	say(VIRTIO_VSOCK_OP_REQUEST, 1000, 16, 0, NULL, 0);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_RESPONSE);
	say(VIRTIO_VSOCK_OP_REQUEST, 1000, 17, 0, NULL, 0);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.flags, VIRTIO_VSOCK_SHUTDOWN_SEND);
	/* in */
	assert_int_equal(write(pipes[0][1], "input", 5), 5);
	assert_int_equal(hear(&h, buf), VIRTIO_VSOCK_OP_RW);
	assert_memory_equal(buf, "input", 5);
	say(VIRTIO_VSOCK_OP_RW, 1000, 16, 0, "dropped", 7);
	close(pipes[0][1]);
	assert_int_equal(hear(&h, buf), VIRTIO_VSOCK_OP_SHUTDOWN);
	assert_int_equal(h.src_port, 16);
	/* out */
	say(VIRTIO_VSOCK_OP_RW, 1000, 17, 0, "output", 6);
	assert_int_equal(read(pipes[1][0], buf, sizeof(buf)), 6);
	say(VIRTIO_VSOCK_OP_SHUTDOWN, 1000, 17, VIRTIO_VSOCK_SHUTDOWN_SEND, NULL, 0);
	assert_int_equal(read(pipes[1][0], buf, sizeof(buf)), 0);
	close(pipes[1][0]);
	assert_int_equal(vsock_n_conns(&vs), 2);
	/* no end before the answer, though it is there at once */
	say(VIRTIO_VSOCK_OP_REQUEST, 1000, 19, 0, NULL, 0);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_RESPONSE);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_SHUTDOWN);
	turn();
	assert_int_equal(loop_once(&loop, 0), 0);
	host.accept = on_accept;
}

/* After a restore the guest is told once. */
static void test_peers_reset(void **state)
{
	struct virtio_vsock_event e = {.id = 7};
	struct vring_used_elem u;

	vsock_reset_peers(&vs);
	turn(); /* no buffer yet */
	put_desc(&d, RING(2), 0, DATA + 0x200000, sizeof(e), W, 0);
	gmem_write(&d.mem, DATA + 0x200000, &e, sizeof(e));
	drv_avail(&d, 2, 0);
	set_reg(&d, VDEV_NOTIFY, 2);
	turn();
	assert_int_equal(drv_used(&d, 2, &u), 1);
	gmem_read(&d.mem, DATA + 0x200000, &e, sizeof(e));
	assert_int_equal(e.id, VIRTIO_VSOCK_EVENT_TRANSPORT_RESET);
	drv_avail(&d, 2, 0);
	set_reg(&d, VDEV_NOTIFY, 2);
	turn();
	assert_int_equal(drv_used(&d, 2, &u), 0);
}

/* ---- the guest is asked to stop ---- */

static struct vm machine;
static struct stopper stopper;

static bool pressed(void)
{
	eventfd_t n;

	turn();
	return eventfd_read(machine.power_irq, &n) == 0;
}

/* The agent answers len bytes (0: its end; -1: nothing) to the request. */
static void ask(const char *answer, int len)
{
	struct virtio_vsock_hdr h;
	char buf[SLOT];
	uint32_t us;

	stopper_ask(&stopper);
	stopper_ask(&stopper);
	assert_int_equal(vsock_n_conns(&vs), 1);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_REQUEST);
	assert_int_equal(h.dst_port, 1);
	us = h.src_port;
	assert_int_equal(hear(&h, NULL), -1);
	say(VIRTIO_VSOCK_OP_RESPONSE, 1, us, 0, NULL, 0);
	assert_int_equal(hear(&h, buf), VIRTIO_VSOCK_OP_RW);
	assert_int_equal(h.len, 24);
	assert_memory_equal(buf, "\1\0\0\0\10\0\0\0VPSA\1\0\0\0\27\0\0\0\0\0\0\0", 24);
	/* in two parts, as streams go */
	if (len > 1)
		say(VIRTIO_VSOCK_OP_RW, 1, us, 0, answer, 1);
	if (len > 1)
		say(VIRTIO_VSOCK_OP_RW, 1, us, 0, answer + 1, (uint32_t)len - 1);
	if (len == 0)
		say(VIRTIO_VSOCK_OP_SHUTDOWN, 1, us, 3, NULL, 0);
}

static void forget(void)
{
	struct virtio_vsock_hdr h;

	for (unsigned i = 0; i < 4; i++)
		hear(&h, NULL);
	set_reg(&d, VIRTIO_MMIO_STATUS, 0);
	turn();
	drv_start(&d, 1ull << VIRTIO_RING_F_EVENT_IDX, 16);
	for (uint16_t i = 0; i < RXS; i++)
		give_rx(i);
	turn();
}

static void test_stopper(void **state)
{
	static const char yes[] = "\1\0\0\0\10\0\0\0VPSA\1\0\0\0\103\0\0\0\0\0\0\0";
	static const char no[] = "\1\0\0\0\10\0\0\0VPSA\1\0\0\0\104\0\0\0\0\0\0\0";
	static const char odd[] = "\1\0\0\0\10\0\0\0SSH-\1\0\0\0\103\0\0\0\0\0\0\0";
	const struct itimerspec now = {.it_value.tv_nsec = 1};
	struct virtio_vsock_hdr h;

	machine.power_irq = eventfd(0, EFD_NONBLOCK);
	assert_int_equal(stopper_init(&stopper, &machine, &vs, &loop), 0);
	ask(yes, 24);
	assert_false(pressed());
	assert_int_equal(stopper.agent.fd, -1);
	forget();
	ask(no, 24);
	assert_true(pressed());
	forget();
	ask(odd, 24);
	assert_true(pressed());
	forget();
	ask(NULL, 0);
	assert_true(pressed());
	forget();
	/* patience has an end, and begins anew each time */
	ask(NULL, -1);
	assert_false(pressed());
	timerfd_settime(stopper.timer.fd, 0, &now, NULL);
	usleep(1000);
	assert_true(pressed());
	assert_int_equal(stopper.agent.fd, -1);
	forget();
	/* refused; no driver */
	stopper_ask(&stopper);
	assert_int_equal(hear(&h, NULL), VIRTIO_VSOCK_OP_REQUEST);
	assert_false(pressed());
	say(VIRTIO_VSOCK_OP_RST, 1, h.src_port, 0, NULL, 0);
	assert_true(pressed());
	set_reg(&d, VIRTIO_MMIO_STATUS, 0);
	turn();
	stopper_ask(&stopper);
	assert_true(pressed());
	stopper_done(&stopper);
	close(machine.power_irq);
}

/* ---- the guest goes on from a snapshot ---- */

static struct waker waker;

/* The end of the last connection may come in between. */
static void hear_next(int op, struct virtio_vsock_hdr *h, void *buf)
{
	do
		assert_true(hear(h, buf) >= 0);
	while (h->op != op);
}

/* Its next connection; the guest's port 1 answers len bytes, or resets it. */
static void wake(uint8_t seed[64], const char *answer, int len)
{
	struct virtio_vsock_hdr h;
	char buf[SLOT];
	uint64_t now;
	uint32_t us;

	hear_next(VIRTIO_VSOCK_OP_REQUEST, &h, NULL);
	assert_int_equal(h.dst_port, 1);
	us = h.src_port;
	say(VIRTIO_VSOCK_OP_RESPONSE, 1, us, 0, NULL, 0);
	hear_next(VIRTIO_VSOCK_OP_RW, &h, buf);
	assert_int_equal(h.len, 96);
	assert_memory_equal(buf, "\1\0\0\0\10\0\0\0VPSA\1\0\0\0\42\0\0\0\110\0\0\0", 24);
	memcpy(&now, buf + 24, 8);
	assert_true(now > 1700000000ull * 1000000000 && now <= sys_now_real());
	memcpy(seed, buf + 32, 64);
	if (len)
		say(VIRTIO_VSOCK_OP_RW, 1, us, 0, answer, (uint32_t)len);
	else
		say(VIRTIO_VSOCK_OP_RST, 1, us, 0, NULL, 0);
	turn();
}

static void test_waker(void **state)
{
	static const char yes[] = "\1\0\0\0\10\0\0\0VPSA\1\0\0\0\103\0\0\0\0\0\0\0";
	static const uint8_t none[64];
	uint8_t first[64], second[64];
	struct virtio_vsock_hdr h;

	assert_int_equal(waker_init(&waker, &vs, &loop), 0);
	waker_tell(&waker);
	/* the guest forgets its connections, ours as well: another one, with another seed */
	wake(first, NULL, 0);
	assert_int_equal(waker.agent.fd, -1);
	assert_true(waker.pending);
	usleep(30000);
	turn();
	/* it took so long to hear the time that it is told once more, which keeps nobody out */
	waker.told -= 300000000;
	wake(first, yes, 24);
	assert_int_not_equal(waker.agent.fd, -1);
	assert_false(waker.pending);
	wake(second, yes, 24);
	assert_int_equal(waker.agent.fd, -1);
	assert_false(waker.pending);
	assert_memory_not_equal(first, second, 64);
	assert_memory_not_equal(second, none, 64);
	usleep(30000);
	turn();
	while (hear(&h, NULL) >= 0)
		assert_int_not_equal(h.op, VIRTIO_VSOCK_OP_REQUEST);
	waker_done(&waker);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_guest_to_host), T(test_host_to_guest),  T(test_guests_credit),
		T(test_our_credit),    T(test_slow_reader),    T(test_forged_and_stray),
		T(test_lying_length),  T(test_many_and_reset), T(test_host_leaves),
		T(test_one_way),       T(test_peers_reset),    T(test_stopper),
		T(test_waker),
	};

	signal(SIGPIPE, SIG_IGN);

	return cmocka_run_group_tests(tests, NULL, NULL);
}
