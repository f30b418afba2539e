/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A cpio archive as the kernel unpacks it. Pure. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "runtime/microvm/initramfs.h"

static void pad(struct cpio *c, size_t to)
{
	static const char zero[512];

	sb_addn(&c->out, zero, (to - c->out.len % to) % to);
}

/* Thirteen numbers of eight hex digits; names and data begin at multiples of four. */
static void entry(struct cpio *c, const char *name, unsigned mode, unsigned major, unsigned minor,
		  const void *data, size_t len)
{
	size_t name_len = strlen(name) + 1;

	sb_add(&c->out, "070701");
	sb_addf(&c->out, "%08x%08x%08x%08x%08x%08x%08zx", ++c->ino, mode, 0, 0, 1, 0, len);
	sb_addf(&c->out, "%08x%08x%08x%08x%08zx%08x", 0, 0, major, minor, name_len, 0);
	sb_addn(&c->out, name, name_len);
	pad(c, 4);
	if (len)
		sb_addn(&c->out, data, len);
	pad(c, 4);
}

void cpio_dir(struct cpio *c, const char *name, unsigned mode)
{
	entry(c, name, S_IFDIR | mode, 0, 0, NULL, 0);
}

void cpio_file(struct cpio *c, const char *name, unsigned mode, const void *data, size_t len)
{
	entry(c, name, S_IFREG | mode, 0, 0, data, len);
}

void cpio_node(struct cpio *c, const char *name, unsigned mode, unsigned major, unsigned minor)
{
	entry(c, name, mode, major, minor, NULL, 0);
}

int cpio_end(struct cpio *c)
{
	c->ino = (uint32_t)-1;
	entry(c, "TRAILER!!!", 0, 0, 0, NULL, 0);
	pad(c, 512);
	return sb_ok(&c->out);
}

void cpio_done(struct cpio *c)
{
	sb_done(&c->out);
	c->ino = 0;
}
