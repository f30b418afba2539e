// SPDX-License-Identifier: GPL-2.0-or-later
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "runtime/events.h"
#include "runtime/internal.h"

#define DEFAULT_ROOT "/var/lib/vps"
#define DEFAULT_RUN  "/run/vps"
#define DEFAULT_CONF SYSCONFDIR "/vps/vps.conf"

static const char *pick(const char *opt, const char *env, const char *dflt)
{
	const char *e;

	if (opt && *opt)
		return opt;
	e = secure_getenv(env);
	return e && *e ? e : dflt;
}

static int read_conf(struct vps_host *h, const char *path, bool asked, struct vps_err *err)
{
	autofree char *text = NULL;
	int r = fs_read(AT_FDCWD, path, 1 << 20, &text, NULL);

	if (r == -ENOENT && !asked)
		return 0;
	if (r < 0)
		return vps_err_sys(err, r, "configuration '%s'", path);
	return conf_parse(&h->conf, text, path, err);
}

static int set_default(char **dst, const char *v)
{
	return *dst ? 0 : str_set(dst, v);
}

/* Interfaces, cgroups and the nft table of another root must not be those of the default one. */
static int default_tag(struct vps_host *h)
{
	autofree char *real = realpath(h->conf.root, NULL);
	char digest[DIGEST_LEN];
	const char *root = real ? real : h->conf.root;

	if (h->conf.tag)
		return 0;
	if (str_eq(root, DEFAULT_ROOT))
		return str_set(&h->conf.tag, "vps");
	digest_of(root, strlen(root), digest);
	h->conf.tag = str_fmt("v%.4s-", digest + strlen("sha256:"));
	return h->conf.tag ? 0 : -ENOMEM;
}

static int open_or_make(int at, const char *path, struct vps_err *err)
{
	int fd = fs_open_dir(at, path);

	if (fd == -ENOENT) {
		int r = fs_mkdir_p(at, path, 0700);
		fd = r < 0 ? r : fs_open_dir(at, path);
	}
	if (fd == -EACCES || fd == -EPERM)
		return vps_err_set(err, -fd, "'%s': permission denied; run as root", path);
	return fd < 0 ? vps_err_sys(err, fd, "directory '%s'", path) : fd;
}

/* The event log and wait stand on <run>; the rest of the tree is made at once, too, so that no
 * other file has to care whether it is there. */
static int open_trees(struct vps_host *h, struct vps_err *err)
{
	if ((h->root_fd = open_or_make(AT_FDCWD, h->conf.root, err)) < 0)
		return h->root_fd;
	if ((h->run_fd = open_or_make(AT_FDCWD, h->conf.run, err)) < 0)
		return h->run_fd;
	if ((h->instances_fd = open_or_make(h->root_fd, "instances", err)) < 0)
		return h->instances_fd;
	h->names_fd = open_or_make(h->root_fd, "names", err);
	return h->names_fd < 0 ? h->names_fd : 0;
}

static int host_setup(struct vps_host *h, const struct vps_host_opts *o, struct vps_err *err)
{
	const char *conf = pick(o->conf, "VPS_CONF", NULL);
	const char *root = pick(o->root, "VPS_ROOT", NULL);
	const char *run = pick(o->run, "VPS_RUN", NULL);
	int r = str_set(&h->conf_path, conf ? conf : DEFAULT_CONF);

	if (r == 0)
		r = read_conf(h, h->conf_path, conf != NULL, err);
	if (r < 0)
		return r;
	if (root && *root != '/')
		return vps_err_set(err, VPS_EUSAGE, "root '%s' must be an absolute path", root);
	if (run && *run != '/')
		return vps_err_set(err, VPS_EUSAGE, "run '%s' must be an absolute path", run);
	if (root)
		r = str_set(&h->conf.root, root);
	if (r == 0 && run)
		r = str_set(&h->conf.run, run);
	r = r ?: set_default(&h->conf.root, DEFAULT_ROOT);
	r = r ?: set_default(&h->conf.run, DEFAULT_RUN);
	r = r ?: set_default(&h->conf.pool4, "10.123.0.0/16");
	r = r ?: set_default(&h->conf.pool6, "fd76:7073::/64");
	r = r ?: set_default(&h->conf.disk_backend, "auto");
	r = r ?: set_default(&h->conf.lxcfs, "auto");
	if (r < 0)
		return vps_err_sys(err, r, "configuration");
	r = open_trees(h, err);
	if (r < 0)
		return r;
	h->events_path = str_fmt("%s/%s", h->conf.run, EVENTS_FILE);
	r = h->events_path ? default_tag(h) : -ENOMEM;
	h->lock_timeout_ms = o->lock_timeout_ms ? o->lock_timeout_ms : (int)h->conf.lock_timeout_ms;
	return r < 0 ? vps_err_sys(err, r, "configuration") : 0;
}

int vps_host_open(const struct vps_host_opts *opts, struct vps_host **ret, struct vps_err *err)
{
	static const struct vps_host_opts none;
	struct vps_host *h = calloc(1, sizeof(*h));
	int r;

	if (!h)
		return vps_err_sys(err, -ENOMEM, "host");
	h->root_fd = h->run_fd = h->instances_fd = h->names_fd = -1;
	conf_init(&h->conf);
	r = host_setup(h, opts ? opts : &none, err);
	if (r < 0) {
		vps_host_close(h);
		return r;
	}
	*ret = h;
	return 0;
}

struct vps_host *vps_host_close(struct vps_host *h)
{
	if (!h)
		return NULL;
	cg_host_close(h->cg);
	net_host_close(h->net);
	img_store_close(h->images);
	close_fd(&h->names_fd);
	close_fd(&h->instances_fd);
	close_fd(&h->run_fd);
	close_fd(&h->root_fd);
	conf_done(&h->conf);
	free(h->conf_path);
	free(h->events_path);
	free(h);
	return NULL;
}

const struct vps_conf *vps_host_conf(const struct vps_host *h)
{
	return &h->conf;
}
const char *vps_events_path(struct vps_host *h)
{
	return h->events_path;
}

int vps_host_images(struct vps_host *h, struct img_store **ret, struct vps_err *err)
{
	if (!h->images) {
		int r = img_store_open(h->root_fd, &h->images, err);
		if (r < 0)
			return r;
	}
	*ret = h->images;
	return 0;
}

int host_cgroups(struct vps_host *h, struct cg_host **ret, struct vps_err *err)
{
	if (!h->cg) {
		char tag[16];
		size_t n = strlen(h->conf.tag);
		/* The dash stands between tag and number in names of interfaces; here a directory
		 * does. */
		while (n > 0 && h->conf.tag[n - 1] == '-')
			n--;
		snprintf(tag, sizeof(tag), "%.*s", (int)n, h->conf.tag);
		int r = cg_host_open(tag, &h->cg, err);
		if (r < 0)
			return r;
	}
	*ret = h->cg;
	return 0;
}

static int parse_pool(const char *key, const char *s, int family, struct net_addr *ret,
		      struct vps_err *err)
{
	memset(ret, 0, sizeof(*ret));
	if (!s || !*s || str_eq(s, "none"))
		return 0;
	if (!strchr(s, '/') || net_addr_parse(s, ret) < 0 || ret->family != family)
		return vps_err_set(err, VPS_ECONF, "%s: '%.60s' is not a network", key, s);
	return 0;
}

int host_net(struct vps_host *h, struct net_host **ret, struct vps_err *err)
{
	if (!h->net) {
		autofree char *leases = str_fmt("%s/leases", h->conf.root);
		struct net_conf c = {
			.tag = h->conf.tag,
			.nat = h->conf.nat,
			.lease_dir = leases,
			.macvlan_unfiltered = h->conf.macvlan_unfiltered,
		};
		int r = leases ? 0 : vps_err_sys(err, -ENOMEM, "leases");
		r = r ?: parse_pool("pool4", h->conf.pool4, AF_INET, &c.pool4, err);
		r = r ?: parse_pool("pool6", h->conf.pool6, AF_INET6, &c.pool6, err);
		r = r ?: net_host_open(&c, &h->net, err);
		if (r < 0)
			return r;
	}
	*ret = h->net;
	return 0;
}

char *id_str(unsigned id, char buf[ID_STR])
{
	snprintf(buf, ID_STR, "%u", id);
	return buf;
}

int vps_spec_defaults(struct vps_host *h, struct vps_spec *s, struct vps_err *err)
{
	for (char **d = h->conf.defaults; d && *d; d++) {
		autofree char *key = strndup(*d, strcspn(*d, "="));
		int r = key ? spec_set(s, key, strchr(*d, '=') + 1, err)
			    : vps_err_sys(err, -ENOMEM, "defaults");
		if (r < 0)
			return r;
	}
	return 0;
}

int vps_profile_load(struct vps_host *h, const char *profile, struct vps_spec *s,
		     struct vps_err *err)
{
	const char *slash = strrchr(h->conf_path, '/');
	autofree char *path = NULL;
	autofree char *text = NULL;
	int r;

	if (strchr(profile, '/'))
		path = strdup(profile);
	else
		path = str_fmt("%.*s/profiles/%s.conf", slash ? (int)(slash - h->conf_path) : 1,
			       slash ? h->conf_path : ".", profile);
	if (!path)
		return vps_err_sys(err, -ENOMEM, "profile");
	r = fs_read(AT_FDCWD, path, 1 << 20, &text, NULL);
	if (r < 0)
		return vps_err_set(err, VPS_ECONF, "profile '%s': %s", path, vps_code_str(r));
	return profile_parse(s, text, path, err);
}
