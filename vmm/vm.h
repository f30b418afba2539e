/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtual machine on KVM: memory, interrupt controllers in the kernel, CPUs with a thread each,
 * the devices' windows. Every way in which it ends is told by an eventfd and a reason.
 */
#ifndef VPS_VMM_VM_H
#define VPS_VMM_VM_H

#include <linux/kvm.h>
#include <pthread.h>

#include "vmm/layout.h"
#include "vmm/loader.h"
#include "vmm/serial.h"
#include "vmm/virtio_mmio.h"

enum vm_end {
	VM_RUNS,
	VM_POWEROFF, /* the guest switched itself off (ACPI S5) */
	VM_RESET,    /* the guest wants to be started anew: reset register, triple fault */
	VM_FAILED,   /* KVM gave up; why has words */
	VM_STOPPED,  /* by vm_stop */
};

enum vm_want { VM_WANT_RUN, VM_WANT_PAUSE, VM_WANT_STOP };

struct vm;
struct cpuid_table;

struct vcpu {
	struct vm *vm;
	unsigned id;
	int fd;
	struct kvm_run *run;
	struct cpuid_table *cpuid; /* what the guest sees; some KVMs do not tell it again */
	pthread_t thread;
	bool started, parked;
	uint64_t n_pio, n_mmio; /* exits to us */
};

struct vm {
	struct gmem mem;
	int kvm_fd, vm_fd;
	int ended_fd;  /* eventfd: end is no longer VM_RUNS */
	int power_irq; /* eventfd of the power button's interrupt */
	size_t run_size;
	unsigned n_cpus, n_devices;
	struct vcpu cpus[MAX_CPUS];
	struct vdev *devices[MAX_DEVICES];
	struct serial *serial;
	bool log_by_parts;
	bool filtered; /* CPUs get their filter (vmm/filter.h) */

	pthread_mutex_t lock; /* of what follows, and of parked */
	pthread_cond_t changed;
	enum vm_want want;
	enum vm_end end;
	char why[128];
};

/* kvm: of kvm_open; stays the caller's. Memory is mapped here (mem_fd as in gmem_map). The vm must
 * not move afterwards. */
int vm_create(struct vm *vm, int kvm, uint64_t memory, int mem_fd, unsigned cpus,
	      struct vps_err *err);
/* Stops it, too. Devices stay the caller's, and must outlive it. */
void vm_destroy(struct vm *vm);
/* Give a device the next window. */
int vm_add_device(struct vm *vm, struct vdev *v, struct vps_err *err);
int vm_set_serial(struct vm *vm, struct serial *s, struct vps_err *err);
/* The first CPU's registers for a kernel that loader_load put there. */
int vm_set_entry(struct vm *vm, const struct loader_entry *e, struct vps_err *err);
/* Start the CPUs' threads, paused: they have not run an instruction before vm_resume. */
int vm_start(struct vm *vm, struct vps_err *err);
void vm_resume(struct vm *vm);
/* When it returns no CPU runs, and what the guest had begun with a device is complete. */
void vm_pause(struct vm *vm);
/* End the threads. */
void vm_stop(struct vm *vm);
void vm_press_power(struct vm *vm);
/*
 * What the guest changes in its memory, while that is on: a bit a page in the order of our mapping; bits has room for
 * all, in words of 64. vm_log_get takes them all; each is told again until vm_log_clear has said that it is known (of n
 * pages from page on, that do not cross GMEM_HOLE, both multiples of 64 but at the end), then when it is written
 * to the next time. Pages that never were written to may be told, too. From any thread. 0 or -errno.
 */
int vm_log(struct vm *vm, bool on);
int vm_log_get(struct vm *vm, uint64_t *bits);
int vm_log_clear(struct vm *vm, uint64_t page, uint64_t n, uint64_t *bits);
enum vm_end vm_end_of(struct vm *vm, char *why, size_t size);

/* For vcpu.c. */
int vcpu_create(struct vm *vm, struct vcpu *c, struct vps_err *err);
void vcpu_destroy(struct vcpu *c);
void *vcpu_run(void *vcpu);
/* The first end counts. */
void vm_ended(struct vm *vm, enum vm_end end, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* One that nobody is stopped by. */
#define VCPU_SIGNAL SIGRTMAX

#endif
