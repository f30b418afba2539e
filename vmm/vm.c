/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/vm.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "base/mem.h"
#include "vmm/kvm.h"

/* Also to change the flags of what is there. */
static int set_memory(struct vm *vm, uint32_t flags)
{
	uint64_t low = gmem_low(&vm->mem);
	struct kvm_userspace_memory_region r = {
		.flags = flags,
		.memory_size = low,
		.userspace_addr = (uintptr_t)vm->mem.base,
	};
	int ret = kvm_ioctl_p(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &r);

	if (ret < 0 || vm->mem.size == low)
		return ret;
	r = (struct kvm_userspace_memory_region){
		.slot = 1,
		.flags = flags,
		.guest_phys_addr = GMEM_HOLE_END,
		.memory_size = vm->mem.size - low,
		.userspace_addr = (uintptr_t)vm->mem.base + low,
	};
	return kvm_ioctl_p(vm->vm_fd, KVM_SET_USER_MEMORY_REGION, &r);
}

int vm_log(struct vm *vm, bool on)
{
	return set_memory(vm, on ? KVM_MEM_LOG_DIRTY_PAGES : 0);
}

int vm_log_get(struct vm *vm, uint64_t *bits)
{
	uint64_t low = gmem_low(&vm->mem);
	struct kvm_dirty_log l = {.dirty_bitmap = bits};
	int r = kvm_ioctl_p(vm->vm_fd, KVM_GET_DIRTY_LOG, &l);

	if (r < 0 || vm->mem.size == low)
		return r;
	l = (struct kvm_dirty_log){.slot = 1, .dirty_bitmap = bits + low / GMEM_PAGE / 64};
	return kvm_ioctl_p(vm->vm_fd, KVM_GET_DIRTY_LOG, &l);
}

int vm_log_clear(struct vm *vm, uint64_t page, uint64_t n, uint64_t *bits)
{
	uint64_t low = gmem_low(&vm->mem) / GMEM_PAGE;
	struct kvm_clear_dirty_log l = {
		.slot = page >= low,
		.first_page = page >= low ? page - low : page,
		.num_pages = (uint32_t)n,
		.dirty_bitmap = bits + page / 64,
	};

	return vm->log_by_parts ? kvm_ioctl_p(vm->vm_fd, KVM_CLEAR_DIRTY_LOG, &l) : 0;
}

static int add_irq(struct vm *vm, int fd, uint32_t gsi)
{
	struct kvm_irqfd i = {.fd = (uint32_t)fd, .gsi = gsi};

	return kvm_ioctl_p(vm->vm_fd, KVM_IRQFD, &i);
}

/* Where a KVM knows them: no performance counters of the host's, whatever CPUID says (AMD has some
 * without a leaf), and a CPU that an instruction has hung comes back (Intel's notify exit). */
static void harden(struct vm *vm)
{
	struct kvm_enable_cap pmu = {
		.cap = KVM_CAP_PMU_CAPABILITY,
		.args[0] = KVM_PMU_CAP_DISABLE,
	};
	struct kvm_enable_cap notify = {
		.cap = KVM_CAP_X86_NOTIFY_VMEXIT,
		.args[0] = KVM_X86_NOTIFY_VMEXIT_ENABLED,
	};

	kvm_ioctl_p(vm->vm_fd, KVM_ENABLE_CAP, &pmu);
	kvm_ioctl_p(vm->vm_fd, KVM_ENABLE_CAP, &notify);
}

/* Where a KVM knows it, pages are watched again part by part, just before they are copied, and not all of them while
 * the CPUs wait. */
static void want_parts(struct vm *vm)
{
	struct kvm_enable_cap parts = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET,
	};

	vm->log_by_parts = kvm_ioctl_p(vm->vm_fd, KVM_ENABLE_CAP, &parts) == 0;
	if (vm->log_by_parts)
		return;
	parts.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
	vm->log_by_parts = kvm_ioctl_p(vm->vm_fd, KVM_ENABLE_CAP, &parts) == 0;
}

static int setup(struct vm *vm, struct vps_err *err)
{
	uint64_t identity = AT_IDENTITY_MAP;
	int r = kvm_ioctl(vm->vm_fd, KVM_SET_TSS_ADDR, AT_TSS);

	harden(vm);
	want_parts(vm);
	if (r == 0)
		r = kvm_ioctl_p(vm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (r == 0)
		r = kvm_ioctl(vm->vm_fd, KVM_CREATE_IRQCHIP, 0);
	if (r == 0)
		r = set_memory(vm, 0);
	if (r == 0)
		r = add_irq(vm, vm->power_irq, GSI_POWER);
	return r < 0 ? vps_err_sys(err, r, "set up the machine") : 0;
}

int vm_create(struct vm *vm, int kvm, uint64_t memory, int mem_fd, unsigned cpus,
	      struct vps_err *err)
{
	int r;

	*vm = (struct vm){
		.kvm_fd = kvm, .vm_fd = -1, .ended_fd = -1, .power_irq = -1, .want = VM_WANT_PAUSE};
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->changed, NULL);
	if (!cpus || cpus > MAX_CPUS)
		return vps_err_set(err, EINVAL, "%u CPUs; 1 to %u are possible", cpus, MAX_CPUS);
	r = gmem_map(&vm->mem, memory, mem_fd, err);
	if (r < 0)
		return r;
	vm->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	vm->power_irq = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = vm->ended_fd < 0 || vm->power_irq < 0 ? -errno : kvm_ioctl(kvm, KVM_CREATE_VM, 0);
	if (r >= 0) {
		vm->vm_fd = r;
		r = kvm_ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	}
	if (r < 0) {
		r = vps_err_sys(err, r, "create a virtual machine");
	} else {
		vm->run_size = (size_t)r;
		r = setup(vm, err);
	}
	for (unsigned i = 0; r == 0 && i < cpus; i++) {
		vm->cpus[i] = (struct vcpu){.vm = vm, .id = i, .fd = -1};
		vm->n_cpus = cpus;
		r = vcpu_create(vm, &vm->cpus[i], err);
	}
	if (r < 0)
		vm_destroy(vm);
	return r;
}

void vm_destroy(struct vm *vm)
{
	vm_stop(vm);
	for (unsigned i = 0; i < vm->n_cpus; i++)
		vcpu_destroy(&vm->cpus[i]);
	vm->n_cpus = 0;
	close_fd(&vm->vm_fd);
	close_fd(&vm->ended_fd);
	close_fd(&vm->power_irq);
	gmem_done(&vm->mem);
}

int vm_add_device(struct vm *vm, struct vdev *v, struct vps_err *err)
{
	unsigned n = vm->n_devices;
	int r;

	if (n == MAX_DEVICES)
		return vps_err_set(err, E2BIG, "more than %u devices", MAX_DEVICES);

	/* Any queue: the device looks at them all. */
	struct kvm_ioeventfd kick = {
		.addr = AT_DEVICES + n * DEVICE_SIZE + VDEV_NOTIFY,
		.len = 4,
		.fd = v->kick.fd,
	};

	r = add_irq(vm, v->irq_fd, GSI_DEVICES + n);
	if (r == 0)
		r = kvm_ioctl_p(vm->vm_fd, KVM_IOEVENTFD, &kick);
	if (r < 0)
		return vps_err_sys(err, r, "connect a device");
	vm->devices[vm->n_devices++] = v;
	return 0;
}

int vm_set_serial(struct vm *vm, struct serial *s, struct vps_err *err)
{
	int r = add_irq(vm, s->irq_fd, SERIAL_IRQ);

	if (r < 0)
		return vps_err_sys(err, r, "connect the console");
	vm->serial = s;
	return 0;
}

int vm_set_entry(struct vm *vm, const struct loader_entry *e, struct vps_err *err)
{
	struct kvm_segment code = {
		.limit = 0xffffffff,
		.selector = LOADER_CODE,
		.type = 11,
		.present = 1,
		.s = 1,
		.l = 1,
		.g = 1,
	};
	struct kvm_segment data = {
		.limit = 0xffffffff,
		.selector = LOADER_DATA,
		.type = 3,
		.present = 1,
		.s = 1,
		.db = 1,
		.g = 1,
	};
	struct kvm_regs regs = {.rip = e->rip, .rsi = e->rsi, .rflags = 2};
	struct kvm_sregs s;
	int fd = vm->cpus[0].fd, r = kvm_ioctl_p(fd, KVM_GET_SREGS, &s);

	if (r == 0) {
		s.cs = code;
		s.ds = s.es = s.fs = s.gs = s.ss = data;
		s.gdt = (struct kvm_dtable){.base = AT_GDT, .limit = 31};
		s.idt = (struct kvm_dtable){0};
		s.cr0 = 0x80000011; /* PG, ET, PE */
		s.cr3 = e->cr3;
		s.cr4 = 0x20;	/* PAE */
		s.efer = 0x500; /* LMA, LME */
		r = kvm_ioctl_p(fd, KVM_SET_SREGS, &s);
	}
	if (r == 0)
		r = kvm_ioctl_p(fd, KVM_SET_REGS, &regs);
	return r < 0 ? vps_err_sys(err, r, "set the first CPU's registers") : 0;
}

/* Under the lock: make every CPU come and look at want. A CPU that is about to enter the guest sees
 * immediate_exit, one that is inside gets the signal. */
static void call_cpus(struct vm *vm)
{
	for (unsigned i = 0; i < vm->n_cpus; i++) {
		if (!vm->cpus[i].started)
			continue;
		__atomic_store_n(&vm->cpus[i].run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(vm->cpus[i].thread, VCPU_SIGNAL);
	}
	pthread_cond_broadcast(&vm->changed);
}

static void on_signal(int sig)
{
}

int vm_start(struct vm *vm, struct vps_err *err)
{
	struct sigaction sa = {.sa_handler = on_signal};
	int r = sigaction(VCPU_SIGNAL, &sa, NULL) < 0 ? -errno : 0;

	for (unsigned i = 0; r == 0 && i < vm->n_cpus; i++) {
		pthread_mutex_lock(&vm->lock);
		r = -pthread_create(&vm->cpus[i].thread, NULL, vcpu_run, &vm->cpus[i]);
		vm->cpus[i].started = r == 0;
		pthread_mutex_unlock(&vm->lock);
	}
	if (r < 0) {
		vm_stop(vm);
		return vps_err_sys(err, r, "start the CPUs");
	}
	return 0;
}

static void want(struct vm *vm, enum vm_want w)
{
	pthread_mutex_lock(&vm->lock);
	if (vm->want != VM_WANT_STOP)
		vm->want = w;
	call_cpus(vm);
	pthread_mutex_unlock(&vm->lock);
}

void vm_resume(struct vm *vm)
{
	/* Or the guest's watchdogs take the pause for a hang. No guest without kvm-clock minds. */
	for (unsigned i = 0; i < vm->n_cpus; i++)
		kvm_ioctl(vm->cpus[i].fd, KVM_KVMCLOCK_CTRL, 0);
	want(vm, VM_WANT_RUN);
}

void vm_pause(struct vm *vm)
{
	want(vm, VM_WANT_PAUSE);
	pthread_mutex_lock(&vm->lock);
	for (unsigned i = 0; i < vm->n_cpus; i++)
		while (vm->cpus[i].started && !vm->cpus[i].parked && vm->want == VM_WANT_PAUSE)
			pthread_cond_wait(&vm->changed, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
}

void vm_stop(struct vm *vm)
{
	vm_ended(vm, VM_STOPPED, "stopped");
	for (unsigned i = 0; i < vm->n_cpus; i++) {
		if (!vm->cpus[i].started)
			continue;
		pthread_join(vm->cpus[i].thread, NULL);
		pthread_mutex_lock(&vm->lock);
		vm->cpus[i].started = false;
		pthread_mutex_unlock(&vm->lock);
	}
}

void vm_press_power(struct vm *vm)
{
	eventfd_write(vm->power_irq, 1);
}

void vm_ended(struct vm *vm, enum vm_end end, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&vm->lock);
	if (vm->end == VM_RUNS) {
		vm->end = end;
		va_start(ap, fmt);
		vsnprintf(vm->why, sizeof(vm->why), fmt, ap);
		va_end(ap);
		if (vm->ended_fd >= 0)
			eventfd_write(vm->ended_fd, 1);
	}
	vm->want = VM_WANT_STOP;
	call_cpus(vm);
	pthread_mutex_unlock(&vm->lock);
}

enum vm_end vm_end_of(struct vm *vm, char *why, size_t size)
{
	pthread_mutex_lock(&vm->lock);

	enum vm_end e = vm->end;

	snprintf(why, size, "%s", vm->why);
	pthread_mutex_unlock(&vm->lock);
	return e;
}
