/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's own configuration files, as a plan: facts about the image (what is in it) and the
 * definition go in, a list of files comes out. Pure but for the probe. Nothing of the image is
 * executed by the host; what must run (ssh host keys) is arranged to run inside, as the tenant, at
 * its first boot.
 *
 * Addresses and routes are set by the host before init runs; the network files only keep the
 * guest's own service from taking them away, and let it bring them back.
 *
 * At every start: /etc/resolv.conf (unless systemd-resolved or resolvconf has it) and the network
 * file of whichever service is there, as long as their first line is still ours; /etc/hostname
 * when the definition names one. At the first (of a clone as well): machine-id, ssh keys of root, fresh ssh host keys
 * (made inside), the cloud-init seed, or a script given as user data.
 */
#ifndef VPS_RUNTIME_GUESTCONF_H
#define VPS_RUNTIME_GUESTCONF_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "runtime/driver.h"
#include "runtime/spec.h"

/* Which program /sbin/init leads to (or, where that is missing, that /lib/systemd/systemd is
 * there): decides what is PID 1 and which signal asks it to stop. */
enum guest_init {
	GUEST_INIT_NONE,
	GUEST_INIT_SYSTEMD, /* …/systemd: SIGRTMIN+3 */
	GUEST_INIT_BUSYBOX, /* …/busybox: SIGUSR2 */
	GUEST_INIT_OTHER,   /* sysvinit and the like: SIGPWR */
};
struct guest_facts {
	enum guest_init init;
	bool sbin_init;	  /* /sbin/init leads to a program */
	bool systemd;	  /* /lib/systemd/systemd */
	bool networkd;	  /* systemd-networkd is there and enabled, or the only one */
	bool ifupdown;	  /* /sbin/ifup */
	bool network_manager;
	bool netplan;	  /* /usr/sbin/netplan: renders networkd's files */
	bool resolved;	  /* /etc/resolv.conf leads to systemd-resolved's file */
	bool resolvconf;  /* /etc/resolv.conf leads to resolvconf's file */
	bool cloud_init;
	bool sshd, ssh_host_keys;
	bool etc_hosts, machine_id;
	bool shell;	  /* /bin/sh */
	bool rcs;	  /* /etc/rcS.d: System V init scripts */
};
/* roots: the whole root (n = 1), or its parts as overlayfs stacks them, lowest first: the layers
 * and the disk's upper. Whiteouts, opaque directories and symbolic links across the parts are
 * followed as the merged tree would show them; nothing is opened but directories. 0 or -errno. */
int guestconf_probe(const int *roots, size_t n, struct guest_facts *ret);

struct guest_input {
	const struct vps_spec *spec;
	char *const *addrs;		      /* "10.0.0.5/24", as leased */
	char *const *dns, *const *dns_search; /* the spec's, or the host's */
	bool first_boot;
	bool system;			      /* the image's own init runs */
	bool copied;	/* the disk is a copy of another VPS's: what made that one itself goes at the first boot */
};
/* First line of what is ours in files that a tenant may take over by removing it. */
#define GUEST_MARK "# vps: "

/* The plan, in the order in which it is to be applied. -ENOMEM, -VPS_EUSAGE: an address that is
 * none, user data that nothing in the image can run (neither cloud-init, nor a script and
 * systemd). */
int guestconf_plan(const struct guest_input *in, const struct guest_facts *facts,
		   struct guest_file **ret, size_t *ret_n, struct vps_err *err);
void guest_files_free(struct guest_file *f, size_t n);

/* Apply below root (as the VPS's root: uid and gid 0 of the caller are the owner's), by inroot.
 * Parents that are missing are made: 0755, and 0700 the nearest one of a file for its owner alone.
 * What already says the same is left alone. An error of an optional one is passed over. */
int guestconf_apply(int root, const struct guest_file *f, size_t n, struct vps_err *err);

#endif
