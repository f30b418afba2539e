/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One CPU: its first state, and the loop over its exits. */
#include "vmm/vm.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

#include "base/mem.h"
#include "vmm/filter.h"
#include "vmm/kvm.h"

#define MSR_MISC_ENABLE	  0x1a0
#define MSR_MTRR_DEF_TYPE 0x2ff
#define APIC_LVT0	  0x350
#define APIC_LVT1	  0x360

static int set_cpuid(struct vm *vm, struct vcpu *c)
{
	struct cpuid_table *id = c->cpuid = malloc(sizeof(*id));
	bool deadline = kvm_ioctl(vm->kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	int r = id ? kvm_get_cpuid(vm->kvm_fd, id) : -ENOMEM;

	if (r < 0)
		return r;
	kvm_filter_cpuid(id, c->id, vm->n_cpus, deadline);
	return kvm_ioctl_p(c->fd, KVM_SET_CPUID2, id);
}

static int set_state(struct vcpu *c)
{
	struct { /* struct kvm_msrs with room */
		uint32_t nmsrs, padding;
		struct kvm_msr_entry e[2];
	} msrs = {
		.nmsrs = 2,
		.e =
			{
				{.index = MSR_MTRR_DEF_TYPE, .data = 0x806}, /* on, write-back */
				{.index = MSR_MISC_ENABLE, .data = 1},	     /* fast strings */
			},
	};
	struct kvm_fpu fpu = {.fcw = 0x37f, .mxcsr = 0x1f80};
	struct kvm_lapic_state apic;
	uint32_t lvt0 = 0x700, lvt1 = 0x400; /* ExtINT, NMI: as a firmware leaves them */
	int r = kvm_ioctl_p(c->fd, KVM_SET_FPU, &fpu);

	if (r == 0)
		r = kvm_ioctl_p(c->fd, KVM_SET_MSRS, &msrs);
	/* A KVM that lacks one of them has guests that do not miss it. */
	if (r >= 0)
		r = kvm_ioctl_p(c->fd, KVM_GET_LAPIC, &apic);
	if (r < 0)
		return r;
	memcpy(apic.regs + APIC_LVT0, &lvt0, 4);
	memcpy(apic.regs + APIC_LVT1, &lvt1, 4);
	return kvm_ioctl_p(c->fd, KVM_SET_LAPIC, &apic);
}

int vcpu_create(struct vm *vm, struct vcpu *c, struct vps_err *err)
{
	int r = kvm_ioctl(vm->vm_fd, KVM_CREATE_VCPU, c->id);

	if (r >= 0) {
		c->fd = r;
		r = set_cpuid(vm, c);
	}
	if (r == 0)
		r = set_state(c);
	if (r < 0)
		return vps_err_sys(err, r, "create CPU %u", c->id);

	void *run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);

	if (run == MAP_FAILED)
		return vps_err_sys(err, -errno, "map CPU %u", c->id);
	c->run = run;
	return 0;
}

void vcpu_destroy(struct vcpu *c)
{
	if (c->run)
		munmap(c->run, c->vm->run_size);
	c->run = NULL;
	free(c->cpuid);
	c->cpuid = NULL;
	/* 0 is no fd of ours: a CPU that was never created. */
	if (c->vm)
		close_fd(&c->fd);
}

/* ---- exits ---- */

static uint8_t port_read(struct vm *vm, uint16_t port)
{
	if (vm->serial && port >= SERIAL_PORT && port < SERIAL_PORT + 8)
		return serial_read(vm->serial, port - SERIAL_PORT);
	if (port == PORT_SLEEP_CONTROL || port == PORT_SLEEP_STATUS || port == PORT_RESET)
		return 0;
	return 0xff; /* nothing there */
}

static void port_write(struct vm *vm, uint16_t port, uint8_t val)
{
	if (vm->serial && port >= SERIAL_PORT && port < SERIAL_PORT + 8)
		serial_write(vm->serial, port - SERIAL_PORT, val);
	else if (port == PORT_SLEEP_CONTROL && (val & SLEEP_ENABLE) &&
		 (val >> 2 & 7) == SLEEP_TYPE_S5)
		vm_ended(vm, VM_POWEROFF, "powered off");
	else if (port == PORT_RESET && val == RESET_VALUE)
		vm_ended(vm, VM_RESET, "reset by the guest");
}

/* Written by this thread alone, read by others. */
static void count(uint64_t *n)
{
	__atomic_store_n(n, *n + 1, __ATOMIC_RELAXED);
}

static void on_port(struct vcpu *c)
{
	struct kvm_run *run = c->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	size_t n = (size_t)run->io.count * run->io.size;

	count(&c->n_pio);
	/* Wide accesses reach neighbouring ports; repeated ones the same again. */
	for (size_t i = 0; i < n; i++) {
		uint16_t port = (uint16_t)(run->io.port + i % run->io.size);

		if (run->io.direction == KVM_EXIT_IO_IN)
			data[i] = port_read(c->vm, port);
		else
			port_write(c->vm, port, data[i]);
	}
}

static void on_mmio(struct vcpu *c)
{
	struct kvm_run *run = c->run;
	uint64_t off = run->mmio.phys_addr - AT_DEVICES, n = off / DEVICE_SIZE;

	count(&c->n_mmio);
	if (run->mmio.phys_addr < AT_DEVICES || n >= c->vm->n_devices) {
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
		return;
	}
	if (run->mmio.is_write)
		vdev_write(c->vm->devices[n], off % DEVICE_SIZE, run->mmio.data, run->mmio.len);
	else
		vdev_read(c->vm->devices[n], off % DEVICE_SIZE, run->mmio.data, run->mmio.len);
}

static void on_exit_of(struct vcpu *c)
{
	struct kvm_run *run = c->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		on_port(c);
		break;
	case KVM_EXIT_MMIO:
		on_mmio(c);
		break;
	case KVM_EXIT_INTR:
		break;
	case KVM_EXIT_SHUTDOWN:
		vm_ended(c->vm, VM_RESET, "triple fault of CPU %u", c->id);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		vm_ended(c->vm,
			 run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN ? VM_POWEROFF
									     : VM_RESET,
			 "system event %u", run->system_event.type);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		vm_ended(c->vm, VM_FAILED, "KVM gave up on CPU %u: internal error %u", c->id,
			 run->internal.suberror);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		vm_ended(c->vm, VM_FAILED, "KVM could not enter CPU %u: %#llx", c->id,
			 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	default:
		vm_ended(c->vm, VM_FAILED, "CPU %u left KVM for the unknown reason %u", c->id,
			 run->exit_reason);
	}
}

/* Wait while the machine is paused. False: the end. Only here immediate_exit is taken back, under
 * the lock under which it is set. */
static bool may_run(struct vcpu *c)
{
	struct vm *vm = c->vm;

	pthread_mutex_lock(&vm->lock);
	while (vm->want == VM_WANT_PAUSE) {
		c->parked = true;
		pthread_cond_broadcast(&vm->changed);
		pthread_cond_wait(&vm->changed, &vm->lock);
	}
	c->parked = false;
	__atomic_store_n(&c->run->immediate_exit, 0, __ATOMIC_SEQ_CST);

	bool run = vm->want == VM_WANT_RUN;

	if (!run) {
		c->parked = true;
		pthread_cond_broadcast(&vm->changed);
	}
	pthread_mutex_unlock(&vm->lock);
	return run;
}

void *vcpu_run(void *arg)
{
	struct vcpu *c = arg;
	sigset_t all;

	sigfillset(&all);
	sigdelset(&all, VCPU_SIGNAL);
	pthread_sigmask(SIG_SETMASK, &all, NULL);

	int f = c->vm->filtered ? filter_install(FILTER_VCPU) : 0;

	if (f < 0)
		vm_ended(c->vm, VM_FAILED, "filter of CPU %u: %s", c->id, vps_code_str(f));
	if (!may_run(c))
		return NULL;
	for (;;) {
		int r = kvm_ioctl(c->fd, KVM_RUN, 0);

		/* Interrupted, with the last exit's I/O complete: the only place to pause. */
		if (r == -EINTR || r == -EAGAIN) {
			if (!may_run(c))
				return NULL;
		} else if (r < 0) {
			vm_ended(c->vm, VM_FAILED, "KVM_RUN of CPU %u: %s", c->id, vps_code_str(r));
			return NULL;
		} else {
			on_exit_of(c);
		}
	}
}
