/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both children of unpacking in one process, over an in-memory input: the first byte picks the mode. After
 * each run a canary folder beside the layer must be untouched, and no device node, no id above
 * 65535 and no trusted xattr but our own may be in the layer. Needs root and a file system with
 * xattrs at TMPDIR (default /tmp).
 */
#include <archive.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/str.h"
#include "images/unpack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static int top = -1;
static char top_path[256];

static void remove_top(void) { fs_remove_tree(AT_FDCWD, top_path); }

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(top_path, sizeof(top_path), "%.200s/unpack-fuzz-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(top_path) || (top = fs_open_dir(AT_FDCWD, top_path)) < 0)
		abort();
	atexit(remove_top);
	if (fs_mkdir_p(top, "canary", 0700) < 0 ||
	    fs_write_atomic(top, "canary/f", "sings", 5, 0600) < 0 ||
	    fs_mkdir_p(top, "lower/usr/lib", 0755) < 0 || symlinkat("usr/lib", top, "lower/lib") < 0 ||
	    fs_write_atomic(top, "lower/usr/lib/old", "old", 3, 0600) < 0)
		abort();
	return 0;
}

static void check_node(int dir, const char *name, bool plain)
{
	struct stat st;
	char names[4096];
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		abort();
	if (S_ISBLK(st.st_mode) || (S_ISCHR(st.st_mode) && (st.st_rdev || plain)))
		abort();
	if (st.st_uid > 65535 || st.st_gid > 65535)
		abort();
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return;
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : flistxattr(fd, names, sizeof(names));
	for (char *x = names; n > 0 && x < names + n; x += strlen(x) + 1)
		if (strncmp(x, "trusted.", 8) == 0 && strcmp(x, XATTR_OPAQUE) != 0)
			abort();
	if (S_ISDIR(st.st_mode)) {
		auto_strv v = NULL;
		if (fs_list(fd, ".", &v) < 0)
			abort();
		for (size_t i = 0; v && v[i]; i++)
			check_node(fd, v[i], plain);
	}
	close(fd);
}

static void check_canary(void)
{
	auto_strv v = NULL;
	char buf[16];
	if (fs_list(top, "canary", &v) < 0 || strv_len(v) != 1 ||
	    fs_read_buf(top, "canary/f", buf, sizeof(buf)) != 5 || strcmp(buf, "sings") != 0)
		abort();
	auto_strv w = NULL;
	if (fs_list(top, "lower/usr/lib", &w) < 0 || strv_len(w) != 1)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct img_opts o = { .caps = { .bytes = 8 << 20, .ratio = 200, .entries = 500, .layers = 127,
					.path = 4095, .xattr_bytes = 65536, .memory = 64 << 20 } };
	if (size < 1 || fs_mkdir_p(top, "fs", 0700) < 0)
		return 0;
	int fs = fs_open_dir(top, "fs"), lower = fs_open_dir(top, "lower");
	int in = memfd_create("in", 0), raw = memfd_create("raw", 0), refused = memfd_create("ref", 0);
	if (fs < 0 || lower < 0 || in < 0 || raw < 0 || refused < 0)
		abort();
	if (fs_write_all(in, data + 1, size - 1) < 0 || lseek(in, 0, SEEK_SET) < 0)
		abort();
	struct unpack_job job = {
		.fd = in, .root = fs, .keep = -1, .lower = &lower, .n_lower = data[0] & 1,
		.mode = (enum unpack_mode)((data[0] >> 1) % 3), .opts = &o,
	};
	struct unpack_shared *sh = calloc(1, sizeof(*sh));
	struct unpack_ctx c = { .job = &job, .sh = sh, .pipe_w = raw, .pipe_r = raw,
				.refused = refused, .alive = -1, .hash = digest_new() };
	if (!sh || !c.hash)
		abort();
	/* packed to raw, then raw to the folder */
	if (unpack_decode(&c) != 0) {
		char dummy[DIGEST_LEN];
		digest_end(c.hash, dummy);
	}
	if (lseek(raw, 0, SEEK_SET) < 0)
		abort();
	unpack_tar(&c);
	check_canary();
	check_node(top, "fs", job.mode == UNPACK_MEMBERS || sh->tar.members);
	free(sh);
	close(in);
	close(raw);
	close(refused);
	close(lower);
	close(fs);
	if (fs_remove_tree(top, "fs") < 0)
		abort();
	return 0;
}
