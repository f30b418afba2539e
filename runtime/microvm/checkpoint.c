/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A machine that waits in files: its snapshot, written by vps-vmm, and what it has to be restored as. */
#include "runtime/microvm/microvm.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/sys.h"
#include "runtime/guest/agent.h"

#define SNAPSHOT    "machine.snapshot"
#define SIZE	    "machine"
#define RECORDS_MAX 4096
#define MODULES	    "vm-modules" /* in the run directory: the name of the running machine's */
#define ASK_MS	    5000
/* All of its memory goes to a disk. */
#define SNAPSHOT_MS 1800000

static int write_size(const struct vps_live *l, int dir, struct vps_err *err)
{
	auto_strbuf sb = STRBUF_INIT;
	char modules[MODTREE_NAME];
	struct vmm_stats v;
	int r = vmm_api_stats(l->run_dir, &v, ASK_MS, err);

	if (r < 0)
		return r;
	rec_add_u64(&sb, "memory", v.memory);
	rec_add_u64(&sb, "cpus", v.n_cpus);
	if (fs_read_buf(l->run_dir, MODULES, modules, sizeof(modules)) > 0)
		rec_add(&sb, "modules", modules);
	r = sb_ok(&sb);
	r = r ?: fs_write_atomic(dir, SIZE, sb.s, sb.len, 0600);
	return r < 0 ? vps_err_sys(err, r, "write the checkpoint") : 0;
}

int vm_checkpoint(const struct vps_live *l, int dir, unsigned rounds, struct vps_err *err)
{
	autoclose int fd = -1;
	int r = write_size(l, dir, err);

	(void)rounds; /* there are none without precopy */
	if (r < 0)
		return r;
	fd = openat(dir, SNAPSHOT, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return vps_err_sys(err, -errno, "write the checkpoint");
	r = vmm_api_snapshot(l->run_dir, fd, true, SNAPSHOT_MS, err);
	if (r < 0 && !l->paused) /* nobody knows how far it came */
		vmm_api_resume(l->run_dir, ASK_MS, NULL);
	return r;
}

int vm_checkpoint_end(const struct vps_live *l, bool go_on, struct vps_err *err)
{
	autoclose int pidfd = -1;
	int r;

	if (go_on)
		return vmm_api_resume(l->run_dir, ASK_MS, err);
	/* paused: no CPU comes to run again */
	pidfd = proc_ident_open(l->init);
	r = pidfd < 0 ? pidfd : sys_pidfd_send_signal(pidfd, SIGKILL);
	return r < 0 && r != -ESRCH ? vps_err_sys(err, r, "end the machine") : 0;
}

int vm_modules_note(int run_dir, const char *name)
{
	return fs_write_rename(run_dir, MODULES, name, strlen(name), 0600);
}

int vm_size_parse(const char *text, size_t len, struct vm_size *ret)
{
	struct vm_size s = {0};
	uint64_t v = 0;
	struct rec rec;
	int r;

	while ((r = rec_next(&text, &len, &rec)) > 0) {
		if (str_eq(rec.key, "memory")) {
			r = rec_u64(&rec, UINT64_MAX, &s.memory);
		} else if (str_eq(rec.key, "cpus")) {
			r = rec_u64(&rec, VMM_MAX_CPUS, &v);
			s.cpus = (unsigned)v;
		} else if (str_eq(rec.key, "modules")) {
			r = modtree_is_name(rec.value) && strlen(rec.value) == rec.len ? 0 : -EPROTO;
			if (r == 0)
				strcpy(s.modules, rec.value);
		}
		rec_done(&rec);
		if (r < 0)
			return r;
	}
	if (r < 0 || !s.memory || !s.cpus)
		return -EPROTO;
	*ret = s;
	return 0;
}

int vm_checkpoint_open(int dir, struct vm_size *ret, struct vps_err *err)
{
	autofree char *text = NULL;
	autoclose int fd = openat(dir, SNAPSHOT, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	size_t len;
	int r = fd < 0 ? -errno : fs_read(dir, SIZE, RECORDS_MAX, &text, &len);

	r = r ?: vm_size_parse(text, len, ret);
	return r < 0 ? vps_err_sys(err, r, "the checkpoint of a machine") : take_fd(fd);
}
