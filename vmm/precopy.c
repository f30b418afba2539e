/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/precopy.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>

#include "base/mem.h"
#include "vmm/filter.h"
#include "vmm/machine.h"
#include "vmm/snapshot.h"

#define PART 4096u /* pages: 16 MiB, a multiple of 64 */

_Static_assert(ROUNDS_MAX == VMM_ROUNDS_MAX, "files of rounds");

/* ---- the thread -------------------------------------------------------------------------- */

/* Whoever wrote before he could see the log has ended since; whoever comes now sees it. */
static void meet_devices(struct precopy *p)
{
	struct vm *vm = &p->m->vm;

	for (unsigned i = 0; i < vm->n_devices; i++) {
		pthread_mutex_lock(&vm->devices[i]->lock);
		pthread_mutex_unlock(&vm->devices[i]->lock);
	}
}

static void set_log(struct precopy *p, uint64_t *log)
{
	__atomic_store_n(&p->m->vm.mem.log, log, __ATOMIC_SEQ_CST);
	meet_devices(p);
}

static void switch_off(struct precopy *p)
{
	if (p->on)
		vm_log(&p->m->vm, false);
	p->on = false;
	set_log(p, NULL);
}

static int switch_on(struct precopy *p, struct vps_err *err)
{
	int r;

	if (p->on)
		return 0;
	set_log(p, p->log);
	r = vm_log(&p->m->vm, true);
	p->on = r == 0;
	return r < 0 ? vps_err_set(err, VPS_EUNSUPPORTED, "this KVM does not tell what a guest changes (%s)",
				   vps_code_str(r))
		     : 0;
}

static bool given_up(struct precopy *p)
{
	pthread_mutex_lock(&p->lock);

	bool stop = p->stop;

	pthread_mutex_unlock(&p->lock);
	return stop;
}

/* Pages [from, from + n), a part. */
static int copy_part(struct precopy *p, uint64_t from, uint64_t n)
{
	const struct gmem *g = &p->m->vm.mem;
	bool all = p->out.t.number == 1;
	int r = vm_log_clear(&p->m->vm, from, n, p->dirty);

	for (uint64_t w = from / 64; r >= 0 && w < (from + n + 63) / 64; w++) {
		uint64_t bits = p->dirty[w] | __atomic_exchange_n(&p->log[w], 0, __ATOMIC_SEQ_CST);

		for (uint64_t i = 0; r >= 0 && i < 64 && w * 64 + i < from + n; i++)
			if (all || (bits >> i & 1))
				r = round_page(&p->out, w * 64 + i, g->base + (w * 64 + i) * GMEM_PAGE);
	}
	return r;
}

static int copy(struct precopy *p, struct vps_err *err)
{
	struct vm *vm = &p->m->vm;
	uint64_t pages = vm->mem.size / GMEM_PAGE, low = gmem_low(&vm->mem) / GMEM_PAGE, n;
	int r = vm_log_get(vm, p->dirty);

	if (r < 0)
		return vps_err_sys(err, r, "what the guest has changed");
	for (uint64_t at = 0; r >= 0 && at < pages; at += n) {
		n = (at < low ? low : pages) - at;
		if (n > PART)
			n = PART;
		r = given_up(p) ? -ECANCELED : copy_part(p, at, n);
	}
	r = r < 0 ? r : round_end(&p->out);
	return r < 0 ? vps_err_sys(err, r, "write a round of the memory") : 0;
}

static int one_round(struct precopy *p, struct vps_err *err)
{
	int r = switch_on(p, err);

	r = r < 0 ? r : copy(p, err);
	/* What was told once is not told again: a round that failed cannot be made up for. */
	if (r < 0)
		switch_off(p);
	return r;
}

static void *work(void *arg)
{
	struct precopy *p = arg;

	/* Without it no round ever ends: not to be overlooked. */
	if (p->filtered && filter_install(FILTER_COPY) < 0)
		return NULL;
	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (p->job == PRECOPY_NOTHING)
			pthread_cond_wait(&p->changed, &p->lock);
		if (p->job == PRECOPY_QUIT)
			break;

		enum precopy_job job = p->job;
		struct vps_err err = {0};

		pthread_mutex_unlock(&p->lock);

		int r = 0;

		if (job == PRECOPY_ROUND)
			r = one_round(p, &err);
		else
			switch_off(p);
		pthread_mutex_lock(&p->lock);
		p->result = r;
		p->err = err;
		if (p->job != PRECOPY_QUIT)
			p->job = PRECOPY_NOTHING;
		pthread_cond_broadcast(&p->changed);
		eventfd_write(p->done.fd, 1);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/* ---- the main thread ------------------------------------------------------------------------ */

static void give(struct precopy *p, enum precopy_job job)
{
	pthread_mutex_lock(&p->lock);
	p->stop = false;
	p->job = job;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

static bool is_idle(struct precopy *p)
{
	pthread_mutex_lock(&p->lock);

	bool idle = p->job == PRECOPY_NOTHING;

	pthread_mutex_unlock(&p->lock);
	return idle;
}

static void forget(struct precopy *p)
{
	free(p->log);
	free(p->dirty);
	free(p->out.in);
	free(p->out.data);
	free(p->out.buf);
	close_fd(&p->out.fd);
	p->log = p->dirty = NULL;
	p->out = (struct round_out){.fd = -1};
	p->rounds = 0;
	p->sum = 0;
	p->active = p->ending = false;
}

static int remember(struct precopy *p, struct vps_err *err)
{
	size_t words = rounds_words(p->m->vm.mem.size);

	p->log = calloc(words, 8);
	p->dirty = calloc(words, 8);
	p->out.in = malloc(words * 8);
	p->out.data = malloc(words * 8);
	p->out.buf = malloc(ROUND_BUF);
	if (!p->log || !p->dirty || !p->out.in || !p->out.data || !p->out.buf ||
	    getrandom(&p->session, sizeof(p->session), GRND_NONBLOCK) != sizeof(p->session)) {
		forget(p);
		return vps_err_sys(err, -ENOMEM, "pre-copy");
	}
	p->active = true;
	return 0;
}

/* May this round begin? */
static int check(struct precopy *p, uint64_t number, struct vps_err *err)
{
	if (p->ending || (p->active && (number == 1 || !is_idle(p))))
		return vps_err_set(err, EBUSY, "another pre-copy is at work");
	if (number != (p->active ? p->rounds + 1 : 1) || number > ROUNDS_MAX)
		return vps_err_set(err, VPS_ESTATE, "round %llu of a pre-copy is out of turn",
				   (unsigned long long)number);
	return 0;
}

static int begin(struct precopy *p, uint64_t number, int fd, struct vps_err *err)
{
	int r = check(p, number, err);

	r = r < 0 ? r : snapshot_check_target(fd, err);
	if (r == 0 && !p->active)
		r = remember(p, err);
	if (r < 0)
		return r;
	p->out.fd = fd;
	round_begin(&p->out, (uint32_t)number, p->session, p->m->vm.mem.size);
	give(p, PRECOPY_ROUND);
	return 0;
}

/* Of an idle thread: what has become of its round. */
static int finished(struct precopy *p, struct vps_err *err)
{
	pthread_mutex_lock(&p->lock);

	int r = p->result;

	if (r < 0)
		vps_err_set(err, p->err.code, "%s", p->err.msg);
	pthread_mutex_unlock(&p->lock);
	if (r < 0)
		return r;
	p->rounds++;
	p->sum = snap_sum(p->sum, &p->out.t.sum, sizeof(p->out.t.sum));
	return 0;
}

static void on_done(struct loop_source *s, uint32_t events)
{
	struct precopy *p = container_of(s, struct precopy, done);
	void *who;
	struct vps_err err = {0};
	eventfd_t n;
	int r;

	eventfd_read(s->fd, &n);
	if (!p->active || !is_idle(p))
		return;
	if (p->ending) {
		bool was_off = p->result == 0 && !p->on;

		close_fd(&p->out.fd);
		if (was_off)
			forget(p);
		else
			give(p, PRECOPY_OFF);
		return;
	}
	who = take_ptr(p->who);
	if (!who)
		return;
	close_fd(&p->out.fd);
	r = finished(p, &err);

	const struct vmm_round done = {
		.bytes = p->out.t.pages * GMEM_PAGE,
		.zeroes = (p->out.seen - p->out.t.pages) * GMEM_PAGE,
	};

	if (r < 0)
		precopy_end(p);
	ctl_precopied(&p->m->ctl, who, r, err.msg, &done);
}

int precopy_round(struct precopy *p, uint64_t number, int fd, void *who, struct vps_err *err)
{
	int r = begin(p, number, fd, err);

	if (r == 0)
		p->who = who;
	return r;
}

int precopy_last(struct precopy *p, uint64_t number, int fd, struct vps_err *err)
{
	int r = p->active ? 0 : vps_err_set(err, VPS_ESTATE, "no pre-copy is at work");

	r = r < 0 ? r : begin(p, number, fd, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&p->lock);
	while (p->job != PRECOPY_NOTHING)
		pthread_cond_wait(&p->changed, &p->lock);
	pthread_mutex_unlock(&p->lock);
	p->out.fd = -1;
	r = finished(p, err);
	if (r < 0)
		precopy_end(p);
	return r;
}

void precopy_end(struct precopy *p)
{
	if (!p->active || p->ending)
		return;
	p->who = NULL;
	p->ending = true;
	if (is_idle(p)) {
		give(p, PRECOPY_OFF);
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_mutex_unlock(&p->lock);
}

int precopy_init(struct precopy *p, struct machine *m, bool filtered)
{
	int r;

	*p = (struct precopy){.m = m, .filtered = filtered, .out.fd = -1, .done.fn = on_done};
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->changed, NULL);
	p->done.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = p->done.fd < 0 ? -errno : loop_watch(&m->loop, &p->done, EPOLLIN);
	if (r == 0)
		r = -pthread_create(&p->thread, NULL, work, p);
	p->started = r == 0;
	return r;
}

void precopy_done(struct precopy *p)
{
	if (!p->m)
		return;
	if (p->started) {
		pthread_mutex_lock(&p->lock);
		p->stop = true;
		p->job = PRECOPY_QUIT;
		pthread_cond_broadcast(&p->changed);
		pthread_mutex_unlock(&p->lock);
		pthread_join(p->thread, NULL);
	}
	set_log(p, NULL);
	forget(p);
	loop_remove(&p->m->loop, &p->done);
	close_fd(&p->done.fd);
	p->m = NULL;
}
