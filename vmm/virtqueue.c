/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/virtqueue.h"

#include <errno.h>
#include <linux/virtio_ring.h>

/* avail: flags, idx, ring[size], used_event. used: flags, idx, {id, len}[size], avail_event. */
#define AVAIL_IDX      1
#define AVAIL_RING     2
#define USED_IDX       1
#define USED_RING      2
#define AVAIL_EVENT(q) (2 + 4 * (q)->s.size)
#define USED_EVENT(q)  (2 + (q)->s.size)

static uint16_t load16(const uint16_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
static void store16(const struct vq *q, uint16_t *p, uint16_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
	gmem_wrote(q->mem, p, sizeof(*p));
}

int vq_start(struct vq *q, const struct gmem *mem)
{
	uint64_t n = q->s.size;

	if (!n || n > q->max || n > VQ_MAX_SIZE || (n & (n - 1)))
		return -EPROTO;
	if (q->s.desc % 16 || q->s.driver % 2 || q->s.device % 4)
		return -EPROTO;

	/* The event index is always there for our part, as in every driver's allocation (2.7.10).
	 */
	const uint8_t *desc = gmem_at(mem, q->s.desc, 16 * n);
	uint16_t *avail = gmem_at(mem, q->s.driver, 6 + 2 * n);
	uint16_t *used = gmem_at(mem, q->s.device, 6 + 8 * n);

	if (!desc || !avail || !used)
		return -EPROTO;
	q->desc = desc;
	q->avail = avail;
	q->used = used;
	q->mem = mem;
	q->s.ready = 1;
	return 0;
}

void vq_reset(struct vq *q)
{
	q->s = (struct vq_state){.size = q->max};
	q->desc = NULL;
	q->avail = q->used = NULL;
}

/* One walk over a chain; tables are checked before they are set. */
struct walk {
	const uint8_t *table;
	uint32_t table_len, seen;
	bool inside; /* an indirect table */
};

static int enter_indirect(const struct vq *q, struct walk *w, const struct vring_desc *d)
{
	if (!q->s.indirect || w->inside || (d->flags & VRING_DESC_F_NEXT))
		return -EPROTO;
	if (!d->len || d->len % 16 || d->len / 16 > q->s.size)
		return -EPROTO;
	w->table = gmem_at(q->mem, d->addr, d->len);
	if (!w->table)
		return -EPROTO;
	w->table_len = d->len / 16;
	w->inside = true;
	return 0;
}

static int add_buffer(const struct vq *q, struct vq_chain *c, const struct vring_desc *d)
{
	bool in = d->flags & VRING_DESC_F_WRITE;
	uint32_t *len = in ? &c->in_len : &c->out_len;

	if (!in && c->n_in)
		return -EPROTO;
	if (!d->len) /* legal, and nothing */
		return 0;

	void *p = gmem_at(q->mem, d->addr, d->len);

	if (!p || __builtin_add_overflow(*len, d->len, len))
		return -EPROTO;
	c->iov[c->n_out + c->n_in] = (struct iovec){.iov_base = p, .iov_len = d->len};
	if (in)
		c->n_in++;
	else
		c->n_out++;
	return 0;
}

static int walk_chain(const struct vq *q, struct vq_chain *c)
{
	struct walk w = {.table = q->desc, .table_len = q->s.size};
	uint32_t i = c->head;

	for (;;) {
		struct vring_desc d;
		int r;

		if (i >= w.table_len || w.seen++ >= q->s.size)
			return -EPROTO;
		gmem_copy_in(&d, w.table + 16 * (size_t)i, sizeof(d));
		if (d.flags & VRING_DESC_F_INDIRECT) {
			r = enter_indirect(q, &w, &d);
			if (r < 0)
				return r;
			i = 0;
			w.seen--; /* the table is no buffer */
			continue;
		}
		r = add_buffer(q, c, &d);
		if (r < 0)
			return r;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 1;
		i = d.next;
	}
}

int vq_pop(struct vq *q, struct vq_chain *ret)
{
	if (!q->s.ready)
		return 0;

	uint16_t n = load16(&q->avail[AVAIL_IDX]) - q->s.next_avail;

	if (!n)
		return 0;
	if (n > q->s.size)
		return -EPROTO;
	ret->head = load16(&q->avail[AVAIL_RING + q->s.next_avail % q->s.size]);
	ret->n_out = ret->n_in = 0;
	ret->out_len = ret->in_len = 0;

	int r = walk_chain(q, ret);

	if (r > 0)
		q->s.next_avail++;
	return r;
}

void vq_put(struct vq *q, uint16_t i, uint16_t head, uint32_t written)
{
	struct vring_used_elem e = {.id = head, .len = written};
	uint16_t at = (uint16_t)(q->s.next_used + i) % q->s.size;

	memcpy(&q->used[USED_RING + 4 * at], &e, sizeof(e));
	gmem_wrote(q->mem, &q->used[USED_RING + 4 * at], sizeof(e));
}

void vq_publish(struct vq *q, uint16_t n)
{
	q->s.next_used += n;
	store16(q, &q->used[USED_IDX], q->s.next_used);
}

bool vq_wants_signal(struct vq *q)
{
	uint16_t new = q->s.next_used, old = q->s.signalled;

	if (!q->s.ready || new == old)
		return false;
	/* Our index must be out before we look whether the driver sleeps (2.7.7.2). */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);

	bool wants = q->s.event_idx ? vring_need_event(load16(&q->avail[USED_EVENT(q)]), new, old)
				    : !(load16(&q->avail[0]) & VRING_AVAIL_F_NO_INTERRUPT);

	/* With the event index old is what the driver was last told about; without it any. */
	q->s.signalled = new;
	return wants;
}

void vq_quiet(struct vq *q)
{
	/* With the event index it is enough not to move it on. */
	if (q->s.ready && !q->s.event_idx)
		store16(q, &q->used[0], VRING_USED_F_NO_NOTIFY);
}

bool vq_listen(struct vq *q)
{
	if (!q->s.ready)
		return false;
	if (q->s.event_idx)
		store16(q, &q->used[AVAIL_EVENT(q)], q->s.next_avail);
	else
		store16(q, &q->used[0], 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return load16(&q->avail[AVAIL_IDX]) != q->s.next_avail;
}

size_t iov_slice(const struct iovec *iov, size_t n, size_t off, size_t len, struct iovec *dst)
{
	size_t k = 0;

	for (size_t i = 0; i < n && len; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}

		size_t part = iov[i].iov_len - off;

		if (part > len)
			part = len;
		dst[k++] = (struct iovec){(uint8_t *)iov[i].iov_base + off, part};
		off = 0;
		len -= part;
	}
	return k;
}

/* to: into that memory; NULL: out of one. */
static size_t iov_copy(const struct gmem *to, const struct iovec *iov, size_t n, size_t off, void *buf,
		       size_t len)
{
	size_t done = 0;

	for (size_t i = 0; i < n && done < len; i++) {
		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}

		uint8_t *at = (uint8_t *)iov[i].iov_base + off;
		size_t part = iov[i].iov_len - off;

		if (part > len - done)
			part = len - done;
		if (to) {
			memcpy(at, (uint8_t *)buf + done, part);
			gmem_wrote(to, at, part);
		} else {
			gmem_copy_in((uint8_t *)buf + done, at, part);
		}
		off = 0;
		done += part;
	}
	return done;
}

size_t iov_read(const struct iovec *iov, size_t n, size_t off, void *buf, size_t len)
{
	return iov_copy(NULL, iov, n, off, buf, len);
}

size_t iov_write(const struct gmem *m, const struct iovec *iov, size_t n, size_t off, const void *buf,
		 size_t len)
{
	return iov_copy(m, iov, n, off, (void *)(uintptr_t)buf, len);
}

void iov_wrote(const struct gmem *m, const struct iovec *iov, size_t n, size_t len)
{
	for (size_t i = 0; i < n && len; i++) {
		size_t part = iov[i].iov_len < len ? iov[i].iov_len : len;

		gmem_wrote(m, iov[i].iov_base, part);
		len -= part;
	}
}
