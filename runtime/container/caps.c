/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Capabilities, capabilities(7). The only user of libcap. */
#include "runtime/container/container.h"

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
	return cap_number(name) >= 0;
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

static int drop_bound(const char *name, struct vps_err *err)
{
	int n = cap_number(name);
	if (n < 0)
		return vps_err_set(err, VPS_EUSAGE, "no capability '%s'", name);
	return cap_drop_bound(n) < 0 ? vps_err_sys(err, -errno, "drop %s", name) : 0;
}

int caps_begin(char *const *add, char *const *drop, struct vps_err *err)
{
	int r = 0;
	for (size_t i = 0; r >= 0 && i < ARRAY_LEN(vain); i++)
		if (!lists(add, cap_number(vain[i])))
			r = drop_bound(vain[i], err);
	for (; r >= 0 && drop && *drop; drop++)
		r = drop_bound(*drop, err);
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

static int set_list(cap_t c, char *const *list, bool on, bool inheritable, struct vps_err *err)
{
	for (; list && *list; list++) {
		int n = cap_number(*list);
		cap_value_t v = n;
		cap_flag_value_t f = on ? CAP_SET : CAP_CLEAR;
		if (n < 0)
			return vps_err_set(err, VPS_EUSAGE, "no capability '%s'", *list);
		cap_set_flag(c, CAP_PERMITTED, 1, &v, f);
		cap_set_flag(c, CAP_EFFECTIVE, 1, &v, f);
		if (inheritable)
			cap_set_flag(c, CAP_INHERITABLE, 1, &v, f);
	}
	return 0;
}

/* Ambient ones outlive the execve of a program of a user who is not root. */
static int raise_ambient(char *const *add, struct vps_err *err)
{
	for (; add && *add; add++) {
		cap_value_t v = cap_number(*add);
		if (cap_set_ambient(v, CAP_SET) < 0)
			return vps_err_sys(err, -errno, "give %s", *add);
	}
	return 0;
}

int caps_finish(uid_t uid, char *const *add, char *const *drop, struct vps_err *err)
{
	auto_cap c = uid == 0 ? cap_get_proc() : cap_init();
	if (!c)
		return vps_err_sys(err, -errno, "read capabilities");
	int r = flags_all(c, CAP_INHERITABLE, CAP_CLEAR);
	for (size_t i = 0; r >= 0 && uid == 0 && i < ARRAY_LEN(vain); i++) {
		char *const one[] = {(char *)vain[i], NULL};
		if (!lists(add, cap_number(vain[i])))
			r = set_list(c, one, false, true, err);
	}
	if (r >= 0 && uid != 0)
		r = set_list(c, add, true, true, err);
	if (r >= 0)
		r = set_list(c, drop, false, true, err);
	if (r < 0)
		return r;
	if (cap_set_proc(c) < 0)
		return vps_err_sys(err, -errno, "set capabilities");
	return uid != 0 ? raise_ambient(add, err) : 0;
}
