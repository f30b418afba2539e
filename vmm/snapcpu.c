/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/snapcpu.h"

#include <errno.h>
#include <stdio.h>

#include "base/mem.h"

#define MSR_TSC		 0x10
#define MSR_TSC_DEADLINE 0x6e0

struct item {
	const char *what;
	unsigned long get, set;
	size_t off;
};
#define ITEM(what, NAME, field)                                                                    \
	{                                                                                          \
		what, KVM_GET_##NAME, KVM_SET_##NAME, offsetof(struct snap_cpu, field)             \
	}

/* In the order in which they can be set: XCR0 before what it switches on; the local APIC's base is
 * in sregs; what waits to be injected at last. */
static const struct item items[] = {
	ITEM("extended control registers", XCRS, xcrs), ITEM("extended state", XSAVE, xsave),
	ITEM("system registers", SREGS, sregs),		ITEM("registers", REGS, regs),
	ITEM("debug registers", DEBUGREGS, debugregs),	ITEM("local APIC", LAPIC, lapic),
	ITEM("activity", MP_STATE, mp_state),		ITEM("events", VCPU_EVENTS, events),
};

int snapcpu_get(struct vcpu *c, struct snap_cpu *ret, struct vps_err *err)
{
	memset(ret, 0, sizeof(*ret));
	for (size_t i = 0; i < ARRAY_LEN(items); i++) {
		int r = kvm_ioctl_p(c->fd, items[i].get, (uint8_t *)ret + items[i].off);

		if (r < 0)
			return vps_err_sys(err, r, "CPU %u: get its %s", c->id, items[i].what);
	}

	int khz = kvm_ioctl(c->fd, KVM_GET_TSC_KHZ, 0);

	ret->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	return 0;
}

/* Clocks of two hosts of one kind differ by a little, which a guest does not notice. */
static int set_tsc_khz(struct vcpu *c, uint32_t want, struct vps_err *err)
{
	int have = kvm_ioctl(c->fd, KVM_GET_TSC_KHZ, 0);
	uint32_t near = want / 4000;

	if (!want || have <= 0 || ((uint32_t)have >= want - near && (uint32_t)have <= want + near))
		return 0;
	if (kvm_ioctl(c->fd, KVM_SET_TSC_KHZ, want) < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "its time stamp counter ran at %u kHz, this host's runs at %d "
				   "and cannot be scaled",
				   want, have);
	return 0;
}

int snapcpu_set(struct vcpu *c, const struct snap_cpu *s, struct vps_err *err)
{
	int r = set_tsc_khz(c, s->tsc_khz, err);

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(items); i++) {
		r = kvm_ioctl_p(c->fd, items[i].set, (const uint8_t *)s + items[i].off);
		if (r < 0)
			vps_err_sys(err, r, "CPU %u: set its %s", c->id, items[i].what);
	}
	return r < 0 ? r : 0;
}

/* ---- CPUID ---- */

enum reg { EAX, EBX, ECX, EDX };

/* Where CPUID has features of which more is better. What the hypervisor itself makes (bit 31 and
 * the deadline timer of leaf 1, OSXSAVE, topology) is not compared. */
static const struct {
	uint32_t function, index;
	enum reg reg;
	uint32_t mask;
} features[] = {
	{1, 0, ECX, ~(1u << 31 | 1u << 27 | 1u << 24)},
	{1, 0, EDX, ~(1u << 28)},
	{7, 0, EBX, ~0u},
	{7, 0, ECX, ~(1u << 4)}, /* OSPKE */
	{7, 0, EDX, ~0u},
	{7, 1, EAX, ~0u},
	{7, 1, EDX, ~0u},
	{0xd, 0, EAX, ~0u},
	{0xd, 1, EAX, ~0u},
	{0x40000001, 0, EAX, ~0u},
	{0x80000001, 0, ECX, ~0u},
	{0x80000001, 0, EDX, ~0u},
	{0x80000008, 0, EBX, ~0u},
};

static uint32_t word(const struct cpuid_table *t, uint32_t function, uint32_t index, enum reg reg)
{
	for (uint32_t i = 0; i < t->nent && i < KVM_MAX_CPUID; i++) {
		const struct kvm_cpuid_entry2 *e = &t->entry[i];

		if (e->function == function &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == index))
			return reg == EAX   ? e->eax
			       : reg == EBX ? e->ebx
			       : reg == ECX ? e->ecx
					    : e->edx;
	}
	return 0;
}

bool snapcpu_fits(const struct cpuid_table *seen, const struct cpuid_table *have, char *why,
		  size_t size)
{
	for (size_t i = 0; i < ARRAY_LEN(features); i++) {
		uint32_t f = features[i].function, n = features[i].index;
		uint32_t missing = word(seen, f, n, features[i].reg) &
				   ~word(have, f, n, features[i].reg) & features[i].mask;

		if (!missing)
			continue;
		snprintf(why, size, "CPUID %#x,%u: %s bit %d", f, n,
			 (const char *[]){"eax", "ebx", "ecx", "edx"}[features[i].reg],
			 __builtin_ctz(missing));
		return false;
	}
	if (size)
		*why = 0;
	return true;
}

int snapcpu_set_cpuid(struct vcpu *c, const struct cpuid_table *t, struct vps_err *err)
{
	autofree struct cpuid_table *have = calloc(1, sizeof(*have));
	char why[64];
	int r = have ? kvm_get_cpuid(c->vm->kvm_fd, have) : -ENOMEM;

	if (r < 0)
		return vps_err_sys(err, r, "get this host's CPUID");
	if (!snapcpu_fits(t, have, why, sizeof(why)))
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "this host's CPU lacks what the guest has used (%s)", why);
	*c->cpuid = *t;
	r = kvm_ioctl_p(c->fd, KVM_SET_CPUID2, c->cpuid);
	return r < 0 ? vps_err_sys(err, r, "CPU %u: set its CPUID", c->id) : 0;
}

/* ---- MSRs ---- */

struct one_msr { /* struct kvm_msrs with room */
	uint32_t nmsrs, padding;
	struct kvm_msr_entry e;
};

static int msr_get(struct vcpu *c, uint32_t index, uint64_t *ret)
{
	struct one_msr m = {.nmsrs = 1, .e.index = index};

	if (kvm_ioctl_p(c->fd, KVM_GET_MSRS, &m) != 1)
		return -ENOENT;
	*ret = m.e.data;
	return 0;
}

int snapcpu_get_msrs(struct vcpu *c, struct kvm_msr_entry ret[SNAP_MSRS_MAX], struct vps_err *err)
{
	struct {
		uint32_t nmsrs;
		uint32_t index[SNAP_MSRS_MAX];
	} list = {.nmsrs = SNAP_MSRS_MAX};
	int r = kvm_ioctl_p(c->vm->kvm_fd, KVM_GET_MSR_INDEX_LIST, &list), n = 0;

	if (r < 0)
		return vps_err_sys(err, r, "get the list of MSRs");
	for (uint32_t i = 0; i < list.nmsrs && i < SNAP_MSRS_MAX; i++) {
		struct kvm_msr_entry e = {.index = list.index[i]};

		/* Some are listed for another maker's CPUs and cannot be read. */
		if (msr_get(c, e.index, (uint64_t *)&e.data) == 0)
			ret[n++] = e;
	}
	return n;
}

static int msr_set(struct vcpu *c, const struct kvm_msr_entry *e, struct vps_err *err)
{
	struct one_msr m = {.nmsrs = 1, .e = *e};
	uint64_t now;

	if (kvm_ioctl_p(c->fd, KVM_SET_MSRS, &m) == 1)
		return 0;
	/* What cannot be set must already be so. */
	if (msr_get(c, e->index, &now) == 0 && now == e->data)
		return 0;
	return vps_err_set(err, VPS_EUNSUPPORTED, "CPU %u: its MSR %#x cannot be %#llx here", c->id,
			   e->index, (unsigned long long)e->data);
}

int snapcpu_set_msrs(struct vcpu *c, const struct kvm_msr_entry *e, size_t n, struct vps_err *err)
{
	int r = 0;

	/* The counter before the deadline that it is compared with. */
	for (int pass = 0; r == 0 && pass < 3; pass++)
		for (size_t i = 0; r == 0 && i < n; i++) {
			int when = e[i].index == MSR_TSC	    ? 0
				   : e[i].index == MSR_TSC_DEADLINE ? 2
								    : 1;

			if (when == pass)
				r = msr_set(c, &e[i], err);
		}
	return r;
}
