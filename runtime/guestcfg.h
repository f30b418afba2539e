/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a VM's first process is to do, as the file /vps/config of the initramfs: written by the
 * host, read by vps-guest. Records (runtime/guest/agent.h).
 */
#ifndef VPS_RUNTIME_GUESTCFG_H
#define VPS_RUNTIME_GUESTCFG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "runtime/driver.h"

/* Serial numbers of the virtio disks. */
#define GUEST_SERIAL_IMAGE "image" /* EROFS, read-only */
#define GUEST_SERIAL_DISK  "disk"  /* ext4 with upper/ and work/ */
#define GUEST_SERIAL_MODULES "modules" /* EROFS: this kernel's /lib/modules/<release>, for a root without */

/* How layers and disk are stacked, in a guest and for a container: a disk reads the same behind both walls.
 * redirect_dir: a directory of a layer can be renamed. xino: one st_dev and stable inode numbers though
 * layers and disk lie on different file systems. No index: it makes each start look through everything
 * that was ever copied up, and ties a disk to the very file system that its layers were unpacked on
 * (ESTALE on another host). */
#define ROOT_OVERLAY_OPTIONS "redirect_dir=on,metacopy=off,index=off,nfs_export=off,xino=on"

enum guest_role {
	GUEST_SYSTEM,  /* argv is the image's own init: it becomes PID 1 */
	GUEST_COMMAND, /* argv runs below our PID 1; empty: nothing does, until a signal */
	GUEST_EXPORT,  /* the root goes as a tar stream to host port AGENT_EXPORT_PORT; then power off */
	GUEST_SESSION, /* one session of the agent's (agent.h) on that port, in the root; then power off */
};
/* All owned; NULL: not said. */
struct guest_cfg {
	enum guest_role role;
	char **argv;
	char **env;	/* complete: what PID 1 or the command has, and exec starts from */
	char *user, *cwd; /* COMMAND */
	bool tty;	/* COMMAND: the console is its terminal; else it has the stdio ports */
	/* For AGENT_STOP. SIGRTMIN+3, which makes systemd halt, is sent as SIGRTMIN+4: power off. */
	int stop_signal;
	char *hostname, *uuid;
	char **sysctls; /* "net.ipv4.ip_forward=1" */
	/* eth0, as the host gives it to a container; addrs NULL: left alone but up */
	bool nic;
	char **addrs;	   /* "10.0.0.5/32" */
	char **old_addrs;  /* of AGENT_SET: those that go */
	char *gw4, *gw6;   /* default routes; on-link */
	char *gw_mac;	   /* "02:00:00:00:00:01": permanent neighbour of both gateways; NULL: none */
	uint32_t mtu;	   /* 0: the card's */
	bool modules;	   /* there is that disk */
	struct guest_file *files; /* applied to the root by guestconf_apply, in order */
	size_t n_files;
};
void guest_cfg_done(struct guest_cfg *c);
/* Append to sb. 0, -ENOMEM. */
int guest_cfg_write(const struct guest_cfg *c, struct strbuf *sb);
/* -EPROTO with words: no such record, a broken one. ret is empty then. */
int guest_cfg_parse(const char *text, size_t len, struct guest_cfg *ret, struct vps_err *err);

#endif
