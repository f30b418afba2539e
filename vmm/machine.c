/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/machine.h"

#include <errno.h>

#include "base/mem.h"
#include "vmm/acpi.h"
#include "vmm/kvm.h"

static int add_disks(struct machine *m, const struct machine_opts *o, struct vps_err *err)
{
	int r = 0;

	if (o->n_disks > MACHINE_DISKS || o->n_nets > MACHINE_NETS)
		return vps_err_set(err, E2BIG, "more than %u disks or %u network cards",
				   MACHINE_DISKS, MACHINE_NETS);
	/* In this order, so that the first one is /dev/vda. */
	for (size_t i = 0; r == 0 && i < o->n_disks; i++) {
		r = blk_init(&m->disks[i], &m->vm.mem, &o->disks[i], err);
		if (r == 0)
			m->n_disks++;
		if (r == 0)
			r = vm_add_device(&m->vm, &m->disks[i].dev, err);
		if (r == 0)
			r = blk_start(&m->disks[i], err);
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
		if (r == 0)
			r = net_attach_loop(&m->nets[i], &m->loop);
	}
	return r;
}

static int add_others(struct machine *m, const struct machine_opts *o, struct vps_err *err)
{
	int r = balloon_init(&m->balloon, &m->vm.mem);

	if (r == 0)
		r = vdev_attach(&m->balloon.dev, &m->loop);
	if (r == 0)
		r = rng_init(&m->rng, &m->vm.mem);
	if (r == 0)
		r = vdev_attach(&m->rng.dev, &m->loop);
	if (r == 0 && o->vsock >= 0)
		r = vsock_init(&m->vsock, &m->vm.mem, o->cid, o->vsock);
	if (r == 0 && o->vsock >= 0)
		r = vsock_attach_loop(&m->vsock, &m->loop);
	if (r == 0)
		r = serial_init(&m->com);
	if (r == 0)
		r = serial_attach(&m->com, &m->loop, o->console_in, o->console_out);
	if (r < 0)
		return vps_err_sys(err, r, "make the devices");
	r = vm_add_device(&m->vm, &m->balloon.dev, err);
	if (r == 0)
		r = vm_add_device(&m->vm, &m->rng.dev, err);
	if (r == 0 && o->vsock >= 0)
		r = vm_add_device(&m->vm, &m->vsock.dev, err);
	if (r == 0)
		r = vm_set_serial(&m->vm, &m->com, err);
	return r;
}

static void on_ended(struct loop_source *s, uint32_t events)
{
	loop_stop(&container_of(s, struct machine, ended)->loop);
}

static int prepare(struct machine *m, const struct machine_opts *o, struct vps_err *err)
{
	struct loader_opts lo = {
		.kernel = o->kernel,
		.initrds = o->initrds,
		.n_initrds = o->n_initrds,
		.cmdline = o->cmdline,
	};
	struct loader_entry entry;
	int r = add_disks(m, o, err);

	if (r == 0)
		r = add_nets(m, o, err);
	if (r == 0)
		r = add_others(m, o, err);
	if (r == 0)
		r = acpi_write(&m->vm.mem, o->cpus, m->vm.n_devices, &lo.rsdp, err);
	if (r == 0)
		r = loader_load(&m->vm.mem, &lo, &entry, err);
	if (r == 0)
		r = vm_set_entry(&m->vm, &entry, err);
	if (r == 0) {
		m->ended = (struct loop_source){.fd = m->vm.ended_fd, .fn = on_ended};
		r = loop_watch(&m->loop, &m->ended, EPOLLIN);
	}
	if (r == 0)
		r = vm_start(&m->vm, err);
	return r;
}

int machine_new(const struct machine_opts *o, struct machine **ret, struct vps_err *err)
{
	int r = o->any_kvm ? 0 : kvm_check_stock_kernel(err);
	autoclose int kvm = r < 0 ? r : kvm_open(err);

	if (kvm < 0)
		return kvm;

	struct machine *m = calloc(1, sizeof(*m));

	if (!m)
		return vps_err_sys(err, -ENOMEM, "make a machine");
	m->loop.epoll_fd = m->loop.stop_fd = -1;
	m->kvm = take_fd(kvm);
	/* First, as taking it all down begins with it. */
	r = vm_create(&m->vm, m->kvm, o->memory, -1, o->cpus, err);
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

enum vm_end machine_run(struct machine *m, char *why, size_t size)
{
	vm_resume(&m->vm);

	int r = loop_run(&m->loop);

	if (r < 0)
		vm_ended(&m->vm, VM_FAILED, "loop: %s", vps_code_str(r));
	vm_stop(&m->vm);
	/* The guest's last words. */
	serial_flush(&m->com);
	return vm_end_of(&m->vm, why, size);
}

struct machine *machine_free(struct machine *m)
{
	if (!m)
		return NULL;
	/* First the CPUs, then what they could reach. */
	vm_stop(&m->vm);
	for (size_t i = 0; i < m->n_disks; i++)
		blk_done(&m->disks[i]);
	for (size_t i = 0; i < m->n_nets; i++)
		net_done(&m->nets[i]);
	vsock_done(&m->vsock);
	balloon_done(&m->balloon);
	rng_done(&m->rng);
	serial_done(&m->com);
	vm_destroy(&m->vm);
	loop_done(&m->loop);
	close(m->kvm);
	free(m);
	return NULL;
}
