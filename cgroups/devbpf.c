/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device allow list as a BPF program (BPF_PROG_TYPE_CGROUP_DEVICE, 4.15), written by hand: a
 * few instructions a rule need neither libbpf nor a compiler. bpf(2). */
#include "cgroups/internal.h"

#include <linux/bpf.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define PROGRAM_NAME "vps_devices"
#define OLD_MAX	     16
#define HEAD_LEN     6
#define RULE_LEN     8 /* at most */
#define TAIL_LEN     2
#define ALL_ACCESS   (BPF_DEVCG_ACC_MKNOD | BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE)

static struct bpf_insn load_word(int dst, int src, short offset)
{
	return (struct bpf_insn){ BPF_LDX | BPF_MEM | BPF_W, dst, src, offset, 0 };
}

static struct bpf_insn alu(int op, int dst, int imm)
{
	return (struct bpf_insn){ BPF_ALU64 | BPF_K | op, dst, 0, 0, imm };
}

static struct bpf_insn move_reg(int dst, int src)
{
	return (struct bpf_insn){ BPF_ALU64 | BPF_X | BPF_MOV, dst, src, 0, 0 };
}

/* Jump to the end of the rule; the distance is filled in when the rule is complete. */
static struct bpf_insn unless_equal(int dst, int imm)
{
	return (struct bpf_insn){ BPF_JMP | BPF_K | BPF_JNE, dst, 0, 0, imm };
}

static struct bpf_insn leave(void)
{
	return (struct bpf_insn){ BPF_JMP | BPF_EXIT, 0, 0, 0, 0 };
}

/* r2 type, r3 access wanted, r4 major, r5 minor. A rule answers 1 when it covers all that is
 * wanted, else hands on to the next. */
static size_t build_rule(const struct cg_devrule *d, struct bpf_insn *at)
{
	size_t n = 0;
	if (d->type != 'a')
		at[n++] = unless_equal(BPF_REG_2,
				       d->type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
	if (d->access != ALL_ACCESS) {
		at[n++] = move_reg(BPF_REG_6, BPF_REG_3);
		at[n++] = alu(BPF_AND, BPF_REG_6, (int)(ALL_ACCESS & ~d->access));
		at[n++] = unless_equal(BPF_REG_6, 0);
	}
	if (d->major >= 0)
		at[n++] = unless_equal(BPF_REG_4, d->major);
	if (d->minor >= 0)
		at[n++] = unless_equal(BPF_REG_5, d->minor);
	at[n++] = alu(BPF_MOV, BPF_REG_0, 1);
	at[n++] = leave();
	for (size_t i = 0; i < n; i++)
		if (at[i].code == (BPF_JMP | BPF_K | BPF_JNE))
			at[i].off = (short)(n - i - 1);
	return n;
}

int cg_devbpf_build(const struct cg_devrule *rules, size_t n, struct bpf_insn **ret, size_t *ret_n)
{
	if (n > CG_DEVICES_MAX)
		return -E2BIG;
	struct bpf_insn *p = calloc(HEAD_LEN + n * RULE_LEN + TAIL_LEN, sizeof(*p));
	if (!p)
		return -ENOMEM;
	size_t at = 0;
	/* struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor */
	p[at++] = load_word(BPF_REG_2, BPF_REG_1, 0);
	p[at++] = move_reg(BPF_REG_3, BPF_REG_2);
	p[at++] = alu(BPF_RSH, BPF_REG_3, 16);
	p[at++] = alu(BPF_AND, BPF_REG_2, 0xffff);
	p[at++] = load_word(BPF_REG_4, BPF_REG_1, 4);
	p[at++] = load_word(BPF_REG_5, BPF_REG_1, 8);
	for (size_t i = 0; i < n; i++) {
		at += build_rule(&rules[i], p + at);
		if (rules[i].type == 'a')
			break; /* what follows could not be reached, and the verifier minds */
	}
	if (!n || rules[n - 1].type != 'a') {
		p[at++] = alu(BPF_MOV, BPF_REG_0, 0);
		p[at++] = leave();
	}
	*ret = p;
	*ret_n = at;
	return 0;
}

/* ---- bpf(2) */

static int sys_bpf(int cmd, union bpf_attr *attr)
{
	long r = syscall(SYS_bpf, cmd, attr, sizeof(*attr));
	return r < 0 ? -errno : (int)r;
}

static int load_program(const struct bpf_insn *insns, size_t n)
{
	union bpf_attr attr = { 0 };
	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.expected_attach_type = BPF_CGROUP_DEVICE;
	attr.insns = (uintptr_t)insns;
	attr.insn_cnt = (uint32_t)n;
	attr.license = (uintptr_t) "GPL";
	memcpy(attr.prog_name, PROGRAM_NAME, sizeof(PROGRAM_NAME));
	return sys_bpf(BPF_PROG_LOAD, &attr);
}

/* Ids of the programs attached to exactly this group. */
static int query(int cgroup_fd, uint32_t ids[OLD_MAX])
{
	union bpf_attr attr = { 0 };
	attr.query.target_fd = (uint32_t)cgroup_fd;
	attr.query.attach_type = BPF_CGROUP_DEVICE;
	attr.query.prog_ids = (uintptr_t)ids;
	attr.query.prog_cnt = OLD_MAX;
	int r = sys_bpf(BPF_PROG_QUERY, &attr);
	return r < 0 ? r : (int)attr.query.prog_cnt;
}

static int program_by_id(uint32_t id)
{
	union bpf_attr attr = { 0 };
	attr.prog_id = id;
	return sys_bpf(BPF_PROG_GET_FD_BY_ID, &attr);
}

static int attach(int cgroup_fd, int prog, int replaced)
{
	union bpf_attr attr = { 0 };
	attr.target_fd = (uint32_t)cgroup_fd;
	attr.attach_bpf_fd = (uint32_t)prog;
	attr.attach_type = BPF_CGROUP_DEVICE;
	attr.attach_flags = BPF_F_ALLOW_MULTI;
	if (replaced >= 0) {
		attr.attach_flags |= BPF_F_REPLACE;
		attr.replace_bpf_fd = (uint32_t)replaced;
	}
	return sys_bpf(BPF_PROG_ATTACH, &attr);
}

static int detach(int cgroup_fd, uint32_t id)
{
	autoclose int prog = program_by_id(id);
	if (prog < 0)
		return prog;
	union bpf_attr attr = { 0 };
	attr.target_fd = (uint32_t)cgroup_fd;
	attr.attach_bpf_fd = (uint32_t)prog;
	attr.attach_type = BPF_CGROUP_DEVICE;
	return sys_bpf(BPF_PROG_DETACH, &attr);
}

/* One old program is replaced in a single step (BPF_F_REPLACE, 5.6). Otherwise the new one is
 * attached beside the old, which narrows for an instant (all must allow) and never widens. */
static int install(int cgroup_fd, int prog)
{
	uint32_t old[OLD_MAX];
	int n = query(cgroup_fd, old);
	if (n < 0)
		return n;
	if (n == 1) {
		autoclose int replaced = program_by_id(old[0]);
		int r = replaced < 0 ? replaced : attach(cgroup_fd, prog, replaced);
		if (r != -EINVAL)
			return r;
	}
	int r = attach(cgroup_fd, prog, -1);
	for (int i = 0; r >= 0 && i < n; i++)
		r = detach(cgroup_fd, old[i]);
	return r;
}

int cg_devbpf_attach(int cgroup_fd, const struct cg_devrule *rules, size_t n, struct vps_err *err)
{
	autofree struct bpf_insn *insns = NULL;
	size_t len;
	int r = cg_devbpf_build(rules, n, &insns, &len);
	if (r < 0)
		return vps_err_sys(err, r, "build the device rules");
	autoclose int prog = load_program(insns, len);
	r = prog < 0 ? prog : install(cgroup_fd, prog);
	if (r == -ENOSYS || (r == -EINVAL && prog < 0))
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "device rules: this kernel has no BPF for "
				   "cgroups (CONFIG_CGROUP_BPF), which cgroup v2 needs for them");
	if (r == -EPERM)
		return vps_err_set(err, EPERM, "device rules: loading BPF is not permitted: run as "
				   "the host's root (CAP_BPF, or CAP_SYS_ADMIN before 5.8)");
	return r < 0 ? vps_err_sys(err, r, "attach the device rules") : 0;
}
