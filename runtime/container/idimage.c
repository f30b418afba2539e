/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checkpoints on a host, or in a VPS, with other ids. All ids in CRIU's images are those inside, but in one file: that
 * of the user namespace's maps. It is not read; one is written as the definition has it, in a directory of links beside.
 */
#include "runtime/container/restore.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"

#define IMAGES "images" /* below CHECKPOINT_WORK */

/* CRIU's image files: two numbers, then each message behind its length; all little-endian. */
#define IMAGE_MAGIC  0x54564319u
#define USERNS_MAGIC 0x55474906u

static size_t put32(unsigned char *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (unsigned char)(v >> (8 * i));
	return 4;
}

/* protobuf's variable-length number */
static size_t put_varint(unsigned char *p, uint32_t v)
{
	size_t n = 0;

	for (; v > 0x7f; v >>= 7)
		p[n++] = (unsigned char)(v | 0x80);
	p[n++] = (unsigned char)v;
	return n;
}

/* Member `field` of the message: an extent {1: first inside, 2: first outside, 3: how many}. */
static size_t put_extent(unsigned char *p, unsigned char field, uint32_t base)
{
	unsigned char *e = p + 2;
	size_t n = 0;

	e[n++] = 1 << 3;
	n += put_varint(e + n, 0);
	e[n++] = 2 << 3;
	n += put_varint(e + n, base);
	e[n++] = 3 << 3;
	n += put_varint(e + n, VPS_N_IDS);
	p[0] = (unsigned char)(field << 3 | 2);
	p[1] = (unsigned char)n;
	return n + 2;
}

size_t idimage_encode(uint32_t id_base, unsigned char buf[IDIMAGE_MAX])
{
	unsigned char *msg = buf + 12;
	size_t n = put_extent(msg, 1, id_base);

	n += put_extent(msg + n, 2, id_base);
	put32(buf, IMAGE_MAGIC);
	put32(buf + 4, USERNS_MAGIC);
	put32(buf + 8, (uint32_t)n);
	return n + 12;
}

static int link_or_write(int from, int to, const char *name, uint32_t id_base)
{
	unsigned char buf[IDIMAGE_MAX];

	if (!str_starts(name, "userns-"))
		return linkat(from, name, to, name, 0) < 0 ? -errno : 0;
	return fs_write_rename(to, name, buf, idimage_encode(id_base, buf), 0640);
}

static bool is_image(const char *name)
{
	size_t n = strlen(name);

	return n > 4 && str_eq(name + n - 4, ".img");
}

/* Of one directory into another. */
static int link_images(int from, int to, uint32_t id_base)
{
	auto_strv names = NULL;
	int r = fs_list(from, ".", &names);

	for (char **n = names; r == 0 && n && *n; n++)
		if (is_image(*n))
			r = link_or_write(from, to, *n, id_base);
	return r;
}

static int link_round(int from, int to, const char *name, uint32_t id_base)
{
	autoclose int a = fs_open_dir(from, name);
	autoclose int b = -1;

	if (a < 0 || mkdirat(to, name, 0750) < 0)
		return a < 0 ? a : -errno;
	b = fs_open_dir(to, name);
	return b < 0 ? b : link_images(a, b, id_base);
}

int idimage_dir(int checkpoint, int work, unsigned rounds, uint32_t id_base, struct vps_err *err)
{
	autoclose int dir = -1;
	int r = fs_remove_tree(work, IMAGES);

	if (r == 0 && mkdirat(work, IMAGES, 0750) < 0)
		r = -errno;
	dir = r < 0 ? r : fs_open_dir(work, IMAGES);
	r = dir < 0 ? dir : link_images(checkpoint, dir, id_base);
	for (unsigned i = 1; r == 0 && i <= rounds; i++) {
		char name[CHECKPOINT_ROUND_STR];
		snprintf(name, sizeof(name), "%u", i);
		r = link_round(checkpoint, dir, name, id_base);
	}
	return r < 0 ? vps_err_sys(err, r, "images with this VPS's ids") : take_fd(dir);
}
