/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * In the place of the dynamic linker of a VPS, for isolation.sh. A script that names /proc/self/exe as its interpreter
 * makes the joining process execute its own executable once more, the host's, with the VPS's linker: us
 * (CVE-2019-5736). Writes to /interp.out what can be done with it then.
 */
#include <linux/fcntl.h>
#include <linux/stat.h>

#include "runtime/guest/raw.h"

static const char exe[] = "/proc/self/exe";
static int out;

static void say(const char *s)
{
	size_t n = 0;
	while (s[n])
		n++;
	raw3(__NR_write, out, (long)s, (long)n);
}

static void tell(const char *what, long r)
{
	char digits[12];
	int i = sizeof(digits);
	digits[--i] = 0;
	digits[--i] = '\n';
	for (long v = r < 0 ? -r : 0; v || i == sizeof(digits) - 2; v /= 10)
		digits[--i] = (char)('0' + v % 10);
	say(what);
	say(" ");
	say(digits + i);
}

_Noreturn void vps_init(long *stack)
{
	(void)stack;
	out = (int)raw4(__NR_openat, AT_FDCWD, (long)"/interp.out", O_CREAT | O_WRONLY | O_TRUNC, 0644);
	tell("write", raw4(__NR_openat, AT_FDCWD, (long)exe, O_WRONLY, 0));
	tell("read-write", raw4(__NR_openat, AT_FDCWD, (long)exe, O_RDWR, 0));
	tell("truncate", raw2(__NR_truncate, (long)exe, 0));
	tell("chmod", raw3(__NR_fchmodat, AT_FDCWD, (long)exe, 04777));
	tell("chown", raw5(__NR_fchownat, AT_FDCWD, (long)exe, 0, 0, 0));
	for (;;)
		raw1(__NR_exit_group, 99);
}
