/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vps-guest, a static program: process 1 of a VM's initramfs, later the agent beside the guest's
 * init, or that init itself. Between the files of runtime/guest/.
 *
 *   main.c     the way from the kernel's hand-over to the image's init
 *   root.c     modules, disks, overlay, the switch to it
 *   link.c     eth0
 *   init.c     PID 1 for a command
 *   agent.c    the agent: who connects, what init notifies, the host's word to stop
 *   session.c  one connection: requests
 *   job.c      exec, pack, unpack: a child and the bytes between it and the host
 *   stat.c     the guest's numbers and processes
 */
#ifndef VPS_RUNTIME_GUEST_GUEST_H
#define VPS_RUNTIME_GUEST_GUEST_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"
#include "runtime/guest/agent.h"
#include "runtime/guestcfg.h"

struct guest {
	struct guest_cfg cfg;
	int config; /* /vps/config, for the agent */
	int self;   /* this program, likewise */
	int root;   /* O_PATH of the stacked root */
	int disk;   /* the ext4's root, which nobody else can name any more */
	int notify; /* bound datagram socket of NOTIFY_SOCKET, or -1 */
	int *stop_signal; /* shared by the agent's sessions: what AGENT_SET said, or -1; NULL: nothing can be */
};

/* ---- main.c: g->cfg from g->config */
int config_load(struct guest *g, struct vps_err *err);

/* ---- root.c */
#define MERGED "/merged" /* the stacked root before the switch; a kernel's own initramfs has a /root */
/* proc, sys, dev of the initramfs. */
int root_views(struct vps_err *err);
int root_load_modules(void);
/* Find the disks and stack them: g->root, g->disk. */
int root_make(struct guest *g, struct vps_err *err);
/* The disk of modules at its place, when the root has none. */
int root_modules(struct guest *g, struct vps_err *err);
/* The process's root becomes g->root, with proc, sys, dev, and what PID 1 wants mounted. */
int root_enter(struct guest *g, struct vps_err *err);
/* All to the disk, as orderly as can be. */
void root_leave(struct guest *g);
/* power-off or reboot, RB_*. */
_Noreturn void root_power(int how);

/* ---- link.c */
int links_up(const struct guest_cfg *c, struct vps_err *err);
/* eth0 of a running guest gets c's addresses and gateways, and loses old_addrs. */
int links_change(const struct guest_cfg *c, struct vps_err *err);

/* ---- agent.c */
/* Bind NOTIFY_SOCKET and start the agent as a process of its own. */
int agent_start(struct guest *g, struct vps_err *err);
_Noreturn void agent_main(char **argv);
/* A stream to a port of the host's, from a port that only root can have. fd or -errno. */
int host_connect(unsigned port);
/* Lines to the host's notify port; returns when the host has them or does not want them. */
void host_tell(const char *lines);
#define NOTIFY_PATH "/run/host/notify"

/* ---- init.c */
_Noreturn void init_run(struct guest *g);

/* ---- session.c, job.c, stat.c */
void session_run(struct guest *g, int conn);
/* The disk's file system to the size of its device. 0 or -errno. */
int disk_grow(int disk);
/* The signal that the definition (or the host) means, for this guest's init. */
int stop_signal_of(const struct guest_cfg *c, int asked);
void job_exec(struct guest *g, int conn, struct agent_in *in, const char *req, size_t len);
void job_pack(struct guest *g, int conn, struct agent_in *in, const char *req, size_t len);
void job_unpack(struct guest *g, int conn, struct agent_in *in, const char *req, size_t len);
/* What a command or init becomes: user, directory, program of p; then never returns but for failure. */
struct payload;
int payload_become(struct payload *p, struct vps_err *err);
int stat_records(const struct guest *g, struct strbuf *sb);
/* For agent_procs_parse. */
int procs_records(struct strbuf *sb);

#endif
