/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/machine.h"

#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/sys.h"
#include "vmm/acpi.h"
#include "vmm/kvm.h"
#include "vmm/snapshot.h"

#define LAST_TURNS 64

static int add_disks(struct machine *m, const struct machine_opts *o, struct vps_err *err)
{
	int r = 0;

	if (o->n_disks > MACHINE_DISKS || o->n_nets > MACHINE_NETS)
		return vps_err_set(err, E2BIG, "more than %u disks or %u network cards",
				   MACHINE_DISKS, MACHINE_NETS);
	/* In this order, so that the first one is /dev/vda. */
	for (size_t i = 0; r == 0 && i < o->n_disks; i++) {
		struct blk_opts d = o->disks[i];

		d.filtered = o->filtered;
		r = blk_init(&m->disks[i], &m->vm.mem, &d, err);
		if (r == 0)
			m->n_disks++;
		if (r == 0)
			r = vm_add_device(&m->vm, &m->disks[i].dev, err);
	}
	return r;
}

static int add_nets(struct machine *m, const struct machine_opts *o, struct vps_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < o->n_nets; i++) {
		r = net_init(&m->nets[i], &m->vm.mem, &o->nets[i], err);
		if (r == 0)
			m->n_nets++;
		if (r == 0)
			r = vm_add_device(&m->vm, &m->nets[i].dev, err);
	}
	return r;
}

static int host_accept(struct vsock_host *h, uint32_t port, uint32_t from, int ret[2])
{
	return ports_accept(&container_of(h, struct machine, host)->ports, port, from, ret);
}

static void host_connected(struct vsock_host *h, void *who, int r)
{
	ctl_connected(&container_of(h, struct machine, host)->ctl, who, r);
}

static int add_others(struct machine *m, const struct machine_opts *o, struct vps_err *err)
{
	int r = balloon_init(&m->balloon, &m->vm.mem);

	m->host = (struct vsock_host){.accept = host_accept, .connected = host_connected};
	if (r == 0)
		r = rng_init(&m->rng, &m->vm.mem);
	if (r == 0)
		r = vsock_init(&m->vsock, &m->vm.mem, o->cid, &m->host);
	if (r == 0)
		r = serial_init(&m->com);
	if (r < 0)
		return vps_err_sys(err, r, "make the devices");
	r = vm_add_device(&m->vm, &m->balloon.dev, err);
	if (r == 0)
		r = vm_add_device(&m->vm, &m->rng.dev, err);
	if (r == 0)
		r = vm_add_device(&m->vm, &m->vsock.dev, err);
	if (r == 0)
		r = vm_set_serial(&m->vm, &m->com, err);
	return r;
}

static int add_ports(struct machine *m, const struct machine_opts *o, struct vps_err *err)
{
	for (size_t i = 0; i < o->n_ports; i++) {
		const struct machine_port *p = &o->ports[i];
		int r = ports_add(&m->ports, p->port, p->fd, p->in, p->out);

		if (r < 0)
			return vps_err_sys(err, r, "port %u", p->port);
	}
	return 0;
}

/* Once all is as it shall be: each device in its loop. */
static int start_devices(struct machine *m, const struct machine_opts *o, struct vps_err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n_disks; i++)
		r = blk_start(&m->disks[i], err);
	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < m->n_nets; i++)
		r = net_attach_loop(&m->nets[i], &m->loop);
	if (r == 0)
		r = vdev_attach(&m->balloon.dev, &m->loop);
	if (r == 0)
		r = vdev_attach(&m->rng.dev, &m->loop);
	if (r == 0)
		r = vsock_attach_loop(&m->vsock, &m->loop);
	if (r == 0)
		r = serial_attach(&m->com, &m->loop, o->console_in, o->console_out);
	if (r == 0)
		r = stopper_init(&m->stopper, &m->vm, &m->vsock, &m->loop);
	if (r == 0)
		r = ctl_init(&m->ctl, m, &m->loop, o->ctl);
	if (r == 0 && o->restore >= 0)
		r = waker_init(&m->waker, &m->vsock, &m->loop);
	if (r == 0)
		r = precopy_init(&m->precopy, m, o->filtered);
	return r < 0 ? vps_err_sys(err, r, "start the devices") : 0;
}

static void on_ended(struct loop_source *s, uint32_t events)
{
	loop_stop(&container_of(s, struct machine, ended)->loop);
}

static int load_kernel(struct machine *m, const struct machine_opts *o, struct vps_err *err)
{
	struct loader_opts lo = {
		.kernel = o->kernel,
		.initrds = o->initrds,
		.n_initrds = o->n_initrds,
		.cmdline = o->cmdline,
	};
	struct loader_entry entry = {0};
	int r = acpi_write(&m->vm.mem, o->cpus, m->vm.n_devices, &lo.rsdp, err);

	if (r == 0)
		r = loader_load(&m->vm.mem, &lo, &entry, err);
	return r < 0 ? r : vm_set_entry(&m->vm, &entry, err);
}

static int prepare(struct machine *m, const struct machine_opts *o, struct vps_err *err)
{
	int r = add_disks(m, o, err);

	m->vm.filtered = o->filtered;
	if (r == 0)
		r = add_nets(m, o, err);
	if (r == 0)
		r = add_others(m, o, err);
	if (r == 0)
		r = add_ports(m, o, err);
	if (r == 0 && o->n_rounds)
		r = rounds_load(&m->vm.mem, o->rounds, o->n_rounds, err);
	if (r == 0)
		r = o->restore >= 0 ? snapshot_load(m, o->restore, err) : load_kernel(m, o, err);
	if (r == 0)
		r = start_devices(m, o, err);
	if (r == 0) {
		m->ended = (struct loop_source){.fd = m->vm.ended_fd, .fn = on_ended};
		r = loop_watch(&m->loop, &m->ended, EPOLLIN);
	}
	if (r == 0) {
		m->tsc_khz = kvm_ioctl(m->vm.cpus[0].fd, KVM_GET_TSC_KHZ, 0);
		r = vm_start(&m->vm, err);
	}
	return r;
}

int machine_new(const struct machine_opts *o, struct machine **ret, struct vps_err *err)
{
	const struct snap_files files = {o->restore, o->rounds, o->n_rounds};
	int r = o->any_kvm ? 0 : kvm_check_stock_kernel(err);

	if (r == 0 && o->restore >= 0)
		r = snapshot_check(&files, o->memory, o->cpus, o->verify, err);

	autoclose int kvm = r < 0 ? r : kvm_open(o->kvm, err);

	if (kvm < 0)
		return kvm;

	struct machine *m = calloc(1, sizeof(*m));

	if (!m)
		return vps_err_sys(err, -ENOMEM, "make a machine");
	m->loop.epoll_fd = m->loop.stop_fd = -1;
	ports_init(&m->ports, &m->loop, o->notify);
	m->kvm = take_fd(kvm);
	/* First, as taking it all down begins with it. */
	r = vm_create(&m->vm, m->kvm, o->memory, o->n_rounds ? o->rounds[0] : o->restore, o->cpus, err);
	if (r == 0) {
		r = loop_init(&m->loop);
		if (r < 0)
			vps_err_sys(err, r, "make a loop");
	}
	if (r == 0)
		r = prepare(m, o, err);
	if (r < 0)
		machine_free(m);
	else
		*ret = m;
	return r;
}

/* What the machine saw, in the light of what the guest told. */
static enum vm_end judge(struct machine *m, enum vm_end end, char *why, size_t size)
{
	if (end != VM_POWEROFF && end != VM_RESET)
		return end;
	if (m->ports.error[0]) {
		snprintf(why, size, "guest: %s", m->ports.error);
		return VM_FAILED;
	}
	if (end == VM_RESET && !m->ports.reboot && m->com.panic[0]) {
		snprintf(why, size, "guest: %s", m->com.panic);
		return VM_FAILED;
	}
	return end;
}

enum vm_end machine_run(struct machine *m, int *ret_code, char *why, size_t size)
{
	vm_resume(&m->vm);
	if (m->waker.loop)
		waker_tell(&m->waker);

	int r = loop_run(&m->loop);

	if (r < 0)
		vm_ended(&m->vm, VM_FAILED, "loop: %s", vps_code_str(r));
	vm_stop(&m->vm);
	/* What it said last may still be in the rings. */
	vdev_kicked(&m->vsock.dev);
	for (int i = 0; i < LAST_TURNS && loop_once(&m->loop, 0) > 0; i++)
		;
	serial_flush(&m->com);
	*ret_code = m->ports.exit_code;
	return judge(m, vm_end_of(&m->vm, why, size), why, size);
}

void machine_pause(struct machine *m)
{
	vm_pause(&m->vm);
	for (size_t i = 0; i < m->n_disks; i++)
		blk_hold(&m->disks[i], true);
	m->paused = true;
}

void machine_resume(struct machine *m)
{
	if (!m->paused)
		return;
	m->paused = false;
	for (size_t i = 0; i < m->n_disks; i++)
		blk_hold(&m->disks[i], false);
	vm_resume(&m->vm);
}

static void guest_stats(struct machine *m, struct vmm_stats *s)
{
	struct balloon_stats b;
	uint64_t told = balloon_get_stats(&m->balloon, &b), now = sys_now_mono();

	s->guest.age_ms = told ? (now - told) / 1000000 : VMM_UNKNOWN;
	s->guest.total = b.v[VIRTIO_BALLOON_S_MEMTOT];
	s->guest.free = b.v[VIRTIO_BALLOON_S_MEMFREE];
	s->guest.available = b.v[VIRTIO_BALLOON_S_AVAIL];
	s->guest.caches = b.v[VIRTIO_BALLOON_S_CACHES];
	s->guest.swap_in = b.v[VIRTIO_BALLOON_S_SWAP_IN];
	s->guest.swap_out = b.v[VIRTIO_BALLOON_S_SWAP_OUT];
	s->guest.major_faults = b.v[VIRTIO_BALLOON_S_MAJFLT];
	s->guest.minor_faults = b.v[VIRTIO_BALLOON_S_MINFLT];
}

void machine_stats(struct machine *m, struct vmm_stats *ret)
{
	struct vmm_stats *s = ret;

	memset(s, 0, sizeof(*s));
	s->memory = m->vm.mem.size;
	s->balloon_target = balloon_target(&m->balloon);
	s->balloon_actual = balloon_actual(&m->balloon);
	s->returned = m->balloon.inflated + m->balloon.reported;
	guest_stats(m, s);
	s->n_disks = (uint32_t)m->n_disks;
	for (size_t i = 0; i < m->n_disks; i++) {
		struct blk_counts c;

		blk_counts_of(&m->disks[i], &c);
		memcpy(s->disk[i].serial, m->disks[i].serial, sizeof(m->disks[i].serial));
		s->disk[i].read_bytes = c.read_bytes;
		s->disk[i].reads = c.reads;
		s->disk[i].written_bytes = c.written_bytes;
		s->disk[i].writes = c.writes;
		s->disk[i].flushes = c.flushes;
		s->disk[i].errors = c.errors;
	}
	s->n_nets = (uint32_t)m->n_nets;
	for (size_t i = 0; i < m->n_nets; i++) {
		const struct net *n = &m->nets[i];

		s->net[i].in_bytes = n->in_bytes;
		s->net[i].in_packets = n->in_packets;
		s->net[i].out_bytes = n->out_bytes;
		s->net[i].out_packets = n->out_packets;
		s->net[i].out_dropped = n->dropped;
	}
	s->n_cpus = m->vm.n_cpus;
	for (size_t i = 0; i < m->vm.n_cpus; i++) {
		s->cpu[i].pio = __atomic_load_n(&m->vm.cpus[i].n_pio, __ATOMIC_RELAXED);
		s->cpu[i].mmio = __atomic_load_n(&m->vm.cpus[i].n_mmio, __ATOMIC_RELAXED);
	}
	s->console_lost = m->com.lost;
	s->vsock_conns = vsock_n_conns(&m->vsock);
	s->paused = m->paused;
}

struct machine *machine_free(struct machine *m)
{
	if (!m)
		return NULL;
	/* First the CPUs, then what they could reach. */
	vm_stop(&m->vm);
	ctl_done(&m->ctl);
	stopper_done(&m->stopper);
	waker_done(&m->waker);
	precopy_done(&m->precopy);
	for (size_t i = 0; i < m->n_disks; i++)
		blk_done(&m->disks[i]);
	for (size_t i = 0; i < m->n_nets; i++)
		net_done(&m->nets[i]);
	vsock_done(&m->vsock);
	ports_done(&m->ports);
	balloon_done(&m->balloon);
	rng_done(&m->rng);
	serial_done(&m->com);
	vm_destroy(&m->vm);
	loop_done(&m->loop);
	close(m->kvm);
	free(m);
	return NULL;
}
