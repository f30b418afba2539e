/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What this host's KVM can do, and what a guest's CPUs look like. */
#ifndef VPS_VMM_KVM_H
#define VPS_VMM_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define KVM_MAX_CPUID 256

/* struct kvm_cpuid2 with room. */
struct cpuid_table {
	uint32_t nent, padding;
	struct kvm_cpuid_entry2 entry[KVM_MAX_CPUID];
};

/* /dev/kvm (given: a duplicate of that fd; -1: by its path), checked for all that we use. The fd,
 * or -VPS_EUNSUPPORTED in words. */
int kvm_open(int given, struct vps_err *err);
/* Whether the CPU has hardware virtualisation. A KVM without (a paravirtual one, in a guest) runs
 * small programs, but no stock kernel: that would hang in its first instructions. */
bool kvm_in_hardware(void);
/* The same as 0 or -VPS_EUNSUPPORTED. */
int kvm_check_stock_kernel(struct vps_err *err);
/* ioctl(2) that returns its result or -errno, EINTR included. */
int kvm_ioctl(int fd, unsigned long request, unsigned long arg);
#define kvm_ioctl_p(fd, request, p) kvm_ioctl((fd), (request), (unsigned long)(uintptr_t)(p))

/* What KVM supports here. */
int kvm_get_cpuid(int kvm, struct cpuid_table *ret);
/* Make it CPU number cpu of n_cpus: ids and topology (one thread a core, one socket), no nested
 * virtualisation, no performance counters, the hypervisor bit, the deadline timer when there. */
void kvm_filter_cpuid(struct cpuid_table *c, unsigned cpu, unsigned n_cpus, bool deadline);

#endif
