/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From the kernel's hand-over to the image's init. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/inroot.h"
#include "base/sys.h"
#include "runtime/container/container.h"
#include "runtime/guest/guest.h"
#include "runtime/guestconf.h"
#include "runtime/tar.h"

#define CONFIG_MAX (16u << 20)

/* What an image's maker or initplan says of a container does not hold here; and with it set, systemd would
 * exit at power-off, which a kernel takes for a crash of its init. */
static void drop_container(char **env)
{
	char **to = env;

	for (; env && *env; env++) {
		if (str_starts(*env, "container=") || str_starts(*env, "container_uuid="))
			free(*env);
		else
			*to++ = *env;
	}
	if (to)
		*to = NULL;
}

int config_load(struct guest *g, struct vps_err *err)
{
	autofree char *text = NULL;
	size_t len;
	int r = lseek(g->config, 0, SEEK_SET) < 0 ? -errno : fs_read_fd(g->config, CONFIG_MAX, &text, &len);

	if (r < 0)
		return vps_err_sys(err, r, "read /vps/config");
	r = guest_cfg_parse(text, len, &g->cfg, err);
	if (r == 0)
		drop_container(g->cfg.env);
	return r;
}

/* As for a container: the operator's word, so a failure is one of the start. */
static int set_sysctls(char *const *sysctls, struct vps_err *err)
{
	for (; sysctls && *sysctls; sysctls++) {
		int r = fs_write_sysctl(*sysctls);

		if (r < 0)
			return vps_err_sys(err, r, "sysctl '%s'", *sysctls);
	}
	return 0;
}

static int prepare(struct guest *g, struct vps_err *err)
{
	const char *name = g->cfg.hostname;
	int r = root_make(g, err);

	if (r >= 0)
		r = links_up(&g->cfg, err);
	if (r >= 0)
		r = set_sysctls(g->cfg.sysctls, err);
	if (r >= 0 && name && sethostname(name, strlen(name)) < 0)
		r = vps_err_sys(err, -errno, "set the host name '%s'", name);
	if (r >= 0)
		r = guestconf_apply(g->root, g->cfg.files, g->cfg.n_files, err);
	if (r >= 0)
		r = root_modules(g, err);
	if (r >= 0 && g->cfg.n_files)
		host_tell("VPS_FILES=1\n"); /* once is enough for those of the first boot */
	return r;
}

/* ---- roles --------------------------------------------------------------------- */

/* The image's init takes our place. */
static int become_system(struct guest *g, struct vps_err *err)
{
	int r = g->notify >= 0 ? strv_add(&g->cfg.env, "NOTIFY_SOCKET=" NOTIFY_PATH) : 0;

	if (r < 0 || !g->cfg.argv)
		return vps_err_sys(err, r < 0 ? r : -EINVAL, "command");
	payload_signals();
	sys_close_range(3, ~0u, 0);
	execve(g->cfg.argv[0], g->cfg.argv, g->cfg.env);
	return vps_err_sys(err, -errno, "run %s", g->cfg.argv[0]);
}

/* The whole root as a stream, and off. */
static int export_root(struct guest *g, struct vps_err *err)
{
	autoclose int out = host_connect(AGENT_EXPORT_PORT);

	if (out < 0)
		return vps_err_sys(err, out, "connect to the host");

	int r = tar_pack_tree(g->root, out, err);
	char c;

	/* Closed, it would be reset after 8 s, with what the host has not taken by then (virtio_transport_common.c). */
	shutdown(out, SHUT_WR);
	while (r >= 0 && read(out, &c, 1) > 0)
		;
	return r;
}

/* The host's one session (cp into a VPS that is stopped): no init, no card, and the root as it lies there, with
 * nothing mounted in it. */
static int serve_session(struct guest *g, struct vps_err *err)
{
	autoclose int conn = host_connect(AGENT_EXPORT_PORT);

	if (conn < 0)
		return vps_err_sys(err, conn, "connect to the host");
	session_run(g, conn);
	return 0;
}

static int boot(struct guest *g, struct vps_err *err)
{
	int r = root_views(err);

	if (r >= 0)
		r = root_load_modules();
	g->config = open("/vps/config", O_RDONLY | O_CLOEXEC);
	if (r >= 0)
		r = config_load(g, err);
	if (r >= 0)
		r = prepare(g, err);
	if (r < 0)
		return r;
	if (g->cfg.role == GUEST_EXPORT || g->cfg.role == GUEST_SESSION) {
		r = g->cfg.role == GUEST_EXPORT ? export_root(g, err) : serve_session(g, err);
		if (r >= 0)
			host_tell("EXIT=0\n");
		return r;
	}
	r = root_enter(g, err);
	if (r >= 0)
		r = agent_start(g, err);
	if (r >= 0 && g->cfg.role == GUEST_SYSTEM)
		r = become_system(g, err);
	if (r >= 0)
		init_run(g);
	return r;
}

static void tell_failure(const struct vps_err *err)
{
	autofree char *lines = str_fmt("ERROR=%s\nEXIT=255\n", err->msg);

	dprintf(2, "vps-guest: %s\n", err->msg);
	if (lines)
		host_tell(lines);
}

int main(int argc, char **argv)
{
	struct guest g = {.config = -1, .self = -1, .root = -1, .disk = -1, .notify = -1};
	struct vps_err err = {0};

	if (argc == 4 && argv[0][0] == '@')
		agent_main(argv);
	if (getpid() != 1) {
		dprintf(2, "vps-guest: the first process of a VM of vps; nothing to be run by hand\n");
		return 1;
	}
	umask(022);
	g.self = open("/init", O_RDONLY | O_CLOEXEC);

	int r = boot(&g, &err);

	if (r < 0) {
		vps_err_sys(&err, r, "start the guest");
		tell_failure(&err);
	}
	root_leave(&g);
	root_power(RB_POWER_OFF);
}
