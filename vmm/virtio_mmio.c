/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/virtio_mmio.h"

#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"

#define BIT(n) (1ull << (n))
#define MAGIC  0x74726976 /* "virt" */
#define VENDOR 0x20535056 /* "VPS " */
#define ALWAYS_OFFERED                                                                             \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | BIT(VIRTIO_RING_F_EVENT_IDX))

#define S_ACK	      VIRTIO_CONFIG_S_ACKNOWLEDGE
#define S_DRIVER      VIRTIO_CONFIG_S_DRIVER
#define S_DRIVER_OK   VIRTIO_CONFIG_S_DRIVER_OK
#define S_FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define S_NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define S_FAILED      VIRTIO_CONFIG_S_FAILED

static void on_kick(struct loop_source *s, uint32_t events)
{
	vdev_kicked(container_of(s, struct vdev, kick));
}

int vdev_init(struct vdev *v, const struct vdev_ops *ops, const struct gmem *mem, uint64_t offered,
	      void *config, uint32_t config_len)
{
	autoclose int irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	autoclose int kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (irq < 0 || kick < 0)
		return -errno;
	*v = (struct vdev){
		.ops = ops,
		.mem = mem,
		.offered = offered | ALWAYS_OFFERED,
		.config = config,
		.config_len = config_len,
		.irq_fd = take_fd(irq),
		.kick = {.fd = take_fd(kick), .fn = on_kick},
		.lock = PTHREAD_MUTEX_INITIALIZER,
	};
	for (unsigned i = 0; i < ops->n_queues; i++) {
		v->vq[i].max = ops->queue_size;
		vq_reset(&v->vq[i]);
	}
	return 0;
}

void vdev_done(struct vdev *v)
{
	if (!v || !v->ops)
		return;
	close_fd(&v->irq_fd);
	close_fd(&v->kick.fd);
	pthread_mutex_destroy(&v->lock);
	v->ops = NULL;
}

int vdev_restore(struct vdev *v, const struct vdev_state *s, const struct vq_state *vq)
{
	if (s->acked & ~v->offered)
		return -EPROTO;
	v->s = *s;
	for (unsigned i = 0; i < v->ops->n_queues; i++) {
		if (vq[i].size > v->vq[i].max)
			return -EPROTO;
		v->vq[i].s = vq[i];
		if (vq[i].ready && vq_start(&v->vq[i], v->mem) < 0)
			return -EPROTO;
	}
	/* An interrupt that was on its way; one too many is harmless. */
	if (v->s.isr)
		eventfd_write(v->irq_fd, 1);
	return 0;
}

static bool driver_ready(const struct vdev *v)
{
	return (v->s.status & (S_DRIVER_OK | S_NEEDS_RESET)) == S_DRIVER_OK;
}

void vdev_kick(struct vdev *v)
{
	eventfd_write(v->kick.fd, 1);
}

/* A vCPU may be calling: the loop does what the device has to do. */
static void end_life(struct vdev *v)
{
	if (!v->live)
		return;
	v->live = false;
	v->stop_due = true;
	vdev_kick(v);
}

static void interrupt(struct vdev *v, uint32_t why)
{
	/* Edge-triggered: the driver acknowledges before it looks at the rings, so a bit that is
	 * set again before that is seen, too. */
	__atomic_or_fetch(&v->s.isr, why, __ATOMIC_SEQ_CST);
	eventfd_write(v->irq_fd, 1);
}

void vdev_signal(struct vdev *v, struct vq *q)
{
	if (vq_wants_signal(q))
		interrupt(v, VIRTIO_MMIO_INT_VRING);
}

void vdev_config_changed(struct vdev *v)
{
	v->s.generation++;
	if (v->s.status & S_DRIVER_OK)
		interrupt(v, VIRTIO_MMIO_INT_CONFIG);
}

void vdev_broken(struct vdev *v)
{
	if (v->s.status & S_NEEDS_RESET)
		return;
	v->s.status |= S_NEEDS_RESET;
	end_life(v);
	interrupt(v, VIRTIO_MMIO_INT_CONFIG);
}

static void reset(struct vdev *v)
{
	end_life(v);
	v->s.status = 0;
	if (v->ops->settle)
		v->ops->settle(v);
	/* A second CPU may have begun a new life with the old rings meanwhile. */
	end_life(v);
	v->s.acked = 0;
	v->s.status = v->s.device_sel = v->s.driver_sel = v->s.queue_sel = 0;
	__atomic_store_n(&v->s.isr, 0, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < v->ops->n_queues; i++)
		vq_reset(&v->vq[i]);
}

/* Each bit once, in the order of 3.1.1, none taken back: everything else is ignored. */
static void set_status(struct vdev *v, uint32_t want)
{
	uint32_t have = v->s.status, added = want & ~have;

	if (!want) {
		reset(v);
		return;
	}
	if ((have & ~want & ~S_NEEDS_RESET) || (have & (S_NEEDS_RESET | S_FAILED)))
		return;
	if (added == S_FAILED) {
		v->s.status |= added;
	} else if ((added == S_ACK && !have) || (added == S_DRIVER && have == S_ACK)) {
		v->s.status |= added;
	} else if (added == (S_ACK | S_DRIVER) && !have) {
		v->s.status |= added;
	} else if (added == S_FEATURES_OK && have == (S_ACK | S_DRIVER)) {
		/* Refused by not being set: the driver reads it back. */
		if (!(v->s.acked & ~v->offered) && vdev_has(v, VIRTIO_F_VERSION_1))
			v->s.status |= added;
	} else if (added == S_DRIVER_OK && have == (S_ACK | S_DRIVER | S_FEATURES_OK)) {
		v->s.status |= added;
		vdev_kick(v);
	}
}

static void set_features(struct vdev *v, uint32_t val)
{
	if (v->s.status != (S_ACK | S_DRIVER) || v->s.driver_sel > 1)
		return;

	unsigned shift = 32 * v->s.driver_sel;

	v->s.acked = (v->s.acked & ~(0xffffffffull << shift)) | (uint64_t)val << shift;
}

static void set_half(uint64_t *reg, bool high, uint32_t val)
{
	unsigned shift = high ? 32 : 0;

	*reg = (*reg & ~(0xffffffffull << shift)) | (uint64_t)val << shift;
}

static void queue_ready(struct vdev *v, struct vq *q, uint32_t val)
{
	if (val != 1)
		return; /* only a reset stops one */
	q->s.event_idx = vdev_has(v, VIRTIO_RING_F_EVENT_IDX);
	q->s.indirect = vdev_has(v, VIRTIO_RING_F_INDIRECT_DESC);
	if (vq_start(q, v->mem) < 0)
		vdev_broken(v);
}

/* Queues are set up between FEATURES_OK and DRIVER_OK (3.1.1), each once. */
static void queue_write(struct vdev *v, uint64_t off, uint32_t val)
{
	if (v->s.queue_sel >= v->ops->n_queues || v->s.status != (S_ACK | S_DRIVER | S_FEATURES_OK))
		return;

	struct vq *q = &v->vq[v->s.queue_sel];

	if (q->s.ready)
		return;
	switch (off) {
	case VIRTIO_MMIO_QUEUE_NUM:
		q->s.size = val <= q->max ? (uint16_t)val : 0;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&q->s.desc, off == VIRTIO_MMIO_QUEUE_DESC_HIGH, val);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&q->s.driver, off == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, val);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_half(&q->s.device, off == VIRTIO_MMIO_QUEUE_USED_HIGH, val);
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		queue_ready(v, q, val);
		break;
	}
}

static uint32_t reg_read(struct vdev *v, uint64_t off)
{
	const struct vq *q = v->s.queue_sel < v->ops->n_queues ? &v->vq[v->s.queue_sel] : NULL;

	switch (off) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return 2;
	case VIRTIO_MMIO_DEVICE_ID:
		return v->ops->id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		return v->s.device_sel < 2 ? (uint32_t)(v->offered >> 32 * v->s.device_sel) : 0;
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return q ? q->max : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return q ? q->s.ready : 0;
	case VIRTIO_MMIO_STATUS:
		return v->s.status;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return v->s.generation;
	case VIRTIO_MMIO_SHM_LEN_LOW:
	case VIRTIO_MMIO_SHM_LEN_HIGH:
	case VIRTIO_MMIO_SHM_BASE_LOW:
	case VIRTIO_MMIO_SHM_BASE_HIGH:
		return 0xffffffff; /* no such region */
	}
	return 0;
}

static void reg_write(struct vdev *v, uint64_t off, uint32_t val)
{
	switch (off) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		v->s.device_sel = val;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		v->s.driver_sel = val;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		set_features(v, val);
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		v->s.queue_sel = val;
		break;
	case VDEV_NOTIFY:
		/* Only without an ioeventfd. */
		vdev_kick(v);
		break;
	case VIRTIO_MMIO_STATUS:
		set_status(v, val);
		break;
	default:
		queue_write(v, off, val);
	}
}

static void config_access(struct vdev *v, uint64_t off, void *buf, uint32_t len, bool write)
{
	if (off > v->config_len || len > v->config_len - off)
		return;
	if (!write) {
		memcpy(buf, v->config + off, len);
	} else if (off >= v->config_rw && off + len <= v->config_rw_end) {
		memcpy(v->config + off, buf, len);
	}
}

void vdev_read(struct vdev *v, uint64_t off, void *buf, uint32_t len)
{
	uint32_t val = 0;

	memset(buf, 0, len);
	if (off < VIRTIO_MMIO_CONFIG && (len != 4 || off % 4))
		return;
	if (off == VIRTIO_MMIO_INTERRUPT_STATUS) {
		val = __atomic_load_n(&v->s.isr, __ATOMIC_SEQ_CST);
		memcpy(buf, &val, 4);
		return;
	}
	pthread_mutex_lock(&v->lock);
	if (off >= VIRTIO_MMIO_CONFIG) {
		config_access(v, off - VIRTIO_MMIO_CONFIG, buf, len, false);
	} else {
		val = reg_read(v, off);
		memcpy(buf, &val, 4);
	}
	pthread_mutex_unlock(&v->lock);
}

void vdev_write(struct vdev *v, uint64_t off, const void *buf, uint32_t len)
{
	uint32_t val;

	if (off < VIRTIO_MMIO_CONFIG && (len != 4 || off % 4))
		return;
	if (off < VIRTIO_MMIO_CONFIG)
		memcpy(&val, buf, 4);
	if (off == VIRTIO_MMIO_INTERRUPT_ACK) {
		__atomic_and_fetch(&v->s.isr, ~val, __ATOMIC_SEQ_CST);
		return;
	}
	pthread_mutex_lock(&v->lock);
	if (off >= VIRTIO_MMIO_CONFIG)
		config_access(v, off - VIRTIO_MMIO_CONFIG, (void *)(uintptr_t)buf, len, true);
	else
		reg_write(v, off, val);
	pthread_mutex_unlock(&v->lock);
}

void vdev_kicked(struct vdev *v)
{
	eventfd_t n;

	eventfd_read(v->kick.fd, &n);
	pthread_mutex_lock(&v->lock);
	if (v->stop_due) {
		v->stop_due = false;
		if (v->ops->stop)
			v->ops->stop(v);
	}
	if (!v->live && driver_ready(v)) {
		v->live = true;
		if (v->ops->start)
			v->ops->start(v);
	}
	if (v->live && v->ops->process)
		v->ops->process(v);
	pthread_mutex_unlock(&v->lock);
}

int vdev_attach(struct vdev *v, struct loop *l)
{
	int r = loop_watch(l, &v->kick, EPOLLIN);

	if (r == 0)
		vdev_kick(v);
	return r;
}

void vdev_drain(struct vdev *v, struct vq *q, struct vq_chain *c, vdev_chain_fn *fn)
{
	int i, r = 0;

	vq_quiet(q);
	for (i = 0; i < VDEV_AT_ONCE; i++) {
		r = vq_pop(q, c);
		if (r == 0 && !vq_listen(q))
			break;
		if (r > 0)
			r = fn(v, q, c);
		if (r < 0) {
			vdev_broken(v);
			return;
		}
	}
	vdev_signal(v, q);
	if (i == VDEV_AT_ONCE)
		vdev_kick(v);
}
