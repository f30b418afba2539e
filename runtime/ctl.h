/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a command and a monitor say to each other: SOCK_SEQPACKET on <run>/<id>/ctl, one message a
 * packet, host byte order (both ends are one build on one machine; CTL_VERSION is checked). Only
 * uid 0 of the host's user namespace is answered (SO_PEERCRED). A client that does not read loses
 * its oldest console bytes (CTL_LOST tells), never anybody else's.
 */
#ifndef VPS_RUNTIME_CTL_H
#define VPS_RUNTIME_CTL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define CTL_VERSION  1
#define CTL_DATA_MAX 4096 /* bytes of data a message */

enum ctl_type {
	/* client -> monitor */
	CTL_ATTACH = 1, /* struct ctl_attach; answer CTL_OK or CTL_ERR, then CTL_OUT … */
	CTL_INPUT,	/* bytes; none: end of input */
	CTL_WINSIZE,	/* struct ctl_attach (rows, cols) */
	/* answer CTL_STATUS, and again at each change; CTL_EXIT; end of file when all is over */
	CTL_WATCH,
	/* the operator stops it: no restart. Answer CTL_OK. Teardown is the sender's while it is
	 * connected; when it goes without CTL_DONE, the monitor does it. In a back-off: it is
	 * cancelled and the monitor ends at once (CTL_OK, end of file). */
	CTL_STOP,
	/* the sender has torn down: the monitor removes its files and ends (end of file) */
	CTL_DONE,
	CTL_POLICY,	/* struct ctl_policy: `vps set` of a running one; CTL_OK */
	/* The sender keeps the VPS still for a copy, as <run>/<id>/frozen says. Answer CTL_OK. When it goes and the note is
	 * still there, the monitor has it thawed (`vps _thaw`). */
	CTL_STILL,
	/* monitor -> client */
	CTL_OK = 64,
	CTL_ERR,	/* struct vps_err */
	CTL_OUT,	/* bytes of the console or stdout */
	CTL_OUT2,	/* bytes of stderr (CONSOLE_PIPES) */
	CTL_LOST,	/* uint64_t: so many bytes were dropped here, the client was too slow */
	CTL_STATUS,	/* struct ctl_status */
	CTL_EXIT,	/* int32_t exit code as in struct monitor_last; the record is on disk */
};

struct ctl_head {
	uint8_t version, type;
	uint16_t len; /* bytes behind the head */
};
struct ctl_attach {
	uint16_t rows, cols; /* 0: leave */
	/* Nobody else may be attached (-VPS_ELOCKED); and with CONSOLE_PIPES nothing is dropped: a
	 * payload whose reader is slow waits, as in a shell's pipe. */
	uint8_t exclusive;
};
struct ctl_policy {
	uint32_t restart, restart_max; /* enum monitor_policy */
	uint64_t console_log_max;
};
struct ctl_status {
	uint32_t phase; /* enum monitor_phase */
	uint32_t ready;
	uint64_t oom_kills;
};

/* Client side. run_dir: <run>/<id>. fd (CLOEXEC, blocking), or -ENOENT/-ECONNREFUSED when nobody
 * listens. */
int ctl_connect(int run_dir);
/* 0 or -errno. Cut into CTL_DATA_MAX by the caller. Never raises SIGPIPE. */
int ctl_send(int fd, enum ctl_type type, const void *data, size_t len);
/* Type (>0), 0 at the end, -EPROTO for junk, -errno. buf holds CTL_DATA_MAX. timeout_ms <0:
 * forever; -ETIMEDOUT. */
int ctl_recv(int fd, void *buf, size_t *ret_len, int timeout_ms);
/* Send and wait for CTL_OK (0) or CTL_ERR (its code, in err too); other messages are skipped. */
int ctl_ask(int fd, enum ctl_type type, const void *data, size_t len, int timeout_ms,
	    struct vps_err *err);

/* For stop: CTL_STOP on a fresh connection. The fd to hold until CTL_DONE is sent, or -errno;
 * -ECONNREFUSED or -ENOENT without a monitor. */
int ctl_stop_begin(int run_dir, struct vps_err *err);
/* Wait for CTL_EXIT on that fd: 0 and the code; -ETIMEDOUT; 0 with -1 when the monitor vanished. */
int ctl_stop_wait(int fd, int timeout_ms, int *ret_exit);
/* Torn down: CTL_DONE, then wait (bounded) for the monitor's end and close. */
void ctl_stop_end(int fd);

#endif
