/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Disk, entropy, balloon, network card and console against a driver of ours. */
#include "tests/unit/base_util.h"
#include "tests/unit/vmm_driver.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/sys.h"
#include "vmm/balloon.h"
#include "vmm/blk.h"
#include "vmm/net.h"
#include "vmm/rng.h"
#include "vmm/serial.h"

#define EVENT	  (1ull << VIRTIO_RING_F_EVENT_IDX)
#define DISK_SIZE (1 << 20)
#define STATUS	  (DATA + 0x80000) /* where a request's status goes */

static struct drv d;
#define vdev_kicked(v) drv_kicked(&d, (v))
static struct blk blk;
static int disk = -1;

static int setup(void **state)
{
	memset(&d, 0, sizeof(d));
	return gmem_map(&d.mem, MEM_SIZE, -1, NULL);
}

static int teardown(void **state)
{
	gmem_done(&d.mem);
	return 0;
}

/* ---- disk ---- */

static int disk_with(const struct blk_opts *o)
{
	struct blk_opts with = *o;

	setup(NULL);
	disk = memfd_create("disk", MFD_CLOEXEC);
	with.fd = disk;
	d.v = &blk.dev;
	return disk < 0 || ftruncate(disk, DISK_SIZE) < 0 ||
	       blk_init(&blk, &d.mem, &with, NULL) < 0;
}

static int disk_setup(void **state)
{
	return disk_with(&(struct blk_opts){.serial = "vps-web1"}) ||
	       drv_start(&d, drv_offered(&d), 16) != 0xf;
}

static int disk_teardown(void **state)
{
	blk_done(&blk);
	close(disk);
	return teardown(state);
}

/* One request: header, data at DATA + 64 (len bytes), status; the status, and the used length. */
static int io(uint32_t type, uint64_t sector, uint32_t len, bool in, uint32_t *used)
{
	struct virtio_blk_outhdr h = {.type = type, .sector = sector};
	struct vring_used_elem e;
	uint8_t st = 0xee;

	gmem_write(&d.mem, DATA, &h, sizeof(h));
	gmem_write(&d.mem, STATUS, &st, 1);
	put_desc(&d, RING(0), 0, DATA, sizeof(h), NX, len ? 1 : 2);
	put_desc(&d, RING(0), 1, DATA + 64, len, NX | (in ? W : 0), 2);
	put_desc(&d, RING(0), 2, STATUS, 1, W, 0);
	drv_avail(&d, 0, 0);
	vdev_kicked(&blk.dev);
	if (!drv_used(&d, 0, &e))
		return -1;
	if (used)
		*used = e.len;
	gmem_read(&d.mem, STATUS, &st, 1);
	return st;
}

static void test_disk_reads_and_writes(void **state)
{
	char buf[1024];
	uint32_t used;

	assert_int_equal(pwrite(disk, "from the host", 13, 512), 13);
	assert_int_equal(io(VIRTIO_BLK_T_IN, 1, 1024, true, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(used, 1025);
	gmem_read(&d.mem, DATA + 64, buf, 13);
	assert_memory_equal(buf, "from the host", 13);
	gmem_write(&d.mem, DATA + 64, "from the guest", 14);
	assert_int_equal(io(VIRTIO_BLK_T_OUT, 2047, 512, false, &used), VIRTIO_BLK_S_OK);
	assert_int_equal(used, 1);
	assert_int_equal(pread(disk, buf, 14, DISK_SIZE - 512), 14);
	assert_memory_equal(buf, "from the guest", 14);
	assert_int_equal(io(VIRTIO_BLK_T_FLUSH, 0, 0, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(io(VIRTIO_BLK_T_GET_ID, 0, 20, true, &used), VIRTIO_BLK_S_OK);
	gmem_read(&d.mem, DATA + 64, buf, 20);
	assert_memory_equal(buf, "vps-web1\0\0\0\0\0\0\0\0\0\0\0", 20);
	assert_int_equal(drv_irqs(&d) > 0, 1);
}

static void test_disk_refuses(void **state)
{
	static const struct {
		uint32_t type;
		uint64_t sector;
		uint32_t len;
		bool in;
		int st;
	} t[] = {
		{VIRTIO_BLK_T_IN, 2048, 512, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_IN, 2047, 1024, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_OUT, 2048, 512, false, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_OUT, UINT64_MAX, 512, false, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_IN, UINT64_MAX / 512, 1024, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_IN, 0, 511, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_GET_ID, 0, 19, true, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, 0, 15, false, VIRTIO_BLK_S_IOERR},
		{VIRTIO_BLK_T_DISCARD, 0, 0, false, VIRTIO_BLK_S_IOERR},
		{77, 0, 512, true, VIRTIO_BLK_S_UNSUPP},
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++)
		assert_int_equal(io(t[i].type, t[i].sector, t[i].len, t[i].in, NULL), t[i].st);
	assert_true(blk.dev.live);
	/* no header */
	put_desc(&d, RING(0), 0, STATUS, 1, W, 0);
	drv_avail(&d, 0, 0);
	vdev_kicked(&blk.dev);
	assert_true(blk.dev.live);
	/* nowhere to put a status */
	put_desc(&d, RING(0), 0, DATA, 16, 0, 0);
	drv_avail(&d, 0, 0);
	vdev_kicked(&blk.dev);
	assert_true(NEEDS_RESET(&d));
}

static int ranges(uint32_t type, uint64_t sector, uint32_t n, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes r = {sector, n, flags};

	gmem_write(&d.mem, DATA + 64, &r, sizeof(r));
	return io(type, 0, sizeof(r), false, NULL);
}

static void test_disk_discards(void **state)
{
	char page[4096], zero[4096] = "";

	memset(page, 'x', sizeof(page));
	for (int i = 0; i < 4; i++)
		assert_int_equal(pwrite(disk, page, 4096, i * 4096), 4096);
	assert_int_equal(ranges(VIRTIO_BLK_T_DISCARD, 8, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(disk, page, 4096, 4096), 4096);
	assert_memory_equal(page, zero, 4096);
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(disk, page, 1024, 0), 1024);
	assert_memory_equal(page, zero, 512);
	assert_int_equal(page[512], 'x');
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, 16, 8, 1), VIRTIO_BLK_S_OK);
	assert_int_equal(pread(disk, page, 4096, 8192), 4096);
	assert_memory_equal(page, zero, 4096);
	assert_int_equal(ranges(VIRTIO_BLK_T_DISCARD, 0, 8, 1), VIRTIO_BLK_S_UNSUPP);
	assert_int_equal(ranges(VIRTIO_BLK_T_DISCARD, 2047, 2, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(VIRTIO_BLK_T_DISCARD, UINT64_MAX, 2, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(VIRTIO_BLK_T_DISCARD, 0, UINT32_MAX, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(lseek(disk, 0, SEEK_END), DISK_SIZE);
}

/* What was written, a bit for each of 16 blocks, and more when it has grown. */
static uint32_t written(void)
{
	autoclose int fd = sys_memfd("log", 0);
	uint32_t bits = 0;

	assert_int_equal(blk_log(&blk, fd, NULL), 0);
	assert_true(pread(fd, &bits, sizeof(bits), 0) > 0);
	return bits;
}

static void test_disk_log(void **state)
{
	int none = open("/dev/null", O_RDONLY | O_CLOEXEC);

	assert_int_equal(io(VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_OK); /* nobody asks */
	assert_int_equal(written(), 0xffff);
	assert_int_equal(written(), 0);
	assert_int_equal(io(VIRTIO_BLK_T_OUT, 4 * 128 - 1, 1024, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(io(VIRTIO_BLK_T_IN, 8 * 128, 512, true, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(io(VIRTIO_BLK_T_OUT, 2048, 512, false, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(VIRTIO_BLK_T_DISCARD, 2040, 8, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, 6 * 128, 2 * 128, 0), VIRTIO_BLK_S_OK);
	assert_int_equal(ranges(VIRTIO_BLK_T_DISCARD, UINT64_MAX, 2, 0), VIRTIO_BLK_S_IOERR);
	assert_int_equal(written(), 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 15);
	/* where it has grown, all is new */
	assert_int_equal(ftruncate(disk, 20 << 16), 0);
	assert_int_equal(blk_grow(&blk, NULL), 0);
	assert_int_equal(io(VIRTIO_BLK_T_OUT, 19 * 128, 512, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(io(VIRTIO_BLK_T_OUT, 128, 512, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(written() & 0xfffff, 0xf0002);
	assert_int_equal(io(VIRTIO_BLK_T_OUT, 19 * 128, 512, false, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(written(), 1 << 19);
	/* what could not be told is not forgotten: it begins anew */
	assert_int_equal(blk_log(&blk, none, NULL), -EBADF);
	assert_int_equal(written() & 0xfffff, 0xfffff);
	blk_log_end(&blk);
	assert_int_equal(io(VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_OK);
	close(none);
}

static void test_disk_read_only(void **state)
{
	assert_int_equal(disk_with(&(struct blk_opts){.read_only = true}), 0);
	assert_true(drv_offered(&d) >> VIRTIO_BLK_F_RO & 1);
	assert_false(drv_offered(&d) >> VIRTIO_BLK_F_DISCARD & 1);
	drv_start(&d, 0, 16);
	assert_int_equal(io(VIRTIO_BLK_T_IN, 0, 512, true, NULL), VIRTIO_BLK_S_OK);
	assert_int_equal(io(VIRTIO_BLK_T_OUT, 0, 512, false, NULL), VIRTIO_BLK_S_IOERR);
	assert_int_equal(ranges(VIRTIO_BLK_T_WRITE_ZEROES, 0, 1, 0), VIRTIO_BLK_S_IOERR);
	disk_teardown(NULL);
}

static void wait_used(int ms)
{
	for (int i = 0; i < ms && get16(&d, USED(0) + 2) == d.seen[0]; i++)
		usleep(1000);
}

/* In its own thread, kicked by the register; 20 requests a second means the fourth waits. */
static void test_disk_thread_and_rate(void **state)
{
	struct virtio_blk_outhdr h = {.type = VIRTIO_BLK_T_IN};
	struct vring_used_elem e;
	uint64_t t0;

	assert_int_equal(disk_with(&(struct blk_opts){.ops_per_sec = 20}), 0);
	drv_start(&d, 0, 16);
	gmem_write(&d.mem, DATA, &h, sizeof(h));
	put_desc(&d, RING(0), 0, DATA, sizeof(h), NX, 1);
	put_desc(&d, RING(0), 1, DATA + 64, 513, W, 0);
	assert_int_equal(blk_start(&blk, NULL), 0);
	t0 = sys_now_mono();
	for (int i = 0; i < 5; i++)
		drv_avail(&d, 0, 0);
	set_reg(&d, VDEV_NOTIFY, 0);
	for (int i = 0; i < 5; i++) {
		wait_used(2000);
		assert_int_equal(drv_used(&d, 0, &e), 1);
		assert_int_equal(e.len, 513);
	}
	assert_in_range((sys_now_mono() - t0) / 1000000, 60, 1500);
	/* a reset while it waits */
	drv_avail(&d, 0, 0);
	set_reg(&d, VDEV_NOTIFY, 0);
	set_reg(&d, VIRTIO_MMIO_STATUS, 0);
	blk_stop(&blk);
	disk_teardown(NULL);
}

/* The second thread was seen at work; false: it is done already. */
static bool slow_begins(void)
{
	for (;;) {
		pthread_mutex_lock(&blk.dev.lock);

		unsigned n = blk.n_slow;
		bool done = get16(&d, USED(0) + 2) != d.seen[0];

		pthread_mutex_unlock(&blk.dev.lock);
		if (n || done)
			return n;
		usleep(100);
	}
}

/* Zeroes that must be written do not hold up a read; a reset waits for them. */
static void test_disk_slow_lane(void **state)
{
	struct virtio_blk_outhdr zeroes = {.type = VIRTIO_BLK_T_WRITE_ZEROES}, in = {0};
	struct virtio_blk_discard_write_zeroes range = {.num_sectors = 65536};
	struct vring_used_elem e;
	uint8_t status = 0xff, c = 1;
	uint32_t used = 0;
	off_t last;

	assert_int_equal(disk_with(&(struct blk_opts){0}), 0);
	/* a file without FALLOC_FL_ZERO_RANGE (tmpfs) */
	assert_int_equal(ftruncate(disk, 64 << 20), 0);
	assert_int_equal(blk_grow(&blk, NULL), 0);
	last = (32 << 20) - 1;
	drv_start(&d, 0, 16);
	gmem_write(&d.mem, DATA, &zeroes, sizeof(zeroes));
	gmem_write(&d.mem, DATA + 0x100, &range, sizeof(range));
	gmem_write(&d.mem, DATA + 0x200, &in, sizeof(in));
	put_desc(&d, RING(0), 0, DATA, sizeof(zeroes), NX, 1);
	put_desc(&d, RING(0), 1, DATA + 0x100, sizeof(range), NX, 2);
	put_desc(&d, RING(0), 2, DATA + 0x300, 1, W, 0);
	put_desc(&d, RING(0), 4, DATA + 0x200, sizeof(in), NX, 5);
	put_desc(&d, RING(0), 5, DATA + 0x400, 513, W, 0);
	assert_int_equal(blk_start(&blk, NULL), 0);
	assert_int_equal(pwrite(disk, &c, 1, last), 1);
	gmem_write(&d.mem, DATA + 0x300, &status, 1);
	drv_avail(&d, 0, 0);
	drv_avail(&d, 0, 4);
	set_reg(&d, VDEV_NOTIFY, 0);
	wait_used(2000);
	assert_int_equal(drv_used(&d, 0, &e), 1);
	assert_int_equal(e.id, 4);
	wait_used(2000);
	assert_int_equal(drv_used(&d, 0, &e), 1);
	assert_true(e.id == 0 && e.len == 1);
	gmem_read(&d.mem, DATA + 0x300, &status, 1);
	assert_int_equal(status, VIRTIO_BLK_S_OK);
	assert_int_equal(pread(disk, &c, 1, last), 1);
	assert_int_equal(c, 0);

	/* more than it has places for, and then a pause: all are done */
	for (int i = 0; i < 12; i++)
		drv_avail(&d, 0, 0);
	set_reg(&d, VDEV_NOTIFY, 0);
	while (used < 1) {
		wait_used(2000);
		used += (uint32_t)drv_used(&d, 0, &e);
	}
	blk_hold(&blk, true);
	assert_int_equal(blk.n_slow, 0);
	blk_hold(&blk, false);
	for (; used < 12; used += (uint32_t)drv_used(&d, 0, &e))
		wait_used(2000);

	/* a reset returns when nothing of the old life can be written any more */
	do {
		while (drv_used(&d, 0, &e)) /* was too fast to be seen */
			;
		c = 1;
		assert_int_equal(pwrite(disk, &c, 1, last), 1);
		status = 0xff;
		gmem_write(&d.mem, DATA + 0x300, &status, 1);
		drv_avail(&d, 0, 0);
		set_reg(&d, VDEV_NOTIFY, 0);
	} while (!slow_begins());
	set_reg(&d, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(blk.n_slow, 0);
	assert_int_equal(pread(disk, &c, 1, last), 1);
	assert_int_equal(c, 0);
	gmem_read(&d.mem, DATA + 0x300, &status, 1);
	assert_int_equal(status, 0xff);
	blk_stop(&blk);
	disk_teardown(NULL);
}

/* ---- entropy ---- */

static void test_rng(void **state)
{
	struct vring_used_elem e;
	uint8_t a[32] = {0}, b[32] = {0};
	struct rng r;

	assert_int_equal(rng_init(&r, &d.mem), 0);
	d.v = &r.dev;
	drv_start(&d, EVENT, 8);
	put_desc(&d, RING(0), 0, DATA, 20, W | NX, 1);
	put_desc(&d, RING(0), 1, DATA + 32, 12, W, 0);
	drv_avail(&d, 0, 0);
	vdev_kicked(d.v);
	assert_int_equal(drv_used(&d, 0, &e), 1);
	assert_int_equal(e.len, 32);
	gmem_read(&d.mem, DATA, a, 32);
	assert_memory_equal(a + 20, b, 12); /* not a byte beside the buffers */
	assert_memory_not_equal(a, b, 20);
	put_desc(&d, RING(0), 0, DATA, 1 << 20, W, 0); /* bounded */
	drv_avail(&d, 0, 0);
	vdev_kicked(d.v);
	assert_int_equal(drv_used(&d, 0, &e), 1);
	assert_int_equal(e.len, 4096);
	rng_done(&r);
}

/* ---- balloon ---- */

static size_t resident(void)
{
	static unsigned char vec[MEM_SIZE / 4096];
	size_t n = 0;

	mincore(d.mem.base, MEM_SIZE, vec);
	for (size_t i = 0; i < sizeof(vec); i++)
		n += vec[i] & 1;
	return n;
}

static void test_balloon(void **state)
{
	struct balloon b;
	struct vring_used_elem e;
	uint32_t pfn[6] = {0x200, 0x201, 0x202, 0x3ff, 0x400, UINT32_MAX}, actual = 3;
	size_t before;

	madvise(d.mem.base, MEM_SIZE, MADV_NOHUGEPAGE);
	memset(d.mem.base, 1, MEM_SIZE);
	assert_int_equal(balloon_init(&b, &d.mem), 0);
	d.v = &b.dev;
	drv_start(&d, drv_offered(&d), 8);
	before = resident();
	gmem_write(&d.mem, DATA, pfn, sizeof(pfn));
	put_desc(&d, RING(0), 0, DATA, sizeof(pfn), 0, 0);
	drv_avail(&d, 0, 0);
	vdev_kicked(d.v);
	assert_int_equal(drv_used(&d, 0, &e), 1);
	assert_int_equal(b.inflated, 4 * 4096); /* two of the six are no memory */
	assert_int_equal(before - resident(), 4);
	/* target and what the guest tells */
	drv_irqs(&d);
	balloon_set(&b, 3 * 4096 + 1);
	assert_int_equal(drv_irqs(&d), 1);
	assert_int_equal(reg(&d, VIRTIO_MMIO_CONFIG), 3);
	vdev_write(d.v, VIRTIO_MMIO_CONFIG + 4, &actual, 4);
	assert_int_equal(balloon_actual(&b), 3 * 4096);
	vdev_write(d.v, VIRTIO_MMIO_CONFIG, &actual, 2); /* read-only */
	balloon_set(&b, UINT64_MAX);
	assert_int_equal(reg(&d, VIRTIO_MMIO_CONFIG), MEM_SIZE / 4096);
	balloon_done(&b);
}

static void test_balloon_stats_and_reports(void **state)
{
	struct virtio_balloon_stat st[] = {
		{VIRTIO_BALLOON_S_MEMFREE, 1111},
		{VIRTIO_BALLOON_S_MEMTOT, 2222},
		{999, 1},
	};
	struct balloon b;
	struct balloon_stats got;
	struct vring_used_elem e;

	madvise(d.mem.base, MEM_SIZE, MADV_NOHUGEPAGE);
	memset(d.mem.base, 1, MEM_SIZE);
	assert_int_equal(balloon_init(&b, &d.mem), 0);
	d.v = &b.dev;
	drv_start(&d, drv_offered(&d), 8);
	gmem_write(&d.mem, DATA, st, sizeof(st));
	put_desc(&d, RING(2), 0, DATA, sizeof(st), 0, 0);
	drv_avail(&d, 2, 0);
	vdev_kicked(d.v);
	assert_int_equal(drv_used(&d, 2, &e), 0); /* it stays with us */
	balloon_get_stats(&b, &got);
	assert_int_equal(got.v[VIRTIO_BALLOON_S_MEMFREE], 1111);
	assert_int_equal(got.v[VIRTIO_BALLOON_S_MEMTOT], 2222);
	assert_true(got.v[VIRTIO_BALLOON_S_MAJFLT] == UINT64_MAX);
	assert_int_equal(drv_used(&d, 2, &e), 1);
	balloon_get_stats(&b, &got);
	assert_int_equal(drv_used(&d, 2, &e), 0);

	size_t before = resident();

	put_desc(&d, RING(3), 0, 0x200000, 0x100000, W | NX, 1);
	put_desc(&d, RING(3), 1, 0x300800, 0x1000, W, 0); /* no whole page */
	drv_avail(&d, 3, 0);
	vdev_kicked(d.v);
	assert_int_equal(drv_used(&d, 3, &e), 1);
	assert_int_equal(b.reported, 0x100000);
	assert_int_equal(before - resident(), 256);
	set_reg(&d, VIRTIO_MMIO_STATUS, 0);
	vdev_kicked(d.v);
	balloon_get_stats(&b, &got);
	assert_true(got.v[VIRTIO_BALLOON_S_MEMFREE] == UINT64_MAX);
	balloon_done(&b);
}

/* ---- network card; a socket stands for the tap ---- */

static struct net net;
static struct loop loop;
static int wire[2];

static int net_setup(void **state)
{
	struct net_opts o = {.mac = {2, 0, 0, 0, 0, 1}, .mtu = 1500};

	if (setup(state) || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, wire))
		return -1;
	o.tap = wire[0];
	d.v = &net.dev;
	return loop_init(&loop) || net_init(&net, &d.mem, &o, NULL) || net_attach_loop(&net, &loop);
}

static int net_teardown(void **state)
{
	net_done(&net);
	loop_done(&loop);
	close(wire[0]);
	close(wire[1]);
	return teardown(state);
}

static void turn(void)
{
	while (loop_once(&loop, 0) > 0)
		;
}

#define MRG (1ull << VIRTIO_NET_F_MRG_RXBUF)

static void test_net_sends(void **state)
{
	struct vring_used_elem e;
	char buf[128];

	drv_start(&d, MRG | EVENT, 16);
	assert_int_equal(reg(&d, VIRTIO_MMIO_CONFIG), 2);
	gmem_zero(&d.mem, DATA, 12);
	gmem_write(&d.mem, DATA + 64, "a frame", 7);
	put_desc(&d, RING(1), 0, DATA, 12, NX, 1);
	put_desc(&d, RING(1), 1, DATA + 64, 7, 0, 0);
	drv_avail(&d, 1, 0);
	set_reg(&d, VDEV_NOTIFY, 1);
	turn();
	assert_int_equal(drv_used(&d, 1, &e), 1);
	assert_int_equal(read(wire[1], buf, sizeof(buf)), 19);
	assert_memory_equal(buf + 12, "a frame", 7);
	/* only a header, writable, too long: dropped */
	put_desc(&d, RING(1), 0, DATA, 12, 0, 0);
	drv_avail(&d, 1, 0);
	put_desc(&d, RING(1), 2, DATA, 64, W, 0);
	drv_avail(&d, 1, 2);
	put_desc(&d, RING(1), 3, DATA, 70000, 0, 0);
	drv_avail(&d, 1, 3);
	set_reg(&d, VDEV_NOTIFY, 1);
	turn();
	assert_int_equal(net.dropped, 3);
	assert_int_equal(read(wire[1], buf, sizeof(buf)), -1);
}

static void test_net_receives(void **state)
{
	struct vring_used_elem e;
	uint8_t frame[300], got[300];

	for (size_t i = 0; i < sizeof(frame); i++)
		frame[i] = i < 12 ? 0 : (uint8_t)i;
	drv_start(&d, MRG | EVENT, 16);
	for (uint16_t i = 0; i < 2; i++) {
		put_desc(&d, RING(0), i, DATA + 0x1000 * i, 128, W, 0);
		drv_avail(&d, 0, i);
	}
	turn();
	assert_int_equal(write(wire[1], frame, 300), 300); /* wants three buffers */
	turn();
	assert_int_equal(drv_used(&d, 0, &e), 0);
	assert_int_equal(net.have, 300);
	/* what the driver has to notify of: a buffer behind those two */
	assert_int_equal(get16(&d, USED(0) + 4 + 8 * 16), 2);
	turn(); /* and does not spin */
	put_desc(&d, RING(0), 2, DATA + 0x2000, 128, W, 0);
	drv_avail(&d, 0, 2);
	set_reg(&d, VDEV_NOTIFY, 0);
	turn();
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(drv_used(&d, 0, &e), 1);
		assert_int_equal(e.id, i);
		assert_int_equal(e.len, i < 2 ? 128 : 44);
		gmem_read(&d.mem, DATA + 0x1000 * i, got + 128 * i, e.len);
	}
	assert_int_equal(got[10], 3); /* num_buffers */
	assert_memory_equal(got + 12, frame + 12, 288);
	/* without merging: one buffer, the rest of the frame is lost */
	drv_start(&d, 0, 16);
	put_desc(&d, RING(0), 0, DATA, 128, W, 0);
	drv_avail(&d, 0, 0);
	assert_int_equal(write(wire[1], frame, 300), 300);
	set_reg(&d, VDEV_NOTIFY, 0);
	turn();
	assert_int_equal(drv_used(&d, 0, &e), 1);
	assert_int_equal(e.len, 128);
	/* a buffer without room for the header */
	put_desc(&d, RING(0), 0, DATA, 11, W, 0);
	drv_avail(&d, 0, 0);
	assert_int_equal(write(wire[1], frame, 300), 300);
	turn();
	assert_true(NEEDS_RESET(&d));
	turn();
}

/* ---- console ---- */

static struct serial com;

static int com_setup(void **state)
{
	return serial_init(&com) || loop_init(&loop) ||
	       socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, wire) ||
	       serial_attach(&com, &loop, dup(wire[0]), wire[0]);
}

static int com_teardown(void **state)
{
	int in = com.in.fd;

	serial_done(&com);
	loop_done(&loop);
	close(in);
	close(wire[0]);
	close(wire[1]);
	return 0;
}

static unsigned edges(void)
{
	uint64_t n = 0;

	return read(com.irq_fd, &n, sizeof(n)) == sizeof(n) ? (unsigned)n : 0;
}

static void test_console_output(void **state)
{
	char buf[64];

	for (const char *p = "hello\n"; *p; p++)
		serial_write(&com, 0, (uint8_t)*p);
	turn();
	assert_int_equal(read(wire[1], buf, sizeof(buf)), 6);
	assert_memory_equal(buf, "hello\n", 6);
	assert_int_equal(serial_read(&com, 5), 0x60);
	assert_int_equal(edges(), 0);
	serial_write(&com, 1, 2); /* THRE */
	assert_int_equal(edges(), 1);
	assert_int_equal(serial_read(&com, 2), 2);
	assert_int_equal(serial_read(&com, 2), 1); /* told */
	serial_write(&com, 0, 'x');
	assert_int_equal(edges(), 1);
	serial_write(&com, 0, 'y'); /* each is a new event */
	assert_int_equal(edges(), 1);
	/* divisor, scratch, modem; loopback */
	serial_write(&com, 3, 0x83);
	serial_write(&com, 0, 12);
	assert_int_equal(serial_read(&com, 0), 12);
	serial_write(&com, 3, 3);
	serial_write(&com, 7, 0x5a);
	assert_int_equal(serial_read(&com, 7), 0x5a);
	assert_int_equal(serial_read(&com, 6), 0xb0);
	serial_write(&com, 4, 0x1a);
	assert_int_equal(serial_read(&com, 6), 0x90);
	serial_write(&com, 0, 'L');
	assert_int_equal(serial_read(&com, 0), 'L');
	assert_int_equal(serial_read(&com, 9), 0xff);
}

static void test_console_input(void **state)
{
	serial_write(&com, 1, 1);
	serial_write(&com, 2, 1);
	assert_int_equal(write(wire[1], "0123456789abcdefghij", 20), 20);
	turn();
	assert_int_equal(edges(), 1);
	assert_int_equal(com.s.n_rx, 16);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(serial_read(&com, 2), 0xc4);
		assert_int_equal(serial_read(&com, 5) & 1, 1);
		assert_int_equal(serial_read(&com, 0), "0123456789abcdefghij"[i]);
		turn(); /* the rest when there is room */
	}
	assert_int_equal(serial_read(&com, 2), 0xc1);
	serial_input(&com, "zz", 2);
	serial_write(&com, 2, 3);
	assert_int_equal(serial_read(&com, 5) & 1, 0);
}

/* Nobody reads: the newest is kept, the guest never waits, and it flows again later. */
static void test_console_overflow(void **state)
{
	static char buf[SERIAL_OUT * 8];
	size_t n = 0;
	ssize_t r;

	for (uint32_t i = 0; i < sizeof(buf); i++) {
		serial_write(&com, 0, (uint8_t)('a' + i % 26));
		if (i % 4096 == 0)
			turn();
	}
	assert_true(com.lost > 0);
	while ((r = read(wire[1], buf + n, sizeof(buf) - n)) > 0 || com.out_len) {
		n += r > 0 ? (size_t)r : 0;
		turn();
	}
	assert_int_equal(n + com.lost, sizeof(buf));
	assert_int_equal(buf[n - 1], 'a' + (sizeof(buf) - 1) % 26);
	/* the reader is gone: nothing piles up */
	signal(SIGPIPE, SIG_IGN);
	shutdown(wire[1], SHUT_RDWR);
	serial_write(&com, 0, 'x');
	turn();
	assert_int_equal(com.out_len, 0);
}

#define D(f) cmocka_unit_test_setup_teardown(f, disk_setup, disk_teardown)
#define M(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define N(f) cmocka_unit_test_setup_teardown(f, net_setup, net_teardown)
#define C(f) cmocka_unit_test_setup_teardown(f, com_setup, com_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		D(test_disk_reads_and_writes),
		D(test_disk_refuses),
		D(test_disk_discards),
		D(test_disk_log),
		cmocka_unit_test(test_disk_read_only),
		cmocka_unit_test(test_disk_thread_and_rate),
		cmocka_unit_test(test_disk_slow_lane),
		M(test_rng),
		M(test_balloon),
		M(test_balloon_stats_and_reports),
		N(test_net_sends),
		N(test_net_receives),
		C(test_console_output),
		C(test_console_input),
		C(test_console_overflow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
