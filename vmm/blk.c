/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/blk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/uio.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/sys.h"
#include "vmm/api.h"
#include "vmm/filter.h"

#define SECTOR	    512
#define MAX_DISCARD (1u << 22) /* sectors in one range: 2 GiB */
#define MAX_RANGES  BLK_RANGES
#define MAX_ZEROES  (1u << 16) /* 32 MiB, which may have to be written */
#define ZERO_CHUNK  (64u << 10)
#define LATER	    INT32_MAX /* no length of a read, which is whole sectors */

/* pread or pwrite all of iov at off; end of file reads as zeroes. 0 or -errno. */
static int transfer(struct blk *b, struct iovec *iov, size_t n, uint64_t off, bool write)
{
	while (n) {
		ssize_t r = write ? pwritev(b->fd, iov, (int)n, (off_t)off)
				  : preadv(b->fd, iov, (int)n, (off_t)off);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -errno;
		if (!r && write)
			return -EIO;
		if (!r) {
			for (size_t i = 0; i < n; i++)
				memset(iov[i].iov_base, 0, iov[i].iov_len);
			return 0;
		}
		off += (uint64_t)r;
		while (n && (size_t)r >= iov->iov_len) {
			r -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n && r) {
			iov->iov_base = (uint8_t *)iov->iov_base + r;
			iov->iov_len -= (size_t)r;
		}
	}
	return 0;
}

/* Under the lock, and not before it was done: who has just taken the log away reads the block, and then it may change. */
static void log_range(struct blk *b, uint64_t off, uint64_t len)
{
	if (!b->log || !len)
		return;
	for (uint64_t i = off / VMM_LOG_BLOCK; i <= (off + len - 1) / VMM_LOG_BLOCK && i < b->log_blocks; i++)
		b->log[i / 64] |= 1ull << i % 64;
}

/* Whether [sector, sector + n) lies on the disk. */
static bool on_disk(const struct blk *b, uint64_t sector, uint64_t n)
{
	return sector <= b->config.capacity && n <= b->config.capacity - sector;
}

static int read_write(struct blk *b, uint64_t sector, bool write)
{
	struct vq_chain *c = &b->chain;
	size_t len = write ? c->out_len - sizeof(struct virtio_blk_outhdr) : c->in_len - 1, n;

	if (len % SECTOR || !on_disk(b, sector, len / SECTOR))
		return -EINVAL;
	if (write)
		n = iov_slice(c->iov, c->n_out, sizeof(struct virtio_blk_outhdr), len, b->data);
	else
		n = iov_slice(c->iov + c->n_out, c->n_in, 0, len, b->data);
	rate_take(&b->bytes, len);

	int r = transfer(b, b->data, n, sector * SECTOR, write);

	if (write) /* as far as it came */
		log_range(b, sector * SECTOR, len);
	else /* of the whole request, as transfer eats its own vector */
		iov_wrote(b->dev.mem, c->iov + c->n_out, c->n_in, len);
	return r;
}

static int write_zeroes(struct blk *b, uint64_t off, uint64_t len)
{
	static const uint8_t zeroes[ZERO_CHUNK];

	while (len) {
		uint64_t part = len < ZERO_CHUNK ? len : ZERO_CHUNK;
		struct iovec iov = {(void *)(uintptr_t)zeroes, part};
		int r = transfer(b, &iov, 1, off, true);

		if (r < 0)
			return r;
		off += part;
		len -= part;
	}
	return 0;
}

static int clear_range(struct blk *b, const struct virtio_blk_discard_write_zeroes *d, bool zeroes)
{
	uint32_t known = zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;
	uint64_t off = d->sector * SECTOR, len = (uint64_t)d->num_sectors * SECTOR;
	bool unmap = !zeroes || (d->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	int mode = FALLOC_FL_KEEP_SIZE | (unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);

	if (d->flags & ~known)
		return -EOPNOTSUPP;
	if (d->num_sectors > (zeroes ? MAX_ZEROES : MAX_DISCARD) ||
	    !on_disk(b, d->sector, d->num_sectors))
		return -EINVAL;
	if (!len || fallocate(b->fd, mode, (off_t)off, (off_t)len) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return -errno;
	/* A discard is a hint; zeroes are a promise. */
	return zeroes ? write_zeroes(b, off, len) : 0;
}

/* The request at hand, copied and checked as far as it can be without doing it. */
static int parse_slow(struct blk *b, uint32_t type, struct blk_slow *ret)
{
	struct vq_chain *c = &b->chain;
	size_t len = c->out_len - sizeof(struct virtio_blk_outhdr), one = sizeof(ret->range[0]);
	struct iovec status;

	iov_slice(c->iov + c->n_out, c->n_in, c->in_len - 1, 1, &status);
	ret->type = type;
	ret->head = c->head;
	ret->only_status = c->in_len == 1;
	ret->status = status.iov_base;
	ret->n = 0;
	if (type == VIRTIO_BLK_T_FLUSH)
		return 0;
	if (b->read_only)
		return -EROFS;
	if (!len || len % one || len > (type == VIRTIO_BLK_T_DISCARD ? MAX_RANGES * one : one))
		return -EINVAL;
	ret->n = (unsigned)(len / one);
	iov_read(c->iov, c->n_out, sizeof(struct virtio_blk_outhdr), ret->range, len);
	/* Those that are not to be holes may have to be written. */
	if (type == VIRTIO_BLK_T_WRITE_ZEROES &&
	    !(ret->range[0].flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP))
		rate_take(&b->bytes, (uint64_t)ret->range[0].num_sectors * SECTOR);
	return 0;
}

static void count(uint64_t *n, uint64_t more)
{
	__atomic_fetch_add(n, more, __ATOMIC_RELAXED);
}

static int64_t count_io(struct blk *b, int r, bool write)
{
	const struct vq_chain *c = &b->chain;

	if (r < 0)
		return r;
	count(write ? &b->counts.writes : &b->counts.reads, 1);
	count(write ? &b->counts.written_bytes : &b->counts.read_bytes,
	      write ? c->out_len - sizeof(struct virtio_blk_outhdr) : c->in_len - 1);
	return write ? 0 : (int64_t)c->in_len - 1;
}

static int do_slow(struct blk *b, const struct blk_slow *s)
{
	int r = 0;

	if (s->type == VIRTIO_BLK_T_FLUSH) {
		count(&b->counts.flushes, 1);
		return fdatasync(b->fd) < 0 ? -errno : 0;
	}
	for (unsigned i = 0; r == 0 && i < s->n; i++)
		r = clear_range(b, &s->range[i], s->type == VIRTIO_BLK_T_WRITE_ZEROES);
	return r;
}

static void log_slow(struct blk *b, const struct blk_slow *s)
{
	for (unsigned i = 0; i < s->n; i++)
		if (on_disk(b, s->range[i].sector, s->range[i].num_sectors))
			log_range(b, s->range[i].sector * SECTOR, (uint64_t)s->range[i].num_sectors * SECTOR);
}

static uint8_t status_of(struct blk *b, int64_t r)
{
	if (r < 0)
		count(&b->counts.errors, 1);
	return r >= 0		  ? VIRTIO_BLK_S_OK
	       : r == -EOPNOTSUPP ? VIRTIO_BLK_S_UNSUPP
				  : VIRTIO_BLK_S_IOERR;
}

/* Under the lock, and only where the rings are still those of its request. */
static void finish_slow(struct blk *b, const struct blk_slow *s, int r)
{
	*s->status = status_of(b, r);
	gmem_wrote(b->dev.mem, s->status, 1);
	vq_push(&b->dev.vq[0], s->head, s->only_status);
	vdev_signal(&b->dev, &b->dev.vq[0]);
}

static void *help(void *arg)
{
	struct blk *b = arg;
	int r;

	/* Without it every request of this kind stays unanswered: not to be overlooked. */
	if (b->filtered && filter_install(FILTER_DISK) < 0)
		return NULL;
	pthread_mutex_lock(&b->dev.lock);
	for (;;) {
		while (!b->n_slow && !b->quit)
			pthread_cond_wait(&b->work, &b->dev.lock);
		if (!b->n_slow)
			break;

		const struct blk_slow *s = &b->slow[b->slow_at];

		pthread_mutex_unlock(&b->dev.lock);
		r = do_slow(b, s);
		pthread_mutex_lock(&b->dev.lock);
		log_slow(b, s);
		/* A reset waits for us with the rings; one that was broken gets no answers. */
		if (b->dev.live)
			finish_slow(b, s, r);
		b->slow_at = (b->slow_at + 1) % BLK_SLOW;
		if (!--b->n_slow)
			pthread_cond_broadcast(&b->idle);
	}
	pthread_mutex_unlock(&b->dev.lock);
	return NULL;
}

static void settle(struct vdev *v)
{
	struct blk *b = container_of(v, struct blk, dev);

	while (b->n_slow)
		pthread_cond_wait(&b->idle, &v->lock);
}

/* Do it, or have it done. */
static int slow(struct blk *b, uint32_t type)
{
	struct blk_slow here, *s = &here;
	bool helped = b->helps && b->n_slow < BLK_SLOW;

	if (helped)
		s = &b->slow[(b->slow_at + b->n_slow) % BLK_SLOW];

	int r = parse_slow(b, type, s);

	if (r < 0)
		return r;
	if (!helped) {
		r = do_slow(b, s);
		log_slow(b, s);
		return r;
	}
	b->n_slow++;
	pthread_cond_signal(&b->work);
	return LATER;
}

/* Bytes written before the status, LATER, or -errno. */
static int64_t request(struct blk *b)
{
	struct vq_chain *c = &b->chain;
	struct virtio_blk_outhdr h;

	if (iov_read(c->iov, c->n_out, 0, &h, sizeof(h)) != sizeof(h))
		return -EINVAL;
	switch (h.type) {
	case VIRTIO_BLK_T_IN:
		return count_io(b, read_write(b, h.sector, false), false);
	case VIRTIO_BLK_T_OUT:
		return b->read_only ? -EROFS : count_io(b, read_write(b, h.sector, true), true);
	case VIRTIO_BLK_T_GET_ID:
		if (c->in_len - 1 < sizeof(b->serial))
			return -EINVAL;
		return (int64_t)iov_write(b->dev.mem, c->iov + c->n_out, c->n_in, 0, b->serial,
					  sizeof(b->serial));
	case VIRTIO_BLK_T_FLUSH:
	case VIRTIO_BLK_T_DISCARD:
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return slow(b, h.type);
	}
	return -EOPNOTSUPP;
}

/* 1, 0 when there is none, -EPROTO. */
static int one(struct blk *b)
{
	struct vq *q = &b->dev.vq[0];
	struct vq_chain *c = &b->chain;
	int r = vq_pop(q, c);

	if (r <= 0)
		return r;
	if (!c->in_len) /* no place for the status */
		return -EPROTO;
	rate_take(&b->ops, 1);

	int64_t n = request(b);

	if (n == LATER)
		return 1;

	uint8_t status = status_of(b, n);

	iov_write(b->dev.mem, c->iov + c->n_out, c->n_in, c->in_len - 1, &status, 1);
	/* The used length tells what was written without gaps from the beginning. */
	vq_push(q, c->head,
		n < 0		     ? (c->in_len == 1)
		: n == c->in_len - 1 ? c->in_len
				     : (uint32_t)n);
	vdev_signal(&b->dev, q);
	return 1;
}

static void arm(struct blk *b)
{
	struct itimerspec t = {.it_value = {.tv_sec = (time_t)(b->wait_ns / 1000000000),
					    .tv_nsec = (long)(b->wait_ns % 1000000000)}};

	if (b->timer.fd >= 0)
		timerfd_settime(b->timer.fd, 0, &t, NULL);
}

/* Whether the rates allow a request now; else the timer is set. */
static bool may_begin(struct blk *b)
{
	if (!rate_limits(&b->bytes) && !rate_limits(&b->ops))
		return true;

	uint64_t now = sys_now_mono();
	uint64_t w1 = rate_wait(&b->bytes, now), w2 = rate_wait(&b->ops, now);

	b->wait_ns = w1 > w2 ? w1 : w2;
	if (b->wait_ns)
		arm(b);
	return !b->wait_ns;
}

static void process(struct vdev *v)
{
	struct blk *b = container_of(v, struct blk, dev);
	struct vq *q = &v->vq[0];

	if (b->held)
		return;
	vq_quiet(q);
	for (int i = 0; i < VDEV_AT_ONCE; i++) {
		if (!may_begin(b))
			return;

		int r = one(b);

		if (r < 0) {
			vdev_broken(v);
			return;
		}
		if (r == 0 && !vq_listen(q))
			return;
	}
	vdev_kick(v);
}

static const struct vdev_ops ops = {
	.id = VIRTIO_ID_BLOCK,
	.n_queues = 1,
	.queue_size = 256,
	.process = process,
	.settle = settle,
};

static void on_timer(struct loop_source *s, uint32_t events)
{
	uint64_t n;

	if (read(s->fd, &n, sizeof(n)) == sizeof(n))
		vdev_kicked(&container_of(s, struct blk, timer)->dev);
}

static int capacity(int fd, uint64_t *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode))
		*ret = (uint64_t)st.st_size / SECTOR;
	else if (!S_ISBLK(st.st_mode))
		return -EINVAL;
	else if (ioctl(fd, BLKGETSIZE64, ret) < 0)
		return -errno;
	else
		*ret /= SECTOR;
	return 0;
}

int blk_init(struct blk *b, const struct gmem *mem, const struct blk_opts *o, struct vps_err *err)
{
	uint64_t features = 1ull << VIRTIO_BLK_F_SEG_MAX | 1ull << VIRTIO_BLK_F_BLK_SIZE |
			    1ull << VIRTIO_BLK_F_FLUSH,
		 sectors = 0;
	int r = capacity(o->fd, &sectors);

	if (r < 0)
		return vps_err_sys(err, r, "size of a disk");
	*b = (struct blk){
		.fd = o->fd,
		.read_only = o->read_only,
		.filtered = o->filtered,
		.bytes = {.per_sec = o->bytes_per_sec},
		.ops = {.per_sec = o->ops_per_sec},
		.config =
			{
				.capacity = sectors,
				.seg_max = VQ_MAX_SIZE - 2,
				.blk_size = SECTOR,
				.max_discard_sectors = MAX_DISCARD,
				.max_discard_seg = MAX_RANGES,
				.discard_sector_alignment = 8,
				.max_write_zeroes_sectors = MAX_ZEROES,
				.max_write_zeroes_seg = 1,
				.write_zeroes_may_unmap = 1,
			},
	};
	memcpy(b->serial, o->serial, strnlen(o->serial, sizeof(b->serial)));
	features |= o->read_only ? 1ull << VIRTIO_BLK_F_RO
				 : 1ull << VIRTIO_BLK_F_DISCARD | 1ull << VIRTIO_BLK_F_WRITE_ZEROES;
	pthread_cond_init(&b->work, NULL);
	pthread_cond_init(&b->idle, NULL);
	b->loop.epoll_fd = b->loop.stop_fd = b->timer.fd = -1;
	r = vdev_init(&b->dev, &ops, mem, features, &b->config, sizeof(b->config));
	if (r < 0)
		return vps_err_sys(err, r, "make a disk");
	return 0;
}

void blk_set_rate(struct blk *b, uint64_t bytes_per_sec, uint64_t ops_per_sec)
{
	rate_set(&b->bytes, bytes_per_sec);
	rate_set(&b->ops, ops_per_sec);
	/* One that waits looks at them again. */
	vdev_kick(&b->dev);
}

void blk_counts_of(struct blk *b, struct blk_counts *ret)
{
	ret->read_bytes = __atomic_load_n(&b->counts.read_bytes, __ATOMIC_RELAXED);
	ret->reads = __atomic_load_n(&b->counts.reads, __ATOMIC_RELAXED);
	ret->written_bytes = __atomic_load_n(&b->counts.written_bytes, __ATOMIC_RELAXED);
	ret->writes = __atomic_load_n(&b->counts.writes, __ATOMIC_RELAXED);
	ret->flushes = __atomic_load_n(&b->counts.flushes, __ATOMIC_RELAXED);
	ret->errors = __atomic_load_n(&b->counts.errors, __ATOMIC_RELAXED);
}

void blk_hold(struct blk *b, bool hold)
{
	pthread_mutex_lock(&b->dev.lock);
	b->held = hold;
	if (hold)
		settle(&b->dev);
	pthread_mutex_unlock(&b->dev.lock);
	if (!hold)
		vdev_kick(&b->dev);
}

int blk_grow(struct blk *b, struct vps_err *err)
{
	uint64_t sectors;
	int r = capacity(b->fd, &sectors);

	if (r < 0)
		return vps_err_sys(err, r, "size of a disk");
	pthread_mutex_lock(&b->dev.lock);
	if (sectors < b->config.capacity) {
		r = vps_err_set(err, EINVAL, "a disk cannot shrink");
	} else if (sectors > b->config.capacity) {
		b->config.capacity = sectors;
		vdev_config_changed(&b->dev);
	}
	pthread_mutex_unlock(&b->dev.lock);
	return r;
}

void blk_log_end(struct blk *b)
{
	pthread_mutex_lock(&b->dev.lock);
	free(take_ptr(b->log));
	b->log_blocks = 0;
	pthread_mutex_unlock(&b->dev.lock);
}

int blk_log(struct blk *b, int fd, struct vps_err *err)
{
	autofree uint64_t *bits = NULL, *fresh = NULL;
	uint64_t n;
	size_t size;
	int r = -ENOMEM;

	pthread_mutex_lock(&b->dev.lock);
	n = (b->config.capacity * SECTOR + VMM_LOG_BLOCK - 1) / VMM_LOG_BLOCK;
	size = n / 64 * 8 + 8;
	bits = malloc(size);
	fresh = calloc(1, size);
	if (bits && fresh) {
		memset(bits, 0xff, size); /* all of which nothing is known: everything, or where the disk has grown */
		if (b->log)
			memcpy(bits, b->log, b->log_blocks / 64 * 8 + 8);
		for (uint64_t i = b->log_blocks; b->log && i < n && i / 64 == b->log_blocks / 64; i++)
			bits[i / 64] |= 1ull << i % 64;
		free(b->log);
		b->log = take_ptr(fresh);
		b->log_blocks = n;
		r = 0;
	}
	pthread_mutex_unlock(&b->dev.lock);
	r = r ?: fs_pwrite_all(fd, bits, (n + 7) / 8, 0);
	if (r < 0)
		blk_log_end(b);
	return r < 0 ? vps_err_sys(err, r, "tell what was written to a disk") : 0;
}

static void *run(void *arg)
{
	struct blk *b = arg;

	/* Without it this disk never answers: not to be overlooked. */
	if (!b->filtered || filter_install(FILTER_DISK) == 0)
		loop_run(&b->loop);
	return NULL;
}

int blk_start(struct blk *b, struct vps_err *err)
{
	int r = loop_init(&b->loop);

	if (r < 0)
		return vps_err_sys(err, r, "start a disk");

	autoclose int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	r = timer < 0 ? -errno : vdev_attach(&b->dev, &b->loop);
	if (r == 0) {
		b->timer = (struct loop_source){.fd = take_fd(timer), .fn = on_timer};
		r = loop_watch(&b->loop, &b->timer, EPOLLIN);
	}
	b->quit = false;
	if (r == 0 && !b->read_only) {
		r = -pthread_create(&b->helper, NULL, help, b);
		b->helps = r == 0;
	}
	if (r == 0)
		r = -pthread_create(&b->thread, NULL, run, b);
	if (r < 0) {
		blk_stop(b);
		return vps_err_sys(err, r, "start a disk");
	}
	b->in_thread = true;
	return 0;
}

void blk_stop(struct blk *b)
{
	if (b->in_thread) {
		loop_stop(&b->loop);
		pthread_join(b->thread, NULL);
		b->in_thread = false;
	}
	if (b->helps) {
		pthread_mutex_lock(&b->dev.lock);
		b->quit = true;
		pthread_cond_signal(&b->work);
		pthread_mutex_unlock(&b->dev.lock);
		pthread_join(b->helper, NULL);
		b->helps = false;
	}
	b->dev.kick.in = b->timer.in = false;
	close_fd(&b->timer.fd);
	loop_done(&b->loop);
}

void blk_done(struct blk *b)
{
	if (!b || !b->dev.ops)
		return;
	blk_stop(b);
	free(take_ptr(b->log));
	vdev_done(&b->dev);
}
