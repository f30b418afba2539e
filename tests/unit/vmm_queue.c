/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest memory, virtqueues and the MMIO transport against good and hostile drivers. */
#include "tests/unit/base_util.h"
#include "tests/unit/vmm_driver.h"

#include <sys/mman.h>

static unsigned starts, stops, processed;
static int last;
static struct vq_chain chain;

static void on_start(struct vdev *v)
{
	starts++;
}
static void on_stop(struct vdev *v)
{
	stops++;
}
static void on_process(struct vdev *v)
{
	processed++;
	last = vq_pop(&v->vq[0], &chain);
	if (last < 0)
		vdev_broken(v);
}

static const struct vdev_ops ops = {
	.id = 42,
	.n_queues = 2,
	.queue_size = 64,
	.start = on_start,
	.stop = on_stop,
	.process = on_process,
};

static struct vdev dev;
static struct drv d;
static uint8_t config[12] = "configured!";

static int setup(void **state)
{
	starts = stops = processed = 0;
	memset(&d, 0, sizeof(d));
	d.v = &dev;
	return gmem_map(&d.mem, MEM_SIZE, -1, NULL) < 0 ||
	       vdev_init(&dev, &ops, &d.mem, 1ull << 5, config, sizeof(config)) < 0;
}

static int teardown(void **state)
{
	vdev_done(&dev);
	gmem_done(&d.mem);
	return 0;
}

/* ---- memory ---- */

static void test_ranges(void **state)
{
	const struct gmem *m = &d.mem;

	assert_ptr_equal(gmem_at(m, 0, 1), m->base);
	assert_ptr_equal(gmem_at(m, 0, MEM_SIZE), m->base);
	assert_null(gmem_at(m, 0, MEM_SIZE + 1));
	assert_null(gmem_at(m, 1, MEM_SIZE));
	assert_null(gmem_at(m, MEM_SIZE, 0));
	assert_null(gmem_at(m, MEM_SIZE - 1, 2));
	assert_non_null(gmem_at(m, MEM_SIZE - 1, 1));
	assert_null(gmem_at(m, UINT64_MAX, 1));
	assert_null(gmem_at(m, UINT64_MAX - 1, 4));
	assert_null(gmem_at(m, 16, UINT64_MAX));
	assert_null(gmem_at(m, GMEM_HOLE, 1));
	assert_null(gmem_at(m, GMEM_HOLE_END, 1));
}

static void test_hole(void **state)
{
	struct gmem m;

	assert_int_equal(gmem_map(&m, 4ull << 30, -1, NULL), 0);
	assert_non_null(gmem_at(&m, GMEM_HOLE - 1, 1));
	assert_null(gmem_at(&m, GMEM_HOLE - 1, 2));
	assert_null(gmem_at(&m, GMEM_HOLE, 1));
	assert_null(gmem_at(&m, GMEM_HOLE_END - 1, 2));
	/* What is above follows what is below in our mapping, and only there. */
	assert_ptr_equal(gmem_at(&m, GMEM_HOLE_END, 1), m.base + GMEM_HOLE);
	assert_non_null(gmem_at(&m, GMEM_HOLE_END, 1ull << 30));
	assert_null(gmem_at(&m, GMEM_HOLE_END, (1ull << 30) + 1));
	assert_null(gmem_at(&m, GMEM_HOLE_END + 1, UINT64_MAX));
	assert_int_equal((uintptr_t)m.base % (2 << 20), 0);
	gmem_done(&m);
	gmem_done(&m);
}

static void test_copy_and_discard(void **state)
{
	struct vps_err err = {0};
	char buf[8] = "........";
	struct gmem m;

	assert_int_equal(gmem_write(&d.mem, DATA, "hello", 6), 0);
	assert_int_equal(gmem_read(&d.mem, DATA, buf, 6), 0);
	assert_string_equal(buf, "hello");
	assert_int_equal(gmem_read(&d.mem, MEM_SIZE - 2, buf, 6), -EFAULT);
	assert_string_equal(buf, "hello");
	assert_int_equal(gmem_write(&d.mem, MEM_SIZE - 2, buf, 6), -EFAULT);
	/* Whole pages only. */
	gmem_write(&d.mem, DATA + 4096, "x", 1);
	assert_int_equal(gmem_discard(&d.mem, d.mem.base + DATA + 1, 8191), 4096);
	gmem_read(&d.mem, DATA, buf, 6);
	assert_string_equal(buf, "hello");
	gmem_read(&d.mem, DATA + 4096, buf, 1);
	assert_int_equal(buf[0], 0);
	assert_int_equal(gmem_discard(&d.mem, d.mem.base + MEM_SIZE, 1 << 20), 0);
	assert_int_equal(gmem_discard(&d.mem, d.mem.base - 4096, 4096), 0);
	assert_int_equal(gmem_map(&m, 4096, -1, &err), -EINVAL);
	assert_int_equal(gmem_map(&m, MEM_SIZE + 1, -1, NULL), -EINVAL);
}

/* A snapshot's file is mapped privately: the guest's writes do not reach it. */
static void test_from_file(void **state)
{
	autoclose int fd = memfd_create("snapshot", MFD_CLOEXEC);
	struct gmem m;
	char c = 0;

	assert_int_equal(ftruncate(fd, MEM_SIZE), 0);
	assert_int_equal(pwrite(fd, "S", 1, 4096), 1);
	assert_int_equal(gmem_map(&m, MEM_SIZE, fd, NULL), 0);
	gmem_read(&m, 4096, &c, 1);
	assert_int_equal(c, 'S');
	gmem_write(&m, 4096, "G", 1);
	assert_int_equal(pread(fd, &c, 1, 4096), 1);
	assert_int_equal(c, 'S');
	gmem_done(&m);
}

/* ---- queues ---- */

#define ALL (1ull << VIRTIO_RING_F_INDIRECT_DESC | 1ull << VIRTIO_RING_F_EVENT_IDX)

static int pop(uint16_t head)
{
	drv_avail(&d, 0, head);
	vdev_kicked(&dev);
	return last;
}

static void start(uint64_t features)
{
	assert_int_equal(drv_start(&d, features, 8), 0xf);
	assert_int_equal(starts, 1);
	drv_irqs(&d);
}

static void test_chain(void **state)
{
	start(ALL);
	vdev_kicked(&dev);
	assert_int_equal(last, 0);
	put_desc(&d, RING(0), 3, DATA, 16, NX, 1);
	put_desc(&d, RING(0), 1, DATA + 64, 0, NX, 5); /* empty, and legal */
	put_desc(&d, RING(0), 5, DATA + 128, 32, W | NX, 0);
	put_desc(&d, RING(0), 0, DATA + 256, 1, W, 0);
	assert_int_equal(pop(3), 1);
	assert_int_equal(chain.head, 3);
	assert_int_equal(chain.n_out, 1);
	assert_int_equal(chain.n_in, 2);
	assert_int_equal(chain.out_len, 16);
	assert_int_equal(chain.in_len, 33);
	assert_ptr_equal(chain.iov[0].iov_base, d.mem.base + DATA);
	assert_ptr_equal(chain.iov[2].iov_base, d.mem.base + DATA + 256);
}

static void test_indirect(void **state)
{
	start(ALL);
	for (uint16_t i = 0; i < 8; i++)
		put_desc(&d, TABLE(0), i, DATA + i, 1, i < 7 ? NX : 0, i + 1);
	put_desc(&d, RING(0), 2, TABLE(0), 8 * 16, IND, 0);
	assert_int_equal(pop(2), 1);
	assert_int_equal(chain.n_out, 8);
	assert_int_equal(chain.head, 2);
	/* plain ones in front of the table */
	put_desc(&d, RING(0), 0, DATA, 1, NX, 2);
	put_desc(&d, TABLE(0), 6, DATA, 1, 0, 0);
	assert_int_equal(pop(0), 1);
	assert_int_equal(chain.n_out, 8);
}

/* Each is an error for the device, which then wants a reset and does nothing until it comes. */
struct evil {
	const char *what;
	uint64_t features;
	struct vring_desc ring[3], table[3];
	uint16_t head;
};

static const struct evil evils[] = {
	{"head outside", ALL, .head = 8},
	{"next outside", ALL, {{DATA, 1, NX, 8}}},
	{"self loop", ALL, {{DATA, 1, NX, 0}}},
	{"loop of empty ones", ALL, {{DATA, 0, NX, 1}, {DATA, 0, NX, 0}}},
	{"readable behind writable", ALL, {{DATA, 1, W | NX, 1}, {DATA, 1, 0, 0}}},
	{"address ~0", ALL, {{UINT64_MAX, 1, 0, 0}}},
	{"address wraps", ALL, {{UINT64_MAX - 1, 16, 0, 0}}},
	{"behind the end", ALL, {{MEM_SIZE - 1, 2, W, 0}}},
	{"in the hole", ALL, {{GMEM_HOLE, 4, W, 0}}},
	{"length 4 GiB", ALL, {{0, UINT32_MAX, W, 0}}},
	{"indirect not agreed", 0, {{TABLE(0), 16, IND, 0}}},
	{"indirect with next", ALL, {{TABLE(0), 16, IND | NX, 1}}, {{DATA, 1, 0, 0}}},
	{"indirect in indirect", ALL, {{TABLE(0), 32, IND, 0}}, {{TABLE(0), 16, IND, 0}}},
	{"empty table", ALL, {{TABLE(0), 0, IND, 0}}},
	{"odd table", ALL, {{TABLE(0), 24, IND, 0}}, {{DATA, 1, 0, 0}}},
	{"long table", ALL, {{TABLE(0), 9 * 16, IND, 0}}, {{DATA, 1, 0, 0}}},
	{"huge table", ALL, {{TABLE(0), 0xfffffff0, IND, 0}}, {{DATA, 1, 0, 0}}},
	{"table nowhere", ALL, {{MEM_SIZE - 8, 16, IND, 0}}},
	{"next outside the table", ALL, {{TABLE(0), 16, IND, 0}}, {{DATA, 1, NX, 1}}},
	{"loop in the table", ALL, {{TABLE(0), 32, IND, 0}}, {{DATA, 1, NX, 1}, {DATA, 1, NX, 0}}},
};

static void test_hostile_chains(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(evils); i++) {
		const struct evil *e = &evils[i];

		assert_int_equal(drv_start(&d, e->features, 8), 0xf);
		gmem_write(&d.mem, RING(0), e->ring, sizeof(e->ring));
		gmem_write(&d.mem, TABLE(0), e->table, sizeof(e->table));
		drv_irqs(&d);
		if (pop(e->head) != -EPROTO || !NEEDS_RESET(&d) || drv_irqs(&d) != 1)
			fail_msg("%s", e->what);
		vdev_kicked(&dev); /* the stop */

		unsigned n = processed;

		vdev_kicked(&dev);
		assert_int_equal(processed, n);
	}
	assert_int_equal(starts, ARRAY_LEN(evils));
	assert_int_equal(stops, ARRAY_LEN(evils));
}

static void test_avail_jumps(void **state)
{
	start(ALL);
	put_desc(&d, RING(0), 0, DATA, 1, 0, 0);
	put16(&d, AVAIL(0) + 2, 9); /* of 8 */
	vdev_kicked(&dev);
	assert_int_equal(last, -EPROTO);
}

static void test_indices_wrap(void **state)
{
	struct vring_used_elem e;
	struct vq *q = &dev.vq[0];

	start(0);
	put_desc(&d, RING(0), 0, DATA, 1, 0, 0);
	for (uint32_t i = 0; i < 70000; i++) {
		assert_int_equal(pop(0), 1);
		vq_push(q, chain.head, i);
		assert_int_equal(drv_used(&d, 0, &e), 1);
		assert_int_equal(e.len, i);
	}
	/* taken back and popped again; several shown at once */
	drv_avail(&d, 0, 0);
	drv_avail(&d, 0, 0);
	assert_int_equal(vq_pop(q, &chain), 1);
	assert_int_equal(vq_pop(q, &chain), 1);
	vq_unpop(q, 2);
	assert_int_equal(vq_pop(q, &chain), 1);
	assert_int_equal(vq_pop(q, &chain), 1);
	assert_int_equal(vq_pop(q, &chain), 0);
	vq_put(q, 0, 0, 7);
	vq_put(q, 1, 0, 8);
	assert_int_equal(drv_used(&d, 0, &e), 0);
	vq_publish(q, 2);
	assert_true(drv_used(&d, 0, &e) && e.len == 7);
	assert_true(drv_used(&d, 0, &e) && e.len == 8);
}

static void test_signals(void **state)
{
	struct vq *q = &dev.vq[0];

	start(0);
	put_desc(&d, RING(0), 0, DATA, 1, 0, 0);
	assert_false(vq_wants_signal(q)); /* nothing published */
	vq_push(q, 0, 0);
	assert_true(vq_wants_signal(q));
	put16(&d, AVAIL(0), VRING_AVAIL_F_NO_INTERRUPT);
	vq_push(q, 0, 0);
	assert_false(vq_wants_signal(q));
	vq_quiet(q);
	assert_int_equal(get16(&d, USED(0)), VRING_USED_F_NO_NOTIFY);
	assert_false(vq_listen(q));
	assert_int_equal(get16(&d, USED(0)), 0);
	drv_avail(&d, 0, 0);
	assert_true(vq_listen(q));
}

static void test_event_index(void **state)
{
	struct vq *q = &dev.vq[0];

	start(ALL);
	put_desc(&d, RING(0), 0, DATA, 1, 0, 0);
	put16(&d, AVAIL(0) + 4 + 16, 2); /* used_event: tell me of the third */
	for (int i = 0; i < 4; i++) {
		vq_push(q, 0, 0);
		assert_int_equal(vq_wants_signal(q), i == 2);
	}
	/* Passed within one batch: told once. */
	put16(&d, AVAIL(0) + 4 + 16, 6);
	for (int i = 0; i < 5; i++)
		vq_push(q, 0, 0);
	assert_true(vq_wants_signal(q));
	drv_avail(&d, 0, 0);
	assert_int_equal(vq_pop(q, &chain), 1);
	assert_false(vq_listen(q));
	assert_int_equal(get16(&d, USED(0) + 4 + 64), 1); /* avail_event */
}

/* ---- the transport ---- */

static void test_identity(void **state)
{
	assert_int_equal(reg(&d, VIRTIO_MMIO_MAGIC_VALUE), 0x74726976);
	assert_int_equal(reg(&d, VIRTIO_MMIO_VERSION), 2);
	assert_int_equal(reg(&d, VIRTIO_MMIO_DEVICE_ID), 42);
	assert_int_equal(drv_offered(&d), 1ull << 5 | 1ull << VIRTIO_F_VERSION_1 | ALL);
	set_reg(&d, VIRTIO_MMIO_DEVICE_FEATURES_SEL, 2);
	assert_int_equal(reg(&d, VIRTIO_MMIO_DEVICE_FEATURES), 0);
	assert_int_equal(reg(&d, VIRTIO_MMIO_QUEUE_NUM_MAX), 64);
	set_reg(&d, VIRTIO_MMIO_QUEUE_SEL, 2);
	assert_int_equal(reg(&d, VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
	set_reg(&d, VIRTIO_MMIO_QUEUE_SEL, UINT32_MAX);
	assert_int_equal(reg(&d, VIRTIO_MMIO_QUEUE_READY), 0);
	assert_int_equal(reg(&d, VIRTIO_MMIO_SHM_LEN_LOW), 0xffffffff);
}

static void test_order_of_status(void **state)
{
	static const struct {
		uint32_t have[4], want, get;
	} t[] = {
		{{1, 3, 0xb}, 0xf, 0xf},
		{{0}, 0xf, 0},
		{{1}, 0xb, 1},
		{{1, 3}, 0xf, 3},
		{{1, 3}, 1, 3},
		{{1, 3, 0xb}, 3, 0xb},
		{{1, 3, 0xb, 0xf}, 0, 0},
		{{1, 3, 0xb, 0xf}, 7, 0xf},
		{{1}, 0x81, 0x81},
		{{1, 3, 0x83}, 0x8b, 0x83},
		{{0}, 0x40, 0},
		{{1, 3}, 0x43, 3},
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		set_reg(&d, VIRTIO_MMIO_STATUS, 0);
		for (int k = 0; k < 4 && t[i].have[k]; k++) {
			set_reg(&d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
			set_reg(&d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
			set_reg(&d, VIRTIO_MMIO_STATUS, t[i].have[k]);
		}
		set_reg(&d, VIRTIO_MMIO_DRIVER_FEATURES, 1);
		set_reg(&d, VIRTIO_MMIO_STATUS, t[i].want);
		if (reg(&d, VIRTIO_MMIO_STATUS) != t[i].get)
			fail_msg("row %zu: status %#x", i, reg(&d, VIRTIO_MMIO_STATUS));
	}
}

static void test_features_are_checked(void **state)
{
	assert_int_equal(drv_features(&d, 1ull << 6), 3); /* not offered */
	assert_int_equal(drv_features(&d, 1ull << 5), 0xb);
	set_reg(&d, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	set_reg(&d, VIRTIO_MMIO_DRIVER_FEATURES, 0); /* too late */
	assert_true(vdev_has(&dev, 5));
	/* a legacy driver: no VERSION_1 */
	set_reg(&d, VIRTIO_MMIO_STATUS, 0);
	set_reg(&d, VIRTIO_MMIO_STATUS, 1);
	set_reg(&d, VIRTIO_MMIO_STATUS, 3);
	set_reg(&d, VIRTIO_MMIO_STATUS, 0xb);
	assert_int_equal(reg(&d, VIRTIO_MMIO_STATUS), 3);
}

static void test_bad_queues(void **state)
{
	static const struct {
		uint32_t size;
		uint64_t desc, avail, used;
		bool fine;
	} t[] = {
		{8, RING(0), AVAIL(0), USED(0), true},
		{64, RING(0), AVAIL(0), USED(0), true},
		{0, RING(0), AVAIL(0), USED(0), false},
		{65, RING(0), AVAIL(0), USED(0), false},
		{7, RING(0), AVAIL(0), USED(0), false},
		{65536, RING(0), AVAIL(0), USED(0), false},
		{8, RING(0) + 8, AVAIL(0), USED(0), false},
		{8, RING(0), AVAIL(0) + 1, USED(0), false},
		{8, RING(0), AVAIL(0), USED(0) + 2, false},
		{8, UINT64_MAX - 15, AVAIL(0), USED(0), false},
		{8, MEM_SIZE - 64, AVAIL(0), USED(0), false},
		{8, RING(0), MEM_SIZE - 2, USED(0), false},
		{8, RING(0), AVAIL(0), GMEM_HOLE, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(t); i++) {
		drv_features(&d, ALL);
		set_reg(&d, VIRTIO_MMIO_QUEUE_SEL, 0);
		set_reg(&d, VIRTIO_MMIO_QUEUE_NUM, t[i].size);
		set_reg64(&d, VIRTIO_MMIO_QUEUE_DESC_LOW, t[i].desc);
		set_reg64(&d, VIRTIO_MMIO_QUEUE_AVAIL_LOW, t[i].avail);
		set_reg64(&d, VIRTIO_MMIO_QUEUE_USED_LOW, t[i].used);
		set_reg(&d, VIRTIO_MMIO_QUEUE_READY, 1);
		if (reg(&d, VIRTIO_MMIO_QUEUE_READY) != t[i].fine || !NEEDS_RESET(&d) != t[i].fine)
			fail_msg("row %zu", i);
	}
	/* before the features, and after the start, nothing can be set */
	set_reg(&d, VIRTIO_MMIO_STATUS, 0);
	drv_queue(&d, 0, 8);
	assert_int_equal(reg(&d, VIRTIO_MMIO_QUEUE_READY), 0);
	drv_start(&d, ALL, 8);
	set_reg64(&d, VIRTIO_MMIO_QUEUE_DESC_LOW, 0);
	set_reg(&d, VIRTIO_MMIO_QUEUE_READY, 0);
	assert_int_equal(dev.vq[1].s.desc, RING(1));
	assert_int_equal(reg(&d, VIRTIO_MMIO_QUEUE_READY), 1);
}

/* Every offset, width and state: no register but the status starts or breaks anything. */
static void test_all_accesses(void **state)
{
	static const uint32_t widths[] = {1, 2, 4, 8};
	uint8_t buf[8];

	for (uint32_t st = 0; st < 4; st++) {
		for (uint64_t off = 0; off < 0x200; off++) {
			for (size_t w = 0; w < 4; w++) {
				set_reg(&d, VIRTIO_MMIO_STATUS, 0);
				if (st)
					drv_features(&d, ALL);
				if (st > 1)
					drv_start(&d, ALL, 8);
				memset(buf, 0xff, 8);
				vdev_write(&dev, off, buf, widths[w]);
				vdev_read(&dev, off, buf, widths[w]);
				vdev_kicked(&dev);
			}
		}
	}
	vdev_read(&dev, UINT64_MAX - 3, buf, 8);
	vdev_write(&dev, UINT64_MAX - 3, buf, 8);
}

static void test_config(void **state)
{
	char buf[16] = "";

	vdev_read(&dev, VIRTIO_MMIO_CONFIG, buf, 8);
	assert_memory_equal(buf, "configur", 8);
	vdev_read(&dev, VIRTIO_MMIO_CONFIG + 3, buf, 1);
	assert_int_equal(buf[0], 'f');
	vdev_read(&dev, VIRTIO_MMIO_CONFIG + 8, buf, 8); /* half outside: nothing */
	assert_memory_equal(buf, "\0\0\0\0\0\0\0", 8);
	vdev_write(&dev, VIRTIO_MMIO_CONFIG, "X", 1);
	assert_int_equal(config[0], 'c'); /* read-only */
}

static void test_reset_ends_the_device(void **state)
{
	start(ALL);
	put_desc(&d, RING(0), 0, DATA, 1, 0, 0);
	drv_avail(&d, 0, 0);
	set_reg(&d, VIRTIO_MMIO_STATUS, 0);
	assert_false(dev.live);
	assert_int_equal(stops, 0); /* that is the loop's */
	vdev_kicked(&dev);
	assert_int_equal(stops, 1);
	assert_int_equal(processed, 1); /* at the start */
	assert_int_equal(reg(&d, VIRTIO_MMIO_QUEUE_READY), 0);
	/* and again, reset and started before the loop saw the reset */
	drv_start(&d, ALL, 8);
	set_reg(&d, VIRTIO_MMIO_STATUS, 0);
	drv_start(&d, ALL, 8);
	assert_int_equal(stops, 2);
	assert_int_equal(starts, 3);
}

static void test_interrupt_status(void **state)
{
	start(0);
	vq_push(&dev.vq[0], 0, 0);
	vdev_signal(&dev, &dev.vq[0]);
	assert_int_equal(drv_irqs(&d), 1);
	assert_int_equal(reg(&d, VIRTIO_MMIO_INTERRUPT_STATUS), 1);
	vdev_config_changed(&dev);
	assert_int_equal(reg(&d, VIRTIO_MMIO_INTERRUPT_STATUS), 3);
	set_reg(&d, VIRTIO_MMIO_INTERRUPT_ACK, 1);
	assert_int_equal(reg(&d, VIRTIO_MMIO_INTERRUPT_STATUS), 2);
	assert_int_equal(reg(&d, VIRTIO_MMIO_CONFIG_GENERATION), 1);
}

/* A guest's other CPU rewrites ring and table all the while: whatever is popped lies in memory. */
static void *scribble(void *arg)
{
	uint32_t x = 1;

	while (!__atomic_load_n((bool *)arg, __ATOMIC_RELAXED)) {
		x = x * 1664525 + 1013904223;
		/* addresses, lengths, flags and next of the first descriptors of both */
		uint64_t at = (x & 1 ? RING(0) : TABLE(0)) + (x >> 8) % 128;

		d.mem.base[at] = (uint8_t)(x >> 24);
	}
	return NULL;
}

static void test_racing_writer(void **state)
{
	bool end = false;
	pthread_t t;
	unsigned good = 0;

	assert_int_equal(pthread_create(&t, NULL, scribble, &end), 0);
	for (int i = 0; i < 20000; i++) {
		if (!dev.live)
			drv_start(&d, ALL, 8);
		put_desc(&d, TABLE(0), 0, DATA, 64, NX, 1);
		put_desc(&d, TABLE(0), 1, DATA, 64, W, 1);
		put_desc(&d, RING(0), 0, TABLE(0), 32, IND, 0);
		if (pop(0) != 1)
			continue;
		good++;
		assert_in_range(chain.n_out + chain.n_in, 0, 8);
		for (unsigned k = 0; k < chain.n_out + chain.n_in; k++) {
			uint64_t gpa = (uint64_t)((uint8_t *)chain.iov[k].iov_base - d.mem.base);

			assert_true(gpa < MEM_SIZE && chain.iov[k].iov_len <= MEM_SIZE - gpa);
		}
	}
	__atomic_store_n(&end, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	assert_true(good > 0);
}

static void test_iov(void **state)
{
	char a[4] = "abc", b[4] = "defg", out[8] = "";
	struct iovec v[3] = {{a, 3}, {NULL, 0}, {b, 4}}, s[3];

	assert_int_equal(iov_read(v, 3, 2, out, 3), 3);
	assert_memory_equal(out, "cde", 3);
	assert_int_equal(iov_read(v, 3, 6, out, 8), 1);
	assert_int_equal(iov_read(v, 3, 7, out, 8), 0);
	assert_int_equal(iov_slice(v, 3, 1, 4, s), 2);
	assert_true(s[0].iov_base == a + 1 && s[0].iov_len == 2 && s[1].iov_len == 2);
	assert_int_equal(iov_slice(v, 3, 7, 4, s), 0);
	assert_int_equal(iov_write(&d.mem, v, 3, 2, "XYZ", 3), 3);
	assert_memory_equal(b, "YZfg", 4);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_ranges),
		T(test_hole),
		T(test_copy_and_discard),
		T(test_from_file),
		T(test_chain),
		T(test_indirect),
		T(test_hostile_chains),
		T(test_avail_jumps),
		T(test_indices_wrap),
		T(test_signals),
		T(test_event_index),
		T(test_identity),
		T(test_order_of_status),
		T(test_features_are_checked),
		T(test_bad_queues),
		T(test_all_accesses),
		T(test_config),
		T(test_reset_ends_the_device),
		T(test_interrupt_status),
		T(test_racing_writer),
		T(test_iov),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
