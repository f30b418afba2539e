/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capabilities, capabilities(7). The only user of libcap. */
#include "runtime/container/container.h"

#include <linux/securebits.h>
#include <strings.h>
#include <sys/capability.h>
#include <sys/prctl.h>

static inline void cap_freep(cap_t *c)
{
	if (*c)
		cap_free(*c);
}
#define auto_cap auto_done(cap_freep) cap_t

/* "CAP_SYS_TIME" or "sys_time" to its number, or -EINVAL. */
static int cap_number(const char *name)
{
	char full[64];
	cap_value_t v;
	size_t n = 0;
	const char *prefix = strncasecmp(name, "cap_", 4) == 0 ? "" : "cap_";
	for (const char *s = prefix; *s; s++)
		full[n++] = *s;
	/* libcap takes the first of a list */
	for (; *name && *name != ',' && n < sizeof(full) - 1; name++)
		full[n++] = *name >= 'A' && *name <= 'Z' ? (char)(*name - 'A' + 'a') : *name;
	full[n] = 0;
	return *name || cap_from_name(full, &v) < 0 ? -EINVAL : v;
}

bool caps_known(const char *name)
{
	return str_eq(name, CAPS_ALL) || cap_number(name) >= 0;
}

int caps_lower(const char *name)
{
	int n = cap_number(name);
	auto_cap c = cap_get_proc();
	if (n < 0 || !c)
		return -EINVAL;
	cap_value_t v = n;
	if (cap_set_flag(c, CAP_EFFECTIVE, 1, &v, CAP_CLEAR) < 0 || cap_set_proc(c) < 0)
		return -errno;
	return 0;
}

bool caps_has(const char *name)
{
	int n = cap_number(name);
	auto_cap c = cap_get_proc();
	cap_flag_value_t on = CAP_CLEAR;
	return n >= 0 && c && cap_get_flag(c, (cap_value_t)n, CAP_EFFECTIVE, &on) == 0 && on == CAP_SET;
}

int caps_become(uid_t uid)
{
	auto_cap c = cap_get_proc();
	if (!c || prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) < 0)
		return -errno;
	/* Ambient wants inheritable. */
	for (cap_value_t v = 0; v < cap_max_bits(); v++) {
		cap_flag_value_t on;
		if (cap_get_flag(c, v, CAP_PERMITTED, &on) < 0 ||
		    cap_set_flag(c, CAP_INHERITABLE, 1, &v, on) < 0 ||
		    cap_set_flag(c, CAP_EFFECTIVE, 1, &v, on) < 0)
			return -errno;
	}
	if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0 || cap_set_proc(c) < 0)
		return -errno;
	for (cap_value_t v = 0; v < cap_max_bits(); v++) {
		cap_flag_value_t on;
		if (cap_get_flag(c, v, CAP_PERMITTED, &on) == 0 && on == CAP_SET && cap_set_ambient(v, CAP_SET) < 0)
			return -errno;
	}
	return 0;
}

/* The kernel asks for these in the host's user namespace only. Having them inside would do nothing but
 * make systemd run what must fail (ConditionCapability=). --cap-add gives one back. */
static const char *const vain[] = {
	"cap_sys_rawio", "cap_sys_module", "cap_sys_time", "cap_mac_admin", "cap_mac_override",
	"cap_wake_alarm", "cap_block_suspend", "cap_bpf", "cap_perfmon",
};

static bool lists(char *const *v, int n)
{
	for (; v && *v; v++)
		if (cap_number(*v) == n)
			return true;
	return false;
}

static bool is_vain(int n)
{
	for (size_t i = 0; i < ARRAY_LEN(vain); i++)
		if (cap_number(vain[i]) == n)
			return true;
	return false;
}

/* As docker has it: a name in drop always counts, "all" there spares what add names. */
static bool is_taken(int n, char *const *add, char *const *drop)
{
	if (lists(drop, n))
		return true;
	if (strv_has(drop, CAPS_ALL))
		return !lists(add, n);
	return is_vain(n) && !lists(add, n) && !strv_has(add, CAPS_ALL);
}

static int check_names(char *const *v, struct vps_err *err)
{
	for (; v && *v; v++)
		if (!caps_known(*v))
			return vps_err_set(err, VPS_EUSAGE, "no capability '%s'", *v);
	return 0;
}

int caps_begin(char *const *add, char *const *drop, struct vps_err *err)
{
	int r = check_names(add, err);
	if (r >= 0)
		r = check_names(drop, err);
	for (cap_value_t v = 0; r >= 0 && v < cap_max_bits(); v++)
		if (is_taken(v, add, drop) && cap_drop_bound(v) < 0)
			r = vps_err_sys(err, -errno, "drop capability %d", v);
	if (r < 0)
		return r;
	/* Gone again with execve. */
	if (prctl(PR_SET_KEEPCAPS, 1) < 0)
		return vps_err_sys(err, -errno, "keep capabilities");
	return 0;
}

static int flags_all(cap_t c, cap_flag_t flag, cap_flag_value_t value)
{
	for (cap_value_t v = 0; v < cap_max_bits(); v++)
		if (cap_set_flag(c, flag, 1, &v, value) < 0)
			return -errno;
	return 0;
}

int caps_regain(struct vps_err *err)
{
	auto_cap c = cap_get_proc();
	if (!c)
		return vps_err_sys(err, -errno, "read capabilities");
	for (cap_value_t v = 0; v < cap_max_bits(); v++) {
		cap_flag_value_t on;
		if (cap_get_flag(c, v, CAP_PERMITTED, &on) == 0 && on == CAP_SET)
			cap_set_flag(c, CAP_EFFECTIVE, 1, &v, CAP_SET);
	}
	return cap_set_proc(c) < 0 ? vps_err_sys(err, -errno, "raise capabilities") : 0;
}

/* Of a user who is not root: what is added by name or, with "all", what this process has to give. */
static bool is_given(cap_t have, int n, char *const *add, char *const *drop)
{
	cap_flag_value_t on = CAP_CLEAR;

	if (is_taken(n, add, drop))
		return false;
	if (lists(add, n))
		return true;
	return strv_has(add, CAPS_ALL) && cap_get_bound(n) == 1 &&
	       cap_get_flag(have, n, CAP_PERMITTED, &on) == 0 && on == CAP_SET;
}

static void set_flag(cap_t c, cap_value_t v, cap_flag_value_t f)
{
	cap_set_flag(c, CAP_PERMITTED, 1, &v, f);
	cap_set_flag(c, CAP_EFFECTIVE, 1, &v, f);
	cap_set_flag(c, CAP_INHERITABLE, 1, &v, f);
}

int caps_finish(uid_t uid, char *const *add, char *const *drop, struct vps_err *err)
{
	auto_cap have = cap_get_proc();
	auto_cap c = uid == 0 ? cap_get_proc() : cap_init();
	if (!have || !c)
		return vps_err_sys(err, -errno, "read capabilities");
	int r = flags_all(c, CAP_INHERITABLE, CAP_CLEAR);
	for (cap_value_t v = 0; r >= 0 && v < cap_max_bits(); v++) {
		if (uid == 0 && is_taken(v, add, drop))
			set_flag(c, v, CAP_CLEAR);
		else if (uid != 0 && is_given(have, v, add, drop))
			set_flag(c, v, CAP_SET);
	}
	if (r < 0)
		return r;
	if (cap_set_proc(c) < 0)
		return vps_err_sys(err, -errno, "set capabilities");
	/* Ambient ones outlive the execve of a program of a user who is not root. */
	for (cap_value_t v = 0; uid != 0 && v < cap_max_bits(); v++)
		if (is_given(have, v, add, drop) && cap_set_ambient(v, CAP_SET) < 0)
			return vps_err_sys(err, -errno, "give capability %d", v);
	return 0;
}
