/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What KVM holds of a machine, for a snapshot. */
#ifndef VPS_VMM_SNAPCPU_H
#define VPS_VMM_SNAPCPU_H

#include "vmm/kvm.h"
#include "vmm/vm.h"

#define SNAP_MSRS_MAX 512

struct snap_cpu {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp_state;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debugregs;
	uint32_t tsc_khz, pad;
	struct kvm_xsave xsave; /* has, in its type, an end that no KVM without AMX uses */
};

/* Each 0 or a negative code. The CPU's thread is not in KVM_RUN. */
int snapcpu_get(struct vcpu *c, struct snap_cpu *ret, struct vps_err *err);
int snapcpu_set(struct vcpu *c, const struct snap_cpu *s, struct vps_err *err);
/* Instead of the one that it has. -VPS_EUNSUPPORTED: this host lacks what the guest has seen. */
int snapcpu_set_cpuid(struct vcpu *c, const struct cpuid_table *t, struct vps_err *err);
/* The number of MSRs that could be read. */
int snapcpu_get_msrs(struct vcpu *c, struct kvm_msr_entry ret[SNAP_MSRS_MAX], struct vps_err *err);
/* After snapcpu_set. */
int snapcpu_set_msrs(struct vcpu *c, const struct kvm_msr_entry *e, size_t n, struct vps_err *err);

/* Does what the guest has seen need more than have offers? The first feature that is missing into
 * why, or "". Pure. */
bool snapcpu_fits(const struct cpuid_table *seen, const struct cpuid_table *have, char *why,
		  size_t size);
#define SNAPCPU_WHY 64
/* The same in two steps, with a text in between that another host reads: features, and the counter's rate (0: not known). */
#define SNAPCPU_WORDS  13
#define SNAPCPU_TEXT   192
#define SNAPCPU_FORMAT "x86-1:"
void snapcpu_words(const struct cpuid_table *t, uint32_t ret[SNAPCPU_WORDS]);
bool snapcpu_words_fit(const uint32_t *seen, const uint32_t *have, char *why, size_t size);
void snapcpu_text(const uint32_t words[SNAPCPU_WORDS], uint32_t tsc_khz, char ret[SNAPCPU_TEXT]);
/* 0 or -EPROTO. */
int snapcpu_parse(const char *text, uint32_t words[SNAPCPU_WORDS], uint32_t *ret_khz);
/* Clocks of two hosts of one kind differ by a little, which a guest does not notice. */
bool snapcpu_tsc_near(uint32_t want, int have);
/* IA32_ARCH_CAPABILITIES: is this host's CPU free of every fault that the guest believes its own to be free of? */
bool snapcpu_faults_fit(uint64_t seen, uint64_t here);
/* Could a guest that needs what that text says go on here? -VPS_EUNSUPPORTED names what is missing. kvm: of kvm_open. */
int snapcpu_check_host(int kvm, const char *text, struct vps_err *err);

#endif
