/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which kernel a machine boots, and where its modules are. */
#include "runtime/microvm/microvm.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

#define BOOT	"/boot"
#define MODULES "/lib/modules"
#define HEAD	(64u << 10)

void vm_kernel_done(struct vm_kernel *k)
{
	close_fd(&k->fd);
	close_fd(&k->modules);
}

static bool is_release(const char *s, size_t n)
{
	static const char more[] = "._+-~";

	for (size_t i = 0; i < n; i++)
		if (!((s[i] >= '0' && s[i] <= '9') || ((s[i] | 32) >= 'a' && (s[i] | 32) <= 'z') ||
		      memchr(more, s[i], sizeof(more) - 1)))
			return false;
	return n > 0 && s[0] != '.';
}

void vm_kernel_release(const uint8_t *head, size_t len, char *ret)
{
	size_t at, n = 0;

	*ret = '\0';
	if (len < 0x210 || memcmp(head + 0x202, "HdrS", 4) != 0)
		return;
	at = 0x200u + ((size_t)head[0x20f] << 8 | head[0x20e]);
	while (at + n < len && n < 127 && head[at + n] > ' ')
		n++;
	if (at == 0x200 || at + n >= len || !is_release((const char *)head + at, n))
		return;
	memcpy(ret, head + at, n);
	ret[n] = '\0';
}

/* What a file's name says, when it is no bzImage: vmlinux-6.1.0, vmlinuz-… */
static void release_of_name(const char *path, char *ret)
{
	const char *base = strrchr(path, '/'), *dash;

	base = base ? base + 1 : path;
	dash = strchr(base, '-');
	if (!str_starts(base, "vmlinu") || !dash || strlen(dash + 1) > 127 ||
	    !is_release(dash + 1, strlen(dash + 1)))
		return;
	strcpy(ret, dash + 1);
}

int vm_kernel_modules(const char *release)
{
	autoclose int all = fs_open_dir(AT_FDCWD, MODULES);
	autoclose int dir = all < 0 || !*release || *release == '.' || strchr(release, '/') ? -ENOENT : fs_open_dir(all, release);

	return dir >= 0 && fs_exists(dir, "modules.dep") ? take_fd(dir) : -ENOENT;
}

static int open_kernel(const char *path, struct vm_kernel *ret, struct vps_err *err)
{
	struct vm_kernel k = {.modules = -1};
	autofree uint8_t *head = malloc(HEAD);
	ssize_t n;

	if (!head || strlen(path) >= sizeof(k.path))
		return vps_err_sys(err, head ? -ENAMETOOLONG : -ENOMEM, "kernel");
	k.fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (k.fd < 0)
		return vps_err_sys(err, -errno, "kernel '%s'", path);
	n = pread(k.fd, head, HEAD, 0);
	if (n < 64) {
		vm_kernel_done(&k);
		return vps_err_set(err, VPS_EUNSUPPORTED, "'%s' is not a kernel", path);
	}
	strcpy(k.path, path);
	vm_kernel_release(head, (size_t)n, k.release);
	if (!*k.release)
		release_of_name(path, k.release);
	k.modules = vm_kernel_modules(k.release);
	if (k.modules < 0)
		k.modules = -1;
	*ret = k;
	return 0;
}

/* As sort -V has it, which knows Debian's names. */
static int newer(const char *a, const char *b)
{
	return !b || strverscmp(a, b) > 0;
}

int vm_kernel_open(const char *path, struct vm_kernel *ret, struct vps_err *err)
{
	auto_strv names = NULL;
	const char *best = NULL;

	if (path)
		return open_kernel(path, ret, err);
	(void)fs_list(AT_FDCWD, BOOT, &names);
	for (char **p = names; p && *p; p++) {
		autoclose int modules = -1;

		if (!str_starts(*p, "vmlinuz-") || !newer(*p, best))
			continue;
		modules = vm_kernel_modules(*p + strlen("vmlinuz-"));
		if (modules >= 0)
			best = *p;
	}
	if (!best)
		return vps_err_set(err, VPS_EUNSUPPORTED,
				   "no kernel for a machine: " BOOT " has no vmlinuz-* with its " MODULES
				   "; install one (linux-image-cloud-amd64), or give --kernel");

	autofree char *full = str_fmt(BOOT "/%s", best);

	return full ? open_kernel(full, ret, err) : vps_err_sys(err, -ENOMEM, "kernel");
}
