/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/str.h"
#include "vmm/machine.h"
#include "vmm/rounds.h"
#include "vmm/snapcpu.h"

#define CHUNK	  (256u << 10)
#define STATE_MAX (16u << 20)
#define PRIME	  0x9e3779b97f4a7c15ull

struct snap_device {
	uint32_t id, n_queues;
	uint64_t offered, capacity; /* of a disk, in sectors; else 0 */
	struct vdev_state s;
	struct vq_state vq[VDEV_MAX_QUEUES];
	uint8_t name[24]; /* a disk's serial, a network card's address */
};

uint64_t snap_sum(uint64_t seed, const void *p, uint64_t len)
{
	uint64_t h = seed ^ len * PRIME, w;
	const uint8_t *b = p;

	for (; len >= 8; len -= 8, b += 8) {
		memcpy(&w, b, 8);
		h = (h << 23 | h >> 41) ^ w;
		h *= PRIME;
	}
	if (len) {
		w = 0;
		memcpy(&w, b, len);
		h = ((h << 23 | h >> 41) ^ w) * PRIME;
	}
	return h ^ h >> 29;
}

int snap_read_all(int fd, void *p, size_t len, uint64_t off)
{
	int r = fs_pread_all(fd, p, len, off);

	return r == -ENODATA ? -EBADMSG : r;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return !len || (!p[0] && memcmp(p, p + 1, len - 1) == 0);
}

/* ---- writing ---- */

static void add(struct strbuf *sb, enum snap_id id, uint32_t number, const void *p, size_t len)
{
	struct snap_section s = {.id = id, .number = number, .len = len};

	sb_addn(sb, &s, sizeof(s));
	sb_addn(sb, p, len);
}

static int put_cpu(struct strbuf *sb, struct vcpu *c, struct vps_err *err)
{
	autofree struct snap_cpu *s = calloc(1, sizeof(*s));
	autofree struct kvm_msr_entry *msr = calloc(SNAP_MSRS_MAX, sizeof(*msr));

	if (!s || !msr)
		return vps_err_sys(err, -ENOMEM, "snapshot");

	int r = snapcpu_get(c, s, err), n = 0;

	if (r == 0)
		r = n = snapcpu_get_msrs(c, msr, err);
	if (r < 0)
		return r;
	add(sb, SNAP_CPUID, c->id, c->cpuid->entry, c->cpuid->nent * sizeof(c->cpuid->entry[0]));
	add(sb, SNAP_CPU, c->id, s, sizeof(*s));
	add(sb, SNAP_MSRS, c->id, msr, (size_t)n * sizeof(*msr));
	return 0;
}

static int put_kvm(struct strbuf *sb, struct vm *vm, struct vps_err *err)
{
	struct kvm_clock_data clock = {0};
	int r = kvm_ioctl_p(vm->vm_fd, KVM_GET_CLOCK, &clock);

	if (r < 0)
		return vps_err_sys(err, r, "get the clock");
	add(sb, SNAP_CLOCK, 0, &clock, sizeof(clock));
	for (uint32_t i = 0; i < 3; i++) {
		struct kvm_irqchip chip = {.chip_id = i};

		r = kvm_ioctl_p(vm->vm_fd, KVM_GET_IRQCHIP, &chip);
		if (r < 0)
			return vps_err_sys(err, r, "get an interrupt controller");
		add(sb, SNAP_IRQCHIP, i, &chip, sizeof(chip));
	}
	r = 0;
	for (unsigned i = 0; r == 0 && i < vm->n_cpus; i++)
		r = put_cpu(sb, &vm->cpus[i], err);
	return r;
}

/* What the restoring side must have, too. */
static void describe(struct machine *m, unsigned n, struct snap_device *ret)
{
	struct vdev *v = m->vm.devices[n];

	memset(ret, 0, sizeof(*ret));
	ret->id = v->ops->id;
	ret->n_queues = v->ops->n_queues;
	ret->offered = v->offered;
	for (size_t i = 0; i < m->n_disks; i++)
		if (v == &m->disks[i].dev) {
			ret->capacity = m->disks[i].config.capacity;
			memcpy(ret->name, m->disks[i].serial, sizeof(m->disks[i].serial));
		}
	for (size_t i = 0; i < m->n_nets; i++)
		if (v == &m->nets[i].dev)
			memcpy(ret->name, m->nets[i].config.mac, 6);
}

static void put_devices(struct strbuf *sb, struct machine *m)
{
	struct balloon_state b;

	for (unsigned i = 0; i < m->vm.n_devices; i++) {
		struct vdev *v = m->vm.devices[i];
		struct snap_device d;

		describe(m, i, &d);
		pthread_mutex_lock(&v->lock);
		d.s = v->s;
		for (unsigned q = 0; q < v->ops->n_queues; q++)
			d.vq[q] = v->vq[q].s;
		pthread_mutex_unlock(&v->lock);
		add(sb, SNAP_DEVICE, i, &d, sizeof(d));
	}
	add(sb, SNAP_SERIAL, 0, &m->com.s, sizeof(m->com.s));
	balloon_save(&m->balloon, &b);
	add(sb, SNAP_BALLOON, 0, &b, sizeof(b));
}

static int put_memory(const struct gmem *g, int fd, uint64_t *ret_sum)
{
	uint64_t sum = 0;

	for (uint64_t off = 0; off < g->size; off += CHUNK) {
		size_t len = g->size - off < CHUNK ? g->size - off : CHUNK;

		if (all_zero(g->base + off, len))
			continue;

		int r = fs_pwrite_all(fd, g->base + off, len, off);

		if (r < 0)
			return r;
		/* Holes count as well: by the place of all others. */
		sum ^= snap_sum(off, g->base + off, len);
	}
	*ret_sum = sum;
	return 0;
}

int snapshot_check_target(int fd, struct vps_err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return vps_err_sys(err, -errno, "the snapshot's file");
	if (!S_ISREG(st.st_mode) || st.st_size)
		return vps_err_set(err, EINVAL, "a snapshot wants an empty regular file");
	return 0;
}

int snapshot_write(struct machine *m, int fd, unsigned rounds, uint64_t rounds_sum, struct vps_err *err)
{
	struct snap_trailer t = {
		.magic = SNAP_MAGIC,
		.version = SNAP_VERSION,
		.cpus = (uint16_t)m->vm.n_cpus,
		.memory = m->vm.mem.size,
		.memory_sum = rounds_sum,
		.rounds = (uint16_t)rounds,
	};
	uint64_t at = rounds ? 0 : t.memory;
	auto_strbuf sb = STRBUF_INIT;
	int r = snapshot_check_target(fd, err);

	for (size_t i = 0; r == 0 && i < m->n_disks; i++)
		if (fdatasync(m->disks[i].fd) < 0)
			r = vps_err_sys(err, -errno, "flush a disk");
	if (r == 0)
		r = put_kvm(&sb, &m->vm, err);
	if (r < 0)
		return r;
	put_devices(&sb, m);
	r = sb_ok(&sb);
	if (r == 0 && !rounds)
		r = put_memory(&m->vm.mem, fd, &t.memory_sum);
	if (r == 0)
		r = fs_pwrite_all(fd, sb.s, sb.len, at);
	t.state_len = sb.len;
	t.state_sum = snap_sum(1, sb.s, sb.len);
	t.sum = snap_sum(2, &t, offsetof(struct snap_trailer, sum));
	if (r == 0)
		r = fs_pwrite_all(fd, &t, sizeof(t), at + t.state_len);
	if (r == 0 && fdatasync(fd) < 0)
		r = -errno;
	return r < 0 ? vps_err_sys(err, r, "write the snapshot") : 0;
}

/* ---- reading ---- */

static int damaged(struct vps_err *err, const char *what)
{
	return vps_err_set(err, EBADMSG, "the snapshot is damaged (%s)", what);
}

static uint64_t state_at(const struct snap_trailer *t)
{
	return t->rounds ? 0 : t->memory;
}

static int get_trailer(int fd, struct snap_trailer *ret, struct vps_err *err)
{
	struct stat st;
	uint64_t size;
	int r = fstat(fd, &st) < 0 ? -errno : 0;

	if (r < 0)
		return vps_err_sys(err, r, "the snapshot's file");
	size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
	if (size < sizeof(*ret))
		return damaged(err, "its size");
	r = snap_read_all(fd, ret, sizeof(*ret), size - sizeof(*ret));
	if (r < 0)
		return vps_err_sys(err, r, "read the snapshot");
	if (memcmp(ret->magic, SNAP_MAGIC, sizeof(ret->magic)) != 0)
		return damaged(err, "its end");
	if (ret->version != SNAP_VERSION)
		return vps_err_set(err, VPS_EUNSUPPORTED, "the snapshot is of version %u, not %d",
				   ret->version, SNAP_VERSION);
	if (ret->sum != snap_sum(2, ret, offsetof(struct snap_trailer, sum)))
		return damaged(err, "its end");
	if (ret->memory > GMEM_MAX || ret->state_len > STATE_MAX ||
	    size != state_at(ret) + ret->state_len + sizeof(*ret))
		return damaged(err, "its size");
	return 0;
}

static int verify_memory(int fd, const struct snap_trailer *t, struct vps_err *err)
{
	autofree uint8_t *buf = malloc(CHUNK);
	uint64_t sum = 0;

	if (!buf)
		return vps_err_sys(err, -ENOMEM, "read the snapshot");
	for (uint64_t off = 0; off < t->memory; off += CHUNK) {
		size_t len = t->memory - off < CHUNK ? t->memory - off : CHUNK;
		int r = snap_read_all(fd, buf, len, off);

		if (r < 0)
			return vps_err_sys(err, r, "read the snapshot");
		if (!all_zero(buf, len))
			sum ^= snap_sum(off, buf, len);
	}
	return sum == t->memory_sum ? 0 : damaged(err, "its memory");
}

static int check_rounds(const struct snap_files *f, const struct snap_trailer *t, bool verify, struct vps_err *err)
{
	uint64_t sum = 0;
	int r;

	if (t->rounds != f->n_rounds)
		return vps_err_set(err, VPS_EUSAGE, "the snapshot has %u rounds, not %zu", t->rounds, f->n_rounds);
	if (!t->rounds)
		return verify ? verify_memory(f->fd, t, err) : 0;
	r = rounds_check(f->rounds, f->n_rounds, t->memory, verify, &sum, err);
	if (r == 0 && sum != t->memory_sum)
		r = vps_err_set(err, VPS_EUSAGE, "the snapshot's rounds are another one's");
	return r;
}

int snapshot_check(const struct snap_files *f, uint64_t memory, unsigned cpus, bool verify, struct vps_err *err)
{
	struct snap_trailer t;
	int r = get_trailer(f->fd, &t, err);

	if (r == 0 && (t.memory != memory || t.cpus != cpus))
		r = vps_err_set(err, VPS_EUSAGE,
				"the snapshot is of %u CPUs and %llu bytes of memory", t.cpus,
				(unsigned long long)t.memory);
	return r < 0 ? r : check_rounds(f, &t, verify, err);
}

struct state {
	uint8_t *p;
	size_t len;
};

/* The bytes of a section, of a known length or (len 0) any: NULL when it is not there. */
static const void *find(const struct state *st, enum snap_id id, uint32_t number, size_t len,
			size_t *ret_len)
{
	struct snap_section s;

	for (size_t off = 0; st->len - off >= sizeof(s); off += s.len) {
		memcpy(&s, st->p + off, sizeof(s));
		off += sizeof(s);
		if (s.len > st->len - off)
			return NULL;
		if (s.id != id || s.number != number)
			continue;
		if (ret_len)
			*ret_len = s.len;
		return !len || s.len == len ? st->p + off : NULL;
	}
	return NULL;
}

static int set_kvm(struct vm *vm, const struct state *st, struct vps_err *err)
{
	for (uint32_t i = 0; i < 3; i++) {
		const void *p = find(st, SNAP_IRQCHIP, i, sizeof(struct kvm_irqchip), NULL);
		struct kvm_irqchip chip;

		if (!p)
			return damaged(err, "interrupt controllers");
		memcpy(&chip, p, sizeof(chip));
		chip.chip_id = i;

		int r = kvm_ioctl_p(vm->vm_fd, KVM_SET_IRQCHIP, &chip);

		if (r < 0)
			return vps_err_sys(err, r, "set an interrupt controller");
	}
	return 0;
}

/* The guest's time goes on where it stood; its agent is told the time of day. */
static int set_clock(struct vm *vm, const struct state *st, struct vps_err *err)
{
	const struct kvm_clock_data *was = find(st, SNAP_CLOCK, 0, sizeof(*was), NULL);
	struct kvm_clock_data now = {0};

	if (!was)
		return damaged(err, "clock");
	memcpy(&now.clock, &was->clock, sizeof(now.clock));

	int r = kvm_ioctl_p(vm->vm_fd, KVM_SET_CLOCK, &now);

	return r < 0 ? vps_err_sys(err, r, "set the clock") : 0;
}

static int set_cpu(struct vcpu *c, const struct state *st, struct vps_err *err)
{
	size_t id_len = 0, msr_len = 0, size = sizeof(struct kvm_cpuid_entry2);
	const void *id = find(st, SNAP_CPUID, c->id, 0, &id_len);
	const void *msr = find(st, SNAP_MSRS, c->id, 0, &msr_len);
	const void *cpu = find(st, SNAP_CPU, c->id, sizeof(struct snap_cpu), NULL);
	autofree struct snap_cpu *s = malloc(sizeof(*s));
	autofree struct cpuid_table *t = calloc(1, sizeof(*t));
	autofree struct kvm_msr_entry *e = malloc(msr_len + 1);

	if (!id || !msr || !cpu || id_len % size || id_len / size > KVM_MAX_CPUID ||
	    msr_len % sizeof(*e))
		return damaged(err, "CPUs");
	if (!s || !t || !e)
		return vps_err_sys(err, -ENOMEM, "restore");
	memcpy(s, cpu, sizeof(*s));
	memcpy(t->entry, id, id_len);
	memcpy(e, msr, msr_len);
	t->nent = (uint32_t)(id_len / size);

	int r = snapcpu_set_cpuid(c, t, err);

	if (r == 0)
		r = snapcpu_set(c, s, err);
	return r == 0 ? snapcpu_set_msrs(c, e, msr_len / sizeof(*e), err) : r;
}

static int set_device(struct machine *m, unsigned n, const struct state *st, struct vps_err *err)
{
	const void *p = find(st, SNAP_DEVICE, n, sizeof(struct snap_device), NULL);
	struct snap_device was, is;

	if (!p)
		return damaged(err, "devices");
	memcpy(&was, p, sizeof(was));
	describe(m, n, &is);
	if (was.id != is.id || was.n_queues != is.n_queues || was.capacity != is.capacity ||
	    memcmp(was.name, is.name, sizeof(is.name)) != 0)
		return vps_err_set(err, VPS_EUSAGE, "device %u is not what it was in the snapshot",
				   n);
	if (vdev_restore(m->vm.devices[n], &was.s, was.vq) < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "device %u cannot go on where it was in the snapshot", n);
	return 0;
}

static int set_others(struct machine *m, const struct state *st, struct vps_err *err)
{
	const void *com = find(st, SNAP_SERIAL, 0, sizeof(m->com.s), NULL);
	const void *p = find(st, SNAP_BALLOON, 0, sizeof(struct balloon_state), NULL);
	struct balloon_state b;

	if (!com || !p)
		return damaged(err, "devices");
	memcpy(&m->com.s, com, sizeof(m->com.s));
	if (m->com.s.n_rx > SERIAL_FIFO)
		return damaged(err, "console");
	memcpy(&b, p, sizeof(b));
	balloon_restore(&m->balloon, &b);
	vsock_reset_peers(&m->vsock);
	return 0;
}

int snapshot_load(struct machine *m, int fd, struct vps_err *err)
{
	struct snap_trailer t;
	int r = get_trailer(fd, &t, err);
	autofree uint8_t *p = r < 0 ? NULL : malloc(t.state_len + 1);

	if (r == 0)
		r = p ? snap_read_all(fd, p, t.state_len, state_at(&t)) : -ENOMEM;
	if (r < 0)
		return vps_err_sys(err, r, "read the snapshot");
	if (snap_sum(1, p, t.state_len) != t.state_sum)
		return damaged(err, "its state");

	struct state st = {p, t.state_len};

	r = set_kvm(&m->vm, &st, err);
	for (unsigned i = 0; r == 0 && i < m->vm.n_cpus; i++)
		r = set_cpu(&m->vm.cpus[i], &st, err);
	if (r == 0)
		r = set_clock(&m->vm, &st, err);
	for (unsigned i = 0; r == 0 && i < m->vm.n_devices; i++)
		r = set_device(m, i, &st, err);
	return r == 0 ? set_others(m, &st, err) : r;
}
