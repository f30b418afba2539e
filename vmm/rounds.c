/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/rounds.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "vmm/snapshot.h"

#define ZERO_RUN 64 /* pages: so many zeroes in a row are worth a mapping of their own */

static bool bit(const uint64_t *b, uint64_t i)
{
	return b[i / 64] >> i % 64 & 1;
}

static void set_bit(uint64_t *b, uint64_t i)
{
	b[i / 64] |= 1ull << i % 64;
}

static bool is_zero(const uint8_t *p, size_t len)
{
	return !len || (!p[0] && memcmp(p, p + 1, len - 1) == 0);
}

static uint64_t index_sum(const uint64_t *in, const uint64_t *data, uint64_t memory)
{
	size_t len = rounds_words(memory) * 8;

	return snap_sum(3, in, len) ^ snap_sum(4, data, len);
}

static uint64_t trailer_sum(const struct round_trailer *t)
{
	return snap_sum(5, t, offsetof(struct round_trailer, sum));
}

/* ---- writing ---- */

void round_begin(struct round_out *o, uint32_t number, uint64_t session, uint64_t memory)
{
	o->len = 0;
	o->at = o->seen = 0;
	o->t = (struct round_trailer){
		.magic = ROUNDS_MAGIC,
		.version = ROUNDS_VERSION,
		.number = number,
		.session = session,
		.memory = memory,
	};
	memset(o->in, 0, rounds_words(memory) * 8);
	memset(o->data, 0, rounds_words(memory) * 8);
}

static int flush(struct round_out *o)
{
	int r = fs_pwrite_all(o->fd, o->buf, o->len, o->at);

	o->at += o->len;
	o->len = 0;
	return r;
}

int round_page(struct round_out *o, uint64_t page, const uint8_t *bytes)
{
	bool whole = o->t.number == 1;
	uint64_t at = (whole ? page : o->t.pages) * GMEM_PAGE;
	uint8_t *copy;
	int r = 0;

	if (o->len == ROUND_BUF || (o->len && at != o->at + o->len))
		r = flush(o);
	if (r < 0)
		return r;
	o->seen++;
	set_bit(o->in, page);
	/* What is looked at, summed up and written is one and the same. */
	copy = o->buf + o->len;
	gmem_copy_in(copy, bytes, GMEM_PAGE);
	if (is_zero(copy, GMEM_PAGE))
		return 0;
	if (!o->len)
		o->at = at;
	o->len += GMEM_PAGE;
	set_bit(o->data, page);
	o->t.pages++;
	o->t.data_sum ^= snap_sum(page, copy, GMEM_PAGE);
	return 0;
}

int round_end(struct round_out *o)
{
	size_t len = rounds_words(o->t.memory) * 8;
	uint64_t at = o->t.memory;
	int r = flush(o);

	if (o->t.number > 1) {
		at = o->t.pages * GMEM_PAGE;
		o->t.index_sum = index_sum(o->in, o->data, o->t.memory);
		r = r < 0 ? r : fs_pwrite_all(o->fd, o->in, len, at);
		r = r < 0 ? r : fs_pwrite_all(o->fd, o->data, len, at + len);
		at += 2 * len;
	}
	o->t.sum = trailer_sum(&o->t);
	return r < 0 ? r : fs_pwrite_all(o->fd, &o->t, sizeof(o->t), at);
}

/* ---- reading ---- */

static int damaged(struct vps_err *err, size_t i, const char *what)
{
	return vps_err_set(err, EBADMSG, "round %zu of the snapshot is damaged (%s)", i + 1, what);
}

static int get_trailer(int fd, size_t i, uint64_t memory, struct round_trailer *t, struct vps_err *err)
{
	uint64_t index = i ? 2 * 8 * rounds_words(memory) : 0, size;
	struct stat st;
	int r = fstat(fd, &st) < 0 ? -errno : 0;

	if (r < 0)
		return vps_err_sys(err, r, "a round of the snapshot");
	size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	if (size < sizeof(*t))
		return damaged(err, i, "its size");
	r = snap_read_all(fd, t, sizeof(*t), size - sizeof(*t));
	if (r < 0)
		return vps_err_sys(err, r, "a round of the snapshot");
	if (memcmp(t->magic, ROUNDS_MAGIC, sizeof(t->magic)) != 0)
		return damaged(err, i, "its end");
	if (t->version != ROUNDS_VERSION)
		return vps_err_set(err, VPS_EUNSUPPORTED, "the snapshot's rounds are of version %u, not %d",
				   t->version, ROUNDS_VERSION);
	if (t->sum != trailer_sum(t))
		return damaged(err, i, "its end");
	if (t->number != i + 1)
		return vps_err_set(err, VPS_EUSAGE, "round %u of the snapshot in the place of %zu", t->number, i + 1);
	if (t->memory != memory)
		return vps_err_set(err, VPS_EUSAGE, "the snapshot's rounds are of %llu bytes of memory",
				   (unsigned long long)t->memory);
	if (t->pages > memory / GMEM_PAGE ||
	    size != (i ? t->pages * GMEM_PAGE : memory) + index + sizeof(*t))
		return damaged(err, i, "its size");
	return 0;
}

struct index {
	uint64_t *in, *data;
};

static void index_done(struct index *x)
{
	free(x->in);
	free(x->data);
}

/* No bit outside of the memory, or of the other bitmap, and as many as there are pages. */
static bool index_fits(const struct index *x, const struct round_trailer *t)
{
	uint64_t n = 0, pages = t->memory / GMEM_PAGE;

	for (size_t w = 0; w < rounds_words(t->memory); w++) {
		uint64_t may = w < pages / 64 ? ~0ull : (1ull << pages % 64) - 1;

		if ((x->in[w] & ~may) || (x->data[w] & ~x->in[w]))
			return false;
		n += (unsigned)__builtin_popcountll(x->data[w]);
	}
	return n == t->pages;
}

static int get_index(int fd, size_t i, const struct round_trailer *t, struct index *x, struct vps_err *err)
{
	size_t len = rounds_words(t->memory) * 8;
	int r;

	x->in = malloc(len);
	x->data = malloc(len);
	r = x->in && x->data ? snap_read_all(fd, x->in, len, t->pages * GMEM_PAGE) : -ENOMEM;
	r = r < 0 ? r : snap_read_all(fd, x->data, len, t->pages * GMEM_PAGE + len);
	if (r < 0)
		return vps_err_sys(err, r, "a round of the snapshot");
	if (index_sum(x->in, x->data, t->memory) != t->index_sum || !index_fits(x, t))
		return damaged(err, i, "its index");
	return 0;
}

static int verify_one(int fd, size_t i, const struct round_trailer *t, const struct index *x, struct vps_err *err)
{
	uint64_t sum = 0, n = 0;
	uint8_t buf[GMEM_PAGE];

	for (uint64_t p = 0; p < t->memory / GMEM_PAGE; p++) {
		int r;

		if (i && !bit(x->data, p))
			continue;
		r = snap_read_all(fd, buf, sizeof(buf), (i ? n : p) * GMEM_PAGE);
		if (r < 0)
			return vps_err_sys(err, r, "a round of the snapshot");
		if (!i && is_zero(buf, sizeof(buf)))
			continue;
		sum ^= snap_sum(p, buf, sizeof(buf));
		n++;
	}
	return n == t->pages && sum == t->data_sum ? 0 : damaged(err, i, "its pages");
}

int rounds_check(const int *fds, size_t n, uint64_t memory, bool verify, uint64_t *ret_sum, struct vps_err *err)
{
	uint64_t session = 0, sum = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		auto_done(index_done) struct index x = {0};
		struct round_trailer t;

		r = get_trailer(fds[i], i, memory, &t, err);
		if (r == 0 && i && t.session != session)
			r = vps_err_set(err, VPS_EUSAGE, "the snapshot's rounds are not of one machine");
		if (r == 0 && i)
			r = get_index(fds[i], i, &t, &x, err);
		if (r == 0 && verify)
			r = verify_one(fds[i], i, &t, &x, err);
		session = t.session;
		sum = snap_sum(sum, &t.sum, sizeof(t.sum));
	}
	if (r == 0)
		*ret_sum = sum;
	return r;
}

/* The memory may be mapped from a file that has something else there. */
static void zero_run(struct gmem *m, uint64_t page, uint64_t n)
{
	uint8_t *at = m->base + page * GMEM_PAGE;
	size_t len = n * GMEM_PAGE;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;

	if (n < ZERO_RUN || mmap(at, len, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
		memset(at, 0, len);
	else
		madvise(at, len, MADV_DONTDUMP);
}

/* Pages from p on that are new to done, and all in the file or all zero; their number in ret_n, and of those that were
 * passed over how many are in the file. */
static uint64_t next_run(const struct index *x, uint64_t *done, uint64_t pages, uint64_t p, uint64_t *passed,
			 uint64_t *ret_n)
{
	uint64_t n = 0;

	while (p < pages && (!bit(x->in, p) || bit(done, p))) {
		if (p % 64 == 0 && !x->in[p / 64]) {
			p += 64;
			continue;
		}
		*passed += bit(x->data, p);
		p++;
	}
	while (p + n < pages && bit(x->in, p + n) && !bit(done, p + n) && bit(x->data, p + n) == bit(x->data, p))
		set_bit(done, p + n++);
	*ret_n = n;
	return p;
}

static int load_one(struct gmem *m, int fd, const struct index *x, uint64_t *done)
{
	uint64_t pages = m->size / GMEM_PAGE, at = 0, n;
	int r = 0;

	for (uint64_t p = 0; r == 0; p += n) {
		p = next_run(x, done, pages, p, &at, &n);
		if (!n)
			break;
		if (!bit(x->data, p)) {
			zero_run(m, p, n);
			continue;
		}
		r = snap_read_all(fd, m->base + p * GMEM_PAGE, n * GMEM_PAGE, at * GMEM_PAGE);
		at += n;
	}
	return r;
}

int rounds_load(struct gmem *m, const int *fds, size_t n, struct vps_err *err)
{
	autofree uint64_t *done = calloc(rounds_words(m->size), 8);
	int r = done ? 0 : vps_err_sys(err, -ENOMEM, "restore");

	/* The last word on a page is the only one that is read. */
	for (size_t i = n; r == 0 && i-- > 1;) {
		auto_done(index_done) struct index x = {0};
		struct round_trailer t;

		r = get_trailer(fds[i], i, m->size, &t, err);
		r = r < 0 ? r : get_index(fds[i], i, &t, &x, err);
		if (r == 0)
			r = load_one(m, fds[i], &x, done);
	}
	return r < 0 ? vps_err_sys(err, r, "a round of the snapshot") : 0;
}
