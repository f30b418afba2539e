/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmm/snapcpu.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define MSR_TSC		 0x10
#define MSR_TSC_DEADLINE 0x6e0
#define MSR_ARCH_CAPABILITIES 0x10a
#define MSR_PERF_CAPABILITIES 0x345
/* RDCL_NO, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO, PSDP_NO, GDS_NO, RFDS_NO (SDM
 * vol. 4, table 2-2) */
#define ARCH_CAP_NO_FAULT (1ull << 0 | 1ull << 3 | 1ull << 4 | 1ull << 5 | 1ull << 6 | 1ull << 8 | 1ull << 13 | 1ull << 14 | \
			   1ull << 15 | 1ull << 26 | 1ull << 27)

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

bool snapcpu_tsc_near(uint32_t want, int have)
{
	uint32_t near = want / 4000;

	return !want || have <= 0 || ((uint32_t)have >= want - near && (uint32_t)have <= want + near);
}

static int set_tsc_khz(struct vcpu *c, uint32_t want, struct vps_err *err)
{
	int have = kvm_ioctl(c->fd, KVM_GET_TSC_KHZ, 0);

	if (snapcpu_tsc_near(want, have))
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

_Static_assert(ARRAY_LEN(features) == SNAPCPU_WORDS, "words of features");

/* As /proc/cpuinfo has them; what a guest of today may have looked for. By their place in features. */
static const struct {
	uint8_t at, bit;
	const char *name;
} names[] = {
	{0, 0, "sse3"},	       {0, 9, "ssse3"},	    {0, 12, "fma"},	   {0, 13, "cx16"},
	{0, 17, "pcid"},       {0, 19, "sse4_1"},   {0, 20, "sse4_2"},	   {0, 21, "x2apic"},
	{0, 22, "movbe"},      {0, 23, "popcnt"},   {0, 25, "aes"},	   {0, 26, "xsave"},
	{0, 28, "avx"},	       {0, 29, "f16c"},	    {0, 30, "rdrand"},	   {2, 0, "fsgsbase"},
	{2, 3, "bmi1"},	       {2, 5, "avx2"},	    {2, 7, "smep"},	   {2, 8, "bmi2"},
	{2, 9, "erms"},	       {2, 10, "invpcid"},  {2, 16, "avx512f"},	   {2, 17, "avx512dq"},
	{2, 18, "rdseed"},     {2, 19, "adx"},	    {2, 20, "smap"},	   {2, 23, "clflushopt"},
	{2, 24, "clwb"},       {2, 28, "avx512cd"}, {2, 29, "sha_ni"},	   {2, 30, "avx512bw"},
	{2, 31, "avx512vl"},   {3, 1, "avx512vbmi"}, {3, 2, "umip"},	   {3, 3, "pku"},
	{3, 8, "gfni"},	       {3, 9, "vaes"},	    {3, 10, "vpclmulqdq"}, {3, 22, "rdpid"},
	{4, 4, "fsrm"},	       {4, 26, "ibrs"},	    {4, 27, "stibp"},	   {4, 31, "ssbd"},
	{5, 4, "avx_vnni"},    {5, 5, "avx512_bf16"}, {7, 2, "avx"},	   {7, 5, "avx512f"},
	{8, 0, "xsaveopt"},    {8, 1, "xsavec"},    {8, 3, "xsaves"},	   {10, 5, "abm"},
	{10, 6, "sse4a"},      {11, 11, "syscall"}, {11, 20, "nx"},	   {11, 26, "pdpe1gb"},
	{11, 27, "rdtscp"},
};

void snapcpu_words(const struct cpuid_table *t, uint32_t ret[SNAPCPU_WORDS])
{
	for (size_t i = 0; i < SNAPCPU_WORDS; i++)
		ret[i] = word(t, features[i].function, features[i].index, features[i].reg) & features[i].mask;
}

bool snapcpu_words_fit(const uint32_t *seen, const uint32_t *have, char *why, size_t size)
{
	for (size_t i = 0; i < SNAPCPU_WORDS; i++) {
		uint32_t missing = seen[i] & ~have[i] & features[i].mask;
		const char *name = NULL;
		int bit;

		if (!missing)
			continue;
		bit = __builtin_ctz(missing);
		for (size_t k = 0; k < ARRAY_LEN(names) && !name; k++)
			if (names[k].at == i && names[k].bit == bit)
				name = names[k].name;
		snprintf(why, size, "%s%sCPUID %#x,%u: %s bit %d", name ? name : "", name ? ": " : "",
			 features[i].function, features[i].index,
			 (const char *[]){"eax", "ebx", "ecx", "edx"}[features[i].reg], bit);
		return false;
	}
	if (size)
		*why = 0;
	return true;
}

bool snapcpu_fits(const struct cpuid_table *seen, const struct cpuid_table *have, char *why,
		  size_t size)
{
	uint32_t a[SNAPCPU_WORDS], b[SNAPCPU_WORDS];

	snapcpu_words(seen, a);
	snapcpu_words(have, b);
	return snapcpu_words_fit(a, b, why, size);
}

void snapcpu_text(const uint32_t words[SNAPCPU_WORDS], uint32_t tsc_khz, char ret[SNAPCPU_TEXT])
{
	size_t n = (size_t)snprintf(ret, SNAPCPU_TEXT, SNAPCPU_FORMAT "%u", tsc_khz);

	for (size_t i = 0; i < SNAPCPU_WORDS; i++)
		n += (size_t)snprintf(ret + n, SNAPCPU_TEXT - n, ".%x", words[i]);
}

int snapcpu_parse(const char *text, uint32_t words[SNAPCPU_WORDS], uint32_t *ret_khz)
{
	size_t len = strlen(SNAPCPU_FORMAT), i = 0;
	char *end;

	if (strncmp(text, SNAPCPU_FORMAT, len) != 0 || strlen(text) >= SNAPCPU_TEXT)
		return -EPROTO;
	*ret_khz = (uint32_t)strtoul(text + len, &end, 10);
	for (; *end == '.' && i < SNAPCPU_WORDS; i++)
		words[i] = (uint32_t)strtoul(end + 1, &end, 16);
	return *end || i < SNAPCPU_WORDS ? -EPROTO : 0;
}

int snapcpu_set_cpuid(struct vcpu *c, const struct cpuid_table *t, struct vps_err *err)
{
	autofree struct cpuid_table *have = calloc(1, sizeof(*have));
	char why[SNAPCPU_WHY];
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

/* A CPU that never runs knows the rate. */
static int host_khz(int kvm)
{
	autoclose int vm = kvm_ioctl(kvm, KVM_CREATE_VM, 0);
	autoclose int cpu = vm < 0 ? vm : kvm_ioctl(vm, KVM_CREATE_VCPU, 0);

	return cpu < 0 ? cpu : kvm_ioctl(cpu, KVM_GET_TSC_KHZ, 0);
}

int snapcpu_check_host(int kvm, const char *text, struct vps_err *err)
{
	autofree struct cpuid_table *host = calloc(1, sizeof(*host));
	uint32_t seen[SNAPCPU_WORDS], have[SNAPCPU_WORDS], khz = 0;
	char why[SNAPCPU_WHY];
	int r = snapcpu_parse(text, seen, &khz), here;

	if (r < 0)
		return vps_err_set(err, VPS_EUNSUPPORTED, "what its CPU has is told in no way that is known here");
	r = host ? kvm_get_cpuid(kvm, host) : -ENOMEM;
	if (r < 0)
		return vps_err_sys(err, r, "get this host's CPUID");
	snapcpu_words(host, have);
	if (!snapcpu_words_fit(seen, have, why, sizeof(why)))
		return vps_err_set(err, VPS_EUNSUPPORTED, "this host's CPU lacks what the guest has seen (%s)", why);
	here = host_khz(kvm);
	if (!snapcpu_tsc_near(khz, here) && kvm_ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) <= 0)
		return vps_err_set(err, VPS_EUNSUPPORTED, "its time stamp counter runs at %u kHz, this host's at %d "
				   "and cannot be scaled", khz, here);
	return 0;
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

		/* The guest's CPUID has no counters (PDCM), and another host need not have this one's. */
		if (e.index == MSR_PERF_CAPABILITIES)
			continue;
		/* Some are listed for another maker's CPUs and cannot be read. */
		if (msr_get(c, e.index, (uint64_t *)&e.data) == 0)
			ret[n++] = e;
	}
	return n;
}

bool snapcpu_faults_fit(uint64_t seen, uint64_t here)
{
	return !(seen & ARCH_CAP_NO_FAULT & ~here);
}

/* KVM takes any value: a guest that believed its CPU free of a fault would go on without its defence. */
static int check_faults(struct vcpu *c, const struct kvm_msr_entry *e, struct vps_err *err)
{
	struct one_msr host = {.nmsrs = 1, .e.index = e->index};

	if (kvm_ioctl_p(c->vm->kvm_fd, KVM_GET_MSRS, &host) != 1)
		host.e.data = 0;
	return snapcpu_faults_fit(e->data, host.e.data)
		       ? 0
		       : vps_err_set(err, VPS_EUNSUPPORTED, "this host's CPU has faults that the guest does not expect "
				     "(IA32_ARCH_CAPABILITIES %#llx, here %#llx)", (unsigned long long)e->data,
				     (unsigned long long)host.e.data);
}

static int msr_set(struct vcpu *c, const struct kvm_msr_entry *e, struct vps_err *err)
{
	struct one_msr m = {.nmsrs = 1, .e = *e};
	uint64_t now;
	int r = e->index == MSR_ARCH_CAPABILITIES ? check_faults(c, e, err) : 0;

	if (r < 0)
		return r;
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
