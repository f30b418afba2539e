/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "images/ext4.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mem.h"
#include "base/proc.h"
#include "base/str.h"
#include "base/sys.h"

/* Not in the kernel's exported headers: fs/ext4/ext4.h. */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

#define GROUP_BYTES	 (128ull << 20) /* one bitmap block of 4096 bytes: 32768 blocks */
#define INODES_PER_BLOCK 16		/* of 256 bytes */
#define MAX_PER_GROUP	 32768		/* one bitmap block */

/* Named one by one, so that a disk looks the same whatever the host's mke2fs.conf says, and
 * mounts on every kernel a guest may bring. */
#define FEATURES "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg," \
		 "sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

/* The tools get the file by our fd: no path of ours can be mistaken, none has to be short. */
static char *fd_path(int fd)
{
	return str_fmt("/proc/%d/fd/%d", (int)getpid(), fd);
}

static int run(char *const *argv, struct vps_err *err)
{
	struct proc_opts o = PROC_OPTS_INIT;

	return proc_run(argv, &o, err);
}

uint64_t ext4_inodes_for(uint64_t size, uint64_t inodes)
{
	uint64_t groups = (size + GROUP_BYTES - 1) / GROUP_BYTES;
	uint64_t step = groups * INODES_PER_BLOCK;

	if (!inodes)
		return 0;
	uint64_t have = (inodes + step - 1) / step * step;

	return have / groups > MAX_PER_GROUP ? 0 : have;
}

/* Enough for the tenant's bursts, little enough for small disks; 4 MiB is mke2fs's minimum. */
static unsigned journal_mib(uint64_t size)
{
	uint64_t mib = size / 64 >> 20;

	return mib < 4 ? 4 : mib > 128 ? 128 : (unsigned)mib;
}

/* Blocks up to which descriptors are reserved: 16-fold growth, at least to 256 GiB. Left alone,
 * mke2fs reserves for 1024-fold: 4 MiB of each disk. Beyond, the kernel goes on with meta_bg. */
static uint64_t reserve_blocks(uint64_t size)
{
	uint64_t want = size > UINT64_MAX / 16 ? size : size * 16;

	if (want < 256ull << 30)
		want = 256ull << 30;
	want /= EXT4_BLOCK;
	return want > UINT32_MAX ? UINT32_MAX : want; /* resize= takes 32 bits */
}

static int make_argv(int img, int skel, uint64_t size, uint64_t inodes, bool prezeroed,
		     char ***ret)
{
	autofree char *img_path = fd_path(img), *skel_path = fd_path(skel);
	auto_strv v = NULL;
	int r = img_path && skel_path ? 0 : -ENOMEM;
	/* No blocks are reserved (-m 0): the tenant's root could not use them. After an error
	 * the file system goes read-only rather than getting worse. */
	static const char *const fixed[] = {
		"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0",
		"-e", "remount-ro", "-O", FEATURES,
	};

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(fixed); i++)
		r = strv_add(&v, fixed[i]);
	if (r == 0)
		r = strv_add(&v, "-J");
	if (r == 0)
		r = strv_addf(&v, "size=%u", journal_mib(size));
	if (r == 0)
		r = strv_add(&v, inodes ? "-N" : "-i");
	if (r == 0)
		r = strv_addf(&v, "%llu", (unsigned long long)(inodes ? inodes :
			      size < 512ull << 20 ? 4096 : 16384));
	if (r == 0)
		r = strv_add(&v, "-E");
	/* A new sparse file reads as zeros: with prezeroed nothing is zeroed now and no kernel
	 * thread does it after the first mount. */
	if (r == 0)
		r = strv_addf(&v, "root_owner=0:0,nodiscard,resize=%llu,%s",
			      (unsigned long long)reserve_blocks(size),
			      prezeroed ? "assume_storage_prezeroed=1" :
			      "lazy_itable_init=1,lazy_journal_init=1");
	if (r == 0)
		r = strv_add(&v, "-d");
	if (r == 0)
		r = strv_add(&v, skel_path);
	if (r == 0)
		r = strv_add(&v, img_path);
	if (r == 0)
		*ret = take_ptr(v);
	return r;
}

static int explain(int img, int r, const char *tool, const struct vps_err *why,
		   struct vps_err *err)
{
	struct statvfs sv;

	if (r < 0)
		return vps_err_sys(err, r, "run %s", tool);
	if (fstatvfs(img, &sv) == 0 && sv.f_bavail * sv.f_frsize < 16ull << 20)
		return vps_err_set(err, VPS_ERESOURCE, "the host's file system is full (%s: %s)",
				   tool, why->msg);
	return vps_err_set(err, EIO, "%s failed (%d): %s", tool, r, why->msg);
}

int ext4_make(int img, int skel, uint64_t size, uint64_t inodes, struct vps_err *err)
{
	struct vps_err why = {0};
	struct ext4_info info;
	int r = -EIO;

	/* assume_storage_prezeroed came with e2fsprogs 1.47. */
	for (int prezeroed = 1; prezeroed >= 0 && r != 0; prezeroed--) {
		auto_strv argv = NULL;

		if (ftruncate(img, 0) < 0 || ftruncate(img, (off_t)size) < 0)
			return vps_err_sys(err, -errno, "size of the image");
		r = make_argv(img, skel, size, inodes, prezeroed, &argv);
		if (r < 0)
			return vps_err_sys(err, r, "run mke2fs");
		vps_err_clear(&why);
		r = run(argv, &why);
	}
	if (r != 0)
		return explain(img, r, "mke2fs", &why, err);
	r = ext4_read(img, &info);
	if (r < 0)
		return vps_err_sys(err, r, "read what mke2fs made");
	if (inodes && !ext4_inodes_near(info.inodes, inodes))
		return vps_err_set(err, VPS_EUNSUPPORTED, "mke2fs made %llu inodes instead of %llu",
				   (unsigned long long)info.inodes, (unsigned long long)inodes);
	return 0;
}

static uint32_t le32_at(const uint8_t *p, size_t off)
{
	uint32_t v;

	memcpy(&v, p + off, sizeof v);
	return le32toh(v);
}

static uint64_t wide(const uint8_t *sb, size_t lo, size_t hi)
{
	bool has_64bit = le32_at(sb, 0x60) & 0x80;

	return le32_at(sb, lo) | (has_64bit ? (uint64_t)le32_at(sb, hi) << 32 : 0);
}

/* Documentation/filesystems/ext4/super.rst: offsets in the superblock. A guest kernel may have
 * written it, so each figure is only a figure: nothing here is used as an index or a length. */
int ext4_read(int fd, struct ext4_info *ret)
{
	uint8_t sb[1024];

	ssize_t n = pread(fd, sb, sizeof sb, 1024);
	if (n < 0)
		return -errno;
	if (n != sizeof sb || sb[0x38] != 0x53 || sb[0x39] != 0xef || le32_at(sb, 0x18) > 6)
		return -EUCLEAN;
	struct ext4_info i = {
		.blocks = wide(sb, 0x04, 0x150),
		.free_blocks = wide(sb, 0x0c, 0x158),
		.overhead = le32_at(sb, 0x248),
		.inodes = le32_at(sb, 0x00),
		.free_inodes = le32_at(sb, 0x10),
		.block_size = 1024u << le32_at(sb, 0x18),
		.inodes_per_group = le32_at(sb, 0x28),
	};
	if (i.blocks > UINT64_MAX >> 16 || i.free_blocks > i.blocks || i.overhead > i.blocks ||
	    i.free_inodes > i.inodes)
		return -EUCLEAN;
	*ret = i;
	return 0;
}

/*
 * discard gives what the tenant deletes back to the host (the loop driver punches holes).
 * The superblock is always writable, so that a journal can be replayed and a read-only mount can
 * stand beside a running VPS; read_only is a matter of this mount.
 * nodev yes, nosuid no: see disk_mount_flags.
 */
int ext4_mount(const char *dev, bool read_only, int *ret_mount, struct vps_err *err)
{
	char why[200];
	autoclose int fs = sys_fsopen("ext4", FSOPEN_CLOEXEC);

	if (fs < 0)
		return vps_err_sys(err, fs, "this kernel's ext4");
	int r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", dev, 0);
	if (r == 0)
		r = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "discard", NULL, 0);
	if (r == 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0);
	if (r < 0) {
		sys_fs_message(fs, why, sizeof why);
		return vps_err_sys(err, r, "mount %s%s%s", dev, *why ? ": " : "", why);
	}
	autoclose int mount = sys_fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV |
					  (read_only ? MOUNT_ATTR_RDONLY : 0));
	if (mount < 0)
		return vps_err_sys(err, mount, "mount %s", dev);
	*ret_mount = take_fd(mount);
	return 0;
}

int ext4_grow(int mount, uint64_t blocks)
{
	/* The mount may be an O_PATH fd, which takes no ioctl. */
	autoclose int root = fs_open_dir(mount, ".");

	if (root < 0)
		return root;
	return ioctl(root, EXT4_IOC_RESIZE_FS, &blocks) < 0 ? -errno : 0;
}

int ext4_resize(int img, uint64_t blocks, struct vps_err *err)
{
	autofree char *path = fd_path(img), *to = str_fmt("%llu", (unsigned long long)blocks);
	const off_t size = (off_t)(blocks * EXT4_BLOCK);
	struct vps_err why = {0};
	struct ext4_info info;
	struct stat st;

	if (!path || !to)
		return vps_err_sys(err, -ENOMEM, "resize");
	if (fstat(img, &st) < 0 || (st.st_size < size && ftruncate(img, size) < 0))
		return vps_err_sys(err, -errno, "lengthen the image");
	int r = run((char *[]){(char *)"e2fsck", (char *)"-f", (char *)"-p", path, NULL}, &why);
	if (r < 0 || r > 2) /* 1, 2: repaired */
		return explain(img, r, "e2fsck", &why, err);
	vps_err_clear(&why);
	r = run((char *[]){(char *)"resize2fs", path, to, NULL}, &why);
	if (r < 0)
		return explain(img, r, "resize2fs", &why, err);
	if (r > 0)
		return vps_err_set(err, VPS_ERESOURCE,
				   "the files do not fit into that size: %s", why.msg);
	r = ext4_read(img, &info);
	if (r < 0 || info.blocks > blocks)
		return vps_err_set(err, EIO, "resize2fs left %llu blocks instead of %llu",
				   (unsigned long long)info.blocks, (unsigned long long)blocks);
	if (ftruncate(img, size) < 0 || fsync(img) < 0)
		return vps_err_sys(err, -errno, "cut the image");
	return 0;
}
