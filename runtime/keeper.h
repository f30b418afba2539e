/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The second holder of fds that must outlive a monitor. A pty whose last master is closed hangs up
 * its terminal for good, and a pipe's reader gone kills its writer: a killed monitor would take
 * the VPS's console, or the VPS, with it. So one process a host, vps-keeper (the monitor's
 * executable under another name), holds copies, and does nothing else: it never reads from what it
 * holds.
 *
 * SOCK_SEQPACKET on <run>/keeper, uid 0 only. It starts with the first monitor and ends a few
 * seconds after the last VPS. When it dies, the monitors see their connections end, start another
 * one and give it their fds again: only monitor and keeper both killed lose a console.
 */
#ifndef VPS_RUNTIME_KEEPER_H
#define VPS_RUNTIME_KEEPER_H

#include <stdint.h>

#include "base/err.h"

#define KEEPER_FILE "keeper"
#define KEEPER_LOCK "keeper.lock"

enum keeper_slot { KEEP_CONSOLE, KEEP_IN, KEEP_OUT, KEEP_ERR, KEEP_NOTIFY, KEEP_OOM, KEEP_OOM_STAT,
		   KEEP_N };

enum keeper_op { KEEPER_PUT = 1, KEEPER_GET, KEEPER_DROP, KEEPER_END };
/* Request, with the fds for PUT; the answer to each is the same with status, and with fds for
 * GET. */
struct keeper_msg {
	uint8_t op;
	uint8_t slots; /* bit a slot: which fds come along, in ascending order */
	uint16_t pad;
	int32_t status; /* 0 or -errno */
	uint32_t id;
};

/* fd of a connection, or -errno (-ECONNREFUSED, -ENOENT: no keeper). */
int keeper_connect(int run_fd);
/* Hold these (-1: none in that slot) under id instead of what was held. Waits for the answer. */
int keeper_put(int conn, unsigned id, const int fds[KEEP_N]);
/* Copies of what is held; -ENOENT. All slots are set, -1 where nothing is. */
int keeper_get(int conn, unsigned id, int fds[KEEP_N]);
int keeper_drop(int conn, unsigned id);
/* End it now, whatever it holds, and wait until it has; -EBUSY while another connection is open. */
int keeper_end(int conn);

#endif
