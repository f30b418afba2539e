/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which modules a kernel wants for being a guest, by depmod(8)'s files. Pure. */
#include <errno.h>
#include <string.h>

#include "runtime/microvm/initramfs.h"

/* The devices of vmm/, both file systems, overlayfs. crc32c is what ext4 asks for by name and
 * modules.dep does not know of. */
const char *const guest_modules[] = {
	"virtio_mmio", "virtio_blk", "virtio_net", "virtio_balloon", "virtio_rng",
	"vmw_vsock_virtio_transport", "crc32c_generic", "ext4", "erofs", "overlay", "autofs4", "fuse", NULL,
};
/* Nothing stops without them. The last two are what an init asks for, whose image has no modules. */
static const char *const optional[] = {"crc32c_generic", "virtio_balloon", "virtio_rng", "autofs4", "fuse"};

struct module {
	const char *path; /* into the copy of modules.dep */
	char *deps;	  /* words */
	bool taken, open;
};

struct closure {
	struct module *m;
	size_t n, cap;
	const char *builtin;
	char **out;
};

/* "kernel/fs/erofs/erofs.ko.xz" is the module "erofs"; '-' and '_' are the same. */
static bool is_named(const char *path, size_t path_len, const char *name)
{
	const char *base = memrchr(path, '/', path_len);
	size_t len = strlen(name);

	base = base ? base + 1 : path;
	if (path_len - (size_t)(base - path) < len + 3 || strncmp(base + len, ".ko", 3) != 0)
		return false;
	for (size_t i = 0; i < len; i++) {
		char a = base[i] == '-' ? '_' : base[i], b = name[i] == '-' ? '_' : name[i];

		if (a != b)
			return false;
	}
	return true;
}

static int read_dep(struct closure *c, char *dep)
{
	char *line, *colon;

	while ((line = strsep(&dep, "\n"))) {
		colon = strchr(line, ':');
		if (!colon)
			continue;
		*colon = '\0';
		if (mem_grow(c->m, c->n, c->cap) < 0)
			return -ENOMEM;
		c->m[c->n++] = (struct module){.path = line, .deps = colon + 1};
	}
	return 0;
}

static bool is_builtin(const struct closure *c, const char *name)
{
	for (const char *p = c->builtin; *p;) {
		size_t n = strcspn(p, "\n");

		if (is_named(p, n, name))
			return true;
		p += n + (p[n] == '\n');
	}
	return false;
}

static int take(struct closure *c, struct module *m);

static int take_deps(struct closure *c, struct module *m)
{
	char *save, *word;
	int r = 0;

	for (word = strtok_r(m->deps, " ", &save); word && r == 0; word = strtok_r(NULL, " ", &save)) {
		struct module *d = NULL;

		for (size_t i = 0; i < c->n && !d; i++)
			if (str_eq(c->m[i].path, word))
				d = &c->m[i];
		r = d ? take(c, d) : -ENOENT;
	}
	return r;
}

static int take(struct closure *c, struct module *m)
{
	if (m->taken)
		return 0;
	if (m->open)
		return -ELOOP;
	m->open = true;

	int r = take_deps(c, m);

	m->taken = r == 0;
	/* it becomes a path below the modules' folder */
	if (r == 0 && (m->path[0] == '/' || strstr(m->path, "..") || !strstr(m->path, ".ko")))
		r = -EINVAL;
	return r < 0 ? r : strv_add(&c->out, m->path);
}

static bool is_optional(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(optional); i++)
		if (str_eq(name, optional[i]))
			return true;
	return false;
}

static int take_named(struct closure *c, const char *name, struct vps_err *err)
{
	for (size_t i = 0; i < c->n; i++) {
		if (!is_named(c->m[i].path, strlen(c->m[i].path), name))
			continue;

		int r = take(c, &c->m[i]);

		return r < 0 ? vps_err_sys(err, r, "what module '%s' depends on", name) : 0;
	}
	if (is_builtin(c, name) || is_optional(name))
		return 0;
	return vps_err_set(err, VPS_EUNSUPPORTED,
			   "this kernel cannot be a guest: it has no module '%s'", name);
}

int modules_closure(const char *dep, const char *builtin, const char *const *wanted, char ***ret,
		    struct vps_err *err)
{
	autofree char *copy = strdup(dep);
	struct closure c = {.builtin = builtin};
	int r = copy ? read_dep(&c, copy) : -ENOMEM;

	if (r < 0)
		vps_err_sys(err, r, "modules.dep");
	for (; r == 0 && *wanted; wanted++)
		r = take_named(&c, *wanted, err);
	free(c.m);
	if (r < 0) {
		strv_free(c.out);
		return r;
	}
	*ret = c.out;
	return 0;
}
