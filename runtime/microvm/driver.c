/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "runtime/microvm/microvm.h"

#include <sys/stat.h>

#include "base/fs.h"
#include "runtime/microvm/initramfs.h"

static int vm_check(const struct vps_spec *s, const struct vps_conf *c, struct vps_err *err)
{
	auto_done(vm_kernel_done) struct vm_kernel k = {.fd = -1, .modules = -1};
	bool nic = !str_eq(s->net, "none");
	int r = geteuid() == 0 ? 0 : vps_err_set(err, EPERM, "machines want root");

	r = r ?: vm_host_check(err);
	if (r == 0 && nic && access("/dev/net/tun", R_OK | W_OK) < 0)
		r = vps_err_set(err, VPS_EUNSUPPORTED, "this host has no /dev/net/tun: modprobe tun");
	r = r ?: vm_kernel_open(s->kernel, &k, err);
	if (r < 0)
		return r;
	r = initramfs_check(k.modules, s->initrd_modules, err);
	if (r < 0)
		return vps_err_wrap(err, r, "kernel '%s'", k.path);
	return img_erofs_check(err);
}

static int vm_release(struct vps_launched *l, struct vps_err *err)
{
	ssize_t n = write(l->gate, "", 1);

	if (n != 1)
		return vps_err_sys(err, n < 0 ? -errno : -EIO, "open the gate");
	close_fd(&l->gate);
	return 0;
}

const struct vps_driver microvm_driver = {
	.name = "vm",
	.machine = true,
	.check = vm_check,
	.launch = vm_launch,
	.release = vm_release,
	.exec = vm_exec,
	.pack = vm_pack,
	.unpack = vm_unpack,
	.signal = vm_signal,
	.pause = vm_freeze,
	.procs = vm_procs,
	.winsize = vm_winsize,
	.stats = vm_stats,
	.update = vm_update,
	.grown = vm_grown,
	.checkpoint = vm_checkpoint,
	.checkpoint_end = vm_checkpoint_end,
	.needs = vm_needs,
	.fits = vm_fits,
	.has = vm_has,
	.precopy = vm_precopy,
	.precopy_end = vm_precopy_end,
	.written = vm_written,
};
