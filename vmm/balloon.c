/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/balloon.h"

#include <linux/virtio_ids.h>

#include "base/mem.h"
#include "base/sys.h"

#define BIT(n)	     (1ull << (n))
#define PAGE	     (1u << VIRTIO_BALLOON_PFN_SHIFT)
#define PFNS_AT_ONCE 256
#define MAX_PFNS     65536 /* of one request; a driver sends 256 */

/* Queues: inflate, deflate, statistics, reporting. Before the last would be that of
 * VIRTIO_BALLOON_F_FREE_PAGE_HINT, which is not offered. */
#define STATS 2

/* Give back runs of neighbouring pages by one call each. Pages that are no memory are skipped. */
static void inflate_pfns(struct balloon *b, const uint32_t *pfn, size_t n)
{
	for (size_t i = 0, run; i < n; i += run) {
		uint64_t gpa = (uint64_t)pfn[i] << VIRTIO_BALLOON_PFN_SHIFT;

		for (run = 1; i + run < n && pfn[i + run] == pfn[i] + run; run++)
			if (!gmem_at(b->dev.mem, gpa, (run + 1) * PAGE))
				break;

		void *p = gmem_at(b->dev.mem, gpa, run * PAGE);

		if (p)
			b->inflated += gmem_discard(b->dev.mem, p, run * PAGE);
	}
}

static int inflate(struct vdev *v, struct vq *q, const struct vq_chain *c)
{
	struct balloon *b = container_of(v, struct balloon, dev);
	uint32_t pfn[PFNS_AT_ONCE];
	size_t off = 0, n;

	while ((n = iov_read(c->iov, c->n_out, off, pfn, sizeof(pfn)) / 4) > 0) {
		inflate_pfns(b, pfn, n);
		off += n * 4;
		if (off >= MAX_PFNS * 4)
			break;
	}
	vq_push(q, c->head, 0);
	return 0;
}

static int deflate(struct vdev *v, struct vq *q, const struct vq_chain *c)
{
	/* Touching a page brings it back: nothing to do. */
	vq_push(q, c->head, 0);
	return 0;
}

static int stats(struct vdev *v, struct vq *q, const struct vq_chain *c)
{
	struct balloon *b = container_of(v, struct balloon, dev);
	struct virtio_balloon_stat st[VIRTIO_BALLOON_S_NR + 8];
	size_t n = iov_read(c->iov, c->n_out, 0, st, sizeof(st)) / sizeof(st[0]);

	for (size_t i = 0; i < n; i++)
		if (st[i].tag < VIRTIO_BALLOON_S_NR)
			b->stats.v[st[i].tag] = st[i].val;
	b->told = sys_now_mono();
	/* One buffer goes to and fro: it stays with us until we ask. A second is an odd driver's.
	 */
	if (b->has_stats_buf)
		vq_push(q, b->stats_head, 0);
	b->has_stats_buf = true;
	b->stats_head = c->head;
	return 0;
}

static int report(struct vdev *v, struct vq *q, const struct vq_chain *c)
{
	struct balloon *b = container_of(v, struct balloon, dev);

	for (unsigned i = 0; i < c->n_in; i++) {
		const struct iovec *iov = &c->iov[c->n_out + i];

		b->reported += gmem_discard(v->mem, iov->iov_base, iov->iov_len);
	}
	vq_push(q, c->head, 0);
	return 0;
}

static void process(struct vdev *v)
{
	static vdev_chain_fn *const handle[] = {inflate, deflate, stats, report};
	struct balloon *b = container_of(v, struct balloon, dev);

	for (unsigned i = 0; i < ARRAY_LEN(handle) && v->live; i++)
		vdev_drain(v, &v->vq[i], &b->chain, handle[i]);
}

static void stop(struct vdev *v)
{
	struct balloon *b = container_of(v, struct balloon, dev);

	b->has_stats_buf = false;
	b->config.actual = 0;
	b->told = 0;
	memset(&b->stats, 0xff, sizeof(b->stats));
}

static const struct vdev_ops ops = {
	.id = VIRTIO_ID_BALLOON,
	.n_queues = 4,
	.queue_size = 64,
	.stop = stop,
	.process = process,
};

int balloon_init(struct balloon *b, const struct gmem *mem)
{
	*b = (struct balloon){0};
	memset(&b->stats, 0xff, sizeof(b->stats));

	/* Without DEFLATE_ON_OOM a limit is one: a guest that has too little ends a process of its
	 * own, instead of taking pages back that the machine's cgroup has no more. And Linux then
	 * does not count the balloon as memory, so that free(1) inside tells the limit. */
	int r = vdev_init(&b->dev, &ops, mem,
			  BIT(VIRTIO_BALLOON_F_STATS_VQ) | BIT(VIRTIO_BALLOON_F_REPORTING),
			  &b->config, sizeof(b->config));

	b->dev.config_rw = offsetof(struct virtio_balloon_config, actual);
	b->dev.config_rw_end = b->dev.config_rw + sizeof(b->config.actual);
	return r;
}

void balloon_done(struct balloon *b)
{
	vdev_done(&b->dev);
}

void balloon_save(struct balloon *b, struct balloon_state *ret)
{
	pthread_mutex_lock(&b->dev.lock);
	*ret = (struct balloon_state){
		.config = b->config,
		.stats_head = b->stats_head,
		.has_stats_buf = b->has_stats_buf,
	};
	pthread_mutex_unlock(&b->dev.lock);
}

void balloon_restore(struct balloon *b, const struct balloon_state *s)
{
	b->config.num_pages = s->config.num_pages;
	b->config.actual = s->config.actual;
	b->stats_head = (uint16_t)s->stats_head;
	/* Else there is no ring to give it back to. */
	b->has_stats_buf = s->has_stats_buf && b->dev.vq[STATS].s.ready;
}

void balloon_set(struct balloon *b, uint64_t bytes)
{
	uint64_t most = b->dev.mem->size;

	pthread_mutex_lock(&b->dev.lock);
	b->config.num_pages = (uint32_t)((bytes < most ? bytes : most) / PAGE);
	vdev_config_changed(&b->dev);
	pthread_mutex_unlock(&b->dev.lock);
}

uint64_t balloon_target(struct balloon *b)
{
	pthread_mutex_lock(&b->dev.lock);

	uint64_t n = (uint64_t)b->config.num_pages * PAGE;

	pthread_mutex_unlock(&b->dev.lock);
	return n;
}

uint64_t balloon_actual(struct balloon *b)
{
	pthread_mutex_lock(&b->dev.lock);

	uint64_t n = (uint64_t)b->config.actual * PAGE;

	pthread_mutex_unlock(&b->dev.lock);
	return n;
}

uint64_t balloon_get_stats(struct balloon *b, struct balloon_stats *ret)
{
	pthread_mutex_lock(&b->dev.lock);

	uint64_t told = b->told;

	*ret = b->stats;
	if (b->dev.live && b->has_stats_buf) {
		b->has_stats_buf = false;
		vq_push(&b->dev.vq[STATS], b->stats_head, 0);
		vdev_signal(&b->dev, &b->dev.vq[STATS]);
	}
	pthread_mutex_unlock(&b->dev.lock);
	return told;
}
