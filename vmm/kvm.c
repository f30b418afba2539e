/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/kvm.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>

#include "base/mem.h"

#define BIT(n) (1u << (n))

int kvm_ioctl(int fd, unsigned long request, unsigned long arg)
{
	int r = ioctl(fd, request, arg);

	return r < 0 ? -errno : r;
}

int kvm_open(int given, struct vps_err *err)
{
	static const struct {
		int cap;
		const char *what;
	} need[] = {
		{KVM_CAP_USER_MEMORY, "memory slots"},
		{KVM_CAP_IRQCHIP, "interrupt controllers"},
		{KVM_CAP_IRQFD, "irqfd"},
		{KVM_CAP_IOEVENTFD, "ioeventfd"},
		{KVM_CAP_EXT_CPUID, "CPUID"},
		{KVM_CAP_SET_TSS_ADDR, "a TSS address"},
		{KVM_CAP_IMMEDIATE_EXIT, "immediate exits"},
		{KVM_CAP_MP_STATE, "CPU states"},
	};
	autoclose int fd =
		given < 0 ? open("/dev/kvm", O_RDWR | O_CLOEXEC) : fcntl(given, F_DUPFD_CLOEXEC, 0);

	if (fd < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV))
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "this host has no /dev/kvm (module kvm-intel or kvm-amd; "
				   "virtualisation may be off in its firmware)");
	if (fd < 0)
		return vps_err_sys(err, -errno, "open /dev/kvm");

	int api = ioctl(fd, KVM_GET_API_VERSION, 0);

	if (api != 12)
		return vps_err_set(err, VPS_EUNSUPPORTED, "/dev/kvm speaks version %d, not 12",
				   api);
	for (size_t i = 0; i < ARRAY_LEN(need); i++)
		if (ioctl(fd, KVM_CHECK_EXTENSION, need[i].cap) <= 0)
			return vps_err_set(err, VPS_EUNSUPPORTED, "/dev/kvm lacks %s",
					   need[i].what);
	return take_fd(fd);
}

bool kvm_in_hardware(void)
{
	unsigned a, b, c = 0, d;

	if (__get_cpuid(1, &a, &b, &c, &d) && (c & BIT(5))) /* VMX */
		return true;
	return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & BIT(2)); /* SVM */
}

int kvm_check_stock_kernel(struct vps_err *err)
{
	if (kvm_in_hardware())
		return 0;
	return vps_err_set(
		err, VPS_EUNSUPPORTED,
		"the /dev/kvm of this host works without hardware virtualisation (no vmx "
		"or svm in /proc/cpuinfo) and cannot run a stock kernel");
}

int kvm_get_cpuid(int kvm, struct cpuid_table *ret)
{
	ret->nent = KVM_MAX_CPUID;
	return kvm_ioctl_p(kvm, KVM_GET_SUPPORTED_CPUID, ret);
}

static unsigned log2_up(unsigned n)
{
	unsigned shift = 0;

	while ((1u << shift) < n)
		shift++;
	return shift;
}

/* Leaves 0xb and 0x1f (Intel SDM, CPUID): level 0 is a thread, level 1 the cores of the socket. */
static void topology(struct kvm_cpuid_entry2 *e, unsigned cpu, unsigned n_cpus)
{
	e->edx = cpu;
	e->ecx = e->index & 0xff;
	e->eax = e->ebx = 0;
	if (e->index == 0) {
		e->ebx = 1;
		e->ecx |= 1 << 8;
	} else if (e->index == 1) {
		e->eax = log2_up(n_cpus);
		e->ebx = n_cpus;
		e->ecx |= 2 << 8;
	}
}

static void leaf_1(struct kvm_cpuid_entry2 *e, unsigned cpu, unsigned n_cpus, bool deadline)
{
	e->ebx = (e->ebx & 0xff00) | cpu << 24 | n_cpus << 16;
	/* DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, xTPR, PDCM */
	e->ecx &=
		~(BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(6) | BIT(7) | BIT(8) | BIT(14) | BIT(15));
	e->ecx |= BIT(31);
	e->ecx = deadline ? e->ecx | BIT(24) : e->ecx & ~BIT(24);
	e->edx = n_cpus > 1 ? e->edx | BIT(28) : e->edx & ~BIT(28);
}

void kvm_filter_cpuid(struct cpuid_table *c, unsigned cpu, unsigned n_cpus, bool deadline)
{
	for (unsigned i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *e = &c->entry[i];

		switch (e->function) {
		case 1:
			leaf_1(e, cpu, n_cpus, deadline);
			break;
		case 4: /* caches: the last level is shared by all, the others by nobody */
			if (e->eax & 0x1f) {
				unsigned level = e->eax >> 5 & 7;

				e->eax &= ~(0xfffu << 14 | 0x3fu << 26);
				e->eax |= (n_cpus - 1) << 26;
				if (level >= 3)
					e->eax |= (n_cpus - 1) << 14;
			}
			break;
		case 6: /* power: only that the APIC timer never stops */
			e->eax &= BIT(2);
			e->ebx = e->ecx = e->edx = 0;
			break;
		case 0xa: /* performance counters */
			e->eax = e->ebx = e->ecx = e->edx = 0;
			break;
		case 0xb:
		case 0x1f:
			topology(e, cpu, n_cpus);
			break;
		case 0x80000001:
			/* CmpLegacy, SVM, SKINIT, performance counters */
			e->ecx &= ~(BIT(1) | BIT(2) | BIT(12) | BIT(23) | BIT(24) | BIT(28));
			break;
		case 0x80000008:
			e->ecx = log2_up(n_cpus) << 12 | (n_cpus - 1);
			break;
		case 0x8000000a: /* SVM */
			e->eax = e->ebx = e->ecx = e->edx = 0;
			break;
		case 0x8000001e: /* AMD: id, threads a core, nodes */
			e->eax = cpu;
			e->ebx = cpu & 0xff;
			e->ecx = 0;
			break;
		}
	}
}
